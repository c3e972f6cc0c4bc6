"""How the venue writes numbers, exact and with every decimal, and the body of an answer."""

from __future__ import annotations

from typing import Any, Final

from qubx_lighter.constants import CODE_OK
from qubx_lighter.sim.model.specs import MarketSpec

Row = dict[str, Any]
COLLATERAL: Final = "USDC"
MICRO_DECIMALS: Final = 6
MICRO: Final = 10**MICRO_DECIMALS


def decimal_text(value: int, decimals: int) -> str:
    """Write ``value`` / 10 ** ``decimals`` with exactly that many decimals."""
    digits = str(abs(value)).rjust(decimals + 1, "0")
    whole = digits[:-decimals] + "." + digits[-decimals:] if decimals else digits
    return "-" + whole if value < 0 else whole


def price_text(spec: MarketSpec, ticks: int) -> str:
    """Write a price."""
    return decimal_text(ticks, spec.price_decimals)


def size_text(spec: MarketSpec, lots: int) -> str:
    """Write a size."""
    return decimal_text(lots, spec.size_decimals)


def micro_text(micro: int) -> str:
    """Write an amount of collateral."""
    return decimal_text(micro, MICRO_DECIMALS)


def percent_text(ppm: int) -> str:
    """Write a fee rate in percent: 20 ppm is ``0.0020``."""
    return decimal_text(ppm, 4)


def success(**fields: Any) -> Row:
    """Write the body of a request that succeeded."""
    return {"code": CODE_OK, **fields}
