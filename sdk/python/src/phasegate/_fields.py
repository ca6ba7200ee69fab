"""Values of Python, as fields of messages, and back."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from phasegate._error import Code, Error


def fresh_id() -> str:
    """A request id that nobody else has."""
    return str(uuid.uuid4())


def duration(span: timedelta | None) -> Duration | None:
    """A span of time."""
    if span is None:
        return None
    made = Duration()
    made.FromTimedelta(span)
    return made


def timestamp(time: datetime | None) -> Timestamp | None:
    """An instant. A time without a zone could mean any, so it is refused."""
    if time is None:
        return None
    if time.tzinfo is None:
        raise Error(Code.INVALID_ARGUMENT, "a time needs a zone, such as timezone.utc")
    made = Timestamp()
    made.FromDatetime(time)
    return made


def mask(paths: Sequence[str] | None) -> FieldMask | None:
    """Which fields are meant."""
    return None if paths is None else FieldMask(paths=paths)


def struct(values: Mapping[str, Any] | None) -> Struct | None:
    """A JSON object. Raises `TypeError` or `ValueError` for what JSON does not have."""
    if values is None:
        return None
    made = Struct()
    made.update(dict(values))
    return made


def instant(time: Timestamp) -> datetime:
    """An instant of the server, in UTC."""
    return time.ToDatetime(tzinfo=timezone.utc)
