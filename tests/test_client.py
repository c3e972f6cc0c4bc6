"""LighterClient: what each endpoint is asked, and what its answer is read as; failures are in ``test_rest_requests``."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import respx

from qubx_lighter.client import LighterClient
from qubx_lighter.errors import VenueError, WireError
from tests.markets import ETH_ROW
from tests.replies import BASE, answer, client_of

ORDER = {
    "order_index": 281476929689581,
    "client_order_index": 7,
    "market_index": 0,
    "is_ask": True,
    "status": "open",
    "initial_base_amount": "0.0317",
    "remaining_base_amount": "0.0317",
    "filled_base_amount": "0.0000",
    "filled_quote_amount": "0.000000",
    "price": "2361.32",
}


def trade(trade_id: int, timestamp: int, transaction_time: int = 0, market_id: int = 0) -> dict[str, Any]:
    return {
        "trade_id": trade_id,
        "market_id": market_id,
        "price": "2361.31",
        "size": "0.0005",
        "is_maker_ask": False,
        "timestamp": timestamp,
        "transaction_time": transaction_time,
    }


# --- reads ------------------------------------------------------------------------------------------------------------


@respx.mock(base_url=BASE)
async def test_order_book_details_are_decoded_from_the_venue_shape(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.get("/api/v1/orderBookDetails").mock(
        answer({"code": 200, "order_book_details": [ETH_ROW], "spot_order_book_details": None})
    )
    body = await LighterClient(BASE).order_book_details()
    assert body.order_book_details is not None
    assert ("ETH", 4, "0.0050") == (
        body.order_book_details[0].symbol,
        body.order_book_details[0].supported_size_decimals,
        body.order_book_details[0].min_base_amount,
    )
    assert body.spot_order_book_details is None
    assert route.calls.last.request.url.params["filter"] == "all"


@respx.mock(base_url=BASE)
async def test_status_has_no_code_and_is_not_an_error(respx_mock: respx.MockRouter) -> None:
    respx_mock.get("/").mock(answer({"status": 200, "network_id": 304, "timestamp": 1}))
    assert (await LighterClient(BASE).status()).network_id == 304


async def test_account_is_picked_by_index_and_absent_is_a_venue_error() -> None:
    row = {"code": 0, "index": 5, "l1_address": "0x1", "collateral": "998.93", "available_balance": "1.5"}
    client, recorder = client_of(lambda _: answer({"code": 200, "accounts": [row]}))
    account = await client.account(5)
    assert (998.93, 1.5) == (account.collateral, account.available_balance)
    assert dict(recorder.requests[0].url.params) == {"by": "index", "value": "5"}
    with pytest.raises(VenueError, match="account 6 not found") as caught:
        await client.account(6)
    assert caught.value.code == 21100


async def test_null_lists_read_as_empty() -> None:
    client, _ = client_of(lambda _: answer({"code": 200, "orders": None, "trades": None, "api_keys": None}))
    assert await client.active_orders(5) == []
    assert await client.trades(5) == []
    assert await client.api_keys(5) == []


async def test_next_nonce_and_api_keys_name_their_account() -> None:
    keys = [{"account_index": 5, "api_key_index": 4, "nonce": 7, "public_key": "ab"}]
    client, recorder = client_of(lambda _: answer({"code": 200, "nonce": 7, "api_keys": keys}))
    assert await client.next_nonce(5, 4) == 7
    assert [key.public_key for key in await client.api_keys(5)] == ["ab"]
    assert ["account_index=5&api_key_index=4", "account_index=5&api_key_index=255"] == [
        request.url.query.decode() for request in recorder.requests
    ]


async def test_transaction_not_indexed_yet_is_none_and_other_refusals_raise() -> None:
    client, _ = client_of(lambda _: answer({"code": 21500, "message": "transaction not found"}, 400))
    assert await client.transaction("ab") is None
    client, _ = client_of(lambda _: answer({"code": 20001, "message": "invalid param"}, 400))
    with pytest.raises(VenueError, match="invalid param"):
        await client.transaction("ab")
    client, _ = client_of(lambda _: answer({"code": 200, "hash": "ab", "type": 14, "status": 2}))
    row = await client.transaction("ab")
    assert row is not None
    assert (14, 2) == (row.type, row.status)


async def test_private_endpoints_carry_a_fresh_token_and_public_ones_none() -> None:
    minted = 0

    async def token() -> str:
        nonlocal minted
        minted += 1
        return f"token-{minted}"

    client, recorder = client_of(lambda _: answer({"code": 200, "nonce": 1, "orders": [ORDER]}), token=token)
    await client.next_nonce(5, 4)
    rows = await client.active_orders(5, market_id=0)
    await client.inactive_orders(5, limit=500, cursor="c")
    assert 281476929689581 == rows[0].order_index
    assert [None, "token-1", "token-2"] == [request.headers.get("authorization") for request in recorder.requests]
    assert "0" == recorder.requests[1].url.params["market_id"]
    assert ("255", "100", "c") == tuple(
        recorder.requests[2].url.params[name] for name in ("market_id", "limit", "cursor")
    )


async def test_orders_by_client_index_are_asked_for_twenty_at_a_time() -> None:
    client, recorder = client_of(lambda _: answer({"code": 200, "orders": [ORDER]}))
    rows = await client.orders_by_client_index(5, list(range(1, 46)))
    assert 3 == len(rows)
    asked = [request.url.params["client_order_indexes"].split(",") for request in recorder.requests]
    assert [20, 20, 5] == [len(chunk) for chunk in asked]
    assert [str(index) for index in range(1, 46)] == [index for chunk in asked for index in chunk]


# --- trades -----------------------------------------------------------------------------------------------------------


async def test_trades_are_paged_until_older_than_since_and_come_once_oldest_first() -> None:
    pages = {
        None: {"trades": [trade(9, 900_000), trade(8, 800_000)], "next_cursor": "p2"},
        "p2": {"trades": [trade(8, 800_000), trade(7, 700_000), trade(6, 600_000)], "next_cursor": "p3"},
        "p3": {"trades": [trade(5, 500_000)], "next_cursor": "p4"},
    }
    client, recorder = client_of(lambda request: answer({"code": 200, **pages[request.url.params.get("cursor")]}))
    rows = await client.trades(5, market_id=0, since_ms=700_000)
    assert [7, 8, 9] == [row.trade_id for row in rows]
    assert [None, "p2"] == [request.url.params.get("cursor") for request in recorder.requests]
    assert ("timestamp", "desc", "100", "0") == tuple(
        recorder.requests[0].url.params[name] for name in ("sort_by", "sort_dir", "limit", "market_id")
    )


async def test_trades_whose_block_time_lags_are_still_found_by_their_time_of_execution() -> None:
    pages = {
        None: {"trades": [trade(9, 705_000, 706_000_000)], "next_cursor": "p2"},
        "p2": {"trades": [trade(8, 690_000, 701_000_000), trade(7, 680_000, 699_000_000)], "next_cursor": "p3"},
        "p3": {"trades": [trade(6, 675_000, 700_000_000), trade(5, 669_000)], "next_cursor": "p4"},
    }
    client, _ = client_of(lambda request: answer({"code": 200, **pages[request.url.params.get("cursor")]}))
    assert [6, 8, 9] == [row.trade_id for row in await client.trades(5, since_ms=700_000)]


async def test_equal_trade_ids_of_two_markets_are_two_trades() -> None:
    body = {"code": 200, "trades": [trade(9, 900, market_id=1), trade(9, 900, market_id=0)]}
    client, _ = client_of(lambda _: answer(body))
    assert 2 == len(await client.trades(5, since_ms=0))


async def test_trades_without_since_are_one_page_of_one_order() -> None:
    client, recorder = client_of(lambda _: answer({"code": 200, "trades": [trade(9, 900)], "next_cursor": "p2"}))
    assert [9] == [row.trade_id for row in await client.trades(5, order_index=2**55)]
    assert 1 == len(recorder.requests)
    assert str(2**55) == recorder.requests[0].url.params["order_index"]


async def test_trades_paging_in_a_circle_is_an_error_not_a_loop() -> None:
    client, _ = client_of(lambda _: answer({"code": 200, "trades": [trade(9, 900)], "next_cursor": "same"}))
    with pytest.raises(WireError, match="cursor"):
        await client.trades(5, since_ms=0)


# --- history ----------------------------------------------------------------------------------------------------------

CANDLE = {"t": 1_700_000_000_000, "o": 2361.11, "h": 2362.22, "l": 2360.0, "c": 2361.31}
WINDOW = {
    "market_id": "0",
    "resolution": "1m",
    "start_timestamp": "1699999980000",
    "end_timestamp": "1700000039999",
    "count_back": "2",
}


async def test_candles_are_asked_for_by_window_and_count_and_zeros_are_filled_in() -> None:
    client, recorder = client_of(lambda _: answer({"code": 200, "r": "1m", "c": [CANDLE]}))
    (row,) = await client.candles(0, "1m", 1_699_999_980_000, 1_700_000_039_999, 2)
    assert (1_700_000_000_000, 2361.31, 0.0, 0.0) == (row.t, row.c, row.v, row.V)
    assert "/api/v1/candles" == recorder.requests[0].url.path
    assert WINDOW == dict(recorder.requests[0].url.params)


async def test_mark_price_candles_and_fundings_have_their_own_paths() -> None:
    funding = {"timestamp": 1778702400, "value": "0.02707872", "rate": "0.0012", "direction": "long"}
    client, recorder = client_of(
        lambda _: answer({"code": 200, "c": [CANDLE | {"sc": 7}], "resolution": "1h", "fundings": [funding]})
    )
    assert [7] == [row.sc for row in await client.mark_price_candles(0, "1m", 0, 1, 1)]
    rows = await client.fundings(0, "1h", 0, 1, 1)
    assert [(1778702400, 0.0012, "long")] == [(row.timestamp, row.rate, row.direction) for row in rows]
    assert ["/api/v1/markPriceCandles", "/api/v1/fundings"] == [request.url.path for request in recorder.requests]


@pytest.mark.parametrize(
    "nothing",
    [answer({"code": 22400, "message": "empty range"}, 400), answer({"code": 200, "c": None, "fundings": None})],
)
async def test_a_range_without_history_is_empty(nothing: httpx.Response) -> None:
    client, recorder = client_of(lambda _: nothing)
    assert [] == await client.candles(0, "1m", 0, 1, 1)
    assert [] == await client.mark_price_candles(0, "1m", 0, 1, 1)
    assert [] == await client.fundings(0, "1h", 0, 1, 1)
    assert 3 == len(recorder.requests)


async def test_other_refusals_of_history_are_errors() -> None:
    client, _ = client_of(lambda _: answer({"code": 20001, "message": "invalid param"}, 400))
    with pytest.raises(VenueError, match="20001"):
        await client.candles(0, "1m", 0, 1, 1)


async def test_trades_of_a_market_are_paged_from_the_newest_without_a_token() -> None:
    client, recorder = client_of(lambda _: answer({"code": 200, "trades": [trade(1, 2)], "next_cursor": "x"}))
    body = await client.market_trades(0, cursor="c")
    assert ([1], "x") == ([row.trade_id for row in body.trades or []], body.next_cursor)
    expected = {"sort_by": "timestamp", "sort_dir": "desc", "limit": "100", "market_id": "0", "cursor": "c"}
    assert expected == dict(recorder.requests[0].url.params)
    assert [1] == [row.trade_id for row in await client.recent_trades(0, 500)]
    assert {"market_id": "0", "limit": "100"} == dict(recorder.requests[1].url.params)
