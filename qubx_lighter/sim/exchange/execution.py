"""Signed transactions: admitted by the API, then executed one by one, each with a record of what became of it.

They are checked in the order account, key, time, nonce, then what they ask for; signatures are not verified.
"""

from __future__ import annotations

from typing import Final

import msgspec

from qubx_lighter.constants import CancelAllTime, Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.accounts.ledger import ApiKey
from qubx_lighter.sim.exchange import account_settings, admission, batches
from qubx_lighter.sim.exchange.admission import failure_text
from qubx_lighter.sim.exchange.pools import Pools
from qubx_lighter.sim.exchange.transfers import Treasury
from qubx_lighter.sim.markets import market_rules
from qubx_lighter.sim.model import transactions
from qubx_lighter.sim.model.commands import (
    SubmitBatch,
    SubmitTransaction,
)
from qubx_lighter.sim.model.records import TxRecord
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
from qubx_lighter.sim.orders.agenda import Duty
from qubx_lighter.sim.orders.order_entry import Change
from qubx_lighter.sim.orders.sequencer import Sequencer

_CANCEL_ALL_QUEUED: Final = 21712


class _Done(msgspec.Struct, frozen=True):
    """What the sequencer made of a transaction: the order it created, or the error that it failed with."""

    order_index: int = 0
    error: str = ""


class Executor:
    """Execute signed transactions.

    Args:
        sequencer: the venue's.
        treasury: moves money.
        pools: the venue's.
    """

    def __init__(self, sequencer: Sequencer, treasury: Treasury, pools: Pools) -> None:
        self._sequencer = sequencer
        self._state = sequencer.state
        self._treasury = treasury
        self._pools = pools

    def submit(self, command: SubmitTransaction, records: list[TxRecord]) -> int:
        """Take a transaction; add its record, and give the order that it created.

        Raises:
            VenueError: the API refuses it; its nonce is not used.
        """
        tx = transactions.decode(command.tx_type, command.tx_info)
        key = self._key_of(tx)
        admission.check_nonce(key, tx)
        done = _Done(error=command.failure) if command.failure else self._execute(tx, command.tx_hash)
        key.nonce = tx.nonce + 1
        records.append(self._record(command, tx, done.error))
        return done.order_index

    def submit_batch(self, command: SubmitBatch, records: list[TxRecord]) -> None:
        """Take a batch whole or not at all, then execute one by one: what fails at the sequencer fails alone.

        What the API judges, it judges by the venue as it is before the batch. Orders to cancel or amend may be the batch's
        own, so that they are the sequencer's to find.

        Raises:
            VenueError: the API refuses the batch; no nonce is used.
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
        if tx.expired_at * 1000 <= self._state.now:  # the documentation leaves open which code; the nonce stays
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
            executed_at=self._state.now,
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
                admission.check_cancel_all(tx, self._state.now)
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
        admission.check_cancel_all(tx, self._state.now)
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
