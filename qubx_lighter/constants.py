"""Lighter's fixed numbers: hosts, transaction types, enumerations and limits.

Sources: the SDK's ``signer_client`` for types and enumerations, the venue's API documentation for hosts and limits.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

EXCHANGE: Final = "LIGHTER"
"""The exchange name that instruments, events and snapshots carry in Qubx."""


class Network(NamedTuple):
    """Where one deployment of Lighter answers, the chain id its transactions are signed for, what positions are margined in."""

    rest_url: str
    ws_url: str
    chain_id: int
    collateral: str


NETWORKS: Final[dict[str, Network]] = {
    "mainnet": Network("https://mainnet.zklighter.elliot.ai", "wss://mainnet.zklighter.elliot.ai/stream", 304, "USDC"),
    "testnet": Network("https://testnet.zklighter.elliot.ai", "wss://testnet.zklighter.elliot.ai/stream", 300, "USDC"),
    # https://apidocs.lighter.xyz/docs/lighter-rh: an exchange of its own, with its own accounts, keys and markets
    "robinhood": Network("https://api.rh.lighter.xyz", "wss://api.rh.lighter.xyz/stream", 466_324, "USDG"),
    "robinhood-testnet": Network(
        "https://api.rh-testnet.lighter.xyz", "wss://api.rh-testnet.lighter.xyz/stream", 300, "USDG"
    ),
}
CUSTOM_NETWORK: Final = "custom"
"""Any other address: its chain id is to be given."""
LOCAL_CHAIN_ID: Final = 304
"""What the local venue signs for, unless it is told otherwise."""


class TxType(IntEnum):
    """Transaction types that this package signs."""

    CREATE_SUB_ACCOUNT = 9
    CREATE_PUBLIC_POOL = 10
    UPDATE_PUBLIC_POOL = 11
    TRANSFER = 12
    WITHDRAW = 13
    CREATE_ORDER = 14
    CANCEL_ORDER = 15
    CANCEL_ALL_ORDERS = 16
    MODIFY_ORDER = 17
    MINT_SHARES = 18
    BURN_SHARES = 19
    UPDATE_LEVERAGE = 20
    CREATE_GROUPED_ORDERS = 28
    UPDATE_MARGIN = 29


class OrderType(IntEnum):
    """Order types as the signer encodes them."""

    LIMIT = 0
    MARKET = 1
    STOP_LOSS = 2
    STOP_LOSS_LIMIT = 3
    TAKE_PROFIT = 4
    TAKE_PROFIT_LIMIT = 5
    TWAP = 6


class TimeInForce(IntEnum):
    """Times in force as the signer encodes them."""

    IOC = 0
    GTT = 1
    POST_ONLY = 2


class Grouping(IntEnum):
    """How the orders of one group hang together, as the signer encodes it."""

    ONE_TRIGGERS_THE_OTHER = 1
    ONE_CANCELS_THE_OTHER = 2
    ONE_TRIGGERS_A_ONE_CANCELS_THE_OTHER = 3


class SelfTradeBehavior(IntEnum):
    """Which order ends when an account would trade with itself, as the signer encodes it."""

    EXPIRE_MAKER = 0
    EXPIRE_TAKER = 1
    EXPIRE_BOTH = 2
    REDUCE = 3


class SelfTradeScope(IntEnum):
    """Whose orders count as one's own, as the signer encodes it."""

    ACCOUNT = 0
    MASTER_ACCOUNT = 1


class CancelAllTime(IntEnum):
    """When a cancel-all acts, as the signer encodes it."""

    IMMEDIATE = 0
    SCHEDULED = 1
    ABORT_SCHEDULED = 2


class MarginMode(IntEnum):
    """Margin modes as the signer and the account rows encode them."""

    CROSS = 0
    ISOLATED = 1


class MarginMove(IntEnum):
    """Which way isolated margin moves, as the signer encodes it."""

    REMOVE = 0
    ADD = 1


class Route(IntEnum):
    """Which of an account's two purses an amount leaves or enters, as the signer encodes it."""

    PERPS = 0
    SPOT = 1


class PoolStatus(IntEnum):
    """Whether a pool takes new money, as the signer encodes it."""

    ACTIVE = 0
    FROZEN = 1


RESOLUTIONS: Final[dict[str, int]] = {
    "1m": 60_000,
    "5m": 300_000,
    "15m": 900_000,
    "30m": 1_800_000,
    "1h": 3_600_000,
    "4h": 14_400_000,
    "12h": 43_200_000,
    "1d": 86_400_000,
}
"""The venue's candle resolutions, in ms, finest first."""

NIL_MARKET_INDEX: Final = 255
MAX_PRICE_TICKS: Final = 2**32 - 1  # uint32 in the transaction; larger values wrap silently in the native signer
MAX_BASE_LOTS: Final = 2**48 - 1
MAX_CLIENT_ORDER_INDEX: Final = 2**48 - 1  # an index at or above 2**48 is a venue order_index
MAX_MASTER_ACCOUNT_INDEX: Final = 2**47 - 1  # sub-accounts and pools count down from 2**48 - 2
MAX_NONCE: Final = 2**48 - 1
PPM: Final = 1_000_000  # fee ticks are parts per million of the notional
COLLATERAL_ASSET_ID: Final = 3  # USDC, on the Robinhood chain USDG
COLLATERAL_DECIMALS: Final = 6  # of amounts in the collateral inside transactions, on every deployment
MARGIN_FRACTION_SCALE: Final = 10_000  # initial margin fraction 10_000 = 100 % = leverage 1

MIN_ORDER_EXPIRY_MS: Final = 5 * 60 * 1000  # the venue accepts 5 minutes to 30 days ahead, else 21711
MAX_ORDER_EXPIRY_MS: Final = 30 * 24 * 3600 * 1000
DEFAULT_ORDER_EXPIRY_MS: Final = 28 * 24 * 3600 * 1000  # what the SDK substitutes for -1; the venue refuses -1 itself

MIN_CANCEL_ALL_AHEAD_S: Final = 5 * 60  # a scheduled cancel-all is 5 minutes to 15 days ahead
MAX_CANCEL_ALL_AHEAD_S: Final = 15 * 24 * 3600

RESERVED_API_KEYS: Final = range(4)
"""Indexes of the venue's own apps (https://apidocs.lighter.xyz/docs/production-checklist)."""

AUTH_TOKEN_LIFETIME_S: Final = 7 * 3600  # the venue's maximum is 8 h
AUTH_TOKEN_RENEWAL_S: Final = 6 * 3600

CODE_OK: Final = 200


class Code(IntEnum):
    """Venue error codes that this package acts on (REST bodies and WebSocket replies share them)."""

    INVALID_PARAM = 20001
    INVALID_AUTH = 20013
    ACCOUNT_NOT_FOUND = 21100
    INVALID_ACCOUNT_INDEX = 21101
    INVALID_NONCE = 21104
    INVALID_PUBLIC_KEY = 21108
    API_KEY_NOT_FOUND = 21109
    PRE_LIQUIDATION = 21111
    INVALID_SIGNATURE = 21120
    TX_NOT_FOUND = 21500
    INVALID_TX_INFO = 21501
    UNSUPPORTED_TX_TYPE = 21505
    BELOW_MAINTENANCE_MARGIN = 21507
    BELOW_INITIAL_MARGIN = 21508
    NOT_ACTIVE_LIMIT_ORDER = 21600
    INVALID_MARKET = 21602
    INVALID_MARKET_STATUS = 21605
    INVALID_BASE_AMOUNT = 21701
    INVALID_PRICE = 21702
    AMOUNT_TOO_LOW = 21706
    INVALID_EXPIRY = 21711
    NOT_ACTIVE_ORDER = 21715
    INVALID_CLIENT_ORDER_INDEX = 21727
    DUPLICATE_CLIENT_ORDER_INDEX = 21728
    REDUCE_ONLY_INCREASES = 21732
    ACCIDENTAL_PRICE = 21733
    PRICE_TOO_FAR = 21734
    REDUCE_ONLY_DIRECTION = 21738
    NOT_ENOUGH_MARGIN = 21739
    REDUCE_ONLY_MODE = 21740
    EMPTY_RANGE = 22400
    TOO_MANY_REQUESTS = 23000
    TOO_MANY_SUBSCRIPTIONS = 23001
    TOO_MANY_CONNECTIONS = 23003
    NOT_FOUND = 29404
    INTERNAL_ERROR = 29500
    PROCESS_TIMEOUT = 29501
    NOT_SUBSCRIBED = 30002
    ALREADY_SUBSCRIBED = 30003
    INVALID_CHANNEL = 30005
    TOO_MANY_MESSAGES = 30009
    TOO_MANY_IN_FLIGHT = 30010
