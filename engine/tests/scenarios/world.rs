//! A store in memory, and the order in which a server feeds it.

use crate::invariants;
use phasegate_engine::{
    Command, Refusal, State, apply,
    command::{Call, Fire, Lateness},
    deadline,
    deadline::next_due,
    decide,
    event::Commit,
    id::{FlagId, ReleaseId},
    release::Release,
    time::{Span, Timestamp},
};

/// Monday, 2026-03-02T00:00:00Z.
pub(crate) const BASE: Timestamp = Timestamp::from_millis(1_772_409_600_000);

/// More timers than any line of a story fires.
const FIRES_MAX: usize = 100;

/// A commit, and the states around it.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) before: State,
    pub(crate) commit: Commit,
    pub(crate) after: State,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Refused(Refusal),
    Nothing,
    Committed(Box<Step>),
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) state: State,
}

impl World {
    /// One command. Every commit is held against the invariants.
    pub(crate) fn decide(&mut self, command: &Command, now: Timestamp) -> Outcome {
        match decide(&self.state, command, now) {
            Err(refusal) => Outcome::Refused(refusal),
            Ok(None) => Outcome::Nothing,
            Ok(Some(commit)) => {
                let before = self.state.clone();
                apply(&mut self.state, &commit);
                invariants::check(&before, command, &commit, &self.state, now);
                let after = self.state.clone();
                Outcome::Committed(Box::new(Step { before, commit, after }))
            }
        }
    }

    /// A call after the timers that are due before it.
    pub(crate) fn call(&mut self, call: Call, now: Timestamp) -> (Vec<Step>, Outcome) {
        let release = call.action.release().and_then(|id| self.state.release(id));
        let flag = call.action.flag().or_else(|| release.map(|r| &r.proposal.flag)).cloned();
        let due = flag.map(|flag| self.due_first(&flag, now)).unwrap_or_default();
        (due, self.decide(&Command::Call(call), now))
    }

    /// Commits what is due of a flag, oldest deadline first, all of it now.
    fn due_first(&mut self, flag: &FlagId, now: Timestamp) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some((release, _)) = next_due(&self.state, flag, now) {
            let id = release.id().clone();
            let outcome = self.fire(&id, now);
            push_due(&mut steps, outcome);
        }
        steps
    }

    /// The timer of a release as it is armed.
    pub(crate) fn fire(&mut self, release: &ReleaseId, now: Timestamp) -> Outcome {
        let known = self.state.release(release).expect("a release of the story");
        self.fire_stale(release, known.progress.timer_generation, now)
    }

    pub(crate) fn fire_stale(
        &mut self,
        release: &ReleaseId,
        generation: u64,
        now: Timestamp,
    ) -> Outcome {
        let lateness = Lateness::Accepted;
        let fire = Fire { release: release.clone(), generation, lateness };
        self.decide(&Command::Fire(fire), now)
    }

    /// The release whose timer is due next of all flags, and when it was due.
    fn next_due_anywhere(&self, now: Timestamp) -> Option<(ReleaseId, Timestamp)> {
        let due = self.state.flags().filter_map(|flag| next_due(&self.state, &flag.id, now));
        let first = due.min_by_key(|(release, timer)| (timer.at, release.proposal.created));
        first.map(|(release, timer)| (release.id().clone(), timer.at))
    }

    /// Time goes by: every timer fires at its deadline, also the daily looks.
    pub(crate) fn turn_clock(&mut self, from: Timestamp, to: Timestamp) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut now = from;
        loop {
            while let Some((release, _)) = self.next_due_anywhere(now) {
                let outcome = self.fire(&release, now);
                push_due(&mut steps, outcome);
            }
            let looked_at = self.state.all_unfinished().filter(|release| is_daily(release, now));
            let looked_at: Vec<ReleaseId> = looked_at.map(|release| release.id().clone()).collect();
            for release in looked_at {
                if let Outcome::Committed(step) = self.fire(&release, now) {
                    steps.push(*step);
                }
            }
            let deadlines = self.state.all_unfinished().filter_map(|release| {
                deadline(release, now).map(|timer| timer.at).filter(|at| *at > now && *at <= to)
            });
            match deadlines.min() {
                Some(at) => now = at,
                None => return steps,
            }
        }
    }

    /// What is due fires now, oldest deadline first. What is later than the limit holds its release.
    pub(crate) fn wake(&mut self, now: Timestamp, limit: Option<Span>) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some((release, at)) = self.next_due_anywhere(now) {
            let late = now.since(at);
            let lateness = match limit {
                Some(limit) if late > limit => Lateness::Hold(late),
                Some(_) | None => Lateness::Accepted,
            };
            let known = self.state.release(&release).expect("it is due");
            let generation = known.progress.timer_generation;
            let fire = Fire { release, generation, lateness };
            let outcome = self.decide(&Command::Fire(fire), now);
            push_due(&mut steps, outcome);
        }
        steps
    }
}

/// A timer that is due does something, and comes to rest.
fn push_due(steps: &mut Vec<Step>, outcome: Outcome) {
    match outcome {
        Outcome::Committed(step) => steps.push(*step),
        Outcome::Nothing => panic!("a timer that is due does something"),
        Outcome::Refused(refusal) => panic!("a timer is never refused: {refusal}"),
    }
    assert!(steps.len() < FIRES_MAX, "the timers never come to rest");
}

/// True for a release whose window has no opening in sight, at a time at which it is looked at.
fn is_daily(release: &Release, now: Timestamp) -> bool {
    let just_before = Timestamp::from_millis(now.as_millis() - 1);
    let timer = |at| deadline(release, at).map(|timer| timer.at);
    timer(now) != timer(just_before) && timer(just_before) == Some(now)
}
