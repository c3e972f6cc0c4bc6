"""The venue as a program: what it opens, what it prints, what a kill leaves of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
import tomllib
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from qubx_lighter.constants import TxType
from qubx_lighter.errors import ConfigurationError, WireError
from qubx_lighter.sim import app
from qubx_lighter.sim.app import Funded, Venue, accounts_toml, open_venue
from qubx_lighter.sim.markets import listing
from tests.sim.caller import ALICE, BOB, KEY, calling, cancel_tx, create_tx, place, quiet_venue, token

# --- open_venue -------------------------------------------------------------------------------------------------------


async def test_a_venue_opens_all_markets_and_moves_them() -> None:
    async with open_venue() as venue, calling(venue) as caller:
        assert ["ETH", "BTC", "SOL", "HYPE"] == [spec.symbol for spec in venue.engine.markets.values()]
        assert [0, 1, 2, 24] == list(venue.engine.markets)
        await caller.subscribe("trade/0")
        assert (await caller.read_until("update/trade"))["trades"]
    assert venue.feed is not None
    assert venue.feed.cancelled()


async def test_unknown_markets_are_named() -> None:
    with pytest.raises(ConfigurationError, match="no such market: DOGE; the local venue has ETH, BTC, SOL, HYPE"):
        async with open_venue(markets=["ETH", "DOGE"]):
            pass


async def test_a_port_that_is_taken_is_an_os_error() -> None:
    async with quiet_venue() as venue:
        with pytest.raises(OSError, match="address already in use"):
            async with quiet_venue(port=int(venue.url.rpartition(":")[2])):
                pass


async def test_a_venue_comes_back_as_it_was(tmp_path: Path) -> None:
    state = tmp_path / "venue.jsonl"
    async with quiet_venue(state=state, seed=3) as venue:
        resting = place(venue, "sell", 2_000, 300_000)
        for step in range(3):
            venue.server.submit(14, create_tx(venue, "buy", 1_000, 300_000 - step, ClientOrderIndex=step + 1))
        venue.server.submit(TxType.CANCEL_ORDER, cancel_tx(venue, 3))
        before = await facts(venue)
    async with quiet_venue(state=state, accounts=[Funded("0x" + "f" * 80, ALICE, KEY, 1.0)]) as venue:
        assert before == await facts(venue)
        assert venue.engine.account(BOB) is not None
        assert 1_000 == next(order for order in venue.engine.book(0).orders(is_ask=True)).remaining_lots
        assert resting == next(order for order in venue.engine.book(0).orders(is_ask=True)).order_index
        assert venue.server.submit(14, create_tx(venue, "buy", 1_000, 299_000))[1].ok


async def facts(venue: Venue) -> dict[str, Any]:
    """Read all that an account has, as a client does."""
    async with calling(venue) as caller:
        account: dict[str, Any] = {"account_index": ALICE, "auth": token()}
        return {
            "account": (await caller.body("/api/v1/account", by="index", value=ALICE))["accounts"],
            "active": (await caller.body("/api/v1/accountActiveOrders", **account))["orders"],
            "inactive": (await caller.body("/api/v1/accountInactiveOrders", limit=100, **account))["orders"],
            "trades": (await caller.body("/api/v1/trades", sort_by="timestamp", limit=100, **account))["trades"],
            "keys": (await caller.body("/api/v1/apikeys", account_index=ALICE))["api_keys"],
            "book": (await caller.subscribe("order_book/0"))["order_book"]["asks"],
        }


async def test_a_state_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("hello\n")
    with pytest.raises(WireError, match="line 1"):
        async with open_venue(state=tmp_path / "state"):
            pass


# --- run --------------------------------------------------------------------------------------------------------------


class Keys:
    """Makes keys that can be told apart."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> tuple[str, str]:
        self.made += 1
        return f"0x{self.made:080x}", f"0x{self.made + 1000:080x}"


async def run_until_told(keys: Keys, **options: Any) -> list[str]:
    """Run the program, stop it as Ctrl-C does once it has said so; give its lines."""
    lines: list[str] = []

    def write(line: str) -> None:
        lines.append(line)
        if line.startswith("Ctrl-C"):
            os.kill(os.getpid(), signal.SIGINT)

    defaults: dict[str, Any] = {
        "port": 0,
        "markets": ["ETH"],
        "seed": 0,
        "replay": [],
        "speed": 1.0,
        "state": None,
        "accounts_out": None,
        "collateral": 500.0,
    }
    await asyncio.wait_for(app._serve(generate_api_key=keys, write=write, **defaults | options), 10)
    return lines


async def test_the_program_prints_where_it_is_and_a_ready_accounts_file(tmp_path: Path) -> None:
    lines = await run_until_told(Keys(), accounts_out=tmp_path / "accounts.toml")
    assert lines[0].startswith("a Lighter venue listens on http://127.0.0.1:")
    assert lines[0].endswith("(chain id 304); markets: ETH")
    text = (tmp_path / "accounts.toml").read_text()
    assert text in lines[1]
    assert [
        {
            "name": "local",
            "exchange": "LIGHTER",
            "api_key": Funded().l1_address,
            "secret": f"0x{1:080x}",
            "account_index": 100,
            "api_key_index": 4,
            "base_currency": "USDC",
            "commissions": "maker=0.0020,taker=0.0200",
        }
    ] == tomllib.loads(text)["accounts"]
    assert 0o600 == stat.S_IMODE((tmp_path / "accounts.toml").stat().st_mode)


async def test_with_a_state_the_key_is_kept_and_nobody_else_reads_it(tmp_path: Path) -> None:
    keys, state, out = Keys(), tmp_path / "venue.jsonl", tmp_path / "accounts.toml"
    first = await run_until_told(keys, state=state)
    second = await run_until_told(keys, state=state, accounts_out=out)
    assert 1 == keys.made
    assert first[1].partition("\n")[2] == second[1].partition("\n")[2]
    assert 0o600 == stat.S_IMODE((tmp_path / "venue.jsonl.accounts.toml").stat().st_mode)
    assert f"0x{1:080x}" == tomllib.loads(out.read_text())["accounts"][0]["secret"]
    assert f"{1:080x}" not in state.read_text()


async def test_a_key_whose_secret_is_lost_is_replaced_and_keeps_its_nonce(tmp_path: Path) -> None:
    keys, state = Keys(), tmp_path / "venue.jsonl"
    await run_until_told(keys, state=state)
    async with open_venue(state=state, synthetic=False) as venue:
        assert venue.server.submit(14, create_tx(venue, "buy", 1_000, 200_000, 100))[1].ok
    (tmp_path / "venue.jsonl.accounts.toml").unlink()
    lines = await run_until_told(keys, state=state)
    assert 2 == keys.made
    assert f"0x{2:080x}" in lines[1]
    async with open_venue(state=state, synthetic=False) as venue:
        account = venue.engine.account(100)
        assert account is not None
        assert (f"0x{1002:080x}", 1) == (account.keys[4].public_key, account.keys[4].nonce)


async def test_a_feed_that_fails_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("qubx_lighter.sim.feeds.synthetic.Synthetic.step", fail)
    stopped = asyncio.Event()
    async with open_venue(markets=["ETH"]) as venue:
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(app._wait(stopped, venue.feed), 5)


def test_the_accounts_file_has_the_fees_in_percent() -> None:
    text = accounts_toml(Funded(account_index=7, api_key_index=9), "0xab", listing.choose(["BTC"]))
    (row,) = tomllib.loads(text)["accounts"]
    assert (7, 9, "0xab", "maker=0.0020,taker=0.0200") == (
        row["account_index"],
        row["api_key_index"],
        row["secret"],
        row["commissions"],
    )


# --- killed -----------------------------------------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
from qubx_lighter.sim.app import run

run(port=int(sys.argv[1]), markets=["ETH", "BTC"], seed=1, replay=[], speed=1.0, state=Path(sys.argv[2]),
    accounts_out=None, collateral=10_000.0, generate_api_key=lambda: ("0x" + "1" * 80, "0x" + "2" * 80))
"""


class Process:
    """The program as a process of its own."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.port = 0
        self.running: subprocess.Popen[str] | None = None

    def start(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-c", PROGRAM, str(self.port), str(self.state)]
        self.running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.running.stdout is not None
        for line in self.running.stdout:
            if "listens on" in line:
                self.port = int(line.split("http://127.0.0.1:")[1].split()[0])
            if line.startswith("Ctrl-C"):
                return
        raise AssertionError("the program ended early")

    def end(self, number: int) -> int:
        assert self.running is not None
        self.running.send_signal(number)
        code = self.running.wait(10)
        assert self.running.stdout is not None
        self.running.stdout.close()
        self.running = None
        return code

    def close(self) -> None:
        if self.running is not None:
            self.end(signal.SIGKILL)

    def get(self, path: str, **params: Any) -> Any:
        return self._open(f"{path}?{urllib.parse.urlencode(params)}")

    def send(self, tx_type: int, body: dict[str, Any]) -> Any:
        return self._open("sendTx", urllib.parse.urlencode({"tx_type": tx_type, "tx_info": json.dumps(body)}).encode())

    def _open(self, path: str, form: bytes | None = None) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", form, timeout=5) as answer:
            return json.load(answer)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    with closing(Process(tmp_path / "venue.jsonl")) as process:
        process.start()
        yield process


def order(nonce: int, side: str, lots: int, price: int, **fields: Any) -> dict[str, Any]:
    now_ms = int(time.time() * 1000)
    body = {
        "AccountIndex": 100,
        "ApiKeyIndex": 4,
        "ExpiredAt": now_ms + 599_000,
        "Nonce": nonce,
        "MarketIndex": 0,
        "ClientOrderIndex": nonce + 1,
        "BaseAmount": lots,
        "Price": price,
        "IsAsk": int(side == "sell"),
        "Type": 0,
        "TimeInForce": 1,
        "ReduceOnly": 0,
        "TriggerPrice": 0,
        "OrderExpiry": now_ms + 3_600_000,
    }
    return body | fields


def own(process: Process) -> dict[str, Any]:
    """Read what a moving market does not change."""
    private = {"account_index": 100, "auth": token(100)}
    (account,) = process.get("account", by="index", value=100)["accounts"]
    positions = [
        {name: row[name] for name in ("market_id", "sign", "position", "avg_entry_price", "realized_pnl")}
        for row in account["positions"]
    ]
    return {
        "collateral": account["collateral"],
        "positions": positions,
        "active": process.get("accountActiveOrders", **private)["orders"],
        "inactive": process.get("accountInactiveOrders", limit=100, **private)["orders"],
        "trades": process.get("trades", sort_by="timestamp", limit=100, **private)["trades"],
        "nonce": process.get("nextNonce", account_index=100, api_key_index=4)["nonce"],
        "keys": process.get("apikeys", account_index=100)["api_keys"],
    }


def test_a_killed_venue_comes_back_with_accounts_orders_positions_and_nonces(process: Process) -> None:
    process.send(14, order(0, "buy", 1_000, 200_000))
    process.send(14, order(1, "sell", 1_000, 400_000))
    process.send(14, order(2, "buy", 500, 330_000, Type=1, TimeInForce=0, OrderExpiry=0))
    process.send(15, order(3, "buy", 1, 1, Index=1))
    before = own(process)
    assert (4, 1, "0.0500") == (before["nonce"], len(before["active"]), before["positions"][0]["position"])
    assert 2 == len(before["inactive"])
    for _ in range(2):
        assert -signal.SIGKILL == process.end(signal.SIGKILL)
        process.start()
        assert before == own(process)
    assert 200 == process.send(14, order(4, "buy", 1_000, 200_000))["code"]
    book = process.get("orderBookOrders", market_id=0, limit=250)
    assert 20 <= len({row["price"] for row in book["asks"]})


def test_the_program_ends_on_sigterm(process: Process) -> None:
    assert 0 == process.end(signal.SIGTERM)
