"""Client ids: each order's index leads back to its order, in every run, for every bot of an account."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubx_lighter.protocol.orders import ClientIds


def test_a_framework_id_becomes_tag_and_counter_and_survives_a_restart() -> None:
    index = ClientIds(4).index_of("qubx_BTC-USDC_17912345678")
    assert (4 << 40) | 17912345678 == index
    assert "qubx_BTC-USDC_17912345678" == ClientIds(4).client_id_of(index, "BTC-USDC")


def test_another_bots_index_is_foreign_and_leads_back_to_itself() -> None:
    index = ClientIds(5).index_of("qubx_BTC-USDC_17912345678")
    ids = ClientIds(4)
    assert f"lighter_{index}" == ids.client_id_of(index, "BTC-USDC")
    assert index == ids.index_of(f"lighter_{index}")


@given(st.integers(0, 254), st.integers(1, 2**48 - 1))
def test_any_index_leads_back_to_itself(tag: int, index: int) -> None:
    client_id = ClientIds(tag).client_id_of(index, "ETH-USDC")
    assert client_id is not None
    assert index == ClientIds(tag).index_of(client_id)


@pytest.mark.parametrize(
    "client_id",
    [
        "mine",
        "qubx_BTC-USDC_0",
        "qubx_BTC-USDC_007",
        f"qubx_BTC-USDC_{2**38}",
        "qubx_BTC-USDC_7.xx",
        "mine.tp",
        "qubx_BTC-USDC_12x",
        "qubx_BTC-USDC_\uff11",
        "lighter_0",
        f"lighter_{2**48}",
        "lighter_-5",
        "",
        "qubx__5",
    ],
)
def test_any_other_id_is_hashed_and_remembered(client_id: str) -> None:
    ids = ClientIds(4)
    index = ids.index_of(client_id)
    assert 255 == index >> 40
    assert client_id == ids.client_id_of(index, "BTC-USDC")
    assert index == ids.index_of(client_id)
    assert index == ClientIds(9).index_of(client_id)
    assert f"lighter_{index}" == ClientIds(4).client_id_of(index, "BTC-USDC")


@pytest.mark.parametrize(("suffix", "role"), [(".tp", 1), (".sl", 2)])
def test_the_ids_of_what_closes_an_order_in_a_group_survive_a_restart(suffix: str, role: int) -> None:
    client_id = f"qubx_BTC-USDC_17912345678{suffix}"
    index = ClientIds(4).index_of(client_id)
    assert (4 << 40) | (role << 38) | 17912345678 == index
    assert client_id == ClientIds(4).client_id_of(index, "BTC-USDC")
    assert f"lighter_{index}" == ClientIds(5).client_id_of(index, "BTC-USDC")


def test_a_role_that_nobody_has_is_foreign() -> None:
    index = (4 << 40) | (3 << 38) | 17912345678
    assert f"lighter_{index}" == ClientIds(4).client_id_of(index, "BTC-USDC")


def test_no_index_is_no_id() -> None:
    ids = ClientIds(0)
    assert ids.client_id_of(0, "BTC-USDC") is None
    assert f"lighter_{4 << 40}" == ClientIds(4).client_id_of(4 << 40, "BTC-USDC")


def test_the_exact_id_comes_back_whatever_the_symbol() -> None:
    ids = ClientIds(4)
    assert "qubx_BTCUSDC_7" == ids.client_id_of(ids.index_of("qubx_BTCUSDC_7"), "BTC-USDC")


def test_two_ids_of_one_index_are_refused() -> None:
    ids = ClientIds(4)
    ids.index_of("qubx_BTC-USDC_7")
    with pytest.raises(ValueError, match="'qubx_BTC-USDC_7' and 'qubx_ETH-USDC_7' have the same"):
        ids.index_of("qubx_ETH-USDC_7")
    assert "qubx_BTC-USDC_7" == ids.client_id_of((4 << 40) | 7, "X")


@pytest.mark.parametrize("tag", [-1, 255])
def test_a_tag_has_eight_bits_and_255_is_taken(tag: int) -> None:
    with pytest.raises(ValueError, match="0 to 254"):
        ClientIds(tag)


# --- properties ------------------------------------------------------------------------------------------------------

TAGS = st.integers(0, 254)
COUNTERS = st.integers(1, 2**38 - 1) | st.integers(2**38 - 5, 2**38 - 1) | st.integers(1, 5)
SYMBOLS = st.sampled_from(["BTC-USDC", "ETH-USDC", "1000PEPE-USDC", "ETHUSDC", "A_B-USDC"])
ROLES = st.sampled_from(["", ".tp", ".sl"])
LARGEST = 2**48 - 1


@given(TAGS, SYMBOLS, COUNTERS, ROLES)
def test_qubxs_ids_come_back_in_a_later_run_as_they_were(tag: int, symbol: str, counter: int, role: str) -> None:
    client_id = f"qubx_{symbol}_{counter}{role}"
    index = ClientIds(tag).index_of(client_id)
    assert 1 <= index <= LARGEST
    assert client_id == ClientIds(tag).client_id_of(index, symbol)


@given(st.lists(st.tuples(TAGS, COUNTERS, ROLES), min_size=2, max_size=30, unique=True))
def test_no_two_orders_of_any_bots_share_an_index(orders: list[tuple[int, int, str]]) -> None:
    indexes = {ClientIds(tag).index_of(f"qubx_X_{counter}{role}") for tag, counter, role in orders}
    assert len(orders) == len(indexes)


@given(TAGS, TAGS, COUNTERS)
def test_what_another_bot_sent_is_foreign_to_this_one(tag: int, other: int, counter: int) -> None:
    index = ClientIds(other).index_of(f"qubx_ETH-USDC_{counter}")
    client_id = ClientIds(tag).client_id_of(index, "ETH-USDC")
    assert (client_id == f"qubx_ETH-USDC_{counter}") == (tag == other)
    assert client_id is not None
    assert client_id.startswith("lighter_") == (tag != other)


@given(TAGS, st.integers(1, LARGEST) | st.integers(LARGEST - 3, LARGEST) | st.integers(2**40 - 3, 2**40 + 3))
def test_every_index_that_the_venue_can_show_addresses_its_order_again(tag: int, index: int) -> None:
    seen = ClientIds(tag)
    client_id = seen.client_id_of(index, "ETH-USDC")
    assert client_id is not None
    assert index == seen.index_of(client_id)
    assert index == ClientIds(tag).index_of(client_id)


@given(TAGS, TAGS, st.text(max_size=40))
def test_a_users_own_id_has_one_index_everywhere_and_takes_none_of_qubxs(tag: int, other: int, client_id: str) -> None:
    ids = ClientIds(tag)
    index = ids.index_of(client_id)
    assert client_id == ids.client_id_of(index, "ETH-USDC")
    assert 1 <= index <= LARGEST
    if not client_id.startswith(("qubx_", "lighter_")):
        assert index == ClientIds(other).index_of(client_id)
        assert 255 == index >> 40


@given(TAGS, st.lists(st.integers(1, 40), max_size=40), st.lists(st.integers(1, 40), max_size=20))
def test_new_ids_take_no_index_of_orders_that_stand(tag: int, wanted: list[int], standing: list[int]) -> None:
    ids = ClientIds(tag)
    taken = {index for counter in standing for index in [(tag << 40) | counter]}
    for index in taken:
        ids.client_id_of(index, "BTC-USDC")  # of a former run, as a snapshot shows it
    given_out = []
    for counter in wanted:
        client_id = ids.fresh(f"qubx_ETH-USDC_{counter}")
        given_out.append(ids.index_of(client_id))
        assert client_id.startswith("qubx_ETH-USDC_")
    assert len(given_out) == len(set(given_out))
    assert not taken & set(given_out)


def test_a_new_id_that_nobody_has_is_the_one_suggested() -> None:
    ids = ClientIds(4)
    assert "qubx_ETH-USDC_7" == ids.fresh("qubx_ETH-USDC_7")
    assert "qubx_ETH-USDC_7" == ids.fresh("qubx_ETH-USDC_7"), "an id that is not used yet is given again"
    ids.index_of("qubx_BTC-USDC_7")
    assert "qubx_ETH-USDC_8" == ids.fresh("qubx_ETH-USDC_7")
    assert "mine" == ids.fresh("mine")
    assert "qubx_ETH-USDC_7.tp" == ids.fresh("qubx_ETH-USDC_7.tp")
