"""Scheduled cancel-alls: queued, called off, done at their time."""

from __future__ import annotations

from typing import Any

import pytest

from qubx_lighter.constants import Code
from qubx_lighter.sim.model.commands import Result
from tests.sim.desk import BOB, DAY_MS, MID, START, Desk, quoted_desk

NOW_MS = START // 1000


@pytest.fixture
def desk() -> Desk:
    return quoted_desk()


def schedule(desk: Desk, seconds: float, **fields: Any) -> Result:
    return desk.cancel_all(TimeInForce=1, Time=desk.now // 1000 + round(seconds * 1000), **fields)


def test_the_venue_cancels_all_at_the_time(desk: Desk) -> None:
    orders = [desk.order(desk.create("buy", 100, MID - 1_000 - n)) for n in range(3)]
    stop = desk.order(desk.create("buy", 100, MID + 9_000, Type=2, TimeInForce=0, TriggerPrice=MID + 9_000))
    other = desk.order(desk.create("buy", 100, MID - 1_000, account=BOB))
    assert schedule(desk, 300).ok
    assert desk.now // 1000 + 300_000 == desk.account().cancel_all_time_ms
    desk.wait(299.999)
    assert ["open"] * 3 == [order.status for order in orders]
    desk.wait(0.001)
    assert ["canceled"] * 4 == [order.status for order in (*orders, stop)]
    assert ("open", 0) == (other.status, desk.account().cancel_all_time_ms)
    assert schedule(desk, 300).ok


def test_one_is_queued_until_it_is_called_off(desk: Desk) -> None:
    order = desk.order(desk.create("buy", 100, MID - 1_000))
    assert desk.cancel_all(TimeInForce=2).ok  # nothing to call off: nothing happens
    assert schedule(desk, 300).ok
    assert 21712 == schedule(desk, 600).code
    assert desk.cancel_all(TimeInForce=2).ok
    assert schedule(desk, 600).ok
    desk.wait(599)
    assert "open" == order.status
    desk.wait(1)
    assert "canceled" == order.status


@pytest.mark.parametrize(
    "fields",
    [
        {"TimeInForce": 0, "Time": 1},
        {"TimeInForce": 1, "Time": 0},
        {"TimeInForce": 1, "Time": NOW_MS + 299_999},
        {"TimeInForce": 1, "Time": NOW_MS + 15 * DAY_MS + 1},
        {"TimeInForce": 1, "Time": NOW_MS + 300_000, "L2TxAttributes": {"5": 0}},
        {"TimeInForce": 2, "Time": NOW_MS + 300_000},
        {"TimeInForce": 3},
    ],
)
def test_other_times_are_refused(desk: Desk, fields: dict[str, Any]) -> None:
    order = desk.order(desk.create("buy", 100, MID - 1_000))
    assert Code.INVALID_TX_INFO == desk.cancel_all(**fields).code
    assert ("open", 0) == (order.status, desk.account().cancel_all_time_ms)


@pytest.mark.parametrize("ahead", [300_000, 15 * DAY_MS])
def test_times_at_the_bounds_are_taken(desk: Desk, ahead: int) -> None:
    assert desk.cancel_all(TimeInForce=1, Time=NOW_MS + ahead).ok
