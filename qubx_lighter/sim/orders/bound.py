"""How far into the other side of the book an order may go.

A limit order goes as far as its limit. The price of a market order, and of what a stop or a TWAP makes of itself, bounds the
*average*: what was paid better than the bound may be spent beyond it (the venue's own circuit, ``matching_engine``, keeps this
as a slippage accumulator; the SDK calls the field ``avg_execution_price``).
"""

from __future__ import annotations

from typing import Final

from qubx_lighter.constants import MAX_BASE_LOTS, OrderType
from qubx_lighter.sim.model.records import TWAP_SUB, Order

AVERAGED: Final = frozenset((OrderType.MARKET, OrderType.STOP_LOSS, OrderType.TAKE_PROFIT, TWAP_SUB))


class Bound:
    """The bound of one order on its way through the book."""

    def __init__(self, order: Order) -> None:
        self._price_ticks = order.price_ticks
        self._sign = -1 if order.is_ask else 1
        self._is_average = order.order_type in AVERAGED
        self._saved = 0  # ticks times lots

    def lots_at(self, price_ticks: int) -> int:
        """Give how much may be traded at a price, whatever the order's size."""
        worse = self._sign * (price_ticks - self._price_ticks)
        if worse <= 0:
            return MAX_BASE_LOTS
        return self._saved // worse if self._is_average else 0

    def book(self, price_ticks: int, lots: int) -> None:
        """Take note of a trade."""
        self._saved += self._sign * (self._price_ticks - price_ticks) * lots
