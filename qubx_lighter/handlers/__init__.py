"""Venue frames to Qubx objects: which channel feeds which subscription, and who reads it.

Nothing here does I/O or reads a clock. A new kind of market data is a handler, a row in ``HANDLERS`` and a case in
``subscriptions.parse``.
"""

from __future__ import annotations

from typing import Final

from qubx_lighter.handlers.base import MarketHandler, Missing, Output, View
from qubx_lighter.handlers.orderbook import DEFAULT_VIEW, BookView, OrderBookHandler
from qubx_lighter.handlers.quote import QuoteHandler
from qubx_lighter.handlers.subscriptions import QUOTES, SUPPORTED, TRADES, Wish, parse
from qubx_lighter.handlers.trades import TradesHandler

__all__ = [
    "DEFAULT_VIEW",
    "HANDLERS",
    "QUOTES",
    "SUPPORTED",
    "TRADES",
    "BookView",
    "MarketHandler",
    "Missing",
    "OrderBookHandler",
    "Output",
    "QuoteHandler",
    "TradesHandler",
    "View",
    "Wish",
    "parse",
]

HANDLERS: Final[dict[str, type[MarketHandler]]] = {
    "order_book": OrderBookHandler,
    "ticker": QuoteHandler,
    "trade": TradesHandler,
}
"""Who reads each channel."""
