"""What the venue's error codes mean for a transaction: its outcome, why, what to do.

``code_table`` lists every code. A transaction that the API refused did not consume its nonce
(https://apidocs.lighter.xyz/docs/trading); after the venue's own errors (29500, 29501) nobody knows. What the sequencer
refuses later is told in words (``ae`` of a transaction's ``event_info``), of which nobody documents the form: the
venue's name of the error, its text, and a JSON of code and message are all understood.
"""

from __future__ import annotations

import json
from enum import Enum, auto
from typing import Final

from qubx_lighter.constants import CODE_OK
from qubx_lighter.protocol.code_table import TABLE, Cause, Recovery, Refusal

__all__ = [
    "Cause",
    "Outcome",
    "Recovery",
    "Refusal",
    "cause_of_code",
    "known_codes",
    "outcome_of_code",
    "refusal_of",
    "refusal_of_failure",
]


class Outcome(Enum):
    """What became of a transaction that was to be sent."""

    ACCEPTED = auto()  # code 200: queued; the order's own fate shows on the account channels
    REFUSED = auto()  # provably not executed
    UNKNOWN = auto()  # something left, nothing came back: look before acting again


_REFUSALS: Final = {refusal.code: refusal for group in TABLE.values() for refusal in group}
_BY_WORDS: Final = {  # of two codes with the same words the lower one, which comes last here
    words.casefold(): _REFUSALS[code]
    for code in sorted(_REFUSALS, reverse=True)
    for words in (_REFUSALS[code].name, _REFUSALS[code].text)
    if words
}
_PREFIXES: Final = ("AppErr", "App")


def known_codes() -> list[int]:
    """List every code of the table, rising."""
    return sorted(_REFUSALS)


def refusal_of(code: int) -> Refusal:
    """Explain an error code; an unlisted one is a plain refusal for an unknown cause."""
    return _REFUSALS.get(code) or Refusal(code)


def refusal_of_failure(reason: str) -> Refusal:
    """Explain why the sequencer refused; words that nobody knows are a plain refusal without a code."""
    try:
        told = json.loads(reason)
    except ValueError:
        told = None
    if isinstance(told, dict) and isinstance(told.get("code"), int):
        return refusal_of(told["code"])
    words = reason.strip()
    for prefix in _PREFIXES:
        if words.startswith(prefix):
            words = words.removeprefix(prefix)
            break
    return _BY_WORDS.get(words.casefold()) or Refusal(0)


def cause_of_code(code: int) -> Cause:
    """Give the cause behind an error code."""
    return refusal_of(code).cause


def outcome_of_code(code: int) -> Outcome:
    """Tell what became of a transaction that was answered with ``code`` (200 or an error code)."""
    if code == CODE_OK:
        return Outcome.ACCEPTED
    return Outcome.UNKNOWN if refusal_of(code).nonce_consumed is None else Outcome.REFUSED
