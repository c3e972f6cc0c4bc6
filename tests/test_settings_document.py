"""docs/settings.md has every setting, and no document names one that there is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qubx_lighter.settings import LighterSettings
from scripts import write_settings
from tests.documents import DOCUMENTS
from tests.programs import EXAMPLES

KNOWN = list(LighterSettings.model_fields)
FILES = [*DOCUMENTS, *sorted(path for path in EXAMPLES.iterdir() if path.is_file())]


def test_the_table_is_that_of_the_code() -> None:
    text = write_settings.DOCUMENT.read_text()
    assert write_settings.table() == text[text.index(write_settings.BEGIN) :], "run python scripts/write_settings.py"


def test_every_setting_is_in_the_table_with_a_meaning() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\S.*?) \| (\S.*?) \|$", write_settings.DOCUMENT.read_text(), re.MULTILINE)
    assert KNOWN == [name for name, _, _ in rows]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_settings_a_file_names_are_settings(path: Path) -> None:
    text = path.read_text()
    variables = set(re.findall(r"\bLIGHTER_[A-Z][A-Z0-9_]*", text)) - {"LIGHTER_"}
    assert variables <= {f"LIGHTER_{name.upper()}" for name in KNOWN}
    params = set(re.findall(r"\bparams\.(\w+)", text))
    for inner in re.findall(r"\bparams: *\{([^}]*)\}", text):
        params |= set(re.findall(r"(?:^|,) *(\w+):", inner))
    assert params <= set(KNOWN)
