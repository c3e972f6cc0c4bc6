"""Each way in which the venue ends an order, end to end: the event that the strategy sees.

One venue and one desk serve all. An order may have rested in the book before its end or not, and may be filled in part.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from qubx.core.basics import Order, OrderStatus, RejectCause
from qubx.core.events import (
    AccountSnapshotEvent,
    DealEvent,
    OrderAcceptedEvent,
    OrderCanceledEvent,
    OrderEvent,
    OrderExpiredEvent,
    OrderFilledEvent,
    OrderPartiallyFilledEvent,
    OrderRejectedEvent,
)

from qubx_lighter.constants import TxType
from qubx_lighter.sim.faults import Kind
from qubx_lighter.sim.model.commands import EndOrder
from tests.live import ETH, Desk, LiveVenue, desk_on

ETH_MID = 400_000
CREATE = str(int(TxType.CREATE_ORDER))
TERMINAL = (OrderFilledEvent, OrderCanceledEvent, OrderExpiredEvent, OrderRejectedEvent)

# status -> the cause of the rejection that it is for an order that came to nothing
REASONS = {
    "canceled-post-only": RejectCause.NOT_FILLABLE,
    "canceled-reduce-only": RejectCause.UNKNOWN,
    "canceled-position-not-allowed": RejectCause.UNKNOWN,
    "canceled-margin-not-allowed": RejectCause.INSUFFICIENT_MARGIN,
    "canceled-too-much-slippage": RejectCause.NOT_FILLABLE,
    "canceled-not-enough-liquidity": RejectCause.NOT_FILLABLE,
    "canceled-self-trade": RejectCause.UNKNOWN,
    "canceled-oco": RejectCause.UNKNOWN,
    "canceled-child": RejectCause.UNKNOWN,
    "canceled-liquidation": RejectCause.UNKNOWN,
    "canceled-invalid-balance": RejectCause.INSUFFICIENT_MARGIN,
    "canceled-whatever": RejectCause.UNKNOWN,  # reasons of later versions of the venue
}
ENDS = [*REASONS, "canceled", "canceled-expired"]


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveVenue]:
    venue = LiveVenue(tmp_path_factory.mktemp("venue"))
    venue.quote(ETH, ETH_MID - 1000, ETH_MID + 1000)
    yield venue
    venue.close()


@pytest.fixture(scope="module")
def desk(venue: LiveVenue) -> Iterator[Desk]:
    with desk_on(venue) as desk:
        yield desk


def story(desk: Desk, order: Order, since: int) -> list[type]:
    """Tell what was said of an order, in order; its deals come on a channel of their own."""
    return [
        type(event)
        for event in desk.events[since:]
        if isinstance(event, OrderEvent)
        and event.client_order_id == order.client_order_id
        and not isinstance(event, DealEvent)
    ]


def ends(desk: Desk, order: Order, since: int) -> OrderEvent:
    """Wait for the end of an order and for the venue's account; give the one event that told the end."""
    desk.until(lambda: desk.order(order).status.is_terminal)
    desk.until_equal()
    (event,) = [
        event
        for event in desk.events[since:]
        if isinstance(event, TERMINAL) and event.client_order_id == order.client_order_id
    ]
    return event


def kind_of(status: str) -> type[OrderEvent]:
    """Give the event of an order that came to something."""
    return OrderExpiredEvent if status == "canceled-expired" else OrderCanceledEvent


@pytest.mark.parametrize("status", REASONS)
def test_an_order_that_came_to_nothing_was_rejected_for_the_reason(status: str, desk: Desk, venue: LiveVenue) -> None:
    since = len(desk.events)
    venue.fault(Kind.END, CREATE, text=status)
    order = desk.submit("ETH-USDC", 0.1, 3995.0)
    event = ends(desk, order, since)
    assert isinstance(event, OrderRejectedEvent)
    assert (status, status, REASONS[status]) == (event.code, event.reason, event.cause)
    assert [OrderRejectedEvent] == story(desk, order, since)
    assert event.venue_order_id is not None
    assert order.client_order_id in desk.health.submits


@pytest.mark.parametrize("status", ["canceled", "canceled-expired"])
def test_an_order_that_just_ended_was_accepted_and_ended(status: str, desk: Desk, venue: LiveVenue) -> None:
    since = len(desk.events)
    venue.fault(Kind.END, CREATE, text=status)
    order = desk.submit("ETH-USDC", 0.1, 3995.0)
    assert isinstance(ends(desk, order, since), kind_of(status))
    assert [OrderAcceptedEvent, kind_of(status)] == story(desk, order, since)


@pytest.mark.parametrize("status", ENDS)
def test_what_is_left_of_an_order_that_was_filled_at_once_is_cancelled(
    status: str, desk: Desk, venue: LiveVenue
) -> None:
    since, held = len(desk.events), desk.account.get_position(desk.instrument("ETH-USDC")).quantity
    venue.rest(ETH, ETH_MID, 400, is_ask=True)
    venue.fault(Kind.END, CREATE, text=status)
    order = desk.submit("ETH-USDC", 0.1, 4000.0)
    assert isinstance(ends(desk, order, since), kind_of(status))
    assert [OrderAcceptedEvent, OrderPartiallyFilledEvent, kind_of(status)] == story(desk, order, since)
    assert (0.04, round(held + 0.04, 4)) == (
        desk.order(order).filled_quantity,
        round(desk.account.get_position(desk.instrument("ETH-USDC")).quantity, 4),
    )


@pytest.mark.parametrize("status", ENDS)
def test_an_order_that_rested_is_cancelled_whatever_the_reason(status: str, desk: Desk, venue: LiveVenue) -> None:
    since = len(desk.events)
    order = desk.until_status(desk.submit("ETH-USDC", 0.1, 3995.0), OrderStatus.ACCEPTED)
    venue.execute(EndOrder(int(order.venue_order_id or 0), status))
    assert isinstance(ends(desk, order, since), kind_of(status))
    assert [OrderAcceptedEvent, kind_of(status)] == story(desk, order, since)


@pytest.mark.parametrize("status", ENDS)
def test_an_order_that_rested_and_was_filled_in_part_keeps_its_fill(status: str, desk: Desk, venue: LiveVenue) -> None:
    since = len(desk.events)
    order = desk.until_status(desk.submit("ETH-USDC", 0.1, 3995.0), OrderStatus.ACCEPTED)
    venue.take(ETH, 399_500, 400, is_ask=True)
    venue.execute(EndOrder(int(order.venue_order_id or 0), status))
    assert isinstance(ends(desk, order, since), kind_of(status))
    assert [OrderAcceptedEvent, OrderPartiallyFilledEvent, kind_of(status)] == story(desk, order, since)
    assert 0.04 == desk.order(order).filled_quantity


def test_an_order_that_was_asked_to_be_cancelled_ends_once(desk: Desk, venue: LiveVenue) -> None:
    since = len(desk.events)
    order = desk.until_status(desk.submit("ETH-USDC", 0.1, 3995.0), OrderStatus.ACCEPTED)
    venue.fault(Kind.REORDER, "account_all_orders:")
    desk.cancel(order)
    assert isinstance(ends(desk, order, since), OrderCanceledEvent)
    assert order.client_order_id in desk.health.cancels


@pytest.mark.parametrize("status", ["levitating", "expired", "cancelled"])
def test_a_state_that_is_no_cancellation_fails_loudly_and_the_account_is_fetched(
    status: str, desk: Desk, venue: LiveVenue
) -> None:
    since = len(desk.events)
    order = desk.until_status(desk.submit("ETH-USDC", 0.1, 3995.0), OrderStatus.ACCEPTED)
    other = desk.until_status(desk.submit("ETH-USDC", 0.1, 3994.0), OrderStatus.ACCEPTED)
    known = len(desk.of_type(AccountSnapshotEvent))
    venue.execute(EndOrder(int(order.venue_order_id or 0), status))
    desk.until(lambda: len(desk.of_type(AccountSnapshotEvent)) > known)
    snapshot = desk.of_type(AccountSnapshotEvent)[-1].snapshot
    assert other.client_order_id in {row.client_order_id for row in snapshot.open_orders}
    assert order.client_order_id not in {row.client_order_id for row in snapshot.open_orders}
    assert [OrderAcceptedEvent] == story(desk, order, since)  # nothing is guessed
    desk.cancel(desk.order(other))
    desk.until_status(other, OrderStatus.CANCELED)


def test_no_way_to_end_is_left_out() -> None:
    named = (
        "canceled canceled-post-only canceled-reduce-only canceled-position-not-allowed canceled-margin-not-allowed "
        "canceled-too-much-slippage canceled-not-enough-liquidity canceled-self-trade canceled-expired canceled-oco "
        "canceled-child canceled-liquidation canceled-invalid-balance"
    ).split()  # the SDK's Order.status, from "canceled" on
    assert set(named) == set(ENDS) - {"canceled-whatever"}
    assert len(ENDS) == len(set(ENDS))
