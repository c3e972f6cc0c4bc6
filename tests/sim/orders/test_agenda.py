"""Engine: what happens at a time: slices of a TWAP, scheduled cancel-alls; and batches, self-trades that reduce."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qubx_lighter.constants import Code, OrderType, TxType
from qubx_lighter.sim.model.commands import AdvanceTime, Result, SubmitBatch, SubmitTransaction
from qubx_lighter.sim.model.events import TransactionDone
from qubx_lighter.sim.model.records import Order
from tests.sim.desk import ALICE, BOB, DAY_MS, FEED, KEY, START, Desk

MID = 300_000
SECOND = 10**6
NOW_MS = START // 1000


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.place(FEED, "buy", 10_000, MID - 10)
    desk.place(FEED, "sell", 10_000, MID + 10)
    return desk


def twap(
    desk: Desk, lots: int, *, side: str = "buy", price: int = MID + 100, seconds: int = 300, **fields: Any
) -> Order:
    end = desk.now // 1000 + seconds * 1000
    return desk.order(desk.create(side, lots, price, Type=int(OrderType.TWAP), OrderExpiry=end, **fields))


def wait(desk: Desk, seconds: float) -> None:
    desk.now += round(seconds * SECOND)
    desk.apply(AdvanceTime())


# --- TWAP ------------------------------------------------------------------------------------------------------------


def test_a_twap_is_worked_in_even_slices_until_its_end(desk: Desk) -> None:
    order = twap(desk, 1_000)
    assert ("pending", "twap") == (order.status, order.trigger_status)
    filled = []
    for _ in range(10):
        wait(desk, 0 if not filled else 30)
        filled.append(order.filled_lots)
    assert list(range(100, 1_001, 100)) == filled
    assert ("filled", 1_000, 0) == (order.status, desk.lots(), order.remaining_lots)
    slices = [each for each in desk.engine.inactive_orders(ALICE) if each.order_type == 7]
    assert {(100, "filled", order.order_index, 0)} == {
        (each.filled_lots, each.status, each.parent_order_index, each.client_order_index) for each in slices
    }
    assert order.filled_quote_micro == sum(trade.quote_micro for trade in desk.engine.trades(account_index=ALICE))


def test_slices_happen_at_their_own_times_however_late_they_are_looked_at(desk: Desk) -> None:
    twap(desk, 1_000)
    wait(desk, 100)
    times = [(trade.time - START) / SECOND for trade in desk.engine.trades(account_index=ALICE)]
    assert [90, 60, 30, 0] == times


def test_a_cancel_stops_it_and_keeps_what_it_filled(desk: Desk) -> None:
    order = twap(desk, 1_000, ClientOrderIndex=7)
    wait(desk, 35)
    assert desk.cancel(7).ok
    wait(desk, 300)
    assert ("canceled", 200, 800, 200) == (order.status, order.filled_lots, order.remaining_lots, desk.lots())


def test_beyond_its_worst_price_it_waits_and_expires_with_the_rest(desk: Desk) -> None:
    order = twap(desk, 1_000, price=MID)
    wait(desk, 150)
    assert (0, []) == (order.filled_lots, desk.engine.trades(account_index=ALICE))
    desk.place(FEED, "sell", 5_000, MID)
    wait(desk, 60)
    assert 0 < order.filled_lots < 1_000
    for resting in desk.engine.active_orders(FEED):
        desk.engine._sequencer.open_orders.cancel(resting)
    filled = order.filled_lots
    wait(desk, 90)
    assert ("canceled-expired", filled) == (order.status, order.filled_lots)


def test_a_slice_is_no_smaller_than_the_markets_minimum(desk: Desk) -> None:
    order = twap(desk, 120, seconds=3600)
    wait(desk, 0)
    assert 50 == order.filled_lots
    wait(desk, 60)
    assert "filled" == order.status


def test_a_reduce_only_twap_ends_with_the_position(desk: Desk) -> None:
    assert (
        Code.REDUCE_ONLY_DIRECTION
        == desk.create("sell", 100, 1, Type=int(OrderType.TWAP), ReduceOnly=1, OrderExpiry=NOW_MS + DAY_MS).code
    )
    desk.create("buy", 500, MID + 10)
    order = twap(desk, 1_000, side="sell", price=1, ReduceOnly=1)
    wait(desk, 300)
    assert ("canceled-reduce-only", 500, 0) == (order.status, order.filled_lots, desk.lots())


def test_a_twap_is_amended_by_its_total(desk: Desk) -> None:
    order = twap(desk, 1_000, ClientOrderIndex=7)
    wait(desk, 0)
    assert 21729 == desk.modify(7, 2_000, MID + 100, TriggerPrice=1).code
    assert desk.modify(7, 1_900, MID + 50).ok
    assert (1_900, 1_800, MID + 50) == (order.initial_lots, order.remaining_lots, order.price_ticks)
    assert desk.modify(7, 100, MID + 50).ok
    assert ("filled", 100) == (order.status, desk.lots())


# --- scheduled cancel-all --------------------------------------------------------------------------------------------


def schedule(desk: Desk, seconds: float, **fields: Any) -> Result:
    return desk.cancel_all(TimeInForce=1, Time=desk.now // 1000 + round(seconds * 1000), **fields)


def test_the_venue_cancels_all_at_the_time(desk: Desk) -> None:
    orders = [desk.order(desk.create("buy", 100, MID - 1_000 - n)) for n in range(3)]
    stop = desk.order(desk.create("buy", 100, MID + 9_000, Type=2, TimeInForce=0, TriggerPrice=MID + 9_000))
    other = desk.order(desk.create("buy", 100, MID - 1_000, account=BOB))
    assert schedule(desk, 300).ok
    assert desk.now // 1000 + 300_000 == desk.account().cancel_all_time_ms
    wait(desk, 299.999)
    assert ["open"] * 3 == [order.status for order in orders]
    wait(desk, 0.001)
    assert ["canceled"] * 4 == [order.status for order in (*orders, stop)]
    assert ("open", 0) == (other.status, desk.account().cancel_all_time_ms)
    assert schedule(desk, 300).ok


def test_one_is_queued_until_it_is_called_off(desk: Desk) -> None:
    order = desk.order(desk.create("buy", 100, MID - 1_000))
    assert desk.cancel_all(TimeInForce=2).ok  # nothing to call off: nothing happens
    assert schedule(desk, 300).ok
    assert 21712 == schedule(desk, 600).code
    assert desk.cancel_all(TimeInForce=2).ok
    assert schedule(desk, 600).ok
    wait(desk, 599)
    assert "open" == order.status
    wait(desk, 1)
    assert "canceled" == order.status


@pytest.mark.parametrize(
    "fields",
    [
        {"TimeInForce": 0, "Time": 1},
        {"TimeInForce": 1, "Time": 0},
        {"TimeInForce": 1, "Time": NOW_MS + 299_999},
        {"TimeInForce": 1, "Time": NOW_MS + 15 * DAY_MS + 1},
        {"TimeInForce": 1, "Time": NOW_MS + 300_000, "L2TxAttributes": {"5": 0}},
        {"TimeInForce": 2, "Time": NOW_MS + 300_000},
        {"TimeInForce": 3},
    ],
)
def test_other_times_are_refused(desk: Desk, fields: dict[str, Any]) -> None:
    order = desk.order(desk.create("buy", 100, MID - 1_000))
    assert Code.INVALID_TX_INFO == desk.cancel_all(**fields).code
    assert ("open", 0) == (order.status, desk.account().cancel_all_time_ms)


@pytest.mark.parametrize("ahead", [300_000, 15 * DAY_MS])
def test_times_at_the_bounds_are_taken(desk: Desk, ahead: int) -> None:
    assert desk.cancel_all(TimeInForce=1, Time=NOW_MS + ahead).ok


# --- self-trades that reduce -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lots", "maker", "taker", "rest"),
    [
        (300, ("open", 200), ("canceled-self-trade", 0), [(MID, 200)]),
        (500, ("canceled-self-trade", 0), ("canceled-self-trade", 0), []),
        (700, ("canceled-self-trade", 0), ("open", 200), []),
    ],
)
def test_both_orders_become_smaller_and_nobody_trades(
    desk: Desk, lots: int, maker: tuple[str, int], taker: tuple[str, int], rest: list[tuple[int, int]]
) -> None:
    own = desk.order(desk.create("sell", 500, MID))
    order = desk.order(desk.create("buy", lots, MID, L2TxAttributes={"6": 3}))
    assert (maker, taker) == ((own.status, own.remaining_lots), (order.status, order.remaining_lots))
    assert rest == [level for level in desk.asks() if level[0] == MID]
    assert [] == desk.engine.trades(account_index=ALICE)
    if own.status == "open":
        assert desk.modify(own.order_index, 600, MID).ok  # the total counts what was taken off it
        assert (600, 300) == (own.initial_lots, own.remaining_lots)


# --- batches ---------------------------------------------------------------------------------------------------------


def signed(
    desk: Desk, tx_type: int, nonce: int, *, account: int = ALICE, key: int = KEY, **fields: Any
) -> SubmitTransaction:
    body = {"AccountIndex": account, "ApiKeyIndex": key, "ExpiredAt": NOW_MS + 599_000, "Nonce": nonce, "Sig": ""}
    desk.sent += 1
    return SubmitTransaction(tx_type, json.dumps(body | fields), f"{desk.sent:080x}")


def limit(
    desk: Desk, nonce: int, client: int, *, lots: int = 100, price: int = MID - 1_000, **fields: Any
) -> SubmitTransaction:
    body = {
        "MarketIndex": 0,
        "ClientOrderIndex": client,
        "BaseAmount": lots,
        "Price": price,
        "IsAsk": 0,
        "Type": 0,
        "TimeInForce": 1,
        "ReduceOnly": 0,
        "TriggerPrice": 0,
        "OrderExpiry": NOW_MS + DAY_MS,
    }
    return signed(desk, TxType.CREATE_ORDER, nonce, **(body | fields))


def send(desk: Desk, *transactions: SubmitTransaction) -> Result:
    return desk.apply(SubmitBatch(transactions))


def test_a_batch_runs_back_to_back_and_each_is_told(desk: Desk) -> None:
    cancel = signed(desk, TxType.CANCEL_ORDER, 2, MarketIndex=0, Index=1)  # of the batch itself
    assert send(desk, limit(desk, 0, 1), limit(desk, 1, 2), cancel).ok
    assert [2] == [order.client_order_index for order in desk.engine.active_orders(ALICE)]
    assert [(0, ""), (1, ""), (2, "")] == [
        (event.record.nonce, event.record.error) for event in desk.events(TransactionDone)
    ]
    assert 3 == desk.engine.next_nonce(ALICE, KEY)


def test_what_fails_at_the_sequencer_fails_alone_and_uses_its_nonce(desk: Desk) -> None:
    ghost = signed(desk, TxType.CANCEL_ORDER, 1, MarketIndex=0, Index=404)
    twice = limit(desk, 3, 1)
    assert send(desk, limit(desk, 0, 1), ghost, limit(desk, 2, 2), twice).ok
    errors = [json.loads(event.record.error or '{"code":0}')["code"] for event in desk.events(TransactionDone)]
    assert [0, Code.NOT_ACTIVE_LIMIT_ORDER, 0, Code.DUPLICATE_CLIENT_ORDER_INDEX] == errors
    assert ([2, 1], 4) == (
        [order.client_order_index for order in desk.engine.active_orders(ALICE)],
        desk.engine.next_nonce(ALICE, KEY),
    )


@pytest.mark.parametrize(
    ("second", "code"),
    [
        ({"nonce": 1, "account": BOB}, 21121),
        ({"nonce": 1, "key": 5}, 21121),
        ({"nonce": 0}, 21105),
        ({"nonce": 2}, 21104),
        ({"nonce": 1, "lots": 1}, Code.AMOUNT_TOO_LOW),
        ({"nonce": 1, "lots": 900_000}, Code.NOT_ENOUGH_MARGIN),
        ({"nonce": 1, "ExpiredAt": NOW_MS}, Code.INVALID_TX_INFO),
        ({"nonce": 1, "MarketIndex": 9}, Code.INVALID_MARKET),
    ],
)
def test_what_the_api_refuses_is_refused_whole(desk: Desk, second: dict[str, Any], code: int) -> None:
    desk.engine.drain()
    assert code == send(desk, limit(desk, 0, 1), limit(desk, client=2, **second)).code
    assert (0, [], []) == (desk.engine.next_nonce(ALICE, KEY), desk.engine.active_orders(ALICE), desk.engine.drain())


def test_nonces_of_a_batch_may_jump_where_each_says_so(desk: Desk) -> None:
    skip = {"L2TxAttributes": {"4": 1}}
    assert send(desk, limit(desk, 50, 1, **skip), limit(desk, 70, 2, **skip)).ok
    assert 71 == desk.engine.next_nonce(ALICE, KEY)


@pytest.mark.parametrize("count", [0, 51])
def test_a_batch_has_1_to_50_transactions(desk: Desk, count: int) -> None:
    assert 21514 == send(desk, *(limit(desk, nonce, nonce + 1) for nonce in range(count))).code
