"""What an account can do beside trading: move money, make sub-accounts, run and join pools, change its tier.

Each method says what it needs, checks it against the venue's own rules before anything is sent, sends once and never again,
and gives the venue's receipt: the transaction is queued then. ``executed`` waits until it is done.

Amounts are whole coins, as decimals, texts or floats, and are converted exactly or refused. The venue wants the owner's
wallet to sign what may end in other hands: transfers to another owner, and fast withdrawals. Its key is an argument of
those calls, and is kept nowhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from typing import Final, Literal

import httpx
from loguru import logger
from pydantic import SecretStr

from qubx_lighter.client import LighterClient
from qubx_lighter.constants import (
    AUTH_TOKEN_LIFETIME_S,
    COLLATERAL_ASSET_ID,
    COLLATERAL_DECIMALS,
    MarginMove,
    PoolStatus,
    Route,
    TxType,
)
from qubx_lighter.errors import ConfigurationError, TransportError, UnitsError, VenueError
from qubx_lighter.native import account_transactions as transactions
from qubx_lighter.native.account_transactions import AccountTransaction
from qubx_lighter.native.key import SignedTx
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.account_rows import Asset
from qubx_lighter.protocol.amounts import Amount, as_decimal, exact_units, written
from qubx_lighter.protocol.requests import failure
from qubx_lighter.settings import LighterSettings
from qubx_lighter.signer import Signer
from qubx_lighter.start_checks import check_network
from qubx_lighter.transactions.submitting import OneByOne, Receipt, Send, Submit
from qubx_lighter.wallet import address_bytes, checked_wallet_key, sign_with_wallet, wallet_address

type Purse = Literal["perps", "spot"]

_ROUTES: Final = {"perps": Route.PERPS, "spot": Route.SPOT}
_SHARE_DECIMALS: Final = 3  # a new pool's share is 0.001 of the collateral
_FEE_DECIMALS: Final = 4  # percent in ppm
_RATE_DECIMALS: Final = 2  # percent in 1e-4
_PENDING: Final = 1
_POLL_S: Final = 1.0


class LighterActions:
    """Act for one account; ``open_actions`` makes one, a connector has one.

    Args:
        client: REST; its token must be the account's.
        submit: signs and sends.
        account_index: the account.
        poll_s: between two looks at whether a transaction is executed.
    """

    def __init__(self, client: LighterClient, submit: Submit, account_index: int, *, poll_s: float = _POLL_S) -> None:
        self._client = client
        self._submit = submit
        self._account_index = account_index
        self._poll_s = poll_s

    @property
    def client(self) -> LighterClient:
        """REST; ``client.money`` has histories, accounts, pools and limits."""
        return self._client

    # --- money -------------------------------------------------------------------------------------------------------

    async def transfer(
        self,
        *,
        to_account_index: int,
        amount: Amount,
        asset: str | int = COLLATERAL_ASSET_ID,
        from_purse: Purse = "perps",
        to_purse: Purse = "perps",
        memo: str = "",
        max_fee: Amount | None = None,
        wallet_key: SecretStr | None = None,
    ) -> Receipt:
        """Move an asset to another account, or between the two purses of this one.

        Args:
            to_account_index: where to; the account's own index for a move between its purses.
            amount: in whole coins.
            asset: its symbol or id; the collateral by default.
            from_purse: ``perps`` is what positions draw on, ``spot`` what spot orders do.
            to_purse: the same at the other end.
            memo: at most 32 bytes, for the receiver; public.
            max_fee: refuse where the venue wants more than this much of the collateral.
            wallet_key: the private key of the owner's wallet, for a transfer to an account of another owner.

        Raises:
            ConfigurationError: no such asset, a needed wallet key is missing, or is of another wallet.
            UnitsError: the amount is finer than the asset, or below the venue's least.
            VenueError: the venue refused, or knows no such account.
            TransportError: as ``Submit`` says.
        """
        own = self._account_index
        if to_account_index == own and from_purse == to_purse:
            raise ConfigurationError(f"account {own} is this account: name two different purses to move between them")
        found = await self._asset(asset)
        units = _enough(amount, found, found.min_transfer_amount, "transfer")
        owner = (await self._client.account(own)).l1_address
        receiver = owner if to_account_index == own else (await self._client.account(to_account_index)).l1_address
        key: SecretStr | None = None
        if receiver.lower() != owner.lower():
            key = self._own_wallet(wallet_key, owner, f"a transfer to account {to_account_index} of another owner")
        fee = await self._transfer_fee(to_account_index, max_fee)
        transaction = transactions.transfer(
            to_account_index=to_account_index,
            asset_id=found.asset_id,
            from_route=_route(from_purse),
            to_route=_route(to_purse),
            amount=units,
            fee=fee,
            memo=memo.encode(),
        )
        return await self._send(f"transfer of {amount} {found.symbol} to account {to_account_index}", transaction, key)

    async def withdraw(
        self, *, amount: Amount, asset: str | int = COLLATERAL_ASSET_ID, purse: Purse = "perps"
    ) -> Receipt:
        """Withdraw to the owner's own address on the chain (secure): it can be claimed there after ``withdrawal_delay_s``.

        Raises what ``transfer`` raises; needs no wallet key.
        """
        found = await self._asset(asset)
        units = _enough(amount, found, found.min_withdrawal_amount, "withdrawal")
        transaction = transactions.withdraw(asset_id=found.asset_id, route=_route(purse), amount=units)
        return await self._send(f"withdrawal of {amount} {found.symbol}", transaction)

    async def fast_withdraw(
        self,
        *,
        amount: Amount,
        wallet_key: SecretStr | None,
        to_address: str | None = None,
        max_fee: Amount | None = None,
    ) -> Receipt:
        """Withdraw the collateral at once, through an account of the venue's that pays out on the chain.

        Args:
            amount: in whole coins.
            wallet_key: the private key of the owner's wallet.
            to_address: where to; the owner's address by default.
            max_fee: refuse where the venue wants more than this much.

        Raises:
            ConfigurationError: also where a connector's own key would send it: use ``open_actions`` with another key.
            UnitsError: also where the amount is above what the venue pays out at once.
        """
        found = await self._asset(COLLATERAL_ASSET_ID)
        units = _enough(amount, found, found.min_transfer_amount, "transfer")
        owner = (await self._client.account(self._account_index)).l1_address
        key = self._own_wallet(wallet_key, owner, "a fast withdrawal")
        address = to_address or owner
        memo = address_bytes(address)
        info = await self._client.money.fast_withdrawal_info(self._account_index)
        most = min(info.withdraw_limit, info.max_withdrawal_amount)
        if as_decimal(amount) > most:
            raise UnitsError(f"amount {amount} is above the {most} {found.symbol} that the venue pays out at once now")
        fee = await self._transfer_fee(info.to_account_index, max_fee)
        transaction = transactions.transfer(
            to_account_index=info.to_account_index,
            asset_id=found.asset_id,
            from_route=Route.PERPS,
            to_route=Route.PERPS,
            amount=units,
            fee=fee,
            memo=memo,
        )

        async def send(signed: SignedTx) -> wire.TxReply:
            form = {"tx_info": signed.tx_info, "to_address": address}
            return await self._client.post(wire.TxReply, "/api/v1/fastwithdraw", form, private=True)

        return await self._send(f"fast withdrawal of {amount} {found.symbol}", transaction, key, send)

    async def add_margin(self, *, market_id: int, amount: Amount) -> Receipt:
        """Back an isolated position with more collateral."""
        return await self._move_margin(market_id, amount, MarginMove.ADD)

    async def remove_margin(self, *, market_id: int, amount: Amount) -> Receipt:
        """Take collateral away from an isolated position."""
        return await self._move_margin(market_id, amount, MarginMove.REMOVE)

    async def _move_margin(self, market_id: int, amount: Amount, move: MarginMove) -> Receipt:
        units = exact_units(amount, COLLATERAL_DECIMALS)
        transaction = transactions.update_margin(market_id=market_id, amount=units, move=move)
        return await self._send(f"{move.name.lower()} {amount} of margin in market {market_id}", transaction)

    # --- accounts ----------------------------------------------------------------------------------------------------

    async def create_sub_account(self) -> Receipt:
        """Make a sub-account; once executed, ``client.money.accounts(l1_address)`` lists it with its index."""
        return await self._send("a new sub-account", transactions.create_sub_account())

    async def change_tier(self, new_tier: str) -> None:
        """Change the account's tier, ``standard``, ``premium`` or ``plus``: once a day, without positions and orders.

        Raises:
            ConfigurationError: there are positions or orders.
            VenueError: the venue refused.
        """
        account = await self._client.account(self._account_index)
        held = [row.symbol or str(row.market_id) for row in account.positions or [] if row.position]
        if held:
            raise ConfigurationError(f"the tier changes without positions only, and there are some: {', '.join(held)}")
        orders = await self._client.active_orders(self._account_index)
        if orders:
            raise ConfigurationError(f"the tier changes without orders only, and {len(orders)} are working")
        form = {"account_index": str(self._account_index), "new_tier": new_tier}
        await self._client.post(wire.ResultBody, "/api/v1/changeAccountTier", form, private=True)

    # --- pools -------------------------------------------------------------------------------------------------------

    async def create_public_pool(
        self, *, deposit: Amount, operator_fee_percent: Amount, min_operator_share_percent: Amount
    ) -> Receipt:
        """Open a public pool, which is an account of its own that this one trades for.

        Args:
            deposit: what this account puts in, in the collateral: at least 1000; a share is 0.001 of it at first.
            operator_fee_percent: of the profit; can be lowered later, never raised.
            min_operator_share_percent: the part of all shares that this account has to keep.

        Raises:
            SigningError: a number is outside what the venue takes.
            UnitsError: one is finer than the venue counts.
        """
        transaction = transactions.create_public_pool(
            operator_fee=_percent(operator_fee_percent, _FEE_DECIMALS, "operator_fee_percent"),
            initial_shares=exact_units(deposit, _SHARE_DECIMALS, "deposit"),
            min_operator_share_rate=_percent(min_operator_share_percent, _RATE_DECIMALS, "min_operator_share_percent"),
        )
        return await self._send(f"a new pool with {deposit}", transaction)

    async def update_public_pool(
        self, *, pool_index: int, frozen: bool, operator_fee_percent: Amount, min_operator_share_percent: Amount
    ) -> Receipt:
        """Change a pool of this account: all three at once, the unchanged ones as they are; ``frozen`` takes no money."""
        transaction = transactions.update_public_pool(
            pool_index=pool_index,
            status=PoolStatus.FROZEN if frozen else PoolStatus.ACTIVE,
            operator_fee=_percent(operator_fee_percent, _FEE_DECIMALS, "operator_fee_percent"),
            min_operator_share_rate=_percent(min_operator_share_percent, _RATE_DECIMALS, "min_operator_share_percent"),
        )
        return await self._send(f"a change of pool {pool_index}", transaction)

    async def mint_shares(self, *, pool_index: int, shares: int) -> Receipt:
        """Buy shares of a pool at their price of the moment; ``Pool.share_price`` tells about what."""
        return await self._send(
            f"{shares} shares of pool {pool_index}", transactions.mint_shares(pool_index=pool_index, shares=shares)
        )

    async def burn_shares(self, *, pool_index: int, shares: int) -> Receipt:
        """Give shares of a pool back for their price of the moment."""
        return await self._send(
            f"{shares} shares of pool {pool_index} back", transactions.burn_shares(pool_index=pool_index, shares=shares)
        )

    # --- the end -----------------------------------------------------------------------------------------------------

    async def executed(self, receipt: Receipt, timeout_s: float = 30.0) -> wire.TxRow:
        """Wait until the venue has executed a transaction.

        Raises:
            VenueError: it failed; the text says why.
            TransportError: it has not ended within ``timeout_s``.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    row = await self._client.transaction(receipt.tx_hash)
                    if row is not None and row.status != _PENDING:
                        break
                    await asyncio.sleep(self._poll_s)
        except TimeoutError:
            raise TransportError(f"transaction {receipt.tx_hash} has not ended within {timeout_s:g} s") from None
        reason = failure(row)
        if reason is not None:
            raise VenueError(0, f"transaction {receipt.tx_hash} failed: {reason}")
        return row

    # --- parts -------------------------------------------------------------------------------------------------------

    async def _asset(self, asset: str | int) -> Asset:
        return await self._client.money.asset(asset)

    async def _transfer_fee(self, to_account_index: int, max_fee: Amount | None) -> int:
        fee = await self._client.money.transfer_fee_units(self._account_index, to_account_index)
        if max_fee is not None and Decimal(fee).scaleb(-COLLATERAL_DECIMALS) > as_decimal(max_fee, "max_fee"):
            raise ConfigurationError(
                f"the venue wants {written(fee, COLLATERAL_DECIMALS)} for it, and max_fee is {max_fee}"
            )
        return fee

    def _own_wallet(self, key: SecretStr | None, owner: str, purpose: str) -> SecretStr:
        checked = checked_wallet_key(key, purpose)
        address = wallet_address(checked)
        if address.lower() != owner.lower():
            raise ConfigurationError(
                f"wallet_key is the key of {address}, and account {self._account_index} belongs to {owner}"
            )
        return checked

    async def _send(
        self, label: str, transaction: AccountTransaction, wallet_key: SecretStr | None = None, send: Send | None = None
    ) -> Receipt:
        async def sign(signer: Signer, nonce: int) -> SignedTx:
            signed = await signer.sign(transaction, nonce)
            return signed if wallet_key is None else sign_with_wallet(signed, wallet_key)

        receipt = await self._submit(label, TxType(transaction.tx_type), sign, send)
        logger.info("lighter: the venue has queued: {}, transaction {}", label, receipt.tx_hash)
        return receipt


@asynccontextmanager
async def open_actions(
    settings: LighterSettings,
    *,
    now: Callable[[], float] = time.time,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[LighterActions]:
    """Act for an account outside a strategy, for the time of an ``async with`` block.

    Use an API key of its own: with the key of a running strategy the two would take each other's nonces.

    Args:
        settings: the account, its API key and the network.
        now: the wall clock, Unix seconds.
        transport: replaces the network, for tests.

    Raises:
        ConfigurationError: something is missing, or is not what the venue has registered.
        TransportError: the venue cannot be reached.
    """
    account_index, api_key_index, private_key = settings.credentials()
    chain_id = settings.signing_chain_id()
    signer = Signer(
        chain_id=chain_id,
        account_index=account_index,
        api_key_index=api_key_index,
        private_key=private_key,
        base_url=settings.base_url,
    )
    mint = partial(_mint, signer, now)
    client = LighterClient(settings.base_url, timeout=settings.rest_timeout_s, transport=transport, token=mint)
    try:
        await check_network(client, settings, chain_id)
        await signer.check_key()
        yield LighterActions(client, OneByOne(client, signer), account_index)
    finally:
        signer.close()
        await client.close()


async def _mint(signer: Signer, now: Callable[[], float]) -> str:
    return await signer.auth_token(now_s=int(now()), lifetime_s=AUTH_TOKEN_LIFETIME_S)


def _enough(amount: Amount, asset: Asset, least: Decimal, what: str) -> int:
    units = exact_units(amount, asset.decimals)
    if as_decimal(amount) < least:
        raise UnitsError(f"amount {amount} is below the venue's least {what} of {least.normalize():f} {asset.symbol}")
    return units


def _route(purse: str) -> Route:
    if purse not in _ROUTES:
        raise ConfigurationError(f"{purse!r} is no purse: {' or '.join(_ROUTES)}")
    return _ROUTES[purse]


def _percent(value: Amount, decimals: int, what: str) -> int:
    return exact_units(value, decimals, what) if as_decimal(value, what) else 0
