"""Reads about money: exact amounts, every page once, a token where the venue wants one and none where it does not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from qubx_lighter.client import LighterClient
from qubx_lighter.errors import ConfigurationError, WireError
from qubx_lighter.money_queries import MoneyQueries
from qubx_lighter.protocol import account_rows as rows

Ask = Callable[[MoneyQueries], Awaitable[Any]]
OWNER = "0x" + "ab" * 20


class Venue:
    """Answers a path with its pages, one after the other, and remembers what it was asked."""

    def __init__(self, path: str, *pages: dict[str, Any]) -> None:
        self.path = path
        self.pages = list(pages)
        self.asked: list[tuple[dict[str, str], str | None]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert self.path == request.url.path
        self.asked.append((dict(request.url.params), request.headers.get("authorization")))
        return httpx.Response(200, json={"code": 200} | self.pages.pop(0))


async def ask(venue: Venue, question: Ask, *, keyless: bool = False) -> Any:
    async def token() -> str:
        return "token"

    client = LighterClient(
        "https://venue.test",
        attempts=1,
        transport=httpx.MockTransport(venue),
        token=None if keyless else token,
    )
    try:
        return await question(client.money)
    finally:
        await client.close()


ASSET = {
    "asset_id": 1,
    "symbol": "ETH",
    "decimals": 8,
    "l1_decimals": 18,
    "min_transfer_amount": "0.00000001",
    "min_withdrawal_amount": "0.00100000",
    "margin_mode": "enabled",
    "index_price": "4000",
}


async def test_assets_are_read_exactly_without_a_key() -> None:
    venue = Venue("/api/v1/assetDetails", {"asset_details": [ASSET]})
    (asset,) = await ask(venue, lambda money: money.assets(), keyless=True)
    assert rows.Asset(1, "ETH", 8, 18, Decimal("0.00000001"), Decimal("0.00100000"), "enabled") == asset
    assert [({}, None)] == venue.asked


@pytest.mark.parametrize("asset", ["eth", "ETH", 1])
async def test_an_asset_is_found_by_symbol_or_id(asset: str | int) -> None:
    found = await ask(Venue("/api/v1/assetDetails", {"asset_details": [ASSET]}), lambda money: money.asset(asset))
    assert "ETH" == found.symbol


async def test_an_unknown_asset_is_told_with_those_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no asset 'BTC': there is ETH \(1\)"):
        await ask(Venue("/api/v1/assetDetails", {"asset_details": [ASSET]}), lambda money: money.asset("BTC"))
    with pytest.raises(ConfigurationError, match="there is none"):
        await ask(Venue("/api/v1/assetDetails", {"asset_details": None}), lambda money: money.asset("BTC"))


async def test_accounts_of_an_owner_come_from_every_page_without_a_key() -> None:
    first = {"index": 7, "l1_address": OWNER, "account_type": 0, "collateral": "10.000000", "available_balance": "9.5"}
    sub = {"index": 281474976710600, "l1_address": OWNER, "account_type": 1, "collateral": "0.100000"}
    venue = Venue("/api/v1/accountsByL1Address", {"sub_accounts": [first], "next_cursor": "c"}, {"sub_accounts": [sub]})
    found = await ask(venue, lambda money: money.accounts(OWNER), keyless=True)
    assert [(7, 0, Decimal("10.000000")), (281474976710600, 1, Decimal("0.100000"))] == [
        (row.index, row.account_type, row.collateral) for row in found
    ]
    assert [({"l1_address": OWNER}, None), ({"l1_address": OWNER, "cursor": "c"}, None)] == venue.asked


async def test_pools_and_their_share_prices() -> None:
    pool = {
        "account_index": 281474976710500,
        "name": "Pool",
        "status": 1,
        "operator_fee": "12.5000",
        "total_asset_value": "3000.000003",
        "total_shares": 2_000_000,
        "account_share": {"public_pool_index": 281474976710500, "shares_amount": 5, "entry_usdc": "0.005"},
    }
    empty = {"account_index": 281474976710501, "total_shares": 0}
    venue = Venue("/api/v1/publicPoolsMetadata", {"public_pools": [pool, empty]})
    found = await ask(venue, lambda money: money.pools(limit=500, account_index=7))
    assert [Decimal("0.0015000000015"), None] == [row.share_price for row in found]
    assert (Decimal("12.5000"), 5) == (found[0].operator_fee, found[0].account_share.shares_amount)
    assert [({"index": "0", "limit": "100", "filter": "all", "account_index": "7"}, "token")] == venue.asked


async def test_pools_are_listed_without_a_key() -> None:
    venue = Venue("/api/v1/publicPoolsMetadata", {"public_pools": None})
    assert [] == await ask(venue, lambda money: money.pools(first_index=5))
    assert [({"index": "5", "limit": "100", "filter": "all"}, None)] == venue.asked


async def test_limits_tell_the_tier() -> None:
    body = {"user_tier": "premium", "user_tier_name": "Premium 2", "current_taker_fee_tick": 280, "max_llp_amount": "5"}
    venue = Venue("/api/v1/accountLimits", body)
    limits = await ask(venue, lambda money: money.limits(7))
    assert ("premium", "Premium 2", 280, Decimal(5), False) == (
        limits.user_tier,
        limits.user_tier_name,
        limits.current_taker_fee_tick,
        limits.max_llp_amount,
        limits.can_create_public_pool,
    )
    assert [({"account_index": "7"}, "token")] == venue.asked


async def test_a_fee_a_delay_and_what_leaves_at_once() -> None:
    fee = Venue("/api/v1/transferFeeInfo", {"transfer_fee_usdc": 3_000_000})
    assert 3_000_000 == await ask(fee, lambda money: money.transfer_fee_units(7, 9))
    assert [({"account_index": "7", "to_account_index": "9"}, "token")] == fee.asked
    delay = Venue("/api/v1/withdrawalDelay", {"seconds": 3600})
    assert 3600 == await ask(delay, lambda money: money.withdrawal_delay_s(), keyless=True)
    info = {"to_account_index": 5, "withdraw_limit": "100.5", "max_withdrawal_amount": "50"}
    fast = Venue("/api/v1/fastwithdraw/info", info)
    assert rows.FastWithdrawalInfo(5, Decimal("100.5"), Decimal(50)) == await ask(
        fast, lambda money: money.fast_withdrawal_info(7)
    )


def movement(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": str(number), "asset_id": 3, "amount": "1.000001", "timestamp": 1_780_000_000 - number} | fields


HISTORIES: dict[str, tuple[str, str, Callable[[MoneyQueries, int | None], Awaitable[Any]], dict[str, Any]]] = {
    "deposits": (
        "/api/v1/deposit/history",
        "deposits",
        lambda money, limit: money.deposits(7, OWNER, limit=limit),
        {"status": "completed", "l1_tx_hash": "0x1"},
    ),
    "withdrawals": (
        "/api/v1/withdraw/history",
        "withdraws",
        lambda money, limit: money.withdrawals(7, limit=limit),
        {"status": "claimable", "type": "secure"},
    ),
    "transfers": (
        "/api/v1/transfer/history",
        "transfers",
        lambda money, limit: money.transfers(7, limit=limit),
        {"type": "L2TransferOutflow", "fee": "3", "from_route": "perps", "to_route": "spot"},
    ),
}


@pytest.mark.parametrize("kind", HISTORIES)
async def test_a_history_has_every_page_once_and_exact_amounts(kind: str) -> None:
    path, name, question, more = HISTORIES[kind]
    pages = [
        {name: [movement(1, **more), movement(2, **more)], "cursor": "next"},
        {name: [movement(3, **more)], "cursor": ""},
    ]
    venue = Venue(path, *pages)
    found = await ask(venue, lambda money: question(money, None))
    assert [("1", Decimal("1.000001")), ("2", Decimal("1.000001")), ("3", Decimal("1.000001"))] == [
        (row.id, row.amount) for row in found
    ]
    assert [None, "next"] == [params.get("cursor") for params, _ in venue.asked]
    assert {"token"} == {token for _, token in venue.asked}
    assert {"7"} == {params["account_index"] for params, _ in venue.asked}


@pytest.mark.parametrize("kind", HISTORIES)
async def test_a_history_ends_at_its_limit_or_where_there_is_nothing(kind: str) -> None:
    path, name, question, more = HISTORIES[kind]
    venue = Venue(path, {name: [movement(1, **more), movement(2, **more)], "cursor": "next"})
    assert ["1"] == [row.id for row in await ask(venue, lambda money: question(money, 1))]
    assert [] == await ask(Venue(path, {name: None}), lambda money: question(money, None))


async def test_pages_that_run_in_a_circle_end_with_an_error() -> None:
    path, name, question, more = HISTORIES["transfers"]
    page = {name: [movement(1, **more)], "cursor": "same"}
    with pytest.raises(WireError, match="repeats a page cursor"):
        await ask(Venue(path, page, page, page), lambda money: question(money, None))


async def test_maker_only_keys() -> None:
    venue = Venue("/api/v1/getMakerOnlyApiKeys", {"api_key_indexes": [4, 5]})
    assert [4, 5] == await ask(venue, lambda money: money.maker_only_keys(7))
    assert [({"account_index": "7"}, "token")] == venue.asked
