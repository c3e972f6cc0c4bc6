"""The venue's clock: never beyond the truth by what frames take to come, and following a clock that is set."""

from __future__ import annotations

import random

import pytest

from qubx_lighter.protocol.venue_clock import VenueClock

S = 10**9
NOW = 1_790_000_000 * S


def test_before_anything_was_heard_the_clocks_are_taken_for_equal() -> None:
    clock = VenueClock()
    clock.heard(0, NOW)
    assert (False, NOW) == (clock.is_known, clock.at(NOW))


@pytest.mark.parametrize("ahead_ns", [-3600 * S, -2 * S, -3 * S // 10, 0, 3 * S // 10, 2 * S, 3600 * S])
def test_the_venues_time_is_told_within_the_least_lag_and_never_beyond_it(ahead_ns: int) -> None:
    chance = random.Random(7)
    clock, lags = VenueClock(), []
    for number in range(500):
        now = NOW + number * S // 5
        lags.append(chance.randrange(2_000_000, 900_000_000))
        clock.heard(now + ahead_ns - lags[-1], now)
        assert clock.at(now) <= now + ahead_ns
    assert NOW + ahead_ns - min(lags) == clock.at(NOW)


@pytest.mark.parametrize("step_ns", [-5 * S, 5 * S])
def test_a_clock_that_is_set_is_followed_within_two_minutes(step_ns: int) -> None:
    clock = VenueClock()
    for second in range(300):
        clock.heard(NOW + second * S, NOW + second * S)
    for second in range(300, 421):
        clock.heard(NOW + second * S, NOW + second * S + step_ns)
    assert NOW - step_ns == clock.at(NOW)


def test_what_was_heard_last_holds_through_a_silence_and_no_longer() -> None:
    clock = VenueClock()
    clock.heard(NOW + 7 * S, NOW)
    assert NOW + 3607 * S == clock.at(NOW + 3600 * S)
    clock.heard(NOW + 3603 * S, NOW + 3600 * S)
    assert NOW + 3603 * S == clock.at(NOW + 3600 * S)
