//! Calls about pipelines.

use crate::{
    Client, Error,
    mutation::{given_or_fresh, mutations, plans},
    v1,
};

mutations! {
    pipelines:
    /// Creates a pipeline.
    create_pipeline(CreatePipelineRequest) -> pipeline: Pipeline;
    /// Changes fields of a pipeline. Releases under way keep their copy.
    update_pipeline(UpdatePipelineRequest) -> pipeline: Pipeline;
}

plans! {
    pipelines:
    /// Checks everything that [`create_pipeline`](Self::create_pipeline) checks, and creates nothing.
    plan_create_pipeline = create_pipeline(CreatePipelineRequest) -> CreatePipelineResponse;
    /// Checks everything that [`update_pipeline`](Self::update_pipeline) checks, and changes nothing.
    plan_update_pipeline = update_pipeline(UpdatePipelineRequest) -> UpdatePipelineResponse;
}

impl Client {
    /// Returns one pipeline, by its name `pipelines/{pipeline}`.
    pub async fn get_pipeline(&self, name: impl Into<String>) -> Result<v1::Pipeline, Error> {
        let call = |request| {
            let mut service = self.pipelines();
            async move { service.get_pipeline(request).await }
        };
        let request = v1::GetPipelineRequest { name: name.into() };
        self.call(request, call).await?.pipeline.ok_or_else(|| Error::incomplete("pipeline"))
    }

    /// Returns a page of pipelines, by name.
    pub async fn list_pipelines(
        &self,
        request: v1::ListPipelinesRequest,
    ) -> Result<v1::ListPipelinesResponse, Error> {
        let call = |request| {
            let mut service = self.pipelines();
            async move { service.list_pipelines(request).await }
        };
        self.call(request, call).await
    }

    /// Deletes a pipeline for good. The request gets a `request_id` unless it has one.
    pub async fn delete_pipeline(
        &self,
        mut request: v1::DeletePipelineRequest,
    ) -> Result<(), Error> {
        given_or_fresh(&mut request.request_id);
        let call = |request| {
            let mut service = self.pipelines();
            async move { service.delete_pipeline(request).await }
        };
        self.call(request, call).await.map(|v1::DeletePipelineResponse {}| ())
    }
}
