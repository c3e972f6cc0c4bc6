"""The documents as data: what README.md, docs/ and the heads of examples/ tell a reader to type, set and open.

A fenced block without a language is a shell session: what begins with ``$`` is typed, or everything where nothing does.
Diagrams and other text say ``text``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.programs import EXAMPLES, ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = ("", "sh", "bash", "shell", "console")
PROGRAMS = ("qubx-lighter", "qubx", "make", "pip", "python", "curl")
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A fenced block; ``where`` is its file and first line."""

    path: Path
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        """Name file and line as an editor opens them."""
        return f"{self.path.relative_to(ROOT)}:{self.line}"


class Command(NamedTuple):
    """A line for a shell, without its remark."""

    where: str
    line: str

    @property
    def words(self) -> list[str]:
        """Split it as a shell does."""
        return shlex.split(self.line)


def blocks(path: Path, *languages: str) -> Iterator[Block]:
    """List the fenced blocks of a document, of the given languages."""
    text = path.read_text()
    for match in _FENCE.finditer(text):
        if match[1] in languages:
            yield Block(path, text.count("\n", 0, match.start()) + 2, match[1], match[2])


def all_blocks(*languages: str) -> list[Block]:
    """List the fenced blocks of every document, of the given languages."""
    return [block for path in DOCUMENTS for block in blocks(path, *languages)]


def typed(path: Path) -> list[Command]:
    """List the commands in a document's shell blocks in their order; an alternative (``# or: ...``) follows its command."""
    return [command for block in blocks(path, *SHELL) for command in _session(block)]


def _session(block: Block) -> Iterator[Command]:
    prompted = any(line.lstrip().startswith("$ ") for line in block.text.splitlines())
    begun = ""
    for number, line in enumerate(block.text.splitlines(), block.line):
        if prompted and not begun and not line.lstrip().startswith("$ "):
            continue
        begun += line.strip().removeprefix("$ ")
        if begun.endswith("\\"):
            begun = begun[:-1]
            continue
        command, _, remark = begun.partition("#")
        begun = ""
        where = f"{block.path.relative_to(ROOT)}:{number}"
        for text in (command, remark.strip().removeprefix("or: ") if remark.strip().startswith("or: ") else ""):
            if text.strip():
                yield Command(where, text.strip())


def mentioned(path: Path) -> Iterator[Command]:
    """List the commands that stand in a document's sentences."""
    for number, line in _prose(path):
        for span in _SPAN.findall(line):
            if span.split()[0] in PROGRAMS:
                yield Command(f"{path.relative_to(ROOT)}:{number}", span)


def heads() -> Iterator[Command]:
    """List the commands in the opening remarks of the example configurations."""
    for path in sorted(EXAMPLES.glob("*.yml")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith(("# qubx ", "# qubx-lighter ")):
                yield Command(f"{path.relative_to(ROOT)}:{number}", line.removeprefix("# ").partition(": ")[0])
            elif line.startswith("#"):
                for span in _SPAN.findall(line):
                    if span.split()[0] in PROGRAMS:
                        yield Command(f"{path.relative_to(ROOT)}:{number}", span)


def _prose(path: Path) -> Iterator[tuple[int, str]]:
    text = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), path.read_text())
    yield from enumerate(text.splitlines(), 1)
