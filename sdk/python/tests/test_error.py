"""What a status means to programs, and to people."""

import pickle

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from phasegate import Code, Error, Reason, Violation, v1
from phasegate._error import from_status


def error(code: Code, message: str, *details: Message) -> Error:
    status = Status(code=code.value[0], message=message)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    trailers = [("date", "now"), ("grpc-status-details-bin", status.SerializeToString())]
    return from_status(code, message, trailers)


def info(reason: str, domain: str = "phasegate.v1", **metadata: str) -> ErrorInfo:
    return ErrorInfo(reason=reason, domain=domain, metadata=metadata)


def test_the_reasons_are_those_of_the_contract() -> None:
    values = v1.ErrorReason.DESCRIPTOR.values
    contract = {value.name.removeprefix("ERROR_REASON_") for value in values if value.number}
    assert {reason.value for reason in Reason} - {""} == contract
    assert {reason.name for reason in Reason} - {"NONE"} == contract


def test_a_reason_of_a_newer_server_keeps_its_name() -> None:
    newer = error(Code.FAILED_PRECONDITION, "not now", info("MOON_PHASE"))
    assert newer.reason == "MOON_PHASE"
    assert newer.reason == Reason("MOON_PHASE")
    assert newer.reason not in tuple(Reason)
    assert isinstance(newer.reason, Reason)
    assert str(newer) == "not now [MOON_PHASE]"
    assert pickle.loads(pickle.dumps(newer.reason)) == "MOON_PHASE"  # noqa: S301 - our own bytes


def test_reasons_can_be_keys_beside_texts() -> None:
    known = {Reason.NONE: 1, Reason.ALREADY_PAUSED: 2, Reason("MOON_PHASE"): 3}
    assert (known[""], known["ALREADY_PAUSED"], known["MOON_PHASE"]) == (1, 2, 3)  # type: ignore[index]


def test_an_error_of_another_domain_has_no_reason() -> None:
    foreign = error(Code.UNAVAILABLE, "bad gateway", info("RELEASE_PAUSED", "proxy.example"))
    assert foreign.reason is Reason.NONE
    assert str(foreign) == "bad gateway [UNAVAILABLE]"
    assert foreign.is_unreachable


def test_violations_metadata_and_the_wait_are_kept_and_shown() -> None:
    bad = BadRequest()
    bad.field_violations.add(field="flag_id", description="must not be empty")
    bad.field_violations.add(field="flag.spec", description="must be set")
    retry = RetryInfo(retry_delay=Duration(seconds=3, nanos=500_000_000))
    found = error(
        Code.INVALID_ARGUMENT,
        "2 fields are invalid",
        info("INVALID_FIELD", state="BAKING"),
        bad,
        retry,
    )
    assert found.reason is Reason.INVALID_FIELD
    assert found.metadata == {"state": "BAKING"}
    assert found.violations[0] == Violation("flag_id", "must not be empty")
    assert found.retry_after == 3.5
    assert str(found) == (
        "2 fields are invalid: flag_id must not be empty; flag.spec must be set [INVALID_FIELD]"
    )


def test_an_error_can_be_sent_to_another_process() -> None:
    there = pickle.loads(pickle.dumps(error(Code.ABORTED, "no", info("ETAG_MISMATCH", a="b"))))  # noqa: S301 - our own bytes
    assert (there.code, there.reason) == (Code.ABORTED, Reason.ETAG_MISMATCH)
    assert (there.message, there.metadata) == ("no", {"a": "b"})


def test_details_that_cannot_be_read_are_somebody_elses() -> None:
    status = Status(code=9)
    status.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")
    trailers = [("grpc-status-details-bin", status.SerializeToString())]
    assert from_status(Code.ABORTED, "no", trailers).reason is Reason.NONE


def test_a_violation_that_the_message_says_is_not_said_twice() -> None:
    bad = BadRequest()
    bad.field_violations.add(field="duration", description="must be above 0 s")
    said = error(Code.INVALID_ARGUMENT, "duration must be above 0 s", info("INVALID_FIELD"), bad)
    assert str(said) == "duration must be above 0 s [INVALID_FIELD]"


@pytest.mark.parametrize("trailers", [None, [], [("grpc-status-details-bin", b"\xff\xff")]])
def test_a_status_without_readable_details_is_the_transports(
    trailers: list[tuple[str, str | bytes]] | None,
) -> None:
    plain = from_status(Code.UNKNOWN, None, trailers)
    assert (plain.code, plain.reason, plain.message) == (Code.UNKNOWN, Reason.NONE, "UNKNOWN")


def test_a_message_that_is_too_large_does_not_look_like_a_server_that_is_busy() -> None:
    large = "CLIENT: Received message larger than max (5000000 vs. 4194304)"
    assert from_status(Code.RESOURCE_EXHAUSTED, large, []).code == Code.OUT_OF_RANGE
    assert from_status(Code.RESOURCE_EXHAUSTED, "calm", []).code == Code.RESOURCE_EXHAUSTED
