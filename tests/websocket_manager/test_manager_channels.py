"""The socket manager's channels: who hears what, what is subscribed when, and what if no answer comes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web
from loguru import logger

from qubx_lighter.protocol.session import SessionSettings
from tests.parrots import PATIENCE_S, ParrotVenue, joined, parrot, started

# --- channels ----------------------------------------------------------------------------------------------------------


async def test_a_handler_hears_the_snapshot_and_then_the_updates_in_order(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        await joined(client, "#a")
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

        await joined(client, "a")
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
        await joined(client, "a")
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
        await joined(client, "a")
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
        await joined(client, *(f"r{number}" for number in range(300)))
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
        await joined(client, "a")
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
            await joined(client, "a")
            for number in range(3):
                await venue.say(ev="msg", room="a", n=number)
            await client.watch.until(lambda: len(client.numbers()) == 3)
            assert 3 + 1 + 1 == client.ws.stats()["handler_errors"]  # updates, snapshot, state
    finally:
        logger.remove(sink)
    assert ["state", "subscribed", "update"] == sorted(text.split("\n")[0].split()[-1] for text in told)


async def test_frames_and_bytes_are_counted_by_kind_of_channel_also_of_those_that_closed(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        await joined(client, "a1", "a2", "b1")
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
        await joined(client, "a")
    assert [(0, "join", "a"), (0, "leave", "a"), (0, "join", "a")] == venue.ops()
