"""What a market's type and state allow, whatever the order."""

from __future__ import annotations

from typing import Final

from qubx_lighter.constants import Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.model.specs import ACTIVE, MarketSpec

_INVALID_MARKET_TYPE: Final = 21619


def check_tradable(spec: MarketSpec, price_ticks: int, *, reduce_only: bool) -> None:
    """Insist on a market that takes such an order now.

    Raises:
        VenueError: 21605 while it is not active, 21740 while it only lets positions be reduced, 21702 at or above what a
            binary option can pay.
    """
    if spec.status != ACTIVE:
        raise VenueError(Code.INVALID_MARKET_STATUS, "invalid market status")
    if spec.force_reduce_only and not reduce_only:
        raise VenueError(Code.REDUCE_ONLY_MODE, "market is in reduce only mode")
    if spec.settlement_cap and price_ticks >= spec.settlement_cap:
        raise VenueError(Code.INVALID_PRICE, "invalid price")


def insist_on_perpetual(spec: MarketSpec) -> None:
    """Refuse what only perpetuals have: leverage, triggers, groups, reducing, funding.

    Raises:
        VenueError: 21619.
    """
    if not spec.is_perpetual:
        raise VenueError(_INVALID_MARKET_TYPE, "invalid market type")
