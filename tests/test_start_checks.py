"""Before anything is signed: the network, the collateral and the key's rights are compared with what the venue says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import httpx
import pytest
from loguru import logger
from qubx.core.basics import OrderStatus
from qubx.core.exceptions import InvalidOrderParameters

from qubx_lighter.client import LighterClient
from qubx_lighter.constants import TxType
from qubx_lighter.errors import ConfigurationError
from qubx_lighter.settings import LighterSettings
from qubx_lighter.sim.model import commands
from qubx_lighter.start_checks import check_network, confirm_collateral, maker_only_among, warn_of_reserved_key
from tests.live import US, Desk, LiveVenue, desk_on

URL = "https://venue.test"


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    number = logger.add(lambda message: lines.append(str(message.record["message"])), level="DEBUG")
    yield lines
    logger.remove(number)


def client(body: dict[str, Any], status: int = 200) -> LighterClient:
    """A client of a venue that has one answer."""
    transport = httpx.MockTransport(lambda _request: httpx.Response(status, json=body))
    return LighterClient(URL, attempts=1, transport=transport)


def settings(**params: Any) -> LighterSettings:
    return LighterSettings.build({"base_url": URL, "chain_id": 304} | params)


def assets(*symbols: str) -> dict[str, Any]:
    rows = [{"asset_id": number, "symbol": symbol, "decimals": 6} for number, symbol in enumerate(symbols, 1)]
    return {"code": 200, "asset_details": rows}


# --- network -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network_id", [304, 0])
async def test_the_same_network_or_none_told_passes(network_id: int) -> None:
    await check_network(client({"status": 200, "network_id": network_id, "timestamp": 1}), settings(), 304)


async def test_another_network_is_an_error_in_one_line_that_says_what_to_change() -> None:
    venue = client({"status": 200, "network_id": 300, "timestamp": 1})
    with pytest.raises(ConfigurationError) as caught:
        await check_network(venue, settings(), 304)
    assert (
        "https://venue.test says that its network id is 300, and chain_id is 304: every transaction would be refused. "
        "Correct params.network (now custom), or base_url and chain_id" == str(caught.value)
    )


async def test_a_venue_that_cannot_be_asked_is_believed(log: list[str]) -> None:
    await check_network(client({"code": 29500, "message": "down"}, 500), settings(), 304)
    assert any("network could not be checked" in line for line in log)


def test_a_run_with_the_wrong_chain_or_collateral_does_not_start(venue: LiveVenue) -> None:
    with pytest.raises(click.ClickException, match="network id is 304, and chain_id is 300"):
        Desk(venue, chain_id=300)
    with pytest.raises(click.ClickException, match=r"^params\.collateral is USDT.*margined in USDC"):
        Desk(venue, collateral="USDT")


# --- collateral --------------------------------------------------------------------------------------------------------


async def test_the_collateral_is_what_the_venue_says() -> None:
    confirmed = await confirm_collateral(client(assets("ETH", "LIT", "USDG")), settings())
    assert ("USDG", URL, 304) == (confirmed.collateral, confirmed.base_url, confirmed.chain_id)


async def test_the_networks_collateral_is_confirmed() -> None:
    given = settings()
    assert given is await confirm_collateral(client(assets("ETH", "LIT", "usdc")), given)


async def test_another_collateral_than_the_venues_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"params\.collateral is USDT.*margined in USDC: set it to USDC"):
        await confirm_collateral(client(assets("ETH", "LIT", "USDC")), settings(collateral="USDT"))


@pytest.mark.parametrize(("body", "status"), [({"code": 29404, "message": "none"}, 404), (assets("ETH"), 200)])
async def test_a_venue_that_does_not_name_it_leaves_the_setting(body: dict[str, Any], status: int) -> None:
    assert "USDC" == (await confirm_collateral(client(body, status), settings())).collateral


# --- the key -----------------------------------------------------------------------------------------------------------


async def test_a_maker_only_key_is_found_and_named(log: list[str]) -> None:
    venue = client({"code": 200, "api_key_indexes": [4, 7]})
    assert ({4, 7}, set()) == (await maker_only_among(venue, 100, [7, 5, 4]), await maker_only_among(venue, 100, [5]))
    assert [f"API key {key} of account 100 is maker-only" for key in (4, 7)] == [line[9:47] for line in log]


@pytest.mark.parametrize(
    ("body", "status"), [({"code": 20013, "message": "invalid auth"}, 401), ({"code": 200}, 200), ({}, 404)]
)
async def test_rights_that_the_venue_does_not_tell_are_no_obstacle(body: dict[str, Any], status: int) -> None:
    assert set() == await maker_only_among(client(body, status), 100, [7])


@pytest.mark.parametrize(("index", "warned"), [(0, True), (3, True), (4, False), (254, False)])
def test_the_apps_own_keys_are_warned_about(log: list[str], index: int, warned: bool) -> None:
    warn_of_reserved_key(index)
    assert warned == any(f"API key index {index} belongs to the venue's web and mobile apps" in line for line in log)


# --- end to end --------------------------------------------------------------------------------------------------------


def test_a_maker_only_key_makes_and_does_nothing_else(venue: LiveVenue) -> None:
    venue.execute(commands.ChangeTier(US, "premium"))
    venue.execute(commands.SetMakerOnlyKeys(US, (venue.account.api_key_index,)))
    with desk_on(venue) as desk:
        eth = desk.instrument("ETH-USDC")
        for options in ({"price": 3990.0}, {"price": 4001.0, "tif": "ioc"}):
            with pytest.raises(InvalidOrderParameters, match="this API key is maker-only"):
                desk.submit("ETH-USDC", 1.0, **options)
        resting = desk.until_status(desk.submit("ETH-USDC", 1.0, 3990.0, tif="gtx"), OrderStatus.ACCEPTED)
        desk.amend(resting, price=3980.0)
        desk.until(lambda: desk.order(resting).price == 3980.0)
        desk.connector.set_instrument_leverage(eth, 20.0)  # what is configured is no change
        desk.connector.set_instrument_leverage(eth, 3.0)
        assert desk.connector.set_margin_mode(eth, "isolated") is False
        desk.cancel(desk.order(resting))
        desk.until_status(resting, OrderStatus.CANCELED)
        failed = [message[2] for message in desk.data if message[1] == "error"]
        assert ["set_instrument_leverage", "set_margin_mode"] == [error.operation for error in failed]
        assert all("this API key is maker-only" in error.message for error in failed)
    kinds = venue.ask(lambda: {record.tx_type for record in venue.engine.transactions(100)})
    assert {TxType.CREATE_ORDER, TxType.MODIFY_ORDER, TxType.CANCEL_ORDER} == kinds
