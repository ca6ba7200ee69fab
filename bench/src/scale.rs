//! Many releases, each with a timer: how long a start takes, what a release costs in memory and on disk,
//! how late timers are, and how all that grows.

use crate::{
    Round,
    actions::report,
    in_process::InProcess,
    load::{self, Pace, Times, histogram},
    process::Server,
    reference::store,
    subject,
    table::Results,
};
use phasegate_api::v1::{self, release_service_client::ReleaseServiceClient};
use phasegate_engine::time::{Span, Timestamp};
use phasegate_server::clock::{Clock as _, SystemClock};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Of the phase that bakes: shorter than events are kept, or there would be something to remove meanwhile.
const BAKE: Span = Span::from_secs(5 * 24 * 3600);

pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// When a phase was applied that bakes until then.
pub(crate) fn before(due: Timestamp) -> Timestamp {
    Timestamp::from_millis(due.as_millis() - BAKE.as_millis())
}

pub(crate) fn serve(directory: &Path) -> Server {
    let limit = ["--flag-set-limit", "none"].map(OsStr::new);
    Server::phasegate([limit[0], limit[1], "--data".as_ref(), directory.as_os_str()])
}

fn bytes_of(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("it is there").flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Where a store with so many releases is kept.
fn kept(round: &Round, releases: usize) -> PathBuf {
    round.kept.join(format!("releases-{releases}"))
}

/// A store with so many releases whose timers are due in days, made once and kept for later rounds.
fn store_of(round: &Round, releases: usize) -> PathBuf {
    let directory = kept(round, releases);
    if !directory.exists() {
        let making = round.kept.join("making");
        let _ = fs::remove_dir_all(&making);
        let begun = Instant::now();
        InProcess::on_disk(&making).fill(releases);
        println!("  a store of {releases} releases was made in {:.1?}", begun.elapsed());
        fs::rename(&making, &directory).expect("both are ours");
    }
    directory
}

/// One round: starts, memory and disk with a million releases.
pub(crate) async fn start(round: &Round, results: &mut Results) {
    const RELEASES: usize = 1_000_000;
    // What was done in earlier rounds takes memory and disk too: requests, and the log.
    let is_fresh = !kept(round, RELEASES).exists();
    let directory = store_of(round, RELEASES);
    let empty = serve(&round.directory("empty"));
    let resident_empty = empty.resident();
    drop(empty);

    let floor = store::scan(&directory);
    let begun = Instant::now();
    let server = serve(&directory);
    let clean = begun.elapsed();
    let resident = server.resident() - resident_empty;
    results.add("start/clean", clean.as_secs_f64(), floor.as_secs_f64());
    results.alone("start/clean/seconds", clean.as_secs_f64());
    if is_fresh {
        results.alone("memory/release", resident as f64 / RELEASES as f64);
        results.alone("disk/release", bytes_of(&directory) as f64 / RELEASES as f64);
    }

    // Killed while it writes.
    let workers = subject::actors(&server, 64, round.number * 1000).await;
    let times = Times { warm_up: Duration::from_millis(500), measured: round.times.measured };
    let outcome = load::run(&server, workers, Pace::Closed, times).await;
    report("actions among a million releases", &outcome);
    server.kill();
    let begun = Instant::now();
    let server = serve(&directory);
    results.alone("start/killed/seconds", begun.elapsed().as_secs_f64());
    server.stop();
}

/// One round: how late timers are, with nothing else to do and beside as many actions as go.
pub(crate) async fn lateness(round: &Round, results: &mut Results) {
    const TIMERS: usize = 500;
    const ACTORS: usize = 64;
    for busy in [false, true] {
        let directory = round.directory("timers");
        // One is due every 20 ms, from some seconds on.
        let first = now() + Span::from_secs(4);
        let due = |n: usize| Timestamp::from_millis(first.as_millis() + 20 * n as i64);
        let mut store = InProcess::on_disk_at(&directory, before(first));
        store.fill_at(TIMERS, |n| before(due(n)));
        // And some that move meanwhile.
        store.fill_more(TIMERS, ACTORS);
        drop(store);
        let server = serve(&directory);
        let actors = subject::actors(&server, ACTORS, TIMERS).await;
        let mut acting = JoinSet::new();
        if busy {
            for mut actor in actors {
                acting.spawn(async move { while load::Worker::call(&mut actor).await.is_ok() {} });
            }
        }
        let mut late = histogram();
        let mut client = ReleaseServiceClient::new(server.connect().await);
        let watched = client.watch_releases(v1::WatchReleasesRequest::default()).await;
        let mut watched = watched.expect("it opens").into_inner();
        let mut fired = 0;
        while fired < TIMERS {
            let message = watched.message().await.expect("it goes on").expect("it goes on");
            let at = now();
            for change in message.changes {
                let release = change.release.expect("a change has its release");
                let n: usize = release.name["releases/r-".len()..].parse().expect("as it was made");
                if n < TIMERS && release.current_phase_id == "everyone" {
                    let late_by = at.since(due(n)).as_millis();
                    assert!(late_by >= 0, "{} is early by {late_by} ms", release.name);
                    late.saturating_record((late_by * 1000).max(1).unsigned_abs());
                    fired += 1;
                }
            }
        }
        acting.shutdown().await;
        let ms = |percentile| late.value_at_percentile(percentile) as f64 / 1e3;
        let state = if busy { "busy" } else { "idle" };
        println!(
            "  timers, {state}: late by p50 {} p90 {} p99 {} max {} ms",
            ms(50.0),
            ms(90.0),
            ms(99.0),
            ms(100.0)
        );
        results.alone(&format!("timers/{state}/p99"), ms(99.0));
        results.alone(&format!("timers/{state}/max"), ms(100.0));
    }
}

/// One round: a log of half a million commits, all of them too old to keep, is removed beside as many actions
/// as go.
pub(crate) async fn compaction(round: &Round, results: &mut Results) {
    const RELEASES: usize = 1000;
    let directory = round.directory("log");
    let month = Span::from_secs(30 * 24 * 3600);
    let long_ago = Timestamp::from_millis(now().as_millis() - month.as_millis());
    let mut store = InProcess::on_disk_at(&directory, long_ago);
    store.fill(RELEASES);
    // Once more than evenly: all are paused then, and none is held at the start because it is late by weeks.
    for _ in 0..=round.commits / RELEASES {
        store.act(RELEASES);
    }
    drop(store);
    results.alone("compaction/disk", bytes_of(&directory) as f64 / 1e6);
    let begun = Instant::now();
    let server = serve(&directory);
    println!("  a log of {} commits: started in {:.2?}", round.commits, begun.elapsed());
    let resident = server.resident();
    let mut client = ReleaseServiceClient::new(server.connect().await);
    let meanwhile = act_beside(&server, round.times).await;
    let newest = i64::try_from(round.commits).expect("it is not that much");
    loop {
        let list = v1::ListReleaseEventsRequest {
            parent: "releases/-".into(),
            page_size: 1,
            after_revision: newest,
            ..Default::default()
        };
        match client.list_release_events(list).await {
            Ok(listed) if listed.get_ref().oldest_revision < newest => {}
            Ok(_) => break,
            // It begins after what was asked for.
            Err(status) if status.code() == tonic::Code::OutOfRange => break,
            Err(status) => panic!("the log is not there: {status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    results.alone("compaction/seconds", begun.elapsed().as_secs_f64());
    let after = act_beside(&server, round.times).await;
    report("actions while the log is cut", &meanwhile);
    report("actions after that", &after);
    results.add("compaction/actions", meanwhile.per_second(), after.per_second());
    results.add("compaction/p99", meanwhile.ms(99.0), after.ms(99.0));
    results.alone("compaction/grown", server.resident().saturating_sub(resident) as f64 / 1e6);
}

async fn act_beside(server: &Server, times: Times) -> load::Outcome {
    load::run(server, subject::actors(server, 64, 0).await, Pace::Closed, times).await
}

/// How cost grows with the number of releases.
pub(crate) async fn growth(round: &Round, results: &mut Results) {
    let empty = serve(&round.directory("empty"));
    let resident_empty = empty.resident();
    drop(empty);
    for releases in [1_000, 10_000, 100_000, 1_000_000] {
        let directory = store_of(round, releases);
        let begun = Instant::now();
        let server = serve(&directory);
        let started = begun.elapsed();
        let resident = server.resident().saturating_sub(resident_empty);
        let first = (round.number * 128) % (releases - 100);
        let workers = subject::actors(&server, 64, first).await;
        let outcome = load::run(&server, workers, Pace::Closed, round.times).await;
        report(&format!("actions among {releases} releases"), &outcome);
        // Those that were left paused go on, for the next round.
        let id = format!("growth/{releases}");
        results.alone(&format!("{id}/start"), started.as_secs_f64());
        results.alone(&format!("{id}/resident"), resident as f64 / 1e6);
        results.alone(&format!("{id}/disk"), bytes_of(&directory) as f64 / 1e6);
        results.alone(&format!("{id}/actions"), outcome.per_second());
        results.alone(&format!("{id}/cpu"), outcome.cpu_us());
        results.alone(&format!("{id}/p99"), outcome.ms(99.0));
        server.stop();
    }
}

/// Actions on one release without a request id, minute after minute: nothing is kept of them but events, of
/// which a part is in memory, and the audit.
pub(crate) async fn resident(minutes: u32, rate: f64, directory: &Path) {
    fs::create_dir_all(directory).expect("the directory can be made");
    let scratch = tempfile::Builder::new().prefix("resident-").tempdir_in(directory);
    let scratch = scratch.expect("the directory can be written");
    let server = serve(&scratch.path().join("data"));
    subject::fill(&server, 1).await;
    let mut actions = 0;
    for minute in 1..=minutes {
        let workers = subject::adjusters(&server, 16).await;
        let times = Times { warm_up: Duration::ZERO, measured: Duration::from_secs(60) };
        let outcome = load::run(&server, workers, Pace::Open(rate), times).await;
        actions += outcome.calls;
        println!(
            "minute {minute}: {actions} actions, {:.1} MiB resident, {:.1} MiB on disk, p99 {:.2} ms",
            server.resident() as f64 / f64::from(1 << 20),
            bytes_of(&scratch.path().join("data")) as f64 / f64::from(1 << 20),
            outcome.ms(99.0)
        );
    }
    server.stop();
}
