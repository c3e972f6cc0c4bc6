"""The local venue as a program: put its parts together, tell how to reach it, run it until it is stopped.

``open_venue`` is the same for a program of one's own, a test for example.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Final

from qubx_lighter.constants import EXCHANGE
from qubx_lighter.sim.accounts import assets
from qubx_lighter.sim.api import admin
from qubx_lighter.sim.api.limits import LimitSettings
from qubx_lighter.sim.api.server import Server, wall_clock
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.faults import Fault, Faults
from qubx_lighter.sim.feeds import replay as playback
from qubx_lighter.sim.feeds.synthetic import Synthetic
from qubx_lighter.sim.journal import Journal
from qubx_lighter.sim.markets import listing, past
from qubx_lighter.sim.model.commands import CreateAccount, CreateAsset, CreateMarket, DepositAsset, RegisterKey
from qubx_lighter.sim.model.records import PREMIUM, STANDARD
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.wire import texts

ACCOUNT_INDEX: Final = 100
API_KEY_INDEX: Final = 4  # the venue reserves 0..3 for its own apps
COLLATERAL: Final = 10_000.0
_MICRO: Final = 10**6


@dataclass(frozen=True)
class Funded:
    """An account to open.

    Attributes:
        public_key: of its API key, 80 hexadecimal digits with or without ``0x``; empty for an account without a key.
        collateral: what it is funded with, in the collateral asset.
        tier: ``standard`` or ``premium``, see ``ChangeTier``.
        assets: its spot balances by symbol, in whole assets.
    """

    public_key: str = ""
    account_index: int = ACCOUNT_INDEX
    api_key_index: int = API_KEY_INDEX
    collateral: float = COLLATERAL
    tier: str = PREMIUM
    assets: Mapping[str, float] = field(default_factory=dict)

    @property
    def l1_address(self) -> str:
        """An address that belongs to nobody, always the same for an account index."""
        return "0x" + blake2b(f"account {self.account_index}".encode(), digest_size=20).hexdigest()


@dataclass(frozen=True)
class Venue:
    """A venue that runs: where it is, its server, what moves it."""

    url: str
    server: Server
    feed: asyncio.Task[None] | None

    @property
    def ws_url(self) -> str:
        """Where its stream is."""
        return self.url.replace("http", "ws", 1) + "/stream"

    @property
    def engine(self) -> Engine:
        """Its state, to read."""
        return self.server.engine


@asynccontextmanager
async def open_venue(
    *,
    port: int = 0,
    markets: Sequence[str] = (),
    seed: int = 0,
    synthetic: bool = True,
    replay_files: Sequence[Path] = (),
    speed: float = 1.0,
    state: Path | None = None,
    accounts: Sequence[Funded] = (),
    history_days: float = 0.0,
    faults: Sequence[Fault] = (),
    limits: LimitSettings | None = None,
    now: Callable[[], int] = wall_clock,
) -> AsyncIterator[Venue]:
    """Run a venue on 127.0.0.1 for the time of a ``with`` block.

    Args:
        port: where it listens; 0 takes a free one.
        markets: by base, spot as ``ETH/USDC``; all perpetuals that it knows where it is empty.
        seed: of the ids and of the synthetic market.
        synthetic: whether a maker and a taker move the markets; never with ``replay_files``.
        replay_files: captured frames that are played in place of the channels they are of; their markets are opened too.
        speed: of the playback; 1 as captured, 0 without pauses.
        state: the journal; the venue goes on from it where it is there, with the accounts and keys that it knows.
        accounts: to open where they are missing; those that exist keep their keys and what they have.
        history_days: how long ago the markets that it opens were listed; they have made-up candles, trades and funding since
            then. Markets that ``state`` knows keep the past that they have, or have not.
        faults: what goes wrong on purpose; the same for the same ``seed``.
        limits: which of the venue's limits are enforced; none but 200 messages a minute without it.
        now: the wall clock, µs.

    Raises:
        ConfigurationError: an unknown market or asset, or a file that cannot be played.
        OSError: the port is taken.
        WireError: ``state`` is not a journal.
    """
    recordings = playback.read(replay_files)
    specs = listing.choose(markets) if markets or not recordings else []
    captured = playback.market_specs(recordings.values())
    specs = [spec for spec in specs if spec.market_id not in {one.market_id for one in captured}] + captured
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(Journal(state, seed=seed)) if state is not None else None
        engine = journal.restore() if journal is not None else Engine(seed)
        server = Server(
            engine,
            journal=journal,
            now=now,
            replays=recordings,
            replay_speed=speed,
            faults=Faults(faults, seed),
            limits=limits,
        )
        _populate(server, specs, accounts, history_days)
        feed = None
        if synthetic and not recordings:
            market = Synthetic(engine, server.execute, engine.listed(), seed)
            feed = asyncio.create_task(market.run())
            stack.push_async_callback(_cancel, feed)
        url = await server.start(port=port)
        stack.push_async_callback(server.close)
        yield Venue(url, server, feed)


def _populate(server: Server, specs: Sequence[MarketSpec], accounts: Sequence[Funded], history_days: float) -> None:
    """Open the markets and accounts that are not there yet."""
    needed = {asset_id for spec in specs if spec.is_spot for asset_id in (spec.base_asset_id, spec.quote_asset_id)}
    for new in accounts:
        needed |= assets.amounts(new.assets).keys()
    for asset_id in sorted(needed):
        if asset_id not in server.engine.assets:
            server.execute(CreateAsset(assets.KNOWN[asset_id]))
    for spec in specs:
        if spec.market_id not in server.engine.markets:
            now_ms = server.now() // 1000
            server.execute(CreateMarket(past.give_past(spec, server.engine.seed, history_days, now_ms)))
    for new in accounts:
        if server.engine.account(new.account_index) is None:
            collateral_micro = round(new.collateral * _MICRO)
            server.execute(CreateAccount(new.account_index, new.l1_address, collateral_micro, tier=new.tier))
            for asset_id, units in assets.amounts(new.assets).items():
                server.execute(DepositAsset(new.account_index, asset_id, units))
        if new.public_key and server.engine.next_nonce(new.account_index, new.api_key_index) is None:
            server.execute(RegisterKey(new.account_index, new.api_key_index, new.public_key))


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# --- the program -----------------------------------------------------------------------------------------------------


def accounts_toml(account: Funded, secret: str, specs: Sequence[MarketSpec]) -> str:
    """Write the accounts file that Qubx reads; its commissions, in percent, are those of the first market."""
    pays = specs and account.tier != STANDARD
    maker, taker = (specs[0].maker_fee_ppm, specs[0].taker_fee_ppm) if pays else (0, 0)
    return "\n".join(
        (
            "[[accounts]]",
            'name = "local"',
            f'exchange = "{EXCHANGE}"',
            f'api_key = "{account.l1_address}"',
            f'secret = "{secret}"',
            f"account_index = {account.account_index}",
            f"api_key_index = {account.api_key_index}",
            f'base_currency = "{texts.COLLATERAL}"',
            f'commissions = "maker={texts.percent_text(maker)},taker={texts.percent_text(taker)}"',
            "",
        )
    )


def run(
    *,
    port: int,
    markets: Sequence[str],
    seed: int,
    replay: Sequence[Path],
    speed: float,
    state: Path | None,
    accounts_out: Path | None,
    collateral: float,
    tier: str = PREMIUM,
    generate_api_key: Callable[[], tuple[str, str]],
    history_days: float = 0.0,
    faults: Sequence[Fault] = (),
    assets: Mapping[str, float] | None = None,
    enforce: bool = False,
    write: Callable[[str], None] | None = None,
) -> None:
    """Run a venue until SIGINT or SIGTERM, and tell where it is and how to log in.

    With ``state`` the account and its key are kept over restarts: the secret then lies in ``<state>.accounts.toml``, for
    nobody else to read.

    Args:
        port: where it listens; 0 takes a free one.
        markets: by base, spot as ``ETH/USDC``; all perpetuals that it knows where it is empty.
        seed: of the ids and of the synthetic market.
        replay: captured frames to play in place of the synthetic market.
        speed: of the playback; 0 without pauses.
        state: the journal, made where it is missing.
        accounts_out: where the accounts file is written to as well.
        collateral: what a new account is funded with.
        tier: of a new account: ``standard`` or ``premium``.
        generate_api_key: makes an API key: private and public.
        history_days: how long a past new markets have.
        faults: what goes wrong on purpose.
        assets: spot balances of a new account, by symbol.
        enforce: whether the venue's limits are enforced, by tier.
        write: takes what is printed; standard output if left out.

    Raises:
        ConfigurationError: an unknown market, or a file that cannot be played.
        OSError: the port is taken, or a file cannot be written.
        WireError: ``state`` is not a journal.
    """
    asyncio.run(
        _serve(
            port=port,
            markets=markets,
            seed=seed,
            replay=replay,
            speed=speed,
            state=state,
            accounts_out=accounts_out,
            collateral=collateral,
            tier=tier,
            generate_api_key=generate_api_key,
            history_days=history_days,
            faults=faults,
            assets=assets,
            enforce=enforce,
            write=write or _say,
        )
    )


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - it is a program


async def _serve(
    *,
    port: int,
    markets: Sequence[str],
    seed: int,
    replay: Sequence[Path],
    speed: float,
    state: Path | None,
    accounts_out: Path | None,
    collateral: float,
    tier: str = PREMIUM,
    generate_api_key: Callable[[], tuple[str, str]],
    write: Callable[[str], None],
    history_days: float = 0.0,
    faults: Sequence[Fault] = (),
    assets: Mapping[str, float] | None = None,
    enforce: bool = False,
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C interrupts the loop instead
            loop.add_signal_handler(number, stopped.set)
    account = Funded(collateral=collateral, tier=tier, assets=assets or {})
    async with open_venue(
        port=port,
        markets=markets,
        seed=seed,
        replay_files=replay,
        speed=speed,
        state=state,
        accounts=[account],
        history_days=history_days,
        faults=faults,
        limits=LimitSettings() if enforce else None,
    ) as venue:
        login = await _log_in(venue, account, state, generate_api_key)
        if accounts_out is not None:
            _write_private(accounts_out, login)
        names = ", ".join(spec.symbol for spec in venue.engine.markets.values())
        write(f"a Lighter venue listens on {venue.url} (chain id {venue.server.chain_id}); markets: {names}")
        write(f"its accounts.toml{f', also in {accounts_out}' if accounts_out else ''}:\n\n{login}")
        write(f"it takes commands at {venue.url}{admin.PATH}")
        write("Ctrl-C stops it")
        await _wait(stopped, venue.feed)


async def _wait(stopped: asyncio.Event, feed: asyncio.Task[None] | None) -> None:
    """Wait for a signal; a feed that fails ends the program with its error."""
    waiting = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait([waiting, *([feed] if feed is not None else [])], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if feed is not None and feed.done():
        feed.result()


async def _log_in(
    venue: Venue, account: Funded, state: Path | None, generate_api_key: Callable[[], tuple[str, str]]
) -> str:
    """Give the accounts file: of the key that is kept with the state, else of a new key, which is registered."""
    kept = state.with_name(f"{state.name}.accounts.toml") if state is not None else None
    nonce = venue.engine.next_nonce(account.account_index, account.api_key_index)
    if kept is not None and kept.exists() and nonce is not None:
        return kept.read_text()
    secret, public_key = await asyncio.to_thread(generate_api_key)
    login = accounts_toml(account, secret, list(venue.engine.markets.values()))
    if kept is not None:
        _write_private(kept, login)
    venue.server.execute(RegisterKey(account.account_index, account.api_key_index, public_key, nonce or 0))
    return login


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
