"""One request over REST: when it is asked again, what its failures mean, what waits for its turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from urllib.parse import parse_qs

import httpx
import pytest
import stamina

from qubx_lighter.client import LighterClient
from qubx_lighter.errors import (
    ConfigurationError,
    NotSentError,
    OutcomeUnknownError,
    RateLimitedError,
    TransportError,
    VenueError,
    WireError,
)
from qubx_lighter.pacing import RestPace, Turnstile
from qubx_lighter.protocol.budget import Budget
from qubx_lighter.protocol.limits import TIERS
from tests import fake_time
from tests.replies import BASE, Recorder, answer, client_of, html, raising


@pytest.fixture(autouse=True)
def _no_pauses_between_retries() -> Iterator[None]:
    with stamina.set_testing(True, attempts=4, cap=True):
        yield


# --- over the limit --------------------------------------------------------------------------------------------------


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
        await client.api_keys(5)
    assert tries == len(recorder.requests)


# --- a nonce, for which cancels wait ---------------------------------------------------------------------------------


async def test_a_nonce_is_asked_for_at_once_while_other_reads_pause_and_the_budget_is_spent() -> None:
    pace = RestPace(Turnstile(Budget(400.0)))
    client, recorder = client_of(lambda _: answer({"code": 200, "nonce": 3}), pace=pace)
    pace.address.force(800.0)
    pace.refused("candles", authenticated=False, status=405, retry_after_s=None)
    async with asyncio.timeout(1.0):
        assert 3 == await client.next_nonce(5, 4)
    assert (1, 1200.0) == (len(recorder.requests), pace.address.stats()["spent"])


async def test_a_nonce_that_is_refused_for_the_limit_is_not_asked_for_until_the_pause_is_over() -> None:
    now = 1000.0
    replies = iter([html(405), answer({"code": 200, "nonce": 3})])
    pace = RestPace(Turnstile(Budget(24_000.0), clock=lambda: now))
    client, recorder = client_of(lambda _: next(replies), pace=pace)
    with pytest.raises(VenueError, match="23000"):
        await client.next_nonce(5, 4)
    now += 59.0
    with pytest.raises(RateLimitedError, match="nextNonce was refused for the rate limit, it is asked again in 1 s"):
        await client.next_nonce(5, 4)
    assert 1 == len(recorder.requests)
    now += 1.1
    assert 3 == await client.next_nonce(5, 4)


def test_a_nonce_that_does_not_come_is_given_up_after_some_seconds() -> None:
    async def scene() -> tuple[int, float]:
        asked = 0

        async def hang(_: httpx.Request) -> httpx.Response:
            nonlocal asked
            asked += 1
            await asyncio.sleep(3600)
            raise AssertionError

        loop = asyncio.get_running_loop()
        start = loop.time()
        client = LighterClient(BASE, transport=httpx.MockTransport(hang))
        with pytest.raises(TransportError, match=r"nextNonce .* TimeoutError"):
            await client.next_nonce(5, 4)
        return asked, loop.time() - start

    asked, seconds = fake_time.run(scene())
    assert 3 == asked
    assert 7.5 <= seconds < 9.0


# --- failures of reads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [html(503), html(429), answer({"code": 23000, "message": "too many"}, 429)])
async def test_reads_are_asked_again_after_overload(first: httpx.Response) -> None:
    replies = iter([first, first, answer({"code": 200, "api_keys": None})])
    client, recorder = client_of(lambda _: next(replies))
    assert [] == await client.api_keys(5)
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
