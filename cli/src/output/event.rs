//! What happened, one line an event.

use super::release::{end, who};
use crate::{name::id, time};
use phasegate_api::v1::{self, EndReason, ReleaseEventType};

/// What an event says, in words, with who and why.
pub(crate) fn words(event: &v1::ReleaseEvent) -> String {
    let detail = |key: &str| event.details.get(key).map_or("", String::as_str);
    let mut text = match event.event_type() {
        ReleaseEventType::Unspecified => {
            "something that this program is too old to know".to_owned()
        }
        ReleaseEventType::Triggered => {
            format!("triggered along {}", id(detail("pipeline")))
        }
        ReleaseEventType::Started => "started".to_owned(),
        ReleaseEventType::PhaseEntered => "entered".to_owned(),
        ReleaseEventType::ApprovalRecorded => "approved".to_owned(),
        ReleaseEventType::ApprovalRejected => "refused".to_owned(),
        ReleaseEventType::WindowOpened => "its window opened".to_owned(),
        ReleaseEventType::WindowOverridden => "its window was overridden".to_owned(),
        ReleaseEventType::PhaseApplied => "live".to_owned(),
        ReleaseEventType::BakeElapsed => "the bake is over, but the phase stays".to_owned(),
        ReleaseEventType::BakeAdjusted => {
            format!("the bake has {} left now", detail("bakeRemaining"))
        }
        ReleaseEventType::GuardReported => match detail("verdict") {
            "PASS" => format!("the guard {} passes", detail("guardId")),
            "FAIL" => format!("the guard {} FAILS", detail("guardId")),
            other => format!("the guard {} says {other}", detail("guardId")),
        },
        ReleaseEventType::PhaseSucceeded => "done".to_owned(),
        ReleaseEventType::PhaseSkipped => "skipped".to_owned(),
        ReleaseEventType::Paused => match (detail("guardId"), detail("overdueMs")) {
            ("", "") => "paused".to_owned(),
            ("", _) => "paused: its timer was found too late".to_owned(),
            (guard, _) => format!("paused because of the guard {guard}"),
        },
        ReleaseEventType::Unpaused => "goes on".to_owned(),
        ReleaseEventType::Succeeded => format!("succeeded: {}", end_of(event)),
        ReleaseEventType::Aborted => format!("aborted: {}", end_of(event)),
        ReleaseEventType::Failed => format!("failed: {}", end_of(event)),
        ReleaseEventType::WindowRescheduled => {
            "the next opening of its window is another one now".to_owned()
        }
    };
    if event.bypass {
        text.push_str(", going round what was missing");
    }
    if event.actor.as_ref().is_some_and(|actor| !actor.engine) {
        text.push_str(&format!(" by {}", who(event.actor.as_ref())));
        if !detail("groups").is_empty() {
            text.push_str(&format!(" ({})", detail("groups")));
        }
    }
    if !event.reason.is_empty() {
        text.push_str(&format!(": {}", event.reason));
    }
    text
}

fn end_of(event: &v1::ReleaseEvent) -> &'static str {
    let name = event.details.get("endReason").map_or("", String::as_str);
    let reason = EndReason::from_str_name(&format!("END_REASON_{name}"));
    end(reason.unwrap_or(EndReason::Unspecified))
}

/// A line of the log: time, phase, words. The phase is padded to a width, so that lines stand under
/// each other although they come one by one.
pub(crate) fn line(event: &v1::ReleaseEvent, phase_width: usize) -> String {
    let time = event.event_time.as_ref().map(time::absolute).unwrap_or_default();
    format!("{time}  {:phase_width$}  {}", event.phase_id, words(event))
}

/// The width of the longest phase.
pub(crate) fn phase_width<'a>(phases: impl IntoIterator<Item = &'a str>) -> usize {
    phases.into_iter().map(|phase| phase.chars().count()).max().unwrap_or_default()
}
