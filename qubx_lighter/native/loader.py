"""Find and load the SDK's native signer, and tell whether it does what it is told.

The bare library and not the SDK's ``SignerClient``, whose constructor needs a running loop and brings an HTTP client and a
nonce manager along.
"""

from __future__ import annotations

import json
import logging
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from qubx_lighter.errors import SigningError
from qubx_lighter.native.abi import DISTRIBUTIONS, INSTALL, ORDER_FIELDS, PROTOTYPES, RESULT_FIELDS, shape


class Native(NamedTuple):
    """The loaded library, how to take one of its strings, and its C structure of an order in a group."""

    library: Any
    take: Callable[[Any], str | None]
    order: Any


def load() -> Native:
    """Import the SDK's wrapper, load its library and compare both with what is expected; logging stays as it is.

    Raises:
        SigningError: the SDK is missing, has no library for this platform, or is of a release that does not fit.
    """
    try:
        with _unchanged_logging():
            from lighter import signer_client  # noqa: PLC0415 - takes a second, and only trading needs it

            sdk: Any = signer_client
    except ImportError as error:
        raise SigningError(f"the Lighter SDK is missing ({error}): {INSTALL}") from error
    _check_release(str(getattr(sdk, "__file__", "")))
    try:
        with _unchanged_logging():
            native = Native(sdk.get_signer(), sdk.decode_and_free, sdk.CreateOrderTxReq)
    except (
        AttributeError
    ) as error:  # a function that the wrapper declares and the binary lacks, or a piece of the wrapper
        raise SigningError(
            f"the native signer is not the one that its wrapper was made for ({error}): {INSTALL}"
        ) from error
    except Exception as error:  # the SDK raises a bare Exception on a platform it has no library for
        where = f"{platform.system()} {platform.machine()}"
        raise SigningError(f"the native signer cannot be loaded on {where}: {error}") from error
    _check_functions(native)
    return native


def installed() -> dict[str, str]:
    """Tell which distributions of the SDK are installed, with their versions."""
    found = {}
    for name in DISTRIBUTIONS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _check_release(path: str) -> None:
    """Insist on releases that this package was tried with: in another one arguments may stand elsewhere."""
    supported = " or ".join(f"{name} {_range(name)}" for name in DISTRIBUTIONS)
    found = installed()
    if not found:
        raise SigningError(f"the module lighter at {path} is of no known release, expected {supported}: {INSTALL}")
    for name, text in found.items():
        least, below = DISTRIBUTIONS[name]
        if not least <= _numbers(text) < below:
            raise SigningError(f"{name} {text} is installed, expected {supported}: {INSTALL}")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0]))


def _range(name: str) -> str:
    least, below = (".".join(map(str, numbers)) for numbers in DISTRIBUTIONS[name])
    return f">={least},<{below}"


def _check_functions(native: Native) -> None:
    """Compare the arguments of every function in use, and the fields of both structures, with what we pass and read."""
    wrong = []
    for name, expected in PROTOTYPES.items():
        function = getattr(native.library, name, None)
        found = shape(function)
        if function is None or found is None:
            wrong.append(f"{name} is missing")
        elif found != expected:
            wrong.append(f"{name} takes ({found}), expected ({expected})")
        elif name.startswith("Sign") and _fields(function.restype) != RESULT_FIELDS:
            wrong.append(f"{name} returns {_fields(function.restype)}, expected {RESULT_FIELDS}")
    if _fields(native.order) != ORDER_FIELDS:
        wrong.append(f"an order of a group has {_fields(native.order)}, expected {ORDER_FIELDS}")
    if wrong:
        have = ", ".join(f"{name} {text}" for name, text in installed().items())
        raise SigningError(f"the native signer of {have} does not fit: {'; '.join(wrong)}: {INSTALL}")


def _fields(structure: Any) -> tuple[str, ...]:
    return tuple(field[0] for field in getattr(structure, "_fields_", ()))


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
    wrong = [
        f"{name} {signed.get(name)!r} in place of {value!r}"
        for name, value in expected.items()
        if signed.get(name) != value
    ]
    if wrong:
        raise SigningError(
            f"the native signer signs something else than it is told ({', '.join(wrong)}): "
            f"its binary and its wrapper do not fit: {INSTALL}"
        )
