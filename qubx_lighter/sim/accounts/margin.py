"""Margin: what backs positions, what they require, and what an isolated position takes with it when it changes.

Cross positions share an account's collateral; an isolated position has its own, ``allocated_micro``, and neither can draw on the
other. Each of the two kinds is in one state of health, told by its value (collateral and unrealised profit) and the notional at
the mark price times the market's fractions:

    value >= initial margin            healthy: orders may add risk
    below                              pre-liquidation: only what reduces risk
    below the maintenance margin       partial liquidation: positions are closed in the book, at the zero price or better
    below the close-out margin         full liquidation: what the book does not take is deleveraged at the zero price
    below zero                         bankruptcy: the same

The rules are those of the venue's own circuits (``apply_trade``, ``risk_info`` and ``liquidation`` of its published prover), in
integers: requirements round up, the zero price rounds in favour of the account that is liquidated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import NamedTuple, Self

from qubx_lighter.constants import MARGIN_FRACTION_SCALE, MAX_PRICE_TICKS, MarginMode
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.model.records import Position


class Health(IntEnum):
    """How an account's cross positions, or an isolated position, stand; ordered, best first."""

    HEALTHY = 0
    PRE_LIQUIDATION = 1
    PARTIAL_LIQUIDATION = 2
    FULL_LIQUIDATION = 3
    BANKRUPTCY = 4


class Risk(NamedTuple):
    """What backs some positions, and what they require; millionths."""

    collateral_micro: int
    value_micro: int
    initial_micro: int = 0
    maintenance_micro: int = 0
    closeout_micro: int = 0

    def with_position(self, market: Market, row: Position, mark_ticks: int, sign: int = 1) -> Self:
        """Add a position (``sign`` -1: take it away): its profit and its requirements."""
        if not row.lots:
            return self
        spec, lots = market.spec, abs(row.lots)
        return self._replace(
            value_micro=self.value_micro + sign * unrealized_micro(market, row, mark_ticks),
            initial_micro=self.initial_micro
            + sign * margin_micro(market, lots, row.initial_margin_fraction, mark_ticks),
            maintenance_micro=self.maintenance_micro
            + sign * margin_micro(market, lots, spec.maintenance_margin_fraction, mark_ticks),
            closeout_micro=self.closeout_micro
            + sign * margin_micro(market, lots, spec.closeout_margin_fraction, mark_ticks),
        )

    def with_cash(self, amount_micro: int) -> Self:
        """Add to the collateral."""
        return self._replace(
            collateral_micro=self.collateral_micro + amount_micro, value_micro=self.value_micro + amount_micro
        )

    @property
    def health(self) -> Health:
        """The state of health."""
        if self.value_micro < 0:
            return Health.BANKRUPTCY
        limits = (self.initial_micro, self.maintenance_micro, self.closeout_micro)
        return Health(sum(self.value_micro < limit for limit in limits))

    @property
    def free_micro(self) -> int:
        """What may be taken out: neither margin nor unrealised profit."""
        return max(0, min(self.value_micro - self.initial_micro, self.collateral_micro))

    def allows(self, after: Risk) -> bool:
        """Tell whether a trade may lead from here to there: a healthy account stays healthy, another one improves."""
        if self.health is Health.HEALTHY:
            return after.health is Health.HEALTHY
        return self.value_micro * after.maintenance_micro <= after.value_micro * self.maintenance_micro


def margin_micro(market: Market, lots: int, fraction: int, mark_ticks: int = 0) -> int:
    """Give the margin of ``lots`` at the mark price for a fraction in 1e-4, rounded up.

    Of a binary option it is taken of all that it can ever pay.
    """
    notional = market.quote_micro(market.spec.settlement_cap or mark_ticks or market.mark_price_ticks(), lots)
    return -(-notional * fraction // MARGIN_FRACTION_SCALE)


def unrealized_micro(market: Market, position: Position, mark_ticks: int = 0) -> int:
    """Give a position's profit at the mark price."""
    value = market.quote_micro(mark_ticks or market.mark_price_ticks(), abs(position.lots))
    return value - position.entry_quote_micro if position.lots >= 0 else position.entry_quote_micro - value


def is_isolated(position: Position) -> bool:
    """Tell whether a position has collateral of its own."""
    return position.margin_mode == MarginMode.ISOLATED


def cross_risk(collateral_micro: int, rows: Iterable[Position], markets: Mapping[int, Market]) -> Risk:
    """Add up an account's cross positions."""
    risk = Risk(collateral_micro, collateral_micro)
    for row in rows:
        if row.lots and not is_isolated(row):
            market = markets[row.market_id]
            risk = risk.with_position(market, row, market.mark_price_ticks())
    return risk


def isolated_risk(market: Market, row: Position, mark_ticks: int = 0) -> Risk:
    """Give the figures of an isolated position."""
    own = Risk(row.allocated_micro, row.allocated_micro)
    return own.with_position(market, row, mark_ticks or market.mark_price_ticks())


def moved_micro(market: Market, before: Position, after: Position, fee_micro: int, mark_ticks: int) -> int:
    """Give what a trade moves from the account's collateral to an isolated position; negative: what it gives back.

    Args:
        market: the position's.
        before: the position before the trade.
        after: the position after it; its allocated margin has the realised profit and the fee in it already.
        fee_micro: the fee.
        mark_ticks: the mark price.
    """
    if not after.lots:
        return -max(after.allocated_micro, 0)
    required = margin_micro(market, abs(after.lots), after.initial_margin_fraction, mark_ticks)
    value = after.allocated_micro + unrealized_micro(market, after, mark_ticks)
    if before.lots * after.lots < 0:
        return required - value
    added = abs(after.lots) - abs(before.lots)
    if added >= 0:
        gain = unrealized_micro(market, after, mark_ticks) - unrealized_micro(market, before, mark_ticks) - fee_micro
        return max(0, margin_micro(market, added, after.initial_margin_fraction, mark_ticks) - gain)
    value_before = before.allocated_micro + unrealized_micro(market, before, mark_ticks)
    share = -(-value_before * abs(after.lots) // abs(before.lots))
    return -min(max(0, value - max(share, required)), max(after.allocated_micro, 0))


def zero_price_ticks(market: Market, row: Position, risk: Risk) -> int:
    """Give the price at which closing a position leaves the ratio of value and maintenance margin as it is.

    Args:
        market: the position's.
        row: the position, not flat.
        risk: of what backs it.
    """
    mark = market.mark_price_ticks()
    sign = 1 if row.lots > 0 else -1
    whole = risk.maintenance_micro * MARGIN_FRACTION_SCALE
    price = mark * whole - sign * mark * market.spec.maintenance_margin_fraction * risk.value_micro
    rounded = -(-price // whole) if sign > 0 else price // whole
    return min(max(rounded, 1), MAX_PRICE_TICKS)


def liquidation_price_ticks(market: Market, row: Position, risk: Risk) -> int:
    """Give the mark price at which a position's value falls to its maintenance margin; 0 where there is none."""
    sign, lots = (1, row.lots) if row.lots > 0 else (-1, -row.lots)
    unit = market.quote_micro(1, lots) * (MARGIN_FRACTION_SCALE - sign * market.spec.maintenance_margin_fraction)
    spare = (risk.value_micro - risk.maintenance_micro) * MARGIN_FRACTION_SCALE
    price = market.mark_price_ticks() - sign * spare // unit if unit > 0 else 0
    return price if 0 < price <= MAX_PRICE_TICKS else 0
