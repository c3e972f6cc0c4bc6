"""What a transaction tells: events, in order and once, and numbers without gaps."""

from __future__ import annotations

from qubx_lighter.constants import TimeInForce
from qubx_lighter.sim.model.commands import AdvanceTime
from qubx_lighter.sim.model.events import BookChanged, OrderChanged, PositionChanged, Traded, TransactionDone
from tests.sim.desk import ALICE, BOB, DAY_MS, FEED, OTHER_FEED, START, Desk

IOC, POST_ONLY = int(TimeInForce.IOC), int(TimeInForce.POST_ONLY)


def test_events_of_a_match(desk: Desk) -> None:
    maker = desk.order(desk.create("sell", 300, 300_000, account=BOB, ClientOrderIndex=9))
    desk.engine.drain()
    nonce = desk.engine.book_nonce
    taker = desk.order(desk.create("buy", 100, 300_000, ClientOrderIndex=7))
    events = desk.engine.drain()

    kinds = [type(event) for event in events]
    assert [Traded, OrderChanged, OrderChanged, BookChanged, PositionChanged, PositionChanged, TransactionDone] == kinds
    trade = next(event.trade for event in events if isinstance(event, Traded))
    assert (taker.order_index, maker.order_index, ALICE, BOB, 7, 9) == (
        trade.bid_order_index,
        trade.ask_order_index,
        trade.bid_account,
        trade.ask_account,
        trade.bid_client_order_index,
        trade.ask_client_order_index,
    )
    assert (300_000, 100, 30_000_000, True, 200, 20, taker.tx_hash) == (
        trade.price_ticks,
        trade.lots,
        trade.quote_micro,
        trade.is_maker_ask,
        trade.taker_fee_ppm,
        trade.maker_fee_ppm,
        trade.tx_hash,
    )
    assert BookChanged(0, True, 300_000, 200, nonce + 1, desk.now) in events
    assert [("open", 100), ("filled", 100)] == [
        (event.order.status, event.order.filled_lots) for event in events if isinstance(event, OrderChanged)
    ]
    assert {BOB, ALICE} == {event.account_index for event in events if isinstance(event, PositionChanged)}


def test_trade_tells_the_positions_before_it(desk: Desk) -> None:
    for _ in range(2):
        desk.place(FEED, "sell", 100, 300_000)
        desk.create("buy", 100, 300_000)
    newest, oldest = desk.engine.trades(account_index=ALICE)
    assert [(0, 0), (100, -100)] == [
        (trade.taker_position_lots_before, trade.maker_position_lots_before) for trade in (oldest, newest)
    ]


def test_orders_in_events_are_copies_and_the_feeds_own_raise_none(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 310_000)
    assert [] == desk.events(OrderChanged)
    order = desk.order(desk.create("buy", 100, 290_000))
    (event,) = desk.events(OrderChanged)
    assert order == event.order
    desk.cancel(order.order_index)
    assert "open" == event.order.status


def test_immediate_order_raises_one_event_already_over(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 300_000)
    desk.place(FEED, "sell", 100, 300_001)
    desk.engine.drain()
    desk.market("buy", 200, 301_000)
    assert ["filled"] == [event.order.status for event in desk.events(OrderChanged)]


def test_level_changes_rebuild_the_book_and_their_nonces_have_no_gap(desk: Desk) -> None:
    nonce = desk.engine.book_nonce
    for step in range(20):
        desk.place(FEED, "sell", 100, 300_000 + step % 7)
        desk.place(FEED, "buy", 100, 299_990 + step % 7)
        desk.place(OTHER_FEED, "buy" if step % 2 else "sell", 150, 300_000 - step % 3, market_id=step % 2)
    seen: dict[tuple[int, bool, int], int] = {}
    for event in desk.events(BookChanged):
        nonce += 1
        assert nonce == event.nonce
        seen[event.market_id, event.is_ask, event.price_ticks] = event.lots
    for market_id in (0, 1):
        for is_ask in (False, True):
            expected = {k[2]: lots for k, lots in seen.items() if k[:2] == (market_id, is_ask) and lots}
            assert expected == dict(desk.engine.book(market_id).levels(is_ask))


def test_time_never_goes_back(desk: Desk) -> None:
    desk.now += 1_000_000
    desk.apply(AdvanceTime())
    later, desk.now = desk.now, START
    order = desk.order(desk.place(FEED, "buy", 100, 290_000, time_in_force=POST_ONLY))
    assert (later, later, later // 1000 + 28 * DAY_MS) == (
        desk.engine.now,
        order.created_at,
        order.order_expiry_ms,
    )
