"""How orders end: the venue's statuses, and which of them a refusal would have been.

What the API refuses leaves nothing behind. What fails only when it is executed ends the order with a ``canceled-*`` status
instead. As at the venue, a *maker* (what would rest whole) is refused for want of margin or of a position to reduce; a *taker*
goes through and may end as canceled:

    post-only that would meet an order               canceled-post-only
    reduce-only with nothing (more) to reduce        canceled-reduce-only
    a fill, or the rest of a taker, beyond margin    canceled-margin-not-allowed
    the same of a spot market, beyond the balance    canceled-invalid-balance
    market order: average price would pass its bound canceled-too-much-slippage
    market order: other side empty                   canceled-not-enough-liquidity
    limit immediate-or-cancel, what is not filled    canceled
    would trade with itself                          canceled-self-trade (by default the maker)
    its time is over                                 canceled-expired
    its account is liquidated                        canceled-liquidation

What waits off the book ends with its parent (canceled-child) or for the other of two (canceled-oco), see ``pending``.
"""

from __future__ import annotations

from typing import Final

FILLED: Final = "filled"
CANCELED: Final = "canceled"
BALANCE: Final = "canceled-invalid-balance"
CHILD: Final = "canceled-child"
EXPIRED: Final = "canceled-expired"
LIQUIDATION: Final = "canceled-liquidation"
LIQUIDITY: Final = "canceled-not-enough-liquidity"
MARGIN: Final = "canceled-margin-not-allowed"
OCO: Final = "canceled-oco"
POST_ONLY: Final = "canceled-post-only"
REDUCE_ONLY: Final = "canceled-reduce-only"
SELF_TRADE: Final = "canceled-self-trade"
SLIPPAGE: Final = "canceled-too-much-slippage"
