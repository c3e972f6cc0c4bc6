"""Who goes first: cancels overtake orders and end those that were not sent, whatever the order of the calls."""

from __future__ import annotations

import asyncio
import random

import pytest

from qubx_lighter.constants import Code, TxType
from qubx_lighter.protocol.codes import Outcome
from qubx_lighter.transactions.sender import Reply
from tests.sender_desk import Budget, Desk, Fate, Venue, lose_reply, never_left, refuse, take

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
