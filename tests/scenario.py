"""A seeded scenario: random actions of a strategy, of the market and of another client on one account, over real sockets.

The strategy trades through the plugin into Qubx's own account manager, whose reconciler ticks as in a run. The market is a
maker who moves and takes; the other client signs with an API key of its own and sends over REST. ``Scenario.run`` ends with
a comparison of everything that Qubx knows of the account with the venue's ledger.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
from pydantic import SecretStr
from qubx.core.basics import Order, OrderStatus
from qubx.core.events import DealEvent
from qubx.core.exceptions import InvalidOrderParameters, InvalidOrderTransition

from qubx_lighter.client import LighterClient
from qubx_lighter.constants import OrderType, TimeInForce
from qubx_lighter.errors import LighterError
from qubx_lighter.protocol.order_table import OrderFields
from qubx_lighter.protocol.units import Scale
from qubx_lighter.signer import Signer, generate_api_key
from qubx_lighter.sim.model import commands, records
from tests.live import BTC, ETH, MAKER, US, Desk, LiveVenue, LoopThread

SYMBOLS = {ETH: "ETH-USDC", BTC: "BTC-USDC"}
OTHER_KEY = 5
MICRO = 10**6
PATIENCE_S = 90.0
SWEEP_S = 7.0
TICK_S = 1.0  # of Qubx's reconciler; a run has 2
MOST_WORKING = 40
WORKING = (OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED)
IN_FLIGHT = (OrderStatus.SUBMITTED, OrderStatus.PENDING_CANCEL, OrderStatus.PENDING_UPDATE)


class OtherClient:
    """Somebody else who trades the same account: an API key of its own, REST, no streams."""

    def __init__(self, venue: LiveVenue) -> None:
        secret, public_key = generate_api_key()
        assert venue.execute(commands.RegisterKey(US, OTHER_KEY, public_key)).ok
        self._thread = LoopThread("OtherClient")
        self._client = LighterClient(venue.venue.url)
        self._signer = Signer(
            chain_id=venue.venue.server.chain_id,
            account_index=US,
            api_key_index=OTHER_KEY,
            private_key=SecretStr(secret),
            base_url=venue.venue.url,
        )
        self._nonce = 0

    def place(self, market_id: int, ticks: int, lots: int, *, is_ask: bool, expiry_ms: int) -> None:
        """Place a limit order that rests."""
        self._send(
            lambda nonce: self._signer.create_order(
                OrderFields(
                    market_id=market_id,
                    client_order_index=0,
                    base_lots=lots,
                    price_ticks=ticks,
                    is_ask=is_ask,
                    order_type=OrderType.LIMIT,
                    time_in_force=TimeInForce.GTT,
                    reduce_only=False,
                    order_expiry_ms=expiry_ms,
                ),
                nonce=nonce,
            )
        )

    def cancel(self, market_id: int, index: int) -> None:
        """Cancel an order, whoever placed it."""
        self._send(lambda nonce: self._signer.cancel_order(market_id=market_id, index=index, nonce=nonce))

    def close(self) -> None:
        """Close it."""
        self._thread.run(self._client.close())
        self._signer.close()
        self._thread.stop()

    def _send(self, sign: Callable[[int], Any]) -> None:
        async def send() -> bool:
            signed = await sign(self._nonce)
            try:
                await self._client.send_transaction(signed.tx_type, signed.tx_info)
            except LighterError:
                return False
            return True

        self._nonce += bool(self._thread.run(send()))


class Scenario:
    """One run.

    Args:
        venue: with markets 0 and 1, and nothing in their books.
        desk: on it, started.
        seed: of the choice of actions.
    """

    def __init__(self, venue: LiveVenue, desk: Desk, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self._venue = venue
        self._desk = desk
        self._chance = random.Random(seed)
        self._other = OtherClient(venue)
        self._prices = {ETH: 400_000, BTC: 1_000_000}
        self._scales: dict[int, Scale] = {
            market.market_id: market.scale
            for market in desk.connector.account._instruments.markets  # type: ignore[attr-defined]
        }
        self._orders: list[Order] = []
        self._trades: dict[int, records.Trade] = {}
        self._deposited_micro = 0
        self._start_micro = self._collateral_micro()
        self._ticked = self._asked = 0.0
        self._actions: list[tuple[float, Callable[[], None]]] = [
            (22, self._limit),
            (6, self._immediate),
            (6, self._post_only),
            (8, self._market),
            (3, self._stop),
            (2, self._group),
            (12, self._amend),
            (12, self._cancel),
            (0.3, self._cancel_all),
            (12, self._move),
            (9, self._take),
            (4, self._manual_order),
            (3, self._manual_cancel),
            (1, self._deposit),
            (0.4, self._cut),
            (0.3, self._leverage),
            (0.15, self._hour),
            (0.1, self._outage),
            (0.1, self._squeeze),
            (0.5, self._twap),
            (0.6, self._ask),
        ]

    # --- the run -----------------------------------------------------------------------------------------------------

    def run(self, actions: int) -> None:
        """Do so many actions, settle, and compare."""
        for symbol in SYMBOLS.values():
            self._desk.provider.subscribe("quote", {self._desk.instrument(symbol)})
        for market_id in SYMBOLS:
            self._requote(market_id)
        self._until(lambda: all(self._quoted(market_id) for market_id in SYMBOLS))
        weights = [weight for weight, _ in self._actions]
        for number in range(actions):
            (_, action) = self._chance.choices(self._actions, weights)[0]
            self.done[action.__name__.removeprefix("_")] += 1
            action()
            self._listen(0.0 if self._chance.random() < 0.7 else 0.01 * self._chance.random())
            if number % 200 == 199:
                self._collect_trades()
                self._orders = [order for order in self._orders if not self._status(order).is_terminal]
        self.settle()
        self.compare()

    @property
    def trades(self) -> int:
        """Count the account's trades."""
        return len(self._trades)

    def close(self) -> None:
        """Free what it opened."""
        self._other.close()

    def settle(self) -> None:
        """Let everything that is on its way arrive."""
        self._until(self._desk.connector.is_ws_ready)
        self._until(lambda: not [o for o in self._desk.account.get_orders().values() if o.status in IN_FLIGHT])
        self._until(self._equal)
        self._until(
            lambda: math.isclose(self._funding_told(), float(self._funding()), abs_tol=1e-7)
        )  # asked for hourly

    def _equal(self) -> bool:
        """Compare orders, positions and balance; Qubx asks for all orders every five minutes, here every few seconds."""
        if self._view() == self._venue.truth():
            return True
        now = time.monotonic()
        if now - self._asked > SWEEP_S:
            self._asked = now
            self._desk.connector.request_snapshot()
        return False

    def _view(self) -> dict[str, Any]:
        """Qubx's account; of a TWAP at market, which has no price there, the venue's."""
        view, truth = self._desk.view(), self._venue.truth()["orders"]
        for index, (lots, filled, ticks) in view["orders"].items():
            if not ticks and index in truth:
                view["orders"][index] = (lots, filled, truth[index][2])
        return view

    # --- the comparison ----------------------------------------------------------------------------------------------

    def compare(self) -> None:
        """Insist that Qubx's account is the venue's: orders, positions, balance, deals, fees, realized profit."""
        self._collect_trades()
        assert self._venue.truth() == self._view()
        self._compare_deals()
        fees, realized = self._ledger()
        positions = self._desk.account.get_positions()
        paid = math.fsum(position.commissions for position in positions.values())
        assert abs(float(fees) - paid) <= 1e-6 * (1 + len(self._trades)), (fees, paid)
        # The venue's own books agree with themselves: what its trades realized is what its collateral shows.
        funding = self._funding()
        moved = Decimal(self._collateral_micro() - self._start_micro - self._deposited_micro) / MICRO
        booked = realized - fees + funding
        assert abs(moved - booked) <= Decimal(len(self._trades) + 1) / MICRO, (moved, realized, fees, funding)
        received = self._funding_told()
        assert abs(received - float(funding)) <= 1e-9 * (1 + len(self._trades)), (received, funding)
        gained = math.fsum(position.r_pnl for position in positions.values()) - received
        assert abs(gained - float(realized)) <= self._rounding(), (gained, realized, self._rounding())

    def _compare_deals(self) -> None:
        """Insist on each own trade once: none missing, none twice but those that Qubx asked for again."""
        wanted = Counter(
            f"{trade.trade_id}" for trade in self._trades.values() if US in (trade.ask_account, trade.bid_account)
        )
        told = Counter(event.deal.trade_id for event in self._desk.of_type(DealEvent) if not event.historical)
        recovered = {event.deal.trade_id for event in self._desk.of_type(DealEvent) if event.historical}
        assert not [trade for trade, times in told.items() if times > 1]
        assert not set(wanted) - set(told) - recovered
        assert not (set(told) | recovered) - set(wanted)

    def _ledger(self) -> tuple[Decimal, Decimal]:
        """Work out fees and realized profit from the venue's trades, by average cost."""
        fees = realized = Decimal(0)
        held: dict[int, tuple[Decimal, Decimal]] = {}  # lots, cost
        for trade in sorted(self._trades.values(), key=lambda one: one.trade_id):
            for account, sign, is_ask in ((trade.ask_account, -1, True), (trade.bid_account, 1, False)):
                if account != US:
                    continue
                lots = Decimal(sign * trade.lots)
                cost = Decimal(trade.quote_micro) / MICRO
                ppm = trade.maker_fee_ppm if trade.is_maker_ask == is_ask else trade.taker_fee_ppm
                fees += cost * ppm / MICRO
                position, entry = held.get(trade.market_id, (Decimal(0), Decimal(0)))
                if position * lots < 0:
                    closed = min(abs(position), abs(lots))
                    share, part = entry * closed / abs(position), cost * closed / abs(lots)
                    realized += (part - share) if position > 0 else (share - part)
                    entry, cost = entry - share, cost - part
                    if abs(lots) > abs(position):
                        entry = cost
                else:
                    entry += cost
                held[trade.market_id] = position + lots, entry
        return fees, realized

    def _funding(self) -> Decimal:
        """Add up what the account paid (negative) or received."""
        payments = self._venue.ask(lambda: list(self._venue.engine.account(US).fundings))
        return sum((Decimal(payment.change_micro) for payment in payments), Decimal(0)) / MICRO

    def _funding_told(self) -> float:
        return math.fsum(position.cumulative_funding for position in self._desk.account.get_positions().values())

    def _rounding(self) -> float:
        """Bound what Qubx's average price loses: it is cut to a tick at each deal that opens (Position.update_position)."""
        held: Counter[int] = Counter()
        lost = 0.0
        for trade in sorted(self._trades.values(), key=lambda one: one.trade_id):
            scale = self._scales[trade.market_id]
            signed = (trade.bid_account == US) * trade.lots - (trade.ask_account == US) * trade.lots
            before = held[trade.market_id]
            held[trade.market_id] += signed
            if abs(held[trade.market_id]) > abs(before) or before * held[trade.market_id] < 0:
                lost += abs(held[trade.market_id]) * scale.lot_size * scale.tick_size
        return lost + 0.01

    def _collect_trades(self) -> None:
        for trade in self._venue.ask(lambda: list(self._venue.engine.trades(account_index=US))):
            self._trades[trade.trade_id] = trade

    def _collateral_micro(self) -> int:
        return int(self._venue.ask(lambda: self._venue.engine.account(US).collateral_micro))

    # --- the strategy ------------------------------------------------------------------------------------------------

    def _limit(self, tif: str = "gtc", reach: float = 0.004, **options: Any) -> None:
        market_id, sign = self._chance.choice(list(SYMBOLS)), self._chance.choice((1, -1))
        # Mostly away from the touch, sometimes through it.
        away = self._chance.uniform(-0.2, 1.0) * reach
        self._submit(market_id, sign, self._prices[market_id] * (1 - sign * away), tif, **options)

    def _immediate(self) -> None:
        self._limit(tif="ioc", reach=0.001)

    def _post_only(self) -> None:
        self._limit(tif="gtx", reach=0.002)

    def _market(self) -> None:
        market_id = self._chance.choice(list(SYMBOLS))
        self._submit(market_id, self._chance.choice((1, -1)), None)

    def _stop(self) -> None:
        market_id, sign = self._chance.choice(list(SYMBOLS)), self._chance.choice((1, -1))
        kind = self._chance.choice(("stop_loss", "take_profit"))
        beyond = self._chance.uniform(0.002, 0.02) * sign * (1 if kind == "stop_loss" else -1)
        self._submit(
            market_id,
            sign,
            self._prices[market_id] * (1 + beyond),
            stop_type=self._chance.choice(("market", "limit")),
            trigger_type=kind,
            reduce_only=self._chance.random() < 0.5,
        )

    def _group(self) -> None:
        market_id, sign = self._chance.choice(list(SYMBOLS)), self._chance.choice((1, -1))
        price = self._prices[market_id] * (1 - sign * self._chance.uniform(0.0, 0.003))
        tick = self._scales[market_id].tick_size
        legs = {
            "stop_loss": round(price * (1 - sign * 0.01)) * tick,
            "take_profit": round(price * (1 + sign * 0.01)) * tick,
        }
        kept = self._chance.choice((["stop_loss"], ["take_profit"], ["stop_loss", "take_profit"]))
        self._submit(market_id, sign, price, **{name: legs[name] for name in kept})

    def _twap(self) -> None:
        market_id, sign = self._chance.choice(list(SYMBOLS)), self._chance.choice((1, -1))
        self._submit(market_id, sign, None, twap_s=self._chance.choice((300, 600)))

    def _submit(self, market_id: int, sign: int, ticks: float | None, tif: str = "gtc", **options: Any) -> None:
        if len(self._working()) >= MOST_WORKING:
            self._cancel()
            return
        scale = self._scales[market_id]
        lots = self._chance.randrange(50, 2_000) if market_id == ETH else self._chance.randrange(20, 600)
        price = None if ticks is None else round(round(ticks) * scale.tick_size, 6)
        try:
            order = self._desk.submit(
                SYMBOLS[market_id], sign * round(lots * scale.lot_size, 6), price, tif=tif, **options
            )
        except InvalidOrderParameters:
            self.done["refused locally"] += 1
            return
        self._orders.append(order)

    def _amend(self) -> None:
        order = self._pick()
        if order is None:
            return
        market_id = next(one for one, symbol in SYMBOLS.items() if symbol == order.instrument.symbol)
        scale = self._scales[market_id]
        changes: dict[str, float] = {}
        if self._chance.random() < 0.7 and order.price:
            ticks = round(order.price / scale.tick_size * (1 + self._chance.uniform(-0.001, 0.001)))
            changes["price"] = round(ticks * scale.tick_size, 6)
        if self._chance.random() < 0.5 or not changes:
            lots = round(order.quantity / scale.lot_size * self._chance.uniform(0.5, 1.5))
            changes["quantity"] = round(max(lots, 50) * scale.lot_size, 6)
        if changes.get("quantity", math.inf) <= order.filled_quantity:
            return
        try:
            self._desk.amend(order, **changes)
        except (InvalidOrderParameters, InvalidOrderTransition):
            self._desk.account.transition_order("LIGHTER", order.client_order_id, OrderStatus.ACCEPTED)
            self.done["refused locally"] += 1

    def _cancel(self) -> None:
        order = self._pick()
        if order is not None:
            self._desk.cancel(order)

    def _cancel_all(self) -> None:
        self._desk.connector.cancel_all_orders()  # type: ignore[attr-defined]

    def _leverage(self) -> None:
        symbol = self._chance.choice(list(SYMBOLS.values()))
        self._desk.connector.set_instrument_leverage(
            self._desk.instrument(symbol), float(self._chance.choice((5, 10, 20)))
        )

    def _ask(self) -> None:
        match self._chance.randrange(3):
            case 0:
                self._desk.connector.request_snapshot(include_orders=self._chance.random() < 0.5)
            case 1:
                if (order := self._pick()) is not None:
                    self._desk.connector.request_order_status(order)
            case 2:
                since = self._desk.time.time() - np.timedelta64(self._chance.randrange(1, 20), "s")
                self._desk.connector.request_hist_deals(self._desk.instrument("ETH-USDC"), since)

    def _pick(self) -> Order | None:
        working = self._working()
        return self._chance.choice(working) if working else None

    def _working(self) -> list[Order]:
        return [order for order in self._desk.account.get_orders().values() if order.status in WORKING]

    def _status(self, order: Order) -> OrderStatus:
        known = self._desk.account.get_order(order.client_order_id)
        return OrderStatus.CANCELED if known is None else known.status

    # --- the market --------------------------------------------------------------------------------------------------

    def _move(self) -> None:
        market_id = self._chance.choice(list(SYMBOLS))
        self._prices[market_id] = round(self._prices[market_id] * math.exp(self._chance.gauss(0.0, 0.0008)))
        self._requote(market_id)

    def _requote(self, market_id: int) -> None:
        self._venue.execute(commands.CancelAll(MAKER))
        for one in SYMBOLS:
            price = self._prices[one]
            step = max(1, price // 5_000)
            for level in range(1, 4):
                self._venue.rest(one, price - level * step, 3_000, is_ask=False)
                self._venue.rest(one, price + level * step, 3_000, is_ask=True)

    def _take(self) -> None:
        market_id, is_ask = self._chance.choice(list(SYMBOLS)), self._chance.random() < 0.5
        reach = self._chance.uniform(0.0, 0.003) * (-1 if is_ask else 1)
        ticks = round(self._prices[market_id] * (1 + reach))
        self._venue.take(market_id, ticks, self._chance.randrange(100, 3_000), is_ask=is_ask)

    def _deposit(self) -> None:
        amount = self._chance.randrange(-50, 51) * MICRO
        if self._venue.execute(commands.Deposit(US, amount)).ok:
            self._deposited_micro += amount

    def _hour(self) -> None:
        """Let the venue's next hour begin, which settles funding; TWAPs and expiries of that hour happen too.

        Nothing is under way then: an hour between two messages that wait for Qubx is more than ever passes.
        """
        if self._venue.time.ahead_s < -3_700:
            self._until(self._desk.connector.is_ws_ready)
            self._listen(0.3)
            self._venue.time.to_next_hour(5.0)
            self._venue.execute(commands.AdvanceTime())

    def _outage(self) -> None:
        """Be away for long, while others trade with what rests."""
        if self._venue.time.ahead_s < -3_700:
            self._listen(0.3)
            self._cut()
            self._listen(0.1)
            for _ in range(5):
                self._take()
            self._manual_order()
            self._venue.time.ahead_s += self._chance.randrange(60, 600)
            self._venue.execute(commands.AdvanceTime())
            for _ in range(5):
                self._take()

    def _squeeze(self) -> None:
        """Take out what may be taken out, move the market against the account, and give it back."""
        truth = self._venue.truth()["positions"]
        if not truth:
            return
        available = int(self._venue.ask(self._venue.engine.available_balance_micro, US))
        if available > 0 and self._venue.execute(commands.Deposit(US, -available)).ok:
            self._deposited_micro -= available
        for market_id, lots in truth.items():
            self._prices[market_id] = round(self._prices[market_id] * (1 - 0.045 * math.copysign(1, lots)))
        self._requote(ETH)
        self._venue.execute(commands.AdvanceTime())
        missing = self._start_micro - self._collateral_micro()
        if self._venue.execute(commands.Deposit(US, missing)).ok:
            self._deposited_micro += missing

    def _cut(self) -> None:
        self._venue.drop_connections()

    def _quoted(self, market_id: int) -> bool:
        return self._desk.provider.get_quote(self._desk.instrument(SYMBOLS[market_id])) is not None

    # --- the other client --------------------------------------------------------------------------------------------

    def _manual_order(self) -> None:
        market_id, is_ask = self._chance.choice(list(SYMBOLS)), self._chance.random() < 0.5
        away = self._chance.uniform(-0.0005, 0.003) * (1 if is_ask else -1)
        ticks = round(self._prices[market_id] * (1 + away))
        expiry_ms = int(time.time() * 1000) + 3_600_000
        self._other.place(market_id, ticks, self._chance.randrange(100, 1_000), is_ask=is_ask, expiry_ms=expiry_ms)

    def _manual_cancel(self) -> None:
        rows = self._venue.ask(
            lambda: [(row.market_id, row.order_index) for row in self._venue.engine.active_orders(US)]
        )
        if rows:
            self._other.cancel(*self._chance.choice(rows))

    # --- waiting -----------------------------------------------------------------------------------------------------

    def _listen(self, seconds: float) -> None:
        self._desk.listen(seconds)
        now = time.monotonic()
        if now - self._ticked > TICK_S:
            self._ticked = now
            self._desk.account._on_reconcile_tick(None)  # as Qubx's scheduler does

    def _until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, self._difference()
            self._listen(0.05)

    def _difference(self) -> str:
        """Tell what is not settled, for whoever reads a failure."""
        truth, view = self._venue.truth(), self._view()
        waiting = [order for order in self._desk.account.get_orders().values() if order.status in IN_FLIGHT]
        unlike = {
            index: (truth["orders"].get(index), view["orders"].get(index))
            for index in truth["orders"].keys() | view["orders"].keys()
            if truth["orders"].get(index) != view["orders"].get(index)
        }
        figures = {name: (truth[name], view[name]) for name in truth if name != "orders" and truth[name] != view[name]}
        return f"venue and Qubx differ in orders {unlike} and in {figures}; in flight: {waiting}"
