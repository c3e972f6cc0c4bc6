"""What the native signer must be like: its functions, and known transactions that show whether it does what it is told.

The C interface changes between releases of the SDK, and arguments are positional: a library that wants one more signs
something else than it is told, without a word. So three things are compared before the first real signature: the releases
this package was tried with, the functions' arguments as the SDK's wrapper declares them, and what the binary makes of
one known transaction a function. No two arguments of those are alike where the venue's rules allow it, so that a shifted
or cut one shows. None of them ever leaves this process.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

from qubx_lighter.constants import Grouping, TxType
from qubx_lighter.native.account_transactions import (
    AccountTransaction,
    burn_shares,
    create_public_pool,
    create_sub_account,
    mint_shares,
    plain,
    transfer,
    update_margin,
    update_public_pool,
    withdraw,
)

DISTRIBUTIONS: Final[dict[str, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "qubx-lighter-api": ((0, 2), (1,)),
    "lighter-sdk": ((1, 1, 8), (2,)),
}
"""Who publishes the module ``lighter``, and from which release on, up to which, the functions here were found to hold."""

INSTALL: Final = 'pip install --force-reinstall "qubx-lighter-api>=0.2,<1"'

RESULT_FIELDS: Final = ("txType", "txInfo", "txHash", "messageToSign", "err")
ORDER_FIELDS: Final = (
    "MarketIndex",
    "ClientOrderIndex",
    "BaseAmount",
    "Price",
    "IsAsk",
    "Type",
    "TimeInForce",
    "ReduceOnly",
    "TriggerPrice",
    "OrderExpiry",
)

_SIGNER: Final = "1 8 4 8"  # skip nonce, nonce, API key index, account index: what ends nearly every function
_ORDER_FLAGS: Final = "8 4 4 1 1"  # integrator and its two fees, self-trade behavior and scope

PROTOTYPES: Final[dict[str, str]] = {
    "GenerateAPIKey": "",
    "CreateClient": "* * 4 4 8",
    "CheckClient": "4 8",
    "CreateAuthToken": "8 4 8",
    "SignCreateOrder": f"8 8 8 4 4 4 4 4 4 8 {_ORDER_FLAGS} {_SIGNER}",
    "SignCreateGroupedOrders": f"1 * 4 {_ORDER_FLAGS} {_SIGNER}",
    "SignCancelOrder": f"8 8 {_SIGNER}",
    "SignModifyOrder": f"8 8 8 8 8 {_ORDER_FLAGS} 1 8 8 4 8",  # the order's version stands behind the nonce
    "SignCancelAllOrders": f"4 8 8 {_SIGNER}",
    "SignUpdateLeverage": f"8 4 4 {_SIGNER}",
    "SignUpdateMargin": f"8 8 4 {_SIGNER}",
    "SignTransfer": f"8 2 1 1 8 8 * {_SIGNER}",
    "SignWithdraw": f"4 4 8 {_SIGNER}",
    "SignCreateSubAccount": _SIGNER,
    "SignCreatePublicPool": f"8 4 8 {_SIGNER}",
    "SignUpdatePublicPool": f"8 4 8 4 {_SIGNER}",
    "SignMintShares": f"8 8 {_SIGNER}",
    "SignBurnShares": f"8 8 {_SIGNER}",
    "Free": "*",
}
"""Every native function in use, with the bytes of each of its arguments; ``*`` is a pointer."""

MASTER_FUNCTIONS: Final = frozenset({"SignCreateSubAccount", "SignCreatePublicPool"})
"""What the native signer signs for master accounts alone; it refuses sub-accounts and pools."""


NONCE: Final = 281_474_976_000  # numbers that shifted or cut arguments cannot give by chance
_INDEX: Final = 1_234_567
_POOL: Final = 281_474_976_654_321
_AMOUNT: Final = 987_654_321_012
_EXPIRY: Final = 2**48 - 1
_MEMO: Final = bytes(range(1, 33))
_NO_INTEGRATOR: Final = (0, 0, 0)
_SELF_TRADE: Final = (2, 1)  # not what is the default, so that it shows in the attributes
_ATTRIBUTES: Final = {"6": 2, "7": 1}
_LAST: Final = (0, NONCE)


_ACCOUNT_TRANSACTIONS: Final = (
    update_margin(market_id=3, amount=_AMOUNT, move=1),
    transfer(to_account_index=_INDEX, asset_id=5, from_route=0, to_route=1, amount=_AMOUNT, fee=7_654_321, memo=_MEMO),
    withdraw(asset_id=5, route=1, amount=_AMOUNT),
    create_sub_account(),
    create_public_pool(operator_fee=123_456, initial_shares=7_654_321, min_operator_share_rate=789),
    update_public_pool(pool_index=_POOL, status=1, operator_fee=123_456, min_operator_share_rate=789),
    mint_shares(pool_index=_POOL, shares=_AMOUNT),
    burn_shares(pool_index=_POOL, shares=_AMOUNT),
)


def known_transactions(order: Callable[..., Any]) -> list[tuple[AccountTransaction, tuple[int, ...]]]:
    """List one transaction for each function that signs, and what follows its arguments: skip-nonce, nonce and so on.

    ``order`` makes the C structure of an order in a group.
    """
    limit = (3, _INDEX, 5, 7, 1, 5, 2, 0, 11, _EXPIRY)
    entry, stop = (4, 21, 22, 23, 0, 0, 1, 0, 0, _EXPIRY), (4, 24, 0, 25, 1, 2, 0, 1, 26, _EXPIRY)
    orders = (order * 2)(order(*entry), order(*stop))  # type: ignore[operator]  # ctypes' way to make an array type
    flags = (*_NO_INTEGRATOR, *_SELF_TRADE)
    one_triggers_the_other = Grouping.ONE_TRIGGERS_THE_OTHER
    create = AccountTransaction(
        TxType.CREATE_ORDER,
        "SignCreateOrder",
        (*limit, *flags),
        {**_row(limit), "L2TxAttributes": _ATTRIBUTES},
    )
    group = AccountTransaction(
        TxType.CREATE_GROUPED_ORDERS,
        "SignCreateGroupedOrders",
        (one_triggers_the_other, orders, 2, *flags),
        {
            "GroupingType": one_triggers_the_other,
            "Orders": [_row(entry), _row(stop)],
            "L2TxAttributes": _ATTRIBUTES,
        },
    )
    changes = {"MarketIndex": 3, "Index": _INDEX, "BaseAmount": 5, "Price": 7, "TriggerPrice": 11}
    modify = AccountTransaction(
        TxType.MODIFY_ORDER,
        "SignModifyOrder",
        (*changes.values(), *flags),
        {**changes, "L2TxAttributes": {**_ATTRIBUTES, "8": 13}},
    )
    cancel = plain(TxType.CANCEL_ORDER, "SignCancelOrder", MarketIndex=3, Index=_INDEX)
    cancel_all = AccountTransaction(
        TxType.CANCEL_ALL_ORDERS,
        "SignCancelAllOrders",
        (0, 0, 3),
        {"TimeInForce": 0, "Time": 0, "L2TxAttributes": {"5": 3}},
    )
    leverage = plain(
        TxType.UPDATE_LEVERAGE, "SignUpdateLeverage", MarketIndex=3, InitialMarginFraction=700, MarginMode=1
    )
    plainly_ended = (create, group, cancel, cancel_all, leverage, *_ACCOUNT_TRANSACTIONS)
    return [(modify, (*_LAST, 13)), *((known, _LAST) for known in plainly_ended)]


def _row(order: tuple[int, ...]) -> dict[str, int]:
    return dict(zip(ORDER_FIELDS, order, strict=True))


def shape(function: Any) -> str | None:
    """Write down a foreign function's arguments as ``PROTOTYPES`` does; None where nobody has declared them."""
    types = getattr(function, "argtypes", None)
    return None if types is None else " ".join(_size(kind) for kind in types)


def _size(kind: Any) -> str:
    is_pointer = getattr(kind, "_type_", "") in {"z", "P"} or hasattr(kind, "contents")
    return "*" if is_pointer else str(ctypes.sizeof(kind))
