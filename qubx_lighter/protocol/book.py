"""The full depth of one market's order book, in integer ticks, kept from snapshots and deltas.

Theory of operation. A side is a ladder: an array with one cell a tick, holding sizes, over a window of ticks around the
best price, and a dict for the levels beyond the window (a real book reaches from half to three times the price). Keys
grow away from the best price, ``ticks`` for asks and ``-ticks`` for bids, so that the best level is the lowest key and
one code serves both sides. A delta writes a cell a level; a view is a slice. When the best level leaves the first half
of the window, or a view reaches past its end, the window moves or widens, which is rare and costs a copy.

Continuity. A delta applies when its ``begin_nonce`` is the nonce reached. Frames captured before nonces came (2025)
carry an ``offset`` instead, which rose by one a frame. Anything else is a gap, and a book whose best bid reaches its
best ask has lost something too: either way the book empties itself and waits for a snapshot, so that nobody reads a
wrong one.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from qubx_lighter.protocol.units import Scale
    from qubx_lighter.protocol.wire import BookPayload, Level

_WIDTH: Final = 1 << 14  # cells of a new window: ETH's tick is 0.01, so 160 USD
_MAX_WIDTH: Final = 1 << 18  # 2 MiB a side
_SHORT_SCAN: Final = 32  # cells looked at one by one before numpy searches the rest


class Outcome(Enum):
    """What a payload did to the book."""

    APPLIED = auto()
    STALE = auto()  # older than the book: nothing changed
    GAP = auto()  # something is missing, or no snapshot came yet: the book is empty and needs one
    CROSSED = auto()  # the best bid is not below the best ask: the same


class View(NamedTuple):
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
    """

    def __init__(self, scale: Scale) -> None:
        self._tick_divisor = 10**scale.price_decimals
        self._asks = _Side(scale, 1)
        self._bids = _Side(scale, -1)
        self._ready = False
        self._nonce = 0
        self._by_offset = False  # the chain of 2025

    @property
    def ready(self) -> bool:
        """Tell whether the book follows a snapshot without a gap."""
        return self._ready

    @property
    def nonce(self) -> int:
        """Give the nonce reached (the offset, for frames without nonces); 0 while not ready."""
        return self._nonce

    @property
    def best_bid_ticks(self) -> int | None:
        """Give the highest bid in ticks."""
        key = self._bids.best_key
        return None if key is None else -key

    @property
    def best_ask_ticks(self) -> int | None:
        """Give the lowest ask in ticks."""
        return self._asks.best_key

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
        if not self._ready:
            return Outcome.GAP
        begin, nonce = _offset_link(payload) if self._by_offset else (payload.begin_nonce, payload.nonce)
        if nonce is not None:
            if nonce <= self._nonce:
                return Outcome.STALE
            if begin == self._nonce:
                if payload.asks:
                    self._asks.update(payload.asks)
                if payload.bids:
                    self._bids.update(payload.bids)
                return self._reached(nonce)
        self.clear()
        return Outcome.GAP

    def clear(self) -> None:
        """Empty the book and wait for a snapshot."""
        self._ready = False
        self._nonce = 0
        self._asks.clear()
        self._bids.clear()

    def best(self) -> tuple[float, float, float, float] | None:
        """Give bid price, bid size, ask price and ask size; None when a side is empty."""
        bid, ask = self._bids.best_key, self._asks.best_key
        if bid is None or ask is None:
            return None
        return -bid / self._tick_divisor, self._bids.best_size, ask / self._tick_divisor, self._asks.best_size

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
        if bid is None or ask is None:
            return None
        divisor = self._tick_divisor
        if ticks_per_bin == 1:
            bids, asks = self._bids.top(depth), self._asks.top(depth)
            return View(-bid / divisor, ask / divisor, 1 / divisor, bids, asks)
        bid, bids = self._bids.bins(ticks_per_bin, depth)
        ask, asks = self._asks.bins(ticks_per_bin, depth)
        return View(-bid / divisor, ask / divisor, ticks_per_bin / divisor, bids, asks)

    def levels(self, depth: int) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        """List up to ``depth`` bids and asks as (ticks, size), best first; for tests and tools."""
        bids = [(-key, size) for key, size in self._bids.levels(depth)]
        return bids, list(self._asks.levels(depth))

    def _reached(self, nonce: int) -> Outcome:
        bid, ask = self._bids.best_key, self._asks.best_key
        if bid is not None and ask is not None and -bid >= ask:
            self.clear()
            return Outcome.CROSSED
        self._ready = True
        self._nonce = nonce
        return Outcome.APPLIED


def _offset_link(payload: BookPayload) -> tuple[int, int] | tuple[None, None]:
    if payload.offset is None or payload.nonce is not None:  # the venue changed its numbering: only a snapshot helps
        return None, None
    return payload.offset - 1, payload.offset


class _Side:
    """One side as a ladder over keys that grow away from the best price.

    Invariants between calls: every key below ``_base + _width`` is in the window, every other in ``_far``; ``_best`` is
    the index of the best cell, or ``_width`` when the side is empty. The cell after the window is never zero, so that a
    search for the next level ends there.
    """

    __slots__ = ("_array", "_base", "_best", "_cells", "_factor", "_far", "_lots", "_sign", "_width", "best_key")

    def __init__(self, scale: Scale, sign: int) -> None:
        self._sign = sign
        self._factor = float(sign * 10**scale.price_decimals)
        self._lots = 10**scale.size_decimals
        self._width = self._best = self._base = 0
        self._far: dict[int, float] = {}
        self.best_key: int | None = None
        self._allocate(_WIDTH)

    @property
    def best_size(self) -> float:
        return self._cells[self._best]

    def clear(self) -> None:
        self._array[: self._width] = 0.0
        self._best = self._width
        self._far.clear()
        self.best_key = None

    def replace(self, levels: list[Level]) -> None:
        half = self._sign * 0.5
        self._far = {int(level.price * self._factor + half): level.size for level in levels if level.size}
        self._best = self._width  # nothing in the window is kept
        self._centre(self._width)

    def update(self, levels: list[Level]) -> None:
        """Write absolute sizes; the hot path."""
        base, width, best, cells, factor = self._base, self._width, self._best, self._cells, self._factor
        half = self._sign * 0.5  # int() cuts towards zero, so this rounds to the nearest key on either side
        better = False
        for level in levels:
            index = int(level.price * factor + half) - base
            size = level.size
            if 0 <= index < width:
                cells[index] = size
                if index < best and size:
                    best = index
            elif size:
                self._far[base + index] = size
                better = better or index < 0
            else:
                self._far.pop(base + index, None)
        if not cells[best]:
            best = self._next(best)
        self._best = best
        if better or best > width >> 1:
            self._centre(width)
        else:
            self.best_key = base + best

    def top(self, depth: int) -> NDArray[np.float64]:
        """Copy the sizes of ``depth`` ticks from the best one on."""
        best = self._best
        if best + depth > self._width and not self._widen(depth):
            return self._far_bins(1, depth, self._base + best)
        best = self._best
        return self._array[best : best + depth].copy()

    def bins(self, ticks_per_bin: int, depth: int) -> tuple[int, NDArray[np.float64]]:
        """Add up bins that end on multiples of ``ticks_per_bin``; the first one's key, and the sizes."""
        reach = ticks_per_bin * depth
        top = -(-(self._base + self._best) // ticks_per_bin)
        first = (top - 1) * ticks_per_bin + 1
        start = first - self._base
        if start < 0 or start + reach > self._width:
            if not self._widen(reach):
                return top * ticks_per_bin, self._far_bins(ticks_per_bin, depth, first)
            start = first - self._base
        sums = self._array[start : start + reach].reshape(depth, ticks_per_bin).sum(axis=1)
        return top * ticks_per_bin, self._on_grid(sums)

    def levels(self, depth: int) -> Iterator[tuple[int, float]]:
        """Walk up to ``depth`` levels as (key, size), best first."""
        index = self._best
        while index < self._width and depth > 0:
            yield self._base + index, self._cells[index]
            depth -= 1
            index = self._next(index + 1)
        if depth > 0:
            yield from sorted(self._far.items())[:depth]

    def _far_bins(self, ticks_per_bin: int, depth: int, first: int) -> NDArray[np.float64]:
        """Add up bins level by level: for views that reach further than any window."""
        sums = np.zeros(depth)
        for key, size in self.levels(len(self._far) + self._width):
            index = (key - first) // ticks_per_bin
            if index >= depth:
                break
            sums[index] += size
        return self._on_grid(sums)

    def _on_grid(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Undo the rounding of the additions: every exact total is a whole number of lots."""
        totals: NDArray[np.float64] = np.rint(sums * self._lots) / self._lots
        return totals

    def _next(self, index: int) -> int:
        """Find the first level at or after ``index``; the end of the window when there is none."""
        cells = self._cells
        for candidate in range(index, min(index + _SHORT_SCAN, self._width)):
            if cells[candidate]:
                return candidate
        return index + int(np.argmax(self._array[index:] != 0.0))

    def _widen(self, reach: int) -> bool:
        """Make room for a view of ``reach`` ticks before and after the best level; False when that is too much."""
        width = self._width
        while reach > width >> 2:
            width <<= 1
        if width > _MAX_WIDTH:
            return False
        self._centre(width)
        return True

    def _centre(self, width: int) -> None:
        """Move the window, ``width`` cells from now on, so that the best level is at its first quarter."""
        far = self._far
        if self._best < self._width:
            held = np.flatnonzero(self._array[: self._width])
            far.update(zip((held + self._base).tolist(), self._array[held].tolist(), strict=True))
        self.best_key = best = min(far, default=None)
        self._allocate(width)
        if best is None:
            return
        self._base = base = best - (width >> 2)
        self._best = best - base
        self._far = {}
        for key, size in far.items():
            if key < base + width:
                self._cells[key - base] = size
            else:
                self._far[key] = size

    def _allocate(self, width: int) -> None:
        self._width = self._best = width
        self._array: NDArray[np.float64] = np.zeros(width + 1)
        self._array[width] = np.inf
        # One float at a time goes through a memoryview in half of numpy's time.
        self._cells: memoryview[float] = memoryview(self._array).cast("B").cast("d")
