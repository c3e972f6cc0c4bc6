"""The channels of the stream: who listens, what a newcomer gets, whom an event concerns.

Books are batched (``book_feed``), candles and the figures of markets go out at a pace of the server's. All else is sent at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from qubx_lighter.constants import RESOLUTIONS, Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.channels import candle_feed, stats_feed
from qubx_lighter.sim.channels.account_feed import AccountFeed
from qubx_lighter.sim.channels.book_feed import BookFeed
from qubx_lighter.sim.channels.candle_feed import CandleFeed
from qubx_lighter.sim.channels.channel import CANDLE_KINDS, PRIVATE_KINDS, PUBLIC_ACCOUNT_KINDS, Channel, Subscriber
from qubx_lighter.sim.channels.stats_feed import StatsFeed
from qubx_lighter.sim.exchange.view import NEWEST, View
from qubx_lighter.sim.faults import Faults
from qubx_lighter.sim.model.events import BookChanged, Event, Traded
from qubx_lighter.sim.model.records import TRADE, Trade
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.wire import frames

_SNAPSHOT_TRADES: Final = 50


class Publisher:
    """Subscriptions to the channels, and what they are sent.

    Args:
        view: of the venue.
        now: the wall clock, µs, for the frames' own times.
        faults: what goes wrong with frames; nothing without it.
    """

    def __init__(self, view: View, now: Callable[[], int], faults: Faults | None = None) -> None:
        self._view = view
        self._faults = faults or Faults()
        self._subscribers: dict[str, dict[Subscriber, None]] = {}
        self._watched: Counter[int] = Counter()  # accounts, by their subscriptions
        self._books = BookFeed(view, now, send=self._send, is_heard=self._is_heard, faults=self._faults)
        self._accounts = AccountFeed(view, now, send=self._send, is_heard=self._is_heard)
        self._candles = CandleFeed(view, now, self._send)
        self._figures = {kind: StatsFeed(kind, view, now, self._send) for kind in sorted(stats_feed.KINDS)}

    # --- subscriptions -----------------------------------------------------------------------------------------------

    def find(self, name: str) -> Channel:
        """Read a channel's name, in either spelling.

        Raises:
            VenueError: 30005 for a channel, market or account that there is not.
        """
        kind, _, number = name.replace(":", "/").partition("/")
        resolution = ""
        if kind in CANDLE_KINDS:
            number, _, resolution = number.partition("/")
            if resolution not in RESOLUTIONS:
                raise VenueError(Code.INVALID_CHANNEL, f"Invalid Channel: {name}")
        if kind in stats_feed.KINDS and number == "all":
            return Channel(kind, stats_feed.ALL)
        if number.isdecimal() and number.isascii():
            channel = Channel(kind, int(number), resolution)
            if channel.is_market and self._has(channel):
                return channel
            of_account = kind in PUBLIC_ACCOUNT_KINDS or kind in PRIVATE_KINDS
            if of_account and self._view.account(channel.number) is not None:
                return channel
        raise VenueError(Code.INVALID_CHANNEL, f"Invalid Channel: {name}")

    def _has(self, channel: Channel) -> bool:
        """Tell whether there is such a channel of a market."""
        spec = self._view.markets.get(channel.number)
        if spec is None or not spec.is_listed:
            return False
        if channel.kind in stats_feed.KINDS:
            return self._figures[channel.kind].has(channel.number)
        return spec.is_perpetual or channel.kind != candle_feed.MARK_PRICES

    def subscribe(self, channel: Channel, subscriber: Subscriber) -> None:
        """Send the snapshot, and from now on what changes."""
        if channel.kind == "order_book":
            self._books.flush_market(channel.number)
        subscriber.send(self._snapshot(channel))
        for text in self._faults.late(channel.key):
            subscriber.send(text)
        self._subscribers.setdefault(channel.key, {})[subscriber] = None
        if not channel.is_market:
            self._watched[channel.number] += 1

    def unsubscribe(self, channel: Channel, subscriber: Subscriber) -> None:
        """Send no more."""
        listeners = self._subscribers.get(channel.key, {})
        if subscriber not in listeners:
            return
        del listeners[subscriber]
        if not listeners:
            del self._subscribers[channel.key]
        if not channel.is_market:
            self._watched[channel.number] -= 1

    def _snapshot(self, channel: Channel) -> str:
        if channel.kind in CANDLE_KINDS:
            return self._candles.snapshot(channel.kind, channel.number, channel.resolution)
        if channel.kind in stats_feed.KINDS:
            return self._figures[channel.kind].snapshot(channel.number)
        if channel.is_market:
            return self._market_snapshot(channel.kind, self._view.markets[channel.number])
        account = self._view.account(channel.number)
        assert account is not None, "find() has seen it"
        return self._accounts.snapshot(channel.kind, account)

    def _market_snapshot(self, kind: str, spec: MarketSpec) -> str:
        self._books.begin(spec.market_id)
        match kind:
            case "trade":
                recent = self._view.trades_before(NEWEST, _SNAPSHOT_TRADES, spec.market_id)
                recent = [trade for trade in recent if trade.kind == TRADE] + self._view.forced_trades(spec.market_id)
                return frames.trades("subscribed", spec, recent, self._view.book_nonce)
            case "ticker":
                return self._books.ticker_snapshot(spec)
        return self._books.book_snapshot(spec)

    # --- sending -----------------------------------------------------------------------------------------------------

    def _is_heard(self, key: str) -> bool:
        return key in self._subscribers

    def _send(self, key: str, write: Callable[[], str]) -> bool:
        """Write a frame once, if anybody listens, and send it to all who do; tell whether anybody does."""
        listeners = self._subscribers.get(key)
        if not listeners:
            return False
        for label, text in self._faults.pass_on(key, write()):
            self._send_to_all(label, text)
        return True

    def _send_to_all(self, key: str, text: str) -> None:
        for subscriber in self._subscribers.get(key, ()):
            subscriber.send(text)

    def release_held(self) -> None:
        """Send the frames that were held back to leave behind others, of which none came."""
        for key, text in self._faults.release():
            self._send_to_all(key, text)

    def publish(self, events: Iterable[Event]) -> None:
        """Send what a command did; levels wait for the end of their batch."""
        touched: dict[int, BookChanged] = {}
        trades: dict[int, list[Trade]] = {}
        for event in events:
            match event:
                case BookChanged():
                    self._books.collect(event)
                    touched[event.market_id] = event
                case Traded(trade):
                    trades.setdefault(trade.market_id, []).append(trade)
                    self._accounts.collect_trade(trade)
                case _:
                    self._accounts.collect(event)
        for last in touched.values():
            self._books.send_ticker(last)
        for market_id, newest_last in trades.items():
            self._send_trades(market_id, newest_last[::-1])
        self._accounts.publish(lambda account_index: self._watched[account_index] > 0)

    def _send_trades(self, market_id: int, newest_first: list[Trade]) -> None:
        spec, nonce = self._view.markets[market_id], self._view.book_nonce
        self._send(f"trade:{market_id}", lambda: frames.trades("update", spec, newest_first, nonce))

    # --- at the server's pace ----------------------------------------------------------------------------------------

    def flush_books(self) -> None:
        """End the running batch of all books."""
        self._books.flush()

    def flush_candles(self) -> None:
        """Send the candles that have changed."""
        self._candles.flush()

    def refresh_stats(self) -> None:
        """Send the figures of markets, and those of accounts that have changed with the mark prices alone."""
        for figures in self._figures.values():
            figures.flush()
        for key in list(self._subscribers):
            kind, _, number = key.partition(":")
            if kind == "user_stats":
                self._accounts.send_stats(int(number))
