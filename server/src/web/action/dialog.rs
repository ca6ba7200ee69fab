//! The dialogs: in sentences what will happen, a reason, and a button that says what it does.

use super::{Attempt, Offer, Verb, offer};
use crate::web::{
    page::{Moment, Place},
    refused, time, words,
};
use maud::{Markup, html};
use phasegate_engine::{
    id::PhaseId,
    release::{Held, HeldWait, PhaseIndex, Release, Stage, Wait},
    time::Span,
};

/// The inside of the dialog of an action.
pub(super) fn content(
    moment: &Moment,
    release: &Release,
    verb: Verb,
    attempt: &Attempt<'_>,
    place: Place,
) -> Markup {
    let offered = offer(moment, release, verb);
    html! {
        form method="post" action={ "/releases/" (release.id()) "/" (verb.slug()) } {
            (place.heading(&html! { (verb.label()) " " (release.proposal.flag) }))
            @if let Some(refusal) = attempt.refused { (refused::words(refusal)) }
            @match &offered {
                Ok(offer) => { (form(moment, release, verb, offer, attempt)) }
                Err(why) => { p { "Not possible now. " (why) "." } }
            }
            div.buttons {
                a.button href={ "/releases/" (release.id()) } data-close { @if offered.is_ok() { "Cancel" } @else { "Close" } }
                @if offered.is_ok() {
                    button.primary.danger[verb.is_final() && verb != Verb::FullRollout] { (verb.label()) }
                }
            }
        }
    }
}

fn form(
    moment: &Moment,
    release: &Release,
    verb: Verb,
    offer: &Offer,
    attempt: &Attempt<'_>,
) -> Markup {
    // A repeated click is done once; a dialog that is shown anew after a refusal is another request.
    let request_id = uuid::Uuid::new_v4();
    let phase = release.current().map(|index| release.phase(index).id.to_string());
    html! {
        @for sentence in sentences(moment, release, verb, offer) { p { (sentence) } }
        input type="hidden" name="request_id" value=(request_id);
        input type="hidden" name="etag" value=(phasegate_api::convert::etag(release.progress.revision));
        @if let Some(phase) = phase { input type="hidden" name="phase_id" value=(phase); }
        (passes("bypass_approval", "Pass over the missing approvals of", &offer.approvals))
        (passes("override_windows", "Pass over the closed windows of", &offer.windows))
        @if verb == Verb::AdjustBake { (what_is_left(moment, release)) }
        (reason(verb, offer, attempt))
    }
}

/// What is passed over has to be agreed to by name.
fn passes(name: &str, label: &str, phases: &[PhaseId]) -> Markup {
    let phases: Vec<&str> = phases.iter().map(PhaseId::as_str).collect();
    html! {
        @if !phases.is_empty() {
            label.check { input type="checkbox" name=(name) value="yes" required; span { (label) " " strong { (phases.join(", ")) } } }
        }
    }
}

fn reason(verb: Verb, offer: &Offer, attempt: &Attempt<'_>) -> Markup {
    let required = match verb {
        Verb::Approve | Verb::Pause | Verb::Unpause => false,
        Verb::Skip => !offer.approvals.is_empty(),
        Verb::Reject
        | Verb::OverrideWindow
        | Verb::AdjustBake
        | Verb::FullRollout
        | Verb::Abort => true,
    };
    html! {
        label for="reason" { "Reason" @if !required { span.sub { " (optional)" } } }
        textarea id="reason" name="reason" rows="2" maxlength="1024" required[required] autofocus
            aria-describedby="reason-hint" { (attempt.fields.reason) }
        p.hint id="reason-hint" { "Kept in the log, with your name." }
    }
}

/// The fields of what is left of a bake, filled with what is.
fn what_is_left(moment: &Moment, release: &Release) -> Markup {
    let left = match &release.progress.stage {
        Stage::Running { wait: Wait::Bake { ends }, .. } => ends.since(moment.now),
        Stage::Paused {
            held: Held::Running { wait: HeldWait::Bake { remaining }, .. }, ..
        } => *remaining,
        Stage::Pending | Stage::Running { .. } | Stage::Paused { .. } | Stage::Over { .. } => {
            Span::ZERO
        }
    };
    let seconds = left.as_millis() / 1000;
    let parts = [
        ("hours", "hours", seconds / 3600),
        ("minutes", "minutes", seconds / 60 % 60),
        ("seconds", "seconds", seconds % 60),
    ];
    html! {
        fieldset.time {
            legend { "Bake time left from now" }
            @for (name, label, value) in parts {
                label { input type="number" name=(name) min="0" max="999999" step="1" value=(value) inputmode="numeric"; (label) }
            }
        }
    }
}

/// What will happen.
fn sentences(moment: &Moment, release: &Release, verb: Verb, offer: &Offer) -> Vec<Markup> {
    let after = &offer.after;
    let current = release.current().map(|index| release.phase(index).id.clone());
    let at = current.as_ref().map_or("", PhaseId::as_str);
    match verb {
        Verb::Approve => {
            let who = &moment.viewer.caller.principal;
            let first =
                html! { "Records that " strong { (who) } " approves phase " strong { (at) } "." };
            vec![first, html! { (then(release, after, moment)) }]
        }
        Verb::Reject => vec![
            html! { "Rejects phase " strong { (at) } " and ends the release." },
            reverts(release),
        ],
        Verb::Pause => vec![
            html! { "Holds the release where it is. Whoever has the change keeps it; timers stand still until somebody unpauses." },
            html! { @if let Some(left) = bake_left(after) { (time::span_words(left)) " of the bake of " strong { (at) } " stay left." } },
        ],
        Verb::Unpause => vec![html! { "Ends the hold. " (then(release, after, moment)) }],
        Verb::Skip => {
            let is_applied =
                release.current().is_some_and(|index| release.progress.phases[index.get()].applied);
            let first = if is_applied {
                html! { "Leaves phase " strong { (at) } " now, before its bake is over and whatever its guards say; those it reached keep the change." }
            } else {
                html! { "Leaves phase " strong { (at) } " without applying it: nobody gets the change by it." }
            };
            vec![first, html! { (then(release, after, moment)) }]
        }
        Verb::OverrideWindow => vec![
            html! { "Applies phase " strong { (at) } " now, although its window is closed." },
            html! { (then(release, after, moment)) },
        ],
        Verb::AdjustBake => vec![
            html! { "Sets how long phase " strong { (at) } " still bakes, counted from now. None at all ends its bake." },
        ],
        Verb::FullRollout => full_rollout(release, offer),
        Verb::Abort => vec![html! { "Ends the release at once." }, reverts(release)],
    }
}

/// What an end takes back.
fn reverts(release: &Release) -> Markup {
    let exposure = words::exposure(release);
    let flag = &release.proposal.flag;
    html! {
        @if exposure.is_empty() {
            "Nobody has the change yet, so " strong { (flag) } " keeps answering as it does. "
        } @else {
            strong { (flag) } " goes back to what it answered before, in one step, in "
            strong { (words::exposure_list(&exposure)) } ". "
        }
        "This is final: to try again, trigger a new release."
    }
}

fn full_rollout(release: &Release, offer: &Offer) -> Vec<Markup> {
    let skipped = |(before, after): (_, _)| {
        use phasegate_engine::release::{PhaseProgress, PhaseState};
        let (before, after): (&PhaseProgress, &PhaseProgress) = (before, after);
        after.state == PhaseState::Skipped && before.state != PhaseState::Skipped
    };
    let pairs = release.progress.phases.iter().zip(&offer.after.progress.phases);
    let phases = release.phases().iter().zip(pairs);
    let skipped: Vec<&str> =
        phases.filter(|(_, pair)| skipped(*pair)).map(|(phase, _)| phase.id.as_str()).collect();
    let flag = &release.proposal.flag;
    vec![
        html! { "Gives the change to " strong { "everyone, in every environment, now" } ", and makes it what " strong { (flag) } " settles on." },
        html! { @if !skipped.is_empty() { "Phases that are not done are skipped: " strong { (skipped.join(", ")) } ". " } "This is final: to undo it, trigger a new release." },
    ]
}

fn bake_left(after: &Release) -> Option<Span> {
    match &after.progress.stage {
        Stage::Paused {
            held: Held::Running { wait: HeldWait::Bake { remaining }, .. }, ..
        } => Some(*remaining),
        Stage::Pending | Stage::Running { .. } | Stage::Paused { .. } | Stage::Over { .. } => None,
    }
}

/// Where the release is after it.
fn then(before: &Release, after: &Release, moment: &Moment) -> Markup {
    let name = |phase: &PhaseIndex| html! { strong { (after.phase(*phase).id) } };
    let grows = newly_applied(before, after);
    html! {
        @match &after.progress.stage {
            Stage::Pending => { "It waits to start." }
            Stage::Running { phase, wait } => {
                @if !grows.is_empty() { (grown(after, &grows)) " " }
                @match wait {
                    Wait::Approval { .. } => {
                        "Phase " (name(phase)) " needs " (words::approvals(after.approvals_missing(*phase)))
                        @if before.current() == Some(*phase) { " more" } "."
                    }
                    Wait::Window { opens: Some(opens) } => {
                        "Phase " (name(phase)) " then waits for its window, which opens " (time::clock(*opens, moment.now)) "."
                    }
                    Wait::Window { opens: None } => {
                        "Phase " (name(phase)) " then waits for its window, which does not open in the next 366 days."
                    }
                    Wait::Bake { ends } => {
                        "Phase " (name(phase)) " bakes for " (time::span_words(ends.since(moment.now))) ", until " (time::clock(*ends, moment.now)) "."
                    }
                    Wait::Guards { .. } => { "Phase " (name(phase)) " waits for its guards." }
                }
            }
            Stage::Paused { .. } => { "The release stays paused." }
            Stage::Over { reason, .. } => { "That ends the release: " (words::end(*reason)) "." }
        }
    }
}

/// Phases that are applied after and were not before.
fn newly_applied(before: &Release, after: &Release) -> Vec<PhaseIndex> {
    let pairs = before.progress.phases.iter().zip(&after.progress.phases).enumerate();
    let newly = pairs.filter(|(_, (before, after))| after.applied && !before.applied);
    newly.map(|(index, _)| PhaseIndex::new(index)).collect()
}

fn grown(after: &Release, phases: &[PhaseIndex]) -> Markup {
    let rules = phases.iter().flat_map(|phase| &after.phase(*phase).rules);
    let whom: Vec<String> = rules
        .map(|rule| format!("{} ({})", words::environments(&rule.environments), words::who(rule)))
        .collect();
    html! { "The change goes live at once in " strong { (whom.join(", ")) } "." }
}
