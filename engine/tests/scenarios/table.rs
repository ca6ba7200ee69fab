//! Tables: for each state of a release what each action makes of it. The expected text was written
//! from the specification and is never written by the machine.
//!
//! The pipeline: phase `first` (a guard, a bake), `second` (2 approvals with expiry, a window, a
//! guard, a bake), `third` (1 approval, a bake). The release stands at `second`. "last phase":
//! `third` does not exist. "elapsed", "owes": the guard must pass within 7 s, and the bake is over.
//! Windows are open, except in the rows with AWAITING_WINDOW.

use crate::{
    invariants::release_events,
    script::{self, Line},
    told::{code, upper},
    world::{BASE, Outcome, Step, World},
};
use phasegate_engine::{
    TimerKind, deadline,
    event::Happened,
    id::ReleaseId,
    release::{Held, HeldWait, Release, ReleaseState, Stage, Wait},
    time::{Span, Timestamp},
};
use std::path::Path;

/// Every cell that is not as the table says.
pub(crate) fn wrong_cells(path: &Path, text: &str) -> Vec<String> {
    let cells = |line: &str| line.split('|').map(|c| c.trim().to_owned()).collect::<Vec<_>>();
    let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with('-'));
    let columns = cells(lines.next().expect("a row of column names"));
    let mut wrong = Vec::new();
    let mut rows = 0;
    for line in lines {
        let row = cells(line);
        assert_eq!(row.len(), columns.len(), "{}: {line}", path.display());
        rows += 1;
        for (column, expected) in columns.iter().zip(&row).skip(1) {
            for state in states(&row[0]) {
                let actual = cell(state, column);
                if actual != *expected {
                    wrong.push(format!(
                        "{}: {state}, {column}: expected {expected}, got {actual}",
                        path.display()
                    ));
                }
            }
        }
    }
    assert_eq!(rows, 15, "{}: one row for each state", path.display());
    wrong
}

/// A table as the reference shows it, with its title.
pub(crate) fn as_markdown(text: &str) -> String {
    text.lines().fold(String::new(), |markdown, line| match line.strip_prefix("# ") {
        Some(title) => markdown + "### " + title + "\n\n",
        None => markdown + "| " + line + " |\n",
    })
}

/// The last row stands for three states.
fn states(row: &str) -> Vec<&str> {
    match row {
        "SUCCEEDED, ABORTED, FAILED" => row.split(", ").collect(),
        one => vec![one],
    }
}

/// A release that stands where the row says, and when that is.
#[derive(Debug)]
struct Scene {
    world: World,
    now: Timestamp,
}

impl Scene {
    fn new(state: &str) -> Self {
        let mut scene = Self { world: World::default(), now: BASE };
        let is_window_closed = state.contains("AWAITING_WINDOW");
        let window = if is_window_closed { "MON 12:00-13:00" } else { "MON-SUN 00:00-24:00" };
        let is_elapsed = state.contains("elapsed");
        let must_pass = if is_elapsed { "must pass within 7s" } else { "" };
        let second = format!(
            "  phase second: 2 approvals expire 1h; window {window} UTC; guard g {must_pass}; bake 10s"
        );
        let mut phases = vec!["  phase first: guard g; bake 10s", &second];
        if !state.contains("last phase") {
            phases.push("  phase third: 1 approval; bake 10s");
        }
        scene.play("0s pipeline web", &phases);
        scene.play("0s flag f off along web", &[]);
        for line in Self::way_to(state) {
            scene.play(line, &[]);
        }
        let release = scene.release();
        let held = state.strip_prefix("PAUSED held ").map(|held| held.split(',').next());
        let expected = held.flatten().unwrap_or_else(|| state.split([',', ' ']).next().unwrap());
        let actual = release.held_state().unwrap_or_else(|| release.state());
        assert_eq!(upper(&actual), expected, "{state} is not reached");
        let is_guards = matches!(
            release.progress.stage,
            Stage::Running { wait: Wait::Guards { .. }, .. }
                | Stage::Paused { held: Held::Running { wait: HeldWait::Guards { .. }, .. }, .. }
        );
        assert_eq!(is_guards, is_elapsed, "{state} is not reached");
        scene
    }

    /// What leads a new release to a state.
    fn way_to(state: &str) -> Vec<&str> {
        let mut way = match state {
            "PENDING" | "PAUSED held PENDING" => {
                vec![
                    "0s tim trigger r0 of f to on",
                    "0s tim trigger r1 of f to on queue",
                    "10s clock",
                ]
            }
            _ => vec!["0s tim trigger r1 of f to on", "10s clock"],
        };
        let both = ["11s ann approve r1 second", "12s cid approve r1 second"];
        match state {
            _ if state.contains("(1 of 2)") => way.push(both[0]),
            _ if state.contains("AWAITING_WINDOW") || state.contains("BAKING") => way.extend(both),
            "SUCCEEDED" => way.push("12s tim rollout r1 bypassing approval"),
            "ABORTED" => way.push("12s tim abort r1"),
            "FAILED" => way.push("2h clock"),
            _ => {}
        }
        let is_elapsed = state.contains("elapsed");
        if is_elapsed {
            way.push("22s clock");
        }
        if state.starts_with("PAUSED") {
            way.push(if is_elapsed { "23s tim pause r1" } else { "13s tim pause r1" });
        }
        way
    }

    fn play(&mut self, line: &str, below: &[&str]) {
        if let Outcome::Refused(refusal) = self.perform(line, below) {
            panic!("{line}: {refusal}");
        }
    }

    fn perform(&mut self, line: &str, below: &[&str]) -> Outcome {
        match script::line(line, below) {
            Line::Call(at, call) => {
                self.now = at.unwrap_or(self.now);
                let (due, outcome) = self.world.call(call, self.now);
                assert!(due.is_empty(), "{line}: no timer interferes with a table");
                outcome
            }
            Line::Clock(to) => {
                self.world.turn_clock(self.now, to);
                self.now = to;
                Outcome::Nothing
            }
            other @ (Line::Wake { .. } | Line::Fire { .. } | Line::Show(_) | Line::Plan { .. }) => {
                panic!("{line}: not in a table: {other:?}")
            }
        }
    }

    fn release(&self) -> Release {
        let id: ReleaseId = "r1".parse().unwrap();
        Release::clone(self.world.state.release(&id).expect("it was triggered"))
    }
}

fn cell(state: &str, column: &str) -> String {
    let mut scene = Scene::new(state);
    let before = scene.release();
    let outcome = match column {
        "bake end" => fire(&mut scene, TimerKind::Bake),
        "approval expiry" => fire(&mut scene, TimerKind::Expiry),
        "window opens" => fire(&mut scene, TimerKind::Window),
        "guard's pass_timeout (on_fail PAUSE)" => fire(&mut scene, TimerKind::Guard),
        call => scene.perform(call_of(call), &[]),
    };
    match outcome {
        Outcome::Refused(refusal) => format!("✗ {}", code(&refusal)),
        Outcome::Nothing => "-".to_owned(),
        Outcome::Committed(step) => what_became(&before, &scene.release(), &step),
    }
}

fn call_of(column: &str) -> &str {
    match column {
        "ApprovePhase(current) by bob" => "bob approve r1 second",
        "ApprovePhase(other phase)" => "bob approve r1 first",
        "RejectPhase(current)" => "bob reject r1 second",
        "PauseRelease" => "bob pause r1",
        "UnpauseRelease" => "bob unpause r1",
        "AbortRelease" => "bob abort r1",
        "SkipPhase(current)" => "bob skip r1 second",
        "SkipPhase + bypass_approval" => "bob skip r1 second bypassing approval",
        "SkipPhase(other phase)" => "bob skip r1 first",
        "OverrideWindow(current)" => "bob override r1 second",
        "AdjustBake(current, 3 s)" => "bob bake r1 second 3s",
        "AdjustBake(current, 0 s)" => "bob bake r1 second 0s",
        "FullRollout" => "bob rollout r1",
        "+ bypass_approval" => "bob rollout r1 bypassing approval",
        "+ bypass_approval + override_windows" => {
            "bob rollout r1 bypassing approval overriding windows"
        }
        "FAIL, current phase" => "bob report r1 second g FAIL",
        "PASS, current phase" => "bob report r1 second g PASS",
        "FAIL, earlier phase, applied" => "bob report r1 first g FAIL",
        "PASS, earlier phase" => "bob report r1 first g PASS",
        other => panic!("no action: {other}"),
    }
}

/// A timer of this kind at its deadline. If the release has none, every timer that it ever had, and
/// some that it never had, at any time: none of them may do anything.
fn fire(scene: &mut Scene, kind: TimerKind) -> Outcome {
    let release = scene.release();
    let armed = deadline(&release, scene.now);
    if let Some(timer) = armed.filter(|timer| timer.kind == kind) {
        return scene.world.fire(release.id(), timer.at);
    }
    let current = release.progress.timer_generation;
    for generation in (0..current + 3).filter(|one| armed.is_none() || *one != current) {
        for after in [Span::ZERO, Span::from_secs(30), Span::from_secs(86_400 * 30)] {
            let at = scene.now + after;
            let outcome = scene.world.fire_stale(release.id(), generation, at);
            if !matches!(outcome, Outcome::Nothing) {
                return outcome;
            }
        }
    }
    Outcome::Nothing
}

fn what_became(before: &Release, after: &Release, step: &Step) -> String {
    let state = upper(&after.state());
    if let Some(reason) = after.end_reason() {
        return format!("{state} / {}", upper(&reason));
    }
    if after.current() > before.current() {
        return format!("{state} of the next phase");
    }
    if after.state() == ReleaseState::Paused && before.state() != ReleaseState::Paused {
        return format!("PAUSED (held {})", upper(&after.held_state().unwrap()));
    }
    let first = release_events(&step.commit).next().expect("13: an action writes an event");
    if let Happened::ApprovalRecorded { phase, then: None, .. } = &first.happened {
        let of = after.phase(*phase).approval.as_ref().unwrap().min_approvals;
        let given = of - after.approvals_missing(*phase);
        return if given == of { state } else { format!("{state} ({given} of {of})") };
    }
    if let Happened::BakeAdjusted { .. } = &first.happened {
        return match left(after, step.commit.time) {
            Some(left) => format!("{state}, {} s left", left.as_millis() / 1000),
            None => format!("{state} (recorded)"),
        };
    }
    if let Happened::GuardReported { .. } = &first.happened {
        return format!("{state} (recorded)");
    }
    state
}

/// What is left of the bake; none if it is over and the release waits for a guard.
fn left(release: &Release, now: Timestamp) -> Option<Span> {
    match &release.progress.stage {
        Stage::Running { wait: Wait::Bake { ends }, .. } => Some(ends.since(now)),
        Stage::Paused { held: Held::Running { wait, .. }, .. } => match wait {
            HeldWait::Bake { remaining } => Some(*remaining),
            HeldWait::Guards { .. } => Some(Span::ZERO),
            HeldWait::Approval { .. } | HeldWait::Window => None,
        },
        Stage::Running { .. } | Stage::Pending | Stage::Paused { .. } | Stage::Over { .. } => None,
    }
}
