"""An account that trades: everything between Qubx's requests and the venue."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from qubx import logger
from qubx.connectors.plugin import ConnectorBuildContext
from qubx.core.basics import ITimeProvider

from qubx_lighter.account_pace import AccountPace, TransactionGate
from qubx_lighter.actions import LighterActions
from qubx_lighter.assembly.gateway import CLOSE_TIMEOUT_S, Gateway
from qubx_lighter.assembly.reading import build_reading
from qubx_lighter.broker import LighterBroker, QuoteSource
from qubx_lighter.connector import LighterConnector
from qubx_lighter.errors import ConfigurationError, LighterError
from qubx_lighter.isolated_margin import IsolatedMargin
from qubx_lighter.leverage import LeverageSettings
from qubx_lighter.operation_errors import operation_failed
from qubx_lighter.protocol.limits import TIERS
from qubx_lighter.protocol.wire import AccountRow, TxRow
from qubx_lighter.recoveries import Recoveries
from qubx_lighter.signer import Signer
from qubx_lighter.start_checks import check_network, maker_only_among, warn_of_reserved_key
from qubx_lighter.transactions.dead_mans_switch import DeadMansSwitch
from qubx_lighter.transactions.sender import TransactionSender
from qubx_lighter.transactions.submitting import ThroughSender
from qubx_lighter.transactions.watch import TransactionWatch
from qubx_lighter.websocket import LighterWebSocketManager


class TradingAccount:
    """An account's parts: signer, second socket, sender, broker, account processor.

    Args:
        gateway: the shared parts.
        ctx: what Qubx gives a plugin.

    Attributes:
        connector: what Qubx is given.
    """

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
            order_wait_s=settings.order_wait_s,
            batch_size=settings.batch_size,
            on_outcome=recoveries.heard,
            gate=gate,
            on_stranger=self._report_stranger,
        )
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
        converter, requests, self._processor = build_reading(
            gateway,
            ctx,
            account_index=account_index,
            api_key_index=api_key_index,
            socket=self._socket,
            recoveries=recoveries,
            learn=self._leverage.learn,
            on_transaction=self._observe_transaction,
        )
        broker = LighterBroker(
            settings=settings,
            instruments=gateway.instruments,
            sender=self._sender,
            watch=self._watch,
            requests=requests,
            converter=converter,
            emit=ctx.channel.send,
            time_provider=ctx.time_provider,
            health=ctx.health_monitor,
            quotes=QuoteSource(ctx.data_provider.get_quote, ctx.data_provider.is_connected),
            recoveries=recoveries,
            look_up=self._processor.look_up,
            latest=self._processor.latest,
            standing=self._processor.standing,
            on_group=partial(self._processor.request_snapshot, include_orders=True),
            on_doubt=self._processor.settle_doubt,
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
                watch=self._watch,
                loop=gateway.loop,
                on_failure=self._report_switch,
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

    def _report_switch(self, reason: str) -> None:
        text = f"the dead man's switch is not armed, it is tried again soon: {reason}"
        self._emit(operation_failed(self._time.time(), "dead_mans_switch", text, LighterError(reason)))

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
        self._gateway.close_quietly(self._close_parts(), self._gateway.settings.flush_timeout_s + CLOSE_TIMEOUT_S)
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
