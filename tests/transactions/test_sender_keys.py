"""A sender with several keys, and with a key that somebody else uses too."""

from __future__ import annotations

import asyncio

from qubx_lighter.constants import TxType
from qubx_lighter.native.key import SignedTx
from qubx_lighter.protocol.codes import Outcome
from qubx_lighter.protocol.wire import TxRow
from tests.sender_desk import Budget, Desk, Venue, lose_reply, lose_request, take

# --- several keys ----------------------------------------------------------------------------------------------------


def keys_of(venue: Venue) -> dict[str, int]:
    """Tell by which key each transaction came: their nonces are a thousand apart."""
    return {label: nonce // 1000 for label, nonce in venue.received}


async def test_orders_are_spread_over_the_keys_and_all_of_one_order_takes_the_same() -> None:
    venue = Venue(keys={4: 4000, 5: 5000, 6: 6000})
    venue.hold = asyncio.Event()
    desk = Desk(venue, keys=(4, 5, 6))
    for number in range(6):
        desk.submit(f"create {number}", order_id=f"o{number}")
    while len(venue.received) < 6:
        await asyncio.sleep(0)
    for number in range(6):
        desk.submit(f"cancel {number}", order_id=f"o{number}", tx_type=TxType.CANCEL_ORDER)
    while len(venue.received) < 12:
        await asyncio.sleep(0)
    venue.hold.set()
    await desk.finish()
    keys = keys_of(venue)
    assert [2, 2, 2] == [[keys[f"create {number}"] for number in range(6)].count(key) for key in (4, 5, 6)]
    for number in range(6):
        assert keys[f"create {number}"] == keys[f"cancel {number}"]
    assert {Outcome.ACCEPTED} == set(desk.outcomes().values())


async def test_what_is_of_no_order_takes_the_first_key() -> None:
    venue = Venue(keys={4: 4000, 5: 5000})
    desk = Desk(venue, keys=(4, 5))
    desk.submit("leverage", "leverage again", tx_type=TxType.UPDATE_LEVERAGE)
    desk.submit("all", tx_type=TxType.CANCEL_ALL_ORDERS)
    await desk.finish()
    assert {4} == set(keys_of(venue).values())


async def test_a_cancel_all_ends_what_waits_for_any_key() -> None:
    venue, budget = Venue(keys={4: 4000, 5: 5000}), Budget()
    desk = Desk(venue, keys=(4, 5), gate=budget)
    for number in range(4):
        desk.submit(f"create {number}", order_id=f"o{number}")
    while len(budget.asked) < 2:
        await asyncio.sleep(0)
    desk.submit("all", tx_type=TxType.CANCEL_ALL_ORDERS, sweeps=True)
    await desk.finish()
    assert ["all"] == venue.executed
    assert all(desk.replies[f"create {number}"].withdrawn for number in range(4))


async def test_a_key_that_is_in_trouble_does_not_hold_up_another() -> None:
    venue = Venue(keys={4: 4000, 5: 5000})
    desk = Desk(venue, keys=(4, 5))
    stuck = desk.signs_slowly("create 0")
    for number in range(4):
        desk.submit(f"create {number}", order_id=f"o{number}")
    while len(desk.replies) < 2:
        await asyncio.sleep(0)
    assert 1 == len({key for label, key in keys_of(venue).items() if label in desk.replies})
    stuck.go_on.set()
    await desk.finish()
    assert 4 == len(venue.executed)


# --- somebody else on our key ----------------------------------------------------------------------------------------


def row_of(nonce: int, tx_hash: str, key: int = 4) -> TxRow:
    return TxRow(hash=tx_hash, type=int(TxType.CREATE_ORDER), status=2, api_key_index=key, nonce=nonce)


async def test_a_process_that_takes_our_nonces_is_reported_once_and_trading_goes_on() -> None:
    venue = Venue()
    desk = Desk(venue)
    for number in range(5):
        desk.submit(f"t{number}")
        await desk.finish()
        venue.next += 1
    assert [f"t{number}" for number in range(5)] == venue.executed
    assert [4] == [key for key, _ in desk.strangers]
    assert "9, counts transactions that this process never sent" in desk.strangers[0][1]


async def test_our_own_lost_answers_are_no_other_process() -> None:
    venue = Venue()
    venue.fates["b"], venue.fates["d"] = [lose_reply], [lose_request]
    desk = Desk(venue)
    for label in "abcdef":
        desk.submit(label)
        await desk.finish()
    assert ["a", "b", "c", "e", "f"] == venue.executed
    assert [] == desk.strangers


async def test_a_request_that_arrives_late_is_no_other_process() -> None:
    venue = Venue()
    venue.fates["a"] = [lose_request]
    desk = Desk(venue)
    desk.submit("a")
    await desk.finish()
    desk.submit("b", sign=lambda label, nonce: arrives(venue, label, nonce))
    await desk.finish()
    assert ["a", "b"] == venue.executed
    assert [] == desk.strangers


def arrives(venue: Venue, label: str, nonce: int) -> SignedTx:
    """Sign, while what was given up as lost arrives at the venue after all."""
    if "a" not in venue.executed:
        take(venue, f"a@{nonce}")
    return SignedTx(int(TxType.CREATE_ORDER), f"{label}@{nonce}", f"local-{label}@{nonce}")


async def test_rows_of_our_own_transactions_and_of_a_former_run_are_no_other_process() -> None:
    desk = Desk(Venue())
    desk.sender.observe(row_of(99, "before anything"))
    desk.submit("a")
    await desk.finish()
    desk.sender.observe(row_of(7, "venue-a@7"))
    desk.sender.observe(row_of(7, "local-a@7"))
    desk.sender.observe(row_of(6, "of a former run"))
    desk.sender.observe(row_of(8, "of another key", key=9))
    assert [] == desk.strangers


async def test_a_row_that_we_never_wrote_is_another_process() -> None:
    desk = Desk(Venue())
    desk.submit("a")
    await desk.finish()
    desk.sender.observe(row_of(8, "not ours"))
    desk.sender.observe(row_of(9, "not ours either"))
    assert [(4, "the account's stream shows a transaction of type 14 with nonce 8")] == desk.strangers
