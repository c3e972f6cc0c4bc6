"""Leverage and margin mode, end to end: what is asked for once reaches the venue, and what the venue has is what is read."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr
from qubx.core.basics import LiveTimeProvider, MarketType, OrderStatus
from qubx.core.events import AccountSnapshotEvent, BalanceUpdateEvent
from qubx.core.lookups import LookupsManager

from qubx_lighter.client import LighterClient
from qubx_lighter.constants import MarginMode
from qubx_lighter.errors import UnitsError
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.leverage import LeverageSettings
from qubx_lighter.signer import Signer, generate_api_key
from qubx_lighter.sim.model import commands
from qubx_lighter.transactions.sender import TransactionSender
from qubx_lighter.transactions.watch import TransactionWatch
from tests.answers import Answering
from tests.live import BTC, ETH, US, Desk, LiveVenue, desk_on
from tests.markets import Listing, market_row
from tests.signing import make

PACE_US = 1_600_000


@pytest.fixture
def signer() -> Iterator[Signer]:
    signer = make("ab" * 40, account_index=US)
    yield signer
    signer.close()


def settings(desk: Desk) -> list[tuple[str, float | None, str | None, float | None]]:
    """What Qubx was told, oldest first."""
    updates = [message[2] for message in desk.data if message[1] == "venue_settings"]
    return [(row.instrument.symbol, row.leverage, row.margin_mode, row.max_notional) for row in updates]


def errors(desk: Desk) -> list[tuple[str, str]]:
    """Which operation failed, and what the strategy reads of it."""
    return [(message[2].operation, message[2].message) for message in desk.data if message[1] == "error"]


def sent(venue: LiveVenue) -> list[dict[str, Any]]:
    """The leverage settings that reached the venue, oldest first."""
    records = venue.ask(lambda: [row for row in venue.engine.transactions(50) if row.tx_type == 20])
    return sorted((json.loads(row.tx_info) | {"at": row.executed_at} for row in records), key=lambda row: row["at"])


def test_a_wish_taken_back_while_it_is_under_way_is_taken_back_at_the_venue(desk: Desk, venue: LiveVenue) -> None:
    eth = desk.instrument("ETH-USDC")
    desk.connector.set_instrument_leverage(eth, 3.0)
    desk.until(lambda: sent(venue))
    desk.connector.set_instrument_leverage(eth, 20.0)  # what is configured as long as nothing has come back
    desk.until(lambda: len(settings(desk)) == 2)
    assert [("ETH-USDC", 3.0, "cross", math.inf), ("ETH-USDC", 20.0, "cross", math.inf)] == settings(desk)
    assert 20.0 == desk.connector.get_instrument_leverage(eth)
    assert [3333, 500] == [row["InitialMarginFraction"] for row in sent(venue)]


def test_many_instruments_leave_one_by_one(desk: Desk, venue: LiveVenue) -> None:
    desk.connector.set_instrument_leverage(desk.instrument("ETH-USDC"), 3.0)
    desk.connector.set_instrument_leverage(desk.instrument("BTC-USDC"), 3.0)
    desk.until(lambda: len(sent(venue)) == 2)
    first, second = sent(venue)
    assert [ETH, BTC] == [first["MarketIndex"], second["MarketIndex"]]
    assert second["at"] - first["at"] >= PACE_US * 0.95  # the venue takes 40 a minute


@pytest.mark.parametrize(("asked", "taken"), [(500.0, 200), (0.5, 10_000), (1e-320, 10_000)])
def test_a_leverage_is_clamped_to_the_market(desk: Desk, venue: LiveVenue, asked: float, taken: int) -> None:
    desk.connector.set_instrument_leverage(desk.instrument("ETH-USDC"), asked)
    desk.until(lambda: settings(desk))
    assert [taken] == [row["InitialMarginFraction"] for row in sent(venue)]


def test_what_is_no_leverage_is_an_error_event(desk: Desk, venue: LiveVenue) -> None:
    values = (0.0, -3.0, math.nan, math.inf)
    for leverage in values:
        desk.connector.set_instrument_leverage(desk.instrument("ETH-USDC"), leverage)
    desk.until(lambda: len(errors(desk)) == len(values))
    text = "set_instrument_leverage of ETH-USDC was not sent: {} is no leverage"
    assert [("set_instrument_leverage", text.format(value)) for value in values] == errors(desk)
    assert [] == sent(venue)


def test_a_leverage_changed_elsewhere_is_learned_and_told(desk: Desk, venue: LiveVenue) -> None:
    eth = desk.instrument("ETH-USDC")
    desk.connector.set_instrument_leverage(eth, 10.0)
    desk.until(lambda: settings(desk))
    key, public_key = generate_api_key()
    venue.execute(commands.RegisterKey(US, 9, public_key))
    asyncio.run(_change_elsewhere(venue.venue.url, key, 2000))
    desk.until(lambda: desk.connector.get_instrument_leverage(eth) == 5.0)
    desk.until(lambda: len(settings(desk)) == 2)
    assert ("ETH-USDC", 5.0, "cross", math.inf) == settings(desk)[-1]


async def _change_elsewhere(url: str, key: str, fraction: int) -> None:
    client = LighterClient(url)
    signer = Signer(chain_id=304, account_index=US, api_key_index=9, private_key=SecretStr(key), base_url=url)
    signed = await signer.update_leverage(
        market_id=ETH, initial_margin_fraction=fraction, margin_mode=MarginMode.CROSS, nonce=0
    )
    assert 200 == (await client.send_transaction(signed.tx_type, signed.tx_info)).code
    signer.close()
    await client.close()


async def test_limits_and_defaults_are_those_of_the_markets_present_rules(signer: Signer) -> None:
    row = market_row(ETH, "ETH", 4, 2, "0.0050")
    listing, loop = Listing([row]), asyncio.get_running_loop()
    loader = LighterInstrumentLoader(listing)
    await loader.load()
    socket = Answering([])
    sender = TransactionSender(loop=loop, socket=socket, rest=socket, signers=[signer], timeout_s=1.0)
    client = LighterClient("http://127.0.0.1:1")
    leverage = LeverageSettings(
        instruments=loader,
        watch=TransactionWatch(sender=sender, find=client.transaction, loop=loop, api_key_index=signer.api_key_index),
        working_orders=lambda _market_id: 0,
        emit=lambda event: pytest.fail(f"nothing was set: {event}"),
        time_provider=LiveTimeProvider(),
        loop=loop,
    )
    instrument = loader.instrument(ETH)
    assert (50.0, 20.0) == (leverage.max_leverage(instrument), leverage.leverage(instrument))
    rules = {"min_initial_margin_fraction": 500, "default_initial_margin_fraction": 1000}
    listing.rows = [msgspec.structs.replace(row, **rules)]
    await loader.load()
    assert (20.0, 10.0) == (leverage.max_leverage(instrument), leverage.leverage(instrument))
    await client.close()


# --- margin mode -------------------------------------------------------------------------------------------------------


def test_the_mode_that_is_configured_is_no_change(desk: Desk, venue: LiveVenue) -> None:
    assert desk.connector.set_margin_mode(desk.instrument("ETH-USDC"), "cross") is True
    assert ([], []) == (errors(desk), sent(venue))


def test_an_unknown_mode_is_refused(desk: Desk, venue: LiveVenue) -> None:
    modes = ("portfolio", "")
    assert [False, False] == [desk.connector.set_margin_mode(desk.instrument("ETH-USDC"), mode) for mode in modes]
    desk.until(lambda: len(errors(desk)) == len(modes))
    text = "set_margin_mode of ETH-USDC was not sent: {!r} is not one of cross, isolated"
    assert [("set_margin_mode", text.format(mode)) for mode in modes] == errors(desk)
    assert [] == sent(venue)


def test_a_mode_is_refused_where_there_is_an_order_or_a_position(desk: Desk, venue: LiveVenue) -> None:
    eth = desk.instrument("ETH-USDC")
    resting = desk.submit("ETH-USDC", 1.0, 3900.0)
    desk.until_status(resting, OrderStatus.ACCEPTED)
    assert desk.connector.set_margin_mode(eth, "isolated") is False
    desk.until_status(desk.submit("ETH-USDC", 1.0, 4001.0, tif="ioc"), OrderStatus.FILLED)
    desk.until_equal()
    desk.until(lambda: desk.connector.leverage.holds(eth))  # type: ignore[attr-defined]
    assert desk.connector.set_margin_mode(eth, "isolated") is False
    desk.cancel(resting)
    desk.until_status(resting, OrderStatus.CANCELED)
    assert desk.connector.set_margin_mode(eth, "isolated") is False
    desk.until(lambda: len(errors(desk)) == 3)
    why = "set_margin_mode of ETH-USDC was not sent: the venue changes no margin mode where there is {}: close first"
    expected = ("1 working order", "a position and 1 working order", "a position")
    assert [("set_margin_mode", why.format(what)) for what in expected] == errors(desk)
    assert [] == sent(venue)
    assert "cross" == desk.connector.get_margin_mode(eth)


# --- spot --------------------------------------------------------------------------------------------------------------


def test_a_spot_market_has_neither_leverage_nor_a_mode(tmp_path: Path) -> None:
    venue = LiveVenue(tmp_path, markets=["ETH", "ETH/USDC"])
    with desk_on(venue) as desk:
        spot = LookupsManager().find_symbol("LIGHTER", "ETH-USDC", MarketType.SPOT)
        assert spot is not None
        connector = desk.connector
        assert (None, None, None, math.inf) == (
            connector.get_instrument_leverage(spot),
            connector.get_max_instrument_leverage(spot),
            connector.get_margin_mode(spot),
            connector.get_max_instrument_notional(spot),
        )
        connector.set_instrument_leverage(spot, 2.0)
        assert connector.set_margin_mode(spot, "isolated") is False
        desk.until(lambda: len(errors(desk)) == 2)
        assert ["set_instrument_leverage", "set_margin_mode"] == [operation for operation, _ in errors(desk)]
        assert [] == sent(venue)
    venue.close()


# --- isolated margin ---------------------------------------------------------------------------------------------------


def test_an_amount_that_the_venue_cannot_count_is_refused_at_once(desk: Desk) -> None:
    for amount in (0, -1, "0.0000001", "many", math.nan, True):
        with pytest.raises(UnitsError, match="amount"):
            desk.connector.add_isolated_margin(desk.instrument("ETH-USDC"), amount)  # type: ignore[attr-defined]


def test_margin_of_a_cross_position_is_refused_with_the_reason(desk: Desk, venue: LiveVenue) -> None:
    eth = desk.instrument("ETH-USDC")
    assert desk.connector.add_isolated_margin(eth, 5) is False  # type: ignore[attr-defined]
    assert desk.connector.remove_isolated_margin(eth, "5.5") is False  # type: ignore[attr-defined]
    desk.until(lambda: len(errors(desk)) == 2)
    assert ["add_isolated_margin", "remove_isolated_margin"] == [operation for operation, _ in errors(desk)]
    assert all("its margin mode is not isolated" in text for _, text in errors(desk))


def allocated(venue: LiveVenue) -> int:
    """What backs the isolated position, in millionths."""
    return int(venue.ask(lambda: venue.engine.account(US).positions[ETH].allocated_micro))


def locked_in_last_snapshot(desk: Desk) -> float:
    """What Qubx was last told of the collateral that nothing else can use."""
    return float(desk.of_type(AccountSnapshotEvent)[-1].snapshot.balances[0].locked)


def open_isolated(desk: Desk) -> None:
    """Hold 1 ETH with margin of its own."""
    eth = desk.instrument("ETH-USDC")
    assert desk.connector.set_margin_mode(eth, "isolated") is True
    desk.until(lambda: desk.connector.get_margin_mode(eth) == "isolated")
    desk.until_status(desk.submit("ETH-USDC", 1.0, 4001.0, tif="ioc"), OrderStatus.FILLED)
    desk.until(lambda: desk.connector.leverage.holds(eth))  # type: ignore[attr-defined]


def test_a_market_becomes_isolated_and_keeps_its_leverage(desk: Desk, venue: LiveVenue) -> None:
    eth = desk.instrument("ETH-USDC")
    desk.connector.set_instrument_leverage(eth, 10.0)
    assert desk.connector.set_margin_mode(eth, "isolated") is True  # before the first is answered
    desk.until(lambda: desk.connector.get_margin_mode(eth) == "isolated")
    assert 10.0 == desk.connector.get_instrument_leverage(eth)
    assert (1000, 1) == (sent(venue)[-1]["InitialMarginFraction"], sent(venue)[-1]["MarginMode"])


def test_margin_moves_to_an_isolated_position_and_back(desk: Desk, venue: LiveVenue) -> None:
    open_isolated(desk)
    eth, before = desk.instrument("ETH-USDC"), allocated(venue)
    assert desk.connector.add_isolated_margin(eth, "100.25") is True  # type: ignore[attr-defined]
    desk.until(lambda: allocated(venue) == before + 100_250_000)
    assert desk.connector.remove_isolated_margin(eth, 50) is True  # type: ignore[attr-defined]
    desk.until(lambda: allocated(venue) == before + 50_250_000)
    desk.until(lambda: locked_in_last_snapshot(desk) == allocated(venue) / 1e6)  # Qubx is told without asking
    total = venue.ask(
        lambda: venue.engine.account(US).collateral_micro + venue.engine.account(US).positions[ETH].allocated_micro
    )
    assert total / 1e6 == round(
        desk.of_type(BalanceUpdateEvent)[-1].balance.total, 6
    )  # once both its channels have spoken
    assert [] == errors(desk)


def test_margin_that_the_position_needs_stays_with_it(desk: Desk, venue: LiveVenue) -> None:
    open_isolated(desk)
    before = allocated(venue)
    assert desk.connector.remove_isolated_margin(desk.instrument("ETH-USDC"), 150) is True  # type: ignore[attr-defined]
    desk.until(lambda: errors(desk))
    ((operation, text),) = errors(desk)
    assert "remove_isolated_margin" == operation
    assert "remove_isolated_margin of ETH-USDC was refused" in text
    assert before == allocated(venue)


def test_margin_without_a_position_is_refused_with_the_reason(desk: Desk, venue: LiveVenue) -> None:
    eth = desk.instrument("ETH-USDC")
    assert desk.connector.set_margin_mode(eth, "isolated") is True
    desk.until(lambda: desk.connector.get_margin_mode(eth) == "isolated")
    assert desk.connector.add_isolated_margin(eth, 5) is False  # type: ignore[attr-defined]
    desk.until(lambda: errors(desk))
    assert "there is no position" in errors(desk)[0][1]


def test_an_isolated_position_and_its_margin_are_known_after_a_restart(venue: LiveVenue) -> None:
    with desk_on(venue) as desk:
        open_isolated(desk)
    with desk_on(venue) as desk:
        eth = desk.instrument("ETH-USDC")
        assert ("isolated", True) == (
            desk.connector.get_margin_mode(eth),
            desk.connector.leverage.holds(eth),  # type: ignore[attr-defined]
        )
        assert desk.connector.add_isolated_margin(eth, 1) is True  # type: ignore[attr-defined]
