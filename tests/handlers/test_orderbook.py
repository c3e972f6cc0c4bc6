"""Book frames become the views that Qubx asked for, and nothing at all when the book cannot be trusted."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from qubx.core.series import OrderBook, Quote

from qubx_lighter.errors import WireError
from qubx_lighter.handlers import QUOTES, TRADES, BookView, MarketHandler, OrderBookHandler, Output
from qubx_lighter.protocol.units import Scale
from tests.markets import loaded_instruments

TOP = BookView(0.0, 1)
SENT_MS = 1_778_138_582_602
CHANGED_US = 1_778_138_389_655_150

Levels = list[tuple[str, str]]


def frame(
    bids: Levels, asks: Levels, nonce: int, begin: int, *, changed_us: int = CHANGED_US, sent_ms: int = SENT_MS
) -> bytes:
    """Write a frame as the venue does today; whether it is a snapshot is told apart from it."""
    sides = {
        name: [{"price": price, "size": size} for price, size in side]
        for name, side in (("bids", bids), ("asks", asks))
    }
    payload = sides | {"code": 0, "nonce": nonce, "begin_nonce": begin, "offset": 1, "last_updated_at": changed_us}
    body = {"channel": "order_book:0", "last_updated_at": changed_us, "order_book": payload, "timestamp": sent_ms}
    return json.dumps(body).encode()


@pytest.fixture
async def handler() -> OrderBookHandler:
    """Give a handler of ETH: tick 0.01, lot 0.0001."""
    instrument = (await loaded_instruments()).instrument(0)
    handler = OrderBookHandler(instrument, Scale(2, 4), Counter())
    handler.views = (TOP,)
    return handler


def books(outputs: list[Output]) -> list[OrderBook]:
    assert all(isinstance(data, OrderBook) for _, data in outputs)
    return [data for _, data in outputs if isinstance(data, OrderBook)]


def sides(book: OrderBook) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """List what a grid holds as (price, size), best first."""
    bids = [(round(book.top_bid - i * book.tick_size, 9), float(s)) for i, s in enumerate(book.bids) if s]
    asks = [(round(book.top_ask + i * book.tick_size, 9), float(s)) for i, s in enumerate(book.asks) if s]
    return bids, asks


def test_a_snapshot_is_published_at_once(handler: OrderBookHandler) -> None:
    raw = frame([("2324.99", "1.5"), ("2000.00", "0.02")], [("2325.00", "99.0")], 904845, 0)
    (book,) = books(handler.snapshot(raw))
    assert ([(2324.99, 1.5)], [(2325.0, 99.0)]) == sides(book)
    assert (2324.99, 2325.0, 0.01) == (book.top_bid, book.top_ask, book.tick_size)


def test_every_delta_is_published_with_absolute_sizes(handler: OrderBookHandler) -> None:
    handler.views = (BookView(0, 3),)
    handler.snapshot(frame([("99.98", "1.0"), ("99.97", "2.0")], [("100.00", "3.0")], 5, 0))
    (book,) = books(handler.update(frame([("99.98", "0.0000"), ("99.96", "4.0")], [("100.01", "1.0")], 9, 5)))
    assert ([(99.97, 2.0), (99.96, 4.0)], [(100.0, 3.0), (100.01, 1.0)]) == sides(book)


def test_each_view_makes_one_message_in_the_order_of_the_views(handler: OrderBookHandler) -> None:
    handler.views = (TOP, BookView(0, 5), BookView(1.0, 2))
    outputs = handler.snapshot(frame([("99.99", "1.0")], [("100.01", "1.0")], 5, 0))
    assert [TOP, BookView(0, 5), BookView(1.0, 2)] == [view for view, _ in outputs]
    assert [1, 5, 2] == [len(book.bids) for book in books(outputs)]
    assert [0.01, 0.01, 1.0] == [book.tick_size for book in books(outputs)]


def test_a_grid_in_percent_never_shows_a_size_at_a_better_price(handler: OrderBookHandler) -> None:
    handler.views = (BookView(1.0, 2),)
    bids: Levels = [("99.99", "1.0"), ("99.00", "2.0"), ("98.99", "4.0")]
    asks: Levels = [("100.01", "1.0"), ("101.00", "2.0"), ("101.01", "4.0")]
    (book,) = books(handler.snapshot(frame(bids, asks, 5, 0)))
    assert ([(99.0, 3.0), (98.0, 4.0)], [(101.0, 3.0), (102.0, 4.0)]) == sides(book)


@pytest.mark.parametrize(
    ("percent", "bin_size"), [(0.0, 0.01), (0.001, 0.01), (0.01, 0.01), (0.02, 0.02), (0.029, 0.02), (5.0, 5.0)]
)
def test_the_grid_is_a_share_of_the_mid_price_in_whole_ticks(
    handler: OrderBookHandler, percent: float, bin_size: float
) -> None:
    handler.views = (BookView(percent, 3),)
    (book,) = books(handler.snapshot(frame([("99.99", "1.0")], [("100.01", "1.0")], 5, 0)))
    assert bin_size == book.tick_size


def test_views_of_random_books_equal_sums_over_a_plain_list(handler: OrderBookHandler) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    for nonce in range(1, 60):
        view = BookView(draw.choice([0.0, 0.01, 0.05, 0.3, 2.0]), draw.choice([1, 7, 40]))
        handler.views = (view,)
        middle = draw.randrange(2_000, 500_000)
        bids = {middle - draw.randrange(1, 400): draw.randrange(1, 10**6) for _ in range(40)}
        asks = {middle + draw.randrange(400): draw.randrange(1, 10**6) for _ in range(40)}
        text = [[(f"{t / 100:.2f}", f"{s / 1e4:.4f}") for t, s in side.items() if t > 0] for side in (bids, asks)]
        (book,) = books(handler.snapshot(frame(text[0], text[1], nonce, 0)))
        step = round(book.tick_size * 100)
        assert max(1, int((max(bids) + min(asks)) / 2 * view.tick_size_pct / 100 + 1e-9)) == step
        for side, top, sizes in (
            (bids, round(book.top_bid * 100), book.bids),
            (asks, round(book.top_ask * 100), book.asks),
        ):
            expected = [0] * view.depth
            for ticks, lots in side.items():
                if ticks > 0:
                    place = (top // step - ticks // step) if side is bids else (-(-ticks // step) - top // step)
                    if place < view.depth:
                        expected[place] += lots
            assert [lots / 1e4 for lots in expected] == sizes.tolist()
            assert sizes[0] > 0


def test_a_gap_publishes_nothing_until_a_new_snapshot(handler: OrderBookHandler) -> None:
    handler.snapshot(frame([("99.98", "1.0")], [("100.00", "3.0")], 5, 0))
    assert not handler.awaiting
    assert [] == handler.update(frame([("99.99", "1.0")], [], 12, 9))
    assert handler.awaiting
    assert handler.quote is None
    assert [] == handler.update(frame([("99.99", "1.0")], [], 14, 12))
    assert [] == handler.current(handler.views)
    assert 1 == handler.counters["book_gaps"]
    (book,) = books(handler.snapshot(frame([("99.97", "1.0")], [("100.00", "3.0")], 20, 0)))
    assert 99.97 == book.top_bid
    assert not handler.awaiting


def test_a_crossed_book_publishes_nothing_until_a_new_snapshot(handler: OrderBookHandler) -> None:
    handler.snapshot(frame([("99.98", "1.0")], [("100.00", "3.0")], 5, 0))
    assert [] == handler.update(frame([("100.00", "1.0")], [], 6, 5))
    assert handler.awaiting
    assert handler.quote is None
    assert 1 == handler.counters["crossed_books"]


def test_an_old_frame_changes_nothing(handler: OrderBookHandler) -> None:
    handler.snapshot(frame([("99.98", "1.0")], [("100.00", "3.0")], 5, 0))
    assert [] == handler.update(frame([("99.99", "1.0")], [], 5, 3))
    assert not handler.awaiting
    assert 1 == len(handler.update(frame([("99.99", "1.0")], [], 6, 5)))


def test_an_update_before_the_snapshot_asks_for_one(handler: OrderBookHandler) -> None:
    assert [] == handler.update(frame([("99.99", "1.0")], [], 6, 5))
    assert handler.awaiting


def test_a_book_with_an_empty_side_is_no_book_for_qubx(handler: OrderBookHandler) -> None:
    assert [] == handler.snapshot(frame([], [("100.00", "3.0")], 5, 0))
    assert not handler.awaiting
    assert handler.quote is None
    (book,) = books(handler.update(frame([("99.00", "1.0")], [], 6, 5)))
    assert 99.0 == book.top_bid


def test_the_quote_is_the_true_top_whatever_the_views(handler: OrderBookHandler) -> None:
    handler.views = (BookView(1.0, 2),)
    handler.snapshot(frame([("99.98", "1.5")], [("100.00", "3.0")], 5, 0))
    quote = handler.quote
    assert quote is not None
    assert (99.98, 1.5, 100.0, 3.0) == (quote.bid, quote.bid_size, quote.ask, quote.ask_size)


def test_without_views_the_book_is_kept_and_can_be_shown_later(handler: OrderBookHandler) -> None:
    handler.views = ()
    assert [] == handler.snapshot(frame([("99.98", "1.5")], [("100.00", "3.0")], 5, 0))
    (book,) = books(handler.current([TOP]))
    assert 99.98 == book.top_bid


def test_a_delta_has_the_time_of_the_change_in_nanoseconds(handler: OrderBookHandler) -> None:
    handler.snapshot(frame([("99.98", "1.0")], [("100.00", "3.0")], 5, 0, sent_ms=0))
    (book,) = books(handler.update(frame([("99.99", "1.0")], [], 6, 5, changed_us=CHANGED_US + 7)))
    assert (CHANGED_US + 7) * 1000 == book.time


def test_a_snapshot_of_a_book_at_rest_has_the_time_of_its_sending(handler: OrderBookHandler) -> None:
    (book,) = books(handler.snapshot(frame([("99.98", "1.0")], [("100.00", "3.0")], 5, 0)))
    assert SENT_MS * 1_000_000 == book.time


def test_times_never_go_back(handler: OrderBookHandler) -> None:
    handler.snapshot(frame([("99.98", "1.0")], [("100.00", "3.0")], 5, 0))
    (book,) = books(handler.update(frame([("99.99", "1.0")], [], 6, 5)))  # changed before the snapshot was sent
    assert SENT_MS * 1_000_000 == book.time


def test_frames_of_2025_are_timed_in_milliseconds(handler: OrderBookHandler) -> None:
    payload: dict[str, Any] = {"asks": [{"price": "100.00", "size": "3.0"}], "bids": [{"price": "99.0", "size": "1"}]}
    handler.snapshot(json.dumps({"order_book": payload | {"offset": 7}, "timestamp": 1_760_041_996_048}).encode())
    (book,) = books(
        handler.update(json.dumps({"order_book": payload | {"offset": 8}, "timestamp": 1_760_041_996_058}).encode())
    )
    assert 1_760_041_996_058_000_000 == book.time


def test_a_reset_forgets_the_book(handler: OrderBookHandler) -> None:
    handler.snapshot(frame([("99.98", "1.0")], [("100.00", "3.0")], 5, 0))
    handler.reset()
    assert [] == handler.current([TOP])
    assert handler.quote is None
    assert not handler.awaiting


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"order_book":{"asks":[{"price":"x","size":"1"}]}}'])
def test_what_cannot_be_read_is_a_wire_error(handler: MarketHandler, raw: bytes) -> None:
    with pytest.raises(WireError):
        handler.update(raw)


# --- what is published when -------------------------------------------------------------------------------------------


def values(quote: Quote) -> tuple[float, float, float, float]:
    return quote.bid, quote.bid_size, quote.ask, quote.ask_size


def test_a_view_that_a_delta_did_not_touch_is_not_published_again(handler: OrderBookHandler) -> None:
    handler.views = (TOP, BookView(0, 3))
    handler.snapshot(frame([("99.98", "1.0")], [("100.00", "3.0")], 5, 0))
    assert [] == handler.update(frame([("99.95", "1.0")], [], 6, 5))
    assert [BookView(0, 3)] == [view for view, _ in handler.update(frame([("99.96", "1.0")], [], 7, 6))]
    assert [TOP, BookView(0, 3)] == [view for view, _ in handler.update(frame([], [("100.00", "2.0")], 8, 7))]


def test_a_level_that_leaves_a_view_is_published(handler: OrderBookHandler) -> None:
    handler.snapshot(frame([("99.98", "1.0"), ("99.90", "2.0")], [("100.00", "3.0")], 5, 0))
    (book,) = books(handler.update(frame([("99.98", "0")], [], 6, 5)))
    assert ([(99.90, 2.0)], [(100.0, 3.0)]) == sides(book)


@pytest.mark.parametrize("view", [TOP, BookView(0, 7), BookView(0.03, 1), BookView(0.5, 4)])
def test_what_is_not_published_would_have_been_the_same(handler: OrderBookHandler, view: BookView) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    handler.views = (view,)
    (shown,) = books(handler.snapshot(frame([("99.98", "1.0")], [("100.00", "3.0")], 1, 0)))
    for nonce in range(1, 1_000):
        bids = [(f"{100 - draw.randrange(1, 40) / 100:.2f}", f"{draw.choice([0, 0, 1, 2])}")]
        asks = [(f"{100 + draw.randrange(40) / 100:.2f}", f"{draw.choice([0, 0, 1, 2])}")]
        bids, asks = draw.choice([(bids, asks), (bids, []), ([], asks)])
        for book in books(handler.update(frame(bids, asks, nonce + 1, nonce))):
            shown = book
        for now in books(handler.current([view])):
            assert (sides(now), now.tick_size) == (sides(shown), shown.tick_size)
    assert not handler.awaiting


def test_an_untouched_view_is_published_all_the_same_every_30_seconds(handler: OrderBookHandler) -> None:
    handler.snapshot(frame([("99.98", "1.0")], [("100.00", "3.0")], 5, 0))
    far, sent_us = [("99.00", "1.0")], SENT_MS * 1000
    assert [] == handler.update(frame(far, [], 6, 5, changed_us=sent_us + 29_999_999))
    assert 1 == len(handler.update(frame(far, [], 7, 6, changed_us=sent_us + 30_000_000)))
    assert [] == handler.update(frame(far, [], 8, 7, changed_us=sent_us + 59_999_999))
    assert 1 == len(handler.update(frame(far, [], 9, 8, changed_us=sent_us + 60_000_000)))


def test_every_snapshot_is_published(handler: OrderBookHandler) -> None:
    raw = frame([("99.98", "1.0")], [("100.00", "3.0")], 5, 0)
    assert [1, 1] == [len(handler.snapshot(raw)) for _ in range(2)]


def test_a_view_that_joins_is_published_with_the_next_delta(handler: OrderBookHandler) -> None:
    handler.snapshot(frame([("99.98", "1.0")], [("100.00", "3.0")], 5, 0))
    handler.views = (TOP, BookView(0, 2))
    assert [BookView(0, 2)] == [view for view, _ in handler.update(frame([("99.00", "1.0")], [], 6, 5))]


def test_quotes_come_from_the_book_once_a_change(handler: OrderBookHandler) -> None:
    handler.views = (QUOTES,)
    (first,) = handler.snapshot(frame([("99.98", "1.5"), ("99.97", "1.0")], [("100.00", "3.0")], 5, 0))
    assert (QUOTES, (99.98, 1.5, 100.0, 3.0)) == (first[0], values(first[1]))
    assert [] == handler.update(frame([("99.97", "2.0")], [], 6, 5))
    assert [] == handler.update(frame([("99.98", "1.5")], [], 7, 6))
    ((_, quote),) = handler.update(frame([("99.98", "1.0")], [], 8, 7, changed_us=SENT_MS * 1000 + 5))
    assert ((99.98, 1.0, 100.0, 3.0), SENT_MS * 1_000_000 + 5_000) == (values(quote), quote.time)
    assert [] == handler.snapshot(frame([("99.98", "1.0")], [("100.00", "3.0")], 9, 0))


def test_books_and_quotes_may_be_wanted_of_one_channel(handler: OrderBookHandler) -> None:
    handler.views = (QUOTES, TOP)
    outputs = handler.snapshot(frame([("99.98", "1.5")], [("100.00", "3.0")], 5, 0))
    assert {QUOTES: Quote, TOP: OrderBook} == {view: type(data) for view, data in outputs}


def test_a_quote_that_does_not_change_is_repeated_every_30_seconds(handler: OrderBookHandler) -> None:
    handler.views = (QUOTES,)
    handler.snapshot(frame([("99.98", "1.5")], [("100.00", "3.0")], 5, 0))
    sent_us = SENT_MS * 1000
    assert [] == handler.update(frame([("99.00", "1.0")], [], 6, 5, changed_us=sent_us + 29_999_999))
    assert 1 == len(handler.update(frame([("99.00", "2.0")], [], 7, 6, changed_us=sent_us + 30_000_000)))


def test_what_another_handler_published_as_a_quote_is_not_repeated(handler: OrderBookHandler) -> None:
    handler.views = (QUOTES,)
    handler.last_quote = Quote(SENT_MS * 1_000_000 - 1, 99.98, 100.0, 1.5, 3.0)
    assert [] == handler.snapshot(frame([("99.98", "1.5")], [("100.00", "3.0")], 5, 0))
    ((_, quote),) = handler.update(frame([("99.99", "1.0")], [], 6, 5))
    assert quote is handler.last_quote


def test_a_subscription_of_quotes_that_joins_is_shown_the_present_one(handler: OrderBookHandler) -> None:
    handler.snapshot(frame([("99.98", "1.5")], [("100.00", "3.0")], 5, 0))
    ((view, quote),) = handler.current([QUOTES])
    assert (QUOTES, (99.98, 1.5, 100.0, 3.0)) == (view, values(quote))
    handler.views = (TOP, QUOTES)
    assert [] == handler.update(frame([("99.00", "1.0")], [], 6, 5))


def test_the_quote_has_the_time_of_the_newest_frame(handler: OrderBookHandler) -> None:
    handler.snapshot(frame([("99.98", "1.5")], [("100.00", "3.0")], 5, 0))
    handler.update(frame([("99.00", "1.0")], [], 6, 5, changed_us=SENT_MS * 1000 + 7))
    assert handler.quote is not None
    assert SENT_MS * 1_000_000 + 7_000 == handler.quote.time


def test_a_view_of_something_else_is_a_mistake(handler: OrderBookHandler) -> None:
    handler.views = (TRADES,)
    with pytest.raises(TypeError):
        handler.snapshot(frame([("99.98", "1.5")], [("100.00", "3.0")], 5, 0))
