"""The local venue's limits: what is too much is refused in the venue's words, uses nothing up, and is free again in time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from qubx_lighter.constants import Code, TxType
from qubx_lighter.protocol.limits import TIERS
from qubx_lighter.sim.api.limits import LimitSettings
from qubx_lighter.sim.api.server import wall_clock
from qubx_lighter.sim.app import Funded
from tests.sim.caller import (
    ALICE,
    BOB,
    FEED,
    KEY,
    Caller,
    Frame,
    calling,
    cancel_tx,
    create_tx,
    place,
    quiet_venue,
    send_frame,
    token,
)

NO_QUOTA = {"code": 23000, "message": "Too Many Requests!: Not enough volume quota"}
PRICE = 390_000


class Shifted:
    """The wall clock, moved on by a test."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> int:
        return wall_clock() + round(self.ahead_s * 10**6)


@asynccontextmanager
async def limited(tier: str = "standard", **settings: Any) -> AsyncIterator[tuple[Caller, Shifted]]:
    clock = Shifted()
    async with quiet_venue(limits=LimitSettings(TIERS[tier], **settings), now=clock) as venue, calling(venue) as caller:
        yield caller, clock


async def create(caller: Caller, account: int = ALICE) -> Frame:
    reply = await caller.ask(**send_frame(create_tx(caller.venue, "buy", 100, PRICE, account)))
    return reply.get("error") or reply


async def status(caller: Caller, path: str, auth: str | None = None, **params: Any) -> int:
    code, body = await caller.get(f"/api/v1/{path}", auth=auth, **params)
    if code == 429:
        assert {"code": 23000, "message": "Too Many Requests!"} == body
    return code


async def test_an_address_has_60_requests_a_minute_and_an_account_60_of_its_own() -> None:
    async with limited() as (caller, clock):
        assert [200] * 60 + [429] == [await status(caller, "orderBooks") for _ in range(61)]
        mine = {"auth": token(), "account_index": ALICE}
        assert [200] * 60 + [429] == [await status(caller, "accountLimits", **mine) for _ in range(61)]
        assert 200 == await status(caller, "accountLimits", token(BOB), account_index=BOB)
        clock.ahead_s = 61
        assert [200, 200] == [await status(caller, "orderBooks"), await status(caller, "accountLimits", **mine)]
        assert {"requests": 2} == caller.venue.server.limits.refusals


async def test_a_refusal_over_rest_says_how_long_to_wait() -> None:
    async with limited(weight=400) as (caller, clock):
        await caller.body("/api/v1/orderBooks")
        clock.ahead_s = 20
        async with caller.session.get(caller.venue.url + "/api/v1/orderBooks") as response:
            assert (429, "40") == (response.status, response.headers["Retry-After"])


async def test_of_a_premium_account_weights_count() -> None:
    async with limited("premium") as (caller, _):
        mine = {"auth": token(), "account_index": ALICE, "sort_by": "timestamp", "limit": 1}
        assert [200] * 40 + [429] == [await status(caller, "trades", **mine) for _ in range(41)]
        assert (
            "premium" == (await caller.body("/api/v1/accountLimits", auth=token(BOB), account_index=BOB))["user_tier"]
        )


async def test_transactions_of_all_kinds_and_ways_share_a_bucket_and_so_do_a_standard_accounts_requests() -> None:
    async with limited(transactions=5) as (caller, clock):
        first = await create(caller)
        assert "" != first["tx_hash"]
        for _ in range(3):
            code, _body = await caller.post("/api/v1/sendTx", **rest_tx(caller))
            assert 200 == code
        index = caller.venue.engine.active_orders(ALICE)[0].order_index
        assert (
            200 == (await caller.ask(**send_frame(cancel_tx(caller.venue, index), tx_type=TxType.CANCEL_ORDER)))["code"]
        )
        assert {"code": 23000, "message": "Too Many Requests!"} == await create(caller)
        code, body = await caller.post("/api/v1/sendTx", **rest_tx(caller))
        assert (429, 23000) == (code, body["code"])
        assert 200 == (await create(caller, BOB))["code"]
        clock.ahead_s = 61
        assert 200 == (await create(caller))["code"]
    async with limited() as (caller, _):
        mine = {"auth": token(), "account_index": ALICE}
        assert [200] * 58 == [await status(caller, "accountLimits", **mine) for _ in range(58)]
        assert [200, 200, 23000] == [(await create(caller))["code"] for _ in range(3)]


def rest_tx(caller: Caller) -> dict[str, Any]:
    return {"tx_type": int(TxType.CREATE_ORDER), "tx_info": create_tx(caller.venue, "buy", 100, PRICE)}


async def test_a_refused_transaction_leaves_its_nonce() -> None:
    async with limited(transactions=1) as (caller, _):
        await create(caller)
        nonce = caller.venue.engine.next_nonce(ALICE, 4)
        assert 23000 == (await create(caller))["code"]
        assert nonce == caller.venue.engine.next_nonce(ALICE, 4)


async def test_a_batch_counts_as_many_as_it_holds() -> None:
    async with limited(transactions=3) as (caller, _):
        infos = [create_tx(caller.venue, "buy", 100, PRICE) for _ in range(2)]
        infos[1] = json.dumps(json.loads(infos[1]) | {"Nonce": json.loads(infos[0])["Nonce"] + 1})
        batch = {"id": "b", "tx_types": "[14,14]", "tx_infos": json.dumps(infos)}
        assert 200 == (await caller.ask(type="jsonapi/sendtxbatch", data=batch))["code"]
        assert [200, 23000] == [(await create(caller))["code"] for _ in range(2)]


async def test_quota_is_used_up_but_for_a_free_order_each_15_s_and_cancels_and_grows_with_trades() -> None:
    async with limited("premium", quota=2, stream_tells_quota=True) as (caller, clock):
        replies = [await create(caller) for _ in range(4)]
        assert ["didn't use volume quota", "1 volume quota remaining.", "0 volume quota remaining."] == [
            json.loads(reply["message"])["ratelimit"] for reply in replies[:3]
        ]
        assert ([2, 1, 0], NO_QUOTA) == ([reply["volume_quota_remaining"] for reply in replies[:3]], replies[3])
        index = caller.venue.engine.active_orders(ALICE)[0].order_index
        cancelled = await caller.ask(**send_frame(cancel_tx(caller.venue, index), tx_type=TxType.CANCEL_ORDER))
        assert 200 == cancelled["code"]
        clock.ahead_s = 15.1
        assert [200, 23000] == [(await create(caller))["code"] for _ in range(2)]
        place(caller.venue, "sell", 100, PRICE, FEED, time_in_force=0)  # 0.01 at 3900: 39 USD
        assert 7 == caller.venue.server.limits.quota_of(caller.venue.engine.account(ALICE).l1_address)
        assert 200 == (await create(caller))["code"]
        assert {"quota": 2} == caller.venue.server.limits.refusals


async def test_answers_over_the_stream_say_nothing_of_the_quota_unless_told_to() -> None:
    async with limited("premium") as (caller, _):
        assert {"code", "id", "predicted_execution_time_ms", "tx_hash", "type"} == set(await create(caller))
        _, body = await caller.post("/api/v1/sendTx", **rest_tx(caller))
        assert 999 == body["volume_quota_remaining"]


async def test_a_standard_account_has_no_quota() -> None:
    async with limited() as (caller, _):
        _, body = await caller.post("/api/v1/sendTx", **rest_tx(caller))
        assert "volume_quota_remaining" not in body
        assert {"ratelimit": "didn't use volume quota"} == json.loads(body["message"])


async def test_leverage_changes_have_a_limit_of_their_own() -> None:
    async with limited("premium", leverage_changes=1) as (caller, _):
        body = json.loads(create_tx(caller.venue, "buy", 100, PRICE))
        codes = []
        for nonce in range(2):
            tx = {"MarketIndex": 0, "InitialMarginFraction": 1000, "MarginMode": 0, "Nonce": body["Nonce"] + nonce}
            frame = send_frame(json.dumps(body | tx), tx_type=TxType.UPDATE_LEVERAGE)
            reply = await caller.ask(**frame)
            codes.append(reply.get("code") or reply["error"]["code"])
        assert [200, 23000] == codes


async def test_messages_subscriptions_and_connections_are_counted_by_address() -> None:
    async with limited(messages=3, address_subscriptions=1, connections=2) as (caller, clock):
        assert "subscribed/ticker" == (await caller.subscribe("ticker/0"))["type"]
        assert Code.TOO_MANY_SUBSCRIPTIONS == (await caller.subscribe("trade/0"))["error"]["code"]
        async with calling(caller.venue) as second:
            assert "pong" == (await second.ask(type="ping"))["type"]
            assert Code.TOO_MANY_MESSAGES == (await second.ask(type="ping"))["error"]["code"]
            async with caller.session.ws_connect(caller.venue.ws_url) as third:
                assert Code.TOO_MANY_CONNECTIONS == json.loads(await third.receive_str())["error"]["code"]
        clock.ahead_s = 61
        await caller.write(type="unsubscribe", channel="ticker/0")
        await caller.read_until("unsubscribed")
        assert "subscribed/trade" == (await caller.subscribe("trade/0"))["type"]


async def test_messages_that_are_not_answered_yet_are_limited() -> None:
    async with limited(in_flight=2, answer_s=0.05) as (caller, _):
        for _ in range(3):
            await caller.write(type="ping")
        assert Code.TOO_MANY_IN_FLIGHT == (await caller.read())["error"]["code"]
        assert ["pong", "pong"] == [(await caller.read())["type"] for _ in range(2)]
        assert "pong" == (await caller.ask(type="ping"))["type"]


@pytest.mark.parametrize("path", ["/api/v1/orderBooks", "/"])
async def test_without_limits_nothing_is_counted(path: str) -> None:
    async with quiet_venue() as venue, calling(venue) as caller:
        assert [200] * 130 == [(await caller.get(path))[0] for _ in range(130)]
        assert {} == venue.server.limits.refusals


async def test_an_account_has_the_limits_of_its_own_tier() -> None:
    rich, poor = Funded(f"0x{1:080x}", ALICE, KEY, tier="premium"), Funded(f"0x{2:080x}", BOB, KEY, tier="standard")
    async with quiet_venue(accounts=[rich, poor], limits=LimitSettings()) as venue, calling(venue) as caller:
        codes = {
            index: [await status(caller, "accountLimits", token(index), account_index=index) for _ in range(61)]
            for index in (ALICE, BOB)
        }
        assert {ALICE: [200] * 61, BOB: [200] * 60 + [429]} == codes
