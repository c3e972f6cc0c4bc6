"""Rates of counters that only rise, over the last seconds; whoever asks, and however often, sees the same window."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_WINDOW_S: Final = 10.0
_STEP_S: Final = 1.0


class Rates:
    """Remember a sample a second, and compare with the oldest of the last ten seconds.

    Nothing is sampled between questions: after a silence the rate is that since the question before.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, dict[str, int]]] = deque()

    def of(self, counts: Mapping[str, int], now: float) -> dict[str, float]:
        """Give how much each count rose a second, at ``now`` (s of any origin); empty at the first question."""
        samples = self._samples
        while len(samples) > 1 and samples[1][0] <= now - _WINDOW_S:
            samples.popleft()
        rates: dict[str, float] = {}
        if samples and now > samples[0][0]:
            then, before = samples[0]
            rates = {name: round((count - before.get(name, 0)) / (now - then), 3) for name, count in counts.items()}
        if not samples or now - samples[-1][0] >= _STEP_S:
            samples.append((now, dict(counts)))
        return rates
