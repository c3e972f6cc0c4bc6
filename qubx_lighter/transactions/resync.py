"""Asking the venue for a key's next nonce, beside what else there is to do: who waits for it may stop waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from qubx_lighter.errors import LighterError, RateLimitedError, VenueError
from qubx_lighter.protocol.codes import Cause, refusal_of

_PATIENCE_S: Final = 1.0  # several times what an answer takes
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 4.0
_SERVER_ERROR_STATUS: Final = 500


class Resync:
    """Ask one question at a time, and after one that failed the next only after a pause; used on one loop.

    Args:
        loop: the loop.
        ask: asks the venue.
        on_change: called when there is an answer, when one does not come soon, and when a pause is over.
    """

    def __init__(
        self, *, loop: asyncio.AbstractEventLoop, ask: Callable[[], Awaitable[int]], on_change: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._question = ask
        self._on_change = on_change
        self._task: asyncio.Task[int] | None = None
        self._mark = 0
        self._late: asyncio.TimerHandle | None = None
        self._is_late = False
        self._pause: asyncio.TimerHandle | None = None
        self._pause_s = _FIRST_PAUSE_S

    @property
    def is_late(self) -> bool:
        """Tell whether the answer did not come soon, or the last question failed."""
        return self._is_late or self._pause is not None

    def ask(self) -> bool:
        """Ask, unless that is under way or has just failed; tell whether a question left."""
        if self._task is not None or self._pause is not None:
            return False
        self._task = self._loop.create_task(self._run(), name="lighter-next-nonce")
        self._task.add_done_callback(lambda _: self._on_change())
        self._late = self._loop.call_later(_PATIENCE_S, self._note_late)
        return True

    def take(self, mark: int) -> int | None:
        """Give an answer, once; None while there is none. Raises what the asking raised.

        Args:
            mark: changes whenever the answer may: what was asked before that is not waited for, nor taken.
        """
        if mark != self._mark:
            self._mark = mark
            self._drop()
        if self._task is None or not self._task.done():
            return None
        task = self._task
        self._drop()
        if task.exception() is not None:
            self._pause = self._loop.call_later(self._pause_s, self._go_on)
            self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s)
        else:
            self._pause_s = _FIRST_PAUSE_S
        return task.result()

    def hurry(self) -> None:
        """End the pause after a failure: nobody waits who would ask again and again."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    async def close(self) -> None:
        """Ask no more."""
        self.hurry()
        if (task := self._task) is not None:
            self._drop()
            await asyncio.gather(task, return_exceptions=True)

    def _drop(self) -> None:
        """Forget a question: it has its answer, or that would say nothing any more."""
        if self._late is not None:
            self._late.cancel()
        self._is_late = False
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _note_late(self) -> None:
        self._is_late = True
        self._on_change()

    def _go_on(self) -> None:
        self._pause = None
        self._on_change()

    async def _run(self) -> int:
        return await self._question()


def may_pass(error: Exception) -> bool:
    """Tell whether asking again may help: nobody answered, or somebody who was too busy."""
    if isinstance(error, VenueError):
        return error.status >= _SERVER_ERROR_STATUS or is_rate_limit(error)
    return isinstance(error, LighterError)


def is_rate_limit(error: Exception) -> bool:
    """Tell whether it is only too early to ask."""
    if isinstance(error, VenueError):
        return refusal_of(error.code).cause is Cause.RATE_LIMITED
    return isinstance(error, RateLimitedError)
