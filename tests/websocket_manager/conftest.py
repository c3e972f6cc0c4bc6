"""The venue that the socket manager is tested against."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.parrots import ParrotVenue
from tests.serving import serving


@pytest.fixture
async def venue() -> AsyncIterator[ParrotVenue]:
    """Open it."""
    parrots = ParrotVenue()
    async with serving(parrots.handle) as parrots.url:
        yield parrots
