"""Markets by name, or as many as one asks for."""

from __future__ import annotations

import pytest

from qubx_lighter.errors import ConfigurationError
from qubx_lighter.sim.markets.listing import KNOWN, choose


def test_markets_are_chosen_by_name_once_each() -> None:
    assert ["BTC", "ETH"] == [spec.symbol for spec in choose(["BTC", "ETH", "BTC"])]
    assert list(KNOWN) == [spec.symbol for spec in choose([])]


def test_a_number_asks_for_that_many_of_which_the_known_come_first() -> None:
    specs = choose(["50"])
    assert list(KNOWN) == [spec.symbol for spec in specs[: len(KNOWN)]]
    assert (50, 50) == (len({spec.market_id for spec in specs}), len({spec.symbol for spec in specs}))
    assert 255 not in {spec.market_id for spec in specs}


@pytest.mark.parametrize(
    ("names", "text"), [(["DOGE"], "no such market: DOGE"), (["0"], "1 to 240"), (["5000"], "1 to 240")]
)
def test_what_there_is_not_is_refused_with_what_there_is(names: list[str], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        choose(names)
