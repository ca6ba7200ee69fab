//! Flags, releases and contexts by chance, over an alphabet so small that rules do match.

use phasegate_engine::{
    flag::{Flag, KillSwitch, Rule, Rules, Spec},
    id::{EnvironmentId, Principal, Revision},
    pipeline::{Phase, Pipeline, Template},
    release::{
        EndReason, PhaseIndex, PhaseProgress, PhaseState, Progress, Proposal, Release, Stage, Wait,
    },
    targeting::{BasisPoints, Condition, Number, TARGETING_KEY, TargetingRule, Test},
    time::{Span, Timestamp},
    value::{Object, Value},
};
use proptest::{
    prelude::Rng,
    test_runner::{RngAlgorithm, TestRng},
};
use std::{collections::BTreeMap, sync::Arc};

pub(crate) const ENVIRONMENTS: [&str; 3] = ["dev", "prod", "test"];

/// The last two are no names of attributes, but a store may hold them.
const ATTRIBUTES: [&str; 5] = [TARGETING_KEY, "a", "b", "a.b", "$flagd"];

/// Texts that some language takes for something else.
const TEXTS: &[&str] = &[
    "",
    "a",
    "ab",
    "b",
    "ba",
    " a ",
    "é",
    "0",
    "1",
    "-1",
    "3",
    "3.0",
    "1.5",
    "1e3",
    "0x1",
    "12ab",
    "-",
    "+1",
    "true",
    "false",
    "True",
    "null",
    "None",
    "NaN",
    "Infinity",
    "[object Object]",
    "{}",
    "[]",
    "\"",
    "\\",
    "a\nb",
    "constructor",
    "x",
    "1x",
];

const VERSIONS: &[&str] = &[
    "1.2.3",
    "1.2.0",
    "1.0.0",
    "0.0.0",
    "0.0.0-0",
    "1.2.10",
    "10.2.3",
    "1.2.3-rc.1",
    "1.2.3-rc.2",
    "1.2.0-0",
    "1.2.3-a.b-c",
    "1.2.3+b1",
    "1.2.3+b2",
    "1.2.3-rc.1+b",
    "2.0.0-x.7.z.92",
];

/// What some implementation takes for a version and others do not, or nobody does.
const ALMOST_VERSIONS: &[&str] = &[
    "1",
    "1.2",
    "1.0",
    "0",
    "1.1",
    "v1.2.3",
    "V1.2.3",
    "vv1.2.3",
    "=1.2.3",
    " 1.2.3",
    "1.2.3 ",
    "1.2.3\n",
    "\t1.2.3",
    "01.2.3",
    "1.02.3",
    "1.2.03",
    "1.2.3.4",
    "1.2.3-",
    "1.2.3+",
    "1.2.3-01",
    "1.2.3-a..b",
    "1.2.3-é",
    "1-rc",
    "1.2-rc.1",
    "1-a.b.c",
    "1.2+b",
    "1+b.c.d",
    "1.2-",
    "1.",
    ".1",
    "1..2",
    "1.2.x",
    "v1",
    "v1.2",
    "v 1.2.3",
    "-1.2.3",
    "1 .2.3",
    "1.2.3-rc_1",
];

/// Numbers that all languages read alike.
const NUMBERS: &[f64] = &[
    0.0,
    1.0,
    -1.0,
    2.0,
    3.0,
    1.5,
    -1.5,
    0.1,
    1000.0,
    1e14,
    999_999_999_999_999.0,
    1e15,
    1e16,
    9_007_199_254_740_992.0,
    1e21,
    -1e21,
    1.5e300,
    2.5e-7,
    0.30000000000000004,
];

const LIMITS: &[&str] =
    &["0", "1", "-1", "1.5", "3", "+3.0", "1e3", "1000", "1e21", ".5", "-0", "2.5e-7", "1e15"];

/// Chance from a seed.
pub(crate) struct Dice(TestRng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.0.next_u32() as usize % count
    }

    pub(crate) fn once_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    fn list<T>(
        &mut self,
        least: usize,
        most: usize,
        mut item: impl FnMut(&mut Self, usize) -> T,
    ) -> Vec<T> {
        let count = least + self.below(most + 1 - least);
        (0..count).map(|index| item(self, index)).collect()
    }
}

fn environments(dice: &mut Dice) -> Vec<EnvironmentId> {
    let odds = if dice.once_in(3) { 2 } else { usize::MAX };
    let named = ENVIRONMENTS.iter().filter(|_| dice.once_in(odds));
    named.map(|environment| environment.parse().unwrap()).collect()
}

fn attribute(dice: &mut Dice) -> &'static str {
    if dice.once_in(40) { dice.one_of(&ATTRIBUTES) } else { dice.one_of(&ATTRIBUTES[..3]) }
}

fn values(dice: &mut Dice) -> Vec<Arc<str>> {
    dice.list(1, 4, |dice, _| {
        let texts = if dice.once_in(5) { VERSIONS } else { TEXTS };
        dice.one_of(texts).into()
    })
}

fn condition(dice: &mut Dice) -> Condition {
    let test = match dice.below(11) {
        0 => Test::In(values(dice)),
        1 => Test::NotIn(values(dice)),
        2 => Test::StartsWith(values(dice)),
        3 => Test::EndsWith(values(dice)),
        4 => Test::Contains(values(dice)),
        5 => Test::Exists,
        6 => Test::NotExists,
        7 => Test::Less(Number::parse(dice.one_of(LIMITS)).unwrap()),
        8 => Test::GreaterOrEqual(Number::parse(dice.one_of(LIMITS)).unwrap()),
        9 => Test::SemverLess(dice.one_of(VERSIONS).parse().unwrap()),
        _ => Test::SemverGreaterOrEqual(dice.one_of(VERSIONS).parse().unwrap()),
    };
    Condition { attribute: attribute(dice).into(), test }
}

fn targeting(dice: &mut Dice, id: String) -> TargetingRule {
    let share = match dice.below(8) {
        0 => BasisPoints::NONE,
        1 => BasisPoints::new(1 + dice.below(9_999) as u32).unwrap(),
        2 | 3 => BasisPoints::new(5_000).unwrap(),
        _ => BasisPoints::ALL,
    };
    TargetingRule {
        id: id.parse().unwrap(),
        environments: environments(dice),
        conditions: dice.list(0, 2, |dice, _| condition(dice)),
        share,
        bucket_by: attribute(dice).into(),
    }
}

fn rules<V>(dice: &mut Dice, mut value: impl FnMut(&mut Dice, usize) -> V) -> Rules<V> {
    let default = value(dice, 0);
    let rules = dice.list(0, 3, |dice, index| Rule {
        targeting: targeting(dice, format!("rule-{index}")),
        value: value(dice, index + 1),
    });
    Rules { rules, default }
}

fn config(dice: &mut Dice, place: usize) -> Object {
    let inner = Object::from([("x".into(), Value::Number(dice.one_of(NUMBERS)))]);
    Object::from([
        ("place".into(), Value::Number(place as f64)),
        ("text \"".into(), Value::String(dice.one_of(TEXTS).into())),
        ("list".into(), Value::List(vec![Value::Null, Value::Bool(true), Value::Object(inner)])),
    ])
}

/// One condition, or one share, and nothing else, so that the answer is that of the part.
fn single(dice: &mut Dice) -> TargetingRule {
    let mut rule = targeting(dice, "only".to_owned());
    rule.environments.clear();
    if dice.once_in(5) {
        rule.conditions.clear();
    } else {
        rule.conditions = vec![condition(dice)];
        rule.share = BasisPoints::ALL;
    }
    rule
}

/// Which of the two a flag is.
#[derive(Clone, Copy)]
enum Kind {
    Gate,
    Config,
}

fn spec(dice: &mut Dice, kind: Kind) -> Spec {
    match kind {
        Kind::Gate => Spec::Gate(rules(dice, |dice, _| dice.once_in(2))),
        Kind::Config => Spec::Config(rules(dice, config)),
    }
}

fn flag(dice: &mut Dice, spec: Spec) -> Flag {
    let reason = "".into();
    Flag {
        id: dice.one_of(&["f", "new-checkout", "A.b_C-9"]).parse().unwrap(),
        description: "".into(),
        spec: Arc::new(spec),
        pipeline: None,
        labels: Default::default(),
        kill_switch: if dice.once_in(15) {
            KillSwitch::Engaged { reason }
        } else {
            KillSwitch::Lifted { reason }
        },
        labels_revision: Revision::ZERO,
        spec_revision: Revision::new(dice.below(1_000_000) as u64),
        revision: Revision::ZERO,
        update_time: Timestamp::EPOCH,
    }
}

fn release(dice: &mut Dice, flag: &Flag, change: Spec) -> Release {
    let time = Timestamp::EPOCH;
    let phases = dice.list(1, 3, |dice, index| Phase {
        id: format!("phase-{index}").parse().unwrap(),
        rules: dice.list(0, 2, |dice, index| targeting(dice, format!("rule-{index}"))),
        bake: Span::ZERO,
        approval: None,
        windows: None,
        guards: [].into(),
    });
    let progress = |dice: &mut Dice| PhaseProgress {
        state: PhaseState::Pending,
        applied: !dice.once_in(3),
        bypassed: false,
        enter_time: None,
        apply_time: None,
        end_time: None,
        reviews: [].into(),
        guards: [].into(),
    };
    let stage = match dice.below(12) {
        0 => Stage::Pending,
        1 => Stage::Over { reason: EndReason::AllPhasesDone, time },
        _ => Stage::Running { phase: PhaseIndex::FIRST, wait: Wait::Bake { ends: time } },
    };
    Release {
        progress: Progress {
            stage,
            phases: phases.iter().map(|_| progress(dice)).collect(),
            start_time: None,
            revision: Revision::ZERO,
            update_time: time,
            timer_generation: 0,
        },
        proposal: Arc::new(Proposal {
            id: dice.one_of(&["r", "new-checkout-7"]).parse().unwrap(),
            flag: flag.id.clone(),
            pipeline: Arc::new(Pipeline {
                id: "standard".parse().unwrap(),
                template: Template {
                    description: "".into(),
                    phases,
                    exempt_environments: environments(dice),
                    trigger_notice: "".into(),
                },
                revision: Revision::ZERO,
                update_time: time,
            }),
            change: Arc::new(change),
            base: None,
            labels: BTreeMap::new(),
            description: "".into(),
            schedule_time: None,
            creator: Principal::new("anonymous"),
            created: Revision::ZERO,
            create_time: time,
        }),
    }
}

/// A flag and perhaps a release of it.
pub(crate) fn scene(dice: &mut Dice) -> (Flag, Option<Release>) {
    if dice.once_in(2) {
        let rules = vec![Rule { targeting: single(dice), value: true }];
        let mut flag = flag(dice, Spec::Gate(Rules { rules, default: false }));
        flag.kill_switch = KillSwitch::Lifted { reason: "".into() };
        return (flag, None);
    }
    let kind = dice.one_of(&[Kind::Gate, Kind::Config]);
    let settled = spec(dice, kind);
    let flag = flag(dice, settled);
    let release = (!dice.once_in(4)).then(|| {
        let change = spec(dice, kind);
        release(dice, &flag, change)
    });
    (flag, release)
}

/// A value of an attribute, and how it is written: languages read `3` and `3.0` as two things.
fn attribute_value(dice: &mut Dice, depth: usize) -> (Value, String) {
    let text = |text: &str| (Value::String(text.into()), serde_json::to_string(text).unwrap());
    match dice.below(if depth == 0 { 12 } else { 10 }) {
        0..4 => text(dice.one_of(TEXTS)),
        4 => text(dice.one_of(VERSIONS)),
        5 => {
            if dice.once_in(20) {
                let length = dice.one_of(&[246, 247, 248, 249, 250, 251, 252, 300]);
                return text(&format!("1.2.3-{}", "x".repeat(length - 6)));
            }
            text(dice.one_of(ALMOST_VERSIONS))
        }
        6 | 7 => {
            let number = dice.one_of(NUMBERS);
            let whole = number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0;
            let written = match dice.below(3) {
                0 | 1 if whole => (number as i64).to_string(),
                _ if number == 0.0 && dice.once_in(2) => "-0.0".to_owned(),
                _ => serde_json::to_string(&number).unwrap(),
            };
            (Value::Number(number), written)
        }
        8 => {
            let truth = dice.once_in(2);
            (Value::Bool(truth), truth.to_string())
        }
        9 => (Value::Null, "null".to_owned()),
        10 => {
            let items = dice.list(0, 2, |dice, _| attribute_value(dice, depth + 1));
            let (values, written): (Vec<_>, Vec<_>) = items.into_iter().unzip();
            (Value::List(values), format!("[{}]", written.join(",")))
        }
        _ => {
            let key = dice.one_of(&["a", "length", "0"]);
            let (value, written) = attribute_value(dice, depth + 1);
            match dice.below(2) {
                0 => (Value::Object(Object::new()), "{}".to_owned()),
                _ => {
                    let object = Object::from([(key.into(), value)]);
                    (Value::Object(object), format!("{{{key:?}:{written}}}"))
                }
            }
        }
    }
}

/// A context, and how it is written.
pub(crate) fn context(dice: &mut Dice) -> (Object, String) {
    let mut attributes = Object::new();
    let mut fields = Vec::new();
    for name in ["targetingKey", "a", "b", "c"] {
        if dice.once_in(8) {
            continue;
        }
        let (value, written) = if name == TARGETING_KEY && !dice.once_in(4) {
            let key = format!("user-{}", dice.below(40));
            (Value::String(key.as_str().into()), format!("{key:?}"))
        } else {
            attribute_value(dice, 0)
        };
        attributes.insert(name.into(), value);
        fields.push(format!("{name:?}:{written}"));
    }
    (attributes, format!("{{{}}}", fields.join(",")))
}
