"""LighterInstrumentLoader: market rows to Qubx instruments and back."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pandas as pd
import pytest
from qubx.core.basics import Instrument, MarketType

from qubx_lighter.errors import UnknownMarketError, WireError
from qubx_lighter.instruments import LighterInstrumentLoader, ListingChanges
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.wire import MarketConfig
from tests.markets import Listing, market_row

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
    """Answers with the market rows that it has, read as the REST client reads them."""

    def __init__(self, *rows: Any) -> None:
        self.rows = list(rows)

    async def order_book_details(self) -> wire.OrderBookDetailsBody:
        spot = [row for row in self.rows if isinstance(row, dict) and row.get("market_type") == "spot"]
        body = {"order_book_details": [row for row in self.rows if row not in spot], "spot_order_book_details": spot}
        return wire.decode(wire.RawOrderBookDetailsBody, msgspec.json.encode(body)).read()


async def loaded(*rows: Any, **options: Any) -> LighterInstrumentLoader:
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


async def test_a_spot_market_has_no_leverage_settles_in_its_quote_and_holds_sales_to_its_minimum() -> None:
    loader = await loaded(ETH, SPOT)
    spot, swap = loader.instrument(2048), loader.instrument(0)
    assert (True, False) == (spot.is_spot(), swap.is_spot())
    assert ("USDC", False, 1.0) == (spot.settle, spot.inverse, spot.contract_size)
    assert (1.0, 50.0) == (loader.market(spot).max_leverage, loader.market(swap).max_leverage)
    assert (0.005, 10.0) == (spot.min_size, spot.min_notional)
    assert (0.0, 0.0, 0.006) == tuple(spot.tradeable_size(size, 2000.0) for size in (0.004, 0.0049, 0.006))
    assert 0.0 == spot.tradeable_size(0.006, 1000.0), "6 USDC is less than the venue takes"
    assert 0.0001 == swap.tradeable_size(0.0001, 1000.0), "a position is closed however small it is"


@pytest.mark.parametrize("symbol_format", ["BASE-QUOTE", "BASEQUOTE"])
async def test_a_perpetual_and_a_spot_market_of_one_coin_stay_apart_everywhere(symbol_format: str) -> None:
    loader = await loaded(ETH, BTC, SPOT, SPOT | {"symbol": "LIT/USDC", "market_id": 2049}, symbol_format=symbol_format)
    swap, spot = loader.instrument(0), loader.instrument(2048)
    assert swap.symbol == spot.symbol
    assert (False, 2) == (swap == spot, len({swap, spot}))
    assert (0, 2048) == (loader.market(swap).market_id, loader.market(spot).market_id)
    assert 4 == len(loader.ticker_to_market_id) == len(loader.market_id_to_ticker)
    assert {m: m for m in loader.market_id_to_ticker} == {
        market_id: loader.ticker_to_market_id[ticker] for market_id, ticker in loader.market_id_to_ticker.items()
    }
    for market_type, market_id in ((MarketType.SWAP, 0), (MarketType.SPOT, 2048)):
        named = {"symbol": "ETHUSDC", "base": "ETH", "market_type": market_type}
        assert market_id == loader.market(foreign(**named, exchange_symbol="ETH")).market_id
        assert market_id == loader.market(foreign(**named, exchange_symbol=str(market_id))).market_id
    with pytest.raises(UnknownMarketError, match="at the venue SPOT ETH/USDC"):
        loader.market(foreign(symbol="ETHUSDC", base="ETH", exchange_symbol="2048"))


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


# --- at run time ------------------------------------------------------------------------------------------------------

MINUTE_NS = 60_000_000_000
START_NS = 1_800_000_000_000_000_000


class Running:
    """A loader at run time, on a clock that a test moves, over a venue that a test changes."""

    def __init__(self, *rows: Any) -> None:
        self.venue = Venue(*rows)
        self.now_ns = START_NS
        self.loader = LighterInstrumentLoader(self.venue, clock_ns=lambda: self.now_ns)

    async def reload(self, *rows: Any, after_ns: int = 5 * MINUTE_NS) -> ListingChanges:
        self.venue.rows = list(rows)
        self.now_ns += after_ns
        return await self.loader.load()

    @property
    def names(self) -> list[str]:
        return [str(instrument).removeprefix("LIGHTER:") for instrument in self.loader.instruments]


async def running(*rows: Any) -> Running:
    made = Running(*rows)
    await made.loader.load()
    return made


SOL = ETH | {"symbol": "SOL", "market_id": 2}
INACTIVE = {"status": "inactive"}


def texts(instruments: tuple[Instrument, ...]) -> list[str]:
    return [str(instrument).removeprefix("LIGHTER:") for instrument in instruments]


async def test_the_first_load_lists_what_is_active_and_the_next_finds_nothing_new() -> None:
    made = Running(ETH, BTC | INACTIVE, SPOT)
    first = await made.loader.load()
    assert ["SWAP:ETH-USDC", "SPOT:ETH-USDC"] == texts(first.listed)
    assert ListingChanges() == await made.reload(ETH, BTC | INACTIVE, SPOT)


async def test_a_new_market_is_listed_and_a_closed_one_delisted_at_once_with_the_time() -> None:
    made = await running(ETH, BTC)
    held = made.loader.instrument(1)
    changes = await made.reload(ETH, BTC | INACTIVE, SOL)
    assert (["SWAP:SOL-USDC"], ["SWAP:BTC-USDC"], ()) == (
        texts(changes.listed),
        texts(changes.delisted),
        changes.changed,
    )
    assert held is changes.delisted[0] is made.loader.instrument(1)
    assert (pd.Timestamp(made.now_ns), "inactive") == (held.delisted_at, held.venue_attributes["status"])
    assert ["SWAP:ETH-USDC", "SWAP:SOL-USDC"] == made.names
    await made.reload(ETH, BTC | INACTIVE, SOL)
    assert pd.Timestamp(START_NS + 5 * MINUTE_NS) == held.delisted_at, "the time does not move on"


async def test_a_market_that_trades_again_is_listed_again() -> None:
    made = await running(ETH, BTC)
    held = made.loader.instrument(1)
    await made.reload(ETH, BTC | INACTIVE)
    changes = await made.reload(ETH, BTC)
    assert (("SWAP:BTC-USDC",), None) == (tuple(texts(changes.listed)), held.delisted_at)
    assert held is changes.listed[0]


@pytest.mark.parametrize("status", ["waiting-for-settlement", "in-settlement", "settled"])
async def test_a_market_that_is_being_settled_is_delisted(status: str) -> None:
    made = await running(ETH, BTC)
    assert ["SWAP:BTC-USDC"] == texts((await made.reload(ETH, BTC | {"status": status})).delisted)


async def test_a_status_that_nobody_has_documented_delists_nothing() -> None:
    made = await running(ETH, BTC)
    changes = await made.reload(ETH, BTC | {"status": "resting"})
    assert ((), {"status": ("active", "resting")}) == (changes.delisted, changes.changed[0].rules)
    assert made.loader.market_by_id(1).active


async def test_a_rule_that_changes_is_told_by_name_and_reaches_the_object_that_others_hold() -> None:
    made = await running(ETH, BTC)
    held = made.loader.instrument(0)
    changes = await made.reload(
        ETH | {"supported_price_decimals": 3, "min_base_amount": "0.0100", "min_initial_margin_fraction": 400}, BTC
    )
    (change,) = changes.changed
    assert {
        "tick_size": (0.01, 0.001),
        "min_base": (0.005, 0.01),
        "min_initial_margin_fraction": (200, 400),
    } == change.rules
    assert (True, held) == (change.grid_changed, change.instrument)
    assert (0.001, 400) == (held.tick_size, held.venue_attributes["min_initial_margin_fraction"])
    (change,) = (await made.reload(ETH | {"supported_price_decimals": 3}, BTC)).changed
    assert ({"min_base", "min_initial_margin_fraction"}, False) == (set(change.rules), change.grid_changed)


async def test_an_id_that_goes_to_another_coin_delists_the_one_and_lists_the_other() -> None:
    made = await running(ETH, BTC | {"symbol": "GRAM", "market_id": 12})
    gram = made.loader.instrument(12)
    changes = await made.reload(ETH, BTC | {"symbol": "TON", "market_id": 12})
    assert (["SWAP:TON-USDC"], ["SWAP:GRAM-USDC"]) == (texts(changes.listed), texts(changes.delisted))
    (renaming,) = changes.renamed
    assert (12, "GRAM-USDC", "TON-USDC") == (renaming.market_id, renaming.before.symbol, renaming.after.symbol)
    assert ("TON-USDC", pd.Timestamp(made.now_ns)) == (made.loader.instrument(12).symbol, gram.delisted_at)
    with pytest.raises(UnknownMarketError, match="at the venue SWAP TON"):
        made.loader.market(gram)
    await made.reload(ETH, BTC | {"symbol": "GRAM", "market_id": 12})
    assert (gram, None) == (made.loader.instrument(12), gram.delisted_at)
    assert gram is made.loader.instrument(12)


async def test_a_name_goes_to_the_market_that_trades_and_its_object_stays() -> None:
    made = await running(ETH, BTC)
    held = made.loader.instrument(0)
    changes = await made.reload(ETH | INACTIVE, ETH | {"market_id": 99}, BTC)
    assert ((), (), {"market_id": (0, 99)}) == (changes.listed, changes.delisted, changes.changed[0].rules)
    assert [(0, "ETH-USDC.0")] == [(renaming.market_id, renaming.after.symbol) for renaming in changes.renamed]
    assert held is made.loader.instrument(99)
    assert (99, 99) == (held.venue_attributes["market_id"], made.loader.market(held).market_id)
    from_a_file = foreign(symbol="ETH-USDC", base="ETH", exchange_symbol="ETH-USDC", venue_attributes={"market_id": 0})
    assert 99 == made.loader.market(from_a_file).market_id, "the id that it claims is of the closed market"


async def test_a_name_never_moves_between_markets_that_trade() -> None:
    made = await running(ETH, BTC)
    held = made.loader.instrument(0)
    changes = await made.reload(ETH, ETH | {"market_id": 99}, BTC)
    assert (["SWAP:ETH-USDC.99"], (), ()) == (texts(changes.listed), changes.changed, changes.renamed)
    assert held is made.loader.instrument(0)


async def test_listed_is_what_trades_under_the_name_and_anything_while_nothing_is_known() -> None:
    made = Running(ETH, BTC, SPOT)
    assert made.loader.is_listed(foreign())
    await made.loader.load()
    await made.reload(ETH | INACTIVE, ETH | {"market_id": 99}, BTC | INACTIVE, SPOT)
    assert [False, True, False, True] == [made.loader.is_listed(made.loader.instrument(i)) for i in (0, 99, 1, 2048)]
    other = {"symbol": "ETHUSDC", "base": "ETH"}
    assert made.loader.is_listed(foreign(**other, exchange_symbol="0")), "the name trades, whatever id it carries"
    assert made.loader.is_listed(foreign(exchange="BINANCE.UM"))
    assert not made.loader.is_listed(foreign())
    assert not made.loader.is_listed(foreign(symbol="BTCUSDC", base="BTC", market_type=MarketType.SPOT))
    assert not made.loader.is_listed(foreign(symbol="GRAM-USDC", base="GRAM", exchange_symbol="2048"))


# --- what is missing from a reply -------------------------------------------------------------------------------------


async def test_a_market_missing_from_one_reply_stays_and_from_a_second_is_delisted() -> None:
    made = await running(ETH, BTC, SOL)
    changes = await made.reload(ETH, SOL)
    assert (False, frozenset({1})) == (bool(changes), changes.absent)
    assert "SWAP:BTC-USDC" in made.names
    changes = await made.reload(ETH, SOL, after_ns=MINUTE_NS)
    assert (["SWAP:BTC-USDC"], frozenset()) == (texts(changes.delisted), changes.absent)
    assert ("absent", pd.Timestamp(made.now_ns)) == (
        made.loader.market_by_id(1).status,
        made.loader.instrument(1).delisted_at,
    )
    assert ListingChanges() == await made.reload(ETH, SOL)
    assert ["SWAP:BTC-USDC"] == texts((await made.reload(ETH, BTC, SOL)).listed)


async def test_two_replies_at_once_confirm_nothing() -> None:
    made = await running(ETH, BTC, SOL)
    await made.reload(ETH, SOL)
    assert frozenset({1}) == (await made.reload(ETH, SOL, after_ns=MINUTE_NS // 2)).absent
    assert ["SWAP:BTC-USDC"] == texts((await made.reload(ETH, SOL, after_ns=MINUTE_NS // 2)).delisted)


async def test_a_market_that_comes_back_in_between_begins_anew() -> None:
    made = await running(ETH, BTC, SOL)
    await made.reload(ETH, SOL)
    assert ListingChanges() == await made.reload(ETH, BTC, SOL)
    assert frozenset({1}) == (await made.reload(ETH, SOL)).absent


@pytest.mark.parametrize("rows", [(ETH,), (ETH, BTC, {"symbol": "SOL"}), (ETH, BTC, 5)])
async def test_a_reply_that_says_too_little_delists_nothing_however_often_it_comes(rows: tuple[Any, ...]) -> None:
    made = await running(ETH, BTC, SOL)
    for _ in range(5):
        assert not await made.reload(*rows)
    assert 3 == len(made.names)
    await made.reload(ETH, BTC)
    assert 3 == len(made.names), "what was not believed counts for nothing"


async def test_the_last_market_of_a_type_is_not_given_up_because_the_list_is_empty() -> None:
    made = await running(ETH, BTC, SPOT)
    for _ in range(3):
        assert ListingChanges(absent=frozenset({2048})) == await made.reload(ETH, BTC)
    assert "SPOT:ETH-USDC" in made.names


async def test_a_reply_without_a_market_is_no_reply() -> None:
    made = await running(ETH, BTC)
    for rows in ((), (OPTION,)):
        with pytest.raises(WireError, match="no market"):
            await made.reload(*rows)
    assert ["SWAP:ETH-USDC", "SWAP:BTC-USDC"] == made.names


# --- rows that make no sense ------------------------------------------------------------------------------------------

BAD = [
    {"supported_price_decimals": "many"},
    {"supported_size_decimals": 40},
    {"min_base_amount": "1e999999"},
    {"min_quote_amount": "NaN"},
    {"min_quote_amount": None},
    {"min_initial_margin_fraction": -1},
    {"symbol": ""},
    {"symbol": "<red>:BTC"},
    {"symbol": "BTC/"},
    {"market_type": "spot"},
    {"status": 5},
]


@pytest.mark.parametrize("change", BAD, ids=lambda change: next(iter(change.items())))
async def test_a_row_that_makes_no_sense_costs_its_market_alone(
    change: dict[str, Any], warnings_seen: list[str]
) -> None:
    loader = await loaded(ETH, BTC | change)
    assert ["ETH-USDC"] == [instrument.symbol for instrument in loader.instruments]
    assert ({"unreadable": 1}, False, frozenset()) == (loader.skipped, loader.knows(1), loader.foreign_ids)
    assert 1 == sum("market 1 " in line for line in warnings_seen)


@pytest.mark.parametrize("change", BAD, ids=lambda change: next(iter(change.items())))
async def test_at_run_time_the_known_rule_stays_and_is_reported_once(
    change: dict[str, Any], warnings_seen: list[str]
) -> None:
    made = await running(ETH, BTC)
    before = made.loader.market_by_id(1)
    for _ in range(3):
        assert ListingChanges() == await made.reload(ETH, BTC | change)
    assert (before, 1) == (made.loader.market_by_id(1), made.loader.skipped["unreadable"])
    assert 1 == sum("market 1 " in line for line in warnings_seen)
    assert ListingChanges() == await made.reload(ETH, BTC)
    assert {} == made.loader.skipped


async def test_an_id_given_twice_is_nobodys() -> None:
    made = await running(ETH, BTC)
    assert not await made.reload(
        ETH, BTC, SOL, BTC | {"symbol": "DOGE"}, SOL | {"symbol": "LIT/USDC", "market_type": "spot"}
    )
    assert (["SWAP:ETH-USDC", "SWAP:BTC-USDC"], 4) == (made.names, made.loader.skipped["unreadable"])


async def test_an_age_beyond_all_calendars_is_no_age() -> None:
    assert (await loaded(ETH | {"created_at": "9" * 30})).instrument(0).listed_at is None


# --- binary options ---------------------------------------------------------------------------------------------------


async def test_ids_of_other_types_are_remembered_and_break_nothing_even_unreadable() -> None:
    made = await running(ETH, OPTION, {"market_type": "binary_options", "market_id": 1002})
    assert (frozenset({1001, 1002}), {"binary_options": 2}) == (made.loader.foreign_ids, made.loader.skipped)
    assert not await made.reload(ETH, OPTION | {"market_id": 1003})
    assert frozenset({1001, 1002, 1003}) == made.loader.foreign_ids, "frames of a settled option may still come"
    assert ["SWAP:BTC-UP-USDC"] == texts((await made.reload(ETH, OPTION | {"market_type": "perp"})).listed)
    assert frozenset({1002, 1003}) == made.loader.foreign_ids


async def test_a_market_whose_type_becomes_unknown_stays_what_it_was() -> None:
    made = await running(ETH, BTC)
    for _ in range(3):
        assert not await made.reload(ETH, BTC | {"market_type": "perpetual"})
    assert (["SWAP:ETH-USDC", "SWAP:BTC-USDC"], frozenset()) == (made.names, made.loader.foreign_ids)


# --- who hears of it --------------------------------------------------------------------------------------------------


async def test_listeners_hear_of_changes_whoever_loads_until_they_are_taken_away() -> None:
    made = await running(ETH, BTC)
    heard: list[ListingChanges] = []
    forget = made.loader.observe(heard.append)
    changes = await made.reload(ETH, BTC, SOL)
    await made.reload(ETH, BTC, SOL)
    assert [changes] == heard
    forget()
    forget()
    await made.reload(ETH, BTC, SOL | INACTIVE)
    assert [changes] == heard


async def test_held_objects_are_left_to_whoever_promises_to_update_them_until_the_next_load() -> None:
    made = await running(ETH, BTC)
    held = made.loader.instrument(0)
    promised: list[Instrument] = []
    made.loader.announce = lambda facts: promised.extend(facts) or True
    await made.reload(ETH | {"supported_price_decimals": 3}, BTC)
    (facts,) = promised
    assert (0.01, 0.001) == (held.tick_size, facts.tick_size)
    assert 3 == made.loader.market(held).scale.price_decimals, "the rules themselves are new at once"
    assert {"tick_size", "venue_attributes"} == held.update_from(facts).keys()
    await made.reload(ETH, BTC)
    await made.reload(ETH, BTC)
    assert 0.01 == held.tick_size


async def test_loads_at_the_same_time_take_their_turns() -> None:
    made = await running(ETH)
    made.venue.rows = [ETH, BTC]
    first, second = await asyncio.gather(made.loader.load(), made.loader.load())
    assert (["SWAP:BTC-USDC"], False) == (texts(first.listed), bool(second))


async def test_a_market_with_trading_hours_is_not_given_up_at_night() -> None:
    rows = [market_row(0, "ETH", 4, 2, "0.0050"), market_row(1, "XAU", 4, 2, "0.0050")]
    for row in rows:
        row.status = "inactive"
    rows[1].market_config = MarketConfig(trading_hours="Mon-Fri 09:30-16:00")
    loader = LighterInstrumentLoader(Listing(rows))
    await loader.load()
    assert [False, True] == [loader.market_by_id(market_id).active for market_id in (0, 1)]
