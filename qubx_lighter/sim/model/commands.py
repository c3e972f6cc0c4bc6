"""What may be asked of the venue, by its participants and by whoever runs it; units as in ``specs``.

Every change enters as one ``Command`` with its time, so a journal of commands rebuilds the venue exactly.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from qubx_lighter.constants import CODE_OK, NIL_MARKET_INDEX, OrderType, TimeInForce
from qubx_lighter.sim.model.records import PREMIUM
from qubx_lighter.sim.model.specs import AssetSpec, MarketSpec


class CreateMarket(msgspec.Struct, frozen=True, tag=True):
    """Open a market; of a spot market both assets are there."""

    spec: MarketSpec


class ChangeMarket(msgspec.Struct, frozen=True, tag=True):
    """Give a market other rules; what is None stays. Another grid takes an empty book."""

    market_id: int
    price_decimals: int | None = None
    size_decimals: int | None = None
    min_base_lots: int | None = None  # of the new grid; with another grid, and left out, the size that it was
    min_quote_micro: int | None = None
    force_reduce_only: bool | None = None
    trading_hours: str | None = None


class SetMarketStatus(msgspec.Struct, frozen=True, tag=True):
    """Set a market's status; ``settled`` ends its orders and closes its positions at the mark price."""

    market_id: int
    status: Literal["inactive", "active", "in-settlement", "waiting-for-settlement", "settled"]


class DelistMarket(msgspec.Struct, frozen=True, tag=True):
    """Settle a market and list it no more."""

    market_id: int


class CancelMarket(msgspec.Struct, frozen=True, tag=True):
    """End every working order of a market."""

    market_id: int


class CreateAsset(msgspec.Struct, frozen=True, tag=True):
    """Make an asset known."""

    spec: AssetSpec


class DepositAsset(msgspec.Struct, frozen=True, tag=True):
    """Add (or, negative, remove) spot balance of an asset."""

    account_index: int
    asset_id: int
    units: int


class CreateAccount(msgspec.Struct, frozen=True, tag=True):
    """Open a funded account; ``fee_free`` ones are the synthetic makers and takers: no fees, no margin, no liquidation."""

    account_index: int
    l1_address: str
    collateral_micro: int
    fee_free: bool = False
    tier: str = PREMIUM


class RegisterKey(msgspec.Struct, frozen=True, tag=True):
    """Register or replace an API key; its nonce starts at ``nonce``."""

    account_index: int
    api_key_index: int
    public_key: str
    nonce: int = 0


class Deposit(msgspec.Struct, frozen=True, tag=True):
    """Add (or, negative, remove) collateral."""

    account_index: int
    amount_micro: int


class SubmitTransaction(msgspec.Struct, frozen=True, tag=True):
    """A signed transaction as it came over REST or the socket; ``tx_info`` is the signer's JSON text."""

    tx_type: int
    tx_info: str
    tx_hash: str
    failure: str = ""  # a fault: the sequencer refuses for this reason, and the nonce is consumed all the same


class SubmitBatch(msgspec.Struct, frozen=True, tag=True):
    """Signed transactions that came in one request: they run back to back."""

    transactions: tuple[SubmitTransaction, ...]


class PlaceOrder(msgspec.Struct, frozen=True, tag=True):
    """An order of a local participant (the synthetic feed): no key, no nonce, same book and same rules."""

    account_index: int
    market_id: int
    is_ask: bool
    base_lots: int
    price_ticks: int
    client_order_index: int = 0
    order_type: int = int(OrderType.LIMIT)
    time_in_force: int = int(TimeInForce.GTT)
    reduce_only: bool = False
    order_expiry_ms: int = 0  # 0 from a local participant, of an order that has one: 28 days
    trigger_price_ticks: int = 0


class CancelOrder(msgspec.Struct, frozen=True, tag=True):
    """A local participant's cancel, by client or venue index."""

    account_index: int
    market_id: int
    index: int


class CancelAll(msgspec.Struct, frozen=True, tag=True):
    """A local participant's cancel of everything it has."""

    account_index: int


class EndOrder(msgspec.Struct, frozen=True, tag=True):
    """A fault: what is left of a working order ends with a status of the venue's; nothing where it is over already."""

    order_index: int
    status: str


class AdvanceTime(msgspec.Struct, frozen=True, tag=True):
    """Nothing but time: orders expire, what is scheduled is done, full hours settle their funding."""


class SettleFunding(msgspec.Struct, frozen=True, tag=True):
    """Settle funding at once, between the hours, as a test or a rehearsal wants it; markets' public history does not show it."""

    market_id: int = NIL_MARKET_INDEX  # 255: all
    rate: int | None = None  # 1e-4 percent, positive: longs pay; None: what the running hour will settle


class AcknowledgeNotification(msgspec.Struct, frozen=True, tag=True):
    """Mark a notification as read."""

    account_index: int
    notification_id: str


class ChangeTier(msgspec.Struct, frozen=True, tag=True):
    """Give an account another tier: ``standard`` trades without fees, ``premium`` for the markets' fees."""

    account_index: int
    tier: str


class SetMakerOnlyKeys(msgspec.Struct, frozen=True, tag=True):
    """Name the API keys of an account that may only place post-only orders, amend and cancel; those not named may do all."""

    account_index: int
    api_key_indexes: tuple[int, ...]


Command = (
    CreateMarket
    | ChangeMarket
    | SetMarketStatus
    | DelistMarket
    | CancelMarket
    | CreateAsset
    | DepositAsset
    | CreateAccount
    | RegisterKey
    | Deposit
    | SubmitTransaction
    | SubmitBatch
    | PlaceOrder
    | CancelOrder
    | CancelAll
    | EndOrder
    | AdvanceTime
    | SettleFunding
    | AcknowledgeNotification
    | ChangeTier
    | SetMakerOnlyKeys
)


class Result(msgspec.Struct, frozen=True):
    """What the API answers: 200 = queued and, here, executed at once; the order's own fate is in its status."""

    code: int
    message: str = ""
    order_index: int = 0  # the order created, if one was

    @property
    def ok(self) -> bool:
        """Tell whether the API accepted the command."""
        return self.code == CODE_OK
