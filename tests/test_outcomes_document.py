"""The document of outcomes says what the code does."""

from __future__ import annotations

from pathlib import Path

from qubx_lighter.protocol.code_table import Recovery
from qubx_lighter.protocol.codes import known_codes
from scripts import write_outcomes
from tests.test_cancellations import ENDS

DOCUMENT = Path(__file__).parents[1] / "docs" / "outcomes.md"


def test_the_tables_of_the_document_are_the_codes() -> None:
    text = DOCUMENT.read_text()
    written = text[text.index(write_outcomes.BEGIN) :]
    assert write_outcomes.tables() == written, "run python scripts/write_outcomes.py"


def test_every_code_status_and_recovery_is_in_it() -> None:
    text = DOCUMENT.read_text()
    assert [] == [code for code in known_codes() if f"| {code} |" not in text]
    assert [] == [status for status in ENDS if status != "canceled-whatever" and f"`{status}`" not in text]
    assert [] == [recovery for recovery in Recovery if recovery.value not in text]
