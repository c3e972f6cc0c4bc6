"""Settlements: added up by market and hour, and when to ask for them."""

from __future__ import annotations

import json

import pytest

from qubx_lighter.handlers.funding import Settlement, next_poll_s, settlements
from qubx_lighter.protocol import wire

HOUR = 1_778_702_400


def row(change: str, timestamp: int = HOUR, market_id: int = 0, **more: object) -> wire.PositionFundingRow:
    body = {
        "timestamp": timestamp,
        "market_id": market_id,
        "funding_id": 7,
        "change": change,
        "discount": "0.000000",
        "rate": "0.0012",
        "position_size": "2.0000",
        "position_side": "long",
    } | more
    return wire.decode(wire.PositionFundingRow, json.dumps(body).encode())


def test_the_sign_is_the_cash_of_the_account() -> None:
    assert [Settlement(0, HOUR, -0.054), Settlement(1, HOUR, 0.02)] == settlements(
        [row("0.020000", market_id=1, position_side="short"), row("-0.054000")]
    )


def test_rows_of_one_market_and_hour_are_one_settlement() -> None:
    rows = [row("-0.25"), row("0.125", position_side="short"), row("-1.0", timestamp=HOUR + 3600)]
    assert [Settlement(0, HOUR, -0.125), Settlement(0, HOUR + 3600, -1.0)] == settlements(rows)


@pytest.mark.parametrize("offset", [-5, 0, 3])
def test_a_time_beside_the_hour_belongs_to_it(offset: int) -> None:
    assert [Settlement(0, HOUR, -0.5)] == settlements([row("-0.5", timestamp=HOUR + offset)])


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (HOUR - 1, HOUR + 10),
        (HOUR, HOUR + 10),
        (HOUR + 10, HOUR + 60),
        (HOUR + 61.5, HOUR + 300),
        (HOUR + 899.9, HOUR + 900),
        (HOUR + 900, HOUR + 3610),
    ],
)
def test_the_list_is_asked_for_several_times_after_each_hour(now: float, due: int) -> None:
    assert due == next_poll_s(now)
