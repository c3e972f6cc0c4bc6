"""The socket manager against a made-up venue whose dialect shares nothing with Lighter's."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Any, ClassVar

import pytest
from aiohttp import WSMsgType, web
from loguru import logger

from qubx_lighter.errors import (
    ConfigurationError,
    NotSentError,
    OutcomeUnknownError,
    SigningError,
    TransportError,
    WireError,
)
from qubx_lighter.protocol.messages import Incoming, Kind, Remedy
from qubx_lighter.protocol.pace import BackoffSettings
from qubx_lighter.protocol.session import SessionSettings
from qubx_lighter.sockets.link import SocketSettings
from qubx_lighter.sockets.transport import connect
from qubx_lighter.websocket_manager import BaseWebSocketManager
from tests.fake_time import run
from tests.serving import serving

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


@pytest.fixture
async def venue() -> AsyncIterator[ParrotVenue]:
    parrots = ParrotVenue()
    async with serving(parrots.handle) as parrots.url:
        yield parrots


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


async def _joined(client: Client, *rooms: str) -> None:
    for room in rooms:
        client.ws.subscribe(room, client.hear)
    await client.watch.until(lambda: all(client.ws.subscribed(room) for room in rooms))


# --- channels ----------------------------------------------------------------------------------------------------------


async def test_a_handler_hears_the_snapshot_and_then_the_updates_in_order(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        await _joined(client, "#a")
        for number in range(5):
            await venue.say(ev="msg", room="a", n=number)
        await client.watch.until(lambda: len(client.numbers()) == 5)
    assert ("subscribed", {"ev": "joined", "room": "a"}) == client.heard[0]
    assert [0, 1, 2, 3, 4] == client.numbers()


async def test_channels_share_the_socket_and_each_handler_hears_its_own(venue: ParrotVenue) -> None:
    heard: dict[str, list[int]] = {"a": [], "b": []}
    async with started(venue) as client:
        for room, numbers in heard.items():

            def hear(kind: str, raw: bytes, numbers: list[int] = numbers) -> None:
                if kind == "update":
                    numbers.append(json.loads(raw)["n"])
                    client.watch.changed()

            client.ws.subscribe(room, hear)
        await client.watch.until(lambda: client.ws.subscribed("a") and client.ws.subscribed("b"))
        for number in range(4):
            await venue.say(ev="msg", room="ab"[number % 2], n=number)
        await client.watch.until(lambda: sum(map(len, heard.values())) == 4)
    assert {"a": [0, 2], "b": [1, 3]} == heard
    assert 1 == len(venue.sockets)


async def test_a_channel_is_subscribed_once_for_all_handlers_and_left_with_the_last(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        other: list[str] = []

        def second(kind: str, _: bytes) -> None:
            other.append(kind)
            client.watch.changed()

        await _joined(client, "a")
        client.ws.subscribe("a", client.hear)  # counted twice
        await venue.say(ev="msg", room="a", n=0)
        await client.watch.until(client.numbers)
        client.ws.subscribe("a", second)
        client.ws.unsubscribe("a", client.hear)
        await venue.say(ev="msg", room="a", n=1)
        await client.watch.until(lambda: other)
        assert [0, 1] == client.numbers()  # each heard once
        client.ws.unsubscribe("a", client.hear)
        client.ws.unsubscribe("a", client.hear)  # one too many
        client.ws.unsubscribe("zzz", client.hear)
        await venue.say(ev="msg", room="a", n=2)
        await client.watch.until(lambda: len(other) == 2)
        assert [0, 1] == client.numbers()
        client.ws.unsubscribe("a", second)
        await client.watch.until(lambda: len(venue.ops()) == 2)
    assert [(0, "join", "a"), (0, "leave", "a")] == venue.ops()


async def test_unsubscribe_and_subscribe_at_once_reach_the_wire_with_the_answer_between(venue: ParrotVenue) -> None:
    released = asyncio.Event()

    async def slow(venue: ParrotVenue, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        if frame["op"] == "leave":
            seen.append(venue.ops())
            await released.wait()
            seen.append(venue.ops())
        await parrot(venue, socket, frame)

    seen: list[list[tuple[int, str, str]]] = []
    venue.answer = slow
    async with started(venue) as client:
        await _joined(client, "a")
        client.ws.unsubscribe("a", client.hear)
        client.ws.subscribe("a", client.hear)
        await client.watch.until(lambda: seen)
        assert False is client.ws.subscribed("a")
        released.set()
        await client.watch.until(lambda: client.ws.subscribed("a") and len(client.heard) == 2)
    assert [[(0, "join", "a"), (0, "leave", "a")]] * 2 == seen
    assert [(0, "join", "a"), (0, "leave", "a"), (0, "join", "a")] == venue.ops()


async def test_resubscribe_is_one_round_however_often_it_is_asked_for(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        await _joined(client, "a")
        for _ in range(100):
            client.ws.resubscribe("#a")
        await client.watch.until(lambda: len(client.heard) == 2)
        assert 1 == client.ws.stats()["resubscriptions"]
    assert [(0, "join", "a"), (0, "leave", "a"), (0, "join", "a")] == venue.ops()


async def test_a_handler_may_ask_for_a_new_snapshot(venue: ParrotVenue) -> None:
    async with started(venue) as client:

        def gap(kind: str, raw: bytes) -> None:
            client.hear(kind, raw)
            if kind == "update":
                client.ws.resubscribe("a")

        client.ws.subscribe("a", gap)
        await client.watch.until(lambda: client.ws.subscribed("a"))
        await venue.say(ev="msg", room="a", n=1)
        await client.watch.until(lambda: len(client.heard) == 3)
    assert ["subscribed", "update", "subscribed"] == [kind for kind, _ in client.heard]


async def test_frames_that_nobody_wants_are_counted_and_their_channel_left(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        await client.ws.wait_connected(PATIENCE_S)
        await venue.say(ev="msg", room="ghost", n=1)
        await venue.say(ev="joined", room="ghost")
        await client.watch.until(venue.ops)
        assert 2 == client.ws.stats()["orphan_frames"]
    assert [(0, "leave", "ghost")] == venue.ops()


async def test_three_hundred_channels_are_subscribed_with_a_bounded_number_unanswered(venue: ParrotVenue) -> None:
    waiting: list[str] = []
    most = 0

    async def batched(venue: ParrotVenue, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        nonlocal most
        waiting.append(frame["room"])
        most = max(most, len(waiting))
        if len(waiting) == 35 or len(venue.frames) == 300:
            for room in waiting[::-1]:  # out of order
                await socket.send_json({"ev": "joined", "room": room})
            waiting.clear()

    venue.answer = batched
    async with started(venue, session=SessionSettings(messages=1000)) as client:
        await _joined(client, *(f"r{number}" for number in range(300)))
        assert (300, 0, 0) == tuple(client.ws.stats()[name] for name in ("channels", "queued", "in_flight"))
    assert 35 == most


async def test_a_burst_of_twenty_thousand_frames_loses_none(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        numbers: list[int] = []

        def hear(kind: str, raw: bytes) -> None:
            if kind == "update":
                numbers.append(json.loads(raw)["n"])
                if len(numbers) == 20_000:
                    client.watch.changed()

        client.ws.subscribe("a", hear)
        await client.watch.until(lambda: venue.frames and client.ws.subscribed("a"))
        socket = venue.sockets[0]
        for number in range(20_000):
            await socket.send_str(f'{{"ev":"msg","room":"a","n":{number},"pad":"{"x" * 300}"}}')
        await client.watch.until(lambda: len(numbers) == 20_000)
        assert list(range(20_000)) == numbers
        assert 20_002 == client.ws.stats()["frames"]


async def test_garbage_and_unknown_frames_are_counted_and_stop_nothing(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        await _joined(client, "a")
        await venue.sockets[0].send_str("{<rubbish>")
        await venue.sockets[0].send_bytes(b"\xff\x00")
        await venue.say(ev="gossip")
        await venue.say(ev="bad", why="<weird>{}")
        await venue.say(ev="msg", room="a", n=1)
        await client.watch.until(client.numbers)
        stats = client.ws.stats()
        assert (2, 1, 1) == (stats["decode_errors"], stats["unknown_frames"], stats["errors"])
        assert True is client.ws.connected


async def test_what_a_handler_raises_is_counted_told_once_and_stops_nobody(venue: ParrotVenue) -> None:
    told: list[str] = []
    sink = logger.add(lambda message: told.append(str(message)), level="ERROR", format="{message}")
    try:
        async with started(venue) as client:

            def broken(kind: str, raw: bytes) -> None:
                raise ValueError(f"{kind} {len(raw)}")

            def broken_listener(connected: bool) -> None:
                raise KeyError(connected)

            client.ws.on_state(broken_listener)
            client.ws.subscribe("a", broken)
            await _joined(client, "a")
            for number in range(3):
                await venue.say(ev="msg", room="a", n=number)
            await client.watch.until(lambda: len(client.numbers()) == 3)
            assert 3 + 1 + 1 == client.ws.stats()["handler_errors"]  # updates, snapshot, state
    finally:
        logger.remove(sink)
    assert ["state", "subscribed", "update"] == sorted(text.split("\n")[0].split()[-1] for text in told)


async def test_frames_and_bytes_are_counted_by_kind_of_channel_also_of_those_that_closed(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        await _joined(client, "a1", "a2", "b1")
        for number in range(3):
            await venue.say(ev="msg", room="a1", n=number)
            await venue.say(ev="msg", room="b1", n=number, other=1)
        await client.watch.until(lambda: len(client.numbers()) == 6)
        size = sum(len(json.dumps(frame)) for _, frame in client.heard) + len('{"ev": "hi"}')
        before = client.ws.stats()
        assert (5, 4, 10, size) == tuple(before[name] for name in ("frames_a", "frames_b", "frames", "bytes"))
        client.ws.unsubscribe("a1", client.hear)
        await client.watch.until(lambda: venue.ops("leave") and not client.ws.stats()["in_flight"])
        after = client.ws.stats()
        assert (5, 4, 11, 2) == tuple(after[name] for name in ("frames_a", "frames_b", "frames", "channels"))


async def test_a_handler_that_leaves_or_joins_while_it_is_called_changes_the_next_frame_not_this_one(
    venue: ParrotVenue,
) -> None:
    async with started(venue) as client:
        calls: list[str] = []

        def first(kind: str, raw: bytes) -> None:
            calls.append(f"first {kind}")
            if calls.count("first update") == 2:
                client.ws.unsubscribe("a", first)
                client.ws.subscribe("a", third)

        def second(kind: str, raw: bytes) -> None:
            calls.append(f"second {kind}")
            client.watch.changed()

        def third(kind: str, raw: bytes) -> None:
            calls.append(f"third {kind}")

        client.ws.subscribe("a", first)
        client.ws.subscribe("a", second)
        await client.watch.until(lambda: client.ws.subscribed("a"))
        for number in range(3):
            await venue.say(ev="msg", room="a", n=number)
        await client.watch.until(lambda: calls.count("second update") == 3)
    updates = [call.split()[0] for call in calls if call.endswith("update")]
    assert ["first", "second", "first", "second", "second", "third"] == updates


# --- connections -------------------------------------------------------------------------------------------------------


async def test_a_broken_connection_is_replaced_and_everything_subscribed_anew(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        await _joined(client, "a", "b")
        venue.cut()
        await client.watch.until(lambda: len(client.heard) == 4)
        await venue.say(ev="msg", room="b", n=7)
        await client.watch.until(client.numbers)
        assert [True, False, True] == client.states
        assert (2, 1) == (client.ws.stats()["connects"], client.ws.stats()["reconnects"])
    assert {(1, "join", "a"), (1, "join", "b")} == set(venue.ops()[2:])
    assert [True, False, True, False] == client.states


async def test_who_asked_for_it_is_told_that_the_connection_of_a_channel_is_lost(venue: ParrotVenue) -> None:
    told: list[str] = []
    async with started(venue) as client:

        def broken() -> None:
            told.append("broken")
            raise ValueError("a mistake")

        def other(kind: str, raw: bytes) -> None:
            pass

        client.ws.on_state(lambda connected: told.append(f"state {connected}"))
        client.ws.subscribe("a", client.hear, on_lost=broken)
        client.ws.subscribe("a", other, on_lost=lambda: told.append("a"))
        client.ws.subscribe("b", client.hear, on_lost=lambda: told.append("b"))
        client.ws.subscribe("c", client.hear, on_lost=lambda: told.append("c"))
        client.ws.unsubscribe("c", client.hear)
        await client.watch.until(lambda: client.ws.subscribed("a") and client.ws.subscribed("b"))
        venue.refusals = 1  # a connection that never was is not lost
        venue.cut()
        await client.watch.until(lambda: client.states == [True, False, True])
        assert ["state True", "broken", "a", "b", "state False", "state True"] == told
        assert 1 == client.ws.stats()["handler_errors"]
        await client.watch.until(lambda: client.ws.subscribed("a") and client.ws.subscribed("b"))
    assert ["broken", "a", "b", "state False"] == told[6:]


async def test_a_useful_connection_starts_the_waits_anew(venue: ParrotVenue) -> None:
    venue.refusals = 1
    async with started(venue, backoff=BackoffSettings(initial_s=0.01, factor=1e6, cap_s=1e6)) as client:
        for losses in range(1, 4):  # without the welcomes between, the second wait would be hours
            await client.watch.until(lambda losses=losses: len(venue.sockets) == losses and client.ws.connected)
            venue.cut()
        await client.watch.until(lambda: len(venue.sockets) == 4)


async def test_a_reconnect_is_absorbed_while_a_connection_is_being_made(venue: ParrotVenue) -> None:
    venue.welcome = False
    async with started(venue) as client:
        await client.watch.until(lambda: venue.sockets)
        await venue.say(ev="gossip")
        await client.watch.until(lambda: client.ws.stats()["unknown_frames"])
        client.ws.reconnect()
        await venue.say(ev="hi")
        await client.ws.wait_connected(PATIENCE_S)
        assert 1 == client.ws.stats()["connects"]


async def test_a_venue_that_closes_politely_is_connected_again(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        await client.ws.wait_connected(PATIENCE_S)
        await venue.sockets[0].close(code=1012)
        await client.watch.until(lambda: client.states == [True, False, True])


async def test_refused_connects_are_tried_again_until_one_succeeds(venue: ParrotVenue) -> None:
    venue.refusals = 5
    async with started(venue) as client:
        await client.ws.wait_connected(PATIENCE_S)
        assert (6, 5) == (len(venue.connects), client.ws.stats()["reconnects"])


async def test_a_missing_welcome_ends_in_another_try_and_tells_who_waits(venue: ParrotVenue) -> None:
    venue.welcome = False
    async with started(venue, session=SessionSettings(welcome_timeout_s=0.02)) as client:
        client.ws.subscribe("a", client.hear)
        await client.watch.until(lambda: len(venue.sockets) == 3)
        with pytest.raises(TransportError, match=rf"{venue.url} is not connected within 0.001 s: no welcome"):
            await client.ws.wait_connected(0.001)
        assert ([], []) == (venue.ops(), client.states)
        venue.welcome = True
        await client.watch.until(lambda: client.ws.subscribed("a"))


async def test_who_waits_in_vain_for_a_host_that_is_not_there_hears_why(venue: ParrotVenue) -> None:
    manager = BaseWebSocketManager("ws://127.0.0.1:1/", ParrotDialect(), backoff=BackoffSettings(max_retries=0))
    manager.start()
    with pytest.raises(TransportError, match=r"ws://127\.0\.0\.1:1/ is not connected: ClientConnectorError"):
        await manager.wait_connected(PATIENCE_S)
    await manager.close()


async def test_a_venue_that_needs_no_welcome_is_connected_with_the_socket(venue: ParrotVenue) -> None:
    venue.welcome = False
    async with started(venue, session=SessionSettings(welcome=False)) as client:
        await _joined(client, "a")
        assert [True] == client.states


async def test_silence_ends_the_connection(venue: ParrotVenue) -> None:
    async with started(venue, session=SessionSettings(silence_s=0.05, ping_interval_s=inf)) as client:
        await client.watch.until(lambda: client.states[:3] == [True, False, True])


async def test_pings_keep_a_quiet_connection_alive(venue: ParrotVenue) -> None:
    async with started(venue, session=SessionSettings(silence_s=0.3, ping_interval_s=0.02)) as client:
        await client.watch.until(lambda: len(venue.ops("there?")) > 20)
        assert [True] == client.states


async def test_pings_of_the_venue_are_answered(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        await client.ws.wait_connected(PATIENCE_S)
        await venue.say(ev="there?")
        await client.watch.until(lambda: venue.ops("here!"))


async def test_an_announced_shutdown_leads_to_a_new_connection_before_the_venue_closes(venue: ParrotVenue) -> None:
    async with started(venue, backoff=BackoffSettings(initial_s=0.01)) as client:
        await _joined(client, "a")
        first = venue.sockets[0]
        await venue.say(ev="bye")
        await client.watch.until(lambda: len(client.heard) == 2)
        assert [True, False, True] == client.states
        assert first.close_code in (None, 1000, 1006)  # closed by the client or not at all


async def test_frames_of_an_old_connection_reach_nobody(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        await _joined(client, "a")
        old = venue.sockets[0]
        await venue.say(ev="msg", room="a", n=0)
        await client.watch.until(client.numbers)
        for number in range(1, 500):  # on their way when the connection is dropped
            await old.send_json({"ev": "msg", "room": "a", "n": number})
        client.ws.reconnect()
        await client.watch.until(lambda: len(venue.sockets) == 2 and client.ws.subscribed("a"))
        await venue.say(ev="msg", room="a", n=1000)
        await client.watch.until(lambda: 1000 in client.numbers())
    assert [0, 1000] == client.numbers()


async def test_frames_behind_one_whose_handler_reconnects_reach_nobody(venue: ParrotVenue) -> None:
    async with started(venue) as client:

        def drop(kind: str, raw: bytes) -> None:
            client.hear(kind, raw)
            if kind == "update" and len(client.numbers()) == 1:
                client.ws.reconnect()

        client.ws.subscribe("a", drop)
        await client.watch.until(lambda: client.ws.subscribed("a"))
        first = venue.sockets[0]
        await asyncio.gather(*(first.send_json({"ev": "msg", "room": "a", "n": number}) for number in range(50)))
        await client.watch.until(lambda: client.states == [True, False, True])
        assert [0] == client.numbers()


class Times:
    """A connector that notes when it is called."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    async def __call__(self, url: str) -> Any:
        self.starts.append(time.monotonic())
        return await connect(url)

    def shortest_wait(self) -> float:
        return min(after - before for before, after in itertools.pairwise(self.starts))


async def test_many_calls_to_reconnect_make_one_connection_and_never_a_storm(venue: ParrotVenue) -> None:
    times = Times()
    async with started(venue, backoff=BackoffSettings(initial_s=0.05), connector=times) as client:
        for wanted in (2, 3, 4, 5):
            await client.watch.until(lambda: client.ws.connected)
            for _ in range(50):
                client.ws.reconnect()
            await client.watch.until(lambda wanted=wanted: len(venue.connects) == wanted)
    assert 5 == len(times.starts)
    assert times.shortest_wait() >= 0.049


async def test_a_venue_that_greets_and_hangs_up_is_not_stormed(venue: ParrotVenue) -> None:
    async def hang_up(socket: web.WebSocketResponse) -> None:
        await socket.close()

    times = Times()
    venue.on_open = hang_up
    async with started(venue, backoff=BackoffSettings(initial_s=0.05, jitter=0.2), connector=times) as client:
        await client.watch.until(lambda: len(venue.connects) == 5)
    assert times.shortest_wait() >= 0.039


async def test_a_venue_that_announces_shutdowns_for_ever_is_not_stormed(venue: ParrotVenue) -> None:
    async def bye(socket: web.WebSocketResponse) -> None:
        await socket.send_json({"ev": "bye"})

    times = Times()
    venue.on_open = bye
    async with started(venue, backoff=BackoffSettings(initial_s=0.05), connector=times) as client:
        await client.watch.until(lambda: len(venue.connects) == 5)
    assert times.shortest_wait() >= 0.049


async def test_reconnect_ends_a_long_wait(venue: ParrotVenue) -> None:
    venue.refusals = 2
    async with started(venue, backoff=BackoffSettings(initial_s=0.01, factor=1e6, cap_s=1e6)) as client:
        await client.watch.until(lambda: len(venue.connects) == 2)
        while client.ws.stats()["connects"] < 3:  # the second refusal arrives some turns of the loop later
            client.ws.reconnect()
            await asyncio.sleep(0)
        await client.ws.wait_connected(PATIENCE_S)
    assert 3 == len(venue.connects)


async def test_a_limit_of_retries_ends_the_tries_until_somebody_asks_for_a_connection(venue: ParrotVenue) -> None:
    venue.refusals = 3
    async with started(venue, backoff=BackoffSettings(initial_s=0.01, max_retries=2)) as client:
        with pytest.raises(TransportError, match=r"HTTP 503"):
            await client.ws.wait_connected(PATIENCE_S)
        assert 3 == len(venue.connects)
        client.ws.reconnect()
        await client.ws.wait_connected(PATIENCE_S)


async def test_a_listener_that_comes_late_hears_the_present_state(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        await client.ws.wait_connected(PATIENCE_S)
        await client.ws.wait_connected(PATIENCE_S)
        states: list[bool] = []
        client.ws.on_state(states.append)
        assert [True] == states


async def test_a_closed_manager_is_quiet_and_may_start_again_with_its_subscriptions(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        await _joined(client, "a")
        await client.ws.close()
        assert ([True, False], False, False) == (client.states, client.ws.connected, client.ws.subscribed("a"))
        client.ws.reconnect()
        assert 1 == len(venue.connects)
        client.ws.start()
        await client.watch.until(lambda: client.ws.subscribed("a"))
        assert 2 == len(venue.connects)


async def test_a_waiter_is_told_when_the_manager_closes(venue: ParrotVenue) -> None:
    venue.welcome = False
    async with started(venue) as client:
        waiter = asyncio.create_task(client.ws.wait_connected(PATIENCE_S))
        await client.watch.until(lambda: venue.sockets)
        await client.ws.close()
        with pytest.raises(TransportError, match="closed"):
            await waiter


async def test_an_unexpected_error_while_connecting_is_survived(venue: ParrotVenue) -> None:
    calls = 0

    async def flaky(url: str) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("a mistake")
        return await connect(url)

    async with started(venue, connector=flaky) as client:
        await client.ws.wait_connected(PATIENCE_S)
        assert 1 == client.ws.stats()["unexpected_errors"]


async def test_a_connect_that_hangs_is_given_up(venue: ParrotVenue) -> None:
    calls = 0

    async def hanging(url: str) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.Event().wait()
        return await connect(url)

    async with started(venue, connector=hanging, socket=SocketSettings(connect_timeout_s=0.02)) as client:
        await client.ws.wait_connected(PATIENCE_S)
        assert 2 == calls


async def test_a_close_while_connecting_leaves_nothing(venue: ParrotVenue) -> None:
    async with started(venue):
        pass
    assert [] == venue.frames


# --- answers that do not come ------------------------------------------------------------------------------------------


async def test_a_subscribe_that_is_never_answered_is_tried_again_and_reported(venue: ParrotVenue) -> None:
    async def deaf(venue: ParrotVenue, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        if frame["op"] == "leave":
            await parrot(venue, socket, frame)

    venue.answer = deaf
    told: list[str] = []
    sink = logger.add(lambda message: told.append(str(message)), level="WARNING", format="{message}")
    settings = SessionSettings(ack_timeout_s=0.01, report_after=2, retry_pause_s=0.05)
    try:
        async with started(venue, session=settings) as client:
            client.ws.subscribe("a", client.hear)
            await client.watch.until(lambda: len(venue.ops("join")) == 4)
            assert client.ws.stats()["unacknowledged"] >= 1
            venue.answer = parrot
            await client.watch.until(lambda: client.ws.subscribed("a"))
    finally:
        logger.remove(sink)
    assert any("channel a is not subscribed: no answer to subscribe (2 times)" in text for text in told)


async def test_an_answer_that_comes_late_is_good(venue: ParrotVenue) -> None:
    held: list[dict[str, Any]] = []

    async def late(venue: ParrotVenue, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        held.append(frame)
        if len(held) == 2:  # the subscribe and the unsubscribe that followed: both answers at once, in order
            for frame_held in held:
                await parrot(venue, socket, frame_held)
            venue.answer = parrot

    venue.answer = late
    async with started(venue, session=SessionSettings(ack_timeout_s=0.02)) as client:
        client.ws.subscribe("a", client.hear)
        await client.watch.until(lambda: client.ws.subscribed("a"))
    assert [(0, "join", "a"), (0, "leave", "a"), (0, "join", "a")] == venue.ops()


async def test_already_subscribed_is_undone_first(venue: ParrotVenue) -> None:
    async def twice(venue: ParrotVenue, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        venue.answer = parrot
        await socket.send_json({"ev": "bad", "why": "twice"})

    venue.answer = twice
    async with started(venue) as client:
        await _joined(client, "a")
    assert [(0, "join", "a"), (0, "leave", "a"), (0, "join", "a")] == venue.ops()


# --- tokens ------------------------------------------------------------------------------------------------------------


class Mint:
    """A token source that counts, and fails on demand."""

    def __init__(self) -> None:
        self.minted = 0
        self.failures: list[Exception] = []

    async def __call__(self) -> str:
        if self.failures:
            raise self.failures.pop()
        self.minted += 1
        return f"token{self.minted}"


async def test_a_token_is_minted_for_each_private_subscribe(venue: ParrotVenue) -> None:
    mint = Mint()
    async with started(venue, token=mint) as client:
        client.ws.subscribe("orders", client.hear, auth=True)
        client.ws.subscribe("public", client.hear)
        await client.watch.until(lambda: client.ws.subscribed("orders") and client.ws.subscribed("public"))
        venue.cut()
        await client.watch.until(lambda: len(client.heard) == 4)
    assert ["token1", None, "token2", None] == [frame.get("key") for _, frame in venue.frames]


async def test_private_channels_are_renewed_before_the_token_ends(venue: ParrotVenue) -> None:
    async with started(venue, token=Mint(), session=SessionSettings(auth_renewal_s=0.05)) as client:
        client.ws.subscribe("orders", client.hear, auth=True)
        await client.watch.until(lambda: len(venue.ops("join")) == 3)
        assert client.ws.stats()["renewals"] >= 2
    joins = [frame["key"] for _, frame in venue.frames if frame["op"] == "join"]
    assert ["token1", "token2", "token3"] == joins[:3]


async def test_a_refused_token_is_replaced(venue: ParrotVenue) -> None:
    async def refuse_first(venue: ParrotVenue, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        if frame.get("key") == "token1":
            await socket.send_json({"ev": "bad", "why": "key", "room": frame["room"]})
        else:
            await parrot(venue, socket, frame)

    venue.answer = refuse_first
    async with started(venue, token=Mint()) as client:
        client.ws.subscribe("orders", client.hear, auth=True)
        await client.watch.until(lambda: client.ws.subscribed("orders"))
    assert ["token1", "token2"] == [frame["key"] for _, frame in venue.frames]


async def test_a_token_that_cannot_be_minted_is_tried_again_and_holds_up_nobody(venue: ParrotVenue) -> None:
    mint = Mint()
    mint.failures = [SigningError("no signer"), SigningError("no signer")]
    async with started(venue, token=mint) as client:
        client.ws.subscribe("orders", client.hear, auth=True)
        client.ws.subscribe("public", client.hear)
        await client.watch.until(lambda: client.ws.subscribed("orders") and client.ws.subscribed("public"))
        assert 2 == client.ws.stats()["retries"]


async def test_a_token_that_takes_for_ever_holds_up_nobody(venue: ParrotVenue) -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async with started(venue, token=never, socket=SocketSettings(token_timeout_s=0.01)) as client:
        client.ws.subscribe("orders", client.hear, auth=True)
        await _joined(client, "public")


async def test_a_token_source_with_a_mistake_costs_the_connection_not_the_manager(venue: ParrotVenue) -> None:
    mint = Mint()
    mint.failures = [RuntimeError("a mistake")]
    async with started(venue, token=mint) as client:
        client.ws.subscribe("orders", client.hear, auth=True)
        await client.watch.until(lambda: client.ws.subscribed("orders"))
        assert (2, 1) == (len(venue.sockets), client.ws.stats()["unexpected_errors"])


async def test_a_token_minted_for_a_connection_that_ended_meanwhile_goes_nowhere(venue: ParrotVenue) -> None:
    mint = Mint()

    async def slow() -> str:
        token = await mint()
        if mint.minted == 1:
            client.ws.reconnect()
        return token

    async with started(venue, token=slow) as client:
        client.ws.subscribe("orders", client.hear, auth=True)
        await client.watch.until(lambda: client.ws.subscribed("orders"))
    assert [(1, "token2")] == [(number, frame["key"]) for number, frame in venue.frames]


async def test_a_private_channel_without_a_token_source_is_refused_at_once(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        with pytest.raises(ConfigurationError, match="orders is private"):
            client.ws.subscribe("orders", client.hear, auth=True)


# --- requests ----------------------------------------------------------------------------------------------------------


def _ask(reference: str) -> tuple[str, str]:
    return reference, json.dumps({"op": "ask", "ref": reference})


async def test_replies_find_their_requests_in_any_order(venue: ParrotVenue) -> None:
    async def backwards(venue: ParrotVenue, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        del frame
        if len(venue.frames) == 3:
            for _, asked in reversed(venue.frames):
                await socket.send_json({"ev": "re", "ref": asked["ref"]})

    venue.answer = backwards
    async with started(venue) as client:
        await client.ws.wait_connected(PATIENCE_S)
        replies = await asyncio.gather(*(client.ws.request(*_ask(name), PATIENCE_S) for name in "xyz"))
        assert ["x", "y", "z"] == [json.loads(raw)["ref"] for raw in replies]
        assert 3 == client.ws.stats()["requests"]


async def test_requests_leave_in_the_order_of_the_calls(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        await client.ws.wait_connected(PATIENCE_S)
        names = [f"q{number}" for number in range(200)]
        await asyncio.gather(*(client.ws.request(*_ask(name), PATIENCE_S) for name in names))
    assert names == [name for _, _, name in venue.ops("ask")]


async def test_requests_overtake_subscriptions_that_wait_and_do_not_count_as_messages(venue: ParrotVenue) -> None:
    async with started(venue, session=SessionSettings(messages=1)) as client:
        await client.ws.wait_connected(PATIENCE_S)
        for number in range(10):
            client.ws.subscribe(f"r{number}", client.hear)
        for number in range(20):
            await client.ws.request(*_ask(f"q{number}"), PATIENCE_S)
        assert (1, 20, 9) == (len(venue.ops("join")), len(venue.ops("ask")), client.ws.stats()["queued"])


async def test_without_a_connection_a_request_is_not_sent(venue: ParrotVenue) -> None:
    venue.welcome = False
    async with started(venue) as client:
        with pytest.raises(NotSentError, match="not connected: still connecting"):
            await client.ws.request(*_ask("x"), PATIENCE_S)
        await client.watch.until(lambda: venue.sockets)
        with pytest.raises(NotSentError):
            await client.ws.request(*_ask("x"), PATIENCE_S)
    assert [] == venue.frames


async def test_a_request_without_a_reply_in_time_is_unknown_and_its_late_reply_only_counted(venue: ParrotVenue) -> None:
    async def deaf(venue: ParrotVenue, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        pass

    venue.answer = deaf
    async with started(venue) as client:
        await client.ws.wait_connected(PATIENCE_S)
        with pytest.raises(OutcomeUnknownError, match=r"x was sent to .* within 0.01 s"):
            await client.ws.request(*_ask("x"), 0.01)
        await venue.say(ev="re", ref="x")
        venue.answer = parrot
        await client.ws.request(*_ask("y"), PATIENCE_S)
        assert (1, 1) == (client.ws.stats()["late_replies"], client.ws.stats()["unanswered"])


async def test_a_request_whose_connection_breaks_is_unknown(venue: ParrotVenue) -> None:
    async def hang_up(venue: ParrotVenue, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        venue.answer = parrot
        venue.cut()

    venue.answer = hang_up
    async with started(venue) as client:
        await client.ws.wait_connected(PATIENCE_S)
        with pytest.raises(OutcomeUnknownError, match="no answer: the"):
            await client.ws.request(*_ask("x"), PATIENCE_S)
        await client.ws.wait_connected(PATIENCE_S)
        await client.ws.request(*_ask("x"), PATIENCE_S)


async def test_a_request_that_waits_when_the_manager_closes_is_unknown(venue: ParrotVenue) -> None:
    async def deaf(venue: ParrotVenue, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        pass

    venue.answer = deaf
    async with started(venue) as client:
        await client.ws.wait_connected(PATIENCE_S)
        request = asyncio.create_task(client.ws.request(*_ask("x"), PATIENCE_S))
        await client.watch.until(lambda: venue.frames)
        await client.ws.close()
        with pytest.raises(OutcomeUnknownError, match="closed"):
            await request


async def test_two_requests_of_one_id_at_a_time_are_a_mistake(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        await client.ws.wait_connected(PATIENCE_S)
        first = asyncio.create_task(client.ws.request(*_ask("x"), PATIENCE_S))
        await client.watch.until(lambda: venue.frames)
        with pytest.raises(ValueError, match="x waits"):
            await asyncio.gather(client.ws.request(*_ask("x"), PATIENCE_S), client.ws.request(*_ask("x"), PATIENCE_S))
        await first


class StubTransport:
    """A connection of which every part can be made to fail."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.incoming.put_nowait(b'{"ev":"hi"}')
        self.error: Exception | None = None
        self.hangs = False
        self.closed = False

    async def pump(self, take: Callable[[bytes], None]) -> None:
        while True:
            take(await self.incoming.get())

    async def send(self, text: str) -> None:
        del text
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.closed = True


@asynccontextmanager
async def stubbed(venue: ParrotVenue, **options: Any) -> AsyncIterator[tuple[Client, list[StubTransport]]]:
    made: list[StubTransport] = []

    async def connector(url: str) -> StubTransport:
        del url
        made.append(StubTransport())
        return made[-1]

    async with started(venue, connector=connector, **options) as client:
        await client.ws.wait_connected(PATIENCE_S)
        yield client, made


def test_updates_keep_a_connection_alive_that_says_nothing_else_and_only_while_they_come() -> None:
    async def scenario() -> None:
        clock = asyncio.get_running_loop().time
        made: list[StubTransport] = []
        states: list[tuple[float, bool]] = []

        async def connector(url: str) -> StubTransport:
            made.append(StubTransport())
            return made[-1]

        settings = SessionSettings(silence_s=60, ping_interval_s=20)
        manager = BaseWebSocketManager("ws://x/", ParrotDialect(), clock=clock, connector=connector, session=settings)
        manager.on_state(lambda connected: states.append((clock(), connected)))
        manager.subscribe("a", lambda _, __: None)
        manager.start()
        await manager.wait_connected(1)
        made[0].incoming.put_nowait(b'{"ev": "joined", "room": "a"}')
        for number in range(300):
            await asyncio.sleep(1)
            made[0].incoming.put_nowait(b'{"ev": "msg", "room": "a", "n": %d}' % number)
        last = clock()
        assert [True] == [connected for _, connected in states]
        while len(states) == 1:
            await asyncio.sleep(1)
        assert 60 <= states[1][0] - last <= 80  # heard of at the next ping
        await manager.close()

    run(scenario())


@pytest.mark.parametrize(
    ("raised", "expected"), [(NotSentError("closed"), NotSentError), (TransportError("broke"), OutcomeUnknownError)]
)
async def test_what_a_failed_write_says_of_the_outcome(
    venue: ParrotVenue, raised: Exception, expected: type[Exception]
) -> None:
    async with stubbed(venue) as (client, made):
        made[0].error = raised
        with pytest.raises(expected):
            await client.ws.request(*_ask("x"), PATIENCE_S)


async def test_a_venue_that_reads_nothing_any_more_is_left(venue: ParrotVenue) -> None:
    async with stubbed(venue, socket=SocketSettings(send_timeout_s=0.01)) as (client, made):
        made[0].hangs = True
        client.ws.subscribe("a", client.hear)
        await client.watch.until(lambda: client.states == [True, False, True])
        assert (True, False) == (made[0].closed, made[1].closed)


async def test_a_write_that_waits_does_not_hold_up_a_reconnect(venue: ParrotVenue) -> None:
    async with stubbed(venue) as (client, made):
        made[0].hangs = True
        client.ws.subscribe("a", client.hear)
        await asyncio.sleep(0)
        client.ws.reconnect()
        await client.watch.until(lambda: client.states == [True, False, True])


# --- threads -----------------------------------------------------------------------------------------------------------


async def test_every_call_works_from_another_thread(venue: ParrotVenue) -> None:
    loop = asyncio.get_running_loop()
    manager = BaseWebSocketManager(venue.url, ParrotDialect(venue.watch.changed), loop=loop, backoff=FAST)
    threads: set[int] = set()
    client: list[Client] = []

    def hear(kind: str, raw: bytes) -> None:
        threads.add(threading.get_ident())
        client[0].hear(kind, raw)

    async def elsewhere() -> bytes:
        await manager.wait_connected(PATIENCE_S)
        return await manager.request(*_ask("x"), PATIENCE_S)

    def strategy() -> bytes:
        client.append(Client(venue, manager))
        manager.start()
        manager.start()
        manager.subscribe("a", hear)
        manager.subscribe("b", hear)
        manager.unsubscribe("b", hear)
        return asyncio.run(elsewhere())

    assert b'{"ev": "re", "ref": "x"}' == await asyncio.to_thread(strategy)
    await venue.watch.until(lambda: manager.subscribed("a"))
    await asyncio.to_thread(manager.resubscribe, "a")
    await venue.watch.until(lambda: len(client[0].heard) == 2)
    await asyncio.to_thread(manager.reconnect)
    await venue.watch.until(lambda: client[0].states == [True, False, True])
    await asyncio.to_thread(lambda: asyncio.run(manager.close()))
    assert ({threading.get_ident()}, False) == (threads, manager.connected)
    assert "b" not in {room for _, _, room in venue.ops("join")}


def test_without_a_loop_there_must_be_one_running() -> None:
    manager = BaseWebSocketManager("ws://nowhere.invalid/", ParrotDialect())
    with pytest.raises(RuntimeError, match="no running event loop"):
        manager.start()
    asyncio.run(manager.close())


def test_calls_after_the_loop_has_closed_are_ignored() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    BaseWebSocketManager("ws://nowhere.invalid/", ParrotDialect(), loop=loop).unsubscribe("a", lambda _, __: None)
