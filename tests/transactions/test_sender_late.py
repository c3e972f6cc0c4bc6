"""What is asked for and does not get away in time is refused, and never sent later: by then it is given up and done anew."""

from __future__ import annotations

import asyncio

from qubx_lighter.constants import Code, TxType
from qubx_lighter.protocol.codes import Cause, Outcome
from qubx_lighter.transactions.sender import Reply
from tests.fake_time import run
from tests.sender_desk import Desk, Venue, lose_reply, refuse

ORDER_S, CANCEL_S = 21.0, 60.0  # 20 s for the budget and 1 s for nonce and signature; a cancel's


def too_late(text: str) -> Reply:
    return Reply(Outcome.REFUSED, 0, text, cause=Cause.RATE_LIMITED)


async def outcome_of(desk: Desk, label: str) -> float:
    """Wait for an outcome and tell when it came."""
    while label not in desk.replies:
        await asyncio.sleep(0.1)
    return asyncio.get_running_loop().time()


def test_an_order_that_gets_no_nonce_in_time_is_refused_and_does_not_go_out_when_one_comes() -> None:
    async def scenario() -> None:
        venue = Venue()
        venue.nonce_hold = asyncio.Event()
        desk = Desk(venue)
        start = asyncio.get_running_loop().time()
        desk.submit("order")
        desk.submit("leverage", tx_type=TxType.UPDATE_LEVERAGE)
        desk.submit("cancel", tx_type=TxType.CANCEL_ORDER)
        assert ORDER_S <= await outcome_of(desk, "order") - start < ORDER_S + 0.2
        assert {"order", "leverage"} == set(desk.replies)
        assert too_late("not sent: no nonce for 21 s") == desk.replies["order"]
        venue.nonce_hold.set()
        await desk.finish()
        assert Outcome.ACCEPTED is desk.replies["cancel"].outcome
        assert [("cancel", 7)] == venue.received

    run(scenario())


def test_a_cancel_waits_longer_and_has_an_end_too() -> None:
    async def scenario() -> None:
        venue = Venue()
        venue.nonce_hold = asyncio.Event()
        desk = Desk(venue)
        start = asyncio.get_running_loop().time()
        desk.submit("cancel", tx_type=TxType.CANCEL_ORDER)
        assert CANCEL_S <= await outcome_of(desk, "cancel") - start < CANCEL_S + 0.2
        assert too_late("not sent: no nonce for 60 s") == desk.replies["cancel"]

    run(scenario())


def test_while_nobody_answers_orders_are_refused_at_once_and_a_cancel_goes_out_with_the_first_answer() -> None:
    async def scenario() -> None:
        venue = Venue()
        venue.unreachable = True
        desk = Desk(venue)
        desk.submit("cancel", tx_type=TxType.CANCEL_ORDER)
        desk.submit("order")
        await outcome_of(desk, "order")
        assert {"order": too_late("not sent: no nonce: no route")} == desk.replies
        await asyncio.sleep(30)
        assert 5 < venue.nonce_requests < 15
        venue.unreachable = False
        await outcome_of(desk, "cancel")
        desk.submit("next")
        await desk.finish()
        assert ["cancel", "next"] == venue.executed

    run(scenario())


def test_what_waits_for_its_signature_too_long_goes_back_and_is_refused_and_the_next_takes_its_nonce() -> None:
    async def scenario() -> None:
        venue = Venue()
        desk = Desk(venue)
        slow = desk.signs_slowly("old")
        desk.submit("old")
        await slow.begun.wait()
        await asyncio.sleep(ORDER_S)
        desk.submit("new")
        slow.go_on.set()
        await desk.finish()
        assert too_late("not sent: no room for 21 s") == desk.replies["old"]
        assert [("new", 7)] == venue.received

    run(scenario())


def test_the_time_counts_from_the_call_and_not_from_when_a_busy_loop_takes_note() -> None:
    async def scenario() -> None:
        venue, now = Venue(), 100.0
        desk = Desk(venue, clock=lambda: now)
        desk.submit("a")
        now += ORDER_S  # before the loop gets a turn
        await desk.finish()
        assert ([], Outcome.REFUSED) == (venue.received, desk.replies["a"].outcome)

    run(scenario())


def test_what_would_go_out_alone_too_late_after_a_refusal_of_its_batch_stays_here_and_is_in_doubt() -> None:
    async def scenario() -> None:
        venue, now = Venue(), 100.0
        venue.fates["b"] = [refuse(Code.NOT_ENOUGH_MARGIN), lose_reply]
        desk = Desk(venue, batch_size=15, clock=lambda: now)
        desk.submit("a", "b")
        venue.hold = asyncio.Event()
        while not venue.batches:
            await asyncio.sleep(0)
        now += ORDER_S
        venue.hold.set()
        await desk.finish()
        assert dict.fromkeys("ab", Outcome.UNKNOWN) == desk.outcomes()
        assert ([("a", 7), ("b", 8)], []) == (venue.received, venue.executed)
        desk.submit("c")
        await desk.finish()
        assert ["c"] == venue.executed

    run(scenario())
