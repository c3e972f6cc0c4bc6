"""The figures of single markets, told as the channel of all markets tells them.

``qubx-lighter record`` keeps ``market_stats/{market}``, of the markets that it was asked for; the connector listens to
``market_stats/all``, and hears of these.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Final

import msgspec

from qubx_lighter.sim.wire import frames
from qubx_lighter.sim.wire.texts import Row

KINDS: Final = ("market_stats", "spot_market_stats")

_frames: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def of_all(kind: str, recorded: Iterable[tuple[str, str, int]]) -> list[tuple[str, int]]:
    """Write frames of the channel of all markets.

    Each carries one market, as most of the venue's updates do; the first is the snapshot. So a market is in none of them
    before its own first frame came.

    Args:
        kind: ``market_stats`` or ``spot_market_stats``.
        recorded: a market's id, a frame of its own channel, and when that was sent, ms; those of a market in order.

    Returns:
        frames, and when each was sent; what has no figures in it is left out.
    """
    written: list[tuple[str, int]] = []
    for market_id, text, time in sorted(recorded, key=itemgetter(2)):
        fields = _fields(text)
        if kind in fields:
            frame: Row = {"channel": f"{kind}:all", kind: {market_id: fields[kind]}}
            if "timestamp" in fields:
                frame["timestamp"] = fields["timestamp"]
            frame["type"] = f"{'update' if written else 'subscribed'}/{kind}"
            written.append((frames.encode(frame), time))
    return written


def _fields(text: str) -> dict[str, msgspec.Raw]:
    try:
        return _frames.decode(text)
    except msgspec.MsgspecError:
        return {}
