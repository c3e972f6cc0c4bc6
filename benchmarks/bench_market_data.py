"""Measure market data from a frame's bytes to the object on Qubx's channel, on one core, against everything else there is.

usage: python benchmarks/bench_market_data.py [--quick] [--json FILE] [--cache FOLDER] [--no-predecessor]

All columns take the same frames in turn, several rounds of it in one run, and the medians are compared: figures are
microseconds of CPU a frame for the columns, and how many times as long another takes for the ratios. Whoever keeps a book
must end with its true best prices. What the columns are:

ours             socket manager, stream, handler and delivery, onto a real ``CtrlChannel``
floor            decoding with msgspec, nothing else
ccxt             ccxt.pro's ``lighter``: decode, handler, the watcher's future; ends with ccxt's own dicts
Qubx with ccxt   the same, made a Qubx object by Qubx's ccxt connector (which does not serve Lighter): what compares to ours
plain            orjson, a dict a side, sorted
SDK              the venue's own ``WsClient``; ends with unsorted levels
predecessor      ``qubx`` 0.7.37's own connector, in its own process and environment, onto its ``CtrlChannel``
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import feed
import predecessor
import results
import rivals
from feed import Feed
from loguru import logger
from ours import Rig
from results import Row, Table, Target, at_least, at_most

ROUNDS: Final = 7
QUICK_ROUNDS: Final = 3
OURS: Final = "ours"
PREDECESSOR: Final = "predecessor"
COLUMNS: Final[dict[str, type[rivals.Rival]]] = {
    "floor": rivals.Floor,
    "ccxt": rivals.Ccxt,
    "Qubx with ccxt": rivals.QubxCcxt,
    "plain": rivals.Plain,
    "SDK": rivals.Sdk,
}
STATS: Final = ("funding_rate", "funding_payment", "open_interest")


@dataclass
class Case:
    """One row.

    Attributes:
        name: what is measured.
        make: its feed.
        subscriptions: Qubx's, and the markets of each; none: all.
        depth: of the books.
        floor: the most that it may take, in times of decoding alone.
        better: the least that the predecessor must take, in times of ours.
        rival: how the predecessor calls the subscription; none: it has no such thing.
    """

    name: str
    make: Callable[[], Feed]
    subscriptions: dict[str, list[int]]
    depth: int = 20
    floor: float | None = None
    better: float | None = None
    rival: dict[str, list[int]] | None = None

    @property
    def exact(self) -> bool:
        """Tell whether the best bin of the books is the best price."""
        return not any(name.startswith("orderbook(0.") for name in self.subscriptions)


def _books(name: str, make: Callable[[], Feed], subscription: str, depth: int) -> Case:
    wanted: dict[str, list[int]] = {subscription: []}
    return Case(name, make, wanted, depth, floor=3.0, better=4.0, rival=wanted)


def _snapshots() -> Feed:
    made = feed.generated_books(levels=6_800, updates=0)
    return Feed(made.snapshots, list(made.snapshots.values()) * 20)


CASES: Final = (
    _books("books, captured, 20 ticks", feed.books, "orderbook(0, 20)", 20),
    _books("books, captured, 200 ticks", feed.books, "orderbook(0, 200)", 200),
    _books("books, 50 ms, 20 ticks", feed.batched_books, "orderbook(0, 20)", 20),
    _books("books, 50 ms, 200 ticks", feed.batched_books, "orderbook(0, 200)", 200),
    _books("books, 50 ms, 200 x 0.01 %", feed.batched_books, "orderbook(0.01, 200)", 200),
    Case("snapshot, 6,800 levels", _snapshots, {"orderbook(0, 20)": []}, floor=1.8, rival={"orderbook(0, 20)": []}),
    Case("quotes", feed.tickers, {"quote": []}),
    Case("trades, captured", feed.captured_trades, {"trade": []}, rival={"trade": []}),
    Case("trades, today's", feed.trades, {"trade": []}, rival={"trade": []}),
    Case(
        "market stats, captured",
        feed.market_stats,
        {name: [] for name in STATS},
        better=5.0,
        rival={"funding_rate": []},
    ),
    Case(
        "all channels mixed",
        feed.mixed,
        {"orderbook(0, 20)": [0], "quote": [1], "trade": [0]} | {name: [] for name in STATS},
        rival={"orderbook(0, 20)": [0], "trade": [0], "funding_rate": []},
    ),
)


def _growth_cases(*, quick: bool) -> list[Case]:
    updates = 1_000 if quick else 4_000

    def case(name: str, levels: int, markets: int) -> Case:
        return _books(
            name,
            lambda: feed.generated_books(levels=levels, updates=updates, markets=markets),
            "orderbook(0, 20)",
            20,
        )

    return [
        case("1 market of 500 levels", 500, 1),
        case("1 market of 2,000 levels", 2_000, 1),
        case("1 market of 8,000 levels", 8_000, 1),
        case("50 markets of 500 levels", 500, 50),
        case("200 markets of 500 levels", 500, 200),
    ]


@dataclass
class Measured:
    """What was measured of one case.

    Attributes:
        times: µs a frame of every round, by column.
        objects: that ours put on the channel, a frame.
    """

    times: dict[str, list[float]]
    objects: float

    def median(self, column: str) -> float | None:
        """Give a column's median; None where it cannot do this."""
        return results.median(self.times[column]) if column in self.times else None

    def ratio(self, column: str) -> float | None:
        """Give how many times as long as ours it takes, as the median over the rounds."""
        if column not in self.times:
            return None
        return results.median([other / ours for other, ours in zip(self.times[column], self.times[OURS], strict=True)])


class Run:
    """Measure cases, all columns in turn.

    Args:
        rounds: how often.
        old: the predecessor; None where it cannot be had.
    """

    def __init__(self, rounds: int, old: predecessor.Predecessor | None) -> None:
        self.wrong: dict[str, str] = {}
        self._rounds = rounds
        self._old = old

    async def measure(self, case: Case, columns: dict[str, type[rivals.Rival]]) -> Measured:
        """Measure, in turn, so that a column's time and ours of the same round were taken under the same conditions."""
        played = case.make()
        times: dict[str, list[float]] = {}
        objects = 0.0
        for _ in range(self._rounds):
            rig = Rig(played, case.subscriptions)
            await rig.open()
            before = rig.outputs
            gc.collect()
            took = await rig.play(played.updates)
            times.setdefault(OURS, []).append(1e6 * took / len(played.updates))
            objects = (rig.outputs - before) / len(played.updates)
            self._check(case, OURS, played, len(played.updates), rig.top)
            await rig.close()
            for name, kind in columns.items():
                if kind.reads(played):
                    times.setdefault(name, []).append(await self._rival(case, name, kind, played))
            if self._old is not None and case.rival is not None:
                answer = self._old.play(case.name)
                times.setdefault(PREDECESSOR, []).append(1e6 * answer["seconds"] / len(played.updates))
                self._judge_old(case, played, answer["top"])
        return Measured(times, objects)

    async def _rival(self, case: Case, name: str, kind: type[rivals.Rival], played: Feed) -> float:
        rival = kind(played, case.depth)
        await rival.open()
        updates = played.updates[: kind.most]
        gc.collect()
        took = rival.play(updates)
        self._check(case, name, played, len(updates), rival.top)
        await rival.close()
        return 1e6 * took / len(updates)

    def _judge_old(self, case: Case, played: Feed, top: list[float] | None) -> None:
        """Note, but do not mind, where the predecessor is wrong: it keeps no more levels than it shows."""
        expected = played.final_tops(len(played.updates)).get(0) if top is not None and case.exact else None
        if expected is not None and expected != tuple(top or ()):
            self.wrong[case.name] = f"The predecessor ends with a wrong book: {case.name}."

    @staticmethod
    def _check(case: Case, name: str, played: Feed, updates: int, top: Callable[[int], rivals.Top | None]) -> None:
        if not case.exact:
            return
        for market, expected in played.final_tops(updates).items():
            found = top(market)
            if found is not None and found != expected:
                raise SystemExit(f"{name} ends with {found} for market {market}, not {expected}: {case.name}")


def main() -> None:
    """Run everything, print it, keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, half a minute")
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--cache", type=Path, default=results.FOLDER, help="where the predecessor is installed")
    parser.add_argument("--no-predecessor", action="store_true", help="leave it out")
    options = parser.parse_args()
    logger.remove()
    tables = asyncio.run(_run(options))
    results.save("market_data", tables, options.json)


async def _run(options: argparse.Namespace) -> list[Table]:
    growth = _growth_cases(quick=options.quick)
    with tempfile.TemporaryDirectory() as folder:
        old: predecessor.Predecessor | None = None
        notes = []
        if not options.no_predecessor:
            try:
                python = predecessor.install(options.cache)
                rows = Path(folder) / "rows.jsonl"
                _write_rows(rows, [*CASES, *growth])
                old = predecessor.Predecessor(python, rows)
            except predecessor.UnavailableError as error:
                notes.append(f"No predecessor: {error}.")
                print(notes[0])
        gc.collect()
        gc.freeze()
        run = Run(QUICK_ROUNDS if options.quick else ROUNDS, old)
        try:
            tables = [await _compare(run, notes), await _grow(run, growth)]
        finally:
            if old is not None:
                old.close()
    return tables


def _write_rows(path: Path, cases: list[Case]) -> None:
    with path.open("w") as out:
        for case in cases:
            if case.rival is None:
                continue
            played = case.make()
            row = {
                "name": case.name,
                "markets": played.markets,
                "subscriptions": case.rival,
                "snapshots": [frame.decode() for frame in played.snapshots.values()],
                "updates": [frame.decode() for frame in played.updates],
            }
            out.write(json.dumps(row) + "\n")


async def _compare(run: Run, notes: list[str]) -> Table:
    others = [*list(COLUMNS)[1:], PREDECESSOR]
    table = Table(
        "market_data",
        "From bytes to the object on Qubx's channel: µs a frame, and how many times as long the others take",
        "frames",
        [OURS, "frames/s", "objects a frame", "floor", "x floor", *(f"{name} / ours" for name in others)],
        notes=notes,
        chart=[OURS, "floor", *others],
    )
    for case in CASES:
        took = await run.measure(case, COLUMNS)
        ours, floor = took.median(OURS) or 0.0, 1 / (took.ratio("floor") or 1.0)
        values: dict[str, float | None] = {
            OURS: ours,
            "frames/s": 1e6 / ours,
            "objects a frame": took.objects,
            "floor": took.median("floor"),
            "x floor": floor,
        }
        values |= {name: took.median(name) for name in others}
        values |= {f"{name} / ours": took.ratio(name) for name in others}
        table.rows.append(Row(case.name, values))
        print(f"  {case.name}: {ours:.2f} us", flush=True)
        table.targets += _targets(case, took, floor)
    table.notes += run.wrong.values()
    table.show()
    return table


def _targets(case: Case, took: Measured, floor: float) -> list[Target]:
    targets = []
    old = took.ratio(PREDECESSOR)
    if case.better is not None and old is not None:
        targets.append(at_least(f"{case.name}: the predecessor takes", case.better, old))
    if case.floor is not None:
        targets.append(at_most(f"{case.name}: takes of its decoding", case.floor, floor))
    ratios = {name: took.ratio(name) for name in ("ccxt", "Qubx with ccxt")}
    return targets + [
        at_least(f"{case.name}: {name} takes", 5.0, ratio) for name, ratio in ratios.items() if ratio is not None
    ]


async def _grow(run: Run, cases: list[Case]) -> Table:
    table = Table(
        "growth",
        "Whether a frame costs more with bigger books and more markets: µs a frame, 20 ticks a side, 50 ms shape",
        "books",
        [OURS, "floor", "x floor", PREDECESSOR],
        chart=[OURS, "floor", PREDECESSOR],
    )
    shares = []
    for case in cases:
        took = await run.measure(case, {"floor": rivals.Floor})
        shares.append(1 / (took.ratio("floor") or 1.0))
        values = {name: took.median(name) for name in (OURS, "floor", PREDECESSOR)}
        table.rows.append(Row(case.name, values | {"x floor": shares[-1]}))
        print(f"  {case.name}: {took.median(OURS):.2f} us", flush=True)
    for text, share in (("8,000 levels against 500", shares[2]), ("200 markets against 1", shares[4])):
        table.targets.append(at_most(f"{text}, as multiples of their decoding: takes", 1.2, share / shares[0]))
    table.notes += [note for name, note in run.wrong.items() if name in {case.name for case in cases}]
    table.show()
    return table


if __name__ == "__main__":
    main()
