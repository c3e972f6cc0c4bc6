"""The command line: a table of markets, the lookup file, the local venue's options, one-line errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from qubx_lighter.cli import main
from qubx_lighter.errors import ConfigurationError
from qubx_lighter.signer import generate_api_key
from qubx_lighter.sim.faults import Fault, Kind
from tests.markets import ETH_ROW

ETH = ETH_ROW | {"min_initial_margin_fraction": 200}
SPOT = ETH | {"symbol": "ETH/USDC", "market_id": 2048, "market_type": "spot", "min_initial_margin_fraction": 0}
GONE = ETH | {"symbol": "GRAM", "market_id": 12, "status": "inactive"}
OPTION = ETH | {"symbol": "BTC-UP", "market_id": 1001, "market_type": "binary_options"}
BODY = {"code": 200, "order_book_details": [ETH, GONE, OPTION], "spot_order_book_details": [SPOT]}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(BODY).encode()
        self.send_response(200 if self.path.startswith("/api/v1/orderBookDetails") else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        del format, args


@pytest.fixture(scope="module")
def venue() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("LIGHTER_BASE_URL", "LIGHTER_NETWORK", "LIGHTER_WS_URL", "LIGHTER_CHAIN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A lookup folder with another exchange's file in it, so that Qubx's own need not be built."""
    (tmp_path / "instruments").mkdir()
    (tmp_path / "instruments" / "binance.json").write_text("[]")
    return tmp_path / "instruments"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


# --- instruments ------------------------------------------------------------------------------------------------------


def test_instruments_lists_every_market_and_writes_the_active_ones(venue: str, folder: Path) -> None:
    result = run("instruments", "--base-url", venue, "--folder", folder)
    assert 0 == result.exit_code, result.output
    assert [
        "symbol     type    id  tick     lot  min size  min notional  leverage  status",
        "ETH-USDC   SWAP     0  0.01  0.0001    0.0050            10        50  active",
        "GRAM-USDC  SWAP    12  0.01  0.0001    0.0050            10        50  inactive",
        "ETH-USDC   SPOT  2048  0.01  0.0001    0.0050            10         1  active",
        "",
        "2 of 3 markets are active; skipped: 1 binary_options",
        f"wrote {folder / 'lighter.json'}",
    ] == result.stdout.splitlines()
    rows = json.loads((folder / "lighter.json").read_text())
    assert [("ETH-USDC", "SWAP", 0), ("ETH-USDC", "SPOT", 2048)] == [
        (row["symbol"], row["market_type"], row["venue_attributes"]["market_id"]) for row in rows
    ]


def test_instruments_without_writing(venue: str, folder: Path) -> None:
    result = run("instruments", "--base-url", venue, "--folder", folder, "--no-write", "--symbol-format", "BASEQUOTE")
    assert 0 == result.exit_code, result.output
    assert "ETHUSDC " in result.stdout
    assert "wrote" not in result.stdout
    assert ["binance.json"] == [file.name for file in folder.iterdir()]


def test_instruments_follow_the_environment(venue: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTER_BASE_URL", venue)
    assert 0 == run("instruments", "--folder", folder).exit_code


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--base-url", "http://127.0.0.1:1"], "http://127.0.0.1:1 failed: ConnectError"),
        (["--network", "mainet"], "did you mean 'mainnet'?"),
        (["--base-url", "venue.test"], "is not of the form https://host"),
        (["--symbol-format", "BTC_USDC"], "symbol_format"),
    ],
)
def test_what_goes_wrong_is_one_line(arguments: list[str], says: str) -> None:
    result = run("instruments", "--no-write", *arguments)
    assert 1 == result.exit_code
    assert says in result.stderr
    assert 1 == len(result.stderr.splitlines())
    assert result.stderr.startswith("Error: ")


# --- sim --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sim_calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stand in for the venue's entry, which would run until it is stopped."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setitem(
        sys.modules, "qubx_lighter.sim.app", SimpleNamespace(run=lambda **options: calls.append(options))
    )
    return calls


def test_sim_starts_the_venue_with_defaults(sim_calls: list[dict[str, Any]]) -> None:
    assert 0 == run("sim").exit_code
    assert [
        {
            "port": 8765,
            "markets": [],
            "seed": 0,
            "replay": [],
            "speed": 1.0,
            "state": None,
            "accounts_out": None,
            "collateral": 10_000.0,
            "tier": "premium",
            "assets": {},
            "history_days": 0.0,
            "faults": [],
            "enforce": False,
            "generate_api_key": generate_api_key,
        }
    ] == sim_calls


def test_sim_hands_its_options_on(sim_calls: list[dict[str, Any]], tmp_path: Path) -> None:
    frames = [tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"]
    for file in frames:
        file.write_text("")
    options = [
        "--port",
        0,
        "--markets",
        "btc, ETH",
        "--seed",
        7,
        "--speed",
        0,
        "--collateral",
        500,
        "--tier",
        "standard",
        "--history",
        31,
    ]
    options += ["--assets", "eth=2.5, USDC=70"]
    replays = [part for file in frames for part in ("--replay", file)]
    files = ["--state", tmp_path / "state.jsonl", "--accounts-out", tmp_path / "accounts.toml"]
    options += ["--faults", "refuse where=14 code=21739 every=50; swallow every=100", "--limits"]
    assert 0 == run("sim", *options, *replays, *files).exit_code
    assert [
        {
            "port": 0,
            "markets": ["BTC", "ETH"],
            "seed": 7,
            "replay": frames,
            "speed": 0.0,
            "state": tmp_path / "state.jsonl",
            "accounts_out": tmp_path / "accounts.toml",
            "collateral": 500.0,
            "tier": "standard",
            "assets": {"ETH": 2.5, "USDC": 70.0},
            "history_days": 31.0,
            "faults": [Fault(Kind.REFUSE, "14", every=50, code=21739), Fault(Kind.SWALLOW, every=100)],
            "enforce": True,
            "generate_api_key": generate_api_key,
        }
    ] == sim_calls


def test_sim_refuses_what_is_no_amount_of_an_asset(sim_calls: list[dict[str, Any]]) -> None:
    result = run("sim", "--assets", "ETH=two")
    assert (2, []) == (result.exit_code, sim_calls)
    assert "ETH=two is not an asset and its amount" in result.stderr


def test_sim_takes_a_rotated_recording_by_its_name(sim_calls: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "a.0000.jsonl.gz").write_bytes(b"")
    assert 0 == run("sim", "--replay", tmp_path / "a.jsonl.gz").exit_code
    assert [tmp_path / "a.jsonl.gz"] == sim_calls[0]["replay"]


def test_sim_refuses_a_replay_file_that_is_not_there(sim_calls: list[dict[str, Any]]) -> None:
    result = run("sim", "--replay", "/nowhere.jsonl")
    assert 2 == result.exit_code
    assert "does not exist" in result.stderr
    assert [] == sim_calls


@pytest.mark.parametrize("error", [OSError(98, "address already in use"), ConfigurationError("no such market: XYZ")])
def test_sim_that_cannot_start_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setitem(sys.modules, "qubx_lighter.sim.app", SimpleNamespace(run=fail))
    result = run("sim")
    assert 1 == result.exit_code
    assert f"Error: {error}" == result.stderr.strip()


# --- record -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"symbols": "ETC-USDC"}, "no market 'ETC-USDC'; did you mean ETH-USDC?"),
        ({"channels": "book"}, "there is no channel 'book' to record"),
        (
            {"channels": "trade,candle/3m"},
            "there is no channel 'candle/3m' to record: the venue has candles of 1m, 5m, ",
        ),
        ({"channels": ""}, "no channel was given"),
        (
            {"symbols": "SPOT:ETH-USDC", "channels": "mark_price_candle"},
            "none of SPOT:ETH-USDC has a channel mark_price_candle",
        ),
        ({"out": "/dev/null"}, "cannot record to /dev/null: File exists"),
        ({"base-url": "http://127.0.0.1:1"}, "http://127.0.0.1:1 failed: ConnectError"),
    ],
)
def test_a_recording_that_cannot_begin_says_so_in_one_line(
    venue: str, tmp_path: Path, options: dict[str, str], says: str
) -> None:
    given = {"symbols": "ETH-USDC", "out": str(tmp_path / "a.jsonl.gz"), "base-url": venue, "duration": "0.2"} | options
    result = run("record", *(part for name, value in given.items() for part in (f"--{name}", value)))
    assert 1 == result.exit_code
    assert says in result.stderr
    assert 1 == len(result.stderr.splitlines())
    assert [] == list(tmp_path.iterdir())


def test_a_recording_in_which_nothing_came_is_a_failure(venue: str, tmp_path: Path) -> None:
    """The venue lists its markets, and its stream is not to be reached."""
    out = str(tmp_path / "a.jsonl.gz")
    result = run("record", "--symbols", "ETH-USDC", "--out", out, "--base-url", venue, "--duration", "0.2")
    assert 1 == result.exit_code
    assert [
        "Warning: no frame of order_book/0, trade/0, ticker/0, market_stats/0",
        "Error: nothing was recorded: no frame came",
    ] == result.stderr.splitlines()[-2:]


# --- the program ------------------------------------------------------------------------------------------------------


def test_help_needs_neither_qubx_nor_the_sdk() -> None:
    code = "import sys; from qubx_lighter import cli; print(sorted({'qubx', 'lighter', 'pandas'} & set(sys.modules)))"
    assert "[]" == run_python("-c", code).strip()


def test_the_package_runs_as_a_module() -> None:
    printed = run_python("-m", "qubx_lighter", "--help")
    assert {"sim", "instruments", "download", "record"} <= set(printed.split())
    assert printed.startswith("Usage: qubx-lighter ")


def run_python(*arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout
