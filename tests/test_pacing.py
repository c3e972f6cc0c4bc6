"""Pacing: one pace a venue, and Qubx's limiter before it where it knows the request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from qubx.rate_limiting.config import EndpointCosts, ExchangeRateLimitConfig, PoolConfig
from qubx.rate_limiting.engine import ExchangeRateLimiter
from qubx.rate_limiting.pools import RateLimitGateTimeout
from qubx.utils.misc import BackgroundEventLoop

from qubx_lighter.pacing import RestPacer, is_local, limited, shared_pacer
from qubx_lighter.protocol.rest_pace import RestPace


class Fallback:
    """Keeps what came to it."""

    def __init__(self) -> None:
        self.endpoints: list[str] = []

    async def __call__(self, endpoint: str) -> None:
        self.endpoints.append(endpoint)


def limiter(capacity: float = 2.0, gate_max_wait: float = 0.05) -> ExchangeRateLimiter:
    return ExchangeRateLimiter(
        "LIGHTER",
        ExchangeRateLimitConfig(
            pools={"rest": PoolConfig("rest", "ip", capacity, 1000.0)},
            endpoint_map={"rest:candles": EndpointCosts([("rest", 1.0)])},
            default_costs=EndpointCosts([]),
            gate_max_wait=gate_max_wait,
        ),
    )


def consumed(limiter: ExchangeRateLimiter) -> float:
    return float(limiter._pools["rest"].consumed)


async def test_who_comes_too_early_waits_for_the_turn() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    pacer = RestPacer(RestPace(requests=2), clock=lambda: 100.0, sleep=sleep)
    for _ in range(3):
        await pacer("candles")
    assert [60.0] == slept


async def test_a_venue_has_one_pacer_in_this_process_and_one_on_this_machine_none() -> None:
    assert shared_pacer("https://a.test") is shared_pacer("https://a.test/")
    assert shared_pacer("https://a.test") is not shared_pacer("https://b.test")
    assert shared_pacer("https://a.test", requests=60) is shared_pacer("https://a.test")
    local = shared_pacer("http://127.0.0.1:8765")
    assert not isinstance(local, RestPacer)
    async with asyncio.timeout(1):
        for _ in range(1000):
            await local("candles")
    assert isinstance(shared_pacer("http://127.0.0.1:8765", requests=60), RestPacer)


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


async def test_the_limiter_is_asked_for_what_it_declares_and_the_fallback_for_the_rest() -> None:
    fallback, ours = Fallback(), limiter()
    pace = limited(ours, fallback, RateLimitGateTimeout)
    await pace("candles")
    await pace("trades")
    assert 1.0 == consumed(ours)
    assert ["trades"] == fallback.endpoints
    assert fallback is limited(None, fallback)


async def test_a_limiter_that_fails_leaves_it_to_the_fallback() -> None:
    fallback, ours = Fallback(), limiter()
    ours._pools["rest"].close_gate(30.0, "test")
    await limited(ours, fallback, RateLimitGateTimeout)("candles")
    assert ["candles"] == fallback.endpoints


@asynccontextmanager
async def other_loop() -> AsyncIterator[BackgroundEventLoop]:
    loop = BackgroundEventLoop()
    yield loop
    loop.stop()
    loop.loop.close()


async def test_a_limiter_of_another_loop_is_asked_there() -> None:
    threads: list[str] = []

    class Watched(ExchangeRateLimiter):
        async def acquire(self, endpoint: str, weight_override: float | None = None) -> None:
            threads.append(threading.current_thread().name)
            await super().acquire(endpoint, weight_override)

    async with other_loop() as loop:
        ours = Watched("LIGHTER", limiter().config, event_loop=loop.loop)
        fallback = Fallback()
        await asyncio.gather(*(limited(ours, fallback)("candles") for _ in range(5)))
        assert ["QubxConnectorLoop"] * 5 == threads
        assert 5.0 == consumed(ours)
        assert [] == fallback.endpoints
