"""Money over REST: what came, left and moved between accounts, what that costs, whose accounts there are, public pools.

Histories are newest first; their cursor, which is empty on the last page, is the last row's id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiohttp import web

from qubx_lighter.constants import Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.api.parameters import Parameters
from qubx_lighter.sim.api.rest_account import FindAccount
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.exchange.transfers import WITHDRAWAL_DELAY_S
from qubx_lighter.sim.model.records import BRIDGE_DEPOSIT, BRIDGE_WITHDRAWAL, MoneyMove
from qubx_lighter.sim.wire import money_rows
from qubx_lighter.sim.wire.texts import Row, success

_PAGE: Final = 100
_FILTERS: Final = ("all", "pending", "claimable")
_INVALID_L1_ADDRESS: Final = 21103


class RestMoney:
    """The endpoints.

    Args:
        engine: the venue.
        now: the wall clock, µs.
        find_account: finds the account that a request is about, and insists on a token of it.
    """

    def __init__(self, engine: Engine, now: Callable[[], int], find_account: FindAccount) -> None:
        self._engine = engine
        self._now = now
        self._find_account = find_account

    def reads(self) -> dict[str, Callable[[web.Request, Parameters], Row]]:
        """List them by path."""
        return {
            "/api/v1/deposit/history": self.deposits,
            "/api/v1/withdraw/history": self.withdrawals,
            "/api/v1/transfer/history": self.transfers,
            "/api/v1/transferFeeInfo": self.transfer_fee,
            "/api/v1/withdrawalDelay": self.withdrawal_delay,
            "/api/v1/accountsByL1Address": self.accounts,
            "/api/v1/publicPoolsMetadata": self.pools,
        }

    # --- histories ---------------------------------------------------------------------------------------------------

    def deposits(self, request: web.Request, params: Parameters) -> Row:
        """Answer ``deposit/history``; the address is the account's."""
        account = self._find_account(request, params)
        if params.text("l1_address").lower() != account.l1_address.lower():
            raise VenueError(_INVALID_L1_ADDRESS, "invalid account l1 address")
        return self._bridged("deposits", BRIDGE_DEPOSIT, account, params)

    def withdrawals(self, request: web.Request, params: Parameters) -> Row:
        """Answer ``withdraw/history``."""
        return self._bridged("withdraws", BRIDGE_WITHDRAWAL, self._find_account(request, params), params)

    def _bridged(self, name: str, kind: str, account: Account, params: Parameters) -> Row:
        wanted = params.text("filter", "all")
        if wanted not in _FILTERS:
            raise VenueError(Code.INVALID_PARAM, "invalid param: filter")
        now = max(self._now(), self._engine.now)
        rows = [
            (move, money_rows.bridge_row(self._engine, move, now))
            for move in self._before(account, params)
            if move.kind == kind
        ]
        kept = [(move, row) for move, row in rows if wanted in ("all", row["status"])]
        return _page(name, kept)

    def transfers(self, request: web.Request, params: Parameters) -> Row:
        """Answer ``transfer/history``; ``type`` may name kinds, separated by commas."""
        account = self._find_account(request, params)
        wanted = {kind for kind in params.text("type", "").split(",") if kind and kind != "all"}
        moves = [
            move
            for move in self._before(account, params)
            if money_rows.is_transfer(move) and (not wanted or move.kind in wanted)
        ]
        return _page("transfers", [(move, money_rows.transfer_row(self._engine, move)) for move in moves])

    @staticmethod
    def _before(account: Account, params: Parameters) -> list[MoneyMove]:
        before = params.cursor()
        return [move for move in reversed(account.moves) if move.move_id < before]

    # --- terms -------------------------------------------------------------------------------------------------------

    def transfer_fee(self, request: web.Request, params: Parameters) -> Row:
        """Answer ``transferFeeInfo``, in millionths of the collateral."""
        account = self._find_account(request, params)
        to_account = params.integer("to_account_index", -1)
        fee = self._engine.transfer_fee_micro(account.account_index, to_account if to_account >= 0 else None)
        return success(transfer_fee_usdc=fee)

    @staticmethod
    def withdrawal_delay(_request: web.Request, _params: Parameters) -> Row:
        """Answer ``withdrawalDelay``; its body has no code."""
        return {"seconds": WITHDRAWAL_DELAY_S}

    # --- accounts and pools ------------------------------------------------------------------------------------------

    def accounts(self, _request: web.Request, params: Parameters) -> Row:
        """Answer ``accountsByL1Address``: all of an owner's accounts at once."""
        found = self._engine.accounts_of(params.text("l1_address"))
        if not found:
            raise VenueError(Code.ACCOUNT_NOT_FOUND, "account not found")
        rows = [money_rows.sub_account_row(self._engine, account) for account in found]
        return success(l1_address=found[0].l1_address, sub_accounts=rows)

    def pools(self, request: web.Request, params: Parameters) -> Row:
        """Answer ``publicPoolsMetadata``: pools with an index from ``index`` on, upwards."""
        first, limit = params.integer("index", low=0), params.integer("limit", low=1, high=_PAGE)
        holder = self._find_account(request, params) if params.text("account_index", "") else None
        found = [account for account in self._engine.accounts() if account.pool is not None]
        found = sorted((each for each in found if each.account_index >= first), key=lambda each: each.account_index)
        return success(public_pools=[money_rows.pool_row(self._engine, each, holder) for each in found[:limit]])


def _page(name: str, found: list[tuple[MoneyMove, Row]]) -> Row:
    cursor = str(found[_PAGE - 1][0].move_id) if len(found) > _PAGE else ""
    return success(**{name: [row for _, row in found[:_PAGE]], "cursor": cursor})
