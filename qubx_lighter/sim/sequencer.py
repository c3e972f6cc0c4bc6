"""The local venue's sequencer: orders are placed, matched, amended and ended, and everything that follows is booked.

A method that raises ``VenueError`` is the API's refusal: nothing has changed and no nonce is used. What fails only when it
is executed ends the order with a ``canceled-*`` status instead. As at the venue, a *maker* (what would rest whole) is
refused for want of margin or of a position to reduce; a *taker* goes through and may end as canceled:

    post-only that would meet an order               canceled-post-only
    reduce-only with nothing (more) to reduce        canceled-reduce-only
    a fill, or the rest of a taker, beyond margin    canceled-margin-not-allowed
    market order: best price beyond its bound        canceled-too-much-slippage
    market order: other side empty                   canceled-not-enough-liquidity
    limit immediate-or-cancel, what is not filled    canceled
    would trade with itself                          canceled-self-trade (by default the maker)
    its time is over                                 canceled-expired
    its account is liquidated                        canceled-liquidation
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import Final

import msgspec

from qubx_lighter.constants import NIL_MARKET_INDEX, PPM, Code, OrderType, TimeInForce
from qubx_lighter.errors import VenueError
from qubx_lighter.sim import ledger, past, transactions
from qubx_lighter.sim.funding import Funding
from qubx_lighter.sim.ledger import Account
from qubx_lighter.sim.margin import Health
from qubx_lighter.sim.market import Market
from qubx_lighter.sim.model import (
    DELEVERAGE,
    INSURANCE_FUND,
    LIQUIDATION,
    LIQUIDATION_ORDER,
    TRADE,
    BookChanged,
    Event,
    FundingPayment,
    FundingSettled,
    MarketSpec,
    Order,
    OrderChanged,
    PlaceOrder,
    Position,
    PositionChanged,
    Trade,
    Traded,
)
from qubx_lighter.sim.transactions import SelfTrade, SelfTradeBehavior, SelfTradeEquality

_CANCELED: Final = "canceled"
_EXPIRED: Final = "canceled-expired"
_LIQUIDITY: Final = "canceled-not-enough-liquidity"
_LIQUIDATION: Final = "canceled-liquidation"
_MARGIN: Final = "canceled-margin-not-allowed"
_POST_ONLY: Final = "canceled-post-only"
_REDUCE_ONLY: Final = "canceled-reduce-only"
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
    self_trade: SelfTrade
    tx_hash: str


class Sequencer:
    """The state of the venue and what changes it; one call is one transaction, ended by ``flush``.

    Attributes:
        now: µs, of the transaction that runs.
        book_nonce: of the last ``BookChanged``, over all markets.
        fees_micro: all fees ever taken.
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

    # --- markets -----------------------------------------------------------------------------------------------------

    def open_market(self, spec: MarketSpec) -> None:
        """Open a market; the ids of trades to come are above those of its past."""
        if spec.past_price_ticks:
            self._trade_id = max(self._trade_id, past.first_trade_id(self.now // 1000))
        self.markets[spec.market_id] = Market(spec, self._seed, self.now)

    def let_time_pass(self, now: int) -> None:
        """Go on to ``now``, where that is later: settle full hours, take note of mark prices, let orders expire."""
        before, self.now = self.now, max(self.now, now)
        self.book_funding(self.funding.settle_hours(before, self.now))
        self._sample_mark_prices()
        self._expire()

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
        """Place an order and match it.

        Raises:
            VenueError: 21100, 21111, 21112, 21501, 21602, 21701, 21702, 21706, 21711, 21727, 21728, 21738 or 21739.
        """
        account, market = self.account(new.account_index), self.market(new.market_id)
        whole = new.reduce_only and not new.base_lots  # base 0 of a reduce-only order: the whole position
        if whole and new.market_id in account.positions:
            new = msgspec.structs.replace(new, base_lots=abs(account.positions[new.market_id].lots))
        transactions.check_order(new, market)
        transactions.check_expiry(new, self.now)
        if new.client_order_index in account.by_client_index:
            raise VenueError(Code.DUPLICATE_CLIENT_ORDER_INDEX, "duplicate client order index")
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
            status="open",
            created_at=self.now,
            updated_at=self.now,
            tx_hash=tx_hash or self._make_hash(),
        )
        self._check_health(account, market, order)
        self._check_maker(account, market, order)
        order.order_index = market.allocate_order_index(is_ask=new.is_ask)
        self._execute(_Taker(account, market, order, self_trade, order.tx_hash))
        return order

    def amend(self, order: Order, lots: int, price_ticks: int, self_trade: SelfTrade, tx_hash: str) -> None:
        """Give a resting order a new total size and price; it goes to the back of the queue.

        The size counts what is filled already, and one that is not larger ends the order as filled (the venue's own
        circuit, ``l2_modify_order``). The minimums hold for the new total.

        Raises:
            VenueError: 21111, 21112, 21701, 21702, 21706 or 21739.
        """
        account, market = self.accounts[order.account_index], self.markets[order.market_id]
        spared = order.reduce_only or lots <= order.filled_lots
        transactions.check_size_and_price(market, lots, price_ticks, reduce_only=spared)
        total = max(lots, order.filled_lots)
        amended = msgspec.structs.replace(
            order, price_ticks=price_ticks, initial_lots=total, remaining_lots=total - order.filled_lots
        )
        self._check_health(account, market, amended, replaced_lots=order.remaining_lots)
        self._check_maker(account, market, amended, replaced_lots=order.remaining_lots)
        self._take_out(account, market, order)
        order.price_ticks, order.initial_lots, order.remaining_lots = price_ticks, total, amended.remaining_lots
        order.order_version += 1
        self._execute(_Taker(account, market, order, self_trade, tx_hash))

    def cancel(self, order: Order) -> None:
        """End a resting order."""
        self._finish(order, _CANCELED)

    def end(self, order_index: int, status: str) -> None:
        """End a working order with any status."""
        for account in self.accounts.values():
            if (order := account.orders.get(order_index)) is not None:
                self._finish(order, status)
                return

    def _expire(self) -> None:
        """End the orders whose time is over."""
        while self._expiries and self._expiries[0][0] * 1000 <= self.now:
            _, order_index, account_index = heapq.heappop(self._expiries)
            order = self.accounts[account_index].orders.get(order_index)
            if order is not None:
                self._finish(order, _EXPIRED)

    # --- what the venue does to accounts that lack margin ------------------------------------------------------------

    def touched_markets(self) -> set[int]:
        """Name the markets whose books the running transaction has changed."""
        return {market_id for market_id, _, _ in self._levels}

    def touched_accounts(self) -> set[int]:
        """Name the accounts whose figures the running transaction has changed."""
        return {account_index for account_index, _ in self._figures}

    def end_for_liquidation(self, order: Order) -> None:
        """End an order of an account that is liquidated."""
        self._finish(order, _LIQUIDATION)

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
            status="open",
            created_at=self.now,
            updated_at=self.now,
            tx_hash=self._make_hash(),
        )
        self._execute(_Taker(account, market, order, _DEFAULT_SELF_TRADE, order.tx_hash))

    def deleverage(self, account: Account, other: Account, market: Market, lots: int, price_ticks: int) -> None:
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
            kind=DELEVERAGE,
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
            fund = self.accounts[INSURANCE_FUND] = Account(INSURANCE_FUND, _NO_ADDRESS, 0, created_at=self.now)
        return fund

    def change_figures(self, account_index: int, market_id: int = NIL_MARKET_INDEX) -> None:
        """Let the end of the transaction tell that an account's figures changed."""
        self._figures[account_index, market_id] = None

    def flush(self) -> None:
        """End a transaction: tell each changed level and each changed account once."""
        for market_id, is_ask, price_ticks in self._levels:
            self.book_nonce += 1
            lots = self.markets[market_id].book.lots_at(price_ticks, is_ask=is_ask)
            self.events.append(BookChanged(market_id, is_ask, price_ticks, lots, self.book_nonce, self.now))
        for account_index, market_id in self._figures:
            self.events.append(PositionChanged(account_index, market_id, self.now))
        self._levels.clear()
        self._figures.clear()

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
        if market is None:
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
        if account.fee_free:  # the feed, which never runs short
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
        if not ledger.may_rest(account, self.markets, order, replaced_lots):
            raise VenueError(Code.NOT_ENOUGH_MARGIN, "not enough margin to create the order")

    def _execute(self, taker: _Taker) -> None:
        """Match an order that is not in the book, then let it rest or end it."""
        order, market = taker.order, taker.market
        crosses = market.book.crosses(order.price_ticks, is_ask=order.is_ask)
        if order.time_in_force == TimeInForce.POST_ONLY and crosses and order.remaining_lots:
            self._finish(order, _POST_ONLY)
            return
        stopped = self._match(taker)
        if not order.remaining_lots:
            self._finish(order, "filled")
        elif stopped:
            self._finish(order, stopped)
        elif crosses and not ledger.may_rest(taker.account, self.markets, order):
            self._finish(order, _MARGIN)
        else:
            self._put_in(taker.account, market, order)
            self._changed(order)

    def _match(self, taker: _Taker) -> str:
        """Fill an order as far as it goes; return the status that ends it, or nothing if the rest may rest."""
        order, market, account = taker.order, taker.market, taker.account
        while order.remaining_lots:
            if order.reduce_only and not ledger.reducible_lots(account, order):
                return _REDUCE_ONLY
            maker = market.book.first(is_ask=not order.is_ask)
            if maker is None or not market.book.crosses(order.price_ticks, is_ask=order.is_ask):
                return _unmatched_status(order, maker)
            owner = self.accounts[maker.account_index]
            if self._is_self_trade(taker, owner):
                if taker.self_trade.behavior != SelfTradeBehavior.EXPIRE_TAKER:
                    self._finish(maker, _SELF_TRADE)
                if taker.self_trade.behavior != SelfTradeBehavior.EXPIRE_MAKER:
                    return _SELF_TRADE
                continue
            lots = min(order.remaining_lots, maker.remaining_lots)
            for side, its_account in ((order, account), (maker, owner)):
                if side.reduce_only:
                    lots = min(lots, ledger.reducible_lots(its_account, side))
            if not self._may_fill(owner, maker, lots, maker.price_ticks, market.spec.maker_fee_ppm):
                self._finish(maker, _MARGIN)
                continue
            forced = order.order_type == LIQUIDATION_ORDER
            if not forced and not self._may_fill(account, order, lots, maker.price_ticks, market.spec.taker_fee_ppm):
                return _MARGIN
            self._trade(taker, maker, owner, lots)
        return ""

    def _is_self_trade(self, taker: _Taker, owner: Account) -> bool:
        if owner is taker.account:
            return True
        by_master = taker.self_trade.equality == SelfTradeEquality.MASTER_ACCOUNT
        return by_master and owner.l1_address == taker.account.l1_address

    def _may_fill(self, account: Account, order: Order, lots: int, price_ticks: int, ppm: int) -> bool:
        signed, rate = -lots if order.is_ask else lots, 0 if account.fee_free else ppm
        fill = ledger.Fill(self.markets[order.market_id], signed, price_ticks, rate)
        return ledger.may_fill(account, self.markets, fill)

    def _trade(self, taker: _Taker, maker: Order, owner: Account, lots: int) -> None:
        """Book one match, at the maker's price."""
        order, market, account = taker.order, taker.market, taker.account
        price = maker.price_ticks
        mark = market.mark_price_ticks() or price
        quote = market.quote_micro(price, lots)
        forced = order.order_type == LIQUIDATION_ORDER
        taker_ppm = _liquidation_fee_ppm(order, price) if forced else market.spec.taker_fee_ppm
        if account.fee_free:
            taker_ppm = 0
        maker_ppm = 0 if owner.fee_free else market.spec.maker_fee_ppm
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
            self._changed(maker)
        else:
            self._finish(maker, "filled")

    def _book_fill(self, account: Account, market: Market, lots: int, quote: int, *, ppm: int, mark: int) -> None:
        row = account.open_position(market)
        before = row.lots
        fee = ledger.fee_micro(quote, ppm)
        ledger.book_trade(account, market, lots, quote, fee_micro=fee, mark_ticks=mark)
        self.fees_micro += fee
        self.change_figures(account.account_index, market.spec.market_id)
        if before and before * row.lots <= 0:
            self._end_reduce_only(account, market)

    def _end_reduce_only(self, account: Account, market: Market) -> None:
        """End the resting orders that have nothing to reduce any more."""
        for order in list(account.orders.values()):
            mine = order.reduce_only and order.market_id == market.spec.market_id
            if mine and not ledger.reducible_lots(account, order):
                self._finish(order, _REDUCE_ONLY)

    # --- resting orders ----------------------------------------------------------------------------------------------

    def _put_in(self, account: Account, market: Market, order: Order) -> None:
        market.book.add(order)
        account.orders[order.order_index] = order
        if order.client_order_index:
            account.by_client_index[order.client_order_index] = order
        self._count_open(account, market, order, order.remaining_lots)
        self._touch(order)
        heapq.heappush(self._expiries, (order.order_expiry_ms, order.order_index, order.account_index))
        if len(self._expiries) > _SPARE_EXPIRIES + 2 * sum(len(each.orders) for each in self.accounts.values()):
            self._rebuild_expiries()

    def _take_out(self, account: Account, market: Market, order: Order) -> None:
        market.book.remove(order)
        del account.orders[order.order_index]
        account.by_client_index.pop(order.client_order_index, None)
        self._count_open(account, market, order, -order.remaining_lots)
        self._touch(order)

    def _rebuild_expiries(self) -> None:
        """Forget the expiries of orders that ended before."""
        orders = (order for account in self.accounts.values() for order in account.orders.values())
        self._expiries = [(order.order_expiry_ms, order.order_index, order.account_index) for order in orders]
        heapq.heapify(self._expiries)

    def _count_open(self, account: Account, market: Market, order: Order, lots: int) -> None:
        if order.reduce_only:
            return
        row = account.open_position(market)
        if order.is_ask:
            row.open_ask_lots += lots
        else:
            row.open_bid_lots += lots

    def _finish(self, order: Order, status: str) -> None:
        account, market = self.accounts[order.account_index], self.markets[order.market_id]
        if order.order_index in account.orders:
            self._take_out(account, market, order)
        order.status = status
        account.inactive.append(order)
        self._changed(order)

    def _touch(self, order: Order) -> None:
        self._levels[order.market_id, order.is_ask, order.price_ticks] = None

    def _changed(self, order: Order) -> None:
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


def _unmatched_status(order: Order, best: Order | None) -> str:
    """Give the status of an order that meets nobody (any more); nothing if it may rest."""
    if order.order_type == OrderType.MARKET:
        return _LIQUIDITY if best is None else _SLIPPAGE
    return _CANCELED if order.time_in_force == TimeInForce.IOC else ""
