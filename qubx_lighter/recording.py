r"""Recordings: frames as they were received, with the time of their arrival.

A recording is lines in gzip members, one member for each flush, so whatever ends the writer costs at most the last one,
and ``zcat`` reads it. A line is

- ``<ns> <frame>``: a frame, byte for byte as it came; one that could be taken for something else, with a line break in it
  for example, is written as a JSON string, which no frame of the venue's begins like;
- ``<ns> #<json>``: a fact of the recorder: what it records, a connection lost and regained, frames it had to drop.

``<ns>`` is when the frame reached the recorder, since the epoch. Rotated recordings are numbered: ``a.jsonl.gz`` becomes
``a.0000.jsonl.gz``, ``a.0001.jsonl.gz``, ...
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from qubx_lighter.errors import ConfigurationError

_GZIP: Final = 16 + zlib.MAX_WBITS
_HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\x03"  # of every member that ``member`` packs
_TRAILER_BYTES: Final = 8  # checksum and length
_CHUNK: Final = 1 << 20
_LEVEL: Final = 6
_LINE: Final = re.compile(rb"(\d{1,19}) (.+)", re.DOTALL)
_NUMBERED: Final = re.compile(r"\.\d{4,}$")
_SUFFIX: Final = ".jsonl.gz"
_MARKS: Final = (b"#", b'"', b"")


class Line(NamedTuple):
    """One line of a recording: a frame, or, where that is None, a fact."""

    time_ns: int
    frame: bytes | None
    fact: dict[str, Any]


# --- writing ---------------------------------------------------------------------------------------------------------


def frame_line(time_ns: int, frame: bytes) -> bytes:
    """Write a frame."""
    if frame[:1] in _MARKS or b"\n" in frame or not _is_utf8(frame):
        frame = json.dumps(frame.decode("utf-8", "surrogateescape")).encode()
    return b"%d %b\n" % (time_ns, frame)


def fact_line(time_ns: int, **fact: Any) -> bytes:
    """Write a fact."""
    return b"%d #%b\n" % (time_ns, json.dumps(fact, separators=(",", ":")).encode())


def member(lines: bytes) -> bytes:
    """Pack lines into one gzip member; nothing of it depends on when."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(lines) + packer.flush()


def numbered(path: Path, number: int) -> Path:
    """Name a rotated file of a recording."""
    stem, suffix = _split(path)
    return path.with_name(f"{stem}.{number:04}{suffix}")


def number_of(path: Path, file: Path) -> int:
    """Give the number of a rotated file of a recording, as ``files_of`` lists them."""
    stem, suffix = _split(path)
    return int(file.name.removesuffix(suffix)[len(stem) + 1 :])


def _split(path: Path) -> tuple[str, str]:
    suffix = _SUFFIX if path.name.endswith(_SUFFIX) else path.suffix
    return path.name.removesuffix(suffix), suffix


def _is_utf8(frame: bytes) -> bool:
    try:
        frame.decode()
    except UnicodeDecodeError:
        return False
    return True


# --- reading ---------------------------------------------------------------------------------------------------------


def files_of(path: Path) -> list[Path]:
    """List the files of a recording, in order: the file, or where there is none, the rotated files of that name."""
    if path.is_file():
        return [path]
    stem, suffix = _split(path)
    if not path.parent.is_dir():
        return []
    found = [file for file in path.parent.iterdir() if file.name.startswith(stem) and file.name.endswith(suffix)]
    ours = [file for file in found if _NUMBERED.fullmatch(file.name[len(stem) : len(file.name) - len(suffix)])]
    return sorted(ours, key=lambda file: (len(file.name), file.name))


def lines(path: Path) -> Iterator[bytes]:
    """Read the lines of a file, gzipped or not; what a killed writer left unfinished at the end is left out.

    Raises:
        ConfigurationError: the file cannot be read, or is broken elsewhere than at its end.
    """
    rest = b""
    try:
        with path.open("rb") as file:
            packed = file.read(1) in (_HEADER[:1], b"\0")
            file.seek(0)
            for chunk in _unpacked(file, path) if packed else iter(lambda: file.read(_CHUNK), b""):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror or error}") from error
    if rest and not packed:
        yield rest  # a capture need not end with a line break; a recording is cut where it does not


def _unpacked(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Unpack gzip members; a last one that was cut off gives what there is of it.

    A crash of the machine may leave zeros where data was not on the disk yet: they unpack to anything, so that of a last
    member with zeros in it nothing is given.
    """
    zeros = _ends_in_zeros(file)
    unpacker = zlib.decompressobj(_GZIP)
    begun, held = False, b""
    for chunk in iter(lambda: file.read(_CHUNK), b""):
        data = chunk
        while data:
            if unpacker.eof or not begun:
                data = data.lstrip(b"\0")
                if not data:
                    break
                unpacker, begun = zlib.decompressobj(_GZIP), True
            try:
                held += unpacker.decompress(data)
            except zlib.error as error:
                if zeros and _HEADER not in data[1:] + file.read():
                    return
                raise ConfigurationError(f"cannot read {path}: it is broken: {error}") from error
            data = unpacker.unused_data
            if unpacker.eof or not zeros:
                yield held
                held = b""


def _ends_in_zeros(file: BinaryIO) -> bool:
    """Tell whether the file ends as no member does; leaves it at its beginning."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TRAILER_BYTES))
    tail = file.read()
    file.seek(0)
    return not tail.strip(b"\0")


def parse(text: bytes) -> Line | None:
    """Read a line of a recording; None for what is none: the frames of other captures stand alone.

    Raises:
        ValueError: it has a time, and what follows is neither frame nor fact.
    """
    match = _LINE.fullmatch(text)
    if match is None:
        return None
    time_ns, body = int(match[1]), match[2]
    if body.startswith(b"#"):
        return Line(time_ns, None, json.loads(body[1:]))
    if body.startswith(b'"'):
        body = json.loads(body).encode("utf-8", "surrogateescape")
    return Line(time_ns, body, {})
