"""What the order book and ticker channels send: books in batches, tickers at once.

Levels that change within a batch are sent once, with their last absolute size. Each market's frames form a chain,
``begin_nonce`` being the ``nonce`` of the frame before, whoever listens. A newcomer's snapshot stands at the end of that
chain, which is why it ends the running batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from qubx_lighter.sim.exchange.view import View
from qubx_lighter.sim.faults import Faults, Kind
from qubx_lighter.sim.model.events import BookChanged
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.wire import frames
from qubx_lighter.sim.wire.frames import Touch


@dataclass(slots=True)
class _Chain:
    """What was sent of a market's book, and what has changed since."""

    nonce: int
    changed_at: int
    levels: dict[tuple[bool, int], int] = field(default_factory=dict)  # (is ask, ticks) -> lots
    next_nonce: int = 0
    next_changed_at: int = 0
    touch: Touch = (0, 0, 0, 0)


class BookFeed:
    """The order books and tickers of all markets.

    Args:
        view: of the venue.
        now: the wall clock, µs.
        send: sends a frame to a channel's subscribers, if there are any.
        is_heard: tells whether a channel has subscribers.
        faults: what goes wrong with books.
    """

    def __init__(
        self,
        view: View,
        now: Callable[[], int],
        *,
        send: Callable[[str, Callable[[], str]], bool],
        is_heard: Callable[[str], bool],
        faults: Faults,
    ) -> None:
        self._view = view
        self._now = now
        self._send = send
        self._is_heard = is_heard
        self._faults = faults
        self._chains: dict[int, _Chain] = {}

    def begin(self, market_id: int) -> None:
        """Let a market's chain begin where the venue is, unless it has."""
        self._chain(market_id)

    def _chain(self, market_id: int) -> _Chain:
        chain = self._chains.get(market_id)
        if chain is None:
            chain = self._chains[market_id] = _Chain(self._view.book_nonce, self._view.now)
        return chain

    def book_snapshot(self, spec: MarketSpec) -> str:
        """Write a book as it stands at the end of the chain; the running batch was ended by ``flush_market``."""
        book, chain = self._view.book(spec.market_id), self._chain(spec.market_id)
        return frames.book(
            "subscribed",
            spec,
            book.levels(is_ask=True),
            book.levels(is_ask=False),
            begin_nonce=0,
            nonce=chain.nonce,
            changed_at=chain.changed_at,
            now=self._now(),
        )

    def ticker_snapshot(self, spec: MarketSpec) -> str:
        """Write the best bid and ask."""
        chain, touch = self._chain(spec.market_id), self._touch(spec.market_id)
        nonce = chain.next_nonce if chain.levels else chain.nonce
        changed_at = chain.next_changed_at if chain.levels else chain.changed_at
        return frames.ticker("subscribed", spec, touch, nonce=nonce, changed_at=changed_at, now=self._now())

    def collect(self, event: BookChanged) -> None:
        """Take note of a changed level, for the end of the batch."""
        chain = self._chain(event.market_id)
        chain.levels[event.is_ask, event.price_ticks] = event.lots
        chain.next_nonce, chain.next_changed_at = event.nonce, event.time

    def send_ticker(self, last: BookChanged) -> None:
        """Send the best bid and ask, if a command that ended with this change has changed them."""
        chain, spec = self._chain(last.market_id), self._view.markets[last.market_id]
        touch = self._touch(last.market_id)
        if touch == chain.touch:
            return
        chain.touch = touch
        self._send(
            f"ticker:{last.market_id}",
            lambda: frames.ticker("update", spec, touch, nonce=last.nonce, changed_at=last.time, now=self._now()),
        )

    def _touch(self, market_id: int) -> Touch:
        book = self._view.book(market_id)
        bid, bid_lots = next(book.levels(is_ask=False), (0, 0))
        ask, ask_lots = next(book.levels(is_ask=True), (0, 0))
        return bid, bid_lots, ask, ask_lots

    def flush(self) -> None:
        """End the running batch: send the levels that changed in it."""
        for market_id in self._chains:
            self.flush_market(market_id)

    def flush_market(self, market_id: int) -> None:
        """End one market's batch."""
        chain, spec = self._chain(market_id), self._view.markets[market_id]
        if not chain.levels:
            return
        changed = sorted(chain.levels.items())
        asks = [(price, lots) for (is_ask, price), lots in changed if is_ask]
        bids = [(price, lots) for (is_ask, price), lots in reversed(changed) if not is_ask]
        begin_nonce, chain.nonce, chain.changed_at = chain.nonce, chain.next_nonce, chain.next_changed_at
        chain.levels.clear()
        key = f"order_book:{market_id}"
        if self._is_heard(key) and self._faults.draw(Kind.CROSS, key):
            best_ask = next(self._view.book(market_id).levels(is_ask=True), (0, 0))[0]
            bids.insert(0, (best_ask + 1, 1))
        self._send(
            key,
            lambda: frames.book(
                "update",
                spec,
                asks,
                bids,
                begin_nonce=begin_nonce,
                nonce=chain.nonce,
                changed_at=chain.changed_at,
                now=self._now(),
            ),
        )
