"""Who hears what: handlers of channels, listeners of a connection's state, and the boundary to their code.

Whatever a handler raises is counted, told once per handler, kind and exception type, and stops neither the reader nor the
next handler.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from loguru import logger

Handler = Callable[[str, bytes], None]
"""Takes ``"subscribed"`` (the answer to a subscribe, usually a snapshot) or ``"update"``, and the whole frame."""

Listener = Callable[[bool], None]
"""Takes True at each connect and False at each loss."""

TEXT_LIMIT: Final = 300  # characters of a venue's text in a log line


class Dispatcher:
    """Call handlers and listeners; used on one loop, read from anywhere.

    Args:
        name: how log lines call the connection.
        stats: where errors are counted.
    """

    def __init__(self, name: str, stats: Counter[str]) -> None:
        self._name = name
        self._stats = stats
        self._references: dict[str, Counter[Handler]] = {}
        self._handlers: dict[str, tuple[Handler, ...]] = {}
        self._listeners: list[Listener] = []
        self._told: set[tuple[str, ...]] = set()

    def __len__(self) -> int:
        return len(self._handlers)

    def add(self, key: str, handler: Handler) -> bool:
        """Count one more reference; True when the channel had none."""
        handlers = self._references.setdefault(key, Counter())
        handlers[handler] += 1
        self._handlers[key] = tuple(handlers)
        return handlers.total() == 1

    def remove(self, key: str, handler: Handler) -> bool:
        """Count one reference less; True when it was the channel's last."""
        handlers = self._references.get(key)
        if handlers is None or handler not in handlers:
            return False
        handlers[handler] -= 1
        if not handlers[handler]:
            del handlers[handler]
        if handlers:
            self._handlers[key] = tuple(handlers)
            return False
        del self._references[key], self._handlers[key]
        return True

    def frame(self, key: str, kind: str, raw: bytes) -> bool:
        """Hand a frame to the channel's handlers, in the order in which they came; False when there are none."""
        handlers = self._handlers.get(key)
        if handlers is None:
            return False
        for handler in handlers:
            self._guarded(kind, handler, kind, raw)
        return True

    def listen(self, listener: Listener, *, connected: bool) -> None:
        """Add a listener; one that comes while connected is told so at once."""
        self._listeners.append(listener)
        if connected:
            self._guarded("state", listener, connected)

    def state(self, *, connected: bool) -> None:
        """Tell every listener."""
        for listener in tuple(self._listeners):
            self._guarded("state", listener, connected)

    def warn_once(self, what: tuple[str, ...], text: str, *args: object) -> None:
        """Log a warning, the first time that ``what`` happens."""
        if what not in self._told:
            self._told.add(what)
            logger.warning("{}: " + text, self._name, *args)

    def _guarded(self, kind: str, function: Callable[..., None], *args: object) -> None:
        try:
            function(*args)
        except Exception as error:  # noqa: BLE001 - the boundary of frame dispatch
            self._stats["handler_errors"] += 1
            name = getattr(function, "__qualname__", type(function).__name__)
            what = ("handler", name, kind, type(error).__name__)
            if what not in self._told:
                self._told.add(what)
                logger.opt(exception=error).error("{}: {} failed on {}", self._name, name, kind)
