"""The way out: one queue of transactions for one API key, in order, each with exactly one outcome.

Theory of operation. ``submit`` may be called from any thread and keeps the callers' order. One task takes transactions in
that order, gives each a nonce at the moment of sending, has it signed off the loop, writes it to the socket and goes on
without waiting for the answer. The answer decides:

======================  ====================================================  ===========================
the venue said          what it means                                         what happens here
======================  ====================================================  ===========================
200                     queued; the nonce is consumed                         outcome ACCEPTED
21104 invalid nonce     nothing was executed                                  resync, sign anew, send again
any other error code    nothing was executed, the nonce is free again         outcome REFUSED
nothing left            nothing was executed                                  resync, sign anew, send again
nothing came back       unknown                                               outcome UNKNOWN, resync
======================  ====================================================  ===========================

Only what was provably not executed is sent again: a retried order would be two orders. A resync asks the venue for its
next nonce and waits until nothing is in flight, since an answer still under way would make that number wrong.
Without a socket transactions go over REST, one at a time, by the same rules.

Batches. What waits together may leave as one message (``batch_size``), with consecutive nonces. The venue answers for all
of them: 200, or one refusal that does not say whose it is, nor provably that nothing of the batch was done. So after such a
refusal the very same signed transactions go out one by one: none can be executed twice, because its nonce is consumed by
then. An invalid nonce (21104) in that second round means just this, or a nonce that somebody else took: the outcome is
UNKNOWN. Any other refusal leaves its nonce free, which proves that nothing behind it was done: that is signed anew. So is a
batch that stood behind a nonce of ours that was refused (``_hole``).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from loguru import logger

from qubx_lighter.constants import CODE_OK, Code, TxType
from qubx_lighter.errors import LighterError, NotSentError, RateLimitedError, VenueError
from qubx_lighter.protocol.codes import Cause, Outcome, cause_of_code, outcome_of_code, refusal_of
from qubx_lighter.protocol.nonce import NonceSequence
from qubx_lighter.protocol.wire import ErrorBody, TxReply
from qubx_lighter.signer import SignedTx

_MAX_ATTEMPTS: Final = 5
_SERVER_ERROR_STATUS: Final = 500
_CANCELS: Final = frozenset({TxType.CANCEL_ORDER, TxType.CANCEL_ALL_ORDERS})
_RETRY_PAUSE_S: Final = 0.2  # times the attempts: the venue's next nonce "will not update right away" after a refusal


class Reply(NamedTuple):
    """What became of one transaction; ``code`` is 0 where the venue gave none, ``cause`` says why it was refused."""

    outcome: Outcome
    code: int = 0
    message: str = ""
    tx_hash: str = ""
    nonce: int = -1
    cause: Cause = Cause.UNKNOWN


@dataclass(slots=True)
class Transaction:
    """One write, frozen at the call: how to sign it with a nonce, whom to tell of its outcome, and of each sending."""

    label: str
    tx_type: TxType
    sign: Callable[[int], Awaitable[SignedTx]]
    on_reply: Callable[[Reply], None]
    on_sent: Callable[[SignedTx, int], None] | None = None
    attempts: int = field(default=0, init=False)


class _Signed(NamedTuple):
    """A transaction on its way: ``order`` is its place in the callers' order."""

    order: int
    transaction: Transaction
    signed: SignedTx
    nonce: int


class Socket(Protocol):
    """The part of the account socket that carries transactions."""

    @property
    def connected(self) -> bool:
        """Tell whether a frame can be written now."""

    async def send_transaction(self, request_id: str, tx_type: int, tx_info: str, timeout: float) -> TxReply:  # noqa: ASYNC109 - waiting for one reply among many
        """Send and wait for the reply of the same id."""

    async def send_transactions(
        self,
        request_id: str,
        tx_types: Sequence[int],
        tx_infos: Sequence[str],
        timeout: float,  # noqa: ASYNC109 - as above
    ) -> TxReply:
        """Send several in one message and wait for the reply of the same id."""


class Gate(Protocol):
    """A budget of the venue's limits that transactions pass on their way out, and that hears every answer.

    Nothing that a gate does holds a cancel back: it is told of each cancel with ``admit``, and the cancel leaves at once,
    whatever the gate says, or while it still thinks. The venue is the judge then. Other transactions wait for ``admit``;
    a gate that fails otherwise than by refusing lets them out too, since the venue keeps its own count.
    """

    async def admit(self, tx_types: Sequence[int]) -> None:
        """Wait until transactions of these types, which leave together, have room.

        Each sending is asked for, those of one transaction that goes out again too. May be cancelled.

        Raises:
            RateLimitedError: there will be no room; nothing is sent, and their outcome is REFUSED.
        """

    def observe(self, reply: TxReply) -> None:
        """Take the venue's answer to one message, an error too."""


class Rest(Protocol):
    """The part of the REST client that the sender needs."""

    async def next_nonce(self, account_index: int, api_key_index: int) -> int:
        """Fetch the nonce that the venue expects next."""

    async def send_transaction(self, tx_type: int, tx_info: str) -> TxReply:
        """Send over REST."""


class TransactionSender:
    """Send the transactions of one API key in order.

    Args:
        loop: the loop that everything here runs on.
        socket: the account socket.
        rest: the REST client, for nonces and as the fallback.
        account_index: whose nonces.
        api_key_index: whose nonces.
        timeout_s: how long an answer may take before the outcome is unknown.
        retry_pause_s: pause before a second resend, growing by itself with each further one.
        batch_size: how many transactions that wait together may leave as one message; the venue takes up to 15 on a socket.
        gate: the budget that they pass; none by default.
        on_outcome: told of every outcome, before the transaction's own listener.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        socket: Socket,
        rest: Rest,
        account_index: int,
        api_key_index: int,
        timeout_s: float,
        retry_pause_s: float = _RETRY_PAUSE_S,
        batch_size: int = 1,
        gate: Gate | None = None,
        on_outcome: Callable[[Transaction, Reply], None] = lambda *_: None,
    ) -> None:
        self._loop = loop
        self._socket = socket
        self._rest = rest
        self._account_index = account_index
        self._api_key_index = api_key_index
        self._timeout_s = timeout_s
        self._retry_pause_s = retry_pause_s
        self._batch_size = batch_size
        self._gate = gate
        self._on_outcome = on_outcome
        self._told: set[asyncio.Task[None]] = set()  # admissions of cancels that nobody waits for
        self._nonces = NonceSequence()
        self._synchronised_at = -1
        self._hole: int | None = None  # some nonce up to this one is free: nothing that has a later one was executed
        self._sequence = itertools.count()
        self._heap: list[tuple[int, Transaction]] = []
        self._in_flight: set[asyncio.Task[None]] = set()
        self._submitted = 0
        self._finished = 0
        self._changed: asyncio.Event | None = None  # made on the loop
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._stats = {"transactions": 0, "resyncs": 0, "resent": 0, "unknown": 0, "over_rest": 0, "batches": 0}

    def submit(self, transaction: Transaction) -> None:
        """Queue a transaction; thread-safe, keeps the order of the calls."""
        self._submitted += 1
        self._loop.call_soon_threadsafe(self._enqueue, next(self._sequence), transaction)

    async def drain(self, timeout_s: float) -> bool:
        """Wait until every submitted transaction has its outcome; False when ``timeout_s`` was not enough."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._finished < self._submitted:
                    await self._wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Stop sending; what is queued or unanswered ends as NotSent or Unknown, and is not reported any more."""
        self._closed = True
        tasks = [task for task in (self._task, *self._in_flight) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def stats(self) -> dict[str, int]:
        """Count what happened since the start."""
        return {**self._stats, "queued": len(self._heap), "in_flight": len(self._in_flight)}

    # --- the queue ---------------------------------------------------------------------------------------------------

    def _enqueue(self, order: int, transaction: Transaction) -> None:
        if self._closed:
            return
        heapq.heappush(self._heap, (order, transaction))
        self._notify()
        self._ensure_running()

    def _ensure_running(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._run(), name="lighter-sender")
            self._task.add_done_callback(self._landed)

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()

    async def _wait(self) -> None:
        if self._changed is None:
            self._changed = asyncio.Event()
        self._changed.clear()
        await self._changed.wait()

    async def _run(self) -> None:
        while self._heap:
            try:
                size = await self._admit_next()
                await self._synchronise()
            except RateLimitedError as error:
                self._fail_next(error, Cause.RATE_LIMITED)
                continue
            except LighterError as error:
                self._fail_next(error)
                continue
            batch = await self._sign_together(size)
            if not batch:
                continue
            if len(batch) > 1 and self._socket.connected:
                self._stats["batches"] += 1
                self._start(self._exchange_batch(batch))
                continue
            for item in batch:
                task = self._start(self._exchange(item))
                if not self._socket.connected:  # over REST the order of arrival is only sure one at a time
                    self._stats["over_rest"] += 1
                    await asyncio.wait({task})

    async def _admit_next(self) -> int:
        """Return once the gate has let some of what waits out, and how much of it.

        Raises:
            RateLimitedError: the gate refuses the first.
        """
        waiting = [transaction.tx_type for _, transaction in heapq.nsmallest(self._batch_size, self._heap)]
        if self._gate is None:
            return len(waiting)
        if waiting[0] in _CANCELS:
            told = self._loop.create_task(self._tell(self._gate, waiting[:1]))
            self._told.add(told)
            told.add_done_callback(self._told.discard)
            return 1
        together = list(itertools.takewhile(lambda tx_type: tx_type not in _CANCELS, waiting))
        for size in {len(together): None, 1: None}:
            try:
                await self._gate.admit(together[:size])
            except RateLimitedError:
                if size == 1:
                    raise
            except Exception as error:  # noqa: BLE001 - somebody else's budget must not stop the trading
                logger.opt(exception=error).error(
                    "lighter: the rate limiter failed, the transaction goes out without it"
                )
                return size
            else:
                return size
        raise AssertionError("unreachable")

    async def _tell(self, gate: Gate, tx_types: Sequence[int]) -> None:
        """Let a gate count what is on its way already."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await gate.admit(tx_types)
        except (RateLimitedError, TimeoutError) as error:
            logger.info("lighter: a cancel went out against the rate limiter: {}", error)
        except Exception as error:  # noqa: BLE001 - as above
            logger.opt(exception=error).error("lighter: the rate limiter failed")

    def _observe(self, reply: TxReply) -> None:
        if self._gate is None:
            return
        try:
            self._gate.observe(reply)
        except Exception as error:  # noqa: BLE001 - as above
            logger.opt(exception=error).error("lighter: the rate limiter failed")

    async def _sign_together(self, size: int) -> list[_Signed]:
        """Sign what waits, as much of it as may leave together; at least the first, if it can be signed."""
        batch: list[_Signed] = []
        while self._heap and self._nonces.can_allocate:
            order, transaction = heapq.heappop(self._heap)
            nonce = self._nonces.allocate()
            # Behind a refused one every nonce is wrong: only the first after a resync fails by itself.
            transaction.attempts += nonce == self._synchronised_at
            try:
                signed = await transaction.sign(nonce)
            except (LighterError, RuntimeError) as error:  # RuntimeError: the signer's thread is gone
                self._nonces.refused(nonce)
                self._finish(transaction, Reply(Outcome.REFUSED, 0, str(error), "", nonce))
            else:
                if transaction.on_sent is not None:
                    transaction.on_sent(signed, nonce)
                self._stats["transactions"] += 1
                batch.append(_Signed(order, transaction, signed, nonce))
            if len(batch) >= size or not self._socket.connected:
                break
        return batch

    def _start(self, exchange: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(exchange)
        self._in_flight.add(task)
        task.add_done_callback(self._landed)
        return task

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._notify()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("lighter: the sender met an unexpected error")

    def _fail_next(self, error: LighterError, cause: Cause = Cause.UNKNOWN) -> None:
        _, transaction = heapq.heappop(self._heap)
        logger.warning("lighter: {} was not sent: {}", transaction.label, error)
        reply = Reply(Outcome.REFUSED, getattr(error, "code", 0), f"not sent: {error}", cause=cause)
        self._finish(transaction, reply)

    # --- nonces ------------------------------------------------------------------------------------------------------

    async def _synchronise(self) -> None:
        """Return once a nonce can be given out.

        Raises:
            VenueError: the venue refuses to tell the next nonce.
            TransportError: the venue cannot be reached.
        """
        while not self._nonces.can_allocate:
            if self._in_flight:
                await self._wait()
                continue
            self._stats["resyncs"] += 1
            self._synchronised_at = await self._rest.next_nonce(self._account_index, self._api_key_index)
            self._nonces.synchronise(self._synchronised_at)
            self._hole = None

    # --- one transaction ---------------------------------------------------------------------------------------------

    async def _exchange(self, item: _Signed) -> None:
        try:
            reply = await self._send(item)
        except LighterError as error:
            if not _not_executed(error):
                self._unknown(item, error)
                return
            self._free(item)
            code = _code(error)
            if code == Code.INVALID_NONCE:
                self._nonces.invalidate()
            # What could not be written is its own failure, whichever nonce it had.
            item.transaction.attempts += code == 0 and item.nonce != self._synchronised_at
            if code in (0, Code.INVALID_NONCE) and self._may_resend(item):
                await self._resend(item, error)
                return
            self._refused(item, error)
        else:
            self._accepted(item, reply, reply.tx_hash)

    async def _exchange_batch(self, batch: list[_Signed]) -> None:
        first = batch[0]
        request_id = f"{self._api_key_index}-{first.order}-{first.nonce}-{len(batch)}"
        types, infos = [item.signed.tx_type for item in batch], [item.signed.tx_info for item in batch]
        try:
            reply = self._taken(await self._socket.send_transactions(request_id, types, infos, self._timeout_s))
        except LighterError as error:
            if not _not_executed(error):
                for item in batch:
                    self._unknown(item, error)
            elif _code(error) == 0 or (_code(error) == Code.INVALID_NONCE and self._is_behind_a_hole(first)):
                await self._resend_all(batch, error)
            elif _concerns_all(error):
                for item in reversed(batch):
                    self._free(item)
                for item in batch:
                    self._refused(item, error)
            else:
                logger.info("lighter: {} transactions go out one by one: {}", len(batch), error)
                self._nonces.invalidate()
                if _code(error) != Code.INVALID_NONCE:
                    self._note_hole(batch[-1].nonce)
                await self._one_by_one(batch)
        else:
            hashes = reply.tx_hash if isinstance(reply.tx_hash, list) else []
            for number, item in enumerate(batch):
                self._accepted(item, reply, hashes[number] if number < len(hashes) else "")

    async def _one_by_one(self, batch: list[_Signed]) -> None:
        """Send the transactions of a refused batch again, byte for byte the same."""
        for number, item in enumerate(batch):
            try:
                reply = await self._send(item)
            except LighterError as error:
                if not _not_executed(error) or _code(error) in (0, Code.INVALID_NONCE):
                    self._unknown(item, error)
                    continue
                self._free(item)
                self._refused(item, error)
                await self._resend_all(batch[number + 1 :], error)
                return
            self._accepted(item, reply, reply.tx_hash)

    async def _resend_all(self, batch: Sequence[_Signed], error: LighterError) -> None:
        """Have transactions signed anew that provably were not executed."""
        for item in reversed(batch):
            self._free(item)
        if _code(error) == Code.INVALID_NONCE:
            self._nonces.invalidate()
        elif _code(error) == 0:
            for item in batch:
                item.transaction.attempts += item.nonce != self._synchronised_at
        again = [item for item in batch if self._may_resend(item)]
        for item in batch:
            if not self._may_resend(item):
                self._refused(item, error)
        for item in again:
            heapq.heappush(self._heap, (item.order, item.transaction))
        if again:
            self._stats["resent"] += len(again)
            await asyncio.sleep(self._retry_pause_s * max(again[0].transaction.attempts - 1, 0))
            self._ensure_running()

    def _free(self, item: _Signed) -> None:
        """Note that a nonce was not consumed: it is given out again, or else it is a hole in front of later ones."""
        self._nonces.refused(item.nonce)
        if self._nonces.needs_sync:
            self._note_hole(item.nonce)

    def _is_behind_a_hole(self, item: _Signed) -> bool:
        return self._hole is not None and item.nonce > self._hole

    def _note_hole(self, nonce: int) -> None:
        self._hole = nonce if self._hole is None else min(self._hole, nonce)

    def _may_resend(self, item: _Signed) -> bool:
        return item.transaction.attempts < _MAX_ATTEMPTS and not self._closed

    def _accepted(self, item: _Signed, reply: TxReply, tx_hash: str | list[str]) -> None:
        self._nonces.accepted(item.nonce)
        known = tx_hash if isinstance(tx_hash, str) and tx_hash else item.signed.tx_hash
        self._finish(item.transaction, Reply(Outcome.ACCEPTED, CODE_OK, reply.message, known, item.nonce))

    def _refused(self, item: _Signed, error: LighterError) -> None:
        text = error.message if isinstance(error, VenueError) else str(error)
        cause = cause_of_code(_code(error)) if _code(error) else Cause.UNKNOWN
        reply = Reply(Outcome.REFUSED, _code(error), text, item.signed.tx_hash, item.nonce, cause)
        self._finish(item.transaction, reply)

    def _unknown(self, item: _Signed, error: LighterError) -> None:
        self._nonces.unknown(item.nonce)
        self._stats["unknown"] += 1
        logger.warning("lighter: outcome of {} is unknown: {}", item.transaction.label, error)
        self._finish(item.transaction, Reply(Outcome.UNKNOWN, 0, str(error), item.signed.tx_hash, item.nonce))

    async def _send(self, item: _Signed) -> TxReply:
        signed = item.signed
        if self._socket.connected:
            request_id = f"{self._api_key_index}-{item.order}-{item.nonce}"
            sending = self._socket.send_transaction(request_id, signed.tx_type, signed.tx_info, self._timeout_s)
            return self._taken(await sending)
        try:
            reply = await self._rest.send_transaction(signed.tx_type, signed.tx_info)
        except VenueError as error:
            self._observe(TxReply(error=ErrorBody(error.code, error.message)))
            raise
        return self._taken(reply)

    def _taken(self, reply: TxReply) -> TxReply:
        """Return a reply that says 200.

        Raises:
            VenueError: it says anything else.
        """
        self._observe(reply)
        if reply.error is not None:
            raise VenueError(reply.error.code, reply.error.message)
        if reply.code != CODE_OK:
            raise VenueError(reply.code, reply.message)
        return reply

    async def _resend(self, item: _Signed, error: LighterError) -> None:
        self._stats["resent"] += 1
        logger.info("lighter: {} goes out again: {}", item.transaction.label, error)
        heapq.heappush(self._heap, (item.order, item.transaction))
        await asyncio.sleep(self._retry_pause_s * max(item.transaction.attempts - 1, 0))
        self._ensure_running()

    def _finish(self, transaction: Transaction, reply: Reply) -> None:
        self._finished += 1
        self._notify()
        self._on_outcome(transaction, reply)
        transaction.on_reply(reply)


def _not_executed(error: LighterError) -> bool:
    """Tell whether ``error`` proves that the venue did nothing: a refusal, or nothing left this machine."""
    if isinstance(error, VenueError):
        return outcome_of_code(error.code) is Outcome.REFUSED and error.status < _SERVER_ERROR_STATUS
    return isinstance(error, NotSentError)


def _code(error: LighterError) -> int:
    return error.code if isinstance(error, VenueError) else 0


def _concerns_all(error: LighterError) -> bool:
    """Tell whether a refusal of a batch is of the account or its pace, not of one of the transactions."""
    refusal = refusal_of(_code(error))
    return refusal.is_auth or refusal.cause is Cause.RATE_LIMITED
