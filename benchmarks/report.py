"""Write the last run of every benchmark into docs/performance.md, with a chart a table.

usage: python benchmarks/report.py [RESULTS.json ...]

What stands between the markers of the document is generated; the rest is prose and stays.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import results
from charts import draw
from results import Table

DOCS: Final = Path(__file__).parents[1] / "docs"
DOCUMENT: Final = DOCS / "performance.md"
CHARTS: Final = DOCS / "performance"
BEGIN: Final = "<!-- begin: written by benchmarks/report.py -->"
END: Final = "<!-- end -->"
NAMES: Final = ("book", "market_data", "socket", "orders")  # in this order


def main() -> None:
    """Write the document and its charts."""
    given = [Path(argument) for argument in sys.argv[1:]]
    paths = given or [path for name in NAMES if (path := results.FOLDER / f"{name}.json").exists()]
    if not paths:
        raise SystemExit("no results: run the benchmarks first")
    read = [results.load(path) for path in paths]
    machine = read[-1][0]
    lines = [
        f"Measured on {machine['cpu']} ({machine['cores']} cores), {machine['system']}, Python {machine['python']}.",
        "",
    ]
    CHARTS.mkdir(parents=True, exist_ok=True)
    for _, tables in read:
        for table in tables:
            lines += _section(table)
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n{END}{after or chr(10)}")
    print(f"{DOCUMENT.name} is written")


def _section(table: Table) -> list[str]:
    lines = [f"### {table.title}", "", *table.lines(), ""]
    if table.notes:
        lines += [*(note.strip() for note in table.notes), ""]
    if table.chart:
        (CHARTS / f"{table.name}.svg").write_text(draw(table))
        lines += [f"![{table.title}](performance/{table.name}.svg)", ""]
    if table.targets:
        lines += [*table.target_lines(), ""]
    return lines


if __name__ == "__main__":
    main()
