"""Connections of watches, apart from those of calls: streams that deliver little and live long would
else fill the connection that calls need.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

WATCHES_PER_CHANNEL = 100
"""Watches on one connection. Beyond the server's limit of streams the rest would wait in silence;
proxies commonly allow 100."""

C = TypeVar("C")


class Place(Generic[C]):
    """A place on a connection, until it is left."""

    def __init__(self, channel: C, leave: Callable[[], None]) -> None:
        self.channel = channel
        """The connection."""
        self._leave: Callable[[], None] | None = leave

    def leave(self) -> None:
        """Lets somebody else have it. Once left, it stays left."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class Places(Generic[C]):
    """As many connections as the open watches need."""

    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        # Each with the number of places that are taken on it.
        self._channels: list[tuple[C, list[None]]] = []

    @property
    def channels(self) -> list[C]:
        """All connections."""
        with self._lock:
            return [channel for channel, _ in self._channels]

    @property
    def taken(self) -> int:
        """Places that are taken, on all of them."""
        with self._lock:
            return sum(len(taken) for _, taken in self._channels)

    def take(self) -> Place[C]:
        """A place on the first connection that has one left, or on a new one."""
        with self._lock:
            free = (each for each in self._channels if len(each[1]) < WATCHES_PER_CHANNEL)
            channel, taken = next(free, None) or self._another()
            taken.append(None)
            # One operation, which nothing comes between: a watch that is collected as garbage leaves
            # its place wherever the thread then stands, also inside of this lock.
            return Place(channel, taken.pop)

    def _another(self) -> tuple[C, list[None]]:
        made: tuple[C, list[None]] = (self._connect(), [])
        self._channels.append(made)
        return made
