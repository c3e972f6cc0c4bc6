"""The parameters of a REST request, read with the venue's refusal for what is missing or wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from qubx_lighter.constants import NIL_MARKET_INDEX, Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.exchange.view import NEWEST
from qubx_lighter.sim.markets.market_history import LATEST_MS
from qubx_lighter.sim.model.specs import PERPETUAL, SPOT, MarketSpec

_LEAST_MS: Final = 10**11  # a smaller timestamp is in seconds
_INVALID_CURSOR: Final = 20009
_ALL_TYPES: Final = "all"


class Parameters:
    """The parameters of one request."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def text(self, name: str, default: str | None = None) -> str:
        """Read a text."""
        value = self._values.get(name, default)
        if not isinstance(value, str):
            raise VenueError(Code.INVALID_PARAM, f"invalid param: {name} is missing")
        return value

    def integer(self, name: str, default: int | None = None, *, low: int = -1, high: int = NEWEST) -> int:
        """Read a whole number from ``low`` to ``high``."""
        text = self.text(name, None if default is None else str(default))
        try:
            value = int(text)
        except ValueError:
            raise VenueError(Code.INVALID_PARAM, f"invalid param: {name} is not a number") from None
        if not low <= value <= high:
            raise VenueError(Code.INVALID_PARAM, f"invalid param: {name} is out of range")
        return value

    def time_ms(self, name: str, default_ms: int | None = None) -> int:
        """Read a time in ms or seconds."""
        time = self.integer(name, default_ms, low=0, high=LATEST_MS)
        return time if time >= _LEAST_MS else time * 1000

    def numbers(self, name: str) -> set[int]:
        """Read a list of whole numbers that may be left out: separated by commas, in brackets or not."""
        items = self.text(name, "").strip("[]").replace(" ", "")
        if not items:
            return set()
        if not all(item.isdecimal() for item in items.split(",")):
            raise VenueError(Code.INVALID_PARAM, f"invalid param: {name} is not a list of numbers")
        return {int(item) for item in items.split(",")}

    def market_id(self) -> int | None:
        """Read a market id that may be left out; 255 stands for all."""
        value = self.integer("market_id", NIL_MARKET_INDEX)
        return None if value in (-1, NIL_MARKET_INDEX) else value

    def market_type(self) -> str | None:
        """Read the type of the markets that are wanted; None for all."""
        wanted = self.text("market_type", _ALL_TYPES)
        if wanted not in (_ALL_TYPES, PERPETUAL, SPOT):
            raise VenueError(Code.INVALID_PARAM, "invalid param: market_type")
        return None if wanted == _ALL_TYPES else wanted

    def market(self, engine: Engine) -> MarketSpec:
        """Find the market of an id that may not be left out."""
        spec = engine.markets.get(self.integer("market_id"))
        if spec is None or not spec.is_listed:
            raise VenueError(Code.INVALID_MARKET, "invalid market index")
        return spec

    def cursor(self) -> int:
        """Read the cursor: rows before it are wanted."""
        text = self.text("cursor", "")
        if text and not text.isdecimal():
            raise VenueError(_INVALID_CURSOR, "invalid cursor")
        return int(text) if text else NEWEST
