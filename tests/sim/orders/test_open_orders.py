"""Open orders: how they are cancelled, by one and by all, and when they expire."""

from __future__ import annotations

import pytest

from qubx_lighter.constants import Code
from qubx_lighter.sim.model.commands import AdvanceTime, CancelAll, CancelOrder
from qubx_lighter.sim.model.events import BookChanged
from tests.sim.desk import ALICE, BOB, DAY_MS, FEED, START, Desk


def test_orders_expire_at_their_time(desk: Desk) -> None:
    late = desk.order(desk.create("buy", 100, 290_000, OrderExpiry=START // 1000 + 600_001))
    order = desk.order(desk.create("buy", 100, 290_000, OrderExpiry=START // 1000 + 600_000))
    desk.now = START + 600_000_000 - 1
    desk.apply(AdvanceTime())
    assert "open" == order.status
    desk.now += 1
    desk.apply(AdvanceTime())
    assert ("canceled-expired", desk.now) == (order.status, order.updated_at)
    assert "open" == late.status
    assert [(290_000, 100)] == desk.bids()


def test_orders_expire_before_a_refused_command_too(desk: Desk) -> None:
    order = desk.order(desk.create("buy", 100, 290_000, OrderExpiry=START // 1000 + 600_000))
    desk.engine.drain()
    desk.now += 600_000_000
    assert Code.NOT_ACTIVE_ORDER == desk.cancel(order.order_index).code
    assert [(290_000, 0)] == [(event.price_ticks, event.lots) for event in desk.events(BookChanged)]


def test_outdated_expiries_are_forgotten(desk: Desk) -> None:
    kept = desk.order(desk.place(FEED, "buy", 100, 280_000))
    for _ in range(3_000):
        desk.apply(CancelOrder(FEED, 0, desk.place(FEED, "buy", 100, 290_000).order_index))
    assert len(desk.engine._sequencer.open_orders._expiries) < 1_100
    desk.now += 28 * DAY_MS * 1000
    desk.apply(AdvanceTime())
    assert "canceled-expired" == kept.status


def test_cancel_by_either_index(desk: Desk) -> None:
    first = desk.order(desk.create("buy", 100, 290_000, ClientOrderIndex=5))
    second = desk.order(desk.create("buy", 100, 290_000))
    assert desk.cancel(5).ok
    assert desk.cancel(second.order_index).ok
    assert ["canceled", "canceled"] == [first.status, second.status]
    assert [] == desk.bids()
    assert [second, first] == desk.engine.inactive_orders(ALICE)


def test_cancel_of_what_is_not_resting_is_refused(desk: Desk) -> None:
    order = desk.order(desk.create("buy", 100, 290_000, ClientOrderIndex=5))
    theirs = desk.order(desk.create("buy", 100, 290_000, account=BOB))
    assert Code.NOT_ACTIVE_LIMIT_ORDER == desk.cancel(6).code
    assert Code.NOT_ACTIVE_LIMIT_ORDER == desk.cancel(0).code
    assert Code.NOT_ACTIVE_LIMIT_ORDER == desk.cancel(5, market_id=1).code
    assert Code.NOT_ACTIVE_LIMIT_ORDER == desk.cancel(theirs.order_index).code
    desk.cancel(5)
    assert Code.NOT_ACTIVE_ORDER == desk.cancel(5).code
    assert Code.NOT_ACTIVE_ORDER == desk.cancel(order.order_index).code
    assert Code.NOT_ACTIVE_ORDER == desk.modify(order.order_index, 100, 290_000).code
    assert Code.NOT_ACTIVE_LIMIT_ORDER == desk.modify(6, 100, 290_000).code
    assert 2 == desk.engine.next_nonce(ALICE, 4)


def test_cancel_all_of_the_account(desk: Desk) -> None:
    mine = [
        desk.order(desk.create("buy", 100, 290_000)),
        desk.order(desk.create("sell", 100, 900_000, MarketIndex=1)),
    ]
    theirs = desk.order(desk.create("buy", 100, 290_000, account=BOB))
    assert desk.cancel_all().ok
    assert ["canceled", "canceled", "open"] == [order.status for order in (*mine, theirs)]
    assert desk.cancel_all().ok  # nothing left is no error


@pytest.mark.parametrize("market_id", [0, 1])
def test_cancel_all_of_one_market(desk: Desk, market_id: int) -> None:
    orders = [
        desk.order(desk.create("buy", 100, 290_000)),
        desk.order(desk.create("sell", 100, 900_000, MarketIndex=1)),
    ]
    assert desk.cancel_all(L2TxAttributes={"5": market_id}).ok
    assert ["canceled", "open"] == [orders[market_id].status, orders[1 - market_id].status]


def test_local_participants_cancel_too(desk: Desk) -> None:
    orders = [desk.order(desk.place(FEED, "buy", 100, 290_000 + i, client_order_index=i)) for i in range(3)]
    assert desk.apply(CancelOrder(FEED, 0, 2)).ok
    assert Code.NOT_ACTIVE_ORDER == desk.apply(CancelOrder(FEED, 0, 2)).code
    assert ["open", "open", "canceled"] == [order.status for order in orders]
    assert desk.apply(CancelAll(FEED)).ok
    assert [] == desk.bids()
    assert Code.ACCOUNT_NOT_FOUND == desk.apply(CancelAll(404)).code
