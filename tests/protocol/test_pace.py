"""Backoff between connects and the window over messages."""

from __future__ import annotations

from math import inf

import pytest

from qubx_lighter.protocol.pace import Backoff, BackoffSettings, Pacer


def _waits(backoff: Backoff, count: int, chance: float = 0.0) -> list[float | None]:
    return [backoff.next_start(0.0, chance) for _ in range(count)]


def test_the_wait_doubles_up_to_a_minute_and_never_ends() -> None:
    assert [1, 2, 4, 8, 16, 32, 60, 60] == _waits(Backoff(BackoffSettings()), 8)
    assert 60 == _waits(Backoff(BackoffSettings()), 3000)[-1]


def test_jitter_only_shortens_and_by_at_most_its_part() -> None:
    backoff = Backoff(BackoffSettings(jitter=0.2))
    assert [pytest.approx(0.8), pytest.approx(1.6)] == _waits(backoff, 2, chance=1.0)
    assert pytest.approx(10 + 4 * 0.9) == backoff.next_start(10.0, 0.5)


def test_a_useful_connection_starts_the_waits_anew() -> None:
    backoff = Backoff(BackoffSettings())
    _waits(backoff, 5)
    backoff.proved()
    assert [1, 2] == _waits(backoff, 2)


def test_a_limit_of_retries_ends_the_tries_until_a_connection_is_useful() -> None:
    backoff = Backoff(BackoffSettings(max_retries=2))
    assert [1, 2, None, None] == _waits(backoff, 4)
    backoff.proved()
    assert [1] == _waits(backoff, 1)


def test_somebody_in_a_hurry_still_waits_a_second_after_the_last_connect() -> None:
    backoff = Backoff(BackoffSettings())
    assert 5.0 == backoff.earliest(5.0)
    backoff.started(5.0)
    assert 6.0 == backoff.earliest(5.1)
    assert 9.0 == backoff.earliest(9.0)


def test_the_window_slides() -> None:
    pacer = Pacer(messages=2, period_s=10.0)
    assert -inf == pacer.free_at()
    pacer.note(1.0)
    assert -inf == pacer.free_at()
    pacer.note(4.0)
    assert 11.0 == pacer.free_at()
    pacer.note(11.0)
    assert 14.0 == pacer.free_at()


def test_messages_beyond_the_limit_delay_the_next_by_as_many() -> None:
    pacer = Pacer(messages=2, period_s=10.0)
    for now in (1.0, 2.0, 3.0, 4.0):
        pacer.note(now)
    assert 13.0 == pacer.free_at()
