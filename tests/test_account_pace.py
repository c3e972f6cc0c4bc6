"""What an account may do: its tier, learned from the venue or not; the gate that its transactions pass."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any

import pytest
from loguru import logger

from qubx_lighter.account_pace import AccountPace, TransactionGate
from qubx_lighter.constants import Code, TxType
from qubx_lighter.errors import RateLimitedError, TransportError
from qubx_lighter.pacing import RestPace, Turnstile
from qubx_lighter.protocol.account_rows import AccountLimits
from qubx_lighter.protocol.budget import Budget
from qubx_lighter.protocol.limits import STANDARD, TIERS
from qubx_lighter.protocol.wire import ErrorBody, TxReply
from tests import fake_time

CREATE, CANCEL, CANCEL_ALL, LEVERAGE = (
    TxType.CREATE_ORDER,
    TxType.CANCEL_ORDER,
    TxType.CANCEL_ALL_ORDERS,
    TxType.UPDATE_LEVERAGE,
)
NO_QUOTA = TxReply(error=ErrorBody(Code.TOO_MANY_REQUESTS, "Too Many Requests!: Not enough volume quota"))
TOO_FAST = TxReply(error=ErrorBody(Code.TOO_MANY_REQUESTS, "Too Many Requests!"))
_hosts = itertools.count()


class Scene:
    """An account on the clock of the loop that runs."""

    def __init__(self, tier: str | None = None, *, wait_s: float = 20.0, **options: Any) -> None:
        clock = asyncio.get_running_loop().time
        self.rest = RestPace(Turnstile(Budget(STANDARD.weight), clock=clock))
        chosen = TIERS[tier] if tier else None
        # turnstiles outlive their users: another host each time
        self.pace = AccountPace(f"https://{next(_hosts)}.test", "0x1", self.rest, tier=chosen, clock=clock, **options)
        for turnstile in (self.rest.account, self.pace.transactions, self.pace._own_transactions):
            turnstile.clock = clock
        self.gate = TransactionGate(self.pace, wait_s=wait_s)
        self.clock = clock

    async def send(self, *tx_types: TxType, reply: TxReply | None = None, waited_s: float = 0.0) -> float:
        """Pass the gate, and give the second at which it was passed."""
        if CANCEL in tx_types or not self.gate.admit_at_once(tx_types):
            await self.gate.admit(tx_types, waited_s)
        self.gate.observe(reply or TxReply(code=200))
        return round(self.clock() - 1000)


def play[T](scene: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return fake_time.run(scene())


# --- pace ------------------------------------------------------------------------------------------------------------


def test_of_a_standard_account_transactions_and_requests_are_one_budget_of_60() -> None:
    async def scene() -> list[float]:
        standard = Scene(wait_s=100)
        for _ in range(20):
            await standard.rest.enter("account", 1, authenticated=True)  # type: ignore[arg-type]
        return [await standard.send(CREATE) for _ in range(31)]

    assert [0] * 30 + [60] == play(scene)


def test_of_a_premium_account_they_are_two() -> None:
    async def scene() -> list[float]:
        premium = Scene("premium", wait_s=100)
        for _ in range(80):
            await premium.rest.enter("account", 1, authenticated=True)  # type: ignore[arg-type]
        return [await premium.send(*[CREATE] * 10) for _ in range(334)]

    assert [0] * 333 + [60] == play(scene)


def test_cancels_leave_at_once_but_count_and_orders_leave_them_a_sixth() -> None:
    async def scene() -> tuple[list[float], list[float], list[float]]:
        standard = Scene(wait_s=100)
        orders = [await standard.send(CREATE) for _ in range(50)]
        cancels = [await standard.send(CANCEL) for _ in range(20)]
        return orders, cancels, [await standard.send(CREATE) for _ in range(2)]

    assert ([0] * 50, [0] * 20, [60, 60]) == play(scene)


def test_an_order_that_finds_no_room_in_time_is_rejected() -> None:
    async def scene() -> tuple[float, dict[str, float]]:
        standard = Scene(wait_s=20)
        for _ in range(50):
            await standard.send(CREATE)
        with pytest.raises(RateLimitedError, match="no room for a transaction of this standard account"):
            await standard.send(CREATE, waited_s=5)
        return round(standard.clock() - 1000), standard.gate.stats()

    seconds, stats = play(scene)
    assert 15 == seconds
    assert (1, 1, 20_000.0) == (stats["gate_rejected"], stats["gate_held"], stats["limit_transactions_spent"])


def test_after_a_refusal_transactions_pause_and_cancels_do_not() -> None:
    async def scene() -> list[float]:
        premium = Scene("premium", wait_s=100)
        await premium.send(CREATE, reply=TOO_FAST)
        return [await premium.send(CANCEL), await premium.send(CREATE)]

    assert [0, 3] == play(scene)  # 2 s, and then slowly


def test_settings_go_before_tiers() -> None:
    async def scene() -> list[float]:
        own = Scene("premium", transactions=6, requests=7, wait_s=100)
        for _ in range(7):
            await own.rest.enter("account", 1, authenticated=True)  # type: ignore[arg-type]
        return [*[await own.send(CREATE) for _ in range(6)], own.rest.account.budget.weight]

    assert [0, 0, 0, 0, 0, 60, 2800] == play(scene)


def test_on_this_machine_nothing_is_paced_unless_asked_for() -> None:
    async def scene() -> list[float]:
        free = Scene(paced=False)
        assert inf == free.rest.account.budget.weight
        return [await free.send(CREATE) for _ in range(1000)]

    assert [0] * 1000 == play(scene)


# --- the quota -------------------------------------------------------------------------------------------------------


def test_without_quota_orders_come_one_every_15_s_and_cancels_as_they_like() -> None:
    async def scene() -> list[float]:
        premium = Scene("premium")
        await premium.send(CREATE, reply=NO_QUOTA)
        return [await premium.send(tx_type) for tx_type in (CANCEL, CREATE, CANCEL, CREATE, LEVERAGE, CREATE)]

    assert [0, 15, 15, 30, 30, 45] == play(scene)


def test_an_order_that_waited_too_long_for_quota_is_rejected_at_once() -> None:
    async def scene() -> float:
        premium = Scene("premium", wait_s=20)
        await premium.send(CREATE, reply=NO_QUOTA)
        with pytest.raises(RateLimitedError, match="one order every 15 s"):
            await premium.send(CREATE, waited_s=6)
        return round(premium.clock() - 1000)

    assert 0 == play(scene)


def test_several_at_once_are_refused_where_the_quota_has_no_room_for_all() -> None:
    async def scene() -> None:
        premium = Scene("premium")
        premium.gate.observe(TxReply(code=200, volume_quota_remaining=2))
        with pytest.raises(RateLimitedError, match="so many at once"):
            await premium.send(CREATE, CREATE, CREATE)
        await premium.send(CREATE, CREATE)

    play(scene)


def test_the_venues_number_ends_the_wait() -> None:
    async def scene() -> float:
        premium = Scene("premium")
        await premium.send(CREATE, reply=NO_QUOTA)
        waiting = asyncio.create_task(premium.send(CREATE))
        await asyncio.sleep(3)
        await premium.send(CANCEL, reply=TxReply(code=200, volume_quota_remaining=50))
        return await waiting

    assert 3 == play(scene)


# --- several processes -----------------------------------------------------------------------------------------------


class Short:
    """A shared budget that keeps what is asked of it, and may be short."""

    def __init__(self) -> None:
        self.spent: list[tuple[str, float]] = []
        self.heard: list[tuple[str, float]] = []
        self.is_short = False

    async def spend(self, key: str, weight: float, patience_s: float) -> bool:
        self.spent.append((key, weight))
        if self.is_short:
            await asyncio.sleep(patience_s)
        return not self.is_short

    def refused(self, key: str, pause_s: float) -> None:
        self.heard.append((key, round(pause_s, 3)))

    def quota(self, remaining: int) -> None:
        self.heard.append(("quota", remaining))


def test_what_leaves_is_spent_from_the_shared_budget_in_units_of_a_standard_account() -> None:
    async def scene() -> list[tuple[str, float]]:
        short = Short()
        for tier in ("standard", "plus"):
            await Scene(tier, shared=short).send(CREATE, CREATE)
        return short.spent

    assert [("transaction", 2.0), ("auth:sendTx", 800.0), ("transaction", 0.015)] == play(scene)


def test_a_shared_budget_that_others_use_up_rejects_orders_in_time_and_no_cancel() -> None:
    async def scene() -> float:
        short = Short()
        premium = Scene("premium", shared=short)
        short.is_short = True
        with pytest.raises(RateLimitedError, match="other processes"):
            await premium.send(CREATE)
        await premium.send(CANCEL)
        return round(premium.clock() - 1000)

    assert 40 == play(scene)  # the cancel has left by then: the sender only tells of it


def test_what_the_venue_says_is_passed_on_to_the_others() -> None:
    async def scene() -> list[tuple[str, float]]:
        short = Short()
        premium = Scene("premium", shared=short)
        await premium.send(CREATE, reply=TOO_FAST)
        await premium.send(CANCEL, reply=TxReply(code=200, volume_quota_remaining=3))
        await premium.send(CANCEL, reply=TxReply(code=200, volume_quota_remaining=3))
        return short.heard

    assert [("transaction", 2.0), ("quota", 3)] == play(scene)


# --- the tier --------------------------------------------------------------------------------------------------------


def test_the_tier_is_the_venues_word_and_an_unknown_one_is_told_once() -> None:
    said: list[str] = []
    handler = logger.add(lambda message: said.append(message.record["message"]), level="WARNING")

    async def scene() -> list[tuple[str, float]]:
        asked = Scene()
        answers: list[Any] = [
            TransportError("no answer"),
            AccountLimits("diamond"),
            AccountLimits("premium", effective_lit_stakes="1000.5"),
        ]

        async def ask() -> AccountLimits:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        asked.pace.start(ask)
        seen = []
        for _ in range(3):
            await asyncio.sleep(1)
            seen.append((asked.pace.tier.name, asked.pace.transactions.budget.weight))
            await asyncio.sleep(60)
        await asked.pace.close()
        return seen

    try:
        assert [("standard", 24_000), ("standard", 24_000), ("premium", 5_000)] == play(scene)
    finally:
        logger.remove(handler)
    assert ["lighter: the account's limits are not known, those of a standard account are kept: no answer"] == said


def test_a_tier_that_the_user_has_set_is_not_asked_for() -> None:
    async def scene() -> str:
        chosen = Scene("plus")

        async def ask() -> AccountLimits:
            raise AssertionError

        chosen.pace.start(ask)
        await asyncio.sleep(1)
        return chosen.pace.tier.name

    assert "plus" == play(scene)
