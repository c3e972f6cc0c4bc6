"""The frames of the local venue's stream: compact JSON, keys in alphabetical order on top, as the venue writes them.

Nearly every frame therefore begins with ``channel`` and ends with ``type``; clients that route by that may, and need not, rely
on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from qubx_lighter.constants import CODE_OK
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.exchange.view import View
from qubx_lighter.sim.model.records import TRADE, Notification, Order, Trade
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.wire import account_rows, order_rows, texts
from qubx_lighter.sim.wire.texts import Row

Touch = tuple[int, int, int, int]
"""Best bid in ticks, its lots, best ask in ticks, its lots; zeros for an empty side."""

RequestId = str | int | None

PING: Final = '{"type":"ping"}'
PONG: Final = '{"type":"pong"}'
SHUTDOWN: Final = '{"close_in_ms":0,"type":"shutdown"}'

_DAY_US: Final = 24 * 3600 * 10**6
_PERIODS: Final = {"daily": _DAY_US, "weekly": 7 * _DAY_US, "monthly": 30 * _DAY_US, "total": 1 << 62}


def encode(frame: Row) -> str:
    """Write a frame as it is, keys in the order given."""
    return msgspec.json.encode(frame).decode()


# --- control ---------------------------------------------------------------------------------------------------------


def connected(session_id: str) -> str:
    """Welcome a client."""
    return encode({"session_id": session_id, "type": "connected"})


def unsubscribed(channel: str) -> str:
    """Acknowledge an unsubscribe."""
    return encode({"channel": channel, "type": "unsubscribed"})


def error(code: int, message: str) -> str:
    """Refuse a message; as at the venue, without type, channel or id."""
    return encode({"error": {"code": code, "message": message}})


def sent(request_id: RequestId, tx_hash: str, execution_ms: int, more: Mapping[str, object]) -> str:
    """Say that a transaction is queued, and ``more``."""
    return encode(
        {
            **more,
            "code": CODE_OK,
            "id": request_id,
            "predicted_execution_time_ms": execution_ms,
            "tx_hash": tx_hash,
            "type": "jsonapi/sendtx",
        }
    )


def sent_batch(request_id: RequestId, tx_hashes: Sequence[str], execution_ms: int) -> str:
    """Say that several transactions are queued."""
    return encode(
        {
            "code": CODE_OK,
            "id": request_id,
            "predicted_execution_time_ms": execution_ms,
            "tx_hash": tx_hashes,
            "type": "jsonapi/sendtxbatch",
        }
    )


def refused(request_id: RequestId, code: int, message: str) -> str:
    """Refuse a transaction, or a batch of them."""
    return encode({"id": request_id, "error": {"code": code, "message": message}})


# --- markets ---------------------------------------------------------------------------------------------------------


def book(
    kind: str,
    spec: MarketSpec,
    asks: Iterable[tuple[int, int]],
    bids: Iterable[tuple[int, int]],
    *,
    begin_nonce: int,
    nonce: int,
    changed_at: int,
    now: int,
) -> str:
    """Write a snapshot (``subscribed``, ``begin_nonce`` 0) or a delta (``update``) of (ticks, lots); times in µs."""
    payload = {
        "code": 0,
        "asks": [order_rows.level_row(spec, price, lots) for price, lots in asks],
        "bids": [order_rows.level_row(spec, price, lots) for price, lots in bids],
        "offset": nonce,
        "nonce": nonce,
        "last_updated_at": changed_at,
        "begin_nonce": begin_nonce,
    }
    return encode(
        {
            "channel": f"order_book:{spec.market_id}",
            "last_updated_at": changed_at,
            "offset": nonce,
            "order_book": payload,
            "timestamp": now // 1000,
            "type": f"{kind}/order_book",
        }
    )


def ticker(kind: str, spec: MarketSpec, touch: Touch, *, nonce: int, changed_at: int, now: int) -> str:
    """Write the best prices; times in µs."""
    bid, bid_lots, ask, ask_lots = touch
    payload = {
        "s": spec.symbol,
        "a": _touch_row(spec, ask, ask_lots),
        "b": _touch_row(spec, bid, bid_lots),
        "last_updated_at": changed_at,
    }
    return encode(
        {
            "channel": f"ticker:{spec.market_id}",
            "last_updated_at": changed_at,
            "nonce": nonce,
            "ticker": payload,
            "timestamp": now // 1000,
            "type": f"{kind}/ticker",
        }
    )


def _touch_row(spec: MarketSpec, ticks: int, lots: int) -> Row:
    return order_rows.level_row(spec, ticks, lots) if lots else {"price": "", "size": ""}


def trades(kind: str, spec: MarketSpec, newest_first: Sequence[Trade], nonce: int) -> str:
    """Write trades; those of liquidations and deleverages are told apart, and not among the others."""
    forced = [order_rows.trade_row(spec, trade) for trade in newest_first if trade.kind != TRADE]
    return encode(
        {
            "channel": f"trade:{spec.market_id}",
            "liquidation_trades": forced or None,
            "nonce": nonce,
            "trades": [order_rows.trade_row(spec, trade) for trade in newest_first if trade.kind == TRADE],
            "type": f"{kind}/trade",
        }
    )


def candles(kind: str, key: str, candle_rows: Sequence[Row], now: int) -> str:
    """Write candles, oldest first, of a channel of trades or of mark prices; ``now`` in µs."""
    return encode(
        {
            "candles": candle_rows,
            "channel": key,
            "timestamp": now // 1000,
            "type": f"{kind}/{key.partition(':')[0]}",
        }
    )


def market_stats(kind: str, key: str, stats: Row, now: int) -> str:
    """Write the figures of one market, or of several by id, of the channel ``key``; ``now`` in µs."""
    name = key.partition(":")[0]
    return encode({"channel": key, name: stats, "timestamp": now // 1000, "type": f"{kind}/{name}"})


# --- accounts --------------------------------------------------------------------------------------------------------


def account_orders(kind: str, view: View, account_index: int, orders: Iterable[Order]) -> str:
    """Write orders by market."""
    by_market: dict[str, list[Row]] = {}
    for order in orders:
        row = order_rows.order_row(view.markets[order.market_id], order)
        by_market.setdefault(str(order.market_id), []).append(row)
    return encode(
        {
            "channel": f"account_all_orders:{account_index}",
            "orders": by_market,
            "type": f"{kind}/account_all_orders",
        }
    )


def account_trades(kind: str, account_index: int, by_market: Mapping[str, list[Row]], volumes: Row) -> str:
    """Write trades by market; a snapshot carries the volumes too."""
    frame = {
        "channel": f"account_all_trades:{account_index}",
        "trades": by_market,
        "type": f"{kind}/account_all_trades",
    }
    return encode(dict(sorted((frame | volumes).items())))


def account_positions(
    kind: str,
    account: Account,
    positions: Mapping[str, Row],
    *,
    fundings: Mapping[str, int] | None = None,
    options: list[Row] | None = None,
) -> str:
    """Write positions by market, those in binary options as a list.

    ``fundings`` are the changes of the collateral by a settlement, in millionths. The documentation says of
    ``last_funding_round`` that it is a text a market, there when funding occurs, and not which: here it is that change,
    negative where it was paid.
    """
    changes = {market_id: texts.micro_text(change) for market_id, change in (fundings or {}).items()}
    frame = {"bo_positions": options} if options else {}
    return encode(
        frame
        | {
            "channel": f"account_all_positions:{account.account_index}",
            "last_funding_discount": dict.fromkeys(changes, texts.micro_text(0)) or None,
            "last_funding_round": changes or None,
            "positions": positions,
            "shares": account_rows.share_rows(account),
            "type": f"{kind}/account_all_positions",
        }
    )


def account_assets(kind: str, account_index: int, assets: Mapping[str, Row], now: int) -> str:
    """Write spot balances by asset; ``now`` in µs."""
    return encode(
        {
            "assets": assets,
            "channel": f"account_all_assets:{account_index}",
            "timestamp": now // 1000,
            "type": f"{kind}/account_all_assets",
        }
    )


def entry_prices(kind: str, account_index: int, prices: Mapping[str, Row], now: int) -> str:
    """Write average entry prices by asset; ``now`` in µs."""
    return encode(
        {
            "avg_entry_prices": prices,
            "channel": f"account_spot_avg_entry_prices:{account_index}",
            "timestamp": now // 1000,
            "type": f"{kind}/account_spot_avg_entry_prices",
        }
    )


def account_all(
    kind: str,
    account: Account,
    *,
    assets: Mapping[str, Row] | None = None,
    options: list[Row] | None = None,
    positions: Mapping[str, Row] | None = None,
    by_market: Mapping[str, list[Row]] | None = None,
    volumes: Row | None = None,
) -> str:
    """Write what changed of an account, all of it in a snapshot; orders are not part of this channel."""
    frame = {
        "account": account.account_index,
        "assets": assets or {},
        "bo_positions": options or [],
        "channel": f"account_all:{account.account_index}",
        "funding_histories": {},
        "positions": positions or {},
        "shares": account_rows.share_rows(account),
        "trades": by_market or {},
        "type": f"{kind}/account_all",
    }
    return encode(dict(sorted((frame | (volumes or {})).items())))


def user_stats(kind: str, account_index: int, stats: Row, now: int) -> str:
    """Write an account's figures; ``now`` in µs."""
    return encode(
        {
            "channel": f"user_stats:{account_index}",
            "stats": stats,
            "timestamp": now // 1000,
            "type": f"{kind}/user_stats",
        }
    )


def account_tx(account_index: int, txs: list[Row] | None) -> str:
    """Write executed transactions; the snapshot has none."""
    channel = f"account_tx:{account_index}"
    if txs is None:
        return encode({"channel": channel, "type": "subscribed/account_tx"})
    return encode({"channel": channel, "txs": txs, "type": "update/account_tx"})


def notifications(kind: str, account_index: int, notified: Iterable[Notification], view: View) -> str:
    """Write what an account was told."""
    return encode(
        {
            "channel": f"notification:{account_index}",
            "notifs": [account_rows.notification_row(view.markets[row.market_id], row) for row in notified],
            "type": f"{kind}/notification",
        }
    )


def trade_rows_by_market(view: View, newest_first: Iterable[Trade]) -> dict[str, list[Row]]:
    """Write trades, each market's apart."""
    by_market: dict[str, list[Row]] = {}
    for trade in newest_first:
        row = order_rows.trade_row(view.markets[trade.market_id], trade)
        by_market.setdefault(str(trade.market_id), []).append(row)
    return by_market


def volumes(view: View, account_index: int) -> Row:
    """Count an account's trades and their notional over the venue's four periods, as far as they are remembered."""
    result: Row = {}
    known = view.trades(account_index=account_index)
    for name, period in _PERIODS.items():
        counted = [trade.quote_micro for trade in known if trade.time >= view.now - period]
        result[f"{name}_trades_count"] = len(counted)
        result[f"{name}_volume"] = sum(counted) / 10**6
    return result
