"""Sign transactions and auth tokens with the SDK's native signer, in threads of its own: as many at a time as there are cores.

Why threads: a native call takes 2.0 to 3.5 ms on the process's main thread, where the C runtime parses
``/proc/self/maps`` each time, and 0.6 ms on any other; it releases the GIL.

Every integer is checked before it goes there, since C integers wrap silently. What else the native library leaves to its
caller is done in ``native.key``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from pydantic import SecretStr

from qubx_lighter.constants import (
    MARGIN_FRACTION_SCALE,
    MAX_BASE_LOTS,
    MAX_PRICE_TICKS,
    NIL_MARKET_INDEX,
    CancelAllTime,
    Grouping,
    MarginMode,
    TxType,
)
from qubx_lighter.errors import ConfigurationError, LighterError, SigningError, TransportError, VenueError, WireError
from qubx_lighter.native import loader
from qubx_lighter.native.account_transactions import AccountTransaction
from qubx_lighter.native.fields import (
    KEEP_NONCE_ORDER,
    MAX_TIME_MS,
    NO_INTEGRATOR,
    checked_index,
    checked_market,
    checked_nonce,
    checked_order,
    checked_self_trade,
    ranged,
)
from qubx_lighter.native.key import NativeKey, SignedTx
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.order_table import OrderFields, SelfTrade, group_refusal

_THREAD_NAME: Final = "lighter-signer"
_MAX_AUTH_TOKEN_S: Final = 8 * 3600  # the venue's maximum
_DEFAULT_SELF_TRADE: Final = SelfTrade()  # expire the maker; the account is one self


class Signer:
    """Sign for one API key; every method runs the native code in one of the signer's own threads.

    Args:
        chain_id: 304 mainnet, 300 testnet.
        account_index: the account that trades.
        api_key_index: the index under which the key is registered.
        private_key: the API key.
        base_url: where ``check_key`` asks.
        workers: how many signatures are made at a time; by default one for each core that this process may use.
    """

    def __init__(
        self,
        *,
        chain_id: int,
        account_index: int,
        api_key_index: int,
        private_key: SecretStr,
        base_url: str,
        workers: int | None = None,
    ) -> None:
        self._chain_id = ranged("chain_id", chain_id, 0, 2**31 - 1)
        self._account_index = ranged("account_index", account_index, 0, 2**48 - 2)
        self._api_key_index = ranged("api_key_index", api_key_index, 0, 254)
        self._base_url = base_url
        self._key = NativeKey(
            chain_id=self._chain_id,
            account_index=self._account_index,
            api_key_index=self._api_key_index,
            private_key=private_key,
            base_url=base_url,
        )
        self._workers = workers or _usable_cores()
        self._executor = ThreadPoolExecutor(self._workers, thread_name_prefix=_THREAD_NAME)

    def __repr__(self) -> str:
        of = f"account_index={self._account_index}, api_key_index={self._api_key_index}"
        return f"Signer(chain_id={self._chain_id}, {of})"

    @property
    def account_index(self) -> int:
        """The account that trades."""
        return self._account_index

    @property
    def api_key_index(self) -> int:
        """The index of the key that it signs with."""
        return self._api_key_index

    @property
    def workers(self) -> int:
        """How many signatures are made at a time."""
        return self._workers

    def close(self) -> None:
        """Sign no more; what is being signed is finished; idempotent."""
        self._executor.shutdown(wait=False)
        self._key.forget()

    async def load(self) -> None:
        """Load the native library, register the key with it and try it out; the first signature would do it too.

        Raises:
            SigningError: the library is missing, refuses the key, or signs something else than it is told.
        """
        await self._run(self._key.ready)

    # --- transactions ------------------------------------------------------------------------------------------------

    async def create_order(
        self, order: OrderFields, *, nonce: int, self_trade: SelfTrade = _DEFAULT_SELF_TRADE
    ) -> SignedTx:
        """Sign a new order.

        Args:
            order: what it is; its size is at least one lot.
            nonce: the key's next.
            self_trade: what happens where it would meet an order of one's own.

        Raises:
            SigningError: a value is out of range, or type, time in force, expiry and trigger do not go together.
        """
        ranged("base_lots", order.base_lots, 1, MAX_BASE_LOTS)
        return await self._sign(
            TxType.CREATE_ORDER,
            "SignCreateOrder",
            *checked_order(order),
            *NO_INTEGRATOR,
            *checked_self_trade(self_trade),
            KEEP_NONCE_ORDER,
            checked_nonce(nonce),
        )

    async def create_grouped_orders(
        self, *, grouping: int, orders: Sequence[OrderFields], nonce: int, self_trade: SelfTrade = _DEFAULT_SELF_TRADE
    ) -> SignedTx:
        """Sign a group: an entry and what closes it (OTO, OTOCO), or two that close, of which one cancels the other (OCO).

        Args:
            grouping: a ``Grouping``.
            orders: the entry first; what closes has a size of 0 behind an entry.
            nonce: the key's next.
            self_trade: as in ``create_order``.

        Raises:
            SigningError: a value is out of range, or the orders do not make such a group.
        """
        checked = [checked_order(order) for order in orders]
        refusal = group_refusal(ranged("grouping", grouping, 1, 3), orders)
        if refusal is not None:
            raise SigningError(f"this group cannot be signed: {refusal}")
        modes, number = checked_self_trade(self_trade), checked_nonce(nonce)
        return await self._run(lambda: self._key.sign_group(Grouping(grouping), checked, modes, number))

    async def cancel_order(self, *, market_id: int, index: int, nonce: int) -> SignedTx:
        """Sign a cancel; ``index`` is the client order index or the venue's order index."""
        return await self._sign(
            TxType.CANCEL_ORDER,
            "SignCancelOrder",
            checked_market(market_id),
            checked_index(index),
            KEEP_NONCE_ORDER,
            checked_nonce(nonce),
        )

    async def modify_order(
        self,
        *,
        market_id: int,
        index: int,
        base_lots: int,
        price_ticks: int,
        nonce: int,
        trigger_ticks: int = 0,
        self_trade: SelfTrade = _DEFAULT_SELF_TRADE,
    ) -> SignedTx:
        """Sign an amend to a new total size, price and trigger; ``index`` as in ``cancel_order``.

        Size 0 leaves an order without a size that waits for its trigger, or for its parent, without one.
        """
        return await self._sign(
            TxType.MODIFY_ORDER,
            "SignModifyOrder",
            checked_market(market_id),
            checked_index(index),
            ranged("base_lots", base_lots, 0 if trigger_ticks else 1, MAX_BASE_LOTS),
            ranged("price_ticks", price_ticks, 1, MAX_PRICE_TICKS),
            ranged("trigger_ticks", trigger_ticks, 0, MAX_PRICE_TICKS),
            *NO_INTEGRATOR,
            *checked_self_trade(self_trade),
            KEEP_NONCE_ORDER,
            checked_nonce(nonce),
            0,  # whatever the order's version is
        )

    async def cancel_all(self, *, nonce: int, market_id: int | None = None) -> SignedTx:
        """Sign an immediate cancel of every working order of the account, or of one market."""
        market = NIL_MARKET_INDEX if market_id is None else checked_market(market_id)
        return await self._cancel_all(CancelAllTime.IMMEDIATE, 0, market, nonce)

    async def schedule_cancel_all(self, *, time_ms: int, nonce: int) -> SignedTx:
        """Sign a cancel of every order for later: Unix milliseconds, which the venue wants 5 minutes to 15 days ahead."""
        time = ranged("time_ms", time_ms, 1, MAX_TIME_MS)
        return await self._cancel_all(CancelAllTime.SCHEDULED, time, NIL_MARKET_INDEX, nonce)

    async def abort_scheduled_cancel_all(self, *, nonce: int) -> SignedTx:
        """Sign the end of a cancel-all that is scheduled."""
        return await self._cancel_all(CancelAllTime.ABORT_SCHEDULED, 0, NIL_MARKET_INDEX, nonce)

    async def _cancel_all(self, when: CancelAllTime, time_ms: int, market: int, nonce: int) -> SignedTx:
        return await self._sign(
            TxType.CANCEL_ALL_ORDERS,
            "SignCancelAllOrders",
            when,
            time_ms,
            market,
            KEEP_NONCE_ORDER,
            checked_nonce(nonce),
        )

    async def update_leverage(
        self, *, market_id: int, initial_margin_fraction: int, margin_mode: int, nonce: int
    ) -> SignedTx:
        """Sign a leverage setting; ``initial_margin_fraction`` is in 1e-4: 1000 is leverage 10."""
        return await self._sign(
            TxType.UPDATE_LEVERAGE,
            "SignUpdateLeverage",
            checked_market(market_id),
            ranged("initial_margin_fraction", initial_margin_fraction, 1, MARGIN_FRACTION_SCALE),
            ranged("margin_mode", margin_mode, MarginMode.CROSS, MarginMode.ISOLATED),
            KEEP_NONCE_ORDER,
            checked_nonce(nonce),
        )

    async def sign(self, transaction: AccountTransaction, nonce: int) -> SignedTx:
        """Sign what moves money or manages accounts, and read it back; ``message`` is what a wallet may have to sign too.

        Raises:
            SigningError: the native signer refuses, or signs something else.
        """
        number = checked_nonce(nonce)
        return await self._run(lambda: self._key.sign_known(transaction, number))

    # --- tokens and keys ---------------------------------------------------------------------------------------------

    async def auth_token(self, *, now_s: int, lifetime_s: int) -> str:
        """Mint an auth token that ends ``lifetime_s`` after ``now_s``; it counts as a secret."""
        lifetime = ranged("lifetime_s", lifetime_s, 1, _MAX_AUTH_TOKEN_S)
        deadline = ranged("now_s", now_s, 1, MAX_TIME_MS) + lifetime
        return await self._run(lambda: self._key.mint(deadline))

    async def check_key(self) -> None:
        """Ask the venue whether our key is the one registered under our index.

        Raises:
            ConfigurationError: another key is registered there, or none; the text says what to do.
            TransportError: the venue could not be asked.
            VenueError: the venue refuses to tell, for example because there is no such account.
        """
        problem = await self._run(self._key.check)
        if problem is not None:
            raise self._explain(problem)

    # --- in one of the signer's threads --------------------------------------------------------------------------------------

    async def _run[T](self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except RuntimeError as error:
            if "shutdown" in str(error):
                raise SigningError(f"{self!r} is closed") from None
            raise

    async def _sign(self, tx_type: TxType, function: str, *arguments: int) -> SignedTx:
        return await self._run(lambda: self._key.sign(tx_type, function, *arguments))

    def _explain(self, problem: str) -> LighterError:
        """Turn the native check's text into an error that says what to do."""
        who = f"API key {self._api_key_index} of account {self._account_index}"
        if "does not match" in problem:
            return ConfigurationError(
                f"{who}: the private key is not the one registered at {self._base_url}: "
                f"use the key that was registered under this index, or correct account_index and api_key_index"
            )
        if "no api key returned" in problem:
            return ConfigurationError(
                f"{who} is not registered at {self._base_url}: "
                f"register it there, or correct account_index and api_key_index"
            )
        cause = problem.partition("err: ")[2] or problem
        try:
            body = wire.decode(wire.ResultBody, cause)
        except WireError:
            reason = cause.rpartition(": ")[2] if cause.startswith('Get "') else " ".join(cause.split())[:120]
            return TransportError(f"{who} could not be checked at {self._base_url}: {reason}")
        return VenueError(body.code, f"{who} could not be checked: {body.message}")


def generate_api_key() -> tuple[str, str]:
    """Make a new API key and return it with its public key, both ``0x`` and 80 hexadecimal digits.

    Raises:
        SigningError: the native library is missing.
    """
    native = loader.load()
    result = native.library.GenerateAPIKey()
    private, public = native.take(result.privateKey), native.take(result.publicKey)
    error = native.take(result.err)
    if error or not private or not public:
        raise SigningError(f"no API key: {error or 'the native signer gave none'}")
    return private, public


def _usable_cores() -> int:
    """Count the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
