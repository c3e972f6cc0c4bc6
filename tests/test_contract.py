"""Qubx's contract, line by line: what a connector must do so that Qubx's own account is the venue's whatever goes wrong.

Each test is one line of the acceptance list that was derived from Qubx 5's source. Real sockets, real signatures, Qubx's own
account manager with its reconciler, whose waits are short here; what goes wrong is the venue's doing.
"""

from __future__ import annotations

import inspect
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from qubx.connectors.plugin import BuildContext, ExchangePlugin
from qubx.connectors.registry import ConnectorRegistry
from qubx.core.basics import CtrlChannel, LiveTimeProvider, MarketType, OrderOrigin, OrderStatus, RejectCause
from qubx.core.connector import IConnector
from qubx.core.events import (
    AccountSnapshotEvent,
    DealEvent,
    OrderAcceptedEvent,
    OrderCanceledEvent,
    OrderEvent,
    OrderPartiallyFilledEvent,
    OrderRejectedEvent,
)
from qubx.core.interfaces import IDataProvider
from qubx.data.registry import StorageRegistry
from qubx.health.dummy import DummyHealthMonitor
from qubx.plugins.loader import PluginLoader
from qubx.utils.runner.accounts import AccountConfigurationManager

import qubx_lighter.storage
from qubx_lighter.constants import TxType
from qubx_lighter.data import LighterDataProvider
from qubx_lighter.errors import ConfigurationError
from qubx_lighter.sim.faults import Kind
from qubx_lighter.sim.model import commands
from tests.live import BTC, ETH, US, Desk, LiveVenue, LoopThread
from tests.reconciling import Reconciling
from tests.waiting import until

ORDERS, TRADES = f"account_all_orders:{US}", f"account_all_trades:{US}"
CREATE, CANCEL, AMEND = (str(int(tx)) for tx in (TxType.CREATE_ORDER, TxType.CANCEL_ORDER, TxType.MODIFY_ORDER))


@pytest.fixture
def desk(venue: LiveVenue) -> Iterator[Reconciling]:
    desk = Reconciling(venue)
    try:
        desk.start()
        yield desk
    finally:
        desk.close()


def transactions(venue: LiveVenue, tx_type: TxType) -> int:
    """Count what the venue's sequencer took."""
    return venue.ask(lambda: sum(record.tx_type == tx_type for record in venue.engine.transactions(10_000)))


def told(desk: Desk, order: Any, *types: type) -> list[OrderEvent]:
    """List the events of an order."""
    return [event for event in desk.of_type(*types) if event.client_order_id == order.client_order_id]


# --- "PluginLoader.load("lighter") works from a wheel in a clean venv" -------------------------------------------------


def test_the_plugin_loads_by_its_entry_point() -> None:
    """From the environment that the tests run in; ``make build`` does it from the wheel, in a clean one, and trades."""
    assert "lighter" in PluginLoader.available()
    plugin = PluginLoader.load("lighter")
    assert isinstance(plugin, ExchangePlugin)
    assert "lighter" == plugin.name


# --- "isinstance(connector, IConnector); provider implements every method; both use ctx.channel" -----------------------


def test_connector_and_provider_have_every_method_and_use_the_one_channel(desk: Desk) -> None:
    assert isinstance(desk.connector, IConnector)
    for name, method in inspect.getmembers(IDataProvider, inspect.isfunction):
        if not name.startswith("_"):
            own = getattr(LighterDataProvider, name)
            assert own is not method or name in ("is_instrument_listed", "on_instruments_changed"), name
            assert inspect.signature(method).parameters.keys() <= inspect.signature(own).parameters.keys(), name
    assert desk.channel is desk.provider.channel
    assert desk.channel is desk.connector.channel
    assert "LIGHTER" == desk.provider.exchange()


# --- "live proof on a local venue: market, post-only reject, limit, modify, cancel, close; paper; simulate" ------------


def test_a_strategys_round_of_orders_goes_through(desk: Desk, venue: LiveVenue) -> None:
    """The same as ``qubx run`` and ``qubx run --paper`` are tests of ``test_qubx_run``, ``qubx simulate`` of ``test_documents``."""
    eth = desk.instrument("ETH-USDC")
    desk.provider.subscribe("quote", {eth})
    desk.until(lambda: desk.provider.get_quote(eth) is not None)
    market = desk.until_status(desk.submit("ETH-USDC", 0.5), OrderStatus.FILLED)
    crossing = desk.until_status(desk.submit("ETH-USDC", 0.5, 4005.0, tif="GTX"), OrderStatus.REJECTED)
    assert RejectCause.NOT_FILLABLE is told(desk, crossing, OrderRejectedEvent)[0].cause  # type: ignore[attr-defined]
    limit = desk.until_status(desk.submit("ETH-USDC", 0.5, 3990.0), OrderStatus.ACCEPTED)
    desk.amend(limit, price=3991.0, quantity=0.6)
    desk.until(lambda: desk.order(limit).price == 3991.0 and desk.order(limit).quantity == 0.6)
    desk.cancel(desk.order(limit))
    desk.until_status(limit, OrderStatus.CANCELED)
    closing = desk.until_status(desk.submit("ETH-USDC", -0.5, reduceOnly=True), OrderStatus.FILLED)
    desk.until_equal()
    assert {} == venue.truth()["positions"]
    assert [0.5, 0.5] == [desk.order(order).filled_quantity for order in (market, closing)]


def test_history_is_found_by_name_and_by_class_path(tmp_path: Path) -> None:
    venue = LiveVenue(tmp_path, history_days=2.0)
    try:
        found = [
            StorageRegistry.get(name, base_url=venue.venue.url)
            for name in ("lighter", f"{qubx_lighter.storage.LighterStorage.__module__}.LighterStorage")
        ]
        assert [qubx_lighter.storage.LighterStorage] * 2 == [type(storage) for storage in found]
        rows = [storage.get_reader("LIGHTER", MarketType.SWAP).get_data_id("ohlc(1h)") for storage in found]
        assert {"ETH-USDC", "BTC-USDC"} <= set(rows[0])
        assert rows[0] == rows[1]
        for storage in found:
            storage.close()
    finally:
        venue.close()


# --- "every event carries cid + venue id + instrument + venue time; trade ids equal on WS and REST" --------------------


def test_every_event_names_its_order_and_a_trade_has_one_id_on_both_ways(desk: Desk, venue: LiveVenue) -> None:
    since = desk.time.time() - np.timedelta64(60, "s")
    order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3999.5), OrderStatus.ACCEPTED)
    venue.take(ETH, 399_950, 2000, is_ask=True)
    desk.until_status(order, OrderStatus.PARTIALLY_FILLED)
    desk.cancel(desk.order(order))
    desk.until_status(order, OrderStatus.CANCELED)
    desk.until_equal()
    events = desk.of_type(OrderEvent)
    assert {OrderAcceptedEvent, OrderPartiallyFilledEvent, OrderCanceledEvent, DealEvent} == {type(e) for e in events}
    for event in events:
        assert (order.client_order_id, desk.order(order).venue_order_id, order.instrument) == (
            event.client_order_id,
            event.venue_order_id,
            event.instrument,
        )
        assert abs(event.last_update_time - desk.time.time()) < np.timedelta64(10, "s")
    streamed = [event.deal.trade_id for event in desk.of_type(DealEvent)]
    desk.connector.request_hist_deals(order.instrument, since)
    desk.until(lambda: [event for event in desk.of_type(DealEvent) if event.historical])
    assert streamed == [event.deal.trade_id for event in desk.of_type(DealEvent) if event.historical]


# --- "fault tests against AccountState/Reconciler" -----------------------------------------------------------------------


def test_a_lost_ack_is_found_by_the_reconciler(desk: Desk, venue: LiveVenue) -> None:
    venue.fault(Kind.LOSE, ORDERS)
    venue.fault(Kind.SWALLOW, CREATE)
    order = desk.submit("ETH-USDC", 0.5, 3990.0)
    desk.until_status(order, OrderStatus.ACCEPTED)
    desk.until_equal()
    assert 1 == transactions(venue, TxType.CREATE_ORDER)
    assert desk.order(order).venue_order_id in {str(index) for index in venue.truth()["orders"]}


def test_a_lost_fill_is_found_by_the_reconciler_and_booked_once(desk: Desk, venue: LiveVenue) -> None:
    order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3999.5), OrderStatus.ACCEPTED)
    venue.fault(Kind.LOSE, ORDERS)
    venue.fault(Kind.LOSE, TRADES)
    venue.take(ETH, 399_950, 5000, is_ask=True)
    desk.until_status(order, OrderStatus.FILLED)
    desk.until_equal()
    desk.until(lambda: desk.order(order).filled_quantity == 0.5)
    assert {ETH: 5000} == venue.truth()["positions"]


def test_a_lost_cancel_is_found_by_the_reconciler(desk: Desk, venue: LiveVenue) -> None:
    order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3990.0), OrderStatus.ACCEPTED)
    venue.fault(Kind.LOSE, ORDERS)
    venue.fault(Kind.SWALLOW, CANCEL)
    desk.cancel(order)
    desk.until_status(order, OrderStatus.CANCELED)
    desk.until_equal()
    assert 1 == len(told(desk, order, OrderCanceledEvent))


def test_frames_that_come_twice_say_everything_once(desk: Desk, venue: LiveVenue) -> None:
    venue.fault(Kind.DUPLICATE, "account_", times=0)
    order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3999.5), OrderStatus.ACCEPTED)
    for _ in range(2):
        venue.take(ETH, 399_950, 1000, is_ask=True)
    desk.until(lambda: desk.order(order).filled_quantity == 0.2)
    desk.cancel(desk.order(order))
    desk.until_status(order, OrderStatus.CANCELED)
    desk.until_equal()
    assert (1, 1, 2) == tuple(
        len(told(desk, order, kind)) for kind in (OrderAcceptedEvent, OrderCanceledEvent, DealEvent)
    )
    assert {ETH: 2000} == venue.truth()["positions"]


def test_a_deal_before_the_ack_belongs_to_its_order(desk: Desk, venue: LiveVenue) -> None:
    venue.fault(Kind.REORDER, ORDERS)
    order = desk.submit("ETH-USDC", 0.5, 4001.0, tif="ioc")
    desk.until_status(order, OrderStatus.FILLED)
    desk.until_equal()
    kinds = [type(event) for event in told(desk, order, OrderEvent)]
    assert kinds.index(DealEvent) < kinds.index(OrderAcceptedEvent), "the frames came in the usual order"
    assert (0.5, []) == (desk.order(order).filled_quantity, list(desk.account.get_orders()))


def test_a_modify_that_races_a_fill_leaves_the_venues_order(desk: Desk, venue: LiveVenue) -> None:
    order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3999.5), OrderStatus.ACCEPTED)
    venue.fault(Kind.REORDER, ORDERS)  # the fill's row comes behind the amend's
    venue.take(ETH, 399_950, 1000, is_ask=True)
    desk.amend(desk.order(order), quantity=0.3)
    desk.until(lambda: desk.order(order).quantity == 0.3 and desk.order(order).filled_quantity == 0.1)
    desk.until_equal()
    assert [(3000, 1000, 399_950)] == list(venue.truth()["orders"].values())
    desk.amend(desk.order(order), quantity=0.4)
    venue.take(ETH, 399_950, 4000, is_ask=True)  # perhaps before it, perhaps behind
    desk.until_status(order, OrderStatus.FILLED)
    desk.until_equal()


def test_a_snapshot_that_races_a_fill_does_not_take_it_back(desk: Desk, venue: LiveVenue) -> None:
    order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3999.5), OrderStatus.ACCEPTED)
    known = len(desk.of_type(AccountSnapshotEvent))
    venue.fault(Kind.HANG, "/api/v1/account", seconds=0.3, times=3)
    desk.connector.request_snapshot()
    venue.take(ETH, 399_950, 2000, is_ask=True)
    desk.until(lambda: desk.order(order).filled_quantity == 0.2)
    desk.until(lambda: len(desk.of_type(AccountSnapshotEvent)) > known + 1)
    assert 0.2 == desk.account.get_position(order.instrument).quantity
    assert 0.2 == desk.order(order).filled_quantity
    desk.until_equal()


@pytest.mark.parametrize("kind", [Kind.CUT_BEFORE, Kind.CUT_AFTER])
def test_a_socket_that_drops_with_an_order_in_flight_leaves_one_order_or_none(
    kind: Kind, desk: Desk, venue: LiveVenue
) -> None:
    venue.fault(kind, CREATE)
    order = desk.submit("ETH-USDC", 0.5, 3990.0)
    expected = 1 if kind is Kind.CUT_AFTER else 0
    if expected:
        desk.until_status(order, OrderStatus.ACCEPTED)
    else:
        desk.until(lambda: desk.connector.broker._sender.stats()["unknown"])  # type: ignore[attr-defined]
        desk.until(desk.connector.is_ws_ready)
        assert OrderStatus.SUBMITTED is desk.order(order).status, "what nobody knows was told"
        venue.time.ahead_s += 12.0  # now it cannot come any more
        desk.until_status(order, OrderStatus.REJECTED)
        assert "OrderNotFound" == told(desk, order, OrderRejectedEvent)[0].code  # type: ignore[attr-defined]
    desk.until_equal()
    assert (expected, expected) == (transactions(venue, TxType.CREATE_ORDER), len(venue.truth()["orders"]))


def test_resting_orders_of_a_former_run_are_recovered_and_cancellable(venue: LiveVenue) -> None:
    first = Reconciling(venue)
    first.start()
    order = first.until_status(first.submit("ETH-USDC", 0.5, 3999.5), OrderStatus.ACCEPTED)
    venue.take(ETH, 399_950, 1000, is_ask=True)
    first.until_equal()
    first.close()
    second = Reconciling(venue)
    try:
        second.start()
        found = second.account.get_order(order.client_order_id)
        assert found is not None
        assert (OrderOrigin.RECOVERED, OrderStatus.PARTIALLY_FILLED, 0.1) == (
            found.origin,
            found.status,
            found.filled_quantity,
        )
        second.until_equal()
        suggested = order.client_order_id.replace(
            "ETH", "BTC"
        )  # Qubx counts from the time, orders of all symbols alike
        other = second.until_status(
            second.submit("BTC-USDC", 0.01, 99_000.0, client_id=suggested), OrderStatus.ACCEPTED
        )
        assert suggested != other.client_order_id, "two orders share one index at the venue"
        second.cancel(found)
        second.until_status(found, OrderStatus.CANCELED)
        second.until_equal()
    finally:
        second.close()


def test_orders_of_others_are_external_and_cancellable(desk: Desk, venue: LiveVenue) -> None:
    for index in (0, 123):
        venue.execute(commands.PlaceOrder(US, ETH, False, 1000, 399_000 + index, client_order_index=index))
    desk.until(lambda: len(desk.account.get_orders()) == 2)
    orders = list(desk.account.get_orders().values())
    assert {OrderOrigin.EXTERNAL} == {order.origin for order in orders}
    for order in orders:
        desk.cancel(order)
    desk.until(lambda: venue.truth()["orders"] == {})
    desk.until_equal()


def test_an_account_that_meets_itself_books_both_sides(desk: Desk, venue: LiveVenue) -> None:
    resting = desk.until_status(desk.submit("ETH-USDC", 0.5, 3999.5), OrderStatus.ACCEPTED)
    taking = desk.submit("ETH-USDC", -0.5, 3999.5)  # the venue lets no account trade with itself
    desk.until_status(resting, OrderStatus.CANCELED)
    desk.until_status(taking, OrderStatus.ACCEPTED)
    desk.until_equal()
    now_us = int(desk.time.time().astype("datetime64[us]").astype("int64"))
    trade = {"trade_id": 5, "market_id": ETH, "price": "3999.50", "size": "0.2000", "type": "trade"}
    trade |= {"timestamp": now_us // 1000, "transaction_time": now_us, "is_maker_ask": True}
    trade |= {"bid_account_id": US, "ask_account_id": US, "ask_id": int(desk.order(taking).venue_order_id or 0)}
    frame = msgspec.json.encode({"trades": [trade | {"bid_id": (1 << 48) + 9}]})  # should it ever do so
    desk.call(desk.connector.account._on_trades, "update", frame)  # type: ignore[attr-defined]
    desk.until(lambda: len(desk.of_type(DealEvent)) == 2)
    assert {"5:a", "5:b"} == {event.deal.trade_id for event in desk.of_type(DealEvent)}
    assert 0.0 == sum(event.deal.amount for event in desk.of_type(DealEvent))


def test_a_position_in_a_market_outside_the_universe_is_kept(venue: LiveVenue) -> None:
    venue.execute(commands.PlaceOrder(US, BTC, False, 1000, 1_000_010, time_in_force=0))
    desk = Reconciling(venue)
    try:
        desk.start()
        desk.until_equal()
        assert {BTC: 1000} == desk.view()["positions"]
    finally:
        desk.close()


def test_a_lost_amend_is_found_by_the_reconciler(desk: Desk, venue: LiveVenue) -> None:
    order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3990.0), OrderStatus.ACCEPTED)
    venue.fault(Kind.LOSE, ORDERS)
    venue.fault(Kind.SWALLOW, AMEND)
    desk.amend(desk.order(order), price=3991.0)
    desk.until(lambda: desk.order(order).price == 3991.0 and desk.order(order).status is OrderStatus.ACCEPTED)
    desk.until_equal()
    assert 1 == transactions(venue, TxType.MODIFY_ORDER)


# --- "snapshot: any failed leg -> no event; NaN-free last_update_time; avg price > 0; as_of local & before fetch" -------


@pytest.mark.parametrize("leg", ["/api/v1/account", "/api/v1/accountActiveOrders"])
def test_a_snapshot_with_a_failed_leg_is_none(leg: str, desk: Desk, venue: LiveVenue) -> None:
    desk.until_status(desk.submit("ETH-USDC", 1.0, 4001.0, tif="ioc"), OrderStatus.FILLED)
    desk.until_equal()
    failed = desk.connector.account.stats()["failed_snapshots"]  # type: ignore[attr-defined]
    venue.fault(Kind.ERROR, leg, code=400, text='{"code":29500,"message":"internal server error"}', times=0)
    desk.until(lambda: desk.connector.account.stats()["failed_snapshots"] > failed + 1)  # type: ignore[attr-defined]
    known = len(desk.of_type(AccountSnapshotEvent))
    desk.connector.request_snapshot()
    failed = desk.connector.account.stats()["failed_snapshots"]  # type: ignore[attr-defined]
    desk.until(lambda: desk.connector.account.stats()["failed_snapshots"] > failed)  # type: ignore[attr-defined]
    assert known == len(desk.of_type(AccountSnapshotEvent))
    assert 1.0 == desk.account.get_position(desk.instrument("ETH-USDC")).quantity
    venue.no_more_faults()
    desk.until(lambda: len(desk.of_type(AccountSnapshotEvent)) > known)
    desk.until_equal()


def test_a_snapshot_is_stamped_before_it_is_asked_for_and_has_no_gaps(desk: Desk) -> None:
    desk.until_status(desk.submit("ETH-USDC", 1.0, 4001.0, tif="ioc"), OrderStatus.FILLED)
    desk.until_status(desk.submit("ETH-USDC", 0.1, 3990.0), OrderStatus.ACCEPTED)
    asked, known = desk.time.time(), len(desk.of_type(AccountSnapshotEvent))
    desk.until(lambda: len(desk.of_type(AccountSnapshotEvent)) > known + 1)
    snapshot = desk.of_type(AccountSnapshotEvent)[-1].snapshot
    assert asked < snapshot.as_of < desk.time.time()
    (position,), (order,) = snapshot.positions, snapshot.open_orders
    assert position.position_avg_price > 0
    for row in (position, order, *snapshot.balances):
        assert np.issubdtype(np.datetime64(row.last_update_time).dtype, np.datetime64)
        assert not np.isnat(np.datetime64(row.last_update_time))


# --- "watchdog: unsubscribe -> subscribe really re-opens the channel and republishes a snapshot" -----------------------


def test_unsubscribing_and_subscribing_again_brings_a_new_snapshot(desk: Desk, venue: LiveVenue) -> None:
    eth = desk.instrument("ETH-USDC")

    def books() -> int:
        return sum(message[0] is eth and "orderbook" in message[1] for message in desk.data)

    def listening() -> bool:
        return venue.ask(lambda: bool(venue.venue.server.channels._subscribers.get(f"order_book:{ETH}")))

    desk.provider.subscribe("orderbook(0, 5)", {eth})
    desk.until(books)
    desk.provider.unsubscribe("orderbook(0, 5)", {eth})
    desk.until(lambda: not listening())
    seen = books()
    desk.provider.subscribe("orderbook(0, 5)", {eth}, reset=True)
    desk.until(lambda: books() > seen)  # of a market at rest: only a snapshot can be it
    assert listening()


# --- "set_instrument_leverage(3.0) for a 100-symbol universe does not exceed the venue's limit" ------------------------


def test_the_leverage_of_a_hundred_symbols_goes_out_within_the_venues_limit(tmp_path: Path) -> None:
    venue = LiveVenue(tmp_path, markets=["100"])
    desk = Reconciling(venue)
    try:
        desk.start()
        for spec in venue.ask(lambda: list(venue.engine.markets.values())):
            desk.connector.set_instrument_leverage(desk.instrument(f"{spec.symbol}-USDC"), 3.0)
        assert 100 == len(venue.ask(lambda: list(venue.engine.markets)))

        def sent() -> list[int]:
            records = venue.ask(lambda: venue.engine.transactions(10_000))
            return sorted(one.executed_at for one in records if one.tx_type == TxType.UPDATE_LEVERAGE)

        desk.until(lambda: len(sent()) == 3)
        times = sent()
        gaps = [(later - earlier) / 1e6 for earlier, later in itertools.pairwise(times)]
        assert all(gap >= 60 / 40 for gap in gaps), f"more than 40 a minute: {gaps}"
    finally:
        desk.close()
        venue.close()


# --- "no credentials: paper runs. No rate_limiting section: still paced. Unknown params: rejected with a clear error" ---


def context(loop: LoopThread, folder: Path, **params: Any) -> BuildContext:
    """Give what Qubx gives a plugin in a run without an account and without ``rate_limiting``."""
    return BuildContext(
        exchange_name="LIGHTER",
        time_provider=LiveTimeProvider(),
        channel=CtrlChannel("test"),
        credentials=AccountConfigurationManager(folder / "none.toml"),
        health_monitor=DummyHealthMonitor(),
        loop=loop.loop,
        params=params,
    )


def test_without_an_account_there_is_market_data(venue: LiveVenue, tmp_path: Path) -> None:
    """Which is all that a paper run needs; ``test_qubx_run`` runs one."""
    loop = LoopThread("SharedEventLoop")
    ctx = context(loop, tmp_path, base_url=venue.venue.url)
    provider = ConnectorRegistry.get_data_provider("lighter", ctx)
    provider.start()
    desk_instrument = Desk.instrument(None, "ETH-USDC")  # type: ignore[arg-type]  # Qubx's lookup, no desk's
    provider.subscribe("quote", {desk_instrument})
    instrument, kind, quote, _ = ctx.channel.receive(10)
    assert (desk_instrument, "quote", 3999.0, 4001.0) == (instrument, kind, quote.bid, quote.ask)
    provider.close()
    loop.stop()


def test_without_rate_limiting_subscriptions_are_paced_all_the_same(tmp_path: Path) -> None:
    venue = LiveVenue(tmp_path, markets=["100"])
    loop = LoopThread("SharedEventLoop")
    provider = ConnectorRegistry.get_data_provider("lighter", context(loop, tmp_path, base_url=venue.venue.url))
    provider.start()
    symbols = venue.ask(lambda: [f"{spec.symbol}-USDC" for spec in venue.engine.markets.values()])
    instruments = {Desk.instrument(None, symbol) for symbol in symbols}  # type: ignore[arg-type]
    for kind in ("orderbook(0, 5)", "trade", "ohlc(1m)"):
        provider.subscribe(kind, instruments)

    def stats() -> dict[str, int]:
        found: dict[str, int] = provider.stats()  # type: ignore[attr-defined]
        return found

    until(lambda: stats()["acknowledged"] >= 150 and stats()["queued"] >= 100, patience_s=20.0, shown=stats)
    refused = [value for name, value in stats().items() if name in ("errors", "refused", "ack_timeouts")]
    assert [0] * len(refused) == refused, stats()
    provider.close()
    loop.stop()
    venue.close()


def test_a_param_that_there_is_not_is_refused_with_what_was_meant(venue: LiveVenue, tmp_path: Path) -> None:
    loop = LoopThread("SharedEventLoop")
    with pytest.raises(Exception, match=r"unknown param 'base_ulr'.*did you mean 'base_url'") as refused:
        ConnectorRegistry.get_data_provider("lighter", context(loop, tmp_path, base_ulr=venue.venue.url))
    causes = refused.value, refused.value.__cause__
    assert any(isinstance(cause, ConfigurationError) for cause in causes)
    loop.stop()


# --- "ctx.stop() with pending cancels flushes them and returns within seconds; second stop is a no-op" ------------------


def test_stopping_flushes_cancels_within_seconds_and_again_is_nothing(venue: LiveVenue) -> None:
    """In Qubx's order: provider, channel, connector. ``test_killed_run`` stops a real run with its orders open."""
    desk = Reconciling(venue)
    desk.start()
    orders = [desk.submit("ETH-USDC", 0.1, 3990.0 - n) for n in range(5)]
    for order in orders:
        desk.until_status(order, OrderStatus.ACCEPTED)
    venue.fault(Kind.DELAY, CANCEL, seconds=0.2, times=0)
    for order in orders:
        desk.cancel(desk.order(order))
    start = time.monotonic()
    desk.provider.close()
    desk.channel.stop()
    desk.connector.disconnect()
    assert time.monotonic() - start < 5.0
    assert {} == venue.truth()["orders"]
    desk.provider.close()
    desk.connector.disconnect()
    desk._loop.stop()
