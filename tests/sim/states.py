"""Everything an engine holds, spelled out for comparison."""

from __future__ import annotations

from typing import Any

from qubx_lighter.sim.markets.book import Book
from qubx_lighter.sim.markets.candles import Series
from qubx_lighter.sim.markets.index_price import IndexPrice
from qubx_lighter.sim.orders.pending import Pending


def state(thing: Any) -> Any:
    """Spell out everything an engine holds, for comparison."""
    match thing:
        case Book():
            return [[state(order) for order in thing.orders(is_ask)] for is_ask in (False, True)]
        case Series():
            return thing.forgot, thing.between(0, 2**63 - 1).tolist()
        case IndexPrice():
            return None  # follows from the seed; what it keeps tells who has asked
        case Pending():
            return [(name, state(value)) for name, value in vars(thing).items() if name != "_sequencer"]
        case dict():
            return [(key, state(value)) for key, value in thing.items()]
        case list() | tuple() | set():
            return [state(item) for item in thing]
        case int() | str() | bytes() | None:
            return thing
    if hasattr(thing, "maxlen"):
        return [state(item) for item in thing]
    names = getattr(thing, "__struct_fields__", None) or getattr(thing, "__slots__", None) or vars(thing)
    return type(thing).__name__, [(name, state(getattr(thing, name))) for name in names]
