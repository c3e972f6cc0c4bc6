"""The venue's markets as Qubx instruments, and back.

A perpetual ``BTC`` is ``LIGHTER:SWAP:BTC-USDC``, the spot market ``ETH/USDC`` is ``LIGHTER:SPOT:ETH-USDC``; the venue's
market id is in ``venue_attributes["market_id"]``. Identity is the name, the id is a claim: ids differ between networks,
and lookups have held one id for two coins, so an instrument whose id names another coin at the venue is refused.

Which markets: active ones are listed (published, written to the lookup file). Inactive ones are not, but resolve by
id, so that an account row of a delisted market is never mistaken for a closed position. Of markets that would share a
symbol the active one, else the newest, has it, and another is ``BTC-USDC.{market id}``. Binary options are counted and
left out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Final, Literal, Protocol

import pandas as pd
from qubx import logger
from qubx.core.basics import Instrument, MarketType, VenueAttributes

from qubx_lighter.constants import EXCHANGE, MARGIN_FRACTION_SCALE
from qubx_lighter.errors import UnknownMarketError, WireError
from qubx_lighter.protocol.units import Scale, time_ns
from qubx_lighter.protocol.wire import MarketRow, OrderBookDetailsBody

SymbolFormat = Literal["BASE-QUOTE", "BASEQUOTE"]

_TYPES: Final = {"perp": MarketType.SWAP, "spot": MarketType.SPOT}
_ACTIVE: Final = "active"
_MAX_DECIMALS: Final = 18


class MarketSource(Protocol):
    """The part of the REST client that the loader needs."""

    async def order_book_details(self) -> OrderBookDetailsBody:
        """Fetch every market."""


@dataclass(frozen=True, slots=True)
class Market:
    """A market's rules in the venue's terms.

    Attributes:
        symbol: Qubx's symbol, ``BTC-USDC``.
        ticker: unique over all markets: the symbol of a perpetual, the venue's ``ETH/USDC`` of a spot market.
        venue_symbol: as the venue spells it, ``BTC`` or ``ETH/USDC``.
        min_base_lots: the smallest order that opens or adds; at least one lot.
        min_quote: the smallest notional of such an order, in the quote currency.
        default_initial_margin_fraction: in 1e-4, like the two others; 0 for spot.
    """

    market_id: int
    symbol: str
    ticker: str
    venue_symbol: str
    market_type: MarketType
    base: str
    quote: str
    settle: str
    scale: Scale
    min_base_lots: int
    min_quote: float
    status: str
    created_at_ns: int
    default_initial_margin_fraction: int
    min_initial_margin_fraction: int
    maintenance_margin_fraction: int

    @property
    def active(self) -> bool:
        """Tell whether the venue trades it."""
        return self.status == _ACTIVE

    @property
    def max_leverage(self) -> float:
        """Compute the highest leverage that the venue allows; 1 for spot."""
        return MARGIN_FRACTION_SCALE / (self.min_initial_margin_fraction or MARGIN_FRACTION_SCALE)


class LighterInstrumentLoader:
    """Load the venue's markets and translate between them and Qubx's instruments.

    Args:
        client: fetches the markets.
        symbol_format: ``BASE-QUOTE`` or ``BASEQUOTE``.
        collateral: quote and settlement currency of perpetuals.
    """

    def __init__(
        self, client: MarketSource, *, symbol_format: SymbolFormat = "BASE-QUOTE", collateral: str = "USDC"
    ) -> None:
        self._client = client
        self._separator = "-" if symbol_format == "BASE-QUOTE" else ""
        self._collateral = collateral.upper()
        self._markets: dict[int, Market] = {}
        self._instruments: dict[int, Instrument] = {}
        self._ids: dict[Instrument, int] = {}
        self.skipped: Counter[str] = Counter()
        self.foreign_ids: frozenset[int] = frozenset()
        self.ticker_to_market_id: dict[str, int] = {}
        self.market_id_to_ticker: dict[int, str] = {}

    async def load(self) -> None:
        """Fetch the markets; a second call updates the instruments that others hold, in place.

        Raises:
            WireError: a market row cannot be understood.
        """
        body = await self._client.order_book_details()
        rows = [*(body.order_book_details or []), *(body.spot_order_book_details or [])]
        self.skipped = Counter(row.market_type for row in rows if row.market_type not in _TYPES)
        self.foreign_ids = frozenset(row.market_id for row in rows if row.market_type not in _TYPES)
        markets = [self._market(row) for row in rows if row.market_type in _TYPES]
        self._take(_distinct(markets))
        listed = sum(market.active for market in markets)
        logger.info(
            "lighter: {} markets, {} of them active, skipped {}", len(markets), listed, dict(self.skipped) or "none"
        )

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
        claimed = _claimed_id(instrument)
        known = self._ids.get(instrument)
        if known is not None and claimed in (known, None):
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

    # --- building ----------------------------------------------------------------------------------------------------

    def _market(self, row: MarketRow) -> Market:
        base, slash, quote = row.symbol.upper().partition("/")
        quote = quote if slash else self._collateral
        market_type = _TYPES[row.market_type]
        symbol = f"{base}{self._separator}{quote}"
        if not (
            0 <= row.supported_price_decimals <= _MAX_DECIMALS and 0 <= row.supported_size_decimals <= _MAX_DECIMALS
        ):
            raise WireError(f"market {row.market_id} {row.symbol}: decimals out of range")
        return Market(
            market_id=row.market_id,
            symbol=symbol,
            ticker=symbol if market_type is MarketType.SWAP else row.symbol.upper(),
            venue_symbol=row.symbol,
            market_type=market_type,
            base=base,
            quote=quote,
            settle=quote,
            scale=Scale(row.supported_price_decimals, row.supported_size_decimals),
            min_base_lots=max(1, _lots(row)),
            min_quote=float(_amount(row, row.min_quote_amount)),
            status=row.status,
            created_at_ns=time_ns(int(row.created_at)) if row.created_at.isdigit() else 0,
            default_initial_margin_fraction=row.default_initial_margin_fraction,
            min_initial_margin_fraction=row.min_initial_margin_fraction,
            maintenance_margin_fraction=row.maintenance_margin_fraction,
        )

    def _take(self, markets: list[Market]) -> None:
        """Replace what is known; readers in other threads see the old or the new maps, each of them whole."""
        instruments: dict[int, Instrument] = {}
        for market in markets:
            fresh = to_instrument(market)
            held = self._instruments.get(market.market_id)
            if held is not None and held == fresh:
                held.update_from(fresh)
                fresh = held
            instruments[market.market_id] = fresh
        self._instruments = instruments
        self._markets = {market.market_id: market for market in markets}
        self._ids = {instrument: market_id for market_id, instrument in instruments.items()}
        self.market_id_to_ticker = {market.market_id: market.ticker for market in markets}
        self.ticker_to_market_id = {market.ticker: market.market_id for market in markets}

    def _by_name(self, instrument: Instrument) -> Market:
        found = [market for market in self._markets.values() if _same(instrument, market)]
        found = [market for market in found if market.active] or found
        if len(found) != 1:
            what = "does not list" if not found else "lists more than once"
            raise UnknownMarketError(f"{instrument}: the venue {what} {instrument.base} in {instrument.quote}")
        return found[0]


_REFRESH: Final = "refresh the lookup with `qubx-lighter instruments`"


def to_instrument(market: Market) -> Instrument:
    """Convert a market.

    ``min_size`` of a SWAP is one lot: that is all a reducing order needs, and Qubx 5 holds a position below ``min_size``
    for dust that nothing can close. What an opening order needs at least is ``min_base_amount`` in the venue attributes;
    the broker refuses less.
    """
    smallest = market.scale.size(market.min_base_lots)
    return Instrument(
        symbol=market.symbol,
        market_type=market.market_type,
        exchange=EXCHANGE,
        base=market.base,
        quote=market.quote,
        settle=market.settle,
        exchange_symbol=market.symbol,
        tick_size=market.scale.tick_size,
        lot_size=market.scale.lot_size,
        min_size=market.scale.lot_size if market.market_type is MarketType.SWAP else smallest,
        min_notional=market.min_quote,
        listed_at=pd.Timestamp(market.created_at_ns) if market.created_at_ns else None,
        venue_attributes=VenueAttributes(
            {
                "market_id": market.market_id,
                "market_type": "perp" if market.market_type is MarketType.SWAP else "spot",
                "venue_symbol": market.venue_symbol,
                "status": market.status,
                "min_base_amount": smallest,
                "price_decimals": market.scale.price_decimals,
                "size_decimals": market.scale.size_decimals,
                "default_initial_margin_fraction": market.default_initial_margin_fraction,
                "min_initial_margin_fraction": market.min_initial_margin_fraction,
                "maintenance_margin_fraction": market.maintenance_margin_fraction,
            }
        ),
    )


def _distinct(markets: list[Market]) -> list[Market]:
    """Give the plain symbol to one market of each type, and an id suffix to the others that would share it."""
    taken: set[tuple[MarketType, str]] = set()
    distinct: list[Market] = []
    for market in sorted(markets, key=lambda market: (not market.active, -market.market_id)):
        if (market.market_type, market.symbol) in taken:
            distinct.append(_renamed(market))
        else:
            taken.add((market.market_type, market.symbol))
            distinct.append(market)
    return distinct


def _renamed(market: Market) -> Market:
    suffix = f".{market.market_id}"
    logger.warning(
        "lighter: market {} is one more {}, called {} here", market.market_id, market.symbol, market.symbol + suffix
    )
    return replace(market, symbol=market.symbol + suffix, ticker=market.ticker + suffix)


def _lots(row: MarketRow) -> int:
    lots = _amount(row, row.min_base_amount).scaleb(row.supported_size_decimals)
    return int(lots.to_integral_value(ROUND_CEILING))


def _amount(row: MarketRow, text: str) -> Decimal:
    try:
        amount = Decimal(text or "0")
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise WireError(f"market {row.market_id} {row.symbol}: {text!r} is not an amount")
    return amount


def _claimed_id(instrument: Instrument) -> int | None:
    """Read the market id that an instrument carries: ours in its attributes, others' as the exchange symbol."""
    claimed = instrument.venue_attributes.get("market_id")
    if isinstance(claimed, int):
        return claimed
    return int(instrument.exchange_symbol) if instrument.exchange_symbol.isdecimal() else None


def _same(instrument: Instrument, market: Market) -> bool:
    mine = (instrument.market_type, instrument.base.upper(), instrument.quote.upper())
    return mine == (market.market_type, market.base, market.quote)


def _unknown_id(market_id: int) -> UnknownMarketError:
    return UnknownMarketError(f"the venue lists no market with id {market_id}")
