"""Liquidations as Qubx has them: one by one, or their sums over a window.

Lighter closes a position with an order that takes from the book, so the taker of a liquidation trade is the account that is
liquidated: a buy closes a short. The side is the order's, as in Qubx's own connectors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from qubx.core.basics import AggregatedLiquidations, DataType, Liquidation
from qubx.core.series import Trade

from qubx_lighter.handlers.base import Output, View


@dataclass(frozen=True, slots=True)
class LiquidationSumsView(View):
    """``aggregated_liquidations(timeframe)``: windows on multiples of their length since the epoch."""

    data_type: str = field(default=DataType.AGGREGATED_LIQUIDATIONS.value, init=False)
    conflates: bool = field(default=False, init=False)
    timeframe_ns: int


def liquidation_of(trade: Trade) -> Liquidation:
    """Make a liquidation of its trade."""
    return Liquidation(np.datetime64(trade.time, "ns"), trade.size, trade.price, trade.side)


class LiquidationSums:
    """Add liquidations up by windows.

    There is no clock here: a window's sums come with the first trade of the market that is later, and a window without
    liquidations has none. Their time is the window's open; a side without liquidations is 0 throughout.

    Args:
        view: whose.
        known_ns: windows that open before are left out, since not all of their liquidations are known.
    """

    def __init__(self, view: LiquidationSumsView, known_ns: int) -> None:
        self._view = view
        self.begin(known_ns)

    def begin(self, known_ns: int) -> None:
        """Leave out the windows that open before a time, and begin anew."""
        self._known_ns = known_ns
        self._open_ns = -1
        self._bought: list[Trade] = []
        self._sold: list[Trade] = []

    def see(self, time_ns: int) -> list[Output]:
        """Take note of the time of a trade of any kind; give the sums of the window that is over with it."""
        open_ns = time_ns - time_ns % self._view.timeframe_ns
        if open_ns == self._open_ns:
            return []
        sums: list[Output] = [(self._view, self._sums())] if self._bought or self._sold else []
        self._open_ns = open_ns
        self._bought, self._sold = [], []
        return sums

    def add(self, trade: Trade) -> None:
        """Count a liquidation whose time was seen."""
        if self._open_ns >= self._known_ns:
            (self._bought if trade.side > 0 else self._sold).append(trade)

    def _sums(self) -> AggregatedLiquidations:
        bought, sold = _side(self._bought), _side(self._sold)
        return AggregatedLiquidations(
            time=np.datetime64(self._open_ns, "ns"),
            avg_buy_price=bought[0],
            last_buy_price=bought[1],
            buy_amount=bought[2],
            buy_count=len(self._bought),
            buy_notional=bought[3],
            avg_sell_price=sold[0],
            last_sell_price=sold[1],
            sell_amount=sold[2],
            sell_count=len(self._sold),
            sell_notional=sold[3],
        )


def _side(trades: list[Trade]) -> tuple[float, float, float, float]:
    """Give a side's average price by size, last price, size and notional."""
    if not trades:
        return 0.0, 0.0, 0.0, 0.0
    size = sum(trade.size for trade in trades)
    notional = sum(trade.price * trade.size for trade in trades)
    return notional / size if size else 0.0, trades[-1].price, size, notional
