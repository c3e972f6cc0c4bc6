"""Jobs: the plan of a request, the same bytes after any interruption, patience with the venue."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from qubx_lighter import archive
from qubx_lighter.archive import Dataset, Manifest, from_iso
from qubx_lighter.errors import ConfigurationError, TransportError, VenueError
from qubx_lighter.history.jobs import Job, Request, Target, locked, plan
from qubx_lighter.history.pages import TradePage
from qubx_lighter.part_journal import Journal
from qubx_lighter.protocol.wire import CandleRow, FundingRow, TradeRow

VENUE = "http://venue.test"
NOW = from_iso("2026-10-05T12:00:30Z")
MINUTES, TRADES, FUNDING = Dataset("ohlc", "1m"), Dataset("trades"), Dataset("funding")
BTC = Target("SWAP:BTC-USDC", 1, {"market_id": 1, "symbol": "BTC"})
ETH = Target("SWAP:ETH-USDC", 0, {"market_id": 0, "symbol": "ETH"})
STARTS = {MINUTES: "2026-09-29T00:00:00Z", TRADES: "2026-10-01T10:00:00Z", FUNDING: "2026-07-01T00:00:00Z"}
TRADE_STEP_MS = 7_000_000


class InterruptionError(Exception):
    pass


class FakeHistory:
    """A venue with a candle each minute but those that a multiple of 97 numbers, and a trade every two hours."""

    def __init__(self, end: int | None = None) -> None:
        self.left = end
        self.asked: list[tuple[Any, ...]] = []
        first = from_iso("2026-09-20T00:00:00Z")
        self.trades = [
            TradeRow(
                1000 + number,
                1,
                100.0 + number,
                0.5,
                number % 3 == 0,
                at + number % 5 * 1000,
                transaction_time=at * 1000 + 7,
                type="liquidation" if number == 9 else "trade",
            )
            for number, at in enumerate(range(first, NOW, TRADE_STEP_MS))
        ]

    def _ask(self, *what: Any) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise InterruptionError
        self.asked.append(what)

    async def candles(self, market_id: int, resolution: str, start_ms: int, end_ms: int) -> list[CandleRow]:
        self._ask("candles", market_id, start_ms, end_ms)
        opens = range(start_ms, end_ms, 60_000)
        return [CandleRow(t, 1.0, 2.0, 0.5, t / 1e9, 3.0, 4.0) for t in opens if t // 60_000 % 97]

    async def fundings(self, market_id: int, start_ms: int, end_ms: int) -> list[FundingRow]:
        self._ask("fundings", market_id, start_ms, end_ms)
        hours = range(start_ms, end_ms, archive.HOUR_MS)
        return [FundingRow(t // 1000, 0.02, 0.0012, "long" if t % 2 == 0 else "short") for t in hours]

    async def trade_pages(self, market_id: int, *, cursor: str | None = None) -> AsyncIterator[TradePage]:
        newest_first = sorted(self.trades, key=lambda row: -row.timestamp)
        at = int(cursor) if cursor else 0
        while True:
            self._ask("trades", market_id, at)
            rows = newest_first[at : at + 5]
            at += 5
            yield TradePage(rows, str(at) if at < len(newest_first) else None)
            if at >= len(newest_first):
                return


def request(
    dataset: Dataset, *targets: Target, start: str = "2026-09-28T00:00:00Z", stop: str | None = None
) -> Request:
    return Request(dataset, targets or (BTC,), from_iso(start), from_iso(stop) if stop else None)


async def work(folder: Path, wanted: Request, history: FakeHistory, now_ms: int = NOW) -> dict[str, Any]:
    manifest = plan(wanted, archive.read_manifest(folder), Manifest(VENUE, "USDC"), now_ms)
    with locked(folder):
        job = Job(folder, manifest, wanted.dataset, history)
        return {symbol: entry async for symbol, entry in job.run()}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


async def undisturbed(folder: Path, wanted: Request) -> tuple[dict[str, bytes], int]:
    history = FakeHistory()
    await work(folder, wanted, history)
    return tree(folder), len(history.asked)


# --- interruptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", [MINUTES, TRADES, FUNDING])
async def test_after_an_interruption_at_any_request_the_bytes_are_those_of_an_undisturbed_run(
    tmp_path: Path, dataset: Dataset
) -> None:
    wanted = request(dataset, BTC, ETH, start=STARTS[dataset])
    expected, requests = await undisturbed(tmp_path / "whole", wanted)
    assert 3 <= requests
    for end in range(requests):
        folder = tmp_path / str(end)
        with pytest.raises(InterruptionError):
            await work(folder, wanted, FakeHistory(end))
        again = FakeHistory()
        later = NOW + 3_600_000
        await work(folder, wanted, again, later)
        assert expected == tree(folder)
        assert requests - end == len(again.asked), "something was fetched twice"


@pytest.mark.parametrize("dataset", [MINUTES, TRADES, FUNDING])
async def test_many_interruptions_are_as_good_as_one(tmp_path: Path, dataset: Dataset) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    wanted = request(dataset, BTC, ETH, start=STARTS[dataset])
    expected, _ = await undisturbed(tmp_path / "whole", wanted)
    for _ in range(1000):
        try:
            await work(tmp_path / "b", wanted, FakeHistory(chance.randrange(3)))
            break
        except InterruptionError:
            journals = sorted((tmp_path / "b").rglob("*.jsonl"))
            if journals and chance.random() < 0.2:  # a crash of the machine loses the end of the newest
                whole = journals[-1].read_bytes()
                journals[-1].write_bytes(whole[: len(whole) - chance.randrange(30)])
    else:
        pytest.fail("it does not get on")
    assert expected == tree(tmp_path / "b")


@pytest.mark.parametrize("dataset", [MINUTES, TRADES, FUNDING])
async def test_after_a_kill_at_any_write_the_bytes_are_those_of_an_undisturbed_run(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends right after the n-th change on the disk."""
    left = 10**6

    def ending(write: Any) -> Any:
        def then_end(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            write(*arguments, **options)
            left -= 1
            if left == 0:
                raise InterruptionError

        return then_end

    for owner, name in ((Journal, "append"), (Journal, "remove"), (archive, "write_part"), (archive, "write_manifest")):
        monkeypatch.setattr(owner, name, ending(getattr(owner, name)))
    wanted = request(dataset, BTC, ETH, start=STARTS[dataset])
    expected, _ = await undisturbed(tmp_path / "whole", wanted)
    for end in range(1, 10**6 - left + 1):
        left = end
        with pytest.raises(InterruptionError):
            await work(tmp_path / str(end), wanted, FakeHistory())
        left = 10**6
        await work(tmp_path / str(end), wanted, FakeHistory())
        assert expected == tree(tmp_path / str(end)), f"after write {end}"


async def test_nothing_is_called_complete_before_it_is_there(tmp_path: Path) -> None:
    wanted = request(MINUTES, BTC, ETH)
    with pytest.raises(InterruptionError):
        await work(tmp_path, wanted, FakeHistory(7))
    manifest = archive.read_manifest(tmp_path)
    assert manifest is not None
    job = manifest.datasets["ohlc_1m"]
    assert (False, True, False) == (
        job.complete,
        job.symbols["SWAP:BTC-USDC"].complete,
        job.symbols["SWAP:ETH-USDC"].complete,
    )


# --- what is in it ----------------------------------------------------------------------------------------------------


async def test_candles_are_all_that_the_venue_has_and_the_rest_is_named(tmp_path: Path) -> None:
    entry = (await work(tmp_path, request(MINUTES), FakeHistory()))["SWAP:BTC-USDC"]
    first, stop = from_iso("2026-09-28T00:00:00Z"), from_iso("2026-10-05T11:59:00Z")  # a minute ago, no forming candle
    opens = range(first, stop, 60_000)
    assert [t for t in opens if t // 60_000 % 97] == times(tmp_path, MINUTES)
    assert len(opens) == entry.rows + entry.missing
    assert [t for t in opens if t // 60_000 % 97 == 0] == [from_iso(gap[0]) for gap in entry.gaps]
    assert ("2026-09-28T00:00:00Z", "2026-10-05T11:58:00Z") == (entry.first, entry.last)


async def test_trades_are_those_executed_in_the_range_oldest_first(tmp_path: Path) -> None:
    start, stop = from_iso("2026-09-28T05:00:00Z"), from_iso("2026-10-02T00:00:00Z")
    wanted = request(TRADES, start="2026-09-28T05:00:00Z", stop="2026-10-02T00:00:00Z")
    history = FakeHistory()
    await work(tmp_path, wanted, history)
    rows = [row for row in history.trades if start <= row.transaction_time / 1000 < stop]
    assert [row.transaction_time // 1000 for row in rows] == times(tmp_path, TRADES)
    files = archive.part_files(tmp_path, TRADES, "SWAP:BTC-USDC")
    assert ["2026-09-28", "2026-09-29", "2026-09-30", "2026-10-01"] == [file.stem for file in files]
    table = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
    assert [(row.price, row.size, 1 if row.is_maker_ask else -1, row.trade_id, row.type) for row in rows] == [
        (row["price"], row["size"], row["side"], row["id"], row["type"]) for row in table
    ]


async def test_trades_of_one_microsecond_keep_their_order_and_differ(tmp_path: Path) -> None:
    history = FakeHistory()
    at = history.trades[-4].transaction_time
    for row in history.trades[-4:-1]:
        row.transaction_time = at
    await work(tmp_path, request(TRADES, stop="2026-10-05T12:00:00Z"), history)
    table = pq.ParquetFile(archive.part_files(tmp_path, TRADES, "SWAP:BTC-USDC")[-1]).read()
    ids = [row.trade_id for row in history.trades[-4:-1]]
    found = {row["id"]: row["timestamp"].value for row in table.to_pylist()}
    assert [at * 1000, at * 1000 + 1, at * 1000 + 2] == [found[number] for number in ids]


async def test_days_before_the_first_trade_are_empty_parts(tmp_path: Path) -> None:
    entry = (await work(tmp_path, request(TRADES, start="2026-09-17T00:00:00Z"), FakeHistory()))["SWAP:BTC-USDC"]
    assert (3, [("2026-09-17T00:00:00Z", "2026-09-20T00:00:00Z")]) == (entry.missing, entry.gaps)
    assert 19 == len(archive.part_files(tmp_path, TRADES, "SWAP:BTC-USDC"))


async def test_funding_rates_are_fractions_signed_for_longs(tmp_path: Path) -> None:
    await work(tmp_path, request(FUNDING, start="2026-10-01T00:00:00Z", stop="2026-10-02T00:00:00Z"), FakeHistory())
    table = pq.ParquetFile(archive.part_files(tmp_path, FUNDING, "SWAP:BTC-USDC")[0]).read()
    assert 24 == table.num_rows
    assert {0.0012 / 100} == set(table["funding_rate"].to_pylist())
    assert {1.0} == set(table["funding_interval_hours"].to_pylist())


def times(folder: Path, dataset: Dataset, symbol: str = "SWAP:BTC-USDC") -> list[int]:
    files = archive.part_files(folder, dataset, symbol)
    columns = [pq.ParquetFile(file).read()["timestamp"] for file in files]
    return [t for one in columns for t in one.cast("timestamp[ms]", safe=False).cast("int64").to_pylist()]


# --- requests that differ ---------------------------------------------------------------------------------------------


async def test_now_is_fixed_by_the_first_start(tmp_path: Path) -> None:
    with pytest.raises(InterruptionError):
        await work(tmp_path, request(MINUTES), FakeHistory(2))
    await work(tmp_path, request(MINUTES), FakeHistory(), NOW + archive.DAY_MS)
    assert from_iso("2026-10-05T11:58:00Z") == times(tmp_path, MINUTES)[-1]


async def test_a_complete_job_goes_on_to_a_later_stop_and_keeps_closed_months(tmp_path: Path) -> None:
    await work(tmp_path / "a", request(MINUTES), FakeHistory())
    more = FakeHistory()
    await work(tmp_path / "a", request(MINUTES), more, NOW + archive.DAY_MS)
    assert {"2026-10"} == {archive.iso(ask[2])[:7] for ask in more.asked}
    await work(tmp_path / "b", request(MINUTES), FakeHistory(), NOW + archive.DAY_MS)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


async def test_a_complete_job_is_not_fetched_again(tmp_path: Path) -> None:
    wanted = request(MINUTES, stop="2026-10-01T00:00:00Z")
    await work(tmp_path, wanted, FakeHistory())
    before = tree(tmp_path)
    again = FakeHistory()
    assert ["SWAP:BTC-USDC"] == list(await work(tmp_path, wanted, again))
    assert ([], before) == (again.asked, tree(tmp_path))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (request(MINUTES, start="2026-09-27T00:00:00Z"), "begins at 2026-09-28T00:00:00Z, not at 2026-09-27T00:00:00Z"),
        (request(MINUTES, stop="2026-09-29T00:00:00Z"), "complete and ends at 2026-10-01T00:00:00Z, not at 2026-09-29"),
        (request(MINUTES, BTC, ETH), r"of other markets \(SWAP:ETH-USDC\)"),
    ],
)
async def test_another_request_for_the_same_folder_is_refused(tmp_path: Path, changed: Request, says: str) -> None:
    await work(tmp_path, request(MINUTES, stop="2026-10-01T00:00:00Z"), FakeHistory())
    before = tree(tmp_path)
    with pytest.raises(ConfigurationError, match=says):
        await work(tmp_path, changed, FakeHistory())
    assert before == tree(tmp_path)


async def test_another_venue_for_the_same_folder_is_refused(tmp_path: Path) -> None:
    await work(tmp_path, request(MINUTES, stop="2026-10-01T00:00:00Z"), FakeHistory())
    with pytest.raises(ConfigurationError, match=r"holds history of http://venue\.test"):
        plan(request(FUNDING), archive.read_manifest(tmp_path), Manifest("http://other.test", "USDC"), NOW)


@pytest.mark.parametrize(
    ("start", "stop", "says"),
    [
        ("2026-10-01T00:00:00Z", "2026-10-06T00:00:00Z", "is in the future"),
        ("2026-10-01T00:00:10Z", "2026-10-01T00:01:50Z", "nothing to download"),
        ("2026-10-06T00:00:00Z", None, "nothing to download"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(start: str, stop: str | None, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        plan(request(MINUTES, start=start, stop=stop), None, Manifest(VENUE, "USDC"), NOW)


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(ConfigurationError, match="another download is at work"), locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot write to"), locked(tmp_path / "file"):
        pass


# --- patience ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [TransportError("gone"), VenueError(23000, "too many"), VenueError(1, "x", 503)])
async def test_a_venue_that_is_away_is_waited_for(tmp_path: Path, error: Exception) -> None:
    history, failures, pauses = FakeHistory(), [error] * 3, []
    fetch = history.candles

    async def failing(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return await fetch(*arguments)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    history.candles = failing  # type: ignore[method-assign]
    wanted = request(MINUTES, stop="2026-09-29T00:00:00Z")
    job = Job(tmp_path, plan(wanted, None, Manifest(VENUE, "USDC"), NOW), MINUTES, history, sleep=sleep)
    assert 1 == len([entry async for entry in job.run()])
    assert [5.0, 15.0, 30.0] == pauses


async def test_a_refusal_is_raised_at_once(tmp_path: Path) -> None:
    history = FakeHistory()

    async def refusing(*_: Any) -> Any:
        raise VenueError(20001, "invalid param", 400)

    history.candles = refusing  # type: ignore[method-assign]
    with pytest.raises(VenueError, match="20001"):
        await work(tmp_path, request(MINUTES), history)


async def test_a_cursor_that_the_venue_forgot_is_no_obstacle(tmp_path: Path) -> None:
    wanted = request(TRADES)
    expected, _ = await undisturbed(tmp_path / "whole", wanted)
    with pytest.raises(InterruptionError):
        await work(tmp_path / "b", wanted, FakeHistory(5))
    history = FakeHistory()
    pages = history.trade_pages

    async def forgetful(market_id: int, *, cursor: str | None = None) -> AsyncIterator[TradePage]:
        if cursor is not None and len(history.asked) == 0:
            raise VenueError(20009, "invalid cursor", 400)
        async for page in pages(market_id, cursor=cursor):
            yield page

    history.trade_pages = forgetful  # type: ignore[method-assign]
    await work(tmp_path / "b", wanted, history)
    assert expected == tree(tmp_path / "b")
