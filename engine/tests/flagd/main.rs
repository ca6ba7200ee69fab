//! Whoever runs the JsonLogic of a definition gets the evaluator's answer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod golden;
mod jsonlogic;
mod world;

use phasegate_engine::{
    flag::{Flag, Spec},
    flagd::{bytes_max, definition, depends_on_context, metadata, variant},
    id::{EnvironmentId, Revision},
    release::{PhaseIndex, Release, Stage, Wait},
    targeting::{Answer, Bucketing, Context, Exposure, Test, Why, evaluate},
    time::Timestamp,
    value::Value,
};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufWriter, Write},
    sync::Arc,
};
use world::{Dice, ENVIRONMENTS, context, scene};

const BUCKETINGS: [Bucketing; 2] = [Bucketing::V2, Bucketing::V3];

/// Definitions, and contexts of each: so many that every rule of the compiler is met in a thousand
/// ways, and that the test still takes seconds.
const SCENES: u64 = 6_000;
const CONTEXTS: usize = 10;
/// How many are written for other languages: they take seconds each.
const EXPORTED: u64 = 2_500;

/// What the person at the keyboard, or a script, has set.
#[expect(clippy::disallowed_methods, reason = "a test may be told what to do")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn seed() -> u64 {
    setting("SEED").map_or(0, |seed| seed.parse().unwrap())
}

fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Bool(*truth),
        serde_json::Value::Number(number) => Value::Number(number.as_f64().unwrap()),
        serde_json::Value::String(text) => Value::String(text.as_str().into()),
        serde_json::Value::Array(items) => Value::List(items.iter().map(value).collect()),
        serde_json::Value::Object(fields) => Value::Object(
            fields.iter().map(|(key, json)| (key.as_str().into(), value(json))).collect(),
        ),
    }
}

/// What was met, by name.
#[derive(Default)]
struct Reached(BTreeMap<String, usize>);

impl Reached {
    fn note(&mut self, name: impl Into<String>) {
        *self.0.entry(name.into()).or_default() += 1;
    }

    fn answer(&mut self, flag: &Flag, release: Option<&Release>, answer: &Answer) {
        self.note(match &answer.exposed {
            Some(Exposure::Exempt) => "exempt".to_owned(),
            Some(Exposure::Phase(phase)) => format!("covered by {phase}"),
            None if release.is_some_and(Release::is_active) => "not covered".to_owned(),
            None => "no release".to_owned(),
        });
        self.note(match &answer.why {
            Why::Disabled => "killed",
            Why::Default => "default",
            Why::TargetingMatch(_) => "match",
            Why::Split(_) => "split",
        });
        if let (Spec::Gate(rules), None) = (&*flag.spec, release)
            && let [only] = rules.rules.as_slice()
            && only.targeting.id.as_str() == "only"
        {
            let part = match only.targeting.conditions.first().map(|condition| &condition.test) {
                Some(Test::In(_)) => "in",
                Some(Test::NotIn(_)) => "not in",
                Some(Test::StartsWith(_)) => "starts with",
                Some(Test::EndsWith(_)) => "ends with",
                Some(Test::Contains(_)) => "contains",
                Some(Test::Exists) => "exists",
                Some(Test::NotExists) => "not exists",
                Some(Test::Less(_)) => "less",
                Some(Test::GreaterOrEqual(_)) => "greater or equal",
                Some(Test::SemverLess(_)) => "semver less",
                Some(Test::SemverGreaterOrEqual(_)) => "semver greater or equal",
                None => "share",
            };
            self.note(format!("{part}: {}", answer.value == Value::Bool(true)));
        }
    }

    fn check(&self) {
        let mut missing = Vec::new();
        let mut need = |name: String| {
            if self.0.get(&name).is_none_or(|count| *count < 50) {
                missing.push(name);
            }
        };
        for part in [
            "in",
            "not in",
            "starts with",
            "ends with",
            "contains",
            "exists",
            "not exists",
            "less",
            "greater or equal",
            "semver less",
            "semver greater or equal",
            "share",
        ] {
            need(format!("{part}: true"));
            need(format!("{part}: false"));
        }
        for name in [
            "exempt",
            "covered by phase-0",
            "covered by phase-1",
            "covered by phase-2",
            "not covered",
            "no release",
            "killed",
            "default",
            "match",
            "split",
            "targeting",
            "no targeting",
        ] {
            need(name.to_owned());
        }
        assert!(missing.is_empty(), "reached too seldom: {missing:?} of {:?}", self.0);
    }
}

/// What a provider has to give as the reason of an answer of a flag with targeting, if that is certain:
/// that no rule matched. It may also say so of a rule that makes no difference.
fn reason(answer: &Answer) -> Option<&'static str> {
    (answer.why == Why::Default && answer.exposed.is_none()).then_some("DEFAULT")
}

#[test]
fn every_context_gets_the_answer_of_the_evaluator() {
    let engines = BUCKETINGS.map(|bucketing| (bucketing, jsonlogic::engine(bucketing)));
    let mut sessions =
        engines.each_ref().map(|(bucketing, engine)| (*bucketing, engine, engine.session()));
    let mut reached = Reached::default();
    let mut cases = 0;
    for number in 0..SCENES {
        let mut dice = Dice::new(seed() + number);
        let (flag, release) = scene(&mut dice);
        let release = release.as_ref();
        let environment: EnvironmentId = dice.one_of(&ENVIRONMENTS).parse().unwrap();
        let text = definition(&flag, release, &environment);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let targeting = json.get("targeting").map(ToString::to_string);
        let depends = depends_on_context(&flag, release, &environment);
        assert_eq!(targeting.is_some(), depends, "seed {number}: {text}");
        reached.note(if depends { "targeting" } else { "no targeting" });
        let logic = targeting.as_ref().map(|logic| {
            sessions.each_ref().map(|(_, engine, _)| engine.compile(logic.as_str()).unwrap())
        });
        for _ in 0..CONTEXTS {
            let (attributes, written) = context(&mut dice);
            let context = Context { environment: &environment, attributes: &attributes };
            for (index, (bucketing, _, session)) in sessions.iter_mut().enumerate() {
                let answer = evaluate(&flag, release, &context, *bucketing);
                let told = match &logic {
                    None => json["defaultVariant"].as_str().unwrap().to_owned(),
                    Some(logic) => {
                        let told = session.eval_str(&logic[index], written.as_str());
                        let told = told.unwrap_or_else(|error| {
                            panic!("seed {number}: {error:?}\n{text}\n{written}")
                        });
                        session.reset();
                        let told: Option<String> =
                            serde_json::from_str(&told).unwrap_or_else(|error| {
                                panic!("seed {number}: {error}\n{text}\n{written}")
                            });
                        let is_told = told.is_none() || reason(&answer).is_none();
                        assert!(is_told, "seed {number}: {told:?}, {answer:?}\n{text}\n{written}");
                        // To flagd null is the default variant.
                        told.unwrap_or_else(|| json["defaultVariant"].as_str().unwrap().to_owned())
                    }
                };
                assert_eq!(
                    told,
                    variant(&answer, release),
                    "seed {number}, {bucketing:?}: {answer:?}\n{text}\n{written}"
                );
                let named = value(&json["variants"][&told]);
                assert_eq!(named, answer.value, "seed {number}: {text}");
                reached.answer(&flag, release, &answer);
                cases += 1;
            }
        }
    }
    reached.check();
    assert!(cases >= 100_000, "only {cases}");
}

#[test]
fn no_definition_is_larger_than_was_foreseen() {
    let mut sizes = (0, 0);
    for number in 0..SCENES {
        let mut dice = Dice::new(seed() + number);
        let (mut flag, mut release) = scene(&mut dice);
        let whole = |flag: &Flag, release: Option<&Release>, environment: &EnvironmentId| {
            let key = serde_json::to_string(flag.id.as_str()).unwrap();
            format!("{key}:{},", definition(flag, release, environment)).len()
        };
        let most = bytes_max(&flag, release.as_ref().map(|release| &*release.proposal));
        let environments = ENVIRONMENTS.map(|environment| environment.parse().unwrap());
        let mut largest = 0;
        let mut look = |flag: &Flag, release: Option<&Release>| {
            for environment in &environments {
                let bytes = whole(flag, release, environment);
                assert!(bytes <= most, "seed {number}: {bytes} and not {most}");
                largest = largest.max(bytes);
            }
        };
        look(&flag, None);
        if let Some(release) = &mut release {
            let running = Wait::Bake { ends: Timestamp::EPOCH };
            release.progress.stage = Stage::Running { phase: PhaseIndex::FIRST, wait: running };
            for phase in &mut release.progress.phases {
                phase.applied = false;
            }
            look(&flag, Some(release));
            for index in 0..release.progress.phases.len() {
                release.progress.phases[index].applied = true;
                look(&flag, Some(release));
            }
            // The end of a success.
            flag.spec = Arc::clone(&release.proposal.change);
            flag.spec_revision = Revision::LAST;
            look(&flag, None);
        }
        sizes.0 += largest;
        sizes.1 += most;
    }
    let (found, foreseen) = sizes;
    assert!(foreseen < 2 * found, "{foreseen} bytes are far from {found}");
}

#[test]
fn metadata_tells_of_the_release_and_of_the_last_phase_that_was_applied() {
    let mut dice = Dice::new(0);
    let (flag, mut release) = std::iter::repeat_with(|| scene(&mut dice))
        .find_map(|(flag, release)| Some((flag, release?)))
        .unwrap();
    let told = |flag: &Flag, release: &Release| {
        let metadata = metadata(flag, Some(release));
        let text = |key: &str| match metadata.get(key) {
            Some(Value::String(text)) => text.to_string(),
            other => format!("{other:?}"),
        };
        (text("release"), text("phase"), metadata.contains_key("killed"))
    };
    let none = || "None".to_owned();
    let id = release.proposal.id.to_string();
    let killed = flag.kill_switch.is_engaged();
    release.progress.stage =
        Stage::Running { phase: PhaseIndex::FIRST, wait: Wait::Bake { ends: Timestamp::EPOCH } };
    for phase in &mut release.progress.phases {
        phase.applied = false;
    }
    assert_eq!(told(&flag, &release), (id.clone(), none(), killed));
    release.progress.phases.last_mut().unwrap().applied = true;
    let last = release.phases().last().unwrap().id.to_string();
    assert_eq!(told(&flag, &release), (id, last, killed));
    release.progress.stage = Stage::Pending;
    assert_eq!(told(&flag, &release), (none(), none(), killed));
}

/// For `tests/delivery/equality`: a line for each flag, with what is expected of each context.
#[test]
fn cases_are_written_where_other_languages_look_for_them() {
    let Some(path) = setting("PHASEGATE_EQUALITY_CASES") else { return };
    let mut file = BufWriter::new(fs::File::create(path).unwrap());
    for number in 0..EXPORTED {
        // Other scenes than those of the test above.
        let mut dice = Dice::new(seed() + (1 << 32) + number);
        let (flag, release) = scene(&mut dice);
        let release = release.as_ref();
        let environment: EnvironmentId = dice.one_of(&ENVIRONMENTS).parse().unwrap();
        let text = definition(&flag, release, &environment);
        let cases: Vec<_> = (0..CONTEXTS)
            .map(|_| {
                let (attributes, written) = context(&mut dice);
                let context = Context { environment: &environment, attributes: &attributes };
                let [v2, v3] = BUCKETINGS.map(|bucketing| {
                    let answer = evaluate(&flag, release, &context, bucketing);
                    let variant = serde_json::to_string(&variant(&answer, release)).unwrap();
                    (variant, reason(&answer).unwrap_or_default())
                });
                let ((v2, r2), (v3, r3)) = (v2, v3);
                format!(
                    r#"{{"context":{written},"v2":{v2},"v3":{v3},"reason2":"{r2}","reason3":"{r3}"}}"#
                )
            })
            .collect();
        let key = serde_json::to_string(flag.id.as_str()).unwrap();
        writeln!(
            file,
            r#"{{"seed":{number},"key":{key},"config":{{"flags":{{{key}:{text}}}}},"cases":[{}]}}"#,
            cases.join(",")
        )
        .unwrap();
    }
    file.flush().unwrap();
}
