"""Trades on the stream: the newest first, those of one order together."""

from __future__ import annotations

import json

from qubx_lighter.protocol import wire
from qubx_lighter.sim.app import Venue
from tests.sim.caller import ALICE, Caller, place, trade


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
