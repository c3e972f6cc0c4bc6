"""Finding orders: in whichever list the venue keeps them, however many, however old; and when nothing found is proof."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from qubx_lighter.accounts.queries import AccountQueries, Found, Wanted
from qubx_lighter.client import LighterClient
from qubx_lighter.handlers.account import AccountConverter
from qubx_lighter.handlers.money import Wallet
from qubx_lighter.protocol.orders import ClientIds
from qubx_lighter.protocol.requests import RequestBook
from qubx_lighter.protocol.venue_clock import VenueClock
from tests.markets import loaded_instruments

NOW_S = 1_790_000_000
ETH = 0


def order(index: int, *, client: int = 0, status: str = "canceled", age_s: int = 0) -> dict[str, Any]:
    time_s = NOW_S - age_s
    return {
        "order_index": (1 << 48) + index,
        "client_order_index": client,
        "market_index": ETH,
        "is_ask": True,
        "status": status,
        "initial_base_amount": "1.0000",
        "remaining_base_amount": "1.0000",
        "filled_base_amount": "0.0000",
        "filled_quote_amount": "0.000000",
        "price": "5000.00",
        "created_at": time_s,
        "transaction_time": time_s * 10**6,
    }


class Venue:
    """The three lists: the ended orders newest first, in pages; by client index only those of 24 hours."""

    def __init__(self, active: list[dict[str, Any]], ended: list[dict[str, Any]]) -> None:
        self.active, self.ended = active, ended
        self.asked: list[str] = []
        self.circle = False
        self.account: dict[str, Any] = {}

    def answer(self, request: httpx.Request) -> httpx.Response:
        path, query = request.url.path.rpartition("/")[2], request.url.params
        self.asked.append(path)
        body: dict[str, Any] = {"code": 200}
        if path == "accountOrders":
            indexes = [int(index) for index in query["client_order_indexes"].split(",")]
            assert len(indexes) <= 20
            recent = [row for row in self.ended if row["created_at"] > NOW_S - 86_400]
            body["orders"] = [row for row in self.active + recent if row["client_order_index"] in indexes]
        elif path == "account":
            body["accounts"] = [self.account]
        elif path == "accountActiveOrders":
            body["orders"] = self.active
        else:
            start, limit = int(query.get("cursor", "0")), int(query["limit"])
            body["orders"] = self.ended[start : start + limit]
            if self.circle or start + limit < len(self.ended):
                body["next_cursor"] = "0" if self.circle else str(start + limit)
        return httpx.Response(200, content=json.dumps(body).encode())

    async def find(self, *wanted: Wanted) -> Found:
        return await (await self.queries(VenueClock())).find(wanted)

    async def queries(self, clock: VenueClock) -> AccountQueries:
        instruments = await loaded_instruments()
        converter = AccountConverter(
            exchange="LIGHTER", account_index=5, collateral="USDC", instruments=instruments, ids=ClientIds(4)
        )
        return AccountQueries(
            client=LighterClient("http://venue", attempts=1, transport=httpx.MockTransport(self.answer)),
            converter=converter,
            instruments=instruments,
            requests=RequestBook(4),
            wallet=Wallet("LIGHTER", "USDC"),
            time_provider=_Clock(),  # type: ignore[arg-type]
            clock=clock,
            on_account=lambda account: None,
        )


class _Clock:
    def time(self) -> np.datetime64:
        return np.datetime64(NOW_S, "s").astype("datetime64[ns]")


def indexes(found: Found) -> list[int | None]:
    return [None if row is None else row.order_index - (1 << 48) for row in found.rows]


async def test_fifty_orders_are_found_by_client_index_with_three_requests() -> None:
    venue = Venue(
        [order(n, client=100 + n, status="open") for n in range(25)], [order(n, client=100 + n) for n in range(25, 50)]
    )
    found = await venue.find(*(Wanted(ETH, None, 100 + n) for n in range(50)))
    assert list(range(50)) == indexes(found)
    assert ["accountOrders"] * 3 == venue.asked


async def test_an_order_of_days_ago_is_found_however_many_ended_since() -> None:
    old = order(7, client=107, age_s=3 * 86_400)
    venue = Venue([], [order(1000 + n, age_s=n) for n in range(450)] + [old])
    found = await venue.find(Wanted(ETH, None, 107, (NOW_S - 3 * 86_400) * 10**9))
    assert [7] == indexes(found)
    assert 5 == venue.asked.count("accountInactiveOrders")


async def test_a_search_ends_where_the_order_cannot_be() -> None:
    venue = Venue([], [order(1000 + n, age_s=n) for n in range(950)])
    found = await venue.find(Wanted(ETH, None, 107, (NOW_S - 100) * 10**9))
    assert ([None], True) == (indexes(found), found.complete)
    assert 2 == venue.asked.count("accountInactiveOrders")


async def test_a_list_without_end_proves_nothing() -> None:
    venue = Venue([], [order(1000 + n) for n in range(5000)])
    found = await venue.find(Wanted(ETH, (1 << 48) + 7, 0))
    assert ([None], False) == (indexes(found), found.complete)


async def test_pages_that_run_in_a_circle_prove_nothing() -> None:
    venue = Venue([], [order(1000 + n) for n in range(10)])
    venue.circle = True
    found = await venue.find(Wanted(ETH, (1 << 48) + 7, 0), Wanted(ETH, (1 << 48) + 1003, 0))
    assert ([None, 1003], False) == (indexes(found), found.complete)


async def test_of_a_client_index_that_was_used_again_the_newest_order_is_meant() -> None:
    venue = Venue([], [order(2, client=107, age_s=10), order(1, client=107, age_s=5000)])
    assert [2, 1] == indexes(await venue.find(Wanted(ETH, None, 107), Wanted(ETH, (1 << 48) + 1, 107)))


async def test_an_order_that_had_the_client_index_before_is_another() -> None:
    asked_ns = NOW_S * 10**9
    ended = order(1, client=107, age_s=2)
    stood = order(2, client=108, status="open", age_s=120)
    venue = Venue([stood], [ended])
    assert [None, None] == indexes(await venue.find(Wanted(ETH, None, 107, asked_ns), Wanted(ETH, None, 108, asked_ns)))
    assert [1, 2] == indexes(await venue.find(Wanted(ETH, None, 107), Wanted(ETH, None, 108)))


@pytest.mark.parametrize("field", ["created_at", "transaction_time"])
async def test_times_that_are_cut_off_or_a_blocks_take_no_order_for_an_older_one(field: str) -> None:
    asked_ns = NOW_S * 10**9 + 999_000_000
    ours = order(1, client=107, status="open" if field == "created_at" else "filled", age_s=30)
    ours["transaction_time"] = NOW_S * 10**6 + 999_100 if field == "created_at" else 0
    ours["updated_at"] = NOW_S - 30
    venue = Venue([ours], []) if field == "created_at" else Venue([], [ours])
    assert [1] == indexes(await venue.find(Wanted(ETH, None, 107, asked_ns)))


@pytest.mark.parametrize("ahead_s", [-2.0, -0.3, 0.0, 0.3, 2.0])
@pytest.mark.parametrize("stamped", [True, False])
async def test_positions_have_the_venues_time_and_the_snapshot_has_ours(ahead_s: float, stamped: bool) -> None:
    local_ns = NOW_S * 10**9
    venue_ns = local_ns - round(ahead_s * 10**9)
    clock = VenueClock()
    for lag_ns in (900_000_000, 40_000_000, 70_000_000):
        clock.heard(venue_ns - 5 * 10**9 - lag_ns, local_ns - 5 * 10**9)
    venue = Venue([], [])
    venue.account = {
        "index": 5,
        "l1_address": "0x1",
        "collateral": "100.000000",
        "available_balance": "100.000000",
        "positions": [
            {
                "market_id": ETH,
                "sign": 1,
                "position": "1.0000",
                "avg_entry_price": "4000.00",
                "position_value": "4000.000000",
                "initial_margin_fraction": "5.00",
                "unrealized_pnl": "0.000000",
                "allocated_margin": "0.000000",
                "margin_mode": 0,
            }
        ],
        "transaction_time": venue_ns // 1000 - 7 if stamped else 0,
    }
    snapshot, until_ns = await (await venue.queries(clock)).snapshot(include_orders=False)
    assert np.datetime64(local_ns, "ns") == snapshot.as_of
    assert snapshot.positions is not None
    assert snapshot.balances is not None
    expected = np.datetime64(venue_ns - 7_000 if stamped else venue_ns - 40_000_000, "ns")
    assert expected == np.datetime64(until_ns, "ns")
    assert {expected} == {row.last_update_time for row in (*snapshot.positions, *snapshot.balances)}
