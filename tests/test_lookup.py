"""lookup: instruments into Qubx's lookups, the file for the next process, unknown symbols; never the real ~/.qubx."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from qubx.core.basics import Instrument, InstrumentsLookup, MarketType

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True, scope="module")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Qubx makes folders in HOME when its lookups are imported: they are imported in the tests, under this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


def instrument(
    symbol: str, exchange: str = "LIGHTER", market_type: MarketType = MarketType.SWAP, **options: Any
) -> Instrument:
    base, _, quote = symbol.partition("-")
    base = options.pop("base", base)
    values: dict[str, Any] = {"tick_size": 0.1, "lot_size": 0.001, "min_size": 0.001, "exchange_symbol": symbol}
    return Instrument(symbol, market_type, exchange, base, quote or "USDC", quote or "USDC", **values | options)


BTC, ETH = instrument("BTC-USDC", venue_attributes={"market_id": 1}), instrument("ETH-USDC")
BINANCE = instrument("BTCUSDT", "BINANCE.UM")


# --- the two kinds of lookup ------------------------------------------------------------------------------------------


class Snapshots(ThreadingHTTPServer):
    """An instrument service: answers with the listings that it has."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.listings: list[dict[str, Any]] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    server: Snapshots

    def do_GET(self) -> None:
        body = json.dumps({"listings": self.server.listings}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        del format, args


def listing(symbol: str, exchange: str, listing_id: str, tick_size: str = "0.1") -> dict[str, Any]:
    version = {
        "symbol": symbol,
        "base": "BTC",
        "exchange_symbol": "1",
        "tick_size": tick_size,
        "lot_size": "0.001",
        "min_size": "0.001",
        "min_notional": "5",
        "contract_size": "1",
        "valid_to": None,
    }
    return {
        "id": listing_id,
        "market_type": "SWAP",
        "exchange": exchange,
        "quote": "USDT",
        "settle": "USDT",
        "inverse": False,
        "underlying": {"kind": "CRYPTO", "code": "BTC"},
        "versions": [version],
    }


@pytest.fixture
def service() -> Iterator[Snapshots]:
    server = Snapshots()
    server.listings = [listing("BTCUSDT", "BINANCE.UM", "b1")]
    yield server
    server.shutdown()
    server.server_close()


def install(monkeypatch: pytest.MonkeyPatch, lookup: InstrumentsLookup) -> None:
    """Make ``lookup`` the process's own, as Qubx's manager holds it."""
    from qubx.core.lookups import LookupsManager

    manager = object.__new__(LookupsManager)
    manager._i_lookup = lookup
    monkeypatch.setattr(LookupsManager, "instance", manager, raising=False)


def file_lookup(folder: Path) -> InstrumentsLookup:
    from qubx.core.lookups import FileInstrumentsLookupWithCCXT, _InstrumentEncoder

    folder.mkdir()
    (folder / "binance.json").write_text(json.dumps([BINANCE], cls=_InstrumentEncoder))
    return FileInstrumentsLookupWithCCXT(str(folder))


def service_lookup(server: Snapshots) -> InstrumentsLookup:
    from qubx.core.lookups import InstrumentsLookupService

    return InstrumentsLookupService(f"http://127.0.0.1:{server.server_port}")


@pytest.fixture(params=["file", "service"])
def lookup(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InstrumentsLookup]:
    made = (
        file_lookup(tmp_path / "instruments")
        if request.param == "file"
        else service_lookup(request.getfixturevalue("service"))
    )
    install(monkeypatch, made)
    yield made
    if request.param == "service":
        made.close()


# --- publish ----------------------------------------------------------------------------------------------------------


def test_published_instruments_are_found_and_other_exchanges_stay(lookup: InstrumentsLookup) -> None:
    from qubx.core.lookups import LookupsManager

    from qubx_lighter.lookup import publish

    publish([BTC, ETH])
    manager = LookupsManager()
    assert BTC is manager.find_symbol("LIGHTER", "BTC-USDC")
    assert ETH is manager.find_symbol("LIGHTER", "ETH-USDC", MarketType.SWAP)
    assert [BTC, ETH] == manager.find_instruments("LIGHTER")
    assert [BTC] == manager.find_listings("LIGHTER", "BTC-USDC")
    assert BINANCE == manager.find_symbol("BINANCE.UM", "BTCUSDT")
    assert 3 == len(manager.get_listings())


def test_a_held_instrument_is_updated_in_place(lookup: InstrumentsLookup) -> None:
    from qubx_lighter.lookup import publish

    held = instrument("BTC-USDC", listing_id="their-id", venue_attributes={"market_id": 9})
    publish([held])
    publish([instrument("BTC-USDC", tick_size=0.5, venue_attributes={"market_id": 1})])
    assert held is lookup.find_symbol("LIGHTER", "BTC-USDC")
    assert (0.5, 1, "their-id") == (held.tick_size, held.venue_attributes["market_id"], held.listing_id)
    assert 2 == len(lookup.get_listings())


def test_a_bare_symbol_means_what_was_published_first(lookup: InstrumentsLookup) -> None:
    from qubx_lighter.lookup import publish

    spot = instrument("BTC-USDC", market_type=MarketType.SPOT)
    publish([spot])
    publish([BTC, spot])
    assert MarketType.SWAP == lookup.find_symbol("LIGHTER", "BTC-USDC").market_type
    assert spot is lookup.find_symbol("LIGHTER", "BTC-USDC", MarketType.SPOT)


def test_a_reader_that_is_under_way_does_not_see_the_dict_change(lookup: InstrumentsLookup) -> None:
    from qubx_lighter.lookup import publish

    reading = iter(lookup.get_lookup().values())
    publish([BTC])
    assert [BINANCE] == list(reading)


def test_published_instruments_survive_a_refresh_of_the_service(
    service: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qubx_lighter.lookup import publish

    lookup = service_lookup(service)
    install(monkeypatch, lookup)
    publish([BTC])
    publish([ETH])
    service.listings = [
        listing("BTCUSDT", "BINANCE.UM", "b1", tick_size="0.5"),
        listing("BTC-USDC", "LIGHTER", "l1"),
        listing("SOLUSDT", "BINANCE.UM", "b2"),
    ]
    assert lookup.refresh()
    ours = lookup.find_symbol("LIGHTER", "BTC-USDC")
    assert (1, "l1") == (ours.venue_attributes["market_id"], ours.listing_id)
    assert ETH is lookup.find_symbol("LIGHTER", "ETH-USDC")
    assert 0.5 == lookup.find_symbol("BINANCE.UM", "BTCUSDT").tick_size
    assert lookup.find_symbol("BINANCE.UM", "SOLUSDT") is not None
    assert 4 == len(lookup.get_listings())
    lookup.close()


def test_a_kind_of_lookup_that_is_not_known_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from qubx_lighter.errors import ConfigurationError
    from qubx_lighter.lookup import publish

    install(monkeypatch, InstrumentsLookup())
    with pytest.raises(ConfigurationError, match="InstrumentsLookup"):
        publish([BTC])


# --- a listing with perpetuals and spot markets -----------------------------------------------------------------------

ETH_SPOT = instrument("ETH-USDC", market_type=MarketType.SPOT, venue_attributes={"market_id": 2048})
LIT_SPOT = instrument("LIT-USDC", market_type=MarketType.SPOT, venue_attributes={"market_id": 2049})


def test_perpetuals_and_spot_markets_of_one_name_stay_apart(lookup: InstrumentsLookup) -> None:
    from qubx.core.lookups import LookupsManager

    from qubx_lighter.lookup import publish

    for _ in range(2):  # a refresh changes nothing about it
        publish([BTC, ETH, ETH_SPOT, LIT_SPOT])
    manager = LookupsManager()
    assert ETH is manager.find_symbol("LIGHTER", "ETH-USDC")
    assert ETH is manager.find_symbol("LIGHTER", "ETH-USDC", MarketType.SWAP)
    assert ETH_SPOT is manager.find_symbol("LIGHTER", "ETH-USDC", MarketType.SPOT)
    assert LIT_SPOT is manager.find_symbol("LIGHTER", "LIT-USDC")
    assert [BTC, ETH] == manager.find_instruments("LIGHTER", market_type=MarketType.SWAP)
    assert [ETH_SPOT, LIT_SPOT] == manager.find_instruments("LIGHTER", market_type=MarketType.SPOT)
    assert 5 == len(manager.get_lookup())


def test_the_file_holds_both_and_reads_back_apart(folder: Path) -> None:
    from qubx.core.lookups import FileInstrumentsLookupWithCCXT

    from qubx_lighter.lookup import write_file

    write_file([ETH, ETH_SPOT], folder)
    read = FileInstrumentsLookupWithCCXT(str(folder))
    for written in (ETH, ETH_SPOT):
        assert vars(written) == vars(read.find_symbol("LIGHTER", "ETH-USDC", written.market_type))


# --- what the lookup holds of the venue already ------------------------------------------------------------------------


@pytest.fixture
def error_lines() -> Iterator[list[str]]:
    from qubx import logger

    lines: list[str] = []
    sink = logger.add(lines.append, level="WARNING", format="{message}")
    yield lines
    logger.remove(sink)


def entry(symbol: str, market_id: int, **options: Any) -> Instrument:
    return instrument(symbol, venue_attributes={"market_id": market_id}, **options)


def holding(monkeypatch: pytest.MonkeyPatch, folder: Path, *entries: Instrument) -> InstrumentsLookup:
    """Install a file lookup whose folder held ``entries`` when Qubx started."""
    from qubx.core.lookups import FileInstrumentsLookupWithCCXT

    from qubx_lighter.lookup import write_file

    write_file(entries, folder)
    lookup = FileInstrumentsLookupWithCCXT(str(folder))
    install(monkeypatch, lookup)
    return lookup


def ours(lookup: InstrumentsLookup) -> list[str]:
    return sorted(str(held) for held in lookup.get_lookup().values() if held.exchange == "LIGHTER")


def test_an_entry_whose_id_went_to_another_coin_is_dropped_with_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error_lines: list[str]
) -> None:
    from qubx_lighter.lookup import publish

    lookup = holding(monkeypatch, folder, entry("GRAM-USDC", 12), entry("BTC-USDC", 1))
    for _ in range(2):
        publish([BTC, entry("TON-USDC", 12)])
    assert ["LIGHTER:SWAP:BTC-USDC", "LIGHTER:SWAP:TON-USDC"] == ours(lookup)
    (line,) = error_lines
    assert "GRAM-USDC dropped from trading: 12 is 'SWAP TON' at the venue, not 'SWAP GRAM'" in line
    assert BINANCE == lookup.find_symbol("BINANCE.UM", "BTCUSDT")


def test_an_entry_of_the_wrong_type_is_dropped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error_lines: list[str]
) -> None:
    from qubx_lighter.lookup import publish

    lookup = holding(monkeypatch, folder, entry("ETHUSDC", 2048, base="ETH"))
    publish([ETH, ETH_SPOT])
    assert ["LIGHTER:SPOT:ETH-USDC", "LIGHTER:SWAP:ETH-USDC"] == ours(lookup)
    assert "'SPOT ETH' at the venue, not 'SWAP ETH'" in error_lines[0]


def test_entries_that_claim_one_id_twice_are_dropped_and_ours_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error_lines: list[str]
) -> None:
    from qubx_lighter.lookup import publish

    twice = [entry("BTCUSDC", 1, base="BTC"), entry("BTC_USDC", 1, base="BTC")]
    lookup = holding(monkeypatch, folder, *twice)
    publish([BTC])
    assert (["LIGHTER:SWAP:BTC-USDC"], 2) == (
        ours(lookup),
        sum("2 lookup entries claim 1" in line for line in error_lines),
    )


def test_stale_entries_and_other_spellings_stay_without_a_word(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error_lines: list[str]
) -> None:
    from qubx_lighter.lookup import publish

    others = [entry("BTCUSDC", 1, base="BTC"), entry("OLD-USDC", 77), instrument("NAMELESS-USDC")]
    lookup = holding(monkeypatch, folder, *others)
    publish([BTC, ETH])
    assert sorted(map(str, [*others, BTC, ETH])) == ours(lookup)
    assert [] == error_lines


def test_an_entry_with_nonsense_in_it_stops_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qubx_lighter.lookup import publish

    lookup = holding(
        monkeypatch,
        folder,
        instrument("A-USDC", exchange_symbol=7),
        instrument("B-USDC", venue_attributes={"market_id": []}),
    )
    publish([BTC, entry("C-USDC", 7)])
    assert ["LIGHTER:SWAP:B-USDC", "LIGHTER:SWAP:BTC-USDC", "LIGHTER:SWAP:C-USDC"] == ours(lookup)


def test_the_delisted_keep_their_entry_with_its_date_and_make_room_for_those_that_trade(
    lookup: InstrumentsLookup,
) -> None:
    import pandas as pd

    from qubx_lighter.lookup import publish

    held = entry("SOL-USDC", 2)
    publish([BTC, held])
    gone = entry("SOL-USDC", 2, delisted_at=pd.Timestamp("2026-01-01"))
    publish([BTC, ETH], delisted=[gone, entry("NEVER-USDC", 3)])
    assert held is lookup.find_symbol("LIGHTER", "SOL-USDC")
    assert pd.Timestamp("2026-01-01") == held.delisted_at
    assert ["LIGHTER:SWAP:BTC-USDC", "LIGHTER:SWAP:ETH-USDC", "LIGHTER:SWAP:SOL-USDC"] == ours(lookup)
    assert [BTC, ETH] == lookup.find_instruments("LIGHTER", as_of="2026-02-01")
    publish([BTC, ETH, entry("SOL-USDC", 2)], delisted=[])
    assert held.delisted_at is None


# --- telling a running context -----------------------------------------------------------------------------------------


def test_nobody_listens_before_a_context_runs(lookup: InstrumentsLookup) -> None:
    from qubx_lighter.lookup import announce, publish

    assert not announce([BTC])
    publish([BTC])
    assert not announce([BTC])


def test_a_context_that_listens_is_told_until_it_stops(lookup: InstrumentsLookup) -> None:
    from qubx.core.basics import InstrumentChanges
    from qubx.core.lookups import LookupsManager

    from qubx_lighter.lookup import announce, publish

    held = entry("BTC-USDC", 1, listing_id="their-id")
    publish([held])
    told: list[InstrumentChanges] = []
    manager = LookupsManager()
    manager.add_changes_listener(told.append)
    publish([held])
    fresh = entry("BTC-USDC", 1, tick_size=0.5)
    assert announce([fresh])
    ((updated,),) = [changes.updated for changes in told]
    assert {"tick_size": (0.1, 0.5)} == held.update_from(updated)
    manager.remove_changes_listener(told.append)
    manager.remove_changes_listener(told.append)
    assert (False, 1) == (announce([fresh]), len(told))


# --- unknown symbols --------------------------------------------------------------------------------------------------


def watch(exchange: str = "LIGHTER") -> tuple[list[tuple[str, list[str]]], Callable[[], None]]:
    from qubx_lighter.lookup import observe_unknown

    reports: list[tuple[str, list[str]]] = []
    return reports, observe_unknown(exchange, lambda symbol, close: reports.append((symbol, close)))


def find(*arguments: Any) -> Instrument | None:
    from qubx.core.lookups import LookupsManager

    found: Instrument | None = LookupsManager().find_symbol(*arguments)
    return found


@pytest.fixture
def _published(lookup: InstrumentsLookup) -> None:
    from qubx_lighter.lookup import publish

    publish([BTC, ETH])


@pytest.mark.usefixtures("_published")
def test_an_unknown_symbol_is_reported_once_with_what_comes_close() -> None:
    reports, undo = watch()
    for _ in range(3):
        assert find("LIGHTER", "BTCUSDC", None) is None
    assert [("BTCUSDC", ["BTC-USDC"])] == reports
    undo()


@pytest.mark.usefixtures("_published")
@pytest.mark.parametrize(
    ("symbol", "market_type", "report"),
    [
        ("BTC", None, ("BTC", ["BTC-USDC"])),
        ("ETH-USDT", None, ("ETH-USDT", ["ETH-USDC"])),
        ("BTC-USDC", MarketType.SPOT, ("SPOT:BTC-USDC", ["SWAP:BTC-USDC"])),
        ("BTTC-USDC", None, ("BTTC-USDC", ["BTC-USDC"])),
        ("BTCUSDX", None, ("BTCUSDX", ["BTC-USDC"])),
        ("USDC", None, ("USDC", [])),
    ],
)
def test_close_matches_by_base_type_and_spelling(
    symbol: str, market_type: MarketType | None, report: tuple[str, list[str]]
) -> None:
    reports, undo = watch()
    assert find("LIGHTER", symbol, market_type) is None
    assert report == reports[0]
    undo()


@pytest.mark.usefixtures("_published")
def test_known_symbols_and_other_exchanges_are_not_reported() -> None:
    reports, undo = watch()
    assert BTC is find("LIGHTER", "BTC-USDC", None)
    assert BINANCE == find("BINANCE.UM", "BTCUSDT", None)
    assert find("BINANCE.UM", "NOPE", None) is None
    assert [] == reports
    undo()


@pytest.mark.usefixtures("_published")
def test_installed_twice_the_latest_report_is_called_and_each_can_be_taken_away() -> None:
    first, undo_first = watch()
    second, undo_second = watch()
    find("LIGHTER", "NOPE", None)
    assert ([], 1) == (first, len(second))
    undo_second()
    undo_second()
    find("LIGHTER", "NOPE", None)
    assert (1, 1) == (len(first), len(second))
    undo_first()
    find("LIGHTER", "OTHER", None)
    assert (1, 1) == (len(first), len(second))


@pytest.mark.usefixtures("_published")
def test_taking_the_last_report_away_leaves_the_lookup_as_it_was(lookup: InstrumentsLookup) -> None:
    before = dict(vars(lookup))
    _, undo = watch()
    assert "find_symbol" in vars(lookup)
    undo()
    assert before == vars(lookup)


@pytest.mark.usefixtures("_published")
def test_what_a_report_raises_reaches_whoever_is_looking() -> None:
    from qubx_lighter.errors import ConfigurationError
    from qubx_lighter.lookup import observe_unknown

    def refuse(symbol: str, close: list[str]) -> None:
        raise ConfigurationError(f"{symbol} {close}")

    undo = observe_unknown("LIGHTER", refuse)
    with pytest.raises(ConfigurationError, match="NOPE"):
        find("LIGHTER", "NOPE", None)
    undo()


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A lookup folder with another exchange's file in it, so that Qubx's own need not be built."""
    file_lookup(tmp_path / "instruments")
    return tmp_path / "instruments"


def test_the_file_reads_back_equal_in_every_field(folder: Path) -> None:
    import pandas as pd
    from qubx.core.lookups import FileInstrumentsLookupWithCCXT

    from qubx_lighter.lookup import write_file

    written = instrument(
        "BTC-USDC", min_notional=10.0, listed_at=pd.Timestamp("2025-01-01"), venue_attributes={"market_id": 1}
    )
    assert folder / "lighter.json" == write_file([written], folder)
    read = FileInstrumentsLookupWithCCXT(str(folder)).find_symbol("LIGHTER", "BTC-USDC")
    assert vars(written) == vars(read)


def test_a_refresh_replaces_the_file_and_leaves_no_debris(folder: Path) -> None:
    from qubx_lighter.lookup import write_file

    write_file([BTC], folder)
    before = {file.name for file in folder.iterdir()}
    path = write_file([ETH], folder)
    assert ["ETH-USDC"] == [row["symbol"] for row in json.loads(path.read_text())]
    assert before == {file.name for file in folder.iterdir()} == {"binance.json", "lighter.json"}


def test_a_write_that_fails_leaves_the_old_file(folder: Path) -> None:
    from qubx_lighter.lookup import write_file

    path = write_file([BTC], folder)
    old = path.read_text()
    with pytest.raises(TypeError):
        write_file([instrument("ETH-USDC", venue_attributes={"bad": object()})], path.parent)
    assert old == path.read_text()
    assert not [file for file in path.parent.iterdir() if file.name.startswith(".lighter")]


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    from qubx_lighter.errors import ConfigurationError
    from qubx_lighter.lookup import write_file

    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written") as caught:
        write_file([BTC], tmp_path / "file")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lone_file", [False, True])
def test_in_a_fresh_home_other_exchanges_and_their_fees_stay_visible(tmp_path: Path, lone_file: bool) -> None:
    folder = tmp_path / ".qubx" / "instruments"
    if lone_file:
        folder.mkdir(parents=True)
        (folder / "lighter.json").write_text("[]")
    write = """
        from qubx.core.basics import Instrument, MarketType
        from qubx_lighter.lookup import write_file
        btc = Instrument("BTC-USDC", MarketType.SWAP, "LIGHTER", "BTC", "USDC", "USDC", "BTC-USDC", 0.1, 0.1, 0.1)
        print(write_file([btc]))
    """
    read = """
        from qubx.core.lookups import lookup
        binance = lookup.find_symbol("BINANCE.UM", "BTCUSDT")
        print(binance, lookup.find_symbol("LIGHTER", "BTC-USDC"), lookup.find_fees("binance.um", "vip0_usdt").maker > 0)
    """
    assert str(folder / "lighter.json") == in_home(tmp_path, write)
    assert "BINANCE.UM:SWAP:BTCUSDT LIGHTER:SWAP:BTC-USDC True" == in_home(tmp_path, read)
    assert ["default.ini"] == [file.name for file in (tmp_path / ".qubx" / "fees").iterdir()]


def test_qubx_resolves_a_universe_on_a_machine_that_has_never_seen_lighter(tmp_path: Path) -> None:
    code = """
        from qubx.core.basics import Instrument, MarketType
        from qubx.utils.runner import runner
        from qubx.utils.runner.configs import ExchangeConfig
        from qubx_lighter.lookup import observe_unknown, publish
        publish([Instrument("BTC-USDC", MarketType.SWAP, "LIGHTER", "BTC", "USDC", "USDC", "BTC-USDC", 0.1, 0.1, 0.1)])
        observe_unknown("LIGHTER", print)
        config = ExchangeConfig(connector="lighter", universe=["btc-usdc", "lighter:swap:btc-usdc", "BTC"])
        print(runner._create_instruments_for_exchange("lighter", config))
        print(len(runner.lookup.find_instruments("BINANCE.UM")) > 100)
    """
    printed = in_home(tmp_path, code).splitlines()
    assert ["BTC ['BTC-USDC']", "[LIGHTER:SWAP:BTC-USDC, LIGHTER:SWAP:BTC-USDC]", "True"] == printed


def in_home(home: Path, code: str) -> str:
    """Run ``code`` in a fresh interpreter whose HOME is ``home``, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QUBX_")}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n" + textwrap.dedent(code)],
        env=environment | {"HOME": str(home), "QUBX_LOG_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert 0 == done.returncode, done.stderr
    return "\n".join(line for line in done.stdout.splitlines() if "WARNING" not in line)
