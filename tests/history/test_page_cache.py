"""PageCache: pages that are whole or not there, whoever else is at work."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from loguru import logger

from qubx_lighter.history.page_cache import PageCache, PageKey

SCHEMA = pa.schema([("timestamp", pa.timestamp("ms")), ("close", pa.float64())])
KEY = PageKey(0, "ETH/USDC", "candles-1m", 1_790_000_000_000)
ROWS = pa.table([range(500), [float(i) for i in range(500)]], schema=SCHEMA)
URL = "https://venue.test:8443"


@pytest.fixture
def warnings() -> list[str]:
    texts: list[str] = []
    handle = logger.add(lambda message: texts.append(message.record["message"]), level="WARNING")
    yield texts
    logger.remove(handle)


def file_of(folder: Path) -> Path:
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    return path


def test_a_page_comes_back_as_it_was_with_its_notes(tmp_path: Path) -> None:
    cache = PageCache(URL, tmp_path)
    assert cache.read(KEY, SCHEMA) is None
    cache.write(KEY, ROWS, {"cursor": "a b", "newest": "7"})
    page = PageCache(URL, tmp_path).read(KEY, SCHEMA)
    assert page is not None
    assert ROWS.equals(page.rows)
    assert {"cursor": "a b", "newest": "7"} == page.notes


def test_an_empty_page_is_a_page(tmp_path: Path) -> None:
    cache = PageCache(URL, tmp_path)
    cache.write(KEY, SCHEMA.empty_table())
    page = cache.read(KEY, SCHEMA)
    assert page is not None
    assert 0 == page.rows.num_rows


def test_the_path_says_version_host_market_kind_and_time(tmp_path: Path) -> None:
    PageCache(URL, tmp_path).write(KEY, ROWS)
    expected = "v1/venue.test%3A8443/0-ETH%2FUSDC/candles-1m/20260921T1413.parquet"
    assert expected == file_of(tmp_path).relative_to(tmp_path).as_posix()


@pytest.mark.parametrize(
    "other",
    [
        PageKey(0, "BTC", "candles-1m", KEY.start_ms),  # the id is another coin's now
        PageKey(1, "ETH/USDC", "candles-1m", KEY.start_ms),
        PageKey(0, "ETH/USDC", "candles-5m", KEY.start_ms),
        PageKey(0, "ETH/USDC", "candles-1m", KEY.start_ms + 60_000),
    ],
)
def test_a_page_is_of_one_market_kind_and_time(tmp_path: Path, other: PageKey) -> None:
    PageCache(URL, tmp_path).write(KEY, ROWS)
    assert PageCache(URL, tmp_path).read(other, SCHEMA) is None
    assert PageCache("https://other.test", tmp_path).read(KEY, SCHEMA) is None


@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_a_damaged_page_is_not_there_until_it_is_written_again(
    tmp_path: Path, damage: str, warnings: list[str]
) -> None:
    cache = PageCache(URL, tmp_path)
    cache.write(KEY, ROWS)
    path = file_of(tmp_path)
    path.write_bytes({"empty": b"", "cut": path.read_bytes()[:-100], "text": b"<html>"}[damage])
    assert cache.read(KEY, SCHEMA) is None
    assert "is fetched again" in warnings[0]
    cache.write(KEY, ROWS)
    assert cache.read(KEY, SCHEMA) is not None


def test_a_flipped_bit_anywhere_never_changes_a_row(tmp_path: Path, warnings: list[str]) -> None:
    cache = PageCache(URL, tmp_path)
    cache.write(KEY, ROWS)
    path = file_of(tmp_path)
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        page = cache.read(KEY, SCHEMA)
        assert page is None or ROWS.equals(page.rows)
    assert len(content) / 7 / 2 < len(warnings)


def test_a_file_in_another_ones_place_or_of_another_shape_is_not_taken_for_it(
    tmp_path: Path, warnings: list[str]
) -> None:
    cache = PageCache(URL, tmp_path)
    cache.write(KEY, ROWS)
    other = PageKey(KEY.market_id, KEY.symbol, KEY.kind, KEY.start_ms + 60_000)
    os.link(cache.folder / KEY.path, cache.folder / other.path)
    assert cache.read(other, SCHEMA) is None
    assert cache.read(KEY, pa.schema([SCHEMA.field(0)])) is None
    assert 2 == len(warnings)


def test_a_disk_that_refuses_costs_the_cache_only(tmp_path: Path, warnings: list[str]) -> None:
    (tmp_path / "v1").write_text("a file where a folder should be")
    cache = PageCache(URL, tmp_path)
    cache.write(KEY, ROWS)
    cache.write(KEY, ROWS)
    assert 1 == len(warnings)
    assert "history is not cached" in warnings[0]


def test_nothing_is_left_beside_the_pages(tmp_path: Path) -> None:
    cache = PageCache(URL, tmp_path)
    for _ in range(3):
        cache.write(KEY, ROWS)
    assert [cache.folder / KEY.path] == [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_default_folder_is_below_the_home() -> None:
    assert Path.home() / ".qubx/cache/lighter/v1/venue.test%3A8443" == PageCache(URL).folder
