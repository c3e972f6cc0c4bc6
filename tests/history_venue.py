"""A venue of history for tests: the REST endpoints with all that is known to be odd about them.

Candles: what is asked for is told by end and count alone, the start is ignored; the newest ``count`` candles up to the end
are given, at most 500, older than asked for where a market rested, the one in progress among them; nothing is an error.
Fundings: bounds excluded. Trades: pages of 100, newest first by block time, which is not that of execution, and in any order within a block.
"""

from __future__ import annotations

import asyncio
import json
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import httpx

from qubx_lighter.constants import RESOLUTIONS
from tests.markets import ETH_ROW

HOUR_MS = 3_600_000
BTC = ETH_ROW | {"symbol": "BTC", "market_id": 1, "supported_size_decimals": 5, "supported_price_decimals": 1}
ETH_SPOT = ETH_ROW | {"symbol": "ETH/USDC", "market_id": 2048, "market_type": "spot"}


@dataclass
class HistoryVenue:
    """What it has, and what it was asked.

    Attributes:
        now_ms: its time.
        minutes: opens of the minutes in which something was traded, by market.
        fundings: rows by market, oldest first.
        trades: rows by market, in any order.
        cap: of a page of candles or fundings.
        is_silent: whether it never answers, but says in ``was_asked`` that it was asked.
        extends: whether a page of candles is filled with those before its start.
        before: called with each request; what it returns is the answer, if it is not None.
        asked: requests by endpoint.
        queries: the parameters of each request to an endpoint of history.
    """

    now_ms: int
    minutes: dict[int, list[int]] = field(default_factory=dict)
    fundings: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    trades: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    markets: list[dict[str, Any]] = field(default_factory=lambda: [ETH_ROW, BTC, ETH_SPOT])
    cap: int = 500
    extends: bool = True
    is_silent: bool = False
    was_asked: threading.Event = field(default_factory=threading.Event)
    before: Callable[[httpx.Request], httpx.Response | None] = lambda _: None
    asked: Counter[str] = field(default_factory=Counter)
    queries: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    _made: dict[tuple[int, int, int], list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._handle)

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        for _ in range(5):  # others run while an answer is on its way
            await asyncio.sleep(0)
        if self.is_silent:
            self.was_asked.set()
            await asyncio.Event().wait()
        return self.handle(request)

    def handle(self, request: httpx.Request) -> httpx.Response:
        endpoint = request.url.path.rpartition("/")[2] or "status"
        query = dict(request.url.params)
        self.asked[endpoint] += 1
        if (answer := self.before(request)) is not None:
            return answer
        if endpoint == "status":
            return _ok({"status": 200, "network_id": 304, "timestamp": self.now_ms // 1000})
        if endpoint == "orderBookDetails":
            spot = [row for row in self.markets if row["market_type"] == "spot"]
            rest = [row for row in self.markets if row not in spot]
            return _ok({"code": 200, "order_book_details": rest, "spot_order_book_details": spot})
        self.queries.append((endpoint, query))
        if endpoint in ("candles", "markPriceCandles"):
            return self._candles(endpoint, query)
        if endpoint == "fundings":
            return self._fundings(query)
        return self._trades(endpoint, query)

    def _candles(self, endpoint: str, query: dict[str, str]) -> httpx.Response:
        length = RESOLUTIONS[query["resolution"]]
        start, end, count = (int(query[name]) for name in ("start_timestamp", "end_timestamp", "count_back"))
        if start + length > end + 1 or not 1 <= count <= 500:
            return httpx.Response(400, json={"code": 20001, "message": "invalid param"})
        rows = self.known_candles(int(query["market_id"]), length)
        stop = bisect_right(rows, min(end, self.now_ms), key=itemgetter("t"))
        rows = rows[max(0, stop - min(count, self.cap)) : stop]
        if not self.extends:
            rows = [row for row in rows if row["t"] >= start]
        if not rows:
            return httpx.Response(400, json={"code": 22400, "message": "empty range"})
        if endpoint == "markPriceCandles":
            rows = [{name: row[name] for name in "tohlc"} | {"sc": 60} for row in rows]
        return _ok({"code": 200, "r": query["resolution"], "c": rows})

    def known_candles(self, market_id: int, length: int) -> list[dict[str, Any]]:
        """Give all candles of a market, oldest first."""
        minutes = self.minutes.get(market_id, [])
        key = (market_id, length, len(minutes))
        if key not in self._made:
            self._made[key] = candles(minutes, length)
        return self._made[key]

    def _fundings(self, query: dict[str, str]) -> httpx.Response:
        start, end, count = (int(query[name]) for name in ("start_timestamp", "end_timestamp", "count_back"))
        rows = [r for r in self.fundings.get(int(query["market_id"]), []) if start < r["timestamp"] * 1000 < end]
        return _ok({"code": 200, "resolution": "1h", "fundings": rows[-min(count or 749, self.cap, 749) :] or None})

    def _trades(self, endpoint: str, query: dict[str, str]) -> httpx.Response:
        rows = self.trades.get(int(query["market_id"]), [])
        rows = sorted(rows, key=lambda row: (row["timestamp"], row["trade_id"] * 7919 % 10_007), reverse=True)
        begin = 0
        if cursor := query.get("cursor"):
            keys = [f"{row['timestamp']}.{row['trade_id']}" for row in rows]
            if cursor not in keys:
                return httpx.Response(400, json={"code": 20009, "message": "invalid cursor"})
            begin = keys.index(cursor) + 1
        page = rows[begin : begin + int(query["limit"])]
        more = endpoint == "trades" and begin + len(page) < len(rows)
        onward = {"next_cursor": f"{page[-1]['timestamp']}.{page[-1]['trade_id']}"} if more else {}
        return _ok({"code": 200, "trades": page or None} | onward)


def candles(minutes: list[int], length: int) -> list[dict[str, Any]]:
    """Make the candles of some minutes; a minute's prices and volumes follow from its number.

    Minutes without a trade count only where a candle has no other.
    """
    rows: dict[int, dict[str, Any]] = {}
    traded = {minute // length for minute in minutes if minute // 60_000 % 13}
    for minute in sorted(minutes):
        if minute // length in traded and not minute // 60_000 % 13:
            continue
        at = minute // length * length
        number = minute // 60_000
        price, volume = 1000 + number * 7919 % 997, number % 13  # no volume in every 13th minute
        row = rows.setdefault(at, {"t": at, "o": price, "h": price + 1, "l": price - 1, "c": price, "v": 0, "V": 0})
        row["h"], row["l"], row["c"] = max(row["h"], price + 1), min(row["l"], price - 1), price + 0.5
        row["v"] += volume
        row["V"] += volume * price
        row["i"] = number
    return [{name: value for name, value in row.items() if value} for row in rows.values()]


def funding(time_ms: int, rate: str = "0.0012", direction: str = "long") -> dict[str, Any]:
    return {"timestamp": time_ms // 1000, "value": "0.0270", "rate": rate, "direction": direction}


def trade(trade_id: int, executed_ms: float, *, market_id: int = 0, lag_ms: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "trade_id": trade_id,
        "market_id": market_id,
        "price": str(2000 + trade_id % 100),
        "size": "0.5",
        "is_maker_ask": trade_id % 2 == 0,
        "timestamp": int(executed_ms) + lag_ms,
        "transaction_time": round(executed_ms * 1000),
        "type": "trade",
    } | more


def _ok(body: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, content=json.dumps(body), headers={"content-type": "application/json"})
