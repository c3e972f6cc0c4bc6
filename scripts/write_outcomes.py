"""Write the tables of docs/outcomes.md from the code that acts on them; a test keeps the two together.

python scripts/write_outcomes.py
"""

from __future__ import annotations

from pathlib import Path

from qubx_lighter.protocol.code_table import TABLE, Cause, Recovery, Refusal
from qubx_lighter.protocol.statuses import StatusKind, classify_status

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "outcomes.md"
BEGIN = "<!-- tables from the code: scripts/write_outcomes.py -->"
STATUSES = (
    "filled",
    "canceled",
    "canceled-expired",
    "canceled-post-only",
    "canceled-too-much-slippage",
    "canceled-not-enough-liquidity",
    "canceled-margin-not-allowed",
    "canceled-invalid-balance",
    "canceled-reduce-only",
    "canceled-position-not-allowed",
    "canceled-self-trade",
    "canceled-oco",
    "canceled-child",
    "canceled-liquidation",
    "any other canceled-*",
)
EVENTS = {
    StatusKind.FILLED: "OrderFilledEvent",
    StatusKind.CANCELED: "OrderCanceledEvent",
    StatusKind.EXPIRED: "OrderExpiredEvent",
    StatusKind.REJECTED: "OrderRejectedEvent",
}


def tables() -> str:
    """Write what follows the marker."""
    return "\n".join([BEGIN, "", *_statuses(), "", *_recoveries(), "", *_codes(), ""])


def _statuses() -> list[str]:
    lines = [
        "## Each way in which the venue ends an order",
        "",
        "| status | it never rested and nothing was filled | it rested, or was filled in part |",
        "|---|---|---|",
    ]
    for status in STATUSES:
        name = status.replace("any other canceled-*", "canceled-of-a-later-version")
        first, then = (classify_status(name, rested=rested, filled=rested) for rested in (False, True))
        why = f", cause {_cause(first.cause)}" if first.kind is StatusKind.REJECTED else ""
        lines.append(f"| `{status}` | {EVENTS[first.kind]}{why} | {EVENTS[then.kind]} |")
    return lines


def _recoveries() -> list[str]:
    lines = ["## What is done about a refusal", "", "| recovery | what happens |", "|---|---|"]
    return lines + [f"| {_name(recovery)} | {recovery.value} |" for recovery in Recovery]


def _codes() -> list[str]:
    lines = ["## Each error code", ""]
    for group, refusals in TABLE.items():
        lines += [f"### {group}", "", "| code | the venue says | `RejectCause` | recovery |", "|---|---|---|---|"]
        lines += [_row(refusal) for refusal in refusals]
        lines.append("")
    return lines


def _row(refusal: Refusal) -> str:
    return f"| {refusal.code} | {refusal.text} | {_cause(refusal.cause)} | {_name(refusal.recovery)} |"


def _cause(cause: Cause) -> str:
    return f"`{cause.name}`"


def _name(recovery: Recovery) -> str:
    return recovery.name.lower().replace("_", " ")


def main() -> None:
    """Replace the tables of the document."""
    text = DOCUMENT.read_text()
    DOCUMENT.write_text(text[: text.index(BEGIN)] + tables())
    print(f"wrote {DOCUMENT}")


if __name__ == "__main__":
    main()
