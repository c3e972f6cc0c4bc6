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
