"""One API key in the native library: calls that block, to be made in threads other than the process's main one.

What the library leaves to its caller, and is done here: clients are process-global by (account, API key index), so
``native.clients`` keeps track of whose key is in; a nonce of -1 would fetch one over blocking HTTP, so it cannot be
passed; a wrapper and a binary of different releases would shift arguments and sign something else, so a known transaction
is signed and read back before the first real one. The key is never held in a local variable of a frame that an exception
may pass: Qubx's traceback printer shows locals.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple

from pydantic import SecretStr

from qubx_lighter.constants import MAX_MASTER_ACCOUNT_INDEX, Grouping, TxType
from qubx_lighter.errors import SigningError
from qubx_lighter.native import loader
from qubx_lighter.native.abi import INSTALL, MASTER_FUNCTIONS, NONCE, known_transactions
from qubx_lighter.native.account_transactions import AccountTransaction
from qubx_lighter.native.clients import NativeClients
from qubx_lighter.native.fields import KEEP_NONCE_ORDER, NO_INTEGRATOR
from qubx_lighter.native.loader import Native

_FROM_AN_ACCOUNT: Final = (TxType.TRANSFER, TxType.WITHDRAW)  # these name the account otherwise

_clients: Final = NativeClients()


class SignedTx(NamedTuple):
    """A transaction ready to send: ``tx_info`` is the signer's JSON, ``tx_hash`` equals the venue's.

    ``message`` is what the owner's wallet signs besides, where the venue wants that: a transfer to another owner.
    """

    tx_type: int
    tx_info: str
    tx_hash: str
    message: str = ""


class NativeKey:
    """Sign with one API key; every integer that is passed was checked before.

    Args:
        chain_id: 304 mainnet, 300 testnet.
        account_index: the account that trades.
        api_key_index: the index under which the key is registered.
        private_key: the API key.
        base_url: where ``check`` asks.
    """

    def __init__(
        self, *, chain_id: int, account_index: int, api_key_index: int, private_key: SecretStr, base_url: str
    ) -> None:
        self._chain_id = chain_id
        self._account_index = account_index
        self._api_key_index = api_key_index
        self._private_key = private_key
        self._base_url = base_url
        self._native: Native | None = None
        self._loading = threading.Lock()

    def ready(self) -> Native:
        """Load the library and try it out, the first time.

        Raises:
            SigningError: it is missing, refuses the key, or signs something else than it is told.
        """
        if self._native is None:
            with self._loading:
                if self._native is None:
                    native = loader.load()
                    self._try_out(native)
                    self._native = native
        return self._native

    def forget(self) -> None:
        """Let another of the same pair of account and index take its place."""
        _clients.forget((self._account_index, self._api_key_index), self)

    def sign(self, tx_type: TxType, function: str, *arguments: Any) -> SignedTx:
        """Call a function of the library; its arguments but for the key's and the account's index.

        Raises:
            SigningError: the library refuses, or answers something else.
        """
        return self._call(self.ready(), tx_type, function, *arguments)

    def sign_group(
        self, grouping: Grouping, orders: list[tuple[int, ...]], modes: tuple[int, int], nonce: int
    ) -> SignedTx:
        """Sign a group and read it back: its orders cross to C as structures, whose layout no argument check covers."""
        native = self.ready()
        array = (native.order * len(orders))(*(native.order(*order) for order in orders))
        flags = (*NO_INTEGRATOR, *modes, KEEP_NONCE_ORDER, nonce)
        arguments = (grouping, array, len(orders), *flags)
        signed = self._call(native, TxType.CREATE_GROUPED_ORDERS, "SignCreateGroupedOrders", *arguments)
        names = [name for name, _ in native.order._fields_]
        told = [dict(zip(names, order, strict=True)) for order in orders]
        loader.compare({"GroupingType": grouping, "Orders": told, "Nonce": nonce}, signed.tx_info)
        return signed

    def sign_known(self, transaction: AccountTransaction, nonce: int) -> SignedTx:
        """Sign, and compare every field with what was to be signed."""
        return self._sign_known(self.ready(), transaction, KEEP_NONCE_ORDER, nonce)

    def mint(self, deadline: int) -> str:
        """Mint an auth token that ends at ``deadline``, Unix seconds; it counts as a secret."""
        return self._mint(self.ready(), deadline)

    def check(self) -> str | None:
        """Ask the venue whether the key is registered; gives the library's words where it is not, or cannot be asked."""
        native = self.ready()
        with self._owned(native):
            return native.take(native.library.CheckClient(self._api_key_index, self._account_index))

    # --- with the library at hand ------------------------------------------------------------------------------------

    def _call(self, native: Native, tx_type: TxType, function: str, *arguments: Any) -> SignedTx:
        with self._owned(native):
            result = getattr(native.library, function)(*arguments, self._api_key_index, self._account_index)
        error, tx_info, tx_hash = native.take(result.err), native.take(result.txInfo), native.take(result.txHash)
        message = native.take(result.messageToSign) or ""
        if error:
            raise SigningError(f"the native signer refused: {error}")
        if result.txType != tx_type or not tx_info or not tx_hash:
            raise SigningError(f"the native signer answered type {result.txType} to a {tx_type.name}")
        return SignedTx(result.txType, tx_info, tx_hash, message)

    def _sign_known(
        self, native: Native, known: AccountTransaction, skip_nonce: int, nonce: int, *last: int
    ) -> SignedTx:
        signed = self._call(native, known.tx_type, known.function, *known.arguments, skip_nonce, nonce, *last)
        account = "FromAccountIndex" if known.tx_type in _FROM_AN_ACCOUNT else "AccountIndex"
        ours = {account: self._account_index, "ApiKeyIndex": self._api_key_index, "Nonce": nonce}
        loader.compare(ours | dict(known.told), signed.tx_info)
        return signed

    def _mint(self, native: Native, deadline: int) -> str:
        with self._owned(native):
            result = native.library.CreateAuthToken(deadline, self._api_key_index, self._account_index)
        token, error = native.take(result.str), native.take(result.err)
        if error or not token:
            raise SigningError(f"no auth token: {error or 'the native signer gave none'}")
        return token

    def _owned(self, native: Native) -> AbstractContextManager[None]:
        """Hold the process-wide client of our account and key index, with our key and chain in it."""
        pair = self._account_index, self._api_key_index
        return _clients.client(pair, self, lambda: self._register(native))

    def _register(self, native: Native) -> None:
        problem = native.take(
            native.library.CreateClient(
                self._base_url.encode(),
                self._private_key.get_secret_value().strip().removeprefix("0x").encode(),
                self._chain_id,
                self._api_key_index,
                self._account_index,
            )
        )
        if problem:  # its text may quote a piece of the key
            raise SigningError("the native signer does not take the API private key: it must be 80 hexadecimal digits")

    def _try_out(self, native: Native) -> None:
        """Sign what is known with every function and read it back: a mismatch is found out before it costs money."""
        for known, last in known_transactions(native.order):
            if self._account_index > MAX_MASTER_ACCOUNT_INDEX and known.function in MASTER_FUNCTIONS:
                continue
            try:
                self._sign_known(native, known, *last)
            except SigningError as error:
                raise SigningError(f"{known.function}: {error}") from None
        token = self._mint(native, NONCE)
        if not token.startswith(f"{NONCE}:{self._account_index}:{self._api_key_index}:"):
            raise SigningError(
                f"CreateAuthToken: the token is not of the account and the time that were asked for: {INSTALL}"
            )
