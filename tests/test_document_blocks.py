"""The code of the documents: configurations are Qubx's and ours, Python is Python, and programs run on the local venue."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from qubx.utils.runner.accounts import AccountConfigurationManager
from qubx.utils.runner.configs import StrategyConfig, resolve_env_vars_recursive

from qubx_lighter.settings import LighterSettings
from qubx_lighter.signer import generate_api_key
from qubx_lighter.sim.model import commands
from tests.documents import DOCUMENTS, SHELL, Block, all_blocks, blocks
from tests.live import US, LiveVenue
from tests.programs import EXAMPLES, ROOT

PYTHON = all_blocks("python")
PROGRAMS = [block for block in PYTHON if "asyncio.run(main())" in block.text]
LANGUAGES = (*SHELL, "text", "python", "yaml", "toml")
BEFORE_EXPIRY_S = 1_800_000_000  # of the token in docs/account.md


def where(block: Block) -> str:
    """Name a block in the list of tests."""
    return block.where


def merged(base: Any, change: Any) -> Any:
    """Lay a part of a configuration over a whole one."""
    if isinstance(base, dict) and isinstance(change, dict):
        return base | {name: merged(base.get(name), value) for name, value in change.items()}
    return change


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_is_in_a_language_that_a_test_reads(path: Path) -> None:
    assert path.read_text().count("```") == 2 * len(list(blocks(path, *LANGUAGES)))


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=where)
def test_a_configuration_is_one_of_qubx_with_settings_of_ours(block: Block) -> None:
    part = yaml.safe_load(block.text)
    example = "simulate.yml" if "simulation" in part else "live.yml"
    whole = resolve_env_vars_recursive(yaml.safe_load((EXAMPLES / example).read_text()))
    if "params" in part.get("live", {}).get("exchanges", {}).get("LIGHTER", {}):
        del whole["live"]["exchanges"]["LIGHTER"]["params"]
    config = StrategyConfig(**merged(whole, part))
    if config.live:
        for exchange in config.live.exchanges.values():
            assert LighterSettings.build(exchange.params).base_url.startswith("http")


@pytest.mark.parametrize("block", all_blocks("toml"), ids=where)
def test_an_account_is_read_by_qubx_and_enough_to_log_in(block: Block, tmp_path: Path) -> None:
    key, _ = generate_api_key()
    file = tmp_path / "accounts.toml"
    lines = [line.replace('"0x..."', f'"{key}"').replace('"..."', f'"{key}"') for line in block.text.splitlines()]
    file.write_text("\n".join(lines).replace('..."', '"'))  # a token's end
    account = AccountConfigurationManager(account_config=file).get_exchange_credentials("LIGHTER")
    settings = LighterSettings.build({}, account.model_dump())
    assert settings.l1_address
    if settings.read_only:
        assert settings.read_token(BEFORE_EXPIRY_S) is not None
    else:
        assert 12345 == settings.credentials().account_index
        assert 1 + block.text.count("api_keys") * 2 == len(settings.signing_keys())


@pytest.mark.parametrize("block", PYTHON, ids=where)
def test_a_snippet_is_python(block: Block) -> None:
    body = "".join(f"    {line}\n" for line in block.text.splitlines())
    compile(f"async def snippet():\n{body}", block.where, "exec")


def test_the_programs_run(tmp_path: Path) -> None:
    venue = LiveVenue(tmp_path)
    key, public_key = generate_api_key()
    venue.execute(commands.RegisterKey(US, 9, public_key))
    environment = {
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "LIGHTER_BASE_URL": venue.venue.url,
        "LIGHTER_ACCOUNT_INDEX": str(US),
        "LIGHTER_API_KEY_INDEX": "9",
        "LIGHTER_API_PRIVATE_KEY": key,
        "LIGHTER_L1_ADDRESS": venue.account.l1_address,
    }
    texts = []
    for program in PROGRAMS:
        done = subprocess.run(
            [sys.executable, "-c", program.text],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
        texts.append(done.stdout)
    venue.close()
    reading, acting = (
        next(text for program, text in zip(PROGRAMS, texts, strict=True) if word in program.text)
        for word in ("client.money.pools", "open_actions")
    )
    assert reading.startswith("USDC ")
    assert f"\n{US} 0 10000.000000" in reading
    assert "L2TransferOutflow" in acting
