"""How often: REST requests within what the venue allows one address.

The limits (the venue's rate-limit page, 2026-07): any 60 s take 60 requests without a tier, but of those that weigh more
than 400 only 24,000 of weight; with a tier, 24,000 of weight or more. So both are one budget of weight, and without a tier
every request weighs 400 at least.

Times are seconds of any origin, given as ``now``.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

PERIOD_S: Final = 60.0
STANDARD_REQUESTS: Final = 60
"""Requests in any minute, of one address without a tier."""
PREMIUM_WEIGHT: Final = 24_000
"""Weight in any minute, of a premium account."""

_LEAST_WEIGHT: Final = PREMIUM_WEIGHT // STANDARD_REQUESTS
_WEIGHTS: Final = {"trades": 600, "recentTrades": 600}
_WEIGHT: Final = 300  # of all others that read history


class RestPace:
    """A budget of weight in a sliding window.

    Args:
        requests: in any minute, as without a tier; those for trades count one and a half.
        weight: in any minute, as with a tier, in place of ``requests``.
    """

    def __init__(self, *, requests: int = STANDARD_REQUESTS, weight: int | None = None) -> None:
        self._budget = float(requests * _LEAST_WEIGHT if weight is None else weight)
        self._least = _LEAST_WEIGHT if weight is None else 0
        self._taken: deque[tuple[float, float]] = deque()  # when, weight
        self._spent = 0.0
        self._last = -inf

    def reserve(self, endpoint: str, now: float) -> float:
        """Take the next free place for a request, and tell from when on it may be sent; places are given in order."""
        weight = min(self._budget, float(max(self._least, _WEIGHTS.get(endpoint, _WEIGHT))))
        at = max(now, self._last)
        while self._taken and (self._taken[0][0] <= at - PERIOD_S or self._spent + weight > self._budget):
            then, spent = self._taken.popleft()
            self._spent -= spent
            at = max(at, then + PERIOD_S)
        self._taken.append((at, weight))
        self._spent += weight
        self._last = at
        return at
