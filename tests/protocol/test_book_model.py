"""A machine that plays venue and network against the order book, and compares it with the plainest book there is.

The venue has a true book that changes whether or not anybody hears of it. The network delivers, loses, repeats and
delays frames, invents crossed and unnumbered ones, and reconnects. After every step the book must say what two dicts and
a number say, on any grid, to the last bit: sums are fractions, rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from qubx_lighter.protocol import wire
from qubx_lighter.protocol.book import OrderBook, Outcome
from qubx_lighter.protocol.units import Scale

Changes = list[tuple[int, int]]  # ticks, lots; in the order they are written, 0 deletes
PlainView = tuple[float, float, float, list[float], list[float]]

MAX_TICKS = 2**32 - 1


@dataclass(frozen=True)
class Frame:
    """A snapshot or delta before it is spelled; ``begin`` and ``end`` None for one without numbers."""

    begin: int | None
    end: int | None
    bids: Changes
    asks: Changes
    by_offset: bool

    def payload(self, scale: Scale) -> wire.BookPayload:
        def levels(changes: Changes) -> list[wire.Level]:
            return [
                wire.Level(ticks / 10**scale.price_decimals, lots / 10**scale.size_decimals) for ticks, lots in changes
            ]

        bids, asks = levels(self.bids), levels(self.asks)
        if self.by_offset:
            return wire.BookPayload(asks=asks, bids=bids, offset=self.end)
        offset = None if self.end is None else self.end % 1000  # of an API server: says nothing about continuity
        return wire.BookPayload(asks=asks, bids=bids, nonce=self.end, begin_nonce=self.begin, offset=offset)


@dataclass
class PlainBook:
    """Two dicts and a number."""

    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)
    reached: int | None = None  # None: waits for a snapshot
    by_offset: bool = False

    def clear(self) -> None:
        self.bids, self.asks, self.reached = {}, {}, None

    def snapshot(self, frame: Frame) -> Outcome:
        self.clear()
        if frame.end is None:
            return Outcome.GAP
        self.by_offset = frame.by_offset
        return self._write(frame, frame.end)

    def apply(self, frame: Frame) -> Outcome:
        if self.reached is None:
            return Outcome.GAP
        if frame.end is None or frame.by_offset != self.by_offset:
            self.clear()
            return Outcome.GAP
        if frame.end <= self.reached:
            return Outcome.STALE
        if frame.begin != self.reached:
            self.clear()
            return Outcome.GAP
        return self._write(frame, frame.end)

    def _write(self, frame: Frame, reached: int) -> Outcome:
        for side, changes in ((self.bids, frame.bids), (self.asks, frame.asks)):
            for ticks, lots in changes:
                side[ticks] = lots
            for ticks in [ticks for ticks, lots in side.items() if not lots]:
                del side[ticks]
        if self.bids and self.asks and max(self.bids) >= min(self.asks):
            self.clear()
            return Outcome.CROSSED
        self.reached = reached
        return Outcome.APPLIED

    def levels(self, scale: Scale, depth: int) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        def best(side: dict[int, int], *, highest: bool) -> list[tuple[int, float]]:
            ticks = sorted(side, reverse=highest)[:depth]
            return [(t, float(Fraction(side[t], 10**scale.size_decimals))) for t in ticks]

        return best(self.bids, highest=True), best(self.asks, highest=False)

    def view(self, scale: Scale, ticks_per_bin: int, depth: int) -> PlainView | None:
        if not self.bids or not self.asks:
            return None
        lot = Fraction(1, 10**scale.size_decimals)
        bids, asks = [Fraction(0)] * depth, [Fraction(0)] * depth
        top_bid, top_ask = max(self.bids) // ticks_per_bin, -(-min(self.asks) // ticks_per_bin)
        for ticks, lots in self.bids.items():
            if (index := top_bid - ticks // ticks_per_bin) < depth:
                bids[index] += lots * lot
        for ticks, lots in self.asks.items():
            if (index := -(-ticks // ticks_per_bin) - top_ask) < depth:
                asks[index] += lots * lot
        step = Fraction(ticks_per_bin, 10**scale.price_decimals)
        return (
            float(top_bid * step),
            float(top_ask * step),
            float(step),
            [float(total) for total in bids],
            [float(total) for total in asks],
        )


# --- what is drawn ---------------------------------------------------------------------------------------------------

EDGES = st.builds(int.__add__, st.sampled_from([4_096, 8_192, 12_288, 16_384, 65_536]), st.integers(-1, 1))
DISTANCES = st.one_of(st.integers(0, 5), st.integers(0, 200), st.integers(0, 40_000), st.integers(0, 4_000_000), EDGES)
LOTS = st.one_of(st.just(0), st.integers(1, 50), st.integers(1, 10**9))
SIDE = st.lists(st.tuples(DISTANCES, LOTS), max_size=6)
SHIFTS = st.sampled_from([0, 0, 0, 1, -1, 4, -30, 500, 9_000, -9_000, 20_000, 300_000])
SKIPS = st.sampled_from([1, 1, 2, 17, 5_000])
BINS = st.one_of(st.just(1), st.integers(2, 60), st.sampled_from([100, 997, 4_096, 16_385, 250_000, 1_000_000]))
DEPTHS = st.one_of(st.integers(1, 3), st.integers(1, 25), st.sampled_from([200, 1_000]))
SCALES = st.builds(Scale, st.integers(0, 6), st.integers(0, 6))


class BookMachine(RuleBasedStateMachine):
    """Play venue and network."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = Scale(0, 0)
        self.book = OrderBook(self.scale)
        self.model = PlainBook()
        self.truth = PlainBook()
        self.middle = 0
        self.number = 0
        self.by_offset = False
        self.sent: list[Frame] = []

    @initialize(scale=SCALES, middle=st.integers(1, 500_000), by_offset=st.booleans(), bids=SIDE, asks=SIDE)
    def begin(self, scale: Scale, middle: int, by_offset: bool, bids: Changes, asks: Changes) -> None:
        self.scale, self.middle, self.by_offset = scale, middle, by_offset
        self.book = OrderBook(scale)
        self._change(0, bids, asks, 1)

    # --- the venue ---------------------------------------------------------------------------------------------------

    def _change(self, shift: int, bids: Changes, asks: Changes, skip: int) -> Frame:
        """Change the true book around a middle that moves, and give the delta that tells of it."""
        self.middle = min(max(1, self.middle + shift), MAX_TICKS // 2)
        new_bids = [(max(1, self.middle - distance), lots) for distance, lots in bids]
        new_asks = [(self.middle + 1 + distance, lots) for distance, lots in asks]
        new_bids += [(ticks, 0) for ticks in self.truth.bids if ticks > self.middle]
        new_asks += [(ticks, 0) for ticks in self.truth.asks if ticks <= self.middle]
        return self._numbered(new_bids, new_asks, skip)

    def _numbered(self, bids: Changes, asks: Changes, skip: int) -> Frame:
        begin, self.number = self.number, self.number + (1 if self.by_offset else skip)
        frame = Frame(begin, self.number, bids, asks, self.by_offset)
        self.truth.reached, self.truth.by_offset = begin, self.by_offset
        assert Outcome.APPLIED is self.truth.apply(frame)
        self.sent.append(frame)
        return frame

    def _whole(self) -> Frame:
        return Frame(0, self.number, list(self.truth.bids.items()), list(self.truth.asks.items()), self.by_offset)

    # --- the network -------------------------------------------------------------------------------------------------

    def _deliver(self, frame: Frame) -> Outcome:
        expected = self.model.apply(frame)
        assert expected is self.book.apply(frame.payload(self.scale))
        return expected

    def _deliver_snapshot(self, frame: Frame) -> Outcome:
        expected = self.model.snapshot(frame)
        assert expected is self.book.snapshot(frame.payload(self.scale))
        return expected

    @property
    def in_step(self) -> bool:
        return self.model.reached == self.number and self.model.by_offset == self.by_offset

    @rule()
    def a_snapshot_comes(self) -> None:
        assert Outcome.APPLIED is self._deliver_snapshot(self._whole())

    @rule(shift=SHIFTS, bids=SIDE, asks=SIDE, skip=SKIPS, healed=st.sampled_from([True, True, True, False]))
    def a_delta_comes(self, shift: int, bids: Changes, asks: Changes, skip: int, healed: bool) -> None:
        if healed and not self.in_step:
            self._deliver_snapshot(self._whole())
        ready = self.in_step
        assert ready == (Outcome.APPLIED is self._deliver(self._change(shift, bids, asks, skip)))

    @rule(shifts=st.lists(SHIFTS, min_size=1, max_size=5), bids=SIDE, asks=SIDE)
    def a_snapshot_and_deltas_come(self, shifts: list[int], bids: Changes, asks: Changes) -> None:
        assert Outcome.APPLIED is self._deliver_snapshot(self._whole())
        for shift in shifts:
            assert Outcome.APPLIED is self._deliver(self._change(shift, bids, asks, 3))

    @rule(bids=st.booleans(), asks=st.booleans())
    def sides_empty_level_by_level(self, bids: bool, asks: bool) -> None:
        gone_bids = [(ticks, 0) for ticks in self.truth.bids] if bids else []
        gone_asks = [(ticks, 0) for ticks in self.truth.asks] if asks else []
        self._deliver(self._numbered(gone_bids, gone_asks, 2))

    @rule(distances=st.lists(DISTANCES, min_size=1, max_size=5))
    def unknown_levels_are_deleted(self, distances: list[int]) -> None:
        self._deliver(
            self._numbered(
                [(max(1, self.middle - d), 0) for d in distances if max(1, self.middle - d) not in self.truth.bids],
                [(self.middle + 1 + d, 0) for d in distances if self.middle + 1 + d not in self.truth.asks],
                1,
            )
        )

    @rule(shift=SHIFTS, bids=SIDE, asks=SIDE, skip=SKIPS)
    def a_delta_is_lost(self, shift: int, bids: Changes, asks: Changes, skip: int) -> None:
        self._change(shift, bids, asks, skip)

    @rule(data=st.data())
    def an_earlier_frame_comes_again(self, data: st.DataObject) -> None:
        back = data.draw(st.integers(1, min(len(self.sent), 6)), "frames back")
        self._deliver(self.sent[-back])

    @precondition(lambda self: self.in_step and not self.by_offset)
    @rule(bids=SIDE, asks=SIDE, back=st.integers(1, 3))
    def a_delta_overlaps_what_is_known(self, bids: Changes, asks: Changes, back: int) -> None:
        frame = self._change(0, bids, asks, 5)
        assert frame.begin is not None
        early = Frame(frame.begin - back, frame.end, frame.bids, frame.asks, frame.by_offset)
        assert Outcome.GAP is self._deliver(early)

    @precondition(lambda self: self.in_step and self.truth.bids and self.truth.asks)
    @rule(over=st.integers(0, 3), bid_side=st.booleans())
    def a_delta_crosses_the_book(self, over: int, bid_side: bool) -> None:
        bids = [(min(self.truth.asks) + over, 7)] if bid_side else []
        asks = [] if bid_side else [(max(1, max(self.truth.bids) - over), 7)]
        frame = Frame(self.number, self.number + 1, bids, asks, self.by_offset)
        assert Outcome.CROSSED is self._deliver(frame)

    @rule(ticks=st.integers(1, 500_000), over=st.integers(0, 9))
    def a_crossed_snapshot_comes(self, ticks: int, over: int) -> None:
        frame = Frame(0, self.number, [(ticks + over, 3), (max(1, ticks - 4), 1)], [(ticks, 3)], self.by_offset)
        assert Outcome.CROSSED is self._deliver_snapshot(frame)

    @rule(bids=SIDE, snapshot=st.booleans())
    def a_frame_without_numbers_comes(self, bids: Changes, snapshot: bool) -> None:
        frame = Frame(None, None, [(max(1, self.middle - d), lots) for d, lots in bids], [], self.by_offset)
        assert Outcome.GAP is (self._deliver_snapshot(frame) if snapshot else self._deliver(frame))

    @rule()
    def the_connection_is_made_anew(self) -> None:
        self.model.clear()
        self.book.clear()

    @rule()
    def the_venue_changes_its_numbering(self) -> None:
        self.by_offset = not self.by_offset

    # --- what the book says --------------------------------------------------------------------------------------------

    @rule(ticks_per_bin=BINS, depth=DEPTHS)
    def it_is_viewed(self, ticks_per_bin: int, depth: int) -> None:
        self._assert_view(ticks_per_bin, depth)

    def _assert_view(self, ticks_per_bin: int, depth: int) -> None:
        expected = self.model.view(self.scale, ticks_per_bin, depth)
        view = self.book.view(ticks_per_bin, depth)
        if view is None:
            assert expected is None
            return
        assert np.float64 == view.bids.dtype == view.asks.dtype
        assert expected == (view.top_bid, view.top_ask, view.bin_size, view.bids.tolist(), view.asks.tolist())

    @invariant()
    def it_says_what_the_plain_book_says(self) -> None:
        model, book = self.model, self.book
        assert (model.reached is not None, model.reached or 0) == (book.ready, book.nonce)
        assert (max(model.bids, default=None), min(model.asks, default=None)) == (
            book.best_bid_ticks,
            book.best_ask_ticks,
        )
        bids, asks = model.levels(self.scale, 1000)
        assert (bids, asks) == book.levels(1000)
        assert (bids[:3], asks[:3]) == book.levels(3)
        tick = 10**self.scale.price_decimals
        best = (
            (float(Fraction(bids[0][0], tick)), bids[0][1], float(Fraction(asks[0][0], tick)), asks[0][1])
            if bids and asks
            else None
        )
        assert best == book.best()
        self._assert_view(1, 5)
        self._assert_view(7, 5)
        self._assert_view(1_000_000, 2)


BookMachine.TestCase.settings = settings(
    max_examples=70,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestBook = BookMachine.TestCase
