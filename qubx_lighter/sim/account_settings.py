"""Transactions that change how an account trades: leverage and margin mode of a market, an isolated position's margin.

Raising ``VenueError`` is the API's refusal, which uses no nonce; a text that is returned is the sequencer's error.
"""

from __future__ import annotations

from typing import Final

from qubx_lighter.constants import MARGIN_FRACTION_SCALE, Code, MarginMode
from qubx_lighter.errors import VenueError
from qubx_lighter.sim import ledger, margin
from qubx_lighter.sim.ledger import Account
from qubx_lighter.sim.margin import Health
from qubx_lighter.sim.market import Market
from qubx_lighter.sim.sequencer import Sequencer
from qubx_lighter.sim.transactions import UpdateLeverageTx, UpdateMarginTx, failure_text

IN_LIQUIDATION: Final = 21112
INVALID_FRACTION: Final = 21113
MODE_CHANGE_NOT_ALLOWED: Final = 21132
INVALID_AMOUNT: Final = 21300
NOT_ENOUGH_COLLATERAL: Final = 21301
INVALID_MARGIN_MODE: Final = 21613
NO_POSITION: Final = 21614
INVALID_DIRECTION: Final = 21615

_REMOVE: Final = 0
_ADD: Final = 1


def update_leverage(sequencer: Sequencer, tx: UpdateLeverageTx) -> str:
    """Set a market's margin mode and initial margin fraction.

    The mode changes only without position and orders; the fraction fails when the position would then lack margin.

    Raises:
        VenueError: 21112, 21113, 21132 or 21613.
    """
    account, market = sequencer.account(tx.account_index), sequencer.market(tx.market_index)
    _check_leverage(account, market, tx)
    risk = ledger.risk_of(account, market, sequencer.markets)
    if risk.health >= Health.PARTIAL_LIQUIDATION:
        raise VenueError(IN_LIQUIDATION, "account is in liquidation")
    row = account.position(market)
    lots = abs(row.lots)
    more = margin.margin_micro(market, lots, tx.initial_margin_fraction)
    more -= margin.margin_micro(market, lots, row.initial_margin_fraction)
    if more > 0 and risk.value_micro < risk.initial_micro + more:
        return failure_text(Code.BELOW_INITIAL_MARGIN, "account would be below initial margin")
    row = account.open_position(market)
    row.initial_margin_fraction, row.margin_mode = tx.initial_margin_fraction, tx.margin_mode
    sequencer.change_figures(tx.account_index, tx.market_index)
    return ""


def _check_leverage(account: Account, market: Market, tx: UpdateLeverageTx) -> None:
    if tx.margin_mode not in MarginMode:
        raise VenueError(INVALID_MARGIN_MODE, "invalid margin mode")
    if not market.spec.min_initial_margin_fraction <= tx.initial_margin_fraction <= MARGIN_FRACTION_SCALE:
        raise VenueError(INVALID_FRACTION, "invalid initial margin fraction")
    row, market_id = account.position(market), market.spec.market_id
    busy = row.lots or any(order.market_id == market_id for order in account.orders.values())
    if tx.margin_mode != row.margin_mode and busy:
        raise VenueError(MODE_CHANGE_NOT_ALLOWED, "margin mode change not allowed")


def update_margin(sequencer: Sequencer, tx: UpdateMarginTx) -> None:
    """Move collateral between the account and an isolated position: as much as is free where it comes from.

    Raises:
        VenueError: 21300, 21301, 21613, 21614 or 21615.
    """
    account, market = sequencer.account(tx.account_index), sequencer.market(tx.market_index)
    row = account.position(market)
    if tx.direction not in (_REMOVE, _ADD):
        raise VenueError(INVALID_DIRECTION, "invalid update margin direction")
    if not margin.is_isolated(row):
        raise VenueError(INVALID_MARGIN_MODE, "invalid margin mode")
    if not row.lots:
        raise VenueError(NO_POSITION, "no position found")
    if tx.usdc_amount <= 0:
        raise VenueError(INVALID_AMOUNT, "invalid asset amount")
    adds = tx.direction == _ADD
    source = ledger.cross_risk(account, sequencer.markets) if adds else margin.isolated_risk(market, row)
    if tx.usdc_amount > source.free_micro:
        raise VenueError(NOT_ENOUGH_COLLATERAL, "not enough collateral")
    amount = tx.usdc_amount if adds else -tx.usdc_amount
    row.allocated_micro += amount
    account.collateral_micro -= amount
    sequencer.change_figures(tx.account_index, tx.market_index)
