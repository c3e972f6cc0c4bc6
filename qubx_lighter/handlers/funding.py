"""What funding did to our positions, as Qubx books it: one payment a market and settlement hour; no I/O, no clock.

Funding is settled on the hour, and Qubx tells payments apart by the hour. The venue's list may have several rows of one
market and hour, such as for a position that was turned around, so they are added up before anything is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from qubx_lighter.protocol import wire

HOUR_S: Final = 3600
POLL_DELAYS_S: Final = (10, 60, 300, 900)
"""When after the hour the list is asked for: nobody says how soon it has the settlement."""


class Settlement(NamedTuple):
    """What one settlement changed: the collateral received, negative for paid, and its hour in s since the epoch."""

    market_id: int
    hour_s: int
    amount: float


def settlements(rows: Iterable[wire.PositionFundingRow]) -> list[Settlement]:
    """Add up the rows of each market and hour; a time some seconds off the hour belongs to the nearest."""
    amounts: dict[tuple[int, int], float] = {}
    for row in rows:
        key = (row.timestamp + HOUR_S // 2) // HOUR_S * HOUR_S, row.market_id
        amounts[key] = amounts.get(key, 0.0) + row.change
    return [Settlement(market_id, hour_s, amount) for (hour_s, market_id), amount in sorted(amounts.items())]


def next_poll_s(now_s: float) -> int:
    """Give the first time after ``now_s`` at which the list is to be asked for."""
    hour_s = int(now_s) // HOUR_S * HOUR_S
    times = [start_s + delay_s for start_s in (hour_s, hour_s + HOUR_S) for delay_s in POLL_DELAYS_S]
    return min(time_s for time_s in times if time_s > now_s)
