//! The server over all its starts: one directory, one port.

use super::callers::Board;
use crate::process::{Server, program};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// It drains, and its port goes on answering meanwhile.
    Term,
    Kill,
}

/// Which process it is, for who looks from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Which {
    process: Arc<AtomicU32>,
    starts: Arc<AtomicUsize>,
}

impl Which {
    pub(crate) fn process(&self) -> u32 {
        self.process.load(Ordering::Relaxed)
    }

    /// How often it was started.
    pub(crate) fn starts(&self) -> usize {
        self.starts.load(Ordering::Relaxed)
    }

    fn is(&self, server: &Server) {
        self.process.store(server.id(), Ordering::Relaxed);
        self.starts.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(crate) struct Program {
    /// None while it is stopped.
    server: Option<Server>,
    address: String,
    data: PathBuf,
    pub(crate) which: Which,
}

impl Program {
    /// On a port that is free now.
    pub(crate) fn started(data: &Path) -> Self {
        let server = Server::phasegate(arguments(data));
        let address = server.address().trim_start_matches("http://").to_owned();
        let which = Which::default();
        which.is(&server);
        Self { server: Some(server), address, data: data.to_owned(), which }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        self.server.as_ref().map_or(0, |server| server.resident() >> 10)
    }

    /// Ends it, and waits until it is gone.
    pub(crate) async fn end(&mut self, signal: Signal) -> ExitStatus {
        let server = self.server.take().expect("it was started");
        let ended = tokio::task::spawn_blocking(move || match signal {
            Signal::Term => server.stop(),
            Signal::Kill => server.kill(),
        });
        ended.await.expect("it does not panic")
    }

    /// Starts it again where it was.
    pub(crate) async fn start(&mut self) {
        let (address, arguments) = (self.address.clone(), arguments(&self.data));
        let started =
            tokio::task::spawn_blocking(move || Server::phasegate_at(&address, arguments));
        let server = started.await.expect("it starts");
        self.which.is(&server);
        self.server = Some(server);
    }

    /// Restarts it at random moments, so many seconds apart as a mean, by both signals in turn. Says what
    /// exits are not as they should be.
    pub(crate) async fn restart_until(
        &mut self,
        until: Instant,
        every: f64,
        mut random: ChaCha8Rng,
        board: &Board,
    ) {
        for signal in [Signal::Term, Signal::Kill].into_iter().cycle() {
            let next =
                Instant::now() + Duration::from_secs_f64(every * random.random_range(0.5..1.5));
            // The last one is some time before the end.
            if every == 0.0 || next + Duration::from_secs_f64(every / 4.0) > until {
                break;
            }
            tokio::time::sleep_until(next.into()).await;
            let before = self.resident();
            board.minute().outages.begin();
            let begun = Instant::now();
            let status = self.end(signal).await;
            if signal == Signal::Term && !status.success() {
                board.wrong(format!("SIGTERM ended it with {status}"));
            }
            let ended = begun.elapsed();
            self.start().await;
            board.minute().outages.end();
            println!(
                "{signal:?}: gone after {:.1} s, back after {:.1} s more; RSS {:.1} MiB, then {:.1} MiB",
                ended.as_secs_f64(),
                (begun.elapsed() - ended).as_secs_f64(),
                before as f64 / 1024.0,
                self.resident() as f64 / 1024.0,
            );
        }
        tokio::time::sleep_until(until.into()).await;
    }
}

fn arguments(data: &Path) -> Vec<OsString> {
    // Longer than a soak: the log is read back at the end.
    vec!["--data".into(), data.into(), "--keep-events".into(), "30d".into()]
}

/// Runs the program for something else than to serve.
pub(crate) fn phasegate<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Output {
    let program = program();
    let output = Command::new(&program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}
