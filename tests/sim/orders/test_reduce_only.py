"""Reduce-only orders: they close no more than the position, and end with it."""

from __future__ import annotations

import pytest

from qubx_lighter.constants import Code
from tests.sim.desk import FEED, Desk, long_position


def test_reduce_only_taker_closes_no_more_than_the_position(desk: Desk) -> None:
    long_position(desk)
    desk.place(FEED, "buy", 500, 299_000)
    order = desk.order(desk.ioc("sell", 300, 299_000, ReduceOnly=1))
    assert ("canceled-reduce-only", 100, 0) == (order.status, order.filled_lots, desk.lots())


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_reduce_only_taker_without_a_position_is_canceled(desk: Desk, side: str) -> None:
    order = desk.order(desk.market(side, 100, 300_000, ReduceOnly=1))
    assert ("canceled-reduce-only", 0) == (order.status, order.filled_lots)


def test_reduce_only_maker_that_would_increase_is_refused(desk: Desk) -> None:
    long_position(desk)
    assert Code.REDUCE_ONLY_DIRECTION == desk.create("buy", 100, 290_000, ReduceOnly=1).code
    assert "open" == desk.order(desk.create("sell", 100, 310_000, ReduceOnly=1)).status


def test_reduce_only_maker_fills_only_the_position(desk: Desk) -> None:
    long_position(desk)
    order = desk.order(desk.create("sell", 300, 310_000, ReduceOnly=1))
    taker = desk.order(desk.place(FEED, "buy", 300, 310_000))
    assert ("canceled-reduce-only", 100, 0) == (order.status, order.filled_lots, desk.lots())
    assert ("open", 100) == (taker.status, taker.filled_lots)


def test_reduce_only_orders_end_with_the_position(desk: Desk) -> None:
    long_position(desk)
    order = desk.order(desk.create("sell", 100, 310_000, ReduceOnly=1))
    plain = desk.order(desk.create("sell", 100, 320_000))
    desk.place(FEED, "buy", 100, 299_000)
    desk.market("sell", 100, 298_000)
    assert ["canceled-reduce-only", "open"] == [order.status, plain.status]


def test_reduce_only_orders_end_when_the_position_turns_around(desk: Desk) -> None:
    long_position(desk)
    order = desk.order(desk.create("sell", 100, 310_000, ReduceOnly=1))
    desk.place(FEED, "buy", 200, 299_000)
    desk.market("sell", 200, 298_000)
    assert ("canceled-reduce-only", -100) == (order.status, desk.lots())


def test_reduce_only_orders_stay_while_there_is_a_position(desk: Desk) -> None:
    long_position(desk)
    order = desk.order(desk.create("sell", 100, 310_000, ReduceOnly=1))
    desk.place(FEED, "buy", 60, 299_000)
    desk.market("sell", 60, 298_000)
    assert ("open", 40) == (order.status, desk.lots())


def test_reduce_only_is_spared_the_minimums(desk: Desk) -> None:
    long_position(desk)
    assert Code.AMOUNT_TOO_LOW == desk.create("sell", 1, 310_000).code
    assert "open" == desk.order(desk.create("sell", 1, 310_000, ReduceOnly=1)).status


def test_reduce_only_of_size_zero_is_the_whole_position(desk: Desk) -> None:
    long_position(desk)
    desk.place(FEED, "buy", 500, 299_000)
    order = desk.order(desk.market("sell", 0, 299_000, ReduceOnly=1))
    assert ("filled", 100, 0) == (order.status, order.initial_lots, desk.lots())
    assert Code.INVALID_BASE_AMOUNT == desk.market("sell", 0, 299_000, ReduceOnly=1).code
    assert Code.INVALID_BASE_AMOUNT == desk.market("sell", 0, 299_000).code
