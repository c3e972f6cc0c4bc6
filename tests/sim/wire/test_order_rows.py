"""Orders, trades and transactions on the wire, and what the connector's own structs read from them."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec

from qubx_lighter.protocol import wire
from qubx_lighter.sim.model.records import Trade
from qubx_lighter.sim.wire import account_rows, order_rows, texts
from tests.sim.desk import ALICE, ETH, FEED, Desk


def read[T](kind: type[T], row: texts.Row) -> T:
    return wire.decode(kind, msgspec.json.encode(row))


def test_an_order_row_holds_the_order() -> None:
    desk = Desk()
    desk.place(FEED, "sell", 600, 300_010)
    order = desk.order(desk.create("buy", 1_000, 300_010, ClientOrderIndex=77))
    text = order_rows.order_row(ETH, order)
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
    }.items() <= order_rows.order_row(ETH, order).items()
    assert b'"trigger_status":"mark-price"' in msgspec.json.encode(order_rows.order_row(ETH, order))
    account = desk.account()
    account.cancel_all_time_ms = 11
    row = account_rows.account_row(desk.engine, account)
    assert (1, 1, 11) == (row["total_order_count"], row["pending_order_count"], row["cancel_all_time"])
    position = account.open_position(desk.engine._sequencer.state.markets[0])
    counts = account_rows.position_row(desk.engine, account, position)
    assert (0, 1, 0) == tuple(counts[f"{name}_order_count"] for name in ("open", "pending", "position_tied"))


def test_a_trade_row_leaves_out_zero_fees_and_tells_the_turn_of_a_position() -> None:
    desk = Desk()
    desk.place(FEED, "sell", 600, 300_010)
    desk.create("buy", 600, 300_010)
    text = order_rows.trade_row(ETH, desk.engine.trades(account_index=ALICE)[0])
    assert "maker_fee" not in text, "the feed pays none"
    assert 200 == text["taker_fee"]
    assert ("0.0000", "0.000000", True) == (
        text["taker_position_size_before"],
        text["taker_entry_quote_before"],
        text["taker_position_sign_changed"],
    )
    desk.place(FEED, "sell", 600, 300_020)
    desk.create("buy", 600, 300_020)
    text = order_rows.trade_row(ETH, desk.engine.trades(account_index=ALICE)[0])
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
        text = order_rows.trade_row(ETH, trade)
        for name in ("taker_position_sign_changed", "maker_position_sign_changed"):
            assert row.get(name, False) == text.get(name, False), row
            checked += 1
    assert 300 <= checked


def test_a_failed_transaction_has_status_0_and_its_error_in_the_event() -> None:
    desk = Desk()
    order = desk.order(desk.create("buy", 1_000, 299_000))
    desk.modify(order.order_index, 1_000, 299_100, L2TxAttributes={"8": 9})
    done, failed = (
        read(wire.TxRow, order_rows.tx_row(record, "0xd0")) for record in reversed(desk.engine.transactions(limit=2))
    )
    assert (2, "") == (done.status, msgspec.json.decode(done.event_info)["ae"])
    assert 0 == failed.status
    assert "order version" in msgspec.json.decode(failed.event_info)["ae"]
    assert (ALICE, 17, 1) == (failed.account_index, failed.type, failed.nonce)
