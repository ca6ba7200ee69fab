//! The state machine as it is told: stories in `*.txt`, tables in `tables/*.txt`.
//!
//! A story is a list of blocks with a blank line between them. A block is commands, `----`, and what
//! came of them; a block without `----` only sets the scene, and everything in it must be accepted.
//! `== Title` begins a new chapter with an empty store; what stands before the first title is set up
//! anew for each chapter. `UPDATE=1 cargo test -p phasegate-engine --test scenarios` writes what
//! comes of the commands into the stories: read the difference before you keep it. Tables are never
//! written by the machine; it copies them into `docs/state-machine.md`.
//!
//! Times count from a Monday, 00:00 UTC. Before a call is judged the timers of its flag that are due
//! are committed, as the server does it.
//!
//! ```text
//! pipeline web                                     a pipeline; its phases stand below it, indented
//!   exempt staging
//!   phase half: 2 approvals expire 1h quota oncall 1 by oncall dev self allowed;
//!     window MON-FRI 09:00-17:00 UTC; blackout 1d..2d; guard errors fails must pass within 7s; bake 10m
//! flag checkout off along web                      a flag, its settled spec, its pipeline
//! 10m ann(oncall dev) approve r1 half because ok   time, caller (and groups), call, reason
//! 10m clock                                        time goes by: every timer fires at its deadline
//! 10m wake                                         as after a restart: what is due fires now
//! 10m wake holding over 1h                         the same, with a limit to trust
//! 10m fire r1 generation 3                         one timer, perhaps a stale one
//! 10m show r1                                      times, reviews and verdicts
//! ```
//!
//! Each event is one line: time of the commit, release, event, phase, who, what they said. `=>` is
//! the release after the commit: where it stands, its phases (`+` applied, `!` bypassed), who sees
//! the change, and its timer with its generation. A rule of a phase names one environment, which has
//! the name of the phase.

#[path = "../invariants/mod.rs"]
mod invariants;
mod script;
mod table;
mod told;
mod world;

use std::{fs, path::PathBuf};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

fn texts(folder: &PathBuf) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(folder).expect("the folder is part of the repository");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_story_goes_as_it_is_told() {
    let mut differences = String::new();
    let stories = texts(&folder());
    assert!(stories.len() >= 14, "the stories are gone");
    for (path, expected) in stories {
        let actual = told::tell(&path, &expected);
        if actual == expected {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, actual).unwrap();
        } else {
            differences += &told::difference(&path, &expected, &actual);
        }
    }
    assert!(differences.is_empty(), "{differences}\n(UPDATE=1 rewrites the stories)");
}

#[test]
fn every_cell_of_every_table_holds() {
    let tables = texts(&folder().join("tables"));
    assert_eq!(tables.len(), 5, "tables A to E");
    let wrong: Vec<String> =
        tables.iter().flat_map(|(path, text)| table::wrong_cells(path, text)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reference_shows_the_tables() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/state-machine.md");
    let reference = fs::read_to_string(&path).unwrap();
    let mut shown = reference.clone();
    for (table, text) in texts(&folder().join("tables")) {
        let letter = &table.file_stem().unwrap().to_str().unwrap()[..1];
        let begin = format!("<!-- table {letter} -->\n");
        let (before, rest) = shown.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
        let (_, after) = rest.split_once("<!-- end -->").expect("the table ends");
        shown = format!("{before}{begin}{}<!-- end -->{after}", table::as_markdown(&text));
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, shown).unwrap();
    } else {
        assert_eq!(reference, shown, "UPDATE=1 writes the tables into docs/state-machine.md");
    }
}
