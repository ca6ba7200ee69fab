//! Exports of the audit chain that somebody has been at.
//!
//! Checking one never panics. One that holds up to the head that was kept has every byte up to there
//! as it was written.

use crate::{
    input::{Input, Seed},
    server::STORE,
    world::WORLD,
};
use phasegate_server::store::{
    AuditQuery, Order, Store as _,
    audit::{AuditHash, AuditHead},
    chain::{self, Error},
    memory,
};
use std::sync::LazyLock;

/// Changes of one input.
const CHANGES_MAX: usize = 16;

struct Export {
    lines: Vec<Vec<u8>>,
    head: AuditHead,
}

static EXPORT: LazyLock<Export> = LazyLock::new(|| {
    let mut store = memory::open(&WORLD.disk(), STORE).expect("the store opens");
    let query =
        AuditQuery { after: 0, up_to: u64::MAX, order: Order::OldestFirst, limit: usize::MAX };
    let entries = store.audit(&query).expect("the chain is whole");
    let line = |entry| {
        let mut line = Vec::new();
        chain::write(entry, &mut line).expect("a Vec takes everything");
        line
    };
    let head = entries.last().expect("the world came to be by calls").head();
    Export { lines: entries.iter().map(line).collect(), head }
});

/// The target.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut lines = EXPORT.lines.clone();
    for _ in 0..CHANGES_MAX {
        let Some(kind) = input.byte() else { break };
        change(&mut lines, kind, &mut input);
    }
    check(&lines.concat());
}

fn change(lines: &mut Vec<Vec<u8>>, kind: u8, input: &mut Input<'_>) {
    if lines.is_empty() {
        return;
    }
    let at = input.number().unwrap_or_default() % lines.len();
    match kind % 7 {
        0 => drop(input.edit(&mut lines[at])),
        1 => drop(lines.remove(at)),
        2 => lines.insert(at, lines[at].clone()),
        3 => {
            let other = input.number().unwrap_or_default() % lines.len();
            lines.swap(at, other);
        }
        4 => lines.truncate(at),
        5 => lines.insert(at, input.bytes().unwrap_or_default().to_vec()),
        _ => reseal(&mut lines[at], input),
    }
}

/// Changes an entry and makes its hash good, as a forger would.
fn reseal(line: &mut Vec<u8>, input: &mut Input<'_>) {
    let mut json = line.get(65..).unwrap_or_default().to_vec();
    json.retain(|byte| *byte != b'\n');
    input.edit(&mut json);
    *line = format!("{} ", AuditHash::of(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
}

fn check(text: &[u8]) {
    let whole = EXPORT.lines.concat();
    match chain::verify(&mut &*text, AuditHead::EMPTY, Some(EXPORT.head)) {
        Ok(end) => {
            assert!(text.starts_with(&whole), "it was changed, and nobody saw it");
            assert!(end.sequence >= EXPORT.head.sequence);
        }
        Err(Error::Read(error)) => panic!("a slice cannot fail: {error}"),
        Err(error @ (Error::Line { .. } | Error::EndMissing { .. })) => {
            assert!(!error.to_string().is_empty());
            assert!(!text.starts_with(&whole) || text.len() > whole.len(), "{error}");
        }
    }
    // Without a head an end that is missing is not seen, and that is all.
    if let Ok(end) = chain::verify(&mut &*text, AuditHead::EMPTY, None) {
        let lines = text.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(end.sequence, lines as u64);
    }
}

/// One change of every kind.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let change = |kind: u8| Seed::default().byte(kind).number(3);
    let seed = |name: &str, seed: Seed| (name.to_owned(), seed.0);
    vec![
        seed("untouched", Seed::default()),
        seed("edit", change(0).byte(0).number(80).byte(b'x')),
        seed("remove", change(1)),
        seed("twice", change(2)),
        seed("swap", change(3).number(5)),
        seed("end", change(4)),
        seed("insert", change(5).bytes(b"no entry\n")),
        seed("forge", change(6).byte(0).number(20).byte(b'1')),
        seed("beginning", Seed::default().byte(1).number(0)),
        seed("nothing", Seed::default().byte(4).number(0)),
        seed("moved", Seed::default().byte(1).number(1).byte(2).number(2)),
        seed("forge-first", Seed::default().byte(6).number(0).byte(0).number(20).byte(b'1')),
    ]
}
