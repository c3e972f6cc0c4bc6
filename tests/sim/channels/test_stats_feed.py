"""Mark and index prices, open interest and funding of every market, as the venue's channel tells them."""

from __future__ import annotations

import json
from typing import Any

from qubx_lighter.protocol import wire
from qubx_lighter.sim.channels.publisher import Publisher
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.feeds.synthetic import Synthetic
from qubx_lighter.sim.markets import listing
from qubx_lighter.sim.model.commands import CreateMarket

HOUR_US = 3_600_000_000


class Rig:
    """A venue whose clock the test moves, and a subscriber."""

    def __init__(self) -> None:
        self.now = 490_000 * HOUR_US
        self.engine = Engine(seed=1)
        self.channels = Publisher(self.engine, lambda: self.now)
        self.texts: list[str] = []
        specs = listing.choose(["ETH", "BTC"])
        for spec in specs:
            self.execute(CreateMarket(spec))
        self.feed = Synthetic(self.engine, self.execute, specs, seed=1)

    def execute(self, command: Any) -> Any:
        return self.engine.apply(command, self.now)

    def send(self, text: str) -> None:
        self.texts.append(text)

    def frames(self) -> list[dict[str, Any]]:
        texts, self.texts = self.texts, []
        return [json.loads(text) for text in texts]


def test_a_subscription_begins_with_every_market_and_goes_on_with_what_changed() -> None:
    rig = Rig()
    rig.channels.subscribe(rig.channels.find("market_stats/all"), rig)
    (first,) = rig.frames()
    assert ("market_stats:all", "subscribed/market_stats") == (first["channel"], first["type"])
    assert ["0", "1"] == list(first["market_stats"])
    rig.channels.refresh_stats()
    rig.frames()
    rig.channels.refresh_stats()
    assert [] == rig.frames(), "nothing has changed"
    before = rig.engine.mark_price_ticks(0)
    while rig.engine.mark_price_ticks(0) == before:
        rig.now += 50_000
        rig.feed.step()
    rig.channels.refresh_stats()
    (update,) = rig.frames()
    assert "update/market_stats" == update["type"]
    assert f"{rig.engine.mark_price_ticks(0) / 100:.2f}" == update["market_stats"]["0"]["mark_price"]


def test_one_market_has_a_channel_of_its_own() -> None:
    rig = Rig()
    rig.channels.subscribe(rig.channels.find("market_stats/1"), rig)
    (first,) = rig.frames()
    assert ("market_stats:1", "BTC") == (first["channel"], first["market_stats"]["symbol"])


def test_figures_agree_with_the_engine_and_with_the_history_of_fundings() -> None:
    rig = Rig()
    for _ in range(200):
        rig.now += 50_000
        rig.feed.step()
    rig.channels.subscribe(rig.channels.find("market_stats/all"), rig)
    frame = wire.decode(wire.MarketStatsFrame, rig.texts[0].encode())
    row = frame.market_stats["0"]
    lots, ticks = rig.engine.open_interest_lots(0), rig.engine.mark_price_ticks(0)
    assert lots > 0
    assert round(lots * ticks / 1e6, 6) == row.open_interest
    hour = rig.now // HOUR_US
    history = rig.engine.history(0)
    premium = history.index.at(rig.now)
    assert (history.funding_rate(hour) / 1e4, premium.estimate_ppm / 1e4, premium.ppm / 1e4) == (
        row.funding_rate,
        row.current_funding_rate,
        float(row.premium),
    )
    assert row.index_price != row.mark_price
    assert abs((row.mark_price / row.index_price - 1) * 100 - float(row.premium)) < 0.0003, "as far as ticks can tell"
    book = rig.engine.book(0)
    told = json.loads(rig.texts[0])["market_stats"]["0"]
    assert (book.best_bid_ticks, book.best_ask_ticks) == tuple(
        round(float(told[name]) * 100) for name in ("best_bid_price", "best_ask_price")
    )
    assert hour * 3_600_000 == row.funding_timestamp - row.funding_timestamp % 3_600_000
    rig.texts.clear()
    rig.now += HOUR_US
    rig.channels.refresh_stats()
    update = wire.decode(wire.MarketStatsFrame, rig.texts[0].encode())
    assert row.funding_timestamp + 3_600_000 == update.market_stats["0"].funding_timestamp
