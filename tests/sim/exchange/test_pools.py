"""Public pools: who may open, change and leave one, what a share is worth, what the operator keeps."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from qubx_lighter.constants import TxType
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.app import Venue
from qubx_lighter.sim.model.commands import CreateAccount, PlaceOrder, RegisterKey, Result
from tests.sim.caller import ALICE as CALLER
from tests.sim.caller import Caller, quiet_venue, token
from tests.sim.desk import ALICE, BOB, FEED, KEY, Desk
from tests.sim.money import everything_micro

USDC = 1_000_000
POOL = 2**48 - 3
SHARES = 400_000_000  # 400,000 of collateral, at 0.001 a share
RICH = 10**12


def create(desk: Desk, **fields: int) -> Result:
    body = {"OperatorFee": 100_000, "InitialTotalShares": SHARES, "MinOperatorShareRate": 2_500}
    return desk.send(TxType.CREATE_PUBLIC_POOL, **(body | fields))


def update(desk: Desk, account: int = ALICE, **fields: int) -> Result:
    body = {"PublicPoolIndex": POOL, "Status": 0, "OperatorFee": 100_000, "MinOperatorShareRate": 2_500}
    return desk.send(TxType.UPDATE_PUBLIC_POOL, account, **(body | fields))


def mint(desk: Desk, shares: int, account: int = BOB, pool: int = POOL) -> Result:
    return desk.send(TxType.MINT_SHARES, account, PublicPoolIndex=pool, ShareAmount=shares)


def burn(desk: Desk, shares: int, account: int = BOB, pool: int = POOL) -> Result:
    return desk.send(TxType.BURN_SHARES, account, PublicPoolIndex=pool, ShareAmount=shares)


@pytest.fixture
def desk() -> Desk:
    """Alice and Bob are rich; Alice operates a pool with a fee of 10 % and a quarter of the shares at least."""
    desk = Desk()
    for index in (ALICE, BOB):
        desk.account(index).collateral_micro = RICH
    assert create(desk).ok
    return desk


def pool(desk: Desk) -> Account:
    account = desk.account(POOL)
    assert account.pool is not None
    return account


def shares(desk: Desk) -> tuple[int, int]:
    """Total and operator's."""
    found = pool(desk).pool
    assert found is not None
    return found.total_shares, found.operator_shares


def earn(desk: Desk, amount: int) -> None:
    """Let the pool gain (or, negative, lose) an amount at the feed's cost."""
    pool(desk).collateral_micro += amount
    desk.account(FEED).collateral_micro -= amount


# --- opening and changing --------------------------------------------------------------------------------------------


def test_a_pool_begins_with_its_operators_money(desk: Desk) -> None:
    account = pool(desk)
    assert (2, ALICE, desk.account().l1_address, 400_000 * USDC) == (
        account.account_type,
        account.master_index,
        account.l1_address,
        account.collateral_micro,
    )
    assert RICH - 400_000 * USDC == desk.account().collateral_micro
    assert (SHARES, SHARES) == shares(desk)
    assert {} == desk.account().shares
    assert "L2CreatePublicPoolOutflow" == desk.account().moves[-1].kind
    assert ["L2CreatePublicPoolInflow"] == [move.kind for move in account.moves]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"OperatorFee": 1_000_001}, 21201),
        ({"OperatorFee": -1}, 21201),
        ({"InitialTotalShares": 999_999}, 21204),
        ({"InitialTotalShares": 10**12 + 1}, 21204),
        ({"MinOperatorShareRate": 10_001}, 21205),
        ({"InitialTotalShares": 600_000_001}, 21301),
    ],
)
def test_pools_that_cannot_be_are_refused(desk: Desk, fields: dict[str, int], code: int) -> None:
    before = desk.engine.next_nonce(ALICE, KEY)
    assert code == create(desk, **fields).code
    assert before == desk.engine.next_nonce(ALICE, KEY)
    assert desk.engine.account(POOL - 1) is None


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"PublicPoolIndex": 77}, 21200),
        ({"PublicPoolIndex": BOB}, 21200),
        ({"OperatorFee": 100_001}, 21201),
        ({"Status": 2}, 21202),
        ({"MinOperatorShareRate": 10_001}, 21205),
    ],
)
def test_changes_that_cannot_be_are_refused(desk: Desk, fields: dict[str, int], code: int) -> None:
    assert code == update(desk, **fields).code


def test_only_the_master_changes_a_pool(desk: Desk) -> None:
    assert 21215 == update(desk, BOB).code
    assert update(desk, OperatorFee=50_000, MinOperatorShareRate=1_000).ok
    found = pool(desk).pool
    assert found is not None
    assert (50_000, 1_000) == (found.operator_fee_ppm, found.min_operator_share_rate)


def test_a_raised_minimum_must_be_held_already(desk: Desk) -> None:
    assert mint(desk, SHARES).ok
    assert update(desk, MinOperatorShareRate=5_000).ok
    assert 21208 == update(desk, MinOperatorShareRate=5_001).code


def test_only_an_empty_pool_is_frozen_and_for_good(desk: Desk) -> None:
    order = desk.order(desk.place(POOL, "buy", 1_000, 290_000))
    assert 21221 == update(desk, Status=1).code
    desk.engine._sequencer.open_orders.cancel(order)
    desk.place(FEED, "sell", 1_000, 300_000)
    desk.place(POOL, "buy", 1_000, 300_000, time_in_force=0)
    assert 21220 == update(desk, Status=1).code
    desk.place(FEED, "buy", 1_000, 300_000)
    desk.place(POOL, "sell", 1_000, 300_000, time_in_force=0)
    assert mint(desk, 1_000).ok
    assert update(desk, Status=1).ok
    assert 21213 == update(desk, Status=0).code
    assert 21203 == mint(desk, 1_000).code
    assert burn(desk, 1_000).ok
    assert burn(desk, SHARES, ALICE).ok, "the minimum binds no more"
    assert (0, 0) == shares(desk)
    assert 21222 == burn(desk, 1, ALICE).code


# --- coming and leaving ----------------------------------------------------------------------------------------------


def test_shares_cost_their_part_of_the_value(desk: Desk) -> None:
    earn(desk, 100_000 * USDC)  # 500,000 now: 0.00125 a share
    before = desk.account(BOB).collateral_micro
    assert mint(desk, 1_000_001).ok
    cost = 1_250_001_250
    assert before - cost == desk.account(BOB).collateral_micro
    share = desk.account(BOB).shares[POOL]
    assert (1_000_001, cost, desk.now) == (share.shares, share.principal_micro, share.entered_at)
    assert (SHARES + 1_000_001, SHARES) == shares(desk)
    assert ("L2MintSharesOutflow", "L2MintSharesInflow") == (
        desk.account(BOB).moves[-1].kind,
        pool(desk).moves[-1].kind,
    )


def test_an_investor_pays_the_operator_out_of_the_profit_alone(desk: Desk) -> None:
    assert mint(desk, SHARES).ok  # 400,000
    earn(desk, 200_000 * USDC)  # a million now: 100,000 of profit for each half
    before = desk.account(BOB).collateral_micro
    assert burn(desk, SHARES // 2).ok  # worth 250,000, paid for with 200,000: 5,000 for the operator
    fee_shares = 5_000 * USDC * 2 * SHARES // (10**12)
    assert (2 * SHARES - SHARES // 2 + fee_shares, SHARES + fee_shares) == shares(desk)
    assert before + 245_000 * USDC == desk.account(BOB).collateral_micro
    share = desk.account(BOB).shares[POOL]
    assert (SHARES // 2, 200_000 * USDC) == (share.shares, share.principal_micro)


def test_a_loss_costs_no_fee_and_the_last_share_ends_the_row(desk: Desk) -> None:
    assert mint(desk, SHARES).ok
    earn(desk, -200_000 * USDC)
    before = desk.account(BOB).collateral_micro
    assert burn(desk, SHARES).ok
    assert before + 300_000 * USDC == desk.account(BOB).collateral_micro
    assert ({}, (SHARES, SHARES)) == (desk.account(BOB).shares, shares(desk))


def test_the_operator_keeps_a_minimum_while_the_pool_is_open(desk: Desk) -> None:
    assert 21208 == mint(desk, 3 * SHARES + 1).code
    assert 21301 == mint(desk, 3 * SHARES).code, "a quarter would be enough, but the money is not there"
    assert mint(desk, SHARES).ok
    most = (4 * SHARES - 2 * SHARES) // 3  # what leaves a quarter
    assert 21208 == burn(desk, most + 1, ALICE).code
    assert burn(desk, most, ALICE).ok
    assert mint(desk, 10, ALICE).ok
    assert (2 * SHARES - most + 10, SHARES - most + 10) == shares(desk)


@pytest.mark.parametrize(
    ("action", "amount", "index", "code"),
    [
        (mint, 0, POOL, 21209),
        (mint, -1, POOL, 21209),
        (mint, 2**60, POOL, 21209),
        (mint, 1, 77, 21200),
        (burn, 0, POOL, 21210),
        (burn, 1, POOL, 21207),
        (burn, 1, 77, 21200),
    ],
)
def test_shares_that_cannot_be_are_refused(desk: Desk, action: Any, amount: int, index: int, code: int) -> None:
    assert code == action(desk, amount, pool=index).code


def test_what_positions_need_cannot_be_taken_out(desk: Desk) -> None:
    assert mint(desk, SHARES).ok
    desk.apply(RegisterKey(POOL, KEY, "0x01"))
    desk.place(FEED, "sell", 4_000_000, 300_000)
    assert "filled" == desk.order(desk.ioc("buy", 4_000_000, 300_000, account=POOL)).status  # 1.2 million: 60,000
    desk.account(POOL).collateral_micro -= 700_000 * USDC
    assert 21207 == burn(desk, SHARES).code
    assert burn(desk, SHARES // 4).ok
    desk.account(POOL).collateral_micro -= 75_000 * USDC  # less than the maintenance margin of 14,400 is left
    assert 21216 == mint(desk, 1).code
    assert 21216 == burn(desk, 1).code


def test_at_most_sixteen_pools_are_held(desk: Desk) -> None:
    desk.account().collateral_micro = 10**14
    for number in range(16):
        assert create(desk, InitialTotalShares=1_000_000).ok
        assert mint(desk, 1_000, pool=POOL - 1 - number).ok
    assert 21206 == mint(desk, 1_000).code
    assert mint(desk, 1_000, pool=POOL - 1).ok
    assert burn(desk, 1_000, pool=POOL - 2).ok
    assert mint(desk, 1_000).ok


def test_money_of_a_pool_leaves_by_shares_alone(desk: Desk) -> None:
    desk.apply(RegisterKey(POOL, KEY, "0x01"))
    withdrawal = {"AccountIndex": None, "FromAccountIndex": POOL, "AssetIndex": 3, "RouteType": 0, "Amount": USDC}
    assert 21127 == desk.send(TxType.WITHDRAW, POOL, **withdrawal).code
    transfer = withdrawal | {"ToAccountIndex": ALICE, "FromRouteType": 0, "ToRouteType": 0, "USDCFee": 0}
    assert 21123 == desk.send(TxType.TRANSFER, POOL, **transfer).code
    assert 21123 == desk.send(TxType.CREATE_SUB_ACCOUNT, POOL).code
    donation = transfer | {"FromAccountIndex": ALICE, "ToAccountIndex": POOL}
    assert desk.send(TxType.TRANSFER, ALICE, **donation).ok
    assert 400_001 * USDC == pool(desk).collateral_micro


def test_pools_create_and_lose_nothing() -> None:
    desk = Desk()
    for index in (ALICE, BOB):
        desk.apply(CreateAccount(index + 100, f"0x{index + 100:040x}", RICH))
        desk.apply(RegisterKey(index + 100, KEY, "0x01"))
    operator, investor = ALICE + 100, BOB + 100
    body = {"OperatorFee": 333_333, "InitialTotalShares": 7_654_321, "MinOperatorShareRate": 1_111}
    assert desk.send(TxType.CREATE_PUBLIC_POOL, operator, **body).ok
    for step, (amount, gain) in enumerate([(777_777, 1_234_567), (99_999, -54_321), (123_457, 7), (31, 5_000_001)]):
        assert mint(desk, amount, investor).ok
        earn(desk, gain)
        assert burn(desk, amount // 3, investor).ok
        assert mint(desk, step + 1, operator).ok
        assert everything_micro(desk.engine) == desk.engine.bridged[3]


# --- over REST -------------------------------------------------------------------------------------------------------

V1 = "/api/v1/"


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    """Somebody operates a pool of 5,000 that is long 0.1 ETH with a profit of 10, and holds shares of another one."""
    async with quiet_venue() as venue:
        server = venue.server
        server.execute(CreateAccount(60, "0xoperator", 20_000 * USDC))
        server.execute(RegisterKey(60, 4, "0x01"))
        await _send(venue, 10, 60, OperatorFee=100_000, InitialTotalShares=5_000_000, MinOperatorShareRate=2_500)
        await _send(venue, 18, CALLER, PublicPoolIndex=POOL, ShareAmount=1_000_000)
        server.execute(PlaceOrder(50, 0, True, 1_000, 300_000))
        server.execute(PlaceOrder(POOL, 0, False, 1_000, 300_000, time_in_force=0))
        server.execute(PlaceOrder(50, 0, False, 1_000, 310_000))
        yield venue


async def _send(venue: Venue, tx_type: int, account: int, **fields: Any) -> None:
    body = {
        "AccountIndex": account,
        "ApiKeyIndex": 4,
        "ExpiredAt": int(time.time() * 1000) + 599_000,
        "Nonce": venue.engine.next_nonce(account, 4),
        "Sig": "",
        "L2TxAttributes": None,
    }
    _, result = venue.server.submit(tx_type, json.dumps(body | fields))
    assert result.ok, result


async def test_pools_are_listed_with_what_an_account_holds(caller: Caller) -> None:
    (row,) = (await caller.body(V1 + "publicPoolsMetadata", index=0, limit=10, filter="all"))["public_pools"]
    assert "account_share" not in row
    assert (POOL, 2, 60, 0, "10.0000", 6_000_000, "6009.940000") == tuple(
        row[name]
        for name in (
            "account_index",
            "account_type",
            "master_account_index",
            "status",
            "operator_fee",
            "total_shares",
            "total_asset_value",
        )
    )
    ask = {"index": 0, "limit": 10, "account_index": CALLER, "auth": token()}
    (row,) = (await caller.body(V1 + "publicPoolsMetadata", **ask))["public_pools"]
    share = row["account_share"]
    assert (POOL, 1_000_000, "1000.000000") == (
        share["public_pool_index"],
        share["shares_amount"],
        share["principal_amount"],
    )
    assert [] == (await caller.body(V1 + "publicPoolsMetadata", index=POOL + 1, limit=10))["public_pools"]
    status, body = await caller.get(V1 + "publicPoolsMetadata", index=0, limit=101)
    assert (400, 20001) == (status, body["code"])


async def test_accounts_show_their_shares_and_pools_their_terms(caller: Caller) -> None:
    (investor,) = (await caller.body(V1 + "account", by="index", value=CALLER))["accounts"]
    assert [(POOL, 1_000_000, "1000.000000")] == [
        (row["public_pool_index"], row["shares_amount"], row["entry_usdc"]) for row in investor["shares"]
    ]
    (pool_row,) = (await caller.body(V1 + "account", by="index", value=POOL))["accounts"]
    info = pool_row["pool_info"]
    assert ("10.0000", "25.00", 6_000_000, 5_000_000, 0) == tuple(
        info[name] for name in ("operator_fee", "min_operator_share_rate", "total_shares", "operator_shares", "status")
    )
    frame = await caller.subscribe(f"account_all_positions/{CALLER}")
    assert [POOL] == [row["public_pool_index"] for row in frame["shares"]]
