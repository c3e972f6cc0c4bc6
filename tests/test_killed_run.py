"""A run that is killed leaves its orders behind; the next one knows them for its own, and Qubx cancels them at its start."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import yaml

from qubx_lighter.sim.model import commands
from tests.live import BTC, ETH, MAKER, US, LiveVenue
from tests.programs import EXAMPLES, QUBX, ROOT, process
from tests.waiting import PATIENCE_S, until


def command(folder: Path, venue: LiveVenue) -> list[str]:
    """Give the command that runs the live example here, with orders that stay where they are."""
    settings = yaml.safe_load((EXAMPLES / "live.yml").read_text())
    settings["parameters"] |= {"lifetime_s": 600, "pace_s": 0.2}
    settings["live"]["exchanges"]["LIGHTER"]["params"] = {"base_url": venue.venue.url}
    (folder / "config.yml").write_text(yaml.safe_dump(settings))
    return [*QUBX, "run", str(folder / "config.yml"), "-a", str(venue.accounts_file)]


def environment(folder: Path) -> dict[str, str]:
    """Give a run the way to the example strategy."""
    paths = os.pathsep.join([str(EXAMPLES), str(ROOT)])
    return os.environ | {"PYTHONPATH": paths, "QUBX_LOG_FOLDER": str(folder / "logs")}


class Fickle:
    """A maker that adds to its bids, or takes that back, each time: what comes and goes within one frame shows no quote."""

    def __init__(self, venue: LiveVenue) -> None:
        self.venue = venue
        self._added: dict[int, int] = {}  # market -> order

    def changes_its_mind(self) -> None:
        for market_id, ticks in ((ETH, 399_900), (BTC, 999_990)):
            if market_id in self._added:
                self.venue.execute(commands.CancelOrder(MAKER, market_id, self._added.pop(market_id)))
            else:
                self._added[market_id] = self.venue.rest(market_id, ticks, 100, is_ask=False)


def wait_for(condition: Callable[[], object], running: subprocess.Popen[str], maker: Fickle) -> None:
    """Wait for what a run does at the venue, while the market moves."""
    until(condition, running, every_s=0.1, meanwhile=maker.changes_its_mind, shown=maker.venue.truth)


def test_orders_of_a_killed_run_are_cancelled_by_the_next_one(venue: LiveVenue, tmp_path: Path) -> None:
    def working() -> set[int]:
        return set(venue.truth()["orders"])

    def statuses(indexes: set[int]) -> set[str]:
        rows = venue.ask(venue.engine.inactive_orders, US)
        return {row.status for row in rows if row.order_index in indexes}

    run, env, maker = command(tmp_path, venue), environment(tmp_path), Fickle(venue)
    with process(run, cwd=tmp_path, env=env) as first:
        wait_for(lambda: len(working()) == 4, first, maker)  # both sides of both markets
        first.send_signal(signal.SIGKILL)
        first.wait(PATIENCE_S)
    left_behind = working()
    assert 4 == len(left_behind), "the orders of a killed run rest at the venue"
    with process(run, cwd=tmp_path, env=env) as second:
        wait_for(lambda: not working() & left_behind, second, maker)
        assert {"canceled"} == statuses(left_behind)
        wait_for(lambda: len(working()) == 4, second, maker)  # and it quotes anew
        second.send_signal(signal.SIGINT)
        output, _ = second.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in output
    plain = re.sub("\x1b\\[[0-9;]*m", "", output)
    assert 4 == len(re.findall("'RECOVERED' order qubx_[A-Z]+-USDC_[0-9]+ recovered from snapshot", plain))
    assert 0 == second.returncode, output
    assert set() == working()
