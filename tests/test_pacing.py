"""Pacing: one turnstile for all of a process, by rank; requests of a client; the sharing with other processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf

import pytest
from qubx.utils.misc import BackgroundEventLoop

from qubx_lighter.pacing import Rank, RestPace, Turnstile, is_local, reserve_for_account, rest_pace, turnstile_of
from qubx_lighter.protocol.budget import Budget
from qubx_lighter.protocol.limits import STANDARD, TIERS
from tests import fake_time


def turnstile(weight: float) -> Turnstile:
    """One on the clock of the loop that runs."""
    return Turnstile(Budget(weight), clock=asyncio.get_running_loop().time)


def test_who_comes_too_early_waits_for_the_turn() -> None:
    async def scene() -> list[float]:
        stile, times = turnstile(2), []
        for _ in range(5):
            assert await stile.enter(1, Rank.HISTORY)
            times.append(round(stile.clock() - 1000))
        return times

    assert [0, 0, 60, 60, 120] == fake_time.run(scene())


def test_who_guards_money_goes_before_history_however_long_that_has_waited() -> None:
    async def scene() -> list[str]:
        stile, passed = turnstile(1), []

        async def enter(name: str, rank: Rank) -> None:
            await stile.enter(1, rank)
            passed.append(name)

        async with asyncio.TaskGroup() as group:
            for name in ("first", "candles", "trades"):
                group.create_task(enter(name, Rank.HISTORY))
            await asyncio.sleep(1)
            group.create_task(enter("snapshot", Rank.ACCOUNT))
            group.create_task(enter("recovery", Rank.ACCOUNT))
            await asyncio.sleep(1)
            group.create_task(enter("order", Rank.TRANSACTION))
        return passed

    assert ["first", "order", "snapshot", "recovery", "candles", "trades"] == fake_time.run(scene())


def test_history_leaves_a_part_to_an_account() -> None:
    async def scene() -> tuple[bool, list[bool]]:
        stile = turnstile(STANDARD.weight)
        reserve_for_account(RestPace(stile))
        for _ in range(48):
            await stile.enter(400, Rank.HISTORY, patience_s=0)
        history = await stile.enter(400, Rank.HISTORY, patience_s=0)
        return history, [await stile.enter(400, Rank.ACCOUNT, patience_s=0) for _ in range(13)]

    assert (False, [True] * 12 + [False]) == fake_time.run(scene())


def test_patience_ends_a_wait_and_nothing_is_spent() -> None:
    async def scene() -> tuple[bool, float, float]:
        stile = turnstile(1)
        await stile.enter(1, Rank.TRANSACTION)
        passed = await stile.enter(1, Rank.TRANSACTION, patience_s=10)
        return passed, round(stile.clock() - 1000), stile.stats()["spent"]

    assert (False, 10, 1.0) == fake_time.run(scene())


def test_a_wait_that_is_cancelled_holds_nobody_up() -> None:
    async def scene() -> float:
        stile = turnstile(1)
        await stile.enter(1, Rank.HISTORY)
        given_up = asyncio.create_task(stile.enter(1, Rank.HISTORY))
        await asyncio.sleep(1)
        given_up.cancel()
        await stile.enter(1, Rank.HISTORY)
        return round(stile.clock() - 1000)

    assert 60 == fake_time.run(scene())


def test_what_is_forced_through_makes_the_others_wait() -> None:
    async def scene() -> float:
        stile = turnstile(2)
        for _ in range(4):
            stile.force(1)
        await stile.enter(1, Rank.TRANSACTION)
        return round(stile.clock() - 1000)

    assert 60 == fake_time.run(scene())


@asynccontextmanager
async def other_loop() -> AsyncIterator[BackgroundEventLoop]:
    loop = BackgroundEventLoop()
    yield loop
    loop.stop()
    loop.loop.close()


async def test_a_loop_that_was_stopped_in_the_queue_holds_nobody_up() -> None:
    stile = Turnstile(Budget(1, period_s=0.2))
    await stile.enter(1, Rank.ACCOUNT)
    async with other_loop() as loop:
        waiting = asyncio.run_coroutine_threadsafe(stile.enter(1, Rank.TRANSACTION), loop.loop)
        while not stile.stats()["waiting"]:
            await asyncio.sleep(0)
        loop.loop.call_soon_threadsafe(loop.loop.stop)
        while loop.loop.is_running():
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            assert await stile.enter(1, Rank.HISTORY)
        assert not waiting.done()


# --- requests --------------------------------------------------------------------------------------------------------


class Ledger:
    """A shared budget that keeps what was spent; short of everything if told so."""

    def __init__(self) -> None:
        self.spent: list[tuple[str, float]] = []
        self.refusals: list[tuple[str, float]] = []

    async def spend(self, key: str, weight: float, patience_s: float) -> bool:
        self.spent.append((key, weight))
        return True

    def refused(self, key: str, pause_s: float) -> None:
        self.refusals.append((key, pause_s))

    def quota(self, remaining: int) -> None:
        raise AssertionError


async def test_requests_count_for_the_address_or_with_a_token_for_the_account_and_its_tier() -> None:
    ledger, address, account = Ledger(), Turnstile(Budget(STANDARD.weight)), Turnstile(Budget(240_000))
    pace = RestPace(address, account, tier=TIERS["builder"], shared=ledger)
    await pace.enter("candles", Rank.HISTORY, authenticated=False)
    await pace.enter("candles", Rank.HISTORY, authenticated=True)
    await pace.enter("trades", Rank.ACCOUNT, authenticated=True)
    assert [400.0, 900.0] == [address.stats()["spent"], account.stats()["spent"]]
    assert [("rest:candles", 400.0), ("auth:candles", 30.0), ("auth:trades", 60.0)] == ledger.spent
    assert pace.authenticates


async def test_a_token_is_no_use_to_a_standard_account() -> None:
    stile = Turnstile(Budget(STANDARD.weight))
    assert not RestPace(stile, Turnstile(Budget(STANDARD.weight))).authenticates
    assert not RestPace(stile, tier=TIERS["premium"]).authenticates


@pytest.mark.parametrize(
    ("status", "retry_after_s", "pause_s"), [(429, None, 2.0), (429, 11.0, 11.0), (405, None, 60.0), (405, 5.0, 5.0)]
)
def test_a_refusal_closes_what_it_was_counted_for(status: int, retry_after_s: float | None, pause_s: float) -> None:
    async def scene() -> tuple[float, float, list[tuple[str, float]]]:
        ledger = Ledger()
        pace = RestPace(turnstile(STANDARD.weight), turnstile(STANDARD.weight), shared=ledger)
        pace.refused("account", authenticated=False, status=status, retry_after_s=retry_after_s)
        clock = pace.address.clock
        await pace.enter("trades", Rank.ACCOUNT, authenticated=True)
        other = clock() - 1000
        await pace.enter("account", Rank.ACCOUNT, authenticated=False)
        return round(other), round(clock() - 1000), [(key, round(pause, 3)) for key, pause in ledger.refusals]

    assert (0, pause_s, [("rest:account", pause_s)]) == fake_time.run(scene())


# --- one of each a process -------------------------------------------------------------------------------------------


def test_a_venue_has_one_turnstile_in_this_process_and_one_on_this_machine_lets_everything_through() -> None:
    assert rest_pace("https://a.test").address is rest_pace("https://a.test/", requests=60).address
    assert rest_pace("https://a.test").address is not rest_pace("https://b.test").address
    assert turnstile_of("https://a.test", "0xab", 1) is not turnstile_of("https://a.test", "0xcd", 1)
    local = "http://127.0.0.1:8765"
    assert inf == rest_pace(local).address.budget.weight
    assert not rest_pace(local).is_paced
    assert [24_000, 12_000] == [
        pace.address.budget.weight for pace in (rest_pace(local, paced=True), rest_pace(local, requests=30))
    ]


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:80", True),
        ("http://[::1]:80", True),
        ("http://localhost", True),
        ("https://mainnet.zklighter.elliot.ai", False),
        ("http://10.0.0.1", False),
    ],
)
def test_a_venue_on_this_machine_is_told_by_its_host(url: str, local: bool) -> None:
    assert local == is_local(url)
