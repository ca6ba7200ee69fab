"""Who calls, and what they may."""

from __future__ import annotations

from phasegate import v1
from phasegate.aio._caller import Caller


class AccessCalls(Caller):
    """Says who the caller is to the server, and what they may."""

    async def get_identity(self) -> v1.GetIdentityResponse:
        """Who this client is to the server, and what it may do there."""
        return await self._call(self._access.GetIdentity, v1.GetIdentityRequest())
