"""Whose key the native library signs with: one table for the process, read by many threads and changed by one at a time.

The library keeps one client for each pair of account and API key index, whichever network it is for, so two signers of one
pair would sign with each other's key. And its table is no thread's own: a client may be put in only while nobody signs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class NativeClients:
    """Let any number of threads use the clients that are in, and one alone put in another."""

    def __init__(self) -> None:
        self._turn = threading.Lock()  # who has to wait for the others to leave holds it: nobody enters past him
        self._changed = threading.Condition()
        self._owners: dict[tuple[int, int], object] = {}
        self._users = 0

    @contextmanager
    def client(self, pair: tuple[int, int], owner: object, register: Callable[[], None]) -> Iterator[None]:
        """Hold the client of ``pair`` for as long as the block runs, with the key of ``owner`` in it.

        Args:
            pair: account and API key index.
            owner: whose key it is to be.
            register: puts the key in; called where another's is in.
        """
        with self._turn, self._changed:
            if self._owners.get(pair) is not owner:
                self._changed.wait_for(lambda: not self._users)
                self._owners.pop(pair, None)
                register()
                self._owners[pair] = owner
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def forget(self, pair: tuple[int, int], owner: object) -> None:
        """Let go of the client of ``pair``, should it be that of ``owner``."""
        with self._changed:
            if self._owners.get(pair) is owner:
                del self._owners[pair]
