"""A desk for tests of the engine: two markets, a few accounts, and transactions in the signer's shape, unsigned."""

from __future__ import annotations

import json
from typing import Any

from qubx_lighter.constants import OrderType, TimeInForce, TxType
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.model.commands import (
    AdvanceTime,
    Command,
    CreateAccount,
    CreateMarket,
    PlaceOrder,
    RegisterKey,
    Result,
    SubmitTransaction,
)
from qubx_lighter.sim.model.events import Event
from qubx_lighter.sim.model.records import Order
from qubx_lighter.sim.model.specs import MarketSpec

START = 1_795_000_000_000_000  # µs
DAY_MS = 24 * 3600 * 1000
ETH = MarketSpec(market_id=0, symbol="ETH", price_decimals=2, size_decimals=4, min_base_lots=50)
BTC = MarketSpec(market_id=1, symbol="BTC", price_decimals=1, size_decimals=5, min_base_lots=20)
ALICE, BOB, FEED, OTHER_FEED = 1, 2, 8, 9
KEY = 4
FUNDS = 1_000_000_000  # micro: 1,000
MID = 300_000  # ticks, of a quoted desk


class Desk:
    """An engine with ETH and BTC, Alice and Bob with a key each, and two participants without keys or fees."""

    def __init__(self, *specs: MarketSpec, seed: int = 0) -> None:
        self.engine = self.open(seed)
        self.now = START
        self.sent = 0
        for spec in specs or (ETH, BTC):
            self.apply(CreateMarket(spec))
        for index in (ALICE, BOB):
            self.apply(CreateAccount(index, f"0x{index:040x}", FUNDS))
            self.apply(RegisterKey(index, KEY, f"0x{index:080x}"))
        for index in (FEED, OTHER_FEED):
            self.apply(CreateAccount(index, f"0x{index:040x}", 10**15, fee_free=True))
        self.engine.drain()

    def open(self, seed: int) -> Engine:
        """Make the engine."""
        return Engine(seed)

    def apply(self, command: Command) -> Result:
        return self.engine.apply(command, self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass, and what falls due in it happen."""
        self.now += round(seconds * 10**6)
        self.apply(AdvanceTime())

    def place(self, account: int, side: str, lots: int, price: int, **changes: Any) -> Result:
        """Place an order as a local participant."""
        return self.apply(
            PlaceOrder(
                account_index=account,
                market_id=changes.pop("market_id", 0),
                is_ask=side == "sell",
                base_lots=lots,
                price_ticks=price,
                **changes,
            )
        )

    def send(self, tx_type: int, account: int = ALICE, **fields: Any) -> Result:
        """Send a transaction with the key's next nonce; a field that is None is left out."""
        self.sent += 1
        body = {
            "AccountIndex": account,
            "ApiKeyIndex": KEY,
            "ExpiredAt": self.now // 1000 + 599_000,
            "Nonce": self.engine.next_nonce(account, KEY),
            "Sig": "",
            "L2TxAttributes": None,
        }
        body = {name: value for name, value in (body | fields).items() if value is not None}
        return self.apply(SubmitTransaction(tx_type, json.dumps(body), f"{self.sent:080x}"))

    def create(self, side: str, lots: int, price: int, account: int = ALICE, **fields: Any) -> Result:
        """Send a create-order transaction: limit, good till time, a day."""
        body = {
            "MarketIndex": 0,
            "ClientOrderIndex": 0,
            "BaseAmount": lots,
            "Price": price,
            "IsAsk": int(side == "sell"),
            "Type": int(OrderType.LIMIT),
            "TimeInForce": int(TimeInForce.GTT),
            "ReduceOnly": 0,
            "TriggerPrice": 0,
            "OrderExpiry": self.now // 1000 + DAY_MS,
        }
        return self.send(TxType.CREATE_ORDER, account, **(body | fields))

    def post_only(self, side: str, lots: int, price: int, **fields: Any) -> Result:
        return self.create(side, lots, price, TimeInForce=int(TimeInForce.POST_ONLY), **fields)

    def ioc(self, side: str, lots: int, price: int, **fields: Any) -> Result:
        return self.create(side, lots, price, TimeInForce=int(TimeInForce.IOC), OrderExpiry=0, **fields)

    def market(self, side: str, lots: int, price: int, **fields: Any) -> Result:
        return self.ioc(side, lots, price, Type=int(OrderType.MARKET), **fields)

    def cancel(self, index: int, market_id: int = 0, account: int = ALICE, **fields: Any) -> Result:
        return self.send(TxType.CANCEL_ORDER, account, MarketIndex=market_id, Index=index, **fields)

    def cancel_all(self, account: int = ALICE, **fields: Any) -> Result:
        return self.send(TxType.CANCEL_ALL_ORDERS, account, **({"TimeInForce": 0, "Time": 0} | fields))

    def modify(self, index: int, lots: int, price: int, account: int = ALICE, **fields: Any) -> Result:
        body = {"MarketIndex": 0, "Index": index, "BaseAmount": lots, "Price": price, "TriggerPrice": 0}
        return self.send(TxType.MODIFY_ORDER, account, **(body | fields))

    def leverage(self, fraction: int, account: int = ALICE, **fields: Any) -> Result:
        body = {"MarketIndex": 0, "InitialMarginFraction": fraction, "MarginMode": 0}
        return self.send(TxType.UPDATE_LEVERAGE, account, **(body | fields))

    def order(self, result: Result) -> Order:
        """Find the order that a command created."""
        assert result.ok, result
        for account in self.engine.accounts():
            for order in [*account.orders.values(), *account.inactive]:
                if order.order_index == result.order_index:
                    return order
        raise LookupError(result)

    def account(self, index: int = ALICE) -> Account:
        account = self.engine.account(index)
        assert account is not None
        return account

    def lots(self, index: int = ALICE, market_id: int = 0) -> int:
        row = self.account(index).positions.get(market_id)
        return row.lots if row else 0

    def asks(self, market_id: int = 0) -> list[tuple[int, int]]:
        return list(self.engine.book(market_id).levels(True))

    def bids(self, market_id: int = 0) -> list[tuple[int, int]]:
        return list(self.engine.book(market_id).levels(False))

    def events[T: Event](self, kind: type[T]) -> list[T]:
        """Take the events, and keep those of a kind."""
        return [event for event in self.engine.drain() if isinstance(event, kind)]


def quoted_desk() -> Desk:
    """Make a desk whose feed quotes 10,000 lots on both sides of ``MID``."""
    desk = Desk()
    desk.place(FEED, "buy", 10_000, MID - 10)
    desk.place(FEED, "sell", 10_000, MID + 10)
    return desk


def long_position(desk: Desk, lots: int = 100, account: int = ALICE) -> None:
    """Let an account buy from the feed."""
    desk.place(FEED, "sell", lots, 300_000)
    assert "filled" == desk.order(desk.create("buy", lots, 300_000, account=account)).status
