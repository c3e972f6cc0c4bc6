"""The transactions of one API key: nonces in order, signatures ahead of the wire, exactly one outcome each.

Theory of operation. Three things happen side by side on the loop:

* ``_advance``, called whenever something may have changed that, takes who is next in line once the budget has room, a nonce is to be had and few
  enough are ahead, gives it its nonce and has it signed; as many signatures as the signer has workers are made at a time.
* ``_write``, called with each signature, writes what is signed in the order of the nonces and waits for no answer.
* One exchange for each message waits for the answer (``exchange``), and settles nonces and outcomes.

What waits together may leave as one message, with consecutive nonces. What is signed behind a nonce that turns out to be free
or in doubt is never written: it goes back into line. A resync asks the venue for its next nonce and waits until nothing is
under way, since an answer still to come would make that number wrong. Where the answer does not come soon although the socket is
well, a cancel, and nothing else, tries the likeliest number (``protocol.nonce``): what the venue calls invalid it did not do,
and what it takes proves the number for all. Without a socket transactions go over REST, one at a
time, by the same rules.

What is too old is never written: each transaction has a time to leave by, which is looked at when it gets its nonce and when
it is signed. It ends as REFUSED.

Mistakes, ours or a callback's, end in an outcome too: one that has left is UNKNOWN, one that has not is REFUSED.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Final

from loguru import logger

from qubx_lighter.errors import RateLimitedError
from qubx_lighter.protocol.codes import Cause, Outcome, cause_of_code
from qubx_lighter.protocol.key_watch import KeyWatch
from qubx_lighter.protocol.lineup import Lineup, Priority
from qubx_lighter.protocol.nonce import NonceSequence
from qubx_lighter.protocol.wire import TxRow
from qubx_lighter.signer import Signer
from qubx_lighter.transactions.admission import Admission
from qubx_lighter.transactions.exchange import Exchanges, Item, Listener, Queued
from qubx_lighter.transactions.resync import Resync, is_rate_limit, may_pass
from qubx_lighter.transactions.transaction import Gate, Reply, Rest, Sent, Socket

_NONCE_WINDOW: Final = 16  # of single transactions; what is behind a refused one has to go out again
_BATCHES_UNDER_WAY: Final = 3
_COUNTERS: Final = ("transactions", "resyncs", "resent", "unknown", "withdrawn", "over_rest", "batches", "supposed")
_is_ready: Final = attrgetter("ready")
_WITHDRAWN: Final = Reply(Outcome.REFUSED, message="cancelled before it was sent", withdrawn=True)


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
        clock: seconds, as in ``Entry.leave_by``.
        socket: the account socket.
        rest: the REST client, for nonces and as the fallback.
        signer: the key.
        settings: times and sizes.
        gate: the budget, or None.
        on_outcome: told of every outcome, with when it was asked for, before the transaction's own listener.
        on_stranger: called with the evidence, once, when somebody else signs with this key.

    Attributes:
        api_key_index: whose lane it is.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        socket: Socket,
        rest: Rest,
        signer: Signer,
        settings: LaneSettings,
        gate: Gate | None,
        on_outcome: Callable[[float, Reply], None],
        on_stranger: Callable[[str], None],
    ) -> None:
        self.api_key_index: Final = signer.api_key_index
        self._loop = loop
        self._clock = clock
        self._socket = socket
        self._signer = signer
        self._settings = settings
        self._on_outcome = on_outcome
        self._on_stranger = on_stranger
        self._nonces = NonceSequence(window=max(_NONCE_WINDOW, _BATCHES_UNDER_WAY * settings.batch_size))
        self._watch = KeyWatch()
        self._met_stranger = False
        self._lineup: Lineup[Queued] = Lineup()
        self._admission: Admission[Queued] = Admission(
            loop=loop,
            clock=clock,
            gate=gate,
            patience_s=settings.timeout_s,
            on_change=self._notify,
            on_refused=self._no_room,
        )
        ask = partial(rest.next_nonce, signer.account_index, signer.api_key_index)
        self._resync = Resync(loop=loop, ask=ask, on_change=self._notify)
        self._ahead: deque[list[Item]] = deque()  # have nonces, are being signed, and are not written
        self._signings = f"lighter-sender-{signer.api_key_index}"
        self._stuck = False  # whether somebody in line waits for a change
        self._soon: asyncio.Handle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._closed = False
        self._stats: Counter[str] = Counter()
        self._exchanges = Exchanges(
            loop=loop,
            clock=clock,
            socket=socket,
            rest=rest,
            api_key_index=signer.api_key_index,
            ask=ask,
            nonces=self._nonces,
            watch=self._watch,
            listener=Listener(
                answered=self._admission.observe,
                finished=self._finish,
                returned=self._return,
                ready=self._go_on,
                changed=self._notify,
            ),
            stats=self._stats,
            timeout_s=settings.timeout_s,
            retry_pause_s=settings.retry_pause_s,
        )

    @property
    def load(self) -> int:
        """How many transactions have no outcome yet."""
        return len(self._lineup) + sum(map(len, self._ahead)) + len(self._exchanges.out)

    def holds(self, order_id: str) -> bool:
        """Tell whether a transaction of an order is under way here."""
        return self._lineup.holds(order_id)

    def put(self, entry: Queued) -> None:
        """Take one into the line."""
        if self._closed:
            self._finish(entry, Reply(Outcome.REFUSED, message="not sent: closed"))
            return
        self._withdraw(self._lineup.put(entry))
        if self._settings.batch_size == 1:
            self._advance()
        else:  # what arrives together is to find each other in line, where it may leave together
            self._go_on()

    def sweep(self, before: int, market_id: int | None) -> None:
        """End what a cancel-all makes pointless: creates and amends that were asked for before it and have not left."""
        self._withdraw(self._lineup.sweep(before, market_id))

    def observe(self, row: TxRow, nonce: int) -> None:
        """Take a transaction of this key from the account's stream."""
        if not self._met_stranger and self._watch.is_strange(nonce, row.hash):
            self._meet_stranger(f"the account's stream shows a transaction of type {row.type} with nonce {nonce}")

    def stats(self) -> dict[str, int]:
        """Count what happened since the start."""
        now = {"queued": len(self._lineup), "in_flight": len(self._exchanges.out)}
        return dict.fromkeys(_COUNTERS, 0) | self._stats | now

    async def close(self) -> None:
        """Stop sending: what has left is UNKNOWN without an answer, what has not is REFUSED."""
        self._closed = True
        self._rest()
        tasks = [*self._exchanges.tasks, *(item.signing for group in self._ahead for item in group)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, self._admission.close(), self._resync.close(), return_exceptions=True)
        for item in list(self._exchanges.out):
            self._exchanges.unknown(item, "closed before the answer came")
        self._give_up("closed")

    # --- who is next -------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Advance soon."""
        if self._soon is None and not self._closed:
            self._soon = self._loop.call_soon(self._advance)

    def _notify(self) -> None:
        """Advance soon if that is what somebody waits for."""
        if self._stuck:
            self._go_on()

    def _rest(self) -> None:
        """Advance no more until the next call."""
        self._stuck = False
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _advance(self) -> None:
        """Take all that can go; the rest waits for news, or until it is too old."""
        self._rest()
        try:
            while self._first() and self._step():
                pass
        except Exception as error:  # noqa: BLE001 - whatever it was, nobody is to wait in vain
            self._stumbled(error)
        if self._lineup and not self._closed:
            self._stuck = True
            self._alarm = self._loop.call_later(max(0.0, self._lineup.due - self._clock()), self._advance)

    def _step(self) -> bool:
        """Do the next thing; False where it needs a change."""
        head = self._lineup.first(self._settings.batch_size if self._socket.connected else 1)
        group = self._admission.admitted(head)
        if not group or not self._has_room():
            return False
        if self._nonces.needs_sync:
            return self._synchronise(head)
        group = group[: self._nonces.room]
        if group:
            self._take(group)
        return bool(group)

    def _first(self) -> bool:
        """Refuse those in line that are too old; tell whether anybody is left."""
        now = self._clock()
        if self._lineup.due <= now:
            reason = "no nonce" if self._nonces.needs_sync else "no room"
            for entry in self._lineup.end_late(now):
                text = f"not sent: {reason} for {now - entry.asked_at:.0f} s"
                logger.warning("lighter: {} was {}", entry.transaction.label, text)
                self._finish(entry, Reply(Outcome.REFUSED, 0, text, cause=Cause.RATE_LIMITED))
        return bool(self._lineup)

    def _has_room(self) -> bool:
        """Tell whether more may be signed; over REST the order of arrival is only sure one at a time."""
        if not self._socket.connected and (self._exchanges.tasks or self._ahead):
            return False
        return sum(map(len, self._ahead)) < self._signer.workers

    def _take(self, group: Sequence[Queued]) -> None:
        self._lineup.take(group)
        self._admission.left(group)
        items = [Item(entry, self._nonces.allocate()) for entry in group]
        self._ahead.append(items)
        for item in items:
            # At once, up to its first wait, and on from there to the wire: that saves an order several turns of the loop.
            item.signing = asyncio.Task(self._sign(item), loop=self._loop, name=self._signings, eager_start=True)

    def _synchronise(self, head: Sequence[Queued]) -> bool:
        """Ask for the next nonce, once nothing is under way that may change it; a cancel does not wait long for the answer."""
        if self._exchanges.tasks or self._nonces.outstanding:
            return False
        try:
            next_nonce = self._resync.take(self._nonces.consumed)
        except Exception as error:  # noqa: BLE001 - whatever it is, no order can be sent
            self._not_told(error)
            return True
        if next_nonce is None:
            self._stats["resyncs"] += self._resync.ask()
            if not self._may_suppose(head[0]) or not self._exchanges.suppose():
                return False
            self._stats["supposed"] += 1
            self._take(head[:1])
            return True
        if self._watch.synchronised(next_nonce):
            self._meet_stranger(
                f"the venue's next nonce, {next_nonce}, counts transactions that this process never sent"
            )
        self._exchanges.synchronised(next_nonce)
        return True

    def _may_suppose(self, first: Queued) -> bool:
        return first.priority is Priority.CANCEL and self._socket.connected and self._resync.is_late

    def _not_told(self, error: Exception) -> None:
        """Refuse what waits for a nonce that nobody tells; what the rate limit holds up waits, and cancels where they can."""
        logger.warning("lighter: the venue does not tell the next nonce: {}", error)
        if not may_pass(error):
            self._resync.hurry()
            self._give_up(str(error), getattr(error, "code", 0))
            return
        if is_rate_limit(error):
            return
        for entry in self._lineup.clear(spare=Priority.CANCEL):
            self._finish(entry, Reply(Outcome.REFUSED, 0, f"not sent: no nonce: {error}", cause=Cause.RATE_LIMITED))
        if not self._lineup:
            self._resync.hurry()

    # --- the wire ----------------------------------------------------------------------------------------------------

    async def _sign(self, item: Item) -> None:
        try:
            item.signed = await item.entry.transaction.sign(self._signer, item.nonce)
        except Exception as error:  # noqa: BLE001 - whatever it was, this one is refused
            item.failure = error
        item.ready = True
        try:
            if not self._closed:
                self._write()
        except Exception as error:  # noqa: BLE001 - whatever it was, nobody is to wait in vain
            self._stumbled(error)

    def _write(self) -> None:
        while self._ahead and all(map(_is_ready, self._ahead[0])):
            group = self._ahead.popleft()
            ready = 0
            while ready < len(group) and not self._nonces.needs_sync and self._may_leave(group[ready]):
                ready += 1
            if ready:
                self._send_off(group[:ready])
            if ready < len(group):
                behind = [item for later in self._ahead for item in later]
                self._ahead.clear()
                self._take_back([*group[ready:], *behind])
            self._notify()

    def _may_leave(self, item: Item) -> bool:
        """Tell whether a transaction is signed, still wanted, and not too old."""
        entry = item.entry
        return not entry.unwanted and item.failure is None and self._clock() < entry.leave_by

    def _take_back(self, items: Sequence[Item]) -> None:
        """Undo that these got nonces: whose signature failed is refused, the others go back into line."""
        for item in reversed(items):
            self._exchanges.settle(item)
            self._nonces.refused(item.nonce)
        for item in items:
            if item.failure is not None:
                logger.warning("lighter: {} was not signed: {}", item.entry.transaction.label, item.failure)
                self._finish(item.entry, Reply(Outcome.REFUSED, 0, str(item.failure), "", item.nonce))
            else:
                self._admission.stayed([item.entry])
                self._return(item.entry)
        self._go_on()

    def _send_off(self, group: list[Item]) -> None:
        self._exchanges.out.update(group)
        if self._socket.connected:
            self._stats["batches"] += len(group) > 1
            self._leave(group)
        else:
            self._stats["over_rest"] += 1
            self._leave(group[:1])
            self._take_back(group[1:])

    def _leave(self, items: list[Item]) -> None:
        self._stats["transactions"] += len(items)
        self._exchanges.leave(items)
        for item in items:  # who is told now, when it is on its way, holds nothing up
            on_sent = item.entry.transaction.on_sent
            if on_sent is not None:
                self._call(item.entry, on_sent, Sent(item.signed.tx_hash, item.nonce, self.api_key_index))

    def _return(self, entry: Queued) -> None:
        self._withdraw(self._lineup.put(entry))

    # --- outcomes ----------------------------------------------------------------------------------------------------

    def _finish(self, entry: Queued, reply: Reply) -> None:
        if entry.finished:
            logger.error("lighter: {} has an outcome already, not {}", entry.transaction.label, reply)
            return
        entry.finished = True
        self._lineup.done(entry)
        self._admission.forget(entry)
        self._notify()
        self._call(entry, partial(self._on_outcome, entry.asked_at), reply)
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
        behind = [item for item in self._exchanges.out if not item.exchanged] + [
            item for group in self._ahead for item in group
        ]
        self._ahead.clear()
        for item in sorted(behind, key=lambda item: -item.nonce):
            self._exchanges.free(item)
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

    def _stumbled(self, error: BaseException) -> None:
        logger.opt(exception=error).error("lighter: the sender met an unexpected error")
        self._give_up(f"an unexpected error: {error!r}")
