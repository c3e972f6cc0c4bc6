"""A signer of the native library, for an account that no venue knows."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr

from qubx_lighter.signer import Signer

ACCOUNT, KEY_INDEX = 225671, 4


def make(private_key: str, **changes: Any) -> Signer:
    options: dict[str, Any] = {
        "chain_id": 304,
        "account_index": ACCOUNT,
        "api_key_index": KEY_INDEX,
        "private_key": SecretStr(private_key),
        "base_url": "http://127.0.0.1:1",
    }
    return Signer(**options | changes)
