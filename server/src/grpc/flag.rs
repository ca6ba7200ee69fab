//! `FlagService`.

use super::{Api, page::fill, status, submit::submit, warnings::warnings};
use crate::{
    access::Grants,
    driver::{Done, Subject},
};
use phasegate_api::{
    convert,
    v1::{
        self, CreateFlagRequest, CreateFlagResponse, DeleteFlagRequest, DeleteFlagResponse,
        EvaluateFlagRequest, EvaluateFlagResponse, GetFlagRequest, GetFlagResponse,
        ListFlagsRequest, ListFlagsResponse, SetKillSwitchRequest, SetKillSwitchResponse,
        UpdateFlagRequest, UpdateFlagResponse, flag_service_server::FlagService,
    },
};
use phasegate_engine::{
    State,
    flag::Flag,
    id::FlagId,
    refusal::Resource,
    targeting::{Context, explain},
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl FlagService for Api {
    async fn create_flag(
        &self,
        request: Request<CreateFlagRequest>,
    ) -> Result<Response<CreateFlagResponse>, Status> {
        let wants_plan = request.get_ref().validate_only;
        let done = submit(self, request, convert::create_flag).await?;
        let warnings = if wants_plan { warnings(&done, self.environments()) } else { Vec::new() };
        Ok(Response::new(CreateFlagResponse { flag: Some(flag_of(&done)?), warnings }))
    }

    async fn get_flag(
        &self,
        request: Request<GetFlagRequest>,
    ) -> Result<Response<GetFlagResponse>, Status> {
        let state = self.driver()?.state();
        let grants = self.reader(request.extensions())?;
        let id = convert::flag_name("name", &request.get_ref().name).map_err(status::rejected)?;
        let flag = write(&state, find(&state, &grants, &id)?);
        Ok(Response::new(GetFlagResponse { flag: Some(flag) }))
    }

    async fn list_flags(
        &self,
        request: Request<ListFlagsRequest>,
    ) -> Result<Response<ListFlagsResponse>, Status> {
        let state = self.driver()?.state();
        let grants = self.reader(request.extensions())?;
        let list = convert::list_flags(request.into_inner()).map_err(status::rejected)?;
        let flags = state.flags_after(list.page.after.as_ref());
        let filled = fill(
            list.page.size,
            // Before the page is filled: no token names a flag that is not seen.
            flags.filter(|flag| grants.sees_labels(&flag.labels)),
            |flag| flag.id.clone(),
            |flag| list.pipeline.is_none() || flag.pipeline == list.pipeline,
            |flag| write(&state, flag),
        );
        Ok(Response::new(ListFlagsResponse {
            flags: filled.items,
            next_page_token: filled.next.map(|after| list.token(&after)).unwrap_or_default(),
        }))
    }

    async fn update_flag(
        &self,
        request: Request<UpdateFlagRequest>,
    ) -> Result<Response<UpdateFlagResponse>, Status> {
        let wants_plan = request.get_ref().validate_only;
        let done = submit(self, request, convert::update_flag).await?;
        let warnings = if wants_plan { warnings(&done, self.environments()) } else { Vec::new() };
        Ok(Response::new(UpdateFlagResponse { flag: Some(flag_of(&done)?), warnings }))
    }

    async fn delete_flag(
        &self,
        request: Request<DeleteFlagRequest>,
    ) -> Result<Response<DeleteFlagResponse>, Status> {
        submit(self, request, convert::delete_flag).await?;
        Ok(Response::new(DeleteFlagResponse {}))
    }

    async fn set_kill_switch(
        &self,
        request: Request<SetKillSwitchRequest>,
    ) -> Result<Response<SetKillSwitchResponse>, Status> {
        let flag = flag_of(&submit(self, request, convert::set_kill_switch).await?)?;
        Ok(Response::new(SetKillSwitchResponse { flag: Some(flag) }))
    }

    async fn evaluate_flag(
        &self,
        request: Request<EvaluateFlagRequest>,
    ) -> Result<Response<EvaluateFlagResponse>, Status> {
        let state = self.driver()?.state();
        let grants = self.reader(request.extensions())?;
        let asked = convert::evaluate_flag(request.into_inner()).map_err(status::rejected)?;
        let flag = find(&state, &grants, &asked.flag)?;
        let active = state.active_release(&asked.flag).map(|release| &**release);
        let context = Context { environment: &asked.environment, attributes: &asked.attributes };
        let explanation = explain(flag, active, &context, self.bucketing);
        Ok(Response::new(convert::answer_to_wire(&explanation, active)))
    }
}

/// The flag that a call was about, as the call left it.
fn flag_of(done: &Done) -> Result<v1::Flag, Status> {
    match &done.subject {
        Subject::Flag(id) => read(&done.state, id),
        Subject::Pipeline(_) | Subject::Release(_) => Err(status::mismatch(&done.subject)),
    }
}

/// A repeated call finds its flag gone if somebody has deleted it since.
fn read(state: &State, id: &FlagId) -> Result<v1::Flag, Status> {
    let flag = state.flag(id).ok_or_else(|| status::not_found(&Resource::Flag(id.clone())))?;
    Ok(write(state, flag))
}

/// A flag that the caller sees.
fn find<'a>(state: &'a State, grants: &Grants, id: &FlagId) -> Result<&'a Flag, Status> {
    let seen = state.flag(id).filter(|flag| grants.sees_labels(&flag.labels));
    seen.map(|flag| &**flag).ok_or_else(|| status::not_found(&Resource::Flag(id.clone())))
}

fn write(state: &State, flag: &Flag) -> v1::Flag {
    convert::flag_to_wire(flag, state.active_release(&flag.id).map(|release| release.id()))
}
