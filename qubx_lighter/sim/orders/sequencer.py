"""The local venue's sequencer: orders are placed, matched, amended and ended, and everything that follows is booked.

A method that raises ``VenueError`` is the API's refusal: nothing has changed and no nonce is used. What fails only when it
is executed ends the order with a ``canceled-*`` status instead. As at the venue, a *maker* (what would rest whole) is
refused for want of margin or of a position to reduce; a *taker* goes through and may end as canceled:

    post-only that would meet an order               canceled-post-only
    reduce-only with nothing (more) to reduce        canceled-reduce-only
    a fill, or the rest of a taker, beyond margin    canceled-margin-not-allowed
    the same of a spot market, beyond the balance    canceled-invalid-balance
    market order: average price would pass its bound canceled-too-much-slippage
    market order: other side empty                   canceled-not-enough-liquidity
    limit immediate-or-cancel, what is not filled    canceled
    would trade with itself                          canceled-self-trade (by default the maker)
    its time is over                                 canceled-expired
    its account is liquidated                        canceled-liquidation

What does not go to the book at once is ``pending``'s.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import Final, NamedTuple

import msgspec

from qubx_lighter.constants import (
    NIL_MARKET_INDEX,
    PPM,
    Code,
    Grouping,
    OrderType,
    SelfTradeBehavior,
    SelfTradeScope,
    TimeInForce,
)
from qubx_lighter.errors import VenueError
from qubx_lighter.protocol.order_table import SelfTrade
from qubx_lighter.sim.accounts import ledger, spot
from qubx_lighter.sim.accounts.funding import Funding
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.accounts.margin import Health
from qubx_lighter.sim.markets import past
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.model.commands import PlaceOrder
from qubx_lighter.sim.model.events import (
    AssetsChanged,
    BookChanged,
    Event,
    FundingSettled,
    OrderChanged,
    PositionChanged,
    Traded,
)
from qubx_lighter.sim.model.records import (
    DELEVERAGE,
    INSURANCE_FUND,
    LIQUIDATION,
    LIQUIDATION_ORDER,
    OPEN,
    PENDING,
    TRADE,
    AccountType,
    FundingPayment,
    Order,
    Position,
    Trade,
    TriggerStatus,
)
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.model.transactions import CreateGroupedOrdersTx
from qubx_lighter.sim.orders import groups, order_counts, order_rules
from qubx_lighter.sim.orders.bound import AVERAGED, Bound
from qubx_lighter.sim.orders.pending import EXPIRED, REDUCE_ONLY, Pending

_CANCELED: Final = "canceled"
_BALANCE: Final = "canceled-invalid-balance"
_LIQUIDITY: Final = "canceled-not-enough-liquidity"
_LIQUIDATION: Final = "canceled-liquidation"
_MARGIN: Final = "canceled-margin-not-allowed"
_POST_ONLY: Final = "canceled-post-only"
_SELF_TRADE: Final = "canceled-self-trade"
_SLIPPAGE: Final = "canceled-too-much-slippage"

_IN_LIQUIDATION: Final = 21112
_LIQUIDATION_FEE_PPM: Final = 10_000
_NO_ADDRESS: Final = "0x" + "0" * 40
_DEFAULT_SELF_TRADE: Final = SelfTrade()
_SPARE_EXPIRIES: Final = 1024


@dataclass(frozen=True, slots=True)
class _Taker:
    """An order on its way through the book."""

    account: Account
    market: Market
    order: Order
    tx_hash: str


class Change(NamedTuple):
    """What an amend makes of an order: the new total size, price and trigger."""

    lots: int
    price_ticks: int
    trigger_ticks: int = 0


class Sequencer:
    """The state of the venue and what changes it; one call is one transaction, ended by ``flush``.

    Attributes:
        now: µs, of the transaction that runs.
        book_nonce: of the last ``BookChanged``, over all markets.
        fees_micro: all fees ever taken from collateral.
        asset_fees: all fees ever taken from spot balances, by asset id, in units.
        funding: what settles the hours.
        events: what happened since they were last taken.
    """

    def __init__(self, seed: int) -> None:
        start = Random(seed)  # noqa: S311 - ids that start somewhere, as a venue's that has run for a while
        self.now = 0
        self._seed = seed
        self.markets: dict[int, Market] = {}
        self.accounts: dict[int, Account] = {}
        self.events: list[Event] = []
        self.fees_micro = 0
        self.asset_fees: Counter[int] = Counter()
        self.book_nonce = start.randrange(10**6, 10**9)
        self._trade_id = start.randrange(10**6, 10**9)
        self._sequence = start.randrange(10**6, 10**9)
        self._salt = start.randbytes(8)
        self._hashes = 0
        self._expiries: list[tuple[int, int, int]] = []  # heap of (ms, order index, account index); may be outdated
        self._sampled_at = 0  # s
        self.funding = Funding(self.markets, self.accounts, start)
        self._levels: dict[tuple[int, bool, int], None] = {}
        self._figures: dict[tuple[int, int], None] = {}
        self._balances: dict[int, None] = {}
        self.pending = Pending(self)

    # --- time --------------------------------------------------------------------------------------------------------

    def let_time_pass(self, now: int) -> None:
        """Go on to ``now`` (µs), where that is later, and do what falls due on the way, each thing at its time."""
        while (due := self._next_due()) is not None and due <= now:
            self._go_on_to(due)
            self._expire()
            self.pending.run_duties()
            self.pending.run_triggers()
        self._go_on_to(now)

    def _go_on_to(self, now: int) -> None:
        """Settle full hours, and take note of mark prices."""
        before, self.now = self.now, max(self.now, now)
        self.book_funding(self.funding.settle_hours(before, self.now))
        self._sample_mark_prices()

    def _next_due(self) -> int | None:
        duty = self.pending.agenda.next_time()
        if not self._expiries:
            return duty
        expiry = self._expiries[0][0] * 1000
        return expiry if duty is None else min(duty, expiry)

    # --- markets -----------------------------------------------------------------------------------------------------

    def open_market(self, spec: MarketSpec, lot_units: int = 0) -> None:
        """Open a market; the ids of trades to come are above those of its past."""
        if spec.past_price_ticks:
            self._trade_id = max(self._trade_id, past.first_trade_id(self.now // 1000))
        self.markets[spec.market_id] = Market(spec, self._seed, self.now, lot_units)

    def book_funding(self, payments: list[FundingPayment]) -> None:
        """Let the end of the transaction tell who paid and received funding."""
        for payment in payments:
            self.events.append(FundingSettled(payment))
            self.change_figures(payment.account_index, payment.market_id)

    def _sample_mark_prices(self) -> None:
        """Take note of the mark prices, as they are before anything happens at ``now``; once a second."""
        second = self.now // 10**6
        if second == self._sampled_at:
            return
        self._sampled_at = second
        for market in self.markets.values():
            price = market.mark_price_ticks()
            if price:
                market.history.add_mark_price(self.now, price)

    # --- transactions ------------------------------------------------------------------------------------------------

    def place(self, new: PlaceOrder, self_trade: SelfTrade = _DEFAULT_SELF_TRADE, tx_hash: str = "") -> Order:
        """Place an order: match it, or let it wait.

        Raises:
            VenueError: as ``prepare``.
        """
        order = self.prepare(new, self_trade, tx_hash)
        order.order_index = self.markets[order.market_id].allocate_order_index(is_ask=order.is_ask)
        self._enter(order)
        return order

    def place_group(self, tx: CreateGroupedOrdersTx, tx_hash: str) -> Order:
        """Place a group, and give its first order.

        Raises:
            VenueError: 21501, or as ``prepare``.
        """
        orders = self.prepare_group(tx, tx_hash)
        for order in orders:
            order.order_index = self.markets[order.market_id].allocate_order_index(is_ask=order.is_ask)
        groups.link(tx.grouping_type, orders)
        for order in orders:
            self._enter(order)
        return orders[0]

    def prepare_group(self, tx: CreateGroupedOrdersTx, tx_hash: str) -> list[Order]:
        """Check a group and write its rows.

        Raises:
            VenueError: 21501, or as ``prepare``.
        """
        first, *others = groups.orders_of(tx)
        child = tx.grouping_type != Grouping.ONE_CANCELS_THE_OTHER
        orders = [self.prepare(first, tx.self_trade, tx_hash)]
        orders += [self.prepare(order, tx.self_trade, tx_hash, is_child=child) for order in others]
        pending = sum(order.status == PENDING for order in orders)
        order_counts.check(self.accounts[tx.account_index], orders[-1], pending)
        return orders

    def prepare(self, new: PlaceOrder, self_trade: SelfTrade, tx_hash: str, *, is_child: bool = False) -> Order:
        """Check an order and write its row, which has no index yet; nothing else changes.

        Raises:
            VenueError: 21100, 21111, 21112, 21501, 21602, 21701, 21702, 21706, 21711, 21717 to 21720, 21727, 21728, 21729,
                21738 or 21739.
        """
        account, market = self.account(new.account_index), self.market(new.market_id)
        terms = order_rules.terms_of(new.order_type, new.time_in_force)
        whole = new.reduce_only and not new.base_lots  # base 0 of a reduce-only order: the whole position
        if whole and not terms.has_trigger and new.market_id in account.positions:
            new = msgspec.structs.replace(new, base_lots=abs(account.positions[new.market_id].lots))
        order_rules.check_order(new, market)
        order_rules.check_expiry(new, self.now)
        if new.client_order_index in account.by_client_index:
            raise VenueError(Code.DUPLICATE_CLIENT_ORDER_INDEX, "duplicate client order index")
        waits_for = TriggerStatus.NA
        if terms.has_trigger:
            waits_for = TriggerStatus.PARENT_ORDER if is_child else TriggerStatus.MARK_PRICE
        elif new.order_type == OrderType.TWAP:
            waits_for = TriggerStatus.TWAP
        order = Order(
            order_index=0,
            client_order_index=new.client_order_index,
            account_index=new.account_index,
            market_id=new.market_id,
            is_ask=new.is_ask,
            initial_lots=new.base_lots,
            remaining_lots=new.base_lots,
            price_ticks=new.price_ticks,
            order_type=new.order_type,
            time_in_force=new.time_in_force,
            reduce_only=new.reduce_only,
            order_expiry_ms=new.order_expiry_ms,
            status=OPEN if waits_for == TriggerStatus.NA else PENDING,
            created_at=self.now,
            updated_at=self.now,
            tx_hash=tx_hash,
            trigger_price_ticks=new.trigger_price_ticks,
            trigger_status=waits_for,
            self_trade_behavior=int(self_trade.behavior),
            self_trade_equality=int(self_trade.scope),
        )
        order_counts.check(account, order)
        self._check_health(account, market, order)
        if order.status == OPEN:
            self._check_maker(account, market, order)
        elif new.reduce_only and not is_child and not ledger.reducible_lots(account, order):
            raise VenueError(Code.REDUCE_ONLY_DIRECTION, "reduce only order has no position to reduce")
        return order

    def _enter(self, order: Order) -> None:
        """Let an order begin that is nowhere yet."""
        order.tx_hash = order.tx_hash or self._make_hash()
        if order.status == OPEN:
            self.execute(order, order.tx_hash)
        else:
            self._keep(self.accounts[order.account_index], order)
            self.pending.add(order)
            self.changed(order)

    def amend(self, order: Order, change: Change, self_trade: SelfTrade, tx_hash: str) -> None:
        """Give an order a new total size, price and trigger; one in the book goes to the back of the queue.

        The size counts what is filled already, and one that is not larger ends the order as filled (the venue's own
        circuit, ``l2_modify_order``). The minimums hold for the new total. The circuit again: a trigger price is given
        if, and only if, the order waits for one; a size of 0 if, and only if, the order has none of its own yet.

        Raises:
            VenueError: 21111, 21112, 21701, 21702, 21706, 21729 or 21739.
        """
        account, market = self.accounts[order.account_index], self.markets[order.market_id]
        lots, price_ticks, trigger_ticks = change
        has_trigger = order.trigger_status in (TriggerStatus.MARK_PRICE, TriggerStatus.PARENT_ORDER)
        order_rules.check_trigger(trigger_ticks, has_trigger=has_trigger)
        if has_trigger and bool(lots) != bool(order.initial_lots):
            raise VenueError(Code.INVALID_BASE_AMOUNT, "invalid base amount")
        matched = order.initial_lots - order.remaining_lots
        no_size = has_trigger and not lots
        spared = order.reduce_only or lots <= matched
        order_rules.check_size_and_price(market, 1 if no_size else lots, price_ticks, reduce_only=spared)
        total = max(lots, matched)
        amended = msgspec.structs.replace(
            order, price_ticks=price_ticks, initial_lots=total, remaining_lots=total - matched
        )
        self._check_health(account, market, amended, replaced_lots=order.remaining_lots)
        if order.status == OPEN:
            self._check_maker(account, market, amended, replaced_lots=order.remaining_lots)
            self.leave(order)
        order.price_ticks, order.initial_lots, order.remaining_lots = price_ticks, total, amended.remaining_lots
        order.order_version += 1
        order.self_trade_behavior, order.self_trade_equality = int(self_trade.behavior), int(self_trade.scope)
        if order.status == OPEN:
            self.execute(order, tx_hash)
        elif order.trigger_status == TriggerStatus.TWAP and not order.remaining_lots:
            self.finish(order, "filled")
        else:
            if trigger_ticks != order.trigger_price_ticks:
                order.trigger_price_ticks = trigger_ticks
                self.pending.add(order)
            self.changed(order)

    def cancel(self, order: Order) -> None:
        """End an order, and what waits for it."""
        self.pending.end_children(order)
        self.finish(order, _CANCELED)

    def cancel_all(self, account: Account, market_id: int | None = None) -> None:
        """End all orders of an account, or those of one market, the newest first."""
        for order in list(account.orders.values())[::-1]:
            if market_id is None or order.market_id == market_id:
                self.finish(order, _CANCELED)

    def end_orders(self, market: Market) -> None:
        """End every working order of a market."""
        for account in self.accounts.values():
            self.cancel_all(account, market.spec.market_id)

    def end(self, order_index: int, status: str) -> None:
        """End a working order with any status."""
        for account in self.accounts.values():
            if (order := account.orders.get(order_index)) is not None:
                self.finish(order, status)
                return

    def _expire(self) -> None:
        """End the orders whose time is over."""
        while self._expiries and self._expiries[0][0] * 1000 <= self.now:
            _, order_index, account_index = heapq.heappop(self._expiries)
            order = self.accounts[account_index].orders.get(order_index)
            if order is not None:
                self.pending.end_children(order)
                self.finish(order, EXPIRED)

    # --- what the venue does to accounts that lack margin ------------------------------------------------------------

    def touched_markets(self) -> set[int]:
        """Name the markets whose books the running transaction has changed."""
        return {market_id for market_id, _, _ in self._levels}

    def touched_accounts(self) -> set[int]:
        """Name the accounts whose figures the running transaction has changed."""
        return {account_index for account_index, _ in self._figures}

    def end_for_liquidation(self, order: Order) -> None:
        """End an order of an account that is liquidated."""
        self.finish(order, _LIQUIDATION)

    def liquidate(self, account: Account, market: Market, row: Position, price_ticks: int) -> None:
        """Close a position in the book, as far as it goes at a price or better; the insurance fund takes the fee."""
        is_ask, lots = row.lots > 0, abs(row.lots)
        order = Order(
            order_index=market.allocate_order_index(is_ask=is_ask),
            client_order_index=0,
            account_index=account.account_index,
            market_id=market.spec.market_id,
            is_ask=is_ask,
            initial_lots=lots,
            remaining_lots=lots,
            price_ticks=price_ticks,
            order_type=LIQUIDATION_ORDER,
            time_in_force=int(TimeInForce.IOC),
            reduce_only=True,
            order_expiry_ms=0,
            status=OPEN,
            created_at=self.now,
            updated_at=self.now,
            tx_hash=self._make_hash(),
        )
        self.execute(order, order.tx_hash)

    def deleverage(
        self, account: Account, other: Account, market: Market, lots: int, price_ticks: int, *, kind: str = DELEVERAGE
    ) -> None:
        """Close ``lots`` of an account's position against another one's, at a price: no order, no fee, no market trade."""
        row, opposite = account.position(market), other.position(market)
        seller, buyer = (account, other) if row.lots > 0 else (other, account)
        quote, mark = market.quote_micro(price_ticks, lots), market.mark_price_ticks()
        self._trade_id += 1
        trade = Trade(
            trade_id=self._trade_id,
            market_id=market.spec.market_id,
            price_ticks=price_ticks,
            lots=lots,
            quote_micro=quote,
            ask_order_index=0,
            bid_order_index=0,
            ask_account=seller.account_index,
            bid_account=buyer.account_index,
            ask_client_order_index=0,
            bid_client_order_index=0,
            is_maker_ask=seller is other,
            taker_fee_ppm=0,
            maker_fee_ppm=0,
            time=self.now,
            tx_hash=self._make_hash(),
            taker_position_lots_before=row.lots,
            maker_position_lots_before=opposite.lots,
            taker_entry_quote_micro_before=row.entry_quote_micro,
            maker_entry_quote_micro_before=opposite.entry_quote_micro,
            taker_initial_margin_fraction_before=row.initial_margin_fraction,
            maker_initial_margin_fraction_before=opposite.initial_margin_fraction,
            kind=kind,
        )
        market.add_trade(trade)
        for each, signed in ((seller, -lots), (buyer, lots)):
            each.trades.append(trade)
            self._book_fill(each, market, signed, quote, ppm=0, mark=mark)
        self.events.append(Traded(trade))

    def cover(self, account: Account, rows: list[Position]) -> None:
        """Let the insurance fund pay what closed positions have left below zero."""
        for row in rows:
            if row.allocated_micro < 0:
                self._insurance_fund().collateral_micro += row.allocated_micro
                row.allocated_micro = 0
        if account.collateral_micro < 0:
            self._insurance_fund().collateral_micro += account.collateral_micro
            account.collateral_micro = 0

    def _insurance_fund(self) -> Account:
        """Find the account that takes liquidation fees, or open it."""
        fund = self.accounts.get(INSURANCE_FUND)
        if fund is None:
            fund = self.accounts[INSURANCE_FUND] = Account(
                INSURANCE_FUND, _NO_ADDRESS, 0, created_at=self.now, account_type=AccountType.INSURANCE_FUND
            )
        return fund

    def change_figures(self, account_index: int, market_id: int = NIL_MARKET_INDEX) -> None:
        """Let the end of the transaction tell that an account's figures changed."""
        self._figures[account_index, market_id] = None

    def change_balances(self, account_index: int) -> None:
        """Let the end of the transaction tell that an account's spot balances changed."""
        self._balances[account_index] = None

    def flush(self) -> None:
        """End a transaction: tell each changed level and each changed account once."""
        for market_id, is_ask, price_ticks in self._levels:
            self.book_nonce += 1
            lots = self.markets[market_id].book.lots_at(price_ticks, is_ask=is_ask)
            self.events.append(BookChanged(market_id, is_ask, price_ticks, lots, self.book_nonce, self.now))
        for account_index, market_id in self._figures:
            self.events.append(PositionChanged(account_index, market_id, self.now))
        self.events += [AssetsChanged(account_index, self.now) for account_index in self._balances]
        self._levels.clear()
        self._figures.clear()
        self._balances.clear()

    # --- finding -----------------------------------------------------------------------------------------------------

    def account(self, account_index: int) -> Account:
        """Find an account, or raise ``VenueError`` 21100."""
        account = self.accounts.get(account_index)
        if account is None:
            raise VenueError(Code.ACCOUNT_NOT_FOUND, "account not found")
        return account

    def market(self, market_id: int) -> Market:
        """Find a market, or raise ``VenueError`` 21602."""
        market = self.markets.get(market_id)
        if market is None or not market.spec.is_listed:
            raise VenueError(Code.INVALID_MARKET, "invalid market index")
        return market

    def resting_order(self, account_index: int, market_id: int, index: int) -> Order:
        """Find a resting order by client order index or order index.

        The venue has two codes for one that is not there and documents no difference; here they are 21715 for an order
        that is over, and 21600 for one that the account never had (or had long ago).

        Raises:
            VenueError: 21100, 21600, 21602 or 21715.
        """
        account = self.account(account_index)
        self.market(market_id)
        order = account.orders.get(index) or account.by_client_index.get(index)
        if order is not None and order.market_id == market_id:
            return order
        for ended in reversed(account.inactive):
            if index and index in (ended.order_index, ended.client_order_index) and ended.market_id == market_id:
                raise VenueError(Code.NOT_ACTIVE_ORDER, "order is not active")
        raise VenueError(Code.NOT_ACTIVE_LIMIT_ORDER, "not an active limit order")

    # --- execution ---------------------------------------------------------------------------------------------------

    def _check_health(self, account: Account, market: Market, order: Order, replaced_lots: int = 0) -> None:
        """Refuse what adds risk below the initial margin, and everything below the maintenance margin."""
        if account.fee_free or market.spec.is_spot:  # the feed never runs short, and assets have no margin
            return
        health = ledger.risk_of(account, market, self.markets).health
        if health >= Health.PARTIAL_LIQUIDATION:
            raise VenueError(_IN_LIQUIDATION, "account is in liquidation")
        if health is Health.PRE_LIQUIDATION and ledger.adds_risk(account, market, order, replaced_lots):
            raise VenueError(
                Code.PRE_LIQUIDATION,
                "account is in pre-liquidation and the transaction doesn't increase the account health",
            )

    def _check_maker(self, account: Account, market: Market, order: Order, replaced_lots: int = 0) -> None:
        """Refuse what would rest whole and may not; ``replaced_lots`` of it rest already."""
        takes = market.book.crosses(order.price_ticks, is_ask=order.is_ask)
        if takes or order.time_in_force == TimeInForce.IOC or not order.remaining_lots:
            return
        if order.reduce_only and not ledger.reducible_lots(account, order):
            raise VenueError(Code.REDUCE_ONLY_DIRECTION, "reduce only order has no position to reduce")
        if not self._may_rest(account, market, order, replaced_lots):
            raise VenueError(Code.NOT_ENOUGH_MARGIN, "not enough margin to create the order")

    def execute(self, order: Order, tx_hash: str = "") -> None:
        """Match an order that is not in the book, then let it rest or end it; ``tx_hash`` is what made it do so now.

        Who takes because of the mark price or the time carries a hash of the venue's own.
        """
        account, market = self.accounts[order.account_index], self.markets[order.market_id]
        taker = _Taker(account, market, order, tx_hash or self._make_hash())
        order.tx_hash = order.tx_hash or taker.tx_hash
        crosses = market.book.crosses(order.price_ticks, is_ask=order.is_ask)
        if order.time_in_force == TimeInForce.POST_ONLY and crosses and order.remaining_lots:
            self.finish(order, _POST_ONLY)
            return
        stopped = self._match(taker)
        if stopped:
            self.finish(order, stopped)
        elif not order.remaining_lots:
            self.finish(order, "filled")
        elif (crosses or order.trigger_time_ms) and not self._may_rest(account, market, order):
            self.finish(order, _shortage(market))
        else:
            self._put_in(account, market, order)
            self.changed(order)

    def _match(self, taker: _Taker) -> str:
        """Fill an order as far as it goes; return the status that ends it, or nothing if the rest may rest."""
        order, market, account = taker.order, taker.market, taker.account
        bound = Bound(order)
        while order.remaining_lots:
            if order.reduce_only and not ledger.reducible_lots(account, order):
                return REDUCE_ONLY
            maker = market.book.first(is_ask=not order.is_ask)
            most = bound.lots_at(maker.price_ticks) if maker is not None else 0
            if maker is None or not most:
                return _unmatched_status(order, maker)
            owner = self.accounts[maker.account_index]
            if self._is_self_trade(order, account, owner):
                if self._keep_apart(order, maker):
                    return _SELF_TRADE
                continue
            lots = min(order.remaining_lots, maker.remaining_lots, most)
            for side, its_account in ((order, account), (maker, owner)):
                if side.reduce_only:
                    lots = min(lots, ledger.reducible_lots(its_account, side))
            if not self._may_fill(owner, maker, lots, maker.price_ticks, market.spec.maker_fee_ppm):
                self.finish(maker, _shortage(market))
                continue
            forced = order.order_type == LIQUIDATION_ORDER
            if not forced and not self._may_fill(account, order, lots, maker.price_ticks, market.spec.taker_fee_ppm):
                return _shortage(market)
            bound.book(maker.price_ticks, lots)
            self._trade(taker, maker, owner, lots)
        return ""

    @staticmethod
    def _is_self_trade(order: Order, account: Account, owner: Account) -> bool:
        if owner is account:
            return True
        by_master = order.self_trade_equality == SelfTradeScope.MASTER_ACCOUNT  # here: accounts of one L1 address
        return by_master and owner.l1_address == account.l1_address

    def _keep_apart(self, order: Order, maker: Order) -> bool:
        """End or reduce one or both of two orders of one owner; tell whether the taker is over."""
        match order.self_trade_behavior:
            case SelfTradeBehavior.EXPIRE_MAKER:
                self.finish(maker, _SELF_TRADE)
                return False
            case SelfTradeBehavior.EXPIRE_TAKER:
                return True
            case SelfTradeBehavior.EXPIRE_BOTH:
                self.finish(maker, _SELF_TRADE)
                return True
        lots = min(order.remaining_lots, maker.remaining_lots)  # both become smaller, and nobody trades
        owner, market = self.accounts[maker.account_index], self.markets[maker.market_id]
        market.book.reduce(maker, lots)
        self._count_open(owner, market, maker, -lots)
        self._touch(maker)
        order.remaining_lots -= lots
        maker.remaining_lots -= lots
        if maker.remaining_lots:
            self.changed(maker)
        else:
            self.finish(maker, _SELF_TRADE)
        return not order.remaining_lots

    def _may_rest(self, account: Account, market: Market, order: Order, replaced_lots: int = 0) -> bool:
        if market.spec.is_spot:
            return spot.may_rest(account, self.markets, order)
        return ledger.may_rest(account, self.markets, order, replaced_lots)

    def _may_fill(self, account: Account, order: Order, lots: int, price_ticks: int, ppm: int) -> bool:
        if self.markets[order.market_id].spec.is_spot:
            return spot.may_fill(account, self.markets, order, lots, price_ticks)
        signed, rate = -lots if order.is_ask else lots, account.fee_ppm(ppm)
        fill = ledger.Fill(self.markets[order.market_id], signed, price_ticks, rate)
        return ledger.may_fill(account, self.markets, fill)

    def _trade(self, taker: _Taker, maker: Order, owner: Account, lots: int) -> None:
        """Book one match, at the maker's price."""
        order, market, account = taker.order, taker.market, taker.account
        price = maker.price_ticks
        mark = market.mark_price_ticks() or price
        quote = market.quote_micro(price, lots)
        forced = order.order_type == LIQUIDATION_ORDER
        taker_ppm = _liquidation_fee_ppm(order, price) if forced else account.fee_ppm(market.spec.taker_fee_ppm)
        maker_ppm = owner.fee_ppm(market.spec.maker_fee_ppm)
        taker_row, maker_row = account.position(market), owner.position(market)
        self._trade_id += 1
        ask, bid = (order, maker) if order.is_ask else (maker, order)
        trade = Trade(
            trade_id=self._trade_id,
            market_id=market.spec.market_id,
            price_ticks=price,
            lots=lots,
            quote_micro=quote,
            ask_order_index=ask.order_index,
            bid_order_index=bid.order_index,
            ask_account=ask.account_index,
            bid_account=bid.account_index,
            ask_client_order_index=ask.client_order_index,
            bid_client_order_index=bid.client_order_index,
            is_maker_ask=maker.is_ask,
            taker_fee_ppm=taker_ppm,
            maker_fee_ppm=maker_ppm,
            time=self.now,
            tx_hash=taker.tx_hash,
            taker_position_lots_before=taker_row.lots,
            maker_position_lots_before=maker_row.lots,
            taker_entry_quote_micro_before=taker_row.entry_quote_micro,
            maker_entry_quote_micro_before=maker_row.entry_quote_micro,
            taker_initial_margin_fraction_before=taker_row.initial_margin_fraction,
            maker_initial_margin_fraction_before=maker_row.initial_margin_fraction,
            kind=LIQUIDATION if forced else TRADE,
        )
        market.add_trade(trade)
        for rows in (account.trades, owner.trades):
            rows.append(trade)
        self.events.append(Traded(trade))
        self._fill_maker(owner, market, maker, lots, quote)
        order.filled_lots += lots
        order.remaining_lots -= lots
        order.filled_quote_micro += quote
        self._book_fill(owner, market, lots if bid is maker else -lots, quote, ppm=maker_ppm, mark=mark)
        self._book_fill(account, market, lots if bid is order else -lots, quote, ppm=taker_ppm, mark=mark)
        if forced:
            fee = ledger.fee_micro(quote, taker_ppm)
            self._insurance_fund().collateral_micro += fee
            self.fees_micro -= fee

    def _fill_maker(self, owner: Account, market: Market, maker: Order, lots: int, quote: int) -> None:
        market.book.reduce(maker, lots)
        self._count_open(owner, market, maker, -lots)
        maker.filled_lots += lots
        maker.remaining_lots -= lots
        maker.filled_quote_micro += quote
        if maker.remaining_lots:
            self._touch(maker)
            self.changed(maker)
        else:
            self.finish(maker, "filled")

    def _book_fill(self, account: Account, market: Market, lots: int, quote: int, *, ppm: int, mark: int) -> None:
        if market.spec.is_spot:
            paid = market.spec.base_asset_id if lots > 0 else market.spec.quote_asset_id
            self.asset_fees[paid] += spot.book_fill(account, market, lots, quote, ppm)
            account.holding(market.spec.base_asset_id).last_trade_id = self._trade_id
            self.change_balances(account.account_index)
            if account.is_unified:
                self.change_figures(account.account_index)
            return
        row = account.open_position(market)
        before = row.lots
        fee = ledger.fee_micro(quote, ppm)
        ledger.book_trade(account, market, lots, quote, fee_micro=fee, mark_ticks=mark)
        self.fees_micro += fee
        self.change_figures(account.account_index, market.spec.market_id)
        if before and before * row.lots <= 0:
            self._end_reduce_only(account, market)

    def _end_reduce_only(self, account: Account, market: Market) -> None:
        """End the orders that have nothing to reduce any more, pending ones too."""
        for order in list(account.orders.values()):
            mine = order.reduce_only and order.market_id == market.spec.market_id
            tied = order.trigger_status in (
                TriggerStatus.NA,
                TriggerStatus.MARK_PRICE,
            )  # a TWAP ends with its next slice
            if mine and tied and not ledger.reducible_lots(account, order):
                self.finish(order, REDUCE_ONLY)

    # --- resting and pending orders ----------------------------------------------------------------------------------

    def _put_in(self, account: Account, market: Market, order: Order) -> None:
        market.book.add(order)
        self._count_open(account, market, order, order.remaining_lots)
        self._touch(order)
        self._keep(account, order)

    def _keep(self, account: Account, order: Order) -> None:
        account.orders[order.order_index] = order
        if order.client_order_index:
            account.by_client_index[order.client_order_index] = order
        heapq.heappush(self._expiries, (order.order_expiry_ms, order.order_index, order.account_index))
        if len(self._expiries) > _SPARE_EXPIRIES + 2 * sum(len(each.orders) for each in self.accounts.values()):
            self._rebuild_expiries()

    def leave(self, order: Order) -> None:
        """Take an order out of the book, or from among those that wait."""
        account, market = self.accounts[order.account_index], self.markets[order.market_id]
        del account.orders[order.order_index]
        account.by_client_index.pop(order.client_order_index, None)
        if order.status == OPEN:
            market.book.remove(order)
            self._count_open(account, market, order, -order.remaining_lots)
            self._touch(order)

    def _rebuild_expiries(self) -> None:
        """Forget the expiries of orders that ended before."""
        orders = (order for account in self.accounts.values() for order in account.orders.values())
        self._expiries = [(order.order_expiry_ms, order.order_index, order.account_index) for order in orders]
        heapq.heapify(self._expiries)

    def _count_open(self, account: Account, market: Market, order: Order, lots: int) -> None:
        if market.spec.is_spot:
            spot.count_open(account, market, order, lots)
            self.change_balances(account.account_index)
            return
        if order.reduce_only:
            return
        row = account.open_position(market)
        if order.is_ask:
            row.open_ask_lots += lots
        else:
            row.open_bid_lots += lots

    def finish(self, order: Order, status: str) -> None:
        """End an order."""
        account = self.accounts[order.account_index]
        if order.order_index in account.orders:
            self.leave(order)
        order.status, order.trigger_status = status, TriggerStatus.NA
        account.inactive.append(order)
        self.changed(order)
        if order.to_trigger:
            self.pending.parent_ended(order)

    def _touch(self, order: Order) -> None:
        self._levels[order.market_id, order.is_ask, order.price_ticks] = None

    def changed(self, order: Order) -> None:
        """Number a change of an order, and tell it to an account with keys."""
        self._sequence += 1
        order.nonce = self._sequence
        order.updated_at = self.now
        if self.accounts[order.account_index].keys:
            self.events.append(OrderChanged(msgspec.structs.replace(order)))

    def _make_hash(self) -> str:
        """Make up a hash for an order that no transaction carried; as long as a real one, 40 bytes."""
        self._hashes += 1
        return blake2b(self._hashes.to_bytes(8), digest_size=40, salt=self._salt).hexdigest()


def _liquidation_fee_ppm(order: Order, price_ticks: int) -> int:
    """Give the fee of a liquidation at a price: what is better than the order's own price, at most 1 %."""
    better = price_ticks - order.price_ticks if order.is_ask else order.price_ticks - price_ticks
    return min(_LIQUIDATION_FEE_PPM, better * PPM // price_ticks)


def _shortage(market: Market) -> str:
    """Give the status of an order that its account cannot pay for."""
    return _BALANCE if market.spec.is_spot else _MARGIN


def _unmatched_status(order: Order, best: Order | None) -> str:
    """Give the status of an order that meets nobody (any more); nothing if it may rest."""
    if order.order_type in AVERAGED:
        return _LIQUIDITY if best is None else _SLIPPAGE
    return _CANCELED if order.time_in_force == TimeInForce.IOC else ""
