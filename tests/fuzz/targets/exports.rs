//! Exports that somebody has edited.
//!
//! An import never panics. Without a new checksum nothing but the original is taken. What is taken is
//! sound: it loads, it can be served, and its own export says the same.

use crate::{
    input::{Input, Seed},
    server::{Condition, Server},
    world::WORLD,
};
use phasegate_engine::State;
use phasegate_server::store::{
    Store as _, StoreId,
    memory::{self, Disk, MemoryStore},
    tools::{self, Error},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The identity of imported stores.
const IMPORTED: StoreId = StoreId(Uuid::from_u128(0x1395));

/// Changes of one input.
const CHANGES_MAX: usize = 32;

/// What becomes of the last line after the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seal {
    /// It stays.
    Kept,
    /// It says what is there now.
    Made,
}

/// The target.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let seal = if input.byte().is_some_and(|byte| byte & 1 == 1) { Seal::Made } else { Seal::Kept };
    let mut lines: Vec<Vec<u8>> =
        WORLD.export.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    if seal == Seal::Made {
        lines.pop();
    }
    for _ in 0..CHANGES_MAX {
        let Some(kind) = input.byte() else { break };
        change(&mut lines, kind, &mut input);
    }
    let mut text = lines.concat();
    if seal == Seal::Made {
        let count = text.iter().filter(|byte| **byte == b'\n').count();
        let sum: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        text.extend(format!("{{\"end\":{{\"lines\":{count},\"sha256\":\"{sum}\"}}}}\n").bytes());
    }
    check(&text, seal);
}

fn change(lines: &mut Vec<Vec<u8>>, kind: u8, input: &mut Input<'_>) {
    let mut line = || Some(input.number()? % lines.len().max(1));
    let Some(at) = line().filter(|at| *at < lines.len()) else { return };
    match kind % 6 {
        0..=1 => drop(input.edit(&mut lines[at])),
        2 => drop(lines.remove(at)),
        3 => lines.insert(at, lines[at].clone()),
        4 => {
            let other = input.number().unwrap_or_default() % lines.len();
            lines.swap(at, other);
        }
        _ => lines.insert(at, input.bytes().unwrap_or_default().to_vec()),
    }
}

fn import(text: &[u8]) -> Result<(Disk, MemoryStore), Error> {
    let disk = Disk::new();
    let mut store = memory::open(&disk, IMPORTED).expect("a new store opens");
    let verified = tools::import_into(&mut store, &mut &*text, WORLD.now, &mut |_| {})?;
    assert_eq!(verified.findings, []);
    Ok((disk, store))
}

fn state(store: &mut MemoryStore) -> State {
    store.load().expect("what was verified loads").state
}

fn check(text: &[u8], seal: Seal) {
    let (disk, mut store) = match import(text) {
        Ok(imported) => imported,
        Err(error) => {
            assert!(text != WORLD.export, "our own export is refused: {error}");
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(seal == Seal::Made || text == WORLD.export, "it was changed, and nobody saw it");
    let mut export = Vec::new();
    let again = tools::export_from(&mut store, &mut export, &mut |_| {});
    again.expect("a sound store can be exported");
    let (_, mut again) = import(&export).expect("our own export");
    assert!(state(&mut again) == state(&mut store), "another store after another export");
    if let Err(error) = Server::start(&disk, WORLD.now, Condition::Sound) {
        panic!("imported, and yet: {error}");
    }
}

/// One change of every kind to lines of every kind.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for seal in [0, 1] {
        let begin = || Seed::default().byte(seal);
        seeds.push((format!("{seal}-untouched"), begin().0));
        let text = String::from_utf8_lossy(&WORLD.export);
        let mut kinds: Vec<&str> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let kind = line.split('"').nth(1).unwrap_or_default();
            if kinds.contains(&kind) {
                continue;
            }
            kinds.push(kind);
            let digit = line.bytes().position(|byte| byte.is_ascii_digit()).unwrap_or_default();
            let change = |kind: u8| begin().byte(kind).number(number);
            let seed = |what: &str, seed: Seed| (format!("{seal}-{kind}-{what}"), seed.0);
            seeds.push(seed("edit", change(0).byte(0).number(digit).byte(b'9')));
            seeds.push(seed("remove", change(2)));
            seeds.push(seed("double", change(3)));
            seeds.push(seed("swap", change(4).number(number + 1)));
        }
    }
    seeds
}
