"""The socket manager's tokens: minted for each private subscribe, renewed, replaced, and waited for by nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from qubx_lighter.errors import ConfigurationError, SigningError
from qubx_lighter.protocol.session import SessionSettings
from qubx_lighter.sockets.link import SocketSettings
from tests.parrots import ParrotVenue, joined, parrot, started


class Mint:
    """A token source that counts, and fails on demand."""

    def __init__(self) -> None:
        self.minted = 0
        self.failures: list[Exception] = []

    async def __call__(self) -> str:
        if self.failures:
            raise self.failures.pop()
        self.minted += 1
        return f"token{self.minted}"


async def test_a_token_is_minted_for_each_private_subscribe(venue: ParrotVenue) -> None:
    mint = Mint()
    async with started(venue, token=mint) as client:
        client.ws.subscribe("orders", client.hear, auth=True)
        client.ws.subscribe("public", client.hear)
        await client.watch.until(lambda: client.ws.subscribed("orders") and client.ws.subscribed("public"))
        venue.cut()
        await client.watch.until(lambda: len(client.heard) == 4)
    assert ["token1", None, "token2", None] == [frame.get("key") for _, frame in venue.frames]


async def test_private_channels_are_renewed_before_the_token_ends(venue: ParrotVenue) -> None:
    async with started(venue, token=Mint(), session=SessionSettings(auth_renewal_s=0.05)) as client:
        client.ws.subscribe("orders", client.hear, auth=True)
        await client.watch.until(lambda: len(venue.ops("join")) == 3)
        assert client.ws.stats()["renewals"] >= 2
    joins = [frame["key"] for _, frame in venue.frames if frame["op"] == "join"]
    assert ["token1", "token2", "token3"] == joins[:3]


async def test_a_refused_token_is_replaced(venue: ParrotVenue) -> None:
    async def refuse_first(venue: ParrotVenue, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        if frame.get("key") == "token1":
            await socket.send_json({"ev": "bad", "why": "key", "room": frame["room"]})
        else:
            await parrot(venue, socket, frame)

    venue.answer = refuse_first
    async with started(venue, token=Mint()) as client:
        client.ws.subscribe("orders", client.hear, auth=True)
        await client.watch.until(lambda: client.ws.subscribed("orders"))
    assert ["token1", "token2"] == [frame["key"] for _, frame in venue.frames]


async def test_a_token_that_cannot_be_minted_is_tried_again_and_holds_up_nobody(venue: ParrotVenue) -> None:
    mint = Mint()
    mint.failures = [SigningError("no signer"), SigningError("no signer")]
    async with started(venue, token=mint) as client:
        client.ws.subscribe("orders", client.hear, auth=True)
        client.ws.subscribe("public", client.hear)
        await client.watch.until(lambda: client.ws.subscribed("orders") and client.ws.subscribed("public"))
        assert 2 == client.ws.stats()["retries"]


async def test_a_token_that_takes_for_ever_holds_up_nobody(venue: ParrotVenue) -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async with started(venue, token=never, socket=SocketSettings(token_timeout_s=0.01)) as client:
        client.ws.subscribe("orders", client.hear, auth=True)
        await joined(client, "public")


async def test_a_token_source_with_a_mistake_costs_the_connection_not_the_manager(venue: ParrotVenue) -> None:
    mint = Mint()
    mint.failures = [RuntimeError("a mistake")]
    async with started(venue, token=mint) as client:
        client.ws.subscribe("orders", client.hear, auth=True)
        await client.watch.until(lambda: client.ws.subscribed("orders"))
        assert (2, 1) == (len(venue.sockets), client.ws.stats()["unexpected_errors"])


async def test_a_token_minted_for_a_connection_that_ended_meanwhile_goes_nowhere(venue: ParrotVenue) -> None:
    mint = Mint()

    async def slow() -> str:
        token = await mint()
        if mint.minted == 1:
            client.ws.reconnect()
        return token

    async with started(venue, token=slow) as client:
        client.ws.subscribe("orders", client.hear, auth=True)
        await client.watch.until(lambda: client.ws.subscribed("orders"))
    assert [(1, "token2")] == [(number, frame["key"]) for number, frame in venue.frames]


async def test_a_private_channel_without_a_token_source_is_refused_at_once(venue: ParrotVenue) -> None:
    async with started(venue) as client:
        with pytest.raises(ConfigurationError, match="orders is private"):
            client.ws.subscribe("orders", client.hear, auth=True)
