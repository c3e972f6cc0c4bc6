"""The venue does not tell the next nonce, but its socket answers: cancels try what it may be, and orders wait for proof."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from qubx_lighter.constants import Code, TxType
from qubx_lighter.errors import RateLimitedError
from qubx_lighter.protocol.codes import Outcome
from tests.fake_time import run
from tests.sender_desk import Desk, Fate, Venue, lose_reply, lose_request, refuse, take

CANCEL = TxType.CANCEL_ORDER


def in_doubt(fate: Fate, then: Callable[[Desk], Awaitable[None]], orders: int = 1, **options: int) -> None:
    """Lose the answers to some orders, then have the venue tell no nonce any more."""

    async def scenario() -> None:
        desk = Desk(Venue(), **options)
        desk.submit("first")
        await desk.finish()
        for number in range(orders):
            desk.venue.fates[f"lost{number}"] = [fate]
            desk.submit(f"lost{number}")
        await desk.finish()
        desk.venue.nonce_hold = asyncio.Event()
        await then(desk)

    run(scenario())


async def seconds_until(desk: Desk, label: str) -> float:
    """Tell how long an outcome takes."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    while label not in desk.replies:
        await asyncio.sleep(0.01)
    return loop.time() - start


@pytest.mark.parametrize("batch_size", [1, 15])
@pytest.mark.parametrize("fate", [lose_reply, lose_request])
@pytest.mark.parametrize("orders", [1, 2, 3])
def test_a_cancel_leaves_after_a_second_and_orders_follow_once_it_has_proved_the_nonce(
    fate: Fate, batch_size: int, orders: int
) -> None:
    async def then(desk: Desk) -> None:
        desk.submit("order")
        desk.submit("cancel", "another", tx_type=CANCEL)
        assert 1.0 <= await seconds_until(desk, "cancel") < 1.1
        await desk.finish()
        assert {Outcome.ACCEPTED} == {desk.replies[label].outcome for label in ("cancel", "another", "order")}
        assert ["cancel", "another", "order"] == desk.venue.executed[-3:]
        assert 1 <= desk.sender.stats()["supposed"] <= orders + 1

    in_doubt(fate, then, orders, batch_size=batch_size)


def test_orders_alone_never_leave_on_a_supposition() -> None:
    async def then(desk: Desk) -> None:
        received = list(desk.venue.received)
        desk.submit("order")
        assert 21.0 <= await seconds_until(desk, "order") < 21.1
        assert (Outcome.REFUSED, received) == (desk.replies["order"].outcome, desk.venue.received)

    in_doubt(lose_reply, then)


def test_a_cancel_goes_out_at_once_where_the_question_was_refused() -> None:
    async def then(desk: Desk) -> None:
        desk.venue.nonce_hold = None
        desk.venue.next_nonce_error = RateLimitedError("a ban")
        desk.submit("order")
        desk.submit("cancel", tx_type=CANCEL)
        assert await seconds_until(desk, "cancel") < 0.1
        await desk.finish()
        assert ["cancel", "order"] == desk.venue.executed[-2:]

    in_doubt(lose_reply, then)


def test_an_order_that_the_rate_limit_of_the_nonce_holds_up_waits_and_goes_out() -> None:
    async def scenario() -> None:
        venue = Venue()
        venue.next_nonce_error = RateLimitedError("a short pause")
        desk = Desk(venue)
        desk.submit("order")
        await asyncio.sleep(10.0)
        assert {} == desk.replies
        venue.next_nonce_error = None
        await desk.finish()
        assert ["order"] == venue.executed

    run(scenario())


def test_where_none_of_the_numbers_is_right_the_cancel_waits_for_the_venues_word() -> None:
    async def then(desk: Desk) -> None:
        desk.venue.next += 5  # another program
        desk.submit("cancel", tx_type=CANCEL)
        await asyncio.sleep(30.0)
        assert (2, {}) == (desk.sender.stats()["supposed"], {k: v for k, v in desk.replies.items() if k == "cancel"})
        assert desk.venue.nonce_hold is not None
        desk.venue.nonce_hold.set()
        await desk.finish()
        assert Outcome.ACCEPTED is desk.replies["cancel"].outcome

    in_doubt(lose_reply, then)


def test_an_answer_from_before_a_cancel_was_taken_is_not_believed() -> None:
    async def then(desk: Desk) -> None:
        desk.submit("cancel", tx_type=CANCEL)
        await desk.finish()
        assert desk.venue.nonce_hold is not None
        desk.venue.nonce_hold.set()  # the question of before
        desk.submit("order")
        await desk.finish()
        assert [("cancel", 9), ("order", 10)] == desk.venue.received[-2:]

    in_doubt(lose_reply, then)


def test_a_cancel_whose_answer_is_lost_too_is_in_doubt_and_the_next_one_finds_its_way() -> None:
    async def then(desk: Desk) -> None:
        desk.venue.fates["cancel"] = [lose_reply]
        desk.submit("cancel", tx_type=CANCEL)
        desk.submit("next", tx_type=CANCEL)
        await desk.finish()
        assert (Outcome.UNKNOWN, Outcome.ACCEPTED) == (desk.replies["cancel"].outcome, desk.replies["next"].outcome)
        assert ["first", "lost0", "cancel", "next"] == desk.venue.executed

    in_doubt(lose_reply, then)


def test_a_cancel_that_is_refused_for_another_reason_proves_nothing_to_orders() -> None:
    async def then(desk: Desk) -> None:
        desk.venue.fates["cancel"] = [refuse(Code.NOT_ACTIVE_LIMIT_ORDER)]
        desk.submit("cancel", tx_type=CANCEL)
        desk.submit("order")
        await seconds_until(desk, "cancel")
        await asyncio.sleep(10.0)
        assert "order" not in desk.replies
        desk.submit("next", tx_type=CANCEL)
        await desk.finish()
        assert ["next", "order"] == desk.venue.executed[-2:]

    in_doubt(lose_request, then)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("seed", range(10))
def test_whatever_happens_nothing_is_done_twice_and_each_outcome_is_the_truth(seed: int, batch_size: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    fates: list[Fate] = [take, take, refuse(Code.NOT_ENOUGH_MARGIN), lose_reply, lose_request]

    async def scenario() -> None:
        venue = Venue()
        desk = Desk(venue, batch_size)
        for number in range(120):
            label = f"t{number}"
            venue.fates[label] = [chance.choice(fates)]
            venue.connected = chance.random() > 0.1
            if number > 1 and chance.random() < 0.2:
                venue.nonce_hold = None if venue.nonce_hold else asyncio.Event()
            desk.submit(label, tx_type=chance.choice([TxType.CREATE_ORDER, CANCEL, CANCEL]))
            await asyncio.sleep(chance.choice([0, 0.1, 1.0, 3.0]))
        venue.connected, venue.nonce_hold = True, None
        await asyncio.sleep(61.0)
        assert 120 == len(desk.replies)
        assert len(venue.executed) == len(set(venue.executed))
        outcomes = desk.outcomes()
        assert {label for label, outcome in outcomes.items() if outcome is Outcome.ACCEPTED} <= set(venue.executed)
        assert {label for label, outcome in outcomes.items() if outcome is Outcome.REFUSED}.isdisjoint(venue.executed)
        assert desk.sender.stats()["supposed"]
        assert [] == desk.strangers

    run(scenario())
