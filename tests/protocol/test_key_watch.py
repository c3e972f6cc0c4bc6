"""Whether somebody else signs with our key: proofs, and what only looks like one."""

from __future__ import annotations

from qubx_lighter.protocol.key_watch import KeyWatch


def watching(start: int = 10, remember: int = 100) -> KeyWatch:
    watch = KeyWatch(remember)
    assert not watch.synchronised(start)
    return watch


def accept(watch: KeyWatch, *nonces: int) -> None:
    for nonce in nonces:
        watch.written(nonce, f"hash {nonce}")
        watch.accepted(nonce, f"hash {nonce}")


def test_our_own_transactions_are_counted() -> None:
    watch = watching()
    accept(watch, 10, 11)
    assert not watch.synchronised(12)
    accept(watch, 12)
    assert not watch.synchronised(13)


def test_a_nonce_that_we_never_wrote_and_the_venue_counts_is_a_strangers() -> None:
    watch = watching()
    accept(watch, 10)
    assert watch.synchronised(12)
    assert not watch.synchronised(12)  # which is known by now


def test_a_refused_nonce_that_the_venue_counts_is_a_strangers() -> None:
    watch = watching()
    watch.written(10, "refused")
    assert watch.synchronised(11)


def test_an_unanswered_transaction_may_count_now_or_later() -> None:
    watch = watching()
    watch.written(10, "lost")
    watch.unknown(10)
    assert not watch.synchronised(10)
    watch.written(10, "the next, refused since the lost one came first")
    assert not watch.synchronised(11)


def test_a_venue_that_is_behind_proves_nothing() -> None:
    watch = watching()
    accept(watch, 10, 11)
    assert not watch.synchronised(10)
    assert not watch.synchronised(12)


def test_a_nonce_far_ahead_as_other_programs_use_it_is_a_strangers() -> None:
    assert watching().synchronised(1_795_409_206_685)


def test_rows_are_told_apart_by_nonce_and_by_hash() -> None:
    watch = watching()
    watch.written(10, "first try")
    watch.written(10, "second try")
    assert not watch.is_strange(10, "whatever")  # no reply has shown yet that hashes are the venue's
    accept(watch, 11)
    assert [False, False, True] == [watch.is_strange(10, text) for text in ("first try", "second try", "other")]
    assert [False, True, False] == [watch.is_strange(nonce, "hash 11") for nonce in (11, 12, 9)]


def test_the_venues_own_hash_counts_as_ours() -> None:
    watch = watching()
    watch.written(10, "ours")
    watch.accepted(10, "theirs")
    assert not watch.is_strange(10, "theirs")
    assert not watch.is_strange(10, "as theirs are not ours, this proves nothing")


def test_before_the_first_nonce_is_known_nothing_is_strange() -> None:
    assert not KeyWatch().is_strange(10, "of a former run")


def test_what_is_forgotten_is_nobodys() -> None:
    watch = watching(remember=3)
    accept(watch, *range(10, 20))
    assert [False, False, True] == [watch.is_strange(nonce, f"hash {nonce}") for nonce in (10, 19, 20)]
    assert not watch.synchronised(20)
