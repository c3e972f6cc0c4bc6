"""A venue for ``LighterClient`` that answers each request with what a function returns, and keeps the requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from qubx_lighter.client import LighterClient

BASE = "https://venue.test"


def answer(body: object, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=body)


def html(status: int) -> httpx.Response:
    return httpx.Response(status, html="<html>Request blocked</html>")


class Recorder:
    """A transport that answers with what a function returns, or raises what it raises, and keeps the requests."""

    def __init__(self, reply: Callable[[httpx.Request], httpx.Response]) -> None:
        self.requests: list[httpx.Request] = []
        self._reply = reply
        self.transport = httpx.MockTransport(self._handle)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._reply(request)


def client_of(reply: Callable[[httpx.Request], httpx.Response], **options: Any) -> tuple[LighterClient, Recorder]:
    recorder = Recorder(reply)
    return LighterClient(BASE, transport=recorder.transport, **options), recorder


def raising(error: type[httpx.RequestError]) -> Callable[[httpx.Request], httpx.Response]:
    def reply(request: httpx.Request) -> httpx.Response:
        raise error("boom", request=request)

    return reply
