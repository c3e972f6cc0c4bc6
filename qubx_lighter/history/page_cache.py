"""Pages of history on disk, for every process of this user.

A page is a closed range: what it holds cannot change, so it is written once, whole (a file aside, then a rename), and needs
no lock: of two processes that fetch the same page the later one replaces it by the same rows. What cannot be read, or is
not what its name says, counts as missing. A disk that refuses costs the cache, not the data.

Parquet with a checksum of its rows, one file a page: ``v1/<host>/<market id>-<symbol>/<kind>/<start>.parquet``. The symbol is part of
the name because the venue has given the id of one coin to another.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from loguru import logger

VERSION: Final = "v1"
_LABEL: Final = b"lighter.page"
_CHECKSUM: Final = b"lighter.checksum"
_NOTE: Final = "lighter.note."


@dataclass(frozen=True, slots=True)
class PageKey:
    """Which page.

    Attributes:
        market_id: the venue's.
        symbol: the venue's, ``ETH`` or ``ETH/USDC``.
        kind: what the rows are, ``candles-1m`` for instance.
        start_ms: where the page begins.
    """

    market_id: int
    symbol: str
    kind: str
    start_ms: int

    @property
    def path(self) -> Path:
        """Name its file, relative to the venue's folder."""
        start = datetime.fromtimestamp(self.start_ms / 1000, UTC).strftime("%Y%m%dT%H%M")
        return Path(f"{self.market_id}-{quote(self.symbol, safe='')}") / self.kind / f"{start}.parquet"


class Page(NamedTuple):
    """Rows, and what was noted about them."""

    rows: pa.Table
    notes: Mapping[str, str]


class PageCache:
    """Keep the closed pages of one venue.

    Args:
        base_url: of the venue.
        folder: for all venues; ``~/.qubx/cache/lighter`` by default.
    """

    def __init__(self, base_url: str, folder: Path | None = None) -> None:
        root = folder if folder is not None else Path.home() / ".qubx" / "cache" / "lighter"
        self.folder: Final = root.expanduser() / VERSION / quote(urlsplit(base_url).netloc.lower(), safe="")
        self._warned = False

    def read(self, key: PageKey, schema: pa.Schema) -> Page | None:
        """Read a page; None where there is none, or none that can be trusted."""
        path = self.folder / key.path
        try:
            with pq.ParquetFile(path) as file:
                table = file.read()
        except FileNotFoundError:
            return None
        except (OSError, pa.ArrowException) as error:
            logger.warning("lighter: the cached page {} cannot be read and is fetched again: {}", path, str(error))
            return None
        metadata = table.schema.metadata or {}
        named = metadata.get(_LABEL) == _label(key) and table.schema.remove_metadata().equals(schema)
        if not named or metadata.get(_CHECKSUM) != _checksum(table):
            logger.warning("lighter: the cached page {} is not what it should be and is fetched again", path)
            return None
        names = {name.decode(): value.decode() for name, value in metadata.items()}
        notes = {name.removeprefix(_NOTE): value for name, value in names.items() if name.startswith(_NOTE)}
        return Page(table.replace_schema_metadata(None), notes)

    def write(self, key: PageKey, rows: pa.Table, notes: Mapping[str, str] | None = None) -> None:
        """Keep a page; if the disk refuses, warn once and go on without."""
        path = self.folder / key.path
        metadata = {_LABEL: _label(key), _CHECKSUM: _checksum(rows)}
        metadata |= {f"{_NOTE}{name}".encode(): text.encode() for name, text in (notes or {}).items()}
        aside = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                pq.write_table(rows.replace_schema_metadata(metadata), aside, compression="zstd")
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
        except OSError as error:
            if not self._warned:
                self._warned = True
                logger.warning("lighter: history is not cached in {}: {}", self.folder, str(error))


def _checksum(rows: pa.Table) -> bytes:
    """Sum up the values: what the file format itself checks leaves out its own metadata."""
    total = 0
    for column in rows.columns:
        is_text = pa.types.is_string(column.type)
        values = "\n".join(column.to_pylist()).encode() if is_text else np.ascontiguousarray(column.to_numpy())
        total = crc32(values, total)
    return f"{rows.num_rows} {total:08x}".encode()


def _label(key: PageKey) -> bytes:
    return f"{key.market_id} {key.symbol} {key.kind} {key.start_ms}".encode()
