"""A connector that looks and never touches: the account of ``LighterConnector``, with every write refused here."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, Never

from qubx import logger
from qubx.core.basics import CtrlChannel, Instrument, Order, OrderRequest
from qubx.core.exceptions import NotSupported

from qubx_lighter.account import LighterAccountProcessor
from qubx_lighter.actions import LighterActions
from qubx_lighter.connector import LighterConnector
from qubx_lighter.constants import MARGIN_FRACTION_SCALE
from qubx_lighter.handlers.account import leverage_of, margin_mode_name
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.amounts import Amount

_REASON: Final = (
    "this account is read-only: take read_only out of params or accounts.toml and give the private key of an API key "
    "to trade"
)


class MarginReadings:
    """What is configured for each market, as account rows tell it.

    Args:
        instruments: the venue's markets.
    """

    def __init__(self, instruments: LighterInstrumentLoader) -> None:
        self._instruments = instruments
        self._configured: dict[int, tuple[float, int]] = {}  # market id -> (initial margin fraction, mode)

    def learn(self, rows: Iterable[wire.PositionRow]) -> None:
        """Take rows of positions; fractions there are percent."""
        for row in rows:
            if row.initial_margin_fraction:
                self._configured[row.market_id] = row.initial_margin_fraction / 100, row.margin_mode

    def leverage(self, instrument: Instrument) -> float | None:
        """Tell the configured leverage; None for spot."""
        setting = self._of(instrument)
        return None if setting is None else leverage_of(setting[0])

    def margin_mode(self, instrument: Instrument) -> str | None:
        """Tell the configured margin mode; None for spot."""
        setting = self._of(instrument)
        return None if setting is None else margin_mode_name(setting[1])

    def max_leverage(self, instrument: Instrument) -> float | None:
        """Tell the venue's highest leverage; None where it gives no limit."""
        fraction = self._instruments.market(instrument).min_initial_margin_fraction
        return leverage_of(fraction / MARGIN_FRACTION_SCALE) if fraction else None

    def _of(self, instrument: Instrument) -> tuple[float, int] | None:
        if instrument.is_spot():
            return None
        market = self._instruments.market(instrument)
        unset = (market.default_initial_margin_fraction or MARGIN_FRACTION_SCALE) / MARGIN_FRACTION_SCALE, 0
        return self._configured.get(market.market_id, unset)


class ReadOnlyConnector(LighterConnector):
    """Report the account (Qubx's ``IConnector``), and refuse to change anything.

    Args:
        exchange_name: what instruments carry as exchange.
        channel: Qubx's channel.
        account: the read side.
        margin: what is configured for each market.
        reconnect: drops the account socket and connects anew.
        on_disconnect: releases the account's parts, within a bounded time.
        stats: the counters of pacing.
    """

    def __init__(
        self,
        *,
        exchange_name: str,
        channel: CtrlChannel,
        account: LighterAccountProcessor,
        margin: MarginReadings,
        reconnect: Callable[[], None],
        on_disconnect: Callable[[], None],
        stats: Callable[[], Mapping[str, float]],
    ) -> None:
        self.exchange_name = exchange_name
        self.channel = channel
        self.account = account
        self._readings = margin
        self._reconnect = reconnect
        self._on_disconnect = on_disconnect
        self._stats = stats
        self._told_leverage = False

    def make_client_id(self, suggested: str) -> str:
        """Keep Qubx's id: nothing will carry it."""
        return suggested

    # --- what is refused ---------------------------------------------------------------------------------------------

    def submit_order(self, request: OrderRequest) -> None:
        """Refuse.

        Raises:
            NotSupported: always, as from the others here.
        """
        _refuse(f"an order for {request.instrument.symbol} was not sent")

    def cancel_order(self, order: Order) -> None:
        """Refuse."""
        _refuse(f"the cancel of {order.client_order_id} was not sent")

    def update_order(self, order: Order, *, price: float | None = None, quantity: float | None = None) -> None:
        """Refuse."""
        del price, quantity
        _refuse(f"the amend of {order.client_order_id} was not sent")

    def cancel_all_orders(self, instrument: Instrument | None = None) -> None:
        """Refuse."""
        del instrument
        _refuse("no orders were cancelled")

    def set_margin_mode(self, instrument: Instrument, mode: str) -> bool:
        """Refuse."""
        _refuse(f"the margin mode of {instrument.symbol} was not set to {mode}")

    def add_isolated_margin(self, instrument: Instrument, amount: Amount) -> bool:
        """Refuse."""
        _refuse(f"{amount} were not added to the margin of {instrument.symbol}")

    def remove_isolated_margin(self, instrument: Instrument, amount: Amount) -> bool:
        """Refuse."""
        _refuse(f"{amount} were not taken from the margin of {instrument.symbol}")

    def act[T](self, action: Callable[[LighterActions], Coroutine[Any, Any, T]]) -> concurrent.futures.Future[T]:
        """Refuse."""
        del action
        _refuse("nothing was transferred, withdrawn or created")

    def set_instrument_leverage(self, instrument: Instrument, leverage: float) -> None:
        """Leave the leverage alone: Qubx asks for its default of every instrument at start, which is no error."""
        if not self._told_leverage:
            self._told_leverage = True
            logger.warning("lighter: leverage {:g} of {} was not set: {}", leverage, instrument.symbol, _REASON)

    # --- leverage and margin -----------------------------------------------------------------------------------------

    def get_instrument_leverage(self, instrument: Instrument) -> float | None:
        """Tell the configured leverage."""
        return self._readings.leverage(instrument)

    def get_max_instrument_leverage(self, instrument: Instrument) -> float | None:
        """Tell the venue's highest leverage."""
        return self._readings.max_leverage(instrument)

    def get_max_instrument_notional(self, instrument: Instrument) -> float:
        """Say that the venue caps no notional by leverage."""
        del instrument
        return float("inf")

    def get_margin_mode(self, instrument: Instrument) -> str | None:
        """Tell the configured margin mode."""
        return self._readings.margin_mode(instrument)


def _refuse(what: str) -> Never:
    raise NotSupported(f"{what}: {_REASON}")
