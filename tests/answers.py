"""A socket and REST for the sender that answer each transaction with the next of a list."""

from __future__ import annotations

from collections.abc import Sequence

from qubx_lighter.protocol.wire import TxReply

FIRST_NONCE = 7


class Answering:
    """Both transports in one; ``sent`` has the signed text of each transaction."""

    def __init__(self, answers: Sequence[TxReply | Exception]) -> None:
        self.connected = True
        self.answers = list(answers)
        self.sent: list[str] = []

    async def send_transaction(self, *arguments: object) -> TxReply:
        """Answer; the socket's call has the signed text third, REST's has it last."""
        self.sent.append(str(arguments[min(2, len(arguments) - 1)]))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def send_transactions(self, *arguments: object) -> TxReply:
        """Refuse to take several."""
        raise AssertionError(f"one at a time: {arguments}")

    async def next_nonce(self, account_index: int, api_key_index: int) -> int:
        """Tell where to begin."""
        del account_index, api_key_index
        return FIRST_NONCE
