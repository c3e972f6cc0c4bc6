"""What the venue allows, as data: account tiers, weights of REST endpoints, costs of transactions, caps of the stream.

Source: the venue's pages "rate limits", "account types" and "volume quota program" (apidocs.lighter.xyz, July to October
2026). Every window is a rolling minute. An unauthenticated REST request counts against the IP address, an authenticated one
against the L1 address of its account, whose tier then decides. Transactions count against the L1 address, over REST and
over the stream together.

Where the pages disagree, the stricter reading holds here. For accounts of the tiers above standard, transactions have a
bucket of their own; whether a standard account's 60 transactions and its 60 requests are one bucket is said both ways, so
they are one. Each transaction of a batch counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qubx_lighter.constants import TxType

PERIOD_S: Final = 60.0
"""The window of every limit."""

# --- tiers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tier:
    """What an account type may do in any minute.

    Attributes:
        name: as settings and ``accountLimits`` spell it.
        weight: of REST requests.
        least_weight: what the lightest request weighs. A standard account has 60 requests of any weight, but no more of a
            heavy one than 24,000 of weight allow, which is the same as 24,000 where nothing weighs less than 400.
        transactions: of all sub-accounts together.
        shares_window: whether requests and transactions are one window.
        has_quota: whether orders use up a volume quota.
    """

    name: str
    weight: int
    least_weight: int
    transactions: int
    shares_window: bool = False
    has_quota: bool = False

    def request_weight(self, endpoint: str) -> int:
        """Give what a request weighs; ``endpoint`` is what follows ``/api/v1/`` in its path."""
        return max(self.least_weight, _WEIGHTS.get(endpoint, OTHER_WEIGHT))


STANDARD_REQUESTS: Final = 60
_STANDARD_WEIGHT: Final = 24_000

STANDARD: Final = Tier("standard", _STANDARD_WEIGHT, _STANDARD_WEIGHT // STANDARD_REQUESTS, 60, shares_window=True)
"""Of an account without a tier, of an address without an account, and of whom nothing is known."""

TIERS: Final = {
    tier.name: tier
    for tier in (
        STANDARD,
        Tier("premium", 24_000, 0, 4_000, has_quota=True),
        Tier("plus", 120_000, 0, 8_000, has_quota=True),
        Tier("builder", 240_000, 0, 60),  # reads alone: for transactions the limits of a standard account apply
    )
}
"""By name."""

PREMIUM_TRANSACTIONS: Final = (
    (500_000, 40_000),
    (300_000, 24_000),
    (100_000, 12_000),
    (30_000, 8_000),
    (10_000, 7_000),
    (3_000, 6_000),
    (1_000, 5_000),
)
"""Staked LIT, and the transactions in any minute that a premium account with so much has, the largest first."""


def tier_of(name: str, staked_lit: float = 0.0) -> Tier | None:
    """Find a tier by its name in ``accountLimits``, a premium one by its stake; None for a name that is not known."""
    tier = TIERS.get(name.strip().lower())
    if tier is None or tier.name != "premium":
        return tier
    transactions = next((most for stake, most in PREMIUM_TRANSACTIONS if staked_lit >= stake), tier.transactions)
    return Tier(tier.name, tier.weight, tier.least_weight, transactions, has_quota=True)


# --- REST ------------------------------------------------------------------------------------------------------------

OTHER_WEIGHT: Final = 300
"""Of every endpoint that the venue does not list."""

_WEIGHTS: Final = {
    "nextNonce": 6,
    "publicPools": 50,
    "txFromL1TxHash": 50,
    "accountInactiveOrders": 100,
    "deposit/latest": 100,
    "apikeys": 150,
    "transferFeeInfo": 500,
    "trades": 600,
    "recentTrades": 600,
    "changeAccountTier": 3_000,
    "tokens": 3_000,
    "tokens/revoke": 3_000,
    "setAccountMetadata": 3_000,
    "notification/ack": 3_000,
    "createIntentAddress": 3_000,
    "fastwithdraw": 3_000,
    "tokens/create": 23_000,
}
LISTED_ENDPOINTS: Final = tuple(_WEIGHTS)
"""Those with a weight of their own. ``sendTx`` and ``sendTxBatch`` are no requests here but transactions."""

# --- transactions ----------------------------------------------------------------------------------------------------

FREE_TRANSACTION_S: Final = 15.0
"""As often a transaction is taken without using up volume quota, which is all that is left of an empty one."""

LEVERAGE_CHANGES: Final = 40
"""Changes of leverage or margin mode in any minute."""

QUOTA_AT_START: Final = 1_000
QUOTA_MAX: Final = 5_000_000
QUOTA_USD: Final = 5
"""How much must be traded for one more transaction; former editions of the page say 10, 7 and 3."""

_QUOTA_TYPES: Final = frozenset(
    {TxType.CREATE_ORDER, TxType.MODIFY_ORDER, TxType.CANCEL_ALL_ORDERS, TxType.CREATE_GROUPED_ORDERS}
)
QUOTA_REFUSAL: Final = "volume quota"
"""What the text of error 23000 holds where it is the quota: ``Too Many Requests!: Not enough volume quota``."""
QUOTA_UNUSED: Final = "didn't use volume quota"
"""What the message of an accepted transaction holds that used none; it is no error."""


def quota_cost(tx_type: int) -> int:
    """Give how much volume quota a transaction uses up; a cancel of one order uses none."""
    return int(tx_type in _QUOTA_TYPES)


# --- the stream, by IP address ---------------------------------------------------------------------------------------

MESSAGES: Final = 200
"""Written by clients in any minute, pings too, transactions not."""
IN_FLIGHT: Final = 50
"""Written and not answered."""
SUBSCRIPTIONS: Final = 500
"""Of one connection."""
ADDRESS_SUBSCRIPTIONS: Final = 5_000
CONNECTIONS: Final = 255
"""At a time, and new ones in any minute."""
