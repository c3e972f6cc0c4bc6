"""The venue's limits as data: what tiers allow, what requests weigh, which transactions use up quota."""

from __future__ import annotations

import pytest

from qubx_lighter.constants import TxType
from qubx_lighter.protocol.limits import STANDARD, TIERS, quota_cost, tier_of


@pytest.mark.parametrize(
    ("endpoint", "standard", "premium"),
    [
        ("nextNonce", 60, 4000),
        ("publicPools", 60, 480),
        ("accountInactiveOrders", 60, 240),
        ("deposit/latest", 60, 240),
        ("apikeys", 60, 160),
        ("account", 60, 80),
        ("candles", 60, 80),
        ("transferFeeInfo", 48, 48),
        ("trades", 40, 40),
        ("recentTrades", 40, 40),
        ("changeAccountTier", 8, 8),
        ("tokens/create", 1, 1),
    ],
)
def test_how_many_requests_of_a_kind_fit_into_a_minute(endpoint: str, standard: int, premium: int) -> None:
    found = [tier.weight // tier.request_weight(endpoint) for tier in (STANDARD, TIERS["premium"])]
    assert [standard, premium] == found


@pytest.mark.parametrize(
    ("name", "stake", "transactions"),
    [
        ("standard", 0, 60),
        ("Standard", 500_000, 60),
        ("premium", 0, 4_000),
        ("premium", 999.99, 4_000),
        ("premium", 1_000, 5_000),
        ("premium", 3_000, 6_000),
        ("premium", 10_000, 7_000),
        ("premium", 30_000, 8_000),
        ("PREMIUM", 100_000, 12_000),
        ("premium", 300_000, 24_000),
        ("premium", 10**9, 40_000),
        ("plus", 0, 8_000),
        ("builder", 0, 60),
    ],
)
def test_an_account_has_the_transactions_of_its_tier_and_stake(name: str, stake: float, transactions: int) -> None:
    tier = tier_of(name, stake)
    assert tier is not None
    assert transactions == tier.transactions


def test_a_tier_that_is_not_known_is_none() -> None:
    assert [None, None] == [tier_of(""), tier_of("platinum", 10)]


def test_only_what_makes_or_changes_orders_or_cancels_all_uses_up_quota() -> None:
    costly = {tx_type for tx_type in TxType if quota_cost(tx_type)}
    assert {
        TxType.CREATE_ORDER,
        TxType.MODIFY_ORDER,
        TxType.CANCEL_ALL_ORDERS,
        TxType.CREATE_GROUPED_ORDERS,
    } == costly
