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

Where the venue does not tell it, it can be tried out. Of our own transactions the venue has consumed the accepted ones and
perhaps unknown ones behind them, so what it expects is one of few numbers (``suppose``). Just one transaction may leave with a
supposed number, until the venue takes it, which proves it, or calls it invalid, which proves that nothing was done.
"""

from __future__ import annotations

from typing import Final

DEFAULT_WINDOW: Final = 16
_SUPPOSITIONS: Final = 4  # one after the other, in one doubt


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
        self._expected: int | None = None  # by the venue, if it did nothing of what is unknown
        self._unknown: set[int] = set()  # not below the expected one
        self._invalid: set[int] = set()  # what the venue did not take since it did, or may have done, something
        self._supposed: int | None = None
        self._consumed = 0

    @property
    def consumed(self) -> int:
        """Count what the venue did or may have done: while that stays, its next nonce does too."""
        return self._consumed

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
        if self._next is None:
            return 0
        return (self._window if self._supposed is None else 1) - len(self._outstanding)

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
        self._next = self._expected = next_nonce
        self._unknown.clear()
        self._invalid.clear()
        self._supposed = None

    def suppose(self) -> bool:
        """Go on, with one transaction, from the likeliest number that was not called invalid; tell whether there is one.

        Raises:
            RuntimeError: an outcome is still to come, which may prove the number.
        """
        if self._outstanding:
            raise RuntimeError(f"cannot suppose anything with {len(self._outstanding)} outstanding nonces")
        if self._expected is None:
            return False
        all_done = max(self._unknown, default=self._expected - 1) + 1
        likely = dict.fromkeys((all_done, self._expected, *range(all_done - 1, self._expected, -1)))
        left = [nonce for nonce in list(likely)[:_SUPPOSITIONS] if nonce not in self._invalid]
        if left:
            self._next = self._supposed = left[0]
        return bool(left)

    def invalidate(self, nonce: int | None = None) -> None:
        """Forget the next nonce, for instance because the venue called ``nonce`` invalid (21104)."""
        self._next = self._supposed = None
        if nonce is not None:
            self._invalid.add(nonce)

    def allocate(self) -> int:
        """Give out the next nonce.

        Raises:
            RuntimeError: not synchronised, or the window is full.
        """
        if self._next is None:
            raise RuntimeError("the nonce sequence is not synchronised")
        if self.room <= 0:
            raise RuntimeError(f"{len(self._outstanding)} nonces are outstanding")
        nonce = self._next
        self._next += 1
        self._outstanding.add(nonce)
        return nonce

    def accepted(self, nonce: int) -> None:
        """Note that the venue queued the transaction: the nonce is consumed."""
        self._settle(nonce)
        self._consume()
        self._expected = max(nonce + 1, self._expected or 0)
        self._unknown = {other for other in self._unknown if other > nonce}

    def refused(self, nonce: int) -> None:
        """Note that the venue refused the transaction, or never saw it: the nonce is not consumed."""
        self._settle(nonce)
        is_proven = nonce != self._supposed
        self._next = nonce if is_proven and self._next == nonce + 1 else None
        self._supposed = None

    def unknown(self, nonce: int) -> None:
        """Note that the answer will not come."""
        self._settle(nonce)
        self._consume()
        self._next = None
        if nonce >= (self._expected or 0):
            self._unknown.add(nonce)

    def _consume(self) -> None:
        self._consumed += 1
        self._invalid.clear()
        self._supposed = None

    def _settle(self, nonce: int) -> None:
        if nonce not in self._outstanding:
            raise RuntimeError(f"nonce {nonce} is not outstanding")
        self._outstanding.remove(nonce)
