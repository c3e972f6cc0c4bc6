"""What the handlers of market channels have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from qubx.core.basics import DataType, Instrument
from qubx.core.series import Quote

from qubx_lighter.protocol.units import Scale


@dataclass(frozen=True, slots=True)
class View:
    """What a subscription wants to see of a channel; two views are the same when they are equal.

    Attributes:
        data_type: under which Qubx's channel takes it: ``orderbook``, ``ohlc(1m)``.
        conflates: a newer output makes the older one worthless.
    """

    data_type: str
    conflates: bool


QUOTES: Final = View(DataType.QUOTE.value, conflates=True)
TRADES: Final = View(DataType.TRADE.value, conflates=False)
LIQUIDATIONS: Final = View(DataType.LIQUIDATION.value, conflates=False)
FUNDING_RATES: Final = View(DataType.FUNDING_RATE.value, conflates=True)
FUNDING_PAYMENTS: Final = View(DataType.FUNDING_PAYMENT.value, conflates=False)
OPEN_INTEREST: Final = View(DataType.OPEN_INTEREST.value, conflates=True)

RESUME_NS: Final = 60_000_000_000
"""What is wanted again within so long goes on where it ended: Qubx's watchdog closes a stream and opens it 3 s later."""

Output = tuple[View, Any]
"""One object for Qubx, and the view that it is of."""


@dataclass(frozen=True, slots=True)
class Missing:
    """What a handler must learn over REST before it goes on.

    Attributes:
        kind: which history.
        after: the newest trade id that is known; the open of the first candle wanted, ms; the last settlement known, ms.
        resolution: of candles.
        until: the first that is known again, in the unit of ``after``; rows from there on are not needed. A hole that
            grows while it is fetched is another question.
    """

    kind: Literal["trades", "candles", "fundings"]
    after: int
    resolution: str = ""
    until: int = 0


class MarketHandler(ABC):
    """Read the frames of one channel of one market.

    Runs on one thread; only ``views`` is written, and ``quote`` read, from others.

    Args:
        instrument: what the frames are about.
        scale: the market's grid.
        counters: counts what happened; shared by the handlers of a provider.

    Attributes:
        views: what is to be made of the frames; with none they are read, but nothing comes out. A handler whose channel
            is closed has none.
        quote: the best prices as this channel knows them; None when it does not.
        awaiting: nothing can come out before a new snapshot, which must be asked for.
        missing: what to fetch and to hand to ``recover``; until then outputs that depend on it are kept back.
    """

    rebuilds: ClassVar[bool] = True
    """An unreadable frame leaves the state wrong until the next snapshot; else it loses only itself."""
    rests: ClassVar[bool] = False
    """Knows what must not be lost when its channel is closed and opened again at once: ``RESUME_NS``."""
    on_grid: ClassVar[bool] = False
    """Computes in the market's ticks or lots, and has to begin anew when they change."""

    def __init__(self, instrument: Instrument, scale: Scale, counters: Counter[str]) -> None:
        self.instrument = instrument
        self.scale = scale
        self.counters = counters
        self.views: tuple[View, ...] = ()
        self.quote: Quote | None = None
        self.awaiting = False
        self.missing: Missing | None = None
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

    def unsay(self) -> None:  # noqa: B027 - most leave nothing out
        """Take note that what was put out last did not arrive, or is wanted anew: it may be put out again."""

    def is_behind(self, rows: Sequence[Any]) -> bool:  # noqa: ARG002 - nothing is ever missing here
        """Tell whether the venue's history, of which ``rows`` were ``missing``, is not as far yet as its socket was."""
        return False

    def recover(self, rows: Sequence[Any] | None) -> list[Output]:  # noqa: ARG002 - nothing is ever missing here
        """Take the rows that were ``missing``, oldest first; None when they cannot be had: go on without, and count it."""
        self.missing = None
        return []

    def current(self, views: Iterable[View]) -> list[Output]:  # noqa: ARG002 - of a stream of events, nothing
        """Make the outputs of ``views`` from what is known now, for subscriptions that join an open channel."""
        return []

    def _stamp(self, *times_ns: int) -> int:
        """Give the newest of the times, never before one that was given already."""
        self._time_ns = max(self._time_ns, *times_ns)
        return self._time_ns
