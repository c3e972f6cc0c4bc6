"""Liquidation and deleveraging: when, at what price, at whose cost, and how clients hear of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from fractions import Fraction
from math import ceil
from random import Random
from typing import Any

import pytest

from qubx_lighter.sim.accounts.assets import KNOWN
from qubx_lighter.sim.accounts.margin import Health
from qubx_lighter.sim.app import Venue
from qubx_lighter.sim.model.commands import (
    AdvanceTime,
    CreateAccount,
    CreateAsset,
    CreateMarket,
    Deposit,
    DepositAsset,
    PlaceOrder,
    SettleFunding,
)
from qubx_lighter.sim.model.events import NotificationSent, OrderChanged, Traded
from qubx_lighter.sim.model.records import INSURANCE_FUND, Order, Trade
from qubx_lighter.sim.model.specs import COLLATERAL_ASSET, MarketSpec
from tests.sim.caller import Caller, quiet_venue, token
from tests.sim.desk import ALICE, BOB, BTC, ETH, FEED, FUNDS, OTHER_FEED, Desk
from tests.sim.money import everything_micro

SPOT = MarketSpec(
    2048,
    "ETH/USDC",
    2,
    4,
    min_base_lots=50,
    market_type="spot",
    base_asset_id=1,
    quote_asset_id=COLLATERAL_ASSET,
)
USDC = 1_000_000
OTHER = 51
SIX_ETH = 60_000  # lots: 18,000 at 3,000, on 1,000 less a fee of 3.6
COLLATERAL = FUNDS - 3_600_000
BELOW_MAINTENANCE = 286_800  # 204.4 left where 206.496 are required
BANKRUPT = 280_000  # 203.6 less than nothing left


@pytest.fixture
def desk() -> Desk:
    """Alice is long 6 ETH from 3,000."""
    desk = Desk()
    trade(desk, "buy", SIX_ETH)
    desk.engine.drain()
    return desk


def trade(desk: Desk, side: str, lots: int, price: int = 300_000, account: int = ALICE, **fields: Any) -> None:
    desk.place(FEED, "sell" if side == "buy" else "buy", lots, price)
    assert "filled" == desk.order(desk.ioc(side, lots, price, account=account, **fields)).status


def mark(desk: Desk, price: int, market_id: int = 0) -> None:
    """Let the feed trade with itself, beyond what rests."""
    desk.place(FEED, "sell", 1_000, price, market_id=market_id)
    desk.place(OTHER_FEED, "buy", 1_000, price, market_id=market_id, time_in_force=0)


def liquidations(desk: Desk) -> list[Order]:
    return [order for order in desk.engine.inactive_orders(ALICE) if order.order_type == 8]


def forced(desk: Desk, kind: str) -> list[Trade]:
    return [each for each in desk.engine.trades(account_index=ALICE) if each.kind == kind]


def zero_price(value: Fraction, required: Fraction, price: int, sign: int = 1) -> Fraction:
    """Give the price, in ticks, at which a fill keeps value and maintenance margin (1.2 %) in proportion."""
    return price * (1 - sign * Fraction(12, 1000) * value / required)


# --- in the book -----------------------------------------------------------------------------------------------------


def test_at_the_maintenance_margin_nothing_happens_and_a_tick_below_the_position_is_closed(desk: Desk) -> None:
    desk.place(FEED, "buy", 100_000, 286_000)
    limit = desk.engine.liquidation_price_ticks(ALICE, 0)
    mark(desk, limit)
    assert (SIX_ETH, []) == (desk.lots(), liquidations(desk))
    mark(desk, limit - 1)
    assert 0 == desk.lots()


def test_the_order_closes_the_position_at_the_zero_price_or_better(desk: Desk) -> None:
    desk.place(FEED, "buy", 100_000, 286_000)
    mark(desk, BELOW_MAINTENANCE)
    (order,) = liquidations(desk)
    expected = zero_price(Fraction(204_400_000), Fraction(206_496_000), BELOW_MAINTENANCE)
    assert (ceil(expected), True, True, 0) == (order.price_ticks, order.is_ask, order.reduce_only, order.time_in_force)
    assert ("filled", SIX_ETH, 0, 0) == (order.status, order.filled_lots, order.client_order_index, desk.lots())
    (row,) = forced(desk, "liquidation")
    assert (286_000, ALICE, FEED, False) == (row.price_ticks, row.ask_account, row.bid_account, row.is_maker_ask)


@pytest.mark.parametrize("price", [286_000, 286_700])
def test_the_fee_is_what_was_better_than_the_zero_price_but_at_most_one_percent(desk: Desk, price: int) -> None:
    desk.place(FEED, "buy", 100_000, price)
    before = desk.engine.fees_micro
    mark(desk, BELOW_MAINTENANCE)
    (order,), (row,) = liquidations(desk), forced(desk, "liquidation")
    better = (price - order.price_ticks) * 10**6 // price
    assert min(better, 10_000) == row.taker_fee_ppm
    assert (price == 286_700) == (row.taker_fee_ppm == 10_000)
    fee = (row.quote_micro * row.taker_fee_ppm + 500_000) // 10**6
    assert COLLATERAL + (price - 300_000) * SIX_ETH - fee == desk.account().collateral_micro
    fund = desk.account(INSURANCE_FUND)
    assert (3, fee, before) == (fund.account_type, fund.collateral_micro, desk.engine.fees_micro)


def test_a_short_position_is_bought_back(desk: Desk) -> None:
    trade(desk, "sell", SIX_ETH, account=BOB)
    desk.place(FEED, "sell", 100_000, 314_000)
    mark(desk, 313_000)  # 996.4 - 780 = 216.4 of 225.36
    (order,) = [each for each in desk.engine.inactive_orders(BOB) if each.order_type == 8]
    expected = zero_price(Fraction(216_400_000), Fraction(225_360_000), 313_000, -1)
    assert (int(expected), False, "filled") == (order.price_ticks, order.is_ask, order.status)
    assert 0 == desk.lots(BOB)


def test_open_orders_end_first(desk: Desk) -> None:
    bid, ask, other = (
        desk.order(desk.create(side, 100, price, MarketIndex=market_id))
        for side, price, market_id in (("buy", 280_000, 0), ("sell", 310_000, 0), ("buy", 900_000, 1))
    )
    desk.place(FEED, "buy", 100_000, 286_000)
    mark(desk, BELOW_MAINTENANCE)
    assert ["canceled-liquidation"] * 3 == [order.status for order in (bid, ask, other)]
    assert [] == desk.engine.active_orders(ALICE)


def test_what_the_book_does_not_take_stays_above_the_close_out_margin(desk: Desk) -> None:
    desk.place(FEED, "buy", 20_000, 286_000)
    desk.place(FEED, "buy", 20_000, 280_000)  # below the zero price
    mark(desk, BELOW_MAINTENANCE)
    (order,) = liquidations(desk)
    assert ("canceled", 20_000, 40_000) == (order.status, order.filled_lots, desk.lots())
    assert Health.PARTIAL_LIQUIDATION is desk.engine.cross_risk(ALICE).health
    assert [] == forced(desk, "deleverage")
    assert 21112 == desk.create("buy", 100, 280_000).code
    assert 21112 == desk.create("sell", 100, 290_000).code
    desk.now += 1_500_000
    desk.apply(AdvanceTime())
    assert 1 == len(liquidations(desk)), "no order without anybody to trade with"
    desk.place(FEED, "buy", 100_000, 286_500)
    assert (2, 0) == (len(liquidations(desk)), desk.lots())


def test_only_as_much_is_closed_as_must_be() -> None:
    desk = Desk(ETH, BTC)
    trade(desk, "buy", 50_000)  # 15,000
    desk.place(FEED, "sell", 3_000, 1_000_000, market_id=1)
    desk.ioc("buy", 3_000, 1_000_000, MarketIndex=1)  # 3,000
    desk.place(FEED, "buy", 100_000, 284_100)
    desk.place(FEED, "buy", 100_000, 990_000, market_id=1)
    mark(desk, 284_200)  # 206.4 of 206.52
    assert (0, 3_000) == (desk.lots(), desk.lots(market_id=1)), "the largest first, then there is enough"
    assert desk.engine.cross_risk(ALICE).health < Health.PARTIAL_LIQUIDATION


def test_funding_can_bring_an_account_below() -> None:
    desk = Desk()
    trade(desk, "buy", SIX_ETH)
    desk.place(FEED, "buy", 100_000, 299_900)
    assert desk.apply(SettleFunding(0, 45_000)).ok  # 4.5 % of 18,000: 810
    assert 0 == desk.lots()


def test_participants_of_the_feed_are_never_liquidated() -> None:
    desk = Desk()
    desk.place(OTHER_FEED, "sell", 1_000, 300_000)
    desk.place(FEED, "buy", 1_000, 300_000)
    desk.account(FEED).collateral_micro = USDC
    desk.place(OTHER_FEED, "buy", 1_000, 100_000)
    assert "filled" == desk.order(desk.ioc("sell", 1_000, 100_000)).status
    assert Health.BANKRUPTCY is desk.engine.cross_risk(FEED).health
    assert 1_000 == desk.lots(FEED)


# --- deleveraging ----------------------------------------------------------------------------------------------------


def test_a_bankrupt_position_is_closed_at_the_zero_price_against_the_other_side(desk: Desk) -> None:
    before = everything_micro(desk.engine)
    mark(desk, BANKRUPT)
    (row,) = forced(desk, "deleverage")
    expected = ceil(zero_price(Fraction(-203_600_000), Fraction(201_600_000), BANKRUPT))
    assert (expected, SIX_ETH, ALICE, FEED) == (row.price_ticks, row.lots, row.ask_account, row.bid_account)
    assert (0, 0, 0, 0) == (row.ask_order_index, row.bid_order_index, row.taker_fee_ppm, row.maker_fee_ppm)
    assert expected > BANKRUPT, "who gained pays what is missing"
    assert 0 == desk.lots()
    assert 0 <= desk.account().collateral_micro < SIX_ETH, "nothing is left but what rounding to a tick did"
    assert (BANKRUPT, 1_000) == (desk.engine.mark_price_ticks(0), desk.engine.open_interest_lots(0))
    assert before == everything_micro(desk.engine)


def test_below_the_close_out_margin_the_book_comes_first(desk: Desk) -> None:
    desk.place(FEED, "buy", 10_000, 284_900)
    mark(desk, 285_000)  # 96.4 of a close-out margin of 136.8
    (order,), (taken,), (rest,) = liquidations(desk), forced(desk, "liquidation"), forced(desk, "deleverage")
    assert (10_000, 50_000, 0) == (taken.lots, rest.lots, desk.lots())
    assert order.price_ticks <= rest.price_ticks < 285_000


def test_who_gained_most_for_what_backs_it_is_deleveraged_first(desk: Desk) -> None:
    desk.apply(Deposit(BOB, -500 * USDC))
    trade(desk, "sell", 10_000, 300_000, account=BOB)
    mark(desk, BANKRUPT)
    first, second = sorted(forced(desk, "deleverage"), key=lambda row: row.trade_id)
    assert ((BOB, 10_000), (FEED, 50_000)) == ((first.bid_account, first.lots), (second.bid_account, second.lots))
    assert 0 == desk.lots(BOB)
    price = first.price_ticks
    assert 500 * USDC - 600_000 + (300_000 - price) * 10_000 == desk.account(BOB).collateral_micro


def test_what_is_missing_to_nothing_the_insurance_fund_pays(desk: Desk) -> None:
    row = desk.account().positions[0]
    desk.engine._sequencer.forced.deleverage(
        desk.account(), desk.account(FEED), desk.engine._sequencer.state.markets[0], SIX_ETH, 200_000
    )
    missing = desk.account().collateral_micro
    assert missing < 0
    before = everything_micro(desk.engine)
    desk.engine._sequencer.forced.cover(desk.account(), [row])
    assert (0, missing) == (desk.account().collateral_micro, desk.account(INSURANCE_FUND).collateral_micro)
    assert before == everything_micro(desk.engine)


# --- isolated --------------------------------------------------------------------------------------------------------


@pytest.fixture
def isolated() -> Desk:
    """Alice is long 1 ETH isolated at 10 %, long 0.01 BTC cross, with an order in each market."""
    desk = Desk()
    assert desk.leverage(1000, MarginMode=1).ok
    trade(desk, "buy", 10_000)
    desk.place(FEED, "sell", 1_000, 1_000_000, market_id=1)
    desk.ioc("buy", 1_000, 1_000_000, MarketIndex=1)
    assert desk.create("buy", 100, 250_000).ok
    assert desk.create("buy", 100, 900_000, MarketIndex=1).ok
    return desk


def test_an_isolated_position_is_liquidated_alone(isolated: Desk) -> None:
    collateral = isolated.account().collateral_micro
    isolated.place(FEED, "buy", 100_000, 272_000)
    mark(isolated, 273_200)  # 32 of 32.784
    assert (0, 1_000) == (isolated.lots(), isolated.lots(market_id=1))
    assert [1] == [order.market_id for order in isolated.engine.active_orders(ALICE)]
    (row,) = forced(isolated, "liquidation")
    fee = (row.quote_micro * row.taker_fee_ppm + 500_000) // 10**6
    left = 300 * USDC - 280 * USDC - fee
    assert (collateral + left, 0) == (
        isolated.account().collateral_micro,
        isolated.account().positions[0].allocated_micro,
    )
    assert left > 0


def test_a_bankrupt_isolated_position_costs_no_more_than_its_margin(isolated: Desk) -> None:
    collateral = isolated.account().collateral_micro
    mark(isolated, 260_000)
    assert (0, 0) == (isolated.lots(), isolated.account().positions[0].allocated_micro)
    assert 0 <= isolated.account().collateral_micro - collateral < 10_000
    (row,) = forced(isolated, "deleverage")
    assert row.price_ticks == 270_000  # 300 of margin on 1 ETH from 3,000


def test_cross_liquidation_leaves_isolated_positions_alone() -> None:
    desk = Desk()
    assert desk.leverage(1000, MarginMode=1, MarketIndex=1).ok
    desk.place(FEED, "sell", 1_000, 1_000_000, market_id=1)
    desk.ioc("buy", 1_000, 1_000_000, MarketIndex=1)  # takes 100
    assert desk.create("buy", 100, 900_000, MarketIndex=1).ok
    trade(desk, "buy", 50_000)
    mark(desk, 270_000)
    assert (0, 1_000) == (desk.lots(), desk.lots(market_id=1))
    assert [1] == [order.market_id for order in desk.engine.active_orders(ALICE)]
    assert 100 * USDC == desk.account().positions[1].allocated_micro


def test_spot_orders_stay() -> None:
    desk = Desk(ETH, BTC)
    assert desk.apply(CreateAsset(KNOWN[1])).ok
    assert desk.apply(CreateMarket(SPOT)).ok
    assert desk.apply(DepositAsset(ALICE, COLLATERAL_ASSET, 500 * USDC)).ok
    trade(desk, "buy", SIX_ETH)
    spot = desk.order(desk.create("buy", 1_000, 250_000, MarketIndex=SPOT.market_id))
    perpetual = desk.order(desk.create("buy", 100, 250_000))
    mark(desk, BANKRUPT)
    assert ("open", "canceled-liquidation", 0) == (spot.status, perpetual.status, desk.lots())


# --- a long random run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_liquidations_create_and_lose_nothing(seed: int) -> None:
    print("seed", seed)
    random, desk = Random(seed), Desk(ETH, BTC, seed=seed)
    for one in (ALICE, BOB):
        if random.random() < 0.5:
            assert desk.leverage(500, account=one, MarginMode=1).ok
        assert desk.leverage(200, account=one, MarketIndex=1).ok
    before, prices, kinds = everything_micro(desk.engine), {0: 300_000, 1: 1_000_000}, set()
    deposits = 0
    for step in range(1_500):
        market_id = random.randrange(2)
        prices[market_id] = max(1_000, int(prices[market_id] * random.uniform(0.97, 1.031)))
        price, size = prices[market_id], random.choice([500, 20_000, 200_000])
        desk.now += random.choice([1_000, 2_000_000, 900_000_000])
        for maker in (FEED, OTHER_FEED):
            desk.apply(PlaceOrder(maker, market_id, random.random() < 0.5, size, price))
        one = random.choice([ALICE, BOB])
        desk.ioc(random.choice(["buy", "sell"]), random.randint(50, 50_000), price, account=one, MarketIndex=market_id)
        if random.random() < 0.2:
            desk.create(
                random.choice(["buy", "sell"]), random.randint(50, 9_000), price, account=one, MarketIndex=market_id
            )
        if desk.account(one).collateral_micro < USDC:
            desk.apply(Deposit(one, 500 * USDC))
            deposits += 500 * USDC
        kinds |= {event.trade.kind for event in desk.events(Traded)}
        assert before + deposits == everything_micro(desk.engine), step
        for account in map(desk.account, (ALICE, BOB)):
            index = account.account_index
            assert account.collateral_micro >= 0, step
            assert desk.engine.cross_risk(index).health <= Health.PARTIAL_LIQUIDATION, step
            for risk in desk.engine.isolated_risks(index).values():
                assert risk.health <= Health.PARTIAL_LIQUIDATION, step
        for each in desk.engine.markets:
            assert 0 == sum(account.positions[each].lots for account in desk.engine.accounts() if account.holds(each))
    assert {"trade", "liquidation", "deleverage"} <= kinds


# --- as clients see it -----------------------------------------------------------------------------------------------


def test_orders_and_notifications_are_told(desk: Desk) -> None:
    desk.place(FEED, "buy", 30_000, 286_000)
    desk.place(FEED, "buy", 30_000, 285_000)
    desk.engine.drain()
    mark(desk, BELOW_MAINTENANCE)
    events = desk.engine.drain()
    (told,) = [event.notification for event in events if isinstance(event, NotificationSent)]
    assert (ALICE, "liquidation", 0, True, SIX_ETH) == (
        told.account_index,
        told.kind,
        told.market_id,
        told.is_ask,
        told.lots,
    )
    assert 30_000 * (286_000 + 285_000) == told.quote_micro
    orders = [event.order for event in events if isinstance(event, OrderChanged)]
    assert [(8, "filled")] == [(order.order_type, order.status) for order in orders]


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    """Somebody is long 60 ETH on 10,000; 40 of them can be sold at 2,860."""
    async with quiet_venue() as venue:
        venue.server.execute(PlaceOrder(50, 0, True, 600_000, 300_000))
        venue.server.execute(PlaceOrder(ALICE, 0, False, 600_000, 300_000, time_in_force=0))
        venue.server.execute(CreateAccount(OTHER, "0xother", 10**15, fee_free=True))
        venue.server.execute(PlaceOrder(OTHER, 0, False, 400_000, 286_000))
        yield venue


def fall(venue: Venue, price: int) -> None:
    """Let the mark price fall: at 2,861 to liquidation, at 2,800 to bankruptcy."""
    venue.server.execute(PlaceOrder(50, 0, True, 1_000, price))
    venue.server.execute(PlaceOrder(BOB, 0, False, 1_000, price, time_in_force=0))


async def test_the_stream_tells_liquidations_apart_from_trades(venue: Venue, caller: Caller) -> None:
    await caller.subscribe("trade/0")
    fall(venue, 286_100)
    fall(venue, 280_000)
    frames = []
    while not frames or "deleverage" not in {row["type"] for row in frames[-1]["liquidation_trades"] or []}:
        frames.append(await caller.read_until("update/trade"))
    forced_rows = [row for frame in frames for row in frame["liquidation_trades"] or []]
    assert {"trade"} == {row["type"] for frame in frames for row in frame["trades"]}
    assert {"liquidation", "deleverage"} == {row["type"] for row in forced_rows}
    ids = {row["trade_id"] for frame in frames for row in frame["trades"]}
    assert not ids & {row["trade_id"] for row in forced_rows}
    await caller.write(type="unsubscribe", channel="trade/0")
    await caller.write(type="subscribe", channel="trade/0")
    snapshot = await caller.read_until("subscribed/trade")
    assert sorted(row["trade_id"] for row in forced_rows) == sorted(
        row["trade_id"] for row in snapshot["liquidation_trades"]
    )
    assert {"trade"} == {row["type"] for row in snapshot["trades"]}


async def test_the_account_hears_of_its_liquidation_on_every_channel(venue: Venue, caller: Caller) -> None:
    for channel in ("account_all_orders", "account_all_trades", "account_all_positions", "notification"):
        await caller.subscribe(f"{channel}/{ALICE}", auth=token())
    fall(venue, 286_100)
    orders = (await caller.read_until("update/account_all_orders"))["orders"]["0"]
    assert [("liquidation", "canceled", 0)] == [
        (row["type"], row["status"], row["client_order_index"]) for row in orders
    ]
    trades = (await caller.read_until("update/account_all_trades"))["trades"]["0"]
    assert {"liquidation", "deleverage"} >= {row["type"] for row in trades}
    positions = (await caller.read_until("update/account_all_positions"))["positions"]
    assert f"{venue.engine.account(ALICE).positions[0].lots / 10_000:.4f}" == positions["0"]["position"]  # type: ignore[union-attr]
    frame = await caller.read_until("update/notification")
    notification = frame["notifs"][0]
    assert (f"notification:{ALICE}", "liquidation", ALICE, False, None) == (
        frame["channel"],
        *(notification[name] for name in ("kind", "account_index", "ack", "acked_at")),
    )
    content = notification["content"]
    assert (notification["id"], True, "40.0000", 0, "114400.000000", "2860.00") == tuple(
        content[name] for name in ("id", "is_ask", "size", "market_index", "usdc_amount", "avg_price")
    )
    assert {"price", "timestamp"} < content.keys()


async def test_a_deleverage_is_told_to_both_sides(venue: Venue, caller: Caller) -> None:
    venue.server.execute(PlaceOrder(50, 0, False, 5_000, 299_000))
    venue.server.execute(PlaceOrder(BOB, 0, True, 5_000, 299_000, time_in_force=0))
    await caller.subscribe(f"notification/{BOB}", auth=token(BOB))
    fall(venue, 286_100)
    fall(venue, 280_000)
    content = (await caller.read_until("update/notification"))["notifs"][0]["content"]
    assert ("0.4000", 0) == (content["size"], content["market_index"]), "what was left of 0.5 after a purchase"
    assert content.keys() == {"id", "usdc_amount", "size", "market_index", "settlement_price", "timestamp"}


async def test_notifications_are_private_and_can_be_acknowledged(venue: Venue, caller: Caller) -> None:
    refused = await caller.subscribe(f"notification/{ALICE}")
    assert 20013 == refused["error"]["code"]
    fall(venue, 286_100)
    snapshot = await caller.subscribe(f"notification/{ALICE}", auth=token())
    first = snapshot["notifs"][0]
    fields = {"notif_id": first["id"], "account_index": ALICE}
    assert 401 == (await caller.post("/api/v1/notification/ack", **fields))[0]
    assert (200, {"code": 200}) == await caller.post("/api/v1/notification/ack", **fields, auth=token())
    status, body = await caller.post("/api/v1/notification/ack", **(fields | {"notif_id": "notif_0"}), auth=token())
    assert (400, 29404) == (status, body["code"])
    await caller.ask(type="unsubscribe", channel=f"notification/{ALICE}")
    again = (await caller.subscribe(f"notification/{ALICE}", auth=token()))["notifs"][0]
    assert (first["id"], True) == (again["id"], again["ack"])
    assert again["acked_at"] == again["updated_at"] != first["acked_at"]


async def test_liquidations_are_listed_with_how_the_account_stood(venue: Venue, caller: Caller) -> None:
    path = "/api/v1/liquidations"
    assert [] == (await caller.body(path, account_index=ALICE, limit=5, auth=token()))["liquidations"]
    fall(venue, 286_100)
    fall(venue, 280_000)
    rows = (await caller.body(path, account_index=ALICE, limit=100, auth=token()))["liquidations"]
    assert {"partial", "deleverage"} == {row["type"] for row in rows}
    assert sorted((row["id"] for row in rows), reverse=True) == [row["id"] for row in rows]
    first = rows[-1]
    assert ("partial", 0, "2860.00", "40.0000", ALICE, OTHER) == (
        first["type"],
        first["market_id"],
        first["trade"]["price"],
        first["trade"]["size"],
        first["trade"]["ask_account_id"],
        first["trade"]["bid_account_id"],
    )
    info = first["info"]
    assert [("60.0000", "171660.000000", "-8340.000000")] == [
        (row["position"], row["position_value"], row["unrealized_pnl"]) for row in info["positions"]
    ]
    assert {"0": 2861.0} == info["mark_prices"]
    before = info["risk_info_before"]["cross_risk_parameters"]
    assert ("9964.000000", "1624.000000", "8583.000000", "2059.920000", "1373.280000") == tuple(
        before[name]
        for name in (
            "collateral",
            "total_account_value",
            "initial_margin_req",
            "maintenance_margin_req",
            "close_out_margin_req",
        )
    )
    assert [] == info["risk_info_before"]["isolated_risk_parameters"]
    page = await caller.body(path, account_index=ALICE, limit=1, auth=token())
    rest = await caller.body(path, account_index=ALICE, limit=100, cursor=page["next_cursor"], auth=token())
    assert [row["id"] for row in rows] == [row["id"] for row in page["liquidations"] + rest["liquidations"]]
    assert [] == (await caller.body(path, account_index=ALICE, limit=5, market_id=1, auth=token()))["liquidations"]
    status, body = await caller.get(path, account_index=ALICE, limit=5)
    assert (401, 20013) == (status, body["code"])


async def test_trades_can_be_asked_for_by_their_kind(venue: Venue, caller: Caller) -> None:
    fall(venue, 286_100)
    fall(venue, 280_000)

    async def kinds(**params: Any) -> list[str]:
        body = await caller.body("/api/v1/trades", sort_by="trade_id", limit=100, **params)
        return [row["type"] for row in body["trades"]]

    everything = await kinds()
    assert {"trade", "liquidation", "deleverage"} == set(everything)
    for kind in ("trade", "liquidation", "deleverage"):
        assert [kind] * everything.count(kind) == await kinds(type=kind)
        assert set(await kinds(type=kind, account_index=ALICE, auth=token())) == {kind}
    assert everything == await kinds(type="all")
    status, body = await caller.get("/api/v1/trades", sort_by="trade_id", limit=5, type="x")
    assert (400, 20001) == (status, body["code"])
