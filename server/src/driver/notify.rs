//! What people and systems elsewhere are told of a commit.
//!
//! Only what is to be told and to whom is decided here, while the commit is made ready, so that it
//! becomes durable with the commit. Sending is for another room, which takes its work from the
//! outbox.

use super::config::Config;
use crate::store::{
    StoreId,
    outbox::{Notification, NotificationKind},
};
use phasegate_engine::{
    State,
    event::{Actor, Bypass, Change, Commit, Event, Happened, ReleaseEvent},
    flag::Flag,
    id::{GuardId, PhaseId, Principal, Revision, SinkId},
    release::{GuardVerdict, PhaseIndex, Release, Stage, Wait},
    time::{Span, Timestamp},
};
use std::{collections::BTreeMap, sync::Arc};

/// Says who is to be told of what.
pub trait Route: std::fmt::Debug + Send + Sync + 'static {
    /// The sinks that a notification goes to. Asked by the writer for every one, so it has to be
    /// quick and must not wait. Its `id` is not set yet.
    fn sinks(&self, notification: &Notification) -> Vec<SinkId>;
}

/// Nobody is told of anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRoutes;

impl Route for NoRoutes {
    fn sinks(&self, _: &Notification) -> Vec<SinkId> {
        Vec::new()
    }
}

/// The notifications of one commit with where they go, each with its id.
pub(super) fn of_commit(
    config: &Config,
    store: StoreId,
    before: &State,
    commit: &Commit,
    changes: &[Arc<Change>],
    by: &By,
) -> Vec<(SinkId, Notification)> {
    let releases = changes.iter().flat_map(|change| {
        let tell = |event| of_event(change, event, by);
        change.events.iter().filter_map(tell)
    });
    let flags = commit.events.iter().filter_map(|event| match event {
        Event::FlagStored(flag) => of_flag(before, commit, flag, by),
        Event::FlagDeleted(_)
        | Event::PipelineStored(_)
        | Event::PipelineDeleted(_)
        | Event::ReleaseCreated(_)
        | Event::Release(_) => None,
    });
    let mut addressed = Vec::new();
    for (number, notification) in releases.chain(flags).enumerate() {
        for sink in config.routes.sinks(&notification) {
            let id = format!("{store}-{}-{number}-{sink}", commit.revision);
            addressed.push((sink, Notification { id: id.into(), ..notification.clone() }));
        }
    }
    addressed
}

/// Who asked for the commit, as far as the events do not say it.
#[derive(Clone, Debug, Default)]
pub(super) struct By {
    pub(super) principal: Option<Principal>,
    pub(super) trace: Option<Arc<str>>,
}

/// The reminder that the approvals of a release will soon run out.
pub(super) fn reminder(
    config: &Config,
    store: StoreId,
    release: &Release,
    due: Timestamp,
    revision: Revision,
) -> Vec<(SinkId, Notification)> {
    let Some((phase, expires)) = awaited(release) else { return Vec::new() };
    let kind = NotificationKind::ReleaseApprovalExpiring;
    let notification = Notification {
        phase: phase_id(release, phase),
        until: Some(expires),
        ..about(release, kind, due, revision)
    };
    let id = |sink: &SinkId| format!("{store}-{}-{}-{sink}", release.id(), expires.as_millis());
    let address = |sink: SinkId| {
        let id = id(&sink).into();
        (sink, Notification { id, ..notification.clone() })
    };
    config.routes.sinks(&notification).into_iter().map(address).collect()
}

/// The phase of a release that awaits approvals which run out, and when they do.
pub(super) fn awaited(release: &Release) -> Option<(PhaseIndex, Timestamp)> {
    match &release.progress.stage {
        Stage::Running { phase, wait: Wait::Approval { expires } } => Some((*phase, (*expires)?)),
        Stage::Running { .. } | Stage::Pending | Stage::Paused { .. } | Stage::Over { .. } => None,
    }
}

/// When to remind of them: some time before, but no more than a quarter of what there was.
pub(super) fn reminder_due(release: &Release, remind_before: Span) -> Option<Timestamp> {
    let (phase, expires) = awaited(release)?;
    let whole = release.phase(phase).approval.as_ref()?.expiry?;
    let lead = remind_before.min(Span::from_millis(whole.as_millis() / 4));
    Some(Timestamp::from_millis(expires.as_millis() - lead.as_millis()))
}

fn about(
    release: &Release,
    kind: NotificationKind,
    time: Timestamp,
    revision: Revision,
) -> Notification {
    let proposal = &release.proposal;
    Notification {
        id: "".into(),
        kind,
        time,
        revision,
        flag: Some(proposal.flag.clone()),
        release: Some(proposal.id.clone()),
        pipeline: Some(proposal.pipeline.id.clone()),
        phase: None,
        guard: None,
        principal: None,
        creator: Some(proposal.creator.clone()),
        reason: "".into(),
        end: None,
        until: None,
        labels: proposal.labels.clone(),
        trace: None,
    }
}

fn phase_id(release: &Release, phase: PhaseIndex) -> Option<PhaseId> {
    release.phases().get(phase.get()).map(|phase| phase.id.clone())
}

/// What an event is to others, if it is anything.
fn of_event(change: &Change, event: &ReleaseEvent, by: &By) -> Option<Notification> {
    use NotificationKind as Kind;
    let mut end = None;
    let mut until = None;
    let mut guard: Option<GuardId> = None;
    let mut waits = |wait: &Wait| match wait {
        Wait::Approval { expires } => {
            until = *expires;
            Some(Kind::ReleaseApprovalDue)
        }
        Wait::Window { opens } => {
            until = *opens;
            Some(Kind::ReleaseWindowDue)
        }
        Wait::Bake { .. } | Wait::Guards { .. } => None,
    };
    let kind = match &event.happened {
        Happened::Triggered => Kind::ReleaseTriggered,
        Happened::Started { .. } => Kind::ReleaseStarted,
        Happened::PhaseEntered { wait, .. } => waits(wait.as_ref()?)?,
        Happened::ApprovalRecorded { .. } => Kind::ReleaseApproved,
        Happened::ApprovalRejected { .. } => Kind::ReleaseRejected,
        Happened::PhaseApplied { .. } => Kind::ReleasePhaseApplied,
        Happened::WindowOverridden { .. }
        | Happened::PhaseSkipped { bypass: Bypass::OnRecord, .. } => Kind::ReleaseBypassed,
        Happened::GuardReported { guard: failed, verdict, timer, .. } => {
            if *verdict == GuardVerdict::Pass && timer.is_none() {
                return None;
            }
            guard = Some(failed.clone());
            Kind::ReleaseGuardFailed
        }
        Happened::Paused { .. } => Kind::ReleaseHeld,
        Happened::Unpaused { to } => match to {
            // Who has to approve has to know that it is time again.
            Some(wait @ Wait::Approval { .. }) => waits(wait)?,
            Some(_) | None => Kind::ReleaseResumed,
        },
        Happened::Succeeded { reason } => {
            end = Some(*reason);
            Kind::ReleaseFinished
        }
        Happened::Aborted { reason } => {
            end = Some(*reason);
            Kind::ReleaseAborted
        }
        Happened::Failed { reason, .. } => {
            end = Some(*reason);
            Kind::ReleaseFailed
        }
        Happened::WindowOpened { .. }
        | Happened::WindowRescheduled { .. }
        | Happened::BakeElapsed { .. }
        | Happened::BakeAdjusted { .. }
        | Happened::PhaseSucceeded { .. }
        | Happened::PhaseSkipped { bypass: Bypass::None, .. } => return None,
    };
    let release = &change.release;
    Some(Notification {
        phase: event.phase().and_then(|phase| phase_id(release, phase)),
        guard,
        principal: match &event.actor {
            Actor::Engine => None,
            Actor::Principal(principal) => Some(principal.clone()),
        },
        reason: Arc::clone(&event.reason),
        end,
        until,
        trace: by.trace.clone(),
        ..about(release, kind, change.time, change.revision)
    })
}

/// A kill switch that was moved.
fn of_flag(before: &State, commit: &Commit, flag: &Flag, by: &By) -> Option<Notification> {
    let was = before.flag(&flag.id).is_some_and(|flag| flag.kill_switch.is_engaged());
    let kind = match (was, flag.kill_switch.is_engaged()) {
        (false, true) => NotificationKind::FlagKilled,
        (true, false) => NotificationKind::FlagRevived,
        (true, true) | (false, false) => return None,
    };
    Some(Notification {
        id: "".into(),
        kind,
        time: commit.time,
        revision: commit.revision,
        flag: Some(flag.id.clone()),
        release: None,
        pipeline: flag.pipeline.clone(),
        phase: None,
        guard: None,
        principal: by.principal.clone(),
        creator: None,
        reason: Arc::clone(flag.kill_switch.reason()),
        end: None,
        until: None,
        labels: BTreeMap::new(),
        trace: by.trace.clone(),
    })
}
