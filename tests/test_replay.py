"""Frames through everything: the local venue replays them at maximum speed, Qubx's registry builds the provider."""

from __future__ import annotations

import asyncio
import gzip
import heapq
import json
import threading
from collections import deque
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qubx.connectors.plugin import BuildContext
from qubx.connectors.registry import ConnectorRegistry
from qubx.core.basics import CtrlChannel, LiveTimeProvider
from qubx.core.series import OrderBook
from qubx.health.dummy import DummyHealthMonitor
from qubx.utils.runner.accounts import AccountConfigurationManager

from qubx_lighter import recording
from qubx_lighter.data import LighterDataProvider
from qubx_lighter.plugin import PLUGIN
from qubx_lighter.sim.app import open_venue
from tests.waiting import until

BOOKS = "order_book_0_eth.jsonl.gz"
TRADES = "trade_0_eth.jsonl.gz"
LEVELS = 20
REACH = 1_000  # ticks, in which the captured book always has more levels


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run a loop in a thread of its own, as Qubx does."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@contextmanager
def replayed(loop: asyncio.AbstractEventLoop, file: Path) -> Iterator[LighterDataProvider]:
    """Give a started provider, built by Qubx's registry, on a venue that replays ``file``."""

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    opened = open_venue(replay_files=[file], speed=0, synthetic=False)
    venue = run(opened.__aenter__())
    ConnectorRegistry.register(PLUGIN)
    provider = ConnectorRegistry.get_data_provider(
        "lighter",
        BuildContext(
            exchange_name="LIGHTER",
            time_provider=LiveTimeProvider(),
            channel=CtrlChannel("test"),
            credentials=AccountConfigurationManager(),
            health_monitor=DummyHealthMonitor(),
            loop=loop,
            params={"base_url": venue.url},
        ),
    )
    assert isinstance(provider, LighterDataProvider)
    provider.start()
    try:
        yield provider
    finally:
        provider.close()
        run(opened.__aexit__(None, None, None))


def frames(file: Path) -> list[dict[str, Any]]:
    with gzip.open(file) as lines:
        return [json.loads(line) for line in lines]


def ticks(price: str) -> int:
    return int(price.replace(".", ""))


def test_a_book_comes_after_each_captured_frame_with_the_top_20_levels_of_a_plain_one(
    loop: asyncio.AbstractEventLoop, wire_dir: Path
) -> None:
    captured = frames(wire_dir / BOOKS)
    with replayed(loop, wire_dir / BOOKS) as provider:
        (eth,) = [i for i in provider._instruments.instruments if i.base == "ETH"]
        provider.subscribe(f"orderbook(0, {REACH})", {eth})
        items = [provider.channel.receive(10)]
        until(lambda: provider.stats()["frames"] > len(captured), patience_s=10.0)  # the welcome is a frame too
        items += [provider.channel.receive(10) for _ in range(provider.channel._queue.qsize())]
        assert 0 == provider.stats()["snapshots_asked"]
    shown: tuple[Any, Any] = ((), ())
    waiting = deque(items)
    bids: dict[int, float] = {}
    asks: dict[int, float] = {}
    for frame in captured:
        for name, side in (("bids", bids), ("asks", asks)):
            side.update((ticks(level["price"]), float(level["size"])) for level in frame["order_book"][name])
        best_bids = heapq.nlargest(LEVELS, ((price, size) for price, size in bids.items() if size))
        best_asks = heapq.nsmallest(LEVELS, ((price, size) for price, size in asks.items() if size))
        bid, ask = best_bids[0][0], best_asks[0][0]
        if waiting and (best_bids, best_asks) == levels(waiting[0][2]):
            instrument, kind, book, historical = waiting.popleft()
            assert (eth, "orderbook", False) == (instrument, str(kind), historical)
            assert (bid / 100, ask / 100, 0.01) == (book.top_bid, book.top_ask, book.tick_size)
            shown = (best_bids, best_asks)
        assert (best_bids, best_asks) == shown, "a change was not shown"
    assert not waiting, "something was shown that never was"
    assert 1_400 < len(items) <= 1_501


def levels(book: OrderBook) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """List the first levels of both sides in ticks."""
    bid, ask = round(book.top_bid * 100), round(book.top_ask * 100)
    return (
        [(bid - int(i), float(book.bids[i])) for i in np.flatnonzero(book.bids)[:LEVELS]],
        [(ask + int(i), float(book.asks[i])) for i in np.flatnonzero(book.asks)[:LEVELS]],
    )


def test_each_captured_live_trade_comes_once_in_order_and_history_does_not(
    loop: asyncio.AbstractEventLoop, wire_dir: Path
) -> None:
    _, *live = frames(wire_dir / TRADES)
    rows = [row for frame in live for key in ("trades", "liquidation_trades") for row in frame[key] or []]
    rows.sort(key=lambda row: row["trade_id"])
    with replayed(loop, wire_dir / TRADES) as provider:
        (eth,) = [i for i in provider._instruments.instruments if i.base == "ETH"]
        provider.subscribe("trade", {eth})
        trades = [provider.channel.receive(10)[2] for _ in rows]
        assert 0 == provider.channel._queue.qsize()
    expected = [
        (row["trade_id"], float(row["price"]), float(row["size"]), 1 if row["is_maker_ask"] else -1) for row in rows
    ]
    assert expected == [(trade.trade_id, trade.price, trade.size, trade.side) for trade in trades]


def test_figures_that_were_recorded_market_by_market_reach_the_provider(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    """The recorder keeps ``market_stats/0``, the connector listens to ``market_stats/all``."""
    stats = [
        f'{{"channel":"market_stats:{market_id}","market_stats":{{"market_id":{market_id},"mark_price":"{mark}",'
        f'"open_interest":"{interest}"}},"type":"{kind}/market_stats"}}'
        for market_id, mark, interest, kind in (
            (0, "4000.00", "8000.5", "subscribed"),
            (1, "90000.0", "1.0", "subscribed"),
            (0, "4001.00", "26939.03844", "update"),
        )
    ]
    book = (
        '{"channel":"order_book:0","order_book":{"asks":[{"price":"4001.00","size":"1.0000"}],"bids":[],"nonce":1,'
        '"begin_nonce":0},"type":"subscribed/order_book"}'
    )
    lines = [recording.frame_line(at_ns, text.encode()) for at_ns, text in enumerate([book, *stats])]
    (tmp_path / "a.jsonl.gz").write_bytes(recording.member(b"".join(lines)))
    with replayed(loop, tmp_path / "a.jsonl.gz") as provider:
        (eth,) = [i for i in provider._instruments.instruments if i.base == "ETH"]
        provider.subscribe("open_interest", {eth})

        def figures() -> Any:
            return provider.get_figures(eth)

        until(lambda: figures() is not None and figures().open_interest == 26939.03844, patience_s=10.0, shown=figures)
        assert (0, 4001.0) == (figures().market_id, figures().mark_price)
