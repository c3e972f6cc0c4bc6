"""A sender on a venue in miniature, which takes exactly the next nonce and on demand misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from pydantic import SecretStr

from qubx_lighter.constants import Code, TxType
from qubx_lighter.errors import NotSentError, OutcomeUnknownError, RateLimitedError, TransportError
from qubx_lighter.native.key import SignedTx
from qubx_lighter.protocol.codes import Outcome
from qubx_lighter.protocol.wire import ErrorBody, TxReply
from qubx_lighter.signer import Signer
from qubx_lighter.transactions.sender import Gate, Reply, Transaction, TransactionSender

NO_KEY = SecretStr("")  # nothing here is really signed
Fate = Callable[["Venue", str], TxReply | Exception]


class Venue:
    """Takes exactly the next nonce; ``fates`` decides what happens to the n-th transaction of a label."""

    def __init__(self, next_nonce: int = 7, keys: dict[int, int] | None = None) -> None:
        self.connected = True
        self.next = next_nonce
        self.keys = keys  # next nonce by key, a thousand apart, in place of ``next``
        self.next_nonce_error: Exception | None = None
        self.executed: list[str] = []
        self.received: list[tuple[str, int]] = []
        self.over_rest = 0
        self.nonce_requests = 0
        self.unreachable = False
        self.fates: dict[str, list[Fate]] = {}
        self.hold: asyncio.Event | None = None
        self.nonce_hold: asyncio.Event | None = None
        self.batches: list[list[str]] = []
        self.partial = False

    async def send_transactions(
        self,
        request_id: str,
        tx_types: Sequence[int],
        tx_infos: Sequence[str],
        timeout: float,  # noqa: ASYNC109 - as the socket has it
    ) -> TxReply:
        """Take all or none, as the API does; where ``partial``, do what comes before the refused one all the same."""
        assert len(tx_types) == len(tx_infos) <= 15
        labels = [tx_info.split("@")[0] for tx_info in tx_infos]
        self.batches.append(labels)
        self.received += [(label, int(tx_info.split("@")[1])) for label, tx_info in zip(labels, tx_infos, strict=True)]
        if self.hold is not None:
            await self.hold.wait()
        for lost in (never_left, lose_request):
            if of_lost := [label for label in labels if self._fate(label) is lost]:
                self.fates[of_lost[0]].pop(0)
                raise lost(self, "")
        before = self.next, list(self.executed)
        answers: list[TxReply] = []
        unanswered: Exception | None = None
        for label, tx_info in zip(labels, tx_infos, strict=True):
            answer = self._fate(label)(self, tx_info)
            if isinstance(answer, Exception):
                self.fates[label].pop(0)
                unanswered = answer
                continue
            answers.append(answer)
            if answer.error is not None:
                if not self.partial:
                    self.next, self.executed[:] = before
                break
        await asyncio.sleep(0)
        if unanswered is not None:
            raise unanswered
        return answers[-1] if answers[-1].error else TxReply(code=200, tx_hash=[str(each.tx_hash) for each in answers])

    def _fate(self, label: str) -> Fate:
        return (self.fates.get(label) or [take])[0]

    async def send_transaction(self, *arguments: object) -> TxReply:
        """Serve both transports: the socket's call has four arguments, REST's has two."""
        tx_info = str(arguments[2] if len(arguments) == 4 else arguments[1])
        self.over_rest += len(arguments) == 2
        label, nonce = tx_info.split("@")
        self.received.append((label, int(nonce)))
        fates = self.fates.get(label)
        answer = fates.pop(0)(self, tx_info) if fates else take(self, tx_info)
        if self.hold is not None:
            await self.hold.wait()
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def next_nonce(self, account_index: int, api_key_index: int) -> int:
        """Tell the next nonce."""
        assert account_index == 5
        self.nonce_requests += 1
        if self.nonce_hold is not None:
            await self.nonce_hold.wait()
        if self.next_nonce_error is not None:
            raise self.next_nonce_error
        if self.keys is not None:
            return self.keys[api_key_index]
        assert api_key_index == 4
        if self.unreachable:
            raise TransportError("no route")
        return self.next


def take(venue: Venue, tx_info: str) -> TxReply | Exception:
    """Queue it if the nonce is right."""
    label, nonce = tx_info.split("@")
    if venue.keys is not None:
        key = int(nonce) // 1000
        if int(nonce) != venue.keys[key]:
            return TxReply(error=ErrorBody(Code.INVALID_NONCE, "invalid nonce"))
        venue.keys[key] += 1
        venue.executed.append(label)
        return TxReply(code=200, tx_hash=f"venue-{tx_info}")
    if int(nonce) != venue.next:
        return TxReply(error=ErrorBody(Code.INVALID_NONCE, "invalid nonce"))
    venue.next += 1
    venue.executed.append(label)
    return TxReply(code=200, tx_hash=f"venue-{tx_info}")


def refuse(code: int) -> Fate:
    """Refuse at the API: the nonce is not consumed."""
    return lambda _venue, _tx_info: TxReply(error=ErrorBody(code, "no"))


def lose_reply(venue: Venue, tx_info: str) -> Exception:
    """Execute, and never say so."""
    take(venue, tx_info)
    return OutcomeUnknownError("no answer")


def lose_request(_venue: Venue, _tx_info: str) -> Exception:
    """Neither execute nor answer, though it left."""
    return OutcomeUnknownError("connection lost")


def never_left(_venue: Venue, _tx_info: str) -> Exception:
    """Fail before the write."""
    return NotSentError("socket is closed")


class Slow:
    """A signature that waits for the test."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()


class Budget:
    """A gate that a test opens and closes, and that may be broken."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.open = asyncio.Event()
        self.problem = problem
        self.at_once: bool | Exception = False
        self.asked: list[list[int]] = []
        self.room: int | None = None
        self.replies: list[TxReply] = []

    def admit_at_once(self, tx_types: Sequence[int]) -> bool:
        """Have room or none, as it was told, or fail."""
        assert not {TxType.CANCEL_ORDER, TxType.CANCEL_ALL_ORDERS} & set(tx_types)
        if isinstance(self.at_once, Exception):
            raise self.at_once
        return self.at_once

    async def admit(self, tx_types: Sequence[int], waited_s: float = 0.0) -> None:
        """Wait until it is open, then fail if it is to."""
        self.asked.append(list(tx_types))
        if self.room is not None and len(tx_types) > self.room:
            raise RateLimitedError("full")
        if self.room is None:
            await self.open.wait()
        if self.problem is not None:
            raise self.problem

    def observe(self, reply: TxReply) -> None:
        """Remember what the venue says, and fail if it is to."""
        self.replies.append(reply)
        if self.problem is not None:
            raise self.problem


class Desk:
    """A sender and what it reported."""

    def __init__(
        self,
        venue: Venue,
        batch_size: int = 1,
        gate: Gate | None = None,
        keys: Sequence[int] = (4,),
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.venue = venue
        self.strangers: list[tuple[int, str]] = []
        self.slow: dict[str, Slow] = {}
        self.replies: dict[str, Reply] = {}
        self.sender = TransactionSender(
            loop=asyncio.get_running_loop(),
            clock=clock or asyncio.get_running_loop().time,
            socket=venue,
            rest=venue,
            signers=[
                Signer(chain_id=304, account_index=5, api_key_index=key, private_key=NO_KEY, base_url="", workers=2)
                for key in keys
            ],
            timeout_s=1.0,
            retry_pause_s=0.0,
            batch_size=batch_size,
            gate=gate,
            on_stranger=lambda key, evidence: self.strangers.append((key, evidence)),
        )

    def submit(
        self,
        *labels: str,
        tx_type: TxType = TxType.CREATE_ORDER,
        sign: Callable[[str, int], SignedTx] | None = None,
        order_id: str = "",
        sweeps: bool = False,
    ) -> None:
        """Queue transactions."""
        for label in labels:
            signer, note = self._signer(label, sign), self._note(label)
            self.sender.submit(Transaction(label, tx_type, signer, note, order_id=order_id, sweeps=sweeps))

    def signs_slowly(self, label: str) -> Slow:
        """Have a transaction's signature wait."""
        self.slow[label] = Slow()
        return self.slow[label]

    def _signer(
        self, label: str, sign: Callable[[str, int], SignedTx] | None
    ) -> Callable[[Signer, int], Awaitable[SignedTx]]:
        async def run(_signer: Signer, nonce: int) -> SignedTx:
            await asyncio.sleep(0)
            if slow := self.slow.get(label):
                slow.begun.set()
                await slow.go_on.wait()
            if sign is not None:
                return sign(label, nonce)
            return SignedTx(int(TxType.CREATE_ORDER), f"{label}@{nonce}", f"local-{label}@{nonce}")

        return run

    def _note(self, label: str) -> Callable[[Reply], None]:
        def note(reply: Reply) -> None:
            assert label not in self.replies, f"{label} had two outcomes"
            self.replies[label] = reply

        return note

    async def finish(self) -> None:
        """Wait for every outcome."""
        assert await self.sender.drain(5.0)

    def outcomes(self) -> dict[str, Outcome]:
        """Tell what became of each."""
        return {label: reply.outcome for label, reply in self.replies.items()}
