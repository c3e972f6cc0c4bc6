"""The meaning of error codes."""

from __future__ import annotations

import re

import pytest

from qubx_lighter.constants import CODE_OK, Code
from qubx_lighter.protocol.code_table import TABLE, Cause, Recovery, Refusal
from qubx_lighter.protocol.codes import (
    Outcome,
    cause_of_code,
    known_codes,
    outcome_of_code,
    refusal_of,
    refusal_of_failure,
)

UNCERTAIN = {21502, 21503, Code.INTERNAL_ERROR, Code.PROCESS_TIMEOUT}
FATAL = {20558, 21100, 21101, 21102, 21103, 21108, 21109, 21110, 21120, 21136}


def test_every_code_stands_once_in_the_table_and_rises() -> None:
    codes = [refusal.code for group in TABLE.values() for refusal in group]
    assert sorted(set(codes)) == codes
    assert codes == known_codes()
    assert {int(code) for code in Code} <= set(codes)


def test_every_recovery_of_the_documentation_is_of_some_code() -> None:
    assert set(Recovery) == {refusal_of(code).recovery for code in known_codes()}


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (Code.NOT_ENOUGH_MARGIN, Cause.INSUFFICIENT_MARGIN),
        (Code.BELOW_INITIAL_MARGIN, Cause.INSUFFICIENT_MARGIN),
        (Code.BELOW_MAINTENANCE_MARGIN, Cause.INSUFFICIENT_MARGIN),
        (Code.PRE_LIQUIDATION, Cause.INSUFFICIENT_MARGIN),
        (21301, Cause.INSUFFICIENT_MARGIN),
        (21304, Cause.INSUFFICIENT_MARGIN),
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
    undecided = {code for code in known_codes() if refusal_of(code).nonce_consumed is None}
    assert UNCERTAIN == undecided
    assert all(refusal_of(code).nonce_consumed is False for code in set(known_codes()) - undecided)


def test_what_concerns_the_account_or_its_key_is_told_apart() -> None:
    assert FATAL == {code for code in known_codes() if refusal_of(code).recovery is Recovery.HALT}
    assert FATAL | {20013, 61005, 61006} == {code for code in known_codes() if refusal_of(code).is_auth}
    assert [Code.INVALID_NONCE] == [code for code in known_codes() if refusal_of(code).recovery is Recovery.RESYNC]


def test_a_duplicate_client_order_index_may_be_this_very_order() -> None:
    assert refusal_of(Code.DUPLICATE_CLIENT_ORDER_INDEX).look_up


def test_an_unlisted_code_is_a_plain_refusal() -> None:
    assert Refusal(21999) == refusal_of(21999)
    assert Recovery.REJECT is refusal_of(21999).recovery


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


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ('{"code":21739,"message":"not enough margin to create the order"}', 21739),
        ("AppErrNotEnoughOrderMargin", 21739),
        ("not enough margin to create the order", 21739),
        ("AppReduceOnlyIncreasesPosition", 21732),
        ("Invalid Nonce", 21104),
        ('{"code":"21739"}', 0),
        ("[1]", 0),
        ("not <enough> {margin}", 0),
        ("", 0),
    ],
)
def test_what_the_sequencer_says_is_understood_in_each_form(reason: str, code: int) -> None:
    assert code == refusal_of_failure(reason).code


def test_no_two_codes_of_trading_share_their_words() -> None:
    spoken = [refusal for group in TABLE.values() for refusal in group if 21100 <= refusal.code < 21800]
    assert all(refusal_of_failure(one.text) is one for one in spoken)
    assert all(refusal_of_failure(f"AppErr{one.name}") is one for one in spoken if one.name)
    assert all(re.fullmatch(r"[A-Za-z0-9]*", one.name) for one in spoken)
