//! What definitions look like. Bytes matter: a definition that changes is sent to everybody again.

use expect_test::{Expect, expect};
use phasegate_engine::{
    flag::{Flag, KillSwitch, Labels, Rule, Rules, Spec},
    flagd::definition,
    id::{Principal, Revision},
    pipeline::{Phase, Pipeline, Template},
    release::{PhaseIndex, PhaseProgress, PhaseState, Progress, Proposal, Release, Stage, Wait},
    targeting::{BasisPoints, Condition, Number, TARGETING_KEY, TargetingRule, Test},
    time::{Span, Timestamp},
    value::{Object, Value},
};
use std::{collections::BTreeMap, sync::Arc};

fn rule(id: &str, conditions: Vec<Condition>, points: u32) -> TargetingRule {
    TargetingRule {
        id: id.parse().unwrap(),
        environments: Vec::new(),
        conditions,
        share: BasisPoints::new(points).unwrap(),
        bucket_by: TARGETING_KEY.into(),
    }
}

fn only_if(attribute: &str, test: Test) -> Vec<Condition> {
    vec![Condition { attribute: attribute.into(), test }]
}

fn texts(values: &[&str]) -> Vec<Arc<str>> {
    values.iter().map(|value| Arc::from(*value)).collect()
}

fn flag(spec: Spec) -> Flag {
    Flag {
        id: "search.ranking".parse().unwrap(),
        description: "".into(),
        spec: Arc::new(spec),
        pipeline: None,
        labels: Labels::default(),
        labels_revision: Revision::ZERO,
        kill_switch: KillSwitch::Lifted { reason: "".into() },
        spec_revision: Revision::new(7),
        revision: Revision::new(9),
        update_time: Timestamp::EPOCH,
    }
}

fn gate(rules: Vec<TargetingRule>) -> Spec {
    let rules = rules.into_iter().map(|targeting| Rule { targeting, value: true }).collect();
    Spec::Gate(Rules { rules, default: false })
}

fn config(default: f64, rules: Vec<(TargetingRule, f64)>) -> Spec {
    let object = |weight: f64| Object::from([("weight".into(), Value::Number(weight))]);
    let rule = |(targeting, weight)| Rule { targeting, value: object(weight) };
    let rules = rules.into_iter().map(rule).collect();
    Spec::Config(Rules { rules, default: object(default) })
}

/// An active release whose first phase was applied and whose second was not.
fn release(change: Spec, first: Vec<TargetingRule>, second: Vec<TargetingRule>) -> Release {
    let phase = |(id, rules): (&str, _)| Phase {
        id: id.parse().unwrap(),
        rules,
        bake: Span::ZERO,
        approval: None,
        windows: None,
        guards: [].into(),
    };
    let progress = |applied| PhaseProgress {
        state: PhaseState::Pending,
        applied,
        bypassed: false,
        enter_time: None,
        apply_time: None,
        end_time: None,
        reviews: [].into(),
        guards: [].into(),
    };
    let time = Timestamp::EPOCH;
    Release {
        progress: Progress {
            stage: Stage::Running { phase: PhaseIndex::FIRST, wait: Wait::Bake { ends: time } },
            phases: [progress(true), progress(false)].into(),
            start_time: None,
            revision: Revision::ZERO,
            update_time: time,
            timer_generation: 0,
        },
        proposal: Arc::new(Proposal {
            id: "ranking-2".parse().unwrap(),
            flag: "search.ranking".parse().unwrap(),
            pipeline: Arc::new(Pipeline {
                id: "standard".parse().unwrap(),
                template: Template {
                    description: "".into(),
                    phases: [("canary", first), ("full", second)].map(phase).into(),
                    exempt_environments: vec!["dev".parse().unwrap()],
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

#[track_caller]
fn check(flag: &Flag, active: Option<&Release>, environment: &str, expected: Expect) {
    expected.assert_eq(&definition(flag, active, &environment.parse().unwrap()));
}

#[test]
fn a_gate_without_rules_has_no_targeting() {
    check(
        &flag(gate(Vec::new())),
        None,
        "prod",
        expect![[
            r#"{"defaultVariant":"off","metadata":{"revision":7},"state":"ENABLED","variants":{"off":false,"on":true}}"#
        ]],
    );
}

#[test]
fn a_killed_gate_is_off_and_enabled() {
    let mut flag = flag(gate(vec![rule("half", Vec::new(), 5_000)]));
    flag.kill_switch = KillSwitch::Engaged { reason: "it burns".into() };
    check(
        &flag,
        None,
        "prod",
        expect![[
            r#"{"defaultVariant":"off","metadata":{"killed":true,"revision":7},"state":"ENABLED","variants":{"off":false,"on":true}}"#
        ]],
    );
}

#[test]
fn a_killed_config_has_its_settled_default_only() {
    let half = rule("half", Vec::new(), 5_000);
    let mut flag = flag(config(1.0, vec![(half, 1.5)]));
    flag.kill_switch = KillSwitch::Engaged { reason: "it burns".into() };
    check(
        &flag,
        None,
        "prod",
        expect![[
            r#"{"defaultVariant":"default","metadata":{"killed":true,"revision":7},"state":"ENABLED","variants":{"default":{"weight":1}}}"#
        ]],
    );
}

#[test]
fn conditions_on_another_environment_and_rules_after_everyone_are_left_out() {
    let mut elsewhere = rule("elsewhere", Vec::new(), 10_000);
    elsewhere.environments = vec!["test".parse().unwrap()];
    let here = rule("here", only_if("tier", Test::In(texts(&["beta", "1", "true"]))), 10_000);
    let rules = vec![
        (elsewhere, 2.0),
        (here, 3.0),
        (rule("everyone", Vec::new(), 10_000), 4.0),
        (rule("nobody-is-left", Vec::new(), 5_000), 5.0),
    ];
    check(
        &flag(config(1.0, rules)),
        None,
        "prod",
        expect![[
            r#"{"defaultVariant":"default","metadata":{"revision":7},"state":"ENABLED","targeting":{"if":[{"or":[{"in":[{"var":"tier"},["beta","1","true"]]},{"and":[{"in":[{"var":"tier"},[1]]},{"in":[{"substr":[{"cat":[{"var":"tier"},"x"]},0,1]},"-0123456789"]}]},{"and":[{"in":[{"var":"tier"},[true]]},{"!":[{"in":[{"substr":[{"cat":[{"var":"tier"},"x"]},0,1]},"-0123456789"]}]}]}]},"rules/here","rules/everyone"]},"variants":{"default":{"weight":1},"rules/everyone":{"weight":4},"rules/here":{"weight":3}}}"#
        ]],
    );
}

#[test]
fn a_share_asks_for_a_unit_first() {
    check(
        &flag(gate(vec![rule("half", Vec::new(), 5_000)])),
        None,
        "prod",
        expect![[
            r#"{"defaultVariant":"off","metadata":{"revision":7},"state":"ENABLED","targeting":{"if":[{"and":[{"or":[{"and":[{"!!":[{"starts_with":[{"var":"targetingKey"},""]}]},{"!==":[{"var":"targetingKey"},""]}]},{"and":[{"in":[{"substr":[{"cat":[{"var":"targetingKey"},"x"]},0,1]},"-0123456789"]},{"!":[{"starts_with":[{"var":"targetingKey"},""]}]},{"in":[{"var":"targetingKey"},{"merge":[{"var":"targetingKey"}]}]},{"<":[-1000000000000000,{"var":"targetingKey"},1000000000000000]},{"===":[{"%":[{"var":["targetingKey",0]},1]},0]}]}]},{"===":[{"fractional":[{"cat":["flags/search.ranking:",{"if":[{"starts_with":[{"var":"targetingKey"},""]},{"var":"targetingKey"},{"+":[{"var":["targetingKey",0]},0]}]}]},["in",5000],["out",5000]]},"in"]}]},"on"]},"variants":{"off":false,"on":true}}"#
        ]],
    );
}

#[test]
fn a_comparison_asks_for_a_number_first() {
    let old = only_if("age", Test::GreaterOrEqual(Number::parse("1.8e1").unwrap()));
    check(
        &flag(gate(vec![rule("old", old, 10_000)])),
        None,
        "prod",
        expect![[
            r#"{"defaultVariant":"off","metadata":{"revision":7},"state":"ENABLED","targeting":{"if":[{"and":[{"in":[{"substr":[{"cat":[{"var":"age"},"x"]},0,1]},"-0123456789"]},{"!":[{"starts_with":[{"var":"age"},""]}]},{"in":[{"var":"age"},{"merge":[{"var":"age"}]}]},{">=":[{"var":"age"},18]}]},"on"]},"variants":{"off":false,"on":true}}"#
        ]],
    );
}

#[test]
fn a_version_has_to_be_strict_and_its_limit_has_no_build_metadata() {
    let old = only_if("app", Test::SemverLess("2.10.0-rc.1+b5".parse().unwrap()));
    check(
        &flag(gate(vec![rule("old", old, 10_000)])),
        None,
        "prod",
        expect![[
            r#"{"defaultVariant":"off","metadata":{"revision":7},"state":"ENABLED","targeting":{"if":[{"and":[{"!!":[{"starts_with":[{"var":"app"},""]}]},{"in":[{"substr":[{"cat":[{"var":"app"},"x"]},0,1]},"0123456789"]},{"===":[{"substr":[{"var":"app"},0,250]},{"var":"app"}]},{"!!":[{"sem_ver":[{"var":["$flagd.none",{"cat":["1",{"var":"app"},"-a"]}]},">=","0.0.0-0"]}]},{"!!":[{"sem_ver":[{"var":"app"},"<","2.10.0-rc.1"]}]},{"!!":[{"if":[{"or":[{"in":["-",{"var":"app"}]},{"in":["+",{"var":"app"}]}]},{"!":[{"sem_ver":[{"var":["$flagd.none",{"cat":["0.",{"var":"app"}]}]},">=","0.0.0-0"]}]},{"sem_ver":[{"var":["$flagd.none",{"cat":[{"substr":[{"var":["app","0"]},0,-1]},"1",{"substr":[{"var":"app"},-1]}]}]},"~",{"var":"app"}]}]}]}]},"on"]},"variants":{"off":false,"on":true}}"#
        ]],
    );
}

#[test]
fn a_release_shows_its_change_to_whom_an_applied_phase_covers() {
    let beta = rule("beta", only_if("tier", Test::StartsWith(texts(&["beta"]))), 10_000);
    let staff = rule("staff", only_if("mail", Test::EndsWith(texts(&["@x.org"]))), 10_000);
    let change = config(2.0, vec![(staff.clone(), 2.5)]);
    let flag = flag(config(1.0, vec![(staff, 1.5)]));
    let release = release(change, vec![beta], vec![rule("all", Vec::new(), 10_000)]);
    check(
        &flag,
        Some(&release),
        "prod",
        expect![[
            r#"{"defaultVariant":"default","metadata":{"phase":"canary","release":"ranking-2","revision":7},"state":"ENABLED","targeting":{"if":[{"starts_with":[{"var":"tier"},"beta"]},{"if":[{"ends_with":[{"var":"mail"},"@x.org"]},"releases/ranking-2/rules/staff","releases/ranking-2/default"]},{"ends_with":[{"var":"mail"},"@x.org"]},"rules/staff"]},"variants":{"default":{"weight":1},"releases/ranking-2/default":{"weight":2},"releases/ranking-2/rules/staff":{"weight":2.5},"rules/staff":{"weight":1.5}}}"#
        ]],
    );
    check(
        &flag,
        Some(&release),
        "dev",
        expect![[
            r#"{"defaultVariant":"default","metadata":{"phase":"canary","release":"ranking-2","revision":7},"state":"ENABLED","targeting":{"if":[{"ends_with":[{"var":"mail"},"@x.org"]},"releases/ranking-2/rules/staff","releases/ranking-2/default"]},"variants":{"default":{"weight":1},"releases/ranking-2/default":{"weight":2},"releases/ranking-2/rules/staff":{"weight":2.5}}}"#
        ]],
    );
}
