"""Several processes and one budget, over a real Redis: each spends what the others left; without Redis each goes on alone.

Needs ``redis-server``: ``apt-get install redis-server`` (Debian, Ubuntu), ``brew install redis`` (macOS).
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from qubx.core.basics import OrderStatus, RejectCause
from qubx.core.events import OrderRejectedEvent
from qubx.rate_limiting.manager import RateLimitManager
from qubx.utils.runner.configs import RateLimitingConfig

from qubx_lighter import factory
from qubx_lighter.protocol.limits import TIERS
from qubx_lighter.sim.api.limits import LimitSettings
from tests.live import LiveVenue, desk_on, venue_in
from tests.waiting import until

SERVER = shutil.which("redis-server")
pytestmark = pytest.mark.skipif(SERVER is None, reason="no redis-server here: apt-get install redis-server")

# Spends transactions, then requests, until the budget is short; prints how much that was.
SPENDER = """
import asyncio, json, sys, time
from qubx.rate_limiting.manager import RateLimitManager
from qubx.utils.runner.configs import RateLimitingConfig
from qubx_lighter.rate_limits import SharedLimits

async def spend(shared, key, weight):
    count = 0
    while await shared.spend(key, weight, 0.0):
        count += 1
    return count

async def main(url, owner):
    config = RateLimitingConfig(backend="redis", redis_url=url, egress_ip="10.9.8.7")
    manager = RateLimitManager(config, asyncio.get_running_loop())
    shared = SharedLimits(manager.get_or_create("LIGHTER", "lighter", api_key=owner))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    started = time.time()
    counts = [await spend(shared, "transaction", 1.0), await spend(shared, "rest:candles", 400.0)]
    result = {"counts": counts, "failures": shared.failures, "started": started, "ended": time.time()}
    print(json.dumps(result), flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


class Redis:
    """A server of the test's own."""

    def __init__(self, folder: Path) -> None:
        assert SERVER is not None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{port}/0"
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
        self._process = subprocess.Popen([SERVER, *options], stdout=subprocess.DEVNULL)
        until(self._is_up, patience_s=10.0)

    def _is_up(self) -> bool:
        with redis.Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    def end(self) -> None:
        self._process.kill()
        self._process.wait(10)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path)
    yield server
    server.end()


def spend(server: Redis, *owners: str) -> tuple[list[list[int]], float]:
    """Have one process an owner spend at the same time, until each finds the budgets short.

    Returns:
        how much each had, and the seconds that it took.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SPENDER, server.url, owner],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for owner in owners
    ]
    results = []
    for process in processes:
        assert process.stdout is not None
        while process.stdout.readline() != "ready\n":
            assert process.poll() is None
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, _ = process.communicate(timeout=30)
        results.append(json.loads(out.splitlines()[-1]))
    assert [0] * len(owners) == [result["failures"] for result in results]
    seconds = max(result["ended"] for result in results) - min(result["started"] for result in results)
    return [result["counts"] for result in results], seconds


def test_processes_share_the_transactions_of_their_account_and_the_requests_of_their_address(server: Redis) -> None:
    ((one, one_asked), (two, two_asked), (other, other_asked)), seconds = spend(server, "0xabc", "0xabc", "0xdef")
    most = 15 + 0.75 * seconds  # a quarter of 60 at once, and what flows in
    assert 15 <= one + two <= most
    assert 15 <= other <= most
    assert 15 <= one_asked + two_asked + other_asked <= most


def limiter_of(server: Redis) -> Callable[[Any], Any]:
    config = RateLimitingConfig(backend="redis", redis_url=server.url, egress_ip="10.9.8.7")
    return lambda loop: RateLimitManager(config, loop).get_or_create("LIGHTER", "lighter", api_key="0xabc")


def test_orders_and_cancels_go_on_when_redis_dies(server: Redis, tmp_path: Path) -> None:
    with (
        venue_in(tmp_path, limits=LimitSettings(TIERS["premium"])) as venue,
        desk_on(venue, limiter=limiter_of(server), account_tier="premium") as desk,
    ):
        first = desk.until_status(desk.submit("ETH-USDC", 0.1, 3900.0), OrderStatus.ACCEPTED)
        client = redis.Redis.from_url(server.url)
        keys = {key.decode().split(":")[2] for key in client.scan_iter()}
        client.close()
        assert {"transactions", "rest_ip", "rest_account", "messages"} <= keys
        server.end()
        second = desk.until_status(desk.submit("ETH-USDC", 0.1, 3901.0), OrderStatus.ACCEPTED)
        for order in (first, second):
            desk.cancel(desk.order(order))
            desk.until_status(order, OrderStatus.CANCELED)
        desk.until_equal()
        assert {} == dict(venue.venue.server.limits.refusals)
        stats = desk.connector.stats()  # type: ignore[attr-defined]
        assert 4 == stats["limit_transactions_spent"]
        shared = factory._gateways[desk.provider].shared_limits
        assert shared is not None


def test_what_others_have_spent_rejects_orders_in_time_and_holds_no_cancel(server: Redis, venue: LiveVenue) -> None:
    options: dict[str, Any] = {"account_tier": "builder", "order_wait_s": 0.7}
    with desk_on(venue, limiter=limiter_of(server), **options) as desk:
        order = desk.until_status(desk.submit("ETH-USDC", 0.1, 3900.0), OrderStatus.ACCEPTED)
        client = redis.Redis.from_url(server.url)
        (key,) = client.keys("ratelimit:lighter:transactions:acct_*")
        client.hset(key, mapping={"tokens": 0, "last_refill": time.time()})  # the next one comes in 1.3 s
        client.close()
        late = desk.submit("ETH-USDC", 0.1, 3901.0)
        desk.cancel(desk.order(order))
        desk.until_status(order, OrderStatus.CANCELED)
        rejected = desk.until_status(late, OrderStatus.REJECTED)
        assert late.client_order_id == rejected.client_order_id
        (event,) = desk.of_type(OrderRejectedEvent)
        assert RejectCause.RATE_LIMITED is event.cause
        assert "other processes" in event.reason
        desk.until_equal()
