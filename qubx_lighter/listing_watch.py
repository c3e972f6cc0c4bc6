"""Notice at run time what the venue lists, delists and changes, and make it known.

The markets are reloaded every few minutes, and within a minute when somebody met an unknown one or a market was missing;
what a reply may change is the loader's affair (``instruments``). A change goes three ways: into Qubx's lookup, so that
new markets can be traded; to Qubx's context, which updates what it holds on the strategy's thread and tells the strategy;
and to ``on_change``. A reload that fails changes nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Final

from qubx import logger
from qubx.core.basics import Instrument

from qubx_lighter import lookup
from qubx_lighter.errors import ConfigurationError, LighterError
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.markets import ListingChanges

MIN_PAUSE_S: Final = 60.0
"""The shortest time between two reloads: each weighs 300, and a standard account has 60 requests a minute for all."""
_JITTER: Final = 0.1  # of the interval, either way: many processes start at one full hour
_COUNTERS: Final = ("listing_reloads", "listing_errors", "markets_listed", "markets_delisted", "rule_changes")


class ListingWatch:
    """Keep the markets true.

    ``poke``, ``settle`` and ``stats`` may be called from any thread, the rest belongs to the loop.

    Args:
        instruments: loaded once before.
        loop: where reloads and ``on_change`` happen.
        interval_s: between reloads, 60 or more.
        on_change: called with each change, whoever's reload found it.
        chance: draws the jitter, 0..1.

    Raises:
        ConfigurationError: the interval is too short.
    """

    def __init__(
        self,
        instruments: LighterInstrumentLoader,
        *,
        loop: asyncio.AbstractEventLoop,
        interval_s: float = 300.0,
        on_change: Callable[[ListingChanges], None] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if interval_s < MIN_PAUSE_S:
            raise ConfigurationError(
                f"markets can be reloaded every {MIN_PAUSE_S:g} s at most, not every {interval_s:g}"
            )
        self._instruments = instruments
        self._loop = loop
        self._interval_s = interval_s
        self._on_change = on_change
        self._chance = chance
        self._task: asyncio.Task[None] | None = None
        self._forget: Callable[[], None] = lambda: None
        self._wake = asyncio.Event()
        self._poked = False
        self._last_s = -MIN_PAUSE_S
        self._next_s = 0.0
        self._failures = 0
        self._delisted: dict[Instrument, None] = {}
        self._unsettled = False
        self._counters: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to watch; a second call does nothing."""
        if self._task is None:
            self._last_s = self._loop.time() - MIN_PAUSE_S
            self._schedule(self._interval_s)
            self._instruments.announce = self._announce
            self._forget = self._instruments.observe(self._heard)
            self._task = self._loop.create_task(self._run(), name="lighter-listing-watch")

    async def close(self) -> None:
        """Stop watching; a second call does nothing."""
        task, self._task = self._task, None
        if task is not None:
            self._forget()
            self._instruments.announce = None
            task.cancel()
            await asyncio.wait([task])

    def poke(self) -> None:
        """Ask for a reload now, or a minute after the last one: an unknown market was met."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._hurry)

    def settle(self) -> None:
        """Take up what Qubx has copied onto the instruments it holds: for ``IDataProvider.on_instruments_changed``.

        What Qubx does not hold is updated here. Without this call that happens with the next reload.
        """
        self._unsettled = False
        self._instruments.catch_up()
        lookup.publish(self._instruments.instruments, delisted=list(self._delisted))

    def stats(self) -> dict[str, int]:
        """Count reloads, those that failed, and what they changed."""
        return dict.fromkeys(_COUNTERS, 0) | self._counters

    # --- when --------------------------------------------------------------------------------------------------------

    def _schedule(self, pause_s: float) -> None:
        jitter = 1 + _JITTER * (2 * self._chance() - 1) if pause_s > MIN_PAUSE_S else 1.0
        self._next_s = self._loop.time() + max(MIN_PAUSE_S, pause_s * jitter)

    def _hurry(self) -> None:
        self._poked = True
        self._wake.set()

    async def _pause(self) -> None:
        """Wait until the next reload is due, or allowed and asked for."""
        while True:
            due_s = min(self._next_s, self._last_s + MIN_PAUSE_S) if self._poked else self._next_s
            left_s = due_s - self._loop.time()
            if left_s <= 0:
                return
            self._wake.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _run(self) -> None:
        while True:
            await self._pause()
            self._poked = False
            self._last_s = self._loop.time()
            unsettled = self._unsettled
            try:
                pause_s = await self._reload()
            except Exception as error:  # noqa: BLE001 - the supervisor: a mistake of ours must not end the watch
                pause_s = self._failed(error)
            self._schedule(pause_s)
            if unsettled:
                self.settle()

    async def _reload(self) -> float:
        """Reload the markets; gives the pause until the next time."""
        self._counters["listing_reloads"] += 1
        try:
            changes = await self._instruments.load()
        except LighterError as error:
            return self._failed(error)
        if self._failures:
            logger.info("lighter: the markets can be reloaded again, after {} failures", self._failures)
            self._failures = 0
        return MIN_PAUSE_S if changes.absent else self._interval_s  # what is missing is looked for again soon

    def _failed(self, error: Exception) -> float:
        self._counters["listing_errors"] += 1
        self._failures += 1
        if self._failures == 1:
            expected = isinstance(error, LighterError)
            logger.opt(exception=None if expected else error).warning(
                "lighter: the markets cannot be reloaded, what is known of them stays: {}", str(error)
            )
        return float(min(self._interval_s, MIN_PAUSE_S * 2 ** min(self._failures - 1, 10)))

    # --- what --------------------------------------------------------------------------------------------------------

    def _announce(self, facts: list[Instrument]) -> bool:
        self._unsettled = lookup.announce(facts)
        return self._unsettled

    def _heard(self, changes: ListingChanges) -> None:
        """Leave whoever reloaded the markets alone with what follows from it."""
        self._loop.call_soon_threadsafe(self._tell, changes)

    def _tell(self, changes: ListingChanges) -> None:
        self._counters["markets_listed"] += len(changes.listed)
        self._counters["markets_delisted"] += len(changes.delisted)
        self._counters["rule_changes"] += len(changes.changed)
        self._delisted |= dict.fromkeys(changes.delisted)
        for instrument in changes.listed:
            self._delisted.pop(instrument, None)
        _log(changes)
        lookup.publish(self._instruments.instruments, delisted=list(self._delisted))
        if self._on_change is not None:
            self._on_change(changes)


def _log(changes: ListingChanges) -> None:
    """Write a line a change."""
    for renaming in changes.renamed:
        logger.warning(
            "lighter: market {} is {} now, it was {}", renaming.market_id, str(renaming.after), str(renaming.before)
        )
    for instrument in changes.listed:
        logger.info("lighter: {} trades now", str(instrument))
    for instrument in changes.delisted:
        logger.warning("lighter: {} trades no more", str(instrument))
    for change in changes.changed:
        rules = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in change.rules.items())
        logger.info("lighter: {} has other rules: {}", str(change.instrument), rules)
