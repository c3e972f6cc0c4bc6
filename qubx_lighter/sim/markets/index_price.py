"""A market's index price: what the mark price would be without the premium, which is a process drawn from the venue's seed.

The premium leads to the funding that the market's history tells, by the venue's formula: of its average over the hour, and of
the interest rate (0.01 percent for 8 hours), the rate for 8 hours is

    average + clamp(interest - average, -0.05 %, 0.05 %)

and an eighth of it is settled. The other way round, the average that leads to a rate lies 0.05 percent beyond it on its side of
the interest, and at the interest itself where the rate is that. Within an hour the premium goes from half-way to the last
hour's average to half-way to the next one's, with noise that adds up to nothing. So the estimate of the running hour, made of the
average so far, ends where the settled rate is.

Integers throughout: rates are parts per million (1e-4 percent), as in the history, premiums parts per billion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qubx_lighter.sim.markets import past

PPB: Final = 10**9
_PPB_A_PPM: Final = 1_000
_HOUR_US: Final = 3_600_000_000
_SECOND_US: Final = 10**6
_SECONDS: Final = 3_600
_HALF: Final = _SECONDS // 2
_HOURS: Final = 8  # that a rate of the formula is for
_INTEREST: Final = 100 * _PPB_A_PPM  # base_interest_rate 0.0100
_CLAMP: Final = 500 * _PPB_A_PPM  # funding_clamp_small 0.0500
_CLAMP_BIG: Final = 40_000 * _PPB_A_PPM  # funding_clamp_big 4.0000
_NOISE: Final = 100 * _PPB_A_PPM
_NOISE_SHIFT: Final = 5  # a random point every 32 s

_Ints = NDArray[np.int64]


class Premium(NamedTuple):
    """The premium of a moment, its average since the hour began, in 1e-9, and the hourly rate that this leads to, in 1e-6."""

    now_ppb: int
    average_ppb: int
    estimate_ppm: int

    def index_ticks(self, mark_ticks: int) -> int:
        """Give the index price under a mark price, rounded half up."""
        return (2 * mark_ticks * PPB + PPB + self.now_ppb) // (2 * (PPB + self.now_ppb))

    @property
    def ppm(self) -> int:
        """The premium as the venue writes it, in 1e-4 percent, rounded half up."""
        return _to_ppm(self.now_ppb)


class IndexPrice:
    """The premium of one market.

    Args:
        seed: the venue's.
        market_id: the market.
        rate: gives the rate that is settled at an hour since the epoch, in 1e-4 percent.
    """

    def __init__(self, seed: int, market_id: int, rate: Callable[[int], int]) -> None:
        self._seed = seed
        self._market_id = market_id
        self._rate = rate
        self._hour = -1
        self._premiums: _Ints = np.zeros(0, np.int64)
        self._sums: _Ints = self._premiums

    def at(self, now: int) -> Premium:
        """Give the premium at a time, µs."""
        hour, second = now // _HOUR_US, now % _HOUR_US // _SECOND_US
        if hour != self._hour:
            self._premiums = self._of_hour(hour)
            self._sums = np.cumsum(self._premiums)
            self._hour = hour
        average = int(self._sums[second]) // (second + 1)
        return Premium(int(self._premiums[second]), average, estimate(average))

    def _of_hour(self, hour: int) -> _Ints:
        """Make up the premiums of the hour that is settled at ``hour + 1``, one a second."""
        before, mean, after = (_average_for(self._rate(each)) for each in (hour, hour + 1, hour + 2))
        start, end = (before + mean) // 2, (mean + after) // 2
        seconds = np.arange(_SECONDS)
        bend = 3 * (2 * mean - start - end) // 4
        premiums: _Ints = start + (end - start) * seconds // _SECONDS
        premiums += 4 * bend * seconds * (_SECONDS - seconds) // _SECONDS**2
        premiums += self._noise(hour)
        premiums += mean - int(premiums.sum()) // _SECONDS
        return premiums

    def _noise(self, hour: int) -> _Ints:
        """Give noise that begins, and in the middle and at the end is, zero; its second half takes the first one back."""
        seconds = np.arange(_HALF)
        times = hour * _SECONDS + seconds
        first = past.noise(self._seed, self._market_id, "premium", times, shift=_NOISE_SHIFT, reach=_NOISE)
        first = first * (seconds * (_HALF - seconds)) // (_HALF // 2) ** 2
        return np.concatenate((first, -first))


def estimate(average_ppb: int) -> int:
    """Give the hourly rate, in 1e-6, of an average premium; a half is cut off, as the venue writes 0.0012 for 0.00125."""
    rate = average_ppb + min(max(_INTEREST - average_ppb, -_CLAMP), _CLAMP)
    hourly = min(max(rate, -_CLAMP_BIG), _CLAMP_BIG) // _HOURS
    whole = (abs(hourly) + _PPB_A_PPM // 2 - 1) // _PPB_A_PPM
    return whole if hourly >= 0 else -whole


def _average_for(rate_ppm: int) -> int:
    """Give the average premium that leads to an hourly rate."""
    if rate_ppm == estimate(_INTEREST):
        return _INTEREST
    rate = rate_ppm * _HOURS * _PPB_A_PPM
    return rate + _CLAMP if rate > _INTEREST else rate - _CLAMP


def _to_ppm(ppb: int) -> int:
    return (2 * ppb + _PPB_A_PPM) // (2 * _PPB_A_PPM)
