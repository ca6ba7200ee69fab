"""Calls: a connection, and what is done when one fails."""

from __future__ import annotations

import threading
import time
from typing import Protocol, TypeVar

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
        self._closing = threading.Event()
        self._calls = self._connect(watches=False)
        self._flags = FlagServiceStub(self._calls)
        self._pipelines = PipelineServiceStub(self._calls)
        self._releases = ReleaseServiceStub(self._calls)
        self._access = AccessServiceStub(self._calls)
        self._audit = AuditServiceStub(self._calls)
        self._notifications = NotificationServiceStub(self._calls)
        self._clock = ClockServiceStub(self._calls)

    def _connect(self, *, watches: bool) -> grpc.Channel:
        connection = self._connection
        options = connection.options(watches=watches)
        if connection.credentials is None:
            return grpc.insecure_channel(connection.target, options)
        return grpc.secure_channel(connection.target, connection.credentials, options)

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Q, A],
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
                return self._attempt(method, request, patience.deadline, has)
            except Error as error:
                wait = patience.after(error, time.monotonic())
                if wait is None:
                    raise
            if self._closing.wait(wait):
                raise closed()

    def _change(
        self,
        method: grpc.UnaryUnaryMultiCallable[C, A],
        request: C,
        *,
        has: str | None = None,
    ) -> A:
        """The same, for a call that changes something. It gets a request id unless it has one."""
        request.request_id = request.request_id or fresh_id()
        return self._call(method, request, has=has)

    def _call_once(
        self, method: grpc.UnaryUnaryMultiCallable[Q, A], request: Q, *, has: str | None = None
    ) -> A:
        """Makes a call that must not be made again."""
        return self._attempt(method, request, time.monotonic() + self._connection.timeout, has)

    def _attempt(
        self,
        method: grpc.UnaryUnaryMultiCallable[Q, A],
        request: Q,
        deadline: float,
        has: str | None,
    ) -> A:
        if self._closing.is_set():
            raise closed()
        try:
            answer = method(
                request,
                # The server is told too, so that it need not finish what nobody waits for.
                timeout=max(deadline - time.monotonic(), 0.0),
                metadata=self._connection.metadata(),
            )
        except grpc.RpcError as error:
            raise failed(error) from error
        except ValueError as error:
            # What grpcio says of a connection that was closed meanwhile.
            if not self._closing.is_set():
                raise
            raise closed() from error
        if has is not None and not answer.HasField(has):
            raise incomplete(has)
        return answer


def failed(error: grpc.RpcError) -> Error:
    """What an error of grpcio means."""
    trailers = [(pair.key, pair.value) for pair in error.trailing_metadata() or ()]
    return from_status(error.code(), error.details(), trailers)


def closed() -> Error:
    """A call of a client that was closed."""
    return Error(Code.CANCELLED, "the client is closed")
