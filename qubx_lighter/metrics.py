"""The connector's counters for Qubx's metric emitters.

Qubx hands emitters to strategies and to its health monitor, not to connectors: the health monitor's is used, where it has
one (a private attribute, Qubx 5.0.0). A strategy can read the same numbers from the data provider's ``stats()``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from qubx import logger
from qubx.core.interfaces import IHealthMonitor, IMetricEmitter

PREFIX: Final = "lighter_"


def emitter_of(health: IHealthMonitor) -> IMetricEmitter | None:
    """Find the emitter of a run; None where nothing is emitted."""
    emitter = getattr(health, "_emitter", None)
    return emitter if hasattr(emitter, "emit") else None


class MetricsReporter:
    """Emit counters at a steady pace, until it is closed.

    Args:
        stats: gives the numbers, by name.
        emitter: takes them.
        exchange: the tag that tells exchanges apart.
        interval_s: between two reports.
    """

    def __init__(
        self, stats: Callable[[], Mapping[str, float]], emitter: IMetricEmitter, *, exchange: str, interval_s: float
    ) -> None:
        self._stats = stats
        self._emitter = emitter
        self._tags: dict[str, Any] = {"type": "connector", "exchange": exchange}
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; on the loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop; a second call does nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def report(self) -> None:
        """Emit every number once; emitters may write to files and sockets, so not on the loop."""
        for name, value in self._stats().items():
            self._emitter.emit(name=PREFIX + name, value=float(value), tags=dict(self._tags))

    async def _run(self) -> None:
        told = False
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await asyncio.to_thread(self.report)
            except Exception as error:  # noqa: BLE001 - the user's emitter: trading goes on without it
                if not told:
                    told = True
                    logger.opt(exception=error).error("lighter: metrics cannot be emitted")
