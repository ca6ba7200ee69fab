//! Load: workers that call one after the other, as fast as they are answered (a closed loop) or at a
//! given rate (an open one). Latencies are histograms. In an open loop a latency counts from when the
//! call was due, so that a server that stands still is not asked less and does not look better for it.

use crate::{
    pacer::Pacer,
    process::{Machine, Server},
};
use hdrhistogram::Histogram;
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tonic::Status;

/// Calls of one connection at a time; more go over more connections.
const CALLS_OF_A_CONNECTION: usize = 64;

/// How many connections so many calls at a time take.
pub(crate) fn connections(in_flight: usize) -> usize {
    in_flight.div_ceil(CALLS_OF_A_CONNECTION)
}

/// Somebody who calls.
pub(crate) trait Worker: Send + 'static {
    /// One call. An error ends the measurement.
    fn call(&mut self) -> impl Future<Output = Result<(), Status>> + Send;
}

/// How fast workers call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As fast as they are answered.
    Closed,
    /// So often in a second, all together.
    Open(f64),
}

/// How long a load goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Not measured: connections, caches, allocators.
    pub(crate) warm_up: Duration,
    /// Measured.
    pub(crate) measured: Duration,
}

/// What came of a load.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Calls that were answered in the time that was measured.
    pub(crate) calls: u64,
    /// That time.
    pub(crate) elapsed: Duration,
    /// Processor time of the server in it.
    pub(crate) cpu: Duration,
    /// Latencies in microseconds.
    pub(crate) latencies: Histogram<u64>,
    /// Which part of the machine the host took meanwhile.
    pub(crate) stolen: f64,
}

impl Outcome {
    pub(crate) fn per_second(&self) -> f64 {
        self.calls as f64 / self.elapsed.as_secs_f64()
    }

    /// Processor time of the server for a call, in microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.calls.max(1) as f64
    }

    /// A latency in milliseconds: of so many of a hundred calls.
    pub(crate) fn ms(&self, percentile: f64) -> f64 {
        self.latencies.value_at_percentile(percentile) as f64 / 1e3
    }
}

#[derive(Debug, Default)]
struct Shared {
    measuring: AtomicBool,
    stop: AtomicBool,
    calls: AtomicU64,
}

/// Latencies from a microsecond to a minute, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("these bounds are sound")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// Puts a load on a server.
pub(crate) async fn run<W: Worker>(
    server: &Server,
    workers: Vec<W>,
    pace: Pace,
    times: Times,
) -> Outcome {
    let shared = Arc::new(Shared::default());
    let pacer = match pace {
        Pace::Closed => None,
        Pace::Open(rate) => Some(Pacer::start(rate)),
    };
    let mut tasks = JoinSet::new();
    for worker in workers {
        tasks.spawn(work(worker, pacer.clone(), Arc::clone(&shared)));
    }
    tokio::time::sleep(times.warm_up).await;
    let (machine, cpu, since) = (Machine::now(), server.cpu(), Instant::now());
    shared.measuring.store(true, Ordering::Relaxed);
    tokio::time::sleep(times.measured).await;
    shared.measuring.store(false, Ordering::Relaxed);
    let calls = shared.calls.load(Ordering::Relaxed);
    let (elapsed, cpu) = (since.elapsed(), server.cpu() - cpu);
    let stolen = machine.stolen_since();
    shared.stop.store(true, Ordering::Relaxed);
    let mut latencies = histogram();
    while let Some(done) = tasks.join_next().await {
        let of_one = done.expect("no worker panics").unwrap_or_else(|status| panic!("{status:?}"));
        latencies.add(of_one).expect("all have the same bounds");
    }
    Outcome { calls, elapsed, cpu, latencies, stolen }
}

async fn work<W: Worker>(
    mut worker: W,
    pacer: Option<Arc<Pacer>>,
    shared: Arc<Shared>,
) -> Result<Histogram<u64>, Status> {
    let mut latencies = histogram();
    loop {
        let since = match &pacer {
            None => Instant::now(),
            Some(pacer) => pacer.next().await,
        };
        if shared.stop.load(Ordering::Relaxed) {
            return Ok(latencies);
        }
        worker.call().await?;
        if shared.measuring.load(Ordering::Relaxed) {
            shared.calls.fetch_add(1, Ordering::Relaxed);
            latencies.saturating_record(micros(since.elapsed()));
        }
    }
}
