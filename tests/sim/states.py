"""Everything an engine holds, spelled out for comparison."""

from __future__ import annotations

from typing import Any

from qubx_lighter.sim.markets.book import Book
from qubx_lighter.sim.markets.candles import Series
from qubx_lighter.sim.markets.index_price import IndexPrice


def state(thing: Any) -> Any:
    """Spell out everything an engine holds, for comparison; what is held in several places once."""
    return _state(thing, {})


def _state(thing: Any, seen: dict[int, int]) -> Any:
    match thing:
        case Book():
            return [[_state(order, seen) for order in thing.orders(is_ask)] for is_ask in (False, True)]
        case Series():
            return thing.forgot, thing.between(0, 2**63 - 1).tolist()
        case IndexPrice():
            return None  # follows from the seed; what it keeps tells who has asked
        case dict():
            return [(key, _state(value, seen)) for key, value in thing.items()]
        case list() | tuple() | set():
            return [_state(item, seen) for item in thing]
        case int() | str() | bytes() | None:
            return thing
    if hasattr(thing, "maxlen"):
        return [_state(item, seen) for item in thing]
    if id(thing) in seen:
        return type(thing).__name__, seen[id(thing)]
    seen[id(thing)] = len(seen)
    names = getattr(thing, "__struct_fields__", None) or getattr(thing, "__slots__", None) or vars(thing)
    return type(thing).__name__, [(name, _state(getattr(thing, name), seen)) for name in names]
