"""The messages of a rehearsal, from `phasegate/rehearsal/v1/*.proto`."""

# Written by `generate`. Do not edit it.

from .clock_pb2 import AdvanceRequest, AdvanceResponse, GetRequest, GetResponse

__all__ = ["AdvanceRequest", "AdvanceResponse", "GetRequest", "GetResponse"]
