"""The predecessor on the same frames: Qubx's own ``xlighter`` connector as ``qubx`` 0.7.37 still carried it.

It needs a Qubx of its own, so it lives in an environment of its own, which is made on the first run and kept. There this
file runs as a program: it reads rows (a name, a subscription, frames) from a file, then answers each line, a name, on
its input with the seconds of CPU that the frames took. What it times is the connector's own worker: the queue that its
socket fills, decoding, its handler, and the sending to Qubx's channel.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

VERSION = "0.7.37"
PYTHON = (3, 12)  # its wheels are for no newer one
CHUNK = 100  # frames between two readings of the channel, outside of the time
INSTALL_S = 600
ANSWER = "answer "


class UnavailableError(Exception):
    """It cannot be measured here; says why."""


def install(folder: Path) -> Path:
    """Make its environment, or find it made; gives its Python.

    Raises:
        UnavailableError: it cannot be installed.
    """
    home = folder / f"qubx-{VERSION}"
    python = home / "bin" / "python"
    done = home / ".installed"
    if done.exists():
        return python
    base = sys.executable if sys.version_info[:2] == PYTHON else "python{}.{}".format(*PYTHON)
    print(f"installing qubx {VERSION} into an environment of its own: a minute or two, once", flush=True)
    try:
        for command in (
            [base, "-m", "venv", "--clear", str(home)],
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"qubx=={VERSION}"],
        ):
            subprocess.run(command, check=True, timeout=INSTALL_S, capture_output=True, text=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise UnavailableError(f"qubx {VERSION} cannot be installed: {said[-1] if said else error}") from error
    done.touch()
    return python


class Predecessor:
    """Its process.

    Args:
        python: of its environment.
        rows: the file of rows.
    """

    def __init__(self, python: Path, rows: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own environment
            [python, __file__, rows],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer()

    def play(self, row: str) -> dict[str, Any]:
        """Play a row; gives ``seconds``, ``outputs`` and ``top``.

        Raises:
            UnavailableError: the process ended.
        """
        if self._process.stdin is None:
            raise UnavailableError("it has no input")
        self._process.stdin.write(row + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        for line in self._process.stdout or ():  # what else it prints is not for us
            if line.startswith(ANSWER):
                answer: dict[str, Any] = json.loads(line.removeprefix(ANSWER))
                return answer
        raise UnavailableError(f"its process ended: {self._process.wait()}")


def main() -> None:
    """Answer requests until the input ends; runs in the predecessor's environment."""
    rows = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    by_name = {row["name"]: row for row in rows}
    _module("qubx.connectors.xlighter.data")  # before the first measurement
    gc.collect()
    gc.freeze()
    print(ANSWER + json.dumps({}), flush=True)
    for line in sys.stdin:
        print(ANSWER + json.dumps(asyncio.run(_play(by_name[line.strip()]))), flush=True)


def _module(name: str) -> Any:
    """Import what the predecessor had and Qubx has no more, or has otherwise."""
    return importlib.import_module(name)


async def _play(row: dict[str, Any]) -> dict[str, Any]:
    _module("qubx").logger.remove()
    instruments = {market: _instrument(market) for market in row["markets"]}
    socket = _module("qubx.connectors.xlighter.websocket").LighterWebSocketManager(client=SimpleNamespace())
    channel = _module("qubx.core.basics").CtrlChannel("bench")
    provider = _module("qubx.connectors.xlighter.data").LighterDataProvider(
        client=SimpleNamespace(),
        instrument_loader=SimpleNamespace(get_instrument_by_market_id=instruments.get),
        time_provider=SimpleNamespace(),
        channel=channel,
        loop=asyncio.get_running_loop(),
        ws_manager=socket,
    )
    await _subscribe(provider, socket, row, instruments)
    worker = asyncio.create_task(socket._worker_loop())  # noqa: SLF001 - all that its socket's reader feeds
    last: dict[str, Any] = {}
    outputs = 0

    async def feed(frames: list[str]) -> float:
        nonlocal outputs
        for frame in frames:
            socket._inbox.put_nowait(frame)  # noqa: SLF001 - as its reader does
        start = time.thread_time()
        await socket._inbox.join()  # noqa: SLF001
        took = time.thread_time() - start
        while channel._queue.qsize():  # noqa: SLF001
            instrument, kind, data, _ = channel.receive(1)
            last[f"{instrument.symbol} {kind}"] = data
            outputs += 1
        return took

    for frame in row["snapshots"]:
        await feed([frame])
    outputs = 0
    gc.collect()
    frames = row["updates"]
    seconds = sum([await feed(frames[start : start + CHUNK]) for start in range(0, len(frames), CHUNK)])
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    book = last.get("M0 orderbook")
    top = None if book is None else [book.top_bid, float(book.bids[0]), book.top_ask, float(book.asks[0])]
    return {"seconds": seconds, "outputs": outputs, "top": top}


async def _subscribe(provider: Any, socket: Any, row: dict[str, Any], instruments: dict[int, Any]) -> None:
    """Wire its handlers as its subscribe does, without a socket to write to."""
    types = _module("qubx.core.basics").DataType
    for subscription, markets in row["subscriptions"].items():
        kind, parameters = types.from_str(subscription)
        provider._subscriptions[kind].update(instruments.values())  # noqa: SLF001
        if kind == types.FUNDING_RATE:
            provider._handlers["market_stats", 0] = provider._create_handler(kind, None, 0)  # noqa: SLF001
            handler = provider._make_unified_market_stats_callback()  # noqa: SLF001
            await socket_subscribe(socket, "market_stats/all", handler)
            continue
        for market in markets or instruments:
            instrument = instruments[market]
            provider._handlers[kind, market] = provider._create_handler(kind, instrument, market, **parameters)  # noqa: SLF001
            make = {
                types.ORDERBOOK: provider._make_orderbook_callback,  # noqa: SLF001
                types.TRADE: provider._make_trade_callback,  # noqa: SLF001
            }[kind]
            channel = {types.ORDERBOOK: "order_book", types.TRADE: "trade"}[kind]
            await socket_subscribe(socket, f"{channel}/{market}", make(instrument, market))


async def socket_subscribe(socket: Any, channel: str, handler: Any) -> None:
    """Do what its ``subscribe`` does once connected, without writing."""
    kind = _module("qubx.utils.websocket_manager").ChannelSubscription
    socket._subs[channel] = kind(channel, handler, {})  # noqa: SLF001


def _instrument(market: int) -> Any:
    basics = _module("qubx.core.basics")
    return basics.Instrument(
        symbol=f"M{market}",
        asset_type=basics.AssetType.CRYPTO,
        market_type=basics.MarketType.SWAP,
        exchange="LIGHTER",
        base=f"M{market}",
        quote="USDC",
        settle="USDC",
        exchange_symbol=f"M{market}",
        tick_size=0.01,
        lot_size=0.0001,
        min_size=0.005,
        min_notional=10.0,
        onboard_date=datetime(2025, 1, 1, tzinfo=UTC).replace(tzinfo=None),
    )


if __name__ == "__main__":
    main()
