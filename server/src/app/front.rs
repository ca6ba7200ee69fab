//! What stands before the services: which requests are gRPC at all, who is let in, how many are looked at
//! at a time, and how long each may take.
//!
//! One port serves gRPC over HTTP/2 and, to everything else, the pages. Without this tonic would answer
//! a browser with `200` and a `grpc-status` that nobody sees.

use super::{
    gate::{enter, watched, watched_page},
    grpc_web::GrpcWeb,
    incoming::Peer,
    measure::{self, Call},
    places::Places,
};
use crate::{
    access::{Access, Grants, table},
    delivery, grpc,
    telemetry::{Metrics, cells::OTHER, trace},
};
use axum::{Router, response::IntoResponse as _};
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tonic::{Status, body::Body, service::Routes};
use tower::{Service, util::ServiceExt as _};
use tracing::Instrument as _;

/// A call that was not answered after this is given up. What it asked for may still happen: the
/// caller repeats it with the same request_id.
const CALL_MAX: Duration = Duration::from_secs(30);
/// WaitRelease may wait 60 s by itself.
const WAIT_MAX: Duration = Duration::from_secs(65);
/// A rehearsal may have years of timers to commit.
const ADVANCE_MAX: Duration = Duration::from_secs(600);
/// tonic watches grpc-timeout too, and would answer CANCELLED. Being a little earlier makes the
/// answer DEADLINE_EXCEEDED, as gRPC has it.
const EARLIER_THAN_TONIC: Duration = Duration::from_millis(5);

/// The outermost service.
#[derive(Clone, Debug)]
pub(super) struct Front {
    access: Access,
    routes: Routes,
    pages: Router,
    grpc_web: Option<GrpcWeb>,
    /// A stream gives its place back with its first headers: what streams cost is bounded by their slots.
    places: Places,
    metrics: Arc<Metrics>,
}

impl Front {
    /// With who may do what, with what is gRPC, with everything else, and with how many requests are
    /// looked at at a time.
    pub(super) fn new(access: Access, routes: Routes, pages: Router, places: Places) -> Self {
        Self { access, routes, pages, grpc_web: None, places, metrics: Arc::default() }
    }

    /// With calls of pages of other origins, if any may call.
    pub(super) fn with_grpc_web(mut self, grpc_web: Option<GrpcWeb>) -> Self {
        self.grpc_web = grpc_web;
        self
    }

    /// Counted there.
    pub(super) fn with_metrics(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }
}

impl Service<Request<Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(peer) = request.extensions_mut().remove::<Peer>() {
            peer.first_request.came();
            // Where tonic looks for the address, and the gate for the certificate.
            request.extensions_mut().insert(peer.tcp);
            if let Some(certificate) = peer.certificate {
                request.extensions_mut().insert(certificate);
            }
        }
        if is_grpc(&request) {
            return self.measure_call(request);
        }
        if let Some(grpc_web) = self.grpc_web.clone().filter(|_| GrpcWeb::is_meant(&request)) {
            let front = self.clone();
            return Box::pin(
                async move { grpc_web.answer(request, |r| front.measure_call(r)).await },
            );
        }
        self.measure_page(request)
    }
}

type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

impl Front {
    fn measure_call(&self, mut request: Request<Body>) -> Answer {
        // Whatever else is asked for is one thing in the metrics.
        let row = table::method(request.uri().path());
        let method = row.map_or(OTHER, |(method, ..)| method.trim_start_matches('/'));
        let span = grpc::span(method);
        if let Some(trace) = trace::join(&span, request.headers()) {
            request.extensions_mut().insert(trace);
        }
        let call = Call::begin(method, span.clone(), Arc::clone(&self.metrics));
        let answer = span.in_scope(|| self.call_method(request));
        Box::pin(async move { Ok(call.answered(answer.await?)) }.instrument(span))
    }

    fn measure_page(&self, mut request: Request<Body>) -> Answer {
        let span = measure::http_span(&request);
        if let Some(trace) = trace::join(&span, request.headers()) {
            request.extensions_mut().insert(trace);
        }
        let (method, begun) = (measure::method_name(request.method()), Instant::now());
        let metrics = Arc::clone(&self.metrics);
        let answer = span.in_scope(|| self.show_page(request));
        let measured = {
            let span = span.clone();
            async move {
                let answer = answer.await?;
                measure::http_answered(method, answer.status(), begun, &span, &metrics);
                Ok(answer)
            }
        };
        Box::pin(measured.instrument(span))
    }

    fn call_method(&self, mut request: Request<Body>) -> Answer {
        let refuse = |status: Status| -> Answer { Box::pin(async { Ok(status.into_http()) }) };
        let row = table::method(request.uri().path());
        let over = match enter(&self.access, &mut request, row) {
            Ok(over) => over,
            Err(refusal) => return refuse(grpc::status::denied(refusal)),
        };
        let limit = call_limit(&request);
        // What only waits has slots of its own, and would keep a place for a minute.
        let place = if is_wait(&request) {
            None
        } else {
            let principal = request.extensions().get::<Grants>().map(|g| &g.identity().principal);
            let Some(place) = self.places.enter(principal) else {
                return refuse(grpc::status::overloaded());
            };
            Some(place)
        };
        let answer = tokio::time::timeout(limit, self.routes.clone().oneshot(request));
        let answer = async move {
            let answer = answer.await;
            drop(place);
            answer.unwrap_or_else(|_| Ok(grpc::status::deadline_exceeded().into_http()))
        };
        let Some(mut over) = over else { return Box::pin(answer) };
        Box::pin(async move {
            tokio::select! {
                biased;
                refusal = &mut over => Ok(grpc::status::denied(refusal).into_http()),
                answer = answer => Ok(watched(answer?, over)),
            }
        })
    }

    fn show_page(&self, mut request: Request<Body>) -> Answer {
        let plain = |status: StatusCode, text: &'static str| {
            Ok((status, text).into_response().map(Body::new))
        };
        let path = request.uri().path();
        let over = if table::is_ofrep(path) {
            let row = table::route(request.method(), path);
            match enter(&self.access, &mut request, row) {
                Ok(over) => over,
                Err(refusal) => {
                    let answer = delivery::denied(&refusal).map(Body::new);
                    return Box::pin(async { Ok(answer) });
                }
            }
        } else {
            // The door of the pages knows sessions, too.
            None
        };
        let principal = request.extensions().get::<Grants>().map(|g| &g.identity().principal);
        let Some(place) = self.places.enter(principal) else {
            let text = "The server has its hands full. Try again in a second.\n";
            return Box::pin(async move { plain(StatusCode::SERVICE_UNAVAILABLE, text) });
        };
        let answer = self.pages.clone().oneshot(request.map(axum::body::Body::new));
        Box::pin(async move {
            let answer = tokio::time::timeout(CALL_MAX, answer).await;
            drop(place);
            let answer = match answer {
                Ok(answer) => answer?.map(Body::new),
                Err(_) => {
                    return plain(StatusCode::REQUEST_TIMEOUT, "The request took too long.\n");
                }
            };
            Ok(match over {
                Some(over) => watched_page(answer, over),
                None => answer,
            })
        })
    }
}

/// The calls that wait for something to happen.
const WAIT_RELEASE: &str = "/phasegate.v1.ReleaseService/WaitRelease";
const ADVANCE: &str = "/phasegate.rehearsal.v1.ClockService/Advance";

fn is_wait<B>(request: &Request<B>) -> bool {
    matches!(request.uri().path(), WAIT_RELEASE | ADVANCE)
}

/// How long the answer (of a stream: its headers) may take.
fn call_limit(request: &Request<Body>) -> Duration {
    let ours = match request.uri().path() {
        WAIT_RELEASE => WAIT_MAX,
        ADVANCE => ADVANCE_MAX,
        _ => CALL_MAX,
    };
    let theirs = grpc::timeout(request.headers())
        .map_or(Duration::MAX, |timeout| timeout.saturating_sub(EARLIER_THAN_TONIC));
    ours.min(theirs)
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    request.version() == Version::HTTP_2
        && content_type
            .and_then(|content_type| content_type.strip_prefix(GRPC))
            // Not application/grpc-web, which is another protocol.
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_over_http_2_is_grpc() {
        let check = |version, content_type: &str| {
            let request = Request::builder().version(version);
            let request = request.header(header::CONTENT_TYPE, content_type);
            is_grpc(&request.body(()).unwrap())
        };
        for good in ["application/grpc", "application/grpc+proto", "application/grpc;x=y"] {
            assert!(check(Version::HTTP_2, good), "{good}");
            assert!(!check(Version::HTTP_11, good), "{good}");
        }
        for bad in ["application/grpc-web", "application/grpc-web+proto", "text/html", ""] {
            assert!(!check(Version::HTTP_2, bad), "{bad}");
        }
    }

    fn grpc(path: &str, timeout: &str) -> Request<Body> {
        let request = Request::builder().version(Version::HTTP_2).uri(path);
        let request = request.header(header::CONTENT_TYPE, "application/grpc");
        request.header("grpc-timeout", timeout).body(Body::empty()).unwrap()
    }

    /// With one place.
    fn front(routes: Router, pages: Router) -> Front {
        Front::new(Access::open(), Routes::from(routes), pages, Places::new(1, 1))
    }

    #[tokio::test]
    async fn a_call_that_takes_longer_than_it_may_is_answered_with_deadline_exceeded() {
        let never = Router::new().fallback(std::future::pending::<()>);
        let mut front = front(never, Router::new());
        let answer = front.call(grpc("/s/m", "20m")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "the code is in grpc-status");
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn what_comes_while_all_hands_are_full_is_sent_away_at_once() {
        let never = Router::new().fallback(std::future::pending::<()>);
        let mut front = front(never.clone(), never);
        let held = tokio::spawn(front.call(grpc("/s/m", "1M")));
        let refused = front.call(grpc("/s/m", "1M")).await.unwrap();
        let status = Status::from_header_map(refused.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        let page = || Request::builder().uri("/releases").body(Body::empty()).unwrap();
        assert_eq!(front.call(page()).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        // It has slots of its own, and so gets in; it waits for ever like everything here.
        let wait = front.call(grpc(WAIT_RELEASE, "20m")).await.unwrap();
        let status = Status::from_header_map(wait.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        held.abort();
        assert!(held.await.unwrap_err().is_cancelled());
        let free = front.call(grpc("/s/m", "20m")).await.unwrap();
        let status = Status::from_header_map(free.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "it was looked at");
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_takes_too_long_is_given_up() {
        let never = Router::new().fallback(std::future::pending::<()>);
        let mut front = front(Router::new(), never);
        let request = Request::builder().uri("/releases").body(Body::empty()).unwrap();
        let answer = front.call(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
    }

    #[test]
    fn a_call_has_the_shorter_of_its_own_time_and_ours() {
        let check = |path, timeout| call_limit(&grpc(path, timeout)).as_secs();
        assert_eq!(check("/phasegate.v1.FlagService/GetFlag", "2M"), 30);
        assert_eq!(check("/phasegate.v1.ReleaseService/WaitRelease", "2M"), 65);
        assert_eq!(check("/phasegate.rehearsal.v1.ClockService/Advance", "2H"), 600);
        assert_eq!(check("/phasegate.v1.FlagService/GetFlag", "3S"), 2, "a little earlier");
    }
}
