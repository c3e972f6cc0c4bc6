"""What one account may do: its tier, its budgets, and the gate that its transactions pass.

The tier is not known before the venue is asked, so an account starts as a standard one. If the venue does not say, or says
a tier that is not known, it stays one: slower, never stopped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Final

from loguru import logger

from qubx_lighter.constants import Code, TxType
from qubx_lighter.errors import LighterError, RateLimitedError
from qubx_lighter.pacing import Rank, RestPace, Shared, reserve_for_account, turnstile_of
from qubx_lighter.protocol.account_rows import AccountLimits
from qubx_lighter.protocol.budget import VolumeQuota
from qubx_lighter.protocol.limits import QUOTA_REFUSAL, QUOTA_UNUSED, STANDARD, Tier, quota_cost, tier_of
from qubx_lighter.protocol.wire import TxReply

TRANSACTION_KEY: Final = "transaction"
"""What a transaction is called in a shared budget."""
REQUEST_KEY: Final = "auth:sendTx"
"""And what a standard account's is called there besides: its transactions and its requests are one budget."""

_CANCELS: Final = frozenset({TxType.CANCEL_ORDER, TxType.CANCEL_ALL_ORDERS})
_WITHOUT_CANCELS: Final = 5 / 6  # of the transactions; cancels wait for nothing, so the rest is left to them
_POLL_S: Final = 0.25  # bounds how late the venue's word on the quota is heard
_REFRESH_S: Final = 3600.0
_RETRY_S: Final = 60.0
_REFUSALS: Final = frozenset({Code.TOO_MANY_REQUESTS, Code.TOO_MANY_MESSAGES, Code.TOO_MANY_IN_FLIGHT})


class AccountPace:
    """The budgets of one L1 address, whose sub-accounts share them.

    Args:
        base_url: of the venue.
        owner: the L1 address, or what else tells accounts apart.
        rest: the pace of the account's client, which follows the account's tier from now on.
        paced: whether there are any limits.
        tier: as the user has it; None to ask the venue.
        requests: REST requests in any minute, as the user has it.
        transactions: in any minute, as the user has it.
        shared: a budget that several processes share.
        clock: seconds.
    """

    def __init__(
        self,
        base_url: str,
        owner: str,
        rest: RestPace,
        *,
        paced: bool = True,
        tier: Tier | None = None,
        requests: int | None = None,
        transactions: int | None = None,
        shared: Shared | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.quota = VolumeQuota()
        self.shared = shared
        self.clock = clock
        self._paced = paced
        self._chosen = tier
        self._requests = requests
        self._transactions = transactions
        self._rest = rest
        rest_weight = STANDARD.weight if paced or requests is not None else inf
        self._own_rest = turnstile_of(base_url, f"{owner} requests", rest_weight)
        self._own_transactions = turnstile_of(
            base_url, f"{owner} transactions", STANDARD.transactions if paced else inf
        )
        self._learning: asyncio.Task[None] | None = None
        rest.account = self._own_rest
        rest.shared = shared
        self.tier = STANDARD
        self.use(tier or STANDARD)
        reserve_for_account(rest)

    def use(self, tier: Tier) -> None:
        """Live by a tier from now on."""
        self.tier = self._rest.tier = tier
        if self._requests is not None:
            self._own_rest.budget.weight = self._requests * STANDARD.least_weight
        elif self._paced:
            self._own_rest.budget.weight = tier.weight
        if self._paced:
            self._own_transactions.budget.weight = self._transactions or tier.transactions
        self.transactions = self._rest.transactions = self._own_rest if self._shares_window else self._own_transactions

    @property
    def _shares_window(self) -> bool:
        return self._paced and self.tier.shares_window and self._requests is None and self._transactions is None

    def start(self, ask: Callable[[], Awaitable[AccountLimits]]) -> None:
        """Ask the venue for the tier, now and once an hour, unless the user has said it; on the loop."""
        if self._paced and self._chosen is None:
            self._learning = asyncio.get_running_loop().create_task(self._learn(ask), name="lighter-tier")

    async def close(self) -> None:
        """Stop asking."""
        task, self._learning = self._learning, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def weight(self, transactions: int) -> float:
        """Give what so many transactions weigh in ``transactions``."""
        return transactions * (STANDARD.least_weight if self._shares_window else 1)

    async def spend_shared(self, transactions: int, patience_s: float) -> bool:
        """Spend transactions of what several processes share; False where it was short for too long."""
        if self.shared is None:
            return True
        share = transactions * STANDARD.transactions / (self._transactions or self.tier.transactions)
        if not await self.shared.spend(TRANSACTION_KEY, share, patience_s):
            return False
        if not self._shares_window:
            return True
        return await self.shared.spend(REQUEST_KEY, self.weight(transactions), patience_s)

    def stats(self) -> dict[str, float]:
        """Give the counters, those of requests and of transactions, and what is known of the quota."""
        parts = {"requests": self._own_rest, "transactions": self.transactions}
        figures = {
            f"limit_{name}_{figure}": value
            for name, turnstile in parts.items()
            for figure, value in turnstile.stats().items()
        }
        if self.quota.remaining is not None:
            figures["volume_quota_remaining"] = self.quota.remaining
        return figures | {"volume_quota_refusals": self.quota.refusals}

    async def _learn(self, ask: Callable[[], Awaitable[AccountLimits]]) -> None:
        told = False
        while True:
            try:
                body = await ask()
                tier = tier_of(body.user_tier, _lit(body.effective_lit_stakes))
                problem = f"the tier {body.user_tier!r} is not known" if tier is None else ""
            except LighterError as error:
                tier, problem = None, str(error)
            if tier is not None and tier != self.tier:
                logger.info("lighter: the account is {}: {} transactions a minute", tier.name, tier.transactions)
                self.use(tier)
            if problem and not told:
                told = True
                logger.warning(
                    "lighter: the account's limits are not known, those of a {} account are kept: {}",
                    self.tier.name,
                    problem,
                )
            await asyncio.sleep(_RETRY_S if problem else _REFRESH_S)


class TransactionGate:
    """Let transactions out as the account's limits allow; ``sender.Gate``.

    Where the volume quota is used up, orders wait for the free transaction that the venue grants every 15 s.

    Args:
        pace: the account's limits.
        wait_s: how long an order, amend or other transaction may wait since it was asked for.
    """

    def __init__(self, pace: AccountPace, *, wait_s: float) -> None:
        self._pace = pace
        self._wait_s = wait_s
        self._stats = {"held": 0, "rejected": 0}

    def admit_at_once(self, tx_types: Sequence[int]) -> bool:
        """Let transactions out if there is room for all of them; what other processes share has to be waited for."""
        pace, cost, count = self._pace, sum(map(quota_cost, tx_types)), len(tx_types)
        now = pace.clock()
        if pace.shared is not None or pace.quota.free_at(cost, now) > now:
            return False
        if not pace.transactions.enter_at_once(pace.weight(count), share=_WITHOUT_CANCELS):
            return False
        pace.quota.take(cost, now)
        return True

    async def admit(self, tx_types: Sequence[int], waited_s: float = 0.0) -> None:
        """Wait for room for transactions that leave together; cancels are only counted.

        Raises:
            RateLimitedError: there is none within ``wait_s``; or the volume quota has none for all of several.
        """
        pace = self._pace
        if _CANCELS.issuperset(tx_types):
            pace.transactions.force(pace.weight(len(tx_types)))
            pace.quota.take(sum(map(quota_cost, tx_types)), pace.clock())
            await pace.spend_shared(len(tx_types), self._wait_s)
            return
        start = pace.clock()
        try:
            await self._room(tx_types, start + self._wait_s - waited_s)
        except RateLimitedError:
            self._stats["rejected"] += 1
            raise
        finally:
            self._stats["held"] += pace.clock() - start > _POLL_S

    def observe(self, reply: TxReply) -> None:
        """Learn from the venue's answer: what is left of the quota, or that a limit is met."""
        pace, now = self._pace, self._pace.clock()
        error, remaining = reply.error, self._pace.quota.remaining
        if error is None:
            unused = QUOTA_UNUSED in reply.message
            pace.quota.answered(now, remaining=reply.volume_quota_remaining, unused=unused)
        elif error.code in _REFUSALS and QUOTA_REFUSAL in error.message.lower():
            pace.quota.refused(now)
            logger.warning("lighter: the volume quota is used up: one order every 15 s until the account has traded")
        elif error.code in _REFUSALS:
            pace.quota.dropped(now)
            pause_s = pace.transactions.refused()
            logger.warning("lighter: the venue refuses transactions for their pace, they pause {:.0f} s", pause_s)
            if pace.shared is not None:
                pace.shared.refused(TRANSACTION_KEY, pause_s)
        else:
            pace.quota.dropped(now)
        left = pace.quota.remaining
        if pace.shared is not None and left is not None and left != remaining:
            pace.shared.quota(left)

    def stats(self) -> dict[str, float]:
        """Count what waited for longer than a moment, and what was rejected."""
        return {f"gate_{name}": value for name, value in self._stats.items()} | self._pace.stats()

    async def _room(self, tx_types: Sequence[int], deadline: float) -> None:
        pace, cost, count = self._pace, sum(map(quota_cost, tx_types)), len(tx_types)
        while True:
            await self._wait_for_quota(cost, deadline, alone=count == 1)
            left_s = max(0.0, deadline - pace.clock())
            if not await pace.transactions.enter(pace.weight(count), Rank.TRANSACTION, left_s, share=_WITHOUT_CANCELS):
                raise RateLimitedError(f"no room for a transaction of this {pace.tier.name} account")
            if pace.quota.free_at(cost, now := pace.clock()) <= now:  # nobody else took it meanwhile
                break
        pace.quota.take(cost, now)
        if not await pace.spend_shared(count, max(0.0, deadline - now)):
            raise RateLimitedError("other processes use up the transactions of this account")

    async def _wait_for_quota(self, cost: int, deadline: float, *, alone: bool) -> None:
        pace = self._pace
        while (at := pace.quota.free_at(cost, now := pace.clock())) > now:
            if not alone:
                raise RateLimitedError("the volume quota has no room for so many at once")
            if at > deadline:
                raise RateLimitedError("the volume quota is used up: one order every 15 s until the account has traded")
            await asyncio.sleep(min(_POLL_S, at - now))


def _lit(text: str) -> float:
    """Read a stake; what is no number counts as none."""
    try:
        return float(text)
    except ValueError:
        return 0.0
