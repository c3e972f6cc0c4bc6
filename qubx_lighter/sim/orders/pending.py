"""What becomes of the orders that are not in the book: for each, what it waits for and what happens then.

==============  ===========================================  =================================================================
trigger status  it waits for                                 then
==============  ===========================================  =================================================================
mark-price      the mark price to meet its trigger           it becomes a market or a limit order under its own index, and
                                                             the order that it is to cancel ends (canceled-oco)
parent-order    its parent's end in the book                 it takes the filled size and waits for the mark price; without
                                                             any it ends (canceled-child)
twap            its next slice, every 30 seconds             an order of the venue's own (twap-sub), which what it fills
                                                             counts for
==============  ===========================================  =================================================================

From the venue's own circuit (``internal_create_order``, ``matching_engine``, ``l2_cancel_order``): a parent that is cancelled
or expires takes its children with it, whatever of it is filled; a reduce-only order is tied to the position, unless it waits
for its parent, and ends with it; size 0 of one that is triggered is the whole position.
"""

from __future__ import annotations

from qubx_lighter.sim.accounts import ledger
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.model.records import OPEN, Order, TriggerStatus
from qubx_lighter.sim.orders import endings, twap
from qubx_lighter.sim.orders.agenda import Agenda, Duty
from qubx_lighter.sim.orders.matching import Matcher
from qubx_lighter.sim.orders.open_orders import OpenOrders
from qubx_lighter.sim.orders.state import VenueState
from qubx_lighter.sim.orders.triggers import Triggers


class Pending:
    """The orders off the book of one venue.

    Args:
        state: the venue's.
        open_orders: keeps and ends them.
        matcher: executes them.

    Attributes:
        agenda: what is done at a time.
    """

    def __init__(self, state: VenueState, open_orders: OpenOrders, matcher: Matcher) -> None:
        self.agenda = Agenda()
        self._state = state
        self._open_orders = open_orders
        self._matcher = matcher
        self._triggers = Triggers()

    def add(self, order: Order) -> None:
        """Let an order wait, or wait for something else than before."""
        if order.trigger_status == TriggerStatus.MARK_PRICE:
            self._triggers.add(order)
        elif order.trigger_status == TriggerStatus.TWAP:
            self.agenda.add(self._state.now, Duty.TWAP_SLICE, order.account_index, order.order_index)

    # --- parents and children ----------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let the children of ended parents take their size, now that all fills are booked, or end."""
        parents = self._open_orders.ended_parents
        while parents:
            parent = parents.pop(0)
            for child in self._open_orders.children(parent):
                if parent.filled_lots:
                    self._activate(child, parent.filled_lots)
                else:
                    self._open_orders.finish(child, endings.CHILD)

    def _activate(self, child: Order, lots: int) -> None:
        if not ledger.reducible_lots(self._account(child), child):
            self._open_orders.finish(child, endings.REDUCE_ONLY)
            return
        child.initial_lots = child.remaining_lots = lots
        child.trigger_status = TriggerStatus.MARK_PRICE
        self._triggers.add(child)
        self._state.change_order(child)

    # --- mark prices -------------------------------------------------------------------------------------------------

    def run_triggers(self) -> bool:
        """Execute all that the mark prices have triggered, and what these executions trigger; tell whether there was any."""
        triggered = False
        while (order := self._triggers.next_due(self._state.markets)) is not None:
            self._trigger(order)
            self.settle()
            triggered = True
        return triggered

    def _trigger(self, order: Order) -> None:
        state, open_orders, account = self._state, self._open_orders, self._account(order)
        reducible = ledger.reducible_lots(account, order)
        if order.reduce_only and not reducible:
            open_orders.finish(order, endings.REDUCE_ONLY)
            return
        open_orders.leave(order)
        order.status, order.trigger_status = OPEN, TriggerStatus.NA
        order.trigger_time_ms = state.now // 1000
        if not order.initial_lots:
            order.initial_lots = order.remaining_lots = reducible
        other = account.orders.get(order.to_cancel)
        if other is not None:
            open_orders.finish(other, endings.OCO)
        self._matcher.execute(order)

    # --- time --------------------------------------------------------------------------------------------------------

    def run_duties(self) -> None:
        """Do what is due now."""
        while (entry := self.agenda.pop_due(self._state.now)) is not None:
            account = self._state.accounts[entry.account_index]
            if entry.duty is Duty.CANCEL_ALL:
                self._cancel_all(account, entry.time)
            elif (order := account.orders.get(entry.order_index)) is not None:
                self._slice(order)
            self.settle()

    def _cancel_all(self, account: Account, time: int) -> None:
        if account.cancel_all_time_ms * 1000 != time:  # it was called off
            return
        account.cancel_all_time_ms = 0
        self._open_orders.cancel_all(account)

    def _slice(self, order: Order) -> None:
        state, account, market = self._state, self._account(order), self._state.markets[order.market_id]
        if order.reduce_only and not ledger.reducible_lots(account, order):
            self._open_orders.finish(order, endings.REDUCE_ONLY)
            return
        if market.book.crosses(order.price_ticks, is_ask=order.is_ask):
            lots = twap.slice_lots(order, market.spec, state.now)
            index = market.allocate_order_index(is_ask=order.is_ask)
            part = twap.slice_of(order, lots, index, state.now)
            self._matcher.execute(part)
            twap.book_slice(order, part)
            if not order.remaining_lots:
                self._open_orders.finish(order, endings.FILLED)
                return
            if part.filled_lots:
                state.change_order(order)
        at = state.now + twap.INTERVAL_US
        self.agenda.add(at, Duty.TWAP_SLICE, order.account_index, order.order_index)

    def _account(self, order: Order) -> Account:
        return self._state.accounts[order.account_index]
