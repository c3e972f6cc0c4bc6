"""Orders that Qubx did not send, shown to it before anything else is told of them.

Qubx takes side, size and price of such an order from the snapshot that shows it first, and from nothing later: a deal or an
amend of an order that it does not know becomes an order that buys, without size or price. It asks for all orders every five
minutes only. So an order of another client, or one that closes a group, is shown in a snapshot of the orders alone: before its
first deal or amend, or after a second.

Such a snapshot is as of the last one and a bit. So it makes none stale that is being fetched, and no order that was sent
meanwhile counts as missing. Each snapshot puts off Qubx's next question for one, so that is asked here instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import numpy as np
from qubx.core.basics import Order, dt_64
from qubx.core.events import AccountSnapshot, AccountSnapshotEvent

_PATIENCE_S: Final = 1.0
_WHOLE_EVERY_S: Final = 30.0  # as Qubx asks (snapshot_interval_ms)
_INSTANT: Final = np.timedelta64(1, "ns")


class Introductions:
    """Decide when Qubx must be shown its orders anew; runs on the loop.

    Args:
        exchange: of the snapshots.
        untold: whether an order is working that no snapshot has told of.
        working: all working orders, which count as told from then on.
        want_snapshot: asks for a whole snapshot.
        emit: puts an event on Qubx's channel.
        loop: where the second passes.
    """

    def __init__(
        self,
        *,
        exchange: str,
        untold: Callable[[int | None], bool],
        working: Callable[[], list[Order]],
        want_snapshot: Callable[[], None],
        emit: Callable[[object], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._exchange = exchange
        self._untold = untold
        self._working = working
        self._want_snapshot = want_snapshot
        self._emit = emit
        self._loop = loop
        self._as_of: dt_64 | None = None
        self._whole_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def whole_told(self, as_of: dt_64) -> None:
        """Take note of a whole snapshot."""
        self._as_of = as_of
        self._whole_at = self._loop.time()

    def opened(self) -> None:
        """See to it that an order that Qubx did not send is shown soon."""
        if self._timer is None:
            self._timer = self._loop.call_later(_PATIENCE_S, self._introduce_all)

    def introduce(self, order_index: int) -> None:
        """Show an order now, if that was not done yet; before the first whole snapshot that one will."""
        if self._untold(order_index):
            self._show()

    def close(self) -> None:
        """Show nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _introduce_all(self) -> None:
        self._timer = None
        if self._untold(None):
            self._show()

    def _show(self) -> None:
        if self._as_of is None:
            return
        if self._loop.time() - self._whole_at > _WHOLE_EVERY_S:
            self._whole_at = self._loop.time()
            self._want_snapshot()
        self._as_of += _INSTANT
        orders = AccountSnapshot(
            exchange=self._exchange, as_of=self._as_of, open_orders=self._working(), positions=None, balances=None
        )
        self._emit(AccountSnapshotEvent(instrument=None, snapshot=orders))
