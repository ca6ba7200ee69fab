//! The gRPC edge: the only room that knows the wire and its status codes.
//!
//! Each service is a file; each of its methods parses ([`phasegate_api::convert`]), asks the driver
//! or reads what the driver has published, and translates the answer. Nothing is decided here, and
//! nothing is kept here but what is on its way: the state is the driver's, the streams are
//! [`watch`](crate::watch)'s, and every error is made in [`status`].
//!
//! What is deliberately absent: the store, any rule about flags or releases, who may do what (see
//! [`access`](crate::access)), and compression, which costs an idle stream four times its memory.

mod access;
mod account;
mod audit;
pub mod caller;
mod events;
mod flag;
mod health;
mod notification;
mod page;
mod pipeline;
mod reflection;
mod rehearsal;
mod release;
mod release_id;
pub mod status;
mod store;
mod submit;
mod timeout;
mod warnings;
mod watch;
mod wire;

pub use account::span;
pub use health::Health;
pub use timeout::timeout;

use crate::{
    access::{Access, Grants},
    driver::Handle,
    notify::Notifier,
    watch::Watches,
};
use phasegate_api::{
    flagd::{
        evaluation::service_server::ServiceServer as EvaluationServer,
        evaluation_v1::service_server::ServiceServer as EvaluationV1Server,
        sync::flag_sync_service_server::FlagSyncServiceServer,
    },
    rehearsal::clock_service_server::ClockServiceServer,
    v1::{
        access_service_server::AccessServiceServer, audit_service_server::AuditServiceServer,
        flag_service_server::FlagServiceServer,
        notification_service_server::NotificationServiceServer,
        pipeline_service_server::PipelineServiceServer,
        release_service_server::ReleaseServiceServer, store_service_server::StoreServiceServer,
    },
};
use phasegate_engine::{id::EnvironmentId, targeting::Bucketing};
use std::sync::{Arc, OnceLock};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Status, server::NamedService as _, service::Routes};

/// Largest request. The largest spec has 512 KiB, and a pipeline may have as much.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Largest message that is sent: what clients accept unless told otherwise.
pub const RESPONSE_BYTES_MAX: usize = 4 << 20;
/// Calls of WaitRelease at a time. Each costs a little at every commit, so there is a bound; at a
/// minute each it is far above what scripts need.
const WAITS_MAX: usize = 10_000;

/// What the services work with. Clones share it.
///
/// It is served before it is ready, so that a starting server says so instead of refusing
/// connections: until [`Api::open`] every call is answered with `STORE_READ_ONLY`.
#[derive(Clone, Debug)]
pub struct Api {
    backend: Arc<OnceLock<Backend>>,
    notifier: Arc<OnceLock<Notifier>>,
    bucketing: Bucketing,
    environments: Arc<[EnvironmentId]>,
    waits: Arc<Semaphore>,
    audit_watches: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    draining: CancellationToken,
    access: Access,
    /// What a reader may where nothing is checked.
    everybody: Grants,
}

#[derive(Debug)]
struct Backend {
    driver: Handle,
    watches: Watches<Handle>,
}

/// Which services there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Those of `phasegate.v1`, and flagd's (see [`delivery`](crate::delivery)).
    Production,
    /// And `phasegate.rehearsal.v1.ClockService`, which moves the clock.
    Rehearsal,
}

impl Offer {
    /// Full names of the services, health and reflection apart.
    pub fn services(self) -> &'static [&'static str] {
        const ALL: &[&str] = &[
            AccessServiceServer::<Api>::NAME,
            FlagServiceServer::<Api>::NAME,
            PipelineServiceServer::<Api>::NAME,
            ReleaseServiceServer::<Api>::NAME,
            AuditServiceServer::<Api>::NAME,
            NotificationServiceServer::<Api>::NAME,
            StoreServiceServer::<Api>::NAME,
            FlagSyncServiceServer::<Api>::NAME,
            EvaluationServer::<Api>::NAME,
            EvaluationV1Server::<Api>::NAME,
            ClockServiceServer::<Api>::NAME,
        ];
        match self {
            Self::Production => &ALL[..10],
            Self::Rehearsal => ALL,
        }
    }
}

impl Api {
    /// Not open yet.
    pub fn new(bucketing: Bucketing) -> Self {
        let waits = Arc::new(Semaphore::new(WAITS_MAX));
        let audit_watches = Arc::new(Semaphore::new(audit::WATCHES_MAX));
        let exports = Arc::new(Semaphore::new(store::EXPORTS_MAX));
        let draining = CancellationToken::new();
        let environments = Arc::default();
        let (access, everybody) = (Access::open(), caller::everybody());
        Self {
            backend: Arc::default(),
            notifier: Arc::default(),
            bucketing,
            environments,
            waits,
            audit_watches,
            exports,
            draining,
            access,
            everybody,
        }
    }

    /// With environments that there are though nothing else names them.
    #[must_use]
    pub fn with_environments(self, environments: &[EnvironmentId]) -> Self {
        Self { environments: environments.into(), ..self }
    }

    /// With a gate before it: a request without [`Grants`] in its extensions is denied. Without one
    /// callers are believed.
    #[must_use]
    pub fn with_access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// Who may do what.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// Recovery is over: calls are answered from here on.
    pub fn open(&self, driver: Handle, watches: Watches<Handle>) {
        // Only the first call counts, and there is one.
        self.backend.get_or_init(|| Backend { driver, watches });
    }

    /// Notifications are sent, and can be looked at. Before [`Self::open`], or never.
    pub fn notify_with(&self, notifier: Notifier) {
        // Only the first call counts, and there is one.
        self.notifier.get_or_init(|| notifier);
    }

    fn notifier(&self) -> Option<&Notifier> {
        self.notifier.get()
    }

    /// The server is about to stop: calls that wait for something end with `SERVER_DRAINING`. Watches
    /// are told by [`Watches::drain`].
    pub fn drain(&self) {
        self.draining.cancel();
    }

    fn backend(&self) -> Result<&Backend, Status> {
        self.backend.get().ok_or_else(status::recovering)
    }

    /// The way to the writer, and to what it has published.
    pub(crate) fn driver(&self) -> Result<&Handle, Status> {
        Ok(&self.backend()?.driver)
    }

    /// How contexts are hashed into buckets.
    pub(crate) fn bucketing(&self) -> Bucketing {
        self.bucketing
    }

    /// Environments that there are though no flag and no pipeline names them.
    pub(crate) fn environments(&self) -> &[EnvironmentId] {
        &self.environments
    }

    /// Cancelled when what waits is to end.
    pub(crate) fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// The services of `phasegate` that are on offer, and health and reflection of all that are.
    pub fn routes(&self, offer: Offer, health: &Health) -> Routes {
        let flags = FlagServiceServer::new(self.clone())
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
        let pipelines = PipelineServiceServer::new(self.clone())
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
        let releases = ReleaseServiceServer::new(self.clone())
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
        let notifications = NotificationServiceServer::new(self.clone())
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
        let audit = AuditServiceServer::new(self.clone())
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
        let access = AccessServiceServer::new(self.clone())
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
        let store = StoreServiceServer::new(self.clone())
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
        let mut routes = Routes::new(flags)
            .add_service(access)
            .add_service(pipelines)
            .add_service(notifications)
            .add_service(audit)
            .add_service(store)
            .add_service(watch::Shared::new(self.clone(), releases))
            .add_service(health.service());
        if offer == Offer::Rehearsal {
            let clock = ClockServiceServer::new(self.clone())
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(RESPONSE_BYTES_MAX);
            routes = routes.add_service(clock);
        }
        reflection::add_to(routes, offer)
    }
}
