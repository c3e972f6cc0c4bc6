"""Frames and bodies: decoding, routing, encoding."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qubx_lighter.errors import WireError
from qubx_lighter.protocol import wire

Frames = list[bytes]


def frames_of(path: Path) -> Frames:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return raw.splitlines()


# --- captured frames -------------------------------------------------------------------------------------------------


def test_every_captured_book_frame_decodes(wire_dir: Path) -> None:
    frames = frames_of(wire_dir / "order_book_0_eth.jsonl.gz")
    assert 1501 == len(frames)
    for number, raw in enumerate(frames):
        kind = "subscribed/order_book" if number == 0 else "update/order_book"
        assert wire.Route(kind, "order_book:0") == wire.route(raw)
        book = wire.decode(wire.BookFrame, raw).order_book
        plain = json.loads(raw)["order_book"]
        assert plain["offset"] == book.offset
        assert book.nonce is None
        assert book.begin_nonce is None
        for side, levels in (("asks", book.asks), ("bids", book.bids)):
            assert [(float(x["price"]), float(x["size"])) for x in plain[side]] == [
                (level.price, level.size) for level in levels or []
            ]


def test_every_captured_trade_frame_decodes(wire_dir: Path) -> None:
    frames = frames_of(wire_dir / "trade_0_eth.jsonl.gz")
    assert 91 == len(frames)
    for raw in frames:
        frame = wire.decode(wire.TradeFrame, raw)
        plain = json.loads(raw)
        for key, rows in (("trades", frame.trades), ("liquidation_trades", frame.liquidation_trades)):
            expected = plain[key]
            assert [
                (x["trade_id"], float(x["price"]), float(x["size"]), x["is_maker_ask"], x["type"], x["timestamp"])
                for x in expected or []
            ] == [(row.trade_id, row.price, row.size, row.is_maker_ask, row.type, row.timestamp) for row in rows or []]
            whole = [wire.decode(wire.TradeRow, json.dumps(x)) for x in expected or []]
            assert [x["usd_amount"] for x in expected or []] == [row.usd_amount for row in whole]
            assert [x.get("taker_fee", 0) for x in expected or []] == [row.taker_fee for row in whole]


ACCOUNT_KINDS: dict[str, Any] = {
    "account_all_orders": wire.AccountOrdersFrame,
    "account_tx": wire.AccountTxFrame,
    "user_stats": wire.UserStatsFrame,
    "account_all": wire.AccountTradesFrame,
}


def test_every_captured_account_frame_decodes(wire_dir: Path) -> None:
    seen = []
    for raw in frames_of(wire_dir / "account_225671.jsonl"):
        kind, channel = wire.route(raw)
        name = kind.split("/")[1]
        assert f"{name}:225671" == channel
        frame = wire.decode(ACCOUNT_KINDS[name], raw)
        if name == "account_all":
            wire.decode(wire.AccountPositionsFrame, raw)
        seen.append((name, frame))
    orders = [row for name, frame in seen if name == "account_all_orders" for row in frame.orders.get("24", [])]
    assert ["filled", "filled"] == [row.status for row in orders]
    assert [7036874567915800, 7318349238191179] == [row.order_index for row in orders]  # one bit more than a float has
    assert [True, False] == [row.is_ask for row in orders]
    assert [40.1342, 40.1397] == [row.filled_quote_amount for row in orders]
    assert [0, 0] == [row.transaction_time for row in orders]
    transactions = [row for name, frame in seen if name == "account_tx" for row in frame.txs or []]
    assert [(14, 2, 13), (14, 2, 14)] == [(row.type, row.status, row.nonce) for row in transactions]
    balances = [frame.stats.collateral for name, frame in seen if name == "user_stats"]
    assert 998.9318 == balances[0]
    trades = [row for name, frame in seen if name == "account_all" for row in frame.trades.get("24", [])]
    assert [225067334, 225068811] == [row.trade_id for row in trades]
    assert [225671, 61127] == [trades[0].ask_account_id, trades[0].bid_account_id]


def test_a_captured_position_keeps_its_row_when_flat(wire_dir: Path) -> None:
    positions = [
        row
        for raw in frames_of(wire_dir / "account_225671.jsonl")
        if wire.route(raw).type.endswith("/account_all")
        for row in (wire.decode(wire.AccountPositionsFrame, raw).positions or {}).values()
    ]
    assert [(1, 0.0), (-1, 1.0), (1, 0.0)] == [(row.sign, row.position) for row in positions]
    assert ["", "", ""] == [row.liquidation_price for row in positions]


# --- routing ---------------------------------------------------------------------------------------------------------


def test_the_fast_route_does_not_parse_the_payload() -> None:
    broken = b'{"channel":"order_book:0",broken,"type":"update/order_book"}'
    assert wire.Route("update/order_book", "order_book:0") == wire.route(broken)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"type":"update/ticker","channel":"ticker:0","ticker":{}}', wire.Route("update/ticker", "ticker:0")),
        (b'{ "channel": "height", "type": "update/height"}', wire.Route("update/height", "height")),
        (b'{"channel":"trade:0","trades":[{"type":"trade"}]}', wire.Route("", "trade:0")),
        (b'{"channel":"a:1","z":"x","type":"update/a","zz":"later"}', wire.Route("update/a", "a:1")),
        (b'{"channel":"order_book:0","type":"unsubscribed"}', wire.Route("unsubscribed", "order_book:0")),
        (b'{"channel":"account_market/4095/476","type":"update/a"}', wire.Route("update/a", "account_market:4095:476")),
        (b'{"type":"pong"}', wire.Route("pong", "")),
        (b'{"error":{"code":30003,"message":"Already Subscribed"}}', wire.Route("", "")),
    ],
)
def test_any_frame_finds_its_route(raw: bytes, expected: wire.Route) -> None:
    assert expected == wire.route(raw)


def test_a_type_inside_the_payload_is_not_the_frames_type() -> None:
    raw = b'{"channel":"x:1","type":"update/x","inner":{"type":"trade"}}'
    assert wire.Route("update/x", "x:1") == wire.route(raw)


@pytest.mark.parametrize("raw", [b"", b"pong", b"[1]", b'{"channel":"order_book:0"', b'{"type":[]}'])
def test_what_is_no_frame_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError, match="not a frame"):
        wire.route(raw)


def test_a_control_frame_gives_all_that_routing_needs() -> None:
    error = wire.decode_control('{"error":{"code":20013,"message":"invalid auth: expired token: account_tx:1"},"id":7}')
    assert wire.ErrorBody(20013, "invalid auth: expired token: account_tx:1") == error.error
    assert 7 == error.id
    shutdown = wire.decode_control(b'{"type":"shutdown","close_in_ms":5000}')
    assert ("shutdown", 5000) == (shutdown.type, shutdown.close_in_ms)
    assert "abc" == wire.decode_control(b'{"type":"connected","session_id":"abc"}').session_id


def test_both_spellings_of_a_channel_have_one_key() -> None:
    assert (
        "account_orders:0:1234"
        == wire.channel_key("account_orders/0/1234")
        == wire.channel_key("account_orders:0:1234")
    )


# --- decoding --------------------------------------------------------------------------------------------------------


def test_a_body_without_what_its_kind_requires_is_refused_without_its_content() -> None:
    with pytest.raises(WireError, match="not a NextNonceBody") as caught:
        wire.decode(wire.NextNonceBody, b'{"secret":"token"}')
    assert "token" not in str(caught.value)


@pytest.mark.parametrize("raw", [b"<html>", b'{"nonce":"x"}', b'{"nonce":'])
def test_text_of_another_shape_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError, match="not a NextNonceBody"):
        wire.decode(wire.NextNonceBody, raw)


def test_todays_book_frame_has_its_nonces() -> None:
    raw = (
        b'{"channel":"order_book:0","last_updated_at":1774884082309144,"offset":1558300,"order_book":{"code":0,"asks":'
        b'[{"price":"2064.54","size":"0.3285"}],"bids":[],"offset":1558300,"nonce":9182390020,"last_updated_at":'
        b'1774884082309144,"begin_nonce":9182389998},"timestamp":1774884082326,"type":"update/order_book"}'
    )
    frame = wire.decode(wire.BookFrame, raw)
    assert (9182389998, 9182390020) == (frame.order_book.begin_nonce, frame.order_book.nonce)
    assert [wire.Level(2064.54, 0.3285)] == frame.order_book.asks
    assert (1774884082326, 1774884082309144) == (frame.timestamp, frame.last_updated_at)


def test_an_empty_side_of_a_ticker_stays_text() -> None:
    raw = b'{"ticker":{"s":"ETH","a":{"price":"","size":""},"b":{"price":"2064.30","size":"1.0392"}},"nonce":5}'
    ticker = wire.decode(wire.TickerFrame, raw).ticker
    assert wire.TickerSide("", "") == ticker.a
    assert wire.TickerSide("2064.30", "1.0392") == ticker.b


@pytest.mark.parametrize(
    "raw", [b'{"trades":{"0":[%s]}}', b'{"trades":[%s]}'], ids=["by market, as documented", "a flat list"]
)
def test_account_trades_come_in_two_shapes(raw: bytes) -> None:
    row = b'{"trade_id":1,"market_id":0,"price":"1.5","size":"2","is_maker_ask":true,"timestamp":3}'
    trades = wire.decode(wire.AccountTradesFrame, raw % row).trades
    rows = trades["0"] if isinstance(trades, dict) else trades
    assert [wire.TradeRow(1, 0, 1.5, 2.0, is_maker_ask=True, timestamp=3)] == rows


def test_lists_may_be_null() -> None:
    assert wire.decode(wire.TradeFrame, b'{"trades":null,"liquidation_trades":null}').trades is None
    assert wire.decode(wire.AccountOrdersFrame, b'{"orders":{}}').orders == {}


@pytest.mark.parametrize(
    ("raw", "code", "tx_hash"),
    [
        (b'{"id":"4-7-1","code":200,"message":"{}","tx_hash":"ab","type":"jsonapi/sendtx"}', 200, "ab"),
        (b'{"id":7,"code":200,"tx_hash":["ab","cd"]}', 200, ["ab", "cd"]),
        (b'{"id":"4-7-1","error":{"code":21104,"message":"invalid nonce"}}', 0, ""),
    ],
)
def test_a_transaction_reply_has_a_code_or_an_error(raw: bytes, code: int, tx_hash: str | list[str]) -> None:
    reply = wire.decode(wire.TxReply, raw)
    assert (code, tx_hash) == (reply.code, reply.tx_hash)
    assert (code == 0) == (reply.error is not None)


# --- encoding --------------------------------------------------------------------------------------------------------


def test_a_subscription_uses_the_slash() -> None:
    assert {"type": "subscribe", "channel": "order_book/0"} == json.loads(wire.encode_subscribe("order_book:0"))
    assert {"type": "subscribe", "channel": "account_tx/5", "auth": 'a"b'} == json.loads(
        wire.encode_subscribe("account_tx/5", 'a"b')
    )
    assert {"type": "unsubscribe", "channel": "order_book/0"} == json.loads(wire.encode_unsubscribe("order_book:0"))


def test_ping_and_pong_are_frames() -> None:
    assert "ping" == wire.decode_control(wire.PING).type
    assert "pong" == wire.decode_control(wire.PONG).type


def test_a_transaction_carries_the_signers_text_unchanged() -> None:
    tx_info = '{"AccountIndex":5,"Price":1e2, "Sig":"x"}'
    frame = wire.encode_send_tx("4-7-1", 14, tx_info)
    assert tx_info in frame
    assert {
        "type": "jsonapi/sendtx",
        "data": {"id": "4-7-1", "tx_type": 14, "tx_info": json.loads(tx_info)},
    } == msgspec.json.decode(frame)


def test_a_batch_holds_both_lists_as_json_in_strings() -> None:
    infos = ['{"Nonce":7,"Sig":"a=="}', '{"Nonce":8,"Sig":"b\\/"}']
    frame = json.loads(wire.encode_send_tx_batch("4-1-7-2", [14, 15], infos))
    assert ("jsonapi/sendtxbatch", "4-1-7-2") == (frame["type"], frame["data"]["id"])
    assert [14, 15] == json.loads(frame["data"]["tx_types"])
    assert infos == json.loads(frame["data"]["tx_infos"])
