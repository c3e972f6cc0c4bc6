"""Money that moves without trading: deposits, withdrawals, transfers, and the accounts that it moves between.

What comes over the bridge from the chain, and what leaves, is counted: all that is inside is always that much. A withdrawal leaves the account at once, and can be claimed on the chain after the venue's delay. A transfer between
accounts of one owner is free; one to somebody else costs a fee, takes the owner's signature on the chain as well, which is
not verified here, and has a minimum. The amounts of minimums, fee and delay are this venue's own.

Codes are the venue's; which of them it gives where is documented for few, and otherwise follows their names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from qubx_lighter.constants import Code, Route
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.accounts import ledger, purses
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.model.records import BRIDGE_DEPOSIT, BRIDGE_WITHDRAWAL, AccountType, Money, MoneyMove
from qubx_lighter.sim.model.specs import COLLATERAL_ASSET, AssetSpec
from qubx_lighter.sim.model.transactions import CreateSubAccountTx, TransferTx, WithdrawTx
from qubx_lighter.sim.orders.state import VenueState

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
NOT_ENOUGH_BALANCE: Final = 21304
NOT_ENOUGH_FOR_FEE: Final = 21305
L1_SIGNATURE: Final = 21504
ASSET_NOT_FOUND: Final = 21804

_FIRST_SUB_ACCOUNT: Final = 2**48 - 3  # the one above is the venue's liquidity pool
_POOLS: Final = (AccountType.PUBLIC_POOL, AccountType.INSURANCE_FUND)


class Treasury:
    """Move money, and keep the accounts' records of it.

    Args:
        state: the venue's.
        assets: the venue's, by id.

    Attributes:
        bridged: what came from the chain less what went there, by asset id, in units.
    """

    def __init__(self, state: VenueState, assets: Mapping[int, AssetSpec]) -> None:
        self.bridged: Counter[int] = Counter()
        self._state = state
        self._assets = assets
        self._last_id = 0
        self._next_sub_account = _FIRST_SUB_ACCOUNT

    # --- the bridge --------------------------------------------------------------------------------------------------

    def fund(self, account: Account) -> None:
        """Count what a new account is opened with as its first deposit."""
        self._bridge(account, COLLATERAL_ASSET, account.collateral_micro, Route.PERPS)

    def deposit(self, account: Account, amount_micro: int) -> None:
        """Add collateral, or (negative) take some out at once, as far as margin goes.

        Raises:
            VenueError: 21508.
        """
        risk = ledger.cross_risk(account, self._state.markets)
        if amount_micro < 0 and risk.value_micro - risk.initial_micro + amount_micro < 0:
            raise VenueError(Code.BELOW_INITIAL_MARGIN, "account would be below initial margin")
        account.collateral_micro += amount_micro
        self._bridge(account, COLLATERAL_ASSET, amount_micro, Route.PERPS)

    def deposit_asset(self, account: Account, asset_id: int, units: int) -> None:
        """Add to a spot balance, or take from its free part.

        Raises:
            VenueError: 20001 or 21739.
        """
        if asset_id not in self._assets:
            raise VenueError(Code.INVALID_PARAM, "invalid asset id")
        if purses.free_units(account, self._state.markets, asset_id) + units < 0:
            raise VenueError(Code.NOT_ENOUGH_MARGIN, "not enough balance")
        if units >= 0:
            purses.give(account, asset_id, units)
        else:
            purses.take(account, asset_id, -units)
        self._bridge(account, asset_id, units, Route.SPOT)

    def withdraw(self, tx: WithdrawTx, tx_hash: str) -> None:
        """Let an asset leave for the chain.

        Raises:
            VenueError: 21116, 21124, 21127, 21300, 21301, 21304 or 21804.
        """
        account = self._state.account(tx.account_index)
        self._check_asset(tx.asset_index, tx.amount)
        _check_route(tx.route_type, tx.asset_index)
        if account.account_type in _POOLS:
            raise VenueError(WITHDRAWAL_FROM_POOL, "withdrawal from public pool is not allowed")
        if tx.amount < least_withdrawal(tx.asset_index):
            raise VenueError(WITHDRAWAL_TOO_LOW, "withdrawal amount is too small")
        self._check_there(account, tx.asset_index, tx.route_type, tx.amount)
        _add(account, tx.asset_index, tx.route_type, -tx.amount)
        self._bridge(account, tx.asset_index, -tx.amount, tx.route_type, tx_hash)

    def _bridge(self, account: Account, asset_id: int, units: int, route: int, tx_hash: str = "") -> None:
        if not units:
            return
        self.bridged[asset_id] += units
        index = account.account_index
        money = Money(asset_id, abs(units), index, index, route, route)
        self._remember(account, BRIDGE_DEPOSIT if units > 0 else BRIDGE_WITHDRAWAL, money, tx_hash)

    def _remember(self, account: Account, kind: str, money: Money, tx_hash: str) -> None:
        self._last_id += 1
        account.moves.append(MoneyMove(self._last_id, kind, self._state.now, money, tx_hash))
        self._state.change_figures(account.account_index)
        if Route.SPOT in (money.from_route, money.to_route):
            self._state.change_balances(account.account_index)

    # --- between accounts --------------------------------------------------------------------------------------------

    def fee_micro(self, sender: Account, to_account_index: int | None) -> int:
        """Give what a transfer costs: nothing to an account of the same owner."""
        receiver = self._state.accounts.get(to_account_index) if to_account_index is not None else None
        return 0 if receiver is not None and _same_owner(sender, receiver) else TRANSFER_FEE_MICRO

    def transfer(self, tx: TransferTx, tx_hash: str) -> None:
        """Move an asset to another account, or to the other purse of its own.

        Raises:
            VenueError: 21106, 21118, 21123, 21124, 21134, 21300, 21301, 21304, 21305, 21504 or 21804.
        """
        sender, receiver = self._state.account(tx.account_index), self._receiver(tx)
        self._check_asset(tx.asset_index, tx.amount)
        for route in (tx.from_route_type, tx.to_route_type):
            _check_route(route, tx.asset_index)
        _check_pools(sender, receiver, tx)
        if not _same_owner(sender, receiver):
            if not tx.l1_sig:
                raise VenueError(L1_SIGNATURE, "fail to l1 signature")
            if tx.amount < least_transfer(tx.asset_index):
                raise VenueError(TRANSFER_TOO_LOW, "transfer amount is too small")
        if tx.usdc_fee < self.fee_micro(sender, tx.to_account_index):
            raise VenueError(INVALID_FEE, "invalid fee")
        in_kind = tx.usdc_fee if tx.asset_index == COLLATERAL_ASSET else 0
        self._check_there(sender, tx.asset_index, tx.from_route_type, tx.amount + in_kind)
        if tx.usdc_fee > self._free(sender, COLLATERAL_ASSET, tx.from_route_type):
            raise VenueError(NOT_ENOUGH_FOR_FEE, "not enough asset balance for fee")
        _add(sender, COLLATERAL_ASSET, tx.from_route_type, -tx.usdc_fee)
        self._state.fees_micro += tx.usdc_fee
        money = Money(
            tx.asset_index,
            tx.amount,
            sender.account_index,
            receiver.account_index,
            tx.from_route_type,
            tx.to_route_type,
            tx.usdc_fee,
        )
        self._move(sender, receiver, "Transfer", money, tx_hash)

    def _receiver(self, tx: TransferTx) -> Account:
        """Find who gets it; an account moves between its own purses only where it has two."""
        receiver = self._state.accounts.get(tx.to_account_index)
        itself = receiver is not None and tx.to_account_index == tx.account_index
        one_purse = tx.from_route_type == tx.to_route_type
        if receiver is None or (itself and (one_purse or purses.is_shared(receiver, tx.asset_index))):
            raise VenueError(INVALID_TO_ACCOUNT, "invalid ToAccount")
        return receiver

    def move(self, sender: Account, receiver: Account, what: str, amount_micro: int, tx_hash: str) -> None:
        """Move collateral that is there, and let both sides remember it.

        Args:
            sender: whose.
            receiver: whose it is then.
            what: why, as the venue's types name it: ``MintShares``.
            amount_micro: how much.
            tx_hash: of the transaction.
        """
        money = Money(COLLATERAL_ASSET, amount_micro, sender.account_index, receiver.account_index)
        self._move(sender, receiver, what, money, tx_hash)

    def _move(self, sender: Account, receiver: Account, what: str, money: Money, tx_hash: str) -> None:
        _add(sender, money.asset_id, money.from_route, -money.units)
        _add(receiver, money.asset_id, money.to_route, money.units)
        if sender is receiver:
            self._remember(sender, f"L2Self{what}", money, tx_hash)
            return
        for account, way in ((sender, "Outflow"), (receiver, "Inflow")):
            self._remember(account, f"L2{what}{way}", money, tx_hash)

    # --- what is there -----------------------------------------------------------------------------------------------

    def check_free(self, account: Account, amount_micro: int) -> None:
        """Insist on collateral that may be taken out.

        Raises:
            VenueError: 21301.
        """
        self._check_there(account, COLLATERAL_ASSET, Route.PERPS, amount_micro)

    def _check_there(self, account: Account, asset_id: int, route: int, units: int) -> None:
        if units <= self._free(account, asset_id, route):
            return
        if route == Route.PERPS:
            raise VenueError(NOT_ENOUGH_COLLATERAL, "not enough collateral")
        raise VenueError(NOT_ENOUGH_BALANCE, "not enough asset balance")

    def _free(self, account: Account, asset_id: int, route: int) -> int:
        markets = self._state.markets
        if route == Route.PERPS:
            return purses.free_collateral_micro(account, markets)
        return purses.free_units(account, markets, asset_id)

    def _check_asset(self, asset_id: int, units: int) -> None:
        if asset_id not in self._assets:
            raise VenueError(ASSET_NOT_FOUND, "asset does not exist for given index")
        if units <= 0:
            raise VenueError(INVALID_AMOUNT, "invalid asset amount")

    # --- accounts ----------------------------------------------------------------------------------------------------

    def create_sub_account(self, tx: CreateSubAccountTx) -> Account:
        """Open an account of the same owner; only an owner's first account can."""
        return self.open_account(self._state.account(tx.account_index), AccountType.SUB)

    def open_account(self, master: Account, kind: AccountType) -> Account:
        """Open an account below a master; indexes of these count down.

        Raises:
            VenueError: 21123.
        """
        if master.account_type != AccountType.MASTER:
            raise VenueError(INVALID_ACCOUNT_TYPE, "invalid account type")
        while self._next_sub_account in self._state.accounts:
            self._next_sub_account -= 1
        index = self._next_sub_account
        opened = Account(
            index,
            master.l1_address,
            0,
            master.fee_free,
            created_at=self._state.now,
            tier=master.tier,
            account_type=kind,
            master_index=master.account_index,
        )
        self._state.accounts[index] = opened
        self._state.change_figures(index)
        return opened


def _same_owner(one: Account, other: Account) -> bool:
    return one.l1_address.lower() == other.l1_address.lower()


def _check_route(route: int, asset_id: int) -> None:
    """Insist on a purse that there is; only the collateral asset has one of positions."""
    if route not in Route or (route == Route.PERPS and asset_id != COLLATERAL_ASSET):
        raise VenueError(INVALID_ROUTE, "invalid route type")


def _add(account: Account, asset_id: int, route: int, units: int) -> None:
    """Add to one of an account's purses, or take away what is there."""
    if route == Route.PERPS:
        account.collateral_micro += units
    elif units >= 0:
        purses.give(account, asset_id, units)
    else:
        purses.take(account, asset_id, -units)


def least_transfer(asset_id: int) -> int:
    """Give the least amount that goes to somebody else, in units."""
    return LEAST_TRANSFER_MICRO if asset_id == COLLATERAL_ASSET else 1


def least_withdrawal(asset_id: int) -> int:
    """Give the least amount that can be withdrawn, in units."""
    return LEAST_WITHDRAWAL_MICRO if asset_id == COLLATERAL_ASSET else 1


def _check_pools(sender: Account, receiver: Account, tx: TransferTx) -> None:
    """Insist that a pool takes collateral while it is active, and gives some only when it is frozen and without shares."""
    takes = receiver.pool is None or (not receiver.pool.is_frozen and tx.to_route_type == Route.PERPS)
    gives = sender.pool is None or (sender.pool.is_frozen and not sender.pool.total_shares)
    if not takes or not gives or (sender.pool is not None and tx.from_route_type != Route.PERPS):
        raise VenueError(INVALID_ACCOUNT_TYPE, "invalid account type")
