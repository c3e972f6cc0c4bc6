"""Accounts of the local venue: positions, collateral and fees, in integers only.

Margin, the simple way this venue counts it (initial fractions are the account's own for the market, in 1e-4; see ``margin``):

- *position requirement*: the position's notional at the mark price times the fraction, rounded up.
- *requirement with orders*, which a new resting order must meet: per market the largest of the position, the position with
  all resting bids filled, and with all resting asks filled, valued at mark. Reduce-only orders count nothing.
- a *fill* must leave the value at or above the position requirement; where it only reduces a position of an account that is
  below already, it must not make things worse.

Rounding, which matters only where price and size decimals add up to more than the collateral's 6: a trade's quote is
rounded down once and both sides book that same number, so nothing is created or lost; fees round half up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from qubx_lighter.constants import PPM
from qubx_lighter.sim.accounts import margin
from qubx_lighter.sim.accounts.assets import Holding
from qubx_lighter.sim.accounts.margin import Health, Risk
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.model.records import (
    PREMIUM,
    STANDARD,
    AccountType,
    FundingPayment,
    MoneyMove,
    Order,
    Pool,
    PoolShare,
    Position,
    Trade,
)

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
    tier: str = PREMIUM
    tier_changed_at: int = 0  # µs; 0: never
    maker_only_keys: tuple[int, ...] = ()  # ascending
    account_type: AccountType = AccountType.MASTER
    master_index: int | None = None  # of a sub-account or pool
    pool: Pool | None = None
    shares: dict[int, PoolShare] = field(default_factory=dict)  # by the pool's account index
    moves: deque[MoneyMove] = field(default_factory=lambda: deque(maxlen=HISTORY))  # oldest first
    is_unified: bool = False  # its trading mode: spot and perpetuals share the collateral
    positions: dict[int, Position] = field(default_factory=dict)  # by market id; flat rows stay
    keys: dict[int, ApiKey] = field(default_factory=dict)
    orders: dict[int, Order] = field(default_factory=dict)  # resting or pending, by order index
    by_client_index: dict[int, Order] = field(default_factory=dict)  # resting or pending
    inactive: deque[Order] = field(default_factory=lambda: deque(maxlen=HISTORY))  # oldest first
    trades: deque[Trade] = field(default_factory=lambda: deque(maxlen=HISTORY))  # oldest first
    fundings: deque[FundingPayment] = field(default_factory=lambda: deque(maxlen=HISTORY))  # oldest first
    cancel_all_time_ms: int = 0  # when the venue cancels all its orders; 0: never
    assets: dict[int, Holding] = field(default_factory=dict)  # spot balances by asset id; empty ones stay

    def free_units(self, asset_id: int) -> int:
        """Give what can be spent of an asset."""
        holding = self.assets.get(asset_id)
        return holding.free if holding is not None else 0

    def holding(self, asset_id: int) -> Holding:
        """Give the row of an asset, and keep it."""
        return self.assets.setdefault(asset_id, Holding())

    def position(self, market: Market) -> Position:
        """Give the position row of a market; without one a flat row, which is not kept."""
        market_id = market.spec.market_id
        row = self.positions.get(market_id)
        return row or Position(market_id, initial_margin_fraction=market.spec.default_initial_margin_fraction)

    def fee_ppm(self, ppm: int) -> int:
        """Give what the account pays where a market's fee is ``ppm``."""
        return 0 if self.fee_free or self.tier == STANDARD else ppm

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


def book_trade(
    account: Account, market: Market, lots: int, quote_micro: int, *, fee_micro: int, mark_ticks: int
) -> None:
    """Book a match of signed ``lots`` for one account: position, profit, fee, and what an isolated position takes or returns."""
    row = account.open_position(market)
    before = msgspec.structs.replace(row)
    gain = book_fill(row, lots, quote_micro) - fee_micro
    if not margin.is_isolated(row):
        account.collateral_micro += gain
        return
    row.allocated_micro += gain
    moved = margin.moved_micro(market, before, row, fee_micro, mark_ticks)
    row.allocated_micro += moved
    account.collateral_micro -= moved


def total_value_micro(account: Account, markets: Mapping[int, Market]) -> int:
    """Give collateral, allocated margin and unrealised profit."""
    open_rows = [row for row in account.positions.values() if row.lots]
    profit = sum(margin.unrealized_micro(markets[row.market_id], row) for row in open_rows)
    return account.collateral_micro + sum(row.allocated_micro for row in open_rows) + profit


def cross_risk(account: Account, markets: Mapping[int, Market]) -> Risk:
    """Give the figures of the cross positions."""
    return margin.cross_risk(account.collateral_micro, account.positions.values(), markets)


def isolated_risks(account: Account, markets: Mapping[int, Market]) -> dict[int, Risk]:
    """Give the figures of each isolated position, by market id."""
    return {
        row.market_id: margin.isolated_risk(markets[row.market_id], row)
        for row in account.positions.values()
        if row.lots and margin.is_isolated(row)
    }


def risk_of(account: Account, market: Market, markets: Mapping[int, Market]) -> Risk:
    """Give the figures of what backs the position in a market."""
    row = account.position(market)
    return margin.isolated_risk(market, row) if margin.is_isolated(row) else cross_risk(account, markets)


def exposure_lots(row: Position, *, bids: int = 0, asks: int = 0) -> int:
    """Give the largest position that resting orders, and ``bids`` or ``asks`` more lots of them, can lead to."""
    return max(abs(row.lots), row.lots + row.open_bid_lots + bids, row.open_ask_lots + asks - row.lots)


def adds_risk(account: Account, market: Market, order: Order, replaced_lots: int = 0) -> bool:
    """Tell whether ``order``, in place of ``replaced_lots`` of its own, can lead to a larger position."""
    if order.reduce_only:
        return False
    row, more = account.position(market), order.remaining_lots - replaced_lots
    after = exposure_lots(row, asks=more) if order.is_ask else exposure_lots(row, bids=more)
    return after > exposure_lots(row)


def may_rest(account: Account, markets: Mapping[int, Market], order: Order, replaced_lots: int = 0) -> bool:
    """Tell whether the margin suffices for ``order`` to rest, in place of ``replaced_lots`` of its own.

    What isolated markets' orders will need is the account's collateral too, as long as they rest.
    """
    market = markets[order.market_id]
    if account.fee_free or not adds_risk(account, market, order, replaced_lots):
        return True
    row, more = account.position(market), order.remaining_lots - replaced_lots
    lots = exposure_lots(row, asks=more) if order.is_ask else exposure_lots(row, bids=more)
    mark = market.mark_price_ticks() or order.price_ticks  # the very first order of a market has no mark yet
    required = _cross_requirement_micro(market, row, lots, mark)
    for other in account.positions.values():
        if other.market_id != order.market_id and (lots := exposure_lots(other)):
            of_other = markets[other.market_id]
            required += _cross_requirement_micro(of_other, other, lots, of_other.mark_price_ticks())
    return cross_risk(account, markets).value_micro >= required


def _cross_requirement_micro(market: Market, row: Position, lots: int, mark_ticks: int) -> int:
    """Give the margin of ``lots``, of an isolated position of those that it does not have yet."""
    required = margin.margin_micro(market, lots, row.initial_margin_fraction, mark_ticks)
    if margin.is_isolated(row):
        required -= margin.margin_micro(market, abs(row.lots), row.initial_margin_fraction, mark_ticks)
    return required


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
    if account.fee_free:
        return True
    market, row = fill.market, account.position(fill.market)
    reduces = abs(row.lots + fill.lots) <= abs(row.lots) and (row.lots + fill.lots) * row.lots >= 0
    quote = market.quote_micro(fill.price_ticks, abs(fill.lots))
    fee = fee_micro(quote, fill.fee_ppm)
    mark = market.mark_price_ticks() or fill.price_ticks
    after = msgspec.structs.replace(row)
    gain = book_fill(after, fill.lots, quote) - fee
    cross = cross_risk(account, markets)
    if margin.is_isolated(row):
        after.allocated_micro += gain
        moved = margin.moved_micro(market, row, after, fee, mark)
        after.allocated_micro += moved
        if moved > cross.free_micro:
            return False
        risk, then = margin.isolated_risk(market, row, mark), margin.isolated_risk(market, after, mark)
    else:
        risk = cross
        then = cross.with_cash(gain).with_position(market, row, mark, -1).with_position(market, after, mark)
    return risk.allows(then) if reduces else then.health is Health.HEALTHY
