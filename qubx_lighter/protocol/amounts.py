"""Amounts of money as people write them, and as the venue counts them: exactly, or not at all."""

from __future__ import annotations

from decimal import Decimal, DecimalException

from qubx_lighter.errors import UnitsError

type Amount = Decimal | str | float
"""In whole coins; a float counts as the decimal that it prints as."""


def exact_units(amount: Amount, decimals: int, what: str = "amount") -> int:
    """Convert a positive amount to the asset's smallest units.

    Raises:
        UnitsError: it is no number, not positive, or finer than the asset's decimals.
    """
    value = as_decimal(amount, what)
    units = value.scaleb(decimals)
    if units != units.to_integral_value():
        raise UnitsError(f"{what} {amount} is finer than the venue counts, by {decimals} decimals")
    if units <= 0:
        raise UnitsError(f"{what} {amount} is not positive")
    return int(units)


def as_decimal(amount: Amount, what: str = "amount") -> Decimal:
    """Read a number exactly as it is written.

    Raises:
        UnitsError: it is none, or not finite.
    """
    try:
        value = Decimal(str(amount)) if not isinstance(amount, bool) else Decimal("NaN")
    except DecimalException:
        value = Decimal("NaN")
    if not value.is_finite():
        raise UnitsError(f"{what} {amount!r} is not a number")
    return value


def written(units: int, decimals: int) -> str:
    """Write units as whole coins, without trailing zeros."""
    return f"{Decimal(units).scaleb(-decimals).normalize():f}"
