"""What the venue's rows say about markets: their rules, their names in Qubx, and what changed between two replies.

Pure: rows in, values out. ``instruments`` keeps what is known and decides what a reply means for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Final, Literal

import pandas as pd
from qubx.core.basics import Instrument, MarketType, VenueAttributes

from qubx_lighter.constants import EXCHANGE, MARGIN_FRACTION_SCALE
from qubx_lighter.errors import WireError
from qubx_lighter.protocol.units import Scale, time_ns
from qubx_lighter.protocol.wire import MarketRow

SymbolFormat = Literal["BASE-QUOTE", "BASEQUOTE"]

MARKET_TYPES: Final = {"perp": MarketType.SWAP, "spot": MarketType.SPOT}
KINDS: Final = frozenset({"", "perp", "perps", "spot"})
"""How orders and trades call the types that have an instrument; older rows say nothing."""
ACTIVE: Final = "active"
ABSENT: Final = "absent"
"""The status of a market that the venue has stopped listing; ours, the venue has no word for it."""
_INACTIVE: Final = "inactive"
_CLOSED: Final = frozenset({_INACTIVE, "waiting-for-settlement", "in-settlement", "settled", ABSENT})
KNOWN_STATUSES: Final = _CLOSED | {ACTIVE}
_UNSPEAKABLE: Final = re.compile(r"[<>:{}\s]")  # Qubx splits names at colons, and its log lines are markup
_MAX_DECIMALS: Final = 18
_MAX_AMOUNT: Final = 10**15


@dataclass(frozen=True, slots=True)
class Market:
    """A market's rules in the venue's terms.

    Attributes:
        symbol: Qubx's symbol, ``BTC-USDC``.
        ticker: unique over all markets: the symbol of a perpetual, the venue's ``ETH/USDC`` of a spot market.
        venue_symbol: as the venue spells it, ``BTC`` or ``ETH/USDC``.
        min_base_lots: the smallest order that opens or adds; at least one lot.
        min_quote: the smallest notional of such an order, in the quote currency.
        max_quote: the largest notional of one order; infinite where the venue names none.
        default_initial_margin_fraction: in 1e-4, like the two others; 0 for spot.
        has_sessions: it trades during certain hours only, as markets of stocks and metals do.
        delisted_at_ns: when the end of trading was noticed; 0 while it trades, and where that was before our time.
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
    max_quote: float
    status: str
    created_at_ns: int
    default_initial_margin_fraction: int
    min_initial_margin_fraction: int
    maintenance_margin_fraction: int
    has_sessions: bool = False
    delisted_at_ns: int = 0

    @property
    def active(self) -> bool:
        """Tell whether the venue trades it; a status that nobody has documented is no reason to give up a position.

        Nor is ``inactive`` where a market has trading hours: no source says what the venue calls the night.
        """
        return self.status not in _CLOSED or (self.has_sessions and self.status == _INACTIVE)

    @property
    def max_leverage(self) -> float:
        """Compute the highest leverage that the venue allows; 1 for spot."""
        return MARGIN_FRACTION_SCALE / (self.min_initial_margin_fraction or MARGIN_FRACTION_SCALE)

    @property
    def rules(self) -> dict[str, int | float | str]:
        """Give what the venue may change while the market keeps its name."""
        return {
            "market_id": self.market_id,
            "tick_size": self.scale.tick_size,
            "lot_size": self.scale.lot_size,
            "min_base": self.scale.size(self.min_base_lots),
            "min_quote": self.min_quote,
            "status": self.status,
            "default_initial_margin_fraction": self.default_initial_margin_fraction,
            "min_initial_margin_fraction": self.min_initial_margin_fraction,
            "maintenance_margin_fraction": self.maintenance_margin_fraction,
        }


# --- from rows to markets --------------------------------------------------------------------------------------------


def read_market(row: MarketRow, *, separator: str, collateral: str) -> Market:
    """Read a row.

    Args:
        row: of a perpetual or a spot market.
        separator: between base and quote of Qubx's symbol.
        collateral: quote and settlement currency of perpetuals.

    Raises:
        WireError: the row makes no sense; names the market.
    """
    market_type = MARKET_TYPES[row.market_type]
    base, slash, quote = row.symbol.upper().partition("/")
    named_both = bool(base) and bool(quote) == bool(slash) and (bool(slash) or market_type is MarketType.SWAP)
    if not named_both or _UNSPEAKABLE.search(row.symbol):
        raise _nonsense(row, f"{row.symbol!r} is not a symbol of a {row.market_type} market")
    if not (0 <= row.supported_price_decimals <= _MAX_DECIMALS and 0 <= row.supported_size_decimals <= _MAX_DECIMALS):
        raise _nonsense(row, "decimals out of range")
    fractions = (row.default_initial_margin_fraction, row.min_initial_margin_fraction, row.maintenance_margin_fraction)
    if min(fractions) < 0:
        raise _nonsense(row, "a margin fraction below zero")
    quote = quote or collateral
    symbol = f"{base}{separator}{quote}"
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
        max_quote=float(_amount(row, row.order_quote_limit)) or math.inf,
        status=row.status,
        created_at_ns=_time_ns(row.created_at),
        default_initial_margin_fraction=row.default_initial_margin_fraction,
        min_initial_margin_fraction=row.min_initial_margin_fraction,
        maintenance_margin_fraction=row.maintenance_margin_fraction,
        has_sessions=row.market_config is not None and bool(row.market_config.trading_hours),
    )


def named(
    markets: Iterable[Market], holders: Mapping[tuple[MarketType, str], int], absent: Container[int]
) -> list[Market]:
    """Give the plain symbol to one market of each type, and an id suffix to the others that would share it.

    An active market comes before one that is not, a listed one before one that the newest reply lacks, the one that has
    the symbol already before others, so that a name never moves between markets that trade; else the newest.
    """
    taken: set[tuple[MarketType, str]] = set()
    distinct: list[Market] = []

    def rank(market: Market) -> tuple[bool, bool, bool, int]:
        held = holders.get((market.market_type, market.symbol)) == market.market_id
        return not market.active, market.market_id in absent, not held, -market.market_id

    for market in sorted(markets, key=rank):
        name = (market.market_type, market.symbol)
        suffix = f".{market.market_id}" if name in taken else ""
        taken.add(name)
        distinct.append(replace(market, symbol=market.symbol + suffix, ticker=market.ticker + suffix))
    return distinct


def _lots(row: MarketRow) -> int:
    lots = _amount(row, row.min_base_amount).scaleb(row.supported_size_decimals)
    return int(lots.to_integral_value(ROUND_CEILING))


def _amount(row: MarketRow, text: str) -> Decimal:
    try:
        amount = Decimal(text or "0")
    except InvalidOperation:
        amount = Decimal("NaN")
    if not (amount.is_finite() and 0 <= amount <= _MAX_AMOUNT):
        raise _nonsense(row, f"{text!r} is not an amount")
    return amount


def _time_ns(text: str) -> int:
    ns = time_ns(int(text)) if text.isdecimal() else 0
    return ns if ns <= pd.Timestamp.max.value else 0


def _nonsense(row: MarketRow, what: str) -> WireError:
    return WireError(f"market {row.market_id} {row.symbol}: {what}")


# --- from markets to instruments -------------------------------------------------------------------------------------


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
        delisted_at=pd.Timestamp(market.delisted_at_ns) if market.delisted_at_ns else None,
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


def claimed_id(instrument: Instrument) -> int | None:
    """Read the market id that an instrument carries: ours in its attributes, others' as the exchange symbol."""
    claimed = instrument.venue_attributes.get("market_id")
    if isinstance(claimed, int):
        return claimed
    symbol = str(instrument.exchange_symbol)  # a lookup file may hold a number
    return int(symbol) if symbol.isdecimal() else None


# --- what changed ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuleChange:
    """An instrument whose rules changed: by name of the rule, its value before and after."""

    instrument: Instrument
    rules: Mapping[str, tuple[int | float | str, int | float | str]]

    @property
    def grid_changed(self) -> bool:
        """Tell whether prices or sizes are on another grid now, or of another market: books must be built anew."""
        return not self.rules.keys().isdisjoint({"tick_size", "lot_size", "market_id"})


@dataclass(frozen=True, slots=True)
class Renaming:
    """A market id that names another instrument now."""

    market_id: int
    before: Instrument
    after: Instrument


@dataclass(frozen=True, slots=True)
class ListingChanges:
    """What a reply of the venue changed, in Qubx's terms: an instrument is its name.

    Attributes:
        listed: trade now, and did not before.
        delisted: trade no more; their ``delisted_at`` says since when we know.
        changed: have other rules; if their market id is among them, the name went to another market.
        renamed: market ids that name another instrument now.
        absent: ids of active markets that the reply lacks, while nobody has confirmed that they are gone.
    """

    listed: tuple[Instrument, ...] = ()
    delisted: tuple[Instrument, ...] = ()
    changed: tuple[RuleChange, ...] = ()
    renamed: tuple[Renaming, ...] = ()
    absent: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.listed or self.delisted or self.changed or self.renamed)


def compare(
    before: Mapping[Instrument, Market], after: Mapping[Instrument, Market], absent: frozenset[int]
) -> ListingChanges:
    """Tell what changed between two lists of markets by their instruments."""
    was = {instrument for instrument, market in before.items() if market.active}
    now = {instrument for instrument, market in after.items() if market.active}
    changed = []
    for instrument, market in after.items():
        if instrument in before and (instrument in was) == (instrument in now):
            old, new = before[instrument].rules, market.rules
            rules = {name: (old[name], new[name]) for name in new if old[name] != new[name]}
            if rules:
                changed.append(RuleChange(instrument, rules))
    by_id = {market.market_id: instrument for instrument, market in before.items()}
    return ListingChanges(
        listed=tuple(instrument for instrument in after if instrument in now - was),
        delisted=tuple(instrument for instrument in before if instrument in was - now),
        changed=tuple(changed),
        renamed=tuple(
            Renaming(market.market_id, by_id[market.market_id], instrument)
            for instrument, market in after.items()
            if by_id.get(market.market_id, instrument) != instrument
        ),
        absent=absent,
    )
