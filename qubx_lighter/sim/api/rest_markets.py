"""The local venue's lists of what there is over REST: markets of every type, events of binary options, assets.

``orderBooks`` has all markets. ``orderBookDetails`` has perpetuals and types that nobody knows, and spot markets apart;
binary options are in ``events`` instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from qubx_lighter.constants import Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.api.parameters import Parameters
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.model.specs import BINARY_OPTIONS, PERPETUAL, SPOT, MarketSpec
from qubx_lighter.sim.wire import asset_rows, market_rows, texts
from qubx_lighter.sim.wire.texts import Row, success

_FILTERS: Final = {"all": None, "perp": PERPETUAL, "spot": SPOT}


class RestMarkets:
    """The endpoints.

    Args:
        engine: the venue.
        now: the wall clock, µs.
    """

    def __init__(self, engine: Engine, now: Callable[[], int]) -> None:
        self._engine = engine
        self._now = now

    def reads(self) -> dict[str, Callable[[Parameters], Row]]:
        """List them by path."""
        return {
            "/api/v1/orderBooks": self.order_books,
            "/api/v1/orderBookDetails": self.order_book_details,
            "/api/v1/assetDetails": self.asset_details,
            "/api/v1/events": self.events,
        }

    def order_books(self, params: Parameters) -> Row:
        """Answer ``orderBooks``."""
        return success(order_books=[market_rows.market_row(self._engine, spec) for spec in self._markets(params)])

    def order_book_details(self, params: Parameters) -> Row:
        """Answer ``orderBookDetails``."""
        now_ms = max(self._now(), self._engine.now) // 1000
        found = self._markets(params)
        details = [spec for spec in found if spec.market_type not in (SPOT, BINARY_OPTIONS)]
        return success(
            order_book_details=[market_rows.market_detail_row(self._engine, spec, now_ms) for spec in details],
            spot_order_book_details=[market_rows.spot_detail_row(self._engine, s, now_ms) for s in found if s.is_spot],
        )

    def _markets(self, params: Parameters) -> list[MarketSpec]:
        wanted = params.text("filter", "all")
        if wanted not in _FILTERS:
            raise VenueError(Code.INVALID_PARAM, "invalid param: filter")
        listed = [params.market(self._engine)] if params.market_id() is not None else self._engine.listed()
        return [spec for spec in listed if _FILTERS[wanted] in (None, spec.market_type)]

    def asset_details(self, params: Parameters) -> Row:
        """Answer ``assetDetails``."""
        wanted = params.integer("asset_id", -1)
        assets = [asset for asset in self._engine.assets.values() if wanted in (-1, asset.asset_id)]
        return success(asset_details=[asset_rows.asset_detail(self._engine, asset) for asset in assets])

    def events(self, params: Parameters) -> Row:
        """Answer ``events``: each binary option is an event of its own, numbered as its market."""
        wanted = [text for text in params.text("market_ids", "").split(",") if text]
        options = [spec for spec in self._engine.listed() if spec.market_type == BINARY_OPTIONS]
        found = [spec for spec in options if not wanted or str(spec.market_id) in wanted]
        return success(events=[self._event(spec) for spec in found])

    def _event(self, spec: MarketSpec) -> Row:
        engine, book = self._engine, self._engine.book(spec.market_id)
        day = engine.history(spec.market_id).last_day(max(self._now(), engine.now) // 1000)
        row = market_rows.market_row(engine, spec)
        figures = {"symbol": spec.symbol, "market_id": spec.market_id, "status": spec.status, "outcome": 0}
        stats = figures | {
            "mid_price": "",
            "best_ask_price": texts.price_text(spec, book.best_ask_ticks) if book.best_ask_ticks else "",
            "best_bid_price": texts.price_text(spec, book.best_bid_ticks) if book.best_bid_ticks else "",
            "last_trade_price": texts.price_text(spec, engine.last_trade_ticks(spec.market_id)),
            "lifetime_quote_token_volume": float(texts.micro_text(day.quote_micro)),
            "lifetime_base_token_volume": float(texts.size_text(spec, day.lots)),
            "open_interest": row["open_interest"],
        }
        sizes = {"size_decimals": spec.size_decimals, "price_decimals": spec.price_decimals}
        return {
            "event_id": spec.market_id,
            "title": spec.symbol,
            "description": "",
            "creator_account_index": 0,
            "created_at": spec.created_at_ms // 1000,
            "tag": "",
            "event_kind": "one_off",
            "recurrence_period_seconds": 0,
            "start_at": spec.created_at_ms // 1000,
            "end_at": 0,
            "metadata": {},
            "order_books": [row | sizes | {"stats": stats | market_rows.daily_figures(spec, day)}],
            "lifetime_quote_token_volume": float(texts.micro_text(day.quote_micro)),
        }
