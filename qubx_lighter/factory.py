"""Build the parts of one account on one network, and own their lifetime.

``create_data_provider`` comes first, in live and in paper: it reaches the venue, loads the markets and makes them known to
Qubx, since Qubx resolves the universe right after. ``create_connector`` finds the parts of its data provider again and
adds the account's: a second socket, so that neither market data nor subscriptions ever stand before an order.

Qubx closes in this order: strategy's ``on_stop``, data provider, channel, connector. So what ``on_stop`` sent is flushed
when the data provider closes, while Qubx still listens; the account's parts go when the connector disconnects.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

import click
from pydantic import SecretStr
from qubx import logger
from qubx.connectors.plugin import BuildContext, ConnectorBuildContext
from qubx.core.basics import ITimeProvider
from qubx.core.interfaces import IDataProvider

from qubx_lighter.account import LighterAccountProcessor
from qubx_lighter.account_pace import AccountPace, TransactionGate
from qubx_lighter.accounts.queries import AccountQueries
from qubx_lighter.actions import LighterActions
from qubx_lighter.broker import LighterBroker, QuoteSource
from qubx_lighter.client import LighterClient
from qubx_lighter.connector import LighterConnector
from qubx_lighter.constants import AUTH_TOKEN_LIFETIME_S
from qubx_lighter.data import LighterDataProvider
from qubx_lighter.errors import ConfigurationError, LighterError, TransportError
from qubx_lighter.handlers.account import AccountConverter
from qubx_lighter.handlers.money import Wallet
from qubx_lighter.history.pages import LighterHistory
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.isolated_margin import IsolatedMargin
from qubx_lighter.leverage import LeverageSettings
from qubx_lighter.listing_watch import ListingWatch
from qubx_lighter.lookup import observe_unknown, publish
from qubx_lighter.metrics import MetricsReporter, emitter_of
from qubx_lighter.operation_errors import operation_failed
from qubx_lighter.pacing import is_local, rest_pace
from qubx_lighter.protocol.limits import TIERS
from qubx_lighter.protocol.orders import ClientIds
from qubx_lighter.protocol.requests import RequestBook
from qubx_lighter.protocol.wire import AccountRow, TxRow
from qubx_lighter.rate_limits import SharedLimits
from qubx_lighter.read_only import MarginReadings, ReadOnlyConnector
from qubx_lighter.recoveries import Recoveries
from qubx_lighter.settings import LighterSettings
from qubx_lighter.signer import Signer
from qubx_lighter.start_checks import check_network, confirm_collateral, maker_only_among, warn_of_reserved_key
from qubx_lighter.transactions.dead_mans_switch import DeadMansSwitch
from qubx_lighter.transactions.sender import TransactionSender
from qubx_lighter.transactions.submitting import ThroughSender
from qubx_lighter.transactions.watch import TransactionWatch
from qubx_lighter.websocket import LighterWebSocketManager, address_pace
from qubx_lighter.websocket_pool import LighterWebSocketPool

_CLOSE_TIMEOUT_S: Final = 5.0
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
        self._token = ""
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
            return self.read_token.get_secret_value()
        if self.signer is None:
            raise ConfigurationError("this needs an account: add it to accounts.toml")
        now_s = self.now_s()
        self._token = await self.signer.auth_token(now_s=now_s, lifetime_s=AUTH_TOKEN_LIFETIME_S)
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
        self.close_quietly(self._close_market(), self.settings.flush_timeout_s + _CLOSE_TIMEOUT_S)

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


_gateways: weakref.WeakKeyDictionary[IDataProvider, Gateway] = weakref.WeakKeyDictionary()


def create_data_provider(ctx: BuildContext) -> LighterDataProvider:
    """Build the market data side; needs no credentials.

    Raises:
        ConfigurationError: a parameter is wrong, or the venue cannot be reached.
    """
    gateway = Gateway(ctx, _settings(ctx))
    gateway.load_markets()

    def start() -> None:
        try:
            gateway.check_universe()
        except ConfigurationError as error:
            raise click.ClickException(str(error)) from error  # one line in place of a traceback, as in plugin.py
        gateway.begin(provider)

    provider = LighterDataProvider(
        exchange=ctx.exchange_name.upper(),
        channel=ctx.channel,
        time_provider=ctx.time_provider,
        instruments=gateway.instruments,
        market_ws=gateway.market_ws,
        history=gateway.history,
        loop=gateway.loop,
        on_start=start,
        on_close=gateway.close_market,
        on_instruments=gateway.settle_listing,
    )
    _gateways[provider] = gateway
    return provider


def create_connector(ctx: ConnectorBuildContext) -> LighterConnector:
    """Build the account side on the parts of the data provider, or on its own beside a foreign one.

    Raises:
        ConfigurationError: credentials are missing or wrong, or the venue does not know the account or the key.
    """
    gateway = _gateways.get(ctx.data_provider)
    if gateway is None:
        gateway = Gateway(ctx, _settings(ctx))
        gateway.load_markets()
    try:
        return (
            _ReadOnlyAccount(gateway, ctx).connector if gateway.settings.read_only else _Account(gateway, ctx).connector
        )
    except LighterError:  # the run ends before it began: nobody would close the data provider
        gateway.close_market()
        raise


class _Account:
    """The account's parts: signer, second socket, sender, broker, account processor."""

    def __init__(self, gateway: Gateway, ctx: ConnectorBuildContext) -> None:
        settings = gateway.settings
        account_index, api_key_index, _ = settings.credentials()
        exchange = ctx.exchange_name.upper()
        self._chain_id = settings.signing_chain_id()
        self._gateway = gateway
        self._time: ITimeProvider = ctx.time_provider
        self._emit: Callable[[object], None] = ctx.channel.send
        self._signers: list[Signer] = []
        for index, private_key in settings.signing_keys().items():
            warn_of_reserved_key(index)
            self._signers.append(
                Signer(
                    chain_id=self._chain_id,
                    account_index=account_index,
                    api_key_index=index,
                    private_key=private_key,
                    base_url=settings.base_url,
                )
            )
        self._signer = self._signers[0]  # of tokens, and of what is about no order
        gateway.signer = self._signer
        account, maker_only = gateway.run(self._check(account_index), settings.startup_timeout_s)
        recoveries = Recoveries(
            emit=ctx.channel.send, time_provider=ctx.time_provider, reload_markets=gateway.reload_markets
        )
        self._socket = LighterWebSocketManager(settings.ws_url, token=gateway.mint_token, loop=gateway.loop)
        self._limits = AccountPace(
            settings.base_url,
            account.l1_address.lower() or f"account {account_index}",
            gateway.pace,
            paced=gateway.is_paced,
            tier=TIERS[settings.account_tier] if settings.account_tier is not None else None,
            requests=settings.requests_per_minute,
            transactions=settings.transactions_per_minute,
            shared=gateway.shared_limits,
        )
        gate = gateway.gate = TransactionGate(self._limits, wait_s=settings.order_wait_s)
        self._sender = TransactionSender(
            loop=gateway.loop,
            socket=self._socket,
            rest=gateway.client,
            signers=self._signers,
            timeout_s=settings.tx_timeout_s,
            batch_size=settings.batch_size,
            on_outcome=recoveries.heard,
            gate=gate,
            on_stranger=self._report_stranger,
        )
        requests = RequestBook()
        converter = AccountConverter(
            exchange=exchange,
            account_index=account_index,
            collateral=settings.collateral,
            instruments=gateway.instruments,
            ids=ClientIds(api_key_index),
        )
        wallet = Wallet(exchange, settings.collateral)
        self._watch = TransactionWatch(
            sender=self._sender, find=gateway.client.transaction, loop=gateway.loop, api_key_index=api_key_index
        )
        self._leverage = LeverageSettings(
            instruments=gateway.instruments,
            watch=self._watch,
            working_orders=self._working_orders,
            emit=ctx.channel.send,
            time_provider=ctx.time_provider,
            loop=gateway.loop,
        )
        self._leverage.learn(account.positions or [])
        queries = AccountQueries(
            client=gateway.client,
            converter=converter,
            instruments=gateway.instruments,
            requests=requests,
            wallet=wallet,
            time_provider=ctx.time_provider,
            on_account=lambda row: self._leverage.learn(row.positions or []),
        )
        self._processor = LighterAccountProcessor(
            converter=converter,
            client=gateway.client,
            queries=queries,
            socket=self._socket,
            instruments=gateway.instruments,
            requests=requests,
            wallet=wallet,
            emit=ctx.channel.send,
            time_provider=ctx.time_provider,
            health=ctx.health_monitor,
            recoveries=recoveries,
            on_transaction=self._observe_transaction,
            on_positions=self._leverage.learn,
            loop=gateway.loop,
        )
        broker = LighterBroker(
            settings=settings,
            instruments=gateway.instruments,
            sender=self._sender,
            requests=requests,
            converter=converter,
            emit=ctx.channel.send,
            time_provider=ctx.time_provider,
            health=ctx.health_monitor,
            quotes=QuoteSource(ctx.data_provider.get_quote, ctx.data_provider.is_connected),
            recoveries=recoveries,
            look_up=self._processor.look_up,
            latest=self._processor.latest,
            on_group=partial(self._processor.request_snapshot, include_orders=True),
        )
        margin = IsolatedMargin(
            instruments=gateway.instruments,
            leverage=self._leverage,
            watch=self._watch,
            collateral=settings.collateral,
            emit=ctx.channel.send,
            time_provider=ctx.time_provider,
            on_moved=partial(self._processor.request_snapshot, include_orders=False),
        )
        broker.maker_only = bool(maker_only)  # an order may leave by any of the keys
        self._leverage.maker_only = api_key_index in maker_only
        self.connector = LighterConnector(
            exchange_name=exchange,
            channel=ctx.channel,
            broker=broker,
            account=self._processor,
            leverage=self._leverage,
            margin=margin,
            actions=LighterActions(gateway.client, ThroughSender(self._sender, gateway.loop), account_index),
            loop=gateway.loop,
            reconnect=self._socket.reconnect,
            on_disconnect=self._close,
            stats=self._stats,
        )
        self._switch: DeadMansSwitch | None = None
        if settings.dead_mans_switch_s:
            self._switch = DeadMansSwitch(
                period_s=settings.dead_mans_switch_s,
                sender=self._sender,
                loop=gateway.loop,
                now_ms=lambda: int(ctx.time_provider.time().astype("datetime64[ms]").astype("int64")),
            )
            self._socket.on_state(self._switch.on_state)
        gateway.loop.call_soon_threadsafe(self._limits.start, partial(gateway.client.money.limits, account_index))
        gateway.sender = self._sender
        gateway.account_opened()
        self._closed = False

    def _working_orders(self, market_id: int) -> int:
        return self._processor.working_orders(market_id)  # made after the settings that ask for it

    def _observe_transaction(self, row: TxRow) -> None:
        self._watch.observe(row)
        self._sender.observe(row)

    def _report_stranger(self, api_key_index: int, evidence: str) -> None:
        text = (
            f"another program signs with API key {api_key_index} of this account ({evidence}): "
            "each takes the other's nonces, which costs both time; give each program a key of its own"
        )
        logger.error("lighter: {}", text)
        error = LighterError(text)
        self._emit(operation_failed(self._time.time(), "share_api_key", text, error))

    async def _check(self, account_index: int) -> tuple[AccountRow, set[int]]:
        """Make sure that the venue is the one meant, knows the account and the keys; give the account, and what they may."""
        client, settings = self._gateway.client, self._gateway.settings
        try:
            account = await client.account(account_index)
        except LighterError as error:
            raise ConfigurationError(
                f"account_index {account_index} is not known at {settings.base_url}: {error}. "
                "Check account_index in accounts.toml (or LIGHTER_ACCOUNT_INDEX) and params.network"
            ) from error
        await check_network(client, settings, self._chain_id)
        for signer in self._signers:
            await signer.check_key()
        return account, await maker_only_among(client, account_index, (key.api_key_index for key in self._signers))

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._gateway.close_quietly(self._close_parts(), self._gateway.settings.flush_timeout_s + _CLOSE_TIMEOUT_S)
        for signer in self._signers:
            signer.close()

    def _stats(self) -> dict[str, float]:
        return self._sender.stats() | self._gateway.limit_stats()

    async def _close_parts(self) -> None:
        await self._limits.close()
        await self._leverage.close()
        await self._watch.close()
        if self._switch is not None:
            self._switch.close()
        await self._sender.drain(self._gateway.settings.flush_timeout_s)
        await self._sender.close()
        await self._processor.close()
        await self._socket.close()
        await self._gateway.client.close()


class _ReadOnlyAccount:
    """The account's parts where nothing is ever sent: a socket, an account processor, and a signer if a key mints the tokens."""

    def __init__(self, gateway: Gateway, ctx: ConnectorBuildContext) -> None:
        settings = gateway.settings
        self._gateway = gateway
        self._signer: Signer | None = None
        exchange = ctx.exchange_name.upper()
        token = settings.read_token(gateway.now_s())
        api_key_index = settings.api_key_index or 0
        if token is not None:
            account_index, gateway.read_token = token
        else:
            account_index, api_key_index, private_key = settings.credentials()
            self._signer = gateway.signer = Signer(
                chain_id=settings.signing_chain_id(),
                account_index=account_index,
                api_key_index=api_key_index,
                private_key=private_key,
                base_url=settings.base_url,
            )
        account = gateway.run(self._check(account_index), settings.startup_timeout_s)
        logger.info("lighter: account {} is only looked at: nothing is sent", account_index)
        margin = MarginReadings(gateway.instruments)
        margin.learn(account.positions or [])
        self._socket = LighterWebSocketManager(settings.ws_url, token=gateway.mint_token, loop=gateway.loop)
        converter = AccountConverter(
            exchange=exchange,
            account_index=account_index,
            collateral=settings.collateral,
            instruments=gateway.instruments,
            ids=ClientIds(api_key_index),
        )
        wallet, requests = Wallet(exchange, settings.collateral), RequestBook()
        queries = AccountQueries(
            client=gateway.client,
            converter=converter,
            instruments=gateway.instruments,
            requests=requests,
            wallet=wallet,
            time_provider=ctx.time_provider,
            on_account=lambda row: margin.learn(row.positions or []),
        )
        self._processor = LighterAccountProcessor(
            converter=converter,
            client=gateway.client,
            queries=queries,
            socket=self._socket,
            instruments=gateway.instruments,
            requests=requests,
            wallet=wallet,
            emit=ctx.channel.send,
            time_provider=ctx.time_provider,
            health=ctx.health_monitor,
            recoveries=Recoveries(
                emit=ctx.channel.send, time_provider=ctx.time_provider, reload_markets=gateway.reload_markets
            ),
            on_transaction=_ignore,
            on_positions=margin.learn,
            loop=gateway.loop,
        )
        self.connector = ReadOnlyConnector(
            exchange_name=exchange,
            channel=ctx.channel,
            account=self._processor,
            margin=margin,
            reconnect=self._socket.reconnect,
            on_disconnect=self._close,
            stats=gateway.limit_stats,
        )
        gateway.account_opened()
        self._closed = False

    async def _check(self, account_index: int) -> AccountRow:
        client, settings = self._gateway.client, self._gateway.settings
        try:
            account = await client.account(account_index)
            await client.active_orders(account_index)
        except LighterError as error:
            raise ConfigurationError(
                f"account {account_index} cannot be read at {settings.base_url}: {error}. Check account_index, the token or "
                "key, and params.network"
            ) from error
        return account

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._gateway.close_quietly(self._close_parts(), _CLOSE_TIMEOUT_S)
        if self._signer is not None:
            self._signer.close()

    async def _close_parts(self) -> None:
        await self._processor.close()
        await self._socket.close()
        await self._gateway.client.close()


def _ignore(row: TxRow) -> None:
    """Leave transactions to whoever sent them."""


def _settings(ctx: BuildContext) -> LighterSettings:
    """Read the exchange's params and, where there is one, its account: paper and data-only runs have none.

    Raises:
        ConfigurationError: a setting is unknown or wrong.
    """
    try:
        credentials = ctx.credentials.get_exchange_credentials(ctx.exchange_name)
    except KeyError:
        return LighterSettings.build(ctx.params, None)
    extra = credentials.model_extra or {}
    fields = {name: extra.get(name) for name in LighterSettings.model_fields}
    own = {"api_key": credentials.api_key, "secret": credentials.secret, "testnet": credentials.testnet}
    return LighterSettings.build(ctx.params, fields | own)
