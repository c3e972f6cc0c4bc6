"""When a dead man's switch is to be armed anew. Times are seconds of any origin.

Theory of operation. The venue keeps one scheduled cancel-all for an account, 5 minutes to 15 days ahead, and does not move it
while it stands (code 21712): to arm anew is to abort it and to schedule another. That happens at a third of the period, so
that two attempts may fail; only while connected, since the switch is there to act on what has no connection; and soon
after an attempt that failed.
"""

from __future__ import annotations

from typing import Final

_RETRY_S: Final = 10.0


class SwitchSchedule:
    """Say when to arm, and what is known of the venue's side.

    Args:
        period_s: from an arming to the cancel-all.
    """

    def __init__(self, period_s: float) -> None:
        self._interval_s = period_s / 3
        self._period_s = period_s
        self._connected = False
        self._under_way = False
        self._due_s = float("-inf")
        self._acts_s: float | None = None
        self._queued = False
        self._failures = 0
        self._at_once = False

    @property
    def may_be_queued(self) -> bool:
        """Tell whether a cancel-all may be scheduled at the venue, so that it must be aborted first, and at the end."""
        return self._queued

    @property
    def is_under_way(self) -> bool:
        """Tell whether what arms it is on its way, or was taken and not carried out yet."""
        return self._under_way

    @property
    def is_replaced_at_once(self) -> bool:
        """Tell whether the last attempt met one that may stand, which is aborted without a pause, and that was not in vain before."""
        return self._at_once

    def connected(self) -> None:
        """Note that the venue can be reached."""
        self._connected = True

    def lost(self) -> None:
        """Note that it cannot."""
        self._connected = False

    def get_timer(self) -> float | None:
        """Tell when to arm; None where there is nothing to wait for."""
        return self._due_s if self._connected and not self._under_way else None

    def has_acted(self, now: float) -> bool:
        """Tell whether the venue has cancelled everything since the last arming."""
        return self._acts_s is not None and now >= self._acts_s

    def arming(self) -> None:
        """Note that the transactions are on their way."""
        self._under_way = True

    def armed(self, sent_at: float) -> None:
        """Note that the venue took the schedule, which counts from the time it was made at."""
        self._under_way = False
        self._queued = True
        self._failures = 0
        self._acts_s = sent_at + self._period_s
        self._due_s = sent_at + self._interval_s

    def failed(self, now: float, *, queued: bool) -> None:
        """Note that it did not, or that nobody knows; ``queued``: whether one may stand at the venue all the same."""
        self._under_way = False
        self._failures += 1
        # One of a former run that stands need only be aborted: at once, if that was not in vain before.
        self._at_once = queued and self._failures == 1
        self._due_s = now if self._at_once else now + min(_RETRY_S, self._interval_s)
        self._queued = self._queued or queued

    def aborted(self) -> None:
        """Note that nothing is scheduled at the venue any more."""
        self._queued = False
        self._acts_s = None
