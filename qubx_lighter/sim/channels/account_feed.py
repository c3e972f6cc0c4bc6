"""What the account channels send: everything at first, then what a command did to the account.

Per command and account in the order of a captured round trip: orders, trades, figures, assets, positions, transactions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.channels import asset_feed
from qubx_lighter.sim.channels.asset_feed import AssetFeed
from qubx_lighter.sim.exchange.view import View
from qubx_lighter.sim.model.events import (
    AssetsChanged,
    FundingSettled,
    NotificationSent,
    OrderChanged,
    PositionChanged,
    TransactionDone,
)
from qubx_lighter.sim.model.records import Notification, Order, Trade, TxRecord
from qubx_lighter.sim.wire import account_rows, frames, order_rows, texts

_SNAPSHOT_TRADES: Final = 100

AccountEvent = OrderChanged | PositionChanged | FundingSettled | AssetsChanged | NotificationSent | TransactionDone
"""What concerns one account."""


@dataclass(slots=True)
class _News:
    """What one command did to one account."""

    orders: dict[int, Order] = field(default_factory=dict)  # the last state of each
    trades: list[Trade] = field(default_factory=list)
    markets: dict[int, None] = field(default_factory=dict)
    fundings: Counter[str] = field(default_factory=Counter)  # by market id, millionths of the collateral
    notifications: list[Notification] = field(default_factory=list)
    assets: bool = False
    transactions: list[TxRecord] = field(default_factory=list)


class AccountFeed:
    """The channels of all accounts.

    Args:
        view: of the venue.
        now: the wall clock, µs.
        send: sends a frame to a channel's subscribers, if there are any.
        is_heard: tells whether a channel has subscribers.
    """

    def __init__(
        self,
        view: View,
        now: Callable[[], int],
        *,
        send: Callable[[str, Callable[[], str]], bool],
        is_heard: Callable[[str], bool],
    ) -> None:
        self._view = view
        self._now = now
        self._send = send
        self._is_heard = is_heard
        self._assets = AssetFeed(view, now, send)
        self._stats: dict[int, texts.Row] = {}  # the figures sent last
        self._news: dict[int, _News] = {}  # of the command that is told

    # --- snapshots ---------------------------------------------------------------------------------------------------

    def snapshot(self, kind: str, account: Account) -> str:
        """Write the first frame of a subscription."""
        view, number = self._view, account.account_index
        match kind:
            case "account_all_orders":
                return frames.account_orders("subscribed", view, number, view.active_orders(number))
            case "account_all_trades":
                recent = view.trades(account_index=number)[:_SNAPSHOT_TRADES]
                by_market = frames.trade_rows_by_market(view, recent)
                return frames.account_trades("subscribed", number, by_market, frames.volumes(view, number))
            case "account_all_positions":
                options = account_rows.option_position_rows(view, account)
                return frames.account_positions(
                    "subscribed", account, account_rows.position_rows(view, account), options=options
                )
            case asset_feed.BALANCES | asset_feed.ENTRY_PRICES:
                return self._assets.snapshot(kind, account)
            case "notification":
                return frames.notifications("subscribed", number, view.notifications(number), view)
            case "account_tx":
                return frames.account_tx(number, None)
            case "user_stats":
                self._stats[number] = account_rows.stats_row(view, account)
                return frames.user_stats("subscribed", number, self._stats[number], self._now())
        return frames.account_all(
            "subscribed",
            account,
            assets=self._assets.assets(account),
            options=account_rows.option_position_rows(view, account),
            positions=account_rows.position_rows(view, account),
            volumes=frames.volumes(view, number),
        )

    # --- what a command did ------------------------------------------------------------------------------------------

    def collect_trade(self, trade: Trade) -> None:
        """Take note of a trade, for both its sides."""
        for account_index in {trade.ask_account, trade.bid_account}:
            self._of(account_index).trades.append(trade)

    def collect(self, event: AccountEvent) -> None:
        """Take note of what concerns one account."""
        match event:
            case OrderChanged(order):
                self._of(order.account_index).orders[order.order_index] = order
            case PositionChanged(account_index, market_id):
                self._of(account_index).markets[market_id] = None
            case FundingSettled(payment):
                self._of(payment.account_index).fundings[str(payment.market_id)] += payment.change_micro
            case NotificationSent(notification):
                self._of(notification.account_index).notifications.append(notification)
            case AssetsChanged(account_index):
                self._of(account_index).assets = True
            case TransactionDone(record):
                self._of(record.account_index).transactions.append(record)

    def _of(self, account_index: int) -> _News:
        found = self._news.get(account_index)
        if found is None:
            found = self._news[account_index] = _News()
        return found

    def publish(self, is_watched: Callable[[int], bool]) -> None:
        """Send what was noted of the accounts that anybody watches, and begin anew."""
        collected, self._news = self._news, {}
        for account_index, news in collected.items():
            if is_watched(account_index):
                self._send_news(account_index, news)

    def _send_news(self, index: int, news: _News) -> None:
        view = self._view
        account = view.account(index)
        assert account is not None, "the venue named it"
        if news.orders:
            changed = news.orders.values()
            self._send(f"account_all_orders:{index}", lambda: frames.account_orders("update", view, index, changed))
        if news.trades and (self._is_heard(f"account_all:{index}") or self._is_heard(f"account_all_trades:{index}")):
            by_market = frames.trade_rows_by_market(view, reversed(news.trades))
            self._send(f"account_all:{index}", lambda: frames.account_all("update", account, by_market=by_market))
            self._send(f"account_all_trades:{index}", lambda: frames.account_trades("update", index, by_market, {}))
        if news.markets:
            self.send_stats(index)
        if news.markets or news.assets:
            self._assets.publish(account, spot=news.assets)
        self._send_positions(account, news)
        if news.notifications:
            told = news.notifications
            self._send(f"notification:{index}", lambda: frames.notifications("update", index, told, view))
        if news.transactions:
            records = [order_rows.tx_row(record, account.l1_address) for record in news.transactions]
            self._send(f"account_tx:{index}", lambda: frames.account_tx(index, records))

    def _send_positions(self, account: Account, news: _News) -> None:
        view, index = self._view, account.account_index
        changed = [market_id for market_id in news.markets if market_id in account.positions]
        perpetual = [market_id for market_id in changed if view.markets[market_id].is_perpetual]
        positions = {str(one): account_rows.position_row(view, account, account.positions[one]) for one in perpetual}
        options = account_rows.option_position_rows(view, account) if len(perpetual) < len(changed) else []
        if not positions and not options:
            return
        self._send(
            f"account_all:{index}",
            lambda: frames.account_all("update", account, positions=positions, options=options),
        )
        self._send(
            f"account_all_positions:{index}",
            lambda: frames.account_positions("update", account, positions, fundings=news.fundings, options=options),
        )

    def send_stats(self, index: int) -> None:
        """Send an account's figures, if they have changed."""
        account = self._view.account(index)
        if account is None or not self._is_heard(f"user_stats:{index}"):
            return
        stats = account_rows.stats_row(self._view, account)
        if stats != self._stats.get(index):
            self._stats[index] = stats
            self._send(f"user_stats:{index}", lambda: frames.user_stats("update", index, stats, self._now()))
