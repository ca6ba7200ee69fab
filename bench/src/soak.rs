//! A soak: mixed load on the real program for a long time, with restarts in between, and then everything
//! that callers were told and watches saw is compared with what the server has.
//!
//! The choices of callers, readers and restarts come from a seed. How they meet does not: timers run on the
//! system's clock. What is compared is in [`checks`], and asks no server.

mod callers;
mod checks;
mod ending;
mod figures;
mod pipelines;
mod record;
mod server;
mod watchers;

use crate::pacer::Pacer;
use callers::{Board, Caller, answered};
use checks::{Done, Findings, number};
use ending::{Record, verify_store};
use figures::{Process, Row, Sample, now};
use phasegate_client::{Client, v1};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use server::{Program, Signal, Which};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinHandle};
use watchers::{Ear, Saw, Subject, follow, follow_some};

const CALLERS: usize = 16;
const READERS: usize = 4;
/// Between two reads of one reader.
const READS_EACH: Duration = Duration::from_millis(60);
/// Who follow one release after the other.
const FOLLOWERS: usize = 8;
/// Longer than any release goes on by itself.
const SETTLES_IN: Duration = Duration::from_secs(60);
/// How long what is held is let go again; then it is ended. A guard that nobody answers holds it anew.
const GOES_ON_FOR: Duration = Duration::from_secs(5);
/// Without a change a watch hears something every 15 s.
const BOOKMARKED_IN: Duration = Duration::from_secs(60);

/// How a soak is made.
#[derive(Debug, clap::Args)]
pub(crate) struct Soak {
    /// How long the load goes on
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// What choices are made from
    #[arg(long, default_value_t = 20_301_126)]
    seed: u64,
    /// Seconds between restarts, as a mean; 0 never restarts
    #[arg(long, default_value_t = 120.0, value_name = "SECONDS")]
    restart_every: f64,
    /// Actions a second
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// Flags that they are about
    #[arg(long, default_value_t = 200)]
    flags: usize,
    /// Where the data directory is made; it stays if something is found
    #[arg(long, default_value = "target/bench")]
    directory: PathBuf,
}

/// Makes a soak and prints what came of it.
///
/// # Panics
///
/// If anything does not hold, with what was found.
pub(crate) async fn run(soak: Soak) {
    std::fs::create_dir_all(&soak.directory).expect("the directory can be made");
    let scratch = tempfile::Builder::new().prefix("soak-").tempdir_in(&soak.directory);
    // Kept for who has to find out why something was found.
    let scratch = scratch.expect("the directory can be written").keep();
    println!("{soak:?} in {}", scratch.display());
    let found = Box::pin(Stage::new(soak, &scratch).play()).await;
    assert!(found.is_empty(), "{found}{} is kept", scratch.display());
    println!("everything holds");
    // What is left over is in nobody's way.
    let _ = std::fs::remove_dir_all(&scratch);
}

/// Where it is played.
struct Stage {
    soak: Soak,
    board: Arc<Board>,
    random: ChaCha8Rng,
    program: Program,
    data: PathBuf,
    export: PathBuf,
    findings: Findings,
}

/// What the load leaves behind.
struct Left {
    done: Vec<Done>,
    saw: Vec<Saw>,
    rows: Vec<Row>,
    samples: Vec<Sample>,
}

impl Stage {
    fn new(soak: Soak, scratch: &Path) -> Self {
        let data = scratch.join("data");
        let program = Program::started(&data);
        let board = Arc::new(Board::new(program.address(), soak.flags));
        let random = ChaCha8Rng::seed_from_u64(soak.seed);
        let (export, findings) = (scratch.join("audit.txt"), Findings::default());
        Self { soak, board, random, program, data, export, findings }
    }

    async fn play(mut self) -> Findings {
        let client = self.board.client("setup");
        for (id, pipeline) in pipelines::pipelines() {
            let (pipeline_id, pipeline) = (id.to_owned(), Some(pipeline));
            let request = v1::CreatePipelineRequest { pipeline_id, pipeline, ..Default::default() };
            client.create_pipeline(request).await.expect("it is sound");
        }
        drop(client);
        let empty = self.program.resident();
        let left = Box::pin(self.load()).await;
        let grown = self.program.resident();
        // All connections are closed: there is nobody to wait for.
        let status = self.program.end(Signal::Term).await;
        if !status.success() {
            self.findings.add(format!("SIGTERM ended it with {status}"));
        }
        verify_store(&self.data, &mut self.findings);
        self.program.start().await;
        let fresh = self.program.resident();
        let client = self.board.client("checks");
        let record = Record::read(&client, &self.program, &self.export, &mut self.findings).await;
        record.check(&left.done, &left.saw, &mut self.findings);
        record.check_alone(&client, &mut self.findings).await;
        for wrong in self.board.wrong.lock().expect("nobody panics with it").drain(..) {
            self.findings.add(wrong);
        }
        drop(client);
        self.program.end(Signal::Term).await;
        println!(
            "\n{}\n{}",
            figures::table(&left.rows),
            figures::summary(&left.rows, &left.samples)
        );
        tell_kept(&left, &record, [empty, grown, fresh]);
        self.findings
    }

    fn random(&mut self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.random.random())
    }

    fn client(&self, name: &str, number: usize) -> (Arc<Board>, Client) {
        (Arc::clone(&self.board), self.board.client(&format!("{name}{number}")))
    }

    /// The load, and the end of everything that it began.
    async fn load(&mut self) -> Left {
        let random = self.random();
        let mut setup = Caller::new(&self.board, "setup", random);
        for index in 0..self.soak.flags {
            setup.create_flag(index).await;
        }
        self.board.minute().take();
        let (say_head, head) = watch::channel(None);
        let watches = self.watches(&head);
        let mut followers = Vec::new();
        for number in 0..FOLLOWERS {
            let (board, client) = self.client("one-", number);
            followers.push(tokio::spawn(follow_some(board, client, self.random(), head.clone())));
        }
        let begun = Instant::now();
        let until = begun + Duration::from_secs(60 * self.soak.minutes);
        let callers = self.callers();
        let mut readers = Vec::new();
        for number in 0..READERS {
            let (board, name) = (Arc::clone(&self.board), format!("reader-{number}"));
            readers.push(tokio::spawn(callers::read(board, name, self.random(), READS_EACH)));
        }
        let looking = Looking::new(self, begun, until);
        let looking = tokio::spawn(looking.run());
        let (random, every) = (self.random(), self.soak.restart_every);
        self.program.restart_until(until, every, random, &self.board).await;
        self.board.stop.store(true, Ordering::Relaxed);
        let (rows, samples) = looking.await.expect("it does not panic");
        let mut done = Vec::new();
        for caller in callers {
            done.extend(caller.await.expect("every request is answered"));
        }
        for reader in readers {
            reader.await.expect("every read is answered");
        }
        Box::pin(self.settle(&mut setup)).await;
        done.extend(setup.done());
        let (_, last) = self.unfinished(v1::ReleaseFilter::default()).await;
        say_head.send_replace(Some(last));
        let mut saw = Vec::new();
        for watch in watches {
            let joined = tokio::time::timeout(BOOKMARKED_IN, watch).await;
            saw.push(joined.expect("a watch gets to the end").expect("it does not panic"));
        }
        for follower in followers {
            let joined = tokio::time::timeout(BOOKMARKED_IN, follower).await;
            saw.extend(joined.expect("a watch gets to the end").expect("it does not panic"));
        }
        Left { done, saw, rows, samples }
    }

    fn watches(&self, head: &watchers::Head) -> Vec<JoinHandle<Saw>> {
        let some = |from: usize| (from..from + 20).map(|n| format!("flags/f-{n}")).collect();
        let subjects = [
            (Subject::All, Ear::Timers),
            (Subject::All, Ear::Nothing),
            (Subject::Flags(some(0)), Ear::Nothing),
            (Subject::Flags(some(20)), Ear::Nothing),
        ];
        let numbered = subjects.into_iter().enumerate();
        let watch = numbered.map(|(number, (subject, ear))| {
            let (board, client) = self.client("watch-", number);
            tokio::spawn(follow(board, client, subject, ear, head.clone()))
        });
        watch.collect()
    }

    fn callers(&mut self) -> Vec<JoinHandle<Vec<Done>>> {
        let pacer = Pacer::start(self.soak.rate);
        let mut callers = Vec::new();
        for number in 0..CALLERS {
            let random = self.random();
            let caller = Caller::new(&self.board, &format!("caller-{number}"), random);
            callers.push(tokio::spawn(caller.run(Arc::clone(&pacer))));
        }
        callers
    }

    async fn unfinished(&self, filter: v1::ReleaseFilter) -> (Vec<v1::Release>, i64) {
        let client = self.board.client("checks");
        let (listed, _) = answered(|| record::releases(&client, filter.clone())).await;
        listed.expect("releases can be listed")
    }

    /// Nobody acts any more: what is not held has to end by its timers. Then what is held is ended.
    async fn settle(&mut self, setup: &mut Caller) {
        let filter = v1::ReleaseFilter { unfinished_only: true, ..Default::default() };
        let begun = Instant::now();
        loop {
            let (unfinished, _) = self.unfinished(filter.clone()).await;
            let is_held = |release: &v1::Release| {
                // Behind one that is held.
                matches!(release.state(), v1::ReleaseState::Paused | v1::ReleaseState::Pending)
            };
            if unfinished.iter().all(is_held) {
                println!("{} are held when nothing moves any more", unfinished.len());
                break;
            }
            if begun.elapsed() > SETTLES_IN {
                let stuck: Vec<_> = unfinished.iter().filter(|release| !is_held(release)).collect();
                self.findings.add(format!("at {} these should have ended: {stuck:?}", now()));
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let begun = Instant::now();
        loop {
            let (unfinished, _) = self.unfinished(filter.clone()).await;
            if unfinished.is_empty() {
                return;
            }
            assert!(begun.elapsed() < 2 * SETTLES_IN, "these do not end: {unfinished:?}");
            for release in unfinished {
                let is_even = number(&release.name).is_some_and(|number| number % 2 == 0);
                if release.state() != v1::ReleaseState::Paused {
                    // It goes on by itself, or waits for one that is held.
                } else if is_even && begun.elapsed() < GOES_ON_FOR {
                    setup.unpause(&release).await;
                } else {
                    setup.abort(&release).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Looks at the server from outside.
struct Looking {
    board: Arc<Board>,
    which: Which,
    data: PathBuf,
    begun: Instant,
    until: Instant,
    /// Of a row.
    span: Duration,
    /// Not sampled after a start.
    warm_up: Duration,
}

impl Looking {
    fn new(stage: &Stage, begun: Instant, until: Instant) -> Self {
        let minutes = stage.soak.minutes;
        let span = Duration::from_secs(if minutes < 6 { 20 } else { 60 });
        let warm_up = match stage.soak.restart_every {
            0.0 => 60.0,
            every => (every / 3.0).min(30.0),
        };
        Self {
            board: Arc::clone(&stage.board),
            which: stage.program.which.clone(),
            data: stage.data.clone(),
            begun,
            until,
            span,
            warm_up: Duration::from_secs_f64(warm_up),
        }
    }

    /// Every second, and a line for each span.
    async fn run(self) -> (Vec<Row>, Vec<Sample>) {
        print!("{}", figures::HEADING);
        let (mut rows, mut samples) = (Vec::<Row>::new(), Vec::new());
        let (mut start, mut since) = (self.which.starts(), self.begun);
        let mut seconds = tokio::time::interval_at(self.begun.into(), Duration::from_secs(1));
        let (mut row_begun, mut last) = (self.begun, None);
        while Instant::now() < self.until {
            seconds.tick().await;
            if self.which.starts() != start {
                (start, since) = (self.which.starts(), Instant::now());
            }
            let is_away = self.board.minute().outages.has(now());
            match Process::look(self.which.process()) {
                Some(process) => last = Some(process),
                None if is_away => {}
                None => self.board.wrong(format!("the server is gone at {}", now())),
            }
            let Some(process) = last else { continue };
            if !is_away && since.elapsed() > self.warm_up {
                let at = self.begun.elapsed().as_secs_f64() / 60.0;
                samples.push(Sample { at, kib: process.resident as f64, start });
            }
            // Ticks are not to the millisecond.
            if row_begun.elapsed() + Duration::from_millis(500) >= self.span {
                let row = Row {
                    at: self.begun.elapsed().as_secs_f64() / 60.0,
                    seconds: row_begun.elapsed().as_secs_f64(),
                    minute: self.board.minute().take(),
                    process,
                    bytes: figures::size(&self.data),
                    releases: self.board.releases(),
                    starts: start,
                };
                println!("{}", row.line());
                rows.push(row);
                row_begun = Instant::now();
            }
        }
        (rows, samples)
    }
}

/// How much of the growth is what is kept.
fn tell_kept(left: &Left, record: &Record, [empty, grown, fresh]: [u64; 3]) {
    let (releases, requests) = (record.releases.len(), left.done.len());
    let mib = |kib: u64| kib as f64 / 1024.0;
    let resumed: usize = left.saw.iter().map(|saw| saw.resumed).sum();
    println!(
        "{} watches, resumed {resumed} times, saw {} changes",
        left.saw.len(),
        left.saw.iter().map(|saw| saw.changes.len()).sum::<usize>()
    );
    println!(
        "kept: {releases} releases, {} events, {requests} requests, {} calls on record",
        record.log.len(),
        record.audit.len(),
    );
    println!(
        "RSS: {:.1} MiB when empty, {:.1} MiB at the end, {:.1} MiB when started anew with all that is kept: \
         {:.1} KiB for a release with its {:.0} requests",
        mib(empty),
        mib(grown),
        mib(fresh),
        fresh.saturating_sub(empty) as f64 / releases.max(1) as f64,
        requests as f64 / releases.max(1) as f64,
    );
}
