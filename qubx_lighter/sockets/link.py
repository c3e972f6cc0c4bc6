"""One connection to a venue, from its opening to its end: the reader, the writer, and what ends them.

The reader hands every frame to its handlers, in order, on the loop; the writer does what ``protocol.session`` tells it
to. Neither ever reconnects: they only end the link, and its owner sees that. From then on its frames reach nobody.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from loguru import logger

from qubx_lighter.errors import LighterError, TransportError, WireError
from qubx_lighter.hidden import HiddenText
from qubx_lighter.protocol.messages import Command, Do, Incoming, Kind
from qubx_lighter.protocol.session import Session
from qubx_lighter.sockets.dispatch import TEXT_LIMIT, Dispatcher
from qubx_lighter.sockets.replies import Replies
from qubx_lighter.sockets.transport import Transport

TokenSource = Callable[[], Awaitable[str]]


class Dialect(Protocol):
    """How one venue writes and reads; everything else is the same everywhere.

    Attributes:
        label_at: where the name of the channel begins, in the updates of which ``ends`` tells the ends.
    """

    label_at: int

    def key(self, channel: str) -> str:
        """Give a channel the one spelling that ``classify`` uses too."""

    def kind(self, key: str) -> str:
        """Give the kind of a channel, under which its frames are counted."""

    def classify(self, raw: bytes) -> Incoming:
        """Tell what a frame is.

        Raises:
            WireError: it cannot be read.
        """

    def ends(self, raw: bytes) -> tuple[bytes, bytes] | None:
        """Give the beginning, up to the quote after the channel's name, and the end by which updates like this are known.

        None where they cannot be known by these two alone.
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


class Ending(NamedTuple):
    """Why a link ended, and when the next may follow: at once where it was ``planned``, in ``pause_s`` at least."""

    cause: str
    planned: bool = False
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What outlives a link, and who is told what it meets.

    Attributes:
        on_connected: called when the venue has spoken.
        on_ended: called when the link is over, with whether it was connected.
        on_no_room: called when the venue takes no more subscriptions on this connection, with a refused channel.
    """

    name: str
    dialect: Dialect
    session: Session
    dispatcher: Dispatcher
    replies: Replies
    settings: SocketSettings
    stats: Counter[str]
    clock: Callable[[], float]
    token: TokenSource | None
    on_connected: Callable[[], None]
    on_ended: Callable[[Ending, bool], None]
    on_no_room: Callable[[str], None]


class Link:
    """One connection.

    Args:
        transport: the open WebSocket.
        parts: the owner's.
    """

    def __init__(self, transport: Transport, parts: Parts) -> None:
        self.transport = transport
        self._parts = parts
        self._session = parts.session
        self._dispatcher = parts.dispatcher
        self._alive = True
        self._ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._wake = asyncio.Event()
        self._seen = self._dispatcher.frames

    async def serve(self) -> Ending:
        """Read and write until the end; say why it came."""
        self._session.opened(self._parts.clock())
        if self._session.connected:
            self._parts.on_connected()
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._read()), loop.create_task(self._write())]
        for task in tasks:
            task.add_done_callback(self._task_ended)
        try:
            return await self._ended
        finally:
            self.end(Ending("closed"))
            for task in tasks:
                task.cancel()
            try:
                await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                await self.transport.close()

    def end(self, ending: Ending) -> None:
        """Leave the connection at once: from here on its frames and its answers are nobody's."""
        if not self._alive:
            return
        self._alive = False
        connected = self._session.connected
        self._session.lost()
        self._parts.replies.end(ending.cause)
        if not self._ended.done():  # it is, where the owner was cancelled
            self._ended.set_result(ending)
        self._parts.on_ended(ending, connected)

    def wake(self) -> None:
        """Have the writer look at what there is to do."""
        self._wake.set()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if not isinstance(error, TransportError):
            self._parts.stats["unexpected_errors"] += 1
            logger.opt(exception=error).error("{}: a task of the connection failed", self._parts.name)
        self.end(Ending(str(error) if isinstance(error, TransportError) else type(error).__name__))

    # --- the reader --------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        await self.transport.pump(self._dispatcher.receiver(self._parts.dialect.label_at, self._on_frame))

    def _on_frame(self, raw: bytes) -> None:
        """Take a frame that the dispatcher does not know."""
        parts = self._parts
        if not self._alive:
            parts.stats["stale_frames"] += 1
            return
        now = parts.clock()
        self._session.heard(now)
        try:
            incoming = parts.dialect.classify(raw)
        except WireError as error:
            self._count(raw)
            parts.stats["decode_errors"] += 1
            self._dispatcher.warn_once(("decode",), "a frame cannot be read: {}: {}", error, raw[:TEXT_LIMIT])
            return
        kind = incoming.kind
        if kind is Kind.UPDATE and self._dispatcher.update(incoming.channel, raw, parts.dialect.ends(raw)):
            return
        if kind is Kind.REPLY:
            self._count(raw)
            parts.replies.answer(incoming.request_id, raw)
            return
        was_connected = self._session.connected
        self._session.received(incoming, now)
        self._wake.set()
        if self._session.connected and not was_connected:
            self._parts.on_connected()
        if kind is not Kind.SUBSCRIBED or not self._dispatcher.snapshot(incoming.channel, raw):
            self._count(raw)
            self._surface(incoming, raw)

    def _count(self, raw: bytes) -> None:
        self._parts.stats["other_frames"] += 1
        self._parts.stats["other_bytes"] += len(raw)

    def _surface(self, incoming: Incoming, raw: bytes) -> None:
        """Tell what is out of the ordinary."""
        stats = self._parts.stats
        match incoming.kind:
            case Kind.UPDATE | Kind.SUBSCRIBED:
                stats["orphan_frames"] += 1  # such as those under way when a channel was closed
            case Kind.ERROR:
                text = incoming.text[:TEXT_LIMIT]
                what = ("error", str(incoming.code))
                self._dispatcher.warn_once(what, "the venue says {}: {}", incoming.code, text)
            case Kind.OTHER:
                stats["unknown_frames"] += 1
                self._dispatcher.warn_once(("other",), "a frame of an unknown kind: {}", raw[:TEXT_LIMIT])
            case _:
                pass

    # --- the writer --------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        clock = self._parts.clock
        while True:
            self._wake.clear()
            self._listen()
            for command in self._session.poll(clock()):
                await self._execute(command)
            self._listen()
            timer = self._session.get_timer()
            if timer is None:
                return  # dropped
            try:
                async with asyncio.timeout(timer - clock()):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _listen(self) -> None:
        """Tell the session that the venue spoke, where the dispatcher alone has heard it."""
        frames = self._dispatcher.frames
        if frames != self._seen:
            self._seen = frames
            self._session.heard(self._parts.clock())

    async def _execute(self, command: Command) -> None:
        dialect = self._parts.dialect
        match command.do:
            case Do.SUBSCRIBE:
                await self._subscribe(command)
            case Do.UNSUBSCRIBE:
                await self._send(dialect.unsubscribe(command.channel))
            case Do.PING:
                await self._send(dialect.ping())
            case Do.PONG:
                await self._send(dialect.pong())
            case Do.REPORT:
                logger.warning("{}: channel {} is not subscribed: {}", self._parts.name, command.channel, command.text)
            case Do.NO_ROOM:
                self._parts.on_no_room(command.channel)
            case Do.DROP:
                self.end(Ending(command.text, command.planned, command.pause_s))

    async def _subscribe(self, command: Command) -> None:
        parts = self._parts
        token: str | None = None
        if command.auth and parts.token is not None:
            try:
                async with asyncio.timeout(parts.settings.token_timeout_s):
                    token = await parts.token()
            except (LighterError, TimeoutError) as error:
                text = f"no auth token: {str(error) or 'timeout'}"
                self._session.refused(command.channel, text, parts.clock())
                return
        await self._send(HiddenText(parts.dialect.subscribe(command.channel, token)))

    async def _send(self, frame: str) -> None:
        if not self._alive:
            return
        try:
            async with asyncio.timeout(self._parts.settings.send_timeout_s):
                await self.transport.send(frame)
        except TimeoutError as error:
            raise TransportError("the venue reads nothing any more") from error
