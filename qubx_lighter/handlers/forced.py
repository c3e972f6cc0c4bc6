"""What the venue does to a position without being asked: liquidation, deleveraging, settlement of a market; no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qubx.core.basics import Instrument
from qubx.core.errors import BaseErrorEvent, ErrorLevel

from qubx_lighter.handlers.account import OwnDeal
from qubx_lighter.protocol import wire

_WORDS: Final = {
    "liquidation": "was liquidated",
    "deleverage": "was reduced by auto-deleveraging",
    "market-settlement": "was settled with its market",
}


@dataclass
class ForcedTradeEvent(BaseErrorEvent):
    """Tell a strategy, through ``on_error``, that the venue traded its position.

    Attributes:
        instrument: of the position.
        kind: ``liquidation``, ``deleverage`` or ``market-settlement``.
        amount: signed, of the first trade; an order of the venue's may have more, each of which is a deal of its own.
        price: of that trade.
    """

    instrument: Instrument
    kind: str
    amount: float
    price: float


def forced_trade(own: OwnDeal) -> ForcedTradeEvent:
    """Say what a forced deal did."""
    deal = own.deal
    what = _WORDS.get(own.forced, f"was traded by the venue ({own.forced})")
    return ForcedTradeEvent(
        timestamp=deal.time,
        message=f"{own.instrument.symbol} {what}: {deal.amount:+g} at {deal.price:g}",
        level=ErrorLevel.MEDIUM,  # Qubx notifies, and goes on
        error=None,
        instrument=own.instrument,
        kind=own.forced,
        amount=deal.amount,
        price=deal.price,
    )


def describe(note: wire.Notification) -> str:
    """Write a notification of the venue's as one line; what it holds differs by kind and may be anything."""
    if not isinstance(note.content, dict):
        return f"{note.kind}: {note.content}" if note.content else note.kind
    return f"{note.kind}: {', '.join(f'{name} {value}' for name, value in sorted(note.content.items()))}"
