"""Batches: taken whole or not at all, executed one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qubx_lighter.constants import Code, TxType
from qubx_lighter.sim.model.commands import Result, SubmitBatch, SubmitTransaction
from qubx_lighter.sim.model.events import TransactionDone
from tests.sim.desk import ALICE, BOB, DAY_MS, KEY, MID, START, Desk, quoted_desk

NOW_MS = START // 1000


@pytest.fixture
def desk() -> Desk:
    return quoted_desk()


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
