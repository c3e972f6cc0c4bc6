"""``qubx simulate`` as a user types it: from the venue's history and from downloaded Parquet, with the same trades."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from qubx_lighter.cli import main
from tests.programs import EXAMPLES, QUBX, ROOT, started_venue

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
START, STOP = TODAY - timedelta(days=4), TODAY - timedelta(days=1)
DOWNLOAD = START - timedelta(days=2), TODAY  # Qubx warms bars up from before the start, and reads the stop's bar too


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started_venue(tmp_path_factory.mktemp("venue"), "--markets", "BTC,ETH", "--history", "8") as (url, _):
        yield url


def run(line: list[str], folder: Path, **more: str) -> str:
    """Run a program, with what the examples read from the environment; give what it printed."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "SIMULATE_START": f"{START:%Y-%m-%d}",
        "SIMULATE_STOP": f"{STOP:%Y-%m-%d}",
        **more,
    }
    result = subprocess.run(
        line,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )
    assert 0 == result.returncode, result.stdout
    return result.stdout


def results(folder: Path, name: str) -> pd.DataFrame:
    (file,) = folder.rglob(name)
    return pd.read_parquet(file).drop(columns="_backtest_id").sort_index(axis="columns")  # Qubx's order varies


def test_a_backtest_from_the_venue_and_from_parquet_makes_the_same_trades(venue: str, tmp_path: Path) -> None:
    times = [f"{at:%Y-%m-%d}" for at in DOWNLOAD]
    for kind in ("ohlc", "funding"):
        options = ["--symbols", "BTC-USDC,ETH-USDC", "--start", times[0], "--stop", times[1], "--base-url", venue]
        downloaded = CliRunner().invoke(main, ["download", kind, *options, "--out", str(tmp_path / "data")])
        assert 0 == downloaded.exit_code, downloaded.output
    sources = {"simulate.yml": {"LIGHTER_BASE_URL": venue}, "simulate_parquet.yml": {"SIMULATE_DATA": "data"}}
    for name, environment in sources.items():
        printed = run([*QUBX, "simulate", str(EXAMPLES / name), "-o", name], tmp_path, **environment)
        assert "Traceback" not in printed
    online, offline = (results(tmp_path / name, "executions.parquet") for name in sources)
    assert 20 <= len(online)
    assert {"BTC-USDC", "ETH-USDC"} == set(online["symbol"])
    pd.testing.assert_frame_equal(online, offline)
    online, offline = (results(tmp_path / name, "portfolio.parquet") for name in sources)
    assert online.filter(like="_Funding").to_numpy().any(), "no funding was paid"
    pd.testing.assert_frame_equal(online, offline)


def test_the_storage_of_parquet_has_a_name_where_the_package_is_a_plugin() -> None:
    code = "import qubx.data, qubx_lighter; from qubx.data.registry import StorageRegistry as r; print(r.get_class('lighter-parquet'))"
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert "LighterParquetStorage" in printed
