"""Each error code of the venue, end to end: what the strategy sees, what is done about it, and that trading goes on.

One venue and one desk serve all codes that leave no trace; the codes that do (a halt, a pause, a reload) have their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from qubx.core.basics import Order, OrderStatus, RejectCause
from qubx.core.errors import ErrorLevel
from qubx.core.events import (
    OrderAcceptedEvent,
    OrderCanceledEvent,
    OrderCancelRejectedEvent,
    OrderEvent,
    OrderRejectedEvent,
    OrderUpdatedEvent,
    OrderUpdateRejectedEvent,
)

from qubx_lighter.constants import TxType
from qubx_lighter.factory import _gateways
from qubx_lighter.protocol.codes import Recovery, known_codes, refusal_of
from qubx_lighter.protocol.orders import ClientIds
from qubx_lighter.recoveries import Recoveries
from qubx_lighter.sim.app import API_KEY_INDEX
from qubx_lighter.sim.exchange import batches
from qubx_lighter.sim.faults import Kind
from qubx_lighter.sim.model import commands
from tests.live import ETH, US, Desk, LiveVenue, desk_on, venue_in

CREATE, CANCEL, AMEND = (str(int(tx)) for tx in (TxType.CREATE_ORDER, TxType.CANCEL_ORDER, TxType.MODIFY_ORDER))
UNLISTED = 21_999

# Codes that only end what was asked for: the strategy hears of it, and that is all.
PLAIN = [
    code
    for code in [*known_codes(), UNLISTED]
    if refusal_of(code).recovery
    not in (
        Recovery.LOOK_UP,
        Recovery.UNCERTAIN,
        Recovery.RESYNC,
        Recovery.HALT,
        Recovery.BACK_OFF,
        Recovery.RELOAD_MARKETS,
    )
]


def codes_of(recovery: Recovery) -> list[int]:
    """List the codes with a recovery."""
    return [code for code in known_codes() if refusal_of(code).recovery is recovery]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, LiveVenue]]:
    """One desk for all codes that leave no trace."""
    with venue_in(tmp_path_factory.mktemp("venue")) as venue, desk_on(venue) as desk:
        yield desk, venue


def words(code: int) -> str:
    """Give the venue's text, with what would break a careless log line."""
    return f"{refusal_of(code).text or 'news'} <b>{{}}"


def events_of(desk: Desk, order: Order, since: int) -> list[OrderEvent]:
    """List what was said of an order since a moment."""
    return [
        event
        for event in desk.events[since:]
        if isinstance(event, OrderEvent) and event.client_order_id == order.client_order_id
    ]


def wait_for(desk: Desk, order: Order, kind: type[OrderEvent], since: int) -> Any:
    """Take messages until an event of an order comes."""
    desk.until(lambda: any(isinstance(event, kind) for event in events_of(desk, order, since)))
    return next(event for event in events_of(desk, order, since) if isinstance(event, kind))


def rests(desk: Desk) -> Order:
    """Have an order in the book."""
    return desk.until_status(desk.submit("ETH-USDC", 0.1, 3990.0), OrderStatus.ACCEPTED)


def is_over(desk: Desk, order: Order) -> None:
    """Cancel an order and see it end, and the account be the venue's."""
    desk.cancel(desk.order(order))
    desk.until_status(order, OrderStatus.CANCELED)
    desk.until_equal()


def sender_stats(desk: Desk) -> dict[str, int]:
    """Count what was sent."""
    stats: dict[str, int] = desk.connector.broker._sender.stats()  # type: ignore[attr-defined]
    return stats


def recoveries_of(desk: Desk) -> Recoveries:
    """Find what acts on refusals."""
    recoveries: Recoveries = desk.connector.broker._recoveries  # type: ignore[attr-defined]
    return recoveries


def told(event: Any) -> tuple[str | None, RejectCause, str]:
    """Give what a rejection says."""
    return event.code, event.cause, event.reason


def expected(code: int) -> tuple[str, RejectCause, str]:
    """Give what a rejection is to say."""
    return str(code), RejectCause[refusal_of(code).cause.name], words(code)


@pytest.mark.parametrize("code", PLAIN)
def test_a_refusal_is_a_rejection_of_what_was_asked_for(code: int, shared: tuple[Desk, LiveVenue]) -> None:
    desk, venue = shared
    since = len(desk.events)
    venue.fault(Kind.REFUSE, CREATE, code=code, text=words(code))
    refused = desk.submit("ETH-USDC", 0.1, 3991.0)
    assert expected(code) == told(wait_for(desk, refused, OrderRejectedEvent, since))
    order = rests(desk)
    venue.fault(Kind.REFUSE, AMEND, code=code, text=words(code))
    desk.amend(order, price=3989.0)
    assert expected(code) == told(wait_for(desk, order, OrderUpdateRejectedEvent, since))
    venue.fault(Kind.REFUSE, CANCEL, code=code, text=words(code))
    desk.cancel(desk.order(order))
    assert expected(code) == told(wait_for(desk, order, OrderCancelRejectedEvent, since))
    is_over(desk, order)
    assert OrderStatus.REJECTED is desk.order(refused).status
    assert [] == [message for message in desk.data if message[1] == "error"]


@pytest.mark.parametrize("code", codes_of(Recovery.RESYNC))
def test_a_wrong_nonce_is_fetched_anew_and_everything_sent_once(code: int, shared: tuple[Desk, LiveVenue]) -> None:
    desk, venue = shared
    since, before = len(desk.events), venue.ask(lambda: len(venue.engine.transactions(10_000)))
    venue.fault(Kind.REFUSE, CREATE, code=code, text=words(code))  # although it is right
    order = rests(desk)
    venue.fault(Kind.REFUSE, AMEND, code=code, text=words(code))
    desk.amend(order, price=3989.0)
    assert 3989.0 == wait_for(desk, order, OrderUpdatedEvent, since).new_price
    venue.fault(Kind.REFUSE, CANCEL, code=code, text=words(code))
    is_over(desk, order)
    assert [OrderAcceptedEvent, OrderUpdatedEvent, OrderCanceledEvent] == [
        type(event) for event in events_of(desk, order, since)
    ]
    assert 3 == venue.ask(lambda: len(venue.engine.transactions(10_000))) - before


@pytest.mark.parametrize("code", codes_of(Recovery.UNCERTAIN))
def test_where_nobody_knows_nothing_is_said_or_sent_again(code: int, shared: tuple[Desk, LiveVenue]) -> None:
    desk, venue = shared
    since, unknown = len(desk.events), sender_stats(desk)["unknown"]
    order = rests(desk)
    for kind in (CREATE, AMEND, CANCEL):
        venue.fault(Kind.REFUSE, kind, code=code, text=words(code))
    in_doubt = desk.submit("ETH-USDC", 0.1, 3991.0)
    desk.amend(desk.order(order), price=3989.0)
    desk.until(lambda: sender_stats(desk)["unknown"] == unknown + 2)
    desk.connector.cancel_order(desk.order(order))
    desk.until(lambda: sender_stats(desk)["unknown"] == unknown + 3)
    other = rests(desk)  # trading goes on
    assert [] == events_of(desk, in_doubt, since)
    assert [OrderAcceptedEvent] == [type(event) for event in events_of(desk, order, since)]
    assert OrderStatus.SUBMITTED is desk.order(in_doubt).status
    desk.connector.request_order_status(desk.order(order))  # as Qubx's reconciler does
    desk.until(lambda: len(events_of(desk, order, since)) > 1)
    assert OrderAcceptedEvent is type(events_of(desk, order, since)[-1])
    desk.connector.cancel_order(desk.order(order))
    desk.until_status(order, OrderStatus.CANCELED)
    is_over(desk, other)


@pytest.mark.parametrize("code", codes_of(Recovery.LOOK_UP))
def test_an_order_in_doubt_is_looked_up_and_what_is_found_is_told(code: int, shared: tuple[Desk, LiveVenue]) -> None:
    desk, venue = shared
    since = len(desk.events)
    # A create: an order of this index stands, and nothing on the channels has shown it.
    venue.fault(Kind.LOSE, f"account_all_orders:{US}")
    venue.fault(Kind.REFUSE, CREATE, code=code, text=words(code))
    client_id = f"qubx_ETH-USDC_{code}"
    index = ClientIds(API_KEY_INDEX).index_of(client_id)
    assert venue.execute(commands.PlaceOrder(US, ETH, False, 1000, 399_100, client_order_index=index)).ok
    order = desk.submit("ETH-USDC", 0.1, 3991.0, client_id=client_id)
    desk.until_status(order, OrderStatus.ACCEPTED)
    # A cancel: the order is over, and nothing on the channels has shown it.
    venue.fault(Kind.LOSE, f"account_all_orders:{US}")
    venue.fault(Kind.REFUSE, CANCEL, code=code, text=words(code))
    venue.execute(commands.EndOrder(int(desk.order(order).venue_order_id or 0), "canceled-expired"))
    desk.cancel(desk.order(order))
    desk.until_status(order, OrderStatus.EXPIRED)
    refused = wait_for(desk, order, OrderCancelRejectedEvent, since)
    assert expected(code) == told(refused)
    assert [] == [event for event in events_of(desk, order, since) if isinstance(event, OrderRejectedEvent)]
    desk.until_equal()


@pytest.mark.parametrize("code", codes_of(Recovery.LOOK_UP))
def test_an_amend_of_an_order_in_doubt_is_rejected_and_the_order_looked_up(
    code: int, shared: tuple[Desk, LiveVenue]
) -> None:
    desk, venue = shared
    since, order = len(desk.events), rests(desk)
    venue.fault(Kind.LOSE, f"account_all_orders:{US}")
    venue.fault(Kind.REFUSE, AMEND, code=code, text=words(code))
    venue.execute(commands.EndOrder(int(order.venue_order_id or 0), "canceled-oco"))
    desk.amend(order, price=3989.0)
    desk.until_status(order, OrderStatus.CANCELED)
    assert expected(code) == told(wait_for(desk, order, OrderUpdateRejectedEvent, since))
    desk.until_equal()


@pytest.mark.parametrize("code", codes_of(Recovery.HALT))
def test_a_refused_account_or_key_stops_new_orders_and_says_so_once(code: int, shared: tuple[Desk, LiveVenue]) -> None:
    desk, venue = shared
    since, errors = len(desk.events), len(desk.data)
    standing = rests(desk)
    venue.fault(Kind.REFUSE, CREATE, code=code, text=words(code), times=0)
    refused = desk.submit("ETH-USDC", 0.1, 3991.0)
    assert expected(code) == told(wait_for(desk, refused, OrderRejectedEvent, since))
    sent = venue.ask(lambda: venue.venue.server.faults.met[Kind.REFUSE])
    held = [desk.submit("ETH-USDC", 0.1, 3991.0 - number) for number in range(3)]
    for order in held:
        assert told(wait_for(desk, order, OrderRejectedEvent, since))[0] == str(code)
    desk.amend(desk.order(standing), price=3989.0)
    assert told(wait_for(desk, standing, OrderUpdateRejectedEvent, since)) == (
        *expected(code)[:2],
        f"not sent: {words(code)}",
    )
    assert sent == venue.ask(lambda: venue.venue.server.faults.met[Kind.REFUSE]), "an order went out all the same"
    (error,) = [message[2] for message in desk.data[errors:] if message[1] == "error"]
    assert ("submit_order", ErrorLevel.CRITICAL, code) == (error.operation, error.level, error.error.code)
    venue.no_more_faults()
    is_over(desk, standing)  # a cancel goes out, and that the venue takes it ends the halt
    desk.until(lambda: recoveries_of(desk).halt is None)
    desk.data[errors:] = [message for message in desk.data[errors:] if message[1] != "error"]
    is_over(desk, rests(desk))


@pytest.mark.parametrize("code", codes_of(Recovery.RELOAD_MARKETS))
def test_a_market_that_is_not_as_it_was_is_rejected_and_the_markets_reloaded(
    code: int, shared: tuple[Desk, LiveVenue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qubx_lighter.listing_watch.MIN_PAUSE_S", 0.0)
    desk, venue = shared
    watch = _gateways[desk.provider].watch  # type: ignore[index]
    assert watch is not None
    since, reloads = len(desk.events), watch.stats()["listing_reloads"]
    venue.fault(Kind.REFUSE, CREATE, code=code, text=words(code))
    refused = desk.submit("ETH-USDC", 0.1, 3991.0)
    assert expected(code) == told(wait_for(desk, refused, OrderRejectedEvent, since))
    desk.until(lambda: watch.stats()["listing_reloads"] > reloads)
    is_over(desk, rests(desk))


@pytest.mark.parametrize("code", codes_of(Recovery.BACK_OFF))
def test_too_many_of_anything_is_a_rejection_that_names_the_cause(code: int, desk: Desk, venue: LiveVenue) -> None:
    since, order = len(desk.events), rests(desk)
    venue.fault(Kind.REFUSE, CREATE, code=code, text=words(code))
    refused = desk.submit("ETH-USDC", 0.1, 3991.0)
    code_text, cause, _ = told(wait_for(desk, refused, OrderRejectedEvent, since))
    assert (str(code), RejectCause.RATE_LIMITED) == (code_text, cause)
    is_over(desk, order)  # a cancel is never held back


# --- what the sequencer refuses after code 200 -----------------------------------------------------------------------

NAMED = [code for code in known_codes() if refusal_of(code).name and 21_100 <= code < 21_800]
SILENT = (Recovery.HALT, Recovery.LOOK_UP, Recovery.RELOAD_MARKETS)


@pytest.mark.parametrize("code", [code for code in NAMED if refusal_of(code).recovery not in SILENT])
def test_what_fails_at_the_sequencer_is_a_rejection_with_its_code(code: int, shared: tuple[Desk, LiveVenue]) -> None:
    desk, venue = shared
    since, reason = len(desk.events), f"AppErr{refusal_of(code).name}"
    venue.fault(Kind.FAIL, CREATE, text=reason)
    failed = desk.submit("ETH-USDC", 0.1, 3991.0)
    expected_told = str(code), RejectCause[refusal_of(code).cause.name], reason
    assert expected_told == told(wait_for(desk, failed, OrderRejectedEvent, since))
    order = rests(desk)
    for kind, event in ((AMEND, OrderUpdateRejectedEvent), (CANCEL, OrderCancelRejectedEvent)):
        venue.fault(Kind.FAIL, kind, text=reason)
        if kind == AMEND:
            desk.amend(desk.order(order), price=3989.0)
        else:
            desk.cancel(desk.order(order))
        assert expected_told == told(wait_for(desk, order, event, since))
    is_over(desk, order)


@pytest.mark.parametrize("code", [21_109, 21_120])
def test_a_key_that_the_sequencer_refuses_stops_orders_too(code: int, desk: Desk, venue: LiveVenue) -> None:
    since, errors, standing = len(desk.events), len(desk.data), rests(desk)
    venue.fault(Kind.FAIL, CREATE, text=f'{{"code":{code},"message":"no"}}')
    failed = desk.submit("ETH-USDC", 0.1, 3991.0)
    assert str(code) == wait_for(desk, failed, OrderRejectedEvent, since).code
    held = desk.submit("ETH-USDC", 0.1, 3992.0)
    assert wait_for(desk, held, OrderRejectedEvent, since).reason.startswith("not sent: ")
    is_over(desk, standing)
    assert 1 == len([message for message in desk.data[errors:] if message[1] == "error"])
    desk.until(lambda: recoveries_of(desk).halt is None)
    venue.fault(Kind.FAIL, CREATE, text=f'{{"code":{code},"message":"no"}}')
    wait_for(desk, desk.submit("ETH-USDC", 0.1, 3991.0), OrderRejectedEvent, since)
    desk.until_equal()
    assert 1 == len([message for message in desk.data[errors:] if message[1] == "error"]), "told twice"


# --- subscriptions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [20_013, 61_005, 61_006])
def test_a_refused_token_is_minted_anew_and_the_channel_subscribed(code: int, venue: LiveVenue) -> None:
    venue.fault(Kind.DENY, f"account_all_orders/{US}", code=code, text=f"{words(code)}: account_all_orders:{US}")
    venue.fault(Kind.DENY, f"account_tx/{US}", code=code, text=words(code))  # and does not say which channel
    with desk_on(venue) as desk:
        is_over(desk, rests(desk))


# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", codes_of(Recovery.SPLIT))
def test_a_refused_batch_goes_out_one_by_one_and_each_order_once(code: int, venue: LiveVenue) -> None:
    venue.fault(Kind.REFUSE, batches.NAME, code=code, text=words(code))
    with desk_on(venue, batch_size=15) as desk:
        orders = [desk.submit("ETH-USDC", 0.1, 3990.0 - number) for number in range(6)]
        for order in orders:
            desk.until_status(order, OrderStatus.ACCEPTED)
        desk.until_equal()
        assert [6, 6] == [len(venue.truth()["orders"]), venue.ask(lambda: len(venue.engine.transactions(100)))]
        assert 1 == venue.ask(lambda: venue.venue.server.faults.struck[Kind.REFUSE]), "there was no batch"
