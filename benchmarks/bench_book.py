"""Measure the order book against the two plain ways to write one, side by side in one run.

usage: python benchmarks/bench_book.py [FRAMES.jsonl.gz]

Times are per delta: apply it, then build the best 20 levels of both sides. Decoding is left out. Frames captured from
the venue are used when given or found beside the repository, else a generated feed. Every design must end with the same
book.
"""

from __future__ import annotations

import gzip
import random
import statistics
import sys
import time
from bisect import bisect_left, insort
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import results
from numpy.typing import NDArray
from results import Row, Table

from qubx_lighter.protocol import wire
from qubx_lighter.protocol.book import OrderBook, Outcome
from qubx_lighter.protocol.units import Scale

SCALE: Final = Scale(price_decimals=2, size_decimals=4)
DEPTH: Final = 20
ROUNDS: Final = 7
SEED: Final = 7

Window = tuple[NDArray[np.float64], NDArray[np.float64]]


class Design(Protocol):
    """A book that takes payloads and gives the best levels of both sides."""

    def feed(self, payload: wire.BookPayload) -> Window:
        """Apply, and give the sizes of ``DEPTH`` ticks from the best of each side on."""


class Ladder:
    """The book of this package."""

    def __init__(self) -> None:
        self.book = OrderBook(SCALE)

    def feed(self, payload: wire.BookPayload) -> Window:
        """Apply, and take a view."""
        outcome = self.book.apply(payload) if self.book.ready else self.book.snapshot(payload)
        view = self.book.view(1, DEPTH)
        if outcome is not Outcome.APPLIED or view is None:
            raise SystemExit(f"the feed has a flaw: {outcome}")
        return view.bids, view.asks


class Bisect:
    """A dict of levels and a sorted list of their prices, bids negated."""

    def __init__(self) -> None:
        self.keys: tuple[list[float], list[float]] = ([], [])
        self.sizes: tuple[dict[float, float], dict[float, float]] = ({}, {})

    def feed(self, payload: wire.BookPayload) -> Window:
        """Insert or delete each level in order."""
        for levels, sign, keys, sizes in zip(
            (payload.bids, payload.asks), (-1.0, 1.0), self.keys, self.sizes, strict=True
        ):
            for level in levels or ():
                key = sign * level.price
                if level.size:
                    if key not in sizes:
                        insort(keys, key)
                    sizes[key] = level.size
                elif key in sizes:
                    del sizes[key], keys[bisect_left(keys, key)]
        return _window(self.keys[0], self.sizes[0]), _window(self.keys[1], self.sizes[1])


class Sorted:
    """A dict of levels, sorted for each view."""

    def __init__(self) -> None:
        self.sizes: tuple[dict[float, float], dict[float, float]] = ({}, {})

    def feed(self, payload: wire.BookPayload) -> Window:
        """Write each level, then sort."""
        for levels, sign, sizes in zip((payload.bids, payload.asks), (-1.0, 1.0), self.sizes, strict=True):
            for level in levels or ():
                if level.size:
                    sizes[sign * level.price] = level.size
                else:
                    sizes.pop(sign * level.price, None)
        return _window(sorted(self.sizes[0]), self.sizes[0]), _window(sorted(self.sizes[1]), self.sizes[1])


def _window(keys: list[float], sizes: dict[float, float]) -> NDArray[np.float64]:
    window = [0.0] * DEPTH
    for key in keys[:DEPTH]:
        index = int((key - keys[0]) * 100 + 0.5)
        if index >= DEPTH:
            break
        window[index] = sizes[key]
    return np.array(window)


DESIGNS: Final[dict[str, Callable[[], Design]]] = {"ladder": Ladder, "dict + bisect": Bisect, "dict + sort": Sorted}


def captured(path: Path) -> list[wire.BookPayload]:
    """Read captured frames."""
    return [wire.decode(wire.BookFrame, raw).order_book for raw in gzip.decompress(path.read_bytes()).splitlines()]


def generated(depth: int = 2_000, deltas: int = 1_500) -> list[wire.BookPayload]:
    """Make a feed of the captured one's proportions: four levels a delta, nearly all of them near the touch."""
    source = random.Random(SEED)
    middle = 433_000
    bids = {middle - i: 1.0 for i in range(1, depth)}
    asks = {middle + i: 1.0 for i in range(1, depth)}
    payloads = [_payload(bids, asks, 0, 0)]
    for nonce in range(deltas):
        changes: tuple[dict[int, float], dict[int, float]] = ({}, {})
        for _ in range(1 + int(source.expovariate(1 / 3))):
            sign, side, change = source.choice(((-1, bids, changes[0]), (1, asks, changes[1])))
            ticks = middle + sign * (1 + int(source.expovariate(1 / 40)))
            size = 0.0 if side.get(ticks) and len(side) > depth // 2 and source.random() < 0.4 else source.random()
            side[ticks] = change[ticks] = round(size, 4)
        payloads.append(_payload(*changes, nonce, nonce + 1))
    return payloads


def _payload(bids: dict[int, float], asks: dict[int, float], begin: int, nonce: int) -> wire.BookPayload:
    def levels(side: dict[int, float]) -> list[wire.Level]:
        return [wire.Level(SCALE.price(ticks), size) for ticks, size in side.items()]

    return wire.BookPayload(asks=levels(asks), bids=levels(bids), nonce=nonce, begin_nonce=begin)


def measure(design: Design, payloads: list[wire.BookPayload]) -> tuple[float, Window]:
    """Give the µs a delta takes, and the last window."""
    window = design.feed(payloads[0])
    start = time.perf_counter()
    for payload in payloads[1:]:
        window = design.feed(payload)
    return (time.perf_counter() - start) / (len(payloads) - 1) * 1e6, window


def main() -> None:
    """Run the designs in turn, several times, and print the medians."""
    found = Path(__file__).parents[2] / "shared" / "wire" / "order_book_0_eth.jsonl.gz"
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else found
    payloads = captured(path) if path.exists() else generated()
    print(f"{len(payloads) - 1} deltas, {path.name if path.exists() else f'generated, seed {SEED}'}")
    times: dict[str, list[float]] = {name: [] for name in DESIGNS}
    windows: dict[str, Window] = {}
    for _ in range(ROUNDS):
        for name, design in DESIGNS.items():
            took, windows[name] = measure(design(), payloads)
            times[name].append(took)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = "as long as the ladder"
    table = Table(
        "book", "The order book alone: µs to apply a delta and to show 20 ticks a side", "design", ["µs", ratio]
    )
    table.rows = [Row(name, {"µs": took, ratio: took / medians["ladder"]}) for name, took in medians.items()]
    table.show()
    results.save("book", [table])
    for name, window in windows.items():
        if not all(np.array_equal(a, b) for a, b in zip(window, windows["ladder"], strict=True)):
            raise SystemExit(f"{name} ends with another book than ladder")


if __name__ == "__main__":
    main()
