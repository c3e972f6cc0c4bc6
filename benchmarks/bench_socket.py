"""Measure from a loopback socket to Qubx's channel: frames a second, CPU a frame, lag, memory.

usage: python benchmarks/bench_socket.py [--quick] [--minutes M] [--json FILE]

Three processes of this file. The sender is a WebSocket server that writes deltas of order books, each with the moment of
its sending inside, paced or as fast as they are read. One receiver is a bare aiohttp client that throws the frames away;
the other is the data provider over its real connections, with a thread that reads Qubx's channel as Qubx does. Both run on
uvloop, which Qubx's runner installs, and take the same frames in turn. Lag is measured in the receivers: at the frame's
arrival in the bare one, at the object's arrival on the channel in ours.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import results
import uvloop
from results import Row, Table, Target, at_most

MARKETS: Final = (1, 50, 200)
RATES: Final = (2_000, 5_000)
LEVELS: Final = 500
VARIANTS: Final = 64
MIDDLE: Final = 433_000
ANSWER: Final = "answer "
GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of the WebSocket handshake
STAMP: Final = b'"last_updated_at":'
STAMP_DIGITS: Final = 16
PATIENCE_S: Final = 30.0


# --- frames -----------------------------------------------------------------------------------------------------------


def level(ticks: int, lots: int) -> str:
    """Write a level."""
    return f'{{"price":"{ticks / 100:.2f}","size":"{lots / 10_000:.4f}"}}'


def snapshot(market: int) -> bytes:
    """Write a market's whole book; its nonce is 0."""
    bids = ",".join(level(MIDDLE - i, 10_000) for i in range(1, LEVELS // 2))
    asks = ",".join(level(MIDDLE + i, 10_000) for i in range(1, LEVELS // 2))
    payload = f'"code":0,"asks":[{asks}],"bids":[{bids}],"offset":0,"nonce":0,"begin_nonce":0'
    return f'{{"channel":"order_book:{market}","order_book":{{{payload}}},"type":"subscribed/order_book"}}'.encode()


def variants() -> list[str]:
    """Write sides of deltas in any order of which the book stays whole: about ten levels, the best one among them."""
    source = random.Random(7)
    made = []
    for _ in range(VARIANTS):
        sides = []
        for name, sign in (("asks", 1), ("bids", -1)):
            ticks = [1, *sorted(source.sample(range(2, 60), source.randint(2, 6)))]
            levels = (
                level(MIDDLE + sign * i, source.choice((0, 500, 7_000)) if i > 1 else source.randint(1, 99_999))
                for i in ticks
            )
            sides.append(f'"{name}":[{",".join(levels)}]')
        made.append(",".join(sides))
    return made


class Deltas:
    """Write the next delta of the markets in turn."""

    def __init__(self, markets: int) -> None:
        self._sides = variants()
        self._markets = markets
        self._number = 0

    def next(self) -> bytes:
        """Write one, with this moment in it, as a WebSocket frame."""
        turn, market = divmod(self._number, self._markets)
        now_us = time.time_ns() // 1_000
        text = (
            f'{{"channel":"order_book:{market}","last_updated_at":{now_us},"offset":{turn + 1},"order_book":{{"code":0,'
            f'{self._sides[self._number % VARIANTS]},"offset":{turn + 1},"nonce":{turn + 1},"last_updated_at":{now_us},'
            f'"begin_nonce":{turn}}},"timestamp":{now_us // 1_000},"type":"update/order_book"}}'
        )
        self._number += 1
        return framed(text.encode())


def framed(payload: bytes) -> bytes:
    """Wrap a text as a server does."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2) + payload
    return b"\x81\x7f" + size.to_bytes(8) + payload


# --- the sender -------------------------------------------------------------------------------------------------------


class Sender:
    """A server for one receiver a path; plays what it is told to."""

    def __init__(self) -> None:
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._deltas: dict[str, Deltas] = {}

    async def run(self) -> None:
        """Serve, and follow commands."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        answer({"port": server.sockets[0].getsockname()[1]})
        async for command in commands():
            answer(await self._play(**command))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = request.split(" ", 2)[1]
        key = next(
            line.partition(": ")[2] for line in request.split("\r\n") if line.lower().startswith("sec-websocket-key")
        )
        accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()  # noqa: S324 - the handshake's
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
        )
        writer.write(framed(b'{"session_id":"s","type":"connected"}'))
        self._writers[path] = writer
        self._deltas.pop(path, None)  # the books begin anew
        while text := await _client_text(reader):
            message = json.loads(text)
            if message.get("type") == "subscribe":
                writer.write(framed(snapshot(int(message["channel"].partition("/")[2]))))

    async def _play(self, path: str, markets: int, frames: int, rate: float) -> dict[str, Any]:
        """Send ``frames``, ``rate`` a second or, with 0, as fast as they are read."""
        writer = self._writers[path]
        deltas = self._deltas.setdefault(path, Deltas(markets))
        start = time.perf_counter()
        if not rate:
            for _ in range(frames // 50):
                writer.write(b"".join([deltas.next() for _ in range(50)]))
                await writer.drain()
        for number in range(frames if rate else 0):
            # Slept off in the thread: timers of the loop tick in whole milliseconds.
            if (wait := start + number / rate - time.perf_counter()) > 0:
                time.sleep(wait)  # noqa: ASYNC251 - see above
            writer.write(deltas.next())
            if not number % 100:
                await writer.drain()
        await writer.drain()
        return {"seconds": time.perf_counter() - start}


async def _client_text(reader: asyncio.StreamReader) -> bytes:
    """Read one short frame of a client; nothing at its end."""
    try:
        head = await reader.readexactly(2)
        size = head[1] & 0x7F
        if size == 126:
            size = int.from_bytes(await reader.readexactly(2))
        mask = await reader.readexactly(4)
        payload = await reader.readexactly(size)
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    if head[0] & 0x0F == 0x8:
        return b""
    return bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


# --- the receivers ----------------------------------------------------------------------------------------------------


class Meter:
    """Count what arrives, and how late."""

    def __init__(self) -> None:
        self.lags_ns: list[int] = []
        self._process = self._thread = self._start = 0.0
        self.last = 0.0

    def begin(self) -> None:
        """Start anew."""
        self.lags_ns = []
        self._process, self._thread, self._start = time.process_time(), time.thread_time(), time.perf_counter()

    async def until(self, frames: int) -> dict[str, Any]:
        """Wait for so many, or for silence; on the thread that receives."""
        seen, quiet = 0, time.perf_counter()
        while len(self.lags_ns) < frames and time.perf_counter() - quiet < 2.0:
            if len(self.lags_ns) != seen:
                seen, quiet = len(self.lags_ns), time.perf_counter()
            await asyncio.sleep(0.05)
        took = time.perf_counter() - self._start
        lags = sorted(self.lags_ns) or [0]
        return {
            "frames": len(self.lags_ns),
            "cpu_s": time.process_time() - self._process,
            "loop_s": time.thread_time() - self._thread,
            "wall_s": took,
            "p50_us": lags[len(lags) // 2] / 1e3,
            "p99_us": lags[len(lags) * 99 // 100] / 1e3,
            "rss_mib": _rss_mib(),
        }


def _rss_mib() -> float:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    except OSError:  # not Linux: the most it ever was
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


Opener = Callable[[int, int, Meter], Awaitable[Callable[[], Awaitable[None]]]]
"""Connect to a port for a number of markets; gives how to close."""


async def open_bare(port: int, markets: int, meter: Meter) -> Callable[[], Awaitable[None]]:
    """Read the stamp of every delta and forget it."""
    import aiohttp  # noqa: PLC0415 - the sender needs none

    session = aiohttp.ClientSession()
    socket = await session.ws_connect(f"ws://127.0.0.1:{port}/bare", decode_text=False, max_msg_size=0)
    await socket.receive()
    for market in range(markets):
        await socket.send_str(json.dumps({"type": "subscribe", "channel": f"order_book/{market}"}))
        await socket.receive()

    async def read() -> None:
        while True:
            raw = (await socket.receive()).data
            at = raw.find(STAMP) + len(STAMP)
            meter.lags_ns.append(time.time_ns() - int(raw[at : at + STAMP_DIGITS]) * 1_000)

    task = asyncio.create_task(read())

    async def close() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await session.close()

    return close


async def open_ours(port: int, markets: int, meter: Meter) -> Callable[[], Awaitable[None]]:
    """Subscribe to the books through the data provider; a thread reads the channel."""
    import ours  # noqa: PLC0415 - the others need none of it
    from loguru import logger  # noqa: PLC0415
    from qubx.core.basics import CtrlChannel  # noqa: PLC0415

    from qubx_lighter.instruments import LighterInstrumentLoader  # noqa: PLC0415

    logger.remove()

    class Channel(CtrlChannel):
        """Qubx's, and the moment at which something arrives."""

        def send(self, data: Any) -> None:
            """See Qubx."""
            meter.lags_ns.append(time.time_ns() - data[2].time)
            super().send(data)  # type: ignore[no-untyped-call] # Qubx's

    channel = Channel("bench")
    loader = LighterInstrumentLoader(ours.Listing(range(markets)))
    await loader.load()
    provider, socket = ours.make_provider(f"ws://127.0.0.1:{port}/ours", loader, channel)
    threading.Thread(target=_drain, args=(channel,), daemon=True).start()
    provider.start()
    provider.subscribe("orderbook(0, 20)", {loader.instrument(market) for market in range(markets)})
    async with asyncio.timeout(PATIENCE_S):
        while len(meter.lags_ns) < markets:  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0.02)

    async def close() -> None:
        await socket.close()
        channel.stop()  # type: ignore[no-untyped-call] # Qubx's

    return close


def _drain(channel: Any) -> None:
    """Read the channel as Qubx's strategy thread does."""
    while channel.receive() != (None, None, None, None):
        pass


OPENERS: Final[dict[str, Opener]] = {"bare": open_bare, "ours": open_ours}


async def receive(kind: str, port: int) -> None:
    """Follow commands: ``open``, ``begin``, ``until``, ``close``."""
    meter = Meter()
    close: Callable[[], Awaitable[None]] | None = None
    answer({})
    async for command in commands():
        match command:
            case {"do": "open", "markets": markets}:
                close = await OPENERS[kind](port, markets, meter)
                answer({})
            case {"do": "begin"}:
                meter.begin()
                answer({})
            case {"do": "until", "frames": frames}:
                answer(await meter.until(frames))
            case _:
                if close is not None:
                    await close()
                meter.lags_ns = []
                answer({})


# --- processes --------------------------------------------------------------------------------------------------------


async def commands() -> Any:
    """Read commands from the input until it ends."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield json.loads(line)


def answer(content: dict[str, Any]) -> None:
    """Write an answer."""
    print(ANSWER + json.dumps(content), flush=True)


class Process:
    """One of the three, as seen from the one that measures."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this file
            [sys.executable, __file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.hello = self._read()

    def ask(self, **command: Any) -> dict[str, Any]:
        """Give a command and wait for its answer."""
        self.tell(**command)
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """Wait for the answer to what was told."""
        return self._read()

    def tell(self, **command: Any) -> None:
        """Give a command."""
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        for line in self._process.stdout or ():
            if line.startswith(ANSWER):
                content: dict[str, Any] = json.loads(line.removeprefix(ANSWER))
                return content
        raise SystemExit(f"a process of the benchmark ended: {self._process.wait()}")


class Bench:
    """The three processes."""

    def __init__(self) -> None:
        self.sender = Process("--role", "sender")
        port = str(self.sender.hello["port"])
        self.receivers = {kind: Process("--role", kind, "--port", port) for kind in OPENERS}

    def open(self, markets: int) -> None:
        """Connect the receivers."""
        for receiver in self.receivers.values():
            receiver.ask(do="open", markets=markets)

    def close_connections(self) -> None:
        """Disconnect the receivers."""
        for receiver in self.receivers.values():
            receiver.ask(do="close")

    def play(self, kind: str, markets: int, frames: int, rate: float) -> dict[str, Any]:
        """Send frames to one receiver; gives what it measured."""
        receiver = self.receivers[kind]
        receiver.ask(do="begin")
        self.sender.ask(path=f"/{kind}", markets=markets, frames=frames, rate=rate)
        got = receiver.ask(do="until", frames=frames)
        if got["frames"] != frames:
            raise SystemExit(f"{kind}: {got['frames']} of {frames} frames arrived")
        return got

    def close(self) -> None:
        """End them."""
        for process in (self.sender, *self.receivers.values()):
            process.close()


def throughput(bench: Bench, *, quick: bool) -> Table:
    """Measure as fast as it goes, by number of markets."""
    frames, rounds = (10_000, 3) if quick else (30_000, 5)
    names = {"bare": "bare client", "ours": "ours"}
    columns = ["bare client", "ours", "bare frames/s", "our frames/s", "ours / bare", "our process"]
    table = Table(
        "socket", "As fast as it goes: µs of CPU a frame in the thread that reads the socket", "markets", columns
    )
    table.chart = ["bare client", "ours"]
    for markets in MARKETS:
        bench.open(markets)
        cpu: dict[str, list[float]] = {"bare": [], "ours": [], "process": []}
        speed: dict[str, list[float]] = {"bare": [], "ours": []}
        for _ in range(rounds):
            for kind in names:
                got = bench.play(kind, markets, frames, 0)
                cpu[kind].append(1e6 * got["loop_s"] / frames)
                speed[kind].append(frames / got["wall_s"])
                if kind == "ours":
                    cpu["process"].append(1e6 * got["cpu_s"] / frames)
        bench.close_connections()
        bare, ours = results.median(cpu["bare"]), results.median(cpu["ours"])
        values: dict[str, float | None] = {
            "bare client": bare,
            "ours": ours,
            "bare frames/s": results.median(speed["bare"]),
            "our frames/s": results.median(speed["ours"]),
            "ours / bare": ours / bare,
            "our process": results.median(cpu["process"]),
        }
        table.rows.append(Row(str(markets), values))
    first, last = (table.rows[i].values["ours"] or 1.0 for i in (0, -1))
    table.targets.append(at_most("200 markets against 1: a frame takes", 1.2, last / first))
    table.notes.append("\nWith the thread that empties the channel, our process takes the last column.")
    table.show()
    return table


def lag(bench: Bench, *, quick: bool) -> Table:
    """Measure how late frames are at a steady pace, 200 markets."""
    seconds, rounds = (2.0, 2) if quick else (3.0, 9)
    columns = ["bare p50", "our p50", "p50 ratio", "bare p99", "our p99", "p99 ratio", "our cores"]
    table = Table("lag", "Lag from the sender to the client or to Qubx's channel, 200 markets: µs", "frames/s", columns)
    table.chart = ["bare p50", "our p50", "bare p99", "our p99"]
    markets = MARKETS[-1]
    bench.open(markets)
    for rate in RATES:
        got: dict[str, list[dict[str, Any]]] = {"bare": [], "ours": []}
        for _ in range(rounds):
            for kind, measured in got.items():
                measured.append(bench.play(kind, markets, int(rate * seconds), rate))
        values: dict[str, float | None] = {}
        for key, short in (("p50_us", "p50"), ("p99_us", "p99")):
            bare, ours = ([one[key] for one in got[kind]] for kind in ("bare", "ours"))
            # Round by round: what else the machine does is then in both.
            ratio = results.median([our / other for other, our in zip(bare, ours, strict=True)])
            values |= {
                f"bare {short}": results.median(bare),
                f"our {short}": results.median(ours),
                f"{short} ratio": ratio,
            }
            if rate == RATES[0]:
                table.targets.append(at_most(f"{short} at {rate:,} frames/s: takes of the bare client's", 1.4, ratio))
        cores = results.median([one["cpu_s"] / one["wall_s"] for one in got["ours"]])
        values["our cores"] = cores
        table.rows.append(Row(f"{rate:,}", values))
        if rate == RATES[-1]:
            table.targets.append(
                Target(f"200 markets at {rate:,} frames/s on less than a core", cores < 1, f"{cores:.2f} cores")
            )
    bench.close_connections()
    table.show()
    return table


def memory(bench: Bench, minutes: float) -> Table:
    """Measure what our process holds over time, 200 markets at 2,000 frames/s."""
    markets, rate, steps = MARKETS[-1], RATES[0], 10
    bench.open(markets)
    frames = int(rate * minutes * 60 / steps)
    table = Table(
        "memory", f"Memory of our process, 200 markets at {rate:,} frames/s: MiB", "minutes", ["MiB"], chart=["MiB"]
    )
    bench.play("ours", markets, 5_000, 0)
    for step in range(steps + 1):
        got = bench.play("ours", markets, frames if step else rate, rate)
        table.rows.append(Row(f"{minutes * step / steps:.1f}", {"MiB": got["rss_mib"]}))
    bench.close_connections()
    values = [row.values["MiB"] or 0.0 for row in table.rows]
    table.targets.append(
        at_most(f"after {minutes:g} minutes: holds of what it held in the first tenth", 1.02, values[-1] / values[1])
    )
    table.show()
    return table


def main() -> None:
    """Be one of the processes, or measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, half a minute")
    parser.add_argument("--minutes", type=float, help="how long memory is watched: 10 by default")
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "sender":
        asyncio.run(Sender().run())
    elif options.role:
        uvloop.run(receive(options.role, options.port))
    else:
        bench = Bench()
        try:
            minutes = options.minutes or (0.1 if options.quick else 10.0)
            tables = [throughput(bench, quick=options.quick), lag(bench, quick=options.quick), memory(bench, minutes)]
        finally:
            bench.close()
        results.save("socket", tables, options.json)


if __name__ == "__main__":
    main()
