"""The transactions of one API key: nonces in order, signatures ahead of the wire, exactly one outcome each.

Theory of operation. Three things run side by side on the loop:

* ``_dispatch`` takes who is next in line once the budget has room, a nonce is to be had and few enough are ahead, gives it its
  nonce and has it signed; as many signatures as the signer has workers are made at a time.
* ``_write`` takes what is signed in the order of the nonces, writes it and goes on without waiting for the answer.
* One exchange for each message waits for the answer, which decides:

======================  ====================================================  ===========================
the venue said          what it means                                         what happens here
======================  ====================================================  ===========================
200                     queued; the nonce is consumed                         outcome ACCEPTED
21104 invalid nonce     nothing was executed                                  resync, sign anew, send again
any other error code    nothing was executed, the nonce is free again         outcome REFUSED
nothing left            nothing was executed                                  resync, sign anew, send again
nothing came back       unknown                                               outcome UNKNOWN, resync
======================  ====================================================  ===========================

Only what was provably not executed is sent again: a retried order would be two orders. What is signed behind a nonce that
turns out to be free or in doubt is never written: it goes back into line. A resync asks the venue for its next nonce and
waits until nothing is under way, since an answer still to come would make that number wrong.
Without a socket transactions go over REST, one at a time, by the same rules.

Batches. What waits together may leave as one message, with consecutive nonces. The venue answers for all of them: 200, or
one refusal that does not say whose it is, nor provably that nothing of the batch was done. So after such a refusal the very
same signed transactions go out one by one: none can be executed twice, because its nonce is consumed by then. An invalid
nonce (21104) in that second round means just this, or a nonce that somebody else took: the outcome is UNKNOWN. Any other
refusal leaves its nonce free, which proves that nothing behind it was done: that is signed anew. So is a batch that stood
behind a nonce of ours that was refused (``_hole``).

Mistakes, ours or a callback's, end in an outcome too: one that has left is UNKNOWN, one that has not is REFUSED.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from loguru import logger

from qubx_lighter.admission import Admission
from qubx_lighter.constants import CODE_OK, Code
from qubx_lighter.errors import LighterError, NotSentError, RateLimitedError, VenueError
from qubx_lighter.protocol.codes import Cause, Outcome, cause_of_code, outcome_of_code, refusal_of
from qubx_lighter.protocol.key_watch import KeyWatch
from qubx_lighter.protocol.lineup import Entry, Lineup
from qubx_lighter.protocol.nonce import NonceSequence
from qubx_lighter.protocol.wire import ErrorBody, TxReply, TxRow
from qubx_lighter.signer import SignedTx, Signer
from qubx_lighter.transaction import Gate, Reply, Rest, Sent, Socket, Transaction

_MAX_ATTEMPTS: Final = 5
_SERVER_ERROR_STATUS: Final = 500
_NONCE_WINDOW: Final = 16  # of single transactions; what is behind a refused one has to go out again
_BATCHES_UNDER_WAY: Final = 3
_COUNTERS: Final = ("transactions", "resyncs", "resent", "unknown", "withdrawn", "over_rest", "batches")
_WITHDRAWN: Final = Reply(Outcome.REFUSED, message="cancelled before it was sent", withdrawn=True)


@dataclass(slots=True, eq=False)
class Queued(Entry):
    """A transaction from its call to its outcome."""

    transaction: Transaction = field(kw_only=True)
    attempts: int = field(default=0, init=False)
    finished: bool = field(default=False, init=False)


@dataclass(slots=True, eq=False)
class _Item:
    """A transaction with a nonce; ``open`` until it is decided what becomes of both."""

    entry: Queued
    nonce: int
    signing: asyncio.Task[SignedTx]
    open: bool = True
    exchanged: bool = False

    @property
    def signed(self) -> SignedTx:
        return self.signing.result()


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSettings:
    """What all lanes of a sender share.

    Attributes:
        timeout_s: how long an answer may take before the outcome is unknown.
        retry_pause_s: pause before a second resend, growing by itself with each further one.
        batch_size: how many may leave as one message.
    """

    timeout_s: float
    retry_pause_s: float
    batch_size: int


class Lane:
    """Send the transactions of one API key in order; used on one loop.

    Args:
        loop: the loop.
        socket: the account socket.
        rest: the REST client, for nonces and as the fallback.
        signer: the key.
        settings: times and sizes.
        gate: the budget, or None.
        on_outcome: told of every outcome, before the transaction's own listener.
        on_stranger: called with the evidence, once, when somebody else signs with this key.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        socket: Socket,
        rest: Rest,
        signer: Signer,
        settings: LaneSettings,
        gate: Gate | None,
        on_outcome: Callable[[Transaction, Reply], None],
        on_stranger: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._socket = socket
        self._rest = rest
        self._signer = signer
        self._settings = settings
        self._on_outcome = on_outcome
        self._on_stranger = on_stranger
        self._nonces = NonceSequence(window=max(_NONCE_WINDOW, _BATCHES_UNDER_WAY * settings.batch_size))
        self._synchronised_at = -1
        self._hole: int | None = None  # some nonce up to this one is free: nothing that has a later one was executed
        self._watch = KeyWatch()
        self._met_stranger = False
        self._lineup: Lineup[Queued] = Lineup()
        self._admission: Admission[Queued] = Admission(
            loop=loop, gate=gate, patience_s=settings.timeout_s, on_change=self._notify, on_refused=self._no_room
        )
        self._ahead: deque[list[_Item]] = deque()  # have nonces, are being signed, and are not written
        self._out: set[_Item] = set()  # written, perhaps
        self._exchanges: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._dispatching = self._writing = False
        self._tasks: set[asyncio.Task[None]] = set()  # of those two
        self._closed = False
        self._stats: Counter[str] = Counter()

    @property
    def api_key_index(self) -> int:
        """Whose lane it is."""
        return self._signer.api_key_index

    @property
    def load(self) -> int:
        """How many transactions have no outcome yet."""
        return len(self._lineup) + sum(map(len, self._ahead)) + len(self._out)

    def holds(self, order_id: str) -> bool:
        """Tell whether a transaction of an order is under way here."""
        return self._lineup.holds(order_id)

    def put(self, entry: Queued) -> None:
        """Take one into the line."""
        if self._closed:
            self._finish(entry, Reply(Outcome.REFUSED, message="not sent: closed"))
            return
        self._withdraw(self._lineup.put(entry))
        self._notify()
        self._ensure_running()

    def sweep(self, before: int, market_id: int | None) -> None:
        """End what a cancel-all makes pointless: creates and amends that were asked for before it and have not left."""
        self._withdraw(self._lineup.sweep(before, market_id))

    def observe(self, row: TxRow, nonce: int) -> None:
        """Take a transaction of this key from the account's stream."""
        if not self._met_stranger and self._watch.is_strange(nonce, row.hash):
            self._meet_stranger(f"the account's stream shows a transaction of type {row.type} with nonce {nonce}")

    def stats(self) -> dict[str, int]:
        """Count what happened since the start."""
        now = {"queued": len(self._lineup), "in_flight": len(self._out)}
        return dict.fromkeys(_COUNTERS, 0) | self._stats | now

    async def close(self) -> None:
        """Stop sending: what has left is UNKNOWN without an answer, what has not is REFUSED."""
        self._closed = True
        signing = [item.signing for group in self._ahead for item in group]
        tasks: list[asyncio.Task[Any]] = [*self._tasks, *self._exchanges, *signing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, self._admission.close(), return_exceptions=True)
        for item in list(self._out):
            self._unknown(item, "closed before the answer came")
        self._give_up("closed")

    # --- who is next -------------------------------------------------------------------------------------------------

    def _ensure_running(self) -> None:
        if not self._dispatching and self._lineup:
            self._dispatching = True
            # What arrives together is to find each other in line, where it may leave together.
            self._supervise(self._dispatch(), at_once=self._settings.batch_size == 1)
        if not self._writing and self._ahead:
            self._writing = True
            self._supervise(self._write())

    async def _dispatch(self) -> None:
        try:
            await self._dispatch_all()
        finally:
            self._dispatching = False

    async def _dispatch_all(self) -> None:
        while self._lineup:
            head = self._lineup.first(self._settings.batch_size if self._socket.connected else 1)
            group = self._admission.admitted(head)
            if not group or not self._has_room():
                await self._wait()
            elif self._nonces.needs_sync:
                await self._synchronise()
            elif group := group[: self._nonces.room]:
                self._take(group)
            else:
                await self._wait()

    def _has_room(self) -> bool:
        """Tell whether more may be signed; over REST the order of arrival is only sure one at a time."""
        if not self._socket.connected and (self._exchanges or self._ahead):
            return False
        return sum(map(len, self._ahead)) < self._signer.workers

    def _take(self, group: Sequence[Queued]) -> None:
        self._lineup.take(group)
        self._admission.left(group)
        items = []
        for entry in group:
            nonce = self._nonces.allocate()
            items.append(_Item(entry, nonce, self._run(self._sign(entry, nonce), _retrieved)))
        self._ahead.append(items)
        self._ensure_running()

    async def _sign(self, entry: Queued, nonce: int) -> SignedTx:
        return await entry.transaction.sign(self._signer, nonce)

    async def _synchronise(self) -> None:
        """Ask for the next nonce, once nothing is under way that may change it."""
        if self._exchanges or self._nonces.outstanding:
            await self._wait()
            return
        self._stats["resyncs"] += 1
        try:
            next_nonce = await self._rest.next_nonce(self._signer.account_index, self.api_key_index)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing can be sent
            logger.warning("lighter: {} transactions were not sent: no nonce: {}", len(self._lineup), error)
            self._give_up(str(error), getattr(error, "code", 0))
            return
        if self._watch.synchronised(next_nonce):
            self._meet_stranger(
                f"the venue's next nonce, {next_nonce}, counts transactions that this process never sent"
            )
        self._synchronised_at = next_nonce
        self._nonces.synchronise(next_nonce)
        self._hole = None

    # --- the wire ----------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        try:
            await self._write_all()
        finally:
            self._writing = False

    async def _write_all(self) -> None:
        while self._ahead:
            group = self._ahead[0]
            await asyncio.wait([item.signing for item in group])
            ready = 0
            while ready < len(group) and not self._nonces.needs_sync and _may_leave(group[ready]):
                ready += 1
            self._ahead.popleft()
            if ready < len(group):
                behind = [item for later in self._ahead for item in later]
                self._ahead.clear()
                self._take_back([*group[ready:], *behind])
            self._out.update(group[:ready])
            if ready:
                await self._send_off(group[:ready])
            self._notify()

    def _take_back(self, items: Sequence[_Item]) -> None:
        """Undo that these got nonces: whose signature failed is refused, the others go back into line."""
        for item in reversed(items):
            self._settle(item)
            self._nonces.refused(item.nonce)
        for item in items:
            if item.signing.done() and (error := item.signing.exception()) is not None:
                logger.warning("lighter: {} was not signed: {}", item.entry.transaction.label, error)
                self._finish(item.entry, Reply(Outcome.REFUSED, 0, str(error), "", item.nonce))
            else:
                self._admission.stayed([item.entry])
                self._withdraw(self._lineup.put(item.entry))
        self._ensure_running()

    async def _send_off(self, group: list[_Item]) -> None:
        if len(group) > 1 and self._socket.connected:
            self._stats["batches"] += 1
            for item in group:
                self._leaves(item)
            self._exchange(group, self._exchange_batch(group))
            return
        for number, item in enumerate(group):
            if number and self._nonces.needs_sync:
                self._take_back(group[number:])
                return
            self._leaves(item)
            task = self._exchange([item], self._exchange_one(item))
            if not self._socket.connected:
                self._stats["over_rest"] += 1
                await asyncio.wait({task})

    def _leaves(self, item: _Item) -> None:
        entry, signed = item.entry, item.signed
        # Behind a refused one every nonce is wrong: only the first after a resync fails by itself.
        entry.attempts += item.nonce == self._synchronised_at
        self._watch.written(item.nonce, signed.tx_hash)
        self._stats["transactions"] += 1
        if entry.transaction.on_sent is not None:
            self._call(entry, entry.transaction.on_sent, Sent(signed.tx_hash, item.nonce, self.api_key_index))

    def _exchange(self, items: list[_Item], exchange: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        def ended(task: asyncio.Task[None]) -> None:
            self._exchanges.discard(task)
            if not task.cancelled():
                for item in items:
                    if item.open:  # it may have left, and nobody will ever know
                        self._unknown(item, f"an unexpected error: {task.exception()!r}")
            self._notify()

        task = self._run(exchange, ended)
        self._exchanges.add(task)
        for item in items:
            item.exchanged = True
        return task

    # --- the answers -------------------------------------------------------------------------------------------------

    async def _exchange_one(self, item: _Item) -> None:
        try:
            reply = await self._send(item)
        except LighterError as error:
            if not _not_executed(error):
                self._unknown(item, error)
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

    async def _exchange_batch(self, batch: list[_Item]) -> None:
        first = batch[0]
        request_id = f"{self.api_key_index}-{first.entry.number}-{first.nonce}-{len(batch)}"
        types, infos = [item.signed.tx_type for item in batch], [item.signed.tx_info for item in batch]
        try:
            sending = self._socket.send_transactions(request_id, types, infos, self._settings.timeout_s)
            reply = self._taken(await sending)
        except LighterError as error:
            if not _not_executed(error):
                for item in batch:
                    self._unknown(item, error)
            elif _code(error) == 0 or (_code(error) == Code.INVALID_NONCE and self._is_behind_a_hole(first)):
                for item in batch:
                    item.entry.attempts += _code(error) == 0 and item.nonce != self._synchronised_at
                await self._resend(batch, error)
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

    async def _one_by_one(self, batch: list[_Item]) -> None:
        """Send the transactions of a refused batch again, byte for byte the same."""
        for number, item in enumerate(batch):
            try:
                reply = await self._send(item)
            except LighterError as error:
                if not _not_executed(error) or _code(error) in (0, Code.INVALID_NONCE):
                    self._unknown(item, error)
                    continue
                self._refused(item, error)
                await self._resend(batch[number + 1 :], error)
                return
            self._accepted(item, reply, reply.tx_hash)

    async def _send(self, item: _Item) -> TxReply:
        signed = item.signed
        if self._socket.connected:
            request_id = f"{self.api_key_index}-{item.entry.number}-{item.nonce}"
            timeout = self._settings.timeout_s
            return self._taken(await self._socket.send_transaction(request_id, signed.tx_type, signed.tx_info, timeout))
        try:
            reply = await self._rest.send_transaction(signed.tx_type, signed.tx_info)
        except VenueError as error:
            self._admission.observe(TxReply(error=ErrorBody(error.code, error.message)))
            raise
        return self._taken(reply)

    def _taken(self, reply: TxReply) -> TxReply:
        """Return a reply that says 200.

        Raises:
            VenueError: it says anything else.
        """
        self._admission.observe(reply)
        if reply.error is not None:
            raise VenueError(reply.error.code, reply.error.message)
        if reply.code != CODE_OK:
            raise VenueError(reply.code, reply.message)
        return reply

    async def _resend(self, items: Sequence[_Item], error: LighterError) -> None:
        """Have transactions signed anew that provably were not executed, those that may be tried again."""
        for item in reversed(items):
            self._free(item)
        if _code(error) == Code.INVALID_NONCE:
            self._nonces.invalidate()
        again = [item.entry for item in items if item.entry.attempts < _MAX_ATTEMPTS]
        for item in items:
            if item.entry.attempts >= _MAX_ATTEMPTS:
                self._refused(item, error)
            else:
                logger.info("lighter: {} goes out again: {}", item.entry.transaction.label, error)
                self._withdraw(self._lineup.put(item.entry))
        if again:
            self._stats["resent"] += len(again)
            await asyncio.sleep(self._settings.retry_pause_s * max(again[0].attempts - 1, 0))
            self._ensure_running()

    # --- what becomes of a nonce and its transaction -----------------------------------------------------------------

    def _accepted(self, item: _Item, reply: TxReply, tx_hash: str | list[str]) -> None:
        self._settle(item)
        self._nonces.accepted(item.nonce)
        told = tx_hash if isinstance(tx_hash, str) else ""
        self._watch.accepted(item.nonce, told)
        self._finish(
            item.entry,
            Reply(Outcome.ACCEPTED, CODE_OK, reply.message, told or item.signed.tx_hash, item.nonce),
        )

    def _refused(self, item: _Item, error: LighterError) -> None:
        if item.open:
            self._free(item)
        text = error.message if isinstance(error, VenueError) else str(error)
        code = _code(error)
        cause = cause_of_code(code) if code else Cause.UNKNOWN
        self._finish(item.entry, Reply(Outcome.REFUSED, code, text, item.signed.tx_hash, item.nonce, cause))

    def _unknown(self, item: _Item, reason: object) -> None:
        self._settle(item)
        self._nonces.unknown(item.nonce)
        self._watch.unknown(item.nonce)
        self._stats["unknown"] += 1
        logger.warning("lighter: outcome of {} is unknown: {}", item.entry.transaction.label, reason)
        self._finish(item.entry, Reply(Outcome.UNKNOWN, 0, str(reason), item.signed.tx_hash, item.nonce))

    def _free(self, item: _Item) -> None:
        """Note that a nonce was not consumed: it is given out again, or else it is a hole in front of later ones."""
        self._settle(item)
        self._nonces.refused(item.nonce)
        if self._nonces.needs_sync:
            self._note_hole(item.nonce)

    def _settle(self, item: _Item) -> None:
        item.open = False
        self._out.discard(item)

    def _is_behind_a_hole(self, item: _Item) -> bool:
        return self._hole is not None and item.nonce > self._hole

    def _note_hole(self, nonce: int) -> None:
        self._hole = nonce if self._hole is None else min(self._hole, nonce)

    # --- outcomes ----------------------------------------------------------------------------------------------------

    def _finish(self, entry: Queued, reply: Reply) -> None:
        if entry.finished:
            logger.error("lighter: {} has an outcome already, not {}", entry.transaction.label, reply)
            return
        entry.finished = True
        self._lineup.done(entry)
        self._admission.forget(entry)
        self._notify()
        self._call(entry, partial(self._on_outcome, entry.transaction), reply)
        self._call(entry, entry.transaction.on_reply, reply)

    def _withdraw(self, ended: Iterable[Queued]) -> None:
        for entry in ended:
            self._stats["withdrawn"] += 1
            self._finish(entry, _WITHDRAWN)

    def _no_room(self, entry: Queued, error: RateLimitedError) -> None:
        logger.warning("lighter: {} was not sent: {}", entry.transaction.label, error)
        self._finish(entry, Reply(Outcome.REFUSED, 0, f"not sent: {error}", cause=Cause.RATE_LIMITED))

    def _give_up(self, reason: str, code: int = 0) -> None:
        """Refuse all that have not left."""
        behind = [item for item in self._out if not item.exchanged] + [item for group in self._ahead for item in group]
        self._ahead.clear()
        for item in sorted(behind, key=lambda item: -item.nonce):
            self._free(item)
        cause = cause_of_code(code) if code else Cause.UNKNOWN
        for entry in sorted([item.entry for item in behind] + self._lineup.clear(), key=lambda entry: entry.number):
            self._finish(entry, Reply(Outcome.REFUSED, code, f"not sent: {reason}", cause=cause))

    def _meet_stranger(self, evidence: str) -> None:
        if not self._met_stranger:
            self._met_stranger = True
            self._on_stranger(evidence)

    def _call[T](self, entry: Queued, callback: Callable[[T], None], told: T) -> None:
        try:
            callback(told)
        except Exception as error:  # noqa: BLE001 - whoever listens, the transactions behind it go on
            logger.opt(exception=error).error("lighter: who was told of {} failed", entry.transaction.label)

    # --- tasks -------------------------------------------------------------------------------------------------------

    def _run[T](
        self, work: Coroutine[Any, Any, T], ended: Callable[[asyncio.Task[T]], None], *, at_once: bool = True
    ) -> asyncio.Task[T]:
        """Run beside; up to its first wait ``at_once``, which saves an order several turns of the loop."""
        task = asyncio.Task(work, loop=self._loop, name=f"lighter-sender-{self.api_key_index}", eager_start=at_once)
        task.add_done_callback(ended)
        return task

    def _supervise(self, work: Coroutine[Any, Any, None], *, at_once: bool = True) -> None:
        self._tasks.add(self._run(work, self._go_on, at_once=at_once))

    def _go_on(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._closed or task.cancelled():
            return
        if (error := task.exception()) is not None:
            logger.opt(exception=error).error("lighter: the sender met an unexpected error")
            self._give_up(f"an unexpected error: {error!r}")
        self._ensure_running()

    def _notify(self) -> None:
        self._changed.set()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def _retrieved(task: asyncio.Task[Any]) -> None:
    """Take note of an exception that nobody may ask for any more."""
    if not task.cancelled():
        task.exception()


def _may_leave(item: _Item) -> bool:
    """Tell whether a transaction is signed and still wanted."""
    return not item.entry.unwanted and not item.signing.cancelled() and item.signing.exception() is None


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
