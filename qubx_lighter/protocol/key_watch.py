"""Whether somebody else signs with our API key: what proves it, and what only looks like it.

Theory of operation. Two processes on one key take each other's nonces. An invalid nonce (21104) alone proves nothing, since
one lost reply of our own leads to it. These do:

* The venue's next nonce counts transactions that we never wrote. Those of ours whose outcome is unknown may be among them.
* The account's stream shows a transaction of our key whose nonce we never wrote, or wrote under other hashes only. What
  comes before the first nonce that the venue told us belongs to a former run.

Hashes count only once a reply has shown that the venue's are the ones we compute.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_REMEMBERED: Final = 20_000


class KeyWatch:
    """Follow the nonces of one API key; bounded, the oldest are forgotten first.

    Args:
        remember: how many nonces.
    """

    def __init__(self, remember: int = _REMEMBERED) -> None:
        self._remember = remember
        self._written: OrderedDict[int, set[str]] = OrderedDict()
        self._consumed: set[int] = set()  # by us, or perhaps by us
        self._start: int | None = None
        self._known_to: int = -1  # every nonce below is accounted for
        self._same_hashes = False

    def synchronised(self, next_nonce: int) -> bool:
        """Take the venue's next nonce while nothing is under way; tell whether it counts transactions of somebody else."""
        if self._start is None:
            self._start = self._known_to = next_nonce
            return False
        strangers = any(nonce not in self._consumed for nonce in range(self._first_unknown(), next_nonce))
        self._known_to = max(self._known_to, next_nonce)
        return strangers

    def written(self, nonce: int, tx_hash: str) -> None:
        """Note that we wrote a transaction."""
        self._written.setdefault(nonce, set()).add(tx_hash)
        while len(self._written) > self._remember:
            oldest, _ = self._written.popitem(last=False)
            self._consumed.discard(oldest)

    def accepted(self, nonce: int, venue_hash: str) -> None:
        """Note that the venue took it."""
        self._consumed.add(nonce)
        hashes = self._written.setdefault(nonce, set())
        if venue_hash:
            self._same_hashes |= venue_hash in hashes
            hashes.add(venue_hash)

    def unknown(self, nonce: int) -> None:
        """Note that nobody knows whether the venue took it."""
        self._consumed.add(nonce)

    def is_strange(self, nonce: int, tx_hash: str) -> bool:
        """Tell whether somebody else signed this transaction, which the account's stream shows under our key."""
        if self._start is None or nonce < self._first_remembered():
            return False
        hashes = self._written.get(nonce)
        return hashes is None or (self._same_hashes and tx_hash not in hashes)

    def _first_unknown(self) -> int:
        return max(self._known_to, self._first_remembered())

    def _first_remembered(self) -> int:
        start = self._start or 0
        return start if len(self._written) < self._remember else max(start, next(iter(self._written)))
