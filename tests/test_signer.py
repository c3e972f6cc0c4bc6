"""Signer: the real native library, its guards, its thread, and silence about the key."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

import pytest

import qubx_lighter.signer as signer_module
from qubx_lighter.constants import (
    MAX_BASE_LOTS,
    MAX_CLIENT_ORDER_INDEX,
    MAX_NONCE,
    MAX_PRICE_TICKS,
    Grouping,
    OrderType,
    SelfTradeBehavior,
    SelfTradeScope,
    TimeInForce,
    TxType,
)
from qubx_lighter.errors import ConfigurationError, SigningError, TransportError, VenueError
from qubx_lighter.native import key as native_key
from qubx_lighter.native import loader
from qubx_lighter.native.fields import checked_order
from qubx_lighter.protocol.order_table import (
    TABLE,
    OrderFields,
    SelfTrade,
    Terms,
    group_refusal,
    order_refusal,
    self_trade_refusal,
)
from qubx_lighter.signer import Signer, generate_api_key
from tests.programs import run_python
from tests.signing import ACCOUNT, KEY_INDEX, make

PATIENCE_S = 10.0

EXPIRY = 1_797_824_653_863


@pytest.fixture(scope="module")
def api_key() -> tuple[str, str]:
    return generate_api_key()


@pytest.fixture
async def signer(api_key: tuple[str, str]) -> AsyncIterator[Signer]:
    signer = make(api_key[0])
    yield signer
    signer.close()


def order(**changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "market_id": 0,
        "client_order_index": 1,
        "base_lots": 1000,
        "price_ticks": 300000,
        "is_ask": False,
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.GTT,
        "reduce_only": False,
        "order_expiry_ms": EXPIRY,
    }
    rest = {name: changes.pop(name) for name in ("nonce", "self_trade") if name in changes}
    return {"order": OrderFields(**options | changes), "nonce": 7} | rest


def fields_of(tx_info: str, *names: str) -> tuple[object, ...]:
    body = json.loads(tx_info)
    return tuple(body[name] for name in names)


class Call(NamedTuple):
    """One call of the native library."""

    name: str
    thread: str
    arguments: tuple[object, ...] = ()


def spy_on_library(
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[[Call], object] = lambda _call: None,
    after: Callable[[Call], object] = lambda _call: None,
) -> list[Call]:
    """Let signers load the real library behind a recorder, and return what it records."""
    calls: list[Call] = []
    load = loader.load

    class Spy:
        def __init__(self, library: object) -> None:
            self._library = library

        def __getattr__(self, name: str) -> Callable[..., object]:
            def call(*arguments: object) -> object:
                calls.append(told := Call(name, threading.current_thread().name, arguments))
                before(told)
                try:
                    return getattr(self._library, name)(*arguments)
                finally:
                    after(told)

            return call

    def spying() -> loader.Native:
        calls.append(Call("load", threading.current_thread().name))
        native = load()
        return native._replace(library=Spy(native.library))

    monkeypatch.setattr(loader, "load", spying)
    return calls


def nonce_of(call: Call) -> int:
    nonce = call.arguments[4]
    assert isinstance(nonce, int)
    return nonce


def is_cancel_all(call: Call) -> bool:
    """Tell whether a call signs a cancel-all that a test asked for, and not one that tries the library out."""
    return call.name == "SignCancelAllOrders" and nonce_of(call) < 10**6


# --- transactions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "terms", TABLE.values(), ids=lambda terms: f"{terms.order_type.name}-{terms.time_in_force.name}"
)
@pytest.mark.parametrize("flag", [True, False])
async def test_each_order_of_the_table_is_signed_as_told(signer: Signer, terms: Terms, flag: bool) -> None:
    expiry = EXPIRY if terms.has_expiry else 0
    trigger = MAX_PRICE_TICKS - 1 if terms.has_trigger else 0
    signed = await signer.create_order(
        **order(
            market_id=24,
            client_order_index=MAX_CLIENT_ORDER_INDEX,
            base_lots=MAX_BASE_LOTS,
            price_ticks=MAX_PRICE_TICKS,
            is_ask=flag,
            reduce_only=not flag,
            order_type=terms.order_type,
            time_in_force=terms.time_in_force,
            trigger_ticks=trigger,
            order_expiry_ms=expiry,
            nonce=MAX_NONCE - 1,
        )
    )
    body = json.loads(signed.tx_info)
    signature, expired_at = body.pop("Sig"), body.pop("ExpiredAt")
    assert {
        "AccountIndex": ACCOUNT,
        "ApiKeyIndex": KEY_INDEX,
        "MarketIndex": 24,
        "ClientOrderIndex": MAX_CLIENT_ORDER_INDEX,
        "BaseAmount": MAX_BASE_LOTS,
        "Price": MAX_PRICE_TICKS,
        "IsAsk": int(flag),
        "Type": terms.order_type,
        "TimeInForce": terms.time_in_force,
        "ReduceOnly": int(not flag),
        "TriggerPrice": trigger,
        "OrderExpiry": expiry,
        "Nonce": MAX_NONCE - 1,
        "L2TxAttributes": None,  # in particular no integrator fee
    } == body
    assert 108 == len(signature)  # 80 bytes in base64
    assert expired_at > time.time() * 1000
    assert (14, 80) == (signed.tx_type, len(bytes.fromhex(signed.tx_hash)) * 2)


async def native_refusal(signer: Signer, tx_type: TxType, function: str, *arguments: Any) -> str | None:
    """Sign past all of our own checks, and return what the native library says."""
    try:
        await signer._run(lambda: signer._key.sign(tx_type, function, *arguments))
    except SigningError as error:
        return str(error).removeprefix("the native signer refused: ")
    return None


NAMED = {
    "OrderTimeInForce": "time in force",
    "OrderExpiry": "expiry",
    "TriggerPrice": "trigger price",
    "OrderType": "type",
}


@pytest.mark.parametrize("order_type", range(8))
async def test_the_table_refuses_what_the_native_signer_refuses_and_for_its_reason(
    signer: Signer, order_type: int
) -> None:
    for tif, expiry, trigger in itertools.product(range(4), (0, EXPIRY), (0, 290_000)):
        fields = (0, 1, 1000, 300_000, 0, order_type, tif, 0, trigger, expiry)
        theirs = await native_refusal(signer, TxType.CREATE_ORDER, "SignCreateOrder", *fields, 0, 0, 0, 0, 0, 0, 7)
        ours = order_refusal(order_type, tif, has_expiry=bool(expiry), has_trigger=bool(trigger))
        assert (theirs is None) == (ours is None), (tif, expiry, trigger, theirs, ours)
        if theirs is not None and ours is not None and order_type in OrderType:
            assert NAMED[theirs.split()[0]] in ours, (tif, expiry, trigger)


@pytest.mark.parametrize("behavior", SelfTradeBehavior)
@pytest.mark.parametrize("scope", SelfTradeScope)
async def test_self_trade_modes_are_signed_or_refused_as_the_native_signer_does(
    signer: Signer, behavior: SelfTradeBehavior, scope: SelfTradeScope
) -> None:
    fields = (0, 1, 1000, 300_000, 0, 0, 1, 0, 0, EXPIRY, 0, 0, 0, behavior, scope, 0, 7)
    theirs = await native_refusal(signer, TxType.CREATE_ORDER, "SignCreateOrder", *fields)
    self_trade = SelfTrade(behavior, scope)
    assert (theirs is None) == (self_trade_refusal(self_trade) is None)
    if theirs is not None:
        with pytest.raises(SigningError, match="self-trades"):
            await signer.create_order(**order(self_trade=self_trade))
        return
    signed = await signer.create_order(**order(self_trade=self_trade))
    expected = {key: value for key, value in (("6", behavior), ("7", scope)) if value}
    assert (expected or None,) == fields_of(signed.tx_info, "L2TxAttributes")


def leg(order_type: OrderType, **changes: Any) -> OrderFields:
    """What closes a long position in a group."""
    options: dict[str, Any] = {
        "market_id": 3,
        "client_order_index": int(order_type),
        "base_lots": 0,
        "price_ticks": 240_000,
        "is_ask": True,
        "order_type": order_type,
        "time_in_force": TimeInForce.IOC,
        "reduce_only": True,
        "trigger_ticks": 250_000,
        "order_expiry_ms": EXPIRY,
    }
    return OrderFields(**options | changes)


def entry(order_type: OrderType = OrderType.LIMIT, **changes: Any) -> OrderFields:
    """What opens it."""
    rests = order_type is OrderType.LIMIT
    options: dict[str, Any] = {
        "client_order_index": 99,
        "base_lots": 1000,
        "is_ask": False,
        "time_in_force": TimeInForce.GTT if rests else TimeInForce.IOC,
        "reduce_only": False,
        "trigger_ticks": 0,
        "order_expiry_ms": EXPIRY if rests else 0,
    }
    return leg(order_type, **options | changes)


OTO, OCO, OTOCO = Grouping
STOP, PROFIT = leg(OrderType.STOP_LOSS), leg(OrderType.TAKE_PROFIT)
STOP_LIMIT = leg(OrderType.STOP_LOSS_LIMIT, time_in_force=TimeInForce.GTT)
PROFIT_LIMIT = leg(OrderType.TAKE_PROFIT_LIMIT, time_in_force=TimeInForce.POST_ONLY)
GROUPS: list[tuple[int, list[OrderFields]]] = [
    (OTO, [entry(), STOP]),
    (OTO, [entry(), PROFIT_LIMIT]),
    (OTO, [entry(OrderType.MARKET), PROFIT]),
    (OTO, [entry(time_in_force=TimeInForce.IOC, order_expiry_ms=0), STOP_LIMIT]),
    (OTO, [entry(time_in_force=TimeInForce.POST_ONLY), STOP]),
    (OTO, [entry(reduce_only=True), STOP]),
    (OTO, [entry(client_order_index=0), leg(OrderType.STOP_LOSS, client_order_index=0)]),
    (OTOCO, [entry(), STOP, PROFIT]),
    (OTOCO, [entry(), PROFIT, STOP]),
    (OTOCO, [entry(OrderType.MARKET), STOP_LIMIT, PROFIT_LIMIT]),
    (OCO, [leg(OrderType.STOP_LOSS, base_lots=1000), leg(OrderType.TAKE_PROFIT, base_lots=1000)]),
    (OCO, [PROFIT_LIMIT, STOP]),
    # and what is no group
    (OTO, [entry()]),
    (OTO, [entry(), STOP, PROFIT]),
    (OTOCO, [entry(), STOP]),
    (OTO, [entry(), leg(OrderType.STOP_LOSS, base_lots=1000)]),
    (OTO, [entry(), leg(OrderType.STOP_LOSS, reduce_only=False)]),
    (OTO, [entry(), leg(OrderType.STOP_LOSS, is_ask=False)]),
    (OTO, [entry(), leg(OrderType.STOP_LOSS, order_expiry_ms=EXPIRY + 1)]),
    (OTO, [entry(), leg(OrderType.STOP_LOSS, market_id=4)]),
    (OTO, [entry(), leg(OrderType.STOP_LOSS, client_order_index=99)]),
    (OTO, [entry(), entry(is_ask=True, base_lots=0, reduce_only=True, client_order_index=5)]),
    (OTO, [leg(OrderType.STOP_LOSS, base_lots=1000, is_ask=False), PROFIT]),
    (OTO, [entry(OrderType.TWAP, time_in_force=TimeInForce.GTT, order_expiry_ms=EXPIRY), STOP]),
    (OTOCO, [entry(), STOP, leg(OrderType.STOP_LOSS, client_order_index=5)]),
    (OTOCO, [entry(OrderType.MARKET), STOP, leg(OrderType.TAKE_PROFIT, order_expiry_ms=EXPIRY + 1)]),
    (OCO, [leg(OrderType.STOP_LOSS, base_lots=1000), leg(OrderType.TAKE_PROFIT, base_lots=900)]),
    (OCO, [leg(OrderType.STOP_LOSS, is_ask=False), PROFIT]),
    (OCO, [leg(OrderType.STOP_LOSS, base_lots=9, reduce_only=False), leg(OrderType.TAKE_PROFIT, base_lots=9)]),
    (OCO, [STOP, leg(OrderType.STOP_LOSS, client_order_index=5)]),
    (OCO, [entry(is_ask=True, reduce_only=True, base_lots=0), STOP]),
]


@pytest.mark.parametrize(("grouping", "orders"), GROUPS)
async def test_groups_are_signed_as_told_or_refused_as_the_native_signer_does(
    signer: Signer, grouping: int, orders: list[OrderFields]
) -> None:
    native = await signer._run(signer._key.ready)
    rows = [checked_order(order) for order in orders]
    array = (native.order * len(rows))(*(native.order(*row) for row in rows))
    arguments = (grouping, array, len(rows), 0, 0, 0, 0, 0, 0, 7)
    theirs = await native_refusal(signer, TxType.CREATE_GROUPED_ORDERS, "SignCreateGroupedOrders", *arguments)
    ours = group_refusal(grouping, orders)
    assert (theirs is None) == (ours is None), (theirs, ours)
    if ours is not None:
        with pytest.raises(SigningError, match="this group cannot be signed"):
            await signer.create_grouped_orders(grouping=grouping, orders=orders, nonce=7)
        return
    signed = await signer.create_grouped_orders(grouping=grouping, orders=orders, nonce=7)
    assert 28 == signed.tx_type
    names = "MarketIndex ClientOrderIndex BaseAmount Price IsAsk Type TimeInForce ReduceOnly TriggerPrice OrderExpiry"
    told = [dict(zip(names.split(), row, strict=True)) for row in rows]
    assert (grouping, told, 7, None) == fields_of(signed.tx_info, "GroupingType", "Orders", "Nonce", "L2TxAttributes")


async def test_a_group_that_is_signed_otherwise_than_told_is_refused(
    signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = await signer._run(signer._key.ready)

    def take(pointer: object) -> str | None:
        text = native.take(pointer)
        return text if text is None else text.replace('"MarketIndex":3,"ClientOrderIndex":2', '"MarketIndex":2')

    monkeypatch.setattr(signer._key, "_native", native._replace(take=take))
    with pytest.raises(SigningError, match="something else than it is told"):
        await signer.create_grouped_orders(grouping=OTO, orders=[entry(), STOP], nonce=7)


async def test_cancel_takes_a_client_index_or_a_venue_index(signer: Signer) -> None:
    venue_index = (25 << 48) | 12345
    for index in (7, venue_index):
        signed = await signer.cancel_order(market_id=24, index=index, nonce=8)
        assert 15 == signed.tx_type
        assert (24, index, 8, None) == fields_of(signed.tx_info, "MarketIndex", "Index", "Nonce", "L2TxAttributes")


async def test_modify_carries_the_new_total_and_price(signer: Signer) -> None:
    sizeless = await signer.modify_order(market_id=0, index=1, base_lots=0, price_ticks=5, trigger_ticks=6, nonce=9)
    assert {"BaseAmount": 0, "TriggerPrice": 6}.items() <= json.loads(sizeless.tx_info).items()
    signed = await signer.modify_order(market_id=0, index=1, base_lots=900, price_ticks=MAX_PRICE_TICKS, nonce=9)
    assert 17 == signed.tx_type
    assert (0, 1, 900, MAX_PRICE_TICKS, 0, 9, None) == fields_of(
        signed.tx_info, "MarketIndex", "Index", "BaseAmount", "Price", "TriggerPrice", "Nonce", "L2TxAttributes"
    )


async def test_cancel_all_is_immediate_and_of_every_market(signer: Signer) -> None:
    signed = await signer.cancel_all(nonce=10)
    assert 16 == signed.tx_type
    assert (0, 0, 10, None) == fields_of(signed.tx_info, "TimeInForce", "Time", "Nonce", "L2TxAttributes")


async def test_modify_moves_the_trigger_too(signer: Signer) -> None:
    signed = await signer.modify_order(
        market_id=0, index=1, base_lots=900, price_ticks=5, trigger_ticks=MAX_PRICE_TICKS, nonce=9
    )
    assert (5, MAX_PRICE_TICKS) == fields_of(signed.tx_info, "Price", "TriggerPrice")


@pytest.mark.parametrize("market_id", [0, 1, 2048])
async def test_cancel_all_of_one_market_names_it(signer: Signer, market_id: int) -> None:
    signed = await signer.cancel_all(nonce=10, market_id=market_id)
    assert (0, 0, {"5": market_id}) == fields_of(signed.tx_info, "TimeInForce", "Time", "L2TxAttributes")


async def test_cancel_all_is_scheduled_and_called_off(signer: Signer) -> None:
    scheduled = await signer.schedule_cancel_all(time_ms=EXPIRY, nonce=10)
    aborted = await signer.abort_scheduled_cancel_all(nonce=11)
    names = "TimeInForce", "Time", "Nonce", "L2TxAttributes"
    assert (1, EXPIRY, 10, None) == fields_of(scheduled.tx_info, *names)
    assert (2, 0, 11, None) == fields_of(aborted.tx_info, *names)


async def test_leverage_is_signed_as_a_margin_fraction(signer: Signer) -> None:
    signed = await signer.update_leverage(market_id=1, initial_margin_fraction=1000, margin_mode=1, nonce=11)
    assert 20 == signed.tx_type
    assert (1, 1000, 1, 11) == fields_of(signed.tx_info, "MarketIndex", "InitialMarginFraction", "MarginMode", "Nonce")


async def test_no_kind_of_order_carries_an_integrator_or_its_fees(signer: Signer) -> None:
    orders = [
        order(
            order_type=terms.order_type,
            time_in_force=terms.time_in_force,
            trigger_ticks=290_000 if terms.has_trigger else 0,
            order_expiry_ms=EXPIRY if terms.has_expiry else 0,
        )
        for terms in TABLE.values()
    ]
    modes = [SelfTrade(behavior, scope) for behavior in SelfTradeBehavior for scope in SelfTradeScope]
    modes = [mode for mode in modes if self_trade_refusal(mode) is None]
    groups = [(grouping, legs) for grouping, legs in GROUPS if group_refusal(grouping, legs) is None]
    signed = [await signer.create_order(**fields, self_trade=mode) for fields in orders for mode in modes]
    signed += [
        await signer.create_grouped_orders(grouping=grouping, orders=legs, nonce=7, self_trade=mode)
        for grouping, legs in groups
        for mode in modes
    ]
    amend = {"market_id": 0, "index": 1, "base_lots": 900, "price_ticks": 5, "nonce": 9}
    signed += [await signer.modify_order(**amend, self_trade=mode) for mode in modes]
    attributes = [json.loads(one.tx_info)["L2TxAttributes"] or {} for one in signed]
    assert (len(orders) + len(groups) + 1) * len(modes) == len(attributes)
    assert {"6", "7"} == {
        name for one in attributes for name in one
    }  # self-trades alone; 1, 2 and 3 are an integrator's


async def test_auth_token_names_its_end_account_and_key(signer: Signer) -> None:
    deadline, account, key_index, signature = (await signer.auth_token(now_s=2_000_000_000, lifetime_s=600)).split(":")
    assert ("2000000600", str(ACCOUNT), str(KEY_INDEX), 160) == (deadline, account, key_index, len(signature))


# --- guards -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("market_id", -1),
        ("market_id", 255),
        ("market_id", 2**15),
        ("client_order_index", -1),
        ("client_order_index", 2**48),
        ("base_lots", 0),
        ("base_lots", 2**48),
        ("base_lots", 2**64 + 1000),
        ("price_ticks", 0),
        ("price_ticks", 2**32),
        ("price_ticks", 2**32 + 300000),
        ("is_ask", 257),
        ("reduce_only", 2),
        ("order_type", 7),
        ("time_in_force", 3),
        ("order_expiry_ms", -1),
        ("order_expiry_ms", 2**63),
        ("nonce", -1),
        ("nonce", 2**48 - 1),
        ("price_ticks", 300000.0),
        ("base_lots", "1000"),
        ("nonce", None),
    ],
)
async def test_what_the_native_code_would_wrap_is_refused(signer: Signer, name: str, value: object) -> None:
    with pytest.raises(SigningError, match=name):
        await signer.create_order(**order(**{name: value}))


@pytest.mark.parametrize(
    ("order_type", "time_in_force", "expiry"),
    [
        (OrderType.LIMIT, TimeInForce.GTT, 0),
        (OrderType.LIMIT, TimeInForce.POST_ONLY, 0),
        (OrderType.LIMIT, TimeInForce.IOC, EXPIRY),
        (OrderType.MARKET, TimeInForce.IOC, EXPIRY),
        (OrderType.MARKET, TimeInForce.GTT, EXPIRY),
        (OrderType.MARKET, TimeInForce.POST_ONLY, EXPIRY),
    ],
)
async def test_combinations_that_the_venue_does_not_know_are_refused(
    signer: Signer, order_type: OrderType, time_in_force: TimeInForce, expiry: int
) -> None:
    changes = {"order_type": order_type, "time_in_force": time_in_force, "order_expiry_ms": expiry}
    with pytest.raises(SigningError, match=time_in_force.name):
        await signer.create_order(**order(**changes))


@pytest.mark.parametrize(
    "call",
    [
        lambda signer: signer.cancel_order(market_id=0, index=0, nonce=1),
        lambda signer: signer.cancel_order(market_id=0, index=2**60, nonce=1),
        lambda signer: signer.cancel_order(market_id=0, index=1, nonce=-1),
        lambda signer: signer.modify_order(market_id=0, index=1, base_lots=0, price_ticks=1, nonce=1),
        lambda signer: signer.modify_order(market_id=0, index=1, base_lots=1, price_ticks=2**32, nonce=1),
        lambda signer: signer.cancel_all(nonce=-1),
        lambda signer: signer.cancel_all(nonce=1, market_id=255),
        lambda signer: signer.schedule_cancel_all(time_ms=0, nonce=1),
        lambda signer: signer.modify_order(
            market_id=0, index=1, base_lots=1, price_ticks=1, trigger_ticks=2**32, nonce=1
        ),
        lambda signer: signer.update_leverage(market_id=0, initial_margin_fraction=0, margin_mode=0, nonce=1),
        lambda signer: signer.update_leverage(market_id=0, initial_margin_fraction=10_001, margin_mode=0, nonce=1),
        lambda signer: signer.update_leverage(market_id=0, initial_margin_fraction=500, margin_mode=2, nonce=1),
        lambda signer: signer.auth_token(now_s=1, lifetime_s=8 * 3600 + 1),
        lambda signer: signer.auth_token(now_s=1, lifetime_s=0),
    ],
)
async def test_the_other_transactions_guard_their_integers_too(
    signer: Signer, call: Callable[[Signer], Awaitable[object]]
) -> None:
    with pytest.raises(SigningError):
        await call(signer)


def test_an_impossible_account_or_key_index_is_refused_at_once(api_key: tuple[str, str]) -> None:
    for name, value in (("account_index", 2**48 - 1), ("api_key_index", 255), ("chain_id", 2**31)):
        with pytest.raises(SigningError, match=name):
            make(api_key[0], **{name: value})


# --- the threads ------------------------------------------------------------------------------------------------------


async def test_every_native_call_runs_in_a_thread_of_the_signers_own(
    signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = spy_on_library(monkeypatch)
    await signer.create_order(**order())
    await signer.auth_token(now_s=1, lifetime_s=60)
    with pytest.raises(TransportError):
        await signer.check_key()
    assert {"load", "CreateClient", "SignCreateOrder", "CreateAuthToken", "CheckClient"} <= {
        call.name for call in calls
    }
    assert all(call.thread.startswith("lighter-signer") for call in calls)


async def test_as_many_signatures_are_made_at_a_time_as_there_are_workers(
    api_key: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(3)
    spy_on_library(monkeypatch, lambda call: is_cancel_all(call) and together.wait(PATIENCE_S))
    signer = make(api_key[0], workers=3)
    signed = await asyncio.gather(*(signer.cancel_all(nonce=nonce) for nonce in range(9)))
    assert [(KEY_INDEX, nonce) for nonce in range(9)] == [
        fields_of(each.tx_info, "ApiKeyIndex", "Nonce") for each in signed
    ]
    assert not together.broken
    signer.close()


async def test_a_library_that_many_threads_need_is_loaded_once(
    api_key: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = spy_on_library(monkeypatch)
    signer = make(api_key[0], workers=4)
    await asyncio.gather(*(signer.cancel_all(nonce=nonce) for nonce in range(8)))
    names = [call.name for call in calls]
    assert [1, 1] == [names.count(name) for name in ("load", "CreateClient")]
    assert 8 == sum(is_cancel_all(call) for call in calls)
    signer.close()


def test_making_a_signer_starts_no_thread_and_imports_no_sdk() -> None:
    code = """
        import sys, threading
        from pydantic import SecretStr
        from qubx_lighter.signer import Signer
        Signer(chain_id=304, account_index=1, api_key_index=4, private_key=SecretStr("ab" * 40), base_url="http://x")
        print("lighter" in sys.modules, threading.active_count())
    """
    assert "False 1" == run_python(code)


@pytest.mark.parametrize("account_index", [2**47 - 1, 2**47, 2**48 - 3])
async def test_the_key_of_a_sub_account_or_a_pool_signs_what_is_not_a_masters(
    api_key: tuple[str, str], account_index: int
) -> None:
    signer = make(api_key[0], account_index=account_index)
    signed = await signer.cancel_all(nonce=1)
    assert account_index == json.loads(signed.tx_info)["AccountIndex"]
    assert f":{account_index}:" in await signer.auth_token(now_s=1_790_000_000, lifetime_s=600)
    signer.close()


async def test_a_closed_signer_signs_no_more(api_key: tuple[str, str]) -> None:
    signer = make(api_key[0])
    await signer.cancel_all(nonce=1)
    signer.close()
    signer.close()
    with pytest.raises(SigningError, match="closed"):
        await signer.cancel_all(nonce=2)


# --- two signers for one client of the native library -------------------------------------------------------------------


async def test_two_networks_with_one_account_and_key_index_keep_their_own_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = spy_on_library(monkeypatch)
    keys = {304: generate_api_key()[0], 300: generate_api_key()[0]}
    signers = {chain: make(key, account_index=77, chain_id=chain) for chain, key in keys.items()}
    registered: list[list[tuple[object, ...]]] = []
    for chain in (304, 300, 300, 304):
        calls.clear()
        await signers[chain].cancel_all(nonce=1)
        registered.append([call.arguments[1:3] for call in calls if call.name == "CreateClient"])
    mine, other = ((keys[chain].removeprefix("0x").encode(), chain) for chain in (304, 300))
    assert [[mine], [other], [], [mine]] == registered
    for signer in signers.values():
        signer.close()


class Table:
    """What a test sees of the library's clients: whose key is in, and who is signing while it changes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.chain: object = None
        self.signing = 0
        self.mistakes: list[str] = []

    def before(self, call: Call) -> None:
        """Note who begins."""
        with self.lock:
            if call.name == "CreateClient":
                self.mistakes += ["a key changed while somebody signed"] * bool(self.signing)
                self.chain = None
            elif is_cancel_all(call):
                self.signing += 1
                self._check(call)

    def after(self, call: Call) -> None:
        """Note who is through."""
        with self.lock:
            if call.name == "CreateClient":
                self.chain = call.arguments[2]
            elif is_cancel_all(call):
                self._check(call)
                self.signing -= 1

    def _check(self, call: Call) -> None:
        nonce = nonce_of(call)
        if self.chain != nonce // 1000:
            self.mistakes.append(f"nonce {nonce} met the key of chain {self.chain}")


async def test_many_threads_of_two_networks_never_sign_with_each_others_key(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table()
    calls = spy_on_library(monkeypatch, table.before, table.after)
    signers = {chain: make(generate_api_key()[0], account_index=78, chain_id=chain, workers=3) for chain in (304, 300)}
    await asyncio.gather(*(signers[chain].cancel_all(nonce=chain * 1000 + n) for n in range(60) for chain in signers))
    assert [] == table.mistakes
    assert 120 == sum(is_cancel_all(call) for call in calls)
    for signer in signers.values():
        signer.close()


async def test_a_refusal_of_the_library_is_a_signing_error_with_its_reason(signer: Signer) -> None:
    await signer.load()
    with pytest.raises(SigningError, match=r"the native signer refused: .*OrderExpiry"):
        await signer._sign(TxType.CREATE_ORDER, "SignCreateOrder", 0, 1, 1, 1, 0, 0, 1, 0, 0, 0, *[0] * 6, 7)
    with pytest.raises(SigningError, match="answered type 16 to a CANCEL_ORDER"):
        await signer._sign(TxType.CANCEL_ORDER, "SignCancelAllOrders", 0, 0, 255, 0, 7)


# --- secrets ----------------------------------------------------------------------------------------------------------


async def test_the_key_is_in_no_text_of_the_signer(signer: Signer, api_key: tuple[str, str]) -> None:
    digits = api_key[0].removeprefix("0x")
    await signer.load()
    assert digits not in repr(signer)
    assert digits not in str(signer)
    assert digits not in repr(vars(signer))


@pytest.mark.parametrize("key", ["zz" * 40, "ab", "0xsecretsecretsecret"])
async def test_a_refused_key_is_not_quoted(key: str) -> None:
    signer = make(key)
    with pytest.raises(SigningError, match="80 hexadecimal digits") as caught:
        await signer.load()
    signer.close()
    texts = [str(caught.value), repr(caught.value), repr(caught.value.__cause__), repr(caught.value.__context__)]
    assert not any(key.removeprefix("0x") in text for text in texts)
    assert not any("'z'" in text for text in texts)


async def test_no_frame_of_a_traceback_holds_the_key_in_a_local(api_key: tuple[str, str]) -> None:
    secret = "zz" * 40
    signer = make(secret)
    with pytest.raises(SigningError) as caught:
        await signer.load()
    signer.close()
    frames, trace = [], caught.value.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    files = {signer_module.__file__, native_key.__file__}
    ours = [frame for frame in frames if frame.f_code.co_filename in files]
    assert files == {frame.f_code.co_filename for frame in ours}
    assert not any(secret in repr(value) for frame in ours for value in frame.f_locals.values())


def test_generated_keys_are_fresh_and_usable() -> None:
    (private, public), (other, _) = generate_api_key(), generate_api_key()
    assert private != other
    assert [82, 82] == [len(private), len(public)]
    assert private.startswith("0x")


# --- the registered key -----------------------------------------------------------------------------------------------


class ApiKeysServer(ThreadingHTTPServer):
    """Answers every GET with one body, as the venue's ``apikeys`` would."""

    def __init__(self, body: str, status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body, self.status = body.encode(), status
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: ApiKeysServer

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        logging.getLogger(__name__).debug(format, *args)


def apikeys_server(public_key: str, api_key_index: int = KEY_INDEX) -> ApiKeysServer:
    row = {"account_index": 77, "api_key_index": api_key_index, "nonce": 0, "public_key": public_key.removeprefix("0x")}
    return ApiKeysServer(json.dumps({"code": 200, "api_keys": [row]}))


_accounts = itertools.count(1000)


@pytest.fixture
def fresh_account() -> int:
    """The native library remembers a key that it has found right, by account: each test takes another account."""
    return next(_accounts)


async def check(server_url: str, private_key: str, account_index: int) -> None:
    signer = make(private_key, account_index=account_index, base_url=server_url)
    try:
        await signer.check_key()
    finally:
        signer.close()


async def test_the_registered_key_passes(api_key: tuple[str, str], fresh_account: int) -> None:
    with apikeys_server(api_key[1]) as server:
        await check(server.url, api_key[0], fresh_account)


async def test_another_key_is_a_configuration_error_in_one_line(api_key: tuple[str, str], fresh_account: int) -> None:
    matching = pytest.raises(ConfigurationError, match="not the one registered")
    with apikeys_server(generate_api_key()[1]) as server, matching as caught:
        await check(server.url, api_key[0], fresh_account)
    text = str(caught.value)
    assert f"API key {KEY_INDEX} of account {fresh_account}" in text
    assert "\n" not in text
    assert api_key[0].removeprefix("0x") not in text


async def test_no_key_at_the_index_is_a_configuration_error(api_key: tuple[str, str], fresh_account: int) -> None:
    matching = pytest.raises(ConfigurationError, match="is not registered")
    with apikeys_server(api_key[1], api_key_index=9) as server, matching:
        await check(server.url, api_key[0], fresh_account)


async def test_an_unreachable_venue_is_a_transport_error_in_one_line(
    api_key: tuple[str, str], fresh_account: int
) -> None:
    with pytest.raises(TransportError) as caught:
        await check("http://127.0.0.1:1", api_key[0], fresh_account)
    assert (
        f"API key {KEY_INDEX} of account {fresh_account} could not be checked at http://127.0.0.1:1: connection refused"
        == str(caught.value)
    )


async def test_a_refusing_venue_is_a_venue_error(api_key: tuple[str, str], fresh_account: int) -> None:
    matching = pytest.raises(VenueError, match="account not found")
    with ApiKeysServer('{"code":21100,"message":"account not found"}', 400) as server, matching as caught:
        await check(server.url, api_key[0], fresh_account)
    assert 21100 == caught.value.code


async def test_a_blocking_cdn_is_a_transport_error_in_one_line(api_key: tuple[str, str], fresh_account: int) -> None:
    page = "<html>\n<body>blocked</body>\n</html>"
    with ApiKeysServer(page, 403) as server, pytest.raises(TransportError) as caught:
        await check(server.url, api_key[0], fresh_account)
    assert "\n" not in str(caught.value)
