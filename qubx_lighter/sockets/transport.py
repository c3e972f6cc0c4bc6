"""The seam between a WebSocket library and everything above it: connect, pump, send, close.

Errors of the library end here: what leaves is ``TransportError`` or ``NotSentError``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Literal, Protocol

import aiohttp

from qubx_lighter.errors import NotSentError, TransportError

_MAX_FRAME: Final = 64 * 1024 * 1024  # aiohttp's own limit is 4 MiB; a full book or account snapshot may grow beyond it
_CLOSE_TIMEOUT_S: Final = 1.0
_TEXT: Final = aiohttp.WSMsgType.TEXT
_BINARY: Final = aiohttp.WSMsgType.BINARY


class Transport(Protocol):
    """One open WebSocket; used on the loop that opened it."""

    async def pump(self, take: Callable[[bytes], None]) -> None:
        """Call ``take`` with each data frame, in order, until the connection is over.

        Raises:
            TransportError: always, in the end; the message says how the connection ended.
        """

    async def send(self, text: str) -> None:
        """Write a frame whole, at the moment of the call, then wait while the buffer is too full.

        Raises:
            NotSentError: the connection was over already, nothing was written.
            TransportError: the connection broke; the frame may have left.
        """

    async def close(self) -> None:
        """Say good-bye and free everything, without waiting for the peer."""


Connect = Callable[[str], Awaitable[Transport]]


async def connect(url: str) -> Transport:
    """Open a WebSocket.

    Raises:
        TransportError: it could not be opened.
    """
    # A session for each connection: nothing of a dead one survives, the name is looked up anew, and closing frees all.
    session = aiohttp.ClientSession(trust_env=True)
    try:
        socket = await session.ws_connect(
            url,
            decode_text=False,
            max_msg_size=_MAX_FRAME,
            timeout=aiohttp.ClientWSTimeout(ws_receive=None, ws_close=_CLOSE_TIMEOUT_S),
        )
    except (aiohttp.ClientError, OSError, ValueError) as error:
        await session.close()
        raise TransportError(_reason(error)) from error
    except BaseException:
        await session.close()
        raise
    return _AiohttpTransport(session, socket)


class _AiohttpTransport:
    """aiohttp's client, uncompressed: it writes before it first waits, so frames leave in the order of the calls."""

    def __init__(self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse[Literal[False]]) -> None:
        self._session = session
        self._socket = socket

    async def pump(self, take: Callable[[bytes], None]) -> None:
        receive = self._socket.receive
        while True:
            kind, data, _ = await receive()
            if kind is _TEXT or kind is _BINARY:
                take(data)
            elif kind is aiohttp.WSMsgType.ERROR:
                raise TransportError(f"the connection broke: {_reason(data)}")
            else:
                raise TransportError(f"the venue closed the connection (code {self._socket.close_code})")

    async def send(self, text: str) -> None:
        if self._socket.closed:
            raise NotSentError("the connection is closed")
        try:
            await self._socket.send_str(text)
        except (aiohttp.ClientError, OSError) as error:
            raise TransportError(f"the connection broke: {_reason(error)}") from error

    async def close(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._socket.close()
        except TimeoutError:
            pass  # the peer does not even read any more
        finally:
            await self._session.close()


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return f"HTTP {error.status} in answer to the upgrade"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
