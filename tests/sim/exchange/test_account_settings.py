"""Tiers and fees, maker-only keys, trading modes: set over REST or by a transaction, and what follows."""

from __future__ import annotations

from typing import Any

import pytest

from qubx_lighter.constants import Code, TxType
from qubx_lighter.sim.app import Funded, Venue, accounts_toml
from qubx_lighter.sim.model.commands import ChangeTier, CreateAccount, RegisterKey, SetMakerOnlyKeys
from tests.sim.caller import ALICE as CALLER
from tests.sim.caller import Caller, place, token
from tests.sim.desk import ALICE, BOB, ETH, FEED, FUNDS, KEY, Desk

USDC = 1_000_000
DAY_US = 24 * 3600 * 10**6


def trade(desk: Desk, account: int = ALICE) -> int:
    """Buy 0.1 ETH at 3,000; give what it cost beside the price."""
    before = desk.account(account).collateral_micro
    desk.place(FEED, "sell", 1_000, 300_000)
    assert "filled" == desk.order(desk.ioc("buy", 1_000, 300_000, account=account)).status
    return before - desk.account(account).collateral_micro


# --- tiers -----------------------------------------------------------------------------------------------------------


def test_a_standard_account_pays_no_fees_and_a_premium_one_the_markets(desk: Desk) -> None:
    assert 60_000 == trade(desk)
    assert desk.apply(ChangeTier(BOB, "standard")).ok
    assert 0 == trade(desk, BOB)
    newest = desk.engine.trades()[0]
    assert (0, 0) == (newest.taker_fee_ppm, newest.maker_fee_ppm)


def test_an_account_is_opened_with_its_tier() -> None:
    desk = Desk()
    assert desk.apply(CreateAccount(70, "0x70", FUNDS, tier="standard")).ok
    assert "standard" == desk.account(70).tier
    assert 62002 == desk.apply(CreateAccount(71, "0x71", FUNDS, tier="gold")).code
    assert desk.engine.account(71) is None


def test_a_tier_changes_once_a_day_without_positions_and_orders(desk: Desk) -> None:
    assert 62002 == desk.apply(ChangeTier(ALICE, "gold")).code
    assert 62003 == desk.apply(ChangeTier(ALICE, "premium")).code
    order = desk.order(desk.create("buy", 100, 290_000))
    assert 62005 == desk.apply(ChangeTier(ALICE, "standard")).code
    desk.cancel(order.order_index)
    trade(desk)
    assert 62004 == desk.apply(ChangeTier(ALICE, "standard")).code
    desk.place(FEED, "buy", 1_000, 300_000)
    desk.ioc("sell", 1_000, 300_000)
    assert desk.apply(ChangeTier(ALICE, "standard")).ok
    assert 62006 == desk.apply(ChangeTier(ALICE, "premium")).code
    desk.now += DAY_US
    assert desk.apply(ChangeTier(ALICE, "premium")).ok


def test_commissions_of_the_accounts_file_follow_the_tier() -> None:
    assert 'commissions = "maker=0.0020,taker=0.0200"' in accounts_toml(Funded(), "secret", [ETH])
    assert 'commissions = "maker=0.0000,taker=0.0000"' in accounts_toml(Funded(tier="standard"), "secret", [ETH])


# --- maker-only keys -------------------------------------------------------------------------------------------------


@pytest.fixture
def making(desk: Desk) -> Desk:
    """Alice's key may only make, and has an order in the book."""
    assert desk.apply(RegisterKey(ALICE, 5, "0x05")).ok
    assert desk.apply(SetMakerOnlyKeys(ALICE, (KEY,))).ok
    assert desk.post_only("buy", 1_000, 290_000, ClientOrderIndex=7).ok
    return desk


def test_a_maker_only_key_posts_amends_and_cancels(making: Desk) -> None:
    assert making.modify(7, 1_100, 290_100).ok
    assert making.cancel(7).ok
    assert making.post_only("buy", 1_000, 290_000).ok
    assert making.cancel_all().ok
    assert [] == making.engine.active_orders(ALICE)


def test_a_maker_only_key_may_do_nothing_else_and_loses_no_nonce(making: Desk) -> None:
    nonce = making.engine.next_nonce(ALICE, KEY)
    codes = [
        making.create("buy", 100, 290_000).code,
        making.ioc("buy", 100, 290_000).code,
        making.market("buy", 100, 290_000).code,
        making.leverage(1000).code,
        making.send(TxType.UPDATE_MARGIN, MarketIndex=0, USDCAmount=1, Direction=1).code,
        making.send(41, AccountTradingMode=1).code,
    ]
    assert [21511] * 6 == codes
    assert nonce == making.engine.next_nonce(ALICE, KEY)


def test_other_keys_of_the_account_are_free_and_so_is_a_key_that_is_no_longer_named(making: Desk) -> None:
    assert making.create("buy", 100, 290_000, ApiKeyIndex=5, Nonce=0).ok
    assert making.apply(SetMakerOnlyKeys(ALICE, ())).ok
    assert making.create("buy", 100, 290_000).ok


def test_only_keys_that_there_are_can_be_named(desk: Desk) -> None:
    assert Code.API_KEY_NOT_FOUND == desk.apply(SetMakerOnlyKeys(ALICE, (KEY, 9))).code
    assert () == desk.account().maker_only_keys


# --- trading mode ----------------------------------------------------------------------------------------------------


def test_the_trading_mode_changes_there_and_back(desk: Desk) -> None:
    assert desk.send(41, AccountTradingMode=1).ok
    assert desk.account().is_unified
    assert Code.INVALID_TX_INFO == desk.send(41, AccountTradingMode=1).code
    assert Code.INVALID_TX_INFO == desk.send(41, AccountTradingMode=2).code
    assert desk.send(41, AccountTradingMode=0).ok
    assert not desk.account().is_unified


def test_back_to_classic_goes_a_healthy_account_only(desk: Desk) -> None:
    assert desk.send(41, AccountTradingMode=1).ok
    desk.place(FEED, "sell", 60_000, 300_000)
    desk.create("buy", 60_000, 300_000)
    desk.account().collateral_micro -= FUNDS // 2
    assert 21112 == desk.send(41, AccountTradingMode=0).code


# --- over REST -------------------------------------------------------------------------------------------------------

V1 = "/api/v1/"


async def test_limits_tell_the_tier_and_its_fees(caller: Caller) -> None:
    def figures(body: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(body[name] for name in ("user_tier", "current_maker_fee_tick", "current_taker_fee_tick"))

    body = await caller.body(V1 + "accountLimits", account_index=CALLER, auth=token())
    assert ("premium", 20, 200) == figures(body)
    assert "user_tier_last_update" not in body
    fields = {"account_index": CALLER, "new_tier": "standard"}
    assert 401 == (await caller.post(V1 + "changeAccountTier", **fields))[0]
    assert (200, {"code": 200}) == await caller.post(V1 + "changeAccountTier", **fields, auth=token())
    body = await caller.body(V1 + "accountLimits", account_index=CALLER, auth=token())
    assert ("standard", 0, 0) == figures(body)
    assert body["user_tier_last_update"] > 0
    status, body = await caller.post(V1 + "changeAccountTier", **fields, auth=token())
    assert (400, 62003) == (status, body["code"])


async def test_maker_only_keys_are_read_and_set(caller: Caller) -> None:
    read = {"path": V1 + "getMakerOnlyApiKeys", "account_index": CALLER, "auth": token()}
    assert [] == (await caller.body(**read))["api_key_indexes"]
    fields = {"account_index": CALLER, "auth": token()}
    assert 200 == (await caller.post(V1 + "setMakerOnlyApiKeys", api_key_indexes="[4]", **fields))[0]
    assert [4] == (await caller.body(**read))["api_key_indexes"]
    status, body = await caller.post(V1 + "setMakerOnlyApiKeys", api_key_indexes="[4,x]", **fields)
    assert (400, 20001) == (status, body["code"])
    status, body = await caller.post(V1 + "setMakerOnlyApiKeys", api_key_indexes="[77]", **fields)
    assert (400, 21109) == (status, body["code"])
    assert 200 == (await caller.post(V1 + "setMakerOnlyApiKeys", api_key_indexes="[]", **fields))[0]
    assert [] == (await caller.body(**read))["api_key_indexes"]
    assert 401 == (await caller.get(V1 + "getMakerOnlyApiKeys", account_index=CALLER))[0]


async def test_in_unified_mode_the_collateral_is_the_assets_margin_balance(venue: Venue, caller: Caller) -> None:
    place(venue, "sell", 1_000, 300_000)
    place(venue, "buy", 1_000, 300_000, CALLER)
    account = venue.engine.account(CALLER)
    assert account is not None
    account.is_unified = True
    (row,) = (await caller.body(V1 + "account", by="index", value=CALLER))["accounts"]
    assert (1, "0.000000", "9999.940000", "9984.940000") == tuple(
        row[name] for name in ("account_trading_mode", "collateral", "total_asset_value", "available_balance")
    )
    assert ["9999.940000"] == [asset["margin_balance"] for asset in row["assets"] if asset["symbol"] == "USDC"]
    stats = (await caller.subscribe(f"user_stats/{CALLER}"))["stats"]
    assert (1, "0.000000", "9999.940000", "9984.940000") == tuple(
        stats[name] for name in ("account_trading_mode", "collateral", "portfolio_value", "available_balance")
    )
    assert ["0.000000"] * 2 == [stats[part]["collateral"] for part in ("cross_stats", "total_stats")]
