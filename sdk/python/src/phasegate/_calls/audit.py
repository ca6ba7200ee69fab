"""Calls about the audit chain."""

# Written by `generate` from `aio/_calls/audit.py`. Do not edit it.

from __future__ import annotations

from datetime import datetime

from phasegate import v1
from phasegate._caller import Caller
from phasegate._fields import timestamp


class AuditCalls(Caller):
    """The audit chain: who asked for what, and what came of it."""

    def list_audit_entries(
        self,
        *,
        page_size: int = 0,
        page_token: str = "",
        principal: str = "",
        resource: str = "",
        method: str = "",
        outcome: v1.AuditOutcome.ValueType = v1.AUDIT_OUTCOME_UNSPECIFIED,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
    ) -> v1.ListAuditEntriesResponse:
        """Returns a page of entries, newest first. A page may be short, or empty, and have a token all
        the same.

        Args:
            page_size: 0 means 50; at most 1000.
            page_token: `next_page_token` of the page before, with all else the same.
            principal: Only of this principal, also if another acted for it.
            resource: Only about this resource, for example `flags/f`.
            method: Only of this RPC, for example `AbortRelease`.
            outcome: Only with this outcome.
            start_time: Only from this time on.
            end_time: Only before this time.
        """
        request = v1.ListAuditEntriesRequest(
            page_size=page_size,
            page_token=page_token,
            principal=principal,
            resource=resource,
            method=method,
            outcome=outcome,
            start_time=timestamp(start_time),
            end_time=timestamp(end_time),
        )
        return self._call(self._audit.ListAuditEntries, request)

    def get_audit_head(self) -> v1.GetAuditHeadResponse:
        """Returns the newest entry as number and hash: an anchor to keep elsewhere."""
        return self._call(self._audit.GetAuditHead, v1.GetAuditHeadRequest())
