"""Two ways for a single transaction to reach the venue, with its nonce: alone, or through a connector's sender."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from qubx_lighter.client import LighterClient
from qubx_lighter.constants import Code, TxType
from qubx_lighter.errors import ConfigurationError, NotSentError, OutcomeUnknownError, VenueError
from qubx_lighter.native.key import SignedTx
from qubx_lighter.protocol.codes import Outcome, outcome_of_code
from qubx_lighter.protocol.wire import TxReply
from qubx_lighter.signer import Signer
from qubx_lighter.transactions.sender import Reply, Transaction, TransactionSender

type Sign = Callable[[Signer, int], Awaitable[SignedTx]]
type Send = Callable[[SignedTx], Awaitable[TxReply]]


class Receipt(NamedTuple):
    """What the venue answered: it has queued the transaction; ``message`` is its remark, if any."""

    tx_hash: str
    nonce: int
    message: str = ""


class Submit(Protocol):
    """Send one transaction once and give the venue's receipt."""

    async def __call__(self, label: str, tx_type: TxType, sign: Sign, send: Send | None = None) -> Receipt:
        """Sign with the next nonce and send, by ``send`` where that is another way than the usual one.

        Raises:
            VenueError: the venue refused; nothing happened.
            NotSentError: nothing left this machine.
            OutcomeUnknownError: nobody knows; the text has the hash to look up.
            SigningError: it could not be signed.
        """


class OneByOne:
    """Send transactions over REST, one at a time, each with a nonce that the venue was asked for right before.

    Args:
        client: REST.
        signer: of an API key that no other program uses meanwhile.
    """

    def __init__(self, client: LighterClient, signer: Signer) -> None:
        self._client = client
        self._signer = signer
        self._lock = asyncio.Lock()

    async def __call__(self, label: str, tx_type: TxType, sign: Sign, send: Send | None = None) -> Receipt:
        """Send one transaction once."""
        del tx_type
        async with self._lock:
            nonce = await self._client.next_nonce(self._signer.account_index, self._signer.api_key_index)
            signed = await sign(self._signer, nonce)
            try:
                reply = await (send or self._send)(signed)
            except OutcomeUnknownError as error:
                raise _unknown(label, signed.tx_hash, str(error)) from error
            except VenueError as error:
                if outcome_of_code(error.code) is Outcome.UNKNOWN:
                    raise _unknown(label, signed.tx_hash, str(error)) from error
                if error.code == Code.INVALID_NONCE:
                    raise VenueError(error.code, f"{error.message}: {self._rival()}", error.status) from error
                raise
        tx_hash = reply.tx_hash if isinstance(reply.tx_hash, str) and reply.tx_hash else signed.tx_hash
        return Receipt(tx_hash, nonce, reply.message)

    async def _send(self, signed: SignedTx) -> TxReply:
        return await self._client.send_transaction(signed.tx_type, signed.tx_info)

    def _rival(self) -> str:
        return (
            f"API key {self._signer.api_key_index} of account {self._signer.account_index} is used by another program at the same time "
            "(a running strategy?); use a key of its own for this"
        )


class ThroughSender:
    """Send transactions through the sender of a running connector, whose nonces they share."""

    def __init__(self, sender: TransactionSender, loop: asyncio.AbstractEventLoop) -> None:
        self._sender = sender
        self._loop = loop

    async def __call__(self, label: str, tx_type: TxType, sign: Sign, send: Send | None = None) -> Receipt:
        """Send one transaction once; to be awaited on the connector's loop."""
        if send is not None:
            raise ConfigurationError(
                f"{label} goes another way than a running connector's transactions: do it outside the strategy "
                "(open_actions), with an API key that the strategy does not use"
            )
        answered: asyncio.Future[Reply] = self._loop.create_future()

        def replied(reply: Reply) -> None:
            if not answered.done():
                answered.set_result(reply)

        self._sender.submit(Transaction(label, tx_type, sign, replied))
        reply = await answered
        match reply.outcome:
            case Outcome.ACCEPTED:
                return Receipt(reply.tx_hash, reply.nonce, reply.message)
            case Outcome.UNKNOWN:
                raise _unknown(label, reply.tx_hash, reply.message)
            case Outcome.REFUSED if reply.code:
                raise VenueError(reply.code, reply.message)
            case Outcome.REFUSED:
                raise NotSentError(f"{label}: {reply.message}")


def _unknown(label: str, tx_hash: str, reason: str) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        f"whether the venue did it is unknown: {label}: {reason}. Look transaction {tx_hash} up before doing it again"
    )
