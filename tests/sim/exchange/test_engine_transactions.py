"""Engine: what the API refuses and with which code, nonces, and transactions as the real signer writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from qubx_lighter.constants import (
    CODE_OK,
    MAX_BASE_LOTS,
    MAX_CLIENT_ORDER_INDEX,
    MAX_NONCE,
    MAX_PRICE_TICKS,
    Code,
    TxType,
)
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.model.commands import (
    CreateAccount,
    CreateMarket,
    Deposit,
    PlaceOrder,
    RegisterKey,
    SubmitTransaction,
)
from qubx_lighter.sim.model.events import OrderChanged, PositionChanged, TransactionDone
from qubx_lighter.sim.model.transactions import decode
from tests.sim.desk import ALICE, BOB, DAY_MS, ETH, FEED, FUNDS, KEY, START, Desk

NOW_MS = START // 1000


@pytest.fixture
def desk() -> Desk:
    return Desk()


# --- refusals --------------------------------------------------------------------------------------------------------


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


# --- nonces ----------------------------------------------------------------------------------------------------------


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


# --- what the sequencer keeps of them --------------------------------------------------------------------------------


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


# --- leverage --------------------------------------------------------------------------------------------------------


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


# --- administration --------------------------------------------------------------------------------------------------


def test_markets_accounts_and_keys_are_made_once(desk: Desk) -> None:
    codes = [
        desk.apply(CreateMarket(ETH)).code,
        desk.apply(CreateAccount(ALICE, "0x1", 1)).code,
        desk.apply(RegisterKey(404, KEY, "0x1")).code,
        desk.apply(RegisterKey(ALICE, 255, "0x1")).code,
        desk.apply(Deposit(404, 1)).code,
    ]
    assert [20001, 20001, 21100, 20001, 21100] == codes
    assert FUNDS == desk.account().collateral_micro


def test_deposits_and_withdrawals_change_collateral(desk: Desk) -> None:
    assert desk.apply(Deposit(ALICE, 5)).ok
    assert [PositionChanged(ALICE, 255, desk.now)] == desk.engine.drain()
    assert Code.BELOW_INITIAL_MARGIN == desk.apply(Deposit(ALICE, -FUNDS - 6)).code
    assert desk.apply(Deposit(ALICE, -FUNDS - 5)).ok
    assert 0 == desk.account().collateral_micro


def test_accounts_are_found_by_owner() -> None:
    desk = Desk()
    assert [ALICE] == [account.account_index for account in desk.engine.accounts_of(f"0X{ALICE:040X}")]
    assert [] == desk.engine.accounts_of("0xnobody")
    assert [1, 2, 8, 9] == [account.account_index for account in desk.engine.accounts()]
    assert desk.engine.account(404) is None


def test_same_seed_same_ids_other_seed_others() -> None:
    def ids(seed: int) -> tuple[object, ...]:
        desk = Desk(seed=seed)
        desk.place(FEED, "sell", 100, 300_000)
        desk.create("buy", 100, 300_000)
        trade = desk.engine.trades()[0]
        return trade.trade_id, desk.engine.book_nonce, desk.account().inactive[0].nonce

    assert ids(7) == ids(7)
    assert not set(ids(7)) & set(ids(8))


# --- the real signer -------------------------------------------------------------------------------------------------


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


def test_an_engine_without_markets_refuses_politely() -> None:
    engine = Engine()
    engine.apply(CreateAccount(1, "0x1", FUNDS), START)
    order = PlaceOrder(account_index=1, market_id=0, is_ask=False, base_lots=1, price_ticks=1)
    assert Code.INVALID_MARKET == engine.apply(order, START).code
    assert [] == [event for event in engine.drain() if isinstance(event, OrderChanged)]
    assert TxType.CREATE_ORDER not in engine.markets
