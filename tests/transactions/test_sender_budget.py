"""The sender at the venue's limits: orders wait for room or are refused, cancels do neither."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from qubx_lighter.constants import Code, TxType
from qubx_lighter.errors import RateLimitedError, SigningError
from qubx_lighter.native.key import SignedTx
from qubx_lighter.protocol.codes import Cause, Outcome
from qubx_lighter.protocol.wire import ErrorBody
from qubx_lighter.transactions.sender import Reply
from tests.sender_desk import Budget, Desk, Venue, never_left, refuse


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


@pytest.mark.parametrize("at_once", [True, OSError("redis is gone")])
@pytest.mark.parametrize("batch_size", [1, 15])
async def test_where_there_is_room_at_once_or_nobody_who_could_say_nothing_waits(
    at_once: bool | Exception, batch_size: int
) -> None:
    venue, budget = Venue(), Budget()  # which nobody opens
    budget.at_once = at_once
    desk = Desk(venue, batch_size=batch_size, gate=budget)
    desk.submit("a", "b", "c")
    await desk.finish()
    assert dict.fromkeys("abc", Outcome.ACCEPTED) == desk.outcomes()
    assert [] == budget.asked


async def test_who_comes_later_does_not_take_the_room_that_an_earlier_one_waits_for() -> None:
    venue, budget = Venue(), Budget()
    desk = Desk(venue, gate=budget)
    desk.submit("a")
    while not budget.asked:
        await asyncio.sleep(0)
    budget.at_once = True
    desk.submit("b")
    for _ in range(20):
        await asyncio.sleep(0)
    assert [] == venue.received
    budget.open.set()
    await desk.finish()
    assert ["a", "b"] == venue.executed


async def test_room_that_is_kept_is_not_asked_for_again() -> None:
    def fails(_label: str, _nonce: int) -> SignedTx:
        raise SigningError("no")

    venue, budget = Venue(), Budget()
    budget.open.set()
    venue.fates["a"] = [never_left]
    desk = Desk(venue, batch_size=15, gate=budget)
    desk.submit("a")
    desk.submit("b", sign=fails)
    desk.submit("c")
    await desk.finish()
    assert ["a", "c"] == venue.executed
    asked = Counter(len(types) for types in budget.asked)
    assert {3: 1, 1: 1} == asked  # all three, and "a" again, which left in vain


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
