"""Qubx's subscription strings: the venue's channel behind each, and what is to be seen of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qubx.core.basics import DataType
from qubx.core.exceptions import NotSupported

from qubx_lighter.handlers.base import View
from qubx_lighter.handlers.orderbook import DEFAULT_VIEW, BookView

SUPPORTED: Final = "orderbook, orderbook(tick_size_pct, depth), quote, trade"
QUOTES: Final = View(DataType.QUOTE.value, conflates=True)
TRADES: Final = View(DataType.TRADE.value, conflates=False)

_MAX_DEPTH: Final = 10_000


@dataclass(frozen=True, slots=True)
class Wish:
    """What one subscription asks of one market.

    Attributes:
        kind: the venue's channel.
        view: what is to be seen of it.
        resolution: of a channel that has one.
    """

    kind: str
    view: View
    resolution: str = ""

    def channel(self, market_id: int) -> str:
        """Name the channel of a market as the venue does: ``order_book/0``, ``candle/0/1m``."""
        return f"{self.kind}/{market_id}/{self.resolution}" if self.resolution else f"{self.kind}/{market_id}"


def parse(subscription: str) -> Wish:
    """Give what a subscription asks for.

    Raises:
        NotSupported: there is no such market data; names what there is.
    """
    try:
        base, parameters = DataType.from_str(subscription)
    except ValueError:
        base, parameters = DataType.NONE, {}
    if "timeframe" not in parameters:
        match base:
            case DataType.ORDERBOOK:
                return Wish("order_book", _book_view(subscription, parameters))
            case DataType.QUOTE:
                return Wish("ticker", QUOTES)
            case DataType.TRADE:
                return Wish("trade", TRADES)
            case _:
                pass
    raise NotSupported(f"LIGHTER: no market data {subscription!r}; there is {SUPPORTED}")


def _book_view(subscription: str, parameters: dict[str, float]) -> BookView:
    if not parameters:
        return DEFAULT_VIEW
    view = BookView(parameters["tick_size_pct"], int(parameters["depth"]))
    if not (0 <= view.tick_size_pct < 100 and 1 <= view.depth <= _MAX_DEPTH):  # noqa: PLR2004 - percent
        raise NotSupported(
            f"LIGHTER: no book {subscription!r}: tick_size_pct is 0 to 100 percent of the price, "
            f"depth 1 to {_MAX_DEPTH}"
        )
    return view
