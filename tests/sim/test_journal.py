"""Journal: what was answered is there after a kill, and replay gives the same venue."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import get_args

import pytest

from qubx_lighter.errors import WireError
from qubx_lighter.protocol.order_table import TABLE
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.journal import Journal
from qubx_lighter.sim.model.commands import (
    AcknowledgeNotification,
    AdvanceTime,
    CancelAll,
    CancelMarket,
    CancelOrder,
    ChangeMarket,
    ChangeTier,
    Command,
    CreateAccount,
    CreateAsset,
    CreateMarket,
    DelistMarket,
    Deposit,
    DepositAsset,
    EndOrder,
    PlaceOrder,
    RegisterKey,
    SetMakerOnlyKeys,
    SetMarketStatus,
    SettleFunding,
    SubmitBatch,
    SubmitTransaction,
)
from qubx_lighter.sim.model.specs import AssetSpec
from tests.sim.desk import ALICE, BTC, ETH, FEED, KEY, START, Desk
from tests.sim.states import state

KINDS = [*[kind for kind in TABLE if kind[0] == 0] * 4, *TABLE]
"""Mostly limit orders, and everything else."""


def opening() -> list[Command]:
    """Open two markets and four accounts."""
    commands: list[Command] = [CreateMarket(ETH), CreateMarket(BTC)]
    commands += [CreateAccount(index, f"0x{index}", 10**9, fee_free=index > 1) for index in range(4)]
    commands += [RegisterKey(ALICE, KEY, "0x00", nonce=3), Deposit(ALICE, 5_000_000)]
    return commands


def something(random: Random, step: int) -> Command:
    """Make up a command, sensible or not."""
    account, market_id = random.randrange(4), random.randrange(2)
    kind = random.random()
    if kind < 0.75:
        order_type, time_in_force = random.choice(KINDS)
        return PlaceOrder(
            account_index=account,
            market_id=market_id,
            is_ask=random.random() < 0.5,
            base_lots=random.randint(40, 3_000),
            price_ticks=300_000 + random.randint(-30, 30),
            client_order_index=random.randint(0, 60),
            order_type=order_type,
            time_in_force=time_in_force,
            reduce_only=random.random() < 0.1,
            trigger_price_ticks=300_000 + random.randint(-30, 30)
            if TABLE[order_type, time_in_force].has_trigger
            else 0,
        )
    if kind < 0.9:
        return CancelOrder(account, market_id, random.randint(1, 60))
    if kind < 0.97:
        nonce = step if random.random() < 0.5 else 3
        body = f'"ApiKeyIndex":4,"ExpiredAt":{2 * START},"Nonce":{nonce},"L2TxAttributes":{{"4":1}}'
        return SubmitTransaction(16, f'{{"AccountIndex":1,{body},"TimeInForce":0,"Time":0}}', f"{step:080x}")
    rare: list[Command] = [CancelAll(account), AdvanceTime(), Deposit(account, random.randint(-100, 100))]
    rare += [SettleFunding(market_id, random.randint(-50, 50))]
    return random.choice(rare)


def play(path: Path, *, seed: int, commands: int) -> Engine:
    random = Random(seed)
    now = START
    with Journal(path, seed=seed) as journal:
        engine = journal.restore()
        for command in opening():
            assert journal.apply(engine, command, now).ok
        for step in range(commands):
            now += random.randrange(100_000)
            journal.apply(engine, something(random, step), now)
    engine.drain()
    return engine


def restored(path: Path) -> Engine:
    with Journal(path) as journal:
        return journal.restore()


def test_replay_gives_the_same_venue(tmp_path: Path) -> None:
    seed = 42
    print("seed", seed)
    engine = play(tmp_path / "journal.jsonl", seed=seed, commands=2_000)
    assert len(engine.trades()) > 100
    assert any(engine.active_orders(account) for account in range(4))
    assert {"mark-price", "twap"} <= {
        order.trigger_status for index in range(4) for order in engine.active_orders(index)
    }
    assert any(order.trigger_time_ms for index in range(4) for order in engine.inactive_orders(index))
    again = restored(tmp_path / "journal.jsonl")
    assert state(engine) == state(again)
    assert [] == again.drain()
    for each in (engine, again):
        each.apply(PlaceOrder(2, 0, False, 100, 400_000), START)
    assert engine.drain() == again.drain()


def test_state_comparison_sees_a_difference(tmp_path: Path) -> None:
    engine = play(tmp_path / "a", seed=1, commands=50)
    other = play(tmp_path / "b", seed=1, commands=50)
    assert state(engine) == state(other)
    account = other.account(2)
    assert account is not None
    account.collateral_micro += 1
    assert state(engine) != state(other)


def test_torn_last_line_is_dropped_and_the_journal_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    engine = play(path, seed=7, commands=2_000)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"now":1795000000000000,"command":{"type":"Deposit","account_index":1,"amou')
    assert state(engine) == state(restored(path))
    assert whole == path.read_bytes()

    with Journal(path) as journal:
        again = journal.restore()
        engine.apply(Deposit(1, 5), START)
        journal.apply(again, Deposit(1, 5), START)
    engine.drain()
    assert state(engine) == state(restored(path))


def test_line_cut_before_its_end_never_ran(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    play(path, seed=7, commands=0)
    whole = path.read_bytes()
    with Journal(path) as journal:
        journal.restore()
        journal.append(Deposit(1, 5), START)
    path.write_bytes(path.read_bytes()[:-1])
    account = restored(path).account(1)
    assert account is not None
    assert 10**9 + 5_000_000 == account.collateral_micro
    assert whole == path.read_bytes()


def test_command_is_in_the_file_before_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        engine = journal.restore()
        before = path.read_bytes().count(b"\n")
        journal.append(Deposit(1, 5), START)
        assert before + 1 == path.read_bytes().count(b"\n")
        assert engine.now == 0


def test_seed_is_the_journals(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, seed=11) as journal:
        first = journal.restore().book_nonce
    with Journal(path, seed=12) as journal:
        assert first == journal.restore().book_nonce
    assert Engine(11).book_nonce == first != Engine(12).book_nonce


def test_killed_before_the_first_line_it_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"version":1,"se')
    assert state(Engine(0)) == state(restored(path))
    assert 1 == path.read_bytes().count(b"\n")


@pytest.mark.parametrize(
    ("line", "text"),
    [(0, b'{"version":2,"seed":0}'), (0, b"hello"), (2, b'{"now":1,"command":{"type":"Explode"}}'), (2, b"")],
)
def test_damaged_journal_is_named_with_its_line(tmp_path: Path, line: int, text: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    play(path, seed=1, commands=5)
    lines = path.read_bytes().split(b"\n")
    lines[line] = text
    path.write_bytes(b"\n".join(lines))
    with Journal(path) as journal, pytest.raises(WireError, match=rf"journal\.jsonl, line {line + 1}:"):
        journal.restore()


def test_every_command_survives_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    desk = Desk()
    desk.place(FEED, "sell", 100, 300_000)
    commands: list[Command] = [
        *opening(),
        PlaceOrder(2, 0, True, 100, 300_000, 5, 0, 2, False, START // 1000 + 86_400_000),
        CancelOrder(2, 0, 5),
        CancelAll(2),
        AdvanceTime(),
        SettleFunding(0, -12),
        AcknowledgeNotification(2, "notif_1"),
        ChangeTier(1, "standard"),
        SetMakerOnlyKeys(1, (4,)),
        EndOrder(1, "canceled-expired"),
        CancelMarket(0),
        ChangeMarket(0, price_decimals=3, min_base_lots=100),
        SetMarketStatus(1, "inactive"),
        DelistMarket(1),
        CreateAsset(AssetSpec(1, "ETH", 8, 18)),
        DepositAsset(2, 1, 10**8),
        SubmitTransaction(16, '{"AccountIndex":1}', "00"),
        SubmitBatch((SubmitTransaction(16, '{"AccountIndex":1}', "00"),)),
    ]
    with Journal(path) as journal:
        journal.restore()
        for command in commands:
            journal.append(command, START)
    kinds = {type(command).__name__ for command in commands}
    assert {kind.__name__ for kind in get_args(Command)} == kinds
    text = path.read_text()
    assert all(f'"type":"{kind}"' in text for kind in kinds)
    restored(path)
