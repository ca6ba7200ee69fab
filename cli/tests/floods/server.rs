//! The real program under attack: how much memory it has, and whether it answers.

use crate::process;
use phasegate_api::v1::{
    self, flag_service_client::FlagServiceClient, pipeline_service_client::PipelineServiceClient,
    release_service_client::ReleaseServiceClient,
};
use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(100);

/// Waits, but not for ever.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("nothing in a flood takes so long")
}

/// A server of its own process, in memory.
pub(crate) struct Server {
    process: process::Server,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start() -> Self {
        let process = process::Server::start(["--memory"]);
        let address = process.address.strip_prefix("http://").unwrap().parse().unwrap();
        Self { process, address }
    }

    /// Memory that it has of the machine, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.process.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kibibytes * 1024
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        within(endpoint.connect()).await.unwrap()
    }

    /// A client that was there before the flood.
    pub(crate) async fn healthy(&self) -> Healthy {
        let mut healthy = Healthy { flags: FlagServiceClient::new(self.channel().await) };
        healthy.ask().await;
        healthy
    }

    /// A flag, a pipeline, and as many releases along it as are wanted, all but one in the queue.
    pub(crate) async fn with_release(&self) -> ReleaseServiceClient<Channel> {
        let channel = self.channel().await;
        let spec = v1::flag::Spec::FeatureGate(v1::GateSpec::default());
        let flag = v1::Flag { spec: Some(spec), ..Default::default() };
        let create =
            v1::CreateFlagRequest { flag_id: "f".into(), flag: Some(flag), ..Default::default() };
        FlagServiceClient::new(channel.clone()).create_flag(create).await.unwrap();
        let phase = v1::Phase {
            id: "canary".into(),
            rules: vec![v1::TargetingRule { id: "all".into(), ..Default::default() }],
            bake_duration: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
            ..Default::default()
        };
        let pipeline = v1::Pipeline { phases: vec![phase], ..Default::default() };
        let create = v1::CreatePipelineRequest {
            pipeline_id: "p".into(),
            pipeline: Some(pipeline),
            ..Default::default()
        };
        PipelineServiceClient::new(channel.clone()).create_pipeline(create).await.unwrap();
        let on = v1::GateSpec { default_value: true, ..Default::default() };
        let release = v1::Release {
            flag: "flags/f".into(),
            pipeline: "pipelines/p".into(),
            change: Some(v1::release::Change::FeatureGate(on)),
            ..Default::default()
        };
        let trigger = v1::TriggerReleaseRequest {
            release_id: "r".into(),
            release: Some(release),
            ..Default::default()
        };
        let mut releases = ReleaseServiceClient::new(channel);
        releases.trigger_release(trigger).await.unwrap();
        releases
    }
}

/// Somebody who only wants to know what flags there are.
pub(crate) struct Healthy {
    flags: FlagServiceClient<Channel>,
}

impl Healthy {
    /// Asks, must be answered, and says how long that took.
    pub(crate) async fn ask(&mut self) -> Duration {
        let asked = Instant::now();
        within(self.flags.list_flags(v1::ListFlagsRequest::default())).await.unwrap();
        asked.elapsed()
    }
}

/// What a flood did, for whoever reads the output.
pub(crate) fn tell(flood: &str, before: u64, after: u64, answered: Duration) {
    let mib = |bytes: u64| bytes / (1 << 20);
    println!(
        "{flood}: memory {} -> {} MiB, a healthy client was answered in {} ms",
        mib(before),
        mib(after),
        answered.as_millis()
    );
}
