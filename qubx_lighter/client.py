"""Typed REST: one method per endpoint that this package uses, each returning the structs of ``protocol.wire``.

Reads are retried, transactions are sent once; what either raises is in ``rest``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import batched
from typing import Final

import httpx

from qubx_lighter.constants import NIL_MARKET_INDEX, Code
from qubx_lighter.errors import VenueError
from qubx_lighter.money_queries import MoneyQueries
from qubx_lighter.pacing import Rank, RestPace
from qubx_lighter.protocol import wire
from qubx_lighter.rest import Rest, TokenSource

_PAGE: Final = 100  # the venue's maximum for pages of orders and trades
_CLIENT_INDEXES: Final = 20  # the venue's maximum for one accountOrders request
_TRADE_TIME_SLACK_MS: Final = 30_000  # block times, which the venue sorts by, lag execution by up to 20 s


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
        self._rest = Rest(
            base_url,
            timeout=timeout,
            attempts=attempts,
            retry_wait_s=retry_wait_s,
            transport=transport,
            token=token,
            pace=pace,
        )

    @property
    def base_url(self) -> str:
        """The venue's URL, without ``/api/v1``."""
        return self._rest.base_url

    @property
    def money(self) -> MoneyQueries:
        """Reads about assets, histories, sub-accounts, pools and limits."""
        return MoneyQueries(self._rest)

    async def close(self) -> None:
        """Close the connections; idempotent."""
        await self._rest.close()

    # --- public reads ------------------------------------------------------------------------------------------------

    async def status(self) -> wire.StatusBody:
        """Fetch the venue's status and network id."""
        return await self._rest.get(wire.StatusBody, "/")

    async def order_book_details(self) -> wire.OrderBookDetailsBody:
        """Fetch every perpetual and spot market; rows that cannot be read are apart."""
        body = await self._rest.get(wire.RawOrderBookDetailsBody, "/api/v1/orderBookDetails", filter="all")
        return body.read()

    async def account(self, index: int) -> wire.AccountRow:
        """Fetch an account with its positions and assets.

        Raises:
            VenueError: the venue knows no such account.
        """
        body = await self._rest.get(wire.AccountsBody, "/api/v1/account", by="index", value=index)
        for row in body.accounts or []:
            if row.index == index:
                return row
        raise VenueError(Code.ACCOUNT_NOT_FOUND, f"account {index} not found")

    async def next_nonce(self, account_index: int, api_key_index: int) -> int:
        """Fetch the nonce that the venue expects next from an API key."""
        body = await self._rest.get(
            wire.NextNonceBody,
            "/api/v1/nextNonce",
            rank=Rank.TRANSACTION,
            account_index=account_index,
            api_key_index=api_key_index,
        )
        return body.nonce

    async def api_keys(self, account_index: int, api_key_index: int = 255) -> list[wire.ApiKeyRow]:
        """Fetch the registered API keys of an account; index 255 means all."""
        body = await self._rest.get(
            wire.ApiKeysBody, "/api/v1/apikeys", account_index=account_index, api_key_index=api_key_index
        )
        return body.api_keys or []

    async def transaction(self, tx_hash: str) -> wire.TxRow | None:
        """Fetch a transaction, or None while the venue has not indexed it."""
        try:
            return await self._rest.get(wire.TxRow, "/api/v1/tx", by="hash", value=tx_hash)
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
            resolution,
            window=(start_ms, end_ms),
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
            resolution,
            window=(start_ms, end_ms),
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
            resolution,
            window=(start_ms, end_ms),
            count_back=count_back,
        )
        return (body.fundings if body else None) or []

    async def market_trades(self, market_id: int, *, cursor: str | None = None) -> wire.TradesBody:
        """Fetch 100 trades of a market, newest first by block time; ``next_cursor`` leads to those before."""
        return await self._rest.get(
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
        body = await self._rest.get(
            wire.TradesBody, "/api/v1/recentTrades", rank=Rank.HISTORY, market_id=market_id, limit=min(limit, _PAGE)
        )
        return body.trades or []

    async def _series[T](
        self, kind: type[T], path: str, market_id: int, resolution: str, *, window: tuple[int, int], count_back: int
    ) -> T | None:
        """Fetch a page of a time series; None where the venue has nothing in the range, which it calls an error."""
        start_ms, end_ms = window
        try:
            return await self._rest.get(
                kind,
                path,
                rank=Rank.HISTORY,
                market_id=market_id,
                resolution=resolution,
                start_timestamp=start_ms,
                end_timestamp=end_ms,
                count_back=count_back,
            )
        except VenueError as error:
            if error.code == Code.EMPTY_RANGE:
                return None
            raise

    # --- private reads -----------------------------------------------------------------------------------------------

    async def active_orders(self, account_index: int, *, market_id: int | None = None) -> list[wire.OrderRow]:
        """Fetch the working orders of one market, or of all."""
        body = await self._rest.get(
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
        return await self._rest.get(
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
            body = await self._rest.get(
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
        pages = self._rest.pages(
            wire.TradesBody,
            "/api/v1/trades",
            private=True,
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
        pages = self._rest.pages(
            wire.PositionFundingsBody,
            "/api/v1/positionFunding",
            private=True,
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
        return await self._rest.post(kind, path, form, private=private)


def _executed_us(row: wire.TradeRow) -> int:
    return row.transaction_time or row.timestamp * 1000
