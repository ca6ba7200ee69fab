//! `phasegate eval`: what a flag answers, and how that came about.

use crate::stage::{Stage, looks, told};

const DOCUMENTS: &str = "\
kind: Pipeline
name: pipelines/web
exemptEnvironments: [dev]
phases:
  - id: canary
    rules: [{id: tenth, environments: [prod], rolloutBasisPoints: 1000}]
    bakeDuration: 60s
---
kind: Flag
name: flags/checkout
pipeline: pipelines/web
featureGate:
  rules:
  - targeting:
      id: staff
      conditions: [{attribute: tier, operator: CONDITION_OPERATOR_IN, values: [staff]}]
    value: true
  - targeting: {id: half, rolloutBasisPoints: 5000}
    value: true
";
const RELEASE: &str = "\
kind: Release
name: releases/r
flag: flags/checkout
featureGate: {defaultValue: true}
";

#[test]
fn an_answer_says_which_rules_were_asked_and_in_which_bucket() {
    let stage = Stage::empty();
    stage.done(&["apply", "-f", &stage.file("documents.yaml", DOCUMENTS)]);
    let mut shown = String::new();
    let mut eval = |arguments: &[&str]| {
        let (code, out, err) = told(&stage.run(&[&["eval", "checkout"], arguments].concat()));
        assert!(code == 0 && err.is_empty(), "{err}");
        shown.push_str(&format!("$ phasegate eval checkout {}\n{out}\n", arguments.join(" ")));
        out
    };
    eval(&["--env", "prod", "-a", "targetingKey=user-1"]);
    eval(&["--env", "prod", "-a", "tier=staff"]);
    eval(&["--env", "prod"]);
    stage.done(&["release", "trigger", "-f", &stage.file("release.yaml", RELEASE)]);
    eval(&["--env", "prod", "-a", "targetingKey=user-1"]);
    eval(&["--env", "test", "-a", "targetingKey=user-1"]);
    eval(&["--env", "dev", "-a", "targetingKey=user-1"]);
    stage.done(&["kill", "checkout"]);
    eval(&["--env", "prod", "-a", "targetingKey=user-1"]);
    looks("eval", &shown);
}

#[test]
fn a_script_gets_the_same_as_fields() {
    let stage = Stage::empty();
    stage.done(&["apply", "-f", &stage.file("documents.yaml", DOCUMENTS)]);
    let asked = ["eval", "checkout", "--env", "prod", "-a", "targetingKey=user-1", "-o", "json"];
    let (code, out, _) = told(&stage.run(&asked));
    assert_eq!(code, 0);
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["bucketing"], "BUCKETING_V3");
    assert_eq!(answer["considered"][0]["outcome"], "RULE_OUTCOME_CONDITION_FAILED");
    assert_eq!(answer["considered"][0]["attribute"], "tier");
    assert_eq!(answer["considered"][1]["ruleId"], "half");
    assert_eq!(answer["considered"][1]["bucket"]["salt"], "flags/checkout");
    assert_eq!(answer["considered"][1]["bucket"]["rolloutBasisPoints"], 5000);
    let yaml = [&asked[..7], &["yaml"]].concat();
    let (_, out, _) = told(&stage.run(&yaml));
    assert!(out.contains("outcome: RULE_OUTCOME_CONDITION_FAILED"), "{out}");
}
