"""The markets that the local venue knows by name, with the ids and decimals that they have on Lighter's mainnet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from qubx_lighter.errors import ConfigurationError
from qubx_lighter.sim.model import MarketSpec

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


def choose(names: Iterable[str]) -> list[MarketSpec]:
    """Give the markets of these names, all where there is none; of a single number, that many.

    Raises:
        ConfigurationError: a name that the venue does not know; the message lists those it does.
    """
    wanted = list(names) or list(KNOWN)
    if len(wanted) == 1 and wanted[0].isdecimal():
        return first(int(wanted[0]))
    unknown = [name for name in wanted if name not in KNOWN]
    if unknown:
        raise ConfigurationError(f"no such market: {', '.join(unknown)}; the local venue has {', '.join(KNOWN)}")
    return [KNOWN[name] for name in dict.fromkeys(wanted)]


def first(count: int) -> list[MarketSpec]:
    """Give ``count`` markets: the known ones, then made-up ones.

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
    return next((spec for spec in KNOWN.values() if spec.market_id == market_id), None)
