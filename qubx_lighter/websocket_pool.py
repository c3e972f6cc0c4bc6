"""Public channels over as many connections as the venue's limits ask for.

Theory of operation. A channel lives on one connection. A new one goes to the first connection with room; when all are
full another connection is opened, and one that stays empty is closed, the first never. The venue has the last word on
what full means: a connection on which it refuses a subscription is full with what it has acknowledged, and the refused
channel, with all that wait to be written there, goes elsewhere. A connection that is refused its very first channel has
met a limit that further connections cannot widen: its channels wait, at the slow pace of ``protocol.session``.

All connections share one pace with every other socket of the process to this host, and one budget for the renewal of
channels that fell silent (``protocol.liveness``).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from loguru import logger

from qubx_lighter.protocol.limits import SUBSCRIPTIONS
from qubx_lighter.protocol.liveness import Liveness, LivenessSettings, renewal_budget
from qubx_lighter.protocol.pace import AddressPace, BackoffSettings
from qubx_lighter.protocol.session import SessionSettings
from qubx_lighter.protocol.wire import channel_key
from qubx_lighter.sockets.dispatch import Handler, Listener, Lost
from qubx_lighter.sockets.link import SocketSettings
from qubx_lighter.sockets.loop_calls import LoopCalls
from qubx_lighter.sockets.transport import Connect, connect
from qubx_lighter.websocket import LighterWebSocketManager, address_pace

_CAPACITY: Final = SUBSCRIPTIONS - 100
_IDLE_S: Final = 60.0


@dataclass(slots=True, eq=False)
class _Member:
    """One connection of the pool."""

    socket: LighterWebSocketManager
    capacity: int
    closing: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class _Channel:
    """One channel that somebody wants: where it lives, and for whom."""

    home: _Member
    references: list[tuple[Handler, Lost | None]] = field(default_factory=list)


class LighterWebSocketPool:
    """Keep public channels subscribed, over several connections.

    The calls are those of ``LighterWebSocketManager`` and as thread-safe. State is the first connection's: ``connected``,
    ``wait_connected`` and the listeners of ``on_state`` tell whether there is market data at all. The other connections
    come and go by themselves, so what a single channel must know it hears through its ``on_lost``, on whichever
    connection it lives; the snapshot that follows is the sign that the channel is back.

    Args:
        url: ``wss://host/stream``.
        loop: where everything runs; without it, the loop that runs at the first call.
        capacity: subscriptions on one connection.
        idle_s: how long a further connection may be empty before it is closed.
        session: acknowledgements, heartbeat.
        backoff: the waits between connects.
        socket: timeouts of the sockets.
        clock: seconds of any origin, never going back; the same for all that share ``pace``.
        chance: draws the jitter, 0..1.
        connector: opens a WebSocket.
        pace: shared by all sockets of the host; by default the one of ``address_pace``.
        liveness: when a silent channel is suspicious.
    """

    def __init__(
        self,
        url: str,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        capacity: int = _CAPACITY,
        idle_s: float = _IDLE_S,
        session: SessionSettings | None = None,
        backoff: BackoffSettings | None = None,
        socket: SocketSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        connector: Connect = connect,
        pace: AddressPace | None = None,
        liveness: LivenessSettings | None = None,
    ) -> None:
        self.url = url
        self._name = urlsplit(url).netloc or url
        self._loop_calls = LoopCalls(loop)
        self._capacity = capacity
        self._idle_s = idle_s
        self._liveness = liveness or LivenessSettings()
        self._budget = renewal_budget(self._liveness)
        self._make_socket = partial(
            LighterWebSocketManager,
            url,
            session=session,
            backoff=backoff,
            socket=socket,
            clock=clock,
            chance=chance,
            connector=connector,
            pace=pace or address_pace(url),
        )
        self._channels: dict[str, _Channel] = {}
        self._past: Counter[str] = Counter()  # what connections counted that are no more
        self._partings: dict[asyncio.Task[None], _Member] = {}
        self._started = False
        self._told_full = False
        self._first = self._make_member()
        self._members = [self._first]

    # --- lifecycle ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect; thread-safe, idempotent."""
        self._loop_calls.call(self._start)

    async def close(self) -> None:
        """Close every connection and stop; idempotent. Subscriptions are kept: ``start`` may follow."""
        if self._loop_calls.loop is not None:
            await self._loop_calls.here(self._close())

    def reconnect(self) -> None:
        """Drop every connection and connect anew at once; thread-safe."""
        self._loop_calls.call(self._reconnect)

    @property
    def connected(self) -> bool:
        """Tell whether the first connection is up and the venue has spoken."""
        return self._first.socket.connected

    async def wait_connected(self, timeout: float) -> None:  # noqa: ASYNC109 - as in the manager
        """Wait until the first connection is up.

        Raises:
            TransportError: it took longer than ``timeout`` seconds, or there will be no further try.
        """
        await self._loop_calls.here(self._first.socket.wait_connected(timeout))

    def on_state(self, listener: Listener) -> None:
        """Have ``listener`` called on the loop with True at each connect of the first connection, False at each loss.

        Thread-safe. One that comes while connected is called with True at once.
        """
        self._loop_calls.call(self._first.socket.on_state, listener)

    def stats(self) -> dict[str, int]:
        """Count what happened since the start, summed over all connections there ever were; thread-safe.

        Besides what each socket counts: ``connections`` open, ``subscriptions`` asked for by callers, ``wanted``
        channels behind them, those ``acknowledged`` by the venue, those ``queued`` for want of pace.
        """
        total = self._past.copy()
        members = list(self._members)
        for member in [*members, *list(self._partings.values())]:
            total.update(member.socket.stats())
        channels = list(self._channels.values())
        return {
            **total,
            "connections": len(members),
            "subscriptions": sum(len(channel.references) for channel in channels),
            "wanted": len(channels),
        }

    # --- channels ----------------------------------------------------------------------------------------------------

    def subscribe(self, channel: str, handler: Handler, *, on_lost: Lost | None = None) -> None:
        """Have ``handler`` called with the frames of ``channel``; thread-safe, counted per channel and handler.

        A handler that joins an open channel hears updates only: ``resubscribe`` asks for a new snapshot. ``on_lost`` is
        called on the loop each time the connection that carried the channel is lost; a snapshot follows from the next.
        """
        self._loop_calls.call(self._subscribe, channel_key(channel), handler, on_lost)

    def unsubscribe(self, channel: str, handler: Handler) -> None:
        """Undo one ``subscribe``; thread-safe, the last one closes the channel at the venue, unknown ones are ignored."""
        self._loop_calls.call(self._unsubscribe, channel_key(channel), handler)

    def resubscribe(self, channel: str) -> None:
        """Ask for a new snapshot; thread-safe, absorbed while one is on its way already."""
        self._loop_calls.call(self._resubscribe, channel_key(channel))

    def subscribed(self, channel: str) -> bool:
        """Tell whether the venue acknowledged ``channel`` on its present connection; thread-safe."""
        found = self._channels.get(channel_key(channel))
        return found is not None and found.home.socket.subscribed(channel)

    # --- on the loop -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._started = True
        for member in self._members:
            member.socket.start()
            self._settle(member)

    async def _close(self) -> None:
        self._started = False
        for member in self._members:
            self._stay(member)
        await asyncio.gather(*(member.socket.close() for member in self._members), *self._partings)

    def _reconnect(self) -> None:
        for member in self._members:
            member.socket.reconnect()

    def _subscribe(self, key: str, handler: Handler, on_lost: Lost | None) -> None:
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = _Channel(self._home(key))
        channel.references.append((handler, on_lost))
        self._stay(channel.home)
        channel.home.socket.subscribe(key, handler, on_lost=on_lost)

    def _unsubscribe(self, key: str, handler: Handler) -> None:
        channel = self._channels.get(key)
        if channel is None:
            return
        found = next((reference for reference in reversed(channel.references) if reference[0] == handler), None)
        if found is None:
            return
        channel.references.remove(found)
        channel.home.socket.unsubscribe(key, handler)
        if not channel.references:
            del self._channels[key]
            self._settle(channel.home)

    def _resubscribe(self, key: str) -> None:
        channel = self._channels.get(key)
        if channel is not None:
            channel.home.socket.resubscribe(key)

    # --- connections -------------------------------------------------------------------------------------------------

    def _home(self, key: str, *, but: _Member | None = None) -> _Member:
        """Find a connection for a channel: the one that has not left it yet, the first with room, a new one."""
        members = [member for member in self._members if member is not but]
        for member in members:
            if member.socket.holds(key):
                return member
        for member in members:
            if member.socket.load < member.capacity:
                return member
        member = self._make_member()
        self._members.append(member)
        if self._started:
            member.socket.start()
        return member

    def _make_member(self) -> _Member:
        def refused(key: str) -> None:
            self._refused(member, key)

        socket = self._make_socket(
            loop=self._loop_calls.loop, liveness=Liveness(self._liveness, self._budget), on_no_room=refused
        )
        member = _Member(socket, self._capacity)
        return member

    def _refused(self, member: _Member, key: str) -> None:
        """Move a channel that the venue refused for want of room, and those that would be refused next."""
        acknowledged = member.socket.acknowledged
        if not acknowledged:
            if not self._told_full:
                self._told_full = True
                logger.warning("{}: the venue takes no more subscriptions; those left over wait", self._name)
            return
        member.capacity = min(member.capacity, acknowledged)
        for name in dict.fromkeys([key, *member.socket.unwritten()]):
            channel = self._channels.get(name)
            if channel is not None and channel.home is member:
                self._move(name, channel)

    def _move(self, key: str, channel: _Channel) -> None:
        for handler, _ in channel.references:
            channel.home.socket.unsubscribe(key, handler)
        channel.home = self._home(key, but=channel.home)
        self._stay(channel.home)
        for handler, on_lost in channel.references:
            channel.home.socket.subscribe(key, handler, on_lost=on_lost)

    def _settle(self, member: _Member) -> None:
        """Close a further connection in a while, if it is empty by then."""
        if member is self._first or not self._started or any(each.home is member for each in self._channels.values()):
            return
        self._stay(member)
        member.closing = asyncio.get_running_loop().call_later(self._idle_s, self._part, member)

    def _stay(self, member: _Member) -> None:
        if member.closing is not None:
            member.closing.cancel()
            member.closing = None

    def _part(self, member: _Member) -> None:
        self._members.remove(member)
        parting = asyncio.get_running_loop().create_task(member.socket.close())
        self._partings[parting] = member
        parting.add_done_callback(self._parted)

    def _parted(self, parting: asyncio.Task[None]) -> None:
        self._past.update(self._partings.pop(parting).socket.stats())
