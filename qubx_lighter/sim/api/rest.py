"""The local venue's REST interface: the endpoints under ``/api/v1`` that the connector and the SDK's basics use.

A success has ``code`` 200 in its body; a refusal is ``{"code", "message"}`` with HTTP 400, or 401 where the token is at fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from qubx_lighter.constants import CODE_OK, Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.api.limits import Limits
from qubx_lighter.sim.api.parameters import Parameters
from qubx_lighter.sim.api.rest_account import RestAccount
from qubx_lighter.sim.api.rest_history import RestHistory
from qubx_lighter.sim.api.rest_markets import RestMarkets
from qubx_lighter.sim.api.rest_money import RestMoney
from qubx_lighter.sim.exchange import batches
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.exchange.view import NEWEST
from qubx_lighter.sim.faults import Faults, Kind
from qubx_lighter.sim.model.commands import Command, Result
from qubx_lighter.sim.model.records import DELEVERAGE, LIQUIDATION, TRADE, Order, Trade
from qubx_lighter.sim.wire import account_rows, asset_rows, order_rows
from qubx_lighter.sim.wire.texts import Row, success

_PAGE: Final = 100
_BOOK_ORDERS: Final = 250
_ALL_KEYS: Final = 255
_UNAUTHORIZED: Final = 401
_ALL: Final = "all"
_TRADE_KINDS: Final = (_ALL, TRADE, LIQUIDATION, DELEVERAGE, "market-settlement")
_SORTS: Final = ("block_height", "timestamp", "trade_id")

_BLOCKED: Final = "<html><body><h1>403 ERROR</h1>The request could not be satisfied.</body></html>"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Venue(Protocol):
    """What the endpoints need of the server."""

    engine: Engine
    chain_id: int
    faults: Faults
    limits: Limits

    def now(self) -> int:
        """Give the wall clock, µs."""

    def check_token(self, token: str | None, account_index: int) -> None:
        """Insist on a token that may read an account, or raise ``VenueError`` 20013."""

    def submit(self, tx_type: int, tx_info: str) -> tuple[str, Result]:
        """Execute a transaction; give its hash and the answer."""

    def execute(self, command: Command) -> Result:
        """Carry out a command, and send what it did."""

    def submit_batch(self, tx_types: Sequence[int], tx_infos: Sequence[str], largest: int) -> tuple[list[str], Result]:
        """Execute several transactions; give their hashes and the answer."""

    def publish(self) -> None:
        """Send what commands have done since."""

    def execution_ms(self) -> int:
        """Give the time at which a transaction that comes now is executed."""


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn refusals and unknown paths into the venue's error bodies."""
    try:
        return await handler(request)
    except VenueError as error:
        answer = _json({"code": int(error.code), "message": error.message}, status=error.status or 400)
        if error.retry_after_s is not None:
            answer.headers["Retry-After"] = f"{error.retry_after_s:.0f}"
        return answer
    except web.HTTPException as error:
        return _json({"code": int(Code.NOT_FOUND), "message": error.reason}, status=error.status)


def limited(limits: Limits) -> Middleware:
    """Refuse requests that are too many."""

    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != "/stream":
            token = request.headers.get("authorization") or request.query.get("auth")
            limits.request(request.path.removeprefix("/api/v1/").strip("/"), request.remote or "", token)
        return await handler(request)

    return handle


def faulty(faults: Faults) -> Middleware:
    """Let requests go wrong: with an HTTP error, or without an answer for a while."""

    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        if (fault := faults.draw(Kind.HANG, request.path)) is not None:
            await asyncio.sleep(fault.seconds)
        if (fault := faults.draw(Kind.ERROR, request.path)) is not None:
            kind = "application/json" if fault.text.startswith("{") else "text/html"
            return web.Response(status=fault.code, text=fault.text or _BLOCKED, content_type=kind)
        return await handler(request)

    return handle


def _json(body: Row, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json", status=status)


class Rest:
    """The endpoints.

    Args:
        venue: the server.
    """

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._engine = venue.engine
        self._history = RestHistory(venue.engine, venue.now)
        self._private = RestAccount(venue.engine, self._own_account)
        self._money = RestMoney(venue.engine, venue.now, self._own_account)
        self._listing = RestMarkets(venue.engine, venue.now)

    def routes(self) -> list[web.RouteDef]:
        """List all endpoints."""
        reads: dict[str, Callable[[web.Request, Parameters], Row]] = {
            "/": self._status,
            "/api/v1/orderBookOrders": self._order_book_orders,
            "/api/v1/recentTrades": self._recent_trades,
            "/api/v1/trades": self._trades,
            "/api/v1/account": self._account,
            "/api/v1/accountActiveOrders": self._active_orders,
            "/api/v1/accountInactiveOrders": self._inactive_orders,
            "/api/v1/accountOrders": self._orders_by_client_index,
            "/api/v1/apikeys": self._api_keys,
            "/api/v1/nextNonce": self._next_nonce,
            "/api/v1/tx": self._transaction,
            **self._private.reads(),
            **self._money.reads(),
        }
        return [
            *(web.get(path, self._reader(read)) for path, read in reads.items()),
            *(web.get(path, self._public_reader(read)) for path, read in self._history.reads().items()),
            *(web.get(path, self._public_reader(read)) for path, read in self._listing.reads().items()),
            web.post("/api/v1/sendTx", self._send_tx),
            *(web.post(path, self._writer(write)) for path, write in self._private.writes().items()),
            web.post("/api/v1/sendTxBatch", self._send_tx_batch),
        ]

    @staticmethod
    def _reader(read: Callable[[web.Request, Parameters], Row]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return _json(read(request, Parameters(request.query)))

        return handle

    def _writer(self, write: Callable[[Account, Parameters], Command]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            params = Parameters(await request.post())
            account = self._known_account(params)
            token = request.headers.get("authorization") or params.text("auth", "")
            self._venue.check_token(token, account.account_index)
            result = self._venue.execute(write(account, params))
            if not result.ok:
                raise VenueError(result.code, result.message)
            return _json(success())

        return handle

    @staticmethod
    def _public_reader(read: Callable[[Parameters], Row]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return _json(read(Parameters(request.query)))

        return handle

    def _authorize(self, request: web.Request, account_index: int) -> None:
        token = request.headers.get("authorization") or request.query.get("auth")
        self._venue.check_token(token, account_index)

    # --- markets -----------------------------------------------------------------------------------------------------

    def _status(self, _request: web.Request, _params: Parameters) -> Row:
        return {"status": 200, "network_id": self._venue.chain_id, "timestamp": self._venue.now() // 10**6}

    def _order_book_orders(self, _request: web.Request, params: Parameters) -> Row:
        spec = params.market(self._engine)
        limit = params.integer("limit", low=1, high=_BOOK_ORDERS)
        book = self._engine.book(spec.market_id)
        asks, bids = (
            [
                order_rows.book_order_row(spec, order)
                for order, _ in zip(book.orders(is_ask), range(limit), strict=False)
            ]
            for is_ask in (True, False)
        )
        return success(total_asks=len(asks), asks=asks, total_bids=len(bids), bids=bids)

    def _recent_trades(self, _request: web.Request, params: Parameters) -> Row:
        spec = params.market(self._engine)
        limit = params.integer("limit", low=1, high=_PAGE)
        found = self._engine.trades_before(NEWEST, limit, spec.market_id)
        return success(trades=[order_rows.trade_row(spec, trade) for trade in found])

    def _trades(self, request: web.Request, params: Parameters) -> Row:
        """Give trades, newest first; the cursor is the last row's trade id."""
        if params.text("sort_by") not in _SORTS or params.text("sort_dir", "desc") != "desc":
            raise VenueError(Code.INVALID_PARAM, "invalid param: sort_by or sort_dir")
        limit, account_index = params.integer("limit", low=1, high=_PAGE), params.integer("account_index", -1)
        order_index, before = params.integer("order_index", -1), params.cursor()
        kind = params.text("type", _ALL)
        if kind not in _TRADE_KINDS:
            raise VenueError(Code.INVALID_PARAM, "invalid param: type")
        market_id = params.market(self._engine).market_id if params.market_id() is not None else None
        if account_index >= 0:
            self._authorize(request, account_index)
        page: list[Trade]
        if account_index < 0 and order_index < 0 and params.market_type() is None:
            page = self._public_trades(before, limit + 1, market_id, kind)
        else:
            page = [
                trade
                for trade in self._engine.trades(
                    market_id=market_id, account_index=account_index if account_index >= 0 else None
                )
                if trade.trade_id < before
                and kind in (_ALL, trade.kind)
                and self._is_wanted(params, trade.market_id)
                and (order_index < 0 or order_index in (trade.ask_order_index, trade.bid_order_index))
            ]
        kept, more = page[:limit], len(page) > limit
        trades = [order_rows.trade_row(self._engine.markets[trade.market_id], trade) for trade in kept]
        cursor = {"next_cursor": str(kept[-1].trade_id)} if more else {}
        return success(trades=trades, **cursor)

    def _public_trades(self, before: int, limit: int, market_id: int | None, kind: str) -> list[Trade]:
        """Find the newest trades of a kind."""
        found: list[Trade] = []
        while len(found) < limit and (page := self._engine.trades_before(before, limit, market_id)):
            found += [trade for trade in page if kind in (_ALL, trade.kind)]
            before = page[-1].trade_id
        return found[:limit]

    # --- accounts ----------------------------------------------------------------------------------------------------

    def _account(self, _request: web.Request, params: Parameters) -> Row:
        by, value = params.text("by"), params.text("value")
        if by == "l1_address":
            found = self._engine.accounts_of(value)
        elif by == "index" and value.isdecimal():
            one = self._engine.account(int(value))
            found = [one] if one is not None else []
        else:
            raise VenueError(Code.INVALID_PARAM, "invalid param: by or value")
        if not found:
            raise VenueError(Code.ACCOUNT_NOT_FOUND, "account not found")
        accounts = [
            account_rows.account_row(self._engine, account)
            | {"assets": list(asset_rows.account_assets(self._engine, account).values())}
            for account in found
        ]
        return success(total=len(accounts), accounts=accounts, next_cursor="")

    def _known_account(self, params: Parameters) -> Account:
        account = self._engine.account(params.integer("account_index"))
        if account is None:
            raise VenueError(Code.ACCOUNT_NOT_FOUND, "account not found")
        return account

    def _own_account(self, request: web.Request, params: Parameters) -> Account:
        """Find the account that the request is about, whose token it must carry."""
        account = self._known_account(params)
        self._authorize(request, account.account_index)
        return account

    def _active_orders(self, request: web.Request, params: Parameters) -> Row:
        account = self._own_account(request, params)
        found = self._engine.active_orders(account.account_index, params.market_id())
        return success(orders=self._order_rows(order for order in found if self._is_wanted(params, order.market_id)))

    def _inactive_orders(self, request: web.Request, params: Parameters) -> Row:
        """Give ended orders, newest first; the cursor is the last row's nonce, which grows with every change."""
        account = self._own_account(request, params)
        limit = params.integer("limit", low=1, high=_PAGE)
        side, before = params.integer("ask_filter", -1), params.cursor()
        page = [
            order
            for order in self._engine.inactive_orders(account.account_index, params.market_id())
            if order.nonce < before
            and (side < 0 or order.is_ask == bool(side))
            and self._is_wanted(params, order.market_id)
        ]
        cursor = {"next_cursor": str(page[limit - 1].nonce)} if len(page) > limit else {}
        return success(orders=self._order_rows(page[:limit]), **cursor)

    def _is_wanted(self, params: Parameters, market_id: int) -> bool:
        """Tell whether a row's market is of the type that is asked for."""
        return params.market_type() in (None, self._engine.markets[market_id].market_type)

    def _orders_by_client_index(self, request: web.Request, params: Parameters) -> Row:
        account = self._own_account(request, params)
        indexes = params.text("client_order_indexes").split(",")
        if not all(index.strip().isdecimal() for index in indexes):
            raise VenueError(Code.INVALID_PARAM, "invalid param: client_order_indexes")
        found = self._engine.orders_by_client_index(account.account_index, map(int, indexes))
        return success(orders=self._order_rows(found))

    def _order_rows(self, orders: Iterable[Order]) -> list[Row]:
        return [order_rows.order_row(self._engine.markets[order.market_id], order) for order in orders]

    def _api_keys(self, _request: web.Request, params: Parameters) -> Row:
        account, wanted = self._known_account(params), params.integer("api_key_index", _ALL_KEYS)
        keys = [
            {
                "account_index": account.account_index,
                "api_key_index": index,
                "nonce": key.nonce,
                "public_key": key.public_key.removeprefix("0x"),
                "transaction_time": 0,
            }
            for index, key in sorted(account.keys.items())
            if wanted in (_ALL_KEYS, index)
        ]
        if not keys and wanted != _ALL_KEYS:
            raise VenueError(Code.API_KEY_NOT_FOUND, "api key not found")
        return success(api_keys=keys)

    def _next_nonce(self, _request: web.Request, params: Parameters) -> Row:
        account = self._known_account(params)
        nonce = self._engine.next_nonce(account.account_index, params.integer("api_key_index"))
        if nonce is None:
            raise VenueError(Code.API_KEY_NOT_FOUND, "api key not found")
        return success(nonce=nonce)

    # --- transactions ------------------------------------------------------------------------------------------------

    def _transaction(self, _request: web.Request, params: Parameters) -> Row:
        if params.text("by") != "hash":
            raise VenueError(Code.INVALID_PARAM, "invalid param: the local venue finds transactions by hash only")
        record = self._engine.transaction(params.text("value"))
        if record is None:
            raise VenueError(Code.TX_NOT_FOUND, "transaction not found")
        account = self._engine.account(record.account_index)
        assert account is not None, "it has sent the transaction"
        return success(**order_rows.tx_row(record, account.l1_address), committed_at=0, verified_at=0)

    async def _send_tx(self, request: web.Request) -> web.StreamResponse:
        params = Parameters(await request.post())
        tx_type = params.integer("tx_type", low=0, high=255)
        return self._sent(request, str(tx_type), *self._venue.submit(tx_type, params.text("tx_info")))

    async def _send_tx_batch(self, request: web.Request) -> web.StreamResponse:
        params = Parameters(await request.post())
        try:
            tx_types, tx_infos = batches.lists(params.text("tx_types"), params.text("tx_infos"))
        except msgspec.MsgspecError as error:
            raise VenueError(Code.INVALID_PARAM, f"invalid param: {error}") from error
        return self._sent(request, batches.NAME, *self._venue.submit_batch(tx_types, tx_infos, batches.LARGEST))

    def _sent(self, request: web.Request, name: str, tx_hash: str | list[str], result: Result) -> web.StreamResponse:
        """Answer, then send what was done; ``name`` is what faults know the request by."""
        limits = self._venue.limits
        if result.code != CODE_OK:
            raise limits.refusal(result)
        body = success(
            message=msgspec.json.encode({"ratelimit": limits.quota_message}).decode(),
            tx_hash=tx_hash,
            predicted_execution_time_ms=self._venue.execution_ms(),
            **limits.quota_fields(),
        )
        self._venue.publish()
        if self._venue.faults.draw(Kind.SWALLOW, name) is not None and request.transport is not None:
            request.transport.abort()
        return _json(body)
