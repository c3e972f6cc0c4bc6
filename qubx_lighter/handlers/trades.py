"""The channel ``trade``: what was traded, each trade once and in the order of the trade ids.

The answer to a subscribe is history, up to hours old: the first one only tells where the live trades begin. Later ones,
after a lost connection, hold what was missed meanwhile, as far as they reach back; where they do not, the rest is fetched and
newer trades wait for it. Liquidations ride in a list of their own and are trades as others are: of each list an answer has the
newest 50, so it is whole from where the one that reaches back least begins. The order within a frame was newest first in 2025
and is documented as oldest first: it is not relied on.

Trades also add up to what the venue has no channel for: bars that its candles do not divide, liquidations and their sums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from typing import ClassVar, Final

from qubx import logger
from qubx.core.basics import Instrument
from qubx.core.series import Bar, Trade

from qubx_lighter.handlers.bars import BarHandler, BarOrder, OhlcView, TradeBars
from qubx_lighter.handlers.base import LIQUIDATIONS, TRADES, Missing, Output, View
from qubx_lighter.handlers.liquidations import LiquidationSums, LiquidationSumsView, liquidation_of
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.units import Scale, time_ns

_BUY: Final = 1
_SELL: Final = -1
_LIQUIDATION: Final = "liquidation"
_OFF_BOOK: Final = frozenset({"deleverage", "market-settlement"})  # at a price that nobody offered
_BY_ID: Final = attrgetter("trade_id")
_SNAPSHOT_ROWS: Final = 50  # of each list, in all that was captured
_MAX_HELD: Final = 20_000  # trades that wait for those before them: minutes of a busy market


def trade_of(row: wire.PublicTrade) -> Trade:
    """Make a trade with its taker's side, and its time of execution in ns."""
    return Trade(_executed_ns(row), row.price, row.size, _BUY if row.is_maker_ask else _SELL, row.trade_id)


class TradesHandler(BarHandler):
    """Read a market's trades; the watermark, the newest trade id seen, outlives connections."""

    rebuilds: ClassVar[bool] = False
    rests: ClassVar[bool] = True

    def __init__(
        self, instrument: Instrument, scale: Scale, counters: Counter[str], order: BarOrder | None = None
    ) -> None:
        self._watermark: int | None = None
        self._held: list[wire.PublicTrade] = []  # while trades are missing: those after them
        self._bars: dict[View, TradeBars] = {}
        self._sums: dict[View, LiquidationSums] = {}
        self._made_for: tuple[View, ...] = ()
        self._trades = self._liquidations = False
        super().__init__(instrument, scale, counters, order)

    def snapshot(self, raw: bytes) -> list[Output]:
        """Take history, and of it what was missed; see the base."""
        frame = wire.decode(wire.TradeFrame, raw)
        rows = _rows(frame)
        if self._watermark is None:
            return self._begin(frame, rows)
        newest = self._held[-1].trade_id if self._held else self._watermark
        missed = [row for row in rows if row.trade_id > newest]
        self.counters["missed_trades"] += len(missed)
        if missed and (newest or _is_full(frame)):  # else these are the first trades of the market
            first = max(min(map(_BY_ID, part)) for part in _parts(frame))
            if first > newest:
                self.missing = Missing("trades", self._watermark, until=first)
        return self._hold(missed) if self.missing is not None else self._take(missed)

    def update(self, raw: bytes) -> list[Output]:
        """Take live trades; see the base."""
        rows = _rows(wire.decode(wire.TradeFrame, raw))
        return self._take(rows) if self.missing is None else self._hold(rows)

    def reset(self) -> None:
        """Keep the watermark: what was traded meanwhile comes with the next snapshot, or is fetched."""

    def is_behind(self, rows: Sequence[wire.PublicTrade]) -> bool:
        """Tell whether history lacks the trade from which on all are known, and with it some before. See the base."""
        missing = self.missing
        return missing is not None and all(row.trade_id < missing.until for row in rows)

    def recover(self, rows: Sequence[wire.PublicTrade] | None) -> list[Output]:
        """Take the trades that were missing; see the base."""
        missing, self.missing = self.missing, None
        if missing is None:
            return []
        held, self._held = self._held, []
        if rows is None:
            self._give_up(next(row for row in held if row.trade_id >= missing.until))
            return self._take(held)
        known = {row.trade_id: row for row in held}
        found = {row.trade_id: row for row in rows if row.trade_id > missing.after and row.trade_id not in known}
        self.counters["missed_trades"] += sum(trade_id < missing.until for trade_id in found)
        return self._take(sorted((known | found).values(), key=_BY_ID))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _begin(self, frame: wire.TradeFrame, rows: list[wire.PublicTrade]) -> list[Output]:
        """Take the first history: nothing of it is live, but bars and sums begin with it."""
        self._watermark = max(map(_BY_ID, rows), default=0)
        self.counters["history_trades"] += len(rows)
        self._meet_views()
        for makers, parts in ((self._bars, _parts(frame)), (self._sums, [frame.liquidation_trades or []])):
            oldest_ns = max((min(map(_executed_ns, part)) for part in parts if part), default=0)
            for maker in makers.values():
                maker.begin(oldest_ns + 1 if oldest_ns else 0)
        on_book = [row for row in rows if row.type not in _OFF_BOOK]
        for row in on_book:
            self._add(self._trade(row), is_liquidation=row.type == _LIQUIDATION)
        return self._order.pass_on([bars[-1] for maker in self._bars.values() if (bars := maker.outputs())])

    def _take(self, rows: list[wire.PublicTrade]) -> list[Output]:
        if self.views is not self._made_for:
            self._meet_views()
        outputs: list[Output] = []
        adds = bool(self._bars or self._sums)
        watermark = self._watermark or 0
        for row in rows:
            if row.trade_id <= watermark:
                self.counters["repeated_trades"] += 1
                continue
            watermark = row.trade_id
            kind = row.type
            if kind in _OFF_BOOK:
                self.counters["off_book_trades"] += 1
                continue
            trade = self._trade(row)
            if self._trades:
                outputs.append((TRADES, trade))
            if self._liquidations and kind == _LIQUIDATION:
                outputs.append((LIQUIDATIONS, liquidation_of(trade)))
            if adds:
                outputs += self._add(trade, is_liquidation=kind == _LIQUIDATION)
        self._watermark = watermark
        if self._bars:
            outputs += self._order.pass_on(self._changed_bars())
        return outputs

    def _trade(self, row: wire.PublicTrade) -> Trade:
        self._time_ns = now_ns = max(self._time_ns, _executed_ns(row))
        return Trade(now_ns, row.price, row.size, _BUY if row.is_maker_ask else _SELL, row.trade_id)

    def _add(self, trade: Trade, *, is_liquidation: bool) -> list[Output]:
        """Add a trade to bars and sums; give the sums of windows that are over with it."""
        over: list[Output] = []
        for bars in self._bars.values():
            bars.add(trade.time, trade.price, trade.size, trade.side)
        for sums in self._sums.values():
            over += sums.see(trade.time)
            if is_liquidation:
                sums.add(trade)
        return over

    def _changed_bars(self) -> list[tuple[OhlcView, Bar]]:
        return [output for bars in self._bars.values() for output in bars.outputs()]

    def _meet_views(self) -> None:
        """Make what the views of now need; what joins begins with the first bar or window after the newest trade."""
        self._made_for = views = self.views
        known_ns = self._time_ns + 1
        self._trades, self._liquidations = TRADES in views, LIQUIDATIONS in views
        self._bars = {v: self._bars.get(v) or TradeBars(v, known_ns) for v in views if isinstance(v, OhlcView)}
        self._sums = {
            v: self._sums.get(v) or LiquidationSums(v, known_ns) for v in views if isinstance(v, LiquidationSumsView)
        }

    def _hold(self, rows: list[wire.PublicTrade]) -> list[Output]:
        """Keep trades back until those before them are there, or too many wait."""
        newest = self._held[-1].trade_id if self._held else self._watermark or 0
        self._held += [row for row in rows if row.trade_id > newest]
        return self.recover(None) if len(self._held) > _MAX_HELD else []

    def _give_up(self, known_again: wire.PublicTrade) -> None:
        """Count trades that nobody tells; bars and sums that miss some, since they began before, are left out."""
        self.counters["trade_holes"] += 1
        logger.warning("lighter: {}: trades of a disconnection are missing", self.instrument.symbol)
        known_ns = max(self._time_ns, _executed_ns(known_again)) + 1
        for makers in (self._bars, self._sums):
            for maker in makers.values():
                maker.begin(known_ns)


def _executed_ns(row: wire.PublicTrade) -> int:
    return time_ns(row.transaction_time or row.timestamp)


def _parts(frame: wire.TradeFrame) -> list[list[wire.PublicTrade]]:
    return [part for part in (frame.trades, frame.liquidation_trades) if part]


def _is_full(frame: wire.TradeFrame) -> bool:
    """Tell whether an answer to a subscribe may have left older trades out."""
    return any(len(part) >= _SNAPSHOT_ROWS for part in _parts(frame))


def _rows(frame: wire.TradeFrame) -> list[wire.PublicTrade]:
    rows = frame.trades or []
    if frame.liquidation_trades:
        rows = rows + frame.liquidation_trades
    if len(rows) > 1:
        rows.sort(key=_BY_ID)
    return rows
