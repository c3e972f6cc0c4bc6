"""Whatever goes wrong, and however often: nothing is sent twice, no order ends in two ways, and the account is the venue's.

A few random runs over every fault that the local venue knows. ``OUTCOME_SEEDS=20`` plays more of them.
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random
from typing import Any

import pytest
from qubx.core.basics import Order, OrderStatus
from qubx.core.events import (
    DealEvent,
    OrderCanceledEvent,
    OrderCancelRejectedEvent,
    OrderEvent,
    OrderExpiredEvent,
    OrderFilledEvent,
    OrderLostEvent,
    OrderRejectedEvent,
    OrderUpdateRejectedEvent,
)

from qubx_lighter.constants import TxType
from qubx_lighter.sim.faults import Kind
from tests.live import ETH, ETH_MID, US, LiveVenue, desk_on
from tests.reconciling import Reconciling

SEEDS = int(os.environ.get("OUTCOME_SEEDS", "2"))
STEPS = 60
CREATE, CANCEL, AMEND = (str(int(tx)) for tx in (TxType.CREATE_ORDER, TxType.CANCEL_ORDER, TxType.MODIFY_ORDER))
CHANNELS = [f"{kind}:{US}" for kind in ("account_all_orders", "account_all_trades", "account_tx", "user_stats")]
TERMINAL = (OrderFilledEvent, OrderCanceledEvent, OrderExpiredEvent, OrderRejectedEvent)
WORKING = (OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED)


def any_fault(chance: Random) -> tuple[Kind, str, dict[str, Any]]:
    """Draw something that goes wrong once."""
    transaction, channel = chance.choice([CREATE, CREATE, CANCEL, AMEND]), chance.choice(CHANNELS)
    kind = chance.choice([kind for kind in Kind if kind not in (Kind.CROSS, Kind.DENY, Kind.LOSE_ACK)])
    match kind:
        case Kind.REFUSE:
            return kind, transaction, {"code": chance.choice([21104, 21739, 21728, 21600, 29500, 21999]), "text": "no"}
        case Kind.FAIL:
            return kind, transaction, {"text": chance.choice(["AppErrNotEnoughOrderMargin", "something new"])}
        case Kind.END:
            return kind, CREATE, {"text": chance.choice(["canceled", "canceled-self-trade", "canceled-whatever"])}
        case Kind.SWALLOW | Kind.CUT_BEFORE | Kind.CUT_AFTER:
            return kind, transaction, {}
        case Kind.DELAY:
            return kind, transaction, {"seconds": chance.choice([0.05, 0.6])}
        case Kind.ERROR:
            return kind, "/api/v1/", {"code": chance.choice([403, 500, 503])}
        case Kind.HANG:
            return kind, "/api/v1/", {"seconds": 0.2}
    return kind, channel, {}


def act(chance: Random, desk: Reconciling, orders: list[Order]) -> None:
    """Do what a strategy might do."""
    working = [order for order in orders if desk.account.get_order(order.client_order_id) is not None]
    working = [desk.order(order) for order in working if desk.order(order).status in WORKING]
    working = [order for order in working if order.filled_quantity < order.quantity]
    if not working or chance.random() < 0.5:
        price, tif = 3998.0 + 0.05 * chance.randrange(60), chance.choice(["gtc", "gtc", "ioc", "gtx"])
        orders.append(desk.submit("ETH-USDC", 0.05 * chance.choice([1, 2, -1]), price, tif=tif))
    elif chance.random() < 0.5:
        desk.cancel(chance.choice(working))
    else:
        order = chance.choice(working)
        desk.amend(order, price=3998.0 + 0.05 * chance.randrange(40))


def settle(desk: Reconciling, venue: LiveVenue, orders: list[Order]) -> None:
    """Let nothing go wrong any more, and wait for every order that is in doubt."""
    venue.no_more_faults()
    desk.until(desk.connector.is_ws_ready)

    def doubtful() -> list[Order]:
        found = (desk.account.get_order(order.client_order_id) for order in orders)
        return [
            order
            for order in found
            if order is not None and not order.status.is_terminal and order.status not in WORKING
        ]

    sender = desk.connector.broker._sender  # type: ignore[attr-defined]
    desk.until(lambda: not sender.stats()["queued"] and not sender.stats()["in_flight"])
    venue.time.ahead_s += 12.0  # what has not come by now cannot come any more
    desk.until(lambda: not doubtful())
    desk.until_equal()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_goes_wrong_nothing_is_doubled_lost_or_told_in_two_ways(seed: int, venue: LiveVenue) -> None:
    print(f"seed {seed}")
    chance, orders = Random(seed), list[Order]()
    desk = Reconciling(venue)
    try:
        desk.start()
        for _ in range(STEPS):
            if chance.random() < 0.4:
                kind, where, options = any_fault(chance)
                venue.fault(kind, where, **options)
            act(chance, desk, orders)
            if chance.random() < 0.4:
                venue.take(ETH, ETH_MID - 100 - chance.randrange(100), chance.randrange(50, 800), is_ask=True)
            desk.listen(chance.random() * 0.04)
        settle(desk, venue, orders)
        struck = venue.ask(lambda: Counter(venue.venue.server.faults.struck))
    finally:
        desk.close()
    assert sum(struck.values()) >= STEPS / 10, f"hardly anything went wrong: {struck}"
    check(desk, venue, orders)


def check(desk: Reconciling, venue: LiveVenue, orders: list[Order]) -> None:
    """Hold what Qubx was told against the venue's books."""
    rows = venue.ask(lambda: [*venue.engine.active_orders(US), *venue.engine.inactive_orders(US)])
    by_index = Counter(row.client_order_index for row in rows)
    assert max(by_index.values()) == 1, "an order was sent twice"
    index_of = desk.connector.broker._converter.ids.index_of  # type: ignore[attr-defined]
    ends: dict[str, set[type]] = {}
    for event in desk.events:
        if isinstance(event, TERMINAL):
            ends.setdefault(str(event.client_order_id), set()).add(type(event))
    assert not [event for event in desk.events if isinstance(event, OrderLostEvent)]
    stories = {row.client_order_index: row for row in rows}
    for order in orders:
        row, told = stories.get(index_of(order.client_order_id)), ends.get(order.client_order_id, set())
        assert len(told) <= 1, f"{order.client_order_id} ended in two ways: {told}"
        if row is None:
            assert told == {OrderRejectedEvent}, f"{order.client_order_id} never came to be, and Qubx was told {told}"
        elif row.status == "filled":
            assert told == {OrderFilledEvent}
        elif row.status == "open":
            assert told == set()
        elif row.filled_lots:
            assert told == {OrderCanceledEvent}
        else:
            assert told <= {OrderCanceledEvent, OrderRejectedEvent}
            assert told
    ours = venue.ask(lambda: {str(trade.trade_id) for trade in venue.engine.trades(account_index=US)})
    assert ours == {event.deal.trade_id for event in desk.events if isinstance(event, DealEvent)}


def test_each_refusal_answers_one_request(venue: LiveVenue) -> None:
    desk = Reconciling(venue)
    try:
        desk.start()
        order = desk.until_status(desk.submit("ETH-USDC", 0.1, 3990.0), OrderStatus.ACCEPTED)
        for _ in range(3):
            venue.fault(Kind.REFUSE, AMEND, code=21739, text="no")
            venue.fault(Kind.REFUSE, CANCEL, code=21506, text="later")
            desk.amend(desk.order(order), price=3991.0)
            desk.until(lambda: desk.order(order).status is OrderStatus.ACCEPTED)
            desk.cancel(desk.order(order))
            desk.until(lambda: desk.order(order).status is OrderStatus.ACCEPTED)
        kinds = Counter(type(event) for event in desk.of_type(OrderEvent))
        assert (3, 3) == (kinds[OrderUpdateRejectedEvent], kinds[OrderCancelRejectedEvent])
    finally:
        desk.close()


@pytest.mark.parametrize("kind", [Kind.CROSS, Kind.DUPLICATE, Kind.LOSE, Kind.REORDER])
def test_a_book_that_arrives_wrong_is_never_shown_and_heals(kind: Kind, venue: LiveVenue) -> None:
    with desk_on(venue) as desk:
        eth = desk.instrument("ETH-USDC")

        def books() -> list[Any]:
            return [message[2] for message in desk.data if message[0] is eth and "orderbook" in message[1]]

        desk.provider.subscribe("orderbook(0, 5)", {eth})
        desk.until(books)
        venue.fault(kind, f"order_book:{ETH}")
        for step in range(3):
            shown = len(books())
            venue.rest(ETH, ETH_MID - 90 + 10 * step, 1000, is_ask=False)
            if step:  # the first is what goes wrong
                desk.until(lambda: len(books()) > shown)  # noqa: B023 - called at once
            else:
                desk.until(lambda: venue.ask(lambda: venue.venue.server.faults.struck[kind]))
        desk.until(lambda: books()[-1].top_bid == 3999.3)
        assert all(book.top_bid < book.top_ask for book in books())
        assert 4001.0 == books()[-1].top_ask


@pytest.mark.parametrize(("ask", "transaction"), [("cancel", CANCEL), ("amend", AMEND)])
def test_what_was_asked_of_an_order_and_never_came_about_is_pending_for_seconds_only(
    venue: LiveVenue, ask: str, transaction: str
) -> None:
    with desk_on(venue) as desk:  # whose account asks for nothing, as Qubx does not for five minutes
        order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3990.0), OrderStatus.ACCEPTED)
        venue.fault(Kind.CUT_BEFORE, transaction)
        if ask == "cancel":
            desk.cancel(order)
        else:
            desk.amend(order, price=3991.0)
        assert desk.order(order).status in (OrderStatus.PENDING_CANCEL, OrderStatus.PENDING_UPDATE)
        desk.until_status(order, OrderStatus.ACCEPTED)
        assert 3990.0 == desk.order(order).price
        desk.until_equal()
