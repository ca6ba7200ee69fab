//! The port for those who look after the server: `/metrics`, `/livez` and `/readyz`, over HTTP.
//!
//! It is another port than that of callers, on loopback unless more is asked for, because nobody is asked
//! there who they are. What is said on it names no flag, no release and no person. Connections and
//! requests have limits, as at the front.

use super::{incoming::Peer, observe::Observer};
use crate::{telemetry::text, web::asked_name};
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response as Answer},
    routing::get,
};
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode, header};
use std::{
    convert::Infallible,
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::{Semaphore, watch};
use tonic::body::Body;
use tower::{Service, util::ServiceExt as _};

/// Connections at a time.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// Requests at a time: each reads some files.
const RUNNING_MAX: usize = 8;
/// A request that takes longer is given up.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// How far the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It reads its store.
    Starting,
    /// It serves.
    Serving,
    /// It ends what is open.
    Stopping,
}

/// Who may be asked for under which name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hosts {
    /// Addresses and `localhost`: a site elsewhere could point a name of its own at a loopback address,
    /// and have the browser of somebody here read for it.
    Addresses,
    /// Any: others reach it, and by names that are not known here.
    Any,
}

/// The outermost service of the port.
#[derive(Clone, Debug)]
pub(super) struct Admin {
    routes: Router,
    hosts: Hosts,
    running: Arc<Semaphore>,
}

#[derive(Clone, Debug)]
struct Looks {
    observer: Observer,
    stage: watch::Receiver<Stage>,
}

impl Admin {
    pub(super) fn new(observer: Observer, stage: watch::Receiver<Stage>, hosts: Hosts) -> Self {
        let routes = Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .with_state(Looks { observer, stage });
        Self { routes, hosts, running: Arc::new(Semaphore::new(RUNNING_MAX)) }
    }
}

async fn metrics(State(looks): State<Looks>) -> Answer {
    let observer = looks.observer;
    let rendered = tokio::task::spawn_blocking(move || {
        observer.look();
        text::render(observer.metrics())
    });
    match rendered.await {
        Ok(text) => ([(header::CONTENT_TYPE, text::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Whether calls can be expected to be done.
async fn readyz(State(looks): State<Looks>) -> Answer {
    let stage = *looks.stage.borrow();
    let is_writable = looks.observer.metrics().store_writable.get() > 0;
    let (status, text) = match stage {
        Stage::Serving if is_writable => (StatusCode::OK, "ok\n"),
        Stage::Serving => (StatusCode::SERVICE_UNAVAILABLE, "the disk is nearly full\n"),
        Stage::Starting => (StatusCode::SERVICE_UNAVAILABLE, "the server reads its store\n"),
        Stage::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "the server is stopping\n"),
    };
    (status, text).into_response()
}

impl Service<Request<Body>> for Admin {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(peer) = request.extensions_mut().remove::<Peer>() {
            peer.first_request.came();
        }
        let plain =
            |status: StatusCode, text: &'static str| (status, text).into_response().map(Body::new);
        if self.hosts == Hosts::Addresses && !is_address(&request) {
            let refused = plain(StatusCode::MISDIRECTED_REQUEST, "Ask by an address.\n");
            return Box::pin(async { Ok(refused) });
        }
        let Ok(place) = Arc::clone(&self.running).try_acquire_owned() else {
            let refused = plain(StatusCode::SERVICE_UNAVAILABLE, "Too many requests.\n");
            return Box::pin(async { Ok(refused) });
        };
        let answer = self.routes.clone().oneshot(request.map(axum::body::Body::new));
        Box::pin(async move {
            let answer = tokio::time::timeout(REQUEST_MAX, answer).await;
            drop(place);
            Ok(match answer {
                Ok(answer) => answer?.map(Body::new),
                Err(_) => plain(StatusCode::REQUEST_TIMEOUT, "The request took too long.\n"),
            })
        })
    }
}

/// Whether a request names its host by an address, or as `localhost`.
fn is_address<B>(request: &Request<B>) -> bool {
    asked_name(request.uri(), request.headers()).is_some_and(|name| {
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_may_be_anybody_s_is_no_address() {
        let check = |host: &str| {
            is_address(&Request::builder().header(header::HOST, host).body(()).unwrap())
        };
        for good in ["127.0.0.1:9464", "[::1]:9464", "localhost", "LocalHost:1", "10.1.2.3"] {
            assert!(check(good), "{good}");
        }
        for bad in ["rebound.example:9464", "localhost.example", ""] {
            assert!(!check(bad), "{bad}");
        }
        assert!(!is_address(&Request::new(())));
    }
}
