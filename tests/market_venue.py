"""A small venue of market data: it answers subscribes with what a test wrote, and sends what a test tells it to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

PATIENCE_S = 5.0


class MarketVenue:
    """Speaks Lighter's public channels on one WebSocket.

    Attributes:
        snapshots: the frame that answers a subscribe, by channel ``order_book:0``, without type and channel.
        frames: what the client wrote, as (type, channel).
    """

    def __init__(self) -> None:
        self.url = ""
        self.snapshots: dict[str, dict[str, Any]] = {}
        self.frames: list[tuple[str, str]] = []
        self.sockets: list[web.WebSocketResponse] = []
        self._changed = asyncio.Event()

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        await socket.send_json({"type": "connected", "session_id": "s"})
        async for message in socket:
            frame = json.loads(message.data)
            channel = frame.get("channel", "").replace("/", ":")
            if frame["type"] == "subscribe":
                kind = "subscribed/" + channel.partition(":")[0]
                await socket.send_str(
                    json.dumps({"channel": channel} | self.snapshots.get(channel, EMPTY) | {"type": kind})
                )
            elif frame["type"] == "unsubscribe":
                await socket.send_json({"type": "unsubscribed", "channel": channel})
            self.frames.append((frame["type"], channel))
            self._changed.set()
        return socket

    async def send(self, channel: str, body: dict[str, Any] | str) -> None:
        """Send an update of a channel to the newest connection; a text goes out as it is."""
        if isinstance(body, dict):
            body = json.dumps({"channel": channel} | body | {"type": "update/" + channel.partition(":")[0]})
        await self.sockets[-1].send_str(body)

    async def until(self, condition: Callable[[MarketVenue], object]) -> None:
        """Wait until what the client wrote fulfils a condition."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    def count(self, kind: str, channel: str) -> int:
        """Count what the client wrote."""
        return self.frames.count((kind, channel))


EMPTY: dict[str, Any] = {
    "order_book": {"asks": [], "bids": [], "nonce": 1, "begin_nonce": 0, "offset": 1},
    "ticker": {"a": {"price": "", "size": ""}, "b": {"price": "", "size": ""}},
    "trades": [],
    "timestamp": 1_760_041_996_000,
}
"""The snapshot of a market without a past, of any channel."""


def book(bids: dict[str, str], asks: dict[str, str], nonce: int, begin: int = 0) -> dict[str, Any]:
    """Write the body of a book frame."""
    sides = {
        name: [{"price": price, "size": size} for price, size in side.items()]
        for name, side in (("bids", bids), ("asks", asks))
    }
    payload = sides | {"code": 0, "nonce": nonce, "begin_nonce": begin, "offset": nonce}
    return {"order_book": payload, "timestamp": 1_760_041_996_000 + nonce}


def ticker(bid: str, ask: str, sent_ms: int) -> dict[str, Any]:
    """Write the body of a ticker frame."""
    sides = {"a": {"price": ask, "size": "1.0"}, "b": {"price": bid, "size": "2.0"}}
    return {"ticker": sides, "timestamp": sent_ms}


def trades(*trade_ids: int) -> dict[str, Any]:
    """Write the body of a trade frame; the times follow the ids."""
    rows = [
        {
            "trade_id": i,
            "market_id": 0,
            "price": "100.00",
            "size": "1.0",
            "is_maker_ask": True,
            "timestamp": 1_760_041_996_000 + i,
        }
        for i in trade_ids
    ]
    return {"trades": rows, "liquidation_trades": None}
