"""Frames for the benchmarks: captured from the venue where they lie beside the repository, else generated from a seed.

A feed is what a connection would see: snapshots that answer subscribes, then updates of any number of markets. The
venue's present shape, a delta a market every 50 ms, is made of the captured deltas of 2025 by merging what fell into the
same 50 ms and numbering it as the venue numbers now.
"""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

CAPTURES: Final = Path(__file__).parents[2] / "shared" / "wire"
SEED: Final = 7
START_MS: Final = 1_760_041_996_000
BATCH_MS: Final = 50
PRICE_DECIMALS: Final = 2  # ETH's, and every generated market's
SIZE_DECIMALS: Final = 4

Book = tuple[dict[int, int], dict[int, int]]
"""Bids and asks: ticks -> lots."""

Tops = dict[int, tuple[float, float, float, float]]
"""Best bid, its size, best ask and its size, by market."""


@dataclass
class Feed:
    """Frames of one measurement.

    Attributes:
        snapshots: the answer to the subscribe of each channel, by ``order_book:0``.
        updates: what follows, in order.
        markets: ids in it.
    """

    snapshots: dict[str, bytes] = field(default_factory=dict)
    updates: list[bytes] = field(default_factory=list)
    markets: list[int] = field(default_factory=lambda: [0])
    _tops: dict[int, Tops] = field(default_factory=dict)

    def final_tops(self, updates: int) -> Tops:
        """Work out each market's best bid, its size, best ask and its size after so many updates, the plain way."""
        if updates not in self._tops:
            self._tops[updates] = _final_tops(self, updates)
        return self._tops[updates]

    @property
    def size(self) -> float:
        """Give the mean length of an update in bytes."""
        return sum(map(len, self.updates)) / len(self.updates)


def captured(name: str) -> Feed | None:
    """Read a captured channel; None where there are no captures."""
    path = CAPTURES / name
    if not path.exists():
        return None
    first, *rest = gzip.decompress(path.read_bytes()).splitlines()
    return Feed({json.loads(first)["channel"]: first}, rest)


def books() -> Feed:
    """Give ETH's book in the shape of 2025: small deltas as they happen."""
    return captured("order_book_0_eth.jsonl.gz") or generated_books(levels=4_000, updates=1_500, mean=4)


def batched_books() -> Feed:
    """Give ETH's book in today's shape: what changed in 50 ms, at once, chained by nonces."""
    source = captured("order_book_0_eth.jsonl.gz")
    return generated_books(levels=4_000, updates=1_000) if source is None else _batched(source)


def generated_books(*, levels: int, updates: int, markets: int = 1, mean: int = 10, seed: int = SEED) -> Feed:
    """Make books of ``levels`` a market in today's shape; the markets take turns.

    A delta has ``mean`` levels on average, nearly all near the touch, and now and then moves the best prices.
    """
    source = random.Random(seed)
    feed = Feed(markets=list(range(markets)))
    states: list[Book] = []
    for market in feed.markets:
        states.append(_book(source, levels, 433_000 + 10 * market))
        feed.snapshots[f"order_book:{market}"] = _book_frame("subscribed", market, START_MS, (0, 1), states[-1])
    for number in range(updates):
        market, turn = number % markets, number // markets
        changes = _changes(source, states[market], mean)
        sent_ms = START_MS + (turn + 1) * BATCH_MS
        feed.updates.append(_book_frame("update", market, sent_ms, (1 + 20 * turn, 21 + 20 * turn), changes))
    return feed


def tickers(updates: int = 2_000, markets: int = 1, first: int = 0, seed: int = SEED) -> Feed:
    """Make best prices; every one differs from the one before."""
    source = random.Random(seed)
    feed = Feed(markets=list(range(first, first + markets)))
    frames = []
    for number in range(updates + markets):
        market = first + number % markets
        bid = 433_000 + source.randrange(-500, 500)
        sides = {
            "a": {"price": _price(bid + 1), "size": _size(source.randrange(1, 99_999))},
            "b": {"price": _price(bid), "size": _size(source.randrange(1, 99_999))},
        }
        changed_us = (START_MS + number) * 1_000
        body = {
            "channel": f"ticker:{market}",
            "last_updated_at": changed_us,
            "nonce": 1_000 + number,
            "ticker": {"s": "ETH", **sides, "last_updated_at": changed_us},
            "timestamp": START_MS + number + 12,
        }
        frames.append(_encode(body | {"type": ("subscribed" if number < markets else "update") + "/ticker"}))
    feed.snapshots = {f"ticker:{market}": frames[market - first] for market in feed.markets}
    feed.updates = frames[markets:]
    return feed


def captured_trades() -> Feed:
    """Give ETH's trades as captured."""
    return captured("trade_0_eth.jsonl.gz") or trades(90)


def trades(updates: int = 2_000, seed: int = SEED) -> Feed:
    """Make trades in today's shape, some frames with several."""
    source = random.Random(seed)
    trade_id = 16_164_557_907
    feed = Feed({"trade:0": _trade_frame("subscribed", 0, [])})
    for number in range(updates):
        rows = []
        for _ in range(min(10, 1 + int(source.expovariate(1 / 1.2)))):
            trade_id += 1
            rows.append(_trade(source, trade_id, START_MS + number * BATCH_MS))
        feed.updates.append(_trade_frame("update", number + 1, rows))
    return feed


def market_stats() -> Feed:
    """Give every market's figures: captured, else generated."""
    feed = captured("market_stats_all.jsonl.gz") or _generated_stats()
    first = json.loads(feed.snapshots["market_stats:all"])
    feed.markets = sorted(int(market) for market in first["market_stats"])
    return feed


def mixed() -> Feed:
    """Weave all channels together, as their counts are; the best prices are those of another market than the book."""
    parts = [batched_books(), tickers(1_000, first=1), trades(400), market_stats()]
    feed = Feed(markets=parts[-1].markets)
    order = random.Random(SEED)
    waiting = [iter(part.updates) for part in parts]
    turns = [index for index, part in enumerate(parts) for _ in part.updates]
    order.shuffle(turns)
    for part in parts:
        feed.snapshots |= part.snapshots
    feed.updates = [next(waiting[turn]) for turn in turns]
    return feed


# --- books ------------------------------------------------------------------------------------------------------------


def apply(book: Book, frame: bytes) -> None:
    """Apply a frame to a plain book."""
    payload = json.loads(frame)["order_book"]
    for side, name in zip(book, ("bids", "asks"), strict=True):
        for level in payload[name] or []:
            ticks = round(float(level["price"]) * 10**PRICE_DECIMALS)
            lots = round(float(level["size"]) * 10**SIZE_DECIMALS)
            if lots:
                side[ticks] = lots
            else:
                side.pop(ticks, None)


def _final_tops(feed: Feed, updates: int) -> Tops:
    held: dict[str, Book] = {}
    for channel, raw in feed.snapshots.items():
        if channel.startswith("order_book:"):
            apply(held.setdefault(channel, ({}, {})), raw)
    for raw in feed.updates[:updates]:
        if raw.startswith(b'{"channel":"order_book:'):
            apply(held[raw[12 : raw.index(b'"', 12)].decode()], raw)
    tops = {}
    for channel, (bids, asks) in held.items():
        bid, ask = max(bids), min(asks)
        sizes = bids[bid] / 10**SIZE_DECIMALS, asks[ask] / 10**SIZE_DECIMALS
        tops[int(channel.partition(":")[2])] = (
            bid / 10**PRICE_DECIMALS, sizes[0], ask / 10**PRICE_DECIMALS, sizes[1],
        )  # fmt: skip
    return tops


def _batched(source: Feed) -> Feed:
    (channel, first), *_ = source.snapshots.items()
    snapshot = json.loads(first)
    start_ms = snapshot.get("timestamp", START_MS)
    full: Book = ({}, {})
    apply(full, first)
    feed = Feed({channel: _book_frame("subscribed", 0, start_ms, (0, 1), full)})
    batches: dict[int, dict[str, dict[int, int]]] = {}
    for raw in source.updates:
        frame = json.loads(raw)
        batch = batches.setdefault((frame["timestamp"] - start_ms) // BATCH_MS, {"bids": {}, "asks": {}})
        for side, levels in batch.items():
            for level in frame["order_book"][side] or []:
                ticks = round(float(level["price"]) * 10**PRICE_DECIMALS)
                levels[ticks] = round(float(level["size"]) * 10**SIZE_DECIMALS)
    nonce = 1
    for number, batch in batches.items():
        sent_ms = start_ms + (number + 1) * BATCH_MS
        feed.updates.append(_book_frame("update", 0, sent_ms, (nonce, nonce + 20), (batch["bids"], batch["asks"])))
        nonce += 20
    return feed


def _book(source: random.Random, levels: int, middle: int) -> Book:
    """Lay half the levels a side: dense near the touch, sparser away."""
    sides: Book = ({}, {})
    for side, sign in zip(sides, (-1, 1), strict=True):
        ticks = middle + sign
        while len(side) < levels // 2:
            side[ticks] = _lots(source)
            ticks += sign * (1 + int(source.random() * (1 + abs(ticks - middle) / 400)))
    return sides


def _changes(source: random.Random, book: Book, mean: int) -> Book:
    """Change a book, and give the levels that changed."""
    bids, asks = book
    changes: Book = ({}, {})
    if source.random() < 0.2:  # a trade takes the best level away
        side, change, best = (bids, changes[0], max(bids)) if source.random() < 0.5 else (asks, changes[1], min(asks))
        if len(side) > 10:
            del side[best]
            change[best] = 0
    best_bid, best_ask = max(bids), min(asks)
    for _ in range(1 + min(4 * mean, int(source.expovariate(1 / (mean - 1))))):
        sign, side, change, best, other = (
            (-1, bids, changes[0], best_bid, best_ask)
            if source.random() < 0.5
            else (1, asks, changes[1], best_ask, best_bid)
        )
        distance = int(source.expovariate(1 / 40)) - 1
        ticks = best + sign * distance
        if sign * (ticks - other) <= 0:
            continue
        lots = 0 if ticks in side and ticks != best and source.random() < 0.45 else _lots(source)
        change[ticks] = lots
        if lots:
            side[ticks] = lots
        else:
            del side[ticks]
        if lots and distance < 0:  # a better price; the other side must stay behind it
            best_bid, best_ask = (ticks, best_ask) if sign < 0 else (best_bid, ticks)
    return changes


def _book_frame(kind: str, market: int, sent_ms: int, nonces: tuple[int, int], book: Book) -> bytes:
    (begin, nonce), (bids, asks) = nonces, book
    changed_us = sent_ms * 1_000 - 9_000
    payload = {
        "code": 0,
        "asks": [{"price": _price(ticks), "size": _size(asks[ticks])} for ticks in sorted(asks)],
        "bids": [{"price": _price(ticks), "size": _size(bids[ticks])} for ticks in sorted(bids, reverse=True)],
        "offset": nonce,
        "nonce": nonce,
        "last_updated_at": changed_us,
        "begin_nonce": begin,
    }
    return _encode(
        {
            "channel": f"order_book:{market}",
            "last_updated_at": changed_us,
            "offset": nonce,
            "order_book": payload,
            "timestamp": sent_ms,
            "type": f"{kind}/order_book",
        }
    )


# --- the rest ---------------------------------------------------------------------------------------------------------


def _trade(source: random.Random, trade_id: int, time_ms: int) -> dict[str, Any]:
    lots, ticks = source.randint(1, 50_000), 433_000 + source.randint(-500, 500)
    ask, bid = 281_476_612_587_355 + trade_id % 9_999_999, 562_948_334_068_259 - trade_id % 9_999_999
    return {
        "trade_id": trade_id,
        "trade_id_str": str(trade_id),
        "tx_hash": f"{source.getrandbits(320):080x}",
        "type": "trade",
        "market_id": 0,
        "size": _size(lots),
        "price": _price(ticks),
        "usd_amount": f"{lots * ticks / 1e6:.6f}",
        "ask_id": ask,
        "ask_id_str": str(ask),
        "bid_id": bid,
        "bid_id_str": str(bid),
        "ask_client_id": source.getrandbits(40),
        "bid_client_id": source.getrandbits(40),
        "ask_account_id": source.randint(1, 500_000),
        "bid_account_id": source.randint(1, 500_000),
        "is_maker_ask": source.random() < 0.5,
        "block_height": 198_321_831 + trade_id % 1_000_000,
        "timestamp": time_ms,
        "taker_fee": 196,
        "maker_fee": 28,
        "transaction_time": time_ms * 1_000 + 65,
    }


def _trade_frame(kind: str, number: int, rows: list[dict[str, Any]]) -> bytes:
    nonce = 8_630_448_841 + number * 7
    return _encode(
        {"channel": "trade:0", "liquidation_trades": [], "nonce": nonce, "trades": rows, "type": f"{kind}/trade"}
    )


def _generated_stats(markets: int = 100, updates: int = 285) -> Feed:
    source = random.Random(SEED)
    prices = [source.randrange(1_000, 500_000) for _ in range(markets)]

    def row(market: int) -> dict[str, Any]:
        prices[market] += source.randrange(-9, 10)
        price = _price(prices[market])
        return {
            "market_id": market,
            "index_price": price,
            "mark_price": price,
            "open_interest": f"{source.random() * 1e8:.6f}",
            "open_interest_limit": "72057594037927936.000000",
            "funding_clamp_small": "0.0500",
            "funding_clamp_big": "4.0000",
            "last_trade_price": price,
            "current_funding_rate": "0.0012",
            "funding_rate": "0.0012",
            "funding_timestamp": START_MS // 3_600_000 * 3_600_000 + 2,
            "daily_base_token_volume": 8819436.31,
            "daily_quote_token_volume": 391974018.74585,
            "daily_price_low": 42.3551,
            "daily_price_high": 46.8716,
            "daily_price_change": -5.831585722215143,
        }

    def frame(kind: str, changed: list[int]) -> bytes:
        rows = {str(market): row(market) for market in changed}
        return _encode({"channel": "market_stats:all", "market_stats": rows, "type": f"{kind}/market_stats"})

    feed = Feed({"market_stats:all": frame("subscribed", list(range(markets)))})
    feed.updates = [
        frame("update", sorted(source.sample(range(markets), source.randint(1, 40)))) for _ in range(updates)
    ]
    return feed


def _price(ticks: int) -> str:
    return f"{ticks // 10**PRICE_DECIMALS}.{ticks % 10**PRICE_DECIMALS:0{PRICE_DECIMALS}d}"


def _size(lots: int) -> str:
    return f"{lots // 10**SIZE_DECIMALS}.{lots % 10**SIZE_DECIMALS:0{SIZE_DECIMALS}d}"


def _lots(source: random.Random) -> int:
    return max(1, int(source.lognormvariate(9.5, 1.6)))


def _encode(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
