"""The local venue as most of its tests want it; a file that wants another one makes its own, by the same name."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from qubx_lighter.sim.app import Venue
from tests.sim.caller import Caller, calling, quiet_venue
from tests.sim.desk import Desk


@pytest.fixture
def desk() -> Desk:
    """An engine, without a network."""
    return Desk()


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    """A venue on the network on which nothing moves by itself."""
    async with quiet_venue() as venue:
        yield venue


@pytest.fixture
async def caller(venue: Venue) -> AsyncIterator[Caller]:
    """A client of the file's venue."""
    async with calling(venue) as caller:
        yield caller
