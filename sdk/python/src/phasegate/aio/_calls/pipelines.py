"""Calls about pipelines."""

from __future__ import annotations

from collections.abc import Sequence

from phasegate import v1
from phasegate._fields import mask
from phasegate.aio._caller import Caller


class PipelineCalls(Caller):
    """Manages pipelines."""

    async def create_pipeline(
        self, pipeline_id: str, pipeline: v1.Pipeline, *, request_id: str = ""
    ) -> v1.Pipeline:
        """Creates a pipeline.

        Args:
            pipeline_id: Last segment of the name.
            pipeline: All but what is output only; `name` may be empty.
            request_id: Makes the call safe to repeat; made if it is not given.
        """
        request = v1.CreatePipelineRequest(
            request_id=request_id, pipeline_id=pipeline_id, pipeline=pipeline
        )
        method = self._pipelines.CreatePipeline
        return (await self._change(method, request, has="pipeline")).pipeline

    async def plan_create_pipeline(
        self, pipeline_id: str, pipeline: v1.Pipeline, *, request_id: str = ""
    ) -> v1.CreatePipelineResponse:
        """Checks everything that `create_pipeline` checks, and creates nothing."""
        request = v1.CreatePipelineRequest(
            request_id=request_id, validate_only=True, pipeline_id=pipeline_id, pipeline=pipeline
        )
        return await self._change(self._pipelines.CreatePipeline, request)

    async def get_pipeline(self, name: str) -> v1.Pipeline:
        """Returns one pipeline, by its name `pipelines/{pipeline}`."""
        request = v1.GetPipelineRequest(name=name)
        method = self._pipelines.GetPipeline
        return (await self._call(method, request, has="pipeline")).pipeline

    async def list_pipelines(
        self, *, page_size: int = 0, page_token: str = ""
    ) -> v1.ListPipelinesResponse:
        """Returns a page of pipelines, by name.

        Args:
            page_size: 0 means 50; above 1000 is taken as 1000.
            page_token: `next_page_token` of the page before.
        """
        request = v1.ListPipelinesRequest(page_size=page_size, page_token=page_token)
        return await self._call(self._pipelines.ListPipelines, request)

    async def update_pipeline(
        self,
        pipeline: v1.Pipeline,
        *,
        update_mask: Sequence[str] | None = None,
        request_id: str = "",
    ) -> v1.Pipeline:
        """Changes fields of a pipeline. Releases under way keep their copy.

        Args:
            pipeline: `name` and the fields to change; `etag`, if set, is checked.
            update_mask: Of `description`, `phases`, `exempt_environments`, `trigger_notice`; `*` alone
                is all of them. Without it, those that are set in `pipeline`.
            request_id: Makes the call safe to repeat; made if it is not given.
        """
        request = v1.UpdatePipelineRequest(
            request_id=request_id, pipeline=pipeline, update_mask=mask(update_mask)
        )
        method = self._pipelines.UpdatePipeline
        return (await self._change(method, request, has="pipeline")).pipeline

    async def plan_update_pipeline(
        self,
        pipeline: v1.Pipeline,
        *,
        update_mask: Sequence[str] | None = None,
        request_id: str = "",
    ) -> v1.UpdatePipelineResponse:
        """Checks everything that `update_pipeline` checks, and changes nothing."""
        request = v1.UpdatePipelineRequest(
            request_id=request_id,
            validate_only=True,
            pipeline=pipeline,
            update_mask=mask(update_mask),
        )
        return await self._change(self._pipelines.UpdatePipeline, request)

    async def delete_pipeline(
        self, name: str, *, etag: str = "", validate_only: bool = False, request_id: str = ""
    ) -> None:
        """Deletes a pipeline for good.

        Args:
            name: `pipelines/{pipeline}`.
            etag: As read before; the call fails if the pipeline has changed since.
            validate_only: Check everything, delete nothing.
            request_id: Makes the call safe to repeat; made if it is not given.
        """
        request = v1.DeletePipelineRequest(
            name=name, request_id=request_id, etag=etag, validate_only=validate_only
        )
        await self._change(self._pipelines.DeletePipeline, request)
