//! The program as a person or a script meets it: output and exit codes.
//!
//! The tutorial is executed by `tests/cookbook/run`.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod process;

use process::Server;
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_phasegate");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

impl Server {
    /// One in memory whose clock stands still on a Monday at 6:00 UTC.
    fn rehearsal() -> Self {
        Self::start(["--memory", "--clock=manual", "--clock-start", "2030-06-17T06:00:00Z"])
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(PROGRAM).args(arguments).output().unwrap()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(root()).env("PHASEGATE_ADDRESS", &self.address).stdin(Stdio::null());
        command
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// Mode of a file or a directory.
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_stored_is_for_the_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start(["--data".as_ref(), data.as_os_str()]);
    let created = server.run(&["apply", "-f", "examples/quick"]);
    assert_eq!(code(&created), 0, "{}", text(&created.stderr));
    assert_eq!(mode(&data), 0o700);
    let files: Vec<PathBuf> =
        std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 2, "{files:?}");
    for path in files {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path), expected, "{}", path.display());
    }
}

#[test]
fn a_crash_leaves_no_core_file_unless_it_is_wanted() {
    use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
    use std::os::unix::process::ExitStatusExt as _;
    // The children inherit it: from here on it is theirs to leave one.
    let mut limit = getrlimit(Resource::Core);
    limit.current = limit.maximum;
    setrlimit(Resource::Core, limit).unwrap();
    let crash = |arguments: &[&str]| {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--memory", "--listen=127.0.0.1:0"])
            .args(arguments)
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on "), "{line}");
        kill_process(Pid::from_child(&child), Signal::ABORT).unwrap();
        child.wait().unwrap().core_dumped()
    };
    // Where this is false the system writes none at all, and what follows says little.
    println!("core files can be written here: {}", crash(&["--allow-core-files"]));
    assert!(!crash(&[]));
}

#[test]
fn the_server_is_given_no_huge_pages() {
    let server = Server::start(["--memory"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    assert!(status.lines().any(|line| line == "THP_enabled:\t0"), "{status}");
}

#[test]
fn the_demo_runs_to_its_end() {
    let output = Command::new(PROGRAM).args(["demo", "--exit"]).output().unwrap();
    let shown = text(&output.stdout);
    assert_eq!(code(&output), 0, "{shown}{}", text(&output.stderr));
    for expected in [
        "listens on http://127.0.0.1:",
        "It stops here: phase everyone needs an approval",
        "approved by bob",
        "succeeded: all phases done",
        "100 of 100 others in prod on",
    ] {
        assert!(shown.contains(expected), "no {expected:?} in\n{shown}");
    }
    assert!(!shown.contains("until Ctrl-C"), "it does not go on:\n{shown}");
}

#[test]
fn a_refusal_says_what_to_do_next_and_exits_with_1() {
    let server = Server::rehearsal();
    let files = ["-f", "examples/week/pipeline.yaml", "-f", "examples/week/flag.yaml"];
    assert_eq!(code(&server.run(&[&["apply"], &files[..]].concat())), 0);
    let trigger = ["release", "trigger", "-f", "examples/week/release.yaml", "--id", "r"];
    assert_eq!(code(&server.run(&trigger)), 0);
    let output = server.run(&["release", "unpause", "r"]);
    assert_eq!(code(&output), 1);
    let said = text(&output.stderr);
    assert!(said.contains("[NOT_PAUSED]") && output.stdout.is_empty(), "{said}");
    let output = server.run(&["release", "get", "none"]);
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("next: "), "{}", text(&output.stderr));
}

#[test]
fn json_is_proto_json_and_goes_to_stdout_alone() {
    let server = Server::rehearsal();
    assert_eq!(code(&server.run(&["apply", "-f", "examples/week"])), 0);
    let releases = server.run(&["release", "list", "-o", "json"]);
    assert!(!text(&releases.stdout).contains("releases/"), "applying triggers nothing");
    let output = server.run(&["get", "flags/search.ranking", "-o", "json"]);
    let flag: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(flag["name"], "flags/search.ranking");
    assert_eq!(flag["dynamicConfig"]["defaultValue"]["model"], "classic");
    assert!(output.stderr.is_empty());
}

#[test]
fn a_malformed_document_is_said_with_file_and_line_and_exits_with_65() {
    let server = Server::rehearsal();
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, content: &str, expected: &[&str]| {
        let path = dir.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(content.as_bytes()).unwrap();
        let output = server.run(&["apply", "-f", path.to_str().unwrap()]);
        let said = text(&output.stderr);
        for part in expected {
            assert!(said.contains(part), "no {part:?} in {said}");
        }
        code(&output)
    };
    let broken = "kind: Flag\nname: flags/a\nfeatureGate: {defaultValue: [true\n";
    assert_eq!(check("broken.yaml", broken, &["broken.yaml:"]), 65);
    let typo = "kind: Flag\nname: flags/a\nfeatureGate:\n  defaultVale: true\n";
    assert_eq!(check("typo.yaml", typo, &["typo.yaml:4", "defaultVale"]), 65);
    let limit =
        "kind: Pipeline\nname: pipelines/p\nphases:\n  - id: Bad Id\n    rules: [{id: a}]\n";
    assert_eq!(check("limit.yaml", limit, &["limit.yaml:4"]), 1, "the server's own answer");
}

#[test]
fn every_failure_to_start_has_its_exit_code_and_a_message() {
    let check = |arguments: &[&str], expected: i32, part: &str| {
        let output = Command::new(PROGRAM).arg("serve").args(arguments).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(code(&output), expected, "{said}");
        assert!(said.contains(part), "no {part:?} in {said}");
    };
    check(&["--memory", "--listen", "0.0.0.0:0"], 78, "loopback");
    check(&["--memory", "--clock-start", "2030-01-01T00:00:00Z"], 78, "clock: manual");
    check(&[], 78, "no place for data");
    check(&["--memory", "--data", "d"], 78, "exclude each other");
    check(&["--memory", "--tls-cert", "cert.pem"], 78, "tls-key");
    check(&["--memory", "--listen", "here"], 64, "invalid value 'here'");
    check(&["--memory", "--keep-events", "5s"], 78, "at least 1 hour");
    let dir = tempfile::tempdir().unwrap();
    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("letter.txt"), "dear").unwrap();
    let foreign = foreign.to_str().unwrap();
    check(&["--listen", "127.0.0.1:0", "--data", foreign], 78, "no data directory");
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let server = Server::start(["--data", data]);
    check(&["--listen", "127.0.0.1:0", "--data", data], 75, "in use");
    let taken = server.address.trim_start_matches("http://").to_owned();
    check(&["--memory", "--listen", &taken], 69, "cannot listen");
    let unreachable = Command::new(PROGRAM)
        .args(["list", "flags", "--address", "http://127.0.0.1:1"])
        .output()
        .unwrap();
    assert_eq!(code(&unreachable), 69);
}

#[test]
fn everything_that_is_wrong_with_settings_and_their_files_is_said_before_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, content: &str| std::fs::write(at(name), content).unwrap();
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env_remove("PHASEGATE_DATA").stdin(Stdio::null());
        command.envs(variables.iter().copied()).output().unwrap()
    };
    let file = at("settings.yaml");
    write("policy.yaml", "bindings:\n- everyone: true\n  roles: [king]\n");
    write("sinks.yaml", "sinks: {ops: {}}\n");
    write("cert.pem", "nothing\n");
    write(
        "settings.yaml",
        &format!(
            "memory: true\nlisten: 127.0.0.1:0\nkeep-events: 1m\npolicy: {}\nnotifications: {}\n\
             authentication: {}\ntls-cert: {cert}\ntls-key: {cert}\n",
            at("policy.yaml"),
            at("sinks.yaml"),
            at("none.yaml"),
            cert = at("cert.pem"),
        ),
    );
    let checked = run(&["config", "check"], &[("PHASEGATE_SERVER_CONFIG", &file)]);
    let said = text(&checked.stderr);
    assert_eq!(code(&checked), 78, "{said}");
    for part in ["king", "sinks.yaml", "none.yaml", "cert.pem", "keep-events must be"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }

    write("policy.yaml", "bindings:\n- everyone: true\n  roles: [viewer]\n");
    write(
        "settings.yaml",
        &format!("memory: true\nlisten: 127.0.0.1:0\npolicy: {}\n", at("policy.yaml")),
    );
    let variables = [("PHASEGATE_KEEP_EVENTS", "2d")];
    let checked = run(&["config", "check", "--config", &file], &variables);
    assert_eq!(code(&checked), 0, "{}", text(&checked.stderr));
    let shown = run(&["config", "show", "--config", &file, "--log", "error"], &variables);
    for line in
        ["memory: true  # ", "keep-events: 2d  # PHASEGATE_KEEP_EVENTS", "log: error  # --log"]
    {
        assert!(text(&shown.stdout).lines().any(|shown| shown.starts_with(line)), "{line}");
    }
    // What was checked is what a server starts with: its address is that of the file.
    let mut server = Command::new(PROGRAM);
    server.args(["serve", "--config", &file]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = server.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        line.starts_with("listening on http://127.0.0.1:") && !line.ends_with(":7433\n"),
        "{line}"
    );
}

#[test]
fn a_store_is_verified_exported_and_imported() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let server = Server::start(["--data", &at("a")]);
    let files = ["apply", "-f", "examples/week/pipeline.yaml", "-f", "examples/week/flag.yaml"];
    assert_eq!(code(&server.run(&files)), 0);
    let store =
        |arguments: &[&str]| Command::new(PROGRAM).arg("store").args(arguments).output().unwrap();
    assert_eq!(code(&store(&["verify", "--data", &at("a")])), 75, "the server has it");
    drop(server);
    let verified = store(&["verify", "--data", &at("a")]);
    assert_eq!(code(&verified), 0, "{}", text(&verified.stderr));
    assert!(text(&verified.stdout).starts_with("sound: "));
    assert_eq!(code(&store(&["export", "--data", &at("a"), "--to", &at("x.jsonl")])), 0);
    assert_eq!(code(&store(&["import", "--data", &at("b"), "--from", &at("x.jsonl")])), 0);
    let server = Server::start(["--data", &at("b")]);
    assert_eq!(code(&server.run(&["get", "flags/search.ranking"])), 0);
    drop(server);
    let whole = std::fs::read_to_string(at("x.jsonl")).unwrap();
    std::fs::write(at("cut.jsonl"), &whole[..whole.len() / 2]).unwrap();
    assert_eq!(code(&store(&["import", "--data", &at("c"), "--from", &at("cut.jsonl")])), 65);
}

#[test]
fn a_server_that_is_told_to_stop_stops_and_says_so_with_0() {
    let mut server = Server::rehearsal();
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let status = server.child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn what_cannot_be_sent_is_a_mistake_in_the_arguments() {
    for arguments in [["--address", "localhost:1"], ["--as", "J\u{fc}rgen"]] {
        let output = Command::new(PROGRAM).args(["list", "flags"]).args(arguments).output();
        // Refused before anything is connected to.
        let output = output.unwrap();
        assert_eq!(code(&output), 64, "{}", text(&output.stderr));
    }
}

#[test]
fn a_log_that_is_not_on_a_terminal_has_no_colours() {
    let mut child = Command::new(PROGRAM)
        .args(["serve", "--memory", "--listen", "127.0.0.1:0", "--log", "info"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(line.unwrap().unwrap().starts_with("listening on "));
    let log = text(&output.stderr);
    assert!(log.contains("INFO") && !log.contains('\u{1b}'), "{log}");
}

#[test]
fn the_demo_keeps_its_server_and_says_what_to_try() {
    let mut child = Command::new(PROGRAM)
        .arg("demo")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        said.push(line.unwrap());
        if said.last().is_some_and(|line| line.contains("docs/tutorial.md")) {
            break;
        }
    }
    let said = said.join("\n");
    for expected in ["until Ctrl-C", "release events", "phasegate.v1.ReleaseService/GetRelease"] {
        assert!(said.contains(expected), "no {expected:?} in\n{said}");
    }
    let (_, address) = said.split_once("PHASEGATE_ADDRESS=").unwrap();
    let address = address.split(' ').next().unwrap();
    let list = ["release", "list", "--state", "succeeded", "--address", address];
    let listed = Command::new(PROGRAM).args(list).output().unwrap();
    assert!(text(&listed.stdout).contains("newCheckout"), "{}", text(&listed.stderr));
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_audit_chain_is_exported_and_checked_without_a_server() {
    let server = Server::rehearsal();
    let apply = ["apply", "-f", "examples/quick/pipeline.yaml", "-f", "examples/quick/flag.yaml"];
    assert_eq!(code(&server.run(&apply)), 0);
    assert_eq!(code(&server.run(&["release", "pause", "nobody", "--as", "ann"])), 1);
    let directory = tempfile::tempdir().unwrap();
    let export = directory.path().join("audit.txt");
    let path = export.to_str().unwrap();
    assert_eq!(code(&server.run(&["audit", "export", path])), 0);
    assert_eq!(code(&server.run(&["audit", "export", path])), 74, "never over a file");
    let head = text(&server.run(&["audit", "head"]).stdout).trim().to_owned();
    let listed = text(&server.run(&["audit", "list", "--principal", "ann"]).stdout);
    assert!(listed.contains("refused: RESOURCE_NOT_FOUND"), "{listed}");
    drop(server);

    let verify = |arguments: &[&str]| {
        let output = Command::new(PROGRAM).args(["audit", "verify"]).args(arguments).output();
        let output = output.unwrap();
        (code(&output), text(&output.stdout) + &text(&output.stderr))
    };
    let (exit, said) = verify(&[path, "--head", &head]);
    assert_eq!((exit, said), (0, format!("holds up to {head}\n")));
    let (exit, said) = verify(&[path]);
    assert!(exit == 0 && said.contains("without --head"), "{exit} {said}");
    let whole = std::fs::read_to_string(&export).unwrap();
    let changed = directory.path().join("changed.txt");
    std::fs::write(&changed, whole.replacen("RESOURCE_NOT_FOUND", "RESOURCE_EXISTS", 1)).unwrap();
    let lines = whole.lines().count();
    let (exit, said) = verify(&[changed.to_str().unwrap()]);
    assert!(exit == 65 && said.contains(&format!("line {lines}: was changed")), "{exit} {said}");
    let shorter: String = whole.split_inclusive('\n').take(lines - 1).collect();
    std::fs::write(&changed, shorter).unwrap();
    let (exit, said) = verify(&[changed.to_str().unwrap(), "--head", &head]);
    assert!(exit == 65 && said.contains("its end is missing"), "{exit} {said}");
    assert_eq!(verify(&["/nowhere"]).0, 66);
    assert_eq!(verify(&[path, "--head", "x"]).0, 64);

    // As docs/audit.md says it is done with sha256sum.
    let script = "while read -r hash json; do \
        [ \"$(printf %s \"$json\" | sha256sum | cut -d' ' -f1)\" = \"$hash\" ] || exit 1; \
        done < \"$1\"";
    let checked = Command::new("bash").args(["-c", script, "check", path]).status().unwrap();
    assert!(checked.success());
}

/// Writes a file that nobody else can read.
fn secret(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn a_token_that_the_program_made_lets_in_who_has_it_and_nobody_else() {
    let new = ["token", "new", "deploy", "--groups", "ci,ops"];
    let made = Command::new(PROGRAM).args(new).output().unwrap();
    assert_eq!(code(&made), 0);
    let (token, entry) = (text(&made.stdout), text(&made.stderr));
    assert!(token.starts_with("pgt_") && !entry.contains(token.trim()), "{entry}");
    let folder = tempfile::tempdir().unwrap();
    let file = secret(&folder, "authentication.yaml", &entry);
    let file = file.to_str().unwrap();
    let policy = folder.path().join("policy.yaml");
    std::fs::write(&policy, "bindings: [{groups: [ci], roles: [viewer]}]\n").unwrap();
    let policy = ["--policy", policy.to_str().unwrap()];
    let server = Server::start([&["--memory", "--authentication", file][..], &policy].concat());
    // Who is known and may nothing is a mistake of the one who set it up.
    let alone = ["serve", "--memory", "--listen=127.0.0.1:0", "--authentication", file];
    let refused = Command::new(PROGRAM).args(alone).output().unwrap();
    assert!(code(&refused) == 78 && text(&refused.stderr).contains("--policy"), "{refused:?}");

    let refused = server.run(&["list", "flags"]);
    let said = text(&refused.stderr);
    assert!(
        code(&refused) == 1 && said.contains("next: ") && said.contains("--token-file"),
        "{said}"
    );
    let mut list = server.command(PROGRAM);
    let listed =
        list.args(["list", "flags"]).env("PHASEGATE_TOKEN", token.trim()).output().unwrap();
    assert_eq!((code(&listed), text(&listed.stdout)), (0, "no flags\n".to_owned()));
    let file = secret(&folder, "token", &token);
    let by_file = ["list", "flags", "--token-file", file.to_str().unwrap()];
    assert_eq!(code(&server.run(&by_file)), 0);
    let wrong = secret(&folder, "wrong", "pgt_wrong");
    assert_eq!(code(&server.run(&["list", "flags", "--token-file", wrong.to_str().unwrap()])), 1);
    // Not where others can read along, and not from a file that is not there.
    let elsewhere = ["--address", "http://gate.example", "--token-file", file.to_str().unwrap()];
    let refused = server.run(&[&["list", "flags"][..], &elsewhere].concat());
    assert!(code(&refused) == 64 && text(&refused.stderr).contains("https"), "{refused:?}");
}

#[test]
fn a_network_is_not_served_unless_it_is_guarded_or_said_in_full() {
    let serve = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--memory", "--listen", "0.0.0.0:0"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).output().unwrap()
    };
    let refused = serve(&[]);
    let said = text(&refused.stderr);
    assert_eq!(code(&refused), 78, "{said}");
    assert!(said.contains("--insecure-allow-plaintext-unauthenticated"), "{said}");
    assert_eq!(code(&serve(&["--tls-cert", "none.pem", "--tls-key", "none.key"])), 78);
    assert_eq!(code(&serve(&["--authentication", "none.yaml"])), 78);
}
