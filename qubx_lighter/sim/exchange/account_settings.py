"""What changes how an account trades: leverage, margin modes, isolated margin, trading mode, tier, maker-only keys.

Of a transaction, raising ``VenueError`` is the API's refusal, which uses no nonce, and a text that is returned the sequencer's error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from qubx_lighter.constants import MARGIN_FRACTION_SCALE, Code, MarginMode
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.accounts import ledger, margin, purses
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.accounts.margin import Health
from qubx_lighter.sim.exchange.admission import failure_text
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.markets.market_rules import insist_on_perpetual
from qubx_lighter.sim.model.records import TIERS
from qubx_lighter.sim.model.specs import COLLATERAL_ASSET
from qubx_lighter.sim.model.transactions import UpdateAccountConfigTx, UpdateLeverageTx, UpdateMarginTx
from qubx_lighter.sim.orders.state import VenueState

IN_LIQUIDATION: Final = 21112
INVALID_FRACTION: Final = 21113
MODE_CHANGE_NOT_ALLOWED: Final = 21132
INVALID_RISK_CHANGE: Final = 21133
INVALID_AMOUNT: Final = 21300
NOT_ENOUGH_COLLATERAL: Final = 21301
INVALID_MARGIN_MODE: Final = 21613
NO_POSITION: Final = 21614
INVALID_DIRECTION: Final = 21615

INVALID_TIER: Final = 62002
SAME_TIER: Final = 62003
TIER_WITH_POSITIONS: Final = 62004
TIER_WITH_ORDERS: Final = 62005
TIER_TOO_SOON: Final = 62006

_TIER_CHANGE_US: Final = 24 * 3600 * 10**6
_REMOVE: Final = 0
_ADD: Final = 1


def update_leverage(state: VenueState, tx: UpdateLeverageTx) -> str:
    """Set a market's margin mode and initial margin fraction.

    The mode changes only without position and orders; the fraction fails when the position would then lack margin.

    Raises:
        VenueError: 21112, 21113, 21132, 21613 or 21619.
    """
    account, market = state.account(tx.account_index), state.market(tx.market_index)
    insist_on_perpetual(market.spec)
    _check_leverage(account, market, tx)
    risk = ledger.risk_of(account, market, state.markets)
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
    state.change_figures(tx.account_index, tx.market_index)
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


def update_margin(state: VenueState, tx: UpdateMarginTx) -> None:
    """Move collateral between the account and an isolated position: as much as is free where it comes from.

    Raises:
        VenueError: 21300, 21301, 21613, 21614 or 21615.
    """
    account, market = state.account(tx.account_index), state.market(tx.market_index)
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
    free = purses.free_collateral_micro(account, state.markets)
    if tx.usdc_amount > (free if adds else margin.isolated_risk(market, row).free_micro):
        raise VenueError(NOT_ENOUGH_COLLATERAL, "not enough collateral")
    amount = tx.usdc_amount if adds else -tx.usdc_amount
    row.allocated_micro += amount
    account.collateral_micro -= amount
    state.change_figures(tx.account_index, tx.market_index)


def update_account_config(state: VenueState, tx: UpdateAccountConfigTx) -> None:
    """Change the trading mode.

    To unified the spot balance of the collateral asset joins the collateral, where it stays; back to classic only a healthy
    account may go whose spot orders lock none of it.

    Raises:
        VenueError: 21112, 21133 or 21501.
    """
    account = state.account(tx.account_index)
    if tx.account_trading_mode != int(not account.is_unified):
        raise VenueError(Code.INVALID_TX_INFO, "invalid tx info: account trading mode")
    if account.is_unified and ledger.cross_risk(account, state.markets).health is not Health.HEALTHY:
        raise VenueError(IN_LIQUIDATION, "account is in liquidation")
    purse = account.holding(COLLATERAL_ASSET)
    if account.is_unified and purse.locked:
        raise VenueError(INVALID_RISK_CHANGE, "invalid risk change")
    if not account.is_unified:
        account.collateral_micro += purse.balance
        purse.take_out(purse.balance)
    account.is_unified = not account.is_unified
    state.change_figures(tx.account_index)
    state.change_balances(tx.account_index)


def change_tier(account: Account, tier: str, now: int) -> None:
    """Give an account another tier, once a day, while it has neither positions nor orders.

    Raises:
        VenueError: 62002, 62003, 62004, 62005 or 62006.
    """
    if tier not in TIERS:
        raise VenueError(INVALID_TIER, "invalid tier")
    if tier == account.tier:
        raise VenueError(SAME_TIER, "account already part of requested tier")
    if any(row.lots for row in account.positions.values()):
        raise VenueError(TIER_WITH_POSITIONS, "account has open positions")
    if account.orders:
        raise VenueError(TIER_WITH_ORDERS, "account has open orders")
    if account.tier_changed_at and now < account.tier_changed_at + _TIER_CHANGE_US:
        raise VenueError(TIER_TOO_SOON, "too frequent tier change request")
    account.tier, account.tier_changed_at = tier, now


def set_maker_only_keys(account: Account, api_key_indexes: Iterable[int]) -> None:
    """Name the keys that may only make; all of them are the account's.

    Raises:
        VenueError: 21109.
    """
    wanted = sorted(set(api_key_indexes))
    if not account.keys.keys() >= set(wanted):
        raise VenueError(Code.API_KEY_NOT_FOUND, "api key not found")
    account.maker_only_keys = tuple(wanted)
