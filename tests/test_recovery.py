"""What an outage or a slow start does to deals: each is told once and in the venue's order, whatever else is asked meanwhile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qubx.core.account_manager.config import AccountManagerConfig
from qubx.core.basics import OrderStatus
from qubx.core.events import DealEvent, OrderLostEvent

from qubx_lighter.sim.faults import Kind
from tests.live import ETH, ETH_MID, US, Desk, LiveVenue, desk_on
from tests.reconciling import Reconciling

MANY = 160  # trades: two pages over REST, and more than the channel replays


def told(desk: Desk) -> list[int]:
    """List the trade ids of the deals, as they were told."""
    return [int(event.deal.trade_id) for event in desk.of_type(DealEvent)]


def be_away(desk: Desk, venue: LiveVenue) -> None:
    """Cut the connection and trade more meanwhile than the new one will replay."""
    venue.drop_connections()
    desk.until(lambda: not desk.connector.is_ws_ready())
    for _ in range(MANY):
        venue.take(ETH, ETH_MID - 50, 100, is_ask=True)


def insist_on_order(desk: Desk, venue: LiveVenue) -> None:
    """Come back and trade once more before the recovery has an answer: that deal is the last one."""
    venue.fault(Kind.HANG, "/api/v1/accountActiveOrders", seconds=0.7)
    desk.until(desk.connector.is_ws_ready)
    venue.take(ETH, ETH_MID - 50, 100, is_ask=True)
    desk.until_equal()
    trades = [int(trade.trade_id) for trade in venue.ask(lambda: list(venue.engine.trades(account_index=US)))]
    assert sorted(trades) == told(desk)


@pytest.mark.parametrize("answers", [True, False])
def test_a_snapshot_asked_for_in_an_outage_does_not_end_the_waiting(
    desk: Desk, venue: LiveVenue, answers: bool
) -> None:
    desk.until_status(desk.submit("ETH-USDC", 5.0, ETH_MID / 100 - 0.5), OrderStatus.ACCEPTED)
    be_away(desk, venue)
    if not answers:
        venue.fault(Kind.ERROR, "/api/v1/trades", code=503, times=3)
    desk.connector.request_snapshot()
    desk.listen(0.6)
    assert not desk.connector.is_ws_ready()
    for _ in range(MANY):
        venue.take(ETH, ETH_MID - 50, 100, is_ask=True)
    insist_on_order(desk, venue)


def test_deals_that_qubx_asks_for_do_not_come_before_those_that_were_missed(desk: Desk, venue: LiveVenue) -> None:
    order = desk.until_status(desk.submit("ETH-USDC", 5.0, ETH_MID / 100 - 0.5), OrderStatus.ACCEPTED)
    be_away(desk, venue)
    venue.time.ahead_s += 10
    venue.take(ETH, ETH_MID - 50, 100, is_ask=True)
    desk.connector.request_hist_deals(order.instrument, venue.time.time() - np.timedelta64(2, "s"))
    desk.until(lambda: any(event.historical for event in desk.of_type(DealEvent)))
    first = list(dict.fromkeys(told(desk)))
    assert MANY + 1 == len(first)
    assert sorted(first) == first


def test_lookups_of_many_orders_share_their_questions(desk: Desk, venue: LiveVenue) -> None:
    orders = [
        desk.until_status(desk.submit("ETH-USDC", 0.02, ETH_MID / 100 - 0.5 - number / 100), OrderStatus.ACCEPTED)
        for number in range(12)
    ]
    for channel in ("account_all_trades", "account_all_orders"):
        venue.fault(Kind.LOSE, f"{channel}:{US}", times=len(orders))
    for _ in orders:
        venue.take(ETH, ETH_MID - 250, 200, is_ask=True)
    desk.listen(0.3)
    assert [] == told(desk)
    venue.fault(Kind.HANG, "/api/v1/trades", seconds=0.3, times=0)
    for order in orders:
        desk.connector.request_order_status(desk.order(order))
    desk.until(lambda: all(desk.order(order).status is OrderStatus.FILLED for order in orders))
    assert sorted(told(desk)) == told(desk)
    assert len(orders) == len(told(desk))
    assert venue.ask(lambda: venue.venue.server.faults.struck[Kind.HANG]) <= 3


def test_an_order_of_the_run_before_that_trades_before_the_first_snapshot_is_shown_as_it_is(venue: LiveVenue) -> None:
    with desk_on(venue) as former:
        order = former.until_status(former.submit("ETH-USDC", -2.0, ETH_MID / 100 + 0.5), OrderStatus.ACCEPTED)
    venue.fault(Kind.HANG, "/api/v1/account", seconds=1.0, times=2)
    desk = Desk(venue)
    try:
        desk.connector.connect()
        desk.provider.start()
        desk.until(desk.connector.is_ws_ready)
        venue.take(ETH, ETH_MID + 50, 5000, is_ask=False)
        desk.until(desk.account.is_synced)
        desk.until(lambda: told(desk))
        shown = desk.order(order)
        assert ("SELL", 2.0, ETH_MID / 100 + 0.5, 0.5) == (
            shown.side, shown.quantity, shown.price, shown.filled_quantity,
        )  # fmt: skip
        desk.until_equal()
    finally:
        desk.close()


def test_a_deal_of_an_order_that_qubx_gave_up_as_lost_is_booked(venue: LiveVenue) -> None:
    desk: Any = Reconciling(venue, AccountManagerConfig())
    try:
        desk.start()
        desk.until_status(desk.submit("ETH-USDC", 1.0, ETH_MID / 100 + 1.0, tif="ioc"), OrderStatus.FILLED)
        desk.until_equal()
        position = desk.account.get_position(desk.instrument("ETH-USDC"))
        venue.fault(Kind.ERROR, "/api/v1", code=503, times=0)
        venue.fault(Kind.LOSE, f"account_all_orders:{US}")
        venue.fault(Kind.CUT_AFTER, "14")
        venue.quote(ETH, ETH_MID + 500, ETH_MID + 600)
        order = desk.submit("ETH-USDC", -1.0, ETH_MID / 100 + 5.0, tif="ioc")  # executed, and nobody says so
        desk.until(lambda: not desk.connector.is_ws_ready())

        for _ in range(40):  # 80 s pass, in which Qubx asks five times and then forgets the order
            venue.time.ahead_s += 2
            desk.account._on_reconcile_tick(None)
        assert desk.of_type(OrderLostEvent)
        assert not desk.account.get_state("LIGHTER").has_active_order(order.client_order_id)
        venue.no_more_faults()
        desk.until_equal()
        trades = venue.ask(lambda: list(venue.engine.trades(account_index=US)))
        paid = sum(trade.quote_micro * trade.taker_fee_ppm / 1e12 for trade in trades)
        desk.until(lambda: position.commissions == pytest.approx(paid))
        first, second = sorted(trades, key=lambda trade: trade.trade_id)
        assert position.r_pnl == pytest.approx((second.quote_micro - first.quote_micro) / 1e6)
    finally:
        desk.close()
