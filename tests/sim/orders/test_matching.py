"""Matching: who fills first, at which price, and every status that an order can end with in the book."""

from __future__ import annotations

import pytest

from tests.sim.desk import ALICE, FEED, OTHER_FEED, Desk


def test_better_price_fills_first_then_the_older_order(desk: Desk) -> None:
    second = desk.order(desk.place(FEED, "sell", 100, 300_100))
    third = desk.order(desk.place(OTHER_FEED, "sell", 100, 300_100))
    first = desk.order(desk.place(FEED, "sell", 100, 300_000))

    taker = desk.order(desk.create("buy", 250, 300_200))

    assert [100, 100, 50] == [first.filled_lots, second.filled_lots, third.filled_lots]
    assert ["filled", "filled", "open"] == [first.status, second.status, third.status]
    assert ("filled", 250, 100 * 300_000 + 150 * 300_100) == (
        taker.status,
        taker.filled_lots,
        taker.filled_quote_micro,
    )
    assert [(300_100, 50)] == desk.asks()


def test_partially_filled_maker_keeps_its_place(desk: Desk) -> None:
    first = desk.order(desk.place(FEED, "buy", 100, 300_000))
    second = desk.order(desk.place(OTHER_FEED, "buy", 100, 300_000))
    desk.create("sell", 60, 300_000)
    desk.create("sell", 60, 300_000)
    assert [100, 20] == [first.filled_lots, second.filled_lots]


def test_taker_gets_the_makers_price_and_what_remains_rests(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 299_000)
    order = desk.order(desk.create("buy", 300, 300_000))
    assert ("open", 100, 200, 29_900_000) == (
        order.status,
        order.filled_lots,
        order.remaining_lots,
        order.filled_quote_micro,
    )
    assert ([(300_000, 200)], []) == (desk.bids(), desk.asks())
    assert 299_000 == desk.engine.last_trade_ticks(0)


def test_order_indexes_tell_market_side_and_age(desk: Desk) -> None:
    asks = [desk.place(FEED, "sell", 100, 300_000 + i).order_index for i in range(2)]
    bids = [desk.place(FEED, "buy", 100, 200_000 + i).order_index for i in range(2)]
    other = desk.place(FEED, "sell", 100, 900_000, market_id=1).order_index
    assert [1 << 48, (1 << 48) + 1] == asks
    assert [(2 << 48) - 1, (2 << 48) - 2] == bids
    assert 2 << 48 == other


def test_refused_order_takes_no_order_index(desk: Desk) -> None:
    desk.place(FEED, "sell", 1, 300_000)
    assert 1 << 48 == desk.place(FEED, "sell", 100, 300_000).order_index


def test_markets_do_not_meet(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 300_000, market_id=1)
    assert "open" == desk.order(desk.create("buy", 100, 300_000)).status


def test_post_only_that_would_match_is_canceled(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 300_000)
    order = desk.order(desk.post_only("buy", 100, 300_000))
    assert ("canceled-post-only", 0, 100) == (order.status, order.filled_lots, order.remaining_lots)
    assert 1 == desk.engine.next_nonce(ALICE, 4)
    assert [] == desk.bids()


def test_post_only_one_tick_away_rests(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 300_000)
    assert "open" == desk.order(desk.post_only("buy", 100, 299_999)).status


def test_market_order_ends_where_its_average_price_would_pass_its_bound(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 300_000)
    desk.place(FEED, "sell", 100, 311_000)
    order = desk.order(desk.market("buy", 200, 305_000))  # 100 saved 5,000 each, the others cost 6,000 too much
    assert ("canceled-too-much-slippage", 183, 17) == (order.status, order.filled_lots, order.remaining_lots)
    assert 305_000 * 183 >= 100 * 300_000 + 83 * 311_000


def test_market_order_may_pay_more_for_some_than_its_bound(desk: Desk) -> None:
    desk.place(FEED, "buy", 100, 300_000)
    desk.place(FEED, "buy", 100, 290_000)
    assert "filled" == desk.order(desk.market("sell", 200, 295_000)).status


def test_market_order_beyond_whose_bound_the_best_price_is_fills_nothing(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 300_000)
    order = desk.order(desk.market("buy", 200, 299_999))
    assert ("canceled-too-much-slippage", 0) == (order.status, order.filled_lots)


def test_limit_order_never_pays_more_than_its_limit(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 300_000)
    desk.place(FEED, "sell", 100, 305_001)
    order = desk.order(desk.ioc("buy", 200, 305_000))
    assert ("canceled", 100) == (order.status, order.filled_lots)


def test_market_order_ends_with_the_book(desk: Desk) -> None:
    desk.place(FEED, "buy", 100, 300_000)
    order = desk.order(desk.market("sell", 200, 290_000))
    assert ("canceled-not-enough-liquidity", 100) == (order.status, order.filled_lots)


def test_rest_of_an_immediate_or_cancel_limit_order_is_canceled(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 300_000)
    order = desk.order(desk.ioc("buy", 300, 300_000))
    assert ("canceled", 100, 200) == (order.status, order.filled_lots, order.remaining_lots)
    assert [] == desk.bids()


@pytest.mark.parametrize("send", [Desk.market, Desk.ioc])
def test_immediate_order_that_fills_is_filled(desk: Desk, send: object) -> None:
    desk.place(FEED, "sell", 100, 300_000)
    assert "filled" == desk.order(send(desk, "buy", 100, 300_000)).status  # type: ignore[operator]
