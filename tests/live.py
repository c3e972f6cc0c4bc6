"""A desk for tests: the plugin's parts on a real venue, and Qubx's own account manager that they feed.

The venue has a thread and a loop of its own, and so has what Qubx calls the shared loop; the test stands where Qubx's
processor thread stands: it calls the connector, takes what comes over the channel, and applies it to Qubx's account.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from qubx.connectors.plugin import BuildContext, ConnectorBuildContext
from qubx.connectors.registry import ConnectorRegistry
from qubx.core.account_manager.manager import AccountManager
from qubx.core.basics import (
    CtrlChannel,
    Instrument,
    LiveTimeProvider,
    MarketType,
    Order,
    OrderRequest,
    OrderStatus,
    resolve_reduce_only,
)
from qubx.core.connector import IConnector
from qubx.core.events import AccountMessage
from qubx.core.interfaces import IDataProvider
from qubx.core.lookups import LookupsManager
from qubx.health.dummy import DummyHealthMonitor
from qubx.utils.runner.accounts import AccountConfigurationManager

from qubx_lighter.protocol.statuses import is_terminal
from qubx_lighter.signer import generate_api_key
from qubx_lighter.sim.app import Funded, Venue, accounts_toml, open_venue
from qubx_lighter.sim.faults import Fault, Kind
from qubx_lighter.sim.model import commands, records

PATIENCE_S = 10.0
US = 100
MAKER = 7
ETH, BTC = 0, 1
ETH_MID, BTC_MID = 400_000, 1_000_000  # ticks of 0.01 and of 0.1: 4,000 and 100,000
KEYS = generate_api_key


class LoopThread:
    """An event loop in a thread, as Qubx runs its shared one."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine there and wait."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_S)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function there and wait."""

        async def call() -> Any:
            return function(*arguments)

        return self.run(call())

    def stop(self) -> None:
        """End the loop and the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        self.loop.close()


class MovableTime(LiveTimeProvider):
    """The wall clock, which a test moves ahead: the venue's and Qubx's alike."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        super().__init__()
        self.ahead_s = ahead_s

    def time(self) -> np.datetime64:
        """Give the time to Qubx."""
        return super().time() + np.timedelta64(round(self.ahead_s * 1e9), "ns")

    def now_us(self) -> int:
        """Give the time to the venue, µs."""
        return time.time_ns() // 1000 + round(self.ahead_s * 1e6)

    def to_next_hour(self, seconds: float = 0.0) -> None:
        """Move to a full hour, or some seconds from it."""
        self.ahead_s += 3600 - self.now_us() / 1e6 % 3600 + seconds


class AheadOf(LiveTimeProvider):
    """A clock that runs ahead of another, or behind it."""

    def __init__(self, other: LiveTimeProvider, ahead_s: float) -> None:
        super().__init__()
        self._other = other
        self._ahead = np.timedelta64(round(ahead_s * 1e9), "ns")

    def time(self) -> np.datetime64:
        """Give the time to Qubx."""
        return self._other.time() + self._ahead


class LiveVenue:
    """A venue without a synthetic market: what happens there is what a test says."""

    def __init__(self, folder: Path, *, ahead_s: float = 0.0, **options: Any) -> None:
        self.time = MovableTime(ahead_s)
        secret, public_key = generate_api_key()
        self.account = Funded(public_key=public_key, account_index=US)
        self._thread = LoopThread("Venue")
        self._context = open_venue(
            synthetic=False, now=self.time.now_us, accounts=[self.account, Funded(account_index=MAKER)], **options
        )
        self.venue: Venue = self._thread.run(self._context.__aenter__())
        self.accounts_file = folder / "accounts.toml"
        self.accounts_file.write_text(accounts_toml(self.account, secret, list(self.engine.markets.values())))

    @property
    def engine(self) -> Any:
        """The venue's state; read it through ``ask`` while things happen."""
        return self.venue.engine

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Read the engine on the venue's own thread."""
        return self._thread.call(function, *arguments)

    def execute(self, command: commands.Command) -> commands.Result:
        """Carry out a command."""
        return self._thread.call(self.venue.server.execute, command)

    def quote(self, market_id: int, bid: int, ask: int, lots: int = 100_000) -> tuple[int, int]:
        """Have the maker rest on both sides, in ticks; give the order indexes."""
        return (self.rest(market_id, bid, lots, is_ask=False), self.rest(market_id, ask, lots, is_ask=True))

    def rest(self, market_id: int, ticks: int, lots: int, *, is_ask: bool) -> int:
        """Have the maker rest an order."""
        return self.execute(commands.PlaceOrder(MAKER, market_id, is_ask, lots, ticks)).order_index

    def take(self, market_id: int, ticks: int, lots: int, *, is_ask: bool) -> None:
        """Have the maker take from the book."""
        order = commands.PlaceOrder(MAKER, market_id, is_ask, lots, ticks, time_in_force=0)
        assert self.execute(order).ok

    def fault(self, kind: Kind, where: str = "", **options: Any) -> None:
        """Let something go wrong: once, unless the options say otherwise."""
        self._thread.call(self.venue.server.faults.add, Fault(kind, where, **options))

    def no_more_faults(self) -> None:
        """Let nothing go wrong any more."""
        self._thread.call(self.venue.server.faults.clear)

    def drop_connections(self) -> None:
        """Cut every client's socket."""
        self._thread.run(_maybe(self.venue.server.drop_connections()))

    def truth(self) -> dict[str, Any]:
        """The account as the venue's ledger has it."""

        def read() -> dict[str, Any]:
            engine, account = self.engine, self.engine.account(US)
            return {
                "orders": {
                    order.order_index: (order.initial_lots, order.filled_lots, _price_of(order))
                    for order in engine.active_orders(US)
                    if not is_terminal(order.status)
                },
                "positions": {market: row.lots for market, row in account.positions.items() if row.lots},
                "balance": round(account.collateral_micro / 1e6, 6),
            }

        return self.ask(read)

    def close(self) -> None:
        """Close it."""
        self._thread.run(self._context.__aexit__(None, None, None))
        self._thread.stop()


def _price_of(order: records.Order) -> int:
    """Give what Qubx calls an order's price: its trigger for as long as it waits for it."""
    return (
        order.trigger_price_ticks
        if order.status == records.PENDING and order.trigger_price_ticks
        else order.price_ticks
    )


async def _maybe(result: Any) -> Any:
    return await result if asyncio.iscoroutine(result) else result


class Desk:
    """The plugin's data provider and connector, made through Qubx's registry, and Qubx's account.

    Args:
        venue: where it trades.
        limiter: makes Qubx's rate limiter.
        ahead_s: how far Qubx's clock runs ahead of the venue's.
        params: the connector's.
    """

    def __init__(
        self,
        venue: LiveVenue,
        *,
        limiter: Callable[[asyncio.AbstractEventLoop], Any] | None = None,
        ahead_s: float = 0.0,
        **params: Any,
    ) -> None:
        self.venue = venue
        self.time: LiveTimeProvider = AheadOf(venue.time, ahead_s) if ahead_s else venue.time
        self.channel = CtrlChannel("test")
        self.health = Health()
        self.events: list[Any] = []
        self.data: list[tuple[Any, ...]] = []
        self._loop = LoopThread("SharedEventLoop")
        self._counter = itertools.count(time.time_ns() // 100_000_000)
        base: dict[str, Any] = {
            "exchange_name": "LIGHTER",
            "time_provider": self.time,
            "channel": self.channel,
            "credentials": AccountConfigurationManager(venue.accounts_file),
            "health_monitor": self.health,
            "loop": self._loop.loop,
            "params": {"base_url": venue.venue.url} | params,
            "rate_limiter": limiter(self._loop.loop) if limiter is not None else None,
        }
        self.provider: IDataProvider = ConnectorRegistry.get_data_provider("lighter", BuildContext(**base))
        context = ConnectorBuildContext(**base, data_provider=self.provider)
        self.connector: IConnector = ConnectorRegistry.get_connector("lighter", context)
        self.account = AccountManager(
            connectors={"LIGHTER": self.connector}, base_currencies={"LIGHTER": "USDC"}, time=self.time
        )

    def start(self) -> Desk:
        """Connect and wait for the account."""
        self.connector.connect()
        self.provider.start()
        self.until(lambda: self.account.is_synced() and self.connector.is_ws_ready())
        return self

    def instrument(self, symbol: str) -> Instrument:
        """Find an instrument as Qubx does: ``ETH-USDC``, or ``SPOT:ETH-USDC``."""
        kind, _, name = symbol.rpartition(":")
        instrument = LookupsManager().find_symbol("LIGHTER", name, MarketType[kind or "SWAP"])
        assert instrument is not None
        return instrument

    # --- what Qubx's trading manager does ------------------------------------------------------------------------------

    def submit(self, symbol: str, amount: float, price: float | None = None, tif: str = "gtc", **options: Any) -> Order:
        """Register an order and send it; ``amount`` is signed."""
        instrument = self.instrument(symbol)
        client_id = self.connector.make_client_id(options.pop("client_id", f"qubx_{symbol}_{next(self._counter)}"))
        stop_type = options.get("stop_type")
        kind = "MARKET" if price is None else f"STOP_{stop_type.upper()}" if stop_type else "LIMIT"
        order = Order(
            client_order_id=client_id,
            type=kind,  # type: ignore[arg-type]
            instrument=instrument,
            quantity=abs(amount),
            side="BUY" if amount > 0 else "SELL",  # type: ignore[arg-type]
            time_in_force=tif,
            status=OrderStatus.SUBMITTED,
            price=price,
            submitted_at=self.time.time(),
            reduce_only=bool(resolve_reduce_only(options)),
            options=options,
        )
        request = OrderRequest(
            client_id=client_id,
            instrument=instrument,
            quantity=abs(amount),
            price=price,
            order_type=order.type,
            side=order.side,
            time_in_force=tif,
            options=options,
        )
        self.account.add_order(order)
        try:
            self.connector.submit_order(request)
        except Exception:
            self.account.remove_order("LIGHTER", client_id)
            raise
        return order

    def cancel(self, order: Order) -> None:
        """Mark an order and cancel it."""
        self.account.transition_order("LIGHTER", order.client_order_id, OrderStatus.PENDING_CANCEL)
        self.connector.cancel_order(order)

    def amend(self, order: Order, **changes: float) -> None:
        """Mark an order and amend it."""
        self.account.transition_order("LIGHTER", order.client_order_id, OrderStatus.PENDING_UPDATE)
        self.connector.update_order(order, **changes)

    # --- the channel -------------------------------------------------------------------------------------------------

    def listen(self, seconds: float) -> None:
        """Take what comes for a while."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end)

    def until(self, condition: Callable[[], object]) -> None:
        """Take messages until a condition holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"waited in vain; last events: {self.events[-6:]}"
            try:
                message = self.channel._queue.get(timeout=min(left, 0.02))
            except queue.Empty:
                continue
            if isinstance(message, AccountMessage):
                self.events.append(message)
                self.account.apply(message)
            else:
                self.data.append(message)

    def until_status(self, order: Order, *statuses: OrderStatus) -> Order:
        """Take messages until Qubx's order has one of the statuses."""
        self.until(lambda: self.order(order).status in statuses)
        return self.order(order)

    def order(self, order: Order) -> Order:
        """Qubx's own order object."""
        found = self.account.get_order(order.client_order_id)
        assert found is not None, f"{order.client_order_id} is gone"
        return found

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function on the shared loop."""
        return self._loop.call(function, *arguments)

    def of_type(self, *types: type) -> list[Any]:
        """The account events of some types, so far."""
        return [event for event in self.events if isinstance(event, types)]

    def view(self) -> dict[str, Any]:
        """The account as Qubx has it, in the venue's units."""
        loader = self.connector.account._instruments  # type: ignore[attr-defined]
        scales = {market.market_id: market.scale for market in loader.markets}
        ids = {loader.instrument(market_id): market_id for market_id in scales}
        orders, positions = {}, {}
        for order in self.account.get_orders().values():
            if not order.status.is_terminal and order.status is not OrderStatus.SUBMITTED:
                scale = scales[ids[order.instrument]]
                filled = scale.to_lots(order.filled_quantity) if order.filled_quantity else 0
                orders[int(order.venue_order_id or 0)] = (
                    scale.to_lots(order.quantity) if order.quantity else 0,
                    filled,
                    scale.to_ticks(order.price) if order.price else 0,
                )
        for instrument, position in self.account.get_positions().items():
            if position.quantity:
                positions[ids[instrument]] = round(position.quantity / scales[ids[instrument]].lot_size)
        return {
            "orders": orders,
            "positions": positions,
            "balance": round(self.account.get_balance("USDC", "LIGHTER").total, 6),
        }

    def until_equal(self) -> None:
        """Take messages until Qubx's account is the venue's."""
        try:
            self.until(lambda: self.view() == self.venue.truth())
        except AssertionError:
            raise AssertionError(f"at the venue: {self.venue.truth()}\nin Qubx:      {self.view()}") from None

    def close(self) -> None:
        """Close in Qubx's order."""
        self.provider.close()
        self.channel.stop()
        self.connector.disconnect()
        self._loop.stop()


class Health(DummyHealthMonitor):
    """Qubx's silent monitor, with a memory for the answers that the connector reports."""

    def __init__(self) -> None:
        super().__init__()
        self.submits: list[str] = []
        self.cancels: list[str] = []

    def record_order_submit_response(self, exchange: str, client_id: str, event_time: Any) -> None:
        """Remember whose submit was answered."""
        self.submits.append(client_id)

    def record_order_cancel_response(self, exchange: str, client_id: str, event_time: Any) -> None:
        """Remember whose cancel was answered."""
        self.cancels.append(client_id)


@contextmanager
def venue_in(folder: Path, **options: Any) -> Iterator[LiveVenue]:
    """Run a venue where the maker quotes ETH and BTC, a dollar about 4,000 and 100,000."""
    venue = LiveVenue(folder, **options)
    try:
        venue.quote(ETH, ETH_MID - 100, ETH_MID + 100)
        venue.quote(BTC, BTC_MID - 10, BTC_MID + 10)
        yield venue
    finally:
        venue.close()


@contextmanager
def desk_on(venue: LiveVenue, **params: Any) -> Iterator[Desk]:
    """Open a desk on a venue."""
    desk = Desk(venue, **params)
    try:
        yield desk.start()
    finally:
        desk.close()
