"""What an account can pay for: by its margin where there are positions, by its balances where assets change hands."""

from __future__ import annotations

from collections.abc import Mapping

from qubx_lighter.sim.accounts import ledger, spot
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.model.records import Order


def may_rest(account: Account, markets: Mapping[int, Market], order: Order, replaced_lots: int = 0) -> bool:
    """Tell whether it suffices for ``order`` to rest, in place of ``replaced_lots`` of its own."""
    if markets[order.market_id].spec.is_spot:
        return spot.may_rest(account, markets, order)
    return ledger.may_rest(account, markets, order, replaced_lots)


def may_fill(
    account: Account, markets: Mapping[int, Market], order: Order, lots: int, price_ticks: int, *, fee_ppm: int
) -> bool:
    """Tell whether it suffices for a fill; ``fee_ppm`` is the market's."""
    market = markets[order.market_id]
    if market.spec.is_spot:
        return spot.may_fill(account, markets, order, lots, price_ticks)
    signed = -lots if order.is_ask else lots
    return ledger.may_fill(account, markets, ledger.Fill(market, signed, price_ticks, account.fee_ppm(fee_ppm)))
