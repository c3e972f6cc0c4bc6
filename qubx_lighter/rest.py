"""One request over REST: when it leaves, how often it is tried, what its answer means.

Reads are retried on transport errors, 5xx and 429; transactions never, since a retried order is two orders. Every read waits
for its turn (``pacing``), each retry too; the question for a nonce waits for nothing, nor long for its answer, since cancels
wait for that. A refusal for the rate limit is not asked again at once where the venue names a
longer pause, nor where it is one of history or of a nonce, which have pauses of their own. What can go wrong maps to the tree of
``errors`` here and nowhere else:

=====================================  ======================  ============================================
what happened                          ``get`` raises          ``post`` raises
=====================================  ======================  ============================================
no connection                          TransportError          NotSentError
sent, then a timeout or a drop         TransportError          OutcomeUnknownError
5xx, 408, a redirect                   VenueError or           OutcomeUnknownError
                                       TransportError
4xx with ``{"code", "message"}``       VenueError              VenueError: refused
429 or 405 without                     VenueError 23000        VenueError 23000: refused
other 4xx without (CloudFront's HTML)  TransportError          VenueError: refused, HTTP status as its code
200 without the documented body        TransportError,         OutcomeUnknownError
                                       WireError
=====================================  ======================  ============================================

The HTTP library's own errors are named in the text and not chained: their frames hold the token in bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, Protocol

import httpx
import stamina

from qubx_lighter import __version__
from qubx_lighter.constants import CODE_OK, Code
from qubx_lighter.errors import (
    ConfigurationError,
    LighterError,
    NotSentError,
    OutcomeUnknownError,
    TransportError,
    VenueError,
    WireError,
)
from qubx_lighter.hidden import HiddenText
from qubx_lighter.pacing import Rank, RestPace
from qubx_lighter.protocol import wire

_RETRY_WAIT_MAX_S: Final = 5.0
_NONCE_TIMEOUT_S: Final = 2.5
_NONCE_ATTEMPTS: Final = 3
_OK_BODY_CODES: Final = (0, CODE_OK)  # `GET /` has no code
_RATE_LIMITED: Final = (405, 429)  # the venue's documentation says 405, users see 429
_TRANSACTIONS: Final = frozenset({"sendTx", "sendTxBatch"})  # counted by the account's gate
_REQUEST_TIMEOUT: Final = 408
_BAD_REQUEST: Final = 400
_SERVER_ERROR: Final = 500
_NOTHING_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)

TokenSource = Callable[[], Awaitable[str]]


class Paged(Protocol):
    """A page of a list, which says where the next one begins."""

    @property
    def next_cursor(self) -> str | None:
        """Give the cursor of the next page; None or empty at the end."""


class _Retryable(Exception):  # noqa: N818 - never leaves this module
    """An answer worth asking again for, with what to raise when asking did not help."""

    def __init__(self, error: TransportError | VenueError) -> None:
        super().__init__(str(error))
        self.error = error


class Rest:
    """Ask one venue; what the arguments are is in ``LighterClient``, which passes them on."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout: float,
        attempts: int,
        retry_wait_s: float,
        transport: httpx.AsyncBaseTransport | None,
        token: TokenSource | None,
        pace: RestPace | None,
    ) -> None:
        self.base_url = _checked_url(base_url)
        self._attempts = attempts
        self._retry_wait_s = retry_wait_s
        self._token = token
        self._pace = pace
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            timeout=timeout,
            transport=transport,
            headers={"user-agent": f"qubx-lighter/{__version__}"},
        )

    async def close(self) -> None:
        """Close the connections; idempotent."""
        await self._http.aclose()

    # --- reads -------------------------------------------------------------------------------------------------------

    async def get[T](
        self,
        kind: type[T],
        path: str,
        *,
        private: bool = False,
        rank: Rank = Rank.ACCOUNT,
        **params: str | int | None,
    ) -> T:
        """Fetch and decode, with retries; parameters that are None are left out.

        Of history, and of a nonce, a refusal for the rate limit is raised at once: the caller knows how long to wait.
        """
        query = {name: str(value) for name, value in params.items() if value is not None}
        try:
            async for attempt in stamina.retry_context(
                on=_Retryable,
                attempts=min(self._attempts, _NONCE_ATTEMPTS) if rank is Rank.TRANSACTION else self._attempts,
                timeout=None,
                wait_initial=self._retry_wait_s,
                wait_max=_RETRY_WAIT_MAX_S,
                wait_jitter=0.1,
            ):
                with attempt:
                    headers = await self._headers(private=private)
                    content = await self._fetch(path, query, headers, rank)
        except _Retryable as last:
            raise last.error from None
        return wire.decode(kind, content)

    async def pages[P: Paged](
        self,
        kind: type[P],
        path: str,
        *,
        private: bool = False,
        rank: Rank = Rank.ACCOUNT,
        **params: str | int | None,
    ) -> AsyncIterator[P]:
        """Fetch page after page of a list, for as long as the caller wants more and the venue has more.

        Raises:
            WireError: the venue's pages run in a circle.
        """
        cursors: set[str] = set()
        cursor: str | None = None
        while True:
            body = await self.get(kind, path, private=private, rank=rank, cursor=cursor, **params)
            yield body
            cursor = body.next_cursor
            if not cursor:
                return
            if cursor in cursors:
                raise WireError(f"{path}: the venue repeats a page cursor")
            cursors.add(cursor)

    async def _fetch(self, path: str, query: Mapping[str, str], headers: Mapping[str, str], rank: Rank) -> bytes:
        endpoint = _endpoint(path)
        if self._pace is not None:
            await self._pace.enter(endpoint, rank, authenticated=bool(headers))
        try:
            async with asyncio.timeout(_NONCE_TIMEOUT_S if rank is Rank.TRANSACTION else None):
                response = await self._http.get(path, params=query, headers=headers)
        except (httpx.TransportError, TimeoutError) as error:
            raise _Retryable(TransportError(self._failure("GET", path, error))) from None
        except httpx.RequestError as error:
            raise TransportError(self._failure("GET", path, error)) from None
        status = response.status_code
        body = _result(response)
        failure: TransportError | VenueError
        if status in _RATE_LIMITED:
            code, message = (body.code, body.message) if body and body.code else (0, _answer(response))
            pause_s = _retry_after_s(response)
            failure = VenueError(code or Code.TOO_MANY_REQUESTS, message, status, pause_s)
            if self._pace is not None:
                self._pace.refused(
                    endpoint, authenticated=bool(headers), status=status, retry_after_s=pause_s, rank=rank
                )
            if rank is not Rank.ACCOUNT or (pause_s or 0.0) > _RETRY_WAIT_MAX_S:
                raise failure
        elif body is None or (status >= _BAD_REQUEST and not body.code):
            failure = TransportError(_answer(response))
        elif status >= _BAD_REQUEST or body.code not in _OK_BODY_CODES:
            failure = VenueError(body.code, body.message, status)
        else:
            return response.content
        if status >= _SERVER_ERROR or status in _RATE_LIMITED:
            raise _Retryable(failure)
        raise failure

    # --- what is sent once -------------------------------------------------------------------------------------------

    async def post[T](self, kind: type[T], path: str, form: Mapping[str, str], *, private: bool = False) -> T:
        """Send a form, once, and decode the answer; raises what ``send_transaction`` raises."""
        endpoint, headers = _endpoint(path), await self._headers(private=True) if private else {}
        if self._pace is not None and endpoint not in _TRANSACTIONS:
            await self._pace.enter(endpoint, Rank.ACCOUNT, authenticated=bool(headers))
        try:
            response = await self._http.post(path, data=form, headers=headers)
        except _NOTHING_SENT as error:
            raise NotSentError(self._failure("POST", path, error)) from None
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise OutcomeUnknownError(self._failure("POST", path, error)) from None
        status = response.status_code
        body = _result(response)
        if status >= _SERVER_ERROR or status == _REQUEST_TIMEOUT or 300 <= status < _BAD_REQUEST:  # noqa: PLR2004
            raise OutcomeUnknownError(_answer(response))
        if status >= _BAD_REQUEST:
            raise self._refused(endpoint, response, body, authenticated=bool(headers))
        if body is None or not body.code:
            raise OutcomeUnknownError(_answer(response))
        if body.code != CODE_OK:
            raise VenueError(body.code, body.message, status)
        try:
            return wire.decode(kind, response.content)
        except WireError as error:
            raise OutcomeUnknownError(f"{_answer(response)}: {error}") from error

    def _refused(
        self, endpoint: str, response: httpx.Response, body: wire.ResultBody | None, *, authenticated: bool
    ) -> VenueError:
        """Read a refusal of what was posted, and slow down where it is for the rate limit."""
        status, pause_s = response.status_code, _retry_after_s(response)
        if self._pace is not None and status in _RATE_LIMITED:
            if endpoint in _TRANSACTIONS:
                self._pace.transactions_refused(pause_s)
            else:
                self._pace.refused(endpoint, authenticated=authenticated, status=status, retry_after_s=pause_s)
        if body is not None and body.code:
            return VenueError(body.code, body.message, status, pause_s)
        code = Code.TOO_MANY_REQUESTS if status in _RATE_LIMITED else status
        return VenueError(code, _answer(response), status, pause_s)

    # --- both --------------------------------------------------------------------------------------------------------

    async def _headers(self, *, private: bool) -> dict[str, str]:
        """Give the token where it is needed, or where it makes the request count for an account that may ask for more."""
        if self._token is None or not (private or (self._pace is not None and self._pace.authenticates)):
            return {}
        try:
            return {"authorization": HiddenText(await self._token())}
        except LighterError:
            if private:
                raise
            return {}

    def _failure(self, method: str, path: str, error: Exception) -> str:
        return f"{method} {path} at {self.base_url} failed: {type(error).__name__}: {str(error) or 'no details'}"


def _endpoint(path: str) -> str:
    """Give what the venue's page on limits calls an endpoint."""
    return path.removeprefix("/api/v1/").strip("/") or "status"


def _checked_url(base_url: str) -> str:
    text = base_url.strip().rstrip("/").removesuffix("/api/v1")
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"base_url {base_url!r} is not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(f"base_url {base_url!r} is not of the form https://host")
    return text


def _result(response: httpx.Response) -> wire.ResultBody | None:
    """Decode the part that every body shares; None when it is not JSON: the venue's CDN answers in HTML."""
    try:
        return wire.decode(wire.ResultBody, response.content)
    except WireError:
        return None


def _retry_after_s(response: httpx.Response) -> float | None:
    """Read how many seconds the venue asks to wait; None where it does not say, or says it as a date."""
    text = response.headers.get("retry-after", "").strip()
    return float(text) if text.isdecimal() else None


def _answer(response: httpx.Response) -> str:
    kind = response.headers.get("content-type", "no content type").partition(";")[0]
    path = response.request.url.path
    return f"{path} at {response.request.url.host} answered HTTP {response.status_code} with {kind}"
