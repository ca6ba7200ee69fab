//! What goes on record: every act that was done, and refusals as far as their limit goes.
//!
//! Entries join the batch in hand, those of acts with the commit that does them. What is beyond the
//! limit of refusals is counted, and the counts are written when their minute is over. A process that
//! is killed loses the counts of that minute, and nothing else.

use super::{
    config::AuditLimits,
    handle::{Error, Submission},
    requests::subject,
};
use crate::store::{
    StoreId, Subject,
    audit::{Act, AuditEntry, AuditHead, AuditedCall, Outcome, Suppressed},
};
use phasegate_engine::{
    command::{Action, ConflictPolicy, Expected, Gate, SwitchTo},
    id::{Principal, Revision},
    release::GuardVerdict,
    time::{Span, Timestamp},
};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

/// The principal of a call without one.
const ANONYMOUS: &str = "anonymous";
/// How long refusals are counted together.
const WINDOW: Span = Span::from_secs(60);
/// Texts of callers are cut to this. The edge takes no longer reasons; this is for what passes it by.
const TEXT_BYTES_MAX: usize = 4096;

/// The end of the chain, and how much was refused lately.
#[derive(Debug)]
pub(super) struct Recorder {
    store: StoreId,
    head: AuditHead,
    limits: AuditLimits,
    windows: BTreeMap<Who, Window>,
}

/// Whose refusals count together. Without anything: those of all who are too many to tell apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Who {
    principal: Option<Principal>,
    peer: Option<Arc<str>>,
    reason: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    since: Timestamp,
    written: u32,
    suppressed: u64,
}

/// Whether anything may be written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Enough,
    /// Everything is only counted.
    None,
}

impl Recorder {
    pub(super) fn new(store: StoreId, head: AuditHead, limits: AuditLimits) -> Self {
        Self { store, head, limits, windows: BTreeMap::new() }
    }

    /// The last entry, those of the batch in hand among them.
    pub(super) fn head(&self) -> AuditHead {
        self.head
    }

    fn write(&mut self, act: Act, now: Timestamp, entries: &mut Vec<AuditEntry>) {
        let entry = AuditEntry::after(self.head, now, self.store, act);
        self.head = entry.head();
        entries.push(entry);
    }

    /// Puts an act on record.
    pub(super) fn accepted(
        &mut self,
        submission: &Submission,
        revision: Option<Revision>,
        now: Timestamp,
        entries: &mut Vec<AuditEntry>,
    ) {
        let call = audited(submission, Outcome::Accepted { revision });
        self.write(Act::Call(Box::new(call)), now, entries);
    }

    /// Puts a refusal on record, or counts it.
    pub(super) fn refused(
        &mut self,
        call: AuditedCall,
        now: Timestamp,
        room: Room,
        entries: &mut Vec<AuditEntry>,
    ) {
        let who = self.who(&call);
        let window = Window { since: now, written: 0, suppressed: 0 };
        let mut window = self.windows.get(&who).copied().unwrap_or(window);
        if window.is_over(now) && room == Room::Enough {
            self.close(&who, window, now, entries);
            window = Window { since: now, written: 0, suppressed: 0 };
        }
        if window.written < self.limits.refusals_per_minute && room == Room::Enough {
            window.written += 1;
            self.write(Act::Call(Box::new(limited(call))), now, entries);
        } else {
            window.suppressed += 1;
        }
        self.windows.insert(who, window);
    }

    /// As [`Self::refused`], of a call that came to the writer.
    pub(super) fn refused_here(
        &mut self,
        submission: &Submission,
        error: &Error,
        now: Timestamp,
        room: Room,
        entries: &mut Vec<AuditEntry>,
    ) {
        let outcome = Outcome::Refused { reason: error.reason().into() };
        self.refused(audited(submission, outcome), now, room, entries);
    }

    /// Counts refusals of which nothing else is known.
    pub(super) fn uncounted(&mut self, count: u64, now: Timestamp) {
        if count > 0 {
            let window = Window { since: now, written: 0, suppressed: 0 };
            let window = self.windows.entry(Who::default()).or_insert(window);
            window.suppressed = window.suppressed.saturating_add(count);
        }
    }

    /// Whose refusals this one counts among.
    fn who(&self, call: &AuditedCall) -> Who {
        let who = if call.principal.as_str() == ANONYMOUS {
            let address = |peer: &Arc<str>| {
                let peer: SocketAddr = peer.parse().ok()?;
                Some(peer.ip().to_string().into())
            };
            Who { principal: None, peer: call.peer.as_ref().and_then(address), reason: None }
        } else {
            let reason = match &call.outcome {
                Outcome::Refused { reason } => Some(Arc::clone(reason)),
                Outcome::Accepted { .. } => None,
            };
            Who { principal: Some(call.principal.clone()), peer: None, reason }
        };
        if self.windows.contains_key(&who) || self.windows.len() < self.limits.told_apart {
            who
        } else {
            Who::default()
        }
    }

    /// Writes the counts of the minutes that are over.
    pub(super) fn close_windows(&mut self, now: Timestamp, entries: &mut Vec<AuditEntry>) {
        let over =
            |(who, window): (&Who, &Window)| window.is_over(now).then(|| (who.clone(), *window));
        for (who, window) in self.windows.iter().filter_map(over).collect::<Vec<_>>() {
            self.close(&who, window, now, entries);
            self.windows.remove(&who);
        }
    }

    /// Writes all counts: nobody will later.
    pub(super) fn close_all(&mut self, now: Timestamp, entries: &mut Vec<AuditEntry>) {
        for (who, window) in std::mem::take(&mut self.windows) {
            self.close(&who, window, now, entries);
        }
    }

    fn close(&mut self, who: &Who, window: Window, now: Timestamp, entries: &mut Vec<AuditEntry>) {
        if window.suppressed > 0 {
            let Who { principal, peer, reason } = who.clone();
            let count = window.suppressed;
            self.write(
                Act::Suppressed(Suppressed { principal, peer, reason, count }),
                now,
                entries,
            );
        }
    }
}

impl Window {
    fn is_over(&self, now: Timestamp) -> bool {
        // A clock that was stepped back must not keep a window open for ever.
        now.since(self.since) >= WINDOW || now < self.since
    }
}

/// A call with what is on record of it.
fn audited(submission: &Submission, outcome: Outcome) -> AuditedCall {
    let (call, origin) = (&submission.call, &submission.origin);
    let resource = match subject(&call.action) {
        Subject::Flag(flag) => format!("flags/{flag}"),
        Subject::Pipeline(pipeline) => format!("pipelines/{pipeline}"),
        Subject::Release(release) => format!("releases/{release}"),
    };
    limited(AuditedCall {
        method: submission.rpc.into(),
        resource: resource.into(),
        principal: call.caller.principal.clone(),
        authenticated: origin.authenticated.clone(),
        vouched: origin.vouched.clone(),
        peer: origin.peer.map(|peer| peer.to_string().into()),
        groups: call.caller.groups.clone(),
        request_id: call.request_id.clone(),
        trace: origin.trace.clone(),
        reason: Arc::clone(&call.reason),
        asked: asked(&call.action),
        outcome,
    })
}

/// Holds the texts within their limit.
fn limited(call: AuditedCall) -> AuditedCall {
    let reason = cut(call.reason);
    AuditedCall { reason, ..call }
}

fn cut(text: Arc<str>) -> Arc<str> {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let end = (0..=TEXT_BYTES_MAX).rev().find(|&end| text.is_char_boundary(end));
    text[..end.unwrap_or(0)].into()
}

/// What was asked, in short: names and switches, and nothing of a spec.
fn asked(action: &Action) -> BTreeMap<Arc<str>, Arc<str>> {
    let mut asked = Asked::default();
    match action {
        Action::CreateFlag { pipeline, .. } => asked.option("pipeline", pipeline.as_ref()),
        Action::UpdateFlag { expected, change, .. } => {
            let changes = [
                ("description", change.description.is_some()),
                ("spec", change.spec.is_some()),
                ("pipeline", change.pipeline.is_some()),
            ];
            asked.changes(&changes);
            asked.option("pipeline", change.pipeline.as_ref().and_then(Option::as_ref));
            asked.etag(*expected);
        }
        Action::DeleteFlag { expected, .. }
        | Action::DeletePipeline { expected, .. }
        | Action::UnpauseRelease { expected, .. } => asked.etag(*expected),
        Action::SetKillSwitch { switch, .. } => asked.add(
            "switch",
            match switch {
                SwitchTo::Engaged => "engaged",
                SwitchTo::Lifted => "lifted",
            },
        ),
        Action::CreatePipeline { template, .. } => asked.add("phases", template.phases.len()),
        Action::UpdatePipeline { expected, change, .. } => {
            let changes = [
                ("description", change.description.is_some()),
                ("phases", change.phases.is_some()),
                ("exempt_environments", change.exempt_environments.is_some()),
                ("trigger_notice", change.trigger_notice.is_some()),
            ];
            asked.changes(&changes);
            asked.etag(*expected);
        }
        Action::TriggerRelease(trigger) => {
            asked.add("flag", &trigger.flag);
            asked.option("pipeline", trigger.pipeline.as_ref());
            asked.option("base", trigger.base.as_ref());
            asked.option("schedule_time", trigger.schedule_time.as_ref());
            asked.add(
                "conflict_policy",
                match trigger.conflict_policy {
                    ConflictPolicy::Fail => "fail",
                    ConflictPolicy::Queue => "queue",
                    ConflictPolicy::Supersede => "supersede",
                },
            );
        }
        Action::ApprovePhase { expected, phase, .. }
        | Action::RejectPhase { expected, phase, .. }
        | Action::OverrideWindow { expected, phase, .. } => {
            asked.add("phase", phase);
            asked.etag(*expected);
        }
        Action::SkipPhase { expected, phase, approvals, .. } => {
            asked.add("phase", phase);
            asked.gate("bypass_approval", *approvals);
            asked.etag(*expected);
        }
        Action::AdjustBake { expected, phase, remaining, .. } => {
            asked.add("phase", phase);
            asked.add("remaining", remaining);
            asked.etag(*expected);
        }
        Action::FullRollout { expected, approvals, windows, .. } => {
            asked.gate("bypass_approval", *approvals);
            asked.gate("override_windows", *windows);
            asked.etag(*expected);
        }
        Action::ReportGuardSignal { phase, guard, verdict, .. } => {
            asked.add("phase", phase);
            asked.add("guard", guard);
            asked.add(
                "verdict",
                match verdict {
                    GuardVerdict::Pass => "pass",
                    GuardVerdict::Fail => "fail",
                },
            );
        }
        Action::PauseRelease { .. } | Action::AbortRelease { .. } => {}
    }
    asked.0
}

#[derive(Default)]
struct Asked(BTreeMap<Arc<str>, Arc<str>>);

impl Asked {
    fn add(&mut self, key: &str, value: impl ToString) {
        self.0.insert(key.into(), value.to_string().into());
    }

    fn option(&mut self, key: &str, value: Option<&impl ToString>) {
        if let Some(value) = value {
            self.add(key, value.to_string());
        }
    }

    fn gate(&mut self, key: &str, gate: Gate) {
        if gate == Gate::Bypass {
            self.add(key, true);
        }
    }

    fn etag(&mut self, expected: Expected) {
        match expected {
            Expected::Anything => {}
            Expected::Revision(revision) => self.add("etag", revision),
            Expected::Unknown => self.add("etag", "unknown"),
        }
    }

    fn changes(&mut self, fields: &[(&str, bool)]) {
        let changed: Vec<&str> =
            fields.iter().filter(|(_, changed)| *changed).map(|(field, _)| *field).collect();
        self.add("changes", changed.join(","));
    }
}
