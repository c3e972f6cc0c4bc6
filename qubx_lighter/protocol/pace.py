"""How often: the wait between two connects, and the number of messages in a window of time.

Times are seconds of any origin, given as ``now``; chance is given too.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class BackoffSettings:
    """The wait between two connects: ``initial_s * factor**n``, at most ``cap_s``, less up to ``jitter`` of it.

    ``max_retries`` failures in a row end the tries; None means never.
    """

    initial_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 60.0
    jitter: float = 0.2
    max_retries: int | None = None


class Backoff:
    """Decide when to connect next, so that no failure whatsoever becomes a storm of connects."""

    def __init__(self, settings: BackoffSettings) -> None:
        self._settings = settings
        self._failures = 0
        self._started = -inf

    def started(self, now: float) -> None:
        """Note that a connect begins."""
        self._started = now

    def proved(self) -> None:
        """Note that a connection was useful: the next wait is the first one again."""
        self._failures = 0

    def earliest(self, now: float) -> float:
        """Tell when somebody in a hurry may connect: two connects are never closer than the first wait."""
        return max(now, self._started + self._settings.initial_s)

    def next_start(self, now: float, chance: float) -> float | None:
        """Tell when to connect after a failure, or None to give up; ``chance`` in 0..1 draws the jitter."""
        settings = self._settings
        if settings.max_retries is not None and self._failures >= settings.max_retries:
            return None
        exponent = min(self._failures, 64)  # far beyond any cap, far below a float's end
        wait = min(settings.cap_s, settings.initial_s * settings.factor**exponent)
        self._failures += 1
        return now + wait * (1.0 - settings.jitter * chance)


class Pacer:
    """A sliding window over the messages written."""

    def __init__(self, messages: int, period_s: float) -> None:
        self._messages = messages
        self._period_s = period_s
        self._written: deque[float] = deque()

    def note(self, now: float) -> None:
        """Count one message."""
        self._written.append(now)
        while self._written[0] <= now - self._period_s:
            self._written.popleft()

    def free_at(self) -> float:
        """Tell from when on one more message keeps the limit."""
        excess = len(self._written) - self._messages
        return -inf if excess < 0 else self._written[excess] + self._period_s
