"""A server that does what a test says, to see what the clients do about it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from phasegate import v1
from phasegate.rehearsal import v1 as rehearsal
from phasegate.rehearsal.v1.clock_pb2_grpc import (
    ClockServiceServicer,
    add_ClockServiceServicer_to_server,
)
from phasegate.v1.release_service_pb2_grpc import (
    ReleaseServiceServicer,
    add_ReleaseServiceServicer_to_server,
)

WITHIN = 20.0
"""Seconds after which a test gives up an event that does not come."""


def refuse(
    context: grpc.ServicerContext, code: grpc.StatusCode, reason: str, retry: float | None = None
) -> None:
    """Ends a call as the server ends it."""
    status = Status(code=code.value[0], message=reason.lower())
    details: list[Any] = [ErrorInfo(reason=reason, domain="phasegate.v1")]
    if retry is not None:
        details.append(RetryInfo(retry_delay=Duration(nanos=int(retry * 1e9))))
    for detail in details:
        packed = Packed()
        packed.Pack(detail)
        status.details.append(packed)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, reason.lower())


# The names are those of the API; what no test asks for is left to the generated base.
class Scripted(ReleaseServiceServicer, ClockServiceServicer):
    """Answers by functions that a test puts in, and keeps what it was asked."""

    def __init__(self) -> None:
        self.address = ""
        self.asked: list[Any] = []
        self.said: list[dict[str, str | bytes]] = []
        self.left: list[float | None] = []
        self.peers: list[str] = []
        self.answer: Callable[[Any, grpc.ServicerContext], Any] = lambda _request, _context: None
        self.stream: Callable[[Any, grpc.ServicerContext], Iterator[Any]] = lambda _r, _c: iter(())
        self.gone = threading.Event()

    def _note(self, request: Any, context: grpc.ServicerContext) -> None:
        self.asked.append(request)
        self.said.append(dict(context.invocation_metadata()))
        self.left.append(context.time_remaining())
        self.peers.append(context.peer())

    def PauseRelease(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note(request, context)
        return self.answer(request, context) or v1.PauseReleaseResponse(
            release=v1.Release(name=request.name)
        )

    def GetRelease(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note(request, context)
        return self.answer(request, context) or v1.GetReleaseResponse()

    def WaitRelease(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note(request, context)
        return v1.WaitReleaseResponse()

    def Advance(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note(request, context)
        return self.answer(request, context) or rehearsal.AdvanceResponse()

    def WatchRelease(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note(request, context)
        context.add_callback(self.gone.set)
        # What the server sends before its first message.
        context.send_initial_metadata((("date", "today"),))
        yield from self.stream(request, context)


@contextmanager
def scripted() -> Iterator[Scripted]:
    """A server that runs, on a free port of this machine."""
    script = Scripted()
    pool = ThreadPoolExecutor(16)
    server = grpc.server(pool)
    add_ReleaseServiceServicer_to_server(script, server)
    add_ClockServiceServicer_to_server(script, server)
    script.address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield script
    finally:
        server.stop(None).wait()
        pool.shutdown()
