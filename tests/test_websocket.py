"""Lighter's dialect on real and documented frames, and its connection against a small venue of the test's own."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from qubx_lighter.errors import NotSentError, OutcomeUnknownError, WireError
from qubx_lighter.protocol.messages import Incoming, Kind, Remedy
from qubx_lighter.protocol.pace import BackoffSettings
from qubx_lighter.websocket import LighterDialect, LighterWebSocketManager, address_pace, session_settings
from tests.serving import serving

PATIENCE_S = 5.0

# --- the dialect -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('{"type":"connected","session_id":"abc"}', Incoming(Kind.WELCOME)),
        ('{"channel":"order_book:0","order_book":{},"type":"update/order_book"}', Incoming(Kind.UPDATE, "order_book:0")),
        ('{"type":"update/order_book","channel":"order_book:0"}', Incoming(Kind.UPDATE, "order_book:0")),
        ('{"channel":"trade:1","trades":[],"type":"subscribed/trade"}', Incoming(Kind.SUBSCRIBED, "trade:1")),
        ('{"account":5,"channel":"account_all:5","type":"subscribed/account_all"}', Incoming(Kind.SUBSCRIBED, "account_all:5")),
        ('{"channel":"candle:0:1m","candles":[],"type":"update/candle"}', Incoming(Kind.UPDATE, "candle:0:1m")),
        ('{"channel":"account_market/1/5","type":"update/account_market"}', Incoming(Kind.UPDATE, "account_market:1:5")),
        ('{"channel":"order_book:0","type":"unsubscribed"}', Incoming(Kind.UNSUBSCRIBED, "order_book:0")),
        ('{"type":"unsubscribed","channel":"order_book:0"}', Incoming(Kind.UNSUBSCRIBED, "order_book:0")),
        ('{"type":"ping"}', Incoming(Kind.PING)),
        ('{"type":"pong"}', Incoming(Kind.PONG)),
        ('{"type":"shutdown","close_in_ms":5000}', Incoming(Kind.SHUTDOWN)),
        ('{"code":200,"id":"7","tx_hash":"ab","type":"jsonapi/sendtx"}', Incoming(Kind.REPLY, request_id="7")),
        ('{"id":7,"error":{"code":21104,"message":"invalid nonce"}}', Incoming(Kind.REPLY, request_id="7")),
        ('{"type":"news"}', Incoming(Kind.OTHER)),
        ("{}", Incoming(Kind.OTHER)),
    ],
)  # fmt: skip
def test_each_documented_frame_is_told_apart(raw: str, expected: Incoming) -> None:
    assert expected == LighterDialect().classify(raw.encode())


@pytest.mark.parametrize(
    ("code", "message", "channel", "remedy"),
    [
        (30003, "Already Subscribed to order_book/0", "order_book:0", Remedy.UNSUBSCRIBE_FIRST),
        (30003, "Already Subscribed", "", Remedy.UNSUBSCRIBE_FIRST),
        (30002, "Not Subscribed: order_book:12", "order_book:12", Remedy.ALREADY_GONE),
        (30005, "Invalid Channel: (bok/1)", "bok:1", Remedy.GIVE_UP),
        (20013, "invalid auth: expired token: account_all_orders:225671", "account_all_orders:225671", Remedy.NEW_TOKEN),
        (30009, "Too Many Websocket Messages!", "", Remedy.SLOW_DOWN),
        (30010, "Too Many Inflight Messages!", "", Remedy.SLOW_DOWN),
        (23000, "Too Many Requests!", "", Remedy.SLOW_DOWN),
        (23001, "Too Many Subscriptions! trade/7", "trade:7", Remedy.NO_ROOM),
        (23002, "Too Many Different Accounts!", "", Remedy.NO_ROOM),
        (23003, "Too Many Connections!", "", Remedy.TOO_MANY_CONNECTIONS),
        (23004, "Too Many L2 Withdrawal Requests!", "", Remedy.SLOW_DOWN),
        (30000, "Invalid Json", "", Remedy.NONE),
        (30001, "Invalid Type", "", Remedy.NONE),
        (30004, "Failed to fetch order_book/0", "order_book:0", Remedy.NONE),
        (30006, "Operation isn't supported ", "", Remedy.NONE),
        (30007, "Invalid Data", "", Remedy.NONE),
        (30008, "Invalid account type", "", Remedy.NONE),
        (30011, "Failed to connect", "", Remedy.NONE),
        (30012, "Failed to subscribe account_tx/5", "account_tx:5", Remedy.NONE),
        (61005, "api token not found or does not belong to this account", "", Remedy.NEW_TOKEN),
        (61006, "api token has already been revoked", "", Remedy.NEW_TOKEN),
        (29999, "what", "", Remedy.NONE),
    ],
)  # fmt: skip
def test_each_error_is_given_its_remedy(code: int, message: str, channel: str, remedy: Remedy) -> None:
    raw = json.dumps({"error": {"code": code, "message": message}}).encode()
    assert Incoming(Kind.ERROR, channel, "", code, message, remedy) == LighterDialect().classify(raw)


@pytest.mark.parametrize(
    "raw", [b"", b"hello", b"[1]", b'{"channel":"', b'{"channel":"}', b"\xff", b'{"channel":"a","type":7}']
)
def test_what_cannot_be_read_is_a_wire_error(raw: bytes) -> None:
    with pytest.raises(WireError):
        LighterDialect().classify(raw)


def test_frames_are_written_as_the_venue_reads_them() -> None:
    dialect = LighterDialect()
    key = dialect.key("candle/0/1m")
    assert "candle:0:1m" == key
    assert {"type": "subscribe", "channel": "candle/0/1m"} == json.loads(dialect.subscribe(key, None))
    private = {"type": "subscribe", "channel": "account_tx/5", "auth": "t"}
    assert private == json.loads(dialect.subscribe("account_tx:5", "t"))
    assert {"type": "unsubscribe", "channel": "candle/0/1m"} == json.loads(dialect.unsubscribe(key))
    assert ({"type": "ping"}, {"type": "pong"}) == (json.loads(dialect.ping()), json.loads(dialect.pong()))


def test_every_captured_frame_is_told_apart(wire_dir: Path) -> None:
    kinds: Counter[tuple[str, Kind]] = Counter()
    dialect = LighterDialect()
    for name in ("order_book_0_eth.jsonl.gz", "trade_0_eth.jsonl.gz"):
        with gzip.open(wire_dir / name) as lines:
            for line in lines:
                incoming = dialect.classify(line.strip())
                kinds[incoming.channel, incoming.kind] += 1
    assert {"order_book:0", "trade:0"} == {channel for channel, _ in kinds}
    assert {Kind.SUBSCRIBED, Kind.UPDATE} == {kind for _, kind in kinds}


def test_the_sockets_of_a_host_share_one_pace_within_the_venues_limits() -> None:
    pace = address_pace("wss://a.invalid/stream")
    limits = pace.limits
    assert (190, 60, 35) == (limits.messages, limits.period_s, limits.in_flight)
    assert pace is address_pace("wss://a.invalid/other")
    assert pace is not address_pace("wss://b.invalid/stream")


def test_a_pace_is_forgotten_with_the_last_socket_of_its_host() -> None:
    address_pace("wss://c.invalid/").slow_down(inf)
    gc.collect()
    pace = address_pace("wss://c.invalid/")
    assert -inf == pace.join().free_at()


def test_the_settings_of_a_session_are_the_venues_habits() -> None:
    settings = session_settings(silence_s=5)
    assert (30, 5, 6 * 3600) == (settings.ping_interval_s, settings.silence_s, settings.auth_renewal_s)


# --- the connection ----------------------------------------------------------------------------------------------------


class LighterVenue:
    """A small Lighter: subscriptions with their errors, tokens, transactions."""

    def __init__(self) -> None:
        self.url = ""
        self.frames: list[dict[str, Any]] = []
        self.subscribed: set[str] = set()
        self.valid_tokens: set[str] | None = None
        self.reply: Callable[[dict[str, Any]], str | None] = self.accept
        self.sockets: list[web.WebSocketResponse] = []
        self._changed = asyncio.Event()

    @staticmethod
    def accept(data: dict[str, Any]) -> str | None:
        return json.dumps({"code": 200, "id": data["id"], "tx_hash": "hash" + data["id"], "type": "jsonapi/sendtx"})

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        self.subscribed.clear()
        await socket.send_json({"type": "connected", "session_id": "s"})
        async for message in socket:
            frame = json.loads(message.data)
            self.frames.append(frame)
            for answer in self.answers(frame):
                await socket.send_str(answer)
        return socket

    def answers(self, frame: dict[str, Any]) -> list[str]:
        channel = frame.get("channel", "").replace("/", ":")
        kind = channel.split(":")[0]
        match frame["type"]:
            case "subscribe" if self.valid_tokens is not None and frame.get("auth") not in self.valid_tokens:
                return [_refusal(20013, f"invalid auth: expired token: {channel}")]
            case "subscribe" if channel in self.subscribed:
                return [_refusal(30003, f"Already Subscribed to {frame['channel']}")]
            case "subscribe":
                self.subscribed.add(channel)
                return [json.dumps({"channel": channel, "type": f"subscribed/{kind}"}, separators=(",", ":"))]
            case "unsubscribe" if channel not in self.subscribed:
                return [_refusal(30002, f"Not Subscribed to {frame['channel']}")]
            case "unsubscribe":
                self.subscribed.discard(channel)
                return [json.dumps({"type": "unsubscribed", "channel": channel})]
            case "ping":
                return ['{"type":"pong"}']
            case "jsonapi/sendtx":
                answer = self.reply(frame["data"])
                return [] if answer is None else [answer]
        raise AssertionError(frame)


def _refusal(code: int, message: str) -> str:
    return json.dumps({"error": {"code": code, "message": message}})


@pytest.fixture
async def venue() -> AsyncIterator[LighterVenue]:
    lighter = LighterVenue()
    async with serving(lighter.handle, "/stream") as lighter.url:
        yield lighter


@pytest.fixture
async def socket(venue: LighterVenue) -> AsyncIterator[LighterWebSocketManager]:
    minted = iter(range(1, 1000))

    async def token() -> str:
        return f"token{next(minted)}"

    manager = LighterWebSocketManager(venue.url, token=token, backoff=BackoffSettings(initial_s=0.01))
    manager.start()
    await manager.wait_connected(PATIENCE_S)
    yield manager
    await manager.close()


class Heard:
    """A handler that can be waited for."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self._event = asyncio.Event()

    def __call__(self, kind: str, raw: bytes) -> None:
        del raw
        self.kinds.append(kind)
        self._event.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.kinds) < count:
                self._event.clear()
                await self._event.wait()


async def test_public_and_private_channels_are_subscribed(venue: LighterVenue, socket: LighterWebSocketManager) -> None:
    heard = Heard()
    socket.subscribe("order_book/0", heard)
    socket.subscribe("account_all_orders/5", heard, auth=True)
    await heard.until(2)
    assert (True, True) == (socket.subscribed("order_book/0"), socket.subscribed("account_all_orders:5"))
    assert [None, "token1"] == [frame.get("auth") for frame in venue.frames]


async def test_a_refused_token_is_minted_anew(venue: LighterVenue, socket: LighterWebSocketManager) -> None:
    venue.valid_tokens = {"token2"}
    heard = Heard()
    socket.subscribe("account_tx/5", heard, auth=True)
    await heard.until(1)
    assert ["token1", "token2"] == [frame["auth"] for frame in venue.frames]


async def test_a_token_that_ends_while_subscribed_renews_the_channel(
    venue: LighterVenue, socket: LighterWebSocketManager
) -> None:
    heard = Heard()
    socket.subscribe("account_tx/5", heard, auth=True)
    await heard.until(1)
    await venue.sockets[0].send_str(_refusal(20013, "invalid auth: expired token: account_tx:5"))
    await heard.until(2)
    assert ["subscribe", "unsubscribe", "subscribe"] == [frame["type"] for frame in venue.frames]
    assert "token2" == venue.frames[-1]["auth"]


async def test_already_subscribed_ends_in_a_fresh_snapshot(
    venue: LighterVenue, socket: LighterWebSocketManager
) -> None:
    venue.subscribed.add("order_book:0")
    heard = Heard()
    socket.subscribe("order_book/0", heard)
    await heard.until(1)
    assert ["subscribe", "unsubscribe", "subscribe"] == [frame["type"] for frame in venue.frames]


async def test_not_subscribed_is_as_good_as_unsubscribed(venue: LighterVenue, socket: LighterWebSocketManager) -> None:
    heard = Heard()
    socket.subscribe("order_book/0", heard)
    await heard.until(1)
    venue.subscribed.clear()
    socket.resubscribe("order_book/0")
    await heard.until(2)
    assert True is socket.subscribed("order_book/0")


async def test_a_transaction_goes_out_as_it_was_signed_and_finds_its_reply(
    venue: LighterVenue, socket: LighterWebSocketManager
) -> None:
    reply = await socket.send_transaction("r1", 14, '{"Nonce":7,"Sig":"x=="}', PATIENCE_S)
    assert (200, "hashr1", None) == (reply.code, reply.tx_hash, reply.error)
    data = {"id": "r1", "tx_type": 14, "tx_info": {"Nonce": 7, "Sig": "x=="}}
    assert [{"type": "jsonapi/sendtx", "data": data}] == venue.frames


async def test_a_refused_transaction_is_an_answer(venue: LighterVenue, socket: LighterWebSocketManager) -> None:
    venue.reply = lambda data: json.dumps({"id": data["id"], "error": {"code": 21104, "message": "invalid nonce"}})
    reply = await socket.send_transaction("r1", 14, "{}", PATIENCE_S)
    assert reply.error is not None
    assert (21104, "invalid nonce") == (reply.error.code, reply.error.message)


async def test_a_transaction_whose_answer_cannot_be_read_is_unknown(
    venue: LighterVenue, socket: LighterWebSocketManager
) -> None:
    venue.reply = lambda data: json.dumps({"id": data["id"], "code": {}})
    with pytest.raises(OutcomeUnknownError, match="r1 cannot be read"):
        await socket.send_transaction("r1", 14, "{}", PATIENCE_S)


async def test_a_transaction_that_is_never_answered_is_unknown_and_one_without_a_socket_not_sent(
    venue: LighterVenue, socket: LighterWebSocketManager
) -> None:
    venue.reply = lambda data: None
    with pytest.raises(OutcomeUnknownError):
        await socket.send_transaction("r1", 14, "{}", 0.01)
    await socket.close()
    with pytest.raises(NotSentError):
        await socket.send_transaction("r2", 14, "{}", PATIENCE_S)


async def test_no_token_is_ever_logged(
    venue: LighterVenue, socket: LighterWebSocketManager, capfd: pytest.CaptureFixture[str]
) -> None:
    venue.valid_tokens = {"token4"}
    heard = Heard()
    socket.subscribe("account_tx/5", heard, auth=True)
    while len(venue.frames) < 3:
        await asyncio.sleep(0)
    await socket.close()
    captured = capfd.readouterr()
    assert "token1" not in captured.out + captured.err
    assert "token3" not in captured.out + captured.err
