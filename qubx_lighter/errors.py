"""The exceptions of this package, one tree:

LighterError
├── ConfigurationError      a setting is missing or wrong; the message says which and what to do
├── UnitsError              a price or size is off the market's grid or out of the wire's range
├── UnknownMarketError      an instrument or market id that the venue does not list
├── SigningError            the native signer refused or is unavailable
├── TransportError          the venue could not be reached, or the connection broke: nothing was decided
│   ├── NotSentError        definitely nothing left this machine
│   └── OutcomeUnknownError something left, no answer came: look before acting again
├── RateLimitedError        our own budget of the venue's limits has no room: nothing was sent
├── VenueError              the venue answered with an error code (``code``, ``message``)
└── WireError               a frame or body that does not have the documented shape
"""

from __future__ import annotations


class LighterError(Exception):
    """Base of every exception raised by this package."""


class ConfigurationError(LighterError):
    """A setting is missing or wrong."""


class UnitsError(LighterError, ValueError):
    """A price or size that the venue's integer grid cannot carry."""


class UnknownMarketError(LighterError, LookupError):
    """An instrument or market id that the venue does not list."""


class SigningError(LighterError):
    """The native signer refused to sign, or could not be loaded."""


class TransportError(LighterError):
    """The venue could not be reached, or the connection broke."""


class NotSentError(TransportError):
    """Nothing left this machine, so nothing can have happened at the venue."""


class OutcomeUnknownError(TransportError):
    """A request left this machine and no answer came: it may or may not have happened."""


class RateLimitedError(LighterError):
    """Our own budget of the venue's limits has no room, so nothing was sent."""


class VenueError(LighterError):
    """The venue refused a request.

    Attributes:
        code: the venue's error code (``constants.Code`` lists those acted on).
        message: the venue's text, which may hold anything: log it as an argument, never inside a format string.
        status: the HTTP status, or 0 for a refusal on the socket.
        retry_after_s: how long the venue asks to wait, or None where it does not say.
    """

    def __init__(self, code: int, message: str, status: int = 0, retry_after_s: float | None = None) -> None:
        super().__init__(f"venue error {code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.retry_after_s = retry_after_s


class WireError(LighterError):
    """A frame or body that does not have the documented shape."""
