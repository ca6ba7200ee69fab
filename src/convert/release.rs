//! The requests of `ReleaseService`, lists apart.

use super::{
    Parsed, Rejected,
    fields::{Fields, TEXT_MAX, both, expected},
    flag::{NO_SPEC, WireSpec},
    list::ReleaseFilter,
};
use crate::v1;
use phasegate_engine::{
    command::{Action, ConflictPolicy, Gate, Trigger},
    flag::Spec,
    id::{FlagId, GuardId, PhaseId, ReleaseId, RequestId, Revision},
    pipeline::LONGEST_WAIT,
    release::GuardVerdict,
    time::Span,
};
use std::{collections::BTreeMap, sync::Arc};

/// The most labels of a flag, a release, or a filter.
const LABELS_MAX: usize = 64;
/// The most characters of a label's key.
const LABEL_KEY_MAX: usize = 63;
/// The most characters of a label's value.
const LABEL_VALUE_MAX: usize = 256;
/// How long WaitRelease waits unless told otherwise.
const WAIT_DEFAULT: Span = Span::from_secs(30);
/// The longest that WaitRelease waits.
const WAIT_MAX: Span = Span::from_secs(60);

/// `releases/{release}` in a field of this name.
pub fn release_name(field: &str, text: &str) -> Result<ReleaseId, Rejected> {
    let mut fields = Fields::default();
    let id = fields.name(field, "releases", text, ReleaseId::parse);
    fields.finish(id)
}

/// Parses TriggerRelease. `fresh` is the id if the request has none.
pub fn trigger_release(
    request: v1::TriggerReleaseRequest,
    fresh: ReleaseId,
) -> Result<Parsed, Rejected> {
    let mut fields = Fields::default();
    let request_id = fields.request_id(request.request_id);
    let named = Some(&request.release_id).filter(|id| !id.is_empty());
    let id = match named {
        None => Some(fresh),
        Some(id) => fields.id("release_id", id, ReleaseId::parse),
    };
    let conflict_policy = match v1::ConflictPolicy::try_from(request.conflict_policy) {
        Ok(v1::ConflictPolicy::Unspecified | v1::ConflictPolicy::Fail) => {
            Some(ConflictPolicy::Fail)
        }
        Ok(v1::ConflictPolicy::Queue) => Some(ConflictPolicy::Queue),
        Ok(v1::ConflictPolicy::Supersede) => Some(ConflictPolicy::Supersede),
        Err(_) => fields.unknown("conflict_policy", request.conflict_policy),
    };
    let trigger = fields.required("release", request.release).and_then(|release| {
        fields.at("release", |fields| {
            fields.own_name("releases", &release.name, named.map(String::as_str));
            fields.trigger(id, release, conflict_policy)
        })
    });
    let parsed = (|| {
        let action = Action::TriggerRelease(trigger?);
        let validate_only = request.validate_only;
        Some(Parsed { action, request_id: request_id?, reason: Arc::from(""), validate_only })
    })();
    fields.finish(parsed)
}

impl Fields {
    fn trigger(
        &mut self,
        id: Option<ReleaseId>,
        release: v1::Release,
        conflict_policy: Option<ConflictPolicy>,
    ) -> Option<Trigger> {
        let flag = self.name("flag", "flags", &release.flag, FlagId::parse);
        let pipeline = self.optional_pipeline(&release.pipeline);
        let change = self.change(release.change);
        let base = self.revision("base_spec_revision", release.base_spec_revision);
        let labels = self.labels(release.labels);
        let description = self.text("description", release.description, TEXT_MAX);
        let schedule_time = match release.schedule_time {
            None => Some(None),
            Some(time) => self.timestamp("schedule_time", time).map(Some),
        };
        if release.schedule_time.is_some() && conflict_policy == Some(ConflictPolicy::Supersede) {
            self.at("schedule_time", |fields| {
                fields.complain("does not go with CONFLICT_POLICY_SUPERSEDE");
            });
        }
        Some(Trigger {
            id: id?,
            flag: flag?,
            pipeline: pipeline?,
            change: change?,
            base: base?,
            labels: labels?,
            description: description?,
            schedule_time: schedule_time?,
            conflict_policy: conflict_policy?,
        })
    }

    fn change(&mut self, change: Option<v1::release::Change>) -> Option<Arc<Spec>> {
        match change {
            Some(v1::release::Change::FeatureGate(gate)) => self.spec(WireSpec::Gate(gate)),
            Some(v1::release::Change::DynamicConfig(config)) => self.spec(WireSpec::Config(config)),
            None => self.refuse(NO_SPEC),
        }
    }

    /// Labels, of a flag, a release or a filter.
    pub(super) fn labels(
        &mut self,
        labels: BTreeMap<String, String>,
    ) -> Option<BTreeMap<Arc<str>, Arc<str>>> {
        self.at("labels", |fields| {
            if labels.len() > LABELS_MAX {
                return fields.refuse(format!("must have at most {LABELS_MAX}"));
            }
            let mut parsed = Some(BTreeMap::new());
            for (key, value) in labels {
                let label = fields.at_key(&key, |fields| {
                    let length = key.chars().take(LABEL_KEY_MAX + 1).count();
                    if !(1..=LABEL_KEY_MAX).contains(&length) {
                        let problem = format!("must have a key of 1 to {LABEL_KEY_MAX} characters");
                        return fields.refuse(problem);
                    }
                    fields.text_here(value, LABEL_VALUE_MAX)
                });
                parsed = both(parsed, label, |labels, value| {
                    labels.insert(Arc::from(key), value);
                });
            }
            parsed
        })
    }

    /// What the actions on a release share.
    fn on_release(&mut self, name: &str, request_id: String, reason: String) -> OnRelease {
        OnRelease {
            release: self.name("name", "releases", name, ReleaseId::parse),
            request_id: self.request_id(request_id),
            reason: self.reason(reason),
        }
    }

    fn phase_id(&mut self, id: &str) -> Option<PhaseId> {
        self.id("phase_id", id, PhaseId::parse)
    }

    /// A revision that a client sends back; zero is none.
    pub(super) fn revision(&mut self, field: &str, revision: i64) -> Option<Option<Revision>> {
        match u64::try_from(revision) {
            Ok(0) => Some(None),
            Ok(revision) => Some(Some(Revision::new(revision))),
            Err(_) => self.at(field, |fields| fields.refuse("must not be negative")),
        }
    }
}

struct OnRelease {
    release: Option<ReleaseId>,
    request_id: Option<Option<RequestId>>,
    reason: Option<Arc<str>>,
}

/// Whether an action has to say why.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Required,
    Optional,
}

impl OnRelease {
    fn finish(
        self,
        fields: Fields,
        required: Reason,
        action: impl FnOnce(ReleaseId) -> Option<Action>,
    ) -> Result<Parsed, Rejected> {
        let Self { release, request_id, reason } = self;
        let said = reason.clone();
        let parsed = (|| {
            let action = action(release?)?;
            let validate_only = false;
            Some(Parsed { action, request_id: request_id?, reason: reason?, validate_only })
        })();
        let has_to_say = said.as_ref().filter(|_| required == Reason::Required);
        fields.finish_with_reason(has_to_say, parsed)
    }
}

/// Parses ApprovePhase.
pub fn approve_phase(request: v1::ApprovePhaseRequest) -> Result<Parsed, Rejected> {
    let mut fields = Fields::default();
    let on = fields.on_release(&request.name, request.request_id, request.reason);
    let (phase, expected) = (fields.phase_id(&request.phase_id), expected(&request.etag));
    on.finish(fields, Reason::Optional, |release| {
        Some(Action::ApprovePhase { release, expected, phase: phase? })
    })
}

/// Parses RejectPhase.
pub fn reject_phase(request: v1::RejectPhaseRequest) -> Result<Parsed, Rejected> {
    let mut fields = Fields::default();
    let on = fields.on_release(&request.name, request.request_id, request.reason);
    let (phase, expected) = (fields.phase_id(&request.phase_id), expected(&request.etag));
    on.finish(fields, Reason::Required, |release| {
        Some(Action::RejectPhase { release, expected, phase: phase? })
    })
}

/// Parses PauseRelease.
pub fn pause_release(request: v1::PauseReleaseRequest) -> Result<Parsed, Rejected> {
    let mut fields = Fields::default();
    let on = fields.on_release(&request.name, request.request_id, request.reason);
    on.finish(fields, Reason::Optional, |release| Some(Action::PauseRelease { release }))
}

/// Parses UnpauseRelease.
pub fn unpause_release(request: v1::UnpauseReleaseRequest) -> Result<Parsed, Rejected> {
    let mut fields = Fields::default();
    let on = fields.on_release(&request.name, request.request_id, request.reason);
    let expected = expected(&request.etag);
    on.finish(fields, Reason::Optional, |release| {
        Some(Action::UnpauseRelease { release, expected })
    })
}

/// Parses SkipPhase.
pub fn skip_phase(request: v1::SkipPhaseRequest) -> Result<Parsed, Rejected> {
    let mut fields = Fields::default();
    let on = fields.on_release(&request.name, request.request_id, request.reason);
    let (phase, expected) = (fields.phase_id(&request.phase_id), expected(&request.etag));
    let approvals = gate(request.bypass_approval);
    let reason = if approvals == Gate::Bypass { Reason::Required } else { Reason::Optional };
    on.finish(fields, reason, |release| {
        Some(Action::SkipPhase { release, expected, phase: phase?, approvals })
    })
}

/// Parses OverrideWindow.
pub fn override_window(request: v1::OverrideWindowRequest) -> Result<Parsed, Rejected> {
    let mut fields = Fields::default();
    let on = fields.on_release(&request.name, request.request_id, request.reason);
    let (phase, expected) = (fields.phase_id(&request.phase_id), expected(&request.etag));
    on.finish(fields, Reason::Required, |release| {
        Some(Action::OverrideWindow { release, expected, phase: phase? })
    })
}

/// Parses AdjustBake.
pub fn adjust_bake(request: v1::AdjustBakeRequest) -> Result<Parsed, Rejected> {
    let mut fields = Fields::default();
    let on = fields.on_release(&request.name, request.request_id, request.reason);
    let (phase, expected) = (fields.phase_id(&request.phase_id), expected(&request.etag));
    let remaining = fields.required("remaining", request.remaining).and_then(|remaining| {
        fields.span("remaining", remaining, Span::ZERO..=LONGEST_WAIT, "0 s to 90 days")
    });
    on.finish(fields, Reason::Required, |release| {
        Some(Action::AdjustBake { release, expected, phase: phase?, remaining: remaining? })
    })
}

/// Parses AbortRelease.
pub fn abort_release(request: v1::AbortReleaseRequest) -> Result<Parsed, Rejected> {
    let mut fields = Fields::default();
    let on = fields.on_release(&request.name, request.request_id, request.reason);
    on.finish(fields, Reason::Required, |release| Some(Action::AbortRelease { release }))
}

/// Parses FullRollout.
pub fn full_rollout(request: v1::FullRolloutRequest) -> Result<Parsed, Rejected> {
    let mut fields = Fields::default();
    let on = fields.on_release(&request.name, request.request_id, request.reason);
    let expected = expected(&request.etag);
    let (approvals, windows) = (gate(request.bypass_approval), gate(request.override_windows));
    on.finish(fields, Reason::Required, |release| {
        Some(Action::FullRollout { release, expected, approvals, windows })
    })
}

/// Parses ReportGuardSignal.
pub fn report_guard_signal(request: v1::ReportGuardSignalRequest) -> Result<Parsed, Rejected> {
    let mut fields = Fields::default();
    let on = fields.on_release(&request.name, request.request_id, request.reason);
    let phase = fields.phase_id(&request.phase_id);
    let guard = fields.id("guard_id", &request.guard_id, GuardId::parse);
    let verdict = match v1::GuardVerdict::try_from(request.verdict) {
        Ok(v1::GuardVerdict::Pass) => Some(GuardVerdict::Pass),
        Ok(v1::GuardVerdict::Fail) => Some(GuardVerdict::Fail),
        Ok(v1::GuardVerdict::Unspecified) | Err(_) => fields.unknown("verdict", request.verdict),
    };
    on.finish(fields, Reason::Optional, |release| {
        Some(Action::ReportGuardSignal { release, phase: phase?, guard: guard?, verdict: verdict? })
    })
}

fn gate(bypass: bool) -> Gate {
    if bypass { Gate::Bypass } else { Gate::Respect }
}

/// What WaitRelease waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitRelease {
    /// The release.
    pub release: ReleaseId,
    /// What ends the wait.
    pub until: WaitUntil,
    /// How long at most.
    pub max_wait: Span,
}

/// What ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitUntil {
    /// A revision above this one, or the end.
    Above(Revision),
    /// The end.
    Over,
}

/// Parses WaitRelease.
pub fn wait_release(request: v1::WaitReleaseRequest) -> Result<WaitRelease, Rejected> {
    let mut fields = Fields::default();
    let release = fields.name("name", "releases", &request.name, ReleaseId::parse);
    let after = fields.revision("after_revision", request.after_revision);
    let max_wait = match request.max_wait {
        None => Some(WAIT_DEFAULT),
        Some(wait) => fields.span("max_wait", wait, Span::ZERO..=WAIT_MAX, "0 s to 60 s"),
    };
    let parsed = (|| {
        let after = after?.unwrap_or(Revision::ZERO);
        let until = if request.until_over { WaitUntil::Over } else { WaitUntil::Above(after) };
        Some(WaitRelease { release: release?, until, max_wait: max_wait? })
    })();
    fields.finish(parsed)
}

/// What WatchRelease follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRelease {
    /// The release.
    pub release: ReleaseId,
    /// Begin above this revision; none: begin with a snapshot.
    pub resume_after: Option<Revision>,
    /// The store that the client knows; none: any.
    pub store_id: Option<String>,
}

/// Parses WatchRelease.
pub fn watch_release(request: v1::WatchReleaseRequest) -> Result<WatchRelease, Rejected> {
    let mut fields = Fields::default();
    let release = fields.name("name", "releases", &request.name, ReleaseId::parse);
    let after = fields.revision("resume_after_revision", request.resume_after_revision);
    let store_id = Some(request.store_id).filter(|id| !id.is_empty());
    let parsed = (|| Some(WatchRelease { release: release?, resume_after: after?, store_id }))();
    fields.finish(parsed)
}

/// What WatchReleases follows.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchReleases {
    /// Which releases.
    pub filter: ReleaseFilter,
    /// Begin above this revision; none: begin with the initial set.
    pub resume_after: Option<Revision>,
    /// The store that the client knows; none: any.
    pub store_id: Option<String>,
}

/// Parses WatchReleases.
pub fn watch_releases(request: v1::WatchReleasesRequest) -> Result<WatchReleases, Rejected> {
    let mut fields = Fields::default();
    let after = fields.revision("resume_after_revision", request.resume_after_revision);
    let store_id = Some(request.store_id).filter(|id| !id.is_empty());
    let filter = fields.filter(request.filter.unwrap_or_default());
    let parsed = (|| Some(WatchReleases { filter: filter?, resume_after: after?, store_id }))();
    fields.finish(parsed)
}
