"""How a part that lives on one loop is called from anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class LoopCalls:
    """Run things on one loop, whoever asks.

    Args:
        loop: where; without it, the loop that runs at the first call.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop = loop

    def call(self, function: Callable[..., None], *args: object) -> None:
        """Call ``function``: at once where this is the loop, soon otherwise, never once the loop has closed."""
        loop = self._bound()
        if _running_loop() is loop:
            function(*args)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(function, *args)

    @property
    def is_here(self) -> bool:
        """Tell whether this is the loop, of which there is none before the first call."""
        return _running_loop() is self.loop

    async def here[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await ``coroutine`` on the loop."""
        loop = self._bound()
        if asyncio.get_running_loop() is loop:
            return await coroutine
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))

    def _bound(self) -> asyncio.AbstractEventLoop:
        if self.loop is None:
            self.loop = asyncio.get_running_loop()
        return self.loop


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
