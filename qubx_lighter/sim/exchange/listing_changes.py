"""What happens to markets while the venue runs: they get other rules, stop, settle and go.

What is left of a market that is settled or delisted is what accounts remember of it. Another grid rescales everything that
the market has in ticks and lots; a coarser one must fit the positions, and rounds what is history down.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from qubx_lighter.constants import MAX_PRICE_TICKS, NIL_MARKET_INDEX, Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.accounts.assets import USDC
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.markets.rescaling import Rescaling
from qubx_lighter.sim.model.commands import CancelMarket, ChangeMarket, DelistMarket, SetMarketStatus
from qubx_lighter.sim.model.records import SETTLEMENT
from qubx_lighter.sim.model.specs import AssetSpec, MarketSpec
from qubx_lighter.sim.orders.sequencer import Sequencer
from qubx_lighter.sim.orders.state import VenueState

_SETTLED: Final = "settled"
_MAX_DECIMALS: Final = 12
_LAST_MARKET: Final = 32_767


def check_spec(spec: MarketSpec) -> None:
    """Insist on rules that a market can have.

    Raises:
        VenueError: 20001, names the first that it cannot.
    """
    wrong = {
        "market_id": not 0 <= spec.market_id <= _LAST_MARKET or spec.market_id == NIL_MARKET_INDEX,
        "symbol": not spec.symbol,
        "price_decimals": not 0 <= spec.price_decimals <= _MAX_DECIMALS,
        "size_decimals": not 0 <= spec.size_decimals <= _MAX_DECIMALS,
        "min_base_lots": spec.min_base_lots < 1,
        "min_quote_micro": spec.min_quote_micro < 0,
        "initial_price_ticks": not 0 <= spec.initial_price_ticks <= MAX_PRICE_TICKS,
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise VenueError(Code.INVALID_PARAM, f"invalid param: {name}")


def lot_units(spec: MarketSpec, assets: dict[int, AssetSpec]) -> int:
    """Give how many units of the base asset a lot of a spot market is; 0 of another market.

    Raises:
        VenueError: 20001, the assets are not there or do not fit.
    """
    if not spec.is_spot:
        return 0
    base, quote = assets.get(spec.base_asset_id), assets.get(spec.quote_asset_id)
    if base is None or quote is None or quote.decimals != USDC.decimals or base.decimals < spec.size_decimals:
        raise VenueError(Code.INVALID_PARAM, "invalid param: the assets of the market")
    units: int = 10 ** (base.decimals - spec.size_decimals)
    return units


def carry_out(
    sequencer: Sequencer,
    command: ChangeMarket | SetMarketStatus | DelistMarket | CancelMarket,
    assets: dict[int, AssetSpec],
) -> MarketSpec:
    """Carry a command out; give the market's rules.

    Raises:
        VenueError: 21602, or 20001 for a grid that does not fit or while orders rest.
    """
    market = sequencer.state.market(command.market_id)
    match command:
        case ChangeMarket():
            market.spec = _changed(sequencer.state, market, command, assets)
        case SetMarketStatus(_, status):
            if status == _SETTLED:
                _settle(sequencer, market)
            market.spec = msgspec.structs.replace(market.spec, status=status)
        case DelistMarket():
            _settle(sequencer, market)
            market.spec = msgspec.structs.replace(market.spec, status=_SETTLED, is_listed=False)
        case CancelMarket():
            sequencer.open_orders.end_all_of(market)
    return market.spec


def _changed(state: VenueState, market: Market, command: ChangeMarket, assets: dict[int, AssetSpec]) -> MarketSpec:
    changes = {name: value for name, value in msgspec.structs.asdict(command).items() if value is not None}
    spec = msgspec.structs.replace(market.spec, **changes)
    check_spec(spec)
    rescaling = Rescaling(
        spec.price_decimals - market.spec.price_decimals, spec.size_decimals - market.spec.size_decimals
    )
    if any(rescaling):
        _check_grid(state, spec, rescaling)
        market.lot_units = lot_units(spec, assets)
        if command.min_base_lots is None:
            spec = msgspec.structs.replace(spec, min_base_lots=max(1, rescaling.lots(spec.min_base_lots)))
        spec = msgspec.structs.replace(spec, initial_price_ticks=rescaling.ticks(spec.initial_price_ticks))
        spec = msgspec.structs.replace(spec, settlement_cap=rescaling.ticks(spec.settlement_cap))
        market.rescale(spec, rescaling)
        _rescale_accounts(state, market, rescaling)
    return spec


def _check_grid(state: VenueState, spec: MarketSpec, rescaling: Rescaling) -> None:
    orders = (order for account in state.accounts.values() for order in account.orders.values())
    if any(order.market_id == spec.market_id for order in orders):
        raise VenueError(Code.INVALID_PARAM, "another grid takes an empty book: end the market's orders first")
    coarser = Rescaling(-rescaling.price_shift, -rescaling.size_shift)
    rows = [account.positions.get(spec.market_id) for account in state.accounts.values()]
    if any(row is not None and coarser.lots(rescaling.lots(row.lots)) != row.lots for row in rows):
        raise VenueError(Code.INVALID_PARAM, "invalid param: positions do not fit the grid")


def _rescale_accounts(state: VenueState, market: Market, rescaling: Rescaling) -> None:
    market_id = market.spec.market_id
    for account in state.accounts.values():
        row = account.positions.get(market_id)
        if row is not None:
            row.lots = rescaling.lots(row.lots)
        for order in account.inactive:
            if order.market_id == market_id:
                order.price_ticks = rescaling.ticks(order.price_ticks)
                order.trigger_price_ticks = rescaling.ticks(order.trigger_price_ticks)
                order.initial_lots = rescaling.lots(order.initial_lots)
                order.remaining_lots = rescaling.lots(order.remaining_lots)
                order.filled_lots = rescaling.lots(order.filled_lots)
        account.trades = deque(
            (rescaling.trade(trade) if trade.market_id == market_id else trade for trade in account.trades),
            maxlen=account.trades.maxlen,
        )


def _settle(sequencer: Sequencer, market: Market) -> None:
    """End a market's orders, and close its positions against each other at the mark price that was."""
    price_ticks = market.mark_price_ticks()
    sequencer.open_orders.end_all_of(market)
    held = [(account, account.position(market).lots) for account in sequencer.state.accounts.values()]
    longs = [(account, lots) for account, lots in held if lots > 0]
    shorts = [(account, -lots) for account, lots in held if lots < 0]
    while longs and shorts:
        (long, long_lots), (short, short_lots) = longs.pop(), shorts.pop()
        lots = min(long_lots, short_lots)
        sequencer.forced.deleverage(long, short, market, lots, price_ticks, kind=SETTLEMENT)
        longs += [(long, long_lots - lots)] if long_lots > lots else []
        shorts += [(short, short_lots - lots)] if short_lots > lots else []
