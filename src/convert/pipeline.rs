//! Pipelines: their phases, and the requests of `PipelineService`.

use super::{
    Parsed, Rejected,
    fields::{Fields, TEXT_MAX, all_or_nothing, etag, expected, revision_to_wire},
    mask::Mask,
    span_to_wire,
    targeting::{SMALL_LIST_MAX, rule_to_wire},
    timestamp_to_wire,
};
use crate::v1;
use phasegate_engine::{
    command::{Action, PipelineChange},
    id::{EnvironmentId, Group, GuardId, PhaseId, PipelineId},
    pipeline::{
        ApprovalRequirement, EXEMPT_CONFLICT, Guard, LONGEST_WAIT, OnFail, PassRequirement, Phase,
        Pipeline, Quota, SelfApproval, Template, exempt_conflicts,
    },
    time::Span,
    window::{Blackout, ReleaseWindows, TimeOfDay, Weekly},
};
use std::sync::Arc;

/// The most phases of a pipeline.
const PHASES_MAX: usize = 50;
/// The most guards of a phase.
const GUARDS_MAX: usize = 16;
/// The most quotas of an approval.
const QUOTAS_MAX: usize = 8;
/// The most approvals of a phase, or of a quota.
const APPROVALS_MAX: u32 = 20;
/// The most characters of a group.
const GROUP_MAX: usize = 128;
/// The most weekly spans of windows.
const WEEKLY_MAX: usize = 32;
/// The most blackouts of windows.
const BLACKOUTS_MAX: usize = 64;

/// `pipelines/{pipeline}` in a field of this name.
pub fn pipeline_name(field: &str, text: &str) -> Result<PipelineId, Rejected> {
    let mut fields = Fields::default();
    let id = fields.name(field, "pipelines", text, PipelineId::parse);
    fields.finish(id)
}

/// Parses CreatePipeline.
pub fn create_pipeline(request: v1::CreatePipelineRequest) -> Result<Parsed, Rejected> {
    let mut fields = Fields::default();
    let request_id = fields.request_id(request.request_id);
    let id = fields.id("pipeline_id", &request.pipeline_id, PipelineId::parse);
    let template = fields.required("pipeline", request.pipeline).and_then(|pipeline| {
        fields.at("pipeline", |fields| {
            fields.own_name("pipelines", &pipeline.name, Some(&request.pipeline_id));
            fields.template(pipeline)
        })
    });
    let parsed = (|| {
        let action = Action::CreatePipeline { pipeline: id?, template: Arc::new(template?) };
        let validate_only = request.validate_only;
        Some(Parsed { action, request_id: request_id?, reason: Arc::from(""), validate_only })
    })();
    fields.finish(parsed)
}

/// Parses UpdatePipeline.
pub fn update_pipeline(request: v1::UpdatePipelineRequest) -> Result<Parsed, Rejected> {
    const MASKABLE: &[&str] = &["description", "phases", "exempt_environments", "trigger_notice"];
    let mut fields = Fields::default();
    let request_id = fields.request_id(request.request_id);
    let mask = fields.mask(request.update_mask, MASKABLE);
    let pipeline = fields.required("pipeline", request.pipeline).map(|pipeline| {
        fields.at("pipeline", |fields| {
            let id = fields.name("name", "pipelines", &pipeline.name, PipelineId::parse);
            let expected = expected(&pipeline.etag);
            (id, fields.pipeline_change(&mask, pipeline), expected)
        })
    });
    let parsed = (|| {
        let (id, change, expected) = pipeline?;
        let action = Action::UpdatePipeline { pipeline: id?, expected, change: change? };
        let validate_only = request.validate_only;
        Some(Parsed { action, request_id: request_id?, reason: Arc::from(""), validate_only })
    })();
    fields.finish(parsed)
}

/// Parses DeletePipeline.
pub fn delete_pipeline(request: v1::DeletePipelineRequest) -> Result<Parsed, Rejected> {
    let mut fields = Fields::default();
    let pipeline = fields.name("name", "pipelines", &request.name, PipelineId::parse);
    let request_id = fields.request_id(request.request_id);
    let parsed = (|| {
        let expected = expected(&request.etag);
        let action = Action::DeletePipeline { pipeline: pipeline?, expected };
        let validate_only = request.validate_only;
        Some(Parsed { action, request_id: request_id?, reason: Arc::from(""), validate_only })
    })();
    fields.finish(parsed)
}

impl Fields {
    fn template(&mut self, pipeline: v1::Pipeline) -> Option<Template> {
        let description = self.text("description", pipeline.description, TEXT_MAX);
        let phases = self.phases(pipeline.phases);
        let exempt = self.environments("exempt_environments", pipeline.exempt_environments);
        let trigger_notice = self.text("trigger_notice", pipeline.trigger_notice, TEXT_MAX);
        let template = Template {
            description: description?,
            phases: phases?,
            exempt_environments: exempt?,
            trigger_notice: trigger_notice?,
        };
        self.govern(&template.phases, &template.exempt_environments);
        Some(template)
    }

    fn pipeline_change(&mut self, mask: &Mask, pipeline: v1::Pipeline) -> Option<PipelineChange> {
        let description = mask
            .pick("description", pipeline.description)
            .map(|text| self.text("description", text, TEXT_MAX));
        let phases = mask.pick("phases", pipeline.phases).map(|phases| self.phases(phases));
        let exempt = mask
            .pick("exempt_environments", pipeline.exempt_environments)
            .map(|exempt| self.environments("exempt_environments", exempt));
        let notice = mask
            .pick("trigger_notice", pipeline.trigger_notice)
            .map(|text| self.text("trigger_notice", text, TEXT_MAX));
        let change = PipelineChange {
            description: all_or_nothing(description)?,
            phases: all_or_nothing(phases)?,
            exempt_environments: all_or_nothing(exempt)?,
            trigger_notice: all_or_nothing(notice)?,
        };
        // If only one of the two changes, the engine holds it against the other.
        if let (Some(phases), Some(exempt)) = (&change.phases, &change.exempt_environments) {
            self.govern(phases, exempt);
        }
        Some(change)
    }

    /// No phase may name an environment that the pipeline does not govern.
    fn govern(&mut self, phases: &[Phase], exempt_environments: &[EnvironmentId]) {
        for (phase, rule, environment) in exempt_conflicts(phases, exempt_environments) {
            let field = format!("phases[{phase}].rules[{rule}].environments[{environment}]");
            self.at(&field, |fields| fields.complain(EXEMPT_CONFLICT));
        }
    }

    fn phases(&mut self, phases: Vec<v1::Phase>) -> Option<Vec<Phase>> {
        self.distinct("phases", ".id", phases.iter().map(|phase| &*phase.id));
        self.list("phases", phases, 1..=PHASES_MAX, Self::phase)
    }

    fn phase(&mut self, phase: v1::Phase) -> Option<Phase> {
        let id = self.id("id", &phase.id, PhaseId::parse);
        self.distinct("rules", ".id", phase.rules.iter().map(|rule| &*rule.id));
        let rules = self.list("rules", phase.rules, 1..=SMALL_LIST_MAX, Self::rule);
        let bake = match phase.bake_duration {
            None => Some(Span::ZERO),
            Some(bake) => {
                self.span("bake_duration", bake, Span::ZERO..=LONGEST_WAIT, "0 s to 90 days")
            }
        };
        let approval = phase.approval.map(|approval| self.at("approval", |f| f.approval(approval)));
        let windows = phase.windows.map(|windows| self.at("windows", |f| f.windows(windows)));
        self.distinct("guards", ".id", phase.guards.iter().map(|guard| &*guard.id));
        let guards = self.list("guards", phase.guards, 0..=GUARDS_MAX, Self::guard);
        Some(Phase {
            id: id?,
            rules: rules?,
            bake: bake?,
            approval: all_or_nothing(approval)?,
            windows: all_or_nothing(windows)?,
            guards: guards?,
        })
    }

    fn approval(&mut self, approval: v1::ApprovalRequirement) -> Option<ApprovalRequirement> {
        let min_approvals = self.approvals("min_approvals", approval.min_approvals);
        self.distinct("quotas", ".group", approval.quotas.iter().map(|quota| &*quota.group));
        let quotas = self.list("quotas", approval.quotas, 0..=QUOTAS_MAX, |fields, quota| {
            let group = fields.group("group", quota.group);
            let min_approvals = fields.approvals("min_approvals", quota.min_approvals);
            Some(Quota { group: group?, min_approvals: min_approvals? })
        });
        let reviewers = approval.reviewer_groups;
        self.distinct("reviewer_groups", "", reviewers.iter().map(|group| &**group));
        let reviewer_groups =
            self.list("reviewer_groups", reviewers, 0..=SMALL_LIST_MAX, Self::group_here);
        let expiry = approval.expiry.map(|expiry| self.positive_wait("expiry", expiry));
        Some(ApprovalRequirement {
            min_approvals: min_approvals?,
            quotas: quotas?,
            reviewer_groups: reviewer_groups?,
            self_approval: if approval.allow_self_approval {
                SelfApproval::Allowed
            } else {
                SelfApproval::Forbidden
            },
            expiry: all_or_nothing(expiry)?,
        })
    }

    fn approvals(&mut self, field: &str, count: u32) -> Option<u32> {
        if (1..=APPROVALS_MAX).contains(&count) {
            return Some(count);
        }
        self.at(field, |fields| fields.refuse(format!("must be 1 to {APPROVALS_MAX}")))
    }

    fn group(&mut self, field: &str, group: String) -> Option<Group> {
        self.at(field, |fields| fields.group_here(group))
    }

    fn group_here(&mut self, group: String) -> Option<Group> {
        // A call's groups are separated by commas and trimmed, so no call could have such a group.
        if group.contains(',') || group.trim() != group {
            return self.refuse("must have no comma, and no space at either end");
        }
        if group.is_empty() {
            return self.refuse("is required");
        }
        self.text_here(group, GROUP_MAX).map(Group::new)
    }

    fn positive_wait(&mut self, field: &str, wait: prost_types::Duration) -> Option<Span> {
        let allowed = Span::from_millis(1)..=LONGEST_WAIT;
        self.span(field, wait, allowed, "above 0 s and at most 90 days")
    }

    fn windows(&mut self, windows: v1::ReleaseWindows) -> Option<ReleaseWindows> {
        let zone = match windows.time_zone.parse() {
            _ if windows.time_zone.is_empty() => {
                self.at("time_zone", |fields| fields.refuse("is required"))
            }
            Ok(zone) => Some(zone),
            Err(_) => self.at("time_zone", |fields| {
                fields.refuse("must be an IANA time zone, for example Europe/Rome")
            }),
        };
        let weekly = self.list("weekly", windows.weekly, 0..=WEEKLY_MAX, Self::weekly);
        let blackouts =
            self.list("blackouts", windows.blackouts, 0..=BLACKOUTS_MAX, Self::blackout);
        Some(ReleaseWindows { zone: zone?, weekly: weekly?, blackouts: blackouts? })
    }

    fn weekly(&mut self, weekly: v1::release_windows::Weekly) -> Option<Weekly> {
        self.distinct("days", "", weekly.days.iter().map(|day| &**day));
        let days = self.list("days", weekly.days, 1..=7, |fields, day| {
            let found = DAYS.iter().find(|(name, _)| *name == day);
            found
                .map(|(_, day)| *day)
                .or_else(|| fields.refuse("must be one of MON, TUE, WED, THU, FRI, SAT, SUN"))
        });
        let start = TimeOfDay::parse(&weekly.start).filter(|start| start.minutes() < 24 * 60);
        let start = start
            .or_else(|| self.at("start", |fields| fields.refuse("must be HH:MM, 00:00 to 23:59")));
        let end = TimeOfDay::parse(&weekly.end)
            .or_else(|| self.at("end", |fields| fields.refuse("must be HH:MM, 00:00 to 24:00")));
        Some(Weekly { days: days?, start: start?, end: end? })
    }

    fn blackout(&mut self, blackout: v1::release_windows::Blackout) -> Option<Blackout> {
        let start = self.required("start_time", blackout.start_time);
        let start = start.and_then(|time| self.timestamp("start_time", time));
        let end = self.required("end_time", blackout.end_time);
        let end = end.and_then(|time| self.timestamp("end_time", time));
        let note = self.text("note", blackout.note, TEXT_MAX);
        let (start, end) = (start?, end?);
        if end <= start {
            return self.at("end_time", |fields| fields.refuse("must be after start_time"));
        }
        Some(Blackout { start, end, note: note? })
    }

    fn guard(&mut self, guard: v1::Guard) -> Option<Guard> {
        let id = self.id("id", &guard.id, GuardId::parse);
        let on_fail = match v1::GuardAction::try_from(guard.on_fail) {
            Ok(v1::GuardAction::Unspecified | v1::GuardAction::Pause) => Some(OnFail::Pause),
            Ok(v1::GuardAction::Fail) => Some(OnFail::Fail),
            Err(_) => self.unknown("on_fail", guard.on_fail),
        };
        let timeout = guard.pass_timeout.map(|timeout| self.positive_wait("pass_timeout", timeout));
        if timeout.is_some() && !guard.require_pass {
            self.at("pass_timeout", |fields| fields.complain("goes only with require_pass"));
        }
        let timeout = all_or_nothing(timeout);
        let pass = if guard.require_pass {
            PassRequirement::Required { timeout: timeout? }
        } else {
            PassRequirement::Optional
        };
        Some(Guard { id: id?, pass, on_fail: on_fail? })
    }
}

const DAYS: [(&str, chrono::Weekday); 7] = [
    ("MON", chrono::Weekday::Mon),
    ("TUE", chrono::Weekday::Tue),
    ("WED", chrono::Weekday::Wed),
    ("THU", chrono::Weekday::Thu),
    ("FRI", chrono::Weekday::Fri),
    ("SAT", chrono::Weekday::Sat),
    ("SUN", chrono::Weekday::Sun),
];

/// A pipeline as the wire has it.
pub fn pipeline_to_wire(pipeline: &Pipeline) -> v1::Pipeline {
    let template = &pipeline.template;
    v1::Pipeline {
        name: format!("pipelines/{}", pipeline.id),
        description: template.description.to_string(),
        phases: template.phases.iter().map(phase_to_wire).collect(),
        exempt_environments: template.exempt_environments.iter().map(ToString::to_string).collect(),
        trigger_notice: template.trigger_notice.to_string(),
        etag: etag(pipeline.revision),
        revision: revision_to_wire(pipeline.revision),
        update_time: Some(timestamp_to_wire(pipeline.update_time)),
    }
}

fn phase_to_wire(phase: &Phase) -> v1::Phase {
    v1::Phase {
        id: phase.id.to_string(),
        rules: phase.rules.iter().map(rule_to_wire).collect(),
        bake_duration: (!phase.bake.is_zero()).then(|| span_to_wire(phase.bake)),
        approval: phase.approval.as_ref().map(approval_to_wire),
        windows: phase.windows.as_ref().map(windows_to_wire),
        guards: phase.guards.iter().map(guard_to_wire).collect(),
    }
}

fn approval_to_wire(approval: &ApprovalRequirement) -> v1::ApprovalRequirement {
    let quota = |quota: &Quota| v1::approval_requirement::GroupQuota {
        group: quota.group.to_string(),
        min_approvals: quota.min_approvals,
    };
    v1::ApprovalRequirement {
        min_approvals: approval.min_approvals,
        quotas: approval.quotas.iter().map(quota).collect(),
        reviewer_groups: approval.reviewer_groups.iter().map(ToString::to_string).collect(),
        allow_self_approval: approval.self_approval == SelfApproval::Allowed,
        expiry: approval.expiry.map(span_to_wire),
    }
}

fn windows_to_wire(windows: &ReleaseWindows) -> v1::ReleaseWindows {
    let day = |day: &chrono::Weekday| {
        let found = DAYS.iter().find(|(_, known)| known == day);
        found.map(|(name, _)| (*name).to_owned()).unwrap_or_default()
    };
    let weekly = |weekly: &Weekly| v1::release_windows::Weekly {
        days: weekly.days.iter().map(day).collect(),
        start: weekly.start.to_string(),
        end: weekly.end.to_string(),
    };
    let blackout = |blackout: &Blackout| v1::release_windows::Blackout {
        start_time: Some(timestamp_to_wire(blackout.start)),
        end_time: Some(timestamp_to_wire(blackout.end)),
        note: blackout.note.to_string(),
    };
    v1::ReleaseWindows {
        time_zone: windows.zone.name().to_owned(),
        weekly: windows.weekly.iter().map(weekly).collect(),
        blackouts: windows.blackouts.iter().map(blackout).collect(),
    }
}

fn guard_to_wire(guard: &Guard) -> v1::Guard {
    let on_fail = match guard.on_fail {
        OnFail::Pause => v1::GuardAction::Pause,
        OnFail::Fail => v1::GuardAction::Fail,
    };
    let (require_pass, pass_timeout) = match guard.pass {
        PassRequirement::Optional => (false, None),
        PassRequirement::Required { timeout } => (true, timeout.map(span_to_wire)),
    };
    v1::Guard { id: guard.id.to_string(), require_pass, on_fail: on_fail.into(), pass_timeout }
}
