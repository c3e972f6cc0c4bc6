"""What this process asked for and has not yet seen the end of: creates, amends and cancels, by client id and by transaction.

A code 200 only says that the venue queued a transaction. Its end shows on the account channels: as an order row, as a
failed transaction (``account_tx``), or, rarely, as nothing at all. This book keeps what is needed to name the order in
each case, and to answer whether an order that nobody can find may still arrive.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from qubx_lighter.constants import TxType
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.codes import Outcome

_CAPACITY: Final = 10_000


class Progress(Enum):
    """How far a request is known to have come."""

    QUEUED = auto()  # not written yet
    SENT = auto()  # written, no answer
    ACCEPTED = auto()  # the venue answered 200
    UNKNOWN = auto()  # written, and the answer will not come any more
    REFUSED = auto()  # provably not executed


_PROGRESS: Final = {
    Outcome.ACCEPTED: Progress.ACCEPTED,
    Outcome.REFUSED: Progress.REFUSED,
    Outcome.UNKNOWN: Progress.UNKNOWN,
}


class Signature(NamedTuple):
    """What a transaction is known by besides its hash: a nonce of an API key."""

    api_key_index: int
    nonce: int


@dataclass(slots=True)
class Request:
    """One write; ``price`` and ``quantity`` are what an amend asked for (quantity: the new total), None = unchanged.

    Of a new order ``price`` is the one that it was given in place of the one asked for, None = that one.

    ``tx_type`` is the transaction's where it is not the kind: a group is the creation of its first order. ``asked_ns`` is when
    it was asked for, by our clock.
    """

    kind: TxType
    client_id: str
    market_id: int
    venue_id: str | None = None
    price: float | None = None
    quantity: float | None = None
    progress: Progress = Progress.QUEUED
    tx_hash: str = ""
    time_ns: int = 0  # of the last progress
    tx_type: TxType | None = None
    asked_ns: int = 0


class RequestBook:
    """The latest request of each kind for each client id; bounded, oldest out first; callable from any thread."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._latest: OrderedDict[tuple[TxType, str], Request] = OrderedDict()
        self._by_transaction: OrderedDict[str | Signature, Request] = OrderedDict()

    def open(self, request: Request) -> Request:
        """Keep a request from the moment it is queued."""
        with self._lock:
            self._latest[request.kind, request.client_id] = request
            self._latest.move_to_end((request.kind, request.client_id))
            while len(self._latest) > self._capacity:
                self._latest.popitem(last=False)
        return request

    def sent(self, request: Request, tx_hash: str, signature: Signature, now_ns: int) -> None:
        """Note that the request was written under ``tx_hash`` and a key's nonce; a request sent again has others.

        What could not be written, or not whole, may have its outcome by then, and keeps it.
        """
        if request.progress in (Progress.QUEUED, Progress.SENT):
            request.progress, request.time_ns = Progress.SENT, now_ns
        request.tx_hash = tx_hash
        self._index(request, tx_hash, signature)

    def answered(self, request: Request, outcome: Outcome, tx_hash: str, now_ns: int) -> None:
        """Note the outcome; the venue's hash is indexed beside ours, should it differ."""
        request.progress, request.time_ns = _PROGRESS[outcome], now_ns
        if tx_hash:
            request.tx_hash = tx_hash
            self._index(request, tx_hash)

    def latest(self, kind: TxType, client_id: str) -> Request | None:
        """Find the latest request of ``kind`` for an order."""
        with self._lock:
            return self._latest.get((kind, client_id))

    def take(self, kind: TxType, client_id: str) -> Request | None:
        """Find it and forget it: its end was seen."""
        with self._lock:
            return self._latest.pop((kind, client_id), None)

    def unseen(self, kind: TxType) -> list[Request]:
        """List the requests of a kind that were written and whose end was not seen, oldest first."""
        with self._lock:
            return [
                request
                for (other, _), request in self._latest.items()
                if other is kind and request.progress not in (Progress.QUEUED, Progress.REFUSED)
            ]

    def of_transaction(self, row: wire.TxRow) -> Request | None:
        """Find the request that a transaction carried, by its hash or, where the venue hashes otherwise, by its nonce."""
        signature = signed_by(row)
        with self._lock:
            request = self._by_transaction.get(row.hash)
            if request is None and signature is not None:
                request = self._by_transaction.get(signature)
        return request if request is not None and (request.tx_type or request.kind) == row.type else None

    def _index(self, request: Request, *keys: str | Signature) -> None:
        with self._lock:
            for key in keys:
                self._by_transaction[key] = request
                self._by_transaction.move_to_end(key)
            while len(self._by_transaction) > 2 * self._capacity:
                self._by_transaction.popitem(last=False)


def signed_by(row: wire.TxRow) -> Signature | None:
    """Tell which key signed a transaction: the account's stream shows every key's, and each counts for itself.

    Rows of 2025 name the key only in the transaction's own text; a row that names none is nobody's.
    """
    index = row.api_key_index
    if index is None:
        try:
            info = json.loads(row.info) if row.info else {}
        except ValueError:
            info = {}
        index = info.get("ApiKeyIndex") if isinstance(info, dict) else None
    return Signature(index, row.nonce) if isinstance(index, int) else None


def own_nonce(row: wire.TxRow, api_key_index: int) -> int | None:
    """Give a transaction's nonce if the key of this index signed it."""
    signature = signed_by(row)
    return signature.nonce if signature is not None and signature.api_key_index == api_key_index else None


def failure(row: wire.TxRow) -> str | None:
    """Tell why a transaction failed at the sequencer, or None: status 0, or ``event_info`` has a non-empty ``ae``."""
    try:
        event_info = json.loads(row.event_info) if row.event_info else {}
    except ValueError:
        event_info = {}
    reason = event_info.get("ae") if isinstance(event_info, dict) else None
    if reason:
        return str(reason)
    return "transaction failed" if row.status == 0 else None
