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
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from qubx_lighter.constants import AUTH_TOKEN_RENEWAL_S
from qubx_lighter.errors import OutcomeUnknownError, WireError
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.codes import Recovery, refusal_of
from qubx_lighter.protocol.limits import IN_FLIGHT, MESSAGES
from qubx_lighter.protocol.liveness import Liveness
from qubx_lighter.protocol.messages import Incoming, Kind, Remedy
from qubx_lighter.protocol.pace import AddressLimits, AddressPace, BackoffSettings
from qubx_lighter.protocol.session import SessionSettings
from qubx_lighter.sockets.link import SocketSettings, TokenSource
from qubx_lighter.sockets.transport import Connect, connect
from qubx_lighter.websocket_manager import BaseWebSocketManager

# Pings are never held back, so some room is left.
ADDRESS_LIMITS: Final = AddressLimits(
    messages=MESSAGES - 10, in_flight=IN_FLIGHT - 15, reserved_messages=20, reserved_in_flight=5
)

_REMEDIES: Final[dict[Recovery, Remedy]] = {
    Recovery.UNSUBSCRIBE_FIRST: Remedy.UNSUBSCRIBE_FIRST,
    Recovery.ALREADY_GONE: Remedy.ALREADY_GONE,
    Recovery.GIVE_UP: Remedy.GIVE_UP,
    Recovery.NEW_TOKEN: Remedy.NEW_TOKEN,
    Recovery.BACK_OFF: Remedy.SLOW_DOWN,
    Recovery.ANOTHER_CONNECTION: Remedy.NO_ROOM,
    Recovery.FEWER_CONNECTIONS: Remedy.TOO_MANY_CONNECTIONS,
}
_KINDS: Final[dict[str, Kind]] = {
    "connected": Kind.WELCOME,
    "unsubscribed": Kind.UNSUBSCRIBED,
    "ping": Kind.PING,
    "pong": Kind.PONG,
    "shutdown": Kind.SHUTDOWN,
}
_HEAD: Final = b'{"channel":"'
_TYPE: Final = b'"type":"'
_DATA: Final = re.compile(rb'"type":"(update|subscribed)/\w+"\}')  # only a frame's own type has a slash
_CHANNEL: Final = re.compile(r"\b[a-z_]+(?:[/:]\w+)+")


class LighterDialect:
    """Read and write Lighter's frames.

    Nearly every frame is an update whose first key is the channel and whose last is the type: its two ends say all.
    """

    label_at = len(_HEAD)

    def key(self, channel: str) -> str:
        """Spell a channel as the venue labels its frames."""
        return wire.channel_key(channel)

    def kind(self, key: str) -> str:
        """Give what a channel is of: ``order_book`` of ``order_book:0``."""
        return key.partition(":")[0]

    def classify(self, raw: bytes) -> Incoming:
        """Tell what a frame is; where its ends say so, nothing between them is read.

        Raises:
            WireError: it is not a JSON object.
        """
        if raw.startswith(_HEAD) and (found := _DATA.fullmatch(raw, raw.rfind(_TYPE))):
            label = raw[len(_HEAD) : raw.find(b'"', len(_HEAD))]
            kind = Kind.UPDATE if found[1] == b"update" else Kind.SUBSCRIBED
            return Incoming(kind, wire.channel_key(label.decode(errors="replace")))
        return _control(raw)

    def ends(self, raw: bytes) -> tuple[bytes, bytes] | None:
        """Give the beginning and the end of an update by which the next of its channel is known."""
        if not (raw.startswith(_HEAD) and _DATA.fullmatch(raw, start := raw.rfind(_TYPE))):
            return None
        return raw[: raw.find(b'"', len(_HEAD))], raw[start:]

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
    remedy = _REMEDIES.get(refusal_of(error.code).recovery, Remedy.NONE)
    return Incoming(Kind.ERROR, channel, code=error.code, text=error.message, remedy=remedy)


_paces: Final[weakref.WeakValueDictionary[str, AddressPace]] = weakref.WeakValueDictionary()


def address_pace(url: str) -> AddressPace:
    """Give the pace that all sockets of this process share, for as long as one of them lives, at the host of ``url``."""
    host = urlsplit(url).netloc
    return _paces.setdefault(host, AddressPace(ADDRESS_LIMITS))


class LighterWebSocketManager(BaseWebSocketManager):
    """Keep one connection to Lighter.

    Args:
        url: ``wss://host/stream``.
        token: mints an auth token; without it there are no private channels.
        loop: where everything runs; without it, the loop that runs at the first call.
        session: acknowledgements, heartbeat.
        backoff: the waits between connects.
        socket: timeouts of the socket.
        clock: seconds of any origin, never going back; the same for all that share ``pace``.
        chance: draws the jitter, 0..1.
        connector: opens a WebSocket.
        pace: shared by all sockets of the host, those with a ``token`` first; by default the one of ``address_pace``.
        liveness: suspects channels that fall silent; without it none is.
        on_no_room: called on the loop with a channel that the venue refused because the connection has too many.
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
        pace: AddressPace | None = None,
        liveness: Liveness | None = None,
        on_no_room: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(
            url,
            LighterDialect(),
            loop=loop,
            token=token,
            session=session or session_settings(),
            backoff=backoff,
            socket=socket,
            clock=clock,
            chance=chance,
            connector=connector,
            pace=pace or address_pace(url),
            liveness=liveness,
            on_no_room=on_no_room,
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

    async def send_transactions(
        self,
        request_id: str,
        tx_types: Sequence[int],
        tx_infos: Sequence[str],
        timeout: float,  # noqa: ASYNC109 - as in the base
    ) -> wire.TxReply:
        """Send several signed transactions, of one key and with consecutive nonces, as one message; else as above."""
        raw = await self.request(request_id, wire.encode_send_tx_batch(request_id, tx_types, tx_infos), timeout)
        try:
            return wire.decode(wire.TxReply, raw)
        except WireError as error:
            raise OutcomeUnknownError(f"the answer to {request_id} cannot be read: {error}") from error


def session_settings(**changes: float) -> SessionSettings:
    """Make the session settings of a socket of Lighter's; the pace is the address's."""
    return replace(SessionSettings(auth_renewal_s=AUTH_TOKEN_RENEWAL_S), **changes)  # type: ignore[arg-type]
