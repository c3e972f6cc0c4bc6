"""Spot markets, binary options and their assets as the venue shows them over REST and the stream; commands at run time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import lighter
import pytest

from qubx_lighter.constants import Code
from qubx_lighter.sim.api.admin import PATH
from qubx_lighter.sim.app import Funded, Venue, open_venue
from qubx_lighter.sim.feeds.synthetic import MAKER_ACCOUNT
from qubx_lighter.sim.model.commands import CreateAccount, CreateMarket, DepositAsset
from qubx_lighter.sim.model.specs import MarketSpec
from tests.sim.caller import (
    ALICE,
    BOB,
    FEED,
    KEY,
    Caller,
    Frame,
    calling,
    create_tx,
    place,
    quiet_venue,
    send_frame,
    token,
)

SPOT, OPTION = 2048, 1000
FUNDS = {"ETH": 2.0, "USDC": 9_000.0}
STRANGE = MarketSpec(4000, "ODD", 2, 4, min_base_lots=50, market_type="dated")


async def body(caller: Caller, path: str, **params: Any) -> Frame:
    """Ask over REST, whatever the status."""
    return (await caller.get(path, **params))[1]


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    accounts = [Funded(f"0x{index:080x}", index, KEY, assets=FUNDS) for index in (ALICE, BOB)]
    async with quiet_venue(markets=["ETH", "ETH/USDC", "BTC100K"], accounts=accounts) as venue:
        venue.server.execute(CreateMarket(STRANGE))
        venue.server.execute(DepositAsset(FEED, 1, 10**12))
        venue.server.execute(DepositAsset(FEED, 3, 10**12))
        yield venue


async def test_every_market_is_in_order_books_and_each_type_where_clients_look_for_it(caller: Caller) -> None:
    books = (await body(caller, "/api/v1/orderBooks"))["order_books"]
    kinds = {row["market_id"]: row["market_type"] for row in books}
    assert {0: "perp", SPOT: "spot", OPTION: "binary_options", 4000: "dated"} == kinds
    details = await body(caller, "/api/v1/orderBookDetails")
    assert [0, 4000] == [row["market_id"] for row in details["order_book_details"]]
    (spot,) = details["spot_order_book_details"]
    assert ("ETH/USDC", 1, 3) == (spot["symbol"], spot["base_asset_id"], spot["quote_asset_id"])
    assert not spot.keys() & {"market_config", "default_initial_margin_fraction", "mark_price"}
    only = await body(caller, "/api/v1/orderBookDetails", filter="spot")
    assert ([], [SPOT]) == (only["order_book_details"], [r["market_id"] for r in only["spot_order_book_details"]])
    (event,) = (await body(caller, "/api/v1/events"))["events"]
    assert [OPTION] == [row["market_id"] for row in event["order_books"]]
    assets = {row["symbol"]: row for row in (await body(caller, "/api/v1/assetDetails"))["asset_details"]}
    assert {"ETH": "10004.00000000", "USDC": "1018000.000000"} == {
        symbol: row["total_supplied"] for symbol, row in assets.items()
    }


async def test_stats_of_perpetuals_and_of_spot_are_apart_and_others_are_in_neither(caller: Caller) -> None:
    assert ["0"] == list((await caller.subscribe("market_stats/all"))["market_stats"])
    assert [str(SPOT)] == list((await caller.subscribe("spot_market_stats/all"))["spot_market_stats"])
    one = await caller.subscribe(f"spot_market_stats/{SPOT}")
    assert ("subscribed/spot_market_stats", "ETH/USDC") == (one["type"], one["spot_market_stats"]["symbol"])
    for channel in (
        f"market_stats/{SPOT}",
        "spot_market_stats/0",
        f"market_stats/{OPTION}",
        f"mark_price_candle/{SPOT}/1m",
    ):
        refused = await caller.ask(type="subscribe", channel=channel)
        assert Code.INVALID_CHANNEL == refused["error"]["code"], channel


async def test_a_spot_fill_is_told_on_every_channel_that_is_about_it(venue: Venue, caller: Caller) -> None:
    place(venue, "sell", 5_000, 300_000, market_id=SPOT)
    balances = await caller.subscribe(f"account_all_assets/{ALICE}", auth=token())
    assert {"ETH": "2.00000000", "USDC": "9000.000000"} == {
        row["symbol"]: row["balance"] for row in balances["assets"].values()
    }
    prices = await caller.subscribe(f"account_spot_avg_entry_prices/{ALICE}", auth=token())
    assert {} == prices["avg_entry_prices"]
    await caller.subscribe(f"account_all/{ALICE}")
    await caller.subscribe(f"account_all_trades/{ALICE}")
    await caller.subscribe(f"trade/{SPOT}")
    await caller.write(**send_frame(create_tx(venue, "buy", 5_000, 300_000, MarketIndex=SPOT)))
    frames = {}
    for _ in range(7):
        frame = await caller.read()
        frames[frame["type"] + ("/assets" if frame.get("assets") else "")] = frame
    assert [
        "jsonapi/sendtx",
        "update/account_all",
        "update/account_all/assets",
        "update/account_all_assets/assets",
        "update/account_all_trades",
        "update/account_spot_avg_entry_prices",
        "update/trade",
    ] == sorted(frames)
    assert "spot" == frames["update/trade"]["trades"][0]["market_kind"]
    assets = frames["update/account_all_assets/assets"]["assets"]
    assert {"ETH": "2.49990000", "USDC": "7500.000000"} == {row["symbol"]: row["balance"] for row in assets.values()}
    entry = frames["update/account_spot_avg_entry_prices"]["avg_entry_prices"]["1"]
    assert ("3000.600120", "0.49990000") == (entry["avg_entry_price"], entry["asset_size"])


async def test_assets_take_a_token_and_are_rows_of_the_account(venue: Venue, caller: Caller) -> None:
    refused = await caller.ask(type="subscribe", channel=f"account_all_assets/{ALICE}")
    assert Code.INVALID_AUTH == refused["error"]["code"]
    place(venue, "buy", 1_000, 290_000, ALICE, market_id=SPOT)
    (account,) = (await body(caller, "/api/v1/account", by="index", value=str(ALICE)))["accounts"]
    usdc = next(row for row in account["assets"] if row["symbol"] == "USDC")
    assert ("9000.000000", "290.000000", "10000.000000") == (
        usdc["balance"],
        usdc["locked_balance"],
        usdc["margin_balance"],
    )


async def test_rows_can_be_asked_for_by_type_of_market(venue: Venue, caller: Caller) -> None:
    for market_id in (0, SPOT):
        place(venue, "sell", 1_000, 300_000, market_id=market_id)
        place(venue, "buy", 1_000, 300_000, ALICE, market_id=market_id)
        place(venue, "buy", 1_000, 290_000, ALICE, market_id=market_id)
    about = {"account_index": ALICE, "auth": token()}
    for kind, market_id in (("perp", 0), ("spot", SPOT)):
        active = await body(caller, "/api/v1/accountActiveOrders", market_type=kind, **about)
        ended = await body(caller, "/api/v1/accountInactiveOrders", market_type=kind, limit=10, **about)
        mine = await body(caller, "/api/v1/trades", sort_by="trade_id", market_type=kind, limit=10, **about)
        all_ = await body(caller, "/api/v1/trades", sort_by="trade_id", market_type=kind, limit=10)
        assert [[market_id]] * 4 == [
            [row.get("market_index", row.get("market_id")) for row in rows]
            for rows in (active["orders"], ended["orders"], mine["trades"], all_["trades"])
        ]


async def test_candles_of_spot_are_there_and_funding_is_not(venue: Venue, caller: Caller) -> None:
    place(venue, "sell", 1_000, 300_000, market_id=SPOT)
    place(venue, "buy", 1_000, 300_000, ALICE, market_id=SPOT)
    end = venue.server.now() // 1000
    window = {"start_timestamp": end - 3_600_000, "end_timestamp": end, "count_back": 60}
    candles = await body(caller, "/api/v1/candles", market_id=SPOT, resolution="1m", **window)
    assert (3000.0, 0.1) == (candles["c"][-1]["c"], candles["c"][-1]["v"])
    for path, resolution in (("fundings", "1h"), ("markPriceCandles", "1m")):
        refused = await body(caller, f"/api/v1/{path}", market_id=SPOT, resolution=resolution, **window)
        assert 21619 == refused["code"]


async def test_the_sdk_reads_markets_assets_and_events(venue: Venue) -> None:
    async with lighter.ApiClient(lighter.Configuration(host=venue.url)) as client:
        orders = lighter.OrderApi(client)
        details = await orders.order_book_details()
        assert ["ETH/USDC"] == [row.symbol for row in details.spot_order_book_details]
        assert {"ETH", "USDC"} == {asset.symbol for asset in (await orders.asset_details()).asset_details}
        events = await lighter.EventApi(client).events()
        assert [OPTION] == [row.market_id for event in events.events for row in event.order_books]


# --- commands at run time ---------------------------------------------------------------------------------------------


async def test_a_command_at_run_time_is_carried_out_and_told(venue: Venue, caller: Caller) -> None:
    first = await caller.subscribe(f"account_all_assets/{BOB}", auth=token(BOB))
    assert "9000.000000" == first["assets"]["3"]["balance"]
    deposit = {"type": "DepositAsset", "account_index": BOB, "asset_id": 3, "units": 1_000_000}
    async with caller.session.post(venue.url + PATH, json=deposit) as response:
        assert (200, {"code": 200, "order_index": 0}) == (response.status, await response.json())
    assert "9001.000000" == (await caller.read())["assets"]["3"]["balance"]
    status = {"type": "SetMarketStatus", "market_id": 0, "status": "inactive"}
    async with caller.session.post(venue.url + PATH, json=status) as response:
        assert 200 == response.status
    assert (
        "inactive" == (await body(caller, "/api/v1/orderBookDetails", market_id=0))["order_book_details"][0]["status"]
    )
    async with caller.session.post(venue.url + PATH, json={"type": "DelistMarket", "market_id": 0}) as response:
        assert 200 == response.status
    assert Code.INVALID_MARKET == (await body(caller, "/api/v1/orderBookDetails", market_id=0))["code"]
    refused = await caller.ask(type="subscribe", channel="order_book/0")
    assert Code.INVALID_CHANNEL == refused["error"]["code"]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({"data": b"{}", "headers": {"content-type": "text/plain"}}, Code.INVALID_PARAM),
        ({"json": {"type": "Nonsense"}}, Code.INVALID_PARAM),
        ({"json": {"type": "DelistMarket", "market_id": 77}}, Code.INVALID_MARKET),
    ],
)
async def test_what_is_no_command_or_is_refused_changes_nothing(
    venue: Venue, caller: Caller, sent: dict[str, Any], code: int
) -> None:
    before = dict(venue.engine.markets)
    async with caller.session.post(venue.url + PATH, **sent) as response:
        assert (400, code) == (response.status, (await response.json())["code"])
    assert before == venue.engine.markets


async def test_the_synthetic_market_moves_spot_too() -> None:
    async with open_venue(markets=["ETH/USDC", "BTC100K"], accounts=[Funded(account_index=ALICE)]) as venue:
        assert [SPOT, OPTION] == list(venue.engine.markets)
        maker = venue.engine.account(MAKER_ACCOUNT)
        assert maker is not None
        assert 0 < maker.assets[1].locked < maker.assets[1].balance
        async with calling(venue) as caller:
            await caller.subscribe(f"order_book/{SPOT}")
            frame = await caller.read()
            assert "update/order_book" == frame["type"]
            asks = [ticks for ticks, _ in venue.engine.book(OPTION).levels(is_ask=True)]
            assert 25 == len(asks)
            assert max(asks) < 100
        assert venue.server.execute(CreateAccount(5, "0x5", 1)).ok
