"""Engine: matching, priority, amends, cancels, and every status an order can end with."""

from __future__ import annotations

import pytest

from qubx_lighter.constants import Code, OrderType, TimeInForce
from qubx_lighter.sim.model.commands import AdvanceTime, CancelAll, CancelOrder
from qubx_lighter.sim.model.events import BookChanged, OrderChanged, PositionChanged, Traded, TransactionDone
from tests.sim.desk import ALICE, BOB, DAY_MS, FEED, FUNDS, OTHER_FEED, START, Desk

IOC, POST_ONLY = int(TimeInForce.IOC), int(TimeInForce.POST_ONLY)


@pytest.fixture
def desk() -> Desk:
    return Desk()


# --- matching --------------------------------------------------------------------------------------------------------


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


# --- statuses --------------------------------------------------------------------------------------------------------


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


def test_orders_expire_at_their_time(desk: Desk) -> None:
    late = desk.order(desk.create("buy", 100, 290_000, OrderExpiry=START // 1000 + 600_001))
    order = desk.order(desk.create("buy", 100, 290_000, OrderExpiry=START // 1000 + 600_000))
    desk.now = START + 600_000_000 - 1
    desk.apply(AdvanceTime())
    assert "open" == order.status
    desk.now += 1
    desk.apply(AdvanceTime())
    assert ("canceled-expired", desk.now) == (order.status, order.updated_at)
    assert "open" == late.status
    assert [(290_000, 100)] == desk.bids()


def test_orders_expire_before_a_refused_command_too(desk: Desk) -> None:
    order = desk.order(desk.create("buy", 100, 290_000, OrderExpiry=START // 1000 + 600_000))
    desk.engine.drain()
    desk.now += 600_000_000
    assert Code.NOT_ACTIVE_ORDER == desk.cancel(order.order_index).code
    assert [(290_000, 0)] == [(event.price_ticks, event.lots) for event in desk.events(BookChanged)]


def test_outdated_expiries_are_forgotten(desk: Desk) -> None:
    kept = desk.order(desk.place(FEED, "buy", 100, 280_000))
    for _ in range(3_000):
        desk.apply(CancelOrder(FEED, 0, desk.place(FEED, "buy", 100, 290_000).order_index))
    assert len(desk.engine._sequencer.open_orders._expiries) < 1_100
    desk.now += 28 * DAY_MS * 1000
    desk.apply(AdvanceTime())
    assert "canceled-expired" == kept.status


# --- self-trade ------------------------------------------------------------------------------------------------------


def test_own_resting_order_ends_by_default_and_the_taker_goes_on(desk: Desk) -> None:
    own = desk.order(desk.create("sell", 100, 300_000))
    other = desk.order(desk.place(FEED, "sell", 100, 300_000))
    taker = desk.order(desk.create("buy", 100, 300_000))
    assert ["canceled-self-trade", "filled", "filled"] == [own.status, other.status, taker.status]
    assert 0 == own.filled_lots


@pytest.mark.parametrize(
    ("behavior", "maker", "taker"),
    [(0, "canceled-self-trade", "open"), (1, "open", "canceled-self-trade"), (2, *["canceled-self-trade"] * 2)],
)
def test_self_trade_behavior_is_the_takers(desk: Desk, behavior: int, maker: str, taker: str) -> None:
    own = desk.order(desk.create("sell", 100, 300_000))
    order = desk.order(desk.create("buy", 100, 300_000, L2TxAttributes={"6": behavior}))
    assert (maker, taker) == (own.status, order.status)
    assert not desk.account().trades


def test_accounts_of_one_owner_trade_unless_told_otherwise(desk: Desk) -> None:
    desk.account(BOB).l1_address = desk.account(ALICE).l1_address
    theirs = desk.order(desk.create("sell", 200, 300_000, account=BOB))
    desk.create("buy", 100, 300_000)
    assert 100 == theirs.filled_lots
    desk.create("buy", 100, 300_000, L2TxAttributes={"7": 1})
    assert ("canceled-self-trade", 100) == (theirs.status, theirs.filled_lots)


# --- reduce-only -----------------------------------------------------------------------------------------------------


def long_position(desk: Desk, lots: int = 100, account: int = ALICE) -> None:
    desk.place(FEED, "sell", lots, 300_000)
    assert "filled" == desk.order(desk.create("buy", lots, 300_000, account=account)).status


def test_reduce_only_taker_closes_no_more_than_the_position(desk: Desk) -> None:
    long_position(desk)
    desk.place(FEED, "buy", 500, 299_000)
    order = desk.order(desk.ioc("sell", 300, 299_000, ReduceOnly=1))
    assert ("canceled-reduce-only", 100, 0) == (order.status, order.filled_lots, desk.lots())


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_reduce_only_taker_without_a_position_is_canceled(desk: Desk, side: str) -> None:
    order = desk.order(desk.market(side, 100, 300_000, ReduceOnly=1))
    assert ("canceled-reduce-only", 0) == (order.status, order.filled_lots)


def test_reduce_only_maker_that_would_increase_is_refused(desk: Desk) -> None:
    long_position(desk)
    assert Code.REDUCE_ONLY_DIRECTION == desk.create("buy", 100, 290_000, ReduceOnly=1).code
    assert "open" == desk.order(desk.create("sell", 100, 310_000, ReduceOnly=1)).status


def test_reduce_only_maker_fills_only_the_position(desk: Desk) -> None:
    long_position(desk)
    order = desk.order(desk.create("sell", 300, 310_000, ReduceOnly=1))
    taker = desk.order(desk.place(FEED, "buy", 300, 310_000))
    assert ("canceled-reduce-only", 100, 0) == (order.status, order.filled_lots, desk.lots())
    assert ("open", 100) == (taker.status, taker.filled_lots)


def test_reduce_only_orders_end_with_the_position(desk: Desk) -> None:
    long_position(desk)
    order = desk.order(desk.create("sell", 100, 310_000, ReduceOnly=1))
    plain = desk.order(desk.create("sell", 100, 320_000))
    desk.place(FEED, "buy", 100, 299_000)
    desk.market("sell", 100, 298_000)
    assert ["canceled-reduce-only", "open"] == [order.status, plain.status]


def test_reduce_only_orders_end_when_the_position_turns_around(desk: Desk) -> None:
    long_position(desk)
    order = desk.order(desk.create("sell", 100, 310_000, ReduceOnly=1))
    desk.place(FEED, "buy", 200, 299_000)
    desk.market("sell", 200, 298_000)
    assert ("canceled-reduce-only", -100) == (order.status, desk.lots())


def test_reduce_only_orders_stay_while_there_is_a_position(desk: Desk) -> None:
    long_position(desk)
    order = desk.order(desk.create("sell", 100, 310_000, ReduceOnly=1))
    desk.place(FEED, "buy", 60, 299_000)
    desk.market("sell", 60, 298_000)
    assert ("open", 40) == (order.status, desk.lots())


def test_reduce_only_is_spared_the_minimums(desk: Desk) -> None:
    long_position(desk)
    assert Code.AMOUNT_TOO_LOW == desk.create("sell", 1, 310_000).code
    assert "open" == desk.order(desk.create("sell", 1, 310_000, ReduceOnly=1)).status


def test_reduce_only_of_size_zero_is_the_whole_position(desk: Desk) -> None:
    long_position(desk)
    desk.place(FEED, "buy", 500, 299_000)
    order = desk.order(desk.market("sell", 0, 299_000, ReduceOnly=1))
    assert ("filled", 100, 0) == (order.status, order.initial_lots, desk.lots())
    assert Code.INVALID_BASE_AMOUNT == desk.market("sell", 0, 299_000, ReduceOnly=1).code
    assert Code.INVALID_BASE_AMOUNT == desk.market("sell", 0, 299_000).code


# --- margin ----------------------------------------------------------------------------------------------------------


def test_maker_beyond_margin_is_refused_and_uses_no_nonce(desk: Desk) -> None:
    result = desk.create("buy", 70_000, 300_000)  # 21,000 notional on 1,000 at 5 %
    assert (Code.NOT_ENOUGH_MARGIN, 0) == (result.code, desk.engine.next_nonce(ALICE, 4))
    assert 200 == desk.create("buy", 66_666, 300_000).code


def test_taker_beyond_margin_is_canceled_and_uses_its_nonce(desk: Desk) -> None:
    desk.place(FEED, "sell", 70_000, 300_000)
    order = desk.order(desk.create("buy", 70_000, 300_000))
    assert ("canceled-margin-not-allowed", 0) == (order.status, order.filled_lots)
    assert 1 == desk.engine.next_nonce(ALICE, 4)


def test_taker_keeps_the_fills_that_its_margin_allowed(desk: Desk) -> None:
    desk.place(FEED, "sell", 50_000, 300_000)
    desk.place(FEED, "sell", 50_000, 300_000)
    order = desk.order(desk.ioc("buy", 100_000, 300_000))
    assert ("canceled-margin-not-allowed", 50_000, 50_000) == (order.status, order.filled_lots, desk.lots())


def test_rest_of_a_taker_beyond_margin_is_canceled(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 300_000)
    order = desk.order(desk.create("buy", 70_000, 300_000))
    assert ("canceled-margin-not-allowed", 100) == (order.status, order.filled_lots)
    assert [] == desk.bids()


def test_maker_that_can_no_longer_pay_is_canceled_and_passed_over(desk: Desk) -> None:
    poor = desk.order(desk.create("buy", 60_000, 300_000))
    rich = desk.order(desk.place(FEED, "buy", 60_000, 300_000))
    desk.account().collateral_micro -= FUNDS // 2
    taker = desk.order(desk.place(OTHER_FEED, "sell", 60_000, 300_000))
    assert ["canceled-margin-not-allowed", "filled", "filled"] == [poor.status, rich.status, taker.status]


def test_reducing_needs_no_margin(desk: Desk) -> None:
    long_position(desk, 60_000)
    desk.account().collateral_micro -= FUNDS // 2  # below the initial margin, above the maintenance margin
    assert desk.engine.available_balance_micro(ALICE) < 0
    assert "open" == desk.order(desk.create("sell", 60_000, 310_000)).status
    desk.place(FEED, "buy", 60_000, 299_000)
    assert ("filled", 0) == (desk.order(desk.market("sell", 60_000, 299_000)).status, desk.lots())


def test_turning_a_position_around_needs_margin(desk: Desk) -> None:
    long_position(desk, 60_000)
    desk.account().collateral_micro -= FUNDS // 2
    desk.place(FEED, "buy", 120_000, 300_000)
    order = desk.order(desk.market("sell", 120_000, 300_000))
    assert ("canceled-margin-not-allowed", 60_000) == (order.status, desk.lots())


def test_orders_of_both_sides_and_all_markets_share_the_margin(desk: Desk) -> None:
    assert desk.create("buy", 40_000, 300_000).ok  # 600 of 1,000
    assert desk.create("sell", 40_000, 310_000).ok  # only one side can fill first
    assert desk.create("buy", 3_000, 1_200_000, MarketIndex=1).ok  # 3,600 notional: 180
    assert Code.NOT_ENOUGH_MARGIN == desk.create("buy", 5_000, 1_200_000, MarketIndex=1).code


# --- amend -----------------------------------------------------------------------------------------------------------


def test_amend_keeps_the_index_and_raises_the_version(desk: Desk) -> None:
    order = desk.order(desk.create("buy", 100, 290_000, ClientOrderIndex=77))
    index, sequence = order.order_index, order.nonce
    assert desk.modify(77, 200, 291_000).ok
    assert (index, 1, "open", 200, 200, 291_000) == (
        order.order_index,
        order.order_version,
        order.status,
        order.initial_lots,
        order.remaining_lots,
        order.price_ticks,
    )
    assert order.nonce > sequence
    assert [(291_000, 200)] == desk.bids()
    assert desk.modify(index, 150, 291_000).ok
    assert (2, 150) == (order.order_version, order.remaining_lots)


@pytest.mark.parametrize("lots", [50, 100, 150])
def test_amend_goes_to_the_back_of_the_queue(desk: Desk, lots: int) -> None:
    amended = desk.order(desk.create("buy", 100, 300_000))
    other = desk.order(desk.place(FEED, "buy", 100, 300_000))
    desk.modify(amended.order_index, lots, 300_000)
    desk.place(OTHER_FEED, "sell", 100, 300_000)
    assert [0, 100] == [amended.filled_lots, other.filled_lots]


def test_amend_counts_what_is_filled(desk: Desk) -> None:
    order = desk.order(desk.create("buy", 300, 300_000))
    desk.place(FEED, "sell", 100, 300_000)
    desk.modify(order.order_index, 250, 300_000)
    assert (250, 100, 150) == (order.initial_lots, order.filled_lots, order.remaining_lots)
    assert [(300_000, 150)] == desk.bids()


@pytest.mark.parametrize("lots", [1, 99, 100])
def test_amend_to_what_is_filled_ends_the_order_as_filled(desk: Desk, lots: int) -> None:
    order = desk.order(desk.create("buy", 300, 300_000))
    desk.place(FEED, "sell", 100, 300_000)
    assert desk.modify(order.order_index, lots, 300_000).ok
    assert ("filled", 100, 100, 0) == (order.status, order.initial_lots, order.filled_lots, order.remaining_lots)
    assert ([], []) == (desk.bids(), desk.engine.active_orders(ALICE))


def test_amend_into_the_other_side_takes(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 300_000)
    order = desk.order(desk.create("buy", 300, 290_000))
    desk.engine.drain()
    desk.modify(order.order_index, 300, 300_000)
    assert ("open", 100, 200) == (order.status, order.filled_lots, order.remaining_lots)
    (trade,) = [event.trade for event in desk.events(Traded)]
    assert (False, f"{desk.sent:080x}") == (not trade.is_maker_ask, trade.tx_hash)


def test_amend_of_post_only_into_the_other_side_cancels(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 300_000)
    order = desk.order(desk.post_only("buy", 100, 290_000))
    assert desk.modify(order.order_index, 100, 300_000).ok
    assert ("canceled-post-only", 0) == (order.status, order.filled_lots)


def test_refused_amend_changes_nothing(desk: Desk) -> None:
    order = desk.order(desk.create("buy", 100, 300_000))
    other = desk.order(desk.place(FEED, "buy", 100, 300_000))
    nonce = desk.engine.next_nonce(ALICE, 4)
    codes = [
        desk.modify(order.order_index, 70_000, 300_000).code,
        desk.modify(order.order_index, 0, 300_000).code,
        desk.modify(order.order_index, 100, 0).code,
        desk.modify(order.order_index, 49, 300_000).code,
    ]
    assert [21739, 21701, 21702, 21706] == codes
    assert (nonce, 0, [(300_000, 200)]) == (desk.engine.next_nonce(ALICE, 4), order.order_version, desk.bids())
    desk.place(OTHER_FEED, "sell", 100, 300_000)
    assert [100, 0] == [order.filled_lots, other.filled_lots]


def test_amend_frees_the_margin_of_the_old_size(desk: Desk) -> None:
    order = desk.order(desk.create("buy", 60_000, 300_000))
    assert desk.modify(order.order_index, 60_000, 300_001).ok
    assert desk.modify(order.order_index, 65_000, 300_000).ok


def test_amend_of_another_version_fails_at_the_sequencer(desk: Desk) -> None:
    order = desk.order(desk.create("buy", 100, 300_000))
    desk.engine.drain()
    assert desk.modify(order.order_index, 100, 300_100, L2TxAttributes={"8": 5}).ok
    (done,) = desk.events(TransactionDone)
    assert "version" in done.record.error
    assert (300_000, 2) == (order.price_ticks, desk.engine.next_nonce(ALICE, 4))
    desk.modify(order.order_index, 100, 300_100)
    desk.modify(order.order_index, 100, 300_200, L2TxAttributes={"8": 1})
    assert 300_200 == order.price_ticks


# --- cancel ----------------------------------------------------------------------------------------------------------


def test_cancel_by_either_index(desk: Desk) -> None:
    first = desk.order(desk.create("buy", 100, 290_000, ClientOrderIndex=5))
    second = desk.order(desk.create("buy", 100, 290_000))
    assert desk.cancel(5).ok
    assert desk.cancel(second.order_index).ok
    assert ["canceled", "canceled"] == [first.status, second.status]
    assert [] == desk.bids()
    assert [second, first] == desk.engine.inactive_orders(ALICE)


def test_cancel_of_what_is_not_resting_is_refused(desk: Desk) -> None:
    order = desk.order(desk.create("buy", 100, 290_000, ClientOrderIndex=5))
    theirs = desk.order(desk.create("buy", 100, 290_000, account=BOB))
    assert Code.NOT_ACTIVE_LIMIT_ORDER == desk.cancel(6).code
    assert Code.NOT_ACTIVE_LIMIT_ORDER == desk.cancel(0).code
    assert Code.NOT_ACTIVE_LIMIT_ORDER == desk.cancel(5, market_id=1).code
    assert Code.NOT_ACTIVE_LIMIT_ORDER == desk.cancel(theirs.order_index).code
    desk.cancel(5)
    assert Code.NOT_ACTIVE_ORDER == desk.cancel(5).code
    assert Code.NOT_ACTIVE_ORDER == desk.cancel(order.order_index).code
    assert Code.NOT_ACTIVE_ORDER == desk.modify(order.order_index, 100, 290_000).code
    assert Code.NOT_ACTIVE_LIMIT_ORDER == desk.modify(6, 100, 290_000).code
    assert 2 == desk.engine.next_nonce(ALICE, 4)


def test_cancel_all_of_the_account(desk: Desk) -> None:
    mine = [
        desk.order(desk.create("buy", 100, 290_000)),
        desk.order(desk.create("sell", 100, 900_000, MarketIndex=1)),
    ]
    theirs = desk.order(desk.create("buy", 100, 290_000, account=BOB))
    assert desk.cancel_all().ok
    assert ["canceled", "canceled", "open"] == [order.status for order in (*mine, theirs)]
    assert desk.cancel_all().ok  # nothing left is no error


@pytest.mark.parametrize("market_id", [0, 1])
def test_cancel_all_of_one_market(desk: Desk, market_id: int) -> None:
    orders = [
        desk.order(desk.create("buy", 100, 290_000)),
        desk.order(desk.create("sell", 100, 900_000, MarketIndex=1)),
    ]
    assert desk.cancel_all(L2TxAttributes={"5": market_id}).ok
    assert ["canceled", "open"] == [orders[market_id].status, orders[1 - market_id].status]


def test_local_participants_cancel_too(desk: Desk) -> None:
    orders = [desk.order(desk.place(FEED, "buy", 100, 290_000 + i, client_order_index=i)) for i in range(3)]
    assert desk.apply(CancelOrder(FEED, 0, 2)).ok
    assert Code.NOT_ACTIVE_ORDER == desk.apply(CancelOrder(FEED, 0, 2)).code
    assert ["open", "open", "canceled"] == [order.status for order in orders]
    assert desk.apply(CancelAll(FEED)).ok
    assert [] == desk.bids()
    assert Code.ACCOUNT_NOT_FOUND == desk.apply(CancelAll(404)).code


# --- events and rows -------------------------------------------------------------------------------------------------


def test_events_of_a_match(desk: Desk) -> None:
    maker = desk.order(desk.create("sell", 300, 300_000, account=BOB, ClientOrderIndex=9))
    desk.engine.drain()
    nonce = desk.engine.book_nonce
    taker = desk.order(desk.create("buy", 100, 300_000, ClientOrderIndex=7))
    events = desk.engine.drain()

    kinds = [type(event) for event in events]
    assert [Traded, OrderChanged, OrderChanged, BookChanged, PositionChanged, PositionChanged, TransactionDone] == kinds
    trade = next(event.trade for event in events if isinstance(event, Traded))
    assert (taker.order_index, maker.order_index, ALICE, BOB, 7, 9) == (
        trade.bid_order_index,
        trade.ask_order_index,
        trade.bid_account,
        trade.ask_account,
        trade.bid_client_order_index,
        trade.ask_client_order_index,
    )
    assert (300_000, 100, 30_000_000, True, 200, 20, taker.tx_hash) == (
        trade.price_ticks,
        trade.lots,
        trade.quote_micro,
        trade.is_maker_ask,
        trade.taker_fee_ppm,
        trade.maker_fee_ppm,
        trade.tx_hash,
    )
    assert BookChanged(0, True, 300_000, 200, nonce + 1, desk.now) in events
    assert [("open", 100), ("filled", 100)] == [
        (event.order.status, event.order.filled_lots) for event in events if isinstance(event, OrderChanged)
    ]
    assert {BOB, ALICE} == {event.account_index for event in events if isinstance(event, PositionChanged)}


def test_trade_tells_the_positions_before_it(desk: Desk) -> None:
    for _ in range(2):
        desk.place(FEED, "sell", 100, 300_000)
        desk.create("buy", 100, 300_000)
    newest, oldest = desk.engine.trades(account_index=ALICE)
    assert [(0, 0), (100, -100)] == [
        (trade.taker_position_lots_before, trade.maker_position_lots_before) for trade in (oldest, newest)
    ]


def test_orders_in_events_are_copies_and_the_feeds_own_raise_none(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 310_000)
    assert [] == desk.events(OrderChanged)
    order = desk.order(desk.create("buy", 100, 290_000))
    (event,) = desk.events(OrderChanged)
    assert order == event.order
    desk.cancel(order.order_index)
    assert "open" == event.order.status


def test_immediate_order_raises_one_event_already_over(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 300_000)
    desk.place(FEED, "sell", 100, 300_001)
    desk.engine.drain()
    desk.market("buy", 200, 301_000)
    assert ["filled"] == [event.order.status for event in desk.events(OrderChanged)]


def test_level_changes_rebuild_the_book_and_their_nonces_have_no_gap(desk: Desk) -> None:
    nonce = desk.engine.book_nonce
    for step in range(20):
        desk.place(FEED, "sell", 100, 300_000 + step % 7)
        desk.place(FEED, "buy", 100, 299_990 + step % 7)
        desk.place(OTHER_FEED, "buy" if step % 2 else "sell", 150, 300_000 - step % 3, market_id=step % 2)
    seen: dict[tuple[int, bool, int], int] = {}
    for event in desk.events(BookChanged):
        nonce += 1
        assert nonce == event.nonce
        seen[event.market_id, event.is_ask, event.price_ticks] = event.lots
    for market_id in (0, 1):
        for is_ask in (False, True):
            expected = {k[2]: lots for k, lots in seen.items() if k[:2] == (market_id, is_ask) and lots}
            assert expected == dict(desk.engine.book(market_id).levels(is_ask))


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


def test_time_never_goes_back(desk: Desk) -> None:
    desk.now += 1_000_000
    desk.apply(AdvanceTime())
    later, desk.now = desk.now, START
    order = desk.order(desk.place(FEED, "buy", 100, 290_000, time_in_force=POST_ONLY))
    assert (later, later, later // 1000 + 28 * DAY_MS) == (
        desk.engine.now,
        order.created_at,
        order.order_expiry_ms,
    )
