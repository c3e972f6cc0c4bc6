"""The entry point: what Qubx finds under ``connector: lighter``.

Light to import: the SDK, the parts and the local venue are imported when Qubx first asks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from qubx.connectors.plugin import BuildContext, ConnectorBuildContext, ExchangePlugin

import qubx_lighter.storage  # noqa: F401 - registers ``storage: lighter``
from qubx_lighter.errors import LighterError

if TYPE_CHECKING:
    from qubx.core.connector import IConnector
    from qubx.core.interfaces import IDataProvider
    from qubx.rate_limiting import ExchangeRateLimitConfig


class LighterPlugin(ExchangePlugin):
    """Give Qubx a data provider and a connector for Lighter; one instance serves any number of accounts."""

    name = "lighter"

    def create_data_provider(self, ctx: BuildContext) -> IDataProvider:
        """Build the market data side.

        Raises:
            click.ClickException: one clear line, which ``qubx run`` prints in place of a traceback.
        """
        from qubx_lighter import factory

        try:
            return factory.create_data_provider(ctx)
        except LighterError as error:
            raise click.ClickException(str(error)) from error

    def create_connector(self, ctx: ConnectorBuildContext) -> IConnector:
        """Build the account side.

        Raises:
            click.ClickException: one clear line, which ``qubx run`` prints in place of a traceback.
        """
        from qubx_lighter import factory

        try:
            return factory.create_connector(ctx)
        except LighterError as error:
            raise click.ClickException(str(error)) from error

    def rate_limits(self, exchange_name: str) -> ExchangeRateLimitConfig:
        """Declare the venue's limits, as they are for an account of which nothing is known yet."""
        from qubx_lighter.rate_limits import rate_limit_config

        del exchange_name
        return rate_limit_config()


PLUGIN = LighterPlugin()
