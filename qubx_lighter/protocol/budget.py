"""How often: a weight in a rolling window, what refusals teach about it, and the volume quota.

Times are seconds of any origin, given as ``now``.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

from qubx_lighter.protocol.limits import FREE_TRANSACTION_S, PERIOD_S

_FIRST_PAUSE_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 60.0  # what the venue's firewall holds an address for
_REGAINED_A_PERIOD: Final = 0.25
_UNANSWERED_S: Final = 30.0  # a transaction without an answer by then gets none
_TRY_AGAIN_S: Final = 60.0  # the answers over the stream do not say what is left of the quota: trying tells


class Budget:
    """A weight that may be spent in any window of time.

    A refusal by the venue means that others spend of the same: nothing more for as long as it asks, or for 2 s, twice as
    long each time up to a minute; and then no more than what had been spent until it refused, growing back by a quarter of
    the whole with each window without a refusal.

    Args:
        weight: in any window; infinite for no limit.
        period_s: the window.
    """

    def __init__(self, weight: float, period_s: float = PERIOD_S) -> None:
        self.weight = weight
        self.refusals = 0
        self._period_s = period_s
        self._taken: deque[tuple[float, float]] = deque()  # when, weight
        self._spent = 0.0
        self._closed_until = -inf
        self._pause_s = _FIRST_PAUSE_S
        self._share = 1.0
        self._share_at = -inf

    def free_at(self, weight: float, now: float, keep: float = 0.0) -> float:
        """Tell from when on ``weight`` more may be spent, with ``keep`` left over, if nobody else spends.

        What is heavier than all there is may be spent where nothing else is.
        """
        self._forget(now)
        at = max(now, self._closed_until)
        excess = self._spent - max(0.0, self.allowed(now) - keep - weight)
        for then, spent in self._taken:
            if excess <= 1e-9:  # noqa: PLR2004 - what floats leave behind
                break
            excess -= spent
            at = max(at, then + self._period_s)
        return at

    def take(self, weight: float, now: float) -> None:
        """Spend, room or not."""
        if self.weight == inf:
            return
        self._taken.append((now, weight))
        self._spent += weight

    def allowed(self, now: float) -> float:
        """Give how much may be spent in a window, after what refusals taught."""
        if self._share >= 1.0:
            return self.weight
        regained = _REGAINED_A_PERIOD * max(0.0, now - self._share_at) / self._period_s
        return self.weight * min(1.0, self._share + regained)

    def spent(self, now: float) -> float:
        """Give how much was spent in the window that ends now."""
        self._forget(now)
        return self._spent

    def refused(self, now: float, retry_after_s: float | None = None) -> float:
        """Take a refusal by the venue, and tell until when nothing may be spent; those of one burst count once."""
        if now < self._closed_until:
            self._closed_until = max(self._closed_until, now + (retry_after_s or 0.0))
            return self._closed_until
        self.refusals += 1
        if self.weight != inf:
            seen = self.spent(now) / self.weight
            self._share = min(self.allowed(now) / self.weight, seen)
        if now - self._share_at > self._period_s:
            self._pause_s = _FIRST_PAUSE_S
        pause_s = self._pause_s if retry_after_s is None else retry_after_s
        self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s)
        self._share_at = self._closed_until = now + pause_s
        return self._closed_until

    def _forget(self, now: float) -> None:
        while self._taken and self._taken[0][0] <= now - self._period_s:
            self._spent -= self._taken.popleft()[1]
        if not self._taken:
            self._spent = 0.0


class VolumeQuota:
    """How many more orders the venue takes of an account, which grows with what the account trades.

    Unknown at first, and then nothing waits: only the venue knows it, and says it with its answers over REST, or by refusing.
    Between two of them it is counted down by what leaves. Used up, there is a free transaction every 15 s; and as the answers
    over the stream do not tell when there is quota again, it is tried again a minute after a refusal.
    """

    def __init__(self) -> None:
        self.remaining: int | None = None
        self.refusals = 0
        self._pending: deque[tuple[float, int]] = deque()  # sent, cost
        self._freed_at = -inf  # when the last free transaction left
        self._refused_at = inf  # when the venue refused, if that is how it is known

    def free_at(self, cost: int, now: float) -> float:
        """Tell from when on transactions of this cost may leave together, if nobody else sends; several are never free."""
        if self.remaining == 0 and now - self._refused_at >= _TRY_AGAIN_S:
            self._learn(None)
        if cost == 0 or self.remaining is None or self.remaining >= cost:
            return now
        if cost > 1:
            return inf
        return max(now, min(self._freed_at + FREE_TRANSACTION_S, self._refused_at + _TRY_AGAIN_S))

    def take(self, cost: int, now: float) -> None:
        """Count what leaves; every message is counted, since every answer is."""
        self._forget(now)
        self._pending.append((now, cost))
        if self.remaining is None or not cost:
            return
        if self.remaining < cost:
            self._freed_at = now
        else:
            self.remaining -= cost

    def answered(self, now: float, *, remaining: int | None = None, unused: bool = False) -> None:
        """Take an answer that accepts: what it says is left, less what is still under way.

        Args:
            now: the time.
            remaining: what it says is left, where it says.
            unused: whether it says that none was used.
        """
        sent, cost = self._answer(now)
        if unused and cost:
            self._freed_at = max(self._freed_at, sent)
        if remaining is not None:
            self._learn(max(0, remaining - sum(pending for _, pending in self._pending)))

    def refused(self, now: float) -> None:
        """Take a refusal for want of quota: there is none, and a free transaction in 15 s at the latest."""
        sent, _ = self._answer(now)
        self.refusals += 1
        self._learn(0)
        self._refused_at = now
        if sent >= self._freed_at + FREE_TRANSACTION_S:
            self._freed_at = sent

    def dropped(self, now: float) -> None:
        """Take an answer that refuses for any other reason: what was counted was not used."""
        _, cost = self._answer(now)
        if self.remaining is not None and self.remaining > 0:
            self.remaining += cost

    def _learn(self, remaining: int | None) -> None:
        self.remaining = remaining
        self._refused_at = inf

    def _forget(self, now: float) -> None:
        while self._pending and self._pending[0][0] < now - _UNANSWERED_S:
            self._pending.popleft()

    def _answer(self, now: float) -> tuple[float, int]:
        self._forget(now)
        return self._pending.popleft() if self._pending else (now, 0)
