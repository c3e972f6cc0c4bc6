"""What positions come to by the deals that were told: whether a snapshot holds one that was not."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import isclose
from typing import Final

from qubx.core.basics import Instrument

_KEPT: Final = 10_000  # deals between two snapshots; with more the next one is not explained, which costs a request
_NOISE: Final = 1e-9

Sizes = Mapping[Instrument, float]


class PositionSizes:
    """Add deals up from one snapshot to the next; times are the venue's, ns."""

    def __init__(self) -> None:
        self._sizes: Sizes | None = None
        self._until_ns = 0
        self._deals: deque[tuple[int, Instrument, float]] = deque(maxlen=_KEPT)

    def traded(self, instrument: Instrument, time_ns: int, amount: float) -> None:
        """Take a deal that was told; ``amount`` is signed."""
        if time_ns > self._until_ns and not instrument.is_spot():
            self._deals.append((time_ns, instrument, amount))

    def explain(self, sizes: Sizes, until_ns: int) -> bool:
        """Tell whether the deals that were told lead from the last snapshot to these sizes, which are those of ``until_ns``."""
        if self._sizes is None:
            return True
        expected = dict(self._sizes)
        for time_ns, instrument, amount in self._deals:
            if time_ns <= until_ns:
                expected[instrument] = expected.get(instrument, 0.0) + amount
        return all(
            isclose(expected.get(instrument, 0.0), sizes.get(instrument, 0.0), rel_tol=_NOISE, abs_tol=_NOISE)
            for instrument in expected.keys() | sizes.keys()
        )

    def restart(self, sizes: Sizes, until_ns: int) -> None:
        """Go on from a snapshot that is told."""
        self._sizes, self._until_ns = sizes, until_ns
        self._deals = deque((deal for deal in self._deals if deal[0] > until_ns), maxlen=_KEPT)
