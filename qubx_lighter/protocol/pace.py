"""How often: the wait between two connects, the messages in a window of time, what the sockets of one address share.

Times are seconds of any origin, given as ``now``; chance is given too.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class BackoffSettings:
    """The wait between two connects: ``initial_s * factor**n``, at most ``cap_s``, less up to ``jitter`` of it.

    ``max_retries`` failures in a row end the tries; None means never.
    """

    initial_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 60.0
    jitter: float = 0.2
    max_retries: int | None = None


class Backoff:
    """Decide when to connect next, so that no failure whatsoever becomes a storm of connects."""

    def __init__(self, settings: BackoffSettings) -> None:
        self._settings = settings
        self._failures = 0
        self._started = -inf

    def started(self, now: float) -> None:
        """Note that a connect begins."""
        self._started = now

    def proved(self) -> None:
        """Note that a connection was useful: the next wait is the first one again."""
        self._failures = 0

    def earliest(self, now: float) -> float:
        """Tell when somebody in a hurry may connect: two connects are never closer than the first wait."""
        return max(now, self._started + self._settings.initial_s)

    def next_start(self, now: float, chance: float) -> float | None:
        """Tell when to connect after a failure, or None to give up; ``chance`` in 0..1 draws the jitter."""
        settings = self._settings
        if settings.max_retries is not None and self._failures >= settings.max_retries:
            return None
        exponent = min(self._failures, 64)  # far beyond any cap, far below a float's end
        wait = min(settings.cap_s, settings.initial_s * settings.factor**exponent)
        self._failures += 1
        return now + wait * (1.0 - settings.jitter * chance)


class Pacer:
    """A sliding window over the messages written."""

    def __init__(self, messages: int, period_s: float) -> None:
        self._messages = messages
        self._period_s = period_s
        self._written: deque[float] = deque()

    def note(self, now: float) -> None:
        """Count one message."""
        self._written.append(now)
        while self._written[0] <= now - self._period_s:
            self._written.popleft()

    def free_at(self, keep: int = 0) -> float:
        """Tell from when on one more message keeps the limit, with room left for ``keep`` others."""
        excess = len(self._written) - max(1, self._messages - keep)
        return -inf if excess < 0 else self._written[excess] + self._period_s


@dataclass(frozen=True, slots=True)
class AddressLimits:
    """What all sockets of one address may do together.

    Attributes:
        messages: written in any ``period_s``, at most; pings count, but are never held back.
        period_s: the window of ``messages``.
        in_flight: subscribes and unsubscribes without an answer, at most.
        reserved_messages: of ``messages``, for private sockets alone, while there is one.
        reserved_in_flight: of ``in_flight``, likewise.
    """

    messages: int = 180
    period_s: float = 60.0
    in_flight: int = 35
    reserved_messages: int = 0
    reserved_in_flight: int = 0


class AddressPace:
    """The limits that a venue counts by address, shared by the sockets of a process; safe to use from several threads.

    Public sockets leave the reserve to the private ones, who may use everything. A complaint about the pace on one
    socket silences all of them. A socket that nobody holds any more counts no more; what it wrote still does.

    Attributes:
        on_message: called, on the socket's thread, with each message that is counted.
    """

    def __init__(self, limits: AddressLimits) -> None:
        self.limits = limits
        self.on_message: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._all = Pacer(limits.messages, limits.period_s)
        self._public = Pacer(limits.messages, limits.period_s)
        self._quiet_until = -inf
        self._sockets: weakref.WeakSet[SocketPace] = weakref.WeakSet()

    def join(self, *, private: bool = False, wake: Callable[[], None] = lambda: None) -> SocketPace:
        """Add a socket; ``wake`` is called, on any thread, when it may write again after ``has_room`` said no."""
        socket = SocketPace(self, private=private, wake=wake)
        with self._lock:
            self._sockets.add(socket)
        return socket

    def note(self, socket: SocketPace, now: float) -> None:
        """Count one message."""
        with self._lock:
            self._all.note(now)
            if not socket.private:
                self._public.note(now)
        self.on_message()

    def free_at(self, socket: SocketPace) -> float:
        """Tell from when on one more message of this socket keeps every limit, if the others write nothing."""
        with self._lock:
            free = max(self._all.free_at(), self._quiet_until)
            if socket.private:
                return free
            return max(free, self._public.free_at(self._kept(self.limits.reserved_messages)))

    def slow_down(self, until: float) -> None:
        """Let nobody write before ``until``."""
        with self._lock:
            self._quiet_until = max(self._quiet_until, until)

    def has_room(self, socket: SocketPace) -> bool:
        """Tell whether one more message may go without an answer."""
        with self._lock:
            kept = 0 if socket.private else self._kept(self.limits.reserved_in_flight)
            unanswered = sum(each.in_flight for each in self._sockets)
            socket.waiting = unanswered >= self.limits.in_flight - kept
            return not socket.waiting

    def landed(self) -> None:
        """Wake those who found no room: an answer came."""
        with self._lock:
            waiting = [socket for socket in self._sockets if socket.waiting]
            for socket in waiting:
                socket.waiting = False
        for socket in waiting:
            socket.wake()

    def _kept(self, reserve: int) -> int:
        return reserve if any(socket.private for socket in self._sockets) else 0


class SocketPace:
    """One socket's place in the pace of its address."""

    def __init__(self, address: AddressPace, *, private: bool, wake: Callable[[], None]) -> None:
        self._address = address
        self.private = private
        self.wake = wake
        self.in_flight = 0
        self.waiting = False

    def note(self, now: float) -> None:
        """Count one message."""
        self._address.note(self, now)

    def free_at(self) -> float:
        """Tell from when on one more message keeps every limit, if the other sockets write nothing."""
        return self._address.free_at(self)

    def slow_down(self, until: float) -> None:
        """Let no socket of the address write before ``until``."""
        self._address.slow_down(until)

    def has_room(self) -> bool:
        """Tell whether one more message may go without an answer; ``wake`` is called when a no becomes a yes."""
        return self._address.has_room(self)

    def set_in_flight(self, count: int) -> None:
        """Tell how many messages of this socket have no answer yet."""
        fewer = count < self.in_flight
        self.in_flight = count
        if fewer:
            self._address.landed()
