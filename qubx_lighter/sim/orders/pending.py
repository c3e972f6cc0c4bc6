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

from typing import TYPE_CHECKING, Final

from qubx_lighter.sim.accounts import ledger
from qubx_lighter.sim.model.records import OPEN, Order, TriggerStatus
from qubx_lighter.sim.orders import twap
from qubx_lighter.sim.orders.agenda import Agenda, Duty
from qubx_lighter.sim.orders.triggers import Triggers

if TYPE_CHECKING:
    from qubx_lighter.sim.accounts.ledger import Account
    from qubx_lighter.sim.orders.sequencer import Sequencer

CHILD: Final = "canceled-child"
OCO: Final = "canceled-oco"
REDUCE_ONLY: Final = "canceled-reduce-only"
EXPIRED: Final = "canceled-expired"


class Pending:
    """The orders off the book of one venue.

    Args:
        sequencer: places, ends and tells of orders.

    Attributes:
        agenda: what is done at a time.
    """

    def __init__(self, sequencer: Sequencer) -> None:
        self._sequencer = sequencer
        self.agenda = Agenda()
        self._triggers = Triggers()
        self._ended_parents: list[Order] = []

    def add(self, order: Order) -> None:
        """Let an order wait, or wait for something else than before."""
        if order.trigger_status == TriggerStatus.MARK_PRICE:
            self._triggers.add(order)
        elif order.trigger_status == TriggerStatus.TWAP:
            self.agenda.add(self._sequencer.now, Duty.TWAP_SLICE, order.account_index, order.order_index)

    # --- parents and children ----------------------------------------------------------------------------------------

    def end_children(self, parent: Order) -> None:
        """End what waits for an order that is cancelled or expires."""
        for child in self._children(parent):
            self._sequencer.finish(child, CHILD)

    def parent_ended(self, parent: Order) -> None:
        """Note that an order with children has ended; they follow with ``settle``, when all its fills are booked."""
        self._ended_parents.append(parent)

    def settle(self) -> None:
        """Let the children of ended parents take their size, or end."""
        while self._ended_parents:
            parent = self._ended_parents.pop(0)
            for child in self._children(parent):
                if parent.filled_lots:
                    self._activate(child, parent.filled_lots)
                else:
                    self._sequencer.finish(child, CHILD)

    def _children(self, parent: Order) -> list[Order]:
        orders = self._account(parent).orders
        return [orders[index] for index in parent.to_trigger if index in orders]

    def _activate(self, child: Order, lots: int) -> None:
        if not ledger.reducible_lots(self._account(child), child):
            self._sequencer.finish(child, REDUCE_ONLY)
            return
        child.initial_lots = child.remaining_lots = lots
        child.trigger_status = TriggerStatus.MARK_PRICE
        self._triggers.add(child)
        self._sequencer.changed(child)

    # --- mark prices -------------------------------------------------------------------------------------------------

    def run_triggers(self) -> bool:
        """Execute all that the mark prices have triggered, and what these executions trigger; tell whether there was any."""
        triggered = False
        while (order := self._triggers.next_due(self._sequencer.markets)) is not None:
            self._trigger(order)
            self.settle()
            triggered = True
        return triggered

    def _trigger(self, order: Order) -> None:
        sequencer, account = self._sequencer, self._account(order)
        reducible = ledger.reducible_lots(account, order)
        if order.reduce_only and not reducible:
            sequencer.finish(order, REDUCE_ONLY)
            return
        sequencer.leave(order)
        order.status, order.trigger_status = OPEN, TriggerStatus.NA
        order.trigger_time_ms = sequencer.now // 1000
        if not order.initial_lots:
            order.initial_lots = order.remaining_lots = reducible
        other = account.orders.get(order.to_cancel)
        if other is not None:
            sequencer.finish(other, OCO)
        sequencer.execute(order)

    # --- time --------------------------------------------------------------------------------------------------------

    def run_duties(self) -> None:
        """Do what is due now."""
        while (entry := self.agenda.pop_due(self._sequencer.now)) is not None:
            account = self._sequencer.accounts[entry.account_index]
            if entry.duty is Duty.CANCEL_ALL:
                self._cancel_all(account, entry.time)
            elif (order := account.orders.get(entry.order_index)) is not None:
                self._slice(order)
            self.settle()

    def _cancel_all(self, account: Account, time: int) -> None:
        if account.cancel_all_time_ms * 1000 != time:  # it was called off
            return
        account.cancel_all_time_ms = 0
        self._sequencer.cancel_all(account)

    def _slice(self, order: Order) -> None:
        sequencer, account, market = self._sequencer, self._account(order), self._sequencer.markets[order.market_id]
        if order.reduce_only and not ledger.reducible_lots(account, order):
            sequencer.finish(order, REDUCE_ONLY)
            return
        if market.book.crosses(order.price_ticks, is_ask=order.is_ask):
            lots = twap.slice_lots(order, market.spec, sequencer.now)
            index = market.allocate_order_index(is_ask=order.is_ask)
            part = twap.slice_of(order, lots, index, sequencer.now)
            sequencer.execute(part)
            twap.book_slice(order, part)
            if not order.remaining_lots:
                sequencer.finish(order, "filled")
                return
            if part.filled_lots:
                sequencer.changed(order)
        at = sequencer.now + twap.INTERVAL_US
        self.agenda.add(at, Duty.TWAP_SLICE, order.account_index, order.order_index)

    def _account(self, order: Order) -> Account:
        return self._sequencer.accounts[order.account_index]
