"""What the venue holds, and what the running transaction has changed of it.

Whoever acts on orders, accounts or markets shares one ``VenueState``. It numbers changes, trades and books, and at the end of a
transaction it tells each level, each account's figures and each balance that changed once.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from random import Random
from typing import Final

import msgspec

from qubx_lighter.constants import NIL_MARKET_INDEX, Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.model.events import AssetsChanged, BookChanged, Event, OrderChanged, PositionChanged
from qubx_lighter.sim.model.records import INSURANCE_FUND, AccountType, Order

_NO_ADDRESS: Final = "0x" + "0" * 40


class VenueState:
    """The state of the venue.

    Args:
        start: where its numbers start.

    Attributes:
        now: µs, of the transaction that runs.
        markets: by market id, in order of creation.
        accounts: by account index, in order of creation.
        events: what happened since they were last taken.
        fees_micro: all fees ever taken from collateral.
        asset_fees: all fees ever taken from spot balances, by asset id, in units.
        book_nonce: of the last ``BookChanged``, over all markets.
        trade_id: of the last trade, over all markets.
    """

    def __init__(self, start: Random) -> None:
        self.now = 0
        self.markets: dict[int, Market] = {}
        self.accounts: dict[int, Account] = {}
        self.events: list[Event] = []
        self.fees_micro = 0
        self.asset_fees: Counter[int] = Counter()
        self.book_nonce = start.randrange(10**6, 10**9)
        self.trade_id = start.randrange(10**6, 10**9)
        self._sequence = start.randrange(10**6, 10**9)
        self._salt = start.randbytes(8)
        self._hashes = 0
        self._levels: dict[tuple[int, bool, int], None] = {}
        self._figures: dict[tuple[int, int], None] = {}
        self._balances: dict[int, None] = {}

    # --- finding -----------------------------------------------------------------------------------------------------

    def account(self, account_index: int) -> Account:
        """Find an account, or raise ``VenueError`` 21100."""
        account = self.accounts.get(account_index)
        if account is None:
            raise VenueError(Code.ACCOUNT_NOT_FOUND, "account not found")
        return account

    def market(self, market_id: int) -> Market:
        """Find a market, or raise ``VenueError`` 21602."""
        market = self.markets.get(market_id)
        if market is None or not market.spec.is_listed:
            raise VenueError(Code.INVALID_MARKET, "invalid market index")
        return market

    def insurance_fund(self) -> Account:
        """Find the account that takes liquidation fees, or open it."""
        fund = self.accounts.get(INSURANCE_FUND)
        if fund is None:
            fund = self.accounts[INSURANCE_FUND] = Account(
                INSURANCE_FUND, _NO_ADDRESS, 0, created_at=self.now, account_type=AccountType.INSURANCE_FUND
            )
        return fund

    # --- numbers -----------------------------------------------------------------------------------------------------

    def next_trade_id(self) -> int:
        """Give the next trade its id."""
        self.trade_id += 1
        return self.trade_id

    def make_hash(self) -> str:
        """Make up a hash for an order that no transaction carried; as long as a real one, 40 bytes."""
        self._hashes += 1
        return blake2b(self._hashes.to_bytes(8), digest_size=40, salt=self._salt).hexdigest()

    # --- what changed ------------------------------------------------------------------------------------------------

    def change_order(self, order: Order) -> None:
        """Number a change of an order, and tell it to an account with keys."""
        self._sequence += 1
        order.nonce = self._sequence
        order.updated_at = self.now
        if self.accounts[order.account_index].keys:
            self.events.append(OrderChanged(msgspec.structs.replace(order)))

    def change_level(self, order: Order) -> None:
        """Let the end of the transaction tell that the level of an order changed."""
        self._levels[order.market_id, order.is_ask, order.price_ticks] = None

    def change_figures(self, account_index: int, market_id: int = NIL_MARKET_INDEX) -> None:
        """Let the end of the transaction tell that an account's figures changed."""
        self._figures[account_index, market_id] = None

    def change_balances(self, account_index: int) -> None:
        """Let the end of the transaction tell that an account's spot balances changed."""
        self._balances[account_index] = None

    def touched_markets(self) -> set[int]:
        """Name the markets whose books the running transaction has changed."""
        return {market_id for market_id, _, _ in self._levels}

    def touched_accounts(self) -> set[int]:
        """Name the accounts whose figures the running transaction has changed."""
        return {account_index for account_index, _ in self._figures}

    def flush(self) -> None:
        """End a transaction: tell each changed level and each changed account once."""
        for market_id, is_ask, price_ticks in self._levels:
            self.book_nonce += 1
            lots = self.markets[market_id].book.lots_at(price_ticks, is_ask=is_ask)
            self.events.append(BookChanged(market_id, is_ask, price_ticks, lots, self.book_nonce, self.now))
        for account_index, market_id in self._figures:
            self.events.append(PositionChanged(account_index, market_id, self.now))
        self.events += [AssetsChanged(account_index, self.now) for account_index in self._balances]
        self._levels.clear()
        self._figures.clear()
        self._balances.clear()

    def drain(self) -> list[Event]:
        """Take the events since the last call, in order."""
        events, self.events = self.events, []
        return events
