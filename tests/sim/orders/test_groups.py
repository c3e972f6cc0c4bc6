"""Groups of orders: children wait for their parent, and one of two ends the other."""

from __future__ import annotations

import pytest

from qubx_lighter.constants import Code
from qubx_lighter.sim.model.commands import AdvanceTime
from tests.sim.desk import ALICE, FEED, MID, Desk
from tests.sim.orders.waiting import (
    ANY,
    IOC,
    POST_ONLY,
    PROFIT,
    PROFIT_LIMIT,
    STOP,
    by_client,
    entry,
    group,
    leg,
    long_desk,
    quote,
    statuses,
    stop,
)


@pytest.fixture
def desk() -> Desk:
    return long_desk()


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
