"""An event loop whose time passes at once: when nothing is left to do, it is the time of the next timer.

For coroutines that touch no socket and no thread: hours pass in milliseconds, in the same order every time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class FakeTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.now


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: FakeTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        self._loop.now += 1e-7  # a clock never stands quite still
        if not events:
            assert timeout is not None, "everybody waits for something that nobody will ever do"
            self._loop.now += max(0.0, timeout)
        return events


def run[T](coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of fake time."""
    with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
        return runner.run(coroutine)
