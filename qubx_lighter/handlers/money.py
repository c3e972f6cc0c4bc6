"""What an account has: balances of every asset, and the margin figures of the whole; no I/O, no clock.

Qubx keeps one balance a currency, and books profits, fees and spot trades onto it. So the ``total`` of the collateral asset
is everything of it that deals and funding move, wherever the venue keeps it:

    total = collateral + margin allocated to isolated positions + spot balance      (unrealised profit is in none of them)
    free  = cross margin's available balance + spot balance - what spot orders lock

In unified mode (``account_trading_mode`` 1) spot and perpetuals share the asset's ``margin_balance``, which then stands for
``collateral``. Of any other asset ``total`` is spot balance + ``margin_balance``, and ``locked`` what spot orders lock.

The parts come on three channels in no promised order: ``user_stats`` (collateral, available), ``account_all_assets``,
``account_all_positions`` (allocated margin). Each frame is absolute for its part; the others are the newest known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from qubx.core.basics import Balance, dt_64

from qubx_lighter.constants import MarginMode
from qubx_lighter.protocol import wire

UNIFIED: Final = 1
_MAX_RATIO: Final = 100.0  # what Qubx shows for an account without margin requirements
_ROUND: Final = 9  # decimals of the venue's finest amounts: sums of floats get no longer


class Push(NamedTuple):
    """A balance, and the venue time up to which it counts everything."""

    balance: Balance
    as_of: dt_64


@dataclass(slots=True)
class _Cash:
    """The parts of the collateral asset."""

    collateral: float
    available: float
    unified: bool


@dataclass(slots=True)
class Wallet:
    """Put an account's balances together.

    Attributes:
        exchange: on each balance.
        collateral: the asset that perpetuals are margined and settled in.
    """

    exchange: str
    collateral: str
    _cash: _Cash | None = None
    _cash_time: dt_64 | None = None
    _assets: dict[str, wire.AssetRow] | None = None
    _assets_time: dt_64 | None = None
    _spot_time: dt_64 | None = None  # of the frame that last changed the collateral asset's spot balance
    _allocated: dict[int, float] | None = None
    _assets_pushed: bool = False  # the channel tells them: what REST says is older
    _positions_pushed: bool = False
    _told: set[str] = field(default_factory=set)  # currencies

    def of_account(self, account: wire.AccountRow, time: dt_64) -> list[Balance]:
        """Convert an account row; what no channel has told yet is remembered from it.

        An asset that the account never held is left out; one that it held stays, at zero.
        """
        assets = {row.symbol.upper(): row for row in account.assets or []}
        allocated = {row.market_id: row.allocated_margin for row in account.positions or []}
        if not self._assets_pushed:
            self._assets = assets
        if not self._positions_pushed:
            self._allocated = allocated
        cash = _Cash(account.collateral, cross_free(account), account.account_trading_mode == UNIFIED)
        rows = [self._cash_balance(cash, assets, allocated, time)]
        rows += [self._asset_balance(row, time) for symbol, row in assets.items() if symbol != self.collateral]
        return self._worth_telling(rows)

    def on_stats(self, stats: wire.UserStats, time: dt_64) -> list[Push]:
        """Take the cross-margin figures as of ``time``."""
        # Whether the collateral at the top counts what is allocated to isolated positions, no source says: cross margin's does not.
        cross = stats.cross_stats
        available, collateral = stats.available_balance, stats.collateral
        if cross is not None:
            available = available if cross.available_balance is None else cross.available_balance
            collateral = collateral if cross.collateral is None else cross.collateral
        self._cash = _Cash(collateral, available, stats.account_trading_mode == UNIFIED)
        self._cash_time = time
        return self._cash_push()

    def on_assets(self, rows: Iterable[wire.AssetRow], time: dt_64, *, complete: bool) -> list[Push]:
        """Take the assets as of ``time``: all of them, or those that changed."""
        known = {} if complete or self._assets is None else dict(self._assets)
        taken = {row.symbol.upper(): row for row in rows}
        before = self._assets or {}
        gone = [name for name in before if complete and name not in taken]
        self._assets = known | taken
        if _spot(before.get(self.collateral)) != _spot(self._assets.get(self.collateral)):
            self._spot_time = time
        self._assets_pushed, self._assets_time = True, time
        pushes = self._cash_push() if self.collateral in taken or self.collateral in gone else []
        changed = [*taken.values(), *(wire.AssetRow(symbol=name, asset_id=before[name].asset_id) for name in gone)]
        balances = [self._asset_balance(row, time) for row in changed if row.symbol.upper() != self.collateral]
        return pushes + [Push(balance, time) for balance in self._worth_telling(balances)]

    def on_positions(self, rows: Mapping[int, wire.PositionRow], *, complete: bool) -> list[Push]:
        """Take what is allocated to isolated positions; partial rows merge into what is known."""
        before = sum((self._allocated or {}).values())
        known = {} if complete or self._allocated is None else self._allocated
        self._allocated = known | {market_id: row.allocated_margin for market_id, row in rows.items()}
        self._positions_pushed = True
        return self._cash_push() if sum(self._allocated.values()) != before else []

    def _worth_telling(self, rows: list[Balance]) -> list[Balance]:
        kept = [row for row in rows if row.total or row.currency == self.collateral or row.currency in self._told]
        self._told.update(row.currency for row in kept)
        return kept

    def _cash_push(self) -> list[Push]:
        """Give the collateral asset's balance, once all its parts are known."""
        if self._cash is None or self._cash_time is None or self._assets is None or self._allocated is None:
            return []
        time = self._cash_time
        if self._cash.unified and self._assets_time is not None:
            time = self._assets_time  # the total is the assets' there
        elif self._spot_time is not None:
            time = max(time, self._spot_time)  # or Qubx would book the spot trades in it once more
        return [Push(self._cash_balance(self._cash, self._assets, self._allocated, time), time)]

    def _cash_balance(
        self, cash: _Cash, assets: Mapping[str, wire.AssetRow], allocated: Mapping[int, float], time: dt_64
    ) -> Balance:
        asset = assets.get(self.collateral)
        spot, locked = (asset.balance, asset.locked_balance) if asset is not None else (0.0, 0.0)
        margin = asset.margin_balance if asset is not None and cash.unified else cash.collateral
        total = round(margin + sum(allocated.values()) + spot, _ROUND)
        free = round(cash.available + spot - locked, _ROUND)
        return Balance(
            exchange=self.exchange,
            currency=self.collateral,
            free=free,
            locked=max(round(total - free, _ROUND), 0.0),
            total=total,
            last_update_time=time,
        )

    def _asset_balance(self, row: wire.AssetRow, time: dt_64) -> Balance:
        total = round(row.balance + row.margin_balance, _ROUND)
        return Balance(
            exchange=self.exchange,
            currency=row.symbol.upper(),
            free=round(total - row.locked_balance, _ROUND),
            locked=row.locked_balance,
            total=total,
            last_update_time=time,
        )


def _spot(row: wire.AssetRow | None) -> float:
    return 0.0 if row is None else row.balance


# --- margin figures --------------------------------------------------------------------------------------------------


class Figures(NamedTuple):
    """Qubx's account figures, in the collateral asset.

    Attributes:
        equity: collateral, allocated margin, unrealised profit and the collateral asset's spot balance; None where the
            account holds other spot assets, so that Qubx adds up what it holds at its own prices.
        available_margin: what cross margin has left for new positions.
        margin_ratio: equity over maintenance margin of what is closest to liquidation: cross margin as a whole, or one
            isolated position; at most 100.
        withdrawable: the part of ``available_margin`` that is not unrealised profit.
        total_maint_margin: cross margin's requirement and that of each isolated position.
        total_initial_margin: cross margin's requirement and what is allocated to isolated positions.
        collateral_equity: what assets are worth as collateral, in unified mode alone.
    """

    equity: float | None
    available_margin: float
    margin_ratio: float
    withdrawable: float
    total_maint_margin: float
    total_initial_margin: float
    collateral_equity: float | None


def figures(
    account: wire.AccountRow, collateral: str, maintenance_fraction: Callable[[int], float], *, spot_assets: bool
) -> Figures:
    """Compute an account's figures from its row.

    The venue's ``available_balance`` counts the spare margin of isolated positions, which nothing else can use, so it is
    not taken.

    Args:
        account: the row.
        collateral: the collateral asset.
        maintenance_fraction: a market's maintenance margin as a fraction of the notional.
        spot_assets: whether the account holds spot assets other than the collateral.
    """
    held = [row for row in account.positions or [] if row.position]
    isolated = [row for row in held if row.margin_mode == MarginMode.ISOLATED]
    own_equity = [(row, row.allocated_margin + row.unrealized_pnl) for row in isolated]
    maintenance = {row.market_id: _maintenance(row, maintenance_fraction) for row in isolated}
    total = account.total_asset_value
    if total is None:  # rows of 2025 may lack what was added since
        total = account.collateral + sum(row.unrealized_pnl + row.allocated_margin for row in held)
    cross = cross_value(account)
    cross_maintenance = account.cross_maintenance_margin_requirement
    if cross_maintenance is None:
        cross_maintenance = sum(_maintenance(row, maintenance_fraction) for row in held if row not in isolated)
    ratios = [equity / maintenance[row.market_id] for row, equity in own_equity if maintenance[row.market_id]]
    if cross_maintenance:
        ratios.append(cross / cross_maintenance)
    asset = next((row for row in account.assets or [] if row.symbol.upper() == collateral), None)
    spot = 0.0 if asset is None else asset.balance
    unified = account.account_trading_mode == UNIFIED
    cash = asset.margin_balance if unified and asset is not None else account.collateral
    available = cross_free(account)
    return Figures(
        equity=None if spot_assets else round(total + spot, _ROUND),
        available_margin=available,
        margin_ratio=min([_MAX_RATIO, *ratios]),
        withdrawable=max(min(available, cash), 0.0),
        total_maint_margin=round(cross_maintenance + sum(maintenance.values()), _ROUND),
        total_initial_margin=round(_cross_initial(account) + sum(row.allocated_margin for row in isolated), _ROUND),
        collateral_equity=cross if unified else None,
    )


def cross_value(account: wire.AccountRow) -> float:
    """Give cross margin's equity."""
    if account.cross_asset_value is not None:
        return account.cross_asset_value
    rows = [row for row in account.positions or [] if row.margin_mode != MarginMode.ISOLATED]
    return round(account.collateral + sum(row.unrealized_pnl for row in rows), _ROUND)


def cross_free(account: wire.AccountRow) -> float:
    """Give what cross margin has left."""
    if account.cross_initial_margin_requirement is None and account.cross_asset_value is None:
        return account.available_balance
    return round(cross_value(account) - _cross_initial(account), _ROUND)


def _cross_initial(account: wire.AccountRow) -> float:
    if account.cross_initial_margin_requirement is not None:
        return account.cross_initial_margin_requirement
    rows = [row for row in account.positions or [] if row.position and row.margin_mode != MarginMode.ISOLATED]
    return sum(abs(row.position_value) * row.initial_margin_fraction / 100 for row in rows)


def _maintenance(row: wire.PositionRow, fraction: Callable[[int], float]) -> float:
    return abs(row.position_value) * fraction(row.market_id)
