//! One release: where it stands, who has it, what comes next, what happened.

mod log;
mod outlook;
mod phases;

pub(super) use outlook::{end as planned_end, timeline};
pub(super) use phases::rules as phase_rules;

use super::{
    action, change,
    page::{Moment, Page, Region},
    time, words,
};
use crate::grpc::status;
use maud::{Markup, html};
use phasegate_engine::{
    id::ReleaseId,
    pipeline::{PassRequirement, Phase},
    refusal::Resource,
    release::{GuardProgress, GuardVerdict},
    release::{
        Held, HeldWait, PauseCause, PhaseIndex, Release, ReleaseState, ReviewVerdict, Stage, Wait,
    },
    time::{Span, Timestamp},
};
use std::sync::Arc;
use tonic::Status;

/// The release of that name, as of a moment.
pub(super) fn find<'a>(moment: &'a Moment, id: &str) -> Result<&'a Arc<Release>, Status> {
    let name = format!("releases/{id}");
    let id: ReleaseId =
        phasegate_api::convert::release_name("name", &name).map_err(status::rejected)?;
    moment.state.release(&id).ok_or_else(|| status::not_found(&Resource::Release(id)))
}

/// Its page as of a moment.
pub(super) async fn page(moment: &Moment, id: &str) -> Result<Page, Status> {
    let release = find(moment, id)?;
    let log = log::region(moment, release).await?;
    let (_, _, word) = words::state(release.state());
    Ok(Page {
        title: format!("{} {}", word, release.proposal.flag),
        regions: vec![
            Region::new("head", head(moment, release)),
            Region::new("standing", standing(moment, release)),
            Region::new("exposure", exposure(release)),
            Region::new("phases", phases::region(release, moment.now)),
            Region::new("outlook", outlook::region(release, moment.now)),
            Region::new("change", change::region(moment, release)),
            Region::new("log", log),
        ],
    })
}

/// A state, coloured.
pub(super) fn chip(state: ReleaseState) -> Markup {
    let (class, sign, word) = words::state(state);
    html! { span.chip.{ "s-" (class) } { span aria-hidden="true" { (sign) } " " (word) } }
}

fn head(moment: &Moment, release: &Release) -> Markup {
    let proposal = &release.proposal;
    html! {
        nav.crumbs aria-label="You are here" { a href="/releases" { "Releases" } " / " span { (proposal.id) } }
        div.title {
            h1 {
                a href={ "/flags/" (proposal.flag) } { (proposal.flag) }
                " " span.summary { (change::summary(moment, release)) }
            }
            (action::menu(moment, release))
        }
        @if !proposal.description.is_empty() { p.description { (proposal.description) } }
        p.meta {
            "Started by " strong { (proposal.creator) } " " (time::ago(proposal.create_time, moment.now))
            ", " (time::at(proposal.create_time))
            ", along " a href={ "/pipelines/" (proposal.pipeline.id) } { (proposal.pipeline.id) }
            @for (key, value) in &proposal.labels { " " span.label { (key) ": " (value) } }
        }
    }
}

/// Where it stands, in one sentence, with a bar while it bakes.
fn standing(moment: &Moment, release: &Release) -> Markup {
    let (class, _, _) = words::state(release.state());
    html! {
        div.standing.{ "s-" (class) } {
            p.sentence { (sentence(release, moment.now)) }
            (bar(release, moment.now))
            (outlook::next(release, moment.now))
            (action::shortcut(moment, release))
        }
    }
}

/// Where a phase stands among all.
fn place(release: &Release, index: PhaseIndex) -> Markup {
    html! {
        "Phase " (index.get() + 1) " of " (release.phases().len()) ", "
        strong { (release.phase(index).id) } ", "
    }
}

fn sentence(release: &Release, now: Timestamp) -> Markup {
    match &release.progress.stage {
        Stage::Pending => html! { "Pending, " (pending(release, now)) "." },
        Stage::Running { phase, wait } => {
            html! { (place(release, *phase)) (waiting(release, *phase, wait, now)) }
        }
        Stage::Paused { held, by } => html! {
            @if let Held::Running { phase, .. } = held { (place(release, *phase)) } @else { "Pending, " }
            "paused "
            @match &by.cause {
                PauseCause::Requested => { "by " strong { (words::actor(&by.actor)) } }
                PauseCause::Guard(guard) => { "by the guard " strong { (guard) } }
                PauseCause::Overdue(late) => { "by Phasegate, because a timer was found " (time::span_words(*late)) " late" }
            }
            " " (time::ago(by.time, now))
            @if !by.reason.is_empty() { ": “" (by.reason) "”" }
            ". "
            @if let Held::Running { wait, .. } = held { (held_words(wait)) }
        },
        Stage::Over { reason, time } => {
            let (_, _, word) = words::state(reason.state());
            html! { strong { (word) } " " (time::ago(*time, now)) ": " (words::end(*reason)) "." }
        }
    }
}

fn held_words(wait: &HeldWait) -> Markup {
    match wait {
        HeldWait::Approval { remaining: None } => {
            html! { "It waits for approvals once it goes on." }
        }
        HeldWait::Approval { remaining: Some(left) } => {
            html! { "It waits for approvals once it goes on, for " (time::span_words(*left)) " more." }
        }
        HeldWait::Window => html! { "It waits for its window once it goes on." },
        HeldWait::Bake { remaining } => {
            html! { "Whoever has the change keeps it; " (time::span_words(*remaining)) " of the bake are left." }
        }
        HeldWait::Guards { .. } => html! { "Whoever has the change keeps it; the bake is over." },
    }
}

fn pending(release: &Release, now: Timestamp) -> Markup {
    match release.proposal.schedule_time {
        Some(start) if start > now => {
            html! { "starts " (time::clock(start, now)) ", in " (time::left(start, now)) }
        }
        Some(_) | None => html! { "behind another release of the flag" },
    }
}

fn waiting(release: &Release, phase: PhaseIndex, wait: &Wait, now: Timestamp) -> Markup {
    match wait {
        Wait::Approval { expires } => html! {
            "awaiting approval: " (missing(release, phase))
            @if let Some(expires) = expires {
                ". The release fails in " (time::left(*expires, now)) ", " (time::clock(*expires, now)) ", unless they come"
            }
            "."
        },
        Wait::Window { opens: Some(opens) } => html! {
            "waits for its window, opens " (time::clock(*opens, now)) ", in " (time::left(*opens, now)) "."
        },
        Wait::Window { opens: None } => {
            html! { "waits for its window, which does not open in the next 366 days." }
        }
        Wait::Bake { ends } if *ends > now => html! {
            "baking, " (time::left(*ends, now)) " left, ends " (time::clock(*ends, now)) "."
        },
        Wait::Bake { .. } => html! { "baking, about to end." },
        Wait::Guards { .. } => html! {
            "the bake is over; waits for a PASS of " strong { (owing(release, phase)) } "."
        },
    }
}

/// The guards of a phase that owe a PASS.
fn owing(release: &Release, phase: PhaseIndex) -> String {
    let guards =
        release.phase(phase).guards.iter().zip(&release.progress.phases[phase.get()].guards);
    let owing = guards.filter(|(guard, progress)| {
        matches!(guard.pass, PassRequirement::Required { .. })
            && progress.verdict != Some(GuardVerdict::Pass)
    });
    owing.map(|(guard, _)| guard.id.as_str()).collect::<Vec<_>>().join(", ")
}

/// The approvals that a phase lacks.
fn missing(release: &Release, phase: PhaseIndex) -> String {
    let missing = release.approvals_missing(phase);
    let given = given(release, phase);
    match given {
        0 => format!("{} missing", words::approvals(missing)),
        given => format!("{given} given, {} missing", words::approvals(missing)),
    }
}

fn given(release: &Release, phase: PhaseIndex) -> usize {
    let reviews = &release.progress.phases[phase.get()].reviews;
    reviews.iter().filter(|review| review.verdict == ReviewVerdict::Approved).count()
}

/// How long the bake of a phase is in all, given what is left: the template's time, or more if it
/// was adjusted.
fn bake_of(phase: &Phase, left: Span) -> Span {
    phase.bake.max(left)
}

fn bar(release: &Release, now: Timestamp) -> Markup {
    match &release.progress.stage {
        Stage::Running { phase, wait: Wait::Bake { ends } } => {
            let phase = release.phase(*phase);
            let label = format!("Bake of {}", phase.id);
            time::bar(&label, bake_of(phase, ends.since(now)), *ends, now)
        }
        Stage::Paused {
            held: Held::Running { phase, wait: HeldWait::Bake { remaining } }, ..
        } => {
            let phase = release.phase(*phase);
            let label = format!("Bake of {}, paused", phase.id);
            time::still_bar(&label, bake_of(phase, *remaining), *remaining)
        }
        Stage::Pending | Stage::Running { .. } | Stage::Paused { .. } | Stage::Over { .. } => {
            html! {}
        }
    }
}

/// What a release waits for, as short as a column.
pub(super) fn waits(release: &Release, now: Timestamp) -> Markup {
    match &release.progress.stage {
        Stage::Pending => pending(release, now),
        Stage::Running { phase, wait } => match wait {
            Wait::Approval { expires } => html! {
                (missing(release, *phase))
                @if let Some(expires) = expires { span.sub { "fails in " (time::left(*expires, now)) } }
            },
            Wait::Window { opens: Some(opens) } => html! {
                "window opens " (time::clock(*opens, now)) span.sub { "in " (time::left(*opens, now)) }
            },
            Wait::Window { opens: None } => html! { "no opening in 366 days" },
            Wait::Bake { ends } => html! {
                (time::left(*ends, now)) " left" (bar(release, now))
            },
            Wait::Guards { .. } => html! { "PASS of " (owing(release, *phase)) },
        },
        Stage::Paused { by, .. } => html! {
            "somebody to unpause it"
            span.sub {
                (words::actor(&by.actor))
                @if !by.reason.is_empty() { ": " (by.reason) }
            }
        },
        Stage::Over { reason, time } => html! {
            (words::end(*reason)) span.sub { (time::ago(*time, now)) }
        },
    }
}

/// Who has the change now.
fn exposure(release: &Release) -> Markup {
    let exposure = words::exposure(release);
    html! {
        h2 { "Who has the change" }
        @if release.is_over() {
            p {
                @if release.state() == ReleaseState::Succeeded { "Everyone, in every environment." }
                @else { "Nobody. The flag answers as it did before this release." }
            }
        } @else if exposure.is_empty() {
            p { "Nobody yet." }
        } @else {
            dl.exposure {
                @for (place, who) in &exposure {
                    div {
                        dt { @match place { Some(place) => { (place) }, None => { "every environment" } } }
                        dd { @for one in who { span { (one) } } }
                    }
                }
            }
            p.hint { "Everyone else gets what the flag answered before." }
        }
    }
}

/// What a guard said last.
fn verdict(progress: &GuardProgress, now: Timestamp) -> Markup {
    let (class, word) = words::verdict(progress.verdict);
    html! {
        span.verdict.{ "v-" (class) } { (word) }
        @if let Some(time) = progress.report_time { " " span.sub { (time::ago(time, now)) } }
        @if !progress.message.is_empty() { " " span.sub { "“" (progress.message) "”" } }
    }
}
