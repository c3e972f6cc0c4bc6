"""Trades that nobody asked for: positions that the venue closes in the book, or against each other."""

from __future__ import annotations

from qubx_lighter.constants import TimeInForce
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.model.events import Traded
from qubx_lighter.sim.model.records import DELEVERAGE, LIQUIDATION_ORDER, OPEN, Order, Position, Trade
from qubx_lighter.sim.orders.booking import Booking
from qubx_lighter.sim.orders.matching import Matcher
from qubx_lighter.sim.orders.state import VenueState


class ForcedTrades:
    """Close positions.

    Args:
        state: the venue's.
        matcher: what closes them in the book.
        booking: what closes them against each other.
    """

    def __init__(self, state: VenueState, matcher: Matcher, booking: Booking) -> None:
        self._state = state
        self._matcher = matcher
        self._booking = booking

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
            created_at=self._state.now,
            updated_at=self._state.now,
            tx_hash=self._state.make_hash(),
        )
        self._matcher.execute(order, order.tx_hash)

    def deleverage(
        self, account: Account, other: Account, market: Market, lots: int, price_ticks: int, *, kind: str = DELEVERAGE
    ) -> None:
        """Close ``lots`` of an account's position against another one's, at a price: no order, no fee, no market trade."""
        row, opposite = account.position(market), other.position(market)
        seller, buyer = (account, other) if row.lots > 0 else (other, account)
        quote, mark = market.quote_micro(price_ticks, lots), market.mark_price_ticks()
        trade = Trade(
            trade_id=self._state.next_trade_id(),
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
            time=self._state.now,
            tx_hash=self._state.make_hash(),
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
            self._booking.fill(each, market, signed, quote, ppm=0, mark=mark)
        self._state.events.append(Traded(trade))

    def cover(self, account: Account, rows: list[Position]) -> None:
        """Let the insurance fund pay what closed positions have left below zero."""
        for row in rows:
            if row.allocated_micro < 0:
                self._state.insurance_fund().collateral_micro += row.allocated_micro
                row.allocated_micro = 0
        if account.collateral_micro < 0:
            self._state.insurance_fund().collateral_micro += account.collateral_micro
            account.collateral_micro = 0
