"""Candles of every resolution, in integers: one-minute rows are kept, all others are added up from them when asked for.

Candles are rows of an int64 array, oldest first, one for each bucket that something happened in: of trades they have the
columns ``TIME`` to ``LAST_ID``, of mark prices those up to ``SAMPLES``. Prices are ticks, sizes lots, quotes millionths of
the collateral asset, counts trades, times the milliseconds at which a bucket opens. ``on_grid`` puts in the buckets between, in which
nothing happened: all four prices are the close before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qubx_lighter.constants import RESOLUTIONS

Rows = NDArray[np.int64]

TIME, OPEN, HIGH, LOW, CLOSE, LOTS, QUOTE, COUNT, LAST_ID = range(9)
SAMPLES: Final = LOTS
TRADE_COLUMNS: Final = 9
MARK_COLUMNS: Final = 6

MINUTE_MS: Final = RESOLUTIONS["1m"]
KEPT_MINUTES: Final = 45 * 24 * 60
"""How many one-minute rows are kept: of a market that trades every minute, the last 45 days."""

_FIRST_ROOM: Final = 64


class Series:
    """The one-minute rows of one market, as they grow; the oldest go when there are too many.

    Args:
        columns: ``TRADE_COLUMNS`` or ``MARK_COLUMNS``.
        kept: how many rows stay at least.

    Attributes:
        forgot: whether rows have gone.
    """

    def __init__(self, columns: int, kept: int = KEPT_MINUTES) -> None:
        self.forgot = False
        self._kept = kept
        self._rows: Rows = np.empty((_FIRST_ROOM, columns), np.int64)
        self._length = 0
        self._last: list[int] = []  # the row that still grows, the last of all; in the array once it is followed

    def add_trade(self, time_ms: int, price_ticks: int, lots: int, quote_micro: int, trade_id: int) -> None:
        """Count a trade; one of an earlier minute than the last row's counts in that."""
        row = self._row_at(time_ms, price_ticks)
        row[LOTS] += lots
        row[QUOTE] += quote_micro
        row[COUNT] += 1
        row[LAST_ID] = trade_id

    def add_sample(self, time_ms: int, price_ticks: int) -> None:
        """Count a sample of the mark price."""
        self._row_at(time_ms, price_ticks)[SAMPLES] += 1

    def rescale(self, change: Callable[[Rows], Rows]) -> None:
        """Change what all rows say, but not their times."""
        self._rows[: self._length] = change(self._rows[: self._length])
        if self._last:
            self._last = change(np.array([self._last], np.int64))[0].tolist()

    def between(self, start_ms: int, stop_ms: int) -> Rows:
        """Give the rows that open in [``start_ms``, ``stop_ms``); a copy."""
        times = self._rows[: self._length, TIME]
        first, end = np.searchsorted(times, (start_ms, stop_ms))
        kept = self._rows[first:end]
        if self._last and start_ms <= self._last[TIME] < stop_ms:
            return np.vstack((kept, np.array([self._last], np.int64)))
        return kept.copy()

    def before(self, time_ms: int) -> Rows:
        """Give the last row that opens before a time, or none."""
        if self._last and self._last[TIME] < time_ms:
            return np.array([self._last], np.int64)
        end = int(np.searchsorted(self._rows[: self._length, TIME], time_ms))
        return self._rows[max(end - 1, 0) : end].copy()

    @property
    def first_ms(self) -> int | None:
        """When the oldest row opens."""
        if self._length:
            return int(self._rows[0, TIME])
        return self._last[TIME] if self._last else None

    @property
    def last(self) -> list[int]:
        """The newest row, to read; empty before the first."""
        return self._last

    def _row_at(self, time_ms: int, price_ticks: int) -> list[int]:
        """Find the row of a time, with the price counted; begin it where it is the first of its minute."""
        row, minute = self._last, time_ms - time_ms % MINUTE_MS
        if row and minute <= row[TIME]:
            row[HIGH] = max(row[HIGH], price_ticks)
            row[LOW] = min(row[LOW], price_ticks)
            row[CLOSE] = price_ticks
            return row
        if row:
            self._keep(row)
        columns = self._rows.shape[1]
        self._last = [minute, price_ticks, price_ticks, price_ticks, price_ticks, *[0] * (columns - LOTS)]
        return self._last

    def _keep(self, row: list[int]) -> None:
        if self._length == len(self._rows):
            self._make_room()
        self._rows[self._length] = row
        self._length += 1

    def _make_room(self) -> None:
        """Make the array larger, or forget what is too old; either is rare."""
        if self._length >= self._kept + self._kept // 4:
            self._rows[: self._kept] = self._rows[self._length - self._kept : self._length]
            self._length = self._kept
            self.forgot = True
            return
        room = min(2 * self._length, self._kept + self._kept // 4)
        self._rows = np.vstack((self._rows, np.empty((max(room - self._length, 1), self._rows.shape[1]), np.int64)))


def add_up(rows: Rows, step_ms: int) -> Rows:
    """Add rows up to those of a coarser resolution; buckets without a row stay out."""
    if not len(rows) or step_ms == MINUTE_MS:
        return rows
    buckets = rows[:, TIME] // step_ms
    begins = np.flatnonzero(np.diff(buckets, prepend=buckets[0] - 1))
    ends = np.append(begins[1:], len(rows)) - 1
    result = np.empty((len(begins), rows.shape[1]), np.int64)
    result[:, TIME] = buckets[begins] * step_ms
    result[:, OPEN] = rows[begins, OPEN]
    result[:, HIGH] = np.maximum.reduceat(rows[:, HIGH], begins)
    result[:, LOW] = np.minimum.reduceat(rows[:, LOW], begins)
    result[:, CLOSE] = rows[ends, CLOSE]
    result[:, LOTS:LAST_ID] = np.add.reduceat(rows[:, LOTS:LAST_ID], begins)
    result[:, LAST_ID:] = rows[ends, LAST_ID:]
    return result


def on_grid(rows: Rows, previous: Rows, start_ms: int, count: int, step_ms: int) -> Rows:
    """Give ``count`` rows from ``start_ms`` on, one a bucket; those where nothing happened hold the close before.

    Args:
        rows: of the same resolution, all within.
        previous: the row before, which the first buckets hold the close of; without it they stay out.
        start_ms: when the first opens.
        count: of buckets.
        step_ms: the resolution.
    """
    source = np.vstack((previous, rows))
    places = np.zeros(count, np.int64)  # the row of the source, one higher, that each bucket holds
    places[(rows[:, TIME] - start_ms) // step_ms] = np.arange(len(rows)) + len(previous) + 1
    happened = places > 0
    places = np.maximum.accumulate(np.maximum(places, len(previous)))
    begin = int(np.searchsorted(places, 1))
    result = source[places[begin:] - 1]
    result[:, TIME] = start_ms + step_ms * np.arange(begin, count)
    flat = ~happened[begin:]
    result[flat, OPEN:CLOSE] = result[flat, CLOSE][:, None]
    result[flat, LOTS:LAST_ID] = 0
    return result
