"""A market's trades, all that can be asked for page by page: the newest as they are, older ones packed.

A packed trade takes about 90 bytes, so that a venue may run for days: a million of them are kept.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from qubx_lighter.sim.model.records import Trade

_RECENT: Final = 10_000
_PACK: Final = 500
_PACKS: Final = 2_000
_FASTEST: Final = 1

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[Trade])


class _Pack(NamedTuple):
    """Consecutive trades."""

    first_id: int
    packed: bytes
    changes: int  # how many had been made to all trades before

    def trades(self) -> list[Trade]:
        return _decoder.decode(zlib.decompress(self.packed))


class TradeLog:
    """The trades of one market.

    Args:
        recent: how many are kept as they are.
        packs: how many packs of 500 are kept besides.

    Attributes:
        recent: the newest, oldest first; to read.
        forgot: whether the oldest have gone for good.
    """

    def __init__(self, recent: int = _RECENT, packs: int = _PACKS) -> None:
        self.recent: deque[Trade] = deque(maxlen=recent)
        self.forgot = False
        self._leaving: list[Trade] = []
        self._packs: deque[_Pack] = deque(maxlen=packs)
        self._changes: list[Callable[[Trade], Trade]] = []

    def append(self, trade: Trade) -> None:
        """Add the newest trade."""
        if len(self.recent) == self.recent.maxlen:
            self._leaving.append(self.recent[0])
            if len(self._leaving) == _PACK:
                self._pack()
        self.recent.append(trade)

    def rescale(self, change: Callable[[Trade], Trade]) -> None:
        """Change what all trades say; packed ones when they are asked for."""
        for place, trade in enumerate(self.recent):
            self.recent[place] = change(trade)
        self._leaving = list(map(change, self._leaving))
        self._changes.append(change)

    def before(self, trade_id: int, limit: int) -> list[Trade]:
        """Give the newest trades with a lower id, newest first."""
        return list(islice(self._before(trade_id), limit))

    def _pack(self) -> None:
        packed = zlib.compress(_encoder.encode(self._leaving), _FASTEST)
        self.forgot = self.forgot or len(self._packs) == self._packs.maxlen
        self._packs.append(_Pack(self._leaving[0].trade_id, packed, len(self._changes)))
        self._leaving = []

    def _before(self, trade_id: int) -> Iterator[Trade]:
        for trades in self._newest_first(trade_id):
            for trade in trades:
                if trade.trade_id < trade_id:
                    yield trade

    def _newest_first(self, trade_id: int) -> Iterator[Iterable[Trade]]:
        yield reversed(self.recent)
        yield reversed(self._leaving)
        for pack in reversed(self._packs):
            if pack.first_id < trade_id:
                yield reversed(self._unpack(pack))

    def _unpack(self, pack: _Pack) -> list[Trade]:
        trades = pack.trades()
        for change in self._changes[pack.changes :]:
            trades = list(map(change, trades))
        return trades
