"""``qubx run`` with one coin as a perpetual and as a spot market: the strategy trades both, and the venue has what it thinks."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.programs import QUBX, ROOT, process, started_venue
from tests.waiting import PATIENCE_S, until

STRATEGY = """
import json, os
from pathlib import Path
from qubx.core.basics import DataType
from qubx.core.interfaces import IStrategy

class Both(IStrategy):
    def on_init(self, initializer):
        initializer.set_base_subscription(DataType.QUOTE)
        self.asked, self.deals = set(), {}

    def on_market_data(self, ctx, data):
        name = str(data.instrument)
        if name not in self.asked and ctx.quote(data.instrument):
            self.asked.add(name)
            ctx.trade(data.instrument, 0.2)
        report = {
            "deals": self.deals,
            "balances": {b.currency: round(b.total, 6) for b in ctx.get_balances()},
            "positions": {str(i): round(p.quantity, 8) for i, p in ctx.get_positions().items()},
        }
        path = Path(os.environ["REPORT"])
        path.with_suffix(".new").write_text(json.dumps(report))
        path.with_suffix(".new").rename(path)

    def on_execution(self, ctx, instrument, deal):
        self.deals[str(instrument)] = round(self.deals.get(str(instrument), 0.0) + deal.amount, 8)
"""


def test_a_strategy_holds_the_coin_and_the_perpetual_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "both.py").write_text(STRATEGY)
    report = tmp_path / "report.json"
    funds = ("--assets", "ETH=2,USDC=5000")
    with started_venue(tmp_path, "--markets", "ETH,ETH/USDC", *funds) as (url, markets):
        assert ["LIGHTER:SWAP:ETH-USDC", "LIGHTER:SPOT:ETH-USDC"] == markets
        exchange = {"connector": "lighter", "base_currency": "USDC", "universe": markets, "params": {"base_url": url}}
        logging = {"logger": "InMemoryLogsWriter", "position_interval": "10s", "portfolio_interval": "10s"}
        live = {"exchanges": {"LIGHTER": exchange}, "logging": logging}
        config = tmp_path / "config.yml"
        config.write_text(yaml.safe_dump({"name": "both", "strategy": "both.Both", "live": live}))
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
            "REPORT": str(report),
        }
        command = [*QUBX, "run", str(config), "-a", str(tmp_path / "accounts.toml")]
        with process(command, cwd=tmp_path, env=environment) as running:
            until(
                lambda: seen(report) == EXPECTED and told_money(report) == money(url), running, shown=report.read_text
            )
            running.send_signal(signal.SIGINT)
            output, _ = running.communicate(timeout=PATIENCE_S)
        body = account(url)
    assert "Traceback" not in output
    assert "2.19996000" == next(row["balance"] for row in body["assets"] if row["symbol"] == "ETH")
    assert "0.2000" == body["positions"][0]["position"]


def account(url: str) -> dict[str, Any]:
    """Ask the venue."""
    body: dict[str, Any] = httpx.get(f"{url}/api/v1/account", params={"by": "index", "value": "100"}).json()
    row: dict[str, Any] = body["accounts"][0]
    return row


def money(url: str) -> float:
    """Give the collateral and the spot balance of USDC at the venue."""
    body = account(url)
    spot = next(row["balance"] for row in body["assets"] if row["symbol"] == "USDC")
    return round(float(spot) + float(body["collateral"]), 6)


def told_money(report: Path) -> float:
    """Give what the strategy saw of it."""
    total: float = json.loads(report.read_text())["balances"]["USDC"]
    return total


def seen(report: Path) -> dict[str, Any] | None:
    """Read what the strategy has had and holds; a market buyer of the coin pays the fee in it."""
    if not report.exists():
        return None
    told = json.loads(report.read_text())
    return {"deals": told["deals"], "positions": told["positions"]}


EXPECTED = {
    "deals": {"LIGHTER:SWAP:ETH-USDC": 0.2, "LIGHTER:SPOT:ETH-USDC": 0.2},
    "positions": {"LIGHTER:SWAP:ETH-USDC": 0.2, "LIGHTER:SPOT:ETH-USDC": 2.19996},
}
