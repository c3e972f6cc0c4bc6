"""Qubx's limiter: what is declared to it, and how it is shared without ever standing in the way."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from loguru import logger
from qubx.connectors.registry import ConnectorRegistry
from qubx.rate_limiting import ExchangeRateLimiter, InMemoryBackend, IRateLimitBackend
from qubx.utils.misc import BackgroundEventLoop

from qubx_lighter.protocol.pace import AddressLimits, AddressPace
from qubx_lighter.rate_limits import SharedLimits, rate_limit_config


class Backend(InMemoryBackend):
    """Qubx's own, that can hang or fail."""

    def __init__(self, *, fails: Exception | None = None, hangs: bool = False) -> None:
        super().__init__()
        self.fails, self.hangs, self.asked = fails, hangs, 0
        self.threads: set[int] = set()

    async def acquire(self, key: str, weight: float, capacity: float, refill_rate: float) -> float:
        self.asked += 1
        self.threads.add(threading.get_ident())
        if self.fails is not None:
            raise self.fails
        if self.hangs:
            await asyncio.Event().wait()
        return await super().acquire(key, weight, capacity, refill_rate)

    async def get_remaining(self, key: str, capacity: float = 0, refill_rate: float = 0) -> float | None:
        if self.hangs:
            await asyncio.Event().wait()
        return await super().get_remaining(key, capacity, refill_rate)


def limiter(backend: IRateLimitBackend, loop: Any = None) -> ExchangeRateLimiter:
    return ExchangeRateLimiter("LIGHTER", rate_limit_config(), backend, event_loop=loop)


def test_qubx_finds_the_declaration_and_no_pool_lets_a_minute_pass_more_than_the_venue() -> None:
    config = ConnectorRegistry.get_rate_limit_config("lighter", "LIGHTER")
    assert config is not None
    in_a_minute = {
        name: pool.capacity + 60 * pool.refill_rate for name, pool in config.pools.items() if pool.pool_type == "rate"
    }
    assert {"rest_ip": 24_000, "rest_account": 24_000, "transactions": 60, "messages": 200} == in_a_minute
    assert ("quota", "account") == (config.pools["volume_quota"].pool_type, config.pools["volume_quota"].scope)
    costs = {name: config.endpoint_map[name].costs for name in ("rest:trades", "auth:apikeys", "transaction")}
    assert {
        "rest:trades": [("rest_ip", 600.0)],
        "auth:apikeys": [("rest_account", 400.0)],
        "transaction": [("transactions", 1.0)],
    } == costs
    too_heavy = {
        name
        for name, each in config.endpoint_map.items()
        for pool, weight in each.costs
        if weight > config.pools[pool].capacity
    }
    assert {"rest:tokens/create", "auth:tokens/create"} == too_heavy


async def spent(ours: ExchangeRateLimiter, pool: str) -> float:
    state = await ours.get_pool_state(pool)
    assert state is not None
    return float(state["consumed"])


async def test_what_is_declared_is_spent_and_what_is_not_is_free() -> None:
    ours = limiter(InMemoryBackend())
    shared = SharedLimits(ours)
    assert await shared.spend("rest:candles", 400, 1.0)
    assert await shared.spend("transaction", 0.5, 1.0)
    assert await shared.spend("never heard of", 1e9, 1.0)
    assert [400.0, 0.5] == [await spent(ours, pool) for pool in ("rest_ip", "transactions")]


async def test_a_limiter_that_fails_is_left_alone_for_a_while_and_told_once() -> None:
    said: list[str] = []
    handler = logger.add(lambda message: said.append(message.record["message"]), level="WARNING")
    now, backend = [0.0], Backend(fails=OSError("no redis"))
    shared = SharedLimits(limiter(backend), clock=lambda: now[0])
    try:
        assert [True] * 5 == [await shared.spend("transaction", 1, 20.0) for _ in range(5)]
        assert 1 == backend.asked
        now[0] = 31.0
        assert await shared.spend("transaction", 1, 20.0)
    finally:
        logger.remove(handler)
    assert (2, 2) == (backend.asked, shared.failures)
    assert 1 == len(said)
    assert "OSError('no redis')" in said[0]


async def test_a_limiter_that_hangs_holds_an_order_for_seconds_and_then_nobody() -> None:
    backend = Backend(hangs=True)
    shared = SharedLimits(limiter(backend))
    start = time.monotonic()
    assert await shared.spend("transaction", 1, 20.0)
    assert 1.5 > time.monotonic() - start
    assert await shared.spend("transaction", 1, 20.0)
    assert (1, 1) == (backend.asked, shared.failures)


async def test_a_pool_that_is_only_short_is_waited_for_as_long_as_patience_lasts() -> None:
    ours = limiter(InMemoryBackend())
    shared = SharedLimits(ours)
    for _ in range(15):
        assert await shared.spend("transaction", 1, 0.0)
    start = time.monotonic()
    assert not await shared.spend("transaction", 15, 1.2)
    assert 1.1 < time.monotonic() - start < 2.0
    assert 0 == shared.failures


async def test_a_gate_that_the_venue_closed_is_no_failure() -> None:
    shared = SharedLimits(limiter(InMemoryBackend()))
    shared.refused("transaction", 30.0)
    assert not await shared.spend("transaction", 1, 0.0)
    assert await shared.spend("rest:account", 400, 0.0)
    assert 0 == shared.failures


async def test_it_is_asked_on_its_own_loop() -> None:
    other, backend = BackgroundEventLoop(), Backend()
    try:
        shared = SharedLimits(limiter(backend, other.loop))
        await asyncio.gather(*(shared.spend("transaction", 1, 5.0) for _ in range(5)))
        assert 5 == backend.asked
        assert threading.get_ident() not in backend.threads
    finally:
        other.stop()
        other.loop.close()


async def test_messages_on_the_stream_are_spent_for_and_a_short_pool_slows_the_sockets_down() -> None:
    ours = limiter(InMemoryBackend())
    pace = AddressPace(AddressLimits())
    SharedLimits(ours).share_messages(pace)
    socket = pace.join()
    for _ in range(152):
        socket.note(time.monotonic())
    before = socket.free_at()
    async with asyncio.timeout(5):
        while socket.free_at() <= max(before, time.monotonic()):
            await asyncio.sleep(0)
    assert 150.0 <= await spent(ours, "messages")


@pytest.mark.parametrize("remaining", [0, 17])
async def test_the_quota_is_shown_to_qubx(remaining: int) -> None:
    ours = limiter(InMemoryBackend())
    SharedLimits(ours).quota(remaining)
    assert remaining == ours.get_quota_remaining("volume_quota")
