"""``qubx-lighter download`` as a program: killed and resumed, against a venue with a past, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from qubx_lighter.cli import main
from qubx_lighter.constants import RESOLUTIONS
from tests.programs import QUBX_LIGHTER, ROOT, process, started_venue
from tests.waiting import until

DAYS = 31
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
START, STOP = TODAY - timedelta(days=30), TODAY


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a venue whose markets are a month old."""
    with started_venue(tmp_path_factory.mktemp("venue"), "--markets", "BTC,ETH", "--history", str(DAYS)) as (url, _):
        yield url


def command(venue: str, folder: Path, *kind: object, **options: str) -> list[str]:
    given = {
        "symbols": "BTC-USDC",
        "start": f"{START:%Y-%m-%d}",
        "stop": f"{STOP:%Y-%m-%d}",
        "out": str(folder),
        "base-url": venue,
    } | options
    more = [part for name, value in given.items() for part in (f"--{name}", value)]
    return [*QUBX_LIGHTER, "download", *map(str, kind), *more]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LIGHTER_")} | {
        "PYTHONPATH": str(ROOT)
    }


def run(line: list[str]) -> Result:
    """Run the program in this process: a new one takes two seconds to start."""
    return CliRunner().invoke(main, line[len(QUBX_LIGHTER) :])


def done(line: list[str]) -> list[str]:
    result = run(line)
    assert 0 == result.exit_code, result.output
    return result.stdout.splitlines()


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def killed(line: list[str], folder: Path, size: int) -> bool:
    """Start the program and kill it when its journals hold so many bytes; tell whether it was before its end."""
    with process(line, env=environment()) as running:
        until(lambda: running.poll() is not None or sum(sizes(folder)) >= size, every_s=0.001)
        before_its_end = running.poll() is None
        running.send_signal(signal.SIGKILL)
        running.wait()
    return before_its_end


def sizes(folder: Path) -> list[int]:
    found = []
    for file in folder.rglob("*.jsonl"):
        try:
            found.append(file.stat().st_size)
        except FileNotFoundError:
            continue
    return found


def rows(folder: Path, name: str, symbol: str = "BTC-USDC") -> list[dict[str, Any]]:
    files = sorted((folder / name / "market_type=SWAP" / f"symbol={symbol}").glob("*.parquet"))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


# --- killed and resumed -----------------------------------------------------------------------------------------------


def test_thirty_days_of_candles_killed_on_the_way_are_those_of_an_undisturbed_run(venue: str, tmp_path: Path) -> None:
    lines = done(command(venue, tmp_path / "whole", "ohlc"))
    assert ["LIGHTER:SWAP:BTC-USDC  43,200 rows"] == [
        line.partition(",  ")[0].rpartition(",")[0][:34] for line in lines
    ]
    expected = tree(tmp_path / "whole")
    disturbed = tmp_path / "disturbed"
    kills = [killed(command(venue, disturbed, "ohlc"), disturbed, size) for size in (1, 600_000, 2_000_000)]
    assert 2 <= sum(kills), "the program was through before it could be killed"
    assert not json.loads((disturbed / "manifest.json").read_text())["datasets"]["ohlc_1m"]["complete"]
    last = subprocess.run(
        command(venue, disturbed, "ohlc"), env=environment(), capture_output=True, text=True, timeout=60, check=True
    )
    assert lines == last.stdout.splitlines()
    assert "" == last.stderr, "without a terminal there is no progress bar"
    assert expected == tree(disturbed)


def test_trades_killed_on_the_way_are_those_of_an_undisturbed_run(venue: str, tmp_path: Path) -> None:
    since = f"{TODAY - timedelta(days=2):%Y-%m-%d}"
    lines = done(command(venue, tmp_path / "whole", "trades", start=since))
    expected = tree(tmp_path / "whole")
    disturbed = tmp_path / "disturbed"
    line = command(venue, disturbed, "trades", start=since)
    assert killed(line, disturbed, 5_000)
    assert lines == done(line)
    assert expected == tree(disturbed)
    found = rows(disturbed, "trades")
    assert found == sorted(found, key=lambda row: row["timestamp"])
    assert len(found) == len({row["id"] for row in found})


# --- what is in it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeframe", ["15m", "1h", "1d"])
def test_candles_are_the_venues(venue: str, tmp_path: Path, timeframe: str) -> None:
    done(command(venue, tmp_path, "ohlc", timeframe=timeframe, symbols="ETH-USDC"))
    length = RESOLUTIONS[timeframe]
    first, stop = (round(at.timestamp() * 1000) for at in (START, STOP))
    count = min(500, (stop - first) // length)
    parameters = {"market_id": 0, "resolution": timeframe, "start_timestamp": stop - count * length}
    body = httpx.get(
        f"{venue}/api/v1/candles", params=parameters | {"end_timestamp": stop - 1, "count_back": count}
    ).json()
    theirs = [(row["t"], row["o"], row["h"], row["l"], row["c"], row.get("v", 0), row.get("V", 0)) for row in body["c"]]
    ours = [
        (round(row.pop("timestamp").replace(tzinfo=UTC).timestamp() * 1000), *row.values())
        for row in rows(tmp_path, f"ohlc_{timeframe}", "ETH-USDC")
    ]
    assert (stop - first) // length == len(ours)
    assert theirs == ours[-count:]


def test_now_ends_before_the_candle_in_progress(venue: str, tmp_path: Path) -> None:
    before = datetime.now(UTC)
    done(command(venue, tmp_path, "ohlc", start=f"{before - timedelta(hours=3):%Y-%m-%dT%H:%M}", stop="now"))
    last = rows(tmp_path, "ohlc_1m")[-1]["timestamp"].replace(tzinfo=UTC)
    assert timedelta(minutes=2) <= datetime.now(UTC) - last
    assert before - last < timedelta(minutes=4)


def test_kinds_share_a_folder_and_the_manifest_tells_what_there_is(venue: str, tmp_path: Path) -> None:
    lines = done(command(venue, tmp_path, "funding", symbols="BTC-USDC,swap:eth-usdc"))
    day = f"{TODAY - timedelta(days=1):%Y-%m-%d}"
    done(command(venue, tmp_path, "ohlc", start=day, symbols="ALL"))
    assert ["LIGHTER:SWAP:BTC-USDC", "LIGHTER:SWAP:ETH-USDC"] == [line.split()[0] for line in lines]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (venue, {"funding", "ohlc_1m"}) == (manifest["source"], manifest["datasets"].keys())
    job = manifest["datasets"]["funding"]
    assert (True, f"{START:%Y-%m-%dT%H:%M:%SZ}", f"{STOP:%Y-%m-%dT%H:%M:%SZ}") == (
        job["complete"],
        job["start"],
        job["stop"],
    )
    assert {
        "market_id": 1,
        "rows": 720,
        "first": f"{START:%Y-%m-%dT%H:%M:%SZ}",
        "last": f"{STOP - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
        "missing": 0,
        "gaps": [],
        "complete": True,
    } == job["symbols"]["SWAP:BTC-USDC"]
    assert {"BTC", "ETH"} <= {rules["symbol"] for rules in manifest["markets"].values()}
    assert 720 == len(rows(tmp_path, "funding"))


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"symbols": "BTC-USD"}, "no market 'BTC-USD'; did you mean BTC-USDC?"),
        ({"symbols": ","}, "no symbol was given"),
        ({"start": "yesterday"}, "--start 'yesterday' is not a time"),
        ({"stop": "2026-13-01"}, "--stop '2026-13-01' is not a time"),
        ({"start": f"{STOP:%Y-%m-%d}"}, "is not after --start"),
        ({"stop": "2100-01-01"}, "--stop 2100-01-01T00:00:00Z is in the future"),
        ({"timeframe": "2m"}, "no candles of '2m'"),
        ({"out": "/dev/null/archive"}, "cannot write to /dev/null/archive"),
        ({"base-url": "http://127.0.0.1:1"}, "http://127.0.0.1:1 failed: ConnectError"),
    ],
)
def test_what_goes_wrong_is_one_line_and_leaves_nothing(
    venue: str, tmp_path: Path, options: dict[str, str], says: str
) -> None:
    result = run(command(venue, tmp_path / "archive", "ohlc", **options))
    assert (1, "") == (result.exit_code, result.stdout)
    assert says in result.stderr
    assert 1 == len(result.stderr.splitlines())
    assert result.stderr.startswith("Error: ")
    assert [] == list(tmp_path.iterdir())


def test_another_request_for_the_same_folder_needs_a_word(venue: str, tmp_path: Path) -> None:
    hour = f"{TODAY - timedelta(hours=1):%Y-%m-%dT%H:%M}"
    done(command(venue, tmp_path, "ohlc", start=hour))
    earlier = command(venue, tmp_path, "ohlc", start=f"{TODAY - timedelta(hours=2):%Y-%m-%dT%H:%M}")
    result = run(earlier)
    assert 1 == result.exit_code
    assert "or --overwrite it" in result.stderr
    assert 60 == len(rows(tmp_path, "ohlc_1m"))
    done([*earlier, "--overwrite"])
    assert 120 == len(rows(tmp_path, "ohlc_1m"))
