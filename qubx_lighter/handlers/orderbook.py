"""The channel ``order_book``: one full book a market, any number of views of it.

Qubx's ``OrderBook`` is a uniform grid: ``bids[i]`` is the size at ``top_bid - i * tick_size``. A view's grid is a share
of the mid price, as in Qubx's own connectors; 0 asks for the market's own ticks. Bins lie on multiples of their size,
bids below and asks above, so that no size is ever shown at a better price than it has.

A view is published when a delta touched what it shows. One that nothing touches is published all the same once in
``REPEAT_NS`` of the venue's time, because Qubx takes a stream without arrivals for a dead one. Quotes are served from the
book where it is subscribed anyway, by the same rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Final

from qubx.core.basics import DataType, Instrument
from qubx.core.series import OrderBook, Quote

from qubx_lighter.handlers.base import MarketHandler, Output, View
from qubx_lighter.handlers.quote import REPEAT_NS, is_news
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.book import OrderBook as Book
from qubx_lighter.protocol.book import Outcome
from qubx_lighter.protocol.units import Scale, time_ns


@dataclass(frozen=True, slots=True)
class BookView(View):
    """``orderbook(tick_size_pct, depth)``: the grid in percent of the mid price, and the bins a side."""

    data_type: str = field(default=DataType.ORDERBOOK.value, init=False)
    conflates: bool = field(default=True, init=False)
    tick_size_pct: float
    depth: int


_EVERYTHING: Final = -1  # how near a snapshot comes: to every view
DEFAULT_VIEW: Final = BookView(0.01, 200)
"""What a bare ``orderbook`` means, as in Qubx's ``DataType``."""


@dataclass(slots=True)
class _Shown:
    """A view of the book, and the time from which it is published even if nothing touches it."""

    view: BookView
    due_ns: int = 0


class OrderBookHandler(MarketHandler):
    """Keep a market's book and make its views: ``BookView``, and that of quotes.

    Attributes:
        last_quote: the last quote published, by this handler or the one that served quotes before it: what it says is
            not said again.
    """

    on_grid: ClassVar[bool] = True

    def __init__(self, instrument: Instrument, scale: Scale, counters: Counter[str]) -> None:
        self._best: tuple[float, float, float, float] | None = None
        super().__init__(instrument, scale, counters)
        self.last_quote: Quote | None = None
        self._book = Book(scale)
        self._prepared: tuple[View, ...] = ()  # the views that these were made for:
        self._shown: list[_Shown] = []
        self._quotes: View | None = None
        self._said: tuple[float, float, float, float] | None = None  # the best prices last compared with ``last_quote``

    @property
    def quote(self) -> Quote | None:
        """Give the best prices; None while the book is not right or has an empty side. From any thread."""
        now_ns = self._time_ns  # first: the prices are then at least as new
        best = self._best
        if best is None:
            return None
        bid, bid_size, ask, ask_size = best
        return Quote(now_ns, bid, ask, bid_size, ask_size)

    @quote.setter
    def quote(self, _: Quote | None) -> None:  # the base forgets it so
        self._best = None

    def snapshot(self, raw: bytes) -> list[Output]:
        """Begin the book anew; see the base.

        A book at rest was changed long before the snapshot is sent, and is true then: its time is that of the sending.
        """
        frame = wire.decode(wire.BookFrame, raw)
        outcome = self._book.snapshot(frame.order_book)
        if outcome is not Outcome.APPLIED:
            return self._refuse(outcome)
        self.awaiting = False
        self._best = self._book.best()
        changed_us = frame.last_updated_at or frame.order_book.last_updated_at
        self._stamp(time_ns(changed_us), time_ns(frame.timestamp))
        return self._publish(_EVERYTHING)

    def update(self, raw: bytes) -> list[Output]:
        """Apply a delta; see the base."""
        frame = wire.decode(wire.BookFrame, raw)
        book = self._book
        if not book.ready:
            self.counters["updates_before_snapshot"] += 1
            self.awaiting = True
            return []
        outcome = book.apply(frame.order_book)
        if outcome is not Outcome.APPLIED:
            return self._refuse(outcome)
        near = book.touched_depth()
        if near < 1:
            self._best = book.best()
        now_ns = time_ns(frame.last_updated_at or frame.order_book.last_updated_at or frame.timestamp)
        if now_ns > self._time_ns:  # noqa: PLR1730 - max() takes four times as long
            self._time_ns = now_ns
        return self._publish(near)

    def reset(self) -> None:
        """Empty the book."""
        self._book.clear()
        self.quote = None
        self.awaiting = False

    def unsay(self) -> None:
        """Have the next quote be news; see the base."""
        self.last_quote = None

    def current(self, views: Iterable[View]) -> list[Output]:
        """Show the book as it is; see the base."""
        quote = self.quote
        if quote is None:
            return []
        outputs: list[Output] = []
        for view in views:
            if isinstance(view, BookView):
                self._show(view, self._book.ticks_per_bin(view.tick_size_pct), outputs)
            else:
                self.last_quote = quote
                outputs.append((_of_quotes(view), quote))
        return outputs

    def _publish(self, near: int) -> list[Output]:
        """Show what changed and what was not shown for long; ``near`` is how deep a view of single ticks sees no change."""
        if self._best is None:
            self.counters["one_sided_books"] += 1
            return []
        if self._prepared is not self.views:
            self._prepare()
        outputs: list[Output] = []
        now_ns, book = self._time_ns, self._book
        for shown in self._shown:
            view = shown.view
            ticks = book.ticks_per_bin(view.tick_size_pct) if view.tick_size_pct else 1
            if near < view.depth or now_ns >= shown.due_ns or (ticks > 1 and book.touched(ticks, view.depth)):
                shown.due_ns = now_ns + REPEAT_NS
                self._show(view, ticks, outputs)
        if self._quotes is not None:
            self._show_quote(self._quotes, outputs)
        return outputs

    def _prepare(self) -> None:
        """Take over the views that are wanted now."""
        views = self.views
        due = {shown.view: shown.due_ns for shown in self._shown}
        self._shown = [_Shown(view, due.get(view, 0)) for view in views if isinstance(view, BookView)]
        self._quotes = next((_of_quotes(view) for view in views if not isinstance(view, BookView)), None)
        self._prepared = views

    def _show_quote(self, view: View, outputs: list[Output]) -> None:
        last = self.last_quote
        if last is not None and self._said is self._best and self._time_ns - last.time < REPEAT_NS:
            return
        self._said = self._best
        quote = self.quote
        if quote is not None and is_news(quote, last):
            self.last_quote = quote
            outputs.append((view, quote))

    def _show(self, view: BookView, ticks_per_bin: int, outputs: list[Output]) -> None:
        bins = self._book.view(ticks_per_bin, view.depth)
        if bins is not None:
            book = OrderBook(self._time_ns, bins.top_bid, bins.top_ask, bins.bin_size, bins.bids, bins.asks)
            outputs.append((view, book))

    def _refuse(self, outcome: Outcome) -> list[Output]:
        """Count what did not apply; nothing is shown of a book that lost something."""
        if outcome is Outcome.STALE:
            self.counters["stale_books"] += 1
        else:
            self.counters["book_gaps" if outcome is Outcome.GAP else "crossed_books"] += 1
            self.quote = None
            self.awaiting = True
        return []


def _of_quotes(view: View) -> View:
    if view.data_type != DataType.QUOTE:
        raise TypeError(f"not a view of a book: {view}")
    return view
