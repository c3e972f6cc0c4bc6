"""A WebSocket that stays connected and keeps its subscriptions, for any venue.

Theory of operation. One supervisor task owns the socket: it connects, serves the connection until it ends, waits, and
connects again, so two reconnects can never overlap. A connection is one ``link.Link`` with a reader and a writer; what
comes from a link that is not the present one reaches nobody.

What a venue's frames look like is its ``Dialect``; which library moves them is its ``transport.Connect``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Final
from urllib.parse import urlsplit

from loguru import logger

from qubx_lighter.errors import ConfigurationError, NotSentError, TransportError
from qubx_lighter.protocol.liveness import Liveness
from qubx_lighter.protocol.pace import AddressPace, Backoff, BackoffSettings
from qubx_lighter.protocol.session import Session, SessionSettings
from qubx_lighter.sockets.dispatch import Dispatcher, Handler, Listener, Lost
from qubx_lighter.sockets.link import Dialect, Ending, Link, Parts, SocketSettings, TokenSource
from qubx_lighter.sockets.loop_calls import LoopCalls
from qubx_lighter.sockets.replies import Replies
from qubx_lighter.sockets.transport import Connect, connect


class BaseWebSocketManager:
    """Keep one connection, its subscriptions and its requests.

    Everything runs on ``loop``. Methods marked thread-safe may be called from anywhere and return at once; on the loop
    they take effect before they return. Wishes are kept across connections, and before the first one.

    Args:
        url: where to connect.
        dialect: how the venue writes and reads.
        loop: where everything runs; without it, the loop that runs at the first call.
        token: mints an auth token, called for each subscribe that needs one.
        session: pace, acknowledgements, heartbeat.
        backoff: the waits between connects.
        socket: timeouts of the socket.
        clock: seconds of any origin, never going back; the same for all that share ``pace``.
        chance: draws the jitter, 0..1.
        connector: opens a WebSocket.
        pace: what all sockets of this address may do together, instead of the pace in ``session``; one with a ``token``
            counts as private.
        liveness: suspects channels that fall silent; without it none is.
        on_no_room: called on the loop with a channel that the venue refused because the connection has too many.
    """

    def __init__(
        self,
        url: str,
        dialect: Dialect,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        token: TokenSource | None = None,
        session: SessionSettings | None = None,
        backoff: BackoffSettings | None = None,
        socket: SocketSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        connector: Connect = connect,
        pace: AddressPace | None = None,
        liveness: Liveness | None = None,
        on_no_room: Callable[[str], None] | None = None,
    ) -> None:
        self.url = url
        self._name = urlsplit(url).netloc or url
        self._loop_calls = LoopCalls(loop)
        self._settings = socket or SocketSettings()
        self._liveness = liveness
        self._backoff = Backoff(backoff or BackoffSettings())
        self._clock = clock
        self._chance = chance
        self._connector = connector
        self._stats: Counter[str] = Counter()
        self._dialect = dialect
        self._token = token
        place = None if pace is None else pace.join(private=token is not None, wake=self._wake_soon)
        self._session = Session(session or SessionSettings(), place, liveness)
        self._dispatcher = Dispatcher(self._name, self._stats, dialect.kind)
        self._replies = Replies(self._name, self._stats)
        self._parts = Parts(
            name=self._name,
            dialect=dialect,
            session=self._session,
            dispatcher=self._dispatcher,
            replies=self._replies,
            settings=self._settings,
            stats=self._stats,
            clock=clock,
            token=token,
            on_connected=self._became_connected,
            on_ended=self._lost,
            on_no_room=on_no_room or (lambda _: None),
        )
        self._waiters: set[asyncio.Future[str | None]] = set()
        self._link: Link | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._hurry: asyncio.Event | None = None  # made on the loop
        self._cause = "not started"

    # --- lifecycle ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect; thread-safe, idempotent."""
        self._loop_calls.call(self._start)

    async def close(self) -> None:
        """Close the connection and stop; idempotent. Requests without an answer end as unknown.

        Subscriptions are kept: ``start`` may follow.
        """
        if self._loop_calls.loop is not None:
            await self._loop_calls.here(self._close())

    def reconnect(self) -> None:
        """Drop the connection and connect anew at once, or end the present wait; thread-safe.

        While a connection is being made this does nothing: it is what was asked for.
        """
        self._loop_calls.call(self._reconnect)

    @property
    def connected(self) -> bool:
        """Tell whether the socket is up and the venue has spoken."""
        return self._session.connected

    async def wait_connected(self, timeout: float) -> None:  # noqa: ASYNC109 - the message tells it
        """Wait until connected.

        Raises:
            TransportError: it took longer than ``timeout`` seconds, or there will be no further try.
        """
        await self._loop_calls.here(self._wait_connected(timeout))

    def on_state(self, listener: Listener) -> None:
        """Have ``listener`` called on the loop with True at each connect, False at each loss; thread-safe.

        One that comes while connected is called with True at once, so that it hears of every connection once.
        """
        self._loop_calls.call(self._add_listener, listener)

    def stats(self) -> dict[str, int]:
        """Count what happened since the start; thread-safe.

        ``frames`` and ``bytes`` are what was received, ``frames_<kind>`` what had a handler by kind of channel.
        """
        session, stats = self._session, self._stats
        frames, size = self._dispatcher.traffic()
        return {
            **dict.fromkeys(_COUNTERS, 0),
            **stats,
            **asdict(session.stats),
            **{f"frames_{kind}": count for kind, count in frames.items()},
            "frames": frames.total() + stats["other_frames"],
            "bytes": size + stats["other_bytes"],
            "channels": len(self._dispatcher),
            "acknowledged": session.acknowledged,
            "queued": session.queued,
            "in_flight": session.in_flight,
        }

    # --- channels ----------------------------------------------------------------------------------------------------

    def subscribe(self, channel: str, handler: Handler, *, auth: bool = False, on_lost: Lost | None = None) -> None:
        """Have ``handler`` called with the frames of ``channel``; thread-safe, counted per channel and handler.

        A handler that joins an open channel hears updates only: ``resubscribe`` asks for a new snapshot. ``on_lost`` is
        called on the loop each time the connection that carried the channel is lost; a snapshot follows from the next.

        Raises:
            ConfigurationError: the channel is private and there is no token source.
        """
        if auth and self._token is None:
            raise ConfigurationError(f"channel {channel} is private, and there are no credentials to subscribe it with")
        self._loop_calls.call(self._subscribe, self._dialect.key(channel), handler, auth, on_lost)

    def unsubscribe(self, channel: str, handler: Handler) -> None:
        """Undo one ``subscribe``; thread-safe, the last one closes the channel at the venue, unknown ones are ignored."""
        self._loop_calls.call(self._unsubscribe, self._dialect.key(channel), handler)

    def resubscribe(self, channel: str) -> None:
        """Ask for a new snapshot: unsubscribe, wait for the answer, subscribe; thread-safe.

        Absorbed while a snapshot is on its way already.
        """
        self._loop_calls.call(self._resubscribe, self._dialect.key(channel))

    def subscribed(self, channel: str) -> bool:
        """Tell whether the venue acknowledged ``channel`` on the present connection; thread-safe."""
        return self._session.subscribed(self._dialect.key(channel))

    def holds(self, channel: str) -> bool:
        """Tell whether ``channel`` is subscribed here, or not unsubscribed yet, or about to be."""
        return self._session.holds(self._dialect.key(channel))

    def unwritten(self) -> list[str]:
        """List the channels that wait for their subscribe to be written."""
        return self._session.unwritten()

    @property
    def load(self) -> int:
        """Count the channels that the venue counts on this connection, or soon will."""
        return self._session.load

    @property
    def acknowledged(self) -> int:
        """Count the channels that the venue acknowledged on this connection."""
        return self._session.acknowledged

    # --- requests ----------------------------------------------------------------------------------------------------

    async def request(self, request_id: str, frame: str, timeout: float) -> bytes:  # noqa: ASYNC109 - as above
        """Write ``frame`` now, before any waiting subscription, and wait for the reply that carries ``request_id``.

        Frames leave in the order of the calls.

        Raises:
            NotSentError: nothing was written.
            OutcomeUnknownError: it was written, and no reply came within ``timeout`` seconds or on this connection.
            ValueError: a request of this id waits for its reply.
        """
        if not self._loop_calls.is_here:
            return await self._loop_calls.here(self.request(request_id, frame, timeout))
        link = self._link
        if link is None or not self.connected:
            raise NotSentError(f"{self._name} is not connected: {self._cause}")
        return await self._replies.request(link.transport, request_id, frame, timeout)

    # --- wishes, on the loop -----------------------------------------------------------------------------------------

    def _subscribe(self, key: str, handler: Handler, auth: bool, on_lost: Lost | None) -> None:  # noqa: FBT001 - by position
        opened = self._dispatcher.add(key, handler, on_lost)
        if opened is not None and self._liveness is not None and not auth:
            self._liveness.watch(key, opened)
        if opened is not None or auth:
            self._session.subscribe(key, auth=auth)
            self._wake()

    def _unsubscribe(self, key: str, handler: Handler) -> None:
        if self._dispatcher.remove(key, handler):
            if self._liveness is not None:
                self._liveness.forget(key)
            self._session.unsubscribe(key)
            self._wake()

    def _resubscribe(self, key: str) -> None:
        self._session.resubscribe(key)
        self._wake()

    def _add_listener(self, listener: Listener) -> None:
        self._dispatcher.listen(listener, connected=self.connected)

    def _wake(self) -> None:
        if self._link is not None:
            self._link.wake()

    def _wake_soon(self) -> None:
        if self._loop_calls.loop is not None:
            self._loop_calls.call(self._wake)

    # --- the supervisor ----------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._supervisor is None or self._supervisor.done():
            self._cause = "still connecting"
            self._hurry = asyncio.Event()
            self._supervisor = asyncio.get_running_loop().create_task(self._supervise(self._hurry), name="websocket")

    async def _close(self) -> None:
        if self._supervisor is not None:
            self._cause = "closed"
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        self._answer_waiters("closed")

    def _reconnect(self) -> None:
        if self._supervisor is None:
            return
        self._start()  # it may have given up
        if self._hurry is not None:
            self._hurry.set()
        if self._link is not None and self.connected:
            self._link.end(Ending("a reconnect was asked for", planned=True))

    async def _supervise(self, hurry: asyncio.Event) -> None:
        told = ""
        while True:
            self._backoff.started(self._clock())
            self._stats["connects"] += 1
            try:
                ending = await self._serve()
            except TransportError as error:
                ending = Ending(str(error))
            except Exception as error:  # noqa: BLE001 - the supervisor outlives every mistake, or the process goes dark
                self._stats["unexpected_errors"] += 1
                logger.opt(exception=error).error("{}: the connection met an unexpected error", self._name)
                ending = Ending(type(error).__name__)
            self._cause = ending.cause
            now = self._clock()
            start = self._backoff.earliest(now) if ending.planned else self._backoff.next_start(now, self._chance())
            if start is None:
                logger.error("{}: given up after the last try: {}", self._name, self._cause)
                self._answer_waiters(self._cause)
                return
            start = max(start, now + ending.pause_s)
            level = "DEBUG" if ending.pause_s and told == self._cause else "WARNING"  # a full venue is told once
            logger.log(level, "{}: {}; connecting anew in {:.1f} s", self._name, self._cause, start - now)
            told = self._cause
            await self._pause(start, hurry)
            self._stats["reconnects"] += 1

    async def _pause(self, until: float, hurry: asyncio.Event) -> None:
        """Wait, or less when somebody is in a hurry; a hurry is no reason for a storm."""
        hurry.clear()
        try:
            async with asyncio.timeout(until - self._clock()):
                await hurry.wait()
        except TimeoutError:
            return
        await asyncio.sleep(min(until, self._backoff.earliest(self._clock())) - self._clock())

    async def _serve(self) -> Ending:
        """Connect and stay until the connection ends."""
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                transport = await self._connector(self.url)
        except TimeoutError as error:
            raise TransportError(f"no connection within {self._settings.connect_timeout_s:g} s") from error
        self._link = Link(transport, self._parts)
        return await self._link.serve()

    def _became_connected(self) -> None:
        self._backoff.proved()
        logger.info("{}: connected", self._name)
        self._answer_waiters(None)
        self._dispatcher.connected()

    def _lost(self, ending: Ending, connected: bool) -> None:  # noqa: FBT001 - a link's callback
        self._link = None
        self._cause = ending.cause
        self._dispatcher.lost(connected=connected)

    # --- waiting -----------------------------------------------------------------------------------------------------

    async def _wait_connected(self, timeout: float) -> None:  # noqa: ASYNC109 - as above
        if self.connected:
            return
        waiter: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout):
                cause = await waiter
        except TimeoutError as error:
            raise TransportError(f"{self.url} is not connected within {timeout:g} s: {self._cause}") from error
        finally:
            self._waiters.discard(waiter)
        if cause is not None:
            raise TransportError(f"{self.url} is not connected: {cause}")

    def _answer_waiters(self, cause: str | None) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(cause)


_COUNTERS: Final = (
    "connects",
    "reconnects",
    "stale_frames",
    "orphan_frames",
    "unknown_frames",
    "other_frames",
    "other_bytes",
    "decode_errors",
    "handler_errors",
    "unexpected_errors",
    "requests",
    "unanswered",
    "late_replies",
)
