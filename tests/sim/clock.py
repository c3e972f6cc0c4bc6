"""A wall clock for tests of the local venue that moves when it is told to."""

from __future__ import annotations

from dataclasses import dataclass

START_MS = 1_795_000_012_345


@dataclass
class Clock:
    ms: int = START_MS

    def __call__(self) -> int:
        """Give the time, µs."""
        return self.ms * 1000
