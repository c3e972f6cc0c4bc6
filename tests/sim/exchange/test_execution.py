"""Signed transactions: what the API refuses and with which code, and which nonce comes next."""

from __future__ import annotations

from typing import Any

import pytest

from qubx_lighter.constants import CODE_OK, MAX_BASE_LOTS, MAX_CLIENT_ORDER_INDEX, MAX_NONCE, MAX_PRICE_TICKS, Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.model.commands import RegisterKey, SubmitTransaction
from qubx_lighter.sim.model.transactions import decode
from tests.sim.desk import ALICE, BOB, DAY_MS, FEED, KEY, START, Desk

NOW_MS = START // 1000


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"AccountIndex": 404}, Code.ACCOUNT_NOT_FOUND),
        ({"ApiKeyIndex": 5}, Code.API_KEY_NOT_FOUND),
        ({"ExpiredAt": NOW_MS}, Code.INVALID_TX_INFO),
        ({"Nonce": 1}, Code.INVALID_NONCE),
        ({"Nonce": -1}, Code.INVALID_NONCE),
        ({"MarketIndex": 2}, Code.INVALID_MARKET),
        ({"MarketIndex": 255}, Code.INVALID_MARKET),
        ({"BaseAmount": 0}, Code.INVALID_BASE_AMOUNT),
        ({"BaseAmount": -1}, Code.INVALID_BASE_AMOUNT),
        ({"BaseAmount": MAX_BASE_LOTS + 1}, Code.INVALID_BASE_AMOUNT),
        ({"Price": 0}, Code.INVALID_PRICE),
        ({"Price": MAX_PRICE_TICKS + 1}, Code.INVALID_PRICE),
        ({"BaseAmount": 49}, Code.AMOUNT_TOO_LOW),  # below 0.0050
        ({"BaseAmount": 50, "Price": 199_999}, Code.AMOUNT_TOO_LOW),  # 0.0050 at 1,999.99: below 10
        ({"ClientOrderIndex": -1}, Code.INVALID_CLIENT_ORDER_INDEX),
        ({"ClientOrderIndex": MAX_CLIENT_ORDER_INDEX + 1}, Code.INVALID_CLIENT_ORDER_INDEX),
        ({"OrderExpiry": 0}, Code.INVALID_EXPIRY),
        ({"OrderExpiry": -1}, Code.INVALID_EXPIRY),
        ({"OrderExpiry": NOW_MS + 299_999}, Code.INVALID_EXPIRY),
        ({"OrderExpiry": NOW_MS + 30 * DAY_MS + 1}, Code.INVALID_EXPIRY),
        ({"TimeInForce": 0}, Code.INVALID_EXPIRY),  # immediate-or-cancel has none
        ({"Type": 1, "TimeInForce": 0}, Code.INVALID_EXPIRY),
        ({"Type": 1}, Code.INVALID_TX_INFO),  # a market order that rests
        ({"Type": 2}, Code.INVALID_TX_INFO),
        ({"TimeInForce": 3}, Code.INVALID_TX_INFO),
        ({"IsAsk": 2}, Code.INVALID_TX_INFO),
        ({"ReduceOnly": 2}, Code.INVALID_TX_INFO),
        ({"TriggerPrice": 1}, 21729),
        ({"Price": "3000.00"}, Code.INVALID_TX_INFO),
        ({"Price": 3000.5}, Code.INVALID_TX_INFO),
        ({"Price": None}, Code.INVALID_TX_INFO),  # left out
        ({"ReduceOnly": 1}, Code.REDUCE_ONLY_DIRECTION),
        ({"BaseAmount": 70_000}, Code.NOT_ENOUGH_MARGIN),
        ({"L2TxAttributes": {"4": 2}}, Code.INVALID_TX_INFO),
        ({"L2TxAttributes": {"6": 4}}, Code.INVALID_TX_INFO),
        ({"L2TxAttributes": {"6": 3, "7": 1}}, Code.INVALID_TX_INFO),  # reduced are one account's own orders alone
        ({"L2TxAttributes": {"7": 2}}, Code.INVALID_TX_INFO),
        ({"L2TxAttributes": {"1": 7}}, 21149),
        ({"L2TxAttributes": {str(key): 0 for key in (1, 2, 3, 4, 6)}}, Code.INVALID_TX_INFO),
    ],
)
def test_refused_order_changes_nothing(desk: Desk, changes: dict[str, Any], code: int) -> None:
    result = desk.create("buy", 100, 300_000, **changes)
    assert (code, 0) == (result.code, result.order_index)
    assert result.message
    assert (0, [], {}) == (desk.engine.next_nonce(ALICE, KEY), desk.engine.drain(), desk.account().positions)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"BaseAmount": 50, "Price": 200_000},
        {"ClientOrderIndex": MAX_CLIENT_ORDER_INDEX},
        {"OrderExpiry": NOW_MS + 300_000},
        {"OrderExpiry": NOW_MS + 30 * DAY_MS},
        {"TimeInForce": 2},
        {"TimeInForce": 0, "OrderExpiry": 0},
        {"Type": 1, "TimeInForce": 0, "OrderExpiry": 0},
        {"ExpiredAt": NOW_MS + 1},
        {"L2TxAttributes": {"1": 0, "4": 0, "6": 0, "7": 0}},
        {"Unheard": "of"},
    ],
)
def test_taken_order_uses_its_nonce(desk: Desk, changes: dict[str, Any]) -> None:
    result = desk.create("buy", 100, 300_000, **changes)
    assert (CODE_OK, 1 << 48) == (result.code, result.order_index >> 48 << 48)
    assert 1 == desk.engine.next_nonce(ALICE, KEY)


def test_client_order_index_is_unique_among_resting_orders_of_all_markets(desk: Desk) -> None:
    assert desk.create("buy", 100, 300_000, ClientOrderIndex=7).ok
    assert Code.DUPLICATE_CLIENT_ORDER_INDEX == desk.create("sell", 100, 900_000, ClientOrderIndex=7).code
    assert Code.DUPLICATE_CLIENT_ORDER_INDEX == desk.create("buy", 100, 300_000, ClientOrderIndex=7, MarketIndex=1).code
    assert desk.create("buy", 100, 300_000, account=BOB, ClientOrderIndex=7).ok
    assert desk.cancel(7).ok
    assert desk.create("buy", 100, 300_000, ClientOrderIndex=7).ok


def test_no_client_order_index_may_be_used_often(desk: Desk) -> None:
    assert all(desk.create("buy", 100, 300_000).ok for _ in range(3))


@pytest.mark.parametrize("tx_type", [0, 8, 99])
def test_unsupported_types_are_refused(desk: Desk, tx_type: int) -> None:
    assert Code.UNSUPPORTED_TX_TYPE == desk.send(tx_type).code


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"AccountIndex":1}'])
@pytest.mark.parametrize("tx_type", [14, 15, 16, 17, 20, 28])
def test_what_is_no_transaction_is_refused(desk: Desk, tx_type: int, text: str) -> None:
    assert Code.INVALID_TX_INFO == desk.apply(SubmitTransaction(tx_type, text, "00")).code
    with pytest.raises(VenueError):
        decode(tx_type, text)


def test_unknown_markets_are_refused_everywhere(desk: Desk) -> None:
    codes = [
        desk.cancel(1, market_id=9).code,
        desk.modify(1, 100, 300_000, MarketIndex=9).code,
        desk.cancel_all(L2TxAttributes={"5": 9}).code,
        desk.leverage(1000, MarketIndex=9).code,
        desk.place(FEED, "buy", 100, 300_000, market_id=9).code,
    ]
    assert [Code.INVALID_MARKET] * 5 == codes


def test_local_participants_keep_the_same_rules(desk: Desk) -> None:
    place = desk.place
    assert Code.ACCOUNT_NOT_FOUND == place(404, "buy", 100, 300_000).code
    assert Code.AMOUNT_TOO_LOW == place(FEED, "buy", 10, 300_000).code
    assert Code.INVALID_EXPIRY == place(FEED, "buy", 100, 300_000, order_expiry_ms=NOW_MS + 1).code
    assert Code.INVALID_EXPIRY == place(FEED, "buy", 100, 300_000, time_in_force=0, order_expiry_ms=NOW_MS).code
    assert place(FEED, "buy", 100, 300_000, client_order_index=7).ok
    assert Code.DUPLICATE_CLIENT_ORDER_INDEX == place(FEED, "buy", 100, 300_000, client_order_index=7).code


def test_each_nonce_is_used_once_and_none_is_left_out(desk: Desk) -> None:
    codes = [desk.create("buy", 100, 300_000, Nonce=nonce).code for nonce in (0, 0, 2, 1, 2, 1)]
    assert [200, 21104, 21104, 200, 200, 21104] == codes
    assert "invalid nonce" == desk.create("buy", 100, 300_000, Nonce=9).message


def test_skip_nonce_takes_any_later_one(desk: Desk) -> None:
    skip = {"4": 1}
    codes = [
        desk.create("buy", 100, 300_000, Nonce=nonce, L2TxAttributes=attributes).code
        for nonce, attributes in [
            (0, skip),
            (1_795_000_000_000, skip),
            (1_795_000_000_000, skip),
            (5, skip),
            (1_795_000_000_002, None),
            (1_795_000_000_001, None),
            (1_795_000_000_001 + 2**47 + 1, skip),
            (1_795_000_000_001 + 2**47, skip),
            (MAX_NONCE, skip),
            (MAX_NONCE - 1, skip),
        ]
    ]
    assert [200, 200, 21104, 21104, 21104, 200, 21104, 200, 21104, 200] == codes


def test_each_key_counts_for_itself(desk: Desk) -> None:
    desk.apply(RegisterKey(ALICE, 5, "0x05", nonce=40))
    assert desk.create("buy", 100, 300_000).ok
    assert Code.INVALID_NONCE == desk.create("buy", 100, 300_000, ApiKeyIndex=5).code
    assert desk.create("buy", 100, 300_000, ApiKeyIndex=5, Nonce=40).ok
    assert (1, 41, None, None) == tuple(
        desk.engine.next_nonce(account, key) for account, key in [(ALICE, 4), (ALICE, 5), (ALICE, 6), (404, 4)]
    )


def test_registered_again_a_key_starts_anew(desk: Desk) -> None:
    desk.create("buy", 100, 300_000)
    desk.apply(RegisterKey(ALICE, KEY, "0xnew", nonce=9))
    key = desk.account().keys[KEY]
    assert ("0xnew", 9) == (key.public_key, key.nonce)
