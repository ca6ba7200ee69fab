//! The phases of a release as a tree: one line each, and below those that matter what they wait for.

use super::{
    Text,
    words::{self, Bake},
};
use crate::{
    output::release::{self, sign},
    paint::Tone,
    time,
};
use chrono::{DateTime, Utc};
use phasegate_api::v1::{self, PhaseState, ReleaseState};
use unicode_width::UnicodeWidthStr as _;

/// A bar is readable from here on, and gets no better than that.
const BAR: std::ops::RangeInclusive<usize> = 6..=24;

/// One phase: its line, and what stands below it.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) lines: Vec<Text>,
}

/// How wide the columns of names and states are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    pub(super) name: usize,
    state: usize,
    detail: usize,
}

impl Columns {
    pub(super) fn of(release: &v1::Release, width: usize) -> Self {
        let names = release.phases.iter().map(|phase| phase.phase_id.width());
        let states = release.phases.iter().map(|phase| state_of(release, phase).width());
        let name = names.max().unwrap_or_default().min((width / 4).max(8));
        let state = states.max().unwrap_or_default();
        // The branch, the sign, and two columns between each two.
        let detail = width.saturating_sub(4 + name + 2 + state + 2);
        Self { name, state, detail }
    }
}

fn is_current(release: &v1::Release, phase: &v1::PhaseStatus) -> bool {
    phase.phase_id == release.current_phase_id
}

fn is_held(release: &v1::Release, phase: &v1::PhaseStatus) -> bool {
    is_current(release, phase) && release.state() == ReleaseState::Paused
}

fn state_of(release: &v1::Release, phase: &v1::PhaseStatus) -> &'static str {
    match is_held(release, phase) {
        true => "paused",
        false => release::phase_state(phase.state()),
    }
}

/// The tree, phase by phase.
pub(super) fn tree(release: &v1::Release, columns: Columns, now: DateTime<Utc>) -> Vec<Branch> {
    let last = release.phases.len().saturating_sub(1);
    let phases = release.phases.iter().enumerate();
    phases.map(|(n, phase)| branch(release, phase, n == last, columns, now)).collect()
}

fn branch(
    release: &v1::Release,
    phase: &v1::PhaseStatus,
    is_last: bool,
    columns: Columns,
    now: DateTime<Utc>,
) -> Branch {
    let (sign, tone) = match is_held(release, phase) {
        true => ("‖", Tone::Waits),
        false => (sign(phase.state()), Tone::of_phase(phase.state())),
    };
    let name = if is_current(release, phase) { Tone::Strong } else { Tone::Plain };
    let line = Text::of(Tone::Faint, if is_last { "└ " } else { "├ " })
        .and(tone, sign)
        .and(Tone::Plain, " ")
        .cell(name, &phase.phase_id, columns.name)
        .and(Tone::Plain, "  ")
        .cell(tone, state_of(release, phase), columns.state)
        .and(Tone::Plain, "  ");
    let line = match words::bake(release, phase, now).filter(|_| is_current(release, phase)) {
        Some(bake) => with_bar(line, bake, columns.detail),
        None => {
            let (tone, text) = fact(release, phase, now);
            line.and(tone, text)
        }
    };
    let mut lines = vec![line];
    if is_current(release, phase) || matches!(phase.state(), PhaseState::Failed) {
        let stem = if is_last { "    " } else { "│   " };
        let below = |tone, text: String| {
            Text::of(Tone::Faint, stem)
                .and(Tone::Plain, " ".repeat(columns.name + 2))
                .and(tone, text)
        };
        lines
            .extend(details(release, phase, now).into_iter().map(|(tone, text)| below(tone, text)));
    }
    Branch { lines }
}

/// `████████░░░░  58 %  12 min 30 s left`.
fn with_bar(line: Text, bake: Bake, space: usize) -> Text {
    let left = match bake.left.is_zero() {
        true => "the bake is over".to_owned(),
        false => format!("{} left", words::countdown(bake.left)),
    };
    // The share takes eight columns with the space around it.
    let room = space.saturating_sub(left.width() + 8);
    if room < *BAR.start() {
        return line.and(Tone::Plain, left);
    }
    let (full, empty) = bar(bake.done, room.min(*BAR.end()));
    line.and(Tone::Busy, full)
        .and(Tone::Faint, empty)
        .and(Tone::Plain, format!(" {:>3} %  {left}", percent(bake.done)))
}

/// A bar in two parts: what is done, what is to do.
pub(super) fn bar(done: f64, width: usize) -> (String, String) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a width of some columns"
    )]
    let full = ((done * width as f64).floor() as usize).min(width);
    ("█".repeat(full), "░".repeat(width - full))
}

/// Whole percent, never 100 before it is.
pub(super) fn percent(done: f64) -> u8 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 100"
    )]
    let whole = (done * 100.0).floor().clamp(0.0, 100.0) as u8;
    whole
}

/// What stands beside a phase that does not bake.
fn fact(release: &v1::Release, phase: &v1::PhaseStatus, now: DateTime<Utc>) -> (Tone, String) {
    let reach = || words::reach(release, &phase.phase_id);
    match phase.state() {
        PhaseState::AwaitingApproval => {
            let given = approvers(phase).len();
            (Tone::Plain, format!("{given} given, {} missing", phase.approvals_missing))
        }
        PhaseState::AwaitingWindow => match &phase.window_open_time {
            Some(opening) => (Tone::Plain, format!("opens {}", words::clock_time(opening, now))),
            None => (Tone::Plain, "no opening in the next 366 days".to_owned()),
        },
        PhaseState::Baking | PhaseState::Succeeded => (Tone::Plain, format!("live: {}", reach())),
        PhaseState::Skipped if phase.applied => (Tone::Plain, format!("live: {}", reach())),
        PhaseState::Pending => {
            let needs = words::template(release, &phase.phase_id).map(plan).unwrap_or_default();
            (Tone::Faint, needs)
        }
        PhaseState::Skipped | PhaseState::Cancelled => (Tone::Faint, "was never live".to_owned()),
        PhaseState::Aborted | PhaseState::Failed if phase.apply_time.is_some() => {
            (Tone::Plain, "was live, is reverted".to_owned())
        }
        PhaseState::Aborted | PhaseState::Failed | PhaseState::Unspecified => {
            (Tone::Plain, String::new())
        }
    }
}

/// What will be asked for, and how long it bakes.
fn plan(phase: &v1::Phase) -> String {
    let mut parts = vec![words::needs(phase)];
    if let Some(bake) = &phase.bake_duration {
        parts.push(format!("bakes {}", time::span(time::duration(bake))));
    }
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

fn approvers(phase: &v1::PhaseStatus) -> Vec<&v1::ReleaseEvent> {
    let approved = v1::ReleaseEventType::ApprovalRecorded;
    phase.reviews.iter().filter(|review| review.event_type() == approved).collect()
}

/// What is worth knowing of the phase at which a release stands.
fn details(
    release: &v1::Release,
    phase: &v1::PhaseStatus,
    now: DateTime<Utc>,
) -> Vec<(Tone, String)> {
    let mut lines = Vec::new();
    if let Some(reason) = words::pause_reason(release).filter(|_| is_held(release, phase)) {
        lines.push((Tone::Waits, format!("paused because: {reason}")));
    }
    for review in approvers(phase) {
        let groups = review.details.get("groups").map_or("", String::as_str);
        let mut text = format!("✓ approved by {}", release::who(review.actor.as_ref()));
        if !groups.is_empty() {
            text.push_str(&format!(" ({groups})"));
        }
        if !review.reason.is_empty() {
            text.push_str(&format!(": {}", review.reason));
        }
        lines.push((Tone::Good, text));
    }
    if phase.state() == PhaseState::AwaitingApproval {
        lines.push((Tone::Waits, missing(release, phase)));
    }
    if phase.bypassed {
        lines.push((Tone::Plain, "its approval or its window was gone round".to_owned()));
    }
    if phase.applied {
        lines.push((Tone::Plain, format!("live: {}", words::reach(release, &phase.phase_id))));
    }
    lines.extend(phase.guards.iter().map(|status| guard(release, phase, status, now)));
    lines
}

/// How many approvals are missing, and whose.
fn missing(release: &v1::Release, phase: &v1::PhaseStatus) -> String {
    let mut text = format!("? {} missing", phase.approvals_missing);
    let Some(required) =
        words::template(release, &phase.phase_id).and_then(|template| template.approval.as_ref())
    else {
        return text;
    };
    let given = |group: &str| {
        let of_group = |review: &&&v1::ReleaseEvent| {
            let groups = review.details.get("groups").map_or("", String::as_str);
            groups.split(',').any(|one| one == group)
        };
        u32::try_from(approvers(phase).iter().filter(of_group).count()).unwrap_or(u32::MAX)
    };
    let quotas = required.quotas.iter();
    let owed: Vec<(u32, &str)> = quotas
        .map(|quota| (quota.min_approvals.saturating_sub(given(&quota.group)), &*quota.group))
        .filter(|(owed, _)| *owed > 0)
        .collect();
    match owed[..] {
        [] => {}
        [(all, group)] if all == phase.approvals_missing => {
            text.push_str(&format!(", from {group}"));
        }
        _ => {
            let parts = owed.iter().map(|(owed, group)| format!("{owed} from {group}"));
            text.push_str(&format!(", of which {}", parts.collect::<Vec<_>>().join(", ")));
        }
    }
    if !required.reviewer_groups.is_empty() {
        text.push_str(&format!("; only {} may", required.reviewer_groups.join(", ")));
    }
    if !required.allow_self_approval {
        let creator = release::who(release.creator.as_ref());
        text.push_str(&format!("; not {creator}, who triggered it"));
    }
    text
}

fn guard(
    release: &v1::Release,
    phase: &v1::PhaseStatus,
    status: &v1::GuardStatus,
    now: DateTime<Utc>,
) -> (Tone, String) {
    let name = &status.guard_id;
    let owes = release::owing(release, phase).contains(name);
    let (tone, mut text) = match status.verdict() {
        v1::GuardVerdict::Pass => (Tone::Good, format!("✓ guard {name} passes")),
        v1::GuardVerdict::Fail => (Tone::Bad, format!("✗ guard {name} FAILS")),
        v1::GuardVerdict::Unspecified if owes => {
            (Tone::Plain, format!("○ guard {name} has to pass, and has not reported"))
        }
        v1::GuardVerdict::Unspecified => (Tone::Faint, format!("○ guard {name} has not reported")),
    };
    if let Some(at) = &status.report_time {
        text.push_str(&format!(", {}", time::relative(at, now)));
    }
    if !status.message.is_empty() {
        text.push_str(&format!(": {}", status.message));
    }
    (tone, text)
}
