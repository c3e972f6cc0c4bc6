"""Channels over several connections, against a venue in memory that insists on its limits; time passes at once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from loguru import logger

from qubx_lighter.errors import NotSentError, TransportError
from qubx_lighter.protocol.liveness import LivenessSettings
from qubx_lighter.protocol.pace import AddressLimits, AddressPace, BackoffSettings
from qubx_lighter.sockets.transport import Transport
from qubx_lighter.websocket import ADDRESS_LIMITS, LighterWebSocketManager, session_settings
from qubx_lighter.websocket_pool import LighterWebSocketPool
from tests.fake_time import run
from tests.serving import serving

URL = "wss://venue.invalid/stream"
LATENCY_S = 0.05


class Connection:
    """One client's socket, with the venue at its other end."""

    def __init__(self, venue: Venue, number: int) -> None:
        self._venue = venue
        self.number = number
        self.subscribed: dict[str, None] = {}
        self.open = True
        self._incoming: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def pump(self, take: Callable[[bytes], None]) -> None:
        while (raw := await self._incoming.get()) is not None:
            take(raw)
        raise TransportError("cut")

    async def send(self, text: str) -> None:
        if not self.open:
            raise NotSentError("closed")
        self._venue.hear(self, json.loads(text))

    async def close(self) -> None:
        self.open = False
        self.subscribed.clear()

    def say(self, **frame: object) -> None:
        self._incoming.put_nowait(json.dumps(frame, separators=(",", ":")).encode())

    def cut(self) -> None:
        self.open = False
        self.subscribed.clear()
        self._incoming.put_nowait(None)

    def update(self, key: str, number: int) -> None:
        self.say(channel=key, n=number, type=f"update/{key.partition(':')[0]}")


class Venue:
    """Lighter's limits: 200 messages a minute and 50 in flight an address, so many subscriptions a connection.

    ``mute`` are channels to which no subscribe is ever answered, ``unknown`` those that do not exist; those in ``full``
    find every connection full. ``most`` is the most subscriptions on one connection.
    """

    def __init__(self, *, most: int = 500, names_the_refused: bool = True) -> None:
        self.most = most
        self.names_the_refused = names_the_refused
        self.connections: list[Connection] = []
        self.messages: list[tuple[float, int, str, str]] = []  # time, connection, type, channel
        self.violations: Counter[str] = Counter()
        self.mute: set[str] = set()
        self.unknown: set[str] = set()
        self.most_connections = 255
        self._recent: deque[float] = deque()
        self.unanswered = 0
        self.most_unanswered = 0

    async def connect(self, url: str) -> Transport:
        connection = Connection(self, len(self.connections))
        self.connections.append(connection)
        if sum(each.open for each in self.connections) > self.most_connections:
            connection.say(error={"code": 23003, "message": "Too Many Connections"})
        else:
            connection.say(type="connected", session_id="s")
        return connection

    def hear(self, connection: Connection, frame: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        key = frame.get("channel", "").replace("/", ":")
        self.messages.append((loop.time(), connection.number, frame["type"], key))
        while self._recent and self._recent[0] <= loop.time() - 60:
            self._recent.popleft()
        self._recent.append(loop.time())
        if len(self._recent) > 200:
            self.violations["messages"] += 1
        if key in self.mute:
            return
        self.unanswered += 1
        self.most_unanswered = max(self.most_unanswered, self.unanswered)
        loop.call_later(LATENCY_S, self._answer, connection, frame["type"], key)

    def _answer(self, connection: Connection, kind: str, key: str) -> None:
        self.unanswered -= 1
        held = connection.subscribed
        name = f": {key}" if self.names_the_refused else ""
        match kind:
            case "ping":
                connection.say(type="pong")
            case "subscribe" if key in held:
                connection.say(error={"code": 30003, "message": f"Already Subscribed{name}"})
            case "subscribe" if key in self.unknown:
                connection.say(error={"code": 30005, "message": f"Invalid Channel{name}"})
            case "subscribe" if len(held) >= self.most:
                connection.say(error={"code": 23001, "message": f"Too Many Subscriptions{name}"})
            case "subscribe":
                held[key] = None
                connection.say(channel=key, type=f"subscribed/{key.partition(':')[0]}")
            case "unsubscribe" if key not in held:
                connection.say(error={"code": 30002, "message": f"Not Subscribed{name}"})
            case "unsubscribe":
                del held[key]
                connection.say(channel=key, type="unsubscribed")

    def held(self) -> list[int]:
        """Count what each connection is subscribed to."""
        return [len(connection.subscribed) for connection in self.connections]

    def spoken(self, key: str) -> list[tuple[int, str]]:
        """List what was written about a channel, and where."""
        return [(number, kind) for _, number, kind, channel in self.messages if channel == key]

    def most_in_a_minute(self) -> int:
        times = [time for time, *_ in self.messages]
        return max(sum(start <= time < start + 60 for time in times) for start in times)


class Ear:
    """A handler that remembers."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.losses = 0

    def __call__(self, kind: str, raw: bytes) -> None:
        frame = json.loads(raw)
        self.heard.append("snapshot" if kind == "subscribed" else str(frame["n"]))

    def lost(self) -> None:
        self.losses += 1


@asynccontextmanager
async def opened(venue: Venue, **options: Any) -> AsyncIterator[LighterWebSocketPool]:
    loop = asyncio.get_running_loop()
    options = {"pace": AddressPace(ADDRESS_LIMITS), "backoff": BackoffSettings(jitter=0.0)} | options
    pool = LighterWebSocketPool(URL, clock=loop.time, connector=venue.connect, **options)
    pool.start()
    try:
        yield pool
    finally:
        await pool.close()
        left = {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}}
        assert set() == left & {"websocket"}


async def _until(condition: Callable[[], object], patience_s: float = 600.0, step_s: float = 0.01) -> float:
    """Let time pass until something is true; give how long it took."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    while not condition():
        assert loop.time() < start + patience_s, "it never came true"
        await asyncio.sleep(step_s)
    return loop.time() - start


def _names(count: int, kinds: str = "order_book ticker trade candle") -> list[str]:
    return [f"{kind}/{market}" for market in range(count) for kind in kinds.split()]


def _unpaced() -> AddressPace:
    return AddressPace(AddressLimits(messages=100_000, in_flight=35))


# --- speed -------------------------------------------------------------------------------------------------------------


def test_two_hundred_markets_of_four_channels_are_subscribed_as_fast_as_the_venue_allows() -> None:
    async def scenario() -> None:
        venue = Venue()
        async with opened(venue) as pool:
            names, ear = _names(200), Ear()
            for name in names:
                pool.subscribe(name, ear)
            took = await _until(lambda: pool.stats()["acknowledged"] == 800, step_s=0.2)
            assert all(pool.subscribed(name) for name in names)
            assert [400, 400] == venue.held()
            # 190 at once, then 190 a minute: the last of 800 may leave after four minutes, and is answered at once
            assert 240 <= took < 241
            assert venue.most_in_a_minute() <= 200
            assert venue.most_unanswered <= 50
            assert Counter() == venue.violations
            assert 800 == sum(kind == "subscribe" for _, _, kind, _ in venue.messages)
            stats = pool.stats()
            assert (2, 800, 800, 800, 0) == tuple(
                stats[name] for name in ("connections", "subscriptions", "wanted", "acknowledged", "queued")
            )

    run(scenario())


def test_a_private_socket_finds_room_however_many_public_channels_wait() -> None:
    async def token() -> str:
        return "token"

    async def scenario() -> None:
        venue, pace = Venue(), AddressPace(ADDRESS_LIMITS)
        loop = asyncio.get_running_loop()
        private = LighterWebSocketManager(URL, token=token, clock=loop.time, connector=venue.connect, pace=pace)
        async with opened(venue, pace=pace) as pool:
            ear = Ear()
            for name in _names(200):
                pool.subscribe(name, ear)
            await asyncio.sleep(20)  # the public sockets have used up what is theirs
            assert 170 == pool.stats()["acknowledged"]
            private.start()
            mine = [f"account_{number}/5" for number in range(10)]
            for name in mine:
                private.subscribe(name, ear, auth=True)
            assert await _until(lambda: all(private.subscribed(name) for name in mine)) < 1
            await _until(lambda: pool.stats()["acknowledged"] == 800, step_s=1)
            assert (True, Counter()) == (venue.most_in_a_minute() <= 200, venue.violations)
            await private.close()

    run(scenario())


def test_a_complaint_about_the_pace_on_one_socket_slows_every_socket() -> None:
    async def scenario() -> None:
        venue = Venue()
        async with opened(venue, pace=_unpaced(), capacity=2, session=session_settings(slow_down_s=10)) as pool:
            for name in _names(1):
                pool.subscribe(name, Ear())
            await _until(lambda: [2, 2] == venue.held())
            venue.connections[0].say(error={"code": 30009, "message": "Too Many Websocket Messages!"})
            await asyncio.sleep(0.1)
            pool.resubscribe("order_book/0")
            pool.resubscribe("candle/0")
            assert 9 < await _until(lambda: len(venue.spoken("candle:0")) == 2) < 11
            assert [(0, "subscribe"), (0, "unsubscribe")] == venue.spoken("order_book:0")[:2]

    run(scenario())


# --- spreading ---------------------------------------------------------------------------------------------------------


def test_a_channel_goes_to_the_first_connection_with_room() -> None:
    async def scenario() -> None:
        venue = Venue()
        async with opened(venue, pace=_unpaced(), capacity=2) as pool:
            ear = Ear()
            for name in "abcde":
                pool.subscribe(name, ear)
            await _until(lambda: [2, 2, 1] == venue.held())
            pool.unsubscribe("b", ear)
            await _until(lambda: [1, 2, 1] == venue.held())
            pool.subscribe("f", ear)
            await _until(lambda: [2, 2, 1] == venue.held())
            assert {"a": None, "f": None} == venue.connections[0].subscribed

    run(scenario())


def test_a_connection_that_stays_empty_is_closed_and_the_first_never() -> None:
    async def scenario() -> None:
        venue = Venue()
        async with opened(venue, pace=_unpaced(), capacity=1, idle_s=60) as pool:
            ear = Ear()
            for name in "abc":
                pool.subscribe(name, ear)
            await _until(lambda: [1, 1, 1] == venue.held())
            pool.unsubscribe("b", ear)
            pool.unsubscribe("a", ear)
            await asyncio.sleep(59)
            assert 3 == pool.stats()["connections"]
            await asyncio.sleep(2)
            assert (2, [True, False, True]) == (
                pool.stats()["connections"],
                [each.open for each in venue.connections],
            )
            assert (3, 3) == (pool.stats()["connects"], pool.stats()["frames_a"] + 2)  # what it counted stays

    run(scenario())


def test_a_connection_that_is_used_again_in_time_stays() -> None:
    async def scenario() -> None:
        venue = Venue()
        async with opened(venue, pace=_unpaced(), capacity=1, idle_s=60) as pool:
            ear = Ear()
            pool.subscribe("a", ear)
            pool.subscribe("b", ear)
            await _until(lambda: [1, 1] == venue.held())
            for _ in range(3):
                pool.unsubscribe("b", ear)
                await asyncio.sleep(50)
                pool.subscribe("b", ear)
                await asyncio.sleep(50)
            assert [1, 1] == venue.held()

    run(scenario())


def test_subscriptions_made_before_the_start_are_kept_and_spread() -> None:
    async def scenario() -> None:
        venue = Venue()
        loop = asyncio.get_running_loop()
        pool = LighterWebSocketPool(URL, clock=loop.time, connector=venue.connect, capacity=1, pace=_unpaced())
        for name in "ab":
            pool.subscribe(name, Ear())
        assert ([], 2) == (venue.connections, pool.stats()["connections"])
        pool.start()
        await _until(lambda: [1, 1] == venue.held())
        await pool.close()
        assert [False, False] == [each.open for each in venue.connections]
        pool.start()
        await _until(lambda: [0, 0, 1, 1] == venue.held())
        await pool.close()
        await pool.close()

    run(scenario())


@pytest.mark.parametrize("names_the_refused", [True, False])
def test_a_venue_that_allows_fewer_subscriptions_has_the_rest_moved(names_the_refused: bool) -> None:
    async def scenario() -> None:
        venue = Venue(most=100, names_the_refused=names_the_refused)
        async with opened(venue) as pool:
            names, ear = _names(60), Ear()
            for name in names:
                pool.subscribe(name, ear)
            await _until(lambda: all(pool.subscribed(name) for name in names), patience_s=900, step_s=1)
            assert 240 == sum(venue.held())
            assert max(venue.held()) <= 100
            assert (240, 0) == (pool.stats()["wanted"], pool.stats()["unacknowledged"])
            assert Counter() == venue.violations
            wasted = len(venue.messages) - 240
            assert wasted < 150

    run(scenario())


def test_channels_for_which_there_is_no_room_anywhere_wait_and_open_no_storm_of_connections() -> None:
    async def scenario() -> None:
        venue = Venue(most=0)
        told: list[str] = []
        sink = logger.add(lambda message: told.append(str(message)), level="WARNING", format="{message}")
        try:
            async with opened(venue, pace=_unpaced(), session=session_settings(retry_pause_s=30)) as pool:
                ear = Ear()
                pool.subscribe("a/1", ear)
                pool.subscribe("b/1", ear)
                await asyncio.sleep(100)
                assert (1, 1) == (len(venue.connections), pool.stats()["connections"])
                assert 4 == len(venue.spoken("a:1"))
                venue.most = 500
                await _until(lambda: [2] == venue.held())
        finally:
            logger.remove(sink)
        assert 1 == sum("takes no more subscriptions" in text for text in told)

    run(scenario())


def test_too_many_connections_is_reported_once_and_waited_for() -> None:
    async def scenario() -> None:
        venue = Venue()
        venue.most_connections = 1
        told: list[str] = []
        sink = logger.add(lambda message: told.append(str(message)), level="WARNING", format="{message}")
        try:
            async with opened(venue, pace=_unpaced(), capacity=1, session=session_settings(retry_pause_s=30)) as pool:
                ear = Ear()
                pool.subscribe("a", ear)
                pool.subscribe("b", ear)
                await asyncio.sleep(305)
                assert 7 <= len(venue.connections) <= 12
                assert (True, True, False) == (pool.connected, pool.subscribed("a"), pool.subscribed("b"))
                venue.most_connections = 2
                await _until(lambda: pool.subscribed("b"))
        finally:
            logger.remove(sink)
        assert ["the venue says 23003", "Too Many Connections; connecting"] == [
            " ".join(text.split(": ", 1)[1].split()[:4]).rstrip(":") for text in told
        ]

    run(scenario())


# --- wishes ------------------------------------------------------------------------------------------------------------


def test_unsubscribe_then_subscribe_in_one_tick_reach_the_wire_even_on_a_full_connection() -> None:
    async def scenario() -> None:
        venue = Venue()
        async with opened(venue, pace=_unpaced(), capacity=2) as pool:
            ear = Ear()
            pool.subscribe("a/1", ear)
            pool.subscribe("b/1", ear)
            await _until(lambda: pool.subscribed("a/1") and pool.subscribed("b/1"))
            for name in ("a/1", "b/1"):
                pool.unsubscribe(name, ear)
                pool.subscribe(name, ear)
            assert (False, False) == (pool.subscribed("a/1"), pool.subscribed("b/1"))
            await _until(lambda: pool.subscribed("a/1") and pool.subscribed("b/1"))
            assert ["snapshot"] * 4 == ear.heard
            assert [(0, "subscribe"), (0, "unsubscribe"), (0, "subscribe")] == venue.spoken("a:1")
            assert 1 == len(venue.connections)

    run(scenario())


def test_a_channel_that_comes_back_to_another_connection_is_left_on_the_old_one() -> None:
    async def scenario() -> None:
        venue = Venue()
        async with opened(venue, pace=_unpaced(), capacity=1) as pool:
            ear = Ear()
            pool.subscribe("a", ear)
            pool.subscribe("b", ear)
            await _until(lambda: [1, 1] == venue.held())
            pool.unsubscribe("a", ear)
            pool.unsubscribe("b", ear)
            await _until(lambda: [0, 0] == venue.held())
            pool.subscribe("b", ear)
            await _until(lambda: [1, 0] == venue.held())
            venue.connections[0].update("b", 7)
            await _until(lambda: ear.heard[-1] == "7")
            assert [(1, "subscribe"), (1, "unsubscribe"), (0, "subscribe")] == venue.spoken("b")

    run(scenario())


def test_a_channel_is_shared_by_its_handlers_and_left_with_the_last() -> None:
    async def scenario() -> None:
        venue = Venue()
        async with opened(venue, pace=_unpaced()) as pool:
            one, two = Ear(), Ear()
            pool.subscribe("a/1", one)
            pool.subscribe("a/1", two)
            pool.subscribe("a:1", two)
            await _until(lambda: pool.subscribed("a:1"))
            assert (3, 1) == (pool.stats()["subscriptions"], pool.stats()["wanted"])
            venue.connections[0].update("a:1", 1)
            await _until(lambda: two.heard == ["snapshot", "1"])
            pool.unsubscribe("a/1", one)
            pool.unsubscribe("a/1", one)
            pool.unsubscribe("a/1", two)
            pool.unsubscribe("zzz", two)
            pool.resubscribe("zzz")
            venue.connections[0].update("a:1", 2)
            await _until(lambda: two.heard[-1] == "2")
            assert ["snapshot", "1"] == one.heard
            pool.unsubscribe("a/1", two)
            await _until(lambda: [0] == venue.held())

    run(scenario())


def test_an_answer_that_does_not_come_is_asked_for_again_and_then_reported() -> None:
    async def scenario() -> None:
        venue = Venue()
        venue.mute = {"b"}
        async with opened(venue, pace=_unpaced(), capacity=1) as pool:
            ear = Ear()
            pool.subscribe("a", ear)
            pool.subscribe("b", ear)
            await asyncio.sleep(200)
            assert (True, False) == (pool.subscribed("a"), pool.subscribed("b"))
            assert pool.stats()["unacknowledged"] >= 1
            venue.mute = set()
            await _until(lambda: pool.subscribed("b"))

    run(scenario())


def test_a_channel_that_does_not_exist_is_reported_once() -> None:
    async def scenario() -> None:
        venue = Venue()
        venue.unknown = {"bok:1"}
        told: list[str] = []
        sink = logger.add(lambda message: told.append(str(message)), level="WARNING", format="{message}")
        try:
            async with opened(venue, pace=_unpaced()) as pool:
                pool.subscribe("bok/1", Ear())
                pool.subscribe("book/1", Ear())
                await asyncio.sleep(1000)
                assert 1 == pool.stats()["refused"]
        finally:
            logger.remove(sink)
        assert [(0, "subscribe")] == venue.spoken("bok:1")
        assert 1 == sum("bok:1 is not subscribed" in text for text in told)

    run(scenario())


# --- losses ------------------------------------------------------------------------------------------------------------


def test_who_lives_on_a_lost_connection_is_told_and_nobody_else() -> None:
    async def scenario() -> None:
        venue = Venue()
        async with opened(venue, pace=_unpaced(), capacity=1) as pool:
            states: list[bool] = []
            pool.on_state(states.append)
            one, two = Ear(), Ear()
            pool.subscribe("a", one, on_lost=one.lost)
            pool.subscribe("b", two, on_lost=two.lost)
            await pool.wait_connected(10)
            await _until(lambda: [1, 1] == venue.held())
            venue.connections[1].cut()
            await _until(lambda: two.heard == ["snapshot", "snapshot"])
            assert (0, 1, [True], True) == (one.losses, two.losses, states, pool.connected)
            venue.connections[0].cut()
            await _until(lambda: one.losses)
            assert False is pool.connected
            await _until(lambda: one.heard == ["snapshot", "snapshot"])
            assert (1, 1, [True, False, True]) == (one.losses, two.losses, states)
            pool.reconnect()
            await _until(lambda: len(one.heard) == len(two.heard) == 3)
            assert (2, 2) == (one.losses, two.losses)

    run(scenario())


# --- liveness ----------------------------------------------------------------------------------------------------------


def test_a_channel_that_the_venue_forgets_is_healed_while_the_others_go_on() -> None:
    async def scenario() -> None:
        venue = Venue()
        loop = asyncio.get_running_loop()
        async with opened(venue, pace=_unpaced(), capacity=2) as pool:
            ears = {name: Ear() for name in ("book:0", "book:1", "book:2")}
            for name, ear in ears.items():
                pool.subscribe(name, ear)
            await _until(lambda: [2, 1] == venue.held())
            deaf_since = 0.0
            for second in range(400):
                await asyncio.sleep(1)
                for connection in venue.connections:
                    for name in connection.subscribed:
                        if name != "book:1" or second < 100 or len(ears["book:1"].heard) > 101:
                            connection.update(name, second)
                deaf_since = loop.time() if second == 99 else deaf_since
            assert [(0, "subscribe"), (0, "unsubscribe"), (0, "subscribe")] == venue.spoken("book:1")
            healed = next(time for time, _, kind, key in venue.messages if (kind, key) == ("unsubscribe", "book:1"))
            assert 60 <= healed - deaf_since <= 70
            assert (1, 1) == (pool.stats()["liveness_renewals"], len(venue.spoken("book:0")))
            assert 400 == len(ears["book:0"].heard)  # the snapshot and what came since; the last is on its way

    run(scenario())


def test_renewals_share_one_budget_over_all_connections_and_back_off() -> None:
    async def scenario() -> None:
        venue = Venue()
        settings = LivenessSettings(sleeper_s=100, renewals=3, most_s=800)
        async with opened(venue, pace=_unpaced(), capacity=5, liveness=settings) as pool:
            for number in range(10):
                pool.subscribe(f"trade/{number}", Ear())
            await _until(lambda: [5, 5] == venue.held())
            await asyncio.sleep(99)
            assert 0 == pool.stats()["liveness_renewals"]
            await asyncio.sleep(10)
            assert 3 == pool.stats()["liveness_renewals"]
            await asyncio.sleep(60)
            assert 6 == pool.stats()["liveness_renewals"]
            await asyncio.sleep(10_000)
            assert 3 * 10 < pool.stats()["liveness_renewals"] < 10 * 10_000 / 800 + 50

    run(scenario())


class TalkingServer:
    """A real server that sends an update of each channel every few ms, and of ``book:1`` nothing more once it is deaf.

    A new subscription is heard again.
    """

    def __init__(self) -> None:
        self.deaf = False
        self.subscribes: Counter[str] = Counter()
        self._held: set[str] = set()

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"type": "connected"})
        talking = asyncio.create_task(self._talk(socket))
        async for message in socket:
            frame = json.loads(message.data)
            key = frame.get("channel", "").replace("/", ":")
            if frame["type"] == "subscribe":
                self.subscribes[key] += 1
                await socket.send_str(f'{{"channel":"{key}","type":"subscribed/book"}}')
                self._held.add(key)
            elif frame["type"] == "unsubscribe":
                self._held.discard(key)
                await socket.send_str(f'{{"channel":"{key}","type":"unsubscribed"}}')
        talking.cancel()
        return socket

    async def _talk(self, socket: web.WebSocketResponse) -> None:
        number = 0
        while True:
            number += 1
            for key in sorted(self._held):
                if not (self.deaf and key == "book:1" and self.subscribes[key] == 1):
                    await socket.send_str(f'{{"channel":"{key}","n":{number},"type":"update/book"}}')
            await asyncio.sleep(0.005)


async def test_a_real_connection_that_goes_deaf_on_one_channel_is_healed() -> None:
    server = TalkingServer()
    heard: Counter[str] = Counter()
    healed = asyncio.Event()

    def hear(kind: str, raw: bytes) -> None:
        heard[kind] += 1
        if heard["update"] == 20:
            server.deaf = True
        if heard["subscribed"] == 2 and kind == "update":
            healed.set()

    async with serving(server.handle) as url:
        settings = LivenessSettings(check_interval_s=0.05, least_s=0.4, factor=2.0)
        pool = LighterWebSocketPool(url, liveness=settings)
        pool.subscribe("book/0", lambda _, __: None)
        pool.subscribe("book/1", hear)
        pool.start()
        try:
            async with asyncio.timeout(5):
                await healed.wait()
            assert {"book:0": 1, "book:1": 2} == server.subscribes
            assert 1 == pool.stats()["liveness_renewals"]
        finally:
            await pool.close()


async def test_every_call_works_from_another_thread() -> None:
    venue = Venue()
    loop = asyncio.get_running_loop()
    pool = LighterWebSocketPool(URL, loop=loop, connector=venue.connect, capacity=1, pace=_unpaced())
    ears = [Ear(), Ear()]

    def strategy() -> None:
        pool.start()
        pool.on_state(lambda _: None)
        for number, ear in enumerate(ears):
            pool.subscribe(f"a/{number}", ear, on_lost=ear.lost)
        asyncio.run(pool.wait_connected(5))

    await asyncio.to_thread(strategy)
    async with asyncio.timeout(5):
        while [1, 1] != venue.held():
            await asyncio.sleep(0)
        await asyncio.to_thread(pool.resubscribe, "a/1")
        while len(ears[1].heard) < 2:
            await asyncio.sleep(0)
        await asyncio.to_thread(pool.unsubscribe, "a/1", ears[1])
        while [1, 0] != venue.held():
            await asyncio.sleep(0)
        await asyncio.to_thread(pool.reconnect)
        while ears[0].losses == 0:
            await asyncio.sleep(0)
        await asyncio.to_thread(lambda: asyncio.run(pool.close()))
    assert (False, 1) == (pool.connected, pool.stats()["wanted"])
