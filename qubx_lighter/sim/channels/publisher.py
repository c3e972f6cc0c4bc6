"""The channels that the engine feeds: who listens, what a newcomer gets, what an event becomes.

Books are batched: levels that change within a batch are sent once, with their last absolute size. Each market's frames form a
chain, ``begin_nonce`` being the ``nonce`` of the frame before, whoever listens. A newcomer's snapshot stands at the end of
that chain, which is why it ends the running batch. All else is sent at once, per command and account in the order of a
captured round trip: orders, trades, figures, assets, positions, transactions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from qubx_lighter.constants import RESOLUTIONS, Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.channels import asset_feed, candle_feed, stats_feed
from qubx_lighter.sim.channels.asset_feed import AssetFeed
from qubx_lighter.sim.channels.candle_feed import CandleFeed
from qubx_lighter.sim.channels.stats_feed import StatsFeed
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.exchange.view import NEWEST
from qubx_lighter.sim.faults import Faults, Kind
from qubx_lighter.sim.model.events import (
    AssetsChanged,
    BookChanged,
    Event,
    FundingSettled,
    NotificationSent,
    OrderChanged,
    PositionChanged,
    Traded,
    TransactionDone,
)
from qubx_lighter.sim.model.records import TRADE, Notification, Order, Trade, TxRecord
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.wire import account_rows, frames, order_rows, texts
from qubx_lighter.sim.wire.frames import Touch

_SNAPSHOT_TRADES: Final = 50
_SNAPSHOT_ACCOUNT_TRADES: Final = 100

CANDLE_KINDS: Final = frozenset((candle_feed.TRADES, candle_feed.MARK_PRICES))
MARKET_KINDS: Final = frozenset(("order_book", "ticker", "trade")) | stats_feed.KINDS | CANDLE_KINDS
PUBLIC_ACCOUNT_KINDS: Final = frozenset(("account_all", "account_all_trades", "account_all_positions", "user_stats"))
PRIVATE_KINDS: Final = frozenset(("account_all_orders", "account_tx", "notification")) | asset_feed.KINDS


_AccountEvent = OrderChanged | PositionChanged | FundingSettled | AssetsChanged | NotificationSent | TransactionDone


class Subscriber(Protocol):
    """Whoever takes frames."""

    def send(self, text: str) -> None:
        """Take a frame, at once."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel of a market or an account; ``key`` is how frames label it (``order_book:0``, ``candle:0:1m``)."""

    kind: str
    number: int
    resolution: str = ""

    @property
    def key(self) -> str:
        """The label."""
        label = f"{self.kind}:{'all' if self.number == stats_feed.ALL else self.number}"
        return f"{label}:{self.resolution}" if self.resolution else label

    @property
    def is_private(self) -> bool:
        """Whether it takes an auth token of the account."""
        return self.kind in PRIVATE_KINDS

    @property
    def is_market(self) -> bool:
        """Whether ``number`` is a market."""
        return self.kind in MARKET_KINDS


@dataclass(slots=True)
class _MarketFeed:
    """What was sent of a market's book, and what has changed since."""

    nonce: int
    changed_at: int
    levels: dict[tuple[bool, int], int] = field(default_factory=dict)  # (is ask, ticks) -> lots
    next_nonce: int = 0
    next_changed_at: int = 0
    touch: Touch = (0, 0, 0, 0)


@dataclass(slots=True)
class _AccountNews:
    """What one command did to one account."""

    orders: dict[int, Order] = field(default_factory=dict)  # the last state of each
    trades: list[Trade] = field(default_factory=list)
    markets: dict[int, None] = field(default_factory=dict)
    fundings: Counter[str] = field(default_factory=Counter)  # by market id, millionths of the collateral
    notifications: list[Notification] = field(default_factory=list)
    assets: bool = False
    transactions: list[TxRecord] = field(default_factory=list)


class Channels:
    """Subscriptions to the engine's channels.

    Args:
        engine: the venue.
        now: the wall clock, µs, for the frames' own times.
        faults: what goes wrong with frames; nothing without it.
    """

    def __init__(self, engine: Engine, now: Callable[[], int], faults: Faults | None = None) -> None:
        self._engine = engine
        self._faults = faults or Faults()
        self._now = now
        self._subscribers: dict[str, dict[Subscriber, None]] = {}
        self._watched: Counter[int] = Counter()  # accounts, by their subscriptions
        self._feeds: dict[int, _MarketFeed] = {}
        self._stats: dict[int, texts.Row] = {}  # the figures sent last
        self._candles = CandleFeed(engine, now, self._send)
        self._figures = {kind: StatsFeed(kind, engine, now, self._send) for kind in sorted(stats_feed.KINDS)}
        self._assets = AssetFeed(engine, now, self._send)

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
            if of_account and self._engine.account(channel.number) is not None:
                return channel
        raise VenueError(Code.INVALID_CHANNEL, f"Invalid Channel: {name}")

    def _has(self, channel: Channel) -> bool:
        """Tell whether there is such a channel of a market."""
        spec = self._engine.markets.get(channel.number)
        if spec is None or not spec.is_listed:
            return False
        if channel.kind in stats_feed.KINDS:
            return self._figures[channel.kind].has(channel.number)
        return spec.is_perpetual or channel.kind != candle_feed.MARK_PRICES

    def subscribe(self, channel: Channel, subscriber: Subscriber) -> None:
        """Send the snapshot, and from now on what changes."""
        if channel.kind == "order_book":
            self._flush_book(channel.number)
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

    def _listened(self, kind: str, number: int) -> bool:
        return f"{kind}:{number}" in self._subscribers

    # --- snapshots ---------------------------------------------------------------------------------------------------

    def _snapshot(self, channel: Channel) -> str:
        engine, number = self._engine, channel.number
        if channel.kind in CANDLE_KINDS:
            return self._candles.snapshot(channel.kind, number, channel.resolution)
        if channel.kind in stats_feed.KINDS:
            return self._figures[channel.kind].snapshot(number)
        if channel.is_market:
            return self._market_snapshot(channel.kind, engine.markets[number])
        account = engine.account(number)
        assert account is not None, "find() has seen it"
        match channel.kind:
            case "account_all_orders":
                return frames.account_orders("subscribed", engine, number, engine.active_orders(number))
            case "account_all_trades":
                recent = engine.trades(account_index=number)[:_SNAPSHOT_ACCOUNT_TRADES]
                by_market = frames.trade_rows_by_market(engine, recent)
                return frames.account_trades("subscribed", number, by_market, frames.volumes(engine, number))
            case "account_all_positions":
                options = account_rows.option_position_rows(engine, account)
                return frames.account_positions(
                    "subscribed", account, account_rows.position_rows(engine, account), options=options
                )
            case asset_feed.BALANCES | asset_feed.ENTRY_PRICES:
                return self._assets.snapshot(channel.kind, account)
            case "notification":
                return frames.notifications("subscribed", number, engine.notifications(number), engine)
            case "account_tx":
                return frames.account_tx(number, None)
            case "user_stats":
                self._stats[number] = account_rows.stats_row(engine, account)
                return frames.user_stats("subscribed", number, self._stats[number], self._now())
        return frames.account_all(
            "subscribed",
            account,
            assets=self._assets.assets(account),
            options=account_rows.option_position_rows(engine, account),
            positions=account_rows.position_rows(engine, account),
            volumes=frames.volumes(engine, number),
        )

    def _market_snapshot(self, kind: str, spec: MarketSpec) -> str:
        engine, feed = self._engine, self._feed(spec.market_id)
        if kind == "trade":
            recent = engine.trades_before(NEWEST, _SNAPSHOT_TRADES, spec.market_id)
            recent = [trade for trade in recent if trade.kind == TRADE] + engine.forced_trades(spec.market_id)
            return frames.trades("subscribed", spec, recent, engine.book_nonce)
        if kind == "ticker":
            nonce = feed.next_nonce if feed.levels else feed.nonce
            changed_at = feed.next_changed_at if feed.levels else feed.changed_at
            touch = self._touch(spec.market_id)
            return frames.ticker("subscribed", spec, touch, nonce=nonce, changed_at=changed_at, now=self._now())
        book = engine.book(spec.market_id)
        return frames.book(
            "subscribed",
            spec,
            book.levels(is_ask=True),
            book.levels(is_ask=False),
            begin_nonce=0,
            nonce=feed.nonce,
            changed_at=feed.changed_at,
            now=self._now(),
        )

    # --- events ------------------------------------------------------------------------------------------------------

    def publish(self, events: Iterable[Event]) -> None:
        """Send what a command did; levels wait for the end of their batch."""
        touched: dict[int, BookChanged] = {}
        trades: dict[int, list[Trade]] = {}
        news: dict[int, _AccountNews] = {}
        for event in events:
            match event:
                case BookChanged():
                    self._collect_level(event)
                    touched[event.market_id] = event
                case Traded(trade):
                    trades.setdefault(trade.market_id, []).append(trade)
                    for account_index in {trade.ask_account, trade.bid_account}:
                        self._news(news, account_index).trades.append(trade)
                case _:
                    self._collect_news(news, event)
        for last in touched.values():
            self._send_ticker(last)
        for market_id, newest_last in trades.items():
            self._send_trades(market_id, newest_last[::-1])
        for account_index, changes in news.items():
            if self._watched[account_index]:
                self._send_account(account_index, changes)

    def _collect_news(self, news: dict[int, _AccountNews], event: _AccountEvent) -> None:
        """Take note of what concerns one account."""
        match event:
            case OrderChanged(order):
                self._news(news, order.account_index).orders[order.order_index] = order
            case PositionChanged(account_index, market_id):
                self._news(news, account_index).markets[market_id] = None
            case FundingSettled(payment):
                fundings = self._news(news, payment.account_index).fundings
                fundings[str(payment.market_id)] += payment.change_micro
            case NotificationSent(notification):
                self._news(news, notification.account_index).notifications.append(notification)
            case AssetsChanged(account_index):
                self._news(news, account_index).assets = True
            case TransactionDone(record):
                self._news(news, record.account_index).transactions.append(record)

    @staticmethod
    def _news(news: dict[int, _AccountNews], account_index: int) -> _AccountNews:
        found = news.get(account_index)
        if found is None:
            found = news[account_index] = _AccountNews()
        return found

    def _send_ticker(self, last: BookChanged) -> None:
        feed, spec = self._feed(last.market_id), self._engine.markets[last.market_id]
        touch = self._touch(last.market_id)
        if touch == feed.touch:
            return
        feed.touch = touch
        self._send(
            f"ticker:{last.market_id}",
            lambda: frames.ticker("update", spec, touch, nonce=last.nonce, changed_at=last.time, now=self._now()),
        )

    def _send_trades(self, market_id: int, newest_first: list[Trade]) -> None:
        spec, nonce = self._engine.markets[market_id], self._engine.book_nonce
        self._send(f"trade:{market_id}", lambda: frames.trades("update", spec, newest_first, nonce))

    def _send_account(self, index: int, changes: _AccountNews) -> None:
        engine = self._engine
        account = engine.account(index)
        assert account is not None, "the engine named it"
        if changes.orders:
            changed = changes.orders.values()
            self._send(f"account_all_orders:{index}", lambda: frames.account_orders("update", engine, index, changed))
        if changes.trades and (self._listened("account_all", index) or self._listened("account_all_trades", index)):
            by_market = frames.trade_rows_by_market(engine, reversed(changes.trades))
            self._send(f"account_all:{index}", lambda: frames.account_all("update", account, by_market=by_market))
            self._send(f"account_all_trades:{index}", lambda: frames.account_trades("update", index, by_market, {}))
        if changes.markets:
            self._send_stats(index)
        if changes.markets or changes.assets:
            self._assets.publish(account, spot=changes.assets)
        self._send_positions(account, changes)
        if changes.notifications:
            told = changes.notifications
            self._send(f"notification:{index}", lambda: frames.notifications("update", index, told, engine))
        if changes.transactions:
            records = [order_rows.tx_row(record, account.l1_address) for record in changes.transactions]
            self._send(f"account_tx:{index}", lambda: frames.account_tx(index, records))

    def _send_positions(self, account: Account, changes: _AccountNews) -> None:
        engine, index = self._engine, account.account_index
        changed = [market_id for market_id in changes.markets if market_id in account.positions]
        perpetual = [market_id for market_id in changed if engine.markets[market_id].is_perpetual]
        positions = {str(one): account_rows.position_row(engine, account, account.positions[one]) for one in perpetual}
        options = account_rows.option_position_rows(engine, account) if len(perpetual) < len(changed) else []
        if not positions and not options:
            return
        self._send(
            f"account_all:{index}",
            lambda: frames.account_all("update", account, positions=positions, options=options),
        )
        self._send(
            f"account_all_positions:{index}",
            lambda: frames.account_positions("update", account, positions, fundings=changes.fundings, options=options),
        )

    def _send_stats(self, index: int) -> None:
        account = self._engine.account(index)
        if account is None or not self._listened("user_stats", index):
            return
        stats = account_rows.stats_row(self._engine, account)
        if stats != self._stats.get(index):
            self._stats[index] = stats
            self._send(f"user_stats:{index}", lambda: frames.user_stats("update", index, stats, self._now()))

    def refresh_stats(self) -> None:
        """Send the figures of markets, and those of accounts that have changed with the mark prices alone."""
        for figures in self._figures.values():
            figures.flush()
        for key in list(self._subscribers):
            kind, _, number = key.partition(":")
            if kind == "user_stats":
                self._send_stats(int(number))

    def flush_candles(self) -> None:
        """Send the candles that have changed."""
        self._candles.flush()

    # --- books -------------------------------------------------------------------------------------------------------

    def _feed(self, market_id: int) -> _MarketFeed:
        feed = self._feeds.get(market_id)
        if feed is None:
            feed = self._feeds[market_id] = _MarketFeed(self._engine.book_nonce, self._engine.now)
        return feed

    def _touch(self, market_id: int) -> Touch:
        book = self._engine.book(market_id)
        bid, bid_lots = next(book.levels(is_ask=False), (0, 0))
        ask, ask_lots = next(book.levels(is_ask=True), (0, 0))
        return bid, bid_lots, ask, ask_lots

    def _collect_level(self, event: BookChanged) -> None:
        feed = self._feed(event.market_id)
        feed.levels[event.is_ask, event.price_ticks] = event.lots
        feed.next_nonce, feed.next_changed_at = event.nonce, event.time

    def flush_books(self) -> None:
        """End the running batch: send the levels that changed in it."""
        for market_id, feed in self._feeds.items():
            if feed.levels:
                self._flush_book(market_id)

    def _flush_book(self, market_id: int) -> None:
        feed, spec = self._feed(market_id), self._engine.markets[market_id]
        if not feed.levels:
            return
        changed = sorted(feed.levels.items())
        asks = [(price, lots) for (is_ask, price), lots in changed if is_ask]
        bids = [(price, lots) for (is_ask, price), lots in reversed(changed) if not is_ask]
        begin_nonce, feed.nonce, feed.changed_at = feed.nonce, feed.next_nonce, feed.next_changed_at
        feed.levels.clear()
        if self._listened("order_book", market_id) and self._faults.draw(Kind.CROSS, f"order_book:{market_id}"):
            best_ask = next(self._engine.book(market_id).levels(is_ask=True), (0, 0))[0]
            bids.insert(0, (best_ask + 1, 1))
        self._send(
            f"order_book:{market_id}",
            lambda: frames.book(
                "update",
                spec,
                asks,
                bids,
                begin_nonce=begin_nonce,
                nonce=feed.nonce,
                changed_at=feed.changed_at,
                now=self._now(),
            ),
        )
