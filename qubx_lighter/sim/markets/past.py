"""A past for a market that has none: trades, candles, mark prices and funding rates from before the venue's first start.

Everything is a function of the seed, the market and the minute (or hour), and of nothing else: no part needs the part before
it, two venues of one seed have the same past, and what was given once is given for ever. Numbers come from a counter through
a mixing function, and all arithmetic is in integers, so that every machine gets the same.

A price wanders about the market's initial price: noise of seven time scales, from a minute to three days, each scale's
straight lines between random points. A minute has four slots of 15 s, each with one trade or none. Some markets are
illiquid: nine in ten of their minutes have no trade. The first minute of an hour always has one, so that the price before
any minute is never far.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from qubx_lighter.sim.markets.candles import (
    CLOSE,
    COUNT,
    HIGH,
    LAST_ID,
    LOTS,
    LOW,
    MARK_COLUMNS,
    MINUTE_MS,
    OPEN,
    QUOTE,
    SAMPLES,
    TIME,
    TRADE_COLUMNS,
    Rows,
    add_up,
)
from qubx_lighter.sim.model.records import Trade
from qubx_lighter.sim.model.specs import MarketSpec

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_MINUTES_AN_HOUR: Final = 60
_SLOTS: Final = 4
_MARKET_BITS: Final = 15  # the venue's market ids reach 32767
_COLLATERAL_DECIMALS: Final = 6

_SCALES: Final = 7  # scale k has its random points every 4**k minutes
_FINEST_PPB: Final = 300_000  # how far the finest scale reaches; each coarser one twice as far: 3.8 % together
_NOISE_BITS: Final = 20
_SPREAD_BITS: Final = 12  # a trade is at most this part of the price beside it: 2**-12, 2.4 basis points

_LIQUID: Final = 190  # of 256 slots have a trade
_ILLIQUID: Final = 110
_ACTIVE: Final = 26  # of 256 minutes of an illiquid market
_ILLIQUID_EVERY: Final = 5  # one market in five by its id, HYPE (24) among them

_MEAN_RATE: Final = 12  # 1e-4 percent an hour, where the venue's rates settle without a premium
_SECONDS_A_MINUTE: Final = 60
_STRANGERS: Final = (281_474_976_639_642, 281_474_976_641_952)  # accounts that nobody opens here
_ORDERS: Final = 1 << 46  # far from both ends, at which the venue numbers its own orders

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)

_Ints = NDArray[np.int64]
_Bits = NDArray[np.uint64]


def give_past(spec: MarketSpec, seed: int, days: float, now_ms: int) -> MarketSpec:
    """List a market as many days ago, at a full hour, and let its initial price be where its past ends.

    A market without an initial price gets no past.
    """
    if days <= 0 or not spec.initial_price_ticks:
        return spec
    listed_ms = (now_ms - round(days * _DAY_MS)) // _HOUR_MS * _HOUR_MS
    given = msgspec.structs.replace(spec, created_at_ms=listed_ms, past_price_ticks=spec.initial_price_ticks)
    last = Past(seed, given, now_ms).before(now_ms)
    return msgspec.structs.replace(given, initial_price_ticks=int(last[-1, CLOSE]))


def first_trade_id(time_ms: int) -> int:
    """Give the least id that a trade of that minute can have, in any market; all before it have lower ones."""
    return (time_ms // MINUTE_MS * _SLOTS) << _MARKET_BITS


def is_illiquid(market_id: int) -> bool:
    """Tell whether most minutes of a market's past have no trade."""
    return market_id % _ILLIQUID_EVERY == _ILLIQUID_EVERY - 1


def funding_rates(seed: int, market_id: int, start_hour: int, stop_hour: int) -> list[int]:
    """Give the rates that a market settles at hours since the epoch, in 1e-4 percent; positive: longs pay."""
    hours = np.arange(start_hour, stop_hour)
    slow, fast = (_lattice(_key(seed, market_id, name), hours, shift) for name, shift in (("slow", 3), ("fast", 0)))
    rates: list[int] = (_MEAN_RATE + (slow * 24 >> _NOISE_BITS) + (fast * 8 >> _NOISE_BITS)).tolist()
    return rates


def noise(seed: int, market_id: int, purpose: str, times: _Ints, *, shift: int, reach: int) -> _Ints:
    """Give noise of up to ``reach`` and a sign at ascending times: straight lines between random points 2**shift apart."""
    drawn: _Ints = _lattice(_key(seed, market_id, purpose), times, shift) * reach >> _NOISE_BITS
    return drawn


class _Trades(NamedTuple):
    """What the slots of some minutes hold: arrays of (slots, minutes)."""

    minutes: _Ints  # one-dimensional
    there: NDArray[np.bool_]
    time_ms: _Ints
    prices: _Ints
    lots: _Ints
    quotes: _Ints
    bits: _Bits


class Past:
    """One market's past, in whole minutes.

    Args:
        seed: the venue's.
        spec: the market; its past begins with ``created_at_ms`` and wanders about ``past_price_ticks``.
        end_ms: where it ends; cut to the minute.

    Attributes:
        begin_ms: when its first minute opens.
        end_ms: when its last minute closes.
    """

    def __init__(self, seed: int, spec: MarketSpec, end_ms: int) -> None:
        self.end_ms = end_ms // MINUTE_MS * MINUTE_MS
        self.begin_ms = min(-(-spec.created_at_ms // MINUTE_MS) * MINUTE_MS, self.end_ms)
        self._spec = spec
        self._level_keys = [_key(seed, spec.market_id, f"level {scale}") for scale in range(_SCALES)]
        self._trade_key = _key(seed, spec.market_id, "trades")
        shift = _COLLATERAL_DECIMALS - spec.price_decimals - spec.size_decimals
        self._multiplier = 10 ** max(shift, 0)
        self._divisor = 10 ** max(-shift, 0)
        self._days: dict[int, Rows] = {}

    # --- candles -----------------------------------------------------------------------------------------------------

    def rows(self, start_ms: int, stop_ms: int) -> Rows:
        """Give the one-minute candles that open in [``start_ms``, ``stop_ms``); minutes without a trade stay out."""
        start, stop = self._minutes(start_ms, stop_ms)
        trades = self._trades(start, stop)
        active = trades.there.any(axis=0)
        there, prices = trades.there[:, active], trades.prices[:, active]
        index = np.arange(there.shape[1])
        firsts = there.argmax(axis=0)
        lasts = _SLOTS - 1 - there[::-1].argmax(axis=0)
        result = np.empty((len(index), TRADE_COLUMNS), np.int64)
        result[:, TIME] = trades.minutes[active] * MINUTE_MS
        result[:, OPEN] = prices[firsts, index]
        result[:, HIGH] = np.where(there, prices, 0).max(axis=0)
        result[:, LOW] = np.where(there, prices, np.iinfo(np.int64).max).min(axis=0)
        result[:, CLOSE] = prices[lasts, index]
        result[:, LOTS] = np.where(there, trades.lots[:, active], 0).sum(axis=0)
        result[:, QUOTE] = np.where(there, trades.quotes[:, active], 0).sum(axis=0)
        result[:, COUNT] = there.sum(axis=0)
        result[:, LAST_ID] = (trades.minutes[active] * _SLOTS + lasts) << _MARKET_BITS | self._spec.market_id
        return result

    def hours(self, start_ms: int, stop_ms: int) -> Rows:
        """Give the same added up to hours; both bounds are full hours, or outside."""
        first, stop = max(start_ms, self.begin_ms) // _DAY_MS, -(-min(stop_ms, self.end_ms) // _DAY_MS)
        days = [self._day(day) for day in range(first, stop)]
        rows = np.vstack(days) if days else self.rows(0, 0)
        begin, end = np.searchsorted(rows[:, TIME], (start_ms // _HOUR_MS * _HOUR_MS, stop_ms))
        return rows[begin:end]

    def _day(self, day: int) -> Rows:
        """Give the hours of a day, made up once."""
        hours = self._days.get(day)
        if hours is None:
            hours = self._days[day] = add_up(self.rows(day * _DAY_MS, (day + 1) * _DAY_MS), _HOUR_MS)
        return hours

    def before(self, time_ms: int) -> Rows:
        """Give the last row that opens before a time, or none."""
        start_ms = (min(time_ms, self.end_ms) - 1) // _HOUR_MS * _HOUR_MS  # its first minute has a trade
        return self.rows(start_ms, time_ms)[-1:]

    def mark_rows(self, start_ms: int, stop_ms: int) -> Rows:
        """Give the one-minute candles of the mark price that open in [``start_ms``, ``stop_ms``)."""
        start, stop = self._minutes(start_ms, stop_ms)
        levels = self._levels(np.arange(start, stop + 1))
        result = np.empty((stop - start, MARK_COLUMNS), np.int64)
        result[:, TIME] = np.arange(start, stop) * MINUTE_MS
        result[:, OPEN], result[:, CLOSE] = levels[:-1], levels[1:]
        result[:, HIGH] = np.maximum(levels[:-1], levels[1:])
        result[:, LOW] = np.minimum(levels[:-1], levels[1:])
        result[:, SAMPLES] = _SECONDS_A_MINUTE
        return result

    def mark_prices(self, start_hour: int, stop_hour: int) -> list[int]:
        """Give the mark prices at hours since the epoch."""
        prices: list[int] = self._levels(np.arange(start_hour, stop_hour) * _MINUTES_AN_HOUR).tolist()
        return prices

    # --- trades ------------------------------------------------------------------------------------------------------

    def trades_before(self, trade_id: int, limit: int) -> list[Trade]:
        """Give the newest trades with a lower id, newest first."""
        first, stop = self._minutes(self.begin_ms, self.end_ms)
        stop = min(stop, (trade_id >> _MARKET_BITS) // _SLOTS + 1)
        found: list[Trade] = []
        span = _MINUTES_AN_HOUR
        while len(found) < limit and stop > first:
            start = max(first, stop - span)
            found += self._trades_between(start, stop, trade_id, limit - len(found))
            stop, span = start, 2 * span
        return found

    def _trades_between(self, start: int, stop: int, below: int, limit: int) -> list[Trade]:
        trades = self._trades(start, stop)
        result: list[Trade] = []
        for place in np.flatnonzero(trades.there.T)[::-1]:
            trade = self._trade(trades, *divmod(int(place), _SLOTS))
            if trade.trade_id < below:
                result.append(trade)
                if len(result) == limit:
                    break
        return result

    def _trade(self, trades: _Trades, place: int, slot: int) -> Trade:
        bits = int(trades.bits[slot, place])
        market_id = self._spec.market_id
        minute = int(trades.minutes[place])
        is_maker_ask = bool(bits >> 63)
        ask, bid = _STRANGERS if is_maker_ask else _STRANGERS[::-1]
        order = (market_id + 1) << 48 | (_ORDERS + 2 * (minute * _SLOTS + slot))
        return Trade(
            trade_id=self._id(minute, slot),
            market_id=market_id,
            price_ticks=int(trades.prices[slot, place]),
            lots=int(trades.lots[slot, place]),
            quote_micro=int(trades.quotes[slot, place]),
            ask_order_index=order,
            bid_order_index=order + 1,
            ask_account=ask,
            bid_account=bid,
            ask_client_order_index=0,
            bid_client_order_index=0,
            is_maker_ask=is_maker_ask,
            taker_fee_ppm=0,
            maker_fee_ppm=0,
            time=(minute * MINUTE_MS + int(trades.time_ms[slot, place])) * 1000,
            tx_hash=f"{bits:016x}" * 5,
        )

    # --- numbers -----------------------------------------------------------------------------------------------------

    def _minutes(self, start_ms: int, stop_ms: int) -> tuple[int, int]:
        """Cut a range to the past; minutes since the epoch, those that open in it."""
        start = -(-max(start_ms, self.begin_ms) // MINUTE_MS)
        return start, max(start, -(-min(stop_ms, self.end_ms) // MINUTE_MS))

    def _id(self, minute: int, slot: int) -> int:
        return (minute * _SLOTS + slot) << _MARKET_BITS | self._spec.market_id

    def _levels(self, minutes: _Ints) -> _Ints:
        """Give the price that the market wanders along, at the begin of ascending minutes."""
        noise = np.zeros(len(minutes), np.int64)
        for scale, key in enumerate(self._level_keys):
            noise += (_FINEST_PPB << scale) * _lattice(key, minutes, 2 * scale)
        anchor = self._spec.past_price_ticks
        levels: _Ints = np.maximum(anchor + anchor * (noise >> _NOISE_BITS) // 10**9, 1)
        return levels

    def _trades(self, start: int, stop: int) -> _Trades:
        """Make up the trades of the minutes from ``start`` to before ``stop``."""
        minutes = np.arange(start, stop)
        slots = np.arange(_SLOTS)[:, None]
        bits = _random(self._trade_key, minutes * _SLOTS + slots)
        there = self._there(minutes, bits)
        moments = (slots << 14) + _field(bits, 8, 14)  # in the minute, of 2**16
        levels = self._levels(np.arange(start, stop + 1))
        prices = levels[:-1] + (np.diff(levels) * moments >> 16)
        prices += prices * (_field(bits, 22, 12) - (1 << 11)) >> (11 + _SPREAD_BITS)
        prices = np.maximum(prices, 1)
        size = _field(bits, 34, 16)
        collateral_micro = (20 + (size * size >> 20)) * 10**_COLLATERAL_DECIMALS  # from 20 to 4,115
        lots = np.maximum(collateral_micro * self._divisor // (prices * self._multiplier), 1)
        quotes = prices * lots * self._multiplier
        if self._divisor > 1:
            quotes //= self._divisor
        return _Trades(minutes, there, moments * MINUTE_MS >> 16, prices, lots, quotes, bits)

    def _there(self, minutes: _Ints, bits: _Bits) -> NDArray[np.bool_]:
        chance = _field(bits, 0, 8)
        if is_illiquid(self._spec.market_id):
            there = (chance < _ILLIQUID) & (_field(bits[0], 50, 8) < _ACTIVE)
        else:
            there = chance < _LIQUID
        there[0, minutes % _MINUTES_AN_HOUR == 0] = True
        return there


def _key(seed: int, market_id: int, purpose: str) -> int:
    text = f"{seed} {market_id} {purpose}".encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest())


def _random(key: int, counters: _Ints) -> _Bits:
    """Mix counters into 64 random bits each (the finaliser of SplitMix64)."""
    mixed: _Bits = counters.astype(np.uint64) * _GOLDEN
    mixed += np.uint64(key)
    mixed ^= mixed >> np.uint64(30)
    mixed *= _MIX_1
    mixed ^= mixed >> np.uint64(27)
    mixed *= _MIX_2
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _field(bits: _Bits, start: int, width: int) -> _Ints:
    """Take some of the bits as a number."""
    return ((bits >> np.uint64(start)) & np.uint64((1 << width) - 1)).astype(np.int64)


def _lattice(key: int, times: _Ints, shift: int) -> _Ints:
    """Give noise of up to ``_NOISE_BITS`` and a sign at ascending times: straight lines between points 2**shift apart."""
    if not len(times):
        return times
    first, last = int(times[0]) >> shift, (int(times[-1]) >> shift) + 1
    points = _field(_random(key, np.arange(first, last + 1)), 43, _NOISE_BITS + 1) - (1 << _NOISE_BITS)
    places = (times >> shift) - first
    after = times & ((1 << shift) - 1)
    noise: _Ints = (points[places] * ((1 << shift) - after) + points[places + 1] * after) >> shift
    return noise
