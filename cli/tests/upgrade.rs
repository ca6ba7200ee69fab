//! An upgrade as docs/operating.md has it: the old program is told to stop under open watches and running
//! calls, the new one starts on the same data and the same port. Nobody who uses the client notices more than
//! a wait: watches go on without a gap and without a repetition, and no call fails.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod process;

use phasegate_client::{Client, Position, ReleasesUpdate, Retry, Watch, v1};
use process::Server;
use rustix::process::{Pid, Signal, kill_process};
use std::{collections::BTreeMap, ffi::OsStr, path::Path, time::Duration};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

/// No test waits longer than this for anything. A drain may take 20 s.
const PATIENCE: Duration = Duration::from_secs(120);
const CALLERS: usize = 4;
const WATCHERS: usize = 3;
/// Actions before the old server is told to stop, and after the new one serves.
const ACTIONS: usize = 40;

fn on(data: &Path) -> [&OsStr; 2] {
    [OsStr::new("--data"), data.as_os_str()]
}

fn serve(data: &Path) -> Server {
    Server::start(on(data))
}

async fn client(server: &Server) -> Client {
    // Five attempts, which is the default, take some seconds; the port is nobody's for longer.
    let retry = Retry { attempts: 100, ..Retry::default() };
    Client::connect(&*server.address).principal("ann").retry(retry).await.unwrap()
}

/// A flag with a release of its own, held and let go for ever. Says the name and the revision of everything
/// that was acknowledged. Ends when nobody wants to know any more.
async fn act(client: Client, id: String, acknowledged: mpsc::UnboundedSender<(String, i64)>) {
    let gate = |default_value| v1::GateSpec { default_value, ..Default::default() };
    let spec = Some(v1::flag::Spec::FeatureGate(gate(false)));
    let flag = Some(v1::Flag { spec, ..Default::default() });
    let create = v1::CreateFlagRequest { flag_id: id.clone(), flag, ..Default::default() };
    client.create_flag(create).await.unwrap();
    let release = v1::Release {
        flag: format!("flags/{id}"),
        pipeline: "pipelines/day".into(),
        change: Some(v1::release::Change::FeatureGate(gate(true))),
        ..Default::default()
    };
    let (release_id, release) = (id.clone(), Some(release));
    let trigger = v1::TriggerReleaseRequest { release_id, release, ..Default::default() };
    let mut release = client.trigger_release(trigger).await.unwrap();
    let mut is_held = false;
    while acknowledged.send((release.name.clone(), release.revision)).is_ok() {
        let name = release.name;
        release = if is_held {
            let go_on = v1::UnpauseReleaseRequest { name, ..Default::default() };
            client.unpause_release(go_on).await.unwrap()
        } else {
            let hold = v1::PauseReleaseRequest { name, ..Default::default() };
            client.pause_release(hold).await.unwrap()
        };
        is_held = !is_held;
    }
}

/// What a watcher saw: the revisions of each release in the order in which they came.
#[derive(Debug, Default)]
struct Seen {
    revisions: BTreeMap<String, Vec<i64>>,
    interrupted: usize,
}

/// Follows until everything up to `last` was delivered.
fn follow(mut watch: Watch<ReleasesUpdate>, mut last: mpsc::Receiver<i64>) -> JoinHandle<Seen> {
    tokio::spawn(async move {
        let (mut seen, mut end, mut at) = (Seen::default(), i64::MAX, 0);
        while at < end {
            let update = tokio::select! {
                told = last.recv(), if end == i64::MAX => {
                    end = told.unwrap();
                    continue;
                }
                update = watch.next() => update.unwrap().unwrap(),
            };
            match update {
                ReleasesUpdate::Snapshot { position, .. }
                | ReleasesUpdate::Bookmark { position, .. } => at = position.revision,
                ReleasesUpdate::Changes { changes, position, .. } => {
                    for change in changes {
                        let release = change.release.unwrap();
                        seen.revisions.entry(release.name).or_default().push(release.revision);
                    }
                    at = position.revision;
                }
                ReleasesUpdate::Interrupted(_) => seen.interrupted += 1,
                ReleasesUpdate::Resumed => {}
                ReleasesUpdate::Restarted(error) => panic!("{error}"),
                // What there is today stands above.
                _ => panic!("an update that nobody knows"),
            }
        }
        seen
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_under_load_loses_nothing_and_repeats_nothing() {
    timeout(PATIENCE, upgrade()).await.unwrap();
}

async fn upgrade() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut old = serve(&data);
    let listen = old.address.strip_prefix("http://").unwrap().to_owned();
    let ann = client(&old).await;
    let phase = v1::Phase {
        id: "all".into(),
        rules: vec![v1::TargetingRule { id: "all".into(), ..Default::default() }],
        bake_duration: Some(prost_types::Duration { seconds: 86_400, nanos: 0 }),
        ..Default::default()
    };
    let create = v1::CreatePipelineRequest {
        pipeline_id: "day".into(),
        pipeline: Some(v1::Pipeline { phases: vec![phase], ..Default::default() }),
        ..Default::default()
    };
    ann.create_pipeline(create).await.unwrap();

    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        let (tell, last) = mpsc::channel(1);
        let watch = client(&old).await.watch_releases(v1::ReleaseFilter::default());
        watchers.push((tell, follow(watch, last)));
    }
    let (acknowledge, mut acknowledged) = mpsc::unbounded_channel();
    let mut callers = Vec::new();
    for n in 0..CALLERS {
        callers.push(tokio::spawn(act(
            client(&old).await,
            format!("caller-{n}"),
            acknowledge.clone(),
        )));
    }
    drop(acknowledge);
    let mut all: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut take = async |count: usize| {
        for _ in 0..count {
            let (name, revision) = acknowledged.recv().await.unwrap();
            all.entry(name).or_default().push(revision);
        }
    };
    take(ACTIONS).await;

    kill_process(Pid::from_child(&old.child), Signal::TERM).unwrap();
    let ended = tokio::task::spawn_blocking(move || old.child.wait().unwrap()).await.unwrap();
    assert!(ended.success(), "{ended}");
    let new =
        tokio::task::spawn_blocking(move || Server::start_at(&listen, on(&data))).await.unwrap();
    take(ACTIONS + CALLERS).await;

    // From here on each caller ends with the call in hand.
    acknowledged.close();
    while let Some((name, revision)) = acknowledged.recv().await {
        all.entry(name).or_default().push(revision);
    }
    for caller in callers {
        caller.await.unwrap();
    }
    let ann = client(&new).await;
    let mut last = 0;
    for (name, revisions) in &all {
        let release = ann.get_release(name.clone()).await.unwrap();
        last = last.max(release.revision);
        // A caller may have done one thing more of which nobody was told.
        assert!(release.revision >= *revisions.last().unwrap(), "{name}");
    }
    for (tell, watcher) in watchers {
        tell.send(last).await.unwrap();
        let seen = watcher.await.unwrap();
        assert!(seen.interrupted > 0, "the old server ended the watch");
        for (name, acknowledged) in &all {
            let revisions = &seen.revisions[name];
            assert!(revisions.is_sorted_by(|a, b| a < b), "{name}: {revisions:?}");
            let missing: Vec<_> =
                acknowledged.iter().filter(|revision| !revisions.contains(revision)).collect();
            assert_eq!(missing, Vec::<&i64>::new(), "{name}");
        }
    }
}

/// The position of a watch is good for the new server, in another process.
#[tokio::test]
async fn a_position_of_the_old_server_is_one_of_the_new() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut old = serve(&data);
    let position = {
        let ann = client(&old).await;
        let spec = Some(v1::flag::Spec::FeatureGate(v1::GateSpec::default()));
        let flag = Some(v1::Flag { spec, ..Default::default() });
        let create = v1::CreateFlagRequest { flag_id: "f".into(), flag, ..Default::default() };
        ann.create_flag(create).await.unwrap();
        let mut watch = ann.watch_releases(v1::ReleaseFilter::default());
        let first = timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
        let ReleasesUpdate::Snapshot { position, .. } = first else { panic!("{first:?}") };
        position
    };
    kill_process(Pid::from_child(&old.child), Signal::TERM).unwrap();
    assert!(old.child.wait().unwrap().success());
    let new = serve(&data);
    let filter = v1::ReleaseFilter::default();
    let mut watch = client(&new).await.resume_releases(filter, position.clone());
    let first = timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    let ReleasesUpdate::Bookmark { position: Position { store_id, .. }, .. } = first else {
        panic!("{first:?}")
    };
    assert_eq!(store_id, position.store_id);
}
