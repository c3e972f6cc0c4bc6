"""Fixtures that every part's tests share, and the guard of the user's home.

Qubx writes instruments, fees, logs and accounts below the home folder. So before anything here imports it, the home of
this process and of those it starts becomes a scratch folder: the one that the Makefile made, or one of our own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.live import Desk, LiveVenue

_REAL_HOME = Path(pwd.getpwuid(os.getuid()).pw_dir)
_MADE: list[Path] = []

if Path.home() == _REAL_HOME:
    _MADE.append(Path(tempfile.mkdtemp(prefix="qubx-lighter-tests-")))
    os.environ["HOME"] = str(_MADE[0])
for _name in [name for name in os.environ if name.startswith(("LIGHTER_", "QUBX_"))]:
    del os.environ[_name]  # the user's settings are no part of a test


@pytest.fixture(scope="session", autouse=True)
def scratch_home() -> Iterator[Path]:
    """Give the home folder of the tests, and make sure that nothing reached the user's."""
    existed = (_REAL_HOME / ".qubx").exists()
    yield Path.home()
    assert Path.home() != _REAL_HOME, "a test gave the user's home back"
    assert existed == (_REAL_HOME / ".qubx").exists(), "a test made Qubx's folder in the user's home"


def pytest_unconfigure() -> None:
    """Remove the scratch home, where it is ours."""
    for folder in _MADE:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def wire_dir() -> Path:
    """Give the folder of frames captured from the venue, which lies beside the repository and is no part of it."""
    folder = Path(__file__).parents[2] / "shared" / "wire"
    if not folder.is_dir():
        pytest.skip("no captured frames: ../shared/wire is missing")
    return folder


@pytest.fixture
def warnings_seen() -> Iterator[list[str]]:
    """Collect what is logged as a warning or worse."""
    from loguru import logger

    lines: list[str] = []
    sink = logger.add(lines.append, level="WARNING", format="{message}")
    yield lines
    logger.remove(sink)


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[LiveVenue]:
    """Run a local venue where the maker quotes ETH and BTC, and nothing happens but what a test does."""
    from tests.live import venue_in

    with venue_in(tmp_path) as venue:
        yield venue


@pytest.fixture
def desk(venue: LiveVenue) -> Iterator[Desk]:
    """Connect the plugin, and Qubx's own account manager, to the venue."""
    from tests.live import desk_on

    with desk_on(venue) as desk:
        yield desk
