"""What goes wrong on purpose: one table of faults, drawn from where things happen, the same for the same seed.

==============  ====================================  =============================================================
fault           ``where`` (a prefix; empty: anywhere) what happens
==============  ====================================  =============================================================
``refuse``      transaction type, as ``14``           the API answers ``code`` and ``text``; nothing is executed
``fail``        transaction type                      answered 200, then the sequencer refuses: ``text`` is its ``ae``
``end``         transaction type                      what is left of the order that it places ends with status ``text``
``swallow``     transaction type                      executed, and never answered
``delay``       transaction type                      executed, answered after ``seconds``
``cut-before``  transaction type                      the socket is cut, nothing is executed
``cut-after``   transaction type                      executed, then the socket is cut
``deny``        channel, as ``account_tx/100``        a subscribe is answered with ``code`` and ``text``
``lose-ack``    channel, as ``account_tx/100``        subscribed, and no ``subscribed/...`` frame comes
``lose``        channel label, as ``order_book:0``    an update never leaves
``duplicate``   channel label                         an update leaves twice
``reorder``     channel label                         an update leaves behind the next one of any channel, or 50 ms later
``late``        channel label                         an update comes after the snapshot of the next subscription instead
``cross``       ``order_book``                        a delta shows a bid above the best ask
``error``       path, as ``/api/v1/trades``           HTTP status ``code``, with ``text`` (JSON or not) or an HTML page
``hang``        path                                  no answer for ``seconds``
==============  ====================================  =============================================================

Of a batch of transactions ``batch`` stands for the type, but for ``fail``, which strikes each by its own; ``end`` none.

A specification (``qubx-lighter sim --faults``) lists them, one after another with ``;``, each with its options:
``refuse where=14 code=21739 every=50; swallow every=100; error where=/api/v1/trades code=503 times=3``. ``every`` is one in so
many, at random; ``times`` how often at most, 0 for no limit; without it, once for what strikes every time, else no limit.
Nothing of it is in the journal; what it did to orders is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from random import Random

from qubx_lighter.errors import ConfigurationError


class Kind(StrEnum):
    """What goes wrong."""

    REFUSE = "refuse"
    FAIL = "fail"
    END = "end"
    SWALLOW = "swallow"
    DELAY = "delay"
    CUT_BEFORE = "cut-before"
    CUT_AFTER = "cut-after"
    DENY = "deny"
    LOSE_ACK = "lose-ack"
    LOSE = "lose"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    LATE = "late"
    CROSS = "cross"
    ERROR = "error"
    HANG = "hang"


@dataclass(frozen=True)
class Fault:
    """One row of the table above, with its options."""

    kind: Kind
    where: str = ""
    every: int = 1
    times: int | None = None
    code: int = 0
    text: str = ""
    seconds: float = 0.0

    @property
    def limit(self) -> int:
        """How often it strikes at most; 0 for no limit."""
        return (1 if self.every == 1 else 0) if self.times is None else self.times


def parse(specification: str) -> list[Fault]:
    """Read a specification.

    Raises:
        ConfigurationError: names what cannot be read.
    """
    return [_parse_one(part.split()) for part in specification.split(";") if part.strip()]


def _parse_one(words: list[str]) -> Fault:
    kinds, options = {kind.value: kind for kind in Kind}, {field.name for field in fields(Fault)} - {"kind"}
    if words[0] not in kinds:
        raise ConfigurationError(f"unknown fault {words[0]!r}; there are {', '.join(kinds)}")
    given: dict[str, str | int | float] = {}
    for word in words[1:]:
        name, _, value = word.partition("=")
        if name not in options:
            raise ConfigurationError(f"unknown option {word!r} of the fault {words[0]}; there are {sorted(options)}")
        try:
            given[name] = value if name in ("where", "text") else float(value) if name == "seconds" else int(value)
        except ValueError:
            raise ConfigurationError(f"{word!r} of the fault {words[0]} is no number") from None
    return Fault(kinds[words[0]], **given)  # type: ignore[arg-type]  # by name, of the types that the fields have


class Faults:
    """Draw faults.

    Args:
        table: what goes wrong; ``add`` adds more.
        seed: of the chance.

    Attributes:
        met: how often each kind could have struck.
        struck: how often each did.
    """

    def __init__(self, table: Iterable[Fault] = (), seed: int = 0) -> None:
        self.met: Counter[Kind] = Counter()
        self.struck: Counter[Kind] = Counter()
        self._random = Random(seed)  # noqa: S311 - a fault, not a secret
        self._rows: list[tuple[Fault, int]] = []  # with how often it has struck
        self._held: list[tuple[str, str]] = []
        self._late: list[tuple[str, str]] = []
        for fault in table:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Add a row; of several that could strike, the first one does."""
        self._rows.append((fault, 0))

    def clear(self) -> None:
        """Let nothing go wrong any more; what is held back stays until it is due."""
        self._rows.clear()

    def draw(self, kind: Kind, where: str) -> Fault | None:
        """Draw whether something goes wrong here, and what."""
        for place, (fault, times) in enumerate(self._rows):
            if fault.kind is not kind or not where.startswith(fault.where):
                continue
            self.met[kind] += 1
            if fault.every > 1 and self._random.random() * fault.every >= 1:
                continue
            self.struck[kind] += 1
            if times + 1 == fault.limit:
                del self._rows[place]
            else:
                self._rows[place] = fault, times + 1
            return fault
        return None

    # --- frames ------------------------------------------------------------------------------------------------------

    def pass_on(self, key: str, text: str) -> list[tuple[str, str]]:
        """Turn one frame of a channel into those, with their channels, that leave now."""
        if not self._rows and not self._held:
            return [(key, text)]
        if self.draw(Kind.LOSE, key) is not None:
            return []
        if self.draw(Kind.LATE, key) is not None:
            self._late.append((key, text))
            return []
        if self.draw(Kind.REORDER, key) is not None:
            self._held.append((key, text))
            return []
        copies = 1 if self.draw(Kind.DUPLICATE, key) is None else 2
        return [*[(key, text)] * copies, *self.release()]

    def release(self) -> list[tuple[str, str]]:
        """Take the frames that were held back to leave behind others."""
        held, self._held = self._held, []
        return held

    def late(self, key: str) -> list[str]:
        """Take the frames of a channel that come late, now that it is subscribed again."""
        due = [text for other, text in self._late if other == key]
        self._late = [(other, text) for other, text in self._late if other != key]
        return due
