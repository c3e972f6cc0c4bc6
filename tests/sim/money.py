"""What no trade, settlement or liquidation of the local venue may change: all the money in it."""

from __future__ import annotations

from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.model.specs import COLLATERAL_ASSET


def everything_micro(engine: Engine) -> int:
    """Add up the collateral asset: in both purses, less what the open lots cost, and what the venue took or left over."""
    total = engine.fees_micro + engine.funding_pot_micro + units_of(engine, COLLATERAL_ASSET)
    for account in engine.accounts():
        total += account.collateral_micro
        for row in account.positions.values():
            total += row.allocated_micro - (row.entry_quote_micro if row.lots > 0 else -row.entry_quote_micro)
    return total


def units_of(engine: Engine, asset_id: int) -> int:
    """Add up an asset's spot balances, and the fees that were taken in it."""
    held = (account.assets.get(asset_id) for account in engine.accounts())
    return engine.asset_fees.get(asset_id, 0) + sum(holding.balance for holding in held if holding is not None)
