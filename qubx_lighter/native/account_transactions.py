"""The transactions that move money and manage accounts, as the native signer takes them and as they must read back.

Amounts are the venue's integers here: an asset's smallest unit, shares, parts per million. Ranges: the native library's,
and, for what it lets pass, those of the venue's own circuits (https://github.com/elliottech/lighter-prover).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from qubx_lighter.constants import MarginMove, PoolStatus, Route, TxType
from qubx_lighter.native.fields import checked_market, ranged

MEMO_BYTES: Final = 32
FULL_OPERATOR_FEE: Final = 1_000_000  # parts per million of the profit
FULL_SHARE_RATE: Final = 10_000  # 1e-4 of the pool
MIN_INITIAL_SHARES: Final = 1_000_000  # a share starts at 0.001 of the collateral
MAX_INITIAL_SHARES: Final = 2**31 - 1  # the venue takes 10**12, but the native signer's argument is a C int
MIN_SUB_ACCOUNT: Final = 2**47  # sub-accounts and pools count down from 2**48 - 2, owners' first accounts up from 0
_MAX_ACCOUNT: Final = 2**48 - 2
_MAX_AMOUNT: Final = 2**60 - 1
_MAX_ASSET: Final = 62


class AccountTransaction(NamedTuple):
    """What to sign: the arguments in front of skip-nonce, nonce and key, and the fields that must be read back."""

    tx_type: TxType
    function: str
    arguments: tuple[Any, ...]
    told: Mapping[str, object]


def plain(tx_type: TxType, function: str, **fields: int) -> AccountTransaction:
    """Describe a transaction whose arguments stand in the order of its fields."""
    return AccountTransaction(tx_type, function, tuple(fields.values()), {**fields, "L2TxAttributes": None})


def update_margin(*, market_id: int, amount: int, move: int) -> AccountTransaction:
    """Add collateral to an isolated position, or take some away; ``amount`` in millionths of the collateral."""
    return plain(
        TxType.UPDATE_MARGIN,
        "SignUpdateMargin",
        MarketIndex=checked_market(market_id),
        USDCAmount=ranged("amount", amount, 1, _MAX_AMOUNT),
        Direction=ranged("move", move, MarginMove.REMOVE, MarginMove.ADD),
    )


def transfer(
    *, to_account_index: int, asset_id: int, from_route: int, to_route: int, amount: int, fee: int, memo: bytes
) -> AccountTransaction:
    """Move an asset to another account, or to the other purse of one's own; ``fee`` in millionths of the collateral."""
    ranged("the memo's length", len(memo), 0, MEMO_BYTES)
    padded = memo.ljust(MEMO_BYTES, b"\0")
    fields = {
        "ToAccountIndex": _account("to_account_index", to_account_index),
        "AssetIndex": _asset(asset_id),
        "FromRouteType": ranged("from_route", from_route, Route.PERPS, Route.SPOT),
        "ToRouteType": ranged("to_route", to_route, Route.PERPS, Route.SPOT),
        "Amount": ranged("amount", amount, 1, _MAX_AMOUNT),
        "USDCFee": ranged("fee", fee, 0, _MAX_AMOUNT),
    }
    told = {**fields, "Memo": list(padded), "L2TxAttributes": None}
    return AccountTransaction(TxType.TRANSFER, "SignTransfer", (*fields.values(), padded.hex().encode()), told)


def withdraw(*, asset_id: int, route: int, amount: int) -> AccountTransaction:
    """Withdraw an asset to the owner's address on the chain; it can be claimed there once the venue has proven its block."""
    return plain(
        TxType.WITHDRAW,
        "SignWithdraw",
        AssetIndex=_asset(asset_id),
        RouteType=ranged("route", route, Route.PERPS, Route.SPOT),
        Amount=ranged("amount", amount, 1, _MAX_AMOUNT),
    )


def create_sub_account() -> AccountTransaction:
    """Make a sub-account of the same owner; the venue chooses its index."""
    return plain(TxType.CREATE_SUB_ACCOUNT, "SignCreateSubAccount")


def create_public_pool(*, operator_fee: int, initial_shares: int, min_operator_share_rate: int) -> AccountTransaction:
    """Open a pool: fee in ppm of the profit, shares that the operator buys, least part of the shares that they keep (1e-4)."""
    return plain(
        TxType.CREATE_PUBLIC_POOL,
        "SignCreatePublicPool",
        OperatorFee=ranged("operator_fee", operator_fee, 0, FULL_OPERATOR_FEE),
        InitialTotalShares=ranged("initial_shares", initial_shares, MIN_INITIAL_SHARES, MAX_INITIAL_SHARES),
        MinOperatorShareRate=ranged("min_operator_share_rate", min_operator_share_rate, 0, FULL_SHARE_RATE),
    )


def update_public_pool(
    *, pool_index: int, status: int, operator_fee: int, min_operator_share_rate: int
) -> AccountTransaction:
    """Change a pool; the other units are those of ``create_public_pool``."""
    return plain(
        TxType.UPDATE_PUBLIC_POOL,
        "SignUpdatePublicPool",
        PublicPoolIndex=_pool(pool_index),
        Status=ranged("status", status, PoolStatus.ACTIVE, PoolStatus.FROZEN),
        OperatorFee=ranged("operator_fee", operator_fee, 0, FULL_OPERATOR_FEE),
        MinOperatorShareRate=ranged("min_operator_share_rate", min_operator_share_rate, 0, FULL_SHARE_RATE),
    )


def mint_shares(*, pool_index: int, shares: int) -> AccountTransaction:
    """Buy shares of a pool."""
    return _shares(TxType.MINT_SHARES, "SignMintShares", pool_index, shares)


def burn_shares(*, pool_index: int, shares: int) -> AccountTransaction:
    """Give shares of a pool back."""
    return _shares(TxType.BURN_SHARES, "SignBurnShares", pool_index, shares)


def _shares(tx_type: TxType, function: str, pool_index: int, shares: int) -> AccountTransaction:
    return plain(
        tx_type,
        function,
        PublicPoolIndex=_pool(pool_index),
        ShareAmount=ranged("shares", shares, 1, _MAX_AMOUNT),
    )


def _account(name: str, index: int) -> int:
    return ranged(name, index, 0, _MAX_ACCOUNT)


def _pool(index: int) -> int:
    return ranged("pool_index", index, MIN_SUB_ACCOUNT, _MAX_ACCOUNT)


def _asset(asset_id: int) -> int:
    return ranged("asset_id", asset_id, 1, _MAX_ASSET)
