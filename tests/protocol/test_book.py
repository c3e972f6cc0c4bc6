"""The order book against a book made of two dicts."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qubx_lighter.protocol import wire
from qubx_lighter.protocol.book import OrderBook, Outcome
from qubx_lighter.protocol.units import Scale

ETH = Scale(price_decimals=2, size_decimals=4)

Lots = dict[int, int]  # ticks -> lots; 0 deletes
PlainView = tuple[float, float, float, list[float], list[float]]


@dataclass
class Model:
    """The plainest book there is: ticks -> lots a side."""

    scale: Scale
    bids: Lots = field(default_factory=dict)
    asks: Lots = field(default_factory=dict)

    def write(self, bids: Lots, asks: Lots) -> None:
        for side, changes in ((self.bids, bids), (self.asks, asks)):
            for ticks, lots in changes.items():
                if lots:
                    side[ticks] = lots
                else:
                    side.pop(ticks, None)

    @property
    def crossed(self) -> bool:
        return bool(self.bids) and bool(self.asks) and max(self.bids) >= min(self.asks)

    def levels(self, depth: int) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        def side(ticks: list[int], lots: Lots) -> list[tuple[int, float]]:
            return [(t, lots[t] / 10**self.scale.size_decimals) for t in ticks[:depth]]

        return side(sorted(self.bids, reverse=True), self.bids), side(sorted(self.asks), self.asks)

    def view(self, ticks_per_bin: int, depth: int) -> PlainView | None:
        if not self.bids or not self.asks:
            return None
        top_bid = max(self.bids) // ticks_per_bin
        top_ask = -(-min(self.asks) // ticks_per_bin)
        bids, asks = [0] * depth, [0] * depth
        for ticks, lots in self.bids.items():
            if (index := top_bid - ticks // ticks_per_bin) < depth:
                bids[index] += lots
        for ticks, lots in self.asks.items():
            if (index := -(-ticks // ticks_per_bin) - top_ask) < depth:
                asks[index] += lots
        tick, lot = 10**self.scale.price_decimals, 10**self.scale.size_decimals
        return (
            top_bid * ticks_per_bin / tick,
            top_ask * ticks_per_bin / tick,
            ticks_per_bin / tick,
            [lots / lot for lots in bids],
            [lots / lot for lots in asks],
        )


def payload(
    scale: Scale, bids: Lots, asks: Lots, begin: int | None = None, nonce: int | None = None, offset: int | None = None
) -> wire.BookPayload:
    def levels(side: Lots) -> list[wire.Level]:
        return [wire.Level(scale.price(ticks), scale.size(lots)) for ticks, lots in side.items()]

    return wire.BookPayload(asks=levels(asks), bids=levels(bids), nonce=nonce, begin_nonce=begin, offset=offset)


def view_of(book: OrderBook, ticks_per_bin: int, depth: int) -> PlainView | None:
    view = book.view(ticks_per_bin, depth)
    if view is None:
        return None
    assert np.float64 == view.bids.dtype == view.asks.dtype
    return view.top_bid, view.top_ask, view.bin_size, view.bids.tolist(), view.asks.tolist()


def touches(book: OrderBook, ticks_per_bin: int, depth: int) -> bool:
    return book.touched_depth() < depth if ticks_per_bin == 1 else book.touched(ticks_per_bin, depth)


def assert_equal(model: Model, book: OrderBook, views: list[tuple[int, int]]) -> None:
    assert (max(model.bids, default=None), min(model.asks, default=None)) == (book.best_bid_ticks, book.best_ask_ticks)
    bids, asks = model.levels(20)
    assert (bids, asks) == book.levels(20)
    if bids and asks:
        expected = (model.scale.price(bids[0][0]), bids[0][1], model.scale.price(asks[0][0]), asks[0][1])
        assert expected == book.best()
    else:
        assert book.best() is None
    for ticks_per_bin, depth in views:
        assert model.view(ticks_per_bin, depth) == view_of(book, ticks_per_bin, depth)


# --- random histories ------------------------------------------------------------------------------------------------

VIEWS = [(1, 1), (1, 20), (1, 30_000), (2, 5), (7, 20), (43, 200), (1000, 50), (5000, 1), (90_000, 2)]


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Lots, Lots]]:
    """Draw payloads around a middle that drifts, sometimes further than the window reaches."""
    middle = draw(st.integers(1, 400_000))
    steps = []
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["delta"] * 8 + ["wipe", "wipe", "snapshot", "gap", "duplicate", "cross"]))
        shift = draw(st.sampled_from([0, 0, 1, -3, 40, -700, 9_000, -9_000, 40_000, -40_000]))
        middle = max(1, middle + shift)
        reach = draw(st.sampled_from([3, 30, 3_000, 300_000]))
        bids = draw(st.dictionaries(st.integers(max(1, middle - reach), middle), st.integers(0, 10**9), max_size=6))
        asks = draw(st.dictionaries(st.integers(middle + 1, middle + reach), st.integers(0, 10**9), max_size=6))
        steps.append((kind, bids, asks))
    return steps


def changes(model: Model, kind: str, bids: Lots, asks: Lots) -> tuple[Lots, Lots]:
    """Turn what was drawn into the levels of one payload."""
    if kind == "delta":  # what the drift left on the wrong side of the middle goes, as it would at the venue
        bids = {**{t: 0 for t in model.bids if asks and t >= min(asks)}, **bids}
        asks = {**{t: 0 for t in model.asks if bids and t <= max(bids)}, **asks}
    elif kind == "cross" and model.asks:
        bids = {min(model.asks): 1}
    elif kind == "wipe":
        bids = dict.fromkeys(sorted(model.bids)[len(bids) % 2 :: 2], 0)
        asks = dict.fromkeys(sorted(model.asks)[len(asks) % 2 :: 2], 0)
    return bids, asks


@settings(max_examples=150, deadline=None)
@given(
    histories(),
    st.builds(Scale, st.integers(0, 6), st.integers(0, 6)),
    st.lists(st.sampled_from(VIEWS), min_size=1, max_size=2),
    st.booleans(),
)
def test_any_history_gives_the_plain_books_answers(
    steps: list[tuple[str, Lots, Lots]], scale: Scale, views: list[tuple[int, int]], by_offset: bool
) -> None:
    book, model, nonce = OrderBook(scale), Model(scale), 100

    def numbered(bids: Lots, asks: Lots, begin: int, end: int) -> wire.BookPayload:
        if by_offset:
            return payload(scale, bids, asks, offset=end)
        return payload(scale, bids, asks, begin, end)

    def settle(expected: Outcome, actual: Outcome) -> None:
        nonlocal model
        if model.crossed:
            expected = Outcome.CROSSED
        if expected is not Outcome.STALE and expected is not Outcome.APPLIED:
            model = Model(scale)
        assert expected is actual
        assert_equal(model, book, views)

    for kind, drawn_bids, drawn_asks in steps:
        bids, asks = changes(model, kind, drawn_bids, drawn_asks)
        if kind == "snapshot" or not book.ready:
            model = Model(scale)
            model.write(bids, asks)
            nonce += 10
            settle(Outcome.APPLIED, book.snapshot(numbered(bids, asks, 0, nonce)))
        elif kind == "duplicate":
            settle(Outcome.STALE, book.apply(numbered(bids, asks, nonce - 1, nonce)))
        elif kind == "gap":
            settle(Outcome.GAP, book.apply(numbered(bids, asks, nonce + 1, nonce + 2)))
            settle(Outcome.GAP, book.apply(numbered(bids, asks, nonce, nonce + 1)))
        else:
            shown = {view: view_of(book, *view) for view in views}
            model.write(bids, asks)
            settle(Outcome.APPLIED, book.apply(numbered(bids, asks, nonce, nonce + 1)))
            nonce += 1
            for view in views:
                assert touches(book, *view) or shown[view] == view_of(book, *view)
        assert book.nonce == (nonce if book.ready else 0)


# --- captured frames -------------------------------------------------------------------------------------------------


def test_every_captured_frame_gives_the_plain_books_best_and_top_20(wire_dir: Path) -> None:
    book = OrderBook(ETH)
    bids: dict[int, float] = {}
    asks: dict[int, float] = {}
    frames = gzip.decompress((wire_dir / "order_book_0_eth.jsonl.gz").read_bytes()).splitlines()
    for number, raw in enumerate(frames):
        update = wire.decode(wire.BookFrame, raw).order_book
        assert Outcome.APPLIED is (book.apply(update) if number else book.snapshot(update))
        for side, levels in ((bids, update.bids or []), (asks, update.asks or [])):
            for level in levels:
                if level.size:
                    side[ETH.to_ticks(level.price)] = level.size
                else:
                    del side[ETH.to_ticks(level.price)]
        top_bids, top_asks = sorted(bids, reverse=True)[:20], sorted(asks)[:20]
        assert (ETH.price(top_bids[0]), bids[top_bids[0]], ETH.price(top_asks[0]), asks[top_asks[0]]) == book.best()
        assert ([(t, bids[t]) for t in top_bids], [(t, asks[t]) for t in top_asks]) == book.levels(20)
        view = book.view(1, 20)
        assert view is not None
        assert (ETH.price(top_bids[0]), ETH.price(top_asks[0]), 0.01) == (view.top_bid, view.top_ask, view.bin_size)
        assert [bids.get(top_bids[0] - i, 0.0) for i in range(20)] == view.bids.tolist()
        assert [asks.get(top_asks[0] + i, 0.0) for i in range(20)] == view.asks.tolist()
    assert 1501 == len(frames)
    assert (433146, 433177) == (book.best_bid_ticks, book.best_ask_ticks)
    assert (1851, 2389) == tuple(len(side) for side in book.levels(10_000))


# --- continuity ------------------------------------------------------------------------------------------------------


def ready_book() -> OrderBook:
    book = OrderBook(ETH)
    assert Outcome.APPLIED is book.snapshot(payload(ETH, {100: 5, 99: 6}, {102: 7}, 0, 50))
    return book


def test_a_book_without_a_snapshot_has_a_gap() -> None:
    book = OrderBook(ETH)
    assert Outcome.GAP is book.apply(payload(ETH, {100: 5}, {}, 0, 50))
    assert not book.ready
    assert 0 == book.nonce


def test_a_gap_empties_the_book_until_the_next_snapshot() -> None:
    book = ready_book()
    assert Outcome.GAP is book.apply(payload(ETH, {101: 5}, {}, 51, 52))
    assert (False, None, None, None) == (book.ready, book.best_bid_ticks, book.best(), book.view(1, 1))
    assert Outcome.GAP is book.apply(payload(ETH, {101: 5}, {}, 50, 51))
    assert Outcome.APPLIED is book.snapshot(payload(ETH, {90: 1}, {95: 1}, 0, 60))
    assert (0.9, 0.0001, 0.95, 0.0001) == book.best()


def test_an_overlapping_delta_is_a_gap() -> None:
    book = ready_book()
    assert Outcome.GAP is book.apply(payload(ETH, {101: 5}, {}, 49, 51))


@pytest.mark.parametrize("nonce", [50, 49])
def test_an_old_delta_changes_nothing(nonce: int) -> None:
    book = ready_book()
    assert Outcome.STALE is book.apply(payload(ETH, {101: 5}, {}, 40, nonce))
    assert book.ready
    assert 100 == book.best_bid_ticks


def test_the_first_delta_of_a_market_that_was_never_traded_applies() -> None:
    book = OrderBook(ETH)
    assert Outcome.APPLIED is book.snapshot(payload(ETH, {}, {}, 0, 0, offset=1))
    assert book.ready
    assert Outcome.APPLIED is book.apply(payload(ETH, {100: 5}, {}, 0, 7, offset=9))
    assert (100, None) == (book.best_bid_ticks, book.best_ask_ticks)


def test_frames_without_nonces_chain_by_their_offsets() -> None:
    book = OrderBook(ETH)
    assert Outcome.APPLIED is book.snapshot(payload(ETH, {100: 5}, {102: 1}, offset=7))
    assert Outcome.APPLIED is book.apply(payload(ETH, {101: 5}, {}, offset=8))
    assert Outcome.STALE is book.apply(payload(ETH, {103: 5}, {}, offset=8))
    assert 8 == book.nonce
    assert Outcome.GAP is book.apply(payload(ETH, {100: 4}, {}, offset=10))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0, 50, 7), (None, None, 8)),
        ((None, None, 7), (7, 8, 8)),
        ((None, None, 7), (None, None, None)),
        ((0, 50, 7), (None, 51, 8)),
    ],
    ids=["nonces end", "nonces begin", "nothing at all", "no begin_nonce"],
)
def test_a_change_of_numbering_is_a_gap(
    first: tuple[int | None, int | None, int | None], second: tuple[int | None, int | None, int | None]
) -> None:
    book = OrderBook(ETH)
    assert Outcome.APPLIED is book.snapshot(payload(ETH, {100: 5}, {102: 1}, *first))
    assert Outcome.GAP is book.apply(payload(ETH, {101: 5}, {}, *second))
    assert not book.ready


def test_a_snapshot_without_a_number_is_a_gap() -> None:
    book = ready_book()
    assert Outcome.GAP is book.snapshot(payload(ETH, {100: 5}, {102: 1}))
    assert not book.ready
    assert book.best_bid_ticks is None


@pytest.mark.parametrize("bid", [102, 103])
def test_a_bid_that_reaches_the_ask_empties_the_book(bid: int) -> None:
    book = ready_book()
    assert Outcome.CROSSED is book.apply(payload(ETH, {bid: 5}, {}, 50, 51))
    assert not book.ready
    assert ([], []) == book.levels(5)


def test_a_crossed_snapshot_is_not_taken() -> None:
    book = OrderBook(ETH)
    assert Outcome.CROSSED is book.snapshot(payload(ETH, {103: 5}, {102: 1}, 0, 50))
    assert not book.ready


def test_a_snapshot_replaces_everything() -> None:
    book = ready_book()
    assert Outcome.APPLIED is book.snapshot(wire.BookPayload(asks=None, bids=[wire.Level(1.5, 2.0)], nonce=9))
    assert ([(150, 2.0)], []) == book.levels(5)
    assert 9 == book.nonce


def test_a_cleared_book_waits_for_a_snapshot() -> None:
    book = ready_book()
    book.clear()
    assert (False, 0, None) == (book.ready, book.nonce, book.best_ask_ticks)
    assert Outcome.GAP is book.apply(payload(ETH, {100: 5}, {}, 50, 51))


# --- levels and views ------------------------------------------------------------------------------------------------


def test_levels_may_come_unsorted_and_twice_and_unknown_ones_may_be_deleted() -> None:
    book = ready_book()
    levels = [wire.Level(1.05, 1.0), wire.Level(1.03, 2.0), wire.Level(1.05, 3.0), wire.Level(9e5, 0.0)]
    assert Outcome.APPLIED is book.apply(wire.BookPayload(asks=levels, bids=None, nonce=51, begin_nonce=50))
    assert [(102, 0.0007), (103, 2.0), (105, 3.0)] == book.levels(5)[1]


def test_a_level_beyond_the_window_may_be_deleted() -> None:
    book = OrderBook(ETH)
    book.snapshot(payload(ETH, {1: 1, 99_999: 2}, {100_000: 3, 4_000_000: 4}, 0, 0))
    assert Outcome.APPLIED is book.apply(payload(ETH, {1: 0}, {4_000_000: 0}, 0, 1))
    assert ([(99_999, 0.0002)], [(100_000, 0.0003)]) == book.levels(5)


def test_both_sides_may_empty_and_fill_again_elsewhere() -> None:
    book = ready_book()
    assert Outcome.APPLIED is book.apply(payload(ETH, {100: 0, 99: 0}, {102: 0}, 50, 51))
    assert (True, None, None) == (book.ready, book.best(), book.view(1, 5))
    assert Outcome.APPLIED is book.apply(payload(ETH, {500_000: 1}, {500_001: 2}, 51, 52))
    assert (5000.0, 0.0001, 5000.01, 0.0002) == book.best()


def test_the_window_follows_a_price_that_runs_away_and_comes_back() -> None:
    model, book = Model(ETH), OrderBook(ETH)
    model.write({300_000: 9, 1: 1}, {300_001: 9, 4_000_000: 1})
    book.snapshot(payload(ETH, model.bids, model.asks, 0, 0))
    nonce, middle = 0, 300_000
    for target in (500_000, 200_000, 300_000):
        while middle != target:
            step = max(-777, min(777, target - middle))
            bids = {middle: 0, middle + step: 5}
            asks = {middle + 1: 0, middle + step + 1: 5}
            middle += step
            model.write(bids, asks)
            assert Outcome.APPLIED is book.apply(payload(ETH, bids, asks, nonce, nonce + 1))
            nonce += 1
            assert_equal(model, book, [(1, 20), (50, 20)])


@pytest.mark.parametrize("view", [(1, 100_000), (300_000, 3), (200, 5_000), (4_000_000, 1)])
def test_a_view_wider_than_any_window_counts_the_far_levels(view: tuple[int, int]) -> None:
    model, book = Model(ETH), OrderBook(ETH)
    model.write({t: t for t in range(1, 300_000, 997)}, {t: t for t in range(300_001, 4_000_000, 9_973)})
    book.snapshot(payload(ETH, model.bids, model.asks, 0, 0))
    assert_equal(model, book, [view])


def test_a_wide_view_stays_right_while_the_book_moves() -> None:
    model, book = Model(ETH), OrderBook(ETH)
    model.write({t: t for t in range(280_001, 300_001)}, {t: t for t in range(300_001, 320_001)})
    book.snapshot(payload(ETH, model.bids, model.asks, 0, 0))
    for number in range(60):
        asks = {300_001 + 100 * number + i: 0 for i in range(100)}
        model.write({}, asks)
        assert Outcome.APPLIED is book.apply(payload(ETH, {}, asks, number, number + 1))
        assert_equal(model, book, [(43, 300)])


def test_bins_add_up_exactly() -> None:
    book = OrderBook(ETH)
    book.snapshot(payload(ETH, {100: 1000, 99: 2000, 89: 1}, {102: 3000, 110: 1000, 111: 1}, 0, 0))
    view = book.view(10, 2)
    assert view is not None
    assert (1.0, 1.1, 0.1, [0.1, 0.2], [0.4, 0.0001]) == (
        *(view.top_bid, view.top_ask, view.bin_size),
        view.bids.tolist(),
        view.asks.tolist(),
    )


@pytest.mark.parametrize(
    ("bids", "asks", "touched"),
    [
        ({100: 1}, {}, (True, True, True)),
        ({101: 1}, {}, (True, True, True)),
        ({100: 0}, {}, (True, True, True)),
        ({98: 1}, {}, (False, True, True)),
        ({97: 1}, {}, (False, False, True)),
        ({89: 1}, {}, (False, False, False)),
        ({}, {104: 1}, (False, True, True)),
        ({}, {121: 1}, (False, False, False)),
        ({}, {}, (False, False, False)),
    ],
)
def test_a_delta_touches_the_views_that_reach_to_it(bids: Lots, asks: Lots, touched: tuple[bool, ...]) -> None:
    book = ready_book()
    book.apply(payload(ETH, bids, asks, 50, 51))
    assert touched == tuple(touches(book, *view) for view in ((1, 1), (1, 3), (10, 2)))


def test_totals_that_no_view_asks_for_are_given_up() -> None:
    model, book = Model(ETH), ready_book()
    model.write({100: 5, 99: 6}, {102: 7})
    for ticks_per_bin in (2, 3):
        assert_equal(model, book, [(ticks_per_bin, 4)])
        for _ in range(10_000):
            book.apply(payload(ETH, {98: 4}, {103: 4}, book.nonce, book.nonce + 1))
        model.write({98: 4}, {103: 4})
    assert_equal(model, book, [(5, 4)])
    assert [5] == list(book._asks._grids) == list(book._bids._grids)


@pytest.mark.parametrize(("percent", "ticks"), [(0.0, 1), (0.9, 1), (2.0, 2), (2.9, 2), (50.0, 50)])
def test_a_bin_is_a_share_of_the_mid_price_in_whole_ticks(percent: float, ticks: int) -> None:
    assert ticks == ready_book().ticks_per_bin(percent)


def test_a_view_is_a_copy() -> None:
    book = ready_book()
    view = book.view(1, 2)
    assert view is not None
    book.apply(payload(ETH, {100: 1}, {}, 50, 51))
    assert [0.0005, 0.0006] == view.bids.tolist()


@pytest.mark.parametrize(("ticks_per_bin", "depth"), [(0, 1), (1, 0), (-1, 5)])
def test_a_view_of_nothing_is_refused(ticks_per_bin: int, depth: int) -> None:
    with pytest.raises(ValueError, match="no view"):
        ready_book().view(ticks_per_bin, depth)
