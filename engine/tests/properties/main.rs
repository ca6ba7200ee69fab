//! What holds whatever happens: random commands over a few flags and pipelines, at random times that
//! also step back. Every commit is held against the invariants in `invariants/`; what concerns whole
//! histories is in `history.rs`. `PROPTEST_CASES` sets how many histories are tried.

mod action;
mod attempt;
mod history;
#[path = "../invariants/mod.rs"]
mod invariants;

use attempt::{Attempt, PIPELINES, any_attempt, any_phases};
use history::{History, Timers};
use phasegate_engine::pipeline::Phase;
use proptest::{collection::vec, option, prelude::*, strategy::ValueTree, test_runner::TestRunner};
use std::collections::BTreeSet;

/// So many histories are played to see that they reach everything there is to reach.
const HISTORIES_TO_REACH_ALL: usize = 100;
const EVENTS: [&str; 19] = [
    "Triggered",
    "Started",
    "PhaseEntered",
    "ApprovalRecorded",
    "ApprovalRejected",
    "WindowOpened",
    "WindowRescheduled",
    "WindowOverridden",
    "PhaseApplied",
    "BakeElapsed",
    "BakeAdjusted",
    "GuardReported",
    "PhaseSucceeded",
    "PhaseSkipped",
    "Paused",
    "Unpaused",
    "Succeeded",
    "Aborted",
    "Failed",
];
const ENDS: [&str; 8] = [
    "AllPhasesDone",
    "FullRollout",
    "AbortRequested",
    "ApprovalRejected",
    "Superseded",
    "ApprovalExpired",
    "GuardFailed",
    "BaseChanged",
];
/// All but INVALID_FIELD: the specs here are of one kind.
const REFUSALS: [&str; 24] = [
    "NotFound",
    "Exists",
    "StaleEtag",
    "InUse",
    "FlagLocked",
    "PipelineRequired",
    "ActiveReleaseExists",
    "QueueFull",
    "BaseChanged",
    "NoChange",
    "Over",
    "NotStarted",
    "Paused",
    "AlreadyPaused",
    "NotPaused",
    "PhaseNotCurrent",
    "PhaseNotAwaitingApproval",
    "PhaseNotAwaitingWindow",
    "PhaseNotBaking",
    "NotAnApprover",
    "SelfApproval",
    "AlreadyReviewed",
    "ApprovalPending",
    "WindowClosed",
];

type Story = ([Vec<Phase>; 2], [Option<usize>; 2], Vec<Attempt>);

fn any_story() -> BoxedStrategy<Story> {
    let attached = || option::of(0..PIPELINES.len());
    ([any_phases(), any_phases()], [attached(), attached()], vec(any_attempt(), 80..140)).boxed()
}

fn play((pipelines, attached, attempts): Story, timers: Timers) -> History {
    let mut history = History::new(pipelines, attached, timers);
    for attempt in attempts {
        history.attempt(attempt);
    }
    history
}

proptest! {
    // A failing history is worth a story in scenarios/, not a seed in a file.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_promise_holds(story in any_story()) {
        play(story, Timers::First).check_whole();
    }

    #[test]
    fn a_server_that_cannot_fire_its_timers_can_still_be_told_what_to_do(story in any_story()) {
        play(story, Timers::Left).check_whole();
    }
}

/// Histories in which little happens would prove little.
#[test]
fn the_histories_reach_every_event_and_every_refusal() {
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeSet::new();
    for _ in 0..HISTORIES_TO_REACH_ALL {
        let story = any_story().new_tree(&mut runner).expect("nothing is filtered").current();
        reached.extend(play(story, Timers::First).reached);
    }
    let all = [("event", &EVENTS[..]), ("end", &ENDS[..]), ("refused", &REFUSALS[..])];
    for (kind, names) in all {
        for name in names {
            assert!(reached.contains(&(kind, (*name).to_owned())), "no history has {kind} {name}");
        }
    }
}
