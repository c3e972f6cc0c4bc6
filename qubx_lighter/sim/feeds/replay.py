"""Captured frames, played again: unchanged, in order, at the pace at which they were captured or any other.

Files are recordings of ``qubx-lighter record``, which know when each frame arrived, or frames alone, which may say when they
were sent.

Every subscription is its own playback from the first frame, so that nobody misses anything and a client that subscribes anew
(after a gap, or a reconnect) gets the capture's snapshot and all that followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from qubx_lighter import recording
from qubx_lighter.errors import ConfigurationError, WireError
from qubx_lighter.protocol import wire
from qubx_lighter.sim.feeds import figures
from qubx_lighter.sim.markets import listing
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.wire import frames


@dataclass(slots=True)
class Recording:
    """The frames of one channel, at least one.

    Attributes:
        channel: its label, ``order_book:0``.
        texts: the frames, as they were captured.
        times: when each was sent, ms; a frame that does not say counts as sent with the one before.
    """

    channel: str
    texts: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)

    async def play(
        self,
        send: Callable[[str], Awaitable[None]],
        speed: float,
        *,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Send all frames, each when the one before is taken.

        Args:
            send: takes a frame, and returns when there is room for another.
            speed: 1 as captured, 10 ten times as fast; 0 without any pause.
            clock: seconds of any origin; the running loop's if left out.
            sleep: pauses for seconds.
        """
        read_clock = clock or asyncio.get_running_loop().time
        if not wire.route(self.texts[0].encode()).type.startswith("subscribed/"):  # the capture began in the middle
            kind = self.channel.partition(":")[0]
            await send(frames.encode({"channel": self.channel, "type": f"subscribed/{kind}"}))
        began = read_clock()
        for text, time in zip(self.texts, self.times, strict=True):
            if speed > 0:
                pause = began + (time - self.times[0]) / 1000 / speed - read_clock()
                if pause > 0:
                    await sleep(pause)
            await send(text)


def read(paths: Iterable[Path]) -> dict[str, Recording]:
    """Read captured frames, gzipped or not, and sort them by channel.

    A name that a recording was rotated under stands for all its files. What a killed recorder left unfinished at the end of
    a file is left out. Figures that were recorded market by market are there as the channel of all markets too.

    Raises:
        ConfigurationError: a file cannot be read or holds no frame, or a line is no frame of a channel; the message names
            file and line.
    """
    recordings: dict[str, Recording] = {}
    for path in paths:
        arrivals = _Arrivals()
        if not sum([_read_file(recordings, file, arrivals) for file in recording.files_of(path) or [path]]):
            raise ConfigurationError(f"cannot play {path}: it holds no whole frame")
    for one in recordings.values():
        _date_undated(one)
    for kind in figures.KINDS:
        _join_figures(recordings, kind)
    return recordings


@dataclass(slots=True)
class _Arrivals:
    """The times of a recording as if its machine's clock had never been set back: its lines are in order."""

    latest_ms: int = 0
    shift_ms: int = 0

    def place(self, time_ms: int) -> int:
        """Tell when a frame arrived, by what the clock said then."""
        self.shift_ms += max(0, self.latest_ms - (time_ms + self.shift_ms))
        self.latest_ms = time_ms + self.shift_ms
        return self.latest_ms


def _read_file(recordings: dict[str, Recording], path: Path, arrivals: _Arrivals) -> int:
    """Add the frames of a file; tell how many."""
    count = 0
    for number, line in enumerate(recording.lines(path), start=1):
        try:
            count += _take(recordings, line, arrivals)
        except (WireError, ValueError) as error:  # msgspec's and Unicode's errors are ValueErrors
            raise ConfigurationError(f"{path}, line {number}: not a frame of a channel: {error}") from error
    return count


def _take(recordings: dict[str, Recording], line: bytes, arrivals: _Arrivals) -> bool:
    """Add the frame of a line; tell whether there is one."""
    recorded = recording.parse(line)
    frame = line.strip() if recorded is None else recorded.frame
    if not frame:
        return False  # an empty line, or a fact of the recorder
    channel = _channel(frame)
    time = _time_ms(frame) if recorded is None else arrivals.place(recorded.time_ns // 10**6)
    text = frame.decode()
    one = recordings.setdefault(channel, Recording(channel))
    one.texts.append(text)
    one.times.append(max(time, one.times[-1] if one.times else 0))
    return True


def _channel(line: bytes) -> str:
    channel = wire.route(line).channel
    if not channel:
        raise WireError("it names none")
    return channel


class _Dated(msgspec.Struct):
    timestamp: int = 0  # ms
    trades: Any = None
    liquidation_trades: Any = None


_dated: Final = msgspec.json.Decoder(_Dated)


def _time_ms(line: bytes) -> int:
    """Tell when a frame was sent: it says so, or its newest trade does; else 0."""
    frame = _dated.decode(line)
    if frame.timestamp:
        return frame.timestamp
    lists = (rows for rows in (frame.trades, frame.liquidation_trades) if isinstance(rows, list))
    return max((int(row.get("timestamp", 0)) for rows in lists for row in rows), default=0)


def _date_undated(one: Recording) -> None:
    """Let frames before the first dated one count as sent with it."""
    first = next((time for time in one.times if time), 0)
    one.times = [time or first for time in one.times]


def _join_figures(recordings: dict[str, Recording], kind: str) -> None:
    """Add the channel of all markets where only those of single ones were recorded."""
    channel, prefix = f"{kind}:all", f"{kind}:"
    if channel in recordings:
        return
    recorded = [
        (one.channel.removeprefix(prefix), text, time)
        for one in recordings.values()
        if one.channel.startswith(prefix)
        for text, time in zip(one.texts, one.times, strict=True)
    ]
    joined = figures.of_all(kind, recorded)
    if joined:
        recordings[channel] = Recording(channel, [text for text, _ in joined], [time for _, time in joined])


# --- markets ---------------------------------------------------------------------------------------------------------

_DERIVED: Final = ("candle", "mark_price_candle", *figures.KINDS)


def market_specs(recordings: Iterable[Recording]) -> list[MarketSpec]:
    """Give the rules of the markets that the recordings are of: known ones by id, with the decimals that the frames have.

    Where there are but candles or figures of a market, it has to be a known one.
    """
    seen: dict[int, _Seen] = {}
    for one in recordings:
        kind, _, rest = one.channel.partition(":")
        number = rest.partition(":")[0]
        if not number.isdecimal():
            continue
        if kind in ("order_book", "trade", "ticker"):
            market = seen.setdefault(int(number), _Seen())
            for text in one.texts:
                if market.note(msgspec.json.decode(text)):
                    break
        elif kind in _DERIVED and listing.known_id(int(number)) is not None:
            seen.setdefault(int(number), _Seen())
    return [market.spec(market_id) for market_id, market in sorted(seen.items())]


@dataclass(slots=True)
class _Seen:
    """What frames tell of a market's rules."""

    price: str = ""
    size: str = ""
    symbol: str = ""

    def note(self, frame: dict[str, Any]) -> bool:
        """Look at a frame; tell whether that was enough."""
        for row in _quoted(frame):
            if row.get("price") and row.get("size"):
                self.price, self.size = row["price"], row["size"]
                self.symbol = str(row.get("market_symbol", "")) or self.symbol
                return True
        return False

    def spec(self, market_id: int) -> MarketSpec:
        """Give the rules."""
        known = listing.known_id(market_id)
        base = known or MarketSpec(market_id, self.symbol or f"MARKET{market_id}", 0, 0, min_base_lots=1)
        if not self.price:
            return base
        price_decimals, size_decimals = (_decimals(text) for text in (self.price, self.size))
        same = (base.price_decimals, base.size_decimals) == (price_decimals, size_decimals)
        return msgspec.structs.replace(
            base,
            price_decimals=price_decimals,
            size_decimals=size_decimals,
            min_base_lots=base.min_base_lots if same else 1,
            initial_price_ticks=int(self.price.replace(".", "")),
        )


def _quoted(frame: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Go through everything in a frame that has a price and a size."""
    book, ticker = frame.get("order_book") or {}, frame.get("ticker") or {}
    for rows in (frame.get("trades"), frame.get("liquidation_trades"), book.get("bids"), book.get("asks")):
        yield from rows or []
    yield from (ticker[side] for side in ("a", "b") if side in ticker)


def _decimals(text: str) -> int:
    return len(text.partition(".")[2])
