//! Why not: the closed list of answers that are no. A refused command changes nothing.

use crate::{
    id::{FlagId, PhaseId, PipelineId, ReleaseId, Revision},
    release::{Release, ReleaseState},
};
use std::fmt;

/// Why a command was refused, with what the caller needs to know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// RESOURCE_NOT_FOUND.
    #[error("{0} does not exist")]
    NotFound(Resource),
    /// RESOURCE_EXISTS.
    #[error("{0} exists already")]
    Exists(Resource),
    /// INVALID_FIELD that only the state could tell.
    #[error("{field}: {problem}")]
    InvalidField {
        /// Path of the field inside the request.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// ETAG_MISMATCH on a flag or a pipeline.
    #[error("{resource} was changed in the meantime; read it again and decide again")]
    StaleEtag {
        /// Which.
        resource: Resource,
        /// Its revision now.
        revision: Revision,
    },
    /// RESOURCE_IN_USE.
    #[error("{resource} is in use by {referrer}")]
    InUse {
        /// What was to be deleted.
        resource: Resource,
        /// One flag or release that stands in the way.
        referrer: Resource,
    },
    /// FLAG_LOCKED.
    #[error(
        "flags/{flag} has an active release, releases/{active}, whose success would overwrite this change"
    )]
    FlagLocked {
        /// The flag.
        flag: FlagId,
        /// Its active release.
        active: ReleaseId,
    },
    /// PIPELINE_REQUIRED.
    #[error("{}", pipeline_required(flag, pipeline.as_ref()))]
    PipelineRequired {
        /// The flag.
        flag: FlagId,
        /// The pipeline attached to it, if any.
        pipeline: Option<PipelineId>,
    },
    /// ACTIVE_RELEASE_EXISTS.
    #[error(
        "flags/{flag} has an active release, releases/{active}; queue this one or supersede that one"
    )]
    ActiveReleaseExists {
        /// The flag.
        flag: FlagId,
        /// Its active release.
        active: ReleaseId,
    },
    /// QUEUE_FULL.
    #[error("flags/{flag} has {} pending releases already", crate::decide::PENDING_MAX)]
    QueueFull {
        /// The flag.
        flag: FlagId,
    },
    /// BASE_CHANGED.
    #[error(
        "the settled spec of flags/{flag} is of revision {spec_revision} now; make the change anew from that"
    )]
    BaseChanged {
        /// The flag.
        flag: FlagId,
        /// Revision of its settled spec now.
        spec_revision: Revision,
    },
    /// NO_CHANGE.
    #[error("the change equals what flags/{flag} answers already")]
    NoChange {
        /// The flag.
        flag: FlagId,
    },
    /// Everything that depends on where a release stands.
    #[error("{why} (releases/{} is {standing})", standing.release)]
    Release {
        /// Where it stands.
        standing: Box<Standing>,
        /// Why that does not allow the command.
        why: ReleaseRefusal,
    },
}

impl Refusal {
    /// Its reason, as the API names it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "RESOURCE_NOT_FOUND",
            Self::Exists(_) => "RESOURCE_EXISTS",
            Self::InvalidField { .. } => "INVALID_FIELD",
            Self::StaleEtag { .. } => "ETAG_MISMATCH",
            Self::InUse { .. } => "RESOURCE_IN_USE",
            Self::FlagLocked { .. } => "FLAG_LOCKED",
            Self::PipelineRequired { .. } => "PIPELINE_REQUIRED",
            Self::ActiveReleaseExists { .. } => "ACTIVE_RELEASE_EXISTS",
            Self::QueueFull { .. } => "QUEUE_FULL",
            Self::BaseChanged { .. } => "BASE_CHANGED",
            Self::NoChange { .. } => "NO_CHANGE",
            Self::Release { why, .. } => why.reason(),
        }
    }
}

fn pipeline_required(flag: &FlagId, pipeline: Option<&PipelineId>) -> String {
    match pipeline {
        Some(pipeline) => {
            format!("flags/{flag} is changed by releases along pipelines/{pipeline} only")
        }
        None => format!("flags/{flag} has no pipeline; name one"),
    }
}

/// Why where a release stands does not allow a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseRefusal {
    /// RESOURCE_NOT_FOUND: a phase or a guard that the release does not have.
    #[error("{0} does not exist")]
    NoSuchPart(Resource),
    /// ETAG_MISMATCH.
    #[error("the release has changed in the meantime; read it again and decide again")]
    StaleEtag,
    /// RELEASE_OVER.
    #[error("the release is over and nothing reopens it")]
    Over,
    /// RELEASE_NOT_STARTED.
    #[error("the release has not started")]
    NotStarted,
    /// RELEASE_PAUSED.
    #[error("the release is paused; unpause it first")]
    Paused,
    /// ALREADY_PAUSED.
    #[error("the release is paused already")]
    AlreadyPaused,
    /// NOT_PAUSED.
    #[error("the release is not paused")]
    NotPaused,
    /// PHASE_NOT_CURRENT.
    #[error("phase {0} is not the current one")]
    PhaseNotCurrent(PhaseId),
    /// PHASE_NOT_AWAITING_APPROVAL.
    #[error("phase {0} does not await approval")]
    PhaseNotAwaitingApproval(PhaseId),
    /// PHASE_NOT_AWAITING_WINDOW.
    #[error("phase {0} does not await its window")]
    PhaseNotAwaitingWindow(PhaseId),
    /// PHASE_NOT_BAKING.
    #[error("phase {0} does not bake")]
    PhaseNotBaking(PhaseId),
    /// NOT_AN_APPROVER.
    #[error("only members of the reviewer groups of phase {0} may review it")]
    NotAnApprover(PhaseId),
    /// SELF_APPROVAL.
    #[error("who triggered a release may not approve its phases")]
    SelfApproval,
    /// ALREADY_REVIEWED.
    #[error("this principal has approved phase {0} already")]
    AlreadyReviewed(PhaseId),
    /// APPROVAL_PENDING.
    #[error("approvals are missing for {}", comma_separated(.0))]
    ApprovalPending(Vec<PhaseId>),
    /// WINDOW_CLOSED.
    #[error("the release window is closed for {}", comma_separated(.0))]
    WindowClosed(Vec<PhaseId>),
}

impl ReleaseRefusal {
    /// Its reason, as the API names it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoSuchPart(_) => "RESOURCE_NOT_FOUND",
            Self::StaleEtag => "ETAG_MISMATCH",
            Self::Over => "RELEASE_OVER",
            Self::NotStarted => "RELEASE_NOT_STARTED",
            Self::Paused => "RELEASE_PAUSED",
            Self::AlreadyPaused => "ALREADY_PAUSED",
            Self::NotPaused => "NOT_PAUSED",
            Self::PhaseNotCurrent(_) => "PHASE_NOT_CURRENT",
            Self::PhaseNotAwaitingApproval(_) => "PHASE_NOT_AWAITING_APPROVAL",
            Self::PhaseNotAwaitingWindow(_) => "PHASE_NOT_AWAITING_WINDOW",
            Self::PhaseNotBaking(_) => "PHASE_NOT_BAKING",
            Self::NotAnApprover(_) => "NOT_AN_APPROVER",
            Self::SelfApproval => "SELF_APPROVAL",
            Self::AlreadyReviewed(_) => "ALREADY_REVIEWED",
            Self::ApprovalPending(_) => "APPROVAL_PENDING",
            Self::WindowClosed(_) => "WINDOW_CLOSED",
        }
    }
}

fn comma_separated(phases: &[PhaseId]) -> String {
    phases.iter().map(PhaseId::as_str).collect::<Vec<_>>().join(", ")
}

/// Where a release stood when a command was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which release.
    pub release: ReleaseId,
    /// Its state.
    pub state: ReleaseState,
    /// While paused, the state that it goes back to.
    pub held: Option<ReleaseState>,
    /// Its current phase.
    pub phase: Option<PhaseId>,
    /// Commit that last changed it.
    pub revision: Revision,
}

impl Standing {
    /// Of a release as it is.
    pub fn of(release: &Release) -> Self {
        Self {
            release: release.id().clone(),
            state: release.state(),
            held: release.held_state(),
            phase: release.current().map(|phase| release.phase(phase).id.clone()),
            revision: release.progress.revision,
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(self.state))?;
        if let Some(held) = self.held {
            write!(f, ", held from {}", word(held))?;
        }
        if let Some(phase) = &self.phase {
            write!(f, ", at phase {phase}")?;
        }
        Ok(())
    }
}

/// A state as the API writes it.
fn word(state: ReleaseState) -> &'static str {
    match state {
        ReleaseState::Pending => "PENDING",
        ReleaseState::AwaitingApproval => "AWAITING_APPROVAL",
        ReleaseState::AwaitingWindow => "AWAITING_WINDOW",
        ReleaseState::Baking => "BAKING",
        ReleaseState::Paused => "PAUSED",
        ReleaseState::Succeeded => "SUCCEEDED",
        ReleaseState::Aborted => "ABORTED",
        ReleaseState::Failed => "FAILED",
    }
}

/// The name of something that a command is about or refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `flags/{flag}`.
    Flag(FlagId),
    /// `pipelines/{pipeline}`.
    Pipeline(PipelineId),
    /// `releases/{release}`.
    Release(ReleaseId),
    /// `releases/{release}/phases/{phase}`.
    Phase(ReleaseId, PhaseId),
    /// `releases/{release}/phases/{phase}/guards/{guard}`.
    Guard(ReleaseId, PhaseId, crate::id::GuardId),
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flags/{flag}"),
            Self::Pipeline(pipeline) => write!(f, "pipelines/{pipeline}"),
            Self::Release(release) => write!(f, "releases/{release}"),
            Self::Phase(release, phase) => write!(f, "releases/{release}/phases/{phase}"),
            Self::Guard(release, phase, guard) => {
                write!(f, "releases/{release}/phases/{phase}/guards/{guard}")
            }
        }
    }
}
