"""The book of one market: resting orders in price-time priority."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from qubx_lighter.sim.model.records import Order


class _Level:
    """The orders of one price, oldest first."""

    __slots__ = ("lots", "orders")

    def __init__(self) -> None:
        self.lots = 0
        self.orders: dict[int, Order] = {}


class _Side:
    """One side; ``keys`` are the prices, sorted so that the best is last, where adding and removing is cheap."""

    __slots__ = ("keys", "levels", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []
        self.levels: dict[int, _Level] = {}

    def best(self) -> int | None:
        return self.sign * self.keys[-1] if self.keys else None

    def add(self, order: Order) -> None:
        level = self.levels.get(order.price_ticks)
        if level is None:
            level = self.levels[order.price_ticks] = _Level()
            key = self.sign * order.price_ticks
            self.keys.insert(bisect_left(self.keys, key), key)
        level.orders[order.order_index] = order
        level.lots += order.remaining_lots

    def remove(self, order: Order) -> None:
        level = self.levels[order.price_ticks]
        del level.orders[order.order_index]
        level.lots -= order.remaining_lots
        if not level.orders:
            del self.levels[order.price_ticks]
            del self.keys[bisect_left(self.keys, self.sign * order.price_ticks)]


class Book:
    """Resting orders of both sides. An order is in it from ``add`` to ``remove``, with its price unchanged."""

    def __init__(self) -> None:
        self._asks = _Side(-1)
        self._bids = _Side(1)

    @property
    def best_ask_ticks(self) -> int | None:
        """The lowest ask, or None."""
        return self._asks.best()

    @property
    def best_bid_ticks(self) -> int | None:
        """The highest bid, or None."""
        return self._bids.best()

    def levels(self, is_ask: bool) -> Iterator[tuple[int, int]]:  # noqa: FBT001 - the side
        """Yield (price in ticks, size in lots) of one side, best first."""
        side = self._side(is_ask=is_ask)
        for key in reversed(side.keys):
            price = side.sign * key
            yield price, side.levels[price].lots

    def orders(self, is_ask: bool) -> Iterator[Order]:  # noqa: FBT001 - the side
        """Yield one side's orders in the order in which they would be filled."""
        side = self._side(is_ask=is_ask)
        for key in reversed(side.keys):
            yield from side.levels[side.sign * key].orders.values()

    def lots_at(self, price_ticks: int, *, is_ask: bool) -> int:
        """Give the size of one level; 0 where nothing rests."""
        level = self._side(is_ask=is_ask).levels.get(price_ticks)
        return level.lots if level else 0

    def add(self, order: Order) -> None:
        """Put an order behind those of its price."""
        self._side(is_ask=order.is_ask).add(order)

    def remove(self, order: Order) -> None:
        """Take an order out, before its price or size is changed."""
        self._side(is_ask=order.is_ask).remove(order)

    def reduce(self, order: Order, lots: int) -> None:
        """Count ``lots`` of a resting order as gone, which keeps its place; the order itself is the caller's to change."""
        self._side(is_ask=order.is_ask).levels[order.price_ticks].lots -= lots

    def first(self, *, is_ask: bool) -> Order | None:
        """Give the order of a side that is filled next."""
        side = self._side(is_ask=is_ask)
        return next(iter(side.levels[side.sign * side.keys[-1]].orders.values())) if side.keys else None

    def crosses(self, price_ticks: int, *, is_ask: bool) -> bool:
        """Tell whether an order at that price would meet one of the other side."""
        best = self._side(is_ask=not is_ask).best()
        if best is None:
            return False
        return price_ticks <= best if is_ask else price_ticks >= best

    def _side(self, *, is_ask: bool) -> _Side:
        return self._asks if is_ask else self._bids
