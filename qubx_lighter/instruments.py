"""The venue's markets as Qubx instruments, and back, true at run time.

A perpetual ``BTC`` is ``LIGHTER:SWAP:BTC-USDC``, the spot market ``ETH/USDC`` is ``LIGHTER:SPOT:ETH-USDC``; the venue's
market id is in ``venue_attributes["market_id"]``. Identity is the name, the id is a claim: ids differ between networks,
and lookups have held one id for two coins, so an instrument whose id names another coin at the venue is refused.

Which markets: active ones are listed (published, written to the lookup file). Inactive ones are not, but resolve by
id, so that an account row of a delisted market is never mistaken for a closed position. Of markets that would share a
symbol the active one, else the newest, has it, and another is ``BTC-USDC.{market id}``. Binary options and types that
nobody has documented are counted and left out.

What a reply may do. Qubx gives up positions in what is not listed, so that needs the venue's word: a closed status
counts at once; a market that the reply lacks stays as it was until a second reply, 50 s later or more, lacks it too. A
reply says nothing about what it lacks if it has rows whose id cannot be read, and nothing about a type of which it lacks
more than half of the active markets. A row that makes no sense is counted, and what was known of its market stays.

Objects. Others hold our instruments as dict keys, so a name has one object for good, and that is updated in place: by
Qubx, on the strategy's thread, where ``announce`` finds that it does so, else here and now.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
import pandas as pd
from qubx import logger
from qubx.core.basics import INSTRUMENT_SPEC_FIELDS, Instrument, MarketType

from qubx_lighter.constants import EXCHANGE
from qubx_lighter.errors import UnknownMarketError, WireError
from qubx_lighter.markets import (
    ABSENT,
    KNOWN_STATUSES,
    MARKET_TYPES,
    ListingChanges,
    Market,
    SymbolFormat,
    claimed_id,
    compare,
    named,
    read_market,
    to_instrument,
)
from qubx_lighter.protocol.wire import MarketRow, OrderBookDetailsBody

__all__ = ["LighterInstrumentLoader", "ListingChanges", "Market", "MarketSource", "SymbolFormat"]

_CONFIRM_NS: Final = 50_000_000_000  # below the shortest pause between two polls
_NO_ID: Final = -1

Listener = Callable[[ListingChanges], None]


class MarketSource(Protocol):
    """The part of the REST client that the loader needs."""

    async def order_book_details(self) -> OrderBookDetailsBody:
        """Fetch every market."""


class LighterInstrumentLoader:
    """Load the venue's markets and translate between them and Qubx's instruments.

    Args:
        client: fetches the markets.
        symbol_format: ``BASE-QUOTE`` or ``BASEQUOTE``.
        collateral: quote and settlement currency of perpetuals.
        clock_ns: the wall clock, ns.

    Attributes:
        skipped: rows of the newest reply that are no market here, by type, ``unreadable`` among them.
        foreign_ids: ids of binary options and the like, of all replies and account rows so far.
        announce: is given the new facts of instruments that others hold; True promises that they are copied onto the
            held objects, False leaves that to the loader. The next ``load`` makes good what was promised only.
    """

    def __init__(
        self,
        client: MarketSource,
        *,
        symbol_format: SymbolFormat = "BASE-QUOTE",
        collateral: str = "USDC",
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._client = client
        self._separator = "-" if symbol_format == "BASE-QUOTE" else ""
        self.collateral = collateral.upper()
        self._clock_ns = clock_ns
        self._loading = asyncio.Lock()
        self._markets: dict[int, Market] = {}
        self._instruments: dict[int, Instrument] = {}
        self._ids: dict[Instrument, int] = {}
        self._facts: dict[Instrument, Instrument] = {}  # the one object of each name -> what is true of it
        self._promised = False  # that somebody else updates the objects
        self._rows: dict[int, tuple[MarketRow, Market]] = {}
        self._listed: dict[int, Market] = {}
        self._absent_since: dict[int, int] = {}  # ns
        self._reported: set[tuple[object, ...]] = set()
        self._listeners: list[Listener] = []
        self.announce: Callable[[list[Instrument]], bool] | None = None
        self.skipped: Counter[str] = Counter()
        self.foreign_ids: frozenset[int] = frozenset()
        self.ticker_to_market_id: dict[str, int] = {}
        self.market_id_to_ticker: dict[int, str] = {}

    async def load(self) -> ListingChanges:
        """Fetch the markets, and tell what is new since the last time; listeners hear it too.

        Raises:
            WireError: no row can be used; what was known stays.
        """
        async with self._loading:  # replies are taken in the order of their questions
            changes = self._take(await self._client.order_book_details())
        if changes:
            for listener in list(self._listeners):
                listener(changes)
        return changes

    def learn_foreign(self, market_id: int) -> None:
        """Take note of a market that an account's row tells to be of no type that has an instrument."""
        if market_id not in self.foreign_ids and market_id not in self._markets:
            self.foreign_ids |= {market_id}
            self._report("market {} is of a type that has no instrument: what is told of it is skipped", market_id)

    def observe(self, listener: Listener) -> Callable[[], None]:
        """Have later changes told, whoever loads; gives what takes the listener away again."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def catch_up(self) -> None:
        """Update the objects that others hold, in place; from any thread."""
        for held, facts in self._facts.items():
            held.update_from(facts)

    @property
    def instruments(self) -> list[Instrument]:
        """List the active markets, perpetuals first, by market id."""
        return [self._instruments[market.market_id] for market in self.markets if market.active]

    @property
    def markets(self) -> list[Market]:
        """List every market, perpetuals first, by market id."""
        order = {MarketType.SWAP: 0, MarketType.SPOT: 1}
        return sorted(self._markets.values(), key=lambda market: (order[market.market_type], market.market_id))

    def knows(self, market_id: int) -> bool:
        """Tell whether a market id resolves."""
        return market_id in self._markets

    def instrument(self, market_id: int) -> Instrument:
        """Return the instrument of a market, listed or not.

        Raises:
            UnknownMarketError: the venue lists no such market.
        """
        try:
            return self._instruments[market_id]
        except KeyError:
            raise _unknown_id(market_id) from None

    def market_by_id(self, market_id: int) -> Market:
        """Return a market's rules.

        Raises:
            UnknownMarketError: the venue lists no such market.
        """
        try:
            return self._markets[market_id]
        except KeyError:
            raise _unknown_id(market_id) from None

    def market(self, instrument: Instrument) -> Market:
        """Return the rules of the market behind an instrument from any lookup.

        Raises:
            UnknownMarketError: the venue lists no such market, or the id that the instrument carries is another coin's.
        """
        claimed = claimed_id(instrument)
        known = self._ids.get(instrument)
        if known is not None and (claimed in (known, None) or self._moved(claimed, known)):
            return self._markets[known]
        if instrument.exchange.upper() != EXCHANGE:
            raise UnknownMarketError(f"{instrument} is not an instrument of {EXCHANGE}")
        if claimed is None:
            return self._by_name(instrument)
        market = self._markets.get(claimed)
        if market is None:
            raise UnknownMarketError(f"{instrument} has market id {claimed}, unknown to the venue: {_REFRESH}")
        if not _same(instrument, market):
            raise UnknownMarketError(
                f"{instrument} has market id {claimed}, at the venue {market.market_type} {market.venue_symbol}: "
                f"{_REFRESH}"
            )
        return market

    def is_listed(self, instrument: Instrument) -> bool:
        """Tell whether the venue trades an instrument from any lookup, by its name; True while nothing is known.

        Qubx gives up positions in what is not listed, so this is False on the venue's word alone.
        """
        if not self._markets or instrument.exchange.upper() != EXCHANGE:
            return True
        market_id = self._ids.get(instrument)
        if market_id is not None:
            return self._markets[market_id].active
        return any(market.active and _same(instrument, market) for market in self._markets.values())

    # --- taking a reply ----------------------------------------------------------------------------------------------

    def _take(self, body: OrderBookDetailsBody) -> ListingChanges:
        """Take a reply; readers in other threads see the old or the new maps, each of them whole."""
        if self._promised:
            self._promised = False
            self.catch_up()
        now_ns = self._clock_ns()
        listed, mentioned = self._read(body)
        missing, gone = self._missing(mentioned, now_ns)
        if not missing and not gone and listed == self._listed:
            return ListingChanges()  # as nearly always: 250 markets cost the loop 1 ms this way, and 16 in full
        self._listed = listed
        markets = [
            self._dated(
                listed.get(market_id) or _plain(self._markets[market_id], ABSENT if market_id in gone else None), now_ns
            )
            for market_id in self._markets | listed
        ]
        holders = {(market.market_type, market.symbol): market.market_id for market in self._markets.values()}
        before = {self._instruments[market_id]: market for market_id, market in self._markets.items()}
        self._replace(named(markets, holders, missing), now_ns)
        stale = [facts for held, facts in self._facts.items() if _differ(held, facts)]
        self._promised = bool(stale) and self.announce is not None and self.announce(stale)
        if not self._promised:
            self.catch_up()
        for market in self.markets:
            if market.symbol.endswith(f".{market.market_id}"):
                self._report("market {} shares its name with another: called {} here", market.market_id, market.symbol)
        if not before:
            listing, skipped = len(self.instruments), dict(self.skipped) or "none"
            logger.info("lighter: {} markets, {} of them active, skipped {}", len(markets), listing, skipped)
        after = {self._instruments[market.market_id]: market for market in self.markets}
        return compare(before, after, frozenset(missing))

    def _read(self, body: OrderBookDetailsBody) -> tuple[dict[int, Market], set[int]]:
        """Read the rows into markets by id; also gives all ids that the reply mentions.

        Raises:
            WireError: no row can be used.
        """
        rows = [*(body.order_book_details or []), *(body.spot_order_book_details or [])]
        ours = [row for row in rows if row.market_type in MARKET_TYPES]
        times = Counter(row.market_id for row in ours)
        listed: dict[int, Market] = {}
        unreadable: list[str] = []
        foreign = {row.market_id: row.market_type for row in rows if row.market_type not in MARKET_TYPES}
        for bad in body.unreadable:
            if bad.market_type and bad.market_type not in MARKET_TYPES:
                foreign[bad.market_id] = bad.market_type
            else:
                unreadable.append(f"market {bad.market_id} {bad.symbol}: {bad.error}")
        for row in ours:
            try:
                listed[row.market_id] = self._market(row, times[row.market_id])
            except WireError as error:
                unreadable.append(str(error))
        for text in unreadable:
            self._report("{}; what was known of it stays", text)
        if not listed and (unreadable or self._markets):
            raise WireError(unreadable[0] if unreadable else "the venue lists no market")
        self.skipped = Counter(foreign.values()) + Counter(unreadable=len(unreadable))
        self.foreign_ids = (self.foreign_ids | foreign.keys()) - listed.keys() - self._markets.keys()
        return listed, {row.market_id for row in rows} | {bad.market_id for bad in body.unreadable}

    def _market(self, row: MarketRow, times: int) -> Market:
        """Read a row, or remember how it was read: the last price alone changes all the time.

        Raises:
            WireError: it makes no sense.
        """
        if times > 1:
            raise WireError(f"market {row.market_id} {row.symbol}: {times} markets have this id")
        rules = msgspec.structs.replace(row, last_trade_price=0.0)
        before, market = self._rows.get(row.market_id, (None, None))
        if market is None or before != rules:
            market = self._new_market(row)
            self._rows[row.market_id] = rules, market
        return market

    def _new_market(self, row: MarketRow) -> Market:
        if row.status not in KNOWN_STATUSES:
            self._report("market {} has the unknown status {}, taken for active", row.symbol, row.status)
        return read_market(row, separator=self._separator, collateral=self.collateral)

    def _missing(self, mentioned: set[int], now_ns: int) -> tuple[set[int], set[int]]:
        """Give the active markets that a reply lacks, and those among them that are gone by the rule above."""
        missing: set[int] = set()
        gone: set[int] = set()
        for market_type in MARKET_TYPES.values():
            active = {m.market_id for m in self._markets.values() if m.active and m.market_type is market_type}
            lacks = active - mentioned
            missing |= lacks
            if lacks and (_NO_ID in mentioned or 2 * len(lacks) > len(active)):
                self._report("a reply that lacks {} markets is not believed", market_type.value)
                continue
            gone |= {i for i in lacks if now_ns - self._absent_since.setdefault(i, now_ns) >= _CONFIRM_NS}
        missing -= gone
        self._absent_since = {i: since for i, since in self._absent_since.items() if i in missing}
        return missing, gone

    def _dated(self, market: Market, now_ns: int) -> Market:
        """Note since when a market is known not to trade."""
        known = self._markets.get(market.market_id)
        if market.active or known is None:
            return market
        return dataclasses.replace(market, delisted_at_ns=now_ns if known.active else known.delisted_at_ns)

    def _replace(self, markets: list[Market], now_ns: int) -> None:
        objects = {held: held for held in self._facts}
        facts = dict(self._facts)
        instruments: dict[int, Instrument] = {}
        for market in markets:
            fresh = to_instrument(market)
            instruments[market.market_id] = held = objects.get(fresh, fresh)
            facts[held] = fresh
        for name in self._ids.keys() - instruments.values():  # their market goes by another name now
            if facts[name].delisted_at is None:
                facts[name] = dataclasses.replace(facts[name], delisted_at=pd.Timestamp(now_ns))
        self._facts = facts
        self._instruments = instruments
        self._markets = {market.market_id: market for market in markets}
        self._ids = {instrument: market_id for market_id, instrument in instruments.items()}
        self.market_id_to_ticker = {market.market_id: market.ticker for market in markets}
        self.ticker_to_market_id = {market.ticker: market.market_id for market in markets}

    def _report(self, text: str, *values: object) -> None:
        """Warn, once."""
        if (text, *values) not in self._reported:
            self._reported.add((text, *values))
            logger.warning("lighter: " + text, *values)

    def _moved(self, claimed: int | None, known: int) -> bool:
        """Tell whether a name's market closed, and another that trades has the name now."""
        old = self._markets.get(-1 if claimed is None else claimed)
        return old is not None and not old.active and self._markets[known].active

    def _by_name(self, instrument: Instrument) -> Market:
        found = [market for market in self._markets.values() if _same(instrument, market)]
        found = [market for market in found if market.active] or found
        if len(found) != 1:
            what = "does not list" if not found else "lists more than once"
            raise UnknownMarketError(f"{instrument}: the venue {what} {instrument.base} in {instrument.quote}")
        return found[0]


_REFRESH: Final = "refresh the lookup with `qubx-lighter instruments`"


def _plain(market: Market, status: str | None) -> Market:
    """Undo the suffix of a market that the reply says nothing about, and set its status where there is a new one."""
    suffix = f".{market.market_id}"
    symbol, ticker = market.symbol.removesuffix(suffix), market.ticker.removesuffix(suffix)
    return dataclasses.replace(market, symbol=symbol, ticker=ticker, status=status or market.status)


def _differ(held: Instrument, facts: Instrument) -> bool:
    return any(getattr(held, name) != getattr(facts, name) for name in INSTRUMENT_SPEC_FIELDS)


def _same(instrument: Instrument, market: Market) -> bool:
    mine = (instrument.market_type, instrument.base.upper(), instrument.quote.upper())
    return mine == (market.market_type, market.base, market.quote)


def _unknown_id(market_id: int) -> UnknownMarketError:
    return UnknownMarketError(f"the venue lists no market with id {market_id}")
