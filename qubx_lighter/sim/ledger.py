"""Accounts of the local venue: positions, collateral, fees and cross margin, in integers only.

Margin, the simple way this venue counts it (initial fractions are the account's own for the market, in 1e-4):

- *position requirement*: the position's notional at the mark price times the fraction, rounded up.
- *requirement with orders*, which a new resting order must meet: per market the largest of the position, the position with
  all resting bids filled, and with all resting asks filled, valued at mark. Reduce-only orders count nothing.
- a *fill* must leave the account's total value at or above its position requirement, unless it only reduces a position.

Rounding, which matters only where price and size decimals add up to more than the collateral's 6: a trade's quote is
rounded down once and both sides book that same number, so nothing is created or lost; fees round half up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from qubx_lighter.constants import MARGIN_FRACTION_SCALE, PPM
from qubx_lighter.sim.market import Market
from qubx_lighter.sim.model import FundingPayment, Order, Position, Trade

HISTORY: Final = 10_000
"""How many ended orders and trades an account, and trades a market, remember."""


@dataclass(slots=True)
class ApiKey:
    """A registered key; ``nonce`` is the next one that the venue takes."""

    public_key: str
    nonce: int


@dataclass(slots=True)
class Account:
    """An account and all it has; the rows are the engine's own: read, never write."""

    account_index: int
    l1_address: str
    collateral_micro: int  # realised profit and fees included, unrealised profit not
    fee_free: bool = False
    created_at: int = 0  # µs
    positions: dict[int, Position] = field(default_factory=dict)  # by market id; flat rows stay
    keys: dict[int, ApiKey] = field(default_factory=dict)
    orders: dict[int, Order] = field(default_factory=dict)  # resting, by order index
    by_client_index: dict[int, Order] = field(default_factory=dict)  # resting
    inactive: deque[Order] = field(default_factory=lambda: deque(maxlen=HISTORY))  # oldest first
    trades: deque[Trade] = field(default_factory=lambda: deque(maxlen=HISTORY))  # oldest first
    fundings: deque[FundingPayment] = field(default_factory=lambda: deque(maxlen=HISTORY))  # oldest first

    def position(self, market: Market) -> Position:
        """Give the position row of a market; without one a flat row, which is not kept."""
        market_id = market.spec.market_id
        row = self.positions.get(market_id)
        return row or Position(market_id, initial_margin_fraction=market.spec.default_initial_margin_fraction)

    def holds(self, market_id: int) -> bool:
        """Tell whether it has a position in a market that is not flat."""
        row = self.positions.get(market_id)
        return row is not None and row.lots != 0

    def open_position(self, market: Market) -> Position:
        """Give the position row of a market, and keep it."""
        return self.positions.setdefault(market.spec.market_id, self.position(market))


def fee_micro(quote_micro: int, ppm: int) -> int:
    """Give the fee on a notional, rounded half up."""
    return (quote_micro * ppm + PPM // 2) // PPM


def book_fill(position: Position, lots: int, quote_micro: int) -> int:
    """Change a position by signed ``lots`` that cost ``quote_micro`` and return the profit that this realised.

    What closes takes its share of the entry quote, rounded down; the last lot takes the rest. A closed position forgets its
    realised profit, as the venue's rows do (captured: a round trip of 0.0055 loss leaves ``realized_pnl`` at zero), and its
    funding, which nobody has captured.
    """
    held = position.lots
    if held * lots >= 0:
        position.lots += lots
        position.entry_quote_micro += quote_micro
        return 0
    closed = min(abs(held), abs(lots))
    closed_quote = quote_micro * closed // abs(lots)
    entry_quote = position.entry_quote_micro * closed // abs(held)
    realized = closed_quote - entry_quote if held > 0 else entry_quote - closed_quote
    position.lots += lots
    if abs(lots) < abs(held):
        position.entry_quote_micro -= entry_quote
        position.realized_pnl_micro += realized
    else:
        position.entry_quote_micro = quote_micro - closed_quote
        position.realized_pnl_micro = 0
        position.funding_paid_micro = 0
    return realized


def unrealized_micro(market: Market, position: Position) -> int:
    """Give a position's profit at the mark price."""
    value = market.quote_micro(market.mark_price_ticks(), abs(position.lots))
    return value - position.entry_quote_micro if position.lots >= 0 else position.entry_quote_micro - value


def total_value_micro(account: Account, markets: Mapping[int, Market]) -> int:
    """Give collateral and unrealised profit."""
    open_rows = (row for row in account.positions.values() if row.lots)
    return account.collateral_micro + sum(unrealized_micro(markets[row.market_id], row) for row in open_rows)


def margin_micro(market: Market, lots: int, fraction: int, mark_ticks: int = 0) -> int:
    """Give the margin of ``lots`` at the mark price for a fraction in 1e-4, rounded up."""
    notional = market.quote_micro(mark_ticks or market.mark_price_ticks(), lots)
    return -(-notional * fraction // MARGIN_FRACTION_SCALE)


def initial_requirement_micro(account: Account, markets: Mapping[int, Market]) -> int:
    """Give the positions' initial margin."""
    return sum(
        margin_micro(markets[row.market_id], abs(row.lots), row.initial_margin_fraction)
        for row in account.positions.values()
        if row.lots
    )


def maintenance_requirement_micro(account: Account, markets: Mapping[int, Market]) -> int:
    """Give the positions' maintenance margin."""
    return sum(
        margin_micro(markets[row.market_id], abs(row.lots), markets[row.market_id].spec.maintenance_margin_fraction)
        for row in account.positions.values()
        if row.lots
    )


def exposure_lots(row: Position, *, bids: int = 0, asks: int = 0) -> int:
    """Give the largest position that resting orders, and ``bids`` or ``asks`` more lots of them, can lead to."""
    return max(abs(row.lots), row.lots + row.open_bid_lots + bids, row.open_ask_lots + asks - row.lots)


def may_rest(account: Account, markets: Mapping[int, Market], order: Order, replaced_lots: int = 0) -> bool:
    """Tell whether the margin suffices for ``order`` to rest, in place of ``replaced_lots`` of its own."""
    if order.reduce_only:
        return True
    market = markets[order.market_id]
    row = account.position(market)
    more = order.remaining_lots - replaced_lots
    after = exposure_lots(row, asks=more) if order.is_ask else exposure_lots(row, bids=more)
    if after <= exposure_lots(row):
        return True
    mark = market.mark_price_ticks() or order.price_ticks  # the very first order of a market has no mark yet
    required = margin_micro(market, after, row.initial_margin_fraction, mark)
    for other in account.positions.values():
        lots = exposure_lots(other)
        if lots and other.market_id != order.market_id:
            required += margin_micro(markets[other.market_id], lots, other.initial_margin_fraction)
    return total_value_micro(account, markets) >= required


def reducible_lots(account: Account, order: Order) -> int:
    """Give how much an order can take off the account's position."""
    row = account.positions.get(order.market_id)
    held = row.lots if row is not None else 0
    return max(held if order.is_ask else -held, 0)


class Fill(NamedTuple):
    """What a match would do to one account: signed lots at a price, and the fee's rate."""

    market: Market
    lots: int
    price_ticks: int
    fee_ppm: int


def may_fill(account: Account, markets: Mapping[int, Market], fill: Fill) -> bool:
    """Tell whether the margin suffices for a fill; one that turns a position around passes or fails whole."""
    market, row = fill.market, account.position(fill.market)
    after = row.lots + fill.lots
    if abs(after) <= abs(row.lots) and after * row.lots >= 0:
        return True
    quote = market.quote_micro(fill.price_ticks, abs(fill.lots))
    gain = market.quote_micro(market.mark_price_ticks(), abs(fill.lots)) - quote
    value = total_value_micro(account, markets) + (gain if fill.lots > 0 else -gain) - fee_micro(quote, fill.fee_ppm)
    required = initial_requirement_micro(account, markets)
    required -= margin_micro(market, abs(row.lots), row.initial_margin_fraction)
    return value >= required + margin_micro(market, abs(after), row.initial_margin_fraction)
