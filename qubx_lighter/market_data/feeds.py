"""From wishes to channels: what is wanted of each market, and the open streams that serve it.

One ``order_book`` a market, however many views of it, and the quotes too where both are wanted; ``ticker`` where quotes are
wanted alone, and, unpublished, where neither is, so that market orders have a price bound; one ``candle`` for all
timeframes that its resolution divides; one channel of figures for all markets. Every change is applied as the
difference, so an unsubscribe closes what nobody else wants, on the wire, and a subscribe opens it anew, with a new
snapshot: Qubx's watchdog relies on it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from qubx.core.basics import Instrument
from qubx.core.series import Quote

from qubx_lighter.handlers import (
    QUOTES,
    RESUME_NS,
    STATS_KIND,
    MarketContext,
    MarketHandler,
    OrderBookHandler,
    QuoteHandler,
    StatsHandler,
    View,
    make_handler,
    parse,
)
from qubx_lighter.market_data.delivery import Delivery
from qubx_lighter.market_data.figures import StatsStream
from qubx_lighter.market_data.streams import Recovery, Stream
from qubx_lighter.markets import Market
from qubx_lighter.protocol import wire
from qubx_lighter.websocket_pool import LighterWebSocketPool

_SETTLE_S: Final = 1.0  # Qubx subscribes one type after the other
_QUOTE_KINDS: Final = ("ticker", "order_book")

Key = tuple[str, int]
"""A channel, and the market that it is open for: the channel of figures is open for many."""

Wanted = Mapping[str, Mapping[Instrument, Market]]
"""Instruments and their markets by subscription, as Qubx spells it."""


@dataclass(slots=True)
class _Plan:
    """What one channel is to be open for."""

    instrument: Instrument
    market: Market
    kind: str
    resolution: str = ""
    views: dict[View, None] = field(default_factory=dict)  # in the order they were asked for


class Feeds:
    """Keep the streams that are wanted open.

    ``apply``, ``rebuild`` and ``refresh_silent`` are called with the owner's lock held; frames arrive on the loop.

    Args:
        socket: the connections for public channels.
        delivery: takes what comes out.
        recovery: fetches what was missed.
        counters: shared by all parts.
        clock_ns: the wall clock, ns.
        loop: the socket's.
        settled: called on the loop some time after a change, to open what nobody subscribed to.
    """

    def __init__(
        self,
        *,
        socket: LighterWebSocketPool,
        delivery: Delivery,
        recovery: Recovery,
        counters: Counter[str],
        clock_ns: Callable[[], int],
        loop: asyncio.AbstractEventLoop,
        settled: Callable[[], None],
    ) -> None:
        self._socket = socket
        self._delivery = delivery
        self._recovery = recovery
        self._counters = counters
        self._clock_ns = clock_ns
        self._loop = loop
        self._settled = settled
        self._streams: dict[Key, Stream] = {}
        self._figures: dict[str, StatsStream] = {}
        self._contexts: dict[tuple[int, Instrument], MarketContext] = {}
        self._resting: dict[Key, tuple[int, MarketHandler]] = {}
        self._told: dict[int, tuple[str, Quote | None]] = {}  # by market: the last quote, and the channel it came from

    def __len__(self) -> int:
        return len(self._streams) + sum(len(stream.frames.handlers) for stream in self._figures.values())

    # --- reads, from any thread --------------------------------------------------------------------------------------

    def quote(self, market_id: int) -> Quote | None:
        """Give the newest best prices of the ticker or the book; None when neither is known to be right."""
        newest: Quote | None = None
        for kind in _QUOTE_KINDS:
            stream = self._streams.get((f"{kind}/{market_id}", market_id))
            quote = None if stream is None else stream.handler.quote
            if quote is not None and (newest is None or quote.time > newest.time):
                newest = quote
        return newest

    def figures(self, market_id: int) -> wire.MarketStats | None:
        """Give a market's newest figures; None where nothing that needs them is subscribed."""
        for stream in self._figures.values():
            handler = stream.frames.handlers.get(market_id)
            if handler is not None:
                return handler.latest
        return None

    # --- changes -----------------------------------------------------------------------------------------------------

    def apply(self, wanted: Wanted) -> None:
        """Open and close channels until they are what is wanted."""
        plans = _plans(wanted)
        silent = _silent(plans)
        for key in [key for key in self._open() if key not in plans and key not in silent]:
            self._close(key)
        for key, plan in plans.items():
            self._serve(key, plan)
        if silent.keys() - self._streams.keys():
            self._on_loop(lambda: self._loop.call_later(_SETTLE_S, self._settled))

    def refresh_silent(self, wanted: Wanted) -> None:
        """Open the tickers that nobody subscribed to."""
        for key, plan in _silent(_plans(wanted)).items():
            self._serve(key, plan)

    def rebuild(self, market_ids: Iterable[int], wanted: Wanted) -> None:
        """Begin anew what computes on the old grid of markets whose rules have changed, or is of another instrument."""
        changed = set(market_ids)
        plans = _plans(wanted)
        plans |= _silent(plans)
        for key in [key for key in self._open() if key[1] in changed and key in plans]:
            stream = self._streams.get(key)
            if stream is None or stream.handler.on_grid or stream.handler.instrument != plans[key].instrument:
                self._close(key)
        self.apply(wanted)
        self.refresh_silent(wanted)

    def _open(self) -> list[Key]:
        figures = [
            (channel, market_id) for channel, stream in self._figures.items() for market_id in stream.frames.handlers
        ]
        return [*self._streams, *figures]

    def _serve(self, key: Key, plan: _Plan) -> None:
        """Open a channel, or show what is known of it to the views that join it."""
        if plan.kind == STATS_KIND:
            self._serve_figures(key, plan)
            return
        opened = self._streams.get(key)
        if opened is not None:
            if new := opened.view(plan.views):
                self._on_loop(lambda: opened.publish_current(new))
            return
        handler = self._rested(key, plan) or self._handler(plan)
        channel, market_id = key
        if isinstance(handler, OrderBookHandler | QuoteHandler):
            kind, quote = self._told.get(market_id, (plan.kind, None))
            handler.last_quote = None if kind == plan.kind else quote  # a switch of channels repeats nothing
        stream = Stream(
            channel,
            market_id,
            handler,
            delivery=self._delivery,
            recovery=self._recovery,
            socket=self._socket,
            counters=self._counters,
            clock_ns=self._clock_ns,
        )
        stream.view(plan.views)
        self._streams[key] = stream
        self._socket.subscribe(channel, stream.on_frame, on_lost=stream.on_lost)

    def _serve_figures(self, key: Key, plan: _Plan) -> None:
        channel, market_id = key
        stream = self._figures.get(channel)
        if stream is None:
            stream = self._figures[channel] = StatsStream(
                channel,
                delivery=self._delivery,
                recovery=self._recovery,
                socket=self._socket,
                counters=self._counters,
                clock_ns=self._clock_ns,
            )
            self._socket.subscribe(channel, stream.on_frame, on_lost=stream.on_lost)
        handler = stream.frames.handlers.get(market_id)
        if handler is None:
            made = self._handler(plan)
            assert isinstance(made, StatsHandler), "the table of handlers says so"
            rested = self._rested(key, plan)
            if isinstance(rested, StatsHandler):
                made.follow(rested)
            made.views = tuple(plan.views)
            stream.join(market_id, made)
            if self._socket.subscribed(channel):
                self._on_loop(stream.refresh)
            return
        new = [view for view in plan.views if view not in handler.views]
        handler.views = tuple(plan.views)
        if new:
            self._on_loop(lambda: self._delivery.publish(handler, handler.current(new)))

    def _handler(self, plan: _Plan) -> MarketHandler:
        market = plan.market
        key = (market.market_id, plan.instrument)
        context = self._contexts.get(key)
        if context is None:
            context = MarketContext(plan.instrument, market.market_id, market.scale, self._counters)
        elif context.scale != market.scale:
            context = replace(context, scale=market.scale)
        self._contexts[key] = context
        return make_handler(plan.kind, plan.resolution, context)

    def _rested(self, key: Key, plan: _Plan) -> MarketHandler | None:
        """Give the handler whose channel was closed just now, for the same instrument."""
        closed_ns, handler = self._resting.pop(key, (0, None))
        if handler is None or handler.instrument != plan.instrument or self._clock_ns() - closed_ns > RESUME_NS:
            return None
        handler.unsay()
        return handler

    def _close(self, key: Key) -> None:
        channel, market_id = key
        figures = self._figures.get(channel)
        if figures is not None:
            left = figures.leave(market_id)
            self._resting[key] = (self._clock_ns(), left)
            self._on_loop(lambda: figures.forget(left))
            if not figures.frames.handlers:
                figures.close()
                del self._figures[channel]
                self._socket.unsubscribe(channel, figures.on_frame)
            return
        stream = self._streams.pop(key)
        stream.close()
        if isinstance(stream.handler, OrderBookHandler | QuoteHandler):
            self._told[market_id] = (channel.partition("/")[0], stream.handler.last_quote)
        if stream.handler.rests:
            self._resting[key] = (self._clock_ns(), stream.handler)
        self._socket.unsubscribe(channel, stream.on_frame)
        self._on_loop(stream.forget)

    def _on_loop(self, function: Callable[[], object]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)


def _plans(wanted: Wanted) -> dict[Key, _Plan]:
    """Derive the channels and views that are subscribed to."""
    plans: dict[Key, _Plan] = {}
    for name, held in wanted.items():
        wish = parse(name)
        for instrument, market in held.items():
            if not wish.applies_to(instrument):
                continue
            key = (wish.channel(market.market_id), market.market_id)
            plan = plans.setdefault(key, _Plan(instrument, market, wish.kind, wish.resolution))
            plan.views[wish.view] = None
    for key in [key for key, plan in plans.items() if plan.kind == "ticker"]:
        book = plans.get((f"order_book/{key[1]}", key[1]))
        if book is not None:
            book.views[QUOTES] = None
            del plans[key]
    return plans


def _silent(plans: Mapping[Key, _Plan]) -> dict[Key, _Plan]:
    """Derive the tickers of the markets whose best prices nothing else tells."""
    markets = {plan.market.market_id: plan for plan in plans.values()}
    return {
        (f"ticker/{market_id}", market_id): _Plan(plan.instrument, plan.market, "ticker")
        for market_id, plan in markets.items()
        if not any((f"{kind}/{market_id}", market_id) in plans for kind in _QUOTE_KINDS)
    }
