"""Several API keys for one account, and two programs on one key: on the local venue, over real sockets."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click
import pytest
from qubx.core.basics import Order, OrderStatus
from qubx.core.errors import ErrorLevel, VenueOperationError
from qubx.core.events import OrderRejectedEvent

from qubx_lighter.signer import generate_api_key
from qubx_lighter.sim.model import commands
from tests.live import US, Desk, LiveVenue, desk_on

FURTHER = (5, 6)


def register(venue: LiveVenue, *indexes: int) -> dict[int, str]:
    """Register further keys of the account at the venue."""
    keys = {}
    for index in indexes:
        keys[index], public_key = generate_api_key()
        assert venue.execute(commands.RegisterKey(US, index, public_key)).ok
    return keys


def write_down(venue: LiveVenue, keys: dict[int, str]) -> None:
    """Put further keys into the accounts file, as a user does."""
    table = ", ".join(f'{index} = "{key}"' for index, key in keys.items())
    venue.accounts_file.write_text(venue.accounts_file.read_text() + f"\napi_keys = {{{table}}}\n")


def transactions(venue: LiveVenue) -> list[Any]:
    """List what the venue was sent by this account, as the stream of transactions shows it."""
    sent: list[Any] = venue.ask(lambda: venue.engine.transactions(10_000))
    return sent


def keys_used(venue: LiveVenue) -> Counter[int]:
    return Counter(transaction.api_key_index for transaction in transactions(venue))


def place(desk: Desk, count: int, prefix: str = "") -> list[Order]:
    """Place orders that rest, each at a price of its own."""
    named = {"client_id": prefix} if prefix else {}
    return [
        desk.submit("ETH-USDC", 0.1, 3900.0 + number, **{k: f"{v}{number}" for k, v in named.items()})
        for number in range(count)
    ]


def test_orders_are_spread_over_the_keys_and_are_all_ours(venue: LiveVenue) -> None:
    write_down(venue, register(venue, *FURTHER))
    with desk_on(venue) as desk:
        orders = place(desk, 12)
        for order in orders:
            desk.until_status(order, OrderStatus.ACCEPTED)
        desk.until_equal()
        for order in orders:
            assert order.client_order_id == desk.order(order).client_order_id
        used = keys_used(venue)
        assert {4, *FURTHER} == set(used)
        assert all(count >= 2 for count in used.values()), used
        for order in orders:
            desk.amend(desk.order(order), price=order.price - 50.0)
            desk.until_status(order, OrderStatus.ACCEPTED)
            desk.cancel(desk.order(order))
        for order in orders:
            desk.until_status(order, OrderStatus.CANCELED)
        desk.until_equal()
        assert [] == [error for error in errors(desk) if error.operation == "share_api_key"]


def test_orders_of_any_key_are_known_to_the_next_run(venue: LiveVenue) -> None:
    write_down(venue, register(venue, *FURTHER))
    with desk_on(venue) as desk:
        ids = {order.client_order_id for order in place(desk, 6)}
        desk.until(lambda: len(venue.truth()["orders"]) == 6)
    with desk_on(venue) as desk:
        assert ids == {order.client_order_id for order in desk.account.get_orders().values()}


def test_a_key_that_the_venue_does_not_know_stops_the_start(venue: LiveVenue) -> None:
    write_down(venue, {5: generate_api_key()[0]})
    with pytest.raises(click.ClickException, match="API key 5 of account 100 is not registered"):
        Desk(venue)


def errors(desk: Desk) -> list[VenueOperationError]:
    """List the error events on Qubx's channel."""
    return [part for message in desk.data for part in message if isinstance(part, VenueOperationError)]


def shared(desk: Desk) -> list[VenueOperationError]:
    """List what was said of a key that somebody else uses."""
    return [error for error in errors(desk) if error.operation == "share_api_key"]


def test_two_programs_on_one_key_are_told_once_and_no_order_is_executed_twice(venue: LiveVenue) -> None:
    with desk_on(venue) as desk, desk_on(venue) as other:
        for number in range(10):
            mine, theirs = place(desk, 1, f"mine{number}-"), place(other, 1, f"theirs{number}-")
            desk.until_status(mine[0], OrderStatus.ACCEPTED)
            other.until_status(theirs[0], OrderStatus.ACCEPTED)
        desk.until(lambda: shared(desk))
        other.until(lambda: shared(other))
        placed = [order.client_order_index for order in venue.ask(lambda: list(venue.engine.active_orders(US)))]
        placed = [index for index in placed if index]
        assert (20, 20) == (len(placed), len(set(placed)))
        for each in (desk, other):
            each.connector.request_snapshot()  # in which Qubx finds the orders of others
            each.until_equal()
            (told,) = shared(each)
            assert ErrorLevel.MEDIUM is told.level
            assert "another program signs with API key 4 of this account" in told.message
            assert "give each program a key of its own" in told.message


def test_in_a_burst_of_two_programs_on_one_key_each_order_ends_once(venue: LiveVenue) -> None:
    with desk_on(venue) as desk, desk_on(venue) as other:
        mine, theirs = place(desk, 15, "mine"), place(other, 15, "theirs")
        for each, orders in ((desk, mine), (other, theirs)):
            for order in orders:
                each.until_status(order, OrderStatus.ACCEPTED, OrderStatus.REJECTED)
        for each in (desk, other):
            each.connector.request_snapshot()
            each.until_equal()
        standing = [order.client_order_index for order in venue.ask(lambda: list(venue.engine.active_orders(US)))]
        accepted = sum(
            each.order(order).status is OrderStatus.ACCEPTED
            for each, orders in ((desk, mine), (other, theirs))
            for order in orders
        )
        assert (accepted, accepted) == (len(standing), len(set(standing)))
        for each in (desk, other):
            refused = each.of_type(OrderRejectedEvent)
            assert {"21104"} >= {event.code for event in refused}
