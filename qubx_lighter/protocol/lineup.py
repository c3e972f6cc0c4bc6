"""Who goes next: transactions that wait for their turn, and which of them end without ever leaving.

Theory of operation. There are three classes. Cancels overtake orders (creates, groups, amends), orders overtake settings
(leverage and the rest); within a class the callers' order holds. So the order among the transactions of one order is kept,
but for its cancel, and that needs a rule, since a cancel that arrives before its create would fail and leave the order be:

* A cancel ends everything of its order that has not left: an amend, the create, and then, for want of anything to cancel,
  itself. None of them is sent: nobody waits for room in a budget to place an order that is not wanted any more.
* What has left may come back, where the venue provably did not do it. If its order was cancelled meanwhile it ends too.
* A cancel-all ends in the same way what was asked for before it, in its market or in all, and has not left.
* What has waited too long ends: whoever asked for it has given it up by then.

"Has left" begins when a transaction gets its nonce (``take``), since those behind it count on that.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import takewhile
from math import inf
from operator import attrgetter
from typing import Final

from qubx_lighter.constants import TxType


class Priority(IntEnum):
    """The classes, the most urgent first."""

    CANCEL = 0
    ORDER = 1
    SETTING = 2


_CREATES: Final = frozenset({TxType.CREATE_ORDER, TxType.CREATE_GROUPED_ORDERS})
_PRIORITIES: Final[dict[int, Priority]] = {
    TxType.CANCEL_ORDER: Priority.CANCEL,
    TxType.CANCEL_ALL_ORDERS: Priority.CANCEL,
    TxType.CREATE_ORDER: Priority.ORDER,
    TxType.CREATE_GROUPED_ORDERS: Priority.ORDER,
    TxType.MODIFY_ORDER: Priority.ORDER,
}
_by_number: Final = attrgetter("number")


@dataclass(slots=True, eq=False)
class Entry:
    """A transaction from its call to its outcome.

    Attributes:
        number: its place in the callers' order.
        tx_type: what it is.
        order_id: the order that it is about; empty for none, or for all.
        market_id: the market that it is about; None for none, or for all.
        asked_at: when it was asked for, seconds of any origin.
        leave_by: when it is too old to leave, likewise; later for a later one of its class.
        priority: its class.
        waiting: whether it is in line, and not on its way or through.
        unwanted: whether its order was cancelled after it had left.
    """

    number: int
    tx_type: int
    order_id: str = ""
    market_id: int | None = None
    asked_at: float = 0.0
    leave_by: float = inf
    priority: Priority = field(init=False)
    waiting: bool = field(default=False, init=False)
    unwanted: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.priority = _PRIORITIES.get(self.tx_type, Priority.SETTING)


class Lineup[E: Entry]:
    """Keep the transactions of one API key in line; what a method returns has ended, oldest first, and gets an outcome."""

    def __init__(self) -> None:
        self._classes: dict[Priority, list[E]] = {priority: [] for priority in Priority}
        self._away: set[E] = set()
        self._of_order: dict[str, list[E]] = {}  # in line or away

    def __len__(self) -> int:
        """Count those in line."""
        return sum(map(len, self._classes.values()))

    def holds(self, order_id: str) -> bool:
        """Tell whether anything of an order is in line or away."""
        return order_id in self._of_order

    def put(self, entry: E) -> list[E]:
        """Take one into the line, new or back from its way; it may be among those that end."""
        kin: list[E] = []
        if entry.order_id:
            kin = self._of_order.setdefault(entry.order_id, [])
            if entry not in kin:
                kin.append(entry)
        self._away.discard(entry)
        insort(self._classes[entry.priority], entry, key=_by_number)
        entry.waiting = True
        if entry.unwanted:
            return self._end([entry])
        if entry.tx_type == TxType.CANCEL_ORDER:
            return self._end(other for other in kin if _ends(entry, other))
        return []

    def first(self, limit: int) -> Sequence[E]:
        """Look at the first of the most urgent class, at most ``limit`` of them."""
        for line in self._classes.values():
            if line:
                return line[:limit]
        return ()

    def take(self, entries: Iterable[E]) -> None:
        """Let some out: each comes back with ``put`` or is through with ``done``."""
        for entry in entries:
            self._remove(entry)
            self._away.add(entry)

    def done(self, entry: E) -> None:
        """Forget one that has its outcome; those that ended need this too."""
        self._away.discard(entry)
        if entry.waiting:
            self._remove(entry)
        if kin := self._of_order.get(entry.order_id):
            if entry in kin:
                kin.remove(entry)
            if not kin:
                del self._of_order[entry.order_id]

    def sweep(self, before: int, market_id: int | None) -> list[E]:
        """End creates and amends with a number below ``before``, of one market or of all, as a cancel-all does."""
        swept = [
            entry
            for entry in (*self._classes[Priority.ORDER], *self._away)
            if entry.priority is Priority.ORDER
            and entry.number < before
            and (market_id is None or entry.market_id == market_id)
        ]
        return self._end(swept)

    @property
    def due(self) -> float:
        """Tell when the first of those in line will be too old; infinite without any."""
        return min([line[0].leave_by for line in self._classes.values() if line], default=inf)

    def end_late(self, now: float) -> list[E]:
        """End those in line that are too old, and with a create what else waits of its order."""
        return self._end(
            entry for line in self._classes.values() for entry in takewhile(lambda entry: entry.leave_by <= now, line)
        )

    def clear(self, spare: Priority | None = None) -> list[E]:
        """End all that are in line, but for a class that is spared."""
        return self._end(
            entry for priority, line in self._classes.items() if priority is not spare for entry in list(line)
        )

    def _end(self, entries: Iterable[E]) -> list[E]:
        ended: dict[E, None] = {}
        for entry in list(entries):
            entry.unwanted = True
            if not entry.waiting:
                continue
            ended[entry] = None
            if entry.tx_type in _CREATES:  # with which the rest of its order has lost its point
                for other in self._of_order.get(entry.order_id, ()):
                    other.unwanted = True
                    if other.waiting:
                        ended[other] = None
        for entry in ended:
            self._remove(entry)
        return sorted(ended, key=_by_number)

    def _remove(self, entry: E) -> None:
        line = self._classes[entry.priority]
        del line[bisect_left(line, entry.number, key=_by_number)]
        entry.waiting = False


def _ends(cancel: Entry, other: Entry) -> bool:
    """Tell whether a cancel leaves ``other``, of the same order, without a point."""
    return other.number < cancel.number and other.tx_type != TxType.CANCEL_ORDER
