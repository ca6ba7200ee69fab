"""Watches of the blocking client: the steps of a course, done by the thread that asks for updates."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

import grpc

from phasegate import v1
from phasegate._caller import closed, failed
from phasegate._connection import Connection
from phasegate._course import (
    Course,
    Ended,
    Failed,
    Give,
    Look,
    Open,
    Opened,
    Outcome,
    Receive,
    Received,
    Seen,
    Step,
    silent,
)
from phasegate._error import Error
from phasegate._places import Place
from phasegate._silence import Silence
from phasegate._updates import Position

U = TypeVar("U")


class Watch(Generic[U]):
    """A watch: an iterator of updates that resumes by itself.

    It ends when what it watches is over, or raises the one `phasegate.Error` that it cannot recover
    from, such as a release that does not exist. Closing it (`close`, the end of a `with`, or nobody
    keeping it any more) ends it on the server too. An update is taken from the server only when it is
    asked for, so a consumer may be slow; one that stops for a minute finds the stream resumed.

    One thread at a time may ask for updates. Any thread may close it: who asks then is told that it
    has ended.
    """

    def __init__(
        self,
        course: Course[Any, Any, U],
        place: Place[grpc.Channel],
        method: grpc.UnaryStreamMultiCallable[Any, Any],
        look: Callable[[str], v1.Release],
        connection: Connection,
        silence: Silence,
    ) -> None:
        self._course = course
        self._steps = course.steps()
        self._outcome: Outcome[Any] = None
        # One place for the whole life of the watch, so that it comes back to the same connection.
        self._place = place
        self._method = method
        self._look = look
        self._connection = connection
        self._silence = silence
        self._closing = threading.Event()
        self._client_is_closed = False
        self._stream: Any = None
        self._early: Outcome[Any] = None

    @property
    def position(self) -> Position:
        """Everything up to here was handed on. What to go on behind, also in another process."""
        return self._course.position

    def __iter__(self) -> Watch[U]:
        return self

    def __next__(self) -> U:
        while not self._closing.is_set():
            try:
                step = self._steps.send(self._outcome)
                if isinstance(step, Give):
                    self._outcome = None
                    return step.update
                self._outcome = self._do(step)
            except BaseException:
                # The end, an error, or an interruption of the program, after which the course does
                # not know where it is.
                self.close()
                raise
        if self._client_is_closed:
            raise closed()
        raise StopIteration

    def close(self) -> None:
        """Ends the watch, on the server too. Closing it again does nothing."""
        self._closing.set()
        stream = self._stream
        if stream is not None:
            stream.cancel()
        self._place.leave()

    def _close_with_client(self) -> None:
        """Who asks is told that it is not over."""
        self._client_is_closed = not self._closing.is_set()
        self.close()

    def __enter__(self) -> Watch[U]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Not there if the constructor did not come so far.
        if hasattr(self, "_stream"):
            self.close()

    def _do(self, step: Step[Any, U]) -> Outcome[Any]:
        if isinstance(step, Open):
            return self._open(step.request)
        if isinstance(step, Receive):
            return self._receive()
        if isinstance(step, Look):
            try:
                return Seen(self._look(step.name))
            except Error as error:
                return Failed(error)
        if not isinstance(step, Give):
            self._closing.wait(step.seconds)
        return None

    def _open(self, request: Any) -> Outcome[Any]:
        self._early = None
        try:
            self._stream = stream = self._method(request, metadata=self._connection.metadata())
        except ValueError as error:
            # What grpcio says of a connection that was closed meanwhile.
            raise closed() from error
        if self._closing.is_set():
            # Whoever closed the watch may not have seen this one.
            stream.cancel()
        vigil = self._silence.begin(stream.cancel)
        try:
            headers = stream.initial_metadata()
        finally:
            self._silence.end(vigil)
        if vigil.expired:
            return Failed(silent())
        if headers:
            return Opened()
        # A stream that was refused has no headers of its own; what comes next says whether it was.
        early = self._receive()
        if isinstance(early, Failed):
            return early
        self._early = early
        return Opened()

    def _receive(self) -> Outcome[Any]:
        if self._early is not None:
            early, self._early = self._early, None
            return early
        vigil = self._silence.begin(self._stream.cancel)
        try:
            return Received(next(self._stream))
        except StopIteration:
            return Ended()
        except grpc.RpcError as error:
            return Failed(silent() if vigil.expired else failed(error))
        finally:
            self._silence.end(vigil)
