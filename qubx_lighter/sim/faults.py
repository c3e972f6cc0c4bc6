"""What goes wrong on purpose: a seed gives the same faults for the same frames."""

from __future__ import annotations

from collections import Counter
from random import Random


class Faults:
    """Decide which frames are lost.

    Args:
        drop_delta_every: one delta of a book in so many, at random; 0 for none.
        seed: of the chance.

    Attributes:
        counts: deltas sent or lost, and those lost.
    """

    def __init__(self, *, drop_delta_every: int = 0, seed: int = 0) -> None:
        self.counts: Counter[str] = Counter()
        self._drop_delta_every = drop_delta_every
        self._random = Random(seed)  # noqa: S311 - a fault, not a secret

    def loses_delta(self) -> bool:
        """Draw whether the next delta is lost."""
        self.counts["deltas"] += 1
        lost = self._drop_delta_every > 0 and self._random.random() * self._drop_delta_every < 1
        self.counts["lost_deltas"] += lost
        return lost
