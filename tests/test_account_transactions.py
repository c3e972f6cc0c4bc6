"""Transactions that move money and manage accounts: signed as told, and refused where C or the venue would not take them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from qubx_lighter.constants import MarginMove, PoolStatus, Route, TxType
from qubx_lighter.errors import SigningError
from qubx_lighter.native import account_transactions as transactions
from qubx_lighter.native.account_transactions import MAX_INITIAL_SHARES, AccountTransaction
from qubx_lighter.signer import Signer, generate_api_key
from tests.signing import ACCOUNT, KEY_INDEX, make

LARGEST = 2**60 - 1
LAST_ACCOUNT = 2**48 - 2
FIRST_POOL = 2**47
TRANSFER = {
    "to_account_index": LAST_ACCOUNT,
    "asset_id": 3,
    "from_route": Route.PERPS,
    "to_route": Route.SPOT,
    "amount": LARGEST,
    "fee": 12,
    "memo": b"rent",
}
POOL = {"operator_fee": 1_000_000, "min_operator_share_rate": 10_000}


@pytest.fixture
async def signer() -> AsyncIterator[Signer]:
    signer = make(generate_api_key()[0])
    yield signer
    signer.close()


@pytest.mark.parametrize(
    ("transaction", "tx_type", "fields"),
    [
        (
            transactions.update_margin(market_id=24, amount=LARGEST, move=MarginMove.REMOVE),
            29,
            {"AccountIndex": ACCOUNT, "MarketIndex": 24, "USDCAmount": LARGEST, "Direction": 0},
        ),
        (
            transactions.transfer(**TRANSFER),
            12,
            {
                "FromAccountIndex": ACCOUNT,
                "ToAccountIndex": LAST_ACCOUNT,
                "AssetIndex": 3,
                "FromRouteType": 0,
                "ToRouteType": 1,
                "Amount": LARGEST,
                "USDCFee": 12,
                "Memo": [*b"rent", *bytes(28)],
                "L1Sig": "",
            },
        ),
        (
            transactions.withdraw(asset_id=1, route=Route.SPOT, amount=LARGEST),
            13,
            {"FromAccountIndex": ACCOUNT, "AssetIndex": 1, "RouteType": 1, "Amount": LARGEST},
        ),
        (transactions.create_sub_account(), 9, {"AccountIndex": ACCOUNT}),
        (
            transactions.create_public_pool(initial_shares=MAX_INITIAL_SHARES, **POOL),
            10,
            {
                "AccountIndex": ACCOUNT,
                "OperatorFee": 1_000_000,
                "InitialTotalShares": MAX_INITIAL_SHARES,
                "MinOperatorShareRate": 10_000,
            },
        ),
        (
            transactions.update_public_pool(pool_index=LAST_ACCOUNT, status=PoolStatus.FROZEN, **POOL),
            11,
            {
                "AccountIndex": ACCOUNT,
                "PublicPoolIndex": LAST_ACCOUNT,
                "Status": 1,
                "OperatorFee": 1_000_000,
                "MinOperatorShareRate": 10_000,
            },
        ),
        (
            transactions.mint_shares(pool_index=LAST_ACCOUNT, shares=LARGEST),
            18,
            {"AccountIndex": ACCOUNT, "PublicPoolIndex": LAST_ACCOUNT, "ShareAmount": LARGEST},
        ),
        (
            transactions.burn_shares(pool_index=FIRST_POOL, shares=1),
            19,
            {"AccountIndex": ACCOUNT, "PublicPoolIndex": FIRST_POOL, "ShareAmount": 1},
        ),
    ],
    ids=lambda value: value.tx_type.name if isinstance(value, AccountTransaction) else "",
)
async def test_each_is_signed_as_told(
    signer: Signer, transaction: AccountTransaction, tx_type: int, fields: dict[str, Any]
) -> None:
    signed = await signer.sign(transaction, 9)
    body = json.loads(signed.tx_info)
    assert 108 == len(body.pop("Sig"))
    body.pop("ExpiredAt")
    assert fields | {"ApiKeyIndex": KEY_INDEX, "Nonce": 9, "L2TxAttributes": None} == body
    assert tx_type == signed.tx_type


async def test_a_transfer_carries_the_text_for_the_wallet_and_the_others_do_not(signer: Signer) -> None:
    transfer = await signer.sign(transactions.transfer(**TRANSFER), 9)
    assert transfer.message.startswith("Transfer\n\nnonce: 0x0000000000000009\n")
    assert b"rent".hex() in transfer.message
    withdrawal = await signer.sign(transactions.withdraw(asset_id=3, route=0, amount=1), 9)
    assert not withdrawal.message


@pytest.mark.parametrize(
    "make_it",
    [
        lambda: transactions.update_margin(market_id=255, amount=1, move=0),
        lambda: transactions.update_margin(market_id=0, amount=0, move=0),
        lambda: transactions.update_margin(market_id=0, amount=2**64 + 5, move=0),
        lambda: transactions.update_margin(market_id=0, amount=1, move=2),
        lambda: transactions.transfer(**TRANSFER | {"to_account_index": -1}),
        lambda: transactions.transfer(**TRANSFER | {"asset_id": 0}),
        lambda: transactions.transfer(**TRANSFER | {"asset_id": 63}),
        lambda: transactions.transfer(**TRANSFER | {"from_route": 2}),
        lambda: transactions.transfer(**TRANSFER | {"to_route": -1}),
        lambda: transactions.transfer(**TRANSFER | {"amount": 0}),
        lambda: transactions.transfer(**TRANSFER | {"amount": 1.5}),
        lambda: transactions.transfer(**TRANSFER | {"fee": -1}),
        lambda: transactions.transfer(**TRANSFER | {"memo": bytes(33)}),
        lambda: transactions.withdraw(asset_id=3, route=0, amount=2**60),
        lambda: transactions.create_public_pool(initial_shares=999_999, **POOL),
        lambda: transactions.create_public_pool(initial_shares=2**31, **POOL),
        lambda: transactions.create_public_pool(initial_shares=10**9, **POOL | {"operator_fee": 1_000_001}),
        lambda: transactions.create_public_pool(initial_shares=10**9, **POOL | {"min_operator_share_rate": 10_001}),
        lambda: transactions.update_public_pool(pool_index=2**48 - 1, status=0, **POOL),
        lambda: transactions.mint_shares(pool_index=FIRST_POOL - 1, shares=1),
        lambda: transactions.update_public_pool(pool_index=FIRST_POOL, status=2, **POOL),
        lambda: transactions.mint_shares(pool_index=FIRST_POOL, shares=0),
        lambda: transactions.burn_shares(pool_index=FIRST_POOL, shares=2**60),
    ],
)
def test_what_would_wrap_or_be_refused_is_not_made(make_it: Callable[[], AccountTransaction]) -> None:
    with pytest.raises(SigningError, match=r"outside|must be an integer|means no market"):
        make_it()


async def test_a_nonce_that_is_none_is_refused(signer: Signer) -> None:
    with pytest.raises(SigningError, match="nonce -1"):
        await signer.sign(transactions.create_sub_account(), -1)


def test_types_are_the_venues() -> None:
    assert [9, 10, 11, 12, 13, 18, 19, 29] == [
        TxType.CREATE_SUB_ACCOUNT,
        TxType.CREATE_PUBLIC_POOL,
        TxType.UPDATE_PUBLIC_POOL,
        TxType.TRANSFER,
        TxType.WITHDRAW,
        TxType.MINT_SHARES,
        TxType.BURN_SHARES,
        TxType.UPDATE_MARGIN,
    ]
