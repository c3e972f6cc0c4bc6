"""The book of what was asked for and has not been seen to end."""

from __future__ import annotations

import pytest

from qubx_lighter.constants import TxType
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.codes import Outcome
from qubx_lighter.protocol.requests import Progress, Request, RequestBook, Signature, failure


def create(client_id: str) -> Request:
    return Request(TxType.CREATE_ORDER, client_id, market_id=1)


def row(tx_hash: str, kind: TxType = TxType.CREATE_ORDER, nonce: int = -1) -> wire.TxRow:
    return wire.TxRow(hash=tx_hash, type=int(kind), status=2, nonce=nonce, api_key_index=4)


def test_a_request_is_found_by_order_from_the_moment_it_is_queued() -> None:
    book = RequestBook()
    request = book.open(create("a"))
    assert request is book.latest(TxType.CREATE_ORDER, "a")
    assert Progress.QUEUED is request.progress
    assert book.latest(TxType.CANCEL_ORDER, "a") is None


def test_a_sent_request_is_found_by_every_hash_it_had() -> None:
    book = RequestBook()
    request = book.open(create("a"))
    book.sent(request, "ours", Signature(4, 8), now_ns=5)
    assert (Progress.SENT, 5) == (request.progress, request.time_ns)
    book.answered(request, Outcome.ACCEPTED, "theirs", now_ns=6)
    assert (Progress.ACCEPTED, 6, "theirs") == (request.progress, request.time_ns, request.tx_hash)
    assert request is book.of_transaction(row("ours"))
    assert request is book.of_transaction(row("theirs"))
    assert request is book.of_transaction(row("unheard of", nonce=8))
    assert book.of_transaction(row("unheard of", nonce=9)) is None
    assert book.of_transaction(row("ours", TxType.CANCEL_ORDER)) is None


@pytest.mark.parametrize("outcome", Outcome)
def test_an_outcome_that_was_there_before_the_news_of_the_sending_stays(outcome: Outcome) -> None:
    book = RequestBook()
    request = book.open(create("a"))
    book.answered(request, outcome, "", now_ns=6)
    told = request.progress
    book.sent(request, "ours", Signature(4, 8), now_ns=7)
    assert (told, 6) == (request.progress, request.time_ns)
    assert request is book.of_transaction(row("ours"))


def test_a_nonce_belongs_to_the_last_that_was_sent_with_it() -> None:
    book = RequestBook()
    first, second = book.open(create("a")), book.open(create("b"))
    book.sent(first, "first", Signature(4, 8), now_ns=1)
    book.sent(first, "first again", Signature(4, 9), now_ns=2)
    book.sent(second, "second", Signature(4, 8), now_ns=3)
    assert second is book.of_transaction(row("unheard of", nonce=8))
    assert first is book.of_transaction(row("unheard of", nonce=9))


def test_each_key_has_nonces_of_its_own() -> None:
    book = RequestBook()
    first, second = book.open(create("a")), book.open(create("b"))
    book.sent(first, "first", Signature(4, 8), now_ns=1)
    book.sent(second, "second", Signature(5, 8), now_ns=2)
    fields = {"type": int(TxType.CREATE_ORDER), "status": 2, "nonce": 8}
    assert first is book.of_transaction(wire.TxRow(hash="unheard of", api_key_index=4, **fields))
    assert second is book.of_transaction(wire.TxRow(hash="unheard of", info='{"ApiKeyIndex":5}', **fields))
    assert book.of_transaction(wire.TxRow(hash="unheard of", api_key_index=6, **fields)) is None


@pytest.mark.parametrize(
    ("outcome", "progress"), [(Outcome.REFUSED, Progress.REFUSED), (Outcome.UNKNOWN, Progress.UNKNOWN)]
)
def test_an_answer_without_a_hash_keeps_ours(outcome: Outcome, progress: Progress) -> None:
    book = RequestBook()
    request = book.open(create("a"))
    book.sent(request, "ours", Signature(4, 8), now_ns=5)
    book.answered(request, outcome, "", now_ns=6)
    assert (progress, "ours") == (request.progress, request.tx_hash)


def test_a_newer_request_of_a_kind_replaces_the_older_one() -> None:
    book = RequestBook()
    book.open(Request(TxType.MODIFY_ORDER, "a", 1, price=1.0))
    newer = book.open(Request(TxType.MODIFY_ORDER, "a", 1, price=2.0))
    assert newer is book.latest(TxType.MODIFY_ORDER, "a")


@pytest.mark.parametrize(
    ("index", "info", "ours"),
    [
        (4, "", True),
        (5, '{"ApiKeyIndex":4}', False),
        (None, '{"ApiKeyIndex":4}', True),
        (None, '{"ApiKeyIndex":5}', False),
        (None, "", False),
        (None, "not json", False),
        (None, "[4]", False),
    ],
)
def test_the_same_nonce_of_another_key_is_another_bots(index: int | None, info: str, ours: bool) -> None:
    book = RequestBook()
    request = book.open(create("a"))
    book.sent(request, "ours", Signature(4, 8), now_ns=1)
    theirs = wire.TxRow(hash="unheard of", type=14, status=0, nonce=8, api_key_index=index, info=info)
    assert (request if ours else None) is book.of_transaction(theirs)


def test_what_was_written_and_not_seen_to_end_is_listed() -> None:
    book = RequestBook()
    queued, sent, refused, unknown = (book.open(create(name)) for name in "abcd")
    for request in (sent, refused, unknown):
        book.sent(request, f"hash-{request.client_id}", Signature(4, 8), now_ns=1)
    book.answered(refused, Outcome.REFUSED, "", now_ns=2)
    book.answered(unknown, Outcome.UNKNOWN, "", now_ns=2)
    book.sent(book.open(Request(TxType.CANCEL_ORDER, "b", 1)), "hash-cancel", Signature(4, 9), now_ns=3)
    assert [sent, unknown] == book.unseen(TxType.CREATE_ORDER)
    assert Progress.QUEUED is queued.progress


def test_what_was_taken_is_gone() -> None:
    book = RequestBook()
    request = book.open(create("a"))
    book.sent(request, "hash", Signature(4, 8), now_ns=5)
    assert request is book.take(TxType.CREATE_ORDER, "a")
    assert book.take(TxType.CREATE_ORDER, "a") is None


def test_the_oldest_is_forgotten_beyond_the_capacity() -> None:
    book = RequestBook(capacity=2)
    for nonce, name in enumerate("abc"):
        book.sent(book.open(create(name)), f"hash-{name}", Signature(4, nonce), now_ns=1)
    assert book.latest(TxType.CREATE_ORDER, "a") is None
    assert book.of_transaction(row("hash-a", nonce=0)) is None
    assert book.latest(TxType.CREATE_ORDER, "c") is not None
    assert book.of_transaction(row("hash-b")) is not None


@pytest.mark.parametrize(
    ("status", "event_info", "reason"),
    [
        (2, '{"m":24,"ae":""}', None),
        (2, '{"ae":"{\\"code\\":21739}"}', '{"code":21739}'),
        (3, "", None),
        (0, "", "transaction failed"),
        (0, '{"ae":"not enough margin"}', "not enough margin"),
        (0, "not json", "transaction failed"),
        (2, "[1]", None),
    ],
)
def test_a_transaction_failed_when_its_status_is_0_or_it_has_an_application_error(
    status: int, event_info: str, reason: str | None
) -> None:
    assert reason == failure(wire.TxRow(hash="h", type=14, status=status, event_info=event_info))
