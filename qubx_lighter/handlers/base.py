"""What the handlers of market channels have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import ClassVar, Final, NamedTuple

from qubx.core.basics import DataType, Instrument
from qubx.core.series import OrderBook, Quote, Trade

from qubx_lighter.protocol.units import Scale

ViewKey = Hashable
"""What a subscription wants to see of a channel; ``WHOLE`` where there is nothing to choose."""

WHOLE: Final = "whole"


class Output(NamedTuple):
    """One object for Qubx, and the view that it is of."""

    view: ViewKey
    data: OrderBook | Quote | Trade


class MarketHandler(ABC):
    """Read the frames of one channel of one market.

    Runs on one thread; only ``views`` is written, and ``quote`` read, from others.

    Args:
        instrument: what the frames are about.
        scale: the market's grid.
        counters: counts what happened; shared by the handlers of a provider.

    Attributes:
        views: what is to be made of the frames; with none they are read, but nothing comes out.
        quote: the best prices as this channel knows them; None when it does not.
        awaiting: nothing can come out before a new snapshot, which must be asked for.
    """

    data_type: ClassVar[DataType]
    conflates: ClassVar[bool]  # a newer output of a view makes the older one worthless

    def __init__(self, instrument: Instrument, scale: Scale, counters: Counter[str]) -> None:
        self.instrument = instrument
        self.scale = scale
        self.counters = counters
        self.views: tuple[ViewKey, ...] = ()
        self.quote: Quote | None = None
        self.awaiting = False
        self._time_ns = 0

    @abstractmethod
    def snapshot(self, raw: bytes) -> list[Output]:
        """Read the answer to a subscribe.

        Raises:
            WireError: the frame cannot be read.
        """

    @abstractmethod
    def update(self, raw: bytes) -> list[Output]:
        """Read a frame that came after it.

        Raises:
            WireError: the frame cannot be read.
        """

    @abstractmethod
    def reset(self) -> None:
        """Forget what a new connection will tell anew."""

    def current(self, views: Iterable[ViewKey]) -> list[Output]:  # noqa: ARG002 - of a stream of events, nothing
        """Make the outputs of ``views`` from what is known now, for subscriptions that join an open channel."""
        return []

    def _stamp(self, *times_ns: int) -> int:
        """Give the newest of the times, never before one that was given already."""
        self._time_ns = max(self._time_ns, *times_ns)
        return self._time_ns
