"""Which of the orders that wait for a mark price has met it.

A stop-loss that sells and a take-profit that buys wait for the mark to fall to their trigger, the others for it to rise
there; at the trigger itself both have met it (the venue's own circuit, ``internal_create_order``).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from qubx_lighter.protocol.order_table import STOP_LOSSES
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.model.records import Order, TriggerStatus

_Entry = tuple[int, int, Order]  # sort key, counter, order


class _Waiting:
    """One market's orders, those that meet the mark first in front; entries may be outdated."""

    __slots__ = ("falling", "rising")

    def __init__(self) -> None:
        self.falling: list[_Entry] = []
        self.rising: list[_Entry] = []


class Triggers:
    """Orders that wait for the mark price of their market."""

    def __init__(self) -> None:
        self._markets: dict[int, _Waiting] = {}
        self._count = 0

    def add(self, order: Order) -> None:
        """Watch an order from now on, or its new trigger; one that is over or was triggered need not be taken out."""
        waiting = self._markets.setdefault(order.market_id, _Waiting())
        self._count += 1
        if _waits_for_a_fall(order):
            heapq.heappush(waiting.falling, (-order.trigger_price_ticks, self._count, order))
        else:
            heapq.heappush(waiting.rising, (order.trigger_price_ticks, self._count, order))

    def next_due(self, markets: Mapping[int, Market]) -> Order | None:
        """Take out an order that its market's mark price has triggered; None when there is none (any more)."""
        for market_id, waiting in list(self._markets.items()):
            mark = markets[market_id].mark_price_ticks()
            for heap, key in ((waiting.falling, -mark), (waiting.rising, mark)):
                while heap and (_is_outdated(heap[0]) or (mark and heap[0][0] <= key)):
                    entry = heapq.heappop(heap)
                    if not _is_outdated(entry):
                        return entry[2]
            if not waiting.falling and not waiting.rising:
                del self._markets[market_id]
        return None


def _waits_for_a_fall(order: Order) -> bool:
    return order.is_ask == (order.order_type in STOP_LOSSES)


def _is_outdated(entry: _Entry) -> bool:
    key, _, order = entry
    return order.trigger_status != TriggerStatus.MARK_PRICE or order.trigger_price_ticks != abs(key)
