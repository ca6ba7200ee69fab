//! A release in words: where it stands, its phases as a row and as a table.

use super::table::Table;
use crate::{name::id, paint::Tone, time};
use chrono::{DateTime, Utc};
use phasegate_api::v1::{self, EndReason, PhaseState, ReleaseState};

/// Where a release stands, in one sentence without its name.
pub(crate) fn standing(release: &v1::Release, now: DateTime<Utc>) -> String {
    match release.state() {
        ReleaseState::Unspecified => "in a state that this program is too old to know".to_owned(),
        ReleaseState::Pending => match &release.schedule_time {
            Some(start) if time::instant(start) > now => {
                format!("pending until {}", time::both(start, now))
            }
            Some(_) | None => "pending behind another release of the flag".to_owned(),
        },
        ReleaseState::AwaitingApproval | ReleaseState::AwaitingWindow | ReleaseState::Baking => {
            match current(release) {
                Some(phase) => format!(
                    "{} {}: {}",
                    state(release.state()),
                    phase.phase_id,
                    doing(release, phase, now)
                ),
                None => state(release.state()).to_owned(),
            }
        }
        ReleaseState::Paused => paused(release, now),
        ReleaseState::Succeeded | ReleaseState::Aborted | ReleaseState::Failed => {
            format!("{}: {}", state(release.state()), end(release.end_reason()))
        }
    }
}

fn paused(release: &v1::Release, now: DateTime<Utc>) -> String {
    let mut text = "paused".to_owned();
    if let Some(phase) = current(release) {
        text.push_str(&format!(" in {}", phase.phase_id));
    }
    if let Some(pause) = &release.pause {
        text.push_str(&match pause.details.get("guardId") {
            Some(guard) => format!(" by the guard {guard}"),
            None => format!(" by {}", who(pause.actor.as_ref())),
        });
        if let Some(since) = &pause.event_time {
            text.push_str(&format!(", {}", time::relative(since, now)));
        }
        if !pause.reason.is_empty() {
            text.push_str(&format!(": {}", pause.reason));
        }
    }
    let left = current(release).and_then(|phase| phase.bake_remaining.as_ref());
    if let Some(left) = left {
        text.push_str(&format!("; {} of its bake left", time::span(time::duration(left))));
    }
    text
}

/// The phase that a release stands at.
pub(crate) fn current(release: &v1::Release) -> Option<&v1::PhaseStatus> {
    release.phases.iter().find(|phase| phase.phase_id == release.current_phase_id)
}

/// What the current phase waits for.
fn doing(release: &v1::Release, phase: &v1::PhaseStatus, now: DateTime<Utc>) -> String {
    match phase.state() {
        PhaseState::AwaitingApproval => {
            let missing = match phase.approvals_missing {
                1 => "1 approval missing".to_owned(),
                n => format!("{n} approvals missing"),
            };
            match &phase.approval_expire_time {
                Some(expiry) => format!("{missing}, expires {}", time::both(expiry, now)),
                None => missing,
            }
        }
        PhaseState::AwaitingWindow => match &phase.window_open_time {
            Some(opening) => format!("opens {}", time::both(opening, now)),
            None => "no opening in the next 366 days".to_owned(),
        },
        PhaseState::Baking => {
            let over = phase.bake_end_time.as_ref().is_none_or(|end| time::instant(end) <= now);
            let owing = owing(release, phase);
            match &phase.bake_end_time {
                Some(end) if !over => format!("until {}", time::both(end, now)),
                Some(_) | None if !owing.is_empty() => {
                    format!("the bake is over, waits for {}", owing.join(", "))
                }
                Some(_) | None => "the bake is over".to_owned(),
            }
        }
        PhaseState::Unspecified
        | PhaseState::Pending
        | PhaseState::Succeeded
        | PhaseState::Skipped
        | PhaseState::Aborted
        | PhaseState::Failed
        | PhaseState::Cancelled => String::new(),
    }
}

/// The guards of a phase that have not passed. Which of them must is in the pipeline's copy, if the
/// release has it.
pub(crate) fn owing(release: &v1::Release, phase: &v1::PhaseStatus) -> Vec<String> {
    let template = release
        .pipeline_snapshot
        .as_ref()
        .and_then(|pipeline| pipeline.phases.iter().find(|template| template.id == phase.phase_id));
    let must = |guard: &&v1::GuardStatus| {
        template.is_none_or(|template| {
            template.guards.iter().any(|must| must.require_pass && must.id == guard.guard_id)
        })
    };
    let guards = phase.guards.iter().filter(must);
    let owing = guards.filter(|guard| guard.verdict() != v1::GuardVerdict::Pass);
    owing.map(|guard| guard.guard_id.clone()).collect()
}

/// A state in words.
pub(crate) fn state(state: ReleaseState) -> &'static str {
    match state {
        ReleaseState::Unspecified => "unknown",
        ReleaseState::Pending => "pending",
        ReleaseState::AwaitingApproval => "awaiting approval of",
        ReleaseState::AwaitingWindow => "awaiting the window of",
        ReleaseState::Baking => "baking in",
        ReleaseState::Paused => "paused",
        ReleaseState::Succeeded => "succeeded",
        ReleaseState::Aborted => "aborted",
        ReleaseState::Failed => "failed",
    }
}

pub(crate) fn short_state(state: ReleaseState) -> &'static str {
    match state {
        ReleaseState::AwaitingApproval => "awaiting approval",
        ReleaseState::AwaitingWindow => "awaiting window",
        ReleaseState::Baking => "baking",
        ReleaseState::Unspecified
        | ReleaseState::Pending
        | ReleaseState::Paused
        | ReleaseState::Succeeded
        | ReleaseState::Aborted
        | ReleaseState::Failed => self::state(state),
    }
}

/// Why a release ended, in words.
pub(crate) fn end(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Unspecified => "for a reason that this program is too old to know",
        EndReason::AllPhasesDone => "all phases done, everyone has the change",
        EndReason::FullRollout => "rolled out in full, everyone has the change",
        EndReason::AbortRequested => "on request, everything reverted",
        EndReason::ApprovalRejected => "an approval was refused, everything reverted",
        EndReason::Superseded => "a newer release took its place, everything reverted",
        EndReason::ApprovalExpired => "approvals did not come in time, everything reverted",
        EndReason::GuardFailed => "a guard failed, everything reverted",
        EndReason::BaseChanged => "the flag had changed before it could start",
    }
}

/// The name of who did something.
pub(crate) fn who(actor: Option<&v1::Actor>) -> &str {
    match actor {
        Some(actor) if !actor.engine => &actor.principal,
        Some(_) | None => "the engine",
    }
}

/// The phases in a row: `✓ dev  ◐ staging  ○ prod`.
pub(crate) fn row(release: &v1::Release) -> String {
    let held = release.state() == ReleaseState::Paused;
    let phases = release.phases.iter().map(|phase| {
        let is_current = phase.phase_id == release.current_phase_id;
        let (sign, tone) = match held && is_current {
            true => ("‖", Tone::Waits),
            false => (sign(phase.state()), Tone::of_phase(phase.state())),
        };
        format!("{} {}", tone.paint(sign), phase.phase_id)
    });
    phases.collect::<Vec<_>>().join("   ")
}

pub(crate) fn sign(state: PhaseState) -> &'static str {
    match state {
        PhaseState::Pending | PhaseState::Unspecified => "○",
        PhaseState::AwaitingApproval => "?",
        PhaseState::AwaitingWindow => "…",
        PhaseState::Baking => "◐",
        PhaseState::Succeeded => "✓",
        PhaseState::Skipped => "»",
        PhaseState::Aborted | PhaseState::Failed => "✗",
        PhaseState::Cancelled => "–",
    }
}

/// What the signs of a row mean.
pub(crate) const LEGEND: &str = "○ to come   ? awaits approval   … awaits its window   ◐ baking   \
                                 ‖ paused   ✓ done   » skipped   ✗ ended here   – never reached";

pub(crate) fn phase_state(state: PhaseState) -> &'static str {
    match state {
        PhaseState::Unspecified => "unknown",
        PhaseState::Pending => "to come",
        PhaseState::AwaitingApproval => "awaiting approval",
        PhaseState::AwaitingWindow => "awaiting window",
        PhaseState::Baking => "baking",
        PhaseState::Succeeded => "done",
        PhaseState::Skipped => "skipped",
        PhaseState::Aborted => "aborted here",
        PhaseState::Failed => "failed here",
        PhaseState::Cancelled => "never reached",
    }
}

/// Everything about one release.
pub(crate) fn page(release: &v1::Release, now: DateTime<Utc>) -> String {
    let mut text = format!("{}  {}\n\n", release.name, standing(release, now));
    let mut facts = Table::of_facts();
    facts.fact("flag", &*release.flag);
    facts.fact("pipeline", &*release.pipeline);
    facts.fact("change", change(release));
    facts.fact("description", &*release.description);
    let labels = release.labels.iter().map(|(key, value)| format!("{key}={value}"));
    facts.fact("labels", labels.collect::<Vec<_>>().join(" "));
    let created = release.create_time.as_ref().map(|created| {
        format!("by {} at {}", who(release.creator.as_ref()), time::both(created, now))
    });
    facts.fact("triggered", created.unwrap_or_default());
    let ended = release.end_time.as_ref().map(|ended| time::both(ended, now));
    facts.fact("ended", ended.unwrap_or_default());
    facts.fact("revision", release.revision.to_string());
    text.push_str(&facts.render());
    text.push('\n');

    let mut phases = Table::new(&["PHASE", "STATE", "LIVE", "DETAIL"]).indented();
    for phase in &release.phases {
        let is_current = phase.phase_id == release.current_phase_id;
        let mut detail = Vec::new();
        let doing = if is_current { doing(release, phase, now) } else { String::new() };
        if !doing.is_empty() {
            detail.push(doing);
        } else if let Some(end) = &phase.end_time {
            detail.push(format!("left {}", time::both(end, now)));
        }
        for review in &phase.reviews {
            let rejected = review.event_type() == v1::ReleaseEventType::ApprovalRejected;
            let verb = if rejected { "refused" } else { "approved" };
            detail.push(format!("{verb} by {}", who(review.actor.as_ref())));
        }
        if phase.bypassed {
            detail.push("bypassed".to_owned());
        }
        for guard in &phase.guards {
            let verdict = match guard.verdict() {
                v1::GuardVerdict::Unspecified => continue,
                v1::GuardVerdict::Pass => "passes",
                v1::GuardVerdict::Fail => "FAILS",
            };
            detail.push(format!("{} {verdict}", guard.guard_id));
        }
        let live = if phase.applied { "yes" } else { "" };
        let state = Tone::of_phase(phase.state()).paint(phase_state(phase.state()));
        phases.row([&*phase.phase_id, &state, live, &detail.join("; ")]);
    }
    text.push_str(&phases.render());
    text
}

/// The change in words.
fn change(release: &v1::Release) -> String {
    let rules = |n: usize| match n {
        0 => "no rules".to_owned(),
        1 => "1 rule".to_owned(),
        n => format!("{n} rules"),
    };
    match &release.change {
        Some(v1::release::Change::FeatureGate(gate)) => {
            format!("feature gate: {}, default {}", rules(gate.rules.len()), gate.default_value)
        }
        Some(v1::release::Change::DynamicConfig(config)) => {
            format!("dynamic config: {}", rules(config.rules.len()))
        }
        None => String::new(),
    }
}

/// What a person may do next about a release, if it waits for one.
pub(crate) fn next_step(release: &v1::Release) -> Option<String> {
    let (name, phase) = (id(&release.name), &release.current_phase_id);
    match release.state() {
        ReleaseState::AwaitingApproval => {
            Some(format!("approve it with `phasegate release approve {name} {phase}`"))
        }
        ReleaseState::Paused => Some(format!("go on with `phasegate release unpause {name}`")),
        ReleaseState::Unspecified
        | ReleaseState::Pending
        | ReleaseState::AwaitingWindow
        | ReleaseState::Baking
        | ReleaseState::Succeeded
        | ReleaseState::Aborted
        | ReleaseState::Failed => None,
    }
}

/// Releases, one a line.
pub(crate) fn list(releases: &[v1::Release], now: DateTime<Utc>) -> String {
    if releases.is_empty() {
        return "no releases\n".to_owned();
    }
    let mut table = Table::new(&["RELEASE", "STATE", "PHASE", "FLAG", "TRIGGERED", "BY"]);
    for release in releases {
        let triggered = release.create_time.as_ref().map(|time| time::relative(time, now));
        table.row([
            id(&release.name),
            &Tone::of_release(release.state()).paint(short_state(release.state())),
            &release.current_phase_id,
            id(&release.flag),
            &triggered.unwrap_or_default(),
            who(release.creator.as_ref()),
        ]);
    }
    table.render()
}

/// The timeline that a release would have.
pub(crate) fn plan(answer: &v1::TriggerReleaseResponse, now: DateTime<Utc>) -> String {
    let mut text =
        "nothing was triggered; at the earliest, with approvals given at once:\n\n".to_owned();
    let mut table = Table::new(&["PHASE", "APPLIED", "BAKE OVER"]).indented();
    for phase in &answer.plan {
        let when = |time: Option<&prost_types::Timestamp>| {
            time.map_or_else(|| "no window in sight".to_owned(), |time| time::both(time, now))
        };
        table.row([
            phase.phase_id.clone(),
            when(phase.earliest_apply_time.as_ref()),
            when(phase.earliest_end_time.as_ref()),
        ]);
    }
    text.push_str(&table.render());
    text
}
