"""What the venue tells about money and accounts beside trading: assets, transfers, sub-accounts, pools, limits.

Amounts are decimals, exactly as the venue writes them. Every field that a release of the venue may leave out has a default.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

_ZERO = Decimal(0)


class Asset(msgspec.Struct, frozen=True):
    """One row of ``assetDetails``: ``decimals`` are those of its amounts inside transactions."""

    asset_id: int
    symbol: str
    decimals: int
    l1_decimals: int = 0
    min_transfer_amount: Decimal = _ZERO
    min_withdrawal_amount: Decimal = _ZERO
    margin_mode: str = ""


class AssetsBody(msgspec.Struct):
    """``GET /api/v1/assetDetails``."""

    asset_details: list[Asset] | None = None


class TransferFeeBody(msgspec.Struct):
    """``GET /api/v1/transferFeeInfo``: in millionths of the collateral."""

    transfer_fee_usdc: int


class WithdrawalDelayBody(msgspec.Struct):
    """``GET /api/v1/withdrawalDelay``."""

    seconds: int


class FastWithdrawalInfo(msgspec.Struct, frozen=True):
    """``GET /api/v1/fastwithdraw/info``: which account pays out, and how much; in the collateral."""

    to_account_index: int
    withdraw_limit: Decimal = _ZERO
    max_withdrawal_amount: Decimal = _ZERO


class SubAccount(msgspec.Struct, frozen=True):
    """One account of an owner; ``account_type`` 0 is the first, 1 a sub-account, 2 a pool."""

    index: int
    l1_address: str = ""
    account_type: int = 0
    account_trading_mode: int = 0  # 1: spot and perpetuals share one purse
    status: int = 1
    collateral: Decimal = _ZERO
    available_balance: Decimal = _ZERO
    total_order_count: int = 0


class SubAccountsBody(msgspec.Struct):
    """``GET /api/v1/accountsByL1Address``."""

    sub_accounts: list[SubAccount] | None = None
    next_cursor: str | None = None


class AccountLimits(msgspec.Struct, frozen=True):
    """``GET /api/v1/accountLimits``: the tier, and what comes with it; fees in ppm of the notional."""

    user_tier: str = ""
    user_tier_name: str = ""
    can_create_public_pool: bool = False
    current_maker_fee_tick: int = 0
    current_taker_fee_tick: int = 0
    max_llp_percentage: int = 0
    max_llp_amount: Decimal = _ZERO
    effective_lit_stakes: str = ""
    leased_lit: str = ""
    user_tier_last_update: int | None = None


class Deposit(msgspec.Struct, frozen=True):
    """One deposit; ``status`` failed, pending, completed or claimable."""

    id: str
    asset_id: int
    amount: Decimal
    timestamp: int  # told apart by magnitude
    status: str
    l1_tx_hash: str = ""


class DepositsBody(msgspec.Struct):
    """``GET /api/v1/deposit/history``."""

    deposits: list[Deposit] | None = None
    next_cursor: str = msgspec.field(name="cursor", default="")


class Withdrawal(msgspec.Struct, frozen=True):
    """One withdrawal; ``status`` failed, pending, claimable, refunded or completed, ``type`` secure or fast."""

    id: str
    asset_id: int
    amount: Decimal
    timestamp: int
    status: str
    type: str = ""
    l1_tx_hash: str = ""


class WithdrawalsBody(msgspec.Struct):
    """``GET /api/v1/withdraw/history``."""

    withdraws: list[Withdrawal] | None = None
    next_cursor: str = msgspec.field(name="cursor", default="")


class Transfer(msgspec.Struct, frozen=True):
    """One movement of money between accounts or purses; ``type`` as the venue names it, ``L2TransferOutflow`` say."""

    id: str
    asset_id: int
    amount: Decimal
    timestamp: int
    type: str
    from_account_index: int = 0
    to_account_index: int = 0
    from_route: str = ""
    to_route: str = ""
    fee: Decimal = _ZERO
    tx_hash: str = ""
    from_l1_address: str = ""
    to_l1_address: str = ""


class TransfersBody(msgspec.Struct):
    """``GET /api/v1/transfer/history``."""

    transfers: list[Transfer] | None = None
    next_cursor: str = msgspec.field(name="cursor", default="")


class PoolShare(msgspec.Struct, frozen=True):
    """What an account holds of a pool."""

    public_pool_index: int
    shares_amount: int
    entry_usdc: Decimal = _ZERO
    principal_amount: Decimal = _ZERO


class Pool(msgspec.Struct, frozen=True):
    """One public pool; ``status`` 0 takes money, 1 is frozen; ``operator_fee`` in percent of the profit."""

    account_index: int
    name: str = ""
    l1_address: str = ""
    status: int = 0
    operator_fee: Decimal = _ZERO
    total_asset_value: Decimal = _ZERO
    total_shares: int = 0
    annual_percentage_yield: float = 0.0
    sharpe_ratio: float = 0.0
    master_account_index: int = 0
    created_at: int = 0
    account_share: PoolShare | None = None

    @property
    def share_price(self) -> Decimal | None:
        """Give what a share is worth in the collateral; None for a pool without shares."""
        return self.total_asset_value / self.total_shares if self.total_shares else None


class PoolsBody(msgspec.Struct):
    """``GET /api/v1/publicPoolsMetadata``."""

    public_pools: list[Pool] | None = None


class MakerOnlyBody(msgspec.Struct):
    """``GET /api/v1/getMakerOnlyApiKeys``."""

    api_key_indexes: list[int] | None = None
