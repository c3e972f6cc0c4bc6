"""Who hears what: handlers of channels, listeners of a connection's state, and the boundary to their code.

Whatever a handler raises is counted, told once per handler, kind and exception type, and stops neither the reader nor the
next handler.

Nearly every frame is an update of a channel that has sent one before. ``receiver`` makes the one function that such a
frame passes on its way to its handlers: it is known by its beginning and its end, looked up once, counted, handed on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from loguru import logger

from qubx_lighter.errors import WireError
from qubx_lighter.protocol.liveness import Traffic

Handler = Callable[[str, bytes], None]
"""Takes ``"subscribed"`` (the answer to a subscribe, usually a snapshot) or ``"update"``, and the whole frame."""

Listener = Callable[[bool], None]
"""Takes True at each connect and False at each loss."""

Lost = Callable[[], None]
"""Is called when the connection that carries a channel is lost."""

Receiver = Callable[[bytes], None]
"""Takes each data frame of a connection."""

TEXT_LIMIT: Final = 300  # characters of a venue's text in a log line


class Channel(Traffic):
    """One channel that somebody wants: who hears it, and what came."""

    __slots__ = ("beginning", "ending", "handlers", "kind", "references", "size", "snapshots")

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.references: dict[tuple[Handler, Lost | None], int] = {}
        self.handlers: tuple[Handler, ...] = ()
        self.beginning = b""  # of its updates, once one has come
        self.ending = b""
        self.snapshots = 0
        self.size = 0  # bytes

    def settle(self) -> None:
        """Derive the handlers from the references; each is called once a frame."""
        self.handlers = tuple(dict.fromkeys(handler for handler, _ in self.references))


class Dispatcher:
    """Call handlers and listeners; used on one loop, read from anywhere.

    Args:
        name: how log lines call the connection.
        stats: where errors are counted.
        kind: gives the kind of a channel, under which its frames are counted.
    """

    def __init__(self, name: str, stats: Counter[str], kind: Callable[[str], str]) -> None:
        self._name = name
        self._stats = stats
        self._kind = kind
        self._channels: dict[str, Channel] = {}
        self._known: dict[bytes, Channel] = {}  # by the beginning of their updates
        self._past: Counter[str] = Counter()  # frames of channels that are closed, by kind
        self._past_size = 0
        self._listeners: list[Listener] = []
        self._told: set[tuple[str, ...]] = set()

    def __len__(self) -> int:
        return len(self._channels)

    # --- channels ----------------------------------------------------------------------------------------------------

    def add(self, key: str, handler: Handler, on_lost: Lost | None = None) -> Channel | None:
        """Count one more reference; gives the channel when it had none."""
        channel = self._channels.get(key)
        opened = channel is None
        if channel is None:
            channel = self._channels[key] = Channel(self._kind(key))
        reference = (handler, on_lost)
        channel.references[reference] = channel.references.get(reference, 0) + 1
        channel.settle()
        return channel if opened else None

    def remove(self, key: str, handler: Handler) -> bool:
        """Count one reference less; True when it was the channel's last."""
        channel = self._channels.get(key)
        if channel is None:
            return False
        reference = next((reference for reference in reversed(channel.references) if reference[0] == handler), None)
        if reference is None:
            return False
        channel.references[reference] -= 1
        if not channel.references[reference]:
            del channel.references[reference]
        channel.settle()
        if channel.references:
            return False
        self._past[channel.kind] += channel.updates + channel.snapshots
        self._past_size += channel.size
        self._known.pop(channel.beginning, None)
        del self._channels[key]
        return True

    # --- frames ------------------------------------------------------------------------------------------------------

    def receiver(self, label_at: int, other: Receiver) -> Receiver:
        """Make the function that every frame of a connection passes.

        Args:
            label_at: where the name of the channel begins, in updates that can be known again.
            other: takes the frames that are not known: control frames, snapshots, the first update of each channel.
        """
        find = self._known.get
        failed = self._failed

        def receive(raw: bytes) -> None:
            channel = find(raw[: raw.find(b'"', label_at)])
            if channel is None or not raw.endswith(channel.ending):
                other(raw)
                return
            channel.updates += 1
            channel.size += len(raw)
            for handler in channel.handlers:
                try:
                    handler("update", raw)
                except Exception as error:  # noqa: BLE001 - the boundary of frame dispatch
                    failed(handler, "update", error)

        return receive

    def update(self, key: str, raw: bytes, ends: tuple[bytes, bytes] | None) -> bool:
        """Hand an update to the channel's handlers, and know the next one by its ends; False when there are none."""
        channel = self._channels.get(key)
        if channel is None:
            return False
        if ends is not None:
            self._known.pop(channel.beginning, None)
            channel.beginning, channel.ending = ends
            self._known[channel.beginning] = channel
        channel.updates += 1
        self._hand(channel, "update", raw)
        return True

    def snapshot(self, key: str, raw: bytes) -> bool:
        """Hand the answer to a subscribe to the channel's handlers; False when there are none."""
        channel = self._channels.get(key)
        if channel is None:
            return False
        channel.snapshots += 1
        self._hand(channel, "subscribed", raw)
        return True

    def _hand(self, channel: Channel, kind: str, raw: bytes) -> None:
        channel.size += len(raw)
        for handler in channel.handlers:
            self._guarded(kind, handler, kind, raw)

    # --- the connection ----------------------------------------------------------------------------------------------

    def connected(self) -> None:
        """Tell the listeners that there is a connection."""
        for listener in tuple(self._listeners):
            self._guarded("state", listener, True)  # noqa: FBT003 - a listener's one argument

    def lost(self, *, connected: bool) -> None:
        """Know no frame any more; where there was a connection, tell those whose channels it carried, then the listeners."""
        self._known.clear()
        if not connected:
            return
        for channel in list(self._channels.values()):
            for _, on_lost in list(channel.references):
                if on_lost is not None:
                    self._guarded("lost", on_lost)
        for listener in tuple(self._listeners):
            self._guarded("state", listener, False)  # noqa: FBT003 - as above

    def listen(self, listener: Listener, *, connected: bool) -> None:
        """Add a listener; one that comes while connected is told so at once."""
        self._listeners.append(listener)
        if connected:
            self._guarded("state", listener, connected)

    # --- counts ------------------------------------------------------------------------------------------------------

    @property
    def frames(self) -> int:
        """Count the frames that had a handler; never falls."""
        return self._past.total() + sum(channel.updates + channel.snapshots for channel in self._channels.values())

    def traffic(self) -> tuple[Counter[str], int]:
        """Count the frames that had a handler, by kind of channel, and their bytes; from any thread."""
        frames, size = self._past.copy(), self._past_size
        for channel in list(self._channels.values()):
            frames[channel.kind] += channel.updates + channel.snapshots
            size += channel.size
        return frames, size

    # --- errors ------------------------------------------------------------------------------------------------------

    def warn_once(self, what: tuple[str, ...], text: str, *args: object) -> None:
        """Log a warning, the first time that ``what`` happens."""
        if what not in self._told:
            self._told.add(what)
            logger.warning("{}: " + text, self._name, *args)

    def _guarded(self, kind: str, function: Callable[..., None], *args: object) -> None:
        try:
            function(*args)
        except Exception as error:  # noqa: BLE001 - the boundary of frame dispatch
            self._failed(function, kind, error)

    def _failed(self, function: Callable[..., None], kind: str, error: Exception) -> None:
        self._stats["decode_errors" if isinstance(error, WireError) else "handler_errors"] += 1
        name = getattr(function, "__qualname__", type(function).__name__)
        what = ("handler", name, kind, type(error).__name__)
        if what not in self._told:
            self._told.add(what)
            logger.opt(exception=error).error("{}: {} failed on {}", self._name, name, kind)
