//! Answers: releases, their events, plans and what they warn of, evaluations.

use super::{
    fields::{etag, revision_to_wire},
    flag::{config_to_wire, gate_to_wire},
    pipeline_to_wire, span_to_wire, timestamp_to_wire,
    value::value_to_wire,
};
use crate::v1;
use phasegate_engine::{
    environment::NamedOnce,
    event::{Actor, Bypass, Change, Happened, ReleaseEvent, TimerRecord},
    flag::Spec,
    id::Group,
    plan::PhasePlan,
    release::{
        EndReason, GuardVerdict, Held, HeldWait, PauseCause, PauseRecord, PhaseIndex, PhaseState,
        Release, ReleaseState, Review, ReviewVerdict, Stage, Wait,
    },
    targeting::{Bucketing, Considered, Explanation, Exposure, Outcome, Source, Why},
    time::{Span, Timestamp},
};
use std::{collections::BTreeMap, sync::Arc};

/// How much of a release is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Everything.
    Full,
    /// Without the change and the copy of the pipeline, which never change.
    Brief,
}

/// A release as the wire has it.
pub fn release_to_wire(release: &Release, detail: Detail) -> v1::Release {
    let (proposal, progress) = (&release.proposal, &release.progress);
    let text = |(key, value): (&Arc<str>, &Arc<str>)| (key.to_string(), value.to_string());
    let (change, pipeline_snapshot) = match detail {
        Detail::Full => {
            (Some(change_to_wire(&proposal.change)), Some(pipeline_to_wire(&proposal.pipeline)))
        }
        Detail::Brief => (None, None),
    };
    let (pause, end_time) = match &progress.stage {
        Stage::Paused { by, .. } => (Some(pause_to_wire(release, by)), None),
        Stage::Over { time, .. } => (None, Some(*time)),
        Stage::Pending | Stage::Running { .. } => (None, None),
    };
    let phases = (0..release.phases().len()).map(PhaseIndex::new);
    v1::Release {
        name: format!("releases/{}", proposal.id),
        flag: format!("flags/{}", proposal.flag),
        pipeline: format!("pipelines/{}", proposal.pipeline.id),
        pipeline_snapshot,
        change,
        base_spec_revision: proposal.base.map(revision_to_wire).unwrap_or_default(),
        labels: proposal.labels.iter().map(text).collect(),
        description: proposal.description.to_string(),
        schedule_time: proposal.schedule_time.map(timestamp_to_wire),
        state: state_to_wire(release.state()).into(),
        held_state: release
            .held_state()
            .map(|state| state_to_wire(state).into())
            .unwrap_or_default(),
        current_phase_id: release
            .current()
            .map(|phase| release.phase(phase).id.to_string())
            .unwrap_or_default(),
        phases: phases.map(|phase| phase_to_wire(release, phase)).collect(),
        pause,
        end_reason: release
            .end_reason()
            .map_or(v1::EndReason::Unspecified, end_reason_to_wire)
            .into(),
        creator: Some(actor_to_wire(&Actor::Principal(proposal.creator.clone()))),
        revision: revision_to_wire(progress.revision),
        etag: etag(progress.revision),
        create_time: Some(timestamp_to_wire(proposal.create_time)),
        update_time: Some(timestamp_to_wire(progress.update_time)),
        start_time: progress.start_time.map(timestamp_to_wire),
        end_time: end_time.map(timestamp_to_wire),
    }
}

fn change_to_wire(change: &Spec) -> v1::release::Change {
    match change {
        Spec::Gate(gate) => v1::release::Change::FeatureGate(gate_to_wire(gate)),
        Spec::Config(config) => v1::release::Change::DynamicConfig(config_to_wire(config)),
    }
}

/// What the current phase waits for, and until when.
#[derive(Default)]
struct Times {
    bake_end: Option<Timestamp>,
    bake_remaining: Option<Span>,
    approval_expires: Option<Timestamp>,
    window_opens: Option<Timestamp>,
}

fn times(release: &Release, phase: PhaseIndex) -> Times {
    match &release.progress.stage {
        Stage::Running { phase: current, wait } if *current == phase => match wait {
            Wait::Approval { expires } => Times { approval_expires: *expires, ..Times::default() },
            Wait::Window { opens } => Times { window_opens: *opens, ..Times::default() },
            Wait::Bake { ends } => Times { bake_end: Some(*ends), ..Times::default() },
            Wait::Guards { ended, .. } => Times { bake_end: Some(*ended), ..Times::default() },
        },
        Stage::Paused { held: Held::Running { phase: current, wait }, .. } if *current == phase => {
            let bake_remaining = match wait {
                HeldWait::Bake { remaining } => Some(*remaining),
                HeldWait::Guards { .. } => Some(Span::ZERO),
                HeldWait::Approval { .. } | HeldWait::Window => None,
            };
            Times { bake_remaining, ..Times::default() }
        }
        Stage::Pending | Stage::Running { .. } | Stage::Paused { .. } | Stage::Over { .. } => {
            Times::default()
        }
    }
}

fn phase_to_wire(release: &Release, index: PhaseIndex) -> v1::PhaseStatus {
    let (phase, progress) = (release.phase(index), &release.progress.phases[index.get()]);
    let times = times(release, index);
    let guards =
        phase.guards.iter().zip(&progress.guards).map(|(guard, progress)| v1::GuardStatus {
            guard_id: guard.id.to_string(),
            verdict: progress.verdict.map_or(v1::GuardVerdict::Unspecified, verdict_to_wire).into(),
            message: progress.message.to_string(),
            report_time: progress.report_time.map(timestamp_to_wire),
        });
    v1::PhaseStatus {
        phase_id: phase.id.to_string(),
        state: phase_state_to_wire(progress.state).into(),
        applied: progress.applied,
        enter_time: progress.enter_time.map(timestamp_to_wire),
        apply_time: progress.apply_time.map(timestamp_to_wire),
        end_time: progress.end_time.map(timestamp_to_wire),
        bake_end_time: times.bake_end.map(timestamp_to_wire),
        bake_remaining: times.bake_remaining.map(span_to_wire),
        approval_expire_time: times.approval_expires.map(timestamp_to_wire),
        window_open_time: times.window_opens.map(timestamp_to_wire),
        reviews: progress.reviews.iter().map(|r| review_to_wire(release, index, r)).collect(),
        approvals_missing: release.approvals_missing(index),
        guards: guards.collect(),
        bypassed: progress.bypassed,
    }
}

/// The event that a review stands for, as the log has it.
fn review_to_wire(release: &Release, phase: PhaseIndex, review: &Review) -> v1::ReleaseEvent {
    let event_type = match review.verdict {
        ReviewVerdict::Approved => v1::ReleaseEventType::ApprovalRecorded,
        ReviewVerdict::Rejected => v1::ReleaseEventType::ApprovalRejected,
    };
    v1::ReleaseEvent {
        name: event_name(release, review.revision.get(), review.ordinal),
        revision: revision_to_wire(review.revision),
        event_type: event_type.into(),
        event_time: Some(timestamp_to_wire(review.time)),
        actor: Some(actor_to_wire(&Actor::Principal(review.principal.clone()))),
        reason: review.reason.to_string(),
        phase_id: release.phase(phase).id.to_string(),
        state: state_to_wire(review.state_after).into(),
        request_id: review.request_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        bypass: false,
        details: groups_details(&review.groups),
    }
}

/// The PAUSED event that holds a release, as the log has it.
fn pause_to_wire(release: &Release, pause: &PauseRecord) -> v1::ReleaseEvent {
    v1::ReleaseEvent {
        name: event_name(release, pause.revision.get(), pause.ordinal),
        revision: revision_to_wire(pause.revision),
        event_type: v1::ReleaseEventType::Paused.into(),
        event_time: Some(timestamp_to_wire(pause.time)),
        actor: Some(actor_to_wire(&pause.actor)),
        reason: pause.reason.to_string(),
        phase_id: pause.phase.map(|p| release.phase(p).id.to_string()).unwrap_or_default(),
        state: v1::ReleaseState::Paused.into(),
        request_id: pause.request_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        bypass: false,
        details: cause_details(&pause.cause),
    }
}

fn cause_details(cause: &PauseCause) -> BTreeMap<String, String> {
    match cause {
        PauseCause::Requested => BTreeMap::new(),
        PauseCause::Guard(guard) => BTreeMap::from([("guardId".to_owned(), guard.to_string())]),
        PauseCause::Overdue(late) => {
            BTreeMap::from([("overdueMs".to_owned(), late.as_millis().to_string())])
        }
    }
}

/// None if no quota names a group of the reviewer.
fn groups_details(groups: &[Group]) -> BTreeMap<String, String> {
    if groups.is_empty() {
        return BTreeMap::new();
    }
    let names: Vec<&str> = groups.iter().map(Group::as_str).collect();
    BTreeMap::from([("groups".to_owned(), names.join(","))])
}

fn event_name(release: &Release, revision: u64, ordinal: u32) -> String {
    format!("releases/{}/events/{revision}-{ordinal}", release.id())
}

/// What one commit did to one release, as the wire has it.
pub fn events_to_wire(change: &Change) -> Vec<v1::ReleaseEvent> {
    change.events.iter().map(|event| event_to_wire(change, event)).collect()
}

fn event_to_wire(change: &Change, event: &ReleaseEvent) -> v1::ReleaseEvent {
    let release = &change.release;
    let bypass = matches!(
        event.happened,
        Happened::WindowOverridden { .. } | Happened::PhaseSkipped { bypass: Bypass::OnRecord, .. }
    );
    let traceparent =
        change.trace.iter().map(|trace| ("traceparent".to_owned(), trace.to_string()));
    v1::ReleaseEvent {
        name: event_name(release, change.revision.get(), event.ordinal),
        revision: revision_to_wire(change.revision),
        event_type: type_of(&event.happened).into(),
        event_time: Some(timestamp_to_wire(change.time)),
        actor: Some(actor_to_wire(&event.actor)),
        reason: event.reason.to_string(),
        phase_id: event
            .phase()
            .map(|phase| release.phase(phase).id.to_string())
            .unwrap_or_default(),
        state: state_to_wire(release.state()).into(),
        request_id: event.request_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        bypass,
        details: details_of(release, &event.happened).into_iter().chain(traceparent).collect(),
    }
}

fn type_of(happened: &Happened) -> v1::ReleaseEventType {
    use v1::ReleaseEventType as Type;
    match happened {
        Happened::Triggered => Type::Triggered,
        Happened::Started { .. } => Type::Started,
        Happened::PhaseEntered { .. } => Type::PhaseEntered,
        Happened::ApprovalRecorded { .. } => Type::ApprovalRecorded,
        Happened::ApprovalRejected { .. } => Type::ApprovalRejected,
        Happened::WindowOpened { .. } => Type::WindowOpened,
        Happened::WindowRescheduled { .. } => Type::WindowRescheduled,
        Happened::WindowOverridden { .. } => Type::WindowOverridden,
        Happened::PhaseApplied { .. } => Type::PhaseApplied,
        Happened::BakeElapsed { .. } => Type::BakeElapsed,
        Happened::BakeAdjusted { .. } => Type::BakeAdjusted,
        Happened::GuardReported { .. } => Type::GuardReported,
        Happened::PhaseSucceeded { .. } => Type::PhaseSucceeded,
        Happened::PhaseSkipped { .. } => Type::PhaseSkipped,
        Happened::Paused { .. } => Type::Paused,
        Happened::Unpaused { .. } => Type::Unpaused,
        Happened::Succeeded { .. } => Type::Succeeded,
        Happened::Aborted { .. } => Type::Aborted,
        Happened::Failed { .. } => Type::Failed,
    }
}

fn details_of(release: &Release, happened: &Happened) -> BTreeMap<String, String> {
    match happened {
        Happened::Triggered => BTreeMap::from([(
            "pipeline".to_owned(),
            format!("pipelines/{}", release.proposal.pipeline.id),
        )]),
        Happened::Started { timer }
        | Happened::WindowOpened { timer, .. }
        | Happened::BakeElapsed { timer, .. }
        | Happened::PhaseSucceeded { timer, .. } => timer_details(timer.as_ref()),
        Happened::ApprovalRecorded { groups, .. } | Happened::ApprovalRejected { groups, .. } => {
            groups_details(groups)
        }
        Happened::BakeAdjusted { remaining, .. } => {
            BTreeMap::from([("bakeRemaining".to_owned(), remaining.to_string())])
        }
        Happened::GuardReported { guard, verdict, timer, .. } => {
            let verdict = match verdict {
                GuardVerdict::Pass => "PASS",
                GuardVerdict::Fail => "FAIL",
            };
            let mut details = timer_details(timer.as_ref());
            details.insert("guardId".to_owned(), guard.to_string());
            details.insert("verdict".to_owned(), verdict.to_owned());
            details
        }
        Happened::Paused { cause, .. } => cause_details(cause),
        Happened::Succeeded { reason } | Happened::Aborted { reason } => end_details(*reason),
        Happened::Failed { reason, timer } => {
            let mut details = timer_details(timer.as_ref());
            details.extend(end_details(*reason));
            details
        }
        Happened::PhaseEntered { .. }
        | Happened::WindowRescheduled { .. }
        | Happened::WindowOverridden { .. }
        | Happened::PhaseApplied { .. }
        | Happened::PhaseSkipped { .. }
        | Happened::Unpaused { .. } => BTreeMap::new(),
    }
}

fn end_details(reason: EndReason) -> BTreeMap<String, String> {
    let name = end_reason_to_wire(reason).as_str_name();
    let name = name.trim_start_matches("END_REASON_").to_owned();
    BTreeMap::from([("endReason".to_owned(), name)])
}

fn timer_details(timer: Option<&TimerRecord>) -> BTreeMap<String, String> {
    let Some(timer) = timer else { return BTreeMap::new() };
    BTreeMap::from([
        ("scheduledFor".to_owned(), timer.scheduled_for.to_string()),
        ("lateMs".to_owned(), timer.late.as_millis().to_string()),
    ])
}

fn actor_to_wire(actor: &Actor) -> v1::Actor {
    match actor {
        Actor::Engine => v1::Actor { engine: true, principal: String::new() },
        Actor::Principal(principal) => {
            v1::Actor { engine: false, principal: principal.to_string() }
        }
    }
}

fn state_to_wire(state: ReleaseState) -> v1::ReleaseState {
    match state {
        ReleaseState::Pending => v1::ReleaseState::Pending,
        ReleaseState::AwaitingApproval => v1::ReleaseState::AwaitingApproval,
        ReleaseState::AwaitingWindow => v1::ReleaseState::AwaitingWindow,
        ReleaseState::Baking => v1::ReleaseState::Baking,
        ReleaseState::Paused => v1::ReleaseState::Paused,
        ReleaseState::Succeeded => v1::ReleaseState::Succeeded,
        ReleaseState::Aborted => v1::ReleaseState::Aborted,
        ReleaseState::Failed => v1::ReleaseState::Failed,
    }
}

fn phase_state_to_wire(state: PhaseState) -> v1::PhaseState {
    match state {
        PhaseState::Pending => v1::PhaseState::Pending,
        PhaseState::AwaitingApproval => v1::PhaseState::AwaitingApproval,
        PhaseState::AwaitingWindow => v1::PhaseState::AwaitingWindow,
        PhaseState::Baking => v1::PhaseState::Baking,
        PhaseState::Succeeded => v1::PhaseState::Succeeded,
        PhaseState::Skipped => v1::PhaseState::Skipped,
        PhaseState::Aborted => v1::PhaseState::Aborted,
        PhaseState::Failed => v1::PhaseState::Failed,
        PhaseState::Cancelled => v1::PhaseState::Cancelled,
    }
}

fn end_reason_to_wire(reason: EndReason) -> v1::EndReason {
    match reason {
        EndReason::AllPhasesDone => v1::EndReason::AllPhasesDone,
        EndReason::FullRollout => v1::EndReason::FullRollout,
        EndReason::AbortRequested => v1::EndReason::AbortRequested,
        EndReason::ApprovalRejected => v1::EndReason::ApprovalRejected,
        EndReason::Superseded => v1::EndReason::Superseded,
        EndReason::ApprovalExpired => v1::EndReason::ApprovalExpired,
        EndReason::GuardFailed => v1::EndReason::GuardFailed,
        EndReason::BaseChanged => v1::EndReason::BaseChanged,
    }
}

fn verdict_to_wire(verdict: GuardVerdict) -> v1::GuardVerdict {
    match verdict {
        GuardVerdict::Pass => v1::GuardVerdict::Pass,
        GuardVerdict::Fail => v1::GuardVerdict::Fail,
    }
}

/// The plan of a trigger, as the wire has it.
pub fn plan_to_wire(plan: &[PhasePlan]) -> Vec<v1::PhasePlan> {
    let phase = |phase: &PhasePlan| v1::PhasePlan {
        phase_id: phase.phase.to_string(),
        earliest_apply_time: phase.earliest.map(|earliest| timestamp_to_wire(earliest.apply)),
        earliest_end_time: phase.earliest.map(|earliest| timestamp_to_wire(earliest.end)),
    };
    plan.iter().map(phase).collect()
}

/// What a plan warns of, as the wire has it.
pub fn warnings_to_wire(once: &[NamedOnce]) -> Vec<v1::PlanWarning> {
    let warning = |once: &NamedOnce| {
        let environments = once.environments.iter().map(ToString::to_string).collect();
        plan_warning(once.place.to_string(), environments)
    };
    once.iter().map(warning).collect()
}

/// The warning that some environments, at least one, are named by one resource and nothing else.
pub fn plan_warning(named_by: String, environments: Vec<String>) -> v1::PlanWarning {
    let message = match environments.as_slice() {
        [one] => {
            format!(
                "{named_by} names the environment {one}, and nothing else does: is it spelt right?"
            )
        }
        several => {
            let several = several.join(", ");
            format!(
                "{named_by} names the environments {several}, and nothing else does: are they spelt right?"
            )
        }
    };
    v1::PlanWarning { message, environments, named_by }
}

/// What a flag answers and how that came about, as the wire has it. `active` is the release that was
/// active.
pub fn answer_to_wire(
    explanation: &Explanation<'_>,
    active: Option<&Release>,
) -> v1::EvaluateFlagResponse {
    let answer = &explanation.answer;
    let bucketing = match explanation.bucketing {
        Bucketing::V2 => v1::Bucketing::V2,
        Bucketing::V3 => v1::Bucketing::V3,
    };
    let (reason, variant) = match &answer.why {
        Why::Disabled => (v1::EvaluationReason::Disabled, String::new()),
        Why::Default => (v1::EvaluationReason::Default, String::new()),
        Why::TargetingMatch(rule) => (v1::EvaluationReason::TargetingMatch, rule.to_string()),
        Why::Split(rule) => (v1::EvaluationReason::Split, rule.to_string()),
    };
    v1::EvaluateFlagResponse {
        value: Some(value_to_wire(&answer.value)),
        variant,
        reason: reason.into(),
        release: active.map(|release| format!("releases/{}", release.id())).unwrap_or_default(),
        exposed: answer.exposed.is_some(),
        phase_id: match &answer.exposed {
            Some(Exposure::Phase(phase)) => phase.to_string(),
            Some(Exposure::Exempt) | None => String::new(),
        },
        bucketing: bucketing.into(),
        considered: explanation.considered.iter().map(considered_to_wire).collect(),
    }
}

fn considered_to_wire(considered: &Considered<'_>) -> v1::ConsideredRule {
    let rule = considered.rule;
    let (source, phase_id) = match considered.source {
        Source::Phase(phase) => (v1::RuleSource::Phase, phase.to_string()),
        Source::Change => (v1::RuleSource::Change, String::new()),
        Source::Settled => (v1::RuleSource::Settled, String::new()),
    };
    let (outcome, condition, attribute) = match considered.outcome {
        Outcome::OtherEnvironments => (v1::RuleOutcome::OtherEnvironments, 0, None),
        Outcome::ConditionFailed { index } => {
            let attribute = rule.conditions.get(index).map(|condition| &condition.attribute);
            (v1::RuleOutcome::ConditionFailed, index, attribute)
        }
        Outcome::LacksAttribute => (v1::RuleOutcome::LacksAttribute, 0, Some(&rule.bucket_by)),
        Outcome::OutsideShare => (v1::RuleOutcome::OutsideShare, 0, None),
        Outcome::Matched => (v1::RuleOutcome::Matched, 0, None),
    };
    v1::ConsideredRule {
        source: source.into(),
        phase_id,
        rule_id: rule.id.to_string(),
        outcome: outcome.into(),
        // A rule has at most 32 conditions.
        condition_index: u32::try_from(condition).unwrap_or(u32::MAX),
        attribute: attribute.map(ToString::to_string).unwrap_or_default(),
        bucket: considered.bucket.map(|number| v1::considered_rule::Bucket {
            number,
            rollout_basis_points: rule.share.get(),
            attribute: rule.bucket_by.to_string(),
            salt: considered.salt.to_string(),
        }),
    }
}
