"""The only way of market data onto Qubx's channel, which never refuses and never drops.

A strategy that cannot keep up would be shown an ever older market. So beyond a backlog books, quotes and figures conflate:
the newest of each view waits until Qubx has caught up. Trades and payments are never left out.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Sized
from typing import Any, Final

from qubx import logger
from qubx.core.basics import CtrlChannel, Instrument

from qubx_lighter.handlers import MarketHandler, Output

_BACKLOG_LIMIT: Final = 5_000  # items: some seconds of work for a strategy
_DRAIN_INTERVAL_S: Final = 0.02
_WARN_NS: Final = 60_000_000_000  # a strategy that is too slow for good is told of once a minute
_SAMPLE: Final = 8  # one object in so many is timed: reading a clock costs as much as half a handler
_SAMPLES: Final = 2_048

Item = tuple[Instrument, str, Any, bool]
"""As Qubx's channel takes it: instrument, data type, data, whether it is history."""


class LagMeter:
    """Keep how old the newest objects were when they were delivered; written on the loop, read from anywhere."""

    def __init__(self) -> None:
        self._lags_ns: deque[int] = deque(maxlen=_SAMPLES)

    def note(self, lag_ns: int) -> None:
        """Take one."""
        self._lags_ns.append(lag_ns)

    def percentiles_ms(self) -> tuple[float, float]:
        """Give p50 and p99 of the last samples, ms; zeros before the first."""
        lags = sorted(self._lags_ns.copy())
        if not lags:
            return 0.0, 0.0
        return lags[len(lags) // 2] / 1e6, lags[min(len(lags) - 1, len(lags) * 99 // 100)] / 1e6


class Delivery:
    """Put objects on Qubx's channel; runs on the loop.

    Args:
        channel: Qubx's.
        counters: counts what conflated.
        clock_ns: the wall clock, ns, against which the lag of live data is measured.
        limit: items that may wait for Qubx before views conflate; they go on when half of them are left.

    Attributes:
        lag: how old the newest objects were when they were delivered.
        published: objects, by data type; a plain dict, in which counting takes a third of what it takes in a ``Counter``.
    """

    def __init__(
        self,
        channel: CtrlChannel,
        counters: Counter[str],
        *,
        clock_ns: Callable[[], int],
        limit: int = _BACKLOG_LIMIT,
    ) -> None:
        self.lag = LagMeter()
        self.published: dict[str, int] = {}
        self._put: Callable[[Item], None] = channel.send
        self._waiting = _waiting_in(channel)
        self._counters = counters
        self._clock_ns = clock_ns
        self._limit = limit
        self._held: dict[Hashable, Item] = {}
        self._conflating = False
        self._warned_ns: int | None = None
        self._until_sample = _SAMPLE

    def publish(self, handler: MarketHandler, outputs: Iterable[Output]) -> None:
        """Send the outputs of one frame, or keep them back while Qubx lags; the hot path."""
        instrument = handler.instrument
        for view, data in outputs:
            item = (instrument, view.data_type, data, False)
            if view.conflates and (self._conflating or len(self._waiting) > self._limit):
                self._hold((handler, view), item)
            else:
                self._send(item)

    def forget(self, handler: MarketHandler) -> bool:
        """Drop what waits of a handler that stands for it no more; tell whether anything did."""
        kept = {key: item for key, item in self._held.items() if not (isinstance(key, tuple) and key[0] is handler)}
        dropped = len(kept) < len(self._held)
        self._held = kept
        return dropped

    def _send(self, item: Item) -> None:
        try:
            self.published[item[1]] += 1
        except KeyError:
            self.published[item[1]] = 1
        self._until_sample -= 1
        if not self._until_sample:
            self._until_sample = _SAMPLE
            time = item[2].time
            self.lag.note(self._clock_ns() - (time if isinstance(time, int) else int(time.astype("int64"))))
        self._put(item)

    def _hold(self, key: Hashable, item: Item) -> None:
        if not self._conflating:
            self._conflating = True
            self._counters["conflation_episodes"] += 1
            self._warn(self._clock_ns())
            asyncio.get_running_loop().call_later(_DRAIN_INTERVAL_S, self._drain)
        self._counters["conflated"] += self._held.pop(key, None) is not None
        self._held[key] = item

    def _warn(self, now_ns: int) -> None:
        if self._warned_ns is None or now_ns - self._warned_ns >= _WARN_NS:
            self._warned_ns = now_ns
            logger.warning(
                "lighter: {:,} messages wait for the strategy: until it has caught up it is shown the newest books and "
                "quotes only (and every trade)",
                len(self._waiting),
            )

    def _drain(self) -> None:
        if len(self._waiting) > self._limit // 2:
            asyncio.get_running_loop().call_later(_DRAIN_INTERVAL_S, self._drain)
            return
        held, self._held = self._held, {}
        self._conflating = False
        for item in held.values():
            self._send(item)


def _waiting_in(channel: CtrlChannel) -> Sized:
    """Give what waits in Qubx's channel, which has no public word for it (5.0.0).

    Not ``qsize()``: that takes the lock which the reading thread holds half of the time, to say the length of the same deque.
    """
    waiting: Sized = channel._queue.queue  # noqa: SLF001 - see above
    return waiting
