"""The lines that the documents have a strategy say: one run through Qubx says them all, on a venue whose prices are set."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.documents import Block, all_blocks
from tests.live import BTC, ETH, US, LiveVenue
from tests.programs import QUBX, ROOT, process
from tests.waiting import PATIENCE_S, until

SNIPPETS = [block for block in all_blocks("python") if re.search(r"\bctx\b", block.text)]

STRATEGY = """
import json, os
from pathlib import Path
from qubx.core.basics import DataType
from qubx.core.interfaces import IStrategy

class Saying(IStrategy):
    def on_init(self, initializer):
        initializer.set_base_subscription(DataType.QUOTE)
        self.left = json.loads(Path(os.environ["SNIPPETS"]).read_text())
        self.told = {"said": [], "failed": {}, "refused": []}
        self.order, self.texts = None, []

    def on_market_data(self, ctx, data):
        by_base = {instrument.base: instrument for instrument in ctx.instruments}
        if len(by_base) < 2 or any(ctx.quote(instrument) is None for instrument in by_base.values()):
            return
        if self.order is None:
            self.order = ctx.trade(by_base["BTC"], 0.001, price=90_000.0)
        elif self.left and self.done(ctx, by_base["ETH"]):
            where, text = self.left.pop(0)
            eth = by_base["ETH"]
            try:
                exec(text, {"ctx": ctx, "instrument": eth, "eth": eth, "order": self.order})
            except Exception as error:
                self.told["failed"][where] = repr(error)
            self.told["said"].append(where)
            self.texts.append(text)
        path = Path(os.environ["REPORT"])
        path.with_suffix(".new").write_text(json.dumps(self.told))
        path.with_suffix(".new").rename(path)

    def done(self, ctx, eth):
        mode = ctx.get_instrument_leverage(eth) == 5 and ctx.get_margin_mode(eth) == "isolated"
        held = ctx.get_position(eth).quantity > 0
        return (mode or not self.says("set_margin_mode")) and (held or not self.says("ctx.trade"))

    def says(self, word):
        return any(word in text for text in self.texts)

    def on_error(self, ctx, error):
        self.told["refused"].append(str(error))
"""


# Five times the margin at 4,000, an entry of 0.5 filled, 100.25 added and 50 taken out, 5 sent to the spot purse.
EXPECTED = {
    "leverage": "20.00",
    "isolated": 1,
    "position": "0.5000",
    "margin": 450,
    "spot": ["5.000000"],
    "orders": 0,
}


def turn(block: Block) -> tuple[bool, bool, int]:
    """Order the snippets: leverage and groups, then what needs a position, and last what ends all orders."""
    return "cancel_all_orders" in block.text, "connector_of" in block.text, block.line


def test_a_strategy_says_what_the_documents_have_it_say(tmp_path: Path) -> None:
    (tmp_path / "saying.py").write_text(STRATEGY)
    snippets = sorted(SNIPPETS, key=turn)
    (tmp_path / "snippets.json").write_text(json.dumps([(block.where, block.text) for block in snippets]))
    report = tmp_path / "report.json"
    venue = LiveVenue(tmp_path)
    for market_id, bid, ask in ((ETH, 399_900, 400_000), (BTC, 1_000_000, 1_000_100)):
        venue.quote(market_id, bid, ask)
    exchange = {
        "connector": "lighter",
        "base_currency": "USDC",
        "universe": ["BTC-USDC", "ETH-USDC"],
        "params": {"base_url": venue.venue.url},
    }
    live = {"exchanges": {"LIGHTER": exchange}, "logging": {"logger": "InMemoryLogsWriter"}}
    config = tmp_path / "config.yml"
    config.write_text(yaml.safe_dump({"name": "saying", "strategy": "saying.Saying", "live": live}))
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "REPORT": str(report),
        "SNIPPETS": str(tmp_path / "snippets.json"),
    }
    command = [*QUBX, "run", str(config), "-a", str(venue.accounts_file)]
    with process(command, cwd=tmp_path, env=environment) as running:
        until(
            lambda: len(said(report)["said"]) == len(snippets) and effects(venue.venue.url) == EXPECTED,
            running,
            every_s=0.2,
            meanwhile=lambda: venue.quote(ETH, 399_900, 400_000, lots=1_000),  # it moves nothing, and is shown
            shown=lambda: (said(report), effects(venue.venue.url)),
        )
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=PATIENCE_S)
    venue.close()
    told = said(report)
    assert {"failed": {}, "refused": []} == {name: told[name] for name in ("failed", "refused")}
    assert "Traceback" not in output
    assert 0 == running.returncode, output


def effects(url: str) -> dict[str, Any]:
    """Read at the venue what the snippets change."""
    answer = httpx.get(f"{url}/api/v1/account", params={"by": "index", "value": str(US)}).json()["accounts"][0]
    eth = next((row for row in answer["positions"] if ETH == row["market_id"]), {})
    return {
        "leverage": eth.get("initial_margin_fraction"),
        "isolated": eth.get("margin_mode"),
        "position": eth.get("position"),
        "margin": 5 * round(float(eth.get("allocated_margin", 0)) / 5),  # at the mark price, which is near 4,000
        "spot": [row["balance"] for row in answer["assets"] if row["symbol"] == "USDC"],
        "orders": answer["total_order_count"],
    }


def said(report: Path) -> dict[str, Any]:
    """Read what the strategy has said."""
    return json.loads(report.read_text()) if report.exists() else {"said": [], "failed": {}, "refused": []}
