"""What the statuses of the venue's orders mean.

The SDK's ``Order.status`` lists them. Reasons follow ``canceled-``, and new ones come now and then, so an unknown reason is a
cancellation; any other unknown status is an error, since guessing would make the account wrong.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, NamedTuple

from qubx_lighter.errors import WireError
from qubx_lighter.protocol.code_table import Cause


class StatusKind(Enum):
    """What a status means for an order's life."""

    ACCEPTED = auto()  # alive
    FILLED = auto()
    CANCELED = auto()
    EXPIRED = auto()
    REJECTED = auto()  # a cancellation by the venue before the order came to anything


class Status(NamedTuple):
    """A status, and why, where the venue ended the order."""

    kind: StatusKind
    cause: Cause = Cause.UNKNOWN

    @property
    def terminal(self) -> bool:
        """Tell whether the order is over."""
        return self.kind is not StatusKind.ACCEPTED


_CANCELED: Final = "canceled"
_CANCELED_BECAUSE: Final = "canceled-"

_STATUSES: Final[dict[str, Status]] = {
    "in-progress": Status(StatusKind.ACCEPTED),  # being matched
    "pending": Status(StatusKind.ACCEPTED),  # waits for its trigger, or is the parent of a TWAP
    "open": Status(StatusKind.ACCEPTED),
    "filled": Status(StatusKind.FILLED),
    _CANCELED: Status(StatusKind.CANCELED),
    "canceled-post-only": Status(StatusKind.CANCELED, Cause.NOT_FILLABLE),
    "canceled-reduce-only": Status(StatusKind.CANCELED),
    "canceled-position-not-allowed": Status(StatusKind.CANCELED),
    "canceled-margin-not-allowed": Status(StatusKind.CANCELED, Cause.INSUFFICIENT_MARGIN),
    "canceled-too-much-slippage": Status(StatusKind.CANCELED, Cause.NOT_FILLABLE),
    "canceled-not-enough-liquidity": Status(StatusKind.CANCELED, Cause.NOT_FILLABLE),
    "canceled-self-trade": Status(StatusKind.CANCELED),
    "canceled-expired": Status(StatusKind.EXPIRED),
    "canceled-oco": Status(StatusKind.CANCELED),
    "canceled-child": Status(StatusKind.CANCELED),
    "canceled-liquidation": Status(StatusKind.CANCELED),
    "canceled-invalid-balance": Status(StatusKind.CANCELED, Cause.INSUFFICIENT_MARGIN),
}


def classify_status(status: str, *, rested: bool, filled: bool) -> Status:
    """Classify an order's status.

    A cancellation for a reason is a rejection when the order never ``rested`` in the book and nothing of it is
    ``filled``. Without a reason it never is: what an immediate-or-cancel order could not fill ends so too.

    Raises:
        WireError: the status is unknown.
    """
    known = _STATUSES.get(status)
    if known is None:
        if not status.startswith(_CANCELED_BECAUSE):
            raise WireError(f"unknown order status {status!r}")
        known = _STATUSES[_CANCELED]
    refused = known.kind is StatusKind.CANCELED and status != _CANCELED and not rested and not filled
    return known._replace(kind=StatusKind.REJECTED) if refused else known


def is_terminal(status: str) -> bool:
    """Tell whether an order of that status is over.

    Raises:
        WireError: the status is unknown.
    """
    return classify_status(status, rested=True, filled=True).terminal
