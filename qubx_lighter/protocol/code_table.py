"""Every error code of the venue: what it means, and what this package does about it. ``codes`` reads this table.

Codes, names and texts are facts of the venue (https://apidocs.lighter.xyz/docs/data-structures-constants-and-errors); 20xxx
and 2114x, which that page leaves out, are from captures and from other clients. The same codes answer transactions,
subscriptions and REST reads.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Final, NamedTuple


class Cause(StrEnum):
    """Why the venue refused, in terms a caller can act on."""

    INSUFFICIENT_MARGIN = "insufficient-margin"
    NOT_FILLABLE = "not-fillable"
    RATE_LIMITED = "rate-limited"
    TOO_SMALL = "too-small"
    NOT_FOUND = "not-found"
    SEQUENCE = "sequence"
    UNKNOWN = "unknown"


class Recovery(Enum):
    """What is done about a code, beside telling whoever asked; the values are the words of the documentation."""

    REJECT = "the strategy gets a rejection with the code; nothing else is to be done"
    LOOK_UP = "the order is looked up at once, and the strategy gets what became of it"
    UNCERTAIN = "nobody knows whether it was done: no event; Qubx asks for the order's status"
    RESYNC = "the next nonce is fetched, the transaction signed anew and sent again: nothing of it was executed"
    SPLIT = "a batch goes out again one by one, byte for byte the same; a single transaction is rejected"
    BACK_OFF = "a rejection, cause RATE_LIMITED; subscriptions and reads slow down"
    RELOAD_MARKETS = "a rejection; the markets are loaded anew, at most once a minute"
    HALT = "a rejection; new orders and amends stop here until the venue takes something again; one error event"
    NEW_TOKEN = "a new auth token is minted and the channel subscribed with it; a transaction is rejected"  # noqa: S105 - words
    NOTHING_THERE = "a read finds nothing; a transaction is rejected"
    UNSUBSCRIBE_FIRST = "the channel is unsubscribed, then subscribed again, since no snapshot would come"
    ALREADY_GONE = "nothing: it was to be unsubscribed"
    GIVE_UP = "the channel is not asked for again"
    ANOTHER_CONNECTION = "the channel moves to another connection"
    FEWER_CONNECTIONS = "the next connection waits"
    TRY_AGAIN = "the subscription is sent again after the wait for its answer"


class Refusal(NamedTuple):
    """One error code.

    Attributes:
        code: the number; 0 for one that the table does not have.
        name: the venue's name for it, without ``AppErr``; empty where none is published.
        text: the venue's text.
        cause: why, in terms a caller can act on.
        recovery: what is done about it.
    """

    code: int
    name: str = ""
    text: str = ""
    cause: Cause = Cause.UNKNOWN
    recovery: Recovery = Recovery.REJECT

    @property
    def nonce_consumed(self) -> bool | None:
        """Tell whether a transaction so answered consumed its nonce; None when the code leaves that open."""
        return None if self.recovery is Recovery.UNCERTAIN else False

    @property
    def is_auth(self) -> bool:
        """Tell whether the account, its key or a token is at fault: the same transaction would fail again."""
        return self.recovery in (Recovery.HALT, Recovery.NEW_TOKEN)

    @property
    def look_up(self) -> bool:
        """Tell whether the order may be at the venue in spite of the refusal."""
        return self.recovery in (Recovery.LOOK_UP, Recovery.UNCERTAIN)


_C = Cause
_R = Recovery

TABLE: Final[dict[str, tuple[Refusal, ...]]] = {
    "Requests": (
        Refusal(20001, "InvalidParam", "invalid param"),
        Refusal(20009, "", "invalid cursor"),
        Refusal(20013, "", "invalid auth", recovery=_R.NEW_TOKEN),
        Refusal(20558, "", "restricted jurisdiction", recovery=_R.HALT),
    ),
    "Account and key": (
        Refusal(21100, "AccountNotFound", "account not found", recovery=_R.HALT),
        Refusal(21101, "AccountNonceNotFound", "account nonce not found", recovery=_R.HALT),
        Refusal(21102, "InvalidAccountIndex", "invalid account index", recovery=_R.HALT),
        Refusal(21103, "InvalidAccountL1Address", "invalid account l1 address", recovery=_R.HALT),
        Refusal(21104, "InvalidNonce", "invalid nonce", _C.SEQUENCE, _R.RESYNC),
        Refusal(21105, "NonIncreasingNonce", "batch transaction nonce is not increasing", _C.SEQUENCE, _R.SPLIT),
        Refusal(21106, "AccountInvalidToAccount", "invalid ToAccount"),
        Refusal(21107, "InvalidAccount", "invalid account"),
        Refusal(21108, "InvalidPublicKey", "invalid PublicKey,please run changePubKey", recovery=_R.HALT),
        Refusal(21109, "ApiKeyNotFound", "api key not found", recovery=_R.HALT),
        Refusal(21110, "InvalidApiKeyIndex", "invalid api key index", recovery=_R.HALT),
        Refusal(
            21111,
            "PreLiquidation",
            "account is in pre-liquidation and the transaction doesn't increase the account health",
            _C.INSUFFICIENT_MARGIN,
        ),
        Refusal(21112, "AccountIsInLiquidation", "account is in liquidation", _C.INSUFFICIENT_MARGIN),
        Refusal(21113, "InvalidInitialMarginFraction", "invalid initial margin fraction"),
        Refusal(21114, "FaultyLiquidation", "account value is over maintenance margin, can't activate liquidation"),
        Refusal(21116, "WithdrawalAmountTooLow", "withdrawal amount is too small", _C.TOO_SMALL),
        Refusal(21117, "WithdrawalAmountTooHigh", "withdrawal amount is too high"),
        Refusal(21118, "TransferAmountTooLow", "transfer amount is too small", _C.TOO_SMALL),
        Refusal(21119, "TransferAmountTooHigh", "transfer amount is too high"),
        Refusal(21120, "InvalidSignature", "invalid signature", recovery=_R.HALT),
        Refusal(
            21121,
            "BatchTxMultipleOwner",
            "all transactions in the batch must have use same account and apikey",
            recovery=_R.SPLIT,
        ),
        Refusal(21122, "DeadMansSwitchShouldBeTriggered", "dead man's switch should be triggered"),
        Refusal(21123, "InvalidAccountType", "invalid account type"),
        Refusal(21124, "InvalidRouteType", "invalid route type"),
        Refusal(21125, "WitnessNotFound", "witness not found"),
        Refusal(21126, "AccountHasZeroCollateral", "Account with zero collateral can't change PublicKey"),
        Refusal(21127, "WithdrawalFromPublicPool", "withdrawal from public pool is not allowed"),
        Refusal(21128, "InvalidMasterAccountIndex", "invalid master account index"),
        Refusal(21129, "TooManySubAccounts", "too many sub accounts"),
        Refusal(21130, "TooManyPublicPools", "too many public pools"),
        Refusal(21131, "InvalidL1Address", "invalid l1 address"),
        Refusal(
            21132,
            "MarginModeChangeOnActivePosition",
            "margin mode change on a market with position or open order is not allowed",
        ),
        Refusal(21133, "InvalidRiskChange", "invalid risk change"),
        Refusal(21134, "InvalidFee", "invalid fee"),
        Refusal(21135, "AssetAlreadyExist", "asset already exist for given index"),
        Refusal(
            21136, "PublicKeyUpdateSdk", "invalid PublicKey, update the sdk to the latest version", recovery=_R.HALT
        ),
        Refusal(21137, "RestrictedWithdrawal", "Withdrawals are restricted for this asset"),
        Refusal(21138, "MaxPendingUnlocksExceeded", "maximum pending unlocks per account exceeded"),
        Refusal(21139, "NoPendingUnlocks", "no pending unlocks for the account"),
        Refusal(21140, "PendingUnlockStillWaiting", "pending unlock is still in waiting period"),
        Refusal(21141, "PendingUnlockInvalidAsset", "only LIT asset can be used for pending unlock"),
        Refusal(21146, "", "system account cannot be an integrator"),
        Refusal(21149, "", "integrator not approved"),
    ),
    "Public and staking pools": (
        Refusal(21200, "InvalidPublicPoolIndex", "invalid public pool index"),
        Refusal(21201, "InvalidOperatorFee", "invalid operator fee"),
        Refusal(21202, "InvalidPublicPoolStatus", "invalid public pool status"),
        Refusal(21203, "PublicPoolIsFrozen", "public pool is frozen, only burning is allowed"),
        Refusal(21204, "PoolInitialTotalSharesInvalid", "invalid pool initial usdc amount"),
        Refusal(21205, "InvalidMinOperatorShareRate", "invalid min operator share rate"),
        Refusal(21206, "TooManyInvestedPublicPools", "too many invested public pools"),
        Refusal(21207, "InsufficientAvailableShares", "insufficient available shares"),
        Refusal(21208, "OwnerDropsBelowMinimumOwnership", "owner drops below minimum ownership"),
        Refusal(21209, "InvalidMintShareAmount", "invalid mint share amount"),
        Refusal(21210, "InvalidBurnShareAmount", "invalid burn share amount"),
        Refusal(21211, "ShareUSDCAmountTooHigh", "burnt share usdc amount is too high"),
        Refusal(21212, "EntryUSDCAmountTooHigh", "entry usdc amount is too high"),
        Refusal(21213, "InvalidUpdatePublicPoolStatus", "invalid update public pool status"),
        Refusal(21214, "InvalidPoolPositionToTransfer", "invalid pool position to transfer"),
        Refusal(21215, "InvalidMasterAccount", "only master account can update public pool"),
        Refusal(21216, "PoolInLiquidation", "public pool is in liquidation"),
        Refusal(21217, "PoolReachedMaximumInvestedPools", "public pool reached maximum invested pools"),
        Refusal(21218, "PoolCreationDisabled", "pool creation is disabled"),
        Refusal(21219, "MaxLLPPercentageExceeded", "max llp percentage exceeded"),
        Refusal(21220, "PublicPoolHasOpenPositions", "public pool has open positions"),
        Refusal(21221, "PublicPoolHasActiveOrders", "public pool has active orders"),
        Refusal(21222, "PoolHasNoShares", "public pool has no shares"),
        Refusal(21223, "MaxLLPAmountExceeded", "max llp amount exceeded"),
        Refusal(21224, "StakingPoolIsFrozen", "staking pool is frozen, only burning is allowed"),
        Refusal(21225, "InvalidStakingPoolIndex", "invalid staking pool index"),
        Refusal(21226, "EntryStakedAmountTooHigh", "entry staked amount is too high"),
        Refusal(21227, "ShareLITAmountTooHigh", "burnt share lit amount is too high"),
        Refusal(21228, "InsufficientAvailableStakingShares", "insufficient available staking shares"),
        Refusal(21229, "InvalidUnstakeAmount", "invalid unstake amount"),
        Refusal(21230, "StakingPoolAlreadyInitialized", "staking pool is already initialized"),
        Refusal(21231, "MintShareAmountExceedsStakedLIT", "mint share amount exceeds staked LIT value"),
        Refusal(21232, "InvalidStakeAssetAmount", "invalid stake asset amount"),
        Refusal(21233, "InvalidUnstakeAssetAmount", "invalid unstake asset amount"),
        Refusal(21234, "LiquidityPoolCooldownPeriodNotPassed", "liquidity pool cooldown period has not passed yet"),
        Refusal(21235, "OperatorSharesCantBeForced", "operator shares can't be force burned"),
        Refusal(21236, "StakingPoolDoesNotExist", "staking pool does not exist"),
        Refusal(21237, "ForceBurnSharesExceedsStakedLIT", "force burn shares amount exceeds staked LIT value"),
    ),
    "Collateral": (
        Refusal(21300, "InvalidAssetAmount", "invalid asset amount"),
        Refusal(21301, "NotEnoughCollateral", "not enough collateral", _C.INSUFFICIENT_MARGIN),
        Refusal(21302, "InvalidReceiverAssetAmount", "invalid receiver asset amount"),
        Refusal(21303, "InvalidFeeAccountAssetAmount", "invalid fee account asset amount"),
        Refusal(21304, "NotEnoughAssetBalance", "not enough asset balance", _C.INSUFFICIENT_MARGIN),
        Refusal(21305, "NotEnoughAssetBalanceForFee", "not enough asset balance for fee", _C.INSUFFICIENT_MARGIN),
    ),
    "Blocks": (
        Refusal(21400, "BlockNotFound", "block not found"),
        Refusal(21401, "InvalidBlockHeight", "invalid block height"),
    ),
    "Transactions": (
        Refusal(21500, "TxNotFound", "transaction not found", _C.NOT_FOUND, _R.NOTHING_THERE),
        Refusal(21501, "InvalidTxInfo", "invalid tx info"),
        Refusal(21502, "MarshalTxFailed", "marshal tx failed", recovery=_R.UNCERTAIN),
        Refusal(21503, "MarshalEventsFailed", "marshal event failed", recovery=_R.UNCERTAIN),
        Refusal(21504, "FailToL1Signature", "fail to l1 signature"),
        Refusal(21505, "UnsupportedTxType", "unsupported tx type"),
        Refusal(21506, "TooManyTxs", "too many pending txs. Please try again later", _C.RATE_LIMITED, _R.BACK_OFF),
        Refusal(
            21507,
            "AccountBelowMaintenanceMargin",
            "account is below maintenance margin, can't execute transaction",
            _C.INSUFFICIENT_MARGIN,
        ),
        Refusal(
            21508,
            "AccountBelowInitialMargin",
            "account is below initial margin, can't execute transaction",
            _C.INSUFFICIENT_MARGIN,
        ),
        Refusal(21511, "InvalidTxTypeForAccount", "invalid tx type for account"),
        Refusal(21512, "InvalidL1RequestId", "invalid l1 request id"),
        Refusal(
            21513, "TxInfoTxTypeLengthMismatch", "TxInfos and TxTypes should have the same length", recovery=_R.SPLIT
        ),
        Refusal(21514, "MaxBatchTx", "maximum 50 transactions allowed per batch", recovery=_R.SPLIT),
        Refusal(21515, "CannotCreateTxOnAsset", "transaction is not allowed"),
        Refusal(
            21516, "TreasuryOutgoingTransferNotAllowed", "outgoing transfers from treasury account are not allowed"
        ),
    ),
    "Markets": (
        Refusal(21600, "InactiveCancel", "given order is not an active limit order", _C.NOT_FOUND, _R.LOOK_UP),
        Refusal(21601, "OrderBookFull", "order book is full"),
        Refusal(21602, "InvalidMarketIndex", "invalid market index", recovery=_R.RELOAD_MARKETS),
        Refusal(21603, "InvalidMinAmountsForMarket", "invalid min amounts for market"),
        Refusal(21604, "", "invalid margin fractions for market"),
        Refusal(21605, "InvalidMarketStatus", "invalid market status", recovery=_R.RELOAD_MARKETS),
        Refusal(21606, "MarketAlreadyExist", "market already exist for given index"),
        Refusal(21607, "InvalidMarketFees", "invalid market fees"),
        Refusal(21608, "InvalidQuoteMultiplier", "invalid quote multiplier"),
        Refusal(21611, "InvalidInterestRate", "invalid interest rate"),
        Refusal(21612, "InvalidOpenInterest", "invalid open interest"),
        Refusal(21613, "InvalidMarginMode", "invalid margin mode"),
        Refusal(21614, "NoPositionFound", "no position found", _C.NOT_FOUND),
        Refusal(21615, "InvalidUpdateMarginDirection", "invalid update margin direction"),
        Refusal(21616, "AssetNotExist", "asset does not exists for given index", recovery=_R.RELOAD_MARKETS),
        Refusal(21617, "InvalidCreateMarketParameters", "invalid create market parameters"),
        Refusal(21618, "InvalidOrderTypeForMarket", "invalid order type for market", recovery=_R.RELOAD_MARKETS),
        Refusal(21619, "InvalidMarketType", "invalid market type", recovery=_R.RELOAD_MARKETS),
        Refusal(21620, "InvalidFundingClamp", "invalid funding clamp"),
        Refusal(21621, "InvalidPerpsMarketIndex", "invalid perps market index", recovery=_R.RELOAD_MARKETS),
        Refusal(21622, "InvalidOrderQuoteLimit", "invalid order quote limit"),
        Refusal(21623, "InvalidOpenInterestLimit", "invalid open interest limit"),
        Refusal(21624, "InvalidMinBaseAmount", "invalid min base amount"),
        Refusal(21625, "InvalidMinQuoteAmount", "invalid min quote amount"),
        Refusal(21626, "InvalidMarginFraction", "invalid margin fraction"),
    ),
    "Orders": (
        Refusal(21700, "InvalidOrderIndex", "invalid order index", _C.NOT_FOUND),
        Refusal(21701, "InvalidBaseAmount", "invalid base amount"),
        Refusal(21702, "InvalidPrice", "invalid price"),
        Refusal(21703, "InvalidIsAsk", "invalid isAsk"),
        Refusal(21704, "InvalidOrderType", "invalid OrderType"),
        Refusal(21705, "InvalidOrderTimeInForce", "invalid OrderTimeInForce"),
        Refusal(21706, "InvalidOrderAmount", "invalid order base or quote amount", _C.TOO_SMALL),
        Refusal(21707, "InvalidOrderOwner", "account is not owner of the order", _C.NOT_FOUND),
        Refusal(21708, "EmptyOrder", "order is empty", _C.NOT_FOUND, _R.LOOK_UP),
        Refusal(21709, "InactiveOrder", "order is inactive", _C.NOT_FOUND, _R.LOOK_UP),
        Refusal(21710, "UnsupportedOrderType", "unsupported order type"),
        Refusal(21711, "InvalidOrderExpiry", "invalid expiry"),
        Refusal(21712, "AccountHasAQueuedCancelAllOrdersRequest", "account has a queued cancel all orders request"),
        Refusal(21713, "InvalidCancelAllTimeInForce", "invalid cancel all time in force"),
        Refusal(21714, "InvalidCancelAllTime", "invalid cancel all time"),
        Refusal(21715, "InctiveOrder", "given order is not an active order", _C.NOT_FOUND, _R.LOOK_UP),
        Refusal(21716, "OrderNotExpired", "order is not expired"),
        Refusal(21717, "MaxOrdersPerAccount", "maximum active limit order count reached"),
        Refusal(21718, "MaxOrdersPerAccountPerMarket", "maximum active limit order count per market reached"),
        Refusal(21719, "MaxPendingOrdersPerAccount", "maximum pending order count reached"),
        Refusal(21720, "MaxPendingOrdersPerAccountPerMarket", "maximum pending order count per market reached"),
        Refusal(21721, "MaxTWAPOrdersInExchange", "maximum twap order count reached"),
        Refusal(21722, "MaxConditionalOrdersInExchange", "maximum conditional order count reached"),
        Refusal(21723, "InvalidAccountHealth", "invalid account health", _C.INSUFFICIENT_MARGIN),
        Refusal(21724, "InvalidLiquidationSize", "invalid liquidation size"),
        Refusal(21725, "InvalidLiquidationPrice", "invalid liquidation price"),
        Refusal(21726, "InsuranceFundCannotBePartiallyLiquidated", "insurance fund cannot be partially liquidated"),
        Refusal(21727, "InvalidClientOrderIndex", "invalid client order index"),
        Refusal(21728, "ClientOrderIndexExists", "client order index already exists", recovery=_R.LOOK_UP),
        Refusal(21729, "InvalidOrderTriggerPrice", "invalid order trigger price"),
        Refusal(21730, "OrderStatusIsNotPending", "order status is not pending"),
        Refusal(21731, "PendingOrderCanNotBeTriggered", "order can not be triggered"),
        Refusal(21732, "ReduceOnlyIncreasesPosition", "reduce only increases position"),
        Refusal(21733, "FatFingerPrice", "order price flagged as an accidental price"),
        Refusal(21734, "PriceTooFarFromMarkPrice", "limit order price is too far from the mark price"),
        Refusal(21735, "PriceTooFarFromTrigger", "SL/TP order price is too far from the trigger price"),
        Refusal(21736, "InvalidOrderTriggerStatus", "invalid order trigger status"),
        Refusal(21737, "InvalidOrderStatus", "invalid order status", recovery=_R.LOOK_UP),
        Refusal(21738, "InvalidReduceOnlyDirection", "invalid reduce only direction"),
        Refusal(21739, "NotEnoughOrderMargin", "not enough margin to create the order", _C.INSUFFICIENT_MARGIN),
        Refusal(21740, "InvalidReduceOnlyMode", "invalid reduce only mode"),
        Refusal(21741, "InvalidGroupingType", "invalid grouping type"),
        Refusal(21742, "InvalidOrderGroupSize", "invalid order group size"),
        Refusal(21743, "InvalidOrderInfo", "invalid order info"),
        Refusal(21744, "InvalidAccountTypeForSpotMarket", "pools are not allowed to trade in spot markets"),
        Refusal(21745, "InvalidMarketTypeForL1Order", "only perps markets are allowed for L1 orders"),
    ),
    "Assets": (
        Refusal(21801, "InvalidAssetIndex", "invalid asset index", recovery=_R.RELOAD_MARKETS),
        Refusal(21802, "InvalidAssetMarginMode", "invalid asset margin mode"),
        Refusal(21803, "AssetAlreadyExists", "asset already exists for given index"),
        Refusal(21804, "AssetDoesNotExists", "asset does not exist for given index", recovery=_R.RELOAD_MARKETS),
        Refusal(21805, "OnlyUSDCTransferSupported", "only usdc transfer supported"),
        Refusal(21806, "InvalidExtensionMultiplier", "invalid extension multiplier"),
        Refusal(21807, "InvalidMinTransferAmount", "invalid min transfer amount"),
        Refusal(21808, "InvalidMinWithdrawalAmount", "invalid min withdrawal amount"),
        Refusal(21809, "AssetNotFound", "asset not found", recovery=_R.RELOAD_MARKETS),
    ),
    "Deleveraging": (
        Refusal(21901, "DeleverageAgainstItself", "deleverage against itself"),
        Refusal(21902, "DeleverageDoesNotMatchLiquidationStatus", "deleverage does not match liquidation status"),
        Refusal(21903, "DeleverageWithOpenOrders", "deleverage with open orders"),
        Refusal(21904, "InvalidDeleverageSize", "invalid deleverage size"),
        Refusal(21905, "InvalidDeleveragePrice", "invalid deleverage price"),
        Refusal(21906, "InvalidDeleverageSide", "invalid deleverage side"),
    ),
    "Candles": (
        Refusal(
            22400,
            "InvalidTimestamps",
            "invalid timestamps: end_timestamp must be greater than start_timestamp",
            _C.NOT_FOUND,
            _R.NOTHING_THERE,
        ),
        Refusal(
            22401, "InvalidTimestamp", "invalid timestamp: timestamp must be greater than 0 and less than year 2286"
        ),
        Refusal(22402, "InvalidResolution", "invalid resolution: resolution unsupported"),
        Refusal(
            22403, "TimeRangeExceedsLimit", "time range exceeds maximum allowed range for the specified resolution"
        ),
    ),
    "Limits": (
        Refusal(23000, "TooManyRequest", "Too Many Requests!", _C.RATE_LIMITED, _R.BACK_OFF),
        Refusal(23001, "TooManySubscriptions", "Too Many Subscriptions!", _C.RATE_LIMITED, _R.ANOTHER_CONNECTION),
        Refusal(
            23002, "TooManyDifferentAccounts", "Too Many Different Accounts!", _C.RATE_LIMITED, _R.ANOTHER_CONNECTION
        ),
        Refusal(23003, "TooManyConnections", "Too Many Connections!", _C.RATE_LIMITED, _R.FEWER_CONNECTIONS),
        Refusal(23004, "TooManyL2Withdrawals", "Too Many L2 Withdrawal Requests!", _C.RATE_LIMITED, _R.BACK_OFF),
    ),
    "The venue itself": (
        Refusal(29404, "NotFound", "not found", _C.NOT_FOUND, _R.LOOK_UP),
        Refusal(29500, "Internal", "internal server error", recovery=_R.UNCERTAIN),
        Refusal(29501, "Timeout", "process timeout", recovery=_R.UNCERTAIN),
    ),
    "WebSocket": (
        Refusal(30000, "WebsocketInvalidJson", "Invalid Json"),
        Refusal(30001, "WebsocketInvalidType", "Invalid Type"),
        Refusal(30002, "WebsocketNotSubscribed", "Not Subscribed to", _C.NOT_FOUND, _R.ALREADY_GONE),
        Refusal(30003, "WebsocketAlreadySubscribed", "Already Subscribed to", recovery=_R.UNSUBSCRIBE_FIRST),
        Refusal(30004, "WebsocketFetchFailed", "Failed to fetch", recovery=_R.TRY_AGAIN),
        Refusal(30005, "WebsocketInvalidChannel", "Invalid Channel", _C.NOT_FOUND, _R.GIVE_UP),
        Refusal(30006, "WebsocketNotSupported", "Operation isn't supported"),
        Refusal(30007, "WebsocketInvalidData", "Invalid Data"),
        Refusal(30008, "WebsocketInvalidAccountType", "Invalid account type"),
        Refusal(30009, "WebsocketRateLimit", "Too Many Websocket Messages!", _C.RATE_LIMITED, _R.BACK_OFF),
        Refusal(30010, "WebsocketTooManyInflight", "Too Many Inflight Messages!", _C.RATE_LIMITED, _R.BACK_OFF),
        Refusal(30011, "WebsocketFailedToConnect", "Failed to connect", recovery=_R.TRY_AGAIN),
        Refusal(30012, "WebsocketFailedToSubscribe", "Failed to subscribe", recovery=_R.TRY_AGAIN),
    ),
    "Referral": (
        Refusal(41001, "ReferralAlreadyExists", "Referral code already exists"),
        Refusal(41002, "ReferralExpired", "Referral code is expired"),
        Refusal(41003, "ReferralAlreadyUsed", "Referral code already used"),
        Refusal(41004, "ReferralUserHasAccess", "User can already access"),
        Refusal(41005, "ReferralUserCantInvite", "User can't invite"),
        Refusal(41006, "ReferralInvalid", "Invalid referral code"),
        Refusal(41007, "ReferralRequired", "Referral code is required"),
        Refusal(41008, "ReferralKickbackUpdate", "Kickback can only be updated once per week"),
        Refusal(
            41009, "ReferralCodeAlreadyUpdated", "Referral code has already been updated once, cannot update again"
        ),
        Refusal(41010, "ReferralCodeInvalid", "Referral code must be 4-14 characters of A-Z and 0-9"),
        Refusal(41011, "ReferralOnlyMainAccount", "only main account index is valid, please use the main account"),
        Refusal(41012, "ReferralCannotUseOwnCode", "cannot use your own referral code"),
    ),
    "Read-only tokens": (
        Refusal(61001, "APITokenExpiryBeforeMinAllowed", "api token expiry is before minimum allowed expiry of 1 day"),
        Refusal(61002, "APITokenExpiryAfterMaxAllowed", "api token expiry is after maximum allowed expiry of 10 years"),
        Refusal(61003, "APITokenMaxTokensExceeded", "maximum number of 10 api tokens for the account exceeded"),
        Refusal(61004, "APITokenCustomScopesNotSupported", "custom scopes for api tokens are not supported yet"),
        Refusal(
            61005, "APITokenNotFound", "api token not found or does not belong to this account", recovery=_R.NEW_TOKEN
        ),
        Refusal(61006, "APITokenAlreadyRevoked", "api token has already been revoked", recovery=_R.NEW_TOKEN),
        Refusal(61007, "APITokenNameEmpty", "api token name cannot be empty"),
        Refusal(61008, "APITokenNameTooLong", "api token name cannot exceed 50 characters"),
        Refusal(61009, "APITokenNameInvalidChars", "api token name can only contain letters, numbers and some signs"),
    ),
    "Account tiers": (
        Refusal(62001, "TierChangeInProgress", "tier change already in progress"),
        Refusal(62002, "TierChangeInvalidTier", "invalid tier"),
        Refusal(62003, "TierChangeSameTier", "account already part of requested tier"),
        Refusal(62004, "TierChangeHasOpenPositions", "account has open positions"),
        Refusal(62005, "TierChangeHasOpenOrders", "account has open orders"),
        Refusal(62006, "TierChangeTooManyRequest", "too frequent tier change request"),
    ),
}
"""By what they are about, in the venue's order."""
