"""Which channels have fallen silent on a live connection, and are to prove themselves by a new snapshot.

Theory of operation. A venue may stop sending one channel and go on with the others; pings cannot tell that from a market
at rest. Each channel has its own usual interval between updates, learned from how many came between two looks. One that
is silent for many times that is renewed: its new snapshot is the truth either way. If updates follow, it was deaf; if
none do, it was merely quiet, and it is left alone for twice as long, up to half an hour. A channel that has never sent an
update is looked at slowly, by the same rule. Where most of the busy channels fall silent, and they are more than can be
renewed in a minute, it is the connection that is deaf: it is left for a new one, and should that not help, the next time
after twice as long.

Nothing is done per frame but a count in ``Traffic``, which the reader of the connection keeps; everything else happens in
``check``, every few seconds. The interval is averaged over time, not over frames: a gap weighs as much as it lasted, so
that a burst of a thousand frames does not make the five quiet minutes around it look like silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, inf
from typing import Final, NamedTuple

from qubx_lighter.protocol.pace import Pacer

_MEMORY_S: Final = 300.0  # after so long the past weighs a third


@dataclass(frozen=True, slots=True)
class LivenessSettings:
    """When silence becomes suspicious.

    Attributes:
        check_interval_s: between two looks.
        least_s: silence shorter than this is never suspicious.
        factor: how many usual intervals are.
        sleeper_s: for a channel that has sent no update yet.
        most_s: silence longer than this always is.
        renewals: channels renewed in any ``period_s``, at most.
        period_s: the window of ``renewals``.
    """

    check_interval_s: float = 5.0
    least_s: float = 60.0
    factor: float = 20.0
    sleeper_s: float = 300.0
    most_s: float = 1800.0
    renewals: int = 4
    period_s: float = 60.0


@dataclass(slots=True, eq=False)
class Traffic:
    """What the reader of a connection counts: updates of one channel, snapshots left aside."""

    updates: int = 0


@dataclass(slots=True)
class _Pulse:
    """One channel: ``since`` is when it was last known to speak, within one look."""

    traffic: Traffic
    updates: int
    since: float = inf  # while it is not acknowledged
    usual_s: float = 0.0  # unknown
    patience: float = 1.0
    renewed: bool = False  # and silent ever since


class Verdict(NamedTuple):
    """What to do: renew these channels, or leave the whole connection."""

    renew: tuple[str, ...] = ()
    deaf: bool = False


class Liveness:
    """Find the channels that are suspiciously silent.

    Args:
        settings: what suspicious is.
        budget: counts the renewals; shared by connections that share a venue.
    """

    def __init__(self, settings: LivenessSettings, budget: Pacer | None = None) -> None:
        self._settings = settings
        self._budget = budget or renewal_budget(settings)
        self._pulses: dict[str, _Pulse] = {}
        self._next_check = -inf
        self._deaf_pause_s = settings.least_s
        self._deaf_until = -inf

    def watch(self, name: str, traffic: Traffic) -> None:
        """Watch a channel from its next acknowledgement on."""
        self._pulses[name] = _Pulse(traffic, traffic.updates)

    def forget(self, name: str) -> None:
        """Watch a channel no more."""
        self._pulses.pop(name, None)

    def acknowledged(self, name: str, now: float) -> None:
        """Note that a channel's snapshot came: from here on it is expected to speak."""
        pulse = self._pulses.get(name)
        if pulse is not None:
            pulse.since, pulse.updates = now, pulse.traffic.updates

    def interrupted(self, name: str) -> None:
        """Note that a channel is not subscribed at present: nothing is expected of it, and what was learned is kept."""
        pulse = self._pulses.get(name)
        if pulse is not None:
            pulse.since = inf

    def check_at(self) -> float:
        """Tell when to call ``check`` next; infinity while nothing is expected."""
        return self._next_check if any(pulse.since < inf for pulse in self._pulses.values()) else inf

    def check(self, now: float, *, may_renew: bool) -> Verdict:
        """Learn from what came since the last look, and tell what to renew, at most what the budget allows.

        Channels that used to speak come before those that never did, the longest overdue first. With ``may_renew`` false
        nothing is renewed yet.
        """
        if now < self._next_check:
            return Verdict()
        self._next_check = now + self._settings.check_interval_s
        silent: list[tuple[bool, float, str]] = []
        busy = busy_silent = busy_speaking = 0
        for name, pulse in self._pulses.items():
            if pulse.since == inf:
                continue
            overdue = self._look(pulse, now)
            if 0.0 < pulse.usual_s * self._settings.factor <= self._settings.least_s:
                busy += 1
                busy_silent += overdue >= 1.0
                busy_speaking += overdue == 0.0
            if overdue >= 1.0:
                silent.append((pulse.usual_s == 0.0, -overdue, name))
        if 2 * busy_speaking > busy:
            self._deaf_pause_s = self._settings.least_s
        if not may_renew:
            return Verdict()
        if busy_silent > self._settings.renewals and 2 * busy_silent > busy and now >= self._deaf_until:
            self._deaf_until = now + self._deaf_pause_s
            self._deaf_pause_s = min(2.0 * self._deaf_pause_s, self._settings.most_s)
            return Verdict(deaf=True)
        return Verdict(tuple(self._afford(now, silent)))

    def _afford(self, now: float, silent: list[tuple[bool, float, str]]) -> Iterator[str]:
        for _, _, name in sorted(silent):
            if now < self._budget.free_at():
                return
            self._budget.note(now)
            self._renew(self._pulses[name])
            yield name

    def _look(self, pulse: _Pulse, now: float) -> float:
        """Learn; give the silence in units of what is suspicious."""
        came = pulse.traffic.updates - pulse.updates
        if not came:
            return (now - pulse.since) / self._suspicious_s(pulse)
        # What was silent up to the look before was one gap, whatever came after it.
        elapsed = now - pulse.since
        quiet = max(0.0, elapsed - self._settings.check_interval_s)
        longest = (
            self._settings.most_s / self._settings.factor
        )  # longer ones change no answer, and would be long forgotten
        gap = min(longest, max(quiet, elapsed / came))
        weight = 1.0 - exp(-elapsed / _MEMORY_S)
        pulse.usual_s = gap if pulse.usual_s == 0.0 else pulse.usual_s + weight * (gap - pulse.usual_s)
        pulse.updates, pulse.since = pulse.traffic.updates, now
        pulse.patience, pulse.renewed = 1.0, False
        return 0.0

    def _suspicious_s(self, pulse: _Pulse) -> float:
        settings = self._settings
        expected = settings.factor * pulse.usual_s if pulse.usual_s else settings.sleeper_s
        return min(settings.most_s, max(settings.least_s, expected) * pulse.patience)

    def _renew(self, pulse: _Pulse) -> None:
        if pulse.renewed:
            pulse.patience *= 2.0
        pulse.renewed = True
        pulse.since = inf  # until the new snapshot


def renewal_budget(settings: LivenessSettings) -> Pacer:
    """Make the budget that several connections share."""
    return Pacer(settings.renewals, settings.period_s)
