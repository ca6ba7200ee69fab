//! Very many timers that are due at once: how long it takes until all are through, and what becomes of reads
//! meanwhile.

use crate::{
    Round,
    actions::report,
    in_process::InProcess,
    load::{self, Outcome, Pace, Times},
    process::Server,
    reference::store,
    scale::{before, now, serve},
    subject,
    table::Results,
};
use phasegate_api::v1::{self, release_service_client::ReleaseServiceClient};
use phasegate_engine::time::{Span, Timestamp};
use std::{
    fs,
    process::{self, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const TIMERS: usize = 100_000;
/// Of the reads beside a storm: as many in a second as leave most of the machine to it.
const READS: Pace = Pace::Open(2000.0);

/// A server whose timers are all due at one moment.
struct Storm {
    server: Server,
    due: Timestamp,
}

/// What came of it.
struct Passed {
    reads: Outcome,
    /// From when they were due until the last was seen.
    seconds: f64,
}

impl Storm {
    fn brewing(round: &Round) -> Self {
        let directory = round.directory("storm");
        // Late enough that the store is made, the server has started, and reads were measured before.
        let due = now() + Span::from_secs(90);
        let mut store = InProcess::on_disk_at(&directory, before(due));
        store.fill(TIMERS);
        drop(store);
        Self { server: serve(&directory), due }
    }

    async fn reads(&self, times: Times) -> Outcome {
        load::run(&self.server, subject::readers(&self.server, 8).await, READS, times).await
    }

    /// Reads while nothing is due.
    async fn reads_before(&self, round: &Round) -> Outcome {
        self.reads(Times { warm_up: Duration::from_secs(1), measured: round.times.measured }).await
    }

    /// Waits for it, and reads until it is over.
    async fn pass(self) -> Passed {
        let left = self.due.since(now()).as_millis();
        assert!(left > 500, "the storm began before everything was ready: {left} ms left");
        let mut client = ReleaseServiceClient::new(self.server.connect().await)
            .max_decoding_message_size(16 << 20);
        let watched = client.watch_releases(v1::WatchReleasesRequest::default()).await;
        let mut watched = watched.expect("it opens").into_inner();
        let counting = tokio::spawn(async move {
            let (mut fired, mut first) = (0, None);
            while fired < TIMERS {
                let message = watched.message().await.expect("it goes on").expect("it goes on");
                let moved = message.changes.iter().filter(|change| {
                    change.release.as_ref().is_some_and(|r| r.current_phase_id == "everyone")
                });
                fired += moved.count();
                if fired > 0 {
                    first.get_or_insert_with(now);
                }
            }
            (first.expect("some have fired"), now())
        });
        let warm_up = Duration::from_millis(left.unsigned_abs());
        let reads = self.reads(Times { warm_up, measured: Duration::from_millis(2500) }).await;
        let (first, last) = counting.await.expect("it goes well");
        let seconds = last.since(self.due).as_millis() as f64 / 1e3;
        println!(
            "  storm: the first after {} ms, the last after {seconds:.2} s: {:.0}/s",
            first.since(self.due).as_millis(),
            TIMERS as f64 / seconds
        );
        report("reads in the storm", &reads);
        Passed { reads, seconds }
    }
}

/// A thread that does nothing but run: what is measured beside it says what the scheduler alone does.
struct Busy {
    stop: Arc<AtomicBool>,
}

impl Busy {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || while !stopped.load(Ordering::Relaxed) {});
        Self { stop }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One round: a storm as it is.
pub(crate) async fn round(round: &Round, results: &mut Results) {
    let storm = Storm::brewing(round);
    let before = storm.reads_before(round).await;
    report("reads before the storm", &before);
    let busy = {
        let _busy = [Busy::start(), Busy::start()];
        storm.reads_before(round).await
    };
    report("reads before the storm, beside two threads that only run", &busy);
    let Passed { reads, seconds } = storm.pass().await;
    let bare = store::updates_a_second(&round.directory("sled"), 1024, 500, round.times.measured);
    results.add("storm/rate", TIMERS as f64 / seconds, bare);
    results.alone("storm/seconds", seconds);
    results.add("storm/reads/p99", reads.ms(99.0), before.ms(99.0));
    results.add("storm/reads/busy", reads.ms(99.0), busy.ms(99.0));
}

/// Who does not wait for a processor that another thread has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// Those that call.
    Callers,
    /// And, right after them, those of the server that answer.
    CallersAndAnswers,
}

/// In the first round only: storms in which some threads run before all others, which tells what of a read's
/// time is that of the server and what is waiting for a processor. Left out where that is not allowed.
pub(crate) async fn precedence(round: &Round, results: &mut Results) {
    if round.number > 1 {
        return;
    }
    for (first, id) in
        [(First::Callers, "callers"), (First::CallersAndAnswers, "callers-and-answers")]
    {
        let storm = Storm::brewing(round);
        let Some(_given) = Given::to(first, &storm.server) else {
            println!("  no thread may run before others here: those rows are left out");
            return;
        };
        let before = storm.reads_before(round).await;
        report(&format!("reads before the storm, first: {first:?}"), &before);
        let Passed { reads, .. } = storm.pass().await;
        results.add(&format!("storm/reads/{id}"), reads.ms(99.0), before.ms(99.0));
    }
}

/// Precedence that is given; taken back when it is dropped. Of the server's it ends with the server.
struct Given;

impl Given {
    fn to(first: First, server: &Server) -> Option<Self> {
        // Taken back too if some got it and some did not.
        let given = Self;
        if !chrt(&["--fifo", "--all-tasks", "--pid", "10", &process::id().to_string()]) {
            return None;
        }
        if first == First::CallersAndAnswers {
            for thread in workers(server) {
                assert!(chrt(&["--fifo", "--pid", "9", &thread]), "it was just allowed");
            }
        }
        Some(given)
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        chrt(&["--other", "--all-tasks", "--pid", "0", &process::id().to_string()]);
    }
}

/// Whether it is there, and may do it.
fn chrt(arguments: &[&str]) -> bool {
    Command::new("chrt").args(arguments).output().is_ok_and(|output| output.status.success())
}

/// The threads of a server on which its calls are answered.
fn workers(server: &Server) -> Vec<String> {
    let threads = format!("/proc/{}/task", server.id());
    let threads = fs::read_dir(threads).expect("it runs").flatten();
    let workers = threads.filter(|thread| {
        let name = fs::read_to_string(thread.path().join("comm"));
        name.is_ok_and(|name| name.starts_with("tokio-rt-worker"))
    });
    let workers: Vec<String> =
        workers.map(|thread| thread.file_name().to_string_lossy().into_owned()).collect();
    assert!(!workers.is_empty(), "the runtime calls them so");
    workers
}
