"""An account that is only looked at: nothing is ever sent."""

from __future__ import annotations

from qubx import logger
from qubx.connectors.plugin import ConnectorBuildContext

from qubx_lighter.assembly.gateway import CLOSE_TIMEOUT_S, Gateway
from qubx_lighter.assembly.reading import build_reading
from qubx_lighter.errors import ConfigurationError, LighterError
from qubx_lighter.protocol.wire import AccountRow, TxRow
from qubx_lighter.read_only import MarginReadings, ReadOnlyConnector
from qubx_lighter.recoveries import Recoveries
from qubx_lighter.signer import Signer
from qubx_lighter.websocket import LighterWebSocketManager


class WatchedAccount:
    """An account's parts where nothing is ever sent: a socket, an account processor, and a signer if a key mints the tokens.

    Args:
        gateway: the shared parts.
        ctx: what Qubx gives a plugin.

    Attributes:
        connector: what Qubx is given.
    """

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
        recoveries = Recoveries(
            emit=ctx.channel.send, time_provider=ctx.time_provider, reload_markets=gateway.reload_markets
        )
        self._processor = build_reading(
            gateway,
            ctx,
            account_index=account_index,
            api_key_index=api_key_index,
            socket=self._socket,
            recoveries=recoveries,
            learn=margin.learn,
            on_transaction=_ignore,
        ).processor
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
        self._gateway.close_quietly(self._close_parts(), CLOSE_TIMEOUT_S)
        if self._signer is not None:
            self._signer.close()

    async def _close_parts(self) -> None:
        await self._processor.close()
        await self._socket.close()
        await self._gateway.client.close()


def _ignore(row: TxRow) -> None:
    """Leave transactions to whoever sent them."""
