"""LighterInstrumentLoader: market rows to Qubx instruments and back."""

from __future__ import annotations

from typing import Any

import msgspec
import pandas as pd
import pytest
from qubx.core.basics import Instrument, MarketType

from qubx_lighter.errors import UnknownMarketError, WireError
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.protocol import wire

# The fields of a captured answer of the venue (mainnet, 2026-05-05) that this package reads, ``created_at`` added.
ETH = {
    "symbol": "ETH",
    "market_id": 0,
    "market_type": "perp",
    "base_asset_id": 0,
    "quote_asset_id": 0,
    "status": "active",
    "min_base_amount": "0.0050",
    "min_quote_amount": "10.000000",
    "order_quote_limit": "281474976.710655",
    "supported_size_decimals": 4,
    "supported_price_decimals": 2,
    "default_initial_margin_fraction": 500,
    "min_initial_margin_fraction": 200,
    "maintenance_margin_fraction": 120,
    "closeout_margin_fraction": 80,
    "last_trade_price": 2361.31,
    "created_at": "1735689600000",
}
BTC = ETH | {
    "symbol": "BTC",
    "market_id": 1,
    "min_base_amount": "0.00020",
    "supported_size_decimals": 5,
    "supported_price_decimals": 1,
}
SPOT = ETH | {
    "symbol": "ETH/USDC",
    "market_id": 2048,
    "market_type": "spot",
    "default_initial_margin_fraction": 0,
    "min_initial_margin_fraction": 0,
    "maintenance_margin_fraction": 0,
}
OPTION = ETH | {"symbol": "BTC-UP", "market_id": 1001, "market_type": "binary_options"}


class Venue:
    """Answers with the market rows that it has."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = list(rows)

    async def order_book_details(self) -> wire.OrderBookDetailsBody:
        spot = [row for row in self.rows if row["market_type"] == "spot"]
        body = {"order_book_details": [row for row in self.rows if row not in spot], "spot_order_book_details": spot}
        return wire.decode(wire.OrderBookDetailsBody, msgspec.json.encode(body))


async def loaded(*rows: dict[str, Any], **options: Any) -> LighterInstrumentLoader:
    loader = LighterInstrumentLoader(Venue(*rows), **options)
    await loader.load()
    return loader


def foreign(
    *,
    symbol: str = "BTCUSDC",
    base: str = "BTC",
    quote: str = "USDC",
    exchange_symbol: str = "1",
    market_type: MarketType = MarketType.SWAP,
    exchange: str = "LIGHTER",
    **options: Any,
) -> Instrument:
    return Instrument(
        symbol, market_type, exchange, base, quote, quote, exchange_symbol, 0.1, 0.00001, 0.0002, **options
    )


# --- conversion -------------------------------------------------------------------------------------------------------


async def test_perpetual_becomes_a_swap_named_by_base_and_collateral() -> None:
    loader = await loaded(ETH)
    instrument = loader.instrument(0)
    assert "LIGHTER:SWAP:ETH-USDC" == str(instrument)
    assert ("ETH", "USDC", "USDC", "ETH-USDC") == (
        instrument.base,
        instrument.quote,
        instrument.settle,
        instrument.exchange_symbol,
    )
    assert (0.01, 0.0001, 0.0001, 10.0, 1.0) == (
        instrument.tick_size,
        instrument.lot_size,
        instrument.min_size,
        instrument.min_notional,
        instrument.contract_size,
    )
    assert pd.Timestamp("2025-01-01") == instrument.listed_at


async def test_venue_attributes_are_what_json_can_carry() -> None:
    instrument = (await loaded(ETH)).instrument(0)
    assert {
        "market_id": 0,
        "market_type": "perp",
        "venue_symbol": "ETH",
        "status": "active",
        "min_base_amount": 0.005,
        "price_decimals": 2,
        "size_decimals": 4,
        "default_initial_margin_fraction": 500,
        "min_initial_margin_fraction": 200,
        "maintenance_margin_fraction": 120,
    } == msgspec.json.decode(msgspec.json.encode(dict(instrument.venue_attributes)))


async def test_spot_market_splits_into_base_and_quote() -> None:
    loader = await loaded(ETH, SPOT)
    instrument = loader.instrument(2048)
    assert "LIGHTER:SPOT:ETH-USDC" == str(instrument)
    assert ("ETH", "USDC") == (instrument.base, instrument.quote)


async def test_collateral_names_the_quote_of_perpetuals_only() -> None:
    loader = await loaded(ETH, SPOT, collateral="usdg")
    assert ["LIGHTER:SWAP:ETH-USDG", "LIGHTER:SPOT:ETH-USDC"] == [str(instrument) for instrument in loader.instruments]
    assert "USDG" == loader.instrument(0).settle


async def test_symbol_format_without_a_dash() -> None:
    loader = await loaded(ETH, SPOT, symbol_format="BASEQUOTE")
    assert ["LIGHTER:SWAP:ETHUSDC", "LIGHTER:SPOT:ETHUSDC"] == [str(instrument) for instrument in loader.instruments]


async def test_names_are_upper_case_and_the_venue_spelling_is_kept() -> None:
    instrument = (await loaded(ETH | {"symbol": "1000pepe"})).instrument(0)
    assert ("1000PEPE-USDC", "1000PEPE", "1000pepe") == (
        instrument.symbol,
        instrument.base,
        instrument.venue_attributes["venue_symbol"],
    )


@pytest.mark.parametrize(
    ("min_base", "lots", "smallest"),
    [("0.0050", 50, 0.005), ("0", 1, 0.0001), ("", 1, 0.0001), ("0.00501", 51, 0.0051)],
)
async def test_the_least_to_open_with_is_at_least_one_lot_and_on_the_grid(
    min_base: str, lots: int, smallest: float
) -> None:
    loader = await loaded(ETH | {"min_base_amount": min_base})
    attributes = loader.instrument(0).venue_attributes
    assert (lots, smallest) == (loader.market_by_id(0).min_base_lots, attributes["min_base_amount"])


async def test_a_small_rest_of_a_position_is_no_dust_that_nothing_can_close() -> None:
    instrument = (await loaded(ETH)).instrument(0)
    assert 0.003 == instrument.tradeable_size(0.003, 4000.0)
    assert not instrument.is_dust(0.003, 4000.0)


async def test_a_spot_market_keeps_its_minimum() -> None:
    loader = await loaded(SPOT)
    assert loader.instrument(2048).venue_attributes["min_base_amount"] == loader.instrument(2048).min_size


async def test_steps_are_the_nearest_floats_whatever_the_decimals() -> None:
    loader = await loaded(ETH | {"supported_price_decimals": 6, "supported_size_decimals": 0, "min_base_amount": "20"})
    instrument = loader.instrument(0)
    assert (1e-06, 1.0, 1.0) == (instrument.tick_size, instrument.lot_size, instrument.min_size)


async def test_a_reducing_order_on_a_swap_needs_no_minimum_notional_and_a_spot_sale_does() -> None:
    loader = await loaded(ETH, SPOT)
    assert (False, True) == (
        loader.instrument(0).min_notional_on_reduce,
        loader.instrument(2048).min_notional_on_reduce,
    )


async def test_unknown_age_is_no_age() -> None:
    assert (await loaded(ETH | {"created_at": ""})).instrument(0).listed_at is None


@pytest.mark.parametrize(
    "change", [{"min_base_amount": "much"}, {"min_quote_amount": "-1"}, {"supported_price_decimals": 40}]
)
async def test_a_row_that_makes_no_sense_is_refused_by_name(change: dict[str, Any]) -> None:
    with pytest.raises(WireError, match="market 0 ETH"):
        await loaded(ETH | change)


# --- the set of markets -----------------------------------------------------------------------------------------------


async def test_markets_come_perpetuals_first_so_that_a_bare_symbol_means_the_perpetual() -> None:
    loader = await loaded(SPOT | {"market_id": 0}, BTC, ETH | {"market_id": 9})
    assert ["SWAP:BTC-USDC", "SWAP:ETH-USDC", "SPOT:ETH-USDC"] == [
        f"{instrument.market_type}:{instrument.symbol}" for instrument in loader.instruments
    ]


async def test_tickers_and_ids_are_inverse_even_where_a_perpetual_and_a_spot_market_share_a_symbol() -> None:
    loader = await loaded(ETH, BTC, SPOT)
    assert {"ETH-USDC": 0, "BTC-USDC": 1, "ETH/USDC": 2048} == loader.ticker_to_market_id
    assert {0: "ETH-USDC", 1: "BTC-USDC", 2048: "ETH/USDC"} == loader.market_id_to_ticker


async def test_binary_options_and_unknown_types_are_skipped_and_counted() -> None:
    loader = await loaded(ETH, OPTION, OPTION | {"market_id": 1002}, OPTION | {"market_id": 5, "market_type": "swamp"})
    assert {"binary_options": 2, "swamp": 1} == loader.skipped
    assert [0] == [market.market_id for market in loader.markets]
    assert not loader.knows(1001)
    with pytest.raises(UnknownMarketError, match="1001"):
        loader.instrument(1001)


async def test_inactive_market_resolves_by_id_and_is_not_listed() -> None:
    loader = await loaded(ETH, BTC | {"status": "inactive"})
    assert ["ETH-USDC"] == [instrument.symbol for instrument in loader.instruments]
    assert "BTC-USDC" == loader.instrument(1).symbol
    assert not loader.market(loader.instrument(1)).active


async def test_a_delisted_market_never_answers_to_the_name_of_the_one_that_trades() -> None:
    loader = await loaded(
        ETH, ETH | {"market_id": 70, "status": "inactive"}, ETH | {"market_id": 71, "status": "inactive"}
    )
    symbols = [loader.instrument(market_id).symbol for market_id in (0, 70, 71)]
    assert ["ETH-USDC", "ETH-USDC.70", "ETH-USDC.71"] == symbols
    assert 70 == loader.market(loader.instrument(70)).market_id
    assert ["ETH-USDC"] == [instrument.symbol for instrument in loader.instruments]


async def test_loading_again_updates_the_objects_that_others_hold() -> None:
    venue = Venue(ETH)
    loader = LighterInstrumentLoader(venue)
    await loader.load()
    held = loader.instrument(0)
    venue.rows = [ETH | {"supported_price_decimals": 3, "min_base_amount": "0.0100"}, BTC]
    await loader.load()
    assert held is loader.instrument(0)
    attributes = held.venue_attributes
    assert (0.001, 0.01, 3) == (held.tick_size, attributes["min_base_amount"], attributes["price_decimals"])
    assert loader.knows(1)


async def test_an_empty_venue_loads() -> None:
    loader = await loaded()
    assert ([], {}) == (loader.instruments, loader.ticker_to_market_id)


# --- back to markets --------------------------------------------------------------------------------------------------


async def test_market_of_our_instrument() -> None:
    loader = await loaded(ETH, BTC, SPOT)
    market = loader.market(loader.instrument(1))
    assert (1, 20, 10.0, 120) == (
        market.market_id,
        market.min_base_lots,
        market.min_quote,
        market.maintenance_margin_fraction,
    )
    assert (5, 1) == (market.scale.size_decimals, market.scale.price_decimals)
    assert (50.0, 1.0) == (market.max_leverage, loader.market(loader.instrument(2048)).max_leverage)


@pytest.mark.parametrize(
    "instrument",
    [
        foreign(),
        foreign(exchange_symbol="BTCUSDC"),
        foreign(exchange_symbol="BTCUSDC", venue_attributes={"market_id": 1}),
        foreign(symbol="BTC-USDC", exchange_symbol="BTC-USDC"),
        foreign(base="btc", quote="usdc"),
    ],
)
async def test_market_of_an_instrument_from_another_lookup(instrument: Instrument) -> None:
    assert 1 == (await loaded(ETH, BTC, SPOT)).market(instrument).market_id


async def test_market_by_name_prefers_the_active_one_and_tells_types_apart() -> None:
    loader = await loaded(ETH | {"market_id": 70, "status": "inactive"}, ETH, SPOT)
    named = {"symbol": "ETHUSDC", "base": "ETH", "exchange_symbol": "ETHUSDC"}
    assert 0 == loader.market(foreign(**named)).market_id
    assert 2048 == loader.market(foreign(**named, market_type=MarketType.SPOT)).market_id


@pytest.mark.parametrize(
    ("instrument", "says"),
    [
        (foreign(exchange_symbol="0"), "at the venue SWAP ETH"),
        (foreign(exchange_symbol="BTCUSDC", venue_attributes={"market_id": 0}), "at the venue SWAP ETH"),
        (foreign(symbol="BTC-USDC", exchange_symbol="0"), "at the venue SWAP ETH"),
        (foreign(exchange_symbol="99"), "unknown to the venue"),
        (foreign(base="DOGE", exchange_symbol="DOGE"), "does not list DOGE in USDC"),
        (foreign(quote="USDT", exchange_symbol="BTC"), "does not list BTC in USDT"),
        (foreign(exchange_symbol="1", market_type=MarketType.SPOT), "at the venue SWAP BTC"),
        (foreign(exchange="BINANCE.UM", exchange_symbol="BTCUSDC"), "is not an instrument of LIGHTER"),
    ],
)
async def test_an_instrument_that_the_venue_does_not_confirm_is_refused(instrument: Instrument, says: str) -> None:
    loader = await loaded(ETH, BTC, SPOT)
    with pytest.raises(UnknownMarketError, match=says):
        loader.market(instrument)


async def test_two_live_markets_of_one_name_are_not_guessed_between() -> None:
    loader = await loaded(BTC, BTC | {"market_id": 50})
    with pytest.raises(UnknownMarketError, match="lists more than once"):
        loader.market(foreign(exchange_symbol="BTCUSDC"))
    assert 50 == loader.market(foreign(exchange_symbol="50")).market_id
    assert ["BTC-USDC.1", "BTC-USDC"] == [instrument.symbol for instrument in loader.instruments]


async def test_unknown_market_ids_are_refused() -> None:
    loader = await loaded(ETH)
    for resolve in (loader.instrument, loader.market_by_id):
        with pytest.raises(UnknownMarketError, match="7"):
            resolve(7)
