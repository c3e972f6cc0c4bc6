"""The demo is a promise of the README: it trades, survives the venue's death, and ends with equal accounts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_demo_ends_with_the_venues_account_though_the_venue_is_killed_on_the_way() -> None:
    command = [sys.executable, str(ROOT / "examples" / "demo.py"), "--seconds", "15", "--interrupt"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    output = done.stdout + done.stderr
    assert 0 == done.returncode, output
    assert "the venue is back with its state" in output
    assert "Traceback" not in output
    orders, fills = (re.search(rf"^  {name} +(\d+)$", output, re.MULTILINE) for name in ("orders sent", "fills"))
    assert orders is not None
    assert int(orders[1]) >= 20
    assert fills is not None
    assert int(fills[1]) >= 5
    resting = re.search(r"^  venue +(\d+) orders", output, re.MULTILINE)
    assert resting is not None
    assert int(resting[1]) >= 1
