"""Asking the budget: what it has let out, class by class, and that it never stops a cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from loguru import logger

from qubx_lighter.errors import RateLimitedError
from qubx_lighter.protocol.lineup import Entry, Priority
from qubx_lighter.protocol.wire import TxReply
from qubx_lighter.transactions.transaction import Gate


class Admission[E: Entry]:
    """Ask a gate for those at the head of each class, one question a class at a time; used on one loop.

    Args:
        loop: the loop.
        clock: seconds, as in ``Entry.asked_at``.
        gate: the budget; without one all are admitted.
        patience_s: how long the gate may take to count a cancel, which does not wait for it.
        on_change: called when an answer came.
        on_refused: called with one that the gate refuses.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        gate: Gate | None,
        patience_s: float,
        on_change: Callable[[], None],
        on_refused: Callable[[E, RateLimitedError], None],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._gate = gate
        self._patience_s = patience_s
        self._on_change = on_change
        self._on_refused = on_refused
        self._admitted: set[E] = set()
        self._asking: dict[Priority, tuple[asyncio.Task[None], Sequence[E]]] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def admitted(self, head: Sequence[E]) -> Sequence[E]:
        """Give those of the ``head`` of a class that may leave together now; for none of them, ask and say so later."""
        if self._gate is None or not head or head[0].priority is Priority.CANCEL:
            return head
        if head[0] not in self._admitted:
            without = [entry for entry in head if entry not in self._admitted]
            if not self._admit_at_once(self._gate, without):
                self._ask(self._gate, without)
        ready = 0
        while ready < len(head) and head[ready] in self._admitted:
            ready += 1
        return head[:ready]

    def left(self, entries: Sequence[E]) -> None:
        """Take note of those that leave: the next time they need room again, and cancels are counted now."""
        self._admitted.difference_update(entries)
        if self._gate is not None and entries[0].priority is Priority.CANCEL:
            task = self._start(self._tell(self._gate, [entry.tx_type for entry in entries]))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    def stayed(self, entries: Sequence[E]) -> None:
        """Take note of those that did not leave after all: they keep their room."""
        if self._gate is not None:
            self._admitted.update(entries)

    def forget(self, entry: E) -> None:
        """Forget one that has its outcome."""
        self._admitted.discard(entry)

    def observe(self, reply: TxReply) -> None:
        """Let the gate hear an answer of the venue."""
        if self._gate is None:
            return
        try:
            self._gate.observe(reply)
        except Exception as error:  # noqa: BLE001 - somebody else's budget must not stop the trading
            logger.opt(exception=error).error("lighter: the rate limiter failed")

    async def close(self) -> None:
        """Ask no more."""
        tasks = [*self._telling, *(task for task, _ in self._asking.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _admit_at_once(self, gate: Gate, head: Sequence[E]) -> bool:
        if head[0].priority in self._asking:
            return False
        try:
            if not gate.admit_at_once([entry.tx_type for entry in head]):
                return False
        except Exception as error:  # noqa: BLE001 - as above
            logger.opt(exception=error).error("lighter: the rate limiter failed: orders go out without it")
        self._admitted.update(head)
        return True

    def _ask(self, gate: Gate, head: Sequence[E]) -> None:
        priority = head[0].priority
        if asking := self._asking.get(priority):
            task, about = asking
            if any(entry.waiting for entry in about):
                return
            task.cancel()  # all that it is about have ended
        task = self._start(self._admit(gate, head))
        if task.done():
            if head[0] not in self._admitted:  # refused at once: somebody else is at the head now
                self._loop.call_soon(self._on_change)
            return
        self._asking[priority] = task, head
        task.add_done_callback(lambda done: self._answered(priority, done))

    def _answered(self, priority: Priority, task: asyncio.Task[None]) -> None:
        if self._asking.get(priority, (None,))[0] is task:
            del self._asking[priority]
        self._on_change()

    async def _admit(self, gate: Gate, head: Sequence[E]) -> None:
        types = [entry.tx_type for entry in head]
        for size in {len(head): None, 1: None}:
            try:
                await gate.admit(types[:size], self._clock() - head[0].asked_at)
            except RateLimitedError as error:
                if size == 1 and head[0].waiting:
                    self._on_refused(head[0], error)
                continue
            except Exception as error:  # noqa: BLE001 - as above
                logger.opt(exception=error).error("lighter: the rate limiter failed: orders go out without it")
            self._admitted.update(entry for entry in head[:size] if entry.waiting)
            return

    async def _tell(self, gate: Gate, tx_types: Sequence[int]) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await gate.admit(tx_types)
        except (RateLimitedError, TimeoutError) as error:
            logger.info("lighter: a cancel went out against the rate limiter: {}", error)
        except Exception as error:  # noqa: BLE001 - as above
            logger.opt(exception=error).error("lighter: the rate limiter failed")

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run beside, at once up to the first wait: a gate that has room costs an order no turn of the loop."""
        return asyncio.Task(work, loop=self._loop, name="lighter-admission", eager_start=True)
