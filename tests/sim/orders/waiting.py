"""Orders that wait for a mark price or for each other, as tests place them."""

from __future__ import annotations

from typing import Any

from qubx_lighter.constants import OrderType, TimeInForce, TxType
from qubx_lighter.sim.model.commands import Result
from qubx_lighter.sim.model.records import Order
from tests.sim.desk import ALICE, DAY_MS, FEED, MID, Desk

ANY = 200_000  # a bound that is never met, and still worth the smallest order
IOC, GTT, POST_ONLY = (int(each) for each in TimeInForce)
STOP, STOP_LIMIT = int(OrderType.STOP_LOSS), int(OrderType.STOP_LOSS_LIMIT)
PROFIT, PROFIT_LIMIT = int(OrderType.TAKE_PROFIT), int(OrderType.TAKE_PROFIT_LIMIT)


def long_desk() -> Desk:
    """Let Alice be long 1,000 lots at the middle of a quote of 10,000 on both sides."""
    desk = Desk()
    quote(desk, MID)
    assert "filled" == desk.order(desk.create("buy", 1_000, MID + 10)).status
    desk.engine.drain()
    return desk


def quote(desk: Desk, mid: int, lots: int = 10_000) -> None:
    """Move the feed's quotes, and with them the mark price."""
    for account in (8, 9):
        for order in desk.engine.active_orders(account):
            desk.engine._sequencer.open_orders.cancel(order)
    sides = {"buy": mid - 10, "sell": mid + 10}
    for side in ("sell", "buy") if mid > MID else ("buy", "sell"):  # whoever is triggered meets somebody
        desk.place(FEED, side, lots, sides[side])


def stop(desk: Desk, side: str, lots: int, trigger: int, price: int, **fields: Any) -> Result:
    body = {"Type": STOP, "TimeInForce": IOC, "TriggerPrice": trigger}
    return desk.create(side, lots, price, **(body | fields))


def group(desk: Desk, grouping: int, *orders: dict[str, int], **fields: Any) -> Result:
    common = {"MarketIndex": 0, "OrderExpiry": desk.now // 1000 + DAY_MS}
    bodies = [common | order for order in orders]
    return desk.send(TxType.CREATE_GROUPED_ORDERS, GroupingType=grouping, Orders=bodies, **fields)


def entry(side: str, lots: int, price: int, client: int = 1, **fields: int) -> dict[str, int]:
    body = {"Type": 0, "TimeInForce": GTT, "ReduceOnly": 0, "TriggerPrice": 0}
    return (
        body | {"ClientOrderIndex": client, "BaseAmount": lots, "Price": price, "IsAsk": int(side == "sell")} | fields
    )


def leg(kind: int, trigger: int, price: int, client: int, *, lots: int = 0, side: str = "sell") -> dict[str, int]:
    tif = IOC if kind in (STOP, PROFIT) else GTT
    return entry(side, lots, price, client, Type=kind, TimeInForce=tif, ReduceOnly=1, TriggerPrice=trigger)


def by_client(desk: Desk, *indexes: int) -> list[Order]:
    return [desk.engine.orders_by_client_index(ALICE, [index])[0] for index in indexes]


def statuses(desk: Desk, *indexes: int) -> list[str]:
    return [order.status for order in by_client(desk, *indexes)]
