"""What the venue shows: its markets, accounts and rows, to read.

Rows are the venue's own: read, never write, and copy what is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from itertools import islice
from typing import Final

from qubx_lighter.sim.accounts import ledger, margin
from qubx_lighter.sim.accounts.funding import Funding
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.accounts.margin import Risk
from qubx_lighter.sim.exchange.liquidation import Liquidation, Liquidator
from qubx_lighter.sim.exchange.transfers import Treasury
from qubx_lighter.sim.exchange.tx_log import TransactionLog
from qubx_lighter.sim.markets.book import Book
from qubx_lighter.sim.markets.market_history import MarketHistory
from qubx_lighter.sim.model.records import Notification, Order, Position, Trade, TxRecord
from qubx_lighter.sim.model.specs import AssetSpec, MarketSpec
from qubx_lighter.sim.orders.state import VenueState

NEWEST: Final = 2**63 - 1
"""The trade id above all."""


class View:
    """What there is to see.

    Args:
        state: the venue's.
        funding: the venue's.
        treasury: the venue's.
        liquidator: the venue's.
        log: the venue's.
        assets: by asset id.

    Attributes:
        markets: the rules by market id, in order of creation, those of delisted ones too.
        assets: what there is beside collateral, by asset id.
    """

    def __init__(
        self,
        state: VenueState,
        *,
        funding: Funding,
        treasury: Treasury,
        liquidator: Liquidator,
        log: TransactionLog,
        assets: dict[int, AssetSpec],
    ) -> None:
        self.markets: dict[int, MarketSpec] = {}
        self.assets = assets
        self._state = state
        self._funding = funding
        self._treasury = treasury
        self._liquidator = liquidator
        self._log = log

    # --- markets; an unknown one raises KeyError ---------------------------------------------------------------------

    @property
    def now(self) -> int:
        """The time of the last command, µs."""
        return self._state.now

    @property
    def book_nonce(self) -> int:
        """The nonce of the last ``BookChanged``, over all markets."""
        return self._state.book_nonce

    @property
    def fees_micro(self) -> int:
        """All fees ever taken."""
        return self._state.fees_micro

    @property
    def bridged(self) -> Mapping[int, int]:
        """All that came from the chain, less what went there, by asset id, in units."""
        return self._treasury.bridged

    @property
    def funding_pot_micro(self) -> int:
        """What the rounding of funding left over."""
        return self._funding.pot_micro

    @property
    def asset_fees(self) -> Mapping[int, int]:
        """All fees ever taken from spot balances, by asset id, in units."""
        return self._state.asset_fees

    def listed(self) -> list[MarketSpec]:
        """List the markets that the public sees."""
        return [spec for spec in self.markets.values() if spec.is_listed]

    def book(self, market_id: int) -> Book:
        """Give a market's book."""
        return self._state.markets[market_id].book

    def mark_price_ticks(self, market_id: int) -> int:
        """Give the price that positions are valued at; 0 when nothing ever gave one."""
        return self._state.markets[market_id].mark_price_ticks()

    def history(self, market_id: int) -> MarketHistory:
        """Give a market's candles, trades of any age and funding."""
        return self._state.markets[market_id].history

    def last_trade_ticks(self, market_id: int) -> int:
        """Give the price of the last trade; 0 before the first."""
        return self._state.markets[market_id].last_trade_ticks

    def quote_micro(self, market_id: int, price_ticks: int, lots: int) -> int:
        """Give the notional of ``lots`` at a price."""
        return self._state.markets[market_id].quote_micro(price_ticks, lots)

    def open_interest_lots(self, market_id: int) -> int:
        """Give the sum of the long positions, which is that of the short ones."""
        rows = (account.positions.get(market_id) for account in self.accounts())
        return sum(max(row.lots, 0) for row in rows if row is not None)

    # --- accounts ----------------------------------------------------------------------------------------------------

    def account(self, account_index: int) -> Account | None:
        """Find an account."""
        return self._state.accounts.get(account_index)

    def accounts(self) -> Iterator[Account]:
        """Go through all accounts, in order of creation."""
        return iter(self._state.accounts.values())

    def accounts_of(self, l1_address: str) -> list[Account]:
        """List the accounts of an L1 address, in whatever case it is written."""
        return [account for account in self.accounts() if account.l1_address.lower() == l1_address.lower()]

    def next_nonce(self, account_index: int, api_key_index: int) -> int | None:
        """Give the nonce that a key must use next; None without such a key."""
        account = self.account(account_index)
        key = account.keys.get(api_key_index) if account is not None else None
        return key.nonce if key is not None else None

    def total_value_micro(self, account_index: int) -> int:
        """Give collateral and unrealised profit; an unknown account raises KeyError, here and below."""
        return ledger.total_value_micro(self._state.accounts[account_index], self._state.markets)

    def cross_risk(self, account_index: int) -> Risk:
        """Give the figures of an account's cross positions."""
        return ledger.cross_risk(self._state.accounts[account_index], self._state.markets)

    def isolated_risks(self, account_index: int) -> dict[int, Risk]:
        """Give the figures of its isolated positions, by market id."""
        return ledger.isolated_risks(self._state.accounts[account_index], self._state.markets)

    def available_balance_micro(self, account_index: int) -> int:
        """Give the value less the positions' initial margin, as the venue reports it.

        Orders do not count; what is free in isolated positions does, although no other position can use it.
        """
        cross = self.cross_risk(account_index)
        isolated = self.isolated_risks(account_index).values()
        spare = sum(max(risk.value_micro - risk.initial_micro, 0) for risk in isolated)
        return cross.value_micro - cross.initial_micro + spare

    def liquidation_price_ticks(self, account_index: int, market_id: int) -> int:
        """Give the mark price at which a position is liquidated; 0 without one."""
        account, market = self._state.accounts[account_index], self._state.markets[market_id]
        row = account.position(market)
        if not row.lots:
            return 0
        return margin.liquidation_price_ticks(market, row, ledger.risk_of(account, market, self._state.markets))

    def unrealized_micro(self, position: Position, mark_ticks: int = 0) -> int:
        """Give a position's profit, at today's mark price if no other is given."""
        return margin.unrealized_micro(self._state.markets[position.market_id], position, mark_ticks)

    def transfer_fee_micro(self, account_index: int, to_account_index: int | None) -> int:
        """Give what a transfer costs."""
        return self._treasury.fee_micro(self._state.accounts[account_index], to_account_index)

    def liquidations(self, account_index: int) -> list[Liquidation]:
        """List the trades by which an account's positions were closed against its will, newest first."""
        return self._liquidator.of(account_index)

    def notifications(self, account_index: int) -> list[Notification]:
        """List what an account was told, oldest first."""
        return self._liquidator.notifications(account_index)

    # --- rows, newest first; an unknown account or market has none ---------------------------------------------------

    def active_orders(self, account_index: int, market_id: int | None = None) -> list[Order]:
        """List an account's resting and pending orders, of all markets or of one."""
        account = self.account(account_index)
        return _newest(account.orders.values() if account is not None else (), market_id)

    def inactive_orders(self, account_index: int, market_id: int | None = None) -> list[Order]:
        """List an account's orders that are over, as many as are remembered."""
        account = self.account(account_index)
        return _newest(account.inactive if account is not None else (), market_id)

    def orders_by_client_index(self, account_index: int, indexes: Iterable[int]) -> list[Order]:
        """List an account's orders, resting first, that have one of these client order indexes."""
        wanted = set(indexes) - {0}
        orders = self.active_orders(account_index) + self.inactive_orders(account_index)
        return [order for order in orders if order.client_order_index in wanted]

    def trades(self, *, market_id: int | None = None, account_index: int | None = None) -> list[Trade]:
        """List the trades of a market, of an account, or of an account in a market, as many as are remembered."""
        if account_index is not None:
            account = self.account(account_index)
            return _newest(account.trades if account is not None else (), market_id)
        if market_id is None:
            every = (trade for market in self._state.markets.values() for trade in market.trades)
            return sorted(every, key=lambda trade: -trade.trade_id)
        market = self._state.markets.get(market_id)
        return _newest(market.trades if market is not None else (), None)

    def forced_trades(self, market_id: int) -> list[Trade]:
        """List a market's newest liquidations and deleverages, newest first."""
        return list(reversed(self._state.markets[market_id].forced))

    def trades_before(self, trade_id: int, limit: int, market_id: int | None = None) -> list[Trade]:
        """List the newest trades with a lower id, of a market or of all, a past's among them."""
        markets = self.markets if market_id is None else {market_id} & self.markets.keys()
        pages = [self.history(one).trades_before(trade_id, limit) for one in markets]
        return list(islice(merge(*pages, key=lambda trade: -trade.trade_id), limit))

    def transaction(self, tx_hash: str) -> TxRecord | None:
        """Find a transaction that the sequencer took."""
        return self._log.find(tx_hash)

    def transactions(self, limit: int) -> list[TxRecord]:
        """List the newest transactions."""
        return self._log.newest(limit)


def _newest[Row: (Order, Trade)](rows: Iterable[Row], market_id: int | None) -> list[Row]:
    """Turn rows around, and keep one market's."""
    kept = [row for row in rows if market_id is None or row.market_id == market_id]
    kept.reverse()
    return kept
