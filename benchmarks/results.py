"""Tables of measurements: printed, kept as JSON, and later drawn and written into the documentation."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parents[1] / "build" / "bench"
"""Where results are kept between a benchmark and the report."""


@dataclass
class Target:
    """Something promised, and what was measured."""

    text: str
    met: bool
    measured: str


@dataclass
class Row:
    """One line: a name and a value a column; None where there is nothing to measure."""

    name: str
    values: dict[str, float | None]


@dataclass
class Table:
    """Measurements that belong together.

    Attributes:
        name: of its chart.
        title: what it shows.
        unit: of the values.
        columns: in order.
        notes: what a reader must know.
        chart: the columns that are drawn, on a logarithmic axis; none: no chart.
    """

    name: str
    title: str
    unit: str
    columns: list[str]
    rows: list[Row] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    chart: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Write it as Markdown, padded so that it reads well on a terminal too."""
        cells = [[self.unit, *self.columns]]
        cells += [[row.name, *(number(row.values.get(column)) for column in self.columns)] for row in self.rows]
        widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        padded = [
            [line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in [*cells[:1], rule, *cells[1:]]
        ]
        return [f"| {' | '.join(line)} |" for line in padded]

    def target_lines(self) -> list[str]:
        """Write the targets as a list."""
        return [f"- {'met' if target.met else 'NOT met'}: {target.text}: {target.measured}" for target in self.targets]

    def show(self) -> None:
        """Print it."""
        text = ["", self.title, "", *self.lines(), "", *self.target_lines(), *self.notes]
        print("\n".join(text), flush=True)


def number(value: float | None) -> str:
    """Write a value with three significant digits."""
    if value is None:
        return "-"
    if value >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def median(values: list[float]) -> float:
    """Give the median."""
    return statistics.median(values)


def at_least(text: str, least: float, ratio: float) -> Target:
    """Judge a ratio that is to be large."""
    return Target(f"{text} at least {least:g}x", ratio >= least, _judged(ratio, ratio / least))


def at_most(text: str, most: float, ratio: float) -> Target:
    """Judge a ratio that is to be small."""
    return Target(f"{text} at most {most:g}x", ratio <= most, _judged(ratio, most / ratio))


def _judged(ratio: float, share: float) -> str:
    return f"{ratio:.2f}x" if share >= 1 else f"{ratio:.2f}x, short by {100 * (1 - share):.0f} %"


def machine() -> dict[str, str]:
    """Tell what the figures depend on."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def save(name: str, tables: list[Table], path: Path | None = None) -> None:
    """Keep the tables of one benchmark."""
    target = path or FOLDER / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "tables": [asdict(table) for table in tables]}
    target.write_text(json.dumps(content, indent=1) + "\n")


def load(path: Path) -> tuple[dict[str, str], list[Table]]:
    """Read what ``save`` kept."""
    content: dict[str, Any] = json.loads(path.read_text())
    tables = []
    for raw in content["tables"]:
        rows = [Row(**row) for row in raw.pop("rows")]
        targets = [Target(**target) for target in raw.pop("targets")]
        tables.append(Table(**raw, rows=rows, targets=targets))
    return content["machine"], tables
