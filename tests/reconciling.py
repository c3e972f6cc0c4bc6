"""A desk whose account asks again, as it does in a run, with shorter waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from qubx.core.account_manager.config import AccountManagerConfig
from qubx.core.account_manager.manager import AccountManager

from tests.live import Desk, LiveVenue

SHORT = AccountManagerConfig(
    snapshot_interval_ms=300,
    full_snapshot_interval_ms=300,
    snapshot_grace_ms=200,
    missing_order_wait_ms=300,
    order_confirm_wait_ms=300,
    missing_order_retries=50,
    order_confirm_retries=50,
    position_confirm_wait_ms=300,
)


class Reconciling(Desk):
    """A desk whose account asks again, as in a run: snapshots, the status of orders in doubt, deals that are missing."""

    def __init__(self, venue: LiveVenue, cfg: AccountManagerConfig = SHORT, **params: Any) -> None:
        super().__init__(venue, tx_timeout_s=0.3, **params)
        self.account = AccountManager(
            connectors={"LIGHTER": self.connector},
            base_currencies={"LIGHTER": "USDC"},
            time=self.time,
            cfg=cfg,
            pm=self,  # type: ignore[arg-type]  # all that the manager asks of Qubx's processing are the two methods below
        )
        self._ticks_at = 0.0

    def schedule(self, *_: object) -> None:
        """Take the manager's wish to be ticked; ``until`` does that."""

    def process_event(self, event: Any) -> None:
        """Take an event of the reconciler's own."""
        self.events.append(event)
        self.account.apply(event)

    def until(self, condition: Callable[[], object]) -> None:
        """Take messages, and let the reconciler act, until a condition holds."""

        def ticking() -> object:
            if time.monotonic() >= self._ticks_at:
                self._ticks_at = time.monotonic() + 0.1
                self.account._on_reconcile_tick(None)
            return condition()

        super().until(ticking)
