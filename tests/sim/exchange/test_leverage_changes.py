"""Leverage: kept, told, and refused where a position cannot bear it."""

from __future__ import annotations

import json

import pytest

from qubx_lighter.constants import Code
from qubx_lighter.sim.model.events import PositionChanged, TransactionDone
from tests.sim.desk import ALICE, FEED, KEY, Desk


def test_leverage_is_kept_and_told(desk: Desk) -> None:
    assert desk.leverage(1000).ok
    assert 1000 == desk.account().positions[0].initial_margin_fraction
    assert [PositionChanged(ALICE, 0, desk.now)] == desk.events(PositionChanged)
    desk.account().collateral_micro = 99_000_000
    assert Code.NOT_ENOUGH_MARGIN == desk.create("buy", 3_334, 300_000).code  # 1,000 notional at 10 %
    assert desk.create("buy", 3_300, 300_000).ok


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"InitialMarginFraction": 199}, 21113),
        ({"InitialMarginFraction": 10_001}, 21113),
        ({"MarginMode": 2}, 21613),
    ],
)
def test_leverage_out_of_bounds_is_refused(desk: Desk, fields: dict[str, int], code: int) -> None:
    assert code == desk.leverage(1000, **fields).code
    assert (0, {}) == (desk.engine.next_nonce(ALICE, KEY), desk.account().positions)


@pytest.mark.parametrize("fraction", [200, 10_000])
def test_leverage_at_its_bounds_is_taken(desk: Desk, fraction: int) -> None:
    assert desk.leverage(fraction).ok
    assert fraction == desk.account().positions[0].initial_margin_fraction


def test_leverage_that_a_position_cannot_bear_fails_at_the_sequencer(desk: Desk) -> None:
    desk.place(FEED, "sell", 30_000, 300_000)
    desk.create("buy", 30_000, 300_000)  # 9,000 notional on 1,000
    desk.engine.drain()
    assert desk.leverage(2000).ok
    (done,) = desk.events(TransactionDone)
    assert {"code": 21508} == {"code": json.loads(done.record.error)["code"]}
    assert (500, 2) == (desk.account().positions[0].initial_margin_fraction, desk.engine.next_nonce(ALICE, KEY))
    desk.leverage(1000)
    assert 1000 == desk.account().positions[0].initial_margin_fraction


def test_leverage_may_rise_even_where_margin_lacks(desk: Desk) -> None:
    desk.place(FEED, "sell", 30_000, 300_000)
    desk.create("buy", 30_000, 300_000)
    desk.account().collateral_micro = 300_000_000  # below the initial margin of 450
    desk.leverage(400)
    assert 400 == desk.account().positions[0].initial_margin_fraction
