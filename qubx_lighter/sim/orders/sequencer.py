"""The local venue's sequencer: what falls due happens at its time, orders are placed and amended, one transaction after another.

A method that raises ``VenueError`` is the API's refusal: nothing has changed and no nonce is used. What fails only when it is
executed ends the order instead, see ``endings``. What does not go to the book at once is ``pending``'s.
"""

from __future__ import annotations

from random import Random
from typing import Final

from qubx_lighter.protocol.order_table import SelfTrade
from qubx_lighter.sim.accounts.funding import Funding
from qubx_lighter.sim.markets import past
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.model.commands import PlaceOrder
from qubx_lighter.sim.model.events import FundingSettled
from qubx_lighter.sim.model.records import OPEN, FundingPayment, Order, TriggerStatus
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.model.transactions import CreateGroupedOrdersTx
from qubx_lighter.sim.orders import endings, groups
from qubx_lighter.sim.orders.booking import Booking
from qubx_lighter.sim.orders.forced import ForcedTrades
from qubx_lighter.sim.orders.matching import Matcher
from qubx_lighter.sim.orders.open_orders import OpenOrders
from qubx_lighter.sim.orders.order_entry import Change, OrderEntry
from qubx_lighter.sim.orders.pending import Pending
from qubx_lighter.sim.orders.state import VenueState

_DEFAULT_SELF_TRADE: Final = SelfTrade()


class Sequencer:
    """What changes the state of the venue; one call is one transaction, ended by ``VenueState.flush``.

    Attributes:
        state: of the venue.
        funding: what settles the hours.
        open_orders: what rests or waits, and how it ends.
        entry: what the API asks of an order.
        pending: what the orders off the book wait for.
        forced: what closes positions against their owners' will.
    """

    def __init__(self, seed: int) -> None:
        start = Random(seed)  # noqa: S311 - ids that start somewhere, as a venue's that has run for a while
        self._seed = seed
        self._sampled_at = 0  # s
        self.state = VenueState(start)
        self.funding = Funding(self.state.markets, self.state.accounts, start)
        self.open_orders = OpenOrders(self.state)
        self.entry = OrderEntry(self.state)
        booking = Booking(self.state, self.open_orders)
        self._matcher = Matcher(self.state, self.open_orders, booking)
        self.pending = Pending(self.state, self.open_orders, self._matcher)
        self.forced = ForcedTrades(self.state, self._matcher, booking)

    # --- time --------------------------------------------------------------------------------------------------------

    def let_time_pass(self, now: int) -> None:
        """Go on to ``now`` (µs), where that is later, and do what falls due on the way, each thing at its time."""
        while (due := self._next_due()) is not None and due <= now:
            self._go_on_to(due)
            self.open_orders.expire()
            self.pending.run_duties()
            self.pending.run_triggers()
        self._go_on_to(now)

    def _go_on_to(self, now: int) -> None:
        """Settle full hours, and take note of mark prices."""
        state = self.state
        before, state.now = state.now, max(state.now, now)
        self.book_funding(self.funding.settle_hours(before, state.now))
        self._sample_mark_prices()

    def _next_due(self) -> int | None:
        times = (self.pending.agenda.next_time(), self.open_orders.next_expiry())
        return min((time for time in times if time is not None), default=None)

    def book_funding(self, payments: list[FundingPayment]) -> None:
        """Let the end of the transaction tell who paid and received funding."""
        for payment in payments:
            self.state.events.append(FundingSettled(payment))
            self.state.change_figures(payment.account_index, payment.market_id)

    def _sample_mark_prices(self) -> None:
        """Take note of the mark prices, as they are before anything happens at ``now``; once a second."""
        now = self.state.now
        second = now // 10**6
        if second == self._sampled_at:
            return
        self._sampled_at = second
        for market in self.state.markets.values():
            price = market.mark_price_ticks()
            if price:
                market.history.add_mark_price(now, price)

    # --- transactions ------------------------------------------------------------------------------------------------

    def open_market(self, spec: MarketSpec, lot_units: int = 0) -> None:
        """Open a market; the ids of trades to come are above those of its past."""
        state = self.state
        if spec.past_price_ticks:
            state.trade_id = max(state.trade_id, past.first_trade_id(state.now // 1000))
        state.markets[spec.market_id] = Market(spec, self._seed, state.now, lot_units)

    def place(self, new: PlaceOrder, self_trade: SelfTrade = _DEFAULT_SELF_TRADE, tx_hash: str = "") -> Order:
        """Place an order: match it, or let it wait.

        Raises:
            VenueError: as ``OrderEntry.prepare``.
        """
        order = self.entry.prepare(new, self_trade, tx_hash)
        self._number(order)
        self._enter(order)
        return order

    def place_group(self, tx: CreateGroupedOrdersTx, tx_hash: str) -> Order:
        """Place a group, and give its first order.

        Raises:
            VenueError: 21501, or as ``OrderEntry.prepare``.
        """
        orders = self.entry.prepare_group(tx, tx_hash)
        for order in orders:
            self._number(order)
        groups.link(tx.grouping_type, orders)
        for order in orders:
            self._enter(order)
        return orders[0]

    def _number(self, order: Order) -> None:
        order.order_index = self.state.markets[order.market_id].allocate_order_index(is_ask=order.is_ask)

    def _enter(self, order: Order) -> None:
        """Let an order begin that is nowhere yet."""
        order.tx_hash = order.tx_hash or self.state.make_hash()
        if order.status == OPEN:
            self._matcher.execute(order, order.tx_hash)
        else:
            self.open_orders.keep(order)
            self.pending.add(order)
            self.state.change_order(order)

    def amend(self, order: Order, change: Change, self_trade: SelfTrade, tx_hash: str) -> None:
        """Give an order a new total size, price and trigger; one in the book goes to the back of the queue.

        Raises:
            VenueError: as ``OrderEntry.prepare_amendment``.
        """
        amended = self.entry.prepare_amendment(order, change)
        if order.status == OPEN:
            self.open_orders.leave(order)
        order.price_ticks = amended.price_ticks
        order.initial_lots, order.remaining_lots = amended.initial_lots, amended.remaining_lots
        order.order_version += 1
        order.self_trade_behavior, order.self_trade_equality = int(self_trade.behavior), int(self_trade.scope)
        if order.status == OPEN:
            self._matcher.execute(order, tx_hash)
        elif order.trigger_status == TriggerStatus.TWAP and not order.remaining_lots:
            self.open_orders.finish(order, endings.FILLED)
        else:
            if change.trigger_ticks != order.trigger_price_ticks:
                order.trigger_price_ticks = change.trigger_ticks
                self.pending.add(order)
            self.state.change_order(order)
