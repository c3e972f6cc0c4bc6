"""Text that is for the venue alone."""

from __future__ import annotations


class HiddenText(str):
    """An auth token, or what has one in it: a text like any other, but to those who write down what variables hold.

    Qubx logs what a strategy's callback raises with the local variables of every frame, and a ``dict`` or an argument there would
    show it whole.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Tell nothing."""
        return "<hidden>"
