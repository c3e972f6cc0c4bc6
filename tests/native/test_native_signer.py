"""Loading of the native signer: what is missing or does not fit is found out before the first signature."""

from __future__ import annotations

import ctypes
import json
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import lighter.signer_client as sdk
import pytest

from qubx_lighter.errors import SigningError
from qubx_lighter.native import loader
from qubx_lighter.native.abi import DISTRIBUTIONS, INSTALL, PROTOTYPES
from qubx_lighter.signer import generate_api_key
from tests.programs import ROOT, run_python
from tests.signing import make

SIGNERS = Path(sdk.__file__).parent / "signers"
REAL = SIGNERS / "lighter-signer-linux-amd64.so"
needs_gcc = pytest.mark.skipif(
    shutil.which("gcc") is None or platform.system() != "Linux" or platform.machine() != "x86_64",
    reason="builds a library around the one for linux-amd64: needs gcc",
)


@pytest.fixture(scope="module")
def api_key() -> tuple[str, str]:
    return generate_api_key()


# --- the self-test ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["AccountIndex", "ApiKeyIndex", "Nonce", "Price", "OrderExpiry", "L2TxAttributes"])
async def test_a_library_that_signs_something_else_is_refused_at_load(
    api_key: tuple[str, str], monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    load = loader.load

    def shifted() -> loader.Native:
        native = load()

        def take(pointer: object) -> str | None:
            text = native.take(pointer)
            if text is None or not text.startswith('{"AccountIndex"'):
                return text
            return json.dumps(json.loads(text) | {field: 3})

        return native._replace(take=take)

    monkeypatch.setattr(loader, "load", shifted)
    signer = make(api_key[0])
    with pytest.raises(SigningError, match=field):
        await signer.load()
    with pytest.raises(SigningError, match=field):
        await signer.cancel_all(nonce=1)
    signer.close()


async def test_a_missing_sdk_is_a_signing_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lighter", None)
    signer = make("ab" * 40)
    with pytest.raises(SigningError, match=r"pip install .*qubx-lighter-api"):
        await signer.load()
    signer.close()


async def test_a_platform_without_a_library_is_a_signing_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported() -> None:
        raise Exception("Unsupported platform/architecture")  # noqa: TRY002 - as the SDK does it

    monkeypatch.setattr(sdk, "get_signer", unsupported)
    signer = make("ab" * 40)
    with pytest.raises(SigningError, match=rf"cannot be loaded on {platform.system()}.*Unsupported platform"):
        await signer.load()
    signer.close()


# --- releases and functions that do not fit ---------------------------------------------------------------------------


def pretend_installed(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, version: str) -> None:
    """Put a distribution in front of those that are installed."""
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(folder)


@pytest.mark.parametrize(
    ("name", "version"),
    [("qubx-lighter-api", "0.1.9"), ("qubx-lighter-api", "1.0"), ("lighter-sdk", "1.1.7"), ("lighter-sdk", "2.0.0")],
)
def test_an_untried_release_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, version: str
) -> None:
    pretend_installed(monkeypatch, tmp_path, name, version)
    with pytest.raises(SigningError) as caught:
        loader.load()
    assert (
        f"{name} {version} is installed, expected qubx-lighter-api >=0.2,<1 or lighter-sdk >=1.1.8,<2: {INSTALL}"
        == str(caught.value)
    )


@pytest.mark.parametrize(("name", "version"), [("qubx-lighter-api", "0.3.1"), ("lighter-sdk", "1.1.8")])
def test_a_tried_release_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, version: str) -> None:
    pretend_installed(monkeypatch, tmp_path, name, version)
    assert loader.load().library is sdk.get_signer()


def test_the_releases_taken_are_those_that_this_package_asks_for() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    least, below = (".".join(map(str, numbers)) for numbers in DISTRIBUTIONS["qubx-lighter-api"])
    assert f"qubx-lighter-api>={least},<{below}" in wanted
    assert f"qubx-lighter-api>={least},<{below}" in INSTALL


def test_a_module_of_an_unknown_publisher_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(
        SigningError, match=r"signer_client\.py is of no known release, expected qubx-lighter-api >=0.2,<1"
    ):
        loader.load()


def test_a_wrapper_with_another_argument_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    function = sdk.get_signer().SignCancelOrder
    monkeypatch.setattr(function, "argtypes", [*function.argtypes, ctypes.c_int])
    with pytest.raises(SigningError) as caught:
        loader.load()
    assert (
        "the native signer of qubx-lighter-api 0.2.0 does not fit: "
        f"SignCancelOrder takes (8 8 1 8 4 8 4), expected (8 8 1 8 4 8): {INSTALL}" == str(caught.value)
    )


def test_a_function_that_the_wrapper_does_not_declare_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk.get_signer().SignWithdraw, "argtypes", None)
    with pytest.raises(SigningError, match="SignWithdraw is missing"):
        loader.load()


def test_an_answer_with_other_fields_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer(ctypes.Structure):
        _fields_ = (("txType", ctypes.c_uint8), ("err", ctypes.c_void_p))

    monkeypatch.setattr(sdk.get_signer().SignTransfer, "restype", Answer)
    with pytest.raises(SigningError, match=r"SignTransfer returns \('txType', 'err'\)"):
        loader.load()


def test_an_order_with_other_fields_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Order(ctypes.Structure):
        _fields_ = (("MarketIndex", ctypes.c_longlong),)

    monkeypatch.setattr(sdk, "CreateOrderTxReq", Order)
    with pytest.raises(SigningError, match=r"an order of a group has \('MarketIndex',\)"):
        loader.load()


# --- binaries that do not fit: libraries built around the real one -------------------------------------------------------

DECLARED = re.compile(r"^extern (\w+\*?) (\w+)\((.*)\);$", re.MULTILINE)


def declarations() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Read the functions of the real library: what each returns and takes."""
    found = {}
    for returned, name, arguments in DECLARED.findall(REAL.with_suffix(".h").read_text()):
        pairs = [argument.strip().rpartition(" ") for argument in arguments.split(",") if argument.strip()]
        found[name] = returned, [(kind, variable) for kind, _, variable in pairs]
    return found


def build(folder: Path, source: str, *options: str) -> Path:
    """Compile a library."""
    (folder / "doctored.c").write_text(source)
    library = folder / "doctored.so"
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        "-w",
        "-I",
        str(SIGNERS),
        "-o",
        str(library),
        str(folder / "doctored.c"),
        *options,
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return library


def use_library(monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    """Have the SDK load another library."""
    monkeypatch.setattr(sdk, "__signer", None)
    monkeypatch.setattr(sdk, "__get_shared_library", lambda: library)


@needs_gcc
@pytest.mark.parametrize("missing", ["SignCreateOrder", "SignUpdateMargin", "Free"])
def test_a_library_that_lacks_a_function_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    functions = [f"void {name}(void) {{}}" for name in declarations() if name != missing]
    use_library(monkeypatch, ctypes.CDLL(str(build(tmp_path, "\n".join(functions)))))
    with pytest.raises(SigningError, match=f"{missing}.*pip install"):
        loader.load()


@pytest.fixture(scope="module")
def confused(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Build the real library with a switch: the function that it names takes two of its arguments for each other."""
    lines = ["#include <dlfcn.h>", "#include <string.h>", f'#include "{REAL.with_suffix(".h").name}"']
    lines.append("static char confused[64]; void Confuse(char* name) { strcpy(confused, name); }")
    lines.append(f'static void* real(char* name) {{ return dlsym(dlopen("{REAL}", RTLD_NOW), name); }}')
    for name, (returned, arguments) in declarations().items():
        if not name.startswith("Sign"):
            continue
        kinds = ", ".join(kind for kind, _ in arguments)
        signature = ", ".join(f"{kind} {variable}" for kind, variable in arguments)
        straight = [variable for _, variable in arguments]
        one, other = next(
            (one, other)
            for one, (kind, _) in enumerate(arguments)
            for other, (another, _) in enumerate(arguments[one + 1 :], one + 1)
            if kind == another
        )
        swapped = list(straight)
        swapped[one], swapped[other] = swapped[other], swapped[one]
        lines.append(
            f'{returned} {name}({signature}) {{ {returned} (*call)({kinds}) = real("{name}");'
            f' return strcmp(confused, "{name}") ? call({", ".join(straight)}) : call({", ".join(swapped)}); }}'
        )
    folder = tmp_path_factory.mktemp("confused")
    library = build(folder, "\n".join(lines), "-Wl,--no-as-needed", str(REAL))
    return ctypes.CDLL(str(library))


@needs_gcc
@pytest.mark.parametrize("name", ["nothing", *(name for name in PROTOTYPES if name.startswith("Sign"))])
async def test_a_function_that_takes_two_arguments_for_each_other_is_found_out_before_the_first_signature(
    monkeypatch: pytest.MonkeyPatch, api_key: tuple[str, str], confused: ctypes.CDLL, name: str
) -> None:
    use_library(monkeypatch, confused)
    confused.Confuse(name.encode())
    signer = make(api_key[0])
    if name == "nothing":
        await signer.load()
    else:
        with pytest.raises(SigningError, match=f"^{name}: "):
            await signer.load()
    signer.close()


# --- logging ----------------------------------------------------------------------------------------------------------


def test_importing_the_sdk_leaves_logging_as_it_was(tmp_path: Path) -> None:
    noisy = tmp_path / "lighter"
    noisy.mkdir()
    (noisy / "__init__.py").write_text(
        "import logging\nlogging.basicConfig(level=logging.DEBUG)\nlogging.disable(10)\n"
    )
    (noisy / "signer_client.py").write_text("def get_signer(): raise Exception('no library')\n")
    code = """
        import logging
        from qubx_lighter.errors import SigningError
        from qubx_lighter.native.loader import load
        logging.getLogger().setLevel(logging.ERROR)
        try:
            load()
        except SigningError as error:
            print(error)
        root = logging.getLogger()
        print(root.level, root.handlers, logging.root.manager.disable)
    """
    reason, logging_state = run_python(code, tmp_path).splitlines()
    assert reason.endswith("no library")
    assert "40 [] 0" == logging_state


def test_the_real_sdk_leaves_logging_as_it_was() -> None:
    code = """
        import logging
        from qubx_lighter.signer import generate_api_key
        generate_api_key()
        root = logging.getLogger()
        print(root.level == logging.WARNING, root.handlers, logging.root.manager.disable)
    """
    assert "True [] 0" == run_python(code)
