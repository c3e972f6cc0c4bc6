"""Whether the deals that were told lead from one snapshot to the next."""

from __future__ import annotations

import random

import pytest
from qubx.core.basics import Instrument

from qubx_lighter.accounts.sizes import PositionSizes
from tests.markets import loaded_instruments


@pytest.fixture
async def eth() -> Instrument:
    return (await loaded_instruments()).instrument(0)


def test_before_the_first_snapshot_there_is_nothing_to_explain(eth: Instrument) -> None:
    assert PositionSizes().explain({eth: 3.0}, 5)


def test_deals_up_to_its_time_explain_a_snapshot_and_later_ones_do_not_count(eth: Instrument) -> None:
    sizes = PositionSizes()
    sizes.restart({eth: 1.0}, 10)
    sizes.traded(eth, 10, 5.0)  # which the snapshot before holds
    sizes.traded(eth, 11, -0.3)
    sizes.traded(eth, 12, -0.7)
    sizes.traded(eth, 13, 2.0)
    assert sizes.explain({}, 12)
    assert sizes.explain({eth: 0.7}, 11)
    assert not sizes.explain({eth: 1.0}, 12)
    sizes.restart({}, 12)
    assert sizes.explain({eth: 2.0}, 13)


def test_a_deal_that_was_not_told_is_noticed_among_many(eth: Instrument) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    lots = [chance.choice((-1, 1)) * chance.randrange(1, 10**6) for _ in range(1_000)]
    untold = chance.randrange(len(lots))
    whole, lacking = PositionSizes(), PositionSizes()
    for sizes in (whole, lacking):
        sizes.restart({}, 0)
    for number, amount in enumerate(lots):
        whole.traded(eth, number + 1, amount / 10**4)
        if number != untold:
            lacking.traded(eth, number + 1, amount / 10**4)
    held = {eth: sum(lots) / 10**4} if sum(lots) else {}
    assert whole.explain(held, len(lots))
    assert not lacking.explain(held, len(lots))
