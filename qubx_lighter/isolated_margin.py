"""Add collateral to an isolated position, or take some away."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from qubx import logger
from qubx.core.basics import Instrument, ITimeProvider

from qubx_lighter.constants import COLLATERAL_DECIMALS, MarginMove, TxType
from qubx_lighter.errors import LighterError, VenueError
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.leverage import MAKER_ONLY, LeverageSettings
from qubx_lighter.native import account_transactions
from qubx_lighter.operation_errors import operation_failed
from qubx_lighter.protocol.amounts import Amount, exact_units
from qubx_lighter.transactions.watch import End, TransactionWatch

_OPERATIONS = {MarginMove.ADD: "add_isolated_margin", MarginMove.REMOVE: "remove_isolated_margin"}


class IsolatedMargin:
    """Move collateral between the account and its isolated positions.

    Args:
        instruments: the venue's markets.
        leverage: which markets are isolated and hold a position.
        watch: sends, and tells what became of it.
        collateral: the currency's name, for texts.
        emit: puts a tuple on Qubx's channel.
        time_provider: Qubx's clock.
        on_moved: called once the venue has moved some: the account is to be read again.
    """

    def __init__(
        self,
        *,
        instruments: LighterInstrumentLoader,
        leverage: LeverageSettings,
        watch: TransactionWatch,
        collateral: str,
        emit: Callable[[object], None],
        time_provider: ITimeProvider,
        on_moved: Callable[[], None],
    ) -> None:
        self._instruments = instruments
        self._leverage = leverage
        self._watch = watch
        self._collateral = collateral
        self._emit = emit
        self._time = time_provider
        self._on_moved = on_moved

    def move(self, instrument: Instrument, amount: Amount, move: MarginMove) -> bool:
        """Queue it; thread-safe. False, with the reason as an event, where the venue would refuse it.

        Args:
            instrument: whose position.
            amount: in the collateral, positive.
            move: to the position or back.

        Raises:
            UnitsError: the amount is not positive, or finer than the venue's millionth.
            UnknownMarketError: the venue does not list the instrument.
        """
        units = exact_units(amount, COLLATERAL_DECIMALS)
        market_id = self._instruments.market(instrument).market_id
        if (reason := self._refusal(instrument)) is not None:
            self._failed(instrument, move, LighterError(reason), "was not sent")
            return False
        transaction = account_transactions.update_margin(market_id=market_id, amount=units, move=move)
        label = f"{move.name.lower()} {amount} {self._collateral} of margin of {instrument.symbol}"
        self._watch.submit(
            label,
            TxType.UPDATE_MARGIN,
            lambda signer, nonce: signer.sign(transaction, nonce),
            partial(self._ended, instrument, move, label),
        )
        return True

    def _refusal(self, instrument: Instrument) -> str | None:
        if self._leverage.maker_only:
            return MAKER_ONLY
        if self._leverage.margin_mode(instrument) != "isolated":
            return "its margin mode is not isolated: set_margin_mode first, before there is a position"
        if not self._leverage.holds(instrument):
            return "there is no position: margin is allocated to a position when it opens"
        return None

    def _ended(self, instrument: Instrument, move: MarginMove, label: str, end: End) -> None:
        if end.executed:
            logger.info("lighter: done: {}", label)
        elif end.executed is None:
            self._failed(instrument, move, LighterError(end.reason), "has perhaps not happened")
        else:
            self._failed(instrument, move, VenueError(end.code, end.reason), "was refused")
            return
        self._on_moved()

    def _failed(self, instrument: Instrument, move: MarginMove, error: LighterError, what: str) -> None:
        operation = _OPERATIONS[move]
        logger.warning("lighter: {} of {} {}: {}", operation, instrument.symbol, what, error)
        text = f"{operation} of {instrument.symbol} {what}: {error}"
        self._emit(operation_failed(self._time.time(), operation, text, error, instrument))
