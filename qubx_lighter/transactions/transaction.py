"""What a transaction is on its way out, what becomes of it, and what carries it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from qubx_lighter.constants import TxType
from qubx_lighter.native.key import SignedTx
from qubx_lighter.protocol.codes import Cause, Outcome
from qubx_lighter.protocol.wire import TxReply
from qubx_lighter.signer import Signer


class Reply(NamedTuple):
    """What became of one transaction.

    Attributes:
        outcome: what.
        code: the venue's; 0 where it gave none.
        message: the venue's words, or ours.
        tx_hash: where it was signed.
        nonce: where it had one.
        cause: why it was refused.
        withdrawn: whether it ended here because its order was cancelled before it had left.
    """

    outcome: Outcome
    code: int = 0
    message: str = ""
    tx_hash: str = ""
    nonce: int = -1
    cause: Cause = Cause.UNKNOWN
    withdrawn: bool = False


class Sent(NamedTuple):
    """One sending of a transaction: a transaction that goes out again has other values."""

    tx_hash: str
    nonce: int
    api_key_index: int


class Transaction(NamedTuple):
    """One write, frozen at the call.

    Attributes:
        label: for log lines.
        tx_type: what it is, which decides how urgent it is.
        sign: signs it with a key and a nonce of that key.
        on_reply: called once, with its outcome.
        on_sent: called right behind each sending, before any answer to it; behind the outcome where nothing could be written.
        order_id: the order that it is about, the same in all transactions of one order; empty for none, or for all.
        market_id: the market that it is about; None for none, or for all.
        sweeps: whether it cancels all orders, of its market or of all: what was asked for before and has not left ends.
    """

    label: str
    tx_type: TxType
    sign: Callable[[Signer, int], Awaitable[SignedTx]]
    on_reply: Callable[[Reply], None]
    on_sent: Callable[[Sent], None] | None = None
    order_id: str = ""
    market_id: int | None = None
    sweeps: bool = False


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


class Rest(Protocol):
    """The part of the REST client that the sender needs."""

    async def next_nonce(self, account_index: int, api_key_index: int) -> int:
        """Fetch the nonce that the venue expects next."""

    async def send_transaction(self, tx_type: int, tx_info: str) -> TxReply:
        """Send over REST."""


class Gate(Protocol):
    """A budget of the venue's limits that transactions pass on their way out, and that hears every answer.

    Nothing that a gate does holds a cancel back: it is told of each cancel with ``admit``, and the cancel leaves at once,
    whatever the gate says, or while it still thinks. The venue is the judge then. Other transactions wait for ``admit``;
    a gate that fails otherwise than by refusing lets them out too, since the venue keeps its own count.
    """

    def admit_at_once(self, tx_types: Sequence[int]) -> bool:
        """Let transactions of these types, none of them a cancel, out if there is room now; False where they have to ``admit``."""

    async def admit(self, tx_types: Sequence[int], waited_s: float = 0.0) -> None:
        """Wait until transactions of these types, which leave together, have room.

        The first of them was asked for ``waited_s`` seconds ago. Each sending is asked for, those of one transaction that goes out again too. Calls of different classes (cancels,
        orders, settings) overlap; a call may be cancelled.

        Raises:
            RateLimitedError: there will be no room; nothing is sent, and their outcome is REFUSED.
        """

    def observe(self, reply: TxReply) -> None:
        """Take the venue's answer to one message, an error too."""
