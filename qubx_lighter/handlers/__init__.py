"""Venue frames to Qubx objects: which channel feeds which subscription, and who reads it.

Nothing here does I/O or reads a clock. A new kind of market data is a handler and a row in each of the two tables.
"""

from __future__ import annotations

from typing import Final

from qubx.core.basics import DataType

from qubx_lighter.handlers.base import WHOLE, MarketHandler, Output, ViewKey
from qubx_lighter.handlers.orderbook import DEFAULT_VIEW, BookView, OrderBookHandler
from qubx_lighter.handlers.quote import QuoteHandler
from qubx_lighter.handlers.trades import TradesHandler

__all__ = [
    "CHANNELS",
    "DEFAULT_VIEW",
    "HANDLERS",
    "WHOLE",
    "BookView",
    "MarketHandler",
    "OrderBookHandler",
    "Output",
    "QuoteHandler",
    "TradesHandler",
    "ViewKey",
]

CHANNELS: Final[dict[DataType, str]] = {
    DataType.ORDERBOOK: "order_book",
    DataType.QUOTE: "ticker",
    DataType.TRADE: "trade",
}
"""The venue's channel behind each type of subscription."""

HANDLERS: Final[dict[str, type[MarketHandler]]] = {
    "order_book": OrderBookHandler,
    "ticker": QuoteHandler,
    "trade": TradesHandler,
}
"""Who reads each channel."""
