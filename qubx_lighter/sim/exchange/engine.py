"""The local venue's engine: commands in, results and events out, rows to read. Pure: time is an argument, nothing waits.

The same commands at the same times on the same seed give the same venue, so that a journal of them is its whole state.
A refused command changes nothing but the time. Signed transactions are checked in the order account, key, time, nonce,
then what they ask for; signatures are not verified.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from itertools import islice
from typing import Final

import msgspec

from qubx_lighter.constants import CODE_OK, NIL_MARKET_INDEX, CancelAllTime, Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.accounts import ledger, margin
from qubx_lighter.sim.accounts.assets import USDC
from qubx_lighter.sim.accounts.ledger import Account, ApiKey
from qubx_lighter.sim.accounts.margin import Risk
from qubx_lighter.sim.exchange import account_settings, admission, batches, listing_changes
from qubx_lighter.sim.exchange.admission import failure_text
from qubx_lighter.sim.exchange.liquidation import Liquidation, Liquidator
from qubx_lighter.sim.exchange.pools import Pools
from qubx_lighter.sim.exchange.transfers import Treasury
from qubx_lighter.sim.markets import market_rules
from qubx_lighter.sim.markets.book import Book
from qubx_lighter.sim.markets.market_history import MarketHistory
from qubx_lighter.sim.model import transactions
from qubx_lighter.sim.model.commands import (
    AcknowledgeNotification,
    AdvanceTime,
    CancelAll,
    CancelMarket,
    CancelOrder,
    ChangeMarket,
    ChangeTier,
    Command,
    CreateAccount,
    CreateAsset,
    CreateMarket,
    DelistMarket,
    Deposit,
    DepositAsset,
    EndOrder,
    PlaceOrder,
    RegisterKey,
    Result,
    SetMakerOnlyKeys,
    SetMarketStatus,
    SettleFunding,
    SubmitBatch,
    SubmitTransaction,
)
from qubx_lighter.sim.model.events import Event, TransactionDone
from qubx_lighter.sim.model.records import TIERS, Notification, Order, Position, Trade, TxRecord
from qubx_lighter.sim.model.specs import AssetSpec, MarketSpec
from qubx_lighter.sim.model.transactions import (
    Attribute,
    BurnSharesTx,
    CancelAllTx,
    CancelOrderTx,
    CreateGroupedOrdersTx,
    CreateOrderTx,
    CreatePublicPoolTx,
    CreateSubAccountTx,
    MintSharesTx,
    ModifyOrderTx,
    MoneyTransaction,
    Transaction,
    TransferTx,
    UpdateAccountConfigTx,
    UpdateLeverageTx,
    UpdateMarginTx,
    UpdatePublicPoolTx,
    WithdrawTx,
)
from qubx_lighter.sim.orders import order_rules
from qubx_lighter.sim.orders.agenda import Duty
from qubx_lighter.sim.orders.order_entry import Change
from qubx_lighter.sim.orders.sequencer import Sequencer

NEWEST: Final = 2**63 - 1
"""The trade id above all."""

_CANCEL_ALL_QUEUED: Final = 21712
_TRANSACTIONS: Final = 100_000
_LAST_API_KEY: Final = 254


class _Done(msgspec.Struct, frozen=True):
    """What the sequencer made of a transaction: the order it created, or the error that it failed with."""

    order_index: int = 0
    error: str = ""


class Engine:
    """The venue.

    Rows that it returns are its own: read, never write, and copy what is kept.

    Args:
        seed: where ids start.

    Attributes:
        seed: as given.
        markets: the rules by market id, in order of creation, those of delisted ones too.
        assets: what there is beside collateral, by asset id.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.markets: dict[int, MarketSpec] = {}
        self.assets: dict[int, AssetSpec] = {USDC.asset_id: USDC}
        self._sequencer = Sequencer(seed)
        self._state = self._sequencer.state
        self._liquidator = Liquidator(self._sequencer)
        self._treasury = Treasury(self._state, self.assets)
        self._pools = Pools(self._state, self._treasury)
        self._transactions: dict[str, TxRecord] = {}

    # --- commands ----------------------------------------------------------------------------------------------------

    def apply(self, command: Command, now: int) -> Result:
        """Carry out a command at ``now`` (µs; earlier than the last command's counts as that one's).

        Returns:
            code 200, or the venue's code and text of a refusal.
        """
        sequencer = self._sequencer
        sequencer.let_time_pass(now)
        records: list[TxRecord] = []
        try:
            order_index = self._carry_out(command, records)
        except VenueError as error:
            self._end()
            return Result(int(error.code), error.message)
        self._end()
        for record in records:
            self._remember(record)
            self._state.events.append(TransactionDone(record))
        return Result(CODE_OK, order_index=order_index)

    def _end(self) -> None:
        """End a command: execute what it has triggered, liquidate whom it has left without margin, and tell what changed."""
        pending = self._sequencer.pending
        pending.settle()
        pending.run_triggers()
        self._liquidator.run()
        while pending.run_triggers():
            self._liquidator.run()
        self._state.flush()

    def drain(self) -> list[Event]:
        """Take the events since the last call, in order."""
        return self._state.drain()

    def _carry_out(self, command: Command, records: list[TxRecord]) -> int:
        """Carry out a command; give the order that it created, and add the transactions that were taken."""
        match command:
            case SubmitTransaction():
                return self._submit(command, records)
            case SubmitBatch():
                self._submit_batch(command, records)
            case PlaceOrder():
                expiry = order_rules.default_expiry_ms(command, self.now)
                return self._sequencer.place(msgspec.structs.replace(command, order_expiry_ms=expiry)).order_index
            case CancelOrder(account_index, market_id, index):
                self._sequencer.open_orders.cancel(self._sequencer.open_orders.find(account_index, market_id, index))
            case CancelAll(account_index):
                self._sequencer.open_orders.cancel_all(self._state.account(account_index))
            case EndOrder(order_index, status):
                self._sequencer.open_orders.end(order_index, status)
            case AdvanceTime():
                pass
            case _:
                self._administer(command)
        return 0

    def _administer(self, command: Command) -> None:
        """Carry out what no participant can ask for."""
        match command:
            case CreateMarket(spec):
                self._create_market(spec)
            case CreateAccount():
                self._create_account(command)
            case RegisterKey():
                self._register_key(command)
            case Deposit(account_index, amount_micro):
                self._treasury.deposit(self._state.account(account_index), amount_micro)
            case SettleFunding():
                self._settle_funding(command)
            case AcknowledgeNotification():
                self._acknowledge(command)
            case ChangeTier(account_index, tier):
                account_settings.change_tier(self._state.account(account_index), tier, self.now)
            case SetMakerOnlyKeys(account_index, api_key_indexes):
                account_settings.set_maker_only_keys(self._state.account(account_index), api_key_indexes)
            case ChangeMarket() | SetMarketStatus() | DelistMarket() | CancelMarket():
                spec = listing_changes.carry_out(self._sequencer, command, self.assets)
                self.markets[spec.market_id] = spec
            case CreateAsset() | DepositAsset():
                self._change_assets(command)
            case _:
                raise TypeError(f"not a command: {command}")

    def _create_market(self, spec: MarketSpec) -> None:
        if spec.market_id in self.markets:
            raise VenueError(Code.INVALID_PARAM, "market exists")
        listing_changes.check_spec(spec)
        lot_units = listing_changes.lot_units(spec, self.assets)
        self.markets[spec.market_id] = spec
        self._sequencer.open_market(spec, lot_units)

    def _change_assets(self, command: CreateAsset | DepositAsset) -> None:
        match command:
            case CreateAsset(asset):
                if asset.asset_id in self.assets:
                    raise VenueError(Code.INVALID_PARAM, "asset exists")
                self.assets[asset.asset_id] = asset
            case DepositAsset(account_index, asset_id, units):
                self._treasury.deposit_asset(self._state.account(account_index), asset_id, units)

    def _create_account(self, new: CreateAccount) -> None:
        if new.account_index in self._state.accounts:
            raise VenueError(Code.INVALID_PARAM, "account exists")
        if new.tier not in TIERS:
            raise VenueError(account_settings.INVALID_TIER, "invalid tier")
        self._state.accounts[new.account_index] = Account(
            new.account_index, new.l1_address, new.collateral_micro, new.fee_free, self.now, new.tier
        )
        self._treasury.fund(self._state.accounts[new.account_index])
        self._state.change_figures(new.account_index)

    def _register_key(self, new: RegisterKey) -> None:
        account = self._state.account(new.account_index)
        if not 0 <= new.api_key_index <= _LAST_API_KEY:
            raise VenueError(Code.INVALID_PARAM, "invalid api key index")
        account.keys[new.api_key_index] = ApiKey(new.public_key, new.nonce)

    def _settle_funding(self, command: SettleFunding) -> None:
        if command.market_id != NIL_MARKET_INDEX:
            self._state.market(command.market_id)
        payments = self._sequencer.funding.settle_now(command.market_id, self.now, command.rate)
        self._sequencer.book_funding(payments)

    def _acknowledge(self, command: AcknowledgeNotification) -> None:
        self._state.account(command.account_index)
        if not self._liquidator.acknowledge(command.account_index, command.notification_id):
            raise VenueError(Code.NOT_FOUND, "notification not found")

    # --- signed transactions -----------------------------------------------------------------------------------------

    def _submit(self, command: SubmitTransaction, records: list[TxRecord]) -> int:
        tx = transactions.decode(command.tx_type, command.tx_info)
        key = self._key_of(tx)
        admission.check_nonce(key, tx)
        done = _Done(error=command.failure) if command.failure else self._execute(tx, command.tx_hash)
        key.nonce = tx.nonce + 1
        records.append(self._record(command, tx, done.error))
        return done.order_index

    def _submit_batch(self, command: SubmitBatch, records: list[TxRecord]) -> None:
        """Take a batch whole or not at all, then execute one by one: what fails at the sequencer fails alone.

        What the API judges, it judges by the venue as it is before the batch. Orders to cancel or amend may be the batch's
        own, so that they are the sequencer's to find.
        """
        txs = [transactions.decode(each.tx_type, each.tx_info) for each in command.transactions]
        batches.check(txs)
        key = self._key_of(txs[0])
        batches.check_nonces(key, txs)
        for tx in txs:
            self._key_of(tx)
            self._check(tx)
        for each, tx in zip(command.transactions, txs, strict=True):
            try:
                error = each.failure or self._execute(tx, each.tx_hash).error
            except VenueError as refusal:
                error = failure_text(refusal.code, refusal.message)
            self._sequencer.pending.settle()
            key.nonce = tx.nonce + 1
            records.append(self._record(each, tx, error))

    def _key_of(self, tx: Transaction) -> ApiKey:
        """Find the key that signed; the transaction's own time must not be over."""
        account = self._state.account(tx.account_index)
        key = account.keys.get(tx.api_key_index)
        if key is None:
            raise VenueError(Code.API_KEY_NOT_FOUND, "api key not found")
        if tx.api_key_index in account.maker_only_keys:
            admission.check_maker_only(tx)
        if tx.expired_at * 1000 <= self.now:  # the documentation leaves open which code; the nonce stays
            raise VenueError(Code.INVALID_TX_INFO, "invalid tx info: transaction expired")
        return key

    def _record(self, command: SubmitTransaction, tx: Transaction, error: str) -> TxRecord:
        return TxRecord(
            tx_hash=command.tx_hash,
            tx_type=command.tx_type,
            tx_info=command.tx_info,
            account_index=tx.account_index,
            api_key_index=tx.api_key_index,
            nonce=tx.nonce,
            executed_at=self.now,
            error=error,
            market_id=tx.market,
        )

    def _check(self, tx: Transaction) -> None:
        """Judge a transaction of a batch as the API does, and change nothing."""
        sequencer = self._sequencer
        match tx:
            case CreateOrderTx():
                sequencer.entry.prepare(tx.order(), tx.self_trade, "")
            case CreateGroupedOrdersTx():
                sequencer.entry.prepare_group(tx, "")
            case CancelAllTx():
                admission.check_cancel_all(tx, self.now)
            case CancelOrderTx() | ModifyOrderTx() | UpdateLeverageTx() | UpdateMarginTx():
                self._state.market(tx.market_index)

    def _execute(self, tx: Transaction, tx_hash: str) -> _Done:
        """Execute a transaction; raising is the API's refusal, an error in the result the sequencer's."""
        sequencer = self._sequencer
        match tx:
            case CreateOrderTx():
                return _Done(sequencer.place(tx.order(), tx.self_trade, tx_hash).order_index)
            case CreateGroupedOrdersTx():
                return _Done(sequencer.place_group(tx, tx_hash).order_index)
            case CancelOrderTx():
                sequencer.open_orders.cancel(sequencer.open_orders.find(tx.account_index, tx.market_index, tx.index))
            case CancelAllTx():
                self._cancel_all(tx)
            case ModifyOrderTx():
                return self._modify(tx, tx_hash)
            case UpdateLeverageTx():
                return _Done(error=account_settings.update_leverage(self._state, tx))
            case UpdateMarginTx():
                account_settings.update_margin(self._state, tx)
            case UpdateAccountConfigTx():
                account_settings.update_account_config(self._state, tx)
            case _:
                self._move_money(tx, tx_hash)
        return _Done()

    def _move_money(self, tx: MoneyTransaction, tx_hash: str) -> None:
        match tx:
            case WithdrawTx():
                self._treasury.withdraw(tx, tx_hash)
            case TransferTx():
                self._treasury.transfer(tx, tx_hash)
            case CreateSubAccountTx():
                self._treasury.create_sub_account(tx)
            case CreatePublicPoolTx():
                self._pools.create(tx, tx_hash)
            case UpdatePublicPoolTx():
                self._pools.update(tx)
            case MintSharesTx():
                self._pools.mint(tx, tx_hash)
            case BurnSharesTx():
                self._pools.burn(tx, tx_hash)

    def _cancel_all(self, tx: CancelAllTx) -> None:
        """Cancel all orders now or at a time, or call that off."""
        sequencer, account = self._sequencer, self._state.account(tx.account_index)
        admission.check_cancel_all(tx, self.now)
        match tx.time_in_force:
            case CancelAllTime.IMMEDIATE:
                one = self._state.market(tx.market).spec if tx.is_of_one_market else None
                if one is not None:
                    market_rules.insist_on_perpetual(one)
                sequencer.open_orders.cancel_all(account, None if one is None else one.market_id)
            case CancelAllTime.SCHEDULED:
                if account.cancel_all_time_ms:
                    raise VenueError(_CANCEL_ALL_QUEUED, "a cancel all is queued already")
                account.cancel_all_time_ms = tx.time
                sequencer.pending.agenda.add(tx.time * 1000, Duty.CANCEL_ALL, account.account_index)
            case CancelAllTime.ABORT_SCHEDULED:
                account.cancel_all_time_ms = 0

    def _modify(self, tx: ModifyOrderTx, tx_hash: str) -> _Done:
        order = self._sequencer.open_orders.find(tx.account_index, tx.market_index, tx.index)
        version = tx.attribute(Attribute.ORDER_VERSION)
        if version and version != order.order_version:  # a race that only the sequencer can judge
            return _Done(error=failure_text(Code.NOT_ACTIVE_ORDER, "order version does not match"))
        change = Change(tx.base_amount, tx.price, tx.trigger_price)
        self._sequencer.amend(order, change, tx.self_trade, tx_hash)
        return _Done()

    def _remember(self, record: TxRecord) -> None:
        self._transactions[record.tx_hash] = record
        if len(self._transactions) > _TRANSACTIONS:
            del self._transactions[next(iter(self._transactions))]

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
        return self._sequencer.funding.pot_micro

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
        return self._transactions.get(tx_hash)

    def transactions(self, limit: int) -> list[TxRecord]:
        """List the newest transactions."""
        return list(islice(reversed(self._transactions.values()), limit))


def _newest[Row: (Order, Trade)](rows: Iterable[Row], market_id: int | None) -> list[Row]:
    """Turn rows around, and keep one market's."""
    kept = [row for row in rows if market_id is None or row.market_id == market_id]
    kept.reverse()
    return kept
