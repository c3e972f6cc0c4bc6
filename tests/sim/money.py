"""What no trade, settlement or liquidation of the local venue may change: all the money in it."""

from __future__ import annotations

from qubx_lighter.sim.engine import Engine


def everything_micro(engine: Engine) -> int:
    """Add up collateral, allocated margin, less what the open lots cost, and what the venue took or left over."""
    total = engine.fees_micro + engine.funding_pot_micro
    for account in engine.accounts():
        total += account.collateral_micro
        for row in account.positions.values():
            total += row.allocated_micro - (row.entry_quote_micro if row.lots > 0 else -row.entry_quote_micro)
    return total
