"""What goes wrong on purpose: the specification, the chance, and what becomes of frames."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qubx_lighter.constants import TxType
from qubx_lighter.errors import ConfigurationError
from qubx_lighter.sim.api.server import Server
from qubx_lighter.sim.faults import Fault, Faults, Kind, parse
from qubx_lighter.sim.journal import Journal
from qubx_lighter.sim.model.commands import CreateAccount, CreateMarket, EndOrder, RegisterKey, SubmitTransaction
from tests.sim.desk import ALICE, DAY_MS, ETH, KEY, START, Desk

ORDERS, TRADES, BOOK = "account_all_orders:100", "account_all_trades:100", "order_book:0"


def test_a_specification_names_faults_with_their_options() -> None:
    assert [
        Fault(Kind.REFUSE, "14", every=50, code=21739),
        Fault(Kind.SWALLOW, every=100),
        Fault(Kind.ERROR, "/api/v1/trades", code=503, times=3),
        Fault(Kind.END, text="canceled-oco"),
        Fault(Kind.DELAY, seconds=0.5),
    ] == parse(
        "refuse where=14 code=21739 every=50; swallow every=100;"
        "error where=/api/v1/trades code=503 times=3; end text=canceled-oco; delay seconds=0.5;"
    )
    assert [] == parse(" ")


@pytest.mark.parametrize(
    ("specification", "words"),
    [
        ("explode", "unknown fault 'explode'; there are refuse, fail"),
        ("refuse cod=3", "unknown option 'cod=3' of the fault refuse"),
        ("refuse code=x", "'code=x' of the fault refuse is no number"),
        ("refuse kind=lose", "unknown option 'kind=lose'"),
    ],
)
def test_what_cannot_be_read_is_named(specification: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse(specification)


def test_without_further_options_it_strikes_once_and_where_it_should() -> None:
    faults = Faults([Fault(Kind.REFUSE, "14")])
    assert faults.draw(Kind.REFUSE, "15") is None
    assert faults.draw(Kind.FAIL, "14") is None
    assert faults.draw(Kind.REFUSE, "14") == Fault(Kind.REFUSE, "14")
    assert faults.draw(Kind.REFUSE, "14") is None
    assert (1, 1) == (faults.met[Kind.REFUSE], faults.struck[Kind.REFUSE])


def test_it_strikes_as_often_as_it_should() -> None:
    faults = Faults([Fault(Kind.SWALLOW, times=3), Fault(Kind.CUT_AFTER, times=0)])
    assert 3 == sum(faults.draw(Kind.SWALLOW, "14") is not None for _ in range(10))
    assert 10 == sum(faults.draw(Kind.CUT_AFTER, "14") is not None for _ in range(10))
    faults.clear()
    assert faults.draw(Kind.CUT_AFTER, "14") is None


def test_one_in_so_many_is_drawn_and_the_same_for_the_same_seed() -> None:
    def run(seed: int) -> list[bool]:
        faults = Faults([Fault(Kind.SWALLOW, every=4)], seed)
        return [faults.draw(Kind.SWALLOW, "14") is not None for _ in range(400)]

    assert run(5) == run(5)
    assert run(5) != run(6)
    assert 60 < sum(run(5)) < 140


def test_frames_are_lost_doubled_and_turned_around() -> None:
    faults = Faults([Fault(Kind.LOSE, BOOK), Fault(Kind.DUPLICATE, ORDERS), Fault(Kind.REORDER, TRADES)])
    assert [] == faults.pass_on(BOOK, "1")
    assert [(BOOK, "2")] == faults.pass_on(BOOK, "2")
    assert [] == faults.pass_on(TRADES, "3")
    assert [(ORDERS, "4"), (ORDERS, "4"), (TRADES, "3")] == faults.pass_on(ORDERS, "4")
    assert [] == faults.release()


def test_a_frame_that_nothing_follows_is_released_all_the_same() -> None:
    faults = Faults([Fault(Kind.REORDER, TRADES)])
    assert [] == faults.pass_on(TRADES, "1")
    assert [(TRADES, "1")] == faults.release()


def test_a_late_frame_waits_for_the_next_subscription_of_its_channel() -> None:
    faults = Faults([Fault(Kind.LATE, TRADES)])
    assert [] == faults.pass_on(TRADES, "1")
    assert [] == faults.late(ORDERS)
    assert ["1"] == faults.late(TRADES)
    assert [] == faults.late(TRADES)


def test_an_order_ends_with_any_status_once() -> None:
    desk = Desk()
    order = desk.order(desk.create("buy", 1000, 399_000))
    desk.apply(EndOrder(order.order_index, "canceled-oco"))
    desk.apply(EndOrder(order.order_index, "canceled-child"))
    assert ["canceled-oco"] == [row.status for row in desk.engine.inactive_orders(ALICE)]
    assert [] == desk.bids()


def transaction(nonce: int, **fields: int) -> str:
    return json.dumps({"AccountIndex": ALICE, "ApiKeyIndex": KEY, "ExpiredAt": 2 * START, "Nonce": nonce} | fields)


def test_what_the_sequencer_refuses_by_fault_consumes_its_nonce_and_does_nothing() -> None:
    desk = Desk()
    body = transaction(0, TimeInForce=0, Time=0)
    assert desk.apply(SubmitTransaction(TxType.CANCEL_ALL_ORDERS, body, "ab", "AppErrInvalidOrderStatus")).ok
    (record,) = desk.engine.transactions(5)
    assert ("AppErrInvalidOrderStatus", 1) == (record.error, desk.engine.next_nonce(ALICE, KEY))


def test_what_a_fault_did_to_transactions_is_in_the_journal(tmp_path: Path) -> None:
    order = {"MarketIndex": 0, "ClientOrderIndex": 0, "BaseAmount": 1000, "Price": 300_000, "IsAsk": 0, "Type": 0}
    order |= {"TimeInForce": 1, "ReduceOnly": 0, "TriggerPrice": 0, "OrderExpiry": START // 1000 + DAY_MS}
    faults = Faults([Fault(Kind.FAIL, text="AppErrInvalidPrice"), Fault(Kind.END, text="canceled-oco", times=0)])
    with Journal(tmp_path / "state", seed=3) as journal:
        engine = journal.restore()
        server = Server(engine, journal=journal, now=lambda: START, faults=faults)
        server.execute(CreateMarket(ETH))
        server.execute(CreateAccount(ALICE, "0x1", 10**9))
        server.execute(RegisterKey(ALICE, KEY, "0x00"))
        answers = [server.submit(TxType.CREATE_ORDER, transaction(nonce, **order))[1].code for nonce in range(2)]
        assert [200, 200] == answers
        assert ["canceled-oco"] == [row.status for row in engine.inactive_orders(ALICE)]
        assert ["", "AppErrInvalidPrice"] == [record.error for record in engine.transactions(2)]
    with Journal(tmp_path / "state") as journal:
        again = journal.restore()
        assert engine.inactive_orders(ALICE) == again.inactive_orders(ALICE)
        assert engine.transactions(2) == again.transactions(2)
