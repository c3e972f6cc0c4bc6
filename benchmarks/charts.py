"""Draw a table of measurements as bars in an SVG, with nothing but text; lengths are logarithmic."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final
from xml.sax.saxutils import escape

from results import Table, number

WIDTH: Final = 860
LABELS: Final = 210  # left of the bars
RIGHT: Final = 70  # for the figure behind a bar
BAR: Final = 13
GAP: Final = 12  # between groups
TOP: Final = 74
COLOURS: Final = ("#0b6e4f", "#9aa5b1", "#d97706", "#b45309", "#6366f1", "#a21caf", "#334155")
STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#1f2933}.t{font-size:14px;font-weight:600}.s{fill:#52606d;font-size:11px}"
    ".b{fill:#fff}.g{stroke:#e4e7eb}"
    "@media(prefers-color-scheme:dark){text{fill:#e4e7eb}.s{fill:#9aa5b1}.b{fill:#111827}.g{stroke:#374151}}"
)


def draw(table: Table) -> str:
    """Give the chart of a table: a group of bars a row, a bar a column that is charted."""
    groups = [
        (row.name, [(column, value) for column in table.chart if (value := row.values.get(column))])
        for row in table.rows
    ]
    values = [value for _, bars in groups for _, value in bars]
    low = 10.0 ** math.floor(math.log10(min(values)))
    high = 10.0 ** math.ceil(math.log10(max(values)))
    scale = (WIDTH - LABELS - RIGHT) / max(math.log10(high / low), 1e-9)
    height = TOP + sum(len(bars) * BAR + GAP for _, bars in groups) + 26

    def x(value: float) -> float:
        return LABELS + scale * math.log10(value / low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(table.title)}</title><style>{STYLE}</style>",
        f'<rect class="b" width="{WIDTH}" height="{height}"/>',
        f'<text class="t" x="12" y="22">{escape(table.title)}</text>',
        *_legend(table.chart),
        *_grid(low, high, height, x),
    ]
    y = TOP
    for name, bars in groups:
        parts.append(
            f'<text x="{LABELS - 8}" y="{y + len(bars) * BAR / 2 + 4:.0f}" text-anchor="end">{escape(name)}</text>'
        )
        for column, value in bars:
            colour = COLOURS[table.chart.index(column) % len(COLOURS)]
            length = max(x(value) - LABELS, 1.5)
            parts.append(f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR - 2}" rx="2" fill="{colour}"/>')
            parts.append(f'<text class="s" x="{LABELS + length + 4:.1f}" y="{y + BAR - 3}">{number(value)}</text>')
            y += BAR
        y += GAP
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(columns: list[str]) -> list[str]:
    parts, left = [], 12.0
    for index, column in enumerate(columns):
        parts.append(
            f'<rect x="{left:.0f}" y="34" width="10" height="10" rx="2" fill="{COLOURS[index % len(COLOURS)]}"/>'
        )
        parts.append(f'<text class="s" x="{left + 14:.0f}" y="43">{escape(column)}</text>')
        left += 28 + 6.6 * len(column)
    return parts


def _grid(low: float, high: float, height: int, x: Callable[[float], float]) -> list[str]:
    parts, mark = [], low
    while mark <= high * 1.001:
        at = x(mark)
        parts.append(f'<line class="g" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP - 8}" y2="{height - 22}"/>')
        parts.append(f'<text class="s" x="{at:.1f}" y="{height - 8}" text-anchor="middle">{number(mark)}</text>')
        mark *= 10
    return parts
