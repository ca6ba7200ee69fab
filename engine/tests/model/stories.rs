//! Stories: a scene, and steps that are likely to lead somewhere from where the model stands. Whatever
//! is left of a story when steps are taken out of it is a story too, so the shortest one that fails can
//! be found.

use crate::{
    model::Model,
    words::{
        Act, Approval, BASE, Base, Call, DAY, Etag, FlagAct, Group, Guard, MINUTE, Ms, Person,
        Phase, PipelineAct, Policy, Spec, Step, Template, Trigger, Verb, Verdict, What, Window,
    },
};
use proptest::{collection::vec, option, prelude::*, sample::select, sample::subsequence};
use proptest_state_machine::ReferenceStateMachine;
use std::{collections::BTreeMap, sync::Arc};

pub(crate) const FLAGS: usize = 2;
pub(crate) const PIPELINES: usize = 2;
pub(crate) const PEOPLE: usize = 4;
pub(crate) const GROUPS: usize = 3;
pub(crate) const GUARDS_MAX: usize = 2;
pub(crate) const PHASES_MAX: usize = 4;
/// So many templates each story has to choose from.
const TEMPLATES: usize = 3;

/// The model, as what the library runs beside the engine.
pub(crate) struct Stories;

impl ReferenceStateMachine for Stories {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        any_scene()
    }

    fn transitions(model: &Model) -> BoxedStrategy<Step> {
        any_step(model)
    }

    fn apply(mut model: Model, step: &Step) -> Model {
        model.step(step);
        model
    }
}

fn any_scene() -> BoxedStrategy<Model> {
    let templates = vec(any_template(), TEMPLATES);
    let attached = vec(option::weighted(0.8, 0..PIPELINES), FLAGS);
    let limit = prop_oneof![2 => Just(None), 1 => Just(Some(20_000)), 1 => Just(Some(60 * MINUTE))];
    (templates, attached, limit, 0..200 * MINUTE)
        .prop_map(|(templates, attached, limit, since)| {
            scene(templates, &attached, limit, BASE + since)
        })
        .boxed()
}

/// Two pipelines of the first two templates, and two flags.
pub(crate) fn scene(
    templates: Vec<Template>,
    attached: &[Option<usize>],
    limit: Option<Ms>,
    now: Ms,
) -> Model {
    let mut model = Model {
        now,
        revision: 0,
        time: 0,
        flags: BTreeMap::new(),
        pipelines: BTreeMap::new(),
        releases: BTreeMap::new(),
        templates: templates.into_iter().map(Arc::new).collect(),
        limit,
        said: crate::model::Said::default(),
        acting: (None, None),
        timer: None,
    };
    for verb in first_verbs(attached) {
        let call = Call { who: Person(0), groups: Vec::new(), verb };
        model.step(&Step { at: now, what: What::Call(call) });
    }
    model
}

/// What makes a scene.
pub(crate) fn first_verbs(attached: &[Option<usize>]) -> Vec<Verb> {
    let create =
        |pipeline| Verb::Pipeline { pipeline, act: PipelineAct::Create { template: pipeline } };
    let flags = attached.iter().enumerate().map(|(flag, pipeline)| {
        let act = FlagAct::Create { pipeline: *pipeline };
        Verb::Flag { flag, act }
    });
    (0..PIPELINES).map(create).chain(flags).collect()
}

fn secs(range: std::ops::Range<Ms>) -> impl Strategy<Value = Ms> {
    range.prop_map(|secs| secs * 1000)
}

fn any_groups() -> impl Strategy<Value = Vec<Group>> {
    subsequence((0..GROUPS).map(Group).collect::<Vec<_>>(), 0..=GROUPS)
}

fn any_guard() -> impl Strategy<Value = Guard> {
    let pass = prop_oneof![
        1 => Just((false, None)),
        2 => option::weighted(0.7, secs(1..40)).prop_map(|timeout| (true, timeout)),
    ];
    (pass, prop::bool::weighted(0.3)).prop_map(|((must_pass, timeout), fails)| Guard {
        must_pass,
        timeout,
        fails,
    })
}

fn any_approval() -> impl Strategy<Value = Approval> {
    let quota = (0..2_usize).prop_map(|group| vec![(Group(group), 1)]);
    let quotas = prop_oneof![3 => Just(Vec::new()), 2 => quota, 1 => Just(vec![(Group(0), 1), (Group(1), 2)])];
    let reviewers = prop_oneof![3 => Just(Vec::new()), 1 => Just(vec![Group(0), Group(1)])];
    let expiry = option::of(secs(5..300));
    (1..3_usize, quotas, reviewers, any::<bool>(), expiry).prop_map(
        |(min, quotas, reviewers, allows_self, expiry)| Approval {
            min,
            quotas,
            reviewers,
            allows_self,
            expiry,
        },
    )
}

fn any_window() -> impl Strategy<Value = Window> {
    let days = select(vec![vec![0, 1, 3], vec![0, 1, 2, 3, 4, 5, 6], vec![1]]);
    let span = (days, 0..240_i64, 1..120_i64)
        .prop_map(|(days, start, length)| (days, start, (start + length) % 1440));
    let overnight = Just((vec![0, 2, 6], 1400, 60));
    let weekly = prop_oneof![6 => span, 1 => overnight];
    let length = prop_oneof![6 => 1..90 * MINUTE, 1 => Just(400 * DAY)];
    let blackout =
        (0..240 * MINUTE, length).prop_map(|(from, length)| (BASE + from, BASE + from + length));
    (vec(weekly, 0..3), vec(blackout, 0..4))
        .prop_map(|(weekly, blackouts)| Window { weekly, blackouts })
}

fn any_phase() -> impl Strategy<Value = Phase> {
    let bake = prop_oneof![1 => Just(0), 4 => secs(1..60)];
    let guards = vec(any_guard(), 0..=GUARDS_MAX);
    let (approval, window) =
        (option::weighted(0.4, any_approval()), option::weighted(0.4, any_window()));
    (prop::bool::weighted(0.2), bake, approval, window, guards).prop_map(
        |(everyone, bake, approval, window, guards)| Phase {
            everyone,
            bake,
            approval,
            window,
            guards,
        },
    )
}

fn any_template() -> impl Strategy<Value = Template> {
    let few = prop_oneof![1 => Just(1), 5 => 2..=PHASES_MAX];
    let phases = few.prop_flat_map(|count| vec(any_phase(), count));
    (phases, any::<bool>())
        .prop_map(|(phases, exempts_staging)| Template { phases, exempts_staging })
}

fn any_step(model: &Model) -> BoxedStrategy<Step> {
    let what = prop_oneof![
        80 => any_call(model).prop_map(What::Call),
        5 => any_fire(model),
        5 => Just(What::Wake),
        10 => Just(What::Walk),
    ];
    (any_time(model), what).prop_map(|(at, what)| Step { at, what }).boxed()
}

/// A time at which something may change, or just before or after it.
fn any_time(model: &Model) -> BoxedStrategy<Ms> {
    let now = model.now;
    let unfinished: Vec<_> = model.releases.values().filter(|r| r.standing.end.is_none()).collect();
    let deadlines = unfinished.iter().filter_map(|release| release.timer(now)).map(|(_, at)| at);
    let windows = unfinished.iter().filter_map(|release| {
        let phase = release.standing.phase.unwrap_or(0);
        release.phase(phase).window.as_ref()
    });
    let edges = windows.flat_map(|window| window.edges(now));
    let mut turns: Vec<Ms> =
        deadlines.chain(edges).filter(|at| *at > now && *at < now + 40 * DAY).collect();
    turns.sort_unstable();
    turns.truncate(8);
    let near = prop_oneof![
        10 => Just(now),
        8 => now..now + 9_000,
        1 => now..now + 200 * MINUTE,
        1 => now..now + 3 * DAY,
        1 => now - 40_000..now,
    ];
    if turns.is_empty() {
        return near.boxed();
    }
    let turn = (select(turns), select(vec![0, -1, 1, 30_000])).prop_map(|(at, by)| at + by);
    prop_oneof![3 => near, 1 => turn].boxed()
}

/// Releases, rather those that are not over.
fn any_release(model: &Model) -> BoxedStrategy<usize> {
    let all: Vec<usize> = model.releases.keys().copied().collect();
    let unfinished: Vec<usize> = (0..FLAGS).flat_map(|flag| model.unfinished(flag)).collect();
    let active: Vec<usize> = (0..FLAGS).filter_map(|flag| model.active(flag)).collect();
    let nobody = Just(0).boxed();
    let of = |ids: Vec<usize>| if ids.is_empty() { nobody.clone() } else { select(ids).boxed() };
    prop_oneof![40 => of(active), 16 => of(unfinished), 6 => of(all), 1 => nobody.clone()].boxed()
}

fn any_fire(model: &Model) -> impl Strategy<Value = What> + use<> {
    let age = prop_oneof![3 => Just(0), 2 => 1..4_i64, 1 => Just(-1)];
    (any_release(model), age).prop_map(|(release, age)| What::Fire { release, age })
}

fn any_call(model: &Model) -> BoxedStrategy<Call> {
    let waiting = (0..FLAGS).map(|flag| model.waiting(flag)).max().unwrap_or(0);
    let unfinished = (0..FLAGS).map(|flag| model.unfinished(flag).len()).sum::<usize>();
    // A queue that grows goes on to grow in some stories, or none would ever be full.
    let triggers = match (unfinished, waiting) {
        (0, _) => 60,
        (_, 0..3) => 12,
        (_, 3..5) => 50,
        _ => 150,
    };
    let verb = prop_oneof![
        triggers => any_trigger(model),
        70 => any_steer(model),
        5 => any_flag_verb(),
        1 => any_pipeline_verb(),
    ];
    ((0..PEOPLE).prop_map(Person), any_groups(), verb)
        .prop_map(|(who, groups, verb)| Call { who, groups, verb })
        .boxed()
}

fn any_spec() -> impl Strategy<Value = Spec> {
    let staging = option::weighted(0.3, 0..2_u8);
    let config = (0..3_u8, staging).prop_map(|(all, staging)| Spec::Config { all, staging });
    prop_oneof![30 => config, 1 => Just(Spec::Gate)]
}

fn any_trigger(model: &Model) -> BoxedStrategy<Verb> {
    let next = model.releases.keys().next_back().map_or(1, |last| last + 1);
    let known = model.releases.keys().next().copied().unwrap_or(next);
    let release = prop_oneof![20 => Just(next), 1 => Just(known)];
    let longest = (0..FLAGS).max_by_key(|flag| model.waiting(*flag)).unwrap_or(0);
    let queues = if model.waiting(longest) > 4 { 40 } else { 6 };
    let flag = prop_oneof![3 => Just(longest), 2 => 0..FLAGS];
    let attached: Vec<Option<usize>> =
        (0..FLAGS).map(|flag| model.flags.get(&flag).and_then(|flag| flag.pipeline)).collect();
    let odd = prop_oneof![12 => Just(None), 1 => option::of(0..PIPELINES + 1).prop_map(Some)];
    let base =
        prop_oneof![4 => Just(Base::Unchecked), 2 => Just(Base::Settled), 1 => Just(Base::Old)];
    let now = model.now;
    let schedule = option::weighted(
        0.4,
        prop_oneof![2 => now - 5_000..now, 1 => Just(now), 6 => now..now + 60_000],
    );
    let policy = prop_oneof![2 => Just(Policy::Fail), queues => Just(Policy::Queue), 1 => Just(Policy::Supersede)];
    (release, flag, odd, any_spec(), base, schedule, policy)
        .prop_map(move |(release, flag, odd, change, base, schedule, policy)| {
            let named = if attached[flag].is_some() { None } else { Some(flag % PIPELINES) };
            // The edge of the server refuses a schedule for one that supersedes.
            let schedule = schedule.filter(|_| policy != Policy::Supersede);
            let pipeline = odd.unwrap_or(named);
            Verb::Trigger(Trigger { release, flag, pipeline, change, base, schedule, policy })
        })
        .boxed()
}

/// The phase that an act is about.
#[derive(Clone, Copy, Debug)]
enum Which {
    Current,
    /// One of those before the current one.
    Earlier(usize),
    /// One that the release may not even have.
    Any(usize),
}

fn any_steer(model: &Model) -> BoxedStrategy<Verb> {
    let known: BTreeMap<usize, (usize, Vec<usize>)> = model
        .releases
        .iter()
        .map(|(id, release)| {
            let guards = release.copy.phases.iter().map(|phase| phase.guards.len()).collect();
            (*id, (release.standing.phase.unwrap_or(1), guards))
        })
        .collect();
    let etag = prop_oneof![
        12 => Just(Etag::None), 3 => Just(Etag::Fresh), 1 => Just(Etag::Stale), 1 => Just(Etag::Foreign),
    ];
    let which = |earlier: u32| {
        prop_oneof![
            15 => Just(Which::Current),
            earlier => (0..PHASES_MAX).prop_map(Which::Earlier),
            1 => (0..=PHASES_MAX).prop_map(Which::Any),
        ]
    };
    // A late report counts, any other call about a phase that was left is refused.
    let wish = prop_oneof![4 => (any_act(), which(2)), 1 => (any_report(), which(20))];
    (any_release(model), etag, wish)
        .prop_map(move |(release, etag, (act, which))| {
            let (current, guards) = known.get(&release).cloned().unwrap_or_default();
            let phase = match which {
                Which::Current => current,
                Which::Earlier(number) => number % current.max(1),
                Which::Any(number) => number,
            };
            let act = at_phase(act, phase, guards.get(phase).copied().unwrap_or(0));
            Verb::Steer { release, etag, act }
        })
        .boxed()
}

/// An act on this phase instead, which has so many guards.
fn at_phase(act: Act, at: usize, guards: usize) -> Act {
    match act {
        Act::Approve { .. } => Act::Approve { phase: at },
        Act::Reject { .. } => Act::Reject { phase: at },
        Act::Skip { bypass, .. } => Act::Skip { phase: at, bypass },
        Act::Override { .. } => Act::Override { phase: at },
        Act::Bake { left, .. } => Act::Bake { phase: at, left },
        Act::Report { guard, verdict, .. } => {
            let guard = if guard > GUARDS_MAX { guard } else { guard % guards.max(1) };
            Act::Report { phase: at, guard, verdict }
        }
        Act::Pause | Act::Unpause | Act::Abort | Act::Rollout { .. } => act,
    }
}

fn any_act() -> impl Strategy<Value = Act> {
    let phase = 0;
    let left = prop_oneof![1 => Just(0), 2 => 1..90_000_i64];
    prop_oneof![
        20 => Just(Act::Approve { phase }),
        2 => Just(Act::Reject { phase }),
        9 => Just(Act::Pause),
        12 => Just(Act::Unpause),
        8 => any::<bool>().prop_map(move |bypass| Act::Skip { phase, bypass }),
        6 => Just(Act::Override { phase }),
        10 => left.prop_map(move |left| Act::Bake { phase, left }),
        2 => Just(Act::Abort),
        4 => any::<(bool, bool)>()
            .prop_map(|(bypass, override_windows)| Act::Rollout { bypass, override_windows }),
    ]
}

fn any_report() -> impl Strategy<Value = Act> {
    let verdict = prop_oneof![2 => Just(Verdict::Pass), 1 => Just(Verdict::Fail)];
    let guard = prop_oneof![12 => 0..GUARDS_MAX, 1 => Just(GUARDS_MAX + 1)];
    (guard, verdict).prop_map(|(guard, verdict)| Act::Report { phase: 0, guard, verdict })
}

fn any_flag_verb() -> impl Strategy<Value = Verb> {
    let pipeline = || option::weighted(0.7, 0..PIPELINES + 1);
    let act = prop_oneof![
        4 => pipeline().prop_map(|pipeline| FlagAct::Create { pipeline }),
        3 => any::<bool>().prop_map(FlagAct::Kill),
        3 => any_spec().prop_map(FlagAct::Edit),
        2 => pipeline().prop_map(|pipeline| FlagAct::Attach { pipeline }),
        1 => Just(FlagAct::Delete),
    ];
    (0..FLAGS, act).prop_map(|(flag, act)| Verb::Flag { flag, act })
}

fn any_pipeline_verb() -> impl Strategy<Value = Verb> {
    let act = prop_oneof![
        2 => (0..TEMPLATES).prop_map(|template| PipelineAct::Create { template }),
        3 => (0..TEMPLATES).prop_map(|template| PipelineAct::Edit { template }),
        1 => Just(PipelineAct::Delete),
    ];
    (0..PIPELINES, act).prop_map(|(pipeline, act)| Verb::Pipeline { pipeline, act })
}
