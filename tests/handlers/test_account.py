"""Account rows to Qubx objects: ids, sides, totals, fees, times."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from qubx.core.basics import OrderOrigin, OrderStatus, RejectCause
from qubx.core.events import OrderCanceledEvent, OrderExpiredEvent, OrderFilledEvent, OrderRejectedEvent

from qubx_lighter.errors import UnknownMarketError, WireError
from qubx_lighter.handlers.account import AccountConverter
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.orders import ClientIds
from tests.markets import ROWS, Listing, loaded_instruments, market_row

ACCOUNT = 225671
OURS = (4 << 40) | 17_000_000_123
ETH_BID = (1 << 48) | (2**48 - 1)


@pytest.fixture
async def converter() -> AccountConverter:
    return AccountConverter(
        exchange="LIGHTER",
        account_index=ACCOUNT,
        collateral="USDC",
        instruments=await loaded_instruments(),
        ids=ClientIds(4),
    )


def order_row(**changes: Any) -> wire.OrderRow:
    row = wire.OrderRow(
        order_index=ETH_BID,
        client_order_index=OURS,
        market_index=0,
        is_ask=False,
        status="open",
        initial_base_amount=0.3,
        remaining_base_amount=0.2,
        filled_base_amount=0.1,
        filled_quote_amount=430.05,
        price=4300.5,
        time_in_force="post-only",
        created_at=1_760_287_839,
        transaction_time=1_760_287_839_091_234,
    )
    return msgspec.structs.replace(row, **changes)


def trade_row(**changes: Any) -> wire.TradeRow:
    row = wire.TradeRow(
        trade_id=77,
        market_id=0,
        price=4000.0,
        size=0.5,
        is_maker_ask=False,
        timestamp=1_760_287_839_079,
        ask_id=(1 << 48) | 5,
        bid_id=ETH_BID,
        ask_account_id=9,
        bid_account_id=ACCOUNT,
        bid_client_id=OURS,
        transaction_time=1_760_287_839_091_234,
        taker_fee=280,
        maker_fee=28,
    )
    return msgspec.structs.replace(row, **changes)


def test_an_order_carries_the_total_the_filled_and_both_ids(converter: AccountConverter) -> None:
    order = converter.order(order_row())
    assert ("qubx_ETH-USDC_17000000123", str(ETH_BID)) == (order.client_order_id, order.venue_order_id)
    assert (0.3, 0.1, 4300.5) == (order.quantity, order.filled_quantity, order.price)
    assert math.isclose(4300.5, order.avg_fill_price or 0.0)
    assert (OrderStatus.PARTIALLY_FILLED, "BUY", "gtx", True) == (
        order.status,
        order.side,
        order.time_in_force,
        order.post_only,
    )
    assert np.datetime64("2025-10-12T16:50:39.091234", "ns") == order.last_update_time
    assert OrderOrigin.RECOVERED is order.origin


@pytest.mark.parametrize(
    ("client_order_index", "client_id"),
    [(0, f"ext:{ETH_BID}"), (123, "lighter_123"), ((9 << 40) | 5, f"lighter_{(9 << 40) | 5}")],
)
async def test_an_order_of_somebody_else_is_external_and_can_be_addressed(
    converter: AccountConverter, client_order_index: int, client_id: str
) -> None:
    order = converter.order(order_row(client_order_index=client_order_index))
    assert (client_id, OrderOrigin.EXTERNAL) == (order.client_order_id, order.origin)
    assert ETH_BID == converter.index_of(order)
    order.venue_order_id = None
    assert (client_order_index or ETH_BID) == converter.index_of(order)


def test_an_order_of_this_process_without_a_venue_id_is_addressed_by_its_client_index(
    converter: AccountConverter,
) -> None:
    order = converter.order(order_row())
    order.venue_order_id = None
    assert OURS == converter.index_of(order)


@pytest.mark.parametrize(
    ("status", "rested", "filled", "event", "cause"),
    [
        ("filled", True, 0.3, OrderFilledEvent, None),
        ("canceled", True, 0.1, OrderCanceledEvent, None),
        ("canceled", False, 0.0, OrderCanceledEvent, None),
        ("canceled-expired", True, 0.0, OrderExpiredEvent, None),
        ("canceled-post-only", False, 0.0, OrderRejectedEvent, RejectCause.NOT_FILLABLE),
        ("canceled-margin-not-allowed", False, 0.0, OrderRejectedEvent, RejectCause.INSUFFICIENT_MARGIN),
        ("canceled-self-trade", True, 0.0, OrderCanceledEvent, None),
        ("canceled-some-day", True, 0.0, OrderCanceledEvent, None),
    ],
)
def test_an_end_becomes_the_event_that_says_why(
    converter: AccountConverter, status: str, rested: bool, filled: float, event: type, cause: RejectCause | None
) -> None:
    result = converter.ended(order_row(status=status, filled_base_amount=filled), rested=rested)
    assert event is type(result)
    assert cause is getattr(result, "cause", None)
    assert ("qubx_ETH-USDC_17000000123", str(ETH_BID)) == (result.client_order_id, result.venue_order_id)
    assert np.datetime64("2025-10-12T16:50:39.091234", "ns") == result.last_update_time


def test_an_unknown_state_fails_loudly(converter: AccountConverter) -> None:
    with pytest.raises(WireError, match="sleeping"):
        converter.ended(order_row(status="sleeping"), rested=True)


def test_a_maker_buy_pays_the_maker_fee_in_ppm(converter: AccountConverter) -> None:
    (own,) = converter.deals(trade_row(is_maker_ask=False))
    deal = own.deal
    assert ("77", 0.5, 4000.0, False, "USDC") == (
        deal.trade_id,
        deal.amount,
        deal.price,
        deal.aggressive,
        deal.fee_currency,
    )
    assert math.isclose(4000.0 * 0.5 * 28 / 1e6, deal.fee_amount or 0.0)
    assert ("qubx_ETH-USDC_17000000123", str(ETH_BID)) == (own.client_id, own.venue_id)
    assert np.datetime64("2025-10-12T16:50:39.091234", "ns") == deal.time


def test_a_taker_sell_is_negative_and_pays_the_taker_fee_and_the_integrators(converter: AccountConverter) -> None:
    row = trade_row(
        bid_account_id=9, ask_account_id=ACCOUNT, ask_client_id=OURS, bid_client_id=0, integrator_taker_fee=20
    )
    (own,) = converter.deals(row)
    assert (-0.5, True) == (own.deal.amount, own.deal.aggressive)
    assert math.isclose(4000.0 * 0.5 * 300 / 1e6, own.deal.fee_amount or 0.0)


def test_a_trade_with_oneself_keeps_both_legs_apart(converter: AccountConverter) -> None:
    legs = converter.deals(trade_row(ask_account_id=ACCOUNT))
    assert {"77:a": -0.5, "77:b": 0.5} == {own.deal.trade_id: own.deal.amount for own in legs}


def test_a_deleverage_without_an_order_is_named_by_its_trade(converter: AccountConverter) -> None:
    (own,) = converter.deals(trade_row(type="deleverage", bid_id=0, bid_client_id=0))
    assert (False, "deleverage-77", "ext:deleverage-77") == (own.has_order, own.venue_id, own.client_id)


@pytest.fixture
async def spot_converter() -> AccountConverter:
    spot = msgspec.structs.replace(
        market_row(2048, "ETH/USDC", 4, 2, "0.0050"), market_type="spot", base_asset_id=1, quote_asset_id=3
    )
    loader = LighterInstrumentLoader(Listing([*ROWS, spot]))
    await loader.load()
    return AccountConverter(
        exchange="LIGHTER", account_index=ACCOUNT, collateral="USDC", instruments=loader, ids=ClientIds(4)
    )


def test_a_spot_fee_is_taken_out_of_what_is_received(spot_converter: AccountConverter) -> None:
    (bought,) = spot_converter.deals(trade_row(market_id=2048))
    assert (0.5 * 28 / 1e6, "ETH") == (bought.deal.fee_amount, bought.deal.fee_currency)
    sale = trade_row(market_id=2048, bid_account_id=9, ask_account_id=ACCOUNT, integrator_taker_fee=20)
    (sold,) = spot_converter.deals(sale)
    assert (0.5 * 4000.0 * 300 / 1e6, "USDC") == (sold.deal.fee_amount, sold.deal.fee_currency)


def test_a_trade_of_2025_without_fee_fields_costs_nothing(converter: AccountConverter) -> None:
    """The venue leaves out what is zero."""
    raw = b"""{"trade_id":225067334,"tx_hash":"f4957a","type":"trade","market_id":24,"size":"1.00","price":"40.1342",
    "usd_amount":"40.134200","ask_id":7036874567915800,"bid_id":7318349238192658,"ask_account_id":225671,
    "bid_account_id":61127,"is_maker_ask":false,"block_height":62887147,"timestamp":1760287839079,
    "maker_fee":20,"taker_position_sign_changed":true}"""
    (own,) = converter.deals(wire.decode(wire.TradeRow, raw))
    assert (0.0, -1.0, True) == (own.deal.fee_amount, own.deal.amount, own.deal.aggressive)
    assert np.datetime64("2025-10-12T16:50:39.079", "ns") == own.deal.time


@pytest.mark.parametrize(
    ("kind", "is_maker", "forced"),
    [
        ("trade", False, ""),
        ("liquidation", False, "liquidation"),
        ("liquidation", True, ""),  # ours took over what was liquidated
        ("deleverage", True, "deleverage"),
        ("deleverage", False, "deleverage"),
        ("market-settlement", True, "market-settlement"),
    ],
)
def test_a_deal_tells_whether_it_was_the_venues_doing(
    converter: AccountConverter, kind: str, is_maker: bool, forced: str
) -> None:
    (own,) = converter.deals(trade_row(type=kind, is_maker_ask=not is_maker))
    assert forced == own.forced


def test_a_trade_of_others_is_none_of_ours(converter: AccountConverter) -> None:
    assert [] == converter.deals(trade_row(bid_account_id=8))


def test_a_short_position_has_a_sign_a_price_and_a_time(converter: AccountConverter) -> None:
    row = wire.PositionRow(
        market_id=24,
        sign=-1,
        position=2.0,
        avg_entry_price=40.1342,
        position_value=80.0,
        initial_margin_fraction=20.0,
    )
    time = np.datetime64(1_760_287_839_091_234_000, "ns")
    position = converter.position(row, time)
    assert (-2.0, 40.1342, 5.0, "cross") == (
        position.quantity,
        position.position_avg_price,
        position.leverage,
        position.margin_mode,
    )
    assert time == position.last_update_time
    assert math.isclose(80.0 * 0.012, position.maint_margin)
    assert math.isclose(80.0 * 0.2, position.initial_margin)


def test_a_position_without_a_price_is_not_taken_for_flat(converter: AccountConverter) -> None:
    row = wire.PositionRow(market_id=24, sign=1, position=2.0, avg_entry_price=0.0, position_value=80.0)
    position = converter.position(row, np.datetime64(5, "ns"))
    assert (2.0, 40.0) == (position.quantity, position.position_avg_price)


def test_a_row_of_an_unlisted_market_raises_rather_than_vanishes(converter: AccountConverter) -> None:
    row = wire.PositionRow(market_id=99, sign=1, position=2.0, avg_entry_price=1.0)
    with pytest.raises(UnknownMarketError, match="99"):
        converter.position(row, np.datetime64(5, "ns"))


def test_the_captured_round_trip_adds_up(converter: AccountConverter, wire_dir: Path) -> None:
    deals = []
    for raw in (wire_dir / "account_225671.jsonl").read_bytes().splitlines():
        route = wire.route(raw)
        if route.type == "update/account_all":
            frame = wire.decode(wire.AccountTradesFrame, raw)
            assert not isinstance(frame.trades, list)
            deals += [
                own.deal for rows in (frame.trades or {}).values() for row in rows for own in converter.deals(row)
            ]
    assert [-1.0, 1.0] == [deal.amount for deal in deals]
    assert all(deal.aggressive for deal in deals)
    # The venue's own collateral moved by this much over the same trades: 998.9318 -> 998.9263.
    assert math.isclose(-0.0055, -sum(deal.amount * deal.price for deal in deals), abs_tol=1e-9)


# --- orders that wait for a trigger ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("venue_type", "tif", "expected"),
    [
        (
            "stop-loss",
            "immediate-or-cancel",
            ("STOP_MARKET", "gtc", 4200.0, {"stop_type": "market", "trigger_type": "stop_loss"}),
        ),
        (
            "take-profit",
            "immediate-or-cancel",
            ("STOP_MARKET", "gtc", 4200.0, {"stop_type": "market", "trigger_type": "take_profit"}),
        ),
        (
            "stop-loss-limit",
            "good-till-time",
            ("STOP_LIMIT", "gtc", 4200.0, {"stop_type": "limit", "trigger_type": "stop_loss", "limit_price": 4300.5}),
        ),
        (
            "take-profit-limit",
            "immediate-or-cancel",
            ("STOP_LIMIT", "ioc", 4200.0, {"stop_type": "limit", "trigger_type": "take_profit", "limit_price": 4300.5}),
        ),
        ("limit", "good-till-time", ("LIMIT", "gtc", 4300.5, {})),
        ("twap", "good-till-time", ("LIMIT", "gtc", 4300.5, {})),
        ("twap-sub", "immediate-or-cancel", ("MARKET", "ioc", 4300.5, {})),
    ],
)
def test_the_price_of_a_stop_order_is_its_trigger_and_its_options_ask_for_it_again(
    converter: AccountConverter, venue_type: str, tif: str, expected: tuple[str, str, float, dict[str, Any]]
) -> None:
    row = order_row(type=venue_type, time_in_force=tif, trigger_price=4200.0, status="pending", filled_base_amount=0.0)
    order = converter.order(row)
    assert expected == (str(order.type), order.time_in_force, order.price, order.options)
    assert OrderStatus.ACCEPTED == order.status
