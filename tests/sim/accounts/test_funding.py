"""Funding in cash: who pays whom, how much, when; over the engine, REST and the socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from fractions import Fraction
from math import floor
from random import Random
from typing import Any

import pytest

from qubx_lighter.sim.accounts.funding import HOUR_US
from qubx_lighter.sim.app import Venue
from qubx_lighter.sim.model.commands import AdvanceTime, Deposit, SettleFunding
from qubx_lighter.sim.model.events import FundingSettled
from qubx_lighter.sim.model.specs import MarketSpec
from tests.sim.caller import ALICE as CALLER
from tests.sim.caller import KEY, Caller, calling, place, quiet_venue, token
from tests.sim.clock import Clock
from tests.sim.desk import ALICE, BOB, FEED, OTHER_FEED, START, Desk

FINE = MarketSpec(market_id=5, symbol="FINE", price_decimals=5, size_decimals=4, min_base_lots=1, min_quote_micro=1)
HOUR = START // HOUR_US  # the one that runs


@pytest.fixture
def desk() -> Desk:
    """Alice is long 1 ETH, Bob short; the mark price is 3,000."""
    desk = Desk()
    desk.create("buy", 10_000, 300_000)
    desk.create("sell", 10_000, 300_000, account=BOB)
    assert (10_000, -10_000) == (desk.lots(ALICE), desk.lots(BOB))
    desk.engine.drain()
    return desk


def wait_until(desk: Desk, time: int) -> None:
    desk.now = time
    assert desk.apply(AdvanceTime()).ok


def settle(desk: Desk, rate: int, market_id: int = 255) -> None:
    assert desk.apply(SettleFunding(market_id, rate)).ok


def collateral(desk: Desk) -> tuple[int, int]:
    return desk.account(ALICE).collateral_micro, desk.account(BOB).collateral_micro


def test_at_a_full_hour_longs_pay_shorts_the_rate_of_the_notional(desk: Desk) -> None:
    before, rate = collateral(desk), desk.engine.history(0).funding_rate(HOUR + 1)
    wait_until(desk, (HOUR + 1) * HOUR_US - 1)
    assert before == collateral(desk)
    wait_until(desk, (HOUR + 1) * HOUR_US)
    amount = 3_000 * rate  # 3,000 x rate x 1e-4 %, in millionths
    assert rate != 0
    assert (before[0] - amount, before[1] + amount) == collateral(desk)
    payments = [event.payment for event in desk.events(FundingSettled)]
    assert [(ALICE, 10_000, -amount), (BOB, -10_000, amount)] == [
        (row.account_index, row.lots, row.change_micro) for row in payments
    ]
    assert {((HOUR + 1) * HOUR_US, rate, 300_000)} == {(row.time, row.rate, row.price_ticks) for row in payments}
    wait_until(desk, (HOUR + 2) * HOUR_US - 1)
    assert (before[0] - amount, before[1] + amount) == collateral(desk), "once an hour"


def test_a_negative_rate_is_paid_by_shorts(desk: Desk) -> None:
    before = collateral(desk)
    settle(desk, -25)
    assert (before[0] + 75_000, before[1] - 75_000) == collateral(desk)


def test_each_of_several_silent_hours_is_settled_at_its_own_rate(desk: Desk) -> None:
    before = collateral(desk)
    wait_until(desk, (HOUR + 5) * HOUR_US + 1)
    rates = [desk.engine.history(0).funding_rate(HOUR + ahead) for ahead in range(1, 6)]
    assert len(set(rates)) > 1
    assert before[0] - 3_000 * sum(rates) == collateral(desk)[0]
    times = [row.time for row in desk.account().fundings]
    assert [(HOUR + ahead) * HOUR_US for ahead in range(1, 6)] == times
    ids = [row.funding_id for row in desk.account().fundings]
    assert sorted(set(ids)) == ids


def test_public_history_says_the_price_that_was_settled_at(desk: Desk) -> None:
    desk.place(FEED, "sell", 20_000, 310_000)
    desk.now += 1_000  # in the second whose mark price was sampled already
    desk.place(OTHER_FEED, "buy", 10_000, 310_000)
    assert 310_000 == desk.engine.mark_price_ticks(0)
    wait_until(desk, (HOUR + 3) * HOUR_US + 5)
    settled = [(row.time // HOUR_US, row.rate, row.price_ticks) for row in desk.account().fundings]
    assert [(310_000, HOUR + ahead) for ahead in (1, 2, 3)] == [(price, hour) for hour, _, price in settled]
    assert settled == [tuple(row) for row in desk.engine.history(0).fundings(HOUR + 1, HOUR + 4)]


def test_the_first_command_of_a_venue_settles_nothing() -> None:
    desk = Desk()
    assert [] == desk.events(FundingSettled)
    desk.place(FEED, "sell", 1_000, 300_000)
    wait_until(desk, (HOUR + 1) * HOUR_US)
    assert [] == desk.events(FundingSettled)


def test_the_position_remembers_what_it_paid_until_it_is_closed(desk: Desk) -> None:
    settle(desk, 40)
    settle(desk, -10)
    assert (90_000, -90_000) == tuple(desk.account(one).positions[0].funding_paid_micro for one in (ALICE, BOB))
    desk.create("sell", 10_000, 300_000)
    desk.create("buy", 10_000, 300_000, account=BOB)
    assert (0, 0) == (desk.lots(ALICE), desk.account(ALICE).positions[0].funding_paid_micro)
    settle(desk, 40)
    assert 2 == len(desk.account(ALICE).fundings)


def test_one_market_alone_can_be_settled(desk: Desk) -> None:
    desk.create("buy", 1_000, 1_000_000, MarketIndex=1)
    desk.place(FEED, "sell", 1_000, 1_000_000, market_id=1)
    before = collateral(desk)[0]
    settle(desk, 10, market_id=1)
    assert before - 10_000 == collateral(desk)[0]
    assert {1} == {row.market_id for row in desk.account().fundings}
    assert 21602 == desk.apply(SettleFunding(9, 10)).code


def test_funding_creates_and_loses_nothing() -> None:
    seed = 4_711
    print("seed", seed)
    random, desk = Random(seed), Desk(FINE)
    accounts = (ALICE, BOB, FEED, OTHER_FEED)
    for one in accounts:
        desk.apply(Deposit(one, 10**12))
    for step in range(300):
        buyer, seller = random.sample(accounts, 2)
        price, lots = random.randint(1, 99_999), random.randint(1, 9_999)
        desk.place(seller, "sell", lots, price, market_id=5)
        desk.place(buyer, "buy", lots, price, market_id=5, time_in_force=0)
        before = sum(desk.account(one).collateral_micro for one in accounts) + desk.engine.funding_pot_micro
        held = {one: desk.lots(one, 5) for one in accounts if desk.lots(one, 5)}
        old = {one: desk.account(one).collateral_micro for one in accounts}
        rate, mark = random.randint(-50, 50), desk.engine.mark_price_ticks(5)
        pot = desk.engine.funding_pot_micro
        settle(desk, rate)
        exact = {one: Fraction(-lots * mark * rate, 1000 * 10**6) for one, lots in held.items()}
        changes = {one: desk.account(one).collateral_micro - old[one] for one in held}
        assert changes == {one: floor(change) for one, change in exact.items()}
        assert 0 <= desk.engine.funding_pot_micro - pot < max(len(held), 1)
        after = sum(desk.account(one).collateral_micro for one in accounts) + desk.engine.funding_pot_micro
        assert before == after, step
    assert desk.engine.funding_pot_micro > 0


# --- as clients see it -----------------------------------------------------------------------------------------------

PATH = "/api/v1/positionFunding"


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    """Somebody is long 0.1 ETH at 3,000 and short 0.01 BTC at 100,000."""
    async with quiet_venue() as venue:
        place(venue, "sell", 1_000, 300_000)
        place(venue, "buy", 1_000, 300_000, CALLER)
        place(venue, "buy", 1_000, 1_000_000, market_id=1)
        place(venue, "sell", 1_000, 1_000_000, CALLER, market_id=1)
        yield venue


async def test_payments_come_newest_first_in_the_venues_form(venue: Venue, caller: Caller) -> None:
    venue.server.execute(SettleFunding(0, 12))
    venue.server.execute(SettleFunding(1, -5))
    body = await caller.body(PATH, account_index=CALLER, limit=10, auth=token())
    newer, older = body["position_fundings"]
    ids = newer.pop("funding_id"), older.pop("funding_id")
    assert ids[0] > ids[1]
    time = venue.engine.now // 10**6
    common = {"timestamp": time, "discount": "0.000000"}
    assert (
        common
        | {
            "market_id": 0,
            "change": "-0.003600",
            "rate": "0.0012",
            "position_size": "0.1000",
            "position_side": "long",
        }
        == older
    )
    assert (
        common
        | {
            "market_id": 1,
            "change": "-0.005000",
            "rate": "-0.0005",
            "position_size": "0.01000",
            "position_side": "short",
        }
        == newer
    )
    assert "next_cursor" not in body


async def test_payments_come_page_by_page(venue: Venue, caller: Caller) -> None:
    for rate in range(1, 6):
        venue.server.execute(SettleFunding(0, rate))
    rates: list[str] = []
    cursor: dict[str, Any] = {}
    pages = 0
    while pages == 0 or cursor:
        body = await caller.body(PATH, account_index=CALLER, limit=2, auth=token(), **cursor)
        rates += [row["rate"] for row in body["position_fundings"]]
        cursor = {"cursor": body["next_cursor"]} if "next_cursor" in body else {}
        pages += 1
    assert (3, [f"0.000{rate}" for rate in range(5, 0, -1)]) == (pages, rates)


async def test_payments_can_be_narrowed_down() -> None:
    clock = Clock()
    async with quiet_venue(now=clock) as venue:
        for market_id, side in ((0, "buy"), (1, "sell")):
            price = 300_000 if market_id == 0 else 1_000_000
            place(venue, "sell" if side == "buy" else "buy", 1_000, price, market_id=market_id)
            place(venue, side, 1_000, price, CALLER, market_id=market_id)
        hours = []
        for _ in range(3):
            clock.ms += 3_600_000
            venue.server.execute(AdvanceTime())
            hours.append(clock.ms // 3_600_000 * 3_600)
        auth = f"{clock.ms // 1000 + 600}:{CALLER}:{KEY}:{'ab' * 80}"

        async def ask(**params: Any) -> list[tuple[int, int]]:
            async with calling(venue) as caller:
                body = await caller.body(PATH, account_index=CALLER, limit=100, auth=auth, **params)
            return [(row["timestamp"], row["market_id"]) for row in body["position_fundings"]]

        everything = [(hour, market_id) for hour in reversed(hours) for market_id in (1, 0)]
        assert everything == await ask()
        assert everything == await ask(side="all", market_ids="0,1")
        assert [row for row in everything if row[1] == 0] == await ask(side="long")
        assert [row for row in everything if row[1] == 1] == await ask(side="short")
        assert [row for row in everything if row[1] == 1] == await ask(market_ids="1")
        assert everything[2:4] == await ask(start_timestamp=hours[1], end_timestamp=hours[1])
        assert everything[:4] == await ask(start_timestamp=hours[1] * 1000)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"limit": 0}, 20001),
        ({"limit": 101}, 20001),
        ({"side": "both"}, 20001),
        ({"market_ids": "0,x"}, 20001),
        ({"cursor": "x"}, 20009),
        ({"account_index": 77}, 21100),
    ],
)
async def test_wrong_parameters_are_refused(caller: Caller, params: dict[str, Any], code: int) -> None:
    status, body = await caller.get(PATH, auth=token(), **({"account_index": CALLER, "limit": 5} | params))
    assert (400, code) == (status, body["code"])


async def test_payments_are_for_who_may_read_the_account(caller: Caller) -> None:
    status, body = await caller.get(PATH, account_index=CALLER, limit=5)
    assert (401, 20013) == (status, body["code"])


async def test_a_settlement_is_told_with_the_position_and_the_figures(venue: Venue, caller: Caller) -> None:
    snapshot = await caller.subscribe(f"account_all_positions/{CALLER}")
    assert "total_funding_paid_out" not in snapshot["positions"]["0"], "left out while zero"
    await caller.subscribe(f"user_stats/{CALLER}")
    venue.server.execute(SettleFunding(0, 12))
    stats = await caller.read_until("update/user_stats")
    frame = await caller.read_until("update/account_all_positions")
    assert ({"0": "-0.003600"}, {"0": "0.000000"}) == (frame["last_funding_round"], frame["last_funding_discount"])
    assert {"0": "0.003600"} == {key: row["total_funding_paid_out"] for key, row in frame["positions"].items()}
    account = venue.engine.account(CALLER)
    assert account is not None
    assert f"{account.collateral_micro / 1e6:.6f}" == stats["stats"]["collateral"]
    body = await caller.body("/api/v1/account", by="index", value=CALLER)
    assert "0.003600" == body["accounts"][0]["positions"][0]["total_funding_paid_out"]


async def test_other_frames_of_positions_carry_no_funding(venue: Venue, caller: Caller) -> None:
    await caller.subscribe(f"account_all_positions/{CALLER}")
    place(venue, "sell", 1_000, 300_000)
    place(venue, "buy", 1_000, 300_000, CALLER)
    frame = await caller.read_until("update/account_all_positions")
    assert (None, None) == (frame["last_funding_round"], frame["last_funding_discount"])
