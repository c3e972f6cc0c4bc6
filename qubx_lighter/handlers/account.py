"""Account rows of the venue -> Qubx orders, deals, positions, balances and order events; no I/O, no clock."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np
from qubx.core.basics import (
    Deal,
    Instrument,
    Order,
    OrderOrigin,
    OrderSide,
    OrderStatus,
    Position,
    RejectCause,
    classify_origin,
    dt_64,
    external_client_id,
)
from qubx.core.basics import OrderType as QubxOrderType
from qubx.core.events import (
    OrderAcceptedEvent,
    OrderCanceledEvent,
    OrderEvent,
    OrderExpiredEvent,
    OrderFilledEvent,
    OrderPartiallyFilledEvent,
    OrderRejectedEvent,
)

from qubx_lighter.constants import MARGIN_FRACTION_SCALE, MarginMode
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.protocol import units, wire
from qubx_lighter.protocol.orders import Cause, ClientIds, StatusKind, classify_status

MarginModeName = Literal["cross", "isolated"]

_EXTERNAL: Final = external_client_id(None, "")

_CAUSES: Final[dict[Cause, RejectCause]] = {
    Cause.INSUFFICIENT_MARGIN: RejectCause.INSUFFICIENT_MARGIN,
    Cause.NOT_FILLABLE: RejectCause.NOT_FILLABLE,
    Cause.RATE_LIMITED: RejectCause.RATE_LIMITED,
    Cause.TOO_SMALL: RejectCause.TOO_SMALL,
    Cause.NOT_FOUND: RejectCause.NOT_FOUND,
    Cause.SEQUENCE: RejectCause.SEQUENCE,
    Cause.UNKNOWN: RejectCause.UNKNOWN,
}

_ORDER_TYPES: Final[dict[str, QubxOrderType]] = {
    "limit": QubxOrderType.LIMIT,
    "market": QubxOrderType.MARKET,
    "liquidation": QubxOrderType.MARKET,
    "stop-loss": QubxOrderType.STOP_MARKET,
    "take-profit": QubxOrderType.STOP_MARKET,
    "stop-loss-limit": QubxOrderType.STOP_LIMIT,
    "take-profit-limit": QubxOrderType.STOP_LIMIT,
    "twap-sub": QubxOrderType.MARKET,
}
_STOPS: Final = frozenset({QubxOrderType.STOP_MARKET, QubxOrderType.STOP_LIMIT})

_TIMES_IN_FORCE: Final[dict[str, str]] = {"immediate-or-cancel": "ioc", "post-only": "gtx"}


def reject_cause(cause: Cause) -> RejectCause:
    """Translate the protocol's cause into Qubx's."""
    return _CAUSES[cause]


def to_dt64(time_ns: int) -> dt_64:
    """Write nanoseconds since the epoch as Qubx's time."""
    return np.datetime64(time_ns, "ns")


def to_ns(time: dt_64) -> int:
    """Read Qubx's time as nanoseconds since the epoch."""
    # An integer of Qubx's own times, which are in nanoseconds; a conversion takes ten times as long.
    count = time.item()
    return count if type(count) is int else int(time.astype("datetime64[ns]").astype("int64"))


def row_time_ns(row: wire.OrderRow) -> int:
    """Tell when an order last changed, by the most exact clock that its row carries."""
    return units.time_ns(row.transaction_time or row.updated_at or row.timestamp or row.created_at)


def order_price(row: wire.OrderRow) -> float:
    """Give what Qubx calls an order's price: of a stop order its trigger, until that is met and it is a limit order."""
    waits = _ORDER_TYPES.get(row.type) in _STOPS and row.status == "pending"
    return row.trigger_price if waits and row.trigger_price else row.price


def trade_time_ns(row: wire.TradeRow) -> int:
    """Tell when a trade happened; the block's ``timestamp`` may precede its order by seconds."""
    return units.time_ns(row.transaction_time or row.timestamp)


class OrderIds(NamedTuple):
    """What every event of an order carries."""

    instrument: Instrument
    client_id: str
    venue_id: str


class OwnDeal(NamedTuple):
    """One side of a trade that is this account's; a deleverage has no order, and is named by its trade.

    ``forced`` tells what the venue did to the position, in its word for the trade; empty where the trade was wanted.
    """

    instrument: Instrument
    client_id: str
    venue_id: str
    is_ask: bool
    has_order: bool
    deal: Deal
    forced: str = ""


class AccountConverter:
    """Convert one account's rows.

    Args:
        exchange: the exchange name.
        account_index: which side of a trade is ours.
        collateral: the asset that perpetuals' fees are in.
        instruments: market id -> instrument, for every market of the venue.
        ids: client id <-> client_order_index.
    """

    def __init__(
        self,
        *,
        exchange: str,
        account_index: int,
        collateral: str,
        instruments: LighterInstrumentLoader,
        ids: ClientIds,
    ) -> None:
        self.exchange = exchange
        self.account_index = account_index
        self.collateral = collateral
        self.instruments = instruments
        self.ids = ids

    # --- ids ---------------------------------------------------------------------------------------------------------

    def client_id(self, instrument: Instrument, venue_id: str, client_order_index: int) -> str:
        """Name an order as Qubx knows it: our id, another bot's, or the venue's."""
        return external_client_id(self.ids.client_id_of(client_order_index, instrument.symbol), venue_id)

    def index_of(self, order: Order) -> int:
        """Address an order at the venue: its own index where known, else the client order index."""
        if order.venue_order_id is not None and order.venue_order_id.isdecimal():
            return int(order.venue_order_id)
        if order.client_order_id.startswith(_EXTERNAL):
            return int(order.client_order_id.removeprefix(_EXTERNAL))
        return self.ids.index_of(order.client_order_id)

    def ids_of(self, row: wire.OrderRow) -> OrderIds:
        """Name the order of a row.

        Raises:
            UnknownMarketError: the venue lists no such market.
        """
        instrument = self.instruments.instrument(row.market_index)
        venue_id = str(row.order_index)
        return OrderIds(instrument, self.client_id(instrument, venue_id, row.client_order_index), venue_id)

    # --- orders ------------------------------------------------------------------------------------------------------

    def order(self, row: wire.OrderRow) -> Order:
        """Convert a working order for a snapshot: ``quantity`` is the total, filled part included.

        Of a stop order that waits ``price`` is the trigger, and the options are those that would have asked for it.
        """
        instrument, client_id, venue_id = self.ids_of(row)
        filled = row.filled_base_amount
        order_type = _ORDER_TYPES.get(row.type, QubxOrderType.LIMIT)
        # A stop-market order waits, though it is immediate-or-cancel once it is triggered.
        waits = order_type is QubxOrderType.STOP_MARKET
        return Order(
            client_order_id=client_id,
            venue_order_id=venue_id,
            type=order_type,
            instrument=instrument,
            quantity=row.initial_base_amount,
            side=OrderSide.SELL if row.is_ask else OrderSide.BUY,
            time_in_force="gtc" if waits else _TIMES_IN_FORCE.get(row.time_in_force, "gtc"),
            status=OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.ACCEPTED,
            price=order_price(row) or None,
            filled_quantity=filled,
            avg_fill_price=row.filled_quote_amount / filled if filled else None,
            submitted_at=to_dt64(units.time_ns(row.created_at)),
            last_update_time=to_dt64(row_time_ns(row)),
            reduce_only=row.reduce_only,
            post_only=row.time_in_force == "post-only",
            origin=OrderOrigin.EXTERNAL if client_id.startswith(_EXTERNAL) else classify_origin(client_id),
            options=_options(row, order_type),
        )

    def accepted(self, row: wire.OrderRow) -> OrderAcceptedEvent:
        """Say that the venue has the order."""
        instrument, client_id, venue_id = self.ids_of(row)
        time = to_dt64(row_time_ns(row))
        return OrderAcceptedEvent(
            instrument=instrument,
            client_order_id=client_id,
            venue_order_id=venue_id,
            last_update_time=time,
            accepted_at=time,
        )

    def partially_filled(self, row: wire.OrderRow) -> OrderPartiallyFilledEvent:
        """Say that a part is filled; the deals come on their own."""
        instrument, client_id, venue_id = self.ids_of(row)
        return OrderPartiallyFilledEvent(
            instrument=instrument,
            client_order_id=client_id,
            venue_order_id=venue_id,
            last_update_time=to_dt64(row_time_ns(row)),
            fill=None,
        )

    def ended(self, row: wire.OrderRow, *, rested: bool) -> OrderEvent:
        """Convert a terminal row; ``rested`` tells whether the order was ever working.

        Raises:
            WireError: the status is not terminal, or one that this version does not know.
        """
        instrument, client_id, venue_id = self.ids_of(row)
        time = to_dt64(row_time_ns(row))
        status = classify_status(row.status, rested=rested, filled=row.filled_base_amount > 0)
        event: type[OrderFilledEvent | OrderCanceledEvent | OrderExpiredEvent]
        match status.kind:
            case StatusKind.FILLED:
                return OrderFilledEvent(
                    instrument=instrument,
                    client_order_id=client_id,
                    venue_order_id=venue_id,
                    last_update_time=time,
                    fill=None,
                )
            case StatusKind.REJECTED:
                return OrderRejectedEvent(
                    instrument=instrument,
                    client_order_id=client_id,
                    venue_order_id=venue_id,
                    last_update_time=time,
                    reason=row.status,
                    code=row.status,
                    cause=reject_cause(status.cause),
                )
            case StatusKind.EXPIRED:
                event = OrderExpiredEvent
            case _:
                event = OrderCanceledEvent
        return event(instrument=instrument, client_order_id=client_id, venue_order_id=venue_id, last_update_time=time)

    # --- deals -------------------------------------------------------------------------------------------------------

    def deals(self, row: wire.TradeRow) -> list[OwnDeal]:
        """Convert our side of a trade; both sides when the account met itself, with ids that stay apart.

        Fees are ppm, integrator fees on top: of the notional in the collateral asset, and on spot markets of what is
        received, in its asset.
        """
        sides = [
            (is_ask, order_index, client_index)
            for is_ask, account, order_index, client_index in (
                (True, row.ask_account_id, row.ask_id, row.ask_client_id),
                (False, row.bid_account_id, row.bid_id, row.bid_client_id),
            )
            if account == self.account_index
        ]
        if not sides:
            return []
        instrument = self.instruments.instrument(row.market_id)
        time = to_dt64(trade_time_ns(row))
        own = []
        for is_ask, order_index, client_index in sides:
            is_maker = row.is_maker_ask == is_ask
            ppm = row.maker_fee + row.integrator_maker_fee if is_maker else row.taker_fee + row.integrator_taker_fee
            suffix = "" if len(sides) == 1 else (":a" if is_ask else ":b")
            venue_id = str(order_index) if order_index else f"{row.type}-{row.trade_id}"
            fee, currency = self._fee(instrument, row, ppm, is_ask=is_ask)
            own.append(
                OwnDeal(
                    instrument,
                    self.client_id(instrument, venue_id, client_index),
                    venue_id,
                    is_ask,
                    bool(order_index),
                    Deal(
                        trade_id=f"{row.trade_id}{suffix}",
                        order_id=venue_id,
                        time=time,
                        amount=-row.size if is_ask else row.size,
                        price=row.price,
                        aggressive=not is_maker,
                        fee_amount=fee,
                        fee_currency=currency,
                    ),
                    _forced(row, is_maker=is_maker),
                )
            )
        return own

    def _fee(self, instrument: Instrument, row: wire.TradeRow, ppm: int, *, is_ask: bool) -> tuple[float, str]:
        if not instrument.is_spot():
            return units.ppm_fee(row.price * row.size, ppm), self.collateral
        if is_ask:
            return units.ppm_fee(row.price * row.size, ppm), instrument.quote
        return units.ppm_fee(row.size, ppm), instrument.base

    # --- positions ----------------------------------------------------------------------------------------------------

    def position(self, row: wire.PositionRow, time: dt_64) -> Position:
        """Convert a position row as of ``time``.

        A position whose average price the venue shows as 0 takes its mark, since Qubx reads a price of 0 as flat.

        Raises:
            UnknownMarketError: the venue lists no such market, so that the position cannot be shown.
        """
        market = self.instruments.market_by_id(row.market_id)
        instrument = self.instruments.instrument(row.market_id)
        quantity = row.sign * row.position
        mark = abs(row.position_value) / row.position if row.position else 0.0
        average = row.avg_entry_price or mark or instrument.tick_size
        position = Position(instrument, quantity, average)
        position.last_update_time = time  # type: ignore[assignment]  # Qubx declares int and keeps its dt_64 there
        if quantity:
            position.update_market_price(time, mark or average, 1.0)
            notional = abs(row.position_value)
            position.set_external_initial_margin(
                row.allocated_margin
                if row.margin_mode == MarginMode.ISOLATED
                else notional * row.initial_margin_fraction / 100
            )
            position.set_external_maint_margin(notional * market.maintenance_margin_fraction / MARGIN_FRACTION_SCALE)
        if row.initial_margin_fraction:
            position.leverage = leverage_of(row.initial_margin_fraction / 100)
        position.margin_mode = margin_mode_name(row.margin_mode)
        return position


def _forced(row: wire.TradeRow, *, is_maker: bool) -> str:
    """Tell what a trade did to our position without our asking; whoever takes a liquidated position does so by an order."""
    if row.type == "trade" or (row.type == "liquidation" and is_maker):
        return ""
    return row.type


def _options(row: wire.OrderRow, order_type: QubxOrderType) -> dict[str, object]:
    if order_type not in _STOPS:
        return {}
    options: dict[str, object] = {
        "stop_type": "limit" if order_type is QubxOrderType.STOP_LIMIT else "market",
        "trigger_type": "take_profit" if row.type.startswith("take-profit") else "stop_loss",
    }
    if order_type is QubxOrderType.STOP_LIMIT:
        options["limit_price"] = row.price
    return options


def leverage_of(initial_margin_fraction: float) -> float:
    """Turn an initial margin fraction (1 = 100 %) into a leverage, free of the fraction's rounding."""
    return round(1.0 / initial_margin_fraction, 2)


def margin_mode_name(margin_mode: int) -> MarginModeName:
    """Name a margin mode as Qubx does."""
    return "isolated" if margin_mode == MarginMode.ISOLATED else "cross"
