"""The dead man's switch with the real signer and sender, at a venue that keeps one scheduled cancel-all, as Lighter does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from qubx_lighter.constants import Code, TxType
from qubx_lighter.errors import OutcomeUnknownError
from qubx_lighter.protocol.wire import ErrorBody, TxReply, TxRow
from qubx_lighter.signer import generate_api_key
from qubx_lighter.transactions.dead_mans_switch import DeadMansSwitch
from qubx_lighter.transactions.sender import TransactionSender
from qubx_lighter.transactions.watch import TransactionWatch
from tests.answers import BothTransports
from tests.signing import make

PERIOD_S = 0.3  # a thousandth of what the venue allows
NOW_MS = 1_797_824_653_863


class Venue(BothTransports):
    """Takes cancel-alls; a scheduled one stands until it is aborted."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []
        self.times: list[int] = []
        self.scheduled = False
        self.refusals = 0
        self.failures: list[str] = []
        self.lost = 0
        self.rows: dict[str, TxRow] = {}
        self.changed = asyncio.Event()

    def answer(self, tx_type: int, tx_info: str) -> TxReply:
        """Schedule or abort, or take it and fail to, or do it and lose the answer."""
        tx_hash = f"hash-{self.nonce}"
        failure = self.failures.pop(0) if self.failures and json.loads(tx_info)["TimeInForce"] == 1 else ""
        if failure:
            self.done.append("fail")
            self.nonce += 1
            reply = TxReply(code=200, tx_hash=tx_hash)
        else:
            reply = self._decide(tx_type, json.loads(tx_info))
            reply.tx_hash = tx_hash
        self.rows[tx_hash] = TxRow(tx_hash, tx_type, status=2, event_info=json.dumps({"ae": failure}))
        self.changed.set()
        if self.lost:
            self.lost -= 1
            raise OutcomeUnknownError("no answer")
        return reply

    async def find(self, tx_hash: str) -> TxRow | None:
        """Tell what became of a transaction."""
        return self.rows.get(tx_hash)

    def _decide(self, tx_type: int, body: dict[str, Any]) -> TxReply:
        assert (TxType.CANCEL_ALL_ORDERS, self.nonce) == (tx_type, body["Nonce"])
        if self.refusals:
            self.refusals -= 1
            return TxReply(error=ErrorBody(Code.TOO_MANY_REQUESTS, "slow down"))
        if body["TimeInForce"] == 2:
            self.done.append("abort")
            self.scheduled = False
        else:
            assert body["TimeInForce"] == 1
            if self.scheduled:
                self.done.append("21712")
                return TxReply(error=ErrorBody(21712, "a cancel all is queued"))
            self.done.append("schedule")
            self.times.append(body["Time"])
            self.scheduled = True
        self.nonce += 1
        return TxReply(code=200)

    async def until(self, done: int) -> None:
        """Wait until so many things happened."""
        async with asyncio.timeout(10):
            while len(self.done) < done:
                self.changed.clear()
                await self.changed.wait()


class Desk:
    """A switch and what it needs."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.venue = Venue()
        self.signer = make(generate_api_key()[0], account_index=5)
        self.sender = TransactionSender(
            loop=loop, socket=self.venue, rest=self.venue, signers=[self.signer], timeout_s=5.0
        )
        self.watch = TransactionWatch(
            sender=self.sender, find=self.venue.find, loop=loop, api_key_index=4, look_up_s=0.001
        )
        self.told: list[str] = []
        self.switch = DeadMansSwitch(
            period_s=PERIOD_S,
            sender=self.sender,
            watch=self.watch,
            loop=loop,
            on_failure=self.told.append,
            now_ms=lambda: NOW_MS,
        )


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    await desk.watch.close()
    desk.switch.close()
    await desk.sender.drain(5.0)
    await desk.sender.close()
    desk.signer.close()


async def test_is_armed_with_the_connection_put_off_again_and_again_and_called_off_at_the_end(desk: Desk) -> None:
    desk.switch.on_state(True)
    await desk.venue.until(5)
    desk.switch.close()
    assert await desk.sender.drain(5.0)
    assert ["schedule", "abort", "schedule", "abort", "schedule"] == desk.venue.done[:5]
    assert "abort" == desk.venue.done[-1]
    assert not desk.venue.scheduled
    assert {NOW_MS + 300} == set(desk.venue.times)


async def test_what_a_killed_run_left_is_replaced(desk: Desk) -> None:
    desk.venue.scheduled = True
    desk.switch.on_state(True)
    await desk.venue.until(3)
    assert ["21712", "abort", "schedule"] == desk.venue.done[:3]
    assert [] == desk.told


async def test_is_not_touched_while_there_is_no_connection(desk: Desk) -> None:
    desk.switch.on_state(True)
    while not desk.switch._schedule.may_be_queued:
        await asyncio.sleep(0.001)
    desk.switch.on_state(False)
    assert desk.switch._timer is None
    desk.switch.on_state(True)
    await desk.venue.until(3)


async def test_a_refusal_is_tried_again(desk: Desk) -> None:
    desk.venue.refusals = 2
    desk.switch.on_state(True)
    await desk.venue.until(1)
    assert ["schedule"] == desk.venue.done[:1]
    assert ["23000 slow down"] == desk.told  # once


async def test_what_the_venue_takes_and_fails_to_do_is_no_switch_and_is_tried_again(desk: Desk) -> None:
    desk.venue.failures = ["not enough volume quota"] * 2
    desk.switch.on_state(True)
    await desk.venue.until(3)
    assert ["fail", "fail", "schedule"] == desk.venue.done[:3]
    assert ["0 not enough volume quota"] == desk.told


async def test_a_former_switch_that_shows_only_when_it_is_carried_out_is_replaced(desk: Desk) -> None:
    desk.venue.failures = ["account has a queued cancel all orders request"]
    desk.switch.on_state(True)
    await desk.venue.until(3)
    assert ["fail", "abort", "schedule"] == desk.venue.done[:3]
    assert [] == desk.told


async def test_a_lost_answer_is_not_waited_for(desk: Desk) -> None:
    desk.venue.lost = 1
    desk.switch.on_state(True)
    await desk.venue.until(3)
    assert ["schedule", "abort", "schedule"] == desk.venue.done[:3]


async def test_a_close_while_it_is_being_armed_calls_it_off_all_the_same(desk: Desk) -> None:
    desk.switch.on_state(True)
    while not desk.sender.stats()["in_flight"]:
        await asyncio.sleep(0)
    desk.switch.close()
    assert await desk.sender.drain(5.0)
    assert (["schedule", "abort"], False) == (desk.venue.done, desk.venue.scheduled)


async def test_without_anything_armed_a_close_sends_nothing(desk: Desk) -> None:
    desk.switch.close()
    desk.switch.close()
    assert await desk.sender.drain(5.0)
    assert [] == desk.venue.done
