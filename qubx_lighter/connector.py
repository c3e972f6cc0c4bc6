"""Qubx's connector: the broker and the account processor of one account, behind one interface."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from qubx import logger
from qubx.core.basics import CtrlChannel, Instrument, Order, OrderRequest, dt_64
from qubx.core.connector import ChannelEmitter
from qubx.core.exceptions import NotSupported

from qubx_lighter.account import LighterAccountProcessor
from qubx_lighter.actions import LighterActions
from qubx_lighter.broker import LighterBroker
from qubx_lighter.constants import EXCHANGE, MarginMove
from qubx_lighter.isolated_margin import IsolatedMargin
from qubx_lighter.leverage import LeverageSettings
from qubx_lighter.protocol.amounts import Amount

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable, Coroutine, Mapping


class LighterConnector(ChannelEmitter):
    """Send orders and report the account (Qubx's ``IConnector``).

    Every method returns at once: what takes time happens on Qubx's shared loop and comes back as an event on the channel.

    Args:
        exchange_name: what instruments carry as exchange.
        channel: Qubx's channel.
        broker: the write side.
        account: the read side.
        leverage: leverage and margin mode.
        margin: what isolated positions are backed by.
        actions: transfers, withdrawals, sub-accounts, pools.
        loop: where they run.
        reconnect: drops the account socket and connects anew.
        on_disconnect: releases the account's parts, within a bounded time.
        stats: counts what was sent, and what waited for the venue's limits.
    """

    def __init__(
        self,
        *,
        exchange_name: str,
        channel: CtrlChannel,
        broker: LighterBroker,
        account: LighterAccountProcessor,
        leverage: LeverageSettings,
        margin: IsolatedMargin,
        actions: LighterActions,
        loop: asyncio.AbstractEventLoop,
        reconnect: Callable[[], None],
        on_disconnect: Callable[[], None],
        stats: Callable[[], Mapping[str, float]],
    ) -> None:
        self.exchange_name = exchange_name
        self.channel = channel
        self.broker = broker
        self.account = account
        self.leverage = leverage
        self.margin = margin
        self.actions = actions
        self._loop = loop
        self._reconnect = reconnect
        self._on_disconnect = on_disconnect
        self._stats = stats

    @property
    def is_simulated_trading(self) -> bool:
        """Say that orders are real."""
        return False

    # --- lifecycle ---------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Start the account streams and ask for the first snapshot."""
        self.account.start()

    def disconnect(self) -> None:
        """Release the account's parts; may be called twice."""
        self._on_disconnect()

    def is_ws_ready(self) -> bool:
        """Tell whether every account channel is acknowledged on a live socket."""
        return self.account.ready()

    def stats(self) -> dict[str, float]:
        """Count what was sent, and what waited for the venue's limits; any thread."""
        return dict(self._stats())

    def reconnect(self) -> bool:
        """Start a reconnect and return; True resets Qubx's clock of 30 s until the next try."""
        self._reconnect()
        return True

    # --- writes ------------------------------------------------------------------------------------------------------

    def make_client_id(self, suggested: str) -> str:
        """Keep Qubx's id, which maps to the venue's client_order_index and back without storage; or count on, where that is taken."""
        return self.broker.new_client_id(suggested)

    def submit_order(self, request: OrderRequest) -> None:
        """Queue a new order; raises what ``LighterBroker.submit`` raises."""
        self.broker.submit(request)

    def cancel_order(self, order: Order) -> None:
        """Queue a cancel."""
        self.broker.cancel(order)

    def update_order(self, order: Order, *, price: float | None = None, quantity: float | None = None) -> None:
        """Queue an amend; ``quantity`` is the new total."""
        self.broker.amend(order, price, quantity)

    def cancel_all_orders(self, instrument: Instrument | None = None) -> None:
        """Cancel every working order of the account, or of one market, with one transaction.

        Nothing of Qubx's contract: ``ctx.cancel_orders()`` is one transaction an order. Orders of others end too.
        """
        self.broker.cancel_all(instrument)

    # --- reads -------------------------------------------------------------------------------------------------------

    def request_order_status(self, order: Order) -> None:
        """Look an order up; the answer is an event."""
        self.account.request_order_status(order)

    def request_snapshot(self, include_orders: bool = True) -> None:  # noqa: FBT001, FBT002 - Qubx's signature
        """Fetch the account; the answer is one snapshot event, or none."""
        self.account.request_snapshot(include_orders=include_orders)

    def request_hist_deals(self, instrument: Instrument, since: dt_64) -> None:
        """Fetch our trades of one market; the answers are historical deal events."""
        self.account.request_hist_deals(instrument, since)

    def end_reason(self, order: Order) -> str | None:
        """Give the venue's word for how an order ended, such as ``canceled-self-trade``; None where it has not been told.

        Nothing of Qubx's contract: its events of cancellations and expiries carry no reason.
        """
        return self.account.end_of(order.client_order_id)

    # --- leverage and margin -----------------------------------------------------------------------------------------

    def get_instrument_leverage(self, instrument: Instrument) -> float | None:
        """Tell the configured leverage."""
        return self.leverage.leverage(instrument)

    def get_max_instrument_leverage(self, instrument: Instrument) -> float | None:
        """Tell the venue's highest leverage."""
        return self.leverage.max_leverage(instrument)

    def get_max_instrument_notional(self, instrument: Instrument) -> float:
        """Say that the venue caps no notional by leverage."""
        return self.leverage.max_notional(instrument)

    def get_margin_mode(self, instrument: Instrument) -> str | None:
        """Tell the configured margin mode."""
        return self.leverage.margin_mode(instrument)

    def get_adl_level(self, instrument: Instrument) -> int | None:
        """Say that the venue does not tell the place in the deleveraging queue."""
        del instrument
        return None

    def set_instrument_leverage(self, instrument: Instrument, leverage: float) -> None:
        """Ask for a leverage; the answer is an event."""
        self.leverage.set_leverage(instrument, leverage)

    def set_margin_mode(self, instrument: Instrument, mode: str) -> bool:
        """Ask for a margin mode, ``cross`` or ``isolated``; False, with an error event, where the venue would refuse it."""
        return self.leverage.set_margin_mode(instrument, mode)

    def add_isolated_margin(self, instrument: Instrument, amount: Amount) -> bool:
        """Back an isolated position with more collateral, out of the account's.

        Nothing of Qubx's contract. True when it is on its way: a snapshot of the account follows what the venue did, an
        error event what it refused. False, with an error event, where the market is not isolated or there is no position.

        Raises:
            UnitsError: the amount is not positive, or finer than a millionth.
        """
        return self.margin.move(instrument, amount, MarginMove.ADD)

    def remove_isolated_margin(self, instrument: Instrument, amount: Amount) -> bool:
        """Give collateral of an isolated position back to the account; otherwise as ``add_isolated_margin``."""
        return self.margin.move(instrument, amount, MarginMove.REMOVE)

    # --- money and accounts ------------------------------------------------------------------------------------------

    def act[T](self, action: Callable[[LighterActions], Coroutine[Any, Any, T]]) -> concurrent.futures.Future[T]:
        """Start an action beside the trading and return its future: ``act(lambda do: do.withdraw(amount=5))``.

        Nothing of Qubx's contract. Transactions share the nonces of the strategy's orders. Never wait for the future in a
        strategy's callback: that stops the trading; look at ``done()`` later, or add a callback. A failure is logged too.
        """
        future = asyncio.run_coroutine_threadsafe(action(self.actions), self._loop)
        future.add_done_callback(_report_failure)
        return future


def _report_failure(future: concurrent.futures.Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.warning("lighter: an action failed: {}", error)


def connector_of(ctx: object, exchange: str = EXCHANGE) -> LighterConnector:
    """Find the connector behind a strategy's context, for what Qubx's contract has no method for.

    Raises:
        NotSupported: the strategy does not trade live on this exchange: a backtest, a paper run, a warm-up.
    """
    connector = getattr(ctx, "_connectors", {}).get(exchange)  # Qubx's context has no public way
    if not isinstance(connector, LighterConnector):
        raise NotSupported(f"there is no live connector of {exchange} behind this context")
    return connector
