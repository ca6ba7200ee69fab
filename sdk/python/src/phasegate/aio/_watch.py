"""Watches of the client for asyncio: the steps of a course, each done as a task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

import grpc

from phasegate import v1
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
from phasegate._updates import Position
from phasegate.aio._caller import closed, failed

U = TypeVar("U")


class Watch(Generic[U]):
    """A watch: an asynchronous iterator of updates that resumes by itself.

    It ends when what it watches is over, or raises the one `phasegate.Error` that it cannot recover
    from, such as a release that does not exist. Closing it (`aclose`, the end of an `async with`, or
    nobody keeping it any more) ends it on the server too. An update is taken from the server only when
    it is asked for, so a consumer may be slow; one that stops for a minute finds the stream resumed.

    One task at a time may ask for updates. To ask may be cancelled, by a timeout for example, without
    losing anything: whoever asks next gets what was meant for it.
    """

    def __init__(
        self,
        course: Course[Any, Any, U],
        place: Place[grpc.aio.Channel],
        method: grpc.aio.UnaryStreamMultiCallable[Any, Any],
        look: Callable[[str], Awaitable[v1.Release]],
        connection: Connection,
    ) -> None:
        self._course = course
        self._steps = course.steps()
        # What is being done, also while nobody asks.
        self._doing: asyncio.Task[Outcome[Any]] | None = None
        # One place for the whole life of the watch, so that it comes back to the same connection.
        self._place = place
        self._method = method
        self._look = look
        self._connection = connection
        self._is_closed = False
        self._client_is_closed = False
        self._stream: Any = None
        self._early: Outcome[Any] = None

    @property
    def position(self) -> Position:
        """Everything up to here was handed on. What to go on behind, also in another process."""
        return self._course.position

    def __aiter__(self) -> Watch[U]:
        return self

    async def __anext__(self) -> U:
        outcome: Outcome[Any] = None
        while not self._is_closed:
            if self._doing is None:
                try:
                    step = self._steps.send(outcome)
                except StopIteration:
                    break
                except Error:
                    self._close()
                    raise
                if isinstance(step, Give):
                    return step.update
                self._doing = asyncio.create_task(self._do(step))
            doing = self._doing
            # This leaves the task alone when who waits for it is cancelled.
            await asyncio.wait({doing})
            if not self._is_closed:
                self._doing = None
                try:
                    outcome = doing.result()
                except BaseException:
                    # What nobody foresaw: the course does not know where it is.
                    self._close()
                    raise
        self._close()
        if self._client_is_closed:
            raise closed()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Ends the watch, on the server too. Closing it again does nothing."""
        self._close()

    async def __aenter__(self) -> Watch[U]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def __del__(self) -> None:
        # Not there if the constructor did not come so far.
        if hasattr(self, "_early"):
            self._close()

    def _close(self) -> None:
        self._is_closed = True
        doing, self._doing = self._doing, None
        if doing is not None:
            doing.cancel()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()
        self._place.leave()

    def _close_with_client(self) -> None:
        """Who asks is told that it is not over."""
        self._client_is_closed = not self._is_closed
        self._close()

    async def _do(self, step: Step[Any, U]) -> Outcome[Any]:
        if isinstance(step, Open):
            return await self._limited(self._open(step.request))
        if isinstance(step, Receive):
            return await self._limited(self._receive())
        if isinstance(step, Look):
            try:
                return Seen(await self._look(step.name))
            except Error as error:
                return Failed(error)
        if not isinstance(step, Give):
            await asyncio.sleep(step.seconds)
        return None

    async def _limited(self, doing: Awaitable[Outcome[Any]]) -> Outcome[Any]:
        """What is done with the stream must not take longer than a silence may."""
        try:
            return await asyncio.wait_for(doing, self._connection.silence)
        except asyncio.TimeoutError:
            if self._stream is not None:
                self._stream.cancel()
            return Failed(silent())

    async def _open(self, request: Any) -> Outcome[Any]:
        self._early = None
        self._stream = self._method(request, metadata=self._connection.metadata())
        if await self._stream.initial_metadata():
            return Opened()
        # A stream that was refused has no headers of its own; what comes next says whether it was.
        early = await self._receive()
        if isinstance(early, Failed):
            return early
        self._early = early
        return Opened()

    async def _receive(self) -> Outcome[Any]:
        if self._early is not None:
            early, self._early = self._early, None
            return early
        try:
            message = await self._stream.read()
        except grpc.aio.AioRpcError as error:
            return Failed(failed(error))
        return Ended() if message is grpc.aio.EOF else Received(message)
