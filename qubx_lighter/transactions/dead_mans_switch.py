"""The dead man's switch: a cancel-all scheduled at the venue, put off for as long as this process lives and is connected.

It counts as armed once its transaction was executed: one that the venue takes (200) may fail all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from loguru import logger

from qubx_lighter.constants import TxType
from qubx_lighter.protocol.codes import Outcome
from qubx_lighter.protocol.switch_schedule import SwitchSchedule
from qubx_lighter.transactions.sender import Reply, Transaction, TransactionSender
from qubx_lighter.transactions.watch import End, TransactionWatch

_ONE_IS_QUEUED: Final = 21712


class DeadMansSwitch:
    """Keep a cancel-all of the whole account scheduled; everything here runs on the loop.

    Args:
        period_s: how long the account's orders outlive this process; the venue wants more than 5 minutes.
        sender: sends, in order.
        watch: likewise, and tells what became of it.
        loop: the loop.
        on_failure: told why it is not armed, once until it is.
        now_ms: Unix milliseconds.
    """

    def __init__(
        self,
        *,
        period_s: float,
        sender: TransactionSender,
        watch: TransactionWatch,
        loop: asyncio.AbstractEventLoop,
        on_failure: Callable[[str], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._period_s = period_s
        self._sender = sender
        self._watch = watch
        self._on_failure = on_failure
        self._told = False
        self._loop = loop
        self._now_ms = now_ms
        self._schedule = SwitchSchedule(period_s)
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def on_state(self, connected: bool) -> None:  # noqa: FBT001 - the socket's listener signature
        """Arm while there is a connection."""
        if not connected:
            self._schedule.lost()
        else:
            if self._schedule.has_acted(self._loop.time()):
                logger.warning(
                    "lighter: away for longer than {:g} s: the venue has cancelled all orders", self._period_s
                )
                self._schedule.aborted()
            self._schedule.connected()
        self._set_timer()

    def close(self) -> None:
        """Disarm, so that the orders of a clean stop stand; the sender must still run, and is to be drained."""
        if self._closed:
            return
        self._closed = True
        self._set_timer()
        if self._schedule.may_be_queued or self._schedule.is_under_way:
            self._abort()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._schedule.get_timer()
        if due is not None and not self._closed:
            self._timer = self._loop.call_at(max(due, self._loop.time()), self._arm)

    def _arm(self) -> None:
        self._timer = None
        if self._schedule.may_be_queued:
            self._abort()
        self._schedule.arming()
        sent_at = self._loop.time()
        time_ms = self._now_ms() + round(self._period_s * 1000)

        is_over = False

        def ended(end: End) -> None:
            if is_over:
                return
            if end.executed:
                self._told = False
                self._schedule.armed(sent_at)
                self._set_timer()
            else:
                failed(f"{end.code} {end.reason}", queued=end.executed is None or end.code == _ONE_IS_QUEUED)

        def doubted(reason: str) -> None:
            failed(reason, queued=True)

        def failed(reason: str, *, queued: bool) -> None:
            nonlocal is_over
            is_over = True
            self._not_armed(reason, queued=queued)

        self._watch.submit(
            "dead man's switch",
            TxType.CANCEL_ALL_ORDERS,
            lambda signer, nonce: signer.schedule_cancel_all(time_ms=time_ms, nonce=nonce),
            ended,
            doubted=doubted,
        )

    def _not_armed(self, reason: str, *, queued: bool) -> None:
        logger.warning("lighter: the dead man's switch is not armed, again soon: {}", reason)
        self._schedule.failed(self._loop.time(), queued=queued)
        # One that stands from a former run is the first thing that a killed process meets, and is replaced at once.
        if not self._told and not self._schedule.is_replaced_at_once and not self._closed:
            self._told = True
            self._on_failure(reason)
        self._set_timer()

    def _abort(self) -> None:
        def replied(reply: Reply) -> None:
            if reply.outcome is Outcome.REFUSED:  # as where nothing is scheduled any more
                logger.debug("lighter: the dead man's switch was not called off: {} {}", reply.code, reply.message)

        self._schedule.aborted()
        self._sender.submit(
            Transaction(
                "dead man's switch off",
                TxType.CANCEL_ALL_ORDERS,
                lambda signer, nonce: signer.abort_scheduled_cancel_all(nonce=nonce),
                replied,
            )
        )
