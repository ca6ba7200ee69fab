//! What stands before the services: which requests are gRPC at all, who is let in, and how long a call
//! may take.
//!
//! One port serves gRPC over HTTP/2 and, to everything else, the pages. Without this tonic would answer
//! a browser with `200` and a `grpc-status` that nobody sees.

use super::gate::{enter, watched, watched_page};
use crate::{
    access::{Access, table},
    delivery, grpc, web,
};
use axum::Router;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, Version, header};
use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};
use tonic::{Status, body::Body, service::Routes};
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
    /// Who may do what.
    pub access: Access,
    /// What is gRPC.
    pub routes: Routes,
    /// Everything else.
    pub pages: Router,
}

impl Service<Request<Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if is_grpc(&request) { self.grpc(request) } else { self.page(request) }
    }
}

type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

impl Front {
    fn grpc(&self, mut request: Request<Body>) -> Answer {
        let row = table::method(request.uri().path());
        let over = match enter(&self.access, &mut request, row) {
            Ok(over) => over,
            Err(refusal) => {
                return Box::pin(async { Ok(grpc::status::denied(refusal).into_http()) });
            }
        };
        let limit = call_limit(&request);
        let answer = tokio::time::timeout(limit, self.routes.clone().oneshot(request));
        let answer = async move {
            match answer.await {
                Ok(answer) => answer,
                Err(_) => Ok(Status::deadline_exceeded("the call took too long").into_http()),
            }
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

    fn page(&self, mut request: Request<Body>) -> Answer {
        let row = table::route(request.method(), request.uri().path());
        let over = match enter(&self.access, &mut request, row) {
            Ok(over) => over,
            Err(refusal) => {
                let answer = if table::is_ofrep(request.uri().path()) {
                    delivery::denied(&refusal)
                } else {
                    web::denied(&refusal)
                };
                return Box::pin(async move { Ok(answer.map(Body::new)) });
            }
        };
        let answer = self.pages.clone().oneshot(request.map(axum::body::Body::new));
        Box::pin(async move {
            let answer = answer.await?.map(Body::new);
            Ok(match over {
                Some(over) => watched_page(answer, over),
                None => answer,
            })
        })
    }
}

/// How long the answer (of a stream: its headers) may take.
fn call_limit(request: &Request<Body>) -> Duration {
    let ours = match request.uri().path() {
        "/phasegate.v1.ReleaseService/WaitRelease" => WAIT_MAX,
        "/phasegate.rehearsal.v1.ClockService/Advance" => ADVANCE_MAX,
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
    use http::StatusCode;

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
        let mut front =
            Front { access: Access::open(), routes: Routes::from(never), pages: Router::new() };
        let answer = front.call(grpc("/s/m", "20m")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "the code is in grpc-status");
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
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
