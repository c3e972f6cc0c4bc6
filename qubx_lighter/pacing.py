"""Waiting for one's turn within what the venue allows: one mechanism, and one set of budgets a process.

Theory of operation. The venue counts REST requests by address, or by account where they carry a token, and transactions by
account; so there is one ``Turnstile`` for each address and for each account of a venue, which everything in this process
passes, on whichever loop it runs. A turnstile is a ``Budget`` with a queue: who guards money goes first, history last, and
history leaves some room for the others. What passed here may then have to be spent from a budget that several processes
share (``Shared``; Qubx's limiter is one). That one may fail or be slow, and then only the local budget counts.

What a request weighs and what a tier allows is in ``protocol.limits``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import threading
import time
from bisect import insort
from collections.abc import Callable
from enum import IntEnum
from math import inf
from typing import Final, Protocol
from urllib.parse import urlsplit

from loguru import logger

from qubx_lighter.errors import RateLimitedError
from qubx_lighter.protocol.budget import Budget
from qubx_lighter.protocol.limits import STANDARD, Tier

_FIREWALL_STATUS: Final = 405  # the firewall's, which holds an address for a minute
_FIREWALL_S: Final = 60.0
_LOOK_AGAIN_S: Final = 1.0  # bounds how late it is noticed that a loop in front has died
_SHARED_PATIENCE_S: Final = 5.0  # of what guards money
_HISTORY_PATIENCE_S: Final = 60.0
_RESERVED: Final = 0.2  # of an address's budget, which history leaves to an account


class Rank(IntEnum):
    """Who goes first."""

    TRANSACTION = 0
    ACCOUNT = 1  # snapshots, recovery, lookups, the market list
    HISTORY = 2


class Shared(Protocol):
    """A budget that several processes share; its failures are its own affair."""

    async def spend(self, key: str, weight: float, patience_s: float) -> bool:
        """Wait until the weight is spent, or the budget fails: True; False where it was short for too long."""

    def refused(self, key: str, pause_s: float) -> None:
        """Take a refusal by the venue."""

    def quota(self, remaining: int) -> None:
        """Show what is left of the volume quota."""


# --- one budget ------------------------------------------------------------------------------------------------------


class _Waiter:
    """Somebody in the queue."""

    __slots__ = ("loop", "rank", "woken")

    def __init__(self, rank: Rank) -> None:
        self.rank = rank
        self.loop = asyncio.get_running_loop()
        self.woken = asyncio.Event()

    @property
    def is_gone(self) -> bool:
        """Whether its loop was stopped under it: it will never go through."""
        return not self.loop.is_running()

    def wake(self) -> None:
        if not self.is_gone:
            self.loop.call_soon_threadsafe(self.woken.set)


class Turnstile:
    """Let through what the budget allows, by rank, then in order of arrival; from any loop and thread.

    Args:
        budget: what may be spent.
        clock: seconds.

    Attributes:
        reserved: the share that history leaves to others.
    """

    def __init__(self, budget: Budget, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.budget = budget
        self.reserved = 0.0
        self.clock = clock
        self._lock = threading.Lock()
        self._queue: list[_Waiter] = []
        self._waits = 0
        self._waited_s = 0.0

    def enter_at_once(self, weight: float, *, share: float = 1.0) -> bool:
        """Spend if that is possible now and nobody waits; as ``enter``, for ranks other than history."""
        now = self.clock()
        with self._lock:
            if self._queue or self._free_at(weight, share, now) > now:
                return False
            self.budget.take(weight, now)
        return True

    async def enter(self, weight: float, rank: Rank, patience_s: float = inf, *, share: float = 1.0) -> bool:
        """Wait for one's turn and spend; False where it did not come within ``patience_s``, and nothing was spent.

        Args:
            weight: how much.
            rank: who goes before whom.
            patience_s: how long to wait.
            share: how much of the budget may be spent for that; the rest is for others.
        """
        if rank is Rank.HISTORY:
            share = min(share, 1.0 - self.reserved)
        if self.enter_at_once(weight, share=share):
            return True
        start = self.clock()
        with self._lock:
            waiter = _Waiter(rank)
            insort(self._queue, waiter, key=lambda one: one.rank)
            self._waits += 1
        try:
            return await self._turn(waiter, weight, share, start + patience_s)
        finally:
            self._leave(waiter)
            self._waited_s += self.clock() - start

    def force(self, weight: float) -> None:
        """Spend at once, room or not."""
        with self._lock:
            self.budget.take(weight, self.clock())

    def refused(self, retry_after_s: float | None = None) -> float:
        """Take a refusal by the venue, and tell for how many seconds nothing goes through."""
        with self._lock:
            now = self.clock()
            return self.budget.refused(now, retry_after_s) - now

    def stats(self) -> dict[str, float]:
        """Give what is spent of how much, how many wait, how often and how long it was waited, and refusals."""
        with self._lock:
            now = self.clock()
            allowed = self.budget.allowed(now)
            return {
                "spent": self.budget.spent(now),
                "allowed": allowed if allowed != inf else 0.0,
                "waiting": len(self._queue),
                "waits": self._waits,
                "waited_s": round(self._waited_s, 3),
                "refusals": self.budget.refusals,
            }

    def _free_at(self, weight: float, share: float, now: float) -> float:
        keep = (1.0 - share) * self.budget.allowed(now) if share < 1.0 and self.budget.weight != inf else 0.0
        return self.budget.free_at(weight, now, keep)

    async def _turn(self, waiter: _Waiter, weight: float, share: float, deadline: float) -> bool:
        while True:
            with self._lock:
                while self._queue[0] is not waiter and self._queue[0].is_gone:
                    del self._queue[0]
                now, pause_s = self.clock(), _LOOK_AGAIN_S
                waiter.woken.clear()
                if self._queue[0] is waiter:
                    at = self._free_at(weight, share, now)
                    if at <= now:
                        self.budget.take(weight, now)
                        return True
                    pause_s = min(pause_s, at - now)
            if now >= deadline:
                return False
            await self._pause(waiter, min(pause_s, deadline - now))

    @staticmethod
    async def _pause(waiter: _Waiter, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await waiter.woken.wait()
        except TimeoutError:
            pass

    def _leave(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter in self._queue:
                self._queue.remove(waiter)
            first = self._queue[0] if self._queue else None
        if first is not None:
            first.wake()


# --- REST requests ---------------------------------------------------------------------------------------------------


class RestPace:
    """Wait for the turn of each request of one client.

    A nonce, for which cancels wait, is asked for at once: room or not, and while other reads pause. Only where the question
    itself was refused it pauses too, and whoever asks meanwhile is told so at once.

    Args:
        address: what counts for requests without a token.
        account: what counts for requests with one; the address's without an account.
        tier: of the account.
        shared: what is spent of after that.

    Attributes:
        transactions: what the account's transactions pass, where it has any.
    """

    def __init__(
        self,
        address: Turnstile,
        account: Turnstile | None = None,
        *,
        tier: Tier = STANDARD,
        shared: Shared | None = None,
    ) -> None:
        self.address = address
        self.account = account or address
        self.transactions: Turnstile | None = None
        self.tier = tier
        self.shared = shared
        self._nonces = Budget(inf)  # for its pauses
        self._charges: set[asyncio.Task[bool]] = set()

    @property
    def is_paced(self) -> bool:
        """Whether requests without a token ever wait."""
        return self.address.budget.weight != inf

    @property
    def authenticates(self) -> bool:
        """Whether public requests are better sent with a token: an account of a higher tier may ask for more."""
        return self.account is not self.address and self.tier.least_weight < STANDARD.least_weight

    async def enter(self, endpoint: str, rank: Rank, *, authenticated: bool) -> None:
        """Wait; of a transaction's own questions only count.

        Raises:
            RateLimitedError: the venue has refused such a question a moment ago.
        """
        tier, turnstile = self._of(authenticated)
        weight = tier.request_weight(endpoint)
        if rank is Rank.TRANSACTION:
            now = turnstile.clock()
            if (pause_s := self._nonces.free_at(0, now) - now) > 0:
                raise RateLimitedError(
                    f"{endpoint} was refused for the rate limit, it is asked again in {pause_s:.0f} s"
                )
            turnstile.force(weight)
        else:
            await turnstile.enter(weight, rank)
        if self.shared is None:
            return
        patience_s = _HISTORY_PATIENCE_S if rank is Rank.HISTORY else _SHARED_PATIENCE_S
        share = weight * STANDARD.weight / tier.weight
        spending = self.shared.spend(_key(endpoint, authenticated), share, patience_s)
        if rank is Rank.TRANSACTION:
            charge = asyncio.ensure_future(spending)
            self._charges.add(charge)
            charge.add_done_callback(self._charges.discard)
        else:
            await spending

    def refused(
        self,
        endpoint: str,
        *,
        authenticated: bool,
        status: int,
        retry_after_s: float | None,
        rank: Rank = Rank.ACCOUNT,
    ) -> None:
        """Take a refusal for the rate limit."""
        _, turnstile = self._of(authenticated)
        if retry_after_s is None and status == _FIREWALL_STATUS:
            retry_after_s = _FIREWALL_S
        if rank is Rank.TRANSACTION:
            self._nonces.refused(turnstile.clock(), retry_after_s)
        pause_s = turnstile.refused(retry_after_s)
        logger.warning("lighter: the venue refuses {} for its rate limit, requests pause {:.0f} s", endpoint, pause_s)
        if self.shared is not None:
            self.shared.refused(_key(endpoint, authenticated), pause_s)

    def transactions_refused(self, retry_after_s: float | None) -> None:
        """Take a refusal of a transaction over REST, which may say how long to wait."""
        if self.transactions is not None:
            self.transactions.refused(retry_after_s)

    def _of(self, authenticated: bool) -> tuple[Tier, Turnstile]:  # noqa: FBT001 - as the callers say it
        return (self.tier, self.account) if authenticated else (STANDARD, self.address)


def _key(endpoint: str, authenticated: bool) -> str:  # noqa: FBT001 - as the callers say it
    return f"{'auth' if authenticated else 'rest'}:{endpoint}"


# --- what a process shares -------------------------------------------------------------------------------------------

_lock: Final = threading.Lock()
_turnstiles: Final[dict[tuple[str, str, float], Turnstile]] = {}


def turnstile_of(base_url: str, whose: str, weight: float) -> Turnstile:
    """Give this process's turnstile for an address or account of a venue: it outlives its users, as the venue's count does."""
    key = (urlsplit(base_url).netloc, whose, weight)
    with _lock:
        if key not in _turnstiles:
            _turnstiles[key] = Turnstile(Budget(weight))
        return _turnstiles[key]


def rest_pace(base_url: str, *, requests: int | None = None, paced: bool = False) -> RestPace:
    """Make the pace of a client without an account.

    Args:
        base_url: of the venue.
        requests: in any minute; None for what the venue allows an address.
        paced: whether also a venue on this machine is spared, where ``requests`` is None.
    """
    return RestPace(turnstile_of(base_url, "", address_weight(base_url, requests=requests, paced=paced)))


def address_weight(base_url: str, *, requests: int | None, paced: bool) -> float:
    """Give the weight that an address may spend in any minute."""
    if requests is not None:
        return requests * STANDARD.least_weight
    return inf if is_local(base_url) and not paced else STANDARD.weight


def reserve_for_account(pace: RestPace) -> None:
    """Have history leave room for an account, in what both share, from now on."""
    for turnstile in {pace.address, pace.account}:
        turnstile.reserved = _RESERVED


def is_local(base_url: str) -> bool:
    """Tell whether a venue is on this machine."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
