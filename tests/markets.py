"""Market rows for tests, with the rules of the venue's own markets."""

from __future__ import annotations

from typing import Any

from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.protocol.wire import MarketRow, OrderBookDetailsBody

ETH_ROW: dict[str, Any] = {
    "symbol": "ETH",
    "market_id": 0,
    "market_type": "perp",
    "status": "active",
    "supported_size_decimals": 4,
    "supported_price_decimals": 2,
    "min_base_amount": "0.0050",
    "min_quote_amount": "10.000000",
}
"""As REST writes it, with what no market is without."""


def market_row(market_id: int, symbol: str, size_decimals: int, price_decimals: int, minimum: str) -> MarketRow:
    """Write a perpetual's row."""
    return MarketRow(
        symbol=symbol,
        market_id=market_id,
        market_type="perp",
        status="active",
        supported_size_decimals=size_decimals,
        supported_price_decimals=price_decimals,
        min_base_amount=minimum,
        min_quote_amount="10.000000",
        created_at="1737000000000",
        default_initial_margin_fraction=500,
        min_initial_margin_fraction=200,
        maintenance_margin_fraction=120,
    )


ROWS = [
    market_row(0, "ETH", 4, 2, "0.0050"),
    market_row(1, "BTC", 5, 1, "0.00020"),
    market_row(24, "HYPE", 2, 4, "0.50"),
]


class Listing:
    """A market source with fixed rows."""

    def __init__(self, rows: list[MarketRow] | None = None) -> None:
        self.rows = ROWS if rows is None else rows

    async def order_book_details(self) -> OrderBookDetailsBody:
        """Give the rows."""
        return OrderBookDetailsBody(order_book_details=self.rows)


async def loaded_instruments() -> LighterInstrumentLoader:
    """Load the instruments of ``ROWS``."""
    loader = LighterInstrumentLoader(Listing())
    await loader.load()
    return loader
