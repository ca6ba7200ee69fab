//! A request made into a submission, from what its client last saw.

use crate::{
    history::reason,
    operation::{
        Base, Dry, Etag, GROUPS, Identity, PEOPLE, PIPELINES, Pace, Place, Request, guard_name,
        spec, template,
    },
};
use phasegate_engine::{
    State,
    command::{Action, Call, Caller, Expected, FlagChange, PipelineChange, SwitchTo, Trigger},
    id::{FlagId, Group, PhaseId, PipelineId, Principal, ReleaseId, RequestId, Revision},
    time::{Span, Timestamp},
};
use phasegate_server::driver::{Anything, Mode, Origin, Submission};
use std::{collections::BTreeMap, sync::Arc};

pub(crate) fn release_id(number: usize) -> ReleaseId {
    format!("r{number}").parse().expect("it is an id")
}

pub(crate) fn flag_id(index: usize) -> FlagId {
    crate::operation::FLAGS[index % crate::operation::FLAGS.len()].parse().expect("it is an id")
}

pub(crate) fn pipeline_id(index: usize) -> PipelineId {
    PIPELINES[index % PIPELINES.len()].parse().expect("it is an id")
}

/// A client: one person, in some groups.
pub(crate) fn caller(client: usize) -> Caller {
    // The last one is in no group, the one before in all.
    let groups: &[&str] = match client % PEOPLE.len() {
        0 => &GROUPS[..1],
        1 => &GROUPS[1..],
        2 => &GROUPS,
        _ => &[],
    };
    Caller {
        principal: Principal::new(PEOPLE[client % PEOPLE.len()]),
        groups: groups.iter().map(|group| Group::new(*group)).collect(),
    }
}

/// What the clients' requests are made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight<'a> {
    pub(crate) view: &'a State,
    pub(crate) now: Timestamp,
    pub(crate) pace: Pace,
}

impl Sight<'_> {
    pub(crate) fn submission(
        self,
        client: usize,
        number: usize,
        request: &Request,
        identity: Identity,
        mode: Dry,
    ) -> Submission {
        let action = self.action(request);
        // Only the events of a call about a release carry its reason. Where any other commit came from
        // shows by its request.
        let named = identity == Identity::Named || action.release().is_none();
        let mut payload = [0; 32];
        payload[..8].copy_from_slice(&number.to_le_bytes());
        Submission {
            rpc: rpc(&action),
            call: Call {
                caller: caller(client),
                request_id: named.then(|| RequestId::new(format!("request-{number}"))),
                reason: reason(number),
                action,
            },
            payload,
            mode: match mode {
                Dry::ForReal => Mode::Commit,
                Dry::ValidateOnly => Mode::ValidateOnly,
            },
            origin: Origin::default(),
            permit: Arc::new(Anything),
        }
    }

    fn expected(self, etag: Etag, seen: Option<Revision>) -> Expected {
        match (etag, seen) {
            (Etag::None, _) => Expected::Anything,
            (Etag::Foreign, _) | (_, None) => Expected::Unknown,
            (Etag::Seen, Some(seen)) => Expected::Revision(seen),
            (Etag::Old, Some(seen)) => {
                Expected::Revision(Revision::new(seen.get().saturating_sub(1)))
            }
        }
    }

    /// The etag of a release and the phase that is meant, as the client sees them.
    fn place(self, release: usize, place: Place, etag: Etag) -> (ReleaseId, Expected, PhaseId) {
        let id = release_id(release);
        let seen = self.view.release(&id);
        let expected = self.expected(etag, seen.map(|release| release.progress.revision));
        let phase = seen.map(|release| {
            let current = release.current().map_or(0, |phase| phase.get());
            let index = match place {
                Place::Current => current,
                Place::Other(index) => index % release.phases().len(),
            };
            release.phases()[index].id.clone()
        });
        let phase = phase.unwrap_or_else(|| "canary".parse().expect("it is an id"));
        (id, expected, phase)
    }

    fn of_flag(self, flag: usize, etag: Etag) -> (FlagId, Expected) {
        let id = flag_id(flag);
        let seen = self.view.flag(&id).map(|flag| flag.revision);
        (id, self.expected(etag, seen))
    }

    fn action(self, request: &Request) -> Action {
        match request {
            Request::CreateFlag { flag, pipeline } => Action::CreateFlag {
                flag: flag_id(*flag),
                description: "".into(),
                spec: spec(0),
                pipeline: pipeline.map(pipeline_id),
                labels: Default::default(),
            },
            Request::UpdateFlag { flag, number, etag } => {
                let (flag, expected) = self.of_flag(*flag, *etag);
                let change = FlagChange { spec: Some(spec(*number)), ..FlagChange::default() };
                Action::UpdateFlag { flag, expected, change }
            }
            Request::DeleteFlag { flag, etag } => {
                let (flag, expected) = self.of_flag(*flag, *etag);
                Action::DeleteFlag { flag, expected }
            }
            Request::Kill { flag } => {
                Action::SetKillSwitch { flag: flag_id(*flag), switch: SwitchTo::Engaged }
            }
            Request::Revive { flag } => {
                Action::SetKillSwitch { flag: flag_id(*flag), switch: SwitchTo::Lifted }
            }
            Request::UpdatePipeline { pipeline, shape, etag } => {
                let pipeline = pipeline_id(*pipeline);
                let seen = self.view.pipeline(&pipeline).map(|pipeline| pipeline.revision);
                let phases = template(*shape, self.pace).phases.clone();
                let change = PipelineChange { phases: Some(phases), ..PipelineChange::default() };
                Action::UpdatePipeline { pipeline, expected: self.expected(*etag, seen), change }
            }
            Request::Trigger { name, flag, number, schedule, policy, base } => {
                let seen = self.view.flag(&flag_id(*flag)).map(|flag| flag.spec_revision);
                Action::TriggerRelease(Trigger {
                    id: release_id(*name),
                    flag: flag_id(*flag),
                    pipeline: None,
                    change: spec(*number),
                    base: match base {
                        Base::None => None,
                        Base::Seen => seen,
                        Base::Old => Some(Revision::new(1)),
                    },
                    labels: BTreeMap::new(),
                    description: "".into(),
                    schedule_time: schedule.map(|after| {
                        Timestamp::from_millis(self.now.as_millis().saturating_add(after))
                    }),
                    conflict_policy: *policy,
                })
            }
            Request::Approve { release, phase, etag } => {
                let (release, expected, phase) = self.place(*release, *phase, *etag);
                Action::ApprovePhase { release, expected, phase }
            }
            Request::Reject { release, phase, etag } => {
                let (release, expected, phase) = self.place(*release, *phase, *etag);
                Action::RejectPhase { release, expected, phase }
            }
            Request::Pause { release } => Action::PauseRelease { release: release_id(*release) },
            Request::Unpause { release, etag } => {
                let (release, expected, _) = self.place(*release, Place::Current, *etag);
                Action::UnpauseRelease { release, expected }
            }
            Request::Skip { release, phase, etag, approvals } => {
                let (release, expected, phase) = self.place(*release, *phase, *etag);
                Action::SkipPhase { release, expected, phase, approvals: *approvals }
            }
            Request::OverrideWindow { release, phase, etag } => {
                let (release, expected, phase) = self.place(*release, *phase, *etag);
                Action::OverrideWindow { release, expected, phase }
            }
            Request::AdjustBake { release, phase, etag, remaining } => {
                let (release, expected, phase) = self.place(*release, *phase, *etag);
                let remaining = Span::from_secs(*remaining);
                Action::AdjustBake { release, expected, phase, remaining }
            }
            Request::Abort { release } => Action::AbortRelease { release: release_id(*release) },
            Request::FullRollout { release, etag, approvals, windows } => {
                let (release, expected, _) = self.place(*release, Place::Current, *etag);
                let (approvals, windows) = (*approvals, *windows);
                Action::FullRollout { release, expected, approvals, windows }
            }
            Request::Report { release, phase, guard, verdict } => {
                let (release, _, phase) = self.place(*release, *phase, Etag::None);
                let guard = guard_name(*guard).parse().expect("it is an id");
                Action::ReportGuardSignal { release, phase, guard, verdict: *verdict }
            }
        }
    }
}

/// The name of the RPC.
fn rpc(action: &Action) -> &'static str {
    match action {
        Action::CreateFlag { .. } => "CreateFlag",
        Action::UpdateFlag { .. } => "UpdateFlag",
        Action::DeleteFlag { .. } => "DeleteFlag",
        Action::SetKillSwitch { .. } => "SetKillSwitch",
        Action::CreatePipeline { .. } => "CreatePipeline",
        Action::UpdatePipeline { .. } => "UpdatePipeline",
        Action::DeletePipeline { .. } => "DeletePipeline",
        Action::TriggerRelease(_) => "TriggerRelease",
        Action::ApprovePhase { .. } => "ApprovePhase",
        Action::RejectPhase { .. } => "RejectPhase",
        Action::PauseRelease { .. } => "PauseRelease",
        Action::UnpauseRelease { .. } => "UnpauseRelease",
        Action::SkipPhase { .. } => "SkipPhase",
        Action::OverrideWindow { .. } => "OverrideWindow",
        Action::AdjustBake { .. } => "AdjustBake",
        Action::AbortRelease { .. } => "AbortRelease",
        Action::FullRollout { .. } => "FullRollout",
        Action::ReportGuardSignal { .. } => "ReportGuardSignal",
    }
}
