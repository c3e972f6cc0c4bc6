"""The transactions that the sequencer took, by their hashes: the newest of them."""

from __future__ import annotations

from itertools import islice
from typing import Final

from qubx_lighter.sim.model.records import TxRecord

_KEPT: Final = 100_000


class TransactionLog:
    """What is remembered of transactions."""

    def __init__(self) -> None:
        self._records: dict[str, TxRecord] = {}

    def add(self, record: TxRecord) -> None:
        """Remember a transaction, and forget the oldest where there are too many."""
        self._records[record.tx_hash] = record
        if len(self._records) > _KEPT:
            del self._records[next(iter(self._records))]

    def find(self, tx_hash: str) -> TxRecord | None:
        """Find a transaction."""
        return self._records.get(tx_hash)

    def newest(self, limit: int) -> list[TxRecord]:
        """List the newest transactions, newest first."""
        return list(islice(reversed(self._records.values()), limit))
