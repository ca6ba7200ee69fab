"""What is decided about calls and watches, without doing any of it: whether a call is made again, how
long to wait before, and what the end of a stream means.

The waits grow exponentially with full jitter: each is drawn evenly between nothing and the limit of
its turn, because all clients of a server lose it at the same moment.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from phasegate._error import Code, Error, Reason

WAIT_DEFAULT = 30.0
"""Seconds that WaitRelease takes if it is not told."""

WAIT_MAX = 60.0
"""The most seconds that it takes."""

RENEWALS = 2
"""So often in a row a watch that is not believed tries what the token file holds by then."""


@dataclass(frozen=True)
class Retry:
    """How often, and how patiently, calls are made again."""

    attempts: int = 5
    """How often one call is made in all. 1 never repeats. Does not concern watches, which go on until
    they are closed."""
    first: float = 0.2
    """Longest first wait, in seconds; each later one may be twice as long."""
    longest: float = 20.0
    """No wait is longer, in seconds, the server's own wishes apart: it is what restarts take."""


class Backoff:
    """The waits of one call, or of one watch."""

    def __init__(self, retry: Retry, draw: Callable[[], float] = random.random) -> None:
        self._retry = retry
        self._draw = draw
        self._turn = 0

    def reset(self) -> None:
        """The next wait begins small again."""
        self._turn = 0

    def next(self, error: Error) -> float:
        """Seconds to wait after this error: as many as the server asked for, else a drawn time."""
        limit = self.limit()
        self._turn += 1
        return limit * self._draw() if error.retry_after is None else error.retry_after

    def limit(self) -> float:
        """Longest wait of this turn, in seconds."""
        # Beyond 64 turns every sensible first wait has grown past every sensible longest one.
        return min(self._retry.first * 2.0 ** min(self._turn, 64), self._retry.longest)


class Patience:
    """How often one call is made, until when."""

    def __init__(
        self, retry: Retry, deadline: float, draw: Callable[[], float] = random.random
    ) -> None:
        self.deadline = deadline
        """When the call has to be answered, all its attempts together."""
        self._left = retry.attempts
        self._backoff = Backoff(retry, draw)

    def after(self, error: Error, now: float) -> float | None:
        """Seconds to wait before the next attempt; none if the error is the answer."""
        self._left -= 1
        wait = self._backoff.next(error)
        if not is_passing(error) or self._left <= 0 or now + wait > self.deadline:
            return None
        return wait


def is_passing(error: Error) -> bool:
    """Whether the same call may succeed a little later. Calls that carry a request id, and those that
    change nothing, can then be made again without harm.
    """
    if error.code == Code.UNAVAILABLE:
        return True
    # A connection that is cut shows as UNKNOWN. The server's own errors have a reason.
    if error.code == Code.UNKNOWN:
        return error.reason == Reason.NONE
    # It was sent away at the door: nothing was done.
    if error.code == Code.RESOURCE_EXHAUSTED:
        return error.reason in (Reason.RATE_LIMITED, Reason.OVERLOADED)
    return False


def wait_of(max_wait: timedelta | None) -> float:
    """Seconds that the server may take longer to answer WaitRelease than any other call."""
    asked = WAIT_DEFAULT if max_wait is None else max_wait.total_seconds()
    return min(max(asked, 0.0), WAIT_MAX)


class After(enum.Enum):
    """What the end of a stream leads to."""

    RESUME = enum.auto()
    """Wait, and open it again behind the last position."""
    RENEW = enum.auto()
    """The same with new credentials, if there may be any; else nothing can be done."""
    RESTART = enum.auto()
    """Begin with a snapshot."""
    FAIL = enum.auto()
    """Nothing can be done."""


def after(error: Error) -> After:
    """The one table. UNKNOWN, INTERNAL, CANCELLED and RESOURCE_EXHAUSTED lead to another attempt
    because transports make them: a cut connection shows as UNKNOWN, a peer that is overwhelmed as
    RESOURCE_EXHAUSTED.
    """
    if error.code == Code.OUT_OF_RANGE:
        # Without a reason it is a message above the size that a client takes: it would come again.
        return After.FAIL if error.reason == Reason.NONE else After.RESTART
    if error.code == Code.FAILED_PRECONDITION and error.reason == Reason.STORE_REPLACED:
        return After.RESTART
    if error.code == Code.UNAUTHENTICATED:
        return After.RENEW
    if error.code in (
        Code.NOT_FOUND,
        Code.INVALID_ARGUMENT,
        Code.PERMISSION_DENIED,
        Code.UNIMPLEMENTED,
    ):
        return After.FAIL
    return After.RESUME
