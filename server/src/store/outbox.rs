//! Notifications that are to be sent, and how far that has got.
//!
//! A row is written in the batch of the commit that causes it, so that none is lost and none is sent
//! of what did not happen. Who sends them is not the store's business.

use phasegate_engine::{
    id::{FlagId, GuardId, PhaseId, PipelineId, Principal, ReleaseId, Revision, SinkId},
    release::EndReason,
    time::Timestamp,
};
use serde::{Deserialize, Deserializer, Serialize};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// Which row: rows of one sink are in the order in which they were written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboxKey {
    /// Where it goes.
    pub sink: SinkId,
    /// Grows with every row, over all sinks. Not used again while the process runs.
    pub sequence: u64,
}

impl fmt::Display for OutboxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.sink, self.sequence)
    }
}

/// A notification on its way to one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// What to send.
    pub notification: Notification,
    /// How often it was tried.
    pub attempts: u32,
    /// Not before this time.
    pub next_at: Timestamp,
    /// Why the last attempt failed; empty if there was none.
    pub last_error: Arc<str>,
    /// Whether it is still to be sent.
    pub state: OutboxState,
}

/// Whether a notification is still to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutboxState {
    /// It is.
    Pending,
    /// It was given up at this time, and is kept for somebody to look at, or to send it again.
    Dead(Timestamp),
}

impl OutboxRow {
    /// A row that was not tried yet.
    pub fn new(notification: Notification) -> Self {
        Self {
            attempts: 0,
            next_at: notification.time,
            last_error: "".into(),
            state: OutboxState::Pending,
            notification,
        }
    }

    /// True while it is to be sent.
    pub fn is_pending(&self) -> bool {
        self.state == OutboxState::Pending
    }
}

/// What a sink is told. It holds no spec and no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// The same at every attempt and after every restart, and of no other notification of any sink.
    pub id: Arc<str>,
    /// What it is about.
    pub kind: NotificationKind,
    /// Time of the commit; of a reminder, when it came due.
    pub time: Timestamp,
    /// The commit; of what no commit caused, the last one before it.
    pub revision: Revision,
    /// The flag.
    pub flag: Option<FlagId>,
    /// The release.
    pub release: Option<ReleaseId>,
    /// The pipeline of the release.
    pub pipeline: Option<PipelineId>,
    /// The phase.
    pub phase: Option<PhaseId>,
    /// The guard that failed.
    pub guard: Option<GuardId>,
    /// Who did it; none: the engine.
    pub principal: Option<Principal>,
    /// Who triggered the release.
    pub creator: Option<Principal>,
    /// Text that they gave, or that came with the guard's verdict.
    pub reason: Arc<str>,
    /// Why the release ended.
    pub end: Option<EndReason>,
    /// When the approvals that are due run out, or when the window opens.
    pub until: Option<Timestamp>,
    /// Labels of the release.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// The trace that the call belonged to: a `traceparent` of W3C Trace Context.
    pub trace: Option<Arc<str>>,
}

/// What a notification is about. Its name says a version, which changes when its meaning does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotificationKind {
    /// A release was triggered.
    ReleaseTriggered,
    /// A release started.
    ReleaseStarted,
    /// The current phase needs approvals.
    ReleaseApprovalDue,
    /// The approvals that a phase needs will soon run out.
    ReleaseApprovalExpiring,
    /// Somebody approved.
    ReleaseApproved,
    /// Somebody rejected. That the release was aborted comes too.
    ReleaseRejected,
    /// The current phase waits for its window.
    ReleaseWindowDue,
    /// Exposure grew.
    ReleasePhaseApplied,
    /// An approval or a window was gone round.
    ReleaseBypassed,
    /// A guard failed, or did not pass in its time.
    ReleaseGuardFailed,
    /// A release is held: by a person, a guard, or because a timer was found too late.
    ReleaseHeld,
    /// A held release goes on.
    ReleaseResumed,
    /// A release succeeded.
    ReleaseFinished,
    /// A release was aborted.
    ReleaseAborted,
    /// A release failed.
    ReleaseFailed,
    /// The kill switch of a flag was engaged.
    FlagKilled,
    /// The kill switch of a flag was lifted.
    FlagRevived,
    /// Somebody looks whether a sink can be reached.
    Test,
}

impl NotificationKind {
    /// All there are.
    pub const ALL: [Self; 18] = [
        Self::ReleaseTriggered,
        Self::ReleaseStarted,
        Self::ReleaseApprovalDue,
        Self::ReleaseApprovalExpiring,
        Self::ReleaseApproved,
        Self::ReleaseRejected,
        Self::ReleaseWindowDue,
        Self::ReleasePhaseApplied,
        Self::ReleaseBypassed,
        Self::ReleaseGuardFailed,
        Self::ReleaseHeld,
        Self::ReleaseResumed,
        Self::ReleaseFinished,
        Self::ReleaseAborted,
        Self::ReleaseFailed,
        Self::FlagKilled,
        Self::FlagRevived,
        Self::Test,
    ];

    /// Its name, as sinks see it and the store keeps it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReleaseTriggered => "phasegate.release.triggered.v1",
            Self::ReleaseStarted => "phasegate.release.started.v1",
            Self::ReleaseApprovalDue => "phasegate.release.approval_due.v1",
            Self::ReleaseApprovalExpiring => "phasegate.release.approval_expiring.v1",
            Self::ReleaseApproved => "phasegate.release.approved.v1",
            Self::ReleaseRejected => "phasegate.release.rejected.v1",
            Self::ReleaseWindowDue => "phasegate.release.window_due.v1",
            Self::ReleasePhaseApplied => "phasegate.release.phase_applied.v1",
            Self::ReleaseBypassed => "phasegate.release.bypassed.v1",
            Self::ReleaseGuardFailed => "phasegate.release.guard_failed.v1",
            Self::ReleaseHeld => "phasegate.release.held.v1",
            Self::ReleaseResumed => "phasegate.release.resumed.v1",
            Self::ReleaseFinished => "phasegate.release.finished.v1",
            Self::ReleaseAborted => "phasegate.release.aborted.v1",
            Self::ReleaseFailed => "phasegate.release.failed.v1",
            Self::FlagKilled => "phasegate.flag.killed.v1",
            Self::FlagRevived => "phasegate.flag.revived.v1",
            Self::Test => "phasegate.test.v1",
        }
    }

    /// The kind with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for NotificationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for NotificationKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for NotificationKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Arc::<str>::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| serde::de::Error::custom("no kind of notification"))
    }
}

/// That somebody was reminded of the approvals of a release, so that it is done once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reminder {
    /// When the approvals run out that it was for.
    pub expires: Timestamp,
}
