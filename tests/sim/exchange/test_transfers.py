"""Deposits, withdrawals, transfers and sub-accounts: what moves, what it costs, what is refused, what is remembered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from qubx_lighter.constants import TxType
from qubx_lighter.sim.app import Venue
from qubx_lighter.sim.exchange.transfers import TRANSFER_FEE_MICRO, WITHDRAWAL_DELAY_S
from qubx_lighter.sim.model.commands import CreateAccount, Deposit, Result
from qubx_lighter.sim.model.events import PositionChanged
from tests.sim.caller import ALICE as CALLER
from tests.sim.caller import BOB as STRANGER
from tests.sim.caller import Caller, quiet_venue, token
from tests.sim.clock import Clock
from tests.sim.desk import ALICE, BOB, FEED, FUNDS, KEY, Desk
from tests.sim.money import everything_micro

USDC = 1_000_000
SIBLING = 70  # of Alice's owner
L1_SIG = "0x" + "ab" * 65


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    assert desk.apply(CreateAccount(SIBLING, f"0X{ALICE:040x}".upper(), 0)).ok
    desk.engine.drain()
    return desk


def transfer(desk: Desk, amount: int, to: int = SIBLING, **fields: Any) -> Result:
    body = {
        "AccountIndex": None,
        "FromAccountIndex": ALICE,
        "ToAccountIndex": to,
        "AssetIndex": 3,
        "FromRouteType": 0,
        "ToRouteType": 0,
        "Amount": amount,
        "USDCFee": 0,
        "Memo": [0] * 32,
        "L1Sig": "",
    }
    return desk.send(TxType.TRANSFER, ALICE, **(body | fields))


def pay(desk: Desk, amount: int, **fields: Any) -> Result:
    """Transfer to somebody else."""
    return transfer(desk, amount, BOB, **({"USDCFee": TRANSFER_FEE_MICRO, "L1Sig": L1_SIG} | fields))


def withdraw(desk: Desk, amount: int, **fields: Any) -> Result:
    body = {"AccountIndex": None, "FromAccountIndex": ALICE, "AssetIndex": 3, "RouteType": 0, "Amount": amount}
    return desk.send(TxType.WITHDRAW, ALICE, **(body | fields))


def collateral(desk: Desk, *accounts: int) -> tuple[int, ...]:
    return tuple(desk.account(index).collateral_micro for index in accounts)


def moves(desk: Desk, index: int = ALICE) -> list[tuple[str, int]]:
    return [(move.kind, move.money.units) for move in desk.account(index).moves]


def hold(desk: Desk) -> None:
    """Let Alice be long 1 ETH from 3,000: 150 of margin, 0.6 of fees."""
    desk.place(FEED, "sell", 10_000, 300_000)
    assert "filled" == desk.order(desk.ioc("buy", 10_000, 300_000)).status
    desk.engine.drain()


# --- the bridge ------------------------------------------------------------------------------------------------------


def test_money_inside_is_what_came_over_the_bridge(desk: Desk) -> None:
    assert 2 * FUNDS + 2 * 10**15 == desk.engine.bridged[3] == everything_micro(desk.engine)
    desk.apply(Deposit(ALICE, 5 * USDC))
    withdraw(desk, 2 * USDC)
    desk.apply(Deposit(BOB, -USDC))
    assert 2 * FUNDS + 2 * 10**15 + 2 * USDC == desk.engine.bridged[3] == everything_micro(desk.engine)
    assert [("deposit", FUNDS), ("deposit", 5 * USDC), ("withdrawal", 2 * USDC)] == moves(desk)
    assert [] == moves(desk, SIBLING), "it was opened with nothing"


def test_a_withdrawal_leaves_at_once(desk: Desk) -> None:
    assert withdraw(desk, 400 * USDC).ok
    assert (FUNDS - 400 * USDC,) == collateral(desk, ALICE)
    assert [PositionChanged(ALICE, 255, desk.now)] == desk.events(PositionChanged)


def test_margin_and_unrealised_profit_stay(desk: Desk) -> None:
    hold(desk)
    free = FUNDS - 600_000 - 150 * USDC
    assert 21301 == withdraw(desk, free + 1).code
    desk.place(FEED, "buy", 10_000, 310_000)  # 100 of profit, 5 more of margin
    assert 21301 == withdraw(desk, FUNDS - 600_000 + 1).code
    assert withdraw(desk, free + 95 * USDC).ok


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"AssetIndex": 1}, 21804),
        ({"RouteType": 7}, 21124),
        ({"Amount": 0}, 21300),
        ({"Amount": USDC - 1}, 21116),
        ({"Amount": FUNDS + 1}, 21301),
    ],
)
def test_what_cannot_be_withdrawn_is_refused_and_uses_no_nonce(desk: Desk, fields: dict[str, int], code: int) -> None:
    assert code == withdraw(desk, **({"amount": USDC} if "Amount" not in fields else {"amount": 0}), **fields).code
    assert (0, (FUNDS,)) == (desk.engine.next_nonce(ALICE, KEY), collateral(desk, ALICE))


# --- transfers -------------------------------------------------------------------------------------------------------


def test_a_transfer_to_an_account_of_the_same_owner_is_free(desk: Desk) -> None:
    assert transfer(desk, 1).ok
    assert transfer(desk, 300 * USDC).ok
    assert (FUNDS - 300 * USDC - 1, 300 * USDC + 1) == collateral(desk, ALICE, SIBLING)
    assert [("L2TransferOutflow", 1), ("L2TransferOutflow", 300 * USDC)] == moves(desk)[1:]
    assert [("L2TransferInflow", 1), ("L2TransferInflow", 300 * USDC)] == moves(desk, SIBLING)
    assert {ALICE, SIBLING} == {event.account_index for event in desk.events(PositionChanged)}
    assert everything_micro(desk.engine) == desk.engine.bridged[3]


def test_a_transfer_to_somebody_else_costs_a_fee(desk: Desk) -> None:
    assert (0, TRANSFER_FEE_MICRO, TRANSFER_FEE_MICRO) == tuple(
        desk.engine.transfer_fee_micro(ALICE, to) for to in (SIBLING, BOB, None)
    )
    assert pay(desk, 100 * USDC).ok
    assert (FUNDS - 100 * USDC - TRANSFER_FEE_MICRO, FUNDS + 100 * USDC) == collateral(desk, ALICE, BOB)
    assert TRANSFER_FEE_MICRO == desk.engine.fees_micro
    out, into = desk.account().moves[-1], desk.account(BOB).moves[-1]
    assert ("L2TransferOutflow", "L2TransferInflow") == (out.kind, into.kind)
    assert out.money == into.money
    assert (out.tx_hash, TRANSFER_FEE_MICRO) == (into.tx_hash, out.money.fee_micro)
    assert everything_micro(desk.engine) == desk.engine.bridged[3]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"L1Sig": ""}, 21504),
        ({"USDCFee": TRANSFER_FEE_MICRO - 1}, 21134),
        ({"Amount": USDC - 1}, 21118),
        ({"Amount": 0}, 21300),
        ({"Amount": FUNDS - TRANSFER_FEE_MICRO + 1}, 21301),
        ({"AssetIndex": 1}, 21804),
        ({"FromRouteType": 7}, 21124),
        ({"ToRouteType": 7}, 21124),
        ({"ToAccountIndex": 77}, 21106),
        ({"ToAccountIndex": ALICE}, 21106),
    ],
)
def test_what_cannot_be_transferred_is_refused_and_uses_no_nonce(desk: Desk, fields: dict[str, Any], code: int) -> None:
    before = collateral(desk, ALICE, BOB, SIBLING)
    assert code == pay(desk, USDC, **fields).code
    assert (0, before) == (desk.engine.next_nonce(ALICE, KEY), collateral(desk, ALICE, BOB, SIBLING))


def test_the_fee_of_a_transfer_must_be_there_too(desk: Desk) -> None:
    hold(desk)
    free = FUNDS - 600_000 - 150 * USDC
    assert 21301 == pay(desk, free - TRANSFER_FEE_MICRO + 1).code
    assert pay(desk, free - TRANSFER_FEE_MICRO).ok


# --- sub-accounts ----------------------------------------------------------------------------------------------------


def test_sub_accounts_count_down_below_the_liquidity_pool(desk: Desk) -> None:
    assert desk.send(TxType.CREATE_SUB_ACCOUNT).ok
    assert desk.send(TxType.CREATE_SUB_ACCOUNT).ok
    first, second = (desk.account(2**48 - 3 - number) for number in (0, 1))
    assert (1, ALICE, desk.account().l1_address, 0, {}) == (
        first.account_type,
        first.master_index,
        first.l1_address,
        first.collateral_micro,
        first.keys,
    )
    assert transfer(desk, 50 * USDC, second.account_index).ok
    assert 50 * USDC == second.collateral_micro


def test_a_sub_account_opens_none_itself(desk: Desk) -> None:
    desk.account().account_type = type(desk.account().account_type)(1)
    assert 21123 == desk.send(TxType.CREATE_SUB_ACCOUNT).code


# --- over REST -------------------------------------------------------------------------------------------------------

V1 = "/api/v1/"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def venue(clock: Clock) -> AsyncIterator[Venue]:
    async with quiet_venue(now=clock) as venue:
        yield venue


def at(clock: Clock, account: int = CALLER) -> str:
    """Give a token that holds at the venue's time."""
    return ":".join([str(clock.ms // 1000 + 600), *token(account).split(":")[1:]])


async def send(venue: Venue, clock: Clock, tx_type: int, **fields: Any) -> None:
    body = {
        "ApiKeyIndex": 4,
        "ExpiredAt": clock.ms + 599_000,
        "Nonce": venue.engine.next_nonce(CALLER, 4),
        "Sig": "",
        "L2TxAttributes": None,
    }
    _, result = venue.server.submit(tx_type, json.dumps(body | fields))
    assert result.ok, result
    venue.server.publish()


async def test_deposits_are_listed_newest_first(venue: Venue, caller: Caller, clock: Clock) -> None:
    clock.ms += 1_000
    venue.server.execute(Deposit(CALLER, 5 * USDC))
    account = venue.engine.account(CALLER)
    assert account is not None
    ask = {"account_index": CALLER, "l1_address": account.l1_address.upper(), "auth": at(clock)}
    body = await caller.body(V1 + "deposit/history", **ask)
    assert [("5.000000", "completed", 3, clock.ms), ("10000.000000", "completed", 3, clock.ms - 1_000)] == [
        (row["amount"], row["status"], row["asset_id"], row["timestamp"]) for row in body["deposits"]
    ]
    assert "" == body["cursor"]
    assert [] == (await caller.body(V1 + "deposit/history", filter="pending", **ask))["deposits"]
    status, body = await caller.get(V1 + "deposit/history", **(ask | {"l1_address": "0x00"}))
    assert (400, 21103) == (status, body["code"])
    status, body = await caller.get(V1 + "deposit/history", filter="x", **ask)
    assert (400, 20001) == (status, body["code"])


async def test_withdrawals_can_be_claimed_after_the_delay(venue: Venue, caller: Caller, clock: Clock) -> None:
    assert {"seconds": WITHDRAWAL_DELAY_S} == await caller.body(V1 + "withdrawalDelay")
    fields = {"FromAccountIndex": CALLER, "AssetIndex": 3, "RouteType": 0, "Amount": 25 * USDC}
    await send(venue, clock, TxType.WITHDRAW, **fields)

    async def statuses(wanted: str = "all") -> list[tuple[str, str, str]]:
        params = {"account_index": CALLER, "filter": wanted, "auth": at(clock)}
        body = await caller.body(V1 + "withdraw/history", **params)
        return [(row["amount"], row["status"], row["type"]) for row in body["withdraws"]]

    assert [("25.000000", "pending", "secure")] == await statuses() == await statuses("pending")
    clock.ms += WITHDRAWAL_DELAY_S * 1_000
    assert [("25.000000", "claimable", "secure")] == await statuses() == await statuses("claimable")
    assert [] == await statuses("pending")


async def test_transfers_are_listed_for_both_sides_page_by_page(venue: Venue, caller: Caller, clock: Clock) -> None:
    fields = {
        "FromAccountIndex": CALLER,
        "ToAccountIndex": STRANGER,
        "AssetIndex": 3,
        "FromRouteType": 0,
        "ToRouteType": 0,
        "USDCFee": TRANSFER_FEE_MICRO,
        "Memo": [0] * 32,
        "L1Sig": L1_SIG,
    }
    for amount in range(1, 103):
        await send(venue, clock, TxType.TRANSFER, Amount=amount * USDC, **fields)
    path = V1 + "transfer/history"
    page = await caller.body(path, account_index=CALLER, auth=at(clock))
    rest = await caller.body(path, account_index=CALLER, auth=at(clock), cursor=page["cursor"])
    assert ("", 100, 2) == (rest["cursor"], len(page["transfers"]), len(rest["transfers"]))
    amounts = [row["amount"] for row in page["transfers"] + rest["transfers"]]
    assert [f"{amount}.000000" for amount in range(102, 0, -1)] == amounts
    theirs = (await caller.body(path, account_index=STRANGER, auth=at(clock, STRANGER)))["transfers"][0]
    ours = page["transfers"][0]
    assert ("L2TransferOutflow", "L2TransferInflow") == (ours.pop("type"), theirs.pop("type"))
    assert ours.pop("id") != theirs.pop("id")
    assert ours == theirs
    sender, receiver = venue.engine.account(CALLER), venue.engine.account(STRANGER)
    assert sender is not None
    assert receiver is not None
    assert (CALLER, STRANGER, "perps", "perps", "3.000000", sender.l1_address, receiver.l1_address) == tuple(
        ours[name]
        for name in (
            "from_account_index",
            "to_account_index",
            "from_route",
            "to_route",
            "fee",
            "from_l1_address",
            "to_l1_address",
        )
    )
    assert sender.moves[-1].tx_hash == ours["tx_hash"]
    only = await caller.body(path, account_index=CALLER, auth=at(clock), type="L2TransferInflow")
    assert [] == only["transfers"]


async def test_a_transfers_price_depends_on_whose_account_gets_it(venue: Venue, caller: Caller, clock: Clock) -> None:
    await send(venue, clock, TxType.CREATE_SUB_ACCOUNT, AccountIndex=CALLER)
    ask = {"path": V1 + "transferFeeInfo", "account_index": CALLER, "auth": at(clock)}
    assert TRANSFER_FEE_MICRO == (await caller.body(**ask))["transfer_fee_usdc"]
    assert TRANSFER_FEE_MICRO == (await caller.body(**ask, to_account_index=STRANGER))["transfer_fee_usdc"]
    assert 0 == (await caller.body(**ask, to_account_index=2**48 - 3))["transfer_fee_usdc"]
    assert 401 == (await caller.get(V1 + "transferFeeInfo", account_index=CALLER))[0]


async def test_an_owners_accounts_are_listed_and_its_token_reads_them_all(
    venue: Venue, caller: Caller, clock: Clock
) -> None:
    await send(venue, clock, TxType.CREATE_SUB_ACCOUNT, AccountIndex=CALLER)
    sub = 2**48 - 3
    master = venue.engine.account(CALLER)
    assert master is not None
    body = await caller.body(V1 + "accountsByL1Address", l1_address=master.l1_address)
    assert [(CALLER, 0, "10000.000000"), (sub, 1, "0.000000")] == [
        (row["index"], row["account_type"], row["collateral"]) for row in body["sub_accounts"]
    ]
    assert master.l1_address == body["l1_address"]
    status, refused = await caller.get(V1 + "accountsByL1Address", l1_address="0x0")
    assert (400, 21100) == (status, refused["code"])
    limits = await caller.body(V1 + "accountLimits", account_index=sub, auth=at(clock))
    assert ("premium", False) == (limits["user_tier"], limits["can_create_public_pool"])
    limits = await caller.body(V1 + "accountLimits", account_index=CALLER, auth=at(clock))
    assert limits["can_create_public_pool"]
    (row,) = (await caller.body(V1 + "account", by="index", value=sub))["accounts"]
    assert (sub, 1) == (row["index"], row["account_type"])
