//! Runs the files of `evaluation/`, see the README there, and checks what no list of cases can.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "evaluation/explanation.rs"]
mod explanation;

use phasegate_engine::{
    flag::{Flag, KillSwitch, Rule, Rules, Spec},
    id::{EnvironmentId, Principal, Revision},
    pipeline::{Phase, Pipeline, Template},
    release::{
        EndReason, Held, HeldWait, PauseCause, PauseRecord, PhaseIndex, PhaseProgress, PhaseState,
        Progress, Proposal, Release, Stage, Wait,
    },
    targeting::{
        Answer, BasisPoints, Bucketing, Condition, Context, Exposure, Number, Salt, TARGETING_KEY,
        TOTAL, TargetingRule, Test, Why, bucket, evaluate, hash, share_of,
    },
    time::{Span, Timestamp},
    value::{Object, Value},
};
use proptest::prelude::*;
use serde::Deserialize;
use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

/// The files' form of what they hold: protobuf's JSON, as far as it matters to an answer.
mod file {
    use serde::Deserialize;
    use serde_json::{Map, Value};

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct File {
        pub(super) about: String,
        pub(super) bucketing: Option<Bucketing>,
        pub(super) flag: Flag,
        pub(super) release: Option<Release>,
        pub(super) cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Case {
        pub(super) name: String,
        pub(super) request: Request,
        pub(super) response: Response,
    }

    #[derive(Clone, Copy, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub(super) enum Bucketing {
        V2,
        V3,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Request {
        pub(super) flag: String,
        pub(super) environment: String,
        #[serde(default)]
        pub(super) context: Map<String, Value>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "camelCase", default)]
    pub(super) struct Response {
        pub(super) value: Value,
        pub(super) variant: String,
        pub(super) reason: String,
        pub(super) release: String,
        pub(super) exposed: bool,
        pub(super) phase_id: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub(super) struct Flag {
        pub(super) name: String,
        #[serde(default)]
        pub(super) killed: bool,
        pub(super) feature_gate: Option<Spec>,
        pub(super) dynamic_config: Option<Spec>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub(super) struct Release {
        pub(super) name: String,
        pub(super) flag: String,
        pub(super) pipeline_snapshot: Pipeline,
        pub(super) feature_gate: Option<Spec>,
        pub(super) dynamic_config: Option<Spec>,
        pub(super) state: String,
        pub(super) phases: Vec<PhaseStatus>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub(super) struct Pipeline {
        pub(super) phases: Vec<Phase>,
        #[serde(default)]
        pub(super) exempt_environments: Vec<String>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Phase {
        pub(super) id: String,
        pub(super) rules: Vec<TargetingRule>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub(super) struct PhaseStatus {
        pub(super) phase_id: String,
        #[serde(default)]
        pub(super) applied: bool,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub(super) struct Spec {
        #[serde(default)]
        pub(super) rules: Vec<Rule>,
        pub(super) default_value: Option<Value>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Rule {
        pub(super) targeting: TargetingRule,
        pub(super) value: Option<Value>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    pub(super) struct TargetingRule {
        pub(super) id: String,
        #[serde(default)]
        pub(super) environments: Vec<String>,
        #[serde(default)]
        pub(super) conditions: Vec<Condition>,
        pub(super) rollout_basis_points: Option<u32>,
        pub(super) bucket_by: Option<String>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Condition {
        pub(super) attribute: String,
        pub(super) operator: String,
        #[serde(default)]
        pub(super) values: Vec<String>,
    }
}

impl From<file::Bucketing> for Bucketing {
    fn from(bucketing: file::Bucketing) -> Self {
        match bucketing {
            file::Bucketing::V2 => Self::V2,
            file::Bucketing::V3 => Self::V3,
        }
    }
}

impl From<file::Flag> for Flag {
    fn from(flag: file::Flag) -> Self {
        let reason = "".into();
        Self {
            id: flag.name.strip_prefix("flags/").unwrap().parse().unwrap(),
            description: "".into(),
            spec: Arc::new(spec(flag.feature_gate, flag.dynamic_config)),
            pipeline: None,
            labels: Default::default(),
            kill_switch: if flag.killed {
                KillSwitch::Engaged { reason }
            } else {
                KillSwitch::Lifted { reason }
            },
            labels_revision: Revision::ZERO,
            spec_revision: Revision::ZERO,
            revision: Revision::ZERO,
            update_time: Timestamp::EPOCH,
        }
    }
}

impl From<file::Release> for Release {
    fn from(release: file::Release) -> Self {
        let time = Timestamp::EPOCH;
        let phase = PhaseIndex::FIRST;
        let in_order = release.phases.iter().map(|status| &status.phase_id);
        assert!(in_order.eq(release.pipeline_snapshot.phases.iter().map(|phase| &phase.id)));
        let stage = match release.state.strip_prefix("RELEASE_STATE_").unwrap() {
            "PENDING" => Stage::Pending,
            "AWAITING_APPROVAL" => Stage::Running { phase, wait: Wait::Approval { expires: None } },
            "BAKING" => Stage::Running { phase, wait: Wait::Bake { ends: time } },
            "PAUSED" => Stage::Paused {
                held: Held::Running { phase, wait: HeldWait::Bake { remaining: Span::ZERO } },
                by: Box::new(PauseRecord {
                    revision: Revision::ZERO,
                    ordinal: 0,
                    time,
                    actor: phasegate_engine::event::Actor::Engine,
                    reason: "".into(),
                    request_id: None,
                    cause: PauseCause::Requested,
                    phase: Some(phase),
                }),
            },
            "SUCCEEDED" => Stage::Over { reason: EndReason::AllPhasesDone, time },
            other => panic!("no file needs {other}"),
        };
        let progress = |status: &file::PhaseStatus| PhaseProgress {
            state: PhaseState::Pending,
            applied: status.applied,
            bypassed: false,
            enter_time: None,
            apply_time: None,
            end_time: None,
            reviews: [].into(),
            guards: [].into(),
        };
        Self {
            progress: Progress {
                stage,
                phases: release.phases.iter().map(progress).collect(),
                start_time: None,
                revision: Revision::ZERO,
                update_time: time,
                timer_generation: 0,
            },
            proposal: Arc::new(Proposal {
                id: release.name.strip_prefix("releases/").unwrap().parse().unwrap(),
                flag: release.flag.strip_prefix("flags/").unwrap().parse().unwrap(),
                pipeline: Arc::new(release.pipeline_snapshot.into()),
                change: Arc::new(spec(release.feature_gate, release.dynamic_config)),
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
}

impl From<file::Pipeline> for Pipeline {
    fn from(pipeline: file::Pipeline) -> Self {
        let phase = |phase: file::Phase| Phase {
            id: phase.id.parse().unwrap(),
            rules: phase.rules.into_iter().map(TargetingRule::from).collect(),
            bake: Span::ZERO,
            approval: None,
            windows: None,
            guards: [].into(),
        };
        Self {
            id: "standard".parse().unwrap(),
            template: Template {
                description: "".into(),
                phases: pipeline.phases.into_iter().map(phase).collect(),
                exempt_environments: environments(&pipeline.exempt_environments),
                trigger_notice: "".into(),
            },
            revision: Revision::ZERO,
            update_time: Timestamp::EPOCH,
        }
    }
}

impl From<file::TargetingRule> for TargetingRule {
    fn from(rule: file::TargetingRule) -> Self {
        let share = rule.rollout_basis_points;
        Self {
            id: rule.id.parse().unwrap(),
            environments: environments(&rule.environments),
            conditions: rule.conditions.into_iter().map(Condition::from).collect(),
            share: share.map_or(BasisPoints::ALL, |points| BasisPoints::new(points).unwrap()),
            bucket_by: rule.bucket_by.as_deref().unwrap_or(TARGETING_KEY).into(),
        }
    }
}

impl From<file::Condition> for Condition {
    fn from(condition: file::Condition) -> Self {
        let values: Vec<Arc<str>> = condition.values.into_iter().map(Arc::from).collect();
        let number = || Number::parse(&values[0]).unwrap();
        let version = || semver::Version::parse(&values[0]).unwrap();
        let test = match condition.operator.strip_prefix("CONDITION_OPERATOR_").unwrap() {
            "IN" => Test::In(values),
            "NOT_IN" => Test::NotIn(values),
            "STARTS_WITH" => Test::StartsWith(values),
            "ENDS_WITH" => Test::EndsWith(values),
            "CONTAINS" => Test::Contains(values),
            "EXISTS" => Test::Exists,
            "NOT_EXISTS" => Test::NotExists,
            "LESS" => Test::Less(number()),
            "GREATER_OR_EQUAL" => Test::GreaterOrEqual(number()),
            "SEMVER_LESS" => Test::SemverLess(version()),
            "SEMVER_GREATER_OR_EQUAL" => Test::SemverGreaterOrEqual(version()),
            other => panic!("no operator {other}"),
        };
        Self { attribute: condition.attribute.into(), test }
    }
}

fn spec(gate: Option<file::Spec>, config: Option<file::Spec>) -> Spec {
    fn rules<V>(spec: file::Spec, read: fn(Option<&serde_json::Value>) -> V) -> Rules<V> {
        let default = read(spec.default_value.as_ref());
        let rule = |rule: file::Rule| Rule {
            targeting: rule.targeting.into(),
            value: read(rule.value.as_ref()),
        };
        Rules { rules: spec.rules.into_iter().map(rule).collect(), default }
    }
    match (gate, config) {
        (Some(gate), None) => {
            Spec::Gate(rules(gate, |value| value.is_some_and(|value| value.as_bool().unwrap())))
        }
        (None, Some(config)) => {
            Spec::Config(rules(config, |value| object(value.unwrap().as_object().unwrap())))
        }
        (Some(_), Some(_)) | (None, None) => panic!("a spec is one of the two"),
    }
}

fn environments(ids: &[String]) -> Vec<EnvironmentId> {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

fn object(json: &serde_json::Map<String, serde_json::Value>) -> Object {
    json.iter().map(|(key, json)| (key.as_str().into(), value(json))).collect()
}

fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Bool(*truth),
        serde_json::Value::Number(number) => Value::Number(number.as_f64().unwrap()),
        serde_json::Value::String(text) => Value::String(text.as_str().into()),
        serde_json::Value::Array(items) => Value::List(items.iter().map(value).collect()),
        serde_json::Value::Object(fields) => Value::Object(object(fields)),
    }
}

fn check_answer(name: &str, answer: &Answer, active: Option<&Release>, response: &file::Response) {
    let (reason, variant) = match &answer.why {
        Why::Disabled => ("DISABLED", ""),
        Why::Default => ("DEFAULT", ""),
        Why::TargetingMatch(rule) => ("TARGETING_MATCH", rule.as_str()),
        Why::Split(rule) => ("SPLIT", rule.as_str()),
    };
    let phase_id = match &answer.exposed {
        Some(Exposure::Phase(phase)) => phase.as_str(),
        Some(Exposure::Exempt) | None => "",
    };
    assert_eq!(answer.value, value(&response.value), "{name}");
    assert_eq!(format!("EVALUATION_REASON_{reason}"), response.reason, "{name}");
    assert_eq!(variant, response.variant, "{name}");
    assert_eq!(answer.exposed.is_some(), response.exposed, "{name}");
    assert_eq!(phase_id, response.phase_id, "{name}");
    let release = active.filter(|release| release.is_active());
    let release = release.map_or(String::new(), |release| format!("releases/{}", release.id()));
    assert_eq!(release, response.release, "{name}");
}

/// Every file but that of the buckets, by name.
fn files() -> Vec<(String, file::File)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/evaluation");
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_some_and(|extension| extension == "json") && name != "buckets" {
            let text = fs::read_to_string(&path).unwrap();
            let file =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            files.push((name, file));
        }
    }
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    files
}

#[test]
fn every_file_has_its_answers() {
    let mut cases = 0;
    for (file_name, file) in files() {
        assert!(!file.about.is_empty() && !file.cases.is_empty(), "{file_name}");
        let bucketing = file.bucketing.map_or_else(Bucketing::default, Bucketing::from);
        let flag_name = file.flag.name.clone();
        let flag = Flag::from(file.flag);
        let release = file.release.map(Release::from);
        for case in file.cases {
            let name = format!("{file_name}: {}", case.name);
            assert_eq!(case.request.flag, flag_name, "{name}");
            let environment = case.request.environment.parse().unwrap();
            let attributes = object(&case.request.context);
            let context = Context { environment: &environment, attributes: &attributes };
            let answer = evaluate(&flag, release.as_ref(), &context, bucketing);
            check_answer(&name, &answer, release.as_ref(), &case.response);
            explanation::check_explanation(&name, &flag, release.as_ref(), &context, bucketing);
            cases += 1;
        }
    }
    assert!(cases > 200, "only {cases} cases were found");
}

#[test]
fn every_operator_has_a_file() {
    // A new operator does not compile until it is here.
    let name = |test: &Test| match test {
        Test::In(_) => "in",
        Test::NotIn(_) => "not_in",
        Test::StartsWith(_) => "starts_with",
        Test::EndsWith(_) => "ends_with",
        Test::Contains(_) => "contains",
        Test::Exists => "exists",
        Test::NotExists => "not_exists",
        Test::Less(_) => "less",
        Test::GreaterOrEqual(_) => "greater_or_equal",
        Test::SemverLess(_) => "semver_less",
        Test::SemverGreaterOrEqual(_) => "semver_greater_or_equal",
    };
    let mut operators = 0;
    for (file_name, file) in files() {
        let Some(operator) = file_name.strip_prefix("operator_") else { continue };
        let Spec::Gate(rules) = spec(file.flag.feature_gate, None) else { panic!("{file_name}") };
        assert_eq!(name(&rules.rules[0].targeting.conditions[0].test), operator);
        operators += 1;
    }
    assert_eq!(operators, 11);
}

#[test]
fn the_hash_of_a_text_never_changes() {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        about: String,
        buckets: Vec<Vector>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Vector {
        bucketing: file::Bucketing,
        text: String,
        hash: u32,
        bucket: u32,
    }
    let file: File = serde_json::from_str(include_str!("evaluation/buckets.json")).unwrap();
    assert!(!file.about.is_empty() && file.buckets.len() > 30);
    for vector in file.buckets {
        let value = hash(vector.bucketing.into(), &vector.text);
        assert_eq!(value, vector.hash, "{}", vector.text);
        assert_eq!(share_of(value, TOTAL), vector.bucket, "{}", vector.text);
    }
}

/// A config whose rules have these shares; it answers the place of the rule, and the default the
/// place behind them.
fn flag_with_shares(points: &[u32]) -> Flag {
    let place = |place: usize| Object::from([("part".into(), Value::Number(place as f64))]);
    let rule = |(index, points): (usize, &u32)| Rule {
        targeting: TargetingRule {
            id: format!("rule-{index}").parse().unwrap(),
            environments: Vec::new(),
            conditions: Vec::new(),
            share: BasisPoints::new(*points).unwrap(),
            bucket_by: TARGETING_KEY.into(),
        },
        value: place(index),
    };
    let rules = points.iter().enumerate().map(rule).collect();
    Flag {
        id: "new-checkout".parse().unwrap(),
        description: "".into(),
        spec: Arc::new(Spec::Config(Rules { rules, default: place(points.len()) })),
        pipeline: None,
        labels: Default::default(),
        kill_switch: KillSwitch::Lifted { reason: "".into() },
        labels_revision: Revision::ZERO,
        spec_revision: Revision::ZERO,
        revision: Revision::ZERO,
        update_time: Timestamp::EPOCH,
    }
}

/// The place of the rule that answers for a key.
fn place(flag: &Flag, key: &str, bucketing: Bucketing) -> usize {
    let attributes = Object::from([(TARGETING_KEY.into(), Value::String(key.into()))]);
    let environment = "prod".parse().unwrap();
    let context = Context { environment: &environment, attributes: &attributes };
    let answer = evaluate(flag, None, &context, bucketing);
    let Value::Object(value) = answer.value else { panic!("a config answers an object") };
    let Some(Value::Number(place)) = value.get("part") else { panic!("the specs here have it") };
    *place as usize
}

fn bucketing() -> impl Strategy<Value = Bucketing> {
    prop_oneof![Just(Bucketing::V2), Just(Bucketing::V3)]
}

proptest! {
    #[test]
    fn a_growing_share_only_adds_contexts(
        key in "\\PC{1,40}",
        small in 0..=10_000_u32,
        more in 0..=10_000_u32,
        bucketing in bucketing(),
    ) {
        let large = (small + more).min(10_000);
        let inside = |points| place(&flag_with_shares(&[points]), &key, bucketing) == 0;
        prop_assert!(!inside(small) || inside(large), "{} in {} and not in {}", key, small, large);
        prop_assert!(!inside(0));
        prop_assert!(inside(10_000));
    }

    #[test]
    fn a_context_is_inside_if_its_bucket_is_below_the_share(
        key in "\\PC{1,40}",
        bucketing in bucketing(),
    ) {
        let flag = flag_with_shares(&[]);
        let bucket = bucket(bucketing, Salt::Flag(&flag.id), &key);
        prop_assert!(bucket < TOTAL);
        prop_assert_eq!(place(&flag_with_shares(&[bucket]), &key, bucketing), 1);
        prop_assert_eq!(place(&flag_with_shares(&[bucket + 1]), &key, bucketing), 0);
    }
}

/// So many fixed keys that chance moves a part of a third by half a percent of it, about.
const KEYS: usize = 60_000;

#[test]
fn two_successive_shares_make_three_equal_parts() {
    let flag = flag_with_shares(&[3_333, 6_666]);
    for bucketing in [Bucketing::V2, Bucketing::V3] {
        let mut parts = [0_usize; 3];
        for number in 0..KEYS {
            parts[place(&flag, &format!("user-{number}"), bucketing)] += 1;
        }
        for part in parts {
            assert!(part.abs_diff(KEYS / 3) < KEYS / 100, "{bucketing:?}: {parts:?}");
        }
    }
}

#[test]
fn flags_and_releases_split_their_contexts_independently() {
    let flag = "new-checkout".parse().unwrap();
    let other = "new-search".parse().unwrap();
    let release = "new-checkout".parse().unwrap();
    for bucketing in [Bucketing::V2, Bucketing::V3] {
        for (a, b) in
            [(Salt::Flag(&flag), Salt::Flag(&other)), (Salt::Flag(&flag), Salt::Release(&release))]
        {
            let inside = |salt, key: &str| bucket(bucketing, salt, key) < TOTAL / 2;
            let keys = (0..KEYS).map(|number| format!("user-{number}"));
            let both = keys.filter(|key| inside(a, key) && inside(b, key)).count();
            assert!(both.abs_diff(KEYS / 4) < KEYS / 100, "{bucketing:?} {a} {b}: {both}");
        }
    }
}
