"""The meaning of order statuses."""

from __future__ import annotations

import pytest

from qubx_lighter.errors import WireError
from qubx_lighter.protocol.code_table import Cause
from qubx_lighter.protocol.statuses import Status, StatusKind, classify_status, is_terminal

ALL_STATUSES = (
    "in-progress pending open filled canceled canceled-post-only canceled-reduce-only canceled-position-not-allowed "
    "canceled-margin-not-allowed canceled-too-much-slippage canceled-not-enough-liquidity canceled-self-trade "
    "canceled-expired canceled-oco canceled-child canceled-liquidation canceled-invalid-balance"
).split()


def test_every_status_of_the_sdk_is_alive_or_terminal() -> None:
    assert ["in-progress", "pending", "open"] == [status for status in ALL_STATUSES if not is_terminal(status)]


@pytest.mark.parametrize(("rested", "filled"), [(True, False), (False, True), (True, True)])
def test_a_cancellation_of_an_order_that_came_to_something_is_no_rejection(rested: bool, filled: bool) -> None:
    kinds = {classify_status(status, rested=rested, filled=filled).kind for status in ALL_STATUSES}
    assert StatusKind.REJECTED not in kinds
    expected = Status(StatusKind.CANCELED, Cause.NOT_FILLABLE)
    assert expected == classify_status("canceled-post-only", rested=rested, filled=filled)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("open", Status(StatusKind.ACCEPTED)),
        ("filled", Status(StatusKind.FILLED)),
        ("canceled", Status(StatusKind.CANCELED)),
        ("canceled-expired", Status(StatusKind.EXPIRED)),
        ("canceled-post-only", Status(StatusKind.REJECTED, Cause.NOT_FILLABLE)),
        ("canceled-too-much-slippage", Status(StatusKind.REJECTED, Cause.NOT_FILLABLE)),
        ("canceled-not-enough-liquidity", Status(StatusKind.REJECTED, Cause.NOT_FILLABLE)),
        ("canceled-margin-not-allowed", Status(StatusKind.REJECTED, Cause.INSUFFICIENT_MARGIN)),
        ("canceled-invalid-balance", Status(StatusKind.REJECTED, Cause.INSUFFICIENT_MARGIN)),
        ("canceled-reduce-only", Status(StatusKind.REJECTED)),
        ("canceled-some-new-reason", Status(StatusKind.REJECTED)),
    ],
)
def test_an_order_that_came_to_nothing_was_rejected_if_there_is_a_reason(status: str, expected: Status) -> None:
    assert expected == classify_status(status, rested=False, filled=False)


def test_a_new_reason_is_a_cancellation() -> None:
    assert Status(StatusKind.CANCELED) == classify_status("canceled-some-new-reason", rested=True, filled=False)


@pytest.mark.parametrize("status", ["", "cancelled", "canceledx", "OPEN", "settled"])
def test_an_unknown_status_fails_loudly(status: str) -> None:
    with pytest.raises(WireError, match="unknown order status"):
        classify_status(status, rested=False, filled=False)
    with pytest.raises(WireError, match="unknown order status"):
        is_terminal(status)
