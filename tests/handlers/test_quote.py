"""Ticker frames become quotes; half a market makes none."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from qubx.core.series import Quote

from qubx_lighter.errors import WireError
from qubx_lighter.handlers import QUOTES, QuoteHandler
from qubx_lighter.protocol.units import Scale
from tests.markets import loaded_instruments

CHANGED_US = 1_774_883_844_921_166
SENT_MS = 1_774_883_844_933


def frame(bid: tuple[str, str], ask: tuple[str, str], nonce: int | None = None, changed_us: int = CHANGED_US) -> bytes:
    ticker = {
        "s": "ETH",
        "a": dict(zip(("price", "size"), ask, strict=True)),
        "b": dict(zip(("price", "size"), bid, strict=True)),
    }
    body = {"channel": "ticker:0", "ticker": ticker, "timestamp": SENT_MS, "last_updated_at": changed_us}
    return json.dumps(body | ({} if nonce is None else {"nonce": nonce})).encode()


@pytest.fixture
async def handler() -> QuoteHandler:
    handler = QuoteHandler((await loaded_instruments()).instrument(0), Scale(2, 4), Counter())
    handler.views = (QUOTES,)
    return handler


def test_a_frame_is_a_quote_in_nanoseconds(handler: QuoteHandler) -> None:
    ((view, quote),) = handler.update(frame(("2064.30", "1.0392"), ("2064.48", "0.4950")))
    assert QUOTES == view
    assert isinstance(quote, Quote)
    assert (CHANGED_US * 1000, 2064.30, 2064.48, 1.0392, 0.4950) == (
        quote.time, quote.bid, quote.ask, quote.bid_size, quote.ask_size,
    )  # fmt: skip
    assert quote is handler.quote


def test_the_first_quote_of_a_market_at_rest_has_the_time_of_its_sending(handler: QuoteHandler) -> None:
    ((_, quote),) = handler.snapshot(frame(("1.0", "1"), ("2.0", "1"), changed_us=CHANGED_US - 3_600_000_000))
    assert SENT_MS * 1_000_000 == quote.time


def test_times_never_go_back(handler: QuoteHandler) -> None:
    handler.update(frame(("1.0", "1"), ("2.0", "1")))
    ((_, quote),) = handler.update(frame(("1.0", "1"), ("2.0", "2"), changed_us=CHANGED_US - 5))
    assert CHANGED_US * 1000 == quote.time


def test_a_quote_that_says_what_the_last_one_said_is_not_published(handler: QuoteHandler) -> None:
    assert 1 == len(handler.update(frame(("1.0", "1"), ("2.0", "1"))))
    assert [] == handler.update(frame(("1.0", "1"), ("2.0", "1"), changed_us=CHANGED_US + 5))
    assert handler.quote is not None
    assert (CHANGED_US + 5) * 1000 == handler.quote.time


@pytest.mark.parametrize(
    ("bid", "ask"),
    [
        (("1.1", "1"), ("2.0", "1")),
        (("1.0", "2"), ("2.0", "1")),
        (("1.0", "1"), ("2.1", "1")),
        (("1.0", "1"), ("2.0", "2")),
    ],
)
def test_any_change_is_published(handler: QuoteHandler, bid: tuple[str, str], ask: tuple[str, str]) -> None:
    handler.update(frame(("1.0", "1"), ("2.0", "1")))
    assert 1 == len(handler.update(frame(bid, ask)))


def test_an_unchanged_quote_is_published_all_the_same_every_30_seconds(handler: QuoteHandler) -> None:
    times = (0, 29_999_999, 30_000_000, 30_000_001, 60_000_000)
    raws = [frame(("1.0", "1"), ("2.0", "1"), changed_us=CHANGED_US + after) for after in times]
    assert [1, 0, 1, 0, 1] == [len(handler.update(raw)) for raw in raws]


def test_what_another_handler_published_is_not_repeated(handler: QuoteHandler) -> None:
    handler.last_quote = Quote(CHANGED_US * 1000, 1.0, 2.0, 1.0, 1.0)
    assert [] == handler.update(frame(("1.0", "1"), ("2.0", "1")))


@pytest.mark.parametrize(
    ("bid", "ask", "counter"),
    [
        (("", ""), ("2.0", "1"), "one_sided_quotes"),
        (("1.0", "1"), ("", ""), "one_sided_quotes"),
        (("", ""), ("", ""), "one_sided_quotes"),
        (("2.0", "1"), ("2.0", "1"), "crossed_quotes"),
        (("2.1", "1"), ("2.0", "1"), "crossed_quotes"),
    ],
)
def test_half_a_market_or_a_crossed_one_makes_no_quote(
    handler: QuoteHandler, bid: tuple[str, str], ask: tuple[str, str], counter: str
) -> None:
    handler.update(frame(("1.0", "1"), ("2.0", "1")))
    assert [] == handler.update(frame(bid, ask))
    assert handler.quote is None
    assert 1 == handler.counters[counter]


def test_an_older_frame_is_left_out(handler: QuoteHandler) -> None:
    handler.update(frame(("1.0", "1"), ("2.0", "1"), nonce=8))
    assert [] == handler.update(frame(("1.5", "1"), ("2.0", "1"), nonce=7))
    assert handler.quote is not None
    assert 1.0 == handler.quote.bid
    assert 1 == handler.counters["stale_quotes"]


def test_a_new_subscription_may_count_anew(handler: QuoteHandler) -> None:
    handler.update(frame(("1.0", "1"), ("2.0", "1"), nonce=8))
    assert 1 == len(handler.snapshot(frame(("1.5", "1"), ("2.0", "1"), nonce=3)))


def test_without_views_the_quote_is_kept_and_nothing_comes_out(handler: QuoteHandler) -> None:
    handler.views = ()
    assert [] == handler.update(frame(("1.0", "1"), ("2.0", "1")))
    assert handler.quote is not None
    assert [(QUOTES, handler.quote)] == handler.current([QUOTES])


def test_a_reset_forgets_the_quote(handler: QuoteHandler) -> None:
    handler.update(frame(("1.0", "1"), ("2.0", "1"), nonce=8))
    handler.reset()
    assert handler.quote is None
    assert [] == handler.current([QUOTES])
    assert 1 == len(handler.update(frame(("1.0", "1"), ("2.0", "2"), nonce=1)))


def test_a_new_connection_repeats_nothing(handler: QuoteHandler) -> None:
    handler.update(frame(("1.0", "1"), ("2.0", "1")))
    handler.reset()
    assert [] == handler.snapshot(frame(("1.0", "1"), ("2.0", "1"), changed_us=CHANGED_US + 5))
    assert handler.quote is not None


@pytest.mark.parametrize("raw", [b"{}", b'{"ticker":{"a":{"price":"x","size":"1"},"b":{"price":"1","size":"1"}}}'])
def test_what_cannot_be_read_is_a_wire_error(handler: QuoteHandler, raw: bytes) -> None:
    with pytest.raises(WireError):
        handler.update(raw)
