//! Runs the corpus of every target, and random mutations of it.
//!
//! `SEED=` replays the mutations of a run, `MUTATIONS=` makes more of them.

use fuzz_targets::{TARGETS, Target};
use rand::{RngExt as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use std::{
    collections::BTreeMap,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

/// Inputs of a target that are made up in a plain run: some seconds for all targets.
const MUTATIONS: usize = 50;
/// The longest input: what the fuzzer is told too.
const BYTES_MAX: usize = 16 << 10;

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("the name is one of the table")
}

fn folder(target: &Target) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "corpus", target.name].iter().collect()
}

/// The corpus by file name. With `UPDATE=1` the seeds are written to it first.
fn corpus(target: &Target) -> BTreeMap<String, Vec<u8>> {
    let folder = folder(target);
    if env::var_os("UPDATE").is_some() {
        fs::create_dir_all(&folder).expect("the folder can be made");
        for (name, bytes) in (target.seeds)() {
            fs::write(folder.join(format!("seed-{name}")), bytes).expect("a seed can be written");
        }
    }
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        (name, fs::read(&path).expect("a file of the corpus can be read"))
    };
    entries.map(read).collect()
}

/// Runs an input; if it fails, says which it was.
fn run(target: &Target, what: &str, input: &[u8]) {
    let ran = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    if ran.is_err() {
        panic!("{target:?} fails with {what}:\n{}", input.escape_ascii());
    }
}

fn replay(name: &str) {
    let target = target(name);
    let corpus = corpus(target);
    assert!(corpus.len() > 10, "the corpus of {name} is gone");
    for (file, input) in &corpus {
        assert!(input.len() <= BYTES_MAX, "{file} is too long");
        run(target, file, input);
    }
}

fn mutate(name: &str) {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse().expect("a number"));
    let seed: u64 = number("SEED").unwrap_or_else(rand::random);
    let mutations = number("MUTATIONS").and_then(|n| usize::try_from(n).ok()).unwrap_or(MUTATIONS);
    println!("SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let target = target(name);
    let corpus: Vec<Vec<u8>> = corpus(target).into_values().collect();
    for n in 0..mutations {
        let mut input = corpus.choose(&mut random).expect("there is a corpus").clone();
        for _ in 0..random.random_range(1..6) {
            change(&mut input, &corpus, &mut random);
        }
        input.truncate(BYTES_MAX);
        run(target, &format!("mutation {n} of SEED={seed}"), &input);
    }
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut ChaCha8Rng) {
    let at = random.random_range(0..=input.len());
    match random.random_range(0..6) {
        0 => input.insert(at, random.random()),
        1 => input.truncate(at),
        2 => {
            // The end of another.
            let other = corpus.choose(random).expect("there is a corpus");
            let from = random.random_range(0..=other.len());
            input.truncate(at);
            input.extend(&other[from..]);
        }
        3 => {
            let end = random.random_range(at..=input.len());
            input.drain(at..end);
        }
        _ => match input.get_mut(at) {
            Some(byte) => *byte ^= 1 << random.random_range(0..8),
            None => input.push(random.random()),
        },
    }
}

macro_rules! targets {
    ($($module:ident),*) => {
        $(mod $module {
            #[test]
            fn the_corpus_finds_nothing() {
                super::replay(stringify!($module));
            }

            #[test]
            fn random_mutations_find_nothing() {
                super::mutate(stringify!($module));
            }
        })*

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$(stringify!($module)),*];
            let all: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(all, replayed);
        }
    };
}

targets!(requests, tokens, records, exports, documents, answers, pages, chain, credentials);
