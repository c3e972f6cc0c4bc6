"""A local clock that runs ahead of the venue's, or behind it: no deal is taken for one that a snapshot has, and none is told twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from qubx.core.basics import OrderStatus
from qubx.core.events import AccountSnapshotEvent, DealEvent

from qubx_lighter.client import LighterClient
from qubx_lighter.protocol import wire
from qubx_lighter.sim.faults import Kind
from tests.live import ETH, US, Desk, LiveVenue, desk_on

SKEWS = pytest.mark.parametrize("ahead_s", [-2.0, -0.3, 0.0, 0.3, 2.0])


def buy(desk: Desk, amount: float = 1.0) -> None:
    desk.until_status(desk.submit("ETH-USDC", amount, 4001.0, tif="ioc"), OrderStatus.FILLED)


def snapshot(desk: Desk) -> None:
    known = len(desk.of_type(AccountSnapshotEvent))
    desk.connector.request_snapshot(include_orders=True)
    desk.until(lambda: len(desk.of_type(AccountSnapshotEvent)) > known)


@SKEWS
def test_a_fill_right_after_the_start_is_told_and_those_before_it_are_not(venue: LiveVenue, ahead_s: float) -> None:
    with desk_on(venue) as earlier:
        buy(earlier)
    venue.time.ahead_s += 1
    with desk_on(venue, ahead_s=ahead_s) as desk:
        buy(desk, 0.5)
        desk.until_equal()
        assert [0.5] == [event.deal.amount for event in desk.of_type(DealEvent)]
        assert {ETH: 15_000} == desk.view()["positions"]


@SKEWS
def test_a_fill_right_after_a_snapshot_that_put_the_size_right_counts_on_top_of_it(
    venue: LiveVenue, ahead_s: float
) -> None:
    with desk_on(venue, ahead_s=ahead_s) as desk:
        buy(desk)
        desk.until_equal()
        venue.fault(Kind.LOSE, f"account_all_trades:{US}")
        buy(desk)
        snapshot(desk)
        assert {ETH: 20_000} == desk.view()["positions"]
        buy(desk)
        desk.until_equal()
        assert {ETH: 30_000} == desk.view()["positions"]


@pytest.mark.parametrize("stamp_us", [lambda _: 0, lambda us: us - 60_000_000], ids=["none", "old"])
def test_a_deal_whose_frame_is_lost_is_told_before_the_snapshot_that_holds_it_whatever_its_row_is_stamped_with(
    venue: LiveVenue, monkeypatch: pytest.MonkeyPatch, stamp_us: Callable[[int], int]
) -> None:
    fetch = LighterClient.account

    async def account(client: LighterClient, index: int) -> wire.AccountRow:
        row = await fetch(client, index)
        row.transaction_time = stamp_us(row.transaction_time)
        return row

    monkeypatch.setattr(LighterClient, "account", account)
    with desk_on(venue) as desk:
        buy(desk)
        snapshot(desk)
        venue.fault(Kind.LOSE, f"account_all_trades:{US}")
        desk.submit("ETH-USDC", -0.5, 3999.0, tif="ioc")
        desk.until(lambda: venue.truth()["positions"] == {ETH: 5_000})
        snapshot(desk)
        told = [event for event in desk.events if isinstance(event, DealEvent | AccountSnapshotEvent)]
        assert isinstance(told[-1], AccountSnapshotEvent)
        assert [1.0, -0.5] == [event.deal.amount for event in told if isinstance(event, DealEvent)]
        assert {ETH: 5_000} == desk.view()["positions"]


@SKEWS
def test_a_fill_of_a_lost_connection_is_told_once(venue: LiveVenue, ahead_s: float) -> None:
    with desk_on(venue, ahead_s=ahead_s) as desk:
        order = desk.submit("ETH-USDC", 1.0, 3999.5)
        desk.until_status(order, OrderStatus.ACCEPTED)
        venue.drop_connections()
        venue.take(ETH, 399_950, 10_000, is_ask=True)
        desk.until_status(order, OrderStatus.FILLED)
        desk.until_equal()
        assert [1.0] == [event.deal.amount for event in desk.of_type(DealEvent)]
