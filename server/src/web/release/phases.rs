//! The pipeline of a release as a row of phases.

use super::verdict;
use crate::web::{time, words};
use maud::{Markup, html};
use phasegate_engine::{
    pipeline::{Phase, SelfApproval},
    release::{PhaseIndex, PhaseProgress, PhaseState, Release, ReviewVerdict, Stage, Wait},
    time::Timestamp,
};

/// All phases, in order.
pub(super) fn region(release: &Release, now: Timestamp) -> Markup {
    html! {
        h2 { "Phases" }
        ol.phases {
            @for (index, (phase, progress)) in release.phases().iter().zip(&release.progress.phases).enumerate() {
                (card(release, PhaseIndex::new(index), phase, progress, now))
            }
        }
    }
}

fn card(
    release: &Release,
    index: PhaseIndex,
    phase: &Phase,
    progress: &PhaseProgress,
    now: Timestamp,
) -> Markup {
    let (class, sign, word) = words::phase_state(progress.state);
    let is_current = release.current() == Some(index);
    html! {
        li.phase.{ "s-" (class) } .current[is_current] aria-current=[is_current.then_some("step")] {
            h3 { span.number { (index.get() + 1) } " " (phase.id) }
            p { span.chip.{ "s-" (class) } { span aria-hidden="true" { (sign) } " " (word) }
                @if progress.bypassed { " " span.chip.bypassed { "passed over" } } }
            (rules(phase))
            dl.facts {
                (reached(progress, now))
                div { dt { "Bake" } dd { (time::span_words(phase.bake)) } }
                @if phase.approval.is_some() { div { dt { "Approval" } dd { (approval(release, index, phase, progress, now)) } } }
                @if phase.windows.is_some() { div { dt { "Window" } dd { (window(release, index, phase, now)) } } }
                @for (guard, said) in phase.guards.iter().zip(&progress.guards) {
                    div { dt { "Guard " (guard.id) } dd { (verdict(said, now)) span.sub.block { (words::guard(guard)) } } }
                }
            }
        }
    }
}

/// Whom a phase adds.
pub(in crate::web) fn rules(phase: &Phase) -> Markup {
    html! {
        ul.rules {
            @for rule in &phase.rules {
                li { strong { (words::environments(&rule.environments)) } ": " (words::who(rule)) }
            }
        }
    }
}

fn reached(progress: &PhaseProgress, now: Timestamp) -> Markup {
    html! {
        @if let Some(applied) = progress.apply_time {
            div { dt { "Live since" } dd { (time::clock(applied, now)) } }
        }
        @if let Some(ended) = progress.end_time {
            div { dt { "Over since" } dd { (time::clock(ended, now)) } }
        }
    }
}

fn approval(
    release: &Release,
    index: PhaseIndex,
    phase: &Phase,
    progress: &PhaseProgress,
    now: Timestamp,
) -> Markup {
    let Some(requirement) = &phase.approval else { return html! {} };
    let missing = release.approvals_missing(index);
    let is_open = matches!(progress.state, PhaseState::Pending | PhaseState::AwaitingApproval);
    html! {
        span { (words::requirement(requirement)) }
        @if requirement.self_approval == SelfApproval::Forbidden { span.sub.block { "not by " (release.proposal.creator) ", who started it" } }
        @if !progress.reviews.is_empty() {
            ul.reviews {
                @for review in &progress.reviews {
                    @let approved = review.verdict == ReviewVerdict::Approved;
                    li { @if approved { "✓ " } @else { "✗ rejected by " } strong { (review.principal) }
                        " " span.sub { (time::ago(review.time, now)) @if !review.reason.is_empty() { " “" (review.reason) "”" } } }
                }
            }
        }
        @if is_open && missing > 0 { span.missing { (words::approvals(missing)) " missing" } }
    }
}

fn window(release: &Release, index: PhaseIndex, phase: &Phase, now: Timestamp) -> Markup {
    let Some(windows) = &phase.windows else { return html! {} };
    let is_ahead = release.progress.phases[index.get()].state == PhaseState::Pending;
    let opens = match &release.progress.stage {
        Stage::Running { phase, wait: Wait::Window { opens } } if *phase == index => *opens,
        Stage::Pending | Stage::Running { .. } | Stage::Paused { .. } | Stage::Over { .. } => None,
    };
    html! {
        span { (words::windows(windows)) }
        @if is_ahead && windows.is_open(now) { span.sub.block { "open now" } }
        @else if is_ahead && let Some(opens) = windows.next_open(now) { span.sub.block { "next opening " (time::clock(opens, now)) } }
        @if let Some(opens) = opens { span.sub.block { "opens " (time::clock(opens, now)) ", in " (time::left(opens, now)) } }
        @for blackout in &windows.blackouts {
            @if blackout.end > now {
                span.sub.block { "closed " (time::clock(blackout.start, now)) " to " (time::clock(blackout.end, now))
                    @if !blackout.note.is_empty() { ": " (blackout.note) } }
            }
        }
    }
}
