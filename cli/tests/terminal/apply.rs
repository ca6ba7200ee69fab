//! `phasegate apply` and `phasegate diff`: the plan, and what is done of it.

use crate::stage::{Stage, USUAL, looks, told};

const PIPELINE: &str = "\
kind: Pipeline
name: pipelines/p
phases:
  - id: all
    rules: [{id: all}]
    bakeDuration: 60s
";
const FLAG: &str = "\
kind: Flag
name: flags/f
description: The new checkout.
pipeline: pipelines/p
featureGate: {}
";

/// A folder of documents.
fn folder(stage: &Stage, documents: &[(&str, &str)]) -> String {
    let folder = stage.folder.path().join("documents");
    // Written anew each time.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    for (name, content) in documents {
        std::fs::write(folder.join(name), content).unwrap();
    }
    folder.to_str().unwrap().to_owned()
}

/// Runs it, and returns the exit code with what was printed.
fn check(stage: &Stage, arguments: &[&str]) -> (i32, String) {
    let (code, out, err) = told(&stage.run(arguments));
    (code, out + &err)
}

/// The revision of the store as the last change of a flag shows it.
fn revision(stage: &Stage, name: &str) -> String {
    let (_, flag, _) = told(&stage.run(&["get", name, "-o", "json"]));
    let flag: serde_json::Value = serde_json::from_str(&flag).unwrap();
    flag["revision"].as_str().unwrap().to_owned()
}

#[test]
fn a_plan_creates_changes_and_leaves_alone() {
    let stage = Stage::empty();
    let documents = folder(&stage, &[("p.yaml", PIPELINE), ("f.yaml", FLAG)]);
    let dry = ["apply", "-f", &documents, "--dry-run"];
    let mut plans = String::new();
    let mut plan = |arguments: &[&str], expected: i32| {
        let (code, shown) = check(&stage, arguments);
        plans.push_str(&format!("$ phasegate {}\n{shown}\n", arguments[0]));
        assert_eq!(code, expected, "{shown}");
    };
    plan(&dry, 2);
    plan(&["diff", "-f", &documents], 2);
    plan(&["apply", "-f", &documents], 0);
    plan(&["diff", "-f", &documents], 0);
    plan(&dry, 0);
    let slower = PIPELINE.replace("60s", "120s");
    let described = FLAG.replace("The new checkout.", "The newest checkout.");
    folder(&stage, &[("p.yaml", &slower), ("f.yaml", &described)]);
    plan(&dry, 2);
    plan(&["apply", "-f", &documents], 0);
    looks("plans", &plans);
}

#[test]
fn applying_again_changes_nothing_and_writes_nothing() {
    let stage = Stage::empty();
    let documents = folder(&stage, &[("p.yaml", PIPELINE), ("f.yaml", FLAG)]);
    stage.done(&["apply", "-f", &documents]);
    let before = revision(&stage, "flags/f");
    let (code, shown) = check(&stage, &["apply", "-f", &documents]);
    assert_eq!(code, 0);
    assert_eq!(shown, "= unchanged  pipelines/p\n= unchanged  flags/f\n\nplan: 2 unchanged\n");
    assert_eq!(revision(&stage, "flags/f"), before);
    let other = "kind: Flag\nname: flags/next\nfeatureGate: {}\n";
    stage.done(&["apply", "-f", &stage.file("other.yaml", other)]);
    let next: u64 = revision(&stage, "flags/next").parse().unwrap();
    assert_eq!(next, before.parse::<u64>().unwrap() + 1, "there was no commit in between");
}

#[test]
fn a_refused_document_keeps_the_others_from_being_applied() {
    let stage = Stage::empty();
    let bad = FLAG.replace("pipelines/p", "pipelines/none");
    let documents = folder(&stage, &[("p.yaml", PIPELINE), ("f.yaml", &bad)]);
    let (code, said) = check(&stage, &["apply", "-f", &documents]);
    assert!(code == 1 && said.contains("RESOURCE_NOT_FOUND"), "{said}");
    let (code, said) = check(&stage, &["get", "pipelines/p"]);
    assert!(code == 1 && said.contains("RESOURCE_NOT_FOUND"), "{said}");
    let twice = folder(&stage, &[("a.yaml", PIPELINE), ("b.yaml", PIPELINE)]);
    let (code, said) = check(&stage, &["diff", "-f", &twice]);
    assert!(code == 65 && said.contains("is described before"), "{said}");
}

#[test]
fn pruning_deletes_flags_and_then_pipelines_and_asks_first() {
    let stage = Stage::empty();
    let documents = folder(&stage, &[("p.yaml", PIPELINE), ("f.yaml", FLAG)]);
    stage.done(&["apply", "-f", &documents]);
    let kept = "kind: Flag\nname: flags/kept\nfeatureGate: {}\n";
    let kept = stage.file("kept.yaml", kept);
    let (code, shown) = check(&stage, &["apply", "-f", &kept, "--dry-run"]);
    assert!(code == 2 && !shown.contains("delete"), "off by default: {shown}");
    let prune = ["apply", "-f", &kept, "--prune"];
    let (code, shown) = check(&stage, &[&prune[..], &["--dry-run"]].concat());
    assert_eq!(code, 2);
    looks("prune", &shown);
    let (code, shown) = check(&stage, &prune);
    assert!(code == 64 && shown.contains("--yes"), "{shown}");
    let mut asked = stage.terminal(USUAL, &prune);
    asked.shows("Delete 2 resources for good? [y/N]");
    asked.press("n\r");
    let (status, screen) = asked.end();
    assert!(status.code() == Some(1) && screen.contains("nothing was changed"), "{screen}");
    stage.done(&["get", "flags/f"]);
    let (code, shown) = check(&stage, &[&prune[..], &["--yes"]].concat());
    assert!(code == 0 && shown.ends_with("flags/f  deleted\npipelines/p  deleted\n"), "{shown}");
    assert_eq!(check(&stage, &["diff", "-f", &kept, "--prune"]).0, 0);
}

#[test]
fn what_cannot_be_pruned_is_said_and_keeps_everything_as_it_is() {
    let stage = Stage::baking();
    let kept = stage.file("kept.yaml", "kind: Flag\nname: flags/kept\nfeatureGate: {}\n");
    for arguments in [
        &["diff", "-f", &kept, "--prune"][..],
        &["apply", "-f", &kept, "--prune", "--dry-run"],
        &["apply", "-f", &kept, "--prune", "--yes"],
    ] {
        let (code, shown) = check(&stage, arguments);
        assert_eq!(code, 1, "{shown}");
        looks("prune-in-use", &shown);
    }
    assert_eq!(check(&stage, &["get", "flags/kept"]).0, 1, "nothing was created");
}

#[test]
fn a_plan_warns_of_environments_that_nothing_else_names() {
    let stage = Stage::empty();
    let pipeline = PIPELINE.replace("{id: all}", "{id: all, environments: [prod]}");
    let gate = |environment: &str| {
        let rule = format!("{{targeting: {{id: a, environments: [{environment}]}}, value: true}}");
        FLAG.replace("featureGate: {}", &format!("featureGate: {{rules: [{rule}]}}"))
    };
    let warned = |arguments: &[&str]| {
        let (_, _, err) = told(&stage.run(arguments));
        err
    };
    let both = folder(&stage, &[("p.yaml", &pipeline), ("f.yaml", &gate("prod"))]);
    assert_eq!(warned(&["diff", "-f", &both]), "");
    folder(&stage, &[("p.yaml", &pipeline), ("f.yaml", &gate("prdo"))]);
    let expected = "\
warning: pipelines/p names the environment prod, and nothing else does: is it spelt right?
warning: flags/f names the environment prdo, and nothing else does: is it spelt right?
";
    assert_eq!(warned(&["apply", "-f", &both]), expected);
    assert_eq!(warned(&["apply", "-f", &both]), "", "nothing of it is applied again");
    let same = pipeline.replace("prod", "prdo");
    folder(&stage, &[("p.yaml", &same), ("f.yaml", &gate("prdo"))]);
    assert_eq!(warned(&["apply", "-f", &both]), "", "two places name it now");
}

#[test]
fn the_plan_of_a_release_warns_of_environments_that_nothing_else_names() {
    let stage = Stage::empty();
    let documents = folder(&stage, &[("p.yaml", PIPELINE), ("f.yaml", FLAG)]);
    stage.done(&["apply", "-f", &documents]);
    let release = "\
kind: Release
flag: flags/f
featureGate: {rules: [{targeting: {id: a, environments: [prdo]}, value: true}]}
";
    let release = stage.file("release.yaml", release);
    let plan = ["release", "trigger", "-f", &release, "--dry-run"];
    let (code, out, err) = told(&stage.run(&plan));
    assert!(code == 0 && out.starts_with("nothing was triggered"), "{out}{err}");
    let expected =
        "warning: flags/f names the environment prdo, and nothing else does: is it spelt right?\n";
    assert_eq!(err, expected);
}
