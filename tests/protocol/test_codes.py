"""The meaning of error codes and order statuses."""

from __future__ import annotations

import pytest

from qubx_lighter.constants import CODE_OK, Code
from qubx_lighter.errors import WireError
from qubx_lighter.protocol.codes import (
    Cause,
    Outcome,
    Refusal,
    Status,
    StatusKind,
    cause_of_code,
    classify_status,
    is_terminal,
    outcome_of_code,
    refusal_of,
)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (Code.NOT_ENOUGH_MARGIN, Cause.INSUFFICIENT_MARGIN),
        (Code.BELOW_INITIAL_MARGIN, Cause.INSUFFICIENT_MARGIN),
        (Code.BELOW_MAINTENANCE_MARGIN, Cause.INSUFFICIENT_MARGIN),
        (Code.PRE_LIQUIDATION, Cause.INSUFFICIENT_MARGIN),
        (Code.AMOUNT_TOO_LOW, Cause.TOO_SMALL),
        (Code.TOO_MANY_REQUESTS, Cause.RATE_LIMITED),
        (Code.TOO_MANY_MESSAGES, Cause.RATE_LIMITED),
        (Code.TOO_MANY_IN_FLIGHT, Cause.RATE_LIMITED),
        (21506, Cause.RATE_LIMITED),
        (Code.NOT_ACTIVE_ORDER, Cause.NOT_FOUND),
        (Code.NOT_ACTIVE_LIMIT_ORDER, Cause.NOT_FOUND),
        (Code.INVALID_NONCE, Cause.SEQUENCE),
        (Code.INVALID_PRICE, Cause.UNKNOWN),
        (99999, Cause.UNKNOWN),
    ],
)
def test_a_code_has_a_cause(code: int, cause: Cause) -> None:
    assert cause is cause_of_code(code)


def test_a_refusal_by_the_api_leaves_the_nonce_unused() -> None:
    undecided = {code for code in Code if refusal_of(code).nonce_consumed is None}
    assert {Code.INTERNAL_ERROR, Code.NOT_IMPLEMENTED} == undecided
    assert all(refusal_of(code).nonce_consumed is False for code in set(Code) - undecided)


def test_nonce_and_key_problems_are_told_apart() -> None:
    assert {Code.INVALID_NONCE} == {code for code in Code if refusal_of(code).is_nonce}
    assert {
        Code.INVALID_AUTH,
        Code.ACCOUNT_NOT_FOUND,
        Code.INVALID_ACCOUNT_INDEX,
        Code.INVALID_PUBLIC_KEY,
        Code.API_KEY_NOT_FOUND,
        Code.INVALID_SIGNATURE,
    } == {code for code in Code if refusal_of(code).is_auth}


def test_a_duplicate_client_order_index_may_be_this_very_order() -> None:
    assert Refusal(Cause.UNKNOWN, look_up=True) == refusal_of(Code.DUPLICATE_CLIENT_ORDER_INDEX)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (CODE_OK, Outcome.ACCEPTED),
        (Code.INVALID_NONCE, Outcome.REFUSED),
        (99999, Outcome.REFUSED),
        (Code.INTERNAL_ERROR, Outcome.UNKNOWN),
    ],
)
def test_a_code_decides_the_outcome(code: int, outcome: Outcome) -> None:
    assert outcome is outcome_of_code(code)


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
