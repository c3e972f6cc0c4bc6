"""The premium and what follows from it: the index price, and the funding estimate that ends where the history's rate is."""

from __future__ import annotations

from itertools import pairwise

import pytest

from qubx_lighter.sim.markets import past
from qubx_lighter.sim.markets.index_price import IndexPrice, Premium, estimate

HOUR_US = 3_600_000_000
FIRST = 490_000


def drawn(seed: int = 3, market_id: int = 1) -> IndexPrice:
    return IndexPrice(seed, market_id, lambda hour: past.funding_rates(seed, market_id, hour, hour + 1)[0])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_estimate_of_an_hour_ends_where_the_history_settles_it(seed: int) -> None:
    index = drawn(seed)
    rates = past.funding_rates(seed, 1, FIRST + 1, FIRST + 301)
    ends = [index.at((FIRST + hour + 1) * HOUR_US - 1).estimate_ppm for hour in range(300)]
    assert rates == ends
    assert len(set(rates)) > 20


@pytest.mark.parametrize("rate", [-20_000, -500, -1, 0, 11, 12, 13, 44, 1_000, 5_000])
def test_any_rate_has_a_premium_that_leads_to_it_unless_the_big_clamp_holds_it(rate: int) -> None:
    end = IndexPrice(0, 0, lambda _hour: rate).at((FIRST + 1) * HOUR_US - 1).estimate_ppm
    assert max(-5_000, min(rate, 5_000)) == end


def test_the_estimate_follows_the_documented_formula() -> None:
    percent = 10**7  # ppb
    assert 12 == estimate(round(0.01 * percent)), "the interest alone: 0.01 % for 8 h is 0.0012 % an hour"
    assert 12 == estimate(round(0.06 * percent)) == estimate(round(-0.04 * percent)), "within the small clamp"
    assert 62 == estimate(round(0.10 * percent)), "(0.10 - 0.05) / 8"
    assert -62 == estimate(round(-0.10 * percent))


def test_the_premium_moves_every_second_and_never_jumps() -> None:
    index = drawn()
    premiums = [index.at(FIRST * HOUR_US + second * 10**6).now_ppb for second in range(3 * 3_600)]
    steps = [abs(after - before) for before, after in pairwise(premiums)]
    assert 20_000 > max(steps), "20 of a million at most, at the full hours too"
    assert len(set(premiums)) > 0.9 * len(premiums)


def test_equal_seeds_have_equal_premiums_in_whatever_order_they_are_asked() -> None:
    times = [FIRST * HOUR_US + offset * 10**6 for offset in (5_000, 10, 9_000, 3_599, 3_600)]
    first, second = drawn(), drawn()
    assert {time: first.at(time) for time in times} == {time: second.at(time) for time in sorted(times)}
    assert first.at(times[0]) != drawn(seed=4).at(times[0]) != drawn(market_id=2).at(times[0])


def test_the_index_price_is_rounded_to_the_nearest_tick() -> None:
    assert (300_000, 299_850, 300_150) == tuple(
        Premium(ppb, 0, 0).index_ticks(300_000) for ppb in (1_000, 500_000, -500_000)
    )
