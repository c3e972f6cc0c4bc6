"""Public pools: accounts that many put collateral in, for shares of what the pool is worth.

A share costs 0.001 at the start, and later its part of the pool's value, unrealised profit included. The operator keeps at
least a fixed part of the shares while others come in, and takes a part of the profit of each who leaves, in shares. A pool is
frozen for good when it holds nothing; then shares can only be burnt. What rounding leaves stays with the pool.
"""

from __future__ import annotations

from typing import Final

from qubx_lighter.constants import PPM
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.accounts import ledger
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.accounts.margin import Health, Risk
from qubx_lighter.sim.exchange.transfers import Treasury
from qubx_lighter.sim.model.records import AccountType, Pool, PoolShare
from qubx_lighter.sim.model.transactions import BurnSharesTx, CreatePublicPoolTx, MintSharesTx, UpdatePublicPoolTx
from qubx_lighter.sim.orders.state import VenueState

SHARE_MICRO: Final = 1_000
MOST_SHARES: Final = 2**60 - 1
MOST_POOLS: Final = 16  # that one account holds shares of

INVALID_POOL: Final = 21200
INVALID_OPERATOR_FEE: Final = 21201
INVALID_STATUS: Final = 21202
FROZEN: Final = 21203
INVALID_INITIAL_SHARES: Final = 21204
INVALID_SHARE_RATE: Final = 21205
TOO_MANY_POOLS: Final = 21206
NOT_ENOUGH_SHARES: Final = 21207
OPERATOR_BELOW_MINIMUM: Final = 21208
INVALID_MINT_AMOUNT: Final = 21209
INVALID_BURN_AMOUNT: Final = 21210
INVALID_UPDATE: Final = 21213
NOT_THE_MASTER: Final = 21215
IN_LIQUIDATION: Final = 21216
HAS_POSITIONS: Final = 21220
HAS_ORDERS: Final = 21221
NO_SHARES: Final = 21222

_RATE_SCALE: Final = 10_000
_LEAST_INITIAL: Final = 1_000_000  # 1,000 of collateral
_MOST_INITIAL: Final = 10**12


class Pools:
    """What can be done with pools.

    Args:
        state: the venue's.
        treasury: moves the collateral.
    """

    def __init__(self, state: VenueState, treasury: Treasury) -> None:
        self._state = state
        self._treasury = treasury

    def create(self, tx: CreatePublicPoolTx, tx_hash: str) -> Account:
        """Open a pool, whose first shares its operator buys.

        Raises:
            VenueError: 21123, 21201, 21204, 21205 or 21301.
        """
        master = self._state.account(tx.account_index)
        if not 0 <= tx.operator_fee <= PPM:
            raise VenueError(INVALID_OPERATOR_FEE, "invalid operator fee")
        if not _LEAST_INITIAL <= tx.initial_total_shares <= _MOST_INITIAL:
            raise VenueError(INVALID_INITIAL_SHARES, "invalid pool initial usdc amount")
        _check_rate(tx.min_operator_share_rate)
        cost = tx.initial_total_shares * SHARE_MICRO
        self._treasury.check_free(master, cost)
        account = self._treasury.open_account(master, AccountType.PUBLIC_POOL)
        shares = tx.initial_total_shares
        account.pool = Pool(tx.operator_fee, tx.min_operator_share_rate, total_shares=shares, operator_shares=shares)
        self._treasury.move(master, account, "CreatePublicPool", cost, tx_hash)
        return account

    def update(self, tx: UpdatePublicPoolTx) -> None:
        """Lower the fee, change the operator's part, or freeze a pool that holds nothing.

        Raises:
            VenueError: 21200, 21201, 21202, 21205, 21208, 21213, 21215, 21220 or 21221.
        """
        account, pool = self._pool(tx.public_pool_index)
        if account.master_index != tx.account_index:
            raise VenueError(NOT_THE_MASTER, "only master account can update public pool")
        if tx.status not in (0, 1):
            raise VenueError(INVALID_STATUS, "invalid public pool status")
        if pool.is_frozen:
            raise VenueError(INVALID_UPDATE, "invalid update public pool status")
        if not 0 <= tx.operator_fee <= pool.operator_fee_ppm:
            raise VenueError(INVALID_OPERATOR_FEE, "invalid operator fee")
        _check_rate(tx.min_operator_share_rate)
        if tx.status:
            self._check_empty(account)
        _check_operator(pool.total_shares, pool.operator_shares, tx.min_operator_share_rate)
        pool.is_frozen, pool.operator_fee_ppm = bool(tx.status), tx.operator_fee
        pool.min_operator_share_rate = tx.min_operator_share_rate

    def _check_empty(self, account: Account) -> None:
        if any(row.lots for row in account.positions.values()):
            raise VenueError(HAS_POSITIONS, "public pool has open positions")
        if account.orders:
            raise VenueError(HAS_ORDERS, "public pool has active orders")

    def mint(self, tx: MintSharesTx, tx_hash: str) -> None:
        """Put collateral in for new shares.

        Raises:
            VenueError: 21200, 21203, 21206, 21208, 21209, 21216, 21222 or 21301.
        """
        investor = self._state.account(tx.account_index)
        account, pool = self._pool(tx.public_pool_index)
        if pool.is_frozen:
            raise VenueError(FROZEN, "public pool is frozen, only burning is allowed")
        if tx.share_amount <= 0 or pool.total_shares + tx.share_amount > MOST_SHARES:
            raise VenueError(INVALID_MINT_AMOUNT, "invalid mint share amount")
        value = self._healthy(account).value_micro
        if value <= 0:
            raise VenueError(NO_SHARES, "public pool has no shares")
        cost = -(-value * tx.share_amount // self._total(pool))
        is_operator = investor.account_index == account.master_index
        if not is_operator:
            new_total = pool.total_shares + tx.share_amount
            _check_operator(new_total, pool.operator_shares, pool.min_operator_share_rate)
            if tx.public_pool_index not in investor.shares and len(investor.shares) >= MOST_POOLS:
                raise VenueError(TOO_MANY_POOLS, "too many invested public pools")
        self._treasury.check_free(investor, cost)
        pool.total_shares += tx.share_amount
        if is_operator:
            pool.operator_shares += tx.share_amount
        else:
            share = investor.shares.setdefault(tx.public_pool_index, PoolShare())
            share.shares += tx.share_amount
            share.principal_micro += cost
            share.entered_at = self._state.now
        self._treasury.move(investor, account, "MintShares", cost, tx_hash)

    def burn(self, tx: BurnSharesTx, tx_hash: str) -> None:
        """Take collateral out for shares; the operator keeps a part of an investor's profit, in shares.

        Raises:
            VenueError: 21200, 21207, 21208, 21210, 21216 or 21222.
        """
        investor = self._state.account(tx.account_index)
        account, pool = self._pool(tx.public_pool_index)
        is_operator = investor.account_index == account.master_index
        share = investor.shares.get(tx.public_pool_index)
        held = pool.operator_shares if is_operator else share.shares if share is not None else 0
        if tx.share_amount <= 0:
            raise VenueError(INVALID_BURN_AMOUNT, "invalid burn share amount")
        risk, total = self._healthy(account), self._total(pool)
        worth = risk.value_micro * tx.share_amount // total
        if tx.share_amount > held or worth > risk.free_micro:
            raise VenueError(NOT_ENOUGH_SHARES, "insufficient available shares")
        if is_operator and not pool.is_frozen:
            _check_operator(total - tx.share_amount, held - tx.share_amount, pool.min_operator_share_rate)
        kept = 0
        if share is not None and not is_operator:
            principal = share.principal_micro * tx.share_amount // held
            profit = max(worth - principal, 0)
            kept = profit * pool.operator_fee_ppm * total // (PPM * risk.value_micro) if risk.value_micro else 0
            share.shares -= tx.share_amount
            share.principal_micro -= principal
            if not share.shares:
                del investor.shares[tx.public_pool_index]
        burnt = tx.share_amount - kept
        pool.total_shares -= burnt
        pool.operator_shares += kept - (burnt if is_operator else 0)
        self._treasury.move(account, investor, "BurnShares", risk.value_micro * burnt // total, tx_hash)

    def _pool(self, pool_index: int) -> tuple[Account, Pool]:
        account = self._state.accounts.get(pool_index)
        if account is None or account.pool is None:
            raise VenueError(INVALID_POOL, "invalid public pool index")
        return account, account.pool

    def _healthy(self, account: Account) -> Risk:
        risk = ledger.cross_risk(account, self._state.markets)
        if risk.health >= Health.PARTIAL_LIQUIDATION:
            raise VenueError(IN_LIQUIDATION, "public pool is in liquidation")
        return risk

    @staticmethod
    def _total(pool: Pool) -> int:
        if not pool.total_shares:
            raise VenueError(NO_SHARES, "public pool has no shares")
        return pool.total_shares


def _check_rate(rate: int) -> None:
    if not 0 <= rate <= _RATE_SCALE:
        raise VenueError(INVALID_SHARE_RATE, "invalid min operator share rate")


def _check_operator(total_shares: int, operator_shares: int, rate: int) -> None:
    """Insist on the operator's part of the shares."""
    if total_shares * rate > operator_shares * _RATE_SCALE:
        raise VenueError(OPERATOR_BELOW_MINIMUM, "owner drops below minimum ownership")
