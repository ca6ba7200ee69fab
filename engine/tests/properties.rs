//! What holds whatever happens: random commands over a few flags and pipelines, at random times that
//! also step back. Every commit is held against the invariants in `invariants/`; what concerns whole
//! histories is here. `PROPTEST_CASES` sets how many histories are tried.

mod invariants;

use phasegate_engine::{
    Command, Refusal, State, apply,
    command::{
        Action, Call, Caller, ConflictPolicy, Expected, Fire, FlagChange, Gate, Lateness,
        PipelineChange, SwitchTo, Trigger,
    },
    deadline,
    deadline::next_due,
    decide::{PENDING_MAX, decide},
    event::{Commit, changes},
    flag::{Rules, Spec},
    id::{
        EnvironmentId, FlagId, Group, GuardId, PhaseId, PipelineId, Principal, ReleaseId,
        RequestId, Revision, RuleId,
    },
    pipeline::{
        ApprovalRequirement, Guard, OnFail, PassRequirement, Phase, Quota, SelfApproval, Template,
    },
    release::{GuardVerdict, PhaseIndex, Release, Stage, Wait},
    targeting::{BasisPoints, TARGETING_KEY, TargetingRule},
    time::{Span, Timestamp},
    value::{Object, Value},
    window::{Blackout, ReleaseWindows, TimeOfDay, Weekly},
};
use proptest::{
    collection::vec, option, prelude::*, sample::select, strategy::ValueTree,
    test_runner::TestRunner,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Monday, 2026-03-02T00:00:00Z.
const BASE: Timestamp = Timestamp::from_millis(1_772_409_600_000);
const FLAGS: [&str; 2] = ["checkout", "search"];
const PIPELINES: [&str; 2] = ["web", "apps"];
const PEOPLE: [&str; 4] = ["ann", "bob", "cid", "dee"];
const GUARDS: [&str; 2] = ["errors", "latency"];
const STAGING: &str = "staging";
/// No timer of a flag fires so often at one time: a release advances by one bake at most.
const FIRES_MAX: usize = 100;

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

/// One thing that is tried.
#[derive(Clone, Debug)]
struct Attempt {
    /// Milliseconds since the last attempt.
    later: i64,
    caller: usize,
    groups: Vec<&'static str>,
    what: What,
}

/// Names are indexes, taken modulo what there is when it is tried.
#[derive(Clone, Debug)]
enum What {
    Trigger {
        flag: usize,
        pipeline: Option<usize>,
        change: u8,
        base: Base,
        schedule: Option<i64>,
        policy: ConflictPolicy,
        /// How often, one release each.
        times: usize,
    },
    Steer {
        release: usize,
        verb: Verb,
        /// Which phase, if not the current one.
        other_phase: Option<usize>,
        etag: Etag,
    },
    Flag {
        flag: usize,
        verb: FlagVerb,
    },
    Pipeline {
        pipeline: usize,
        verb: PipelineVerb,
    },
    /// A timer, perhaps of another generation than it is armed with.
    Fire {
        release: usize,
        generation: i64,
    },
    /// All timers that are due; those that are later than this hold their releases.
    Wake {
        limit: Option<i64>,
    },
}

#[derive(Clone, Copy, Debug)]
enum Base {
    Unchecked,
    Settled,
    Old,
}

#[derive(Clone, Copy, Debug)]
enum Etag {
    None,
    Fresh,
    Stale,
    Foreign,
}

#[derive(Clone, Copy, Debug)]
enum Verb {
    Approve,
    Reject,
    Pause,
    Unpause,
    Skip(Gate),
    Override,
    Bake(u32),
    Abort,
    Rollout(Gate, Gate),
    Report(usize, GuardVerdict),
}

#[derive(Clone, Debug)]
enum FlagVerb {
    Create(Option<usize>),
    Update(u8),
    Attach(Option<usize>),
    Kill,
    Revive,
    Delete,
}

#[derive(Clone, Debug)]
enum PipelineVerb {
    Create(Vec<Phase>),
    Edit(Vec<Phase>),
    Delete,
}

fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

/// A spec without rules; equal numbers are equal specs.
fn spec(number: u8) -> Arc<Spec> {
    let value = (Arc::from("n"), Value::Number(f64::from(number)));
    Arc::new(Spec::Config(Rules { rules: Vec::new(), default: Object::from([value]) }))
}

fn secs(range: std::ops::Range<u32>) -> impl Strategy<Value = Span> {
    range.prop_map(Span::from_secs)
}

fn any_guard(name: &'static str) -> BoxedStrategy<Guard> {
    let pass = prop_oneof![
        Just(PassRequirement::Optional),
        option::of(secs(1..40)).prop_map(|timeout| PassRequirement::Required { timeout }),
    ];
    let on_fail = prop_oneof![2 => Just(OnFail::Pause), 1 => Just(OnFail::Fail)];
    (pass, on_fail)
        .prop_map(move |(pass, on_fail)| Guard { id: id::<GuardId>(name), pass, on_fail })
        .boxed()
}

fn any_approval() -> BoxedStrategy<ApprovalRequirement> {
    let quotas = vec(select(vec!["dev", "oncall"]), 0..2).prop_map(|groups| {
        let quota = |group| Quota { group: Group::new(group), min_approvals: 1 };
        groups.into_iter().map(quota).collect()
    });
    let reviewers = prop_oneof![
        3 => Just(Vec::new()),
        1 => Just(vec![Group::new("dev"), Group::new("oncall")]),
    ];
    let own = select(vec![SelfApproval::Allowed, SelfApproval::Forbidden]);
    (1..3_u32, quotas, reviewers, own, option::of(secs(1..60)))
        .prop_map(|(min_approvals, quotas, reviewer_groups, self_approval, expiry)| {
            ApprovalRequirement { min_approvals, quotas, reviewer_groups, self_approval, expiry }
        })
        .boxed()
}

fn any_windows() -> BoxedStrategy<ReleaseWindows> {
    let time = |minutes: u32| {
        TimeOfDay::parse(&format!("{:02}:{:02}", minutes / 60, minutes % 60)).unwrap()
    };
    let weekly = (0..240_u32, 1..120_u32).prop_map(move |(start, length)| Weekly {
        days: vec![chrono::Weekday::Mon, chrono::Weekday::Tue, chrono::Weekday::Thu],
        start: time(start),
        end: time((start + length) % 1440),
    });
    let length = prop_oneof![6 => 1..400_i64, 1 => Just(400 * 86_400)];
    let blackout = (0..3600_i64, length).prop_map(|(start, length)| Blackout {
        start: BASE + Span::from_millis(start * 1000),
        end: BASE + Span::from_millis((start + length) * 1000),
        note: Arc::from(""),
    });
    let zone =
        select(vec![chrono_tz::UTC, chrono_tz::Europe::Rome, chrono_tz::Australia::Lord_Howe]);
    (zone, vec(weekly, 0..2), vec(blackout, 0..3))
        .prop_map(|(zone, weekly, blackouts)| ReleaseWindows { zone, weekly, blackouts })
        .boxed()
}

fn any_phase(name: &'static str) -> BoxedStrategy<Phase> {
    let bake = prop_oneof![1 => Just(Span::ZERO), 3 => secs(1..60)];
    let guards = prop_oneof![
        2 => Just(Vec::new()),
        2 => any_guard(GUARDS[0]).prop_map(|guard| vec![guard]),
        1 => (any_guard(GUARDS[0]), any_guard(GUARDS[1])).prop_map(|(a, b)| vec![a, b]),
    ];
    let windows = option::weighted(0.3, any_windows());
    let environments = option::of(Just(id::<EnvironmentId>(name)));
    (bake, option::of(any_approval()), windows, guards, environments)
        .prop_map(move |(bake, approval, windows, guards, environment)| Phase {
            id: id::<PhaseId>(name),
            rules: vec![TargetingRule {
                id: id::<RuleId>("all"),
                environments: environment.into_iter().collect(),
                conditions: Vec::new(),
                share: BasisPoints::ALL,
                bucket_by: Arc::from(TARGETING_KEY),
            }],
            bake,
            approval,
            windows,
            guards,
        })
        .boxed()
}

fn any_phases() -> BoxedStrategy<Vec<Phase>> {
    let all = (any_phase("canary"), any_phase("half"), any_phase("most"), any_phase("full"));
    (all, 1..=4_usize)
        .prop_map(|((a, b, c, d), count)| {
            let mut phases = vec![a, b, c, d];
            phases.truncate(count);
            phases
        })
        .boxed()
}

fn any_verb() -> BoxedStrategy<Verb> {
    let gate = || select(vec![Gate::Respect, Gate::Bypass]);
    let verdict = select(vec![GuardVerdict::Pass, GuardVerdict::Pass, GuardVerdict::Fail]);
    prop_oneof![
        8 => Just(Verb::Approve),
        1 => Just(Verb::Reject),
        4 => Just(Verb::Pause),
        5 => Just(Verb::Unpause),
        3 => gate().prop_map(Verb::Skip),
        3 => Just(Verb::Override),
        3 => prop_oneof![Just(0), 1..90_u32].prop_map(Verb::Bake),
        1 => Just(Verb::Abort),
        1 => (gate(), gate()).prop_map(|(approvals, windows)| Verb::Rollout(approvals, windows)),
        5 => (0..2_usize, verdict).prop_map(|(guard, verdict)| Verb::Report(guard, verdict)),
    ]
    .boxed()
}

fn any_what() -> BoxedStrategy<What> {
    let pipeline = || option::of(0..PIPELINES.len());
    let base =
        prop_oneof![3 => Just(Base::Unchecked), 2 => Just(Base::Settled), 1 => Just(Base::Old)];
    let schedule = option::weighted(0.3, -30..120_i64);
    let policy = prop_oneof![
        1 => Just(ConflictPolicy::Fail),
        3 => Just(ConflictPolicy::Queue),
        1 => Just(ConflictPolicy::Supersede),
    ];
    let times = prop_oneof![15 => Just(1), 1 => Just(PENDING_MAX + 2)];
    let trigger = (0..FLAGS.len(), pipeline(), 0..4_u8, base, schedule, policy, times).prop_map(
        |(flag, pipeline, change, base, schedule, policy, times)| {
            // The edge refuses the two together.
            let schedule = schedule.filter(|_| policy != ConflictPolicy::Supersede);
            What::Trigger { flag, pipeline, change, base, schedule, policy, times }
        },
    );
    let etag = prop_oneof![
        6 => Just(Etag::None), 2 => Just(Etag::Fresh), 1 => Just(Etag::Stale), 1 => Just(Etag::Foreign),
    ];
    let steer = (0..100_usize, any_verb(), option::weighted(0.15, 0..4_usize), etag).prop_map(
        |(release, verb, other_phase, etag)| What::Steer { release, verb, other_phase, etag },
    );
    let flag_verb = prop_oneof![
        2 => pipeline().prop_map(FlagVerb::Create),
        3 => (0..4_u8).prop_map(FlagVerb::Update),
        2 => pipeline().prop_map(FlagVerb::Attach),
        1 => Just(FlagVerb::Kill),
        2 => Just(FlagVerb::Revive),
        1 => Just(FlagVerb::Delete),
    ];
    let pipeline_verb = prop_oneof![
        2 => any_phases().prop_map(PipelineVerb::Create),
        2 => any_phases().prop_map(PipelineVerb::Edit),
        1 => Just(PipelineVerb::Delete),
    ];
    prop_oneof![
        14 => trigger,
        60 => steer,
        6 => (0..FLAGS.len(), flag_verb).prop_map(|(flag, verb)| What::Flag { flag, verb }),
        3 => (0..PIPELINES.len(), pipeline_verb)
            .prop_map(|(pipeline, verb)| What::Pipeline { pipeline, verb }),
        6 => (0..100_usize, -3..2_i64)
            .prop_map(|(release, generation)| What::Fire { release, generation }),
        8 => option::of(0..60_000_i64).prop_map(|limit| What::Wake { limit }),
    ]
    .boxed()
}

fn any_attempt() -> BoxedStrategy<Attempt> {
    let later = prop_oneof![
        12 => Just(0),
        40 => 1..20_000_i64,
        2 => 20_000..7_200_000_i64,
        1 => 7_200_000..200_000_000_i64,
        2 => -40_000..0_i64,
    ];
    let groups = vec(select(vec!["dev", "oncall", "guests"]), 0..3);
    (later, 0..PEOPLE.len(), groups, any_what())
        .prop_map(|(later, caller, groups, what)| Attempt { later, caller, groups, what })
        .boxed()
}

/// A store in memory, with everything that was ever committed.
struct History {
    state: State,
    commits: Vec<Commit>,
    now: Timestamp,
    triggered: usize,
    /// Names of what was seen: events, ends and refusals.
    reached: BTreeSet<(&'static str, String)>,
}

/// Name of a variant.
fn name(variant: &impl std::fmt::Debug) -> String {
    let text = format!("{variant:?}");
    text.chars().take_while(|letter| letter.is_alphanumeric()).collect()
}

impl History {
    fn new(pipelines: [Vec<Phase>; 2], attached: [Option<usize>; 2]) -> Self {
        let mut history = Self {
            state: State::default(),
            commits: Vec::new(),
            now: BASE,
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
        invariants::check(&before, command, &commit, &self.state, self.now);
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

    fn attempt(&mut self, attempt: Attempt) {
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
        self.check_hold_is_harmless();
    }

    fn call(&mut self, principal: &str, groups: &[&str], action: Action) {
        let release = action.release().and_then(|id| self.state.release(id));
        let flag = action.flag().or_else(|| release.map(|release| &release.proposal.flag)).cloned();
        if let Some(flag) = flag {
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

    /// What concerns the history as a whole.
    fn check_whole(mut self) {
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

fn create_pipeline(name: &str, phases: Vec<Phase>) -> Action {
    Action::CreatePipeline {
        pipeline: id(name),
        template: Arc::new(Template {
            description: Arc::from(""),
            phases,
            exempt_environments: vec![id(STAGING)],
            trigger_notice: Arc::from(""),
        }),
    }
}

fn pipeline_action(name: &str, verb: PipelineVerb) -> Action {
    let (pipeline, expected) = (id(name), Expected::Anything);
    match verb {
        PipelineVerb::Create(phases) => create_pipeline(name, phases),
        PipelineVerb::Edit(phases) => {
            let change = PipelineChange { phases: Some(phases), ..PipelineChange::default() };
            Action::UpdatePipeline { pipeline, expected, change }
        }
        PipelineVerb::Delete => Action::DeletePipeline { pipeline, expected },
    }
}

fn flag_action(flag: FlagId, verb: &FlagVerb) -> Action {
    let expected = Expected::Anything;
    let named = |pipeline: &Option<usize>| pipeline.map(|index| id(PIPELINES[index]));
    match verb {
        FlagVerb::Create(pipeline) => Action::CreateFlag {
            flag,
            description: Arc::from(""),
            spec: spec(0),
            pipeline: named(pipeline),
        },
        FlagVerb::Update(number) => {
            let change = FlagChange { spec: Some(spec(*number)), ..FlagChange::default() };
            Action::UpdateFlag { flag, expected, change }
        }
        FlagVerb::Attach(pipeline) => {
            let change = FlagChange { pipeline: Some(named(pipeline)), ..FlagChange::default() };
            Action::UpdateFlag { flag, expected, change }
        }
        FlagVerb::Kill => Action::SetKillSwitch { flag, switch: SwitchTo::Engaged },
        FlagVerb::Revive => Action::SetKillSwitch { flag, switch: SwitchTo::Lifted },
        FlagVerb::Delete => Action::DeleteFlag { flag, expected },
    }
}

fn steer(target: &Release, verb: Verb, other_phase: Option<usize>, etag: Etag) -> Action {
    let release: ReleaseId = target.id().clone();
    let phases = target.phases();
    let current = target.current().map_or(0, PhaseIndex::get);
    let index = other_phase.unwrap_or(current) % phases.len();
    let phase = phases[index].id.clone();
    let expected = match etag {
        Etag::None => Expected::Anything,
        Etag::Fresh => Expected::Revision(target.progress.revision),
        Etag::Stale => Expected::Revision(Revision::new(target.progress.revision.get() - 1)),
        Etag::Foreign => Expected::Unknown,
    };
    match verb {
        Verb::Approve => Action::ApprovePhase { release, expected, phase },
        Verb::Reject => Action::RejectPhase { release, expected, phase },
        Verb::Pause => Action::PauseRelease { release },
        Verb::Unpause => Action::UnpauseRelease { release, expected },
        Verb::Skip(approvals) => Action::SkipPhase { release, expected, phase, approvals },
        Verb::Override => Action::OverrideWindow { release, expected, phase },
        Verb::Bake(left) => {
            Action::AdjustBake { release, expected, phase, remaining: Span::from_secs(left) }
        }
        Verb::Abort => Action::AbortRelease { release },
        Verb::Rollout(approvals, windows) => {
            Action::FullRollout { release, expected, approvals, windows }
        }
        Verb::Report(guard, verdict) => {
            Action::ReportGuardSignal { release, phase, guard: id(GUARDS[guard]), verdict }
        }
    }
}

type Story = ([Vec<Phase>; 2], [Option<usize>; 2], Vec<Attempt>);

fn any_story() -> BoxedStrategy<Story> {
    let attached = || option::of(0..PIPELINES.len());
    ([any_phases(), any_phases()], [attached(), attached()], vec(any_attempt(), 80..140)).boxed()
}

fn play((pipelines, attached, attempts): Story) -> History {
    let mut history = History::new(pipelines, attached);
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
        play(story).check_whole();
    }
}

/// Histories in which little happens would prove little.
#[test]
fn the_histories_reach_every_event_and_every_refusal() {
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeSet::new();
    for _ in 0..HISTORIES_TO_REACH_ALL {
        let story = any_story().new_tree(&mut runner).expect("nothing is filtered").current();
        reached.extend(play(story).reached);
    }
    let all = [("event", &EVENTS[..]), ("end", &ENDS[..]), ("refused", &REFUSALS[..])];
    for (kind, names) in all {
        for name in names {
            assert!(reached.contains(&(kind, (*name).to_owned())), "no history has {kind} {name}");
        }
    }
}
