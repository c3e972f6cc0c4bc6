"""Where an account keeps what it can spend: the collateral of its positions, and balances of assets.

In classic mode the two are apart, and the collateral asset can be in both. In unified mode it is in the collateral alone, which
spot orders spend and lock as well: what they lock can neither be withdrawn nor moved, but it backs positions.
"""

from __future__ import annotations

from collections.abc import Mapping

from qubx_lighter.sim.accounts import ledger
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.model.specs import COLLATERAL_ASSET


def is_shared(account: Account, asset_id: int) -> bool:
    """Tell whether an asset is kept as collateral although it is spent in spot markets."""
    return account.is_unified and asset_id == COLLATERAL_ASSET


def unlocked_micro(account: Account, markets: Mapping[int, Market]) -> int:
    """Give the collateral that is neither margin nor unrealised profit, whatever orders lock of it."""
    return ledger.cross_risk(account, markets).free_micro


def free_collateral_micro(account: Account, markets: Mapping[int, Market]) -> int:
    """Give the collateral that may be taken out."""
    held = account.assets.get(COLLATERAL_ASSET) if account.is_unified else None
    return max(unlocked_micro(account, markets) - (held.locked if held is not None else 0), 0)


def free_units(account: Account, markets: Mapping[int, Market], asset_id: int) -> int:
    """Give what a spot order may spend of an asset."""
    if is_shared(account, asset_id):
        return free_collateral_micro(account, markets)
    return account.free_units(asset_id)


def take(account: Account, asset_id: int, units: int) -> None:
    """Take away what is there."""
    if is_shared(account, asset_id):
        account.collateral_micro -= units
    else:
        account.holding(asset_id).take_out(units)


def give(account: Account, asset_id: int, units: int) -> None:
    """Add something."""
    if is_shared(account, asset_id):
        account.collateral_micro += units
    else:
        account.holding(asset_id).balance += units
