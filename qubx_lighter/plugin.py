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


PLUGIN = LighterPlugin()
