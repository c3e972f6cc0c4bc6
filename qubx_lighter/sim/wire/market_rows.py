"""Markets as the venue writes them: their rules, and their last day."""

from __future__ import annotations

from qubx_lighter.sim.exchange.view import View
from qubx_lighter.sim.markets.market_history import Day
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.wire.texts import MICRO_DECIMALS, Row, micro_text, percent_text, price_text, size_text


def market_row(view: View, spec: MarketSpec) -> Row:
    """Write a market as ``orderBooks`` lists it."""
    interest = view.quote_micro(
        spec.market_id, view.mark_price_ticks(spec.market_id), view.open_interest_lots(spec.market_id)
    )
    return _market_rules(spec) | {"open_interest": micro_text(interest)}


def _market_rules(spec: MarketSpec) -> Row:
    return {
        "symbol": spec.symbol,
        "market_id": spec.market_id,
        "market_type": spec.market_type,
        "base_asset_id": spec.base_asset_id,
        "quote_asset_id": spec.quote_asset_id,
        "status": spec.status,
        "taker_fee": percent_text(spec.taker_fee_ppm),
        "is_taker_fee_enabled": True,
        "maker_fee": percent_text(spec.maker_fee_ppm),
        "is_maker_fee_enabled": True,
        "liquidation_fee": "1.0000",
        "min_base_amount": size_text(spec, spec.min_base_lots),
        "min_quote_amount": micro_text(spec.min_quote_micro),
        "order_quote_limit": "281474976.710655",
        "supported_size_decimals": spec.size_decimals,
        "supported_price_decimals": spec.price_decimals,
        "supported_quote_decimals": MICRO_DECIMALS,
        "created_at": str(spec.created_at_ms),
        "multiplier": "1",
        "start_timestamp": 0,
        "end_timestamp": 0,
        "settlement_type": 0,
        "settlement_price": 0,
        "settlement_cap": spec.settlement_cap,
        "outcome": 0,
        "default_price": 0,
        "operator_account_index": 0,
        "is_frozen": False,
    }


def market_detail_row(view: View, spec: MarketSpec, now_ms: int) -> Row:
    """Write a perpetual as ``orderBookDetails`` does."""
    mark = view.mark_price_ticks(spec.market_id)
    premium = view.history(spec.market_id).index.at(now_ms * 1000)
    return _traded_row(view, spec, now_ms) | {
        "quote_multiplier": 1,
        "default_initial_margin_fraction": spec.default_initial_margin_fraction,
        "min_initial_margin_fraction": spec.min_initial_margin_fraction,
        "maintenance_margin_fraction": spec.maintenance_margin_fraction,
        "closeout_margin_fraction": spec.closeout_margin_fraction,
        "open_interest": float(size_text(spec, view.open_interest_lots(spec.market_id))),
        "market_config": {
            "market_margin_mode": 0,
            "insurance_fund_account_index": 281474976710655,
            "liquidation_mode": 0,
            "force_reduce_only": spec.force_reduce_only,
            "trading_hours": spec.trading_hours,
            "funding_fee_discounts_enabled": False,
            "hidden": False,
            "rfq_enabled": False,
        },
        "strategy_index": 0,
        "funding_clamp_small": "0.0500",
        "funding_clamp_big": "4.0000",
        "base_interest_rate": "0.0100",
        "mark_price": price_text(spec, mark),
        "index_price": price_text(spec, premium.index_ticks(mark)),
        "market_flags": 0,
        "funding_premium_multiplier": 1,
    }


def spot_detail_row(view: View, spec: MarketSpec, now_ms: int) -> Row:
    """Write a spot market as ``orderBookDetails`` does."""
    return _traded_row(view, spec, now_ms) | {"open_interest": micro_text(0)}


def _traded_row(view: View, spec: MarketSpec, now_ms: int) -> Row:
    """Write the rules of a market, and its last day."""
    history = view.history(spec.market_id)
    day = history.last_day(now_ms)
    return (
        _market_rules(spec)
        | {
            "size_decimals": spec.size_decimals,
            "price_decimals": spec.price_decimals,
            "last_trade_price": float(price_text(spec, history.last_trade_ticks())),
            "daily_trades_count": day.trades,
            "daily_chart": {},
        }
        | daily_figures(spec, day)
    )


def daily_figures(spec: MarketSpec, day: Day) -> Row:
    """Write what a day's trades add up to, in numbers as the venue does."""
    return {
        "daily_base_token_volume": float(size_text(spec, day.lots)),
        "daily_quote_token_volume": float(micro_text(day.quote_micro)),
        "daily_price_low": float(price_text(spec, day.low_ticks)),
        "daily_price_high": float(price_text(spec, day.high_ticks)),
        "daily_price_change": (day.last_ticks - day.first_ticks) * 100 / day.first_ticks if day.first_ticks else 0.0,
    }
