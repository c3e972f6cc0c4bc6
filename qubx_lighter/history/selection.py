"""Markets by what a user types: ``BTC-USDC``, ``SPOT:ETH-USDC``, ``LIGHTER:SWAP:BTC-USDC`` or ``all``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Final

from qubx_lighter.client import LighterClient
from qubx_lighter.constants import EXCHANGE
from qubx_lighter.errors import ConfigurationError, UnknownMarketError
from qubx_lighter.markets import MARKET_TYPES, Market, named, read_market
from qubx_lighter.protocol.wire import MarketRow
from qubx_lighter.settings import LighterSettings

ALL: Final = "all"


async def listed(client: LighterClient, settings: LighterSettings) -> list[tuple[Market, MarketRow]]:
    """Fetch the venue's perpetual and spot markets, under Qubx's names, and their rows."""
    body = await client.order_book_details()
    found = [*(body.order_book_details or []), *(body.spot_order_book_details or [])]
    rows = {row.market_id: row for row in found if row.market_type in MARKET_TYPES}
    separator = "-" if settings.symbol_format == "BASE-QUOTE" else ""
    markets = [read_market(row, separator=separator, collateral=settings.collateral) for row in rows.values()]
    return [(market, rows[market.market_id]) for market in named(markets, {}, ())]


def name(market: Market) -> str:
    """Name a market with its type, ``SWAP:BTC-USDC``: a symbol alone may be of a perpetual and of a spot market."""
    return f"{market.market_type.value}:{market.symbol}"


def split(text: str) -> list[str]:
    """Take a comma-separated list apart; each name once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def is_all(wanted: Sequence[str]) -> bool:
    """Tell whether every market is meant."""
    return [text.lower() for text in wanted] == [ALL]


def choose(
    wanted: Sequence[str], markets: Iterable[Market], *, types: Sequence[str] = ("SWAP", "SPOT")
) -> list[Market]:
    """Find the markets, in the order in which they were named.

    Args:
        wanted: symbols, with or without their type, in any case; ``all`` for every active market. A symbol without a
            type is the perpetual's, where there is one.
        markets: all that the venue lists.
        types: which types will do.

    Raises:
        ConfigurationError: nothing is named.
        UnknownMarketError: the venue lists no such market; the message says what comes close.
    """
    if not wanted:
        raise ConfigurationError("no symbol was given: name some, as BTC-USDC,ETH-USDC, or all")
    fitting = sorted(
        (market for market in markets if market.market_type.value in types),
        key=lambda market: (types.index(market.market_type.value), market.market_id),
    )
    if is_all(wanted):
        return [market for market in fitting if market.active]
    known: dict[str, Market] = {}
    for market in fitting:
        known.setdefault(market.symbol.upper(), market)
        known[name(market).upper()] = market
    return list({known[key].market_id: known[key] for key in (_key(text, known) for text in wanted)}.values())


def _key(text: str, known: dict[str, Market]) -> str:
    key = text.upper().removeprefix(f"{EXCHANGE}:")
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        raise UnknownMarketError(f"the venue lists no market {text!r}" + (f"; did you mean {near[0]}?" if near else ""))
    return key
