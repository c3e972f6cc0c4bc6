"""An account's own matters over REST, for who may read it: what it was paid and paid, newest first; tier; maker-only keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from aiohttp import web

from qubx_lighter.constants import NIL_MARKET_INDEX, Code
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.accounts.margin import Risk
from qubx_lighter.sim.api.parameters import Parameters
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.exchange.liquidation import AccountRisk, Liquidation
from qubx_lighter.sim.markets.market_history import LATEST_MS
from qubx_lighter.sim.model.commands import AcknowledgeNotification, ChangeTier, Command, SetMakerOnlyKeys
from qubx_lighter.sim.model.records import DELEVERAGE, AccountType, FundingPayment
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.wire.account_rows import position_row
from qubx_lighter.sim.wire.texts import Row, decimal_text, micro_text, price_text, size_text, success

_PAGE: Final = 100
_RATE_DECIMALS: Final = 4
_SIDES: Final = ("all", "long", "short")

FindAccount = Callable[[web.Request, Parameters], Account]


class RestAccount:
    """The endpoints.

    Args:
        engine: the venue.
        find_account: finds the account that a request is about, and insists on a token of it.
    """

    def __init__(self, engine: Engine, find_account: FindAccount) -> None:
        self._engine = engine
        self._find_account = find_account

    def reads(self) -> dict[str, Callable[[web.Request, Parameters], Row]]:
        """List them by path."""
        return {
            "/api/v1/positionFunding": self.position_funding,
            "/api/v1/liquidations": self.liquidations,
            "/api/v1/accountLimits": self.account_limits,
            "/api/v1/getMakerOnlyApiKeys": self.maker_only_keys,
        }

    def writes(self) -> dict[str, Callable[[Account, Parameters], Command]]:
        """List by path what a posted form, about an account whose token comes with it, wants to be done."""
        return {
            "/api/v1/notification/ack": self.acknowledge,
            "/api/v1/changeAccountTier": self.change_tier,
            "/api/v1/setMakerOnlyApiKeys": self.set_maker_only_keys,
        }

    def account_limits(self, request: web.Request, params: Parameters) -> Row:
        """Answer ``accountLimits``; the fees are those of the first market, as all have the same."""
        account = self._find_account(request, params)
        spec = next(iter(self._engine.markets.values()), None)
        maker, taker = (spec.maker_fee_ppm, spec.taker_fee_ppm) if spec is not None else (0, 0)
        changed = {"user_tier_last_update": account.tier_changed_at // 10**6} if account.tier_changed_at else {}
        return success(
            max_llp_percentage=0,
            user_tier=account.tier,
            can_create_public_pool=account.account_type == AccountType.MASTER,
            max_llp_amount="0.000000",
            current_maker_fee_tick=account.fee_ppm(maker),
            current_taker_fee_tick=account.fee_ppm(taker),
            effective_lit_stakes="0",
            leased_lit="0",
            user_tier_name=account.tier,
            bo_user_tier_name="",
            bo_fee_rate=0,
            **changed,
        )

    def maker_only_keys(self, request: web.Request, params: Parameters) -> Row:
        """Answer ``getMakerOnlyApiKeys``."""
        return success(api_key_indexes=list(self._find_account(request, params).maker_only_keys))

    @staticmethod
    def set_maker_only_keys(account: Account, params: Parameters) -> Command:
        """Read ``setMakerOnlyApiKeys``: a list of indexes; an empty one frees all keys."""
        indexes = params.numbers("api_key_indexes")
        return SetMakerOnlyKeys(account.account_index, tuple(sorted(indexes)))

    @staticmethod
    def change_tier(account: Account, params: Parameters) -> Command:
        """Read ``changeAccountTier``."""
        return ChangeTier(account.account_index, params.text("new_tier"))

    @staticmethod
    def acknowledge(account: Account, params: Parameters) -> Command:
        """Read ``notification/ack``."""
        return AcknowledgeNotification(account.account_index, params.text("notif_id"))

    def position_funding(self, request: web.Request, params: Parameters) -> Row:
        """Answer ``positionFunding``; both bounds belong to the range, the cursor is the last row's ``funding_id``."""
        account = self._find_account(request, params)
        limit, before, side = params.integer("limit", low=1, high=_PAGE), params.cursor(), params.text("side", "all")
        if side not in _SIDES:
            raise VenueError(Code.INVALID_PARAM, "invalid param: side")
        start_ms, end_ms = params.time_ms("start_timestamp", 0), params.time_ms("end_timestamp", LATEST_MS)
        market_ids = params.numbers("market_ids")
        found = [
            payment
            for payment in reversed(account.fundings)
            if payment.funding_id < before
            and side in ("all", _side(payment))
            and start_ms <= payment.time // 1000 <= end_ms
            and (not market_ids or payment.market_id in market_ids)
        ]
        cursor = {"next_cursor": str(found[limit - 1].funding_id)} if len(found) > limit else {}
        return success(position_fundings=funding_rows(self._engine, found[:limit]), **cursor)

    def liquidations(self, request: web.Request, params: Parameters) -> Row:
        """Answer ``liquidations``: a row a trade; the cursor is the last row's ``id``."""
        account = self._find_account(request, params)
        limit, before, market_id = params.integer("limit", low=1, high=_PAGE), params.cursor(), params.market_id()
        found = [
            row
            for row in self._engine.liquidations(account.account_index)
            if row.liquidation_id < before and market_id in (None, row.trade.market_id)
        ]
        cursor = {"next_cursor": str(found[limit - 1].liquidation_id)} if len(found) > limit else {}
        return success(liquidations=[liquidation_row(self._engine, row) for row in found[:limit]], **cursor)


def funding_rows(engine: Engine, payments: Iterable[FundingPayment]) -> list[Row]:
    """Write payments."""
    return [_funding_row(engine.markets[payment.market_id], payment) for payment in payments]


def _funding_row(spec: MarketSpec, payment: FundingPayment) -> Row:
    """Write a payment: ``change`` is negative where it was paid; the rate is in percent, positive where longs pay."""
    return {
        "timestamp": payment.time // 10**6,
        "market_id": payment.market_id,
        "funding_id": payment.funding_id,
        "change": micro_text(payment.change_micro),
        "discount": micro_text(0),
        "rate": decimal_text(payment.rate, _RATE_DECIMALS),
        "position_size": size_text(spec, abs(payment.lots)),
        "position_side": _side(payment),
    }


def _side(payment: FundingPayment) -> str:
    return "long" if payment.lots > 0 else "short"


def liquidation_row(engine: Engine, row: Liquidation) -> Row:
    """Write one trade by which a position was closed: how the account stood before and after, and what it held before."""
    trade = row.trade
    spec, account = engine.markets[trade.market_id], engine.account(row.account_index)
    assert account is not None, "it was liquidated"
    return {
        "id": row.liquidation_id,
        "market_id": trade.market_id,
        "type": "deleverage" if trade.kind == DELEVERAGE else "partial",
        "trade": {
            "price": price_text(spec, trade.price_ticks),
            "size": size_text(spec, trade.lots),
            "taker_fee": str(trade.taker_fee_ppm),
            "maker_fee": str(trade.maker_fee_ppm),
            "transaction_time": trade.time,
            "bid_account_id": trade.bid_account,
            "ask_account_id": trade.ask_account,
        },
        "info": {
            "positions": [
                position_row(engine, account, position, row.marks[position.market_id]) for position in row.positions
            ],
            "risk_info_before": _risk_rows(row.before),
            "risk_info_after": _risk_rows(row.after),
            "mark_prices": {
                str(market_id): float(price_text(engine.markets[market_id], ticks))
                for market_id, ticks in row.marks.items()
            },
            "assets": [],
            "asset_index_prices": {},
        },
        "executed_at": trade.time // 1000,
    }


def _risk_rows(risk: AccountRisk) -> Row:
    return {
        "cross_risk_parameters": _risk_row(NIL_MARKET_INDEX, risk.cross),
        "isolated_risk_parameters": [_risk_row(market_id, one) for market_id, one in risk.isolated.items()],
    }


def _risk_row(market_id: int, risk: Risk) -> Row:
    value, collateral = micro_text(risk.value_micro), micro_text(risk.collateral_micro)
    return {
        "market_id": market_id,
        "collateral": collateral,
        "total_account_value": value,
        "initial_margin_req": micro_text(risk.initial_micro),
        "maintenance_margin_req": micro_text(risk.maintenance_micro),
        "close_out_margin_req": micro_text(risk.closeout_micro),
        "total_account_liquidation_threshold": value,
        "usdc_collateral_with_funding": collateral,
        "usdc_portfolio_value": value,
        "total_portfolio_value": value,
    }
