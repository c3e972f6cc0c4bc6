"""Reading the parts of downloaded history as Qubx's types; see ``parquet_storage``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from qubx.core.basics import DataType, Instrument
from qubx.data.containers import IteratorsMaster, RawData, RawMultiData
from qubx.data.storage import IReader, Transformable

from qubx_lighter import archive
from qubx_lighter.archive import DatasetEntry, Manifest
from qubx_lighter.history.qubx_types import added_up
from qubx_lighter.history.times import bar_length_ms, read_range
from qubx_lighter.markets import read_market, to_instrument
from qubx_lighter.protocol import wire

_KINDS: Final[dict[str, str]] = {
    "ohlc": "ohlc",
    "trade": "trades",
    "liquidation": "trades",
    "funding_payment": "funding",
    "funding_rate": "funding",
}
_OFF_BOOK: Final = ("deleverage", "market-settlement")  # at a price that nobody offered; as in LighterStorage
_HOUR: Final = np.timedelta64(1, "h")
_NS: Final = "datetime64[ns]"
_NEVER: Final = np.datetime64("1970-01-01", "ns")
_FAR: Final = np.datetime64("2200-01-01", "ns")

Bounds = tuple[np.datetime64, np.datetime64]
"""[start, end), in ns."""


def instruments(manifest: Manifest) -> list[Instrument]:
    """Make instruments from the rules in a manifest, under the names that they were downloaded by."""
    found = []
    for name, rules in manifest.markets.items():
        market = read_market(msgspec.convert(rules, wire.MarketRow), separator="-", collateral=manifest.collateral)
        found.append(to_instrument(replace(market, symbol=name.partition(":")[2])))
    return found


class LighterParquetReader(IReader):
    """Read the parts of one type of markets; both ends of a range are included, as in ``LighterStorage``."""

    def __init__(self, folder: Path, manifest: Manifest, market_type: str) -> None:
        self._folder = folder
        self._market_type = market_type
        self._entries = manifest.datasets

    def read(
        self,
        data_id: str | Sequence[str],
        dtype: DataType | str,
        start: str | None = None,
        stop: str | None = None,
        chunksize: int = 0,
        **_: Any,
    ) -> Iterator[Transformable] | Transformable:
        """Read rows.

        Args:
            data_id: a symbol, several, or an empty list for all.
            dtype: ``ohlc(1h)``, ``trade``, ``liquidation``, ``funding_payment`` or ``funding_rate``; bars of a timeframe
                that was not downloaded are added up from finer ones, where they divide it.
            start: the first time; None means from the beginning. May be later than ``stop``: then they are swapped.
            stop: the last time; None means to the end.
            chunksize: rows at a time, for an iterator; 0 for all at once.

        Raises:
            ValueError: that was not downloaded, or not all of it.
        """
        bounds = _bounds(start, stop)
        if isinstance(data_id, str):
            chunks = self._chunks(data_id, str(dtype), bounds, chunksize)
            return chunks if chunksize > 0 else next(chunks)
        symbols = list(data_id) or self.get_data_id(dtype)
        readers = [self._chunks(one, str(dtype), bounds, chunksize) for one in symbols]
        return IteratorsMaster(readers) if chunksize > 0 else RawMultiData([next(reader) for reader in readers])

    def get_data_id(self, dtype: DataType | str = DataType.ALL) -> list[str]:
        """List the symbols that have data of a type, or of any."""
        everything = str(dtype) in (str(DataType.ALL), str(DataType.OHLC))
        entries = list(self._entries.values()) if everything else [self._find(str(dtype))]
        keys = [key.partition(":") for entry in entries if entry is not None for key in entry.symbols]
        return list(dict.fromkeys(symbol for market_type, _, symbol in keys if market_type == self._market_type))

    def get_data_types(self, data_id: str) -> list[DataType]:
        """List what was downloaded of a symbol; longer bars can be read too."""
        found: list[Any] = []
        for entry in self._entries.values():
            if self._key(data_id) in entry.symbols:
                kinds = [name for name, kind in _KINDS.items() if kind == entry.kind]
                found += (
                    [DataType.OHLC[entry.timeframe]] if entry.kind == "ohlc" else [DataType(name) for name in kinds]
                )
        return found

    def get_time_range(self, data_id: str, dtype: DataType | str) -> tuple[np.datetime64, np.datetime64]:
        """Tell the first and the last time; NaT where there is nothing."""
        entry = self._find(str(dtype))
        held = entry.symbols.get(self._key(data_id)) if entry is not None else None
        if held is None or held.first is None or held.last is None:
            return np.datetime64("NaT", "ns"), np.datetime64("NaT", "ns")
        first, last = (np.datetime64(archive.from_iso(time), "ms") for time in (held.first, held.last))
        return first.astype("datetime64[ns]"), last.astype("datetime64[ns]")

    def _key(self, data_id: str) -> str:
        return f"{self._market_type}:{data_id.upper()}"

    def _find(self, dtype: str) -> DatasetEntry | None:
        """Find the dataset that answers a data type: for bars the coarsest candles that divide them."""
        kind, bar_ms = _kind(dtype)
        entries = [entry for entry in self._entries.values() if entry.kind == _KINDS.get(kind)]
        if kind == "ohlc":
            entries = [entry for entry in entries if not bar_ms % entry.dataset.grid_ms]
        return max(entries, key=lambda entry: entry.dataset.grid_ms, default=None)

    # --- rows --------------------------------------------------------------------------------------------------------

    def _chunks(self, data_id: str, dtype: str, bounds: Bounds, chunksize: int) -> Iterator[RawData]:
        """Give the rows of one symbol, ``chunksize`` at a time or all at once."""
        entry = self._find(dtype)
        if entry is None or self._key(data_id) not in entry.symbols:
            known = ", ".join(str(one) for one in self.get_data_types(data_id)) or "nothing"
            raise ValueError(f"{dtype} of {data_id} was not downloaded to {self._folder}; there is: {known}")
        if not entry.symbols[self._key(data_id)].complete:
            raise ValueError(
                f"the download of {data_id} to {self._folder / entry.dataset.name} is not complete: go on with it"
            )
        tables = self._tables(entry, data_id, _kind(dtype), bounds)
        if chunksize <= 0:
            yield _raw(data_id, dtype, pa.concat_tables(tables))
            return
        rest: pa.Table = next(tables)
        for table in tables:
            rest = pa.concat_tables([rest, table])
            while rest.num_rows >= 2 * chunksize:  # the last chunk is not short: Qubx infers the frequency from each
                yield _raw(data_id, dtype, rest.slice(0, chunksize))
                rest = rest.slice(chunksize)
        yield _raw(data_id, dtype, rest)

    def _tables(self, entry: DatasetEntry, data_id: str, wanted: tuple[str, int], bounds: Bounds) -> Iterator[pa.Table]:
        """Give a symbol's rows in Qubx's columns, piece by piece; the first piece is empty."""
        kind, bar_ms = wanted
        pieces = self._pieces(entry, data_id, _whole_bars(entry, bounds, bar_ms) if bar_ms else bounds)
        if bar_ms > entry.dataset.grid_ms:
            pieces = iter([added_up(pa.concat_tables(pieces), bar_ms)])
        yield _shaped(kind, archive.SCHEMAS[entry.kind].empty_table())
        for piece in pieces:
            yield _shaped(kind, piece)

    def _pieces(self, entry: DatasetEntry, data_id: str, bounds: Bounds) -> Iterator[pa.Table]:
        """Give what lies in a range of each row group of the parts; the first piece is empty."""
        yield archive.SCHEMAS[entry.kind].empty_table()
        for path in archive.part_files(self._folder, entry.dataset, self._key(data_id)):
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    times = file.metadata.row_group(group).column(0).statistics
                    if times is None or (
                        np.datetime64(times.max) >= bounds[0] and np.datetime64(times.min) < bounds[1]
                    ):
                        table = file.read_row_group(group).replace_schema_metadata(None)
                        first, end = np.searchsorted(table.column(0).to_numpy(), bounds)
                        yield table.slice(int(first), max(0, int(end - first)))


# --- ranges ----------------------------------------------------------------------------------------------------------


def _bounds(start: Any, stop: Any) -> Bounds:
    """Convert a range with both ends to [start, end)."""
    first, last = (None if time is None else time.as_unit("ns").to_datetime64() for time in read_range(start, stop))
    return _NEVER if first is None else first, _FAR if last is None else last + np.timedelta64(1, "ns")


def _whole_bars(entry: DatasetEntry, bounds: Bounds, bar_ms: int) -> Bounds:
    """Give the range of all candles of the bars that open in a range, as far as all of these were downloaded."""
    held = (archive.from_iso(entry.start), archive.from_iso(entry.stop) - bar_ms + 1)
    times = [int(bound.astype(np.int64)) for bound in bounds]
    first, end = (-(-time // (bar_ms * 10**6)) * bar_ms for time in times)
    first, end = max(first, -(-held[0] // bar_ms) * bar_ms), min(end, -(-held[1] // bar_ms) * bar_ms)
    return np.datetime64(first, "ms").astype(_NS), np.datetime64(end, "ms").astype(_NS)


def _kind(dtype: str) -> tuple[str, int]:
    """Read a data type as Qubx spells it: its name, and the length of its bars in ms, 0 for what has none."""
    name, _, timeframe = dtype.strip().partition("(")
    kind = name.lower()
    return kind, bar_length_ms(dtype, timeframe.rstrip(")")) if kind == "ohlc" else 0


# --- columns ---------------------------------------------------------------------------------------------------------


def _shaped(kind: str, table: pa.Table) -> pa.Table:
    """Give rows the columns of Qubx's type."""
    if kind == "trade":
        return table.filter(pc.invert(pc.is_in(table.column("type"), pa.array(_OFF_BOOK)))).drop_columns(["type"])
    if kind == "liquidation":
        rows = table.filter(pc.equal(table.column("type"), "liquidation"))
        return rows.select(["timestamp", "size", "price", "side"]).rename_columns(
            ["timestamp", "quantity", "price", "side"]
        )
    if kind == "funding_rate":
        following = pa.array(table.column(0).to_numpy().astype(_NS) + _HOUR)
        return table.rename_columns(["timestamp", "rate", "interval"]).append_column("next_funding_time", following)
    return table


def _raw(data_id: str, dtype: Any, table: pa.Table) -> RawData:
    batches = table.combine_chunks().to_batches()
    batch = batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
    return RawData.from_record_batch(data_id, dtype, batch)
