"""What lies between a channel of the venue and the handlers of its frames: one stream a channel.

A stream hands frames to its handler, what comes out to the delivery, and does what the handler cannot: it asks for a new
snapshot when the thread is lost, and for history over REST when something was missed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from qubx import logger

from qubx_lighter.errors import LighterError, WireError
from qubx_lighter.handlers import MarketHandler, Missing, View
from qubx_lighter.market_data.delivery import Delivery

_AT_ONCE: Final = 4  # snapshots that a market is owed without a pause: one loss may follow another by chance
_CALM_NS: Final = 5_000_000_000  # of a book that held earn one of them back
_MAX_PAUSE_S: Final = 30.0
_RECOVERY_TRIES: Final = 4  # each of them with the client's own retries
_RECOVERY_PAUSE_S: Final = 2.0

Fetch = Callable[[int, Missing], Awaitable[Sequence[Any]]]
"""Fetch the rows that a handler of a market is missing, oldest first."""


class Socket(Protocol):
    """The part of the WebSocket manager that a stream needs."""

    def resubscribe(self, channel: str) -> None:
        """Ask for a new snapshot."""


class Recovery:
    """Fetch what handlers miss, one fetch a handler at a time; runs on the loop.

    Args:
        fetch: asks the venue.
        delivery: takes what comes out.
        counters: counts fetches, and those given up: then what there is has to do.
    """

    def __init__(self, fetch: Fetch, delivery: Delivery, counters: Counter[str]) -> None:
        self._fetch = fetch
        self._delivery = delivery
        self._counters = counters
        self._running: dict[MarketHandler, asyncio.Task[None]] = {}

    def begin(self, market_id: int, handler: MarketHandler) -> None:
        """Fetch what ``handler`` misses, unless that is under way."""
        if handler not in self._running:
            task = asyncio.get_running_loop().create_task(self._run(market_id, handler))
            self._running[handler] = task
            task.add_done_callback(lambda done: self._ended(handler, done))

    def forget(self, handler: MarketHandler) -> None:
        """Stop fetching for a handler whose channel was closed."""
        if (task := self._running.pop(handler, None)) is not None:
            task.cancel()

    async def _run(self, market_id: int, handler: MarketHandler) -> None:
        tries = 0
        while (missing := handler.missing) is not None:
            tries += 1
            rows: Sequence[Any] | None
            try:
                rows = await self._fetch(market_id, missing)
                self._counters["recoveries"] += 1
                fault = "history is not as far yet" if handler.missing == missing and handler.is_behind(rows) else ""
            except LighterError as error:
                rows, fault = None, str(error)
            if fault and tries < _RECOVERY_TRIES:
                await asyncio.sleep(_RECOVERY_PAUSE_S * tries)
                continue
            if fault:
                self._counters["recoveries_given_up"] += 1
                logger.warning(
                    "lighter: {} of {} that were missed cannot be fetched: {}",
                    missing.kind,
                    handler.instrument.symbol,
                    fault,
                )
            if handler.missing == missing:  # else a new connection has changed the question
                self._delivery.publish(handler, handler.recover(rows))
                tries = 0

    def _ended(self, handler: MarketHandler, task: asyncio.Task[None]) -> None:
        if self._running.get(handler) is task:
            del self._running[handler]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._counters["handler_errors"] += 1
            logger.opt(exception=error).error("lighter: recovering {} failed", handler.instrument.symbol)


class Snapshots:
    """Ask for a channel's snapshot once until it comes: a few times at once, then, where none held for long, ever later.

    Args:
        channel: as the venue spells it.
        socket: is asked.
        counters: counts the questions.
        clock_ns: by which a snapshot held for long, or not.
    """

    def __init__(self, channel: str, socket: Socket, counters: Counter[str], clock_ns: Callable[[], int]) -> None:
        self.asked = False
        self.closed = False
        self._channel = channel
        self._socket = socket
        self._counters = counters
        self._clock_ns = clock_ns
        self._spent = 0.0  # of those owed at once
        self._came_ns = 0

    def came(self) -> None:
        """Take note that the snapshot is there."""
        self.asked = False
        self._came_ns = self._clock_ns()

    def ask(self) -> None:
        """Ask, unless that is done already."""
        if self.asked:
            return
        self.asked = True
        held_ns = max(0, self._clock_ns() - self._came_ns)
        self._spent = max(0.0, self._spent - held_ns / _CALM_NS)
        pause = 0.0 if self._spent < _AT_ONCE else min(_MAX_PAUSE_S, 2.0 ** (self._spent - _AT_ONCE))
        if pause < _MAX_PAUSE_S:
            self._spent += 1
        self._counters["snapshots_asked"] += 1
        logger.warning(
            "lighter: {} lost the thread: nothing is published until a new snapshot, asked for in {:g} s",
            self._channel,
            pause,
        )
        if pause:
            asyncio.get_running_loop().call_later(pause, self._write)
        else:
            self._write()

    def _write(self) -> None:
        if self.asked and not self.closed:
            self._socket.resubscribe(self._channel)


class Stream:
    """One channel of one market.

    Everything runs on the loop, but ``view`` and ``close``.

    Args:
        channel: as the venue spells it, ``order_book/0``.
        market_id: whose.
        handler: reads the frames.
        delivery: takes what comes out.
        recovery: fetches what was missed.
        socket: is asked for snapshots.
        counters: counts lost threads.
        clock_ns: any clock, ns.
    """

    def __init__(
        self,
        channel: str,
        market_id: int,
        handler: MarketHandler,
        *,
        delivery: Delivery,
        recovery: Recovery,
        socket: Socket,
        counters: Counter[str],
        clock_ns: Callable[[], int],
    ) -> None:
        self.channel = channel
        self.handler = handler
        self._market_id = market_id
        self._delivery = delivery
        self._recovery = recovery
        self._snapshots = Snapshots(channel, socket, counters, clock_ns)

    @property
    def closed(self) -> bool:
        """Tell whether it publishes nothing any more."""
        return self._snapshots.closed

    def view(self, views: Iterable[View]) -> list[View]:
        """Set what is to be made of the frames; gives the views that are new."""
        before = self.handler.views
        self.handler.views = tuple(views)
        return [view for view in self.handler.views if view not in before]

    def close(self) -> None:
        """Publish nothing from here on; the market's other bars learn that none come from here any more."""
        self._snapshots.closed = True
        self.handler.views = ()

    def forget(self) -> None:
        """Drop what waits, and stop fetching."""
        self._delivery.forget(self.handler)
        self._recovery.forget(self.handler)

    def publish_current(self, views: Iterable[View]) -> None:
        """Publish views that joined the open channel, where there is something to show."""
        if self.closed:
            return
        self._delivery.publish(self.handler, self.handler.current(views))
        if self.handler.missing is not None:
            self._recovery.begin(self._market_id, self.handler)

    def on_frame(self, kind: str, raw: bytes) -> None:
        """Take a frame of the venue.

        Raises:
            WireError: it cannot be read; where that breaks the thread, a snapshot is asked for.
        """
        snapshots, handler = self._snapshots, self.handler
        if snapshots.closed:
            return
        try:
            if kind == "subscribed":
                snapshots.came()
                outputs = handler.snapshot(raw)
            else:
                outputs = handler.update(raw)
        except WireError:
            if handler.rebuilds:  # what the frame changed is lost; an event of a trade stream is only itself
                handler.reset()
                self._withdraw()
                snapshots.ask()
            raise
        if outputs:
            self._delivery.publish(handler, outputs)
        elif handler.awaiting:
            self._withdraw()
            snapshots.ask()
        if handler.missing is not None:
            self._recovery.begin(self._market_id, handler)

    def on_lost(self) -> None:
        """Begin anew: the subscribe of the next connection is answered by a snapshot."""
        self._snapshots.asked = False
        self.handler.reset()
        self._withdraw()

    def _withdraw(self) -> None:
        """Drop what waits for a lagging strategy: it is not known to be true any more, and would be shown as new."""
        if self._delivery.forget(self.handler):
            self.handler.unsay()
