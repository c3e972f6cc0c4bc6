"""A small strategy for backtests: hold long while a fast average of closed bars is above a slow one, else short.

It is an example of the plumbing, not of a way to earn money.
"""

from __future__ import annotations

from typing import Any

from qubx.core.basics import DataType, Instrument, TriggerEvent
from qubx.core.interfaces import IStrategy, IStrategyContext, IStrategyInitializer


class Crossover(IStrategy):
    """Follow the crossing of two averages, one market at a time.

    Parameters (in the YAML under ``parameters``):
        timeframe: of the bars; the strategy looks once a bar, when it has closed.
        fast: bars of the fast average.
        slow: bars of the slow average.
        notional: size of a position in quote currency.
    """

    timeframe: str = "15min"
    fast: int = 4
    slow: int = 16
    notional: float = 1_000.0

    def on_init(self, initializer: IStrategyInitializer) -> None:
        """Ask for bars, and to be called when one has closed."""
        initializer.set_base_subscription(DataType.OHLC[self.timeframe])
        initializer.set_event_schedule(self.timeframe)

    def on_event(self, ctx: IStrategyContext, event: TriggerEvent) -> None:
        """Turn each position to where its averages point."""
        for instrument in sorted(ctx.instruments, key=str):  # Qubx's own order differs from run to run
            closes = self._closes(ctx, instrument)
            if len(closes) < self.slow:
                continue
            fast, slow = (sum(closes[-count:]) / count for count in (self.fast, self.slow))
            size = instrument.round_size_down(self.notional / closes[-1])
            wanted = size if fast > slow else -size
            if wanted * ctx.get_position(instrument).quantity <= 0:
                ctx.set_target_position(instrument, wanted)

    def _closes(self, ctx: IStrategyContext, instrument: Instrument) -> list[float]:
        """List the closes of finished bars, oldest first; the newest bar of Qubx's series is the one in progress."""
        series: Any = ctx.ohlc(instrument, self.timeframe, self.slow + 1)
        return [series[back].close for back in range(min(len(series) - 1, self.slow), 0, -1)]
