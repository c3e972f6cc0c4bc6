"""The venue's stream: control frames, transactions, limits, and what becomes of clients that do not read."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from loguru import logger

from qubx_lighter.protocol import wire
from qubx_lighter.sim.api.server import Server, transaction_hash
from qubx_lighter.sim.app import Venue
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.model.commands import CreateAccount, CreateMarket
from tests.sim.caller import (
    ALICE,
    BOB,
    FEED,
    PATIENCE_S,
    Caller,
    calling,
    create_tx,
    orders,
    place,
    send_frame,
    token,
    trade,
)
from tests.sim.desk import ETH


async def test_a_ping_is_answered(caller: Caller) -> None:
    assert {"type": "pong"} == await caller.ask(type="ping")


async def test_unsubscribe_is_acknowledged_and_ends_the_updates(venue: Venue, caller: Caller) -> None:
    await caller.subscribe("trade/0")
    assert {"channel": "trade:0", "type": "unsubscribed"} == await caller.ask(type="unsubscribe", channel="trade/0")
    trade(venue)
    assert {"type": "pong"} == await caller.ask(type="ping")
    assert "subscribed/trade" == (await caller.subscribe("trade/0"))["type"]


async def test_errors_have_neither_type_nor_channel_nor_id(caller: Caller) -> None:
    await caller.subscribe("ticker/0")
    asked: list[tuple[dict[str, Any], int, str]] = [
        ({"type": "subscribe", "channel": "ticker/0"}, 30003, "ticker:0"),
        ({"type": "unsubscribe", "channel": "ticker/1"}, 30002, "ticker:1"),
        ({"type": "subscribe", "channel": "order_book/77"}, 30005, "order_book/77"),
        ({"type": "subscribe", "channel": "weather/0"}, 30005, "weather/0"),
        ({"type": "subscribe", "channel": "account_all/77"}, 30005, "account_all/77"),
        ({"type": "subscribe", "channel": "order_book"}, 30005, "order_book"),
        ({"type": "sing"}, 20001, "sing"),
    ]
    for frame, code, names in asked:
        answer = await caller.ask(**frame)
        assert ["error"] == list(answer)
        assert code == answer["error"]["code"]
        assert names in answer["error"]["message"]
    await caller.socket.send_str("no json")
    assert 20001 == (await caller.read())["error"]["code"]


@pytest.mark.parametrize("kind", ["account_all_orders", "account_tx"])
async def test_private_channels_insist_on_a_token(caller: Caller, kind: str) -> None:
    for auth, reason in (
        ({}, "no token"),
        ({"auth": token(ahead_s=-5)}, "expired token"),
        ({"auth": token(BOB)}, "token is of another account"),
    ):
        answer = await caller.subscribe(f"{kind}/{ALICE}", **auth)
        assert {"error": {"code": 20013, "message": f"invalid auth: {reason}: {kind}:{ALICE}"}} == answer
    assert f"subscribed/{kind}" == (await caller.subscribe(f"{kind}/{ALICE}", auth=token()))["type"]


@pytest.mark.parametrize("kind", ["account_all", "account_all_trades", "account_all_positions", "user_stats"])
async def test_other_account_channels_do_not(caller: Caller, kind: str) -> None:
    assert f"subscribed/{kind}" == (await caller.subscribe(f"{kind}/{ALICE}"))["type"]


async def test_frames_begin_with_the_channel_and_end_with_the_type(venue: Venue, caller: Caller) -> None:
    place(venue, "buy", 1_000, 299_000)
    channels = ("order_book/0", "ticker/0", "trade/0", f"user_stats/{ALICE}", f"account_all_positions/{ALICE}")
    for channel in channels:
        await caller.subscribe(channel)
        text = caller.texts[-1]
        key = channel.replace("/", ":")
        kind = key.partition(":")[0]
        assert text.startswith(f'{{"channel":"{key}",')
        assert text.endswith(f',"type":"subscribed/{kind}"}}')
        assert sorted(json.loads(text)) == list(json.loads(text))
        assert ": " not in text
        assert (f"subscribed/{kind}", key) == wire.route(text.encode())


async def test_too_many_messages_are_refused_but_not_transactions(venue: Venue, caller: Caller) -> None:
    for _ in range(200):
        await caller.write(type="ping")
    answers = [await caller.read() for _ in range(200)]
    assert [{"type": "pong"}] * 200 == answers
    assert 30009 == (await caller.ask(type="ping"))["error"]["code"]
    assert 200 == (await caller.ask(**send_frame(create_tx(venue, "buy", 1_000, 299_000))))["code"]


async def test_500_subscriptions_are_enough() -> None:
    engine = Engine()
    server = Server(engine)
    for index in range(170):
        server.execute(CreateAccount(index, f"0x{index}", 0))
    url = await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            codes = []
            async with session.ws_connect(url + "/stream") as socket:
                await socket.receive_str()
                connection = next(iter(server._connections))
                for index in range(167):
                    for kind in ("account_all", "account_all_trades", "user_stats"):
                        connection._heard.clear()  # a minute has passed
                        await socket.send_json({"type": "subscribe", "channel": f"{kind}/{index}"})
                        codes.append(json.loads(await socket.receive_str()).get("error", {}).get("code"))
        assert [None] * 500 + [23001] == codes
    finally:
        await server.close()


async def test_a_silent_client_is_asked_then_closed_on() -> None:
    server = Server(Engine(), idle_s=0.1)
    url = await server.start()
    try:
        async with aiohttp.ClientSession() as session, session.ws_connect(url + "/stream") as socket:
            assert "connected" == json.loads(await socket.receive_str(timeout=PATIENCE_S))["type"]
            assert {"type": "ping"} == json.loads(await socket.receive_str(timeout=PATIENCE_S))
            end = await socket.receive(timeout=PATIENCE_S)
            assert (aiohttp.WSMsgType.CLOSE, 1008, "no pong") == (end.type, end.data, end.extra)
    finally:
        await server.close()


async def test_a_client_that_answers_stays() -> None:
    server = Server(Engine(), idle_s=0.1)
    url = await server.start()
    try:
        async with aiohttp.ClientSession() as session, session.ws_connect(url + "/stream") as socket:
            await socket.receive_str(timeout=PATIENCE_S)
            for _ in range(4):  # twice as long as a silent one lives
                assert {"type": "ping"} == json.loads(await socket.receive_str(timeout=PATIENCE_S))
                await socket.send_str('{"type":"pong"}')
    finally:
        await server.close()


async def test_a_planned_end_is_announced() -> None:
    server = Server(Engine())
    url = await server.start()
    async with aiohttp.ClientSession() as session, session.ws_connect(url + "/stream") as socket:
        await socket.receive_str(timeout=PATIENCE_S)
        closing = asyncio.create_task(server.close())
        assert "shutdown" == json.loads(await socket.receive_str(timeout=PATIENCE_S))["type"]
        assert aiohttp.WSMsgType.CLOSE == (await socket.receive(timeout=PATIENCE_S)).type
        await closing
    await server.close()


async def test_dropped_connections_end_without_a_word(venue: Venue, caller: Caller) -> None:
    await caller.subscribe("order_book/0")
    venue.server.drop_connections()
    end = await caller.socket.receive(timeout=PATIENCE_S)
    assert end.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
    async with calling(venue) as again:
        assert "subscribed/order_book" == (await again.subscribe("order_book/0"))["type"]
        assert 1 == venue.server.connections


async def test_a_client_that_does_not_read_is_cut_off_once(
    monkeypatch: pytest.MonkeyPatch, venue: Venue, caller: Caller
) -> None:
    monkeypatch.setattr("qubx_lighter.sim.api.stream._MOST_WAITING", 10)
    warnings: list[str] = []
    sink = logger.add(warnings.append, level="WARNING")
    await caller.subscribe("trade/0")
    for _ in range(15):  # without a pause: nothing can leave
        trade(venue)
    logger.remove(sink)
    while (await caller.socket.receive(timeout=PATIENCE_S)).type == aiohttp.WSMsgType.TEXT:
        pass
    assert caller.socket.closed
    assert 1 == len(warnings)


async def test_who_sends_in_turn_waits_for_room(venue: Venue, caller: Caller) -> None:
    connection = next(iter(venue.server._connections))
    most = 0
    texts = [f'{{"number":{number}}}' for number in range(300)]
    for text in texts:
        await connection.send_in_turn(text)
        most = max(most, len(connection._waiting))
    assert most <= 64
    assert texts == [await caller.socket.receive_str(timeout=PATIENCE_S) for _ in texts]


async def test_replies_carry_the_id_of_their_request(venue: Venue, caller: Caller) -> None:
    first = create_tx(venue, "buy", 1_000, 299_000)
    frame = await caller.ask(**send_frame(first, "one"))
    assert ["code", "id", "predicted_execution_time_ms", "tx_hash", "type"] == list(frame)
    assert ("one", "jsonapi/sendtx") == (frame["id"], frame["type"])
    assert transaction_hash(14, first) == frame["tx_hash"]
    refused = await caller.ask(**send_frame(first, "two"))
    assert {"id": "two", "error": {"code": 21104, "message": "invalid nonce"}} == refused
    reply = wire.decode(wire.TxReply, caller.texts[-1])
    assert reply.error is not None
    assert 21104 == reply.error.code


async def test_the_transaction_may_come_as_text(venue: Venue, caller: Caller) -> None:
    tx_info = create_tx(venue, "buy", 1_000, 299_000)
    data = {"id": 5, "tx_type": 14, "tx_info": tx_info}
    reply = await caller.ask(type="jsonapi/sendtx", data=data)
    assert (200, 5) == (reply["code"], reply["id"])
    assert 1 == len(orders(venue))


async def test_a_transaction_without_its_parts_is_an_error(caller: Caller) -> None:
    assert 20001 == (await caller.ask(type="jsonapi/sendtx", data={"id": "x"}))["error"]["code"]
    assert 20001 == (await caller.ask(type="jsonapi/sendtx"))["error"]["code"]
    data = {"id": "x", "tx_type": 999, "tx_info": {}}
    assert 20001 == (await caller.ask(type="jsonapi/sendtx", data=data))["error"]["code"]


@pytest.mark.parametrize("as_text", [True, False])
async def test_a_batch_is_one_request_with_one_answer(venue: Venue, caller: Caller, as_text: bool) -> None:
    infos = [create_tx(venue, "buy", 1_000, 299_000 - n, Nonce=n) for n in range(3)]
    data: dict[str, Any] = {"id": "b", "tx_types": [14] * 3, "tx_infos": infos}
    if as_text:
        data |= {"tx_types": json.dumps(data["tx_types"]), "tx_infos": json.dumps(infos)}
    reply = await caller.ask(type="jsonapi/sendtxbatch", data=data)
    assert (200, "b", "jsonapi/sendtxbatch") == (reply["code"], reply["id"], reply["type"])
    assert [transaction_hash(14, info) for info in infos] == reply["tx_hash"]
    assert 3 == len(orders(venue))
    refused = await caller.ask(type="jsonapi/sendtxbatch", data=data | {"id": "c"})
    assert {"id": "c", "error": {"code": 21104, "message": "invalid nonce"}} == refused


async def test_a_batch_on_the_socket_has_at_most_15(venue: Venue, caller: Caller) -> None:
    infos = [create_tx(venue, "buy", 1_000, 299_000 - n, Nonce=n) for n in range(16)]
    data = {"id": "b", "tx_types": [14] * 16, "tx_infos": infos}
    assert 21514 == (await caller.ask(type="jsonapi/sendtxbatch", data=data))["error"]["code"]
    data = {"id": "b", "tx_types": [14] * 15, "tx_infos": infos[:15]}
    assert 200 == (await caller.ask(type="jsonapi/sendtxbatch", data=data))["code"]
    for broken in ({}, {"tx_types": "[999]", "tx_infos": "[]"}, {"tx_types": [14], "tx_infos": "x"}):
        assert 20001 == (await caller.ask(type="jsonapi/sendtxbatch", data=broken))["error"]["code"]
    data = {"id": "b", "tx_types": [14], "tx_infos": []}
    assert 20001 == (await caller.ask(type="jsonapi/sendtxbatch", data=data))["error"]["code"]


def test_the_hash_is_the_same_however_the_json_is_spelled() -> None:
    one, other = transaction_hash(14, '{"a":1,"b":[2]}'), transaction_hash(14, '{ "b": [2], "a": 1 }')
    assert one == other
    assert 80 == len(one)
    assert one != transaction_hash(15, '{"a":1,"b":[2]}')
    assert 80 == len(transaction_hash(14, "no json"))


async def test_an_order_expires_though_nothing_happens() -> None:
    now = [1_795_000_000_000_000]
    server = Server(Engine(), now=lambda: now[0])
    server.execute(CreateMarket(ETH))
    server.execute(CreateAccount(FEED, "0xfeed", 10**15))
    url = await server.start()
    try:
        async with aiohttp.ClientSession() as session, session.ws_connect(url + "/stream") as socket:
            await socket.receive_str(timeout=PATIENCE_S)
            await socket.send_json({"type": "subscribe", "channel": "order_book/0"})
            await socket.receive_str(timeout=PATIENCE_S)
            venue = Venue(url, server, None)
            place(venue, "buy", 1_000, 299_000, order_expiry_ms=now[0] // 1000 + 600_000)
            assert '"size":"0.1000"' in await socket.receive_str(timeout=PATIENCE_S)
            now[0] += 601 * 10**6
            assert '"size":"0.0000"' in await socket.receive_str(timeout=PATIENCE_S)
    finally:
        await server.close()
