"""What lies between a channel of the venue and Qubx's channel: one stream a channel and market, one delivery for all.

A stream hands frames to its handler, hands on what comes out, and asks for a new snapshot when the handler has lost the
thread. The delivery puts objects on Qubx's channel, which never refuses and never drops: a strategy that cannot keep up
would be shown an ever older market. So beyond a backlog books and quotes conflate: the newest of each view waits until
Qubx has caught up. Trades are never left out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Any, Final, Protocol

from qubx import logger
from qubx.core.basics import CtrlChannel, Instrument

from qubx_lighter.errors import WireError
from qubx_lighter.handlers import MarketHandler, Output, View

_BACKLOG_LIMIT: Final = 5_000  # items: some seconds of work for a strategy
_DRAIN_INTERVAL_S: Final = 0.02
_CALM_S: Final = 30.0  # without a lost thread for so long, the next one is answered at once
_MAX_PAUSE_S: Final = 30.0


class Socket(Protocol):
    """The part of the WebSocket manager that a stream needs."""

    def resubscribe(self, channel: str) -> None:
        """Ask for a new snapshot."""


class Delivery:
    """Put objects on Qubx's channel; runs on the loop.

    Args:
        channel: Qubx's.
        counters: counts what was published and what conflated.
        limit: items that may wait for Qubx before books and quotes conflate; they go on when half of them are left.
    """

    def __init__(self, channel: CtrlChannel, counters: Counter[str], *, limit: int = _BACKLOG_LIMIT) -> None:
        self._channel = channel
        self._counters = counters
        self._limit = limit
        self._held: dict[Hashable, tuple[Instrument, str, Any, bool]] = {}
        self._conflating = False

    def publish(self, stream: Stream, outputs: Iterable[Output]) -> None:
        """Send the outputs of one frame, or keep them back while Qubx lags."""
        handler = stream.handler
        for view, data in outputs:
            item = (handler.instrument, view.data_type, data, False)
            if view.conflates and (self._conflating or self._backlog() > self._limit):
                self._hold((stream, view), item)
            else:
                self._send(item)

    def forget(self, stream: Stream) -> None:
        """Drop what waits of a stream that was closed."""
        self._held = {
            key: item for key, item in self._held.items() if not (isinstance(key, tuple) and key[0] is stream)
        }

    def _send(self, item: tuple[Instrument, str, Any, bool]) -> None:
        self._counters[item[1]] += 1
        self._channel.send(item)

    def _hold(self, key: Hashable, item: tuple[Instrument, str, Any, bool]) -> None:
        if not self._conflating:
            self._conflating = True
            self._counters["conflation_episodes"] += 1
            logger.warning(
                "lighter: {:,} messages wait for the strategy: until it has caught up it is shown the newest books and "
                "quotes only (and every trade)",
                self._backlog(),
            )
            asyncio.get_running_loop().call_later(_DRAIN_INTERVAL_S, self._drain)
        self._counters["conflated"] += self._held.pop(key, None) is not None
        self._held[key] = item

    def _drain(self) -> None:
        if self._backlog() > self._limit // 2:
            asyncio.get_running_loop().call_later(_DRAIN_INTERVAL_S, self._drain)
            return
        held, self._held = self._held, {}
        self._conflating = False
        for item in held.values():
            self._send(item)

    def _backlog(self) -> int:
        """Count what waits in Qubx's channel, which has no public word for it (5.0.0)."""
        return self._channel._queue.qsize()  # noqa: SLF001 - see above


class Stream:
    """One channel of one market.

    Everything runs on the loop, but ``view`` and ``close``.

    Args:
        channel: as the venue spells it, ``order_book/0``.
        handler: reads the frames.
        delivery: takes what comes out.
        socket: is asked for snapshots.
        counters: counts lost threads.
    """

    def __init__(
        self, channel: str, handler: MarketHandler, *, delivery: Delivery, socket: Socket, counters: Counter[str]
    ) -> None:
        self.channel = channel
        self.handler = handler
        self.closed = False
        self._delivery = delivery
        self._socket = socket
        self._counters = counters
        self._asked = False
        self._tries = 0
        self._last_ask = -_CALM_S

    def view(self, views: Iterable[View]) -> list[View]:
        """Set what is to be made of the frames; gives the views that are new."""
        before = self.handler.views
        self.handler.views = tuple(views)
        return [view for view in self.handler.views if view not in before]

    def close(self) -> None:
        """Publish nothing from here on."""
        self.closed = True

    def publish_current(self, views: Iterable[View]) -> None:
        """Publish views that joined the open channel, where there is something to show."""
        if not self.closed:
            self._delivery.publish(self, self.handler.current(views))

    def on_frame(self, kind: str, raw: bytes) -> None:
        """Take a frame of the venue.

        Raises:
            WireError: it cannot be read; where that breaks the thread, a snapshot is asked for.
        """
        if self.closed:
            return
        handler = self.handler
        try:
            if kind == "subscribed":
                self._asked = False
                outputs = handler.snapshot(raw)
            else:
                outputs = handler.update(raw)
        except WireError:
            if handler.rebuilds:  # what the frame changed is lost; an event of a trade stream is only itself
                handler.reset()
                self._ask_for_snapshot()
            raise
        if outputs:
            self._delivery.publish(self, outputs)
        elif handler.awaiting:
            self._ask_for_snapshot()

    def on_connected(self) -> None:
        """Begin anew: the subscribe of the new connection is answered by a snapshot."""
        self._asked = False
        self.handler.reset()

    def _ask_for_snapshot(self) -> None:
        """Ask once until the answer: at once, then, when it helped for seconds only, ever later."""
        if self._asked:
            return
        self._asked = True
        loop = asyncio.get_running_loop()
        if loop.time() - self._last_ask > _CALM_S:
            self._tries = 0
        pause = min(_MAX_PAUSE_S, 2.0 ** (self._tries - 1)) if self._tries else 0.0
        self._tries += 1
        self._last_ask = loop.time() + pause
        self._counters["snapshots_asked"] += 1
        logger.warning(
            "lighter: {} lost the thread: nothing is published until a new snapshot, asked for in {:g} s",
            self.channel,
            pause,
        )
        if pause:
            loop.call_later(pause, self._ask)
        else:
            self._ask()

    def _ask(self) -> None:
        if self._asked and not self.closed:
            self._socket.resubscribe(self.channel)
