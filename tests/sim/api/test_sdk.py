"""Third parties: the SDK's own clients against the venue, and its models, strictly, on the venue's bodies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import lighter
import pytest
from lighter import models
from pydantic import SecretStr

from qubx_lighter.constants import Grouping, OrderType, SelfTradeBehavior, TimeInForce, TxType
from qubx_lighter.protocol.order_table import TABLE, OrderFields, SelfTrade
from qubx_lighter.signer import Signer, generate_api_key
from qubx_lighter.sim.app import Funded, Venue
from tests.sim.caller import KEY, Caller, calling, place, quiet_venue

ACCOUNT = 300


@pytest.fixture(scope="module")
def api_key() -> tuple[str, str]:
    return generate_api_key()


@pytest.fixture
async def venue(api_key: tuple[str, str]) -> AsyncIterator[Venue]:
    async with quiet_venue(accounts=[Funded(api_key[1], ACCOUNT, KEY)]) as venue:
        for step in range(30):
            place(venue, "sell", 1_000 + step, 300_001 + step)
            place(venue, "buy", 1_000 + step, 300_000 - step)
        yield venue


@pytest.fixture
async def signer(venue: Venue, api_key: tuple[str, str]) -> AsyncIterator[Signer]:
    signer = Signer(
        chain_id=304,
        account_index=ACCOUNT,
        api_key_index=KEY,
        private_key=SecretStr(api_key[0]),
        base_url=venue.url,
    )
    yield signer
    signer.close()


@pytest.fixture
async def sdk(venue: Venue) -> AsyncIterator[lighter.ApiClient]:
    client = lighter.ApiClient(configuration=lighter.Configuration(host=venue.url))
    yield client
    await client.close()


def day_ahead_ms() -> int:
    return int(time.time() * 1000) + 24 * 3600 * 1000


async def order_of(signer: Signer, nonce: int, **changes: Any) -> tuple[int, str]:
    options: dict[str, Any] = {
        "market_id": 0,
        "client_order_index": 7,
        "base_lots": 1_500,
        "price_ticks": 300_001,
        "is_ask": False,
        "order_type": 0,
        "time_in_force": 1,
        "reduce_only": False,
        "order_expiry_ms": day_ahead_ms(),
    }
    signed = await signer.create_order(OrderFields(**options | changes), nonce=nonce)
    return signed.tx_type, signed.tx_info


# --- REST -------------------------------------------------------------------------------------------------------------


async def test_the_sdk_reads_markets_books_and_accounts(venue: Venue, sdk: lighter.ApiClient) -> None:
    orders = lighter.OrderApi(sdk)
    books = await orders.order_books()
    assert [("ETH", 0), ("BTC", 1)] == [(row.symbol, row.market_id) for row in books.order_books]
    details = await orders.order_book_details(market_id=0)
    assert ("0.0050", 4, 2) == (
        details.order_book_details[0].min_base_amount,
        details.order_book_details[0].size_decimals,
        details.order_book_details[0].price_decimals,
    )
    book = await orders.order_book_orders(market_id=0, limit=5)
    assert ["3000.01", "3000.02"] == [row.price for row in book.asks[:2]]
    accounts = await lighter.AccountApi(sdk).account(by="index", value=str(ACCOUNT))
    assert [(ACCOUNT, "10000.000000")] == [(row.index, row.collateral) for row in accounts.accounts]
    nonce = await lighter.TransactionApi(sdk).next_nonce(account_index=ACCOUNT, api_key_index=KEY)
    assert 0 == nonce.nonce
    status = await lighter.RootApi(sdk).status()
    assert 304 == status.network_id


async def test_the_sdk_sends_what_the_real_signer_signed(venue: Venue, sdk: lighter.ApiClient, signer: Signer) -> None:
    transactions = lighter.TransactionApi(sdk)
    tx_type, tx_info = await order_of(signer, 0)
    reply = await transactions.send_tx(tx_type=tx_type, tx_info=tx_info)
    assert (200, 80) == (reply.code, len(reply.tx_hash))
    found = await transactions.tx(by="hash", value=reply.tx_hash)
    assert (2, ACCOUNT, tx_info) == (found.status, found.account_index, found.info)
    assert 1 == (await transactions.next_nonce(account_index=ACCOUNT, api_key_index=KEY)).nonce
    auth = await signer.auth_token(now_s=int(time.time()), lifetime_s=600)
    active = await lighter.OrderApi(sdk).account_active_orders(account_index=ACCOUNT, market_id=0, authorization=auth)
    assert [(7, "0.1500", "0.1000", "open")] == [
        (row.client_order_index, row.initial_base_amount, row.filled_base_amount, row.status) for row in active.orders
    ]
    trades = await lighter.OrderApi(sdk).trades(
        sort_by="timestamp", limit=10, account_index=ACCOUNT, authorization=auth
    )
    assert [("3000.01", "0.1000", 200)] == [(row.price, row.size, row.taker_fee) for row in trades.trades]
    with pytest.raises(lighter.exceptions.BadRequestException) as caught:
        await transactions.send_tx(tx_type=tx_type, tx_info=tx_info)
    assert '"code":21104' in str(caught.value.body)
    with pytest.raises(lighter.exceptions.UnauthorizedException):
        await lighter.OrderApi(sdk).account_active_orders(account_index=ACCOUNT, market_id=0, authorization="x")


async def test_every_transaction_of_the_real_signer_is_understood(venue: Venue, signer: Signer) -> None:
    def submit(signed: Any) -> None:
        result = venue.server.submit(signed.tx_type, signed.tx_info)[1]
        venue.server.publish()
        assert result.ok, result

    far = {"price_ticks": 290_000, "time_in_force": 2}
    for nonce, index in enumerate((1, 2, 3)):
        assert venue.server.submit(*await order_of(signer, nonce, client_order_index=index, **far))[1].ok
    submit(await signer.modify_order(market_id=0, index=1, base_lots=2_000, price_ticks=291_000, nonce=3))
    submit(await signer.cancel_order(market_id=0, index=2, nonce=4))
    assert [(1, 2_000, 291_000), (3, 1_500, 290_000)] == sorted(
        (row.client_order_index, row.initial_lots, row.price_ticks) for row in venue.engine.active_orders(ACCOUNT)
    )
    submit(await signer.update_leverage(market_id=0, initial_margin_fraction=1_000, margin_mode=0, nonce=5))
    submit(await signer.cancel_all(nonce=6))
    assert [] == venue.engine.active_orders(ACCOUNT)
    market = {"order_type": 1, "time_in_force": 0, "order_expiry_ms": 0, "price_ticks": 310_000}
    assert venue.server.submit(*await order_of(signer, 7, **market))[1].ok
    account = venue.engine.account(ACCOUNT)
    assert account is not None
    assert (1_500, 1_000) == (account.positions[0].lots, account.positions[0].initial_margin_fraction)
    assert {TxType.CREATE_ORDER, TxType.CANCEL_ALL_ORDERS} <= {row.tx_type for row in venue.engine.transactions(9)}


async def test_a_batch_of_the_sdk_is_taken_whole_or_not_at_all(
    venue: Venue, sdk: lighter.ApiClient, signer: Signer
) -> None:
    far = {"price_ticks": 290_000, "time_in_force": 2}
    signed = [await order_of(signer, nonce, client_order_index=nonce + 1, **far) for nonce in range(50)]

    def body(batch: list[tuple[int, str]]) -> dict[str, str]:
        return {
            "tx_types": json.dumps([each[0] for each in batch]),
            "tx_infos": json.dumps([each[1] for each in batch]),
        }

    transactions = lighter.TransactionApi(sdk)
    reply = await transactions.send_tx_batch(**body(signed))
    assert (200, 50) == (reply.code, len(set(reply.tx_hash)))
    assert 50 == len(venue.engine.active_orders(ACCOUNT))
    more = [await order_of(signer, 50, client_order_index=51, **far), await order_of(signer, 51, **far)]
    for batch, code in ((more, 21728), ([*signed, more[0]], 21514)):
        with pytest.raises(lighter.exceptions.BadRequestException) as caught:
            await transactions.send_tx_batch(**body(batch))
        assert f'"code":{code}' in str(caught.value.body)
    assert 50 == venue.engine.next_nonce(ACCOUNT, KEY)


async def test_every_kind_of_order_of_the_real_signer_is_understood(venue: Venue, signer: Signer) -> None:
    expiry_ms = day_ahead_ms()
    for nonce, terms in enumerate(TABLE.values()):
        fields = {
            "client_order_index": nonce + 1,
            "price_ticks": 290_000,
            "order_type": terms.order_type,
            "time_in_force": terms.time_in_force,
            "trigger_ticks": 100_000 if terms.has_trigger else 0,
            "order_expiry_ms": expiry_ms if terms.has_expiry else 0,
        }
        assert venue.server.submit(*await order_of(signer, nonce, **fields))[1].ok, terms
    rows = venue.engine.active_orders(ACCOUNT) + venue.engine.inactive_orders(ACCOUNT)
    assert set(TABLE) == {(row.order_type, row.time_in_force) for row in rows if not row.parent_order_index}


async def test_groups_and_scheduled_cancel_alls_of_the_real_signer_are_understood(venue: Venue, signer: Signer) -> None:
    expiry_ms = day_ahead_ms()

    def fields(index: int, order_type: int, ticks: int, *, child: bool = True) -> OrderFields:
        tif, trigger = (TimeInForce.IOC, ticks) if child else (TimeInForce.GTT, 0)
        lots = 0 if child else 1_500
        return OrderFields(0, index, lots, ticks, child, OrderType(order_type), tif, child, trigger, expiry_ms)

    orders = (fields(1, 0, 290_000, child=False), fields(2, 2, 280_000), fields(3, 4, 310_000))
    group = await signer.create_grouped_orders(
        grouping=Grouping.ONE_TRIGGERS_A_ONE_CANCELS_THE_OTHER,
        orders=orders,
        self_trade=SelfTrade(SelfTradeBehavior.REDUCE),
        nonce=0,
    )
    assert venue.server.submit(group.tx_type, group.tx_info)[1].ok
    assert ["parent-order", "parent-order", "na"] == [row.trigger_status for row in venue.engine.active_orders(ACCOUNT)]
    time_ms = int(time.time() * 1000) + 400_000
    later = await signer.schedule_cancel_all(time_ms=time_ms, nonce=1)
    assert venue.server.submit(later.tx_type, later.tx_info)[1].ok
    account = venue.engine.account(ACCOUNT)
    assert account is not None
    assert time_ms == account.cancel_all_time_ms
    off = await signer.abort_scheduled_cancel_all(nonce=2)
    assert venue.server.submit(off.tx_type, off.tx_info)[1].ok
    assert 0 == account.cancel_all_time_ms


async def test_the_native_client_finds_its_key_at_the_venue(venue: Venue, signer: Signer) -> None:
    await signer.check_key()


async def test_the_sdks_own_signer_client_trades(venue: Venue, api_key: tuple[str, str]) -> None:
    client = lighter.SignerClient(url=venue.url, account_index=ACCOUNT, api_private_keys={KEY: api_key[0]})
    try:
        assert await asyncio.to_thread(client.check_client) is None
        _, reply, error = await client.create_order(
            market_index=0,
            client_order_index=5,
            base_amount=1_000,
            price=299_000,
            is_ask=False,
            order_type=client.ORDER_TYPE_LIMIT,
            time_in_force=client.ORDER_TIME_IN_FORCE_POST_ONLY,
        )
        assert (None, 200) == (error, reply.code)
        _, reply, error = await client.cancel_order(market_index=0, order_index=5)
        assert (None, 200) == (error, reply.code)
        assert ["canceled"] == [order.status for order in venue.engine.inactive_orders(ACCOUNT)]
    finally:
        await client.close()


# --- models -----------------------------------------------------------------------------------------------------------


async def strictly(caller: Caller, model: Any, path: str, **params: Any) -> None:
    """Validate a body as the model declares it; the SDK's clients themselves do not."""
    model.model_validate(await caller.body(path, **params))


async def test_bodies_satisfy_the_sdks_models_strictly(venue: Venue, signer: Signer) -> None:
    assert venue.server.submit(*await order_of(signer, 0))[1].ok
    assert venue.server.submit(*await order_of(signer, 1, client_order_index=8, price_ticks=290_000))[1].ok
    assert venue.server.submit(*await order_of(signer, 2, client_order_index=9, price_ticks=290_000))[1].ok
    cancel = await signer.cancel_order(market_id=0, index=9, nonce=3)
    tx_hash, result = venue.server.submit(cancel.tx_type, cancel.tx_info)
    assert result.ok
    auth = await signer.auth_token(now_s=int(time.time()), lifetime_s=600)
    v1 = "/api/v1/"
    async with calling(venue) as caller:
        await strictly(caller, models.Status, "/")
        await strictly(caller, models.OrderBooks, v1 + "orderBooks")
        await strictly(caller, models.OrderBookDetails, v1 + "orderBookDetails")
        await strictly(caller, models.OrderBookOrders, v1 + "orderBookOrders", market_id=0, limit=250)
        await strictly(caller, models.DetailedAccounts, v1 + "account", by="index", value=ACCOUNT)
        await strictly(caller, models.AccountApiKeys, v1 + "apikeys", account_index=ACCOUNT)
        await strictly(caller, models.NextNonce, v1 + "nextNonce", account_index=ACCOUNT, api_key_index=KEY)
        await strictly(caller, models.EnrichedTx, v1 + "tx", by="hash", value=tx_hash)
        mine = {"account_index": ACCOUNT, "auth": auth}
        await strictly(caller, models.Orders, v1 + "accountActiveOrders", **mine)
        await strictly(caller, models.Orders, v1 + "accountInactiveOrders", limit=10, **mine)
        await strictly(caller, models.Orders, v1 + "accountOrders", client_order_indexes="8,9", **mine)
        await strictly(caller, models.AccountLimits, v1 + "accountLimits", **mine)
        tx_type, tx_info = await order_of(signer, 4, client_order_index=10)
        _, sent = await caller.post(v1 + "sendTx", tx_type=tx_type, tx_info=tx_info)
        models.RespSendTx.model_validate(sent)


async def test_trades_have_every_field_of_the_model_that_the_venues_own_have(venue: Venue, signer: Signer) -> None:
    """A trade captured from mainnet in 2026 lacks the same fields: fees and flags that are zero, and those of later."""
    assert venue.server.submit(*await order_of(signer, 0))[1].ok
    async with calling(venue) as caller:
        (row,) = (await caller.body("/api/v1/recentTrades", market_id=0, limit=1))["trades"]
    captured = {
        "trade_id", "trade_id_str", "tx_hash", "type", "market_id", "size", "price", "usd_amount", "ask_id", "ask_id_str",
        "bid_id", "bid_id_str", "ask_client_id", "ask_client_id_str", "bid_client_id", "bid_client_id_str",
        "ask_account_id", "bid_account_id", "is_maker_ask", "block_height", "timestamp", "taker_position_size_before",
        "taker_entry_quote_before", "taker_initial_margin_fraction_before", "maker_position_size_before",
        "maker_entry_quote_before", "maker_initial_margin_fraction_before", "transaction_time",
    }  # fmt: skip
    assert set() == captured - row.keys()
    assert set() == row.keys() - models.Trade.model_fields.keys()


# --- stream -----------------------------------------------------------------------------------------------------------


async def listen(client: Any, done: Callable[[], bool]) -> None:
    """Let the SDK's stream client run until it has seen enough."""
    running = asyncio.create_task(client.run_async())
    async with asyncio.timeout(5):
        while not done():
            await asyncio.sleep(0.005)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await client.ws.close()


async def test_the_sdks_stream_client_follows_books_and_accounts(venue: Venue) -> None:
    client = lighter.WsClient(
        ws_url=venue.url.replace("http", "ws") + "/stream",
        order_book_ids=[0],
        account_ids=[ACCOUNT],
        on_order_book_update=lambda *_: None,
        on_account_update=lambda *_: None,
    )
    changed = False

    def follows() -> bool:
        nonlocal changed
        book, account = client.order_book_states.get("0"), client.account_states.get(str(ACCOUNT))
        if not book or not account:
            return False
        if not changed:
            changed = True
            assert 30 == len(book["asks"])
            place(venue, "sell", 777, 299_999, ACCOUNT)
            return False
        bids = {(row["price"], row["size"]) for row in book["bids"]}
        return ("3000.00", "0.0223") in bids and bool(account["positions"])

    await listen(client, follows)
    assert "0.0777" == client.account_states[str(ACCOUNT)]["positions"]["0"]["position"]
    assert -1 == client.account_states[str(ACCOUNT)]["positions"]["0"]["sign"]
