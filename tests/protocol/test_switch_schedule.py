"""When a dead man's switch is armed."""

from __future__ import annotations

from qubx_lighter.protocol.switch_schedule import SwitchSchedule

PERIOD_S = 600.0


def armed(at: float = 0.0) -> SwitchSchedule:
    schedule = SwitchSchedule(PERIOD_S)
    schedule.connected()
    schedule.arming()
    schedule.armed(at)
    return schedule


def test_is_armed_at_once_when_there_is_a_connection_and_not_before() -> None:
    schedule = SwitchSchedule(PERIOD_S)
    assert schedule.get_timer() is None
    schedule.connected()
    timer = schedule.get_timer()
    assert timer is not None
    assert timer <= 0.0
    assert not schedule.may_be_queued


def test_is_armed_anew_at_a_third_of_its_period() -> None:
    schedule = armed(at=100.0)
    assert 100.0 + PERIOD_S / 3 == schedule.get_timer()
    assert schedule.may_be_queued


def test_waits_while_transactions_are_on_their_way_and_while_there_is_no_connection() -> None:
    schedule = armed()
    schedule.arming()
    assert schedule.get_timer() is None
    schedule.armed(200.0)
    schedule.lost()
    assert schedule.get_timer() is None
    schedule.connected()
    assert 400.0 == schedule.get_timer()


def test_one_of_a_former_run_that_stands_is_aborted_at_once_but_only_once_so_fast() -> None:
    schedule = SwitchSchedule(PERIOD_S)
    schedule.connected()
    schedule.arming()
    schedule.failed(5.0, queued=True)
    assert (5.0, True) == (schedule.get_timer(), schedule.may_be_queued)
    schedule.aborted()
    schedule.arming()
    schedule.failed(6.0, queued=True)
    assert (16.0, True) == (schedule.get_timer(), schedule.may_be_queued)


def test_a_failure_is_tried_again_soon_and_what_may_stand_is_remembered() -> None:
    schedule = SwitchSchedule(PERIOD_S)
    schedule.connected()
    schedule.arming()
    schedule.failed(5.0, queued=False)
    assert (15.0, False) == (schedule.get_timer(), schedule.may_be_queued)


def test_knows_when_the_venue_has_acted() -> None:
    schedule = armed(at=100.0)
    assert not schedule.has_acted(100.0 + PERIOD_S - 1)
    assert schedule.has_acted(100.0 + PERIOD_S)
    schedule.aborted()
    assert not schedule.has_acted(100.0 + PERIOD_S)
