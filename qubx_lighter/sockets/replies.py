"""Requests over a socket and the replies that carry their ids, in any order."""

from __future__ import annotations

import asyncio
from collections import Counter

from loguru import logger

from qubx_lighter.errors import NotSentError, OutcomeUnknownError, TransportError
from qubx_lighter.sockets.dispatch import TEXT_LIMIT
from qubx_lighter.sockets.transport import Transport


class Replies:
    """Match replies to requests; used on one loop.

    Args:
        name: how messages call the venue.
        stats: counts ``requests``, ``unanswered``, ``late_replies``.
    """

    def __init__(self, name: str, stats: Counter[str]) -> None:
        self._name = name
        self._stats = stats
        self._waiting: dict[str, asyncio.Future[bytes | None]] = {}
        self._cause = ""

    async def request(self, transport: Transport, request_id: str, frame: str, timeout: float) -> bytes:  # noqa: ASYNC109 - the message tells it
        """Write ``frame`` at once and wait for the reply that carries ``request_id``.

        Raises:
            NotSentError: nothing was written.
            OutcomeUnknownError: it was written, and no reply came within ``timeout`` seconds or on this connection.
            ValueError: a request of this id waits for its reply.
        """
        if request_id in self._waiting:
            raise ValueError(f"request {request_id} waits for its reply already")
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[bytes | None] = loop.create_future()
        self._waiting[request_id] = reply
        self._stats["requests"] += 1
        try:
            # It writes at once and is done, unless the buffer is full; so what waits for the answer is made behind the frame.
            sending = asyncio.Task(transport.send(frame), loop=loop, eager_start=True)
            async with asyncio.timeout(timeout):
                await sending
                raw = await reply
        except NotSentError:
            raise
        except (TimeoutError, TransportError) as error:
            self._stats["unanswered"] += 1
            cause = str(error) or f"within {timeout:g} s"
            raise OutcomeUnknownError(f"request {request_id} was sent to {self._name}, no answer: {cause}") from error
        finally:
            del self._waiting[request_id]
        if raw is None:
            self._stats["unanswered"] += 1
            raise OutcomeUnknownError(f"request {request_id} was sent to {self._name}, no answer: {self._cause}")
        return raw

    def answer(self, request_id: str, raw: bytes) -> None:
        """Hand a reply to whoever waits for it."""
        reply = self._waiting.get(request_id)
        if reply is None or reply.done():
            self._stats["late_replies"] += 1
            logger.info("{}: a reply that nobody waits for: {}", self._name, raw[:TEXT_LIMIT])
        else:
            reply.set_result(raw)

    def end(self, cause: str) -> None:
        """Tell everybody who waits that the connection is gone."""
        self._cause = cause
        for reply in self._waiting.values():
            if not reply.done():
                reply.set_result(None)
