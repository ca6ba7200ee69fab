//! The rows and columns of the document's tables: which of them a release and a call stand for, and
//! what a story has reached. Rows and columns are named as the tables name them.

use crate::{
    model::{Fired, Model, Outcome, Release},
    tables::reason_name,
    words::{Act, Call, End, Kind, Policy, State, Verb, Verdict},
};
use std::{cell::RefCell, collections::BTreeMap};

impl Release {
    /// Its row.
    pub(crate) fn row(&self) -> &'static str {
        let standing = &self.standing;
        let phase = standing.phase.unwrap_or(0);
        let is_last = self.is_last(phase);
        let is_elapsed = standing.elapsed.is_some();
        match (standing.state, standing.held) {
            (State::Succeeded, _) => "SUCCEEDED",
            (State::Aborted, _) => "ABORTED",
            (State::Failed, _) => "FAILED",
            (State::Pending, _) => "PENDING",
            (State::AwaitingApproval, _) if is_last => "AWAITING_APPROVAL, last phase",
            (State::AwaitingApproval, _) if self.approvals_missing(phase) > 1 => {
                "AWAITING_APPROVAL (0 of 2)"
            }
            (State::AwaitingApproval, _) => "AWAITING_APPROVAL (1 of 2)",
            (State::AwaitingWindow, _) if is_last => "AWAITING_WINDOW, last phase",
            (State::AwaitingWindow, _) => "AWAITING_WINDOW",
            (State::Baking, _) if is_elapsed => "BAKING, elapsed, guard owes PASS",
            (State::Baking, _) if is_last => "BAKING, last phase",
            (State::Baking, _) => "BAKING",
            (State::Paused, Some(State::Pending)) => "PAUSED held PENDING",
            (State::Paused, Some(State::AwaitingApproval)) => "PAUSED held AWAITING_APPROVAL",
            (State::Paused, Some(State::AwaitingWindow)) => "PAUSED held AWAITING_WINDOW",
            (State::Paused, _) if is_elapsed => "PAUSED held BAKING, elapsed",
            (State::Paused, _) => "PAUSED held BAKING",
        }
    }

    /// The column of what is asked of it, if the tables have one.
    fn column(&self, act: Act) -> Option<&'static str> {
        // A release that is at no phase stands at none; the tables' second is as good as any.
        let current = self.standing.phase.unwrap_or(1);
        let is_current = act.phase() == Some(current);
        let is_earlier = act.phase().is_some_and(|phase| phase < current);
        // What an end took back is not applied any more, and nothing asks.
        let is_over = self.standing.end.is_some() || self.standing.phase.is_none();
        let was_applied = |phase: usize| is_over || self.standing.phases[phase].applied;
        Some(match act {
            Act::Approve { .. } if is_current => "ApprovePhase(current) by bob",
            Act::Approve { .. } => "ApprovePhase(other phase)",
            Act::Reject { .. } if is_current => "RejectPhase(current)",
            Act::Pause => "PauseRelease",
            Act::Unpause => "UnpauseRelease",
            Act::Abort => "AbortRelease",
            Act::Skip { bypass: false, .. } if is_current => "SkipPhase(current)",
            Act::Skip { bypass: true, .. } if is_current => "SkipPhase + bypass_approval",
            Act::Skip { .. } => "SkipPhase(other phase)",
            Act::Override { .. } if is_current => "OverrideWindow(current)",
            Act::Bake { left: 0, .. } if is_current => "AdjustBake(current, 0 s)",
            Act::Bake { .. } if is_current => "AdjustBake(current, 3 s)",
            Act::Rollout { bypass: false, override_windows: false } => "FullRollout",
            Act::Rollout { bypass: true, override_windows: false } => "+ bypass_approval",
            Act::Rollout { bypass: true, override_windows: true } => {
                "+ bypass_approval + override_windows"
            }
            Act::Report { verdict: Verdict::Fail, .. } if is_current => "FAIL, current phase",
            Act::Report { verdict: Verdict::Pass, .. } if is_current => "PASS, current phase",
            Act::Report { verdict: Verdict::Fail, phase, .. }
                if is_earlier && was_applied(phase) =>
            {
                "FAIL, earlier phase, applied"
            }
            Act::Report { verdict: Verdict::Pass, .. } if is_earlier => "PASS, earlier phase",
            Act::Reject { .. }
            | Act::Override { .. }
            | Act::Bake { .. }
            | Act::Rollout { .. }
            | Act::Report { .. } => return None,
        })
    }
}

impl Model {
    /// The cell that a call stands for.
    pub(crate) fn cell(&self, call: &Call) -> Option<(&'static str, &'static str)> {
        match &call.verb {
            Verb::Steer { release, act, .. } => {
                let release = self.releases.get(release)?;
                let has_phase = act.phase().is_none_or(|phase| phase < release.copy.phases.len());
                Some((release.row(), release.column(*act).filter(|_| has_phase)?))
            }
            Verb::Trigger(trigger) => {
                let is_taken = self.active(trigger.flag).is_some();
                let is_full = self.waiting(trigger.flag) >= crate::words::PENDING_MAX;
                let row = match (trigger.schedule, is_taken, is_full) {
                    (Some(at), _, false) if at > self.now => "schedule_time ahead",
                    (Some(at), _, true) if at > self.now => "schedule_time ahead, ten are PENDING",
                    (_, false, _) => "no active release",
                    (_, true, false) => "active release",
                    (_, true, true) => "active release, ten are PENDING",
                };
                let policy = match trigger.policy {
                    Policy::Fail => "FAIL",
                    Policy::Queue => "QUEUE",
                    Policy::Supersede => "SUPERSEDE",
                };
                Some((row, policy))
            }
            Verb::Flag { .. } | Verb::Pipeline { .. } => None,
        }
    }
}

/// What the stories of this run have reached, and how often.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reached {
    pub(crate) steps: usize,
    /// The steps before the first failure.
    pub(crate) failed_after: Option<usize>,
    /// Calls by row and column, each with "done", "nothing" or the reason why not.
    pub(crate) cells: BTreeMap<(&'static str, &'static str, String), usize>,
    /// Timers by row and kind. One that was dropped is of no kind any more.
    pub(crate) timers: BTreeMap<(&'static str, Option<Kind>, Fired), usize>,
    pub(crate) answers: BTreeMap<String, usize>,
    pub(crate) ends: BTreeMap<End, usize>,
    pub(crate) events: BTreeMap<&'static str, usize>,
}

thread_local! {
    /// The library that runs the stories calls functions without a receiver. They run on one thread.
    static REACHED: RefCell<Reached> = RefCell::default();
}

/// Counts what the last step of a model reached.
pub(crate) fn count(model: &Model) {
    REACHED.with_borrow_mut(|reached| {
        let said = &model.said;
        reached.steps += 1;
        let answer = match &said.outcome {
            Outcome::Committed => "done".to_owned(),
            Outcome::Nothing => "nothing".to_owned(),
            Outcome::Refused(reason) => reason_name(reason),
        };
        if let Some((row, column)) = said.cell {
            *reached.cells.entry((row, column, answer.clone())).or_default() += 1;
        }
        *reached.answers.entry(answer).or_default() += 1;
        for fired in &said.fired {
            *reached.timers.entry(*fired).or_default() += 1;
        }
        for event in said.commits.iter().flatten() {
            *reached.events.entry(event.name).or_default() += 1;
            if matches!(event.name, "SUCCEEDED" | "ABORTED" | "FAILED") {
                let end = model.release(event.release).standing.end.expect("it ended");
                *reached.ends.entry(end).or_default() += 1;
            }
        }
    });
}

/// Notes the first failure of a run; what is counted after it are shorter stories.
pub(crate) fn note_failure() {
    REACHED.with_borrow_mut(|reached| {
        reached.failed_after = reached.failed_after.or(Some(reached.steps))
    });
}

/// What was reached since the last time that this was asked.
pub(crate) fn take() -> Reached {
    REACHED.take()
}
