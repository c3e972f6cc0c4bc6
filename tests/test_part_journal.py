"""Journals of parts under way: what was written is read back, whatever the end of the process left of it."""

from __future__ import annotations

from pathlib import Path

from qubx_lighter.archive import Dataset
from qubx_lighter.part_journal import Journal, journal_path, remove_journals

MINUTES = Dataset("ohlc", "1m")


def journal(path: Path, head: str = "part") -> Journal:
    return Journal(path, {"label": head})


def test_a_journal_gives_back_what_it_was_given(tmp_path: Path) -> None:
    path = journal_path(tmp_path, MINUTES, "SWAP:BTC-USDC", "2026-10")
    pages = [{"to": 1, "rows": [[1, 0.1]]}, {"to": 2, "rows": [[2, 1e-300], [3, 4332.75]]}]
    for page in pages:
        journal(path).append(page)
    assert pages == journal(path).pages
    assert [] == journal(path, "another part").pages
    journal(path).remove()
    remove_journals(tmp_path, MINUTES, "SWAP:BTC-USDC")
    assert [] == list(tmp_path.iterdir())


def test_wherever_a_journal_is_cut_whole_lines_are_kept_and_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for number in range(3):
        journal(path).append([number])
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        lines = max(0, whole[:cut].count(b"\n") - 1)
        again = journal(path)
        assert [[number] for number in range(lines)] == again.pages
        for number in range(lines, 3):
            again.append([number])
        assert whole == path.read_bytes()


def test_zeros_that_a_crash_left_end_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    journal(path).append([0])
    path.write_bytes(path.read_bytes() + b"\0" * 100 + b"[7]\n")
    assert [[0]] == journal(path).pages
