//! What the views say in words: where a release stands, what comes next, and when.

use crate::{
    name::id,
    output::{release, resource},
    paint::Tone,
    time,
};
use chrono::{DateTime, TimeDelta, Utc};
use phasegate_api::v1::{self, PhaseState, ReleaseState};
use prost_types::Timestamp;
use std::time::Duration;

/// Within this time of an instant its seconds matter.
const SECONDS_MATTER: TimeDelta = TimeDelta::minutes(10);

/// `14:32 UTC`, with seconds if it is near, with the day if it is another one.
pub(super) fn clock_time(at: &Timestamp, now: DateTime<Utc>) -> String {
    let at = time::instant(at);
    let is_near = (at - now).abs() < SECONDS_MATTER;
    let form = match (at.date_naive() == now.date_naive(), is_near) {
        (true, true) => "%H:%M:%S UTC",
        (true, false) => "%H:%M UTC",
        (false, true) => "%a %-d %b %H:%M:%S UTC",
        (false, false) => "%a %-d %b %H:%M UTC",
    };
    at.format(form).to_string()
}

/// How long it is until an instant, in whole seconds; none if it is over.
pub(super) fn left(until: &Timestamp, now: DateTime<Utc>) -> Option<Duration> {
    (time::instant(until) - now).to_std().ok().filter(|left| !left.is_zero())
}

/// A time that counts down: whole seconds, so that nothing flickers, and never `0 s` too early.
pub(crate) fn countdown(left: Duration) -> String {
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    time::span(Duration::from_secs(seconds))
}

/// `in 1 h, at 14:32 UTC`, or that it is due.
fn when(at: &Timestamp, now: DateTime<Utc>) -> String {
    match left(at, now) {
        Some(left) => format!("in {}, {}", countdown(left), clock_time(at, now)),
        None => "now".to_owned(),
    }
}

/// How far a bake is, from 0 to 1, and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bake {
    pub(crate) done: f64,
    pub(crate) left: Duration,
}

/// The bake of a phase, if it has one now. The length comes from the pipeline, where it is known.
pub(crate) fn bake(
    release: &v1::Release,
    phase: &v1::PhaseStatus,
    now: DateTime<Utc>,
) -> Option<Bake> {
    let applied = phase.apply_time.as_ref().map(time::instant);
    let (left, stood) = match (&phase.bake_end_time, &phase.bake_remaining) {
        (Some(end), _) => {
            let end = time::instant(end);
            ((end - now).to_std().unwrap_or_default(), applied.map(|applied| end - applied))
        }
        (None, Some(remaining)) => {
            let left = time::duration(remaining);
            let paused = release.pause.as_ref().and_then(|pause| pause.event_time.as_ref());
            let ran = applied.zip(paused).map(|(applied, at)| time::instant(at) - applied);
            (left, ran.map(|ran| ran + TimeDelta::from_std(left).unwrap_or_default()))
        }
        (None, None) => return None,
    };
    let planned = template(release, &phase.phase_id)
        .map(|template| template.bake_duration.as_ref().map(time::duration).unwrap_or_default());
    let whole = planned.or_else(|| stood.and_then(|stood| stood.to_std().ok())).unwrap_or_default();
    // A bake that was made longer than planned has done nothing yet of what was planned.
    let done = match whole.is_zero() {
        true => 1.0,
        false => 1.0 - (left.as_secs_f64() / whole.as_secs_f64()).clamp(0.0, 1.0),
    };
    Some(Bake { done, left })
}

/// A phase as its pipeline describes it, if the release has its copy.
pub(super) fn template<'a>(release: &'a v1::Release, phase_id: &str) -> Option<&'a v1::Phase> {
    release.pipeline_snapshot.as_ref()?.phases.iter().find(|phase| phase.id == phase_id)
}

/// `Phase 2 of 4, prod-eu, baking, 12 min 30 s left, ends 14:32 UTC`.
pub(super) fn sentence(release: &v1::Release, now: DateTime<Utc>) -> String {
    let Some((n, phase)) = position(release) else {
        return match release.state() {
            ReleaseState::Pending => match &release.schedule_time {
                Some(start) if time::instant(start) > now => {
                    format!("Not started, starts {}", when(start, now))
                }
                Some(_) | None => "Not started, another release of the flag comes first".to_owned(),
            },
            ReleaseState::Paused => format!("Not started, {}", paused(release, now)),
            ReleaseState::Succeeded | ReleaseState::Aborted | ReleaseState::Failed => {
                let text = release::standing(release, now);
                let ended = release.end_time.as_ref();
                match ended {
                    Some(at) => format!("{} ({})", capital(&text), clock_time(at, now)),
                    None => capital(&text),
                }
            }
            ReleaseState::Unspecified
            | ReleaseState::AwaitingApproval
            | ReleaseState::AwaitingWindow
            | ReleaseState::Baking => capital(&release::standing(release, now)),
        };
    };
    let doing = match release.state() {
        ReleaseState::Paused => paused(release, now),
        ReleaseState::Unspecified
        | ReleaseState::Pending
        | ReleaseState::AwaitingApproval
        | ReleaseState::AwaitingWindow
        | ReleaseState::Baking
        | ReleaseState::Succeeded
        | ReleaseState::Aborted
        | ReleaseState::Failed => doing(release, phase, now),
    };
    format!("Phase {n} of {}, {}, {doing}", release.phases.len(), phase.phase_id)
}

/// The current phase and its number, counted from 1.
pub(crate) fn position(release: &v1::Release) -> Option<(usize, &v1::PhaseStatus)> {
    let n = release.phases.iter().position(|phase| phase.phase_id == release.current_phase_id)?;
    Some((n + 1, &release.phases[n]))
}

fn doing(release: &v1::Release, phase: &v1::PhaseStatus, now: DateTime<Utc>) -> String {
    match phase.state() {
        PhaseState::AwaitingApproval => match &phase.approval_expire_time {
            Some(expiry) => format!(
                "awaiting approval, {} missing, expires {}",
                phase.approvals_missing,
                when(expiry, now)
            ),
            None => format!("awaiting approval, {} missing", phase.approvals_missing),
        },
        PhaseState::AwaitingWindow => match &phase.window_open_time {
            Some(opening) => format!("awaiting window, opens {}", when(opening, now)),
            None => "awaiting window, no opening in the next 366 days".to_owned(),
        },
        PhaseState::Baking => {
            let end = phase.bake_end_time.as_ref();
            match end.and_then(|end| Some((end, left(end, now)?))) {
                Some((end, left)) => {
                    let (left, end) = (countdown(left), clock_time(end, now));
                    format!("baking, {left} left, ends {end}")
                }
                None => match &release::owing(release, phase)[..] {
                    [] => "baking, the bake is over".to_owned(),
                    guards => {
                        format!("baking, the bake is over, waits for guard {}", guards.join(", "))
                    }
                },
            }
        }
        state @ (PhaseState::Unspecified
        | PhaseState::Pending
        | PhaseState::Succeeded
        | PhaseState::Skipped
        | PhaseState::Aborted
        | PhaseState::Failed
        | PhaseState::Cancelled) => release::phase_state(state).to_owned(),
    }
}

/// `paused by bob 2 h ago`, or by a guard.
fn paused(release: &v1::Release, now: DateTime<Utc>) -> String {
    let Some(pause) = &release.pause else { return "paused".to_owned() };
    let mut text = match pause.details.get("guardId") {
        Some(guard) => format!("paused by the guard {guard}"),
        None => format!("paused by {}", release::who(pause.actor.as_ref())),
    };
    if let Some(since) = &pause.event_time {
        text.push_str(&format!(", {}", time::relative(since, now)));
    }
    text
}

/// Why a release is held, if somebody said so.
pub(super) fn pause_reason(release: &v1::Release) -> Option<&str> {
    let reason = release.pause.as_ref().map(|pause| pause.reason.as_str());
    reason.filter(|reason| !reason.is_empty())
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Who has the change now.
pub(super) fn live(release: &v1::Release) -> String {
    match release.state() {
        ReleaseState::Succeeded => return "everyone, everywhere".to_owned(),
        ReleaseState::Aborted | ReleaseState::Failed => {
            return "nobody: the flag answers as before".to_owned();
        }
        ReleaseState::Unspecified
        | ReleaseState::Pending
        | ReleaseState::AwaitingApproval
        | ReleaseState::AwaitingWindow
        | ReleaseState::Baking
        | ReleaseState::Paused => {}
    }
    let mut parts = Vec::new();
    let exempt = release.pipeline_snapshot.as_ref().map(|p| &p.exempt_environments[..]);
    if let Some(exempt) = exempt.filter(|exempt| !exempt.is_empty())
        && release.start_time.is_some()
    {
        parts.push(format!("everyone in {} (exempt)", exempt.join(" and ")));
    }
    for phase in release.phases.iter().filter(|phase| phase.applied) {
        parts.push(reach(release, &phase.phase_id));
    }
    if parts.is_empty() { "nobody yet".to_owned() } else { parts.join(" + ") }
}

/// Whom a phase reaches, or its name if that is not known.
pub(super) fn reach(release: &v1::Release, phase_id: &str) -> String {
    let Some(template) = template(release, phase_id) else { return phase_id.to_owned() };
    let rules = template.rules.iter().map(resource::targets);
    rules.collect::<Vec<_>>().join(" or ")
}

/// What happens next by itself, or what a person has to do for it.
pub(super) fn next(release: &v1::Release) -> Option<(Tone, String)> {
    let name = id(&release.name);
    let person = |text: String| Some((Tone::Waits, text));
    let itself = |text: String| Some((Tone::Plain, text));
    match release.state() {
        ReleaseState::AwaitingApproval | ReleaseState::Paused => {
            person(release::next_step(release)?)
        }
        ReleaseState::AwaitingWindow => {
            itself("it goes live by itself when its window opens".to_owned())
        }
        ReleaseState::Baking => {
            let (n, phase) = position(release)?;
            let owing = release::owing(release, phase);
            if let (None, Some(guard)) = (&phase.bake_end_time, owing.first()) {
                return person(format!(
                    "report with `phasegate release signal {name} {} {guard} pass`",
                    phase.phase_id
                ));
            }
            match release.phases.get(n) {
                None => itself(
                    "when its bake is over it succeeds, and everyone has the change".to_owned(),
                ),
                Some(next) => {
                    let needs = needs(template(release, &next.phase_id)?);
                    let reach = reach(release, &next.phase_id);
                    match needs.is_empty() {
                        true => itself(format!("{} goes live by itself: {reach}", next.phase_id)),
                        false => itself(format!("{} ({reach}) needs {needs}", next.phase_id)),
                    }
                }
            }
        }
        ReleaseState::Unspecified
        | ReleaseState::Pending
        | ReleaseState::Succeeded
        | ReleaseState::Aborted
        | ReleaseState::Failed => None,
    }
}

/// What a phase asks for before it goes live.
pub(super) fn needs(phase: &v1::Phase) -> String {
    let mut parts = Vec::new();
    if let Some(approval) = &phase.approval {
        let quotas = approval.quotas.iter();
        let quotas = quotas.map(|quota| format!("{} from {}", quota.min_approvals, quota.group));
        let quotas = quotas.collect::<Vec<_>>().join(", ");
        let many = if approval.min_approvals == 1 { "approval" } else { "approvals" };
        let mut text = format!("{} {many}", approval.min_approvals);
        if !quotas.is_empty() {
            text.push_str(&format!(" ({quotas})"));
        }
        parts.push(text);
    }
    if let Some(windows) = &phase.windows {
        parts.push(resource::windows(windows));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_countdown_is_in_whole_seconds_and_ends_with_one() {
        for (milliseconds, expected) in
            [(1, "1 s"), (1000, "1 s"), (1001, "2 s"), (59_001, "1 min"), (750_000, "12 min 30 s")]
        {
            assert_eq!(countdown(Duration::from_millis(milliseconds)), expected);
        }
    }

    #[test]
    fn an_instant_is_shown_as_exactly_as_it_matters() {
        let now = time::parse_instant("2030-06-14T18:00:00Z").unwrap();
        let check = |text| clock_time(&time::timestamp(time::parse_instant(text).unwrap()), now);
        assert_eq!(check("2030-06-14T18:09:30Z"), "18:09:30 UTC");
        assert_eq!(check("2030-06-14T19:30:30Z"), "19:30 UTC");
        assert_eq!(check("2030-06-17T07:00:00Z"), "Mon 17 Jun 07:00 UTC");
    }
}
