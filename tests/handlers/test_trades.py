"""Trades come once and in order; history is not live, but what was missed is."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qubx.core.basics import AggregatedLiquidations, Liquidation
from qubx.core.series import Bar, Trade

from qubx_lighter.errors import WireError
from qubx_lighter.handlers import LIQUIDATIONS, TRADES, LiquidationSumsView, Missing, Output, TradesHandler, parse
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.units import Scale
from tests.handlers.trading import Market, figures_of
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


def missed(handler: TradesHandler) -> Missing:
    """Have a handler that knows 9 miss all between it and 30."""
    handler.snapshot(frame(row(9)))
    handler.reset()
    assert [] == handler.snapshot(frame(row(31), row(30), liquidations=[row(20, kind="liquidation"), row(4)]))
    assert handler.missing is not None
    return handler.missing


def rows(*trade_ids: int) -> list[wire.TradeRow]:
    return [wire.decode(wire.TradeRow, json.dumps(row(trade_id))) for trade_id in trade_ids]


def test_a_snapshot_that_does_not_reach_back_has_the_rest_fetched_before_newer_trades(handler: TradesHandler) -> None:
    assert Missing("trades", 9, until=30) == missed(handler)
    assert [] == handler.update(frame(row(32)))
    assert [10, 11, 20, 29, 30, 31, 32] == ids(handler.recover(rows(29, 11, 10, 9, 20, 30, 31)))
    assert handler.missing is None
    assert (0, 6) == (handler.counters["trade_holes"], handler.counters["missed_trades"])
    assert [33] == ids(handler.update(frame(row(31), row(33))))
    assert [] == handler.recover(rows(34))


@pytest.mark.parametrize("least", ["trades", "liquidations"])
def test_a_snapshot_reaches_back_no_further_than_the_list_that_reaches_back_least(
    handler: TradesHandler, least: str
) -> None:
    """In a cascade the newest 50 of one kind begin later than those of the other."""
    handler.snapshot(frame(*[row(i) for i in range(1, 51)]))
    handler.reset()
    near, far = [row(i) for i in range(101, 151)], [row(i) for i in (*range(41, 51), *range(61, 101))]
    traded, forced = (near, far) if least == "trades" else (far, near)
    assert [] == handler.snapshot(frame(*traded, liquidations=forced))
    assert Missing("trades", 50, until=101) == handler.missing
    assert [] == handler.update(frame(row(151)))
    assert list(range(51, 152)) == ids(handler.recover(rows(*range(40, 152))))
    assert 100 == handler.counters["missed_trades"]
    assert 0 == handler.counters["trade_holes"]


def test_two_lists_that_reach_back_far_enough_leave_nothing_to_fetch(handler: TradesHandler) -> None:
    handler.snapshot(frame(row(9), row(8), liquidations=[row(7)]))
    handler.reset()
    assert [10, 11, 12] == ids(handler.snapshot(frame(row(12), row(11), row(9), liquidations=[row(10), row(7)])))
    assert handler.missing is None


def test_a_second_disconnection_makes_the_question_larger_where_it_left_a_hole(handler: TradesHandler) -> None:
    missed(handler)
    handler.reset()
    assert [] == handler.snapshot(frame(row(33), row(32), row(31)))
    assert Missing("trades", 9, until=30) == handler.missing
    handler.reset()
    assert [] == handler.snapshot(frame(row(50)))
    assert Missing("trades", 9, until=50) == handler.missing
    assert [10, 20, 30, 31, 32, 33, 40, 50] == ids(handler.recover(rows(10, 30, 40)))


def test_trades_that_nobody_tells_are_counted_as_a_hole(handler: TradesHandler) -> None:
    missed(handler)
    assert [20, 30, 31] == ids(handler.recover(None))
    assert 1 == handler.counters["trade_holes"]
    assert handler.missing is None


def test_not_more_than_so_many_trades_wait(handler: TradesHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qubx_lighter.handlers.trades._MAX_HELD", 5)
    missed(handler)
    assert [] == handler.update(frame(row(32), row(33)))
    assert [20, 30, 31, 32, 33, 34] == ids(handler.update(frame(row(34))))
    assert (1, None) == (handler.counters["trade_holes"], handler.missing)


def test_a_market_without_history_misses_nothing_of_its_first_trades(handler: TradesHandler) -> None:
    assert [] == handler.snapshot(b'{"channel":"trade:0","trades":null,"liquidation_trades":null}')
    assert [1, 2] == ids(handler.snapshot(frame(row(1), row(2))))
    assert 0 == handler.counters["trade_holes"]


@pytest.mark.parametrize("kind", ["trade", "liquidation"])
def test_more_first_trades_of_a_market_than_a_snapshot_holds_are_fetched(handler: TradesHandler, kind: str) -> None:
    handler.snapshot(frame())
    handler.reset()
    newest = [row(i, kind=kind) for i in range(60, 10, -1)]
    assert [] == handler.snapshot(frame(*newest) if kind == "trade" else frame(liquidations=newest))
    assert Missing("trades", 0, until=11) == handler.missing
    assert list(range(1, 61)) == ids(handler.recover(rows(*range(1, 61))))


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


def answer_to_subscribe(market: Market, now_ms: int, last: int) -> bytes:
    """Write the newest trades of each kind, where all of one half minute in four are liquidations."""
    body = json.loads(market.trade_frame(market.between(0, now_ms), "subscribed"))
    parts: tuple[list[Any], list[Any]] = [], []
    for one in body["trades"]:
        parts[one["timestamp"] // 30_000 % 4 == 0].append(one)
    return json.dumps(body | {"trades": parts[0][:last], "liquidation_trades": parts[1][:last]}).encode()


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_on_the_way_every_trade_comes_once_and_in_order(handler: TradesHandler, seed: int) -> None:
    print(f"seed {seed}")
    start_ms, stop_ms = 1_760_040_000_000, 1_760_043_600_000
    market = Market(seed, start_ms - 600_000, stop_ms)
    chance = market.random
    five = parse("ohlc(5s)").view
    handler.views = (TRADES, five)
    outputs = handler.snapshot(answer_to_subscribe(market, start_ms, 50))
    sent_ms, back_ms, answer_ms = start_ms, 0, 0
    asked: Missing | None = None
    for now_ms in range(start_ms + 500, stop_ms + 1, 500):
        if back_ms and now_ms >= back_ms:
            back_ms = 0
            outputs += handler.snapshot(answer_to_subscribe(market, now_ms, 10))
        elif not back_ms and chance.random() < 0.005:
            handler.reset()
            back_ms = now_ms + chance.randrange(60_000)
        elif not back_ms and (prints := market.between(sent_ms, now_ms)):
            outputs += handler.update(market.trade_frame(prints))
        if not back_ms:
            sent_ms = now_ms
        if handler.missing != asked:
            asked, answer_ms = handler.missing, now_ms + chance.randrange(90_000)
            answer = market.trade_frame([p for p in market.between(0, now_ms) if asked and p.trade_id > asked.after])
        if asked is not None and now_ms >= answer_ms:
            outputs += handler.recover(wire.decode(wire.TradeFrame, answer).trades)
            asked = handler.missing
    outputs += handler.snapshot(answer_to_subscribe(market, stop_ms, 10))
    if handler.missing is not None:
        outputs += handler.recover(wire.decode(wire.TradeFrame, market.trade_frame(market.prints)).trades)
    assert handler.counters["missed_trades"] > 10, "there were disconnections"
    assert [p.trade_id for p in market.between(start_ms, stop_ms)] == [
        data.trade_id for _, data in outputs if isinstance(data, Trade)
    ]
    newest = {data.time // 1_000_000: figures_of(data) for view, data in outputs if view == five}
    expected = market.windows(5_000, start_ms, stop_ms)
    assert list(expected) == [opened for opened in newest if opened >= start_ms]
    assert all(pytest.approx(figures, rel=1e-9) == newest[opened] for opened, figures in expected.items())


# --- what trades add up to --------------------------------------------------------------------------------------------

SECOND_MS = 1000
FIVE = parse("ohlc(5s)").view
MINUTE = LiquidationSumsView(60_000_000_000)


def at(trade_id: int, second: int, *, buy: bool = True, kind: str = "trade", **more: Any) -> dict[str, Any]:
    """Write a trade that happened so many seconds after a full minute."""
    return row(trade_id, buy=buy, kind=kind, timestamp=1_760_040_000_000 + second * SECOND_MS, **more)


def bars(outputs: list[Output]) -> list[tuple[int, float]]:
    """Name bars by second and volume."""
    return [
        (data.time // 10**9 - 1_760_040_000, pytest.approx(data.volume / 0.2308))
        for _, data in outputs
        if isinstance(data, Bar)
    ]


def test_bars_of_seconds_begin_with_the_first_whose_trades_are_all_known(handler: TradesHandler) -> None:
    handler.views = (FIVE,)
    assert [(5, 2.0)] == bars(handler.snapshot(frame(at(1, 1), at(2, 6), at(3, 7))))
    assert [(5, 3.0), (15, 1.0)] == bars(handler.update(frame(at(4, 9), at(5, 15))))
    handler = TradesHandler(handler.instrument, handler.scale, handler.counters)
    handler.views = (FIVE,)
    assert [] == bars(handler.snapshot(frame(at(2, 6), at(3, 7))))
    assert [(10, 1.0)] == bars(handler.update(frame(at(4, 8), at(5, 11))))


def test_a_market_without_history_has_its_first_bar_whole(handler: TradesHandler) -> None:
    handler.views = (FIVE,)
    assert [] == handler.snapshot(frame())
    assert [(5, 1.0)] == bars(handler.update(frame(at(1, 6))))


def test_bars_come_beside_trades_under_their_own_type(handler: TradesHandler) -> None:
    handler.views = (TRADES, FIVE)
    handler.snapshot(frame(at(1, 1)))
    assert ["trade", "trade", "ohlc(5s)"] == [view.data_type for view, _ in handler.update(frame(at(2, 6), at(3, 7)))]


def test_a_view_that_joins_begins_with_the_next_bar(handler: TradesHandler) -> None:
    handler.snapshot(frame(at(1, 1)))
    handler.update(frame(at(2, 6)))
    handler.views = (TRADES, FIVE)
    assert [] == bars(handler.update(frame(at(3, 7))))
    assert [(10, 1.0)] == bars(handler.update(frame(at(4, 10))))


def test_bars_wait_for_missing_trades_and_leave_out_what_lacks_some(handler: TradesHandler) -> None:
    handler.views = (FIVE,)
    handler.snapshot(frame(at(1, 1), at(2, 6)))
    assert [] == handler.snapshot(frame(at(30, 12)))
    (found,) = (wire.decode(wire.TradeRow, json.dumps(at(20, 9))),)
    assert [(5, 2.0), (10, 1.0)] == bars(handler.recover([found]))
    assert [] == handler.snapshot(frame(at(50, 17)))
    assert [] == bars(handler.recover(None))
    assert [(20, 1.0)] == bars(handler.update(frame(at(51, 18), at(52, 20))))


def test_bars_begin_where_trades_and_liquidations_are_known(handler: TradesHandler) -> None:
    handler.views = (FIVE,)
    assert [(10, 1.0)] == bars(handler.snapshot(frame(at(1, 1), at(3, 11), liquidations=[at(2, 7)])))
    assert [] == handler.snapshot(frame(at(30, 22), liquidations=[at(20, 16), at(2, 7)]))
    assert [] == bars(handler.recover(None)), "of 15 to 20 s only the liquidations are known"
    assert [(25, 1.0)] == bars(handler.update(frame(at(31, 24), at(32, 25))))


def test_a_liquidation_has_the_side_of_the_order_that_closed_the_position(handler: TradesHandler) -> None:
    handler.views = (TRADES, LIQUIDATIONS)
    outputs = handler.update(
        frame(row(1), liquidations=[row(2, kind="liquidation"), row(3, buy=False, kind="liquidation")])
    )
    assert [1, 2, 3] == [data.trade_id for _, data in outputs if isinstance(data, Trade)], "they are trades as well"
    bought, sold = [data for _, data in outputs if isinstance(data, Liquidation)]
    assert (0.2308, 4332.51, 1) == (bought.quantity, bought.price, bought.side), "a buy closed a short"
    assert np.datetime64(TIME_MS, "ms") == bought.time
    assert -1 == sold.side


def test_sums_of_liquidations_come_once_their_window_is_over(handler: TradesHandler) -> None:
    handler.views = (MINUTE,)
    handler.snapshot(frame(at(1, -5)))
    more = {"kind": "liquidation"}
    assert [] == handler.update(
        frame(
            at(2, 1),
            liquidations=[
                at(3, 2, **more, price="100", size="1"),
                at(4, 3, **more, price="130", size="2"),
                at(5, 4, **more, price="90", size="3", buy=False),
            ],
        )
    )
    ((view, sums),) = handler.update(frame(at(6, 61)))
    assert "aggregated_liquidations" == view.data_type
    assert (
        AggregatedLiquidations(
            np.datetime64(1_760_040_000_000, "ms"), 120.0, 130.0, 3.0, 2, 360.0, 90.0, 90.0, 3.0, 1, 270.0
        )
        == sums
    )
    assert [] == handler.update(frame(at(7, 200))), "a window without liquidations has no sums"


def test_history_completes_the_window_that_is_open(handler: TradesHandler) -> None:
    handler.views = (MINUTE,)
    old, new = at(1, -70, kind="liquidation"), at(2, 1, kind="liquidation")
    assert [] == handler.snapshot(frame(at(3, 2), liquidations=[new, old]))
    ((_, sums),) = handler.update(frame(at(4, 61)))
    assert (1, 0, 0.0) == (sums.buy_count, sums.sell_count, sums.avg_sell_price)
    handler = TradesHandler(handler.instrument, handler.scale, handler.counters)
    handler.views = (MINUTE,)
    handler.snapshot(frame(at(3, 2), liquidations=[new]))
    assert [] == handler.update(frame(at(4, 61))), "the window may have had others before"


def test_captured_liquidations_close_what_the_account_had(handler: TradesHandler, wire_dir: Path) -> None:
    with gzip.open(wire_dir / "trade_0_eth.jsonl.gz") as lines:
        history = json.loads(next(iter(lines)))
    expected = sorted(history["liquidation_trades"], key=lambda row: row["trade_id"])
    handler.views = (LIQUIDATIONS,)
    found = [data for _, data in handler.update(json.dumps(history).encode())]
    assert [(float(row["size"]), float(row["price"]), 1 if row["is_maker_ask"] else -1) for row in expected] == [
        (data.quantity, data.price, data.side) for data in found
    ]
    assert 50 == len(found)
    assert [row["taker_position_size_before"].startswith("-") for row in expected] == [
        row["is_maker_ask"] for row in expected
    ], "the taker is the account that is liquidated: a short buys"
