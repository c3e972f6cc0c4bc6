"""The channel ``order_book``: one full book a market, any number of views of it.

Qubx's ``OrderBook`` is a uniform grid: ``bids[i]`` is the size at ``top_bid - i * tick_size``. A view's grid is a share
of the mid price, as in Qubx's own connectors; 0 asks for the market's own ticks. Bins lie on multiples of their size,
bids below and asks above, so that no size is ever shown at a better price than it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from qubx.core.basics import DataType, Instrument
from qubx.core.series import OrderBook, Quote

from qubx_lighter.handlers.base import MarketHandler, Output, View
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.book import OrderBook as Book
from qubx_lighter.protocol.book import Outcome
from qubx_lighter.protocol.units import Scale, time_ns

_NOISE: Final = 1e-9  # of a tick: a share of the mid that is a whole number of ticks stays one


@dataclass(frozen=True, slots=True)
class BookView(View):
    """``orderbook(tick_size_pct, depth)``: the grid in percent of the mid price, and the bins a side."""

    data_type: str = field(default=DataType.ORDERBOOK.value, init=False)
    conflates: bool = field(default=True, init=False)
    tick_size_pct: float
    depth: int


DEFAULT_VIEW: Final = BookView(0.01, 200)
"""What a bare ``orderbook`` means, as in Qubx's ``DataType``."""


class OrderBookHandler(MarketHandler):
    """Keep a market's book and make its views; ``views`` are ``BookView``."""

    def __init__(self, instrument: Instrument, scale: Scale, counters: Counter[str]) -> None:
        super().__init__(instrument, scale, counters)
        self._book = Book(scale)

    def snapshot(self, raw: bytes) -> list[Output]:
        """Begin the book anew; see the base.

        A book at rest was changed long before the snapshot is sent, and is true then: its time is that of the sending.
        """
        frame = wire.decode(wire.BookFrame, raw)
        outcome = self._book.snapshot(frame.order_book)
        return self._outputs(outcome, self._stamp(_changed_ns(frame), time_ns(frame.timestamp)))

    def update(self, raw: bytes) -> list[Output]:
        """Apply a delta; see the base."""
        frame = wire.decode(wire.BookFrame, raw)
        if not self._book.ready:
            self.counters["updates_before_snapshot"] += 1
            self.awaiting = True
            return []
        outcome = self._book.apply(frame.order_book)
        return self._outputs(outcome, self._stamp(_changed_ns(frame) or time_ns(frame.timestamp)))

    def reset(self) -> None:
        """Empty the book."""
        self._book.clear()
        self.quote = None
        self.awaiting = False

    def current(self, views: Iterable[View]) -> list[Output]:
        """Show the book as it is; see the base."""
        bid, ask = self._book.best_bid_ticks, self._book.best_ask_ticks
        if not self._book.ready or bid is None or ask is None:
            return []
        outputs: list[Output] = []
        for view in views:
            if not isinstance(view, BookView):
                raise TypeError(f"not a view of a book: {view}")
            bins = self._book.view(_ticks_per_bin(view.tick_size_pct, bid, ask), view.depth)
            if bins is not None:
                book = OrderBook(self._time_ns, bins.top_bid, bins.top_ask, bins.bin_size, bins.bids, bins.asks)
                outputs.append((view, book))
        return outputs

    def _outputs(self, outcome: Outcome, now_ns: int) -> list[Output]:
        match outcome:
            case Outcome.APPLIED:
                self.awaiting = False
                best = self._book.best()
                if best is None:
                    self.quote = None
                    self.counters["one_sided_books"] += 1
                    return []
                bid, bid_size, ask, ask_size = best
                self.quote = Quote(now_ns, bid, ask, bid_size, ask_size)
                return self.current(self.views)
            case Outcome.STALE:
                self.counters["stale_books"] += 1
            case Outcome.GAP | Outcome.CROSSED:
                self.counters["book_gaps" if outcome is Outcome.GAP else "crossed_books"] += 1
                self.quote = None
                self.awaiting = True
        return []


def _ticks_per_bin(tick_size_pct: float, bid_ticks: int, ask_ticks: int) -> int:
    return max(1, int((bid_ticks + ask_ticks) * tick_size_pct / 200 + _NOISE))


def _changed_ns(frame: wire.BookFrame) -> int:
    """Read when the matching engine changed the book; 0 in frames of 2025 and for a book never touched."""
    return time_ns(frame.last_updated_at or frame.order_book.last_updated_at)
