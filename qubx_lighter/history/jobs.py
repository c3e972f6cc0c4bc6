"""Jobs: candles, trades and funding of many markets into an archive, over as many runs as it takes.

The first run of a job fixes what it is: markets and range, with ``now`` as a number, are written into the manifest before
anything is fetched. Every later run of the same command goes on where the last one was, page for page, until the archive
holds what an undisturbed run would have left there, byte for byte. A job that is complete may be extended to a later
stop: closed periods stay as they are.

Trades can only be had newest first, and every page names the next. So they are fetched from the newest on for all days
in one go, and each page goes into the journals of its days, together with the way on.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Protocol

from loguru import logger

from qubx_lighter import archive
from qubx_lighter.archive import Dataset, DatasetEntry, Manifest, MarketEntry, Part, iso
from qubx_lighter.constants import Code
from qubx_lighter.errors import ConfigurationError, TransportError, VenueError
from qubx_lighter.history.pages import TRADE_TIME_SLACK_MS, TradePage, executed_us
from qubx_lighter.history.tables import signed_rate
from qubx_lighter.part_journal import Journal, journal_path, remove_journals
from qubx_lighter.protocol import wire

_CANDLES_A_PAGE: Final = 2_000  # four requests, which the history makes at a time
_FUNDINGS_A_PAGE: Final = 720
_SETTLED_MS: Final = 60_000  # "now" is a minute ago: by then everything before it can be read
_BEGINNING_MS: Final = -(10**15)
_WAITS_S: Final = (5.0, 15.0, 30.0, 60.0, 60.0, 60.0, 60.0, 60.0)  # while the venue is away or refuses for its limits
_BUSY: Final = (Code.TOO_MANY_REQUESTS, Code.INTERNAL_ERROR)
_BAD_REQUEST: Final = 400
_SERVER_ERROR: Final = 500


class History(Protocol):
    """What a download needs of the venue's history."""

    async def candles(self, market_id: int, resolution: str, start_ms: int, end_ms: int) -> Sequence[wire.CandleRow]:
        """Fetch all candles that open in [start, end)."""

    async def fundings(self, market_id: int, start_ms: int, end_ms: int) -> Sequence[wire.FundingRow]:
        """Fetch all settlements in [start, end)."""

    def trade_pages(self, market_id: int, *, cursor: str | None = None) -> AsyncIterator[TradePage]:
        """Page back from the newest trade, or from where a cursor leads."""


@dataclass(frozen=True, slots=True)
class Target:
    """A market to download.

    Attributes:
        symbol: ``SWAP:BTC-USDC``.
        market_id: the venue's.
        rules: the venue's row of the market.
    """

    symbol: str
    market_id: int
    rules: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks for.

    Attributes:
        dataset: the kind, and the timeframe of candles.
        targets: the markets.
        start_ms: the first time of interest.
        stop_ms: the first time beyond; None means now.
        everything: whether the markets were not named but are all that there are.
    """

    dataset: Dataset
    targets: Sequence[Target]
    start_ms: int
    stop_ms: int | None = None
    everything: bool = False


Progress = Callable[[str, float], None]
"""Takes ``SWAP:BTC-USDC`` and which share of it is there, 0 to 1."""


# --- the plan --------------------------------------------------------------------------------------------------------


def plan(request: Request, held: Manifest | None, fresh: Manifest, now_ms: int) -> Manifest:
    """Tell what the archive's manifest has to say before the work begins.

    Args:
        request: what is asked for.
        held: what the archive says; None for a new one.
        fresh: an empty one, of the venue that is asked.
        now_ms: the venue's time.

    Raises:
        ConfigurationError: the range is empty or in the future, or the archive holds something else.
    """
    dataset, grid = request.dataset, request.dataset.grid_ms
    if request.stop_ms is not None and request.stop_ms > now_ms:
        raise ConfigurationError(f"--stop {iso(request.stop_ms)} is in the future: it is {iso(now_ms)}")
    start_ms = -(-request.start_ms // grid) * grid
    stop_ms = (request.stop_ms if request.stop_ms is not None else now_ms - _SETTLED_MS) // grid * grid
    if start_ms >= stop_ms:
        raise ConfigurationError(f"nothing to download: --start {iso(request.start_ms)} is not before {iso(stop_ms)}")
    manifest = held or fresh
    if manifest.source != fresh.source:
        raise ConfigurationError(
            f"this folder holds history of {manifest.source}, not of {fresh.source}: take another --out"
        )
    job = manifest.datasets.get(dataset.name)
    if job is None:
        job = DatasetEntry(dataset.kind, dataset.timeframe, iso(start_ms), iso(stop_ms), complete=True, symbols={})
        manifest.datasets[dataset.name] = job
    else:
        stop_ms = _continued(request, job, start_ms, stop_ms)
    if job.complete and (not job.symbols or iso(stop_ms) != job.stop):
        asked = {target.symbol: MarketEntry(target.market_id) for target in request.targets}
        job.symbols = {symbol: MarketEntry(entry.market_id) for symbol, entry in job.symbols.items()} | asked
        job.stop, job.complete = iso(stop_ms), False
        for target in request.targets:
            manifest.markets.setdefault(target.symbol, dict(target.rules))
    return manifest


def _continued(request: Request, job: DatasetEntry, start_ms: int, stop_ms: int) -> int:
    """Check that a request goes on with a job; tell up to when."""
    name, hint = job.dataset.name, "repeat its command, take another --out, or --overwrite it"
    if job.start != iso(start_ms):
        raise ConfigurationError(f"{name} here begins at {job.start}, not at {iso(start_ms)}: {hint}")
    wanted = {target.symbol for target in request.targets}
    if wanted != job.symbols.keys() and not request.everything:
        other = ", ".join(sorted(wanted ^ job.symbols.keys()))
        raise ConfigurationError(f"{name} here is of other markets ({other}): {hint}")
    held_ms = archive.from_iso(job.stop)
    if not job.complete and request.stop_ms is None:
        return held_ms
    if stop_ms == held_ms or (job.complete and stop_ms > held_ms):
        return stop_ms
    state = "complete" if job.complete else "not complete"
    raise ConfigurationError(f"{name} here is {state} and ends at {job.stop}, not at {iso(stop_ms)}: {hint}")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep an archive for this process; the folder is made where it is missing.

    Raises:
        ConfigurationError: it cannot be written, or another process has it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigurationError(f"another download is at work in {folder}") from error
            yield
    except OSError as error:
        raise ConfigurationError(f"cannot write to {folder}: {error.strerror or error}") from error


# --- the work --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Job:
    """The work of one job, market by market.

    Attributes:
        folder: of the archive, locked.
        manifest: as ``plan`` made it.
        dataset: which of the manifest's.
        history: the venue's.
        progress: hears how far it is.
        sleep: pauses for seconds, while the venue is away.
    """

    folder: Path
    manifest: Manifest
    dataset: Dataset
    history: History
    progress: Progress = lambda _symbol, _share: None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _job: DatasetEntry = field(init=False)
    _start_ms: int = field(init=False)
    _stop_ms: int = field(init=False)

    def __post_init__(self) -> None:
        self._job = self.manifest.datasets[self.dataset.name]
        self._start_ms, self._stop_ms = archive.from_iso(self._job.start), archive.from_iso(self._job.stop)

    async def run(self) -> AsyncIterator[tuple[str, MarketEntry]]:
        """Fetch what is missing; give each market when it is complete.

        Raises:
            LighterError: the venue refuses, or is away for minutes; what was fetched is kept.
            OSError: the disk refuses.
        """
        if not self._job.complete:
            archive.write_manifest(self.folder, self.manifest)
        for symbol in list(self._job.symbols):
            if not self._job.symbols[symbol].complete:
                await self._fetch(symbol, self._job.symbols[symbol].market_id)
            yield symbol, self._job.symbols[symbol]
        if not self._job.complete:
            self._job.complete = True
            archive.write_manifest(self.folder, self.manifest)

    async def _fetch(self, symbol: str, market_id: int) -> None:
        """Make all parts of a market, then describe them."""
        parts = archive.parts(self.dataset, self._start_ms, self._stop_ms)
        todo = [part for part in parts if not self._done(symbol, market_id, part)]
        self._report(symbol, todo[0].start_ms if todo else self._stop_ms)
        if self.dataset.kind == "trades":
            await self._walk(symbol, market_id, todo[::-1])
        else:
            for part in todo:
                await self._fill(symbol, market_id, part)
        remove_journals(self.folder, self.dataset, symbol)
        files = [archive.part_path(self.folder, self.dataset, symbol, part.name) for part in parts]
        entry = archive.describe(self.dataset, self._start_ms, self._stop_ms, files, market_id)
        entry.complete = True
        self._job.symbols[symbol] = entry
        archive.write_manifest(self.folder, self.manifest)

    def _label(self, symbol: str, market_id: int, part: Part) -> dict[str, Any]:
        return archive.label(self.manifest.source, self.dataset, symbol, market_id, part)

    def _done(self, symbol: str, market_id: int, part: Part) -> bool:
        path = archive.part_path(self.folder, self.dataset, symbol, part.name)
        return archive.read_label(path) == self._label(symbol, market_id, part)

    def _journal(self, symbol: str, market_id: int, part: Part) -> Journal:
        path = journal_path(self.folder, self.dataset, symbol, part.name)
        return Journal(path, self._label(symbol, market_id, part))

    def _finish(self, symbol: str, market_id: int, part: Part, rows: Sequence[Sequence[Any]], journal: Journal) -> None:
        path = archive.part_path(self.folder, self.dataset, symbol, part.name)
        columns = list(zip(*rows, strict=True)) or [()] * len(archive.SCHEMAS[self.dataset.kind])
        archive.write_part(path, self.dataset, columns, self._label(symbol, market_id, part))
        journal.remove()

    def _report(self, symbol: str, reached_ms: int) -> None:
        self.progress(symbol, (reached_ms - self._start_ms) / (self._stop_ms - self._start_ms))

    # --- candles and funding: forward, window by window --------------------------------------------------------------

    async def _fill(self, symbol: str, market_id: int, part: Part) -> None:
        """Make one part."""
        journal = self._journal(symbol, market_id, part)
        size = _CANDLES_A_PAGE if self.dataset.kind == "ohlc" else _FUNDINGS_A_PAGE
        at = journal.pages[-1]["to"] if journal.pages else part.start_ms
        while at < part.stop_ms:
            end = min(at + size * self.dataset.grid_ms, part.stop_ms)
            rows = await self._patiently(partial(self._window, market_id, at, end))
            journal.append({"to": end, "rows": rows})
            at = end
            self._report(symbol, at)
        rows = [row for page in journal.pages for row in page["rows"]]
        self._finish(symbol, market_id, part, rows, journal)

    async def _window(self, market_id: int, start_ms: int, stop_ms: int) -> list[list[Any]]:
        if self.dataset.kind == "ohlc":
            candles = await self.history.candles(market_id, self.dataset.timeframe, start_ms, stop_ms)
            return [[row.t, row.o, row.h, row.l, row.c, row.v, row.V] for row in candles]
        fundings = await self.history.fundings(market_id, start_ms, stop_ms)
        return [[row.timestamp * 1000, signed_rate(row), 1.0] for row in fundings]

    # --- trades: backward, page by page ------------------------------------------------------------------------------

    async def _walk(self, symbol: str, market_id: int, todo: list[Part]) -> None:
        """Make the parts, newest first, on one way back in time."""
        journals = _Journals(lambda part: self._journal(symbol, market_id, part))
        while todo:
            pages = journals[todo[0]].pages
            page = await self._page(market_id, pages[-1]["cursor"] if pages else None)
            oldest_ms = min((row.timestamp for row in page.rows), default=0) if page.cursor else _BEGINNING_MS
            rows = [_trade(row) for row in page.rows]
            for part in reversed(todo):  # the newest last: its journal has the way on, past what the others must hold
                mine = [row for row in rows if part.start_ms * 10**6 <= row[0] < part.stop_ms * 10**6]
                if part is todo[0]:
                    journals[part].append({"cursor": page.cursor, "rows": mine})
                elif mine:
                    journals[part].append({"cursor": page.cursor, "rows": mine}, durable=True)
            while todo and oldest_ms < todo[0].start_ms - TRADE_TIME_SLACK_MS:
                if len(todo) > 1:  # the way on must be known before the part that knew it is gone
                    journals[todo[1]].append({"cursor": page.cursor, "rows": []}, durable=True)
                part = todo.pop(0)
                found = {row[4]: row for seen in journals[part].pages for row in seen["rows"]}
                self._finish(symbol, market_id, part, _in_order(found.values()), journals.pop(part))
            self._report(symbol, self._stop_ms + self._start_ms - max(oldest_ms, self._start_ms))

    async def _page(self, market_id: int, cursor: str | None) -> TradePage:
        """Fetch one page; from the newest trade again where the venue no longer knows the way on."""

        async def fetch(way: str | None) -> TradePage:
            return await anext(aiter(self.history.trade_pages(market_id, cursor=way)))

        try:
            return await self._patiently(lambda: fetch(cursor))
        except VenueError as error:
            if cursor is None or error.status != _BAD_REQUEST:
                raise
            logger.warning("the venue refuses to go on where the last run stopped: {}", str(error))
            return await self._patiently(lambda: fetch(None))

    # --- patience ----------------------------------------------------------------------------------------------------

    async def _patiently[T](self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask; wait and ask again while the venue is away, for minutes."""
        for pause_s in _WAITS_S:
            try:
                return await ask()
            except (TransportError, VenueError) as error:
                if isinstance(error, VenueError) and error.code not in _BUSY and error.status < _SERVER_ERROR:
                    raise
                logger.warning("waiting {:.0f} s: {}", pause_s, str(error))
                await self.sleep(pause_s)
        return await ask()


class _Journals(dict[Part, Journal]):
    """Journals of parts, opened when they are needed: a year has many days."""

    def __init__(self, open_: Callable[[Part], Journal]) -> None:
        super().__init__()
        self._open = open_

    def __missing__(self, part: Part) -> Journal:
        self[part] = self._open(part)
        return self[part]


def _trade(row: wire.TradeRow) -> list[Any]:
    return [executed_us(row) * 1000, row.price, row.size, 1 if row.is_maker_ask else -1, row.trade_id, row.type]


def _in_order(rows: Iterable[list[Any]]) -> list[list[Any]]:
    """Sort trades by time; of trades of one microsecond each is a nanosecond later, so that times are unique."""
    ordered = sorted(rows, key=lambda row: (row[0], row[4]))
    for before, row in pairwise(ordered):
        row[0] = max(row[0], before[0] + 1)
    return ordered
