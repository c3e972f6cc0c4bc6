"""A made-up venue whose dialect shares nothing with Lighter's, and a socket manager on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from aiohttp import WSMsgType, web

from qubx_lighter.errors import WireError
from qubx_lighter.protocol.messages import Incoming, Kind, Remedy
from qubx_lighter.protocol.pace import BackoffSettings
from qubx_lighter.protocol.session import SessionSettings
from qubx_lighter.websocket_manager import BaseWebSocketManager

PATIENCE_S = 5.0


class ParrotDialect:
    """Rooms are joined and left; a room is ``#name`` to users and ``name`` on the wire.

    ``after_frame`` is called once the manager is done with a frame, so that tests can wait for what it makes true.
    """

    KINDS: ClassVar = {"hi": Kind.WELCOME, "joined": Kind.SUBSCRIBED, "msg": Kind.UPDATE, "left": Kind.UNSUBSCRIBED}
    KINDS |= {"re": Kind.REPLY, "bad": Kind.ERROR, "there?": Kind.PING, "here!": Kind.PONG, "bye": Kind.SHUTDOWN}
    REMEDIES: ClassVar = {"twice": Remedy.UNSUBSCRIBE_FIRST, "absent": Remedy.ALREADY_GONE, "nosuch": Remedy.GIVE_UP}
    REMEDIES |= {"key": Remedy.NEW_TOKEN, "fast": Remedy.SLOW_DOWN}

    label_at = len('{"ev": "msg", "room": "')

    def __init__(self, after_frame: Callable[[], None] = lambda: None) -> None:
        self.after_frame = after_frame

    def key(self, channel: str) -> str:
        return channel.removeprefix("#")

    def kind(self, key: str) -> str:
        return key[:1]

    def ends(self, raw: bytes) -> tuple[bytes, bytes] | None:
        beginning, quote, _ = raw.partition(b'", "n"')  # updates with a number end as they like
        return (beginning, b"}") if quote else None

    def classify(self, raw: bytes) -> Incoming:
        asyncio.get_running_loop().call_soon(self.after_frame)
        try:
            frame = json.loads(raw)
        except ValueError as error:
            raise WireError("not JSON") from error
        why = frame.get("why", "")
        kind = self.KINDS.get(frame["ev"], Kind.OTHER)
        remedy = self.REMEDIES.get(why, Remedy.NONE)
        return Incoming(kind, frame.get("room", ""), frame.get("ref", ""), 7, why, remedy)

    def subscribe(self, key: str, auth: str | None) -> str:
        return json.dumps({"op": "join", "room": key} | ({"key": auth} if auth else {}))

    def unsubscribe(self, key: str) -> str:
        return json.dumps({"op": "leave", "room": key})

    def ping(self) -> str:
        return '{"op":"there?"}'

    def pong(self) -> str:
        return '{"op":"here!"}'


class Watch:
    """Wait for something to become true; whoever changes anything calls ``changed``."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def changed(self) -> None:
        self._event.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._event.clear()
                await self._event.wait()


Answer = Callable[["ParrotVenue", web.WebSocketResponse, dict[str, Any]], Awaitable[None]]


async def parrot(venue: ParrotVenue, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
    """Answer as the venue does on a good day."""
    del venue
    match frame["op"]:
        case "join":
            await socket.send_json({"ev": "joined", "room": frame["room"]})
        case "leave":
            await socket.send_json({"ev": "left", "room": frame["room"]})
        case "there?":
            await socket.send_json({"ev": "here!"})
        case "ask":
            await socket.send_json({"ev": "re", "ref": frame["ref"]})


class ParrotVenue:
    """A WebSocket server that records what it reads and misbehaves on demand."""

    def __init__(self) -> None:
        self.watch = Watch()
        self.connects: list[float] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.frames: list[tuple[int, dict[str, Any]]] = []  # number of the connection, frame
        self.refusals = 0
        self.welcome = True
        self.answer: Answer = parrot
        self.on_open: Callable[[web.WebSocketResponse], Awaitable[None]] | None = None
        self.url = ""

    def ops(self, *ops: str) -> list[tuple[int, str, str]]:
        """List what was read as (connection, op, room or reference)."""
        return [
            (number, frame["op"], frame.get("room") or frame.get("ref", ""))
            for number, frame in self.frames
            if not ops or frame["op"] in ops
        ]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.connects.append(asyncio.get_running_loop().time())
        self.watch.changed()
        if self.refusals:
            self.refusals -= 1
            return web.Response(status=503)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        number = len(self.sockets)
        self.sockets.append(socket)
        if self.welcome:
            await socket.send_json({"ev": "hi"})
        if self.on_open is not None:
            await self.on_open(socket)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                frame = json.loads(message.data)
                self.frames.append((number, frame))
                self.watch.changed()
                await self.answer(self, socket, frame)
        self.watch.changed()
        return socket

    async def say(self, **frame: object) -> None:
        await self.sockets[-1].send_json(frame)

    def cut(self) -> None:
        """Break the last connection without a word."""
        transport = self.sockets[-1]._req.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.abort()


class Client:
    """A manager with its recorded frames and states."""

    def __init__(self, venue: ParrotVenue, manager: BaseWebSocketManager) -> None:
        self.ws = manager
        self.watch = venue.watch
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.states: list[bool] = []
        manager.on_state(self._on_state)

    def _on_state(self, connected: bool) -> None:
        self.states.append(connected)
        self.watch.changed()

    def hear(self, kind: str, raw: bytes) -> None:
        self.heard.append((kind, json.loads(raw)))
        self.watch.changed()

    def numbers(self) -> list[int]:
        return [frame["n"] for kind, frame in self.heard if kind == "update"]


FAST = BackoffSettings(initial_s=0.01, cap_s=0.02)


@asynccontextmanager
async def started(
    venue: ParrotVenue, *, session: SessionSettings | None = None, backoff: BackoffSettings = FAST, **options: Any
) -> AsyncIterator[Client]:
    """Start a manager, and on the way out close it and see that nothing of it is left."""
    before = asyncio.all_tasks()
    manager = BaseWebSocketManager(
        venue.url, ParrotDialect(venue.watch.changed), session=session, backoff=backoff, **options
    )
    client = Client(venue, manager)
    manager.start()
    try:
        yield client
    finally:
        await manager.close()
        await manager.close()
    left = [task for task in asyncio.all_tasks() - before if task.get_name() == "websocket" or "_read" in repr(task)]
    assert [] == left


async def joined(client: Client, *rooms: str) -> None:
    for room in rooms:
        client.ws.subscribe(room, client.hear)
    await client.watch.until(lambda: all(client.ws.subscribed(room) for room in rooms))
