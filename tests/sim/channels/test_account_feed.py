"""Account channels: snapshots, and what a command did, in the venue's order."""

from __future__ import annotations

import json

import pytest

from qubx_lighter.constants import TxType
from qubx_lighter.protocol import wire
from qubx_lighter.sim.app import Venue
from qubx_lighter.sim.model.commands import Deposit
from tests.sim.caller import ALICE, BOB, Caller, cancel_tx, create_tx, place, send_frame, token, trade

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
