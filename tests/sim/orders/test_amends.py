"""Amends: what stays of an order, what it loses, and what is refused."""

from __future__ import annotations

import pytest

from qubx_lighter.sim.model.events import Traded, TransactionDone
from tests.sim.desk import ALICE, FEED, OTHER_FEED, Desk


def test_amend_keeps_the_index_and_raises_the_version(desk: Desk) -> None:
    order = desk.order(desk.create("buy", 100, 290_000, ClientOrderIndex=77))
    index, sequence = order.order_index, order.nonce
    assert desk.modify(77, 200, 291_000).ok
    assert (index, 1, "open", 200, 200, 291_000) == (
        order.order_index,
        order.order_version,
        order.status,
        order.initial_lots,
        order.remaining_lots,
        order.price_ticks,
    )
    assert order.nonce > sequence
    assert [(291_000, 200)] == desk.bids()
    assert desk.modify(index, 150, 291_000).ok
    assert (2, 150) == (order.order_version, order.remaining_lots)


@pytest.mark.parametrize("lots", [50, 100, 150])
def test_amend_goes_to_the_back_of_the_queue(desk: Desk, lots: int) -> None:
    amended = desk.order(desk.create("buy", 100, 300_000))
    other = desk.order(desk.place(FEED, "buy", 100, 300_000))
    desk.modify(amended.order_index, lots, 300_000)
    desk.place(OTHER_FEED, "sell", 100, 300_000)
    assert [0, 100] == [amended.filled_lots, other.filled_lots]


def test_amend_counts_what_is_filled(desk: Desk) -> None:
    order = desk.order(desk.create("buy", 300, 300_000))
    desk.place(FEED, "sell", 100, 300_000)
    desk.modify(order.order_index, 250, 300_000)
    assert (250, 100, 150) == (order.initial_lots, order.filled_lots, order.remaining_lots)
    assert [(300_000, 150)] == desk.bids()


@pytest.mark.parametrize("lots", [1, 99, 100])
def test_amend_to_what_is_filled_ends_the_order_as_filled(desk: Desk, lots: int) -> None:
    order = desk.order(desk.create("buy", 300, 300_000))
    desk.place(FEED, "sell", 100, 300_000)
    assert desk.modify(order.order_index, lots, 300_000).ok
    assert ("filled", 100, 100, 0) == (order.status, order.initial_lots, order.filled_lots, order.remaining_lots)
    assert ([], []) == (desk.bids(), desk.engine.active_orders(ALICE))


def test_amend_into_the_other_side_takes(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 300_000)
    order = desk.order(desk.create("buy", 300, 290_000))
    desk.engine.drain()
    desk.modify(order.order_index, 300, 300_000)
    assert ("open", 100, 200) == (order.status, order.filled_lots, order.remaining_lots)
    (trade,) = [event.trade for event in desk.events(Traded)]
    assert (False, f"{desk.sent:080x}") == (not trade.is_maker_ask, trade.tx_hash)


def test_amend_of_post_only_into_the_other_side_cancels(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 300_000)
    order = desk.order(desk.post_only("buy", 100, 290_000))
    assert desk.modify(order.order_index, 100, 300_000).ok
    assert ("canceled-post-only", 0) == (order.status, order.filled_lots)


def test_refused_amend_changes_nothing(desk: Desk) -> None:
    order = desk.order(desk.create("buy", 100, 300_000))
    other = desk.order(desk.place(FEED, "buy", 100, 300_000))
    nonce = desk.engine.next_nonce(ALICE, 4)
    codes = [
        desk.modify(order.order_index, 70_000, 300_000).code,
        desk.modify(order.order_index, 0, 300_000).code,
        desk.modify(order.order_index, 100, 0).code,
        desk.modify(order.order_index, 49, 300_000).code,
    ]
    assert [21739, 21701, 21702, 21706] == codes
    assert (nonce, 0, [(300_000, 200)]) == (desk.engine.next_nonce(ALICE, 4), order.order_version, desk.bids())
    desk.place(OTHER_FEED, "sell", 100, 300_000)
    assert [100, 0] == [order.filled_lots, other.filled_lots]


def test_amend_frees_the_margin_of_the_old_size(desk: Desk) -> None:
    order = desk.order(desk.create("buy", 60_000, 300_000))
    assert desk.modify(order.order_index, 60_000, 300_001).ok
    assert desk.modify(order.order_index, 65_000, 300_000).ok


def test_amend_of_another_version_fails_at_the_sequencer(desk: Desk) -> None:
    order = desk.order(desk.create("buy", 100, 300_000))
    desk.engine.drain()
    assert desk.modify(order.order_index, 100, 300_100, L2TxAttributes={"8": 5}).ok
    (done,) = desk.events(TransactionDone)
    assert "version" in done.record.error
    assert (300_000, 2) == (order.price_ticks, desk.engine.next_nonce(ALICE, 4))
    desk.modify(order.order_index, 100, 300_100)
    desk.modify(order.order_index, 100, 300_200, L2TxAttributes={"8": 1})
    assert 300_200 == order.price_ticks
