"""What the account is asked over REST: single orders, the fate of transactions, whole snapshots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from qubx.core.basics import ITimeProvider, dt_64
from qubx.core.events import AccountSnapshot

from qubx_lighter.client import LighterClient
from qubx_lighter.constants import MARGIN_FRACTION_SCALE, TxType
from qubx_lighter.handlers.account import AccountConverter, row_time_ns, to_dt64, to_ns
from qubx_lighter.handlers.money import Wallet, figures
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.markets import KINDS
from qubx_lighter.protocol import units, wire
from qubx_lighter.protocol.requests import Progress, RequestBook, failure
from qubx_lighter.protocol.statuses import is_terminal
from qubx_lighter.protocol.venue_clock import VenueClock

_NS: Final = 1_000_000_000
_LOOKUP_GRACE_NS: Final = 10 * _NS  # an order may be invisible for seconds between the venue's two lists
_PAGES: Final = 20  # of 100 ended orders
CLOCK_SKEW_NS: Final = 60 * _NS
"""How far clocks that were not compared, and block times, which lag execution by up to 20 s, are trusted."""
_EXACT_SKEW_NS: Final = _NS  # of the sequencer's own time: what a clock may be set by while it is followed
_TX_PENDING: Final = 1  # 0 failed, 2 executed, 3 packed, 4 committed, 5 verified


class Wanted(NamedTuple):
    """An order to be found.

    Attributes:
        market_id: where it is.
        order_index: the venue's, where it is known; then nothing else counts.
        client_index: ours, or 0.
        since_ns: it was not there before this, by the venue's clock; 0 where nobody knows.
    """

    market_id: int
    order_index: int | None
    client_index: int
    since_ns: int = 0


class Found(NamedTuple):
    """What was found.

    Attributes:
        rows: the newest row of each order that was asked for, None for one that is in no list.
        complete: whether the lists were read as far back as any of them can be: if not, None proves nothing.
    """

    rows: list[wire.OrderRow | None]
    complete: bool


class AccountQueries:
    """Ask the venue about one account.

    Args:
        client: typed REST.
        converter: the account's conversions.
        instruments: the venue's markets.
        requests: what this process asked for.
        wallet: puts balances together.
        time_provider: Qubx's clock.
        clock: the venue's.
        on_account: called with each account row fetched (the leverage cache listens).
    """

    def __init__(
        self,
        *,
        client: LighterClient,
        converter: AccountConverter,
        instruments: LighterInstrumentLoader,
        requests: RequestBook,
        wallet: Wallet,
        time_provider: ITimeProvider,
        clock: VenueClock,
        on_account: Callable[[wire.AccountRow], None],
    ) -> None:
        self._client = client
        self._converter = converter
        self._account = converter.account_index
        self._instruments = instruments
        self._requests = requests
        self._wallet = wallet
        self._time = time_provider
        self._clock = clock
        self._on_account = on_account

    async def find(self, wanted: Sequence[Wanted]) -> Found:
        """Find orders wherever the venue keeps them: by client index, among the working, among the ended.

        The ended are listed newest first, and no older than the orders' creation is looked at: an order ends after that.
        """
        rows: list[wire.OrderRow] = []
        if indexes := list(dict.fromkeys(one.client_index for one in wanted if one.client_index)):
            rows += await self._client.orders_by_client_index(self._account, indexes)
        if not (left := _left(wanted, rows)):
            return Found(_picked(wanted, rows), complete=True)
        markets = {one.market_id for one in left}
        market_id = markets.pop() if len(markets) == 1 else None
        rows += await self._client.active_orders(self._account, market_id=market_id)
        cursor: str | None = None
        for _ in range(_PAGES):
            if not (left := _left(wanted, rows)):
                return Found(_picked(wanted, rows), complete=True)
            page = await self._client.inactive_orders(self._account, market_id=market_id, cursor=cursor)
            rows += page.orders or []
            oldest = min((row_time_ns(row) for row in page.orders or []), default=0)
            cursor = page.next_cursor
            if not cursor or oldest < min(one.since_ns for one in left) - CLOCK_SKEW_NS:
                return Found(_picked(wanted, rows), complete=True)
        return Found(_picked(wanted, rows), complete=not _left(wanted, rows))

    async def may_still_arrive(self, client_id: str, submitted_at: dt_64 | None) -> bool:
        """Tell whether an order that no list shows can still come into being."""
        request = self._requests.latest(TxType.CREATE_ORDER, client_id)
        if request is None:  # of an earlier run, or seen and gone from every list
            return submitted_at is not None and self._now_ns() - to_ns(submitted_at) < _LOOKUP_GRACE_NS
        if request.progress in (Progress.QUEUED, Progress.SENT):
            return True
        if self._now_ns() - request.time_ns < _LOOKUP_GRACE_NS:
            return True
        if request.progress is Progress.REFUSED or not request.tx_hash:
            return False
        row = await self._client.transaction(request.tx_hash)
        return row is not None and row.status == _TX_PENDING and failure(row) is None

    async def snapshot(
        self, *, include_orders: bool, on_orders: Callable[[list[wire.OrderRow]], None] = lambda _: None
    ) -> tuple[AccountSnapshot, int]:
        """Fetch the whole account, and the venue's time, ns, until which all deals are in it.

        ``as_of`` is the local time before the first request. ``on_orders`` gets the rows of the working orders as soon as they are there.

        Raises:
            LighterError: a part could not be fetched, or holds a market that the venue does not list.
        """
        as_of = self._time.time()  # before the first request: what is booked after this is newer than the snapshot
        orders = await self._orders() if include_orders else None
        account = await self._client.account(self._account)
        await self._know_markets(account, orders or [])
        on_orders(orders or [])
        self._on_account(account)
        until_ns = self._holds_until(account, to_ns(as_of))
        time = to_dt64(until_ns)
        converter = self._converter
        balances = self._wallet.of_account(account, time)
        margin = figures(
            account,
            self._wallet.collateral,
            self._maintenance_fraction,
            spot_assets=any(row.total and row.currency != self._wallet.collateral for row in balances),
        )
        snapshot = AccountSnapshot(
            exchange=converter.exchange,
            as_of=as_of,
            open_orders=None if orders is None else [converter.order(row) for row in orders],
            positions=[converter.position(row, time) for row in account.positions or [] if row.position],
            balances=balances,
            **margin._asdict(),
        )
        return snapshot, until_ns

    def _maintenance_fraction(self, market_id: int) -> float:
        return self._instruments.market_by_id(market_id).maintenance_margin_fraction / MARGIN_FRACTION_SCALE

    def _holds_until(self, account: wire.AccountRow, as_of_ns: int) -> int:
        """Tell the venue's time until which all deals are in the row: Qubx books later ones on top of it.

        Deals have the venue's time, so ours, which may be ahead, would hide as many. The row's own stamp may be of the newest
        transaction that the account itself sent (nobody says): what others traded with it since is in the row all the same.
        """
        stamp_ns = units.time_ns(account.transaction_time)
        if stamp_ns and not self._clock.is_known:
            return stamp_ns
        return max(stamp_ns, self._clock.at(as_of_ns))

    async def _orders(self) -> list[wire.OrderRow]:
        """List the working orders; those of a binary option have no place in Qubx."""
        rows = await self._client.active_orders(self._account)
        foreign = self._instruments.foreign_ids
        return [row for row in rows if row.market_index not in foreign and row.market_kind in KINDS]

    async def _know_markets(self, account: wire.AccountRow, orders: list[wire.OrderRow]) -> None:
        """Reload the market list when the account shows a market listed since; one still unknown fails the snapshot."""
        ids = {row.market_id for row in account.positions or [] if row.position} | {row.market_index for row in orders}
        if any(not self._instruments.knows(market_id) for market_id in ids):
            await self._instruments.load()

    def _now_ns(self) -> int:
        return to_ns(self._time.time())


def _pick(rows: Sequence[wire.OrderRow], one: Wanted) -> wire.OrderRow | None:
    """Find one order among rows: by the venue's index, else the newest of a client index, which may have been used before."""
    if one.order_index is not None:
        return next((row for row in rows if row.order_index == one.order_index), None)
    ours = [
        row
        for row in rows
        if one.client_index and row.client_order_index == one.client_index and not is_former(row, one.since_ns)
    ]
    return max(ours, key=row_time_ns, default=None)


def is_before(time_ns: int, since_ns: int, *, exact: bool) -> bool:
    """Tell whether something at the venue was before ``since_ns`` for certain; ``exact`` if by the sequencer's own time."""
    return time_ns < since_ns - (_EXACT_SKEW_NS if exact else CLOCK_SKEW_NS)


def is_former(row: wire.OrderRow, since_ns: int, *, refused: bool = False) -> bool:
    """Tell whether an order had its client index before the one that was asked for at ``since_ns``.

    One that has ended did so before that. Of one that stands only its creation counts, which is told to the second, and
    perhaps in block time; unless the order asked for was ``refused``: then one that has not changed since is not it.
    """
    if refused or is_terminal(row.status):
        return is_before(row_time_ns(row), since_ns, exact=bool(row.transaction_time))
    return bool(row.created_at) and is_before(units.time_ns(row.created_at), since_ns, exact=False)


def _left(wanted: Sequence[Wanted], rows: Sequence[wire.OrderRow]) -> list[Wanted]:
    return [one for one in wanted if _pick(rows, one) is None]


def _picked(wanted: Sequence[Wanted], rows: Sequence[wire.OrderRow]) -> list[wire.OrderRow | None]:
    return [_pick(rows, one) for one in wanted]
