"""The funding ledger: every settlement since the start exactly once, however late, however often the venue was away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from qubx.core.events import FundingPaymentEvent

from qubx_lighter.accounts.funding import FundingLedger
from qubx_lighter.client import LighterClient
from qubx_lighter.errors import LighterError
from tests.fake_time import run
from tests.markets import loaded_instruments

HOUR = 1_778_702_400
ACCOUNT = 5


class Clock:
    """A clock that a test sets, in seconds."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def time(self) -> np.datetime64:
        return np.datetime64(int(self.now_s * 1e9), "ns")


class Ledger:
    """The venue's list, newest first, in pages of 100."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []
        self.down = False
        self.asked = 0

    def settle(self, hour: int, change: float, market_id: int = 0) -> None:
        self.rows.insert(
            0,
            {
                "timestamp": HOUR + hour * 3600,
                "market_id": market_id,
                "funding_id": len(self.rows),
                "change": f"{change:.6f}",
                "discount": "0",
                "rate": "0.0012",
                "position_size": "1.0",
                "position_side": "long",
            },
        )

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.down:
            return httpx.Response(503, json={"code": 29500, "message": "away"})
        query = request.url.params
        assert ("/api/v1/positionFunding", "5") == (request.url.path, query["account_index"])
        start, limit = int(query.get("cursor", "0")), int(query["limit"])
        body: dict[str, object] = {"code": 200, "position_fundings": self.rows[start : start + limit]}
        if start + limit < len(self.rows):
            body["next_cursor"] = str(start + limit)
        return httpx.Response(200, content=json.dumps(body).encode())


class Desk:
    """A ledger on a venue, and what it told."""

    def __init__(self, now_s: float) -> None:
        self.clock = Clock(now_s)
        self.venue = Ledger()
        self.events: list[FundingPaymentEvent] = []

    async def open(self) -> FundingLedger:
        client = LighterClient("http://venue", attempts=1, transport=httpx.MockTransport(self.venue.answer))
        ledger = FundingLedger(
            account_index=ACCOUNT,
            client=client,
            instruments=await loaded_instruments(),
            emit=self.events.append,  # type: ignore[arg-type]
            time_provider=self.clock,  # type: ignore[arg-type]
        )
        ledger.start()
        return ledger

    async def passes(self, *, until: Callable[[], object]) -> None:
        """Let seconds pass."""
        while not until():
            self.clock.now_s += 1
            await asyncio.sleep(1)
            assert self.clock.now_s < HOUR + 8000

    def told(self) -> list[tuple[str, int, float]]:
        return [
            (event.instrument.symbol, int(event.time.astype("datetime64[s]").astype(int)), event.amount)
            for event in self.events
            if event.instrument is not None
        ]


async def test_each_settlement_is_told_once_with_its_hour_and_sign() -> None:
    desk = Desk(HOUR + 100)
    ledger = await desk.open()
    desk.venue.settle(0, -9.0)  # before the start: in the first snapshot
    desk.clock.now_s = HOUR + 3610
    desk.venue.settle(1, -0.25)
    desk.venue.settle(1, 0.5, market_id=1)
    await ledger.poll()
    await ledger.poll()
    assert [("ETH-USDC", HOUR + 3600, -0.25), ("BTC-USDC", HOUR + 3600, 0.5)] == desk.told()


async def test_what_was_settled_while_the_venue_did_not_answer_is_not_lost() -> None:
    desk = Desk(HOUR + 100)
    ledger = await desk.open()
    desk.venue.down = True
    for hour in range(1, 8):
        desk.venue.settle(hour, -float(hour))
        desk.clock.now_s = HOUR + hour * 3600 + 10
        with pytest.raises(LighterError):
            await ledger.poll()
    desk.venue.down = False
    await ledger.poll()
    assert [-float(hour) for hour in range(1, 8)] == [amount for _, _, amount in desk.told()]


async def test_an_entry_that_the_list_shows_late_is_told_all_the_same() -> None:
    desk = Desk(HOUR + 100)
    ledger = await desk.open()
    for seconds in (3610, 3660, 3900, 4500):
        desk.clock.now_s = HOUR + seconds
        await ledger.poll()
    desk.venue.settle(1, -0.25)
    desk.clock.now_s = HOUR + 7210
    desk.venue.settle(2, -0.5)
    await ledger.poll()
    assert [-0.25, -0.5] == [amount for _, _, amount in desk.told()]


async def test_more_than_a_page_is_read_to_its_end() -> None:
    desk = Desk(HOUR + 100)
    ledger = await desk.open()
    desk.venue.down = True
    for hour in range(1, 130):
        desk.venue.settle(hour, -0.001 * hour)
        desk.venue.settle(hour, 0.001 * hour, market_id=1)
    desk.venue.down = False
    desk.clock.now_s = HOUR + 130 * 3600
    await ledger.poll()
    assert 258 == len(set(desk.told())) == len(desk.told())
    assert 3 == desk.venue.asked


async def test_a_second_run_does_not_repeat_what_the_first_told() -> None:
    first = Desk(HOUR + 100)
    ledger = await first.open()
    first.venue.settle(1, -0.25)
    first.clock.now_s = HOUR + 3700
    await ledger.poll()
    second = Desk(HOUR + 3800)
    second.venue = first.venue
    ledger = await second.open()
    await ledger.poll()
    second.venue.settle(2, -0.5)
    second.clock.now_s = HOUR + 7210
    await ledger.poll()
    assert [-0.25] == [amount for _, _, amount in first.told()]
    assert [-0.5] == [amount for _, _, amount in second.told()]


def test_it_asks_after_the_hour_by_itself_and_again_when_the_venue_was_away() -> None:
    async def scenario() -> None:
        desk = Desk(HOUR + 3599)
        ledger = await desk.open()
        running = asyncio.create_task(ledger.run())
        await asyncio.sleep(0)
        assert 0 == desk.venue.asked
        desk.venue.down = True
        await desk.passes(until=lambda: ledger.stats["failed_funding_polls"] == 1)
        assert HOUR + 3600 < desk.clock.now_s < HOUR + 3660
        desk.venue.down = False
        desk.venue.settle(1, -0.25)
        failed_s = desk.clock.now_s
        await desk.passes(until=lambda: desk.events)
        assert 30 <= desk.clock.now_s - failed_s <= 31
        running.cancel()

    run(scenario())
