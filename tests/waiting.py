"""Waiting for what another thread or program does."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

PATIENCE_S = 90.0
"""For a program of Qubx's: to start takes seconds, and many on a machine that has other things to do."""


def until(
    condition: Callable[[], object],
    running: subprocess.Popen[str] | None = None,
    *,
    patience_s: float = PATIENCE_S,
    every_s: float = 0.02,
    meanwhile: Callable[[], object] = lambda: None,
    shown: Callable[[], object] = lambda: "nothing is known of it",
) -> None:
    """Look again and again whether a condition holds: nobody tells what happens elsewhere.

    Args:
        condition: what is waited for.
        running: the program that is to bring it about; fails with its output if it has ended.
        patience_s: how long.
        every_s: the pause between two looks.
        meanwhile: called before each pause.
        shown: what a failure tells.
    """
    deadline = time.monotonic() + patience_s
    while not condition():
        assert running is None or running.poll() is None, running.communicate()[0]
        assert time.monotonic() < deadline, f"waited in vain: {shown()}"
        meanwhile()
        time.sleep(every_s)
