"""The journal of a part of an archive that is not finished yet: what was fetched is not fetched again."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from qubx_lighter.archive import PARTS_UNDER_WAY, Dataset
from qubx_lighter.durable_files import sync


def journal_path(folder: Path, dataset: Dataset, symbol: str, part: str) -> Path:
    """Tell where the journal of a part under way lies."""
    market_type, _, name = symbol.partition(":")
    return folder / PARTS_UNDER_WAY / dataset.name / market_type / name / f"{part}.jsonl"


class Journal:
    """Pages of a part that is not finished yet, one JSON line each; a torn line is as if it had never been.

    Args:
        path: its place.
        head: the label of the part; a journal with another label is begun anew.
    """

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self._path = path
        self._head = msgspec.json.encode(head, order="deterministic")
        self.pages: list[Any] = []
        if not self._load():
            self.pages = []
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._head + b"\n")

    def _load(self) -> bool:
        """Read the whole lines, cut off what follows; False where the journal is not of this part."""
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return False
        if not text.startswith(self._head + b"\n"):
            return False
        kept = len(self._head) + 1
        for line in text[kept:].splitlines(keepends=True):
            try:
                page = msgspec.json.decode(line)
            except msgspec.MsgspecError:
                break
            if not line.endswith(b"\n"):
                break
            self.pages.append(page)
            kept += len(line)
        os.truncate(self._path, kept)
        return True

    def append(self, page: Any, *, durable: bool = False) -> None:
        """Add a page; it survives the end of this process, and if ``durable`` that of the machine."""
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(page) + b"\n")
        if durable:
            sync(self._path)
            sync(self._path.parent)
        self.pages.append(page)

    def remove(self) -> None:
        """Delete the journal."""
        self._path.unlink(missing_ok=True)


def remove_journals(folder: Path, dataset: Dataset, symbol: str) -> None:
    """Delete all journals of a market, and the folders that this leaves empty."""
    place = journal_path(folder, dataset, symbol, "any").parent
    shutil.rmtree(place, ignore_errors=True)
    for above in place.parents:
        if PARTS_UNDER_WAY not in above.relative_to(folder).parts:
            break
        with contextlib.suppress(OSError):
            above.rmdir()
