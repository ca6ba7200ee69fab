//! What comes next, and when at the earliest.

use crate::web::{time, words};
use maud::{Markup, html};
use phasegate_engine::{
    pipeline::{PassRequirement, Phase, Template},
    plan::{PhasePlan, plan},
    release::{Held, HeldWait, PhaseIndex, Release, Stage, Wait},
    time::Timestamp,
};

/// The predicted timeline of what is ahead. Empty if nothing is.
pub(super) fn region(release: &Release, now: Timestamp) -> Markup {
    let Some(ahead) = ahead(release, now) else { return html! {} };
    html! {
        h2 { "What comes next" }
        @if let Some(condition) = ahead.condition { p.hint { (condition) } }
        (timeline(&ahead.plan, &ahead.phases, ahead.end, now))
    }
}

/// The next thing that will happen, in one sentence: what a viewer asks first after where it stands.
pub(super) fn next(release: &Release, now: Timestamp) -> Markup {
    let Some(ahead) = ahead(release, now) else { return html! {} };
    let is_running = matches!(release.progress.stage, Stage::Running { .. });
    let (Some(next), Some(phase)) = (ahead.plan.first(), ahead.phases.first()) else {
        return html! { @if is_running { p.next { "Next: everyone has the change." } } };
    };
    // What the current phase itself waits for is said already.
    let is_current = release.current().is_some_and(|current| release.phase(current).id == phase.id);
    html! {
        @if is_running && !is_current {
            p.next {
                "Next: " strong { (phase.id) }
                @if let Some(earliest) = next.earliest { " at " (time::clock(earliest.apply, now)) " at the earliest" }
                @for need in needs(phase) { ", " (need) }
                "."
            }
        }
    }
}

/// A timeline: when each phase is applied at the earliest, and what it needs for that; and when all
/// is done, if that is in sight.
pub(in crate::web) fn timeline(
    plan: &[PhasePlan],
    phases: &[Phase],
    end: Option<Timestamp>,
    now: Timestamp,
) -> Markup {
    html! {
        ol.timeline {
            @for (planned, phase) in plan.iter().zip(phases) {
                li {
                    span.when {
                        @match planned.earliest {
                            Some(earliest) => { (time::clock(earliest.apply, now)) }
                            None => { "not in sight" }
                        }
                    }
                    span.what {
                        strong { (phase.id) } " goes live"
                        @if phase.bake.as_millis() > 0 { ", bakes for " (time::span_words(phase.bake)) }
                        @for need in needs(phase) { span.sub.block { (need) } }
                        @if planned.earliest.is_none() { span.sub.block { "no window opens in the next 366 days" } }
                    }
                }
            }
            @if let Some(end) = end {
                li { span.when { (time::clock(end, now)) } span.what { strong { "Everyone" } " has the change" } }
            }
        }
        p.hint { "At the earliest: approvals given at once, guards content, nobody pausing." }
    }
}

/// What a phase needs before it goes live or before it is done.
fn needs(phase: &Phase) -> Vec<String> {
    let approval =
        phase.approval.iter().map(|approval| format!("needs {}", words::requirement(approval)));
    let windows = phase.windows.iter().map(|windows| format!("only {}", words::windows(windows)));
    let guards =
        phase.guards.iter().filter(|guard| matches!(guard.pass, PassRequirement::Required { .. }));
    let guards = guards.map(|guard| format!("ends with a PASS of {}", guard.id));
    approval.chain(windows).chain(guards).collect()
}

/// When the last phase of a plan is done.
pub(in crate::web) fn end(plan: &[PhasePlan]) -> Option<Timestamp> {
    plan.last().and_then(|last| last.earliest).map(|earliest| earliest.end)
}

struct Ahead {
    plan: Vec<PhasePlan>,
    phases: Vec<Phase>,
    end: Option<Timestamp>,
    condition: Option<&'static str>,
}

/// The phases that are not live yet, planned from when the current one is done.
fn ahead(release: &Release, now: Timestamp) -> Option<Ahead> {
    let (first, from, condition) = match &release.progress.stage {
        Stage::Over { .. } => return None,
        Stage::Pending => {
            let start = release.proposal.schedule_time.map_or(now, |at| at.max(now));
            let condition = "Once it starts; counted as if the flag were free then.";
            (PhaseIndex::FIRST, start, Some(condition))
        }
        Stage::Running { phase, wait } => match wait {
            Wait::Approval { .. } | Wait::Window { .. } => (*phase, now, None),
            Wait::Bake { ends } => (phase.next(), (*ends).max(now), None),
            Wait::Guards { .. } => (phase.next(), now, Some("Once the guards are content.")),
        },
        Stage::Paused { held, .. } => {
            let (phase, from) = match held {
                Held::Pending => (PhaseIndex::FIRST, now),
                Held::Running { phase, wait } => match wait {
                    HeldWait::Approval { .. } | HeldWait::Window => (*phase, now),
                    HeldWait::Bake { remaining } => (phase.next(), now + *remaining),
                    HeldWait::Guards { .. } => (phase.next(), now),
                },
            };
            (phase, from, Some("If it were unpaused right now."))
        }
    };
    let phases = release.phases().get(first.get()..).unwrap_or_default().to_vec();
    let template = Template { phases, ..release.proposal.pipeline.template.clone() };
    let plan = plan(&template, from);
    let end = if plan.is_empty() { Some(from) } else { end(&plan) };
    Some(Ahead { plan, phases: template.phases, end, condition })
}
