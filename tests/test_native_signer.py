"""Loading of the native signer: what is missing or does not fit is found out before the first signature."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import pytest

from qubx_lighter import native_signer
from qubx_lighter.errors import SigningError
from qubx_lighter.signer import generate_api_key
from tests.programs import run_python
from tests.signing import make


@pytest.fixture(scope="module")
def api_key() -> tuple[str, str]:
    return generate_api_key()


# --- the self-test ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["AccountIndex", "ApiKeyIndex", "Nonce", "Price", "OrderExpiry", "L2TxAttributes"])
async def test_a_library_that_signs_something_else_is_refused_at_load(
    api_key: tuple[str, str], monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    load = native_signer.load

    def shifted() -> native_signer.Native:
        native = load()

        def take(pointer: object) -> str | None:
            text = native.take(pointer)
            if text is None or not text.startswith('{"AccountIndex"'):
                return text
            return json.dumps(json.loads(text) | {field: 3})

        return native._replace(take=take)

    monkeypatch.setattr(native_signer, "load", shifted)
    signer = make(api_key[0])
    with pytest.raises(SigningError, match=field):
        await signer.load()
    with pytest.raises(SigningError, match=field):
        await signer.cancel_all(nonce=1)
    signer.close()


async def test_a_missing_sdk_is_a_signing_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lighter", None)
    signer = make("ab" * 40)
    with pytest.raises(SigningError, match="pip install qubx-lighter-api"):
        await signer.load()
    signer.close()


async def test_a_platform_without_a_library_is_a_signing_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import lighter.signer_client as sdk

    def unsupported() -> None:
        raise Exception("Unsupported platform/architecture")  # noqa: TRY002 - as the SDK does it

    monkeypatch.setattr(sdk, "get_signer", unsupported)
    signer = make("ab" * 40)
    with pytest.raises(SigningError, match=rf"cannot be loaded on {platform.system()}.*Unsupported platform"):
        await signer.load()
    signer.close()


# --- logging ----------------------------------------------------------------------------------------------------------


def test_importing_the_sdk_leaves_logging_as_it_was(tmp_path: Path) -> None:
    noisy = tmp_path / "lighter"
    noisy.mkdir()
    (noisy / "__init__.py").write_text(
        "import logging\nlogging.basicConfig(level=logging.DEBUG)\nlogging.disable(10)\n"
    )
    (noisy / "signer_client.py").write_text(
        "def get_signer(): return 'library'\ndef decode_and_free(pointer): pass\nclass CreateOrderTxReq: pass\n"
    )
    code = """
        import logging
        from qubx_lighter.native_signer import load
        logging.getLogger().setLevel(logging.ERROR)
        native = load()
        root = logging.getLogger()
        print(native.library, root.level, root.handlers, logging.root.manager.disable)
    """
    assert "library 40 [] 0" == run_python(code, tmp_path)


def test_the_real_sdk_leaves_logging_as_it_was() -> None:
    code = """
        import logging
        from qubx_lighter.signer import generate_api_key
        generate_api_key()
        root = logging.getLogger()
        print(root.level == logging.WARNING, root.handlers, logging.root.manager.disable)
    """
    assert "True [] 0" == run_python(code)
