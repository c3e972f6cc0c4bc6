"""Trades come once and in order; history is not live, but what was missed is."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from qubx.core.series import Trade

from qubx_lighter.errors import WireError
from qubx_lighter.handlers import TRADES, Output, TradesHandler
from qubx_lighter.protocol.units import Scale
from tests.markets import loaded_instruments

TIME_MS = 1_760_041_996_008


def row(trade_id: int, *, buy: bool = True, kind: str = "trade", **more: Any) -> dict[str, Any]:
    fields = {"trade_id": trade_id, "market_id": 0, "price": "4332.51", "size": "0.2308", "is_maker_ask": buy}
    return fields | {"timestamp": TIME_MS, "type": kind} | more


def frame(*rows: dict[str, Any], liquidations: list[dict[str, Any]] | None = None) -> bytes:
    return json.dumps({"channel": "trade:0", "trades": list(rows), "liquidation_trades": liquidations}).encode()


@pytest.fixture
async def handler() -> TradesHandler:
    handler = TradesHandler((await loaded_instruments()).instrument(0), Scale(2, 4), Counter())
    handler.views = (TRADES,)
    return handler


def trades(outputs: list[Output]) -> list[Trade]:
    assert all(isinstance(data, Trade) for _, data in outputs)
    return [data for _, data in outputs if isinstance(data, Trade)]


def ids(outputs: list[Output]) -> list[int]:
    return [trade.trade_id for trade in trades(outputs)]


def test_a_trade_has_its_takers_side(handler: TradesHandler) -> None:
    bought, sold = trades(handler.update(frame(row(1), row(2, buy=False))))
    assert (TIME_MS * 1_000_000, 4332.51, 0.2308, 1, 1) == (
        bought.time, bought.price, bought.size, bought.side, bought.trade_id,
    )  # fmt: skip
    assert (-1, 2) == (sold.side, sold.trade_id)


def test_trades_come_in_the_order_of_their_ids_with_liquidations_among_them(handler: TradesHandler) -> None:
    raw = frame(row(5), row(3), liquidations=[row(4, kind="liquidation"), row(2, kind="liquidation")])
    assert [2, 3, 4, 5] == ids(handler.update(raw))


def test_the_first_snapshot_is_history(handler: TradesHandler) -> None:
    assert [] == handler.snapshot(frame(row(9), row(8), liquidations=[row(2)]))
    assert 3 == handler.counters["history_trades"]
    assert [10] == ids(handler.update(frame(row(10))))


def test_a_trade_that_was_seen_is_not_repeated(handler: TradesHandler) -> None:
    handler.snapshot(frame(row(9)))
    assert [10] == ids(handler.update(frame(row(9), row(10), row(10))))
    assert [] == handler.update(frame(row(10)))


def test_a_later_snapshot_gives_what_was_missed_once(handler: TradesHandler) -> None:
    handler.snapshot(frame(row(9)))
    handler.update(frame(row(10)))
    handler.reset()
    assert [11, 12] == ids(handler.snapshot(frame(row(12), row(11), row(10), row(9))))
    assert 2 == handler.counters["missed_trades"]
    assert 0 == handler.counters["trade_holes"]
    assert [] == handler.snapshot(frame(row(12), row(11)))
    assert [13] == ids(handler.update(frame(row(13))))


def test_a_snapshot_that_does_not_reach_back_is_reported_as_a_hole(handler: TradesHandler) -> None:
    handler.snapshot(frame(row(9)))
    assert [30, 31] == ids(handler.snapshot(frame(row(31), row(30), liquidations=[row(4)])))
    assert 1 == handler.counters["trade_holes"]


def test_a_market_without_history_misses_nothing_of_its_first_trades(handler: TradesHandler) -> None:
    assert [] == handler.snapshot(b'{"channel":"trade:0","trades":null,"liquidation_trades":null}')
    assert [1, 2] == ids(handler.snapshot(frame(row(1), row(2))))
    assert 0 == handler.counters["trade_holes"]


def test_what_was_not_traded_on_the_book_is_left_out(handler: TradesHandler) -> None:
    raw = frame(row(1), row(2, kind="deleverage"), row(3, kind="market-settlement"), row(4, kind="news"))
    assert [1, 4] == ids(handler.update(raw))
    assert 2 == handler.counters["off_book_trades"]


def test_microseconds_are_used_where_the_venue_tells_them_and_never_go_back(handler: TradesHandler) -> None:
    first, second = trades(
        handler.update(frame(row(1, transaction_time=TIME_MS * 1000 + 7), row(2, transaction_time=TIME_MS * 1000 + 3)))
    )
    assert (TIME_MS * 1000 + 7) * 1000 == first.time == second.time


def test_without_views_nothing_comes_out(handler: TradesHandler) -> None:
    handler.views = ()
    assert [] == handler.update(frame(row(1)))


def test_a_frame_that_cannot_be_read_is_a_wire_error(handler: TradesHandler) -> None:
    with pytest.raises(WireError):
        handler.update(b'{"trades":[{"trade_id":"x"}]}')


def test_captured_trades_come_each_once_in_order_with_the_right_side(handler: TradesHandler, wire_dir: Path) -> None:
    with gzip.open(wire_dir / "trade_0_eth.jsonl.gz") as lines:
        history, *live = list(lines)
    rows = [row for line in live for key in ("trades", "liquidation_trades") for row in json.loads(line)[key] or []]
    rows.sort(key=lambda row: row["trade_id"])
    assert [] == handler.snapshot(history)
    found = [trade for line in live for trade in trades(handler.update(line))]
    assert [
        (row["trade_id"], row["timestamp"] * 1_000_000, float(row["price"]), float(row["size"]), 1 if row["is_maker_ask"] else -1)
        for row in rows
    ] == [(t.trade_id, t.time, t.price, t.size, t.side) for t in found]  # fmt: skip
    assert len({row["trade_id"] for row in rows}) == len(found) > 100
