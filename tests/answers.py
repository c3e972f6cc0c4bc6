"""What stands in for the venue behind a real sender: the socket and REST in one, one transaction at a time."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence

from qubx_lighter.protocol.wire import TxReply

FIRST_NONCE = 7


class BothTransports(ABC):
    """Gives each transaction, whichever way it comes, to ``answer``."""

    def __init__(self) -> None:
        self.connected = True
        self.nonce = FIRST_NONCE
        self.at_once = False  # whether a failure comes at once, as that of a write on a socket that is about to close

    @abstractmethod
    def answer(self, tx_type: int, tx_info: str) -> TxReply:
        """Say what the venue says, or raise what the transport raises."""

    async def send_transaction(self, *arguments: object) -> TxReply:
        """Answer; the socket's call has an id before the type and the text, and a timeout behind them."""
        tx_type, tx_info = arguments[1:3] if len(arguments) == 4 else arguments
        if not self.at_once:
            await asyncio.sleep(0)
        return self.answer(int(str(tx_type)), str(tx_info))

    async def send_transactions(self, *arguments: object) -> TxReply:
        """Refuse to take several."""
        raise AssertionError(f"one at a time: {arguments}")

    async def next_nonce(self, account_index: int, api_key_index: int) -> int:
        """Tell where to begin."""
        del account_index, api_key_index
        return self.nonce


class Answering(BothTransports):
    """Answers each transaction with the next of a list; ``sent`` has the signed text of each."""

    def __init__(self, answers: Sequence[TxReply | Exception]) -> None:
        super().__init__()
        self.answers = list(answers)
        self.sent: list[str] = []

    def answer(self, tx_type: int, tx_info: str) -> TxReply:
        """Give the next one."""
        self.sent.append(tx_info)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer
