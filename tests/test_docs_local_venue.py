"""The commands of docs/local-venue.md: the local venue takes each of them, in the order in which they stand there."""

from __future__ import annotations

import json
import re

import aiohttp

from qubx_lighter.cli import main
from qubx_lighter.sim.api.admin import PATH
from qubx_lighter.sim.app import Funded, open_venue
from tests.programs import ROOT

TEXT = (ROOT / "docs" / "local-venue.md").read_text()
COMMANDS = [json.loads(text) for text in re.findall(r'`(\{"type".*?\})`', TEXT)]


async def test_the_venue_takes_every_command_of_the_page() -> None:
    assert 13 == len(COMMANDS)
    async with open_venue(markets=["ETH", "BTC"], accounts=[Funded()]) as venue, aiohttp.ClientSession() as session:
        for command in COMMANDS:
            async with session.post(venue.url + PATH, json=command) as response:
                body = await response.json()
                assert 200 == body["code"], (command, body)
        listed = {spec.symbol: spec for spec in venue.engine.listed()}
        assert ["ETH", "DOGE", "UNI/USDC"] == list(listed)
        assert 3 == listed["ETH"].price_decimals
        assert "active" == listed["ETH"].status


def test_the_options_of_the_page_are_options_of_the_program() -> None:
    sim = main.commands["sim"]
    known = {option for parameter in sim.params for option in parameter.opts}
    named = set(re.findall(r"(--[a-z][a-z-]+)", TEXT))
    assert named <= known
    assert {"--markets", "--assets", "--state", "--history", "--limits", "--faults"} <= named
