"""Backoff between connects and the window over messages."""

from __future__ import annotations

import gc
import threading
from math import inf

import pytest

from qubx_lighter.protocol.pace import AddressLimits, AddressPace, Backoff, BackoffSettings, Pacer


def _waits(backoff: Backoff, count: int, chance: float = 0.0) -> list[float | None]:
    return [backoff.next_start(0.0, chance) for _ in range(count)]


def test_the_wait_doubles_up_to_a_minute_and_never_ends() -> None:
    assert [1, 2, 4, 8, 16, 32, 60, 60] == _waits(Backoff(BackoffSettings()), 8)
    assert 60 == _waits(Backoff(BackoffSettings()), 3000)[-1]


def test_jitter_only_shortens_and_by_at_most_its_part() -> None:
    backoff = Backoff(BackoffSettings(jitter=0.2))
    assert [pytest.approx(0.8), pytest.approx(1.6)] == _waits(backoff, 2, chance=1.0)
    assert pytest.approx(10 + 4 * 0.9) == backoff.next_start(10.0, 0.5)


def test_a_useful_connection_starts_the_waits_anew() -> None:
    backoff = Backoff(BackoffSettings())
    _waits(backoff, 5)
    backoff.proved()
    assert [1, 2] == _waits(backoff, 2)


def test_a_limit_of_retries_ends_the_tries_until_a_connection_is_useful() -> None:
    backoff = Backoff(BackoffSettings(max_retries=2))
    assert [1, 2, None, None] == _waits(backoff, 4)
    backoff.proved()
    assert [1] == _waits(backoff, 1)


def test_somebody_in_a_hurry_still_waits_a_second_after_the_last_connect() -> None:
    backoff = Backoff(BackoffSettings())
    assert 5.0 == backoff.earliest(5.0)
    backoff.started(5.0)
    assert 6.0 == backoff.earliest(5.1)
    assert 9.0 == backoff.earliest(9.0)


def test_the_window_slides() -> None:
    pacer = Pacer(messages=2, period_s=10.0)
    assert -inf == pacer.free_at()
    pacer.note(1.0)
    assert -inf == pacer.free_at()
    pacer.note(4.0)
    assert 11.0 == pacer.free_at()
    pacer.note(11.0)
    assert 14.0 == pacer.free_at()


def test_messages_beyond_the_limit_delay_the_next_by_as_many() -> None:
    pacer = Pacer(messages=2, period_s=10.0)
    for now in (1.0, 2.0, 3.0, 4.0):
        pacer.note(now)
    assert 13.0 == pacer.free_at()


# --- several sockets of one address ------------------------------------------------------------------------------------


def test_sockets_of_an_address_share_its_messages() -> None:
    pace = AddressPace(AddressLimits(messages=3, period_s=10.0))
    one, two = pace.join(), pace.join()
    one.note(1.0)
    two.note(2.0)
    assert (-inf, -inf) == (one.free_at(), two.free_at())
    two.note(3.0)
    assert (11.0, 11.0) == (one.free_at(), two.free_at())


def test_public_sockets_leave_the_reserve_while_there_is_a_private_one() -> None:
    pace = AddressPace(AddressLimits(messages=4, period_s=10.0, reserved_messages=1, in_flight=4, reserved_in_flight=1))
    public = pace.join()
    for now in (1.0, 2.0, 3.0):
        public.note(now)
    public.set_in_flight(3)
    assert (-inf, True) == (public.free_at(), public.has_room())
    private = pace.join(private=True)
    assert (11.0, False) == (public.free_at(), public.has_room())
    assert (-inf, True) == (private.free_at(), private.has_room())
    private.note(4.0)
    private.set_in_flight(1)
    assert (11.0, False) == (private.free_at(), private.has_room())
    private.set_in_flight(0)
    del private
    gc.collect()
    assert True is public.has_room()


def test_what_the_private_sockets_write_does_not_count_against_the_public_part() -> None:
    pace = AddressPace(AddressLimits(messages=4, period_s=10.0, reserved_messages=2))
    private, public = pace.join(private=True), pace.join()
    private.note(1.0)
    private.note(1.0)
    public.note(2.0)
    assert -inf == public.free_at()
    public.note(3.0)
    assert 12.0 == public.free_at()


def test_a_slow_down_silences_every_socket_and_never_shortens() -> None:
    pace = AddressPace(AddressLimits())
    one, two = pace.join(), pace.join(private=True)
    one.slow_down(20.0)
    two.slow_down(10.0)
    assert (20.0, 20.0) == (one.free_at(), two.free_at())


def test_a_socket_that_found_no_room_is_woken_once_when_another_gets_an_answer() -> None:
    woken: list[str] = []
    pace = AddressPace(AddressLimits(in_flight=2))
    one = pace.join(wake=lambda: woken.append("one"))
    two = pace.join(wake=lambda: woken.append("two"))
    one.set_in_flight(2)
    assert False is two.has_room()
    one.set_in_flight(3)
    assert [] == woken
    one.set_in_flight(1)
    one.set_in_flight(0)
    assert (["two"], True) == (woken, two.has_room())


def test_a_pace_may_be_used_from_several_threads() -> None:
    pace = AddressPace(AddressLimits(messages=1000, period_s=1000.0))

    def write() -> None:
        socket = pace.join()
        for number in range(500):
            socket.note(float(number))
            socket.free_at()
            socket.set_in_flight(number % 2)
            socket.has_room()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pace.join().free_at() >= 1000
