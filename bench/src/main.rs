//! Phasegate measured beside what it is built of, and beside etcd.
//!
//! A figure alone says more about the machine than about the program, and this machine may be shared. So
//! each is taken in rounds, in each round beside its reference, and what is shown is the ratio. The
//! server is always a process of its own: its processor time and its memory are its own.
//! `bench/run` builds what is needed and runs all of it.

mod actions;
mod fanout;
mod in_process;
mod load;
mod pacer;
mod process;
mod reads;
mod reference;
mod scale;
mod soak;
mod storm;
mod subject;
mod table;
mod watch;

use clap::{Parser, Subcommand, ValueEnum};
use load::Times;
use reference::bare::{self, Samples};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use table::Results;

/// That of the program: what is measured in this process, and the references, are to have the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(about = "Measures Phasegate beside what it is built of")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures, prints each figure as it is taken, and keeps them with those of earlier runs
    Measure {
        /// What to measure; everything, if nothing is named
        parts: Vec<Part>,
        /// How often
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Seconds that a load is measured for
        #[arg(long, default_value_t = 4)]
        seconds: u64,
        /// Commits of the log that is cut
        #[arg(long, default_value_t = 500_000)]
        commits: usize,
        /// Where figures are kept
        #[arg(long, default_value = "target/bench/results.json")]
        results: PathBuf,
    },
    /// Prints the table of all that is kept, or writes it into a document, between its marks
    Table {
        /// Where figures are kept
        #[arg(long, default_value = "target/bench/results.json")]
        results: PathBuf,
        /// The document
        #[arg(long)]
        write: Option<PathBuf>,
    },
    /// Puts mixed load on the program for a long time, restarts it, and checks what is left
    Soak(soak::Soak),
    /// Has the program act so that nothing is kept of it but events and the audit, and prints its memory
    Resident {
        /// How long
        #[arg(long, default_value_t = 10)]
        minutes: u32,
        /// Actions a second
        #[arg(long, default_value_t = 1000.0)]
        rate: f64,
        /// Where the data directory is made
        #[arg(long, default_value = "target/bench")]
        directory: PathBuf,
    },
    /// Turns the writer alone, in this process, for a profiler to look at
    Commit {
        /// Actions in a batch
        #[arg(long, default_value_t = 64)]
        batch: usize,
        /// Of the store; without one it is kept in memory
        directory: Option<PathBuf>,
        /// For so long
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Serves as a reference: gRPC with nothing behind it
    #[command(hide = true)]
    Bare,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Actions,
    Committer,
    Reads,
    Watch,
    Paced,
    Memory,
    Start,
    Lateness,
    Storm,
    Precedence,
    Watchers,
    Compaction,
    Growth,
}

/// What all measurements share.
#[derive(Debug)]
struct Round {
    /// From one on.
    number: usize,
    times: Times,
    /// Of the log that is cut.
    commits: usize,
    /// For stores that take long to make.
    kept: PathBuf,
    /// For stores, and for what references read.
    scratch: tempfile::TempDir,
}

impl Round {
    /// A directory for one store; it is gone with the round.
    fn directory(&self, name: &str) -> PathBuf {
        let directory = self.scratch.path().join(name);
        if directory.exists() {
            fs::remove_dir_all(&directory).expect("it is ours");
        }
        directory
    }

    fn samples(&self) -> &Path {
        self.scratch.path()
    }
}

fn main() {
    // As the server does. Where the kernel knows of none, there is nothing to refuse.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    match Arguments::parse().command {
        Command::Bare => runtime.block_on(bare::serve()),
        Command::Commit { batch, directory, seconds } => {
            let rate = actions::turn(directory.as_deref(), batch, Duration::from_secs(seconds));
            println!("{rate:.0} commits/s");
        }
        Command::Soak(soak) => runtime.block_on(soak::run(soak)),
        Command::Resident { minutes, rate, directory } => {
            runtime.block_on(scale::resident(minutes, rate, &directory));
        }
        Command::Measure { parts, rounds, seconds, commits, results } => {
            let parts = if parts.is_empty() { Part::value_variants().to_vec() } else { parts };
            let measured = Duration::from_secs(seconds);
            runtime.block_on(measure(&parts, rounds, measured, commits, &results));
        }
        Command::Table { results, write } => {
            let table = Results::load(&results).table();
            match write {
                None => print!("{table}"),
                Some(path) => {
                    let document = fs::read_to_string(&path).expect("the document can be read");
                    let growth = Results::load(&results).growth();
                    let document = table::replace_part(&document, "targets", &table)
                        .and_then(|document| table::replace_part(&document, "growth", &growth));
                    let document = document.expect("the document has the marks of both tables");
                    fs::write(&path, document).expect("the document can be written");
                }
            }
        }
    }
}

async fn measure(parts: &[Part], rounds: usize, measured: Duration, commits: usize, path: &Path) {
    // On the disk of the results, not on one in memory: what is measured is a disk.
    let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let beside = beside.unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(beside).expect("the directory of the results can be made");
    let scratch = tempfile::Builder::new().prefix("bench-").tempdir_in(beside);
    let mut round = Round {
        number: 0,
        kept: beside.to_owned(),
        times: Times { warm_up: measured / 4, measured },
        commits,
        scratch: scratch.expect("the directory of the results can be written"),
    };
    // What runs in this process alone compares with nothing that would need them.
    if parts.iter().any(|part| *part != Part::Committer) {
        samples().await.write(round.samples());
    }
    let mut results = Results::default();
    for number in 1..=rounds {
        println!("round {number} of {rounds}");
        round.number = number;
        for part in parts {
            match part {
                Part::Actions => actions::round(&round, &mut results).await,
                Part::Committer => actions::committer(&round, &mut results),
                Part::Reads => reads::round(&round, &mut results).await,
                Part::Watch => watch::round(&round, &mut results).await,
                Part::Paced => watch::paced(&round, &mut results).await,
                Part::Memory => watch::memory(&round, &mut results).await,
                Part::Start => scale::start(&round, &mut results).await,
                Part::Lateness => scale::lateness(&round, &mut results).await,
                Part::Storm => storm::round(&round, &mut results).await,
                Part::Precedence => storm::precedence(&round, &mut results).await,
                Part::Watchers => watch::watchers(&round, &mut results).await,
                Part::Compaction => scale::compaction(&round, &mut results).await,
                Part::Growth => scale::growth(&round, &mut results).await,
            }
        }
        results.save(path);
    }
    print!("{}", results.table());
}

/// What Phasegate answers and sends, for the references to send as much.
async fn samples() -> Samples {
    use phasegate_api::v1::{self, release_service_client::ReleaseServiceClient};
    let server = process::Server::phasegate(["--memory"]);
    subject::fill(&server, 1).await;
    let mut client = ReleaseServiceClient::new(server.connect().await);
    let name = || "releases/r-0".to_owned();
    let watch = v1::WatchReleaseRequest { name: name(), ..Default::default() };
    let mut watch = client.watch_release(watch).await.expect("it is there").into_inner();
    watch.message().await.expect("it opens").expect("it begins with a snapshot");
    let pause =
        v1::PauseReleaseRequest { name: name(), reason: "measured".into(), ..Default::default() };
    let paused = client.pause_release(subject::by(pause, 0)).await.expect("it runs").into_inner();
    let event = watch.message().await.expect("it goes on").expect("it was paused");
    let get = v1::GetReleaseRequest { name: name() };
    let answer = client.get_release(get).await.expect("it is there").into_inner();
    Samples { answer, paused, event }
}
