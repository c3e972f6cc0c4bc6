"""Markets that come, change and go at the venue while the plugin runs, and those of types that have no instrument."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from qubx.core.basics import MarketType, OrderStatus
from qubx.core.events import OrderRejectedEvent
from qubx.core.lookups import LookupsManager
from qubx.core.series import OrderBook, Quote

from qubx_lighter.errors import LighterError
from qubx_lighter.sim.model.commands import (
    CancelMarket,
    ChangeMarket,
    CreateMarket,
    DelistMarket,
    PlaceOrder,
    SetMarketStatus,
)
from qubx_lighter.sim.model.specs import MarketSpec
from tests.live import BTC, ETH, US, Desk, LiveVenue, desk_on

NEWLY = MarketSpec(2, "NEWLY", 3, 3, min_base_lots=50, initial_price_ticks=150_000)
ODD = MarketSpec(4000, "ODD", 2, 4, min_base_lots=50, market_type="dated", initial_price_ticks=50_000)
OPTION = 1000

Opener = Callable[..., tuple[LiveVenue, Desk]]


@pytest.fixture
def opener(tmp_path: Path) -> Iterator[Opener]:
    """Open a venue with some markets, and a desk on it."""
    with ExitStack() as opened:

        def open_(*markets: str) -> tuple[LiveVenue, Desk]:
            venue = LiveVenue(tmp_path, markets=list(markets))
            opened.callback(venue.close)
            return venue, opened.enter_context(desk_on(venue))

        yield open_


def loader_of(desk: Desk) -> Any:
    return desk.provider._instruments  # type: ignore[attr-defined]


def reload(desk: Desk) -> None:
    """Have the markets reloaded as the watch does, which listens to whoever reloads them."""
    desk._loop.run(loader_of(desk).load())


def found(symbol: str) -> Any:
    return LookupsManager().find_symbol("LIGHTER", symbol, MarketType.SWAP)


def latest(desk: Desk, symbol: str, kind: type) -> Any:
    """Give the newest object of a kind that came for an instrument."""
    return next(
        (m[2] for m in reversed(desk.data) if m[0] is not None and m[0].symbol == symbol and isinstance(m[2], kind)),
        None,
    )


def test_a_market_listed_at_run_time_is_noticed_subscribed_and_traded(opener: Opener) -> None:
    venue, desk = opener("ETH")
    assert found("NEWLY-USDC") is None
    assert venue.execute(CreateMarket(NEWLY)).ok
    venue.quote(2, 149_900, 150_100)
    venue.execute(
        PlaceOrder(US, 2, False, 100, 149_000)
    )  # of somebody else who uses the account: it is met, and looked up
    desk.until(lambda: found("NEWLY-USDC") is not None)
    sol = desk.instrument("NEWLY-USDC")
    desk.provider.subscribe("quote", {sol})
    desk.provider.subscribe("orderbook(0.01, 10)", {sol})
    desk.until(lambda: latest(desk, "NEWLY-USDC", OrderBook) and latest(desk, "NEWLY-USDC", Quote))
    quote = desk.provider.get_quote(sol)
    assert (149.9, 150.1) == (quote.bid, quote.ask)
    desk.until_status(desk.submit("NEWLY-USDC", 0.5), OrderStatus.FILLED)
    desk.until_equal()
    assert 500 == venue.truth()["positions"][2]


def test_a_change_of_rules_reaches_the_instrument_the_books_and_the_orders(opener: Opener) -> None:
    venue, desk = opener("ETH", "BTC")
    eth = desk.instrument("ETH-USDC")
    desk.provider.subscribe("orderbook(0, 5)", {eth})
    desk.provider.subscribe("quote", {eth})
    venue.quote(ETH, 299_900, 300_100)
    desk.until(lambda: latest(desk, "ETH-USDC", OrderBook))
    assert venue.execute(CancelMarket(ETH)).ok
    assert venue.execute(ChangeMarket(ETH, price_decimals=3, size_decimals=5, min_base_lots=100)).ok
    reload(desk)
    desk.until(lambda: eth.tick_size == 0.001)
    assert (1e-05, 0.001) == (eth.lot_size, eth.venue_attributes["min_base_amount"])
    venue.quote(ETH, 2_999_995, 3_000_005)
    desk.until(lambda: (quote := desk.provider.get_quote(eth)) is not None and quote.ask == 3000.005)
    desk.until(lambda: latest(desk, "ETH-USDC", OrderBook).top_ask == 3000.005)
    order = desk.submit("ETH-USDC", 0.01234, 2999.123)
    desk.until_status(order, OrderStatus.ACCEPTED)
    desk.until_equal()
    assert (1_234, 0, 2_999_123) == next(iter(venue.truth()["orders"].values()))


def test_a_market_in_reduce_only_mode_lets_a_position_be_closed_and_nothing_else(opener: Opener) -> None:
    venue, desk = opener("ETH")
    venue.quote(ETH, 299_900, 300_100)
    desk.provider.subscribe("quote", {desk.instrument("ETH-USDC")})
    desk.until(lambda: desk.provider.get_quote(desk.instrument("ETH-USDC")))
    desk.until_status(desk.submit("ETH-USDC", 0.1), OrderStatus.FILLED)
    assert venue.execute(ChangeMarket(ETH, force_reduce_only=True)).ok
    refused = desk.submit("ETH-USDC", 0.1, 2990.0)
    desk.until(lambda: [e for e in desk.of_type(OrderRejectedEvent) if e.client_order_id == refused.client_order_id])
    assert "21740" == desk.of_type(OrderRejectedEvent)[-1].code
    desk.until_status(desk.submit("ETH-USDC", -0.1, 2990.0, reduce_only=True), OrderStatus.FILLED)
    desk.until_equal()
    assert {} == venue.truth()["positions"]


def test_a_market_that_stops_is_not_listed_on_the_venues_word_and_orders_end_with_its_code(opener: Opener) -> None:
    venue, desk = opener("ETH", "BTC")
    btc = desk.instrument("BTC-USDC")
    assert desk.provider.is_instrument_listed(btc)
    assert venue.execute(SetMarketStatus(BTC, "inactive")).ok
    refused = desk.submit("BTC-USDC", 0.01, 9_000.0)
    desk.until(lambda: [e for e in desk.of_type(OrderRejectedEvent) if e.client_order_id == refused.client_order_id])
    assert "21605" == desk.of_type(OrderRejectedEvent)[-1].code
    reload(desk)
    desk.until(lambda: not desk.provider.is_instrument_listed(btc))
    assert btc.delisted_at is not None
    assert desk.provider.is_instrument_listed(desk.instrument("ETH-USDC"))
    assert venue.execute(SetMarketStatus(BTC, "active")).ok
    reload(desk)
    desk.until(lambda: desk.provider.is_instrument_listed(btc) and btc.delisted_at is None)


def test_a_delisted_market_is_given_up_when_two_replies_lack_it_and_its_position_is_settled(opener: Opener) -> None:
    venue, desk = opener("ETH", "BTC", "SOL")
    venue.quote(BTC, 999_900, 1_000_100)
    btc = desk.instrument("BTC-USDC")
    desk.provider.subscribe("quote", {btc})
    desk.until(lambda: desk.provider.get_quote(btc))
    desk.until_status(desk.submit("BTC-USDC", 0.01), OrderStatus.FILLED)
    resting = desk.submit("BTC-USDC", 0.01, 9_000.0)
    desk.until_status(resting, OrderStatus.ACCEPTED)
    assert venue.execute(DelistMarket(BTC)).ok
    desk.until_status(resting, OrderStatus.CANCELED)
    desk.until(lambda: not desk.account.get_positions()[btc].quantity)
    desk.until(lambda: all(order.status.is_terminal for order in desk.account.get_orders().values()))
    reload(desk)
    assert desk.provider.is_instrument_listed(btc), "a reply that lacks a market is no proof"
    loader_of(desk)._clock_ns = lambda: time.time_ns() + 60 * 10**9
    reload(desk)
    desk.until(lambda: not desk.provider.is_instrument_listed(btc))
    desk.until_equal()


def test_a_venue_that_cannot_be_asked_delists_nothing(opener: Opener) -> None:
    venue, desk = opener("ETH", "BTC")
    btc = desk.instrument("BTC-USDC")
    venue.execute(DelistMarket(BTC))
    venue._thread.run(venue.venue.server.close())
    with pytest.raises(LighterError):
        desk._loop.run(desk.provider._instruments.load())  # type: ignore[attr-defined]
    assert desk.provider.is_instrument_listed(btc)


# --- types that have no instrument ------------------------------------------------------------------------------------


def test_binary_options_and_unknown_types_on_shared_channels_are_skipped_and_counted(opener: Opener) -> None:
    venue, desk = opener("ETH", "BTC100K")
    assert venue.execute(CreateMarket(ODD)).ok
    venue.quote(ETH, 299_900, 300_100)
    for kind in ("quote", "orderbook(0, 5)", "trade", "funding_rate", "open_interest"):
        desk.provider.subscribe(kind, {desk.instrument("ETH-USDC")})
    desk.until(lambda: desk.provider.get_quote(desk.instrument("ETH-USDC")))
    reload(desk)
    assert {"dated": 1} == dict(loader_of(desk).skipped.most_common(1))
    for market_id, price in ((OPTION, 40), (4000, 50_000)):
        venue.rest(market_id, price, 10_000, is_ask=True)
        assert venue.execute(PlaceOrder(US, market_id, False, 1_000, price)).ok
        assert venue.execute(PlaceOrder(US, market_id, False, 1_000, price - 10)).ok
    desk.until_status(desk.submit("ETH-USDC", 0.1), OrderStatus.FILLED)
    resting = desk.submit("ETH-USDC", 0.1, 2900.0)
    desk.until_status(resting, OrderStatus.ACCEPTED)
    stats = desk.connector.account.stats()  # type: ignore[attr-defined]
    assert 6 == stats["foreign_rows"], "an order that was filled, its trade, and one that rests, of two markets"
    check(venue, desk)
    market = desk.provider.stats()  # type: ignore[attr-defined]
    assert (0, 0, 0) == tuple(market.get(name, 0) for name in ("decode_errors", "handler_errors", "book_gaps"))


def test_an_account_that_holds_binary_options_starts_recovers_and_trades(opener: Opener, tmp_path: Path) -> None:
    venue, desk = opener("ETH", "BTC100K")
    venue.rest(OPTION, 40, 10_000, is_ask=True)
    venue.execute(PlaceOrder(US, OPTION, False, 1_000, 40))
    venue.execute(PlaceOrder(US, OPTION, False, 1_000, 30))
    desk.until(lambda: desk.connector.account.stats()["foreign_rows"] >= 3)  # type: ignore[attr-defined]
    with desk_on(venue) as second:
        snapshots = second.connector.account.stats()["snapshots"]  # type: ignore[attr-defined]
        venue.drop_connections()
        second.until(lambda: second.connector.account.stats()["snapshots"] > snapshots)  # type: ignore[attr-defined]
        second.until_status(second.submit("ETH-USDC", 0.1, 2900.0), OrderStatus.ACCEPTED)
        check(venue, second)
        assert 0 == second.connector.account.stats()["failed_snapshots"]  # type: ignore[attr-defined]


def check(venue: LiveVenue, desk: Desk) -> None:
    """Compare Qubx's account with the venue's, but for the markets that have no instrument."""

    def ours() -> dict[str, Any]:
        truth = venue.truth()
        truth["positions"] = {key: lots for key, lots in truth["positions"].items() if key == ETH}
        truth["orders"] = {key: row for key, row in truth["orders"].items() if (key >> 48) - 1 == ETH}
        return truth

    desk.until(lambda: desk.view() == ours())
