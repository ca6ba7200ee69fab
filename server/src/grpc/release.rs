//! `ReleaseService`. Its two streams are in [`watch`](super::watch).

use super::{
    Api, events, page::fill, release_id, status, submit::submit, warnings::warnings, watch::Frames,
    wire::Frame,
};
use crate::{
    access::Grants,
    driver::{Done, Subject},
};
use futures_util::{StreamExt as _, stream::BoxStream};
use phasegate_api::{
    convert::{self, Detail, WaitUntil},
    v1::{
        self, AbortReleaseRequest, AbortReleaseResponse, AdjustBakeRequest, AdjustBakeResponse,
        ApprovePhaseRequest, ApprovePhaseResponse, FullRolloutRequest, FullRolloutResponse,
        GetReleaseRequest, GetReleaseResponse, ListReleaseEventsRequest, ListReleaseEventsResponse,
        ListReleasesRequest, ListReleasesResponse, OverrideWindowRequest, OverrideWindowResponse,
        PauseReleaseRequest, PauseReleaseResponse, RejectPhaseRequest, RejectPhaseResponse,
        ReportGuardSignalRequest, ReportGuardSignalResponse, SkipPhaseRequest, SkipPhaseResponse,
        TriggerReleaseRequest, TriggerReleaseResponse, UnpauseReleaseRequest,
        UnpauseReleaseResponse, WaitReleaseRequest, WaitReleaseResponse, WatchReleaseRequest,
        WatchReleaseResponse, WatchReleasesRequest, WatchReleasesResponse,
        release_service_server::ReleaseService,
    },
};
use phasegate_engine::{State, id::ReleaseId, plan::plan, refusal::Resource, release::Release};
use std::{pin::pin, sync::Arc, time::Duration};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl ReleaseService for Api {
    async fn trigger_release(
        &self,
        request: Request<TriggerReleaseRequest>,
    ) -> Result<Response<TriggerReleaseResponse>, Status> {
        let fresh = release_id::fresh(self.driver()?.now());
        let wants_plan = request.get_ref().validate_only;
        let parse = |request| convert::trigger_release(request, fresh);
        let done = submit(self, request, parse).await?;
        let release = release_of(&done)?;
        let (plan, warnings) = if wants_plan {
            let start = release.proposal.schedule_time.map_or(done.now, |at| at.max(done.now));
            let plan = plan(&release.proposal.pipeline.template, start);
            (convert::plan_to_wire(&plan), warnings(&done, self.environments()))
        } else {
            (Vec::new(), Vec::new())
        };
        let release = Some(convert::release_to_wire(release, Detail::Full));
        Ok(Response::new(TriggerReleaseResponse { release, plan, warnings }))
    }

    async fn get_release(
        &self,
        request: Request<GetReleaseRequest>,
    ) -> Result<Response<GetReleaseResponse>, Status> {
        let state = self.driver()?.state();
        let grants = self.reader(request.extensions())?;
        let id = convert::release_name("name", &request.get_ref().name);
        let release = find_seen(&state, &grants, &id.map_err(status::rejected)?)?;
        Ok(Response::new(GetReleaseResponse {
            release: Some(convert::release_to_wire(release, Detail::Full)),
            revision: convert::revision_to_wire(state.revision()),
        }))
    }

    async fn list_releases(
        &self,
        request: Request<ListReleasesRequest>,
    ) -> Result<Response<ListReleasesResponse>, Status> {
        let state = self.driver()?.state();
        let grants = self.reader(request.extensions())?;
        let list = convert::list_releases(request.into_inner()).map_err(status::rejected)?;
        let (before, revision) = match list.page.after {
            Some((created, revision)) => (Some(created), revision),
            None => (None, state.revision()),
        };
        let filled = fill(
            list.page.size,
            state.releases_before(list.filter.among(), before),
            |release| release.proposal.created,
            |release| list.filter.matches(release) && grants.sees_release(&state, release),
            |release| convert::release_to_wire(release, Detail::Brief),
        );
        let token = filled.next.map(|created| list.token((created, revision)));
        Ok(Response::new(ListReleasesResponse {
            releases: filled.items,
            next_page_token: token.unwrap_or_default(),
            revision: convert::revision_to_wire(revision),
        }))
    }

    async fn approve_phase(
        &self,
        request: Request<ApprovePhaseRequest>,
    ) -> Result<Response<ApprovePhaseResponse>, Status> {
        let release = Some(after(&submit(self, request, convert::approve_phase).await?)?);
        Ok(Response::new(ApprovePhaseResponse { release }))
    }

    async fn reject_phase(
        &self,
        request: Request<RejectPhaseRequest>,
    ) -> Result<Response<RejectPhaseResponse>, Status> {
        let release = Some(after(&submit(self, request, convert::reject_phase).await?)?);
        Ok(Response::new(RejectPhaseResponse { release }))
    }

    async fn pause_release(
        &self,
        request: Request<PauseReleaseRequest>,
    ) -> Result<Response<PauseReleaseResponse>, Status> {
        let release = Some(after(&submit(self, request, convert::pause_release).await?)?);
        Ok(Response::new(PauseReleaseResponse { release }))
    }

    async fn unpause_release(
        &self,
        request: Request<UnpauseReleaseRequest>,
    ) -> Result<Response<UnpauseReleaseResponse>, Status> {
        let release = Some(after(&submit(self, request, convert::unpause_release).await?)?);
        Ok(Response::new(UnpauseReleaseResponse { release }))
    }

    async fn skip_phase(
        &self,
        request: Request<SkipPhaseRequest>,
    ) -> Result<Response<SkipPhaseResponse>, Status> {
        let release = Some(after(&submit(self, request, convert::skip_phase).await?)?);
        Ok(Response::new(SkipPhaseResponse { release }))
    }

    async fn override_window(
        &self,
        request: Request<OverrideWindowRequest>,
    ) -> Result<Response<OverrideWindowResponse>, Status> {
        let release = Some(after(&submit(self, request, convert::override_window).await?)?);
        Ok(Response::new(OverrideWindowResponse { release }))
    }

    async fn adjust_bake(
        &self,
        request: Request<AdjustBakeRequest>,
    ) -> Result<Response<AdjustBakeResponse>, Status> {
        let release = Some(after(&submit(self, request, convert::adjust_bake).await?)?);
        Ok(Response::new(AdjustBakeResponse { release }))
    }

    async fn abort_release(
        &self,
        request: Request<AbortReleaseRequest>,
    ) -> Result<Response<AbortReleaseResponse>, Status> {
        let release = Some(after(&submit(self, request, convert::abort_release).await?)?);
        Ok(Response::new(AbortReleaseResponse { release }))
    }

    async fn full_rollout(
        &self,
        request: Request<FullRolloutRequest>,
    ) -> Result<Response<FullRolloutResponse>, Status> {
        let release = Some(after(&submit(self, request, convert::full_rollout).await?)?);
        Ok(Response::new(FullRolloutResponse { release }))
    }

    async fn report_guard_signal(
        &self,
        request: Request<ReportGuardSignalRequest>,
    ) -> Result<Response<ReportGuardSignalResponse>, Status> {
        let release = Some(after(&submit(self, request, convert::report_guard_signal).await?)?);
        Ok(Response::new(ReportGuardSignalResponse { release }))
    }

    async fn list_release_events(
        &self,
        request: Request<ListReleaseEventsRequest>,
    ) -> Result<Response<ListReleaseEventsResponse>, Status> {
        let driver = self.driver()?;
        let grants = self.reader(request.extensions())?;
        let list = convert::list_release_events(request.into_inner()).map_err(status::rejected)?;
        if let Some(release) = &list.release {
            find_seen(&driver.state(), &grants, release)?;
        }
        let read = events::read(driver, &list, &grants).await.map_err(status::log_failed)?;
        let filled = fill(
            list.page.size,
            read.events,
            |(position, _)| position.clone(),
            |_| true,
            |(_, event)| event.clone(),
        );
        Ok(Response::new(ListReleaseEventsResponse {
            events: filled.items,
            next_page_token: filled
                .next
                .or(read.cut)
                .map(|last| list.token(&last))
                .unwrap_or_default(),
            oldest_revision: convert::revision_to_wire(driver.oldest()),
        }))
    }

    async fn wait_release(
        &self,
        request: Request<WaitReleaseRequest>,
    ) -> Result<Response<WaitReleaseResponse>, Status> {
        let driver = self.driver()?;
        let grants = self.reader(request.extensions())?;
        let asked = convert::wait_release(request.into_inner()).map_err(status::rejected)?;
        let is_satisfied = |release: &Release| match asked.until {
            WaitUntil::Over => release.is_over(),
            WaitUntil::Above(revision) => release.is_over() || release.progress.revision > revision,
        };
        let mut head = driver.head();
        let max_wait = Duration::from_millis(asked.max_wait.as_millis().unsigned_abs());
        let mut time_over = pin!(tokio::time::sleep(max_wait));
        let mut waits = None;
        loop {
            // Marked as seen before the state is read: what comes after is a change.
            head.borrow_and_update();
            let state = driver.state();
            let release = find_seen(&state, &grants, &asked.release)?;
            let satisfied = is_satisfied(release);
            if satisfied || time_over.is_elapsed() {
                let release = Some(convert::release_to_wire(release, Detail::Brief));
                return Ok(Response::new(WaitReleaseResponse { release, satisfied }));
            }
            if waits.is_none() {
                let slot = self.waits.try_acquire();
                waits = Some(slot.map_err(|_| status::too_many_watches("too many calls wait"))?);
            }
            tokio::select! {
                changed = head.changed() => changed.map_err(|_| status::draining())?,
                () = &mut time_over => {}
                () = self.draining.cancelled() => return Err(status::draining()),
            }
        }
    }

    type WatchReleaseStream = BoxStream<'static, Result<WatchReleaseResponse, Status>>;

    /// The same stream as `watch::Shared` serves before it comes to this, encoded
    /// for one client alone.
    async fn watch_release(
        &self,
        request: Request<WatchReleaseRequest>,
    ) -> Result<Response<Self::WatchReleaseStream>, Status> {
        Ok(Response::new(alone(self.watch_one(request)?)))
    }

    type WatchReleasesStream = BoxStream<'static, Result<WatchReleasesResponse, Status>>;

    /// As [`watch_release`](Self::watch_release).
    async fn watch_releases(
        &self,
        request: Request<WatchReleasesRequest>,
    ) -> Result<Response<Self::WatchReleasesStream>, Status> {
        Ok(Response::new(alone(self.watch_many(request)?)))
    }
}

fn alone<F: Frame>(frames: Frames<F>) -> BoxStream<'static, Result<F::Message, Status>> {
    frames.map(|frame| frame.map(|frame| frame.message())).boxed()
}

fn find<'a>(state: &'a State, id: &ReleaseId) -> Result<&'a Arc<Release>, Status> {
    state.release(id).ok_or_else(|| status::not_found(&Resource::Release(id.clone())))
}

/// A release that the caller sees.
fn find_seen<'a>(
    state: &'a State,
    grants: &Grants,
    id: &ReleaseId,
) -> Result<&'a Arc<Release>, Status> {
    let seen = state.release(id).filter(|release| grants.sees_release(state, release));
    seen.ok_or_else(|| status::not_found(&Resource::Release(id.clone())))
}

/// The release that a call was about, as the call left it.
fn release_of(done: &Done) -> Result<&Arc<Release>, Status> {
    match &done.subject {
        Subject::Release(id) => find(&done.state, id),
        Subject::Flag(_) | Subject::Pipeline(_) => Err(status::mismatch(&done.subject)),
    }
}

/// The same, as it is answered.
fn after(done: &Done) -> Result<v1::Release, Status> {
    Ok(convert::release_to_wire(release_of(done)?, Detail::Brief))
}
