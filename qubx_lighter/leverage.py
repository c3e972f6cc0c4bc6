"""Configured leverage and margin mode per market: a cache of the venue's values, and paced writes.

What the venue accepted (200) is only queued: a value counts once the account's stream shows its transaction executed, or a
snapshot shows the value.

Qubx asks for the default leverage of every instrument of the universe at start. Each change is a signed transaction and the
venue takes 40 of those a minute, so equal values are skipped, a newer wish replaces an older one that has not left yet, and
the rest goes out one by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from qubx import logger
from qubx.core.basics import Instrument, ITimeProvider, VenueSettingsUpdate, create_venue_settings_event
from qubx.core.errors import ErrorLevel, VenueOperationError, create_error_event

from qubx_lighter.constants import MARGIN_FRACTION_SCALE, MarginMode, TxType
from qubx_lighter.errors import VenueError
from qubx_lighter.handlers.account import leverage_of, margin_mode_name
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.codes import Outcome
from qubx_lighter.protocol.requests import failure, own_nonce
from qubx_lighter.sender import Reply, Transaction, TransactionSender
from qubx_lighter.signer import SignedTx, Signer

_PACE_S: Final = 1.6


@dataclass(frozen=True, eq=False, slots=True)
class _Wish:
    """A setting on its way: ``fraction`` in 1e-4."""

    market_id: int
    fraction: int
    mode: MarginMode


class LeverageSettings:
    """Read and set leverage and margin mode.

    Args:
        instruments: the venue's markets and their limits.
        signer: signs.
        sender: sends.
        emit: puts a tuple on Qubx's channel.
        time_provider: Qubx's clock.
        loop: where the pacing runs.
        api_key_index: whose transactions are ours.
    """

    def __init__(
        self,
        *,
        instruments: LighterInstrumentLoader,
        signer: Signer,
        sender: TransactionSender,
        emit: Callable[[object], None],
        time_provider: ITimeProvider,
        loop: asyncio.AbstractEventLoop,
        api_key_index: int,
    ) -> None:
        self._api_key_index = api_key_index
        self._instruments = instruments
        self._signer = signer
        self._sender = sender
        self._emit = emit
        self._time = time_provider
        self._loop = loop
        self._configured: dict[int, tuple[int, MarginMode]] = {}  # market id -> (fraction in 1e-4, mode)
        self._wanted: dict[int, tuple[int, MarginMode]] = {}
        self._under_way: dict[str, _Wish] = {}  # by each hash and the nonce of its transaction
        self._task: asyncio.Task[None] | None = None

    def learn(self, account: wire.AccountRow) -> None:
        """Take the configured values from an account row; fractions there are percent."""
        for row in account.positions or []:
            if row.initial_margin_fraction:
                fraction = round(row.initial_margin_fraction * MARGIN_FRACTION_SCALE / 100)
                self._configured[row.market_id] = fraction, MarginMode(row.margin_mode)

    def observe(self, row: wire.TxRow) -> None:
        """Take the end of a transaction from the account's stream, where it is one of these."""
        if row.type != TxType.UPDATE_LEVERAGE:
            return
        nonce = own_nonce(row, self._api_key_index)
        wish = self._under_way.get(row.hash) or (None if nonce is None else self._under_way.get(str(nonce)))
        if wish is None:
            return
        self._forget(wish)
        reason = failure(row)
        if reason is None:
            self._took_effect(wish)
        else:
            self._failed(wish, 0, reason)

    def leverage(self, instrument: Instrument) -> float:
        """Tell the configured leverage."""
        return leverage_of(self._current(instrument)[0] / MARGIN_FRACTION_SCALE)

    def max_leverage(self, instrument: Instrument) -> float | None:
        """Tell the venue's highest leverage, or None where it gives no limit."""
        fraction = self._instruments.market(instrument).min_initial_margin_fraction
        return leverage_of(fraction / MARGIN_FRACTION_SCALE) if fraction else None

    def margin_mode(self, instrument: Instrument) -> str:
        """Tell the configured margin mode, ``cross`` or ``isolated``."""
        return margin_mode_name(self._current(instrument)[1])

    def set_leverage(self, instrument: Instrument, leverage: float) -> None:
        """Ask for a leverage, clamped to the venue's limits; thread-safe, answers by event."""
        market = self._instruments.market(instrument)
        lowest = max(market.min_initial_margin_fraction, 1)
        fraction = min(max(round(MARGIN_FRACTION_SCALE / leverage), lowest), MARGIN_FRACTION_SCALE)
        self._want(instrument, fraction, self._current(instrument)[1])

    def set_margin_mode(self, instrument: Instrument, mode: str) -> bool:
        """Ask for a margin mode; False when the name is not one."""
        modes = {"cross": MarginMode.CROSS, "isolated": MarginMode.ISOLATED}
        if mode.lower() not in modes:
            return False
        self._want(instrument, self._current(instrument)[0], modes[mode.lower()])
        return True

    async def close(self) -> None:
        """Stop the pacing; what was not sent is dropped."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _current(self, instrument: Instrument) -> tuple[int, MarginMode]:
        market = self._instruments.market(instrument)
        unset = market.default_initial_margin_fraction or MARGIN_FRACTION_SCALE, MarginMode.CROSS
        return self._configured.get(market.market_id, unset)

    def _want(self, instrument: Instrument, fraction: int, mode: MarginMode) -> None:
        market_id = self._instruments.market(instrument).market_id
        wanted = fraction, mode
        if self._wanted.get(market_id, self._current(instrument)) != wanted:
            self._wanted[market_id] = wanted
            self._loop.call_soon_threadsafe(self._ensure_running)

    def _ensure_running(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._run(), name="lighter-leverage")

    async def _run(self) -> None:
        while self._wanted:
            market_id = next(iter(self._wanted))
            fraction, mode = self._wanted.pop(market_id)
            if self._configured.get(market_id) != (fraction, mode):
                wish = _Wish(market_id, fraction, mode)
                label = f"leverage of market {market_id}"
                sent, replied = partial(self._sent, wish), partial(self._replied, wish)
                self._sender.submit(
                    Transaction(label, TxType.UPDATE_LEVERAGE, partial(self._sign, wish), replied, sent)
                )
                await asyncio.sleep(_PACE_S)

    async def _sign(self, wish: _Wish, nonce: int) -> SignedTx:
        return await self._signer.update_leverage(
            market_id=wish.market_id, initial_margin_fraction=wish.fraction, margin_mode=wish.mode, nonce=nonce
        )

    def _sent(self, wish: _Wish, signed: SignedTx, nonce: int) -> None:
        self._under_way[signed.tx_hash] = self._under_way[str(nonce)] = wish

    def _replied(self, wish: _Wish, reply: Reply) -> None:
        """Code 200 is queued, no more; without an answer the next snapshot tells."""
        if reply.outcome is Outcome.ACCEPTED:
            if wish in self._under_way.values():  # its end may have been seen before this reply
                self._under_way[reply.tx_hash] = wish
            return
        self._forget(wish)
        if reply.outcome is Outcome.REFUSED:
            self._failed(wish, reply.code, reply.message)

    def _forget(self, wish: _Wish) -> None:
        self._under_way = {tx_hash: other for tx_hash, other in self._under_way.items() if other is not wish}

    def _took_effect(self, wish: _Wish) -> None:
        self._configured[wish.market_id] = wish.fraction, wish.mode
        instrument = self._instruments.instrument(wish.market_id)
        leverage = leverage_of(wish.fraction / MARGIN_FRACTION_SCALE)
        update = VenueSettingsUpdate(instrument, leverage=leverage, margin_mode=margin_mode_name(wish.mode))
        self._emit(create_venue_settings_event(update))

    def _failed(self, wish: _Wish, code: int, text: str) -> None:
        instrument = self._instruments.instrument(wish.market_id)
        logger.warning("lighter: leverage of {} was not set: {} {}", instrument.symbol, code, text)
        error = VenueOperationError(
            timestamp=self._time.time(),
            message=f"leverage of {instrument.symbol} was not set",
            level=ErrorLevel.MEDIUM,
            error=VenueError(code, text),
            operation="set_instrument_leverage",
            instrument=instrument,
        )
        self._emit(create_error_event(error))
