"""The connector's counters reach the emitter that Qubx gave its health monitor."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from qubx.core.basics import LiveTimeProvider
from qubx.core.interfaces import IMetricEmitter
from qubx.health.base import BaseHealthMonitor
from qubx.health.dummy import DummyHealthMonitor

from qubx_lighter.metrics import MetricsReporter, emitter_of


class Emitter(IMetricEmitter):
    """Somebody's emitter, which may fail."""

    def __init__(self, failures: int = 0) -> None:
        self.seen: list[tuple[str, float, dict[str, Any] | None]] = []
        self.failures = failures
        self.enough = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def emit(self, name: str, value: float, tags: dict[str, Any] | None = None, *rest: Any, **more: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("no route to the metrics")
        self.seen.append((name, value, tags))
        if len(self.seen) >= 4:
            self.loop.call_soon_threadsafe(self.enough.set)


async def test_the_health_monitor_s_emitter_is_found() -> None:
    emitter = Emitter()
    assert emitter is emitter_of(BaseHealthMonitor(LiveTimeProvider(), emitter=emitter))
    assert emitter_of(BaseHealthMonitor(LiveTimeProvider())) is None
    assert emitter_of(DummyHealthMonitor()) is None


@pytest.mark.parametrize("failures", [0, 1])
async def test_every_number_is_emitted_again_and_again_whatever_the_emitter_does(failures: int) -> None:
    emitter = Emitter(failures)
    reporter = MetricsReporter(
        lambda: {"book_gaps": 3, "lag_p50_ms": 1.5}, emitter, exchange="LIGHTER", interval_s=0.01
    )
    reporter.start()
    try:
        await asyncio.wait_for(emitter.enough.wait(), 5)
    finally:
        await reporter.close()
        await reporter.close()
    tags = {"type": "connector", "exchange": "LIGHTER"}
    assert ("lighter_book_gaps", 3.0, tags) in emitter.seen
    assert ("lighter_lag_p50_ms", 1.5, tags) in emitter.seen
