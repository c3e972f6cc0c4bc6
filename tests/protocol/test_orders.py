"""Client ids, pending transactions, order rows and fills."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qubx_lighter.errors import WireError
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.orders import (
    Cause,
    FillDeduplicator,
    OrderTracker,
    Status,
    StatusKind,
    Transition,
    TransitionKind,
)

OPENED, FILLED_MORE, AMENDED, ACTIVATED, DONE = (
    TransitionKind.OPENED,
    TransitionKind.FILLED_MORE,
    TransitionKind.AMENDED,
    TransitionKind.ACTIVATED,
    TransitionKind.DONE,
)

ASK = (1 << 48) | 150
BID = (1 << 48) | (2**48 - 150)

# --- order rows ------------------------------------------------------------------------------------------------------


def row(status: str = "open", filled: float = 0.0, **changes: Any) -> wire.OrderRow:
    fields: dict[str, Any] = {
        "order_index": ASK,
        "client_order_index": 7,
        "market_index": 0,
        "is_ask": True,
        "status": status,
        "initial_base_amount": 1.0,
        "remaining_base_amount": 0.0,
        "filled_base_amount": filled,
        "filled_quote_amount": filled * 100,
        "price": 100.0,
    }
    return wire.OrderRow(**(fields | changes))


def kinds(transitions: list[Transition]) -> list[TransitionKind]:
    return [transition.kind for transition in transitions]


def test_a_stop_that_becomes_a_limit_order_is_a_step_of_its_own() -> None:
    tracker = OrderTracker()
    stop = {"type": "stop-loss-limit", "trigger_price": 95.0}
    assert [OPENED] == kinds(tracker.observe(row("pending", **stop)))
    assert [AMENDED] == kinds(tracker.observe(row("pending", **stop | {"trigger_price": 96.0, "order_version": 1})))
    assert [ACTIVATED] == kinds(tracker.observe(row("open", **stop | {"order_version": 1})))
    assert [AMENDED] == kinds(tracker.observe(row("open", price=99.0, **stop | {"order_version": 2})))
    assert [DONE] == kinds(tracker.observe(row("filled", filled=1.0, price=99.0, **stop | {"order_version": 2})))


def test_a_child_that_takes_its_parents_size_is_a_step_of_its_own() -> None:
    tracker = OrderTracker()
    child = {"type": "stop-loss", "trigger_price": 95.0}
    assert [OPENED] == kinds(tracker.observe(row("pending", initial_base_amount=0.0, **child)))
    assert [ACTIVATED] == kinds(tracker.observe(row("pending", **child)))
    assert [DONE] == kinds(tracker.observe(row("canceled-too-much-slippage", **child)))


def test_a_twap_fills_while_it_waits() -> None:
    tracker = OrderTracker()
    twap = {"type": "twap", "trigger_price": 0.0}
    assert [OPENED] == kinds(tracker.observe(row("pending", **twap)))
    assert [FILLED_MORE] == kinds(tracker.observe(row("pending", filled=0.5, **twap)))
    assert [DONE] == kinds(tracker.observe(row("filled", filled=1.0, **twap)))


def test_a_resting_order_opens_fills_and_ends() -> None:
    tracker = OrderTracker()
    assert [OPENED] == kinds(tracker.observe(row()))
    [more] = tracker.observe(row(filled=0.3))
    assert (FILLED_MORE, 0.3, True) == (more.kind, more.filled_delta, more.rested)
    [more] = tracker.observe(row(filled=0.4))
    assert 0.1 == more.filled_delta  # 0.4 - 0.3 in floats is not
    assert [row(filled=0.4)] == tracker.active()
    [done] = tracker.observe(row("filled", filled=1.0))
    assert (DONE, 0.6, True) == (done.kind, done.filled_delta, done.rested)
    assert Status(StatusKind.FILLED) == done.status
    assert [] == tracker.active()


def test_a_row_seen_twice_says_nothing_twice() -> None:
    tracker = OrderTracker()
    rows = [row(), row(filled=0.3), row("canceled", filled=0.3)]
    assert [[OPENED], [FILLED_MORE], [DONE]] == [kinds(tracker.observe(r)) for r in rows]
    assert [[], [], []] == [kinds(tracker.observe(r)) for r in rows]


def test_an_order_that_fills_at_once_is_one_row() -> None:
    opened, done = OrderTracker().observe(row("filled", filled=1.0))
    assert (OPENED, DONE) == (opened.kind, done.kind)
    assert (False, 1.0) == (done.rested, done.filled_delta)


def test_an_immediate_order_that_fills_in_part_opens_fills_and_is_canceled() -> None:
    transitions = OrderTracker().observe(row("canceled-not-enough-liquidity", filled=0.4))
    assert [OPENED, FILLED_MORE, DONE] == kinds(transitions)
    assert Status(StatusKind.CANCELED, Cause.NOT_FILLABLE) == transitions[-1].status


def test_an_immediate_order_that_fills_nothing_is_canceled_not_rejected() -> None:
    opened, done = OrderTracker().observe(row("canceled"))
    assert (OPENED, DONE, StatusKind.CANCELED) == (opened.kind, done.kind, done.status.kind)


def test_a_rejected_order_never_opens() -> None:
    [done] = OrderTracker().observe(row("canceled-post-only"))
    assert (DONE, Status(StatusKind.REJECTED, Cause.NOT_FILLABLE)) == (done.kind, done.status)


def test_being_matched_is_not_yet_resting() -> None:
    tracker = OrderTracker()
    assert [OPENED] == kinds(tracker.observe(row("in-progress")))
    assert not tracker.rested(ASK)
    [done] = tracker.observe(row("canceled-margin-not-allowed"))
    assert StatusKind.REJECTED is done.status.kind


def test_an_order_once_resting_is_canceled_whatever_the_reason() -> None:
    tracker = OrderTracker()
    tracker.observe(row("in-progress"))
    assert [] == tracker.observe(row("open"))
    assert [] == tracker.observe(row("in-progress"))
    [done] = tracker.observe(row("canceled-post-only"))
    assert (True, StatusKind.CANCELED) == (done.rested, done.status.kind)


def test_an_expired_order_is_expired() -> None:
    tracker = OrderTracker()
    tracker.observe(row())
    [done] = tracker.observe(row("canceled-expired"))
    assert StatusKind.EXPIRED is done.status.kind


def test_a_waiting_conditional_order_counts_as_resting() -> None:
    tracker = OrderTracker()
    tracker.observe(row("pending"))
    [done] = tracker.observe(row("canceled-oco"))
    assert StatusKind.CANCELED is done.status.kind


@pytest.mark.parametrize(
    "change", [{"price": 101.0}, {"initial_base_amount": 2.0}, {"order_version": 1}], ids=["price", "size", "version"]
)
def test_an_amend_shows(change: dict[str, Any]) -> None:
    tracker = OrderTracker()
    tracker.observe(row(filled=0.2))
    assert [AMENDED] == kinds(tracker.observe(row(filled=0.2, **change)))
    assert [] == tracker.observe(row(filled=0.2, **change))


def test_an_amend_into_the_other_side_is_amended_then_filled() -> None:
    tracker = OrderTracker()
    tracker.observe(row())
    assert [AMENDED, FILLED_MORE] == kinds(tracker.observe(row(filled=0.2, price=99.0, order_version=1)))
    assert [AMENDED, DONE] == kinds(tracker.observe(row("filled", filled=1.0, price=98.0, order_version=2)))


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        ({"filled": 0.5, "transaction_time": 1}, {"filled": 0.4, "transaction_time": 2}),
        ({"transaction_time": 20}, {"transaction_time": 10, "order_version": 1, "price": 90.0}),
        ({"order_version": 1, "price": 101.0}, {"price": 90.0}),
        (
            {"order_version": 2, "nonce": 3, "transaction_time": 5},
            {"order_version": 1, "nonce": 4, "transaction_time": 5},
        ),
        ({"nonce": 31}, {"nonce": 30, "price": 90.0}),
        ({"nonce": 2**48 - 31}, {"nonce": 2**48 - 30, "price": 90.0}),
        ({"nonce": 31, "updated_at": 1_760_287_839}, {"nonce": 30, "updated_at": 1_760_287_840, "price": 90.0}),
        ({"updated_at": 1_760_287_839_500}, {"updated_at": 1_760_287_839, "price": 90.0}),
    ],
    ids=[
        "fills",
        "time",
        "version",
        "version before nonce",
        "nonce",
        "nonce of a bid",
        "nonce before seconds",
        "units",
    ],
)
def test_a_row_that_was_overtaken_is_ignored(newer: dict[str, Any], older: dict[str, Any]) -> None:
    tracker = OrderTracker()
    tracker.observe(row(**newer))
    assert [] == tracker.observe(row(**older))
    assert [row(**newer)] == tracker.active()


@pytest.mark.parametrize(
    "later",
    [
        {"transaction_time": 0, "nonce": 9},
        {"transaction_time": 50, "nonce": 0},
        {"transaction_time": 50, "nonce": 9, "updated_at": 0},
    ],
)
def test_what_a_row_lacks_does_not_make_it_old(later: dict[str, Any]) -> None:
    tracker = OrderTracker()
    tracker.observe(row(transaction_time=50, nonce=9, updated_at=1_760_287_839))
    assert [AMENDED] == kinds(tracker.observe(row(price=90.0, **later)))


def test_an_end_counts_however_late_its_clock() -> None:
    tracker = OrderTracker()
    tracker.observe(row(transaction_time=50, filled=0.5))
    [done] = tracker.observe(row("canceled-self-trade", transaction_time=40))
    assert (DONE, 0.0) == (done.kind, done.filled_delta)
    assert StatusKind.CANCELED is done.status.kind


def test_an_end_that_tells_less_than_was_filled_is_no_rejection() -> None:
    tracker = OrderTracker()
    tracker.observe(row("in-progress", filled=0.5))
    [done] = tracker.observe(row("canceled-too-much-slippage"))
    assert (False, 0.0, StatusKind.CANCELED) == (done.rested, done.filled_delta, done.status.kind)


def test_nothing_comes_after_the_end() -> None:
    tracker = OrderTracker()
    tracker.observe(row("canceled", transaction_time=10))
    assert [] == tracker.observe(row(transaction_time=20))
    assert [] == tracker.observe(row("filled", filled=1.0, transaction_time=30))
    assert [] == tracker.active()


def test_an_unknown_status_fails_loudly_and_changes_nothing() -> None:
    tracker = OrderTracker()
    tracker.observe(row())
    with pytest.raises(WireError, match="unknown order status 'paused'"):
        tracker.observe(row("paused"))
    assert [row()] == tracker.active()


def test_a_full_list_shows_what_is_missing() -> None:
    tracker = OrderTracker()
    tracker.observe(row())
    tracker.observe(row(order_index=BID, is_ask=False))
    tracker.observe(row("canceled", order_index=5))
    assert [row(order_index=BID, is_ask=False)] == tracker.missing_from([row(filled=0.2), row(order_index=9)])
    assert [] == tracker.missing_from(tracker.active())


def test_an_ended_order_is_still_known_by_its_ids() -> None:
    tracker = OrderTracker()
    assert (False, 0) == (tracker.rested(ASK), tracker.client_order_index(ASK))
    tracker.observe(row())
    assert (True, 7) == (tracker.rested(ASK), tracker.client_order_index(ASK))
    tracker.observe(row("canceled"))
    assert (True, 7) == (tracker.rested(ASK), tracker.client_order_index(ASK))


def test_only_the_latest_ended_orders_are_remembered() -> None:
    tracker = OrderTracker(remember=2)
    for index in (1, 2, 3):
        tracker.observe(row("canceled", order_index=index))
    assert [] == tracker.observe(row(order_index=2))
    assert [] == tracker.observe(row(order_index=3))
    assert [OPENED] == kinds(tracker.observe(row(order_index=1)))


def test_captured_immediate_orders_open_and_fill_once(wire_dir: Path) -> None:
    tracker = OrderTracker()
    steps = []
    for raw in (wire_dir / "account_225671.jsonl").read_bytes().splitlines() * 2:
        if wire.route(raw).type.endswith("/account_all_orders"):
            for rows in (wire.decode(wire.AccountOrdersFrame, raw).orders or {}).values():
                steps += [(t.row.order_index, t.kind, t.filled_delta) for r in rows for t in tracker.observe(r)]
    assert [
        (7036874567915800, OPENED, 1.0),
        (7036874567915800, DONE, 1.0),
        (7318349238191179, OPENED, 1.0),
        (7318349238191179, DONE, 1.0),
    ] == steps


@settings(deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.booleans())
def test_rows_in_any_order_lead_to_one_end(seed: int, is_ask: bool, with_times: bool) -> None:
    """Make an order's history, deliver it shuffled and doubled, and compare with the history."""
    source = random.Random(seed)
    history, filled, version, nonce = [], 0, 0, 150 if is_ask else 2**48 - 150
    for step in range(1, source.randint(2, 8)):
        if source.random() < 0.5:
            filled += source.randint(1, 9)
        else:
            version += 1
            nonce += 1 if is_ask else -1
        history.append(
            row(
                filled=filled / 100,
                is_ask=is_ask,
                order_index=ASK if is_ask else BID,
                price=100.0 + version,
                order_version=version,
                nonce=nonce,
                transaction_time=step if with_times else 0,
            )
        )
    history.append(msgspec.structs.replace(history[-1], status=source.choice(["canceled", "filled"])))
    tracker, seen = OrderTracker(), []
    deliveries = [*history, *history]
    source.shuffle(deliveries)
    for delivery in deliveries:
        seen += tracker.observe(delivery)
    steps = kinds(seen)
    assert 1 == steps.count(OPENED) == steps.count(DONE)
    assert (OPENED, DONE) == (steps[0], steps[-1])
    assert [] == tracker.active()
    working = [transition.row for transition in seen[:-1] if transition.kind is not OPENED]
    assert working == sorted(working, key=lambda r: (r.filled_base_amount, r.order_version))
    assert history[-1] == seen[-1].row


# --- fills -----------------------------------------------------------------------------------------------------------


def test_a_fill_is_new_once_on_each_side() -> None:
    fills = FillDeduplicator()
    assert [False, True] == [fills.seen(0, 225067334, True) for _ in range(2)]
    assert [False, True] == [fills.seen(0, 225067334, False) for _ in range(2)]
    assert not fills.seen(1, 225067334, True)


def test_only_the_latest_fills_are_remembered() -> None:
    fills = FillDeduplicator(remember=2)
    for trade_id in (0, 1, 2):
        assert not fills.seen(0, trade_id, True)
    assert fills.seen(0, 2, True)
    assert fills.seen(0, 1, True)
    assert not fills.seen(0, 0, True)


def test_the_newest_row_of_an_order_is_kept_beyond_its_end() -> None:
    tracker = OrderTracker()
    tracker.observe(row("open"))
    ended = row("filled", filled=1.0)
    tracker.observe(ended)
    assert ended == tracker.latest(ASK)
    assert tracker.latest(ASK + 1) is None
