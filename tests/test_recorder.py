"""Recordings: exact bytes, torn tails, rotation, a disk that is slow or full, and the way back through the venue."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qubx_lighter import recorder, recording
from qubx_lighter.errors import ConfigurationError
from qubx_lighter.recorder import Recorder, Writer
from qubx_lighter.recording import Line
from qubx_lighter.sim.app import open_venue
from qubx_lighter.sockets.dispatch import Handler, Listener, Lost
from tests.programs import QUBX_LIGHTER, ROOT, process, started_venue
from tests.sim.caller import calling
from tests.waiting import until

FRAMES = [
    b'{"channel":"order_book:7","nonce":1,"type":"update/order_book"}',
    b'{"channel": "trade:7",\n "type": "update/trade"}',
    '{"channel":"ticker:7","s":"ümläut <b>","type":"update/ticker"}'.encode(),
    b'{"channel":"ticker:7","s":"\xff\xfe","type":"update/ticker"}',
    b"#not a fact",
    b'"a string"',
    b"",
]


def packed(members: list[list[bytes]]) -> bytes:
    return b"".join(recording.member(b"".join(lines)) for lines in members)


def read(path: Path) -> list[Line]:
    parsed = [recording.parse(line) for line in recording.lines(path)]
    return [line for line in parsed if line is not None]


def frames(path: Path) -> list[bytes]:
    return [line.frame for line in read(path) if line.frame is not None]


# --- the format -------------------------------------------------------------------------------------------------------


def test_frames_come_back_byte_for_byte(tmp_path: Path) -> None:
    lines = [recording.frame_line(number, frame) for number, frame in enumerate(FRAMES)]
    lines.append(recording.fact_line(99, event="lost", of=["a"]))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(packed([lines[:2], lines[2:]]))
    expected = [Line(number, frame, {}) for number, frame in enumerate(FRAMES)]
    assert [*expected, Line(99, None, {"event": "lost", "of": ["a"]})] == read(path)
    assert gzip.decompress(path.read_bytes()) == b"".join(lines)


def test_wherever_a_recording_is_cut_every_line_before_that_is_read(tmp_path: Path) -> None:
    lines = [recording.frame_line(number, b'{"number":%d}' % (number**9)) for number in range(12)]
    members = [lines[:4], lines[4:8], lines[8:]]
    whole, path = packed(members), tmp_path / "a.jsonl.gz"
    ends = [len(packed(members[:count])) for count in range(4)]
    for cut in range(2, len(whole) + 1):
        path.write_bytes(whole[:cut])
        found = [line + b"\n" for line in recording.lines(path)]
        complete = max(count for count in range(4) if ends[count] <= cut)
        assert lines[: 4 * complete] == found[: 4 * complete]
        assert lines[: len(found)] == found, "a torn line was taken for a whole one"


@pytest.mark.parametrize("zeros", [8, 50, 5_000, 2_000_000])
def test_wherever_a_crash_leaves_zeros_every_member_before_that_is_read_and_nothing_else(
    tmp_path: Path, zeros: int
) -> None:
    lines = [recording.frame_line(number, b'{"number":%d}' % (number**9)) for number in range(30)]
    members = [lines[:10], lines[10:20], lines[20:]]
    whole, path = packed(members), tmp_path / "a.jsonl.gz"
    ends = [len(packed(members[:count])) for count in range(4)]
    step = 1 if zeros < 10**6 else 29
    for cut in range(0, len(whole) + 1, step):
        left = whole[:cut] + b"\0" * zeros
        path.write_bytes(left)
        complete = max(
            count for count in range(4) if left.startswith(whole[: ends[count]])
        )  # a member may end in zeros
        assert lines[: 10 * complete] == [line + b"\n" for line in recording.lines(path)], cut


def test_the_first_byte_of_a_recording_is_no_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(packed([[b"1 {}"]])[:1])
    assert [] == list(recording.lines(tmp_path / "a.jsonl.gz"))


@pytest.mark.parametrize("zeros", [0, 100])
def test_a_member_that_is_broken_before_others_is_an_error_whatever_the_end(tmp_path: Path, zeros: int) -> None:
    members = [[recording.frame_line(number, b"{}")] for number in range(3)]
    whole = bytearray(packed(members))
    whole[len(packed(members[:2])) - 5] ^= 1  # the second member's checksum
    (tmp_path / "a.jsonl.gz").write_bytes(whole + b"\0" * zeros)
    with pytest.raises(ConfigurationError, match=r"a\.jsonl\.gz: it is broken"):
        list(recording.lines(tmp_path / "a.jsonl.gz"))


def test_a_recording_that_is_broken_inside_is_not_read(tmp_path: Path) -> None:
    line = recording.frame_line(1, b"{}")
    whole = bytearray(packed([[line], [line]]))
    whole[-5] ^= 1  # the last member's length
    (tmp_path / "a.jsonl.gz").write_bytes(bytes(whole))
    with pytest.raises(ConfigurationError, match=r"a\.jsonl\.gz: it is broken"):
        read(tmp_path / "a.jsonl.gz")


def test_rotated_files_are_found_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    made = [recording.numbered(path, number) for number in (0, 2, 9, 10, 9_999, 10_000)]
    for file in reversed(made):
        file.write_bytes(b"")
    for other in ("a.jsonl", "ab.0001.jsonl.gz", "a.x.jsonl.gz", "a.0001.csv.gz"):
        (tmp_path / other).write_bytes(b"")
    assert "a.0002.jsonl.gz" == made[1].name
    assert made == recording.files_of(path)
    assert [made[1]] == recording.files_of(made[1])
    assert [] == recording.files_of(tmp_path / "nowhere" / "b.jsonl.gz")
    path.write_bytes(b"")
    assert [path] == recording.files_of(path)


# --- the writer -------------------------------------------------------------------------------------------------------


def test_everything_that_was_put_is_there_after_close(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.jsonl.gz"
    writer = Writer(path, flush_s=0.005)
    lines = [recording.frame_line(number, b"{}") for number in range(20_000)]
    assert all(writer.put(line) for line in lines)
    writer.close()
    writer.close()
    assert b"".join(lines) == gzip.decompress(path.read_bytes())
    assert (path.stat().st_size, None) == (writer.packed_bytes, writer.error)


def test_lines_reach_the_disk_without_a_close(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "a.jsonl.gz", flush_s=0.01)
    writer.put(recording.frame_line(1, b"{}"))
    until(lambda: writer.packed_bytes, patience_s=10.0)
    assert [Line(1, b"{}", {})] == read(tmp_path / "a.jsonl.gz")
    writer.close()


def test_files_are_begun_anew_at_a_size(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    writer = Writer(path, max_bytes=2_000, flush_s=0.001)
    lines = [recording.frame_line(number, os.urandom(300).hex().encode()) for number in range(60)]
    for line in lines:
        writer.put(line)
        written = writer.packed_bytes
        until(lambda before=written: writer.packed_bytes > before, patience_s=10.0, every_s=0.0005)  # type: ignore[misc]
    writer.close()
    assert writer.files == recording.files_of(path)
    assert 5 <= len(writer.files)
    assert all(file.stat().st_size < 3_000 for file in writer.files)
    assert lines == [line + b"\n" for file in writer.files for line in recording.lines(file)]


def write_files(path: Path, count: int) -> Writer:
    """Write files of one line each, and an empty one."""
    writer = Writer(path, rotate_s=0.0, flush_s=0.001)
    for number in range(count):
        writer.put(recording.frame_line(number, b"{}"))
        until(lambda count=number + 2: len(writer.files) >= count, patience_s=10.0, every_s=0.0005)  # type: ignore[misc]
    writer.close()
    return writer


def test_files_are_begun_anew_at_an_age(tmp_path: Path) -> None:
    writer = write_files(tmp_path / "a.jsonl.gz", 3)
    assert [0, 1, 2] == [line.time_ns for file in writer.files for line in read(file)]


def test_no_recording_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(b"precious")
    with pytest.raises(ConfigurationError, match=r"cannot record to .*a\.jsonl\.gz: File exists"):
        Writer(path)
    assert b"precious" == path.read_bytes()


def test_a_rotated_recording_goes_on_after_the_files_that_are_there(tmp_path: Path) -> None:
    """In the next number, not in a free one: the numbers are the order."""
    path = tmp_path / "a.jsonl.gz"
    for number in (1, 9_999):
        recording.numbered(path, number).write_bytes(b"precious")
    write_files(path, 2)
    there = recording.files_of(path)
    assert ["a.0001.jsonl.gz", "a.9999.jsonl.gz", "a.10000.jsonl.gz", "a.10001.jsonl.gz", "a.10002.jsonl.gz"] == [
        file.name for file in there
    ]
    assert [b"precious"] * 2 == [file.read_bytes() for file in there[:2]]
    assert [0, 1] == [line.time_ns for file in there[2:] for line in read(file)]


def test_two_recorders_do_not_mix_their_files(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    writer = Writer(path, rotate_s=3600)
    with pytest.raises(ConfigurationError, match=r"a\.0000\.jsonl\.gz: another recorder writes it"):
        Writer(path, rotate_s=3600)
    writer.close()
    Writer(path, rotate_s=3600).close()
    assert ["a.0000.jsonl.gz", "a.0001.jsonl.gz"] == [file.name for file in recording.files_of(path)]


def test_a_name_stands_for_one_file_or_for_numbered_ones(tmp_path: Path) -> None:
    one, many = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"
    Writer(one).close()
    Writer(many, rotate_s=3600).close()
    with pytest.raises(ConfigurationError, match=r"cannot record to .*a\.jsonl\.gz: File exists"):
        Writer(one, rotate_s=3600)
    with pytest.raises(ConfigurationError, match=r"cannot record to .*b\.0000\.jsonl\.gz: File exists"):
        Writer(many)


class SlowDisk:
    """A file that lets nothing through until it is told to."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.open = threading.Event()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.open.wait(10)
        if self.error is not None:
            raise self.error
        written: int = self.file.write(data)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_a_slow_disk_holds_nobody_up_and_takes_a_bounded_memory(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "a.jsonl.gz", buffer_bytes=1_000, flush_s=0.001)
    disk = writer._file = SlowDisk(writer._file)  # type: ignore[assignment]
    line = recording.frame_line(1, b"x" * 90)
    began = time.monotonic()
    taken = [writer.put(line) for _ in range(200)]
    assert time.monotonic() - began < 5
    assert [True] * 10 + [False] * 190 == taken
    disk.open.set()
    writer.close()
    assert 10 == len(read(tmp_path / "a.jsonl.gz"))


def test_a_full_disk_ends_the_recording_and_is_told(tmp_path: Path) -> None:
    told = threading.Event()
    writer = Writer(tmp_path / "a.jsonl.gz", flush_s=0.001, failed=told.set)
    disk = writer._file = SlowDisk(writer._file)  # type: ignore[assignment]
    disk.error = OSError(28, "No space left on device")
    kept = disk.file
    disk.open.set()
    writer.put(recording.frame_line(1, b"{}"))
    assert told.wait(10)
    assert "No space left on device" in str(writer.error)
    assert not writer.put(recording.frame_line(2, b"{}"))
    writer.close()
    assert kept.closed


# --- the recorder -----------------------------------------------------------------------------------------------------


class Source:
    """A socket that says what a test says."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.lost: dict[str, Lost] = {}
        self.listeners: list[Listener] = []
        self.log: list[str] = []

    def start(self) -> None:
        self.log.append("start")

    async def close(self) -> None:
        self.log.append("close")
        for listener in self.listeners:
            listener(False)
        for tell in self.lost.values():
            tell()

    def subscribe(self, channel: str, handler: Handler, *, on_lost: Lost | None = None) -> None:
        assert on_lost is not None
        self.handlers[channel], self.lost[channel] = handler, on_lost

    def on_state(self, listener: Listener) -> None:
        self.listeners.append(listener)


def ticking() -> Callable[[], int]:
    numbers = iter(range(1, 10**9))
    return lambda: next(numbers)


async def test_frames_and_what_happened_to_the_connection_are_recorded(tmp_path: Path) -> None:
    source, path = Source(), tmp_path / "a.jsonl.gz"
    running = Recorder(
        source, Writer(path), ["order_book/7", "trade/7", "ticker/7"], about={"url": "ws://x"}, clock=ticking()
    )
    running.start()
    source.listeners[0](True)
    source.handlers["order_book/7"]("update", FRAMES[0])
    source.handlers["trade/7"]("subscribed", FRAMES[1])
    source.lost["order_book/7"]()
    source.listeners[0](False)
    source.listeners[0](True)
    source.handlers["order_book/7"]("update", FRAMES[0])
    await running.close()
    assert ["start", "close"] == source.log
    assert [
        Line(1, None, {"event": "recording", "channels": ["order_book/7", "trade/7", "ticker/7"], "url": "ws://x"}),
        Line(2, None, {"event": "connected"}),
        Line(3, FRAMES[0], {}),
        Line(4, FRAMES[1], {}),
        Line(5, None, {"event": "lost", "channel": "order_book/7"}),
        Line(6, None, {"event": "disconnected"}),
        Line(7, None, {"event": "connected"}),
        Line(8, FRAMES[0], {}),
        Line(9, None, {"event": "end", "frames": 3, "dropped": 0}),
    ] == read(path)
    assert ({"order_book": 2, "trade": 1}, {"order_book/7": 1}, ["ticker/7"], True) == (
        dict(running.frames),
        dict(running.losses),
        running.silent,
        running.whole,
    )


def test_dropped_frames_are_counted_and_told_where_they_are_missing(tmp_path: Path) -> None:
    source, path = Source(), tmp_path / "a.jsonl.gz"
    writer = Writer(path, buffer_bytes=300, flush_s=0.001)
    disk = writer._file = SlowDisk(writer._file)  # type: ignore[assignment]
    running = Recorder(source, writer, ["a/1"], clock=ticking())
    running.start()
    frame = b"f" * 100
    for _ in range(5):
        source.handlers["a/1"]("update", frame)
    disk.open.set()
    until(lambda: not writer._waiting, patience_s=10.0, every_s=0.001)
    source.handlers["a/1"]("update", frame)
    asyncio.run(running.close())
    dropped = running.dropped
    assert 3 <= dropped < 5
    assert not running.whole
    facts = [(line.fact.get("event"), line.fact.get("frames")) for line in read(path)]
    kept = 5 - dropped
    assert [("recording", None), *[(None, None)] * kept, ("dropped", dropped), (None, None), ("end", kept + 1)] == facts


def test_what_happened_is_told_where_the_disk_takes_no_frames(tmp_path: Path) -> None:
    """Frames that are missing at the end too, and a lost connection, without which the recording would seem whole."""
    source, path = Source(), tmp_path / "a.jsonl.gz"
    writer = Writer(path, buffer_bytes=100, flush_s=0.001)
    disk = writer._file = SlowDisk(writer._file)  # type: ignore[assignment]
    running = Recorder(source, writer, ["a/1"], clock=ticking())
    running.start()
    for _ in range(2):
        source.handlers["a/1"]("update", b"f" * 150)
    source.lost["a/1"]()
    source.listeners[0](False)
    source.handlers["a/1"]("update", b"f" * 150)
    disk.open.set()
    asyncio.run(running.close())
    assert [
        ("recording", None),
        ("dropped", 2),
        ("lost", None),
        ("disconnected", None),
        ("dropped", 1),
        ("end", 0),
    ] == [(line.fact["event"], line.fact.get("frames")) for line in read(path)]


def market(market_id: int, market_type: str) -> Any:
    return SimpleNamespace(market_id=market_id, market_type=SimpleNamespace(value=market_type))


def test_channels_are_spelled_as_the_venue_does() -> None:
    kinds = ["order_book", "market_stats", "candle", "candle/5m", "mark_price_candle/1h"]
    assert [
        "order_book/0",
        "market_stats/0",
        "candle/0/1m",
        "candle/0/5m",
        "mark_price_candle/0/1h",
        "order_book/2048",
        "spot_market_stats/2048",
        "candle/2048/1m",
        "candle/2048/5m",
    ] == recorder.spell(kinds, [market(0, "SWAP"), market(2048, "SPOT")])


def test_a_channel_that_is_wanted_twice_is_recorded_once() -> None:
    assert ["candle/0/1m", "trade/0"] == recorder.spell(["candle", "trade", "candle/1m", "trade"], [market(0, "SWAP")])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("orderbook", "(known: order_book, trade, ticker, market_stats, candle, mark_price_candle)"),
        ("", "(known: order_book, "),
        ("candle/3m", "the venue has candles of 1m, 5m, 15m, 30m, 1h, 4h, 12h, 1d"),
        ("mark_price_candle/", "the venue has candles of 1m, "),
        ("candle/1m/0", "the venue has candles of 1m, "),
        ("order_book/5m", "only candle and mark_price_candle have a resolution"),
        ("trade/", "only candle and mark_price_candle have a resolution"),
    ],
)
def test_a_channel_that_the_venue_has_not_is_refused_with_those_it_has(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^there is no channel '{text}' to record.*{re.escape(says)}"):
        recorder.spell(["trade", text], [])


# --- there and back ---------------------------------------------------------------------------------------------------


async def replayed(path: Path, channel: str, count: int) -> list[str]:
    async with open_venue(replay_files=[path], speed=0) as venue, calling(venue) as caller:
        await caller.write(type="subscribe", channel=channel)
        return [await caller.socket.receive_str(timeout=5) for _ in range(count)]


def test_the_venue_plays_a_recording_of_itself(tmp_path: Path) -> None:
    """The program records from a venue in another process, and is interrupted; the venue plays it back."""
    with started_venue(tmp_path, "--markets", "BTC,ETH") as (url, _):
        command = [
            *(*QUBX_LIGHTER, "record", "--symbols", "ETH-USDC,BTC-USDC", "--channels", "order_book,trade,ticker"),
            *("--out", "a.jsonl.gz", "--rotate-s", "1", "--base-url", url),
        ]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with process(command, cwd=tmp_path, env=environment) as running:
            until(lambda: len(recording.files_of(tmp_path / "a.jsonl.gz")) >= 3, running)
            running.send_signal(signal.SIGINT)
            output, _ = running.communicate(timeout=20)
    assert 0 == running.returncode, output
    assert "  order_book: " in output
    files = recording.files_of(tmp_path / "a.jsonl.gz")
    lines = [line for file in files for line in read(file)]
    assert ["recording", "connected", "end"] == [line.fact["event"] for line in lines if line.frame is None]
    assert [line.time_ns for line in lines] == sorted(line.time_ns for line in lines)
    books = [
        line.frame.decode() for line in lines if line.frame and line.frame.startswith(b'{"channel":"order_book:0"')
    ]
    assert 10 <= len(books)
    assert books == asyncio.run(replayed(tmp_path / "a.jsonl.gz", "order_book/0", len(books)))


def test_a_kill_costs_a_second_at_most_and_the_same_command_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    first, second = (recording.numbered(path, number) for number in range(2))
    with started_venue(tmp_path, "--markets", "ETH") as (url, _):
        command = [*QUBX_LIGHTER, "record", "--symbols", "ETH-USDC", "--out", str(path), "--base-url", url]
        command += ["--rotate-s", "3600"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with process(command, cwd=tmp_path, env=environment) as running:
            until(lambda: first.exists() and len(frames(first)) >= 20, running)
            running.send_signal(signal.SIGKILL)
            running.wait()
        killed, whole = time.time_ns(), first.read_bytes()
        again = [*command, "--duration", "0.5"]
        subprocess.run(again, cwd=tmp_path, env=environment, capture_output=True, timeout=30, check=True)
    assert (whole, [first, second]) == (first.read_bytes(), recording.files_of(path))
    assert "recording" == read(second)[0].fact["event"]
    lines = read(first)
    assert 20 <= len(lines)
    assert killed - lines[-1].time_ns < 2 * 10**9
    assert "recording" == lines[0].fact["event"]


def test_a_recording_ends_after_its_duration_and_names_channels_that_were_silent(tmp_path: Path) -> None:
    denied = "deny where=ticker code=30005 text=Invalid times=0"
    with started_venue(tmp_path, "--markets", "ETH", "--faults", denied) as (url, _):
        command = [*QUBX_LIGHTER, "record", "--symbols", "ETH-USDC", "--out", "a.jsonl.gz", "--base-url", url]
        result = subprocess.run(
            [*command, "--duration", "1"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    assert " packed) in 1 s: a.jsonl.gz" in result.stdout
    assert "Warning: no frame of ticker/0" == result.stderr.splitlines()[-1]
    assert 5 <= len(frames(tmp_path / "a.jsonl.gz"))
