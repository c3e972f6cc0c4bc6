"""The sender against a venue in miniature: nonces exactly in order, every outcome that a transaction can have."""

from __future__ import annotations

import asyncio
import random

import pytest

from qubx_lighter.constants import Code, TxType
from qubx_lighter.errors import SigningError, VenueError
from qubx_lighter.native.key import SignedTx
from qubx_lighter.protocol.codes import Cause, Outcome
from qubx_lighter.signer import Signer
from qubx_lighter.transactions.sender import Reply, Sent, Transaction
from tests.sender_desk import Budget, Desk, Fate, Venue, lose_reply, lose_request, never_left, refuse, take


async def test_sends_in_the_order_of_the_calls_with_consecutive_nonces_without_waiting_for_answers() -> None:
    venue = Venue()
    venue.hold = asyncio.Event()
    desk = Desk(venue)
    desk.submit("a", "b", "c")
    while len(venue.received) < 3:  # all three are out before the first answer
        await asyncio.sleep(0)
    assert desk.replies == {}
    venue.hold.set()
    await desk.finish()
    assert [("a", 7), ("b", 8), ("c", 9)] == venue.received
    assert {"a": Outcome.ACCEPTED, "b": Outcome.ACCEPTED, "c": Outcome.ACCEPTED} == desk.outcomes()
    assert Reply(Outcome.ACCEPTED, 200, "", "venue-a@7", 7) == desk.replies["a"]
    assert venue.nonce_requests == 1


async def test_a_refusal_frees_its_nonce_and_those_behind_it_go_out_again_in_order() -> None:
    venue = Venue()
    venue.fates["b"] = [refuse(Code.NOT_ENOUGH_MARGIN)]
    venue.hold = asyncio.Event()
    desk = Desk(venue)
    desk.submit("a", "b", "c", "d")
    while len(venue.received) < 4:
        await asyncio.sleep(0)
    venue.hold.set()
    await desk.finish()
    assert venue.executed == ["a", "c", "d"]
    assert (
        Reply(Outcome.REFUSED, Code.NOT_ENOUGH_MARGIN, "no", "local-b@8", 8, Cause.INSUFFICIENT_MARGIN)
        == desk.replies["b"]
    )
    assert desk.sender.stats()["resent"] == 2


async def test_what_is_signed_behind_a_refused_one_is_signed_anew_and_never_written_with_the_old_nonce() -> None:
    venue = Venue()
    venue.fates["a"] = [refuse(Code.NOT_ENOUGH_MARGIN)]
    desk = Desk(venue)
    slow = desk.signs_slowly("b")
    desk.submit("a", "b")
    while "a" not in desk.replies:
        await asyncio.sleep(0)
    slow.go_on.set()
    await desk.finish()
    assert [("a", 7), ("b", 7)] == venue.received
    assert (0, 2) == (desk.sender.stats()["resent"], venue.nonce_requests)


async def test_signatures_are_made_ahead_of_the_wire_as_many_at_a_time_as_there_are_workers() -> None:
    venue = Venue()
    desk = Desk(venue)
    first, second, third = (desk.signs_slowly(label) for label in "abc")
    desk.submit("a", "b", "c")
    await first.begun.wait()
    await second.begun.wait()
    second.go_on.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert ([], False) == (venue.received, third.begun.is_set())
    first.go_on.set()
    third.go_on.set()
    await desk.finish()
    assert [("a", 7), ("b", 8), ("c", 9)] == venue.received


async def test_an_answer_that_never_comes_is_unknown_and_never_sent_again() -> None:
    venue = Venue()
    venue.fates["a"] = [lose_reply]
    venue.fates["b"] = [lose_request]
    desk = Desk(venue)
    desk.submit("a")
    await desk.finish()
    desk.submit("b")
    await desk.finish()
    desk.submit("c")
    await desk.finish()
    assert {"a": Outcome.UNKNOWN, "b": Outcome.UNKNOWN, "c": Outcome.ACCEPTED} == desk.outcomes()
    assert [label for label, _ in venue.received] == ["a", "b", "c"]
    assert venue.executed == ["a", "c"]


async def test_what_never_left_goes_out_again() -> None:
    venue = Venue()
    venue.fates["a"] = [never_left, never_left]
    desk = Desk(venue)
    desk.submit("a", "b")
    await desk.finish()
    assert venue.executed == ["a", "b"]
    assert {"a": Outcome.ACCEPTED, "b": Outcome.ACCEPTED} == desk.outcomes()


async def test_what_never_leaves_is_given_up_even_where_no_nonce_is_in_doubt() -> None:
    venue = Venue()
    venue.fates["b"] = [never_left] * 50
    desk = Desk(venue)
    desk.submit("a", "b", "c")
    await desk.finish()
    assert Reply(Outcome.REFUSED, 0, "socket is closed", "local-b@8", 8) == desk.replies["b"]
    assert len([label for label, _ in venue.received if label == "b"]) == 5
    assert venue.executed == ["a", "c"]


# --- when something goes wrong ---------------------------------------------------------------------------------------


async def test_a_foreign_process_on_the_key_costs_a_resync_not_an_order() -> None:
    venue = Venue()
    desk = Desk(venue)
    desk.submit("a")
    await desk.finish()
    venue.next += 3
    desk.submit("b")
    await desk.finish()
    assert venue.executed == ["a", "b"]
    assert desk.sender.stats()["resyncs"] == 2


async def test_gives_up_after_five_attempts_and_says_what_the_venue_said() -> None:
    venue = Venue()
    venue.fates["a"] = [refuse(Code.INVALID_NONCE)] * 9
    desk = Desk(venue)
    desk.submit("a", "b")
    await desk.finish()
    assert desk.replies["a"][:2] == (Outcome.REFUSED, Code.INVALID_NONCE)
    assert len([label for label, _ in venue.received if label == "a"]) == 5
    assert venue.executed == ["b"]


async def test_without_a_socket_it_goes_over_rest_one_at_a_time() -> None:
    venue = Venue()
    venue.connected = False
    desk = Desk(venue)
    desk.submit("a", "b")
    await desk.finish()
    assert (venue.executed, venue.over_rest) == (["a", "b"], 2)


async def test_without_a_venue_it_is_refused_at_once_as_not_sent() -> None:
    venue = Venue()
    venue.unreachable = True
    desk = Desk(venue)
    desk.submit("a")
    await desk.finish()
    assert Reply(Outcome.REFUSED, 0, "not sent: no nonce: no route", cause=Cause.RATE_LIMITED) == desk.replies["a"]
    assert venue.received == []


async def test_a_signature_that_fails_costs_no_nonce() -> None:
    venue = Venue()
    desk = Desk(venue)

    def fail(_label: str, _nonce: int) -> SignedTx:
        raise SigningError("price out of range")

    desk.submit("a", sign=fail)
    desk.submit("b")
    await desk.finish()
    assert Reply(Outcome.REFUSED, 0, "price out of range", "", 7) == desk.replies["a"]
    assert venue.received == [("b", 7)]


@pytest.mark.parametrize("error", [VenueError(29500, "internal", 500), VenueError(23000, "busy", 503)])
async def test_a_server_error_is_an_unknown_outcome(error: VenueError) -> None:
    venue = Venue()
    venue.fates["a"] = [lambda _venue, _tx_info: error]
    desk = Desk(venue)
    desk.submit("a")
    await desk.finish()
    assert {"a": Outcome.UNKNOWN} == desk.outcomes()


async def test_drain_tells_when_the_time_was_not_enough() -> None:
    venue = Venue()
    venue.hold = asyncio.Event()
    desk = Desk(venue)
    desk.submit("a")
    assert await desk.sender.drain(0.01) is False
    venue.hold.set()
    assert await desk.sender.drain(1.0) is True


async def test_close_ends_what_waits_for_an_answer_what_waits_in_line_and_what_comes_later() -> None:
    venue, budget = Venue(), Budget()
    venue.hold = asyncio.Event()
    desk = Desk(venue, gate=budget)
    desk.submit("a", tx_type=TxType.CANCEL_ORDER)
    while not venue.received:
        await asyncio.sleep(0)
    desk.submit("b")
    while len(budget.asked) < 2:
        await asyncio.sleep(0)
    await desk.sender.close()
    desk.submit("c")
    await desk.finish()
    assert [("a", 7)] == venue.received
    assert Reply(Outcome.UNKNOWN, 0, "closed before the answer came", "local-a@7", 7) == desk.replies["a"]
    assert {Reply(Outcome.REFUSED, message="not sent: closed")} == {desk.replies["b"], desk.replies["c"]}


def test_what_is_submitted_when_the_loop_is_gone_is_refused() -> None:
    async def make() -> Desk:
        return Desk(Venue())

    desk = asyncio.run(make())
    desk.submit("a")
    assert {"a": Reply(Outcome.REFUSED, message="not sent: closed")} == desk.replies


# --- mistakes --------------------------------------------------------------------------------------------------------


async def test_an_unexpected_error_in_an_exchange_is_an_unknown_outcome_and_the_next_ones_go_on() -> None:
    venue = Venue()
    venue.fates["b"] = [lambda _venue, _tx_info: ZeroDivisionError("a bug")]
    desk = Desk(venue)
    desk.submit("a", "b", "c")
    await desk.finish()
    assert {"a": Outcome.ACCEPTED, "b": Outcome.UNKNOWN, "c": Outcome.ACCEPTED} == desk.outcomes()
    assert ["a", "c"] == venue.executed
    assert (0, 0) == (desk.sender.stats()["queued"], desk.sender.stats()["in_flight"])


async def test_an_unexpected_error_in_a_batch_leaves_none_without_an_outcome() -> None:
    venue = Venue()
    venue.fates["b"] = [lambda _venue, _tx_info: ZeroDivisionError("a bug")]
    desk = Desk(venue, batch_size=15)
    desk.submit("a", "b")
    await desk.finish()
    desk.submit("c")
    await desk.finish()
    assert {"a": Outcome.UNKNOWN, "b": Outcome.UNKNOWN, "c": Outcome.ACCEPTED} == desk.outcomes()


async def test_an_unexpected_error_of_the_signer_is_a_refusal_and_costs_no_nonce() -> None:
    venue = Venue()
    desk = Desk(venue)

    def fail(_label: str, _nonce: int) -> SignedTx:
        raise ZeroDivisionError("a bug")

    desk.submit("a", sign=fail)
    desk.submit("b")
    await desk.finish()
    assert {"a": Outcome.REFUSED, "b": Outcome.ACCEPTED} == desk.outcomes()
    assert [("b", 7)] == venue.received


async def test_an_unexpected_error_while_asking_for_a_nonce_refuses_what_waits() -> None:
    venue = Venue()
    venue.next_nonce_error = ZeroDivisionError("a bug")
    desk = Desk(venue)
    desk.submit("a", "b")
    await desk.finish()
    venue.next_nonce_error = None
    desk.submit("c")
    await desk.finish()
    assert {"a": Outcome.REFUSED, "b": Outcome.REFUSED, "c": Outcome.ACCEPTED} == desk.outcomes()


async def test_listeners_that_fail_stop_nothing() -> None:
    venue = Venue()
    desk = Desk(venue)
    told: list[object] = []

    def fail(what: object) -> None:
        told.append(what)
        raise ZeroDivisionError("a bug of a listener")

    async def sign(_signer: Signer, nonce: int) -> SignedTx:
        return SignedTx(int(TxType.CREATE_ORDER), f"a@{nonce}", "hash")

    desk.sender.submit(Transaction("a", TxType.CREATE_ORDER, sign, fail, fail))
    desk.submit("b")
    await desk.finish()
    assert [Sent("hash", 7, 4), Reply(Outcome.ACCEPTED, 200, "", "venue-a@7", 7)] == told
    assert ["a", "b"] == venue.executed


# --- whatever happens ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("another_process", [False, True])
@pytest.mark.parametrize(("batch_size", "partial"), [(1, False), (4, False), (4, True), (15, False), (15, True)])
@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_on_the_way_each_outcome_is_the_truth(
    seed: int, batch_size: int, partial: bool, another_process: bool
) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    fates: list[Fate] = [take, take, take, refuse(Code.NOT_ENOUGH_MARGIN), lose_reply, lose_request, never_left]
    venue = Venue()
    venue.partial = partial
    desk = Desk(venue, batch_size)
    labels = [f"t{n}" for n in range(200)]
    for label in labels:
        venue.fates[label] = [chance.choice(fates)]
        venue.connected = chance.random() > 0.1
        if another_process and chance.random() < 0.05:
            venue.next += 1
        desk.submit(label)
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
    await desk.finish()
    assert sorted(labels) == sorted(desk.replies)
    assert len(venue.executed) == len(set(venue.executed)), "an order was executed twice"
    accepted = {label for label, outcome in desk.outcomes().items() if outcome is Outcome.ACCEPTED}
    refused = {label for label, outcome in desk.outcomes().items() if outcome is Outcome.REFUSED}
    assert accepted <= set(venue.executed)
    assert refused.isdisjoint(venue.executed)
    if not another_process:  # which can fill the very hole that holds later ones back
        assert venue.executed == sorted(venue.executed, key=labels.index), "the order of the calls was not kept"
