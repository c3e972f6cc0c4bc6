"""What a match does: the trade is written down, and both sides' orders, positions, balances and fees follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qubx_lighter.constants import PPM
from qubx_lighter.sim.accounts import ledger, spot
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.model.events import Traded
from qubx_lighter.sim.model.records import LIQUIDATION, LIQUIDATION_ORDER, TRADE, Order, Trade
from qubx_lighter.sim.orders import endings
from qubx_lighter.sim.orders.open_orders import OpenOrders
from qubx_lighter.sim.orders.state import VenueState

_LIQUIDATION_FEE_PPM: Final = 10_000


@dataclass(frozen=True, slots=True)
class Taker:
    """An order on its way through the book."""

    account: Account
    market: Market
    order: Order
    tx_hash: str

    @property
    def is_forced(self) -> bool:
        """Whether the venue closes a position with it."""
        return self.order.order_type == LIQUIDATION_ORDER


class Booking:
    """Book matches.

    Args:
        state: the venue's.
        open_orders: the makers.
    """

    def __init__(self, state: VenueState, open_orders: OpenOrders) -> None:
        self._state = state
        self._open_orders = open_orders

    def trade(self, taker: Taker, maker: Order, owner: Account, lots: int) -> None:
        """Book one match, at the maker's price."""
        order, market, account = taker.order, taker.market, taker.account
        price = maker.price_ticks
        mark = market.mark_price_ticks() or price
        quote = market.quote_micro(price, lots)
        forced = taker.is_forced
        taker_ppm = _liquidation_fee_ppm(order, price) if forced else account.fee_ppm(market.spec.taker_fee_ppm)
        maker_ppm = owner.fee_ppm(market.spec.maker_fee_ppm)
        taker_row, maker_row = account.position(market), owner.position(market)
        ask, bid = (order, maker) if order.is_ask else (maker, order)
        trade = Trade(
            trade_id=self._state.next_trade_id(),
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
            time=self._state.now,
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
        self._state.events.append(Traded(trade))
        self._fill_maker(maker, lots, quote)
        order.filled_lots += lots
        order.remaining_lots -= lots
        order.filled_quote_micro += quote
        self.fill(owner, market, lots if bid is maker else -lots, quote, ppm=maker_ppm, mark=mark)
        self.fill(account, market, lots if bid is order else -lots, quote, ppm=taker_ppm, mark=mark)
        if forced:
            fee = ledger.fee_micro(quote, taker_ppm)
            self._state.insurance_fund().collateral_micro += fee
            self._state.fees_micro -= fee

    def _fill_maker(self, maker: Order, lots: int, quote: int) -> None:
        self._open_orders.reduce(maker, lots)
        maker.filled_lots += lots
        maker.remaining_lots -= lots
        maker.filled_quote_micro += quote
        if maker.remaining_lots:
            self._state.change_level(maker)
            self._state.change_order(maker)
        else:
            self._open_orders.finish(maker, endings.FILLED)

    def fill(self, account: Account, market: Market, lots: int, quote: int, *, ppm: int, mark: int) -> None:
        """Book one side of a match: signed ``lots`` for ``quote`` millionths, at a fee of ``ppm``."""
        state = self._state
        if market.spec.is_spot:
            paid = market.spec.base_asset_id if lots > 0 else market.spec.quote_asset_id
            state.asset_fees[paid] += spot.book_fill(account, market, lots, quote, ppm)
            account.holding(market.spec.base_asset_id).last_trade_id = state.trade_id
            state.change_balances(account.account_index)
            if account.is_unified:
                state.change_figures(account.account_index)
            return
        row = account.open_position(market)
        before = row.lots
        fee = ledger.fee_micro(quote, ppm)
        ledger.book_trade(account, market, lots, quote, fee_micro=fee, mark_ticks=mark)
        state.fees_micro += fee
        state.change_figures(account.account_index, market.spec.market_id)
        if before and before * row.lots <= 0:
            self._open_orders.end_reduce_only(account, market)


def _liquidation_fee_ppm(order: Order, price_ticks: int) -> int:
    """Give the fee of a liquidation at a price: what is better than the order's own price, at most 1 %."""
    better = price_ticks - order.price_ticks if order.is_ask else order.price_ticks - price_ticks
    return min(_LIQUIDATION_FEE_PPM, better * PPM // price_ticks)
