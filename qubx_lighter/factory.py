"""Build the parts of one account on one network, and own their lifetime.

``create_data_provider`` comes first, in live and in paper: it reaches the venue, loads the markets and makes them known to
Qubx, since Qubx resolves the universe right after. ``create_connector`` finds the parts of its data provider again and
adds the account's: a second socket, so that neither market data nor subscriptions ever stand before an order.

Qubx closes in this order: strategy's ``on_stop``, data provider, channel, connector. So what ``on_stop`` sent is flushed
when the data provider closes, while Qubx still listens; the account's parts go when the connector disconnects.
"""

from __future__ import annotations

import weakref

import click
from qubx.connectors.plugin import BuildContext, ConnectorBuildContext
from qubx.core.interfaces import IDataProvider

from qubx_lighter.assembly.account import TradingAccount
from qubx_lighter.assembly.gateway import Gateway
from qubx_lighter.assembly.read_only import WatchedAccount
from qubx_lighter.connector import LighterConnector
from qubx_lighter.data import LighterDataProvider
from qubx_lighter.errors import ConfigurationError, LighterError
from qubx_lighter.settings import LighterSettings

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
        kind = WatchedAccount if gateway.settings.read_only else TradingAccount
        return kind(gateway, ctx).connector
    except LighterError:  # the run ends before it began: nobody would close the data provider
        gateway.close_market()
        raise


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
