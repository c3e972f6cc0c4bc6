"""The channel ``ticker``: the venue's own best bid and ask, sent whole at every change, and at times without one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from qubx.core.basics import Instrument
from qubx.core.series import Quote

from qubx_lighter.errors import WireError
from qubx_lighter.handlers.base import MarketHandler, Output, View
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.units import Scale, time_ns

REPEAT_NS: Final = 30_000_000_000
"""What does not change is published again after so long of the venue's time: Qubx calls a stream stale after minutes
without an arrival."""


def is_news(quote: Quote, last: Quote | None) -> bool:
    """Tell whether a quote says what the last one did not, or comes ``REPEAT_NS`` after it."""
    return (
        last is None
        or quote.bid != last.bid
        or quote.ask != last.ask
        or quote.bid_size != last.bid_size
        or quote.ask_size != last.ask_size
        or quote.time - last.time >= REPEAT_NS
    )


class QuoteHandler(MarketHandler):
    """Read a market's best prices; an empty side or crossed prices make no quote, repeated ones none that is published.

    Attributes:
        last_quote: the last quote published, by this handler or the one that served quotes before it: what it says is
            not said again.
    """

    def __init__(self, instrument: Instrument, scale: Scale, counters: Counter[str]) -> None:
        super().__init__(instrument, scale, counters)
        self.last_quote: Quote | None = None
        self._nonce = 0  # the matching engine's, in frames that have one

    def snapshot(self, raw: bytes) -> list[Output]:
        """Begin anew; prices at rest are true when they are sent. See the base."""
        self._nonce = 0
        frame = wire.decode(wire.TickerFrame, raw)
        return self._take(frame, time_ns(frame.timestamp))

    def update(self, raw: bytes) -> list[Output]:
        """Take newer prices; see the base."""
        return self._take(wire.decode(wire.TickerFrame, raw), 0)

    def reset(self) -> None:
        """Forget the prices."""
        self._nonce = 0
        self.quote = None

    def unsay(self) -> None:
        """Have the next quote be news; see the base."""
        self.last_quote = None

    def current(self, views: Iterable[View]) -> list[Output]:
        """Show the prices as they are; see the base."""
        quote = self.quote
        if quote is None:
            return []
        outputs: list[Output] = [(view, quote) for view in views]
        if outputs:
            self.last_quote = quote
        return outputs

    def _take(self, frame: wire.TickerFrame, sent_ns: int) -> list[Output]:
        if frame.nonce is not None:
            if frame.nonce < self._nonce:
                self.counters["stale_quotes"] += 1
                return []
            self._nonce = frame.nonce
        ticker = frame.ticker
        changed_ns = time_ns(frame.last_updated_at or ticker.last_updated_at or frame.timestamp)
        now_ns = self._stamp(changed_ns, sent_ns)
        bid, bid_size = _side(ticker.b)
        ask, ask_size = _side(ticker.a)
        if not 0 < bid < ask:
            self.counters["one_sided_quotes" if not (bid and ask) else "crossed_quotes"] += 1
            self.quote = None
            return []
        quote = self.quote = Quote(now_ns, bid, ask, bid_size, ask_size)
        return self.current(self.views) if is_news(quote, self.last_quote) else []


def _side(side: wire.TickerSide) -> tuple[float, float]:
    if not side.price:
        return 0.0, 0.0
    try:
        return float(side.price), float(side.size)
    except ValueError:
        raise WireError(f"not a price and a size: {side.price!r}, {side.size!r}") from None
