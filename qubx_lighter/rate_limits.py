"""The venue's limits as Qubx's rate limiting engine counts them, and that engine as a budget that processes share.

Qubx makes a limiter where its configuration has a ``rate_limiting`` section, from what ``rate_limit_config`` declares before
any account is known: a standard one's limits. An account of a higher tier spends less of them for the same thing, so that
processes of one account count alike, without a word about tiers between them.

Qubx's pools are buckets that fill up while they are spent from; the venue counts in rolling minutes. So a bucket and its
filling of one minute are together what the venue allows in one. Requests and transactions come steadily: a quarter is the
bucket. Subscriptions come in bursts: three quarters are.

What passes here has passed the process's own budgets before (``pacing``), so a limiter that fails, a Redis that is gone for
instance, costs nothing but the sharing. Then it is left alone for a while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from loguru import logger
from qubx.rate_limiting import (
    EndpointCosts,
    ExchangeRateLimitConfig,
    ExchangeRateLimiter,
    PoolConfig,
    RateLimitGateTimeout,
)
from redis.exceptions import RedisError

from qubx_lighter.account_pace import TRANSACTION_KEY
from qubx_lighter.protocol.limits import (
    LISTED_ENDPOINTS,
    MESSAGES,
    PERIOD_S,
    QUOTA_MAX,
    STANDARD,
)
from qubx_lighter.protocol.pace import AddressPace

MESSAGE_KEY: Final = "message"
"""What a message written to the stream is called."""
QUOTA_POOL: Final = "volume_quota"
"""The pool that shows what is left of the volume quota; nothing waits for it, see ``account_pace``."""

_STEADY: Final = 0.25
_BURSTS: Final = 0.75
_ENDPOINTS: Final = (
    "account",
    "accountActiveOrders",
    "accountLimits",
    "accountOrders",
    "candles",
    "fundings",
    "markPriceCandles",
    "orderBookDetails",
    "status",
    "tx",
    *LISTED_ENDPOINTS,
)
_SIGN_OF_LIFE_S: Final = 0.5
_LEFT_ALONE_S: Final = 30.0
_FAILURES: Final = (RedisError, OSError, RuntimeError, TimeoutError)


def rate_limit_config() -> ExchangeRateLimitConfig:
    """Declare the venue's pools, and what things cost, those of a standard account.

    The keys are ``rest:<endpoint>`` of requests without a token and ``auth:<endpoint>`` of those with one, ``transaction``
    and ``message``.
    """
    pools = (
        _pool("rest_ip", "ip", STANDARD.weight, _STEADY),
        _pool("rest_account", "account", STANDARD.weight, _STEADY),
        _pool("transactions", "account", STANDARD.transactions, _STEADY),
        _pool("messages", "ip", MESSAGES, _BURSTS),
        PoolConfig(QUOTA_POOL, "account", QUOTA_MAX, 0.0, pool_type="quota"),
    )
    costs = {TRANSACTION_KEY: EndpointCosts([("transactions", 1.0)]), MESSAGE_KEY: EndpointCosts([("messages", 1.0)])}
    for endpoint in (*_ENDPOINTS, "sendTx"):
        weight = float(STANDARD.request_weight(endpoint))
        costs[f"rest:{endpoint}"] = EndpointCosts([("rest_ip", weight)])
        costs[f"auth:{endpoint}"] = EndpointCosts([("rest_account", weight)])
    return ExchangeRateLimitConfig(
        pools={pool.name: pool for pool in pools}, endpoint_map=costs, default_costs=EndpointCosts([])
    )


def _pool(name: str, scope: str, limit: float, bucket: float) -> PoolConfig:
    return PoolConfig(name, scope, limit * bucket, limit * (1.0 - bucket) / PERIOD_S)


class SharedLimits:
    """Qubx's limiter as ``pacing.Shared``; from any loop and thread.

    Args:
        limiter: Qubx's.
        clock: seconds.
    """

    def __init__(self, limiter: ExchangeRateLimiter, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limiter = limiter
        self._clock = clock
        self._left_alone_until = float("-inf")
        self._charges: set[asyncio.Task[None]] = set()
        self.failures = 0

    async def spend(self, key: str, weight: float, patience_s: float) -> bool:
        """Spend what ``key`` costs, with ``weight`` in place of what is declared.

        Returns:
            False where the pool was short of it for ``patience_s``; True where it is spent, where nothing is declared for
            ``key``, and where the limiter fails.
        """
        costs = self._limiter.config.endpoint_map.get(key)
        if costs is None or not costs.costs or self._clock() < self._left_alone_until:
            return True
        spending = asyncio.ensure_future(self._there(self._limiter.acquire(key, weight_override=weight)))
        try:
            return await self._spent(spending, costs.costs[0][0], weight, patience_s)
        except RateLimitGateTimeout:
            return False
        except _FAILURES as error:
            self._leave_alone(error)
            return True
        finally:
            spending.cancel()

    def refused(self, key: str, pause_s: float) -> None:
        """Take a refusal by the venue: this process lets nothing through the pool for so long."""
        costs = self._limiter.config.endpoint_map.get(key)
        if costs is not None and costs.costs:
            self._limiter.report_limit_hit(costs.costs[0][0], retry_after=pause_s, reason="the venue refused")

    def quota(self, remaining: int) -> None:
        """Show what is left of the volume quota."""
        self._limiter.sync_from_exchange(QUOTA_POOL, remaining=remaining)

    def share_messages(self, pace: AddressPace) -> None:
        """Have the sockets of an address spend for what they write, and write less while others have spent it."""
        pace.on_message = partial(self._charge_message, pace)

    def _charge_message(self, pace: AddressPace) -> None:
        """Spend for a message that is written already: subscriptions wait for nothing on the way."""
        task = asyncio.get_running_loop().create_task(self._message(pace))
        self._charges.add(task)
        task.add_done_callback(self._charges.discard)

    async def _message(self, pace: AddressPace) -> None:
        spending = asyncio.ensure_future(self.spend(MESSAGE_KEY, 1.0, PERIOD_S))
        while not (await asyncio.wait({spending}, timeout=_SIGN_OF_LIFE_S))[0]:
            pace.slow_down(self._clock() + _SIGN_OF_LIFE_S)

    async def _spent(self, spending: asyncio.Future[None], pool: str, weight: float, patience_s: float) -> bool:
        """Wait for the pool as long as it is alive.

        Raises:
            TimeoutError: it is not.
        """
        done, _ = await asyncio.wait({spending}, timeout=_SIGN_OF_LIFE_S)
        if not done:
            if not await self._is_short(pool, weight):
                raise TimeoutError(f"no answer for {_SIGN_OF_LIFE_S:g} s")
            done, _ = await asyncio.wait({spending}, timeout=max(0.0, patience_s - _SIGN_OF_LIFE_S))
        if done:
            spending.result()
        return bool(done)

    async def _is_short(self, pool: str, weight: float) -> bool:
        """Tell whether a pool that does not answer is alive, and has too little."""
        if self._limiter.is_gate_closed(pool):
            return True
        try:
            async with asyncio.timeout(_SIGN_OF_LIFE_S):
                state = await self._there(self._limiter.get_pool_state(pool))
        except _FAILURES:
            return False
        return state is not None and state["remaining"] < weight

    async def _there[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the limiter's own loop, to which its backend's connections belong."""
        loop = self._limiter.event_loop
        if loop is None or loop is asyncio.get_running_loop() or not loop.is_running():
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))

    def _leave_alone(self, error: Exception) -> None:
        self._left_alone_until = self._clock() + _LEFT_ALONE_S
        self.failures += 1
        if self.failures == 1:
            logger.warning(
                "lighter: the shared rate limiter fails, this process goes by its own count for {:.0f} s at a time: {}",
                _LEFT_ALONE_S,
                repr(error),
            )
