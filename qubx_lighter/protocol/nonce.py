"""One API key's nonces: which number the next transaction takes, and when only the venue can tell.

Theory of operation (https://apidocs.lighter.xyz/docs/trading). The venue takes a transaction only with exactly the last
nonce + 1. A transaction that it queued (code 200) consumed its nonce, whatever becomes of it later; one that the API
refused did not; of one without an answer nobody knows. So, for each outcome:

=========  ==========================  ======================================================================
outcome    of the newest allocation    of an older one
=========  ==========================  ======================================================================
accepted   nothing to do               nothing to do
refused    the number is free again    a hole: later numbers will be refused too; resynchronise
unknown    resynchronise               resynchronise
=========  ==========================  ======================================================================

To resynchronise is to ask the venue for its next nonce once nothing is outstanding: while an answer is under way that
number may still change.
"""

from __future__ import annotations

from typing import Final

DEFAULT_WINDOW: Final = 16


class NonceSequence:
    """Give out nonces in order, and take back what the outcomes say.

    Args:
        window: how many allocations may be without an outcome at a time.
    """

    def __init__(self, *, window: int = DEFAULT_WINDOW) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1, not {window}")
        self._window = window
        self._next: int | None = None
        self._outstanding: set[int] = set()

    @property
    def synchronised(self) -> bool:
        """Tell whether the next nonce is known."""
        return self._next is not None

    @property
    def needs_sync(self) -> bool:
        """Tell whether the venue must be asked before another nonce can be given out."""
        return self._next is None

    @property
    def room(self) -> int:
        """How many times ``allocate`` would succeed."""
        return 0 if self._next is None else self._window - len(self._outstanding)

    @property
    def outstanding(self) -> frozenset[int]:
        """List the nonces given out whose outcome is not told yet."""
        return frozenset(self._outstanding)

    def synchronise(self, next_nonce: int) -> None:
        """Start, or go on, from what the venue says is next.

        Raises:
            RuntimeError: an outcome is still to come, so ``next_nonce`` may be wrong already.
        """
        if self._outstanding:
            raise RuntimeError(f"cannot synchronise with {len(self._outstanding)} outstanding nonces")
        self._next = next_nonce

    def invalidate(self) -> None:
        """Forget the next nonce, for instance because the venue called one invalid (21104)."""
        self._next = None

    def allocate(self) -> int:
        """Give out the next nonce.

        Raises:
            RuntimeError: not synchronised, or the window is full.
        """
        if self._next is None:
            raise RuntimeError("the nonce sequence is not synchronised")
        if len(self._outstanding) >= self._window:
            raise RuntimeError(f"{self._window} nonces are outstanding")
        nonce = self._next
        self._next += 1
        self._outstanding.add(nonce)
        return nonce

    def accepted(self, nonce: int) -> None:
        """Note that the venue queued the transaction: the nonce is consumed."""
        self._settle(nonce)

    def refused(self, nonce: int) -> None:
        """Note that the venue refused the transaction, or never saw it: the nonce is not consumed."""
        self._settle(nonce)
        self._next = nonce if self._next == nonce + 1 else None

    def unknown(self, nonce: int) -> None:
        """Note that the answer will not come."""
        self._settle(nonce)
        self._next = None

    def _settle(self, nonce: int) -> None:
        if nonce not in self._outstanding:
            raise RuntimeError(f"nonce {nonce} is not outstanding")
        self._outstanding.remove(nonce)
