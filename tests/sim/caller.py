"""A client of the local venue for its tests: raw frames over the socket, raw bodies over REST, unsigned transactions."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from qubx_lighter.constants import OrderType, TimeInForce, TxType
from qubx_lighter.sim.app import Funded, Venue, open_venue
from qubx_lighter.sim.model.commands import CreateAccount, PlaceOrder
from qubx_lighter.sim.model.records import Order

PATIENCE_S = 5.0
ALICE, BOB, FEED = 1, 2, 50
KEY = 4
Frame = dict[str, Any]


def token(account: int = ALICE, key: int = KEY, ahead_s: int = 600) -> str:
    return f"{int(time.time()) + ahead_s}:{account}:{key}:{'ab' * 80}"


class Caller:
    """One socket and one REST session."""

    def __init__(self, venue: Venue, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.venue = venue
        self.session = session
        self.socket = socket
        self.texts: list[str] = []

    async def write(self, **frame: Any) -> None:
        await self.socket.send_str(json.dumps(frame))

    async def read(self) -> Frame:
        text = await self.socket.receive_str(timeout=PATIENCE_S)
        self.texts.append(text)
        return json.loads(text)

    async def read_until(self, kind: str) -> Frame:
        """Read on to the next frame of a type."""
        while True:
            frame = await self.read()
            if frame.get("type") == kind:
                return frame

    async def ask(self, **frame: Any) -> Frame:
        await self.write(**frame)
        return await self.read()

    async def subscribe(self, channel: str, **more: Any) -> Frame:
        return await self.ask(type="subscribe", channel=channel, **more)

    async def get(self, path: str, *, auth: str | None = None, **params: Any) -> tuple[int, Frame]:
        headers = {"authorization": auth} if auth else {}
        async with self.session.get(self.venue.url + path, params=params, headers=headers) as response:
            return response.status, await response.json()

    async def body(self, path: str, **params: Any) -> Frame:
        status, body = await self.get(path, **params)
        assert 200 == status, body
        return body

    async def post(self, path: str, **fields: Any) -> tuple[int, Frame]:
        async with self.session.post(self.venue.url + path, data=fields) as response:
            return response.status, await response.json()


@asynccontextmanager
async def calling(venue: Venue) -> AsyncIterator[Caller]:
    """Connect, and take the welcome."""
    async with aiohttp.ClientSession() as session, session.ws_connect(venue.ws_url, autoping=True) as socket:
        caller = Caller(venue, session, socket)
        welcome = await caller.read()
        assert ["session_id", "type"] == list(welcome)
        assert "connected" == welcome["type"]
        yield caller


@asynccontextmanager
async def quiet_venue(**options: Any) -> AsyncIterator[Venue]:
    """Run a venue with ETH and BTC, in which nothing moves unless the test moves it."""
    accounts = [Funded(f"0x{index:080x}", index, KEY) for index in (ALICE, BOB)]
    options = {"markets": ["ETH", "BTC"], "synthetic": False, "accounts": accounts} | options
    async with open_venue(**options) as venue:
        if venue.engine.account(FEED) is None:
            venue.server.execute(CreateAccount(FEED, "0xfeed", 10**15, fee_free=True))
        yield venue


def place(venue: Venue, side: str, lots: int, price: int, account: int = FEED, **changes: Any) -> int:
    """Place an order as a local participant; give its order index."""
    order = PlaceOrder(account, changes.pop("market_id", 0), side == "sell", lots, price, **changes)
    result = venue.server.execute(order)
    assert result.ok, result
    return result.order_index


def trade(venue: Venue, price: int = 300_000, buyer: int = ALICE, seller: int = FEED) -> None:
    """Let the buyer take."""
    place(venue, "sell", 500, price, seller)
    place(venue, "buy", 500, price, buyer)


def create_tx(venue: Venue, side: str, lots: int, price: int, account: int = ALICE, **fields: Any) -> str:
    """Write a create-order transaction with the key's next nonce: limit, good till time, a day."""
    post = {
        "MarketIndex": 0,
        "ClientOrderIndex": 0,
        "BaseAmount": lots,
        "Price": price,
        "IsAsk": int(side == "sell"),
        "Type": int(OrderType.LIMIT),
        "TimeInForce": int(TimeInForce.GTT),
        "ReduceOnly": 0,
        "TriggerPrice": 0,
        "OrderExpiry": int(time.time() * 1000) + 24 * 3600 * 1000,
    }
    return _tx(venue, account, post | fields)


def cancel_tx(venue: Venue, index: int, account: int = ALICE) -> str:
    return _tx(venue, account, {"MarketIndex": 0, "Index": index})


def _tx(venue: Venue, account: int, body: dict[str, Any]) -> str:
    envelope = {
        "AccountIndex": account,
        "ApiKeyIndex": KEY,
        "ExpiredAt": int(time.time() * 1000) + 599_000,
        "Nonce": venue.engine.next_nonce(account, KEY),
        "Sig": "",
        "L2TxAttributes": None,
    }
    return json.dumps(envelope | body)


def send_frame(tx_info: str, request_id: str = "r1", tx_type: int = TxType.CREATE_ORDER) -> dict[str, Any]:
    data = {"id": request_id, "tx_type": int(tx_type), "tx_info": json.loads(tx_info)}
    return {"type": "jsonapi/sendtx", "data": data}


def orders(venue: Venue, account: int = ALICE) -> list[Order]:
    return venue.engine.active_orders(account)
