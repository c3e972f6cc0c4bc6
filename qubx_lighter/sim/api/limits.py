"""The venue's limits, enforced: requests, transactions and quota by L1 address, the stream's by IP address.

Off unless asked for. The numbers are those of ``protocol.limits``; each can be made another, to see how a client takes it.
Where the venue's pages disagree the strict reading is enforced, as there. A refusal uses nothing up.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from qubx_lighter.constants import Code, TxType
from qubx_lighter.errors import VenueError
from qubx_lighter.protocol import limits as facts
from qubx_lighter.protocol.budget import Budget
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.model.commands import Result
from qubx_lighter.sim.model.events import Event, Traded

TOO_MANY: Final = "Too Many Requests!"
NO_QUOTA: Final = f"{TOO_MANY}: Not enough volume quota"
TOO_MANY_ADDRESS_SUBSCRIPTIONS: Final = "Too Many Subscriptions"
_TOO_MANY_STATUS: Final = 429
_MICRO: Final = 10**6
_NOT_REQUESTS: Final = frozenset({"sendTx", "sendTxBatch"})


@dataclass(frozen=True)
class LimitSettings:
    """What is enforced.

    Attributes:
        tier: of every account; None for its own.
        weight: of an address's or account's REST requests in any minute; None for the tier's.
        transactions: in any minute; None for the tier's.
        quota: volume quota at the start, of a tier that has one.
        leverage_changes: in any minute.
        messages: written to the stream by an address in any minute.
        in_flight: messages of an address that are not answered yet.
        answer_s: how long the venue takes to answer a message; without it none is ever in flight.
        address_subscriptions: of an address.
        connections: of an address, at a time and new ones in any minute.
        stream_tells_quota: whether answers over the stream say what is left of the quota, as those over REST do.
    """

    tier: facts.Tier | None = None
    weight: int | None = None
    transactions: int | None = None
    quota: int = facts.QUOTA_AT_START
    leverage_changes: int = facts.LEVERAGE_CHANGES
    messages: int = facts.MESSAGES
    in_flight: int = facts.IN_FLIGHT
    answer_s: float = 0.0
    address_subscriptions: int = facts.ADDRESS_SUBSCRIPTIONS
    connections: int = facts.CONNECTIONS
    stream_tells_quota: bool = False


class _Owner:
    """What is counted of one L1 address."""

    def __init__(self, settings: LimitSettings) -> None:
        self.tier = facts.STANDARD
        self.requests = Budget(0)
        self.transactions = Budget(0)
        self.leverage = Budget(settings.leverage_changes)
        self.quota = float(settings.quota)
        self.freed_at = -math.inf  # when the last free transaction was taken


class _Address:
    """What is counted of one IP address."""

    def __init__(self, settings: LimitSettings) -> None:
        self.requests = Budget(facts.STANDARD.weight if settings.weight is None else settings.weight)
        self.messages = Budget(settings.messages)
        self.new_connections = Budget(settings.connections)
        self.connections = 0
        self.subscriptions = 0
        self.in_flight = 0


class Limits:
    """Count, and refuse what is too much.

    Args:
        engine: whose accounts they are.
        now: the wall clock, µs.
        settings: what is enforced; nothing without them.

    Attributes:
        refusals: what was refused, by limit.
        quota_message: what the last transaction's answer says of the volume quota.
        quota_remaining: what is left of it after that transaction; None of an account that has none, and the most that
            there can be where nothing is enforced.
    """

    def __init__(self, engine: Engine, now: Callable[[], int], settings: LimitSettings | None = None) -> None:
        self.settings = settings
        self.refusals: Counter[str] = Counter()
        self.quota_message = facts.QUOTA_UNUSED
        self.quota_remaining: int | None = facts.QUOTA_MAX
        self._engine = engine
        self._now_us = now
        rules = settings or LimitSettings()
        self._rules = rules
        self._owners: defaultdict[str, _Owner] = defaultdict(lambda: _Owner(rules))
        self._addresses: defaultdict[str, _Address] = defaultdict(lambda: _Address(rules))
        self._retry_after_s: float | None = None

    def _now(self) -> float:
        return self._now_us() / _MICRO

    def _refuse(self, limit: str, code: int, message: str, free_at: float | None = None) -> VenueError:
        self.refusals[limit] += 1
        seconds = None if free_at is None else float(max(1, math.ceil(free_at - self._now())))
        self._retry_after_s = seconds
        status = _TOO_MANY_STATUS if code == Code.TOO_MANY_REQUESTS else 0
        return VenueError(code, message, status, seconds)

    # --- REST --------------------------------------------------------------------------------------------------------

    def request(self, endpoint: str, address: str, token: str | None) -> None:
        """Count a request, for the account of its token, else for the address.

        Raises:
            VenueError: 23000.
        """
        if self.settings is None or endpoint in _NOT_REQUESTS:
            return
        owner = self._owner_of_token(token)
        tier = owner.tier if owner is not None else facts.STANDARD
        budget = owner.requests if owner is not None else self._addresses[address].requests
        weight, now = tier.request_weight(endpoint), self._now()
        at = budget.free_at(weight, now)
        if at > now:
            raise self._refuse("requests", Code.TOO_MANY_REQUESTS, TOO_MANY, at)
        budget.take(weight, now)

    def _owner_of_token(self, token: str | None) -> _Owner | None:
        """Find whose token it is; whether it is a good one is seen later."""
        fields = (token or "").removeprefix("ro:").split(":")
        position = 0 if (token or "").startswith("ro:") else 1
        index = fields[position] if len(fields) > position else ""
        return self._owner(int(index)) if index.isdecimal() else None

    def _owner(self, account_index: int) -> _Owner | None:
        """Find what is counted of an account's owner, by its tier."""
        account = self._engine.account(account_index)
        if account is None:
            return None
        rules, owner = self._rules, self._owners[account.l1_address.lower()]
        tier = owner.tier = rules.tier or facts.TIERS[account.tier]
        owner.requests.weight = tier.weight if rules.weight is None else rules.weight
        owner.transactions.weight = tier.transactions if rules.transactions is None else rules.transactions
        return owner

    # --- transactions ------------------------------------------------------------------------------------------------

    def refuse_transactions(self, tx_types: Sequence[int], tx_infos: Sequence[str]) -> Result | None:
        """Tell why transactions that come together are too much, if they are."""
        owner = self._owner_of(tx_infos)
        if self.settings is None or owner is None:
            return None
        now, count, changes = self._now(), len(tx_types), tx_types.count(TxType.UPDATE_LEVERAGE)
        if (at := self._free_at(owner, count, now)) > now:
            error = self._refuse("transactions", Code.TOO_MANY_REQUESTS, TOO_MANY, at)
        elif changes and (at := owner.leverage.free_at(changes, now)) > now:
            error = self._refuse("leverage", Code.TOO_MANY_REQUESTS, TOO_MANY, at)
        elif self._lacks_quota(owner, sum(map(facts.quota_cost, tx_types)), now):
            at = owner.freed_at + facts.FREE_TRANSACTION_S
            error = self._refuse("quota", Code.TOO_MANY_REQUESTS, NO_QUOTA, at)
        else:
            return None
        return Result(error.code, error.message)

    def take_transactions(self, tx_types: Sequence[int], tx_infos: Sequence[str]) -> None:
        """Count transactions that were taken."""
        owner = self._owner_of(tx_infos)
        if self.settings is None or owner is None:
            return
        now, tier, count = self._now(), owner.tier, len(tx_types)
        owner.transactions.take(count, now)
        if tier.shares_window:
            owner.requests.take(count * tier.least_weight, now)
        owner.leverage.take(tx_types.count(TxType.UPDATE_LEVERAGE), now)
        self.quota_message, cost = facts.QUOTA_UNUSED, sum(map(facts.quota_cost, tx_types))
        if tier.has_quota and cost:
            if cost == 1 and self._is_free(owner, now):
                owner.freed_at = now
            else:
                owner.quota -= cost
                self.quota_message = f"{int(owner.quota)} volume quota remaining."
        self.quota_remaining = int(owner.quota) if tier.has_quota else None

    def quota_fields(self) -> dict[str, int]:
        """Give what the answer to the last transaction holds of the quota: nothing of an account that has none."""
        return {} if self.quota_remaining is None else {"volume_quota_remaining": self.quota_remaining}

    def stream_fields(self) -> dict[str, object]:
        """Give what the answer over the stream holds of it; as far as is known, nothing."""
        if self.settings is None or not self.settings.stream_tells_quota:
            return {}
        message = msgspec.json.encode({"ratelimit": self.quota_message}).decode()
        return {"message": message, **self.quota_fields()}

    def traded(self, events: Iterable[Event]) -> None:
        """Add what was traded to the quotas of both sides."""
        if self.settings is None:
            return
        for event in events:
            if isinstance(event, Traded):
                for index in (event.trade.ask_account, event.trade.bid_account):
                    owner = self._owner(index)
                    if owner is not None and owner.tier.has_quota:
                        gained = event.trade.quote_micro / _MICRO / facts.QUOTA_USD
                        owner.quota = min(float(facts.QUOTA_MAX), owner.quota + gained)

    def refusal(self, result: Result) -> VenueError:
        """Give the error that answers a transaction over REST."""
        if result.code == Code.TOO_MANY_REQUESTS:
            return VenueError(result.code, result.message, _TOO_MANY_STATUS, self._retry_after_s)
        return VenueError(result.code, result.message)

    def quota_of(self, l1_address: str) -> int:
        """Give what is left of an owner's quota."""
        return int(self._owners[l1_address.lower()].quota)

    @staticmethod
    def _free_at(owner: _Owner, count: int, now: float) -> float:
        at = owner.transactions.free_at(count, now)
        if owner.tier.shares_window:
            at = max(at, owner.requests.free_at(count * owner.tier.least_weight, now))
        return at

    def _lacks_quota(self, owner: _Owner, cost: int, now: float) -> bool:
        if not owner.tier.has_quota or owner.quota >= cost:
            return False
        return not (cost == 1 and self._is_free(owner, now))

    @staticmethod
    def _is_free(owner: _Owner, now: float) -> bool:
        return now - owner.freed_at >= facts.FREE_TRANSACTION_S

    def _owner_of(self, tx_infos: Sequence[str]) -> _Owner | None:
        """Find whose transactions they are: all of one account, as the venue insists later."""
        try:
            index = msgspec.json.decode(tx_infos[0], type=_OfAccount).account_index
        except (msgspec.MsgspecError, IndexError):
            return None
        return self._owner(index)

    # --- the stream --------------------------------------------------------------------------------------------------

    @property
    def answer_s(self) -> float:
        """How long the venue takes to answer a message."""
        return self.settings.answer_s if self.settings is not None else 0.0

    def connect(self, address: str) -> None:
        """Count a connection, which ``disconnect`` ends.

        Raises:
            VenueError: 23003; it counts none the less, until it has ended.
        """
        mine = self._addresses[address]
        mine.connections += 1
        if self.settings is None:
            return
        now = self._now()
        if mine.connections > self.settings.connections or mine.new_connections.free_at(1, now) > now:
            raise self._refuse("connections", Code.TOO_MANY_CONNECTIONS, "Too Many Connections")
        mine.new_connections.take(1, now)

    def disconnect(self, address: str, subscriptions: int, in_flight: int) -> None:
        """Forget a connection with what it had."""
        mine = self._addresses[address]
        mine.connections -= 1
        mine.subscriptions -= subscriptions
        mine.in_flight -= in_flight

    def message(self, address: str) -> None:
        """Count a message that is no transaction.

        Raises:
            VenueError: 30009 or 30010.
        """
        if self.settings is None:
            return
        mine, now = self._addresses[address], self._now()
        if mine.messages.free_at(1, now) > now:
            raise self._refuse("messages", Code.TOO_MANY_MESSAGES, "Too Many Messages")
        mine.messages.take(1, now)
        if self.settings.answer_s:
            if mine.in_flight >= self.settings.in_flight:
                raise self._refuse("in_flight", Code.TOO_MANY_IN_FLIGHT, "Too Many Inflight Messages")
            mine.in_flight += 1

    def answered(self, address: str) -> None:
        """Note that a message has been answered."""
        self._addresses[address].in_flight -= 1

    def subscribe(self, address: str) -> None:
        """Count a subscription.

        Raises:
            VenueError: 23001.
        """
        mine = self._addresses[address]
        if self.settings is not None and mine.subscriptions >= self.settings.address_subscriptions:
            raise self._refuse("subscriptions", Code.TOO_MANY_SUBSCRIPTIONS, TOO_MANY_ADDRESS_SUBSCRIPTIONS)
        mine.subscriptions += 1

    def unsubscribe(self, address: str) -> None:
        """Forget a subscription."""
        self._addresses[address].subscriptions -= 1


class _OfAccount(msgspec.Struct, rename="pascal"):
    account_index: int
