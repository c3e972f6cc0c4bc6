"""The orders that have not ended: kept, found and counted while they rest or wait, and how they leave."""

from __future__ import annotations

import heapq
from typing import Final

from qubx_lighter.constants import Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.accounts import ledger, spot
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.model.records import OPEN, Order, TriggerStatus
from qubx_lighter.sim.orders import endings
from qubx_lighter.sim.orders.state import VenueState

_SPARE_EXPIRIES: Final = 1024
_TIED: Final = (TriggerStatus.NA, TriggerStatus.MARK_PRICE)  # to the position; a TWAP ends with its next slice


class OpenOrders:
    """The open orders of all accounts.

    Args:
        state: the venue's.

    Attributes:
        ended_parents: orders with children that have ended; ``Pending.settle`` takes them.
    """

    def __init__(self, state: VenueState) -> None:
        self.ended_parents: list[Order] = []
        self._state = state
        self._expiries: list[tuple[int, int, int]] = []  # heap of (ms, order index, account index); may be outdated

    # --- finding -----------------------------------------------------------------------------------------------------

    def find(self, account_index: int, market_id: int, index: int) -> Order:
        """Find an open order by client order index or order index.

        The venue has two codes for one that is not there and documents no difference; here they are 21715 for an order
        that is over, and 21600 for one that the account never had (or had long ago).

        Raises:
            VenueError: 21100, 21600, 21602 or 21715.
        """
        account = self._state.account(account_index)
        self._state.market(market_id)
        order = account.orders.get(index) or account.by_client_index.get(index)
        if order is not None and order.market_id == market_id:
            return order
        for ended in reversed(account.inactive):
            if index and index in (ended.order_index, ended.client_order_index) and ended.market_id == market_id:
                raise VenueError(Code.NOT_ACTIVE_ORDER, "order is not active")
        raise VenueError(Code.NOT_ACTIVE_LIMIT_ORDER, "not an active limit order")

    def children(self, parent: Order) -> list[Order]:
        """List what waits for an order."""
        orders = self._state.accounts[parent.account_index].orders
        return [orders[index] for index in parent.to_trigger if index in orders]

    # --- coming ------------------------------------------------------------------------------------------------------

    def let_rest(self, order: Order) -> None:
        """Put an order into the book."""
        account, market = self._state.accounts[order.account_index], self._state.markets[order.market_id]
        market.book.add(order)
        self._count(account, market, order, order.remaining_lots)
        self._state.change_level(order)
        self.keep(order)

    def keep(self, order: Order) -> None:
        """Count an order among the open ones."""
        account = self._state.accounts[order.account_index]
        account.orders[order.order_index] = order
        if order.client_order_index:
            account.by_client_index[order.client_order_index] = order
        heapq.heappush(self._expiries, (order.order_expiry_ms, order.order_index, order.account_index))
        every = self._state.accounts.values()
        if len(self._expiries) > _SPARE_EXPIRIES + 2 * sum(len(each.orders) for each in every):
            self._rebuild_expiries()

    def _rebuild_expiries(self) -> None:
        """Forget the expiries of orders that ended before."""
        orders = (order for account in self._state.accounts.values() for order in account.orders.values())
        self._expiries = [(order.order_expiry_ms, order.order_index, order.account_index) for order in orders]
        heapq.heapify(self._expiries)

    def _count(self, account: Account, market: Market, order: Order, lots: int) -> None:
        """Count lots that rest, or (negative) no longer do, as what margin and balances must suffice for."""
        if market.spec.is_spot:
            spot.count_open(account, market, order, lots)
            self._state.change_balances(account.account_index)
            return
        if order.reduce_only:
            return
        row = account.open_position(market)
        if order.is_ask:
            row.open_ask_lots += lots
        else:
            row.open_bid_lots += lots

    # --- shrinking and leaving ---------------------------------------------------------------------------------------

    def reduce(self, order: Order, lots: int) -> None:
        """Let less of an order rest; its own figures are the caller's to change, afterwards."""
        account, market = self._state.accounts[order.account_index], self._state.markets[order.market_id]
        market.book.reduce(order, lots)
        self._count(account, market, order, -lots)

    def leave(self, order: Order) -> None:
        """Take an order out of the book, or from among those that wait."""
        account, market = self._state.accounts[order.account_index], self._state.markets[order.market_id]
        del account.orders[order.order_index]
        account.by_client_index.pop(order.client_order_index, None)
        if order.status == OPEN:
            market.book.remove(order)
            self._count(account, market, order, -order.remaining_lots)
            self._state.change_level(order)

    def finish(self, order: Order, status: str) -> None:
        """End an order."""
        account = self._state.accounts[order.account_index]
        if order.order_index in account.orders:
            self.leave(order)
        order.status, order.trigger_status = status, TriggerStatus.NA
        account.inactive.append(order)
        self._state.change_order(order)
        if order.to_trigger:
            self.ended_parents.append(order)

    def cancel(self, order: Order) -> None:
        """End an order, and what waits for it."""
        self._end_with_children(order, endings.CANCELED)

    def _end_with_children(self, order: Order, status: str) -> None:
        for child in self.children(order):
            self.finish(child, endings.CHILD)
        self.finish(order, status)

    def cancel_all(self, account: Account, market_id: int | None = None) -> None:
        """End all orders of an account, or those of one market, the newest first."""
        for order in list(account.orders.values())[::-1]:
            if market_id is None or order.market_id == market_id:
                self.finish(order, endings.CANCELED)

    def end_all_of(self, market: Market) -> None:
        """End every open order of a market."""
        for account in self._state.accounts.values():
            self.cancel_all(account, market.spec.market_id)

    def end(self, order_index: int, status: str) -> None:
        """End an open order with any status."""
        for account in self._state.accounts.values():
            if (order := account.orders.get(order_index)) is not None:
                self.finish(order, status)
                return

    def end_reduce_only(self, account: Account, market: Market) -> None:
        """End the orders that have nothing to reduce any more, those too that wait for the mark price."""
        for order in list(account.orders.values()):
            mine = order.reduce_only and order.market_id == market.spec.market_id
            if mine and order.trigger_status in _TIED and not ledger.reducible_lots(account, order):
                self.finish(order, endings.REDUCE_ONLY)

    # --- time --------------------------------------------------------------------------------------------------------

    def next_expiry(self) -> int | None:
        """Give the time at which the next order may expire, µs."""
        return self._expiries[0][0] * 1000 if self._expiries else None

    def expire(self) -> None:
        """End the orders whose time is over."""
        while self._expiries and self._expiries[0][0] * 1000 <= self._state.now:
            _, order_index, account_index = heapq.heappop(self._expiries)
            order = self._state.accounts[account_index].orders.get(order_index)
            if order is not None:
                self._end_with_children(order, endings.EXPIRED)
