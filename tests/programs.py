"""Programs that tests start: ``qubx-lighter``, ``qubx``, and a venue in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
QUBX = [sys.executable, "-c", "from qubx.cli.commands import main; main()"]
QUBX_LIGHTER = [sys.executable, "-m", "qubx_lighter"]


@contextmanager
def process(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program and end it."""
    running = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.communicate()


@contextmanager
def started_venue(folder: Path, *options: str) -> Iterator[tuple[str, list[str]]]:
    """Start ``qubx-lighter sim``; give its URL and its markets as Qubx writes instruments.

    Its accounts file is ``accounts.toml`` in ``folder``.
    """
    command = [*QUBX_LIGHTER, "sim", "--port", "0", "--accounts-out", str(folder / "accounts.toml"), *options]
    with process(command, cwd=ROOT) as running:
        assert running.stdout is not None
        first = running.stdout.readline()
        assert "http://127.0.0.1:" in first, first + running.communicate()[0]
        url = "http://127.0.0.1:" + first.split("http://127.0.0.1:")[1].split()[0]
        yield url, _markets(url)


def _markets(url: str) -> list[str]:
    body = httpx.get(f"{url}/api/v1/orderBookDetails", params={"filter": "all"}).json()
    perpetuals = [f"LIGHTER:SWAP:{row['symbol']}-USDC" for row in body["order_book_details"]]
    return perpetuals + [f"LIGHTER:SPOT:{row['symbol'].replace('/', '-')}" for row in body["spot_order_book_details"]]


def run_python(code: str, *paths: Path) -> str:
    """Run ``code`` in a fresh interpreter, with ``paths`` before everything else, and return what it prints."""
    setup = f"import sys; sys.path[:0] = {[*map(str, paths), str(ROOT)]!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", setup + textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=60
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout.strip()
