"""Write the table of docs/settings.md from the settings themselves; a test keeps the two together.

python scripts/write_settings.py
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from qubx_lighter.settings import LighterSettings

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
BEGIN = "<!-- table from the code: scripts/write_settings.py -->"
OF_THE_NETWORK = ("base_url", "ws_url", "chain_id", "collateral")


def table() -> str:
    """Write what follows the marker."""
    meanings = _meanings()
    lines = [BEGIN, "", "| param | default | meaning |", "|---|---|---|"]
    for name, field in LighterSettings.model_fields.items():
        default = "the network's" if name in OF_THE_NETWORK else _shown(field.get_default(call_default_factory=True))
        lines.append(f"| `{name}` | {default} | {meanings[name]} |")
    return "\n".join([*lines, ""])


def _shown(value: Any) -> str:
    """Write a default as YAML does."""
    if value in (None, "", {}):
        return "none"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def _meanings() -> dict[str, str]:
    """Read what the settings' docstring says of each."""
    text = inspect.getdoc(LighterSettings) or ""
    attributes = text.partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", attributes, re.DOTALL | re.MULTILINE)
    return {name: " ".join(meaning.split()).replace("``", "`").replace("|", "\\|") for name, meaning in found}


def main() -> None:
    """Write the document."""
    before = DOCUMENT.read_text().partition(BEGIN)[0]
    DOCUMENT.write_text(before + table())


if __name__ == "__main__":
    main()
