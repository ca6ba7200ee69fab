"""A limit on the silence of streams. grpcio has none for the next message of a blocking stream."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Vigil:
    """One wait for something to come."""

    def __init__(self, deadline: float, cancel: Callable[[], object]) -> None:
        self.deadline = deadline
        """When the wait has been too long."""
        self.cancel = cancel
        """What ends it."""
        self.expired = False
        """Whether it was ended."""


class Silence:
    """Ends waits that take too long, all with the same limit in seconds.

    One thread does it, which is there only while somebody waits. Because the limit is one, who began
    to wait first is first to have waited too long.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._vigils: dict[Vigil, None] = {}
        self._runs = False

    def begin(self, cancel: Callable[[], object]) -> Vigil:
        """Somebody begins to wait; `cancel` makes them stop."""
        vigil = Vigil(time.monotonic() + self._limit, cancel)
        with self._lock:
            self._vigils[vigil] = None
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name="phasegate-silence", daemon=True).start()
        return vigil

    def end(self, vigil: Vigil) -> None:
        """They have what they waited for."""
        with self._lock:
            self._vigils.pop(vigil, None)

    def _run(self) -> None:
        while True:
            with self._lock:
                first = next(iter(self._vigils), None)
                if first is None:
                    self._runs = False
                    return
                rest = first.deadline - time.monotonic()
                if rest <= 0:
                    del self._vigils[first]
                    first.expired = True
            if rest > 0:
                # Whoever begins to wait meanwhile has longer than this.
                time.sleep(rest)
            else:
                first.cancel()
