"""One API key's nonces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubx_lighter.protocol.nonce import NonceSequence


def synchronised(next_nonce: int = 5, window: int = 16) -> NonceSequence:
    sequence = NonceSequence(window=window)
    sequence.synchronise(next_nonce)
    return sequence


def test_nothing_is_given_out_before_the_venue_was_asked() -> None:
    sequence = NonceSequence()
    assert not sequence.synchronised
    assert sequence.needs_sync
    assert not sequence.room
    with pytest.raises(RuntimeError, match="not synchronised"):
        sequence.allocate()


def test_nonces_follow_each_other_from_what_the_venue_said() -> None:
    sequence = synchronised(5)
    assert [5, 6, 7] == [sequence.allocate() for _ in range(3)]
    assert frozenset({5, 6, 7}) == sequence.outstanding


def test_an_accepted_nonce_is_consumed() -> None:
    sequence = synchronised(5)
    sequence.accepted(sequence.allocate())
    assert frozenset() == sequence.outstanding
    assert 6 == sequence.allocate()


def test_a_refusal_of_the_newest_frees_its_nonce() -> None:
    sequence = synchronised(5)
    sequence.allocate()
    sequence.refused(sequence.allocate())
    assert sequence.synchronised
    assert 6 == sequence.allocate()


def test_refusals_from_the_newest_back_free_all_of_them() -> None:
    sequence = synchronised(5)
    for nonce in reversed([sequence.allocate() for _ in range(3)]):
        sequence.refused(nonce)
    assert 5 == sequence.allocate()


def test_a_refusal_before_others_leaves_a_hole_and_needs_a_sync() -> None:
    sequence = synchronised(5)
    sequence.allocate()
    sequence.allocate()
    sequence.refused(5)
    assert sequence.needs_sync
    assert not sequence.room
    sequence.refused(6)  # follows from the first
    assert sequence.needs_sync
    sequence.synchronise(5)
    assert 5 == sequence.allocate()


def test_an_unknown_outcome_needs_a_sync() -> None:
    sequence = synchronised(5)
    sequence.unknown(sequence.allocate())
    assert sequence.needs_sync
    assert not sequence.synchronised


def test_no_sync_while_an_outcome_is_to_come() -> None:
    sequence = synchronised(5)
    nonce = sequence.allocate()
    sequence.invalidate()
    with pytest.raises(RuntimeError, match="1 outstanding"):
        sequence.synchronise(7)
    sequence.accepted(nonce)
    assert sequence.needs_sync
    sequence.synchronise(7)
    assert 7 == sequence.allocate()


def test_the_window_bounds_what_is_outstanding() -> None:
    sequence = synchronised(0, window=2)
    first = sequence.allocate()
    sequence.allocate()
    assert not sequence.room
    with pytest.raises(RuntimeError, match="2 nonces are outstanding"):
        sequence.allocate()
    sequence.accepted(first)
    assert sequence.room
    assert 2 == sequence.allocate()


def test_a_window_has_room_for_one_at_least() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        NonceSequence(window=0)


@pytest.mark.parametrize("outcome", ["accepted", "refused", "unknown"])
def test_an_outcome_comes_once(outcome: str) -> None:
    sequence = synchronised(5)
    nonce = sequence.allocate()
    getattr(sequence, outcome)(nonce)
    with pytest.raises(RuntimeError, match="nonce 5 is not outstanding"):
        getattr(sequence, outcome)(nonce)


@given(st.lists(st.tuples(st.sampled_from(["send", "accept", "refuse", "lose"]), st.integers(0, 20)), max_size=60))
def test_the_venue_never_sees_a_nonce_it_does_not_expect_unless_it_refused_one_before(
    steps: list[tuple[str, int]],
) -> None:
    """Play a venue that takes only the next nonce, with refusals, losses, and answers in any order."""
    sequence = synchronised(100, window=4)
    expected = 100
    answers: dict[int, str] = {}  # what the venue has decided and not yet told
    hole = False
    for step, choice in steps:
        if step == "send":
            if sequence.needs_sync and not sequence.outstanding:
                sequence.synchronise(expected)
                hole = False
            if not sequence.room:
                continue
            nonce = sequence.allocate()
            assert nonce not in answers
            # a refusal that is still under way explains a number too high
            hole = hole or "refused" in answers.values()
            assert hole or nonce == expected
            decision = "accepted" if nonce == expected and choice % 3 else "refused"
            expected += decision == "accepted"
            answers[nonce] = decision
        elif answers:
            nonce = sorted(answers)[choice % len(answers)]
            decision = answers.pop(nonce)
            getattr(sequence, "unknown" if step == "lose" else decision)(nonce)
    assert frozenset(answers) == sequence.outstanding


# --- while the venue does not tell its next nonce ----------------------------------------------------------------------


def tried(sequence: NonceSequence) -> list[int]:
    """Try what may be next until nothing is left, each with a transaction that is refused for its nonce."""
    numbers = []
    while sequence.suppose():
        numbers.append(sequence.allocate())
        sequence.refused(numbers[-1])
        sequence.invalidate(numbers[-1])
    return numbers


def with_unknown(count: int) -> NonceSequence:
    sequence = synchronised(5)
    sequence.accepted(sequence.allocate())
    for nonce in [sequence.allocate() for _ in range(count)]:
        sequence.unknown(nonce)
    return sequence


@pytest.mark.parametrize(
    ("unknown", "numbers"), [(0, [6]), (1, [7, 6]), (2, [8, 6, 7]), (3, [9, 6, 8, 7]), (9, [15, 6, 14, 13])]
)
def test_what_may_be_next_is_tried_all_done_first_then_nothing_done(unknown: int, numbers: list[int]) -> None:
    sequence = with_unknown(unknown)
    sequence.invalidate()
    assert numbers == tried(sequence)
    assert sequence.needs_sync


def test_nothing_may_be_next_before_the_venue_has_ever_told() -> None:
    assert not NonceSequence().suppose()


def test_one_transaction_alone_leaves_with_a_supposed_number_until_the_venue_takes_it() -> None:
    sequence = with_unknown(1)
    assert sequence.suppose()
    assert 7 == sequence.allocate()
    assert (0, False) == (sequence.room, sequence.needs_sync)
    with pytest.raises(RuntimeError, match="outstanding"):
        sequence.allocate()
    sequence.accepted(7)
    assert [8, 9] == [sequence.allocate(), sequence.allocate()]


def test_a_refusal_for_another_reason_proves_no_number() -> None:
    sequence = with_unknown(1)
    sequence.suppose()
    sequence.refused(sequence.allocate())
    assert sequence.needs_sync
    assert [7, 6] == tried(sequence)


def test_what_was_called_invalid_is_tried_again_once_something_may_have_been_done() -> None:
    sequence = with_unknown(1)
    sequence.suppose()
    sequence.refused(sequence.allocate())
    sequence.invalidate(7)
    sequence.suppose()
    sequence.unknown(sequence.allocate())  # 6, which 7 may follow now
    assert [7, 6] == tried(sequence)


def test_the_count_of_what_was_done_or_may_have_been_tells_whether_an_answer_is_old() -> None:
    sequence = with_unknown(2)
    assert 3 == sequence.consumed
    tried(sequence)
    assert 3 == sequence.consumed
