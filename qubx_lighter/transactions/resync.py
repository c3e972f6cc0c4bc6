"""Asking the venue for a key's next nonce, beside what else there is to do: who waits for it may stop waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from qubx_lighter.errors import LighterError, VenueError
from qubx_lighter.protocol.codes import Cause, refusal_of

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 4.0
_SERVER_ERROR_STATUS: Final = 500


class Resync:
    """Ask one question at a time, and after one that failed the next only after a pause; used on one loop.

    Args:
        loop: the loop.
        ask: asks the venue.
        on_change: called when there is an answer, or when a pause is over.
    """

    def __init__(
        self, *, loop: asyncio.AbstractEventLoop, ask: Callable[[], Awaitable[int]], on_change: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._question = ask
        self._on_change = on_change
        self._task: asyncio.Task[int] | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._pause_s = _FIRST_PAUSE_S

    def ask(self) -> bool:
        """Ask, unless that is under way or has just failed; tell whether a question left."""
        if self._task is not None or self._pause is not None:
            return False
        self._task = self._loop.create_task(self._run(), name="lighter-next-nonce")
        self._task.add_done_callback(lambda _: self._on_change())
        return True

    def take(self) -> int | None:
        """Give an answer, once; None while there is none. Raises what the asking raised."""
        if self._task is None or not self._task.done():
            return None
        task, self._task = self._task, None
        if task.cancelled():
            return None
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
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _go_on(self) -> None:
        self._pause = None
        self._on_change()

    async def _run(self) -> int:
        return await self._question()


def may_pass(error: Exception) -> bool:
    """Tell whether asking again may help: nobody answered, or somebody who was too busy."""
    if isinstance(error, VenueError):
        return error.status >= _SERVER_ERROR_STATUS or refusal_of(error.code).cause is Cause.RATE_LIMITED
    return isinstance(error, LighterError)
