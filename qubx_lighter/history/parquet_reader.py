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
from qubx_lighter.markets import Market, read_market, to_instrument
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.timeframes import bar_open

_KINDS: Final[dict[str, str]] = {
    "ohlc": "ohlc",
    "trade": "trades",
    "liquidation": "trades",
    "funding_payment": "funding",
    "funding_rate": "funding",
}
_OFF_BOOK: Final = ("deleverage", "market-settlement")  # at a price that nobody offered; as in LighterStorage
_LEAST_STEP_MS: Final = 60_000  # trades have no step; a download up to now ends a minute ago
_HOUR: Final = np.timedelta64(1, "h")
_NS: Final = "datetime64[ns]"
_NEVER: Final = np.datetime64("1970-01-01", "ns")
_FAR: Final = np.datetime64("2200-01-01", "ns")

Bounds = tuple[np.datetime64, np.datetime64]
"""[start, end), in ns."""


def instruments(manifest: Manifest) -> list[Instrument]:
    """Make instruments from the rules in a manifest, under the names that they were downloaded by."""
    return [to_instrument(replace(market, symbol=name.partition(":")[2])) for name, market in _markets(manifest)]


def _markets(manifest: Manifest) -> Iterator[tuple[str, Market]]:
    """Give the markets of a manifest by ``SWAP:BTC-USDC``."""
    for name, rules in manifest.markets.items():
        row = msgspec.convert(rules, wire.MarketRow)
        yield name, read_market(row, separator="-", collateral=manifest.collateral)


class LighterParquetReader(IReader):
    """Read the parts of one type of markets; both ends of a range are included, as in ``LighterStorage``."""

    def __init__(self, folder: Path, manifest: Manifest, market_type: str) -> None:
        self._folder = folder
        self._market_type = market_type
        self._entries = manifest.datasets
        self._listed = {name: _listed(market) for name, market in _markets(manifest)}

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
            stop: the last time; None means to the end. A range that goes beyond what was downloaded by more than a step
                is an error; before the listing there is nothing to download.
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
        entries = list(self._entries.values()) if everything else self._fitting(*_kind(str(dtype)))
        keys = [key.partition(":") for entry in entries for key in entry.symbols]
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
        key = self._key(data_id)
        entries = [entry for entry in self._fitting(*_kind(str(dtype))) if key in entry.symbols]
        held = entries[0].symbols[key] if entries else None
        if held is None or held.first is None or held.last is None:
            return np.datetime64("NaT", "ns"), np.datetime64("NaT", "ns")
        first, last = (np.datetime64(archive.from_iso(time), "ms") for time in (held.first, held.last))
        return first.astype("datetime64[ns]"), last.astype("datetime64[ns]")

    def _key(self, data_id: str) -> str:
        return f"{self._market_type}:{data_id.upper()}"

    def _listed_at(self, data_id: str) -> np.datetime64:
        return self._listed.get(self._key(data_id), _NEVER)

    def _fitting(self, kind: str, bar_ms: int) -> list[DatasetEntry]:
        """List the datasets that a data type can be made of: for bars the candles that divide them, the coarsest first."""
        entries = [entry for entry in self._entries.values() if entry.kind == _KINDS.get(kind)]
        if kind == "ohlc":
            entries = [entry for entry in entries if not bar_ms % entry.dataset.grid_ms]
        return sorted(entries, key=lambda entry: entry.dataset.grid_ms, reverse=True)

    def _entry(self, data_id: str, dtype: str, bounds: Bounds) -> DatasetEntry:
        """Find the dataset to read a range of a symbol from.

        Raises:
            ValueError: that was not downloaded, or not all of it.
        """
        kind, bar_ms = _kind(dtype)
        key = self._key(data_id)
        held = [entry for entry in self._fitting(kind, bar_ms) if key in entry.symbols]
        if not held:
            known = ", ".join(str(one) for one in self.get_data_types(data_id)) or "nothing"
            raise ValueError(f"{dtype} of {data_id} was not downloaded to {self._folder}; there is: {known}")
        complete = [entry for entry in held if entry.symbols[key].complete]
        if not complete:
            raise ValueError(
                f"the download of {data_id} to {self._folder / held[0].dataset.name} is not complete: go on with it"
            )
        lacking = [_lacking(entry, bounds, bar_ms, self._listed_at(data_id)) for entry in complete]
        for entry, lack in zip(complete, lacking, strict=True):
            if lack is None:
                return entry
        raise ValueError(f"{dtype} of {data_id}: {self._folder / complete[0].dataset.name} {lacking[0]}")

    # --- rows --------------------------------------------------------------------------------------------------------

    def _chunks(self, data_id: str, dtype: str, bounds: Bounds, chunksize: int) -> Iterator[RawData]:
        """Give the rows of one symbol, ``chunksize`` at a time or all at once."""
        entry = self._entry(data_id, dtype, bounds)
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
        if bar_ms:
            bounds = _whole_bars(entry, bounds, bar_ms, self._listed_at(data_id))
        pieces = self._pieces(entry, data_id, bounds)
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


def _lacking(entry: DatasetEntry, bounds: Bounds, bar_ms: int, listed: np.datetime64) -> str | None:
    """Tell what a dataset lacks of a range, if that is more than a step; what was before the listing is nowhere."""
    step = np.timedelta64(max(bar_ms, entry.dataset.grid_ms, _LEAST_STEP_MS), "ms")
    held_from, held_to = (np.datetime64(archive.from_iso(time), "ms").astype(_NS) for time in (entry.start, entry.stop))
    first, last = bounds[0], bounds[1] - np.timedelta64(1, "ns")
    if first > _NEVER and max(first, listed) < held_from - step:
        return (
            f"begins at {entry.start}, but was asked for what is from {_text(first)} on (a simulation's warm-up is from "
            "before its start): download it from then on (--start, --overwrite), or ask for less"
        )
    if bounds[1] < _FAR and last > held_to + step:
        return (
            f"ends at {entry.stop}, but was asked for what is until {_text(last)} (Qubx's prefetch goes beyond a "
            "simulation's stop): go on with the download (--stop), or ask for less"
        )
    return None


def _text(time: np.datetime64) -> str:
    return f"{np.datetime_as_string(time, unit='s')}Z"


def _listed(market: Market) -> np.datetime64:
    """Tell since when a market may have history: the day of its listing, as in ``LighterStorage``."""
    day: np.datetime64 = np.datetime64(market.created_at_ns, "ns").astype("datetime64[D]").astype(_NS)
    return day


def _whole_bars(entry: DatasetEntry, bounds: Bounds, bar_ms: int, listed: np.datetime64) -> Bounds:
    """Give the range of all candles of the bars that open in a range, as far as all of these were downloaded."""
    held_from, held_to = archive.from_iso(entry.start), archive.from_iso(entry.stop) - bar_ms + 1
    if listed >= np.datetime64(held_from, "ms"):
        held_from = bar_open(held_from, bar_ms)  # what the bar lacks of its time was before the market
    times = [int(bound.astype(np.int64)) for bound in bounds]
    first, end = (-(-time // (bar_ms * 10**6)) * bar_ms for time in times)
    first, end = max(first, -(-held_from // bar_ms) * bar_ms), min(end, -(-held_to // bar_ms) * bar_ms)
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
