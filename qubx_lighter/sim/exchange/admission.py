"""What the API asks of a transaction before anything is executed: which key, which nonce, which time."""

from __future__ import annotations

from typing import Final

import msgspec

from qubx_lighter.constants import (
    MAX_CANCEL_ALL_AHEAD_S,
    MAX_NONCE,
    MIN_CANCEL_ALL_AHEAD_S,
    CancelAllTime,
    Code,
    TimeInForce,
)
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.accounts.ledger import ApiKey
from qubx_lighter.sim.model.transactions import (
    Attribute,
    CancelAllTx,
    CancelOrderTx,
    CreateOrderTx,
    ModifyOrderTx,
    Transaction,
)

INVALID_TX_TYPE_FOR_ACCOUNT: Final = 21511
_MAX_SKIP: Final = 2**47  # how far a nonce may jump with skip_nonce


def check_maker_only(tx: Transaction) -> None:
    """Insist on what a maker-only key may send: post-only orders, amendments and cancels.

    Raises:
        VenueError: 21511.
    """
    posts = isinstance(tx, CreateOrderTx) and tx.time_in_force == TimeInForce.POST_ONLY
    if not posts and not isinstance(tx, CancelOrderTx | CancelAllTx | ModifyOrderTx):
        raise VenueError(INVALID_TX_TYPE_FOR_ACCOUNT, "invalid tx type for account")


def check_nonce(key: ApiKey, tx: Transaction) -> None:
    """Insist on the key's next nonce; with skip_nonce any later one will do.

    Raises:
        VenueError: 21104; the SDK knows it by the words "invalid nonce".
    """
    last = key.nonce + _MAX_SKIP - 1 if tx.attribute(Attribute.SKIP_NONCE) else key.nonce
    if not key.nonce <= tx.nonce <= min(last, MAX_NONCE - 1):
        raise VenueError(Code.INVALID_NONCE, "invalid nonce")


def check_cancel_all(tx: CancelAllTx, now: int) -> None:
    """Insist on a time 5 minutes to 15 days ahead of ``now`` (µs) of a scheduled cancel-all, of all markets, and on none else.

    Raises:
        VenueError: 21501.
    """
    if tx.time_in_force not in CancelAllTime:
        raise VenueError(Code.INVALID_TX_INFO, "invalid tx info: time in force")
    if tx.is_of_one_market and tx.time_in_force != CancelAllTime.IMMEDIATE:
        raise VenueError(Code.INVALID_TX_INFO, "invalid tx info: only an immediate cancel-all may be of one market")
    if tx.time_in_force == CancelAllTime.SCHEDULED:
        valid = MIN_CANCEL_ALL_AHEAD_S * 1000 <= tx.time - now // 1000 <= MAX_CANCEL_ALL_AHEAD_S * 1000
    else:
        valid = tx.time == 0
    if not valid:
        raise VenueError(Code.INVALID_TX_INFO, "invalid tx info: time")


def failure_text(code: int, message: str) -> str:
    """Write the text of a transaction that failed at the sequencer."""
    return msgspec.json.encode({"code": int(code), "message": message}).decode()
