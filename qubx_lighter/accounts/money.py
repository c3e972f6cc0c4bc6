"""Frames about money as Qubx's balances: figures, assets, positions; and the venue's notices."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from qubx import logger
from qubx.core.basics import ITimeProvider, dt_64
from qubx.core.events import BalanceUpdateEvent

from qubx_lighter.handlers.account import to_dt64, to_ns
from qubx_lighter.handlers.forced import describe
from qubx_lighter.handlers.money import Push, Wallet
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.venue_clock import VenueClock

_NOTIFICATIONS: Final = 1_000


class AccountMoney:
    """Tell Qubx of balances.

    Args:
        account_index: whose.
        wallet: puts balances together.
        on_positions: called with each row of a position that is pushed.
        emit: puts an event on Qubx's channel.
        time_provider: Qubx's clock.
        clock: the venue's, which frames set.
    """

    def __init__(
        self,
        *,
        account_index: int,
        wallet: Wallet,
        on_positions: Callable[[Iterable[wire.PositionRow]], None],
        emit: Callable[[object], None],
        time_provider: ITimeProvider,
        clock: VenueClock,
    ) -> None:
        self._account = account_index
        self._wallet = wallet
        self._on_positions = on_positions
        self._emit = emit
        self._time = time_provider
        self._clock = clock
        self._notified: deque[str | int] = deque(maxlen=_NOTIFICATIONS)
        self._hears_notifications = False
        self.stats = {"notifications": 0}

    def on_user_stats(self, kind: str, raw: bytes) -> None:
        """Take the figures of cross margin."""
        del kind
        frame = wire.decode(wire.UserStatsFrame, raw)
        self._push(self._wallet.on_stats(frame.stats, self._frame_time(frame.timestamp)))

    def on_assets(self, kind: str, raw: bytes) -> None:
        """Take assets."""
        frame = wire.decode(wire.AccountAssetsFrame, raw)
        rows = [row for row in (frame.assets or {}).values() if row is not None]
        self._push(self._wallet.on_assets(rows, self._frame_time(frame.timestamp), complete=kind == "subscribed"))

    def on_positions(self, kind: str, raw: bytes) -> None:
        """Take positions, for what is allocated to them and configured of their markets."""
        rows = wire.decode(wire.AccountPositionsFrame, raw).positions or {}
        known = {row.market_id: row for row in rows.values() if row is not None}
        self._on_positions(known.values())
        self._push(self._wallet.on_positions(known, complete=kind == "subscribed"))

    def on_notifications(self, kind: str, raw: bytes) -> None:
        """Pass on what the venue has to say; what it did to positions is told by the deals."""
        known_before = kind == "subscribed" and not self._hears_notifications
        self._hears_notifications = True
        for note in wire.decode(wire.NotificationsFrame, raw).notifs or []:
            if note.id in self._notified:
                continue
            self._notified.append(note.id)
            if not known_before:
                self.stats["notifications"] += 1
                logger.warning("lighter: the venue notifies account {}: {}", self._account, describe(note))

    def _push(self, pushes: list[Push]) -> None:
        for push in pushes:
            self._emit(BalanceUpdateEvent(instrument=None, balance=push.balance, as_of=push.as_of))

    def _frame_time(self, timestamp_ms: int) -> dt_64:
        """Give a frame's time; frames of 2025 have none.

        The venue's milliseconds are cut off, deals carry microseconds: the end of the millisecond covers its deals.
        """
        now = self._time.time()
        self._clock.heard(timestamp_ms * 1_000_000, to_ns(now))
        return to_dt64((timestamp_ms + 1) * 1_000_000 - 1) if timestamp_ms else to_dt64(self._clock.at(to_ns(now)))
