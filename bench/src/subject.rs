//! What Phasegate is asked in these measurements.

use crate::load::{Worker, connections};
use crate::process::Server;
use phasegate_api::v1::{
    self, flag_service_client::FlagServiceClient, pipeline_service_client::PipelineServiceClient,
    release_service_client::ReleaseServiceClient,
};
use phasegate_server::clock::{Clock as _, SystemClock};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tonic::{Request, Status, metadata::MetadataValue, transport::Channel};

/// A pipeline of two phases, each for a share of the traffic, the first of which bakes for five days.
pub(crate) fn pipeline() -> v1::Pipeline {
    let phase = |id: &str, share: u32, bake: i64| v1::Phase {
        id: id.into(),
        rules: vec![v1::TargetingRule {
            id: "share".into(),
            rollout_basis_points: Some(share),
            ..Default::default()
        }],
        bake_duration: Some(prost_types::Duration { seconds: bake, nanos: 0 }),
        ..Default::default()
    };
    let phases = vec![phase("canary", 500, 5 * 24 * 3600), phase("everyone", 10_000, 3600)];
    v1::Pipeline { phases, ..Default::default() }
}

pub(crate) fn create_pipeline() -> v1::CreatePipelineRequest {
    v1::CreatePipelineRequest {
        pipeline_id: "p".into(),
        pipeline: Some(pipeline()),
        ..Default::default()
    }
}

/// Makes a pipeline, and so many flags with a running release each, `releases/r-0` and so on.
pub(crate) async fn fill(server: &Server, releases: usize) {
    let channel = server.connect().await;
    let mut pipelines = PipelineServiceClient::new(channel.clone());
    pipelines.create_pipeline(create_pipeline()).await.expect("it is sound");
    let mut tasks = tokio::task::JoinSet::new();
    let next = Arc::new(AtomicUsize::new(0));
    for _ in 0..64 {
        let (channel, next) = (channel.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            let mut flags = FlagServiceClient::new(channel.clone());
            let mut client = ReleaseServiceClient::new(channel);
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= releases {
                    return;
                }
                flags.create_flag(create_flag(n)).await.expect("it is sound");
                client.trigger_release(trigger(n)).await.expect("it is sound");
            }
        });
    }
    tasks.join_all().await;
}

pub(crate) fn create_flag(n: usize) -> v1::CreateFlagRequest {
    let gate = v1::GateSpec { default_value: false, ..Default::default() };
    let flag = v1::Flag { spec: Some(v1::flag::Spec::FeatureGate(gate)), ..Default::default() };
    v1::CreateFlagRequest { flag_id: format!("f-{n}"), flag: Some(flag), ..Default::default() }
}

pub(crate) fn trigger(n: usize) -> v1::TriggerReleaseRequest {
    let gate = v1::GateSpec { default_value: true, ..Default::default() };
    let release = v1::Release {
        flag: format!("flags/f-{n}"),
        pipeline: "pipelines/p".into(),
        change: Some(v1::release::Change::FeatureGate(gate)),
        ..Default::default()
    };
    v1::TriggerReleaseRequest {
        release_id: format!("r-{n}"),
        release: Some(release),
        ..Default::default()
    }
}

pub(crate) fn pause(release: &str, request_id: String) -> v1::PauseReleaseRequest {
    let (name, reason) = (release.to_owned(), "measured".to_owned());
    v1::PauseReleaseRequest { name, reason, request_id }
}

pub(crate) fn unpause(release: &str, request_id: String) -> v1::UnpauseReleaseRequest {
    let (name, reason) = (release.to_owned(), "measured".to_owned());
    v1::UnpauseReleaseRequest { name, reason, request_id, ..Default::default() }
}

/// A request by somebody of many: no caller has more than its share.
pub(crate) fn by<T>(message: T, somebody: usize) -> Request<T> {
    let mut request = Request::new(message);
    let name = MetadataValue::try_from(format!("caller-{somebody}@example.com"));
    request.metadata_mut().insert("phasegate-principal", name.expect("it is ASCII"));
    request
}

/// Pauses a release and unpauses it, in turn: each call is an action with a request id, as clients send
/// it, which becomes a commit, an event, an entry of the audit and a re-armed timer.
#[derive(Debug)]
pub(crate) struct Actor {
    client: ReleaseServiceClient<Channel>,
    release: String,
    number: usize,
    load: i64,
    /// An even number: the release is not paused.
    calls: u64,
}

impl Worker for Actor {
    async fn call(&mut self) -> Result<(), Status> {
        self.calls += 1;
        let request_id = format!("{}-{}-{}", self.load, self.number, self.calls);
        if self.calls % 2 == 1 {
            let message = pause(&self.release, request_id);
            self.client.pause_release(by(message, self.number)).await?;
        } else {
            let message = unpause(&self.release, request_id);
            self.client.unpause_release(by(message, self.number)).await?;
        }
        Ok(())
    }
}

/// So many who act at a time, each on a release of its own, from `releases/r-FIRST` on.
pub(crate) async fn actors(server: &Server, in_flight: usize, first: usize) -> Vec<Actor> {
    let channels = server.connections(connections(in_flight)).await;
    // Requests of earlier loads are remembered, and would not be done again.
    let load = SystemClock.now().as_millis();
    let mut actors = Vec::new();
    for number in first..first + in_flight {
        let mut client = ReleaseServiceClient::new(channels[number % channels.len()].clone());
        let release = format!("releases/r-{number}");
        let get = v1::GetReleaseRequest { name: release.clone() };
        let answer = client.get_release(get).await.expect("it is there").into_inner();
        let is_paused = answer.release.is_some_and(|r| r.state() == v1::ReleaseState::Paused);
        let calls = u64::from(is_paused);
        actors.push(Actor { client, release, number, load, calls });
    }
    actors
}

/// Changes again and again how long the phase of a release still bakes: an action that is never refused,
/// however many ask for it.
#[derive(Debug)]
pub(crate) struct Adjuster {
    client: ReleaseServiceClient<Channel>,
    release: String,
    seconds: i64,
}

impl Worker for Adjuster {
    async fn call(&mut self) -> Result<(), Status> {
        self.seconds += 1;
        let message = v1::AdjustBakeRequest {
            name: self.release.clone(),
            phase_id: "canary".into(),
            remaining: Some(prost_types::Duration { seconds: self.seconds, nanos: 0 }),
            reason: "measured".into(),
            ..Default::default()
        };
        self.client.adjust_bake(by(message, 0)).await?;
        Ok(())
    }
}

/// So many who do that at a time to `releases/r-0`.
pub(crate) async fn adjusters(server: &Server, count: usize) -> Vec<Adjuster> {
    let channel = server.connect().await;
    let adjuster = |number: usize| Adjuster {
        client: ReleaseServiceClient::new(channel.clone()),
        release: "releases/r-0".into(),
        // Each asks for something else than all others, every time.
        seconds: 100_000 + 10_000 * number as i64,
    };
    (0..count).map(adjuster).collect()
}

/// Reads one release again and again.
#[derive(Debug)]
pub(crate) struct Reader {
    client: ReleaseServiceClient<Channel>,
    name: String,
    number: usize,
}

impl Worker for Reader {
    async fn call(&mut self) -> Result<(), Status> {
        let message = v1::GetReleaseRequest { name: self.name.clone() };
        self.client.get_release(by(message, self.number)).await?;
        Ok(())
    }
}

/// So many who read at a time.
pub(crate) async fn readers(server: &Server, in_flight: usize) -> Vec<Reader> {
    let channels = server.connections(connections(in_flight)).await;
    let reader = |number: usize| Reader {
        client: ReleaseServiceClient::new(channels[number % channels.len()].clone()),
        name: format!("releases/r-{number}"),
        number,
    };
    (0..in_flight).map(reader).collect()
}
