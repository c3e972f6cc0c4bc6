"""What the API asks of an order before it takes it: its own terms, and what its account and the book allow."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from qubx_lighter.constants import Code, Grouping, OrderType, TimeInForce
from qubx_lighter.errors import VenueError
from qubx_lighter.protocol.order_table import SelfTrade, Terms
from qubx_lighter.sim.accounts import buying_power, ledger
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.accounts.margin import Health
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.model.commands import PlaceOrder
from qubx_lighter.sim.model.records import OPEN, PENDING, Order, TriggerStatus
from qubx_lighter.sim.model.transactions import CreateGroupedOrdersTx
from qubx_lighter.sim.orders import groups, order_counts, order_rules
from qubx_lighter.sim.orders.state import VenueState

_IN_LIQUIDATION: Final = 21112


class Change(NamedTuple):
    """What an amend makes of an order: the new total size, price and trigger."""

    lots: int
    price_ticks: int
    trigger_ticks: int = 0


class OrderEntry:
    """Check orders and write their rows; nothing else changes.

    Args:
        state: the venue's.
    """

    def __init__(self, state: VenueState) -> None:
        self._state = state

    def prepare(self, new: PlaceOrder, self_trade: SelfTrade, tx_hash: str, *, is_child: bool = False) -> Order:
        """Check an order and write its row, which has no index yet.

        Raises:
            VenueError: 21100, 21111, 21112, 21501, 21602, 21701, 21702, 21706, 21711, 21717 to 21720, 21727, 21728, 21729,
                21738 or 21739.
        """
        account, market = self._state.account(new.account_index), self._state.market(new.market_id)
        terms = order_rules.terms_of(new.order_type, new.time_in_force)
        whole = new.reduce_only and not new.base_lots  # base 0 of a reduce-only order: the whole position
        if whole and not terms.has_trigger and new.market_id in account.positions:
            new = msgspec.structs.replace(new, base_lots=abs(account.positions[new.market_id].lots))
        order_rules.check_order(new, market)
        order_rules.check_expiry(new, self._state.now)
        if new.client_order_index in account.by_client_index:
            raise VenueError(Code.DUPLICATE_CLIENT_ORDER_INDEX, "duplicate client order index")
        waits_for = _waits_for(new, terms, is_child=is_child)
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
            created_at=self._state.now,
            updated_at=self._state.now,
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
        order_counts.check(self._state.accounts[tx.account_index], orders[-1], pending)
        return orders

    def prepare_amendment(self, order: Order, change: Change) -> Order:
        """Check an amend and give a copy of the order with its new price and size.

        The size counts what is filled already, and one that is not larger ends the order as filled (the venue's own
        circuit, ``l2_modify_order``). The minimums hold for the new total. The circuit again: a trigger price is given
        if, and only if, the order waits for one; a size of 0 if, and only if, the order has none of its own yet.

        Raises:
            VenueError: 21111, 21112, 21701, 21702, 21706, 21729 or 21739.
        """
        account, market = self._state.accounts[order.account_index], self._state.markets[order.market_id]
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
        return amended

    def _check_health(self, account: Account, market: Market, order: Order, replaced_lots: int = 0) -> None:
        """Refuse what adds risk below the initial margin, and everything below the maintenance margin."""
        if account.fee_free or market.spec.is_spot:  # the feed never runs short, and assets have no margin
            return
        health = ledger.risk_of(account, market, self._state.markets).health
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
        if not buying_power.may_rest(account, self._state.markets, order, replaced_lots):
            raise VenueError(Code.NOT_ENOUGH_MARGIN, "not enough margin to create the order")


def _waits_for(new: PlaceOrder, terms: Terms, *, is_child: bool) -> TriggerStatus:
    """Tell what an order waits for before it goes to the book."""
    if terms.has_trigger:
        return TriggerStatus.PARENT_ORDER if is_child else TriggerStatus.MARK_PRICE
    return TriggerStatus.TWAP if new.order_type == OrderType.TWAP else TriggerStatus.NA
