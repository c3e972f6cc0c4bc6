"""Follow a transaction that is no order from its sending to its end.

What the venue accepted (200) is only queued. Whether it was executed shows on the account's stream of transactions, by its
hash, or by nonce, key and type where hashes are written otherwise: the nonce of one that never arrived is another's soon. A
stream that was cut says nothing, nor does an answer that never came: after a while the venue is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from loguru import logger

from qubx_lighter.constants import TxType
from qubx_lighter.errors import LighterError
from qubx_lighter.native.key import SignedTx
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.codes import Outcome, refusal_of_failure
from qubx_lighter.protocol.requests import failure, own_nonce
from qubx_lighter.signer import Signer
from qubx_lighter.transactions.sender import Reply, Sent, Transaction, TransactionSender

_LOOK_UP_S: Final = 10.0
_FIRST_LOOK_UP_S: Final = 2.0  # what was sent before the stream was subscribed never shows there
_LOOK_UPS: Final = 6
_PENDING: Final = 1


class End(NamedTuple):
    """How it ended: executed, or not and why; None is what nobody could say."""

    executed: bool | None
    code: int = 0
    reason: str = ""


@dataclass(eq=False, slots=True)
class _Followed:
    label: str
    tx_type: TxType
    ended: Callable[[End], None]
    doubted: Callable[[str], None]
    keys: set[str] = field(default_factory=set)
    tx_hash: str = ""
    over: bool = False


class TransactionWatch:
    """Send transactions and tell their end, each once; everything but ``submit`` happens on the loop.

    Args:
        sender: sends.
        find: asks the venue for a transaction by its hash; None while it knows none.
        loop: where the asking happens.
        api_key_index: the first key, which signs what is of no order.
        look_up_s: between two questions; between an answer and the first one too, unless that is more than 2 s.
    """

    def __init__(
        self,
        *,
        sender: TransactionSender,
        find: Callable[[str], Awaitable[wire.TxRow | None]],
        loop: asyncio.AbstractEventLoop,
        api_key_index: int,
        look_up_s: float = _LOOK_UP_S,
    ) -> None:
        self._sender = sender
        self._find = find
        self._loop = loop
        self._api_key_index = api_key_index
        self._look_up_s = look_up_s
        self._under_way: dict[str, _Followed] = {}  # by each hash and the nonce of its transaction
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def submit(
        self,
        label: str,
        tx_type: TxType,
        sign: Callable[[Signer, int], Awaitable[SignedTx]],
        ended: Callable[[End], None],
        *,
        doubted: Callable[[str], None] = lambda _: None,
        market_id: int | None = None,
        sweeps: bool = False,
    ) -> None:
        """Queue a transaction; thread-safe; what is called is called on the loop.

        Args:
            label: for log lines.
            tx_type: what it is.
            sign: signs it with a key and a nonce of that key.
            ended: takes its end.
            doubted: called before that, with the reason, where the answer is lost: the end may take a minute then.
            market_id: as in ``Transaction``.
            sweeps: likewise.
        """
        followed = _Followed(label, tx_type, ended, doubted)

        def sent(sending: Sent) -> None:  # behind the reply, where the writing failed
            self._know(followed, sending.tx_hash, str(sending.nonce))

        def replied(reply: Reply) -> None:
            self._replied(followed, reply)

        self._sender.submit(Transaction(label, tx_type, sign, replied, sent, market_id=market_id, sweeps=sweeps))

    def observe(self, row: wire.TxRow) -> None:
        """Take the end of a transaction from the account's stream, where it is one of these."""
        nonce = own_nonce(row, self._api_key_index)
        followed = self._under_way.get(row.hash)
        if followed is None and nonce is not None:
            followed = self._under_way.get(str(nonce))
            if followed is not None and followed.tx_type != row.type:
                return
        if followed is not None and row.status != _PENDING:
            self._settle(followed, row)

    async def close(self) -> None:
        """Ask no more."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _know(self, followed: _Followed, *keys: str) -> None:
        """Forget the keys of an earlier sending, and whose nonce it was before: both have another."""
        if followed.over:
            return
        self._drop(followed)
        for key in keys:
            if (former := self._under_way.get(key)) is not None:
                former.keys.discard(key)
            self._under_way[key] = followed
            followed.keys.add(key)

    def _replied(self, followed: _Followed, reply: Reply) -> None:
        if followed.over:  # its end was seen before this reply
            return
        if reply.outcome is Outcome.REFUSED:
            self._end(followed, End(executed=False, code=reply.code, reason=reply.message))
            return
        if self._closed:
            return
        if reply.outcome is Outcome.UNKNOWN:
            followed.doubted(reply.message)
        followed.tx_hash = reply.tx_hash
        if reply.tx_hash:
            followed.keys.add(reply.tx_hash)
            self._under_way[reply.tx_hash] = followed
        task = self._loop.create_task(self._look_up(followed), name=f"lighter-{followed.label}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_up(self, followed: _Followed) -> None:
        for number in range(_LOOK_UPS):
            await asyncio.sleep(self._look_up_s if number else min(self._look_up_s, _FIRST_LOOK_UP_S))
            if followed.over:
                return
            try:
                row = await self._find(followed.tx_hash) if followed.tx_hash else None
            except LighterError as error:
                logger.debug("lighter: {} could not be looked up, again soon: {}", followed.label, error)
                continue
            if row is not None and row.status != _PENDING:
                self._settle(followed, row)
                return
        self._end(followed, End(executed=None, reason="the venue does not say what became of it"))

    def _settle(self, followed: _Followed, row: wire.TxRow) -> None:
        reason = failure(row)
        code = 0 if reason is None else refusal_of_failure(reason).code
        self._end(followed, End(executed=reason is None, code=code, reason=reason or ""))

    def _end(self, followed: _Followed, end: End) -> None:
        if not followed.over:
            self._drop(followed)
            followed.over = True
            followed.ended(end)

    def _drop(self, followed: _Followed) -> None:
        for key in followed.keys:
            self._under_way.pop(key, None)
        followed.keys = set()
