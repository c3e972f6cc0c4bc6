"""A long random run: the engine's accounts against plain arithmetic of the test's own."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from math import floor
from random import Random

import pytest

from qubx_lighter.constants import TimeInForce
from qubx_lighter.sim.model.events import FundingSettled, Traded
from qubx_lighter.sim.model.records import FundingPayment, Order, Trade
from tests.sim.desk import ALICE, BOB, FEED, OTHER_FEED, Desk
from tests.sim.money import everything_micro


class Plain:
    """What every account is worth, told by trades alone: cash moved and lots held, as fractions."""

    def __init__(self) -> None:
        self.cash: defaultdict[int, Fraction] = defaultdict(Fraction)
        self.lots: defaultdict[tuple[int, int], int] = defaultdict(int)
        self.fees = 0
        self.left_over = 0

    def pay(self, row: FundingPayment) -> None:
        """Move funding: from longs to shorts where the rate is positive."""
        assert self.lots[row.account_index, row.market_id] == row.lots
        change = floor(Fraction(-row.lots * row.price_ticks * row.rate, 10**6))
        assert change == row.change_micro
        self.cash[row.account_index] += change
        self.left_over -= change

    def take(self, row: Trade) -> None:
        quote = row.price_ticks * row.lots  # both markets: price and size decimals add up to 6
        sides = ((row.ask_account, -1, row.is_maker_ask), (row.bid_account, 1, not row.is_maker_ask))
        for account, sign, is_maker in sides:
            fee = round_half_up(Fraction(quote * (row.maker_fee_ppm if is_maker else row.taker_fee_ppm), 10**6))
            self.cash[account] -= sign * quote + fee
            self.lots[account, row.market_id] += sign * row.lots
            self.fees += fee


def round_half_up(value: Fraction) -> int:
    return int(value + Fraction(1, 2))


def check_book(desk: Desk, market_id: int) -> None:
    book = desk.engine.book(market_id)
    bid, ask = book.best_bid_ticks, book.best_ask_ticks
    assert bid is None or ask is None or bid < ask
    resting = [order for account in desk.engine.accounts() for order in account.orders.values()]
    for is_ask in (False, True):
        levels: defaultdict[int, int] = defaultdict(int)
        for order in resting:
            if order.market_id == market_id and order.is_ask == is_ask:
                levels[order.price_ticks] += order.remaining_lots
        assert dict(levels) == dict(book.levels(is_ask))
        prices = [price for price, _ in book.levels(is_ask)]
        assert sorted(prices, reverse=not is_ask) == prices


def check_order(desk: Desk, order: Order) -> None:
    assert order.filled_lots + order.remaining_lots == order.initial_lots
    assert "open" == order.status
    assert order.remaining_lots > 0
    assert order.order_expiry_ms * 1000 > desk.now


def check_accounts(desk: Desk, plain: Plain, deposits: dict[int, int]) -> None:
    for market_id in desk.engine.markets:
        assert 0 == sum(desk.lots(account, market_id) for account in deposits)
    for index, deposit in deposits.items():
        account = desk.account(index)
        worth = deposit + plain.cash[index]
        for market_id, row in account.positions.items():
            assert plain.lots[index, market_id] == row.lots
            worth += row.lots * desk.engine.mark_price_ticks(market_id)
            counted = [o for o in account.orders.values() if o.market_id == market_id and not o.reduce_only]
            assert sum(o.remaining_lots for o in counted if o.is_ask) == row.open_ask_lots
            assert sum(o.remaining_lots for o in counted if not o.is_ask) == row.open_bid_lots
        assert worth == desk.engine.total_value_micro(index)
        assert {o.client_order_index for o in account.orders.values()} - {0} == set(account.by_client_index)
    assert (plain.fees, plain.left_over) == (desk.engine.fees_micro, desk.engine.funding_pot_micro)


def act(desk: Desk, random: Random) -> None:
    """Do something; refusals are welcome."""
    account = random.choice([ALICE, BOB, FEED, OTHER_FEED])
    market_id, middle = random.choice([(0, 300_000), (1, 950_000)])
    side, lots, price = random.choice(["buy", "sell"]), random.randint(40, 20_000), middle + random.randint(-40, 40)
    fields = {"MarketIndex": market_id, "ReduceOnly": int(random.random() < 0.2)}
    active = desk.engine.active_orders(account)
    action = random.random()
    if account in (FEED, OTHER_FEED):
        tif = random.choice(list(TimeInForce))
        desk.place(account, side, lots, price, market_id=market_id, time_in_force=int(tif))
    elif action < 0.5 or not active:
        send = random.choice([desk.create, desk.post_only, desk.ioc, desk.market])
        client = random.randint(0, 30)
        behavior = {"6": random.randint(0, 2)}
        send(side, lots, price, account=account, ClientOrderIndex=client, L2TxAttributes=behavior, **fields)
    elif action < 0.75:
        order = random.choice(active)
        desk.modify(order.order_index, lots, price, account=account, MarketIndex=order.market_id)
    elif action < 0.95:
        order = random.choice(active)
        desk.cancel(order.order_index, order.market_id, account=account)
    elif action < 0.98:
        desk.leverage(random.choice([200, 500, 2000]), account=account, MarketIndex=market_id)
    else:
        desk.cancel_all(account)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_run_keeps_the_books(seed: int) -> None:
    print("seed", seed)
    random, desk, plain = Random(seed), Desk(seed=seed), Plain()
    deposits = {account.account_index: account.collateral_micro for account in desk.engine.accounts()}
    before = everything_micro(desk.engine)
    statuses: set[str] = set()
    for step in range(1_500):
        desk.now += random.choice([1_000, 1_000_000, 60_000_000])
        act(desk, random)
        for event in desk.engine.drain():
            if isinstance(event, Traded):
                plain.take(event.trade)
            elif isinstance(event, FundingSettled):
                plain.pay(event.payment)
        if step % 10:
            continue
        assert before == everything_micro(desk.engine)
        for market_id in desk.engine.markets:
            check_book(desk, market_id)
        for index in deposits:
            for order in desk.engine.active_orders(index):
                check_order(desk, order)
        check_accounts(desk, plain, deposits)
    for index in deposits:
        statuses |= {order.status for order in desk.engine.inactive_orders(index)}
    assert {
        "filled",
        "canceled",
        "canceled-post-only",
        "canceled-reduce-only",
        "canceled-margin-not-allowed",
        "canceled-too-much-slippage",
        "canceled-self-trade",
    } <= statuses
    assert len(desk.engine.trades()) > 200
    assert plain.left_over > 0
