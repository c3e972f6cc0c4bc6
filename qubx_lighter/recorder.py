"""The recorder: every frame of some channels into a file, as it came, with the time of its arrival.

The handlers run on the loop and only put a line into a buffer; a thread packs and writes it, so a slow disk never holds
the socket up. When the buffer is full frames are dropped, counted, told in the recording itself, and make the run fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import click
from loguru import logger

from qubx_lighter import recording
from qubx_lighter.client import LighterClient
from qubx_lighter.constants import RESOLUTIONS
from qubx_lighter.durable_files import sync
from qubx_lighter.errors import ConfigurationError, LighterError
from qubx_lighter.history import selection
from qubx_lighter.markets import Market
from qubx_lighter.settings import LighterSettings
from qubx_lighter.sockets.dispatch import Handler, Listener, Lost
from qubx_lighter.websocket_pool import LighterWebSocketPool

BUFFER_BYTES: Final = 64 * 1024 * 1024
FLUSH_S: Final = 1.0
_MB: Final = 10**6
_FLUSH_BYTES: Final = 4 * 1024 * 1024

_CHANNELS: Final = ("order_book", "trade", "ticker", "market_stats", "candle", "mark_price_candle")
_CANDLES: Final = ("candle", "mark_price_candle")
_RESOLUTION: Final = "1m"


class Source(Protocol):
    """The part of a socket manager that the recorder needs."""

    def start(self) -> None:
        """Begin to connect."""

    async def close(self) -> None:
        """Stop."""

    def subscribe(self, channel: str, handler: Handler, *, on_lost: Lost | None = None) -> None:
        """Have the handler called with every frame of the channel, and ``on_lost`` when its connection is lost."""

    def on_state(self, listener: Listener) -> None:
        """Have the listener called at each connect and loss."""


def spell(wanted: Sequence[str], markets: Iterable[Market]) -> list[str]:
    """Spell the channels of markets as the venue subscribes them, each once.

    Args:
        wanted: kinds of channels, ``order_book`` or, for candles of another resolution than 1m, ``candle/5m``.
        markets: of which markets; what spot markets do not have is left out.

    Raises:
        ConfigurationError: there is no such channel.
    """
    if not wanted:
        raise ConfigurationError(f"no channel was given: name some of {', '.join(_CHANNELS)}")
    for text in wanted:
        _check(text)
    spelled = dict.fromkeys(_channel(text, market) for market in markets for text in wanted)
    return [channel for channel in spelled if channel]


def _check(text: str) -> None:
    kind, slash, resolution = text.partition("/")
    if kind not in _CHANNELS:
        raise ConfigurationError(f"there is no channel {text!r} to record (known: {', '.join(_CHANNELS)})")
    if not slash:
        return
    if kind not in _CANDLES:
        raise ConfigurationError(
            f"there is no channel {text!r} to record: only {' and '.join(_CANDLES)} have a resolution"
        )
    if resolution not in RESOLUTIONS:
        raise ConfigurationError(
            f"there is no channel {text!r} to record: the venue has candles of {', '.join(RESOLUTIONS)}"
        )


def _channel(text: str, market: Market) -> str:
    kind, _, resolution = text.partition("/")
    spot = market.market_type.value == "SPOT"
    if kind in _CANDLES:
        return "" if spot and kind == "mark_price_candle" else f"{kind}/{market.market_id}/{resolution or _RESOLUTION}"
    prefix = "spot_" if spot and kind == "market_stats" else ""
    return f"{prefix}{kind}/{market.market_id}"


# --- the disk --------------------------------------------------------------------------------------------------------


class Writer:
    """Write lines on a thread of its own, in gzip members, one at least every second.

    With rotation it goes on after the numbers that are there, as those of a recorder that was killed; while it runs, its
    file is locked.

    Args:
        path: the file; with rotation, what its files are numbered after.
        max_bytes: begin another file when one is this large.
        rotate_s: begin another file when one is this old.
        buffer_bytes: how much may wait for the disk.
        flush_s: the longest time between two members.
        failed: called on the thread, its result ignored, when the disk refuses; nothing is written after that.

    Raises:
        ConfigurationError: the file is there already, or cannot be made; with rotation, another recorder writes there.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int | None = None,
        rotate_s: float | None = None,
        buffer_bytes: int = BUFFER_BYTES,
        flush_s: float = FLUSH_S,
        failed: Callable[[], object] = lambda: None,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._rotate_s = rotate_s
        self._buffer_bytes = buffer_bytes
        self._flush_s = flush_s
        self._failed = failed
        self._changed = threading.Condition()
        self._lines: list[bytes] = []
        self._waiting = 0  # bytes, until they are on the disk
        self._closing = False
        self.files: list[Path] = []
        self.packed_bytes = 0
        self.error: OSError | None = None
        try:
            self._next_number = self._first_number()
            self._file, self._opened = self._next_file()
        except OSError as error:
            raise ConfigurationError(f"cannot record to {error.filename or path}: {error.strerror or error}") from error
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def put(self, line: bytes, *, always: bool = False) -> bool:
        """Take a line; False where there is no disk any more or, unless it must ``always`` be taken, no room."""
        with self._changed:
            if self.error is not None or (not always and self._waiting + len(line) > self._buffer_bytes):
                return False
            self._lines.append(line)
            self._waiting += len(line)
            if self._waiting >= _FLUSH_BYTES:
                self._changed.notify()
        return True

    def close(self) -> None:
        """Write what waits, and end; idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._write_batch():
                pass
        except OSError as error:
            with self._changed:
                self.error = error
                self._lines.clear()
            logger.error("the recording ends: {}", str(error))
            self._failed()
        finally:
            with contextlib.suppress(OSError):  # every member was synced already
                self._file.close()

    def _write_batch(self) -> bool:
        """Wait for a flush and make it; False after the last one."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._waiting >= _FLUSH_BYTES, self._flush_s)
            batch, self._lines = b"".join(self._lines), []
            closing = self._closing
        if batch:
            self._write(recording.member(batch))
            with self._changed:
                self._waiting -= len(batch)
        return bool(batch) or not closing

    def _write(self, packed: bytes) -> None:
        self._file.write(packed)
        self._file.flush()
        sync(self.files[-1])
        self.packed_bytes += len(packed)
        full = self._max_bytes is not None and self._file.tell() >= self._max_bytes
        old = self._rotate_s is not None and time.monotonic() - self._opened >= self._rotate_s
        if full or old:
            before = self._file
            self._file, self._opened = self._next_file()
            before.close()

    @property
    def _rotates(self) -> bool:
        return self._max_bytes is not None or self._rotate_s is not None

    def _first_number(self) -> int:
        """Find the number after those that are there.

        Raises:
            OSError: nobody could find what would be written in what is there, or another recorder writes.
        """
        there = recording.files_of(self._path)
        if not there:
            return 0
        if not self._rotates or there == [self._path]:  # a name stands for one file or for numbered ones
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(there[0]))
        with there[-1].open("rb") as last:
            try:
                fcntl.flock(last, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OSError(error.errno, "another recorder writes it", str(there[-1])) from error
        return recording.number_of(self._path, there[-1]) + 1

    def _next_file(self) -> tuple[BinaryIO, float]:
        path = recording.numbered(self._path, self._next_number) if self._rotates else self._path
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")  # never over a recording
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._next_number += 1
        self.files.append(path)
        sync(path.parent)
        return file, time.monotonic()


# --- the recorder ----------------------------------------------------------------------------------------------------


class Recorder:
    """Put what a socket hears into a writer, and count it; everything runs on the socket's loop.

    Args:
        source: the socket; started by ``start``.
        writer: where lines go.
        channels: what to record.
        about: more facts for the recording's first line, such as the venue's address.
        clock: ns since the epoch.
    """

    def __init__(
        self,
        source: Source,
        writer: Writer,
        channels: Sequence[str],
        *,
        about: dict[str, Any] | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._source = source
        self._writer = writer
        self._channels = list(channels)
        self._clock = clock
        self.frames: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.dropped = 0
        self.losses: Counter[str] = Counter()
        self._untold = 0
        self._closing = False
        self._silent = dict.fromkeys(self._channels)
        self._fact(event="recording", channels=self._channels, **(about or {}))

    def start(self) -> None:
        """Subscribe everything and connect."""
        self._source.on_state(self._state)
        for channel in self._channels:
            self._source.subscribe(channel, self._handler(channel), on_lost=partial(self._lost, channel))
        self._source.start()

    async def close(self) -> None:
        """Disconnect, write what waits, end the file."""
        self._closing = True
        await self._source.close()
        self._fact(event="end", frames=self.frames.total(), dropped=self.dropped)
        await asyncio.to_thread(self._writer.close)

    @property
    def silent(self) -> list[str]:
        """List the channels of which no frame came."""
        return list(self._silent)

    @property
    def whole(self) -> bool:
        """Tell whether every frame that came is on the disk."""
        return not self.dropped and self._writer.error is None

    def _handler(self, channel: str) -> Handler:
        kind = channel.partition("/")[0]

        def hear(_kind: str, raw: bytes) -> None:
            now = self._clock()
            if not self._writer.put(self._missing(now) + recording.frame_line(now, raw)):
                self._drop()
                return
            self._untold = 0
            self.frames[kind] += 1
            self.bytes[kind] += len(raw)
            self._silent.pop(channel, None)

        return hear

    def _drop(self) -> None:
        if not self.dropped and self._writer.error is None:
            logger.error("the disk is too slow: frames are dropped from the recording")
        self.dropped += 1
        self._untold += 1

    def _state(self, connected: bool) -> None:  # noqa: FBT001 - the signature of a listener
        if not self._closing:
            self._fact(event="connected" if connected else "disconnected")

    def _lost(self, channel: str) -> None:
        """Note that frames of a channel are missing from here to its next snapshot."""
        if not self._closing:
            self.losses[channel] += 1
            self._fact(event="lost", channel=channel)

    def _fact(self, **fact: Any) -> None:
        """Note a fact; those are few and small, so a full buffer takes them too."""
        now = self._clock()
        self._writer.put(self._missing(now) + recording.fact_line(now, **fact), always=True)
        self._untold = 0

    def _missing(self, now: int) -> bytes:
        """Tell that frames were dropped before what is written next, where they were."""
        return recording.fact_line(now, event="dropped", frames=self._untold) if self._untold else b""


# --- a run ------------------------------------------------------------------------------------------------------------


def record(
    *,
    symbols: str,
    channels: str,
    path: Path,
    duration_s: float | None,
    max_bytes: int | None,
    rotate_s: float | None,
    params: Mapping[str, str],
) -> None:
    """Record what was typed until a signal or for a time, then tell what there is.

    Raises:
        LighterError: it makes no sense, the venue cannot be reached, no frame came at all, or some were lost to a slow or
            full disk.
    """
    settings = LighterSettings.build(params)
    kinds = selection.split(channels)
    spell(kinds, [])
    names = selection.split(symbols)
    asyncio.run(
        _record(settings, names, kinds, path=path, duration_s=duration_s, max_bytes=max_bytes, rotate_s=rotate_s)
    )


async def _record(
    settings: LighterSettings,
    names: list[str],
    kinds: list[str],
    *,
    path: Path,
    duration_s: float | None,
    max_bytes: int | None,
    rotate_s: float | None,
) -> None:
    client = LighterClient(settings.base_url, timeout=settings.rest_timeout_s)
    try:
        markets = selection.choose(names, [market for market, _ in await selection.listed(client, settings)])
    finally:
        await client.close()
    spelled = spell(kinds, markets)
    if not spelled:
        raise ConfigurationError(f"none of {', '.join(names)} has a channel {' or '.join(kinds)}")
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    writer = Writer(path, max_bytes=max_bytes, rotate_s=rotate_s, failed=lambda: loop.call_soon_threadsafe(stopped.set))
    socket = LighterWebSocketPool(settings.ws_url)
    running = Recorder(socket, writer, spelled, about={"url": settings.ws_url})
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    click.echo(f"recording {len(spelled)} channels of {settings.ws_url}; Ctrl-C stops it", err=True)
    began = time.monotonic()
    running.start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(duration_s):
            await stopped.wait()
    await running.close()
    _tell(running, writer, time.monotonic() - began)


def _tell(running: Recorder, writer: Writer, seconds: float) -> None:
    """Print what was recorded; raise where it is not everything."""
    files = f"{writer.files[0]}" + (f" to {writer.files[-1].name}" if len(writer.files) > 1 else "")
    total = f"{running.frames.total():,} frames, {running.bytes.total() / _MB:,.1f} MB"
    click.echo(f"{total} ({writer.packed_bytes / _MB:,.1f} MB packed) in {seconds:,.0f} s: {files}")
    for kind, count in running.frames.most_common():
        click.echo(f"  {kind}: {count:,} frames, {running.bytes[kind] / _MB:,.1f} MB")
    if running.losses:
        click.echo(f"  interruptions of a channel: {max(running.losses.values())}; the recording says where")
    if running.silent:
        click.echo(f"Warning: no frame of {', '.join(running.silent)}", err=True)
    if writer.error is not None:
        raise LighterError(f"the recording ended early: {writer.error}")
    if running.dropped:
        raise LighterError(f"{running.dropped:,} frames were dropped: the disk is too slow")
    if not running.frames:
        raise LighterError("nothing was recorded: no frame came")
