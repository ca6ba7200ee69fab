"""Who calls, and what they may."""

# Written by `generate` from `aio/_calls/access.py`. Do not edit it.

from __future__ import annotations

from phasegate import v1
from phasegate._caller import Caller


class AccessCalls(Caller):
    """Says who the caller is to the server, and what they may."""

    def get_identity(self) -> v1.GetIdentityResponse:
        """Who this client is to the server, and what it may do there."""
        return self._call(self._access.GetIdentity, v1.GetIdentityRequest())
