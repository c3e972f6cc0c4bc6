"""Liquidation and deleveraging, as the venue's keepers and circuits do it.

An account's cross positions, or one isolated position, that fall below their maintenance margin are liquidated: their open orders
end as ``canceled-liquidation``, and immediate-or-cancel orders of type ``liquidation`` close the positions, the largest first, at
the *zero price* or better: the price at which value and maintenance margin keep their ratio, so that a fill never makes things
worse. Of what a fill brings above that price up to 1 % of its notional goes to the insurance fund. What the book does not take
stays while the value is above the close-out margin; below it, it is closed at the zero price against the opposite positions that
gained most for what backs them, by trades of type ``deleverage``, without orders or fees. A bankrupt account ends with nothing
and owes nothing; what rounding leaves below zero the insurance fund pays.

Participants of the feed are never liquidated, but stand on the other side. The venue may close a position in parts; here an order
is for all of it. The venue's insurance fund may take positions over itself; here nobody but the holders of the other side does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from typing import Final, NamedTuple

import msgspec

from qubx_lighter.sim.accounts import ledger, margin
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.accounts.margin import Health, Risk
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.model.events import NotificationSent, Traded
from qubx_lighter.sim.model.records import DELEVERAGE, LIQUIDATION, Notification, Order, Position, Trade
from qubx_lighter.sim.orders import endings
from qubx_lighter.sim.orders.sequencer import Sequencer

_KEPT: Final = 1_000
_NOTIFICATIONS: Final = 100
_SECOND_US: Final = 10**6


class AccountRisk(NamedTuple):
    """All of an account's figures."""

    cross: Risk
    isolated: dict[int, Risk]


class Liquidation(NamedTuple):
    """One trade by which a position was closed against its owner's will, and how the account stood around it."""

    liquidation_id: int
    account_index: int
    trade: Trade
    before: AccountRisk
    after: AccountRisk
    positions: tuple[Position, ...]  # before
    marks: dict[int, int]  # ticks, by market id


class Liquidator:
    """Find and liquidate what is below its maintenance margin.

    Args:
        sequencer: the venue's.
    """

    def __init__(self, sequencer: Sequencer) -> None:
        self._state = sequencer.state
        self._open_orders = sequencer.open_orders
        self._forced = sequencer.forced
        self._marks: dict[int, int] = {}
        self._looked_at = 0  # s
        self._below: set[int] = set()  # accounts of which something is still below its maintenance margin
        self._last_id = 0
        self._done: dict[int, deque[Liquidation]] = {}
        self._notifications: dict[int, deque[Notification]] = {}

    # --- what happened -----------------------------------------------------------------------------------------------

    def of(self, account_index: int) -> list[Liquidation]:
        """List an account's liquidations, newest first."""
        return list(reversed(self._done.get(account_index, ())))

    def notifications(self, account_index: int) -> list[Notification]:
        """List what an account was told, oldest first."""
        return list(self._notifications.get(account_index, ()))

    def acknowledge(self, account_index: int, notification_id: str) -> bool:
        """Mark a notification as read; tell whether there is such a one."""
        rows = self._notifications.get(account_index, deque())
        for place, row in enumerate(rows):
            if row.notification_id == notification_id:
                rows[place] = msgspec.structs.replace(row, acknowledged_at=row.acknowledged_at or self._state.now)
                return True
        return False

    # --- finding -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Liquidate what the transaction that just ran has brought below its maintenance margin."""
        everyone = self._state.now // _SECOND_US != self._looked_at  # prices may move with time alone
        self._looked_at = self._state.now // _SECOND_US
        acted = True
        while acted:
            acted = False
            for account in self._candidates(everyone=everyone):
                acted |= self._check(account)
            everyone = False

    def _candidates(self, *, everyone: bool) -> list[Account]:
        """List the accounts whose figures changed, those with a position in a market whose mark price did, and those that wait.

        Who is below the maintenance margin, but found nobody to trade with, waits for whoever comes.
        """
        state = self._state
        touched = state.markets if everyone else state.touched_markets()
        moved = set()
        for market_id in touched:
            price = state.markets[market_id].mark_price_ticks()
            if self._marks.get(market_id) != price:
                self._marks[market_id] = price
                moved.add(market_id)
        changed = state.touched_accounts() | self._below
        return [
            account
            for account in state.accounts.values()
            if not account.fee_free
            and (account.account_index in changed or any(account.holds(market_id) for market_id in moved))
        ]

    def _check(self, account: Account) -> bool:
        """Liquidate an account's cross and isolated positions where they must be; tell whether anything was traded."""
        markets, acted = self._state.markets, False
        self._below.discard(account.account_index)
        rows = [row for row in account.positions.values() if row.lots]
        for row in rows:
            if margin.is_isolated(row):
                market = markets[row.market_id]
                acted |= self._liquidate(account, [row], partial(margin.isolated_risk, market, row))
        crossed = [row for row in rows if not margin.is_isolated(row)]
        if crossed:
            crossed.sort(key=lambda row: (-self._notional_micro(row), row.market_id))
            acted |= self._liquidate(account, crossed, partial(ledger.cross_risk, account, markets))
        return acted

    def _notional_micro(self, row: Position) -> int:
        market = self._state.markets[row.market_id]
        return market.quote_micro(market.mark_price_ticks(), abs(row.lots))

    # --- liquidating -------------------------------------------------------------------------------------------------

    def _liquidate(self, account: Account, rows: list[Position], find_risk: Callable[[], Risk]) -> bool:
        """Close positions that share what backs them, until they are healthy enough."""
        state = self._state
        if find_risk().health < Health.PARTIAL_LIQUIDATION:
            return False
        for order in self._orders_of(account, rows[0]):
            self._open_orders.finish(order, endings.LIQUIDATION)
        acted = False
        for row in rows:
            risk, market = find_risk(), state.markets[row.market_id]
            if row.lots and risk.health >= Health.PARTIAL_LIQUIDATION:
                acted |= self._close_in_book(account, market, row, margin.zero_price_ticks(market, row, risk))
        for row in rows:
            risk, market = find_risk(), state.markets[row.market_id]
            if row.lots and risk.health >= Health.FULL_LIQUIDATION:
                acted |= self._deleverage(account, market, row, margin.zero_price_ticks(market, row, risk))
        if find_risk().health >= Health.PARTIAL_LIQUIDATION:
            self._below.add(account.account_index)
        if not any(row.lots for row in rows):
            self._forced.cover(account, rows)
        return acted

    def _orders_of(self, account: Account, row: Position) -> list[Order]:
        """List the open orders that share a position's margin: of its market where it is isolated, else all but those."""
        kept = []
        for order in account.orders.values():
            market = self._state.markets[order.market_id]
            if margin.is_isolated(row):
                here = order.market_id == row.market_id
            else:
                here = not market.spec.is_spot and not margin.is_isolated(account.position(market))
            if here:
                kept.append(order)
        return kept

    def _close_in_book(self, account: Account, market: Market, row: Position, zero_ticks: int) -> bool:
        is_ask = row.lots > 0
        if not market.book.crosses(zero_ticks, is_ask=is_ask):
            return False
        before = self._look_at(account)
        trades = self._traded(partial(self._forced.liquidate, account, market, row, zero_ticks))
        self._record(account, trades, *before)
        if trades:
            self._notify(account, LIQUIDATION, trades, zero_ticks, is_ask=is_ask)
        return bool(trades)

    def _deleverage(self, account: Account, market: Market, row: Position, zero_ticks: int) -> bool:
        acted = False
        for other in self._opposite(market, row):
            lots = min(abs(row.lots), abs(other.positions[row.market_id].lots))
            if not lots:
                break
            before = [(each, self._look_at(each)) for each in (account, other)]
            trades = self._traded(partial(self._forced.deleverage, account, other, market, lots, zero_ticks))
            for each, (risk, positions, marks) in before:
                self._record(each, trades, risk, positions, marks)
                sells = trades[0].ask_account == each.account_index
                self._notify(each, DELEVERAGE, trades, zero_ticks, is_ask=sells)
            acted = True
        return acted

    def _opposite(self, market: Market, row: Position) -> Iterable[Account]:
        """List who holds the other side, first who gained most for what backs it: profit times leverage."""
        market_id = market.spec.market_id
        holders = [
            account
            for account in self._state.accounts.values()
            if account.holds(market_id) and account.positions[market_id].lots * row.lots < 0
        ]
        return sorted(holders, key=lambda account: (-self._gain(account, market), account.account_index))

    def _gain(self, account: Account, market: Market) -> Fraction:
        row = account.positions[market.spec.market_id]
        profit = Fraction(margin.unrealized_micro(market, row), max(row.entry_quote_micro, 1))
        value = ledger.risk_of(account, market, self._state.markets).value_micro
        leverage = Fraction(self._notional_micro(row), max(value, 1))
        return profit * leverage if profit > 0 else profit / max(leverage, Fraction(1, 10**6))

    # --- telling -----------------------------------------------------------------------------------------------------

    def _traded(self, act: Callable[[], None]) -> list[Trade]:
        """Do something, and give the trades that came of it."""
        events = self._state.events
        start = len(events)
        act()
        return [event.trade for event in events[start:] if isinstance(event, Traded)]

    def _look_at(self, account: Account) -> tuple[AccountRisk, tuple[Position, ...], dict[int, int]]:
        rows = tuple(msgspec.structs.replace(row) for row in account.positions.values() if row.lots)
        markets = self._state.markets
        marks = {row.market_id: markets[row.market_id].mark_price_ticks() for row in rows}
        return self._risk(account), rows, marks

    def _risk(self, account: Account) -> AccountRisk:
        markets = self._state.markets
        return AccountRisk(ledger.cross_risk(account, markets), ledger.isolated_risks(account, markets))

    def _record(
        self,
        account: Account,
        trades: Iterable[Trade],
        before: AccountRisk,
        positions: tuple[Position, ...],
        marks: dict[int, int],
    ) -> None:
        rows, index = self._done.setdefault(account.account_index, deque(maxlen=_KEPT)), account.account_index
        after = self._risk(account)
        for trade in trades:
            self._last_id += 1
            rows.append(Liquidation(self._last_id, index, trade, before, after, positions, marks))

    def _notify(self, account: Account, kind: str, trades: list[Trade], price_ticks: int, *, is_ask: bool) -> None:
        if not account.keys:
            return
        self._last_id += 1
        index = account.account_index
        row = Notification(
            notification_id=f"notif_{self._last_id}",
            account_index=index,
            kind=kind,
            market_id=trades[0].market_id,
            is_ask=is_ask,
            price_ticks=price_ticks,
            lots=sum(trade.lots for trade in trades),
            quote_micro=sum(trade.quote_micro for trade in trades),
            time=self._state.now,
        )
        self._notifications.setdefault(index, deque(maxlen=_NOTIFICATIONS)).append(row)
        self._state.events.append(NotificationSent(row))
