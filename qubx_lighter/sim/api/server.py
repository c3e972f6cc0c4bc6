"""The local venue as a server: one port, REST under ``/api/v1``, WebSocket at ``/stream``, one engine behind both.

Whatever changes the venue is a command: it is written to the journal, carried out, and what it did is sent to who listens,
all without a pause in between, so that a reader never sees half of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Final

import msgspec
from aiohttp import web
from loguru import logger

from qubx_lighter.constants import NETWORKS, Code
from qubx_lighter.sim.api import admin, auth
from qubx_lighter.sim.api.limits import Limits, LimitSettings
from qubx_lighter.sim.api.rest import Rest, answer_errors, faulty, limited
from qubx_lighter.sim.api.stream import Connection
from qubx_lighter.sim.channels.publisher import Publisher
from qubx_lighter.sim.exchange import batches
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.faults import Faults, Kind
from qubx_lighter.sim.feeds.replay import Recording
from qubx_lighter.sim.journal import Journal
from qubx_lighter.sim.model.commands import AdvanceTime, Command, EndOrder, Result, SubmitBatch, SubmitTransaction

_BATCH_S: Final = 0.05  # how long the venue collects the changes of a book
_BATCHES_A_SECOND: Final = 20
_BATCHES_A_CANDLE: Final = 10
_SECOND_US: Final = 10**6
_IDLE_S: Final = 120.0  # the venue closes on a client that is silent for two minutes
_SHUTDOWN_TIMEOUT_S: Final = 2.0
_HASH_BYTES: Final = 40


def wall_clock() -> int:
    """Give the time, µs since the epoch."""
    return time.time_ns() // 1000


def transaction_hash(tx_type: int, tx_info: str) -> str:
    """Give the 80 hexadecimal digits by which the local venue knows a transaction.

    They are not those which the signer computes: that takes the venue's own curve. The same transaction has the same hash,
    however its JSON is spelled.
    """
    try:
        content = msgspec.json.encode(msgspec.json.decode(tx_info), order="sorted")
    except msgspec.MsgspecError:
        content = tx_info.encode()
    return blake2b(f"{tx_type}:".encode() + content, digest_size=_HASH_BYTES).hexdigest()


class Server:
    """Serve an engine.

    Args:
        engine: the venue's state.
        journal: where commands are written before they are carried out; none is kept without it.
        chain_id: what the venue says its transactions are signed for.
        now: the wall clock, µs.
        replays: recordings by channel, which take the place of the engine's own channels.
        replay_speed: 1 as captured, 0 without pauses.
        idle_s: how long a client may be silent.
        faults: what goes wrong; nothing without it.
        limits: which of the venue's limits are enforced; few without it.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        journal: Journal | None = None,
        chain_id: int = NETWORKS["mainnet"].chain_id,
        now: Callable[[], int] = wall_clock,
        replays: Mapping[str, Recording] | None = None,
        replay_speed: float = 1.0,
        idle_s: float = _IDLE_S,
        faults: Faults | None = None,
        limits: LimitSettings | None = None,
    ) -> None:
        self.engine = engine
        self.chain_id = chain_id
        self.now = now
        self.replays: Mapping[str, Recording] = replays or {}
        self.replay_speed = replay_speed
        self.idle_s = idle_s
        self.faults = faults or Faults()
        self.limits = Limits(engine, now, limits)
        self.channels = Publisher(engine, now, self.faults)
        self._journal = journal
        self._connections: set[Connection] = set()
        self._runner: web.AppRunner | None = None
        self._ticking: asyncio.Task[None] | None = None

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen, and give the URL; port 0 takes a free one.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application(middlewares=[faulty(self.faults), answer_errors, limited(self.limits)])
        app.add_routes([*Rest(self).routes(), admin.route(self.execute)])
        app.router.add_get("/stream", self._serve_stream)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self._ticking = asyncio.create_task(self._tick())
        self._ticking.add_done_callback(_report)
        return f"http://{host}:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        """Say goodbye to the clients and stop listening; idempotent. The journal stays the caller's to close."""
        ticking, self._ticking = self._ticking, None
        if ticking is not None:
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking
        await asyncio.gather(*(connection.close() for connection in tuple(self._connections)))
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def drop_connections(self) -> None:
        """Cut every client's socket without a word, as a failing network does."""
        for connection in tuple(self._connections):
            connection.drop()

    @property
    def connections(self) -> int:
        """How many clients are on the stream."""
        return len(self._connections)

    async def _serve_stream(self, request: web.Request) -> web.StreamResponse:
        connection = Connection(self, request)
        self._connections.add(connection)
        try:
            return await connection.serve()
        finally:
            self._connections.discard(connection)

    async def _tick(self) -> None:
        """End a batch of book changes every 50 ms, of candles every 500; every second let time pass for who waits for it."""
        batch = 0
        while True:
            await asyncio.sleep(_BATCH_S)
            self.channels.flush_books()
            self.channels.release_held()
            batch += 1
            if batch % _BATCHES_A_CANDLE == 0:
                self.channels.flush_candles()
            if batch % _BATCHES_A_SECOND == 0:
                if self.now() - self.engine.now > _SECOND_US:  # nothing happens, but orders expire
                    self.execute(AdvanceTime())
                self.channels.refresh_stats()

    # --- commands ----------------------------------------------------------------------------------------------------

    def execute(self, command: Command) -> Result:
        """Carry out a command, and send what it did."""
        result = self._carry_out(command)
        self.publish()
        return result

    def submit(self, tx_type: int, tx_info: str) -> tuple[str, Result]:
        """Carry out a signed transaction; what it did is sent by ``publish``, after the answer.

        Returns:
            its hash, and the venue's answer.
        """
        tx_hash, faults = transaction_hash(tx_type, tx_info), self.faults
        if (fault := faults.draw(Kind.REFUSE, str(tx_type))) is not None:
            return tx_hash, Result(fault.code, fault.text)
        if (refusal := self.limits.refuse_transactions([tx_type], [tx_info])) is not None:
            return tx_hash, refusal
        result = self._carry_out(self._signed(tx_type, tx_info))
        if result.ok:
            self.limits.take_transactions([tx_type], [tx_info])
        if result.order_index and (fault := faults.draw(Kind.END, str(tx_type))) is not None:
            self._carry_out(EndOrder(result.order_index, fault.text))
        if not result.ok:
            logger.debug("transaction of type {} refused: {} {}", tx_type, result.code, result.message)
        return tx_hash, result

    def _signed(self, tx_type: int, tx_info: str) -> SubmitTransaction:
        """Make the command of a transaction, which may have to fail at the sequencer."""
        fault = self.faults.draw(Kind.FAIL, str(tx_type))
        failure = fault.text if fault is not None else ""
        return SubmitTransaction(tx_type, tx_info, transaction_hash(tx_type, tx_info), failure)

    def submit_batch(self, tx_types: Sequence[int], tx_infos: Sequence[str], largest: int) -> tuple[list[str], Result]:
        """Carry out signed transactions that came in one request; otherwise as ``submit``.

        Returns:
            their hashes, and the venue's answer to all of them.
        """
        if len(tx_types) != len(tx_infos):
            return [], Result(Code.INVALID_PARAM, "invalid param: tx_types and tx_infos are not of one length")
        if not 1 <= len(tx_types) <= largest:
            return [], Result(batches.TOO_LARGE, f"a batch has 1 to {largest} transactions")
        if (fault := self.faults.draw(Kind.REFUSE, batches.NAME)) is not None:
            return [], Result(fault.code, fault.text)
        if (refusal := self.limits.refuse_transactions(tx_types, tx_infos)) is not None:
            return [], refusal
        signed = tuple(self._signed(tx_type, tx_info) for tx_type, tx_info in zip(tx_types, tx_infos, strict=True))
        result = self._carry_out(SubmitBatch(signed))
        if result.ok:
            self.limits.take_transactions(tx_types, tx_infos)
        else:
            logger.debug("a batch of {} refused: {} {}", len(signed), result.code, result.message)
        return [each.tx_hash for each in signed], result

    def publish(self) -> None:
        """Send what commands have done since the last call."""
        events = self.engine.drain()
        self.limits.traded(events)
        self.channels.publish(events)

    def _carry_out(self, command: Command) -> Result:
        now = self.now()
        if self._journal is not None:
            return self._journal.apply(self.engine, command, now)
        return self.engine.apply(command, now)

    # --- what REST and stream ask for --------------------------------------------------------------------------------

    def check_token(self, token: str | None, account_index: int) -> None:
        """Insist on a token that may read an account.

        The token's form, deadline, account and key are checked, its signature is not: see ``auth``.

        Raises:
            VenueError: 20013.
        """
        auth.check_token(self.engine, token, account_index, self.now())

    def execution_ms(self) -> int:
        """Give the time at which a transaction that comes now is executed: at once, without the venue's speed bumps."""
        return self.now() // 1000


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.opt(exception=error).error("the local venue's clock has stopped: {}", error)
