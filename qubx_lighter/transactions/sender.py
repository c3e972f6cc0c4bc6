"""The way out: transactions in the callers' order, spread over the account's API keys, each with exactly one outcome.

Each key has a lane of its own (``lane``), since each has nonces of its own. What is about one order stays in one lane for as
long as any of it is under way, and so keeps its order; what is about none, or about all orders, takes the first key's. A
new order takes the lane with the least under way, in turn where several have.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from qubx_lighter.protocol.codes import Outcome
from qubx_lighter.protocol.lineup import Priority
from qubx_lighter.protocol.requests import signed_by
from qubx_lighter.protocol.wire import TxRow
from qubx_lighter.signer import Signer
from qubx_lighter.transactions.exchange import Queued
from qubx_lighter.transactions.lane import Lane, LaneSettings
from qubx_lighter.transactions.transaction import Gate, Reply, Rest, Sent, Socket, Transaction

__all__ = ["Gate", "Reply", "Rest", "Sent", "Socket", "Transaction", "TransactionSender"]

_ORDER_WAIT_S: Final = 20.0
_GRACE_S: Final = 1.0  # for a nonce and a signature, of what has waited for the budget as long as it may
_CANCEL_WAIT_S: Final = 60.0  # a late cancel does no harm, and is what its order waits for
_RETRY_PAUSE_S: Final = 0.2  # times the attempts: the venue's next nonce "will not update right away" after a refusal


class TransactionSender:
    """Send the transactions of one account.

    Args:
        loop: the loop that everything here runs on.
        socket: the account socket.
        rest: the REST client, for nonces and as the fallback.
        signers: the account's API keys, at least one.
        timeout_s: how long an answer may take before the outcome is unknown.
        order_wait_s: how long anything but a cancel may wait for the budget; a second more for a nonce and its signature, and
            it is too old to be sent.
        retry_pause_s: pause before a second resend, growing by itself with each further one.
        batch_size: how many transactions that wait together may leave as one message; the venue takes up to 15 on a socket.
        gate: the budget that they pass; none by default.
        on_outcome: told of every outcome, with when it was asked for, before the transaction's own listener.
        on_stranger: called on the loop with an API key index and the evidence, once for each key that somebody else uses.
        clock: seconds, the same on every thread; not the loop's, which may stand still while the loop does.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        socket: Socket,
        rest: Rest,
        signers: Sequence[Signer],
        timeout_s: float,
        order_wait_s: float = _ORDER_WAIT_S,
        retry_pause_s: float = _RETRY_PAUSE_S,
        batch_size: int = 1,
        gate: Gate | None = None,
        on_outcome: Callable[[float, Reply], None] = lambda *_: None,
        on_stranger: Callable[[int, str], None] = lambda _key, _evidence: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._order_wait_s = order_wait_s + _GRACE_S
        settings = LaneSettings(timeout_s=timeout_s, retry_pause_s=retry_pause_s, batch_size=batch_size)
        self._lanes = [
            Lane(
                loop=loop,
                clock=clock,
                socket=socket,
                rest=rest,
                signer=signer,
                settings=settings,
                gate=gate,
                on_outcome=self._told,
                on_stranger=partial(on_stranger, signer.api_key_index),
            )
            for signer in signers
        ]
        self._on_outcome = on_outcome
        self._lock = threading.Lock()
        self._submitted = 0
        self._finished = 0
        self._waiters: set[asyncio.Event] = set()
        self._turn = 0

    def submit(self, transaction: Transaction) -> None:
        """Queue a transaction; thread-safe, keeps the order of the calls."""
        with self._lock:
            asked_at = self._clock()  # and not on the loop, which may be busy
            number = self._submitted
            self._submitted += 1
            try:
                self._loop.call_soon_threadsafe(self._put, number, transaction, asked_at)
            except RuntimeError:  # the loop is gone, and with it everything that could send
                closed = True
            else:
                closed = False
        if closed:
            self._told(asked_at, reply := Reply(Outcome.REFUSED, message="not sent: closed"))
            transaction.on_reply(reply)

    def observe(self, row: TxRow) -> None:
        """Take a transaction of the account from its stream."""
        signature = signed_by(row)
        for lane in self._lanes:
            if signature is not None and lane.api_key_index == signature.api_key_index:
                lane.observe(row, signature.nonce)

    async def drain(self, timeout_s: float) -> bool:
        """Wait until every submitted transaction has its outcome; False when ``timeout_s`` was not enough."""
        changed = asyncio.Event()
        self._waiters.add(changed)
        try:
            async with asyncio.timeout(timeout_s):
                while self._finished < self._submitted:
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(changed)
        return True

    async def close(self) -> None:
        """Stop sending: what is unanswered ends as UNKNOWN, what is queued, or comes later, as REFUSED."""
        for lane in self._lanes:
            await lane.close()

    def stats(self) -> dict[str, int]:
        """Count what happened since the start, over all keys."""
        total: Counter[str] = Counter()
        for lane in self._lanes:
            total.update(lane.stats())
        return dict(total)

    def _put(self, number: int, transaction: Transaction, asked_at: float) -> None:
        if transaction.sweeps:
            for lane in self._lanes:
                lane.sweep(number, transaction.market_id)
        entry = Queued(
            number,
            transaction.tx_type,
            transaction.order_id,
            transaction.market_id,
            asked_at,
            transaction=transaction,
        )
        is_cancel = entry.priority is Priority.CANCEL
        entry.leave_by = asked_at + (_CANCEL_WAIT_S if is_cancel else self._order_wait_s)
        self._lane_of(transaction.order_id).put(entry)

    def _lane_of(self, order_id: str) -> Lane:
        if not order_id or len(self._lanes) == 1:
            return self._lanes[0]
        for lane in self._lanes:
            if lane.holds(order_id):
                return lane
        self._turn += 1
        in_turn = [self._lanes[(self._turn + number) % len(self._lanes)] for number in range(len(self._lanes))]
        return min(in_turn, key=lambda lane: lane.load)

    def _told(self, asked_at: float, reply: Reply) -> None:
        self._finished += 1
        for changed in self._waiters:
            changed.set()
        self._on_outcome(asked_at, reply)
