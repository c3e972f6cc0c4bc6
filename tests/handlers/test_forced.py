"""What the venue did to a position, in words."""

from __future__ import annotations

import json

import pytest
from qubx.core.errors import ErrorLevel

from qubx_lighter.handlers.account import AccountConverter
from qubx_lighter.handlers.forced import describe, forced_trade
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.orders import ClientIds
from tests.handlers.test_account import ACCOUNT, trade_row
from tests.markets import loaded_instruments


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("liquidation", "ETH-USDC was liquidated: -0.5 at 4000"),
        ("deleverage", "ETH-USDC was reduced by auto-deleveraging: -0.5 at 4000"),
        ("market-settlement", "ETH-USDC was settled with its market: -0.5 at 4000"),
        ("expropriation", "ETH-USDC was traded by the venue (expropriation): -0.5 at 4000"),
    ],
)
async def test_a_forced_trade_says_what_happened_to_which_position(kind: str, words: str) -> None:
    instruments = await loaded_instruments()
    converter = AccountConverter(
        exchange="LIGHTER", account_index=ACCOUNT, collateral="USDC", instruments=instruments, ids=ClientIds(4)
    )
    (own,) = converter.deals(trade_row(type=kind, ask_account_id=ACCOUNT, bid_account_id=9))
    event = forced_trade(own)
    assert (words, kind, -0.5, 4000.0) == (event.message, event.kind, event.amount, event.price)
    assert (own.instrument, own.deal.time, ErrorLevel.MEDIUM) == (event.instrument, event.timestamp, event.level)
    assert words in str(event)


@pytest.mark.parametrize(
    ("note", "words"),
    [
        (
            {"id": "1", "kind": "liquidation", "content": {"size": "0.5", "market_index": 0, "price": "4000.00"}},
            "liquidation: market_index 0, price 4000.00, size 0.5",
        ),
        ({"id": 2, "kind": "announcement", "content": "<b>closed</b> {today}"}, "announcement: <b>closed</b> {today}"),
        ({"kind": "deleverage"}, "deleverage"),
    ],
)
def test_a_notification_is_one_line_whatever_it_holds(note: dict[str, object], words: str) -> None:
    frame = wire.decode(wire.NotificationsFrame, json.dumps({"notifs": [note], "type": "update/notification"}).encode())
    assert [words] == [describe(row) for row in frame.notifs or []]
