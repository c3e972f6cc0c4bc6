"""Funding that our positions paid or received, each settlement exactly once.

The ledger is the venue's list over REST: no channel shows settlements reliably (``account_all`` has ``funding_histories``,
normally empty). It is asked for several times after each hour, from the last hour that was asked for in full, so that
neither a late entry nor a venue that did not answer for hours costs a payment. What was settled before the start is part
of the first snapshot, and told by nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from qubx import logger
from qubx.core.basics import ITimeProvider
from qubx.core.events import FundingPaymentEvent

from qubx_lighter.client import LighterClient
from qubx_lighter.errors import LighterError
from qubx_lighter.handlers.account import to_dt64, to_ns
from qubx_lighter.handlers.funding import HOUR_S, next_poll_s, settlements
from qubx_lighter.instruments import LighterInstrumentLoader

_NS: Final = 1_000_000_000
_TICK_S: Final = 1.0  # clocks are set, machines sleep: time is looked at, not slept through
_RETRY_S: Final = 30
_REMEMBERED_S: Final = 48 * HOUR_S
_OVERLAP_S: Final = 2 * HOUR_S  # how late the list may show a settlement


class FundingLedger:
    """Tell Qubx of funding payments.

    Args:
        account_index: whose.
        client: typed REST.
        instruments: the venue's markets.
        emit: puts an event on Qubx's channel.
        time_provider: Qubx's clock.
    """

    def __init__(
        self,
        *,
        account_index: int,
        client: LighterClient,
        instruments: LighterInstrumentLoader,
        emit: Callable[[object], None],
        time_provider: ITimeProvider,
    ) -> None:
        self._account = account_index
        self._client = client
        self._instruments = instruments
        self._emit = emit
        self._time = time_provider
        self._start_s = 0.0
        self._asked_s = 0.0  # when the list was last fetched
        self._told: dict[tuple[int, int], float] = {}  # (market id, hour) -> amount
        self.stats = {"funding_payments": 0, "funding_polls": 0, "failed_funding_polls": 0}

    def start(self) -> None:
        """Leave what was settled before now to the first snapshot."""
        self._start_s = self._asked_s = self._now_s()

    async def run(self) -> None:
        """Ask after every hour, for ever; begin when Qubx knows the positions, since it drops what is of unknown ones."""
        due_s: float = next_poll_s(self._start_s)
        while True:
            if (left_s := due_s - self._now_s()) > 0:
                await asyncio.sleep(min(left_s, _TICK_S))
                continue
            try:
                await self.poll()
            except LighterError as error:
                self.stats["failed_funding_polls"] += 1
                logger.warning("lighter: funding payments could not be fetched, again in {} s: {}", _RETRY_S, error)
                due_s = self._now_s() + _RETRY_S
            else:
                due_s = next_poll_s(self._now_s())

    async def poll(self) -> None:
        """Fetch what was settled since the last time, and tell what is new."""
        now_s = self._now_s()
        since_s = max(self._start_s, self._asked_s - _OVERLAP_S)
        rows = await self._client.position_fundings(self._account, int(since_s) // HOUR_S * HOUR_S)
        if any(not self._instruments.knows(row.market_id) for row in rows):
            await self._instruments.load()
        for settlement in settlements(rows):
            if settlement.hour_s > self._start_s:
                self._tell(settlement.market_id, settlement.hour_s, settlement.amount)
        self._asked_s = now_s
        self.stats["funding_polls"] += 1
        self._told = {key: amount for key, amount in self._told.items() if key[1] > now_s - _REMEMBERED_S}

    def _tell(self, market_id: int, hour_s: int, amount: float) -> None:
        known = self._told.get((market_id, hour_s))
        if known is None and self._instruments.knows(market_id):
            self._told[market_id, hour_s] = amount
            self.stats["funding_payments"] += 1
            instrument, time = self._instruments.instrument(market_id), to_dt64(hour_s * _NS)
            logger.info("lighter: funding of {} at {}: {:+.6f}", instrument.symbol, time, amount)
            self._emit(FundingPaymentEvent(instrument=instrument, time=time, amount=amount))
        elif known is not None and known != amount:
            self._told[market_id, hour_s] = amount
            logger.error(
                "lighter: funding of market {} at {} was told as {} and is {} now: Qubx books one payment an hour",
                market_id,
                to_dt64(hour_s * _NS),
                known,
                amount,
            )

    def _now_s(self) -> float:
        return to_ns(self._time.time()) / _NS
