"""LighterClient: typed reads with retries, one error map, transactions sent once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
import respx
import stamina

from qubx_lighter.client import LighterClient
from qubx_lighter.errors import (
    ConfigurationError,
    NotSentError,
    OutcomeUnknownError,
    TransportError,
    VenueError,
    WireError,
)
from qubx_lighter.pacing import RestPace, Turnstile
from qubx_lighter.protocol.budget import Budget
from qubx_lighter.protocol.limits import TIERS

BASE = "https://venue.test"

ETH = {
    "symbol": "ETH",
    "market_id": 0,
    "market_type": "perp",
    "status": "active",
    "supported_size_decimals": 4,
    "supported_price_decimals": 2,
    "min_base_amount": "0.0050",
    "min_quote_amount": "10.000000",
    "last_trade_price": 2361.31,
}
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


def answer(body: object, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=body)


def html(status: int) -> httpx.Response:
    return httpx.Response(status, html="<html>Request blocked</html>")


class Recorder:
    """A transport that answers with what a function returns, or raises what it raises, and keeps the requests."""

    def __init__(self, reply: Callable[[httpx.Request], httpx.Response]) -> None:
        self.requests: list[httpx.Request] = []
        self._reply = reply
        self.transport = httpx.MockTransport(self._handle)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._reply(request)


def client_of(reply: Callable[[httpx.Request], httpx.Response], **options: Any) -> tuple[LighterClient, Recorder]:
    recorder = Recorder(reply)
    return LighterClient(BASE, transport=recorder.transport, **options), recorder


def raising(error: type[httpx.RequestError]) -> Callable[[httpx.Request], httpx.Response]:
    def reply(request: httpx.Request) -> httpx.Response:
        raise error("boom", request=request)

    return reply


@pytest.fixture(autouse=True)
def _no_pauses_between_retries() -> Iterator[None]:
    with stamina.set_testing(True, attempts=4, cap=True):
        yield


# --- reads ------------------------------------------------------------------------------------------------------------


@respx.mock(base_url=BASE)
async def test_order_book_details_are_decoded_from_the_venue_shape(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.get("/api/v1/orderBookDetails").mock(
        answer({"code": 200, "order_book_details": [ETH], "spot_order_book_details": None})
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


@pytest.mark.parametrize("refusal", [html(429), html(405), answer({"code": 23000, "message": "too many"}, 429)])
async def test_history_over_the_limit_is_left_to_who_paces_it(refusal: httpx.Response) -> None:
    refusal.headers["retry-after"] = "12"
    client, recorder = client_of(lambda _: refusal)
    with pytest.raises(VenueError, match="23000") as caught:
        await client.candles(0, "1m", 0, 1, 1)
    assert (refusal.status_code, 12.0) == (caught.value.status, caught.value.retry_after_s)
    assert 1 == len(recorder.requests)


@pytest.mark.parametrize(("retry_after", "tries"), [("3", 4), ("Wed, 21 Oct 2026 07:28:00 GMT", 4), ("30", 1)])
async def test_a_read_over_the_limit_is_asked_again_unless_the_venue_names_a_long_pause(
    retry_after: str, tries: int
) -> None:
    refusal = httpx.Response(429, html="<html>Too many</html>", headers={"retry-after": retry_after})
    client, recorder = client_of(lambda _: refusal)
    with pytest.raises(VenueError, match="HTTP 429 with text/html"):
        await client.next_nonce(5, 4)
    assert tries == len(recorder.requests)


# --- failures of reads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [html(503), html(429), answer({"code": 23000, "message": "too many"}, 429)])
async def test_reads_are_asked_again_after_overload(first: httpx.Response) -> None:
    replies = iter([first, first, answer({"code": 200, "nonce": 3})])
    client, recorder = client_of(lambda _: next(replies))
    assert await client.next_nonce(5, 4) == 3
    assert 3 == len(recorder.requests)


async def test_reads_are_asked_again_after_a_broken_connection() -> None:
    calls = 0

    def reply(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise httpx.ReadError("reset", request=request)
        return answer({"code": 200, "nonce": 3})

    client, _ = client_of(reply)
    assert await client.next_nonce(5, 4) == 3


async def test_unreachable_host_ends_in_one_line_naming_it_after_the_set_number_of_tries() -> None:
    client, recorder = client_of(raising(httpx.ConnectError), attempts=3)
    with pytest.raises(TransportError) as caught:
        await client.next_nonce(5, 4)
    assert "GET /api/v1/nextNonce at https://venue.test failed: ConnectError: boom" == str(caught.value)
    assert 3 == len(recorder.requests)


async def test_an_answer_that_cannot_be_decoded_is_not_asked_for_again() -> None:
    client, recorder = client_of(raising(httpx.DecodingError))
    with pytest.raises(TransportError, match="DecodingError"):
        await client.next_nonce(5, 4)
    assert 1 == len(recorder.requests)


async def test_accepted_transaction_with_an_unreadable_answer_has_an_unknown_outcome() -> None:
    client, _ = client_of(lambda _: answer({"code": 200, "tx_hash": 5}))
    with pytest.raises(OutcomeUnknownError, match="TxReply"):
        await client.send_transaction(14, "{}")


async def test_business_errors_are_not_retried() -> None:
    client, recorder = client_of(lambda _: answer({"code": 20013, "message": "invalid auth"}, 401))
    with pytest.raises(VenueError) as caught:
        await client.active_orders(5)
    assert (20013, "invalid auth", 401) == (caught.value.code, caught.value.message, caught.value.status)
    assert 1 == len(recorder.requests)


async def test_error_code_in_a_200_body_is_a_venue_error() -> None:
    client, _ = client_of(lambda _: answer({"code": 21100, "message": "account not found"}))
    with pytest.raises(VenueError, match="21100"):
        await client.account(5)


@pytest.mark.parametrize("status", [200, 403])
async def test_html_instead_of_json_is_a_transport_error_with_the_status(status: int) -> None:
    client, recorder = client_of(lambda _: html(status))
    with pytest.raises(TransportError, match=f"HTTP {status} with text/html"):
        await client.status()
    assert 1 == len(recorder.requests)


async def test_server_error_with_a_venue_body_is_retried_and_then_a_venue_error() -> None:
    client, recorder = client_of(lambda _: answer({"code": 29500, "message": "internal"}, 500))
    with pytest.raises(VenueError, match="29500"):
        await client.status()
    assert 4 == len(recorder.requests)


async def test_body_without_the_required_fields_is_a_wire_error() -> None:
    client, _ = client_of(lambda _: answer({"code": 200}))
    with pytest.raises(WireError, match="NextNonceBody"):
        await client.next_nonce(5, 4)


# --- transactions -----------------------------------------------------------------------------------------------------


async def test_transaction_is_posted_as_a_form_with_the_signer_text_untouched() -> None:
    tx_info = json.dumps({"AccountIndex": 5, "Sig": "a+b/c=="})
    client, recorder = client_of(lambda _: answer({"code": 200, "message": "", "tx_hash": "ab"}))
    reply = await client.send_transaction(14, tx_info)
    assert "ab" == reply.tx_hash
    assert "POST /api/v1/sendTx" == f"{recorder.requests[0].method} {recorder.requests[0].url.path}"
    assert {"tx_type": ["14"], "tx_info": [tx_info]} == parse_qs(recorder.requests[0].content.decode())


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout])
async def test_transaction_without_a_connection_was_not_sent(error: type[httpx.RequestError]) -> None:
    client, recorder = client_of(raising(error))
    with pytest.raises(NotSentError, match="sendTx"):
        await client.send_transaction(14, "{}")
    assert 1 == len(recorder.requests)


@pytest.mark.parametrize(
    "error", [httpx.ReadTimeout, httpx.WriteTimeout, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError]
)
async def test_transaction_lost_on_the_way_has_an_unknown_outcome(error: type[httpx.RequestError]) -> None:
    client, recorder = client_of(raising(error))
    with pytest.raises(OutcomeUnknownError, match="sendTx"):
        await client.send_transaction(14, "{}")
    assert 1 == len(recorder.requests)


@pytest.mark.parametrize(
    "response", [html(504), answer({"code": 29500, "message": "x"}, 500), html(408), html(302), html(200)]
)
async def test_transaction_answered_by_a_broken_server_has_an_unknown_outcome(response: httpx.Response) -> None:
    client, recorder = client_of(lambda _: response)
    with pytest.raises(OutcomeUnknownError, match=f"HTTP {response.status_code}"):
        await client.send_transaction(14, "{}")
    assert 1 == len(recorder.requests)


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (answer({"code": 21104, "message": "invalid nonce"}, 400), 21104),
        (answer({"code": 21739, "message": "not enough margin"}), 21739),
        (answer({"code": 23000, "message": "too many"}, 429), 23000),
        (html(429), 23000),
        (html(403), 403),
    ],
)
async def test_refused_transaction_is_a_venue_error_with_its_code(response: httpx.Response, code: int) -> None:
    client, recorder = client_of(lambda _: response)
    with pytest.raises(VenueError) as caught:
        await client.send_transaction(14, "{}")
    assert code == caught.value.code
    assert 1 == len(recorder.requests)


# --- construction -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["venue.test", "ftp://venue.test", "https://", "https://venue.test:port"])
def test_base_url_that_is_no_http_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        LighterClient(url)


@pytest.mark.parametrize("url", [BASE, f"{BASE}/", f"{BASE}/api/v1"])
def test_base_url_may_end_as_people_write_it(url: str) -> None:
    assert BASE == LighterClient(url).base_url


async def test_close_is_idempotent() -> None:
    client, _ = client_of(lambda _: answer({}))
    await client.close()
    await client.close()


# --- the pace --------------------------------------------------------------------------------------------------------


def paces(tier: str = "standard") -> RestPace:
    return RestPace(Turnstile(Budget(24_000)), Turnstile(Budget(24_000)), tier=TIERS[tier])


def spent(pace: RestPace) -> list[float]:
    return [pace.address.stats()["spent"], pace.account.stats()["spent"]]


async def test_each_request_and_each_retry_is_paced_with_a_token_for_the_account() -> None:
    bodies = iter([html(503), answer({"code": 200, "nonce": 5}), answer({"code": 200, "orders": []})])
    venue, pace = Recorder(lambda _: next(bodies)), paces()

    async def token() -> str:
        return "t"

    client = LighterClient(BASE, transport=venue.transport, token=token, pace=pace, retry_wait_s=0.0)
    assert 5 == await client.next_nonce(1, 2)
    assert [800.0, 0.0] == spent(pace)
    await client.active_orders(1)
    assert [800.0, 400.0] == spent(pace)


async def test_of_a_higher_tier_public_requests_carry_the_token_too_if_there_is_one() -> None:
    tokens = iter(["t"])
    venue, pace = Recorder(lambda _: answer({"code": 200, "c": []})), paces("premium")

    async def token() -> str:
        try:
            return next(tokens)
        except StopIteration:
            raise ConfigurationError("the signer is gone") from None

    client = LighterClient(BASE, transport=venue.transport, token=token, pace=pace)
    await client.candles(0, "1m", 0, 1, 2)
    await client.candles(0, "1m", 0, 1, 2)
    assert ["t", None] == [request.headers.get("authorization") for request in venue.requests]
    assert [400.0, 300.0] == spent(pace)
    with pytest.raises(ConfigurationError, match="gone"):
        await client.active_orders(1)


async def test_a_refusal_for_the_rate_limit_closes_the_pace_and_one_of_a_transaction_its_own() -> None:
    refusal = httpx.Response(429, json={"code": 23000, "message": "too many"}, headers={"retry-after": "30"})
    pace = paces()
    pace.transactions = Turnstile(Budget(60))
    client = LighterClient(BASE, transport=Recorder(lambda _: refusal).transport, pace=pace)
    for ask, turnstile in ((client.status(), pace.address), (client.send_transaction(14, "{}"), pace.transactions)):
        with pytest.raises(VenueError, match="23000") as caught:
            await ask
        assert 30.0 == caught.value.retry_after_s
        assert 1 == turnstile.stats()["refusals"]
    assert 0 == pace.account.stats()["refusals"]
