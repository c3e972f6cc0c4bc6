"""The channel ``trade``: what was traded, each trade once and in the order of the trade ids.

The answer to a subscribe is history, up to hours old: the first one only tells where the live trades begin. Later ones,
after a lost connection, hold what was missed meanwhile: newer rows than the last that was seen come out, once, and in
order. Liquidations ride in a list of their own and are trades as others are. The order within a frame was newest first
in 2025 and is documented as oldest first: it is not relied on.
"""

from __future__ import annotations

from operator import attrgetter
from typing import ClassVar, Final

from qubx import logger
from qubx.core.series import Trade

from qubx_lighter.handlers.base import MarketHandler, Output
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.units import time_ns

_BUY: Final = 1
_SELL: Final = -1
_OFF_BOOK: Final = frozenset({"deleverage", "market-settlement"})  # at a price that nobody offered
_BY_ID: Final = attrgetter("trade_id")


class TradesHandler(MarketHandler):
    """Read a market's trades; the watermark, the newest trade id seen, outlives connections."""

    rebuilds: ClassVar[bool] = False

    _watermark: int | None = None

    def snapshot(self, raw: bytes) -> list[Output]:
        """Take history, and of it what was missed; see the base."""
        frame = wire.decode(wire.TradeFrame, raw)
        rows = _rows(frame)
        watermark = self._watermark
        if watermark is None:
            self._watermark = max((row.trade_id for row in rows), default=0)
            self.counters["history_trades"] += len(rows)
            return []
        missed = sum(row.trade_id > watermark for row in rows)
        if missed:
            self.counters["missed_trades"] += missed
            if watermark and min(map(_BY_ID, frame.trades or rows)) > watermark:
                self.counters["trade_holes"] += 1
                logger.warning(
                    "lighter: {} traded more during a disconnection than the venue tells afterwards: trades are missing",
                    self.instrument.symbol,
                )
        return self._take(rows)

    def update(self, raw: bytes) -> list[Output]:
        """Take live trades; see the base."""
        return self._take(_rows(wire.decode(wire.TradeFrame, raw)))

    def reset(self) -> None:
        """Keep the watermark: what was traded meanwhile comes with the next snapshot."""

    def _take(self, rows: list[wire.TradeRow]) -> list[Output]:
        outputs: list[Output] = []
        watermark = self._watermark or 0
        for row in rows:
            if row.trade_id <= watermark:
                self.counters["repeated_trades"] += 1
                continue
            watermark = row.trade_id
            if row.type in _OFF_BOOK:
                self.counters["off_book_trades"] += 1
                continue
            outputs += [(view, self._trade(row)) for view in self.views]
        self._watermark = watermark
        return outputs

    def _trade(self, row: wire.TradeRow) -> Trade:
        now_ns = self._stamp(time_ns(row.transaction_time or row.timestamp))
        return Trade(now_ns, row.price, row.size, _BUY if row.is_maker_ask else _SELL, row.trade_id)


def _rows(frame: wire.TradeFrame) -> list[wire.TradeRow]:
    return sorted([*(frame.trades or []), *(frame.liquidation_trades or [])], key=_BY_ID)
