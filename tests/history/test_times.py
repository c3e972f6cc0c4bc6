"""Ranges as Qubx gives them: in UTC wherever the machine stands."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qubx_lighter.history.times import read_range

FIRST, LAST = pd.Timestamp("2026-10-01"), pd.Timestamp("2026-10-08 06:30")


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Tokyo"])
def _zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stand somewhere on earth."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_zone")
@pytest.mark.parametrize(
    ("start", "stop"),
    [
        ("2026-10-01", "2026-10-08 06:30"),
        ("2026-10-08 06:30", "2026-10-01"),
        ("2026-10-01T00:00:00Z", "2026-10-08 06:30"),
        ("2026-10-01T00:00:00", "2026-10-08T15:30:00+09:00"),
        ("2026-09-30T20:00:00-04:00", "2026-10-08T06:30:00+00:00"),
        (FIRST, LAST.tz_localize("UTC")),
        (np.datetime64("2026-10-01"), dt.datetime(2026, 10, 8, 6, 30, tzinfo=dt.UTC)),
        ("2026-10-01", "7d6h30min"),
        ("-7d6h30min", "2026-10-08T06:30:00Z"),
    ],
)
def test_a_range_is_the_same_however_and_wherever_it_is_written(start: Any, stop: Any) -> None:
    assert (FIRST, LAST) == read_range(start, stop)


@pytest.mark.usefixtures("_zone")
@pytest.mark.parametrize("word", ["now", "today", "Now"])
def test_now_is_that_of_the_clock_of_the_world(word: str) -> None:
    before = pd.Timestamp.now(tz="UTC").tz_localize(None)
    first, last = read_range("2026-10-01", word)
    assert first is not None
    assert last is not None
    assert before <= last <= pd.Timestamp.now(tz="UTC").tz_localize(None)
    hour_before, now = read_range("1h", word)
    assert hour_before is not None
    assert now is not None
    assert 3_600_000_000_000 == now.value - hour_before.value


def test_ends_may_be_open() -> None:
    assert (None, None) == read_range(None, None)
    assert (FIRST, None) == read_range("2026-10-01", None)
    assert (None, LAST) == read_range(None, LAST)


@pytest.mark.parametrize(
    ("start", "stop"), [("yesterday evening", None), (None, "2026-13-01"), ("1h", "2h"), ("1h", None), ("x", "y")]
)
def test_what_is_no_range_of_times_is_an_error(start: str | None, stop: str | None) -> None:
    with pytest.raises(ValueError, match=r"time|deltas"):
        read_range(start, stop)
