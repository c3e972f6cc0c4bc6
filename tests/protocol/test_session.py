"""The session state machine, driven by hand: every message it writes, and when."""

from __future__ import annotations

import random
from math import inf
from operator import itemgetter

import pytest

from qubx_lighter.protocol.liveness import Liveness, LivenessSettings, Traffic
from qubx_lighter.protocol.messages import Command, Do, Incoming, Kind, Remedy
from qubx_lighter.protocol.pace import AddressLimits, AddressPace
from qubx_lighter.protocol.session import Session, SessionSettings

WELCOME = Incoming(Kind.WELCOME)
SUB, UNSUB = Do.SUBSCRIBE, Do.UNSUBSCRIBE


def _session(**changes: object) -> Session:
    """Open a session at time 0 and let the venue speak."""
    session = Session(SessionSettings(**changes))  # type: ignore[arg-type]
    session.opened(0.0)
    session.received(WELCOME, 0.0)
    return session


def _active(name: str = "book", *, auth: bool = False, **changes: object) -> Session:
    """Open a session with one acknowledged channel."""
    session = _session(**changes)
    session.subscribe(name, auth=auth)
    assert [(SUB, name)] == _writes(session, 0.0)
    _ack(session, name, 0.0)
    assert [] == _writes(session, 0.0)
    return session


def _writes(session: Session, now: float) -> list[tuple[Do, str]]:
    """Poll and list what goes out, pings and reports left aside."""
    return [(command.do, command.channel) for command in session.poll(now) if command.do in (SUB, UNSUB)]


def _reports(session: Session, now: float) -> list[str]:
    return [command.text for command in session.poll(now) if command.do is Do.REPORT]


def _ack(session: Session, name: str, now: float) -> None:
    session.heard(now)
    session.received(Incoming(Kind.SUBSCRIBED, name), now)


def _gone(session: Session, name: str, now: float) -> None:
    session.heard(now)
    session.received(Incoming(Kind.UNSUBSCRIBED, name), now)


def _error(session: Session, remedy: Remedy, now: float, channel: str = "", text: str = "no") -> None:
    session.heard(now)
    session.received(Incoming(Kind.ERROR, channel, code=1, text=text, remedy=remedy), now)


# --- the connection ----------------------------------------------------------------------------------------------------


def test_nothing_is_written_without_a_socket() -> None:
    session = Session(SessionSettings())
    session.subscribe("book")
    assert ([], None) == (session.poll(0.0), session.get_timer())


def test_nothing_is_written_before_the_welcome() -> None:
    session = Session(SessionSettings())
    session.subscribe("book")
    session.opened(0.0)
    assert ([], False) == (session.poll(1.0), session.connected)
    session.received(WELCOME, 2.0)
    assert True is session.connected
    assert [(SUB, "book")] == _writes(session, 2.0)


def test_a_venue_that_says_no_welcome_is_connected_at_once() -> None:
    session = Session(SessionSettings(welcome=False))
    session.subscribe("book")
    session.opened(0.0)
    assert True is session.connected
    assert [(SUB, "book")] == _writes(session, 0.0)


def test_a_missing_welcome_ends_the_connection() -> None:
    session = Session(SessionSettings(welcome_timeout_s=10))
    session.opened(5.0)
    assert 15.0 == session.get_timer()
    assert [] == session.poll(14.9)
    assert [Command(Do.DROP, text="no welcome within 10 s")] == session.poll(15.0)


def test_a_second_welcome_and_one_without_a_socket_change_nothing() -> None:
    session = _session(ping_interval_s=30)
    session.heard(20.0)
    session.received(WELCOME, 20.0)
    assert [Command(Do.PING)] == session.poll(30.0)
    session.lost()
    session.received(WELCOME, 31.0)
    assert False is session.connected


def test_silence_ends_the_connection_and_any_frame_postpones_it() -> None:
    session = _session(silence_s=60, ping_interval_s=1000)
    assert 60.0 == session.get_timer()
    session.heard(50.0)
    assert [] == session.poll(60.0)
    assert 110.0 == session.get_timer()
    assert [Command(Do.DROP, text="no frame for 60 s")] == session.poll(110.0)


def test_a_ping_goes_out_at_each_interval() -> None:
    session = _session(ping_interval_s=30)
    assert 30.0 == session.get_timer()
    assert [] == session.poll(29.9)
    assert [Command(Do.PING)] == session.poll(30.0)
    session.received(Incoming(Kind.PONG), 30.1)
    session.heard(30.1)
    assert ([], 60.0) == (session.poll(30.2), session.get_timer())


def test_each_ping_of_the_venue_is_answered_even_before_the_welcome() -> None:
    session = Session(SessionSettings())
    session.opened(0.0)
    session.received(Incoming(Kind.PING), 1.0)
    session.received(Incoming(Kind.PING), 1.0)
    assert [Command(Do.PONG)] * 2 == session.poll(1.0)
    assert [] == session.poll(1.0)


def test_an_announced_shutdown_is_a_planned_drop() -> None:
    session = _session()
    session.received(Incoming(Kind.SHUTDOWN), 5.0)
    assert [Command(Do.DROP, text="the venue announced a shutdown", planned=True)] == session.poll(5.0)
    session.lost()
    session.opened(6.0)
    assert [] == session.poll(6.0)


def test_a_lost_connection_subscribes_everything_anew_on_the_next() -> None:
    session = _session()
    for name in ("a", "b", "c"):
        session.subscribe(name)
    assert [(SUB, "a"), (SUB, "b"), (SUB, "c")] == _writes(session, 0.0)
    _ack(session, "a", 0.0)
    session.unsubscribe("b")
    session.lost()
    assert (["a", "c"], 0, False) == (session.channels(), session.in_flight, session.subscribed("a"))
    session.opened(10.0)
    assert [] == _writes(session, 10.0)
    session.received(WELCOME, 10.0)
    assert {(SUB, "a"), (SUB, "c")} == set(_writes(session, 10.0))


def test_a_frame_of_an_unknown_channel_or_kind_changes_nothing() -> None:
    session = _session()
    for kind in (Kind.UNSUBSCRIBED, Kind.REPLY, Kind.OTHER):
        session.received(Incoming(kind, "stranger"), 1.0)
    assert ([], []) == (session.poll(1.0), session.channels())


@pytest.mark.parametrize("kind", [Kind.SUBSCRIBED, Kind.UPDATE])
def test_frames_that_nobody_wants_have_their_channel_unsubscribed_but_not_in_a_hurry(kind: Kind) -> None:
    session = _session(retry_pause_s=30)
    session.received(Incoming(kind, "stray"), 1.0)
    session.received(Incoming(kind, "stray"), 1.0)
    assert [(UNSUB, "stray")] == _writes(session, 1.0)
    _gone(session, "stray", 2.0)
    session.received(Incoming(kind, "stray"), 30.9)
    assert ([], []) == (_writes(session, 30.9), session.channels())
    session.received(Incoming(kind, "stray"), 31.0)
    assert [(UNSUB, "stray")] == _writes(session, 31.0)


# --- wishes ------------------------------------------------------------------------------------------------------------


def test_a_channel_is_subscribed_once_and_reported_as_such_after_the_answer() -> None:
    session = _session()
    session.subscribe("book")
    session.subscribe("book")
    assert [(SUB, "book")] == _writes(session, 0.0)
    assert (False, 1) == (session.subscribed("book"), session.in_flight)
    _ack(session, "book", 1.0)
    assert (True, 0) == (session.subscribed("book"), session.in_flight)
    assert False is session.subscribed("other")


def test_a_private_channel_is_marked_as_such() -> None:
    session = _session()
    session.subscribe("orders", auth=True)
    assert [Command(SUB, "orders", auth=True)] == session.poll(0.0)


def test_an_unsubscribed_channel_is_forgotten_after_the_answer() -> None:
    session = _active()
    session.unsubscribe("book")
    assert [] == session.channels()
    assert [(UNSUB, "book")] == _writes(session, 1.0)
    _gone(session, "book", 1.1)
    assert [] == _writes(session, 2.0)
    session.unsubscribe("book")
    assert [] == _writes(session, 2.0)


def test_a_channel_that_was_never_written_is_forgotten_at_once() -> None:
    session = Session(SessionSettings())
    session.subscribe("book")
    session.unsubscribe("book")
    assert ([], 0) == (session.channels(), session.queued)


def test_unsubscribe_then_subscribe_reach_the_wire_in_that_order_with_the_answer_between() -> None:
    session = _active()
    session.unsubscribe("book")
    session.subscribe("book")
    assert False is session.subscribed("book")
    assert [(UNSUB, "book")] == _writes(session, 1.0)
    assert [] == _writes(session, 2.0)
    _gone(session, "book", 3.0)
    assert [(SUB, "book")] == _writes(session, 3.0)
    _ack(session, "book", 3.0)
    assert True is session.subscribed("book")


def test_a_caller_who_comes_back_after_the_unsubscribe_is_subscribed_anew() -> None:
    session = _active()
    session.unsubscribe("book")
    assert [(UNSUB, "book")] == _writes(session, 1.0)
    session.subscribe("book")
    assert [] == _writes(session, 1.0)
    _gone(session, "book", 1.0)
    assert [(SUB, "book")] == _writes(session, 1.0)


def test_an_unsubscribe_before_the_answer_waits_for_it() -> None:
    session = _session()
    session.subscribe("book")
    _writes(session, 0.0)
    session.unsubscribe("book")
    assert [] == _writes(session, 1.0)
    _ack(session, "book", 1.0)
    assert [(UNSUB, "book")] == _writes(session, 1.0)


def test_resubscribe_renews_once_however_often_it_is_asked_for() -> None:
    session = _active()
    assert True is session.resubscribe("book")
    assert False is session.resubscribe("book")
    assert [(UNSUB, "book")] == _writes(session, 1.0)
    assert False is session.resubscribe("book")
    _gone(session, "book", 1.0)
    assert False is session.resubscribe("book")
    assert [(SUB, "book")] == _writes(session, 1.0)
    assert False is session.resubscribe("book")
    _ack(session, "book", 1.0)
    assert [] == _writes(session, 1.0)
    assert 1 == session.stats.resubscriptions
    assert True is session.resubscribe("book")


def test_resubscribe_of_what_nobody_wants_does_nothing() -> None:
    session = _active()
    assert False is session.resubscribe("other")
    session.unsubscribe("book")
    assert False is session.resubscribe("book")


def test_a_renewed_channel_is_subscribed_before_those_that_still_wait() -> None:
    session = _active(in_flight=1)
    session.resubscribe("book")
    session.subscribe("second")
    session.subscribe("third")
    assert [(UNSUB, "book")] == _writes(session, 1.0)
    _gone(session, "book", 1.0)
    assert [(SUB, "book")] == _writes(session, 1.0)


# --- pace --------------------------------------------------------------------------------------------------------------


def test_three_hundred_subscriptions_keep_the_pace_and_the_gate() -> None:
    session = _session(messages=180, period_s=60, in_flight=35, ping_interval_s=30)
    for number in range(300):
        session.subscribe(f"book{number}")
    now, written, messages = 0.0, [], []
    while len(written) < 300:
        session.heard(now)
        commands = session.poll(now)
        messages += [now] * len(commands)
        names = [command.channel for command in commands if command.do is SUB]
        assert session.in_flight <= 35
        for name in names:
            _ack(session, name, now)
        written += names
        timer = session.get_timer()
        assert timer is not None
        now = now if names else timer
    assert [f"book{number}" for number in range(300)] == written
    assert max(sum(start <= time < start + 60 for time in messages) for start in messages) <= 182  # and two pings
    assert 60.0 <= now < 70.0


def test_no_more_than_the_gate_allows_are_without_an_answer() -> None:
    session = _session(in_flight=2)
    for name in ("a", "b", "c"):
        session.subscribe(name)
    assert [(SUB, "a"), (SUB, "b")] == _writes(session, 0.0)
    assert 10.0 == session.get_timer()  # the answers' deadline, not now
    _ack(session, "b", 1.0)  # answers come in any order
    assert [(SUB, "c")] == _writes(session, 1.0)


def test_the_pace_is_kept_over_a_reconnect() -> None:
    session = _session(messages=2, period_s=60, ping_interval_s=inf)
    session.subscribe("a")
    session.subscribe("b")
    _writes(session, 0.0)
    session.lost()
    session.opened(1.0)
    session.received(WELCOME, 1.0)
    assert [] == _writes(session, 1.0)
    session.heard(59.0)
    assert [] == _writes(session, 59.9)
    assert [(SUB, "a"), (SUB, "b")] == _writes(session, 60.0)


def test_pings_and_pongs_count_as_messages_but_are_never_held_back() -> None:
    session = _session(messages=2, period_s=60, ping_interval_s=30)
    for _ in range(3):
        session.received(Incoming(Kind.PING), 1.0)
    session.subscribe("book")
    assert [Command(Do.PONG)] * 3 == session.poll(1.0)
    session.heard(50.0)
    assert [Command(Do.PING)] == session.poll(50.0)
    assert [] == _writes(session, 60.9)
    assert [(SUB, "book")] == _writes(session, 61.0)


def test_a_venue_that_complains_about_the_pace_is_left_alone_for_a_while() -> None:
    session = _session(slow_down_s=10)
    _error(session, Remedy.SLOW_DOWN, 1.0)
    session.subscribe("book")
    assert ([], 11.0) == (_writes(session, 1.0), session.get_timer())
    assert [(SUB, "book")] == _writes(session, 11.0)
    assert 1 == session.stats.errors


def test_two_sessions_of_one_address_share_its_pace_and_its_gate() -> None:
    woken: list[str] = []
    pace = AddressPace(AddressLimits(messages=3, period_s=60, in_flight=2))
    sessions = [
        Session(SessionSettings(messages=1, in_flight=1), pace.join(wake=lambda name=name: woken.append(name)))  # type: ignore[misc]
        for name in ("one", "two")
    ]
    for session in sessions:
        session.opened(0.0)
        session.received(WELCOME, 0.0)
        session.subscribe("a")
        session.subscribe("b")
    one, two = sessions
    assert [(SUB, "a"), (SUB, "b")] == _writes(one, 0.0)
    assert [] == _writes(two, 1.0)
    assert 30.0 == two.get_timer()  # the ping: who gives room wakes it
    _ack(one, "a", 2.0)
    assert ["two"] == woken
    assert [(SUB, "a")] == _writes(two, 2.0)
    _ack(two, "a", 3.0)
    two.heard(50.0)
    assert ([], 60.0) == (_writes(two, 50.0), two.get_timer())
    assert [(SUB, "b")] == _writes(two, 60.0)


def test_a_complaint_about_the_pace_to_one_session_silences_the_other() -> None:
    pace = AddressPace(AddressLimits())
    one, two = Session(SessionSettings(slow_down_s=10), pace.join()), Session(SessionSettings(), pace.join())
    for session in (one, two):
        session.opened(0.0)
        session.received(WELCOME, 0.0)
    _error(one, Remedy.SLOW_DOWN, 1.0)
    two.subscribe("book")
    assert ([], 11.0) == (_writes(two, 1.0), two.get_timer())
    assert [(SUB, "book")] == _writes(two, 11.0)


# --- answers that do not come, come late, or say no --------------------------------------------------------------------


def test_a_subscribe_without_an_answer_is_undone_and_tried_again() -> None:
    session = _session(ack_timeout_s=10)
    session.subscribe("book")
    _writes(session, 0.0)
    assert 10.0 == session.get_timer()
    assert [] == _writes(session, 9.9)
    assert [(UNSUB, "book")] == _writes(session, 10.0)
    _gone(session, "book", 11.0)
    assert [(SUB, "book")] == _writes(session, 11.0)
    assert 1 == session.stats.retries


def test_a_channel_that_keeps_failing_is_reported_and_slowed_down_but_never_given_up() -> None:
    session = _session(ack_timeout_s=10, report_after=3, retry_pause_s=30, silence_s=inf, ping_interval_s=inf)
    session.subscribe("book")
    now, writes, reports = 0.0, [], []
    while now < 300:
        for command in session.poll(now):
            (reports if command.do is Do.REPORT else writes).append((now, command.do))
        timer = session.get_timer()
        assert timer is not None
        assert timer > now
        now = timer
    assert [(0, SUB), (10, UNSUB), (20, SUB), (60, UNSUB), (100, SUB)] == writes[:5]
    assert [30, 70, 110] == [when for when, _ in reports][:3]
    assert session.stats.unacknowledged == len(reports)
    assert len(writes) < 11


def test_a_late_answer_is_good_as_long_as_nothing_else_was_written() -> None:
    session = _session(ack_timeout_s=10, slow_down_s=100)
    session.subscribe("book")
    _writes(session, 0.0)
    _error(session, Remedy.SLOW_DOWN, 5.0)  # keeps the unsubscribe back
    assert [] == _writes(session, 10.0)
    _ack(session, "book", 11.0)
    session.heard(105.0)
    assert [] == _writes(session, 105.0)
    assert True is session.subscribed("book")


def test_a_late_answer_to_what_is_being_undone_changes_nothing() -> None:
    session = _session(ack_timeout_s=10)
    session.subscribe("book")
    _writes(session, 0.0)
    assert [(UNSUB, "book")] == _writes(session, 10.0)
    _ack(session, "book", 11.0)
    assert False is session.subscribed("book")
    _gone(session, "book", 11.0)
    assert [(SUB, "book")] == _writes(session, 11.0)
    _ack(session, "book", 11.0)
    assert True is session.subscribed("book")


def test_an_answer_that_comes_while_the_channel_is_thought_idle_is_undone_first() -> None:
    session = _session(ack_timeout_s=10, slow_down_s=25)
    session.subscribe("book")
    _writes(session, 0.0)
    assert [(UNSUB, "book")] == _writes(session, 10.0)
    _error(session, Remedy.SLOW_DOWN, 11.0)
    assert [] == _writes(session, 20.0)  # no answer to the unsubscribe: thought idle
    _ack(session, "book", 30.0)
    assert [(UNSUB, "book")] == _writes(session, 36.0)


def test_the_late_answer_to_an_unsubscribe_does_not_undo_the_subscribe_after_it() -> None:
    session = _active(ack_timeout_s=10)
    session.resubscribe("book")
    assert [(UNSUB, "book")] == _writes(session, 1.0)
    assert [(SUB, "book")] == _writes(session, 11.0)
    _gone(session, "book", 12.0)
    assert [] == _writes(session, 12.0)
    _ack(session, "book", 12.0)
    assert True is session.subscribed("book")


def test_an_unsubscribe_that_is_never_answered_is_reported_and_slowed_down_until_the_connection_ends() -> None:
    session = _active(ack_timeout_s=10, report_after=3, retry_pause_s=20)
    session.unsubscribe("book")
    assert [(UNSUB, "book")] == _writes(session, 1.0)
    assert [(UNSUB, "book")] == _writes(session, 11.0)
    assert [(UNSUB, "book")] == _writes(session, 21.0)
    assert ["no answer to unsubscribe (3 times)"] == _reports(session, 31.0)
    session.heard(51.0)
    assert ([], 0) == (_writes(session, 50.9), session.in_flight)
    assert [(UNSUB, "book")] == _writes(session, 51.0)
    session.lost()
    session.opened(60.0)
    session.received(WELCOME, 60.0)
    assert [] == _writes(session, 60.0)


def test_a_channel_that_the_venue_drops_by_itself_is_subscribed_again() -> None:
    session = _active()
    _gone(session, "book", 5.0)
    assert False is session.subscribed("book")
    assert [(SUB, "book")] == _writes(session, 5.0)


def test_a_snapshot_unasked_for_changes_nothing() -> None:
    session = _active()
    _ack(session, "book", 5.0)
    assert (True, []) == (session.subscribed("book"), _writes(session, 5.0))


@pytest.mark.parametrize("named", ["book", ""])
def test_already_subscribed_leads_through_an_unsubscribe(named: str) -> None:
    session = _session()
    session.subscribe("book")
    _writes(session, 0.0)
    _error(session, Remedy.UNSUBSCRIBE_FIRST, 1.0, named)
    assert [(UNSUB, "book")] == _writes(session, 1.0)
    _gone(session, "book", 1.0)
    assert [(SUB, "book")] == _writes(session, 1.0)


@pytest.mark.parametrize("named", ["book", ""])
def test_not_subscribed_answers_an_unsubscribe(named: str) -> None:
    session = _active()
    session.resubscribe("book")
    _writes(session, 1.0)
    _error(session, Remedy.ALREADY_GONE, 1.0, named)
    assert [(SUB, "book")] == _writes(session, 1.0)


def test_an_error_that_names_nobody_is_not_believed_where_several_can_be_meant() -> None:
    session = _session()
    session.subscribe("a")
    session.subscribe("b")
    _writes(session, 0.0)
    _error(session, Remedy.UNSUBSCRIBE_FIRST, 1.0)
    assert ([], 2) == (_writes(session, 1.0), session.in_flight)


def test_an_error_about_a_channel_that_waits_for_nothing_changes_nothing() -> None:
    session = _active()
    _error(session, Remedy.UNSUBSCRIBE_FIRST, 1.0, "book")
    _error(session, Remedy.NONE, 1.0, "book")
    assert (True, []) == (session.subscribed("book"), _writes(session, 1.0))


def test_an_invalid_channel_is_reported_once_and_left_alone_until_asked_for_again() -> None:
    session = _session()
    session.subscribe("bok")
    _writes(session, 0.0)
    _error(session, Remedy.GIVE_UP, 1.0, "bok", "Invalid Channel")
    assert [Command(Do.REPORT, "bok", text="Invalid Channel")] == session.poll(1.0)
    session.heard(1000.0)
    assert [] == _writes(session, 1000.0)
    assert 1 == session.stats.refused
    session.resubscribe("bok")
    assert [(SUB, "bok")] == _writes(session, 1000.0)
    _error(session, Remedy.GIVE_UP, 1000.0)
    session.subscribe("bok")
    assert [(SUB, "bok")] == _writes(session, 1000.0)


def test_an_invalid_channel_is_tried_again_on_the_next_connection() -> None:
    session = _session()
    session.subscribe("bok")
    _writes(session, 0.0)
    _error(session, Remedy.GIVE_UP, 1.0, "bok")
    session.lost()
    session.opened(10.0)
    session.received(WELCOME, 10.0)
    assert [(SUB, "bok")] == _writes(session, 10.0)


def test_an_unknown_error_that_names_a_waiting_channel_has_it_tried_again() -> None:
    session = _session()
    session.subscribe("book")
    _writes(session, 0.0)
    _error(session, Remedy.NONE, 1.0)
    assert [] == _writes(session, 1.0)
    _error(session, Remedy.NONE, 1.0, "book")
    assert [(UNSUB, "book")] == _writes(session, 1.0)


# --- errors without a name, full connections, liveness -------------------------------------------------------------------


def test_an_error_that_names_nobody_is_about_the_channel_that_gets_no_answer() -> None:
    session = _session(ack_timeout_s=10)
    for name in ("a", "b"):
        session.subscribe(name)
    _writes(session, 0.0)
    for name in ("a", "b"):
        _ack(session, name, 0.0)
        session.unsubscribe(name)
    assert [(UNSUB, "a"), (UNSUB, "b")] == _writes(session, 1.0)
    _error(session, Remedy.ALREADY_GONE, 1.0)
    assert 2 == session.in_flight
    _gone(session, "a", 1.0)
    assert ([], 0) == (_writes(session, 11.0), session.load)
    assert 0 == session.stats.retries


def test_a_full_connection_has_the_refused_channel_told_and_tried_again_slowly() -> None:
    session = _session(retry_pause_s=30, silence_s=inf, ping_interval_s=inf)
    session.subscribe("a")
    session.subscribe("b")
    _writes(session, 0.0)
    _ack(session, "a", 1.0)
    _error(session, Remedy.NO_ROOM, 1.0, "b", "Too Many Subscriptions")
    assert [Command(Do.NO_ROOM, "b", text="Too Many Subscriptions")] == session.poll(1.0)
    assert ([], 31.0, ["b"]) == (_writes(session, 30.9), session.get_timer(), session.unwritten())
    assert [(SUB, "b")] == _writes(session, 31.0)
    assert (2, 1, True, False) == (session.load, session.acknowledged, session.holds("b"), session.holds("c"))
    session.unsubscribe("b")
    _error(session, Remedy.NO_ROOM, 32.0, "b")
    assert 1 == session.load


def test_a_full_connection_that_names_nobody_is_told_of_all_that_wait_and_believed_of_who_gets_no_answer() -> None:
    session = _session(retry_pause_s=30, ack_timeout_s=10, silence_s=inf, ping_interval_s=inf)
    for name in ("a", "b", "c"):
        session.subscribe(name)
    _writes(session, 0.0)
    _ack(session, "a", 1.0)
    _error(session, Remedy.NO_ROOM, 1.0)
    assert [(Do.NO_ROOM, "b"), (Do.NO_ROOM, "c")] == [(each.do, each.channel) for each in session.poll(1.0)]
    _ack(session, "b", 2.0)
    assert [] == _writes(session, 10.0)
    assert [(SUB, "c")] == _writes(session, 40.0)  # after the slow pause, and no unsubscribe before
    assert True is session.subscribed("b")


def test_too_many_connections_ends_this_one_for_a_while() -> None:
    session = Session(SessionSettings(retry_pause_s=30))
    session.opened(0.0)
    _error(session, Remedy.TOO_MANY_CONNECTIONS, 0.0, text="too many")
    assert [Command(Do.DROP, text="too many", pause_s=30)] == session.poll(0.0)
    session.lost()
    session.opened(31.0)
    assert [] == session.poll(31.0)


def _watched(**changes: object) -> tuple[Session, Traffic]:
    """Open a session that watches one busy channel, acknowledged at 0 and speaking until 100."""
    liveness, traffic = Liveness(LivenessSettings()), Traffic()
    settings = SessionSettings(silence_s=inf, ping_interval_s=inf, **changes)  # type: ignore[arg-type]
    session = Session(settings, None, liveness)
    session.opened(0.0)
    session.received(WELCOME, 0.0)
    liveness.watch("book", traffic)
    session.subscribe("book")
    _writes(session, 0.0)
    _ack(session, "book", 0.0)
    for second in range(0, 101, 5):
        traffic.updates += 50
        assert [] == _writes(session, float(second))
    return session, traffic


def test_a_channel_that_falls_silent_is_renewed() -> None:
    session, traffic = _watched()
    assert 105.0 == session.get_timer()
    assert [] == _writes(session, 155.0)
    assert [(UNSUB, "book")] == _writes(session, 160.0)
    _gone(session, "book", 160.0)
    assert [(SUB, "book")] == _writes(session, 160.0)
    _ack(session, "book", 161.0)
    traffic.updates += 1
    assert ([], 1) == (_writes(session, 200.0), session.stats.liveness_renewals)


def test_a_silent_channel_waits_for_all_that_is_wanted() -> None:
    session, _ = _watched(messages=2)
    session.subscribe("a")
    assert [(SUB, "a")] == _writes(session, 130.0)
    session.subscribe("b")
    session.subscribe("c")
    assert [(SUB, "b")] == _writes(session, 170.0)
    _ack(session, "a", 170.0)
    _ack(session, "b", 170.0)
    assert 175.0 == session.get_timer()
    assert [] == _writes(session, 175.0)
    assert [(SUB, "c")] == _writes(session, 190.0)
    _ack(session, "c", 190.0)
    assert [] == _writes(session, 200.0)
    assert [(UNSUB, "book")] == _writes(session, 230.0)


def test_a_silent_channel_is_left_alone_while_it_is_being_renewed_or_unwanted_or_the_connection_is_lost() -> None:
    session, _ = _watched()
    session.resubscribe("book")
    assert [(UNSUB, "book")] == _writes(session, 101.0)
    _gone(session, "book", 101.0)
    assert [(SUB, "book")] == _writes(session, 101.0)
    session.lost()
    session.opened(2000.0)
    session.received(WELCOME, 2000.0)
    assert [(SUB, "book")] == _writes(session, 2000.0)
    _ack(session, "book", 2000.0)
    assert [] == _writes(session, 2059.0)
    session.unsubscribe("book")
    assert [(UNSUB, "book")] == _writes(session, 2100.0)
    assert 0 == session.stats.liveness_renewals


def test_a_connection_of_which_most_channels_fall_silent_is_left() -> None:
    liveness = Liveness(LivenessSettings())
    session = Session(SessionSettings(silence_s=inf, ping_interval_s=inf), None, liveness)
    session.opened(0.0)
    session.received(WELCOME, 0.0)
    traffic = {f"c{number}": Traffic() for number in range(10)}
    for name, channel in traffic.items():
        liveness.watch(name, channel)
        session.subscribe(name)
    _writes(session, 0.0)
    for name in traffic:
        _ack(session, name, 0.0)
    for second in range(0, 101, 5):
        for channel in traffic.values():
            channel.updates += 50
        assert [] == _writes(session, float(second))
    drop = Command(Do.DROP, text="most of the busy channels have fallen silent", planned=True)
    assert [drop] == session.poll(160.0)


# --- tokens ------------------------------------------------------------------------------------------------------------


def test_private_channels_are_renewed_before_their_token_ends() -> None:
    session = _active("orders", auth=True, auth_renewal_s=100, silence_s=inf, ping_interval_s=inf)
    session.subscribe("public")
    assert [(SUB, "public")] == _writes(session, 1.0)
    _ack(session, "public", 1.0)
    assert 100.0 == session.get_timer()
    assert [] == _writes(session, 99.9)
    assert [(UNSUB, "orders")] == _writes(session, 100.0)
    _gone(session, "orders", 100.5)
    assert [(SUB, "orders")] == _writes(session, 100.5)
    _ack(session, "orders", 101.0)
    assert (200.5, 1) == (session.get_timer(), session.stats.renewals)


def test_a_refused_token_is_minted_anew_at_once_and_slowly_when_that_does_not_help() -> None:
    session = _session(report_after=3, retry_pause_s=30)
    session.subscribe("orders", auth=True)
    for _ in range(3):
        assert [(SUB, "orders")] == _writes(session, 0.0)
        _error(session, Remedy.NEW_TOKEN, 0.0, "orders", "invalid auth")
    assert ["invalid auth (3 times)"] == _reports(session, 0.0)
    assert ([], 30.0) == (_writes(session, 29.9), session.get_timer())
    assert [(SUB, "orders")] == _writes(session, 30.0)


def test_a_token_that_ends_early_renews_the_channel_it_was_for() -> None:
    session = _active("orders", auth=True)
    session.subscribe("txs", auth=True)
    _writes(session, 0.0)
    _ack(session, "txs", 0.0)
    _error(session, Remedy.NEW_TOKEN, 1.0, "orders")
    assert [(UNSUB, "orders")] == _writes(session, 1.0)


def test_a_refused_token_that_names_no_channel_renews_every_private_one() -> None:
    session = _active("orders", auth=True)
    session.subscribe("public")
    session.subscribe("txs", auth=True)
    _writes(session, 0.0)
    _ack(session, "public", 0.0)
    _error(session, Remedy.NEW_TOKEN, 1.0)
    assert [(SUB, "txs")] == _writes(session, 1.0)  # it alone waits for an answer: it is meant
    _ack(session, "txs", 1.0)
    _error(session, Remedy.NEW_TOKEN, 2.0)
    assert [(UNSUB, "orders"), (UNSUB, "txs")] == _writes(session, 2.0)


def test_a_subscribe_that_could_not_be_written_is_tried_again() -> None:
    session = _session(report_after=2, retry_pause_s=30)
    session.subscribe("orders", auth=True)
    _writes(session, 0.0)
    session.refused("orders", "no token", 0.0)
    assert [(SUB, "orders")] == _writes(session, 0.0)
    session.refused("orders", "no token", 1.0)
    assert ["no token (2 times)"] == _reports(session, 1.0)
    session.refused("orders", "no token", 2.0)
    session.refused("other", "no token", 2.0)
    assert 2 == session.stats.retries


def test_renewal_time_passing_before_the_answer_renews_after_it() -> None:
    session = _session(auth_renewal_s=5, ack_timeout_s=10)
    session.subscribe("orders", auth=True)
    _writes(session, 0.0)
    assert [] == _writes(session, 6.0)
    _ack(session, "orders", 7.0)
    assert [(UNSUB, "orders")] == _writes(session, 7.0)


# --- everything at once ------------------------------------------------------------------------------------------------


def test_whatever_the_venue_loses_delays_or_refuses_wishes_come_true_in_the_end() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    for offset in range(40):
        _converges(random.Random(seed + offset))


def _converges(chance: random.Random) -> None:
    """Play a venue that keeps its own books; in the end they must equal the wishes, each wish with a fresh snapshot."""
    session = _session(silence_s=inf, ping_interval_s=inf, in_flight=5, messages=60, report_after=3, retry_pause_s=15)
    names = [f"c{number}" for number in range(8)]
    venue: set[str] = set()
    wire: list[tuple[float, Incoming]] = []
    last = dict.fromkeys(names, 0.0)  # answers about one channel come in order, about several in any
    wanted: set[str] = set()
    now = 0.0
    for step in range(1500):
        calm = step > 700
        if not calm:
            name = chance.choice(names)
            match chance.randrange(4):
                case 0:
                    session.subscribe(name)
                    wanted.add(name)
                case 1:
                    session.unsubscribe(name)
                    wanted.discard(name)
                case 2:
                    session.resubscribe(name)
                case _:
                    pass
        for command in session.poll(now):
            if command.do is Do.REPORT or (not calm and chance.random() < 0.1):
                continue  # the message is lost
            name = command.channel
            last[name] = max(last[name], now + chance.random() * (0.5 if calm else 20))
            wire.append((last[name], _answer(venue, command, chance)))
        due = sorted((entry for entry in wire if entry[0] <= now), key=itemgetter(0))
        wire = [entry for entry in wire if entry[0] > now]
        for _, incoming in due:
            session.received(incoming, now)
        for name in venue:
            session.received(Incoming(Kind.UPDATE, name), now)
        timer = session.get_timer()
        assert timer is not None
        times = [timer, *(entry[0] for entry in wire)]
        now = max(now, min(*times, now + 5 * chance.random() + 0.001))
    assert wanted == venue
    assert wanted == set(session.channels())
    assert all(session.subscribed(name) for name in wanted)


def _answer(venue: set[str], command: Command, chance: random.Random) -> Incoming:
    """Answer as a venue does that does not always say which channel an error is about."""
    name = command.channel
    named = name if chance.random() < 0.5 else ""
    if command.do is SUB:
        if name in venue:
            return Incoming(Kind.ERROR, named, remedy=Remedy.UNSUBSCRIBE_FIRST, text="already")
        venue.add(name)
        return Incoming(Kind.SUBSCRIBED, name)
    if name not in venue:
        return Incoming(Kind.ERROR, named, remedy=Remedy.ALREADY_GONE, text="not")
    venue.discard(name)
    return Incoming(Kind.UNSUBSCRIBED, name)
