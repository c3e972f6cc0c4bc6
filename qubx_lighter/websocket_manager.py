"""A WebSocket that stays connected and keeps its subscriptions, for any venue.

Theory of operation. One supervisor task owns the socket: it connects, serves the connection until it ends, waits, and
connects again, so two reconnects can never overlap. While a connection lives two tasks serve it: the reader hands every
frame to its handlers, in order, on the loop; the writer does what ``protocol.session`` tells it to. Neither ever
reconnects: they only end the connection, and the supervisor sees that. A connection is one ``_Link`` object; what comes
from a link that is not the present one reaches nobody.

What a venue's frames look like is its ``Dialect``; which library moves them is its ``transport.Connect``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from loguru import logger

from qubx_lighter.dispatch import TEXT_LIMIT, Dispatcher, Handler, Listener
from qubx_lighter.errors import (
    ConfigurationError,
    LighterError,
    NotSentError,
    OutcomeUnknownError,
    TransportError,
    WireError,
)
from qubx_lighter.protocol.pace import Backoff, BackoffSettings
from qubx_lighter.protocol.session import Command, Do, Incoming, Kind, Session, SessionSettings
from qubx_lighter.transport import Connect, Transport, connect

TokenSource = Callable[[], Awaitable[str]]


class Dialect(Protocol):
    """How one venue writes and reads; everything else is the same everywhere."""

    def key(self, channel: str) -> str:
        """Give a channel the one spelling that ``classify`` uses too."""

    def classify(self, raw: bytes) -> Incoming:
        """Tell what a frame is.

        Raises:
            WireError: it cannot be read.
        """

    def subscribe(self, key: str, auth: str | None) -> str:
        """Write a subscribe frame."""

    def unsubscribe(self, key: str) -> str:
        """Write an unsubscribe frame."""

    def ping(self) -> str:
        """Write a heartbeat of ours."""

    def pong(self) -> str:
        """Write the answer to a heartbeat of the venue's."""


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """Times of the socket itself: to open it, to get a frame out of the buffer, to mint a token."""

    connect_timeout_s: float = 10.0
    send_timeout_s: float = 10.0
    token_timeout_s: float = 5.0


@dataclass(slots=True, eq=False)
class _Link:
    """One connection, from its opening to its end."""

    transport: Transport
    ended: asyncio.Future[tuple[str, bool]]  # why, and whether the next connection may follow at once
    wake: asyncio.Event


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
        clock: seconds of any origin, never going back.
        chance: draws the jitter, 0..1.
        connector: opens a WebSocket.
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
    ) -> None:
        self.url = url
        self._name = urlsplit(url).netloc or url
        self._dialect = dialect
        self._loop = loop
        self._token = token
        self._settings = socket or SocketSettings()
        self._session = Session(session or SessionSettings())
        self._backoff = Backoff(backoff or BackoffSettings())
        self._clock = clock
        self._chance = chance
        self._connector = connector
        self._requests: dict[str, asyncio.Future[bytes | None]] = {}
        self._waiters: set[asyncio.Future[str | None]] = set()
        self._link: _Link | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._hurry: asyncio.Event | None = None  # made on the loop
        self._cause = "not started"
        self._stats: Counter[str] = Counter()
        self._dispatcher = Dispatcher(self._name, self._stats)

    # --- lifecycle ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect; thread-safe, idempotent."""
        self._call(self._start)

    async def close(self) -> None:
        """Close the connection and stop; idempotent. Requests without an answer end as unknown.

        Subscriptions are kept: ``start`` may follow.
        """
        if self._loop is not None:
            await self._here(self._close())

    def reconnect(self) -> None:
        """Drop the connection and connect anew at once, or end the present wait; thread-safe.

        While a connection is being made this does nothing: it is what was asked for.
        """
        self._call(self._reconnect)

    @property
    def connected(self) -> bool:
        """Tell whether the socket is up and the venue has spoken."""
        return self._session.connected

    async def wait_connected(self, timeout: float) -> None:  # noqa: ASYNC109 - the message tells it
        """Wait until connected.

        Raises:
            TransportError: it took longer than ``timeout`` seconds, or there will be no further try.
        """
        await self._here(self._wait_connected(timeout))

    def on_state(self, listener: Listener) -> None:
        """Have ``listener`` called on the loop with True at each connect, False at each loss; thread-safe.

        One that comes while connected is called with True at once, so that it hears of every connection once.
        """
        self._call(self._add_listener, listener)

    def stats(self) -> dict[str, int]:
        """Count what happened since the start; thread-safe."""
        session = self._session
        return {
            **dict.fromkeys(_COUNTERS, 0),
            **self._stats,
            **asdict(session.stats),
            "channels": len(self._dispatcher),
            "queued": session.queued,
            "in_flight": session.in_flight,
        }

    # --- channels ----------------------------------------------------------------------------------------------------

    def subscribe(self, channel: str, handler: Handler, *, auth: bool = False) -> None:
        """Have ``handler`` called with the frames of ``channel``; thread-safe, counted per channel and handler.

        A handler that joins an open channel hears updates only: ``resubscribe`` asks for a new snapshot.

        Raises:
            ConfigurationError: the channel is private and there is no token source.
        """
        if auth and self._token is None:
            raise ConfigurationError(f"channel {channel} is private, and there are no credentials to subscribe it with")
        self._call(self._subscribe, self._dialect.key(channel), handler, auth)

    def unsubscribe(self, channel: str, handler: Handler) -> None:
        """Undo one ``subscribe``; thread-safe, the last one closes the channel at the venue, unknown ones are ignored."""
        self._call(self._unsubscribe, self._dialect.key(channel), handler)

    def resubscribe(self, channel: str) -> None:
        """Ask for a new snapshot: unsubscribe, wait for the answer, subscribe; thread-safe.

        Absorbed while a snapshot is on its way already.
        """
        self._call(self._resubscribe, self._dialect.key(channel))

    def subscribed(self, channel: str) -> bool:
        """Tell whether the venue acknowledged ``channel`` on the present connection; thread-safe."""
        return self._session.subscribed(self._dialect.key(channel))

    # --- requests ----------------------------------------------------------------------------------------------------

    async def request(self, request_id: str, frame: str, timeout: float) -> bytes:  # noqa: ASYNC109 - as above
        """Write ``frame`` now, before any waiting subscription, and wait for the reply that carries ``request_id``.

        Frames leave in the order of the calls.

        Raises:
            NotSentError: nothing was written.
            OutcomeUnknownError: it was written, and no reply came within ``timeout`` seconds or on this connection.
            ValueError: a request of this id waits for its reply.
        """
        return await self._here(self._request(request_id, frame, timeout))

    async def _request(self, request_id: str, frame: str, timeout: float) -> bytes:  # noqa: ASYNC109 - as above
        link = self._link
        if link is None or not self.connected:
            raise NotSentError(f"{self._name} is not connected: {self._cause}")
        if request_id in self._requests:
            raise ValueError(f"request {request_id} waits for its reply already")
        reply: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._requests[request_id] = reply
        self._stats["requests"] += 1
        try:
            async with asyncio.timeout(timeout):
                await link.transport.send(frame)
                raw = await reply
        except NotSentError:
            raise
        except (TimeoutError, TransportError) as error:
            self._stats["unanswered"] += 1
            cause = str(error) or f"within {timeout:g} s"
            raise OutcomeUnknownError(f"request {request_id} was sent to {self._name}, no answer: {cause}") from error
        finally:
            del self._requests[request_id]
        if raw is None:
            self._stats["unanswered"] += 1
            raise OutcomeUnknownError(f"request {request_id} was sent to {self._name}, no answer: {self._cause}")
        return raw

    # --- wishes, on the loop -----------------------------------------------------------------------------------------

    def _subscribe(self, key: str, handler: Handler, auth: bool) -> None:  # noqa: FBT001 - called by name of position
        first = self._dispatcher.add(key, handler)
        if first or auth:
            self._session.subscribe(key, auth=auth)
            self._wake()

    def _unsubscribe(self, key: str, handler: Handler) -> None:
        if self._dispatcher.remove(key, handler):
            self._session.unsubscribe(key)
            self._wake()

    def _resubscribe(self, key: str) -> None:
        self._session.resubscribe(key)
        self._wake()

    def _add_listener(self, listener: Listener) -> None:
        self._dispatcher.listen(listener, connected=self.connected)

    def _wake(self) -> None:
        if self._link is not None:
            self._link.wake.set()

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
            self._end(self._link, "a reconnect was asked for", planned=True)

    async def _supervise(self, hurry: asyncio.Event) -> None:
        while True:
            self._backoff.started(self._clock())
            self._stats["connects"] += 1
            try:
                self._cause, planned = await self._serve()
            except TransportError as error:
                self._cause, planned = str(error), False
            except Exception as error:  # noqa: BLE001 - the supervisor outlives every mistake, or the process goes dark
                self._stats["unexpected_errors"] += 1
                logger.opt(exception=error).error("{}: the connection met an unexpected error", self._name)
                self._cause, planned = type(error).__name__, False
            now = self._clock()
            start = self._backoff.earliest(now) if planned else self._backoff.next_start(now, self._chance())
            if start is None:
                logger.error("{}: given up after the last try: {}", self._name, self._cause)
                self._answer_waiters(self._cause)
                return
            logger.warning("{}: {}; connecting anew in {:.1f} s", self._name, self._cause, start - now)
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

    async def _serve(self) -> tuple[str, bool]:
        """Connect and stay until the connection ends; say why it did, and whether a planned end."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                transport = await self._connector(self.url)
        except TimeoutError as error:
            raise TransportError(f"no connection within {self._settings.connect_timeout_s:g} s") from error
        link = self._link = _Link(transport, loop.create_future(), asyncio.Event())
        self._session.opened(self._clock())
        if self.connected:
            self._became_connected()
        tasks = [loop.create_task(self._read(link)), loop.create_task(self._write(link))]
        for task in tasks:
            task.add_done_callback(partial(self._task_ended, link))
        try:
            return await link.ended
        finally:
            self._end(link, self._cause)
            for task in tasks:
                task.cancel()
            try:
                await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                await transport.close()

    def _task_ended(self, link: _Link, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if not isinstance(error, TransportError):
            self._stats["unexpected_errors"] += 1
            logger.opt(exception=error).error("{}: a task of the connection failed", self._name)
        self._end(link, str(error) if isinstance(error, TransportError) else type(error).__name__)

    def _end(self, link: _Link, cause: str, *, planned: bool = False) -> None:
        """Leave a connection at once: from here on its frames and its answers are nobody's."""
        if link is not self._link:
            return
        self._link = None
        self._cause = cause
        connected = self.connected
        self._session.lost()
        for reply in self._requests.values():
            if not reply.done():
                reply.set_result(None)
        if not link.ended.done():  # it is, where the supervisor was cancelled
            link.ended.set_result((cause, planned))
        if connected:
            self._dispatcher.state(connected=False)

    def _became_connected(self) -> None:
        self._backoff.proved()
        logger.info("{}: connected", self._name)
        self._answer_waiters(None)
        self._dispatcher.state(connected=True)

    # --- the reader --------------------------------------------------------------------------------------------------

    async def _read(self, link: _Link) -> None:
        while True:
            self._on_frame(link, await link.transport.receive())

    def _on_frame(self, link: _Link, raw: bytes) -> None:
        if link is not self._link:
            self._stats["stale_frames"] += 1
            return
        self._stats["frames"] += 1
        now = self._clock()
        self._session.heard(now)
        try:
            incoming = self._dialect.classify(raw)
        except WireError as error:
            self._stats["decode_errors"] += 1
            self._dispatcher.warn_once(("decode",), "a frame cannot be read: {}: {}", error, raw[:TEXT_LIMIT])
            return
        if incoming.kind is Kind.UPDATE and self._dispatcher.frame(incoming.channel, "update", raw):
            return
        if incoming.kind is Kind.REPLY:
            self._on_reply(incoming.request_id, raw)
            return
        self._count(incoming, raw)
        was_connected = self.connected
        self._session.received(incoming, now)
        link.wake.set()
        if self.connected and not was_connected:
            self._became_connected()
        if incoming.kind is Kind.SUBSCRIBED and not self._dispatcher.frame(incoming.channel, "subscribed", raw):
            self._stats["orphan_frames"] += 1

    def _count(self, incoming: Incoming, raw: bytes) -> None:
        """Surface what is out of the ordinary."""
        match incoming.kind:
            case Kind.UPDATE:
                self._stats["orphan_frames"] += 1  # such as those under way when a channel was closed
            case Kind.ERROR:
                text = incoming.text[:TEXT_LIMIT]
                what = ("error", str(incoming.code))
                self._dispatcher.warn_once(what, "the venue says {}: {}", incoming.code, text)
            case Kind.OTHER:
                self._stats["unknown_frames"] += 1
                self._dispatcher.warn_once(("other",), "a frame of an unknown kind: {}", raw[:TEXT_LIMIT])
            case _:
                pass

    def _on_reply(self, request_id: str, raw: bytes) -> None:
        reply = self._requests.get(request_id)
        if reply is None or reply.done():
            self._stats["late_replies"] += 1
            logger.info("{}: a reply that nobody waits for: {}", self._name, raw[:TEXT_LIMIT])
        else:
            reply.set_result(raw)

    # --- the writer --------------------------------------------------------------------------------------------------

    async def _write(self, link: _Link) -> None:
        while True:
            link.wake.clear()
            for command in self._session.poll(self._clock()):
                await self._execute(link, command)
            timer = self._session.get_timer()
            if timer is None:
                return  # dropped
            try:
                async with asyncio.timeout(timer - self._clock()):
                    await link.wake.wait()
            except TimeoutError:
                pass

    async def _execute(self, link: _Link, command: Command) -> None:
        match command.do:
            case Do.SUBSCRIBE:
                await self._write_subscribe(link, command)
            case Do.UNSUBSCRIBE:
                await self._send(link, self._dialect.unsubscribe(command.channel))
            case Do.PING:
                await self._send(link, self._dialect.ping())
            case Do.PONG:
                await self._send(link, self._dialect.pong())
            case Do.REPORT:
                logger.warning("{}: channel {} is not subscribed: {}", self._name, command.channel, command.text)
            case Do.DROP:
                self._end(link, command.text, planned=command.planned)

    async def _write_subscribe(self, link: _Link, command: Command) -> None:
        token: str | None = None
        if command.auth and self._token is not None:
            try:
                async with asyncio.timeout(self._settings.token_timeout_s):
                    token = await self._token()
            except (LighterError, TimeoutError) as error:
                text = f"no auth token: {str(error) or 'timeout'}"
                self._session.refused(command.channel, text, self._clock())
                return
        await self._send(link, self._dialect.subscribe(command.channel, token))

    async def _send(self, link: _Link, frame: str) -> None:
        if link is not self._link:
            return
        try:
            async with asyncio.timeout(self._settings.send_timeout_s):
                await link.transport.send(frame)
        except TimeoutError as error:
            raise TransportError("the venue reads nothing any more") from error

    # --- loops and waiting -------------------------------------------------------------------------------------------

    def _bound(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def _call(self, function: Callable[..., None], *args: object) -> None:
        loop = self._bound()
        if _running_loop() is loop:
            function(*args)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(function, *args)

    async def _here[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await on the loop that everything runs on."""
        loop = self._bound()
        if asyncio.get_running_loop() is loop:
            return await coroutine
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))

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


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_COUNTERS: Final = (
    "connects",
    "reconnects",
    "frames",
    "stale_frames",
    "orphan_frames",
    "unknown_frames",
    "decode_errors",
    "handler_errors",
    "unexpected_errors",
    "requests",
    "unanswered",
    "late_replies",
)
