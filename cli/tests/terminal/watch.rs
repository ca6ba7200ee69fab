//! `phasegate release watch`.

use crate::{
    process::Server,
    stage::{Stage, USUAL, looks, told},
    terminal::Size,
};
use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

const WATCH: [&str; 3] = ["release", "watch", "checkout-7"];

/// The screen that shows this text, as a whole.
fn check(stage: &Stage, size: Size, awaited: &str, golden: &str) {
    let terminal = stage.terminal(size, &WATCH);
    let screen = terminal.until(awaited, |screen| {
        // The foot is drawn last.
        screen.contains(awaited) && screen.contains("the release goes on")
    });
    looks(golden, &screen);
}

#[test]
fn a_bake_is_shown_with_its_bar_and_its_end() {
    let stage = Stage::baking();
    stage.done(&["clock", "advance", "10m"]);
    check(&stage, USUAL, "20 min left", "baking");
}

#[test]
fn approvals_are_shown_with_who_gave_them_and_whose_are_missing() {
    let stage = Stage::baking();
    stage.done(&["clock", "advance", "30m"]);
    let approve = ["release", "approve", "checkout-7", "prod-eu", "--as", "bob"];
    stage.done(&[&approve[..], &["--reason", "numbers look fine"]].concat());
    check(&stage, USUAL, "approved by bob", "approvals");
}

#[test]
fn a_pause_is_shown_with_who_and_why_and_what_is_left() {
    let stage = Stage::baking();
    stage.done(&["clock", "advance", "10m"]);
    let why = ["--reason", "latency looks odd", "--as", "bob"];
    stage.done(&[&["release", "pause", "checkout-7"], &why[..]].concat());
    stage.done(&["clock", "advance", "5m"]);
    check(&stage, USUAL, "5 min ago", "paused");
}

#[test]
fn a_guard_that_failed_is_shown_with_what_it_saw() {
    let stage = Stage::baking();
    let signal = ["release", "signal", "checkout-7", "canary", "error-rate", "fail"];
    stage.done(&[&signal[..], &["--reason", "5 % of all calls", "--as", "monitor"]].concat());
    check(&stage, USUAL, "FAILS", "guard-failed");
}

#[test]
fn a_window_is_shown_with_its_next_opening() {
    let stage = Stage::baking();
    stage.done(&["release", "skip", "checkout-7", "canary", "--as", "ann"]);
    let skip = ["release", "skip", "checkout-7", "prod-eu", "--bypass-approval", "--as", "ann"];
    stage.done(&[&skip[..], &["--reason", "hotfix"]].concat());
    check(&stage, USUAL, "awaiting window", "window");
}

#[test]
fn a_narrow_terminal_shows_what_matters() {
    let stage = Stage::baking();
    check(&stage, Size(15, 60), "30 min left", "narrow");
}

#[test]
fn what_is_done_elsewhere_is_drawn_in_place() {
    let stage = Stage::baking();
    let terminal = stage.terminal(USUAL, &WATCH);
    terminal.shows("30 min left");
    stage.done(&["clock", "advance", "20m"]);
    // Nothing happened to the release; the clock of a rehearsal is asked.
    terminal.shows("10 min left");
    stage.done(&["release", "pause", "checkout-7", "--as", "bob"]);
    let screen = terminal.shows("paused by bob");
    assert_eq!(screen.matches("checkout-v2").count(), 1, "drawn once:\n{screen}");
    assert!(terminal.is_alternate() && terminal.has_colours());
}

#[test]
fn a_window_of_another_size_is_drawn_anew() {
    let stage = Stage::baking();
    let terminal = stage.terminal(USUAL, &WATCH);
    terminal.shows("30 min left");
    terminal.resize(Size(18, 64));
    let screen = terminal.until("the new size", |screen| {
        let lines: Vec<&str> = screen.lines().collect();
        lines.len() == 18
            && lines[0].contains("of flag")
            && lines[17].contains("the release goes on")
    });
    looks("resized", &screen);
}

#[test]
fn what_was_last_seen_stays_when_the_release_is_over() {
    let stage = Stage::baking();
    let mut terminal = stage.terminal(USUAL, &WATCH);
    terminal.shows("30 min left");
    let abort = ["release", "abort", "checkout-7", "--as", "bob", "--reason", "enough"];
    stage.done(&abort);
    let (status, screen) = terminal.end();
    assert_eq!(status.code(), Some(0), "over is what was waited for");
    assert!(!terminal.is_alternate() && !terminal.hides_cursor());
    looks("over", &screen);
}

#[test]
fn a_goal_ends_the_view_with_its_exit_code() {
    let until = |goal| [&WATCH[..], &["--until", goal]].concat();
    let stage = Stage::baking();
    let mut approval = stage.terminal(USUAL, &until("awaiting-approval"));
    let mut succeeded = stage.terminal(USUAL, &until("succeeded"));
    approval.shows("30 min left");
    succeeded.shows("30 min left");
    stage.done(&["clock", "advance", "30m"]);
    let (status, screen) = approval.end();
    assert_eq!(status.code(), Some(0), "{screen}");
    succeeded.shows("awaiting approval");
    stage.done(&["release", "abort", "checkout-7", "--reason", "enough"]);
    let (status, screen) = succeeded.end();
    assert_eq!(status.code(), Some(3), "{screen}");
    assert!(screen.contains("did not get to be succeeded"), "{screen}");
    let bounded = [&until("over")[..], &["--timeout", "1ms"]].concat();
    let stage = Stage::baking();
    let (status, screen) = stage.terminal(USUAL, &bounded).end();
    assert_eq!(status.code(), Some(4), "{screen}");
    assert!(screen.contains("stopped after 1 ms"), "{screen}");
}

#[test]
fn ctrl_c_and_signals_give_the_terminal_back_and_exit_with_130() {
    let stage = Stage::baking();
    let stops: [fn(&crate::terminal::Terminal); 4] = [
        |terminal| terminal.press("\u{3}"),
        |terminal| terminal.press("q"),
        |terminal| terminal.signal("-TERM"),
        |terminal| terminal.signal("-INT"),
    ];
    for stop in stops {
        let mut terminal = stage.terminal(USUAL, &WATCH);
        terminal.shows("30 min left");
        terminal.is_taken();
        stop(&terminal);
        let (status, screen) = terminal.end();
        assert_eq!(status.code(), Some(130), "{screen}");
        assert!(!terminal.is_alternate() && !terminal.hides_cursor());
        assert!(screen.starts_with("checkout-7  of flag checkout-v2"), "{screen}");
    }
}

#[test]
fn a_release_that_is_not_there_is_said_on_a_terminal_that_was_not_taken() {
    let stage = Stage::empty();
    let mut terminal = stage.terminal(USUAL, &WATCH);
    let (status, screen) = terminal.end();
    assert_eq!(status.code(), Some(1));
    assert!(screen.contains("[RESOURCE_NOT_FOUND]"), "{screen}");
    assert!(!terminal.written().contains("\u{1b}[?1049h"));
}

#[test]
fn a_server_that_was_away_is_shown_to_be_lost_and_back() {
    let mut stage = Stage::durable();
    let terminal = stage.terminal(USUAL, &WATCH);
    terminal.shows("30 min left");
    let listen = stage.server.address.trim_start_matches("http://").to_owned();
    stage.server.child.kill().unwrap();
    stage.server.child.wait().unwrap();
    terminal.shows("connection lost, trying again");
    let data = stage.folder.path().join("data").to_str().unwrap().to_owned();
    let clock = ["--clock", "manual", "--clock-start", "2030-06-14T18:00:00Z"];
    stage.server = Server::start_at(&listen, [&["--data", &data], &clock[..]].concat());
    let screen = terminal.shows("connected again, nothing was missed");
    assert!(screen.contains("30 min left"), "{screen}");
    stage.done(&["release", "pause", "checkout-7", "--as", "bob"]);
    let screen = terminal.shows("paused by bob");
    assert!(screen.contains("connected ·"), "{screen}");
}

#[test]
fn a_bake_counts_down_without_a_message() {
    let stage = Stage { server: Server::start(["--memory"]), ..Stage::empty() };
    stage.trigger();
    let terminal = stage.terminal(USUAL, &WATCH);
    let left = |screen: &str| -> Option<String> {
        let line = screen.lines().find(|line| line.contains("% "))?;
        Some(line.split_once('%')?.1.to_owned())
    };
    let first = terminal.until("a countdown", |screen| left(screen).is_some());
    let second = terminal.until("another second", |screen| left(screen) != left(&first));
    terminal.until("and another", |screen| ![left(&first), left(&second)].contains(&left(screen)));
}

#[test]
fn no_color_and_dumb_terminals_are_respected() {
    let stage = Stage::baking();
    let colour = |text: &str| {
        let mut codes = text.split("\u{1b}[").skip(1).filter_map(|rest| rest.split_once('m'));
        codes.any(|(codes, _)| {
            let mut codes = codes.split(';').filter_map(|code| code.parse::<u8>().ok());
            codes.any(|code| matches!(code, 30..=38 | 40..=48 | 90..=107))
        })
    };
    for (arguments, environment) in [
        (&WATCH[..], &[("NO_COLOR", "1")][..]),
        (&[&WATCH[..], &["--color", "never"]].concat(), &[]),
    ] {
        let terminal = stage.terminal_with(USUAL, arguments, environment);
        terminal.shows("30 min left");
        assert!(!colour(&terminal.written()), "{:?}", terminal.written());
    }
    let lines = stage.terminal_with(USUAL, &WATCH, &[("TERM", "dumb")]);
    lines.shows("baking in canary");
    assert!(!lines.written().contains('\u{1b}'), "{:?}", lines.written());
    let list = ["release", "list"];
    let coloured = stage.command(&list).env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(colour(&told(&coloured).1));
    assert!(!told(&stage.run(&list)).1.contains('\u{1b}'), "a pipe has no colours");
    let mut on_terminal = stage.terminal(USUAL, &list);
    on_terminal.end();
    assert!(on_terminal.has_colours());
}

/// The lines that a watch prints to a pipe until the release is over.
fn piped(arguments: &[&str]) -> Vec<String> {
    let stage = Stage::baking();
    let mut command = stage.command(&[&WATCH[..], arguments].concat());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut printed = vec![lines.next().unwrap()];
    stage.done(&["release", "pause", "checkout-7", "--as", "bob"]);
    stage.done(&["release", "unpause", "checkout-7", "--as", "bob"]);
    let abort = ["release", "abort", "checkout-7", "--as", "bob", "--reason", "enough"];
    stage.done(&abort);
    printed.extend(lines);
    assert!(child.wait().unwrap().success());
    printed
}

#[test]
fn a_pipe_gets_one_line_an_event() {
    looks("piped", &(piped(&[]).join("\n") + "\n"));
}

#[test]
fn json_is_one_line_a_change() {
    let changes: Vec<serde_json::Value> =
        piped(&["-o", "json"]).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let states: Vec<&str> =
        changes.iter().map(|change| change["release"]["state"].as_str().unwrap()).collect();
    let expected = ["BAKING", "PAUSED", "BAKING", "ABORTED"];
    assert_eq!(states, expected.map(|state| format!("RELEASE_STATE_{state}")));
    assert!(changes[1..].iter().all(|change| change["events"][0]["actor"]["principal"] == "bob"));
}
