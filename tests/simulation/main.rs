//! A simulated world around the real engine, driver, watches and store code: clients that retry and
//! read stale things, a network that loses, repeats and overtakes, a disk that tears writes, clocks
//! that are stepped, processes that are killed. One seed decides everything, and every step is held
//! against the promises in `promises.rs`.
//!
//! ```text
//! cargo test -p phasegate-tests --test simulation                       some hundred seeds
//! SEEDS=10000 cargo test -p phasegate-tests --test simulation           as many as one likes
//! SEED=17 cargo test -p phasegate-tests --test simulation -- --nocapture    one again, told
//! ```
//!
//! A failure prints its seed, the shortest list of operations that was found to lead to it, and the
//! last commits; with `BRIEF=1` it only says which promise was broken.
//!
//! Deliberately absent: sockets, wire types and threads, which the end-to-end and crash tests have.

mod clock;
mod disk;
mod generator;
mod history;
mod minimise;
mod operation;
mod promises;
mod reached;
mod request;
mod run;
mod store;
mod watcher;
mod weather;
mod world;

use reached::Reached;
use run::Outcome;
use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// Seeds of a plain `cargo test`; enough to come through everything in the list of `reached.rs`.
const SEEDS: u64 = 600;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn every_promise_holds_whatever_happens() {
    if let Some(seed) = number("SEED") {
        return tell(seed);
    }
    let (first, seeds) = (number("FIRST").unwrap_or(1), number("SEEDS").unwrap_or(SEEDS));
    let begun = Instant::now();
    let next = AtomicU64::new(first);
    let total = Mutex::new((Reached::default(), 0, 0, 0));
    let failed: Mutex<Vec<(u64, Outcome)>> = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds || !failed.lock().expect("nobody panics").is_empty() {
                return;
            }
            let outcome = run::from_seed(seed);
            let mut total = total.lock().expect("nobody panics");
            total.0.add(&outcome.reached);
            total.1 += outcome.steps;
            total.2 += outcome.commits;
            total.3 += outcome.simulated_millis;
            if outcome.broken.is_some() {
                failed.lock().expect("nobody panics").push((seed, outcome));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut failed = failed.into_inner().expect("nobody panics");
    failed.sort_by_key(|(seed, _)| *seed);
    if let Some((seed, outcome)) = failed.first() {
        explain(*seed, outcome);
    }
    let (reached, steps, commits, millis) = total.into_inner().expect("nobody panics");
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds, {steps} steps, {commits} commits, {:.1} simulated years in {seconds:.1} s, \
         {:.0} steps a second",
        millis as f64 / (365.25 * 86_400_000.0),
        steps as f64 / seconds
    );
    let missing: Vec<_> =
        reached.counts().filter(|(_, count)| *count == 0).map(|(what, _)| what).collect();
    for (what, count) in reached.counts() {
        println!("{count:>9}  {what}");
    }
    if seeds >= SEEDS {
        assert!(missing.is_empty(), "never reached: {missing:#?}");
    }
}

/// Runs one seed and tells what happened.
fn tell(seed: u64) {
    let outcome = run::from_seed(seed);
    println!("SEED={seed} {:#?}", run::weather(seed));
    if outcome.broken.is_some() {
        explain(seed, &outcome);
    }
    for operation in &outcome.operations {
        println!("  {operation:?}");
    }
    println!("every promise held; trace {:016x}", outcome.trace);
}

/// Panics with the promise that was broken, and the shortest way there that was found.
fn explain(seed: u64, outcome: &Outcome) -> ! {
    let broken = outcome.broken.as_ref().expect("something was broken");
    let same = |outcome: &Outcome| {
        outcome.broken.as_ref().is_some_and(|other| other.promise == broken.promise)
    };
    if std::env::var_os("BRIEF").is_some() {
        panic!("SEED={seed} broke the promise {broken}");
    }
    let shortest = minimise::minimise(&outcome.operations, |operations| {
        same(&run::from_list(seed, operations))
    });
    let again = run::from_list(seed, &shortest);
    let broken = again.broken.as_ref().unwrap_or(broken);
    println!("SEED={seed} {:#?}", run::weather(seed));
    println!("{} operations, of which it takes these:", outcome.operations.len());
    for operation in &shortest {
        println!("  {operation:?}");
    }
    println!("The last commits:");
    for commit in &again.told {
        println!("  {commit}");
    }
    panic!("SEED={seed} broke the promise {broken}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 2, 3, 5, 8, 13, 21, 34] {
        let (one, other) = (run::from_seed(seed), run::from_seed(seed));
        assert_eq!(one.trace, other.trace, "SEED={seed}");
        let replayed = run::from_list(seed, &one.operations);
        assert_eq!(one.trace, replayed.trace, "SEED={seed}, replayed from its list");
    }
    assert_ne!(run::from_seed(1).trace, run::from_seed(2).trace);
}
