"""Markets that change while the venue runs: rules, states, grids, and their end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from qubx_lighter.constants import Code
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.feeds.synthetic import MAKER_ACCOUNT, Synthetic
from qubx_lighter.sim.journal import Journal
from qubx_lighter.sim.markets import past
from qubx_lighter.sim.model.commands import (
    CancelMarket,
    ChangeMarket,
    Command,
    CreateMarket,
    DelistMarket,
    SetMarketStatus,
)
from qubx_lighter.sim.model.events import Traded
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.wire import account_rows, market_rows, order_rows
from qubx_lighter.sim.wire.history_rows import candle_rows, funding_row, mark_candle_rows
from tests.sim.desk import ALICE, BOB, BTC, ETH, FEED, START, Desk

SOL = MarketSpec(2, "SOL", 3, 3, min_base_lots=50, initial_price_ticks=150_000)
OPTION = MarketSpec(
    1000,
    "BTC100K",
    2,
    2,
    min_base_lots=100,
    min_quote_micro=1_000_000,
    default_initial_margin_fraction=10_000,
    maintenance_margin_fraction=0,
    market_type="binary_options",
    settlement_cap=100,
)


def rested(desk: Desk) -> None:
    """Have a book of ETH, and Alice long and Bob short by 0.1 at 3,000."""
    desk.place(BOB, "sell", 1_000, 300_000)
    assert desk.create("buy", 1_000, 300_000).ok
    desk.place(FEED, "buy", 500, 299_000)
    desk.place(FEED, "sell", 500, 301_000)


def test_a_market_that_is_listed_at_run_time_trades() -> None:
    desk = Desk()
    assert Code.INVALID_MARKET == desk.create("buy", 1_000, 150_000, MarketIndex=2).code
    assert desk.apply(CreateMarket(SOL)).ok
    assert desk.create("buy", 1_000, 150_000, MarketIndex=2).ok
    assert Code.INVALID_PARAM == desk.apply(CreateMarket(SOL)).code


@pytest.mark.parametrize(
    "nonsense",
    [
        {"market_id": 255},
        {"market_id": -1},
        {"symbol": ""},
        {"price_decimals": -1},
        {"size_decimals": 13},
        {"min_base_lots": 0},
        {"min_quote_micro": -1},
        {"initial_price_ticks": 2**32},
    ],
)
def test_rules_that_no_market_can_have_are_refused(nonsense: dict[str, Any]) -> None:
    desk = Desk()
    assert Code.INVALID_PARAM == desk.apply(CreateMarket(msgspec.structs.replace(SOL, **nonsense))).code
    assert [ETH, BTC] == list(desk.engine.markets.values())


def test_other_minimums_and_reduce_only_hold_from_then_on() -> None:
    desk = Desk()
    rested(desk)
    assert desk.apply(ChangeMarket(0, min_base_lots=2_000, min_quote_micro=1_000_000)).ok
    assert Code.AMOUNT_TOO_LOW == desk.create("buy", 1_999, 290_000).code
    assert desk.create("buy", 2_000, 290_000).ok
    assert desk.apply(ChangeMarket(0, force_reduce_only=True)).ok
    assert Code.REDUCE_ONLY_MODE == desk.create("buy", 2_000, 290_000).code
    assert desk.create("sell", 1_000, 310_000, ReduceOnly=1).ok
    assert 1_000_000 == desk.engine.markets[0].min_quote_micro


@pytest.mark.parametrize("status", ["inactive", "waiting-for-settlement", "in-settlement", "settled"])
def test_a_market_that_is_not_active_takes_cancels_only(status: Any) -> None:
    desk = Desk()
    rested(desk)
    order = desk.order(desk.create("buy", 1_000, 290_000, ClientOrderIndex=5))
    assert desk.apply(SetMarketStatus(0, status)).ok
    refused = desk.create("buy", 1_000, 290_000), desk.modify(5, 1_000, 280_000)
    ended = status == "settled"
    assert [Code.INVALID_MARKET_STATUS, Code.NOT_ACTIVE_ORDER if ended else Code.INVALID_MARKET_STATUS] == [
        result.code for result in refused
    ]
    assert ended != desk.cancel(5).ok
    assert "canceled" == order.status
    assert desk.apply(SetMarketStatus(0, "active")).ok
    assert desk.create("buy", 1_000, 290_000).ok


def test_a_delisted_market_is_settled_at_its_mark_price_and_is_gone() -> None:
    desk = Desk()
    rested(desk)
    desk.place(FEED, "buy", 500, 300_500)
    collateral = {index: desk.account(index).collateral_micro for index in (ALICE, BOB)}
    desk.engine.drain()
    assert 300_500 == desk.engine.mark_price_ticks(0)
    assert desk.apply(DelistMarket(0)).ok
    (trade,) = (event.trade for event in desk.engine.drain() if isinstance(event, Traded))
    assert ("market-settlement", 300_500, 1_000, ALICE, BOB) == (
        trade.kind,
        trade.price_ticks,
        trade.lots,
        trade.ask_account,
        trade.bid_account,
    )
    assert {ALICE: 500_000, BOB: -500_000} == {
        index: desk.account(index).collateral_micro - before for index, before in collateral.items()
    }
    assert (0, 0, [], []) == (desk.lots(ALICE), desk.lots(BOB), desk.asks(), desk.bids())
    assert [BTC] == desk.engine.listed()
    assert Code.INVALID_MARKET == desk.create("buy", 1_000, 300_000).code
    assert "market-settlement" == order_rows.trade_row(desk.engine.markets[0], desk.account().trades[-1])["type"]


def test_another_grid_takes_an_empty_book_and_changes_no_value(tmp_path: Path) -> None:
    given = past.give_past(msgspec.structs.replace(ETH, initial_price_ticks=300_000), 0, 2.0, START // 1000)
    desk = Desk(given, BTC)
    rested(desk)
    now_ms = START // 1000

    def everything() -> dict[str, Any]:
        """Write all that the public and Alice can see of the market."""
        engine, spec, history = desk.engine, desk.engine.markets[0], desk.engine.history(0)
        shown: dict[str, Any] = {
            "position": account_rows.position_row(engine, desk.account(), desk.account().positions[0]),
            "orders": [order_rows.order_row(spec, order) for order in engine.inactive_orders(ALICE)],
            "trades": [order_rows.trade_row(spec, trade) for trade in engine.trades_before(2**60, 200, 0)],
            "detail": market_rows.market_detail_row(engine, spec, now_ms),
            "candles": candle_rows(spec, history.candles(60_000, now_ms, 200)),
            "hours": candle_rows(spec, history.candles(3_600_000, now_ms, 40)),
            "marks": mark_candle_rows(spec, history.mark_candles(60_000, now_ms, 50)),
            "fundings": [
                funding_row(spec, row) for row in history.fundings(now_ms // 3_600_000 - 20, now_ms // 3_600_000)
            ],
        }
        return numbers(shown)

    assert Code.INVALID_PARAM == desk.apply(ChangeMarket(0, price_decimals=3)).code
    assert desk.apply(CancelMarket(0)).ok
    before = everything()
    assert desk.apply(ChangeMarket(0, price_decimals=4, size_decimals=5)).ok
    assert before == everything() | {"detail": before["detail"]}
    detail = everything()["detail"]
    assert (4, 5, before["detail"]["min_base_amount"]) == (
        detail["price_decimals"],
        detail["size_decimals"],
        detail["min_base_amount"],
    )
    assert before["detail"]["last_trade_price"] == detail["last_trade_price"]
    assert desk.create("buy", 10_000, 29_000_001).ok, "prices between the old ones"
    assert desk.apply(CancelMarket(0)).ok
    assert desk.apply(ChangeMarket(0, price_decimals=2, size_decimals=4)).ok
    assert before == everything() | {"orders": before["orders"]}
    assert Code.INVALID_PARAM == desk.apply(ChangeMarket(0, size_decimals=0)).code, "0.1 is no whole number"


def numbers(value: Any) -> Any:
    """Read decimal texts, however many zeros they end with."""
    match value:
        case dict():
            return {key: numbers(each) for key, each in value.items() if key not in ("base_size", "base_price")}
        case list():
            return [numbers(each) for each in value]
        case str() if value.replace(".", "", 1).removeprefix("-").isdecimal():
            return float(value)
        case _:
            return value


def test_a_binary_option_costs_what_it_can_pay_at_most_and_has_positions_of_its_own() -> None:
    desk = Desk(ETH, OPTION)
    desk.place(FEED, "sell", 100_000, 40, market_id=1000)
    in_option = {"MarketIndex": 1000}
    assert Code.INVALID_PRICE == desk.create("buy", 1_000, 100, **in_option).code
    assert 21619 == desk.create("buy", 1_000, 30, ReduceOnly=1, **in_option).code
    assert "filled" == desk.order(desk.ioc("buy", 50_000, 40, **in_option)).status
    assert 1_000_000_000 - 40_000 - 500 * 10**6 == desk.engine.available_balance_micro(ALICE)
    assert "canceled-margin-not-allowed" == desk.order(desk.ioc("buy", 50_001, 40, **in_option)).status
    assert {} == account_rows.position_rows(desk.engine, desk.account())
    assert [
        {"market_id": 1000, "entry_quote": "200.000000", "avg_entry_price": "0.40", "sign": 1, "size": "500.00"}
    ] == (account_rows.option_position_rows(desk.engine, desk.account()))


def test_the_synthetic_market_takes_up_what_is_listed_and_lets_go_of_what_is_not() -> None:
    engine = Engine(seed=1)
    now = START

    def execute(command: Command) -> Any:
        return engine.apply(command, now)

    eth = msgspec.structs.replace(ETH, initial_price_ticks=300_000)
    execute(CreateMarket(eth))
    feed = Synthetic(engine, execute, [eth], seed=1)
    execute(CreateMarket(SOL))

    def orders(market_id: int) -> int:
        return len(engine.active_orders(MAKER_ACCOUNT, market_id))

    def step(count: int = 40) -> None:
        nonlocal now
        for _ in range(count):
            now += 50_000
            feed.step()

    step(1)
    assert 50 == orders(2)
    execute(SetMarketStatus(2, "inactive"))
    nonce = engine.book_nonce
    step(1)
    before = [order.order_index for order in engine.active_orders(MAKER_ACCOUNT, 2)]
    step()
    assert (before, True) == (
        [o.order_index for o in engine.active_orders(MAKER_ACCOUNT, 2)],
        engine.book_nonce > nonce,
    )
    execute(CancelMarket(0))
    execute(ChangeMarket(0, price_decimals=3))
    step()
    assert 2_990_000 < (engine.book(0).best_bid_ticks or 0) < 3_010_000
    execute(DelistMarket(0))
    step()
    assert (0, []) == (orders(0), list(engine.book(0).levels(is_ask=True)))


def test_a_journal_with_listings_is_replayed_and_an_older_one_without_them_too(tmp_path: Path) -> None:
    path = tmp_path / "state"
    commands: list[Command] = [
        CreateMarket(ETH),
        CreateMarket(SOL),
        SetMarketStatus(2, "inactive"),
        ChangeMarket(0, price_decimals=3, force_reduce_only=True),
        DelistMarket(2),
    ]
    with Journal(path) as journal:
        engine = journal.restore()
        for step, command in enumerate(commands):
            assert journal.apply(engine, command, START + step).ok
    with Journal(path) as journal:
        again = journal.restore()
    assert (engine.markets, engine.listed()) == (again.markets, again.listed())
    old = {"market_id": 0, "symbol": "ETH", "price_decimals": 2, "size_decimals": 4, "min_base_lots": 50}
    lines = [{"version": 1, "seed": 0}, {"now": START, "command": {"type": "CreateMarket", "spec": old}}]
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    with Journal(path) as journal:
        assert [ETH] == journal.restore().listed()
