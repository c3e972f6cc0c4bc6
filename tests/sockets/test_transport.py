"""The seam to aiohttp: what each way of ending looks like from above it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from qubx_lighter.errors import NotSentError, TransportError
from qubx_lighter.sockets.transport import Transport, connect
from tests.serving import serving


@asynccontextmanager
async def _serving(talk: Callable[[web.WebSocketResponse], Awaitable[None]]) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await talk(socket)
        return socket

    async with serving(handle) as url:
        yield url


async def _echo(socket: web.WebSocketResponse) -> None:
    async for message in socket:
        await socket.send_str(message.data)


async def _flood(transport: Transport, size: int) -> None:
    while True:
        await transport.send("x" * size)
        await asyncio.sleep(0)


class EnoughError(Exception):
    """What a reader raises that wants no more."""


async def _receive(transport: Transport, count: int = 1) -> list[bytes]:
    frames: list[bytes] = []

    def take(raw: bytes) -> None:
        frames.append(raw)
        if len(frames) == count:
            raise EnoughError

    with pytest.raises(EnoughError):
        await transport.pump(take)
    return frames


async def test_text_and_binary_frames_come_as_bytes() -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_str("é")
        await socket.send_bytes(b"\x00")
        await socket.receive()

    async with _serving(talk) as url:
        transport = await connect(url)
        assert ["é".encode(), b"\x00"] == await _receive(transport, 2)
        await transport.close()


async def test_a_frame_of_many_megabytes_passes() -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_str("x" * 6_000_000)
        await socket.receive()

    async with _serving(talk) as url:
        transport = await connect(url)
        assert [6_000_000] == [len(raw) for raw in await _receive(transport)]
        await transport.close()


async def test_the_end_of_a_connection_says_its_code() -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.close(code=1012)

    async with _serving(talk) as url:
        transport = await connect(url)
        with pytest.raises(TransportError, match=r"closed the connection \(code 1012\)"):
            await transport.pump(lambda _: None)
        await transport.close()


async def test_a_protocol_error_ends_the_connection() -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        raw = socket._req.transport  # type: ignore[union-attr]
        assert raw is not None
        raw.write(b"\x83\x00")  # an opcode that is not defined
        await socket.receive()

    async with _serving(talk) as url:
        transport = await connect(url)
        with pytest.raises(TransportError, match="broke: WebSocketError"):
            await transport.pump(lambda _: None)
        await transport.close()


async def test_a_closed_connection_sends_nothing() -> None:
    async with _serving(_echo) as url:
        transport = await connect(url)
        await transport.send("a")
        assert [b"a"] == await _receive(transport)
        await transport.close()
        await transport.close()
        with pytest.raises(NotSentError):
            await transport.send("b")


async def test_a_connection_that_broke_unnoticed_may_have_sent() -> None:
    broken = asyncio.Event()

    async def talk(socket: web.WebSocketResponse) -> None:
        raw = socket._req.transport  # type: ignore[union-attr]
        assert raw is not None
        raw.abort()
        broken.set()

    async with _serving(talk) as url:
        transport = await connect(url)
        await broken.wait()
        with pytest.raises(TransportError, match="broke: ") as caught:
            await _flood(transport, 100_000)  # the kernel takes a few frames before it tells
        assert not isinstance(caught.value, NotSentError)
        await transport.close()


async def test_a_peer_that_reads_nothing_does_not_hold_up_the_close() -> None:
    released = asyncio.Event()

    async def talk(socket: web.WebSocketResponse) -> None:
        assert socket._req is not None
        assert socket._req.transport is not None
        socket._req.transport.pause_reading()  # type: ignore[attr-defined]
        await released.wait()

    async with _serving(talk) as url:
        transport = await connect(url)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_flood(transport, 1_000_000), 0.1)
        async with asyncio.timeout(3):
            await transport.close()
        released.set()


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1/", "no url at all", "ws://", "http+x://h/"])
async def test_what_cannot_be_opened_is_a_transport_error(url: str) -> None:
    with pytest.raises(TransportError):
        await connect(url)


async def test_a_cancelled_connect_leaves_nothing_open() -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await connect(f"ws://{host}:{port}/")
    server.close()
    await server.wait_closed()
