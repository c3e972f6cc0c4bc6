"""A market that trades at random, what its venue tells of it, and what bars of it must be, reckoned independently.

Prices are ticks, sizes lots: everything is added up in integers. Candle frames are as Lighter sends them: one batch every
500 ms, the closed candle together with its successor, nothing while nothing is traded; history is on the grid, and repeats
the last price where nothing was traded.
"""

from __future__ import annotations

import json
import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qubx.core.series import Bar

from qubx_lighter.constants import RESOLUTIONS
from qubx_lighter.protocol import wire

BATCH_MS = 500
TICK = 100  # to the dollar
LOT = 10_000
NS_A_MS = 1_000_000

_BUSY_MS = 4_000
_IDLE_MS = 200_000
_IDLE = 0.02

Figures = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Print:
    """A trade."""

    trade_id: int
    time_ms: int
    price_ticks: int
    lots: int
    buy: bool


def figures(prints: Sequence[Print]) -> Figures:
    """Reckon open, high, low, close, volume and quote volume of trades."""
    prices = [p.price_ticks for p in prints]
    lots = sum(p.lots for p in prints)
    quote = sum(p.price_ticks * p.lots for p in prints)
    return (
        prices[0] / TICK,
        max(prices) / TICK,
        min(prices) / TICK,
        prices[-1] / TICK,
        lots / LOT,
        quote / (TICK * LOT),
    )


def figures_of(bar: Bar) -> Figures:
    """Read the same of a bar."""
    return bar.open, bar.high, bar.low, bar.close, bar.volume, bar.volume_quote


class Market:
    """Random trades between two times, with idle spells of up to some minutes, and one at ``at_ms``."""

    def __init__(self, seed: int, start_ms: int, stop_ms: int, at_ms: int = 0) -> None:
        chance = random.Random(seed)
        self.random = chance
        self.prints: list[Print] = []
        time_ms, price = start_ms, 100_000
        while True:
            before_ms = time_ms
            time_ms += chance.randrange(_IDLE_MS) if chance.random() < _IDLE else chance.randrange(_BUSY_MS)
            if before_ms < at_ms < time_ms:
                time_ms = at_ms
            if time_ms >= stop_ms:
                break
            price = max(1, price + chance.randint(-20, 20))
            self.prints.append(
                Print(1000 + 3 * len(self.prints), time_ms, price, chance.randint(1, 50_000), chance.random() < 0.5)
            )
        self._times = [p.time_ms for p in self.prints]

    def between(self, start_ms: int, stop_ms: int) -> list[Print]:
        """Give the trades of a span."""
        return self.prints[bisect_left(self._times, start_ms) : bisect_left(self._times, stop_ms)]

    def windows(self, length_ms: int, start_ms: int, stop_ms: int) -> dict[int, Figures]:
        """Reckon the bars of a span by their open, those that have trades."""
        found: dict[int, list[Print]] = {}
        for p in self.between(start_ms, stop_ms):
            found.setdefault(p.time_ms // length_ms * length_ms, []).append(p)
        return {opened: figures(prints) for opened, prints in found.items()}

    # --- what the venue tells --------------------------------------------------------------------------------------

    def candle(self, opened: int, length_ms: int, now_ms: int) -> dict[str, Any] | None:
        """Write a candle as it stands; None before the first trade of the market."""
        prints = self.between(opened, min(opened + length_ms, now_ms))
        if prints:
            return {"t": opened, **dict(zip("ohlcvV", figures(prints), strict=True)), "i": prints[-1].trade_id}
        before = self.between(0, opened)
        if not before:
            return None
        price = before[-1].price_ticks / TICK
        return {"t": opened, "o": price, "h": price, "l": price, "c": price, "i": before[-1].trade_id}

    def history(self, resolution: str, start_ms: int, now_ms: int) -> list[wire.CandleRow]:
        """Answer a request for candles."""
        length_ms = RESOLUTIONS[resolution]
        rows = [self.candle(opened, length_ms, now_ms) for opened in range(start_ms, now_ms, length_ms)]
        return [wire.decode(wire.CandleRow, json.dumps(row)) for row in rows if row is not None]

    def snapshot(self, resolution: str, now_ms: int) -> bytes:
        """Answer a subscribe to candles."""
        length_ms = RESOLUTIONS[resolution]
        row = self.candle(now_ms // length_ms * length_ms, length_ms, now_ms)
        return candle_frame("subscribed", *([] if row is None else [row]))

    def batch(self, resolution: str, begun_ms: int, sent_ms: int, now_ms: int) -> list[bytes]:
        """Write what the candle channel, subscribed to at ``begun_ms``, sends for the trades between two times."""
        length_ms = RESOLUTIONS[resolution]
        opens = sorted({p.time_ms // length_ms * length_ms for p in self.between(sent_ms, now_ms)})
        if not opens:
            return []
        earlier = self.between(0, sent_ms)
        last = max(begun_ms, earlier[-1].time_ms if earlier else 0) // length_ms * length_ms
        pairs = list(zip([last, *opens], opens, strict=False))
        rows = [
            [self.candle(opened, length_ms, now_ms) for opened in dict.fromkeys(pair)]
            for pair in pairs
            if pair[0] != pair[1] or len(pairs) == 1
        ]
        return [candle_frame("update", *[row for row in pair if row]) for pair in rows]

    def trade_frame(self, prints: Sequence[Print], kind: str = "update") -> bytes:
        """Write a frame of trades, newest first."""
        rows = [
            {
                "trade_id": p.trade_id,
                "market_id": 0,
                "price": f"{p.price_ticks / TICK:.2f}",
                "size": f"{p.lots / LOT:.4f}",
                "is_maker_ask": p.buy,
                "timestamp": p.time_ms,
                "type": "trade",
            }
            for p in reversed(prints)
        ]
        return json.dumps({"channel": "trade:0", "trades": rows, "type": f"{kind}/trade"}).encode()


def candle_frame(kind: str, *rows: dict[str, Any]) -> bytes:
    """Write a frame of candles."""
    return json.dumps({"candles": list(rows), "channel": "candle:0:1m", "type": f"{kind}/candle"}).encode()
