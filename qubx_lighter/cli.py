"""The command line: ``qubx-lighter sim``, ``instruments``, ``download`` and ``record``.

What a command needs is imported when it runs, so that ``--help`` does not wait for Qubx.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from qubx_lighter import __version__
from qubx_lighter.errors import LighterError

if TYPE_CHECKING:
    from qubx_lighter.instruments import LighterInstrumentLoader
    from qubx_lighter.markets import Market

_DEFAULT_PORT = 8765


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="qubx-lighter")
def main() -> None:
    """Tools for the Lighter connector of Qubx."""
    logging.getLogger("stamina").addHandler(logging.NullHandler())  # of retries the last one's error is told


@main.command()
@click.option(
    "--port", default=_DEFAULT_PORT, show_default=True, help="Port of REST and WebSocket; 0 takes a free one."
)
@click.option(
    "--markets",
    default="",
    metavar="BTC,ETH,...",
    help="Markets to open: perpetuals by base, spot as ETH/USDC, or how many; all known perpetuals if left out.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the synthetic market: equal seeds, equal markets.")
@click.option(
    "--replay",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    callback=lambda _context, _option, paths: _recorded(paths),
    help="Play recordings or captured frames (JSONL, also .gz) in place of the synthetic market; may be given several "
    "times. The name that was given to `record --out` stands for all files of a rotated recording.",
)
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    help="Speed of --replay: 1 as captured, 10 ten times it, 0 without pauses.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="Keep the venue's state in this file, and start from it if it is there.",
)
@click.option(
    "--accounts-out", type=click.Path(path_type=Path), help="Also write the printed accounts.toml to this file."
)
@click.option("--collateral", default=10_000.0, show_default=True, help="What the account is funded with.")
@click.option("--assets", default="", metavar="ETH=2,USDC=5000", help="Spot balances that the account is funded with.")
@click.option(
    "--tier",
    type=click.Choice(["standard", "premium"]),
    default="premium",
    show_default=True,
    help="Of the account: a standard one trades without fees.",
)
@click.option(
    "--history",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="DAYS",
    help="How long ago the markets were listed: they have candles, trades and funding since.",
)
@click.option(
    "--faults",
    default="",
    metavar="SPEC",
    help='What goes wrong on purpose, as "refuse where=14 code=21739 every=50; swallow every=100"; '
    "qubx_lighter/sim/faults.py lists all.",
)
@click.option(
    "--limits",
    is_flag=True,
    help="Enforce the venue's limits for an account of its tier; set params.account_tier to the same to be paced.",
)
def sim(
    *,
    port: int,
    markets: str,
    seed: int,
    replay: tuple[Path, ...],
    speed: float,
    state: Path | None,
    accounts_out: Path | None,
    collateral: float,
    tier: str,
    assets: str,
    history: float,
    faults: str,
    limits: bool,
) -> None:
    """Run a local Lighter venue with a funded account, until Ctrl-C."""
    from qubx_lighter.signer import generate_api_key  # noqa: PLC0415 - see the module's docstring
    from qubx_lighter.sim.app import run  # noqa: PLC0415
    from qubx_lighter.sim.faults import parse  # noqa: PLC0415

    try:
        run(
            port=port,
            markets=[name.strip().upper() for name in markets.split(",") if name.strip()],
            seed=seed,
            replay=list(replay),
            speed=speed,
            state=state,
            accounts_out=accounts_out,
            collateral=collateral,
            tier=tier,
            assets=_amounts(assets),
            history_days=history,
            faults=parse(faults),
            enforce=limits,
            generate_api_key=generate_api_key,
        )
    except (LighterError, OSError) as error:
        raise click.ClickException(str(error)) from error


_network = click.option(
    "--network", help="mainnet, testnet, robinhood or robinhood-testnet; LIGHTER_NETWORK or mainnet if left out."
)
_base_url = click.option("--base-url", help="Another venue, for example http://127.0.0.1:8765.")
_symbols = click.option(
    "--symbols", required=True, metavar="BTC-USDC,...", help="Markets, as BTC-USDC or SPOT:ETH-USDC, or all."
)


@main.command()
@click.argument("kind", type=click.Choice(["ohlc", "trades", "funding"]))
@_symbols
@click.option("--start", required=True, metavar="TIME", help="The first time, UTC: 2026-10-01 or 2026-10-01T12:00.")
@click.option("--stop", default="now", show_default=True, metavar="TIME", help="The first time beyond.")
@click.option("--timeframe", default="1m", show_default=True, help="Of candles: 1m 5m 15m 30m 1h 4h 12h 1d.")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The folder of the archive; several kinds and timeframes may share one.",
)
@click.option(
    "--requests-per-minute",
    type=click.IntRange(min=1),
    help="What the venue allows you; if left out, what it allows anyone.",
)
@click.option("--overwrite", is_flag=True, help="Forget what DIR holds of this kind and timeframe.")
@_network
@_base_url
def download(
    *,
    kind: Literal["ohlc", "trades", "funding"],
    symbols: str,
    start: str,
    stop: str,
    timeframe: str,
    out: Path,
    requests_per_minute: int | None,
    overwrite: bool,
    network: str | None,
    base_url: str | None,
) -> None:
    """Download history to Parquet; run the same command again to go on after an interruption.

    Trades come newest first, 4,000 a minute, whatever --start and --stop are: those of last month take a while.
    """
    from qubx_lighter.history.download import download as start_download  # noqa: PLC0415 - see the module's docstring

    try:
        start_download(
            kind=kind,
            symbols=symbols,
            start=start,
            stop=stop,
            timeframe=timeframe,
            folder=out,
            overwrite=overwrite,
            params=_given(network=network, base_url=base_url, requests_per_minute=requests_per_minute),
        )
    except (LighterError, OSError) as error:
        raise click.ClickException(str(error)) from error


@main.command()
@_symbols
@click.option(
    "--channels",
    default="order_book,trade,ticker,market_stats",
    show_default=True,
    help="Of order_book, trade, ticker, market_stats, candle and mark_price_candle; candle/5m for another resolution than 1m.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A file that is not there yet, as frames.jsonl.gz; with rotation its files are frames.0000.jsonl.gz, ..., and the "
    "same command goes on after those that are there.",
)
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Stop after so many seconds.")
@click.option("--max-mb", type=click.FloatRange(min=0, min_open=True), help="Begin another file at this size.")
@click.option("--rotate-s", type=click.FloatRange(min=0, min_open=True), help="Begin another file at this age.")
@_network
@_base_url
def record(
    *,
    symbols: str,
    channels: str,
    out: Path,
    duration: float | None,
    max_mb: float | None,
    rotate_s: float | None,
    network: str | None,
    base_url: str | None,
) -> None:
    """Record frames as they are received, until Ctrl-C; play them with ``qubx-lighter sim --replay FILE``."""
    from qubx_lighter.recorder import record as start_recording  # noqa: PLC0415 - see the module's docstring

    try:
        start_recording(
            symbols=symbols,
            channels=channels,
            path=out,
            duration_s=duration,
            max_bytes=None if max_mb is None else round(max_mb * 10**6),
            rotate_s=rotate_s,
            params=_given(network=network, base_url=base_url),
        )
    except (LighterError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _amounts(text: str) -> dict[str, float]:
    """Read ``ETH=2,USDC=5000``."""
    amounts: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        symbol, _, amount = part.partition("=")
        try:
            amounts[symbol.strip().upper()] = float(amount)
        except ValueError:
            raise click.BadParameter(f"{part} is not an asset and its amount, as ETH=2") from None
    return amounts


def _recorded(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Check that there is something to play."""
    from qubx_lighter.recording import files_of  # noqa: PLC0415 - see the module's docstring

    for path in paths:
        if not files_of(path):
            raise click.BadParameter(f"{path} does not exist")
    return paths


def _given[T](**params: T | None) -> dict[str, T]:
    return {name: value for name, value in params.items() if value is not None}


@main.command()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="The lookup folder; Qubx's own (~/.qubx/instruments) if left out.",
)
@_network
@_base_url
@click.option("--symbol-format", help="BASE-QUOTE or BASEQUOTE.")
@click.option("--no-write", is_flag=True, help="Only list, leave the lookup file alone.")
def instruments(
    *, folder: Path | None, network: str | None, base_url: str | None, symbol_format: str | None, no_write: bool
) -> None:
    """List the venue's markets, and refresh the file from which Qubx knows them."""
    try:
        loader = _load(_given(network=network, base_url=base_url, symbol_format=symbol_format))
        for line in _table(loader.markets):
            click.echo(line)
        skipped = ", ".join(f"{count} {kind}" for kind, count in sorted(loader.skipped.items()))
        click.echo(
            f"\n{len(loader.instruments)} of {len(loader.markets)} markets are active; skipped: {skipped or 'none'}"
        )
        if not no_write:
            from qubx_lighter.lookup import write_file  # noqa: PLC0415 - see the module's docstring

            click.echo(f"wrote {write_file(loader.instruments, folder)}")
    except LighterError as error:
        raise click.ClickException(str(error)) from error


def _load(params: dict[str, str]) -> LighterInstrumentLoader:
    from qubx_lighter.client import LighterClient  # noqa: PLC0415 - see the module's docstring
    from qubx_lighter.instruments import LighterInstrumentLoader  # noqa: PLC0415
    from qubx_lighter.settings import LighterSettings  # noqa: PLC0415

    settings = LighterSettings.build(params)

    async def load() -> LighterInstrumentLoader:
        client = LighterClient(settings.base_url, timeout=settings.rest_timeout_s)
        try:
            loader = LighterInstrumentLoader(
                client, symbol_format=settings.symbol_format, collateral=settings.collateral
            )
            await loader.load()
            return loader
        finally:
            await client.close()

    return asyncio.run(load())


_HEADER = ("symbol", "type", "id", "tick", "lot", "min size", "min notional", "leverage", "status")
_LEFT = ("symbol", "type", "status")


def _table(markets: list[Market]) -> list[str]:
    """Lay the markets out in columns, numbers to the right."""
    rows = [_HEADER, *(_row(market) for market in markets)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    align = ["<" if name in _LEFT else ">" for name in _HEADER]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(market: Market) -> tuple[str, ...]:
    scale = market.scale
    return (
        market.symbol,
        market.market_type.value,
        str(market.market_id),
        scale.format_price(1),
        scale.format_size(1),
        scale.format_size(market.min_base_lots),
        f"{market.min_quote:g}",
        f"{market.max_leverage:g}",
        market.status,
    )
