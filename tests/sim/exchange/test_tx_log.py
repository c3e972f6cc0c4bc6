"""What is kept of transactions, and for how long."""

from __future__ import annotations

import json

import pytest

from qubx_lighter.sim.model.events import TransactionDone
from tests.sim.desk import ALICE, BOB, KEY, Desk


def test_taken_transactions_are_found_by_hash(desk: Desk) -> None:
    desk.create("buy", 100, 300_000)
    (done,) = desk.events(TransactionDone)
    record = done.record
    assert record is desk.engine.transaction(record.tx_hash)
    assert (14, ALICE, KEY, 0, desk.now, "", 0) == (
        record.tx_type,
        record.account_index,
        record.api_key_index,
        record.nonce,
        record.executed_at,
        record.error,
        record.market_id,
    )
    assert 100 == json.loads(record.tx_info)["BaseAmount"]
    desk.cancel_all()
    newest, oldest = desk.engine.transactions(10)
    assert (record, 255) == (oldest, newest.market_id)
    assert desk.engine.transaction("no such") is None


def test_old_transactions_are_forgotten(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qubx_lighter.sim.exchange.tx_log._KEPT", 2)
    for _ in range(3):
        desk.cancel_all()
    assert [None, 1, 2] == [
        record and record.nonce for record in (desk.engine.transaction(f"{sent:080x}") for sent in (1, 2, 3))
    ]


def test_refused_transactions_are_forgotten(desk: Desk) -> None:
    desk.create("buy", 1, 300_000)
    assert (None, []) == (desk.engine.transaction(f"{desk.sent:080x}"), desk.engine.drain())


def test_orders_and_trades_carry_the_hash_of_their_transaction(desk: Desk) -> None:
    maker = desk.order(desk.create("sell", 100, 300_000, account=BOB))
    taker = desk.order(desk.create("buy", 100, 300_000))
    assert f"{1:080x}" == maker.tx_hash
    assert f"{2:080x}" == taker.tx_hash == desk.engine.trades()[0].tx_hash
