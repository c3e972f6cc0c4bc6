"""Rows on the wire: exact decimals, and what the connector's own structs read from them."""

from __future__ import annotations

import gzip
from pathlib import Path
from random import Random

import msgspec
import pytest

from qubx_lighter.protocol import wire
from qubx_lighter.sim.model.records import Trade
from qubx_lighter.sim.wire import rows
from tests.sim.desk import ALICE, ETH, FEED, Desk


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (433146, 2, "4331.46"),
        (1, 4, "0.0001"),
        (0, 4, "0.0000"),
        (-5, 3, "-0.005"),
        (-123456, 2, "-1234.56"),
        (42, 0, "42"),
        (-42, 0, "-42"),
        (2**60, 6, "1152921504606.846976"),
    ],
)
def test_decimals_are_written_exactly(value: int, decimals: int, text: str) -> None:
    assert text == rows.decimal_text(value, decimals)


def test_random_decimals_read_back_exactly() -> None:
    seed = 20261123
    print(f"seed {seed}")
    random = Random(seed)
    for _ in range(2_000):
        value, decimals = random.randrange(-(10**15), 10**15), random.randrange(9)
        text = rows.decimal_text(value, decimals)
        assert value == int(text.replace(".", ""))
        assert decimals == len(text.partition(".")[2])


def read[T](kind: type[T], row: rows.Row) -> T:
    return wire.decode(kind, msgspec.json.encode(row))


def test_an_order_row_holds_the_order() -> None:
    desk = Desk()
    desk.place(FEED, "sell", 600, 300_010)
    order = desk.order(desk.create("buy", 1_000, 300_010, ClientOrderIndex=77))
    text = rows.order_row(ETH, order)
    row = read(wire.OrderRow, text)
    assert (order.order_index, 77, 0, False, "open") == (
        row.order_index,
        row.client_order_index,
        row.market_index,
        row.is_ask,
        row.status,
    )
    assert ("0.1000", "0.0400", "0.0600", "180.006000", "3000.10") == tuple(
        text[name]
        for name in (
            "initial_base_amount",
            "remaining_base_amount",
            "filled_base_amount",
            "filled_quote_amount",
            "price",
        )
    )
    assert (desk.now, desk.now // 10**6) == (row.transaction_time, row.updated_at)
    assert ("limit", "good-till-time") == (row.type, row.time_in_force)
    assert {"trigger_status": "na", "trigger_time": 0, "parent_order_id": "0"}.items() <= text.items()


def test_an_order_row_tells_what_the_order_waits_for_and_whom_it_concerns() -> None:
    desk = Desk()
    desk.place(FEED, "sell", 600, 300_010)
    order = desk.order(desk.create("buy", 1_000, 320_000, Type=3, TriggerPrice=310_000))
    order.to_trigger, order.to_cancel, order.parent_order_index, order.trigger_time_ms = (5, 6), 7, 8, 9
    assert {
        "type": "stop-loss-limit",
        "status": "pending",
        "trigger_status": "mark-price",
        "trigger_price": "3100.00",
        "trigger_time": 9,
        "parent_order_index": 8,
        "parent_order_id": "8",
        "to_trigger_order_id_0": "5",
        "to_trigger_order_id_1": "6",
        "to_cancel_order_id_0": "7",
    }.items() <= rows.order_row(ETH, order).items()
    assert b'"trigger_status":"mark-price"' in msgspec.json.encode(rows.order_row(ETH, order))
    account = desk.account()
    account.cancel_all_time_ms = 11
    row = rows.account_row(desk.engine, account)
    assert (1, 1, 11) == (row["total_order_count"], row["pending_order_count"], row["cancel_all_time"])
    position = account.open_position(desk.engine._sequencer.markets[0])
    counts = rows.position_row(desk.engine, account, position)
    assert (0, 1, 0) == tuple(counts[f"{name}_order_count"] for name in ("open", "pending", "position_tied"))


def test_a_trade_row_leaves_out_zero_fees_and_tells_the_turn_of_a_position() -> None:
    desk = Desk()
    desk.place(FEED, "sell", 600, 300_010)
    desk.create("buy", 600, 300_010)
    text = rows.trade_row(ETH, desk.engine.trades(account_index=ALICE)[0])
    assert "maker_fee" not in text, "the feed pays none"
    assert 200 == text["taker_fee"]
    assert ("0.0000", "0.000000", True) == (
        text["taker_position_size_before"],
        text["taker_entry_quote_before"],
        text["taker_position_sign_changed"],
    )
    desk.place(FEED, "sell", 600, 300_020)
    desk.create("buy", 600, 300_020)
    text = rows.trade_row(ETH, desk.engine.trades(account_index=ALICE)[0])
    assert ("0.0600", "180.006000") == (text["taker_position_size_before"], text["taker_entry_quote_before"])
    assert "taker_position_sign_changed" not in text
    row = read(wire.TradeRow, text)
    assert (3000.2, 0.06, True, ALICE, FEED) == (
        row.price,
        row.size,
        row.is_maker_ask,
        row.bid_account_id,
        row.ask_account_id,
    )
    assert (desk.now, "180.012000") == (row.transaction_time, row.usd_amount)


def test_turns_of_positions_are_told_as_in_captured_trades(wire_dir: Path) -> None:
    with gzip.open(wire_dir / "trade_0_eth.jsonl.gz") as file:
        trades = [row for line in file for row in msgspec.json.decode(line)["trades"] or []]
    required = [field.name for field in msgspec.structs.fields(Trade) if field.required]
    checked = 0
    for row in trades:
        taker, maker = (round(float(row[f"{side}_position_size_before"]) * 10_000) for side in ("taker", "maker"))
        trade = Trade(
            **dict.fromkeys(required, 0)
            | {"lots": round(float(row["size"]) * 10_000), "is_maker_ask": row["is_maker_ask"], "tx_hash": ""},
            taker_position_lots_before=taker,
            maker_position_lots_before=maker,
        )
        text = rows.trade_row(ETH, trade)
        for name in ("taker_position_sign_changed", "maker_position_sign_changed"):
            assert row.get(name, False) == text.get(name, False), row
            checked += 1
    assert 300 <= checked


def test_a_position_row_rounds_the_entry_price_to_the_grid_and_keeps_flat_rows() -> None:
    desk = Desk()
    desk.place(FEED, "buy", 200, 300_000)
    desk.place(FEED, "buy", 100, 299_999)
    desk.create("sell", 300, 299_999)
    account = desk.account()
    text = rows.position_row(desk.engine, account, account.positions[0])
    assert (-1, "0.0300", "3000.00") == (text["sign"], text["position"], text["avg_entry_price"])  # 2999.99667
    assert "89.999700" == text["position_value"]
    assert "0.000200" == text["unrealized_pnl"]
    desk.place(FEED, "sell", 300, 300_001)
    desk.create("buy", 300, 300_001)
    flat = read(wire.PositionRow, rows.position_rows(desk.engine, account)["0"])
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
    stats = rows.stats_row(desk.engine, desk.account(225671))
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


def test_a_failed_transaction_has_status_0_and_its_error_in_the_event() -> None:
    desk = Desk()
    order = desk.order(desk.create("buy", 1_000, 299_000))
    desk.modify(order.order_index, 1_000, 299_100, L2TxAttributes={"8": 9})
    done, failed = (
        read(wire.TxRow, rows.tx_row(record, "0xd0")) for record in reversed(desk.engine.transactions(limit=2))
    )
    assert (2, "") == (done.status, msgspec.json.decode(done.event_info)["ae"])
    assert 0 == failed.status
    assert "order version" in msgspec.json.decode(failed.event_info)["ae"]
    assert (ALICE, 17, 1) == (failed.account_index, failed.type, failed.nonce)


def test_fees_are_written_in_percent() -> None:
    assert "0.0020" == rows.percent_text(20)
