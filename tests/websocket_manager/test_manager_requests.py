"""The socket manager's requests and their outcomes, writes that fail, and calls from other threads."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from qubx_lighter.errors import NotSentError, OutcomeUnknownError, TransportError
from qubx_lighter.protocol.session import SessionSettings
from qubx_lighter.sockets.link import SocketSettings
from qubx_lighter.websocket_manager import BaseWebSocketManager
from tests.fake_time import run
from tests.parrots import FAST, PATIENCE_S, Client, ParrotDialect, ParrotVenue, parrot, started

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


# --- writes that fail --------------------------------------------------------------------------------------------------


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
