"""Run the quoting example against a local Lighter venue for a while, then hold Qubx's account against the venue's.

    python examples/demo.py [--seconds 20] [--interrupt]

Everything stays on 127.0.0.1 and in a temporary folder: a venue process, a funded account with a fresh API key, an isolated
Qubx home. ``--interrupt`` kills the venue's process half-way and starts it again with its state. The exit status is 0 when
there were fills and both accounts are equal, else 1.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qubx.core.interfaces import IStrategyContext
    from quoting import TwoSidedQuoter

HERE = Path(__file__).resolve().parent
EXCHANGE = "LIGHTER"
START_TIMEOUT_S = 60.0
EQUAL_TIMEOUT_S = 15.0
QUIET_S = 1.0
FAR_TICKS = 2000


class Venue:
    """The local venue as a process of its own, which can be killed and comes back with its state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.accounts = folder / "accounts.toml"
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, on the port it had before, and wait until it has said where it listens."""
        command = [sys.executable, "-m", "qubx_lighter", "sim", "--port", str(self.port), "--seed", "7"]
        command += ["--state", str(self.folder / "venue.jsonl"), "--accounts-out", str(self.accounts)]
        log = (self.folder / "venue.log").open("a")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)  # noqa: S603 - our own
        assert self.process.stdout is not None
        for line in self.process.stdout:
            log.write(line)
            if "http://127.0.0.1:" in line:
                self.port = int(line.split("http://127.0.0.1:")[1].split("/")[0].split()[0])
                return
        raise SystemExit(f"the venue did not start: see {self.folder / 'venue.log'}")

    def kill(self) -> None:
        """End it at once, without a word to anybody."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def isolated_home() -> Iterator[Path]:
    """Give Qubx a home of its own: it writes to the user's folder."""
    with tempfile.TemporaryDirectory(prefix="qubx-lighter-demo-") as folder:
        os.environ["HOME"] = folder
        os.environ["QUBX_LOG_FOLDER"] = str(Path(folder) / "logs")
        os.environ.setdefault("QUBX_LOG_LEVEL", "WARNING")
        yield Path(folder)


def say(text: str, *, live: bool = False) -> None:
    """Print a line; a live one replaces itself on a terminal."""
    if live and sys.stdout.isatty():
        print(f"\r\033[K{text}", end="", flush=True)
    else:
        print(text, flush=True)


def progress(strategy: TwoSidedQuoter, seconds: float) -> str:
    """Sum the run up in a line."""
    received = strategy.received
    return (
        f"{seconds:5.1f} s  books {received['orderbook']:,}  quotes {received['quote']:,}  trades {received['trade']:,}  "
        f"orders {strategy.sent}  fills {strategy.fills}"
    )


def watch(strategy: TwoSidedQuoter, seconds: float, venue: Venue, *, interrupt: bool) -> None:
    """Show the run until its time is over."""
    began = time.monotonic()
    next_line = 0.0
    while (elapsed := time.monotonic() - began) < seconds:
        if interrupt and elapsed > seconds / 3:
            interrupt = False
            say("\nkilling the venue")
            venue.kill()
            time.sleep(2.0)
            venue.start()
            say("the venue is back with its state")
        if sys.stdout.isatty() or elapsed >= next_line:
            next_line = elapsed + 4.0
            say(progress(strategy, elapsed), live=True)
        time.sleep(0.2)
    say("")


def venue_account(venue: Venue) -> dict[str, Any]:
    """Read the account as the venue tells it, apart from the connector that is being judged."""
    import asyncio

    import toml
    from pydantic import SecretStr

    from qubx_lighter.client import LighterClient
    from qubx_lighter.signer import Signer

    row = toml.load(venue.accounts)["accounts"][0]
    index, key_index = int(row["account_index"]), int(row["api_key_index"])
    signer = Signer(
        chain_id=304,
        account_index=index,
        api_key_index=key_index,
        private_key=SecretStr(row["secret"]),
        base_url=venue.url,
    )

    async def read() -> dict[str, Any]:
        client = LighterClient(venue.url, token=lambda: signer.auth_token(now_s=int(time.time()), lifetime_s=600))
        try:
            orders = await client.active_orders(index)
            account = await client.account(index)
        finally:
            await client.close()
        return {
            "orders": {o.order_index: (o.price, o.initial_base_amount, o.filled_base_amount) for o in orders},
            "positions": {p.market_id: p.sign * p.position for p in account.positions or [] if p.position},
            "balance": account.collateral,
        }

    try:
        return asyncio.run(read())
    finally:
        signer.close()


def qubx_account(ctx: IStrategyContext) -> dict[str, Any]:
    """Read the account as Qubx holds it."""
    live = [order for order in ctx.get_orders().values() if not order.status.is_terminal]
    return {
        "orders": {int(o.venue_order_id or 0): (o.price, o.quantity, o.filled_quantity) for o in live},
        "positions": {
            int(p.instrument.venue_attributes["market_id"]): p.quantity
            for p in ctx.get_positions().values()
            if p.quantity
        },
        "balance": ctx.get_balance("USDC", EXCHANGE).total,
    }


def differences(qubx: dict[str, Any], venue: dict[str, Any]) -> list[str]:
    """Name what differs; sizes to a millionth, the balance to the cent that Qubx reconciles by."""
    found = []
    if qubx["orders"] != venue["orders"]:
        found.append(f"orders: qubx {qubx['orders']} venue {venue['orders']}")
    markets = qubx["positions"].keys() | venue["positions"].keys()
    if any(abs(qubx["positions"].get(m, 0.0) - venue["positions"].get(m, 0.0)) > 1e-6 for m in markets):  # noqa: PLR2004
        found.append(f"positions: qubx {qubx['positions']} venue {venue['positions']}")
    if abs(qubx["balance"] - venue["balance"]) > 0.01:  # noqa: PLR2004
        found.append(f"balance: qubx {qubx['balance']} venue {venue['balance']}")
    return found


def compare(ctx: IStrategyContext, venue: Venue) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    """Read both sides until they agree; fills go on meanwhile, so one reading may catch a frame under way."""
    deadline = time.monotonic() + EQUAL_TIMEOUT_S
    while True:
        truth = venue_account(venue)
        time.sleep(QUIET_S / 2)
        qubx = qubx_account(ctx)
        found = differences(qubx, truth)
        if not found or time.monotonic() > deadline:
            return found, qubx, truth


def table(rows: list[tuple[str, str]]) -> None:
    """Print two columns."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")


def report(ctx: IStrategyContext, strategy: TwoSidedQuoter) -> None:
    """Print what happened."""
    changes, received = strategy.changes, strategy.received
    p50, p99 = (ctx.health.get_order_submit_latency(EXCHANGE, percentile) for percentile in (50, 99))
    positions = [p for p in ctx.get_positions().values() if p.quantity]
    pnl = sum(p.r_pnl - p.commissions for p in ctx.get_positions().values())
    print()
    table(
        [
            ("books / quotes / trades", f"{received['orderbook']:,} / {received['quote']:,} / {received['trade']:,}"),
            ("orders sent", str(strategy.sent)),
            ("  filled", str(changes["FILLED"])),
            ("  cancelled", str(changes["CANCELED"])),
            ("  rejected", str(changes["REJECTED"])),
            ("  amended", str(changes["UPDATED"])),
            ("fills", str(strategy.fills)),
            ("fees", f"{strategy.fees:.4f} USDC"),
            ("position", ", ".join(f"{p.quantity:g} {p.instrument.symbol}" for p in positions) or "flat"),
            ("realized PnL after fees", f"{pnl:+.4f} USDC"),
            ("submit to accept", f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"),
        ]
    )


def start_strategy(venue: Venue) -> IStrategyContext:
    """Run the example strategy against the venue, through Qubx's own runner."""
    os.environ["LIGHTER_BASE_URL"] = venue.url
    sys.path.insert(0, str(HERE))
    from loguru import logger

    logger.disable("qubx.core.lookups")  # it warns of the resource files that Qubx does not ship, once a fresh home
    from qubx.utils.runner.runner import run_strategy_yaml

    say("starting the strategy through Qubx's runner")
    return run_strategy_yaml(HERE / "demo.yml", venue.accounts, blocking=False)


def run(folder: Path, *, seconds: float, interrupt: bool) -> int:
    """Run the demo in ``folder``; give the exit status."""
    venue = Venue(folder)
    with contextlib.ExitStack() as stack:
        stack.callback(venue.kill)
        venue.start()
        say(f"a Lighter venue listens on {venue.url}")
        ctx = start_strategy(venue)
        stack.callback(ctx.stop)
        strategy: Any = ctx.strategy
        deadline = time.monotonic() + START_TIMEOUT_S
        while not getattr(strategy, "sent", 0):
            if time.monotonic() > deadline:
                say("the strategy did not start to quote")
                return 1
            time.sleep(0.1)
        watch(strategy, seconds, venue, interrupt=interrupt)
        strategy.offset_ticks = FAR_TICKS  # orders that rest through the comparison: something to compare
        time.sleep(QUIET_S)
        strategy.quoting = False
        time.sleep(QUIET_S)
        found, qubx, truth = compare(ctx, venue)
        report(ctx, strategy)
        ctx.stop()
        left = len(venue_account(venue)["orders"])
    print()
    print(f"  qubx   {len(qubx['orders'])} orders, position {qubx['positions']}, balance {qubx['balance']:.4f} USDC")
    print(f"  venue  {len(truth['orders'])} orders, position {truth['positions']}, balance {truth['balance']:.4f} USDC")
    for line in found:
        print(f"  DIFFERENT {line}")
    if left:
        print(f"  LEFT BEHIND {left} orders after the stop")
    if not strategy.fills:
        print("  NO FILLS")
    equal = not found and not left
    print("  equal" if equal else "  NOT EQUAL")
    return 0 if equal and strategy.fills else 1


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="Quote on a local Lighter venue and compare the accounts.")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to quote")
    parser.add_argument("--interrupt", action="store_true", help="kill the venue on the way and start it again")
    options = parser.parse_args()
    with isolated_home() as folder:
        return run(folder, seconds=options.seconds, interrupt=options.interrupt)


if __name__ == "__main__":
    sys.exit(main())
