"""Install the wheel of a folder in a clean environment, check both entry-point groups there, run the demo from it.

python scripts/check_wheel.py dist
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

CHECK = """
from importlib.metadata import distribution, entry_points

import qubx_lighter
from qubx.plugins.loader import PluginLoader

assert "site-packages" in qubx_lighter.__file__, f"not the wheel's: {qubx_lighter.__file__}"
dist = distribution("qubx-lighter")
assert dist.version == qubx_lighter.__version__
files = {str(file) for file in dist.files}
for wanted in ("qubx_lighter/py.typed", f"qubx_lighter-{dist.version}.dist-info/licenses/LICENSE"):
    assert wanted in files, f"the wheel lacks {wanted}"
assert not [file for file in files if file.startswith(("tests/", "examples/", "shared/"))]
assert "lighter" in PluginLoader.available()
print("  qubx.exchange_plugins  lighter ->", PluginLoader.load("lighter"))
promised = {"data_provider", "broker", "account_processor", "instrument_loader"}
parts = {point.name: point.load() for point in entry_points(group="qubx.connectors")}
assert {f"lighter.{part}" for part in promised} <= parts.keys(), parts
for name, part in sorted(parts.items()):
    print("  qubx.connectors       ", name, "->", part)
"""


def run(*command: str | Path, cwd: Path, home: Path | None = None) -> None:
    """Run a command, in another home where Qubx is imported, and end with its status when it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if home is not None:
        environment["HOME"] = str(home)
    status = subprocess.run(command, cwd=cwd, env=environment, check=False).returncode  # noqa: S603 - our own commands
    if status:
        raise SystemExit(status)


def main() -> None:
    """Check the one wheel of the folder named on the command line."""
    wheels = sorted(Path(sys.argv[1]).resolve().glob("*.whl"))
    if len(wheels) != 1:
        raise SystemExit(f"{sys.argv[1]} should hold one wheel, not {len(wheels)}")
    with tempfile.TemporaryDirectory(prefix="qubx-lighter-wheel-") as folder:
        here = Path(folder)  # not the repository: its package must not be found
        print(f"installing {wheels[0].name} in a clean environment", flush=True)
        venv.create(here / "env", with_pip=True)
        python = here / "env" / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheels[0], cwd=here)
        run(python, "-m", "pip", "check", cwd=here)
        run(python, "-c", CHECK, cwd=here, home=here)
        run(here / "env" / "bin" / "qubx-lighter", "--version", cwd=here)
        print("running the demo from the wheel", flush=True)
        run(python, ROOT / "examples" / "demo.py", cwd=here, home=here)


if __name__ == "__main__":
    main()
