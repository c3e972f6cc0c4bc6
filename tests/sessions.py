"""A terminal for tests: it carries out what a document has the reader type, in a scratch folder and on this machine.

Two things differ from the reader's terminal, and both he could type: venues listen on a free port, and dates are moved so
that what is tested is four days ending yesterday.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml

from qubx_lighter import recording
from tests.documents import Command
from tests.programs import EXAMPLES, QUBX, QUBX_LIGHTER, ROOT

PATIENCE_S = 90.0
DOCUMENTED_PORT = 8765
NOWHERE = "http://127.0.0.1:9"  # so that nothing reaches for mainnet while no venue runs
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_DATE = re.compile(r"\b20\d\d-\d\d-\d\d\b")
_SIMULATION = yaml.safe_load((EXAMPLES / "simulate.yml").read_text())["simulation"]
START = date.fromisoformat(_DATE.findall(_SIMULATION["start"])[0])
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
TESTED_DAYS = 3


def moved(day: date) -> str:
    """Move a day that a document names, or the start of its backtest, to the last days."""
    return str(day - START + YESTERDAY - timedelta(days=TESTED_DAYS))


class Running:
    """A program that runs until Ctrl-C."""

    def __init__(self, command: Command, words: list[str], log: Path, **options: Any) -> None:
        self.command = command
        self._log = log
        with log.open("w") as stream:
            self._process = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT, **options)

    @property
    def output(self) -> str:
        """Give what it has printed so far."""
        return _ANSI.sub("", self._log.read_text(errors="replace"))

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for what the program is run for."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self._process.poll() is None, f"{self.command.where} ended: {self.output}"
            assert time.monotonic() < deadline, f"{self.command.where} was waited for in vain: {self.output}"
            time.sleep(0.05)

    def interrupt(self) -> None:
        """Press Ctrl-C: it ends well and has told of no error."""
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(PATIENCE_S)
        check(self.command, code, self.output)

    def kill(self) -> None:
        """End it whatever has happened."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def check(command: Command, code: int, output: str) -> None:
    """Hold a program that has ended against what every documented one promises."""
    assert 0 == code, f"{command.where}: {command.line}\n{output}"
    for word in ("Error", "ERROR", "Traceback"):
        assert word not in output, f"{command.where}: {command.line}\n{output}"


class Session:
    """One document's terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = NOWHERE
        self.programs: list[Running] = []
        self._venue: Running | None = None
        shutil.copytree(EXAMPLES, folder / "examples")

    def close(self) -> None:
        """Leave nothing running."""
        for program in self.programs:
            program.kill()

    def end(self) -> None:
        """Stop the venue that still runs, as its user does."""
        if self._venue is not None:
            self._venue.interrupt()
            self._venue = None

    def serve(self, command: Command) -> None:
        """Run a venue, in place of the one before."""
        self.end()
        self._venue = venue = self._start(command, "--port", "0")
        venue.until(lambda: "http://127.0.0.1:" in venue.output and "\n" in venue.output)
        self.url = "http://127.0.0.1:" + venue.output.split("http://127.0.0.1:")[1].split()[0]
        named = _option(command, "--markets")
        if named and not named.isdigit():
            assert set(named.split(",")) == self.markets(), command.where

    def finish(self, command: Command) -> None:
        """Run a program to its end; the folder it promises is there and was written to."""
        begun = time.time_ns()
        done = subprocess.run(
            self._words(command), **self._options(), capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        check(command, done.returncode, _ANSI.sub("", done.stdout + done.stderr))
        if out := _option(command, "--out") or _option(command, "-o"):
            written = [file for file in (self.folder / out).rglob("*.parquet") if file.stat().st_mtime_ns >= begun]
            assert written, f"{command.where}: nothing was written to {out}"

    def trade(self, command: Command) -> None:
        """Run a strategy until it trades; a paper one never does at the venue."""
        paper = "--paper" in command.words
        before = None if paper else self.account()
        bot = self._start(command)
        bot.until(lambda: "-> TRADING" in bot.output)  # Qubx's word
        if not paper:
            bot.until(lambda: before != self.account())
        bot.interrupt()
        if not paper:
            assert 0 == self.account()["total_order_count"], f"{command.where} left orders behind"

    def record(self, command: Command) -> None:
        """Run a recorder until there are frames in its file."""
        path = self.folder / str(_option(command, "--out"))
        recorder = self._start(command)
        recorder.until(lambda: sum(file.stat().st_size for file in recording.files_of(path)) > 4_096)
        recorder.interrupt()

    def post(self, command: Command) -> None:
        """Send what ``curl`` would send: not every machine has one."""
        _, _, header, url, _, body = (word.strip() for word in self._words(command))
        name, _, value = header.partition(": ")
        answer = httpx.post(url, headers={name: value}, content=body).json()
        assert 200 == answer["code"], f"{command.where}: {answer}"

    def account(self) -> dict[str, Any]:
        """Read the account at the venue."""
        response = httpx.get(f"{self.url}/api/v1/account", params={"by": "index", "value": "100"})
        account: dict[str, Any] = response.json()["accounts"][0]
        return {name: account[name] for name in ("total_order_count", "collateral")}

    def markets(self) -> set[str]:
        """List the venue's markets."""
        body = httpx.get(f"{self.url}/api/v1/orderBookDetails", params={"filter": "all"}).json()
        return {row["symbol"] for row in [*body["order_book_details"], *body["spot_order_book_details"]]}

    def _start(self, command: Command, *more: str) -> Running:
        log = self.folder / f"{len(self.programs)}.log"
        self.programs.append(Running(command, [*self._words(command), *more], log, **self._options()))
        return self.programs[-1]

    def _words(self, command: Command) -> list[str]:
        assert "network" not in command.line, f"{command.where} would leave this machine"
        line = _DATE.sub(lambda match: moved(date.fromisoformat(match[0])), command.line)
        words = shlex.split(line.replace(f"http://127.0.0.1:{DOCUMENTED_PORT}", self.url))
        programs = {"qubx": QUBX, "qubx-lighter": QUBX_LIGHTER}
        return [*programs.get(words[0], words[:1]), *words[1:]]

    def _options(self) -> dict[str, Any]:
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "LIGHTER_BASE_URL": self.url,
            "SIMULATE_START": moved(START),
            "SIMULATE_STOP": str(YESTERDAY),
        }
        return {"cwd": self.folder, "env": environment}


def _option(command: Command, name: str) -> str | None:
    words = command.words
    return words[words.index(name) + 1] if name in words else None
