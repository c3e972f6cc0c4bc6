"""The broker with the real signer and sender, at a venue that remembers what it is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from qubx.core.basics import LiveTimeProvider, Order, OrderRequest, OrderStatus, RejectCause
from qubx.core.errors import ErrorLevel
from qubx.core.events import OrderCanceledEvent, OrderRejectedEvent, OrderUpdateRejectedEvent
from qubx.core.exceptions import InvalidOrderParameters
from qubx.core.series import Quote
from qubx.health.dummy import DummyHealthMonitor

from qubx_lighter.broker import LighterBroker, QuoteSource
from qubx_lighter.constants import Code, TxType
from qubx_lighter.errors import OutcomeUnknownError
from qubx_lighter.handlers.account import AccountConverter, to_ns
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.codes import Outcome
from qubx_lighter.protocol.orders import ClientIds
from qubx_lighter.protocol.requests import Progress, Request, RequestBook
from qubx_lighter.protocol.wire import ErrorBody, TxReply, TxRow
from qubx_lighter.recoveries import Recoveries
from qubx_lighter.settings import LighterSettings
from qubx_lighter.signer import generate_api_key
from qubx_lighter.transactions.sender import Reply, TransactionSender
from qubx_lighter.transactions.watch import TransactionWatch
from tests.answers import BothTransports
from tests.markets import loaded_instruments
from tests.signing import make

_SECOND_NS = 1_000_000_000


class Venue(BothTransports):
    """Takes everything, or refuses everything, and remembers it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[int, dict[str, Any]]] = []
        self.refusal: ErrorBody | None = None
        self.is_silent = False
        self.is_forgetful = False

    def answer(self, tx_type: int, tx_info: str) -> TxReply:
        """Remember it."""
        self.sent.append((tx_type, json.loads(tx_info)))
        if self.is_silent:
            raise OutcomeUnknownError("no answer")
        if self.refusal is not None:
            return TxReply(error=self.refusal)
        self.nonce += 1
        return TxReply(code=200)


class Desk:
    """A broker and what it needs."""

    def __init__(self, instruments: Any) -> None:
        self.venue = Venue()
        self.instruments = instruments
        self.time = LiveTimeProvider()
        self.events: list[Any] = []
        self.groups = 0
        self.reloads = 0
        self.looked_up: list[tuple[Request, OrderRejectedEvent | None]] = []
        self.quote: Quote | None = None
        self.connected = True
        self.requests = RequestBook()
        self.signer = make(generate_api_key()[0], account_index=5)
        self.now = 1000.0
        self.recoveries = Recoveries(
            emit=self.events.append,
            time_provider=self.time,
            reload_markets=self._reload,
            clock=lambda: self.now,
        )
        self.sender = TransactionSender(
            loop=asyncio.get_running_loop(),
            socket=self.venue,
            rest=self.venue,
            signers=[self.signer],
            timeout_s=5.0,
            on_outcome=self.recoveries.heard,
            clock=lambda: self.now,
        )
        self.watch = TransactionWatch(
            sender=self.sender, find=self._find, loop=asyncio.get_running_loop(), api_key_index=4, look_up_s=0.001
        )
        self.broker = LighterBroker(
            settings=LighterSettings.build({}),
            instruments=instruments,
            sender=self.sender,
            watch=self.watch,
            requests=self.requests,
            converter=AccountConverter(
                exchange="LIGHTER",
                account_index=5,
                collateral="USDC",
                instruments=instruments,
                ids=ClientIds(4),
            ),
            emit=self.events.append,
            time_provider=self.time,
            health=DummyHealthMonitor(),
            quotes=QuoteSource(lambda instrument: self.quote, lambda: self.connected),
            recoveries=self.recoveries,
            look_up=lambda *looked_up: self.looked_up.append(looked_up),
            on_group=self._grouped,
        )

    async def _find(self, tx_hash: str) -> TxRow | None:
        return None if self.venue.is_forgetful else TxRow(tx_hash, 16, status=2)

    def _reload(self) -> None:
        self.reloads += 1

    def _grouped(self) -> None:
        self.groups += 1

    def now_ns(self) -> int:
        """Tell the time."""
        return to_ns(self.time.time())

    def request(self, kind: str, amount: float, price: float | None = None, **options: Any) -> OrderRequest:
        """Write a request; ``amount`` is signed."""
        return OrderRequest(
            client_id="qubx_ETH-USDC_9",
            instrument=self.instruments.instrument(0),
            quantity=abs(amount),
            price=price,
            order_type=kind,  # type: ignore[arg-type]
            side="BUY" if amount > 0 else "SELL",  # type: ignore[arg-type]
            options=options,
        )

    def order(self) -> Order:
        """Give Qubx's order of such a request."""
        return Order(
            client_order_id="qubx_ETH-USDC_9",
            type="LIMIT",
            instrument=self.instruments.instrument(0),
            quantity=0.5,
            side="BUY",
            time_in_force="gtc",
            status=OrderStatus.SUBMITTED,
            price=3990.0,
        )

    async def submit(self, *arguments: Any, **options: Any) -> tuple[int, dict[str, Any]]:
        """Submit a request, and return the transaction."""
        self.broker.submit(self.request(*arguments, **options))
        assert await self.sender.drain(5.0)
        return self.venue.sent[-1]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk(await loaded_instruments())
    yield desk
    await desk.sender.close()
    desk.signer.close()


async def test_what_was_asked_for_is_what_is_signed(desk: Desk) -> None:
    tx_type, body = await desk.submit("STOP_MARKET", -0.5, 3900.0, self_trade="expire_taker")
    assert TxType.CREATE_ORDER == tx_type
    assert (4 << 40 | 9, 5000, 1, 2, 0, 390_000, 386_100, {"6": 1}) == (
        body["ClientOrderIndex"],
        body["BaseAmount"],
        body["IsAsk"],
        body["Type"],
        body["TimeInForce"],
        body["TriggerPrice"],
        body["Price"],
        body["L2TxAttributes"],
    )


async def test_no_fee_of_an_integrator_is_ever_attached(desk: Desk) -> None:
    _, order = await desk.submit("LIMIT", 0.5, 3990.0)
    _, group = await desk.submit("LIMIT", 0.5, 3990.0, stop_loss=3900.0)
    assert [None, None] == [order["L2TxAttributes"], group["L2TxAttributes"]]


async def test_a_group_is_one_transaction_of_which_qubx_is_told_to_look(desk: Desk) -> None:
    tx_type, body = await desk.submit("LIMIT", 0.5, 3990.0, stop_loss=3900.0, take_profit=4200.0)
    assert (TxType.CREATE_GROUPED_ORDERS, 3) == (tx_type, body["GroupingType"])
    assert [(0, 5000), (4, 0), (2, 0)] == [(order["Type"], order["BaseAmount"]) for order in body["Orders"]]
    assert 1 == desk.groups
    request = desk.requests.latest(TxType.CREATE_ORDER, "qubx_ETH-USDC_9")
    assert request is not None
    assert Progress.ACCEPTED is request.progress
    row = wire.TxRow(hash=request.tx_hash, type=int(TxType.CREATE_GROUPED_ORDERS), status=0)
    assert request is desk.requests.of_transaction(row), "its failure at the sequencer would go unnoticed"


async def test_a_refused_group_is_one_rejection(desk: Desk) -> None:
    desk.venue.refusal = ErrorBody(Code.NOT_ENOUGH_MARGIN, "not enough <margin> {}")
    await desk.submit("LIMIT", 0.5, 3990.0, stop_loss=3900.0)
    (event,) = desk.events
    assert isinstance(event, OrderRejectedEvent)
    assert ("qubx_ETH-USDC_9", RejectCause.INSUFFICIENT_MARGIN, 0) == (event.client_order_id, event.cause, desk.groups)


async def test_cancel_all_is_one_transaction_and_its_refusal_an_error(desk: Desk) -> None:
    desk.broker.cancel_all()
    desk.broker.cancel_all(desk.instruments.instrument(1))
    assert await desk.sender.drain(5.0)
    assert [(16, 0, None), (16, 0, {"5": 1})] == [
        (tx_type, body["TimeInForce"], body["L2TxAttributes"]) for tx_type, body in desk.venue.sent
    ]
    assert [] == desk.events
    desk.venue.refusal = ErrorBody(Code.TOO_MANY_REQUESTS, "slow down")
    desk.broker.cancel_all()
    assert await desk.sender.drain(5.0)
    ((_, kind, error, _),) = desk.events
    assert ("error", "cancel_all", "not all orders were cancelled") == (kind, error.operation, error.message)


async def test_that_nobody_knows_what_a_cancel_all_did_is_an_error_at_once_and_once(desk: Desk) -> None:
    desk.venue.is_silent = desk.venue.is_forgetful = True
    desk.broker.cancel_all()
    assert await desk.sender.drain(5.0)
    text = "whether all orders are cancelled is unknown"
    assert [text] == [error.message for _, _, error, _ in desk.events]
    await asyncio.gather(*desk.watch._tasks)  # that look it up in vain
    assert 1 == len(desk.events)


async def test_that_nothing_shows_what_a_cancel_all_did_is_an_error(desk: Desk) -> None:
    desk.venue.is_forgetful = True
    desk.broker.cancel_all()
    assert await desk.sender.drain(5.0)
    assert [] == desk.events
    await asyncio.gather(*desk.watch._tasks)
    assert ["whether all orders are cancelled is unknown"] == [error.message for _, _, error, _ in desk.events]


@pytest.mark.parametrize("everything", [False, True])
async def test_an_order_that_is_cancelled_before_it_was_sent_is_cancelled_and_never_sent(
    desk: Desk, everything: bool
) -> None:
    desk.broker.submit(desk.request("LIMIT", 0.5, 3990.0))
    if everything:
        desk.broker.cancel_all(desk.instruments.instrument(0))
    else:
        desk.broker.cancel(desk.order())
    assert await desk.sender.drain(5.0)
    (event,) = desk.events
    assert isinstance(event, OrderCanceledEvent)
    assert ("qubx_ETH-USDC_9", None) == (event.client_order_id, event.venue_order_id)
    assert [TxType.CANCEL_ALL_ORDERS] * everything == [tx_type for tx_type, _ in desk.venue.sent]
    for kind in (TxType.CREATE_ORDER, TxType.CANCEL_ORDER):
        assert desk.requests.latest(kind, "qubx_ETH-USDC_9") is None


async def test_an_amend_that_is_overtaken_by_a_cancel_is_rejected_and_the_cancel_is_sent(desk: Desk) -> None:
    await desk.submit("LIMIT", 0.5, 3990.0)
    desk.broker.amend(desk.order(), 3991.0, None)
    desk.broker.cancel(desk.order())
    assert await desk.sender.drain(5.0)
    (event,) = desk.events
    assert isinstance(event, OrderUpdateRejectedEvent)
    assert "its order was cancelled before it was sent" == event.reason
    assert [TxType.CREATE_ORDER, TxType.CANCEL_ORDER] == [tx_type for tx_type, _ in desk.venue.sent]


async def test_a_maker_only_key_sends_nothing_that_takes(desk: Desk) -> None:
    desk.broker.maker_only = True
    with pytest.raises(InvalidOrderParameters, match="this API key is maker-only"):
        desk.broker.submit(desk.request("LIMIT", 0.5, 3990.0))
    assert await desk.sender.drain(5.0)
    assert [] == desk.venue.sent
    _, body = await desk.submit("LIMIT", 0.5, 3990.0, post_only=True)
    assert 2 == body["TimeInForce"]


@pytest.mark.parametrize(
    ("bid", "ask"),
    [(0.0, 4001.0), (3999.0, 0.0), (float("nan"), 4001.0), (3999.0, float("inf")), (4002.0, 4001.0), (None, None)],
)
async def test_a_market_order_needs_both_sides_of_a_quote(desk: Desk, bid: float | None, ask: float | None) -> None:
    if bid is not None and ask is not None:
        desk.quote = Quote(desk.now_ns(), bid, ask, 1.0, 1.0)
    with pytest.raises(InvalidOrderParameters, match="no quote of both sides for ETH-USDC"):
        desk.broker.submit(desk.request("MARKET", 0.5))
    assert [] == desk.venue.sent


async def test_a_market_order_needs_a_fresh_quote_where_the_feed_is_down(desk: Desk) -> None:
    desk.quote = Quote(desk.now_ns() - 11 * _SECOND_NS, 3999.0, 4001.0, 1.0, 1.0)
    desk.connected = False
    with pytest.raises(InvalidOrderParameters, match="feed is down and the quote of ETH-USDC is 11 s old"):
        desk.broker.submit(desk.request("MARKET", 0.5))
    desk.connected = True  # a market at rest: nothing has changed in it
    _, body = await desk.submit("MARKET", 0.5)
    assert (1, 0, 404_101, 0) == (body["Type"], body["TimeInForce"], body["Price"], body["OrderExpiry"])


# --- what refusals make it do ----------------------------------------------------------------------------------------


async def test_a_key_that_the_venue_refuses_stops_orders_with_one_error_event_and_no_cancel(desk: Desk) -> None:
    desk.venue.refusal = ErrorBody(Code.INVALID_SIGNATURE, "invalid <signature> {}")
    await desk.submit("LIMIT", 0.5, 3990.0)
    (_, kind, error, _), first = desk.events
    assert ("error", ErrorLevel.CRITICAL, Code.INVALID_SIGNATURE) == (kind, error.level, error.error.code)
    assert (str(int(Code.INVALID_SIGNATURE)), RejectCause.UNKNOWN) == (first.code, first.cause)
    await desk.submit("LIMIT", 0.5, 3990.0)
    assert 1 == len(desk.venue.sent), "an order went out though it would be refused"
    second = desk.events[-1]
    assert (3, str(int(Code.INVALID_SIGNATURE))) == (len(desk.events), second.code)
    assert second.reason == "not sent: invalid <signature> {}"
    desk.broker.cancel_all()
    assert await desk.sender.drain(5.0)
    assert 2 == len(desk.venue.sent), "a cancel did not go out"


async def test_a_transaction_that_the_venue_takes_ends_the_halt(desk: Desk) -> None:
    desk.venue.refusal = ErrorBody(Code.API_KEY_NOT_FOUND, "api key not found")
    await desk.submit("LIMIT", 0.5, 3990.0)
    assert desk.recoveries.halt is not None
    desk.venue.refusal = None
    desk.now += 1.0
    desk.broker.cancel_all()
    assert await desk.sender.drain(5.0)
    assert desk.recoveries.halt is None
    await desk.submit("LIMIT", 0.5, 3990.0)
    assert 3 == len(desk.venue.sent)


async def halt(desk: Desk) -> None:
    """Have an order refused for its key, which then is well again."""
    desk.venue.refusal = ErrorBody(Code.API_KEY_NOT_FOUND, "api key not found")
    await desk.submit("LIMIT", 0.5, 3990.0)
    desk.venue.refusal = None
    desk.now += 1.0
    assert desk.recoveries.halt is not None


@pytest.mark.parametrize("still", [True, False])
async def test_in_a_halt_one_order_a_minute_finds_out_whether_the_venue_takes_any(desk: Desk, still: bool) -> None:
    await halt(desk)
    if still:
        desk.venue.refusal = ErrorBody(Code.API_KEY_NOT_FOUND, "api key not found")
    sent = []
    for _ in range(4):  # half a minute from one to the next
        for _ in range(2):
            await desk.submit("LIMIT", 0.5, 3990.0)
        sent.append(len(desk.venue.sent) - 1)
        desk.now += 30.0
    assert ([0, 0, 1, 1] if still else [0, 0, 2, 4]) == sent
    assert still is (desk.recoveries.halt is not None)
    assert 1 == len([event for event in desk.events if isinstance(event, tuple)]), "told again"


async def test_in_a_halt_what_reduces_goes_out_and_an_accepted_one_ends_it(desk: Desk) -> None:
    await halt(desk)
    await desk.submit("LIMIT", 0.5, 3990.0, reduce_only=True)
    assert (2, None) == (len(desk.venue.sent), desk.recoveries.halt)


async def test_in_a_halt_a_setting_that_the_venue_takes_ends_it(desk: Desk) -> None:
    await halt(desk)
    desk.watch.submit(
        "leverage",
        TxType.UPDATE_LEVERAGE,
        lambda signer, nonce: signer.update_leverage(
            market_id=0, initial_margin_fraction=500, margin_mode=0, nonce=nonce
        ),
        lambda _: None,
    )
    assert await desk.sender.drain(5.0)
    assert desk.recoveries.halt is None


async def test_what_was_asked_for_before_a_halt_does_not_end_it(desk: Desk) -> None:
    before = desk.now
    await halt(desk)
    desk.recoveries.heard(before, Reply(Outcome.ACCEPTED, 200))
    assert desk.recoveries.halt is not None


async def test_an_order_whose_index_is_taken_is_looked_up_and_not_rejected(desk: Desk) -> None:
    desk.venue.refusal = ErrorBody(Code.DUPLICATE_CLIENT_ORDER_INDEX, "client order index already exists")
    await desk.submit("LIMIT", 0.5, 3990.0)
    assert [] == desk.events
    ((request, rejected),) = desk.looked_up
    assert rejected is not None
    assert ("qubx_ETH-USDC_9", "qubx_ETH-USDC_9", str(int(Code.DUPLICATE_CLIENT_ORDER_INDEX))) == (
        request.client_id,
        rejected.client_order_id,
        rejected.code,
    )


async def test_a_market_that_the_venue_does_not_know_reloads_the_markets(desk: Desk) -> None:
    desk.venue.refusal = ErrorBody(Code.INVALID_MARKET, "invalid market index")
    await desk.submit("LIMIT", 0.5, 3990.0)
    assert (1, [str(int(Code.INVALID_MARKET))]) == (desk.reloads, [event.code for event in desk.events])
