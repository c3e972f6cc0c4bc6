from __future__ import annotations

from qubx_lighter.protocol.rates import Rates


def test_a_rate_is_what_a_count_rose_by_over_the_last_seconds() -> None:
    rates = Rates()
    assert {} == rates.of({"trade": 10}, 100.0)
    assert {"trade": 20.0, "ticker": 4.0} == rates.of({"trade": 50, "ticker": 8}, 102.0)
    assert {"trade": 40.0} == rates.of({"trade": 410}, 110.0)


def test_the_window_slides_with_the_questions() -> None:
    rates = Rates()
    for second in range(21):
        found = rates.of({"trade": 100 * second if second < 10 else 1_000}, float(second))
    assert {"trade": 0.0} == found


def test_questions_in_between_neither_shorten_nor_empty_the_window() -> None:
    rates = Rates()
    rates.of({"trade": 0}, 0.0)
    assert {} == rates.of({"trade": 0}, 0.0)
    for tenth in range(1, 50):
        found = rates.of({"trade": tenth}, tenth / 10)
    assert {"trade": 10.0} == found


def test_after_a_silence_the_rate_is_that_since_the_question_before() -> None:
    rates = Rates()
    rates.of({"trade": 0}, 0.0)
    rates.of({"trade": 5}, 5.0)
    assert {"trade": 1.0} == rates.of({"trade": 105}, 105.0)
