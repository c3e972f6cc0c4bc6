"""What a venue's frames mean to a session, and what a session wants done: the words between the two."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple


class Kind(Enum):
    """What an incoming frame is."""

    WELCOME = auto()
    SUBSCRIBED = auto()
    UPDATE = auto()
    UNSUBSCRIBED = auto()
    REPLY = auto()
    ERROR = auto()
    PING = auto()
    PONG = auto()
    SHUTDOWN = auto()
    OTHER = auto()


class Remedy(Enum):
    """What an error frame calls for."""

    NONE = auto()
    UNSUBSCRIBE_FIRST = auto()  # the venue says it is already subscribed: no snapshot will come
    ALREADY_GONE = auto()  # the venue says it was not subscribed
    GIVE_UP = auto()  # there is no such channel
    NEW_TOKEN = auto()
    SLOW_DOWN = auto()
    NO_ROOM = auto()  # the connection has all the subscriptions that the venue allows it
    TOO_MANY_CONNECTIONS = auto()


class Incoming(NamedTuple):
    """A frame as a dialect understands it; ``channel`` of an error is empty where the venue does not name it."""

    kind: Kind
    channel: str = ""
    request_id: str = ""
    code: int = 0
    text: str = ""
    remedy: Remedy = Remedy.NONE


class Do(Enum):
    """What the session wants done."""

    SUBSCRIBE = auto()
    UNSUBSCRIBE = auto()
    PING = auto()
    PONG = auto()
    REPORT = auto()
    NO_ROOM = auto()
    DROP = auto()


class Command(NamedTuple):
    """One thing to do; after a ``planned`` drop a connection may follow at once, after others in ``pause_s`` at least."""

    do: Do
    channel: str = ""
    auth: bool = False
    text: str = ""
    planned: bool = False
    pause_s: float = 0.0
