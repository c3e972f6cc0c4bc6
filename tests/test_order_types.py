"""Every kind of order that the plugin can ask for, end to end on the local venue: the rows of docs/orders.md."""

from __future__ import annotations

import re

import pytest
from qubx.core.basics import Order, OrderOrigin, OrderStatus, RejectCause
from qubx.core.events import (
    DealEvent,
    OrderCancelRejectedEvent,
    OrderEvent,
    OrderExpiredEvent,
    OrderRejectedEvent,
    OrderUpdatedEvent,
    OrderUpdateRejectedEvent,
)
from qubx.core.exceptions import InvalidOrderParameters

from qubx_lighter.constants import TxType
from qubx_lighter.protocol.order_table import SelfTrade
from qubx_lighter.sim.faults import Kind
from qubx_lighter.sim.model import commands, records
from qubx_lighter.sim.orders.order_entry import Change
from tests.live import ETH, MAKER, US, Desk, LiveVenue, desk_on

ACCEPTED, CANCELED, EXPIRED, FILLED, PARTIAL, REJECTED = (
    OrderStatus.ACCEPTED,
    OrderStatus.CANCELED,
    OrderStatus.EXPIRED,
    OrderStatus.FILLED,
    OrderStatus.PARTIALLY_FILLED,
    OrderStatus.REJECTED,
)


def move(venue: LiveVenue, mid: int) -> None:
    """Have the maker quote about another price; the mark price follows, and whoever that triggers meets somebody.

    Its old orders end where its new ones meet them.
    """
    old = venue.ask(venue.engine.active_orders, MAKER, ETH)
    rising = mid > venue.ask(venue.engine.mark_price_ticks, ETH)
    for is_ask in (True, False) if rising else (False, True):
        venue.rest(ETH, mid + 100 if is_ask else mid - 100, 100_000, is_ask=is_ask)
    for order in old:
        venue.execute(commands.CancelOrder(MAKER, ETH, order.order_index))


def wait(venue: LiveVenue, seconds: float) -> None:
    """Let time pass, for the venue and for Qubx."""
    venue.time.ahead_s += seconds
    venue.execute(commands.AdvanceTime())


def working(desk: Desk, amount: float, price: float | None = None, tif: str = "gtc", **options: object) -> Order:
    return desk.until_status(desk.submit("ETH-USDC", amount, price, tif, **options), ACCEPTED, PARTIAL)


def done(desk: Desk, amount: float, price: float | None = None, tif: str = "gtc", **options: object) -> Order:
    order = desk.submit("ETH-USDC", amount, price, tif, **options)
    desk.until(lambda: desk.order(order).status.is_terminal)
    return desk.order(order)


def buy(desk: Desk, quantity: float = 1.0) -> None:
    assert FILLED == done(desk, quantity, 4001.0, "ioc").status
    desk.until_equal()


def position(desk: Desk) -> float:
    return desk.account.get_position(desk.instrument("ETH-USDC")).quantity


def row_of(venue: LiveVenue, order: Order) -> records.Order:
    """The venue's own row of an order, working or ended."""
    index = int(order.venue_order_id or 0)
    rows = venue.ask(lambda: [*venue.engine.active_orders(US), *venue.engine.inactive_orders(US)])
    return next(row for row in rows if row.order_index == index)


def subscribe_quotes(desk: Desk) -> None:
    instrument = desk.instrument("ETH-USDC")
    desk.provider.subscribe("quote", {instrument})
    desk.until(lambda: desk.provider.get_quote(instrument) is not None)


def leg(desk: Desk, order: Order, suffix: str) -> Order:
    """Find what closes an order's position, which Qubx knows from a snapshot."""
    client_id = order.client_order_id + suffix
    desk.until(lambda: desk.account.get_order(client_id) is not None)
    found = desk.account.get_order(client_id)
    assert found is not None
    return found


# --- market ----------------------------------------------------------------------------------------------------------


def test_a_market_order_takes_what_is_there(desk: Desk, venue: LiveVenue) -> None:
    subscribe_quotes(desk)
    for tif in ("gtc", "gtt", "ioc"):
        order = done(desk, 0.5, tif=tif)
        row = row_of(venue, order)
        assert (FILLED, 1, 0) == (order.status, row.order_type, row.time_in_force)
        assert (404_101, 0) == (row.price_ticks, row.order_expiry_ms)  # 1 % beyond the ask
    desk.until_equal()
    assert 1.5 == position(desk)


def test_a_market_order_that_reduces_never_opens(desk: Desk, venue: LiveVenue) -> None:
    subscribe_quotes(desk)
    buy(desk, 0.5)
    order = done(desk, -0.8, reduce_only=True)
    desk.until_equal()
    assert (CANCELED, 0.5, 0.0) == (order.status, order.filled_quantity, position(desk))


# --- limit -----------------------------------------------------------------------------------------------------------


def test_a_limit_order_rests(desk: Desk, venue: LiveVenue) -> None:
    for tif, options, venue_tif in (
        ("gtc", {}, 1),
        ("GTT", {}, 1),
        ("gtx", {}, 2),
        ("post_only", {}, 2),
        ("gtc", {"post_only": True}, 2),
    ):
        row = row_of(venue, working(desk, 0.5, 3990.0, tif, **options))
        assert (0, venue_tif, "open") == (row.order_type, row.time_in_force, row.status)
        assert 28 * 86_400 == pytest.approx((row.order_expiry_ms - row.created_at // 1000) / 1000, abs=5)
    desk.until_equal()


def test_a_limit_order_that_is_immediate_or_cancel_leaves_nothing(desk: Desk, venue: LiveVenue) -> None:
    order = done(desk, 15.0, 4001.0, "ioc")
    desk.until_equal()
    assert (CANCELED, 10.0, 0) == (order.status, position(desk), row_of(venue, order).order_expiry_ms)


def test_a_limit_order_that_reduces_rests_and_ends_with_the_position(desk: Desk, venue: LiveVenue) -> None:
    buy(desk)
    orders = [working(desk, -0.4, 4050.0, tif, reduce_only=True) for tif in ("gtc", "gtx")]
    desk.until_equal()
    done(desk, -1.0, 3999.0, "ioc")
    for order in orders:
        desk.until_status(order, CANCELED)
        assert "canceled-reduce-only" == row_of(venue, desk.order(order)).status
    desk.until_equal()


def test_an_immediate_limit_order_that_reduces_never_opens(desk: Desk) -> None:
    buy(desk, 0.5)
    order = done(desk, -0.8, 3999.0, "ioc", reduce_only=True)
    desk.until_equal()
    assert (CANCELED, 0.5, 0.0) == (order.status, order.filled_quantity, position(desk))


def test_an_order_expires_at_its_own_time(desk: Desk, venue: LiveVenue) -> None:
    orders = [working(desk, 0.5, 3990.0, tif, expires_in_s=360) for tif in ("gtc", "gtx")]
    wait(venue, 350)
    desk.until_equal()
    assert [ACCEPTED, ACCEPTED] == [desk.order(order).status for order in orders]
    wait(venue, 11)
    for order in orders:
        desk.until_status(order, EXPIRED)
    desk.until_equal()
    assert 2 == len(desk.of_type(OrderExpiredEvent))


def test_a_post_only_price_that_would_cross_is_moved_where_that_is_asked_for(desk: Desk, venue: LiveVenue) -> None:
    subscribe_quotes(desk)
    moved = working(desk, 0.5, 4001.5, "gtx", reprice_if_crossing=True)
    desk.until_equal()
    assert 400_099 == row_of(venue, moved).price_ticks
    as_it_is = done(desk, 0.5, 4001.5, "gtx")
    assert (REJECTED, RejectCause.NOT_FILLABLE) == (as_it_is.status, as_it_is.reject_cause)


@pytest.mark.parametrize(
    ("self_trade", "resting", "taking", "left"),
    [
        ("expire_maker", CANCELED, ACCEPTED, [5000]),
        ("expire_taker", ACCEPTED, REJECTED, [8000]),
        ("expire_both", CANCELED, REJECTED, []),
        ("reduce", ACCEPTED, REJECTED, [3000]),
    ],
)
def test_what_would_meet_ones_own_order_does_as_asked_for(
    desk: Desk, venue: LiveVenue, self_trade: str, resting: OrderStatus, taking: OrderStatus, left: list[int]
) -> None:
    own = working(desk, -0.8, 4000.0)
    order = desk.submit("ETH-USDC", 0.5, 4000.0, self_trade=self_trade)
    desk.until_status(order, taking)
    desk.until_status(own, resting)
    rows = venue.ask(venue.engine.active_orders, US)
    assert left == [row.remaining_lots for row in rows]
    desk.until_equal()
    assert 0.0 == position(desk)


# --- stops -----------------------------------------------------------------------------------------------------------

STOPS = [
    # kind, amount, trigger, where the mark meets it, where it does not yet
    ("stop_loss", -0.4, 3900.0, 389_000, 395_000),
    ("stop_loss", 0.4, 4100.0, 411_000, 405_000),
    ("take_profit", -0.4, 4100.0, 411_000, 405_000),
    ("take_profit", 0.4, 3900.0, 389_000, 395_000),
]


@pytest.mark.parametrize(("kind", "amount", "trigger", "met", "not_met"), STOPS)
def test_a_stop_market_order_triggers_on_the_mark_and_fills(
    desk: Desk, venue: LiveVenue, kind: str, amount: float, trigger: float, met: int, not_met: int
) -> None:
    orders = [working(desk, amount, trigger, tif, stop_type="market", trigger_type=kind) for tif in ("gtc", "ioc")]
    desk.until_equal()
    assert {("pending", "mark-price")} == {
        (row_of(venue, each).status, row_of(venue, each).trigger_status) for each in orders
    }
    move(venue, not_met)
    desk.until_equal()
    assert [ACCEPTED, ACCEPTED] == [desk.order(order).status for order in orders]
    move(venue, met)
    for order in orders:
        desk.until_status(order, FILLED)
        row = row_of(venue, desk.order(order))
        assert ("na", 0) == (row.trigger_status, row.time_in_force)
        assert row.trigger_time_ms
    desk.until_equal()
    assert 2 * amount == position(desk)


def test_a_stop_that_reduces_closes_no_more_than_the_position(desk: Desk, venue: LiveVenue) -> None:
    buy(desk, 0.5)
    order = working(desk, -0.5, 3900.0, stop_type="market", reduce_only=True)
    done(desk, -0.2, 3999.0, "ioc")
    move(venue, 389_000)
    desk.until_status(order, CANCELED)
    desk.until_equal()
    assert (0.0, 0.3) == (position(desk), pytest.approx(desk.order(order).filled_quantity))


def test_a_stop_that_reduces_is_refused_without_a_position_and_ends_with_it(desk: Desk, venue: LiveVenue) -> None:
    refused = done(desk, -0.5, 3900.0, stop_type="market", reduce_only=True)
    assert (REJECTED, "21738") == (refused.status, refused.error_code)
    buy(desk, 0.5)
    order = working(desk, -0.5, 3900.0, stop_type="market", reduce_only=True)
    done(desk, -0.5, 3999.0, "ioc")
    desk.until_status(order, CANCELED)
    desk.until_equal()
    assert "canceled-reduce-only" == row_of(venue, desk.order(order)).status


def test_a_stop_beyond_its_bound_ends_and_does_not_chase(desk: Desk, venue: LiveVenue) -> None:
    buy(desk)
    order = working(desk, -1.0, 3900.0, stop_type="market", reduce_only=True, slippage=0.005)
    move(venue, 380_000)
    desk.until_status(order, CANCELED)
    desk.until_equal()
    assert ("canceled-too-much-slippage", 1.0) == (row_of(venue, desk.order(order)).status, position(desk))


@pytest.mark.parametrize(("kind", "amount", "trigger", "met", "not_met"), STOPS)
def test_a_stop_limit_order_is_a_limit_order_once_triggered(
    desk: Desk, venue: LiveVenue, kind: str, amount: float, trigger: float, met: int, not_met: int
) -> None:
    away = 4300.0 if amount < 0 else 3700.0  # a limit that nobody meets
    options = {"stop_type": "limit", "trigger_type": kind, "limit_price": away}
    orders = [working(desk, amount, trigger, tif, **options) for tif in ("gtc", "gtx", "ioc")]
    move(venue, not_met)
    desk.until_equal()
    assert [("pending", tif) for tif in (1, 2, 0)] == [
        (row.status, row.time_in_force) for row in (row_of(venue, order) for order in orders)
    ]
    move(venue, met)
    desk.until_status(orders[2], CANCELED)
    for order in orders[:2]:
        desk.until(lambda: desk.order(order).price == away)  # noqa: B023 - called at once
        assert ACCEPTED == desk.order(order).status
    desk.until_equal()
    desk.amend(desk.order(orders[0]), price=away + 10)  # as any limit order
    desk.until(lambda: row_of(venue, orders[0]).price_ticks == round(away * 100) + 1000)
    desk.until_equal()
    assert not desk.of_type(OrderUpdateRejectedEvent)


def test_a_stop_expires_while_it_waits(desk: Desk, venue: LiveVenue) -> None:
    orders = [working(desk, -0.5, 3900.0, expires_in_s=310, stop_type=kind) for kind in ("market", "limit")]
    wait(venue, 311)
    for order in orders:
        desk.until_status(order, EXPIRED)
    move(venue, 389_000)
    desk.until_equal()
    assert 0.0 == position(desk)


def test_a_stop_is_amended_and_cancelled(desk: Desk, venue: LiveVenue) -> None:
    order = working(desk, -0.5, 3900.0, stop_type="market")
    desk.amend(order, price=3800.0, quantity=0.3)
    desk.until(lambda: desk.of_type(OrderUpdatedEvent))
    desk.until_equal()
    row = row_of(venue, order)
    assert (3000, 380_000, 376_200) == (row.initial_lots, row.trigger_price_ticks, row.price_ticks)
    move(venue, 389_000)
    desk.until_equal()
    assert ACCEPTED == desk.order(order).status
    desk.cancel(desk.order(order))
    desk.until_status(order, CANCELED)
    desk.until_equal()


def test_a_stop_of_a_former_run_keeps_its_limit_when_its_trigger_is_moved(venue: LiveVenue) -> None:
    with desk_on(venue) as first:
        limit = working(first, -0.5, 3900.0, stop_type="limit", limit_price=3850.0)
        market = working(first, -0.5, 3900.0, stop_type="market", slippage=0.05)
    with desk_on(venue) as second:
        second.until_equal()
        found = [second.account.get_order(order.client_order_id) for order in (limit, market)]
        for order in found:
            assert order is not None
            assert OrderOrigin.RECOVERED is order.origin
            second.amend(order, price=3880.0)
        second.until(lambda: len(second.of_type(OrderUpdatedEvent)) == 2)
        second.until_equal()
        rows = [row_of(venue, order) for order in (limit, market)]
        assert [(388_000, 385_000), (388_000, 368_600)] == [(row.trigger_price_ticks, row.price_ticks) for row in rows]


def test_a_17th_stop_in_a_market_is_refused(desk: Desk) -> None:
    orders = [desk.submit("ETH-USDC", -0.1, 3900.0 - n, stop_type="market") for n in range(17)]
    desk.until(lambda: all(desk.order(order).status is not OrderStatus.SUBMITTED for order in orders))
    assert [ACCEPTED] * 16 + [REJECTED] == [desk.order(order).status for order in orders]
    desk.until_equal()


# --- TWAP ------------------------------------------------------------------------------------------------------------


def test_a_twap_is_worked_in_orders_of_the_venues_own(desk: Desk, venue: LiveVenue) -> None:
    def parts() -> list[records.Order]:
        return [row for row in venue.ask(venue.engine.inactive_orders, US) if row.parent_order_index]

    order = working(desk, 1.0, 4010.0, twap_s=310)
    for slices in range(1, 12):
        desk.until(lambda: len(parts()) == slices)  # noqa: B023 - called at once
        desk.until_equal()
        wait(venue, 30)
    desk.until_status(order, FILLED)
    desk.until_equal()
    index = int(desk.order(order).venue_order_id or 0)
    assert {(index, records.TWAP_SUB)} == {(row.parent_order_index, row.order_type) for row in parts()}
    assert (11, 1.0) == (len(desk.of_type(DealEvent)), position(desk))
    assert {order.client_order_id} == {event.client_order_id for event in desk.of_type(OrderEvent)}
    assert 1.0 == pytest.approx(desk.order(order).filled_quantity)


@pytest.mark.parametrize("price", [4010.0, None])
def test_a_twap_is_cancelled_and_keeps_what_it_has(desk: Desk, venue: LiveVenue, price: float | None) -> None:
    if price is None:
        subscribe_quotes(desk)
    order = working(desk, 1.0, price, twap_s=310)
    wait(venue, 30)
    desk.until(lambda: position(desk) == pytest.approx(0.1819))  # two of eleven slices
    desk.cancel(desk.order(order))
    desk.until_status(order, CANCELED)
    wait(venue, 60)
    desk.until_equal()
    assert 0.1819 == pytest.approx(position(desk))


def test_a_twap_beyond_its_worst_price_waits_and_ends_at_its_end(desk: Desk, venue: LiveVenue) -> None:
    order = working(desk, 1.0, 4000.0, twap_s=310)
    wait(venue, 311)
    desk.until_status(order, EXPIRED)
    desk.until_equal()
    assert 0.0 == position(desk)


def test_a_twap_that_reduces_ends_with_the_position(desk: Desk, venue: LiveVenue) -> None:
    buy(desk, 0.5)
    order = working(desk, -1.0, 3900.0, twap_s=310, reduce_only=True)
    wait(venue, 311)
    desk.until_status(order, CANCELED)
    desk.until_equal()
    assert 0.0 == position(desk)


# --- groups ----------------------------------------------------------------------------------------------------------


def test_an_entry_and_what_closes_it(desk: Desk, venue: LiveVenue) -> None:
    order = working(desk, 0.5, 3990.0, stop_loss=3900.0)
    stop = leg(desk, order, ".sl")
    desk.until_equal()
    assert ("SELL", 0.0, 3900.0, "STOP_MARKET", True) == (
        stop.side,
        stop.quantity,
        stop.price,
        stop.type,
        stop.reduce_only,
    )
    desk.amend(stop, price=3880.0)  # while it has no size yet
    desk.until(lambda: desk.of_type(OrderUpdatedEvent))
    desk.until_equal()
    assert 388_000 == row_of(venue, stop).trigger_price_ticks
    move(venue, 398_950)  # the ask at 3,990.50
    venue.take(ETH, 399_000, 5000, is_ask=True)
    desk.until_status(order, FILLED)
    desk.until(lambda: stop.quantity == 0.5)
    desk.until_equal()
    move(venue, 387_500)
    desk.until_status(stop, FILLED)
    desk.until_equal()
    assert 0.0 == position(desk)


def test_a_market_entry_with_both_ends(desk: Desk, venue: LiveVenue) -> None:
    subscribe_quotes(desk)
    order = done(desk, 0.5, stop_loss=3900.0, take_profit={"trigger": 4200.0, "limit_price": 4195.0})
    stop, profit = leg(desk, order, ".sl"), leg(desk, order, ".tp")
    desk.until_equal()
    assert (FILLED, 0.5, 0.5) == (order.status, stop.quantity, profit.quantity)
    assert (4200.0, "STOP_LIMIT") == (profit.price, profit.type)
    desk.amend(profit, price=4100.0)
    desk.until(lambda: desk.of_type(OrderUpdatedEvent))
    desk.until_equal()
    assert (410_000, 419_500) == (row_of(venue, profit).trigger_price_ticks, row_of(venue, profit).price_ticks)
    move(venue, 410_200)
    desk.until_status(stop, CANCELED)
    desk.until_equal()
    assert ("canceled-oco", "open", 4195.0) == (row_of(venue, stop).status, row_of(venue, profit).status, profit.price)
    move(venue, 420_000)  # the maker's bid meets it
    desk.until_status(profit, FILLED)
    desk.until_equal()
    assert 0.0 == position(desk)


def test_an_entry_that_is_cancelled_takes_what_waits_for_it_along(desk: Desk, venue: LiveVenue) -> None:
    order = working(desk, 0.5, 3998.5, stop_loss=3900.0, take_profit=4200.0)
    stop, profit = leg(desk, order, ".sl"), leg(desk, order, ".tp")
    venue.take(ETH, 399_900, 100_000, is_ask=True)  # the maker's own bid
    venue.rest(ETH, 399_850, 2000, is_ask=True)
    desk.until_status(order, PARTIAL)
    desk.cancel(desk.order(order))
    desk.until_status(order, CANCELED)
    desk.until_status(stop, CANCELED)
    desk.until_status(profit, CANCELED)
    desk.until_equal()
    assert {"canceled-child"} == {row_of(venue, each).status for each in (stop, profit)}
    assert 0.2 == pytest.approx(position(desk))  # what was filled is not closed by anything


def test_a_group_whose_entry_fails_leaves_nothing(desk: Desk, venue: LiveVenue) -> None:
    order = done(desk, 0.5, 4001.5, "gtx", stop_loss=3900.0)
    desk.until_equal()
    assert (REJECTED, {}) == (order.status, venue.truth()["orders"])
    refused = done(desk, 500.0, 3990.0, stop_loss=3900.0)
    assert (REJECTED, RejectCause.INSUFFICIENT_MARGIN) == (refused.status, refused.reject_cause)


@pytest.mark.parametrize(("mid", "first", "other"), [(389_000, FILLED, CANCELED), (420_200, CANCELED, FILLED)])
def test_of_two_that_close_a_position_one_cancels_the_other(
    desk: Desk, venue: LiveVenue, mid: int, first: OrderStatus, other: OrderStatus
) -> None:
    buy(desk, 0.5)
    order = working(desk, -0.5, 3900.0, stop_type="market", take_profit=4200.0, reduce_only=True)
    profit = leg(desk, order, ".tp")
    desk.until_equal()
    move(venue, mid)
    desk.until_status(order, first)
    desk.until_status(profit, other)
    desk.until_equal()
    assert 0.0 == position(desk)


def test_a_cancel_of_one_of_two_leaves_the_other(desk: Desk, venue: LiveVenue) -> None:
    buy(desk, 0.5)
    order = working(desk, -0.5, 3900.0, stop_type="market", take_profit=4200.0, reduce_only=True)
    profit = leg(desk, order, ".tp")
    desk.cancel(profit)
    desk.until_status(profit, CANCELED)
    desk.until_equal()
    assert ACCEPTED == desk.order(order).status


def test_what_closes_an_entry_is_known_again_after_a_restart(venue: LiveVenue) -> None:
    with desk_on(venue) as first:
        order = working(first, 0.5, 3990.0, stop_loss={"trigger": 3900.0, "limit_price": 3850.0})
        leg(first, order, ".sl")
    with desk_on(venue) as second:
        stop = leg(second, order, ".sl")
        assert OrderOrigin.RECOVERED is stop.origin
        second.amend(stop, price=3880.0)
        second.until(lambda: second.of_type(OrderUpdatedEvent))
        second.until_equal()
        row = row_of(venue, stop)
        assert (388_000, 385_000, 0) == (row.trigger_price_ticks, row.price_ticks, row.initial_lots)
        second.cancel(stop)
        second.until_status(stop, CANCELED)
        second.until_equal()


def test_what_others_do_with_their_orders_shows_nothing_false(desk: Desk, venue: LiveVenue) -> None:
    """An order of another client that is amended before a snapshot showed it is not taken for one that buys."""
    index = venue.execute(commands.PlaceOrder(US, ETH, True, 5000, 410_000, client_order_index=99)).order_index
    order = venue.ask(lambda: venue.engine.account(US).orders[index])
    venue.ask(lambda: venue.engine._sequencer.amend(order, Change(4000, 411_000), SelfTrade(), ""))
    venue.execute(commands.AdvanceTime())
    desk.until(lambda: desk.account.get_order("lighter_99") is not None)
    desk.until_equal()
    found = desk.account.get_order("lighter_99")
    assert found is not None
    assert ("SELL", 0.4, 4110.0) == (found.side, found.quantity, found.price)


def test_an_order_of_others_is_shown_whole_before_its_first_fill(desk: Desk, venue: LiveVenue) -> None:
    venue.execute(commands.PlaceOrder(US, ETH, True, 5000, 400_050, client_order_index=99))
    venue.take(ETH, 400_050, 2000, is_ask=False)
    desk.until_equal()
    found = desk.account.get_order("lighter_99")
    assert found is not None
    assert (PARTIAL, 0.5, 0.2, 4000.5) == (found.status, found.quantity, found.filled_quantity, found.price)
    assert ("SELL", OrderOrigin.EXTERNAL) == (found.side, found.origin)
    desk.amend(found, price=4000.6)
    desk.until(lambda: [event for event in desk.of_type(OrderUpdatedEvent) if event.new_price == 4000.6])
    desk.until_equal()


def test_an_order_of_others_that_rests_is_shown_within_a_second_or_so(desk: Desk, venue: LiveVenue) -> None:
    venue.execute(commands.PlaceOrder(US, ETH, True, 5000, 400_050, client_order_index=99))
    desk.until(lambda: desk.account.get_order("lighter_99") is not None)
    desk.until_equal()


# --- all at once -----------------------------------------------------------------------------------------------------


def test_cancel_all_is_one_message_and_ends_what_waits_too(desk: Desk, venue: LiveVenue) -> None:
    resting = [desk.submit("ETH-USDC", 0.01, 3900.0 - n) for n in range(190)]
    stops = [desk.submit("ETH-USDC", -0.1, 3800.0 - n, stop_type="market") for n in range(10)]
    orders = [*resting, *stops]
    desk.until(lambda: all(desk.order(order).status is ACCEPTED for order in orders))
    known = len(venue.ask(venue.engine.transactions, 1000))
    desk.connector.cancel_all_orders()  # type: ignore[attr-defined]
    desk.until(lambda: all(desk.order(order).status is CANCELED for order in orders))
    desk.until_equal()
    sent = venue.ask(venue.engine.transactions, 1000)
    assert (known + 1, TxType.CANCEL_ALL_ORDERS) == (len(sent), sent[0].tx_type)


def errors_of(desk: Desk) -> list[tuple[str, str]]:
    return [(message[2].operation, message[2].message) for message in desk.data if message[1] == "error"]


@pytest.mark.parametrize("everything", [True, False])
def test_a_cancel_all_that_the_venue_takes_and_fails_to_carry_out_is_an_error(
    everything: bool, desk: Desk, venue: LiveVenue
) -> None:
    order = working(desk, 0.5, 3990.0)
    venue.fault(Kind.FAIL, str(int(TxType.CANCEL_ALL_ORDERS)), text="account is in pre-liquidation")
    desk.connector.cancel_all_orders(None if everything else order.instrument)  # type: ignore[attr-defined]
    desk.until(lambda: errors_of(desk))
    assert [("cancel_all", "not all orders were cancelled")] == errors_of(desk)
    assert "account is in pre-liquidation" in str(desk.data[-1][2].error)
    desk.until_equal()


def test_a_dead_mans_switch_that_the_venue_takes_and_fails_to_set_is_an_error_and_counts_as_none(
    venue: LiveVenue,
) -> None:
    venue.fault(Kind.FAIL, str(int(TxType.CANCEL_ALL_ORDERS)), text="not enough volume quota")
    with desk_on(venue, dead_mans_switch_s=600) as desk:
        desk.until(lambda: errors_of(desk))
        ((operation, text),) = errors_of(desk)
        assert "dead_mans_switch" == operation
        assert "not enough volume quota" in text
        schedule = desk.connector._on_disconnect.__self__._switch._schedule  # type: ignore[attr-defined]
        assert not schedule.may_be_queued
        assert schedule.get_timer() - desk.call(desk._loop.loop.time) < 10


def test_the_dead_mans_switch_cancels_all_when_the_plugin_is_gone(venue: LiveVenue) -> None:
    with desk_on(venue, dead_mans_switch_s=600) as desk:
        working(desk, 0.5, 3990.0)
        working(desk, -0.5, 3900.0, stop_type="market")
        account = venue.ask(venue.engine.account, US)
        desk.until(lambda: account.cancel_all_time_ms)
        left_at = account.cancel_all_time_ms
        assert 600 == pytest.approx(left_at / 1000 - venue.time.now_us() / 1e6, abs=5)
        keys = dict(account.keys)
        venue.ask(account.keys.clear)  # from now on the venue hears nothing of it, as if the process were gone
        wait(venue, 590)
        assert 2 == len(venue.ask(venue.engine.active_orders, US))
        wait(venue, 11)
        assert [] == venue.ask(venue.engine.active_orders, US)
        assert 0 == account.cancel_all_time_ms
        venue.ask(account.keys.update, keys)


def test_a_clean_stop_calls_the_dead_mans_switch_off(venue: LiveVenue) -> None:
    with desk_on(venue, dead_mans_switch_s=600) as desk:
        working(desk, 0.5, 3990.0)
        account = venue.ask(venue.engine.account, US)
        desk.until(lambda: account.cancel_all_time_ms)
    wait(venue, 700)
    assert (0, 1) == (account.cancel_all_time_ms, len(venue.ask(venue.engine.active_orders, US)))


# --- batches ---------------------------------------------------------------------------------------------------------


def test_what_is_asked_for_together_leaves_together(venue: LiveVenue) -> None:
    with desk_on(venue, batch_size=15) as desk:
        orders = [desk.submit("ETH-USDC", 0.1, 3990.0 - n) for n in range(30)]
        desk.until(lambda: all(desk.order(order).status is ACCEPTED for order in orders))
        desk.until_equal()
        assert desk.connector.broker._sender.stats()["batches"]  # type: ignore[attr-defined]
        nonces = [record.nonce for record in venue.ask(venue.engine.transactions, 30)]
        assert sorted(nonces, reverse=True) == nonces


def test_each_of_a_batch_that_the_venue_refuses_has_its_own_end(venue: LiveVenue) -> None:
    with desk_on(venue, batch_size=15) as desk:
        amounts = [0.1, 500.0, 0.1, 0.1, 500.0, 0.1]
        orders = [desk.submit("ETH-USDC", amount, 3990.0 - n) for n, amount in enumerate(amounts)]
        desk.until(lambda: all(desk.order(order).status is not OrderStatus.SUBMITTED for order in orders))
        expected = [REJECTED if amount > 1 else ACCEPTED for amount in amounts]
        assert expected == [desk.order(order).status for order in orders]
        desk.until_equal()
        assert ["21739"] * 2 == [event.code for event in desk.of_type(OrderRejectedEvent)]


def test_what_fails_in_a_batch_after_the_venue_took_it_fails_alone(venue: LiveVenue) -> None:
    with desk_on(venue, batch_size=15) as desk:
        gone, stays = working(desk, 0.1, 3990.0), working(desk, 0.1, 3989.0)
        venue.execute(commands.CancelOrder(US, ETH, int(gone.venue_order_id or 0)))
        desk.cancel(desk.order(gone))
        desk.cancel(desk.order(stays))
        order = desk.submit("ETH-USDC", 0.1, 3988.0)
        desk.until_status(order, ACCEPTED)
        desk.until_status(stays, CANCELED)
        desk.until_status(gone, CANCELED)
        desk.until_equal()
        assert {gone.client_order_id} >= {event.client_order_id for event in desk.of_type(OrderCancelRejectedEvent)}


# --- what there is not -----------------------------------------------------------------------------------------------


def test_what_the_venue_does_not_have_is_refused_before_anything_is_sent(desk: Desk, venue: LiveVenue) -> None:
    table: list[tuple[float | None, str, dict[str, object], str]] = [
        (3990.0, "fok", {}, "time in force 'fok' is not supported"),
        (None, "gtx", {}, "the time in force of a MARKET order cannot be POST_ONLY"),
        (3900.0, "gtx", {"stop_type": "market"}, "the time in force of a STOP_LOSS order cannot be POST_ONLY"),
        (4010.0, "ioc", {"twap_s": 310}, "the time in force of a TWAP order cannot be IOC"),
        (3990.0, "gtx", {"twap_s": 310}, "the time in force of a TWAP order cannot be POST_ONLY"),
        (4001.0, "ioc", {"expires_in_s": 600}, "takes no expires_in_s"),
        (3990.0, "gtc", {"expires_in_s": 304}, "live 5 minutes to 30 days"),
        (3990.0, "gtc", {"stop_loss": 4100.0}, "a stop-loss that is to close by selling is below the entry"),
    ]
    for price, tif, options, text in table:
        with pytest.raises(InvalidOrderParameters, match=re.escape(text)):
            desk.submit("ETH-USDC", 0.5, price, tif, **options)
    assert [] == venue.ask(venue.engine.transactions, 10)
