"""The venue does not tell the next nonce, though the account's socket is well: what becomes of orders and cancels."""

from __future__ import annotations

from pathlib import Path

from qubx.core.account_manager.config import AccountManagerConfig
from qubx.core.basics import Order, OrderStatus, RejectCause
from qubx.core.events import OrderRejectedEvent

from qubx_lighter.constants import TxType
from qubx_lighter.settings import MAX_ORDER_WAIT_S
from qubx_lighter.sim.faults import Kind
from tests.live import Desk, LiveVenue, desk_on, venue_in


def test_an_order_that_was_given_up_here_is_not_placed_when_the_venue_answers_at_last(tmp_path: Path) -> None:
    with venue_in(tmp_path) as venue, desk_on(venue, order_wait_s=0.2) as desk:
        venue.fault(Kind.HANG, "/api/v1/nextNonce", seconds=2.0, times=1)
        first = desk.submit("ETH-USDC", 1.0, 3900.0)
        desk.until_status(first, OrderStatus.REJECTED)
        rejection = desk.of_type(OrderRejectedEvent)[0]
        assert ("not sent: no nonce for 1 s", RejectCause.RATE_LIMITED) == (rejection.reason, rejection.cause)
        again = first
        while desk.order(again).status is OrderStatus.REJECTED:
            again = desk.submit("ETH-USDC", 0.5, 3900.0)
            desk.until_status(again, OrderStatus.REJECTED, OrderStatus.ACCEPTED)
        assert [0.5] == [row[0] / 10_000 for row in venue.truth()["orders"].values()]
        desk.until_equal()


def rest_one_and_lose_an_answer(desk: Desk, venue: LiveVenue) -> Order:
    """Leave the next nonce in doubt: an order is done, and nobody says so."""
    resting = desk.submit("ETH-USDC", 1.0, 3900.0)
    desk.until_status(resting, OrderStatus.ACCEPTED)
    venue.fault(Kind.SWALLOW, str(int(TxType.CREATE_ORDER)))
    desk.submit("ETH-USDC", 1.0, 3890.0)
    desk.until(lambda: desk.connector.stats()["unknown"])  # type: ignore[attr-defined]
    return resting


def test_a_cancel_does_not_wait_for_the_pause_of_other_reads(tmp_path: Path) -> None:
    with venue_in(tmp_path) as venue, desk_on(venue, account_tier="standard", tx_timeout_s=0.3) as desk:
        resting = rest_one_and_lose_an_answer(desk, venue)
        pace = desk.connector._on_disconnect.__self__._gateway.pace  # type: ignore[attr-defined]
        pace.refused("candles", authenticated=False, status=405, retry_after_s=None)
        desk.cancel(desk.order(resting))
        desk.until_status(resting, OrderStatus.CANCELED)  # and the reads pause for a minute
        assert 0 == desk.connector.stats()["supposed"]  # type: ignore[attr-defined]


def test_a_cancel_finds_its_nonce_over_the_socket_while_the_venue_tells_none(tmp_path: Path) -> None:
    with venue_in(tmp_path) as venue, desk_on(venue, tx_timeout_s=0.3) as desk:
        resting = rest_one_and_lose_an_answer(desk, venue)
        venue.fault(Kind.HANG, "/api/v1/nextNonce", seconds=30.0, times=9)
        desk.cancel(desk.order(resting))
        desk.until_status(resting, OrderStatus.CANCELED)
        assert 1 == desk.connector.stats()["supposed"]  # type: ignore[attr-defined]
        after = desk.submit("ETH-USDC", 1.0, 3880.0)  # whose nonce is proven
        desk.until_status(after, OrderStatus.ACCEPTED)


def test_the_longest_wait_for_an_order_ends_before_qubx_asks_for_it_the_last_time() -> None:
    qubx = AccountManagerConfig()
    assert MAX_ORDER_WAIT_S + 1.0 <= qubx.order_confirm_wait_ms * qubx.order_confirm_retries / 1000
