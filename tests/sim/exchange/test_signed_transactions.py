"""Transactions as the real signer writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from qubx_lighter.constants import Code
from qubx_lighter.sim.model.commands import RegisterKey, SubmitTransaction
from qubx_lighter.sim.model.events import TransactionDone
from tests.sim.desk import ALICE, DAY_MS, KEY, Desk


class Native:
    """The native library with a fresh key of Alice's in it."""

    def __init__(self) -> None:
        signer_client = pytest.importorskip("lighter.signer_client")
        self._library = signer_client.get_signer()
        self._take: Callable[[Any], str | None] = signer_client.decode_and_free
        key = self._library.GenerateAPIKey()
        private, self.public = self._take(key.privateKey), self._take(key.publicKey)
        assert private is not None
        made = self._library.CreateClient(b"http://127.0.0.1:1", private.removeprefix("0x").encode(), 304, KEY, ALICE)
        assert self._take(made) is None

    def sign(self, function: str, *arguments: int) -> SubmitTransaction:
        result = getattr(self._library, function)(*arguments, KEY, ALICE)
        error, text, digest = (self._take(part) for part in (result.err, result.txInfo, result.txHash))
        assert error is None
        assert text is not None
        assert digest is not None
        return SubmitTransaction(result.txType, text, digest)

    def create(self, nonce: int, expiry_ms: int, client_order_index: int, skip: int = 0) -> SubmitTransaction:
        limit, gtt = 0, 1
        terms = (0, client_order_index, 100, 300_000, 0, limit, gtt, 0, 0, expiry_ms)
        return self.sign("SignCreateOrder", *terms, 0, 0, 0, 0, 0, skip, nonce)


@pytest.mark.filterwarnings("ignore")
def test_transactions_of_the_real_signer_are_understood() -> None:
    native = Native()
    probe = native.sign("SignCancelAllOrders", 0, 0, 255, 0, 0)
    now_ms = json.loads(probe.tx_info)["ExpiredAt"] - 599_000  # the signer reads the clock
    desk = Desk()
    desk.now = now_ms * 1000
    desk.apply(RegisterKey(ALICE, KEY, str(native.public)))
    day = now_ms + DAY_MS

    assert desk.apply(native.create(0, day, 71)).ok
    assert desk.apply(native.create(1, day, 72)).ok
    first, second = reversed(desk.engine.active_orders(ALICE))
    assert (71, 100, 300_000, False, day, 1, 0) == (
        first.client_order_index,
        first.initial_lots,
        first.price_ticks,
        first.is_ask,
        first.order_expiry_ms,
        first.time_in_force,
        first.order_type,
    )
    assert re.fullmatch("[0-9a-f]{80}", first.tx_hash)

    assert desk.apply(native.sign("SignModifyOrder", 0, 71, 150, 300_100, 0, 0, 0, 0, 0, 0, 0, 2, 0)).ok
    assert (150, 300_100, 1) == (first.initial_lots, first.price_ticks, first.order_version)
    assert desk.apply(native.sign("SignCancelOrder", 0, 71, 0, 3)).ok
    assert "canceled" == first.status
    assert desk.apply(native.sign("SignCancelAllOrders", 0, 0, 1, 0, 4)).ok  # of market 1
    assert "open" == second.status
    assert desk.apply(native.sign("SignCancelAllOrders", 0, 0, 0, 0, 5)).ok  # of market 0
    assert "canceled" == second.status
    assert desk.apply(native.sign("SignUpdateLeverage", 1, 1000, 0, 0, 6)).ok
    assert 1000 == desk.account().positions[1].initial_margin_fraction

    stale = native.create(6, day, 73)
    assert Code.INVALID_NONCE == desk.apply(stale).code
    assert desk.apply(native.create(now_ms, day, 73, skip=1)).ok
    assert desk.apply(native.sign("SignCancelAllOrders", 0, 0, 255, 0, now_ms + 1)).ok
    assert [] == desk.engine.active_orders(ALICE)
    assert 9 == len(desk.events(TransactionDone))
    late = native.create(now_ms + 2, day, 74)
    desk.now += 600_000_000
    assert Code.INVALID_TX_INFO == desk.apply(late).code
