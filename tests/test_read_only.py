"""An account that is only looked at: with a key, or with a token that can do no more."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qubx.core.basics import Order, OrderOrigin, OrderRequest, OrderStatus
from qubx.core.events import DealEvent
from qubx.core.exceptions import NotSupported

from qubx_lighter.connector import LighterConnector, connector_of
from qubx_lighter.errors import ConfigurationError
from qubx_lighter.read_only import ReadOnlyConnector
from qubx_lighter.settings import LighterSettings
from qubx_lighter.sim.model import commands
from tests.live import ETH, ETH_MID, US, Desk, LiveVenue, desk_on, venue_in

FAR_S = 4_000_000_000
TOKEN = f"ro:{US}:single:{FAR_S}:" + "ab" * 32
URL = {"base_url": "http://127.0.0.1:1"}
READS = {
    "connect", "disconnect", "reconnect", "is_ws_ready", "stats", "make_client_id", "end_reason", "send",
    "request_order_status", "request_snapshot", "request_hist_deals",
    "get_instrument_leverage", "get_max_instrument_leverage", "get_max_instrument_notional", "get_margin_mode",
    "get_adl_level", "wallet_moves", "debt_repayments",
    "set_instrument_leverage",  # Qubx asks at start: nothing is sent and nothing raised, see below
    "convert_currency", "move_funds", "repay_debt",  # Qubx's own refusals: the venue has none of it
}  # fmt: skip


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[LiveVenue]:
    with venue_in(tmp_path) as venue:
        venue.execute(commands.PlaceOrder(US, ETH, False, 5000, ETH_MID + 100, time_in_force=0))
        venue.execute(commands.PlaceOrder(US, ETH, False, 1000, ETH_MID - 1000, client_order_index=77))
        yield venue


@pytest.fixture(params=["key", "token"])
def desk(request: pytest.FixtureRequest, venue: LiveVenue) -> Iterator[Desk]:
    if request.param == "token":
        text = venue.accounts_file.read_text()
        start = text.index('secret = "') + len('secret = "')
        venue.accounts_file.write_text(text[:start] + TOKEN + text[text.index('"', start) :])
    params: dict[str, Any] = {"read_only": True} if request.param == "key" else {}
    with desk_on(venue, dead_mans_switch_s=600, **params) as desk:
        yield desk


def sent(venue: LiveVenue) -> int:
    return len(venue.ask(lambda: venue.engine.transactions(10)))


def test_everything_is_seen(desk: Desk, venue: LiveVenue) -> None:
    desk.until_equal()
    order: Any = desk.account.get_order("lighter_77")
    assert OrderOrigin.EXTERNAL is order.origin
    venue.take(ETH, ETH_MID - 1000, 1_200_000, is_ask=True)
    desk.until_status(order, OrderStatus.FILLED)
    desk.until_equal()
    (deal,) = desk.of_type(DealEvent)
    desk.connector.request_hist_deals(order.instrument, desk.time.time() - np.timedelta64(60, "s"))
    historical = {deal.deal.trade_id}
    desk.until(lambda: historical <= {event.deal.trade_id for event in desk.of_type(DealEvent) if event.historical})
    assert (20.0, 50.0, "cross") == (
        desk.connector.get_instrument_leverage(order.instrument),
        desk.connector.get_max_instrument_leverage(order.instrument),
        desk.connector.get_margin_mode(order.instrument),
    )
    assert 0 == sent(venue)


def test_every_write_is_refused_with_the_reason_and_nothing_is_sent(desk: Desk, venue: LiveVenue) -> None:
    desk.until_equal()
    order: Any = desk.account.get_order("lighter_77")
    with pytest.raises(NotSupported, match="an order for ETH-USDC was not sent: this account is read-only"):
        desk.submit("ETH-USDC", 0.5, 3990.0)
    with pytest.raises(NotSupported, match="the cancel of lighter_77 was not sent"):
        desk.cancel(order)
    desk.connector.set_instrument_leverage(order.instrument, 3.0)
    desk.connector.request_snapshot()
    desk.until_equal()
    assert 0 == sent(venue)


def test_there_is_no_write_that_is_not_refused(desk: Desk) -> None:
    """One that the connector is given later fails here until somebody decides."""
    connector = connector_of(type("Context", (), {"_connectors": {"LIGHTER": desk.connector}})())
    instrument = desk.instrument("ETH-USDC")
    order = Order(
        client_order_id="x",
        type="LIMIT",  # type: ignore[arg-type]
        instrument=instrument,
        quantity=1.0,
        side="BUY",  # type: ignore[arg-type]
        time_in_force="gtc",
    )
    samples = {
        "request": OrderRequest(instrument, 1.0, 1.0, "LIMIT", client_id="x"),  # type: ignore[arg-type]
        "order": order,
        "instrument": instrument,
        "mode": "cross",
        "amount": 1.0,
        "action": None,
    }
    methods = dict(inspect.getmembers(LighterConnector, inspect.isfunction))
    writes = {name for name in methods if not name.startswith("_")} - READS
    assert {"submit_order", "cancel_order", "update_order", "cancel_all_orders", "set_margin_mode"} <= writes
    for name in writes:
        parameters = list(inspect.signature(methods[name]).parameters.values())[1:]
        required = [samples[one.name] for one in parameters if one.default is inspect.Parameter.empty]
        with pytest.raises(NotSupported, match="this account is read-only"):
            getattr(connector, name)(*required)
        assert name in vars(ReadOnlyConnector)


def test_what_reads_needs_nothing_that_writes(desk: Desk) -> None:
    """A method that is inherited from the connector that trades may not ask for its parts."""
    connector = connector_of(type("Context", (), {"_connectors": {"LIGHTER": desk.connector}})())
    instrument = desk.instrument("ETH-USDC")
    assert "qubx_ETH-USDC_1" == connector.make_client_id("qubx_ETH-USDC_1")
    assert (None, float("inf")) == (
        connector.get_adl_level(instrument),
        connector.get_max_instrument_notional(instrument),
    )
    assert not connector.is_simulated_trading
    assert ([], []) == (connector.wallet_moves(), connector.debt_repayments())
    assert connector.is_ws_ready()
    assert connector.reconnect()
    desk.until(lambda: not connector.is_ws_ready())
    desk.until(connector.is_ws_ready)


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["secret", "read_only_token"])
def test_a_token_may_stand_where_the_key_does(where: str) -> None:
    settings = LighterSettings.build(URL, {where: TOKEN})
    token = settings.read_token(0)
    assert token is not None
    assert (US, TOKEN, True) == (token.account_index, token.token.get_secret_value(), settings.read_only)
    assert TOKEN not in repr(settings) + str(token)


def test_a_token_of_all_sub_accounts_reads_the_one_that_is_named() -> None:
    token = f"ro:1:all:{FAR_S}:abcd"
    settings = LighterSettings.build(URL | {"account_index": 7}, {"read_only_token": token})
    assert 7 == settings.read_token(0).account_index  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (f"ro:7:single:{FAR_S}:abcd", "of account 7 alone, not of account 100"),
        ("ro:100:single:1000:abcd", "has expired"),
        ("ro:100:some:1000:abcd", "is not of the form"),
    ],
)
def test_a_token_that_does_not_fit_is_refused_in_words_without_the_token(token: str, text: str) -> None:
    settings = LighterSettings.build(URL | {"account_index": US}, {"read_only_token": token})
    with pytest.raises(ConfigurationError, match=text) as refusal:
        settings.read_token(2000)
    assert "abcd" not in str(refusal.value)


def test_without_a_token_a_key_reads() -> None:
    assert LighterSettings.build(URL | {"read_only": True}, {}).read_token(0) is None
