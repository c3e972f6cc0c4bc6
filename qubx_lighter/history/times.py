"""Times and lengths of time as Qubx and its users write them."""

from __future__ import annotations

import re
from typing import Any, Final

import pandas as pd
from qubx.utils.time import handle_start_stop, to_timedelta

_CALENDAR_UNIT: Final = re.compile(r"(?<![A-Za-z])[MYy](?![A-Za-z])")  # pandas' months and years; ``m`` is a minute
_NOW: Final = ("now", "today")  # what pandas understands without a date, and takes from the machine's time zone


def read_range(start: Any, stop: Any) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    """Read a range; its ends may come in any order, and one may be a length, ``1w``, that is counted from the other.

    Args:
        start: a time, UTC where it names no time zone; ``now``; None for an open end.
        stop: likewise.

    Returns:
        The earlier end and the later one, UTC without saying so, as Qubx's own times are.

    Raises:
        ValueError: an end is no time.
    """
    first, last = handle_start_stop(_utc(start), _utc(stop), convert=pd.Timestamp)
    if (start is not None and first is None) or (stop is not None and last is None):
        raise ValueError(f"{start} to {stop} is not a range of times")
    return first, last


def _utc(time: Any) -> str | None:
    """Write a time as UTC without its time zone; what is no time, a length for instance, stays."""
    if time is None:
        return None
    text = str(time)
    if text.strip().lower() in _NOW:
        return str(pd.Timestamp.now(tz="UTC").tz_localize(None))
    try:
        stamp = pd.Timestamp(text)
    except ValueError:
        return text
    return text if stamp.tzinfo is None else str(stamp.tz_convert("UTC").tz_localize(None))


def bar_length_ms(dtype: str, timeframe: str | None) -> int:
    """Convert the timeframe of a data type, ``1min``, ``15Min`` or ``1H``, to ms.

    Raises:
        ValueError: it is missing, no length of time, or one that differs from bar to bar: a month, a year.
    """
    if not timeframe:
        raise ValueError(f"{dtype} needs a timeframe: ohlc(1h)")
    if _CALENDAR_UNIT.search(timeframe):
        raise ValueError(f"{dtype}: there are no bars of calendar months or years; minutes are 1m, 1min or 1Min")
    length_ms = int(to_timedelta(timeframe.lower()).value // 1_000_000)
    if length_ms <= 0:
        raise ValueError(f"{dtype}: {timeframe} is no length of a bar")
    return length_ms
