//! What may be asked of the engine. Commands are parsed and within their limits before they get
//! here; what is left to refuse depends on the state.

use crate::{
    flag::{Labels, Spec},
    id::{FlagId, Group, GuardId, PhaseId, PipelineId, Principal, ReleaseId, RequestId, Revision},
    pipeline::Template,
    release::GuardVerdict,
    time::{Span, Timestamp},
};
use std::sync::Arc;

/// A caller's wish, or a timer that came due.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// What somebody asked for.
    Call(Call),
    /// A timer fired.
    Fire(Fire),
}

/// What somebody asked for, and who they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Who asks.
    pub caller: Caller,
    /// Written into the events.
    pub request_id: Option<RequestId>,
    /// Text for the log.
    pub reason: Arc<str>,
    /// What is asked.
    pub action: Action,
}

/// Who asks, as the edge found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Their stable subject.
    pub principal: Principal,
    /// Their groups.
    pub groups: Vec<Group>,
}

/// A timer that came due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fire {
    /// Whose timer.
    pub release: ReleaseId,
    /// Its generation when it was armed; dropped if the release has moved on.
    pub generation: u64,
    /// What to do about it.
    pub lateness: Lateness,
}

/// Whether a timer that came due still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lateness {
    /// It does: act.
    Accepted,
    /// The server was away for too long: hold the release instead, if the timer would have made
    /// its exposure grow. How late it was goes into the event.
    Hold(Span),
}

/// What can be asked. One variant for each RPC that changes something.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of the RPC of the same name, see proto/")]
pub enum Action {
    CreateFlag {
        flag: FlagId,
        description: Arc<str>,
        spec: Arc<Spec>,
        pipeline: Option<PipelineId>,
        labels: Labels,
    },
    UpdateFlag {
        flag: FlagId,
        expected: Expected,
        change: FlagChange,
    },
    DeleteFlag {
        flag: FlagId,
        expected: Expected,
    },
    SetKillSwitch {
        flag: FlagId,
        switch: SwitchTo,
    },
    CreatePipeline {
        pipeline: PipelineId,
        template: Arc<Template>,
    },
    UpdatePipeline {
        pipeline: PipelineId,
        expected: Expected,
        change: PipelineChange,
    },
    DeletePipeline {
        pipeline: PipelineId,
        expected: Expected,
    },
    TriggerRelease(Trigger),
    ApprovePhase {
        release: ReleaseId,
        expected: Expected,
        phase: PhaseId,
    },
    RejectPhase {
        release: ReleaseId,
        expected: Expected,
        phase: PhaseId,
    },
    PauseRelease {
        release: ReleaseId,
    },
    UnpauseRelease {
        release: ReleaseId,
        expected: Expected,
    },
    SkipPhase {
        release: ReleaseId,
        expected: Expected,
        phase: PhaseId,
        approvals: Gate,
    },
    OverrideWindow {
        release: ReleaseId,
        expected: Expected,
        phase: PhaseId,
    },
    AdjustBake {
        release: ReleaseId,
        expected: Expected,
        phase: PhaseId,
        remaining: Span,
    },
    AbortRelease {
        release: ReleaseId,
    },
    FullRollout {
        release: ReleaseId,
        expected: Expected,
        approvals: Gate,
        windows: Gate,
    },
    ReportGuardSignal {
        release: ReleaseId,
        phase: PhaseId,
        guard: GuardId,
        verdict: GuardVerdict,
    },
}

/// The etag of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// None was sent.
    Anything,
    /// The resource as of this revision.
    Revision(Revision),
    /// One was sent that this server never made: it is always stale.
    Unknown,
}

/// Whether something that stands in the way is respected or gone round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It counts.
    Respect,
    /// The caller goes round it, on record.
    Bypass,
}

/// The two positions of a kill switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchTo {
    /// Kill.
    Engaged,
    /// Revive.
    Lifted,
}

/// The fields of a flag to replace; none: leave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlagChange {
    /// Free text.
    pub description: Option<Arc<str>>,
    /// The settled spec.
    pub spec: Option<Arc<Spec>>,
    /// Attach, or detach with `Some(None)`.
    pub pipeline: Option<Option<PipelineId>>,
    /// All labels.
    pub labels: Option<Labels>,
}

/// The fields of a pipeline to replace; none: leave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PipelineChange {
    /// Free text.
    pub description: Option<Arc<str>>,
    /// All phases.
    pub phases: Option<Vec<crate::pipeline::Phase>>,
    /// All exempt environments.
    pub exempt_environments: Option<Vec<crate::id::EnvironmentId>>,
    /// Shown to people before they trigger.
    pub trigger_notice: Option<Arc<str>>,
}

/// A release to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// Its id. If the caller gave none the shell has made one.
    pub id: ReleaseId,
    /// The flag to change.
    pub flag: FlagId,
    /// None: the flag's.
    pub pipeline: Option<PipelineId>,
    /// The whole new spec.
    pub change: Arc<Spec>,
    /// Spec revision that the change was made from.
    pub base: Option<Revision>,
    /// Whatever the caller wants to find it by.
    pub labels: Labels,
    /// Free text.
    pub description: Arc<str>,
    /// Not before this time.
    pub schedule_time: Option<Timestamp>,
    /// What to do if the flag has an active release.
    pub conflict_policy: ConflictPolicy,
}

/// What to do if the flag has an active release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictPolicy {
    /// Refuse.
    Fail,
    /// Become PENDING.
    Queue,
    /// Abort the active and all PENDING ones, then start.
    Supersede,
}

impl Action {
    /// The flag that the action is about, if that can be told without the state.
    pub fn flag(&self) -> Option<&FlagId> {
        match self {
            Self::CreateFlag { flag, .. }
            | Self::UpdateFlag { flag, .. }
            | Self::DeleteFlag { flag, .. }
            | Self::SetKillSwitch { flag, .. } => Some(flag),
            Self::TriggerRelease(trigger) => Some(&trigger.flag),
            Self::CreatePipeline { .. }
            | Self::UpdatePipeline { .. }
            | Self::DeletePipeline { .. }
            | Self::ApprovePhase { .. }
            | Self::RejectPhase { .. }
            | Self::PauseRelease { .. }
            | Self::UnpauseRelease { .. }
            | Self::SkipPhase { .. }
            | Self::OverrideWindow { .. }
            | Self::AdjustBake { .. }
            | Self::AbortRelease { .. }
            | Self::FullRollout { .. }
            | Self::ReportGuardSignal { .. } => None,
        }
    }

    /// The release that the action is about, if it is about one that exists.
    pub fn release(&self) -> Option<&ReleaseId> {
        match self {
            Self::ApprovePhase { release, .. }
            | Self::RejectPhase { release, .. }
            | Self::PauseRelease { release }
            | Self::UnpauseRelease { release, .. }
            | Self::SkipPhase { release, .. }
            | Self::OverrideWindow { release, .. }
            | Self::AdjustBake { release, .. }
            | Self::AbortRelease { release }
            | Self::FullRollout { release, .. }
            | Self::ReportGuardSignal { release, .. } => Some(release),
            Self::CreateFlag { .. }
            | Self::UpdateFlag { .. }
            | Self::DeleteFlag { .. }
            | Self::SetKillSwitch { .. }
            | Self::CreatePipeline { .. }
            | Self::UpdatePipeline { .. }
            | Self::DeletePipeline { .. }
            | Self::TriggerRelease(_) => None,
        }
    }
}
