"""The sender against a venue in miniature: nonces exactly in order, every outcome that a transaction can have."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import pytest
from pydantic import SecretStr

from qubx_lighter.constants import Code, TxType
from qubx_lighter.errors import (
    NotSentError,
    OutcomeUnknownError,
    RateLimitedError,
    SigningError,
    TransportError,
    VenueError,
)
from qubx_lighter.protocol.codes import Cause, Outcome
from qubx_lighter.protocol.wire import ErrorBody, TxReply, TxRow
from qubx_lighter.signer import SignedTx, Signer
from qubx_lighter.transactions.sender import Gate, Reply, Sent, Transaction, TransactionSender

NO_KEY = SecretStr("")  # nothing here is really signed
Fate = Callable[["Venue", str], TxReply | Exception]


class Venue:
    """Takes exactly the next nonce; ``fates`` decides what happens to the n-th transaction of a label."""

    def __init__(self, next_nonce: int = 7, keys: dict[int, int] | None = None) -> None:
        self.connected = True
        self.next = next_nonce
        self.keys = keys  # next nonce by key, a thousand apart, in place of ``next``
        self.next_nonce_error: Exception | None = None
        self.executed: list[str] = []
        self.received: list[tuple[str, int]] = []
        self.over_rest = 0
        self.nonce_requests = 0
        self.unreachable = False
        self.fates: dict[str, list[Fate]] = {}
        self.hold: asyncio.Event | None = None
        self.batches: list[list[str]] = []
        self.partial = False

    async def send_transactions(
        self,
        request_id: str,
        tx_types: Sequence[int],
        tx_infos: Sequence[str],
        timeout: float,  # noqa: ASYNC109 - as the socket has it
    ) -> TxReply:
        """Take all or none, as the API does; where ``partial``, do what comes before the refused one all the same."""
        assert len(tx_types) == len(tx_infos) <= 15
        labels = [tx_info.split("@")[0] for tx_info in tx_infos]
        self.batches.append(labels)
        self.received += [(label, int(tx_info.split("@")[1])) for label, tx_info in zip(labels, tx_infos, strict=True)]
        if self.hold is not None:
            await self.hold.wait()
        for lost in (never_left, lose_request):
            if of_lost := [label for label in labels if self._fate(label) is lost]:
                self.fates[of_lost[0]].pop(0)
                raise lost(self, "")
        before = self.next, list(self.executed)
        answers: list[TxReply] = []
        unanswered: Exception | None = None
        for label, tx_info in zip(labels, tx_infos, strict=True):
            answer = self._fate(label)(self, tx_info)
            if isinstance(answer, Exception):
                self.fates[label].pop(0)
                unanswered = answer
                continue
            answers.append(answer)
            if answer.error is not None:
                if not self.partial:
                    self.next, self.executed[:] = before
                break
        await asyncio.sleep(0)
        if unanswered is not None:
            raise unanswered
        return answers[-1] if answers[-1].error else TxReply(code=200, tx_hash=[str(each.tx_hash) for each in answers])

    def _fate(self, label: str) -> Fate:
        return (self.fates.get(label) or [take])[0]

    async def send_transaction(self, *arguments: object) -> TxReply:
        """Serve both transports: the socket's call has four arguments, REST's has two."""
        tx_info = str(arguments[2] if len(arguments) == 4 else arguments[1])
        self.over_rest += len(arguments) == 2
        label, nonce = tx_info.split("@")
        self.received.append((label, int(nonce)))
        fates = self.fates.get(label)
        answer = fates.pop(0)(self, tx_info) if fates else take(self, tx_info)
        if self.hold is not None:
            await self.hold.wait()
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def next_nonce(self, account_index: int, api_key_index: int) -> int:
        """Tell the next nonce."""
        assert account_index == 5
        self.nonce_requests += 1
        if self.next_nonce_error is not None:
            raise self.next_nonce_error
        if self.keys is not None:
            return self.keys[api_key_index]
        assert api_key_index == 4
        if self.unreachable:
            raise TransportError("no route")
        return self.next


def take(venue: Venue, tx_info: str) -> TxReply | Exception:
    """Queue it if the nonce is right."""
    label, nonce = tx_info.split("@")
    if venue.keys is not None:
        key = int(nonce) // 1000
        if int(nonce) != venue.keys[key]:
            return TxReply(error=ErrorBody(Code.INVALID_NONCE, "invalid nonce"))
        venue.keys[key] += 1
        venue.executed.append(label)
        return TxReply(code=200, tx_hash=f"venue-{tx_info}")
    if int(nonce) != venue.next:
        return TxReply(error=ErrorBody(Code.INVALID_NONCE, "invalid nonce"))
    venue.next += 1
    venue.executed.append(label)
    return TxReply(code=200, tx_hash=f"venue-{tx_info}")


def refuse(code: int) -> Fate:
    """Refuse at the API: the nonce is not consumed."""
    return lambda _venue, _tx_info: TxReply(error=ErrorBody(code, "no"))


def lose_reply(venue: Venue, tx_info: str) -> Exception:
    """Execute, and never say so."""
    take(venue, tx_info)
    return OutcomeUnknownError("no answer")


def lose_request(_venue: Venue, _tx_info: str) -> Exception:
    """Neither execute nor answer, though it left."""
    return OutcomeUnknownError("connection lost")


def never_left(_venue: Venue, _tx_info: str) -> Exception:
    """Fail before the write."""
    return NotSentError("socket is closed")


class Slow:
    """A signature that waits for the test."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()


class Desk:
    """A sender and what it reported."""

    def __init__(self, venue: Venue, batch_size: int = 1, gate: Gate | None = None, keys: Sequence[int] = (4,)) -> None:
        self.venue = venue
        self.strangers: list[tuple[int, str]] = []
        self.slow: dict[str, Slow] = {}
        self.replies: dict[str, Reply] = {}
        self.sender = TransactionSender(
            loop=asyncio.get_running_loop(),
            socket=venue,
            rest=venue,
            signers=[
                Signer(chain_id=304, account_index=5, api_key_index=key, private_key=NO_KEY, base_url="", workers=2)
                for key in keys
            ],
            timeout_s=1.0,
            retry_pause_s=0.0,
            batch_size=batch_size,
            gate=gate,
            on_stranger=lambda key, evidence: self.strangers.append((key, evidence)),
        )

    def submit(
        self,
        *labels: str,
        tx_type: TxType = TxType.CREATE_ORDER,
        sign: Callable[[str, int], SignedTx] | None = None,
        order_id: str = "",
        sweeps: bool = False,
    ) -> None:
        """Queue transactions."""
        for label in labels:
            signer, note = self._signer(label, sign), self._note(label)
            self.sender.submit(Transaction(label, tx_type, signer, note, order_id=order_id, sweeps=sweeps))

    def signs_slowly(self, label: str) -> Slow:
        """Have a transaction's signature wait."""
        self.slow[label] = Slow()
        return self.slow[label]

    def _signer(
        self, label: str, sign: Callable[[str, int], SignedTx] | None
    ) -> Callable[[Signer, int], Awaitable[SignedTx]]:
        async def run(_signer: Signer, nonce: int) -> SignedTx:
            await asyncio.sleep(0)
            if slow := self.slow.get(label):
                slow.begun.set()
                await slow.go_on.wait()
            if sign is not None:
                return sign(label, nonce)
            return SignedTx(int(TxType.CREATE_ORDER), f"{label}@{nonce}", f"local-{label}@{nonce}")

        return run

    def _note(self, label: str) -> Callable[[Reply], None]:
        def note(reply: Reply) -> None:
            assert label not in self.replies, f"{label} had two outcomes"
            self.replies[label] = reply

        return note

    async def finish(self) -> None:
        """Wait for every outcome."""
        assert await self.sender.drain(5.0)

    def outcomes(self) -> dict[str, Outcome]:
        """Tell what became of each."""
        return {label: reply.outcome for label, reply in self.replies.items()}


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


# --- batches ---------------------------------------------------------------------------------------------------------


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


# --- the budget ------------------------------------------------------------------------------------------------------


class Budget:
    """A gate that a test opens and closes, and that may be broken."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.open = asyncio.Event()
        self.problem = problem
        self.asked: list[list[int]] = []
        self.room: int | None = None
        self.replies: list[TxReply] = []

    async def admit(self, tx_types: Sequence[int], waited_s: float = 0.0) -> None:
        """Wait until it is open, then fail if it is to."""
        self.asked.append(list(tx_types))
        if self.room is not None and len(tx_types) > self.room:
            raise RateLimitedError("full")
        if self.room is None:
            await self.open.wait()
        if self.problem is not None:
            raise self.problem

    def observe(self, reply: TxReply) -> None:
        """Remember what the venue says, and fail if it is to."""
        self.replies.append(reply)
        if self.problem is not None:
            raise self.problem


async def test_an_order_waits_for_room_in_the_budget() -> None:
    venue, budget = Venue(), Budget()
    desk = Desk(venue, batch_size=15, gate=budget)
    desk.submit("a", "b")
    while not budget.asked:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert ([], 0) == (venue.received, venue.nonce_requests)
    budget.open.set()
    await desk.finish()
    assert [[TxType.CREATE_ORDER] * 2] == budget.asked
    assert ["a", "b"] == venue.executed


async def test_an_order_that_gets_no_room_is_refused_and_was_never_sent() -> None:
    venue, budget = Venue(), Budget(RateLimitedError("no room for 40 s"))
    budget.open.set()
    desk = Desk(venue, gate=budget)
    desk.submit("a")
    await desk.finish()
    assert Reply(Outcome.REFUSED, 0, "not sent: no room for 40 s", cause=Cause.RATE_LIMITED) == desk.replies["a"]
    assert [] == venue.received


@pytest.mark.parametrize("batch_size", [1, 15])
async def test_orders_that_get_no_room_are_refused_one_after_the_other_without_any_other_news(batch_size: int) -> None:
    venue, budget = Venue(), Budget(RateLimitedError("no room for 40 s"))
    budget.open.set()
    desk = Desk(venue, batch_size=batch_size, gate=budget)
    desk.submit("a", "b", "c")
    await desk.finish()
    assert dict.fromkeys("abc", Outcome.REFUSED) == desk.outcomes()
    assert [] == venue.received


async def test_where_there_is_no_room_for_a_batch_its_orders_go_one_by_one() -> None:
    venue, budget = Venue(), Budget()
    budget.room = 1
    desk = Desk(venue, batch_size=15, gate=budget)
    desk.submit("a", "b", "c")
    await desk.finish()
    assert ["a", "b", "c"] == venue.executed
    assert [3, 1, 2, 1, 1] == [len(asked) for asked in budget.asked]


@pytest.mark.parametrize("tx_type", [TxType.CANCEL_ORDER, TxType.CANCEL_ALL_ORDERS])
@pytest.mark.parametrize("problem", [None, RateLimitedError("no room"), OSError("redis is gone")])
async def test_nothing_that_the_budget_does_holds_a_cancel_back(tx_type: TxType, problem: Exception | None) -> None:
    venue, budget = Venue(), Budget(problem)
    if problem is not None:
        budget.open.set()
    desk = Desk(venue, gate=budget)
    desk.submit("a", tx_type=tx_type)
    await desk.finish()
    assert {"a": Outcome.ACCEPTED} == desk.outcomes()
    assert [[tx_type]] == budget.asked


async def test_an_order_goes_out_without_a_budget_that_is_broken() -> None:
    venue, budget = Venue(), Budget(OSError("redis is gone"))
    budget.open.set()
    desk = Desk(venue, gate=budget)
    desk.submit("a")
    await desk.finish()
    assert {"a": Outcome.ACCEPTED} == desk.outcomes()


@pytest.mark.parametrize("connected", [True, False])
async def test_the_budget_hears_every_answer_and_refusals_too(connected: bool) -> None:
    venue, budget = Venue(), Budget()
    venue.connected = connected
    budget.open.set()
    venue.fates["b"] = [refuse(Code.TOO_MANY_REQUESTS)]
    desk = Desk(venue, gate=budget)
    desk.submit("a")
    await desk.finish()
    desk.submit("b")
    await desk.finish()
    assert [200, 0] == [reply.code for reply in budget.replies]
    assert ErrorBody(Code.TOO_MANY_REQUESTS, "no") == budget.replies[1].error


# --- the same, whatever happens --------------------------------------------------------------------------------------


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
    assert Reply(Outcome.REFUSED, 0, "not sent: no route") == desk.replies["a"]
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


# --- who goes first --------------------------------------------------------------------------------------------------


async def test_a_cancel_overtakes_orders_that_wait_and_leverage_comes_last() -> None:
    venue, budget = Venue(), Budget()
    desk = Desk(venue, gate=budget)
    desk.submit("leverage", tx_type=TxType.UPDATE_LEVERAGE)
    desk.submit("order a", "order b")
    while not budget.asked:
        await asyncio.sleep(0)
    desk.submit("cancel", tx_type=TxType.CANCEL_ORDER)
    desk.submit("cancel all", tx_type=TxType.CANCEL_ALL_ORDERS)
    while len(desk.replies) < 2:
        await asyncio.sleep(0)
    budget.open.set()
    await desk.finish()
    assert ["cancel", "cancel all", "order a", "order b", "leverage"] == venue.executed


async def test_a_cancel_ends_its_order_that_was_not_sent_and_nothing_of_it_is_ever_sent() -> None:
    venue, budget = Venue(), Budget()
    desk = Desk(venue, gate=budget)
    desk.submit("create", order_id="x")
    desk.submit("amend", tx_type=TxType.MODIFY_ORDER, order_id="x")
    while not budget.asked:
        await asyncio.sleep(0)
    desk.submit("cancel", tx_type=TxType.CANCEL_ORDER, order_id="x")
    await desk.finish()
    assert [] == venue.received
    assert ["create", "amend", "cancel"] == list(desk.replies)
    assert {Reply(Outcome.REFUSED, message="cancelled before it was sent", withdrawn=True)} == set(
        desk.replies.values()
    )
    budget.open.set()
    desk.submit("next")
    await desk.finish()
    assert ["next"] == venue.executed


async def test_a_cancel_ends_its_order_that_is_being_signed_and_what_is_signed_behind_it_goes_on() -> None:
    venue = Venue()
    desk = Desk(venue)
    signing = desk.signs_slowly("create")
    desk.submit("create", order_id="x")
    desk.submit("other", order_id="y")
    await signing.begun.wait()
    desk.submit("cancel", tx_type=TxType.CANCEL_ORDER, order_id="x")
    await asyncio.sleep(0)
    signing.go_on.set()
    await desk.finish()
    assert [("other", 7)] == venue.received
    assert desk.replies["create"].withdrawn
    assert desk.replies["cancel"].withdrawn


async def test_a_cancel_all_ends_what_was_asked_for_before_it_and_not_what_comes_later() -> None:
    venue, budget = Venue(), Budget()
    desk = Desk(venue, gate=budget)
    desk.submit("a", "b")
    while not budget.asked:
        await asyncio.sleep(0)
    desk.submit("all", tx_type=TxType.CANCEL_ALL_ORDERS, sweeps=True)
    desk.submit("c")
    while "all" not in desk.replies:
        await asyncio.sleep(0)
    budget.open.set()
    await desk.finish()
    assert ["all", "c"] == venue.executed
    assert [True, True, False, False] == [desk.replies[label].withdrawn for label in ("a", "b", "all", "c")]


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


# --- several keys ----------------------------------------------------------------------------------------------------


def keys_of(venue: Venue) -> dict[str, int]:
    """Tell by which key each transaction came: their nonces are a thousand apart."""
    return {label: nonce // 1000 for label, nonce in venue.received}


async def test_orders_are_spread_over_the_keys_and_all_of_one_order_takes_the_same() -> None:
    venue = Venue(keys={4: 4000, 5: 5000, 6: 6000})
    venue.hold = asyncio.Event()
    desk = Desk(venue, keys=(4, 5, 6))
    for number in range(6):
        desk.submit(f"create {number}", order_id=f"o{number}")
    while len(venue.received) < 6:
        await asyncio.sleep(0)
    for number in range(6):
        desk.submit(f"cancel {number}", order_id=f"o{number}", tx_type=TxType.CANCEL_ORDER)
    while len(venue.received) < 12:
        await asyncio.sleep(0)
    venue.hold.set()
    await desk.finish()
    keys = keys_of(venue)
    assert [2, 2, 2] == [[keys[f"create {number}"] for number in range(6)].count(key) for key in (4, 5, 6)]
    for number in range(6):
        assert keys[f"create {number}"] == keys[f"cancel {number}"]
    assert {Outcome.ACCEPTED} == set(desk.outcomes().values())


async def test_what_is_of_no_order_takes_the_first_key() -> None:
    venue = Venue(keys={4: 4000, 5: 5000})
    desk = Desk(venue, keys=(4, 5))
    desk.submit("leverage", "leverage again", tx_type=TxType.UPDATE_LEVERAGE)
    desk.submit("all", tx_type=TxType.CANCEL_ALL_ORDERS)
    await desk.finish()
    assert {4} == set(keys_of(venue).values())


async def test_a_cancel_all_ends_what_waits_for_any_key() -> None:
    venue, budget = Venue(keys={4: 4000, 5: 5000}), Budget()
    desk = Desk(venue, keys=(4, 5), gate=budget)
    for number in range(4):
        desk.submit(f"create {number}", order_id=f"o{number}")
    while len(budget.asked) < 2:
        await asyncio.sleep(0)
    desk.submit("all", tx_type=TxType.CANCEL_ALL_ORDERS, sweeps=True)
    await desk.finish()
    assert ["all"] == venue.executed
    assert all(desk.replies[f"create {number}"].withdrawn for number in range(4))


async def test_a_key_that_is_in_trouble_does_not_hold_up_another() -> None:
    venue = Venue(keys={4: 4000, 5: 5000})
    desk = Desk(venue, keys=(4, 5))
    stuck = desk.signs_slowly("create 0")
    for number in range(4):
        desk.submit(f"create {number}", order_id=f"o{number}")
    while len(desk.replies) < 2:
        await asyncio.sleep(0)
    assert 1 == len({key for label, key in keys_of(venue).items() if label in desk.replies})
    stuck.go_on.set()
    await desk.finish()
    assert 4 == len(venue.executed)


# --- somebody else on our key ----------------------------------------------------------------------------------------


def row_of(nonce: int, tx_hash: str, key: int = 4) -> TxRow:
    return TxRow(hash=tx_hash, type=int(TxType.CREATE_ORDER), status=2, api_key_index=key, nonce=nonce)


async def test_a_process_that_takes_our_nonces_is_reported_once_and_trading_goes_on() -> None:
    venue = Venue()
    desk = Desk(venue)
    for number in range(5):
        desk.submit(f"t{number}")
        await desk.finish()
        venue.next += 1
    assert [f"t{number}" for number in range(5)] == venue.executed
    assert [4] == [key for key, _ in desk.strangers]
    assert "9, counts transactions that this process never sent" in desk.strangers[0][1]


async def test_our_own_lost_answers_are_no_other_process() -> None:
    venue = Venue()
    venue.fates["b"], venue.fates["d"] = [lose_reply], [lose_request]
    desk = Desk(venue)
    for label in "abcdef":
        desk.submit(label)
        await desk.finish()
    assert ["a", "b", "c", "e", "f"] == venue.executed
    assert [] == desk.strangers


async def test_a_request_that_arrives_late_is_no_other_process() -> None:
    venue = Venue()
    venue.fates["a"] = [lose_request]
    desk = Desk(venue)
    desk.submit("a")
    await desk.finish()
    desk.submit("b", sign=lambda label, nonce: arrives(venue, label, nonce))
    await desk.finish()
    assert ["a", "b"] == venue.executed
    assert [] == desk.strangers


def arrives(venue: Venue, label: str, nonce: int) -> SignedTx:
    """Sign, while what was given up as lost arrives at the venue after all."""
    if "a" not in venue.executed:
        take(venue, f"a@{nonce}")
    return SignedTx(int(TxType.CREATE_ORDER), f"{label}@{nonce}", f"local-{label}@{nonce}")


async def test_rows_of_our_own_transactions_and_of_a_former_run_are_no_other_process() -> None:
    desk = Desk(Venue())
    desk.sender.observe(row_of(99, "before anything"))
    desk.submit("a")
    await desk.finish()
    desk.sender.observe(row_of(7, "venue-a@7"))
    desk.sender.observe(row_of(7, "local-a@7"))
    desk.sender.observe(row_of(6, "of a former run"))
    desk.sender.observe(row_of(8, "of another key", key=9))
    assert [] == desk.strangers


async def test_a_row_that_we_never_wrote_is_another_process() -> None:
    desk = Desk(Venue())
    desk.submit("a")
    await desk.finish()
    desk.sender.observe(row_of(8, "not ours"))
    desk.sender.observe(row_of(9, "not ours either"))
    assert [(4, "the account's stream shows a transaction of type 14 with nonce 8")] == desk.strangers


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


# --- orders, amends and cancels in any order -------------------------------------------------------------------------


class Book:
    """What must be true of the orders of a random schedule, from what was asked for and what the venue executed."""

    def __init__(self) -> None:
        self.asked: dict[str, list[str]] = {}  # by order, in the order of the calls

    def check(self, venue: Venue, desk: Desk) -> None:
        """Compare."""
        executed = set(venue.executed)
        for order_id, labels in self.asked.items():
            kinds = {label: label.split()[0] for label in labels}
            done = [label for label in venue.executed if label in kinds]
            withdrawn = [label for label in labels if desk.replies[label].withdrawn]
            create = labels[0]
            assert executed.isdisjoint(withdrawn), f"{order_id}: sent though it had ended"
            cancels = [label for label in withdrawn if kinds[label] == "cancel"]
            ended_by = labels.index(cancels[0]) if cancels else 0  # what is asked for later is sent, and refused
            if create in withdrawn:
                assert not set(done) & set(labels[: ended_by + 1]), f"{order_id}: {done} without the order"
            own_order = [label for label in done if kinds[label] != "cancel"]
            assert own_order == [label for label in labels if label in own_order], f"{order_id}: out of order"
            if create in done:
                assert done[0] == create, f"{order_id}: {done} before the order"
            first_cancel = next((label for label in labels if kinds[label] == "cancel"), None)
            if first_cancel is not None and create in executed:
                assert not desk.replies[first_cancel].withdrawn, f"{order_id}: stands, and its cancel was not sent"


@pytest.mark.parametrize("budget", [False, True])
@pytest.mark.parametrize(("keys", "batch_size"), [((4,), 1), ((4,), 8), ((4, 5, 6), 1), ((4, 5, 6), 8)])
@pytest.mark.parametrize("seed", range(10))
async def test_whatever_is_asked_of_an_order_happens_in_order_or_not_at_all(
    seed: int, keys: tuple[int, ...], batch_size: int, budget: bool
) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    gate = Budget() if budget else None
    venue = Venue(keys={key: key * 1000 for key in keys})
    desk, book = Desk(venue, batch_size, gate, keys), Book()
    fates: list[Fate] = [take, take, take, take, refuse(Code.NOT_ENOUGH_MARGIN), lose_reply, never_left]
    kinds = {"create": TxType.CREATE_ORDER, "amend": TxType.MODIFY_ORDER, "cancel": TxType.CANCEL_ORDER}
    for number in range(150):
        if gate is not None:
            (gate.open.set if chance.random() < 0.5 else gate.open.clear)()
        working = [
            order_id
            for order_id, labels in book.asked.items()
            if len(labels) < 5
            and not (labels[0] in desk.replies and desk.replies[labels[0]].outcome is Outcome.REFUSED)
        ]
        if chance.random() < 0.03:
            desk.submit(f"all {number}", tx_type=TxType.CANCEL_ALL_ORDERS, sweeps=True)
        elif not working or chance.random() < 0.4:
            venue.fates[f"create {number}"] = [chance.choice(fates)]
            book.asked[f"o{number}"] = [f"create {number}"]
            desk.submit(f"create {number}", order_id=f"o{number}")
        else:
            kind, order_id = chance.choice(("amend", "cancel")), chance.choice(working)
            label = f"{kind} {number}"
            venue.fates[label] = [chance.choice(fates)]
            book.asked[order_id].append(label)
            desk.submit(label, tx_type=kinds[kind], order_id=order_id)
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
    if gate is not None:
        gate.open.set()
    await desk.finish()
    assert len(venue.executed) == len(set(venue.executed)), "something was executed twice"
    for label, outcome in desk.outcomes().items():
        if outcome is not Outcome.UNKNOWN:
            assert (outcome is Outcome.ACCEPTED) == (label in venue.executed), label
    book.check(venue, desk)
    assert [] == desk.strangers
