//! Linearizability: whatever many callers do at a time to one release of the real program, over
//! sockets and with kills in between, is as if they had come one after the other. There is a
//! point between a call and its answer at which it took effect; what was not answered took effect
//! before the kill or never; a read sees everything that was answered before it.
//!
//! `SEED=` replays the choices (not the schedule of the machine), `ROUNDS=` changes how many. A
//! history without a legal order is written to a file, and told as far as it can be ordered.

#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "../process/mod.rs"]
mod process;

mod account;
mod caller;
mod checker;
mod operation;
mod specification;
mod stage;

use account::Found;
use caller::{Caller, Incarnation, Instants, Made, Remembered, Shared, connect};
use checker::{Limits, Operation, Outcome, Search, Verdict};
use operation::{Answer, Ask, Call, Round};
use phasegate_api::v1::{
    self, flag_service_client::FlagServiceClient, pipeline_service_client::PipelineServiceClient,
    release_service_client::ReleaseServiceClient,
};
use phasegate_engine::{id::ReleaseId, time::Timestamp};
use process::Server;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use specification::{Evidence, OneRelease};
use std::{
    ffi::OsStr,
    path::Path,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// Each on a release of its own.
const ROUNDS: u64 = 10;
/// Callers at a time; two of them are one person.
const CALLERS: usize = 16;
/// Calls in a round, of all callers together.
const CALLS: usize = 640;
/// A few milliseconds: what a batch takes from its first call to its last answer.
const YIELDS_MAX: u32 = 3000;
/// Far above what a round takes, which is some ten thousand steps.
const LIMITS: Limits = Limits { steps: 300_000, time: Duration::from_secs(60) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_callers_do_to_a_release_has_a_legal_sequential_order() {
    let from_env = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed: u64 = from_env("SEED").unwrap_or(20_301_126);
    let rounds = from_env("ROUNDS").unwrap_or(ROUNDS);
    println!("SEED={seed} ROUNDS={rounds}");
    let dir = tempfile::tempdir().unwrap();
    let mut server = serve(dir.path());
    let channel = connect(&incarnation(0, &server)).await.unwrap();
    PipelineServiceClient::new(channel).create_pipeline(stage::pipeline()).await.unwrap();
    let mut figures = account::Figures::default();
    for number in 0..rounds {
        let random = ChaCha8Rng::seed_from_u64(seed.wrapping_add(number));
        let played;
        (server, played) = play(format!("r{number}"), server, dir.path(), random).await;
        judge(seed, number, &played, &mut figures);
    }
    println!("{figures}");
    if rounds >= ROUNDS {
        figures.assert_everything_happened();
    }
}

/// What came out of a round.
struct Played {
    id: String,
    round: Round,
    history: Vec<Operation<Call, Answer>>,
    kills: usize,
}

fn serve(dir: &Path) -> Server {
    Server::start([OsStr::new("--data"), dir.as_os_str()])
}

fn incarnation(number: usize, server: &Server) -> Incarnation {
    Incarnation { number, address: server.address.clone() }
}

/// One round: a release, callers that act on it, kills in between and one at the end.
async fn play(
    id: String,
    mut server: Server,
    dir: &Path,
    mut random: ChaCha8Rng,
) -> (Server, Played) {
    let mut now = incarnation(0, &server);
    let round = begin(&id, &now).await;
    let shared = Arc::new(Shared {
        round,
        id: id.clone(),
        instants: Instants::default(),
        left: AtomicUsize::new(CALLS),
    });
    let (servers, _) = watch::channel(now.clone());
    let (ended, mut endings) = mpsc::unbounded_channel();
    let persons: Vec<Remembered> = (0..CALLERS / 2).map(|_| Remembered::default()).collect();
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let caller = Caller {
                shared: Arc::clone(&shared),
                number,
                principal: format!("p{}", number / 2).into(),
                random: ChaCha8Rng::seed_from_u64(random.next_u64()),
                remembered: Arc::clone(&persons[number / 2]),
                ended: ended.clone(),
                view: caller::View::default(),
            };
            tokio::spawn(caller.run(servers.subscribe()))
        })
        .collect();
    drop(ended);

    // By the calls that have ended: in the middle of everything, and with calls between two kills
    // that are answered. What all were silent about together is hard to order.
    let kills: usize = random.random_range(2..=3);
    let part = CALLS / kills;
    let mut kill_after: Vec<usize> =
        (0..kills).map(|kill| kill * part + random.random_range(part / 4..part)).collect();
    // When each incarnation was gone for certain.
    let mut gone = Vec::new();
    let (mut calls, mut made) = (0, Vec::new());
    while endings.recv().await.is_some() {
        calls += 1;
        if kill_after.first() == Some(&calls) {
            kill_after.remove(0);
            // An answer comes when its batch is done; a little later the next one is under way.
            for _ in 0..random.random_range(0..YIELDS_MAX) {
                tokio::task::yield_now().await;
            }
            server = restart(server, dir, &shared, &mut gone);
            now = incarnation(gone.len(), &server);
            // The log says first what became of the calls that were not answered. So the order need
            // not be guessed from what others see of it later.
            made.push(read(&shared, &now, Ask::Log(caller::log(&shared.id))).await);
            servers.send_replace(now.clone());
        }
    }
    for caller in callers {
        made.extend(caller.await.unwrap());
    }
    server = restart(server, dir, &shared, &mut gone);
    now = incarnation(gone.len(), &server);
    made.push(read(&shared, &now, Ask::Log(caller::log(&shared.id))).await);
    let get = v1::GetReleaseRequest { name: format!("releases/{}", shared.id) };
    made.push(read(&shared, &now, Ask::Get(get)).await);
    gone.push(shared.instants.now());
    let kills = gone.len() - 1;
    (server, Played { id, round, history: history(made, &gone), kills })
}

/// Kills the server and starts it again, at another address: a call that is late for the old one must
/// not get to the new one.
fn restart(server: Server, dir: &Path, shared: &Shared, gone: &mut Vec<u64>) -> Server {
    let old = server.address.clone();
    drop(server);
    gone.push(shared.instants.now());
    loop {
        let server = serve(dir);
        if server.address != old {
            return server;
        }
    }
}

/// Makes the flag and the release of a round; the answer says when the round begins.
async fn begin(id: &str, server: &Incarnation) -> Round {
    let channel = connect(server).await.unwrap();
    FlagServiceClient::new(channel.clone()).create_flag(stage::flag(id)).await.unwrap();
    let mut trigger = tonic::Request::new(stage::trigger(id, id));
    let principal = stage::CREATOR.parse().unwrap();
    trigger.metadata_mut().insert(phasegate_server::grpc::caller::PRINCIPAL, principal);
    let answer = ReleaseServiceClient::new(channel).trigger_release(trigger).await.unwrap();
    let time = answer.into_inner().release.unwrap().create_time.unwrap();
    Round(Timestamp::from_millis(time.seconds * 1000 + i64::from(time.nanos) / 1_000_000))
}

/// A look when nobody else can call.
async fn read(shared: &Shared, server: &Incarnation, ask: Ask) -> Made {
    let channel = connect(server).await.unwrap();
    let call = Call { principal: "p0".into(), ask };
    let began = shared.instants.now();
    let answer = call.clone().send(channel, shared.round).await;
    let ended = shared.instants.now();
    Made { call, began, ended, answer, asked: server.number }
}

/// By when they began.
fn history(mut made: Vec<Made>, gone: &[u64]) -> Vec<Operation<Call, Answer>> {
    made.sort_by_key(|made| made.began);
    let operation = |made: Made| {
        let Made { call, began, ended, answer, asked } = made;
        match answer {
            Some(answer) => Operation { call, began, ended, outcome: Outcome::Answered(answer) },
            None => {
                // Its server cannot do anything any more when it is gone.
                let ended = gone[asked].max(began);
                Operation { call, began, ended, outcome: Outcome::Unknown }
            }
        }
    };
    made.into_iter().map(operation).collect()
}

/// Looks for a legal order of a round. Revisions and logs only help to find it: whatever is found
/// explains every answer. Without them it is looked for when there is none with them, to tell which of
/// the two is wrong.
fn judge(seed: u64, number: u64, played: &Played, figures: &mut account::Figures) {
    let Played { history, kills, .. } = played;
    let found = account::store_revisions(history).and_then(|()| {
        let with = match find(played, Evidence::Records) {
            Ok(found) => return Ok(found),
            Err(Failed::NoOrder(told) | Failed::TooHard(told)) => told,
        };
        match find(played, Evidence::Answers) {
            Ok(_) => Err(format!("revisions and logs contradict the answers: {with}")),
            Err(Failed::NoOrder(without)) => Err(without),
            Err(Failed::TooHard(_)) => Err(format!("with revisions and logs {with}")),
        }
    });
    match found {
        Ok(found) => figures.add(history, *kills, &found),
        Err(problem) => {
            let file = Path::new(env!("CARGO_TARGET_TMPDIR"))
                .join(format!("linearizability-{seed}-{number}.txt"));
            std::fs::write(&file, account::told(history)).unwrap();
            let file = file.display();
            panic!("round {number} of SEED={seed}: {problem}\nthe history: {file}");
        }
    }
}

/// Why no order was found, as it is told.
enum Failed {
    NoOrder(String),
    TooHard(String),
}

fn find(played: &Played, evidence: Evidence) -> Result<Found, Failed> {
    let Played { id, round, history, .. } = played;
    let answers = history.iter().filter_map(|operation| match &operation.outcome {
        Outcome::Answered(answer) => Some(answer),
        Outcome::Unknown => None,
    });
    let id = ReleaseId::parse(id).unwrap();
    let (initial, log) = stage::engine(&id, *round);
    let specification = OneRelease::new(id, *round, evidence, answers);
    let initial = specification.triggered(initial, log);
    let Search { verdict, steps, time } =
        checker::check(&specification, initial.clone(), history, LIMITS);
    let told = |problem: &str, stuck| {
        let told = account::stuck(history, &stuck, &specification, initial.clone());
        format!("{problem}, after {steps} steps in {time:.1?}: {told}")
    };
    match verdict {
        Verdict::NotLinearizable(stuck) => Err(Failed::NoOrder(told("no legal order", stuck))),
        Verdict::Undecided(stuck) => Err(Failed::TooHard(told("too hard to order", stuck))),
        Verdict::Linearizable { order } => Ok(Found { specification, initial, order, steps, time }),
    }
}
