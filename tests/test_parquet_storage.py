"""The storage of downloaded history: what was written is read, whatever the pieces, in Qubx's columns and types."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from qubx.backtester.simulated_data import DataPump
from qubx.core.basics import DataType, MarketType
from qubx.core.lookups import lookup
from qubx.data.registry import StorageRegistry
from qubx.data.storage import IReader, IStorage
from qubx.data.transformers import TypedRecords
from qubx.utils.time import to_timedelta

from qubx_lighter import archive
from qubx_lighter.archive import Dataset, DatasetEntry, Manifest, from_iso, iso
from qubx_lighter.errors import ConfigurationError
from qubx_lighter.parquet_storage import LighterParquetStorage
from tests.markets import ETH_ROW
from tests.programs import run_python

FIRST = from_iso("2026-10-30T00:00:00Z")
STOP = from_iso("2026-11-02T00:00:00Z")
HOUR = archive.HOUR_MS
SPOT = ETH_ROW | {"market_id": 2048, "symbol": "ETH/USDC", "market_type": "spot"}


def candle(at_ms: int) -> tuple[Any, ...]:
    """Rising prices, but nobody trades in the first three minutes of an hour, nor in the hour from 04:00."""
    minute = (at_ms - FIRST) // 60_000
    if minute % 60 < 3 or 240 <= minute % 1440 < 300:
        return at_ms, 7.0, 7.0, 7.0, 7.0, 0.0, 0.0
    return at_ms, 100.0 + minute, 200.0 + minute, 50.0 - minute / 1e6, 101.0 + minute, 2.0, 3.0


ROWS = {
    Dataset("ohlc", "1m"): [candle(at) for at in range(FIRST, STOP, 60_000) if at // 60_000 % 100],
    Dataset("trades"): [
        (at * 10**6 + 123, 100.0, 0.5, 1, number, ("trade", "liquidation", "deleverage")[number % 3])
        for number, at in enumerate(range(FIRST, STOP, 1_000_000))
    ],
    Dataset("funding"): [(at, 1e-5, 1.0) for at in range(FIRST, STOP, HOUR)],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with a month's end in it, of a perpetual and, candles only, a spot market of the same symbol."""
    folder = tmp_path_factory.mktemp("archive")
    manifest = Manifest("http://venue.test", "USDC", markets={"SWAP:ETH-USDC": ETH_ROW, "SPOT:ETH-USDC": SPOT})
    for dataset, rows in ROWS.items():
        symbols = ["SWAP:ETH-USDC", "SPOT:ETH-USDC"] if dataset.kind == "ohlc" else ["SWAP:ETH-USDC"]
        entry = DatasetEntry(dataset.kind, dataset.timeframe, iso(FIRST), iso(STOP), complete=True, symbols={})
        for symbol in symbols:
            files = []
            unit = 10**6 if dataset.kind == "trades" else 1
            for part in archive.parts(dataset, FIRST, STOP):
                mine = [row for row in rows if part.start_ms * unit <= row[0] < part.stop_ms * unit]
                files.append(archive.part_path(folder, dataset, symbol, part.name))
                archive.write_part(files[-1], dataset, list(zip(*mine, strict=True)), {})
            entry.symbols[symbol] = archive.describe(dataset, FIRST, STOP, files, 0)
            entry.symbols[symbol].complete = True
        manifest.datasets[dataset.name] = entry
    archive.write_manifest(folder, manifest)
    return folder


def copied(folder: Path, tmp_path: Path) -> tuple[Path, Manifest]:
    """Copy the archive, to be changed."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    manifest = archive.read_manifest(copy)
    assert manifest is not None
    return copy, manifest


@pytest.fixture
def reader(folder: Path) -> IReader:
    return LighterParquetStorage(str(folder)).get_reader("LIGHTER", "SWAP")


def frame(data: Any) -> pd.DataFrame:
    return data.data.to_pandas()


def expected_minutes(first: str, last: str) -> list[int]:
    ends = [pd.Timestamp(time).value // 10**6 for time in (first, last)]
    return [row[0] for row in ROWS[Dataset("ohlc", "1m")] if ends[0] <= row[0] <= ends[1]]


def milliseconds(rows: pd.DataFrame) -> list[int]:
    return list(rows["timestamp"].astype("datetime64[ms]").astype("int64"))


def test_it_is_a_storage_of_qubx(folder: Path) -> None:
    for name in ("lighter-parquet", "qubx_lighter.parquet_storage.LighterParquetStorage"):
        storage = StorageRegistry.get(name, path=str(folder))
        assert isinstance(storage, IStorage)
    assert (["LIGHTER"], ["SPOT", "SWAP"]) == (storage.get_exchanges(), storage.get_market_types("lighter"))
    with pytest.raises(ValueError, match="FUTURE was downloaded"):
        storage.get_reader("LIGHTER", "FUTURE")


def test_its_instruments_are_known_without_the_venue(folder: Path) -> None:
    LighterParquetStorage(str(folder))
    swap = lookup.find_symbol("LIGHTER", "ETH-USDC", MarketType.SWAP)
    spot = lookup.find_symbol("LIGHTER", "ETH-USDC", MarketType.SPOT)
    assert swap is not None
    assert spot is not None
    assert (0.01, 0.0001, 0, 2048) == (
        swap.tick_size,
        swap.lot_size,
        swap.venue_attributes["market_id"],
        spot.venue_attributes["market_id"],
    )


@pytest.mark.parametrize("chunksize", [0, 2, 777, 10**6])
@pytest.mark.parametrize(
    ("start", "stop"),
    [
        ("2026-10-31 22:00", "2026-11-01 03:00"),
        ("2026-11-01 03:00", "2026-10-31 22:00"),
        ("2026-10-31 22:00:00.000000001", "2026-11-01 02:59:59.999999999"),
        ("2026-10-29 23:59", "2026-11-02 00:01"),
    ],
)
def test_candles_of_a_range_with_both_ends_are_all_there(
    reader: IReader, start: str, stop: str, chunksize: int
) -> None:
    read = reader.read("ETH-USDC", "ohlc(1min)", start, stop, chunksize)
    pieces = [frame(read)] if chunksize == 0 else [frame(chunk) for chunk in read]
    assert all(2 <= len(piece) <= max(2 * chunksize, 2) or chunksize == 0 for piece in pieces)
    assert expected_minutes(*sorted((start, stop))) == milliseconds(pd.concat(pieces))


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        ("2026-10-31T22:00:00Z", "2026-11-01 03:00"),
        ("2026-10-31 22:00", "2026-11-01T12:00:00+09:00"),
        ("2026-10-31T22:00:00Z", "5h"),
    ],
)
def test_times_with_and_without_a_zone_go_together(reader: IReader, start: str, stop: str) -> None:
    rows = frame(reader.read("ETH-USDC", "ohlc(1min)", start, stop))
    assert expected_minutes("2026-10-31 22:00", "2026-11-01 03:00") == milliseconds(rows)


def test_a_time_that_cannot_be_read_is_an_error(reader: IReader) -> None:
    with pytest.raises(ValueError, match="not a range of times"):
        reader.read("ETH-USDC", "ohlc(1min)", "yesterday evening", "2026-11-01")


def test_bars_are_added_up_from_what_divides_them_and_are_whole(reader: IReader) -> None:
    rows = frame(reader.read("ETH-USDC", "ohlc(1h)", "2026-10-31 22:30", "2026-11-01 01:00"))
    hours = [from_iso(f"2026-{time}:00:00Z") for time in ("10-31T23", "11-01T00", "11-01T01")]
    assert hours == milliseconds(rows)
    for hour, row in zip(hours, rows.itertuples(), strict=True):
        candles = [candle(at) for at in range(hour + 180_000, hour + HOUR, 60_000) if at // 60_000 % 100]
        assert (candles[0][1], candles[-1][2], candles[-1][3], candles[-1][4], 2.0 * len(candles)) == (
            row.open,
            row.high,
            row.low,
            row.close,
            row.volume,
        )


def test_a_bar_without_trades_is_at_the_last_price(reader: IReader) -> None:
    (row,) = frame(reader.read("ETH-USDC", "ohlc(1h)", "2026-11-01 04:00", "2026-11-01 04:00")).itertuples()
    assert (7.0, 7.0, 7.0, 7.0, 0.0) == (row.open, row.high, row.low, row.close, row.volume)


def test_no_bar_is_made_of_what_was_not_all_downloaded(reader: IReader) -> None:
    """Of seven hours each from the epoch on, the archive begins and ends within one."""
    bar = 7 * HOUR
    opens = milliseconds(frame(reader.read("ETH-USDC", "ohlc(7h)", None, None)))
    assert list(range(-(-FIRST // bar) * bar, STOP - bar + 1, bar)) == opens


def test_trades_are_those_of_the_book_liquidations_apart(reader: IReader) -> None:
    rows = ROWS[Dataset("trades")]
    trades = frame(reader.read("ETH-USDC", "trade"))
    assert [row[4] for row in rows if row[5] != "deleverage"] == list(trades["id"])
    assert ["timestamp", "price", "size", "side", "id"] == list(trades.columns)
    liquidations = frame(reader.read("ETH-USDC", DataType.LIQUIDATION))
    assert [row[0] for row in rows if row[5] == "liquidation"] == list(liquidations["timestamp"].astype("int64"))
    assert ["timestamp", "quantity", "price", "side"] == list(liquidations.columns)


def test_funding_comes_as_payments_and_as_rates(reader: IReader) -> None:
    payments = frame(reader.read("ETH-USDC", "funding_payment", "2026-11-01", "2026-11-01 01:00"))
    assert [(1e-5, 1.0)] * 2 == [(row.funding_rate, row.funding_interval_hours) for row in payments.itertuples()]
    rates = frame(reader.read("ETH-USDC", "funding_rate"))
    following = rates["next_funding_time"].astype("int64") // 10**6
    assert [at + HOUR for at in milliseconds(rates)] == list(following)


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        ("ohlc(1m)", "Bar"),
        ("ohlc(1h)", "Bar"),
        ("trade", "Trade"),
        ("liquidation", "Liquidation"),
        ("funding_payment", "FundingPayment"),
        ("funding_rate", "FundingRate"),
    ],
)
def test_qubx_makes_its_objects_of_every_type(reader: IReader, dtype: str, kind: str) -> None:
    read: Any = reader.read("ETH-USDC", DataType.from_str(dtype)[0].value if dtype == "trade" else dtype)
    records = read.transform(TypedRecords())
    assert {kind} == {type(record).__name__ for record in records}
    assert [time for time, _ in zip((record.time for record in records), records, strict=True)] == sorted(
        record.time for record in records
    )


def test_several_symbols_are_read_together(folder: Path, reader: IReader) -> None:
    assert ["ETH-USDC"] == [one.data_id for one in reader.read([], "ohlc(1m)", "2026-11-01", "2026-11-02")]
    chunks: Any = reader.read(["ETH-USDC"], "ohlc(1m)", "2026-11-01", "2026-11-02", 500)
    assert expected_minutes("2026-11-01", "2026-11-02") == [
        at for chunk in chunks for at in milliseconds(frame(chunk["ETH-USDC"]))
    ]


def test_what_there_is_can_be_asked(folder: Path, reader: IReader) -> None:
    assert ["ETH-USDC"] == reader.get_data_id()
    assert ["ETH-USDC"] == reader.get_data_id("ohlc(4h)")
    assert [] == reader.get_data_id("ohlc(30s)")
    assert {"ohlc(1m)", "trade", "liquidation", "funding_payment", "funding_rate"} == {
        str(one) for one in reader.get_data_types("ETH-USDC")
    }
    assert (np.datetime64("2026-10-30", "ns"), np.datetime64("2026-11-01T23:00", "ns")) == reader.get_time_range(
        "ETH-USDC", "funding_payment"
    )
    assert np.isnat(reader.get_time_range("ETH-USDC", "quote")[0])
    spot = LighterParquetStorage(str(folder)).get_reader("LIGHTER", "SPOT")
    assert ["ohlc(1m)"] == [str(one) for one in spot.get_data_types("ETH-USDC")]


@pytest.mark.parametrize(
    ("symbol", "dtype"), [("BTC-USDC", "ohlc(1m)"), ("ETH-USDC", "quote"), ("ETH-USDC", "ohlc(30s)")]
)
def test_what_was_not_downloaded_is_an_error(reader: IReader, symbol: str, dtype: str) -> None:
    with pytest.raises(ValueError, match="was not downloaded to"):
        reader.read(symbol, dtype, "2026-11-01", "2026-11-02")


@pytest.mark.parametrize("chunksize", [0, 100])
@pytest.mark.parametrize(
    ("dtype", "start", "stop", "text"),
    [
        (
            "ohlc(1m)",
            "2026-10-29 23:58:59",
            "2026-11-01",
            r"ohlc_1m begins at 2026-10-30T00:00:00Z, but .* 2026-10-29T23:58:59Z",
        ),
        (
            "ohlc(1m)",
            "2026-11-01",
            "2026-11-02 00:01:01",
            r"ohlc_1m ends at 2026-11-02T00:00:00Z, but .* 2026-11-02T00:01:01Z",
        ),
        ("ohlc(1h)", "2026-10-29 22:59", None, "ohlc_1m begins at .*: download it from then on"),
        ("ohlc(1h)", None, "2026-11-02 01:01", "ohlc_1m ends at .*: go on with the download"),
        ("ohlc(1m)", "2026-09-01", "2026-09-02", "ohlc_1m begins at"),
        ("ohlc(1m)", "2026-12-01", "2026-12-02", "ohlc_1m ends at"),
        ("trade", "2026-10-29", None, "trades begins at"),
        ("liquidation", None, "2026-11-02 00:02", "trades ends at"),
        ("funding_payment", "2026-10-29 22:00", "2026-11-01", "funding begins at"),
        ("funding_rate", "2026-11-01", "2026-11-02 02:00", "funding ends at"),
    ],
)
def test_a_range_that_was_not_downloaded_is_an_error(
    reader: IReader, dtype: str, start: str | None, stop: str | None, text: str, chunksize: int
) -> None:
    with pytest.raises(ValueError, match=text):
        list(reader.read(["ETH-USDC"], dtype, start, stop, chunksize))


@pytest.mark.parametrize("dtype", ["ohlc(1m)", "ohlc(7h)", "trade", "liquidation", "funding_payment", "funding_rate"])
def test_a_step_beyond_what_was_downloaded_is_none(reader: IReader, dtype: str) -> None:
    everything = frame(reader.read("ETH-USDC", dtype))
    pd.testing.assert_frame_equal(
        everything, frame(reader.read("ETH-USDC", dtype, "2026-10-29 23:59", "2026-11-02 00:01"))
    )


@pytest.mark.parametrize(
    ("listed", "is_all"), [("2026-10-30 15:00", True), ("2026-11-01", True), ("2026-10-29", False)]
)
def test_nothing_is_missing_from_before_the_listing(folder: Path, tmp_path: Path, listed: str, is_all: bool) -> None:
    copy, manifest = copied(folder, tmp_path)
    manifest.markets["SWAP:ETH-USDC"]["created_at"] = str(pd.Timestamp(listed).value // 10**6)
    archive.write_manifest(copy, manifest)
    reader = LighterParquetStorage(str(copy)).get_reader("LIGHTER", "SWAP")
    if is_all:
        minutes = frame(reader.read("ETH-USDC", "ohlc(1m)", "2020-01-01", "2026-11-01"))
        assert expected_minutes("2026-10-30", "2026-11-01") == milliseconds(minutes)
        (bar,) = frame(reader.read("ETH-USDC", "ohlc(3d)", "2020-01-01", "2026-11-01")).itertuples()
        assert pd.Timestamp("2026-10-28") == bar.timestamp
        assert bar.volume == sum(row[5] for row in ROWS[Dataset("ohlc", "1m")] if row[0] < FIRST + 24 * HOUR)
    else:
        with pytest.raises(ValueError, match="begins at 2026-10-30"):
            reader.read("ETH-USDC", "ohlc(1m)", "2020-01-01", "2026-11-01")


def test_bars_come_from_the_coarsest_candles_that_have_the_market_and_the_range(
    folder: Path, tmp_path: Path, reader: IReader
) -> None:
    copy, manifest = copied(folder, tmp_path)
    hours, start = Dataset("ohlc", "1h"), from_iso("2026-11-01T00:00:00Z")
    entry = DatasetEntry("ohlc", "1h", iso(start), iso(STOP), complete=True, symbols={})
    file = archive.part_path(copy, hours, "SWAP:ETH-USDC", "2026")
    rows = [(at, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0) for at in range(start, STOP, HOUR)]
    archive.write_part(file, hours, list(zip(*rows, strict=True)), {})
    entry.symbols["SWAP:ETH-USDC"] = archive.describe(hours, start, STOP, [file], 0)
    entry.symbols["SWAP:ETH-USDC"].complete = True
    manifest.datasets[hours.name] = entry
    archive.write_manifest(copy, manifest)
    both = LighterParquetStorage(str(copy))
    swap, spot = (both.get_reader("LIGHTER", name) for name in ("SWAP", "SPOT"))
    ones = frame(swap.read("ETH-USDC", "ohlc(2h)", "2026-11-01", None))
    assert (12, {1.0}) == (len(ones), set(ones["close"]))
    earlier = ("ETH-USDC", "ohlc(2h)", "2026-10-30", "2026-11-01 06:00")
    for other in (swap, spot):
        pd.testing.assert_frame_equal(frame(reader.read(*earlier)), frame(other.read(*earlier)))
    assert ["ETH-USDC"] == spot.get_data_id("ohlc(2h)")
    assert np.datetime64(FIRST, "ms") == spot.get_time_range("ETH-USDC", "ohlc(2h)")[0]


def test_a_simulation_whose_warm_up_was_not_downloaded_ends_in_words(folder: Path) -> None:
    storage = LighterParquetStorage(str(folder))
    pump = DataPump(
        storage.get_reader("LIGHTER", "SWAP"),
        "ohlc(15Min)",
        "LIGHTER",
        "SWAP",
        warmup_period=to_timedelta("1d"),
        retry_wait=0.0,
    )
    pump.attach_instrument(lookup.find_symbol("LIGHTER", "ETH-USDC", MarketType.SWAP))
    (stream,) = pump.start_read("2026-10-30 12:00", "2026-11-01").values()
    with pytest.raises(ValueError, match="a simulation's warm-up is from before its start"):
        next(iter(stream))


@pytest.mark.parametrize("dtype", ["ohlc(1M)", "OHLC(1M)", "ohlc(1Y)"])
def test_months_are_not_taken_for_minutes(reader: IReader, dtype: str) -> None:
    for ask in (reader.get_data_id, lambda asked: reader.read("ETH-USDC", asked, "2026-11-01", "2026-11-02")):
        with pytest.raises(ValueError, match="no bars of calendar months"):
            ask(dtype)


@pytest.mark.parametrize(("spelled", "same"), [("OHLC(15Min)", "15m"), ("ohlc(1H)", "60m"), ("ohlc(1D)", "24h")])
def test_a_timeframe_may_be_spelled_as_qubx_and_pandas_do(reader: IReader, spelled: str, same: str) -> None:
    expected, found = (frame(reader.read("ETH-USDC", dtype, None, None)) for dtype in (f"ohlc({same})", spelled))
    assert 2 < len(expected)
    pd.testing.assert_frame_equal(expected, found)


@pytest.mark.parametrize("dtype", ["ohlc(0m)", "ohlc(-5m)", "ohlc(10us)"])
def test_what_is_no_length_of_a_bar_is_refused(reader: IReader, dtype: str) -> None:
    with pytest.raises(ValueError, match="is no length of a bar"):
        reader.read("ETH-USDC", dtype, "2026-11-01", "2026-11-02")


def test_half_a_download_is_not_read(folder: Path, tmp_path: Path) -> None:
    copy, manifest = copied(folder, tmp_path)
    manifest.datasets["trades"].symbols["SWAP:ETH-USDC"].complete = False
    archive.write_manifest(copy, manifest)
    reader = LighterParquetStorage(str(copy)).get_reader("LIGHTER", "SWAP")
    with pytest.raises(ValueError, match="trades is not complete"):
        reader.read("ETH-USDC", "trade")
    assert len(frame(reader.read("ETH-USDC", "ohlc(1h)")))


def test_a_folder_without_an_archive_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no manifest\.json"):
        LighterParquetStorage(str(tmp_path))


def test_it_has_a_name_in_qubx_where_the_package_is_a_plugin() -> None:
    code = """
    import qubx.data, qubx_lighter
    from qubx.data.registry import StorageRegistry
    print(StorageRegistry.get_class('lighter-parquet'))
    """
    assert "LighterParquetStorage" in run_python(code)
