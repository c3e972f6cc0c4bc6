"""Venue frames to Qubx objects: which channel feeds which subscription, and who reads it.

Nothing here does I/O or reads a clock. A new kind of market data is a handler, a case in ``make_handler`` and one in
``subscriptions.parse``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from qubx.core.basics import Instrument

from qubx_lighter.handlers.bars import BarOrder, OhlcView
from qubx_lighter.handlers.base import (
    FUNDING_PAYMENTS,
    FUNDING_RATES,
    LIQUIDATIONS,
    OPEN_INTEREST,
    QUOTES,
    RESUME_NS,
    TRADES,
    MarketHandler,
    Missing,
    Output,
    View,
)
from qubx_lighter.handlers.candles import CandleHandler, bar_of
from qubx_lighter.handlers.liquidations import LiquidationSumsView
from qubx_lighter.handlers.orderbook import DEFAULT_VIEW, BookView, OrderBookHandler
from qubx_lighter.handlers.quote import QuoteHandler
from qubx_lighter.handlers.stats import StatsFrames, StatsHandler, payment_of
from qubx_lighter.handlers.subscriptions import STATS_KIND, SUPPORTED, Wish, parse
from qubx_lighter.handlers.trades import TradesHandler, trade_of
from qubx_lighter.protocol.units import Scale

__all__ = [
    "DEFAULT_VIEW",
    "FUNDING_PAYMENTS",
    "FUNDING_RATES",
    "HANDLERS",
    "LIQUIDATIONS",
    "OPEN_INTEREST",
    "QUOTES",
    "RESUME_NS",
    "STATS_KIND",
    "SUPPORTED",
    "TRADES",
    "BarOrder",
    "BookView",
    "CandleHandler",
    "LiquidationSumsView",
    "MarketContext",
    "MarketHandler",
    "Missing",
    "OhlcView",
    "OrderBookHandler",
    "Output",
    "QuoteHandler",
    "StatsFrames",
    "StatsHandler",
    "TradesHandler",
    "View",
    "Wish",
    "bar_of",
    "make_handler",
    "parse",
    "payment_of",
    "trade_of",
]

HANDLERS: Final[dict[str, type[MarketHandler]]] = {
    "order_book": OrderBookHandler,
    "ticker": QuoteHandler,
    "trade": TradesHandler,
}
"""Who reads each channel that is one market's, and needs no more than that market."""


@dataclass(frozen=True, slots=True)
class MarketContext:
    """What the handlers of one market share; one a market, for as long as any of its channels is open.

    Attributes:
        instrument: as Qubx has it.
        market_id: the venue's.
        scale: its grid.
        counters: shared by all markets.
        bars: the order in which its bars go to Qubx.
    """

    instrument: Instrument
    market_id: int
    scale: Scale
    counters: Counter[str]
    bars: BarOrder = field(default_factory=BarOrder)


def make_handler(kind: str, resolution: str, market: MarketContext) -> MarketHandler:
    """Make the handler of a channel, or of one market's share of a channel for all.

    Raises:
        KeyError: nobody reads such a channel.
    """
    match kind:
        case "candle":
            return CandleHandler(market.instrument, market.scale, market.counters, market.bars, resolution=resolution)
        case "trade":
            return TradesHandler(market.instrument, market.scale, market.counters, market.bars)
        case _ if kind == STATS_KIND:
            return StatsHandler(market.instrument, market.scale, market.counters, market.market_id)
        case _:
            return HANDLERS[kind](market.instrument, market.scale, market.counters)
