//! `phasegate top`.

use crate::{
    stage::{Stage, USUAL, looks, told},
    terminal::{Size, Terminal},
};

/// A flag, and a release of it that was triggered at its time.
fn release(stage: &Stage, name: &str, pipeline: &str) {
    let flag = format!("kind: Flag\nname: flags/{name}\npipeline: {pipeline}\nfeatureGate: {{}}\n");
    stage.done(&["apply", "-f", &stage.file("flag.yaml", &flag)]);
    let release =
        format!("kind: Release\nflag: flags/{name}\nfeatureGate: {{defaultValue: true}}\n");
    let file = stage.file("release.yaml", &release);
    stage.done(&["release", "trigger", "-f", &file, "--id", &format!("{name}-1"), "--as", "ann"]);
}

const PIPELINES: &str = "\
kind: Pipeline
name: pipelines/slow
phases: [{id: all, rules: [{id: all}], bakeDuration: 7200s}]
---
kind: Pipeline
name: pipelines/asks
phases: [{id: all, rules: [{id: all}], approval: {minApprovals: 1}}]
";

/// One that bakes, one that bakes longer, one that waits for an approval, one that is paused.
fn stage() -> Stage {
    let stage = Stage::baking();
    stage.done(&["apply", "-f", &stage.file("pipelines.yaml", PIPELINES)]);
    release(&stage, "a-slow", "pipelines/slow");
    release(&stage, "b-paused", "pipelines/slow");
    stage.done(&["clock", "advance", "6m"]);
    release(&stage, "c-asks", "pipelines/asks");
    let why = ["--as", "bob", "--reason", "latency looks odd"];
    stage.done(&[&["release", "pause", "b-paused-1"], &why[..]].concat());
    stage
}

/// The names on the screen, from the top.
fn names(screen: &str) -> Vec<String> {
    let rows = screen.lines().skip_while(|line| !line.contains("RELEASE")).skip(1);
    let names = rows.take_while(|line| !line.is_empty() && !line.contains("q quits"));
    names.filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned)).collect()
}

/// Waits until these are the names.
fn lists(terminal: &Terminal, expected: &[&str]) -> String {
    terminal.until(&expected.join(", "), |screen| {
        names(screen) == expected && screen.contains("q quits")
    })
}

/// The addresses of servers differ, and so do their lengths.
fn without_address(stage: &Stage, screen: &str) -> String {
    let address = &stage.server.address;
    screen.replace(address, &format!("{:width$}", "http://ADDRESS", width = address.len()))
}

const ORDER: [&str; 4] = ["c-asks-1", "checkout-7", "a-slow-1", "b-paused-1"];

#[test]
fn who_waits_for_a_person_comes_first_and_then_by_deadline() {
    let stage = stage();
    for (golden, size) in
        [("top", Size(12, 120)), ("top-usual", Size(24, 80)), ("top-narrow", Size(15, 60))]
    {
        let terminal = stage.terminal(size, &["top"]);
        let screen = lists(&terminal, &ORDER);
        looks(golden, &without_address(&stage, &screen));
    }
}

#[test]
fn the_board_moves_with_the_releases() {
    let stage = stage();
    let terminal = stage.terminal(USUAL, &["top"]);
    lists(&terminal, &ORDER);
    stage.done(&["release", "approve", "c-asks-1", "all", "--as", "bob"]);
    lists(&terminal, &ORDER[1..]);
    stage.done(&["clock", "advance", "24m"]);
    let screen = terminal.shows("1 await approval");
    assert_eq!(names(&screen), &ORDER[1..]);
}

#[test]
fn enter_shows_one_and_escape_goes_back() {
    let stage = stage();
    let mut terminal = stage.terminal(USUAL, &["top"]);
    lists(&terminal, &ORDER);
    terminal.press("\u{1b}[B\r");
    let screen = terminal.shows("Esc goes back");
    assert!(screen.starts_with("checkout-7  of flag checkout-v2"), "{screen}");
    stage.done(&["release", "pause", "checkout-7", "--as", "bob"]);
    terminal.shows("paused by bob");
    terminal.press("\u{1b}");
    lists(&terminal, &["c-asks-1", "a-slow-1", "b-paused-1", "checkout-7"]);
    terminal.press("q");
    let (status, _) = terminal.end();
    assert_eq!(status.code(), Some(0));
    assert!(!terminal.is_alternate() && !terminal.hides_cursor());
}

#[test]
fn a_server_that_is_away_keeps_nobody_from_looking_around() {
    let mut stage = stage();
    let mut terminal = stage.terminal(USUAL, &["top"]);
    lists(&terminal, &ORDER);
    stage.server.child.kill().unwrap();
    terminal.shows("connection lost");
    terminal.press("\u{1b}[B\r");
    let screen = terminal.shows("Esc goes back");
    assert!(screen.starts_with("checkout-7  of flag checkout-v2"), "{screen}");
    terminal.press("\u{1b}");
    lists(&terminal, &ORDER);
    terminal.press("q");
    assert_eq!(terminal.end().0.code(), Some(0));
}

#[test]
fn a_search_leaves_what_it_finds_and_escape_shows_all() {
    let stage = stage();
    let mut terminal = stage.terminal(USUAL, &["top"]);
    lists(&terminal, &ORDER);
    terminal.press("/PAUS");
    lists_found(&terminal, &["b-paused-1"]);
    terminal.press("\r");
    terminal.shows("/PAUS · ");
    terminal.press("\u{1b}");
    lists(&terminal, &ORDER);
    terminal.press("\u{3}");
    assert_eq!(terminal.end().0.code(), Some(0));
}

fn lists_found(terminal: &Terminal, expected: &[&str]) {
    terminal.until(&expected.join(", "), |screen| names(screen) == expected);
}

#[test]
fn a_long_list_scrolls() {
    let stage = Stage::empty();
    stage.done(&["apply", "-f", &stage.file("pipelines.yaml", PIPELINES)]);
    for n in 0..12 {
        release(&stage, &format!("f-{n:02}"), "pipelines/slow");
        stage.done(&["clock", "advance", "1s"]);
    }
    // Seven lines for the list.
    let terminal = stage.terminal(Size(12, 80), &["top"]);
    let at = |first: usize, place: &str| {
        let expected: Vec<String> = (first..first + 7).map(|n| format!("f-{n:02}-1")).collect();
        terminal.until(place, |screen| names(screen) == expected && screen.contains(place));
    };
    at(0, "1 of 12");
    terminal.press("\u{1b}[6~");
    at(1, "8 of 12");
    terminal.press("\u{1b}[F");
    at(5, "12 of 12");
    terminal.press("\u{1b}[A");
    at(5, "11 of 12");
    terminal.press("\u{1b}[5~");
    at(3, "4 of 12");
    terminal.press("\u{1b}[H");
    at(0, "1 of 12");
}

#[test]
fn a_pipe_gets_the_table_once() {
    let stage = stage();
    let (code, table, _) = told(&stage.run(&["top"]));
    assert_eq!((code, names(&table)), (0, ORDER.map(str::to_owned).to_vec()));
    assert!(!table.contains('\u{1b}'), "{table}");
    let (code, json, _) = told(&stage.run(&["top", "-o", "json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, json["releases"].as_array().map(Vec::len)), (0, Some(4)));
}
