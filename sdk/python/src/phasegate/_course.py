"""The course of a watch, without any input or output: what to do next, and what its outcome leads to.

The position is the last revision that was delivered, so nothing is lost and nothing comes twice. Who
follows the course (`_watch.py` with threads, `aio/_watch.py` with tasks) does each step and says what
came of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from phasegate import v1
from phasegate._decisions import RENEWALS, After, Backoff, Retry, after
from phasegate._error import Code, Error
from phasegate._subjects import End, Subject
from phasegate._updates import Interrupted, Position, Restarted, Resumed

Q = TypeVar("Q")
M = TypeVar("M")
U = TypeVar("U")


@dataclass(frozen=True)
class Open(Generic[Q]):
    """Open a stream. Leads to `Opened` or `Failed`."""

    request: Q


@dataclass(frozen=True)
class Receive:
    """Await a message of the stream. Leads to `Received`, `Ended` or `Failed`."""


@dataclass(frozen=True)
class Look:
    """Get the release of this name. Leads to `Seen` or `Failed`."""

    name: str


@dataclass(frozen=True)
class Wait:
    """Let so many seconds pass. Leads to nothing."""

    seconds: float


@dataclass(frozen=True)
class Give(Generic[U]):
    """Hand an update on, and go on when the next is asked for. Leads to nothing."""

    update: U


@dataclass(frozen=True)
class Opened:
    """The server has taken the stream."""


@dataclass(frozen=True)
class Received(Generic[M]):
    """A message came."""

    message: M


@dataclass(frozen=True)
class Ended:
    """The stream ended with OK."""


@dataclass(frozen=True)
class Seen:
    """This is the release."""

    release: v1.Release


@dataclass(frozen=True)
class Failed:
    """It did not succeed, or the stream broke."""

    error: Error


Step = Open[Q] | Receive | Look | Wait | Give[U]
Outcome = Opened | Received[M] | Ended | Seen | Failed | None


class Course(Generic[Q, M, U]):
    """The course of one watch."""

    position: Position
    """Everything up to here was handed on."""

    def __init__(
        self,
        subject: Subject[Q, M, U],
        position: Position,
        retry: Retry,
        *,
        renewable: bool,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """A course behind a position. With `renewable` credentials may be better later."""
        self.position = position
        self._subject = subject
        self._backoff = Backoff(retry, draw)
        self._renewals_left = self._renewals = RENEWALS if renewable else 0
        self._lost = False

    def steps(self) -> Generator[Step[Q, U], Outcome[M], None]:
        """The steps. Ends when what is watched is over; raises the error that nothing helps against."""
        while True:
            error = yield from self._stream()
            if error is None:
                return
            what = after(error)
            if what is After.RENEW and self._renewals_left:
                self._renewals_left -= 1
                what = After.RESUME
            if what in (After.FAIL, After.RENEW):
                raise error
            # One that is refused without any position would be refused again at once.
            if what is After.RESTART and self.position != Position():
                self.position = Position()
                yield _give(Restarted(error))
            else:
                self._lost = True
                yield _give(Interrupted(error))
                yield Wait(self._backoff.next(error))

    def _stream(self) -> Generator[Step[Q, U], Outcome[M], Error | None]:
        """One stream, from its opening to its end; gives why it ended, or none if the watch is over."""
        opened = yield Open(self._subject.begin(self.position))
        if isinstance(opened, Failed):
            return opened.error
        # Said now, because the first message may be a bookmark that is many seconds away.
        if self._lost:
            self._lost = False
            yield _give(Resumed())
        while True:
            outcome = yield Receive()
            if isinstance(outcome, Failed):
                return outcome.error
            if not isinstance(outcome, Received):
                return (yield from self._ended())
            self._backoff.reset()
            self._renewals_left = self._renewals
            self.position, update = self._subject.take(outcome.message)
            if update is not None:
                yield Give(update)

    def _ended(self) -> Generator[Step[Q, U], Outcome[M], Error | None]:
        """What an end with OK is."""
        end = self._subject.end()
        if end is End.UNSURE:
            seen = yield Look(self._subject.name)
            if isinstance(seen, Failed):
                return seen.error
            is_over = isinstance(seen, Seen) and seen.release.HasField("end_time")
            end = End.OVER if is_over else End.EARLY
        if end is End.OVER:
            return None
        return Error(Code.UNAVAILABLE, "the server ended the watch before its time")


def _give(update: Interrupted | Resumed | Restarted) -> Give[U]:
    """Every watch tells these, whatever else it tells."""
    return Give(cast("U", update))


def silent() -> Error:
    """A connection that is taken for dead."""
    return Error(Code.UNAVAILABLE, "the server was silent for too long")
