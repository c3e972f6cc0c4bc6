"""Every frame and REST body that this package reads or writes, as msgspec structs.

Numbers: the venue sends prices, sizes and amounts as decimal strings and ids and times as integers. The decoders coerce
the strings to the nearest float in C (``strict=False``), which is exact for every value on a market's grid. Fields that may
be empty text (``""``) stay ``str``. A field that the venue omits when zero or false has that default; a list may be
``null``. Frames captured in 2025 carry fewer fields than today's: what is absent stays ``None``, never zero.

Times: each field name's unit is in its comment; order times came in seconds (2025) and in milliseconds (2026), so
``units.time_ns`` tells them apart by magnitude.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from qubx_lighter.errors import WireError

# --- public channels -------------------------------------------------------------------------------------------------


class Level(msgspec.Struct, gc=False):
    """One price level: an absolute size, zero deletes it."""

    price: float
    size: float


class BookPayload(msgspec.Struct, gc=False):
    """A snapshot (``begin_nonce`` 0) or a delta; 2025 frames have ``offset`` only."""

    asks: list[Level] | None = None
    bids: list[Level] | None = None
    nonce: int | None = None
    begin_nonce: int | None = None
    offset: int | None = None
    last_updated_at: int = 0  # µs


class BookFrame(msgspec.Struct, gc=False):
    """``order_book/{market}``."""

    order_book: BookPayload
    timestamp: int = 0  # ms
    last_updated_at: int = 0  # µs


class TickerSide(msgspec.Struct, gc=False):
    """Best price and size of a side; both ``""`` when the side is empty."""

    price: str
    size: str


class TickerPayload(msgspec.Struct, gc=False):
    """Best ask ``a`` and best bid ``b``."""

    a: TickerSide
    b: TickerSide
    last_updated_at: int = 0  # µs


class TickerFrame(msgspec.Struct, gc=False):
    """``ticker/{market}``."""

    ticker: TickerPayload
    nonce: int | None = None
    timestamp: int = 0  # ms
    last_updated_at: int = 0  # µs


class PublicTrade(msgspec.Struct, gc=False):
    """One trade, as far as market data is concerned."""

    trade_id: int
    market_id: int
    price: float
    size: float
    is_maker_ask: bool  # True: the taker bought
    timestamp: int  # ms, block time, may precede the order
    transaction_time: int = 0  # µs, the time to use where present
    type: str = "trade"  # trade | liquidation | deleverage | market-settlement


class TradeRow(PublicTrade, gc=False):
    """One trade whole, as the public channel, the account channels and REST all show it."""

    ask_id: int = 0
    bid_id: int = 0
    ask_account_id: int = -1
    bid_account_id: int = -1
    ask_client_id: int = 0
    bid_client_id: int = 0
    usd_amount: str = ""
    taker_fee: int = 0  # ppm of the notional
    maker_fee: int = 0  # ppm of the notional
    integrator_taker_fee: int = 0  # ppm, on top
    integrator_maker_fee: int = 0  # ppm, on top
    tx_hash: str = ""
    market_kind: str = ""  # perps | spot | bo; today only


class TradeFrame(msgspec.Struct, gc=False):
    """``trade/{market}``; a ``subscribed/`` frame is history, liquidations ride apart and are not repeated.

    A third of the decoding is saved by skipping what only accounts need.
    """

    trades: list[PublicTrade] | None = None
    liquidation_trades: list[PublicTrade] | None = None
    nonce: int | None = None


class MarketStats(msgspec.Struct, gc=False):
    """One perpetual's figures in ``market_stats``; prices that nobody quotes are ``""`` in the frame and 0 here."""

    market_id: int
    mark_price: float = 0.0
    index_price: float = 0.0
    open_interest: float = 0.0  # in the collateral, not in base units
    current_funding_rate: float = 0.0  # percent an hour: the estimate for the running hour; positive: longs pay
    funding_rate: float = 0.0  # percent an hour: the last one settled
    funding_timestamp: int = 0  # ms, the last settlement, some ms after the hour; 0 before the first
    premium: str = ""  # percent, today only


class MarketStatsFrame(msgspec.Struct):
    """``market_stats/all``: all perpetuals in the snapshot, the changed ones in an update."""

    market_stats: dict[str, MarketStats]
    timestamp: int = 0  # ms, absent in 2025


class CandleRow(msgspec.Struct, gc=False):
    """One candle, over the socket and over REST; zero-valued numbers are omitted."""

    t: int  # ms, its open
    o: float = 0.0
    h: float = 0.0
    l: float = 0.0  # noqa: E741 - the venue's name
    c: float = 0.0
    v: float = 0.0  # base
    V: float = 0.0  # quote
    i: int = 0  # last trade id


class CandleFrame(msgspec.Struct):
    """``candle/{market}/{resolution}``: the forming candle, after the closed one when a new one begins."""

    candles: list[CandleRow] | None = None
    timestamp: int = 0  # ms


# --- account channels ------------------------------------------------------------------------------------------------


class OrderRow(msgspec.Struct, gc=False):
    """One order, as the account channels and REST show it."""

    order_index: int  # up to 2**60: never through a float
    client_order_index: int  # 0 = none
    market_index: int
    is_ask: bool
    status: str
    initial_base_amount: float
    remaining_base_amount: float
    filled_base_amount: float
    filled_quote_amount: float
    price: float
    type: str = "limit"
    time_in_force: str = "good-till-time"
    reduce_only: bool = False
    trigger_price: float = 0.0
    order_expiry: int = 0  # ms
    parent_order_index: int = 0  # of a child in a group, and of a slice of a TWAP
    owner_account_index: int = -1
    nonce: int = 0  # the matching engine's value of the last change
    order_version: int = 0
    created_at: int = 0  # s or ms
    updated_at: int = 0  # s or ms
    timestamp: int = 0  # s or ms
    transaction_time: int = 0  # µs
    market_kind: str = ""  # perps | spot | bo; today only


class AccountOrdersFrame(msgspec.Struct):
    """``account_all_orders/{account}``: the snapshot lists active orders only, an update the changed ones."""

    orders: dict[str, list[OrderRow] | None] | None = None


class AccountTradesFrame(msgspec.Struct):
    """``account_all_trades/{account}``; documented as keyed by market, warned to be a flat list in updates: both are read."""

    trades: dict[str, list[TradeRow] | None] | list[TradeRow] | None = None


class PositionRow(msgspec.Struct, gc=False):
    """One position row; a flat one stays listed with position ``"0.00"``."""

    market_id: int
    sign: int
    position: float  # absolute
    avg_entry_price: float
    position_value: float = 0.0  # notional at mark
    unrealized_pnl: float = 0.0
    realized_pnl: float = 0.0
    initial_margin_fraction: float = 0.0  # percent
    margin_mode: int = 0
    allocated_margin: float = 0.0
    liquidation_price: str = ""
    symbol: str = ""


class AccountPositionsFrame(msgspec.Struct):
    """``account_all_positions/{account}``: rows merge; only a ``subscribed/`` frame may imply flat."""

    positions: dict[str, PositionRow | None] | None = None


class CrossStats(msgspec.Struct):
    """The part of the figures that is cross margin's alone."""

    available_balance: float | None = None
    collateral: float | None = None


class UserStats(msgspec.Struct):
    """An account's figures in the collateral asset."""

    collateral: float
    portfolio_value: float
    available_balance: float
    margin_usage: float = 0.0  # percent
    cross_stats: CrossStats | None = None
    account_trading_mode: int = 0  # 1: unified; today only


class UserStatsFrame(msgspec.Struct):
    """``user_stats/{account}``."""

    stats: UserStats
    timestamp: int = 0  # ms, absent in 2025


class AssetRow(msgspec.Struct):
    """One asset of an account."""

    symbol: str
    asset_id: int
    balance: float = 0.0  # spot, what orders lock included
    locked_balance: float = 0.0
    margin_balance: float = 0.0  # what of it margins perpetuals


class AccountAssetsFrame(msgspec.Struct):
    """``account_all_assets/{account}``: all assets in the snapshot, the changed ones in an update."""

    assets: dict[str, AssetRow | None] | None = None
    timestamp: int = 0  # ms


class Notification(msgspec.Struct):
    """One message of the venue to an account: ``liquidation``, ``deleverage`` or ``announcement``."""

    id: str | int = ""
    kind: str = ""
    content: Any = None  # differs by kind


class NotificationsFrame(msgspec.Struct):
    """``notification/{account}``: the snapshot repeats old ones."""

    notifs: list[Notification] | None = None


class TxRow(msgspec.Struct, gc=False):
    """One executed or failed transaction; failed when ``status`` is 0 or ``event_info`` has a non-empty ``ae``."""

    hash: str
    type: int
    status: int
    event_info: str = ""
    info: str = ""
    account_index: int = -1
    api_key_index: int | None = None
    nonce: int = -1
    executed_at: int = 0  # ms
    transaction_time: int = 0  # µs


class AccountTxFrame(msgspec.Struct):
    """``account_tx/{account}``; the ``subscribed/`` frame has no ``txs``."""

    txs: list[TxRow] | None = None


# --- control frames and transaction replies --------------------------------------------------------------------------


class ErrorBody(msgspec.Struct):
    """The venue's error object."""

    code: int
    message: str = ""


class ControlFrame(msgspec.Struct):
    """What routing needs of any frame; data payloads are skipped."""

    type: str = ""
    channel: str = ""
    id: str | int | None = None
    error: ErrorBody | None = None
    session_id: str = ""
    close_in_ms: int = 0


class TxReply(msgspec.Struct):
    """The answer to ``jsonapi/sendtx``: either ``code`` 200 and the hash, or ``error``. 200 means queued, not executed."""

    id: str | int | None = None
    code: int = 0
    message: str = ""
    error: ErrorBody | None = None
    tx_hash: str | list[str] = ""
    predicted_execution_time_ms: int = 0
    volume_quota_remaining: int | None = None


# --- REST bodies -----------------------------------------------------------------------------------------------------


class StatusBody(msgspec.Struct):
    """``GET /``."""

    status: int
    network_id: int = 0
    timestamp: int = 0


class MarketConfig(msgspec.Struct):
    """The settings of a perpetual."""

    trading_hours: str = ""  # empty: always open


class MarketRow(msgspec.Struct):
    """One market of ``orderBookDetails`` (perpetual and spot rows share these fields)."""

    symbol: str
    market_id: int
    market_type: str
    status: str
    supported_size_decimals: int
    supported_price_decimals: int
    min_base_amount: str
    min_quote_amount: str
    base_asset_id: int = 0
    quote_asset_id: int = 0
    order_quote_limit: str = ""
    taker_fee: str = "0"  # percent
    maker_fee: str = "0"  # percent
    created_at: str = ""  # ms
    default_initial_margin_fraction: int = 0  # 1e-4
    min_initial_margin_fraction: int = 0  # 1e-4
    maintenance_margin_fraction: int = 0  # 1e-4
    closeout_margin_fraction: int = 0  # 1e-4
    last_trade_price: float = 0.0
    market_config: MarketConfig | None = None


class UnreadableMarket(msgspec.Struct, frozen=True):
    """A market row that lacks what a ``MarketRow`` requires, as far as it can be read; ``market_id`` -1 where it cannot."""

    market_id: int = -1
    symbol: str = ""
    market_type: str = ""
    error: str = ""


class OrderBookDetailsBody(msgspec.Struct):
    """``GET /api/v1/orderBookDetails``."""

    order_book_details: list[MarketRow] | None = None
    spot_order_book_details: list[MarketRow] | None = None
    unreadable: list[UnreadableMarket] = []


class RawOrderBookDetailsBody(msgspec.Struct):
    """The same with its rows unread: one that cannot be read must not cost the others."""

    order_book_details: list[msgspec.Raw] | None = None
    spot_order_book_details: list[msgspec.Raw] | None = None

    def read(self) -> OrderBookDetailsBody:
        """Read what can be read."""
        body = OrderBookDetailsBody()
        for name in ("order_book_details", "spot_order_book_details"):
            raws: list[msgspec.Raw] | None = getattr(self, name)
            rows = [_market_row(bytes(raw)) for raw in raws or []]
            body.unreadable += [row for row in rows if isinstance(row, UnreadableMarket)]
            setattr(body, name, None if raws is None else [row for row in rows if isinstance(row, MarketRow)])
        return body


def _market_row(raw: bytes) -> MarketRow | UnreadableMarket:
    try:
        return decode(MarketRow, raw)
    except WireError as error:
        row = msgspec.json.decode(raw)  # its syntax was checked with the body's
        kinds = {"market_id": int, "symbol": str, "market_type": str}
        named = row if isinstance(row, dict) else {}
        read = {name: named[name] for name, kind in kinds.items() if type(named.get(name)) is kind}
        return UnreadableMarket(**read, error=str(error))


class AccountRow(msgspec.Struct):
    """One account of ``GET /api/v1/account``."""

    index: int
    l1_address: str
    collateral: float  # cross collateral: realised PnL and funding in, unrealised PnL and isolated margin out
    available_balance: float
    status: int = 1
    account_type: int = 0
    account_trading_mode: int = 0
    total_asset_value: float | None = None
    cross_asset_value: float | None = None
    cross_initial_margin_requirement: float | None = None
    cross_maintenance_margin_requirement: float | None = None
    transaction_time: int = 0  # µs
    positions: list[PositionRow] | None = None
    assets: list[AssetRow] | None = None


class AccountsBody(msgspec.Struct):
    """``GET /api/v1/account``."""

    accounts: list[AccountRow] | None = None


class OrdersBody(msgspec.Struct):
    """``GET /api/v1/accountActiveOrders``, ``accountInactiveOrders``, ``accountOrders``."""

    orders: list[OrderRow] | None = None
    next_cursor: str | None = None


class TradesBody(msgspec.Struct):
    """``GET /api/v1/trades`` and ``recentTrades``: newest first."""

    trades: list[TradeRow] | None = None
    next_cursor: str | None = None


class CandlesBody(msgspec.Struct):
    """``GET /api/v1/candles``: at most 500, oldest first."""

    c: list[CandleRow] | None = None
    r: str = ""


class MarkCandleRow(msgspec.Struct, gc=False):
    """One candle of the mark price."""

    t: int  # ms, its open
    o: float = 0.0
    h: float = 0.0
    l: float = 0.0  # noqa: E741 - the venue's name
    c: float = 0.0
    sc: int = 0  # samples


class MarkCandlesBody(msgspec.Struct):
    """``GET /api/v1/markPriceCandles``: at most 500, oldest first."""

    c: list[MarkCandleRow] | None = None
    r: str = ""


class FundingRow(msgspec.Struct, gc=False):
    """One settlement of a market's funding."""

    timestamp: int  # s, on the hour
    value: float  # collateral per unit of base
    rate: float  # percent an hour, never negative
    direction: str = ""  # long or short: the side that pays


class FundingsBody(msgspec.Struct):
    """``GET /api/v1/fundings``: oldest first."""

    fundings: list[FundingRow] | None = None
    resolution: str = ""


class PositionFundingRow(msgspec.Struct, gc=False):
    """What one settlement of funding did to one position."""

    timestamp: int  # s
    market_id: int
    change: float  # collateral; negative: paid
    funding_id: int = 0
    rate: float = 0.0
    position_size: float = 0.0
    position_side: str = ""  # long or short


class PositionFundingsBody(msgspec.Struct):
    """``GET /api/v1/positionFunding``: newest first."""

    position_fundings: list[PositionFundingRow] | None = None
    next_cursor: str | None = None


class NextNonceBody(msgspec.Struct):
    """``GET /api/v1/nextNonce``."""

    nonce: int


class ApiKeyRow(msgspec.Struct):
    """One registered API key."""

    account_index: int
    api_key_index: int
    nonce: int
    public_key: str


class ApiKeysBody(msgspec.Struct):
    """``GET /api/v1/apikeys``."""

    api_keys: list[ApiKeyRow] | None = None


class ResultBody(msgspec.Struct):
    """The part that every REST body shares; an error has nothing else."""

    code: int = 0
    message: str = ""


# --- decoding --------------------------------------------------------------------------------------------------------


class Route(NamedTuple):
    """Where a frame belongs: ``update/order_book`` and ``order_book:0`` (always with ``:``)."""

    type: str
    channel: str


_control: Final = msgspec.json.Decoder(ControlFrame, strict=False)
_decoders: Final[dict[type, Callable[[bytes | str], Any]]] = {}


def decode[T](kind: type[T], raw: bytes | str) -> T:
    """Decode ``raw`` as ``kind``.

    Raises:
        WireError: the text is not JSON, or lacks what ``kind`` requires; the message names the kind, not the content.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind, strict=False).decode
    try:
        return decoder(raw)
    except msgspec.MsgspecError as error:
        raise WireError(f"not a {kind.__name__}: {error}") from error


def decode_control(raw: bytes | str) -> ControlFrame:
    """Decode the part of any frame that routing needs.

    Raises:
        WireError: the text is not a JSON object.
    """
    try:
        return _control.decode(raw)
    except msgspec.MsgspecError as error:
        raise WireError(f"not a frame: {error}") from error


def route(raw: bytes) -> Route:
    """Tell a frame's type and channel, without decoding the payload where the frame allows.

    The venue writes keys in alphabetical order: channel first, type last. Any other order takes the slow way.

    Raises:
        WireError: the text is not a JSON object.
    """
    if raw.startswith(b'{"channel":"') and raw.endswith(b'"}'):
        start = raw.rfind(b'"type":"')
        kind = raw[start + 8 : -2]
        if start > 0 and b"/" in kind and b'"' not in kind:  # only a frame's own type has a slash
            return Route(kind.decode(), raw[12 : raw.index(b'"', 12)].decode().replace("/", ":"))
    frame = decode_control(raw)
    return Route(frame.type, frame.channel.replace("/", ":"))


def channel_key(channel: str) -> str:
    """Spell a channel as the venue labels its frames: it subscribes with ``/`` and answers with ``:``."""
    return channel.replace("/", ":")


# --- encoding --------------------------------------------------------------------------------------------------------


def encode_subscribe(channel: str, auth: str | None = None) -> str:
    """Write a subscribe frame; ``channel`` in either spelling."""
    frame = {"type": "subscribe", "channel": channel.replace(":", "/")}
    if auth is not None:
        frame["auth"] = auth
    return msgspec.json.encode(frame, enc_hook=str).decode()  # msgspec takes no kind of str but str


def encode_unsubscribe(channel: str) -> str:
    """Write an unsubscribe frame; ``channel`` in either spelling."""
    return msgspec.json.encode({"type": "unsubscribe", "channel": channel.replace(":", "/")}).decode()


PING: Final = '{"type":"ping"}'
PONG: Final = '{"type":"pong"}'


def encode_send_tx(request_id: str, tx_type: int, tx_info: str) -> str:
    """Write a transaction frame: the signer's JSON is spliced in unparsed."""
    return f'{{"type":"jsonapi/sendtx","data":{{"id":"{request_id}","tx_type":{tx_type},"tx_info":{tx_info}}}}}'


def encode_send_tx_batch(request_id: str, tx_types: Sequence[int], tx_infos: Sequence[str]) -> str:
    """Write a frame of several transactions: the venue takes both lists as JSON inside strings."""
    types, infos = _quote(_quote(tx_types)), _quote(_quote(tx_infos))
    return f'{{"type":"jsonapi/sendtxbatch","data":{{"id":"{request_id}","tx_types":{types},"tx_infos":{infos}}}}}'


def _quote(value: object) -> str:
    return msgspec.json.encode(value).decode()
