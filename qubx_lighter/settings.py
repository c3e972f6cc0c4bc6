"""What a user may set, and where it comes from.

A value is looked for in the exchange's ``params``, then in the account of ``accounts.toml``, then in ``LIGHTER_*``
variables, then in the defaults here. The four that name the venue (``network``, ``base_url``, ``ws_url``, ``chain_id``)
come from one place together, the first that sets any of them: half of one venue and half of another would sign for the
wrong one.
No ``.env`` file is read.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import string
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from qubx_lighter.constants import (
    CUSTOM_NETWORK,
    LOCAL_CHAIN_ID,
    MAX_CANCEL_ALL_AHEAD_S,
    MIN_CANCEL_ALL_AHEAD_S,
    NETWORKS,
    Network,
)
from qubx_lighter.errors import ConfigurationError

_VENUE_FIELDS: Final = ("network", "base_url", "ws_url", "chain_id")
_CREDENTIAL_NAMES: Final = {"api_key": "l1_address", "secret": "api_private_key"}  # Qubx's names for them
_KEY_HEX_DIGITS: Final = 80  # 40 bytes
_MAX_API_KEY_INDEX: Final = 254
_MAX_ACCOUNT_INDEX: Final = 2**48 - 2
_READ_TOKEN: Final = re.compile(r"ro:(\d{1,15}):(single|all):(\d{1,12}):[0-9a-fA-F]+")
_ENV_PREFIX: Final = "LIGHTER_"
MAX_ORDER_WAIT_S: Final = 24.0
"""A second before Qubx asks for the last time what became of an order: 5 times, 5 s apart, and 5 s later it calls it lost."""
_ON_THE_WAY_S: Final = 30  # from here to the venue, queues and clocks included


class Credentials(NamedTuple):
    """A checked account and its API key."""

    account_index: int
    api_key_index: int
    private_key: SecretStr


class ReadToken(NamedTuple):
    """A checked read-only token, and the account that is read with it."""

    account_index: int
    token: SecretStr


class LighterSettings(BaseSettings):
    """Every setting of one account on one venue; immutable.

    Attributes:
        network: ``mainnet``, ``testnet``, ``robinhood``, ``robinhood-testnet`` or ``custom``; decides the URLs, the chain id
            and the collateral that are not given.
        base_url: REST, ``https://host``.
        ws_url: WebSocket; of a custom ``base_url`` it is ``ws(s)://host/stream``.
        chain_id: what transactions are signed for. A ``base_url`` of one's own needs it, or the ``network`` that it stands
            for, to sign anything; 304 on this machine, where the local venue is.
        account_index: the account, sub-account or pool that trades.
        api_key_index: the index under which the API key is registered; 0 to 3 belong to the venue's own apps.
        api_private_key: 80 hexadecimal digits, with or without ``0x``.
        api_keys: further API keys of the account by index, over which orders are spread: ``{5 = "0x...", 6 = "0x..."}``.
        read_only: look and never touch: orders, cancels and settings are refused here, and no dead man's switch is armed.
        read_only_token: the venue's token ``ro:...`` in place of a key, given here or as the key; implies ``read_only``.
        l1_address: the owner's Ethereum address.
        market_slippage: worst price of a market order, as a fraction of the best price.
        quote_max_age_s: the oldest quote that a market order may be priced by.
        symbol_format: ``BASE-QUOTE`` for ``BTC-USDC``, ``BASEQUOTE`` for ``BTCUSDC``.
        collateral: quote and settlement currency of perpetuals; by default the network's, as the venue names it.
        rest_timeout_s: one REST request.
        tx_timeout_s: from sending a transaction to giving up on its answer.
        startup_timeout_s: loading the markets at start.
        order_expiry_days: lifetime of resting orders; the venue allows 5 minutes to 30 days.
        batch_size: how many orders, amends and cancels that are asked for together may leave as one message; 1 for none.
        dead_mans_switch_s: how long the account's orders outlive a process that is gone or cut off: the venue then cancels
            all of them, those of others too; 0 for no switch.
        flush_timeout_s: how long closing waits for the answers to what was just sent.
        account_tier: ``standard``, ``premium``, ``plus`` or ``builder``, by which requests and transactions are paced; None to
            ask the venue, and for no pace at all where the venue is on this machine.
        requests_per_minute: REST requests in any minute, in place of what the tier allows; also where the venue is on this
            machine.
        transactions_per_minute: likewise.
        order_wait_s: how long an order may wait for the venue's limits before it is rejected, at most 24 s: Qubx calls an order
            lost that nobody has heard of for 30 s, and what is called lost must not be sent. Cancels never wait.
        listing_interval_s: between two looks at which markets the venue lists, and by which rules.
        metrics_interval_s: between two reports of the connector's counters to Qubx's metric emitters; 0 for none.
        unknown_symbols: whether a universe symbol that the venue does not list stops the start or is only reported.
    """

    model_config = SettingsConfigDict(env_prefix=_ENV_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    network: Literal["mainnet", "testnet", "robinhood", "robinhood-testnet", "custom"] = "mainnet"
    base_url: str
    ws_url: str
    chain_id: int | None = Field(default=None, ge=0, lt=2**31)
    account_index: int | None = Field(default=None, ge=0, le=_MAX_ACCOUNT_INDEX)
    api_key_index: int | None = Field(default=None, ge=0, le=_MAX_API_KEY_INDEX)
    api_private_key: SecretStr | None = None
    api_keys: dict[Annotated[int, Field(ge=0, le=_MAX_API_KEY_INDEX)], SecretStr] = Field(default_factory=dict)
    read_only: bool = False
    read_only_token: SecretStr | None = None
    l1_address: str = ""
    market_slippage: float = Field(default=0.01, gt=0, lt=1)
    quote_max_age_s: float = Field(default=10.0, gt=0)
    symbol_format: Literal["BASE-QUOTE", "BASEQUOTE"] = "BASE-QUOTE"
    collateral: str = Field(min_length=1)
    rest_timeout_s: float = Field(default=10.0, gt=0)
    tx_timeout_s: float = Field(default=5.0, gt=0)
    startup_timeout_s: float = Field(default=15.0, gt=0)
    order_expiry_days: float = Field(default=28.0, gt=5 / (24 * 60), le=30)
    batch_size: int = Field(default=1, ge=1, le=15)
    dead_mans_switch_s: float = Field(default=0.0, ge=0, le=MAX_CANCEL_ALL_AHEAD_S - _ON_THE_WAY_S)
    flush_timeout_s: float = Field(default=2.0, ge=0)
    account_tier: Literal["standard", "premium", "plus", "builder"] | None = None
    requests_per_minute: int | None = Field(default=None, ge=1)
    transactions_per_minute: int | None = Field(default=None, ge=1)
    order_wait_s: float = Field(default=20.0, ge=0, le=MAX_ORDER_WAIT_S)
    listing_interval_s: float = Field(default=300.0, ge=60)
    metrics_interval_s: float = Field(default=10.0, ge=0)
    unknown_symbols: Literal["error", "warn"] = "error"

    @classmethod
    def build(cls, params: Mapping[str, Any], credentials: Mapping[str, Any] | None = None) -> Self:
        """Merge the sources.

        Args:
            params: ``params`` of the exchange in Qubx's configuration.
            credentials: the account of ``accounts.toml`` as a mapping, extra fields included; None without an account.

        Raises:
            ConfigurationError: a param is unknown, or a value is wrong; one line, without the value of a secret.
        """
        known = cls.model_fields
        for name in params:
            if name not in known:
                raise ConfigurationError(f"unknown param {name!r} of exchange LIGHTER{_nearest(name, known)}")
        merged = _from_credentials(credentials or {}, known)
        if any(name in params for name in _VENUE_FIELDS):
            merged = {name: value for name, value in merged.items() if name not in _VENUE_FIELDS}
        merged.update({name: value for name, value in params.items() if value is not None})
        if any(name in merged for name in _VENUE_FIELDS):
            merged = dict.fromkeys(_VENUE_FIELDS) | merged
        try:
            return cls(**merged)
        except ValidationError as error:
            raise ConfigurationError(_one_line(error)) from None

    @property
    def collateral_is_chosen(self) -> bool:
        """Tell whether the user has named another collateral than the network's."""
        return self.collateral != NETWORKS.get(self.network, NETWORKS["mainnet"]).collateral

    def signing_chain_id(self) -> int:
        """Return the chain id that transactions are signed for.

        Raises:
            ConfigurationError: it is not known.
        """
        if self.chain_id is None:
            raise ConfigurationError(
                f"LIGHTER: chain_id is missing: which chain {self.base_url} signs for cannot be guessed. Set params.chain_id "
                f"(or {_ENV_PREFIX}CHAIN_ID), or params.network to what the address stands for: {', '.join(NETWORKS)}"
            )
        return self.chain_id

    def credentials(self) -> Credentials:
        """Return what signing needs, checked.

        Raises:
            ConfigurationError: something is missing or malformed; the text says which and what to do.
        """
        if self.account_index is None:
            raise _missing("account_index", "the number of your Lighter account, shown on the venue's API-keys page")
        if self.api_key_index is None:
            raise _missing("api_key_index", "the index under which your API key is registered")
        key = self.api_private_key
        if key is None or not key.get_secret_value().strip():
            raise _missing("api_private_key", "the private key of your API key, not of your wallet", toml="secret")
        if not _is_key(key):
            raise ConfigurationError(
                f"LIGHTER: the API private key (secret in accounts.toml, {_ENV_PREFIX}API_PRIVATE_KEY) is not "
                f"{_KEY_HEX_DIGITS} hexadecimal digits: copy it again (a wallet's key, of 64 digits, is not it)"
            )
        if self.api_key_index in self.api_keys:
            raise ConfigurationError(
                f"LIGHTER: api_keys holds further keys, and {self.api_key_index} is api_key_index: take it out of api_keys"
            )
        return Credentials(self.account_index, self.api_key_index, key)

    def signing_keys(self) -> dict[int, SecretStr]:
        """Return all API keys of the account by index, the one of ``api_key_index`` first.

        Raises:
            ConfigurationError: as ``credentials``.
        """
        first = self.credentials()
        return {first.api_key_index: first.private_key, **self.api_keys}

    @field_validator("api_keys")
    @classmethod
    def _are_keys(cls, keys: dict[int, SecretStr]) -> dict[int, SecretStr]:
        for index, key in keys.items():
            if not _is_key(key):
                raise ValueError(f"the private key of API key {index} is not {_KEY_HEX_DIGITS} hexadecimal digits")
        return keys

    def read_token(self, now_s: int) -> ReadToken | None:
        """Return the read-only token, checked; None where there is none, and a key mints tokens.

        Raises:
            ConfigurationError: it is malformed, of another account, or at its end.
        """
        if self.read_only_token is None:
            return None
        match = _READ_TOKEN.fullmatch(self.read_only_token.get_secret_value().strip())
        if match is None:
            raise ConfigurationError(
                "LIGHTER: the read-only token is not of the form ro:account:single|all:expiry:signature: copy it again"
            )
        account_index, scope, expiry_s = int(match[1]), match[2], int(match[3])
        if scope == "single" and self.account_index not in (None, account_index):
            raise ConfigurationError(
                f"LIGHTER: the read-only token is of account {account_index} alone, not of account {self.account_index}"
            )
        if expiry_s <= now_s:
            raise ConfigurationError("LIGHTER: the read-only token has expired: make a new one at the venue")
        index = account_index if self.account_index is None else self.account_index
        return ReadToken(index, SecretStr(match[0]))

    @model_validator(mode="before")
    @classmethod
    def _derive_venue(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Fill in the venue's parts that are not given."""
        given = {name: value for name, value in values.items() if name not in _VENUE_FIELDS or value not in (None, "")}
        network, base_url = given.get("network"), given.get("base_url")
        names = (*NETWORKS, CUSTOM_NETWORK)
        if network not in (None, *names):
            raise ValueError(f"network {network!r} is not known{_nearest(str(network), names)}")
        if network == CUSTOM_NETWORK and base_url is None:
            raise ValueError("network custom needs base_url, and chain_id to sign anything")
        name, venue = _venue(network, base_url)
        given["network"], given["base_url"] = name, venue.rest_url
        given.setdefault("ws_url", venue.ws_url)
        if venue.chain_id:
            given.setdefault("chain_id", venue.chain_id)
        if given.get("collateral") in (None, ""):
            given["collateral"] = venue.collateral
        if not str(given["ws_url"]).startswith(("ws://", "wss://")):
            raise ValueError(f"ws_url {given['ws_url']!r} is not of the form wss://host/stream")
        return given

    @model_validator(mode="after")
    def _take_read_token(self) -> Self:
        """Find the token where a key was expected, and refuse to trade with it."""
        key = self.api_private_key
        if key is not None and key.get_secret_value().strip().startswith("ro:"):
            object.__setattr__(self, "read_only_token", self.read_only_token or key)
            object.__setattr__(self, "api_private_key", None)
        if self.read_only_token is not None:
            object.__setattr__(self, "read_only", True)
        return self

    @field_validator("dead_mans_switch_s")
    @classmethod
    def _leave_the_venue_time(cls, value: float) -> float:
        least = MIN_CANCEL_ALL_AHEAD_S + _ON_THE_WAY_S
        if 0 < value < least:
            raise ValueError(f"the venue schedules nothing sooner than in five minutes: use {least} s or more, or 0")
        return value

    @field_validator("collateral")
    @classmethod
    def _upper(cls, value: str) -> str:
        return value.upper()


def _venue(network: str | None, base_url: object) -> tuple[str, Network]:
    """Find the venue that is named, or make one up for a custom address; its chain id is 0 where nothing tells it."""
    named = NETWORKS.get(network or "mainnet")
    if base_url is None and named is not None:
        return network or "mainnet", named
    url = str(base_url).strip().rstrip("/").removesuffix("/api/v1")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("http", "https") or not rest:
        raise ValueError(f"base_url {url!r} is not of the form https://host")
    for name, known in NETWORKS.items():
        if known.rest_url == url:
            if network not in (None, CUSTOM_NETWORK, name):
                raise ValueError(f"base_url {url!r} is {name}, and network is {network}: give one of them")
            return name, known
    ws_url = f"{'wss' if scheme == 'https' else 'ws'}://{rest}/stream"
    if network in NETWORKS:
        return network, NETWORKS[network]._replace(rest_url=url, ws_url=ws_url)
    chain_id = LOCAL_CHAIN_ID if _is_local(url) else 0
    return CUSTOM_NETWORK, Network(url, ws_url, chain_id, NETWORKS["mainnet"].collateral)


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _from_credentials(credentials: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Translate an account of ``accounts.toml``; fields of Qubx that are not ours are left alone."""
    values = {name: credentials[name] for name in known if credentials.get(name) is not None}
    for theirs, ours in _CREDENTIAL_NAMES.items():
        if credentials.get(theirs):
            values.setdefault(ours, credentials[theirs])
    if credentials.get("testnet") and not any(name in values for name in _VENUE_FIELDS):
        values["network"] = "testnet"
    return values


def _is_key(key: SecretStr) -> bool:
    digits = key.get_secret_value().strip().removeprefix("0x")
    return len(digits) == _KEY_HEX_DIGITS and all(digit in string.hexdigits for digit in digits)


def _missing(name: str, what: str, *, toml: str | None = None) -> ConfigurationError:
    return ConfigurationError(
        f"LIGHTER: {name} is missing: put {toml or name} ({what}) into the LIGHTER account of accounts.toml, "
        f"or set {_ENV_PREFIX}{name.upper()}"
    )


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (known: {', '.join(names)})"


def _one_line(error: ValidationError) -> str:
    """Say what pydantic found in one line, without the values: one of them may be a secret."""
    parts = []
    for item in error.errors(include_input=False, include_url=False, include_context=False):
        name = ".".join(str(part) for part in item["loc"])
        text = str(item["msg"]).removeprefix("Value error, ")
        parts.append(f"{name} (param, accounts.toml or {_ENV_PREFIX}{name.upper()}): {text}" if name else text)
    return "LIGHTER: " + "; ".join(parts)
