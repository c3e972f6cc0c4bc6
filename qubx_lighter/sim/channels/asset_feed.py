"""What the channels of spot balances send: all of an account's assets at first, then those that changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.exchange.view import View
from qubx_lighter.sim.wire import asset_rows, frames
from qubx_lighter.sim.wire.texts import Row

BALANCES: Final = "account_all_assets"
ENTRY_PRICES: Final = "account_spot_avg_entry_prices"
KINDS: Final = frozenset((BALANCES, ENTRY_PRICES))
_EVERYTHING: Final = "account_all"
_WRITERS: Final = {BALANCES: asset_rows.account_assets, ENTRY_PRICES: asset_rows.entry_prices}


class AssetFeed:
    """The channels of spot balances of all accounts, and the assets among an account's other news.

    Args:
        view: of the venue.
        now: the wall clock, µs.
        send: sends a frame to a channel's subscribers, if there are any.
    """

    def __init__(self, view: View, now: Callable[[], int], send: Callable[[str, Callable[[], str]], bool]) -> None:
        self._view = view
        self._now = now
        self._send = send
        self._told: dict[tuple[str, int], Mapping[str, Row]] = {}

    def snapshot(self, kind: str, account: Account) -> str:
        """Write the first frame of a subscription."""
        told = self._told[kind, account.account_index] = _WRITERS[kind](self._view, account)
        return self._frame("subscribed", kind, account.account_index, told)

    def assets(self, account: Account) -> Mapping[str, Row]:
        """Give all assets, for the first frame of an account's other channel."""
        told = self._told[_EVERYTHING, account.account_index] = asset_rows.account_assets(self._view, account)
        return told

    def publish(self, account: Account, *, spot: bool) -> None:
        """Send what has changed, to those who listen; without a change of ``spot`` balances it is the collateral."""
        index = account.account_index
        for kind, write in _WRITERS.items():
            changed = self._changed(kind, index, write(self._view, account))
            if changed:
                self._send(f"{kind}:{index}", lambda k=kind, rows=changed: self._frame("update", k, index, rows))  # type: ignore[misc]
        if spot:
            changed = self._changed(_EVERYTHING, index, asset_rows.account_assets(self._view, account))
            self._send(f"{_EVERYTHING}:{index}", lambda: frames.account_all("update", account, assets=changed))

    def _changed(self, kind: str, index: int, rows: Mapping[str, Row]) -> dict[str, Row]:
        told = self._told.get((kind, index), {})
        self._told[kind, index] = rows
        return {asset_id: row for asset_id, row in rows.items() if told.get(asset_id) != row}

    def _frame(self, state: str, kind: str, index: int, rows: Mapping[str, Row]) -> str:
        write = frames.account_assets if kind == BALANCES else frames.entry_prices
        return write(state, index, rows, self._now())
