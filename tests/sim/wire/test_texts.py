"""Numbers on the wire: exact decimals."""

from __future__ import annotations

from random import Random

import pytest

from qubx_lighter.sim.wire import texts


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (433146, 2, "4331.46"),
        (1, 4, "0.0001"),
        (0, 4, "0.0000"),
        (-5, 3, "-0.005"),
        (-123456, 2, "-1234.56"),
        (42, 0, "42"),
        (-42, 0, "-42"),
        (2**60, 6, "1152921504606.846976"),
    ],
)
def test_decimals_are_written_exactly(value: int, decimals: int, text: str) -> None:
    assert text == texts.decimal_text(value, decimals)


def test_random_decimals_read_back_exactly() -> None:
    seed = 20261123
    print(f"seed {seed}")
    random = Random(seed)
    for _ in range(2_000):
        value, decimals = random.randrange(-(10**15), 10**15), random.randrange(9)
        text = texts.decimal_text(value, decimals)
        assert value == int(text.replace(".", ""))
        assert decimals == len(text.partition(".")[2])


def test_fees_are_written_in_percent() -> None:
    assert "0.0020" == texts.percent_text(20)
