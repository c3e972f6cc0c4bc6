"""A venue in miniature for actions: it answers what they ask over REST, takes what they send, and remembers both."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import httpx

OWNER = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"  # of the key below
WALLET_KEY = "0x" + "11" * 32
OTHER_OWNER = "0x" + "ab" * 20
US, SUB, STRANGER, FAST_POOL = 100, 281_474_976_710_600, 7, 999
POOL = 281_474_976_710_500


class MoneyVenue:
    """Answers; ``replies`` overrides by path, a callable or a response."""

    def __init__(self) -> None:
        self.nonce = 5
        self.fee = 1_000_000
        self.asked: list[tuple[str, dict[str, str], str | None]] = []
        self.sent: list[dict[str, Any]] = []
        self.forms: list[tuple[str, dict[str, str], str | None]] = []
        self.replies: dict[str, list[httpx.Response | Exception]] = {}
        self.positions: list[dict[str, Any]] = []
        self.orders: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path, token = request.url.path, request.headers.get("authorization")
        if request.method == "POST":
            form = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
            self.forms.append((path, form, token))
        else:
            self.asked.append((path, dict(request.url.params), token))
        if queued := self.replies.get(path):
            reply = queued.pop(0)
            if isinstance(reply, Exception):
                raise reply
            return reply
        if request.method == "POST":
            return self._take(path, form)
        return httpx.Response(200, json={"code": 200} | self._answer(path, dict(request.url.params)))

    def _take(self, path: str, form: dict[str, str]) -> httpx.Response:
        if "tx_info" in form:
            body = json.loads(form["tx_info"])
            self.sent.append(body)
            if body["Nonce"] != self.nonce:
                return httpx.Response(400, json={"code": 21104, "message": "invalid nonce"})
            self.nonce += 1
        return httpx.Response(200, json={"code": 200, "message": "ok", "tx_hash": f"hash of {path.rpartition('/')[2]}"})

    def _answer(self, path: str, params: dict[str, str]) -> dict[str, Any]:
        match path.removeprefix("/api/v1/"):
            case "nextNonce":
                return {"nonce": self.nonce}
            case "assetDetails":
                return {"asset_details": [ETH, USDC]}
            case "account":
                return {"accounts": [self._account(int(params["value"]))]}
            case "accountActiveOrders":
                return {"orders": self.orders}
            case "transferFeeInfo":
                return {"transfer_fee_usdc": self.fee}
            case "fastwithdraw/info":
                return {"to_account_index": FAST_POOL, "withdraw_limit": "1000", "max_withdrawal_amount": "800.5"}
        raise AssertionError(f"nobody asks for {path}")

    def _account(self, index: int) -> dict[str, Any]:
        owner = OTHER_OWNER if index in (STRANGER, FAST_POOL) else OWNER.lower()
        return {
            "index": index,
            "l1_address": owner,
            "collateral": "1000",
            "available_balance": "1000",
            "positions": self.positions,
        }


ETH = {
    "asset_id": 1,
    "symbol": "ETH",
    "decimals": 8,
    "l1_decimals": 18,
    "min_transfer_amount": "0.00050000",
    "min_withdrawal_amount": "0.00100000",
}
USDC = {
    "asset_id": 3,
    "symbol": "USDC",
    "decimals": 6,
    "min_transfer_amount": "1.000000",
    "min_withdrawal_amount": "1.000000",
}
