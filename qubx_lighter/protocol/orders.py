"""Orders between this process and the venue: their ids, and what their rows tell.

Theory of operation of ``OrderTracker``. The venue tells an order's state in rows, on the socket and over REST, so rows
come twice, late, and in any order. The tracker keeps the newest row of each working order and says what a further one
adds. Of two rows of one order the newer is, by what cannot be undone first: the one with a terminal status; with more
filled; then with the later ``transaction_time``, the higher ``order_version``, the later ``nonce``, the later
``updated_at``; where all that is equal, the one that came last. Ended orders are remembered, so that each ends exactly
once.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, auto
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from qubx_lighter.constants import MAX_CLIENT_ORDER_INDEX
from qubx_lighter.protocol.codes import Cause, Outcome, cause_of_code
from qubx_lighter.protocol.statuses import Status, StatusKind, classify_status, is_terminal
from qubx_lighter.protocol.units import time_ns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qubx_lighter.protocol.wire import OrderRow

__all__ = [
    "Cause",
    "ClientIds",
    "FillDeduplicator",
    "OrderTracker",
    "Outcome",
    "Status",
    "StatusKind",
    "Transition",
    "TransitionKind",
    "cause_of_code",
    "classify_status",
    "is_terminal",
]

_REMEMBERED: Final = 10_000


class _Recent[K, V]:
    """A dict of the latest entries: beyond its capacity the oldest goes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)


# --- client ids ------------------------------------------------------------------------------------------------------

_COUNTER_BITS: Final = 38  # Qubx counts tenths of seconds since 1970: enough for 870 years
_COUNTER_LIMIT: Final = 1 << _COUNTER_BITS
_ROLE_BITS: Final = 2
_ROLES: Final = ("", ".tp", ".sl")  # an order, and the two that close it in a group
_TAG_SHIFT: Final = _ROLE_BITS + _COUNTER_BITS
_HASH_TAG: Final = 255
_QUBX_ID: Final = re.compile(r"qubx_.+_([1-9][0-9]*)(\.tp|\.sl)?")
_FOREIGN_ID: Final = re.compile(r"lighter_([1-9][0-9]*)")
_REMEMBERED_IDS: Final = 100_000


class ClientIds:
    """Translate client ids to the venue's 48-bit ``client_order_index`` and back; callable from any thread.

    The upper 8 bits are a tag, 2 a role, 38 a counter. Qubx's own ids, ``qubx_{symbol}_{counter}``, become this bot's tag
    and the counter, which a later process can turn back; so do the ids of what closes such an order in a group, with
    ``.tp`` and ``.sl`` behind; an index of another bot is ``lighter_{index}``; any other id becomes tag 255 and a hash,
    known for the life of this process.

    Args:
        tag: 0 to 254, different for each bot of an account; the API key's index is.
    """

    def __init__(self, tag: int) -> None:
        if not 0 <= tag < _HASH_TAG:
            raise ValueError(f"a client id tag is 0 to {_HASH_TAG - 1}, not {tag}")
        self._tag = tag
        self._lock = threading.Lock()
        self._ids: _Recent[int, str] = _Recent(_REMEMBERED_IDS)

    def fresh(self, suggested: str) -> str:
        """Give the id of a new order: the suggested one or, where an order has its index already, that with the next counter.

        Qubx's counter begins with the time, ten a second, and rises with each order of any symbol. So a run that sends more
        counts ahead of the clock, and the run after it would give indexes out again that may still rest in the book. An
        id that is not Qubx's is left alone.
        """
        head, counter, role = _read(suggested)
        if not counter or role:
            return suggested
        with self._lock:
            while counter < _COUNTER_LIMIT and self._ids.get((self._tag << _TAG_SHIFT) | counter) is not None:
                counter += 1
        return f"{head}{counter}"

    def index_of(self, client_id: str) -> int:
        """Give the index of a client id, always the same.

        Raises:
            ValueError: another id of this process has the same index.
        """
        index = self.encode(client_id)
        with self._lock:
            known = self._ids.get(index)
            if known is not None and known != client_id:
                raise ValueError(f"client ids {known!r} and {client_id!r} have the same client_order_index {index}")
            self._ids.put(index, client_id)
        return index

    def client_id_of(self, index: int, symbol: str) -> str | None:
        """Give the client id of an index that an order of ``symbol`` carries; None for 0, which is no index."""
        if index == 0:
            return None
        with self._lock:
            known = self._ids.get(index)
        if known is not None:
            return known
        tag, rest = divmod(index, 1 << _TAG_SHIFT)
        role, counter = divmod(rest, _COUNTER_LIMIT)
        if tag != self._tag or not counter or role >= len(_ROLES):
            return f"lighter_{index}"
        client_id = f"qubx_{symbol}_{counter}{_ROLES[role]}"
        with self._lock:
            self._ids.put(index, client_id)
        return client_id

    def encode(self, client_id: str) -> int:
        """Compute the index of a client id, and remember nothing."""
        _, counter, role = _read(client_id)
        if 0 < counter < _COUNTER_LIMIT:
            return (self._tag << _TAG_SHIFT) | (role << _COUNTER_BITS) | counter
        if (match := _FOREIGN_ID.fullmatch(client_id)) and (index := int(match[1])) <= MAX_CLIENT_ORDER_INDEX:
            return index
        digest = blake2b(client_id.encode(), digest_size=_TAG_SHIFT // 8).digest()
        return (_HASH_TAG << _TAG_SHIFT) | int.from_bytes(digest)


@lru_cache(_REMEMBERED)  # an order's id is read when it is made, when the order is planned, and when it is told of
def _read(client_id: str) -> tuple[str, int, int]:
    """Give what stands before the counter of an id of Qubx's, the counter and the role; a counter of 0 where it is another's."""
    match = _QUBX_ID.fullmatch(client_id)
    if match is None:
        return "", 0, 0
    return client_id[: match.start(1)], int(match[1]), _ROLES.index(match[2] or "")


# --- order rows ------------------------------------------------------------------------------------------------------


class TransitionKind(Enum):
    """What a row adds to what is known of its order."""

    OPENED = auto()  # the venue has it
    FILLED_MORE = auto()  # and it is not thereby complete: that is DONE alone
    AMENDED = auto()  # price, total size or order version changed
    ACTIVATED = auto()  # it waited: now its trigger is met and it is a limit order, or it has its parent's size
    DONE = auto()


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of an order's life.

    Attributes:
        kind: which step.
        row: the row that told it, with the price and the sizes after it.
        rested: whether the order was in the book before.
        status: what the row's status means for an order that did, or did not, rest.
        filled_delta: how much of the base asset is newly filled.
    """

    kind: TransitionKind
    row: OrderRow
    rested: bool
    status: Status
    filled_delta: float


@dataclass(slots=True)
class _Working:
    row: OrderRow
    rested: bool


class OrderTracker:
    """Follow the orders of one account through their rows.

    Args:
        remember: how many ended orders are remembered; a row of an older one would start it anew.
    """

    def __init__(self, remember: int = _REMEMBERED) -> None:
        self._working: dict[int, _Working] = {}
        self._ended: _Recent[int, _Working] = _Recent(remember)
        self._standing: dict[int, OrderRow] = {}  # the newest row of each working order, by client index

    def observe(self, row: OrderRow) -> list[Transition]:
        """Say what a row adds, in the order it happened; nothing for one that is old or known.

        Raises:
            WireError: the status is unknown; the order stays as it was.
        """
        index = row.order_index
        known = self._working.get(index)
        rested = known is not None and known.rested
        already = known.row.filled_base_amount if known is not None else 0.0
        status = classify_status(row.status, rested=rested, filled=max(row.filled_base_amount, already) > 0)
        if self._ended.get(index) is not None or (known is not None and _is_older(row, known.row, status)):
            return []
        if status.terminal:
            self._working.pop(index, None)
            self._ended.put(index, _Working(row, rested))
            if (standing := self._standing.get(row.client_order_index)) is not None and standing.order_index == index:
                del self._standing[row.client_order_index]
        else:
            self._working[index] = _Working(row, rested or row.status in _RESTING)
            if row.client_order_index:
                self._standing[row.client_order_index] = row
        delta = _difference(row.filled_base_amount, already)
        return [Transition(kind, row, rested, status, delta) for kind in _steps(row, known, status, delta)]

    def active(self) -> list[OrderRow]:
        """List the newest row of each order that has not ended."""
        return [order.row for order in self._working.values()]

    def missing_from(self, rows: Iterable[OrderRow]) -> list[OrderRow]:
        """List the orders that a complete list of working orders lacks: they ended, or came after it was made."""
        listed = {row.order_index for row in rows}
        return [order.row for index, order in self._working.items() if index not in listed]

    def latest(self, order_index: int) -> OrderRow | None:
        """Give the newest row of an order, ended ones included; None when it is not known."""
        order = self._find(order_index)
        return None if order is None else order.row

    def rested(self, order_index: int) -> bool:
        """Tell whether an order is, or before its end was, seen in the book."""
        order = self._find(order_index)
        return order is not None and order.rested

    def standing(self, client_order_index: int) -> OrderRow | None:
        """Give the newest row of the working order that has a client order index, of which there is one at most; from any thread."""
        return self._standing.get(client_order_index)

    def client_order_index(self, order_index: int) -> int:
        """Give the client order index of an order; 0 when it has none or is not known."""
        order = self._find(order_index)
        return 0 if order is None else order.row.client_order_index

    def _find(self, order_index: int) -> _Working | None:
        return self._working.get(order_index) or self._ended.get(order_index)


_WAITING: Final = "pending"
_RESTING: Final = frozenset({"open", _WAITING})
_FIRST_BID_NONCE: Final = 1 << 47


def _steps(row: OrderRow, known: _Working | None, status: Status, filled_delta: float) -> list[TransitionKind]:
    steps = []
    if known is None:
        if status.kind is not StatusKind.REJECTED:
            steps.append(TransitionKind.OPENED)
    elif not status.terminal and _is_activated(row, known.row):
        steps.append(TransitionKind.ACTIVATED)
    elif _terms(row) != _terms(known.row):
        steps.append(TransitionKind.AMENDED)
    if filled_delta and status.kind is not StatusKind.FILLED:
        steps.append(TransitionKind.FILLED_MORE)
    if status.terminal:
        steps.append(TransitionKind.DONE)
    return steps


def _is_activated(row: OrderRow, known: OrderRow) -> bool:
    """Tell whether an order that waited has come a step further by itself."""
    if known.status != _WAITING:
        return False
    triggered = row.status != _WAITING and bool(row.trigger_price)
    return triggered or (not known.initial_base_amount and row.initial_base_amount > 0)


def _terms(row: OrderRow) -> tuple[float, float, int]:
    return row.price, row.initial_base_amount, row.order_version


def _is_older(row: OrderRow, known: OrderRow, status: Status) -> bool:
    """Tell whether ``row`` was superseded by ``known``, a row of the same working order."""
    if status.terminal:
        return False
    if row.filled_base_amount != known.filled_base_amount:
        return row.filled_base_amount < known.filled_base_amount
    for new, old in (
        (row.transaction_time, known.transaction_time),
        (row.order_version + 1, known.order_version + 1),  # left out when zero
        (_sequence(row.nonce), _sequence(known.nonce)),
        (time_ns(row.updated_at), time_ns(known.updated_at)),
    ):
        if new and old and new != old:  # what either row lacks decides nothing
            return new < old
    return False


def _sequence(nonce: int) -> int:
    """Make a row's nonce rise with time.

    In the frames of 2025 it is the order's place in the queue, the lower 48 bits of ``order_index``, anew with each
    amend: asks count up from 0, bids count down from 2**48 - 1.
    """
    return -nonce if nonce >= _FIRST_BID_NONCE else nonce


def _difference(new: float, old: float) -> float:
    """Subtract as decimals, so that what is filled in steps adds up; a row that tells less than was known adds 0."""
    return max(0.0, float(Decimal(repr(new)) - Decimal(repr(old))))


class FillDeduplicator:
    """Remember which fills were seen: a trade has one on each side, and both may be ours.

    Args:
        remember: how many; the oldest is forgotten first.
    """

    def __init__(self, remember: int = _REMEMBERED) -> None:
        self._fills: _Recent[tuple[int, int, bool], int] = _Recent(remember)

    def seen(self, market_id: int, trade_id: int, is_ask: bool) -> bool:  # noqa: FBT001 - part of the fill's identity
        """Tell whether a fill was seen before, and remember it."""
        key = (market_id, trade_id, is_ask)
        known = self._fills.get(key) is not None
        if not known:
            self._fills.put(key, trade_id)
        return known
