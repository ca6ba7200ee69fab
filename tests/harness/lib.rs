//! What tests of the whole need: a server on port 0 with a clock that is moved by hand, generated
//! clients that call as somebody, and messages written as JSON.
//!
//! Nothing here waits for real time: tests move the clock or await an answer of the server.

use phasegate_api::{
    DESCRIPTORS,
    rehearsal::{AdvanceRequest, clock_service_client::ClockServiceClient},
    v1::{
        self, flag_service_client::FlagServiceClient,
        pipeline_service_client::PipelineServiceClient,
        release_service_client::ReleaseServiceClient,
    },
};
use phasegate_engine::time::Timestamp;
use phasegate_server::{
    app::App,
    config::{ClockSource, Config, Data, Drain},
};
use prost_reflect::{DescriptorPool, DynamicMessage};
use std::{net::SocketAddr, path::Path, sync::LazyLock, time::Duration};
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_types::StatusExt as _;

/// 2030-06-14T18:00:00Z, a Friday: what the clock of a test says at first.
pub const START: Timestamp = Timestamp::from_millis(1_907_690_400_000);

/// Longer than anything in a test takes, shorter than anybody wants to wait for a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server of the test's own, on a free port of the loopback address.
#[derive(Debug)]
pub struct TestServer {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
}

impl TestServer {
    /// A server whose store forgets.
    pub async fn in_memory() -> Self {
        Self::start(Data::Memory).await
    }

    /// A server on a data directory, which may hold something already.
    pub async fn on(dir: &Path) -> Self {
        Self::start(Data::Dir(dir.to_owned())).await
    }

    async fn start(data: Data) -> Self {
        let mut config = Config::new(data);
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.clock = ClockSource::Manual { start: START };
        config.drain = Drain::AT_ONCE;
        config.watch.drain_over = Duration::ZERO;
        let mut app = App::bind(config).await.expect("a free port of loopback can be bound");
        let address = app.local_addr();
        let serving = app.when_serving();
        let (stop, stopped) = oneshot::channel();
        let done = tokio::spawn(async move {
            let shutdown = async {
                // Dropped without a word, the server stops as well.
                let _ = stopped.await;
            };
            app.serve(shutdown).await.expect("the server ends well");
        });
        let serving = tokio::time::timeout(PATIENCE, serving).await;
        serving.expect("recovery is quick").expect("recovery goes well");
        Self { address, stop, done }
    }

    /// Stops it as a supervisor would, and waits until it has ended.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let ended = tokio::time::timeout(PATIENCE, self.done).await;
        ended.expect("it drains in time").expect("it does not panic");
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection of its own, made when it is first used.
    pub fn channel(&self) -> Channel {
        let uri = format!("http://{}", self.address);
        Channel::from_shared(uri).expect("an address makes an URI").connect_lazy()
    }

    /// Clients that call as somebody, with the groups they are in.
    pub fn as_caller(&self, principal: &'static str, groups: &'static str) -> Clients {
        let channel = self.channel();
        let caller = Caller { principal, groups };
        let intercept = || InterceptedService::new(channel.clone(), caller.clone());
        Clients {
            flags: FlagServiceClient::new(intercept()),
            pipelines: PipelineServiceClient::new(intercept()),
            releases: ReleaseServiceClient::new(intercept()),
        }
    }

    /// Clients that call as somebody.
    pub fn by(&self, principal: &'static str) -> Clients {
        self.as_caller(principal, "")
    }

    /// Moves the clock ahead, and waits until all that came due is done.
    pub async fn advance(&self, seconds: i64) {
        let duration = Some(prost_types::Duration { seconds, nanos: 0 });
        let mut clock = ClockServiceClient::new(self.channel());
        clock.advance(AdvanceRequest { duration }).await.expect("a manual clock moves");
    }
}

/// Puts a principal and groups into every call.
#[derive(Clone, Debug)]
pub struct Caller {
    principal: &'static str,
    groups: &'static str,
}

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("phasegate-principal", MetadataValue::from_static(self.principal));
        if !self.groups.is_empty() {
            metadata.insert("phasegate-groups", MetadataValue::from_static(self.groups));
        }
        Ok(request)
    }
}

type Wire = InterceptedService<Channel, Caller>;

/// The generated clients of the three services.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Flags.
    pub flags: FlagServiceClient<Wire>,
    /// Pipelines.
    pub pipelines: PipelineServiceClient<Wire>,
    /// Releases.
    pub releases: ReleaseServiceClient<Wire>,
}

/// A message of `phasegate.v1`, written as proto3 JSON.
///
/// # Panics
///
/// If the JSON is not one of that message.
pub fn message<M: prost::Message + Default>(name: &str, json: serde_json::Value) -> M {
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("the descriptors are our own"));
    let full_name = format!("phasegate.v1.{name}");
    let descriptor = POOL.get_message_by_name(&full_name).expect("a message of phasegate.v1");
    let text = json.to_string();
    let dynamic = DynamicMessage::deserialize(descriptor, json)
        .unwrap_or_else(|error| panic!("{full_name} from {text}: {error}"));
    dynamic.transcode_to().expect("the generated type is of the same descriptor")
}

/// What a refusal says to programs: its code, its reason, its metadata.
pub fn refusal(status: &Status) -> (tonic::Code, String, Vec<(String, String)>) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("{status:?} has no ErrorInfo"));
    assert_eq!(info.domain, "phasegate.v1");
    let mut metadata: Vec<_> = info.metadata.clone().into_iter().collect();
    metadata.sort();
    (status.code(), info.reason.clone(), metadata)
}

/// The reason of a refusal.
pub fn reason(status: &Status) -> String {
    refusal(status).1
}

/// The state of a release as the API writes it, without its prefix.
pub fn state(release: &v1::Release) -> &'static str {
    release.state().as_str_name().trim_start_matches("RELEASE_STATE_")
}

/// What an event says happened, without its prefix.
pub fn happened(event: &v1::ReleaseEvent) -> &'static str {
    event.event_type().as_str_name().trim_start_matches("RELEASE_EVENT_TYPE_")
}
