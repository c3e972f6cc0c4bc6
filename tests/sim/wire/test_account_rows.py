"""Positions and figures on the wire, and what the connector's own structs read from them."""

from __future__ import annotations

import msgspec

from qubx_lighter.protocol import wire
from qubx_lighter.sim.wire import account_rows
from tests.sim.desk import FEED, Desk


def test_a_position_row_rounds_the_entry_price_to_the_grid_and_keeps_flat_rows() -> None:
    desk = Desk()
    desk.place(FEED, "buy", 200, 300_000)
    desk.place(FEED, "buy", 100, 299_999)
    desk.create("sell", 300, 299_999)
    account = desk.account()
    text = account_rows.position_row(desk.engine, account, account.positions[0])
    assert (-1, "0.0300", "3000.00") == (text["sign"], text["position"], text["avg_entry_price"])  # 2999.99667
    assert "89.999700" == text["position_value"]
    assert "0.000200" == text["unrealized_pnl"]
    desk.place(FEED, "sell", 300, 300_001)
    desk.create("buy", 300, 300_001)
    flat = wire.decode(wire.PositionRow, msgspec.json.encode(account_rows.position_rows(desk.engine, account)["0"]))
    assert (1, 0.0, 0.0, 0.0) == (flat.sign, flat.position, flat.avg_entry_price, flat.unrealized_pnl)


def test_figures_are_those_of_a_captured_account() -> None:
    """1 HYPE sold short at 40.1342, marked at 40.1303, 20 % margin: the frame of 2025-10-12, but for the later fields."""
    from qubx_lighter.sim.model.commands import CreateAccount, PlaceOrder
    from qubx_lighter.sim.model.specs import MarketSpec

    hype = MarketSpec(24, "HYPE", 4, 2, 50, default_initial_margin_fraction=2000, maker_fee_ppm=0, taker_fee_ppm=0)
    desk = Desk(hype)
    desk.apply(CreateAccount(225671, "0xd0", 998_931_800))
    desk.apply(PlaceOrder(FEED, 24, is_ask=False, base_lots=100, price_ticks=401_342))
    desk.apply(PlaceOrder(225671, 24, is_ask=True, base_lots=100, price_ticks=401_342))
    desk.apply(PlaceOrder(FEED, 24, is_ask=True, base_lots=100, price_ticks=401_303))
    stats = account_rows.stats_row(desk.engine, desk.account(225671))
    captured = {
        "collateral": "998.931800",
        "portfolio_value": "998.935700",
        "leverage": "0.04",
        "available_balance": "990.909640",
        "margin_usage": "0.80",
        "buying_power": "0",
    }
    assert captured == stats["cross_stats"] == stats["total_stats"]
    assert captured == {name: stats[name] for name in captured}
