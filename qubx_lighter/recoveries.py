"""What the venue's refusals make this process do, beside telling whoever asked; ``protocol.code_table`` says which does what.

Some refusals are of the account or its key: every further transaction would be refused as well. Then new orders and amends
stop here, and the strategy and the user's notifiers are told by one error event, and of the same code not again for ten
minutes. Cancels still go out, since they can do no harm, and so does what only reduces a position, since nobody is to be kept
from closing one; of the rest one a minute, to find out. Anything that was asked for since and that the venue takes ends the
halt; what was asked for before does not, since it may have been taken before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from qubx import logger
from qubx.core.basics import ITimeProvider
from qubx.core.errors import ErrorLevel, VenueOperationError, create_error_event

from qubx_lighter.errors import VenueError
from qubx_lighter.handlers.account import to_ns
from qubx_lighter.protocol.codes import Outcome, Recovery, refusal_of
from qubx_lighter.transactions.sender import Reply

_TRY_AGAIN_S: Final = 60.0
_TELL_AGAIN_NS: Final = 600 * 10**9


class Recoveries:
    """Hear every answer of the venue, and act on the code.

    Args:
        emit: puts an event on Qubx's channel.
        time_provider: Qubx's clock.
        reload_markets: asks for the markets anew; paces itself.
        clock: seconds, the sender's.
    """

    def __init__(
        self,
        *,
        emit: Callable[[object], None],
        time_provider: ITimeProvider,
        reload_markets: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._emit = emit
        self._time = time_provider
        self._reload_markets = reload_markets
        self._clock = clock
        self._halt: VenueError | None = None
        self._halted_at = 0.0
        self._try_at = 0.0
        self._told_at: dict[int, int] = {}  # ns, by code

    @property
    def halt(self) -> VenueError | None:
        """Why orders are held back; None where all is well."""
        return self._halt

    def holds_back(self, *, reduces: bool) -> VenueError | None:
        """Tell why an order or amend is not to be sent; None where it is, and then it is the one of its minute.

        Args:
            reduces: whether it can only make a position smaller.
        """
        halt = self._halt
        if halt is None or reduces:
            return None
        now = self._clock()
        if now < self._try_at:
            return halt
        self._try_at = now + _TRY_AGAIN_S
        logger.info("lighter: one order goes out, to find out whether the venue takes any again")
        return None

    def heard(self, asked_at: float, reply: Reply) -> None:
        """Act on what became of a transaction that was asked for at that time."""
        if self._halt is not None and reply.outcome is Outcome.ACCEPTED and asked_at > self._halted_at:
            logger.warning("lighter: the venue takes transactions again, orders go out")
            self._halt = None
        if reply.outcome is Outcome.REFUSED:
            self.refused(reply.code, reply.message)

    def refused(self, code: int, message: str) -> None:
        """Act on a refusal, at the API or at the sequencer."""
        match refusal_of(code).recovery:
            case Recovery.RELOAD_MARKETS:
                self._reload_markets()
            case Recovery.HALT if self._halt is None:
                self._halt = VenueError(code, message)
                self._halted_at = self._clock()
                self._try_at = self._halted_at + _TRY_AGAIN_S
                logger.error("lighter: orders are held back: {}", self._halt)
                self._tell(self._halt)

    def _tell(self, halt: VenueError) -> None:
        time = self._time.time()
        now_ns = to_ns(time)
        if now_ns - self._told_at.get(halt.code, -_TELL_AGAIN_NS) < _TELL_AGAIN_NS:
            return
        self._told_at[halt.code] = now_ns
        error = VenueOperationError(
            timestamp=time,
            message="the venue refuses this account or its key: orders are held back, but for one a minute and what reduces "
            "positions; cancels go out",
            level=ErrorLevel.CRITICAL,
            error=halt,
            operation="submit_order",
        )
        self._emit(create_error_event(error))
