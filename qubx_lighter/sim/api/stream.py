"""The local venue's WebSocket: one client's connection.

What a client writes is answered at once and in order; data frames wait in the connection's own queue, so that a slow client
delays nobody else. One that falls too far behind is cut off, as frames left out would be worse.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web
from loguru import logger

from qubx_lighter.constants import CODE_OK, Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.api.limits import Limits
from qubx_lighter.sim.channels.channel import Channel
from qubx_lighter.sim.channels.publisher import Publisher
from qubx_lighter.sim.exchange import batches
from qubx_lighter.sim.exchange.batches import TxTypeNumber
from qubx_lighter.sim.faults import Faults, Kind
from qubx_lighter.sim.feeds.replay import Recording
from qubx_lighter.sim.model.commands import Result
from qubx_lighter.sim.wire import frames

_MESSAGES_A_MINUTE: Final = 200  # without transactions
_SUBSCRIPTIONS: Final = 500
_TOO_MANY_SUBSCRIPTIONS: Final = 23001
_MOST_WAITING: Final = 50_000
_ROOM: Final = 64  # a playback pauses while more frames than this wait
_CLOSE_TIMEOUT_S: Final = 1.0


class _Transaction(msgspec.Struct):
    tx_type: TxTypeNumber
    tx_info: msgspec.Raw
    id: str | int | None = None


class _Batch(msgspec.Struct):
    """Both lists are JSON texts in the documentation, and plain lists in the wild."""

    tx_types: list[TxTypeNumber] | str
    tx_infos: list[str] | str
    id: str | int | None = None


class _Message(msgspec.Struct):
    """What a client writes."""

    type: str = ""
    channel: str = ""
    auth: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


class Venue(Protocol):
    """What a connection needs of the server."""

    channels: Publisher
    faults: Faults
    limits: Limits
    replays: Mapping[str, Recording]
    replay_speed: float
    idle_s: float

    def now(self) -> int:
        """Give the venue's time, µs."""

    def check_token(self, token: str | None, account_index: int) -> None:
        """Insist on a token that may read an account, or raise ``VenueError`` 20013."""

    def submit(self, tx_type: int, tx_info: str) -> tuple[str, Result]:
        """Execute a transaction; give its hash and the answer."""

    def submit_batch(self, tx_types: Sequence[int], tx_infos: Sequence[str], largest: int) -> tuple[list[str], Result]:
        """Execute several transactions; give their hashes and the answer."""

    def publish(self) -> None:
        """Send what commands have done since."""

    def execution_ms(self) -> int:
        """Give the time at which a transaction that comes now is executed."""


class Connection:
    """One client.

    Args:
        venue: the server.
        request: the upgrade request.
    """

    def __init__(self, venue: Venue, request: web.Request) -> None:
        self._venue = venue
        self._request = request
        self._socket = web.WebSocketResponse(timeout=_CLOSE_TIMEOUT_S, compress=False)
        self._subscribed: dict[str, Channel | None] = {}  # None: played from a recording
        self._playing: dict[str, asyncio.Task[None]] = {}
        self._waiting: deque[str] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._address = request.remote or ""
        self._in_flight = 0
        self._has_left = False
        self._heard: deque[float] = deque(maxlen=_MESSAGES_A_MINUTE)
        self._last_heard = 0.0
        self._is_cut = False
        self._is_mute = False  # a fault: what is sent now is lost

    # --- life --------------------------------------------------------------------------------------------------------

    async def serve(self) -> web.WebSocketResponse:
        """Serve the client until either side leaves."""
        await self._socket.prepare(self._request)
        self._last_heard = asyncio.get_running_loop().time()
        helpers = [asyncio.create_task(self._write()), asyncio.create_task(self._watch())]
        limits = self._venue.limits
        try:
            limits.connect(self._address)
        except VenueError as error:
            self.send(frames.error(error.code, error.message))
            await self.close()
        else:
            self.send(frames.connected(secrets.token_hex(16)))
        try:
            async for message in self._socket:
                if message.type == WSMsgType.TEXT:
                    self._last_heard = asyncio.get_running_loop().time()
                    self._receive(message.data)
        finally:
            self._has_left = True
            limits.disconnect(self._address, len(self._subscribed), self._in_flight)
            for channel in self._subscribed.values():
                if channel is not None:
                    self._venue.channels.unsubscribe(channel, self)
            helpers += self._playing.values()
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
        return self._socket

    async def close(self) -> None:
        """Announce the end, send what waits, close."""
        self.send(frames.SHUTDOWN)
        while self._waiting and not self._socket.closed:
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), _CLOSE_TIMEOUT_S)
            except TimeoutError:
                break
        await self._socket.close(code=WSCloseCode.GOING_AWAY)

    def drop(self) -> None:
        """Cut the connection without a word."""
        self._is_cut = True
        transport = self._request.transport
        if transport is not None and not transport.is_closing():
            transport.abort()

    # --- out ---------------------------------------------------------------------------------------------------------

    def send(self, text: str) -> None:
        """Queue a frame."""
        if self._is_cut or self._is_mute:
            return
        if len(self._waiting) >= _MOST_WAITING:
            logger.warning("a client does not read: {} frames wait for it, it is cut off", _MOST_WAITING)
            self.drop()
            return
        self._waiting.append(text)
        self._wake.set()

    async def send_in_turn(self, text: str) -> None:
        """Queue a frame when there is room."""
        while len(self._waiting) >= _ROOM:
            self._room.clear()
            await self._room.wait()
        self.send(text)

    async def _write(self) -> None:
        try:
            while True:
                while self._waiting:
                    await self._socket.send_str(self._waiting[0])
                    self._waiting.popleft()
                    if len(self._waiting) < _ROOM:
                        self._room.set()
                self._wake.clear()
                self._room.set()
                await self._wake.wait()
        except ConnectionError:  # the reader sees it too, and ends the connection
            self.drop()

    async def _watch(self) -> None:
        """Close on a client that is silent for too long; half-way, ask it."""
        clock = asyncio.get_running_loop().time
        asked_at = -1.0
        while True:
            silent = clock() - self._last_heard
            if silent >= self._venue.idle_s:
                await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"no pong")
                return
            half = self._venue.idle_s / 2
            if silent >= half and asked_at != self._last_heard:
                asked_at = self._last_heard
                self.send(frames.PING)
            await asyncio.sleep((self._venue.idle_s if silent >= half else half) - silent)

    # --- in ----------------------------------------------------------------------------------------------------------

    def _receive(self, data: str) -> None:
        try:
            message = msgspec.json.decode(data, type=_Message)
        except msgspec.MsgspecError:
            self.send(frames.error(Code.INVALID_PARAM, "invalid message"))
            return
        if message.type == "jsonapi/sendtx":
            self._send_transaction(message)
            return
        if message.type == "jsonapi/sendtxbatch":
            self._send_batch(message)
            return
        if not self._may_write():
            self.send(frames.error(Code.TOO_MANY_MESSAGES, "Too Many Messages"))
            return
        limits = self._venue.limits
        try:
            limits.message(self._address)
        except VenueError as error:
            self.send(frames.error(error.code, error.message))
            return
        if limits.answer_s:
            self._in_flight += 1
            asyncio.get_running_loop().call_later(limits.answer_s, self._handle_later, message)
        else:
            self._handle(message)

    def _handle_later(self, message: _Message) -> None:
        if self._socket.closed or self._has_left:
            return
        self._in_flight -= 1
        self._venue.limits.answered(self._address)
        self._handle(message)

    def _handle(self, message: _Message) -> None:
        match message.type:
            case "ping":
                self.send(frames.PONG)
            case "pong":
                pass
            case "subscribe":
                self._subscribe(message.channel, message.auth)
            case "unsubscribe":
                self._unsubscribe(message.channel)
            case _:
                self.send(frames.error(Code.INVALID_PARAM, f"invalid message type: {message.type}"))

    def _may_write(self) -> bool:
        if self._venue.limits.settings is not None:  # counts those of all connections of an address
            return True
        now = self._venue.now() / 10**6
        if len(self._heard) == _MESSAGES_A_MINUTE and now - self._heard[0] < 60:  # noqa: PLR2004 - a minute
            return False
        self._heard.append(now)
        return True

    def _subscribe(self, name: str, token: str | None) -> None:
        key = name.replace("/", ":")
        if key in self._subscribed:
            self.send(frames.error(Code.ALREADY_SUBSCRIBED, f"Already Subscribed to Channel: {key}"))
            return
        if len(self._subscribed) >= _SUBSCRIPTIONS:
            self.send(frames.error(_TOO_MANY_SUBSCRIPTIONS, f"Too Many Subscriptions: {key}"))
            return
        recording = self._venue.replays.get(key)
        if recording is not None:
            self._venue.limits.subscribe(self._address)
            self._subscribed[key] = None
            self._playing[key] = asyncio.create_task(recording.play(self.send_in_turn, self._venue.replay_speed))
            return
        try:
            channel = self._venue.channels.find(name)
        except VenueError as error:
            self.send(frames.error(error.code, error.message))
            return
        if channel.is_private:
            try:
                self._venue.check_token(token, channel.number)
            except VenueError as error:
                self.send(frames.error(error.code, f"{error.message}: {channel.key}"))
                return
        if (fault := self._venue.faults.draw(Kind.DENY, name)) is not None:
            self.send(frames.error(fault.code, fault.text))
            return
        try:
            self._venue.limits.subscribe(self._address)
        except VenueError as error:
            self.send(frames.error(error.code, f"{error.message}: {channel.key}"))
            return
        self._subscribed[channel.key] = channel
        self._is_mute = self._venue.faults.draw(Kind.LOSE_ACK, name) is not None
        self._venue.channels.subscribe(channel, self)
        self._is_mute = False

    def _unsubscribe(self, name: str) -> None:
        key = name.replace("/", ":")
        if key not in self._subscribed:
            self.send(frames.error(Code.NOT_SUBSCRIBED, f"Not Subscribed to Channel: {key}"))
            return
        channel = self._subscribed.pop(key)
        self._venue.limits.unsubscribe(self._address)
        if channel is not None:
            self._venue.channels.unsubscribe(channel, self)
        elif (task := self._playing.pop(key, None)) is not None:
            task.cancel()
        self.send(frames.unsubscribed(key))

    def _send_transaction(self, message: _Message) -> None:
        """Execute a transaction; its answer leaves before what it did, as at the venue."""
        try:
            tx = msgspec.json.decode(message.data, type=_Transaction)
        except msgspec.MsgspecError as error:
            self.send(frames.error(Code.INVALID_PARAM, f"invalid transaction: {error}"))
            return
        text = bytes(tx.tx_info).decode()
        if text.startswith('"'):  # both spellings are seen in the wild: an object, and its text
            text = msgspec.json.decode(text, type=str)
        if self._venue.faults.draw(Kind.CUT_BEFORE, str(tx.tx_type)) is not None:
            self.drop()
            return
        tx_hash, result = self._venue.submit(tx.tx_type, text)
        if result.code == CODE_OK:
            self._answer(
                str(tx.tx_type),
                frames.sent(tx.id, tx_hash, self._venue.execution_ms(), self._venue.limits.stream_fields()),
            )
        else:
            self._answer(str(tx.tx_type), frames.refused(tx.id, result.code, result.message))
        self._venue.publish()

    def _answer(self, name: str, text: str) -> None:
        """Send what became of a transaction, unless something goes wrong."""
        faults = self._venue.faults
        if faults.draw(Kind.CUT_AFTER, name) is not None:
            self.drop()
        elif (fault := faults.draw(Kind.DELAY, name)) is not None:
            asyncio.get_running_loop().call_later(fault.seconds, self.send, text)
        elif faults.draw(Kind.SWALLOW, name) is None:
            self.send(text)

    def _send_batch(self, message: _Message) -> None:
        """Execute several transactions back to back; otherwise as one."""
        try:
            batch = msgspec.json.decode(message.data, type=_Batch)
            tx_types, tx_infos = batches.lists(batch.tx_types, batch.tx_infos)
        except msgspec.MsgspecError as error:
            self.send(frames.error(Code.INVALID_PARAM, f"invalid batch: {error}"))
            return
        if self._venue.faults.draw(Kind.CUT_BEFORE, batches.NAME) is not None:
            self.drop()
            return
        hashes, result = self._venue.submit_batch(tx_types, tx_infos, batches.LARGEST_ON_SOCKET)
        if result.code == CODE_OK:
            self._answer(batches.NAME, frames.sent_batch(batch.id, hashes, self._venue.execution_ms()))
        else:
            self._answer(batches.NAME, frames.refused(batch.id, result.code, result.message))
        self._venue.publish()
