"""Transactions that come in one request: what the API wants of them together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Final

import msgspec

from qubx_lighter.errors import VenueError
from qubx_lighter.sim.accounts.ledger import ApiKey
from qubx_lighter.sim.exchange import admission
from qubx_lighter.sim.model.transactions import Transaction

TxTypeNumber = Annotated[int, msgspec.Meta(ge=0, le=255)]

NAME: Final = "batch"
"""What faults know a request of several transactions by."""

LARGEST: Final = 50
LARGEST_ON_SOCKET: Final = 15
TOO_LARGE: Final = 21514
_OF_SEVERAL_OWNERS: Final = 21121
_NONCES_DO_NOT_RISE: Final = 21105


def check(txs: Sequence[Transaction], largest: int = LARGEST) -> None:
    """Insist on one account and key, on rising nonces, and on a number of them.

    Raises:
        VenueError: 21105, 21121 or 21514.
    """
    if not 1 <= len(txs) <= largest:
        raise VenueError(TOO_LARGE, "invalid number of transactions in the batch")
    if len({(tx.account_index, tx.api_key_index) for tx in txs}) > 1:
        raise VenueError(_OF_SEVERAL_OWNERS, "transactions of a batch belong to different owners")
    if any(after.nonce <= before.nonce for before, after in pairwise(txs)):
        raise VenueError(_NONCES_DO_NOT_RISE, "nonces of a batch do not rise")


def check_nonces(key: ApiKey, txs: Sequence[Transaction]) -> None:
    """Insist on the key's next nonces, each transaction counting as taken for the one behind it.

    Raises:
        VenueError: 21104.
    """
    expected = ApiKey(key.public_key, key.nonce)
    for tx in txs:
        admission.check_nonce(expected, tx)
        expected.nonce = tx.nonce + 1


def lists(tx_types: list[int] | str, tx_infos: list[str] | str) -> tuple[list[int], list[str]]:
    """Read the two lists of a request, which may be JSON texts.

    Raises:
        msgspec.MsgspecError: a text is not that of such a list.
    """
    types = msgspec.json.decode(tx_types, type=list[TxTypeNumber]) if isinstance(tx_types, str) else tx_types
    infos = msgspec.json.decode(tx_infos, type=list[str]) if isinstance(tx_infos, str) else tx_infos
    return types, infos
