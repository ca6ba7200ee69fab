//! A server on a free port, with everything in memory and a clock that is turned by hand.

use phasegate_api::{
    rehearsal::clock_service_client::ClockServiceClient,
    v1::{
        self, audit_service_client::AuditServiceClient, flag_service_client::FlagServiceClient,
        pipeline_service_client::PipelineServiceClient,
        release_service_client::ReleaseServiceClient,
    },
};
use phasegate_engine::time::Timestamp;
use phasegate_server::{
    app::{App, Error, OpenStore, Parts},
    config::{ClockSource, Config, Data, Drain},
};
use std::{net::SocketAddr, sync::mpsc, time::Duration};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// 2030-06-14T18:00:00Z, a Friday evening.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_907_776_800_000);

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Where it tells of itself, if it does.
    pub(crate) metrics: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), Error>>,
}

/// What tests begin with: port 0, memory, a manual clock, and no ceremony at the end.
pub(crate) fn config() -> Config {
    let mut config = Config::new(Data::Memory);
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.clock = ClockSource::Manual { start: START };
    config.drain = Drain { notice: Duration::ZERO, limit: Duration::from_secs(5) };
    config.watch.drain_over = Duration::ZERO;
    config
}

impl Server {
    /// Starts, and waits until it serves.
    pub(crate) async fn start() -> Self {
        Self::start_with(config()).await
    }

    /// The same, configured otherwise.
    pub(crate) async fn start_with(config: Config) -> Self {
        let parts = Parts::of(&config);
        let server = Self::start_unready(config, parts).await;
        server.serves().await;
        server
    }

    /// Starts, and does not wait.
    pub(crate) async fn start_unready(config: Config, parts: Parts) -> Self {
        let app = App::bind_with(config, parts).await.unwrap();
        let (address, metrics) = (app.local_addr(), app.metrics_addr());
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(app.serve(async move {
            // A test that drops its server stops it, too.
            let _ = stopped.await;
        }));
        Self { address, metrics, stop, ended }
    }

    /// Starts, and does not recover until it is told to.
    pub(crate) async fn start_held() -> (Self, mpsc::Sender<()>) {
        let config = config();
        let parts = Parts::of(&config);
        let (go_on, wait) = mpsc::channel();
        let open = parts.open_store;
        let open_store: OpenStore = Box::new(move || {
            wait.recv().unwrap();
            open()
        });
        let parts = Parts { clock: parts.clock, open_store, who: None, refusals: None };
        (Self::start_unready(config, parts).await, go_on)
    }

    /// Waits until health says so.
    pub(crate) async fn serves(&self) {
        let mut health = self.health().await;
        let request = HealthCheckRequest { service: String::new() };
        let mut statuses = health.watch(request).await.unwrap().into_inner();
        let serving = async {
            while let Some(answer) = statuses.message().await.unwrap() {
                if answer.status() == ServingStatus::Serving {
                    return;
                }
            }
            panic!("the server ended before it served");
        };
        within(serving).await;
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        within(endpoint.connect()).await.unwrap()
    }

    pub(crate) async fn flags(&self) -> FlagServiceClient<Channel> {
        FlagServiceClient::new(self.channel().await)
    }

    pub(crate) async fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel().await)
    }

    pub(crate) async fn pipelines(&self) -> PipelineServiceClient<Channel> {
        PipelineServiceClient::new(self.channel().await)
    }

    pub(crate) async fn releases(&self) -> ReleaseServiceClient<Channel> {
        ReleaseServiceClient::new(self.channel().await)
    }

    pub(crate) async fn clock(&self) -> ClockServiceClient<Channel> {
        ClockServiceClient::new(self.channel().await)
    }

    pub(crate) async fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel().await)
    }

    /// Asks it to stop.
    pub(crate) fn ask_to_stop(self) -> JoinHandle<Result<(), Error>> {
        self.stop.send(()).unwrap();
        self.ended
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(self) -> Result<(), Error> {
        within(self.ended).await.unwrap()
    }

    /// Stops it, which must succeed.
    pub(crate) async fn stop(self) {
        within(self.ask_to_stop()).await.unwrap().unwrap();
    }

    /// A flag `checkout`, off for everyone, and a pipeline `p` whose one phase, `canary`, bakes for
    /// an hour.
    pub(crate) async fn with_flag_and_pipeline(self) -> Self {
        let mut pipelines = self.pipelines().await;
        pipelines.create_pipeline(create_pipeline()).await.unwrap();
        self.flags().await.create_flag(create_flag("checkout")).await.unwrap();
        self
    }

    /// Triggers the release of this id, for the flag and along the pipeline above.
    pub(crate) async fn trigger(&self, id: &str) -> v1::Release {
        let mut releases = self.releases().await;
        releases.trigger_release(trigger(id)).await.unwrap().into_inner().release.unwrap()
    }

    pub(crate) async fn pause(&self, id: &str) -> v1::Release {
        let request = v1::PauseReleaseRequest {
            name: format!("releases/{id}"),
            reason: "let us look".into(),
            ..Default::default()
        };
        self.releases().await.pause_release(request).await.unwrap().into_inner().release.unwrap()
    }

    pub(crate) async fn abort(&self, id: &str) -> v1::Release {
        let request = v1::AbortReleaseRequest {
            name: format!("releases/{id}"),
            reason: "enough".into(),
            ..Default::default()
        };
        self.releases().await.abort_release(request).await.unwrap().into_inner().release.unwrap()
    }
}

/// Waits, but not for ever.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("nothing in a test takes so long")
}

pub(crate) fn create_flag(id: &str) -> v1::CreateFlagRequest {
    let spec = v1::flag::Spec::FeatureGate(v1::GateSpec::default());
    let flag = v1::Flag { spec: Some(spec), ..Default::default() };
    v1::CreateFlagRequest { flag_id: id.into(), flag: Some(flag), ..Default::default() }
}

pub(crate) fn create_pipeline() -> v1::CreatePipelineRequest {
    let everyone = v1::TargetingRule { id: "everyone".into(), ..Default::default() };
    let canary = v1::Phase {
        id: "canary".into(),
        rules: vec![everyone],
        bake_duration: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        ..Default::default()
    };
    let pipeline = v1::Pipeline { phases: vec![canary], ..Default::default() };
    v1::CreatePipelineRequest {
        pipeline_id: "p".into(),
        pipeline: Some(pipeline),
        ..Default::default()
    }
}

pub(crate) fn trigger(id: &str) -> v1::TriggerReleaseRequest {
    let on = v1::GateSpec { default_value: true, ..Default::default() };
    let release = v1::Release {
        flag: "flags/checkout".into(),
        pipeline: "pipelines/p".into(),
        change: Some(v1::release::Change::FeatureGate(on)),
        ..Default::default()
    };
    v1::TriggerReleaseRequest {
        release_id: id.into(),
        release: Some(release),
        ..Default::default()
    }
}
