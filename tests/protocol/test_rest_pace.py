"""RestPace: what the venue allows one address in any minute, and no less."""

from __future__ import annotations

import random

import pytest

from qubx_lighter.protocol.rest_pace import PREMIUM_WEIGHT, RestPace


def times(pace: RestPace, endpoints: list[str], now: float = 0.0) -> list[float]:
    return [pace.reserve(endpoint, now) for endpoint in endpoints]


def test_without_a_tier_a_minute_takes_60_requests() -> None:
    assert [0.0] * 60 + [60.0] * 60 + [120.0] == times(RestPace(), ["candles"] * 121)


def test_without_a_tier_a_minute_takes_only_40_requests_for_trades() -> None:
    assert [0.0] * 40 + [60.0] == times(RestPace(), ["trades"] * 41)


def test_with_a_tier_the_weights_count() -> None:
    assert [0.0] * 80 + [60.0] == times(RestPace(weight=PREMIUM_WEIGHT), ["candles"] * 81)
    assert [0.0] * 40 + [60.0] == times(RestPace(weight=PREMIUM_WEIGHT), ["recentTrades"] * 41)


def test_a_budget_below_one_request_still_lets_one_through() -> None:
    assert [0.0, 60.0] == times(RestPace(weight=100), ["candles"] * 2)


@pytest.mark.parametrize("seed", range(5))
def test_no_minute_holds_more_than_is_allowed_and_nobody_waits_longer_than_needed(seed: int) -> None:
    print("seed", seed)
    source = random.Random(seed)
    pace, now, sent = RestPace(requests=20), 0.0, []
    for _ in range(500):
        now += source.expovariate(0.5)
        kind = source.choice(["candles", "trades"])
        at = pace.reserve(kind, now)
        cost = {"candles": 1.0, "trades": 1.5}[kind]
        window = sum(spent for then, spent in sent if then > at - 60 + 1e-6)  # what floats leave behind
        assert window + cost <= 20
        if at > now and at > sent[-1][0]:  # a moment earlier it would have been one too many
            assert sum(spent for then, spent in sent if then > at - 60.001) + cost > 20
        sent.append((at, cost))
