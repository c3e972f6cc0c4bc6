"""Auth tokens: renewed before they end without losing anything, asked for anew when refused, and told to nobody."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
import stackprinter
from loguru import logger
from qubx.core.basics import OrderStatus
from qubx.core.events import DealEvent

from qubx_lighter import factory, websocket
from qubx_lighter.errors import LighterError
from qubx_lighter.sim.faults import Kind
from qubx_lighter.sim.model import commands
from tests.live import ETH, ETH_MID, US, Desk, LiveVenue, desk_on


def tokens_of(venue: LiveVenue) -> list[str]:
    """Listen at the venue for the tokens that clients show, from now on."""
    shown: list[str] = []
    server = venue.venue.server
    check = server.check_token

    def listen(token: str | None, account_index: int) -> None:
        shown.append(token or "")
        check(token, account_index)

    server.check_token = listen  # type: ignore[method-assign]
    return shown


def _deadlines(shown: list[str]) -> set[int]:
    return {int(token.partition(":")[0]) for token in shown}


def renewals(desk: Desk) -> int:
    return desk.connector.account.stats()["renewals"]  # type: ignore[attr-defined,no-any-return]


def test_nothing_is_lost_or_told_twice_while_tokens_are_renewed(
    venue: LiveVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "AUTH_TOKEN_RENEWAL_S", 0.3)
    shown = tokens_of(venue)
    with desk_on(venue) as desk:
        done = renewals(desk)
        orders = []
        while renewals(desk) < done + 12 or len(orders) < 10 or len(_deadlines(shown)) < 3:
            assert len(orders) < 200, "the renewals show the same token again"
            orders.append(desk.submit("ETH-USDC", 0.01, 3999.5))
            desk.until_status(orders[-1], OrderStatus.ACCEPTED)
            venue.take(ETH, ETH_MID - 50, 100, is_ask=True)
            venue.time.ahead_s += 2
            desk.listen(0.02)
        desk.until(lambda: all(desk.order(order).status is OrderStatus.FILLED for order in orders))
        desk.until_equal()
        deals = [event.deal.trade_id for event in desk.of_type(DealEvent)]
        ours = venue.ask(lambda: [str(trade.trade_id) for trade in venue.engine.trades(account_index=US)])
        assert sorted(ours) == sorted(deals)
        assert 0 == desk.connector.account.stats()["recoveries"]  # type: ignore[attr-defined]


def test_a_refused_token_is_replaced_and_the_account_caught_up_with(venue: LiveVenue) -> None:
    with desk_on(venue) as desk:
        order = desk.until_status(desk.submit("ETH-USDC", 0.5, 3999.5), OrderStatus.ACCEPTED)
        account = venue.ask(venue.engine.account, US)
        keys = dict(account.keys)
        venue.ask(account.keys.clear)  # every token of the key is refused with 20013
        venue.drop_connections()
        desk.until(lambda: not desk.connector.is_ws_ready())
        venue.take(ETH, ETH_MID - 50, 5000, is_ask=True)
        desk.listen(1.5)  # the market's socket is back, the account's channels are refused
        assert not desk.connector.is_ws_ready()
        venue.ask(account.keys.update, keys)
        desk.connector.reconnect()
        desk.until_status(order, OrderStatus.FILLED)
        desk.until(desk.connector.is_ws_ready)
        desk.until_equal()


@pytest.mark.parametrize(
    ("account_tier", "kind", "options"),
    [
        ("standard", Kind.ERROR, {"code": 400, "text": '{"code":22402,"message":"no"}'}),
        ("premium", Kind.ERROR, {"code": 400, "text": '{"code":22402,"message":"no"}'}),
        ("standard", Kind.ERROR, {"code": 503}),
        ("standard", Kind.HANG, {"seconds": 5}),
    ],
)
def test_no_variable_of_a_failed_read_shows_the_token(
    venue: LiveVenue, account_tier: str, kind: Kind, options: dict[str, Any]
) -> None:
    """Qubx writes what a callback raised with the variables of all frames, by ``stackprinter``."""
    shown = tokens_of(venue)
    with desk_on(venue, account_tier=account_tier, rest_timeout_s=0.2) as desk:
        client = desk.connector.account._client  # type: ignore[attr-defined]
        venue.fault(kind, "/api/v1/accountActiveOrders", times=0, **options)
        with pytest.raises(LighterError) as refusal:
            desk._loop.run(client.active_orders(US))
        raised = refusal.value
        told = stackprinter.format((type(raised), raised, raised.__traceback__), style="plaintext")
    assert "headers = " in told
    assert "{'authorization': <hidden>}" in told
    plain = "".join(told.split())  # it breaks long values
    for token in filter(None, shown):
        assert token.rpartition(":")[2] not in plain


def test_neither_key_nor_token_is_ever_told(venue: LiveVenue) -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level=0, diagnose=True, backtrace=True)
    shown = tokens_of(venue)
    secret = venue.accounts_file.read_text().split('secret = "')[1].split('"')[0]
    try:
        with desk_on(venue) as desk:
            desk.until_status(desk.submit("ETH-USDC", 0.5, 4001.0, tif="ioc"), OrderStatus.FILLED)
            account = venue.ask(venue.engine.account, US)
            keys = dict(account.keys)
            venue.ask(account.keys.clear)
            desk.connector.request_snapshot()
            failed = desk.connector.account.stats  # type: ignore[attr-defined]
            desk.until(lambda: failed()["failed_snapshots"] == 1)
            client = desk.connector.account._client  # type: ignore[attr-defined]
            with pytest.raises(LighterError) as refusal:
                desk._loop.run(client.active_orders(US))
            lines.append("".join(traceback.format_exception(refusal.value)))
            venue.drop_connections()
            desk.listen(1.0)
            venue.ask(account.keys.update, keys)
            desk.connector.reconnect()
            desk.until(desk.connector.is_ws_ready)
            venue.execute(commands.Deposit(US, 10**6))
            desk.until_equal()
            gateway = factory._gateways[desk.provider]
            parts = (gateway, gateway.settings, gateway.signer, client, desk.connector, desk.connector.account)
            lines += [repr(part) + str(part) for part in parts]
            lines.append(repr(vars(gateway.settings)))
    finally:
        logger.remove(sink)
    assert len({token for token in shown if token}) > 1
    assert any("failed" in line for line in lines), "nothing went wrong, so nothing was shown"
    text = "\n".join(lines)
    for hidden in {secret, secret.removeprefix("0x"), *(token.rpartition(":")[2] for token in shown if token)}:
        assert hidden not in text
