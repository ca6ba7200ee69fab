//! What happened. A [`Commit`] is one atomic write with one revision; it may hold several events
//! and touch several releases.

use crate::{
    flag::Flag,
    id::{FlagId, Group, GuardId, PipelineId, Principal, ReleaseId, RequestId, Revision},
    pipeline::Pipeline,
    release::{
        EndReason, GuardVerdict, Held, PauseCause, PhaseIndex, Proposal, Release, ReleaseState,
        Wait,
    },
    state::State,
    time::{Span, Timestamp},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// One atomic write.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// Its number in the whole store.
    pub revision: Revision,
    /// Its time; never before that of an earlier commit.
    pub time: Timestamp,
    /// What it did, in order; never empty.
    pub events: Vec<Event>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A flag was created or changed: this is what it is now. Its `revision` and `update_time` are
    /// the commit's.
    FlagStored(Arc<Flag>),
    /// A flag was deleted.
    FlagDeleted(FlagId),
    /// A pipeline was created or changed: this is what it is now.
    PipelineStored(Arc<Pipeline>),
    /// A pipeline was deleted.
    PipelineDeleted(PipelineId),
    /// A release came to be; its TRIGGERED follows.
    ReleaseCreated(Arc<Proposal>),
    /// Something happened to a release. These make the public log.
    Release(ReleaseEvent),
}

/// One entry of a release's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseEvent {
    /// Which release.
    pub release: ReleaseId,
    /// Order inside the commit, from 0 for each release.
    pub ordinal: u32,
    /// Who did it.
    pub actor: Actor,
    /// Text the actor gave.
    pub reason: Arc<str>,
    /// Id of the request; none if the engine did it.
    pub request_id: Option<RequestId>,
    /// What happened.
    pub happened: Happened,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    /// Timers and recovery.
    Engine,
    /// A caller.
    Principal(Principal),
}

/// What happened to a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Happened {
    /// It was created, PENDING until STARTED.
    Triggered,
    /// It became active.
    Started {
        /// Set if its start timer did it.
        timer: Option<TimerRecord>,
    },
    /// The phase became current. If it need not wait its application follows in the same commit;
    /// `wait` is then none.
    PhaseEntered {
        /// The phase.
        phase: PhaseIndex,
        /// What it waits for.
        wait: Option<Wait>,
    },
    /// Somebody approved, perhaps not the last one needed.
    ApprovalRecorded {
        /// The phase.
        phase: PhaseIndex,
        /// Groups of theirs that a quota names.
        groups: Vec<Group>,
        /// Set if the approvals are met now but the window is closed: it waits for that from here.
        then: Option<Wait>,
    },
    /// Somebody rejected; ABORTED follows.
    ApprovalRejected {
        /// The phase.
        phase: PhaseIndex,
        /// Groups of theirs that a quota names.
        groups: Vec<Group>,
    },
    /// The window opened.
    WindowOpened {
        /// The phase.
        phase: PhaseIndex,
        /// Set if its timer did it.
        timer: Option<TimerRecord>,
    },
    /// The next opening is another one than before: it was missed while the server was away, or has
    /// come into sight.
    WindowRescheduled {
        /// The phase.
        phase: PhaseIndex,
        /// The next opening.
        opens: Option<Timestamp>,
    },
    /// Somebody went round the window.
    WindowOverridden {
        /// The phase.
        phase: PhaseIndex,
    },
    /// Exposure grew.
    PhaseApplied {
        /// The phase.
        phase: PhaseIndex,
        /// When its bake ends.
        bake_ends: Timestamp,
    },
    /// The bake time is over but the phase stays.
    BakeElapsed {
        /// The phase.
        phase: PhaseIndex,
        /// When the bake ended; the guards' time runs from here.
        ended: Timestamp,
        /// Set if its timer did it.
        timer: Option<TimerRecord>,
    },
    /// Somebody set what is left of the bake.
    BakeAdjusted {
        /// The phase.
        phase: PhaseIndex,
        /// What is left, counted from the commit.
        remaining: Span,
        /// When the bake ends now; none while paused.
        ends: Option<Timestamp>,
    },
    /// A verdict came, or its time ran out.
    GuardReported {
        /// The phase.
        phase: PhaseIndex,
        /// The guard.
        guard: GuardId,
        /// What it says.
        verdict: GuardVerdict,
        /// Set if its time ran out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timer: Option<TimerRecord>,
    },
    /// The phase is done.
    PhaseSucceeded {
        /// The phase.
        phase: PhaseIndex,
        /// Set if its bake timer did it.
        timer: Option<TimerRecord>,
    },
    /// The phase was left early, or is never entered.
    PhaseSkipped {
        /// The phase.
        phase: PhaseIndex,
        /// What was gone round.
        bypass: Bypass,
    },
    /// Held.
    Paused {
        /// What it goes back to.
        held: Held,
        /// What led to it.
        cause: PauseCause,
    },
    /// Released from the hold.
    Unpaused {
        /// What the current phase waits for again. None if the release is still PENDING, or if what
        /// follows in the same commit moves it.
        to: Option<Wait>,
    },
    /// Final.
    Succeeded {
        /// Why.
        reason: EndReason,
    },
    /// Final.
    Aborted {
        /// Why.
        reason: EndReason,
    },
    /// Final.
    Failed {
        /// Why.
        reason: EndReason,
        /// Set if a timer did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timer: Option<TimerRecord>,
    },
}

impl Happened {
    /// Its type, as the API names it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Triggered => "TRIGGERED",
            Self::Started { .. } => "STARTED",
            Self::PhaseEntered { .. } => "PHASE_ENTERED",
            Self::ApprovalRecorded { .. } => "APPROVAL_RECORDED",
            Self::ApprovalRejected { .. } => "APPROVAL_REJECTED",
            Self::WindowOpened { .. } => "WINDOW_OPENED",
            Self::WindowRescheduled { .. } => "WINDOW_RESCHEDULED",
            Self::WindowOverridden { .. } => "WINDOW_OVERRIDDEN",
            Self::PhaseApplied { .. } => "PHASE_APPLIED",
            Self::BakeElapsed { .. } => "BAKE_ELAPSED",
            Self::BakeAdjusted { .. } => "BAKE_ADJUSTED",
            Self::GuardReported { .. } => "GUARD_REPORTED",
            Self::PhaseSucceeded { .. } => "PHASE_SUCCEEDED",
            Self::PhaseSkipped { .. } => "PHASE_SKIPPED",
            Self::Paused { .. } => "PAUSED",
            Self::Unpaused { .. } => "UNPAUSED",
            Self::Succeeded { .. } => "SUCCEEDED",
            Self::Aborted { .. } => "ABORTED",
            Self::Failed { .. } => "FAILED",
        }
    }
}

/// What was gone round on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bypass {
    /// Nothing.
    None,
    /// An approval or a window that stood in the way.
    OnRecord,
}

/// A timer that led to an event: when it was to fire and how late it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerRecord {
    /// Its deadline.
    pub scheduled_for: Timestamp,
    /// From then to the commit.
    pub late: Span,
}

impl ReleaseEvent {
    /// The phase that it concerns, as an index.
    pub fn phase(&self) -> Option<PhaseIndex> {
        match &self.happened {
            Happened::PhaseEntered { phase, .. }
            | Happened::ApprovalRecorded { phase, .. }
            | Happened::ApprovalRejected { phase, .. }
            | Happened::WindowOpened { phase, .. }
            | Happened::WindowRescheduled { phase, .. }
            | Happened::WindowOverridden { phase }
            | Happened::PhaseApplied { phase, .. }
            | Happened::BakeElapsed { phase, .. }
            | Happened::BakeAdjusted { phase, .. }
            | Happened::GuardReported { phase, .. }
            | Happened::PhaseSucceeded { phase, .. }
            | Happened::PhaseSkipped { phase, .. } => Some(*phase),
            Happened::Paused { held: Held::Running { phase, .. }, .. } => Some(*phase),
            Happened::Triggered
            | Happened::Started { .. }
            | Happened::Paused { held: Held::Pending, .. }
            | Happened::Unpaused { .. }
            | Happened::Succeeded { .. }
            | Happened::Aborted { .. }
            | Happened::Failed { .. } => None,
        }
    }
}

/// What one commit did to one release: an entry of the log that watchers follow.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The commit.
    pub revision: Revision,
    /// Its time.
    pub time: Timestamp,
    /// State of the release before the commit; none if the commit created it.
    pub before: Option<ReleaseState>,
    /// The release after the commit.
    pub release: Arc<Release>,
    /// What happened to it, in order; never empty.
    pub events: Vec<ReleaseEvent>,
    /// The trace that the call belongs to which asked for it: a `traceparent` of W3C Trace Context. It is
    /// kept for whoever looks for what came of a call; nothing is decided by it.
    pub trace: Option<Arc<str>>,
}

impl Change {
    /// True if the release is whole, and the events speak of its phases and of no others. Who puts a
    /// change together from what was stored must ask this.
    pub fn is_whole(&self) -> bool {
        let phases = self.release.phases().len();
        let of_its_phases =
            |event: &ReleaseEvent| event.phase().is_none_or(|phase| phase.get() < phases);
        self.release.is_whole() && self.events.iter().all(of_its_phases)
    }
}

/// What a commit did to each release that it touched, by id. `after` is `before` with the commit
/// applied.
pub fn changes(before: &State, after: &State, commit: &Commit) -> Vec<Change> {
    let mut by_release: BTreeMap<&ReleaseId, Vec<ReleaseEvent>> = BTreeMap::new();
    for event in &commit.events {
        if let Event::Release(event) = event {
            by_release.entry(&event.release).or_default().push(event.clone());
        }
    }
    let change = |(id, events)| {
        Some(Change {
            revision: commit.revision,
            time: commit.time,
            before: before.release(id).map(|release| release.state()),
            release: Arc::clone(after.release(id)?),
            events,
            trace: None,
        })
    };
    by_release.into_iter().filter_map(change).collect()
}
