"""What a data provider and its connector share: settings, REST client, markets, sockets, paces."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from typing import Any, Final

from pydantic import SecretStr
from qubx import logger
from qubx.connectors.plugin import BuildContext

from qubx_lighter.account_pace import TransactionGate
from qubx_lighter.client import LighterClient
from qubx_lighter.constants import AUTH_TOKEN_LIFETIME_S
from qubx_lighter.data import LighterDataProvider
from qubx_lighter.errors import ConfigurationError, LighterError, TransportError
from qubx_lighter.hidden import HiddenText
from qubx_lighter.history.pages import LighterHistory
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.listing_watch import ListingWatch
from qubx_lighter.lookup import observe_unknown, publish
from qubx_lighter.metrics import MetricsReporter, emitter_of
from qubx_lighter.pacing import is_local, rest_pace
from qubx_lighter.rate_limits import SharedLimits
from qubx_lighter.settings import LighterSettings
from qubx_lighter.signer import Signer
from qubx_lighter.start_checks import confirm_collateral
from qubx_lighter.transactions.sender import TransactionSender
from qubx_lighter.websocket import address_pace
from qubx_lighter.websocket_pool import LighterWebSocketPool

CLOSE_TIMEOUT_S: Final = 5.0
"""How long sockets and tasks may take to close."""

_TOKEN_REUSE_S: Final = 60


class Gateway:
    """The parts that a data provider and its connector share: settings, REST client, markets, sockets.

    Args:
        ctx: what Qubx gives a plugin.
        settings: where the venue is and who we are.
    """

    def __init__(self, ctx: BuildContext, settings: LighterSettings) -> None:
        self.ctx = ctx
        self.settings = settings
        self.loop = ctx.loop
        self.is_paced = settings.account_tier is not None or not is_local(settings.base_url)
        self.pace = rest_pace(settings.base_url, requests=settings.requests_per_minute, paced=self.is_paced)
        self.shared_limits: SharedLimits | None = None
        if ctx.rate_limiter is not None and (self.is_paced or self.pace.is_paced):
            self.shared_limits = self.pace.shared = SharedLimits(ctx.rate_limiter)
        self.client = LighterClient(
            settings.base_url, timeout=settings.rest_timeout_s, token=self.token, pace=self.pace
        )
        self.instruments = LighterInstrumentLoader(
            self.client, symbol_format=settings.symbol_format, collateral=settings.collateral
        )
        self.market_ws = LighterWebSocketPool(settings.ws_url, loop=self.loop)
        if self.shared_limits is not None:
            self.shared_limits.share_messages(address_pace(settings.ws_url))
        self.history = LighterHistory(self.client)
        self.watch: ListingWatch | None = None
        self.metrics: MetricsReporter | None = None
        self.unknown_symbols: list[str] = []
        self._stop_observing: Callable[[], None] = lambda: None
        self.signer: Signer | None = None
        self.read_token: SecretStr | None = None
        self.sender: TransactionSender | None = None
        self.gate: TransactionGate | None = None
        self._token = HiddenText()
        self._token_until_s = 0
        self._account_open = False

    def run[T](self, coroutine: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run on Qubx's loop and wait, from another thread.

        Raises:
            TransportError: it took longer than ``timeout_s``.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(timeout_s)
        except concurrent.futures.TimeoutError as error:
            future.cancel()
            raise TransportError(f"no answer from {self.settings.base_url} within {timeout_s:g} s") from error

    async def mint_token(self) -> str:
        """Mint an auth token that is good for hours.

        Raises:
            ConfigurationError: there is no account to mint one for.
        """
        if self.read_token is not None:
            return HiddenText(self.read_token.get_secret_value())
        if self.signer is None:
            raise ConfigurationError("this needs an account: add it to accounts.toml")
        now_s = self.now_s()
        self._token = HiddenText(await self.signer.auth_token(now_s=now_s, lifetime_s=AUTH_TOKEN_LIFETIME_S))
        self._token_until_s = now_s + _TOKEN_REUSE_S
        return self._token

    async def token(self) -> str:
        """Give the token of the last minute, or a new one: paged reads ask for one per page.

        Raises:
            ConfigurationError: there is no account to mint one for.
        """
        return self._token if self.now_s() < self._token_until_s else await self.mint_token()

    def now_s(self) -> int:
        """Give Qubx's time in whole seconds since the epoch."""
        return int(self.ctx.time_provider.time().astype("datetime64[s]").astype("int64"))

    def load_markets(self) -> None:
        """Fetch the markets and make them known to Qubx.

        Raises:
            ConfigurationError: the venue cannot be reached, or has another collateral; says where and what to check.
        """
        try:
            self.run(self._load_markets(), self.settings.startup_timeout_s)
        except ConfigurationError:
            raise
        except LighterError as error:
            raise ConfigurationError(
                f"Lighter cannot be reached at {self.settings.base_url}: {error}. "
                "Check the network, or params.base_url / LIGHTER_BASE_URL"
            ) from error
        publish(self.instruments.instruments)
        self._stop_observing = observe_unknown(self.ctx.exchange_name.upper(), self._report_unknown)

    async def _load_markets(self) -> None:
        try:
            self.settings = await confirm_collateral(self.client, self.settings)
            self.instruments.collateral = self.settings.collateral
            await self.instruments.load()
        except BaseException:
            await self.client.close()
            raise

    def _report_unknown(self, symbol: str, close: list[str]) -> None:
        hint = f"did you mean {', '.join(close)}?" if close else "`qubx-lighter instruments` lists what there is"
        self.unknown_symbols.append(f"{symbol} ({hint})")
        logger.error("lighter: the venue lists no {}: {}", symbol, hint)

    def check_universe(self) -> None:
        """Stop a run whose universe names symbols that the venue does not list, since Qubx would trade the rest silently.

        Raises:
            ConfigurationError: names each symbol, with what was probably meant.
        """
        if self.unknown_symbols and self.settings.unknown_symbols == "error":
            raise ConfigurationError(
                f"the venue does not list {'; '.join(self.unknown_symbols)}. "
                "Correct the universe, or set params.unknown_symbols: warn to run without them"
            )

    def begin(self, provider: LighterDataProvider) -> None:
        """Connect, watch the venue's listing, report metrics; returns at once."""
        self.market_ws.start()
        watch = self.watch = ListingWatch(
            self.instruments,
            loop=self.loop,
            interval_s=self.settings.listing_interval_s,
            on_change=provider.on_listing,
        )
        self.loop.call_soon_threadsafe(watch.start)
        emitter = emitter_of(self.ctx.health_monitor)
        if emitter is not None and self.settings.metrics_interval_s:
            metrics = self.metrics = MetricsReporter(
                lambda: provider.stats() | watch.stats() | self.limit_stats(),
                emitter,
                exchange=provider.exchange(),
                interval_s=self.settings.metrics_interval_s,
            )
            self.loop.call_soon_threadsafe(metrics.start)

    def limit_stats(self) -> dict[str, float]:
        """Count what waited for the venue's limits."""
        figures = {f"limit_address_{name}": value for name, value in self.pace.address.stats().items()}
        if self.gate is not None:
            figures |= self.gate.stats()
        if self.shared_limits is not None:
            figures["shared_limits_failures"] = self.shared_limits.failures
        return figures

    def settle_listing(self) -> None:
        """Take up what Qubx has changed of the instruments that it holds."""
        if self.watch is not None:
            self.watch.settle()

    def reload_markets(self) -> None:
        """Ask for the venue's listing anew; at most once a minute, and not before trading begins."""
        if self.watch is not None:
            self.watch.poke()

    def account_opened(self) -> None:
        """Note that a connector uses these parts: the client stays open until it disconnects."""
        self._account_open = True

    def close_market(self) -> None:
        """Flush what is still to be sent, then close the market data socket; bounded, idempotent."""
        self._stop_observing()
        self.close_quietly(self._close_market(), self.settings.flush_timeout_s + CLOSE_TIMEOUT_S)

    async def _close_market(self) -> None:
        if self.sender is not None and not await self.sender.drain(self.settings.flush_timeout_s):
            logger.warning("lighter: closing with transactions unanswered: {}", self.sender.stats())
        if self.watch is not None:
            await self.watch.close()
        if self.metrics is not None:
            await self.metrics.close()
        await self.market_ws.close()
        if not self._account_open:
            await self.client.close()

    def close_quietly(self, coroutine: Coroutine[Any, Any, None], timeout_s: float) -> None:
        """Run a closing coroutine; a loop that is gone, or too long a wait, is no reason to raise."""
        if not self.loop.is_running():
            coroutine.close()
            return
        try:
            self.run(coroutine, timeout_s)
        except TransportError as error:
            logger.warning("lighter: closing took too long: {}", error)
