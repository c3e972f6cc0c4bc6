"""Qubx's subscription strings: the venue's channel behind each, and what is to be seen of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qubx.core.basics import DataType, Instrument
from qubx.core.exceptions import NotSupported
from qubx.utils.time import to_timedelta

from qubx_lighter.handlers.bars import OhlcView
from qubx_lighter.handlers.base import (
    FUNDING_PAYMENTS,
    FUNDING_RATES,
    LIQUIDATIONS,
    OPEN_INTEREST,
    QUOTES,
    TRADES,
    View,
)
from qubx_lighter.handlers.liquidations import LiquidationSumsView
from qubx_lighter.handlers.orderbook import DEFAULT_VIEW, BookView
from qubx_lighter.protocol.timeframes import resolution_for

SUPPORTED: Final = (
    "orderbook, orderbook(tick_size_pct, depth), quote, trade, ohlc(timeframe), funding_rate, funding_payment, "
    "open_interest, liquidation, aggregated_liquidations(timeframe)"
)

STATS_KIND: Final = "market_stats"
"""The channel that one subscription opens for all markets."""

_MAX_DEPTH: Final = 10_000
_NS_A_MS: Final = 1_000_000


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
        """Name the channel of a market as the venue does: ``order_book/0``, ``candle/0/1m``, ``market_stats/all``."""
        if self.kind == STATS_KIND:
            return f"{self.kind}/all"
        return f"{self.kind}/{market_id}/{self.resolution}" if self.resolution else f"{self.kind}/{market_id}"

    def applies_to(self, instrument: Instrument) -> bool:
        """Tell whether a market has such data: spot has no funding, open interest and liquidations."""
        derivative = self.kind == STATS_KIND or self.view == LIQUIDATIONS or isinstance(self.view, LiquidationSumsView)
        return not (derivative and instrument.is_spot())


def parse(subscription: str) -> Wish:
    """Give what a subscription asks for.

    Raises:
        NotSupported: there is no such market data; names what there is.
    """
    try:
        base, parameters = DataType.from_str(subscription)
        match base:
            case DataType.ORDERBOOK if "timeframe" not in parameters:
                return Wish("order_book", _book_view(subscription, parameters))
            case DataType.QUOTE if not parameters:
                return Wish("ticker", QUOTES)
            case DataType.TRADE:
                return Wish("trade", TRADES)
            case DataType.OHLC:
                return _bars(subscription, _timeframe_ns(subscription))
            case DataType.FUNDING_RATE:  # of all instruments, polled or not: the venue pushes those of all anyway
                return Wish(STATS_KIND, FUNDING_RATES)
            case DataType.FUNDING_PAYMENT:
                return Wish(STATS_KIND, FUNDING_PAYMENTS)
            case DataType.OPEN_INTEREST:
                return Wish(STATS_KIND, OPEN_INTEREST)
            case DataType.LIQUIDATION:
                return Wish("trade", LIQUIDATIONS)
            case DataType.AGGREGATED_LIQUIDATIONS:
                return Wish("trade", LiquidationSumsView(_timeframe_ns(subscription)))
            case _:
                pass
    except ValueError:
        pass
    raise NotSupported(f"LIGHTER: no market data {subscription!r}; there is {SUPPORTED}")


def _bars(subscription: str, timeframe_ns: int) -> Wish:
    """Choose the coarsest candles that add up to the timeframe, else trades."""
    view = OhlcView(subscription, timeframe_ns)
    resolution = resolution_for(timeframe_ns // _NS_A_MS)
    return Wish("trade", view) if resolution is None else Wish("candle", view, resolution)


def _timeframe_ns(subscription: str) -> int:
    """Read the timeframe of a subscription.

    Raises:
        ValueError: there is none, it is not positive, or finer than the milliseconds that Qubx can spell.
    """
    timeframe_ns = int(to_timedelta(subscription.partition("(")[2].rstrip(")")).value)
    if timeframe_ns <= 0 or timeframe_ns % _NS_A_MS:
        raise ValueError(f"not a timeframe: {subscription}")
    return timeframe_ns


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
