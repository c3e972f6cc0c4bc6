"""Typed REST: one method per endpoint that this package uses, each returning the structs of ``protocol.wire``.

Reads are retried on transport errors, 5xx and 429; transactions never, since a retried order is two orders. Every read waits
for its turn (``pacing``), each retry too. A refusal for the rate limit is not asked again at once where the venue names a
longer pause, nor where it is one of history, which has pauses of its own. What can go wrong maps to the tree of ``errors`` here and nowhere else:

=====================================  ======================  ============================================
what happened                          a read raises           ``send_transaction`` raises
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
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import batched
from typing import Final

import httpx
import stamina

from qubx_lighter import __version__
from qubx_lighter.constants import CODE_OK, NIL_MARKET_INDEX, Code
from qubx_lighter.errors import (
    ConfigurationError,
    LighterError,
    NotSentError,
    OutcomeUnknownError,
    TransportError,
    VenueError,
    WireError,
)
from qubx_lighter.money_queries import MoneyQueries
from qubx_lighter.pacing import Rank, RestPace
from qubx_lighter.protocol import wire

_PAGE: Final = 100  # the venue's maximum for pages of orders and trades
_RETRY_WAIT_MAX_S: Final = 5.0
_CLIENT_INDEXES: Final = 20  # the venue's maximum for one accountOrders request
_TRADE_TIME_SLACK_MS: Final = 30_000  # block times, which the venue sorts by, lag execution by up to 20 s
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


class _Retryable(Exception):  # noqa: N818 - never leaves this module
    """An answer worth asking again for, with what to raise when asking did not help."""

    def __init__(self, error: TransportError | VenueError) -> None:
        super().__init__(str(error))
        self.error = error


class LighterClient:
    """Read the venue over REST, and send transactions when there is no socket.

    Args:
        base_url: ``https://host``, without ``/api/v1``.
        timeout: seconds for one request.
        attempts: how often a read is tried.
        retry_wait_s: the first pause between tries; it doubles, up to 5 s.
        transport: replaces the network, for tests and recordings.
        token: mints the auth token of private endpoints; without it they are asked without one.
        pace: when a request may leave; at once without it.

    Raises:
        ConfigurationError: ``base_url`` is not an http(s) URL.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout: float = 10.0,
        attempts: int = 4,
        retry_wait_s: float = 0.2,
        transport: httpx.AsyncBaseTransport | None = None,
        token: TokenSource | None = None,
        pace: RestPace | None = None,
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

    @property
    def money(self) -> MoneyQueries:
        """Reads about assets, histories, sub-accounts, pools and limits."""
        return MoneyQueries(self._get)

    async def close(self) -> None:
        """Close the connections; idempotent."""
        await self._http.aclose()

    # --- public reads ------------------------------------------------------------------------------------------------

    async def status(self) -> wire.StatusBody:
        """Fetch the venue's status and network id."""
        return await self._get(wire.StatusBody, "/")

    async def order_book_details(self) -> wire.OrderBookDetailsBody:
        """Fetch every perpetual and spot market; rows that cannot be read are apart."""
        body = await self._get(wire.RawOrderBookDetailsBody, "/api/v1/orderBookDetails", filter="all")
        return body.read()

    async def account(self, index: int) -> wire.AccountRow:
        """Fetch an account with its positions and assets.

        Raises:
            VenueError: the venue knows no such account.
        """
        body = await self._get(wire.AccountsBody, "/api/v1/account", by="index", value=index)
        for row in body.accounts or []:
            if row.index == index:
                return row
        raise VenueError(Code.ACCOUNT_NOT_FOUND, f"account {index} not found")

    async def next_nonce(self, account_index: int, api_key_index: int) -> int:
        """Fetch the nonce that the venue expects next from an API key."""
        body = await self._get(
            wire.NextNonceBody,
            "/api/v1/nextNonce",
            rank=Rank.TRANSACTION,
            account_index=account_index,
            api_key_index=api_key_index,
        )
        return body.nonce

    async def api_keys(self, account_index: int, api_key_index: int = 255) -> list[wire.ApiKeyRow]:
        """Fetch the registered API keys of an account; index 255 means all."""
        body = await self._get(
            wire.ApiKeysBody, "/api/v1/apikeys", account_index=account_index, api_key_index=api_key_index
        )
        return body.api_keys or []

    async def transaction(self, tx_hash: str) -> wire.TxRow | None:
        """Fetch a transaction, or None while the venue has not indexed it."""
        try:
            return await self._get(wire.TxRow, "/api/v1/tx", by="hash", value=tx_hash)
        except VenueError as error:
            if error.code == Code.TX_NOT_FOUND:
                return None
            raise

    # --- history: one page each, for ``history`` to put together -----------------------------------------------------

    async def candles(
        self, market_id: int, resolution: str, start_ms: int, end_ms: int, count_back: int
    ) -> list[wire.CandleRow]:
        """Fetch the newest ``count_back`` candles, at most 500, up to ``end_ms``; ``start_ms`` may be ignored.

        Caches tell requests apart by end and count alone; a range with fewer candles is filled up with older ones.
        """
        body = await self._series(
            wire.CandlesBody,
            "/api/v1/candles",
            market_id,
            resolution=resolution,
            start_timestamp=start_ms,
            end_timestamp=end_ms,
            count_back=count_back,
        )
        return (body.c if body else None) or []

    async def mark_price_candles(
        self, market_id: int, resolution: str, start_ms: int, end_ms: int, count_back: int
    ) -> list[wire.MarkCandleRow]:
        """Fetch candles of the mark price; otherwise as ``candles``."""
        body = await self._series(
            wire.MarkCandlesBody,
            "/api/v1/markPriceCandles",
            market_id,
            resolution=resolution,
            start_timestamp=start_ms,
            end_timestamp=end_ms,
            count_back=count_back,
        )
        return (body.c if body else None) or []

    async def fundings(
        self, market_id: int, resolution: str, start_ms: int, end_ms: int, count_back: int
    ) -> list[wire.FundingRow]:
        """Fetch settlements between the two times, both excluded; about 750 at most."""
        body = await self._series(
            wire.FundingsBody,
            "/api/v1/fundings",
            market_id,
            resolution=resolution,
            start_timestamp=start_ms,
            end_timestamp=end_ms,
            count_back=count_back,
        )
        return (body.fundings if body else None) or []

    async def market_trades(self, market_id: int, *, cursor: str | None = None) -> wire.TradesBody:
        """Fetch 100 trades of a market, newest first by block time; ``next_cursor`` leads to those before."""
        return await self._get(
            wire.TradesBody,
            "/api/v1/trades",
            rank=Rank.HISTORY,
            sort_by="timestamp",
            sort_dir="desc",
            limit=_PAGE,
            market_id=market_id,
            cursor=cursor,
        )

    async def recent_trades(self, market_id: int, limit: int = _PAGE) -> list[wire.TradeRow]:
        """Fetch the newest trades of a market, at most 100."""
        body = await self._get(
            wire.TradesBody, "/api/v1/recentTrades", rank=Rank.HISTORY, market_id=market_id, limit=min(limit, _PAGE)
        )
        return body.trades or []

    async def _series[T](self, kind: type[T], path: str, market_id: int, **window: str | int) -> T | None:
        """Fetch a page of a time series; None where the venue has nothing in the range, which it calls an error."""
        try:
            return await self._get(kind, path, private=False, rank=Rank.HISTORY, market_id=market_id, **window)
        except VenueError as error:
            if error.code == Code.EMPTY_RANGE:
                return None
            raise

    # --- private reads -----------------------------------------------------------------------------------------------

    async def active_orders(self, account_index: int, *, market_id: int | None = None) -> list[wire.OrderRow]:
        """Fetch the working orders of one market, or of all."""
        body = await self._get(
            wire.OrdersBody,
            "/api/v1/accountActiveOrders",
            private=True,
            account_index=account_index,
            market_id=NIL_MARKET_INDEX if market_id is None else market_id,
        )
        return body.orders or []

    async def inactive_orders(
        self, account_index: int, *, market_id: int | None = None, limit: int = _PAGE, cursor: str | None = None
    ) -> wire.OrdersBody:
        """Fetch one page of ended orders, newest first; ``next_cursor`` leads to the page before."""
        return await self._get(
            wire.OrdersBody,
            "/api/v1/accountInactiveOrders",
            private=True,
            account_index=account_index,
            market_id=NIL_MARKET_INDEX if market_id is None else market_id,
            limit=min(limit, _PAGE),
            cursor=cursor,
        )

    async def orders_by_client_index(self, account_index: int, indexes: Sequence[int]) -> list[wire.OrderRow]:
        """Fetch orders by client index, working or ended within the venue's last 24 hours."""
        rows: list[wire.OrderRow] = []
        for chunk in batched(indexes, _CLIENT_INDEXES):
            body = await self._get(
                wire.OrdersBody,
                "/api/v1/accountOrders",
                private=True,
                account_index=account_index,
                client_order_indexes=",".join(map(str, chunk)),
            )
            rows += body.orders or []
        return rows

    async def trades(
        self,
        account_index: int,
        *,
        market_id: int | None = None,
        since_ms: int | None = None,
        order_index: int | None = None,
    ) -> list[wire.TradeRow]:
        """Fetch the account's trades since ``since_ms``, each once, oldest first.

        Args:
            account_index: whose trades.
            market_id: of one market; None means of all.
            since_ms: by the time of execution; None means the latest 100 trades.
            order_index: of one order only.

        Raises:
            WireError: the venue's pages run in a circle.
        """
        found: dict[tuple[int, int], wire.TradeRow] = {}
        pages = self._pages(
            wire.TradesBody,
            "/api/v1/trades",
            sort_by="timestamp",
            sort_dir="desc",
            limit=_PAGE,
            account_index=account_index,
            market_id=NIL_MARKET_INDEX if market_id is None else market_id,
            order_index=order_index,
        )
        async for body in pages:
            rows = body.trades or []
            found.update({(row.market_id, row.trade_id): row for row in rows})
            if since_ms is None or not rows or min(row.timestamp for row in rows) < since_ms - _TRADE_TIME_SLACK_MS:
                break
        kept = [row for row in found.values() if since_ms is None or _executed_us(row) >= since_ms * 1000]
        return sorted(kept, key=lambda row: (_executed_us(row), row.trade_id))

    async def position_fundings(self, account_index: int, since_s: int) -> list[wire.PositionFundingRow]:
        """Fetch what funding did to the account's positions since ``since_s``, each settlement once, oldest first.

        Raises:
            WireError: the venue's pages run in a circle.
        """
        found: dict[tuple[int, int, int, str], wire.PositionFundingRow] = {}
        pages = self._pages(
            wire.PositionFundingsBody,
            "/api/v1/positionFunding",
            account_index=account_index,
            limit=_PAGE,
            side="all",
        )
        async for body in pages:
            rows = body.position_fundings or []
            found |= {(row.timestamp, row.market_id, row.funding_id, row.position_side): row for row in rows}
            if not rows or min(row.timestamp for row in rows) < since_s:
                break
        kept = [row for row in found.values() if row.timestamp >= since_s]
        return sorted(kept, key=lambda row: (row.timestamp, row.market_id))

    async def _pages[P: (wire.TradesBody, wire.PositionFundingsBody)](
        self, kind: type[P], path: str, **params: str | int | None
    ) -> AsyncIterator[P]:
        """Fetch page after page of a private list, for as long as the caller wants more and the venue has more.

        Raises:
            WireError: the venue's pages run in a circle.
        """
        cursors: set[str] = set()
        cursor: str | None = None
        while True:
            body = await self._get(kind, path, private=True, rank=Rank.ACCOUNT, cursor=cursor, **params)
            yield body
            cursor = body.next_cursor
            if not cursor:
                return
            if cursor in cursors:
                raise WireError(f"{path}: the venue repeats a page cursor")
            cursors.add(cursor)

    # --- transactions ------------------------------------------------------------------------------------------------

    async def send_transaction(self, tx_type: int, tx_info: str) -> wire.TxReply:
        """Send one signed transaction, once; code 200 means queued.

        Raises:
            NotSentError: nothing left this machine.
            OutcomeUnknownError: it left, and what became of it is not known.
            VenueError: the venue refused it.
        """
        return await self.post(wire.TxReply, "/api/v1/sendTx", {"tx_type": str(tx_type), "tx_info": tx_info})

    async def post[T](self, kind: type[T], path: str, form: Mapping[str, str], *, private: bool = False) -> T:
        """Send a form, once, and decode the answer; raises what ``send_transaction`` raises."""
        endpoint, headers = _endpoint(path), await self._headers(private=True) if private else {}
        if self._pace is not None and endpoint not in _TRANSACTIONS:
            await self._pace.enter(endpoint, Rank.ACCOUNT, authenticated=bool(headers))
        try:
            response = await self._http.post(path, data=form, headers=headers)
        except _NOTHING_SENT as error:
            raise NotSentError(self._failure("POST", path, error)) from error
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise OutcomeUnknownError(self._failure("POST", path, error)) from error
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

    # --- one request -------------------------------------------------------------------------------------------------

    async def _get[T](
        self,
        kind: type[T],
        path: str,
        *,
        private: bool = False,
        rank: Rank = Rank.ACCOUNT,
        **params: str | int | None,
    ) -> T:
        """Fetch and decode, with retries; parameters that are None are left out.

        Of history a refusal for the rate limit is raised at once: the caller knows how long to wait.
        """
        query = {name: str(value) for name, value in params.items() if value is not None}
        try:
            async for attempt in stamina.retry_context(
                on=_Retryable,
                attempts=self._attempts,
                timeout=None,
                wait_initial=self._retry_wait_s,
                wait_max=_RETRY_WAIT_MAX_S,
                wait_jitter=0.1,
            ):
                with attempt:
                    headers = await self._headers(private=private)
                    content = await self._fetch(path, query, headers, rank)
        except _Retryable as last:
            raise last.error from last.__cause__
        return wire.decode(kind, content)

    async def _headers(self, *, private: bool) -> dict[str, str]:
        """Give the token where it is needed, or where it makes the request count for an account that may ask for more."""
        if self._token is None or not (private or (self._pace is not None and self._pace.authenticates)):
            return {}
        try:
            return {"authorization": await self._token()}
        except LighterError:
            if private:
                raise
            return {}

    async def _fetch(self, path: str, query: Mapping[str, str], headers: Mapping[str, str], rank: Rank) -> bytes:
        endpoint = _endpoint(path)
        if self._pace is not None:
            await self._pace.enter(endpoint, rank, authenticated=bool(headers))
        try:
            response = await self._http.get(path, params=query, headers=headers)
        except httpx.TransportError as error:
            raise _Retryable(TransportError(self._failure("GET", path, error))) from error
        except httpx.RequestError as error:
            raise TransportError(self._failure("GET", path, error)) from error
        status = response.status_code
        body = _result(response)
        failure: TransportError | VenueError
        if status in _RATE_LIMITED:
            code, message = (body.code, body.message) if body and body.code else (0, _answer(response))
            pause_s = _retry_after_s(response)
            failure = VenueError(code or Code.TOO_MANY_REQUESTS, message, status, pause_s)
            if self._pace is not None:
                self._pace.refused(endpoint, authenticated=bool(headers), status=status, retry_after_s=pause_s)
            if rank is Rank.HISTORY or (pause_s or 0.0) > _RETRY_WAIT_MAX_S:
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


def _executed_us(row: wire.TradeRow) -> int:
    return row.transaction_time or row.timestamp * 1000
