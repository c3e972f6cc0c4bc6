"""One config subscribes to everything on fifty markets: ``qubx run --paper`` against the venue for a minute, no warning."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.programs import QUBX, ROOT, process, started_venue
from tests.waiting import PATIENCE_S, until

SECONDS = 60
MARKETS = 50

STRATEGY = """
import json, os, time
from pathlib import Path
from qubx.core.basics import DataType
from qubx.core.interfaces import IStrategy

TYPES = [
    DataType.ORDERBOOK[0.01, 20], DataType.QUOTE, DataType.TRADE, DataType.OHLC["1m"], DataType.FUNDING_RATE,
    DataType.FUNDING_PAYMENT, DataType.OPEN_INTEREST, DataType.LIQUIDATION, DataType.AGGREGATED_LIQUIDATIONS["1m"],
]

class Everything(IStrategy):
    def on_init(self, initializer):
        initializer.set_base_subscription(DataType.ORDERBOOK[0, 1])
        self.counts = {}
        self.newest = {}
        self.due = 0.0

    def on_start(self, ctx):
        for data_type in TYPES:
            ctx.subscribe(data_type, ctx.instruments)
        ctx.commit()

    def on_market_data(self, ctx, data):
        key = f"{data.type} {data.instrument.market_type} {data.instrument.symbol}"
        self.counts[key] = self.counts.get(key, 0) + 1
        now = time.monotonic()
        self.newest[key] = now
        if now > self.due:
            self.due = now + 1.0
            path = Path(os.environ["REPORT"])
            ages = {key: now - then for key, then in self.newest.items()}
            path.with_suffix(".new").write_text(json.dumps({"counts": self.counts, "ages": ages}))
            path.with_suffix(".new").rename(path)
"""


def settings(url: str, symbols: list[str], folder: Path) -> dict[str, Any]:
    return {
        "name": "everything",
        "strategy": "everything.Everything",
        "live": {
            "exchanges": {
                "LIGHTER": {
                    "connector": "lighter",
                    "base_currency": "USDC",
                    "universe": symbols,
                    "params": {"base_url": url},
                }
            },
            "logging": {
                "logger": "InMemoryLogsWriter",
                "position_interval": "10s",
                "portfolio_interval": "10s",
                "args": {"log_folder": str(folder / "logs")},
            },
        },
    }


def test_every_type_of_fifty_markets_flows_for_a_minute_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "everything.py").write_text(STRATEGY)
    report = tmp_path / "report.json"
    with started_venue(tmp_path, "--markets", str(MARKETS)) as (url, markets):
        assert MARKETS == len(markets)
        (tmp_path / "config.yml").write_text(yaml.safe_dump(settings(url, markets, tmp_path)))
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
            "REPORT": str(report),
        }
        command = [*QUBX, "run", str(tmp_path / "config.yml"), "--paper"]
        with process(command, cwd=tmp_path, env=environment) as running:
            until(report.exists, running)
            try:
                running.wait(SECONDS)
            except subprocess.TimeoutExpired:
                running.send_signal(signal.SIGINT)
            output, _ = running.communicate(timeout=PATIENCE_S)
    seen = json.loads(report.read_text())
    swaps = [market for market in markets if ":SWAP:" in market]
    for data_type in ("orderbook", "quote", "trade", "ohlc(1m)"):
        assert_flows(seen, data_type, swaps)
    for data_type in ("funding_rate", "open_interest"):
        assert_flows(seen, data_type, swaps)
    noise = [line for line in output.splitlines() if re.search(r"WARNING|ERROR|CRITICAL|Traceback", line)]
    assert [] == [line for line in noise if "lighter" in line.lower() or "stale" in line.lower()], "\n".join(noise)
    assert 0 == running.returncode, output[-2000:]


def assert_flows(seen: dict[str, Any], data_type: str, markets: list[str]) -> None:
    """Insist that each market had the type, and had it to the end."""
    for market in markets:
        _, market_type, symbol = market.split(":")
        key = f"{data_type} {market_type} {symbol}"
        assert key in seen["counts"], f"{key} never came"
        assert seen["ages"][key] < 30, f"{key} is stale"
