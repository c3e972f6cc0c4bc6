"""What the candle channels send: the forming candle, and when it is over once more, with the one that follows.

Nothing is sent while nothing happens: a candle is over when the first trade after it comes, however late, and buckets without
a trade are passed over. The first frame of a subscription alone has the candle of the moment whatever happened in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from qubx_lighter.constants import RESOLUTIONS
from qubx_lighter.sim.exchange.view import View
from qubx_lighter.sim.markets.candles import TIME, Rows
from qubx_lighter.sim.markets.market_history import MarketHistory
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.wire import frames
from qubx_lighter.sim.wire.history_rows import candle_rows, mark_candle_rows
from qubx_lighter.sim.wire.texts import Row

TRADES: Final = "candle"
MARK_PRICES: Final = "mark_price_candle"


@dataclass(slots=True)
class _Feed:
    """One channel: what it is of, and how far its subscribers know.

    Attributes:
        newest: the one-minute row that was the newest when they were last told.
        open_ms: when the last candle opened in which anything happened; None before the first.
    """

    kind: str
    spec: MarketSpec
    history: MarketHistory
    resolution: str
    newest: tuple[int, ...] = ()
    open_ms: int | None = None

    def __post_init__(self) -> None:
        self.newest = self.history.newest(is_mark=self.is_mark)
        last_ms = self.history.last_ms(is_mark=self.is_mark)
        self.open_ms = None if last_ms is None else last_ms // self.step_ms * self.step_ms

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.spec.market_id}:{self.resolution}"

    @property
    def is_mark(self) -> bool:
        return self.kind == MARK_PRICES

    @property
    def step_ms(self) -> int:
        return RESOLUTIONS[self.resolution]

    def at(self, time_ms: int) -> list[Row]:
        """Write the candle that a moment is in; none before the market's first."""
        read = self.history.mark_candles if self.is_mark else self.history.candles
        return self._write(read(self.step_ms, time_ms, 1))

    def news(self) -> list[list[Row]]:
        """Write what has happened since, frame by frame: the candle that forms, or one that closed and its successor."""
        newest = self.history.newest(is_mark=self.is_mark)
        if newest == self.newest:
            return []
        begin_ms = newest[TIME] // self.step_ms * self.step_ms if self.open_ms is None else self.open_ms
        happened = self.history.changed_since(self.step_ms, begin_ms, is_mark=self.is_mark)
        self.newest, self.open_ms = newest, int(happened[-1, TIME])
        rows = self._write(happened)
        return [rows[place : place + 2] for place in range(len(rows) - 1)] or [rows]

    def _write(self, rows: Rows) -> list[Row]:
        return (mark_candle_rows if self.is_mark else candle_rows)(self.spec, rows)


class CandleFeed:
    """The candle channels of all markets.

    Args:
        view: of the venue.
        now: the wall clock, µs.
        send: sends a frame to a channel's subscribers; writes it only if there are any, and tells whether there are.
    """

    def __init__(self, view: View, now: Callable[[], int], send: Callable[[str, Callable[[], str]], bool]) -> None:
        self._view = view
        self._now = now
        self._send = send
        self._feeds: dict[str, _Feed] = {}

    def snapshot(self, kind: str, market_id: int, resolution: str) -> str:
        """Write the first frame of a subscription; those who were there before get what waits for them first."""
        key = f"{kind}:{market_id}:{resolution}"
        if key not in self._feeds:
            spec, history = self._view.markets[market_id], self._view.history(market_id)
            self._feeds[key] = _Feed(kind, spec, history, resolution)
        feed = self._feeds[key]
        self._flush(feed)
        now = max(self._now(), self._view.now)
        return frames.candles("subscribed", key, feed.at(now // 1000), self._now())

    def flush(self) -> None:
        """Send the candles that have changed since."""
        for key in [key for key, feed in self._feeds.items() if not self._flush(feed)]:
            del self._feeds[key]

    def _flush(self, feed: _Feed) -> bool:
        """Send what has happened; tell whether anybody listens, as far as anything was sent."""
        return all(self._send_update(feed, rows) for rows in feed.news())

    def _send_update(self, feed: _Feed, rows: list[Row]) -> bool:
        return self._send(feed.key, lambda: frames.candles("update", feed.key, rows, self._now()))
