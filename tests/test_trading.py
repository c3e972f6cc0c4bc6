"""Orders and the account, end to end: real signatures over real sockets, Qubx's own account manager at the end."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from qubx.core.account_manager.manager import AccountManager
from qubx.core.basics import Order, OrderOrigin, OrderRequest, OrderStatus, RejectCause
from qubx.core.context import StrategyContext
from qubx.core.events import (
    AccountSnapshotEvent,
    BalanceUpdateEvent,
    DealEvent,
    OrderAcceptedEvent,
    OrderCancelRejectedEvent,
    OrderExpiredEvent,
    OrderFilledEvent,
    OrderRejectedEvent,
    OrderUpdatedEvent,
    OrderUpdateRejectedEvent,
)
from qubx.core.exceptions import InvalidOrderParameters, NotSupported

from qubx_lighter.connector import connector_of
from qubx_lighter.constants import Code, TxType
from qubx_lighter.protocol.requests import Request, Signature
from qubx_lighter.sim.model import commands
from tests.live import BTC, ETH, ETH_MID, MAKER, US, Desk, LiveVenue, desk_on

# --- orders ----------------------------------------------------------------------------------------------------------


def test_a_limit_order_rests_is_amended_and_cancelled(desk: Desk, venue: LiveVenue) -> None:
    order = desk.submit("ETH-USDC", 0.5, 3990.0)
    desk.until_status(order, OrderStatus.ACCEPTED)
    desk.until_equal()
    venue_id = desk.order(order).venue_order_id
    desk.amend(desk.order(order), price=3991.0, quantity=0.7)
    desk.until(lambda: desk.of_type(OrderUpdatedEvent))
    (updated,) = desk.of_type(OrderUpdatedEvent)
    assert (3991.0, 0.7, venue_id) == (updated.new_price, updated.new_quantity, updated.venue_order_id)
    desk.until_equal()
    assert [(7000, 0, 399_100)] == list(venue.truth()["orders"].values())
    desk.cancel(desk.order(order))
    desk.until_status(order, OrderStatus.CANCELED)
    desk.until_equal()
    assert [order.client_order_id] == desk.health.submits
    assert [order.client_order_id] == desk.health.cancels


def test_an_amend_of_the_price_alone_keeps_the_total_and_says_so(desk: Desk, venue: LiveVenue) -> None:
    order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3990.0), OrderStatus.ACCEPTED)
    desk.amend(order, price=3992.0)
    desk.until(lambda: desk.of_type(OrderUpdatedEvent))
    (updated,) = desk.of_type(OrderUpdatedEvent)
    assert (3992.0, None) == (updated.new_price, updated.new_quantity)
    desk.until_equal()
    assert [(5000, 0, 399_200)] == list(venue.truth()["orders"].values())


def test_an_amended_total_counts_what_is_filled(desk: Desk, venue: LiveVenue) -> None:
    order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3999.5), OrderStatus.ACCEPTED)
    venue.take(ETH, 399_950, 2000, is_ask=True)
    desk.until_status(order, OrderStatus.PARTIALLY_FILLED)
    desk.until_equal()
    desk.amend(desk.order(order), quantity=0.3)
    desk.until(lambda: desk.of_type(OrderUpdatedEvent))
    desk.until_equal()
    assert [(3000, 2000, 399_950)] == list(venue.truth()["orders"].values())
    with pytest.raises(InvalidOrderParameters, match=r"not above the filled 0\.2"):
        desk.connector.update_order(desk.order(order), quantity=0.2)


def test_a_market_order_is_filled_within_its_bound(desk: Desk, venue: LiveVenue) -> None:
    with pytest.raises(InvalidOrderParameters, match="no quote of both sides for ETH-USDC"):
        desk.submit("ETH-USDC", 0.5)
    desk.provider.subscribe("quote", {desk.instrument("ETH-USDC")})
    desk.until(lambda: desk.provider.get_quote(desk.instrument("ETH-USDC")) is not None)
    order = desk.submit("ETH-USDC", -0.5)
    desk.until_status(order, OrderStatus.FILLED)
    desk.until(lambda: desk.of_type(DealEvent))
    (deal,) = desk.of_type(DealEvent)
    assert (-0.5, 3999.0, True, "USDC") == (
        deal.deal.amount,
        deal.deal.price,
        deal.deal.aggressive,
        deal.deal.fee_currency,
    )
    assert abs(0.5 * 3999.0 * 200e-6 - deal.deal.fee_amount) < 1e-9
    desk.until_equal()
    assert {ETH: -5000} == venue.truth()["positions"]


def test_a_market_order_beyond_its_bound_is_refused_not_filled_at_any_price(venue: LiveVenue) -> None:
    with desk_on(venue, market_slippage=0.001) as desk:
        desk.provider.subscribe("quote", {desk.instrument("ETH-USDC")})
        desk.until(lambda: desk.provider.get_quote(desk.instrument("ETH-USDC")) is not None)
        order = desk.submit("ETH-USDC", 15.0)  # the maker has 10 at 4001
        desk.until(lambda: desk.order(order).status.is_terminal)
        desk.until_equal()
        assert {ETH: 100_000} == venue.truth()["positions"]
        assert OrderStatus.CANCELED == desk.order(order).status


def test_an_ioc_takes_what_is_there_and_the_rest_is_cancelled(desk: Desk, venue: LiveVenue) -> None:
    order = desk.submit("ETH-USDC", 12.0, 4001.0, tif="IOC")
    desk.until_status(order, OrderStatus.CANCELED)
    desk.until_equal()
    assert {ETH: 100_000} == venue.truth()["positions"]
    assert 10.0 == desk.order(order).filled_quantity


@pytest.mark.parametrize(("tif", "options"), [("gtc", {"post_only": True}), ("GTX", {})])
def test_a_post_only_order_that_would_cross_is_rejected_as_not_fillable(
    desk: Desk, tif: str, options: dict[str, bool]
) -> None:
    order = desk.submit("ETH-USDC", 0.5, 4005.0, tif=tif, **options)
    desk.until_status(order, OrderStatus.REJECTED)
    (event,) = desk.of_type(OrderRejectedEvent)
    assert (RejectCause.NOT_FILLABLE, "canceled-post-only") == (event.cause, event.code)
    assert desk.of_type(DealEvent) == []


def test_a_reduce_only_order_never_opens(desk: Desk, venue: LiveVenue) -> None:
    order = desk.submit("ETH-USDC", 0.5, 4001.0, tif="ioc", reduceOnly=True)
    desk.until_status(order, OrderStatus.REJECTED, OrderStatus.CANCELED)
    desk.until_equal()
    assert {} == venue.truth()["positions"]
    desk.until_status(desk.submit("ETH-USDC", 0.5, 4001.0, tif="ioc"), OrderStatus.FILLED)
    reducing = desk.submit("ETH-USDC", -0.5, 3999.0, tif="ioc", reduce_only=True)
    desk.until_status(reducing, OrderStatus.FILLED)
    desk.until_equal()
    assert {} == venue.truth()["positions"]


def test_too_little_margin_is_a_rejection_with_the_venues_code(desk: Desk) -> None:
    order = desk.submit("ETH-USDC", 500.0, 3990.0)
    desk.until_status(order, OrderStatus.REJECTED)
    (event,) = desk.of_type(OrderRejectedEvent)
    assert (RejectCause.INSUFFICIENT_MARGIN, str(int(Code.NOT_ENOUGH_MARGIN))) == (event.cause, event.code)
    assert [order.client_order_id] == desk.health.submits


def test_too_small_an_order_is_refused_before_anything_is_sent(desk: Desk) -> None:
    with pytest.raises(InvalidOrderParameters, match=r"7\.5 USDC is below the venue's minimum 10"):
        desk.submit("ETH-USDC", 0.005, 1500.0)
    with pytest.raises(InvalidOrderParameters, match=r"size 0\.0049 is below the venue's minimum 0\.0050"):
        desk.submit("ETH-USDC", 0.0049, 3990.0)
    assert {} == desk.account.get_orders()


def test_an_amend_that_leaves_too_little_is_a_rejection_that_says_so(desk: Desk) -> None:
    order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3990.0), OrderStatus.ACCEPTED)
    desk.amend(order, quantity=0.0049)
    desk.until(lambda: desk.of_type(OrderUpdateRejectedEvent))
    (event,) = desk.of_type(OrderUpdateRejectedEvent)
    assert RejectCause.TOO_SMALL == event.cause


def test_a_rest_below_the_minimum_can_be_closed(desk: Desk, venue: LiveVenue) -> None:
    desk.until_status(desk.submit("ETH-USDC", 0.0081, 4001.0, tif="ioc"), OrderStatus.FILLED)
    desk.until_status(desk.submit("ETH-USDC", -0.005, 3999.0, tif="ioc", reduce_only=True), OrderStatus.FILLED)
    desk.until_status(desk.submit("ETH-USDC", -0.0031, 3999.0, tif="ioc", reduce_only=True), OrderStatus.FILLED)
    desk.until_equal()
    assert {} == venue.truth()["positions"]


def test_a_refusal_leaves_the_orders_behind_it_alone(desk: Desk, venue: LiveVenue) -> None:
    orders = [desk.submit("ETH-USDC", 0.1 if n != 2 else 500.0, 3990.0 - n) for n in range(6)]
    desk.until(lambda: all(desk.order(order).status is not OrderStatus.SUBMITTED for order in orders))
    assert OrderStatus.REJECTED == desk.order(orders[2]).status
    desk.until_equal()
    assert [3990.0 - n for n in (0, 1, 3, 4, 5)] == [
        venue.engine.active_orders(US)[index].price_ticks / 100 for index in (4, 3, 2, 1, 0)
    ]


@pytest.mark.parametrize("tif", ["fok", "day", "post-only!"])
def test_an_unknown_time_in_force_is_refused_before_anything_is_sent(desk: Desk, tif: str) -> None:
    with pytest.raises(InvalidOrderParameters, match="use one of gtc, gtt, ioc, gtx, post_only"):
        desk.submit("ETH-USDC", 0.5, 3990.0, tif=tif)


def test_an_unknown_order_type_is_refused_before_anything_is_sent(desk: Desk) -> None:
    request = OrderRequest(desk.instrument("ETH-USDC"), 0.5, 3990.0, "ICEBERG", client_id="x")  # type: ignore[arg-type]
    with pytest.raises(NotSupported, match="ICEBERG is not supported: MARKET, LIMIT, STOP_MARKET, STOP_LIMIT are"):
        desk.connector.submit_order(request)


def test_two_hundred_orders_are_cancelled_with_one_transaction(desk: Desk, venue: LiveVenue) -> None:
    orders = [desk.submit("ETH-USDC", 0.01, 3900.0 - n) for n in range(200)]
    desk.until(lambda: all(desk.order(order).status is OrderStatus.ACCEPTED for order in orders))
    known = desk.connector.broker._sender.stats()["transactions"]  # type: ignore[attr-defined]
    connector_of(SimpleNamespace(_connectors={"LIGHTER": desk.connector})).cancel_all_orders()
    desk.until(lambda: all(desk.order(order).status is OrderStatus.CANCELED for order in orders))
    assert known + 1 == desk.connector.broker._sender.stats()["transactions"]  # type: ignore[attr-defined]
    desk.until_equal()
    assert {} == venue.truth()["orders"]


def test_the_orders_of_one_market_are_cancelled_and_the_others_stay(desk: Desk, venue: LiveVenue) -> None:
    gone = [desk.submit("ETH-USDC", 0.1, 3990.0 - n) for n in range(3)]
    stays = desk.until_status(desk.submit("BTC-USDC", 0.001, 99_000.0), OrderStatus.ACCEPTED)
    desk.until(lambda: all(desk.order(order).status is OrderStatus.ACCEPTED for order in gone))
    desk.connector.cancel_all_orders(desk.instrument("ETH-USDC"))  # type: ignore[attr-defined]
    desk.until(lambda: all(desk.order(order).status is OrderStatus.CANCELED for order in gone))
    desk.until_equal()
    assert OrderStatus.ACCEPTED == desk.order(stays).status


def test_there_is_no_connector_behind_a_simulation() -> None:
    assert "_connectors" in StrategyContext.__annotations__
    for context in (SimpleNamespace(), SimpleNamespace(_connectors={"LIGHTER": object()})):
        with pytest.raises(NotSupported, match="no live connector of LIGHTER"):
            connector_of(context)


def test_an_order_expires(venue: LiveVenue) -> None:
    with desk_on(venue, order_expiry_days=6 / (24 * 60)) as desk:
        order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3990.0), OrderStatus.ACCEPTED)
        six_minutes = venue.ask(lambda: venue.engine.now) + 361 * 10**6
        venue.ask(lambda: venue.venue.server.engine.apply(commands.AdvanceTime(), six_minutes))
        venue.execute(commands.AdvanceTime())
        desk.until_status(order, OrderStatus.EXPIRED)
        assert [order.client_order_id] == [event.client_order_id for event in desk.of_type(OrderExpiredEvent)]


def test_a_cancel_of_what_is_gone_is_rejected_and_the_truth_is_asked_for(desk: Desk, venue: LiveVenue) -> None:
    order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3990.0), OrderStatus.ACCEPTED)
    venue.execute(commands.CancelAll(US))
    desk.cancel(order)
    desk.until(lambda: desk.order(order).status.is_terminal)
    assert OrderStatus.CANCELED == desk.order(order).status
    rejected = desk.of_type(OrderCancelRejectedEvent)
    assert all(event.cause is RejectCause.NOT_FOUND for event in rejected)


def test_an_amend_of_what_is_gone_is_rejected(desk: Desk, venue: LiveVenue) -> None:
    order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3990.0), OrderStatus.ACCEPTED)
    venue.execute(commands.CancelAll(US))
    desk.amend(order, price=3991.0)
    desk.until(lambda: desk.of_type(OrderUpdateRejectedEvent))
    desk.until(lambda: desk.order(order).status.is_terminal)


def test_a_deal_before_the_acknowledgement_finds_its_order(desk: Desk, venue: LiveVenue) -> None:
    order = desk.submit("ETH-USDC", 1.0, 4001.0, tif="ioc")
    desk.until(lambda: len(desk.of_type(DealEvent)) and desk.of_type(OrderFilledEvent))
    taken = [event for event in desk.events if getattr(event, "client_order_id", None) == order.client_order_id]
    deals = [event for event in taken if isinstance(event, DealEvent)]
    anew = AccountManager(connectors={"LIGHTER": desk.connector}, base_currencies={"LIGHTER": "USDC"}, time=desk.time)
    fresh = replace(order, status=OrderStatus.SUBMITTED, venue_order_id=None, filled_quantity=0.0, avg_fill_price=None)
    anew.add_order(fresh)
    for event in [*deals, *[event for event in taken if event not in deals], *deals]:
        anew.apply(event)
    assert fresh is anew.get_order(order.client_order_id)
    assert {} == anew.get_orders(), "a phantom order took the deal"
    assert (1.0, OrderStatus.FILLED) == (fresh.filled_quantity, fresh.status)
    assert 1.0 == anew.get_position(order.instrument).quantity


# --- the account -----------------------------------------------------------------------------------------------------


def test_a_round_trip_leaves_profit_fees_and_balance_as_the_venue_has_them(desk: Desk, venue: LiveVenue) -> None:
    bought = desk.submit("ETH-USDC", 1.0, 4001.0, tif="ioc")
    desk.until_status(bought, OrderStatus.FILLED)
    venue.quote(ETH, ETH_MID + 50, ETH_MID + 90)
    sold = desk.submit("ETH-USDC", -1.0, 4000.5, tif="ioc")
    desk.until_status(sold, OrderStatus.FILLED)
    desk.until_equal()
    position = desk.account.get_position(bought.instrument)
    fees = (4001.0 + 4000.5) * 200e-6
    assert abs(-0.5 - position.r_pnl) < 1e-9
    assert abs(fees - position.commissions) < 1e-9
    assert abs(10_000 - 0.5 - fees - venue.truth()["balance"]) < 1e-6


def test_a_snapshot_is_stamped_before_it_is_asked_for_and_has_the_venues_figures(desk: Desk, venue: LiveVenue) -> None:
    desk.until_status(desk.submit("ETH-USDC", 1.0, 4001.0, tif="ioc"), OrderStatus.FILLED)
    desk.until_status(desk.submit("BTC-USDC", 0.01, 99_000.0), OrderStatus.ACCEPTED)
    before, known = desk.time.time(), len(desk.of_type(AccountSnapshotEvent))
    desk.connector.request_snapshot()
    asked = desk.time.time()
    desk.until(lambda: len(desk.of_type(AccountSnapshotEvent)) > known)
    snapshot = desk.of_type(AccountSnapshotEvent)[-1].snapshot
    assert before <= snapshot.as_of
    assert snapshot.as_of - asked < np.timedelta64(200, "ms")
    assert ("LIGHTER", 1, 1) == (snapshot.exchange, len(snapshot.positions), len(snapshot.open_orders))
    assert abs(venue.ask(venue.engine.total_value_micro, US) / 1e6 - snapshot.equity) < 1e-6
    assert abs(venue.ask(venue.engine.available_balance_micro, US) / 1e6 - snapshot.available_margin) < 1e-6
    assert not np.isnat(snapshot.positions[0].last_update_time)
    assert snapshot.equity == desk.account.get_total_capital("LIGHTER")
    pushed = desk.of_type(BalanceUpdateEvent)[-1].balance
    assert (pushed.total, pushed.currency) == (snapshot.balances[0].total, snapshot.balances[0].currency)
    desk.connector.request_snapshot(include_orders=False)
    desk.until(lambda: len(desk.of_type(AccountSnapshotEvent)) > known + 1)
    light = desk.of_type(AccountSnapshotEvent)[-1].snapshot
    assert light.open_orders is None
    assert light.as_of > snapshot.as_of


def test_orders_of_a_former_run_come_back_as_ours_and_can_be_cancelled(venue: LiveVenue) -> None:
    with desk_on(venue) as first:
        ours = first.until_status(first.submit("ETH-USDC", 0.5, 3990.0), OrderStatus.ACCEPTED)
        first.until_equal()
    with desk_on(venue) as second:
        second.until_equal()
        found = second.account.get_order(ours.client_order_id)
        assert found is not None
        assert OrderOrigin.RECOVERED == found.origin
        second.cancel(found)
        second.until_status(found, OrderStatus.CANCELED)
        assert {} == venue.truth()["orders"]


def test_orders_of_somebody_else_are_seen_and_can_be_cancelled(desk: Desk, venue: LiveVenue) -> None:
    for index in (0, 123):
        venue.execute(commands.PlaceOrder(US, ETH, False, 1000, 399_000 + index, client_order_index=index))
    desk.connector.request_snapshot()
    desk.until_equal()
    orders = list(desk.account.get_orders().values())
    assert {OrderOrigin.EXTERNAL} == {order.origin for order in orders}
    assert {"lighter_123"} == {
        order.client_order_id for order in orders if not order.client_order_id.startswith("ext:")
    }
    for order in orders:
        desk.cancel(order)
    desk.until(lambda: venue.truth()["orders"] == {})
    desk.until_equal()


def test_a_position_outside_the_universe_is_not_lost(venue: LiveVenue) -> None:
    venue.execute(commands.PlaceOrder(US, BTC, False, 1000, 1_000_010, time_in_force=0))
    with desk_on(venue) as desk:
        desk.until_equal()
        assert {BTC: 1000} == venue.truth()["positions"]


def test_leverage_goes_out_once_is_clamped_and_equal_values_are_skipped(desk: Desk, venue: LiveVenue) -> None:
    eth, btc = desk.instrument("ETH-USDC"), desk.instrument("BTC-USDC")
    assert (20.0, 50.0, "cross") == (
        desk.connector.get_instrument_leverage(eth),
        desk.connector.get_max_instrument_leverage(eth),
        desk.connector.get_margin_mode(eth),
    )
    desk.connector.set_instrument_leverage(btc, 20.0)  # what the venue has: nothing is sent
    desk.connector.set_instrument_leverage(eth, 3.0)
    desk.connector.set_instrument_leverage(eth, 500.0)  # replaces the wish that has not left, or follows it
    desk.until(lambda: desk.connector.get_instrument_leverage(eth) == 50.0)
    sent = venue.ask(lambda: [record.tx_type for record in venue.engine.transactions(10)])
    assert set(sent) == {20}
    assert len(sent) <= 2
    assert all(message[1] == "venue_settings" or "settings" in message[1] for message in desk.data)


def test_a_leverage_that_the_position_cannot_bear_is_an_error_and_not_believed(desk: Desk, venue: LiveVenue) -> None:
    venue.execute(commands.Deposit(MAKER, 10**12))
    venue.rest(ETH, ETH_MID + 100, 400_000, is_ask=True)
    desk.until_status(desk.submit("ETH-USDC", 40.0, 4001.0, tif="ioc"), OrderStatus.FILLED)
    eth = desk.instrument("ETH-USDC")
    desk.connector.set_instrument_leverage(eth, 1.0)
    desk.until(lambda: any(message[1] == "error" for message in desk.data))
    (error,) = [message[2] for message in desk.data if message[1] == "error"]
    assert ("set_instrument_leverage", eth) == (error.operation, error.instrument)
    assert 20.0 == desk.connector.get_instrument_leverage(eth)


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        (TxType.CREATE_ORDER, OrderRejectedEvent),
        (TxType.CANCEL_ORDER, OrderCancelRejectedEvent),
        (TxType.MODIFY_ORDER, OrderUpdateRejectedEvent),
    ],
)
def test_what_fails_at_the_sequencer_after_code_200_is_a_rejection(desk: Desk, kind: TxType, event: type) -> None:
    processor = desk.connector.account  # type: ignore[attr-defined]
    request = processor._requests.open(Request(kind, "qubx_ETH-USDC_5", ETH, "77"))
    processor._requests.sent(request, "abc", Signature(4, 10**9), 1)
    row = {
        "hash": "abc",
        "type": int(kind),
        "status": 2,
        "event_info": '{"ae":"not <enough> {margin}"}',
        "executed_at": 1,
    }
    frame = msgspec.json.encode({"txs": [row, row]})
    desk.call(processor._on_transactions, "update", frame)
    desk.until(lambda: desk.of_type(event))
    (rejected,) = desk.of_type(event)
    assert ("qubx_ETH-USDC_5", "77", "not <enough> {margin}") == (
        rejected.client_order_id,
        rejected.venue_order_id,
        rejected.reason,
    )


def test_an_order_in_an_unknown_state_leaves_the_others_their_say_and_the_account_is_fetched(desk: Desk) -> None:
    processor = desk.connector.account  # type: ignore[attr-defined]
    known = len(desk.of_type(AccountSnapshotEvent))
    row = {
        "order_index": (1 << 48) + 1,
        "client_order_index": 123,
        "market_index": ETH,
        "is_ask": True,
        "status": "levitating",
        "initial_base_amount": "1.0000",
        "remaining_base_amount": "1.0000",
        "filled_base_amount": "0.0000",
        "filled_quote_amount": "0.000000",
        "price": "5000.00",
    }
    good = row | {"order_index": (1 << 48) + 2, "client_order_index": 124, "status": "open"}
    desk.call(processor._on_orders, "update", msgspec.json.encode({"orders": {"0": [row, good]}}))
    desk.until(lambda: len(desk.of_type(AccountSnapshotEvent)) > known)
    assert ["lighter_124"] == [event.client_order_id for event in desk.of_type(OrderAcceptedEvent)]


def test_a_deal_without_an_order_moves_the_position_and_leaves_no_phantom(desk: Desk) -> None:
    now_us = int(desk.time.time().astype("datetime64[us]").astype("int64"))
    trade = {
        "trade_id": 5,
        "market_id": ETH,
        "price": "4000.00",
        "size": "0.2000",
        "is_maker_ask": True,
        "timestamp": now_us // 1000,
        "transaction_time": now_us,
        "type": "deleverage",
        "bid_account_id": US,
        "ask_account_id": 9,
    }
    processor = desk.connector.account  # type: ignore[attr-defined]
    desk.call(processor._on_trades, "update", msgspec.json.encode({"trades": [trade]}))
    desk.until(lambda: desk.of_type(OrderFilledEvent))
    assert 0.2 == desk.account.get_position(desk.instrument("ETH-USDC")).quantity
    assert {} == desk.account.get_orders()
    desk.until(lambda: any(message[1] == "error" for message in desk.data))
    (error,) = [message[2] for message in desk.data if message[1] == "error"]
    assert ("deleverage", 0.2, 4000.0) == (error.kind, error.amount, error.price)


def test_a_deal_without_client_ids_finds_its_order_by_the_venues_id(desk: Desk) -> None:
    order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3990.0), OrderStatus.ACCEPTED)
    now_us = int(desk.time.time().astype("datetime64[us]").astype("int64"))
    trade = {
        "trade_id": 5,
        "market_id": ETH,
        "price": "3990.00",
        "size": "0.2000",
        "is_maker_ask": False,
        "timestamp": now_us // 1000,
        "transaction_time": now_us,
        "bid_id": int(order.venue_order_id or 0),
        "bid_account_id": US,
        "ask_account_id": 9,
    }
    processor = desk.connector.account  # type: ignore[attr-defined]
    desk.call(processor._on_trades, "update", msgspec.json.encode({"trades": {"0": [trade], "1": None}}))
    desk.until(lambda: desk.of_type(DealEvent))
    assert order.client_order_id == desk.of_type(DealEvent)[0].client_order_id
    assert 0.2 == desk.order(order).filled_quantity


def test_catching_up_goes_on_until_it_succeeded(desk: Desk, venue: LiveVenue) -> None:
    order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3999.5), OrderStatus.ACCEPTED)
    processor = desk.connector.account  # type: ignore[attr-defined]
    account = venue.ask(venue.engine.account, US)
    keys = dict(account.keys)
    venue.drop_connections()
    venue.ask(account.keys.clear)  # REST refuses the token for now
    venue.take(ETH, 399_950, 5000, is_ask=True)
    desk.until(lambda: processor.stats()["recoveries"] == 1)
    venue.ask(account.keys.update, keys)
    desk.until_status(order, OrderStatus.FILLED)
    desk.until_equal()


def test_closing_flushes_what_was_sent_last(venue: LiveVenue) -> None:
    with desk_on(venue) as desk:
        orders = [desk.submit("ETH-USDC", 0.1, 3990.0 - n) for n in range(5)]
        for order in orders:
            desk.until_status(order, OrderStatus.ACCEPTED)
        for order in orders:
            desk.cancel(desk.order(order))
    assert {} == venue.truth()["orders"]
    desk.connector.disconnect()  # a second time is nothing


# --- faults ----------------------------------------------------------------------------------------------------------


def test_what_a_lost_connection_missed_is_caught_up_with_once(desk: Desk, venue: LiveVenue) -> None:
    filled = desk.until_status(desk.submit("ETH-USDC", 0.5, 3999.5), OrderStatus.ACCEPTED)
    partly = desk.until_status(desk.submit("ETH-USDC", 0.5, 3999.4), OrderStatus.ACCEPTED)
    cancelled = desk.until_status(desk.submit("ETH-USDC", 0.5, 3990.0), OrderStatus.ACCEPTED)
    venue.drop_connections()
    venue.take(ETH, 399_950, 5000, is_ask=True)
    venue.take(ETH, 399_940, 2000, is_ask=True)
    index = int(desk.order(cancelled).venue_order_id or 0)
    venue.execute(commands.CancelOrder(US, ETH, index))
    desk.until_status(filled, OrderStatus.FILLED)
    desk.until_status(cancelled, OrderStatus.CANCELED)
    desk.until_status(partly, OrderStatus.PARTIALLY_FILLED)
    desk.until_equal()
    assert (0.5, 0.2) == (desk.order(filled).filled_quantity, desk.order(partly).filled_quantity)
    deals = [event.deal.trade_id for event in desk.of_type(DealEvent) if not event.historical]
    assert sorted(set(deals)) == sorted(deals)
    assert 2 == len(deals)


@pytest.mark.parametrize("seed", range(4))
def test_cables_cut_again_and_again_leave_the_account_exactly_the_venues(
    seed: int, desk: Desk, venue: LiveVenue
) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    orders: list[Order] = []
    for _ in range(30):
        orders.append(desk.submit("ETH-USDC", 0.05, 3998.0 + 0.05 * chance.randrange(40)))
        if chance.random() < 0.2:
            venue.drop_connections()
        if chance.random() < 0.5:
            venue.take(ETH, ETH_MID - 100, chance.randrange(50, 1000), is_ask=True)
        if chance.random() < 0.2:
            desk.listen(chance.random() * 0.1)
        order = desk.order(chance.choice(orders))
        if order.status in (OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED):
            if chance.random() < 0.5:
                desk.cancel(order)
            else:
                desk.amend(order, price=3998.0 + 0.05 * chance.randrange(40))
    desk.until(desk.connector.is_ws_ready)
    rows = venue.ask(lambda: [*venue.engine.active_orders(US), *venue.engine.inactive_orders(US)])
    arrived = {row.client_order_index for row in rows}
    index_of = desk.connector.broker._converter.ids.index_of  # type: ignore[attr-defined]
    # What never arrived stays in flight, for Qubx's reconciler to ask about; everything else is told.
    known = [order for order in orders if index_of(order.client_order_id) in arrived]
    desk.until(lambda: all(desk.order(order).status is not OrderStatus.SUBMITTED for order in known))
    assert not [order for order in known if desk.order(order).status is OrderStatus.REJECTED]
    desk.until_equal()
    booked = [event.deal.trade_id for event in desk.of_type(DealEvent)]
    ours = venue.ask(lambda: [str(trade.trade_id) for trade in venue.engine.trades(account_index=US)])
    assert set(ours) == set(booked)


def test_the_status_of_an_order_is_answered_with_the_truth_and_with_its_client_id(desk: Desk, venue: LiveVenue) -> None:
    order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3999.5), OrderStatus.ACCEPTED)
    known = len(desk.of_type(OrderAcceptedEvent))
    desk.connector.request_order_status(desk.order(order))
    desk.until(lambda: len(desk.of_type(OrderAcceptedEvent)) > known)
    assert order.client_order_id == desk.of_type(OrderAcceptedEvent)[-1].client_order_id
    venue.take(ETH, 399_950, 5000, is_ask=True)
    desk.until_status(order, OrderStatus.FILLED)
    known = len(desk.of_type(OrderFilledEvent))
    desk.connector.request_order_status(desk.order(order))
    desk.until(lambda: len(desk.of_type(OrderFilledEvent)) > known)
    event = desk.of_type(OrderFilledEvent)[-1]
    assert (order.client_order_id, None) == (event.client_order_id, event.venue_filled_quantity)


def test_an_order_that_the_venue_never_saw_is_rejected_but_not_while_it_may_arrive(desk: Desk) -> None:
    order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3990.0), OrderStatus.ACCEPTED)
    ghost = desk.submit("ETH-USDC", 0.5, 3980.0)
    desk.until_status(ghost, OrderStatus.ACCEPTED)
    lost = desk.order(order)
    phantom = type(lost)(
        client_order_id="qubx_ETH-USDC_1",
        type=lost.type,
        instrument=lost.instrument,
        quantity=1.0,
        side=lost.side,
        time_in_force="gtc",
        submitted_at=desk.time.time(),
    )
    desk.connector.request_order_status(phantom)
    phantom.submitted_at = desk.time.time() - np.timedelta64(60, "s")
    desk.connector.request_order_status(phantom)
    desk.until(lambda: desk.of_type(OrderRejectedEvent))
    (event,) = desk.of_type(OrderRejectedEvent)
    assert ("qubx_ETH-USDC_1", "OrderNotFound", RejectCause.NOT_FOUND) == (
        event.client_order_id,
        event.code,
        event.cause,
    )


def test_historical_deals_are_marked_and_change_nothing_that_is_booked(desk: Desk, venue: LiveVenue) -> None:
    since = desk.time.time() - np.timedelta64(60, "s")
    order = desk.submit("ETH-USDC", 1.0, 4001.0, tif="ioc")
    desk.until_status(order, OrderStatus.FILLED)
    desk.until_equal()
    known = len(desk.of_type(DealEvent))
    desk.connector.request_hist_deals(order.instrument, since)
    desk.until(lambda: len(desk.of_type(DealEvent)) > known)
    historical = desk.of_type(DealEvent)[-1]
    assert (True, desk.order(order).venue_order_id) == (historical.historical, historical.venue_order_id)
    assert desk.of_type(DealEvent)[0].deal.trade_id == historical.deal.trade_id
    desk.until_equal()
    assert 1.0 == desk.account.get_position(order.instrument).quantity


def test_a_snapshot_that_cannot_be_fetched_whole_is_not_sent(desk: Desk, venue: LiveVenue) -> None:
    desk.until_status(desk.submit("ETH-USDC", 1.0, 4001.0, tif="ioc"), OrderStatus.FILLED)
    known = len(desk.of_type(AccountSnapshotEvent))
    account = venue.ask(venue.engine.account, US)
    keys = dict(account.keys)
    venue.ask(account.keys.clear)  # orders need a token of a registered key, positions do not
    desk.connector.request_snapshot()
    desk.until(lambda: desk.connector.account.stats()["failed_snapshots"] == 1)  # type: ignore[attr-defined]
    venue.ask(account.keys.update, keys)
    assert known == len(desk.of_type(AccountSnapshotEvent))
    desk.until_equal()


def test_reconnecting_is_asked_for_without_waiting(desk: Desk) -> None:
    assert desk.connector.is_ws_ready()
    assert desk.connector.reconnect() is True
    desk.until(lambda: not desk.connector.is_ws_ready())
    desk.until(desk.connector.is_ws_ready)
    desk.until_equal()
