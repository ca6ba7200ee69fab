"""Calls: a connection, and what is done when one fails."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from phasegate._connection import Connecting
from phasegate._decisions import Patience
from phasegate._error import Code, Error, from_status, incomplete
from phasegate._fields import fresh_id
from phasegate.rehearsal.v1.clock_pb2_grpc import ClockServiceStub
from phasegate.v1.access_service_pb2_grpc import AccessServiceStub
from phasegate.v1.audit_service_pb2_grpc import AuditServiceStub
from phasegate.v1.flag_pb2_grpc import FlagServiceStub
from phasegate.v1.notification_service_pb2_grpc import NotificationServiceStub
from phasegate.v1.pipeline_pb2_grpc import PipelineServiceStub
from phasegate.v1.release_service_pb2_grpc import ReleaseServiceStub

if TYPE_CHECKING:
    # Only types: what a stub on a channel of grpc.aio is.
    from phasegate.rehearsal.v1.clock_pb2_grpc import ClockServiceAsyncStub
    from phasegate.v1.access_service_pb2_grpc import AccessServiceAsyncStub
    from phasegate.v1.audit_service_pb2_grpc import AuditServiceAsyncStub
    from phasegate.v1.flag_pb2_grpc import FlagServiceAsyncStub
    from phasegate.v1.notification_service_pb2_grpc import NotificationServiceAsyncStub
    from phasegate.v1.pipeline_pb2_grpc import PipelineServiceAsyncStub
    from phasegate.v1.release_service_pb2_grpc import ReleaseServiceAsyncStub

Q = TypeVar("Q")
A = TypeVar("A", bound=Message)


class Changing(Protocol):
    """A request that can be made again without being done twice."""

    request_id: str


C = TypeVar("C", bound=Changing)


class Caller(Connecting):
    """Makes calls. The services are mixed in, one class for each."""

    def _begin(self) -> None:
        # Set once the client is closed, for those who wait.
        self._closing = asyncio.Event()

    def _connect(self, *, watches: bool) -> grpc.aio.Channel:
        connection = self._connection
        options = connection.options(watches=watches)
        if connection.credentials is None:
            return grpc.aio.insecure_channel(connection.target, options)
        return grpc.aio.secure_channel(connection.target, connection.credentials, options)

    @cached_property
    def _calls(self) -> grpc.aio.Channel:
        """The connection of calls. Made when it is first needed, because it belongs to the event loop
        that runs then.
        """
        return self._connect(watches=False)

    @cached_property
    def _flags(self) -> FlagServiceAsyncStub:
        return FlagServiceStub(self._calls)

    @cached_property
    def _pipelines(self) -> PipelineServiceAsyncStub:
        return PipelineServiceStub(self._calls)

    @cached_property
    def _releases(self) -> ReleaseServiceAsyncStub:
        return ReleaseServiceStub(self._calls)

    @cached_property
    def _access(self) -> AccessServiceAsyncStub:
        return AccessServiceStub(self._calls)

    @cached_property
    def _audit(self) -> AuditServiceAsyncStub:
        return AuditServiceStub(self._calls)

    @cached_property
    def _notifications(self) -> NotificationServiceAsyncStub:
        return NotificationServiceStub(self._calls)

    @cached_property
    def _clock(self) -> ClockServiceAsyncStub:
        return ClockServiceStub(self._calls)

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Q, A],
        request: Q,
        *,
        has: str | None = None,
        longer: float = 0.0,
    ) -> A:
        """Makes a call that may be made again: it changes nothing, or carries a request id.

        The answer must have the field `has`. The server may take `longer` seconds to answer than for
        any other call.
        """
        connection = self._connection
        patience = Patience(connection.retry, time.monotonic() + connection.timeout + longer)
        while True:
            try:
                return await self._attempt(method, request, patience.deadline, has)
            except Error as error:
                wait = patience.after(error, time.monotonic())
                if wait is None:
                    raise
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._closing.wait(), wait)

    async def _change(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[C, A],
        request: C,
        *,
        has: str | None = None,
    ) -> A:
        """The same, for a call that changes something. It gets a request id unless it has one."""
        request.request_id = request.request_id or fresh_id()
        return await self._call(method, request, has=has)

    async def _call_once(
        self, method: grpc.aio.UnaryUnaryMultiCallable[Q, A], request: Q, *, has: str | None = None
    ) -> A:
        """Makes a call that must not be made again."""
        return await self._attempt(
            method, request, time.monotonic() + self._connection.timeout, has
        )

    async def _attempt(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Q, A],
        request: Q,
        deadline: float,
        has: str | None,
    ) -> A:
        if self._closing.is_set():
            raise closed()
        try:
            answer = await method(
                request,
                # The server is told too, so that it need not finish what nobody waits for.
                timeout=max(deadline - time.monotonic(), 0.0),
                metadata=self._connection.metadata(),
            )
        except grpc.aio.AioRpcError as error:
            raise failed(error) from error
        except asyncio.CancelledError:
            # grpcio says the same of a call whose connection is closed and of a task that is cancelled.
            if self._closing.is_set() and not is_cancelled():
                raise closed() from None
            raise
        if has is not None and not answer.HasField(has):
            raise incomplete(has)
        return answer


def failed(error: grpc.aio.AioRpcError) -> Error:
    """What an error of grpcio means."""
    return from_status(error.code(), error.details(), error.trailing_metadata())


def is_cancelled() -> bool:
    """Whether somebody wants the current task to end. Before Python 3.11 nobody can know."""
    task = asyncio.current_task()
    return sys.version_info >= (3, 11) and task is not None and task.cancelling() > 0


def closed() -> Error:
    """A call of a client that was closed."""
    return Error(Code.CANCELLED, "the client is closed")
