"""``qubx-lighter download``: from what was typed to the lines that are printed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from qubx_lighter import archive
from qubx_lighter.archive import Dataset, Kind, Manifest, MarketEntry, to_ms
from qubx_lighter.client import LighterClient
from qubx_lighter.constants import EXCHANGE, RESOLUTIONS
from qubx_lighter.errors import ConfigurationError
from qubx_lighter.history import selection
from qubx_lighter.history.jobs import Job, Progress, Request, Target, locked, plan
from qubx_lighter.history.pages import LighterHistory
from qubx_lighter.pacing import rest_pace
from qubx_lighter.settings import LighterSettings

_RULES: Final = (
    "market_id",
    "symbol",
    "market_type",
    "status",
    "supported_size_decimals",
    "supported_price_decimals",
    "min_base_amount",
    "min_quote_amount",
    "created_at",
    "default_initial_margin_fraction",
    "min_initial_margin_fraction",
    "maintenance_margin_fraction",
)
"""What the manifest keeps of a market's row: rules, no prices."""


def download(
    *,
    kind: Kind,
    symbols: str,
    start: str,
    stop: str,
    timeframe: str,
    folder: Path,
    overwrite: bool,
    params: Mapping[str, str | int],
) -> None:
    """Download what was typed, with a progress bar on a terminal, and a line for each market.

    Raises:
        LighterError: it makes no sense, or the venue or the disk refuses.
    """
    if kind == "ohlc" and timeframe not in RESOLUTIONS:
        raise ConfigurationError(f"the venue has no candles of {timeframe!r} (known: {', '.join(RESOLUTIONS)})")
    order = Order(
        dataset=Dataset(kind, timeframe if kind == "ohlc" else ""),
        symbols=selection.split(symbols),
        start_ms=_time("--start", start),
        stop_ms=None if stop == "now" else _time("--stop", stop),
        folder=folder,
        overwrite=overwrite,
    )
    if order.stop_ms is not None and order.stop_ms <= order.start_ms:
        raise ConfigurationError(f"--stop {stop} is not after --start {start}")
    settings = LighterSettings.build(params)
    try:
        with _screen() as (progress, echo):
            asyncio.run(run(order, settings, progress=progress, result=lambda *what: echo(_summary(*what))))
    except KeyboardInterrupt:
        raise ConfigurationError("interrupted: the same command goes on from here") from None


def _time(option: str, text: str) -> int:
    """Read a time, UTC where it says nothing else, as ms since the epoch."""
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigurationError(f"{option} {text!r} is not a time such as 2026-10-01 or 2026-10-01T12:00") from None
    return to_ms(at if at.tzinfo else at.replace(tzinfo=UTC))


def _summary(symbol: str, entry: MarketEntry) -> str:
    held = f"{entry.rows:,} rows" + (f", {entry.first} to {entry.last}" if entry.rows else "")
    ranges = f"{len(entry.gaps):,} gap{'s' if len(entry.gaps) > 1 else ''}"
    return f"{EXCHANGE}:{symbol}  {held}, {f'{entry.missing:,} missing in {ranges}' if entry.gaps else 'no gaps'}"


@contextlib.contextmanager
def _screen() -> Iterator[tuple[Progress, Callable[[str], None]]]:
    """Show bars on a terminal, and the lines after them; elsewhere only lines, as they come."""
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _symbol, _share: None, click.echo
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    lines: list[str] = []
    try:
        with Progress(*columns, console=console, redirect_stdout=False) as bars:
            tasks: dict[str, TaskID] = {}

            def show(symbol: str, share: float) -> None:
                if symbol not in tasks:
                    tasks[symbol] = bars.add_task(symbol, total=1.0)
                bars.update(tasks[symbol], completed=share)

            yield show, lines.append
    finally:
        for line in lines:
            click.echo(line)


# --- a run ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """What a user typed, checked as far as that goes without the venue."""

    dataset: Dataset
    symbols: Sequence[str]
    start_ms: int
    stop_ms: int | None
    folder: Path
    overwrite: bool = False


async def run(
    order: Order, settings: LighterSettings, *, progress: Progress, result: Callable[[str, MarketEntry], None]
) -> None:
    """Do what is asked, or go on with it.

    Args:
        order: what.
        settings: of which venue.
        progress: hears how far a market is.
        result: hears what there is of a market, once that is complete.

    Raises:
        LighterError: a request makes no sense, or the venue or the disk refuses.
    """
    pace = rest_pace(settings.base_url, requests=settings.requests_per_minute, paced=settings.account_tier is not None)
    client = LighterClient(settings.base_url, timeout=settings.rest_timeout_s, pace=pace)
    try:
        request, now_ms = await _ask(order, settings, client)

        def planned() -> Manifest:
            fresh = Manifest(client.base_url, settings.collateral)
            held = archive.read_manifest(order.folder)
            if held is not None and order.overwrite:
                held.datasets.pop(order.dataset.name, None)
            return plan(request, held, fresh, now_ms)

        planned()  # what makes no sense leaves no trace on the disk
        with locked(order.folder):
            manifest = planned()
            if order.overwrite:
                archive.remove(order.folder, order.dataset)
            history = LighterHistory(client)
            async for symbol, entry in Job(order.folder, manifest, order.dataset, history, progress).run():
                result(symbol, entry)
    finally:
        await client.close()


async def _ask(order: Order, settings: LighterSettings, client: LighterClient) -> tuple[Request, int]:
    """Ask the venue for its markets and its time."""
    rules = dict(await selection.listed(client, settings))
    types = ("SWAP",) if order.dataset.kind == "funding" else ("SWAP", "SPOT")
    targets = [
        Target(selection.name(market), market.market_id, {key: getattr(rules[market], key) for key in _RULES})
        for market in selection.choose(order.symbols, rules, types=types)
    ]
    request = Request(order.dataset, targets, order.start_ms, order.stop_ms, everything=selection.is_all(order.symbols))
    venue_ms = (await client.status()).timestamp * 1000
    local_ms = time.time_ns() // 10**6
    return request, min(local_ms, venue_ms) if venue_ms else local_ms  # a clock ahead would take the forming candle
