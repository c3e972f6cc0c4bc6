"""Thousands of random actions over sockets leave Qubx's account exactly the venue's.

``SCENARIO_ACTIONS=10000 SCENARIO_SEEDS=20 pytest -s tests/test_scenario.py`` is the whole of it; a run of the tests does less.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.live import LiveVenue, desk_on
from tests.scenario import Scenario

ACTIONS = int(os.environ.get("SCENARIO_ACTIONS", "500"))
BACK_S = 40 * 3600
SEEDS = range(int(os.environ.get("SCENARIO_SEEDS", "2")))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_scenario_ends_with_the_venues_own_account(seed: int, tmp_path: Path) -> None:
    # The native signer's transactions live for ten minutes of real time: hours may pass up to now, not beyond.
    venue = LiveVenue(tmp_path, ahead_s=-BACK_S)
    try:
        with desk_on(venue) as desk:
            scenario = Scenario(venue, desk, seed)
            try:
                scenario.run(ACTIONS)
            finally:
                scenario.close()
            print(f"seed {seed}: {dict(scenario.done)}, {scenario.trades} trades")
    finally:
        venue.close()
