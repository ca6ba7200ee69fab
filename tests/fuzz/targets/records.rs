//! Stores that somebody has been at: keys and values changed, removed, inserted, swapped.
//!
//! Opening, loading, verifying, reading, compacting and serving never panic and never hang. Damage is
//! called damage; what a checksum covers is never taken for sound; whatever `verify` finds nothing in
//! can be loaded, served and compacted.

use crate::{
    audit,
    input::{Input, Seed},
    server::{Condition, STORE, Server, call},
    world::{self, Entries, WORLD},
};
use phasegate_api::v1::{self, release_service_server::ReleaseService as _};
use phasegate_engine::{
    id::{ReleaseId, Revision},
    time::{Span, Timestamp},
};
use phasegate_server::{
    driver::OpenError,
    store::{
        Compaction, CompactionProgress, Error, LogQuery, Order, Store as _, Verified,
        memory::{self, MemoryStore},
    },
};
use std::ops::Bound;

/// Changes of one input.
const CHANGES_MAX: usize = 32;

/// The target.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut entries = WORLD.entries.clone();
    for _ in 0..CHANGES_MAX {
        let Some(kind) = input.byte() else { break };
        change(&mut entries, kind, &mut input);
    }
    check(&entries);
}

/// The entry that a number stands for.
fn entry(entries: &Entries, number: usize) -> Option<(Vec<u8>, Vec<u8>)> {
    let number = number.checked_rem(entries.len())?;
    entries.iter().nth(number).map(|(key, value)| (key.clone(), value.clone()))
}

fn change(entries: &mut Entries, kind: u8, input: &mut Input<'_>) {
    let number = input.number().unwrap_or_default();
    let Some((mut key, mut value)) = entry(entries, number) else { return };
    match kind % 8 {
        0..=2 => {
            input.edit(&mut value);
            entries.insert(key, value);
        }
        3 => {
            entries.remove(&key);
        }
        4 => {
            entries.remove(&key);
            input.edit(&mut key);
            entries.insert(key, value);
        }
        5 => {
            let other = entry(entries, input.number().unwrap_or_default());
            let (other, theirs) = other.expect("there is one, at least the first");
            entries.insert(key, theirs);
            entries.insert(other, value);
        }
        6 => {
            input.edit(&mut key);
            entries.insert(key, value);
        }
        _ => {
            let key = input.bytes().unwrap_or_default().to_vec();
            entries.insert(key, input.bytes().unwrap_or_default().to_vec());
        }
    }
}

fn check(entries: &Entries) {
    let mut store = match memory::open(&world::disk(entries.clone()), STORE) {
        Ok(store) => store,
        Err(error) => return told(&error),
    };
    let verified = store.verify();
    let sound = verified.as_ref().is_ok_and(|verified| verified.findings.is_empty());
    let loaded = store.load();
    if let Err(error) = &verified {
        told(error);
    }
    if let Err(error) = &loaded {
        told(error);
        assert!(!sound, "verify finds nothing, and yet: {error}");
    }
    if let Some(key) = broken_checksum(entries) {
        assert!(!sound, "verify does not see that {} is broken", key.escape_ascii());
        let is_log = key.starts_with(b"log/");
        assert!(is_log || loaded.is_err(), "load takes {} as it is", key.escape_ascii());
    }
    read_log(&mut store, verified.as_ref().ok().filter(|_| sound));
    compact(store, sound);
    serve(entries, sound);
}

/// What is wrong is that the store is damaged, or of another version.
fn told(error: &Error) {
    assert!(matches!(error, Error::Damaged(_) | Error::Format { .. }), "{error:?}");
    assert!(error.to_string().len() > 20, "{error}");
}

/// A key whose value is not what its checksum says: one of the last batch, or a long one of which a
/// part was changed and the beginning, with the checksum, was not.
fn broken_checksum(entries: &Entries) -> Option<&[u8]> {
    let same = |key: &[u8]| entries.get(key) == WORLD.entries.get(key);
    if same(b"meta/head") {
        let broken = WORLD.last_batch.iter().find(|key| !same(key));
        if let Some(key) = broken {
            return Some(key);
        }
    }
    let mut long = WORLD.entries.iter().filter(|(_, value)| value.first() == Some(&0xc1));
    long.find_map(|(key, _)| {
        let (first, last) = ([&key[..], &[0]].concat(), [&key[..], &[1]].concat());
        let range = (Bound::Included(first), Bound::Excluded(last));
        let mut parts = WORLD.entries.range(range).map(|(key, _)| key);
        (same(key) && parts.any(|part| !same(part))).then_some(&key[..])
    })
}

fn read_log(store: &mut MemoryStore, sound: Option<&Verified>) {
    let releases = ["baking", "window", "done"].map(|id| ReleaseId::parse(id).ok());
    for release in releases.into_iter().chain([None]) {
        for order in [Order::OldestFirst, Order::NewestFirst] {
            for limit in [1, usize::MAX] {
                let (after, up_to) = (Revision::ZERO, Revision::new(1 << 53));
                let query = LogQuery { after, up_to, release: release.clone(), order, limit };
                match (store.changes(&query), sound) {
                    (Ok(changes), Some(sound)) if limit > 1 && release.is_none() => {
                        assert_eq!(changes.len(), sound.counts.changes);
                    }
                    (Ok(_), _) => {}
                    (Err(error), None) => told(&error),
                    (Err(error), Some(_)) => panic!("verify finds nothing, and yet: {error}"),
                }
            }
        }
    }
}

/// Removes all that may go, some at a time.
fn compact(mut store: MemoryStore, sound: bool) {
    let limits =
        Compaction { changes_before: Timestamp::MAX, requests_before: Timestamp::MAX, most: 7 };
    for _ in 0..WORLD.entries.len() {
        match store.compact(&limits) {
            Ok(compacted) if compacted.progress == CompactionProgress::Done => {
                if sound {
                    let verified = store.verify().expect("it could be read before");
                    assert_eq!(verified.findings, [], "after a compaction");
                    assert_eq!((verified.counts.changes, verified.counts.requests), (0, 0));
                }
                return;
            }
            Ok(_) => {}
            Err(error) => {
                told(&error);
                assert!(!sound, "verify finds nothing, and yet: {error}");
                return;
            }
        }
    }
    panic!("a compaction never ends");
}

/// Starts a server on it, and does something with everything.
fn serve(entries: &Entries, sound: bool) {
    let condition = if sound { Condition::Sound } else { Condition::Damaged };
    let mut server = match Server::start(&world::disk(entries.clone()), WORLD.now, condition) {
        Ok(server) => server,
        Err(error) => {
            assert!(!sound, "verify finds nothing, and yet: {error}");
            match error {
                OpenError::Store(error) => told(&error),
                OpenError::Inconsistent(problem) => assert!(!problem.is_empty()),
                OpenError::Thread(_) => panic!("{error:?}"),
            }
            return;
        }
    };
    audit::usable(&server.state());
    use_releases(&mut server);
    server.advance(Span::from_millis(3 * Span::DAY.as_millis()));
    audit::usable(&server.state());
    for newest_first in [false, true] {
        let parent = "releases/-".into();
        let list = v1::ListReleaseEventsRequest { parent, newest_first, ..Default::default() };
        let _ = call!(server, list_release_events, list, 0);
    }
}

fn use_releases(server: &mut Server) {
    let state = server.state();
    for release in state.all_unfinished() {
        let name = || format!("releases/{}", release.id());
        let phase = release.current().and_then(|phase| release.phases().get(phase.get()));
        let phase_id = || phase.map(|phase| phase.id.to_string()).unwrap_or_default();
        let reason = || "because".to_owned();
        let pause = v1::PauseReleaseRequest { name: name(), ..Default::default() };
        let _ = call!(server, pause_release, pause, 0);
        let unpause = v1::UnpauseReleaseRequest { name: name(), ..Default::default() };
        let _ = call!(server, unpause_release, unpause, 0);
        let approve =
            v1::ApprovePhaseRequest { name: name(), phase_id: phase_id(), ..Default::default() };
        let _ = call!(server, approve_phase, approve, 1);
        for guard in phase.iter().flat_map(|phase| &phase.guards) {
            let signal = v1::ReportGuardSignalRequest {
                name: name(),
                phase_id: phase_id(),
                guard_id: guard.id.to_string(),
                verdict: v1::GuardVerdict::Pass.into(),
                ..Default::default()
            };
            let _ = call!(server, report_guard_signal, signal, 0);
        }
        let skip = v1::SkipPhaseRequest {
            name: name(),
            phase_id: phase_id(),
            bypass_approval: true,
            reason: reason(),
            ..Default::default()
        };
        let _ = call!(server, skip_phase, skip, 0);
    }
}

/// One change of every kind to something of every kind.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = vec![("untouched".to_owned(), Vec::new())];
    let mut kinds: Vec<Vec<u8>> = Vec::new();
    for (number, key) in WORLD.entries.keys().enumerate() {
        let kind = match key.iter().position(|byte| *byte == b'/') {
            Some(slash) if key.starts_with(b"meta") => key[..].split_at(slash + 2).0.to_vec(),
            Some(slash) => key[..slash].to_vec(),
            None => key.clone(),
        };
        if kinds.contains(&kind) {
            continue;
        }
        let name = kind.escape_ascii().to_string().replace('/', "-");
        kinds.push(kind);
        let change = |kind: u8| Seed::default().byte(kind).number(number);
        let seed = |what: &str, seed: Seed| (format!("{name}-{what}"), seed.0);
        seeds.push(seed("edit", change(0).byte(0).number(30).byte(0x7f)));
        seeds.push(seed("overwrite", change(0).byte(5).number(9).bytes(&[0xcf; 9])));
        seeds.push(seed("remove", change(3)));
        seeds.push(seed("rename", change(4).byte(0).number(12).byte(b'x')));
        seeds.push(seed("swap", change(5).number(number + 1)));
        seeds.push(seed("copy", change(6).byte(1).number(20).byte(0)));
    }
    // A letter in what only a checksum covers: the last batch, and the parts of a long value.
    for (number, (key, value)) in WORLD.entries.iter().enumerate() {
        let text: &[u8] = if WORLD.last_batch.contains(key) { b"The last" } else { b"country-" };
        let part = key.ends_with(&[0, 0, 1]);
        let Some(at) = value.windows(text.len()).position(|here| here == text) else { continue };
        if part || WORLD.last_batch.contains(key) {
            let letter = Seed::default().byte(0).number(number).byte(0).number(at).byte(b'x');
            seeds.push((format!("letter-{number}"), letter.0));
        }
    }
    let strange = Seed::default().byte(7).number(0).bytes(b"flag/new").bytes(&[0x80]);
    seeds.push(("strange".to_owned(), strange.0));
    seeds
}
