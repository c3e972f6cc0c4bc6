"""A market's integer grid: prices as ticks, sizes as lots; and the venue's units of time and fees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from qubx_lighter.constants import MAX_BASE_LOTS, MAX_PRICE_TICKS, PPM
from qubx_lighter.errors import UnitsError

_NOISE: Final = 1e-6  # of a tick or lot: what arithmetic on floats leaves behind, far below any real distance
_NOISE_ULPS: Final = 4  # the same for values so large that a float cannot resolve _NOISE

# A Unix time is below the first bound in s, the second in ms, the third in µs, for every year from 1973 to 5138.
_MAX_S: Final = 10**11
_MAX_MS: Final = 10**14
_MAX_US: Final = 10**17


@dataclass(frozen=True, slots=True)
class Scale:
    """A market's decimals. One tick is ``10**-price_decimals``, one lot ``10**-size_decimals``."""

    price_decimals: int
    size_decimals: int

    @property
    def tick_size(self) -> float:
        """Give the smallest price step."""
        return float(1 / 10**self.price_decimals)

    @property
    def lot_size(self) -> float:
        """Give the smallest size step."""
        return float(1 / 10**self.size_decimals)

    def to_ticks(self, price: float) -> int:
        """Convert a price that is on the grid.

        Raises:
            UnitsError: ``price`` is off the grid by more than float noise, or outside 1 to 2**32 - 1 ticks.
        """
        return _exact(price, self.price_decimals, MAX_PRICE_TICKS, "price")

    def to_ticks_rounded(self, price: float, *, up: bool) -> int:
        """Convert any price, moving it to the next tick above or below; a price on the grid never moves.

        Raises:
            UnitsError: the result is outside 1 to 2**32 - 1 ticks.
        """
        scaled, nearest = _scaled(price, self.price_decimals, "price")
        if not _is_noise(scaled, nearest):
            nearest = math.ceil(scaled) if up else math.floor(scaled)
        return _in_range(nearest, price, self.price_decimals, MAX_PRICE_TICKS, "price")

    def to_lots(self, size: float) -> int:
        """Convert a size that is on the grid.

        Raises:
            UnitsError: ``size`` is off the grid by more than float noise, or outside 1 to 2**48 - 1 lots.
        """
        return _exact(size, self.size_decimals, MAX_BASE_LOTS, "size")

    def price(self, ticks: int) -> float:
        """Convert ticks to the float nearest to the decimal price."""
        return float(ticks / 10**self.price_decimals)  # int / int is correctly rounded

    def size(self, lots: int) -> float:
        """Convert lots to the float nearest to the decimal size."""
        return float(lots / 10**self.size_decimals)

    def format_price(self, ticks: int) -> str:
        """Write ticks as the venue writes prices: fixed decimals."""
        return _fixed(ticks, self.price_decimals)

    def format_size(self, lots: int) -> str:
        """Write lots as the venue writes sizes: fixed decimals."""
        return _fixed(lots, self.size_decimals)


def time_ns(value: int) -> int:
    """Convert a Unix time in s, ms, µs or ns, told apart by magnitude, to ns; 0 (no time) stays 0."""
    if value >= _MAX_MS:  # first: on the hot path times come in µs
        return value * 1_000 if value < _MAX_US else value
    return value * 1_000_000 if value >= _MAX_S else value * 1_000_000_000


def ppm_fee(notional: float, ppm: int) -> float:
    """Compute a fee, in the notional's currency, from the venue's rate in millionths of the notional."""
    return notional * ppm / PPM


def _scaled(value: float, decimals: int, what: str) -> tuple[float, int]:
    scaled = float(value) * 10**decimals
    if not math.isfinite(scaled):
        raise UnitsError(f"{what} {value} is not a number")
    return scaled, round(scaled)


def _is_noise(scaled: float, nearest: int) -> bool:
    return abs(scaled - nearest) <= max(_NOISE, _NOISE_ULPS * math.ulp(scaled))


def _in_range(units: int, value: float, decimals: int, maximum: int, what: str) -> int:
    if not 1 <= units <= maximum:
        raise UnitsError(f"{what} {value} is outside {_fixed(1, decimals)} to {_fixed(maximum, decimals)}")
    return units


def _exact(value: float, decimals: int, maximum: int, what: str) -> int:
    scaled, nearest = _scaled(value, decimals, what)
    if not _is_noise(scaled, nearest):
        raise UnitsError(f"{what} {value} is not a multiple of {_fixed(1, decimals)}")
    return _in_range(nearest, value, decimals, maximum, what)


def _fixed(units: int, decimals: int) -> str:
    whole, fraction = divmod(abs(units), 10**decimals)
    text = f"{whole}.{fraction:0{decimals}d}" if decimals else str(whole)
    return f"-{text}" if units < 0 else text
