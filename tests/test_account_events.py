"""What happens to an account, and what Qubx is told of it, end to end."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np
import pytest
from qubx.core.basics import OrderOrigin, OrderStatus
from qubx.core.events import (
    AccountSnapshotEvent,
    BalanceUpdateEvent,
    DealEvent,
    FundingPaymentEvent,
    OrderCanceledEvent,
    OrderFilledEvent,
    OrderRejectedEvent,
    OrderUpdatedEvent,
)

from qubx_lighter.sim.faults import Kind
from qubx_lighter.sim.model import commands
from tests.live import BTC, BTC_MID, ETH, ETH_MID, MAKER, US, Desk, LiveVenue, desk_on


def holding(desk: Desk, symbol: str = "ETH-USDC", amount: float = 1.0) -> None:
    """Buy, or sell, at the maker's price."""
    price = {"ETH-USDC": ETH_MID / 100, "BTC-USDC": BTC_MID / 10}[symbol] + (1 if amount > 0 else -1)
    desk.until_status(desk.submit(symbol, amount, price, tif="ioc"), OrderStatus.FILLED)


# --- funding ---------------------------------------------------------------------------------------------------------


def payments(venue: LiveVenue) -> dict[tuple[int, int], float]:
    """What the venue's ledger says: (market, hour) -> amount."""
    found = venue.ask(lambda: list(venue.engine.account(US).fundings))
    return {(row.market_id, row.time // 3_600_000_000): row.change_micro / 1e6 for row in found}


def told(desk: Desk) -> list[tuple[int, int, float]]:
    ids = {desk.instrument("ETH-USDC"): ETH, desk.instrument("BTC-USDC"): BTC}
    return [
        (ids[event.instrument], int(event.time.astype("datetime64[h]").astype(int)), event.amount)
        for event in desk.of_type(FundingPaymentEvent)
    ]


def test_funding_is_booked_once_an_hour_as_the_venues_ledger_has_it(venue: LiveVenue) -> None:
    with desk_on(venue) as desk:
        holding(desk)  # before the clock is moved: the signer's own says until when a transaction holds
        holding(desk, "BTC-USDC", -0.01)
        desk.until_equal()
        before = desk.account.get_position(desk.instrument("ETH-USDC")).r_pnl
        for hours in (1, 2):
            venue.time.to_next_hour()
            desk.until(lambda: len(payments(venue)) >= 2 * hours)  # noqa: B023 - called before the next turn
            venue.time.ahead_s += 10  # the list is asked for
            desk.until(lambda: len(told(desk)) >= 2 * hours)  # noqa: B023
        stats = desk.connector.account.stats  # type: ignore[attr-defined]
        known = stats()
        venue.drop_connections()
        venue.time.ahead_s += 60  # the list is asked for again, and says what is known
        desk.until(lambda: stats()["recoveries"] > known["recoveries"])
        desk.until(lambda: stats()["funding_polls"] > known["funding_polls"])
        desk.until_equal()
        ledger = payments(venue)
        assert sorted((*key, amount) for key, amount in ledger.items()) == sorted(told(desk))
        for symbol, market in (("ETH-USDC", ETH), ("BTC-USDC", BTC)):
            position = desk.account.get_position(desk.instrument(symbol))
            paid = sum(amount for (market_id, _), amount in ledger.items() if market_id == market)
            assert abs(paid - position.cumulative_funding) < 1e-9
        eth = desk.account.get_position(desk.instrument("ETH-USDC"))
        assert abs(eth.r_pnl - before - eth.cumulative_funding) < 1e-9
    with desk_on(venue) as second:
        venue.time.to_next_hour()
        second.until(lambda: len(payments(venue)) >= 6)
        venue.time.ahead_s += 10
        second.until(lambda: len(told(second)) == 2)
        third = max(hour for _, hour in payments(venue))
        assert {third} == {hour for _, hour, _ in told(second)}


# --- money in and out ------------------------------------------------------------------------------------------------


def test_a_deposit_and_a_withdrawal_are_balances_at_the_venues_time(desk: Desk, venue: LiveVenue) -> None:
    for amount, total in ((500, 10_500.0), (-750, 9_750.0)):
        before = desk.time.time()
        assert venue.execute(commands.Deposit(US, amount * 10**6)).ok
        desk.until(lambda: desk.account.get_balance("USDC", "LIGHTER").total == total)  # noqa: B023 - called at once
        event = desk.of_type(BalanceUpdateEvent)[-1]
        assert (total, "USDC") == (event.balance.total, event.balance.currency)
        assert abs(event.as_of - before) < np.timedelta64(2, "s")
    desk.connector.request_snapshot()
    known = len(desk.of_type(AccountSnapshotEvent))
    desk.until(lambda: len(desk.of_type(AccountSnapshotEvent)) > known)
    desk.until_equal()


# --- what the venue does by itself -----------------------------------------------------------------------------------

OTHER = 8


@pytest.fixture
def heavy(desk: Desk, venue: LiveVenue) -> Desk:
    """A desk that is long 40 ETH from 4,001 on 10,000 USDC, in a market without bids."""
    venue.execute(commands.Deposit(MAKER, 10**12))
    venue.execute(commands.CreateAccount(OTHER, "0x8", 10**12))
    venue.rest(ETH, ETH_MID + 100, 400_000, is_ask=True)
    desk.until_status(desk.submit("ETH-USDC", 40.0, 4001.0, tif="ioc"), OrderStatus.FILLED)
    desk.until_equal()
    venue.execute(commands.CancelAll(MAKER))
    return desk


def mark(venue: LiveVenue, ticks: int) -> None:
    """Let others trade at a price."""
    venue.rest(ETH, ticks, 1000, is_ask=True)
    assert venue.execute(commands.PlaceOrder(OTHER, ETH, False, 1000, ticks, time_in_force=0)).ok


def errors(desk: Desk) -> list[Any]:
    return [message[2] for message in desk.data if message[1] == "error"]


def test_a_liquidation_is_deals_an_order_of_the_venues_and_an_error(heavy: Desk, venue: LiveVenue) -> None:
    for ticks in (379_000, 378_000):
        venue.rest(ETH, ticks, 200_000, is_ask=False)
    mark(venue, 379_600)  # 1,808 left where 1,822 are required
    heavy.until(lambda: errors(heavy))
    heavy.until_equal()
    assert {} == venue.truth()["positions"]
    position = heavy.account.get_position(heavy.instrument("ETH-USDC"))
    forced = [event for event in heavy.of_type(DealEvent) if event.client_order_id.startswith("ext:")]
    assert [(-20.0, 3790.0), (-20.0, 3780.0)] == [(event.deal.amount, event.deal.price) for event in forced]
    assert abs(20 * (3790.0 + 3780.0) - 40 * 4001.0 - position.r_pnl) < 1e-6
    fees = 40 * 4001.0 * 200e-6 + sum(event.deal.fee_amount for event in forced)
    assert abs(fees - position.commissions) < 1e-6
    heavy.until(lambda: heavy.account.get_order(forced[0].client_order_id).status.is_terminal)
    order: Any = heavy.account.get_order(forced[0].client_order_id)
    assert (OrderOrigin.EXTERNAL, OrderStatus.FILLED, 40.0) == (order.origin, order.status, order.filled_quantity)
    assert {} == heavy.account.get_orders()
    (error,) = errors(heavy)
    assert ("liquidation", heavy.instrument("ETH-USDC"), -20.0) == (error.kind, error.instrument, error.amount)
    heavy.until(lambda: heavy.connector.account.stats()["notifications"] == 1)  # type: ignore[attr-defined]


def test_deleveraging_is_a_deal_without_an_order_and_an_error(heavy: Desk, venue: LiveVenue) -> None:
    mark(venue, 374_000)  # less than nothing left, and nobody bids
    heavy.until(lambda: errors(heavy))
    heavy.until_equal()
    assert {} == venue.truth()["positions"]
    (error,) = errors(heavy)
    assert ("deleverage", -40.0) == (error.kind, error.amount)
    assert {} == heavy.account.get_orders()
    heavy.connector.request_snapshot()
    known = len(heavy.of_type(AccountSnapshotEvent))
    heavy.until(lambda: len(heavy.of_type(AccountSnapshotEvent)) > known)
    heavy.until_equal()


def test_old_notifications_are_left_alone_and_those_of_a_lost_connection_are_not(desk: Desk) -> None:
    processor = desk.connector.account  # type: ignore[attr-defined]
    known = processor.stats()["notifications"]

    def frame(*ids: str) -> bytes:
        return msgspec.json.encode({"notifs": [{"id": one, "kind": "announcement", "content": one} for one in ids]})

    for kind, ids, told in (
        ("update", ("old", "new"), 2),
        ("subscribed", ("old", "new", "missed"), 3),
        ("subscribed", ("old", "new", "missed"), 3),
        ("update", ("missed",), 3),
    ):
        desk.call(processor._money.on_notifications, kind, frame(*ids))
        assert known + told == processor.stats()["notifications"]


# --- ends ------------------------------------------------------------------------------------------------------------


def test_the_reason_of_a_cancellation_is_the_venues_word(desk: Desk, venue: LiveVenue) -> None:
    mine = desk.until_status(desk.submit("ETH-USDC", 0.5, 3999.5), OrderStatus.ACCEPTED)
    desk.until_status(desk.submit("ETH-USDC", -0.5, 3999.5, tif="ioc"), OrderStatus.CANCELED, OrderStatus.REJECTED)
    desk.until_status(mine, OrderStatus.CANCELED)
    assert mine.client_order_id in [event.client_order_id for event in desk.of_type(OrderCanceledEvent)]
    assert "canceled-self-trade" == desk.connector.end_reason(mine)  # type: ignore[attr-defined]
    asked = desk.until_status(desk.submit("ETH-USDC", 0.5, 3990.0), OrderStatus.ACCEPTED)
    assert desk.connector.end_reason(asked) is None  # type: ignore[attr-defined]
    desk.cancel(asked)
    desk.until_status(asked, OrderStatus.CANCELED)
    assert "canceled" == desk.connector.end_reason(asked)  # type: ignore[attr-defined]


# --- others on the same account --------------------------------------------------------------------------------------


def test_what_somebody_else_traded_meanwhile_leaves_a_position_and_no_open_order(desk: Desk, venue: LiveVenue) -> None:
    desk.until_equal()
    venue.drop_connections()
    venue.execute(commands.PlaceOrder(US, ETH, False, 3000, ETH_MID + 100, time_in_force=0))
    desk.until(lambda: desk.of_type(DealEvent))
    desk.until(lambda: desk.of_type(OrderFilledEvent))
    desk.until_equal()
    (deal,) = desk.of_type(DealEvent)
    order = desk.account.get_order(deal.client_order_id)
    assert order is not None
    assert (OrderOrigin.EXTERNAL, OrderStatus.FILLED) == (order.origin, order.status)
    assert {} == desk.account.get_orders()


def test_an_order_of_somebody_else_that_is_amended_is_told_in_the_venues_figures(desk: Desk, venue: LiveVenue) -> None:
    index = venue.execute(commands.PlaceOrder(US, ETH, False, 1000, ETH_MID - 1000, client_order_index=77)).order_index
    desk.connector.request_snapshot()
    desk.until_equal()
    order: Any = desk.account.get_order("lighter_77")
    desk.amend(order, price=3985.0, quantity=0.2)
    desk.until(lambda: desk.of_type(OrderUpdatedEvent))
    desk.until_equal()
    assert [(2000, 0, 398_500)] == list(venue.truth()["orders"].values())
    assert str(index) == order.venue_order_id


# --- questions -------------------------------------------------------------------------------------------------------


def test_history_of_more_than_a_page_has_every_deal_once_and_changes_nothing(desk: Desk, venue: LiveVenue) -> None:
    for _ in range(250):
        venue.rest(ETH, ETH_MID + 50, 50, is_ask=True)
    since = desk.time.time() - np.timedelta64(60, "s")
    order = desk.until_status(desk.submit("ETH-USDC", 1.25, 4000.5, tif="ioc"), OrderStatus.FILLED)
    desk.until_equal()
    live = [event.deal.trade_id for event in desk.of_type(DealEvent)]
    assert (250, 250) == (len(live), len(set(live)))
    desk.connector.request_hist_deals(order.instrument, since)
    desk.until(lambda: len(desk.of_type(DealEvent)) == 500)
    again = [event.deal.trade_id for event in desk.of_type(DealEvent) if event.historical]
    assert live == again
    desk.until_equal()
    assert 1.25 == desk.account.get_position(order.instrument).quantity


def test_the_status_of_an_order_that_ended_hundreds_of_orders_ago_is_the_truth(desk: Desk, venue: LiveVenue) -> None:
    index = venue.execute(commands.PlaceOrder(US, ETH, False, 1000, ETH_MID - 1000)).order_index
    desk.connector.request_snapshot()
    desk.until(lambda: desk.account.get_order(f"ext:{index}") is not None)
    order: Any = desk.account.get_order(f"ext:{index}")
    venue.execute(commands.CancelOrder(US, ETH, index))
    for _ in range(350):
        other = venue.execute(commands.PlaceOrder(US, ETH, False, 1000, ETH_MID - 1000)).order_index
        venue.execute(commands.CancelOrder(US, ETH, other))
    desk.until(lambda: len(desk.of_type(OrderCanceledEvent)) == 351)
    venue.time.ahead_s += 600
    order.submitted_at = desk.time.time()  # as Qubx does where it first hears of an order by its deal
    desk.connector.request_order_status(order)
    desk.until(lambda: len(desk.of_type(OrderCanceledEvent)) == 352)
    assert (order.client_order_id, str(index)) == (
        desk.of_type(OrderCanceledEvent)[-1].client_order_id,
        desk.of_type(OrderCanceledEvent)[-1].venue_order_id,
    )


def test_an_order_that_no_list_shows_but_that_traded_is_filled_and_never_rejected(desk: Desk, venue: LiveVenue) -> None:
    order = desk.until_status(desk.submit("ETH-USDC", 1.0, 4001.0, tif="ioc"), OrderStatus.FILLED)
    desk.until_equal()
    venue.ask(venue.engine.account(US).inactive.clear)
    venue.time.ahead_s += 60  # beyond what an order may take from one list to the other
    known = len(desk.of_type(OrderFilledEvent))
    desk.connector.request_order_status(desk.order(order))
    desk.until(lambda: len(desk.of_type(OrderFilledEvent)) > known)
    assert [] == desk.of_type(OrderRejectedEvent)
    desk.until_equal()


# --- late deals ------------------------------------------------------------------------------------------------------


def test_a_deal_that_comes_after_qubx_let_its_order_go_is_booked_all_the_same(desk: Desk, venue: LiveVenue) -> None:
    order = desk.until_status(desk.submit("ETH-USDC", 0.5, ETH_MID / 100 - 0.5), OrderStatus.ACCEPTED)
    venue.fault(Kind.LOSE, f"account_all_trades:{US}")
    venue.take(ETH, ETH_MID - 50, 5000, is_ask=True)
    desk.until_status(order, OrderStatus.FILLED)
    assert [] == desk.of_type(DealEvent)
    venue.time.ahead_s += 60
    desk.account._sweep_terminal_evictions()
    assert not desk.account.get_state("LIGHTER").has_active_order(order.client_order_id)
    venue.drop_connections()
    desk.until(lambda: desk.of_type(DealEvent))
    desk.until_equal()
    position = desk.account.get_position(order.instrument)
    (trade,) = venue.ask(lambda: list(venue.engine.trades(account_index=US)))
    assert position.commissions == pytest.approx(trade.quote_micro * trade.maker_fee_ppm / 1e12)


def test_what_a_long_outage_missed_is_fetched_though_newer_deals_came_before(desk: Desk, venue: LiveVenue) -> None:
    desk.until_status(desk.submit("ETH-USDC", 2.0, ETH_MID / 100 - 0.5), OrderStatus.ACCEPTED)
    near = desk.until_status(desk.submit("ETH-USDC", 0.01, ETH_MID / 100 - 0.4), OrderStatus.ACCEPTED)
    venue.fault(Kind.HANG, "/api/v1/accountActiveOrders", seconds=0.7)
    venue.drop_connections()
    index = int(desk.order(near).venue_order_id or 0)
    venue.execute(commands.CancelOrder(US, ETH, index))
    for _ in range(160):  # two pages over REST, and more than the channel replays
        venue.take(ETH, ETH_MID - 50, 100, is_ask=True)
    venue.time.ahead_s += 300
    desk.until(desk.connector.is_ws_ready)
    venue.take(ETH, ETH_MID - 50, 100, is_ask=True)
    desk.until_status(near, OrderStatus.CANCELED)
    desk.until_equal()
    trades = [str(trade.trade_id) for trade in venue.ask(lambda: list(venue.engine.trades(account_index=US)))]
    assert sorted(trades, key=int) == [event.deal.trade_id for event in desk.of_type(DealEvent)]


def test_an_order_that_is_looked_up_brings_the_deals_before_its_own_too(desk: Desk, venue: LiveVenue) -> None:
    orders = [
        desk.until_status(desk.submit("ETH-USDC", 0.5, ETH_MID / 100 - below), OrderStatus.ACCEPTED)
        for below in (0.5, 0.6)
    ]
    venue.fault(Kind.LOSE, f"account_all_trades:{US}", times=2)
    for order in orders:
        venue.take(ETH, round(order.price * 100), 5000, is_ask=True)
        desk.until_status(order, OrderStatus.FILLED)
    assert [] == desk.of_type(DealEvent)
    desk.connector.request_order_status(desk.order(orders[1]))
    desk.until(lambda: len(desk.of_type(DealEvent)) == 2)
    assert [each.client_order_id for each in orders] == [each.client_order_id for each in desk.of_type(DealEvent)]


@pytest.mark.parametrize(
    "fault", [{"kind": Kind.HANG, "seconds": 8.0}, {"kind": Kind.ERROR, "code": 503, "times": 0}], ids=["slow", "down"]
)
def test_a_deal_waits_only_so_long_for_those_that_an_outage_missed(
    desk: Desk, venue: LiveVenue, fault: dict[str, Any]
) -> None:
    desk.until_status(desk.submit("ETH-USDC", 2.0, ETH_MID / 100 - 0.5), OrderStatus.ACCEPTED)
    venue.fault(where="/api/v1/trades", **fault)
    venue.drop_connections()
    desk.until(lambda: not desk.connector.is_ws_ready())
    desk.until(desk.connector.is_ws_ready)
    begun = time.monotonic()
    venue.take(ETH, ETH_MID - 50, 100, is_ask=True)
    desk.until(lambda: desk.of_type(DealEvent))
    assert time.monotonic() - begun < 4.0  # 2 s; the venue says nothing for 8, or never anything
    venue.no_more_faults()
    desk.until_equal()
