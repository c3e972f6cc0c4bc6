"""One connection's state machine: subscriptions, answers, pace, heartbeat, renewal.

Theory of operation. A channel has a wish (somebody wants it, or nobody does) and a phase (what the venue is believed to
do). What is written next follows from the two alone:

=============  ==========================================  ========================================
phase          it means                                    next message
=============  ==========================================  ========================================
IDLE           the venue sends nothing                     subscribe if wanted, else forgotten
SUBSCRIBING    subscribe written, no answer yet            none: wait for the answer
ACTIVE         acknowledged                                unsubscribe if unwanted or to be renewed
DOUBTFUL       perhaps subscribed: no answer or "already"  unsubscribe
UNSUBSCRIBING  unsubscribe written, no answer yet          none: wait for the answer
=============  ==========================================  ========================================

So a renewal is unsubscribe, answer, subscribe, whoever asks for it: a gap, an ending token, a caller who left and came
back. An answer that does not come makes the channel DOUBTFUL, which leads through the same door. A failure that repeats
is reported and from then on tried at a slow pace, for ever.

A venue that takes no more subscriptions on this connection (NO_ROOM) is tried again at the slow pace, and told to whoever
owns several connections and may move the channel. A channel that is suspiciously silent is renewed, when nothing else
waits (``protocol.liveness``).

Nothing here reads a clock: every method that needs the time takes ``now`` in seconds, of any origin. ``poll`` says what
to do now and is called after everything else; ``get_timer`` says when at the latest to call it again. A lost connection
puts every channel back to IDLE; the pace is kept, since venues count messages by address and not by connection.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from typing import Final

from qubx_lighter.protocol.liveness import Liveness
from qubx_lighter.protocol.messages import Command, Do, Incoming, Kind, Remedy
from qubx_lighter.protocol.pace import AddressLimits, AddressPace, SocketPace


class Phase(Enum):
    """What the venue is believed to do for a channel."""

    IDLE = auto()
    SUBSCRIBING = auto()
    ACTIVE = auto()
    DOUBTFUL = auto()
    UNSUBSCRIBING = auto()


_IN_FLIGHT: Final = (Phase.SUBSCRIBING, Phase.UNSUBSCRIBING)


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The venue's habits and limits.

    ``in_flight``, ``messages`` and ``period_s`` are for a session that has its address to itself.

    Attributes:
        welcome: the venue speaks first; nothing is written before.
        welcome_timeout_s: how long it may take to do so.
        ping_interval_s: between two pings of ours.
        silence_s: without any frame for so long, the connection is dead.
        ack_timeout_s: how long the answer to a subscribe or unsubscribe may take.
        in_flight: subscribes and unsubscribes without an answer, at most.
        messages: written in any ``period_s``, at most; pings count, but are never held back.
        period_s: the window of ``messages``.
        report_after: failures in a row after which a channel is reported and slowed down.
        retry_pause_s: the slow pace.
        slow_down_s: how long to be silent when the venue complains about the pace.
        auth_renewal_s: private channels are renewed after so long, because tokens end.
    """

    welcome: bool = True
    welcome_timeout_s: float = 10.0
    ping_interval_s: float = 30.0
    silence_s: float = 60.0
    ack_timeout_s: float = 10.0
    in_flight: int = 35
    messages: int = 180
    period_s: float = 60.0
    report_after: int = 3
    retry_pause_s: float = 30.0
    slow_down_s: float = 10.0
    auth_renewal_s: float = inf


@dataclass(slots=True)
class _Channel:
    name: str
    auth: bool
    wanted: bool = True
    renew: bool = False
    phase: Phase = Phase.IDLE
    deadline: float = inf  # of the answer
    not_before: float = -inf
    renew_at: float = inf
    failures: int = 0

    def next_message(self) -> Do | None:
        """Read the table at the top of the module."""
        match self.phase:
            case Phase.IDLE if self.wanted:
                return Do.SUBSCRIBE
            case Phase.ACTIVE if self.renew or not self.wanted:
                return Do.UNSUBSCRIBE
            case Phase.DOUBTFUL:
                return Do.UNSUBSCRIBE
            case _:
                return None


@dataclass(slots=True)
class SessionStats:
    """Counts since the start."""

    resubscriptions: int = 0
    renewals: int = 0
    liveness_renewals: int = 0
    retries: int = 0
    refused: int = 0
    unacknowledged: int = 0
    errors: int = 0


class Session:
    """Keep the venue's subscriptions equal to the callers' wishes, over any number of connections.

    Channels are named by one canonical spelling, which is the dialect's affair.

    Args:
        settings: the venue's habits and limits.
        pace: the place among the sockets of the same address; without it the session has its address to itself.
        liveness: finds silent channels; without it none is suspected. Private channels never are: they sleep for days.
    """

    def __init__(
        self, settings: SessionSettings, pace: SocketPace | None = None, liveness: Liveness | None = None
    ) -> None:
        self._settings = settings
        self._pace = pace or AddressPace(_limits(settings)).join()
        self._liveness = liveness
        self._channels: dict[str, _Channel] = {}
        self._queue: OrderedDict[str, None] = OrderedDict()  # channels with something to write
        self._in_flight: dict[str, None] = {}
        self._strays: dict[str, float] = {}  # until when each is left alone
        self._anonymous: Counter[Phase] = Counter()  # errors that name nobody, by the phase of whom they may be about
        self._open = False
        self.connected = False
        self._opened = -inf
        self._heard = -inf
        self._ping_at = inf
        self._pongs = 0
        self._drop: Command | None = None
        self._reports: list[Command] = []
        self.stats = SessionStats()

    # --- reads -------------------------------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Count the channels with something to write."""
        return len(self._queue)

    @property
    def in_flight(self) -> int:
        """Count the messages without an answer."""
        return len(self._in_flight)

    @property
    def load(self) -> int:
        """Count the channels that the venue counts, or soon will, wanted or not."""
        return len(self._channels)

    @property
    def acknowledged(self) -> int:
        """Count the channels that the venue sends."""
        return sum(channel.phase is Phase.ACTIVE for channel in list(self._channels.values()))

    def channels(self) -> list[str]:
        """List the channels that somebody wants."""
        return [channel.name for channel in self._channels.values() if channel.wanted]

    def holds(self, name: str) -> bool:
        """Tell whether a channel is counted in ``load``."""
        return name in self._channels

    def unwritten(self) -> list[str]:
        """List the channels that are wanted and have no subscribe written."""
        return [name for name, channel in self._channels.items() if channel.phase is Phase.IDLE and channel.wanted]

    def subscribed(self, name: str) -> bool:
        """Tell whether the venue acknowledged a channel and nobody asked for it anew."""
        channel = self._channels.get(name)
        return channel is not None and channel.phase is Phase.ACTIVE and channel.wanted and not channel.renew

    # --- wishes ------------------------------------------------------------------------------------------------------

    def subscribe(self, name: str, *, auth: bool = False) -> None:
        """Want a channel."""
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel(name, auth)
        channel.wanted = True
        channel.auth = channel.auth or auth
        channel.not_before = -inf
        self._settle(channel)

    def unsubscribe(self, name: str) -> None:
        """Do not want a channel any more; who comes back gets a new subscription, never the old one."""
        channel = self._channels.get(name)
        if channel is not None:
            channel.wanted = False
            channel.renew = channel.phase is Phase.ACTIVE
            self._settle(channel)

    def resubscribe(self, name: str) -> bool:
        """Ask for a new snapshot; False when there is nothing to renew, or one is on its way already."""
        channel = self._channels.get(name)
        if channel is None or not channel.wanted:
            return False
        if channel.phase is Phase.IDLE:
            channel.not_before = -inf  # a channel that was refused or slowed down is tried at once
        if channel.phase is not Phase.ACTIVE or channel.renew:
            return False
        self.stats.resubscriptions += 1
        channel.renew = True
        self._settle(channel)
        return True

    # --- the connection ----------------------------------------------------------------------------------------------

    def opened(self, now: float) -> None:
        """Note that the socket is up."""
        self._open = True
        self._opened = self._heard = now
        if not self._settings.welcome:
            self._welcomed(now)

    def lost(self) -> None:
        """Note that the socket is gone, and with it every subscription."""
        self._open = self.connected = False
        self._drop = None
        self._pongs = 0
        self._in_flight.clear()
        self._strays.clear()
        self._anonymous.clear()
        for channel in list(self._channels.values()):
            channel.failures, channel.not_before = 0, -inf
            self._move(channel, Phase.IDLE)

    def heard(self, now: float) -> None:
        """Note that a frame came, whatever it says."""
        self._heard = max(self._heard, now)

    def refused(self, name: str, text: str, now: float) -> None:
        """Note that a subscribe handed out by ``poll`` could not be written, such as for want of a token."""
        channel = self._channels.get(name)
        if channel is not None and channel.phase is Phase.SUBSCRIBING:
            self._failed(channel, Phase.IDLE, text, now)

    def received(self, incoming: Incoming, now: float) -> None:
        """Take in a frame; replies, and updates that somebody wants, need not be shown."""
        channel = self._channels.get(incoming.channel)
        match incoming.kind:
            case Kind.WELCOME if self._open and not self.connected:
                self._welcomed(now)
            case Kind.SUBSCRIBED | Kind.UPDATE if channel is None:
                self._stray(incoming.channel, now)
            case Kind.SUBSCRIBED if channel is not None:
                self._subscribed(channel, now)
            case Kind.UNSUBSCRIBED if channel is not None:
                self._unsubscribed(channel)
            case Kind.ERROR:
                self.stats.errors += 1
                self._remedy(incoming, now)
            case Kind.PING:
                self._pongs += 1
            case Kind.SHUTDOWN:
                self._drop = Command(Do.DROP, text="the venue announced a shutdown", planned=True)
            case _:
                pass

    def poll(self, now: float) -> list[Command]:
        """Tell what to do now, in order; what is handed out counts as written."""
        if not self._open:
            return []
        if self.connected:
            self._expire(now)
            self._check_liveness(now)
        ended = self._ended(now)
        if ended is not None:
            return [ended]
        commands = [Command(Do.PONG)] * self._pongs
        self._pongs = 0
        if now >= self._ping_at:
            self._ping_at = now + self._settings.ping_interval_s
            commands.append(Command(Do.PING))
        for _ in commands:
            self._pace.note(now)
        if self.connected:
            commands += self._write_channels(now)
        commands += self._reports
        self._reports = []
        return commands

    def get_timer(self) -> float | None:
        """Tell when to call ``poll`` next if nothing happens before; None while there is no socket."""
        if not self._open:
            return None
        times = [self._heard + self._settings.silence_s, self._ping_at]
        if not self.connected:
            times.append(self._opened + self._settings.welcome_timeout_s)
            return min(times)
        times += [self._channels[name].deadline for name in self._in_flight]
        times += [channel.renew_at for channel in self._channels.values() if channel.auth]
        if self._liveness is not None:
            times.append(self._liveness.check_at())
        if self._queue and self._pace.has_room():  # where there is none, whoever gives some wakes us
            times.append(max(self._pace.free_at(), min(self._channels[name].not_before for name in self._queue)))
        return min(times)

    # --- time --------------------------------------------------------------------------------------------------------

    def _welcomed(self, now: float) -> None:
        self.connected = True
        self._ping_at = now + self._settings.ping_interval_s

    def _ended(self, now: float) -> Command | None:
        settings = self._settings
        if self._drop is not None:
            return self._drop
        if not self.connected and now >= self._opened + settings.welcome_timeout_s:
            return Command(Do.DROP, text=f"no welcome within {settings.welcome_timeout_s:g} s")
        if now >= self._heard + settings.silence_s:
            return Command(Do.DROP, text=f"no frame for {settings.silence_s:g} s")
        return None

    def _expire(self, now: float) -> None:
        for name in list(self._in_flight):
            channel = self._channels[name]
            if now >= channel.deadline:
                self._unanswered(channel, now)
        for channel in self._channels.values():
            if now >= channel.renew_at:
                channel.renew_at = inf
                channel.renew = True
                self.stats.renewals += 1
                self._settle(channel)

    def _check_liveness(self, now: float) -> None:
        if self._liveness is None:
            return
        verdict = self._liveness.check(now, may_renew=not self._queue)
        if verdict.deaf:
            self._drop = Command(Do.DROP, text="most of the busy channels have fallen silent", planned=True)
        for name in verdict.renew:
            channel = self._channels[name]
            self.stats.liveness_renewals += 1
            channel.renew = True
            self._settle(channel)

    def _unanswered(self, channel: _Channel, now: float) -> None:
        """Assume what the next message can find out: an unwanted channel is unsubscribed again, a wanted one subscribed.

        Where an error came meanwhile that named nobody, it was about this one.
        """
        if self._anonymous[channel.phase]:
            self._anonymous[channel.phase] -= 1
            if channel.phase is Phase.SUBSCRIBING:
                self._wait_for_room(channel, now)
            else:
                self._unsubscribed(channel)
        elif channel.phase is Phase.SUBSCRIBING:
            self._failed(channel, Phase.DOUBTFUL, "no answer to subscribe", now)
        else:
            self._failed(channel, Phase.IDLE if channel.wanted else Phase.DOUBTFUL, "no answer to unsubscribe", now)

    def _write_channels(self, now: float) -> list[Command]:
        commands: list[Command] = []
        for name in list(self._queue):
            if now < self._pace.free_at() or not self._pace.has_room():
                break
            channel = self._channels[name]
            if now < channel.not_before:
                continue
            self._pace.note(now)
            channel.deadline = now + self._settings.ack_timeout_s
            if channel.phase is Phase.IDLE:
                channel.renew_at = now + self._settings.auth_renewal_s if channel.auth else inf
                commands.append(Command(Do.SUBSCRIBE, name, channel.auth))
                self._move(channel, Phase.SUBSCRIBING)
            else:
                channel.renew, channel.renew_at = False, inf
                commands.append(Command(Do.UNSUBSCRIBE, name))
                self._move(channel, Phase.UNSUBSCRIBING)
        return commands

    # --- answers -----------------------------------------------------------------------------------------------------

    def _subscribed(self, channel: _Channel, now: float) -> None:
        if channel.phase in (Phase.ACTIVE, Phase.UNSUBSCRIBING):
            return  # a snapshot unasked for, or the late answer to what is being undone
        if channel.phase is Phase.IDLE:
            channel.not_before = -inf
            self._move(channel, Phase.DOUBTFUL)  # the late answer to a subscribe that was thought undone
            return
        channel.failures, channel.not_before = 0, -inf
        self._move(channel, Phase.ACTIVE)
        if self._liveness is not None:
            self._liveness.acknowledged(channel.name, now)

    def _unsubscribed(self, channel: _Channel) -> None:
        if channel.phase is Phase.SUBSCRIBING:
            return  # the late answer to the unsubscribe before
        self._move(channel, Phase.IDLE)
        if channel.wanted and channel.name in self._queue:
            self._queue.move_to_end(channel.name, last=False)  # dark since its unsubscribe: before those still waiting

    def _stray(self, name: str, now: float) -> None:
        """Unsubscribe what nobody wants; at the slow pace, should it come for a reason of its own."""
        if now >= self._strays.get(name, -inf):
            self._strays[name] = now + self._settings.retry_pause_s
            channel = self._channels[name] = _Channel(name, auth=False, wanted=False, phase=Phase.DOUBTFUL)
            self._settle(channel)

    def _remedy(self, error: Incoming, now: float) -> None:
        match error.remedy:
            case Remedy.SLOW_DOWN:
                self._pace.slow_down(now + self._settings.slow_down_s)
            case Remedy.NO_ROOM:
                self._no_room(error, now)
            case Remedy.TOO_MANY_CONNECTIONS:
                self._drop = Command(Do.DROP, text=error.text, pause_s=self._settings.retry_pause_s)
            case Remedy.UNSUBSCRIBE_FIRST:
                for channel in self._blamed(error, Phase.SUBSCRIBING):
                    self._failed(channel, Phase.DOUBTFUL, error.text, now)
            case Remedy.ALREADY_GONE:
                gone = self._blamed(error, Phase.UNSUBSCRIBING)
                for channel in gone:
                    self._unsubscribed(channel)
                self._anonymous[Phase.UNSUBSCRIBING] += not gone and not error.channel
            case Remedy.GIVE_UP:
                for channel in self._blamed(error, Phase.SUBSCRIBING):
                    self.stats.refused += 1
                    self._reports.append(Command(Do.REPORT, channel.name, text=error.text))
                    channel.not_before = inf
                    self._move(channel, Phase.IDLE)
            case Remedy.NEW_TOKEN:
                self._renew_tokens(error, now)
            case _:
                for channel in self._named(error, Phase.SUBSCRIBING):
                    self._failed(channel, Phase.DOUBTFUL, error.text, now)

    def _renew_tokens(self, error: Incoming, now: float) -> None:
        """Subscribe again what the venue refused; where it says nothing of the channel, every private one."""
        named = self._channels.get(error.channel)
        suspects = [channel for channel in self._channels.values() if channel.auth] if named is None else [named]
        waiting = [channel for channel in suspects if channel.phase is Phase.SUBSCRIBING]
        for channel in waiting:
            self._failed(channel, Phase.IDLE, error.text, now)
        if not waiting:
            for channel in suspects:
                channel.renew = channel.renew or channel.phase is Phase.ACTIVE
                self._settle(channel)

    def _no_room(self, error: Incoming, now: float) -> None:
        """Wait with what was refused; where the venue does not say what that was, any that wait for an answer may be."""
        refused = self._blamed(error, Phase.SUBSCRIBING)
        suspects = [channel.name for channel in refused]
        if not refused and not error.channel:
            self._anonymous[Phase.SUBSCRIBING] += 1
            suspects = [name for name in self._in_flight if self._channels[name].phase is Phase.SUBSCRIBING]
        for channel in refused:
            self._wait_for_room(channel, now)
        self._reports += [Command(Do.NO_ROOM, name, text=error.text) for name in suspects]

    def _wait_for_room(self, channel: _Channel, now: float) -> None:
        channel.not_before = now + self._settings.retry_pause_s
        self._move(channel, Phase.IDLE)

    def _named(self, error: Incoming, phase: Phase) -> list[_Channel]:
        channel = self._channels.get(error.channel)
        return [channel] if channel is not None and channel.phase is phase else []

    def _blamed(self, error: Incoming, phase: Phase) -> list[_Channel]:
        """Find whom an error speaks of; one that names nobody is believed only when a single channel can be meant."""
        if error.channel in self._channels:
            return self._named(error, phase)
        waiting = [self._channels[name] for name in self._in_flight if self._channels[name].phase is phase]
        return waiting if len(waiting) == 1 else []

    # --- transitions -------------------------------------------------------------------------------------------------

    def _failed(self, channel: _Channel, phase: Phase, text: str, now: float) -> None:
        self.stats.retries += 1
        channel.failures += 1
        if channel.failures >= self._settings.report_after:
            self.stats.unacknowledged += 1
            channel.not_before = now + self._settings.retry_pause_s
            self._reports.append(Command(Do.REPORT, channel.name, text=f"{text} ({channel.failures} times)"))
        self._move(channel, phase)

    def _move(self, channel: _Channel, phase: Phase) -> None:
        channel.phase = phase
        if phase in _IN_FLIGHT:
            self._in_flight[channel.name] = None
        else:
            self._in_flight.pop(channel.name, None)
            channel.deadline = inf
        self._pace.set_in_flight(len(self._in_flight))
        if phase is not Phase.ACTIVE and self._liveness is not None:
            self._liveness.interrupted(channel.name)
        if phase is Phase.IDLE:
            channel.renew, channel.renew_at = False, inf
        self._settle(channel)

    def _settle(self, channel: _Channel) -> None:
        """Queue a channel with something to write; forget one that is neither wanted nor subscribed."""
        if channel.next_message() is not None:
            self._queue.setdefault(channel.name)
            return
        self._queue.pop(channel.name, None)
        if channel.phase is Phase.IDLE:
            del self._channels[channel.name]


def _limits(settings: SessionSettings) -> AddressLimits:
    return AddressLimits(settings.messages, settings.period_s, settings.in_flight)
