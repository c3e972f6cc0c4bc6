"""What the venue does at a time: the next slice of a TWAP, a scheduled cancel-all."""

from __future__ import annotations

import heapq
from enum import IntEnum
from typing import NamedTuple


class Duty(IntEnum):
    """What is to be done."""

    CANCEL_ALL = 1
    TWAP_SLICE = 2


class Entry(NamedTuple):
    """One duty; ``order_index`` is 0 where it is of a whole account."""

    time: int  # µs
    number: int
    duty: Duty
    account_index: int
    order_index: int


class Agenda:
    """Duties by time, those of one time in the order in which they were entered; one may have become pointless."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._count = 0

    def add(self, time: int, duty: Duty, account_index: int, order_index: int = 0) -> None:
        """Enter a duty for ``time`` (µs)."""
        self._count += 1
        heapq.heappush(self._entries, Entry(time, self._count, duty, account_index, order_index))

    def next_time(self) -> int | None:
        """Give the time of the first duty; None without any."""
        return self._entries[0].time if self._entries else None

    def pop_due(self, now: int) -> Entry | None:
        """Take the first duty whose time has come."""
        return heapq.heappop(self._entries) if self._entries and self._entries[0].time <= now else None
