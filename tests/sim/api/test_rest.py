"""The venue's REST interface: bodies, pages, tokens, refusals."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from qubx_lighter.constants import TxType
from qubx_lighter.protocol import wire
from qubx_lighter.sim.app import Venue
from tests.sim.caller import (
    ALICE,
    BOB,
    KEY,
    Caller,
    cancel_tx,
    create_tx,
    orders,
    place,
    token,
)

V1 = "/api/v1/"


def read[T](kind: type[T], body: dict[str, Any]) -> T:
    return wire.decode(kind, msgspec.json.encode(body))


async def test_status_names_the_chain(caller: Caller) -> None:
    body = await caller.body("/")
    assert (200, 304) == (body["status"], body["network_id"])


async def test_order_book_details_hold_the_rules(caller: Caller) -> None:
    body = await caller.body(V1 + "orderBookDetails", filter="all")
    details = read(wire.OrderBookDetailsBody, body).order_book_details or []
    assert [
        ("ETH", 0, 4, 2, "0.0050", "10.000000", "0.0200", "0.0020"),
        ("BTC", 1, 5, 1, "0.00020", "10.000000", "0.0200", "0.0020"),
    ] == [
        (
            row.symbol,
            row.market_id,
            row.supported_size_decimals,
            row.supported_price_decimals,
            row.min_base_amount,
            row.min_quote_amount,
            row.taker_fee,
            row.maker_fee,
        )
        for row in details
    ]
    assert 500 == details[0].default_initial_margin_fraction


@pytest.mark.parametrize("path", ["orderBooks", "orderBookDetails"])
async def test_markets_can_be_asked_for_one_by_one(caller: Caller, path: str) -> None:
    key = "order_books" if path == "orderBooks" else "order_book_details"
    assert ["BTC"] == [row["symbol"] for row in (await caller.body(V1 + path, market_id=1))[key]]
    assert 2 == len((await caller.body(V1 + path, market_id=255))[key])
    assert [] == (await caller.body(V1 + path, filter="spot"))[key]
    assert (400, {"code": 21602, "message": "invalid market index"}) == await caller.get(V1 + path, market_id=9)


async def test_daily_figures_and_open_interest(venue: Venue, caller: Caller) -> None:
    for price in (300_000, 300_600):
        place(venue, "sell", 1_000, price)
        place(venue, "buy", 1_000, price, ALICE)
    row = (await caller.body(V1 + "orderBookDetails", market_id=0))["order_book_details"][0]
    assert (2, 0.2, 600.6, 3000.0, 3006.0, 3006.0, 0.2) == tuple(
        row[name]
        for name in (
            "daily_trades_count",
            "daily_base_token_volume",
            "daily_quote_token_volume",
            "daily_price_low",
            "daily_price_high",
            "last_trade_price",
            "open_interest",
        )
    )
    assert 0.2 == pytest.approx(row["daily_price_change"])
    assert "601.200000" == (await caller.body(V1 + "orderBooks", market_id=0))["order_books"][0]["open_interest"]


async def test_order_book_orders_are_the_best_of_each_side(venue: Venue, caller: Caller) -> None:
    asks = [place(venue, "sell", 600, 300_000 + step) for step in (2, 1, 3)]
    bid = place(venue, "buy", 700, 299_000)
    body = await caller.body(V1 + "orderBookOrders", market_id=0, limit=2)
    assert [asks[1], asks[0]] == [row["order_index"] for row in body["asks"]]
    assert [(bid, "2990.00", "0.0700")] == [
        (row["order_index"], row["price"], row["remaining_base_amount"]) for row in body["bids"]
    ]
    assert (2, 1) == (body["total_asks"], body["total_bids"])


@pytest.mark.parametrize("limit", [0, 251, "x"])
async def test_a_limit_out_of_range_is_an_invalid_param(caller: Caller, limit: object) -> None:
    status, body = await caller.get(V1 + "orderBookOrders", market_id=0, limit=limit)
    assert (400, 20001) == (status, body["code"])


async def test_recent_trades_are_newest_first(venue: Venue, caller: Caller) -> None:
    for price in (300_000, 300_001, 300_002):
        place(venue, "sell", 1_000, price)
        place(venue, "buy", 1_000, price, ALICE)
    body = await caller.body(V1 + "recentTrades", market_id=0, limit=2)
    rows = read(wire.TradesBody, body).trades or []
    assert [3000.02, 3000.01] == [row.price for row in rows]
    assert [True, True] == [row.is_maker_ask for row in rows]


async def test_an_account_by_index_and_by_address(venue: Venue, caller: Caller) -> None:
    place(venue, "sell", 1_000, 300_000)
    place(venue, "buy", 1_000, 300_000, ALICE)
    body = await caller.body(V1 + "account", by="index", value=ALICE)
    account = (read(wire.AccountsBody, body).accounts or [])[0]
    assert (ALICE, 9_999.94, 300.0 * 0.05) == (
        account.index,
        account.collateral,
        account.cross_initial_margin_requirement,
    )
    assert 9_999.94 - 15 == pytest.approx(account.available_balance)
    (position,) = account.positions or []
    assert (0, 1, 0.1, 3000.0, 5.0) == (
        position.market_id,
        position.sign,
        position.position,
        position.avg_entry_price,
        position.initial_margin_fraction,
    )
    by_address = await caller.body(V1 + "account", by="l1_address", value=account.l1_address.upper().replace("X", "x"))
    assert body["accounts"] == [
        row | {"transaction_time": body["accounts"][0]["transaction_time"]} for row in by_address["accounts"]
    ]
    assert (400, {"code": 21100, "message": "account not found"}) == await caller.get(
        V1 + "account", by="index", value=99
    )
    assert 20001 == (await caller.get(V1 + "account", by="name", value="x"))[1]["code"]


async def test_api_keys_and_nonces(venue: Venue, caller: Caller) -> None:
    venue.server.submit(14, create_tx(venue, "buy", 1_000, 299_000))
    keys = read(wire.ApiKeysBody, await caller.body(V1 + "apikeys", account_index=ALICE, api_key_index=255)).api_keys
    assert [(ALICE, KEY, 1, f"{ALICE:080x}")] == [
        (row.account_index, row.api_key_index, row.nonce, row.public_key) for row in keys or []
    ]
    assert 1 == (await caller.body(V1 + "nextNonce", account_index=ALICE, api_key_index=KEY))["nonce"]
    assert 21109 == (await caller.get(V1 + "nextNonce", account_index=ALICE, api_key_index=9))[1]["code"]
    assert 21109 == (await caller.get(V1 + "apikeys", account_index=ALICE, api_key_index=9))[1]["code"]
    assert 21100 == (await caller.get(V1 + "nextNonce", account_index=99, api_key_index=KEY))[1]["code"]


PRIVATE = {
    "accountActiveOrders": {},
    "accountInactiveOrders": {"limit": 10},
    "accountOrders": {"client_order_indexes": "1"},
    "accountLimits": {},
    "trades": {"sort_by": "timestamp", "limit": 10},
}


@pytest.mark.parametrize("path", PRIVATE)
async def test_private_endpoints_insist_on_a_token_of_the_account(caller: Caller, path: str) -> None:
    params = PRIVATE[path] | {"account_index": ALICE}
    status, body = await caller.get(V1 + path, **params)
    assert (401, 20013, "invalid auth: no token") == (status, body["code"], body["message"])
    for bad in (token(ahead_s=-1), token(BOB), "nonsense"):
        assert 401 == (await caller.get(V1 + path, auth=bad, **params))[0]
    await caller.body(V1 + path, auth=token(), **params)
    assert 200 == (await caller.body(V1 + path, **params | {"auth": token()}))["code"]


async def test_active_orders(venue: Venue, caller: Caller) -> None:
    first = place(venue, "buy", 1_000, 299_000, ALICE)
    second = place(venue, "buy", 1_000, 999_000, ALICE, market_id=1)
    params = {"account_index": ALICE, "auth": token()}
    every = read(wire.OrdersBody, await caller.body(V1 + "accountActiveOrders", market_id=255, **params)).orders or []
    assert {first, second} == {row.order_index for row in every}
    one = read(wire.OrdersBody, await caller.body(V1 + "accountActiveOrders", market_id=1, **params)).orders or []
    assert [(second, 99900.0)] == [(row.order_index, row.price) for row in one]


async def test_inactive_orders_come_in_pages_newest_first(venue: Venue, caller: Caller) -> None:
    indexes = [place(venue, "buy", 1_000, 299_000 + step, ALICE, client_order_index=step + 1) for step in range(7)]
    for index in indexes:
        venue.server.submit(TxType.CANCEL_ORDER, cancel_tx(venue, index))
    found: list[int] = []
    pages = 0
    params: dict[str, Any] = {"account_index": ALICE, "limit": 3}
    while True:
        body = read(wire.OrdersBody, await caller.body(V1 + "accountInactiveOrders", auth=token(), **params))
        found += [row.order_index for row in body.orders or []]
        pages += 1
        if not body.next_cursor:
            break
        params["cursor"] = body.next_cursor
    assert (indexes[::-1], 3) == (found, pages)
    assert (
        20009 == (await caller.get(V1 + "accountInactiveOrders", auth=token(), **params | {"cursor": "x"}))[1]["code"]
    )


async def test_orders_by_client_index_whether_resting_or_over(venue: Venue, caller: Caller) -> None:
    over = place(venue, "buy", 1_000, 299_000, ALICE, client_order_index=11)
    venue.server.submit(TxType.CANCEL_ORDER, cancel_tx(venue, over))
    resting = place(venue, "buy", 1_000, 299_000, ALICE, client_order_index=12)
    body = await caller.body(V1 + "accountOrders", auth=token(), account_index=ALICE, client_order_indexes="11,12,13")
    rows = read(wire.OrdersBody, body).orders or []
    assert {(over, "canceled"), (resting, "open")} == {(row.order_index, row.status) for row in rows}


async def test_trades_of_an_account_come_in_pages_newest_first(venue: Venue, caller: Caller) -> None:
    for _ in range(5):
        place(venue, "sell", 1_000, 300_000)
        last = place(venue, "buy", 1_000, 300_000, ALICE)
    place(venue, "sell", 1_000, 300_000)
    place(venue, "buy", 1_000, 300_000, BOB)
    params: dict[str, Any] = {"account_index": ALICE, "limit": 2, "sort_by": "timestamp", "sort_dir": "desc"}
    found: list[int] = []
    while True:
        body = read(wire.TradesBody, await caller.body(V1 + "trades", auth=token(), market_id=255, **params))
        found += [row.trade_id for row in body.trades or []]
        if not body.next_cursor:
            break
        params["cursor"] = body.next_cursor
    assert [trade.trade_id for trade in venue.engine.trades(account_index=ALICE)] == found
    assert 5 == len(found)
    one = await caller.body(
        V1 + "trades", auth=token(), account_index=ALICE, order_index=last, limit=9, sort_by="trade_id"
    )
    assert [last] == [row["bid_id"] for row in one["trades"]]
    public = await caller.body(V1 + "trades", limit=100, sort_by="trade_id")
    assert 6 == len(public["trades"])


async def test_limits_tell_the_fees_in_ppm(caller: Caller) -> None:
    body = await caller.body(V1 + "accountLimits", auth=token(), account_index=ALICE)
    assert (20, 200) == (body["current_maker_fee_tick"], body["current_taker_fee_tick"])


async def test_a_transaction_is_sent_as_a_form_and_found_by_its_hash(venue: Venue, caller: Caller) -> None:
    status, body = await caller.post(V1 + "sendTx", tx_type=14, tx_info=create_tx(venue, "buy", 1_000, 299_000))
    assert (200, 200) == (status, body["code"])
    assert 80 == len(body["tx_hash"])
    assert 1 == len(orders(venue))
    row = read(wire.TxRow, await caller.body(V1 + "tx", by="hash", value=body["tx_hash"]))
    assert (body["tx_hash"], 14, 2, ALICE, KEY, 0) == (
        row.hash,
        row.type,
        row.status,
        row.account_index,
        row.api_key_index,
        row.nonce,
    )
    assert (400, {"code": 21500, "message": "transaction not found"}) == await caller.get(
        V1 + "tx", by="hash", value="00" * 40
    )


async def test_a_refused_transaction_uses_no_nonce(venue: Venue, caller: Caller) -> None:
    good = create_tx(venue, "buy", 1_000, 299_000)
    refused = await caller.post(V1 + "sendTx", tx_type=14, tx_info=create_tx(venue, "buy", 1, 299_000))
    assert (400, 21706) == (refused[0], refused[1]["code"])
    assert 20001 == (await caller.post(V1 + "sendTx", tx_type=14))[1]["code"]
    assert 21501 == (await caller.post(V1 + "sendTx", tx_type=14, tx_info="no json"))[1]["code"]
    assert 21505 == (await caller.post(V1 + "sendTx", tx_type=99, tx_info=good))[1]["code"]
    assert 200 == (await caller.post(V1 + "sendTx", tx_type=14, tx_info=good))[0]
    assert (400, {"code": 21104, "message": "invalid nonce"}) == await caller.post(
        V1 + "sendTx", tx_type=14, tx_info=good
    )


async def test_an_unknown_path_is_answered_in_json(caller: Caller) -> None:
    assert (404, {"code": 29404, "message": "Not Found"}) == await caller.get(V1 + "weather")
