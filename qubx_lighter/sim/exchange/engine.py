"""The local venue's engine: commands in, results and events out, rows to read. Pure: time is an argument, nothing waits.

The same commands at the same times on the same seed give the same venue, so that a journal of them is its whole state.
A refused command changes nothing but the time.
"""

from __future__ import annotations

from typing import Final

import msgspec

from qubx_lighter.constants import CODE_OK, NIL_MARKET_INDEX, Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.accounts.assets import USDC
from qubx_lighter.sim.accounts.ledger import Account, ApiKey
from qubx_lighter.sim.exchange import account_settings, listing_changes
from qubx_lighter.sim.exchange.execution import Executor
from qubx_lighter.sim.exchange.liquidation import Liquidator
from qubx_lighter.sim.exchange.pools import Pools
from qubx_lighter.sim.exchange.transfers import Treasury
from qubx_lighter.sim.exchange.tx_log import TransactionLog
from qubx_lighter.sim.exchange.view import View
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
from qubx_lighter.sim.model.records import TIERS, TxRecord
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.orders import order_rules
from qubx_lighter.sim.orders.sequencer import Sequencer

_LAST_API_KEY: Final = 254


class Engine(View):
    """The venue: a view of it, and what changes it.

    Args:
        seed: where ids start.

    Attributes:
        seed: as given.
    """

    def __init__(self, seed: int = 0) -> None:
        assets = {USDC.asset_id: USDC}
        sequencer = Sequencer(seed)
        state = sequencer.state
        treasury = Treasury(state, assets)
        super().__init__(
            state,
            funding=sequencer.funding,
            treasury=treasury,
            liquidator=Liquidator(sequencer),
            log=TransactionLog(),
            assets=assets,
        )
        self.seed = seed
        self._sequencer = sequencer
        self._executor = Executor(sequencer, treasury, Pools(state, treasury))

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
            self._log.add(record)
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
                return self._executor.submit(command, records)
            case SubmitBatch():
                self._executor.submit_batch(command, records)
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
