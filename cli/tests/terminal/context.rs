//! `phasegate context`, and where the address comes from.

use crate::stage::{Stage, told};
use std::os::unix::fs::PermissionsExt as _;

/// Runs the program with a configuration file of its own and these variables, and returns the exit
/// code with what was printed.
fn check(stage: &Stage, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let mut command = stage.command(arguments);
    command.env_remove("PHASEGATE_ADDRESS");
    command.env("XDG_CONFIG_HOME", stage.folder.path().join("xdg"));
    let (code, out, err) = told(&command.envs(environment.iter().copied()).output().unwrap());
    (code, out + &err)
}

#[test]
fn contexts_are_made_used_listed_and_deleted() {
    let stage = Stage::empty();
    let run = |arguments: &[&str]| check(&stage, arguments, &[]);
    assert_eq!(run(&["context", "list"]), (0, "no contexts\n".to_owned()));
    let address = stage.server.address.as_str();
    let prod = ["--address", address, "--as", "ann", "--groups", "sre,shop"];
    let (code, said) = run(&[&["context", "set", "prod"], &prod[..]].concat());
    assert!(code == 0 && said.contains("context use prod"), "{said}");
    run(&["context", "set", "other", "--address", "http://127.0.0.1:1"]);
    assert_eq!(run(&["context", "use", "prod"]).0, 0);
    let (_, listed) = run(&["context", "list"]);
    let rows: Vec<Vec<&str>> =
        listed.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows,
        [vec!["other", "http://127.0.0.1:1"], vec!["*", "prod", address, "ann", "sre,shop"]]
    );
    assert_eq!(run(&["list", "flags"]), (0, "no flags\n".to_owned()), "it is where it leads");
    let (code, said) = run(&["list", "flags", "--context", "other"]);
    assert_eq!(code, 69);
    assert!(said.contains("http://127.0.0.1:1") && said.contains("from context other"), "{said}");
    let (code, said) = run(&["list", "flags", "--context", "none"]);
    assert!(code == 64 && said.contains("other, prod"), "{said}");
    assert_eq!(run(&["context", "set", "prod"]).0, 64, "nothing to keep");
    assert_eq!(run(&["context", "set", "a/b", "--as", "x"]).0, 64, "no name");
    let (code, said) = run(&["context", "delete", "prod"]);
    assert!(code == 0 && said.contains("there is none now"), "{said}");
    assert_eq!(run(&["context", "use", "prod"]).0, 64);
}

#[test]
fn the_file_is_for_its_owner_and_says_where_it_is_malformed() {
    let stage = Stage::empty();
    let run = |arguments: &[&str]| check(&stage, arguments, &[]);
    run(&["context", "set", "a", "--as", "ann"]);
    let folder = stage.folder.path().join("xdg/phasegate");
    let path = folder.join("config.yaml");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing else was left");
    let file = stage.file("else.yaml", "contexts: {}\ncurent: a\n");
    let (code, said) = check(&stage, &["list", "flags"], &[("PHASEGATE_CONFIG", &file)]);
    assert!(code == 78 && said.contains("else.yaml") && said.contains("curent"), "{said}");
}

#[test]
fn what_is_said_the_nearest_holds() {
    let stage = Stage::empty();
    let set = |name: &str| {
        let at = format!("http://{name}");
        check(&stage, &["context", "set", name, "--address", &at], &[]);
    };
    ["current", "variable", "flag"].into_iter().for_each(set);
    check(&stage, &["context", "use", "current"], &[]);
    let flag = ["--address", "http://address-flag"];
    let context = ["--context", "flag"];
    let variable = ("PHASEGATE_ADDRESS", "http://address-variable");
    let context_variable = ("PHASEGATE_CONTEXT", "variable");
    let meant = |arguments: &[&str], environment: &[(&str, &str)]| {
        let shown = check(&stage, &[&["context", "show"], arguments].concat(), environment).1;
        let line = shown.lines().next().unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().trim_start_matches("http://").to_owned()
    };
    let all = [variable, context_variable];
    assert_eq!(meant(&[&flag[..], &context[..]].concat(), &all), "address-flag");
    assert_eq!(meant(&context, &all), "flag");
    assert_eq!(meant(&[], &all), "address-variable");
    assert_eq!(meant(&[], &[context_variable]), "variable");
    assert_eq!(meant(&[], &[]), "current");
    check(&stage, &["context", "delete", "current"], &[]);
    assert_eq!(meant(&[], &[]), "127.0.0.1:7433");
}

#[test]
fn groups_and_principal_of_a_context_are_those_of_the_call() {
    let stage = Stage::empty();
    let at = ["--address", &stage.server.address];
    check(&stage, &[&["context", "set", "a", "--as", "ann"], &at[..]].concat(), &[]);
    let file = stage.file("f.yaml", "kind: Flag\nname: flags/f\nfeatureGate: {}\n");
    assert_eq!(check(&stage, &["apply", "-f", &file], &[("PHASEGATE_CONTEXT", "a")]).0, 0);
    let pipeline = "kind: Pipeline\nname: pipelines/p\nphases: [{id: all, rules: [{id: all}], bakeDuration: 60s}]\n";
    let pipeline = stage.file("p.yaml", pipeline);
    assert_eq!(check(&stage, &["apply", "-f", &pipeline, "--context", "a"], &[]).0, 0);
    let release =
        "kind: Release\nflag: flags/f\npipeline: pipelines/p\nfeatureGate: {defaultValue: true}\n";
    let release = stage.file("r.yaml", release);
    let trigger = ["release", "trigger", "-f", &release, "--id", "r", "--context", "a"];
    let (code, said) = check(&stage, &trigger, &[]);
    assert_eq!(code, 0, "{said}");
    let (_, events) = check(&stage, &["release", "events", "r", "--context", "a"], &[]);
    assert!(events.contains("by ann"), "{events}");
}
