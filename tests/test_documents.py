"""What README.md, docs/ and the heads of examples/ say is so: commands run, files are there, settings exist."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pandas as pd
import pytest
from qubx.cli.commands import main as qubx_program

from qubx_lighter.cli import main as lighter_program
from tests.documents import DOCUMENTS, Command, heads, mentioned, typed
from tests.programs import ROOT
from tests.sessions import Session

# How a documented command is run. What is no method of the session is a reason why not here.
RUN: dict[str, Callable[[Session, Command], None] | str] = {
    "qubx-lighter sim": Session.serve,
    "qubx-lighter download": Session.finish,
    "qubx-lighter record": Session.record,
    "qubx-lighter instruments": Session.finish,
    "qubx run": Session.trade,
    "qubx simulate": Session.finish,
    "curl": Session.post,
    "make demo": "tests/test_demo.py runs its program",
    "make test": "CI runs it: this is it",
    "make style": "CI runs it",
    "make types": "CI runs it",
    "make bench": "it takes minutes and measures a quiet machine; the programs and their options are checked",
    "make cover": "the same tests, measured",
    "make build": "it needs a package index; tests/test_packaging.py looks at what an installation has",
    "pip install": "it needs a package index; tests/test_packaging.py looks at what an installation has",
    "python examples/demo.py": "tests/test_demo.py runs it",
    "python benchmarks/": "make bench runs it",
    "git clone": "CI starts from a clone",
    "cd ": "CI starts there",
}
MENTIONED = [command for path in DOCUMENTS for command in mentioned(path)] + list(heads())
TYPED = {path: typed(path) for path in DOCUMENTS}
OPTION = re.compile(r"--[a-z][a-z-]+")


def how(command: Command) -> Callable[[Session, Command], None] | str | None:
    """Look up how a command is run."""
    begins = [
        begin for begin in RUN if f"{command.line} ".startswith(begin if begin.endswith("/") else begin.strip() + " ")
    ]
    return RUN[max(begins, key=len)] if begins else None


def runnable(path: Path) -> list[Command]:
    """List a document's commands that a session carries out."""
    return [command for command in TYPED[path] if callable(how(command))]


SESSIONS = [path for path in DOCUMENTS if runnable(path)]


# --- commands ---------------------------------------------------------------------------------------------------------


def test_every_documented_command_is_run_or_has_a_reason() -> None:
    unknown = [
        f"{command.where}: {command.line}" for path in DOCUMENTS for command in TYPED[path] if how(command) is None
    ]
    assert [] == unknown, "say in RUN how it is run (a block that is no shell session says ```text)"


def test_every_command_of_an_examples_head_is_one_of_the_documents() -> None:
    def plain(command: Command) -> str:
        return re.sub(r" --base-url \S+", "", command.line)

    known = {plain(command) for path in DOCUMENTS for command in runnable(path)}
    full = [command for command in heads() if {"run", "simulate", "download"} & set(command.words)]
    assert 4 < len(full)
    assert [] == [command for command in full if plain(command) not in known]


@pytest.mark.parametrize(
    "command", [*MENTIONED, *(c for path in DOCUMENTS for c in TYPED[path])], ids=lambda c: c.where
)
def test_a_commands_words_are_known(command: Command) -> None:
    program, *words = command.words
    if program in ("qubx", "qubx-lighter"):
        check_options(qubx_program if program == "qubx" else lighter_program, words)
    elif program == "make":
        assert set(words) <= set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    elif program == "python":
        text = (ROOT / words[0]).read_text()
        line = (
            (ROOT / command.where.partition(":")[0]).read_text().splitlines()[int(command.where.partition(":")[2]) - 1]
        )
        assert [] == [option for option in OPTION.findall(line) if f'"{option}"' not in text]
    elif program == "pip":
        assert "qubx-lighter" in words[-1]
    else:
        assert program in ("curl", "git", "cd")


def check_options(program: click.Command, words: list[str]) -> None:
    """Hold a program's subcommand and options against what it has."""
    while isinstance(program, click.Group):
        if not words:
            return
        assert words[0] in program.commands, words[0]
        program, words = program.commands[words[0]], words[1:]
    known = {option for parameter in program.params for option in [*parameter.opts, *parameter.secondary_opts]} | {
        "--help"
    }
    assert {word for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.name)
def test_the_commands_of_a_document_run_in_their_order(path: Path, session: Session) -> None:
    for command in runnable(path):
        runner = how(command)
        assert callable(runner)
        runner(session, command)
    session.end()
    if path.name == "history.md":
        check_trades(session.folder)


def check_trades(folder: Path) -> None:
    """Hold the backtest from the files against that from the venue: docs/history.md promises the same trades."""

    def results(name: str, file: str) -> pd.DataFrame:
        (path,) = (folder / "results").rglob(f"{name}/*/{file}.parquet")
        return pd.read_parquet(path).drop(columns="_backtest_id").sort_index(axis="columns")  # Qubx's order varies

    for file in ("executions", "portfolio"):
        online, offline = results("lighter-crossover", file), results("lighter-crossover-parquet", file)
        pd.testing.assert_frame_equal(online, offline)
        if file == "executions":
            assert 20 <= len(online)
            assert {"BTC-USDC", "ETH-USDC"} == set(online["symbol"])
        else:
            assert online.filter(like="_Funding").to_numpy().any(), "no funding was paid"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """Open a terminal in a scratch folder."""
    opened = Session(tmp_path)
    try:
        yield opened
    finally:
        opened.close()


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_links_of_a_document_lead_somewhere(path: Path) -> None:
    text = path.read_text()
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    for link in links:
        name, _, anchor = link.partition("#")
        target = (path.parent / name) if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(path: Path) -> set[str]:
    """List what a document's headings are called in links."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
