"""What accounts hold of assets, as the venue writes it: ``assetDetails``, ``assets`` of accounts, average entry prices."""

from __future__ import annotations

from typing import Final

from qubx_lighter.sim.accounts.assets import USDC, Holding
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.exchange.transfers import least_transfer, least_withdrawal
from qubx_lighter.sim.exchange.view import View
from qubx_lighter.sim.model.specs import AssetSpec, MarketSpec
from qubx_lighter.sim.wire.texts import Row, decimal_text, micro_text, price_text

_ENTRY_DECIMALS: Final = 6
_MAX_SUPPLY: Final = "1000000000"
_NO_ADDRESS: Final = "0x" + 40 * "0"


def units_text(asset: AssetSpec, units: int) -> str:
    """Write an amount of an asset."""
    return decimal_text(units, asset.decimals)


def account_assets(view: View, account: Account) -> dict[str, Row]:
    """Write what an account has by asset id; its collateral is the margin balance of USDC, also where that is all."""
    held = {USDC.asset_id: Holding()} | account.assets
    return {
        str(asset_id): {
            "symbol": (asset := view.assets[asset_id]).symbol,
            "asset_id": asset_id,
            "balance": units_text(asset, holding.balance),
            "locked_balance": units_text(asset, holding.locked),
            "margin_balance": micro_text(account.collateral_micro if asset == USDC else 0),
            "margin_mode": "disabled",
            "multiplier": "1",
        }
        for asset_id, holding in held.items()
    }


def entry_prices(view: View, account: Account) -> dict[str, Row]:
    """Write at what prices an account bought what it still has, by asset id."""
    return {
        str(asset_id): {
            "asset_id": asset_id,
            "avg_entry_price": micro_text(holding.cost_micro * view.assets[asset_id].scale // holding.bought_units),
            "asset_size": units_text(view.assets[asset_id], holding.bought_units),
            "last_trade_id": holding.last_trade_id,
        }
        for asset_id, holding in account.assets.items()
        if holding.bought_units
    }


def asset_detail(view: View, asset: AssetSpec) -> Row:
    """Write an asset as ``assetDetails`` does; its price is that of its spot market, else of the perpetual of its name."""
    held = (account.assets.get(asset.asset_id) for account in view.accounts())
    supplied = sum(holding.balance for holding in held if holding is not None)
    priced = _priced_by(view, asset)
    price = "1.000000"
    if asset != USDC:
        price = price_text(priced, view.mark_price_ticks(priced.market_id)) if priced is not None else "0"
    return {
        "asset_id": asset.asset_id,
        "symbol": asset.symbol,
        "l1_decimals": asset.l1_decimals,
        "decimals": asset.decimals,
        "min_transfer_amount": units_text(asset, least_transfer(asset.asset_id)),
        "min_withdrawal_amount": units_text(asset, least_withdrawal(asset.asset_id)),
        "margin_mode": "enabled" if asset == USDC else "disabled",
        "index_price": price,
        "l1_address": _NO_ADDRESS,
        "global_supply_cap": _MAX_SUPPLY,
        "liquidation_fee": "0",
        "liquidation_threshold": "0",
        "loan_to_value": "0",
        "price_decimals": _ENTRY_DECIMALS,
        "total_supplied": units_text(asset, supplied),
        "user_supply_cap": _MAX_SUPPLY,
        "liquidation_factor": "0",
        "multiplier": "1",
    }


def _priced_by(view: View, asset: AssetSpec) -> MarketSpec | None:
    listed = view.listed()
    spot = (spec for spec in listed if spec.is_spot and spec.base_asset_id == asset.asset_id)
    perpetual = (spec for spec in listed if spec.is_perpetual and spec.symbol == asset.symbol)
    return next(spot, None) or next(perpetual, None)
