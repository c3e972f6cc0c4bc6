"""Lighter's dialect, and its connection: public and private channels, transactions.

Facts: a channel is subscribed as ``order_book/0`` and labelled ``order_book:0``; a ``subscribed/...`` frame is the
snapshot; errors carry neither type nor channel nor id, except that some texts name the channel; transactions are
answered by id. The venue counts 200 messages a minute by address, without transactions, and allows 50 in flight.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from qubx_lighter.constants import AUTH_TOKEN_RENEWAL_S, Code
from qubx_lighter.errors import OutcomeUnknownError, WireError
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.pace import BackoffSettings
from qubx_lighter.protocol.session import Incoming, Kind, Remedy, SessionSettings
from qubx_lighter.transport import Connect, connect
from qubx_lighter.websocket_manager import BaseWebSocketManager, SocketSettings, TokenSource

_MESSAGES_PUBLIC: Final = 150  # of the venue's 200 a minute for one address: a run has one public and one private
_MESSAGES_PRIVATE: Final = 30  # socket, together 180

_REMEDIES: Final[dict[int, Remedy]] = {
    Code.ALREADY_SUBSCRIBED: Remedy.UNSUBSCRIBE_FIRST,
    Code.NOT_SUBSCRIBED: Remedy.ALREADY_GONE,
    Code.INVALID_CHANNEL: Remedy.GIVE_UP,
    Code.INVALID_AUTH: Remedy.NEW_TOKEN,
    Code.TOO_MANY_REQUESTS: Remedy.SLOW_DOWN,
    Code.TOO_MANY_MESSAGES: Remedy.SLOW_DOWN,
    Code.TOO_MANY_IN_FLIGHT: Remedy.SLOW_DOWN,
}
_KINDS: Final[dict[str, Kind]] = {
    "connected": Kind.WELCOME,
    "unsubscribed": Kind.UNSUBSCRIBED,
    "ping": Kind.PING,
    "pong": Kind.PONG,
    "shutdown": Kind.SHUTDOWN,
}
_HEAD: Final = b'{"channel":"'
_UPDATE: Final = re.compile(rb'"type":"update/\w+"\}')  # only a frame's own type has a slash
_CHANNEL: Final = re.compile(r"\b[a-z_]+(?:[/:]\w+)+")


class LighterDialect:
    """Read and write Lighter's frames.

    Nearly every frame is an update whose first key is the channel and whose last is the type. Its two ends say all, so
    what they mean is remembered: half the time of decoding even that little.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], Incoming] = {}

    def key(self, channel: str) -> str:
        """Spell a channel as the venue labels its frames."""
        return wire.channel_key(channel)

    def classify(self, raw: bytes) -> Incoming:
        """Tell what a frame is; the payload of data frames is not decoded.

        Raises:
            WireError: it is not a JSON object.
        """
        if not (raw.startswith(_HEAD) and raw.endswith(b'"}')):
            return _control(raw)
        ends = (raw[len(_HEAD) : raw.find(b'"', len(_HEAD))], raw[raw.rfind(b'"type":"') :])
        known = self._known.get(ends)
        if known is None:
            known = _control(raw)
            if _UPDATE.fullmatch(ends[1]):
                self._known[ends] = known
        return known

    def subscribe(self, key: str, auth: str | None) -> str:
        """Write a subscribe frame."""
        return wire.encode_subscribe(key, auth)

    def unsubscribe(self, key: str) -> str:
        """Write an unsubscribe frame."""
        return wire.encode_unsubscribe(key)

    def ping(self) -> str:
        """Write a ping; the venue closes connections on which the client writes nothing for two minutes."""
        return wire.PING

    def pong(self) -> str:
        """Write the answer to the venue's ping, without which older servers close."""
        return wire.PONG


def _control(raw: bytes) -> Incoming:
    frame = wire.decode_control(raw)
    channel = wire.channel_key(frame.channel)
    if frame.type.startswith("update/"):
        return Incoming(Kind.UPDATE, channel)
    if frame.type.startswith("subscribed/"):
        return Incoming(Kind.SUBSCRIBED, channel)
    if frame.id is not None:
        return Incoming(Kind.REPLY, request_id=str(frame.id))
    if frame.error is not None:
        return _error(frame.error)
    return Incoming(_KINDS.get(frame.type, Kind.OTHER), channel)


def _error(error: wire.ErrorBody) -> Incoming:
    named = _CHANNEL.findall(error.message)
    channel = wire.channel_key(named[-1]) if named else ""
    remedy = _REMEDIES.get(error.code, Remedy.NONE)
    return Incoming(Kind.ERROR, channel, code=error.code, text=error.message, remedy=remedy)


class LighterWebSocketManager(BaseWebSocketManager):
    """Keep one connection to Lighter.

    Args:
        url: ``wss://host/stream``.
        token: mints an auth token; without it there are no private channels.
        loop: where everything runs; without it, the loop that runs at the first call.
        session: pace, acknowledgements, heartbeat; by default the venue's limits, shared by one socket with and one
            without ``token``.
        backoff: the waits between connects.
        socket: timeouts of the socket.
        clock: seconds of any origin, never going back.
        chance: draws the jitter, 0..1.
        connector: opens a WebSocket.
    """

    def __init__(
        self,
        url: str,
        *,
        token: TokenSource | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        session: SessionSettings | None = None,
        backoff: BackoffSettings | None = None,
        socket: SocketSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        connector: Connect = connect,
    ) -> None:
        super().__init__(
            url,
            LighterDialect(),
            loop=loop,
            token=token,
            session=session or session_settings(private=token is not None),
            backoff=backoff,
            socket=socket,
            clock=clock,
            chance=chance,
            connector=connector,
        )

    async def send_transaction(self, request_id: str, tx_type: int, tx_info: str, timeout: float) -> wire.TxReply:  # noqa: ASYNC109 - as in the base
        """Send a signed transaction and wait for the venue's answer; code 200 means queued.

        A refusal is an answer too: ``error`` of the reply. Frames leave in the order of the calls.

        Raises:
            NotSentError: nothing was written.
            OutcomeUnknownError: it was written, and no readable answer came.
        """
        raw = await self.request(request_id, wire.encode_send_tx(request_id, tx_type, tx_info), timeout)
        try:
            return wire.decode(wire.TxReply, raw)
        except WireError as error:
            raise OutcomeUnknownError(f"the answer to {request_id} cannot be read: {error}") from error


def session_settings(*, private: bool, **changes: float) -> SessionSettings:
    """Make the session settings of a socket that shares the venue's limits with one of the other sort."""
    settings = SessionSettings(
        messages=_MESSAGES_PRIVATE if private else _MESSAGES_PUBLIC, auth_renewal_s=AUTH_TOKEN_RENEWAL_S
    )
    return replace(settings, **changes)  # type: ignore[arg-type]
