"""What a call fails with: one type, which programs decide on by its reason and people read."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

Code = grpc.StatusCode
"""The status codes of gRPC."""

DOMAIN = "phasegate.v1"
"""The domain of the server's own errors; those of any other are a proxy's."""

DETAILS = "grpc-status-details-bin"
"""Where in the trailers the details of an error are."""

TOO_LARGE = "message larger than max"
"""What grpcio says, with RESOURCE_EXHAUSTED, of a message above the size that this client takes."""


class Reason(str, enum.Enum):
    """What a call failed for, spelled as on the wire.

    One that this client is too old to know is kept: `Reason("MOON_PHASE")` equals `"MOON_PHASE"`. So
    there may always be others than those listed here.
    """

    NONE = ""
    """The server gave none: the transport, a proxy, or this client made the error."""
    INVALID_FIELD = "INVALID_FIELD"
    """Fields of the request, see `Error.violations`."""
    REASON_REQUIRED = "REASON_REQUIRED"
    """`reason` is mandatory for this call."""
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    """The request id was used before, for something else."""
    INVALID_PAGE_TOKEN = "INVALID_PAGE_TOKEN"  # noqa: S105 - not a password
    """The page token does not belong to this listing."""
    RESOURCE_NOT_FOUND = "RESOURCE_NOT_FOUND"
    """`metadata["resource"]` does not exist."""
    RESOURCE_EXISTS = "RESOURCE_EXISTS"
    """`metadata["resource"]` exists."""
    ETAG_MISMATCH = "ETAG_MISMATCH"
    """The resource changed since it was read."""
    SELF_APPROVAL = "SELF_APPROVAL"
    """Who triggered a release may not approve it."""
    NOT_AN_APPROVER = "NOT_AN_APPROVER"
    """The caller is in none of the phase's reviewer groups."""
    RESOURCE_IN_USE = "RESOURCE_IN_USE"
    """`metadata["referrer"]` stands in the way."""
    FLAG_LOCKED = "FLAG_LOCKED"
    """`metadata["activeRelease"]` is changing the flag."""
    PIPELINE_REQUIRED = "PIPELINE_REQUIRED"
    """The flag changes along `metadata["pipeline"]` only."""
    ACTIVE_RELEASE_EXISTS = "ACTIVE_RELEASE_EXISTS"
    """`metadata["activeRelease"]` comes first."""
    QUEUE_FULL = "QUEUE_FULL"
    """As many releases of the flag wait as may."""
    BASE_CHANGED = "BASE_CHANGED"
    """The flag's spec is no longer the one that the change was made from."""
    NO_CHANGE = "NO_CHANGE"
    """The flag says this already."""
    RELEASE_OVER = "RELEASE_OVER"
    """The release is over."""
    RELEASE_NOT_STARTED = "RELEASE_NOT_STARTED"
    """The release is pending."""
    RELEASE_PAUSED = "RELEASE_PAUSED"
    """The release is paused."""
    ALREADY_PAUSED = "ALREADY_PAUSED"
    """The release was paused before."""
    NOT_PAUSED = "NOT_PAUSED"
    """The release is not paused."""
    PHASE_NOT_CURRENT = "PHASE_NOT_CURRENT"
    """The release stands at another phase."""
    PHASE_NOT_AWAITING_APPROVAL = "PHASE_NOT_AWAITING_APPROVAL"
    """The phase needs no approval now."""
    PHASE_NOT_AWAITING_WINDOW = "PHASE_NOT_AWAITING_WINDOW"
    """The phase waits for no window."""
    PHASE_NOT_BAKING = "PHASE_NOT_BAKING"
    """The phase does not bake."""
    ALREADY_REVIEWED = "ALREADY_REVIEWED"
    """The caller approved this phase before."""
    APPROVAL_PENDING = "APPROVAL_PENDING"
    """Approvals are missing for `metadata["phaseIds"]`."""
    WINDOW_CLOSED = "WINDOW_CLOSED"
    """The windows of `metadata["phaseIds"]` are closed."""
    REVISION_COMPACTED = "REVISION_COMPACTED"
    """The log no longer reaches back so far."""
    REVISION_IN_FUTURE = "REVISION_IN_FUTURE"
    """The store was never there."""
    STORE_REPLACED = "STORE_REPLACED"
    """The store is another one than before."""
    SLOW_CONSUMER = "SLOW_CONSUMER"
    """A watcher did not read."""
    TOO_MANY_WATCHES = "TOO_MANY_WATCHES"
    """As many watches are open as may."""
    STREAM_EXPIRED = "STREAM_EXPIRED"
    """A watch reached its age."""
    SERVER_DRAINING = "SERVER_DRAINING"
    """The server is stopping."""
    STORE_READ_ONLY = "STORE_READ_ONLY"
    """The server cannot write now: it is starting, or its disk is full."""
    INTERNAL = "INTERNAL"
    """A defect of the server; its log has `metadata["incident"]`."""
    FLAG_SET_TOO_LARGE = "FLAG_SET_TOO_LARGE"
    """The flags of an environment would not fit into a message."""
    UNAUTHENTICATED = "UNAUTHENTICATED"
    """There is no credential, or it is not or no longer good."""
    PERMISSION_MISSING = "PERMISSION_MISSING"
    """The permission `metadata["permission"]` is missing."""
    VIEW_CHANGED = "VIEW_CHANGED"
    """What the caller may see is another set than before."""
    RATE_LIMITED = "RATE_LIMITED"
    """The caller makes more calls than its share."""
    OVERLOADED = "OVERLOADED"
    """The server does as much at a time as it may."""

    @classmethod
    def _missing_(cls, value: object) -> Reason | None:
        """One of a newer server: a value like any other, which is not in the list."""
        if not isinstance(value, str):
            return None
        newer = str.__new__(cls, value)
        newer._name_ = newer._value_ = value
        return newer

    def __str__(self) -> str:
        return self.value

    # That of the text, because it equals the text.
    __hash__ = str.__hash__


@dataclass(frozen=True)
class Violation:
    """One field of a request that is not as it must be."""

    field: str
    """Its path, in names of the proto files: `release.feature_gate.rules[3].targeting.id`."""
    description: str
    """What it must be."""


class Error(Exception):
    """Why a call failed.

    Decide by `reason`, never by the text, which is for people: the message, each violation, and the
    reason's name.
    """

    code: Code
    """The status code of gRPC."""
    reason: Reason
    """What went wrong, as programs need it."""
    message: str
    """What went wrong, for people."""
    metadata: Mapping[str, str]
    """Facts that belong to the reason, such as `state` or `activeRelease`; the keys of each reason are
    listed in the documentation of errors."""
    violations: tuple[Violation, ...]
    """What is wrong with the request, if the reason is `Reason.INVALID_FIELD`."""
    retry_after: float | None
    """The server asked to wait so many seconds before the call is made again."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        reason: Reason = Reason.NONE,
        metadata: Mapping[str, str] | None = None,
        violations: Iterable[Violation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after = retry_after

    @property
    def is_unreachable(self) -> bool:
        """Whether the server was not reached, or did not answer: nothing is known about the call."""
        silent = (Code.UNAVAILABLE, Code.UNKNOWN, Code.DEADLINE_EXCEEDED)
        return self.reason == Reason.NONE and self.code in silent

    def __str__(self) -> str:
        # The server's message may say them already.
        unsaid = [v for v in self.violations if v.description not in self.message]
        listed = "; ".join(f"{violation.field} {violation.description}" for violation in unsaid)
        name = self.reason.value or self.code.name
        return f"{self.message}{': ' if listed else ''}{listed} [{name}]"


def incomplete(field: str) -> Error:
    """An answer that the contract does not allow."""
    return Error(Code.INTERNAL, f"the server's answer lacks `{field}`")


def from_status(
    code: Code, message: str | None, trailers: Iterable[tuple[str, str | bytes]] | None
) -> Error:
    """The error that a status and the trailers which came with it mean."""
    info, bad, retry = _details(trailers or ())
    retry_after = None
    if retry.HasField("retry_delay"):
        retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    if info.domain != DOMAIN:
        if code == Code.RESOURCE_EXHAUSTED and TOO_LARGE in (message or ""):
            # What the contract calls OUT_OF_RANGE. The peer is not exhausted: it would come again.
            code = Code.OUT_OF_RANGE
        return Error(code, message or code.name, retry_after=retry_after)
    return Error(
        code,
        message or "",
        reason=Reason(info.reason),
        metadata=info.metadata,
        violations=[Violation(each.field, each.description) for each in bad.field_violations],
        retry_after=retry_after,
    )


def _details(
    trailers: Iterable[tuple[str, str | bytes]],
) -> tuple[ErrorInfo, BadRequest, RetryInfo]:
    """The details that this client looks at; those that did not come are empty."""
    found = (ErrorInfo(), BadRequest(), RetryInfo())
    for key, value in trailers:
        if key != DETAILS or not isinstance(value, bytes):
            continue
        try:
            for detail in Status.FromString(value).details:
                for message in found:
                    # Says whether it is one, too.
                    detail.Unpack(message)
        except DecodeError:
            # Somebody else's bytes; the code still stands.
            break
    return found
