"""The command line: ``qubx-lighter sim`` and ``qubx-lighter instruments``.

What a command needs is imported when it runs, so that ``--help`` does not wait for Qubx.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qubx_lighter import __version__
from qubx_lighter.errors import LighterError

if TYPE_CHECKING:
    from qubx_lighter.instruments import LighterInstrumentLoader, Market

_DEFAULT_PORT = 8765


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="qubx-lighter")
def main() -> None:
    """Tools for the Lighter connector of Qubx."""


@main.command()
@click.option(
    "--port", default=_DEFAULT_PORT, show_default=True, help="Port of REST and WebSocket; 0 takes a free one."
)
@click.option(
    "--markets", default="", metavar="BTC,ETH,...", help="Markets to open, by base; all that there are if left out."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the synthetic market: equal seeds, equal markets.")
@click.option(
    "--replay",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Play captured frames (JSONL, also .gz) in place of the synthetic market; may be given several times.",
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
) -> None:
    """Run a local Lighter venue with a funded account, until Ctrl-C."""
    from qubx_lighter.signer import generate_api_key  # noqa: PLC0415 - see the module's docstring
    from qubx_lighter.sim.app import run  # noqa: PLC0415

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
            generate_api_key=generate_api_key,
        )
    except (LighterError, OSError) as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="The lookup folder; Qubx's own (~/.qubx/instruments) if left out.",
)
@click.option("--network", help="mainnet or testnet; LIGHTER_NETWORK or mainnet if left out.")
@click.option("--base-url", help="Another venue, for example http://127.0.0.1:8765.")
@click.option("--symbol-format", help="BASE-QUOTE or BASEQUOTE.")
@click.option("--no-write", is_flag=True, help="Only list, leave the lookup file alone.")
def instruments(
    *, folder: Path | None, network: str | None, base_url: str | None, symbol_format: str | None, no_write: bool
) -> None:
    """List the venue's markets, and refresh the file from which Qubx knows them."""
    params = {"network": network, "base_url": base_url, "symbol_format": symbol_format}
    try:
        loader = _load({name: value for name, value in params.items() if value is not None})
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
