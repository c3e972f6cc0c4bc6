"""The venue's limits end to end: the plugin stays within them, adapts where they are less, and never leaves an order open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from qubx.core.basics import Order, OrderStatus, RejectCause
from qubx.core.events import OrderRejectedEvent

from qubx_lighter import factory
from qubx_lighter.account_pace import TransactionGate
from qubx_lighter.protocol.limits import TIERS
from qubx_lighter.sim.api.limits import LimitSettings
from qubx_lighter.sim.faults import parse
from tests.live import ETH, Desk, LiveVenue, desk_on, venue_in


@contextmanager
def limited(folder: Path, tier: str = "standard", faults: str = "", **settings: Any) -> Iterator[LiveVenue]:
    with venue_in(folder, limits=LimitSettings(TIERS[tier], **settings), faults=parse(faults)) as venue:
        yield venue


def refusals(venue: LiveVenue) -> dict[str, int]:
    return dict(venue.venue.server.limits.refusals)


def gate_of(desk: Desk) -> TransactionGate:
    gate = factory._gateways[desk.provider].gate
    assert gate is not None
    return gate


def orders(desk: Desk, count: int) -> list[Order]:
    return [desk.submit("ETH-USDC", 0.01, 3900.0 + number / 10) for number in range(count)]


def until_decided(desk: Desk, sent: list[Order]) -> list[OrderStatus]:
    """Take messages until none of the orders is under way."""
    desk.until(lambda: all(desk.order(order).status is not OrderStatus.SUBMITTED for order in sent))
    return [desk.order(order).status for order in sent]


def causes(desk: Desk) -> set[RejectCause]:
    return {event.cause for event in desk.of_type(OrderRejectedEvent)}


@pytest.mark.parametrize("tier", ["standard", "premium"])
def test_normal_use_meets_no_limit_of_the_venue(tmp_path: Path, tier: str) -> None:
    with limited(tmp_path, tier, answer_s=0.02) as venue, desk_on(venue, account_tier=tier) as desk:
        markets = {
            desk.instrument(f"{spec.symbol}-USDC") for spec in venue.engine.markets.values() if "/" not in spec.symbol
        }
        for kind in ("quote", "orderbook(0.0,20)", "trade", "ohlc(1m)", "ohlc(5m)", "funding_rate", "open_interest"):
            desk.provider.subscribe(kind, markets)
        placed = orders(desk, 10)
        assert [OrderStatus.ACCEPTED] * 10 == until_decided(desk, placed)
        desk.amend(desk.order(placed[0]), price=3890.0)
        desk.provider.get_ohlc(desk.instrument("ETH-USDC"), "1m", 500)
        desk.connector.request_snapshot()
        for order in placed:
            desk.until(lambda order=order: desk.order(order).status is OrderStatus.ACCEPTED)
            desk.cancel(desk.order(order))
        desk.until(lambda: all(desk.order(order).status is OrderStatus.CANCELED for order in placed))
        desk.until_equal()
        assert {} == refusals(venue)


def test_a_burst_beyond_a_standard_account_is_rejected_here_and_its_cancels_have_room_left(tmp_path: Path) -> None:
    with limited(tmp_path) as venue, desk_on(venue, account_tier="standard", order_wait_s=0.5) as desk:
        room = int((20_000 - gate_of(desk).stats()["limit_transactions_spent"]) / 400)  # requests count too
        sent = orders(desk, 60)
        statuses = until_decided(desk, sent)
        accepted = [order for order, status in zip(sent, statuses, strict=True) if status is OrderStatus.ACCEPTED]
        assert room == len(accepted)
        assert {RejectCause.RATE_LIMITED} == causes(desk)
        for order in accepted[:8]:
            desk.cancel(desk.order(order))
        desk.until(lambda: all(desk.order(order).status is OrderStatus.CANCELED for order in accepted[:8]))
        desk.until_equal()
        assert {} == refusals(venue)
        assert 60 - room == desk.connector.stats()["gate_rejected"]  # type: ignore[attr-defined]


def test_where_another_program_uses_the_budget_too_the_plugin_slows_down(tmp_path: Path) -> None:
    with limited(tmp_path, "premium", transactions=20) as venue, desk_on(venue, account_tier="premium") as desk:
        sent = orders(desk, 25)
        desk.until(lambda: desk.of_type(OrderRejectedEvent))
        venue.time.ahead_s += 61
        statuses = until_decided(desk, sent)
        rejected = statuses.count(OrderStatus.REJECTED)
        assert 25 == rejected + statuses.count(OrderStatus.ACCEPTED)
        assert {RejectCause.RATE_LIMITED} == causes(desk)
        assert {"transactions": rejected} == refusals(venue)
        stats = gate_of(desk).stats()
        assert stats["limit_transactions_allowed"] < 4000
        assert 1 == stats["limit_transactions_refusals"]  # those of one burst count once
        desk.until_equal()


def test_with_the_quota_used_up_cancels_go_on_and_orders_trickle_every_15_s(tmp_path: Path) -> None:
    with limited(tmp_path, "premium", quota=3) as venue, desk_on(venue, account_tier="premium") as desk:
        gate = gate_of(desk)
        gate._pace.clock = lambda: venue.time.now_us() / 1e6
        first = orders(desk, 4)  # one of them is free
        assert [OrderStatus.ACCEPTED] * 4 == until_decided(desk, first)
        (refused,) = orders(desk, 1)
        assert [OrderStatus.REJECTED] == until_decided(desk, [refused])
        assert {RejectCause.RATE_LIMITED} == causes(desk)
        for number in range(3):
            (waiting,) = orders(desk, 1)
            desk.cancel(desk.order(first[number]))
            desk.until_status(first[number], OrderStatus.CANCELED)
            assert OrderStatus.SUBMITTED is desk.order(waiting).status
            venue.time.ahead_s += 15
            desk.until_status(waiting, OrderStatus.ACCEPTED)
        desk.until_equal()
        assert {"quota": 1} == refusals(venue)
        assert (0, 1) == (gate.stats()["volume_quota_remaining"], gate.stats()["volume_quota_refusals"])


def test_orders_that_cannot_come_in_time_are_rejected_and_trading_brings_quota_back(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"quota": 0, "stream_tells_quota": True}
    with limited(tmp_path, "premium", **settings) as venue, desk_on(venue, account_tier="premium") as desk:
        gate_of(desk)._pace.clock = lambda: venue.time.now_us() / 1e6
        (free,) = orders(desk, 1)
        desk.until_status(free, OrderStatus.ACCEPTED)
        venue.take(ETH, 390_000, 100, is_ask=True)  # 39 USD
        desk.until_status(free, OrderStatus.FILLED)
        sent = orders(desk, 3)
        desk.until_status(sent[0], OrderStatus.SUBMITTED, OrderStatus.ACCEPTED)
        venue.time.ahead_s += 15.1
        statuses = until_decided(desk, sent)
        assert OrderStatus.ACCEPTED is statuses[0]
        assert {OrderStatus.ACCEPTED} == set(statuses)  # the answer to the first one told of the rest
        assert {} == refusals(venue)
        desk.until_equal()


def test_the_tier_is_read_from_the_account(tmp_path: Path) -> None:
    with limited(tmp_path, "premium") as venue:
        url = venue.venue.url.replace("127.0.0.1", "0.0.0.0")  # this machine, under a name that does not say so
        with desk_on(venue, base_url=url, chain_id=304) as desk:
            gate = gate_of(desk)
            desk.until(lambda: gate._pace.tier.name == "premium")
            assert 4000 == gate.stats()["limit_transactions_allowed"]
            assert [OrderStatus.ACCEPTED] * 3 == until_decided(desk, orders(desk, 3))
        assert {} == refusals(venue)


def test_an_account_that_the_venue_does_not_tell_the_tier_of_trades_as_a_standard_one(tmp_path: Path) -> None:
    said: list[str] = []
    handler = logger.add(lambda message: said.append(message.record["message"]), level="WARNING")
    try:
        with limited(tmp_path, "premium", faults="error where=/api/v1/accountLimits code=500 times=0") as venue:
            url = venue.venue.url.replace("127.0.0.1", "0.0.0.0")
            with desk_on(venue, base_url=url, chain_id=304) as desk:
                desk.until(lambda: any("limits are not known" in text for text in said))
                assert "standard" == gate_of(desk)._pace.tier.name
                assert [OrderStatus.ACCEPTED] * 3 == until_decided(desk, orders(desk, 3))
    finally:
        logger.remove(handler)
    assert 1 == sum("limits are not known" in text for text in said)
