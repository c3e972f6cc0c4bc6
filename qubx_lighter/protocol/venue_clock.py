"""The venue's clock, estimated from its stamps: ours may run ahead of it or behind, and the two meet in the account."""

from __future__ import annotations

from typing import Final

_SPAN_NS: Final = 60 * 10**9


class VenueClock:
    """Turn local times into the venue's.

    Theory of operation. What the venue stamps ``v`` and we hear at ``l`` of our own clock says that its clock is ahead by at
    least ``v - l``: the rest is the way here. The most that was heard is nearest the truth, and never beyond it. Clocks drift,
    and are set, so only what was heard in the latest minute or two counts; where nothing was heard since, the last that was.
    """

    def __init__(self) -> None:
        self._ahead_ns: int | None = None  # the most heard in the span before this one, if that was just before
        self._newest_ns: int | None = None  # the most heard in this span
        self._since_ns = 0

    def heard(self, venue_ns: int, now_ns: int) -> None:
        """Take a stamp of the venue that came at ``now_ns`` of our clock; 0 is none."""
        if not venue_ns:
            return
        ahead_ns = venue_ns - now_ns
        age_ns = now_ns - self._since_ns
        if self._newest_ns is None or not 0 <= age_ns < _SPAN_NS:
            self._ahead_ns = self._newest_ns if 0 <= age_ns < 2 * _SPAN_NS else None
            self._newest_ns, self._since_ns = ahead_ns, now_ns
        self._newest_ns = max(self._newest_ns, ahead_ns)

    @property
    def is_known(self) -> bool:
        """Tell whether anything was heard."""
        return self._newest_ns is not None

    def at(self, local_ns: int) -> int:
        """Give the venue's time, or a moment before it, at a time of our clock; that time itself while nothing was heard."""
        return local_ns + max((ahead for ahead in (self._ahead_ns, self._newest_ns) if ahead is not None), default=0)
