"""The table of orders: Qubx's words, and the tables's own rules. What the signer makes of them is in test_signer."""

from __future__ import annotations

import pytest

from qubx_lighter.constants import OrderType, TimeInForce
from qubx_lighter.protocol.order_table import QUBX_TYPES, TABLE, TRIGGER_TYPES, order_refusal, select

IOC, GTT, POST_ONLY = TimeInForce.IOC, TimeInForce.GTT, TimeInForce.POST_ONLY


@pytest.mark.parametrize(
    ("qubx_type", "words", "expected"),
    [
        ("LIMIT", "", (OrderType.LIMIT, GTT)),
        ("LIMIT", "gtc", (OrderType.LIMIT, GTT)),
        ("LIMIT", "GTT", (OrderType.LIMIT, GTT)),
        ("LIMIT", "ioc", (OrderType.LIMIT, IOC)),
        ("LIMIT", "IOC", (OrderType.LIMIT, IOC)),
        ("LIMIT", "GTX", (OrderType.LIMIT, POST_ONLY)),
        ("LIMIT", "post_only", (OrderType.LIMIT, POST_ONLY)),
        ("MARKET", "gtc", (OrderType.MARKET, IOC)),
        ("MARKET", "ioc", (OrderType.MARKET, IOC)),
        ("STOP_MARKET", "gtc", (OrderType.STOP_LOSS, IOC)),
        ("STOP_MARKET", "ioc", (OrderType.STOP_LOSS, IOC)),
        ("STOP_LIMIT", "gtc", (OrderType.STOP_LOSS_LIMIT, GTT)),
        ("STOP_LIMIT", "ioc", (OrderType.STOP_LOSS_LIMIT, IOC)),
        ("STOP_LIMIT", "gtx", (OrderType.STOP_LOSS_LIMIT, POST_ONLY)),
    ],
)
def test_qubxs_words_select_one_order(qubx_type: str, words: str, expected: tuple[OrderType, TimeInForce]) -> None:
    terms = select(qubx_type, words)
    assert expected == (terms.order_type, terms.time_in_force)


def test_a_stop_order_may_take_profit() -> None:
    assert OrderType.TAKE_PROFIT is select("STOP_MARKET", "gtc", trigger_type="take_profit").order_type
    assert OrderType.TAKE_PROFIT_LIMIT is select("STOP_LIMIT", "gtc", trigger_type="take_profit").order_type


@pytest.mark.parametrize("qubx_type", ["LIMIT", "MARKET"])
def test_a_twap_is_worked_till_its_time(qubx_type: str) -> None:
    terms = select(qubx_type, "gtc", twap=True)
    assert (OrderType.TWAP, GTT) == (terms.order_type, terms.time_in_force)


def test_post_only_is_an_option_too() -> None:
    assert POST_ONLY is select("LIMIT", "gtc", post_only=True).time_in_force
    with pytest.raises(ValueError, match="cannot be post-only"):
        select("LIMIT", "ioc", post_only=True)


@pytest.mark.parametrize("qubx_type", QUBX_TYPES)
@pytest.mark.parametrize("words", ["fok", "FOK", "day", "post-only!"])
def test_what_the_venue_has_not_is_refused(qubx_type: str, words: str) -> None:
    with pytest.raises(ValueError, match="use one of gtc, gtt, ioc, gtx, post_only"):
        select(qubx_type, words)


@pytest.mark.parametrize(
    ("qubx_type", "words", "twap", "text"),
    [
        ("MARKET", "gtx", False, "a MARKET order cannot be POST_ONLY"),
        ("STOP_MARKET", "gtx", False, "a STOP_LOSS order cannot be POST_ONLY"),
        ("LIMIT", "ioc", True, "a TWAP order cannot be IOC"),
        ("STOP_LIMIT", "gtc", True, "a TWAP cannot be STOP_LIMIT"),
        ("ICEBERG", "gtc", False, "ICEBERG is not supported"),
    ],
)
def test_what_does_not_go_together_is_refused(qubx_type: str, words: str, twap: bool, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        select(qubx_type, words, twap=twap)


def test_an_unknown_trigger_is_refused() -> None:
    with pytest.raises(ValueError, match="use one of stop_loss, take_profit"):
        select("STOP_MARKET", "gtc", trigger_type="trailing")


def test_every_cell_can_be_asked_for_in_qubxs_words() -> None:
    reached = set()
    for qubx_type in QUBX_TYPES:
        for words in ("gtc", "ioc", "gtx"):
            for trigger_type in TRIGGER_TYPES:
                for twap in (False, True):
                    try:
                        terms = select(qubx_type, words, trigger_type=trigger_type, twap=twap)
                    except ValueError:
                        continue
                    reached.add((terms.order_type, terms.time_in_force))
    assert set(TABLE) == reached


def test_a_refusal_names_all_that_is_wrong() -> None:
    text = order_refusal(OrderType.STOP_LOSS, IOC, has_expiry=False, has_trigger=False)
    assert "a STOP_LOSS order that is IOC needs trigger price and needs expiry" == text
