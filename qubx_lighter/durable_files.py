"""Files that are there whole or not at all, also where the machine goes down."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a place to write a file to, then sync it and move it to ``path``: it is there whole or not at all."""
    _make_folder(path.parent)
    scratch = path.with_name(f".{path.name}.new")
    yield scratch
    sync(scratch)
    scratch.replace(path)
    sync(path.parent)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
