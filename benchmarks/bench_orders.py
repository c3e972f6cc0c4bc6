"""Measure orders: from Qubx's call to the frame on the wire and to the accepted event, against signing alone, ccxt and the SDK.

usage: python benchmarks/bench_orders.py [--quick] [--json FILE]

Four processes. The local venue; this one, which is the plugin as Qubx builds it, with its loop in a thread and Qubx's calls
from the main one; a client of ccxt or of the SDK, which places its orders on its main thread as their users do; and the
sender of order books of ``bench_socket``. All run on uvloop, which Qubx's runner installs, and trade the same venue in turn,
each with an API key of its own. Orders rest far from the touch and are cancelled between the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import bench_socket
import results
import uvloop
from results import Row, Table, Target, at_least

ACCOUNT: Final = 100
KEYS: Final = {"ours": 4, "sdk": 5, "ccxt": 6}
ETH: Final = 0
PRICE: Final = 3_000.0  # a quarter below the maker's bid
TOUCH: Final = 400_000  # ticks
SIZE: Final = 0.01
BURST: Final = 50
RESTING: Final = 200
BOOKS: Final = 50
BOOK_RATE: Final = 1_000
COLLATERAL: Final = 100_000_000.0
PATIENCE_S: Final = 30.0
OVERHEAD_MS: Final = 0.5
LAG_MS: Final = 1.0
DAYS_28_MS: Final = 28 * 86_400_000
COUNTER: Final = itertools.count(time.time_ns() // 100_000_000)
"""Numbers of orders, as Qubx counts them."""


# --- the venue --------------------------------------------------------------------------------------------------------


async def serve(public_keys: dict[str, str]) -> None:
    """Be the venue until the input ends."""
    from qubx_lighter.sim.app import Funded, open_venue  # noqa: PLC0415 - the other processes have no venue
    from qubx_lighter.sim.model.commands import PlaceOrder, RegisterKey  # noqa: PLC0415

    accounts = [
        Funded(public_keys["ours"], ACCOUNT, KEYS["ours"], COLLATERAL),
        Funded(account_index=7, collateral=COLLATERAL),
    ]
    async with open_venue(markets=["ETH", "BTC"], synthetic=False, accounts=accounts) as venue:
        for name in ("sdk", "ccxt"):
            venue.server.execute(RegisterKey(ACCOUNT, KEYS[name], public_keys[name]))
        for is_ask, ticks in ((False, TOUCH - 100), (True, TOUCH + 100)):
            venue.server.execute(PlaceOrder(7, ETH, is_ask, 1_000_000, ticks))
        bench_socket.answer({"url": venue.url, "chain_id": venue.server.chain_id})
        async for _ in bench_socket.commands():
            count = sum(1 for order in venue.engine.active_orders(ACCOUNT))
            bench_socket.answer({"orders": count})


# --- the rivals -------------------------------------------------------------------------------------------------------


async def rival(name: str, url: str, chain_id: int, secret: str) -> None:
    """Place orders one after the other, as told; answer with the milliseconds that each took."""
    place = await {"sdk": open_sdk, "ccxt": open_ccxt}[name](url, chain_id, secret)
    bench_socket.answer({})
    async for command in bench_socket.commands():
        took = []
        for number in range(command["orders"]):
            start = time.perf_counter()
            await place(number)
            took.append(1e3 * (time.perf_counter() - start))
            if command["rate"]:
                await asyncio.sleep(max(1 / command["rate"] - (time.perf_counter() - start), 0))
        bench_socket.answer({"ms": took})


async def open_sdk(url: str, chain_id: int, secret: str) -> Callable[[int], Any]:
    """Make the SDK's client; gives how to place an order."""
    from lighter import SignerClient  # noqa: PLC0415 - takes a second

    client = SignerClient(url, ACCOUNT, {KEYS["sdk"]: secret}, chain_id=chain_id)

    async def place(_: int) -> None:
        *_, error = await client.create_order(
            market_index=ETH,
            client_order_index=0,
            base_amount=round(SIZE * 10_000),
            price=round(PRICE * 100),
            is_ask=False,
            order_type=0,
            time_in_force=1,
            api_key_index=KEYS["sdk"],
        )
        if error:
            raise SystemExit(f"the SDK could not place an order: {error}")

    return place


async def open_ccxt(url: str, chain_id: int, secret: str) -> Callable[[int], Any]:
    """Make ccxt's exchange, which binds the SDK's library; gives how to place an order."""
    import ccxt.async_support  # noqa: PLC0415
    from lighter.signer_client import get_signer  # noqa: PLC0415

    exchange = ccxt.async_support.lighter(
        {
            "enableRateLimit": False,  # it would wait between orders
            "options": {
                "chainId": chain_id,
                "accountIndex": ACCOUNT,
                "apiKeyIndex": KEYS["ccxt"],
                "libraryPath": get_signer()._name,  # noqa: SLF001 - where ctypes found it
                "auths": {str(ACCOUNT): {str(KEYS["ccxt"]): {"lighterPrivateKey": secret.removeprefix("0x")}}},
                "builderFee": False,  # it would add a fee to every order
            },
        }
    )
    exchange.urls["api"] = {"root": url, "public": url, "private": url}
    await exchange.load_markets()

    async def place(_: int) -> None:
        await exchange.create_order("ETH/USDC:USDC", "limit", "buy", SIZE, PRICE)

    return place


# --- ours -------------------------------------------------------------------------------------------------------------


@dataclass
class Wire:
    """What our process writes: each frame of a transaction, and when it was written."""

    frames: list[tuple[float, str]] = field(default_factory=list)

    def watch(self) -> None:
        """See every frame of every WebSocket of this process."""
        send = aiohttp.ClientWebSocketResponse.send_str
        frames = self.frames

        async def watched(socket: Any, text: str, *arguments: Any) -> None:
            await send(socket, text, *arguments)
            if "jsonapi/sendtx" in text:
                frames.append((time.perf_counter(), text))

        aiohttp.ClientWebSocketResponse.send_str = watched  # type: ignore[assignment,method-assign]

    def written(self) -> dict[int, float]:
        """Tell when the order of each client index was first written."""
        at: dict[int, float] = {}
        for moment, text in self.frames:
            data = json.loads(text)["data"]
            infos = [data["tx_info"]] if "tx_info" in data else map(json.loads, json.loads(data["tx_infos"]))
            for info in infos:
                if "ClientOrderIndex" in info:
                    at.setdefault(info["ClientOrderIndex"], moment)
        return at


class Plugin:
    """The plugin as Qubx builds it: its loop in a thread, its channel read by another, calls from the main one."""

    def __init__(self, url: str, accounts: Path, **params: Any) -> None:
        from qubx.connectors.plugin import BuildContext, ConnectorBuildContext  # noqa: PLC0415 - seconds
        from qubx.connectors.registry import ConnectorRegistry  # noqa: PLC0415
        from qubx.core.basics import CtrlChannel, LiveTimeProvider, MarketType  # noqa: PLC0415
        from qubx.core.lookups import LookupsManager  # noqa: PLC0415
        from qubx.health.dummy import DummyHealthMonitor  # noqa: PLC0415
        from qubx.utils.runner.accounts import AccountConfigurationManager  # noqa: PLC0415

        self.loop = uvloop.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.channel = CtrlChannel("bench")
        self._clock = LiveTimeProvider()
        base: dict[str, Any] = {
            "exchange_name": "LIGHTER",
            "time_provider": self._clock,
            "channel": self.channel,
            "credentials": AccountConfigurationManager(accounts),
            "health_monitor": DummyHealthMonitor(),
            "loop": self.loop,
            "params": {"base_url": url} | params,
        }
        self.provider = ConnectorRegistry.get_data_provider("lighter", BuildContext(**base))
        self.connector: Any = ConnectorRegistry.get_connector(
            "lighter", ConnectorBuildContext(**base, data_provider=self.provider)
        )
        self.accepted: dict[str, float] = {}
        self.cancelled: dict[str, float] = {}
        self.rejected: list[Any] = []
        self._synced = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        self.connector.connect()
        self.provider.start()
        self.wait(lambda: self._synced.is_set() and self.connector.is_ws_ready())
        instrument = LookupsManager().find_symbol("LIGHTER", "ETH-USDC", MarketType.SWAP)
        if instrument is None:
            raise SystemExit("the venue lists no ETH-USDC")
        self.instrument = instrument

    def request(self) -> Any:
        """Write the request of an order that rests, as Qubx's trading manager does: it asks for an id and reads the clock."""
        from qubx.core.basics import OrderRequest  # noqa: PLC0415 - loaded long ago

        client_id = self.connector.make_client_id(f"qubx_ETH-USDC_{next(COUNTER)}")
        self._clock.time()
        return OrderRequest(
            client_id=client_id,
            instrument=self.instrument,
            quantity=SIZE,
            price=PRICE,
            order_type="LIMIT",  # type: ignore[arg-type] # an enum of strings
            side="BUY",  # type: ignore[arg-type]
            time_in_force="gtc",
            options={},
        )

    def index_of(self, client_id: str) -> int:
        """Give the index that an order has on the wire."""
        return int(self.connector.account._converter.ids.index_of(client_id))  # noqa: SLF001 - how else

    def signer(self) -> Any:
        """Give what signs."""
        return self.connector.broker._sender._lanes[0]._signer  # noqa: SLF001 - as above

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds."""
        deadline = time.perf_counter() + PATIENCE_S
        while not condition():
            if self.rejected or time.perf_counter() > deadline:
                raise SystemExit(f"what was waited for did not happen: {self.rejected[:2]}")
            time.sleep(0.002)

    def run(self, coroutine: Any) -> Any:
        """Run on the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_S)

    def close(self) -> None:
        """Close in Qubx's order."""
        self.provider.close()
        self.channel.stop()
        self.connector.disconnect()
        self.loop.call_soon_threadsafe(self.loop.stop)

    def _read(self) -> None:
        from qubx.core.events import (  # noqa: PLC0415 - loaded long ago
            AccountSnapshotEvent,
            OrderAcceptedEvent,
            OrderCanceledEvent,
            OrderRejectedEvent,
        )

        while (message := self.channel.receive()) != (None, None, None, None):
            now = time.perf_counter()
            if isinstance(message, OrderAcceptedEvent):
                self.accepted[message.client_order_id or ""] = now
            elif isinstance(message, OrderCanceledEvent):
                self.cancelled[message.client_order_id or ""] = now
            elif isinstance(message, AccountSnapshotEvent):
                self._synced.set()
            elif isinstance(message, OrderRejectedEvent):
                self.rejected.append(message)


@dataclass
class Measured:
    """What became of some orders: milliseconds each."""

    wire: list[float]
    accepted: list[float]
    cpu_ms: float

    def put(self, other: Measured) -> None:
        """Add another round."""
        self.wire += other.wire
        self.accepted += other.accepted


def place(plugin: Plugin, wire: Wire, count: int, rate: float, *, cold: bool = False) -> Measured:
    """Place orders, ``rate`` a second or, with 0, at once; wait until all rest, and cancel them with one transaction.

    Requests are made where Qubx makes them, right before the call, or, ``cold``, all before the first one.
    """
    requests: Iterator[Any] = (plugin.request() for _ in range(count))
    if cold:
        requests = iter(list(requests))
    called: dict[str, float] = {}
    wire.frames.clear()
    cpu, start = time.process_time(), time.perf_counter()
    for number in range(count):
        if rate and (wait := start + number / rate - time.perf_counter()) > 0:
            time.sleep(wait)
        request = next(requests)
        called[request.client_id] = time.perf_counter()
        plugin.connector.submit_order(request)
    plugin.wait(lambda: called.keys() <= plugin.accepted.keys())
    cpu = time.process_time() - cpu
    written = wire.written()
    measured = Measured(
        [1e3 * (written[plugin.index_of(client_id)] - at) for client_id, at in called.items()],
        [1e3 * (plugin.accepted[client_id] - at) for client_id, at in called.items()],
        1e3 * cpu / count,
    )
    clear(plugin, called)
    return measured


def clear(plugin: Plugin, client_ids: Iterable[str]) -> None:
    """Cancel all orders and wait for the end of these."""
    plugin.connector.broker.cancel_all()
    wanted = set(client_ids)
    plugin.wait(lambda: wanted <= plugin.cancelled.keys())


async def sign_alone(signer: Any, count: int, rate: float) -> list[float]:
    """Sign so many orders, paced as they are; milliseconds each."""
    from qubx_lighter.constants import OrderType, TimeInForce  # noqa: PLC0415 - loaded long ago
    from qubx_lighter.protocol.order_table import OrderFields  # noqa: PLC0415 - as above

    took = []
    for number in range(count):
        start = time.perf_counter()
        order = OrderFields(
            market_id=ETH,
            client_order_index=1 + number,
            base_lots=100,
            price_ticks=300_000,
            is_ask=False,
            order_type=OrderType.LIMIT,
            time_in_force=TimeInForce.GTT,
            reduce_only=False,
            order_expiry_ms=int(time.time() * 1000) + DAYS_28_MS,
        )
        await signer.create_order(order, nonce=number)
        took.append(1e3 * (time.perf_counter() - start))
        if rate:
            await asyncio.sleep(max(1 / rate - (time.perf_counter() - start), 0))
    return took


async def sign_together(signer: Any, count: int) -> float:
    """Sign so many orders at once; milliseconds an order."""
    start = time.perf_counter()
    await asyncio.gather(*(sign_alone(signer, 1, 0) for _ in range(count)))
    return 1e3 * (time.perf_counter() - start) / count


async def gain_of_workers(signer: Any, *, rounds: int) -> float:
    """Sign bursts with one worker and with all in turn; gives how many times as long the one takes."""
    from pydantic import SecretStr  # noqa: PLC0415 - loaded long ago

    from qubx_lighter.signer import Signer, generate_api_key  # noqa: PLC0415 - as above

    secret, _ = generate_api_key()
    single = Signer(
        chain_id=304, account_index=ACCOUNT, api_key_index=9, private_key=SecretStr(secret), base_url="", workers=1
    )
    await single.load()
    ratios = []
    for _ in range(rounds):
        alone = await sign_together(single, BURST)
        ratios.append(alone / await sign_together(signer, BURST))
    single.close()
    return results.median(ratios)


def quantile(values: list[float], share: float) -> float:
    """Give the value below which a share of them lies."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


# --- the tables -------------------------------------------------------------------------------------------------------


def speed(plugin: Plugin, wire: Wire, *, quick: bool) -> Table:
    """Measure ours at several paces, each round beside signatures at the same pace."""
    columns = ["one signature", "wire p50", "wire p99", "own share p50", "accepted p50", "accepted p99", "CPU an order"]
    table = Table("orders", "From Qubx's call to the wire and to the accepted event: ms", "orders", columns)
    table.chart = ["one signature", "wire p50", "wire p99", "accepted p50", "accepted p99"]
    for rate, count in ((1, 2 if quick else 10), (10, 15 if quick else 40), (100, 100 if quick else 250)):
        totals = {False: Measured([], [], 0), True: Measured([], [], 0)}
        signing: list[float] = []
        cpus: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(2 if quick else 3):
            signing += plugin.run(sign_alone(plugin.signer(), count, rate))
            for cold, total in totals.items():
                got = place(plugin, wire, count, rate, cold=cold)
                total.put(got)
                cpus[cold].append(got.cpu_ms)
        for cold, total in totals.items():
            name = f"{rate} a second" + ", cold" * cold
            _add(table, name, total, results.median(signing), results.median(cpus[cold]))
        own = table.rows[-2].values["own share p50"] or 0.0
        text = f"{rate} a second: own share over one signature at most {OVERHEAD_MS:g} ms at the median"
        table.targets.append(Target(text, own <= OVERHEAD_MS, f"{own:.2f} ms"))
    bursts(plugin, wire, table, f"burst of {BURST}", rounds=5 if quick else 20)
    gain = plugin.run(gain_of_workers(plugin.signer(), rounds=5 if quick else 15))
    text = f"{BURST} signatures with one worker take of the time with one a core"
    table.targets.append(at_least(text, 1.3, gain))
    table.notes.append(
        "\nCold are calls with requests made seconds before them: Qubx asks for the client id, reads its clock and makes the request "
        "right before the call, so that its rows are the others. "
        "Of a burst, one signature is what each of 50 costs when all are asked for at once; its other columns count from "
        "the call of each order, so its p99 is nearly the whole burst. At most 16 single orders are unanswered at a time. "
        "CPU is of the whole process, without market data."
    )
    return table


def bursts(plugin: Plugin, wire: Wire, table: Table, name: str, *, rounds: int) -> None:
    """Measure bursts."""
    total, alone, cpus = Measured([], [], 0), [], []
    for _ in range(rounds):
        alone.append(plugin.run(sign_together(plugin.signer(), BURST)))
        got = place(plugin, wire, BURST, 0)
        total.put(got)
        cpus.append(got.cpu_ms)
    _add(table, name, total, results.median(alone), results.median(cpus))


def _add(table: Table, name: str, got: Measured, signature: float, cpu_ms: float) -> None:
    p50 = quantile(got.wire, 0.5)
    values: dict[str, float | None] = {
        "one signature": signature,
        "wire p50": p50,
        "wire p99": quantile(got.wire, 0.99),
        "own share p50": None if "burst" in name else max(p50 - signature, 0.0),
        "accepted p50": quantile(got.accepted, 0.5),
        "accepted p99": quantile(got.accepted, 0.99),
        "CPU an order": cpu_ms,
    }
    table.rows.append(Row(name, values))


def against(plugin: Plugin, wire: Wire, rivals: dict[str, Process], *, quick: bool) -> Table:
    """Measure ours beside ccxt and the SDK: one order at a time, and 50 one after the other."""
    columns = ["p50", "p99", "times ours", "50 orders", "50: times ours"]
    table = Table("order_rivals", "One order, and 50 in a row, until the client knows: ms", "client", columns)
    table.chart = ["p50", "50 orders"]
    single: dict[str, list[float]] = {"ours": [], **{name: [] for name in rivals}}
    many: dict[str, list[float]] = {name: [] for name in single}
    count = 10 if quick else 30
    for _ in range(2 if quick else 4):
        single["ours"] += place(plugin, wire, count, 10).accepted
        many["ours"].append(max(place(plugin, wire, BURST, 0).accepted))
        for name, process in rivals.items():
            single[name] += process.ask(orders=count, rate=10)["ms"]
            many[name].append(sum(process.ask(orders=BURST, rate=0)["ms"]))
            plugin.connector.broker.cancel_all()
    ours = results.median(single["ours"]), results.median(many["ours"])
    titles = {"ours": "ours, to the accepted event", "ccxt": "ccxt create_order", "sdk": "SDK create_order"}
    for name, title in titles.items():
        one, fifty = results.median(single[name]), results.median(many[name])
        values: dict[str, float | None] = {
            "p50": one,
            "p99": quantile(single[name], 0.99),
            "times ours": one / ours[0],
            "50 orders": fifty,
            "50: times ours": fifty / ours[1],
        }
        table.rows.append(Row(title, values))
    table.notes.append(
        "\nThe others return with the venue's answer to the request; ours is measured to the event that follows it, when the "
        "order rests. They wait for one order before they place the next."
    )
    table.show()
    return table


def market_data(plugin: Plugin, wire: Wire, *, quick: bool) -> Table:
    """Measure how late order books are on the same loop, with orders and without."""
    seconds, rounds = (2.0, 2) if quick else (4.0, 5)
    table = Table("order_lag", "Lag of order books on the loop that orders leave from: ms", "meanwhile", ["p50", "p99"])
    table.chart = ["p50", "p99"]
    sender = bench_socket.Process("--role", "sender")
    meter = bench_socket.Meter()
    close = plugin.run(bench_socket.open_ours(int(sender.hello["port"]), BOOKS, meter))
    got: dict[str, list[dict[str, Any]]] = {"nothing": [], "100 orders a second": []}
    frames = int(BOOK_RATE * seconds)
    try:
        for _ in range(rounds):
            for name, measured in got.items():
                meter.begin()
                sender.tell(path="/ours", markets=BOOKS, frames=frames, rate=BOOK_RATE)
                if name != "nothing":
                    place(plugin, wire, int(100 * seconds * 0.9), 100)
                sender.hear()
                measured.append(plugin.run(meter.until(frames)))
        plugin.run(close())
    finally:
        sender.close()
    for name, measured in got.items():
        row = {short: results.median([one[f"{short}_us"] for one in measured]) / 1e3 for short in ("p50", "p99")}
        table.rows.append(Row(name, dict(row)))
    growth = (table.rows[1].values["p99"] or 0.0) - (table.rows[0].values["p99"] or 0.0)
    text = f"100 orders a second make the p99 of {BOOK_RATE:,} books a second grow by less than {LAG_MS:g} ms"
    table.targets.append(Target(text, growth < LAG_MS, f"{growth:.2f} ms"))
    table.show()
    return table


def cancelling(plugin: Plugin, wire: Wire) -> Table:
    """Measure the end of many orders."""
    columns = ["messages", "first", "last"]
    table = Table(
        "cancel_all", "Cancel-all: messages written, and ms to the first and last order's event", "orders", columns
    )
    called = {}
    for _ in range(RESTING):
        request = plugin.request()
        called[request.client_id] = request
        plugin.connector.submit_order(request)
    plugin.wait(lambda: called.keys() <= plugin.accepted.keys())
    wire.frames.clear()
    start = time.perf_counter()
    clear(plugin, called)
    at = [1e3 * (plugin.cancelled[client_id] - start) for client_id in called]
    row: dict[str, float | None] = {"messages": len(wire.frames), "first": min(at), "last": max(at)}
    table.rows.append(Row(str(RESTING), row))
    table.targets.append(Target(f"{RESTING} orders end by one message", len(wire.frames) == 1, str(len(wire.frames))))
    table.show()
    return table


# --- processes --------------------------------------------------------------------------------------------------------


class Process(bench_socket.Process):
    """One of the others, told its secrets over its input."""

    def __init__(self, role: str, **told: Any) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this file
            [sys.executable, __file__, "--role", role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ.copy(),
        )
        self.hello = self.ask(**told)


def measure(*, quick: bool) -> list[Table]:
    """Open everything, measure, and close it."""
    from loguru import logger  # noqa: PLC0415 - the others keep theirs

    from qubx_lighter.signer import generate_api_key  # noqa: PLC0415

    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    keys = {name: generate_api_key() for name in KEYS}
    wire = Wire()
    wire.watch()
    venue = Process("venue", **{name: public for name, (_, public) in keys.items()})
    opened: list[Any] = [venue]
    try:
        url, chain_id = str(venue.hello["url"]), int(venue.hello["chain_id"])
        rivals = {name: Process(name, url=url, chain_id=chain_id, secret=keys[name][0]) for name in ("ccxt", "sdk")}
        opened += rivals.values()
        with tempfile.TemporaryDirectory() as folder:
            accounts = Path(folder, "accounts.toml")
            accounts.write_text(
                f'[[accounts]]\nname = "bench"\nexchange = "LIGHTER"\napi_key = "0x0"\nsecret = "{keys["ours"][0]}"\n'
                f'account_index = {ACCOUNT}\napi_key_index = {KEYS["ours"]}\nbase_currency = "USDC"\n'
            )
            plugin = Plugin(url, accounts)
            place(plugin, wire, BURST, 0)  # the first ones load and warm what is lazy
            orders = speed(plugin, wire, quick=quick)
            others = [
                against(plugin, wire, rivals, quick=quick),
                market_data(plugin, wire, quick=quick),
                cancelling(plugin, wire),
            ]
            plugin.close()
            batching = Plugin(url, accounts, batch_size=15)
            place(batching, wire, BURST, 0)
            bursts(batching, wire, orders, f"burst of {BURST}, batches of 15", rounds=5 if quick else 20)
            batching.close()
            orders.show()
    finally:
        for process in reversed(opened):
            process.close()
    return [orders, *others]


async def act(role: str) -> None:
    """Be one of the other processes."""
    told = json.loads(await asyncio.to_thread(sys.stdin.readline))
    if role == "venue":
        await serve(told)
    else:
        await rival(role, **told)


def main() -> None:
    """Be one of the processes, or measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer orders, half a minute")
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        uvloop.run(act(options.role))
    else:
        results.save("orders", measure(quick=options.quick), options.json)


if __name__ == "__main__":
    main()
