"""Configured leverage and margin mode per market: a cache of the venue's values, and paced writes.

What the venue accepted (200) is only queued: a value counts once its transaction was executed, or once a row of the account
shows it.

Qubx asks for the default leverage of every instrument of the universe at start. Each change is a signed transaction and the
venue takes 40 of those a minute, so equal values are skipped, a newer wish replaces an older one that has not left yet, and
the rest goes out one by one.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

from qubx import logger
from qubx.core.basics import Instrument, ITimeProvider, MarketType, VenueSettingsUpdate, create_venue_settings_event

from qubx_lighter.constants import MARGIN_FRACTION_SCALE, MarginMode, TxType
from qubx_lighter.errors import LighterError, VenueError
from qubx_lighter.handlers.account import leverage_of, margin_mode_name
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.native.key import SignedTx
from qubx_lighter.operation_errors import operation_failed
from qubx_lighter.protocol import wire
from qubx_lighter.signer import Signer
from qubx_lighter.transactions.watch import End, TransactionWatch

_PACE_S: Final = 1.6
_NO_CAP: Final = math.inf  # the venue caps no notional by leverage
_MODES: Final = {"cross": MarginMode.CROSS, "isolated": MarginMode.ISOLATED}


MAKER_ONLY: Final = "this API key is maker-only: the venue takes orders from it, and no settings; use another key"


class Setting(NamedTuple):
    """What is configured for a market: the initial margin fraction in 1e-4, and the margin mode."""

    fraction: int
    mode: MarginMode


class LeverageSettings:
    """Read and set leverage and margin mode.

    Reads are of memory, from any thread. Wishes and what the venue says of them meet on the loop.

    Args:
        instruments: the venue's markets and their limits.
        watch: signs, sends, and tells what became of it.
        working_orders: counts the working orders of a market.
        emit: puts a tuple on Qubx's channel.
        time_provider: Qubx's clock.
        loop: where the pacing runs.
        pace_s: between two transactions.

    Attributes:
        maker_only: whether the API key may place nothing but post-only orders: the venue takes no setting from it.
    """

    def __init__(
        self,
        *,
        instruments: LighterInstrumentLoader,
        watch: TransactionWatch,
        working_orders: Callable[[int], int],
        emit: Callable[[object], None],
        time_provider: ITimeProvider,
        loop: asyncio.AbstractEventLoop,
        pace_s: float = _PACE_S,
    ) -> None:
        self._instruments = instruments
        self._watch = watch
        self._working_orders = working_orders
        self._emit = emit
        self._time = time_provider
        self._loop = loop
        self._pace_s = pace_s
        self._configured: dict[int, Setting] = {}
        self._held: set[int] = set()  # markets with a position
        self._wanted: dict[int, Setting] = {}
        self._under_way: dict[int, Setting] = {}
        self._task: asyncio.Task[None] | None = None
        self.maker_only = False

    # --- what the venue says -----------------------------------------------------------------------------------------

    def learn(self, rows: Iterable[wire.PositionRow]) -> None:
        """Take what is configured from rows of positions, which the venue keeps for flat markets too; say what is new."""
        for row in rows:
            (self._held.add if row.position else self._held.discard)(row.market_id)
            if not row.initial_margin_fraction:
                continue
            fraction = round(row.initial_margin_fraction * MARGIN_FRACTION_SCALE / 100)  # the row's is percent
            mode = MarginMode.ISOLATED if row.margin_mode == MarginMode.ISOLATED else MarginMode.CROSS
            self._configure(row.market_id, Setting(fraction, mode))

    def _configure(self, market_id: int, setting: Setting) -> None:
        before = self._configured.get(market_id)
        self._configured[market_id] = setting
        if before not in (None, setting) and self._instruments.knows(market_id):
            self._announce(market_id, setting)

    def _announce(self, market_id: int, setting: Setting) -> None:
        update = VenueSettingsUpdate(
            self._instruments.instrument(market_id),
            leverage=leverage_of(setting.fraction / MARGIN_FRACTION_SCALE),
            margin_mode=margin_mode_name(setting.mode),
            max_notional=_NO_CAP,
        )
        self._emit(create_venue_settings_event(update))

    # --- reads -------------------------------------------------------------------------------------------------------

    def leverage(self, instrument: Instrument) -> float | None:
        """Tell the configured leverage; None for what has none."""
        return (
            leverage_of(self._current(instrument).fraction / MARGIN_FRACTION_SCALE)
            if _is_leveraged(instrument)
            else None
        )

    def max_leverage(self, instrument: Instrument) -> float | None:
        """Tell the venue's highest leverage by the market's present rules; None where there is no limit, or no leverage."""
        fraction = self._instruments.market(instrument).min_initial_margin_fraction
        return leverage_of(fraction / MARGIN_FRACTION_SCALE) if fraction else None

    def max_notional(self, instrument: Instrument) -> float:
        """Say that the venue caps no notional by leverage."""
        del instrument
        return _NO_CAP

    def margin_mode(self, instrument: Instrument) -> str | None:
        """Tell the configured margin mode, ``cross`` or ``isolated``; None for what has none."""
        return margin_mode_name(self._current(instrument).mode) if _is_leveraged(instrument) else None

    def holds(self, instrument: Instrument) -> bool:
        """Tell whether the account has a position there, as far as is known."""
        return self._instruments.market(instrument).market_id in self._held

    def _current(self, instrument: Instrument) -> Setting:
        return self._setting(self._instruments.market(instrument).market_id)

    def _setting(self, market_id: int) -> Setting:
        market = self._instruments.market_by_id(market_id)
        unset = Setting(market.default_initial_margin_fraction or MARGIN_FRACTION_SCALE, MarginMode.CROSS)
        return self._configured.get(market_id, unset)

    # --- writes ------------------------------------------------------------------------------------------------------

    def set_leverage(self, instrument: Instrument, leverage: float) -> None:
        """Ask for a leverage, clamped to the market's limits; thread-safe, answers by event."""
        market = self._instruments.market(instrument)
        if not _is_leveraged(instrument):
            self._refused(instrument, "set_instrument_leverage", "the venue has leverage on perpetuals alone")
        elif not 0 < leverage < math.inf:
            self._refused(instrument, "set_instrument_leverage", f"{leverage!r} is no leverage")
        else:
            fraction = max(round(MARGIN_FRACTION_SCALE / max(leverage, 1.0)), market.min_initial_margin_fraction, 1)
            if self.maker_only and fraction != self._intended(market.market_id).fraction:
                self._refused(instrument, "set_instrument_leverage", MAKER_ONLY)
                return
            self._loop.call_soon_threadsafe(self._want, market.market_id, fraction, None)

    def set_margin_mode(self, instrument: Instrument, mode: str) -> bool:
        """Ask for a margin mode; False, with the reason as an event, where the venue would refuse it."""
        market_id = self._instruments.market(instrument).market_id
        wanted = _MODES.get(mode.lower())
        if wanted is None or not _is_leveraged(instrument):
            reason = f"{mode!r} is not one of {', '.join(_MODES)}" if wanted is None else "only perpetuals have one"
        elif wanted == self._intended(market_id).mode:
            return True
        elif self.maker_only:
            reason = MAKER_ONLY
        elif (reason := self._occupied(market_id)) == "":
            self._loop.call_soon_threadsafe(self._want, market_id, None, wanted)
            return True
        self._refused(instrument, "set_margin_mode", reason)
        return False

    def _occupied(self, market_id: int) -> str:
        """Say what keeps the margin mode of a market as it is; the venue refuses the change then, with code 21132."""
        orders = self._working_orders(market_id)
        found = ["a position"] if market_id in self._held else []
        found += [f"{orders} working order{'s' if orders > 1 else ''}"] if orders else []
        return f"the venue changes no margin mode where there is {' and '.join(found)}: close first" if found else ""

    async def close(self) -> None:
        """Stop the pacing; what was not sent is dropped."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # --- on the loop -------------------------------------------------------------------------------------------------

    def _intended(self, market_id: int) -> Setting:
        return self._wanted.get(market_id) or self._standing(market_id)

    def _standing(self, market_id: int) -> Setting:
        """Tell what will be configured once the venue has answered."""
        return self._under_way.get(market_id) or self._setting(market_id)

    def _want(self, market_id: int, fraction: int | None, mode: MarginMode | None) -> None:
        intended = self._intended(market_id)
        wanted = Setting(intended.fraction if fraction is None else fraction, intended.mode if mode is None else mode)
        if wanted != intended:
            self._wanted[market_id] = wanted
            if self._task is None or self._task.done():
                self._task = self._loop.create_task(self._run(), name="lighter-leverage")

    async def _run(self) -> None:
        while self._wanted:
            market_id = next(iter(self._wanted))
            setting = self._wanted.pop(market_id)
            if setting != self._standing(market_id):
                self._send(market_id, setting)
                await asyncio.sleep(self._pace_s)

    def _send(self, market_id: int, setting: Setting) -> None:
        changes_mode = setting.mode != self._standing(market_id).mode
        self._under_way[market_id] = setting

        async def sign(signer: Signer, nonce: int) -> SignedTx:
            return await signer.update_leverage(
                market_id=market_id, initial_margin_fraction=setting.fraction, margin_mode=setting.mode, nonce=nonce
            )

        ended = partial(self._ended, market_id, setting, changes_mode=changes_mode)
        self._watch.submit(f"leverage of market {market_id}", TxType.UPDATE_LEVERAGE, sign, ended)

    def _ended(self, market_id: int, setting: Setting, end: End, *, changes_mode: bool) -> None:
        if self._under_way.get(market_id) is setting:
            del self._under_way[market_id]
        if end.executed:
            self._configured[market_id] = setting
            self._announce(market_id, setting)
            return
        instrument = self._instruments.instrument(market_id)
        operation = "set_margin_mode" if changes_mode else "set_instrument_leverage"
        logger.warning("lighter: leverage of {} was not set: {} {}", instrument.symbol, end.code, end.reason)
        unknown = end.executed is None
        error = LighterError(end.reason) if unknown else VenueError(end.code, end.reason)
        what = "is perhaps not set" if unknown else "was not set"
        self._emit(
            operation_failed(self._time.time(), operation, f"leverage of {instrument.symbol} {what}", error, instrument)
        )

    def _refused(self, instrument: Instrument, operation: str, reason: str) -> None:
        logger.warning("lighter: {} of {} was not sent: {}", operation, instrument.symbol, reason)
        text = f"{operation} of {instrument.symbol} was not sent: {reason}"
        self._emit(operation_failed(self._time.time(), operation, text, LighterError(reason), instrument))


def _is_leveraged(instrument: Instrument) -> bool:
    return instrument.market_type is MarketType.SWAP
