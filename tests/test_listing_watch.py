"""ListingWatch: when the markets are reloaded, and who hears what changed; on a loop whose clock the test moves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from qubx.core.basics import Instrument, InstrumentsLookup

from qubx_lighter.errors import ConfigurationError, LighterError, TransportError
from qubx_lighter.instruments import LighterInstrumentLoader, ListingChanges
from qubx_lighter.protocol.wire import MarketRow, OrderBookDetailsBody
from tests.markets import ROWS, market_row

ETH, BTC, HYPE = ROWS
SOL = market_row(2, "SOL", 3, 3, "0.050")
INTERVAL_S = 300.0


def changed(row: MarketRow, **fields: Any) -> MarketRow:
    return msgspec.structs.replace(row, **fields)


class Venue:
    """Counts the questions, and answers with its rows, or with its trouble."""

    def __init__(self) -> None:
        self.rows = [ETH, BTC, HYPE]
        self.trouble: Exception | None = None
        self.asked_s: list[float] = []
        self.clock: Callable[[], float] = lambda: 0.0

    async def order_book_details(self) -> OrderBookDetailsBody:
        self.asked_s.append(round(self.clock(), 3))
        if self.trouble is not None:
            raise self.trouble
        return OrderBookDetailsBody(order_book_details=list(self.rows))


class Rig:
    """A watch on the running loop, whose clock ``passes`` moves."""

    def __init__(self, lookup: InstrumentsLookup, **options: Any) -> None:
        from qubx_lighter.listing_watch import ListingWatch

        self.now_s = 0.0
        self.lookup = lookup
        self.venue = Venue()
        self.venue.clock = lambda: self.now_s
        self.loader = LighterInstrumentLoader(self.venue, clock_ns=lambda: int((1e9 + self.now_s) * 1e9))
        self.heard: list[ListingChanges] = []
        loop = asyncio.get_running_loop()
        loop.time = lambda: self.now_s  # type: ignore[method-assign]
        options = {"interval_s": INTERVAL_S, "on_change": self.heard.append, "chance": lambda: 0.5} | options
        self.watch = ListingWatch(self.loader, loop=loop, **options)

    async def passes(self, seconds: float) -> None:
        """Let time pass, a second at a time, and everything happen that falls due."""
        for _ in range(round(seconds)):
            self.now_s += 1.0
            await settled()

    async def reload(self, *rows: MarketRow) -> None:
        self.venue.rows = list(rows)
        await self.passes(INTERVAL_S)

    def names(self) -> list[str]:
        return sorted(held.symbol for held in self.lookup.get_lookup().values() if held.exchange == "LIGHTER")


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def lookup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstrumentsLookup:
    from qubx.core.lookups import FileInstrumentsLookupWithCCXT, LookupsManager

    (tmp_path / "other.json").write_text(json.dumps([]))
    manager = object.__new__(LookupsManager)
    manager._i_lookup = FileInstrumentsLookupWithCCXT(str(tmp_path))
    monkeypatch.setattr(LookupsManager, "instance", manager, raising=False)
    return manager._i_lookup


@pytest.fixture
async def rig(lookup: InstrumentsLookup) -> AsyncIterator[Rig]:
    from qubx_lighter.lookup import publish

    made = Rig(lookup)
    await made.loader.load()
    publish(made.loader.instruments)
    made.venue.asked_s.clear()
    made.watch.start()
    yield made
    await made.watch.close()


@pytest.fixture
def log() -> Iterator[list[str]]:
    from qubx import logger

    lines: list[str] = []
    sink = logger.add(lines.append, level="INFO", format="{level} {message}")
    yield lines
    logger.remove(sink)


# --- when -------------------------------------------------------------------------------------------------------------


async def test_markets_are_reloaded_at_the_interval(rig: Rig) -> None:
    await rig.passes(1000)
    assert [300.0, 600.0, 900.0] == rig.venue.asked_s
    assert [] == rig.heard
    assert 3 == rig.watch.stats()["listing_reloads"]


@pytest.mark.parametrize(("chance", "first"), [(0.0, 270.0), (1.0, 330.0)])
async def test_the_interval_is_spread_by_a_tenth(lookup: InstrumentsLookup, chance: float, first: float) -> None:
    rig = Rig(lookup, chance=lambda: chance)
    rig.watch.start()
    await rig.passes(340)
    assert [first] == rig.venue.asked_s
    await rig.watch.close()


async def test_a_poke_reloads_at_once_and_many_once_a_minute(rig: Rig) -> None:
    rig.watch.poke()
    await settled()
    assert [0.0] == rig.venue.asked_s
    for _ in range(130):
        rig.watch.poke()
        await rig.passes(1)
    assert [0.0, 60.0, 120.0] == rig.venue.asked_s
    await rig.passes(400)
    assert [0.0, 60.0, 120.0, 180.0, 480.0] == rig.venue.asked_s, "the last poke is answered, then all is as before"


async def test_a_poke_comes_from_any_thread(rig: Rig) -> None:
    await asyncio.to_thread(rig.watch.poke)
    await settled()
    assert [0.0] == rig.venue.asked_s


async def test_a_shorter_interval_than_the_venue_bears_is_refused(lookup: InstrumentsLookup) -> None:
    with pytest.raises(ConfigurationError, match="every 60 s"):
        Rig(lookup, interval_s=30.0)


async def test_started_twice_it_reloads_once_and_closed_it_stops(rig: Rig) -> None:
    rig.watch.start()
    await rig.passes(301)
    await rig.watch.close()
    await rig.watch.close()
    rig.watch.poke()
    await rig.passes(1000)
    assert [300.0] == rig.venue.asked_s
    rig.venue.rows = [ETH]
    await rig.loader.load()
    assert [] == rig.heard


# --- what -------------------------------------------------------------------------------------------------------------


async def test_a_listing_reaches_the_lookup_the_listener_and_the_log(rig: Rig, log: list[str]) -> None:
    await rig.reload(ETH, BTC, HYPE, SOL)
    assert "SOL-USDC" in rig.names()
    assert ["SOL-USDC"] == [instrument.symbol for changes in rig.heard for instrument in changes.listed]
    assert ["INFO lighter: LIGHTER:SWAP:SOL-USDC trades now\n"] == log
    assert 1 == rig.watch.stats()["markets_listed"]


async def test_a_delisting_dates_the_entry_that_qubx_holds(rig: Rig, log: list[str]) -> None:
    held = rig.lookup.find_symbol("LIGHTER", "BTC-USDC")
    assert held is not None
    await rig.reload(ETH, changed(BTC, status="inactive"), HYPE)
    assert held is rig.lookup.find_symbol("LIGHTER", "BTC-USDC")
    assert held.delisted_at is not None
    assert ["WARNING lighter: LIGHTER:SWAP:BTC-USDC trades no more\n"] == log
    assert ([held], 1) == ([*rig.heard[0].delisted], rig.watch.stats()["markets_delisted"])
    await rig.reload(ETH, BTC, HYPE)
    assert held.delisted_at is None


async def test_a_change_of_rules_is_one_line(rig: Rig, log: list[str]) -> None:
    await rig.reload(ETH, changed(BTC, supported_price_decimals=2, min_base_amount="0.00040"), HYPE)
    assert [
        "INFO lighter: LIGHTER:SWAP:BTC-USDC has other rules: tick_size 0.1 -> 0.01, min_base 0.0002 -> 0.0004\n"
    ] == log
    assert 1 == rig.watch.stats()["rule_changes"]


async def test_another_coin_under_an_id_is_one_line_and_leaves_the_lookup(rig: Rig, log: list[str]) -> None:
    await rig.reload(ETH, BTC, changed(HYPE, symbol="TON"))
    assert "WARNING lighter: market 24 is LIGHTER:SWAP:TON-USDC now, it was LIGHTER:SWAP:HYPE-USDC\n" == log[0]
    assert ["BTC-USDC", "ETH-USDC", "TON-USDC"] == rig.names()


async def test_a_market_missing_from_a_reply_is_looked_for_after_a_minute_and_then_given_up(rig: Rig) -> None:
    await rig.reload(ETH, BTC)
    assert ([], 3) == (rig.heard, len(rig.loader.instruments))
    await rig.passes(60)
    assert ([300.0, 360.0], ["HYPE-USDC"]) == (
        rig.venue.asked_s,
        [instrument.symbol for instrument in rig.heard[0].delisted],
    )
    await rig.passes(200)
    assert 2 == len(rig.venue.asked_s)


async def test_what_others_load_is_heard_too(rig: Rig) -> None:
    rig.venue.rows.append(SOL)
    await rig.loader.load()
    await settled()
    assert (1, "SOL-USDC" in rig.names()) == (len(rig.heard), True)


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble", [TransportError("no route"), LighterError("<b>odd</b> {text}"), ValueError("a bug")]
)
async def test_trouble_keeps_what_is_known_is_counted_told_once_and_retried_sooner(
    rig: Rig, log: list[str], trouble: Exception
) -> None:
    rig.venue.trouble = trouble
    await rig.passes(1000)
    assert [300.0, 360.0, 480.0, 720.0] == [*rig.venue.asked_s[:3], round(rig.venue.asked_s[3])]
    assert (4, 3) == (rig.watch.stats()["listing_errors"], len(rig.loader.instruments))
    assert 1 == sum("cannot be reloaded" in line for line in log)
    rig.venue.trouble = None
    await rig.reload(ETH, BTC, HYPE, SOL)
    assert ("SOL-USDC" in rig.names(), 1) == (True, sum("again, after 4 failures" in line for line in log))


async def test_what_a_listener_raises_ends_neither_the_watch_nor_the_load_that_found_it(
    lookup: InstrumentsLookup,
) -> None:
    def fail(changes: ListingChanges) -> None:
        raise ValueError(str(changes))

    rig = Rig(lookup, on_change=fail)
    caught: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: caught.append(context["exception"]))
    await rig.loader.load()
    rig.watch.start()
    rig.venue.rows.append(SOL)
    await rig.loader.load()
    await rig.reload(ETH, BTC, HYPE)
    assert (1, 1) == (len(rig.venue.asked_s) - 2, len(caught))
    await rig.watch.close()


# --- with Qubx's own update of what a context holds --------------------------------------------------------------------


class Context:
    """The parts of Qubx's context that its update of instruments uses; ``run`` is its strategy thread."""

    def __init__(self, *instruments: Instrument) -> None:
        self.instruments = list(instruments)
        self.is_simulation = False
        self.strategy_name = "test"
        self.notifier = SimpleNamespace(notify_message=lambda *args, **options: None)
        self.posted: list[Any] = []
        self.updates: list[dict[str, Any]] = []
        self.checks = 0

    def get_positions(self) -> dict[Instrument, Any]:
        return {}

    def get_orders(self) -> dict[str, Any]:
        return {}

    def register_handler(self, name: str, handler: Callable[[Any, Any], None]) -> None:
        self.handler = handler

    def post_event(self, name: str, payload: Any) -> None:
        self.posted.append(payload)

    def on_instrument_update(self, context: Any, updates: list[Any]) -> None:
        self.updates += [{str(update.instrument): update.changes} for update in updates]

    def check_delistings(self) -> None:
        self.checks += 1

    def run(self) -> None:
        while self.posted:
            self.handler(self, self.posted.pop(0))


@pytest.fixture
def context(rig: Rig) -> Context:
    """Run a context that holds ETH, with a provider that settles the watch."""
    from qubx.core.lookups import LookupsManager
    from qubx.core.mixins.instrument_updates import InstrumentUpdateManager

    made = Context(rig.loader.instrument(0))
    provider = SimpleNamespace(on_instruments_changed=lambda changes: rig.watch.settle())
    InstrumentUpdateManager(made, made, [provider], made.check_delistings).start(LookupsManager())
    return made


async def test_qubx_tells_the_strategy_of_new_rules_and_updates_what_it_holds_on_its_own_thread(
    rig: Rig, context: Context
) -> None:
    eth, btc = rig.loader.instrument(0), rig.loader.instrument(1)
    await rig.reload(changed(ETH, supported_price_decimals=3), changed(BTC, supported_price_decimals=3), HYPE)
    assert (0.01, 0.1) == (eth.tick_size, btc.tick_size)
    context.run()
    assert (0.001, 0.001) == (eth.tick_size, btc.tick_size)
    ((name, changes),) = context.updates[0].items()
    assert ("LIGHTER:SWAP:ETH-USDC", (0.01, 0.001)) == (name, changes["tick_size"])
    assert (1, 0) == (len(context.updates), context.checks)


async def test_qubx_acts_on_a_delisting_at_once(rig: Rig, context: Context) -> None:
    await rig.reload(changed(ETH, status="inactive"), BTC, HYPE)
    context.run()
    assert (1, True) == (context.checks, rig.loader.instrument(0).delisted_at is not None)


async def test_a_context_that_does_nothing_is_made_good_for_with_the_next_reload(rig: Rig, context: Context) -> None:
    await rig.reload(ETH, changed(BTC, supported_price_decimals=3), HYPE)
    assert 0.1 == rig.loader.instrument(1).tick_size
    await rig.passes(INTERVAL_S)
    assert 0.001 == rig.loader.instrument(1).tick_size
