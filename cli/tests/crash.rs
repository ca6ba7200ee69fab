//! The real program, killed with SIGKILL at random moments while many callers act on it. Nothing it
//! acknowledged may be missing when it is back, nothing may be there twice, nothing half.
//!
//! `SEED=` replays the choices (not the schedule of the machine), `ROUNDS=` changes how many.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod process;

use phasegate_api::v1::{
    self, flag_service_client::FlagServiceClient, pipeline_service_client::PipelineServiceClient,
    release_service_client::ReleaseServiceClient,
};
use process::Server;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};
use tonic::transport::Channel;

/// Enough that a window of a millisecond in every commit is hit now and then.
const ROUNDS: u32 = 50;
/// Callers at a time: enough that every batch holds several commits.
const CALLERS: u32 = 8;
/// A step that takes longer hangs.
const STEP_MAX: Duration = Duration::from_secs(120);

fn serve(dir: &Path) -> Server {
    Server::start([OsStr::new("--data"), dir.as_os_str()])
}

fn channel(server: &Server) -> Channel {
    Channel::from_shared(server.address.clone()).unwrap().connect_lazy()
}

/// What the server has acknowledged so far.
#[derive(Clone, Default)]
struct Acknowledged {
    flags: BTreeSet<String>,
    /// By release: the request ids of what was done to it.
    actions: BTreeMap<String, Vec<String>>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_program_is_killed() {
    let from_env = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = from_env("SEED").unwrap_or(20_301_114);
    let rounds = from_env("ROUNDS").map_or(ROUNDS, |rounds| u32::try_from(rounds).unwrap());
    println!("SEED={seed} ROUNDS={rounds}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let acknowledged = Arc::new(Mutex::new(Acknowledged::default()));

    for round in 0..rounds {
        let server = serve(dir.path());
        if round == 0 {
            create_pipeline(channel(&server)).await;
        }
        let so_far = acknowledged.lock().unwrap().clone();
        let checked = timeout(STEP_MAX, check(channel(&server), &so_far, round)).await;
        assert!(checked.is_ok(), "round {round}: reads hang. {}", server.threads());

        let (acks, mut acked) = mpsc::unbounded_channel();
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let id = format!("r{round}-c{caller}");
                let (channel, acks) = (channel(&server), acks.clone());
                tokio::spawn(act(channel, id, acks, Arc::clone(&acknowledged)))
            })
            .collect();
        drop(acks);
        // Between the first acknowledgement and some hundred later: in the middle of everything.
        for _ in 0..random.random_range(1..120) {
            let Ok(acked) = timeout(STEP_MAX, acked.recv()).await else {
                panic!("round {round}: nothing is acknowledged. {}", server.threads());
            };
            acked.expect("callers go on until the server is gone");
        }
        drop(server);
        for (number, caller) in callers.into_iter().enumerate() {
            let ended = timeout(STEP_MAX, caller).await;
            let ended = ended.unwrap_or_else(|_| panic!("round {round}: caller {number} hangs"));
            ended.unwrap();
        }
    }
    let server = serve(dir.path());
    let total = acknowledged.lock().unwrap().clone();
    check(channel(&server), &total, rounds).await;
    let actions: usize = total.actions.values().map(Vec::len).sum();
    println!("{rounds} kills, {} flags and {actions} actions acknowledged", total.flags.len());
    assert!(actions > rounds as usize, "the callers did something in every round");
}

async fn create_pipeline(channel: Channel) {
    let phase = v1::Phase {
        id: "all".into(),
        rules: vec![v1::TargetingRule { id: "all".into(), ..Default::default() }],
        bake_duration: Some(prost_types::Duration { seconds: 86_400, nanos: 0 }),
        ..Default::default()
    };
    let request = v1::CreatePipelineRequest {
        pipeline_id: "day".into(),
        pipeline: Some(v1::Pipeline { phases: vec![phase], ..Default::default() }),
        ..Default::default()
    };
    PipelineServiceClient::new(channel).create_pipeline(request).await.unwrap();
}

/// One caller: a flag of its own, a release of it, then pause and unpause for ever, until the server
/// is gone. Writes down what was acknowledged.
async fn act(
    channel: Channel,
    id: String,
    acks: mpsc::UnboundedSender<()>,
    acknowledged: Arc<Mutex<Acknowledged>>,
) {
    let mut flags = FlagServiceClient::new(channel.clone());
    let mut releases = ReleaseServiceClient::new(channel);
    let gate = |default_value| v1::GateSpec { rules: vec![], default_value };
    let flag =
        v1::Flag { spec: Some(v1::flag::Spec::FeatureGate(gate(false))), ..Default::default() };
    let create =
        v1::CreateFlagRequest { flag_id: id.clone(), flag: Some(flag), ..Default::default() };
    if flags.create_flag(create).await.is_err() {
        return;
    }
    let name = format!("flags/{id}");
    acknowledged.lock().unwrap().flags.insert(name.clone());
    let _ = acks.send(());

    let release = v1::Release {
        flag: name,
        pipeline: "pipelines/day".into(),
        change: Some(v1::release::Change::FeatureGate(gate(true))),
        ..Default::default()
    };
    let request_id = format!("{id}-trigger");
    let trigger = v1::TriggerReleaseRequest {
        request_id: request_id.clone(),
        release_id: id.clone(),
        release: Some(release),
        ..Default::default()
    };
    if releases.trigger_release(trigger).await.is_err() {
        return;
    }
    let name = format!("releases/{id}");
    let record = |request_id: String| {
        let mut acknowledged = acknowledged.lock().unwrap();
        acknowledged.actions.entry(name.clone()).or_default().push(request_id);
        let _ = acks.send(());
    };
    record(request_id);
    for n in 0.. {
        let request_id = format!("{id}-{n}");
        let done = if n % 2 == 0 {
            let (name, request_id) = (name.clone(), request_id.clone());
            let pause = v1::PauseReleaseRequest { name, request_id, ..Default::default() };
            releases.pause_release(pause).await.is_ok()
        } else {
            let (name, request_id) = (name.clone(), request_id.clone());
            let unpause = v1::UnpauseReleaseRequest { name, request_id, ..Default::default() };
            releases.unpause_release(unpause).await.is_ok()
        };
        if !done {
            return;
        }
        record(request_id);
    }
}

/// Everything acknowledged is there, once; and every release is the fold of its log.
async fn check(channel: Channel, acknowledged: &Acknowledged, round: u32) {
    let mut flags = FlagServiceClient::new(channel.clone());
    let mut releases = ReleaseServiceClient::new(channel);
    for name in &acknowledged.flags {
        let request = v1::GetFlagRequest { name: name.clone() };
        let found = flags.get_flag(request).await;
        assert!(found.is_ok(), "round {round}: {name} was acknowledged and is missing: {found:?}");
    }
    for (name, actions) in &acknowledged.actions {
        // Bounded: each caller is killed within its round.
        let request = v1::ListReleaseEventsRequest {
            parent: name.clone(),
            page_size: 1000,
            ..Default::default()
        };
        let log = releases.list_release_events(request).await.unwrap().into_inner();
        assert_eq!(log.next_page_token, "", "one page holds all");
        let mut revisions: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
        for event in &log.events {
            revisions.entry(&event.request_id).or_default().insert(event.revision);
        }
        for action in actions {
            let commits = revisions.get(action.as_str()).map_or(0, BTreeSet::len);
            assert_eq!(commits, 1, "round {round}: {action} of {name}, commits in the log");
        }
        let request = v1::GetReleaseRequest { name: name.clone() };
        let release = releases.get_release(request).await.unwrap().into_inner().release.unwrap();
        let last = log.events.last().unwrap();
        assert_eq!((release.revision, release.state), (last.revision, last.state), "{name}");
    }
}
