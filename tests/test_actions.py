"""Money and accounts: each action asks for what it needs, refuses before anything is sent, sends once and tells the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from pydantic import SecretStr

from qubx_lighter.actions import LighterActions
from qubx_lighter.client import LighterClient
from qubx_lighter.errors import (
    ConfigurationError,
    NotSentError,
    OutcomeUnknownError,
    SigningError,
    TransportError,
    UnitsError,
    VenueError,
)
from qubx_lighter.native import account_transactions
from qubx_lighter.protocol.wire import ErrorBody, TxReply
from qubx_lighter.signer import Signer, generate_api_key
from qubx_lighter.transactions.sender import TransactionSender
from qubx_lighter.transactions.submitting import OneByOne, Receipt, ThroughSender
from tests.answers import FIRST_NONCE, Answering
from tests.money_venue import FAST_POOL, OTHER_OWNER, OWNER, POOL, STRANGER, SUB, US, WALLET_KEY, MoneyVenue
from tests.signing import KEY_INDEX, make

Act = Callable[[LighterActions], Awaitable[Any]]
KEY = SecretStr(WALLET_KEY)
ANOTHER_KEY = SecretStr("22" * 32)
TX = "/api/v1/sendTx"


@pytest.fixture
def venue() -> MoneyVenue:
    return MoneyVenue()


@pytest.fixture(scope="module")
def api_key() -> str:
    return generate_api_key()[0]


@pytest.fixture
def signer(api_key: str) -> Signer:
    return make(api_key, account_index=US)


@pytest.fixture
async def actions(venue: MoneyVenue, signer: Signer) -> AsyncIterator[LighterActions]:
    async def token() -> str:
        return "token"

    client = LighterClient("https://venue.test", attempts=1, transport=httpx.MockTransport(venue), token=token)
    yield LighterActions(client, OneByOne(client, signer), US, poll_s=0.0)
    signer.close()
    await client.close()


def fields(body: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(body[name] for name in names)


# --- transfers ---------------------------------------------------------------------------------------------------------


async def test_a_transfer_to_ones_own_sub_account_needs_no_wallet(actions: LighterActions, venue: MoneyVenue) -> None:
    receipt = await actions.transfer(to_account_index=SUB, amount="12.5", memo="rent")
    assert Receipt("hash of sendTx", 5, "ok") == receipt
    (body,) = venue.sent
    assert (US, SUB, 3, 0, 0, 12_500_000, 1_000_000, "") == fields(
        body,
        "FromAccountIndex",
        "ToAccountIndex",
        "AssetIndex",
        "FromRouteType",
        "ToRouteType",
        "Amount",
        "USDCFee",
        "L1Sig",
    )
    assert [*b"rent", *bytes(28)] == body["Memo"]
    ((_, params, token),) = [row for row in venue.asked if row[0].endswith("transferFeeInfo")]
    assert ({"account_index": str(US), "to_account_index": str(SUB)}, "token") == (params, token)


async def test_money_moves_between_ones_own_purses(actions: LighterActions, venue: MoneyVenue) -> None:
    await actions.transfer(to_account_index=US, amount=0.1, asset="eth", from_purse="spot")
    assert (US, 1, 1, 0, 10_000_000) == fields(
        venue.sent[0], "ToAccountIndex", "AssetIndex", "FromRouteType", "ToRouteType", "Amount"
    )


async def test_a_transfer_to_another_owner_carries_the_wallets_signature(
    actions: LighterActions, venue: MoneyVenue, signer: Signer
) -> None:
    await actions.transfer(to_account_index=STRANGER, amount=5, wallet_key=KEY)
    (body,) = venue.sent
    transaction = account_transactions.transfer(
        to_account_index=STRANGER, asset_id=3, from_route=0, to_route=0, amount=5_000_000, fee=1_000_000, memo=b""
    )
    message = (await signer.sign(transaction, 5)).message
    assert OWNER == Account.recover_message(encode_defunct(text=message), signature=body["L1Sig"])
    assert "venue.test" not in json.dumps(body)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (
            None,
            r"needs the signature of the wallet that owns the account: pass wallet_key=SecretStr.*not the API private",
        ),
        (SecretStr("ab" * 40), "wallet_key is not 64 hexadecimal digits"),
        (SecretStr("zz" * 32), "wallet_key is not 64 hexadecimal digits"),
        (WALLET_KEY, "must be a pydantic SecretStr"),
        (ANOTHER_KEY, f"and account {US} belongs to {OWNER.lower()}"),
    ],
)
async def test_without_the_owners_wallet_nothing_leaves_for_another_owner(
    actions: LighterActions, venue: MoneyVenue, key: Any, why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why):
        await actions.transfer(to_account_index=STRANGER, amount=5, wallet_key=key)
    assert [] == venue.sent


async def test_a_key_that_is_none_of_any_wallet_is_a_signing_error(actions: LighterActions, venue: MoneyVenue) -> None:
    with pytest.raises(SigningError, match="no private key of a wallet"):
        await actions.transfer(to_account_index=STRANGER, amount=5, wallet_key=SecretStr("00" * 32))
    assert [] == venue.sent


# --- refused before anything is sent -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "error", "why"),
    [
        (
            lambda actions: actions.transfer(to_account_index=US, amount=5),
            ConfigurationError,
            "name two different purses",
        ),
        (
            lambda actions: actions.transfer(to_account_index=SUB, amount=5, asset="DOGE"),
            ConfigurationError,
            r"no asset 'DOGE': there is ETH \(1\), USDC \(3\)",
        ),
        (lambda actions: actions.transfer(to_account_index=SUB, amount=5, asset=9), ConfigurationError, "no asset 9"),
        (
            lambda actions: actions.transfer(to_account_index=SUB, amount="0.99"),
            UnitsError,
            "amount 0.99 is below the venue's least transfer of 1 USDC",
        ),
        (
            lambda actions: actions.transfer(to_account_index=SUB, amount="5.0000001"),
            UnitsError,
            "finer than the venue",
        ),
        (lambda actions: actions.transfer(to_account_index=SUB, amount=-5), UnitsError, "not positive"),
        (lambda actions: actions.transfer(to_account_index=SUB, amount="five"), UnitsError, "not a number"),
        (
            lambda actions: actions.transfer(to_account_index=SUB, amount=5, max_fee="0.99"),
            ConfigurationError,
            "the venue wants 1 for it, and max_fee is 0.99",
        ),
        (lambda actions: actions.transfer(to_account_index=SUB, amount=5, memo="x" * 33), SigningError, "memo"),
        (
            lambda actions: actions.transfer(to_account_index=SUB, amount=5, from_purse="bank"),
            ConfigurationError,
            "'bank' is no purse: perps or spot",
        ),
        (
            lambda actions: actions.withdraw(amount="0.0009", asset="ETH"),
            UnitsError,
            "below the venue's least withdrawal of 0.001 ETH",
        ),
        (
            lambda actions: actions.fast_withdraw(amount=5, wallet_key=None),
            ConfigurationError,
            "a fast withdrawal needs",
        ),
        (
            lambda actions: actions.fast_withdraw(amount="800.51", wallet_key=KEY),
            UnitsError,
            "above the 800.5 USDC that the venue pays out at once",
        ),
        (
            lambda actions: actions.fast_withdraw(amount=5, wallet_key=KEY, to_address="0x12"),
            ConfigurationError,
            "'0x12' is no address",
        ),
        (
            lambda actions: actions.create_public_pool(
                deposit=999, operator_fee_percent=10, min_operator_share_percent=5
            ),
            SigningError,
            "initial_shares 999000 is outside",
        ),
        (
            lambda actions: actions.create_public_pool(
                deposit=1000, operator_fee_percent="10.00001", min_operator_share_percent=5
            ),
            UnitsError,
            "operator_fee_percent 10.00001 is finer",
        ),
        (lambda actions: actions.mint_shares(pool_index=POOL, shares=0), SigningError, "shares 0 is outside"),
        (lambda actions: actions.add_margin(market_id=0, amount="0.0000001"), UnitsError, "finer"),
    ],
)
async def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    actions: LighterActions, venue: MoneyVenue, act: Act, error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        await act(actions)
    assert [] == venue.forms


# --- the other transactions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (
            lambda actions: actions.withdraw(amount="0.25", asset="ETH", purse="spot"),
            {"AssetIndex": 1, "RouteType": 1, "Amount": 25_000_000},
        ),
        (lambda actions: actions.withdraw(amount=7), {"AssetIndex": 3, "RouteType": 0, "Amount": 7_000_000}),
        (
            lambda actions: actions.add_margin(market_id=24, amount="1.5"),
            {"MarketIndex": 24, "USDCAmount": 1_500_000, "Direction": 1},
        ),
        (
            lambda actions: actions.remove_margin(market_id=24, amount=2),
            {"MarketIndex": 24, "USDCAmount": 2_000_000, "Direction": 0},
        ),
        (lambda actions: actions.create_sub_account(), {"AccountIndex": US}),
        (
            lambda actions: actions.create_public_pool(
                deposit="1500.001", operator_fee_percent="12.5", min_operator_share_percent="5.25"
            ),
            {"OperatorFee": 125_000, "InitialTotalShares": 1_500_001, "MinOperatorShareRate": 525},
        ),
        (
            lambda actions: actions.update_public_pool(
                pool_index=POOL, frozen=True, operator_fee_percent=0, min_operator_share_percent=100
            ),
            {"PublicPoolIndex": POOL, "Status": 1, "OperatorFee": 0, "MinOperatorShareRate": 10_000},
        ),
        (lambda actions: actions.mint_shares(pool_index=POOL, shares=3), {"PublicPoolIndex": POOL, "ShareAmount": 3}),
        (lambda actions: actions.burn_shares(pool_index=POOL, shares=4), {"PublicPoolIndex": POOL, "ShareAmount": 4}),
    ],
)
async def test_each_action_sends_what_it_says(
    actions: LighterActions, venue: MoneyVenue, act: Act, expected: dict[str, Any]
) -> None:
    assert "hash of sendTx" == (await act(actions)).tx_hash
    (body,) = venue.sent
    assert expected == {name: body[name] for name in expected}


async def test_a_fast_withdrawal_goes_through_the_venues_account_to_the_owner(
    actions: LighterActions, venue: MoneyVenue
) -> None:
    receipt = await actions.fast_withdraw(amount=20, wallet_key=KEY)
    ((path, form, token),) = venue.forms
    assert ("/api/v1/fastwithdraw", OWNER.lower(), "token") == (path, form["to_address"], token)
    (body,) = venue.sent
    assert (FAST_POOL, 20_000_000) == (body["ToAccountIndex"], body["Amount"])
    assert [*bytes.fromhex(OWNER[2:]), *bytes(12)] == body["Memo"]
    assert body["L1Sig"].startswith("0x")
    assert "hash of fastwithdraw" == receipt.tx_hash


async def test_a_fast_withdrawal_may_go_elsewhere(actions: LighterActions, venue: MoneyVenue) -> None:
    await actions.fast_withdraw(amount=20, wallet_key=KEY, to_address=OTHER_OWNER)
    assert OTHER_OWNER == venue.forms[0][1]["to_address"]
    assert [*bytes.fromhex("ab" * 20), *bytes(12)] == venue.sent[0]["Memo"]


# --- the tier ----------------------------------------------------------------------------------------------------------


async def test_a_tier_is_asked_for_by_name(actions: LighterActions, venue: MoneyVenue) -> None:
    await actions.change_tier("premium")
    assert [("/api/v1/changeAccountTier", {"account_index": str(US), "new_tier": "premium"}, "token")] == venue.forms


async def test_a_tier_does_not_change_while_there_are_positions_or_orders(
    actions: LighterActions, venue: MoneyVenue
) -> None:
    venue.positions = [{"market_id": 0, "symbol": "ETH", "sign": 1, "position": "1.0", "avg_entry_price": "1"}]
    with pytest.raises(ConfigurationError, match="without positions only, and there are some: ETH"):
        await actions.change_tier("premium")
    venue.positions = []
    venue.orders = [
        {"order_index": 1, "client_order_index": 0, "market_index": 0, "is_ask": True, "status": "open", "price": "1"}
        | dict.fromkeys(
            ("initial_base_amount", "remaining_base_amount", "filled_base_amount", "filled_quote_amount"), "1"
        )
    ]
    with pytest.raises(ConfigurationError, match="without orders only, and 1 are working"):
        await actions.change_tier("premium")
    assert [] == venue.forms


async def test_a_refused_tier_is_the_venues_error(actions: LighterActions, venue: MoneyVenue) -> None:
    venue.replies["/api/v1/changeAccountTier"] = [httpx.Response(400, json={"code": 62006, "message": "too early"})]
    with pytest.raises(VenueError, match="too early") as caught:
        await actions.change_tier("premium")
    assert 62006 == caught.value.code


# --- outcomes, alone ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "error", "why"),
    [
        (httpx.Response(400, json={"code": 21301, "message": "not enough collateral"}), VenueError, "not enough"),
        (
            httpx.Response(500, json={"code": 29500, "message": "oops"}),
            OutcomeUnknownError,
            "Look transaction [0-9a-f]{80}",
        ),
        (
            httpx.Response(400, json={"code": 29500, "message": "oops"}),
            OutcomeUnknownError,
            "Look transaction [0-9a-f]{80}",
        ),
        (httpx.ReadTimeout("slow"), OutcomeUnknownError, "whether the venue did it is unknown: a new sub-account"),
        (httpx.ConnectError("no route"), NotSentError, "no route"),
        (
            httpx.Response(400, json={"code": 21104, "message": "invalid nonce"}),
            VenueError,
            f"API key {KEY_INDEX} of account {US} is used by another program",
        ),
    ],
)
async def test_every_outcome_but_success_is_an_error_and_nothing_is_sent_twice(
    actions: LighterActions, venue: MoneyVenue, reply: httpx.Response | Exception, error: type[Exception], why: str
) -> None:
    venue.replies[TX] = [reply]
    with pytest.raises(error, match=why):
        await actions.create_sub_account()
    assert 1 == len(venue.forms)


async def test_actions_at_once_take_turns_with_their_nonces(actions: LighterActions, venue: MoneyVenue) -> None:
    receipts = await asyncio.gather(*(actions.create_sub_account() for _ in range(3)))
    assert [5, 6, 7] == sorted(receipt.nonce for receipt in receipts) == [body["Nonce"] for body in venue.sent]


def tx_row(status: int, error: str = "") -> httpx.Response:
    body = {
        "code": 200,
        "hash": "h",
        "type": 9,
        "info": "{}",
        "event_info": json.dumps({"ae": error}),
        "status": status,
    }
    return httpx.Response(200, json=body)


async def test_an_executed_transaction_is_waited_for(actions: LighterActions, venue: MoneyVenue) -> None:
    unknown = httpx.Response(400, json={"code": 21500, "message": "transaction not found"})
    venue.replies["/api/v1/tx"] = [unknown, tx_row(1), tx_row(2)]
    assert 2 == (await actions.executed(Receipt("h", 5))).status


async def test_a_failed_transaction_is_an_error_with_its_reason(actions: LighterActions, venue: MoneyVenue) -> None:
    venue.replies["/api/v1/tx"] = [tx_row(2, "too many sub-accounts")]
    with pytest.raises(VenueError, match="transaction h failed: too many sub-accounts"):
        await actions.executed(Receipt("h", 5))


async def test_waiting_for_a_transaction_ends(actions: LighterActions, venue: MoneyVenue) -> None:
    venue.replies["/api/v1/tx"] = [tx_row(1) for _ in range(10_000)]
    with pytest.raises(TransportError, match=r"has not ended within 0\.05 s"):
        await actions.executed(Receipt("h", 5), timeout_s=0.05)


# --- outcomes, through a connector's sender ----------------------------------------------------------------------------


async def through_sender(actions: LighterActions, signer: Signer, socket: Answering, act: Act) -> Any:
    loop = asyncio.get_running_loop()
    sender = TransactionSender(loop=loop, socket=socket, rest=socket, signers=[signer], timeout_s=1.0)
    try:
        return await act(LighterActions(actions.client, ThroughSender(sender, loop), US))
    finally:
        await sender.close()


async def sub_account(actions: LighterActions) -> Receipt:
    return await actions.create_sub_account()


async def test_a_connector_lends_its_nonces(actions: LighterActions, venue: MoneyVenue, signer: Signer) -> None:
    socket = Answering([TxReply(code=200, tx_hash="theirs", message="fine")])
    assert Receipt("theirs", FIRST_NONCE, "fine") == await through_sender(actions, signer, socket, sub_account)
    assert [FIRST_NONCE] == [json.loads(text)["Nonce"] for text in socket.sent]
    assert [] == venue.forms


@pytest.mark.parametrize(
    ("answer", "error", "why"),
    [
        (TxReply(error=ErrorBody(21301, "not enough collateral")), VenueError, "not enough collateral"),
        (OutcomeUnknownError("gone"), OutcomeUnknownError, "Look transaction [0-9a-f]{80} up"),
    ],
)
async def test_what_a_connector_hears_is_told(
    actions: LighterActions, signer: Signer, answer: TxReply | Exception, error: type[Exception], why: str
) -> None:
    socket = Answering([answer])
    with pytest.raises(error, match=why):
        await through_sender(actions, signer, socket, sub_account)
    assert 1 == len(socket.sent)


async def test_a_connector_sends_no_fast_withdrawal(actions: LighterActions, venue: MoneyVenue, signer: Signer) -> None:
    with pytest.raises(ConfigurationError, match="do it outside the strategy"):
        await through_sender(actions, signer, Answering([]), lambda act: act.fast_withdraw(amount=5, wallet_key=KEY))
    assert [] == venue.forms


# --- the wallet's key --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply", [httpx.ReadTimeout("slow"), httpx.Response(400, json={"code": 21120, "message": "no"})]
)
async def test_no_frame_of_a_failed_transfer_shows_the_wallets_key(
    actions: LighterActions, venue: MoneyVenue, reply: httpx.Response | Exception
) -> None:
    venue.replies[TX] = [reply]
    with pytest.raises((OutcomeUnknownError, VenueError)) as caught:
        await actions.transfer(to_account_index=STRANGER, amount=5, wallet_key=KEY)
    assert_silent(caught.value, WALLET_KEY.removeprefix("0x"))


@pytest.mark.parametrize("key", ["00" * 32, "ff" * 32, "ab" * 31, "zz" * 32])
async def test_no_frame_of_a_refused_wallet_key_shows_it(actions: LighterActions, key: str) -> None:
    secret = SecretStr(key)
    digits, key = key, ""
    with pytest.raises((ConfigurationError, SigningError)) as caught:
        await actions.transfer(to_account_index=STRANGER, amount=5, wallet_key=secret)
    assert_silent(caught.value, digits)


def assert_silent(error: BaseException, secret: str) -> None:
    """Look for a secret in the texts of an error and of its causes, and in the local variables of every frame of ours."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None:
        chain.append(following)
        following = following.__cause__ or following.__context__
    for one in chain:
        assert secret not in f"{one} {one!r}"
        trace = one.__traceback__
        while trace is not None:
            if "/tests/" not in trace.tb_frame.f_code.co_filename:
                assert not any(secret in repr(value) for value in trace.tb_frame.f_locals.values())
            trace = trace.tb_next
