"""TWAP: slices in time, no worse than the worst price."""

from __future__ import annotations

from typing import Any

import pytest

from qubx_lighter.constants import Code, OrderType
from qubx_lighter.sim.model.records import Order
from tests.sim.desk import ALICE, DAY_MS, FEED, MID, START, Desk, quoted_desk

NOW_MS = START // 1000


@pytest.fixture
def desk() -> Desk:
    return quoted_desk()


def twap(
    desk: Desk, lots: int, *, side: str = "buy", price: int = MID + 100, seconds: int = 300, **fields: Any
) -> Order:
    end = desk.now // 1000 + seconds * 1000
    return desk.order(desk.create(side, lots, price, Type=int(OrderType.TWAP), OrderExpiry=end, **fields))


def test_a_twap_is_worked_in_even_slices_until_its_end(desk: Desk) -> None:
    order = twap(desk, 1_000)
    assert ("pending", "twap") == (order.status, order.trigger_status)
    filled = []
    for _ in range(10):
        desk.wait(0 if not filled else 30)
        filled.append(order.filled_lots)
    assert list(range(100, 1_001, 100)) == filled
    assert ("filled", 1_000, 0) == (order.status, desk.lots(), order.remaining_lots)
    slices = [each for each in desk.engine.inactive_orders(ALICE) if each.order_type == 7]
    assert {(100, "filled", order.order_index, 0)} == {
        (each.filled_lots, each.status, each.parent_order_index, each.client_order_index) for each in slices
    }
    assert order.filled_quote_micro == sum(trade.quote_micro for trade in desk.engine.trades(account_index=ALICE))


def test_slices_happen_at_their_own_times_however_late_they_are_looked_at(desk: Desk) -> None:
    twap(desk, 1_000)
    desk.wait(100)
    times = [(trade.time - START) / 10**6 for trade in desk.engine.trades(account_index=ALICE)]
    assert [90, 60, 30, 0] == times


def test_a_cancel_stops_it_and_keeps_what_it_filled(desk: Desk) -> None:
    order = twap(desk, 1_000, ClientOrderIndex=7)
    desk.wait(35)
    assert desk.cancel(7).ok
    desk.wait(300)
    assert ("canceled", 200, 800, 200) == (order.status, order.filled_lots, order.remaining_lots, desk.lots())


def test_beyond_its_worst_price_it_waits_and_expires_with_the_rest(desk: Desk) -> None:
    order = twap(desk, 1_000, price=MID)
    desk.wait(150)
    assert (0, []) == (order.filled_lots, desk.engine.trades(account_index=ALICE))
    desk.place(FEED, "sell", 5_000, MID)
    desk.wait(60)
    assert 0 < order.filled_lots < 1_000
    for resting in desk.engine.active_orders(FEED):
        desk.engine._sequencer.open_orders.cancel(resting)
    filled = order.filled_lots
    desk.wait(90)
    assert ("canceled-expired", filled) == (order.status, order.filled_lots)


def test_a_slice_is_no_smaller_than_the_markets_minimum(desk: Desk) -> None:
    order = twap(desk, 120, seconds=3600)
    desk.wait(0)
    assert 50 == order.filled_lots
    desk.wait(60)
    assert "filled" == order.status


def test_a_reduce_only_twap_ends_with_the_position(desk: Desk) -> None:
    assert (
        Code.REDUCE_ONLY_DIRECTION
        == desk.create("sell", 100, 1, Type=int(OrderType.TWAP), ReduceOnly=1, OrderExpiry=NOW_MS + DAY_MS).code
    )
    desk.create("buy", 500, MID + 10)
    order = twap(desk, 1_000, side="sell", price=1, ReduceOnly=1)
    desk.wait(300)
    assert ("canceled-reduce-only", 500, 0) == (order.status, order.filled_lots, desk.lots())


def test_a_twap_is_amended_by_its_total(desk: Desk) -> None:
    order = twap(desk, 1_000, ClientOrderIndex=7)
    desk.wait(0)
    assert 21729 == desk.modify(7, 2_000, MID + 100, TriggerPrice=1).code
    assert desk.modify(7, 1_900, MID + 50).ok
    assert (1_900, 1_800, MID + 50) == (order.initial_lots, order.remaining_lots, order.price_ticks)
    assert desk.modify(7, 100, MID + 50).ok
    assert ("filled", 100) == (order.status, desk.lots())
