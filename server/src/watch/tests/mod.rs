//! Streams over a log that a test publishes commit by commit, under a clock that it turns.

mod lives;
mod promises;

use super::*;
use crate::store::Order;
use futures_util::task::noop_waker;
use phasegate_engine::{
    Command, apply,
    command::{Action, Call, Caller, ConflictPolicy, Expected, Gate, SwitchTo, Trigger},
    decide,
    event::changes,
    flag::{Rules, Spec},
    id::{FlagId, PhaseId, PipelineId},
    pipeline::{Phase, Template},
    release::ReleaseState,
    time::{Span, Timestamp},
};
use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll},
};
use uuid::Uuid;

const START: Timestamp = Timestamp::from_millis(1_900_000_000_000);

/// One commit: the state after it, and what it did.
#[derive(Clone, Debug)]
struct Committed {
    state: State,
    entries: Vec<Arc<Entry>>,
}

/// A log of which a part is published.
#[derive(Clone, Debug)]
struct FakeLog {
    commits: Arc<Vec<Committed>>,
    shown: Arc<Mutex<Shown>>,
    head: Arc<Level>,
}

#[derive(Debug)]
struct Shown {
    /// The head is the revision of this commit; commits are numbered from 0, and so is the head.
    head: usize,
    /// The state may be one ahead of it.
    state: usize,
    oldest: Revision,
    /// So many halves of commits are published after each call that reads something, as another
    /// thread might.
    haste: u8,
}

impl FakeLog {
    /// A log with all of these, of which the first is published.
    fn new(commits: Vec<Committed>) -> Self {
        let head = Arc::new(Level::new(commits[0].state.revision()));
        let shown = Shown { head: 0, state: 0, oldest: Revision::ZERO, haste: 0 };
        Self { commits: Arc::new(commits), shown: Arc::new(Mutex::new(shown)), head }
    }

    /// Publishes the next commit, in the order in which the writer does: state first.
    fn publish_half(&self) {
        let mut shown = self.shown.lock().unwrap();
        if shown.state == shown.head {
            shown.state = (shown.state + 1).min(self.commits.len() - 1);
        } else {
            shown.head = shown.state;
            self.head.raise(self.commits[shown.head].state.revision());
        }
    }

    fn publish(&self) {
        self.publish_half();
        self.publish_half();
    }

    fn publish_all(&self) {
        for _ in 0..2 * self.commits.len() {
            self.publish_half();
        }
    }

    fn moves_meanwhile(&self) {
        let haste = self.shown.lock().unwrap().haste;
        for _ in 0..haste {
            self.publish_half();
        }
    }

    fn shown_state(&self) -> State {
        self.commits[self.shown.lock().unwrap().state].state.clone()
    }

    /// The state after the commit of this revision.
    fn state_at(&self, revision: Revision) -> &State {
        let commit = self.commits.iter().find(|commit| commit.state.revision() == revision);
        &commit.unwrap().state
    }

    fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.commits.iter().flat_map(|commit| &commit.entries)
    }
}

impl Log for FakeLog {
    fn commits(&self) -> Arc<Level> {
        let head = Arc::clone(&self.head);
        self.moves_meanwhile();
        head
    }

    fn oldest(&self) -> Revision {
        self.shown.lock().unwrap().oldest
    }

    fn store_id(&self) -> StoreId {
        StoreId(Uuid::from_u128(7))
    }

    fn state(&self) -> State {
        let state = self.shown_state();
        self.moves_meanwhile();
        state
    }

    fn last_change(&self, release: &ReleaseId) -> Revision {
        let state = self.shown_state();
        self.moves_meanwhile();
        state.release(release).map_or(Revision::ZERO, |release| release.progress.revision)
    }

    async fn read(&self, query: LogQuery) -> Result<Vec<Arc<Entry>>, LogError> {
        let (newest, oldest) = (self.shown_state().revision(), self.oldest());
        if query.after.next() < oldest {
            return Err(LogError::Compacted { oldest });
        }
        assert_eq!(query.order, Order::OldestFirst);
        assert!(query.up_to <= newest, "{query:?} is beyond {newest}");
        let mut read = Vec::new();
        for commit in self.commits.iter() {
            let revision = commit.state.revision();
            if revision <= query.after || revision > query.up_to {
                continue;
            }
            let wanted = |entry: &&Arc<Entry>| {
                query.release.as_ref().is_none_or(|id| id == entry.change.release.id())
            };
            let wanted: Vec<_> = commit.entries.iter().filter(wanted).cloned().collect();
            if !read.is_empty() && read.len() + wanted.len() > query.limit {
                break;
            }
            read.extend(wanted);
        }
        self.moves_meanwhile();
        Ok(read)
    }
}

/// Everything that the engine makes of these actions; what it refuses is left out.
fn commits(actions: impl IntoIterator<Item = Action>) -> Vec<Committed> {
    let pipeline = PipelineId::parse("p").unwrap();
    let phase = |index: usize| Phase {
        id: phase_id(index),
        rules: Vec::new(),
        bake: Span::DAY,
        approval: None,
        windows: None,
        guards: Vec::new(),
    };
    let template = Arc::new(Template {
        description: "".into(),
        phases: (0..3).map(phase).collect(),
        exempt_environments: Vec::new(),
        trigger_notice: "".into(),
    });
    let mut begin = vec![Action::CreatePipeline { pipeline: pipeline.clone(), template }];
    begin.extend(["f", "g"].map(|id| Action::CreateFlag {
        flag: FlagId::parse(id).unwrap(),
        description: "".into(),
        spec: spec(0),
        pipeline: Some(pipeline.clone()),
        labels: BTreeMap::new(),
    }));
    let mut state = State::default();
    let mut commits = vec![Committed { state: state.clone(), entries: Vec::new() }];
    for (index, action) in begin.into_iter().chain(actions).enumerate() {
        let caller = Caller { principal: Principal::new("ann"), groups: Vec::new() };
        let call = Call { caller, request_id: None, reason: "because".into(), action };
        let now = START + Span::from_secs(u32::try_from(index).unwrap());
        let Ok(Some(commit)) = decide(&state, &Command::Call(call), now) else { continue };
        let before = state.clone();
        apply(&mut state, &commit);
        let entries = changes(&before, &state, &commit);
        let entries = entries.into_iter().map(|change| Arc::new(Entry::new(change))).collect();
        commits.push(Committed { state: state.clone(), entries });
    }
    commits
}

fn spec(rules: usize) -> Arc<Spec> {
    use phasegate_engine::{flag::Rule, id::RuleId, targeting::*};
    let rule = |index: usize| Rule {
        targeting: TargetingRule {
            id: RuleId::parse(&format!("rule-{index}")).unwrap(),
            environments: Vec::new(),
            conditions: Vec::new(),
            share: BasisPoints::ALL,
            bucket_by: TARGETING_KEY.into(),
        },
        value: true,
    };
    Arc::new(Spec::Gate(Rules { rules: (0..rules).map(rule).collect(), default: false }))
}

fn phase_id(index: usize) -> PhaseId {
    PhaseId::parse(&format!("phase-{index}")).unwrap()
}

fn id(text: &str) -> ReleaseId {
    ReleaseId::parse(text).unwrap()
}

fn trigger(flag: &str, release: &str, rules: usize, conflict_policy: ConflictPolicy) -> Action {
    Action::TriggerRelease(Trigger {
        id: id(release),
        flag: FlagId::parse(flag).unwrap(),
        pipeline: None,
        change: spec(rules),
        base: None,
        labels: BTreeMap::new(),
        description: "".into(),
        schedule_time: None,
        conflict_policy,
    })
}

fn pause(release: &str) -> Action {
    Action::PauseRelease { release: id(release) }
}

fn unpause(release: &str) -> Action {
    Action::UnpauseRelease { release: id(release), expected: Expected::Anything }
}

fn abort(release: &str) -> Action {
    Action::AbortRelease { release: id(release) }
}

/// A commit that no release has a part in.
fn switch(flag: &str, switch: SwitchTo) -> Action {
    Action::SetKillSwitch { flag: FlagId::parse(flag).unwrap(), switch }
}

fn watcher() -> Watcher {
    Watcher {
        principal: Principal::new("ann"),
        peer: None,
        resume_after: None,
        store_id: None,
        time_left: None,
    }
}

fn resuming(after: Revision) -> Watcher {
    Watcher { resume_after: Some(after), ..watcher() }
}

/// Polls once, and wakes nobody.
fn poll<T>(stream: &mut Pin<Box<dyn Stream<Item = T> + Send>>) -> Poll<Option<T>> {
    stream.as_mut().poll_next(&mut Context::from_waker(&noop_waker()))
}
