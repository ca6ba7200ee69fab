"""Calls about flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from phasegate import v1
from phasegate._fields import mask, struct
from phasegate.aio._caller import Caller


class FlagCalls(Caller):
    """Manages and evaluates flags."""

    async def create_flag(self, flag_id: str, flag: v1.Flag, *, request_id: str = "") -> v1.Flag:
        """Creates a flag. Its first spec needs no release.

        Args:
            flag_id: Last segment of the name.
            flag: `description`, spec, `pipeline` and `labels` are read; `name` may be empty.
            request_id: Makes the call safe to repeat; made if it is not given.
        """
        request = v1.CreateFlagRequest(request_id=request_id, flag_id=flag_id, flag=flag)
        return (await self._change(self._flags.CreateFlag, request, has="flag")).flag

    async def plan_create_flag(
        self, flag_id: str, flag: v1.Flag, *, request_id: str = ""
    ) -> v1.CreateFlagResponse:
        """Checks everything that `create_flag` checks, and creates nothing."""
        request = v1.CreateFlagRequest(
            request_id=request_id, validate_only=True, flag_id=flag_id, flag=flag
        )
        return await self._change(self._flags.CreateFlag, request)

    async def get_flag(self, name: str) -> v1.Flag:
        """Returns one flag, by its name `flags/{flag}`."""
        request = v1.GetFlagRequest(name=name)
        return (await self._call(self._flags.GetFlag, request, has="flag")).flag

    async def list_flags(
        self, *, page_size: int = 0, page_token: str = "", pipeline: str = ""
    ) -> v1.ListFlagsResponse:
        """Returns a page of flags, by name.

        Args:
            page_size: 0 means 50; above 1000 is taken as 1000.
            page_token: `next_page_token` of the page before, with all else the same.
            pipeline: Only flags with this pipeline attached.
        """
        request = v1.ListFlagsRequest(page_size=page_size, page_token=page_token, pipeline=pipeline)
        return await self._call(self._flags.ListFlags, request)

    async def update_flag(
        self, flag: v1.Flag, *, update_mask: Sequence[str] | None = None, request_id: str = ""
    ) -> v1.Flag:
        """Changes fields of a flag; its spec only as far as no release is needed.

        Args:
            flag: `name` and the fields to change; `etag`, if set, is checked.
            update_mask: Of `description`, `feature_gate` or `dynamic_config`, `pipeline`, `labels`;
                `*` alone is all of them. Without it, those that are set in `flag`.
            request_id: Makes the call safe to repeat; made if it is not given.
        """
        request = v1.UpdateFlagRequest(
            request_id=request_id, flag=flag, update_mask=mask(update_mask)
        )
        return (await self._change(self._flags.UpdateFlag, request, has="flag")).flag

    async def plan_update_flag(
        self, flag: v1.Flag, *, update_mask: Sequence[str] | None = None, request_id: str = ""
    ) -> v1.UpdateFlagResponse:
        """Checks everything that `update_flag` checks, and changes nothing."""
        request = v1.UpdateFlagRequest(
            request_id=request_id, validate_only=True, flag=flag, update_mask=mask(update_mask)
        )
        return await self._change(self._flags.UpdateFlag, request)

    async def delete_flag(self, name: str, *, etag: str = "", request_id: str = "") -> None:
        """Deletes a flag for good.

        Args:
            name: `flags/{flag}`.
            etag: As read before; the call fails if the flag has changed since.
            request_id: Makes the call safe to repeat; made if it is not given.
        """
        request = v1.DeleteFlagRequest(name=name, request_id=request_id, etag=etag)
        await self._change(self._flags.DeleteFlag, request)

    async def set_kill_switch(
        self, name: str, *, engaged: bool, reason: str = "", request_id: str = ""
    ) -> v1.Flag:
        """Engages or lifts the kill switch.

        Args:
            name: `flags/{flag}`.
            engaged: True kills, false lifts.
            reason: Kept in `Flag.kill_reason`.
            request_id: Makes the call safe to repeat; made if it is not given.
        """
        request = v1.SetKillSwitchRequest(
            name=name, request_id=request_id, reason=reason, engaged=engaged
        )
        return (await self._change(self._flags.SetKillSwitch, request, has="flag")).flag

    async def evaluate_flag(
        self, flag: str, *, environment: str, context: Mapping[str, Any] | None = None
    ) -> v1.EvaluateFlagResponse:
        """Answers for one context, and says why. For debugging, and for whoever needs no local
        evaluation.

        Args:
            flag: `flags/{flag}`.
            environment: Id of the environment that asks.
            context: Attributes, among them `targetingKey`, as JSON has them.
        """
        request = v1.EvaluateFlagRequest(
            flag=flag, environment=environment, context=struct(context)
        )
        return await self._call(self._flags.EvaluateFlag, request)
