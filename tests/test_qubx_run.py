"""What a user types: ``qubx run`` against a venue started by hand, live and paper, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from qubx_lighter.signer import generate_api_key
from tests.programs import EXAMPLES, QUBX, ROOT, process, started_venue
from tests.waiting import PATIENCE_S, until

STRATEGY = """
import json, os
from pathlib import Path
from quoting import TwoSidedQuoter

class Reporting(TwoSidedQuoter):
    def _write(self):
        done = {"received": dict(self.received), "fills": self.fills, "sent": self.sent}
        path = Path(os.environ["REPORT"])
        path.with_suffix(".new").write_text(json.dumps(done))
        path.with_suffix(".new").rename(path)

    def on_execution(self, ctx, instrument, deal):
        super().on_execution(ctx, instrument, deal)
        self._write()
"""


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Start ``qubx-lighter sim`` in a process of its own; give its URL and its accounts file."""
    folder = tmp_path_factory.mktemp("venue")
    with started_venue(folder) as (url, _):
        yield url, folder / "accounts.toml"


def config(folder: Path, url: str, **changes: Any) -> Path:
    """Write the live example with another strategy, at a quicker pace."""
    settings = yaml.safe_load((EXAMPLES / "live.yml").read_text())
    settings["strategy"] = "reporting.Reporting"
    settings["parameters"] |= {"lifetime_s": 1, "pace_s": 0.2}
    exchange = settings["live"]["exchanges"]["LIGHTER"]
    exchange["params"] = {"base_url": url} | changes.pop("params", {})
    settings["live"] |= changes.pop("live", {})
    exchange |= changes
    (folder / "reporting.py").write_text(STRATEGY)
    file = folder / "config.yml"
    file.write_text(yaml.safe_dump(settings))
    return file


def environment(folder: Path) -> dict[str, str]:
    """Give a run the way to the example strategy; its home is the scratch home of the tests."""
    paths = os.pathsep.join([str(EXAMPLES), str(folder), str(ROOT)])
    return os.environ | {
        "PYTHONPATH": paths,
        "REPORT": str(folder / "report.json"),
        "QUBX_LOG_FOLDER": str(folder / "logs"),
    }


def collateral(url: str) -> dict[str, Any]:
    """Read the account at the venue."""
    response = httpx.get(f"{url}/api/v1/account", params={"by": "index", "value": "100"})
    account: dict[str, Any] = response.json()["accounts"][0]
    return account


@pytest.mark.parametrize("mode", ["live", "paper"])
def test_a_config_that_says_connector_lighter_trades(mode: str, venue: tuple[str, Path], tmp_path: Path) -> None:
    url, accounts = venue
    more, changes = ["--paper"], {}
    if mode == "live":  # also under Qubx's rate limiter, which then has the plugin's limits
        more = ["-a", str(accounts)]
        limits = {"backend": "local", "egress_ip": "127.0.0.1"}
        changes = {"live": {"rate_limiting": limits}, "params": {"account_tier": "premium"}}
    command = [*QUBX, "run", str(config(tmp_path, url, **changes)), *more]
    report = tmp_path / "report.json"
    with process(command, cwd=tmp_path, env=environment(tmp_path)) as running:
        until(lambda: report.exists() and json.loads(report.read_text())["fills"] >= 2, running)
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in output
    assert ("Rate limiter created for LIGHTER" in output) == (mode == "live")
    assert "rate limiter fails" not in output
    seen = json.loads(report.read_text())
    assert {"orderbook", "quote"} <= seen["received"].keys()
    assert 0 == collateral(url)["total_order_count"], "orders were left behind"
    traded = collateral(url)["collateral"] != "10000.000000"
    assert traded or mode == "paper"
    assert 0 == running.returncode, output


def wrong_key(folder: Path, accounts: Path) -> Path:
    """Write the accounts file with somebody else's key."""
    lines = accounts.read_text().splitlines()
    lines = [f'secret = "{generate_api_key()[0]}"' if line.startswith("secret") else line for line in lines]
    file = folder / "accounts.toml"
    file.write_text("\n".join(lines))
    return file


def without(folder: Path, accounts: Path, name: str) -> Path:
    """Write the accounts file without a field."""
    file = folder / "accounts.toml"
    file.write_text("\n".join(line for line in accounts.read_text().splitlines() if not line.startswith(name + " ")))
    return file


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("key", ["the private key is not the one registered", "correct account_index and api_key_index"]),
        ("symbol", ["BTC-USD", "did you mean BTC-USDC"]),
        ("host", ["cannot be reached at http://127.0.0.1:9", "base_url"]),
        ("account", ["account_index is missing", "accounts.toml"]),
        ("nobody", ["account_index 77 is not known", "accounts.toml"]),
        ("param", ["unknown param 'base_ulr'", "did you mean 'base_url'"]),
    ],
)
def test_a_mistake_ends_in_one_clear_line(
    mistake: str, words: list[str], venue: tuple[str, Path], tmp_path: Path
) -> None:
    url, accounts = venue
    changes: dict[str, Any] = {}
    match mistake:
        case "key":
            accounts = wrong_key(tmp_path, accounts)
        case "symbol":
            changes = {"universe": ["ETH-USDC", "BTC-USD"]}
        case "host":
            changes = {"params": {"base_url": "http://127.0.0.1:9", "startup_timeout_s": 5}}
        case "account":
            accounts = without(tmp_path, accounts, "account_index")
        case "nobody":
            changed = accounts.read_text().replace("account_index = 100", "account_index = 77")
            accounts = tmp_path / "accounts.toml"
            accounts.write_text(changed)
        case "param":
            changes = {"params": {"base_ulr": url}}
    command = [*QUBX, "run", str(config(tmp_path, url, **changes)), "-a", str(accounts)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    output = done.stdout + done.stderr
    (line,) = [line for line in output.splitlines() if line.startswith("Error: ")]
    for word in words:
        assert word in line
    assert "Traceback" not in output
    assert 1 == done.returncode
