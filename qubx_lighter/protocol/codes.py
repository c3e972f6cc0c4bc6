"""What the venue's words mean: its error codes, and the statuses of its orders.

Error codes: the venue's API documentation. A transaction that the API refused did not consume its nonce
(https://apidocs.lighter.xyz/docs/trading); after the venue's own errors (29500, 29501) nobody knows.

Order statuses: the SDK's ``Order.status``. Reasons follow ``canceled-``, and new ones come now and then, so an unknown
reason is a cancellation; any other unknown status is an error, since guessing would make the account wrong.
"""

from __future__ import annotations

from enum import Enum, StrEnum, auto
from typing import Final, NamedTuple

from qubx_lighter.constants import CODE_OK, Code
from qubx_lighter.errors import WireError


class Outcome(Enum):
    """What became of a transaction that was to be sent."""

    ACCEPTED = auto()  # code 200: queued; the order's own fate shows on the account channels
    REFUSED = auto()  # provably not executed
    UNKNOWN = auto()  # something left, nothing came back: look before acting again


class Cause(StrEnum):
    """Why the venue refused, in terms a caller can act on."""

    INSUFFICIENT_MARGIN = "insufficient-margin"
    NOT_FILLABLE = "not-fillable"
    RATE_LIMITED = "rate-limited"
    TOO_SMALL = "too-small"
    NOT_FOUND = "not-found"
    SEQUENCE = "sequence"
    UNKNOWN = "unknown"


class Refusal(NamedTuple):
    """What an error code in answer to a transaction says.

    Attributes:
        cause: why.
        nonce_consumed: None when the code leaves it open, and with it whether the transaction was executed.
        is_nonce: the nonce was wrong: ask for the next one and sign again.
        is_auth: the account, its key or a token is wrong: trying again does not help.
        look_up: the order may be at the venue in spite of the refusal.
    """

    cause: Cause = Cause.UNKNOWN
    nonce_consumed: bool | None = False
    is_nonce: bool = False
    is_auth: bool = False
    look_up: bool = False


_UNLISTED: Final = Refusal()
_AUTH: Final = Refusal(is_auth=True)
_MARGIN: Final = Refusal(Cause.INSUFFICIENT_MARGIN)
_RATE: Final = Refusal(Cause.RATE_LIMITED)
_ENDED: Final = Refusal(Cause.NOT_FOUND, look_up=True)
_NONCE: Final = Refusal(Cause.SEQUENCE, is_nonce=True)
_BROKEN: Final = Refusal(nonce_consumed=None, look_up=True)

_REFUSALS: Final[dict[int, Refusal]] = {
    Code.INVALID_AUTH: _AUTH,
    Code.ACCOUNT_NOT_FOUND: _AUTH,
    Code.INVALID_ACCOUNT_INDEX: _AUTH,
    Code.INVALID_NONCE: _NONCE,
    21105: _NONCE,  # nonces of a batch do not rise
    Code.INVALID_PUBLIC_KEY: _AUTH,
    Code.API_KEY_NOT_FOUND: _AUTH,
    Code.PRE_LIQUIDATION: _MARGIN,
    Code.INVALID_SIGNATURE: _AUTH,
    21506: _RATE,  # too many pending transactions
    Code.BELOW_MAINTENANCE_MARGIN: _MARGIN,
    Code.BELOW_INITIAL_MARGIN: _MARGIN,
    Code.NOT_ACTIVE_LIMIT_ORDER: _ENDED,
    Code.AMOUNT_TOO_LOW: Refusal(Cause.TOO_SMALL),
    Code.NOT_ACTIVE_ORDER: _ENDED,
    Code.DUPLICATE_CLIENT_ORDER_INDEX: Refusal(look_up=True),  # an order of that index is working: perhaps this one
    Code.NOT_ENOUGH_MARGIN: _MARGIN,
    Code.TOO_MANY_REQUESTS: _RATE,
    Code.NOT_FOUND: _ENDED,
    Code.INTERNAL_ERROR: _BROKEN,
    Code.NOT_IMPLEMENTED: _BROKEN,
    Code.TOO_MANY_MESSAGES: _RATE,
    Code.TOO_MANY_IN_FLIGHT: _RATE,
}


def refusal_of(code: int) -> Refusal:
    """Explain an error code; an unlisted one is a plain refusal for an unknown cause."""
    return _REFUSALS.get(code, _UNLISTED)


def cause_of_code(code: int) -> Cause:
    """Give the cause behind an error code."""
    return refusal_of(code).cause


def outcome_of_code(code: int) -> Outcome:
    """Tell what became of a transaction that was answered with ``code`` (200 or an error code)."""
    if code == CODE_OK:
        return Outcome.ACCEPTED
    return Outcome.UNKNOWN if refusal_of(code).nonce_consumed is None else Outcome.REFUSED


# --- order statuses --------------------------------------------------------------------------------------------------


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
