"""Downloaded history as a Qubx storage: ``lighter-parquet``, or ``qubx_lighter.parquet_storage.LighterParquetStorage``.

Qubx 5.0 ships no storage that reads Parquet files. This one reads what ``qubx-lighter download`` wrote, and nothing else:
no venue, no network. The markets' rules come from the archive's manifest, so that a backtest needs nothing but the folder.

Light to import, as ``storage`` is and for the same reason.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qubx.data.registry import storage
from qubx.data.storage import IStorage

from qubx_lighter.constants import EXCHANGE
from qubx_lighter.errors import ConfigurationError

if TYPE_CHECKING:
    from qubx_lighter.history.parquet_reader import LighterParquetReader


@storage("lighter-parquet")
class LighterParquetStorage(IStorage):
    """Read an archive of downloaded history; its instruments are made known to Qubx at once.

    Args:
        path: the folder that was given to ``qubx-lighter download --out``.

    Raises:
        ConfigurationError: there is no archive.
    """

    def __init__(self, path: str, **_: Any) -> None:
        from qubx_lighter import archive, lookup
        from qubx_lighter.history.parquet_reader import instruments

        self._folder = Path(path).expanduser()
        manifest = archive.read_manifest(self._folder)
        if manifest is None:
            raise ConfigurationError(f"there is no downloaded history in {self._folder}: no {archive.MANIFEST}")
        self._manifest = manifest
        lookup.publish(instruments(manifest))

    def get_exchanges(self) -> list[str]:
        """List the exchange."""
        return [EXCHANGE]

    def get_market_types(self, exchange: str) -> list[str]:
        """List the types of the downloaded markets."""
        known = {symbol.partition(":")[0] for symbol in self._manifest.markets}
        return sorted(known) if exchange.upper() == EXCHANGE else []

    def get_reader(self, exchange: str, market: str) -> LighterParquetReader:
        """Return the reader of one type of markets.

        Raises:
            ValueError: nothing of them was downloaded.
        """
        if market.upper() not in self.get_market_types(exchange):
            raise ValueError(f"nothing of {exchange}:{market} was downloaded to {self._folder}")
        from qubx_lighter.history.parquet_reader import LighterParquetReader

        return LighterParquetReader(self._folder, self._manifest, market.upper())
