"""The channel with the figures of all perpetuals: mark and index prices, funding, open interest."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from qubx_lighter.handlers import StatsFrames, StatsHandler
from qubx_lighter.market_data.delivery import Delivery
from qubx_lighter.market_data.streams import Recovery, Socket

_JOIN_S: Final = 0.5  # Qubx subscribes one type after the other


class StatsStream:
    """The channel with the figures of all markets; those that somebody wants have a handler each.

    Everything runs on the loop, but ``join``, ``leave`` and ``close``.

    Args:
        channel: as the venue spells it.
        delivery: takes what comes out.
        recovery: fetches settlements that were missed.
        socket: is asked for snapshots.
        counters: shared with the handlers.
        clock_ns: the wall clock, ns: frames of 2025 carry no time.
    """

    def __init__(
        self,
        channel: str,
        *,
        delivery: Delivery,
        recovery: Recovery,
        socket: Socket,
        counters: Counter[str],
        clock_ns: Callable[[], int],
    ) -> None:
        self.channel = channel
        self.closed = False
        self.frames = StatsFrames(counters)
        self._delivery = delivery
        self._recovery = recovery
        self._socket = socket
        self._clock_ns = clock_ns
        self._asking = False

    def join(self, market_id: int, handler: StatsHandler) -> None:
        """Read a market's figures from now on."""
        self.frames.handlers = {**self.frames.handlers, market_id: handler}

    def leave(self, market_id: int) -> StatsHandler:
        """Read them no more."""
        handler = self.frames.handlers[market_id]
        self.frames.handlers = {key: held for key, held in self.frames.handlers.items() if key != market_id}
        return handler

    def close(self) -> None:
        """Publish nothing from here on."""
        self.closed = True

    def forget(self, handler: StatsHandler) -> None:
        """Drop what waits of a market that left, and stop fetching."""
        self._delivery.forget(handler)
        self._recovery.forget(handler)

    def refresh(self) -> None:
        """Ask for a snapshot soon: a market that joined the open channel may not change for long."""
        if not self._asking:
            self._asking = True
            asyncio.get_running_loop().call_later(_JOIN_S, self._ask)

    def _ask(self) -> None:
        self._asking = False
        if not self.closed:
            self._socket.resubscribe(self.channel)

    def on_frame(self, kind: str, raw: bytes) -> None:  # noqa: ARG002 - a snapshot reads as an update does
        """Take a frame of the venue.

        Raises:
            WireError: it cannot be read.
        """
        if self.closed:
            return
        for handler, outputs in self.frames.read(raw, self._clock_ns()):
            if outputs:
                self._delivery.publish(handler, outputs)
            if handler.missing is not None:
                self._recovery.begin(handler.market_id, handler)

    def on_lost(self) -> None:
        """Begin anew."""
        for handler in self.frames.handlers.values():
            handler.reset()
