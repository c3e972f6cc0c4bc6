"""The local venue's history over REST: candles, mark-price candles, funding, and the public's trades.

Candles have the venue's oddities, which clients run into sooner or later: a cache in front of it knows an answer by
``end_timestamp`` and ``count_back`` alone, so that ``start_timestamp`` says nothing. What comes is the newest ``count_back``
candles, at most 500, that open at ``end_timestamp`` or before: rows before the start where more are asked for than the range
holds, no rows at its beginning where fewer are. The one that still forms is among them. Buckets without a trade have all
prices at the close before, and no ``v`` and ``V``: candles leave out numbers that are zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from qubx_lighter.constants import RESOLUTIONS, Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.api.parameters import Parameters
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.markets.market_history import HOUR_MS
from qubx_lighter.sim.markets.market_rules import insist_on_perpetual
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.wire.history_rows import RATE_DECIMALS, candle_rows, funding_row, mark_candle_rows
from qubx_lighter.sim.wire.texts import Row, success

_CANDLES: Final = 500
_FUNDINGS: Final = 749
_RATES_OF_OTHERS: Final = {"binance": 3, "bybit": 5, "hyperliquid": 7}  # hours by which they lag behind ours
_FUNDING_PERIOD_H: Final = 8  # funding-rates scales to what other exchanges settle
_PERCENT: Final = 100


class RestHistory:
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
            "/api/v1/candles": self.candles,
            "/api/v1/markPriceCandles": self.mark_price_candles,
            "/api/v1/fundings": self.fundings,
            "/api/v1/funding-rates": self.funding_rates,
        }

    def candles(self, params: Parameters) -> Row:
        """Answer ``candles``."""
        spec = params.market(self._engine)
        resolution, step_ms = _resolution(params)
        rows = self._engine.history(spec.market_id).candles(step_ms, *self._range(params, step_ms))
        return success(r=resolution, c=_not_empty(candle_rows(spec, rows)))

    def mark_price_candles(self, params: Parameters) -> Row:
        """Answer ``markPriceCandles``."""
        spec = params.market(self._engine)
        insist_on_perpetual(spec)
        resolution, step_ms = _resolution(params)
        rows = self._engine.history(spec.market_id).mark_candles(step_ms, *self._range(params, step_ms))
        return success(r=resolution, c=_not_empty(mark_candle_rows(spec, rows)))

    def _range(self, params: Parameters, step_ms: int) -> tuple[int, int]:
        """Read the last moment, ms, and the number of candles; the range must be as long as one candle at least."""
        start_ms, end_ms = params.time_ms("start_timestamp"), params.time_ms("end_timestamp")
        count = params.integer("count_back", low=1)
        if start_ms + step_ms > end_ms:
            raise VenueError(Code.EMPTY_RANGE, "invalid range: it is shorter than a candle")
        return min(end_ms, max(self._now(), self._engine.now) // 1000), min(count, _CANDLES)

    def fundings(self, params: Parameters) -> Row:
        """Answer ``fundings``: both bounds are cut to the hour and are no part of the range; a count of 0 limits nothing."""
        spec = params.market(self._engine)
        insist_on_perpetual(spec)
        resolution, step_ms = _resolution(params)
        start, end = (params.time_ms(name) // HOUR_MS for name in ("start_timestamp", "end_timestamp"))
        count = params.integer("count_back", low=0) or _FUNDINGS
        if step_ms != HOUR_MS:
            raise VenueError(Code.INVALID_PARAM, "invalid param: the local venue lists fundings by the hour only")
        count = min(count, _FUNDINGS)
        stop = min(end, self._now() // 1000 // HOUR_MS + 1)
        found = self._engine.history(spec.market_id).fundings(max(start + 1, stop - count), stop)
        return success(resolution=resolution, fundings=[funding_row(spec, funding) for funding in found])

    def funding_rates(self, _params: Parameters) -> Row:
        """Answer ``funding-rates``: the last settled rates, of the venue and of others, for eight hours and as fractions."""
        hour = self._now() // 1000 // HOUR_MS
        rates = [
            {
                "market_id": spec.market_id,
                "exchange": exchange,
                "symbol": spec.symbol,
                "rate": self._rate(spec, hour - lag),
            }
            for spec in self._engine.listed()
            if spec.is_perpetual
            for exchange, lag in (_RATES_OF_OTHERS | {"lighter": 0}).items()
        ]
        return success(funding_rates=rates)

    def _rate(self, spec: MarketSpec, hour: int) -> float:
        rate = self._engine.history(spec.market_id).funding_rate(hour)
        return rate * _FUNDING_PERIOD_H / (_PERCENT * 10**RATE_DECIMALS)


def _resolution(params: Parameters) -> tuple[str, int]:
    name = params.text("resolution")
    if name not in RESOLUTIONS:
        raise VenueError(Code.INVALID_PARAM, f"invalid param: resolution must be one of {', '.join(RESOLUTIONS)}")
    return name, RESOLUTIONS[name]


def _not_empty(found: list[Row]) -> list[Row]:
    if not found:
        raise VenueError(Code.EMPTY_RANGE, "invalid range: it holds no candle")
    return found
