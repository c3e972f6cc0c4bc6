"""Money that moves without trading: deposits, withdrawals, transfers, and the accounts that it moves between.

What comes over the bridge from the chain, and what leaves, is counted in ``bridged_micro``: all the money inside is always that
much. A withdrawal leaves the account at once, and can be claimed on the chain after the venue's delay. A transfer between
accounts of one owner is free; one to somebody else costs a fee, takes the owner's signature on the chain as well, which is
not verified here, and has a minimum. The amounts of minimums, fee and delay are this venue's own.

Codes are the venue's; which of them it gives where is documented for few, and otherwise follows their names.
"""

from __future__ import annotations

from typing import Final

from qubx_lighter.constants import Code, Route
from qubx_lighter.errors import VenueError
from qubx_lighter.sim import ledger
from qubx_lighter.sim.ledger import Account
from qubx_lighter.sim.model import (
    BRIDGE_DEPOSIT,
    BRIDGE_WITHDRAWAL,
    COLLATERAL_ASSET,
    AccountType,
    Money,
    MoneyMove,
)
from qubx_lighter.sim.sequencer import Sequencer
from qubx_lighter.sim.transactions import CreateSubAccountTx, TransferTx, WithdrawTx

WITHDRAWAL_DELAY_S: Final = 4 * 3600
TRANSFER_FEE_MICRO: Final = 3_000_000
LEAST_TRANSFER_MICRO: Final = 1_000_000
LEAST_WITHDRAWAL_MICRO: Final = 1_000_000

INVALID_TO_ACCOUNT: Final = 21106
WITHDRAWAL_TOO_LOW: Final = 21116
TRANSFER_TOO_LOW: Final = 21118
INVALID_ACCOUNT_TYPE: Final = 21123
INVALID_ROUTE: Final = 21124
WITHDRAWAL_FROM_POOL: Final = 21127
INVALID_FEE: Final = 21134
INVALID_AMOUNT: Final = 21300
NOT_ENOUGH_COLLATERAL: Final = 21301
L1_SIGNATURE: Final = 21504
ASSET_NOT_FOUND: Final = 21804

_FIRST_SUB_ACCOUNT: Final = 2**48 - 3  # the one above is the venue's liquidity pool
_POOLS: Final = (AccountType.PUBLIC_POOL, AccountType.INSURANCE_FUND)


class Treasury:
    """Move money, and keep the accounts' records of it.

    Args:
        sequencer: the venue's.

    Attributes:
        bridged_micro: what came from the chain less what went there.
    """

    def __init__(self, sequencer: Sequencer) -> None:
        self.bridged_micro = 0
        self._sequencer = sequencer
        self._last_id = 0
        self._next_sub_account = _FIRST_SUB_ACCOUNT

    # --- the bridge --------------------------------------------------------------------------------------------------

    def fund(self, account: Account) -> None:
        """Count what a new account is opened with as its first deposit."""
        self._bridge(account, account.collateral_micro, "")

    def deposit(self, account: Account, amount_micro: int) -> None:
        """Add collateral, or (negative) take some out at once, as far as margin goes.

        Raises:
            VenueError: 21508.
        """
        risk = ledger.cross_risk(account, self._sequencer.markets)
        if amount_micro < 0 and risk.value_micro - risk.initial_micro + amount_micro < 0:
            raise VenueError(Code.BELOW_INITIAL_MARGIN, "account would be below initial margin")
        account.collateral_micro += amount_micro
        self._bridge(account, amount_micro, "")
        self._sequencer.change_figures(account.account_index)

    def withdraw(self, tx: WithdrawTx, tx_hash: str) -> None:
        """Let collateral leave for the chain.

        Raises:
            VenueError: 21116, 21124, 21127, 21300, 21301 or 21804.
        """
        account = self._sequencer.account(tx.account_index)
        _check_asset(tx.asset_index, tx.amount)
        _check_route(tx.route_type)
        if account.account_type in _POOLS:
            raise VenueError(WITHDRAWAL_FROM_POOL, "withdrawal from public pool is not allowed")
        if tx.amount < LEAST_WITHDRAWAL_MICRO:
            raise VenueError(WITHDRAWAL_TOO_LOW, "withdrawal amount is too small")
        self.check_free(account, tx.amount)
        account.collateral_micro -= tx.amount
        self._bridge(account, -tx.amount, tx_hash)
        self._sequencer.change_figures(account.account_index)

    def _bridge(self, account: Account, amount_micro: int, tx_hash: str) -> None:
        if not amount_micro:
            return
        self.bridged_micro += amount_micro
        kind = BRIDGE_DEPOSIT if amount_micro > 0 else BRIDGE_WITHDRAWAL
        self._last_id += 1
        index = account.account_index
        account.moves.append(
            MoneyMove(self._last_id, kind, self._sequencer.now, Money(abs(amount_micro), index, index), tx_hash=tx_hash)
        )

    # --- between accounts --------------------------------------------------------------------------------------------

    def fee_micro(self, sender: Account, to_account_index: int | None) -> int:
        """Give what a transfer costs: nothing to an account of the same owner."""
        receiver = self._sequencer.accounts.get(to_account_index) if to_account_index is not None else None
        return 0 if receiver is not None and _same_owner(sender, receiver) else TRANSFER_FEE_MICRO

    def transfer(self, tx: TransferTx, tx_hash: str) -> None:
        """Move an asset to another account.

        Raises:
            VenueError: 21106, 21118, 21123, 21124, 21134, 21300, 21301, 21504 or 21804.
        """
        sender, receiver = self._sequencer.account(tx.account_index), self._receiver(tx)
        _check_asset(tx.asset_index, tx.amount)
        for route in (tx.from_route_type, tx.to_route_type):
            _check_route(route)
        _check_pools(sender, receiver)
        fee = self.fee_micro(sender, tx.to_account_index)
        if not _same_owner(sender, receiver):
            if not tx.l1_sig:
                raise VenueError(L1_SIGNATURE, "fail to l1 signature")
            if tx.amount < LEAST_TRANSFER_MICRO:
                raise VenueError(TRANSFER_TOO_LOW, "transfer amount is too small")
        if tx.usdc_fee < fee:
            raise VenueError(INVALID_FEE, "invalid fee")
        self.check_free(sender, tx.amount + tx.usdc_fee)
        sender.collateral_micro -= tx.usdc_fee
        self._sequencer.fees_micro += tx.usdc_fee
        self.move(sender, receiver, "Transfer", tx.amount, tx_hash, fee_micro=tx.usdc_fee)

    def _receiver(self, tx: TransferTx) -> Account:
        receiver = self._sequencer.accounts.get(tx.to_account_index)
        itself = tx.to_account_index == tx.account_index
        if receiver is None or (itself and tx.from_route_type == tx.to_route_type):
            raise VenueError(INVALID_TO_ACCOUNT, "invalid ToAccount")
        return receiver

    def move(
        self, sender: Account, receiver: Account, what: str, amount_micro: int, tx_hash: str, *, fee_micro: int = 0
    ) -> None:
        """Move collateral that is there, and let both sides remember it.

        Args:
            sender: whose.
            receiver: whose it is then.
            what: why, as the venue's types name it: ``Transfer``, ``MintShares``.
            amount_micro: how much.
            tx_hash: of the transaction.
            fee_micro: what it cost the sender besides.
        """
        sender.collateral_micro -= amount_micro
        receiver.collateral_micro += amount_micro
        money = Money(amount_micro, sender.account_index, receiver.account_index, fee_micro)
        for account, way in ((sender, "Outflow"), (receiver, "Inflow")):
            self._last_id += 1
            kind = f"L2{what}{way}"
            account.moves.append(MoneyMove(self._last_id, kind, self._sequencer.now, money, tx_hash=tx_hash))
            self._sequencer.change_figures(account.account_index)

    def check_free(self, account: Account, amount_micro: int) -> None:
        """Insist on collateral that is neither margin nor unrealised profit.

        Raises:
            VenueError: 21301.
        """
        if amount_micro > ledger.cross_risk(account, self._sequencer.markets).free_micro:
            raise VenueError(NOT_ENOUGH_COLLATERAL, "not enough collateral")

    # --- accounts ----------------------------------------------------------------------------------------------------

    def create_sub_account(self, tx: CreateSubAccountTx) -> Account:
        """Open an account of the same owner; only an owner's first account can."""
        return self.open_account(self._sequencer.account(tx.account_index), AccountType.SUB)

    def open_account(self, master: Account, kind: AccountType) -> Account:
        """Open an account below a master; indexes of these count down.

        Raises:
            VenueError: 21123.
        """
        if master.account_type != AccountType.MASTER:
            raise VenueError(INVALID_ACCOUNT_TYPE, "invalid account type")
        while self._next_sub_account in self._sequencer.accounts:
            self._next_sub_account -= 1
        index = self._next_sub_account
        opened = Account(
            index,
            master.l1_address,
            0,
            master.fee_free,
            created_at=self._sequencer.now,
            tier=master.tier,
            account_type=kind,
            master_index=master.account_index,
        )
        self._sequencer.accounts[index] = opened
        self._sequencer.change_figures(index)
        return opened


def _same_owner(one: Account, other: Account) -> bool:
    return one.l1_address.lower() == other.l1_address.lower()


def _check_asset(asset_index: int, amount: int) -> None:
    if asset_index != COLLATERAL_ASSET:
        raise VenueError(ASSET_NOT_FOUND, "asset does not exist for given index")
    if amount <= 0:
        raise VenueError(INVALID_AMOUNT, "invalid asset amount")


def _check_route(route: int) -> None:
    if route != Route.PERPS:
        raise VenueError(INVALID_ROUTE, "invalid route type")


def _check_pools(sender: Account, receiver: Account) -> None:
    """Insist that a pool takes money while it is active, and gives some only when it is frozen and without shares."""
    if sender.pool is not None and not (sender.pool.is_frozen and not sender.pool.total_shares):
        raise VenueError(INVALID_ACCOUNT_TYPE, "invalid account type")
    if receiver.pool is not None and receiver.pool.is_frozen:
        raise VenueError(INVALID_ACCOUNT_TYPE, "invalid account type")
