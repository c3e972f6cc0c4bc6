"""Orders that wait for the mark price: when they are triggered, what becomes of them, and how they are amended."""

from __future__ import annotations

import pytest

from qubx_lighter.constants import Code
from qubx_lighter.sim.model.commands import AdvanceTime
from qubx_lighter.sim.model.events import OrderChanged
from tests.sim.desk import ALICE, FEED, MID, OTHER_FEED, Desk
from tests.sim.orders.waiting import (
    ANY,
    GTT,
    IOC,
    POST_ONLY,
    PROFIT,
    PROFIT_LIMIT,
    STOP,
    STOP_LIMIT,
    long_desk,
    quote,
    stop,
)


@pytest.fixture
def desk() -> Desk:
    return long_desk()


def test_a_stop_waits_off_the_book_until_the_mark_meets_its_trigger(desk: Desk) -> None:
    order = desk.order(stop(desk, "sell", 400, MID - 1_000, MID - 2_000, ReduceOnly=1))
    assert ("pending", "mark-price", 0) == (order.status, order.trigger_status, order.trigger_time_ms)
    assert [(MID - 10, 10_000)] == desk.bids()
    assert [order] == desk.engine.active_orders(ALICE)
    quote(desk, MID - 500)
    assert "pending" == order.status
    quote(desk, MID - 1_010)
    assert ("filled", "na", desk.now // 1000) == (order.status, order.trigger_status, order.trigger_time_ms)
    assert 600 == desk.lots()
    trade = desk.engine.trades(account_index=ALICE)[0]
    assert (order.order_index, MID - 1_020) == (trade.ask_order_index, trade.price_ticks)
    assert order.tx_hash != trade.tx_hash  # it was the mark price that executed it


@pytest.mark.parametrize(
    ("kind", "side", "trigger", "mid"),
    [
        (STOP, "sell", MID - 1_000, MID - 1_000),
        (STOP, "buy", MID + 1_000, MID + 1_000),
        (PROFIT, "sell", MID + 1_000, MID + 1_000),
        (PROFIT, "buy", MID - 1_000, MID - 1_000),
    ],
)
def test_each_kind_waits_for_its_own_direction(desk: Desk, kind: int, side: str, trigger: int, mid: int) -> None:
    bound = trigger - 3_000 if side == "sell" else trigger + 3_000
    order = desk.order(stop(desk, side, 100, trigger, bound, Type=kind))
    quote(desk, 2 * MID - mid)
    assert "pending" == order.status
    assert desk.place(
        FEED, "sell" if mid < MID else "buy", 1_000, mid, market_id=1
    ).ok  # another market is none of its business
    assert "pending" == order.status
    quote(desk, mid - 10 if mid < MID else mid + 10)  # the mark is moved to the nearer side of the touch
    assert "filled" == order.status


def test_one_that_is_met_already_is_executed_at_once(desk: Desk) -> None:
    order = desk.order(stop(desk, "sell", 100, MID + 1_000, MID - 1_000))
    assert ("filled", 100) == (order.status, order.filled_lots)


def test_beyond_its_bound_it_ends_and_does_not_chase(desk: Desk) -> None:
    order = desk.order(stop(desk, "sell", 400, MID - 1_000, MID - 1_500))
    quote(desk, MID - 5_000)
    assert ("canceled-too-much-slippage", 0) == (order.status, order.filled_lots)


def test_without_anybody_to_trade_with_it_ends(desk: Desk) -> None:
    order = desk.order(stop(desk, "sell", 100, MID - 1_000, ANY))
    for resting in desk.engine.active_orders(FEED):
        desk.engine._sequencer.open_orders.cancel(resting)
    desk.place(FEED, "sell", 100, MID - 2_000)
    assert "canceled-not-enough-liquidity" == order.status


@pytest.mark.parametrize(
    ("tif", "status"), [(GTT, "open"), (POST_ONLY, "open"), (IOC, "canceled")], ids=["gtt", "post-only", "ioc"]
)
def test_a_limit_rests_after_its_trigger_as_its_time_in_force_says(desk: Desk, tif: int, status: str) -> None:
    order = desk.order(stop(desk, "sell", 400, MID + 1_000, MID + 2_000, Type=PROFIT_LIMIT, TimeInForce=tif))
    quote(desk, MID + 1_010)
    assert (status, "na") == (order.status, order.trigger_status)
    assert ((MID + 2_000, 400) in desk.asks()) == (status == "open")


def test_a_post_only_limit_that_would_take_at_its_trigger_ends(desk: Desk) -> None:
    order = desk.order(stop(desk, "sell", 400, MID + 1_000, MID, Type=PROFIT_LIMIT, TimeInForce=POST_ONLY))
    quote(desk, MID + 2_000)
    assert "canceled-post-only" == order.status


def test_a_triggered_limit_that_the_margin_does_not_bear_ends(desk: Desk) -> None:
    order = desk.order(stop(desk, "buy", 70_000, MID + 1_000, MID + 900, Type=STOP_LIMIT, TimeInForce=GTT))
    quote(desk, MID + 1_010)
    assert ("canceled-margin-not-allowed", [MID + 1_000]) == (order.status, [price for price, _ in desk.bids()])


def test_triggers_are_met_in_the_order_of_the_price(desk: Desk) -> None:
    far = desk.order(stop(desk, "sell", 100, MID - 2_000, ANY))
    near = desk.order(stop(desk, "sell", 100, MID - 1_000, ANY))
    twin = desk.order(stop(desk, "sell", 100, MID - 1_000, ANY))
    desk.engine.drain()
    quote(desk, MID - 3_000)
    done = [event.order.order_index for event in desk.events(OrderChanged) if event.order.account_index == ALICE]
    assert [near.order_index, twin.order_index, far.order_index] == done


def test_a_trade_that_a_trigger_makes_may_meet_the_next(desk: Desk) -> None:
    desk.place(FEED, "buy", 200, MID - 4_000)
    deep = desk.order(stop(desk, "sell", 50, MID - 3_000, ANY))
    order = desk.order(stop(desk, "sell", 10_050, MID - 10, ANY, ReduceOnly=0))
    desk.place(OTHER_FEED, "sell", 50, MID - 10)
    assert ["filled", "filled"] == [order.status, deep.status]


def test_expiry_ends_what_still_waits(desk: Desk) -> None:
    order = desk.order(stop(desk, "sell", 100, MID - 1_000, ANY, OrderExpiry=desk.now // 1000 + 300_000))
    desk.now += 300_000_000
    desk.apply(AdvanceTime())
    assert "canceled-expired" == order.status
    quote(desk, MID - 2_000)
    assert 1_000 == desk.lots()


def test_cancel_and_cancel_all_end_what_waits(desk: Desk) -> None:
    one, other = (desk.order(stop(desk, "sell", 100, MID - 1_000, ANY, ClientOrderIndex=index)) for index in (7, 8))
    assert desk.cancel(7).ok
    assert desk.cancel_all(L2TxAttributes={"5": 0}).ok
    assert ["canceled", "canceled"] == [one.status, other.status]


def test_a_client_order_index_counts_while_it_waits(desk: Desk) -> None:
    assert stop(desk, "sell", 100, MID - 1_000, ANY, ClientOrderIndex=7).ok
    assert Code.DUPLICATE_CLIENT_ORDER_INDEX == desk.create("buy", 100, MID - 1_000, ClientOrderIndex=7).code


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"TriggerPrice": 0}, 21729),
        ({"TriggerPrice": 2**32}, 21729),
        ({"OrderExpiry": 0}, Code.INVALID_EXPIRY),
        ({"TimeInForce": GTT}, Code.INVALID_TX_INFO),
        ({"BaseAmount": 0}, Code.INVALID_BASE_AMOUNT),
        ({"BaseAmount": 10}, Code.AMOUNT_TOO_LOW),
        ({"IsAsk": 0, "ReduceOnly": 1}, Code.REDUCE_ONLY_DIRECTION),
    ],
)
def test_what_no_stop_is_is_refused(desk: Desk, fields: dict[str, int], code: int) -> None:
    assert code == stop(desk, "sell", 100, MID - 1_000, ANY, **fields).code
    assert [] == desk.engine.active_orders(ALICE)


def test_size_0_is_the_position_at_the_trigger(desk: Desk) -> None:
    order = desk.order(stop(desk, "sell", 0, MID - 1_000, ANY, ReduceOnly=1))
    assert desk.create("buy", 500, MID + 10).ok
    quote(desk, MID - 2_000)
    assert ("filled", 1_500, 1_500) == (order.status, order.initial_lots, order.filled_lots)
    assert 0 == desk.lots()


def test_reduce_only_orders_that_wait_end_with_the_position(desk: Desk) -> None:
    order = desk.order(stop(desk, "sell", 100, MID - 1_000, ANY, ReduceOnly=1))
    free = desk.order(stop(desk, "sell", 100, MID - 1_000, ANY))
    assert desk.create("sell", 1_000, MID - 10).ok
    assert ("canceled-reduce-only", "pending") == (order.status, free.status)


def test_an_amend_moves_trigger_price_and_size(desk: Desk) -> None:
    order = desk.order(stop(desk, "sell", 100, MID - 1_000, ANY))
    assert desk.modify(order.order_index, 200, ANY + 1, TriggerPrice=MID - 2_000).ok
    assert (200, 200, ANY + 1, MID - 2_000, 1, "pending") == (
        order.initial_lots,
        order.remaining_lots,
        order.price_ticks,
        order.trigger_price_ticks,
        order.order_version,
        order.status,
    )
    quote(desk, MID - 1_500)
    assert "pending" == order.status
    assert desk.modify(order.order_index, 200, ANY + 1, TriggerPrice=MID - 1_000).ok  # met: executed at once
    assert ("filled", 800) == (order.status, desk.lots())


def test_a_trigger_moved_there_and_back_counts_once(desk: Desk) -> None:
    order = desk.order(stop(desk, "sell", 100, MID - 1_000, ANY))
    for trigger in (MID - 3_000, MID - 1_000, MID - 3_000, MID - 1_000):
        assert desk.modify(order.order_index, 100, ANY, TriggerPrice=trigger).ok
    quote(desk, MID - 4_000)
    assert ("filled", 900) == (order.status, desk.lots())


@pytest.mark.parametrize(
    ("lots", "trigger", "code"),
    [(100, 0, 21729), (0, MID - 2_000, Code.INVALID_BASE_AMOUNT), (10, MID - 2_000, Code.AMOUNT_TOO_LOW)],
)
def test_an_amend_keeps_the_order_what_it_is(desk: Desk, lots: int, trigger: int, code: int) -> None:
    order = desk.order(stop(desk, "sell", 100, MID - 1_000, ANY))
    assert code == desk.modify(order.order_index, lots, ANY, TriggerPrice=trigger).code
    assert (100, MID - 1_000, 0) == (order.initial_lots, order.trigger_price_ticks, order.order_version)


def test_size_0_keeps_having_none(desk: Desk) -> None:
    order = desk.order(stop(desk, "sell", 0, MID - 1_000, ANY, ReduceOnly=1))
    assert Code.INVALID_BASE_AMOUNT == desk.modify(order.order_index, 100, ANY, TriggerPrice=MID - 2_000).code
    assert desk.modify(order.order_index, 0, 1, TriggerPrice=MID - 2_000).ok
    assert (0, MID - 2_000) == (order.initial_lots, order.trigger_price_ticks)


def test_once_triggered_it_is_amended_as_any_limit_order(desk: Desk) -> None:
    order = desk.order(stop(desk, "sell", 400, MID + 1_000, MID + 2_000, Type=PROFIT_LIMIT, TimeInForce=GTT))
    quote(desk, MID + 1_010)
    assert 21729 == desk.modify(order.order_index, 400, MID + 2_500, TriggerPrice=MID + 1_000).code
    assert desk.modify(order.order_index, 300, MID + 2_500).ok
    assert (MID + 2_500, 300) in desk.asks()
