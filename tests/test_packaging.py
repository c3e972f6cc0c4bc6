"""What an installation promises: entry points, and an import that costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
from qubx.connectors.plugin import ExchangePlugin
from qubx.core.connector import IConnector
from qubx.core.interfaces import IDataProvider

import qubx_lighter

PROJECT = Path(__file__).parents[1]
RUNS = 3
Import = tuple[float, list[str], int]  # milliseconds of CPU, new modules, new threads
IMPORT_LIMIT_MS = 50.0

# What is measured is the plugin's own part: a factory that has to build something imports the rest.
MEASURE = """
import json, sys, threading, time
import qubx.connectors.plugin
before = set(sys.modules)
threads = threading.active_count()
start = time.process_time()
import qubx_lighter.plugin
milliseconds = (time.process_time() - start) * 1e3
print(json.dumps([milliseconds, sorted(set(sys.modules) - before), threading.active_count() - threads]))
"""


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    """Import the plugin in fresh processes."""
    command = [sys.executable, "-c", MEASURE]
    runs = [subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True) for _ in range(RUNS)]
    return [tuple(json.loads(run.stdout.splitlines()[-1])) for run in runs]


def test_importing_the_plugin_adds_at_most_50_ms_to_qubx(imports: list[Import]) -> None:
    assert min(run[0] for run in imports) <= IMPORT_LIMIT_MS  # others use the cores too


@pytest.mark.parametrize(
    "heavy",
    ["lighter", "qubx_lighter.sim", "qubx_lighter.cli", "qubx_lighter.factory", "qubx_lighter.assembly", "stamina"],
)
def test_importing_the_plugin_leaves_heavy_modules_alone(imports: list[Import], heavy: str) -> None:
    found = [name for name in imports[0][1] if name == heavy or name.startswith(heavy + ".")]
    assert [] == found


def test_importing_the_plugin_starts_no_thread(imports: list[Import]) -> None:
    assert 0 == imports[0][2]


def installed(group: str) -> dict[str, EntryPoint]:
    """Read a group's entry points of this distribution, from the installation or, uninstalled, from pyproject.toml."""
    found = {point.name: point for point in entry_points(group=group) if point.value.startswith("qubx_lighter.")}
    if not found:
        with (PROJECT / "pyproject.toml").open("rb") as file:
            declared = tomllib.load(file)["project"]["entry-points"][group]
        found = {name: EntryPoint(name, value, group) for name, value in declared.items()}
    return found


def test_qubx_finds_one_plugin_whose_name_is_its_entry_points() -> None:
    points = installed("qubx.exchange_plugins")
    plugin = points["lighter"].load()
    assert ["lighter"] == list(points)
    assert isinstance(plugin, ExchangePlugin)
    assert "lighter" == plugin.name


def test_the_promised_parts_load_by_name() -> None:
    parts: dict[str, Any] = {name: point.load() for name, point in installed("qubx.connectors").items()}
    names = {name: part.__name__ for name, part in parts.items()}
    expected = {
        "lighter.data_provider": "LighterDataProvider",
        "lighter.broker": "LighterBroker",
        "lighter.account_processor": "LighterAccountProcessor",
        "lighter.instrument_loader": "LighterInstrumentLoader",
    }
    assert expected == names
    assert issubclass(parts["lighter.data_provider"], IDataProvider)


def test_the_connector_is_a_whole_qubx_connector() -> None:
    from qubx_lighter.connector import LighterConnector

    missing = [name for name in dir(IConnector) if not name.startswith("_") and not hasattr(LighterConnector, name)]
    assert [] == missing


def test_the_version_is_stated_once() -> None:
    with (PROJECT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    assert ["version"] == project["project"]["dynamic"]
    assert "qubx_lighter/__init__.py" == project["tool"]["hatch"]["version"]["path"]
    assert qubx_lighter.__version__.count(".") == 2


def test_qubx_comes_with_its_connectors() -> None:
    """Without the extra there is no ccxt, and without ccxt Qubx cannot import what a plugin needs."""
    with (PROJECT / "pyproject.toml").open("rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]
    assert "qubx[connectors]>=5,<6" in dependencies
    assert "qubx-lighter-api>=0.2,<1" in dependencies
