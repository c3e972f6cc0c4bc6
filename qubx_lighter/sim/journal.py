"""The local venue's memory: every command with its time, written before it is carried out.

One JSON text a line: first the seed, then the commands. Each line reaches the operating system before its command runs, so
that a killed process loses none that was answered; nothing is forced to the disk, so a power failure may. A last line
without its end was cut off by the kill: its command never ran, and it is dropped.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import msgspec

from qubx_lighter.errors import WireError
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.model.commands import Command, Result


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    version: Literal[1] = 1
    seed: int


class _Entry(msgspec.Struct, frozen=True):
    now: int  # µs
    command: Command


_headers: Final = msgspec.json.Decoder(_Header)
_entries: Final = msgspec.json.Decoder(_Entry)
_encoder: Final = msgspec.json.Encoder()


class Journal:
    """A journal file, opened for appending and made when it is missing; ``restore`` comes first.

    Args:
        path: the file; its folder exists.
        seed: of a new venue; an existing journal keeps its own.
    """

    def __init__(self, path: Path, *, seed: int = 0) -> None:
        self._path = path
        self._seed = seed
        self._file = path.open("a+b")

    def restore(self) -> Engine:
        """Build the engine that the journal tells of; with a new journal an empty one.

        Raises:
            WireError: a line is not one of a journal; the message names the file and the line.
        """
        engine: Engine | None = None
        lines = whole = 0
        self._file.seek(0)
        try:
            for line in self._file:
                if not line.endswith(b"\n"):
                    break
                if engine is None:
                    engine = Engine(_headers.decode(line).seed)
                else:
                    entry = _entries.decode(line)
                    engine.apply(entry.command, entry.now)
                    engine.drain()
                lines, whole = lines + 1, whole + len(line)
        except msgspec.MsgspecError as error:
            raise WireError(f"{self._path}, line {lines + 1}: not of a journal of this version: {error}") from error
        self._file.truncate(whole)
        if engine is None:
            self._write(_Header(seed=self._seed))
            engine = Engine(self._seed)
        return engine

    def append(self, command: Command, now: int) -> None:
        """Write a command that is about to be carried out at ``now`` (µs)."""
        self._write(_Entry(now, command))

    def apply(self, engine: Engine, command: Command, now: int) -> Result:
        """Write a command, then let the engine carry it out."""
        self.append(command, now)
        return engine.apply(command, now)

    def close(self) -> None:
        """Close the file; idempotent."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: _Header | _Entry) -> None:
        self._file.write(_encoder.encode(line) + b"\n")
        self._file.flush()
