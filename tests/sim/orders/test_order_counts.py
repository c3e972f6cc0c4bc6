"""How many orders an account may have: those that rest, and those that wait."""

from __future__ import annotations

import pytest

from tests.sim.desk import FEED, MID, START, Desk
from tests.sim.orders.waiting import ANY, PROFIT, STOP, group, leg, long_desk, stop


@pytest.fixture
def desk() -> Desk:
    return long_desk()


def test_orders_that_wait_have_counts_of_their_own(desk: Desk) -> None:
    for _ in range(15):
        assert stop(desk, "sell", 100, MID - 1_000, ANY).ok
    assert (
        21720 == group(desk, 2, leg(STOP, MID - 1_000, ANY, 1, lots=9), leg(PROFIT, MID + 1_000, ANY, 2, lots=9)).code
    )
    assert stop(desk, "sell", 100, MID - 1_000, ANY).ok
    assert 21720 == stop(desk, "sell", 100, MID - 1_000, ANY).code
    assert desk.create("buy", 100, MID - 2_000).ok
    assert stop(desk, "sell", 100, 9_000_000, ANY, MarketIndex=1).ok


def test_orders_in_the_book_have_counts_too() -> None:
    desk = Desk()
    desk.account().collateral_micro = 10**15
    for number in range(1_000):
        assert desk.create("buy", 100, 290_000 - number).ok
    assert 21718 == desk.create("buy", 100, 289_000).code
    assert desk.ioc("buy", 100, 289_000).ok  # does not stay
    for number in range(500):
        assert desk.create("buy", 100, 290_000 - number, MarketIndex=1).ok
    assert 21717 == desk.create("buy", 100, 289_000, MarketIndex=1).code
    assert all(desk.place(FEED, "buy", 100, 280_000 - number).ok for number in range(1_600)), "the feed stands for many"
    assert START == desk.now
