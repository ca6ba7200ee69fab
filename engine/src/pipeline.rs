//! Pipelines: templates of progressive releases.

use crate::{
    id::{EnvironmentId, Group, GuardId, PhaseId, PipelineId, Revision},
    stored,
    targeting::TargetingRule,
    time::{Span, Timestamp},
    window::ReleaseWindows,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The longest bake, approval expiry and pass timeout: 90 days.
pub const LONGEST_WAIT: Span = Span::from_secs(90 * 86_400);

/// A pipeline as it is stored. A release takes a copy when it is triggered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// Last segment of its name.
    pub id: PipelineId,
    /// What a person wrote.
    pub template: Template,
    /// Commit that last changed it; its etag stands for this.
    pub revision: Revision,
    /// Time of that commit.
    pub update_time: Timestamp,
}

/// What a person wrote of a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// Free text.
    pub description: Arc<str>,
    /// In order, at least one.
    #[serde(deserialize_with = "stored::some")]
    pub phases: Vec<Phase>,
    /// Environments that it does not govern: there the change holds from the start of a release.
    pub exempt_environments: Vec<EnvironmentId>,
    /// Shown to people before they trigger.
    pub trigger_notice: Arc<str>,
}

/// What is wrong with an environment that [`exempt_conflicts`] finds.
pub const EXEMPT_CONFLICT: &str =
    "is one of exempt_environments, which the pipeline does not govern";

/// Places where a phase's rule names an environment that the pipeline does not govern, as indexes of
/// phase, rule and environment.
pub fn exempt_conflicts<'a>(
    phases: &'a [Phase],
    exempt_environments: &'a [EnvironmentId],
) -> impl Iterator<Item = (usize, usize, usize)> + 'a {
    phases.iter().enumerate().flat_map(move |(phase_index, phase)| {
        phase.rules.iter().enumerate().flat_map(move |(rule_index, rule)| {
            let named = rule.environments.iter().enumerate();
            named.filter_map(move |(index, environment)| {
                let conflict = exempt_environments.contains(environment);
                conflict.then_some((phase_index, rule_index, index))
            })
        })
    })
}

/// One step. Its life: approval, window, applied, bake and guards, done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Unique in the pipeline.
    pub id: PhaseId,
    /// Who gets the change from here on; the rules are ORed.
    pub rules: Vec<TargetingRule>,
    /// From being applied to the next phase.
    pub bake: Span,
    /// None: no approval needed.
    pub approval: Option<ApprovalRequirement>,
    /// None: any time.
    pub windows: Option<ReleaseWindows>,
    /// Verdicts that outside systems push.
    pub guards: Vec<Guard>,
}

/// Who has to agree before a phase is applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalRequirement {
    /// Distinct principals in all.
    pub min_approvals: u32,
    /// So many of them from each of these groups.
    pub quotas: Vec<Quota>,
    /// Only members of one of these may approve or reject; empty: anyone.
    pub reviewer_groups: Vec<Group>,
    /// Whether the one who triggered counts.
    pub self_approval: SelfApproval,
    /// Time to get the approvals; none: no limit.
    pub expiry: Option<Span>,
}

/// So many approvals must come from members of one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Unique among the quotas.
    pub group: Group,
    /// At least one.
    pub min_approvals: u32,
}

/// Whether the principal that triggered a release may approve its phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SelfApproval {
    /// They may not.
    Forbidden,
    /// They may.
    Allowed,
}

/// A health verdict that outside systems push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// Unique in the phase.
    pub id: GuardId,
    /// Whether the phase waits for a PASS.
    pub pass: PassRequirement,
    /// What a FAIL does.
    pub on_fail: OnFail,
}

/// Whether a phase waits for a guard's PASS when its bake is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PassRequirement {
    /// Only a FAIL matters.
    Optional,
    /// The phase ends only once the last verdict is PASS.
    Required {
        /// No PASS within this time after the bake counts as a FAIL; none: waits for ever.
        timeout: Option<Span>,
    },
}

/// What a FAIL of a guard does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFail {
    /// Hold the release and ask people.
    Pause,
    /// Release FAILED, change reverted.
    Fail,
}
