"""Waiting for the turn of a REST request: one pace a venue for all that this process asks it for history.

The venue counts by address, so storages and whatever else reads history here share one pace, whichever loop they run on.
Qubx's limiter, where it has a pool for these requests, goes before it: bots may share that one over machines.
"""

from __future__ import annotations

import asyncio
import ipaddress
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit

from loguru import logger

from qubx_lighter.protocol.rest_pace import STANDARD_REQUESTS, RestPace

Pace = Callable[[str], Awaitable[None]]
"""Takes the last part of an endpoint's path, ``candles`` for instance, and returns when it may be asked."""

_LIMITER_PREFIX: Final = "rest:"
_LIMITER_PATIENCE_S: Final = 60.0  # more than its own 35 s; also ends a wait for a loop that is waiting for us
_lock: Final = threading.Lock()
_shared: Final[dict[tuple[str, int, int | None], RestPacer]] = {}


class RestPacer:
    """Wait for a request's turn; from any loop and thread.

    Args:
        pace: gives out the turns.
        clock: seconds.
        sleep: pauses for seconds.
    """

    def __init__(
        self,
        pace: RestPace,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._pace = pace
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()

    async def __call__(self, endpoint: str) -> None:
        """Wait."""
        now = self._clock()
        with self._lock:
            at = self._pace.reserve(endpoint, now)
        if at > now:
            await self._sleep(at - now)


def shared_pacer(base_url: str, *, requests: int | None = None, weight: int | None = None) -> Pace:
    """Return this process's pacer of a venue.

    Args:
        base_url: of the venue.
        requests: in any minute; None for what the venue allows an address without a tier, and for any number where the
            venue is on this machine.
        weight: in any minute, for an account with a tier, in place of ``requests``.
    """
    if requests is None and weight is None and is_local(base_url):
        return _at_once
    key = (urlsplit(base_url).netloc, requests or STANDARD_REQUESTS, weight)
    with _lock:
        if key not in _shared:
            _shared[key] = RestPacer(RestPace(requests=key[1], weight=weight))
        return _shared[key]


def is_local(base_url: str) -> bool:
    """Tell whether a venue is on this machine."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _at_once(_endpoint: str) -> None:
    """Do not wait."""


# --- Qubx's limiter --------------------------------------------------------------------------------------------------


class Costs(Protocol):
    """What a request costs in Qubx's limiter."""

    @property
    def costs(self) -> Sequence[tuple[str, float]]:
        """Give the pools, and what is taken from each."""


class LimiterConfig(Protocol):
    """What Qubx's limiter knows of endpoints."""

    @property
    def endpoint_map(self) -> Mapping[str, Costs]:
        """Give the costs by endpoint."""


class Limiter(Protocol):
    """The part of Qubx's ``ExchangeRateLimiter`` that is used here."""

    @property
    def config(self) -> LimiterConfig:
        """Give its declaration."""

    @property
    def event_loop(self) -> asyncio.AbstractEventLoop | None:
        """Give the loop that its locks belong to, once that is known."""

    async def acquire(self, endpoint: str) -> None:
        """Wait for all pools of an endpoint."""


def limited(limiter: Limiter | None, fallback: Pace, *failures: type[Exception]) -> Pace:
    """Wait at a limiter where it declares the endpoint ``rest:<endpoint>``, else at ``fallback``.

    Args:
        limiter: Qubx's.
        fallback: also for when the limiter fails: an outage of its backend must not become one of ours.
        failures: what the limiter raises then, besides OSError, RuntimeError and TimeoutError.
    """
    if limiter is None:
        return fallback
    warned = False
    expected: tuple[type[Exception], ...] = (OSError, RuntimeError, TimeoutError, *failures)

    async def wait(endpoint: str) -> None:
        nonlocal warned
        name = _LIMITER_PREFIX + endpoint
        declared = limiter.config.endpoint_map.get(name)
        if declared is None or not declared.costs:
            await fallback(endpoint)
            return
        try:
            await asyncio.wait_for(_acquire(limiter, name), _LIMITER_PATIENCE_S)
        except expected as error:
            if not warned:
                warned = True
                logger.warning("lighter: the rate limiter fails, requests are paced here: {}", repr(error))
            await fallback(endpoint)

    return wait


async def _acquire(limiter: Limiter, name: str) -> None:
    """Wait on the limiter's own loop: its locks belong to one."""
    loop = limiter.event_loop
    if loop is None or loop is asyncio.get_running_loop() or not loop.is_running():
        await limiter.acquire(name)
    else:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(limiter.acquire(name), loop))
