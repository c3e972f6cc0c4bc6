"""One message to the venue and its answer: what it says of the transactions in it, and of their nonces.

======================  ====================================================  ===========================
the venue said          what it means                                         what happens here
======================  ====================================================  ===========================
200                     queued; the nonce is consumed                         outcome ACCEPTED
21104 invalid nonce     nothing was executed                                  resync, sign anew, send again
any other error code    nothing was executed, the nonce is free again         outcome REFUSED
nothing left            nothing was executed                                  resync, sign anew, send again
nothing came back       unknown                                               outcome UNKNOWN, resync
======================  ====================================================  ===========================

Only what was provably not executed is sent again: a retried order would be two orders.

Batches. The venue answers for all transactions of a message: 200, or one refusal that does not say whose it is, nor provably
that nothing of the batch was done. So after such a refusal the very same signed transactions go out one by one: none can be
executed twice, because its nonce is consumed by then. An invalid nonce (21104) in that second round means just this, or a
nonce that somebody else took: the outcome is UNKNOWN. Any other refusal leaves its nonce free, which proves that nothing
behind it was done: that is signed anew. So is a batch that stood behind a nonce of ours that was refused (``_hole``). What is
too old by the time it would go out alone stays here, and is UNKNOWN.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from loguru import logger

from qubx_lighter.constants import CODE_OK, Code
from qubx_lighter.errors import LighterError, NotSentError, VenueError
from qubx_lighter.native.key import SignedTx
from qubx_lighter.protocol.codes import Cause, Outcome, cause_of_code, outcome_of_code, refusal_of
from qubx_lighter.protocol.key_watch import KeyWatch
from qubx_lighter.protocol.lineup import Entry
from qubx_lighter.protocol.nonce import NonceSequence
from qubx_lighter.protocol.wire import ErrorBody, TxReply
from qubx_lighter.transactions.transaction import Reply, Rest, Socket, Transaction

_MAX_ATTEMPTS: Final = 5
_ASK_S: Final = 2.0  # whoever waits for the nonces waits for this question too, cancels among them
_SERVER_ERROR_STATUS: Final = 500


@dataclass(slots=True, eq=False)
class Queued(Entry):
    """A transaction from its call to its outcome."""

    transaction: Transaction = field(kw_only=True)
    attempts: int = field(default=0, init=False)
    finished: bool = field(default=False, init=False)


@dataclass(slots=True, eq=False)
class Item:
    """A transaction with a nonce.

    Attributes:
        signing: makes the signature.
        signed: the signature, once there is one.
        failure: why there is none.
        ready: whether there is one or the other.
        open: whether it is still to be decided what becomes of the transaction and its nonce.
        exchanged: whether it was written, perhaps.
    """

    entry: Queued
    nonce: int
    signing: asyncio.Task[None] = field(init=False)
    signed: SignedTx = field(init=False)
    failure: Exception | None = None
    ready: bool = False
    open: bool = True
    exchanged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Whom an exchange tells.

    Attributes:
        answered: takes each answer of the venue, an error too.
        finished: takes the outcome of a transaction.
        returned: takes one that is to be signed anew and sent again.
        ready: called when those that returned may be sent.
        changed: called at the end of an exchange.
    """

    answered: Callable[[TxReply], None]
    finished: Callable[[Queued, Reply], None]
    returned: Callable[[Queued], None]
    ready: Callable[[], None]
    changed: Callable[[], None]


class Exchanges:
    """Carry the signed transactions of one API key, and settle their nonces; used on one loop.

    Args:
        loop: the loop.
        clock: seconds, as in ``Entry.leave_by``.
        socket: the account socket.
        rest: the fallback.
        api_key_index: the key, for the ids of requests.
        ask: asks the venue for the key's next nonce.
        nonces: whose nonces are settled.
        watch: told what was written and what became of it.
        listener: whom to tell.
        stats: counts ``resent`` and ``unknown``.
        timeout_s: how long an answer may take before the outcome is unknown.
        retry_pause_s: pause before a second resend, growing by itself with each further one.

    Attributes:
        out: what was written, perhaps, and has no answer.
        tasks: the exchanges under way, with the pause before a resend.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        socket: Socket,
        rest: Rest,
        api_key_index: int,
        ask: Callable[[], Awaitable[int]],
        nonces: NonceSequence,
        watch: KeyWatch,
        listener: Listener,
        stats: Counter[str],
        timeout_s: float,
        retry_pause_s: float,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._socket = socket
        self._rest = rest
        self._api_key_index = api_key_index
        self._ask = ask
        self._nonces = nonces
        self._watch = watch
        self._listener = listener
        self._stats = stats
        self._timeout_s = timeout_s
        self._retry_pause_s = retry_pause_s
        self._synchronised_at = -1
        self._hole: int | None = None  # some nonce up to this one is free: nothing that has a later one was executed
        self.out: set[Item] = set()
        self.tasks: set[asyncio.Task[None]] = set()

    def synchronised(self, next_nonce: int) -> None:
        """Start, or go on, from what the venue says is next."""
        self._synchronised_at = next_nonce
        self._nonces.synchronise(next_nonce)
        self._hole = None

    def suppose(self) -> bool:
        """Try a number that the venue is likely to expect next, with one transaction; tell whether there is one."""
        if not self._nonces.suppose():
            return False
        self._synchronised_at = -1
        self._hole = None
        return True

    def leave(self, items: Sequence[Item]) -> None:
        """Write transactions as one message, before anything else happens on the loop."""
        for item in items:
            # Behind a refused one every nonce is wrong: only the first after a resync fails by itself.
            item.entry.attempts += item.nonce == self._synchronised_at
            item.exchanged = True
        exchange = self._exchange_one(items[0]) if len(items) == 1 else self._exchange_batch(items)
        task = asyncio.Task(self._guard(items, exchange), loop=self._loop, name="lighter-exchange", eager_start=True)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        for item in items:
            self._watch.written(item.nonce, item.signed.tx_hash)

    def settle(self, item: Item) -> None:
        """Note that it is decided what becomes of a transaction and its nonce."""
        item.open = False
        self.out.discard(item)

    def free(self, item: Item) -> None:
        """Note that a nonce was not consumed: it is given out again, or else it is a hole in front of later ones."""
        self.settle(item)
        self._nonces.refused(item.nonce)
        if self._nonces.needs_sync:
            self._note_hole(item.nonce)

    def unknown(self, item: Item, reason: object) -> None:
        """Note that nobody knows what became of a transaction, and tell so."""
        self.settle(item)
        self._nonces.unknown(item.nonce)
        self._watch.unknown(item.nonce)
        self._stats["unknown"] += 1
        logger.warning("lighter: outcome of {} is unknown: {}", item.entry.transaction.label, reason)
        reply = Reply(Outcome.UNKNOWN, 0, str(reason), item.signed.tx_hash, item.nonce)
        self._listener.finished(item.entry, reply)

    async def _guard(self, items: Sequence[Item], exchange: Coroutine[Any, Any, None]) -> None:
        try:
            await exchange
        except Exception as error:  # noqa: BLE001 - whatever it was, they may have left, and nobody will ever know
            logger.opt(exception=error).error("lighter: the sender met an unexpected error")
            for item in items:
                if item.open:
                    self.unknown(item, f"an unexpected error: {error!r}")

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._listener.changed()

    # --- the answers -------------------------------------------------------------------------------------------------

    async def _exchange_one(self, item: Item) -> None:
        try:
            reply = await self._send(item)
        except LighterError as error:
            if not _not_executed(error):
                self.unknown(item, error)
                return
            code = _code(error)
            # What could not be written is its own failure, whichever nonce it had.
            item.entry.attempts += code == 0 and item.nonce != self._synchronised_at
            if code in (0, Code.INVALID_NONCE):
                await self._resend([item], error)
            else:
                self._refused(item, error)
        else:
            self._accepted(item, reply, reply.tx_hash)

    async def _exchange_batch(self, batch: Sequence[Item]) -> None:
        first = batch[0]
        request_id = f"{self._api_key_index}-{first.entry.number}-{first.nonce}-{len(batch)}"
        types, infos = [item.signed.tx_type for item in batch], [item.signed.tx_info for item in batch]
        try:
            sending = self._socket.send_transactions(request_id, types, infos, self._timeout_s)
            reply = self._taken(await sending)
        except LighterError as error:
            if not _not_executed(error):
                for item in batch:
                    self.unknown(item, error)
            elif _code(error) == 0 or (_code(error) == Code.INVALID_NONCE and self._is_behind_a_hole(first)):
                for item in batch:
                    item.entry.attempts += _code(error) == 0 and item.nonce != self._synchronised_at
                await self._resend(batch, error)
            elif _concerns_all(error):
                for item in reversed(batch):
                    self.free(item)
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

    async def _one_by_one(self, batch: Sequence[Item]) -> None:
        """Send the transactions of a refused batch again, byte for byte the same."""
        for number, item in enumerate(batch):
            if item.entry.leave_by <= self._clock():
                self.unknown(item, "too old to go out alone, after a refusal of its batch")
                continue
            try:
                reply = await self._send(item)
            except LighterError as error:
                if not _not_executed(error) or _code(error) in (0, Code.INVALID_NONCE):
                    self.unknown(item, error)
                    continue
                await self._go_on_behind(batch[number:], error)
                return
            self._accepted(item, reply, reply.tx_hash)

    async def _go_on_behind(self, items: Sequence[Item], error: LighterError) -> None:
        """Have what is behind a transaction that was refused alone signed anew, but for what the venue did of the batch.

        It may look at something else before the nonce, so that a refusal does not prove that nothing was done; the next nonce does.
        """
        try:
            async with asyncio.timeout(_ASK_S):
                next_nonce = await self._ask()
        except (LighterError, TimeoutError) as failure:
            for item in items:
                self.unknown(item, f"the venue said {error}, and not what it did of the batch: {failure!r}")
            return
        done = [item for item in items if item.nonce < next_nonce]
        for item in done:
            self.unknown(item, f"the venue said {error}, and took its nonce")
        if not done:
            self._refused(items[0], error)
        if behind := items[len(done) or 1 :]:
            await self._resend(behind, error)

    async def _send(self, item: Item) -> TxReply:
        signed = item.signed
        if self._socket.connected:
            request_id = f"{self._api_key_index}-{item.entry.number}-{item.nonce}"
            timeout = self._timeout_s
            return self._taken(await self._socket.send_transaction(request_id, signed.tx_type, signed.tx_info, timeout))
        try:
            reply = await self._rest.send_transaction(signed.tx_type, signed.tx_info)
        except VenueError as error:
            self._listener.answered(TxReply(error=ErrorBody(error.code, error.message)))
            raise
        return self._taken(reply)

    def _taken(self, reply: TxReply) -> TxReply:
        """Return a reply that says 200.

        Raises:
            VenueError: it says anything else.
        """
        self._listener.answered(reply)
        if reply.error is not None:
            raise VenueError(reply.error.code, reply.error.message)
        if reply.code != CODE_OK:
            raise VenueError(reply.code, reply.message)
        return reply

    async def _resend(self, items: Sequence[Item], error: LighterError) -> None:
        """Have transactions signed anew that provably were not executed, those that may be tried again."""
        for item in reversed(items):
            self.free(item)
        if _code(error) == Code.INVALID_NONCE:
            self._nonces.invalidate(items[0].nonce)
        again = [item.entry for item in items if item.entry.attempts < _MAX_ATTEMPTS]
        for item in items:
            if item.entry.attempts >= _MAX_ATTEMPTS:
                self._refused(item, error)
            else:
                logger.info("lighter: {} goes out again: {}", item.entry.transaction.label, error)
                self._listener.returned(item.entry)
        if again:
            self._stats["resent"] += len(again)
            await asyncio.sleep(self._retry_pause_s * max(again[0].attempts - 1, 0))
            self._listener.ready()

    # --- what becomes of a nonce and its transaction -----------------------------------------------------------------

    def _accepted(self, item: Item, reply: TxReply, tx_hash: str | list[str]) -> None:
        self.settle(item)
        self._nonces.accepted(item.nonce)
        told = tx_hash if isinstance(tx_hash, str) else ""
        self._watch.accepted(item.nonce, told)
        self._listener.finished(
            item.entry,
            Reply(Outcome.ACCEPTED, CODE_OK, reply.message, told or item.signed.tx_hash, item.nonce),
        )

    def _refused(self, item: Item, error: LighterError) -> None:
        if item.open:
            self.free(item)
        text = error.message if isinstance(error, VenueError) else str(error)
        code = _code(error)
        cause = cause_of_code(code) if code else Cause.UNKNOWN
        self._listener.finished(item.entry, Reply(Outcome.REFUSED, code, text, item.signed.tx_hash, item.nonce, cause))

    def _is_behind_a_hole(self, item: Item) -> bool:
        return self._hole is not None and item.nonce > self._hole

    def _note_hole(self, nonce: int) -> None:
        self._hole = nonce if self._hole is None else min(self._hole, nonce)


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
