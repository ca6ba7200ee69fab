//! Completions and manual pages.

use crate::stage::{PROGRAM, Stage, root, told};
use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// What bash would offer for the last of these words, asked as its script asks.
fn offered(address: &str, words: &[&str]) -> Vec<String> {
    let output = Command::new(PROGRAM)
        .arg("--")
        .arg("phasegate")
        .args(words)
        .env_clear()
        .env("PHASEGATE_COMPLETE", "bash")
        .env("PHASEGATE_ADDRESS", address)
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (_, out, err) = told(&output);
    assert!(err.is_empty(), "a prompt is no place for {err}");
    out.lines().map(str::to_owned).collect()
}

#[test]
fn names_of_the_server_are_offered() {
    let stage = Stage::baking();
    let offers = |words: &[&str], expected: &[&str]| {
        let offered = offered(&stage.server.address, words);
        // Where nothing was typed yet, options come behind.
        let (names, options) = offered.split_at(expected.len().min(offered.len()));
        assert_eq!(names, expected, "{words:?}");
        assert!(options.iter().all(|option| option.starts_with("--")), "{options:?}");
    };
    offers(&["release", "watch", "check"], &["checkout-7"]);
    offers(&["release", "approve", "checkout-7", "prod"], &["prod-eu"]);
    offers(&["release", "approve", "checkout-7", ""], &["canary", "prod-eu", "everyone"]);
    offers(&["eval", "check"], &["checkout-v2"]);
    offers(&["list", "flags", "--pipeline", "st"], &["standard"]);
    offers(&["get", "pipe"], &["pipelines/standard"]);
    offers(&["get", "rele"], &["releases/checkout-7"]);
    offers(&["release", "unp"], &["unpause"]);
    // The server may be named on the line.
    let elsewhere =
        offered("http://127.0.0.1:1", &["--address", &stage.server.address, "kill", "ch"]);
    assert_eq!(elsewhere, ["checkout-v2"]);
}

#[test]
fn a_server_that_is_gone_or_silent_offers_nothing_soon() {
    let began = Instant::now();
    // Nobody listens at one; at the other nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for address in ["http://127.0.0.1:1", "not an address", &silent] {
        assert_eq!(offered(address, &["release", "watch", "check"]), [""; 0], "{address}");
    }
    // Three programs have to start; it is the call without a limit that must not be waited for.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn contexts_are_offered_from_their_file() {
    let stage = Stage::empty();
    let file = stage.file("config.yaml", "contexts: {prod: {}, staging: {}}\n");
    let mut command = Command::new(PROGRAM);
    command.args(["--", "phasegate", "list", "--context", ""]).env_clear();
    command.env("PHASEGATE_COMPLETE", "bash").env("PHASEGATE_CONFIG", file);
    command.env("_CLAP_IFS", ",").env("_CLAP_COMPLETE_INDEX", "3");
    assert_eq!(told(&command.output().unwrap()), (0, "prod,staging".to_owned(), String::new()));
}

#[test]
fn each_shell_gets_a_script_that_it_can_read() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = Command::new(PROGRAM).args(["completions", shell]).env_clear().output();
        let (code, script, _) = told(&output.unwrap());
        assert!(code == 0 && script.contains("PHASEGATE_COMPLETE"), "{shell}: {script}");
    }
    let load = format!("source <({PROGRAM} completions bash) && complete -p phasegate");
    let output = Command::new("bash").args(["-euo", "pipefail", "-c", &load]).output().unwrap();
    let (code, registered, err) = told(&output);
    assert!(code == 0 && registered.contains("phasegate"), "{registered}{err}");
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let stage = Stage::empty();
    let dir = stage.folder.path().join("man");
    stage.done(&["man", dir.to_str().unwrap()]);
    for page in ["phasegate", "phasegate-apply", "phasegate-release-watch", "phasegate-top"] {
        let text = std::fs::read_to_string(dir.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".TH ") && text.contains(".SH NAME"), "{page}: {text}");
    }
    assert!(!root().join("phasegate.1").exists());
}

#[test]
fn mistakes_in_the_arguments_exit_with_64_and_help_with_0() {
    let code = |arguments: &[&str]| {
        Command::new(PROGRAM).args(arguments).env_clear().output().unwrap().status.code()
    };
    for wrong in [&["no-such-command"][..], &["top", "--nonsense"], &["apply"], &["release"], &[]] {
        assert_eq!(code(wrong), Some(64), "{wrong:?}");
    }
    for right in [&["--help"][..], &["release", "watch", "--help"], &["--version"]] {
        assert_eq!(code(right), Some(0), "{right:?}");
    }
}
