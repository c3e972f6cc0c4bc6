"""Downloaded history on disk: Parquet parts and a manifest; the journals of parts under way are in ``part_journal``.

::

    DIR/manifest.json                                                what was asked for, what is there, what is missing
    DIR/ohlc_1m/market_type=SWAP/symbol=BTC-USDC/2026-10.parquet     a part: one market, one month (trades: one day)
    DIR/.parts/ohlc_1m/SWAP/BTC-USDC/2026-10.jsonl                   what is known of a part that is not finished

A part appears whole or not at all: it is written beside its place, synced, then renamed. It carries the range that it
answers, so the files alone say what is done, and the same request gives the same bytes however often it was
interrupted: no clock, no chance and no order of arrival goes into them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from qubx_lighter.constants import RESOLUTIONS
from qubx_lighter.durable_files import replacing
from qubx_lighter.errors import ConfigurationError

Kind = Literal["ohlc", "trades", "funding"]

MANIFEST: Final = "manifest.json"
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
_FORMAT: Final = 1
PARTS_UNDER_WAY: Final = ".parts"
"""The folder of the journals."""
_KEY: Final = b"qubx_lighter"
_ROW_GROUP: Final = 65_536
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

SCHEMAS: Final[dict[str, pa.Schema]] = {
    "ohlc": pa.schema(
        [
            pa.field("timestamp", pa.timestamp("ms")),
            *(pa.field(name, pa.float64()) for name in ("open", "high", "low", "close", "volume", "quote_volume")),
        ]
    ),
    "trades": pa.schema(
        [
            pa.field("timestamp", pa.timestamp("ns")),
            pa.field("price", pa.float64()),
            pa.field("size", pa.float64()),
            pa.field("side", pa.int8()),  # of the taker: 1 bought, -1 sold
            pa.field("id", pa.int64()),
            pa.field("type", pa.string()),  # trade, liquidation, deleverage, market-settlement
        ]
    ),
    "funding": pa.schema(
        [
            pa.field("timestamp", pa.timestamp("ms")),
            pa.field("funding_rate", pa.float64()),  # a fraction; positive: longs pay
            pa.field("funding_interval_hours", pa.float64()),
        ]
    ),
}
"""The columns of each kind's parts; names and units are those that Qubx reads."""


# --- what a dataset is -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dataset:
    """A kind of data, at a timeframe where it has one."""

    kind: Kind
    timeframe: str = ""

    @property
    def name(self) -> str:
        """Name its folder: ``ohlc_1m``, ``trades``, ``funding``."""
        return f"{self.kind}_{self.timeframe}" if self.timeframe else self.kind

    @property
    def grid_ms(self) -> int:
        """Tell what the times of its rows are multiples of; for trades, 1 ms."""
        return RESOLUTIONS[self.timeframe] if self.kind == "ohlc" else HOUR_MS if self.kind == "funding" else 1

    @property
    def gap_ms(self) -> int:
        """Tell the grid by which gaps are found: rows of candles and funding, whole days of trades."""
        return DAY_MS if self.kind == "trades" else self.grid_ms


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one market in [start, stop), ms, and the name of the period that they are of."""

    name: str
    start_ms: int
    stop_ms: int


def parts(dataset: Dataset, start_ms: int, stop_ms: int) -> list[Part]:
    """Cut [start, stop) into calendar periods, oldest first: days of trades, years of hours and longer, else months."""
    found = []
    at = start_ms
    while at < stop_ms:
        name, end = _period(dataset, at)
        found.append(Part(name, at, min(end, stop_ms)))
        at = end
    return found


def _period(dataset: Dataset, at_ms: int) -> tuple[str, int]:
    """Name the period that holds a time, and tell where it ends."""
    at = _EPOCH + timedelta(milliseconds=at_ms)
    if dataset.kind == "trades":
        return f"{at:%Y-%m-%d}", at_ms - at_ms % DAY_MS + DAY_MS
    if dataset.grid_ms >= HOUR_MS:
        return f"{at:%Y}", to_ms(datetime(at.year + 1, 1, 1, tzinfo=UTC))
    return f"{at:%Y-%m}", to_ms(datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC))


def to_ms(at: datetime) -> int:
    """Convert to ms since the epoch."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


def iso(ms: int) -> str:
    """Write ms since the epoch as ``2026-10-01T00:00:00Z``, with fractions only where there are any."""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat().removesuffix("+00:00") + "Z"


def from_iso(text: str) -> int:
    """Read what ``iso`` wrote, ms."""
    return to_ms(datetime.fromisoformat(text))


# --- the manifest ----------------------------------------------------------------------------------------------------


class MarketEntry(msgspec.Struct):
    """What a dataset holds of one market.

    Attributes:
        market_id: the venue's.
        rows: how many.
        first: the time of the first row, or None.
        last: the time of the last row, or None.
        missing: how many rows of the grid (trades: how many days) are not there.
        gaps: where they would be, as ranges [from, to).
        complete: whether everything that the venue has is here, durably.
    """

    market_id: int
    rows: int = 0
    first: str | None = None
    last: str | None = None
    missing: int = 0
    gaps: list[tuple[str, str]] = msgspec.field(default_factory=list)
    complete: bool = False


class DatasetEntry(msgspec.Struct):
    """One job: what was asked for, fixed at its first start, and how far it is."""

    kind: Kind
    timeframe: str
    start: str
    stop: str
    complete: bool
    symbols: dict[str, MarketEntry]  # by ``SWAP:BTC-USDC``

    @property
    def dataset(self) -> Dataset:
        """Give the kind and timeframe."""
        return Dataset(self.kind, self.timeframe)


class Manifest(msgspec.Struct):
    """Everything about an archive but the rows; no clock goes into it.

    Attributes:
        source: where all of it came from.
        collateral: the quote currency of perpetuals.
        datasets: by name of their folders.
        markets: the venue's rules of the markets, by ``SWAP:BTC-USDC``, for backtests without the venue.
    """

    source: str
    collateral: str
    format: int = _FORMAT
    datasets: dict[str, DatasetEntry] = msgspec.field(default_factory=dict)
    markets: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of an archive; None where there is none.

    Raises:
        ConfigurationError: it cannot be read, or another version wrote it.
    """
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ConfigurationError(f"{path} is not a manifest of downloaded history: {error}") from error
    if manifest.format != _FORMAT:
        raise ConfigurationError(f"{path} has format {manifest.format}, this version knows {_FORMAT}")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest in one step, durably."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    with replacing(folder / MANIFEST) as scratch:
        scratch.write_bytes(text + b"\n")


def part_path(folder: Path, dataset: Dataset, symbol: str, part: str) -> Path:
    """Tell where a part lies; ``symbol`` is ``SWAP:BTC-USDC``."""
    market_type, _, name = symbol.partition(":")
    return folder / dataset.name / f"market_type={market_type}" / f"symbol={name}" / f"{part}.parquet"


# --- parts -----------------------------------------------------------------------------------------------------------


def remove(folder: Path, dataset: Dataset) -> None:
    """Forget a dataset: its parts, its journals, what the manifest says of it."""
    manifest = read_manifest(folder)
    if manifest is not None and manifest.datasets.pop(dataset.name, None) is not None:
        write_manifest(folder, manifest)
    for path in (folder / dataset.name, folder / PARTS_UNDER_WAY / dataset.name):
        shutil.rmtree(path, ignore_errors=True)


def label(source: str, dataset: Dataset, symbol: str, market_id: int, part: Part) -> dict[str, Any]:
    """Describe what a part answers; a part with this label need not be fetched again."""
    return {
        "kind": dataset.kind,
        "market_id": market_id,
        "source": source,
        "start": iso(part.start_ms),
        "stop": iso(part.stop_ms),
        "symbol": symbol,
        "timeframe": dataset.timeframe,
    }


def write_part(path: Path, dataset: Dataset, columns: Sequence[Any], head: dict[str, Any]) -> None:
    """Write a part in one step, durably; the same columns give the same bytes.

    Args:
        path: its place.
        dataset: what it is of.
        columns: in the order of the schema; times in its unit.
        head: its label.
    """
    schema = SCHEMAS[dataset.kind].with_metadata({_KEY: msgspec.json.encode(head, order="deterministic")})
    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, schema, strict=True)]
    with replacing(path) as scratch:
        pq.write_table(
            pa.Table.from_arrays(arrays, schema=schema),
            scratch,
            row_group_size=_ROW_GROUP,
            version="2.6",
            compression="zstd",
            compression_level=3,
            use_dictionary=[field.name for field in schema if pa.types.is_string(field.type)],
        )


def read_label(path: Path) -> dict[str, Any] | None:
    """Read what a part answers; None where there is no part, or none of ours."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        head: dict[str, Any] = msgspec.json.decode(metadata[_KEY])
    except (OSError, pa.ArrowInvalid, KeyError, msgspec.MsgspecError):
        return None
    return head


def part_files(folder: Path, dataset: Dataset, symbol: str) -> list[Path]:
    """List the parts of a market, oldest first."""
    return sorted(part_path(folder, dataset, symbol, "x").parent.glob("[!.]*.parquet"))


def describe(dataset: Dataset, start_ms: int, stop_ms: int, files: Iterable[Path], market_id: int) -> MarketEntry:
    """Describe what the parts of a market hold of [start, stop)."""
    entry = MarketEntry(market_id)
    seen: list[np.ndarray[Any, np.dtype[np.int64]]] = []
    for path in files:
        column = pq.ParquetFile(path).read(["timestamp"]).column(0)
        times = column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).to_numpy()
        if len(times):
            entry.rows += len(times)
            entry.first = entry.first or iso(int(times[0]))
            entry.last = iso(int(times[-1]))
            seen.append(np.unique(times // dataset.gap_ms))
    grid = range(-(-start_ms // dataset.grid_ms) * dataset.grid_ms // dataset.gap_ms, -(-stop_ms // dataset.gap_ms))
    there = np.concatenate(seen) if seen else np.empty(0, np.int64)
    edges = np.concatenate([[grid.start - 1], there, [grid.stop]])
    for before in np.flatnonzero(np.diff(edges) > 1):
        first, end = int(edges[before]) + 1, int(edges[before + 1])
        entry.missing += end - first
        entry.gaps.append((iso(max(first * dataset.gap_ms, start_ms)), iso(min(end * dataset.gap_ms, stop_ms))))
    return entry
