//! The server as a whole: takes an address, serves, recovers behind it, and stops in good order.
//!
//! [`App::bind`] takes the address and [`App::serve`] does the rest. Calls are answered from the
//! first moment on, if only with `STORE_READ_ONLY` and NOT_SERVING, while the store is opened and
//! read on a thread of its own. Stopping is the reverse, with a limit: watches end spread over some
//! seconds, calls finish, then the writer.
//!
//! What is deliberately absent: arguments, environment, logging set-up and exit, which are the
//! program's.

mod addresses;
mod admin;
mod exit;
mod front;
mod gate;
mod grpc_web;
mod incoming;
mod journal;
mod measure;
mod observe;
mod places;
mod record;
mod security;
mod shares;
mod telemetry;
mod tls;

pub use exit::{Error, ExitCode};
pub use tls::Error as TlsError;

use crate::{
    access::{
        Access, Policies, Refusals,
        identity::{Authenticate, Trusting},
    },
    clock::{Clock, ManualClock, SystemClock},
    config::{self, ClockSource, Config, Data},
    delivery::Delivery,
    driver::Driver,
    grpc::{Api, Health, Offer},
    notify::{self, Notifier},
    store::{self, Store, StoreId},
    watch::Watches,
    web::{Scheme, Site},
};
use admin::Stage;
use front::Front;
use grpc_web::GrpcWeb;
use observe::Observer;
use places::Places;
use record::Record;
use security::{Security, Watched};
use std::{
    convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration,
};
use telemetry::Telemetry;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{body::Body, transport::Server};
use tower::Service;

/// Opens a store, which may take seconds.
pub type OpenStore = Box<dyn FnOnce() -> Result<Box<dyn Store>, store::Error> + Send>;

/// What tests replace.
pub struct Parts {
    /// The clock that everything follows. A manual one brings the service that moves it.
    pub clock: Arc<dyn Clock>,
    /// The store.
    pub open_store: OpenStore,
    /// Tells who calls. None: callers are believed.
    pub who: Option<Arc<dyn Authenticate>>,
    /// Is told of everybody who is refused at the gate.
    pub refusals: Option<Arc<dyn Refusals>>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl Parts {
    /// What the configuration asks for.
    pub fn of(config: &Config) -> Self {
        let clock: Arc<dyn Clock> = match config.clock {
            ClockSource::System => Arc::new(SystemClock),
            ClockSource::Manual { start } => Arc::new(ManualClock::new(start)),
        };
        let fresh = StoreId::fresh();
        let open_store: OpenStore = match config.data.clone() {
            Data::Dir(dir) => Box::new(move || Ok(Box::new(store::sled::open(&dir, fresh)?))),
            Data::Memory => Box::new(move || {
                Ok(Box::new(store::memory::open(&store::memory::Disk::new(), fresh)?))
            }),
        };
        Self { clock, open_store, who: None, refusals: None }
    }
}

/// A server that has its address and does not serve yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    parts: Parts,
    router: notify::Router,
    security: Security,
    watched: Watched,
    listener: TcpListener,
    address: SocketAddr,
    admin: Option<TcpListener>,
    access: Access,
    record: Record,
    tell_serving: Option<oneshot::Sender<()>>,
}

impl App {
    /// Checks the configuration and takes the address.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        let parts = Parts::of(&config);
        Self::bind_with(config, parts).await
    }

    /// The same, with parts of the caller's own.
    pub async fn bind_with(mut config: Config, parts: Parts) -> Result<Self, Error> {
        config.validate()?;
        let settings = config.notifications.as_deref().map(notify::read).transpose();
        let router =
            notify::Router::new(settings.map_err(Error::Notifications)?.unwrap_or_default());
        if config.notifications.is_some() {
            config.driver.routes = Arc::new(router.clone());
        }
        let (security, watched) = Security::of(&config)?;
        let record = Record::default();
        let access = access(&config, &parts, &security, &record)?;
        let failed = |source| Error::Listen { address: config.listen, source };
        let listener = incoming::listen(config.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let admin = config.telemetry.listen.map(|address| {
            incoming::listen(address).map_err(|source| Error::Listen { address, source })
        });
        Ok(Self {
            admin: admin.transpose()?,
            config,
            parts,
            access,
            record,
            router,
            security,
            watched,
            listener,
            address,
            tell_serving: None,
        })
    }

    /// Where it listens: the port that was taken, if any was wanted.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where it tells of itself, if it does: the port that was taken, if any was wanted.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.local_addr().ok()
    }

    /// Hears when recovery is over and calls are served; an error if the server ends before that.
    /// Asking again forgets who asked before.
    pub fn when_serving(&mut self) -> oneshot::Receiver<()> {
        let (tell, serving) = oneshot::channel();
        self.tell_serving = Some(tell);
        serving
    }

    /// Serves until `shutdown` ends or the store fails, then stops. Whatever was acknowledged is on
    /// disk, however this ends.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let offer = match self.parts.clock.as_manual() {
            Some(_) => Offer::Rehearsal,
            None => Offer::Production,
        };
        let health = Health::new(offer).await;
        let api = Api::new(self.config.bucketing)
            .with_environments(&self.config.delivery.environments())
            .with_access(self.access.clone());
        let _follows_policy = follow_policy(&self.access);
        let drain_over = self.config.watch.drain_over;
        let delivery = Delivery::new(api.clone(), self.config.delivery.clone(), drain_over);
        let security = self.security;
        let mut site = Site::new(delivery.clone(), &self.config.page_hosts);
        if let Some(authenticator) = &security.authenticator {
            let scheme = match security.tls {
                Some(_) => Scheme::Https,
                None => Scheme::Http,
            };
            site = site.with_login(Arc::clone(authenticator), scheme);
        }
        let grpc_web = GrpcWeb::of(&self.config.edge.grpc_web_origins, site.hosts());
        let transport = Transport::start(
            self.listener,
            &self.config,
            security.tls.clone(),
            Front::new(
                self.access,
                delivery.add_to(api.routes(offer, &health)).prepare(),
                delivery.http().merge(site.routes()),
                Places::new(
                    self.config.edge.running_max,
                    self.config.edge.running_per_principal_max,
                ),
            )
            .with_grpc_web(grpc_web)
            .with_metrics(Arc::clone(&self.config.driver.metrics)),
        );
        let metrics = Arc::clone(&self.config.driver.metrics);
        let observer = Observer::new(
            metrics,
            Arc::new(SystemClock),
            &self.config.data,
            transport.open.clone(),
        );
        let (stage, telemetry) = Telemetry::start(&observer, self.admin, &self.config)?;
        let stop = CancellationToken::new();
        let keep_fresh = security.keep_fresh(self.watched);
        tokio::spawn(stop.clone().run_until_cancelled_owned(keep_fresh));
        let fresh = stop.drop_guard();
        tracing::info!(address = %self.address, "listening");

        let mut shutdown = pin!(shutdown);
        let recovered = recover(self.parts, self.config.driver.clone());
        let driver = tokio::select! {
            recovered = recovered => recovered,
            // The thread that recovers dies with the process, which a store has to survive anyway.
            () = &mut shutdown => {
                transport.drop_all().await;
                telemetry.stop().await;
                return Ok(());
            }
        };
        let mut driver = match driver {
            Ok(driver) => driver,
            Err(error) => {
                transport.drop_all().await;
                return Err(error);
            }
        };

        let watches = Watches::new(driver.handle().clone(), self.config.watch.clone());
        let notifier = self.config.notifications.clone().map(|file| {
            let notifier = Notifier::start(driver.handle().clone(), self.router, file);
            api.notify_with(notifier.clone());
            notifier
        });
        self.record.open(driver.handle().clone());
        observer.open(observe::Running {
            driver: driver.handle().clone(),
            watches: watches.clone(),
            delivery,
            notifier: notifier.clone(),
        });
        tokio::spawn(journal::follow(driver.handle().clone()));
        api.open(driver.handle().clone(), watches.clone());
        // Before health, whose watchers may ask here next.
        stage.send_replace(Stage::Serving);
        health.serving().await;
        tracing::info!(store_id = %driver.handle().store_id(), "serving");
        if let Some(tell) = self.tell_serving {
            // Whoever asked may not care any more.
            let _ = tell.send(());
        }

        let asked = tokio::select! {
            () = &mut shutdown => Ok(()),
            ended = driver.ended() => match ended {
                Ok(()) => Err(Error::Ended("the writer")),
                Err(failure) => Err(Error::Writer(failure)),
            },
        };
        match asked {
            Ok(()) => {
                drop(fresh);
                stage.send_replace(Stage::Stopping);
                let running = Running { api, watches, notifier, health, transport, driver };
                let stopped = running.stop(&self.config).await;
                telemetry.stop().await;
                stopped
            }
            Err(error) => {
                // Nothing may be assumed of the store: nobody is answered any more.
                health.not_serving().await;
                transport.drop_all().await;
                Err(error)
            }
        }
    }
}

/// Everything for which a server would not start with this: in the configuration, and in the files that it
/// names. Nothing is listened on, and no store is opened.
pub fn check(config: &Config) -> Vec<Error> {
    let mut problems: Vec<Error> = config.problems().into_iter().map(Error::Config).collect();
    let notifications = config.notifications.as_deref().map(notify::read);
    problems.extend(notifications.and_then(Result::err).map(Error::Notifications));
    problems.extend(security::problems(config));
    match &config.policy {
        Some(policy) => problems.extend(Policies::load(policy).err().map(Error::from)),
        None if config.authentication.is_some() => {
            problems.push(config::Invalid::NoPolicy.into());
        }
        None => {}
    }
    problems
}

/// Who may do what, by the configuration.
fn access(
    config: &Config,
    parts: &Parts,
    security: &Security,
    record: &Record,
) -> Result<Access, Error> {
    let policies = config.policy.as_deref().map(Policies::load).transpose()?;
    let known = || Some(Arc::clone(security.authenticator.as_ref()?) as Arc<dyn Authenticate>);
    let (who, policies) = match (parts.who.clone().or_else(known), policies) {
        (None, None) => return Ok(Access::open()),
        (Some(_), None) => return Err(config::Invalid::NoPolicy.into()),
        (None, Some(policies)) => (Arc::new(Trusting::new()) as Arc<dyn Authenticate>, policies),
        (Some(who), Some(policies)) => (who, policies),
    };
    let refusals = parts.refusals.clone().unwrap_or_else(|| Arc::new(record.clone()));
    Ok(Access::recorded(who, policies, config.edge.rates, refusals))
}

/// Reads the policy again when its file changes, and at SIGHUP. Ends with what it gives.
fn follow_policy(access: &Access) -> DropGuard {
    let ended = CancellationToken::new();
    let guard = ended.clone().drop_guard();
    let Some(policies) = access.policies().cloned() else { return guard };
    tokio::spawn(async move {
        let (ask, asked) = watch::channel(0_u64);
        let hang_ups = async {
            use tokio::signal::unix::{SignalKind, signal};
            match signal(SignalKind::hangup()) {
                Ok(mut hang_ups) => {
                    while hang_ups.recv().await.is_some() {
                        tracing::info!("SIGHUP");
                        ask.send_modify(|times| *times += 1);
                    }
                }
                // It is still read whenever it changes.
                Err(error) => tracing::warn!(%error, "SIGHUP is not heard"),
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = hang_ups => {}
            () = policies.follow(asked) => {}
            () = ended.cancelled() => {}
        }
    });
    guard
}

/// Opens and reads the store, and starts the writer. On a thread of its own: it blocks, and it must
/// not hold up the end of the runtime.
async fn recover(parts: Parts, config: crate::driver::Config) -> Result<Driver, Error> {
    let (tell, recovered) = oneshot::channel();
    let recover = move || {
        let store = (parts.open_store)().map_err(Error::Open);
        let start = |store| Driver::start(store, parts.clock, config).map_err(Error::Recover);
        let driver = store.and_then(start);
        // Nobody listens any more if the server was stopped meanwhile.
        let _ = tell.send(driver);
    };
    let thread = std::thread::Builder::new().name("recovery".to_owned());
    thread.spawn(recover).map_err(Error::Thread)?;
    recovered.await.unwrap_or(Err(Error::Panicked("recovery")))
}

/// A server that serves.
struct Running {
    api: Api,
    watches: Watches<crate::driver::Handle>,
    notifier: Option<Notifier>,
    health: Health,
    transport: Transport,
    driver: Driver,
}

impl Running {
    /// Ends the streams, then the calls, then the writer. Gives up after the limit, and says so.
    async fn stop(self, config: &Config) -> Result<(), Error> {
        let Self { api, watches, notifier, mut health, mut transport, mut driver } = self;
        let (drain, spread) = (config.drain, config.watch.drain_over);
        tracing::info!(?drain, ?spread, "stopping");
        let in_good_order = async {
            health.not_serving().await;
            transport.idle_or_after(drain.notice).await;
            api.drain();
            watches.drain();
            transport.idle_or_after(spread).await;
            health.clear().await;
            transport.finished().await;
        };
        // At the same time: what was begun is to end while the writer can still write it down.
        let sent = async {
            if let Some(notifier) = notifier {
                notifier.drain().await;
            }
        };
        if timeout(drain.limit, async { tokio::join!(in_good_order, sent) }).await.is_err() {
            tracing::warn!(limit = ?drain.limit, "dropped what was still open");
        }
        transport.drop_all().await;
        driver.handle().stop();
        driver.ended().await.map_err(Error::Writer)?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Streams that a client may have open on one connection: what one connection can make the server do
/// at a time. Clients open another when they need more. (hyper would allow 200; tonic asks for no
/// limit unless told.)
const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// All headers of a call: a principal, a hundred groups, and what proxies add.
const HEADERS_BYTES_MAX: u32 = 8 << 10;
/// A connection whose peer does not answer for [`PING_INTERVAL`] and [`PING_TIMEOUT`] is closed:
/// this is how dead watchers are found.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// A connection is told to go after this, so that clients spread anew over servers. Without a grace
/// after it, which would cut streams without a word: they end by themselves about this time.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(3600);
/// Streams reset by the peer before they were looked at (rapid reset, CVE-2023-44487): h2's default,
/// spelled out.
const PEER_RESETS_MAX: usize = 20;
/// Streams reset by us for the peer's errors (RUSTSEC-2024-0003): hyper's default, which tonic would
/// lift.
const OUR_RESETS_MAX: usize = 1024;

/// The listener and its connections.
struct Transport {
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    /// How many connections are open.
    open: watch::Receiver<usize>,
    finish: CancellationToken,
    drop_all: CancellationToken,
}

impl Transport {
    fn start(listener: TcpListener, config: &Config, tls: Option<tls::Tls>, front: Front) -> Self {
        let limits = incoming::Limits {
            connections_max: config.edge.connections_max,
            per_address_max: config.edge.connections_per_address_max,
            first_request_within: config.edge.first_request_within,
            handshake_max: config.handshake_max,
        };
        Self::with(listener, limits, tls, front)
    }

    /// Any service, with limits of its own.
    fn with<S>(
        listener: TcpListener,
        limits: incoming::Limits,
        tls: Option<tls::Tls>,
        service: S,
    ) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send + 'static,
    {
        let finish = CancellationToken::new();
        let drop_all = CancellationToken::new();
        let (counter, open) = watch::channel(0);
        let connections = incoming::accept(listener, tls, limits, counter, drop_all.clone());
        let server = Server::builder()
            // For the page; `Front` keeps HTTP/1.1 away from everything else.
            .accept_http1(true)
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .http2_max_header_list_size(HEADERS_BYTES_MAX)
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .max_connection_age(CONNECTION_AGE_MAX)
            .http2_max_pending_accept_reset_streams(Some(PEER_RESETS_MAX))
            .http2_max_local_error_reset_streams(Some(OUR_RESETS_MAX))
            .serve_with_incoming_shutdown(service, connections, finish.clone().cancelled_owned());
        Self { server: tokio::spawn(server), open, finish, drop_all }
    }

    /// Waits for a time, but no longer than there is anybody to wait for.
    async fn idle_or_after(&mut self, time: Duration) {
        // Past the time, or with the counter gone, there is nothing more to wait for either.
        let _ = timeout(time, self.open.wait_for(|open| *open == 0)).await;
    }

    /// Stops listening and waits until every connection is done. To be called until it has ended
    /// once.
    async fn finished(&mut self) {
        self.finish.cancel();
        match (&mut self.server).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the transport failed"),
            Err(error) => tracing::error!(%error, "the transport panicked"),
        }
    }

    /// Stops listening and breaks every connection.
    async fn drop_all(mut self) {
        self.drop_all.cancel();
        if !self.server.is_finished() {
            self.finished().await;
        }
    }
}

/// Ends when the process is told to: SIGTERM, or SIGINT from a keyboard.
pub async fn terminated() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => tracing::info!("SIGTERM"),
        _ = int.recv() => tracing::info!("SIGINT"),
    }
    Ok(())
}
