//! What tells of the server: the port for those who look after it, and what is pushed to a collector.

use super::{
    Error, Transport,
    admin::{self, Admin, Hosts, Stage},
    incoming,
    observe::Observer,
};
use crate::{config::Config, telemetry::otlp};
use std::time::Duration;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// What tells of the server: the port for it, and what is pushed.
pub(super) struct Telemetry {
    admin: Option<Transport>,
    push: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Telemetry {
    /// Starts what is configured, and gives what is to be told how far the server is.
    pub(super) fn start(
        observer: &Observer,
        listener: Option<TcpListener>,
        config: &Config,
    ) -> Result<(watch::Sender<Stage>, Self), Error> {
        let (tell, stage) = watch::channel(Stage::Starting);
        let is_loopback = config.telemetry.listen.is_some_and(|at| at.ip().is_loopback());
        let hosts = if is_loopback { Hosts::Addresses } else { Hosts::Any };
        let admin = listener.map(|listener| {
            let limits = incoming::Limits {
                connections_max: admin::CONNECTIONS_MAX,
                per_address_max: admin::CONNECTIONS_MAX,
                first_request_within: config.edge.first_request_within,
                handshake_max: config.handshake_max,
            };
            Transport::with(listener, limits, None, Admin::new(observer.clone(), stage, hosts))
        });
        let push = match &config.telemetry.otlp {
            Some(settings) if settings.signals != otlp::Signals::Traces => {
                let push = otlp::Push::new(settings, observer.now())?;
                let stop = CancellationToken::new();
                let pushing = push_metrics(push, observer.clone(), settings.interval, stop.clone());
                Some((stop, tokio::spawn(pushing)))
            }
            Some(_) | None => None,
        };
        Ok((tell, Self { admin, push }))
    }

    /// Pushes once more, and closes the port.
    pub(super) async fn stop(self) {
        if let Some((stop, pushing)) = self.push {
            stop.cancel();
            // It has a limit of its own, and what it could not push is lost.
            let _ = pushing.await;
        }
        if let Some(admin) = self.admin {
            admin.drop_all().await;
        }
    }
}

/// Whoever waits for the end of the server does not wait longer for a collector.
const LAST_PUSH_MAX: Duration = Duration::from_secs(2);

/// Pushes metrics now and then, and at the end.
async fn push_metrics(
    mut push: otlp::Push,
    observer: Observer,
    interval: Duration,
    stop: CancellationToken,
) {
    let mut is_said = false;
    loop {
        let is_last = stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_none();
        let looking = observer.clone();
        if tokio::task::spawn_blocking(move || looking.look()).await.is_err() {
            tracing::error!("looking at the metrics panicked");
        }
        let limit = if is_last { LAST_PUSH_MAX } else { Duration::MAX };
        let pushed = timeout(limit, push.push(observer.metrics(), observer.now())).await;
        match pushed.unwrap_or_else(|_| Err(Status::deadline_exceeded("at the end"))) {
            Ok(()) => is_said = false,
            Err(status) => {
                observer.metrics().otlp_failures.add(1);
                // A collector that is away is away for a while. What it says is not repeated here.
                if !is_said {
                    tracing::warn!(code = ?status.code(), "metrics could not be pushed over OTLP");
                }
                is_said = true;
            }
        }
        if is_last {
            return;
        }
    }
}
