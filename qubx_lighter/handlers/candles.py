"""The channel ``candle``: the forming candle of one resolution, and bars of any timeframe that it divides.

A candle is cumulative, so a lost frame costs nothing while the candle forms. When the next one begins the venue sends both,
the closed one first; while nothing is traded it sends nothing, and no bars are made up. So the only way to lose something is
a candle that closes while the channel is away, with its connection or, renewed, without: then the closed ones, from the one
that was forming, are fetched, and bars wait until they are there. A bar of several candles that began before its view is
completed likewise.

A candle without trades repeats the last price. Some are answers to a subscribe, and history has them: they are no part of a
bar, and shown only by a view that has nothing else to show yet, since Qubx waits for a first bar.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import ClassVar, Final

from qubx import logger
from qubx.core.basics import Instrument
from qubx.core.series import Bar

from qubx_lighter.handlers.bars import BarHandler, BarOrder, OhlcView
from qubx_lighter.handlers.base import Missing, Output, View
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.timeframes import bar_open, extend
from qubx_lighter.protocol.units import Scale

_NS_A_MS: Final = 1_000_000
_BY_TIME: Final = attrgetter("t")


def bar_of(row: wire.CandleRow) -> Bar:
    """Make a bar of a candle. The venue does not tell bought volumes and the number of trades: they are 0."""
    return Bar(row.t * _NS_A_MS, row.o, row.h, row.l, row.c, row.v, volume_quote=row.V)


class CandleHandler(BarHandler):
    """Read a market's candles of one resolution; its views are the timeframes that it divides."""

    rests: ClassVar[bool] = True

    def __init__(
        self,
        instrument: Instrument,
        scale: Scale,
        counters: Counter[str],
        order: BarOrder | None = None,
        *,
        resolution: str,
    ) -> None:
        self._resolution = resolution
        self._newest: wire.CandleRow | None = None
        self._makers: dict[View, _Maker] = {}
        self._made_for: tuple[View, ...] = ()
        self._interrupted = False
        self._cut: list[wire.CandleRow] = []  # the candles that were forming when something went missing, as known
        self._held: list[wire.CandleRow] = []  # while something is missing: those that came since, the forming one last
        super().__init__(instrument, scale, counters, order)

    def snapshot(self, raw: bytes) -> list[Output]:
        """Read the candle that is forming: whether it directly follows the newest, nobody says. See the base."""
        self._interrupted = self._newest is not None
        return self._take(wire.decode(wire.CandleFrame, raw))

    def update(self, raw: bytes) -> list[Output]:
        """Read its next state, or its last one and its successor; see the base."""
        return self._take(wire.decode(wire.CandleFrame, raw))

    def reset(self) -> None:
        """Take note that candles may be missed from here on."""
        self._interrupted = True

    def unsay(self) -> None:
        """Have a candle without trades shown once more where there is no other; see the base."""
        for maker in self._makers.values():
            maker.shown = False

    def is_behind(self, rows: Sequence[wire.CandleRow]) -> bool:
        """Tell whether history lacks the first candle that is known again: those before may be short of trades. See the base."""
        missing, held = self.missing, self._held
        if missing is None or not held:
            return False
        return not any(row.t >= missing.until and (row.v or not held[0].v) for row in rows)

    def recover(self, rows: Sequence[wire.CandleRow] | None) -> list[Output]:
        """Take the candles that were missing, those that only repeat a price too; see the base."""
        missing = self.missing
        if missing is None:
            return []
        past = {row.t: row for row in self._cut}
        for row in rows or []:
            if missing.after <= row.t < missing.until and (row.t not in past or row.v >= past[row.t].v):
                past[row.t] = row
        if rows is None:
            self.counters["candle_holes"] += 1
            logger.warning("lighter: {}: bars with missing candles are left out", self.instrument.symbol)
        known = [past[open_ms] for open_ms in sorted(past)]
        outputs = _Outputs()
        for maker in self._makers.values():
            if maker.lacks_from is not None:
                maker.catch_up(known, self._held, outputs, whole=rows is not None)
        self._ask(until=missing.until)
        return self._order.pass_on(outputs)

    def current(self, views: Iterable[View]) -> list[Output]:
        """Show the forming bars of views that join, where all of their candles are known; see the base."""
        if self._newest is None:
            return []
        self._meet_views(self._newest)
        outputs = _Outputs()
        for view in views:
            if view in self._makers:
                self._makers[view].show(self._newest, outputs)
        return self._order.pass_on(outputs)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _take(self, frame: wire.CandleFrame) -> list[Output]:
        rows = frame.candles or []
        if len(rows) > 1:
            rows = sorted(rows, key=_BY_TIME)
        outputs = _Outputs()
        for row in rows:
            newest = self._newest
            if newest is not None and (row.t < newest.t or (row.t == newest.t and row.v < newest.v)):
                self.counters["stale_candles"] += 1
                continue
            self._advance(row)
            for maker in self._makers.values():
                if row.v or not maker.shown:
                    maker.show(row, outputs)
        return self._order.pass_on(outputs)

    def _advance(self, row: wire.CandleRow) -> None:
        """Make ``row`` the newest candle."""
        newest, self._newest = self._newest, row
        interrupted, self._interrupted = self._interrupted, False
        if newest is not None and row.t > newest.t:
            if interrupted:
                self._lack(newest, until=row.t)
            else:
                for maker in self._makers.values():
                    maker.close(newest)
        if self.missing is not None:
            if self._held and self._held[-1].t == row.t:
                self._held[-1] = row
            else:
                self._held.append(row)
        if self.views is not self._made_for:
            self._meet_views(row)

    def _lack(self, cut: wire.CandleRow, until: int) -> None:
        """Have all candles fetched from one that was forming up to the first that is known again."""
        for maker in self._makers.values():
            maker.lacks_from = cut.t if maker.lacks_from is None else maker.lacks_from
        if self._makers:
            self._cut.append(cut)
        self._held = []
        self._ask(until)

    def _meet_views(self, row: wire.CandleRow) -> None:
        """Make bars for the views that there are now; one whose bar began before ``row`` lacks its beginning."""
        self._made_for = views = self.views
        known = self._makers
        self._makers = {view: known.get(view) or _Maker(view) for view in views if isinstance(view, OhlcView)}
        for view, maker in self._makers.items():
            opened = bar_open(row.t, maker.length_ms)
            if view not in known and opened < row.t:
                maker.lacks_from = opened
        self._ask(until=row.t if self.missing is None else self.missing.until)
        if self.missing is not None and not self._held:
            self._held = [row]

    def _ask(self, until: int) -> None:
        """Ask for what the views lack; an answer to another question than the newest is not taken."""
        lacks = [maker.lacks_from for maker in self._makers.values() if maker.lacks_from is not None]
        self.missing = Missing("candles", min(lacks), self._resolution, until) if lacks else None
        if self.missing is None:
            self._cut = []
            self._held = []


class _Outputs:
    """The outputs of one frame: of each bar one state, the newest."""

    def __init__(self) -> None:
        self._bars: dict[OhlcView, list[Bar]] = {}

    def put(self, view: OhlcView, bar: Bar) -> None:
        """Add a state of a bar; each view's bars come oldest first."""
        bars = self._bars.setdefault(view, [])
        if bars and bars[-1].time == bar.time:
            bars[-1] = bar
        else:
            bars.append(bar)

    def __iter__(self) -> Iterator[tuple[OhlcView, Bar]]:
        return ((view, bar) for view, bars in self._bars.items() for bar in bars)


class _Maker:
    """Add candles up to the bars of one view.

    Attributes:
        length_ms: of the bars.
        lacks_from: the open of the first candle that is unknown and needed, ms; until it is known nothing comes out.
        shown: whether anything came out yet.
    """

    def __init__(self, view: OhlcView) -> None:
        self.length_ms = view.timeframe_ns // _NS_A_MS
        self.lacks_from: int | None = None
        self.shown = False
        self._view = view
        self._begins_ms = 0  # bars that open before are left out
        self._closed: wire.CandleRow | None = None  # the closed candles of the bar that is open

    def close(self, row: wire.CandleRow) -> None:
        """Count a candle that is over, once all before it are known."""
        if self.lacks_from is not None or not row.v:
            return
        opened = bar_open(row.t, self.length_ms)
        if self._closed is not None and self._closed.t == opened:
            extend(self._closed, row)
        else:
            self._closed = _copy(row, opened)

    def show(self, row: wire.CandleRow, outputs: _Outputs) -> None:
        """Put out the bar that the forming candle belongs to, if all of it is known."""
        if self.lacks_from is not None or row.t < self._begins_ms:
            return
        self.shown = True
        opened = bar_open(row.t, self.length_ms)
        total = row
        if self._closed is not None and self._closed.t == opened:
            total = _copy(self._closed, opened)
            if row.v:
                extend(total, row)
        elif row.t != opened:
            total = _copy(row, opened)
        outputs.put(self._view, bar_of(total))

    def catch_up(
        self, past: Sequence[wire.CandleRow], held: Sequence[wire.CandleRow], outputs: _Outputs, *, whole: bool
    ) -> None:
        """Take what was lacked, and what came meanwhile. Without the whole past, the bar that lacks it is left out."""
        since, self.lacks_from = self.lacks_from, None
        assert since is not None, "nothing is lacked"
        if not whole:
            since = bar_open(held[0].t + self.length_ms - 1, self.length_ms)
            self._begins_ms = since
            self._closed = None
        before: wire.CandleRow | None = None
        for row in (*past, *held):
            if row.t < since:
                continue
            if before is not None:
                self.close(before)
            before = row
            if row.v or not self.shown:
                self.show(row, outputs)


def _copy(row: wire.CandleRow, opened: int) -> wire.CandleRow:
    return wire.CandleRow(opened, row.o, row.h, row.l, row.c, row.v, row.V, row.i)
