"""The way into a running venue: any command of the engine as JSON, journalled like all others, from this machine alone.

``POST /sim/command`` with a JSON body ``{"type": "SetMarketStatus", "market_id": 0, "status": "inactive"}`` answers as the
venue's own endpoints do. Only ``application/json`` is read, which no web page may send across sites, and only from a
loopback address, however the venue was bound.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Final

import msgspec
from aiohttp import web

from qubx_lighter.constants import Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.model.commands import Command, Result
from qubx_lighter.sim.wire.texts import success

PATH: Final = "/sim/command"
_FORBIDDEN: Final = 403

_commands: Final = msgspec.json.Decoder(Command)


def route(execute: Callable[[Command], Result]) -> web.RouteDef:
    """Make the endpoint.

    Args:
        execute: carries a command out, and sends what it did.
    """
    return web.post(PATH, _handler(execute))


def _handler(execute: Callable[[Command], Result]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        if request.remote is None or not ip_address(request.remote).is_loopback:
            raise VenueError(Code.INVALID_PARAM, "commands are taken from this machine only", status=_FORBIDDEN)
        if request.content_type != "application/json":
            raise VenueError(Code.INVALID_PARAM, "invalid param: a command is application/json")
        try:
            command = _commands.decode(await request.read())
        except msgspec.MsgspecError as error:
            raise VenueError(Code.INVALID_PARAM, f"invalid param: not a command: {error}") from error
        result = execute(command)
        if not result.ok:
            raise VenueError(result.code, result.message)
        body = success(order_index=result.order_index)
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    return handle
