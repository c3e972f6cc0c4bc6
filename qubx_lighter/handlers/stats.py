"""The channel ``market_stats/all``: funding, open interest, mark and index price of all perpetuals.

Rates come in percent an hour and leave as fractions. The venue sends figures whenever one changes, so rates and open
interest go out at most once a second a market; the newest is never lost, since any later frame of the channel flushes
what waits. Each hourly settlement goes out once, with its exact hour: those that passed while the connection was away are
fetched, and so are those of a subscription that was ended and begun again within a minute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final

import msgspec
import numpy as np
from qubx.core.basics import FundingPayment, FundingRate, Instrument, OpenInterest

from qubx_lighter.errors import WireError
from qubx_lighter.handlers.base import (
    FUNDING_PAYMENTS,
    FUNDING_RATES,
    OPEN_INTEREST,
    RESUME_NS,
    MarketHandler,
    Missing,
    Output,
    View,
)
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.units import Scale, time_ns

_HOUR_S: Final = 3_600
_HOUR_MS: Final = 3_600_000
_HOUR_NS: Final = 3_600_000_000_000
_INTERVAL_NS: Final = 1_000_000_000  # between two outputs of a view
_FLUSH_NS: Final = 100_000_000  # between two looks at what waits
_RATE_DECIMALS: Final = 12  # the venue writes four of a percentage
_MAX_RATE: Final = 1.0  # a fraction an hour: beyond it a unit was misread


def payment_of(row: wire.FundingRow) -> FundingPayment:
    """Make a settlement of a row of history; positive: longs pay.

    Raises:
        ValueError: the rate is no rate.
    """
    return _payment(row.timestamp // _HOUR_S, _hourly_rate(row))


class StatsHandler(MarketHandler):
    """Read one perpetual's figures.

    Args:
        instrument: whose.
        scale: its grid.
        counters: counts what happened.
        market_id: the venue's.

    Attributes:
        latest: the newest figures; None before the first.
        due_ns: when what is newer than what went out last may go out; 0 where nothing is.
    """

    on_grid: ClassVar[bool] = True

    def __init__(self, instrument: Instrument, scale: Scale, counters: Counter[str], market_id: int) -> None:
        super().__init__(instrument, scale, counters)
        self.market_id = market_id
        self.latest: wire.MarketStats | None = None
        self.due_ns = 0
        self._made_for: tuple[View, ...] = ()
        self._wants_rate = self._wants_interest = self._wants_payments = False
        self._new_rate = self._new_interest = False
        self._lots_per_unit = 10**scale.size_decimals
        self._out_ns = -_INTERVAL_NS
        self._settled_hour = 0  # all settlements up to it were told, or are history
        self._left_ns = -RESUME_NS  # when payments were last wanted, if they are no more
        self._held: dict[int, FundingPayment] = {}  # by hour, while earlier ones are missing

    def snapshot(self, raw: bytes) -> list[Output]:
        """Read a frame of all markets; see the base."""
        return self.update(raw)

    def update(self, raw: bytes) -> list[Output]:
        """Read a frame of all markets; see the base."""
        frame = wire.decode(wire.MarketStatsFrame, raw)
        row = frame.market_stats.get(str(self.market_id))
        return [] if row is None else self.take(row, time_ns(frame.timestamp))

    def reset(self) -> None:
        """Keep the figures, and the last settlement: what is missed until the next frame is fetched."""

    def follow(self, before: StatsHandler) -> None:
        """Go on where another handler of the same market ended: with the first settlement that it did not tell."""
        self._settled_hour = before.told_hour

    @property
    def told_hour(self) -> int:
        """Give the last settlement before the first that is still to be told, in hours since the epoch; 0 before any."""
        return self._settled_hour if self.missing is None else self.missing.after // _HOUR_MS

    def take(self, row: wire.MarketStats, now_ns: int) -> list[Output]:
        """Take newer figures, as of ``now_ns``."""
        if self.views is not self._made_for:
            self._meet_views()
        self._time_ns = max(self._time_ns, now_ns)
        before, self.latest = self.latest, row
        if before is None or before.open_interest != row.open_interest:
            self._new_interest = self._wants_interest
        if (
            before is None
            or before.mark_price != row.mark_price
            or before.index_price != row.index_price
            or before.current_funding_rate != row.current_funding_rate
        ):
            self._new_rate = self._wants_rate
        outputs = self.flush(now_ns) if self._new_rate or self._new_interest else []
        hour = row.funding_timestamp // _HOUR_MS
        return self._settle(hour, _fraction(row.funding_rate)) + outputs if hour > self._settled_hour else outputs

    def flush(self, now_ns: int) -> list[Output]:
        """Give what has changed, unless the last time was less than a second ago."""
        row = self.latest
        if row is None or now_ns - self._out_ns < _INTERVAL_NS:
            self.due_ns = self._out_ns + _INTERVAL_NS
            return []
        self._out_ns = now_ns
        self.due_ns = 0
        outputs: list[Output] = []
        if self._new_rate and (rate := self._rate(row)) is not None:
            outputs.append((FUNDING_RATES, rate))
        if self._new_interest and (interest := self._interest(row)) is not None:
            outputs.append((OPEN_INTEREST, interest))
        self._new_rate = self._new_interest = False
        return outputs

    def current(self, views: Iterable[View]) -> list[Output]:
        """Give the figures as they are; of payments, nothing. See the base."""
        row = self.latest
        if row is None:
            return []
        made = {FUNDING_RATES: self._rate, OPEN_INTEREST: self._interest}
        outputs = [(view, made[view](row)) for view in views if view in made]
        return [(view, data) for view, data in outputs if data is not None]

    def is_behind(self, rows: Sequence[wire.FundingRow]) -> bool:
        """Tell whether history lacks the settlement before the first that is known again; see the base."""
        missing = self.missing
        return missing is not None and all(row.timestamp // _HOUR_S < missing.until // _HOUR_MS - 1 for row in rows)

    def recover(self, rows: Sequence[wire.FundingRow] | None) -> list[Output]:
        """Take the settlements that were missing; see the base."""
        missing, self.missing = self.missing, None
        if missing is None:
            return []
        payments, self._held = self._held, {}
        if rows is None:
            self.counters["funding_holes"] += 1
        for row in rows or []:
            if missing.after // _HOUR_MS < row.timestamp // _HOUR_S < missing.until // _HOUR_MS:
                self._pay(payments, row.timestamp // _HOUR_S, _hourly_rate(row))
        return [(FUNDING_PAYMENTS, payments[hour]) for hour in sorted(payments)]

    # --- inside ------------------------------------------------------------------------------------------------------

    def _meet_views(self) -> None:
        self._made_for = views = self.views
        if self._wants_payments and FUNDING_PAYMENTS not in views:
            self._left_ns = self._time_ns
            self._settled_hour = self.told_hour
            self.missing = None
            self._held = {}
        self._wants_rate = FUNDING_RATES in views
        self._wants_interest = OPEN_INTEREST in views
        self._wants_payments = FUNDING_PAYMENTS in views

    def _settle(self, hour: int, rate_per_hour: float) -> list[Output]:
        """Take the newest settlement, and take note of those between it and the last one."""
        known = self._settled_hour
        if known and not self._wants_payments and self._time_ns - self._left_ns < RESUME_NS:
            return []  # it waits for who may want it again
        self._settled_hour = hour
        if not known or not self._wants_payments:
            return []  # the first one is history
        self._pay(self._held, hour, rate_per_hour)
        if hour > known + 1:
            after_ms = known * _HOUR_MS if self.missing is None else self.missing.after
            self.missing = Missing("fundings", after_ms, until=hour * _HOUR_MS)
        if self.missing is not None:
            return []
        paid, self._held = self._held, {}
        return [(FUNDING_PAYMENTS, payment) for payment in paid.values()]

    def _pay(self, payments: dict[int, FundingPayment], hour: int, rate_per_hour: float) -> None:
        if self._is_rate(rate_per_hour):
            payments.setdefault(hour, _payment(hour, rate_per_hour))

    def _rate(self, row: wire.MarketStats) -> FundingRate | None:
        rate_per_hour = _fraction(row.current_funding_rate)
        if not self._is_rate(rate_per_hour):
            return None
        next_ns = self._time_ns - self._time_ns % _HOUR_NS + _HOUR_NS
        return FundingRate(
            _dt64(self._time_ns), rate_per_hour, "1h", _dt64(next_ns), row.mark_price or None, row.index_price or None
        )

    def _interest(self, row: wire.MarketStats) -> OpenInterest | None:
        """Convert open interest, which the venue tells in the collateral; over the mark price it is whole lots."""
        if not row.mark_price:
            return None
        lots = round(row.open_interest / row.mark_price * self._lots_per_unit)
        return OpenInterest(_dt64(self._time_ns), self.instrument.symbol, lots / self._lots_per_unit, row.open_interest)

    def _is_rate(self, rate_per_hour: float) -> bool:
        if abs(rate_per_hour) <= _MAX_RATE:
            return True
        self.counters["funding_rates_out_of_range"] += 1
        return False


class StatsFrames:
    """Read the frames that are about all markets, for those that have a handler.

    Rows of other markets are skipped unread. Where a row cannot be read, the others are.

    Args:
        counters: counts rows that cannot be read.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._handlers: dict[int, StatsHandler] = {}
        self._read_for: dict[int, StatsHandler] | None = None
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
        self._flushed_ns = 0

    @property
    def handlers(self) -> dict[int, StatsHandler]:
        """Give the handlers by market id; set to another mapping, from any thread, it is read from the next frame on."""
        return self._handlers

    @handlers.setter
    def handlers(self, handlers: dict[int, StatsHandler]) -> None:
        self._handlers = handlers

    def read(self, raw: bytes, received_ns: int) -> list[tuple[StatsHandler, list[Output]]]:
        """Read a frame that came at ``received_ns``; give the handlers that have outputs, or miss something.

        Raises:
            WireError: the frame cannot be read.
        """
        handlers = self._handlers
        if handlers is not self._read_for:
            self._decoder, self._read_for = _decoder(handlers), handlers
        try:
            frame = self._decoder.decode(raw)
            rows = msgspec.structs.astuple(frame.market_stats)
        except msgspec.MsgspecError:
            frame = wire.decode(_UnreadFrame, raw)
            rows = tuple(self._row(frame.market_stats.get(str(market_id))) for market_id in handlers)
        now_ns = time_ns(frame.timestamp) or received_ns
        results = []
        for handler, row in zip(handlers.values(), rows, strict=True):
            if row is not None:
                outputs = handler.take(row, now_ns)
                if outputs or handler.missing is not None:
                    results.append((handler, outputs))
        if now_ns - self._flushed_ns >= _FLUSH_NS:
            self._flushed_ns = now_ns
            due = [handler for handler in handlers.values() if 0 < handler.due_ns <= now_ns]
            results += [(handler, outputs) for handler in due if (outputs := handler.flush(now_ns))]
        return results

    def _row(self, raw: msgspec.Raw | None) -> wire.MarketStats | None:
        try:
            return None if raw is None else wire.decode(wire.MarketStats, bytes(raw))
        except WireError:
            self._counters["unreadable_stats"] += 1
            return None


class _UnreadFrame(msgspec.Struct):
    market_stats: dict[str, msgspec.Raw]
    timestamp: int = 0


def _decoder(market_ids: Iterable[int]) -> msgspec.json.Decoder[Any]:
    """Make a decoder that skips all markets but these: four times as fast for few of them as reading all."""
    rows = [
        (f"market_{market_id}", wire.MarketStats | None, msgspec.field(name=str(market_id), default=None))
        for market_id in market_ids
    ]
    frame = msgspec.defstruct(
        "StatsFrame", [("market_stats", msgspec.defstruct("StatsRows", rows)), ("timestamp", int, 0)]
    )
    return msgspec.json.Decoder(frame, strict=False)


@lru_cache(maxsize=64)
def _dt64(time_ns: int) -> np.datetime64:
    """Write a time as Qubx does; the rows of a frame share two of them."""
    return np.datetime64(time_ns, "ns")


@lru_cache(maxsize=4096)
def _fraction(percent: float) -> float:
    """Give the float nearest to the hundredth of a decimal number."""
    return round(percent / 100, _RATE_DECIMALS)


def _hourly_rate(row: wire.FundingRow) -> float:
    """Give a settled rate as a fraction; the venue tells its size in percent, and who pays."""
    rate_per_hour = _fraction(row.rate)
    return -rate_per_hour if row.direction == "short" else rate_per_hour


def _payment(hour: int, rate_per_hour: float) -> FundingPayment:
    return FundingPayment(time=hour * _HOUR_NS, funding_rate=rate_per_hour, funding_interval_hours=1)
