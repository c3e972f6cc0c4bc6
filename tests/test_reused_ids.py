"""A strategy's own client ids used again: what is told of an order is its own fate, never that of an older one of its name."""

from __future__ import annotations

import pytest
from qubx.core.basics import OrderStatus
from qubx.core.events import OrderRejectedEvent
from qubx.core.exceptions import InvalidOrderParameters

from qubx_lighter.constants import Code
from qubx_lighter.protocol.orders import ClientIds
from qubx_lighter.sim.faults import Kind
from qubx_lighter.sim.model import commands
from tests.live import ETH, US, LiveVenue, desk_on
from tests.reconciling import Reconciling

UP_AND_DOWN = pytest.mark.parametrize("ahead_s", [-2.0, 0.0, 2.0])


@UP_AND_DOWN
def test_an_order_that_never_arrived_has_not_the_end_of_its_namesake_of_an_earlier_run(
    venue: LiveVenue, ahead_s: float
) -> None:
    with desk_on(venue) as desk:
        desk.until_status(desk.submit("ETH-USDC", 1.0, 4001.0, tif="ioc", client_id="grid-1"), OrderStatus.FILLED)
    venue.time.ahead_s += 3
    desk = Reconciling(venue, ahead_s=ahead_s).start()
    try:
        venue.fault(Kind.CUT_BEFORE, "14")
        order = desk.submit("ETH-USDC", 0.5, 3990.0, client_id="grid-1")
        desk.until(lambda: desk.connector.stats()["unknown"])
        venue.time.ahead_s += 15  # beyond the time in which an order that no list shows may still come
        desk.until_status(order, OrderStatus.REJECTED)
        assert {} == venue.truth()["orders"]
        assert 0.0 == desk.order(order).filled_quantity
    finally:
        desk.close()


def test_an_order_that_never_arrived_has_not_the_end_of_its_namesake_of_this_run(venue: LiveVenue) -> None:
    desk = Reconciling(venue).start()
    try:
        first = desk.submit("ETH-USDC", 1.0, 4001.0, tif="ioc", client_id="entry")
        desk.until_status(first, OrderStatus.FILLED)
        venue.time.ahead_s += 40  # Qubx lets ended orders go after 30 s
        desk.until(lambda: desk.account._states["LIGHTER"].get_active_order("entry") is None)
        venue.fault(Kind.CUT_BEFORE, "14")
        second = desk.submit("ETH-USDC", 2.0, 3990.0, client_id="entry")
        desk.until(lambda: desk.connector.stats()["unknown"])
        venue.time.ahead_s += 15
        desk.until_status(second, OrderStatus.REJECTED)
        assert 0.0 == desk.order(second).filled_quantity
        third = desk.submit("ETH-USDC", 2.0, 3990.0, client_id="entry-3")
        desk.until_status(third, OrderStatus.ACCEPTED)
        desk.until_equal()
    finally:
        desk.close()


def test_an_id_under_which_an_order_of_an_earlier_run_stands_is_refused_and_free_once_that_is_gone(
    venue: LiveVenue,
) -> None:
    with desk_on(venue) as desk:
        desk.until_status(desk.submit("ETH-USDC", 1.0, 3900.0, client_id="grid-2"), OrderStatus.ACCEPTED)
    with desk_on(venue) as desk:
        (old,) = desk.account.get_orders().values()
        with pytest.raises(InvalidOrderParameters, match=f"order {old.venue_order_id} .* under client id 'grid-2'"):
            desk.submit("ETH-USDC", 0.5, 3950.0, client_id="grid-2")
        desk.connector.request_snapshot()
        desk.until_equal()
        assert [old.client_order_id] == list(desk.account.get_orders()), "the old order has the new one's name"
        desk.cancel(old)
        desk.until_status(old, OrderStatus.CANCELED)
        new = desk.submit("ETH-USDC", 0.5, 3950.0, client_id="grid-2")
        desk.until_status(new, OrderStatus.ACCEPTED)
        assert (0.5, 3950.0) == (desk.order(new).quantity, desk.order(new).price)
        desk.until_equal()


def test_an_index_that_the_venue_gave_away_unseen_is_a_rejection_and_no_acceptance(venue: LiveVenue) -> None:
    with desk_on(venue) as desk:
        venue.fault(Kind.LOSE, f"account_all_orders:{US}", times=2)
        index = ClientIds(4).index_of("grid-3")
        other = commands.PlaceOrder(US, ETH, False, 10_000, 390_000, client_order_index=index)
        assert venue.execute(other).ok
        venue.time.ahead_s += 5
        order = desk.submit("ETH-USDC", 0.5, 3950.0, client_id="grid-3")
        desk.until_status(order, OrderStatus.REJECTED)
        (event,) = desk.of_type(OrderRejectedEvent)
        assert str(int(Code.DUPLICATE_CLIENT_ORDER_INDEX)) == event.code
        assert ["grid-3"] == desk.health.submits
