"""Auth tokens, as far as the local venue can judge them.

A token is ``deadline:account:key:signature``: seconds since the epoch, two indexes, 160 hexadecimal digits; one that only reads
is ``ro:account:single|all:expiry:signature``. The deadline, the account and the key are checked. **The signature is not**: that takes the venue's own curve, which only the SDK's native signer
has, and the local venue is built without it. So everybody on this machine may read every account here.
"""

from __future__ import annotations

import re
from typing import Final

from qubx_lighter.constants import Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.exchange.engine import Engine

_TOKEN: Final = re.compile(r"(\d{1,12}):(\d{1,15}):(\d{1,3}):[0-9a-fA-F]{160}")
_READ_ONLY: Final = re.compile(r"ro:(\d{1,15}):(single|all):(\d{1,12}):[0-9a-fA-F]+")
_LONGEST_S: Final = 8 * 3600


def check_token(engine: Engine, token: str | None, account_index: int, now: int) -> None:
    """Insist on a token that may read an account; a master account's reads its sub-accounts too (one L1 address).

    Args:
        engine: who knows the accounts and keys.
        token: what the client sent; None or nothing when it sent none.
        account_index: whose data is asked for.
        now: µs.

    Raises:
        VenueError: 20013.
    """
    if not token:
        raise _refusal("no token")
    if (match := _READ_ONLY.fullmatch(token)) is not None:
        if int(match[3]) * 10**6 <= now:
            raise _refusal("expired token")
        _check_owner(engine, int(match[1]), account_index, alone=match[2] == "single")
        return
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise _refusal("invalid token")
    deadline, owner_index, key_index = map(int, match.groups())
    ahead = deadline - now // 10**6
    if ahead <= 0:
        raise _refusal("expired token")
    if ahead > _LONGEST_S:  # one that was signed for later begins to hold 8 h before its deadline
        raise _refusal("token deadline is too far ahead")
    owner = engine.account(owner_index)
    if owner is None or key_index not in owner.keys:
        raise _refusal("api key not found")
    _check_owner(engine, owner_index, account_index)


def _check_owner(engine: Engine, owner_index: int, account_index: int, *, alone: bool = False) -> None:
    owner, wanted = engine.account(owner_index), engine.account(account_index)
    one_owner = owner is not None and wanted is not None and wanted.l1_address == owner.l1_address
    if owner_index != account_index and (alone or not one_owner):
        raise _refusal("token is of another account")


def _refusal(reason: str) -> VenueError:
    return VenueError(Code.INVALID_AUTH, f"invalid auth: {reason}", 401)
