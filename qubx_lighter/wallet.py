"""The owner's wallet: its signature, which the venue wants for what leaves the owner's hands.

Its key is worth everything on the account and in the wallet. It is taken as a ``SecretStr`` for one call, kept nowhere, and
in no local variable: an exception that passes is replaced by one without a history, whose frames hold no key.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from pydantic import SecretStr

from qubx_lighter.errors import ConfigurationError, SigningError
from qubx_lighter.native.key import SignedTx

_KEY_HEX_DIGITS: Final = 64
_KEY: Final = re.compile(r"(0x)?[0-9a-fA-F]{64}")
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_WHERE: Final = "your wallet app shows it under account details, as private key; it is not the API private key"


def checked_wallet_key(key: SecretStr | None, purpose: str) -> SecretStr:
    """Return a wallet's private key that looks like one.

    Args:
        key: 64 hexadecimal digits, with or without ``0x``.
        purpose: what needs it, for the error.

    Raises:
        ConfigurationError: it is missing, or is none; the text says where it comes from.
    """
    if key is None:
        raise ConfigurationError(
            f"{purpose} needs the signature of the wallet that owns the account: pass wallet_key=SecretStr(...), "
            f"the wallet's private key of {_KEY_HEX_DIGITS} hexadecimal digits ({_WHERE})"
        )
    if not isinstance(key, SecretStr):
        raise ConfigurationError("wallet_key must be a pydantic SecretStr, so that no log and no traceback can show it")
    if _KEY.fullmatch(key.get_secret_value().strip()) is None:
        raise ConfigurationError(f"wallet_key is not {_KEY_HEX_DIGITS} hexadecimal digits ({_WHERE})")
    return key


def wallet_address(key: SecretStr) -> str:
    """Give the address of the wallet that a key is of."""
    return str(_wallet(key).address)


def sign_with_wallet(signed: SignedTx, key: SecretStr) -> SignedTx:
    """Add the wallet's signature (EIP-191) of a transaction's text to it.

    Raises:
        SigningError: the key is no key of a wallet.
    """
    signature = _signature(key, signed.message)
    body = json.loads(signed.tx_info) | {"L1Sig": signature}
    return signed._replace(tx_info=json.dumps(body, separators=(",", ":")))


def address_bytes(address: str) -> bytes:
    """Return the 20 bytes of an address.

    Raises:
        ConfigurationError: it is none.
    """
    if _ADDRESS.fullmatch(address.strip()) is None:
        raise ConfigurationError(f"{address!r} is no address: 0x and 40 hexadecimal digits")
    return bytes.fromhex(address.strip().removeprefix("0x"))


def _signature(key: SecretStr, message: str) -> str:
    from eth_account.messages import encode_defunct  # noqa: PLC0415 - comes with the SDK, takes its time, seldom needed

    try:
        return "0x" + str(_wallet(key).sign_message(encode_defunct(text=message)).signature.hex()).removeprefix("0x")
    except Exception:  # noqa: BLE001, S110 - whatever it is, its text and its frames may hold the key
        pass
    raise SigningError("the wallet could not sign")


def _wallet(key: SecretStr) -> Any:
    from eth_account import Account  # noqa: PLC0415 - as above

    try:
        return Account.from_key("0x" + key.get_secret_value().strip().removeprefix("0x"))
    except Exception:  # noqa: BLE001, S110 - as above
        pass
    raise SigningError("wallet_key is no private key of a wallet")
