"""What markets and assets are: their rules, as they are listed.

Units everywhere in the venue: ``*_ticks`` and ``*_lots`` are a market's integers, ``*_micro`` are millionths of the
collateral asset, *units* are those of any other asset, fees are ppm of the notional, times are microseconds (``now``) or
milliseconds where the wire says so.
"""

from __future__ import annotations

from typing import Final

import msgspec

PERPETUAL: Final = "perp"
SPOT: Final = "spot"
BINARY_OPTIONS: Final = "binary_options"
ACTIVE: Final = "active"

COLLATERAL_ASSET: Final = 3
"""USDC on the main deployment."""

_MARKET_KINDS: Final = {PERPETUAL: "perps", SPOT: "spot", BINARY_OPTIONS: "bo"}


class AssetSpec(msgspec.Struct, frozen=True):
    """What accounts hold beside collateral; amounts of it are *units*, integers with ``decimals``."""

    asset_id: int
    symbol: str
    decimals: int
    l1_decimals: int

    @property
    def scale(self) -> int:
        """How many units one of it is."""
        scale: int = 10**self.decimals
        return scale


class MarketSpec(msgspec.Struct, frozen=True):
    """A market's rules.

    Attributes:
        market_type: ``perp``, ``spot``, ``binary_options``, or a word that no client knows.
        status: the venue's word; orders are taken while it is ``active``.
        force_reduce_only: only orders that reduce a position are taken.
        is_listed: whether the public sees it; a delisted market lives on in accounts' rows.
        settlement_cap: of a binary option what it pays at most, in ticks.
    """

    market_id: int
    symbol: str
    price_decimals: int
    size_decimals: int
    min_base_lots: int
    min_quote_micro: int = 10_000_000
    initial_price_ticks: int = 0  # what mark price starts from before the first trade
    default_initial_margin_fraction: int = 500  # 1e-4
    min_initial_margin_fraction: int = 200  # 1e-4
    maintenance_margin_fraction: int = 120  # 1e-4
    closeout_margin_fraction: int = 80  # 1e-4
    maker_fee_ppm: int = 20
    taker_fee_ppm: int = 200
    created_at_ms: int = 1_700_000_000_000
    past_price_ticks: int = 0  # what the prices of a made-up past since created_at_ms wander about; 0: it has no past
    market_type: str = PERPETUAL
    status: str = ACTIVE
    force_reduce_only: bool = False
    is_listed: bool = True
    trading_hours: str = ""
    base_asset_id: int = 0  # of a spot market
    quote_asset_id: int = 0
    settlement_cap: int = 0  # ticks

    @property
    def is_perpetual(self) -> bool:
        """Whether it has funding, and positions that ``positions`` shows."""
        return self.market_type == PERPETUAL

    @property
    def is_spot(self) -> bool:
        """Whether assets change hands in it."""
        return self.market_type == SPOT

    @property
    def kind(self) -> str:
        """What orders and trades call its type."""
        return _MARKET_KINDS.get(self.market_type, self.market_type)
