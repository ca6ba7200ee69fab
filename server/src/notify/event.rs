//! A notification as receivers get it: a CloudEvent, a line for people, and named texts for templates.

use crate::driver::{Notification, NotificationKind};
use crate::telemetry::TraceContext;
use phasegate_engine::{id::Revision, release::EndReason, time::Timestamp};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A notification, and the store that it is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event<'a> {
    /// What is told.
    pub(super) notification: &'a Notification,
    /// Of which store.
    pub(super) store: &'a str,
    /// The span of this attempt, if it is exported.
    pub(super) hop: Option<&'a TraceContext>,
}

/// A kind of notification, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    /// A few words: the subject of a mail.
    pub(super) title: &'static str,
    /// When it is sent: what the table of events in `docs/notifications.md` says.
    pub(super) when: &'static str,
}

/// What a kind means.
pub(super) fn meaning(kind: NotificationKind) -> Meaning {
    use NotificationKind as Kind;
    let (title, when) = match kind {
        Kind::ReleaseTriggered => ("Triggered", "a release was triggered"),
        Kind::ReleaseStarted => ("Started", "a release started"),
        Kind::ReleaseApprovalDue => ("Approval due", "a phase needs approvals"),
        Kind::ReleaseApprovalExpiring => {
            ("Approval expires soon", "the approvals that a phase needs will soon run out")
        }
        Kind::ReleaseApproved => ("Approved", "somebody approved a phase"),
        Kind::ReleaseRejected => ("Rejected", "somebody rejected a phase; `aborted` comes too"),
        Kind::ReleaseWindowDue => ("Waits for its window", "a phase waits for its release window"),
        Kind::ReleasePhaseApplied => ("Phase applied", "a phase was applied: exposure grew"),
        Kind::ReleaseBypassed => ("Bypassed", "an approval or a window was gone round"),
        Kind::ReleaseGuardFailed => ("Guard failed", "a guard failed, or did not pass in its time"),
        Kind::ReleaseHeld => {
            ("Held", "a release is held: by a person, a guard, or a timer that was found too late")
        }
        Kind::ReleaseResumed => ("Resumed", "a held release goes on"),
        Kind::ReleaseFinished => ("Finished", "a release succeeded"),
        Kind::ReleaseAborted => ("Aborted", "a release was aborted"),
        Kind::ReleaseFailed => ("Failed", "a release failed"),
        Kind::FlagKilled => ("Killed", "the kill switch of a flag was engaged"),
        Kind::FlagRevived => ("Revived", "the kill switch of a flag was lifted"),
        Kind::Test => ("Test", "`phasegate notify test` was run"),
    };
    Meaning { title, when }
}

/// Why a release ended, as the API calls it.
fn end_name(end: EndReason) -> &'static str {
    match end {
        EndReason::AllPhasesDone => "ALL_PHASES_DONE",
        EndReason::FullRollout => "FULL_ROLLOUT",
        EndReason::AbortRequested => "ABORT_REQUESTED",
        EndReason::ApprovalRejected => "APPROVAL_REJECTED",
        EndReason::Superseded => "SUPERSEDED",
        EndReason::ApprovalExpired => "APPROVAL_EXPIRED",
        EndReason::GuardFailed => "GUARD_FAILED",
        EndReason::BaseChanged => "BASE_CHANGED",
    }
}

impl<'a> Event<'a> {
    /// The trace that an attempt to tell of it belongs to: its own span if that is exported, else what the
    /// call came with.
    pub(super) fn trace(&self) -> Option<TraceContext> {
        let came = || TraceContext::parse(self.notification.trace.as_deref()?);
        self.hop.cloned().or_else(came)
    }

    /// The id: of the CloudEvent and of the webhook.
    pub(super) fn id(&self) -> &'a str {
        &self.notification.id
    }

    /// What it is about, as a name: of the release, else of the flag.
    pub(super) fn subject(&self) -> Option<String> {
        let Notification { release, flag, .. } = self.notification;
        match (release, flag) {
            (Some(release), _) => Some(format!("releases/{release}")),
            (None, Some(flag)) => Some(format!("flags/{flag}")),
            (None, None) => None,
        }
    }

    /// A line for people, of ids alone: nothing that a person has written is in it.
    pub(super) fn title(&self) -> String {
        let Notification { kind, flag, phase, guard, .. } = self.notification;
        let mut title = meaning(*kind).title.to_owned();
        if let Some(subject) = self.subject() {
            title.push_str(&format!(": {subject}"));
        }
        let facts = [
            flag.as_ref().map(|flag| format!("flag {flag}")),
            phase.as_ref().map(|phase| format!("phase {phase}")),
            guard.as_ref().map(|guard| format!("guard {guard}")),
        ];
        let facts: Vec<_> = facts.into_iter().flatten().collect();
        if !facts.is_empty() {
            title.push_str(&format!(" ({})", facts.join(", ")));
        }
        title
    }

    /// Who and what, for people: a name and a text each. Texts that people have written are as they
    /// wrote them.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let Notification { pipeline, principal, creator, reason, until, time, revision, .. } =
            self.notification;
        let text = |text: &Arc<str>| (!text.is_empty()).then(|| text.to_string());
        let facts = [
            ("By", principal.as_ref().map(ToString::to_string)),
            ("Triggered by", creator.as_ref().map(ToString::to_string)),
            ("Pipeline", pipeline.as_ref().map(ToString::to_string)),
            ("Reason", text(reason)),
            ("End", self.notification.end.map(|end| end_name(end).to_owned())),
            ("Until", until.as_ref().map(Timestamp::to_string)),
            ("Time", Some(time.to_string())),
            ("Revision", Some(revision.to_string())),
        ];
        facts.into_iter().filter_map(|(name, fact)| Some((name, fact?))).collect()
    }

    /// What `data` of the CloudEvent is. Fields that do not apply are left out; `labels` and `revision`
    /// are always there.
    pub(super) fn data(&self) -> Value {
        let Notification {
            kind: _,
            id: _,
            time: _,
            trace: _,
            revision,
            flag,
            release,
            pipeline,
            phase,
            guard,
            principal,
            creator,
            reason,
            end,
            until,
            labels,
        } = self.notification;
        let mut data = Map::new();
        let mut put = |name: &str, text: Option<String>| {
            if let Some(text) = text {
                data.insert(name.to_owned(), Value::String(text));
            }
        };
        put("title", Some(self.title()));
        put("release", release.as_ref().map(|id| format!("releases/{id}")));
        put("flag", flag.as_ref().map(|id| format!("flags/{id}")));
        put("pipeline", pipeline.as_ref().map(|id| format!("pipelines/{id}")));
        put("phase", phase.as_ref().map(ToString::to_string));
        put("guard", guard.as_ref().map(ToString::to_string));
        put("principal", principal.as_ref().map(ToString::to_string));
        put("creator", creator.as_ref().map(ToString::to_string));
        put("reason", (!reason.is_empty()).then(|| reason.to_string()));
        put("end", end.map(|end| end_name(end).to_owned()));
        put("until", until.map(|until| until.to_string()));
        data.insert("revision".to_owned(), number(*revision));
        let labels = labels.iter().map(|(key, value)| (key.to_string(), json!(**value)));
        data.insert("labels".to_owned(), Value::Object(labels.collect()));
        Value::Object(data)
    }

    /// The whole CloudEvent 1.0, in its structured JSON form (`application/cloudevents+json`).
    pub(super) fn cloud_event(&self) -> Value {
        let mut event = json!({
            "specversion": "1.0",
            "id": self.id(),
            "source": format!("/phasegate/{}", self.store),
            "type": self.notification.kind.name(),
            "time": self.notification.time.to_string(),
            "datacontenttype": "application/json",
            "data": self.data(),
        });
        if let Some(subject) = self.subject() {
            event["subject"] = Value::String(subject);
        }
        // The extension for distributed tracing.
        if let Some(trace) = &self.notification.trace {
            event["traceparent"] = Value::String(trace.to_string());
        }
        event
    }
}

/// A revision as a JSON number: no store comes to 2^53.
fn number(revision: Revision) -> Value {
    Value::from(revision.get())
}

/// A notification that says only that it arrives: what `phasegate notify test` sends.
pub(super) fn test_notification(id: Arc<str>, time: Timestamp, revision: Revision) -> Notification {
    Notification {
        id,
        kind: NotificationKind::Test,
        time,
        revision,
        flag: None,
        release: None,
        pipeline: None,
        phase: None,
        guard: None,
        principal: None,
        creator: None,
        reason: "".into(),
        end: None,
        until: None,
        labels: Default::default(),
        trace: None,
    }
}
