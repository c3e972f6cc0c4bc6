"""The archive: which parts there are, what they hold, that they appear whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from qubx_lighter import archive
from qubx_lighter.archive import Dataset, Manifest, from_iso
from qubx_lighter.errors import ConfigurationError

MINUTES = Dataset("ohlc", "1m")
DAY = from_iso("2026-10-01T00:00:00Z")
NS = 10**6


def ms(text: str) -> int:
    return from_iso(text + ":00Z")


def bar(at_ms: int) -> tuple[Any, ...]:
    return at_ms, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0


def write(folder: Path, rows: list[tuple[Any, ...]], dataset: Dataset = MINUTES, part: str = "2026-10") -> Path:
    path = archive.part_path(folder, dataset, "SWAP:BTC-USDC", part)
    columns = list(zip(*rows, strict=True)) or [()] * len(archive.SCHEMAS[dataset.kind])
    archive.write_part(path, dataset, columns, {"any": "label"})
    return path


@pytest.mark.parametrize(
    ("dataset", "start", "stop", "expected"),
    [
        (MINUTES, "2026-10-30T12:00", "2026-12-01T00:00", ["2026-10", "2026-11"]),
        (Dataset("ohlc", "30m"), "2026-12-31T23:30", "2027-01-01T00:30", ["2026-12", "2027-01"]),
        (Dataset("ohlc", "1h"), "2026-12-31T23:00", "2027-01-01T01:00", ["2026", "2027"]),
        (Dataset("funding"), "2026-01-01T00:00", "2026-12-31T00:00", ["2026"]),
        (Dataset("trades"), "2026-02-27T10:00", "2026-03-01T00:01", ["2026-02-27", "2026-02-28", "2026-03-01"]),
    ],
)
def test_a_range_is_cut_at_the_calendar(dataset: Dataset, start: str, stop: str, expected: list[str]) -> None:
    parts = archive.parts(dataset, ms(start), ms(stop))
    assert expected == [part.name for part in parts]
    assert (ms(start), ms(stop)) == (parts[0].start_ms, parts[-1].stop_ms)
    assert [part.stop_ms for part in parts[:-1]] == [part.start_ms for part in parts[1:]]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [bar(DAY + 60_000 * step) for step in range(100_000)]
    one, other = write(tmp_path / "a", rows), write(tmp_path / "b", rows)
    assert one.read_bytes() == other.read_bytes()
    assert 2 == pq.ParquetFile(one).num_row_groups
    table = pq.ParquetFile(one).read()
    assert ["timestamp", "open", "high", "low", "close", "volume", "quote_volume"] == table.column_names
    assert (100_000, "timestamp[ms]") == (table.num_rows, str(table.schema.field(0).type))
    assert [one] == list(one.parent.iterdir())


def test_a_part_says_what_it_answers(tmp_path: Path) -> None:
    path = write(tmp_path, [])
    assert {"any": "label"} == archive.read_label(path)
    assert 0 == pq.ParquetFile(path).read().num_rows
    assert archive.read_label(tmp_path / "missing.parquet") is None
    path.write_bytes(path.read_bytes()[:-10])
    assert archive.read_label(path) is None


# --- what is there and what is not ------------------------------------------------------------------------------------


def described(folder: Path, minutes: list[int], total: int) -> tuple[Any, ...]:
    path = write(folder, [bar(DAY + 60_000 * minute) for minute in minutes])
    entry = archive.describe(MINUTES, DAY, DAY + total * 60_000, [path], 1)
    gaps = [((from_iso(a) - DAY) // 60_000, (from_iso(b) - DAY) // 60_000) for a, b in entry.gaps]
    return entry.rows, entry.missing, gaps


@pytest.mark.parametrize(
    ("minutes", "missing", "gaps"),
    [
        ([0, 1, 2, 3, 4, 5], 0, []),
        ([], 6, [(0, 6)]),
        ([2, 3], 4, [(0, 2), (4, 6)]),
        ([0, 2, 5], 3, [(1, 2), (3, 5)]),
    ],
)
def test_gaps_are_the_opens_that_are_not_there(
    tmp_path: Path, minutes: list[int], missing: int, gaps: list[tuple[int, int]]
) -> None:
    assert (len(minutes), missing, gaps) == described(tmp_path, minutes, 6)


def test_gaps_of_trades_are_days(tmp_path: Path) -> None:
    dataset = Dataset("trades")
    day = archive.DAY_MS
    files = [
        write(tmp_path, [(DAY * NS + 5 * NS, 1.0, 2.0, 1, 7, "trade")] * 3, dataset, "2026-10-01"),
        write(tmp_path, [], dataset, "2026-10-02"),
        write(tmp_path, [((DAY + 2 * day) * NS, 1.0, 2.0, -1, 8, "trade")], dataset, "2026-10-03"),
    ]
    entry = archive.describe(dataset, DAY + 1, DAY + 2 * day + 1000, files, 1)
    assert (4, 1, [("2026-10-02T00:00:00Z", "2026-10-03T00:00:00Z")]) == (entry.rows, entry.missing, entry.gaps)
    assert ("2026-10-01T00:00:00.005000Z", "2026-10-03T00:00:00Z") == (entry.first, entry.last)


# --- manifest ---------------------------------------------------------------------------------------------------------


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert archive.read_manifest(tmp_path) is None
    manifest = Manifest("http://venue.test", "USDC", markets={"SWAP:BTC-USDC": {"market_id": 1}})
    archive.write_manifest(tmp_path, manifest)
    assert manifest == archive.read_manifest(tmp_path)
    assert ["manifest.json"] == [file.name for file in tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("text", "says"), [("{", "not a manifest"), ('{"source":"a","collateral":"b","format":9}', "format 9")]
)
def test_a_manifest_of_somebody_else_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ConfigurationError, match=says):
        archive.read_manifest(tmp_path)
