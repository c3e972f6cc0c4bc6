"""Find and load the SDK's native signer, and tell whether it does what it is told.

The bare library and not the SDK's ``SignerClient``, whose constructor needs a running loop and brings an HTTP client and a
nonce manager along.
"""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from qubx_lighter.errors import SigningError


class Native(NamedTuple):
    """The loaded library, how to take one of its strings, and its C structure of an order in a group."""

    library: Any
    take: Callable[[Any], str | None]
    order: Any


def load() -> Native:
    """Import the SDK's wrapper and load its library, leaving the process's logging as it is.

    Raises:
        SigningError: the SDK is missing, or has no library for this platform.
    """
    with _unchanged_logging():
        try:
            from lighter import signer_client  # noqa: PLC0415 - takes a second, and only trading needs it

            sdk: Any = signer_client
            return Native(sdk.get_signer(), sdk.decode_and_free, sdk.CreateOrderTxReq)
        except ImportError as error:
            raise SigningError(f"the Lighter SDK is missing: pip install qubx-lighter-api ({error})") from error
        except Exception as error:  # the SDK raises a bare Exception on a platform it has no library for
            where = f"{platform.system()} {platform.machine()}"
            raise SigningError(f"the native signer cannot be loaded on {where}: {error}") from error


@contextmanager
def _unchanged_logging() -> Iterator[None]:
    """Undo what an import does to the root logger: releases of the SDK have set it to DEBUG."""
    root = logging.getLogger()
    level, handlers, disabled = root.level, list(root.handlers), logging.root.manager.disable
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        logging.disable(disabled)


def compare(expected: Mapping[str, object], tx_info: str) -> None:
    """Compare the fields of a signed transaction with what was to be signed.

    Raises:
        SigningError: one differs.
    """
    signed = json.loads(tx_info)
    wrong = [name for name, value in expected.items() if signed.get(name) != value]
    if wrong:
        raise SigningError(
            f"the native signer signs something else than it is told ({', '.join(wrong)}): "
            f"its binary and its wrapper do not fit, reinstall qubx-lighter-api"
        )
