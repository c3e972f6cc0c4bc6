"""The sender's batches: what leaves together, and how a refused one is sorted out."""

from __future__ import annotations

import asyncio

import pytest

from qubx_lighter.constants import Code
from qubx_lighter.errors import SigningError, TransportError
from qubx_lighter.native.key import SignedTx
from qubx_lighter.protocol.codes import Outcome
from qubx_lighter.protocol.wire import TxReply
from qubx_lighter.transactions.sender import Reply
from tests.sender_desk import Desk, Venue, lose_reply, refuse, take


async def test_what_arrives_together_leaves_as_one_message_with_consecutive_nonces() -> None:
    venue = Venue()
    desk = Desk(venue, batch_size=15)
    desk.submit(*(f"t{n}" for n in range(20)))
    await desk.finish()
    assert [[f"t{n}" for n in range(15)]] == [batch for batch in venue.batches if len(batch) == 15]
    assert [(f"t{n}", 7 + n) for n in range(20)] == venue.received
    assert Reply(Outcome.ACCEPTED, 200, "", "venue-t3@10", 10) == desk.replies["t3"]
    assert {Outcome.ACCEPTED} == set(desk.outcomes().values())


async def test_a_lone_transaction_is_no_batch() -> None:
    venue = Venue()
    desk = Desk(venue, batch_size=15)
    desk.submit("a")
    await desk.finish()
    assert ([], [("a", 7)]) == (venue.batches, venue.received)


async def test_without_a_socket_there_are_no_batches() -> None:
    venue = Venue()
    venue.connected = False
    desk = Desk(venue, batch_size=15)
    desk.submit("a", "b")
    await desk.finish()
    assert ([], ["a", "b"], 2) == (venue.batches, venue.executed, venue.over_rest)


@pytest.mark.parametrize("partial", [False, True])
async def test_a_refused_batch_is_sorted_out_one_by_one_and_nothing_is_done_twice(partial: bool) -> None:
    venue = Venue()
    venue.partial = partial
    venue.fates["c"] = [refuse(Code.NOT_ENOUGH_MARGIN)]
    desk = Desk(venue, batch_size=15)
    desk.submit("a", "b", "c", "d", "e")
    await desk.finish()
    assert venue.executed == ["a", "b", "d", "e"]
    assert (Outcome.REFUSED, Code.NOT_ENOUGH_MARGIN) == desk.replies["c"][:2]
    done = Outcome.UNKNOWN if partial else Outcome.ACCEPTED  # consumed by whom, nobody can tell
    assert {"a": done, "b": done, "c": Outcome.REFUSED, "d": Outcome.ACCEPTED, "e": Outcome.ACCEPTED} == desk.outcomes()


def done_once(venue: Venue, tx_info: str) -> TxReply | Exception:
    """Do it, and when asked for it again look at the margin that it took before the nonce."""
    label = tx_info.split("@", maxsplit=1)[0]
    return refuse(Code.NOT_ENOUGH_MARGIN)(venue, tx_info) if label in venue.executed else take(venue, tx_info)


@pytest.mark.parametrize("answers", [True, False])
async def test_what_a_refused_batch_did_is_not_done_again_whatever_the_venue_looks_at_first(answers: bool) -> None:
    venue = Venue()
    venue.partial = True
    venue.fates |= {"a": [done_once] * 2, "d": [refuse(Code.NOT_ENOUGH_MARGIN)] * 2}
    desk = Desk(venue, batch_size=15)
    desk.submit("a", "b", "c", "d", "e")
    while not venue.batches:
        await asyncio.sleep(0)
    if not answers:
        venue.next_nonce_error = TransportError("no route")
    await desk.finish()
    assert venue.executed == (["a", "b", "c", "e"] if answers else ["a", "b", "c"])
    told = desk.outcomes()
    assert {Outcome.UNKNOWN} == {told[label] for label in "abc"}
    assert told["d"] is (Outcome.REFUSED if answers else Outcome.UNKNOWN)
    assert told["e"] is (Outcome.ACCEPTED if answers else Outcome.UNKNOWN)


async def test_a_batch_without_an_answer_is_unknown_as_a_whole_and_never_sent_again() -> None:
    venue = Venue()
    venue.fates["b"] = [lose_reply]
    desk = Desk(venue, batch_size=15)
    desk.submit("a", "b", "c")
    await desk.finish()
    assert {Outcome.UNKNOWN} == set(desk.outcomes().values())
    assert ["a", "b", "c"] == venue.executed


@pytest.mark.parametrize("code", [Code.TOO_MANY_REQUESTS, Code.INVALID_SIGNATURE])
async def test_a_refusal_that_is_of_the_account_is_of_the_whole_batch(code: Code) -> None:
    venue = Venue()
    venue.fates["a"] = [refuse(code)]
    desk = Desk(venue, batch_size=15)
    desk.submit("a", "b")
    await desk.finish()
    assert {(Outcome.REFUSED, code)} == {reply[:2] for reply in desk.replies.values()}
    assert [["a", "b"]] == venue.batches
    assert [] == venue.executed


async def test_a_batch_behind_a_refused_transaction_is_signed_anew() -> None:
    venue = Venue()
    venue.fates["a"] = [refuse(Code.NOT_ENOUGH_MARGIN)]
    venue.hold = asyncio.Event()
    desk = Desk(venue, batch_size=15)
    desk.submit("a")
    while not venue.received:
        await asyncio.sleep(0)
    desk.submit("b", "c")
    while len(venue.received) < 3:
        await asyncio.sleep(0)
    venue.hold.set()
    await desk.finish()
    assert ["b", "c"] == venue.executed
    assert {"a": Outcome.REFUSED, "b": Outcome.ACCEPTED, "c": Outcome.ACCEPTED} == desk.outcomes()


async def test_a_batch_with_a_nonce_that_somebody_else_took_is_unknown_and_the_next_one_is_right() -> None:
    venue = Venue()
    desk = Desk(venue, batch_size=15)
    desk.submit("a")
    await desk.finish()
    venue.next += 3
    desk.submit("b", "c")
    await desk.finish()
    desk.submit("d", "e")
    await desk.finish()
    assert ["a", "d", "e"] == venue.executed
    assert {Outcome.UNKNOWN} == {desk.outcomes()[label] for label in "bc"}


async def test_a_signature_that_fails_leaves_no_hole_in_a_batch() -> None:
    venue = Venue()
    desk = Desk(venue, batch_size=15)

    def fail(_label: str, _nonce: int) -> SignedTx:
        raise SigningError("price out of range")

    desk.submit("a")
    desk.submit("b", sign=fail)
    desk.submit("c")
    await desk.finish()
    assert [("a", 7), ("c", 8)] == venue.received
    assert (Outcome.REFUSED, 0, "price out of range") == desk.replies["b"][:3]
