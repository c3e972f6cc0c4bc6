"""A transaction that is no order ends once: by the stream, by a look-up, by a refusal, or by nobody's knowledge."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence

import pytest
from pydantic import SecretStr

from qubx_lighter.constants import Code, TxType
from qubx_lighter.errors import OutcomeUnknownError, TransportError
from qubx_lighter.native.key import SignedTx
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.wire import ErrorBody, TxReply, TxRow
from qubx_lighter.signer import Signer
from qubx_lighter.transactions.sender import TransactionSender
from qubx_lighter.transactions.watch import End, TransactionWatch
from tests.answers import Answering

KEY_INDEX = 4
PENDING, EXECUTED, FAILED = 1, 2, 0


class Venue(Answering):
    """Answers each look-up with the next of ``rows``."""

    def __init__(self, answers: Sequence[TxReply | Exception], rows: Sequence[TxRow | Exception | None] = ()) -> None:
        super().__init__(answers)
        self.rows = list(rows)
        self.asked: list[str] = []

    async def find(self, tx_hash: str) -> TxRow | None:
        self.asked.append(tx_hash)
        row = self.rows.pop(0)
        if isinstance(row, Exception):
            raise row
        return row


def tx_row(
    status: int,
    *,
    tx_hash: str = "venue",
    nonce: int = 7,
    error: str = "",
    tx_type: TxType = TxType.UPDATE_LEVERAGE,
) -> TxRow:
    body = {
        "hash": tx_hash,
        "type": tx_type,
        "status": status,
        "nonce": nonce,
        "info": json.dumps({"ApiKeyIndex": KEY_INDEX, "Nonce": nonce}),
        "event_info": json.dumps({"ae": error}),
    }
    return wire.decode(TxRow, json.dumps(body).encode())


ACCEPTED = TxReply(code=200, tx_hash="venue")


async def sign(_signer: Signer, nonce: int) -> SignedTx:
    return SignedTx(20, f"info@{nonce}", f"local-{nonce}")


async def sign_otherwise(_signer: Signer, nonce: int) -> SignedTx:
    return SignedTx(20, f"other@{nonce}", f"other-{nonce}")


def watching(venue: Venue, *, look_up_s: float = 0.001) -> tuple[TransactionSender, TransactionWatch]:
    loop = asyncio.get_running_loop()
    signer = Signer(
        chain_id=304, account_index=5, api_key_index=KEY_INDEX, private_key=SecretStr(""), base_url="http://127.0.0.1:1"
    )
    sender = TransactionSender(loop=loop, socket=venue, rest=venue, signers=[signer], timeout_s=1.0, retry_pause_s=0.0)
    return sender, TransactionWatch(
        sender=sender, find=venue.find, loop=loop, api_key_index=KEY_INDEX, look_up_s=look_up_s
    )


async def ends(
    venue: Venue, act: Callable[[TransactionWatch], Awaitable[None]], *, patience_s: float = 5.0
) -> list[End]:
    """Submit one transaction, let ``act`` happen after its answer, and return the ends that were told."""
    sender, watch = watching(venue)
    told: list[End] = []
    came = asyncio.Event()

    def ended(end: End) -> None:
        told.append(end)
        came.set()

    watch.submit("test", TxType.UPDATE_LEVERAGE, sign, ended)
    assert await sender.drain(patience_s)
    await act(watch)
    async with asyncio.timeout(patience_s):
        await came.wait()
    watch.observe(tx_row(EXECUTED))  # whatever comes later says nothing more
    await watch.close()
    await sender.close()
    return told


async def nothing(watch: TransactionWatch) -> None:
    del watch


@pytest.mark.parametrize("tx_hash", ["venue", "local-7", "written otherwise"])
async def test_the_stream_ends_it_by_hash_or_by_nonce(tx_hash: str) -> None:
    async def stream(watch: TransactionWatch) -> None:
        watch.observe(tx_row(PENDING, tx_hash=tx_hash))
        watch.observe(tx_row(EXECUTED, tx_hash="of another", nonce=99))
        watch.observe(tx_row(EXECUTED, tx_hash=tx_hash))

    assert [End(executed=True)] == await ends(Venue([ACCEPTED], [None] * 6), stream)


async def test_the_stream_tells_a_failure_with_its_reason() -> None:
    async def stream(watch: TransactionWatch) -> None:
        watch.observe(tx_row(EXECUTED, error="account would be below initial margin"))

    (end,) = await ends(Venue([ACCEPTED], [None] * 6), stream)
    assert (False, "account would be below initial margin") == (end.executed, end.reason)


async def test_a_refusal_ends_it_with_the_venues_code() -> None:
    venue = Venue([TxReply(error=ErrorBody(Code.INVALID_MARKET, "no such market"))])
    assert [End(executed=False, code=21602, reason="no such market")] == await ends(venue, nothing)


async def test_a_silent_stream_is_made_up_for_by_asking() -> None:
    venue = Venue([ACCEPTED], [None, TransportError("no route"), tx_row(PENDING), tx_row(EXECUTED)])
    assert [End(executed=True)] == await ends(venue, nothing)
    assert ["venue"] * 4 == venue.asked


at_once_or_later = pytest.mark.parametrize("at_once", [False, True])


@at_once_or_later
async def test_a_lost_answer_is_made_up_for_by_asking_for_the_local_hash(at_once: bool) -> None:
    venue = Venue([OutcomeUnknownError("gone")], [tx_row(FAILED, tx_hash="local-7")])
    venue.at_once = at_once
    (end,) = await ends(venue, nothing)
    assert end.executed is False
    assert ["local-7"] == venue.asked


@at_once_or_later
async def test_what_nobody_knows_is_said_to_be_unknown_after_a_bounded_time(at_once: bool) -> None:
    venue = Venue([OutcomeUnknownError("gone")], [None] * 6)
    venue.at_once = at_once
    assert [End(executed=None, reason="the venue does not say what became of it")] == await ends(venue, nothing)
    assert 6 == len(venue.asked)


@at_once_or_later
async def test_what_others_do_under_the_nonce_of_one_that_was_lost_says_nothing_about_it(at_once: bool) -> None:
    venue = Venue([OutcomeUnknownError("gone"), ACCEPTED])
    venue.at_once = at_once
    sender, watch = watching(venue, look_up_s=60.0)
    told: dict[str, End] = {}
    watch.submit("lost", TxType.UPDATE_LEVERAGE, sign, lambda end: told.update(lost=end))
    assert await sender.drain(5.0)
    watch.observe(tx_row(EXECUTED, tx_hash="of an order", tx_type=TxType.CREATE_ORDER))
    assert {} == told
    watch.submit("next", TxType.UPDATE_LEVERAGE, sign_otherwise, lambda end: told.update(next=end))
    assert await sender.drain(5.0)
    assert ["info@7", "other@7"] == venue.sent
    watch.observe(tx_row(EXECUTED, tx_hash="written otherwise"))
    assert {"next": End(executed=True)} == told
    watch.observe(tx_row(EXECUTED, tx_hash="local-7"))
    assert End(executed=True) == told["lost"]
    await watch.close()
    await sender.close()
