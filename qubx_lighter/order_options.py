"""What the options of an order request say, each read and checked; ``order_plan`` makes orders of it.

Options beside Qubx's own (``reduce_only``, ``post_only``, ``stop_type``, ``reprice_if_crossing``):

===================  ==================================================================================================
``trigger_type``     of a stop order: ``stop_loss`` (the default) or ``take_profit``
``limit_price``      of a stop-limit order: the limit once triggered; without it the trigger price
``slippage``         of what takes whatever is there: worst price, as a fraction of the best, or of the trigger price
``expires_in_s``     lifetime, 305 s (five minutes from the arrival at the venue) to 30 days
``twap_s``           work the order over that time
``take_profit``      close the position there: a trigger price, or ``{"trigger": ..., "limit_price": ...}``; on a stop order
                     the two cancel each other (OCO), on any other they wait for its fill (OTO, with both OTOCO)
``stop_loss``        the same
``self_trade``       ``expire_maker`` (the default), ``expire_taker``, ``expire_both`` or ``reduce``
``self_trade_scope`` ``account`` (the default) or ``master_account``
===================  ==================================================================================================

Other options are none of ours and are left alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from qubx.core.basics import OrderRequest
from qubx.core.exceptions import InvalidOrderParameters

from qubx_lighter.constants import SelfTradeBehavior, SelfTradeScope
from qubx_lighter.protocol.order_table import SelfTrade, Terms, select, self_trade_refusal

_LEGS: Final = ("take_profit", "stop_loss")
_LEG_FIELDS: Final = {"trigger", "limit_price"}
_BEHAVIORS: Final = {behavior.name.lower(): behavior for behavior in SelfTradeBehavior}
_SCOPES: Final = {scope.name.lower(): scope for scope in SelfTradeScope}
_DEFAULT_SELF_TRADE: Final = SelfTrade()


class Leg(NamedTuple):
    """What closes a position in a group, a ``take_profit`` or ``stop_loss``; ``limit`` None: at market once triggered."""

    name: str
    trigger: float
    limit: float | None


def terms_of(request: OrderRequest) -> Terms:
    """Find the venue's order type and time in force.

    Raises:
        InvalidOrderParameters: they do not go together.
    """
    options = request.options
    try:
        if not options:
            return select(request.order_type, request.time_in_force)
        return select(
            request.order_type,
            request.time_in_force,
            post_only=bool(options.get("post_only")),
            trigger_type=str(options.get("trigger_type", "stop_loss")).lower(),
            twap=options.get("twap_s") is not None,
        )
    except ValueError as error:
        raise InvalidOrderParameters(str(error)) from error
    except (TypeError, AttributeError) as error:
        given = f"order_type {request.order_type!r}, time_in_force {request.time_in_force!r}"
        raise InvalidOrderParameters(f"an order's type and time in force are words, not {given}") from error


def trigger_of(request: OrderRequest) -> float:
    """Read the trigger of a stop order, which Qubx has for its price.

    Raises:
        InvalidOrderParameters: there is none.
    """
    if request.price is None:
        raise InvalidOrderParameters(f"a {request.order_type} order needs a price: its trigger")
    return request.price


def legs_of(options: Mapping[str, Any]) -> list[Leg]:
    """Read what is to close the position: the take-profit, then the stop-loss.

    Raises:
        InvalidOrderParameters: one has no trigger, a price that is none, or something else besides.
    """
    return [leg for leg in [_leg(options, name) for name in _LEGS if name in options] if leg is not None]


def self_trade_of(options: Mapping[str, Any]) -> SelfTrade:
    """Read what is to happen where an order would meet one of the account's own.

    Raises:
        InvalidOrderParameters: there is no such behaviour.
    """
    if "self_trade" not in options and "self_trade_scope" not in options:
        return _DEFAULT_SELF_TRADE
    behavior = _word(options, "self_trade", _BEHAVIORS, SelfTradeBehavior.EXPIRE_MAKER)
    scope = _word(options, "self_trade_scope", _SCOPES, SelfTradeScope.ACCOUNT)
    self_trade = SelfTrade(behavior, scope)
    if (refusal := self_trade_refusal(self_trade)) is not None:
        raise InvalidOrderParameters(refusal)
    return self_trade


def positive(options: Mapping[str, Any], name: str) -> float | None:
    """Read a number above 0; None where it is not given.

    Raises:
        InvalidOrderParameters: it is something else.
    """
    given = options.get(name)
    if given is None:
        return None
    try:
        number = float(given)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(given, bool) or not (math.isfinite(number) and number > 0):
        raise InvalidOrderParameters(f"{name} is a number above 0, not {given!r}")
    return number


def _leg(options: Mapping[str, Any], name: str) -> Leg | None:
    given = options.get(name)
    if given is None:
        return None
    if not isinstance(given, Mapping):
        given = {"trigger": given}
    if unknown := given.keys() - _LEG_FIELDS:
        raise InvalidOrderParameters(
            f"{name} takes trigger and limit_price, not {', '.join(sorted(map(str, unknown)))}"
        )
    trigger = positive(given, "trigger")
    if trigger is None:
        raise InvalidOrderParameters(f"{name} needs a trigger price")
    return Leg(name, trigger, positive(given, "limit_price"))


def _word[T](options: Mapping[str, Any], name: str, known: Mapping[str, T], default: T) -> T:
    given = options.get(name)
    if given is None:
        return default
    found = known.get(str(given).lower())
    if found is None:
        raise InvalidOrderParameters(f"{name} {given!r} is not known: use one of {', '.join(known)}")
    return found
