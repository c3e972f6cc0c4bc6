"""Funding in cash: at each full hour every open position pays or receives the market's rate of its notional at the mark price.

The rates are those of the market's history (``MarketHistory.funding_rate``), so that what an account paid agrees with what
``fundings`` shows to everybody. Whoever pays, pays to whoever holds the other side: each change is rounded down, towards minus
infinity, and the millionths that are left over go to ``pot_micro``, so that nothing is created or lost.

The venue settles at the hour, this one with the first command after it: in between nothing happened. Where several hours passed
without a command, each is settled, at the price that held throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Final

from qubx_lighter.constants import NIL_MARKET_INDEX
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.accounts.margin import is_isolated
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.markets.market_history import HOUR_MS
from qubx_lighter.sim.model.records import FundingPayment

HOUR_US: Final = HOUR_MS * 1000
RATE_SCALE: Final = 10**6  # a rate of 1 is 1e-4 percent


class Funding:
    """The settlements of all markets.

    Args:
        markets: the venue's.
        accounts: the venue's.
        start: where the ids start.

    Attributes:
        pot_micro: what rounding left over, all settlements together.
    """

    def __init__(self, markets: Mapping[int, Market], accounts: Mapping[int, Account], start: Random) -> None:
        self.pot_micro = 0
        self._markets = markets
        self._accounts = accounts
        self._last_id = start.randrange(10**6, 10**9)

    def settle_hours(self, before: int, now: int) -> list[FundingPayment]:
        """Settle the full hours after ``before`` (µs; 0: the venue has just begun) up to ``now``."""
        first, last = before // HOUR_US + 1, now // HOUR_US
        if not before or first > last:
            return []
        prices = {market_id: market.mark_price_ticks() for market_id, market in self._markets.items()}
        for market_id, price in prices.items():
            if price:  # what public history will say of these hours: the price since the last command
                self._markets[market_id].history.add_mark_price(before, price)
        hours = range(first, last + 1)
        return [
            payment
            for hour in hours
            for market_id, price in prices.items()
            for payment in self._settle(market_id, hour * HOUR_US, price, hour)
        ]

    def settle_now(self, market_id: int, now: int, rate: int | None) -> list[FundingPayment]:
        """Settle one market (255: all) between the hours; without a rate that of the running hour."""
        return [
            payment
            for each, market in self._markets.items()
            if market_id in (each, NIL_MARKET_INDEX)
            for payment in self._settle(each, now, market.mark_price_ticks(), now // HOUR_US + 1, rate)
        ]

    def _settle(
        self, market_id: int, time: int, price_ticks: int, hour: int, rate: int | None = None
    ) -> list[FundingPayment]:
        """Settle one market at a price, at its rate of an hour if no other is given."""
        market = self._markets[market_id]
        if not market.spec.is_perpetual:
            return []
        holders = [account for account in self._accounts.values() if account.holds(market_id)]
        if not holders:
            return []
        self._last_id += 1
        if rate is None:
            rate = market.history.funding_rate(hour)
        payments = []
        for account in holders:
            row = account.positions[market_id]
            change = market.part_of_quote_micro(price_ticks, -row.lots, rate, RATE_SCALE)
            payment = FundingPayment(
                self._last_id, account.account_index, market_id, time, rate, price_ticks, row.lots, change
            )
            if is_isolated(row):
                row.allocated_micro += change
            else:
                account.collateral_micro += change
            row.funding_paid_micro -= change
            account.fundings.append(payment)
            payments.append(payment)
        self.pot_micro -= sum(payment.change_micro for payment in payments)
        return payments
