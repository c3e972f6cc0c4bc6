"""Bars: in which order they go to Qubx, and how trades add up to them.

Theory of operation. Qubx (5.0.0, ``CachedMarketDataHolder``) adds every live bar of an instrument to its series of every
timeframe. It counts the volume that a bar has more than the last one where both have the same time, else all of it, and
ignores a bar that is older than the last one. So its series are right if only bars of the finest live timeframe count, and a
coarser one goes out when it cannot: once a finer bar with a later open went before it, or when it says the very same as
the last finer bar. Until then, which is for the first of the fine bars that begin with it, its newest state waits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from qubx.core.basics import Instrument
from qubx.core.series import Bar

from qubx_lighter.handlers.base import MarketHandler, Output, View
from qubx_lighter.protocol.units import Scale

_SAME_VOLUME: Final = 1e-9  # relative: what adding the same trades up in another order leaves behind


@dataclass(frozen=True, slots=True)
class OhlcView(View):
    """``ohlc(timeframe)``: bars on multiples of their length since the epoch.

    Qubx takes bars under the whole subscription, as it was spelled; other types go under their base type.
    """

    conflates: bool = field(default=False, init=False)
    timeframe_ns: int


class BarOrder:
    """Let the bars of one instrument out in the order in which Qubx adds them up rightly; see above.

    All handlers of the instrument that make bars share one. A timeframe finer than all others that joins later without
    a warm-up counts its first candle into Qubx's coarser series again; with one, Qubx knows where that stood.
    """

    def __init__(self) -> None:
        self._followed: dict[MarketHandler, tuple[OhlcView, ...]] = {}  # replaced as a whole: read on another thread
        self._finest_ns = 0
        self._newest: dict[int, Bar] = {}  # by timeframe: the last one that went out
        self._waiting: dict[OhlcView, list[Bar]] = {}  # of each bar its newest state, oldest bar first

    def follow(self, handler: MarketHandler, views: Iterable[View]) -> None:
        """Note which bars a handler makes from now on; from any thread, one at a time."""
        bars = tuple(view for view in views if isinstance(view, OhlcView))
        followed = {other: held for other, held in self._followed.items() if other is not handler}
        self._followed = followed | ({handler: bars} if bars else {})
        self._finest_ns = min((view.timeframe_ns for held in self._followed.values() for view in held), default=0)

    def pass_on(self, outputs: Iterable[tuple[OhlcView, Bar]]) -> list[Output]:
        """Take new states of bars, each view's oldest first; give what may go out now, also of what waited."""
        finest_ns = self._finest_ns
        ready: list[Output] = []
        for view, bar in outputs:
            if view.timeframe_ns <= finest_ns:
                self._newest[view.timeframe_ns] = bar
                ready.append((view, bar))
                continue
            waiting = self._waiting.setdefault(view, [])
            if waiting and waiting[-1].time == bar.time:
                waiting[-1] = bar
            else:
                waiting.append(bar)
        return ready + self._release(finest_ns) if self._waiting else ready

    def _release(self, finest_ns: int) -> list[Output]:
        views = {view for held in self._followed.values() for view in held}
        self._waiting = {view: bars for view, bars in self._waiting.items() if view in views}
        ready: list[Output] = []
        for view, bars in list(self._waiting.items()):
            newest = self._newest.get(finest_ns)
            while bars and (view.timeframe_ns <= finest_ns or (newest is not None and _is_harmless(bars[0], newest))):
                ready.append((view, bars.pop(0)))
                self._newest[view.timeframe_ns] = ready[-1][1]
            if not bars:
                del self._waiting[view]
        return ready


class BarHandler(MarketHandler):
    """A handler that makes bars, among other things; see the base.

    Args:
        instrument: what the frames are about.
        scale: the market's grid.
        counters: counts what happened.
        order: the instrument's; without one this handler is the only one that makes bars.
    """

    def __init__(
        self, instrument: Instrument, scale: Scale, counters: Counter[str], order: BarOrder | None = None
    ) -> None:
        self._order = BarOrder() if order is None else order
        super().__init__(instrument, scale, counters)

    @property
    def views(self) -> tuple[View, ...]:
        """Give what is made of the frames; set, it tells the instrument's other handlers of bars."""
        return self._views

    @views.setter
    def views(self, views: tuple[View, ...]) -> None:
        self._views = views
        self._order.follow(self, views)


class TradeBars:
    """Add trades up to the bars of one view, exactly.

    Args:
        view: whose.
        known_ns: bars that open before are left out, since not all of their trades are known.
    """

    def __init__(self, view: OhlcView, known_ns: int) -> None:
        self._view = view
        self._closed: list[tuple[OhlcView, Bar]] = []
        self.begin(known_ns)

    def begin(self, known_ns: int) -> None:
        """Leave out the bars that open before a time, and begin anew."""
        self._known_ns = known_ns
        self._open_ns = -1
        self._changed = False

    def add(self, time_ns: int, price: float, size: float, side: int) -> None:
        """Count a trade; times never go back."""
        open_ns = time_ns - time_ns % self._view.timeframe_ns
        if open_ns < self._known_ns:
            return
        if open_ns != self._open_ns:
            if self._changed:
                self._closed.append((self._view, self._bar()))
            self._open_ns = open_ns
            self._open = self._high = self._low = price
            self._volume = self._bought = self._quote = self._bought_quote = 0.0
            self._count = 0
        self._high = max(self._high, price)
        self._low = min(self._low, price)
        self._close = price
        self._volume += size
        self._quote += price * size
        if side > 0:
            self._bought += size
            self._bought_quote += price * size
        self._count += 1
        self._changed = True

    def outputs(self) -> list[tuple[OhlcView, Bar]]:
        """Give the bars that have changed: those that closed in their final state, then the forming one."""
        closed, self._closed = self._closed, []
        if self._changed:
            self._changed = False
            closed.append((self._view, self._bar()))
        return closed

    def _bar(self) -> Bar:
        return Bar(
            self._open_ns,
            self._open,
            self._high,
            self._low,
            self._close,
            self._volume,
            bought_volume=self._bought,
            volume_quote=self._quote,
            bought_volume_quote=self._bought_quote,
            trade_count=self._count,
        )


def _is_harmless(bar: Bar, newest: Bar) -> bool:
    """Tell whether Qubx's series stay as they are when ``bar`` follows ``newest``, a finer one."""
    if bar.time != newest.time:
        return bool(bar.time < newest.time)
    prices: Sequence[str] = ("open", "high", "low", "close", "trade_count")
    volumes = ("volume", "bought_volume", "volume_quote", "bought_volume_quote")
    return all(getattr(bar, name) == getattr(newest, name) for name in prices) and all(
        math.isclose(getattr(bar, name), getattr(newest, name), rel_tol=_SAME_VOLUME) for name in volumes
    )
