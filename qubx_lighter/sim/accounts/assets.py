"""The assets that the local venue knows, and what an account holds of them.

Spot balances are apart from the collateral: an account in classic mode has USDC twice, as margin of its positions and as
what it buys other assets with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qubx_lighter.errors import ConfigurationError
from qubx_lighter.sim.model.specs import AssetSpec

USDC: Final = AssetSpec(3, "USDC", decimals=6, l1_decimals=6)

KNOWN: Final[dict[int, AssetSpec]] = {  # ids and decimals are those of the SDK
    spec.asset_id: spec
    for spec in (
        AssetSpec(1, "ETH", decimals=8, l1_decimals=18),
        AssetSpec(2, "LIT", decimals=8, l1_decimals=18),
        USDC,
        AssetSpec(5, "LINK", decimals=8, l1_decimals=18),
        AssetSpec(6, "UNI", decimals=8, l1_decimals=18),
        AssetSpec(7, "AAVE", decimals=8, l1_decimals=18),
        AssetSpec(8, "SKY", decimals=8, l1_decimals=18),
        AssetSpec(9, "LDO", decimals=8, l1_decimals=18),
    )
}


def amounts(by_symbol: Mapping[str, float]) -> dict[int, int]:
    """Give amounts of assets in units, by asset id.

    Raises:
        ConfigurationError: an asset that the venue does not know; the message lists those it does.
    """
    known = {spec.symbol: spec for spec in KNOWN.values()}
    unknown = [symbol for symbol in by_symbol if symbol not in known]
    if unknown:
        raise ConfigurationError(f"no such asset: {', '.join(unknown)}; the local venue has {', '.join(known)}")
    return {known[symbol].asset_id: round(amount * known[symbol].scale) for symbol, amount in by_symbol.items()}


@dataclass(slots=True)
class Holding:
    """What an account has of one asset, in units.

    Attributes:
        locked: the part that resting orders may need; never more than the balance.
        bought_units: the part of the balance that was bought here, after fees.
        cost_micro: what that part cost.
        last_trade_id: of the last trade that changed it.
    """

    balance: int = 0
    locked: int = 0
    bought_units: int = 0
    cost_micro: int = 0
    last_trade_id: int = 0

    @property
    def free(self) -> int:
        """What can be sold or spent."""
        return self.balance - self.locked

    def take_out(self, units: int) -> None:
        """Take units away; those that were bought go in proportion, with their cost."""
        bought = self.bought_units * units // self.balance if self.balance else 0
        cost = self.cost_micro * bought // self.bought_units if self.bought_units else 0
        self.balance -= units
        self.bought_units -= bought
        self.cost_micro -= cost
        if not self.bought_units:
            self.cost_micro = 0
