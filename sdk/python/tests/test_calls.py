"""The methods are those of the API, with the fields of its requests, and the same in both clients."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor, FileDescriptor, MethodDescriptor

import phasegate
from phasegate import aio
from phasegate.rehearsal.v1 import clock_pb2
from phasegate.v1 import (
    access_service_pb2,
    audit_service_pb2,
    flag_pb2,
    notification_service_pb2,
    pipeline_pb2,
    release_service_pb2,
)

FILES: list[FileDescriptor] = [
    access_service_pb2.DESCRIPTOR,
    audit_service_pb2.DESCRIPTOR,
    flag_pb2.DESCRIPTOR,
    notification_service_pb2.DESCRIPTOR,
    pipeline_pb2.DESCRIPTOR,
    release_service_pb2.DESCRIPTOR,
    clock_pb2.DESCRIPTOR,
]

CLOCK = {"Advance": "advance_clock", "Get": "clock_now"}

ELSEWHERE = {
    # A plan is a method of its own.
    "validate_only",
    # A watch goes on behind a position.
    "resume_after_revision",
    "after_sequence",
    "store_id",
}


def rpcs() -> Iterator[MethodDescriptor]:
    for file in FILES:
        for service in file.services_by_name.values():
            yield from service.methods


def method_of(rpc: MethodDescriptor) -> str:
    if rpc.containing_service.name == "ClockService":
        return CLOCK[rpc.name]
    return re.sub(r"(?<!^)(?=[A-Z])", "_", rpc.name).lower()


@pytest.mark.parametrize("client", [phasegate.Client, aio.Client])
@pytest.mark.parametrize("rpc", list(rpcs()), ids=lambda rpc: rpc.full_name)
def test_every_rpc_is_a_method_with_the_fields_of_its_request(
    client: type[Any], rpc: MethodDescriptor
) -> None:
    taken = set(inspect.signature(getattr(client, method_of(rpc))).parameters) - {"self", "after"}
    fields = {field.name for field in rpc.input_type.fields} - ELSEWHERE
    if rpc.name == "Advance":
        fields = {"by"}
    if rpc.name == "DeletePipeline":
        fields.add("validate_only")
    assert taken == fields


def plans() -> Iterator[MethodDescriptor]:
    for rpc in rpcs():
        if "validate_only" in rpc.input_type.fields_by_name and not rpc.name.startswith("Delete"):
            yield rpc


@pytest.mark.parametrize("rpc", list(plans()), ids=lambda rpc: rpc.name)
def test_what_can_be_validated_has_a_plan_that_takes_the_same(rpc: MethodDescriptor) -> None:
    name = "plan_release" if rpc.name == "TriggerRelease" else f"plan_{method_of(rpc)}"
    plan = inspect.signature(getattr(phasegate.Client, name)).parameters
    done = inspect.signature(getattr(phasegate.Client, method_of(rpc))).parameters
    assert plan == done


def test_both_clients_have_the_same_methods_with_the_same_words() -> None:
    def public(client: type[Any]) -> dict[str, Any]:
        return {
            name: (
                [str(parameter) for parameter in inspect.signature(method).parameters.values()],
                name.startswith("watch_") or inspect.getdoc(method),
            )
            for name, method in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_") and name not in ("close", "aclose")
        }

    assert public(phasegate.Client) == public(aio.Client)


def test_every_public_name_says_what_it_is() -> None:
    for client in (phasegate.Client, aio.Client):
        for name, method in inspect.getmembers(client, inspect.isfunction):
            assert name.startswith("_") or inspect.getdoc(method), name
    for name in phasegate.__all__:
        assert name == "__version__" or inspect.getdoc(getattr(phasegate, name)), name


def test_optional_fields_are_those_that_may_be_left_out() -> None:
    # A field that nobody can leave unsaid by mistake.
    engaged = inspect.signature(phasegate.Client.set_kill_switch).parameters["engaged"]
    assert engaged.default is inspect.Parameter.empty
    field = flag_pb2.DESCRIPTOR.message_types_by_name["SetKillSwitchRequest"].fields_by_name
    assert isinstance(field["engaged"], FieldDescriptor)
    assert field["engaged"].has_presence
