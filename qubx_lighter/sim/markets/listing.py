"""The markets that the local venue knows by name, with the ids and decimals that they have on Lighter's mainnet.

Where none is named, all perpetuals are opened; a spot market or a binary option is named. The option is made up.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from qubx_lighter.constants import MARGIN_FRACTION_SCALE
from qubx_lighter.errors import ConfigurationError
from qubx_lighter.sim.model.specs import BINARY_OPTIONS, SPOT, MarketSpec

_MOST_MARKETS: Final = 240
_FIRST_MADE: Final = 300  # beyond the ids of mainnet, and of 255, which stands for all

KNOWN: Final[dict[str, MarketSpec]] = {
    spec.symbol: spec
    for spec in (
        MarketSpec(0, "ETH", 2, 4, min_base_lots=50, initial_price_ticks=300_000),
        MarketSpec(1, "BTC", 1, 5, min_base_lots=20, initial_price_ticks=1_000_000),
        MarketSpec(
            2,
            "SOL",
            3,
            3,
            min_base_lots=50,
            initial_price_ticks=150_000,
            min_initial_margin_fraction=400,
            maintenance_margin_fraction=240,
            closeout_margin_fraction=160,
        ),
        MarketSpec(
            24,
            "HYPE",
            4,
            2,
            min_base_lots=50,
            initial_price_ticks=400_000,
            default_initial_margin_fraction=1000,
            min_initial_margin_fraction=500,
            maintenance_margin_fraction=300,
            closeout_margin_fraction=200,
        ),
    )
}

SPOT_MARKETS: Final[dict[str, MarketSpec]] = {
    "ETH/USDC": MarketSpec(
        2048,
        "ETH/USDC",
        2,
        4,
        min_base_lots=50,
        initial_price_ticks=300_000,
        market_type=SPOT,
        base_asset_id=1,
        quote_asset_id=3,
    ),
}
OPTIONS: Final[dict[str, MarketSpec]] = {
    "BTC100K": MarketSpec(
        1000,
        "BTC100K",
        2,
        2,
        min_base_lots=100,
        min_quote_micro=1_000_000,
        initial_price_ticks=50,
        default_initial_margin_fraction=MARGIN_FRACTION_SCALE,
        min_initial_margin_fraction=MARGIN_FRACTION_SCALE,
        maintenance_margin_fraction=0,
        closeout_margin_fraction=0,
        market_type=BINARY_OPTIONS,
        settlement_cap=100,
    ),
}
_BY_NAME: Final = KNOWN | SPOT_MARKETS | OPTIONS


def choose(names: Iterable[str]) -> list[MarketSpec]:
    """Give the markets of these names, all perpetuals where there is none; of a single number, that many of them.

    Raises:
        ConfigurationError: a name that the venue does not know; the message lists those it does.
    """
    wanted = list(names) or list(KNOWN)
    if len(wanted) == 1 and wanted[0].isdecimal():
        return first(int(wanted[0]))
    unknown = [name for name in wanted if name not in _BY_NAME]
    if unknown:
        raise ConfigurationError(f"no such market: {', '.join(unknown)}; the local venue has {', '.join(_BY_NAME)}")
    return [_BY_NAME[name] for name in dict.fromkeys(wanted)]


def first(count: int) -> list[MarketSpec]:
    """Give ``count`` perpetuals: the known ones, then made-up ones.

    Raises:
        ConfigurationError: not a number of markets that this venue can run.
    """
    if not 1 <= count <= _MOST_MARKETS:
        raise ConfigurationError(f"the local venue runs 1 to {_MOST_MARKETS} markets, not {count}")
    made = [
        MarketSpec(_FIRST_MADE + i, f"MKT{i:03}", 3, 3, min_base_lots=50, initial_price_ticks=20_000 + 1_000 * i)
        for i in range(max(0, count - len(KNOWN)))
    ]
    return [*KNOWN.values(), *made][:count]


def known_id(market_id: int) -> MarketSpec | None:
    """Find a market by its id."""
    return next((spec for spec in _BY_NAME.values() if spec.market_id == market_id), None)
