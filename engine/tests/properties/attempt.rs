//! What is tried: random commands, and the flags and pipelines that they are tried on.

use phasegate_engine::{
    command::{ConflictPolicy, Gate},
    decide::PENDING_MAX,
    id::{EnvironmentId, Group, GuardId, PhaseId, RuleId},
    pipeline::{ApprovalRequirement, Guard, OnFail, PassRequirement, Phase, Quota, SelfApproval},
    release::GuardVerdict,
    targeting::{BasisPoints, TARGETING_KEY, TargetingRule},
    time::{Span, Timestamp},
    window::{Blackout, ReleaseWindows, TimeOfDay, Weekly},
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use std::sync::Arc;

/// Monday, 2026-03-02T00:00:00Z.
pub(crate) const BASE: Timestamp = Timestamp::from_millis(1_772_409_600_000);
pub(crate) const FLAGS: [&str; 2] = ["checkout", "search"];
pub(crate) const PIPELINES: [&str; 2] = ["web", "apps"];
pub(crate) const PEOPLE: [&str; 4] = ["ann", "bob", "cid", "dee"];
pub(crate) const GUARDS: [&str; 2] = ["errors", "latency"];

/// One thing that is tried.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// Milliseconds since the last attempt.
    pub(crate) later: i64,
    pub(crate) caller: usize,
    pub(crate) groups: Vec<&'static str>,
    pub(crate) what: What,
}

/// Names are indexes, taken modulo what there is when it is tried.
#[derive(Clone, Debug)]
pub(crate) enum What {
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
pub(crate) enum Base {
    Unchecked,
    Settled,
    Old,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Etag {
    None,
    Fresh,
    Stale,
    Foreign,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Verb {
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
pub(crate) enum FlagVerb {
    Create(Option<usize>),
    Update(u8),
    Attach(Option<usize>),
    Kill,
    Revive,
    Delete,
}

#[derive(Clone, Debug)]
pub(crate) enum PipelineVerb {
    Create(Vec<Phase>),
    Edit(Vec<Phase>),
    Delete,
}

pub(crate) fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
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

pub(crate) fn any_phases() -> BoxedStrategy<Vec<Phase>> {
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

pub(crate) fn any_attempt() -> BoxedStrategy<Attempt> {
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
