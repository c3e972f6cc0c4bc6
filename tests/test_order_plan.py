"""From a strategy's words to what is signed: prices, sizes, lifetimes, groups; and what is refused with which words."""

from __future__ import annotations

import random
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

import pytest
from msgspec.structs import replace
from qubx.core.basics import Instrument, Order, OrderRequest
from qubx.core.exceptions import InvalidOrderParameters, NotSupported
from qubx.core.series import Quote

from qubx_lighter.constants import Grouping, OrderType, SelfTradeBehavior, SelfTradeScope, TimeInForce
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.markets import Market
from qubx_lighter.order_plan import OrderPlan, OrderPlanner, refuse_for_maker_only
from qubx_lighter.protocol.order_table import OrderFields, SelfTrade, group_refusal, order_refusal
from qubx_lighter.protocol.orders import ClientIds
from qubx_lighter.protocol.wire import MarketRow, OrderBookDetailsBody, OrderRow
from qubx_lighter.settings import LighterSettings
from tests.markets import ROWS

NOW_MS = 1_797_824_653_863
DAY_MS = 24 * 3600 * 1000
IOC, GTT, POST_ONLY = TimeInForce.IOC, TimeInForce.GTT, TimeInForce.POST_ONLY
SPOT = MarketRow(
    symbol="ETH/USDC",
    market_id=2048,
    market_type="spot",
    status="active",
    supported_size_decimals=4,
    supported_price_decimals=2,
    min_base_amount="0.0050",
    min_quote_amount="10.000000",
    order_quote_limit="50000.000000",
    created_at="1737000000000",
)


class Rows:
    """ETH and its spot market."""

    async def order_book_details(self) -> OrderBookDetailsBody:
        """Give the rows."""
        return OrderBookDetailsBody(order_book_details=ROWS, spot_order_book_details=[SPOT])


class Desk:
    """A planner on two markets, with a quote of 3999 to 4001."""

    def __init__(self, loader: LighterInstrumentLoader, **settings: Any) -> None:
        self.markets: dict[str, tuple[Instrument, Market]] = {
            market.ticker: (loader.instrument(market.market_id), market) for market in loader.markets
        }
        self.planner = OrderPlanner(
            settings=LighterSettings.build(settings),
            index_of=ClientIds(4).index_of,
            best=lambda instrument: Quote(0, 3999.0, 4001.0, 1.0, 1.0),
            glance=lambda instrument: Quote(0, 3999.0, 4001.0, 1.0, 1.0),
        )

    def plan(
        self,
        kind: str,
        amount: float,
        price: float | None = None,
        tif: str = "gtc",
        ticker: str = "ETH-USDC",
        **options: Any,
    ) -> OrderPlan:
        """Plan an order; ``amount`` is signed."""
        instrument, market = self.markets[ticker]
        request = OrderRequest(
            client_id="qubx_ETH-USDC_17912345678",
            instrument=instrument,
            quantity=abs(amount),
            price=price,
            order_type=kind,  # type: ignore[arg-type]
            side="BUY" if amount > 0 else "SELL",  # type: ignore[arg-type]
            time_in_force=tif,
            options=options,
        )
        plan = self.planner.plan(request, market, NOW_MS)
        for order in plan.orders:
            refusal = order_refusal(
                order.order_type,
                order.time_in_force,
                has_expiry=bool(order.order_expiry_ms),
                has_trigger=bool(order.trigger_ticks),
            )
            assert refusal is None
        if plan.grouping is not None:
            assert group_refusal(plan.grouping, plan.orders) is None
        return plan

    def one(self, *arguments: Any, **options: Any) -> OrderFields:
        """Plan a single order."""
        plan = self.plan(*arguments, **options)
        assert plan.grouping is None
        (order,) = plan.orders
        return order

    def order(self, kind: str, amount: float, price: float | None, **changes: Any) -> Order:
        """Write a working order as Qubx keeps it."""
        options: dict[str, Any] = {
            "client_order_id": "qubx_ETH-USDC_5",
            "type": kind,
            "instrument": self.markets["ETH-USDC"][0],
            "quantity": abs(amount),
            "side": "BUY" if amount > 0 else "SELL",
            "time_in_force": "gtc",
            "price": price,
        }
        return Order(**options | changes)

    def amend(
        self, order: Order, price: float | None = None, quantity: float | None = None, row: OrderRow | None = None
    ) -> tuple[Any, ...]:
        """Plan an amend: lots, price, trigger."""
        return self.planner.amendment(order, self.markets["ETH-USDC"][1], price, quantity, row)[:3]


def stop_row(order_type: str, price: float, status: str = "pending") -> OrderRow:
    """Write the venue's row of an order that sells at a trigger of 3,900."""
    return OrderRow(
        order_index=1 << 48,
        client_order_index=0,
        market_index=0,
        is_ask=True,
        status=status,
        initial_base_amount=0.5,
        remaining_base_amount=0.5,
        filled_base_amount=0.0,
        filled_quote_amount=0.0,
        price=price,
        type=order_type,
        trigger_price=3900.0,
    )


@pytest.fixture
async def desk() -> Desk:
    loader = LighterInstrumentLoader(Rows())
    await loader.load()
    return Desk(loader)


# --- single orders ---------------------------------------------------------------------------------------------------


def test_a_limit_order_rests_for_the_settings_lifetime(desk: Desk) -> None:
    index = (4 << 40) | 17912345678
    expected = OrderFields(
        0, index, 5000, 399_000, False, OrderType.LIMIT, GTT, False, order_expiry_ms=NOW_MS + 28 * DAY_MS
    )
    assert expected == desk.one("LIMIT", 0.5, 3990.0)


@pytest.mark.parametrize(("tif", "expected"), [("ioc", IOC), ("GTX", POST_ONLY), ("post_only", POST_ONLY)])
def test_times_in_force_reach_the_wire(desk: Desk, tif: str, expected: TimeInForce) -> None:
    order = desk.one("LIMIT", 0.5, 3990.0, tif)
    assert (expected, expected is not IOC) == (order.time_in_force, bool(order.order_expiry_ms))


@pytest.mark.parametrize(("amount", "bound"), [(0.5, 404_101), (-0.5, 395_901)])
def test_a_market_order_is_bounded_by_slippage_from_the_best_price(desk: Desk, amount: float, bound: int) -> None:
    order = desk.one("MARKET", amount)
    assert (OrderType.MARKET, IOC, 0, bound) == (
        order.order_type,
        order.time_in_force,
        order.order_expiry_ms,
        order.price_ticks,
    )


def test_slippage_may_be_the_orders_own(desk: Desk) -> None:
    assert 400_500 == desk.one("MARKET", 0.5, slippage=0.001).price_ticks


@pytest.mark.parametrize(("amount", "bound"), [(0.5, 424_200), (-0.5, 415_800)])
@pytest.mark.parametrize(
    ("trigger_type", "expected"), [(None, OrderType.STOP_LOSS), ("take_profit", OrderType.TAKE_PROFIT)]
)
def test_a_stop_market_order_is_bounded_by_slippage_from_its_trigger(
    desk: Desk, amount: float, bound: int, trigger_type: str | None, expected: OrderType
) -> None:
    order = desk.one("STOP_MARKET", amount, 4200.0, stop_type="market", trigger_type=trigger_type or "stop_loss")
    assert (expected, IOC, 420_000, bound, NOW_MS + 28 * DAY_MS) == (
        order.order_type,
        order.time_in_force,
        order.trigger_ticks,
        order.price_ticks,
        order.order_expiry_ms,
    )


def test_a_stop_limit_order_has_its_trigger_as_limit_or_another(desk: Desk) -> None:
    order = desk.one("STOP_LIMIT", -0.5, 3800.0)
    assert (OrderType.STOP_LOSS_LIMIT, GTT, 380_000, 380_000) == (
        order.order_type,
        order.time_in_force,
        order.trigger_ticks,
        order.price_ticks,
    )
    assert 379_000 == desk.one("STOP_LIMIT", -0.5, 3800.0, limit_price=3790.0).price_ticks


def test_a_twap_ends_at_its_time_within_a_worst_price(desk: Desk) -> None:
    order = desk.one("MARKET", 5.0, twap_s=600)
    assert (OrderType.TWAP, GTT, NOW_MS + 600_000, 404_101) == (
        order.order_type,
        order.time_in_force,
        order.order_expiry_ms,
        order.price_ticks,
    )
    assert 405_000 == desk.one("LIMIT", 5.0, 4050.0, twap_s=600).price_ticks


def test_a_lifetime_may_be_the_orders_own(desk: Desk) -> None:
    assert NOW_MS + 3_600_000 == desk.one("LIMIT", 0.5, 3990.0, "gtt", expires_in_s=3600).order_expiry_ms
    assert NOW_MS + 305_000 == desk.one("STOP_MARKET", 0.5, 4200.0, expires_in_s=305).order_expiry_ms


def test_a_post_only_price_that_would_cross_is_moved_where_that_is_asked_for(desk: Desk) -> None:
    assert 400_500 == desk.one("LIMIT", 0.5, 4005.0, "gtx").price_ticks
    assert 400_099 == desk.one("LIMIT", 0.5, 4005.0, "gtx", reprice_if_crossing=True).price_ticks
    assert 399_901 == desk.one("LIMIT", -0.5, 3990.0, "gtx", reprice_if_crossing=True).price_ticks
    assert 399_000 == desk.one("LIMIT", 0.5, 3990.0, "gtx", reprice_if_crossing=True).price_ticks
    assert 400_500 == desk.one("LIMIT", 0.5, 4005.0, "gtc", reprice_if_crossing=True).price_ticks


def test_self_trades_are_as_asked_for(desk: Desk) -> None:
    assert SelfTrade() == desk.plan("LIMIT", 0.5, 3990.0).self_trade
    plan = desk.plan("LIMIT", 0.5, 3990.0, self_trade="expire_both", self_trade_scope="master_account")
    assert SelfTrade(SelfTradeBehavior.EXPIRE_BOTH, SelfTradeScope.MASTER_ACCOUNT) == plan.self_trade


@pytest.mark.parametrize("seed", range(3))
def test_prices_are_rounded_to_the_orders_side_and_sizes_never(desk: Desk, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(500):
        lots, price = chance.randrange(100, 10**6), chance.uniform(1000, 9000)
        amount = lots * 0.0001 * chance.choice((1, -1))
        kind = chance.choice(["LIMIT", "STOP_LIMIT"])
        order = desk.one(kind, amount, price)
        way = ROUND_CEILING if amount < 0 else ROUND_FLOOR
        expected = int((Decimal(price) * 100).to_integral_value(way))
        assert (lots, expected) == (order.base_lots, order.price_ticks)
        assert order.trigger_ticks in (0, expected)
    with pytest.raises(InvalidOrderParameters, match="not a multiple of"):
        desk.plan("LIMIT", 0.50001, 3990.0)


# --- reducing, small and large ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["reduceOnly", "reduce_only"])
def test_what_only_reduces_may_be_as_small_as_it_is(desk: Desk, option: str) -> None:
    order = desk.one("LIMIT", -0.0001, 3990.0, **{option: True})
    assert (1, True) == (order.base_lots, order.reduce_only)


@pytest.mark.parametrize(
    ("amount", "price", "text"),
    [
        (0.0049, 3990.0, r"ETH-USDC: size 0\.0049 is below the venue's minimum 0\.0050"),
        (0.005, 1999.99, r"ETH-USDC: 9\.99995 USDC is below the venue's minimum 10"),
    ],
)
def test_what_is_too_small_is_refused(desk: Desk, amount: float, price: float, text: str) -> None:
    with pytest.raises(InvalidOrderParameters, match=text):
        desk.plan("LIMIT", amount, price)


def test_the_minimum_itself_is_enough(desk: Desk) -> None:
    assert 50 == desk.one("LIMIT", 0.005, 2000.0).base_lots


def test_a_spot_order_is_on_its_own_grid_within_its_limit_and_never_reduce_only(desk: Desk) -> None:
    order = desk.one("LIMIT", -1.0, 4000.0, ticker="ETH/USDC", reduceOnly=True)
    assert (2048, 10_000, 400_000, False) == (order.market_id, order.base_lots, order.price_ticks, order.reduce_only)
    with pytest.raises(InvalidOrderParameters, match="60000 USDC is above the venue's limit 50000 of one order"):
        desk.plan("LIMIT", 15.0, 4000.0, ticker="ETH/USDC")
    with pytest.raises(InvalidOrderParameters, match="below the venue's minimum"):
        desk.plan("LIMIT", -0.0049, 4000.0, ticker="ETH/USDC", reduceOnly=True)
    with pytest.raises(InvalidOrderParameters, match="which spot orders cannot be"):
        desk.plan("LIMIT", 1.0, 4000.0, ticker="ETH/USDC", stop_loss=3900.0)
    with pytest.raises(InvalidOrderParameters, match="are of perpetual markets alone"):
        desk.plan("STOP_LIMIT", -1.0, 3900.0, ticker="ETH/USDC")
    assert OrderType.TWAP is desk.one("LIMIT", 1.0, 4000.0, ticker="ETH/USDC", twap_s=600).order_type
    assert 150_000 == desk.one("LIMIT", 15.0, 4000.0).base_lots, "the perpetual has no limit"


# --- groups ----------------------------------------------------------------------------------------------------------


def legs(plan: OrderPlan) -> list[tuple[OrderType, TimeInForce, int, int, int, bool]]:
    """Sum up the orders of a plan."""
    return [
        (order.order_type, order.time_in_force, order.base_lots, order.trigger_ticks, order.price_ticks, order.is_ask)
        for order in plan.orders
    ]


def test_an_entry_with_a_stop_loss_is_one_that_triggers_the_other(desk: Desk) -> None:
    plan = desk.plan("LIMIT", 0.5, 3990.0, stop_loss=3900.0)
    assert Grouping.ONE_TRIGGERS_THE_OTHER == plan.grouping
    assert [
        (OrderType.LIMIT, GTT, 5000, 0, 399_000, False),
        (OrderType.STOP_LOSS, IOC, 0, 390_000, 386_100, True),
    ] == legs(plan)
    entry, stop = plan.orders
    assert (True, entry.order_expiry_ms) == (stop.reduce_only, stop.order_expiry_ms)
    names = ClientIds(4)
    assert ["qubx_ETH-USDC_17912345678", "qubx_ETH-USDC_17912345678.sl"] == [
        names.client_id_of(order.client_order_index, "ETH-USDC") for order in plan.orders
    ]


def test_a_market_entry_with_both_is_one_that_triggers_two_that_cancel_each_other(desk: Desk) -> None:
    plan = desk.plan(
        "MARKET",
        -0.5,
        take_profit={"trigger": 3500.0, "limit_price": 3510.0},
        stop_loss={"trigger": 4200.0},
        slippage=0.01,
        expires_in_s=3600,
    )
    assert Grouping.ONE_TRIGGERS_A_ONE_CANCELS_THE_OTHER == plan.grouping
    assert [
        (OrderType.MARKET, IOC, 5000, 0, 395_901, True),
        (OrderType.TAKE_PROFIT_LIMIT, GTT, 0, 350_000, 351_000, False),
        (OrderType.STOP_LOSS, IOC, 0, 420_000, 424_200, False),
    ] == legs(plan)
    assert [0, NOW_MS + 3_600_000, NOW_MS + 3_600_000] == [order.order_expiry_ms for order in plan.orders]


def test_a_stop_with_a_take_profit_is_two_of_which_one_cancels_the_other(desk: Desk) -> None:
    plan = desk.plan("STOP_MARKET", -0.5, 3900.0, take_profit=4200.0, reduce_only=True)
    assert Grouping.ONE_CANCELS_THE_OTHER == plan.grouping
    assert [
        (OrderType.STOP_LOSS, IOC, 5000, 390_000, 386_100, True),
        (OrderType.TAKE_PROFIT, IOC, 5000, 420_000, 415_800, True),
    ] == legs(plan)
    other = desk.plan("STOP_LIMIT", -0.5, 4200.0, trigger_type="take_profit", stop_loss=3900.0, reduce_only=True)
    assert Grouping.ONE_CANCELS_THE_OTHER == other.grouping


@pytest.mark.parametrize(
    ("kind", "price", "options", "text"),
    [
        ("STOP_MARKET", 3900.0, {"take_profit": 3800.0}, "the orders that close are reduce-only"),
        ("STOP_MARKET", 3900.0, {"stop_loss": 3800.0, "reduce_only": True}, "one of each at most"),
        ("STOP_MARKET", 3900.0, {"stop_loss": 1.0, "take_profit": 2.0, "reduce_only": True}, "has 2 orders, not 3"),
        ("MARKET", None, {"stop_loss": 3900.0, "twap_s": 600}, "a limit or a market order"),
        ("LIMIT", 3990.0, {"stop_loss": 3995.0}, "a stop-loss that is to close by selling is below the entry"),
        ("MARKET", None, {"stop_loss": 4100.0, "take_profit": 4050.0}, "below the entry and the take-profit"),
        ("LIMIT", 3990.0, {"stop_loss": {"limit_price": 5.0}}, "stop_loss needs a trigger price"),
        ("LIMIT", 3990.0, {"stop_loss": {"price": 5.0}}, "stop_loss takes trigger and limit_price, not price"),
        ("LIMIT", 3990.0, {"take_profit": "high"}, "trigger is a number above 0, not 'high'"),
        ("LIMIT", 3990.0, {"take_profit": True}, "trigger is a number above 0"),
    ],
)
def test_what_makes_no_group_is_refused(
    desk: Desk, kind: str, price: float | None, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidOrderParameters, match=text):
        desk.plan(kind, 0.5, price, **options)


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["sell", "ASK", ""])
def test_a_side_that_is_neither_buy_nor_sell_is_no_buy(desk: Desk, side: str) -> None:
    instrument, market = desk.markets["ETH-USDC"]
    request = OrderRequest(
        client_id="qubx_ETH-USDC_17912345678",
        instrument=instrument,
        quantity=0.5,
        price=3990.0,
        order_type="LIMIT",  # type: ignore[arg-type]
        side=side,  # type: ignore[arg-type]
        time_in_force="gtc",
    )
    with pytest.raises(InvalidOrderParameters, match="neither BUY nor SELL"):
        desk.planner.plan(request, market, NOW_MS)


@pytest.mark.parametrize(
    ("kind", "price", "tif", "options", "text"),
    [
        ("LIMIT", None, "gtc", {}, "a LIMIT order needs a price"),
        ("STOP_MARKET", None, "gtc", {}, "a STOP_MARKET order needs a price: its trigger"),
        ("LIMIT", 3990.0, "fok", {}, "time in force 'fok' is not supported"),
        ("MARKET", None, "fok", {}, "time in force 'fok' is not supported"),
        ("LIMIT", 3990.0, ["gtc"], {}, r"words, not order_type 'LIMIT', time_in_force \['gtc'\]"),
        ("LIMIT", 3990.0, 1, {}, "words, not order_type 'LIMIT', time_in_force 1"),
        ("MARKET", None, "gtx", {}, "a MARKET order cannot be POST_ONLY"),
        ("MARKET", None, "gtc", {"post_only": True}, "a MARKET order cannot be POST_ONLY"),
        ("STOP_MARKET", 3900.0, "gtc", {"trigger_type": "trailing"}, "use one of stop_loss, take_profit"),
        ("LIMIT", 3990.0, "gtc", {"expires_in_s": 304}, "give 305 s to 30 days, not 304 s"),
        ("LIMIT", 3990.0, "gtc", {"expires_in_s": 31 * 86400}, "live 5 minutes to 30 days"),
        ("LIMIT", 3990.0, "ioc", {"expires_in_s": 600}, "never rests takes no expires_in_s"),
        ("MARKET", None, "gtc", {"twap_s": 600, "expires_in_s": 600}, "ends with twap_s"),
        ("MARKET", None, "gtc", {"twap_s": 60}, "live 5 minutes to 30 days"),
        ("MARKET", None, "gtc", {"slippage": 1.5}, "slippage is a fraction"),
        ("MARKET", None, "gtc", {"slippage": 0}, "slippage is a number above 0"),
        ("LIMIT", 3990.0, "gtc", {"self_trade": "allow"}, "self_trade 'allow' is not known"),
        (
            "LIMIT",
            3990.0,
            "gtc",
            {"self_trade": "reduce", "self_trade_scope": "master_account"},
            "another account of one's own cannot be reduced",
        ),
        ("LIMIT", 1e9, "gtc", {}, "price 1000000000.0 is outside"),
        ("LIMIT", float("nan"), "gtc", {}, "not a number"),
    ],
)
def test_what_cannot_be_right_is_refused_with_the_reason(
    desk: Desk, kind: str, price: float | None, tif: Any, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidOrderParameters, match=text):
        desk.plan(kind, 0.5, price, tif, **options)


def test_an_unknown_type_is_not_supported(desk: Desk) -> None:
    with pytest.raises(NotSupported, match="MARKET, LIMIT, STOP_MARKET, STOP_LIMIT are"):
        desk.plan("ICEBERG", 0.5, 3990.0)


def test_options_of_others_are_left_alone(desk: Desk) -> None:
    options = {"fill_at_signal_price": True, "signal_price": 1.0, "stop_type": None, "whatever": object()}
    assert desk.plan("LIMIT", 0.5, 3990.0) == desk.plan("LIMIT", 0.5, 3990.0, **options)


def test_a_maker_only_key_places_post_only_orders_and_nothing_else(desk: Desk) -> None:
    refuse_for_maker_only(desk.plan("LIMIT", 0.5, 3990.0, "gtx"))
    for plan in (
        desk.plan("LIMIT", 0.5, 3990.0),
        desk.plan("MARKET", 0.5),
        desk.plan("STOP_LIMIT", 0.5, 4200.0, "gtx"),
        desk.plan("LIMIT", 0.5, 3990.0, "gtx", stop_loss=3900.0),
    ):
        with pytest.raises(InvalidOrderParameters, match="this API key is maker-only"):
            refuse_for_maker_only(plan)


# --- amends ----------------------------------------------------------------------------------------------------------


def test_an_amend_takes_the_new_total_and_what_is_not_named_stays(desk: Desk) -> None:
    order = desk.order("LIMIT", 0.5, 3990.0, filled_quantity=0.2)
    assert (3000, 399_000, 0) == desk.amend(order, quantity=0.3)
    assert (5000, 399_100, 0) == desk.amend(order, price=3991.0)
    for total in (0.2, 0.1):
        with pytest.raises(InvalidOrderParameters, match=r"is not above the filled 0\.2: Lighter would close"):
            desk.amend(order, quantity=total)


@pytest.mark.parametrize("steps", [[0.1] * 8, [0.1] * 3, [0.7, 0.1], [0.3]])
def test_an_amend_to_what_is_filled_is_refused_however_the_fills_add_up(desk: Desk, steps: list[float]) -> None:
    order = desk.order("LIMIT", 1.0, 3990.0)
    order.filled_quantity = sum(steps)
    filled = round(order.filled_quantity, 4)
    with pytest.raises(InvalidOrderParameters, match="not above the filled"):
        desk.amend(order, quantity=filled)
    assert round(filled * 10_000) + 1 == desk.amend(order, quantity=round(filled + 0.0001, 4))[0]


def test_an_amend_to_what_the_venue_has_filled_and_qubx_has_not_heard_of_is_refused(desk: Desk) -> None:
    order, row = desk.order("LIMIT", 1.0, 3990.0), replace(stop_row("limit", 3990.0, "open"), filled_base_amount=0.4)
    order.filled_quantity = 0.3
    with pytest.raises(InvalidOrderParameters, match=r"not above the filled 0\.4"):
        desk.amend(order, quantity=0.4, row=row)
    assert 4001 == desk.amend(order, quantity=0.4001, row=row)[0]


def test_an_amend_of_a_stop_moves_its_trigger_and_the_bound_behind_it(desk: Desk) -> None:
    assert (5000, 376_200, 380_000) == desk.amend(desk.order("STOP_MARKET", -0.5, 3900.0), price=3800.0)
    assert (5000, 380_000, 380_000) == desk.amend(desk.order("STOP_LIMIT", -0.5, 3900.0), price=3800.0)
    fixed = desk.order("STOP_LIMIT", -0.5, 3900.0, options={"limit_price": 3880.0})
    assert (4000, 388_000, 390_000) == desk.amend(fixed, quantity=0.4)


def test_a_stop_that_a_snapshot_brought_keeps_its_limit_and_its_slippage(desk: Desk) -> None:
    """Qubx keeps no options of such an order: the venue's row is all there is."""
    limit = stop_row("stop-loss-limit", price=3880.0)
    assert (5000, 388_000, 380_000) == desk.amend(desk.order("STOP_LIMIT", -0.5, 3900.0), price=3800.0, row=limit)
    wide = stop_row("stop-loss", price=3705.0)  # 5 % from its trigger
    assert (5000, 361_000, 380_000) == desk.amend(desk.order("STOP_MARKET", -0.5, 3900.0), price=3800.0, row=wide)
    own = desk.order("STOP_LIMIT", -0.5, 3900.0, options={"stop_type": "limit"})
    assert (5000, 380_000, 380_000) == desk.amend(own, price=3800.0, row=limit)


def test_once_its_trigger_is_met_a_stop_limit_is_amended_as_a_limit_order(desk: Desk) -> None:
    order = desk.order("STOP_LIMIT", -0.5, 3880.0, options={"stop_type": "limit", "limit_price": 3880.0})
    row = stop_row("stop-loss-limit", price=3880.0, status="open")
    assert (5000, 387_000, 0) == desk.amend(order, price=3870.0, row=row)


def test_what_waits_for_its_parent_has_a_trigger_to_amend_and_no_size(desk: Desk) -> None:
    order = desk.order("STOP_MARKET", 0.0, 3900.0)
    assert (0, 376_200, 380_000) == desk.amend(order, price=3800.0)
    with pytest.raises(InvalidOrderParameters, match="waits for its parent's fill: it has no size to amend yet"):
        desk.amend(order, quantity=0.5)


def test_what_a_parents_fill_gave_a_size_has_it_before_qubx_knows(desk: Desk) -> None:
    order = desk.order("STOP_LIMIT", 0.0, 3880.0, options={"stop_type": "limit", "limit_price": 3880.0})
    row = stop_row("take-profit-limit", price=3880.0, status="open")
    assert (5000, 387_000, 0) == desk.amend(order, price=3870.0, row=row)


def test_a_market_order_cannot_be_amended(desk: Desk) -> None:
    with pytest.raises(InvalidOrderParameters, match="is a market order"):
        desk.amend(desk.order("MARKET", 0.5, None), price=3800.0)
