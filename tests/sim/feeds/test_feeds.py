"""Feeds: the synthetic market keeps its promises, recordings are played as they were captured."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from qubx_lighter import recording
from qubx_lighter.constants import TimeInForce
from qubx_lighter.errors import ConfigurationError
from qubx_lighter.protocol import wire
from qubx_lighter.sim.app import open_venue
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.feeds import replay
from qubx_lighter.sim.feeds.synthetic import MAKER_ACCOUNT, STEPS_A_SECOND, TAKER_ACCOUNT, Synthetic
from qubx_lighter.sim.markets import listing
from qubx_lighter.sim.model.commands import Command, CreateAccount, CreateMarket, PlaceOrder, Result
from tests.sim.caller import ALICE, calling
from tests.sim.desk import START

# --- synthetic --------------------------------------------------------------------------------------------------------


class Market:
    """An engine with the synthetic market in it, and a clock that each step moves on."""

    def __init__(self, seed: int = 0, names: tuple[str, ...] = (), engine: Engine | None = None) -> None:
        self.engine = engine or Engine()
        self.now = max(START, self.engine.now)
        self.commands: list[Command] = []
        self.results: list[Result] = []
        if engine is None:
            for spec in listing.choose(names):
                self.execute(CreateMarket(spec))
        self.feed = Synthetic(self.engine, self.execute, list(self.engine.markets.values()), seed)

    def execute(self, command: Command) -> Result:
        self.commands.append(command)
        result = self.engine.apply(command, self.now)
        self.results.append(result)
        self.engine.drain()
        return result

    def step(self, times: int) -> None:
        for _ in range(times):
            self.now += 10**6 // STEPS_A_SECOND
            self.feed.step()


def test_every_market_has_twenty_levels_a_side_at_any_time() -> None:
    market = Market()
    for _ in range(200):
        for market_id in market.engine.markets:
            book = market.engine.book(market_id)
            assert 20 <= len(list(book.levels(is_ask=True)))
            assert 20 <= len(list(book.levels(is_ask=False)))
        market.step(1)


def test_no_command_of_the_feed_is_refused() -> None:
    market = Market()
    market.step(1_200)  # a minute
    assert set() == {(result.code, result.message) for result in market.results if not result.ok}


def test_markets_trade_and_their_prices_walk() -> None:
    market = Market()
    market.step(400)
    for market_id, spec in market.engine.markets.items():
        trades = market.engine.trades(market_id=market_id)
        assert 40 <= len(trades), spec.symbol
        assert {True, False} == {trade.is_maker_ask for trade in trades}
        assert 10 <= len({trade.price_ticks for trade in trades})
        assert all(abs(trade.price_ticks / spec.initial_price_ticks - 1) < 0.01 for trade in trades)
        accounts = {account for trade in trades for account in (trade.ask_account, trade.bid_account)}
        assert {MAKER_ACCOUNT, TAKER_ACCOUNT} == accounts


def test_equal_seeds_give_equal_markets() -> None:
    one, same, other = Market(5), Market(5), Market(6)
    for market in (one, same, other):
        market.step(100)
    assert one.commands == same.commands
    assert one.commands != other.commands


@pytest.mark.parametrize("name", ["ETH", "BTC", "SOL", "HYPE"])
def test_who_quotes_at_the_touch_is_filled_within_seconds(name: str) -> None:
    """Post-only on both sides of the touch, looked at once a second, for 20 s."""
    market = Market(3, (name,))
    (spec,) = market.engine.markets.values()
    market.execute(CreateAccount(ALICE, "0x1", 10**10))
    lots = max(
        spec.min_base_lots, 200 * 10**6 // market.engine.quote_micro(spec.market_id, spec.initial_price_ticks, 1)
    )
    for _ in range(20):
        for side in (False, True):
            touch = next(market.engine.book(spec.market_id).levels(side))[0]
            own = [order for order in market.engine.active_orders(ALICE) if order.is_ask == side]
            if not own:
                market.execute(
                    PlaceOrder(ALICE, spec.market_id, side, lots, touch, time_in_force=int(TimeInForce.POST_ONLY))
                )
        market.step(STEPS_A_SECOND)
    fills = market.engine.trades(account_index=ALICE)
    assert 10 <= len(fills)
    assert {True, False} == {trade.bid_account == ALICE for trade in fills}


def test_a_feed_that_comes_back_takes_its_old_orders_away() -> None:
    first = Market(1)
    first.step(50)
    again = Market(1, engine=first.engine)
    again.step(50)
    for market_id in again.engine.markets:
        resting = again.engine.active_orders(MAKER_ACCOUNT, market_id)
        assert 50 == len(resting)
        mark = again.engine.mark_price_ticks(market_id)
        assert all(abs(order.price_ticks / mark - 1) < 0.01 for order in resting)


async def test_the_feed_keeps_its_pace_and_leaves_out_what_it_missed() -> None:
    market = Market(names=("ETH",))
    now = 100.0
    woken: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds + (3.0 if len(woken) == 2 else 0.001)  # the third pause is far too long
        woken.append(round(now - 100.0, 3))
        if len(woken) == 6:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await market.feed.run(clock=lambda: now, sleep=sleep)
    assert [0.051, 0.101, 3.15, 3.151, 3.201, 3.251] == woken


# --- recordings -------------------------------------------------------------------------------------------------------


def book_text(nonce: int, at_ms: int, kind: str = "update", market_id: int = 7) -> str:
    return (
        f'{{"channel":"order_book:{market_id}", "order_book":{{"asks":[{{"price":"12.345","size":"0.10"}}],"bids":[],'
        f'"nonce":{nonce}}},"timestamp":{at_ms},"type":"{kind}/order_book"}}'
    )


TEXTS = [book_text(0, 1_000, "subscribed"), *(book_text(step, 1_000 + 100 * step) for step in range(1, 6))]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "frames.jsonl"
    path.write_text("\n".join(TEXTS) + "\n")
    return path


class FakeTime:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.now = 50.0
        self.sent: list[tuple[float, str]] = []

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    async def send(self, text: str) -> None:
        self.sent.append((round(self.now - 50, 6), text))

    async def play(self, recording: replay.Recording, speed: float) -> list[float]:
        await recording.play(self.send, speed, clock=lambda: self.now, sleep=self.sleep)
        return [time for time, _ in self.sent]


@pytest.mark.parametrize(
    ("speed", "times"),
    [
        (1.0, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        (10.0, [0.0, 0.01, 0.02, 0.03, 0.04, 0.05]),
        (0.5, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.0, [0.0] * 6),
    ],
)
async def test_frames_leave_when_they_did_at_any_speed(file: Path, speed: float, times: list[float]) -> None:
    fake = FakeTime()
    assert times == pytest.approx(await fake.play(replay.read([file])["order_book:7"], speed))
    assert TEXTS == [text for _, text in fake.sent]


async def test_a_slow_reader_delays_but_loses_nothing(file: Path) -> None:
    fake = FakeTime()

    async def send(text: str) -> None:
        await fake.send(text)
        fake.now += 0.25

    await replay.read([file])["order_book:7"].play(send, 1.0, clock=lambda: fake.now, sleep=fake.sleep)
    assert TEXTS == [text for _, text in fake.sent]
    assert [0.0, 0.25, 0.5, 0.75, 1.0, 1.25] == pytest.approx([time for time, _ in fake.sent])


async def test_a_capture_that_begins_in_the_middle_is_acknowledged_first(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(book_text(5, 1_000) + "\n")
    fake = FakeTime()
    await fake.play(replay.read([tmp_path / "a.jsonl"])["order_book:7"], 0)
    assert ['{"channel":"order_book:7","type":"subscribed/order_book"}', book_text(5, 1_000)] == [
        text for _, text in fake.sent
    ]


def test_files_are_sorted_by_channel_whatever_their_packing(tmp_path: Path) -> None:
    trades = [
        (
            '{"channel":"trade:7","type":"subscribed/trade","trades":[{"price":"1.5","size":"2","timestamp":40},'
            '{"price":"1.5","size":"2","timestamp":60}],"liquidation_trades":null}'
        ),
        '{"channel":"trade:7","type":"update/trade","trades":[],"liquidation_trades":null}',
    ]
    trades.insert(0, trades[1])  # says not when it was sent
    (tmp_path / "a.jsonl").write_text("\n".join((TEXTS[0], *trades[:2], "", TEXTS[1])))
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as packed:
        packed.write(trades[2] + "\n")
    recordings = replay.read([tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"])
    assert {"order_book:7": TEXTS[:2], "trade:7": trades} == {key: one.texts for key, one in recordings.items()}
    assert ([1_000, 1_100], [60, 60, 60]) == (recordings["order_book:7"].times, recordings["trade:7"].times)


@pytest.mark.parametrize("line", ["no json", "[]", '{"type":"pong"}', '{"channel":"a:1","timestamp":"x"}'])
def test_what_is_no_frame_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "bad.jsonl").write_text(f"{TEXTS[0]}\n{line}\n")
    with pytest.raises(ConfigurationError, match=r"bad\.jsonl, line 2"):
        replay.read([tmp_path / "bad.jsonl"])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="missing"):
        replay.read([tmp_path / "missing.jsonl"])
    (tmp_path / "torn.jsonl.gz").write_bytes(gzip.compress(TEXTS[0].encode())[:-9])
    with pytest.raises(ConfigurationError, match=r"torn.* holds no whole frame"):
        replay.read([tmp_path / "torn.jsonl.gz"])
    (tmp_path / "broken.jsonl.gz").write_bytes(gzip.compress(TEXTS[0].encode())[:-4] + b"1234")
    with pytest.raises(ConfigurationError, match="broken"):
        replay.read([tmp_path / "broken.jsonl.gz"])


def recorded(*lines: tuple[int, str]) -> bytes:
    return recording.member(b"".join(recording.frame_line(at_ns, text.encode()) for at_ns, text in lines))


def test_frames_of_a_recording_arrived_when_it_says(tmp_path: Path) -> None:
    """In whatever order the venue dated them; facts of the recorder are no frames, a torn end is none either."""
    fact = recording.member(recording.fact_line(4 * 10**9, event="lost"))
    whole = recorded((5 * 10**9, TEXTS[0]), (5_250_000_000, TEXTS[1])) + fact + recorded((6 * 10**9, TEXTS[2]))
    torn = recorded((7 * 10**9, TEXTS[3]))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(whole + torn[:-20])
    assert (TEXTS[:3], [5_000, 5_250, 6_000]) == played_from(path)


def played_from(path: Path) -> tuple[list[str], list[int]]:
    one = replay.read([path])["order_book:7"]
    return one.texts, one.times


def test_the_files_of_a_rotated_recording_are_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    for number, text in enumerate(TEXTS):
        recording.numbered(path, number).write_bytes(recorded((10**9 * (number + 1), text)))
    recording.numbered(path, len(TEXTS)).write_bytes(recording.member(recording.fact_line(10**10, event="end")))
    assert (TEXTS, [1_000, 2_000, 3_000, 4_000, 5_000, 6_000]) == played_from(path)


def test_a_clock_that_was_set_back_holds_no_frame_up_and_hurries_none(tmp_path: Path) -> None:
    """In all channels alike, and in the next file too; another recording has its own clock."""
    path, other = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"
    trade = '{"channel":"trade:7","trades":[],"type":"update/trade"}'
    clock = [5_000, 5_100, 2_000, 2_250, 1_000, 1_100]
    lines = [(at_ms * 10**6, text) for at_ms, text in zip(clock, [*TEXTS[:2], trade, *TEXTS[2:5]], strict=True)]
    recording.numbered(path, 0).write_bytes(recorded(*lines[:4]))
    recording.numbered(path, 1).write_bytes(recorded(*lines[4:]))
    other.write_bytes(recorded((3_000 * 10**6, book_text(1, 1, market_id=8))))
    recordings = replay.read([path, other])
    assert {
        "order_book:7": [5_000, 5_100, 5_350, 5_350, 5_450],
        "trade:7": [5_100],
        "order_book:8": [3_000],
    } == {channel: one.times for channel, one in recordings.items()}


def test_a_recorded_frame_keeps_the_blanks_at_its_ends(tmp_path: Path) -> None:
    text = f" {TEXTS[0]}\t "
    (tmp_path / "a.jsonl.gz").write_bytes(recorded((1, text)))
    assert [text] == replay.read([tmp_path / "a.jsonl.gz"])["order_book:7"].texts


def stats_text(market: str, mark: str, kind: str = "update", name: str = "market_stats", timestamp: int = 9) -> str:
    figures = f'{{"market_id":{market},"mark_price":"{mark}","daily_price_change":-5.831585722215143}}'
    return f'{{"channel":"{name}:{market}","{name}":{figures},"timestamp":{timestamp},"type":"{kind}/{name}"}}'


def test_figures_of_single_markets_are_those_of_all_in_the_order_of_their_arrival(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    spot = stats_text("2048", "7", "subscribed", "spot_market_stats")
    lines = [
        (1, stats_text("0", "1.50", "subscribed", timestamp=11)),
        (2, stats_text("1", "30.0", "subscribed", timestamp=12)),
        (3, spot),
        (4, stats_text("1", "31.0", timestamp=14)),
        (5, stats_text("0", "1.60", timestamp=15)),
        (6, '{"channel":"market_stats:0","type":"update/market_stats"}'),
        (7, stats_text("1", "32.0", "subscribed", timestamp=17)),  # after a reconnect
    ]
    path.write_bytes(recorded(*((second * 10**9, text) for second, text in lines)))
    recordings = replay.read([path])
    text = (
        '{{"channel":"market_stats:all","market_stats":{{"{0}":{{"market_id":{0},"mark_price":"{1}",'
        '"daily_price_change":-5.831585722215143}}}},"timestamp":{2},"type":"{3}/market_stats"}}'
    )
    assert [
        (1_000 * second, text.format(market, mark, 10 + second, kind))
        for second, market, mark, kind in (
            (1, 0, "1.50", "subscribed"),
            (2, 1, "30.0", "update"),
            (4, 1, "31.0", "update"),
            (5, 0, "1.60", "update"),
            (7, 1, "32.0", "update"),
        )
    ] == list(zip(recordings["market_stats:all"].times, recordings["market_stats:all"].texts, strict=True))
    assert [spot.replace(":2048", ":all", 1).replace(':{"market', ':{"2048":{"market').replace("},", "}},", 1)] == (
        recordings["spot_market_stats:all"].texts
    )
    assert [text for _, text in lines if "market_stats:1" in text] == recordings["market_stats:1"].texts


def test_captured_figures_of_all_markets_are_left_as_they_are(tmp_path: Path) -> None:
    everything = '{"channel":"market_stats:all","market_stats":{"0":{"market_id":0}},"type":"subscribed/market_stats"}'
    (tmp_path / "a.jsonl.gz").write_bytes(recorded((1, stats_text("0", "1.50")), (2, everything)))
    assert [everything] == replay.read([tmp_path / "a.jsonl.gz"])["market_stats:all"].texts


async def test_a_recording_is_played_at_the_pace_of_its_arrival(tmp_path: Path) -> None:
    path, fake = tmp_path / "a.jsonl.gz", FakeTime()
    path.write_bytes(recorded((10**18, TEXTS[0]), (10**18 + 2 * 10**9, TEXTS[1]), (10**18 + 5 * 10**9, TEXTS[2])))
    assert [0.0, 2.0, 5.0] == pytest.approx(await fake.play(replay.read([path])["order_book:7"], 1.0))


def test_markets_have_the_decimals_of_their_frames(tmp_path: Path) -> None:
    named = {"price": "10.5", "size": "3", "market_symbol": "DOGE", "timestamp": 1}
    lines: list[dict[str, Any]] = [
        {"channel": "trade:9", "trades": [named], "type": "update/trade"},
        {"channel": "ticker:8", "ticker": {"a": {"price": "", "size": ""}, "b": {"price": "2.50", "size": "1.0"}}},
        {"channel": "order_book:0", "order_book": {"asks": [{"price": "4332.75", "size": "0.6998"}], "bids": []}},
        {"channel": "market_stats:all", "market_stats": {}},
        {"channel": "trade:24", "trades": [], "type": "subscribed/trade"},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(line, separators=(",", ":")) for line in lines))
    specs = replay.market_specs(replay.read([tmp_path / "a.jsonl"]).values())
    assert [
        (0, "ETH", 2, 4, 50, 433_275),
        (8, "MARKET8", 2, 1, 1, 250),
        (9, "DOGE", 1, 0, 1, 105),
        (24, "HYPE", 4, 2, 50, 400_000),
    ] == [
        (
            spec.market_id,
            spec.symbol,
            spec.price_decimals,
            spec.size_decimals,
            spec.min_base_lots,
            spec.initial_price_ticks,
        )
        for spec in specs
    ]


@pytest.mark.parametrize("channel", ["candle:1:1m", "mark_price_candle:1:1h", "market_stats:1"])
def test_a_known_market_is_opened_for_its_candles_or_figures_alone(tmp_path: Path, channel: str) -> None:
    """Of another one nothing tells the decimals; an account with a market's number is none."""
    kind, _, more = channel.partition(":1")
    names = (channel, f"{kind}:77{more}", "account_all:0", "height")
    lines = (f'{{"channel":"{name}","{kind}":{{}},"type":"update/{name.partition(":")[0]}"}}' for name in names)
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert [listing.KNOWN["BTC"]] == replay.market_specs(replay.read([tmp_path / "a.jsonl"]).values())


# --- recordings on the stream -----------------------------------------------------------------------------------------


async def test_every_subscriber_gets_the_whole_recording_unchanged(file: Path) -> None:
    async with open_venue(replay_files=[file], speed=0) as venue, calling(venue) as one, calling(venue) as other:
        for caller in (one, other):
            await caller.subscribe("order_book/7")
            for _ in TEXTS[1:]:
                await caller.read()
            assert TEXTS == caller.texts[1:]
        assert {"channel": "order_book:7", "type": "unsubscribed"} == await one.ask(
            type="unsubscribe", channel="order_book/7"
        )
        await one.subscribe("order_book/7")
        assert TEXTS[0] == one.texts[-1]
        body = await one.body("/api/v1/orderBookDetails")
        assert [(7, 3, 2)] == [
            (row["market_id"], row["supported_price_decimals"], row["supported_size_decimals"])
            for row in body["order_book_details"]
        ]


async def test_unsubscribe_ends_a_playback(file: Path) -> None:
    async with open_venue(replay_files=[file], speed=0.001) as venue, calling(venue) as caller:
        await caller.subscribe("order_book/7")
        playing = next(iter(venue.server._connections))._playing["order_book:7"]
        assert "unsubscribed" == (await caller.ask(type="unsubscribe", channel="order_book/7"))["type"]
        assert {"type": "pong"} == await caller.ask(type="ping")
        assert playing.cancelled()


@pytest.mark.parametrize("name", ["order_book_0_eth.jsonl.gz", "trade_0_eth.jsonl.gz", "market_stats_all.jsonl.gz"])
async def test_real_captures_are_played_to_the_last_byte(wire_dir: Path, name: str) -> None:
    path = wire_dir / name
    with gzip.open(path) as file:
        captured = [line.strip().decode() for line in file]
    channel = wire.route(captured[0].encode()).channel
    async with open_venue(replay_files=[path], speed=0) as venue, calling(venue) as caller:
        await caller.write(type="subscribe", channel=channel.replace(":", "/"))
        assert captured == [await caller.socket.receive_str(timeout=5) for _ in captured]
