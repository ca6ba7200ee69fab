//! `PipelineService`.

use super::{Api, page::fill, status, submit::submit, warnings::warnings};
use crate::driver::{Done, Subject};
use phasegate_api::{
    convert,
    v1::{
        self, CreatePipelineRequest, CreatePipelineResponse, DeletePipelineRequest,
        DeletePipelineResponse, GetPipelineRequest, GetPipelineResponse, ListPipelinesRequest,
        ListPipelinesResponse, UpdatePipelineRequest, UpdatePipelineResponse,
        pipeline_service_server::PipelineService,
    },
};
use phasegate_engine::{State, id::PipelineId, refusal::Resource};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl PipelineService for Api {
    async fn create_pipeline(
        &self,
        request: Request<CreatePipelineRequest>,
    ) -> Result<Response<CreatePipelineResponse>, Status> {
        let wants_plan = request.get_ref().validate_only;
        let done = submit(self, request, convert::create_pipeline).await?;
        let warnings = if wants_plan { warnings(&done, self.environments()) } else { Vec::new() };
        let pipeline = Some(pipeline_of(&done)?);
        Ok(Response::new(CreatePipelineResponse { pipeline, warnings }))
    }

    async fn get_pipeline(
        &self,
        request: Request<GetPipelineRequest>,
    ) -> Result<Response<GetPipelineResponse>, Status> {
        let state = self.driver()?.state();
        let id = convert::pipeline_name("name", &request.get_ref().name);
        let pipeline = read(&state, &id.map_err(status::rejected)?)?;
        Ok(Response::new(GetPipelineResponse { pipeline: Some(pipeline) }))
    }

    async fn list_pipelines(
        &self,
        request: Request<ListPipelinesRequest>,
    ) -> Result<Response<ListPipelinesResponse>, Status> {
        let state = self.driver()?.state();
        let list = convert::list_pipelines(request.into_inner()).map_err(status::rejected)?;
        let filled = fill(
            list.page.size,
            state.pipelines_after(list.page.after.as_ref()),
            |pipeline| pipeline.id.clone(),
            |_| true,
            |pipeline| convert::pipeline_to_wire(pipeline),
        );
        Ok(Response::new(ListPipelinesResponse {
            pipelines: filled.items,
            next_page_token: filled.next.map(|after| list.token(&after)).unwrap_or_default(),
        }))
    }

    async fn update_pipeline(
        &self,
        request: Request<UpdatePipelineRequest>,
    ) -> Result<Response<UpdatePipelineResponse>, Status> {
        let wants_plan = request.get_ref().validate_only;
        let done = submit(self, request, convert::update_pipeline).await?;
        let warnings = if wants_plan { warnings(&done, self.environments()) } else { Vec::new() };
        let pipeline = Some(pipeline_of(&done)?);
        Ok(Response::new(UpdatePipelineResponse { pipeline, warnings }))
    }

    async fn delete_pipeline(
        &self,
        request: Request<DeletePipelineRequest>,
    ) -> Result<Response<DeletePipelineResponse>, Status> {
        submit(self, request, convert::delete_pipeline).await?;
        Ok(Response::new(DeletePipelineResponse {}))
    }
}

/// The pipeline that a call was about, as the call left it.
fn pipeline_of(done: &Done) -> Result<v1::Pipeline, Status> {
    match &done.subject {
        Subject::Pipeline(id) => read(&done.state, id),
        Subject::Flag(_) | Subject::Release(_) => Err(status::mismatch(&done.subject)),
    }
}

/// A repeated call finds its pipeline gone if somebody has deleted it since.
fn read(state: &State, id: &PipelineId) -> Result<v1::Pipeline, Status> {
    let missing = || status::not_found(&Resource::Pipeline(id.clone()));
    state.pipeline(id).map(|pipeline| convert::pipeline_to_wire(pipeline)).ok_or_else(missing)
}
