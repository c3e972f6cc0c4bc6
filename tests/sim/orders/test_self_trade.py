"""Orders of one owner that meet: which of them end, which become smaller, and that nobody trades."""

from __future__ import annotations

import pytest

from tests.sim.desk import ALICE, BOB, FEED, MID, Desk, quoted_desk


def test_own_resting_order_ends_by_default_and_the_taker_goes_on(desk: Desk) -> None:
    own = desk.order(desk.create("sell", 100, 300_000))
    other = desk.order(desk.place(FEED, "sell", 100, 300_000))
    taker = desk.order(desk.create("buy", 100, 300_000))
    assert ["canceled-self-trade", "filled", "filled"] == [own.status, other.status, taker.status]
    assert 0 == own.filled_lots


@pytest.mark.parametrize(
    ("behavior", "maker", "taker"),
    [(0, "canceled-self-trade", "open"), (1, "open", "canceled-self-trade"), (2, *["canceled-self-trade"] * 2)],
)
def test_self_trade_behavior_is_the_takers(desk: Desk, behavior: int, maker: str, taker: str) -> None:
    own = desk.order(desk.create("sell", 100, 300_000))
    order = desk.order(desk.create("buy", 100, 300_000, L2TxAttributes={"6": behavior}))
    assert (maker, taker) == (own.status, order.status)
    assert not desk.account().trades


def test_accounts_of_one_owner_trade_unless_told_otherwise(desk: Desk) -> None:
    desk.account(BOB).l1_address = desk.account(ALICE).l1_address
    theirs = desk.order(desk.create("sell", 200, 300_000, account=BOB))
    desk.create("buy", 100, 300_000)
    assert 100 == theirs.filled_lots
    desk.create("buy", 100, 300_000, L2TxAttributes={"7": 1})
    assert ("canceled-self-trade", 100) == (theirs.status, theirs.filled_lots)


@pytest.mark.parametrize(
    ("lots", "maker", "taker", "rest"),
    [
        (300, ("open", 200), ("canceled-self-trade", 0), [(MID, 200)]),
        (500, ("canceled-self-trade", 0), ("canceled-self-trade", 0), []),
        (700, ("canceled-self-trade", 0), ("open", 200), []),
    ],
)
def test_both_orders_become_smaller_and_nobody_trades(
    lots: int, maker: tuple[str, int], taker: tuple[str, int], rest: list[tuple[int, int]]
) -> None:
    desk = quoted_desk()
    own = desk.order(desk.create("sell", 500, MID))
    order = desk.order(desk.create("buy", lots, MID, L2TxAttributes={"6": 3}))
    assert (maker, taker) == ((own.status, own.remaining_lots), (order.status, order.remaining_lots))
    assert rest == [level for level in desk.asks() if level[0] == MID]
    assert [] == desk.engine.trades(account_index=ALICE)
    if own.status == "open":
        assert desk.modify(own.order_index, 600, MID).ok  # the total counts what was taken off it
        assert (600, 300) == (own.initial_lots, own.remaining_lots)
