"""What the venue tells after a command: what changed, in the order in which it did."""

from __future__ import annotations

import msgspec

from qubx_lighter.sim.model.records import FundingPayment, Notification, Order, Trade, TxRecord


class BookChanged(msgspec.Struct, frozen=True):
    """The new absolute size of one level; ``nonce`` rises by one with every change over all markets."""

    market_id: int
    is_ask: bool
    price_ticks: int
    lots: int
    nonce: int
    time: int  # µs


class Traded(msgspec.Struct, frozen=True):
    """A match happened."""

    trade: Trade


class OrderChanged(msgspec.Struct, frozen=True):
    """A copy of the order after a change of an account that has API keys (the feed's own orders raise none)."""

    order: Order


class PositionChanged(msgspec.Struct, frozen=True):
    """An account's position, margin setting or collateral changed: send its figures."""

    account_index: int
    market_id: int  # 255: collateral only
    time: int  # µs


class FundingSettled(msgspec.Struct, frozen=True):
    """An account paid or received funding."""

    payment: FundingPayment


class NotificationSent(msgspec.Struct, frozen=True):
    """An account was told something."""

    notification: Notification


class AssetsChanged(msgspec.Struct, frozen=True):
    """An account's spot balances changed."""

    account_index: int
    time: int  # µs


class TransactionDone(msgspec.Struct, frozen=True):
    """The sequencer took a transaction."""

    record: TxRecord


Event = (
    BookChanged
    | Traded
    | OrderChanged
    | PositionChanged
    | FundingSettled
    | AssetsChanged
    | NotificationSent
    | TransactionDone
)
