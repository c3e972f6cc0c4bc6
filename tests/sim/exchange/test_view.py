"""The view: rows newest first, of one market or all, and only so many."""

from __future__ import annotations

from qubx_lighter.constants import OrderType, TimeInForce
from tests.sim.desk import ALICE, FEED, OTHER_FEED, Desk

IOC, POST_ONLY = int(TimeInForce.IOC), int(TimeInForce.POST_ONLY)


def test_levels_are_listed_best_first(desk: Desk) -> None:
    for price in (300_002, 300_000, 300_001):
        desk.place(FEED, "sell", price - 299_900, price)
        desk.place(FEED, "buy", price - 299_900, price - 100)
    assert [(300_000, 100), (300_001, 101), (300_002, 102)] == desk.asks()
    assert [(299_902, 102), (299_901, 101), (299_900, 100)] == desk.bids()
    assert [100, 101, 102] == [order.initial_lots for order in desk.engine.book(0).orders(True)]


def test_rows_come_newest_first_and_of_one_market(desk: Desk) -> None:
    first = desk.order(desk.create("buy", 100, 290_000, ClientOrderIndex=1))
    second = desk.order(desk.create("buy", 100, 290_000, ClientOrderIndex=2, MarketIndex=1))
    assert [second, first] == desk.engine.active_orders(ALICE)
    assert [first] == desk.engine.active_orders(ALICE, 0)
    desk.cancel(1)
    assert [second, first] == desk.engine.orders_by_client_index(ALICE, [1, 2, 3, 0])
    assert [first] == desk.engine.inactive_orders(ALICE, 0)
    assert [] == desk.engine.inactive_orders(ALICE, 1)
    assert ([], [], [], []) == (
        desk.engine.active_orders(404),
        desk.engine.inactive_orders(404),
        desk.engine.trades(account_index=404),
        desk.engine.trades(market_id=404),
    )


def test_trades_of_a_market_an_account_and_all(desk: Desk) -> None:
    for market_id in (0, 1, 0):
        desk.place(FEED, "sell", 100, 300_000, market_id=market_id)
        desk.place(OTHER_FEED, "buy", 100, 300_000, market_id=market_id)
    ids = [trade.trade_id for trade in desk.engine.trades()]
    assert 3 == len(ids)
    assert sorted(ids, reverse=True) == ids
    assert [ids[0], ids[2]] == [trade.trade_id for trade in desk.engine.trades(market_id=0)]
    assert ids == [trade.trade_id for trade in desk.engine.trades(account_index=FEED)]
    assert [ids[1]] == [trade.trade_id for trade in desk.engine.trades(account_index=OTHER_FEED, market_id=1)]
    hashes = {trade.tx_hash for trade in desk.engine.trades()}
    assert (3, {80}) == (len(hashes), {len(tx_hash) for tx_hash in hashes})


def test_history_is_bounded(desk: Desk) -> None:
    for _ in range(10_010):
        desk.place(FEED, "buy", 100, 290_000, order_type=int(OrderType.MARKET), time_in_force=IOC)
    assert 10_000 == len(desk.engine.inactive_orders(FEED))
