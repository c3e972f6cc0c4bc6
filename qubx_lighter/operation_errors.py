"""Qubx's event for an operation on the venue that failed."""

from __future__ import annotations

from qubx.core.basics import Instrument, dt_64
from qubx.core.errors import ErrorLevel, VenueOperationError, create_error_event


def operation_failed(
    time: dt_64, operation: str, text: str, error: Exception, instrument: Instrument | None = None
) -> object:
    """Make the tuple for Qubx's channel; a strategy hears of it in ``on_error``.

    Args:
        time: when it failed.
        operation: the name of the method that asked for it.
        text: what was not done.
        error: why.
        instrument: of what.
    """
    failed = VenueOperationError(
        timestamp=time, message=text, level=ErrorLevel.MEDIUM, error=error, operation=operation, instrument=instrument
    )
    return create_error_event(failed)
