"""The one adapter to Qubx's instrument lookups, which have no public way in.

Qubx builds its lookup once, at import, before any plugin runs, from every ``*.json`` of a folder or from an instrument
service, and then drops each universe symbol that it cannot find without a word. So instruments go into the lookup of
the running process (``publish``), into the folder for the next one (``write_file``), unknown symbols are noticed on the
way past (``observe_unknown``), and a running context is told of new facts (``announce``), as the instrument service does.
Private names used, all of Qubx 5: ``LookupsManager._i_lookup``, ``FileInstrumentsLookupWithCCXT._lookup`` and
``._save_to_json``, ``InstrumentsLookupService._index``, ``._fetch``, ``._listeners`` and ``._notify``, ``_SnapshotIndex``.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from qubx.config import settings as qubx_settings
from qubx.core.basics import (
    Instrument,
    InstrumentChanges,
    InstrumentChangesListener,
    InstrumentsLookup,
    MarketType,
)
from qubx.core.instrument_service import reconcile_instruments
from qubx.core.lookups import FileInstrumentsLookupWithCCXT, InstrumentsLookupService, LookupsManager, _SnapshotIndex
from qubx.utils.misc import get_local_qubx_folder

from qubx_lighter.constants import EXCHANGE
from qubx_lighter.errors import ConfigurationError
from qubx_lighter.markets import claimed_id

FILE_NAME: Final = "lighter.json"
_MATCHES: Final = 5
_lock: Final = threading.Lock()

Report = Callable[[str, list[str]], None]


# --- the running process ---------------------------------------------------------------------------------------------


def publish(instruments: Iterable[Instrument], *, delisted: Iterable[Instrument] = ()) -> None:
    """Make instruments known to this process; those that others already hold are updated in place.

    Instruments of other exchanges stay as they are. With the file lookup ours stay for the life of the process, with
    the service lookup they are put back after each of its refreshes.

    Entries of the file lookup that claim the market id of one of ``instruments``, and are another coin or claim it twice,
    are dropped by Qubx's ``reconcile_instruments``, with an error line each: by them, fills were booked to the wrong
    coin. It sees such entries only. The others are not worth an error: an entry whose market the venue no longer lists is
    found to be so when it is traded, and may serve a backtest; the same market under another symbol is an alias.

    Args:
        instruments: all that trade now.
        delisted: those that did before: entries that the lookup has of them get their ``delisted_at``, and stay, as
            Qubx keeps what it has history of; ``find_instruments(as_of=...)`` leaves them out.

    Raises:
        ConfigurationError: Qubx uses a kind of lookup that this version does not know.
    """
    lookup = _instrument_lookup()
    fresh = list(instruments)
    with _lock:
        known = lookup.get_lookup()
        gone = [instrument for instrument in delisted if _key(instrument) in known and instrument not in fresh]
        if isinstance(lookup, InstrumentsLookupService):
            _publish_to_service(lookup, fresh + gone)
        elif isinstance(lookup, FileInstrumentsLookupWithCCXT):
            lookup._lookup = _without_conflicts(_merged(lookup._lookup, fresh + gone), fresh)
            _listen(lookup)
        else:
            raise ConfigurationError(
                f"Qubx's instrument lookup {type(lookup).__name__} is not one that LIGHTER can add to"
            )


def announce(facts: Iterable[Instrument]) -> bool:
    """Have Qubx copy new facts onto the instruments that its context, positions and orders hold.

    It does so on the strategy's thread, acts on a ``delisted_at`` at once, calls the strategy's ``on_instrument_update``
    and then the data provider's ``on_instruments_changed``.

    Args:
        facts: instruments of the same names, none of them held by anybody.

    Returns:
        False where no context listens: none runs, or instruments were never published.
    """
    lookup = _instrument_lookup()
    known = lookup.get_lookup()
    changes = InstrumentChanges(updated=[_relisted(known.get(_key(fact)), fact) for fact in facts])
    if isinstance(lookup, InstrumentsLookupService):
        lookup._notify(changes)
        return bool(lookup._listeners)
    listeners = vars(lookup).get("add_changes_listener")
    return isinstance(listeners, _Listeners) and listeners.tell(changes)


def _merged(known: dict[str, Instrument], fresh: list[Instrument]) -> dict[str, Instrument]:
    """Return a new dict with ``fresh`` in it, in the given order and last: the first match of a symbol wins in Qubx."""
    keys = [_key(instrument) for instrument in fresh]
    merged = {key: instrument for key, instrument in known.items() if key not in set(keys)}
    for key, instrument in zip(keys, fresh, strict=True):
        merged[key] = _updated(known.get(key), instrument)
    return merged


def _updated(held: Instrument | None, fresh: Instrument) -> Instrument:
    if held is None or held is fresh:
        return fresh
    held.update_from(_relisted(held, fresh))
    return held


def _relisted(held: Instrument | None, fresh: Instrument) -> Instrument:
    """Copy ``fresh`` with the service's own id of a listing."""
    return fresh if held is None else dataclasses.replace(fresh, listing_id=held.listing_id)


def _without_conflicts(known: dict[str, Instrument], ours: list[Instrument]) -> dict[str, Instrument]:
    """Return a dict without entries that claim an id of ours and are another coin, or claim it twice."""
    by_id = {market_id: instrument for instrument in ours if (market_id := claimed_id(instrument)) is not None}
    keys = {_key(instrument) for instrument in ours}
    claims: dict[int, list[Instrument]] = defaultdict(list)
    for key, instrument in known.items():
        if instrument.exchange == EXCHANGE and key not in keys and (market_id := claimed_id(instrument)) in by_id:
            claims[market_id].append(instrument)
    disputed: dict[int, list[Instrument]] = {}
    for market_id, entries in claims.items():
        alike = [entry for entry in entries if _coin(entry) == _coin(by_id[market_id])]
        if len(alike) != len(entries) or len(alike) > 1:
            disputed[market_id] = entries if alike else [*entries, by_id[market_id]]  # someone must be right
    if not disputed:
        return known
    found = reconcile_instruments(
        EXCHANGE,
        {market_id: _coin(by_id[market_id]) for market_id in disputed},
        [entry for entries in disputed.values() for entry in entries],
        claimed_id,
        _coin,
    )
    dropped = {_key(instrument) for instrument, _ in found.dropped}
    return {key: instrument for key, instrument in known.items() if key not in dropped}


def _coin(instrument: Instrument) -> str:
    return f"{instrument.market_type.value} {instrument.base.upper()}"


def _listen(lookup: InstrumentsLookup) -> None:
    """Give the file lookup, which never refreshes and so forgets who wants to know, ears."""
    names: Any = vars(lookup)
    if "add_changes_listener" not in names:
        names["add_changes_listener"] = listeners = _Listeners()
        names["remove_changes_listener"] = listeners.remove


class _Listeners:
    """What the file lookup's ``add_changes_listener`` adds to."""

    def __init__(self) -> None:
        self._listeners: list[InstrumentChangesListener] = []

    def __call__(self, listener: InstrumentChangesListener) -> None:
        self._listeners.append(listener)

    def remove(self, listener: InstrumentChangesListener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)

    def tell(self, changes: InstrumentChanges) -> bool:
        """Call every listener; tells whether there is one."""
        listeners = list(self._listeners)
        for listener in listeners:
            listener(changes)
        return bool(listeners)


def _publish_to_service(lookup: InstrumentsLookupService, fresh: list[Instrument]) -> None:
    """Swap in an index with ``fresh`` in it, and do so again after each refresh, which builds a new one."""
    keeper: Any = vars(lookup).get("_fetch")
    if not isinstance(keeper, _Refetch):
        keeper = _Refetch(lookup, lookup._fetch)
        vars(lookup)["_fetch"] = keeper
    keyed = {_key(instrument): instrument for instrument in fresh}
    keeper.published = keyed | {key: old for key, old in keeper.published.items() if key not in keyed}
    keeper.insert()


class _Refetch:
    """The service lookup's fetch, followed by putting our instruments back."""

    def __init__(self, lookup: InstrumentsLookupService, fetch: Callable[[], bool]) -> None:
        self._lookup = lookup
        self._fetch = fetch
        self.published: dict[str, Instrument] = {}

    def __call__(self) -> bool:
        changed = self._fetch()
        if changed:
            with _lock:
                self.insert()
        return changed

    def insert(self) -> None:
        """Swap in an index with ours in it; again if a refresh swapped in another one meanwhile."""
        while True:
            index = self._lookup._index
            extended = _extended(index, list(self.published.values()))
            if self._lookup._index is index:
                self._lookup._index = extended
                return


def _extended(index: _SnapshotIndex, fresh: list[Instrument]) -> _SnapshotIndex:
    current = _merged(index.current, fresh)
    ours = [current[_key(instrument)] for instrument in fresh]
    taken = {id(instrument) for instrument in ours}
    by_symbol = dict(index.by_symbol)
    for symbol in {(instrument.exchange, instrument.symbol) for instrument in ours}:
        first = [instrument for instrument in ours if (instrument.exchange, instrument.symbol) == symbol]
        by_symbol[symbol] = first + [old for old in by_symbol.get(symbol, []) if id(old) not in taken]
    listings = [old for old in index.listings if id(old) not in taken] + ours
    return dataclasses.replace(index, current=current, listings=listings, by_symbol=by_symbol)


# --- the file --------------------------------------------------------------------------------------------------------


def default_folder() -> Path:
    """Return the folder that Qubx's file lookup reads."""
    return Path(qubx_settings.instrument_lookup.path or Path(get_local_qubx_folder()) / "instruments").expanduser()


def write_file(instruments: Iterable[Instrument], folder: Path | None = None) -> Path:
    """Write the lookup file for processes to come, in one step, and return its path.

    A folder with only our file in it would hide every other exchange, since Qubx fills an empty folder only; so Qubx's
    own files are built first where they are missing. No fee file is written: one alone would hide Qubx's, and
    ``commissions = "maker=0.0,taker=0.0"`` in accounts.toml needs none.

    Args:
        instruments: all that the file shall hold.
        folder: Qubx's own by default.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    folder = (folder or default_folder()).expanduser()
    path = folder / FILE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lookup = FileInstrumentsLookupWithCCXT(str(folder))  # builds Qubx's own files in an empty folder
        if not any(file.name != FILE_NAME for file in folder.glob("*.json")):
            lookup.refresh()
        lookup._save_to_json(str(path), list(instruments))  # a hidden file next to it, then os.replace
    except OSError as error:
        raise ConfigurationError(f"the lookup folder {folder} cannot be written: {error.strerror or error}") from error
    return path


# --- unknown symbols -------------------------------------------------------------------------------------------------


def observe_unknown(exchange: str, report: Report) -> Callable[[], None]:
    """Report each symbol of ``exchange`` that Qubx looks for and does not find, once, with what comes close.

    Args:
        exchange: whose symbols; others' are not watched.
        report: called in the looking thread with ``BTCUSDX`` or, if a type was asked for, ``SWAP:BTCUSDX``, and up to
            five known names; what it raises reaches whoever is looking. Of several, the latest installed is called.

    Returns:
        Takes the report away again; calling it twice is harmless.
    """
    lookup: Any = _instrument_lookup()
    watch = _Watch(exchange, report)
    with _lock:
        find = vars(lookup).get("find_symbol")
        if not isinstance(find, _ObservedFind):
            find = lookup.find_symbol = _ObservedFind(lookup, lookup.find_symbol)
        find.watches.append(watch)

    def undo() -> None:
        with _lock:
            find.watches[:] = [other for other in find.watches if other is not watch]
            if not find.watches and vars(lookup).get("find_symbol") is find:
                del lookup.find_symbol

    return undo


@dataclasses.dataclass(eq=False)
class _Watch:
    """One report, and what it was already told."""

    exchange: str
    report: Report
    seen: set[str] = dataclasses.field(default_factory=set)


class _ObservedFind:
    """The lookup's ``find_symbol``, with an eye on what it does not find."""

    def __init__(self, lookup: InstrumentsLookup, find: Callable[..., Instrument | None]) -> None:
        self._lookup = lookup
        self._find = find
        self.watches: list[_Watch] = []

    def __call__(self, exchange: str, symbol: str, market_type: MarketType | None = None) -> Instrument | None:
        found = self._find(exchange, symbol, market_type)
        if found is None:
            self._missed(exchange, symbol, market_type)
        return found

    def _missed(self, exchange: str, symbol: str, market_type: MarketType | None) -> None:
        name = symbol if market_type is None else f"{market_type.value}:{symbol}"
        with _lock:
            watch = next((watch for watch in reversed(self.watches) if watch.exchange == exchange), None)
            if watch is None or name in watch.seen:
                return
            watch.seen.add(name)
        known = [other for other in self._lookup.get_lookup().values() if other.exchange == exchange]
        watch.report(name, _close(symbol, known))


def _close(symbol: str, known: list[Instrument]) -> list[str]:
    """List known names that come close: the same symbol of another type, else the same base, else a similar base."""
    exact = [f"{other.market_type.value}:{other.symbol}" for other in known if other.symbol == symbol]
    stem = re.split("[-/_]", symbol)[0]
    for quote in {other.quote for other in known} | {"USDT", "USD"}:
        stem = stem.removesuffix(quote) or stem
    bases = difflib.get_close_matches(stem, sorted({other.base for other in known}), n=_MATCHES)
    similar = [other.symbol for base in ([stem] if stem in bases else bases) for other in known if other.base == base]
    return exact or list(dict.fromkeys(similar))[:_MATCHES]


# --- Qubx's insides --------------------------------------------------------------------------------------------------


def _instrument_lookup() -> InstrumentsLookup:
    return LookupsManager()._i_lookup


def _key(instrument: Instrument) -> str:
    return f"{instrument.exchange}:{instrument.market_type}:{instrument.symbol}"
