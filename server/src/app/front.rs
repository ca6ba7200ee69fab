//! What stands before the services: which requests are gRPC at all, how many are looked at at a time,
//! and how long each may take.
//!
//! One port serves gRPC over HTTP/2 and, to everything else, the pages. Without this tonic would answer
//! a browser with `200` and a `grpc-status` that nobody sees.

use super::incoming::ConnectInfo;
use crate::grpc;
use axum::{Router, response::IntoResponse as _};
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::Semaphore;
use tonic::{body::Body, service::Routes};
use tower::{Service, util::ServiceExt as _};

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
    routes: Routes,
    pages: Router,
    /// One permit for each request that is being read or answered. A stream gives it back with its
    /// first headers: what streams cost is bounded by their slots.
    running: Arc<Semaphore>,
}

impl Front {
    /// With what is gRPC, with everything else, and with how many requests are looked at at a time.
    pub(super) fn new(routes: Routes, pages: Router, running_max: usize) -> Self {
        Self { routes, pages, running: Arc::new(Semaphore::new(running_max)) }
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
        if let Some(connection) = request.extensions_mut().remove::<ConnectInfo>() {
            connection.first_request.came();
            // Where tonic looks for the address of the peer.
            request.extensions_mut().insert(connection.tcp);
        }
        if is_grpc(&request) { self.call_method(request) } else { self.show_page(request) }
    }
}

impl Front {
    fn call_method(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
        let limit = call_limit(&request);
        // What only waits has slots of its own, and would keep a permit for a minute.
        let running = if is_wait(&request) {
            None
        } else {
            let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() else {
                return Box::pin(async { Ok(grpc::status::overloaded().into_http()) });
            };
            Some(permit)
        };
        let answer = self.routes.clone().oneshot(request);
        Box::pin(async move {
            let answer = tokio::time::timeout(limit, answer).await;
            drop(running);
            answer.unwrap_or_else(|_| Ok(grpc::status::deadline_exceeded().into_http()))
        })
    }

    fn show_page(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
        let plain = |status: StatusCode, text: &'static str| {
            Ok((status, text).into_response().map(Body::new))
        };
        let Ok(running) = Arc::clone(&self.running).try_acquire_owned() else {
            let text = "The server has its hands full. Try again in a second.\n";
            return Box::pin(async move { plain(StatusCode::SERVICE_UNAVAILABLE, text) });
        };
        let answer = self.pages.clone().oneshot(request.map(axum::body::Body::new));
        Box::pin(async move {
            let answer = tokio::time::timeout(CALL_MAX, answer).await;
            drop(running);
            match answer {
                Ok(answer) => Ok(answer?.map(Body::new)),
                Err(_) => plain(StatusCode::REQUEST_TIMEOUT, "The request took too long.\n"),
            }
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
    use tonic::Status;

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

    #[tokio::test]
    async fn a_call_that_takes_longer_than_it_may_is_answered_with_deadline_exceeded() {
        let never = Router::new().fallback(std::future::pending::<()>);
        let mut front = Front::new(Routes::from(never), Router::new(), 1);
        let answer = front.call(grpc("/s/m", "20m")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "the code is in grpc-status");
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn what_comes_while_all_hands_are_full_is_sent_away_at_once() {
        let never = Router::new().fallback(std::future::pending::<()>);
        let mut front = Front::new(Routes::from(never.clone()), never, 1);
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
        let mut front = Front::new(Routes::default(), never, 1);
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
