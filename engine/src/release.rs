//! Releases: one change of one flag on its way along one pipeline.
//!
//! A release has a part that never changes ([`Proposal`]) and a part that does ([`Progress`]).
//! Both are shared, not copied, between the writer, readers and the log.

use crate::{
    event::Actor,
    flag::Spec,
    id::{FlagId, Group, GuardId, Principal, ReleaseId, RequestId, Revision},
    pipeline::{Phase, Pipeline},
    stored,
    time::{Span, Timestamp},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
// Of three words of a `Vec` two are with what it holds: most of these are short or empty, and there may be millions.
use thin_vec::ThinVec;

/// A release: what was proposed, and how far it got.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// What never changes.
    pub proposal: Arc<Proposal>,
    /// What does.
    pub progress: Progress,
}

/// The part of a release that never changes after it was triggered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// Last segment of its name.
    pub id: ReleaseId,
    /// The flag that it changes.
    pub flag: FlagId,
    /// Copy of the pipeline, taken when the release was triggered.
    pub pipeline: Arc<Pipeline>,
    /// The whole new spec.
    pub change: Arc<Spec>,
    /// Spec revision that the change was made from; none: not checked.
    pub base: Option<Revision>,
    /// Whatever the caller wants to find it by.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Free text, for example a ticket.
    pub description: Arc<str>,
    /// Not before this time.
    pub schedule_time: Option<Timestamp>,
    /// Who triggered it.
    pub creator: Principal,
    /// Commit in which it was triggered. One commit triggers one release at most, so this orders
    /// releases by creation.
    pub created: Revision,
    /// Time of that commit.
    pub create_time: Timestamp,
}

/// The part of a release that changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Where it stands.
    pub stage: Stage,
    /// One entry for each phase, in order.
    pub phases: ThinVec<PhaseProgress>,
    /// When it became active.
    pub start_time: Option<Timestamp>,
    /// Commit that last changed it; its etag stands for this.
    pub revision: Revision,
    /// Time of that commit.
    pub update_time: Timestamp,
    /// Grows with every arming and disarming of the timer; a firing with an older one is dropped.
    #[serde(deserialize_with = "stored::counter")]
    pub timer_generation: u64,
}

/// Index of a phase in its pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PhaseIndex(u16);

impl PhaseIndex {
    /// The first phase.
    pub const FIRST: Self = Self(0);

    /// From an index; pipelines have at most 50 phases.
    pub fn new(index: usize) -> Self {
        Self(u16::try_from(index).unwrap_or(u16::MAX))
    }

    /// As an index.
    pub fn get(self) -> usize {
        usize::from(self.0)
    }

    /// The phase after it, if there were one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Where a release stands, with the data of that standing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Stage {
    /// Not started: waits for its time, or behind the active release.
    Pending,
    /// Active, and at this phase.
    Running {
        /// The current phase.
        phase: PhaseIndex,
        /// What it waits for.
        wait: Wait,
    },
    /// Held by a person, a guard, or the recovery of the server.
    Paused {
        /// What it goes back to.
        held: Held,
        /// Who held it, why and since when. Apart, because most releases are not held.
        by: Box<PauseRecord>,
    },
    /// Over.
    Over {
        /// Why.
        reason: EndReason,
        /// When.
        time: Timestamp,
    },
}

/// What the current phase waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wait {
    /// Approvals.
    Approval {
        /// When the release fails for want of them; none: never.
        expires: Option<Timestamp>,
    },
    /// Its window.
    Window {
        /// The next opening; none: there is none in the next 366 days.
        opens: Option<Timestamp>,
    },
    /// The end of its bake.
    Bake {
        /// When that is.
        ends: Timestamp,
    },
    /// A guard that owes a PASS, though the bake is over.
    Guards {
        /// When the bake ended.
        ended: Timestamp,
        /// Since when the guards' time runs: the end of the bake, or the last unpause.
        since: Timestamp,
    },
}

/// What a paused release goes back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// It had not started.
    Pending,
    /// It was active, and at this phase.
    Running {
        /// The current phase.
        phase: PhaseIndex,
        /// What it waited for.
        wait: HeldWait,
    },
}

/// What the current phase of a paused release waited for, and how much of that was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeldWait {
    /// Approvals.
    Approval {
        /// Time left to get them; none: no limit.
        remaining: Option<Span>,
    },
    /// Its window. Looked at anew when unpaused.
    Window,
    /// The end of its bake.
    Bake {
        /// Bake time left.
        remaining: Span,
    },
    /// The bake is over; guards may owe a PASS. The phase is left at unpause if none does.
    Guards {
        /// When the bake ended.
        ended: Timestamp,
    },
}

/// The event that holds a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PauseRecord {
    /// Commit of the event.
    pub revision: Revision,
    /// Its place in that commit.
    pub ordinal: u32,
    /// Time of that commit.
    pub time: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// Text they gave.
    pub reason: Arc<str>,
    /// Id of the request.
    pub request_id: Option<RequestId>,
    /// What led to it.
    pub cause: PauseCause,
    /// The current phase, if there is one.
    pub phase: Option<PhaseIndex>,
}

/// What led to a pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PauseCause {
    /// A call.
    Requested,
    /// A guard's FAIL.
    Guard(GuardId),
    /// A timer that was found too late to be trusted, because nobody was watching.
    Overdue(Span),
}

/// Why a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndReason {
    /// SUCCEEDED after its last phase.
    AllPhasesDone,
    /// SUCCEEDED by FullRollout.
    FullRollout,
    /// ABORTED by AbortRelease.
    AbortRequested,
    /// ABORTED by RejectPhase.
    ApprovalRejected,
    /// ABORTED by a newer release.
    Superseded,
    /// FAILED: approvals did not come in time.
    ApprovalExpired,
    /// FAILED by a guard.
    GuardFailed,
    /// FAILED: the base no longer held when it was to start.
    BaseChanged,
}

impl EndReason {
    /// The final state that it stands for.
    pub fn state(self) -> ReleaseState {
        match self {
            Self::AllPhasesDone | Self::FullRollout => ReleaseState::Succeeded,
            Self::AbortRequested | Self::ApprovalRejected | Self::Superseded => {
                ReleaseState::Aborted
            }
            Self::ApprovalExpired | Self::GuardFailed | Self::BaseChanged => ReleaseState::Failed,
        }
    }
}

/// Where a release stands, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ReleaseState {
    /// Not started.
    Pending,
    /// The current phase needs approvals.
    AwaitingApproval,
    /// The current phase waits for its window.
    AwaitingWindow,
    /// The current phase is applied.
    Baking,
    /// Held.
    Paused,
    /// Final: the change is the settled spec of the flag.
    Succeeded,
    /// Final: ended by a caller.
    Aborted,
    /// Final: ended by the engine.
    Failed,
}

impl ReleaseState {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::Failed as usize + 1;
    /// Those that nothing follows.
    pub const FINAL: [Self; 3] = [Self::Succeeded, Self::Aborted, Self::Failed];

    /// Nothing follows a final state.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Aborted | Self::Failed)
    }
}

/// Progress of one phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseProgress {
    /// Where it stands; a pause does not change it.
    pub state: PhaseState,
    /// Its rules are part of the exposure now.
    pub applied: bool,
    /// Its approval or window was bypassed.
    pub bypassed: bool,
    /// When it became current.
    pub enter_time: Option<Timestamp>,
    /// When its rules took effect.
    pub apply_time: Option<Timestamp>,
    /// When it stopped being current.
    pub end_time: Option<Timestamp>,
    /// What reviewers said, in order.
    pub reviews: ThinVec<Review>,
    /// One entry for each guard, in order.
    pub guards: ThinVec<GuardProgress>,
}

/// Where a phase stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PhaseState {
    /// Not entered yet.
    Pending,
    /// Current, needs approvals.
    AwaitingApproval,
    /// Current, waits for its window.
    AwaitingWindow,
    /// Current and applied.
    Baking,
    /// Full bake, guards content.
    Succeeded,
    /// Left early, or never applied.
    Skipped,
    /// Was current when the release was aborted.
    Aborted,
    /// Was current when the release failed.
    Failed,
    /// Never entered, because the release ended.
    Cancelled,
}

/// An approval or a rejection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Review {
    /// Which of the two.
    pub verdict: ReviewVerdict,
    /// Who said so.
    pub principal: Principal,
    /// Groups that the call carried and that a quota of the phase names.
    pub groups: Vec<Group>,
    /// Commit of the event.
    pub revision: Revision,
    /// Its place in that commit.
    pub ordinal: u32,
    /// Time of that commit.
    pub time: Timestamp,
    /// Text they gave.
    pub reason: Arc<str>,
    /// Id of the request.
    pub request_id: Option<RequestId>,
    /// State of the release after the commit.
    pub state_after: ReleaseState,
}

/// What a reviewer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReviewVerdict {
    /// Go.
    Approved,
    /// Stop.
    Rejected,
}

/// What an outside system says of a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuardVerdict {
    /// Healthy.
    Pass,
    /// Unhealthy.
    Fail,
}

/// Last verdict of one guard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GuardProgress {
    /// None: nothing reported, or a FAIL that was reset by unpausing.
    pub verdict: Option<GuardVerdict>,
    /// Text that came with it.
    pub message: Arc<str>,
    /// When it came.
    pub report_time: Option<Timestamp>,
}

impl Release {
    /// Last segment of its name.
    pub fn id(&self) -> &ReleaseId {
        &self.proposal.id
    }

    /// True if its two parts fit: its progress speaks of the phases and guards of its pipeline, and of
    /// no others. Who puts a release together from what was stored must ask this, because everything
    /// else takes it for granted.
    pub fn is_whole(&self) -> bool {
        let phases = self.phases();
        let guards = |(phase, progress): (&Phase, &PhaseProgress)| {
            phase.guards.len() == progress.guards.len()
        };
        let paused_at = match &self.progress.stage {
            Stage::Paused { by, .. } => by.phase,
            Stage::Pending | Stage::Running { .. } | Stage::Over { .. } => None,
        };
        phases.len() == self.progress.phases.len()
            && phases.iter().zip(&self.progress.phases).all(guards)
            && self.current().into_iter().chain(paused_at).all(|index| index.get() < phases.len())
    }

    /// The phases of its copy of the pipeline.
    pub fn phases(&self) -> &[Phase] {
        &self.proposal.pipeline.template.phases
    }

    /// The phase at an index that the release itself holds.
    pub fn phase(&self, index: PhaseIndex) -> &Phase {
        &self.phases()[index.get()]
    }

    /// Where it stands, in one word.
    pub fn state(&self) -> ReleaseState {
        match &self.progress.stage {
            Stage::Pending => ReleaseState::Pending,
            Stage::Running { wait, .. } => wait.state(),
            Stage::Paused { .. } => ReleaseState::Paused,
            Stage::Over { reason, .. } => reason.state(),
        }
    }

    /// While paused: what it goes back to.
    pub fn held_state(&self) -> Option<ReleaseState> {
        match &self.progress.stage {
            Stage::Paused { held: Held::Pending, .. } => Some(ReleaseState::Pending),
            Stage::Paused { held: Held::Running { wait, .. }, .. } => Some(wait.state()),
            Stage::Pending | Stage::Running { .. } | Stage::Over { .. } => None,
        }
    }

    /// The current phase; none before the start and after the end.
    pub fn current(&self) -> Option<PhaseIndex> {
        match &self.progress.stage {
            Stage::Running { phase, .. }
            | Stage::Paused { held: Held::Running { phase, .. }, .. } => Some(*phase),
            Stage::Pending | Stage::Paused { held: Held::Pending, .. } | Stage::Over { .. } => None,
        }
    }

    /// True from its start to its end: every state but the final ones, PENDING, and PAUSED held
    /// from PENDING.
    pub fn is_active(&self) -> bool {
        self.current().is_some()
    }

    /// True once it has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.progress.stage, Stage::Over { .. })
    }

    /// True if it has not started and is not over, paused or not.
    pub fn is_waiting_to_start(&self) -> bool {
        !self.is_over() && !self.is_active()
    }

    /// Why it ended.
    pub fn end_reason(&self) -> Option<EndReason> {
        match &self.progress.stage {
            Stage::Over { reason, .. } => Some(*reason),
            Stage::Pending | Stage::Running { .. } | Stage::Paused { .. } => None,
        }
    }

    /// True if it may start at `now` as far as its own schedule goes.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.proposal.schedule_time.is_none_or(|at| at <= now)
    }

    /// Fewest further approvals that can meet the requirement of a phase, by its reviews alone. 0
    /// without a requirement.
    pub fn approvals_missing(&self, phase: PhaseIndex) -> u32 {
        self.approvals_missing_with(phase, &[])
    }

    /// The same after further approvals, each by a principal in these groups. It is the larger of
    /// what is missing in all and of what any quota misses, because one person may count for all of
    /// them.
    pub fn approvals_missing_with(&self, phase: PhaseIndex, further: &[&[Group]]) -> u32 {
        let Some(requirement) = &self.phase(phase).approval else { return 0 };
        let approved = |review: &&Review| review.verdict == ReviewVerdict::Approved;
        let recorded = self.progress.phases[phase.get()].reviews.iter().filter(approved);
        let approvals: Vec<&[Group]> = recorded
            .map(|review| review.groups.as_slice())
            .chain(further.iter().copied())
            .collect();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let in_all = requirement.min_approvals.saturating_sub(count(approvals.len()));
        let by_quota = requirement.quotas.iter().map(|quota| {
            let from_group = approvals.iter().filter(|groups| groups.contains(&quota.group));
            quota.min_approvals.saturating_sub(count(from_group.count()))
        });
        by_quota.fold(in_all, u32::max)
    }
}

impl Wait {
    /// The state of a release that waits for this.
    pub fn state(self) -> ReleaseState {
        match self {
            Self::Approval { .. } => ReleaseState::AwaitingApproval,
            Self::Window { .. } => ReleaseState::AwaitingWindow,
            Self::Bake { .. } | Self::Guards { .. } => ReleaseState::Baking,
        }
    }

    /// The state of the phase that waits for this.
    pub fn phase_state(self) -> PhaseState {
        match self {
            Self::Approval { .. } => PhaseState::AwaitingApproval,
            Self::Window { .. } => PhaseState::AwaitingWindow,
            Self::Bake { .. } | Self::Guards { .. } => PhaseState::Baking,
        }
    }
}

impl HeldWait {
    /// The state that a release held like this goes back to.
    pub fn state(self) -> ReleaseState {
        match self {
            Self::Approval { .. } => ReleaseState::AwaitingApproval,
            Self::Window => ReleaseState::AwaitingWindow,
            Self::Bake { .. } | Self::Guards { .. } => ReleaseState::Baking,
        }
    }
}
