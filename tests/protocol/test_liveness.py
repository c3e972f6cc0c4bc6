"""Channels that fall silent: what is suspicious, what is merely quiet, and how often one may ask."""

from __future__ import annotations

import itertools
import random
from math import inf

import pytest

from qubx_lighter.protocol.liveness import Liveness, LivenessSettings, Traffic, renewal_budget

CALM = LivenessSettings(renewals=1_000_000)


class Venue:
    """Channels under one watch; every renewal is answered by a snapshot at once."""

    def __init__(self, settings: LivenessSettings = CALM) -> None:
        self.liveness = Liveness(settings)
        self.traffic: dict[str, Traffic] = {}
        self.renewals: list[tuple[float, str]] = []
        self.reconnects: list[float] = []
        self.now = 0.0

    def open(self, *names: str) -> None:
        for name in names:
            self.traffic[name] = Traffic()
            self.liveness.watch(name, self.traffic[name])
            self.liveness.acknowledged(name, self.now)

    def pass_to(self, end: float, updates: dict[str, list[float]] | None = None) -> None:
        """Let time pass, with updates at the given times, looking whenever it is time to."""
        events = sorted((time, name) for name, times in (updates or {}).items() for time in times)
        while True:
            timer = self.liveness.check_at()
            due = max(timer, self.now)
            if events and events[0][0] <= min(due, end):
                self.now, name = events.pop(0)
                self.traffic[name].updates += 1
                continue
            if due > end:
                break
            self.now = due
            verdict = self.liveness.check(self.now, may_renew=True)
            if verdict.deaf:
                self.reconnects.append(self.now)
            for name in self.traffic if verdict.deaf else ():
                self.liveness.interrupted(name)
                self.liveness.acknowledged(name, self.now)
            for name in verdict.renew:
                self.renewals.append((self.now, name))
                self.liveness.interrupted(name)
                self.liveness.acknowledged(name, self.now)
        self.now = end

    def times(self, name: str = "book") -> list[float]:
        return [time for time, renewed in self.renewals if renewed == name]


def _every(interval: float, start: float, end: float) -> list[float]:
    return [start + interval * number for number in range(1, int((end - start) / interval) + 1)]


def test_a_busy_channel_that_falls_silent_is_renewed_after_a_minute() -> None:
    venue = Venue()
    venue.open("book")
    venue.pass_to(130, {"book": _every(0.05, 0, 100)})
    assert [] == venue.times()
    venue.pass_to(170)
    assert 1 == len(venue.times())
    assert 160 <= venue.times()[0] <= 165  # it is looked at every 5 s


def test_a_slow_channel_is_given_twenty_times_its_usual_interval() -> None:
    venue = Venue()
    venue.open("book")
    venue.pass_to(1200, {"book": _every(12, 0, 960)})
    assert [] == venue.times()
    venue.pass_to(1230)
    assert 1 == len(venue.times())


def test_a_burst_does_not_make_the_quiet_around_it_suspicious() -> None:
    venue = Venue()
    venue.open("book")
    bursts = [start + tick / 100 for start in range(102, 6000, 100) for tick in range(1000)]
    venue.pass_to(6000, {"book": bursts})
    # the first quiet spell is like none before it, the others are as long as usual
    assert venue.times() == [time for time in venue.times() if time < 200]


def test_an_unsteady_channel_is_hardly_ever_renewed_while_it_is_alive() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    venue = Venue()
    times, now = [], 0.0
    while now < 20_000:
        now += chance.expovariate(1 / 5)
        times.append(now)
    venue.open("book")
    venue.pass_to(20_000, {"book": times})
    assert [] == venue.times()


def test_a_channel_that_never_spoke_is_looked_at_slowly_and_ever_more_so() -> None:
    venue = Venue()
    venue.open("trade")
    venue.pass_to(20_000)
    waits = [round(after - before) for before, after in itertools.pairwise([0.0, *venue.times("trade")])]
    assert [300, 300, 600, 1200, 1800, 1800] == waits[:6]
    assert {1800} == set(waits[4:])


def test_a_channel_that_speaks_again_is_trusted_as_before() -> None:
    venue = Venue()
    venue.open("book")
    venue.pass_to(1000, {"book": _every(1, 0, 100)})
    quiet = len(venue.times())
    assert 3 <= quiet <= 5  # after 60, 60, 120, 240, ... seconds
    venue.pass_to(2600, {"book": _every(1, 1000, 2500)})
    assert 1 == len([time for time in venue.times() if 2500 <= time <= 2570])


def test_those_that_used_to_speak_come_first_and_the_longest_silent_first_of_all() -> None:
    venue = Venue(LivenessSettings(renewals=1, period_s=50, sleeper_s=60))
    venue.open("sleeper", "late", "early")
    venue.pass_to(400, {"late": _every(1, 0, 150), "early": _every(1, 0, 100)})
    assert {"sleeper"} == {name for time, name in venue.renewals if time < 155}  # nobody else was silent
    assert "early" == next(name for time, name in venue.renewals if time > 155)
    assert "late" == next(name for time, name in venue.renewals if time > 210)


def test_no_more_are_renewed_than_the_budget_allows_however_many_watches_share_it() -> None:
    settings = LivenessSettings(renewals=4, period_s=60, sleeper_s=60, most_s=60)
    budget = renewal_budget(settings)
    watches = [Liveness(settings, budget) for _ in range(3)]
    for watch in watches:
        for number in range(10):
            watch.watch(f"c{number}", Traffic())
            watch.acknowledged(f"c{number}", 0.0)
    times = []
    for tick in range(1200):
        for watch in watches:
            for name in watch.check(float(tick), may_renew=True).renew:
                times.append(tick)
                watch.acknowledged(name, tick)
    assert max(sum(start <= time < start + 60 for time in times) for start in times) == 4
    assert len(times) >= 4 * 17


def test_while_others_wait_it_learns_and_renews_nothing() -> None:
    liveness = Liveness(CALM)
    traffic = Traffic()
    liveness.watch("book", traffic)
    liveness.acknowledged("book", 0.0)
    for second in range(0, 300, 5):
        traffic.updates += 10 if second < 100 else 0
        assert () == liveness.check(float(second), may_renew=False).renew
    assert ("book",) == liveness.check(300.0, may_renew=True).renew
    assert () == liveness.check(305.0, may_renew=True).renew  # its snapshot is awaited


def test_nothing_is_expected_of_a_channel_that_is_not_acknowledged_or_not_watched() -> None:
    venue = Venue()
    liveness = venue.liveness
    assert inf == liveness.check_at()
    venue.open("book", "gone")
    assert inf > liveness.check_at()
    liveness.interrupted("book")
    liveness.forget("gone")
    liveness.forget("stranger")
    liveness.acknowledged("stranger", 0.0)
    liveness.interrupted("stranger")
    assert inf == liveness.check_at()
    assert () == liveness.check(10_000.0, may_renew=True).renew


def test_what_was_learned_survives_a_lost_connection() -> None:
    venue = Venue()
    venue.open("book")
    venue.pass_to(100, {"book": _every(1, 0, 100)})
    venue.liveness.interrupted("book")
    venue.pass_to(1000)
    venue.liveness.acknowledged("book", 1000.0)
    venue.pass_to(1100)
    assert [pytest.approx(1062.5, abs=2.6)] == venue.times()


def test_a_connection_on_which_most_busy_channels_fall_silent_is_left_ever_less_often() -> None:
    venue = Venue(LivenessSettings(renewals=4))
    names = [f"c{number}" for number in range(20)]
    venue.open(*names, "sleeper")
    talk = {name: _every(1, 0, 200) for name in names}
    venue.pass_to(200, talk)
    assert ([], []) == (venue.reconnects, venue.renewals)
    venue.pass_to(5000)
    waits = [after - before for before, after in itertools.pairwise(venue.reconnects)]
    assert 260 <= venue.reconnects[0] <= 265
    assert [60, 120, 240, 480] == [pytest.approx(wait, abs=65) for wait in waits][:4]
    assert waits == sorted(waits)


def test_a_connection_that_speaks_again_is_left_as_soon_as_the_first_time() -> None:
    venue = Venue(LivenessSettings(renewals=4))
    names = [f"c{number}" for number in range(20)]
    venue.open(*names)
    venue.pass_to(900, {name: _every(1, 0, 200) for name in names})
    before = len(venue.reconnects)
    venue.pass_to(2000, {name: _every(1, 900, 1900) for name in names})
    assert [pytest.approx(1962.5, abs=2.6)] == venue.reconnects[before:]


@pytest.mark.parametrize("silent", [4, 10])
def test_a_few_silent_channels_or_a_minority_are_renewed_one_by_one(silent: int) -> None:
    venue = Venue(LivenessSettings(renewals=4))
    names = [f"c{number}" for number in range(20)]
    venue.open(*names[: 6 if silent == 4 else 20])
    talk = {name: _every(1, 0, 200) for name in venue.traffic}
    talk |= {name: _every(1, 0, 400) for name in list(venue.traffic)[silent:]}
    venue.pass_to(400, talk)
    assert [] == venue.reconnects
    assert set(list(venue.traffic)[:silent]) >= {name for _, name in venue.renewals} != set()
