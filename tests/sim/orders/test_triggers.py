"""Engine: orders that wait for the mark price, alone and in groups."""

from __future__ import annotations

from typing import Any

import pytest

from qubx_lighter.constants import Code, OrderType, TimeInForce, TxType
from qubx_lighter.sim.model.commands import AdvanceTime, Result
from qubx_lighter.sim.model.events import OrderChanged
from qubx_lighter.sim.model.records import Order
from tests.sim.desk import ALICE, DAY_MS, FEED, OTHER_FEED, START, Desk

MID = 300_000
ANY = 200_000  # a bound that is never met, and still worth the smallest order
IOC, GTT, POST_ONLY = (int(each) for each in TimeInForce)
STOP, STOP_LIMIT = int(OrderType.STOP_LOSS), int(OrderType.STOP_LOSS_LIMIT)
PROFIT, PROFIT_LIMIT = int(OrderType.TAKE_PROFIT), int(OrderType.TAKE_PROFIT_LIMIT)


@pytest.fixture
def desk() -> Desk:
    """Alice is long 1,000 lots at the middle of a quote of 10,000 on both sides."""
    desk = Desk()
    quote(desk, MID)
    assert "filled" == desk.order(desk.create("buy", 1_000, MID + 10)).status
    desk.engine.drain()
    return desk


def quote(desk: Desk, mid: int, lots: int = 10_000) -> None:
    """Move the feed's quotes, and with them the mark price."""
    for account in (8, 9):
        for order in desk.engine.active_orders(account):
            desk.engine._sequencer.open_orders.cancel(order)
    sides = {"buy": mid - 10, "sell": mid + 10}
    for side in ("sell", "buy") if mid > MID else ("buy", "sell"):  # whoever is triggered meets somebody
        desk.place(FEED, side, lots, sides[side])


def stop(desk: Desk, side: str, lots: int, trigger: int, price: int, **fields: Any) -> Result:
    body = {"Type": STOP, "TimeInForce": IOC, "TriggerPrice": trigger}
    return desk.create(side, lots, price, **(body | fields))


def group(desk: Desk, grouping: int, *orders: dict[str, int], **fields: Any) -> Result:
    common = {"MarketIndex": 0, "OrderExpiry": desk.now // 1000 + DAY_MS}
    bodies = [common | order for order in orders]
    return desk.send(TxType.CREATE_GROUPED_ORDERS, GroupingType=grouping, Orders=bodies, **fields)


def entry(side: str, lots: int, price: int, client: int = 1, **fields: int) -> dict[str, int]:
    body = {"Type": 0, "TimeInForce": GTT, "ReduceOnly": 0, "TriggerPrice": 0}
    return (
        body | {"ClientOrderIndex": client, "BaseAmount": lots, "Price": price, "IsAsk": int(side == "sell")} | fields
    )


def leg(kind: int, trigger: int, price: int, client: int, *, lots: int = 0, side: str = "sell") -> dict[str, int]:
    tif = IOC if kind in (STOP, PROFIT) else GTT
    return entry(side, lots, price, client, Type=kind, TimeInForce=tif, ReduceOnly=1, TriggerPrice=trigger)


def by_client(desk: Desk, *indexes: int) -> list[Order]:
    return [desk.engine.orders_by_client_index(ALICE, [index])[0] for index in indexes]


def statuses(desk: Desk, *indexes: int) -> list[str]:
    return [order.status for order in by_client(desk, *indexes)]


# --- single orders ---------------------------------------------------------------------------------------------------


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


# --- amends ----------------------------------------------------------------------------------------------------------


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


# --- groups ----------------------------------------------------------------------------------------------------------


def test_children_wait_for_their_parent_and_take_its_size(desk: Desk) -> None:
    result = group(desk, 1, entry("buy", 300, MID - 1_000), leg(STOP, MID - 5_000, ANY, 2))
    parent, child = by_client(desk, 1, 2)
    assert result.order_index == parent.order_index
    assert ("open", (child.order_index,)) == (parent.status, parent.to_trigger)
    assert ("pending", "parent-order", 0, parent.order_index) == (
        child.status,
        child.trigger_status,
        child.initial_lots,
        child.parent_order_index,
    )
    desk.place(FEED, "sell", 100, MID - 1_000)
    assert (100, "parent-order") == (parent.filled_lots, child.trigger_status)
    desk.place(FEED, "sell", 200, MID - 1_000)
    assert ("filled", "mark-price", 300, 300) == (
        parent.status,
        child.trigger_status,
        child.initial_lots,
        child.remaining_lots,
    )
    quote(desk, MID - 6_000)
    assert ("filled", 1_000) == (child.status, desk.lots())


def test_a_child_takes_what_an_entry_that_ends_in_the_book_came_to(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, MID + 5)
    market = entry("buy", 300, MID + 5, Type=1, TimeInForce=IOC, OrderExpiry=0)
    assert group(desk, 1, market, leg(STOP, MID - 5_000, ANY, 2)).ok
    parent, child = by_client(desk, 1, 2)
    assert ("canceled-too-much-slippage", 100) == (parent.status, parent.filled_lots)
    assert ("pending", "mark-price", 100) == (child.status, child.trigger_status, child.initial_lots)


@pytest.mark.parametrize("filled", [0, 100])
@pytest.mark.parametrize("how", ["cancel", "expire"])
def test_a_parent_that_is_cancelled_or_expires_takes_its_children_with_it(desk: Desk, how: str, filled: int) -> None:
    short = desk.now // 1000 + 300_000
    legs = [leg(STOP, MID - 5_000, ANY, 2), leg(PROFIT, MID + 5_000, ANY, 3)]
    orders = [order | {"OrderExpiry": short} for order in (entry("buy", 300, MID - 1_000), *legs)]
    assert group(desk, 3, *orders).ok
    if filled:
        desk.place(FEED, "sell", filled, MID - 1_000)
    if how == "cancel":
        assert desk.cancel(1).ok
    else:
        desk.now += 300_000_000
        desk.apply(AdvanceTime())
    ended = ["canceled", "canceled-child"] if how == "cancel" else ["canceled-expired", "canceled-expired"]
    assert [*ended, ended[1]] == statuses(desk, 1, 2, 3)


def test_children_of_an_entry_that_fails_end_with_it(desk: Desk) -> None:
    assert group(desk, 1, entry("buy", 300, MID + 500, TimeInForce=POST_ONLY), leg(STOP, MID - 5_000, ANY, 2)).ok
    assert ["canceled-post-only", "canceled-child"] == statuses(desk, 1, 2)


def test_of_two_that_cancel_each_other_the_first_triggered_ends_the_other(desk: Desk) -> None:
    orders = [leg(STOP, MID - 1_000, ANY, 1, lots=400), leg(PROFIT_LIMIT, MID + 1_000, MID + 1_500, 2, lots=400)]
    assert group(desk, 2, *orders).ok
    one, other = by_client(desk, 1, 2)
    assert (other.order_index, one.order_index) == (one.to_cancel, other.to_cancel)
    assert ["mark-price", "mark-price"] == [one.trigger_status, other.trigger_status]
    quote(desk, MID + 1_010)
    assert (["canceled-oco", "open"], 1_000) == (statuses(desk, 1, 2), desk.lots())


def test_a_cancel_of_one_of_two_leaves_the_other(desk: Desk) -> None:
    orders = [leg(STOP, MID - 1_000, ANY, 1, lots=400), leg(PROFIT, MID + 1_000, ANY, 2, lots=400)]
    assert group(desk, 2, *orders).ok
    assert desk.cancel(1).ok
    assert ["canceled", "pending"] == statuses(desk, 1, 2)
    quote(desk, MID + 1_010)
    assert (["canceled", "filled"], 600) == (statuses(desk, 1, 2), desk.lots())


def test_an_entry_with_both_ends(desk: Desk) -> None:
    legs = [leg(STOP, MID - 5_000, ANY, 2), leg(PROFIT, MID + 5_000, ANY, 3)]
    assert group(desk, 3, entry("buy", 300, MID + 10), *legs).ok
    assert ["filled", "pending", "pending"] == statuses(desk, 1, 2, 3)
    assert [300, 300] == [order.initial_lots for order in by_client(desk, 2, 3)]
    quote(desk, MID + 5_010)
    assert (["filled", "canceled-oco", "filled"], 1_000) == (statuses(desk, 1, 2, 3), desk.lots())


def test_a_child_without_a_position_to_close_ends(desk: Desk) -> None:
    desk.create("sell", 3_000, MID - 10)  # short 2,000: the entry below does not open a long position
    assert group(desk, 1, entry("buy", 300, MID + 10), leg(STOP, MID - 5_000, ANY, 2)).ok
    assert ["filled", "canceled-reduce-only"] == statuses(desk, 1, 2)


def test_a_childs_trigger_is_amended_while_it_has_no_size(desk: Desk) -> None:
    assert group(desk, 1, entry("buy", 300, MID - 1_000), leg(STOP, MID - 5_000, ANY, 2)).ok
    assert Code.INVALID_BASE_AMOUNT == desk.modify(2, 300, 1, TriggerPrice=MID - 4_000).code
    assert desk.modify(2, 0, 1, TriggerPrice=MID - 4_000).ok
    (child,) = by_client(desk, 2)
    assert (MID - 4_000, 0, "parent-order") == (child.trigger_price_ticks, child.initial_lots, child.trigger_status)


@pytest.mark.parametrize(
    ("grouping", "orders"),
    [
        (4, [entry("buy", 300, MID), leg(STOP, 1, ANY, 2)]),
        (1, [entry("buy", 300, MID)]),
        (1, [entry("buy", 300, MID), leg(STOP, 1, ANY, 2, side="buy")]),
        (1, [entry("buy", 300, MID), leg(STOP, 1, ANY, 2, lots=300)]),
        (1, [entry("buy", 300, MID), entry("sell", 300, MID, 2)]),
        (1, [entry("buy", 300, MID, Type=9), leg(STOP, 1, ANY, 2)]),
        (3, [entry("buy", 300, MID), leg(STOP, 1, ANY, 2), leg(STOP, 1, ANY, 3)]),
    ],
)
def test_what_is_no_group_is_refused_whole(desk: Desk, grouping: int, orders: list[dict[str, int]]) -> None:
    assert Code.INVALID_TX_INFO == group(desk, grouping, *orders).code
    assert [] == desk.engine.active_orders(ALICE)


def test_a_group_with_one_bad_order_is_refused_whole(desk: Desk) -> None:
    assert stop(desk, "sell", 100, MID - 1_000, ANY, ClientOrderIndex=2).ok
    refused = group(desk, 1, entry("buy", 300, MID), leg(STOP, MID - 5_000, ANY, 2))
    assert Code.DUPLICATE_CLIENT_ORDER_INDEX == refused.code
    assert [2] == [order.client_order_index for order in desk.engine.active_orders(ALICE)]


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
