"""The snippets of docs/money.md: each is Python, and those that stand alone run, against the local venue."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from qubx_lighter.signer import generate_api_key
from qubx_lighter.sim import model
from tests.live import US, LiveVenue
from tests.programs import ROOT

SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "money.md").read_text(), re.DOTALL)
PROGRAMS = [snippet for snippet in SNIPPETS if "asyncio.run(main())" in snippet]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_each_snippet_is_python(snippet: str) -> None:
    compile(f"async def snippet():\n{''.join(f'    {line}\n' for line in snippet.splitlines())}", "money.md", "exec")


def test_the_programs_run(tmp_path: Path) -> None:
    venue = LiveVenue(tmp_path)
    key, public_key = generate_api_key()
    venue.execute(model.RegisterKey(US, 9, public_key))
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
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert 0 == done.returncode, done.stderr
        texts.append(done.stdout)
    venue.close()
    reading, acting = texts
    assert reading.startswith("USDC ")
    assert f"\n{US} 0 10000.000000" in reading
    assert "L2TransferOutflow" in acting
