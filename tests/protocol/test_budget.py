"""Budget: no more in any window than is allowed, and less after refusals. VolumeQuota: what the venue's words say is left."""

from __future__ import annotations

import random
from math import inf

import pytest

from qubx_lighter.protocol.budget import Budget, VolumeQuota


def spend(budget: Budget, weights: list[float], now: float = 0.0) -> list[float]:
    """Spend each as early as may be, one after the other."""
    times = []
    for weight in weights:
        now = budget.free_at(weight, now)
        budget.take(weight, now)
        times.append(now)
    return times


def test_a_window_takes_what_it_holds_and_no_more() -> None:
    assert [0.0] * 3 + [60.0] * 3 + [120.0] == spend(Budget(3), [1.0] * 7)


def test_room_can_be_kept_for_others() -> None:
    budget = Budget(10)
    budget.take(7, 0.0)
    assert [0.0, 60.0] == [budget.free_at(1, 0.0, keep=2), budget.free_at(2, 0.0, keep=2)]


def test_what_is_heavier_than_the_whole_goes_where_nothing_else_is() -> None:
    assert [0.0, 60.0, 120.0] == spend(Budget(10), [3.0, 11.0, 1.0])


def test_without_a_limit_nothing_is_counted() -> None:
    budget = Budget(inf)
    assert [0.0] * 5 == spend(budget, [1e9] * 5)
    assert 0.0 == budget.spent(0.0)


@pytest.mark.parametrize("seed", range(5))
def test_no_window_holds_more_than_is_allowed_and_nobody_waits_longer_than_needed(seed: int) -> None:
    print("seed", seed)
    source = random.Random(seed)
    budget, now, sent = Budget(20.0), 0.0, []
    for _ in range(500):
        now += source.expovariate(0.5)
        cost = source.choice([1.0, 1.5])
        at = budget.free_at(cost, now)
        assert sum(spent for then, spent in sent if then > at - 60 + 1e-6) + cost <= 20 + 1e-6
        if at > now:  # a moment earlier it would have been one too many
            assert sum(spent for then, spent in sent if then > at - 60.001) + cost > 20
        now = at
        budget.take(cost, now)
        sent.append((now, cost))


def test_a_refusal_closes_for_as_long_as_the_venue_asks_else_ever_longer() -> None:
    budget = Budget(100)
    assert 17.0 == budget.refused(10.0, retry_after_s=7.0)
    assert 17.0 == budget.free_at(1, 10.0)
    assert [4.0, 8.0, 16.0, 32.0, 60.0, 60.0] == [budget.refused(now) - now for now in (20, 30, 50, 100, 150, 215)]
    assert 2.0 == budget.refused(1000.0) - 1000.0


def test_refusals_of_one_burst_count_once() -> None:
    budget = Budget(100)
    assert [2.0, 2.0, 2.0] == [budget.refused(now) for now in (0.0, 0.1, 1.9)]
    assert 1 == budget.refusals
    assert 31.0 == budget.refused(1.0, retry_after_s=30.0)


def test_after_a_refusal_no_more_is_spent_than_went_through_before_it() -> None:
    budget = Budget(60)
    for now in range(24):
        budget.take(1, float(now))
    assert 26.0 == budget.refused(24.0)
    assert 24.0 == budget.allowed(26.0)
    assert 60.0 == budget.free_at(1, 26.0)
    assert [24 + 15.0, 24 + 30.0, 60.0] == [budget.allowed(26.0 + 60 * n) for n in (1, 2, 3)]


def test_where_others_spend_it_all_one_is_tried_at_a_time() -> None:
    budget = Budget(60)
    budget.refused(0.0)
    assert [0.0, 2.0] == [budget.allowed(2.0), budget.free_at(1, 0.0)]
    budget.take(1, 2.0)
    assert 62.0 == budget.free_at(1, 3.0)
    assert 15.0 == budget.allowed(62.0)


# --- the volume quota ------------------------------------------------------------------------------------------------


def test_an_unknown_quota_holds_nobody_and_a_known_one_is_counted_down() -> None:
    quota = VolumeQuota()
    for _ in range(5):
        quota.take(1, 0.0)
    assert [0.0, None] == [quota.free_at(1, 0.0), quota.remaining]
    quota.answered(0.5, remaining=10)
    assert 6 == quota.remaining  # four of five are still under way
    quota.take(0, 1.0)
    quota.take(3, 1.0)
    assert 3 == quota.remaining
    assert 1.0 == quota.free_at(3, 1.0)
    assert inf == quota.free_at(4, 1.0)
    quota.take(3, 1.0)
    assert 1.0 == quota.free_at(1, 1.0)  # no free one was seen yet
    quota.take(1, 1.0)
    assert 16.0 == quota.free_at(1, 1.0)


def test_used_up_it_lets_one_through_each_15_s_and_cancels_always() -> None:
    quota = VolumeQuota()
    quota.take(1, 100.0)
    quota.refused(100.1)
    assert [0, 1] == [quota.remaining, quota.refusals]
    assert [115.0, 100.2] == [quota.free_at(1, 100.2), quota.free_at(0, 100.2)]
    quota.take(1, 115.0)
    quota.answered(115.1)
    assert 130.0 == quota.free_at(1, 116.0)


def test_a_free_transaction_by_the_venues_word_moves_the_next_one() -> None:
    quota = VolumeQuota()
    quota.take(1, 50.0)
    quota.answered(50.1, remaining=0, unused=True)
    assert 65.0 == quota.free_at(1, 51.0)


def test_the_venues_word_opens_it_again() -> None:
    quota = VolumeQuota()
    quota.take(1, 0.0)
    quota.refused(0.1)
    quota.take(0, 1.0)
    quota.answered(1.1, remaining=7)
    assert [7, 2.0] == [quota.remaining, quota.free_at(1, 2.0)]


def test_a_minute_after_a_refusal_it_is_tried_again() -> None:
    quota = VolumeQuota()
    quota.take(1, 0.0)
    quota.refused(0.0)
    quota.take(1, 50.0)  # the free one
    quota.answered(50.1)
    assert 60.0 == quota.free_at(1, 51.0)
    assert [60.0, None] == [quota.free_at(1, 60.0), quota.remaining]


def test_what_the_venue_refuses_for_other_reasons_was_not_used() -> None:
    quota = VolumeQuota()
    quota.take(0, 0.0)
    quota.answered(0.1, remaining=5)
    quota.take(1, 1.0)
    assert 4 == quota.remaining
    quota.dropped(1.1)
    assert 5 == quota.remaining


def test_an_answer_that_never_comes_is_forgotten() -> None:
    quota = VolumeQuota()
    quota.take(1, 0.0)
    quota.take(1, 40.0)
    quota.answered(40.1, remaining=9)
    assert 9 == quota.remaining
