"""The full depth of one market's order book, in integer ticks, kept from snapshots and deltas.

Theory of operation. A side is a ladder: an array with one cell a tick, holding sizes, over a window of ticks around the
best price, and a dict for the levels beyond the window (a real book reaches from half to three times the price). Keys
grow away from the best price, ``ticks`` for asks and ``-ticks`` for bids, so that the best level is the lowest key and
one code serves both sides. A delta writes a cell a level; a view of single ticks is a slice. For a view of wider bins a
side keeps their totals from then on, in whole lots so that nothing is ever rounded, and that view is a slice too. When
the best level leaves the first half of the window, the window moves, which is rare and costs a copy.

Continuity. A delta applies when its ``begin_nonce`` is the nonce reached. Frames captured before nonces came (2025)
carry an ``offset`` instead, which rose by one a frame. Anything else is a gap, and a book whose best bid reaches its
best ask has lost something too: either way the book empties itself and waits for a snapshot, so that nobody reads a
wrong one.
"""

from __future__ import annotations

import struct
from enum import Enum, auto
from math import trunc
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from qubx_lighter.protocol.units import Scale
    from qubx_lighter.protocol.wire import BookPayload, Level

    Keys = NDArray[np.int64]
    Sizes = NDArray[np.float64]

_WIDTH: Final = 1 << 14  # cells of a window: ETH's tick is 0.01, so 160 USD
_QUARTER: Final = _WIDTH >> 2  # where the best level is when a window is laid
_HALF: Final = _WIDTH >> 1  # and the last cell where it may be
_NOWHERE: Final = 1 << 62  # the key of no level: further than any
_SHORT_SCAN: Final = 16  # cells looked at one by one before numpy searches the rest
_MIN_BINS: Final = 256
_NOISE: Final = 1e-9  # of a tick: a share of the mid price that is a whole number of ticks stays one
_ROUND: Final = 1.5 * 2**52  # a float to which another is added becomes whole; a third of the time of round()
_IDLE: Final = 10_000  # deltas: totals that no view asked for so long are given up


class Outcome(Enum):
    """What a payload did to the book."""

    APPLIED = auto()
    STALE = auto()  # older than the book: nothing changed
    GAP = auto()  # something is missing, or no snapshot came yet: the book is empty and needs one
    CROSSED = auto()  # the best bid is not below the best ask: the same


_APPLIED: Final = Outcome.APPLIED


class View(msgspec.Struct, gc=False):
    """Both sides on a uniform grid.

    ``bids[i]`` is the size at ``top_bid - i * bin_size``, ``asks[i]`` the size at ``top_ask + i * bin_size``.
    """

    top_bid: float
    top_ask: float
    bin_size: float
    bids: NDArray[np.float64]
    asks: NDArray[np.float64]


class OrderBook:
    """One market's book.

    Args:
        scale: the market's decimals; prices and sizes of the payloads are on that grid.

    Attributes:
        ready: the book follows a snapshot without a gap.
        nonce: reached so far (the offset, for frames without nonces); 0 while not ready.
    """

    __slots__ = ("_asks", "_bids", "_by_offset", "_tick_divisor", "nonce", "ready")

    def __init__(self, scale: Scale) -> None:
        self._tick_divisor = 10**scale.price_decimals
        self._asks = _Side(scale, 1)
        self._bids = _Side(scale, -1)
        self.ready = False
        self.nonce = 0
        self._by_offset = False  # the chain of 2025

    @property
    def best_bid_ticks(self) -> int | None:
        """Give the highest bid in ticks."""
        key = self._bids.best_key
        return None if key == _NOWHERE else -key

    @property
    def best_ask_ticks(self) -> int | None:
        """Give the lowest ask in ticks."""
        key = self._asks.best_key
        return None if key == _NOWHERE else key

    def snapshot(self, payload: BookPayload) -> Outcome:
        """Replace the whole book; a side without levels becomes empty. A payload without a number is a GAP."""
        self.clear()
        nonce = payload.offset if payload.nonce is None else payload.nonce
        if nonce is None:
            return Outcome.GAP
        self._asks.replace(payload.asks or [])
        self._bids.replace(payload.bids or [])
        self._by_offset = payload.nonce is None
        return self._reached(nonce)

    def apply(self, payload: BookPayload) -> Outcome:
        """Apply a delta of absolute sizes; a size of zero deletes its level."""
        if not self.ready:
            return Outcome.GAP
        nonce = payload.nonce
        begin = payload.begin_nonce
        if self._by_offset:
            begin, nonce = _offset_link(payload)
        if nonce is None or (nonce > self.nonce and begin != self.nonce):
            self.clear()
            return Outcome.GAP
        if nonce <= self.nonce:
            return Outcome.STALE
        self._asks.update(payload.asks)
        self._bids.update(payload.bids)
        return self._reached(nonce)

    def clear(self) -> None:
        """Empty the book and wait for a snapshot."""
        self.ready = False
        self.nonce = 0
        self._asks.clear()
        self._bids.clear()

    def best(self) -> tuple[float, float, float, float] | None:
        """Give bid price, bid size, ask price and ask size; None when a side is empty."""
        bids, asks = self._bids, self._asks
        bid, ask = bids.best_key, asks.best_key
        if bid == _NOWHERE or ask == _NOWHERE:  # noqa: PLR1714 - on the hot path
            return None
        divisor = self._tick_divisor
        return -bid / divisor, bids.best_size, ask / divisor, asks.best_size

    def ticks_per_bin(self, percent: float) -> int:
        """Give the bin size that is nearest below ``percent`` of the mid price, 1 at least; of a book with both sides."""
        ticks = trunc((self._asks.best_key - self._bids.best_key) * percent / 200 + _NOISE)
        return ticks if ticks > 1 else 1  # noqa: FURB136 - max() takes twice as long

    def touched_depth(self) -> int:
        """Tell how near the last delta came: a view of single ticks shows it if, and only if, it is deeper than this."""
        asks, bids = self._asks, self._bids
        ask, bid = asks.low_key - asks.best_key, bids.low_key - bids.best_key
        return ask if ask < bid else bid  # noqa: FURB136 - min() takes four times as long

    def touched(self, ticks_per_bin: int, depth: int) -> bool:
        """Tell whether the last delta wrote a level that a view of wider bins shows, or showed before it."""
        return self._asks.touched(ticks_per_bin, depth) or self._bids.touched(ticks_per_bin, depth)

    def view(self, ticks_per_bin: int, depth: int) -> View | None:
        """Add up ``depth`` bins of ``ticks_per_bin`` ticks a side; None when a side is empty.

        Bins lie on multiples of their size: bids belong to the multiple below them, asks to the one above. With
        ``ticks_per_bin`` 1 each bin is a price level. Totals are the floats nearest to the exact sums.

        Raises:
            ValueError: ``ticks_per_bin`` or ``depth`` is below 1.
        """
        if ticks_per_bin < 1 or depth < 1:
            raise ValueError(f"no view of {depth} bins of {ticks_per_bin} ticks")
        bid, ask = self._bids.best_key, self._asks.best_key
        if bid == _NOWHERE or ask == _NOWHERE:  # noqa: PLR1714 - on the hot path
            return None
        divisor = self._tick_divisor
        if ticks_per_bin == 1 and depth <= _HALF:
            bids, asks = self._bids.top(depth), self._asks.top(depth)
        else:
            bid, bids = self._bids.bins(ticks_per_bin, depth)
            ask, asks = self._asks.bins(ticks_per_bin, depth)
        return View(-bid / divisor, ask / divisor, ticks_per_bin / divisor, bids, asks)

    def levels(self, depth: int) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        """List up to ``depth`` bids and asks as (ticks, size), best first; for tests and tools."""
        bids = [(-key, size) for key, size in self._bids.levels(depth)]
        return bids, list(self._asks.levels(depth))

    def _reached(self, nonce: int) -> Outcome:
        if self._asks.best_key + self._bids.best_key <= 0:  # the bid's key is its negated price
            self.clear()
            return Outcome.CROSSED
        self.ready = True
        self.nonce = nonce
        return _APPLIED


def _offset_link(payload: BookPayload) -> tuple[int, int] | tuple[None, None]:
    if payload.offset is None or payload.nonce is not None:  # the venue changed its numbering: only a snapshot helps
        return None, None
    return payload.offset - 1, payload.offset


class _Side:
    """One side as a ladder over keys that grow away from the best price.

    Invariants between calls: every key below ``_base + _WIDTH`` is in the window, from its second cell on, every other
    in ``_far``; ``_best`` is the index of the best cell, or ``_NOWHERE`` when the side is empty. The cell after the
    window is never zero, so that a search for the next level ends there.
    """

    __slots__ = (
        "_array", "_base", "_best", "_cells", "_factor", "_far", "_grids", "_lots", "_shift", "_updates", "best_key", "low_key",
    )  # fmt: skip

    def __init__(self, scale: Scale, sign: int) -> None:
        self._factor = float(sign * 10**scale.price_decimals)
        self._lots = float(10**scale.size_decimals)
        self._grids: dict[int, _Grid] = {}
        self._updates = 0
        self._best: int  # these are made by:
        self._shift: float
        self.clear()

    @property
    def best_size(self) -> float:
        return self._cells[self._best]

    def clear(self) -> None:
        self._grids = {}
        self.low_key = _NOWHERE
        self._load(np.empty(0, np.int64), np.empty(0))

    def replace(self, levels: list[Level]) -> None:
        # Through struct a float is 7 ns on its way to numpy, through np.array 30.
        pack = struct.Struct(f"{len(levels)}d").pack
        prices = np.frombuffer(pack(*[level.price for level in levels]))
        sizes = np.frombuffer(pack(*[level.size for level in levels]))
        keys = np.rint(prices * self._factor).astype(np.int64)
        if not sizes.all():
            keys, sizes = keys[sizes != 0.0], sizes[sizes != 0.0]
        self._load(keys, sizes)

    def update(self, levels: list[Level] | None) -> None:
        """Write absolute sizes; the hot path."""
        if levels:
            low = _NOWHERE
            if self._grids:
                low = self._update_with_grids(levels)
            else:
                cells, factor, shift = self._cells, self._factor, self._shift
                for level in levels:
                    # trunc() is exact from 0 on, and 0 is no cell; int() takes three times as long.
                    index = trunc(level.price * factor + shift)
                    if 0 < index < _WIDTH:
                        cells[index] = level.size
                    else:
                        index = self._write_far(level)[0]
                    if index < low:  # noqa: PLR1730 - min() takes four times as long
                        low = index
            base = self._base
            self.low_key = low + base
            if low <= self._best:
                if 0 < low <= _HALF and self._cells[low]:
                    self._best = low
                    self.best_key = low + base
                else:
                    self._move(low)
        else:
            self.low_key = _NOWHERE

    def touched(self, per_bin: int, depth: int) -> bool:
        """Tell whether the last update wrote at a key that ``depth`` bins from the best one on show."""
        return self.low_key <= (depth - 1 - -self.best_key // per_bin) * per_bin

    def top(self, depth: int) -> Sizes:
        """Copy the sizes of ``depth`` ticks, at most half a window of them, from the best one on."""
        best = self._best
        return self._array[best : best + depth].copy()

    def bins(self, per_bin: int, depth: int) -> tuple[int, Sizes]:
        """Give ``depth`` bins that end on multiples of ``per_bin``: the first one's key, and the sizes."""
        top = -(-self.best_key // per_bin)
        grid = self._grids.get(per_bin)
        if grid is None or not 0 <= top - grid.first <= grid.width - depth:
            grid = self._lay(per_bin, depth, top)
        grid.used = self._updates
        start = top - grid.first
        return top * per_bin, grid.array[start : start + depth].copy()

    def levels(self, depth: int) -> Iterator[tuple[int, float]]:
        """Walk up to ``depth`` levels as (key, size), best first."""
        keys, sizes = self._all()
        order = np.argsort(keys)[:depth]
        return zip(keys[order].tolist(), sizes[order].tolist(), strict=True)

    def _update_with_grids(self, levels: list[Level]) -> int:
        """Write the levels to the totals of bins too; gives the lowest index written."""
        self._updates += 1
        base, cells, factor, shift, lots = self._base, self._cells, self._factor, self._shift, self._lots
        grids = [(grid.lead + base, grid.per_bin, grid.width, grid.totals, grid.cells) for grid in self._grids.values()]
        low = _NOWHERE
        for level in levels:
            size = level.size
            index = trunc(level.price * factor + shift)
            if 0 < index < _WIDTH:
                before = cells[index]
                cells[index] = size
            else:
                index, before = self._write_far(level)
            if index < low:  # noqa: PLR1730 - as above
                low = index
            change = (size - before) * lots + _ROUND - _ROUND
            for lead, per_bin, width, totals, sums in grids:
                place = (index + lead) // per_bin
                if 0 <= place < width:
                    totals[place] = total = totals[place] + change
                    sums[place] = total / lots
        return low

    def _write_far(self, level: Level) -> tuple[int, float]:
        """Write a level outside the window; gives its index and what was there."""
        key = round(level.price * self._factor)
        before = self._far.pop(key, 0.0)
        if level.size:
            self._far[key] = level.size
        return key - self._base, before

    def _move(self, low: int) -> None:
        """Find the best level after the cell ``low``, at the best one or before it, was written."""
        if 0 < low <= _HALF and (best := self._next(low)) <= _HALF:
            self._best = best
            self.best_key = self._base + best
        else:
            self._load(*self._all())

    def _next(self, index: int) -> int:
        """Find the first level at or after ``index``; the end of the window when there is none."""
        cells = self._cells
        for candidate in range(index, index + _SHORT_SCAN):
            if cells[candidate]:
                return candidate
        index += _SHORT_SCAN
        reach = _SHORT_SCAN
        while True:  # the cell after the window ends it
            reach *= 4
            held = self._array[index : index + reach].nonzero()[0]
            if held.size:
                return index + int(held[0])
            index += reach

    def _all(self) -> tuple[Keys, Sizes]:
        """List the keys and sizes of all levels."""
        held = np.flatnonzero(self._array[:_WIDTH])
        far = self._far
        keys = np.concatenate((held + self._base, np.fromiter(far, np.int64, len(far))))
        return keys, np.concatenate((self._array[held], np.fromiter(far.values(), np.float64, len(far))))

    def _load(self, keys: Keys, sizes: Sizes) -> None:
        """Lay the window around the best of these levels, which become all there are."""
        # Fresh zeros cost no memory until they are written.
        self._array: Sizes = np.zeros(_WIDTH + 1)
        self._array[_WIDTH] = np.inf
        # One float at a time goes through a memoryview in half of numpy's time.
        self._cells: memoryview[float] = memoryview(self._array).cast("B").cast("d")
        self._far: dict[int, float] = {}
        self._base = 0
        self._best = self.best_key = _NOWHERE
        if keys.size:
            self.best_key = int(keys.min())
            self._best = _QUARTER
            self._base = self.best_key - _QUARTER
            indices = keys - self._base
            near = indices < _WIDTH
            self._array[indices[near]] = sizes[near]
            self._far.update(zip(keys[~near].tolist(), sizes[~near].tolist(), strict=True))
        self._shift = 0.5 - self._base

    def _lay(self, per_bin: int, depth: int, top: int) -> _Grid:
        """Begin to keep totals of bins, with room for the best level to move."""
        self._grids = {n: grid for n, grid in self._grids.items() if self._updates - grid.used < _IDLE}
        grid = self._grids[per_bin] = _Grid(per_bin, depth, top)
        keys, sizes = self._all()
        places = (keys + grid.lead) // per_bin
        shown = (places >= 0) & (places < grid.width)
        totals = np.bincount(places[shown], np.rint(sizes[shown] * self._lots), grid.width)
        grid.totals = totals.tolist()
        grid.array[:] = totals / self._lots
        return grid


class _Grid:
    """Totals of bins that end on multiples of ``per_bin``: kept in lots, which add up exactly below 2**53, and shown as sizes.

    A key's cell is ``(key + lead) // per_bin``; the first cell is bin number ``first``.
    """

    __slots__ = ("array", "cells", "first", "lead", "per_bin", "totals", "used", "width")

    def __init__(self, per_bin: int, depth: int, top: int) -> None:
        self.per_bin = per_bin
        self.width = max(_MIN_BINS, 4 * depth)
        self.first = top - depth
        self.lead = per_bin - 1 - self.first * per_bin
        self.totals: list[float] = []
        self.array: Sizes = np.zeros(self.width)
        self.cells: memoryview[float] = memoryview(self.array).cast("B").cast("d")
        self.used = 0
