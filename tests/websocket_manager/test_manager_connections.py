"""The socket manager's connections: replaced when they break, never in a storm."""

from __future__ import annotations

import asyncio
import itertools
import time
from math import inf
from typing import Any

import pytest
from aiohttp import web

from qubx_lighter.errors import TransportError
from qubx_lighter.protocol.pace import BackoffSettings
from qubx_lighter.protocol.session import SessionSettings
from qubx_lighter.sockets.link import SocketSettings
from qubx_lighter.sockets.transport import connect
from qubx_lighter.websocket_manager import BaseWebSocketManager
from tests.parrots import PATIENCE_S, ParrotDialect, ParrotVenue, joined, started


async def test_a_broken_connection_is_replaced_and_everything_subscribed_anew(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        await joined(client, "a", "b")
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
        await joined(client, "a")
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
        await joined(client, "a")
        first = venue.sockets[0]
        await venue.say(ev="bye")
        await client.watch.until(lambda: len(client.heard) == 2)
        assert [True, False, True] == client.states
        assert first.close_code in (None, 1000, 1006)  # closed by the client or not at all


async def test_frames_of_an_old_connection_reach_nobody(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        await joined(client, "a")
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
        await joined(client, "a")
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
