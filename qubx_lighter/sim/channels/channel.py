"""What channels there are, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from qubx_lighter.sim.channels import asset_feed, candle_feed, stats_feed

CANDLE_KINDS: Final = frozenset((candle_feed.TRADES, candle_feed.MARK_PRICES))
MARKET_KINDS: Final = frozenset(("order_book", "ticker", "trade")) | stats_feed.KINDS | CANDLE_KINDS
PUBLIC_ACCOUNT_KINDS: Final = frozenset(("account_all", "account_all_trades", "account_all_positions", "user_stats"))
PRIVATE_KINDS: Final = frozenset(("account_all_orders", "account_tx", "notification")) | asset_feed.KINDS


class Subscriber(Protocol):
    """Whoever takes frames."""

    def send(self, text: str) -> None:
        """Take a frame, at once."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel of a market or an account; ``key`` is how frames label it (``order_book:0``, ``candle:0:1m``)."""

    kind: str
    number: int
    resolution: str = ""

    @property
    def key(self) -> str:
        """The label."""
        label = f"{self.kind}:{'all' if self.number == stats_feed.ALL else self.number}"
        return f"{label}:{self.resolution}" if self.resolution else label

    @property
    def is_private(self) -> bool:
        """Whether it takes an auth token of the account."""
        return self.kind in PRIVATE_KINDS

    @property
    def is_market(self) -> bool:
        """Whether ``number`` is a market."""
        return self.kind in MARKET_KINDS
