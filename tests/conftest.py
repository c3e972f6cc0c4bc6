"""Fixtures that every part's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def wire_dir() -> Path:
    """Give the folder of frames captured from the venue, which lies beside the repository and is no part of it."""
    folder = Path(__file__).parents[2] / "shared" / "wire"
    if not folder.is_dir():
        pytest.skip("no captured frames: ../shared/wire is missing")
    return folder
