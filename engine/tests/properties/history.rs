//! A store in memory with everything that was ever committed, and what is held against it.

use crate::{
    action::{create_pipeline, flag_action, pipeline_action, spec, steer},
    attempt::{Attempt, BASE, Base, FLAGS, PEOPLE, PIPELINES, What, id},
    invariants,
};
use phasegate_engine::{
    Among, Command, Refusal, State, apply,
    command::{Action, Call, Caller, Expected, Fire, Lateness, Trigger},
    deadline,
    deadline::next_due,
    decide::decide,
    event::{Commit, changes},
    id::{FlagId, Group, PipelineId, Principal, RequestId, Revision},
    pipeline::Phase,
    release::{Release, ReleaseState, Stage, Wait},
    time::{Span, Timestamp},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// No timer of a flag fires so often at one time: a release advances by one bake at most.
const FIRES_MAX: usize = 100;

/// What the server does about timers that are due before a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timers {
    /// Commits them first.
    First,
    /// Leaves them: it does not trust its clock, or its disk is full. What a release waits for may
    /// then be over already, so the invariants do not hold at every commit.
    Left,
}

/// A store in memory, with everything that was ever committed.
pub(crate) struct History {
    state: State,
    commits: Vec<Commit>,
    now: Timestamp,
    timers: Timers,
    triggered: usize,
    /// Names of what was seen: events, ends and refusals.
    pub(crate) reached: BTreeSet<(&'static str, String)>,
}

/// Name of a variant.
pub(crate) fn name(variant: &impl std::fmt::Debug) -> String {
    let text = format!("{variant:?}");
    text.chars().take_while(|letter| letter.is_alphanumeric()).collect()
}

impl History {
    pub(crate) fn new(
        pipelines: [Vec<Phase>; 2],
        attached: [Option<usize>; 2],
        timers: Timers,
    ) -> Self {
        let mut history = Self {
            state: State::default(),
            commits: Vec::new(),
            now: BASE,
            timers,
            triggered: 0,
            reached: BTreeSet::new(),
        };
        for (name, phases) in PIPELINES.iter().zip(pipelines) {
            let action = create_pipeline(name, phases);
            history.must(action);
        }
        for (name, pipeline) in FLAGS.iter().zip(attached) {
            history.must(Action::CreateFlag {
                flag: id(name),
                description: Arc::from(""),
                spec: spec(0),
                pipeline: pipeline.map(|index| id(PIPELINES[index])),
                labels: Default::default(),
            });
        }
        history
    }

    fn must(&mut self, action: Action) {
        let caller = Caller { principal: Principal::new("admin"), groups: Vec::new() };
        let call = Call { caller, request_id: None, reason: Arc::from(""), action };
        assert!(self.commit(&Command::Call(call)), "the scene is set");
    }

    /// Decides and applies. True if something was committed.
    fn commit(&mut self, command: &Command) -> bool {
        let before = self.state.clone();
        let decided = decide(&self.state, command, self.now);
        assert_eq!(decided, decide(&before, command, self.now), "deciding is a function");
        assert_eq!(before, self.state, "13: deciding changes nothing");
        let commit = match decided {
            Ok(Some(commit)) => commit,
            Ok(None) => return false,
            Err(refusal) => {
                let why = if let Refusal::Release { why, .. } = &refusal {
                    name(why)
                } else {
                    name(&refusal)
                };
                self.reached.insert(("refused", why));
                return false;
            }
        };
        apply(&mut self.state, &commit);
        if self.timers == Timers::First {
            invariants::check(&before, command, &commit, &self.state, self.now);
        }
        for change in changes(&before, &self.state, &commit) {
            assert_eq!(Some(&change.release), self.state.release(change.release.id()));
            assert_eq!(change.before, before.release(change.release.id()).map(|r| r.state()));
            for event in &change.events {
                self.reached.insert(("event", name(&event.happened)));
            }
            self.reached.extend(change.release.end_reason().map(|end| ("end", name(&end))));
        }
        self.commits.push(commit);
        true
    }

    fn fire_due(&mut self, flag: &FlagId, limit: Option<i64>) {
        for _ in 0..FIRES_MAX {
            let Some((release, timer)) = next_due(&self.state, flag, self.now) else { return };
            let late = self.now.since(timer.at);
            let fire = Fire {
                release: release.id().clone(),
                generation: release.progress.timer_generation,
                lateness: match limit {
                    Some(limit) if late > Span::from_millis(limit) => Lateness::Hold(late),
                    Some(_) | None => Lateness::Accepted,
                },
            };
            assert!(self.commit(&Command::Fire(fire)), "a timer that is due does something");
        }
        panic!("the timers of {flag} never come to rest");
    }

    pub(crate) fn attempt(&mut self, attempt: Attempt) {
        self.now = Timestamp::from_millis(self.now.as_millis() + attempt.later);
        match attempt.what.clone() {
            What::Wake { limit } => {
                for name in FLAGS {
                    self.fire_due(&id(name), limit);
                }
            }
            What::Fire { release, generation } => {
                let Some(release) = self.pick(release) else { return };
                let current = release.progress.timer_generation;
                let generation = current.saturating_add_signed(generation);
                let may_act = generation == current
                    && deadline(&release, self.now).is_some_and(|timer| timer.at <= self.now);
                let lateness = Lateness::Accepted;
                let fire = Fire { release: release.id().clone(), generation, lateness };
                let acted = self.commit(&Command::Fire(fire));
                let looks = matches!(
                    release.progress.stage,
                    Stage::Running { wait: Wait::Window { opens: None }, .. }
                );
                assert!(may_act || looks || !acted, "a timer that is not due does nothing");
            }
            What::Trigger { .. }
            | What::Steer { .. }
            | What::Flag { .. }
            | What::Pipeline { .. } => {
                let times = if let What::Trigger { times, .. } = attempt.what { times } else { 1 };
                for _ in 0..times {
                    if let Some(action) = self.action(attempt.what.clone()) {
                        self.call(PEOPLE[attempt.caller], &attempt.groups, action);
                    }
                }
            }
        }
        if self.timers == Timers::First {
            self.check_hold_is_harmless();
        }
    }

    fn call(&mut self, principal: &str, groups: &[&str], action: Action) {
        let release = action.release().and_then(|id| self.state.release(id));
        let flag = action.flag().or_else(|| release.map(|release| &release.proposal.flag)).cloned();
        if let Some(flag) = flag.filter(|_| self.timers == Timers::First) {
            self.fire_due(&flag, None);
        }
        let groups = groups.iter().map(|group| Group::new(*group)).collect();
        let caller = Caller { principal: Principal::new(principal), groups };
        let (request_id, reason) = (Some(RequestId::new("q")), Arc::from("why not"));
        self.commit(&Command::Call(Call { caller, request_id, reason, action }));
    }

    /// A release, rather one that is not over.
    fn pick(&self, index: usize) -> Option<Arc<Release>> {
        let unfinished: Vec<_> = self.state.all_unfinished().map(Arc::clone).collect();
        let all: Vec<_> = self.state.releases().map(Arc::clone).collect();
        let from = if unfinished.is_empty() || index % 10 == 9 { all } else { unfinished };
        (!from.is_empty()).then(|| Arc::clone(&from[index % from.len()]))
    }

    fn action(&mut self, what: What) -> Option<Action> {
        match what {
            What::Trigger { flag, pipeline, change, base, schedule, policy, times: _ } => {
                let flag: FlagId = id(FLAGS[flag]);
                self.triggered += 1;
                let known = self.state.flag(&flag);
                let settled = known.map_or(Revision::ZERO, |flag| flag.spec_revision);
                let attached = known.and_then(|flag| flag.pipeline.clone());
                let named = pipeline.map(|index| id::<PipelineId>(PIPELINES[index]));
                Some(Action::TriggerRelease(Trigger {
                    id: id(&format!("r{}", self.triggered)),
                    // Mostly one that is accepted.
                    pipeline: named
                        .filter(|_| attached.is_none() || self.triggered.is_multiple_of(5)),
                    flag,
                    change: spec(change),
                    base: match base {
                        Base::Unchecked => None,
                        Base::Settled => Some(settled),
                        Base::Old => Some(Revision::new(settled.get().saturating_sub(1))),
                    },
                    labels: BTreeMap::new(),
                    description: Arc::from("a change"),
                    schedule_time: schedule
                        .map(|secs| Timestamp::from_millis(self.now.as_millis() + secs * 1000)),
                    conflict_policy: policy,
                }))
            }
            What::Steer { release, verb, other_phase, etag } => {
                let release = self.pick(release)?;
                Some(steer(&release, verb, other_phase, etag))
            }
            What::Flag { flag, verb } => Some(flag_action(id(FLAGS[flag]), &verb)),
            What::Pipeline { pipeline, verb } => Some(pipeline_action(PIPELINES[pipeline], verb)),
            What::Fire { .. } | What::Wake { .. } => None,
        }
    }

    /// Invariant 10: pause followed at once by unpause changes nothing but the guard wait, FAIL
    /// verdicts, and windows that are looked at anew.
    fn check_hold_is_harmless(&self) {
        for release in self.state.all_unfinished() {
            let due = deadline(release, self.now).is_some_and(|timer| timer.at <= self.now);
            if due || matches!(release.progress.stage, Stage::Paused { .. }) {
                continue;
            }
            let mut state = self.state.clone();
            for action in [
                Action::PauseRelease { release: release.id().clone() },
                Action::UnpauseRelease {
                    release: release.id().clone(),
                    expected: Expected::Anything,
                },
            ] {
                let caller = Caller { principal: Principal::new("eve"), groups: Vec::new() };
                let call = Call { caller, request_id: None, reason: Arc::from(""), action };
                let decided = decide(&state, &Command::Call(call), self.now);
                apply(&mut state, &decided.expect("accepted").expect("it changes something"));
            }
            let after = state.release(release.id()).expect("it was there");
            let mut expected = Release::clone(release);
            let progress = &mut expected.progress;
            progress.revision = after.progress.revision;
            progress.update_time = after.progress.update_time;
            progress.timer_generation = after.progress.timer_generation;
            match &mut progress.stage {
                Stage::Running { phase, wait: Wait::Window { opens } } => {
                    let windows = release.phase(*phase).windows.as_ref().expect("it waits for it");
                    if windows.is_open(self.now) {
                        // A window may be found open early if the clock stepped back.
                        continue;
                    }
                    *opens = windows.next_open(self.now);
                }
                Stage::Running { wait: Wait::Guards { since, .. }, .. } => *since = self.now,
                Stage::Running { wait: Wait::Approval { .. } | Wait::Bake { .. }, .. }
                | Stage::Pending
                | Stage::Paused { .. }
                | Stage::Over { .. } => {}
            }
            assert_eq!(**after, expected, "10: a hold leaves traces");
        }
    }

    /// What a state answers by its indexes is what a look at everything answers.
    fn check_questions(&self) {
        let state = &self.state;
        let mut all: Vec<&Arc<Release>> = state.releases().collect();
        all.sort_by_key(|release| release.proposal.created);
        let flags: Vec<FlagId> = FLAGS.into_iter().map(id).collect();
        // One of them twice, as a caller may write it.
        let some: Vec<FlagId> = flags.iter().skip(1).chain(flags.last()).cloned().collect();
        for among in [
            Among::All,
            Among::Unfinished,
            Among::OfFlags(&some),
            Among::OfFlags(&[]),
            Among::UnfinishedOf(&some),
        ] {
            let is_meant = |release: &&Arc<Release>| match among {
                Among::All => true,
                Among::Unfinished => !release.is_over(),
                Among::OfFlags(flags) => flags.contains(&release.proposal.flag),
                Among::UnfinishedOf(flags) => {
                    !release.is_over() && flags.contains(&release.proposal.flag)
                }
            };
            let newest_first = all.iter().rev().copied().filter(is_meant);
            assert!(state.releases_before(among, None).eq(newest_first), "newest first");
            for (index, release) in all.iter().enumerate() {
                let older = state.releases_before(among, Some(release.proposal.created));
                let expected = all[..index].iter().rev().copied().filter(is_meant);
                assert!(older.eq(expected), "a page goes on where it ended");
            }
        }
        for release in &all {
            let alike = all.iter().filter(|other| other.state() == release.state());
            assert_eq!(state.count(release.state()), alike.count());
        }
        let over: usize = ReleaseState::FINAL.into_iter().map(|over| state.count(over)).sum();
        assert_eq!(over, all.iter().filter(|release| release.is_over()).count());
        let unfinished: Vec<_> = all.iter().copied().filter(|r| !r.is_over()).collect();
        for name in FLAGS {
            let flag: FlagId = id(name);
            let of_flag = || unfinished.iter().copied().filter(|r| r.proposal.flag == flag);
            assert!(state.unfinished(&flag).eq(of_flag()), "oldest first");
            assert_eq!(state.active_release(&flag), of_flag().find(|r| r.is_active()));
        }
        for name in PIPELINES {
            let pipeline: PipelineId = id(name);
            let along = unfinished.iter().any(|r| r.proposal.pipeline.id == pipeline);
            assert_eq!(state.release_along(&pipeline).is_some(), along);
            let attached = state.flags().any(|flag| flag.pipeline.as_ref() == Some(&pipeline));
            assert_eq!(state.flag_attached_to(&pipeline).is_some(), attached);
        }
    }

    /// What concerns the history as a whole.
    pub(crate) fn check_whole(mut self) {
        let mut replayed = State::default();
        for commit in &self.commits {
            apply(&mut replayed, commit);
        }
        assert_eq!(replayed, self.state, "a state is the fold of its commits");
        let restored = State::restore(
            self.state.revision(),
            self.state.time(),
            self.state.flags().map(Arc::clone),
            self.state.pipelines().map(Arc::clone),
            self.state.releases().map(Arc::clone),
        );
        assert_eq!(restored, self.state, "a state is its parts");
        self.check_questions();
        for name in FLAGS {
            self.fire_due(&id(name), None);
        }
        let unfinished: Vec<_> = self.state.all_unfinished().map(Arc::clone).collect();
        for release in unfinished {
            let timer = deadline(&release, self.now);
            let waits_its_turn = matches!(release.progress.stage, Stage::Pending);
            assert!(timer.is_none_or(|timer| timer.at > self.now || waits_its_turn), "{timer:?}");
        }
        // Invariant 11: there is always a way out.
        let unfinished: Vec<_> = self.state.all_unfinished().map(|r| r.id().clone()).collect();
        for release in unfinished {
            // It may have come to its own end when an earlier one made room for it.
            if self.state.release(&release).is_some_and(|release| release.is_over()) {
                continue;
            }
            let action = Action::AbortRelease { release: release.clone() };
            self.call("admin", &[], action);
            let over = self.state.release(&release).is_some_and(|release| release.is_over());
            assert!(over, "11: {release} does not end");
        }
    }
}
