"""Books and tickers: snapshots, and a chain of deltas that rebuilds the engine's books."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import Any

from qubx_lighter.protocol import wire
from qubx_lighter.protocol.book import OrderBook, Outcome
from qubx_lighter.protocol.units import Scale
from qubx_lighter.sim.app import Venue
from qubx_lighter.sim.model.commands import CancelAll, CancelOrder
from tests.sim.caller import BOB, FEED, Caller, calling, place

ETH_SCALE = Scale(2, 4)


async def test_a_book_begins_with_its_full_depth(venue: Venue, caller: Caller) -> None:
    for step in range(300):
        place(venue, "sell", 600, 300_001 + step)
        place(venue, "buy", 600, 300_000 - step)
    frame = await caller.subscribe("order_book/0")
    payload = frame["order_book"]
    assert (300, 300, 0) == (len(payload["asks"]), len(payload["bids"]), payload["begin_nonce"])
    assert {"price": "3000.01", "size": "0.0600"} == payload["asks"][0]
    assert {"price": "3000.00", "size": "0.0600"} == payload["bids"][0]
    assert venue.engine.book_nonce == payload["nonce"]


async def test_an_empty_book_has_a_snapshot_too(venue: Venue, caller: Caller) -> None:
    payload = (await caller.subscribe("order_book/1"))["order_book"]
    assert ([], []) == (payload["asks"], payload["bids"])
    place(venue, "buy", 1_000, 999_000, market_id=1)
    update = (await caller.read_until("update/order_book"))["order_book"]
    assert payload["nonce"] == update["begin_nonce"]
    assert [{"price": "99900.0", "size": "0.01000"}] == update["bids"]


async def test_changes_of_50_ms_leave_in_one_frame(venue: Venue, caller: Caller) -> None:
    snapshot = (await caller.subscribe("order_book/0"))["order_book"]
    index = place(venue, "buy", 1_000, 299_000)
    place(venue, "buy", 500, 299_000)
    place(venue, "sell", 700, 300_000)
    venue.server.execute(CancelOrder(FEED, 0, index))
    update = (await caller.read())["order_book"]
    assert [{"price": "2990.00", "size": "0.0500"}] == update["bids"]
    assert [{"price": "3000.00", "size": "0.0700"}] == update["asks"]
    assert (snapshot["nonce"], venue.engine.book_nonce) == (update["begin_nonce"], update["nonce"])


async def test_the_chain_of_deltas_rebuilds_the_engines_books(venue: Venue, caller: Caller) -> None:
    """Both books, changed at random; a second client comes in the middle of a batch."""
    seed = 7
    print(f"seed {seed}")
    random = Random(seed)
    books = {0: OrderBook(ETH_SCALE), 1: OrderBook(Scale(1, 5))}
    late = OrderBook(ETH_SCALE)
    for market_id, book in books.items():
        snapshot = await caller.subscribe(f"order_book/{market_id}")
        assert Outcome.APPLIED == book.snapshot(payload_of(snapshot))
    async with calling(venue) as other:
        for step in range(400):
            churn(venue, random)
            if step == 150:
                assert Outcome.APPLIED == late.snapshot(payload_of(await other.subscribe("order_book/0")))
            if step % 20 == 0:
                await asyncio.sleep(0)  # the server reads what clients wrote, in the middle of a batch
        for market_id, book in books.items():
            while levels_of(venue, market_id) != book.levels(10_000):
                frame = await caller.read_until("update/order_book")
                number = int(frame["channel"].partition(":")[2])
                assert Outcome.APPLIED == books[number].apply(payload_of(frame))
        while levels_of(venue, 0) != late.levels(10_000):
            assert Outcome.APPLIED == late.apply(payload_of(await other.read_until("update/order_book")))


def churn(venue: Venue, random: Random) -> None:
    """Change the books in some way."""
    market_id, middle = random.choice(((0, 300_000), (1, 1_000_000)))
    if random.random() < 0.01:
        venue.server.execute(CancelAll(FEED))
        return
    resting = list(venue.engine.book(market_id).orders(random.random() < 0.5))
    if resting and random.random() < 0.4:
        venue.server.execute(CancelOrder(FEED, market_id, random.choice(resting).order_index))
        return
    side, price = random.choice(("buy", "sell")), middle + random.randint(-200, 200)
    place(venue, side, random.randint(300, 5_000), price, random.choice((FEED, BOB)), market_id=market_id)


def payload_of(frame: dict[str, Any]) -> wire.BookPayload:
    return wire.decode(wire.BookFrame, json.dumps(frame).encode()).order_book


def levels_of(venue: Venue, market_id: int) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    book, spec = venue.engine.book(market_id), venue.engine.markets[market_id]
    scale = Scale(spec.price_decimals, spec.size_decimals)
    bids, asks = ([(price, scale.size(lots)) for price, lots in book.levels(side)] for side in (False, True))
    return bids, asks


async def test_the_ticker_follows_every_change_of_the_touch(venue: Venue, caller: Caller) -> None:
    frame = await caller.subscribe("ticker/0")
    assert ("ETH", {"price": "", "size": ""}) == (frame["ticker"]["s"], frame["ticker"]["b"])
    place(venue, "buy", 1_000, 299_000)
    place(venue, "buy", 1_000, 298_000)  # behind the touch: not told
    place(venue, "buy", 2_000, 299_000)
    place(venue, "sell", 700, 300_000)
    seen = []
    for _ in range(3):
        ticker = wire.decode(wire.TickerFrame, json.dumps(await caller.read()).encode())
        seen.append((ticker.ticker.b.price, ticker.ticker.b.size, ticker.ticker.a.price))
        assert ticker.nonce
    assert [("2990.00", "0.1000", ""), ("2990.00", "0.3000", ""), ("2990.00", "0.3000", "3000.00")] == seen
