"""Actions end to end: an account of the local venue, real signatures, the venue's own ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr
from qubx.core.basics import OrderStatus

from qubx_lighter.actions import LighterActions, open_actions
from qubx_lighter.connector import LighterConnector
from qubx_lighter.errors import ConfigurationError, VenueError
from qubx_lighter.protocol.account_rows import Deposit, Pool, Transfer, Withdrawal
from qubx_lighter.settings import LighterSettings
from qubx_lighter.signer import generate_api_key
from qubx_lighter.sim.model import commands
from qubx_lighter.transactions.submitting import Receipt
from tests.live import ETH, ETH_MID, US, Desk, LiveVenue, desk_on
from tests.money_venue import OWNER, WALLET_KEY

SECOND_KEY = 9
MICRO = 10**6


def settings(venue: LiveVenue, **params: Any) -> LighterSettings:
    """The account as a program beside the strategy sees it: with an API key of its own."""
    key, public_key = generate_api_key()
    venue.execute(commands.RegisterKey(US, SECOND_KEY, public_key))
    own = {"account_index": US, "api_key_index": SECOND_KEY, "api_private_key": key}
    return LighterSettings.build({"base_url": venue.venue.url} | own | params)


def connector(desk: Desk) -> LighterConnector:
    assert isinstance(desk.connector, LighterConnector)
    return desk.connector


def allocated(venue: LiveVenue) -> float:
    """What backs the isolated position."""
    return float(venue.ask(lambda: venue.engine.account(US).positions[ETH].allocated_micro) / 1e6)


def hold_isolated(desk: Desk) -> None:
    eth = desk.instrument("ETH-USDC")
    assert desk.connector.set_margin_mode(eth, "isolated")
    desk.until(lambda: desk.connector.get_margin_mode(eth) == "isolated")
    desk.until_status(desk.submit("ETH-USDC", 1.0, 4001.0, tif="ioc"), OrderStatus.FILLED)


def test_a_program_and_a_strategy_act_beside_each_other(venue: LiveVenue) -> None:
    async def outside() -> None:
        async with open_actions(settings(venue)) as actions:
            for _ in range(3):
                await actions.executed(await actions.add_margin(market_id=ETH, amount="10.5"))

    with desk_on(venue) as desk:
        hold_isolated(desk)
        before = allocated(venue)
        asyncio.run(outside())
        inside = [connector(desk).act(lambda actions: actions.remove_margin(market_id=ETH, amount=1)) for _ in range(3)]
        desk.until_status(desk.submit("ETH-USDC", 0.5, 3900.0), OrderStatus.ACCEPTED)
        assert 3 == len({future.result(10).tx_hash for future in inside})
        assert before + 28.5 == pytest.approx(allocated(venue))


def test_the_venues_refusal_is_told_inside_and_outside(venue: LiveVenue) -> None:
    async def outside() -> None:
        async with open_actions(settings(venue)) as actions:
            await actions.remove_margin(market_id=ETH, amount=1)

    with pytest.raises(VenueError) as alone:
        asyncio.run(outside())
    with desk_on(venue) as desk, pytest.raises(VenueError) as beside:
        connector(desk).act(lambda actions: actions.remove_margin(market_id=ETH, amount=1)).result(10)
    assert (21613, 21613) == (alone.value.code, beside.value.code)


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"chain_id": 300}, "network id is 304, and chain_id is 300"),
        ({"api_key_index": 8}, "is not registered"),
        ({"api_private_key": "ab" * 40}, "not the one registered"),
        ({"api_private_key": ""}, "api_private_key is missing"),
    ],
)
def test_actions_begin_with_a_check_of_who_and_where(venue: LiveVenue, params: dict[str, Any], why: str) -> None:
    async def opened() -> LighterActions:
        async with open_actions(settings(venue, **params)) as actions:
            return actions

    with pytest.raises(ConfigurationError, match=why):
        asyncio.run(opened())


def test_a_tier_is_changed_and_read(venue: LiveVenue) -> None:
    async def outside() -> tuple[str, str]:
        async with open_actions(settings(venue)) as actions:
            before = await actions.client.money.limits(US)
            await actions.change_tier("standard")
            return before.user_tier, (await actions.client.money.limits(US)).user_tier

    assert ("premium", "standard") == asyncio.run(outside())


def test_a_tier_that_cannot_change_is_refused_before_it_is_asked_for(venue: LiveVenue) -> None:
    venue.execute(commands.PlaceOrder(US, ETH, False, 10_000, ETH_MID + 100, time_in_force=0))

    async def outside() -> None:
        async with open_actions(settings(venue)) as actions:
            await actions.change_tier("premium")

    with pytest.raises(ConfigurationError, match="without positions only, and there are some: ETH"):
        asyncio.run(outside())


# --- money ---------------------------------------------------------------------------------------------------------------

OWNED = 500
"""An account whose owner's wallet is known here."""


def owned_settings(venue: LiveVenue) -> LighterSettings:
    """An account of a wallet whose key the tests have, with 10,000."""
    key, public_key = generate_api_key()
    venue.execute(commands.CreateAccount(OWNED, OWNER, 10_000 * MICRO))
    venue.execute(commands.RegisterKey(OWNED, SECOND_KEY, public_key))
    own = {"account_index": OWNED, "api_key_index": SECOND_KEY, "api_private_key": key}
    return LighterSettings.build({"base_url": venue.venue.url} | own)


def collateral(venue: LiveVenue, account_index: int) -> Decimal:
    return Decimal(venue.ask(lambda: venue.engine.account(account_index).collateral_micro)) / MICRO


async def done(actions: LighterActions, receipt: Awaitable[Receipt]) -> None:
    await actions.executed(await receipt)


def test_a_sub_account_is_made_funded_and_emptied_without_a_wallet(venue: LiveVenue) -> None:
    async def outside() -> tuple[int, list[Transfer]]:
        async with open_actions(settings(venue)) as actions:
            owner = (await actions.client.account(US)).l1_address
            before = await actions.client.money.accounts(owner)
            await done(actions, actions.create_sub_account())
            after = await actions.client.money.accounts(owner)
            (sub,) = {row.index for row in after} - {row.index for row in before}
            await done(actions, actions.transfer(to_account_index=sub, amount="250.000001", memo="for later"))
            assert [Decimal("250.000001")] == [
                row.collateral for row in await actions.client.money.accounts(owner) if row.index == sub
            ]
            return sub, await actions.client.money.transfers(US)

    before = collateral(venue, US)
    sub, transfers = asyncio.run(outside())
    assert (before - Decimal("250.000001"), Decimal("250.000001")) == (collateral(venue, US), collateral(venue, sub))
    assert [("L2TransferOutflow", US, sub, Decimal("250.000001"), Decimal(0))] == [
        (row.type, row.from_account_index, row.to_account_index, row.amount, row.fee) for row in transfers
    ]


def test_money_goes_to_another_owner_with_the_wallets_signature_and_for_a_fee(venue: LiveVenue) -> None:
    async def outside() -> Decimal:
        async with open_actions(owned) as actions:
            with pytest.raises(ConfigurationError, match="needs the signature of the wallet"):
                await actions.transfer(to_account_index=US, amount=100)
            with pytest.raises(ConfigurationError, match="the venue wants 3 for it, and max_fee is 2"):
                await actions.transfer(to_account_index=US, amount=100, wallet_key=SecretStr(WALLET_KEY), max_fee=2)
            await done(
                actions,
                actions.transfer(to_account_index=US, amount=100, wallet_key=SecretStr(WALLET_KEY), max_fee=3),
            )
            (row,) = await actions.client.money.transfers(OWNED)
            return row.fee

    owned, before = owned_settings(venue), collateral(venue, US)
    assert Decimal(3) == asyncio.run(outside())
    assert (Decimal(9897), before + 100) == (collateral(venue, OWNED), collateral(venue, US))


def test_a_withdrawal_leaves_and_a_running_strategy_sees_it(venue: LiveVenue) -> None:
    async def outside() -> tuple[list[Withdrawal], list[Deposit], int]:
        async with open_actions(settings(venue)) as actions:
            money = actions.client.money
            await done(actions, actions.withdraw(amount="1234.5"))
            owner = (await actions.client.account(US)).l1_address
            return await money.withdrawals(US), await money.deposits(US, owner), await money.withdrawal_delay_s()

    with desk_on(venue) as desk:
        before = collateral(venue, US)
        withdrawals, deposits, delay_s = asyncio.run(outside())
        desk.until_equal()
        assert before - Decimal("1234.5") == collateral(venue, US)
        assert float(before) - 1234.5 == desk.account.get_balance("USDC", "LIGHTER").total
    assert [(Decimal("1234.5"), "pending", "secure")] == [(row.amount, row.status, row.type) for row in withdrawals]
    assert [before] == [row.amount for row in deposits]
    assert delay_s > 0


def test_a_strategy_moves_money_between_its_orders(venue: LiveVenue) -> None:
    with desk_on(venue) as desk:
        sub_account = connector(desk).act(lambda actions: actions.create_sub_account())
        desk.until_status(desk.submit("ETH-USDC", 0.5, 3900.0), OrderStatus.ACCEPTED)
        desk.until(sub_account.done)
        owner = connector(desk).act(lambda actions: actions.client.account(US)).result(10).l1_address
        accounts = connector(desk).act(lambda actions: actions.client.money.accounts(owner)).result(10)
        sub = min(row.index for row in accounts if row.index != US)
        moved = connector(desk).act(lambda actions: actions.transfer(to_account_index=sub, amount=50))
        desk.until_status(desk.submit("ETH-USDC", 0.5, 3901.0), OrderStatus.ACCEPTED)
        assert moved.result(10).tx_hash
        desk.until_equal()
        assert Decimal(50) == collateral(venue, sub)


def test_the_venue_refuses_what_only_it_can_know(venue: LiveVenue) -> None:
    async def outside() -> int:
        async with open_actions(settings(venue)) as actions:
            with pytest.raises(VenueError) as caught:
                await actions.withdraw(amount=10**9)
            with pytest.raises(VenueError, match="account"):
                await actions.transfer(to_account_index=12_345, amount=5)
            return caught.value.code

    before = collateral(venue, US)
    assert 21301 == asyncio.run(outside())
    assert before == collateral(venue, US)


def test_a_pool_is_opened_joined_changed_and_left(venue: LiveVenue) -> None:
    async def outside() -> Pool:
        async with open_actions(settings(venue)) as actions, open_actions(owned) as investor:
            money = actions.client.money
            await done(
                actions,
                actions.create_public_pool(deposit=2000, operator_fee_percent="12.5", min_operator_share_percent="10"),
            )
            (pool,) = await money.pools()
            assert (Decimal("0.001"), 2_000_000) == (pool.share_price, pool.total_shares)
            await done(investor, investor.mint_shares(pool_index=pool.account_index, shares=500_000))
            await done(investor, investor.burn_shares(pool_index=pool.account_index, shares=200_000))
            (seen,) = await investor.client.money.pools(account_index=OWNED)
            assert seen.account_share is not None
            assert 300_000 == seen.account_share.shares_amount
            with pytest.raises(VenueError) as raised:  # a fee only ever falls
                await actions.update_public_pool(
                    pool_index=pool.account_index, frozen=False, operator_fee_percent=13, min_operator_share_percent=10
                )
            assert 21201 == raised.value.code
            await done(
                actions,
                actions.update_public_pool(
                    pool_index=pool.account_index, frozen=False, operator_fee_percent=5, min_operator_share_percent=10
                ),
            )
            (pool,) = await money.pools()
            return pool

    owned, before = owned_settings(venue), collateral(venue, US)
    pool = asyncio.run(outside())
    assert (2_300_000, Decimal(5)) == (pool.total_shares, pool.operator_fee)
    assert (before - 2000, Decimal(9700), Decimal(2300)) == (
        collateral(venue, US),
        collateral(venue, OWNED),
        collateral(venue, pool.account_index),
    )
