//! Durable actions: beside the same server without a disk, beside etcd, and, without gRPC, beside sled
//! alone.

use crate::{
    Round,
    in_process::InProcess,
    load::{self, Outcome, Pace, Times},
    process::Server,
    reference::{etcd, store},
    subject,
    table::Results,
};
use std::{
    ffi::OsString,
    path::Path,
    time::{Duration, Instant},
};

/// As many bytes as an action writes under the release's own key, and as the prototypes put.
const PUT_BYTES: usize = 500;
/// Calls in a second, of an open loop.
const RATE: f64 = 1000.0;

fn on_disk(directory: &Path) -> [OsString; 2] {
    ["--data".into(), directory.as_os_str().to_owned()]
}

async fn act(server: &Server, in_flight: usize, first: usize, pace: Pace, times: Times) -> Outcome {
    load::run(server, subject::actors(server, in_flight, first).await, pace, times).await
}

/// One round of everything.
pub(crate) async fn round(round: &Round, results: &mut Results) {
    let times = round.times;
    let disk = Server::phasegate(on_disk(&round.directory("store")));
    let memory = Server::phasegate(["--memory"]);
    let bare = Server::bare(round.samples());
    let etcd = Server::etcd(&round.directory("etcd"));
    subject::fill(&disk, 700).await;
    subject::fill(&memory, 700).await;

    // Each load has releases of its own: none is left paused for another.
    let mut first = 0;
    for in_flight in [64, 256] {
        let ours = act(&disk, in_flight, first, Pace::Closed, times).await;
        let without = act(&memory, in_flight, first, Pace::Closed, times).await;
        first += in_flight;
        report(&format!("actions, {in_flight} in flight, durable"), &ours);
        report(&format!("actions, {in_flight} in flight, in memory"), &without);
        let id = format!("actions/{in_flight}");
        results.add(&format!("{id}/no-disk"), ours.per_second(), without.per_second());
        if let Some(etcd) = &etcd {
            let putters = etcd::putters(etcd, in_flight, PUT_BYTES).await;
            let theirs = load::run(etcd, putters, Pace::Closed, times).await;
            report(&format!("puts of etcd, {in_flight} in flight"), &theirs);
            results.add(&format!("{id}/etcd"), ours.per_second(), theirs.per_second());
            results.add(&format!("{id}/cpu"), ours.cpu_us(), theirs.cpu_us());
        }
    }

    let ours = act(&disk, 1, first, Pace::Closed, times).await;
    let echo = load::run(&bare, subject::readers(&bare, 1).await, Pace::Closed, times).await;
    let (over, longer) = store::fdatasync(round.scratch.path(), 200);
    report("actions, 1 in flight", &ours);
    println!(
        "  fdatasync: {over:.0?} over blocks that are there, {longer:.0?} when the file grows"
    );
    let reference = echo.ms(50.0) + 2.0 * over.as_secs_f64() * 1e3;
    results.add("actions/1/echo", ours.ms(50.0), reference);
    if let Some(etcd) = &etcd {
        let theirs = load::run(etcd, etcd::putters(etcd, 1, PUT_BYTES).await, Pace::Closed, times);
        let theirs = theirs.await;
        report("puts of etcd, 1 in flight", &theirs);
        results.add("actions/1/etcd", ours.ms(50.0), theirs.ms(50.0));
    }

    first += 1;
    // Above the 99th percentile are only twenty of the calls of 2 s: four times as long.
    let times = Times { measured: 4 * times.measured, ..times };
    let ours = act(&disk, 64, first, Pace::Open(RATE), times).await;
    report(&format!("actions, {RATE}/s"), &ours);
    if let Some(etcd) = &etcd {
        let putters = etcd::putters(etcd, 64, PUT_BYTES).await;
        let theirs = load::run(etcd, putters, Pace::Open(RATE), times).await;
        report(&format!("puts of etcd, {RATE}/s"), &theirs);
        results.add("actions/open/p99", ours.ms(99.0), theirs.ms(99.0));
    }
}

/// One line of all that is known of a load.
pub(crate) fn report(what: &str, outcome: &Outcome) {
    println!(
        "  {what}: {:.0}/s, {:.1} us of the server's CPU each, p50 {:.2} p90 {:.2} p99 {:.2} p99.9 {:.2} max {:.1} ms, {:.1}% stolen",
        outcome.per_second(),
        outcome.cpu_us(),
        outcome.ms(50.0),
        outcome.ms(90.0),
        outcome.ms(99.0),
        outcome.ms(99.9),
        outcome.ms(100.0),
        outcome.stolen * 100.0
    );
}

/// One round of the committer: the writer of the server with a store on disk, in process, fed with
/// batches of 64 calls; and sled alone, given the very batches that the writer gives it, each followed by
/// an `fdatasync`.
pub(crate) fn committer(round: &Round, results: &mut Results) {
    const BATCH: usize = 64;
    let mut ours = InProcess::on_disk(&round.directory("committer"));
    ours.fill(BATCH);
    let ours = rate(BATCH, round.times.measured, || ours.act(BATCH));

    let (mut recorded, tape) = InProcess::recorded();
    recorded.fill(BATCH);
    let bare = store::Bare::open(&round.directory("sled"));
    tape.take().into_iter().for_each(|batch| bare.write(batch));
    // Made before it is measured: about as many as it takes.
    let mut batches = Vec::new();
    while batches.len() < 500 * round.times.measured.as_secs() as usize {
        recorded.act(BATCH);
        batches.extend(tape.take());
    }
    let (begun, count) = (Instant::now(), batches.len());
    batches.into_iter().for_each(|batch| bare.write(batch));
    let theirs = (count * BATCH) as f64 / begun.elapsed().as_secs_f64();
    results.add("committer/64", ours, theirs);
}

/// The writer alone, in batches of so many: commits in a second.
pub(crate) fn turn(directory: Option<&Path>, batch: usize, time: Duration) -> f64 {
    let mut writer = match directory {
        Some(directory) => InProcess::on_disk(directory),
        None => InProcess::in_memory(),
    };
    writer.fill(batch);
    rate(batch, time, || writer.act(batch))
}

fn rate(of_a_call: usize, time: Duration, mut call: impl FnMut()) -> f64 {
    call();
    let (begun, mut calls) = (Instant::now(), 0);
    while begun.elapsed() < time {
        call();
        calls += 1;
    }
    (calls * of_a_call) as f64 / begun.elapsed().as_secs_f64()
}
