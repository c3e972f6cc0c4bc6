"""A synthetic market: one maker quotes a ladder around a random walk in every market, one taker trades against the touch.

The maker's levels lie on a fixed grid of prices, so that a small move of the walk changes a level at each end and not the
whole book. Where the walk runs over somebody's resting order, the maker's quotes trade with it. The taker's orders are
sized by what rests at the touch, whoever rests there, so that whoever quotes there is filled soon.

Markets that the venue lists later are quoted from then on; one that takes no orders is left alone until it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import Final

from qubx_lighter.constants import MAX_PRICE_TICKS, TimeInForce
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.model.commands import (
    CancelAll,
    CancelOrder,
    Command,
    CreateAccount,
    DepositAsset,
    PlaceOrder,
    Result,
)
from qubx_lighter.sim.model.specs import ACTIVE, MarketSpec

MAKER_ACCOUNT: Final = 10
TAKER_ACCOUNT: Final = 11
STEPS_A_SECOND: Final = 20

_COLLATERAL_MICRO: Final = 10**16  # ten billion: these two never run short
_FUNDS_UNITS: Final = 10**17  # of any asset, the same
_LEVELS: Final = 25  # a side
_GRID: Final = 0.3e-4  # distance of the levels, of the price
_VOLATILITY: Final = 0.25e-4  # of the price, a step
_REVERSION: Final = 0.0005  # of the distance to where the walk began, a step
_TOUCH_NOTIONAL: Final = 3_000.0  # median size of the first level, in collateral
_SLOPE: Final = 0.15  # how much larger each further level is
_TAKER_CHANCE: Final = 0.2  # a market and step
_REFRESH_CHANCE: Final = 0.3  # that a level gets another size, a market and step

Execute = Callable[[Command], Result]


@dataclass(slots=True)
class _Ladder:
    """The maker in one market."""

    spec: MarketSpec
    start: float  # ticks
    fair: float  # ticks
    grid: int  # ticks
    orders: dict[tuple[bool, int], int] = field(default_factory=dict)  # (is ask, ticks) -> order index

    def wanted(self) -> list[tuple[bool, int]]:
        """List the levels that should be there, best first."""
        bid = int(self.fair // self.grid) * self.grid
        rungs = range(0, _LEVELS * self.grid, self.grid)
        cap = self.spec.settlement_cap or MAX_PRICE_TICKS
        asks = [(True, bid + self.grid + rung) for rung in rungs if bid + self.grid + rung < cap]
        return asks + [(False, bid - rung) for rung in rungs if rung < bid]


class Synthetic:
    """Drive the synthetic market.

    Args:
        engine: to read books and the maker's orders.
        execute: carries commands out; the server's.
        specs: the markets, which the engine has.
        seed: equal seeds and equal strangers give equal markets.
    """

    def __init__(self, engine: Engine, execute: Execute, specs: Sequence[MarketSpec], seed: int = 0) -> None:
        self._engine = engine
        self._execute = execute
        self._random = Random(seed)  # noqa: S311 - a market, not a secret
        self._open_accounts()
        self._seen = set(engine.markets)
        self._ladders = [self._ladder(spec) for spec in specs]
        for ladder in self._ladders:
            self._quote(ladder)

    def _open_accounts(self) -> None:
        """Open both accounts, or take what an earlier run of this venue has left in the books."""
        for index in (MAKER_ACCOUNT, TAKER_ACCOUNT):
            if self._engine.account(index) is None:
                address = "0x" + blake2b(str(index).encode(), digest_size=20).hexdigest()
                self._execute(CreateAccount(index, address, _COLLATERAL_MICRO, fee_free=True))
            else:
                self._execute(CancelAll(index))

    def _ladder(self, spec: MarketSpec) -> _Ladder:
        if spec.is_spot:
            for index in (MAKER_ACCOUNT, TAKER_ACCOUNT):
                self._fund(index, spec)
        price = float(self._engine.mark_price_ticks(spec.market_id))
        return _Ladder(spec, start=float(spec.initial_price_ticks), fair=price, grid=max(1, round(price * _GRID)))

    def _fund(self, account_index: int, spec: MarketSpec) -> None:
        account = self._engine.account(account_index)
        assert account is not None, "opened at the start"
        for asset_id in (spec.base_asset_id, spec.quote_asset_id):
            if not account.free_units(asset_id):
                self._execute(DepositAsset(account_index, asset_id, _FUNDS_UNITS))

    async def run(
        self,
        *,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Step at a steady pace, for ever; steps that could not be in time are left out.

        Args:
            clock: seconds of any origin; the running loop's if left out.
            sleep: pauses for seconds.
        """
        read_clock = clock or asyncio.get_running_loop().time
        due = read_clock()
        while True:
            due = max(due + 1 / STEPS_A_SECOND, read_clock())
            await sleep(due - read_clock())
            self.step()

    def step(self) -> None:
        """Let the walk go on, the maker follow, and the taker trade now and then."""
        self._follow_listing()
        for ladder in self._ladders:
            if ladder.spec.status != ACTIVE or ladder.spec.force_reduce_only:
                continue
            self._move(ladder)
            self._quote(ladder)
            if self._random.random() < _REFRESH_CHANCE:
                self._refresh(ladder)
            if self._random.random() < _TAKER_CHANCE:
                self._take(ladder.spec)

    def _follow_listing(self) -> None:
        """Take up what was listed, got other rules or went."""
        markets = self._engine.markets
        for ladder in self._ladders:
            spec = markets[ladder.spec.market_id]
            if spec is not ladder.spec:
                self._meet(ladder, spec)
        self._ladders = [ladder for ladder in self._ladders if ladder.spec.is_listed]
        if len(markets) > len(self._seen):
            new = [spec for market_id, spec in markets.items() if market_id not in self._seen]
            self._seen |= markets.keys()
            self._ladders += [self._ladder(spec) for spec in new if spec.initial_price_ticks]

    def _meet(self, ladder: _Ladder, spec: MarketSpec) -> None:
        """Go on with other rules; on another grid the walk begins where it was."""
        shift = spec.price_decimals - ladder.spec.price_decimals
        if shift:
            ladder.fair *= 10.0**shift
            ladder.start *= 10.0**shift
            ladder.grid = max(1, round(ladder.fair * _GRID))
        ladder.spec = spec

    def _move(self, ladder: _Ladder) -> None:
        ladder.fair *= 1 + self._random.gauss(0, _VOLATILITY)
        ladder.fair += (ladder.start - ladder.fair) * _REVERSION

    def _quote(self, ladder: _Ladder) -> None:
        """Cancel the levels that are too far out or on the wrong side, then place those that are missing."""
        account = self._engine.account(MAKER_ACCOUNT)
        assert account is not None, "opened at the start"
        wanted = ladder.wanted()
        keep = set(wanted)
        for level, order_index in list(ladder.orders.items()):
            if order_index not in account.orders:
                del ladder.orders[level]
            elif level not in keep:
                self._cancel(ladder, level)
        for level in wanted:
            if level not in ladder.orders:
                self._place(ladder, *level)

    def _refresh(self, ladder: _Ladder) -> None:
        level = self._random.choice(ladder.wanted())
        if level in ladder.orders:
            self._cancel(ladder, level)
            self._place(ladder, *level)

    def _cancel(self, ladder: _Ladder, level: tuple[bool, int]) -> None:
        self._execute(CancelOrder(MAKER_ACCOUNT, ladder.spec.market_id, ladder.orders.pop(level)))

    def _place(self, ladder: _Ladder, is_ask: bool, ticks: int) -> None:  # noqa: FBT001 - the two parts of a level
        distance = abs(ticks - ladder.fair) / ladder.grid
        notional = _TOUCH_NOTIONAL * (1 + _SLOPE * distance) * self._random.lognormvariate(0, 0.6)
        result = self._execute(
            PlaceOrder(
                MAKER_ACCOUNT,
                ladder.spec.market_id,
                is_ask=is_ask,
                base_lots=self._lots(ladder.spec, ticks, notional),
                price_ticks=ticks,
            )
        )
        if result.ok:
            ladder.orders[is_ask, ticks] = result.order_index

    def _lots(self, spec: MarketSpec, ticks: int, notional: float) -> int:
        """Turn a notional into lots that satisfy both minimums."""
        one = self._engine.quote_micro(spec.market_id, ticks, 10**6) / 10**6  # micro a lot
        return max(spec.min_base_lots, round(notional * 10**6 / one), int(spec.min_quote_micro / one) + 1)

    def _take(self, spec: MarketSpec) -> None:
        """Take part of the touch, or all of it and some of what is behind."""
        is_ask = self._random.random() < 0.5  # noqa: PLR2004 - a fair coin
        touch = next(self._engine.book(spec.market_id).levels(not is_ask), None)
        share = self._random.uniform(0.3, 1.6)
        if touch is None:
            return
        ticks, lots = touch
        reach = max(1, round(ticks * 2 * _GRID))
        bound = ticks - reach if is_ask else ticks + reach
        least = self._lots(spec, min(ticks, bound), 0.0)
        self._execute(
            PlaceOrder(
                TAKER_ACCOUNT,
                spec.market_id,
                is_ask=is_ask,
                base_lots=max(least, round(lots * share)),
                price_ticks=bound,
                time_in_force=int(TimeInForce.IOC),
            )
        )
