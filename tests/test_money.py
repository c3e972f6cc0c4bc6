"""Actions end to end: an account of the local venue, real signatures, the venue's own ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qubx.core.basics import OrderStatus

from qubx_lighter.actions import LighterActions, open_actions
from qubx_lighter.connector import LighterConnector
from qubx_lighter.errors import ConfigurationError, VenueError
from qubx_lighter.settings import LighterSettings
from qubx_lighter.signer import generate_api_key
from qubx_lighter.sim import model
from tests.live import ETH, US, Desk, LiveVenue, desk_on

ETH_MID = 400_000  # ticks of 0.01
SECOND_KEY = 9


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[LiveVenue]:
    venue = LiveVenue(tmp_path)
    venue.quote(ETH, ETH_MID - 100, ETH_MID + 100)
    yield venue
    venue.close()


def settings(venue: LiveVenue, **params: Any) -> LighterSettings:
    """The account as a program beside the strategy sees it: with an API key of its own."""
    key, public_key = generate_api_key()
    venue.execute(model.RegisterKey(US, SECOND_KEY, public_key))
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
    venue.execute(model.PlaceOrder(US, ETH, False, 10_000, ETH_MID + 100, time_in_force=0))

    async def outside() -> None:
        async with open_actions(settings(venue)) as actions:
            await actions.change_tier("premium")

    with pytest.raises(ConfigurationError, match="without positions only, and there are some: ETH"):
        asyncio.run(outside())
