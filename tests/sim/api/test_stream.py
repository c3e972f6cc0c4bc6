"""The venue's stream: control frames, snapshots and deltas, accounts, transactions, limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import aiohttp
import pytest
from loguru import logger

from qubx_lighter.constants import TxType
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.book import OrderBook, Outcome
from qubx_lighter.protocol.units import Scale
from qubx_lighter.sim.api.server import Server, transaction_hash
from qubx_lighter.sim.app import Venue
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.model.commands import CancelAll, CancelOrder, CreateAccount, CreateMarket, Deposit
from tests.sim.caller import (
    ALICE,
    BOB,
    FEED,
    PATIENCE_S,
    Caller,
    calling,
    cancel_tx,
    create_tx,
    orders,
    place,
    quiet_venue,
    send_frame,
    token,
)
from tests.sim.desk import ETH

ETH_SCALE = Scale(2, 4)


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    async with quiet_venue() as venue:
        yield venue


@pytest.fixture
async def caller(venue: Venue) -> AsyncIterator[Caller]:
    async with calling(venue) as caller:
        yield caller


# --- control ----------------------------------------------------------------------------------------------------------


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


# --- books ------------------------------------------------------------------------------------------------------------


async def test_a_book_begins_with_its_full_depth(venue: Venue, caller: Caller) -> None:
    for step in range(300):
        place(venue, "sell", 600, 300_001 + step)
        place(venue, "buy", 600, 300_000 - step)
    frame = await caller.subscribe("order_book/0")
    payload = frame["order_book"]
    assert (300, 300, 0) == (len(payload["asks"]), len(payload["bids"]), payload["begin_nonce"])
    assert {"price": "3000.01", "size": "0.0600"} == payload["asks"][0]
    assert {"price": "3000.00", "size": "0.0600"} == payload["bids"][0]
    assert venue.engine.book_nonce == payload["nonce"]


async def test_an_empty_book_has_a_snapshot_too(venue: Venue, caller: Caller) -> None:
    payload = (await caller.subscribe("order_book/1"))["order_book"]
    assert ([], []) == (payload["asks"], payload["bids"])
    place(venue, "buy", 1_000, 999_000, market_id=1)
    update = (await caller.read_until("update/order_book"))["order_book"]
    assert payload["nonce"] == update["begin_nonce"]
    assert [{"price": "99900.0", "size": "0.01000"}] == update["bids"]


async def test_changes_of_50_ms_leave_in_one_frame(venue: Venue, caller: Caller) -> None:
    snapshot = (await caller.subscribe("order_book/0"))["order_book"]
    index = place(venue, "buy", 1_000, 299_000)
    place(venue, "buy", 500, 299_000)
    place(venue, "sell", 700, 300_000)
    venue.server.execute(CancelOrder(FEED, 0, index))
    update = (await caller.read())["order_book"]
    assert [{"price": "2990.00", "size": "0.0500"}] == update["bids"]
    assert [{"price": "3000.00", "size": "0.0700"}] == update["asks"]
    assert (snapshot["nonce"], venue.engine.book_nonce) == (update["begin_nonce"], update["nonce"])


async def test_the_chain_of_deltas_rebuilds_the_engines_books(venue: Venue, caller: Caller) -> None:
    """Both books, changed at random; a second client comes in the middle of a batch."""
    seed = 7
    print(f"seed {seed}")
    random = Random(seed)
    books = {0: OrderBook(ETH_SCALE), 1: OrderBook(Scale(1, 5))}
    late = OrderBook(ETH_SCALE)
    for market_id, book in books.items():
        snapshot = await caller.subscribe(f"order_book/{market_id}")
        assert Outcome.APPLIED == book.snapshot(payload_of(snapshot))
    async with calling(venue) as other:
        for step in range(400):
            churn(venue, random)
            if step == 150:
                assert Outcome.APPLIED == late.snapshot(payload_of(await other.subscribe("order_book/0")))
            if step % 20 == 0:
                await asyncio.sleep(0)  # the server reads what clients wrote, in the middle of a batch
        for market_id, book in books.items():
            while levels_of(venue, market_id) != book.levels(10_000):
                frame = await caller.read_until("update/order_book")
                number = int(frame["channel"].partition(":")[2])
                assert Outcome.APPLIED == books[number].apply(payload_of(frame))
        while levels_of(venue, 0) != late.levels(10_000):
            assert Outcome.APPLIED == late.apply(payload_of(await other.read_until("update/order_book")))


def churn(venue: Venue, random: Random) -> None:
    """Change the books in some way."""
    market_id, middle = random.choice(((0, 300_000), (1, 1_000_000)))
    if random.random() < 0.01:
        venue.server.execute(CancelAll(FEED))
        return
    resting = list(venue.engine.book(market_id).orders(random.random() < 0.5))
    if resting and random.random() < 0.4:
        venue.server.execute(CancelOrder(FEED, market_id, random.choice(resting).order_index))
        return
    side, price = random.choice(("buy", "sell")), middle + random.randint(-200, 200)
    place(venue, side, random.randint(300, 5_000), price, random.choice((FEED, BOB)), market_id=market_id)


def payload_of(frame: dict[str, Any]) -> wire.BookPayload:
    return wire.decode(wire.BookFrame, json.dumps(frame).encode()).order_book


def levels_of(venue: Venue, market_id: int) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    book, spec = venue.engine.book(market_id), venue.engine.markets[market_id]
    scale = Scale(spec.price_decimals, spec.size_decimals)
    bids, asks = ([(price, scale.size(lots)) for price, lots in book.levels(side)] for side in (False, True))
    return bids, asks


async def test_the_ticker_follows_every_change_of_the_touch(venue: Venue, caller: Caller) -> None:
    frame = await caller.subscribe("ticker/0")
    assert ("ETH", {"price": "", "size": ""}) == (frame["ticker"]["s"], frame["ticker"]["b"])
    place(venue, "buy", 1_000, 299_000)
    place(venue, "buy", 1_000, 298_000)  # behind the touch: not told
    place(venue, "buy", 2_000, 299_000)
    place(venue, "sell", 700, 300_000)
    seen = []
    for _ in range(3):
        ticker = wire.decode(wire.TickerFrame, json.dumps(await caller.read()).encode())
        seen.append((ticker.ticker.b.price, ticker.ticker.b.size, ticker.ticker.a.price))
        assert ticker.nonce
    assert [("2990.00", "0.1000", ""), ("2990.00", "0.3000", ""), ("2990.00", "0.3000", "3000.00")] == seen


# --- trades -----------------------------------------------------------------------------------------------------------


def trade(venue: Venue, price: int = 300_000, buyer: int = ALICE, seller: int = FEED) -> None:
    """Let the buyer take."""
    place(venue, "sell", 500, price, seller)
    place(venue, "buy", 500, price, buyer)


async def test_trades_begin_with_the_last_50_newest_first(venue: Venue, caller: Caller) -> None:
    for step in range(60):
        trade(venue, 300_000 + step)
    frame = wire.decode(wire.TradeFrame, json.dumps(await caller.subscribe("trade/0")).encode())
    rows = frame.trades or []
    assert [3000.59, 3000.10] == [rows[0].price, rows[-1].price]
    assert 50 == len(rows)
    trade(venue, 301_000)
    update = await caller.read()
    assert "update/trade" == update["type"]
    assert ["3010.00"] == [row["price"] for row in update["trades"]]
    assert update["liquidation_trades"] is None


async def test_the_trades_of_one_order_come_together_newest_first(venue: Venue, caller: Caller) -> None:
    await caller.subscribe("trade/0")
    for step in range(3):
        place(venue, "sell", 500, 300_000 + step)
    place(venue, "buy", 1_500, 300_002, ALICE)
    rows = (await caller.read())["trades"]
    assert ["3000.02", "3000.01", "3000.00"] == [row["price"] for row in rows]
    assert [True] * 3 == [row["is_maker_ask"] for row in rows]


# --- accounts ---------------------------------------------------------------------------------------------------------

CHANNELS = (
    "account_all_orders",
    "account_all",
    "account_all_trades",
    "user_stats",
    "account_all_positions",
    "account_tx",
)


async def test_an_order_that_takes_is_told_in_the_venues_order(venue: Venue, caller: Caller) -> None:
    for kind in CHANNELS:
        await caller.subscribe(f"{kind}/{ALICE}", auth=token())
    place(venue, "sell", 500, 300_000)
    place(venue, "sell", 500, 300_001)
    tx_info = create_tx(venue, "buy", 1_000, 300_001, ClientOrderIndex=9)
    await caller.write(**send_frame(tx_info))
    frames = [await caller.read() for _ in range(8)]
    reply, *news = frames
    assert (200, "r1") == (reply["code"], reply["id"])
    assert [
        "update/account_all_orders",
        "update/account_all",
        "update/account_all_trades",
        "update/user_stats",
        "update/account_all",
        "update/account_all_positions",
        "update/account_tx",
    ] == [frame["type"] for frame in news]
    by_type = {frame["type"]: json.dumps(frame).encode() for frame in news}
    (order,) = (wire.decode(wire.AccountOrdersFrame, by_type["update/account_all_orders"]).orders or {})["0"]
    assert (9, "filled", 0.1, 300.0005) == (
        order.client_order_index,
        order.status,
        order.filled_base_amount,
        order.filled_quote_amount,
    )
    trades = wire.decode(wire.AccountTradesFrame, by_type["update/account_all_trades"]).trades
    assert isinstance(trades, dict)
    assert [(3000.01, 200), (3000.0, 200)] == [(row.price, row.taker_fee) for row in trades["0"]]
    stats = wire.decode(wire.UserStatsFrame, by_type["update/user_stats"]).stats
    assert 10_000 - 300.0005 * 0.0002 == pytest.approx(stats.collateral, abs=2e-6)
    positions = wire.decode(wire.AccountPositionsFrame, by_type["update/account_all_positions"]).positions or {}
    assert (1, 0.1) == (positions["0"].sign, positions["0"].position)
    (tx,) = wire.decode(wire.AccountTxFrame, by_type["update/account_tx"]).txs or []
    assert (reply["tx_hash"], 14, 2) == (tx.hash, tx.type, tx.status)
    assert json.loads(tx_info) == json.loads(tx.info)


async def test_a_maker_hears_of_the_fill_of_its_order(venue: Venue, caller: Caller) -> None:
    index = place(venue, "buy", 1_000, 300_000, ALICE)
    for kind in ("account_all_orders", "account_all_trades"):
        await caller.subscribe(f"{kind}/{ALICE}", auth=token())
    place(venue, "sell", 400, 300_000)
    orders_frame, trades_frame = await caller.read(), await caller.read()
    (row,) = orders_frame["orders"]["0"]
    assert (index, "open", "0.0600", "0.0400") == (
        row["order_index"],
        row["status"],
        row["remaining_base_amount"],
        row["filled_base_amount"],
    )
    (fill,) = trades_frame["trades"]["0"]
    assert (ALICE, index, 20, False) == (
        fill["bid_account_id"],
        fill["bid_id"],
        fill["maker_fee"],
        fill["is_maker_ask"],
    )


async def test_snapshots_of_an_account(venue: Venue, caller: Caller) -> None:
    trade(venue)
    resting = place(venue, "buy", 1_000, 299_000, ALICE)
    over = place(venue, "buy", 1_000, 299_000, ALICE)
    venue.server.submit(TxType.CANCEL_ORDER, cancel_tx(venue, over))
    frames = {kind: await caller.subscribe(f"{kind}/{ALICE}", auth=token()) for kind in CHANNELS}
    assert [resting] == [row["order_index"] for row in frames["account_all_orders"]["orders"]["0"]]
    assert ["3000.00"] == [row["price"] for row in frames["account_all_trades"]["trades"]["0"]]
    assert 150.0 == frames["account_all_trades"]["total_volume"]
    assert {"channel": f"account_tx:{ALICE}", "type": "subscribed/account_tx"} == frames["account_tx"]
    positions = frames["account_all_positions"]["positions"]
    assert positions == frames["account_all"]["positions"]
    assert ("0.0500", 1) == (positions["0"]["position"], positions["0"]["open_order_count"])
    assert (ALICE, {}, 1) == (
        frames["account_all"]["account"],
        frames["account_all"]["trades"],
        frames["account_all"]["daily_trades_count"],
    )
    assert "9999.970000" == frames["user_stats"]["stats"]["collateral"]


async def test_an_account_hears_nothing_of_others(venue: Venue, caller: Caller) -> None:
    for kind in CHANNELS:
        await caller.subscribe(f"{kind}/{ALICE}", auth=token())
    trade(venue, buyer=BOB)
    assert {"type": "pong"} == await caller.ask(type="ping")


async def test_a_deposit_changes_the_figures_alone(venue: Venue, caller: Caller) -> None:
    for kind in CHANNELS:
        await caller.subscribe(f"{kind}/{ALICE}", auth=token())
    venue.server.execute(Deposit(ALICE, 5_000_000))
    assert "10005.000000" == (await caller.read())["stats"]["collateral"]
    assert {"type": "pong"} == await caller.ask(type="ping")


async def test_the_figures_follow_the_mark_price(venue: Venue, caller: Caller) -> None:
    trade(venue)
    await caller.subscribe(f"user_stats/{ALICE}")
    place(venue, "buy", 500, 301_000)  # the mark price moves into the touch
    venue.server.channels.refresh_stats()
    assert "10000.470000" == (await caller.read())["stats"]["portfolio_value"]
    venue.server.channels.refresh_stats()
    assert {"type": "pong"} == await caller.ask(type="ping")


# --- transactions -----------------------------------------------------------------------------------------------------


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


# --- time -------------------------------------------------------------------------------------------------------------


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
